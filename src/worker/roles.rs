//! Decides what a new generation of the map makes of what this node holds.
//!
//! ```text
//!  the map's owner, by source        what is held there becomes
//!  another, from this node           Active ──> Leaving
//!  another, else                     Active, Applying, Rebuild, Leaving ──> Erasing
//!                                    Import ──> Erasing, unless the epoch is still the source's (R5)
//!  this node, none                   Active ──> Active, with the floors of all parents (R19)
//!  this node, a node                 Import, if it is of this migration, stays: it is committed
//!  this node, the table              anything ──> Erasing, then Rebuild
//! ```
//!
//! It is a function of the two alone, so generations may be skipped, and what was lost with a crash
//! comes again.

use std::collections::{BTreeMap, BTreeSet};

use schemas::assignment::{Assignment, Source};
use schemas::{Key, KeySpan};

use super::events::Ignored;
use super::machine::Worker;
use super::serving::{Part, Serves, View};
use super::states::{
    Active, Applying, Erasing, Held, Leaving, Name, Origin, Rebuild, Role, Size, Then,
};
use crate::assignment::map::span_of;
use crate::store::Scan;
use crate::transfer::digest::Floors;

impl Worker {
    /// Takes in that the map is of a greater generation.
    pub(super) fn follow_map(&mut self) {
        let concerns = |it: &&Assignment| {
            it.node == self.settings.node || !self.remembered.overlapping(&span_of(it)).is_empty()
        };
        let ranges: Vec<_> = self.map.map().iter().filter(concerns).cloned().collect();
        let (ours, others): (Vec<_>, Vec<_>) =
            ranges.into_iter().partition(|it| it.node == self.settings.node);
        for range in others {
            for start in self.remembered.overlapping(&span_of(&range)) {
                self.lose(&start, &range);
            }
        }
        for range in ours {
            self.gain(&range);
        }
        self.remembered.generation = self.map.generation();
        self.changed.insert(Name::Generation);
        self.forget_old();
        // What is applied and read by this generation must not be lost as waiting for it after a crash.
        self.step.sync = true;
        self.step.view = true;
        self.check_scans();
        self.check_drained();
    }

    /// The map gives to another what is held here, or a part of it.
    fn lose(&mut self, start: &Key, range: &Assignment) {
        let Some(held) = self.remembered.roles.get(start).cloned() else { return };
        let span = &held.span;
        match &held.role {
            Role::Active(it) if it.epoch < range.epoch => match self.leaving(span, it, range) {
                Some(leaving) => self.leave(span.clone(), leaving),
                // It may have been split meanwhile, and only a part of it is another's.
                None => self.erase(common(span, &span_of(range)), Then::None),
            },
            Role::Applying(Applying { epoch, .. }) | Role::Leaving(Leaving { epoch, .. })
                if *epoch < range.epoch =>
            {
                self.erase(span.clone(), Then::None);
            }
            Role::Rebuild(it)
            | Role::Erasing(Erasing { then: Then::Rebuild(it) | Then::ScanAnew(it), .. })
                if it.epoch < range.epoch =>
            {
                self.erase(span.clone(), Then::None);
            }
            Role::Import(it)
            | Role::Erasing(Erasing { then: Then::Import(it) | Then::NextStream(it), .. })
                if it.source_epoch < range.epoch =>
            {
                self.give_up(span, &it.clone(), "the range is not as it was when the move began");
            }
            // As it was when it began, or what is held is newer.
            Role::Active(_)
            | Role::Applying(_)
            | Role::Leaving(_)
            | Role::Rebuild(_)
            | Role::Import(_)
            | Role::Erasing(_) => (),
        }
    }

    /// Returns what a range becomes that another has from here.
    fn leaving(&self, span: &KeySpan, active: &Active, range: &Assignment) -> Option<Leaving> {
        let is_from_here = range.source == Source::Node
            && range.source_node.as_ref() == Some(&self.settings.node)
            && range.source_epoch == active.epoch
            && span_of(range) == *span;
        let migration = range.migration.filter(|_| is_from_here)?;
        Some(Leaving {
            epoch: range.epoch,
            frozen: active.epoch,
            commit: range.generation,
            to: range.node.clone(),
            to_inbox: range.inbox,
            migration,
            floors: self.floors(active),
            handed: false,
            passed: BTreeSet::new(),
            ended: None,
        })
    }

    /// The map gives a range to this node.
    fn gain(&mut self, range: &Assignment) {
        let span = span_of(range);
        let starts = self.remembered.overlapping(&span);
        if let [start] = &starts[..]
            && let Some(held) = self.remembered.roles.get(start)
            && held.span == span
            && held.role.is_as_in(range)
        {
            return;
        }
        match range.source {
            Source::Table => {
                let scan = Scan(range.generation);
                let (epoch, migration) = (range.epoch, range.migration);
                self.carve(&span);
                let rebuild = Rebuild { epoch, scan, migration, size: Size::default() };
                self.erase(span, Then::Rebuild(rebuild));
                self.remembered.scans.entry(scan).or_default();
                self.changed.insert(Name::Scan(scan));
            }
            Source::None => match self.relabelled(range, &starts) {
                Some(active) => {
                    self.carve(&span);
                    self.hold(Held { span, role: Role::Active(active) });
                }
                None => self.ignore(Ignored::UnexpectedRange),
            },
            Source::Node | Source::Unknown => self.ignore(Ignored::UnexpectedRange),
        }
    }

    /// Returns the range that is made of parents that are all active here and cover it.
    fn relabelled(&self, range: &Assignment, starts: &[Key]) -> Option<Active> {
        let mut reached = Some(range.range_start.clone());
        let mut res: Option<Active> = None;
        for start in starts {
            let Held { span, role } = &self.remembered.roles[start];
            let Role::Active(parent) = role else { return None };
            if reached.is_none_or(|it| it < span.start) || range.epoch <= parent.epoch {
                return None;
            }
            reached = Some(span.end.clone()).filter(|it| !it.0.is_empty());
            let floors = self.floors(parent);
            let size = self.share(parent.size, span);
            match &mut res {
                None => {
                    let drain = parent.drain.clone();
                    let (epoch, commit) = (range.epoch, parent.commit);
                    res = Some(Active { epoch, commit, floors, drain, size });
                }
                Some(res) => {
                    res.commit = res.commit.max(parent.commit);
                    res.floors = lesser(&res.floors, &floors);
                    res.drain = res.drain.take().or_else(|| parent.drain.clone());
                    res.size.entries += size.entries;
                    res.size.bytes += size.bytes;
                }
            }
        }
        let end = &range.range_end;
        let is_covered = reached.is_none_or(|it| !end.0.is_empty() && *end <= it);
        res.filter(|_| is_covered)
    }

    /// Returns what a child has of a parent, as far as it can be told.
    fn share(&self, size: Size, parent: &KeySpan) -> Size {
        let children = self.map.map().overlapping(parent).count().max(1) as u64;
        Size { entries: size.entries / children, bytes: size.bytes / children }
    }

    /// Makes an interval free: what reaches into it keeps the rest of its own.
    fn carve(&mut self, span: &KeySpan) {
        for start in self.remembered.overlapping(span) {
            let Some(Held { span: held, mut role }) = self.let_go(&start) else { continue };
            match &mut role {
                Role::Erasing(it) => it.after = None,
                Role::Active(it) => {
                    let share = self.share(it.size, &held);
                    it.size.entries -= share.entries;
                    it.size.bytes -= share.bytes;
                }
                Role::Import(_) | Role::Applying(_) | Role::Rebuild(_) | Role::Leaving(_) => (),
            }
            if held.start < span.start {
                let left = KeySpan { start: held.start.clone(), end: span.start.clone() };
                self.hold(Held { span: left, role: role.clone() });
            }
            let ends_behind = held.end.0.is_empty() || span.end < held.end;
            if !span.end.0.is_empty() && ends_behind {
                let right = KeySpan { start: span.end.clone(), end: held.end };
                self.hold(Held { span: right, role });
            }
        }
    }

    /// Lets all that is stored of an interval go, whatever it was.
    pub(super) fn erase(&mut self, span: KeySpan, then: Then) {
        self.close_streams(&span);
        self.carve(&span);
        let role = Role::Erasing(Erasing { after: None, then });
        self.hold(Held { span, role });
    }

    /// Returns what is served by the map and the roles.
    pub(super) fn serves(&self) -> View {
        let mut parts = Vec::new();
        for range in self.map.map().iter() {
            let mut from = Some(range.range_start.clone());
            let mut part = |start: Key, end: Key, serves: Serves| {
                let span = KeySpan { start, end };
                let (owner, epoch) = (range.node.clone(), range.epoch);
                parts.push(Part { span, owner, epoch, serves });
            };
            for start in self.remembered.overlapping(&span_of(range)) {
                let Held { span, role } = &self.remembered.roles[&start];
                let start = span.start.clone().max(range.range_start.clone());
                if let Some(before) = from.take().filter(|it| *it < start) {
                    part(before, start.clone(), Serves::Nothing);
                }
                let end = lesser_end(&span.end, &range.range_end);
                part(start, end.clone(), self.serves_of(role, range));
                from = Some(end).filter(|it| !it.0.is_empty());
            }
            let is_left = |it: &Key| range.range_end.0.is_empty() || *it < range.range_end;
            if let Some(rest) = from.filter(is_left) {
                part(rest, range.range_end.clone(), Serves::Nothing);
            }
        }
        View::new(self.settings.node.clone(), self.map.generation(), parts)
    }

    fn serves_of(&self, role: &Role, range: &Assignment) -> Serves {
        if range.node != self.settings.node {
            let leaving = role.leaving().filter(|it| it.epoch == range.epoch);
            return leaving
                .map_or(Serves::Nothing, |it| Serves::ReadsAsSource { frozen: it.frozen });
        }
        if !role.is_as_in(range) {
            return Serves::Nothing;
        }
        match role {
            Role::Active(_) => Serves::Reads,
            Role::Leaving(_) => Serves::Nothing,
            Role::Rebuild(_)
            | Role::Erasing(Erasing { then: Then::Rebuild(_) | Then::ScanAnew(_), .. })
            | Role::Applying(Applying { from: Origin::Table { .. }, .. }) => Serves::Later,
            Role::Import(it)
            | Role::Applying(Applying { from: Origin::Node(it), .. })
            | Role::Erasing(Erasing { then: Then::Import(it) | Then::NextStream(it), .. }) => {
                Serves::BySource { node: it.source.clone(), epoch: it.source_epoch }
            }
            Role::Erasing(Erasing { then: Then::None, .. }) => Serves::Nothing,
        }
    }
}

impl Role {
    /// Tells whether a range of this node is what it is to be by the map, or on the way to it.
    fn is_as_in(&self, range: &Assignment) -> bool {
        match self {
            Self::Active(it) => it.epoch == range.epoch,
            Self::Applying(it) => it.epoch == range.epoch,
            Self::Rebuild(it)
            | Self::Erasing(Erasing { then: Then::Rebuild(it) | Then::ScanAnew(it), .. }) => {
                it.epoch == range.epoch
            }
            Self::Import(it)
            | Self::Erasing(Erasing { then: Then::Import(it) | Then::NextStream(it), .. }) => {
                range.migration == Some(it.migration)
            }
            Self::Leaving(_) | Self::Erasing(Erasing { then: Then::None, .. }) => false,
        }
    }
}

/// Returns of each partition the lesser floor: what neither has is not covered (R19).
fn lesser(left: &Floors, right: &Floors) -> Floors {
    let both = left
        .iter()
        .filter_map(|(partition, it)| Some((*partition, *it.min(right.get(partition)?))));
    both.collect::<BTreeMap<_, _>>()
}

/// Returns what two intervals that overlap have in common.
fn common(left: &KeySpan, right: &KeySpan) -> KeySpan {
    let start = left.start.clone().max(right.start.clone());
    KeySpan { start, end: lesser_end(&left.end, &right.end) }
}

fn lesser_end(left: &Key, right: &Key) -> Key {
    match (left.0.is_empty(), right.0.is_empty()) {
        (true, _) => right.clone(),
        (_, true) => left.clone(),
        (false, false) => left.min(right).clone(),
    }
}
