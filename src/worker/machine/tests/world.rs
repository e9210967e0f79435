//! Workers around logs in memory, with a planner and a channel that do what they are told to.
//!
//! Every process reads every log from a position of its own, so it may be late in one and not in another.

mod again;
mod others;
mod looks;

use std::collections::{BTreeMap, BTreeSet};

use schemas::assignment::{Assignment, Source as From};
use schemas::index_update::{EntryUpdate, IndexUpdate, Watermark};
use schemas::migrate_range::{Command, MigrateRange};
use schemas::migration_status::{MigrationStatus, Phase, Status};
use schemas::range_segment::{Entry, Floor, RangeSegment};
use schemas::segment_ack::SegmentAck;
use schemas::{Epoch, Generation, Inbox, Key, KeySpan, MigrationId, Millis, NodeId};

use crate::assignment::map::{Map, Row, span_of};
use crate::store::memory::{MemorySnapshot, MemoryStore};
use crate::store::{Limit, Scan, Snapshot, Store};
use crate::web::reads::{Answer, Asked, Read, What};
use crate::worker::events::{Event, Ignored, Output, Record, Settings, Source};
use crate::worker::machine::Worker;
use crate::worker::serving::{Limits, Served, Serving};
use crate::worker::states::{Role, Size};
use crate::worker::step::{Halted, Runner, World as Outside};

use again::{Kept, Streams};
pub use again::{MayCrash, number_of};

pub const PARTITIONS: u32 = 2;

/// A row of `table`: its primary key, and where it stands in the index with what.
#[derive(Clone, Debug)]
pub struct TableRow {
    pub primary: u8,
    pub before: Option<String>,
    pub after: Option<(String, u64)>,
}

/// What is read in `assignment` order by all.
#[derive(Clone)]
pub struct World {
    pub now: u64,
    pub table: Vec<Vec<TableRow>>,
    /// Rows that are there no more: `(partition, offset)`.
    pub compacted: BTreeSet<(u32, usize)>,
    pub assignment: Vec<Assignment>,
    pub map: Map,
    pub commands: Vec<MigrateRange>,
    pub statuses: Vec<MigrationStatus>,
    pub inboxes: BTreeMap<(NodeId, Source), Vec<Record>>,
    pub nodes: BTreeMap<NodeId, Node>,
    pub dead: Vec<Source>,
    pub channel: Channel,
    /// Migrations in flight: where they go.
    pub flights: BTreeMap<MigrationId, MigrateRange>,
    /// How each ended.
    pub ended: BTreeMap<MigrationId, Status>,
    pub statuses_read: usize,
    migrations: u64,
}

/// One process.
pub struct Node {
    pub runner: Runner<Kept>,
    streams: Streams,
    pub settings: Settings,
    pub map_read: usize,
    maps_asked: usize,
    pub read: BTreeMap<Source, usize>,
    scans: BTreeMap<(Scan, u32), u64>,
    updates_end: usize,
    is_begun: bool,
    /// What is held back from it.
    pub late: BTreeSet<Source>,
    pub late_map: bool,
}

#[derive(Clone, Debug, Default)]
pub struct Channel {
    pub map_read: usize,
    pub next: Vec<usize>,
}

#[derive(Debug)]
pub struct Crashed;

/// What a node has sent, and when it dies.
#[derive(Default)]
pub struct Outbox {
    buffer: Vec<Output>,
    flushed: Vec<Output>,
    map_asked: usize,
    scans: Vec<(Scan, u32, Option<u64>)>,
    /// So many flushes from now it dies, before or behind it.
    pub dies: Option<(usize, bool)>,
}

impl Outside for Outbox {
    type Error = Crashed;

    fn send(&mut self, output: Output) -> Result<(), Crashed> {
        self.buffer.push(output);
        Ok(())
    }

    fn flush(&mut self) -> Result<(), Crashed> {
        let dies = match &mut self.dies {
            Some((0, behind)) => Some(*behind),
            Some((left, _)) => {
                *left -= 1;
                None
            }
            None => None,
        };
        match dies {
            Some(false) => {
                // A part of it is there.
                let half = self.buffer.len() / 2;
                self.flushed.extend(self.buffer.drain(..half));
                Err(Crashed)
            }
            Some(true) => {
                self.flushed.append(&mut self.buffer);
                Err(Crashed)
            }
            None => {
                self.flushed.append(&mut self.buffer);
                Ok(())
            }
        }
    }

    fn read_map(&mut self) {
        self.map_asked += 1;
    }

    fn scan_table(&mut self, scan: Scan, partition: u32, from: u64) {
        self.scans.push((scan, partition, Some(from)));
    }

    fn end_table(&mut self, scan: Scan, partition: u32) {
        self.scans.push((scan, partition, None));
    }
}

pub fn node(name: &str) -> NodeId {
    NodeId(name.into())
}

pub fn key(text: &str) -> Key {
    Key(text.into())
}

pub fn span(start: &str, end: &str) -> KeySpan {
    KeySpan { start: key(start), end: key(end) }
}

pub fn settings(name: &str) -> Settings {
    Settings {
        node: node(name),
        inbox: Inbox(name.as_bytes()[0].into()),
        partitions: PARTITIONS,
        records_max: 8,
        step_bytes_max: 1 << 20,
        cursor_max: 2,
        stream_credit_bytes: 400,
        inbox_credit_bytes: 1000,
        backlog_bytes_max: 300,
        backlogs_max: 100,
        repeat_ms: 1_000,
        grace_ms: 0,
        scan_ms_max: 4_000,
        collect_ms: 500,
    }
}

/// Entries of a row, as the channel and a scan have them (R16).
pub fn entries(row: &TableRow, partition: u32, offset: u64) -> Vec<Entry> {
    let entry = |index: &str, payload: Option<u64>| Entry {
        index_key: key(index),
        primary_key: Key(vec![row.primary]),
        partition,
        offset,
        payload: payload.map(|it| it.to_le_bytes().to_vec()),
    };
    let after = row.after.as_ref().map(|(index, payload)| entry(index, Some(*payload)));
    let gone =
        row.before.as_ref().filter(|it| row.after.as_ref().is_none_or(|after| after.0 != **it));
    gone.map(|it| entry(it, None)).into_iter().chain(after).collect()
}

impl World {
    pub fn new(names: &[&str]) -> Self {
        let mut world = Self {
            now: 10_000,
            table: vec![Vec::new(); PARTITIONS as usize],
            compacted: BTreeSet::new(),
            assignment: Vec::new(),
            map: Map::default(),
            commands: Vec::new(),
            statuses: Vec::new(),
            inboxes: BTreeMap::new(),
            nodes: BTreeMap::new(),
            dead: Vec::new(),
            channel: Channel { map_read: 0, next: vec![0; PARTITIONS as usize] },
            flights: BTreeMap::new(),
            ended: BTreeMap::new(),
            statuses_read: 0,
            migrations: 0,
        };
        for name in names {
            let node = world.begin(settings(name), MemoryStore::default());
            world.nodes.insert(self::node(name), node);
        }
        world
    }

    /// Starts a process on a store.
    pub fn begin(&self, settings: Settings, store: MemoryStore) -> Node {
        let worker = Worker::new(settings.clone(), &store.states().unwrap()).unwrap();
        let mut runner = Runner::new(worker, Kept::new(store));
        let sources =
            [Source::Status(0), Source::Command, Source::Ack, Source::Segment, Source::Update];
        let is_new = runner.worker().position(Source::Update).is_none();
        let end = |source| self.log_len(&settings.node, source);
        if is_new {
            let positions = sources.map(|it| (it, end(it) as u64)).to_vec();
            runner.handle(Millis(self.now), Event::Begun { positions });
        }
        let read = sources.map(|it| (it, runner.worker().position(it).unwrap() as usize));
        Node {
            runner,
            streams: Streams::new(),
            map_read: 0,
            maps_asked: 1,
            read: read.into(),
            scans: BTreeMap::new(),
            updates_end: end(Source::Update),
            is_begun: false,
            late: BTreeSet::new(),
            late_map: false,
            settings,
        }
    }

    pub fn log_len(&self, node: &NodeId, source: Source) -> usize {
        match source {
            Source::Status(_) => self.statuses.len(),
            Source::Command => self.commands.len(),
            Source::Ack | Source::Segment | Source::Update => {
                self.inboxes.get(&(node.clone(), source)).map_or(0, Vec::len)
            }
        }
    }

    pub fn record(&self, node: &NodeId, source: Source, at: usize) -> Option<Record> {
        match source {
            Source::Status(_) => self.statuses.get(at).cloned().map(Record::Status),
            Source::Command => self.commands.get(at).cloned().map(Record::Command),
            Source::Ack | Source::Segment | Source::Update => {
                self.inboxes.get(&(node.clone(), source))?.get(at).cloned()
            }
        }
    }

    /// Reads the next record of a log into a node; tells whether there was one.
    pub fn read(&mut self, name: &NodeId, source: Source) -> bool {
        let node = &self.nodes[name];
        let at = node.read[&source];
        if node.late.contains(&source) || !node.runner.worker().wants(source) {
            return false;
        }
        let Some(record) = self.record(name, source, at) else { return false };
        self.tell(name, source, record);
        true
    }

    /// Has a node read a record as the next one of a log.
    pub fn tell(&mut self, name: &NodeId, source: Source, record: Record) {
        let now = Millis(self.now);
        let node = self.nodes.get_mut(name).unwrap();
        let at = node.read[&source];
        node.runner.handle(now, Event::Record { source, offset: at as u64, record });
        node.read.insert(source, at + 1);
    }

    /// Reads the next row of the map, or says that there is none.
    pub fn read_map(&mut self, name: &NodeId) -> bool {
        let now = Millis(self.now);
        let node = self.nodes.get_mut(name).unwrap();
        if node.late_map {
            return false;
        }
        if let Some(row) = self.assignment.get(node.map_read) {
            node.map_read += 1;
            let row = Row { start: row.range_start.clone(), assignment: Some(row.clone()) };
            node.runner.handle(now, Event::MapRead(row));
            return true;
        }
        if node.maps_asked > 0 {
            node.maps_asked -= 1;
            node.runner.handle(now, Event::MapReached);
            return true;
        }
        self.reach_updates(name)
    }

    /// Says once that `index_update` is read to the end that it had at the start.
    pub fn reach_updates(&mut self, name: &NodeId) -> bool {
        let now = Millis(self.now);
        let node = self.nodes.get_mut(name).unwrap();
        if node.is_begun || node.read[&Source::Update] < node.updates_end {
            return false;
        }
        node.is_begun = true;
        node.runner.handle(now, Event::UpdatesReached);
        true
    }

    /// Reads rows of scans.
    pub fn read_rows(&mut self, name: &NodeId) -> bool {
        let now = Millis(self.now);
        let node = self.nodes.get_mut(name).unwrap();
        let mut is_read = false;
        for ((scan, partition), at) in &mut node.scans {
            let (scan, partition) = (*scan, *partition);
            let rows = &self.table[partition as usize];
            if let Some(row) = rows.get(*at as usize) {
                let entries = entries(row, partition, *at);
                let (offset, primary_key) = (*at, Key(vec![row.primary]));
                // As a scan has it: what the row is now, nothing of what it was.
                let entries = entries.into_iter().filter(|it| it.payload.is_some()).collect();
                let event = Event::RowScanned { scan, partition, offset, primary_key, entries };
                if !self.compacted.contains(&(partition, offset as usize)) {
                    node.runner.handle(now, event);
                }
                *at += 1;
                is_read = true;
                if *at as usize == rows.len() {
                    let event = Event::EndScanned { scan, partition, position: *at };
                    node.runner.handle(now, event);
                }
            }
        }
        is_read
    }

    /// Runs steps of a node to the last, or until it dies; tells whether there were any.
    pub fn run(&mut self, name: &NodeId, dies: Option<(usize, bool)>) -> bool {
        let now = Millis(self.now);
        let mut outbox = Outbox { dies, ..Outbox::default() };
        let mut steps = 0;
        let node = self.nodes.get_mut(name).unwrap();
        let res = loop {
            match node.runner.step(now, &mut outbox) {
                Ok(true) => {
                    steps += 1;
                    node.note_streams();
                }
                Ok(false) => match node.runner.flush(&mut outbox) {
                    Ok(()) => break Ok(()),
                    Err(_died) => break Err(Crashed),
                },
                Err(Halted::World(Crashed)) => break Err(Crashed),
                Err(Halted::Store(err)) => panic!("{err}"),
            }
            assert!(steps < 10_000, "{name} does not come to rest");
            let states = node.runner.store().states().unwrap();
            let stored = crate::worker::states::Remembered::read(&states).unwrap();
            assert_eq!(stored, *node.runner.worker().remembered(), "what is stored is all of it");
        };
        node.maps_asked += outbox.map_asked;
        for (scan, partition, from) in outbox.scans {
            match from {
                Some(from) => {
                    node.scans.insert((scan, partition), from);
                    if from as usize == self.table[partition as usize].len() {
                        let event = Event::EndScanned { scan, partition, position: from };
                        node.runner.handle(now, event);
                    }
                }
                None => _ = node.scans.remove(&(scan, partition)),
            }
        }
        for output in outbox.flushed {
            self.write(output);
        }
        if res.is_err() {
            self.crash(name, usize::MAX);
            return true;
        }
        steps > 0
    }

    /// Ends a process and starts it again; of what was not synced, so much is left.
    pub fn crash(&mut self, name: &NodeId, keep: usize) {
        let node = self.nodes.remove(name).unwrap();
        let mut store = node.runner.into_store().memory;
        store.crash(keep.min(store.unsynced()));
        let mut new = self.begin(node.settings, store);
        (new.late, new.late_map) = (node.late, node.late_map);
        self.nodes.insert(name.clone(), new);
    }

    pub fn unsynced(&self, name: &NodeId) -> usize {
        self.nodes[name].runner.store().unsynced()
    }

    fn write(&mut self, output: Output) {
        let (node, source, record) = match output {
            Output::Update { node, update, .. } => (node, Source::Update, Record::Update(update)),
            Output::Segment { node, segment, .. } => {
                (node, Source::Segment, Record::Segment(segment))
            }
            Output::Ack { node, ack, .. } => (node, Source::Ack, Record::Ack(ack)),
            Output::Status(status) => return self.statuses.push(status),
            Output::Dead { source, .. } => return self.dead.push(source),
        };
        self.inboxes.entry((node, source)).or_default().push(record);
    }

    /// Lets everybody read and do everything, until nothing happens any more.
    pub fn settle(&mut self) {
        let names: Vec<_> = self.nodes.keys().cloned().collect();
        for round in 0.. {
            assert!(round < 3_000, "it does not come to rest: {}", self.told());
            let mut is_busy = false;
            for name in &names {
                while self.read_map(name) {
                    is_busy = true;
                }
                for source in self.nodes[name].read.clone().into_keys() {
                    while self.read(name, source) {
                        is_busy = true;
                    }
                }
                is_busy |= self.read_rows(name);
                is_busy |= self.run(name, None);
            }
            is_busy |= self.plan();
            if !is_busy {
                return;
            }
        }
    }

    /// Lets time pass, a second at a time, with all that a channel does.
    pub fn live(&mut self, seconds: u64) {
        for _ in 0..seconds {
            self.channel.map_read = self.assignment.len();
            self.send_rows(usize::MAX);
            self.send_marks();
            self.tick(1_000);
            self.settle();
        }
    }

    pub fn tick(&mut self, ms: u64) {
        self.now += ms;
        for node in self.nodes.values_mut() {
            node.runner.handle(Millis(self.now), Event::Tick);
        }
    }
}
