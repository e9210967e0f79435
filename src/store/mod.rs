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

mod key;
mod value;
pub mod memory;
pub mod fjall;

use std::collections::BTreeMap;

use schemas::range_segment::{Entry, Floor};
use schemas::{Generation, Key, KeySpan};
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Identifies an entry.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct EntryKey {
    pub index_key: Key,
    pub primary_key: Key,
}

impl EntryKey {
    pub fn of(entry: &Entry) -> Self {
        let Entry { index_key, primary_key, .. } = entry;
        Self { index_key: index_key.clone(), primary_key: primary_key.clone() }
    }
}

/// A scan of `table`, by the generation whose assignments it is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Scan(pub Generation);

/// What becomes of the entries aside in an interval that is erased.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Aside {
    Stays,
    Goes,
}

/// One write of a step. What is written is seen by the writes after it in the same step.
///
/// What concerns an interval or a scan goes on by a cursor: it takes up to `max` (at least one), behind
/// `after`, and its outcome says behind what to go on, or `None` at the end. A cursor saves a walk over
/// what the writes before it have removed; to begin anew without one changes nothing else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Write {
    /// Last writer wins; a payload of `None` is a tombstone, which is stored.
    Put(Entry),
    /// Whatever is stored goes, and leaves no tombstone.
    Forget(EntryKey),
    /// Kept aside, the latest of each entry, until it is applied.
    Aside(Entry),
    /// Puts entries that are kept aside in the interval, in key order, and forgets them aside. Those
    /// below a floor are dropped instead.
    PutAside { span: KeySpan, below: Vec<Floor>, after: Option<EntryKey>, max: usize },
    /// Erases up to `max` entries, tombstones among them, and as many entries aside, if these go too.
    Erase { span: KeySpan, aside: Aside, after: Option<EntryKey>, max: usize },
    /// Looks at up to `max` entries, and drops the tombstones among them that are below a floor.
    Collect { span: KeySpan, below: Vec<Floor>, after: Option<EntryKey>, max: usize },
    /// Puts the entries of a row that a scan has come to, and forgets those that it has put of the row
    /// before and that are none any more. `entries` are those in the scan's intervals.
    Row { scan: Scan, primary_key: Key, entries: Vec<Entry> },
    /// Forgets which entries a scan has put of which row; the entries stay. The cursor is a primary key.
    EndScan { scan: Scan, after: Option<Key>, max: usize },
}

/// How many bytes of payloads a batch of a cursor holds, of more than one entry.
const BATCH_BYTES_MAX: usize = 1 << 20;

/// What goes on by a cursor takes so much at a time.
struct Batch {
    left: usize,
    bytes: usize,
}

impl Batch {
    fn new(max: usize) -> Self {
        assert!(max > 0, "a cursor moves");
        Self { left: max, bytes: 0 }
    }

    /// Tells whether one more is in it.
    fn takes(&mut self, payload_bytes: usize) -> bool {
        let is_first = self.bytes == 0;
        let bytes = self.bytes + payload_bytes;
        if self.left == 0 || !is_first && BATCH_BYTES_MAX < bytes {
            return false;
        }
        (self.left, self.bytes) = (self.left - 1, bytes);
        true
    }
}

/// What a write does, once the step is committed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Of a `Put`: it is the latest now; what it replaces was the latest before.
    Changed { replaced: Option<Entry> },
    /// Of a `Put`: as late a version or a later one is stored.
    Superseded,
    /// Of a `Forget`.
    Forgotten { was: Option<Entry> },
    /// Of an `Aside`: it is kept, or one as late is.
    Kept,
    /// Of a `PutAside`: each entry that changed the store, with what it replaces.
    Drained { changed: Vec<Change>, after: Option<EntryKey> },
    /// Of an `Erase`.
    Erased { after: Option<EntryKey> },
    /// Of a `Collect`: the tombstones that went; and how many live entries it has looked at, with their bytes.
    Collected { went: Vec<Entry>, entries: u64, bytes: u64, after: Option<EntryKey> },
    /// Of a `Row`.
    Read { went: Vec<Entry>, changed: Vec<Change> },
    /// Of an `EndScan`.
    Ended { after: Option<Key> },
}

/// An entry that is put, and what it replaces.
pub type Change = (Entry, Option<Entry>);

/// A state of the worker's under a name: roles, positions, watermarks; `None` removes it.
pub type State = (Vec<u8>, Option<Vec<u8>>);

/// All states, by name.
pub type States = BTreeMap<Vec<u8>, Vec<u8>>;

/// Why the store cannot go on.
#[derive(Debug, Error)]
pub enum StoreError {
    /// Nothing was written of the step; reads go on. It may be committed again, when there is room.
    #[error("the disk is full or read-only: {0}")]
    NoSpace(String),
    /// Reads go on; what to write is known only when the store is opened again.
    #[error("a write failed before, so none is taken until the store is opened again")]
    Stopped,
    #[error(
        "the store at {path} is of node {found}, not of {expected}: give each node a folder of its own"
    )]
    OtherNode { path: String, found: String, expected: String },
    #[error("the store at {path} is in use by another process")]
    InUse { path: String },
    #[error("the store is broken: {0}")]
    Broken(String),
}

/// What a worker stores.
pub trait Store {
    type Snapshot: Snapshot;

    fn states(&self) -> Result<States, StoreError>;

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

impl Page {
    /// Returns the first of all entries, as far as the limit goes.
    fn of(
        all: impl Iterator<Item = Result<Entry, StoreError>>,
        limit: Limit,
    ) -> Result<Self, StoreError> {
        let mut entries: Vec<Entry> = Vec::new();
        let mut bytes = 0;
        for entry in all {
            let entry = entry?;
            let payload = entry.payload.as_ref().map_or(0, Vec::len);
            bytes += entry.index_key.0.len() + entry.primary_key.0.len() + payload;
            if let Some(last) = entries.last()
                && (limit.entries <= entries.len() || limit.bytes < bytes)
            {
                return Ok(Self { next: Some(EntryKey::of(last)), entries });
            }
            entries.push(entry);
        }
        Ok(Self { entries, next: None })
    }
}

/// The entries as of one moment, for any thread.
pub trait Snapshot: Clone + Send + Sync {
    /// Returns entries of the interval behind `after`, tombstones among them.
    fn page(
        &self,
        span: &KeySpan,
        after: Option<&EntryKey>,
        limit: Limit,
    ) -> Result<Page, StoreError>;
}

fn is_below(floors: &[Floor], entry: &Entry) -> bool {
    floors.iter().any(|it| it.partition == entry.partition && entry.offset < it.offset)
}

#[cfg(test)]
mod tests;
