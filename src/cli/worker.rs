//! Runs an index partition node.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use schemas::{Inbox, NodeId};
use tracing::{info, warn};

use super::Flag;
use super::channel::rows;
use super::checks::check_topics;
use super::exit::{Exit, Fault, need_cluster};
use super::signals::Signals;
use crate::config::Config;
use crate::counts::told;
use crate::store::fjall;
use crate::table::rows::KEY_BYTES_MAX;
use crate::telemetry::metrics;
use crate::topics::definition::Process;
use crate::topics::requirements::deletions_kept_ms;
use crate::web::{Health, back};
use crate::worker::driver::{Options, Server, Status, Watch};
use crate::worker::events::Settings;
use crate::worker::service::Costs;
use crate::worker::serving::Limits;

const TOPICS: &str = "topics";
const ASSIGNMENT: &str = "assignment";
const STORE: &str = "store";
const COUNTS: &str = "counts";

/// What must hold for a worker to be ready.
const CONDITIONS: [&str; 4] = [TOPICS, ASSIGNMENT, STORE, COUNTS];

/// A router may keep its connection for so long without a request.
const IDLE_MAX: Duration = Duration::from_secs(120);

#[derive(Clone, Debug, Args)]
pub struct WorkerArgs {
    /// The name of this node, instead of `worker.node_id`
    #[arg(long, value_name = "NAME")]
    pub node_id: Option<String>,
    /// Where the stores of nodes are, instead of `worker.dir`
    #[arg(long, value_name = "FOLDER")]
    pub dir: Option<String>,
    /// Where reads, /livez and /readyz are served, instead of `worker.listen`
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub listen: Option<String>,
    /// Microseconds of service a second, and no faster, instead of `worker.capacity_us_per_s`
    #[arg(long, value_name = "US_PER_S")]
    pub capacity: Option<String>,
    /// Bytes of memory that the worker may take, instead of `worker.memory_bytes`
    #[arg(long, value_name = "BYTES")]
    pub memory: Option<String>,
}

impl WorkerArgs {
    pub fn flags(&self) -> Vec<Flag> {
        let given = [
            ("--node-id", "worker.node_id", &self.node_id),
            ("--dir", "worker.dir", &self.dir),
            ("--listen", "worker.listen", &self.listen),
            ("--capacity", "worker.capacity_us_per_s", &self.capacity),
            ("--memory", "worker.memory_bytes", &self.memory),
        ];
        given.into_iter().filter_map(|(flag, key, it)| Some((flag, key, it.clone()?))).collect()
    }
}

pub fn run(config: &Config, _args: &WorkerArgs) -> Result<Exit, Box<Fault>> {
    need_cluster(config)?;
    if config.worker.node_id.is_empty() {
        let fault = Fault::new(Exit::Usage, "isotherm::worker::no_node", "the node has no name");
        return Err(Box::new(fault.remedy("give --node-id NAME, or set worker.node_id")));
    }
    if config.worker.listen.ip().is_unspecified() && config.worker.endpoint.is_none() {
        let what =
            format!("worker.endpoint is not set, and others cannot reach {}", config.worker.listen);
        let fault = Fault::new(Exit::Usage, "isotherm::worker::no_endpoint", what);
        let remedy = "set it to HOST:PORT, by which others find this node";
        return Err(Box::new(fault.remedy(remedy)));
    }
    let options = options(config)?;
    let signals = Signals::begin_within(config.worker.stop_within)?;
    let health = Arc::new(Health::new(&CONDITIONS));
    let server = Server::begin(config.worker.listen, options, &health)?;
    info!(address = %server.address(), "serves reads, /livez and /readyz");

    health.waiting(TOPICS, "waits for Kafka");
    let topics = check_topics(config, Process::Worker, |_, _| Vec::new())?;
    health.ready(TOPICS, "they are as they must be");

    health.waiting(ASSIGNMENT, "is being read");
    health.waiting(STORE, "is being opened");
    health.ready(COUNTS, told(&BTreeMap::new()));
    let mut watching = Watching { health: &health, signals: &signals, told: Status::default() };
    server.run(deletions_kept_ms(&topics), &mut watching)?;
    info!(counts = ?watching.told.counts, "has ended");
    Ok(Exit::Done)
}

/// Of a stream and of an inbox: the embedded broker keeps 5 MiB of a partition.
const EMBEDDED_CREDIT_BYTES: [u64; 2] = [1 << 20, 3 << 20];

/// Of the memory of a worker, the pages of the program itself.
const PROGRAM_BYTES: u64 = 24 << 20;

/// Of the rest, the store has one part in so many, of which it takes up to twice as much while it merges,
/// what sources may send ahead has one, and what a scan of the table fetches. What remains is for what is
/// fetched and decoded of that, and for answers.
const STORE_PART: u64 = 4;
const CREDIT_PART: u64 = 16;
const SCAN_PART: u64 = 16;

/// And one step takes in one part in so many: it is decoded, staged and in a write buffer at once. No more than
/// that waits for the end of a stream, either.
const STEP_PART: u64 = 32;

/// Returns what there is to share out of the memory.
fn shared_bytes(worker: &crate::config::worker::Worker) -> u64 {
    worker.memory_bytes.saturating_sub(PROGRAM_BYTES)
}

/// Returns how many bytes may be sent ahead, of one stream and of all of them.
fn credit(worker: &crate::config::worker::Worker, is_embedded: bool) -> [u64; 2] {
    let of_memory = (shared_bytes(worker) / CREDIT_PART).max(EMBEDDED_CREDIT_BYTES[0]);
    let asked = [worker.stream_credit_bytes, worker.inbox_credit_bytes];
    let most = if is_embedded { EMBEDDED_CREDIT_BYTES } else { [of_memory; 2] };
    [0, 1].map(|it| asked[it].min(most[it]).min(of_memory))
}

/// Returns what a worker is told at its start.
pub fn options(config: &Config) -> Result<Options, Box<Fault>> {
    let worker = &config.worker;
    let node = NodeId(worker.node_id.clone());
    let shared_bytes = shared_bytes(worker);
    let [stream_credit, inbox_credit] = credit(worker, config.kafka.embedded);
    Ok(Options {
        connection: config.kafka.clone(),
        inbox: worker.inbox.map(Inbox),
        store: fjall::Options {
            dir: worker.dir.join(&worker.node_id),
            memory_bytes_max: shared_bytes / STORE_PART,
            reserve_bytes: worker.disk_reserve_bytes,
        },
        settings: Settings {
            node: node.clone(),
            inbox: Inbox(0),
            partitions: 0,
            records_max: worker.step_records_max,
            step_bytes_max: (shared_bytes / STEP_PART) as usize,
            cursor_max: 1_000,
            stream_credit_bytes: stream_credit,
            inbox_credit_bytes: inbox_credit,
            backlog_bytes_max: worker.backlog_bytes_max.min((shared_bytes / STEP_PART) as usize),
            backlogs_max: 3,
            repeat_ms: 1_000,
            grace_ms: worker.grace.as_millis() as u64,
            scan_ms_max: u64::MAX,
            collect_ms: 1_000,
        },
        node,
        rows: rows(&config.table)?,
        limits: Limits {
            reads_max: worker.batch_reads_max,
            key_bytes_max: KEY_BYTES_MAX,
            entries_max: 10_000,
            looked_at_max: 100_000,
            answer_bytes_max: 8 << 20,
        },
        back: back::Limits {
            body_bytes_max: 4 << 20,
            body_within: Duration::from_secs(10),
            reads_max: worker.batch_reads_max,
            deadline_max: worker.deadline,
        },
        scan_bytes_max: shared_bytes / SCAN_PART,
        connections_max: worker.connections_max,
        idle_max: IDLE_MAX + worker.deadline,
        endpoint: worker.endpoint.clone(),
        report_every: worker.report_every,
        capacity_us_per_s: worker.capacity_us_per_s,
        costs: Costs {
            read_us: config.costs.read_us,
            scan_us: config.costs.scan_us,
            write_us: config.costs.write_us,
            copy_mb_us: worker.copy_mb_us,
        },
        io_bytes_per_s: worker.io_bytes_per_s,
    })
}

/// Looks on, and tells.
struct Watching<'a> {
    health: &'a Health,
    signals: &'a Signals,
    told: Status,
}

impl Watch for Watching<'_> {
    fn told(&mut self, status: &Status) {
        let Status { generation, is_started, roles, scans, no_room, .. } = status;
        match (generation.0, is_started) {
            (_, false) => {
                self.health.waiting(ASSIGNMENT, "what was there at the start is being read")
            }
            (0, true) => self.health.waiting(ASSIGNMENT, "there is none yet"),
            (it, true) => {
                let reason = format!("generation {it}, {roles} intervals, {scans} scans under way");
                self.health.ready(ASSIGNMENT, reason);
            }
        }
        match no_room {
            Some(reason) => self.health.waiting(STORE, format!("writes have stopped: {reason}")),
            None => self.health.ready(STORE, "takes writes"),
        }
        // Bad input stops nothing, so it makes nothing unready.
        self.health.ready(COUNTS, told(&status.counts));
        if self.told.generation != *generation {
            info!(generation = generation.0, roles, "the map has changed");
        }
        if *is_started && !self.told.is_started {
            info!("has read what was there at the start");
        }
        for (reason, count) in &status.counts {
            let before = self.told.counts.get(reason).copied().unwrap_or_default();
            if before == 0 && reason.ends_with("failed") {
                warn!(reason, count, "has failed for the first time");
            }
        }
        let measured = metrics::get();
        metrics::tell_events(&status.counts);
        measured.generation.record(generation.0, &[]);
        measured.ranges.record(*roles as u64, &[]);
        measured.stored.record(status.bytes, &[]);
        measured.stored_entries.record(status.entries, &[]);
        self.told = status.clone();
    }

    fn is_stopping(&self) -> bool {
        self.signals.is_asked()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::worker::Worker;

    #[test]
    fn credit_is_what_is_asked_within_the_memory_and_what_the_embedded_broker_keeps() {
        let worker = Worker::default();
        assert_eq!(credit(&worker, false), [8 << 20, 24 << 20]);
        assert_eq!(credit(&worker, true), [1 << 20, 3 << 20]);
        let little = Worker { memory_bytes: 64 << 20, ..worker };
        assert_eq!(credit(&little, false), [5 << 19, 5 << 19]);
        assert_eq!(credit(&little, true), [1 << 20, 5 << 19]);
    }
}
