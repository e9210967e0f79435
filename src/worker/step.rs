//! Runs a worker's machine against a store, a step at a time: what the driver does, and the simulation.
//!
//! ```text
//!  machine ── Stage ──> store.stage ──> Staged ──> Send … ── flush ── store.commit ──> Committed
//!     ^                                                                                    │
//!     └── Paged <── snapshot <── Page          Publish <── Send … <── store.sync <─────────┘
//! ```
//!
//! What is left to whoever runs it, in this order:
//!
//! 1. Of a new store, whose worker has no positions, the ends of its partitions are told as
//!    [`Event::Begun`], and a step is run, before the node reports itself.
//! 2. `assignment` is read from the beginning; at the end that it had, [`Event::MapReached`].
//! 3. Every [`Source`](super::events::Source) is read from [`Worker::position`] on, as long as
//!    [`Worker::wants`] more; at the end that `index_update` had, [`Event::UpdatesReached`].
//! 4. After each step [`Runner::serving`] is what reads see; [`Event::Tick`] at
//!    [`Worker::poll_deadline`].
//!
//! * **In this order, or not at all (R3).** What halts a commit, a full disk or a broker that is away, may
//!   pass: the next call goes on there. After anything else only a new start helps.

use std::collections::BTreeMap;
use std::sync::Arc;

use schemas::Millis;

use super::events::{Action, Event, Output};
use super::machine::Worker;
use super::serving::{Serving, View};
use crate::store::{Scan, Snapshot, Store, StoreError};
use crate::transfer::segment::StreamId;

/// Where a worker's records go, and what it wants of others.
pub trait World {
    /// Why something cannot be sent.
    type Error;

    /// Takes a record; it may still be lost until [`World::flush`].
    fn send(&mut self, output: Output) -> Result<(), Self::Error>;

    /// All that was taken is in Kafka.
    fn flush(&mut self) -> Result<(), Self::Error>;

    /// See [`Action::ReadMap`].
    fn read_map(&mut self);

    /// See [`Action::ScanTable`].
    fn scan_table(&mut self, scan: Scan, partition: u32, from: u64);

    /// See [`Action::EndTable`].
    fn end_table(&mut self, scan: Scan, partition: u32);
}

/// Why a step is not over.
#[derive(Debug)]
pub enum Halted<E> {
    Store(StoreError),
    World(E),
}

/// A machine with its store.
pub struct Runner<S: Store> {
    worker: Worker,
    store: S,
    snapshots: BTreeMap<StreamId, S::Snapshot>,
    /// What could not be done.
    halted: Option<Action>,
    is_flushed: bool,
    view: Option<Arc<View>>,
}

impl<S: Store> Runner<S> {
    pub fn new(worker: Worker, store: S) -> Self {
        Self {
            worker,
            store,
            snapshots: BTreeMap::new(),
            halted: None,
            is_flushed: true,
            view: None,
        }
    }

    pub fn worker(&self) -> &Worker {
        &self.worker
    }

    pub fn store(&self) -> &S {
        &self.store
    }

    /// Gives the store back, as after a crash.
    pub fn into_store(self) -> S {
        self.store
    }

    /// Takes in what happened; nothing is done before [`Runner::step`].
    pub fn handle(&mut self, now: Millis, event: Event) {
        self.worker.handle(now, event);
    }

    /// Returns what is served, and the entries of it; nothing, before the start is over.
    pub fn serving(&self) -> Option<Serving<S::Snapshot>> {
        let view = self.view.clone()?;
        Some(Serving { view, snapshot: self.store.snapshot() })
    }

    /// Runs one step; tells whether there was one. A step that the world or a full disk has halted is
    /// gone on with by the next call.
    pub fn step<W: World>(&mut self, now: Millis, world: &mut W) -> Result<bool, Halted<W::Error>> {
        let mut next = self.halted.take().or_else(|| self.worker.poll_action());
        if next.is_none() {
            return Ok(false);
        }
        while let Some(action) = next {
            self.act(now, action, world)?;
            next = if self.worker.is_stepping() { self.worker.poll_action() } else { None };
        }
        Ok(true)
    }

    /// Waits until all that steps have sent is in Kafka. A commit and a sync do that first; a step that ends
    /// without either is not waited for, so that one page of a stream after the other is on its way.
    pub fn flush<W: World>(&mut self, world: &mut W) -> Result<(), Halted<W::Error>> {
        if !self.is_flushed {
            world.flush().map_err(Halted::World)?;
            self.is_flushed = true;
        }
        Ok(())
    }

    fn act<W: World>(
        &mut self,
        now: Millis,
        action: Action,
        world: &mut W,
    ) -> Result<(), Halted<W::Error>> {
        match action {
            Action::Stage(writes) => {
                let outcomes = self.store.stage(writes).map_err(Halted::Store)?;
                self.worker.handle(now, Event::Staged(outcomes));
            }
            Action::Send(output) => {
                self.is_flushed = false;
                world.send(output).map_err(Halted::World)?;
            }
            Action::Commit(states) => {
                // It is there still if it cannot be done now.
                self.halted = Some(Action::Commit(states.clone()));
                self.flush(world)?;
                self.store.commit(states).map_err(Halted::Store)?;
                self.halted = None;
                self.worker.handle(now, Event::Committed);
            }
            Action::Sync => {
                self.halted = Some(Action::Sync);
                self.flush(world)?;
                self.store.sync().map_err(Halted::Store)?;
                self.halted = None;
            }
            Action::Snapshot(stream) => _ = self.snapshots.insert(stream, self.store.snapshot()),
            Action::Release(stream) => _ = self.snapshots.remove(&stream),
            Action::Page { stream, span, after, limit } => {
                if let Some(snapshot) = self.snapshots.get(&stream) {
                    let page = snapshot.page(&span, after.as_ref(), limit);
                    let page = page.map_err(Halted::Store)?;
                    self.worker.handle(now, Event::Paged { stream, page });
                }
            }
            Action::Publish(view) => self.view = Some(view),
            Action::ReadMap => world.read_map(),
            Action::ScanTable { scan, partition, from } => world.scan_table(scan, partition, from),
            Action::EndTable { scan, partition } => world.end_table(scan, partition),
        }
        Ok(())
    }
}
