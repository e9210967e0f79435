//! Makes a store whole or not at all, though the disk is full or the process dies meanwhile.
//!
//! While the marker is there, nothing was ever stored: what else is there is made anew.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use super::StoreError;

/// The tree writes it when it is first opened.
const VERSION: &str = "version";

const MARKER: &str = "making";

/// A store that is being made; nobody else makes it meanwhile.
pub(super) struct Making {
    marker: PathBuf,
    _lock: File,
}

impl Making {
    /// Begins to make one, unless the folder holds one.
    pub(super) fn begin(dir: &Path) -> Result<Option<Self>, StoreError> {
        let marker = dir.join(MARKER);
        let has_store = dir.join(VERSION).try_exists().map_err(|err| super::io(&err))?;
        let open = |is_new| OpenOptions::new().write(true).create_new(is_new).open(&marker);
        let (lock, is_new) = match open(false) {
            Ok(it) => (it, false),
            Err(err) if err.kind() != ErrorKind::NotFound => return Err(super::io(&err)),
            Err(_) if has_store => return Ok(None),
            Err(_) => (open(true).map_err(|err| super::io(&err))?, true),
        };
        match lock.try_lock() {
            Ok(()) => (),
            Err(TryLockError::WouldBlock) => {
                return Err(StoreError::InUse { path: dir.display().to_string() });
            }
            Err(TryLockError::Error(err)) => return Err(super::io(&err)),
        }
        // Whoever had it before may have come to its end.
        if !marker.try_exists().map_err(|err| super::io(&err))? {
            return Ok(None);
        }
        let version = dir.join(VERSION);
        if is_new && version.try_exists().map_err(|err| super::io(&err))? {
            // Another has made all of it since it was looked for.
            std::fs::remove_file(&marker).map_err(|err| super::io(&err))?;
            return Ok(None);
        }
        sync(dir)?;
        clear(dir).map_err(|err| super::io(&err))?;
        Ok(Some(Self { marker, _lock: lock }))
    }

    /// The store is whole.
    pub(super) fn end(self) -> Result<(), StoreError> {
        std::fs::remove_file(&self.marker).map_err(|err| super::io(&err))?;
        // Or it might be there again after a power cut, and with it the end of what was stored since.
        sync(self.marker.parent().expect("it is in a folder"))
    }
}

fn sync(dir: &Path) -> Result<(), StoreError> {
    File::open(dir).and_then(|it| it.sync_all()).map_err(|err| super::io(&err))
}

/// Removes what the tree had made, and nothing else.
fn clear(dir: &Path) -> io::Result<()> {
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default();
        let is_journal = path.extension().is_some_and(|it| it == "jnl");
        if name == "keyspaces" {
            std::fs::remove_dir_all(&path)?;
        } else if is_journal || name == VERSION || name == "lock" {
            std::fs::remove_file(&path)?;
        }
    }
    Ok(())
}
