//! Watches how much room the disk has, so that writes stop before it has none.

use std::path::{Path, PathBuf};

use sysinfo::Disks;

use super::StoreError;

/// Looked at once in so much of the reserve: what is written is written some times over.
const LOOK_PART: u64 = 16;

pub(super) struct Space {
    dir: PathBuf,
    reserve_bytes: u64,
    /// Written since the disk was looked at; `None`: it had too little.
    since: Option<u64>,
}

impl Space {
    pub(super) fn new(dir: &Path, reserve_bytes: u64) -> Self {
        let dir = std::path::absolute(dir).unwrap_or(dir.to_owned());
        Self { dir, reserve_bytes, since: None }
    }

    /// Refuses to write so many bytes, if the disk has no more than its reserve.
    pub(super) fn check(&mut self, bytes: u64) -> Result<(), StoreError> {
        let since = self.since.map(|it| it + bytes);
        if since.is_some_and(|it| it < self.reserve_bytes / LOOK_PART) {
            self.since = since;
            return Ok(());
        }
        self.since = None;
        // A disk that the system does not list is not watched.
        let free = self.free_bytes();
        if let Some(free) = free.filter(|it| *it < self.reserve_bytes.saturating_add(bytes)) {
            let Self { dir, reserve_bytes, .. } = self;
            return Err(StoreError::NoSpace(format!(
                "{free} bytes are free for {}, and {reserve_bytes} are kept in reserve",
                dir.display()
            )));
        }
        self.since = Some(0);
        Ok(())
    }

    fn free_bytes(&self) -> Option<u64> {
        let disks = Disks::new_with_refreshed_list();
        let holds = disks.list().iter().filter(|it| self.dir.starts_with(it.mount_point()));
        let disk = holds.max_by_key(|it| it.mount_point().as_os_str().len())?;
        Some(disk.available_space())
    }
}
