//! Has a node again as it stands, so that a walk can go on from there in more than one way, and tells
//! whether two nodes go on alike.
//!
//! What a runner has for itself, snapshots of streams and what it serves, is given to the new one by the
//! actions that gave it to the old one.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::fmt::{self, Debug, Write as _};
use std::hash::{DefaultHasher, Hasher};

use super::looks::all;
use super::*;
use crate::store::{Outcome, State, States, StoreError, Write};
use crate::transfer::segment::StreamId;
use crate::worker::events::Action;
use crate::worker::states::{Name, Remembered};

/// A store in memory. Snapshots that are older than it are handed out first.
#[derive(Clone, Debug, Default)]
pub struct Kept {
    pub memory: MemoryStore,
    older: RefCell<VecDeque<MemorySnapshot>>,
}

/// Of the streams that are open, by a runner that does not show it: what they send.
pub type Streams = BTreeMap<StreamId, MemorySnapshot>;

/// Whether what is not synced may be lost yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MayCrash {
    No,
    Yes,
}

impl Kept {
    pub fn new(memory: MemoryStore) -> Self {
        Self { memory, older: RefCell::default() }
    }

    pub fn unsynced(&self) -> usize {
        self.memory.unsynced()
    }
}

impl Store for Kept {
    type Snapshot = MemorySnapshot;

    fn states(&self) -> Result<States, StoreError> {
        self.memory.states()
    }

    fn stage(&mut self, writes: Vec<Write>) -> Result<Vec<Outcome>, StoreError> {
        self.memory.stage(writes)
    }

    fn commit(&mut self, states: Vec<State>) -> Result<(), StoreError> {
        self.memory.commit(states)
    }

    fn sync(&mut self) -> Result<(), StoreError> {
        self.memory.sync()
    }

    fn snapshot(&self) -> MemorySnapshot {
        let older = self.older.borrow_mut().pop_front();
        older.unwrap_or_else(|| self.memory.snapshot())
    }
}

impl Clone for Node {
    fn clone(&self) -> Self {
        let mut worker = self.runner.worker().clone();
        assert!(!worker.is_stepping(), "it is at rest");
        let published = worker.view.clone().map(Action::Publish);
        let actions = self.streams.keys().copied().map(Action::Snapshot).chain(published);
        worker.actions.extend(actions);
        let is_any = worker.is_stepping();
        let older = RefCell::new(self.streams.values().cloned().collect());
        let memory = self.runner.store().memory.clone();
        let mut runner = Runner::new(worker, Kept { memory, older });
        if is_any {
            runner.step(Millis(0), &mut Outbox::default()).expect("nothing is sent");
        }
        Self {
            runner,
            streams: self.streams.clone(),
            settings: self.settings.clone(),
            map_read: self.map_read,
            maps_asked: self.maps_asked,
            read: self.read.clone(),
            scans: self.scans.clone(),
            updates_end: self.updates_end,
            is_begun: self.is_begun,
            late: self.late.clone(),
            late_map: self.late_map,
        }
    }
}

impl Node {
    /// Takes in which streams the last step has opened and ended.
    pub(super) fn note_streams(&mut self) {
        let runner = &self.runner;
        let open: BTreeSet<_> = runner.worker().senders.values().map(|it| it.stream()).collect();
        self.streams.retain(|it, _| open.contains(it));
        for stream in open {
            self.streams.entry(stream).or_insert_with(|| runner.store().snapshot());
        }
    }

    /// Returns from where on it may read logs: what is before that it has for good.
    pub fn reads_from(&self, may_crash: MayCrash) -> BTreeMap<Source, usize> {
        if may_crash == MayCrash::No {
            return self.read.clone();
        }
        let synced = Remembered::read(&self.left(0).states().unwrap()).unwrap();
        synced.positions.into_iter().map(|(source, at)| (source, at as usize)).collect()
    }

    /// Returns a number that two nodes have in common that go on alike, if what they may read yet is the
    /// same; and from where on that is, which does not count.
    pub fn number(&self, may_crash: MayCrash) -> (u64, BTreeMap<Source, usize>) {
        let worker = self.runner.worker();
        let from = self.reads_from(may_crash);
        let behind: Vec<_> = from.iter().map(|(it, from)| self.read[it] - from).collect();
        let committed = self.unplaced(usize::MAX);
        let synced = (may_crash == MayCrash::Yes).then(|| self.unplaced(0));
        let queues = worker.queues.iter().map(|(source, queue)| {
            let mut queue = queue.clone();
            let records: Vec<_> = std::iter::from_fn(|| queue.pop_front()?.record).collect();
            (source, records)
        });
        let waits = (queues.collect::<Vec<_>>(), &worker.rows);
        let updates_left = self.updates_end.saturating_sub(self.read[&Source::Update]);
        let updates_left = (!self.is_begun).then_some(updates_left);
        let map = (self.map_read, self.maps_asked, worker.map_asked - worker.map_reached);
        let scans = (&self.scans, &worker.scanning, &worker.at_end);
        let pages = self.streams.iter().map(|it| (it.0, all(it.1, &KeySpan::all())));
        let pages: Vec<_> = pages.collect();
        let sends = (&worker.asked, &worker.copied_told, &worker.senders, pages);
        let rest = (worker.start, &worker.collected, &worker.view);
        let number =
            number_of(&(committed, synced, behind, waits, updates_left, map, scans, sends, rest));
        (number, from)
    }

    /// Returns what a crash leaves of the store, but for where to read on.
    fn unplaced(&self, keep: usize) -> MemoryStore {
        let mut store = self.left(keep);
        let forgets = |it: &Source| Remembered::default().state(&Name::Position(*it));
        store.commit(self.read.keys().map(forgets).collect()).unwrap();
        store.sync().unwrap();
        store
    }

    /// Returns what a crash leaves of the store.
    fn left(&self, keep: usize) -> MemoryStore {
        let mut store = self.runner.store().memory.clone();
        store.crash(keep);
        store
    }
}

/// Returns a number that values have in common that are told alike.
pub fn number_of(it: &impl Debug) -> u64 {
    struct Telling(DefaultHasher);
    impl fmt::Write for Telling {
        fn write_str(&mut self, text: &str) -> fmt::Result {
            self.0.write(text.as_bytes());
            Ok(())
        }
    }
    let mut telling = Telling(DefaultHasher::new());
    write!(telling, "{it:?}").expect("all is taken");
    telling.0.finish()
}
