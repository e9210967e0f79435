//! Watches how much room the disk has, so that writes stop before it has none.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use sysinfo::{Disk, DiskRefreshKind, Disks};

use super::StoreError;

/// Looked at once in so much of the reserve: what is written is written some times over.
const LOOK_PART: u64 = 16;

/// Less than that is not room.
const PROBE_BYTES: usize = 1 << 20;

pub(super) struct Space {
    dir: PathBuf,
    /// `None`: the system does not list the one that holds the folder, and it is not watched.
    disk: Option<Disk>,
    reserve_bytes: u64,
    /// Written since the disk was looked at; `None`: it had too little.
    since: Option<u64>,
}

impl Space {
    /// The folder must be there.
    pub(super) fn new(dir: &Path, reserve_bytes: u64) -> Self {
        let disk = if reserve_bytes == 0 { None } else { disk_of(dir) };
        Self { dir: dir.to_owned(), disk, reserve_bytes, since: None }
    }

    /// Refuses to write so many bytes, if the disk has no more than its reserve.
    pub(super) fn check(&mut self, bytes: u64) -> Result<(), StoreError> {
        let Some(disk) = &mut self.disk else { return Ok(()) };
        let since = self.since.map(|it| it + bytes);
        if since.is_some_and(|it| it < self.reserve_bytes / LOOK_PART) {
            self.since = since;
            return Ok(());
        }
        self.since = None;
        disk.refresh_specifics(storage());
        let free = disk.available_space();
        if free < self.reserve_bytes.saturating_add(bytes) {
            let Self { dir, reserve_bytes, .. } = self;
            return Err(StoreError::NoSpace(format!(
                "{free} bytes are free for {}, and {reserve_bytes} are kept in reserve",
                dir.display()
            )));
        }
        self.since = Some(0);
        Ok(())
    }
}

/// Returns all bytes of the disk that holds a folder, and those that are free.
pub fn room(dir: &Path) -> Option<(u64, u64)> {
    let disk = disk_of(dir)?;
    Some((disk.total_space(), disk.available_space()))
}

/// Tells whether a store that took no more writes for want of room can be opened again.
pub fn has_room(dir: &Path, reserve_bytes: u64) -> bool {
    let probe = dir.join("probe");
    let is_written = std::fs::write(&probe, [0; PROBE_BYTES]).is_ok();
    // It may not be there.
    _ = std::fs::remove_file(&probe);
    is_written && room(dir).is_none_or(|(_, free)| reserve_bytes.max(PROBE_BYTES as u64) < free)
}

/// Returns the disk that holds a folder. Its path does not tell: it may go through links, and some
/// file systems are not listed.
fn disk_of(dir: &Path) -> Option<Disk> {
    let device = |path: &Path| path.metadata().ok().map(|it| it.dev());
    let of_dir = device(dir)?;
    let disks = Vec::from(Disks::new_with_refreshed_list_specifics(storage()).ok()?);
    disks.into_iter().find(|it| device(it.mount_point()) == Some(of_dir))
}

fn storage() -> DiskRefreshKind {
    DiskRefreshKind::nothing().with_storage()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn disk_that_has_its_reserve_only_takes_nothing_however_often_it_is_asked() {
        let dir = tempfile::tempdir().unwrap();
        let (_, free) = room(dir.path()).unwrap();
        let mut space = Space::new(dir.path(), free.saturating_mul(2));
        for _ in 0..3 {
            let refused = space.check(1).unwrap_err();
            assert!(matches!(refused, StoreError::NoSpace(_)), "{refused}");
        }
        assert!(!has_room(dir.path(), free.saturating_mul(2)));
        assert!(has_room(dir.path(), 0));
        assert_eq!(std::fs::read_dir(&dir).unwrap().count(), 0, "nothing is left behind");
    }

    #[test]
    fn disk_is_looked_at_again_before_its_reserve_is_written() {
        let dir = tempfile::tempdir().unwrap();
        let mut space = Space::new(dir.path(), 16 * LOOK_PART);
        space.check(1).unwrap();
        assert_eq!(space.since, Some(0), "it was looked at");
        space.check(8).unwrap();
        space.check(7).unwrap();
        assert_eq!(space.since, Some(15));
        space.check(1).unwrap();
        assert_eq!(space.since, Some(0), "it was looked at");
        // More than there is, at once; and what comes then is not taken unseen.
        let refused = space.check(u64::MAX).unwrap_err();
        assert!(matches!(refused, StoreError::NoSpace(_)), "{refused}");
        space.reserve_bytes = u64::MAX;
        assert!(space.check(1).is_err());
    }
}
