//! Decides what a scan of the source table puts, and when it is whole (R22).
//!
//! ```text
//!  of a partition, behind the erasing of all intervals of the generation
//!             rows            end, at or behind a watermark of it
//!  Scanning ───────> Scanning ───────────────────────────────────> Done: floor := position
//!
//!  of the scan
//!  all Done, and of each a watermark at or above its floor ──> what is aside is applied
//! ```
//!
//! * **One scan for all** that a generation gives to this node, by primary key: a row replaces whatever
//!   the scan holds for it.
//! * **An end counts only behind a watermark** of the generation: what was sent by an older map is before
//!   it, what is sent by this one is aside.
//! * **In time, or anew (R24).** What a scan has passed may be deleted behind it, and the deletion is kept
//!   for a while only. A scan that has come to no end for that time begins again with nothing. At an end it
//!   may stand for as long as nothing comes: but what comes after that time may be behind a deletion that is
//!   gone, as when Kafka was away, so then it begins again, too.
//! * **No row, or nothing that can be read, is a row that was deleted (R23)**: whether what was before it
//!   is still in the table is chance.

use std::collections::BTreeSet;

use schemas::range_segment::Entry;
use schemas::{Key, Millis};

use super::events::{Action, Ignored};
use super::machine::{Of, Worker};
use super::queue::Bytes;
use super::queues::Left;
use super::states::{Applying, Erasing, Held, Name, Origin, Rebuild, Role, Scanning, Size, Then};
use crate::store::{Outcome, Scan, Write};
use crate::transfer::digest::Floors;

/// What a scan has come to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Scanned {
    Row { scan: Scan, partition: u32, offset: u64, primary_key: Key, entries: Vec<Entry> },
    End { scan: Scan, partition: u32, position: u64 },
}

impl Scanned {
    fn scan(&self) -> Scan {
        match self {
            Self::Row { scan, .. } | Self::End { scan, .. } => *scan,
        }
    }
}

impl Bytes for Scanned {
    fn bytes(&self) -> usize {
        match self {
            Self::Row { primary_key, entries, .. } => primary_key.0.len() + entries.bytes(),
            Self::End { .. } => 0,
        }
    }
}

impl Worker {
    pub(super) fn take_rows(&mut self, mut left: Left) {
        while left.has_some() {
            let Some(next) = self.rows.pop_front() else { return };
            left.take(next.bytes());
            match next {
                Scanned::Row { scan, partition, offset, primary_key, entries } => {
                    if self.goes_on(scan, partition, offset + 1) {
                        let is_of_it = |it: &Entry| self.is_scanned(scan, &it.index_key);
                        let entries = entries.into_iter().filter(is_of_it).collect();
                        self.write(Of::Row, Write::Row { scan, primary_key, entries });
                    }
                }
                Scanned::End { scan, partition, position } => {
                    let is_known = self.at_end.get(&(scan, partition)) == Some(&position);
                    if !is_known && self.goes_on(scan, partition, position) {
                        self.at_end.insert((scan, partition), position);
                        self.scan_from_now(scan, partition);
                        self.check_scans();
                    }
                }
            }
        }
    }

    /// Takes in how far a partition is scanned; tells whether the scan goes on from there. It does not if it
    /// has stood at an end before that for too long (R24).
    fn goes_on(&mut self, scan: Scan, partition: u32, position: u64) -> bool {
        if !self.advance_scan(scan, partition, position) {
            return false;
        }
        if self.at_end.remove(&(scan, partition)).is_some() {
            self.end_slow_scans();
            return self.scanning.contains(&scan);
        }
        true
    }

    /// Takes in how far a partition is scanned; tells whether it is still to be.
    fn advance_scan(&mut self, scan: Scan, partition: u32, position: u64) -> bool {
        let Some(partitions) = self.remembered.scans.get_mut(&scan) else { return false };
        let it = partitions.entry(partition).or_default();
        if it.done.is_some() || position < it.position {
            return false;
        }
        it.position = position;
        self.changed.insert(Name::Scan(scan));
        true
    }

    /// All that was there until now is seen.
    fn scan_from_now(&mut self, scan: Scan, partition: u32) {
        let now = self.now;
        let scanned = self.remembered.scans.get_mut(&scan).and_then(|it| it.get_mut(&partition));
        if let Some(it) = scanned {
            it.since = now;
            self.changed.insert(Name::Scan(scan));
        }
    }

    fn is_scanned(&self, scan: Scan, key: &Key) -> bool {
        let role = self.remembered.at(key).map(|it| &it.role);
        matches!(role, Some(Role::Rebuild(it)) if it.scan == scan)
    }

    pub(super) fn row_put(&mut self, outcome: Outcome) {
        let Outcome::Read { went, changed } = outcome else { return };
        for entry in &went {
            if let Some(it) = self.size_at(&entry.index_key) {
                it.went(entry);
            }
        }
        for (entry, replaced) in &changed {
            if let Some(it) = self.size_at(&entry.index_key) {
                it.change(entry, replaced.as_ref());
            }
        }
    }

    /// The size of what is scanned; its scan may have ended in the very step that has read a row.
    fn size_at(&mut self, key: &Key) -> Option<&mut Size> {
        let start = self.remembered.at(key)?.span.start.clone();
        match self.role_mut(&start) {
            Some(Role::Rebuild(it)) => Some(&mut it.size),
            Some(Role::Applying(it)) => Some(&mut it.size),
            Some(Role::Active(_) | Role::Erasing(_) | Role::Import(_) | Role::Leaving(_))
            | None => None,
        }
    }

    /// Ends scans that are whole; the map, a watermark or an end of `table` may have made them so.
    pub(super) fn check_scans(&mut self) {
        let scans: Vec<_> = self.remembered.scans.keys().copied().collect();
        for scan in scans {
            let is_wanted = |role: &Role| role.scan() == Some(scan);
            if self.starts(is_wanted).is_empty() {
                self.end_scan(scan);
                continue;
            }
            if !self.scanning.contains(&scan) {
                continue;
            }
            for partition in 0..self.settings.partitions {
                self.check_end(scan, partition);
            }
            if let Some(floors) = self.scan_floors(scan) {
                self.apply_scan(scan, &floors);
                self.end_scan(scan);
            }
        }
    }

    /// An end before the watermark does not count: what was compacted away may be gone because of rows
    /// that come later.
    fn check_end(&mut self, scan: Scan, partition: u32) {
        let mark = self.remembered.marks.get(&partition).filter(|it| scan.0 <= it.generation);
        let (Some(mark), Some(end)) = (mark, self.at_end.get(&(scan, partition))) else { return };
        let scanned = self.remembered.scans.get_mut(&scan).map(|it| it.entry(partition));
        let Some(scanned) = scanned.map(|it| it.or_default()) else { return };
        if scanned.done.is_none() && mark.offset <= *end {
            scanned.done = Some(*end);
            self.changed.insert(Name::Scan(scan));
            self.step.then.push(Action::EndTable { scan, partition });
        }
    }

    /// Returns the floors that a scan gives, if it is whole. What it has read ahead of every watermark
    /// is not to be served before the watermark comes.
    fn scan_floors(&self, scan: Scan) -> Option<Floors> {
        let floor = |partition: u32| {
            let floor = self.remembered.scans[&scan].get(&partition)?.done?;
            let mark = self.remembered.marks.get(&partition)?;
            let is_told = scan.0 <= mark.generation && floor <= mark.offset;
            is_told.then_some((partition, floor))
        };
        (0..self.settings.partitions).map(floor).collect()
    }

    fn apply_scan(&mut self, scan: Scan, floors: &Floors) {
        for start in self.starts(|role| matches!(role, Role::Rebuild(it) if it.scan == scan)) {
            let Held { span, role } = self.remembered.roles[&start].clone();
            let Role::Rebuild(Rebuild { epoch, migration, size, .. }) = role else { continue };
            let from = Origin::Table { migration };
            let floors = floors.clone();
            let applying = Applying { epoch, commit: scan.0, floors, after: None, from, size };
            self.hold(Held { span, role: Role::Applying(applying) });
        }
    }

    fn end_scan(&mut self, scan: Scan) {
        self.stop_scan(scan);
        self.remembered.scans.remove(&scan);
        self.changed.insert(Name::Scan(scan));
        self.remembered.ended_scans.insert(scan, None);
        self.changed.insert(Name::EndedScan(scan));
    }

    /// Reads no more of the table for a scan.
    fn stop_scan(&mut self, scan: Scan) {
        let partitions = &self.remembered.scans[&scan];
        if self.scanning.remove(&scan) {
            for partition in 0..self.settings.partitions {
                if partitions.get(&partition).is_none_or(|it| it.done.is_none()) {
                    self.step.then.push(Action::EndTable { scan, partition });
                }
            }
        }
        self.at_end.retain(|it, _| it.0 != scan);
    }

    /// Lets scans begin again that have come to no end for too long (R24).
    fn end_slow_scans(&mut self) {
        let slow: Vec<_> =
            self.scans_end_by().filter(|it| it.1 <= self.now).map(|it| it.0).collect();
        for scan in slow.into_iter().collect::<BTreeSet<_>>() {
            self.ignore(Ignored::SlowScan);
            for start in self.starts(|role| matches!(role, Role::Rebuild(it) if it.scan == scan)) {
                let Held { span, role } = self.remembered.roles[&start].clone();
                let Role::Rebuild(rebuild) = role else { continue };
                let then = Then::ScanAnew(Rebuild { size: Size::default(), ..rebuild });
                self.hold(Held { span, role: Role::Erasing(Erasing { after: None, then }) });
            }
            self.stop_scan(scan);
            self.rows.retain(|it| it.scan() != scan);
            self.remembered.scans.insert(scan, Scanning::new());
            self.changed.insert(Name::Scan(scan));
        }
    }

    /// Returns by when a scan is to come to the end of a partition, of those that stand at none.
    fn scans_end_by(&self) -> impl Iterator<Item = (Scan, Millis)> {
        let scans = self.remembered.scans.iter().filter(|it| self.scanning.contains(it.0));
        let partitions = scans.flat_map(|(scan, it)| it.iter().map(|it| (*scan, *it.0, it.1)));
        let runs = partitions.filter(|(scan, partition, it)| {
            it.done.is_none() && !self.at_end.contains_key(&(*scan, *partition))
        });
        let max = self.settings.scan_ms_max;
        runs.map(move |(scan, _, it)| (scan, Millis(it.since.0.saturating_add(max))))
    }

    pub(super) fn scans_due(&self) -> Option<Millis> {
        self.scans_end_by().map(|it| it.1).min()
    }

    /// Begins scans whose intervals are empty, and goes on forgetting the rows of those that are over.
    pub(super) fn go_on_with_scans(&mut self) {
        self.end_slow_scans();
        let scans: Vec<_> = self.remembered.scans.keys().copied().collect();
        for scan in scans {
            let is_erased = |role: &Role| match role {
                Role::Erasing(Erasing { then: Then::Rebuild(it) | Then::ScanAnew(it), .. }) => {
                    it.scan == scan
                }
                Role::Erasing(_)
                | Role::Active(_)
                | Role::Applying(_)
                | Role::Import(_)
                | Role::Rebuild(_)
                | Role::Leaving(_) => false,
            };
            if self.scanning.contains(&scan) || !self.starts(is_erased).is_empty() {
                continue;
            }
            self.scanning.insert(scan);
            for partition in 0..self.settings.partitions {
                let scanned = self.remembered.scans[&scan].get(&partition).copied();
                let scanned = scanned.unwrap_or_default();
                if scanned.done.is_none() {
                    let from = scanned.position;
                    if from == 0 {
                        self.remembered
                            .scans
                            .entry(scan)
                            .or_default()
                            .entry(partition)
                            .or_default();
                        self.scan_from_now(scan, partition);
                    }
                    self.step.then.push(Action::ScanTable { scan, partition, from });
                }
            }
        }
        let ended = self.remembered.ended_scans.first_key_value();
        if let Some((scan, after)) = ended.map(|(scan, after)| (*scan, after.clone())) {
            let max = self.settings.cursor_max;
            self.write(Of::EndScan(scan), Write::EndScan { scan, after, max });
        }
    }

    pub(super) fn scan_forgotten(&mut self, scan: Scan, outcome: Outcome) {
        let Outcome::Ended { after } = outcome else { return };
        self.changed.insert(Name::EndedScan(scan));
        match after {
            Some(after) => _ = self.remembered.ended_scans.insert(scan, Some(after)),
            None => _ = self.remembered.ended_scans.remove(&scan),
        }
    }
}

impl Role {
    /// Returns the scan that this waits for.
    fn scan(&self) -> Option<Scan> {
        match self {
            Self::Rebuild(it)
            | Self::Erasing(Erasing { then: Then::Rebuild(it) | Then::ScanAnew(it), .. }) => {
                Some(it.scan)
            }
            Self::Active(_)
            | Self::Applying(_)
            | Self::Import(_)
            | Self::Leaving(_)
            | Self::Erasing(Erasing {
                then: Then::None | Then::Import(_) | Then::NextStream(_),
                ..
            }) => None,
        }
    }
}
