//! Runs the workers: the real machines on stores in memory, which read late, die in the middle of a step, lose
//! what was not synced, and are away for a while.

use std::collections::{BTreeMap, VecDeque};

use isotherm::store::memory::{MemorySnapshot, MemoryStore};
use isotherm::store::{Scan, Store};
use isotherm::worker::events::{Event, Output, Settings, Source};
use isotherm::worker::machine::Worker;
use isotherm::worker::report::{Gauged, Who, report};
use isotherm::worker::serving::Serving;
use isotherm::worker::step::{Halted, Runner, World as Outside};
use schemas::node_capacity::{NodeCapacity, NodeState};
use schemas::{Inbox, Millis, NodeId};

use super::logs::{Logs, PARTITIONS, flushed_in_part};
use super::options::{Options, Random};

/// What a worker reads besides the map and the table.
pub const SOURCES: [Source; 5] =
    [Source::Status(0), Source::Command, Source::Ack, Source::Segment, Source::Update];

pub struct WorkerProcess {
    pub settings: Settings,
    life: Life,
    /// What is held back from it, until when; `None` is the map.
    pub late: BTreeMap<Option<Source>, u64>,
}

enum Life {
    Up(Box<Running>),
    Away { store: MemoryStore, until: u64 },
}

/// What is gone with the process.
struct Running {
    runner: Runner<MemoryStore>,
    read: BTreeMap<Source, u64>,
    map_read: usize,
    /// To where the map is to be read, each in its turn.
    map_ends: VecDeque<usize>,
    updates_end: Option<u64>,
    scans: BTreeMap<(Scan, u32), u64>,
}

#[derive(Debug)]
pub struct Crashed;

/// How a process dies at a flush.
#[derive(Clone, Copy, Debug)]
pub enum Death {
    /// Some of what was sent is there.
    Before,
    /// All of it is, and nothing is stored.
    Behind,
}

/// What is sent, and when it all ends.
struct Outbox<'a> {
    logs: &'a mut Logs,
    random: &'a mut Random,
    sent: Vec<Output>,
    maps_asked: usize,
    scans: Vec<(Scan, u32, Option<u64>)>,
    /// So many flushes from now it dies.
    dies: Option<(u64, Death)>,
}

impl Outside for Outbox<'_> {
    type Error = Crashed;

    fn send(&mut self, output: Output) -> Result<(), Crashed> {
        self.sent.push(output);
        Ok(())
    }

    fn flush(&mut self) -> Result<(), Crashed> {
        let sent = std::mem::take(&mut self.sent);
        let (sent, res) = match &mut self.dies {
            Some((0, Death::Before)) => (flushed_in_part(sent, to, self.random), Err(Crashed)),
            Some((0, Death::Behind)) => (sent, Err(Crashed)),
            Some((left, _)) => {
                *left -= 1;
                (sent, Ok(()))
            }
            None => (sent, Ok(())),
        };
        sent.into_iter().for_each(|it| self.logs.write(it));
        res
    }

    fn read_map(&mut self) {
        self.maps_asked += 1;
    }

    fn scan_table(&mut self, scan: Scan, partition: u32, from: u64) {
        self.scans.push((scan, partition, Some(from)));
    }

    fn end_table(&mut self, scan: Scan, partition: u32) {
        self.scans.push((scan, partition, None));
    }
}

/// The partition to which a record goes.
fn to(output: &Output) -> (u8, Option<NodeId>) {
    match output {
        Output::Update { node, .. } => (0, Some(node.clone())),
        Output::Segment { node, .. } => (1, Some(node.clone())),
        Output::Ack { node, .. } => (2, Some(node.clone())),
        Output::Status(_) => (3, None),
        Output::Dead { .. } => (4, None),
    }
}

pub fn name(number: usize) -> NodeId {
    NodeId(["a", "b", "c", "d"][number].into())
}

impl WorkerProcess {
    pub fn new(number: usize, options: &Options, logs: &mut Logs, random: &mut Random) -> Self {
        let settings = Settings {
            node: name(number),
            inbox: Inbox(number as u32),
            partitions: PARTITIONS,
            records_max: options.records_max,
            step_bytes_max: 1 << 20,
            cursor_max: options.cursor_max,
            stream_credit_bytes: options.credit_bytes,
            inbox_credit_bytes: 2 * options.credit_bytes,
            backlog_bytes_max: options.backlog_bytes_max,
            backlogs_max: 1_000,
            repeat_ms: 1_000,
            grace_ms: 0,
            scan_ms_max: 20_000,
            collect_ms: 500,
        };
        let store = MemoryStore::default();
        let running = Running::begin(&settings, store, 0, logs, random);
        Self { settings, life: Life::Up(running), late: BTreeMap::new() }
    }

    pub fn runner(&self) -> Option<&Runner<MemoryStore>> {
        match &self.life {
            Life::Up(it) => Some(&it.runner),
            Life::Away { .. } => None,
        }
    }

    /// How much of the map it has read, unless it is away.
    pub fn map_read(&self) -> Option<usize> {
        match &self.life {
            Life::Up(it) => Some(it.map_read),
            Life::Away { .. } => None,
        }
    }

    pub fn store(&self) -> &MemoryStore {
        match &self.life {
            Life::Up(it) => it.runner.store(),
            Life::Away { store, .. } => store,
        }
    }

    pub fn serving(&self) -> Option<Serving<MemorySnapshot>> {
        self.runner()?.serving()
    }

    pub fn report(&self) -> Option<NodeCapacity> {
        let worker = self.runner()?.worker();
        let who = Who {
            node: self.settings.node.clone(),
            store_id: format!("store of {}", self.settings.node),
            inbox: self.settings.inbox,
            endpoint: String::new(),
        };
        let gauged = Gauged { capacity_us_per_s: Some(1e6), ..Gauged::default() };
        Some(report(&who, &gauged, NodeState::Up, worker.remembered()))
    }

    fn is_late(&self, what: Option<Source>, now: u64) -> bool {
        self.late.get(&what).is_some_and(|until| now < *until)
    }

    /// Reads the next record of a log; tells whether there was one.
    pub fn read(&mut self, source: Source, now: u64, logs: &Logs) -> bool {
        let is_late = self.is_late(Some(source), now);
        let Life::Up(it) = &mut self.life else { return false };
        let offset = it.read[&source];
        if is_late || !it.runner.worker().wants(source) {
            return false;
        }
        let Some(record) = logs.record(&self.settings.node, source, offset) else { return false };
        it.runner.handle(Millis(now), Event::Record { source, offset, record });
        it.read.insert(source, offset + 1);
        true
    }

    /// Reads the next row of the map, or tells that an end was reached.
    pub fn read_map(&mut self, now: u64, logs: &Logs) -> bool {
        if self.is_late(None, now) {
            return false;
        }
        let Life::Up(it) = &mut self.life else { return false };
        let now = Millis(now);
        while logs.assignment_gone.contains(&it.map_read) {
            it.map_read += 1;
        }
        if let Some(row) = logs.assignment.get(it.map_read) {
            it.map_read += 1;
            it.runner.handle(now, Event::MapRead(row.clone()));
            return true;
        }
        if it.map_ends.front().is_some_and(|end| *end <= it.map_read) {
            it.map_ends.pop_front();
            it.runner.handle(now, Event::MapReached);
            return true;
        }
        false
    }

    /// Reads a row of each scan that runs.
    pub fn scan(&mut self, now: u64, logs: &Logs) -> bool {
        let Life::Up(it) = &mut self.life else { return false };
        let now = Millis(now);
        let mut is_read = false;
        for ((scan, partition), at) in &mut it.scans {
            let (scan, partition) = (*scan, *partition);
            if *at < logs.table_len(partition) {
                is_read = true;
                let offset = *at;
                *at += 1;
                if let Some((primary_key, entries)) = logs.row(partition, offset) {
                    let entries = entries.into_iter().filter(|it| it.payload.is_some()).collect();
                    let row = Event::RowScanned { scan, partition, offset, primary_key, entries };
                    it.runner.handle(now, row);
                }
                if *at == logs.table_len(partition) {
                    let end = Event::EndScanned { scan, partition, position: *at };
                    it.runner.handle(now, end);
                }
            }
        }
        is_read
    }

    /// Lets time be seen.
    pub fn tick(&mut self, now: u64, logs: &mut Logs, random: &mut Random) {
        match &mut self.life {
            Life::Up(it) => {
                if it.runner.worker().poll_deadline().is_some_and(|it| it.0 <= now) {
                    it.runner.handle(Millis(now), Event::Tick);
                }
            }
            Life::Away { store, until } if *until <= now => {
                let store = std::mem::take(store);
                self.life = Life::Up(Running::begin(&self.settings, store, now, logs, random));
            }
            Life::Away { .. } => (),
        }
    }

    /// Runs up to so many steps; tells whether there was one. It may die in them.
    pub fn run(
        &mut self,
        steps: usize,
        dies: Option<(u64, Death)>,
        now: u64,
        logs: &mut Logs,
        random: &mut Random,
    ) -> Result<bool, Crashed> {
        let Life::Up(it) = &mut self.life else { return Ok(false) };
        let res = it.run(steps, dies, Millis(now), logs, random);
        if res.is_err() {
            let keep = random.pick(&[0, 0, 1, 5]);
            self.crash(keep, now, logs, random);
        }
        res
    }

    /// Ends the process; of what was not synced, up to so many commits are left. It begins again at once.
    pub fn crash(&mut self, keep: u64, now: u64, logs: &mut Logs, random: &mut Random) {
        self.leave(keep, now);
        self.tick(now, logs, random);
    }

    /// Is away no longer than until time passes.
    pub fn come_back(&mut self) {
        if let Life::Away { until, .. } = &mut self.life {
            *until = 0;
        }
    }

    /// Ends the process, which begins again some time later.
    pub fn leave(&mut self, keep: u64, until: u64) {
        let gone = MemoryStore::default();
        let mut store = match std::mem::replace(&mut self.life, Life::Away { store: gone, until }) {
            Life::Up(it) => it.runner.into_store(),
            Life::Away { store, .. } => store,
        };
        store.crash((keep as usize).min(store.unsynced()));
        self.life = Life::Away { store, until };
    }
}

impl Running {
    /// Starts a process on a store.
    fn begin(
        settings: &Settings,
        store: MemoryStore,
        now: u64,
        logs: &mut Logs,
        random: &mut Random,
    ) -> Box<Self> {
        let worker = Worker::new(settings.clone(), &store.states().unwrap()).unwrap();
        let is_new = worker.position(Source::Update).is_none();
        let end = |source| logs.len(&settings.node, source);
        let (ends, updates_end) = (SOURCES.map(|it| (it, end(it))), Some(end(Source::Update)));
        let mut res = Box::new(Self {
            runner: Runner::new(worker, store),
            read: BTreeMap::new(),
            map_read: 0,
            map_ends: VecDeque::from([logs.assignment.len()]),
            updates_end,
            scans: BTreeMap::new(),
        });
        if is_new {
            res.runner.handle(Millis(now), Event::Begun { positions: ends.to_vec() });
            res.run(usize::MAX, None, Millis(now), logs, random).expect("it does not die here");
        }
        let position = |it| res.runner.worker().position(it).expect("it has begun");
        res.read = SOURCES.map(|it| (it, position(it))).into();
        res
    }

    fn run(
        &mut self,
        steps: usize,
        dies: Option<(u64, Death)>,
        now: Millis,
        logs: &mut Logs,
        random: &mut Random,
    ) -> Result<bool, Crashed> {
        if self.updates_end.is_some_and(|end| self.read.get(&Source::Update) >= Some(&end)) {
            self.updates_end = None;
            self.runner.handle(now, Event::UpdatesReached);
        }
        let (sent, scans) = (Vec::new(), Vec::new());
        let mut outbox = Outbox { logs, random, sent, maps_asked: 0, scans, dies };
        let mut done = 0;
        while done < steps {
            assert!(done < 10_000, "it comes to rest");
            match self.runner.step(now, &mut outbox) {
                Ok(true) => done += 1,
                Ok(false) => break,
                Err(Halted::World(Crashed)) => return Err(Crashed),
                Err(Halted::Store(err)) => panic!("{err}"),
            }
        }
        if self.runner.flush(&mut outbox).is_err() {
            return Err(Crashed);
        }
        let Outbox { maps_asked, scans, .. } = outbox;
        self.map_ends.extend((0..maps_asked).map(|_| logs.assignment.len()));
        for (scan, partition, from) in scans {
            let Some(from) = from else {
                self.scans.remove(&(scan, partition));
                continue;
            };
            self.scans.insert((scan, partition), from);
            if from == logs.table_len(partition) {
                let end = Event::EndScanned { scan, partition, position: from };
                self.runner.handle(now, end);
            }
        }
        Ok(done > 0)
    }
}
