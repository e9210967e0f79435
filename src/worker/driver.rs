//! Runs the worker: one thread has the machine and its store, others answer reads of what it serves.
//!
//! ```text
//!  assignment ─────────── from the beginning ──┐
//!  commands, statuses, ┐                       │              ┌──> store
//!  inbox               ├─ from the store's ────┼─> machine ───┼──> updates, segments, acks, statuses
//!  table, for a scan ──┘  positions            │   step       └──> Serving ──> reads
//!                          held, asked for ────┘                  clock ────> node_capacity
//! ```
//!
//! Reads: assignment, migrate_range, migration_status, segment_ack, range_segment, index_update, table,
//! node_capacity.  Writes: index_update, range_segment, segment_ack, migration_status, node_capacity,
//! dead_letter.
//!
//! * **Reads never wait for the machine**: they are answered by what the last step has left.
//! * **A full disk stops writes, not reads.** The step is tried again until there is room. Where the write
//!   itself has failed, the worker ends when there is room, to be started again.
//! * **A stated capacity is kept**, by reads, and by updates and what is copied, which have half of it while
//!   reads wait.

mod serve;
mod turns;
mod start;
mod follow;
mod moves;
mod sending;
mod naps;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use schemas::Millis;
use schemas::node_capacity::{NodeCapacity, NodeState};
use schemas::wire::{Record as _, encode};
use tracing::{error, info, warn};

use self::sending::Sending;
use self::serve::{Holding, Shared};
use super::events::{Event, Source};
use super::gauge::Gauge;
use super::records;
use super::report::{Who, intervals, report};
use super::step::{Halted, Runner};
use crate::kafka::follow::{Follower, From};
use crate::kafka::{Output, Record, TopicPartition};
use crate::store::fjall::{FjallStore, has_room};
use crate::store::{Scan, Store, StoreError};
use crate::tick::tick_box::Offset;
use crate::web::held::Held;

pub use self::serve::Server;
pub use super::options::{Options, Status, Watch};

/// How long is waited for a record before everything else is looked at.
const RECORD_WAIT: Duration = Duration::from_millis(5);

/// Where partitions end is asked this often, while a scan or a first reading waits for it.
const ENDS_EVERY: Duration = Duration::from_millis(50);

/// So long steps are run before everything else is looked at.
const STEPS_MAX: Duration = Duration::from_millis(20);

/// A full disk is tried again after this.
const ROOM_EVERY: Duration = Duration::from_secs(1);

/// How the worker does is told this often.
const TOLD_EVERY: Duration = Duration::from_millis(200);

/// What the machine's thread has.
struct Run<'a> {
    shared: &'a Shared,
    holding: &'a Receiver<Holding>,
    who: Who,
    runner: Runner<FjallStore>,
    map: Follower,
    inbox: Follower,
    /// Where the map ended when it was last to be read to its end, and how often it is to be again.
    map_ends: Option<BTreeMap<TopicPartition, Offset>>,
    /// It was read to an end before.
    is_map_known: bool,
    maps_asked: u64,
    updates_end: Option<BTreeMap<TopicPartition, Offset>>,
    world: Sending<'a>,
    scans: BTreeMap<Scan, Follower>,
    /// Of a partition, so much is fetched ahead for a scan.
    scan_queue_bytes_max: u64,
    /// At which ends of partitions scans were last said to stand.
    scans_ended: BTreeMap<(Scan, u32), Offset>,
    ends_asked: Instant,
    gauge: Gauge,
    reported: Option<Instant>,
    /// Who else has this name is still to be looked for, as of before the first report.
    alone_since: Option<Millis>,
    told: Instant,
    /// Of service, when it was last reported.
    done_us: u64,
    sources: Vec<Source>,
    /// There may be more to do at once.
    is_stepping: bool,
    /// Of a scan, rows have come just now; there may be more.
    has_read_rows: bool,
    /// Dead letters were written, and are not known to be in Kafka.
    letters: bool,
    /// Why writes have stopped.
    no_room: Option<String>,
}

impl Run<'_> {
    fn run(&mut self, watch: &mut impl Watch) -> anyhow::Result<()> {
        while !watch.is_stopping() {
            if self.no_room.is_none() {
                self.read_map()?;
                self.read_inbox()?;
                self.read_scans()?;
                self.look_at_ends()?;
            }
            self.ease();
            self.tick();
            self.step()?;
            self.tell_held();
            self.report()?;
            self.tell(watch);
        }
        self.world.writer.flush()
    }

    fn handle(&mut self, event: Event) {
        self.runner.handle(self.shared.clock.now(), event);
    }

    /// What is copied from here takes less of the bandwidth where reads would wait for it.
    fn ease(&mut self) {
        let permille = self.shared.naps.told(self.runner.worker().is_sending());
        if permille != self.runner.worker().eased_permille() {
            self.handle(Event::Eased { permille });
        }
    }

    fn tick(&mut self) {
        if self.runner.worker().poll_deadline().is_some_and(|it| it <= self.shared.clock.now()) {
            self.handle(Event::Tick);
        }
    }

    /// Runs the steps that there are, for a moment, and has what each leaves served.
    fn step(&mut self) -> anyhow::Result<()> {
        if std::mem::take(&mut self.letters) {
            // What was read is not to be stored as read before its letter is written.
            self.world.writer.flush()?;
        }
        let until = Instant::now() + STEPS_MAX;
        self.is_stepping = true;
        while self.is_stepping && Instant::now() < until {
            let now = self.shared.clock.now();
            match self.runner.step(now, &mut self.world) {
                Ok(true) => {
                    self.shared.serving.store(self.runner.serving().map(Arc::new));
                    self.after_step()?;
                }
                Ok(false) => self.is_stepping = false,
                Err(Halted::Store(StoreError::NoSpace(reason))) => {
                    if self.no_room.is_none() {
                        error!(reason, "writes have stopped; reads go on");
                        self.shared.counts.add("disk_full");
                    }
                    self.no_room = Some(reason);
                    self.is_stepping = false;
                    std::thread::park_timeout(ROOM_EVERY);
                    return Ok(());
                }
                Err(Halted::Store(StoreError::Stopped)) if self.no_room.is_some() => {
                    return self.await_room();
                }
                Err(Halted::Store(err)) => return Err(err).context("store a step"),
                Err(Halted::World(err)) => return Err(err).context("send what a step says"),
            }
            if self.no_room.take().is_some() {
                info!("there is room again");
            }
        }
        Ok(())
    }

    /// The store has to be opened again; until that helps, reads go on.
    fn await_room(&mut self) -> anyhow::Result<()> {
        let store = &self.shared.options.store;
        ensure!(
            !has_room(&store.dir, store.reserve_bytes),
            "a write has failed for want of room, of which there is some again: start the worker again"
        );
        self.is_stepping = false;
        std::thread::park_timeout(ROOM_EVERY);
        Ok(())
    }

    fn after_step(&mut self) -> anyhow::Result<()> {
        self.maps_asked += std::mem::take(&mut self.world.maps_asked);
        for (scan, partition, from) in std::mem::take(&mut self.world.scans) {
            let at = TopicPartition { topic: "table", partition };
            match from {
                Some(from) => {
                    self.scans_ended.remove(&(scan, partition));
                    let from = if from == 0 { From::Beginning } else { From::At(Offset(from)) };
                    if !self.scans.contains_key(&scan) {
                        let connection = &self.shared.options.connection;
                        let name = format!("scan-{}", self.who.node);
                        let bytes_max = self.scan_queue_bytes_max;
                        let follower = Follower::open_holding(connection, &name, bytes_max)?;
                        self.scans.insert(scan, follower);
                        info!(scan = scan.0.0, "scans the table");
                    }
                    let follower = self.scans.get_mut(&scan).expect("it was just opened");
                    follower.add([(at, from)])?;
                }
                None => {
                    self.scans_ended.remove(&(scan, partition));
                    let Some(follower) = self.scans.get_mut(&scan) else { continue };
                    follower.remove(&[at])?;
                    if follower.positions()?.is_empty() {
                        self.scans.remove(&scan);
                        info!(scan = scan.0.0, "the scan of the table is over");
                    }
                }
            }
        }
        self.take_time();
        Ok(())
    }

    /// Reads of each partition as long as the machine wants more of it, and of what takes time by the
    /// stated capacity only when that is free; an acknowledgement is what a source sends more on.
    fn pause(&mut self) {
        let is_busy = self.is_busy();
        for source in self.sources.clone() {
            let waits = is_busy && matches!(source, Source::Update | Source::Segment | Source::Ack);
            let at = records::partition(source, self.who.inbox);
            if waits || !self.runner.worker().wants(source) {
                self.inbox.pause(at);
            } else {
                self.inbox.resume(at);
            }
        }
    }

    /// Tells the machine what lies behind transaction markers: a position before them is one that
    /// retention may take though nothing is missed.
    fn skip_markers(&mut self) -> anyhow::Result<()> {
        for (at, position) in self.inbox.positions()? {
            let Some(source) = records::source(at) else { continue };
            let worker = self.runner.worker();
            let waits = worker.waiting().any(|it| it.0 == source);
            if !waits && worker.position(source).unwrap_or_default() < position.0 {
                self.handle(Event::Skipped { source, offset: position.0 - 1 });
            }
        }
        Ok(())
    }

    /// What was written and copied takes its time, if the capacity is stated.
    fn take_time(&mut self) {
        let bytes = std::mem::take(&mut self.world.copied_bytes);
        let writes = std::mem::take(&mut self.world.writes);
        let shared = self.shared;
        if !shared.turns.service().is_stated() || bytes + writes == 0 {
            return;
        }
        let costs = &shared.options.costs;
        let cost_us = writes * costs.write_us + (bytes * costs.copy_mb_us).div_ceil(1_000_000);
        let now_us = shared.turns.clock_us(Instant::now());
        shared.turns.service().take_beside(now_us, cost_us);
    }

    /// Tells whether what was written and copied has more than a moment to take yet.
    fn is_busy(&self) -> bool {
        let turns = &self.shared.turns;
        let now_us = turns.clock_us(Instant::now());
        let left_us = turns.service().beside_us(now_us);
        RECORD_WAIT.as_micros() < u128::from(left_us)
    }

    fn tell_held(&mut self) {
        while let Ok(Holding { answer }) = self.holding.try_recv() {
            // In the middle of a step what is remembered is ahead of what is stored.
            if !self.runner.worker().is_started() || self.runner.worker().is_stepping() {
                continue;
            }
            let held = Held {
                node: self.who.node.clone(),
                store_id: self.who.store_id.clone(),
                generation: self.runner.worker().generation(),
                intervals: intervals(self.runner.worker()),
                entries: Vec::new(),
                next: None,
            };
            // Who asked may have gone.
            _ = answer.send((held, self.runner.store().snapshot()));
        }
    }

    fn report(&mut self) -> anyhow::Result<()> {
        let every = self.shared.options.report_every;
        let since = self.reported.map(|it| it.elapsed());
        if since.is_some_and(|it| it < every) || !self.runner.worker().is_started() {
            return Ok(());
        }
        self.reported = Some(Instant::now());
        if !self.runner.worker().is_stepping() {
            self.skip_markers()?;
        }
        let since_ms = since.map_or(0, |it| it.as_millis() as u64);
        let mut gauged = self.gauge.gauge(since_ms);
        if let Some(capacity) = self.shared.options.capacity_us_per_s {
            gauged.capacity_us_per_s = Some(capacity as f64);
            let now_us = self.shared.turns.clock_us(Instant::now());
            let done_us = self.shared.turns.service().done_us(now_us);
            let possible = capacity as f64 * since_ms as f64 / 1000.0;
            let done = done_us.saturating_sub(std::mem::replace(&mut self.done_us, done_us)) as f64;
            gauged.cpu_load = (possible > 0.0).then(|| (done / possible).clamp(0.0, 1.0));
        }
        let state = if self.no_room.is_some() { NodeState::ReadOnly } else { NodeState::Up };
        let record = report(&self.who, &gauged, state, self.runner.worker().remembered());
        let key = self.who.node.0.clone().into_bytes();
        let begun = self.shared.clock.now();
        self.world.writer.send(&Output::new(NodeCapacity::TOPIC, key, encode(&record)))?;
        if since.is_none() {
            // Who has begun at the same time has not been seen before.
            self.world.writer.flush()?;
            self.alone_since = Some(begun);
        }
        self.look_for_twin()
    }

    /// Until that is known, it is looked after each report.
    fn look_for_twin(&mut self) -> anyhow::Result<()> {
        let Some(begun) = self.alone_since else { return Ok(()) };
        if start::is_alone(start::find_twin(self.shared, &self.who, begun))? {
            self.alone_since = None;
        }
        Ok(())
    }

    fn dead(&mut self, record: &Record, reason: &'static str, detail: &str) -> anyhow::Result<()> {
        warn!(at = %record.at, offset = record.offset, reason, detail, "dead letter");
        self.shared.counts.add(reason);
        self.letters = true;
        let bytes = (record.key.clone(), record.value.clone());
        let letter = Output::dead_letter((record.at, record.offset), bytes, reason, detail);
        self.world.writer.send(&letter).context("write a dead letter")
    }

    fn tell(&mut self, watch: &mut impl Watch) {
        if self.told.elapsed() < TOLD_EVERY {
            return;
        }
        self.told = Instant::now();
        let worker = self.runner.worker();
        let mut counts = self.shared.counts.all();
        counts.extend(worker.ignored().iter().map(|(it, n)| (it.code(), *n)));
        let sizes = worker.active().map(|(_, _, size)| size);
        let (entries, bytes) = sizes.fold((0, 0), |sum, it| (sum.0 + it.entries, sum.1 + it.bytes));
        watch.told(&Status {
            entries,
            bytes,
            generation: worker.generation(),
            is_started: worker.is_started(),
            roles: worker.remembered().roles.len(),
            scans: self.scans.len(),
            no_room: self.no_room.clone(),
            counts,
        });
    }
}
