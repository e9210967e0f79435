//! Measures how the machine does: processor, memory, disk.

use std::path::PathBuf;

use sysinfo::{CpuRefreshKind, MemoryRefreshKind, ProcessRefreshKind, ProcessesToUpdate, System};

use super::report::Gauged;
use crate::store::fjall::room;

/// Looks at the machine now and then. What it tells of use is since it looked last.
pub struct Gauge {
    /// `None`: the system does not tell.
    system: Option<System>,
    dir: PathBuf,
    /// What the disk can do, if that is known.
    io_bytes_per_s: Option<u64>,
}

impl Gauge {
    /// `dir` is where the store is.
    pub fn new(dir: PathBuf, io_bytes_per_s: Option<u64>) -> Self {
        let mut res = Self { system: System::new().ok(), dir, io_bytes_per_s };
        // What it says of use is since it was asked last.
        res.gauge(0);
        res
    }

    /// Looks; `since_ms` is how long ago it did so last.
    pub fn gauge(&mut self, since_ms: u64) -> Gauged {
        let disk = room(&self.dir);
        let mut res = Gauged {
            disk_bytes_total: disk.map(|it| it.0),
            disk_bytes_used: disk.map(|it| it.0.saturating_sub(it.1)),
            io_load: self.io_load(since_ms),
            ..Gauged::default()
        };
        let Some(system) = &mut self.system else { return res };
        system.refresh_cpu_specifics(CpuRefreshKind::nothing().with_usage());
        system.refresh_memory_specifics(MemoryRefreshKind::nothing().with_ram());
        let (total, used) = (system.total_memory(), system.used_memory());
        res.cpu_load = Some(part(f64::from(system.global_cpu_usage()) / 100.0));
        // All its processors do, serving and nothing else.
        res.capacity_us_per_s = Some(system.cpus().len().max(1) as f64 * 1e6);
        if total > 0 {
            res.memory_load = Some(part(used as f64 / total as f64));
            (res.memory_bytes_total, res.memory_bytes_used) = (Some(total), Some(used));
        }
        res
    }

    /// What this process has read and written since, as a part of what the disk can do.
    fn io_load(&mut self, since_ms: u64) -> Option<f64> {
        let (limit, system) = (self.io_bytes_per_s?, self.system.as_mut()?);
        let me = sysinfo::get_current_pid().ok()?;
        let what = ProcessRefreshKind::nothing().with_disk_usage();
        system.refresh_processes_specifics(ProcessesToUpdate::Some(&[me]), false, what);
        let usage = system.process(me)?.disk_usage();
        let bytes = usage.read_bytes + usage.written_bytes;
        let possible = limit as f64 * since_ms as f64 / 1000.0;
        (possible > 0.0).then(|| part(bytes as f64 / possible))
    }
}

fn part(it: f64) -> f64 {
    it.clamp(0.0, 1.0)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn machine_tells_what_it_has() {
        let dir = tempfile::tempdir().unwrap();
        let gauged = Gauge::new(dir.path().to_owned(), Some(1 << 30)).gauge(1_000);
        assert!(gauged.cpu_load.is_some_and(|it| (0.0..=1.0).contains(&it)), "{gauged:?}");
        assert!(gauged.memory_bytes_used <= gauged.memory_bytes_total, "{gauged:?}");
        assert!(gauged.memory_bytes_total.is_some_and(|it| it > 1 << 20), "{gauged:?}");
        assert!(gauged.capacity_us_per_s.is_some_and(|it| it >= 1e6), "{gauged:?}");
    }

    #[test]
    fn io_is_a_part_of_what_the_disk_is_said_to_do() {
        // On the disk of the tree: one of memory has no reads and writes.
        let dir = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        let of = |limit| {
            let mut gauge = Gauge::new(dir.path().to_owned(), limit);
            let mut file = tempfile::tempfile_in(dir.path()).unwrap();
            file.write_all(&[7; 4 << 20]).unwrap();
            file.sync_all().unwrap();
            gauge.gauge(1_000).io_load
        };
        // Other tests of this process may write as well.
        assert_eq!(of(None), None);
        let load = of(Some(1 << 30)).unwrap();
        assert!((0.0039..1.0).contains(&load), "{load}");
        assert_eq!(of(Some(1 << 20)), Some(1.0));
    }
}
