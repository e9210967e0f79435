//! Holds what Kafka holds: one list a partition, in the order in which it was written. Everybody who reads
//! keeps a position.

use std::collections::{BTreeMap, BTreeSet};

use dataflows::Tick;
use isotherm::assignment::map::Row;
use isotherm::channel::committed::Committed;
use isotherm::table::rows;
use isotherm::worker::events::{Output, Record, Source};
use schemas::index_update::{EntryUpdate, IndexUpdate};
use schemas::migrate_range::MigrateRange;
use schemas::migration_status::MigrationStatus;
use schemas::node_capacity::NodeCapacity;
use schemas::operator_command::OperatorCommand;
use schemas::planner_progress::Progress;
use schemas::range_segment::{Entry, Kind};
use schemas::table::RowChanged;
use schemas::{Key, MigrationId, Millis, NodeId};

use super::options::Random;

/// Of `table`.
pub const PARTITIONS: u32 = 2;

/// The primary keys that there are: one byte each.
pub const PRIMARIES: u8 = 10;

/// The index keys that there are.
pub const KEYS: [u8; 14] =
    [0x08, 0x18, 0x28, 0x38, 0x48, 0x58, 0x68, 0x78, 0x88, 0x98, 0xa8, 0xb8, 0xc8, 0xd8];

pub fn key(byte: u8) -> Key {
    Key(vec![byte])
}

/// A record of `table`; without a row it is a tombstone.
#[derive(Clone, Debug)]
pub struct TableRow {
    pub primary: Key,
    pub row: Option<RowChanged>,
    pub written: u64,
    pub is_compacted: bool,
}

#[derive(Debug, Default)]
pub struct Logs {
    pub table: Vec<Vec<TableRow>>,
    /// Where each primary key was in the index, from which offset on.
    pub versions: BTreeMap<u8, Vec<(u64, Option<Key>)>>,
    pub assignment: Vec<Row>,
    /// Rows of it that are there no more.
    pub assignment_gone: BTreeSet<usize>,
    pub commands: Vec<MigrateRange>,
    pub statuses: Vec<MigrationStatus>,
    pub reports: Vec<NodeCapacity>,
    pub asked: Vec<(Millis, OperatorCommand)>,
    pub progress: Vec<Progress>,
    /// Streams whose END or HANDOVER was sent.
    pub whole: BTreeSet<(MigrationId, u32)>,
    /// The keys that queries made hot in a tick, and what they cost, in the place of `query_log`.
    pub heat: BTreeMap<Tick, Vec<(Key, i64)>>,
    inboxes: BTreeMap<(NodeId, Source), Vec<Record>>,
    /// What a worker could not use.
    pub letters: Vec<String>,
    /// What the group of channels has stored, by partition.
    pub stored: Vec<Option<(u64, Committed)>>,
    /// When a range was given from the table.
    pub given: BTreeMap<MigrationId, Millis>,
    /// What was written how often, of what tells that something rare has happened.
    pub written: BTreeMap<&'static str, u64>,
    /// Updates of channels that were written once: to whom, index key, version.
    sent: BTreeSet<(NodeId, Key, u32, u64)>,
}

impl Logs {
    pub fn new() -> Self {
        let table = vec![Vec::new(); PARTITIONS as usize];
        Self { table, stored: vec![None; PARTITIONS as usize], ..Self::default() }
    }

    /// Writes that a row is elsewhere in the index now, or nowhere.
    pub fn write_row(&mut self, primary: u8, after: Option<Key>, written: u64) {
        let log = &mut self.table[(u32::from(primary) % PARTITIONS) as usize];
        let versions = self.versions.entry(primary).or_default();
        let before = versions.last().and_then(|it| it.1.clone());
        let offset = log.len() as u64;
        versions.push((offset, after.clone()));
        let payload = after.is_some().then(|| offset.to_le_bytes().to_vec());
        let row = Some(RowChanged { before, after, payload });
        log.push(TableRow { primary: key(primary), row, written, is_compacted: false });
    }

    /// Writes that there is nothing more to say of a row that was deleted.
    pub fn write_tombstone(&mut self, primary: u8, written: u64) {
        let log = &mut self.table[(u32::from(primary) % PARTITIONS) as usize];
        log.push(TableRow { primary: key(primary), row: None, written, is_compacted: false });
    }

    pub fn table_len(&self, partition: u32) -> u64 {
        self.table[partition as usize].len() as u64
    }

    /// Returns a record of `table` with its entries, unless it is compacted away.
    pub fn row(&self, partition: u32, offset: u64) -> Option<(Key, Vec<Entry>)> {
        let row = &self.table[partition as usize][offset as usize];
        let entries = |it: RowChanged| rows::entries(it, &row.primary, (partition, offset));
        let entries = row.row.clone().map_or(Vec::new(), entries);
        (!row.is_compacted).then(|| (row.primary.clone(), entries))
    }

    /// Lets rows go that later ones supersede, before an offset, or before a time. Returns how many of
    /// them were not before the offset.
    pub fn compact(&mut self, partition: u32, until: u64, old: u64) -> u64 {
        let log = &mut self.table[partition as usize];
        let (mut later, mut unread) = (BTreeSet::new(), 0);
        for (offset, row) in log.iter_mut().enumerate().rev() {
            let is_last = later.insert(row.primary.clone());
            let is_read = (offset as u64) < until;
            if !is_last && !row.is_compacted && (is_read || row.written < old) {
                row.is_compacted = true;
                unread += u64::from(!is_read);
            }
        }
        unread
    }

    /// Lets rows of `assignment` go that later ones of their key supersede, all before a position.
    pub fn compact_assignment(&mut self, until: usize) {
        let mut later = BTreeSet::new();
        for (at, row) in self.assignment[..until].iter().enumerate().rev() {
            if !later.insert(row.start.clone()) {
                self.assignment_gone.insert(at);
            }
        }
    }

    pub fn len(&self, node: &NodeId, source: Source) -> u64 {
        let len = match source {
            Source::Status(_) => self.statuses.len(),
            Source::Command => self.commands.len(),
            Source::Ack | Source::Segment | Source::Update => {
                self.inboxes.get(&(node.clone(), source)).map_or(0, Vec::len)
            }
        };
        len as u64
    }

    pub fn record(&self, node: &NodeId, source: Source, offset: u64) -> Option<Record> {
        let at = offset as usize;
        match source {
            Source::Status(_) => self.statuses.get(at).cloned().map(Record::Status),
            Source::Command => self.commands.get(at).cloned().map(Record::Command),
            Source::Ack | Source::Segment | Source::Update => {
                self.inboxes.get(&(node.clone(), source))?.get(at).cloned()
            }
        }
    }

    fn count(&mut self, what: &'static str) {
        *self.written.entry(what).or_default() += 1;
    }

    /// Writes what a channel sends.
    pub fn write_update(&mut self, node: NodeId, update: IndexUpdate) {
        if let Some(EntryUpdate { entry, .. }) = &update.entry {
            let (partition, offset) = (entry.partition, entry.offset);
            if !self.sent.insert((node.clone(), entry.index_key.clone(), partition, offset)) {
                self.count("updates sent again");
            }
        }
        self.send(node, Source::Update, Record::Update(update));
    }

    /// Writes what a channel asks of the planner.
    pub fn ask(&mut self, now: u64, command: OperatorCommand) {
        let is_known = self.asked.iter().any(|it| it.1.id == command.id);
        self.count(if is_known { "rebuilds asked for again" } else { "rebuilds asked for" });
        self.asked.push((Millis(now), command));
    }

    /// Writes what a worker says.
    pub fn write(&mut self, output: Output) {
        match &output {
            Output::Update { update, .. } => match &update.entry {
                Some(it) if it.hops > 1 => self.count("updates passed on once more"),
                Some(_) => self.count("updates passed on"),
                None => self.count("watermarks passed on"),
            },
            Output::Segment { segment, .. } => {
                if matches!(segment.kind, Kind::End | Kind::Handover) {
                    self.whole.insert((segment.migration, segment.stream));
                }
                match segment.kind {
                    Kind::Open if segment.stream > 1 => self.count("streams begun again"),
                    Kind::Open => self.count("streams"),
                    Kind::Handover => self.count("handovers"),
                    Kind::Refuse => self.count("streams refused"),
                    Kind::Data | Kind::End | Kind::Unknown => (),
                }
            }
            Output::Ack { ack, .. }
                if ack.next_seq > 0
                    && !ack.done
                    && !self.whole.contains(&(ack.migration, ack.stream)) =>
            {
                self.count("credit renewed before the end of a stream")
            }
            Output::Ack { .. } | Output::Status(_) | Output::Dead { .. } => (),
        }
        match output {
            Output::Update { node, update, .. } => {
                self.send(node, Source::Update, Record::Update(update));
            }
            Output::Segment { node, segment, .. } => {
                self.send(node, Source::Segment, Record::Segment(segment));
            }
            Output::Ack { node, ack, .. } => self.send(node, Source::Ack, Record::Ack(ack)),
            Output::Status(status) => self.statuses.push(status),
            Output::Dead { .. } => self.letters.push(format!("{output:?}")),
        }
    }

    fn send(&mut self, node: NodeId, source: Source, record: Record) {
        self.inboxes.entry((node, source)).or_default().push(record);
    }

    /// How many entries were there, and are not any more.
    pub fn deleted(&self) -> usize {
        let were = |it: &Vec<(u64, Option<Key>)>| {
            it.iter().filter_map(|it| it.1.as_ref()).collect::<BTreeSet<_>>().len()
        };
        self.versions.values().map(were).sum::<usize>() - self.fold().len()
    }

    /// What the index is to be: where each entry is, and its version.
    pub fn fold(&self) -> BTreeMap<(Key, Key), u64> {
        let last = self.versions.iter().filter_map(|(primary, it)| {
            let (offset, index) = it.last()?;
            Some(((index.clone()?, key(*primary)), *offset))
        });
        last.collect()
    }
}

/// Of what was sent and not flushed, what is there all the same: of each partition its first records, but
/// not as many of one as of another.
pub fn flushed_in_part<T, K: Ord>(
    sent: Vec<T>,
    partition: impl Fn(&T) -> K,
    random: &mut Random,
) -> Vec<T> {
    let mut left = BTreeMap::<K, u64>::new();
    sent.iter().for_each(|it| *left.entry(partition(it)).or_default() += 1);
    left.values_mut().for_each(|it| *it = random.below(*it + 1));
    let mut sent = sent;
    sent.retain(|it| {
        let left = left.get_mut(&partition(it)).expect("it was counted");
        let is_there = 0 < *left;
        *left = left.saturating_sub(1);
        is_there
    });
    sent
}
