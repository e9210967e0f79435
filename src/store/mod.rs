//! Stores index entries, and what a worker must remember of them, behind one small interface.
//!
//! ```text
//!  writes of a step ── stage ──> outcomes: what changed     nothing is stored yet
//!                                   │
//!            the machine decides, its outputs are flushed
//!                                   v
//!  states, positions ── commit ──> one batch                stored, and lost with a power cut
//!                        sync  ──> on disk                  before a promise
//! ```
//!
//! * **The store decides.** Of two versions of an entry the later offset wins; an entry's `table`
//!   partition is fixed by its primary key, so offsets of one entry compare.
//! * **Idempotent, and in any order.** What is written again, or late, changes nothing.
//! * **A step is stored whole or not at all**: entries, what is kept aside, states and input
//!   positions in one batch.

use schemas::range_segment::Entry;
use schemas::{Key, KeySpan};
use thiserror::Error;

/// Identifies an entry.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EntryKey {
    pub index_key: Key,
    pub primary_key: Key,
}

/// One write of a step. What is written is seen by the writes after it in the same step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Write {
    /// Last writer wins; a payload of `None` is a tombstone, which is stored.
    Put(Entry),
    /// Whatever is stored goes, and leaves no tombstone.
    Forget(EntryKey),
    /// Kept aside, the latest of each entry, until it is applied.
    Aside(Entry),
    /// Puts up to `max` entries that are kept aside in the interval, in key order, and forgets them
    /// aside. Those that `below` says are below a floor `(partition, offset)` are dropped instead.
    PutAside { span: KeySpan, below: Vec<schemas::range_segment::Floor>, max: usize },
    /// Erases up to `max` entries, tombstones and entries aside in the interval; begins anew each time,
    /// as what is erased is gone.
    Erase { span: KeySpan, max: usize },
    /// Drops up to `max` tombstones of the interval, behind `after`, that are below a floor.
    Collect {
        span: KeySpan,
        below: Vec<schemas::range_segment::Floor>,
        after: Option<EntryKey>,
        max: usize,
    },
}

/// What a write does, once the step is committed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is the latest now; what it replaces was the latest before.
    Changed { replaced: Option<Entry> },
    /// As late a version or a later one is stored.
    Superseded,
    /// Of a `Forget`.
    Forgotten { was: Option<Entry> },
    /// Of an `Aside`: kept, or superseded by what is kept.
    Kept,
    /// Of a `PutAside`: each entry that changed the store, with what it replaces. `done`: none is left.
    Drained { changed: Vec<(Entry, Option<Entry>)>, done: bool },
    /// Of an `Erase`. `done`: none is left.
    Erased { done: bool },
    /// Of a `Collect`: the tombstones that went; where to go on, or `None` at the end.
    Collected { went: Vec<Entry>, after: Option<EntryKey> },
}

/// A state of the worker's under a name: roles, positions, watermarks; `None` removes it.
pub type State = (Vec<u8>, Option<Vec<u8>>);

/// Why the store cannot go on.
#[derive(Debug, Error)]
pub enum StoreError {
    /// Reads go on; nothing was written of the step.
    #[error("the disk is full or read-only: {0}")]
    NoSpace(String),
    #[error(
        "the store at {path} is of node {found}, not of {expected}: point --store at this node's own folder"
    )]
    OtherNode { path: String, found: String, expected: String },
    #[error("the store is broken: {0}")]
    Broken(String),
}

/// What a worker stores.
pub trait Store {
    type Snapshot: Snapshot;

    /// Returns all states, by name.
    fn states(&self) -> Result<Vec<(Vec<u8>, Vec<u8>)>, StoreError>;

    /// Decides what the writes change, in order; nothing is stored until [`Store::commit`], which is
    /// for the last staged step. Staging again drops what was staged and not committed.
    fn stage(&mut self, writes: Vec<Write>) -> Result<Vec<Outcome>, StoreError>;

    /// Stores what is staged, and the states, in one batch. Not synced.
    fn commit(&mut self, states: Vec<State>) -> Result<(), StoreError>;

    /// All that was committed outlives a power cut from here on.
    fn sync(&mut self) -> Result<(), StoreError>;

    /// Returns what is committed, as of now; it does not change any more.
    fn snapshot(&self) -> Self::Snapshot;
}

/// How much of a scan is returned at a time, whichever is reached first; at least one entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    pub entries: usize,
    /// Of keys and payloads.
    pub bytes: usize,
}

/// A part of a scan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// In key order, tombstones among them.
    pub entries: Vec<Entry>,
    /// Behind this there may be more.
    pub next: Option<EntryKey>,
}

/// The entries as of one moment.
pub trait Snapshot: Send {
    /// Returns entries of the interval behind `after`, tombstones among them.
    fn page(
        &self,
        span: &KeySpan,
        after: Option<&EntryKey>,
        limit: Limit,
    ) -> Result<Page, StoreError>;
}
