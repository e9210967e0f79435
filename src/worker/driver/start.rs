//! Opens the store, and finds where to go on.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::ops::ControlFlow;
use std::sync::mpsc::Receiver;
use std::time::Instant;

use anyhow::{bail, ensure};
use schemas::node_capacity::NodeCapacity;
use schemas::wire::{Record as _, decode};
use schemas::{Inbox, Millis, NodeId};
use thiserror::Error;
use tracing::{info, warn};

use super::moves::Moves;
use super::sending::Sending;
use super::serve::{Holding, Shared};
use super::{ENDS_EVERY, Options, Run, TOLD_EVERY, Watch};
use crate::kafka::follow::{Follower, From};
use crate::kafka::tail::{Start, scan};
use crate::kafka::writer::Writer;
use crate::store::Store;
use crate::store::fjall::{FjallStore, Identity};
use crate::tick::tick_box::Offset;
use crate::worker::events::{self, Event, Source};
use crate::worker::gauge::Gauge;
use crate::worker::machine::Worker;
use crate::worker::records;
use crate::worker::report::Who;
use crate::worker::step::Runner;

/// Of each partition of the inbox, so much more than credit allows may be fetched ahead.
const QUEUE_BYTES_MORE: u64 = 2 << 20;

impl<'a> Run<'a> {
    /// Opens the store, and follows what it goes by; `None`: it is to end before that.
    pub(super) fn open(
        shared: &'a Shared,
        (address, deletions_kept_ms): (SocketAddr, u64),
        holding: &'a Receiver<Holding>,
        watch: &mut impl Watch,
    ) -> anyhow::Result<Option<Self>> {
        let Options { connection, node, store, .. } = &shared.options;
        let name = format!("worker-{node}");
        let mut opened = FjallStore::open(store, node)?;
        // By when there is something to write, it has told the broker who it is.
        let writer = Writer::open_patient(connection, &name)?;
        let mut map = Follower::open(connection, &name)?;
        map.add(map.partitions("assignment")?.into_iter().map(|at| (at, From::Beginning)))?;
        let inboxes = map.partitions("index_update")?.len() as u32;
        let partitions = map.partitions("table")?.len() as u32;
        let identity = match opened.identity() {
            Some(identity) => identity.clone(),
            None => {
                let inbox = shared.options.inbox.unwrap_or_else(|| inbox_of(node, inboxes));
                ensure!(
                    inbox.0 < inboxes,
                    "worker.inbox is {}, and index_update has {inboxes} partitions: give one below, or \
                     leave it out",
                    inbox.0
                );
                let identity = Identity::new(node.clone(), inbox, partitions);
                opened.begin(identity.clone(), Vec::new())?;
                identity
            }
        };
        check_inbox(&identity, shared.options.inbox, inboxes)?;
        check_table(&identity, partitions)?;
        let who = Who {
            node: node.clone(),
            store_id: identity.store_id.clone(),
            inbox: identity.inbox,
            endpoint: shared.options.endpoint.clone().unwrap_or_else(|| address.to_string()),
        };
        // To look takes its time, and what is reported meanwhile is not looked at.
        if let Some(twin) = find_twin(shared, &who, shared.clock.now())? {
            return Err(twin.into());
        }
        let settings = events::Settings {
            node: node.clone(),
            inbox: who.inbox,
            partitions,
            scan_ms_max: deletions_kept_ms,
            ..shared.options.settings.clone()
        };
        let worker = Worker::new(settings, &opened.states()?)?;
        let mut runner = Runner::new(worker, opened);
        // All that credit lets a source send: a queue that is full would wait for the fetch of the others.
        let queue_bytes_max = shared.options.settings.inbox_credit_bytes + QUEUE_BYTES_MORE;
        let mut inbox = Follower::open_holding(connection, &name, queue_bytes_max)?;
        let mut sources = vec![Source::Command, Source::Ack, Source::Segment, Source::Update];
        let statuses = inbox.partitions("migration_status")?;
        sources.extend(statuses.iter().map(|it| Source::Status(it.partition)));
        let at = |source: &Source| records::partition(*source, who.inbox);
        if runner.worker().position(Source::Update).is_none() {
            inbox.add(sources.iter().map(|it| (at(it), From::End)))?;
            let positions = inbox.positions()?;
            let position = |it: &Source| Some((*it, positions.get(&at(it))?.0));
            let positions = sources.iter().filter_map(position).collect();
            runner.handle(shared.clock.now(), Event::Begun { positions });
            info!(inbox = who.inbox.0, store = who.store_id, "begins with an empty store");
        } else {
            let from = sources.iter().map(|it| match runner.worker().position(*it) {
                // What retention has taken of these is asked for again (R8).
                Some(offset) if matches!(it, Source::Ack | Source::Segment) => {
                    (at(it), From::AtOrBeginning(Offset(offset)))
                }
                Some(offset) => (at(it), From::At(Offset(offset))),
                None => (at(it), From::Beginning),
            });
            inbox.add(from)?;
        }
        if watch.is_stopping() {
            return Ok(None);
        }
        let now = Instant::now();
        let mut moves = Moves::new(node, connection);
        if let Err(err) = moves.resume(runner.worker().remembered()) {
            warn!("moves that were under way are not traced on: {err:#}");
        }
        let world = Sending {
            shared,
            who: who.clone(),
            writer,
            moves,
            copied_bytes: 0,
            writes: 0,
            maps_asked: 0,
            scans: Vec::new(),
        };
        let mut run = Self {
            shared,
            holding,
            runner,
            map,
            inbox,
            map_ends: None,
            is_map_known: false,
            maps_asked: 1,
            updates_end: None,
            world,
            scans: BTreeMap::new(),
            scan_queue_bytes_max: shared.options.scan_bytes_max / u64::from(partitions.max(1)),
            scans_ended: BTreeMap::new(),
            ends_asked: now - ENDS_EVERY,
            gauge: Gauge::new(store.dir.clone(), shared.options.io_bytes_per_s),
            reported: None,
            alone_since: None,
            told: now - TOLD_EVERY,
            done_us: 0,
            sources,
            is_stepping: false,
            has_read_rows: false,
            letters: false,
            no_room: None,
            who,
        };
        // Where a new store begins to read is stored before anybody hears of it.
        run.step()?;
        if let Some(reason) = &run.no_room {
            bail!("there is no room for the store: {reason}");
        }
        Ok(Some(run))
    }
}

/// The inbox of a node that was not given one: any will do, as every record names its node.
fn inbox_of(node: &NodeId, inboxes: u32) -> Inbox {
    let hash = xxhash_rust::xxh3::xxh3_64(node.0.as_bytes());
    Inbox((hash % u64::from(inboxes.max(1))) as u32)
}

fn check_inbox(identity: &Identity, wanted: Option<Inbox>, inboxes: u32) -> anyhow::Result<()> {
    let Identity { node, inbox, .. } = identity;
    ensure!(
        inbox.0 < inboxes,
        "node {node} reads partition {} of its inboxes, and index_update has {inboxes}: they have to be as \
         many as they were",
        inbox.0
    );
    ensure!(
        wanted.is_none_or(|it| it == *inbox),
        "the store of node {node} reads partition {}, which stays as it was when it was made: leave \
         worker.inbox out",
        inbox.0
    );
    Ok(())
}

/// The same row in another partition has another version: of two nobody could tell which is the later (R24).
fn check_table(identity: &Identity, partitions: u32) -> anyhow::Result<()> {
    let Identity { node, table_partitions, .. } = identity;
    let before = table_partitions.unwrap_or(partitions);
    ensure!(
        before == partitions,
        "table has {partitions} partitions, and had {before} when the store of node {node} was made: \
         keys are in other partitions now, and of two versions of a row nobody can tell the later; write the \
         rows into a new table with as many partitions as it is to have, under another kafka.prefix, and begin \
         there with empty stores",
    );
    Ok(())
}

/// Another worker has this node's name.
#[derive(Debug, Error)]
#[error(
    "another worker is node {node} already: it serves at {endpoint}, and has reported {ago_ms} ms ago; give \
     this one another --node-id, or end that one and wait for three intervals of reports"
)]
pub(super) struct Twin {
    node: NodeId,
    endpoint: String,
    ago_ms: u64,
}

/// Returns the other store that has reported under this name a moment ago, and before this one, if any. Of
/// two that begin at the same time, the one whose first report is the later ends.
/// `begun` is from before its own first report, or now.
pub(super) fn find_twin(shared: &Shared, who: &Who, begun: Millis) -> anyhow::Result<Option<Twin>> {
    let Options { connection, report_every, .. } = &shared.options;
    let since = begun.0.saturating_sub(3 * report_every.as_millis() as u64);
    let mut reports = Reports::default();
    scan(connection, NodeCapacity::TOPIC, Start::Beginning, |record| {
        if record.key.as_deref() == Some(who.node.0.as_bytes()) && since <= record.stamp.0 {
            let report = record.value.as_deref().map(decode::<NodeCapacity>);
            if let Some(Ok(report)) = report {
                reports.take(&who.store_id, record.stamp, report);
            }
        }
        ControlFlow::Continue(())
    })?;
    Ok(reports.twin(begun))
}

/// Tells whether no twin has to be looked for any more; a twin that was found is an error. Kafka may be away
/// just now: then it is to be looked again.
pub(super) fn is_alone(found: anyhow::Result<Option<Twin>>) -> anyhow::Result<bool> {
    match found {
        Ok(Some(twin)) => Err(twin.into()),
        Ok(None) => Ok(true),
        Err(err) => {
            warn!("another worker of this name is looked for again later: {err:#}");
            Ok(false)
        }
    }
}

/// What was reported under a name, in order.
#[derive(Default)]
struct Reports {
    /// The last by another store, as long as there is none by this one.
    other: Option<(Millis, NodeCapacity)>,
    has_reported: bool,
}

impl Reports {
    fn take(&mut self, store_id: &str, stamp: Millis, report: NodeCapacity) {
        if report.store_id == store_id {
            self.has_reported = true;
        } else if !self.has_reported {
            self.other = Some((stamp, report));
        }
    }

    fn twin(self, begun: Millis) -> Option<Twin> {
        let (stamp, NodeCapacity { node_id: node, endpoint, .. }) = self.other?;
        let endpoint = endpoint.unwrap_or_else(|| "an endpoint that it does not tell".to_owned());
        Some(Twin { node, endpoint, ago_ms: begun.0.saturating_sub(stamp.0) })
    }
}

#[cfg(test)]
mod tests {
    use anyhow::anyhow;
    use schemas::node_capacity::NodeState;

    use super::*;
    use crate::worker::report::{Gauged, report};
    use crate::worker::states::Remembered;

    /// What is told after these reports, each by a store at a time, to the store that is called mine.
    fn told(reports: &[(&str, u64)]) -> Option<String> {
        let mut res = Reports::default();
        for (store, stamp) in reports {
            let who = Who {
                node: NodeId("a".into()),
                store_id: (*store).to_owned(),
                inbox: Inbox(0),
                endpoint: format!("{store}:7074"),
            };
            let report = report(&who, &Gauged::default(), NodeState::Up, &Remembered::default());
            res.take("mine", Millis(*stamp), report);
        }
        res.twin(Millis(1_000)).map(|it| format!("{} {} ms ago", it.endpoint, it.ago_ms))
    }

    #[test]
    fn twin_is_another_store_that_has_reported_first() {
        assert_eq!(told(&[]), None);
        assert_eq!(told(&[("mine", 900), ("mine", 1_000)]), None);
        assert_eq!(told(&[("other", 900)]).as_deref(), Some("other:7074 100 ms ago"));
        let both = [("other", 800), ("other", 900), ("mine", 1_000), ("other", 1_100)];
        assert_eq!(told(&both).as_deref(), Some("other:7074 100 ms ago"));
        assert_eq!(told(&[("mine", 900), ("other", 950)]), None, "the other one ends");
    }

    #[test]
    fn twin_is_looked_for_until_kafka_has_told() {
        assert!(!is_alone(Err(anyhow!("kafka did not answer in time"))).unwrap());
        assert!(is_alone(Ok(None)).unwrap());
        let node = NodeId("a".into());
        let twin = Twin { node, endpoint: "b:7074".into(), ago_ms: 5 };
        let told = is_alone(Ok(Some(twin))).unwrap_err().to_string();
        assert!(
            told.starts_with("another worker is node a already: it serves at b:7074"),
            "{told}"
        );
    }
}
