//! Decides what an update of a channel is to this node: applied, kept aside, passed on, or nothing new.
//!
//! ```text
//!                               the map's owner is
//!  the role is          this node              another
//!  Active, Applying     put, unless below      passed on (R4)
//!                       the floor (R14)
//!  Import, Rebuild,     kept aside (R11)       passed on
//!  Erasing
//!  Leaving              -                      passed on
//!  none                 waits                  passed on
//! ```
//!
//! A direct watermark raises the floors of what is active and drained, lets rebuilds end, and is passed
//! on to whom a range is leaving to, once a partition, behind all updates before it (R13). One that was
//! passed on drains what came from that node.
//!
//! Before the start is over the roles alone count for what is active here: a newer map does not take
//! effect yet.

use std::ops::Bound;

use schemas::index_update::{EntryUpdate, IndexUpdate, Watermark};
use schemas::range_segment::{Entry, Floor};
use schemas::{Epoch, Generation, Inbox, Key, KeySpan, Millis, NodeId};

use super::events::{Ignored, Output};
use super::machine::{Of, Worker};
use super::queues::Taken;
use super::states::{Active, Erasing, Mark, Name, Role, Size, Then, live_bytes};
use crate::store::{EntryKey, Outcome, Write};
use crate::transfer::digest::{Floors, is_below, listed};

/// How far the search for tombstones is.
#[derive(Clone, Debug, Default)]
pub(super) struct Collected {
    /// The range that is looked at, and behind what to go on.
    at: Option<(KeySpan, Option<EntryKey>)>,
    passed: Option<Passed>,
    due: Millis,
    /// A batch is under way.
    busy: bool,
}

/// What the range has up to where the search is: in the end all, so that what was estimated is exact again.
#[derive(Clone, Debug)]
struct Passed {
    span: KeySpan,
    epoch: Epoch,
    size: Size,
}

impl Worker {
    pub(super) fn take_update(&mut self, update: &IndexUpdate) -> Taken {
        if self.remembered.generation < update.generation {
            return Taken::WaitsFor(update.generation);
        }
        match (&update.entry, &update.watermark) {
            (Some(it), None) => self.take_entry(it),
            (None, Some(it)) => {
                self.take_watermark(update.generation, it);
                Taken::Used
            }
            (Some(_), Some(_)) | (None, None) => {
                self.ignore(Ignored::MalformedUpdate);
                Taken::Used
            }
        }
    }

    fn take_entry(&mut self, update: &EntryUpdate) -> Taken {
        let EntryUpdate { entry, hops } = update;
        let Some(owner) = self.map.map().owner(&entry.index_key.0) else { return Taken::Waits };
        let held = self.remembered.at(&entry.index_key);
        let is_ours = owner.node == self.settings.node;
        let is_as_before = !self.is_started() && held.is_some_and(|it| it.role.applies());
        if !is_ours && !is_as_before {
            let update = IndexUpdate {
                generation: self.map.generation(),
                entry: Some(EntryUpdate { entry: entry.clone(), hops: hops + 1 }),
                watermark: None,
            };
            let (node, inbox) = (owner.node.clone(), owner.inbox);
            self.step.sends.push(Output::Update { node, inbox, update });
            return Taken::Used;
        }
        let below = match held.map(|it| &it.role) {
            Some(Role::Active(it)) => self.is_below(it, entry),
            Some(Role::Applying(it)) => is_below(&it.floors, entry),
            Some(
                Role::Import(_)
                | Role::Rebuild(_)
                | Role::Erasing(Erasing {
                    then:
                        Then::Import(_) | Then::NextStream(_) | Then::Rebuild(_) | Then::ScanAnew(_),
                    ..
                }),
            ) => {
                self.write(Of::Aside, Write::Aside(entry.clone()));
                return Taken::Used;
            }
            Some(Role::Leaving(_) | Role::Erasing(Erasing { then: Then::None, .. })) | None => {
                if self.is_started() {
                    return Taken::Waits;
                }
                // It comes here by a map that has no effect yet: to keep it is never wrong.
                self.write(Of::Aside, Write::Aside(entry.clone()));
                return Taken::Used;
            }
        };
        match held {
            Some(held) if !below => {
                let sent = self.sent(&held.span).map(|_| entry.clone());
                let (start, bytes) = (held.span.start.clone(), live_bytes(entry));
                let is_counted = self.collected.at.as_ref().is_some_and(|it| it.0 == held.span);
                let counted = is_counted.then(|| EntryKey::of(entry));
                let of = Of::Update { start, bytes, counted, sent };
                self.write(of, Write::Put(entry.clone()));
            }
            Some(_) | None => self.ignore(Ignored::BelowFloor),
        }
        Taken::Used
    }

    fn take_watermark(&mut self, generation: Generation, watermark: &Watermark) {
        match &watermark.via {
            Some(source) => self.drained_by(source, generation, &watermark.floors),
            None => {
                for Floor { partition, offset } in &watermark.floors {
                    let new = Mark { generation, offset: *offset };
                    let mark = self.remembered.marks.entry(*partition).or_default();
                    if *mark < new {
                        *mark = new;
                        self.changed.insert(Name::Mark(*partition));
                    }
                }
                self.pass_on(generation, &watermark.floors);
                self.check_scans();
            }
        }
        self.check_drained();
    }

    /// Passes a watermark on to whom ranges are leaving to, the first one of each partition.
    fn pass_on(&mut self, generation: Generation, floors: &[Floor]) {
        let leaving = |role: &Role| matches!(role, Role::Leaving(it) if it.commit <= generation);
        for start in self.starts(leaving) {
            let Some(Role::Leaving(it)) = self.role_mut(&start) else { continue };
            let first = floors.iter().filter(|floor| it.passed.insert(floor.partition));
            let floors: Vec<_> = first.copied().collect();
            if floors.is_empty() {
                continue;
            }
            let (node, inbox): (NodeId, Inbox) = (it.to.clone(), it.to_inbox);
            let via = Some(self.settings.node.clone());
            let watermark = Some(Watermark { floors, via });
            let update = IndexUpdate { generation, entry: None, watermark };
            self.step.sends.push(Output::Update { node, inbox, update });
        }
    }

    /// Takes in that a source has passed on all that it had of some partitions.
    fn drained_by(&mut self, source: &NodeId, generation: Generation, floors: &[Floor]) {
        let is_from = |role: &Role| {
            let import = role.draining().or_else(|| role.import());
            import.is_some_and(|it| it.source == *source)
        };
        for start in self.starts(is_from) {
            let commit = self.committed_here(&start);
            if commit.is_none_or(|it| generation < it) {
                continue;
            }
            let partitions = floors.iter().map(|it| it.partition);
            match self.role_mut(&start) {
                Some(Role::Active(Active { drain: Some(drain), .. })) => {
                    drain.via.extend(partitions);
                }
                Some(role) => {
                    if let Some(import) = role.import_mut() {
                        import.via.extend(partitions);
                    }
                }
                None => (),
            }
        }
    }

    /// Returns the generation that brought a range here, if one did.
    pub(super) fn committed_here(&self, start: &Key) -> Option<Generation> {
        let held = self.remembered.roles.get(start)?;
        match &held.role {
            Role::Active(it) => Some(it.commit),
            Role::Applying(it) => Some(it.commit),
            Role::Rebuild(it) => Some(it.scan.0),
            Role::Leaving(_) => None,
            Role::Import(_) | Role::Erasing(_) => {
                let migration = held.role.import()?.migration;
                let range = self.map.map().range(&held.span)?;
                let is_it = range.node == self.settings.node && range.migration == Some(migration);
                is_it.then_some(range.generation)
            }
        }
    }

    /// Returns the starts of the intervals with such a role, in key order.
    pub(super) fn starts(&self, is: impl Fn(&Role) -> bool) -> Vec<Key> {
        let those = self.remembered.roles.values().filter(|it| is(&it.role));
        those.map(|it| it.span.start.clone()).collect()
    }

    /// Returns the floor of a range that is active here: while it drains, what it came with (R14).
    fn floor(&self, active: &Active, partition: u32) -> u64 {
        let own = active.floors.get(&partition).copied().unwrap_or_default();
        let mark = self.remembered.marks.get(&partition);
        let mark = mark.filter(|it| active.drain.is_none() && active.commit <= it.generation);
        mark.map_or(own, |it| own.max(it.offset))
    }

    fn is_below(&self, active: &Active, entry: &Entry) -> bool {
        entry.offset < self.floor(active, entry.partition)
    }

    /// Returns all floors of a range that is active here.
    pub(super) fn floors(&self, active: &Active) -> Floors {
        let floors = (0..self.settings.partitions).map(|it| (it, self.floor(active, it)));
        floors.filter(|it| it.1 > 0).collect()
    }

    /// Takes in what an update did to the store.
    pub(super) fn put(
        &mut self,
        start: &Key,
        bytes: Option<u64>,
        counted: Option<&EntryKey>,
        sent: Option<&Entry>,
        outcome: Outcome,
    ) {
        let Outcome::Changed { replaced } = outcome else { return };
        if let (Some((span, Some(after))), Some(passed)) =
            (&self.collected.at, &mut self.collected.passed)
            && passed.span == *span
            && counted.is_some_and(|it| it <= after)
        {
            passed.size.put(bytes, replaced.as_ref());
        }
        let Some(held) = self.remembered.roles.get_mut(start) else { return };
        match &mut held.role {
            Role::Active(it) => it.size.put(bytes, replaced.as_ref()),
            Role::Applying(it) => it.size.put(bytes, replaced.as_ref()),
            Role::Erasing(_) | Role::Import(_) | Role::Rebuild(_) | Role::Leaving(_) => (),
        }
        self.changed.insert(Name::Role(start.clone()));
        if let Some(entry) = sent {
            let span = held.span.clone();
            self.stream_change(&span, entry, replaced.as_ref());
        }
    }

    /// Looks for tombstones below the floor in the next batch of what is active here (R15).
    pub(super) fn collect(&mut self) {
        if self.collected.busy || self.now < self.collected.due {
            return;
        }
        let from = self.collected.at.take();
        let found = match &from {
            // Splits and moves may have changed it meanwhile.
            Some((span, _)) => self.remembered.at(&span.start),
            None => self.remembered.roles.values().next(),
        };
        let Some(held) = found else {
            self.collected.due = Millis(self.now.0 + self.settings.collect_ms);
            return;
        };
        let span = held.span.clone();
        let after = from.and_then(|it| it.1);
        if let Role::Active(active) = &held.role {
            // What a stream counts must stay while it is open.
            let floors = self.floors(active);
            let below = self.stream_floors(&span).unwrap_or(floors);
            let (below, max) = (listed(&below), self.settings.cursor_max);
            self.collected.busy = true;
            self.collected.at = Some((span.clone(), after.clone()));
            self.write(Of::Collect, Write::Collect { span, below, after, max });
        } else {
            self.collect_next(&span);
        }
    }

    /// Goes on behind a batch that was looked at.
    pub(super) fn collected(&mut self, outcome: Outcome) {
        self.collected.busy = false;
        let Outcome::Collected { entries, bytes, after, .. } = outcome else { return };
        self.collected.due = Millis(self.now.0 + self.settings.collect_ms);
        let Some((span, before)) = self.collected.at.take() else { return };
        self.pass(&span, before.as_ref(), Size { entries, bytes });
        match after {
            Some(after) => self.collected.at = Some((span, Some(after))),
            None => {
                self.recount(&span);
                self.collect_next(&span);
            }
        }
    }

    /// Counts a batch, if the range is as it was when the search came to it.
    fn pass(&mut self, span: &KeySpan, before: Option<&EntryKey>, batch: Size) {
        let held = self.remembered.roles.get(&span.start).filter(|it| it.span == *span);
        let Some(Role::Active(active)) = held.map(|it| &it.role) else { return };
        let (span, epoch) = (span.clone(), active.epoch);
        match &mut self.collected.passed {
            passed if before.is_none() => *passed = Some(Passed { span, epoch, size: batch }),
            Some(passed) if passed.span == span && passed.epoch == epoch => {
                passed.size.entries += batch.entries;
                passed.size.bytes += batch.bytes;
            }
            passed => *passed = None,
        }
    }

    /// Takes what was counted for the size of a range of which all was passed.
    fn recount(&mut self, span: &KeySpan) {
        let Some(passed) = self.collected.passed.take() else { return };
        let held = self.remembered.roles.get_mut(&span.start).filter(|it| it.span == passed.span);
        let Some(Role::Active(active)) = held.map(|it| &mut it.role) else { return };
        if active.epoch == passed.epoch && active.size != passed.size {
            active.size = passed.size;
            self.changed.insert(Name::Role(span.start.clone()));
        }
    }

    fn collect_next(&mut self, span: &KeySpan) {
        self.collected.due = Millis(self.now.0 + self.settings.collect_ms);
        let behind = (Bound::Excluded(span.start.clone()), Bound::Unbounded);
        let next = self.remembered.roles.range(behind).next();
        self.collected.at = next.map(|it| (it.1.span.clone(), None));
    }

    pub(super) fn collect_due(&self) -> Option<Millis> {
        (!self.remembered.roles.is_empty()).then_some(self.collected.due)
    }
}

impl Role {
    /// Tells whether updates of the interval are applied.
    fn applies(&self) -> bool {
        match self {
            Self::Active(_) | Self::Applying(_) => true,
            Self::Erasing(_) | Self::Import(_) | Self::Rebuild(_) | Self::Leaving(_) => false,
        }
    }
}
