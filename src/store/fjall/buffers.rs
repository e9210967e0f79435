//! Keeps the write buffers of a store within their bounds.
//!
//! ```text
//!  commit ──> active ── full: replaced here ──> sealed, at most two ──> disk
//! ```
//!
//! The tree itself only asks the threads that write buffers to disk to replace one that is full; while these
//! are busy it grows without bound. So who commits replaces it, and waits for those that are not on disk yet.

use std::thread;
use std::time::Duration;

use fjall::{AbstractTree, Keyspace};

/// So many wait to be written to disk.
const SEALED_MAX: usize = 2;

/// How long, and how often, a commit waits for a buffer to be on disk; then it goes on, or says why not.
const WAIT: Duration = Duration::from_millis(1);
const WAITS_MAX: usize = 5_000;

/// The write buffers of a keyspace.
#[derive(Clone)]
pub(super) struct Buffers {
    pub(super) keyspace: Keyspace,
    /// Of one.
    pub(super) bytes_max: u64,
}

impl Buffers {
    /// Sees to it that the buffer to be written next is not full.
    pub(super) fn make_room(&self) -> fjall::Result<()> {
        let tree = &self.keyspace.tree;
        if tree.active_memtable().size() < self.bytes_max {
            return Ok(());
        }
        let mut waits = 0;
        while SEALED_MAX <= tree.sealed_memtable_count() && waits < WAITS_MAX {
            thread::sleep(WAIT);
            waits += 1;
        }
        self.keyspace.rotate_memtable().map(|_| ())
    }
}

#[cfg(test)]
mod tests {
    use fjall::{Database, KeyspaceCreateOptions};

    use super::*;

    #[test]
    fn buffers_are_bounded_however_quickly_they_are_written() {
        const BUFFER: u64 = 1 << 20;
        const BATCH: u64 = 256 << 10;
        let folder = tempfile::tempdir().unwrap();
        let db = Database::builder(folder.path()).worker_threads(2).open().unwrap();
        let options = || KeyspaceCreateOptions::default().max_memtable_size(BUFFER);
        let keyspace = db.keyspace("entries", options).unwrap();
        let buffers = Buffers { keyspace: keyspace.clone(), bytes_max: BUFFER };
        for round in 0..200_u64 {
            let mut batch = db.batch();
            for i in 0..BATCH >> 10 {
                batch.insert(&keyspace, (round << 32 | i).to_be_bytes(), vec![1; 1 << 10]);
            }
            buffers.make_room().unwrap();
            batch.commit().unwrap();
            // With what each entry takes beside its value.
            let active = keyspace.tree.active_memtable().size();
            assert!(active <= BUFFER + BATCH + BATCH / 4, "{active} bytes in round {round}");
            assert!(keyspace.tree.sealed_memtable_count() <= SEALED_MAX + 1);
        }
        assert_eq!(keyspace.len().unwrap(), (200 * (BATCH >> 10)) as usize);
    }
}
