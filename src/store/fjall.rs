//! Stores on disk, in a log-structured merge tree.
//!
//! ```text
//!  entries   composite key ──> version, payload       ┐
//!  aside     composite key ──> version, payload       │ one database: a batch over all of them is
//!  rows      scan, primary key ──> index keys         │ stored whole or not at all
//!  states    name ──> state                           ┘
//!  identity  node, store id, inbox, how `table` parts  written once, before anything else
//! ```
//!
//! * **One node's.** A folder that another node has written is refused.
//! * **What memory it takes is bounded** by a budget, though not what reads of it hold.
//! * **A full disk is seen before it is full**, by a reserve: nothing is half written, reads go on,
//!   and so do writes, once there is room. If the disk is full all the same, or broken, the store takes
//!   no more writes until it is opened again.
//! * **Made whole or not at all**: what a first start leaves behind that has failed, the next makes anew.

mod buffers;
mod making;
mod merge;
mod space;
mod staging;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use fjall::compaction::Leveled;
use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode, Readable};
use rand::rngs::OsRng;
use rand::{Rng, TryRngCore};
use schemas::range_segment::Entry;
use schemas::{Inbox, KeySpan, NodeId};
use serde::{Deserialize, Serialize};

use self::buffers::Buffers;
use self::making::Making;
use self::space::Space;
pub use self::space::{has_room, room};
use self::staging::Staged;
use super::{
    EntryKey, Limit, Outcome, Page, Snapshot, State, States, Store, StoreError, Write, key, value,
};

/// Of the budget, the block cache has one part in so many; the write buffers of entries one, each of up to
/// three at a time: one that is written, two that go to disk; those of what is aside, and of scans, half as much.
const CACHE_PART: u64 = 4;
const BUFFER_PART: u64 = 16;

/// Where tables are merged, the new one is kept in memory as long as it grows, up to its size, as its index
/// holds the blocks that its keys come from. There may be two at a time.
const TABLE_PART: u64 = 4;

/// The write buffers of what is small.
const SMALL_BUFFER_BYTES: u64 = 1 << 20;

/// Files that are held open.
const FILES_MAX: usize = 512;

/// Where and how to store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    pub dir: PathBuf,
    /// Of memory: for the cache and the write buffers.
    pub memory_bytes_max: u64,
    /// So much of the disk stays free.
    pub reserve_bytes: u64,
}

/// Whose store it is; written when it is first used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    pub node: NodeId,
    /// Random: tells a node that lost its disk from one that started again.
    pub store_id: String,
    /// The partition of its inboxes, fixed from then on.
    pub inbox: Inbox,
    /// Of `table`, fixed from then on: an entry's version is a partition and an offset (R24). Older stores do not
    /// say.
    #[serde(default)]
    pub table_partitions: Option<u32>,
}

/// A store in a folder; one thread has it, and gives readers to others.
pub struct FjallStore {
    tables: Tables,
    identity: Option<Identity>,
    staged: Staged,
    space: Space,
}

#[derive(Clone)]
struct Tables {
    db: Database,
    entries: Keyspace,
    aside: Keyspace,
    rows: Keyspace,
    states: Keyspace,
    identity: Keyspace,
    /// Of those that grow with the data.
    buffers: [Buffers; 3],
}

/// Takes snapshots of a store from any thread.
#[derive(Clone)]
pub struct Reader {
    db: Database,
    entries: Keyspace,
}

/// The entries as of one moment.
#[derive(Clone)]
pub struct FjallSnapshot {
    entries: Keyspace,
    as_of: fjall::Snapshot,
}

impl Identity {
    /// Returns one with a store id of its own.
    pub fn new(node: NodeId, inbox: Inbox, table_partitions: u32) -> Self {
        let store_id = OsRng.unwrap_err().random::<u128>();
        Self {
            node,
            store_id: format!("{store_id:032x}"),
            inbox,
            table_partitions: Some(table_partitions),
        }
    }
}

impl FjallStore {
    /// Opens the store of a node, or makes an empty one, which has no identity yet.
    pub fn open(options: &Options, node: &NodeId) -> Result<Self, StoreError> {
        let Options { dir, memory_bytes_max, reserve_bytes } = options;
        std::fs::create_dir_all(dir).map_err(|err| io(&err))?;
        let making = Making::begin(dir)?;
        let mut space = Space::new(dir, *reserve_bytes);
        if making.is_some() {
            space.check(0)?;
        }
        let tables = Tables::open(dir, *memory_bytes_max).map_err(|err| {
            if matches!(err, fjall::Error::Locked) {
                return StoreError::InUse { path: dir.display().to_string() };
            }
            failed(&err)
        })?;
        if let Some(it) = making {
            it.end()?;
        }
        let identity = tables.identity.get(IDENTITY).map_err(|err| failed(&err))?;
        let identity = identity.map(|it| serde_json::from_slice::<Identity>(&it));
        let identity = identity.transpose().map_err(|it| StoreError::Broken(it.to_string()))?;
        if let Some(of) = &identity
            && of.node != *node
        {
            return Err(StoreError::OtherNode {
                path: dir.display().to_string(),
                found: of.node.0.clone(),
                expected: node.0.clone(),
            });
        }
        Ok(Self { tables, identity, staged: Staged::default(), space })
    }

    /// Returns whose store it is; `None`: it is new.
    pub fn identity(&self) -> Option<&Identity> {
        self.identity.as_ref()
    }

    /// Says whose store it is from now on, with the states that it begins with, and syncs.
    pub fn begin(&mut self, identity: Identity, states: Vec<State>) -> Result<(), StoreError> {
        assert!(self.identity.is_none(), "a store is begun once");
        let json = serde_json::to_vec(&identity).expect("an identity has a JSON form");
        self.space.check(json.len() as u64)?;
        let mut batch = self.tables.db.batch();
        batch.insert(&self.tables.identity, IDENTITY, json);
        self.tables.add_states(&mut batch, states);
        batch.commit().map_err(|err| failed(&err))?;
        self.sync()?;
        self.identity = Some(identity);
        Ok(())
    }

    pub fn reader(&self) -> Reader {
        Reader { db: self.tables.db.clone(), entries: self.tables.entries.clone() }
    }

    /// Returns what the store takes of the disk.
    pub fn disk_bytes(&self) -> Result<u64, StoreError> {
        self.tables.db.disk_space().map_err(|err| failed(&err))
    }
}

const IDENTITY: &str = "identity";

impl Tables {
    fn open(dir: &Path, memory_bytes_max: u64) -> fjall::Result<Self> {
        let db = Database::builder(dir)
            .cache_size(memory_bytes_max / CACHE_PART)
            .max_cached_files(Some(FILES_MAX))
            // One that writes buffers to disk, two that compact: it passes on what they are asked, again
            // and again as long as neither takes it, and with one of them that would be most of the time.
            .worker_threads(3)
            .open()?;
        let table = (memory_bytes_max / TABLE_PART).clamp(2 * SMALL_BUFFER_BYTES, 64 << 20);
        let merging = Arc::new(Leveled::default().with_table_target_size(table));
        let keyspace = |name: &str, buffer: u64| {
            let options = || {
                KeyspaceCreateOptions::default()
                    .max_memtable_size(buffer)
                    .compaction_strategy(merging.clone())
            };
            db.keyspace(name, options)
        };
        let buffer = (memory_bytes_max / BUFFER_PART).clamp(SMALL_BUFFER_BYTES, 64 << 20);
        let half = (buffer / 2).max(SMALL_BUFFER_BYTES);
        let entries = keyspace("entries", buffer)?;
        let aside = keyspace("aside", half)?;
        let rows = keyspace("rows", half)?;
        let buffers = [(&entries, buffer), (&aside, half), (&rows, half)]
            .map(|(it, bytes_max)| Buffers { keyspace: it.clone(), bytes_max });
        Ok(Self {
            entries,
            aside,
            rows,
            states: keyspace("states", SMALL_BUFFER_BYTES)?,
            identity: keyspace(IDENTITY, SMALL_BUFFER_BYTES)?,
            buffers,
            db,
        })
    }

    fn add_states(&self, batch: &mut fjall::OwnedWriteBatch, states: Vec<State>) -> u64 {
        let mut bytes = 0;
        for (name, state) in states {
            bytes += name.len() + state.as_ref().map_or(0, Vec::len);
            match state {
                Some(state) => batch.insert(&self.states, name, state),
                None => batch.remove(&self.states, name),
            }
        }
        bytes as u64
    }
}

impl Store for FjallStore {
    type Snapshot = FjallSnapshot;

    fn states(&self) -> Result<States, StoreError> {
        let states = self.tables.states.iter().map(|it| {
            let (name, state) = it.into_inner().map_err(|err| failed(&err))?;
            Ok((name.to_vec(), state.to_vec()))
        });
        states.collect()
    }

    fn stage(&mut self, writes: Vec<Write>) -> Result<Vec<Outcome>, StoreError> {
        // What fails leaves nothing staged.
        self.staged = Staged::default();
        let mut staged = Staged::default();
        let outcomes = writes.into_iter().map(|it| staged.write(&self.tables, it));
        let outcomes = outcomes.collect::<Result<_, _>>()?;
        self.staged = staged;
        Ok(outcomes)
    }

    fn commit(&mut self, states: Vec<State>) -> Result<(), StoreError> {
        // What fails keeps its stage, so that it can be tried again.
        let mut batch = self.tables.db.batch();
        let bytes = self.staged.add_to(&self.tables, &mut batch)
            + self.tables.add_states(&mut batch, states);
        self.space.check(bytes)?;
        let room = self.tables.buffers.iter().try_for_each(Buffers::make_room);
        room.and_then(|()| batch.commit()).map_err(|err| failed(&err))?;
        self.staged = Staged::default();
        Ok(())
    }

    fn sync(&mut self) -> Result<(), StoreError> {
        self.tables.db.persist(PersistMode::SyncAll).map_err(|err| failed(&err))
    }

    fn snapshot(&self) -> FjallSnapshot {
        self.reader().snapshot()
    }
}

impl Reader {
    /// Returns what is committed, as of now.
    pub fn snapshot(&self) -> FjallSnapshot {
        FjallSnapshot { entries: self.entries.clone(), as_of: self.db.snapshot() }
    }
}

impl Snapshot for FjallSnapshot {
    fn page(
        &self,
        span: &KeySpan,
        after: Option<&EntryKey>,
        limit: Limit,
    ) -> Result<Page, StoreError> {
        let Some(bounds) = merge::not_empty(key::bounds(span, after)) else {
            return Page::of(std::iter::empty(), limit);
        };
        let entry = |it: fjall::Guard| -> Result<Entry, StoreError> {
            let (key, value) = it.into_inner().map_err(|err| failed(&err))?;
            value::decode(&key, &value)
        };
        Page::of(self.as_of.range(&self.entries, bounds).map(entry), limit)
    }
}

fn failed(err: &fjall::Error) -> StoreError {
    let mut source = std::error::Error::source(err);
    while let Some(err) = source {
        if let Some(err) = err.downcast_ref() {
            return io(err);
        }
        source = err.source();
    }
    if matches!(err, fjall::Error::Poisoned) {
        return StoreError::Stopped;
    }
    StoreError::Broken(err.to_string())
}

fn io(err: &std::io::Error) -> StoreError {
    use std::io::ErrorKind::{QuotaExceeded, ReadOnlyFilesystem, StorageFull};
    if matches!(err.kind(), StorageFull | QuotaExceeded | ReadOnlyFilesystem) {
        return StoreError::NoSpace(err.to_string());
    }
    StoreError::Broken(err.to_string())
}
