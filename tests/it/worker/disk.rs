//! Disks that are full, or cannot be written, under a worker.
//!
//! A file system with files open for writing refuses to be made read-only by hand, so a disk that becomes so
//! under a worker is an ext4 that is aborted: the kernel makes it read-only as it does after an error.

use std::path::PathBuf;
use std::process::Command;

use schemas::node_capacity::{NodeCapacity, NodeState};

use super::*;
use crate::world::say;

/// Enough for the store as it begins.
const DISK_MB: u64 = 128;

/// Less than the reserve, and more than the store writes before it looks, and where it merges behind our back.
const LITTLE_MB: u64 = 14;

#[test]
fn worker_on_a_full_disk_serves_reads_and_goes_on_when_there_is_room() {
    let Some(mut play) = Play::create("worker-full") else { return };
    let Some(disk) = Disk::mount(&play.world) else { return };
    // A first start without room makes no store.
    play.world.more = FULL;
    disk.fill(LITTLE_MB);
    let refused = play.worker("a");
    let log = refused.log_path();
    assert_eq!(refused.ended().code(), Some(1));
    let told = std::fs::read_to_string(log).unwrap();
    assert!(bare(&told).contains(&bare("are kept in reserve")), "{told}");
    disk.empty();

    play.rows(keys());
    let mut a = play.worker("a");
    let b = play.world.start("b", &["worker", "--dir", "elsewhere", "--node-id", "b"], None);
    let _channel = play.channel();
    await_waiting(&a);
    await_waiting(&b);
    play.begin_with(["a", "b"]);
    assert_eq!(play.await_read(&a, "c1", 1), "of c1");
    disk.fill(LITTLE_MB);
    play.rows(keys().map(|it| long(&it, "late")));
    check_reads_alone(&play, &mut a);
    // Killed while it is full, it starts when there is room.
    a.kill();
    disk.empty();
    let a = play.worker("a");
    assert_eq!(play.await_read(&a, &long("c1", "late"), 1), format!("of {}", long("c1", "late")));
    // Once more, and without a start.
    disk.fill(LITTLE_MB);
    play.rows(keys().map(|it| long(&it, "later")));
    await_that("a worker that takes no writes", || {
        a.ask("/readyz?verbose")?.1.contains("[-] store: writes have stopped").then_some(())
    });
    disk.empty();
    let later = long("c1", "later");
    assert_eq!(play.await_read(&a, &later, 1), format!("of {later}"));
    a.await_log("there is room again", 1);
    play.moves(&Move { id: 11, span: ("m", ""), from: ("b", 1), to: "a" });
    play.check_verified();
}

#[test]
fn worker_whose_write_has_failed_serves_reads_until_there_is_room() {
    let Some(mut play) = Play::create("worker-failed") else { return };
    let Some(disk) = Disk::mount(&play.world) else { return };
    play.world.more = NO_RESERVE;
    // A first start without room leaves nothing behind that a second one cannot use.
    disk.fill(0);
    let refused = play.worker("a");
    let log = refused.log_path();
    assert_eq!(refused.ended().code(), Some(1));
    let told = std::fs::read_to_string(log).unwrap();
    assert!(told.contains("the disk is full or read-only"), "{told}");
    disk.empty();
    play.rows(keys());
    let mut a = play.worker("a");
    let _channel = play.channel();
    await_waiting(&a);
    play.begin_with(["a", "a"]);
    assert_eq!(play.await_read(&a, "c1", 1), "of c1");
    disk.fill(0);
    play.rows(keys().map(|it| long(&it, "late")));
    check_reads_alone(&play, &mut a);
    // What has failed is not tried again before the store is opened anew.
    disk.empty();
    let log = a.log_path();
    assert_eq!(a.ended().code(), Some(1));
    let told = std::fs::read_to_string(log).unwrap();
    assert!(bare(&told).contains(&bare("start the worker again")), "{told}");
    let a = play.worker("a");
    let late = long("c1", "late");
    assert_eq!(play.await_read(&a, &late, 1), format!("of {late}"));
    play.check_verified();
}

#[test]
fn worker_does_not_start_on_a_disk_that_is_read_only_and_goes_on_when_it_is_not() {
    let Some(mut play) = Play::create("worker-read-only") else { return };
    let Some(disk) = Disk::mount(&play.world) else { return };
    play.world.more = FULL;
    play.rows(keys());
    let a = play.worker("a");
    let _channel = play.channel();
    await_waiting(&a);
    play.begin_with(["a", "a"]);
    a.kill();
    disk.is_read_only(true);
    play.rows(keys().map(|it| long(&it, "late")));
    let refused = play.worker("a");
    let log = refused.log_path();
    assert_eq!(refused.ended().code(), Some(1));
    let told = std::fs::read_to_string(log).unwrap();
    assert!(bare(&told).contains(&bare("the disk is full or read-only")), "{told}");
    disk.is_read_only(false);
    let a = play.worker("a");
    let late = long("c1", "late");
    assert_eq!(play.await_read(&a, &late, 1), format!("of {late}"));
    play.check_verified();
}

#[test]
fn worker_whose_disk_becomes_read_only_serves_reads_and_goes_on_when_it_is_mounted_again() {
    let Some(mut play) = Play::create("worker-aborted") else { return };
    let Some(disk) = Disk::mount_ext4(&play.world) else { return };
    play.world.more = FULL;
    play.rows(keys());
    let mut a = play.worker("a");
    let _channel = play.channel();
    await_waiting(&a);
    play.begin_with(["a", "a"]);
    assert_eq!(play.await_read(&a, "c1", 1), "of c1");
    disk.abort();
    play.rows(keys().map(|it| long(&it, "late")));
    check_reads_alone(&play, &mut a);
    let log = a.log_path();
    a.kill();
    let told = std::fs::read_to_string(log).unwrap();
    assert!(told.contains("Read-only file system"), "{told}");
    disk.mount_again();
    let a = play.worker("a");
    let late = long("c1", "late");
    assert_eq!(play.await_read(&a, &late, 1), format!("of {late}"));
    play.check_verified();
}

/// Waits until worker a takes no writes and says so, and reads of it nevertheless.
fn check_reads_alone(play: &Play, a: &mut Process) {
    await_that("a worker that takes no writes", || {
        assert!(!a.has_ended(), "it serves reads still");
        let (status, body) = a.ask("/readyz?verbose")?;
        (status == 503 && body.contains("[-] store: writes have stopped")).then_some(())
    });
    await_that("a report of it", || {
        let all = play.world.values::<NodeCapacity>();
        let last = all.iter().rfind(|it| it.node_id.0 == "a")?;
        (last.state == NodeState::ReadOnly).then_some(())
    });
    assert_eq!(play.await_read(a, "c1", 1), "of c1", "reads go on");
}

/// A key, so long that some rows of such fill what the store writes between two looks at the disk.
fn long(key: &str, when: &str) -> String {
    format!("{key} {when} {}", "x".repeat(15_000))
}

const FULL: &str = "[channel]\nwatermark_every = '200ms'\n[worker]\nreport_every = '100ms'\ngrace = '500ms'\nmemory_bytes = 67108864\ndisk_reserve_bytes = 16777216";

const EXT4: &str = "loop,errors=remount-ro";

const NO_RESERVE: &str = "[channel]\nwatermark_every = '200ms'\n[worker]\nreport_every = '100ms'\ngrace = '500ms'\nmemory_bytes = 67108864\ndisk_reserve_bytes = 0";

/// A small disk of its own under the stores.
struct Disk(PathBuf);

impl Disk {
    /// Mounts one, or says that the test is skipped.
    fn mount(world: &World) -> Option<Self> {
        let size = format!("size={DISK_MB}m");
        Self::mounted(world, &["-t", "tmpfs", "-o", &size, "isotherm-test"])
    }

    /// The same of ext4 on an image in a file, which can be aborted.
    fn mount_ext4(world: &World) -> Option<Self> {
        let image = world.folder.path().join("disk.img");
        std::fs::File::create(&image).unwrap().set_len(DISK_MB << 20).unwrap();
        let made = Command::new("mkfs.ext4").args(["-q", "-F"]).arg(&image).output();
        if !made.as_ref().is_ok_and(|it| it.status.success()) {
            say(&format!("SKIPPED: ext4 cannot be made here: {made:?}"));
            return None;
        }
        Self::mounted(world, &["-t", "ext4", "-o", EXT4, image.to_str().unwrap()])
    }

    fn mounted(world: &World, args: &[&str]) -> Option<Self> {
        let path = world.folder.path().join("data");
        std::fs::create_dir_all(&path).unwrap();
        let output = Command::new("mount").args(args).arg(&path).output();
        if output.as_ref().is_ok_and(|it| it.status.success()) {
            return Some(Self(path));
        }
        say(&format!("SKIPPED: a small disk cannot be mounted here: {output:?}"));
        None
    }

    /// Leaves so much room, and never less: a store that merges meanwhile would not find what it needs.
    fn fill(&self, left_mb: u64) {
        let mut file = std::fs::File::create(self.filler()).unwrap();
        while let Some(more) = self.free().checked_sub(left_mb << 20).filter(|it| *it > 0) {
            // Others write, too; then it is less.
            if file.write_all(&vec![0; more.min(1 << 20) as usize]).is_err() {
                break;
            }
        }
        // And what a file system keeps for itself.
        while left_mb == 0 && file.write(&[0; 512]).is_ok_and(|it| it > 0) {}
    }

    fn free(&self) -> u64 {
        let output = Command::new("df").args(["--output=avail", "-B1"]).arg(&self.0).output();
        let told = String::from_utf8(output.unwrap().stdout).unwrap();
        told.lines().last().unwrap().trim().parse().unwrap()
    }

    fn empty(&self) {
        std::fs::remove_file(self.filler()).unwrap();
    }

    /// Nothing of it may be open for writing.
    fn is_read_only(&self, read_only: bool) {
        self.run("mount", &["-o", if read_only { "remount,ro" } else { "remount,rw" }]);
    }

    /// It becomes read-only as after an error of the medium, though files of it are open for writing.
    fn abort(&self) {
        self.run("mount", &["-o", "remount,abort"]);
    }

    /// An ext4 that was aborted is writable again; nothing of it may be open.
    fn mount_again(&self) {
        self.run("umount", &[]);
        let image = self.0.with_file_name("disk.img");
        self.run("mount", &["-t", "ext4", "-o", EXT4, image.to_str().unwrap()]);
    }

    fn run(&self, command: &str, args: &[&str]) {
        let done = Command::new(command).args(args).arg(&self.0).output().unwrap();
        assert!(done.status.success(), "{done:?}");
    }

    fn filler(&self) -> PathBuf {
        self.0.join("filler")
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // A worker that is still there keeps it until it ends.
        _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}
