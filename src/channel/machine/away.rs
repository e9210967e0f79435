//! Decides when a partition was read to its end, and whether that was so late that changes may be missing (R24).
//!
//! ```text
//!            EndsSeen: the end, at a time          all before that end is sent
//!  caught up ────────────────────────────> behind ────────────────────────────> caught up, as of that time
//!      ^                                                      │
//!      └── the end is still the same: as of now              └── later than compaction waits: AskRebuild
//! ```
//!
//! A row is left alone for a while after it was written. What was written behind the last end is not older
//! than the time of that end; so if all of it is read within that while, nothing of it was taken away
//! before. Else a row may be gone that said which key another has left, and the entry there would stay.
//!
//! * **A commit carries the time on** while the partition is behind, so a crash forgets nothing.
//! * **Asked, then committed.** A request stands before the round that commits the new time: after a crash
//!   in between it is asked again, under the same name.
//! * **Nothing waits.** The channel goes on; what a range gets by a rebuild is newer than what it got before.

use std::collections::BTreeMap;

use schemas::Millis;

use super::super::committed::{CaughtUp, Committed};
use super::super::events::{Action, Away, End};
use super::{Channel, Partition, Settings};

/// While all is read, ends are looked at this often, or more often if compaction is quick.
const LOOK_MS_MAX: u64 = 60_000;

/// Of the time for which compaction waits, a commit is not older than one part in so many.
pub(super) const LOOKS_PER_LAG: u64 = 10;

/// When ends are looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Look {
    pub at: Millis,
    /// It is going on.
    is_on: bool,
}

/// How far a partition is from its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Follow {
    caught_up: CaughtUp,
    /// An end that is not reached yet, and when it was there.
    target: Option<CaughtUp>,
    /// What lies before was told, or is no row.
    position: u64,
}

impl Follow {
    /// Of a commit that says nothing of it, all is taken to be read; of none, nothing.
    pub fn new(now: Millis, offset: u64, committed: Option<Committed>) -> Self {
        let caught_up = committed.map_or(CaughtUp::default(), |it| {
            it.caught_up.unwrap_or(CaughtUp { time: now, offset })
        });
        Self { caught_up, target: None, position: offset }
    }

    /// Returns what a commit is to say.
    pub fn caught_up(&self) -> CaughtUp {
        self.caught_up
    }

    /// Tells whether anybody ever saw where it ends.
    fn is_seen(&self) -> bool {
        self.target.is_some() || self.caught_up.time > Millis(0)
    }

    fn see(&mut self, asked: Millis, End { end, position }: End) {
        self.position = self.position.max(position);
        if self.target.is_some() {
            // One that moves on is never reached.
        } else if end <= self.caught_up.offset {
            // Nothing was written since.
            self.caught_up.time = asked;
        } else {
            self.target = Some(CaughtUp { time: asked, offset: end });
        }
    }

    /// Takes in that all before an offset is sent; returns since when rows were not read, and until when,
    /// if that has come to an end.
    fn reach(&mut self, sent: u64) -> Option<(CaughtUp, CaughtUp)> {
        let until = self.target.take_if(|it| it.offset <= sent)?;
        Some((std::mem::replace(&mut self.caught_up, until), until))
    }
}

impl Channel {
    /// Returns the partitions whose ends nobody has seen yet: what is written to them now counts as missed.
    pub fn unseen(&self) -> impl Iterator<Item = u32> {
        let unseen = |it: &Partition| it.follow.is_some_and(|it| !it.is_seen());
        self.partitions.iter().filter(move |it| unseen(it.1)).map(|it| *it.0)
    }

    /// Returns when ends are to be looked at.
    pub(super) fn look_due(&self) -> Option<Millis> {
        let has_some = self.partitions.values().any(|it| it.follow.is_some() && !it.leaving);
        (has_some && self.has_map() && !self.look.is_on).then_some(self.look.at)
    }

    pub(super) fn look_at_ends(&mut self, now: Millis) {
        if self.look_due().is_some_and(|it| it <= now) {
            self.look.is_on = true;
            self.actions.push_back(Action::LookAtEnds);
        }
    }

    pub(super) fn see_ends(&mut self, now: Millis, asked: Millis, ends: &BTreeMap<u32, End>) {
        let unseen = self.unseen().count();
        let mut is_behind = false;
        for partition in self.partitions.keys().copied().collect::<Vec<_>>() {
            let it = self.partitions.get_mut(&partition).and_then(|it| it.follow.as_mut());
            let Some(follow) = it else { continue };
            match ends.get(&partition) {
                Some(end) => follow.see(asked, *end),
                None => is_behind = true,
            }
            self.reach(now, partition);
            let it = self.partitions[&partition].follow;
            is_behind |= it.is_some_and(|it| it.target.is_some());
        }
        let Settings { round_ms, compaction_lag_ms } = self.settings;
        let lag_ms = compaction_lag_ms.unwrap_or(u64::MAX);
        let after_ms = match is_behind {
            true => round_ms,
            false => LOOK_MS_MAX.min(lag_ms / LOOKS_PER_LAG).max(round_ms),
        };
        self.look = Look { at: Millis(now.0 + after_ms), is_on: false };
        // Whoever takes a partition over at once is to know, where nothing was left to read.
        if self.unseen().count() < unseen {
            self.begin_round(now);
        }
    }

    /// Looks whether a partition is read to its end, as far as that is known.
    pub(super) fn reach(&mut self, now: Millis, partition: u32) {
        let Some(lag_ms) = self.settings.compaction_lag_ms else { return };
        let Some(it) = self.partitions.get_mut(&partition).filter(|it| !it.leaving) else { return };
        let Some(follow) = &mut it.follow else { return };
        let sent = if it.held.is_empty() { it.next.max(follow.position) } else { it.next };
        let Some((since, until)) = follow.reach(sent) else { return };
        let is_late = lag_ms < now.0.saturating_sub(since.time.0);
        if is_late {
            let until = CaughtUp { time: now, ..until };
            self.actions.push_back(Action::AskRebuild(Away { partition, since, until, lag_ms }));
            self.begin_round(now);
        }
    }
}
