//! Applies entries in a bare loop over a tree: each key is asked for and its value inserted, ready-made, in
//! one batch a step. It knows no versions, decides nothing, and stores no state.

use std::path::Path;

use fjall::{Database, Keyspace, KeyspaceCreateOptions, UserKey, UserValue};
use schemas::range_segment::Entry;

/// As many as a worker takes in a step.
pub const STEP: usize = 500;

/// Key and value, ready-made.
pub type Pair = (Vec<u8>, Vec<u8>);

/// A tree.
pub struct Bare {
    pub db: Database,
    pub entries: Keyspace,
}

impl Bare {
    /// Shares out its memory as the store of a worker does.
    pub fn open(dir: &Path, memory_bytes: u64) -> Self {
        let open = || -> fjall::Result<_> {
            let db =
                Database::builder(dir).cache_size(memory_bytes / 4).worker_threads(3).open()?;
            let options = || KeyspaceCreateOptions::default().max_memtable_size(memory_bytes / 16);
            let entries = db.keyspace("entries", options)?;
            Ok(Self { db, entries })
        };
        open().expect("an empty folder can be opened")
    }

    /// Applies a step, and returns how many of its keys were there before it.
    pub fn step<K, V>(&self, step: impl IntoIterator<Item = (K, V)>) -> usize
    where
        K: AsRef<[u8]> + Into<UserKey>,
        V: Into<UserValue>,
    {
        let mut found = 0;
        let mut batch = self.db.batch();
        for (key, value) in step {
            found += usize::from(self.entries.get(&key).expect("keys can be read").is_some());
            batch.insert(&self.entries, key, value);
        }
        batch.commit().expect("there is room");
        found
    }
}

/// Makes of an entry what a worker stores of it.
pub fn ready(it: &Entry) -> Pair {
    let key = [&it.index_key.0[..], &[0, 0], &it.primary_key.0].concat();
    let payload = it.payload.as_deref().unwrap_or_default();
    let value = [&[1][..], &it.partition.to_le_bytes(), &it.offset.to_le_bytes(), payload];
    (key, value.concat())
}
