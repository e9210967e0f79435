//! Decides to whom the entries of a row go, what is committed, and when a watermark may say so.
//!
//! ```text
//!  of a partition
//!            Assigned             map has the         RowRead            no owner
//!  (not ours) ──────> Waiting ── committed ──> Sending ───────> Sending ─────────> Waiting
//!        ^                        generation      │ Revoked               map changed: Sending
//!        └──────── LetGo <──── a last round <─────┘
//!
//!  of all together, after a change of map, a take-over, at an interval
//!            due           Flushed            Committed
//!  Resting ──────> Flushing ──────> Committing ──────> Resting: watermarks
//! ```
//!
//! * **One map (R16).** All entries of a row go to their owners by one generation of the map, which
//!   they name.
//! * **A commit says the generation (R17)**: from the committed offset on, nothing is sent by an older
//!   map, by whomever. So who takes a partition over waits for that generation first.
//! * **A watermark is behind a commit (R17).** It names those partitions whose stored commit has exactly
//!   its generation, and goes to every owner and every source that the map names.
//! * **Who was away too long says so (R24)**, before a commit hides it: see `away`.
//! * **Nothing is invented.** Without a map, or without an owner for a key, a row waits, and nothing of
//!   it is committed.
//!
//! Sending a row twice is harmless, and so is a second channel that does not know yet that it has lost
//! its partitions: what it sends is what the other sends too, and what it commits is not stored.

mod away;
mod tell;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use schemas::assignment::Source;
use schemas::index_update::{EntryUpdate, IndexUpdate};
use schemas::range_segment::Entry;
use schemas::{Generation, Inbox, Millis, NodeId};

use crate::assignment::map::{Refused, Row};
use crate::assignment::whole::WholeMap;

use super::committed::{CaughtUp, Committed};
pub use super::events::{Action, Addressed, Away, End, Event, Waiting};
use away::{Follow, Look};

/// How a channel does its work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// So often offsets are committed and watermarks are written, though nothing changes.
    pub round_ms: u64,
    /// For so long compaction leaves a row of the table alone; `None`: there is none.
    pub compaction_lag_ms: Option<u64>,
}

/// One channel.
#[derive(Clone, Debug)]
pub struct Channel {
    settings: Settings,
    map: WholeMap,
    /// The first reading is over.
    map_reached: bool,
    /// Where each node reads that was ever heard of.
    inboxes: BTreeMap<NodeId, Inbox>,
    partitions: BTreeMap<u32, Partition>,
    round: Round,
    /// Another is to follow the one that is on.
    again: bool,
    /// When the next round is due.
    due: Millis,
    look: Look,
    actions: VecDeque<Action>,
}

#[derive(Clone, Debug)]
struct Partition {
    /// What lies before was sent.
    next: u64,
    /// What lies before was sent by another, or a round has ended that offered it.
    offered: u64,
    /// The stored commit, as far as it is known.
    stored: Option<(u64, Generation)>,
    /// How far it is from its end; `None`: it is not compacted.
    follow: Option<Follow>,
    held: VecDeque<(u64, Vec<Entry>)>,
    waiting: Option<Waiting>,
    /// Nothing more of it is sent, and it is let go once all that was is offered.
    leaving: bool,
}

/// Flush, commit, tell.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Round {
    Resting,
    Flushing(Offer),
    Committing(Offer),
}

/// What was sent when the round began, and the map that all later rows go by, or a newer one.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Offer {
    offsets: BTreeMap<u32, u64>,
    caught_up: BTreeMap<u32, CaughtUp>,
    generation: Generation,
}

impl Channel {
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            map: WholeMap::default(),
            map_reached: false,
            inboxes: BTreeMap::new(),
            partitions: BTreeMap::new(),
            round: Round::Resting,
            again: false,
            due: Millis(0),
            look: Look::default(),
            actions: VecDeque::new(),
        }
    }

    /// Takes in an event, and returns rows of the map that are not used.
    pub fn handle(&mut self, now: Millis, event: Event) -> Vec<Refused> {
        match event {
            Event::MapRead(row) => return self.read_map(now, row),
            Event::MapReached => {
                self.map_reached = true;
                self.go_on(now);
            }
            Event::NodeSeen { node, inbox } => _ = self.inboxes.insert(node, inbox),
            Event::Assigned { partition, offset, committed } => {
                self.assign(now, partition, offset, committed);
                self.check(partition);
                self.begin_round(now);
            }
            Event::Revoked { partition } => self.revoke(now, partition),
            Event::Lost { partition } => self.forget(partition),
            Event::RowRead { partition, offset, entries } => {
                self.take(partition, offset, entries);
                self.reach(now, partition);
            }
            Event::Flushed => self.flushed(now),
            Event::Committed { stored } => self.committed(now, &stored),
            Event::EndsSeen { asked, ends } => self.see_ends(now, asked, &ends),
            Event::Tick => {
                self.look_at_ends(now);
                if self.due <= now {
                    self.begin_round(now);
                }
            }
        }
        Vec::new()
    }

    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// Returns when [`Event::Tick`] is wanted.
    pub fn poll_deadline(&self) -> Option<Millis> {
        let round = (self.round == Round::Resting && self.has_map()).then_some(self.due);
        round.into_iter().chain(self.look_due()).min()
    }

    /// Returns the generation by which rows are sent.
    pub fn generation(&self) -> Generation {
        self.map.generation()
    }

    /// Returns how many ranges the map has.
    pub fn ranges(&self) -> usize {
        self.map.map().len()
    }

    /// Returns the partitions of which rows wait, and why.
    pub fn waiting(&self) -> impl Iterator<Item = (u32, &Waiting)> {
        self.partitions
            .iter()
            .filter_map(|(partition, it)| Some((*partition, it.waiting.as_ref()?)))
    }

    /// Returns the sources that get no watermark, as nobody has said where they read.
    pub fn unreachable(&self) -> impl Iterator<Item = &NodeId> {
        let sources = self.map.map().iter().filter(|it| it.source == Source::Node);
        let sources = sources.filter_map(|it| it.source_node.as_ref());
        sources.filter(|it| !self.inboxes.contains_key(it))
    }

    fn read_map(&mut self, now: Millis, row: Row) -> Vec<Refused> {
        if let Some(it) = &row.assignment {
            self.inboxes.insert(it.node.clone(), it.inbox);
        }
        let taken = self.map.read(row);
        if taken.advanced {
            self.go_on(now);
        }
        taken.refused
    }

    fn has_map(&self) -> bool {
        self.map_reached && self.map.generation() > Generation(0)
    }

    fn assign(&mut self, now: Millis, partition: u32, offset: u64, committed: Option<Committed>) {
        self.forget(partition);
        self.look.at = now;
        let is_compacted = self.settings.compaction_lag_ms.is_some();
        let new = Partition {
            next: offset,
            offered: offset,
            stored: committed.map(|it| (offset, it.generation)),
            follow: is_compacted.then(|| Follow::new(now, offset, committed)),
            held: VecDeque::new(),
            waiting: None,
            leaving: false,
        };
        self.partitions.insert(partition, new);
    }

    fn revoke(&mut self, now: Millis, partition: u32) {
        match self.partitions.get_mut(&partition) {
            Some(it) if it.offered < it.next => {
                it.leaving = true;
                self.begin_round(now);
            }
            Some(_) | None => {
                self.forget(partition);
                self.actions.push_back(Action::LetGo(partition));
            }
        }
    }

    /// What the round that is on may learn of the partition is of no use any more.
    fn forget(&mut self, partition: u32) {
        self.partitions.remove(&partition);
        match &mut self.round {
            Round::Resting => (),
            Round::Flushing(offer) | Round::Committing(offer) => {
                offer.offsets.remove(&partition);
                offer.caught_up.remove(&partition);
            }
        }
    }

    /// Another map may have an owner for what waits; and what is sent by it is to be told.
    fn go_on(&mut self, now: Millis) {
        for partition in self.partitions.keys().copied().collect::<Vec<_>>() {
            self.check(partition);
            self.reach(now, partition);
        }
        self.begin_round(now);
    }

    /// Sends what is held of a partition, as far as it can be, and says whether more can be used.
    fn check(&mut self, partition: u32) {
        let has_map = self.has_map();
        let Some(it) = self.partitions.get_mut(&partition).filter(|it| !it.leaving) else { return };
        let waited = it.waiting.take().is_some();
        let committed = it.stored.map_or(Generation(0), |it| it.1);
        if !has_map {
            it.waiting = Some(Waiting::NoMap);
        } else if self.map.generation() < committed {
            it.waiting = Some(Waiting::OlderMap { committed });
        }
        while it.waiting.is_none()
            && let Some((offset, entries)) = it.held.pop_front()
        {
            match addressed(&self.map, &entries) {
                Some(sent) => {
                    self.actions.extend(sent.into_iter().map(Action::Send));
                    it.next = offset + 1;
                }
                None => {
                    it.held.push_front((offset, entries));
                    it.waiting = Some(Waiting::NoOwner { offset });
                }
            }
        }
        match (waited, it.waiting.is_some()) {
            (false, true) => self.actions.push_back(Action::Pause(partition)),
            (true, false) => self.actions.push_back(Action::Resume(partition)),
            (true, true) | (false, false) => (),
        }
    }

    fn take(&mut self, partition: u32, offset: u64, entries: Vec<Entry>) {
        let Some(it) = self.partitions.get_mut(&partition).filter(|it| !it.leaving) else { return };
        let last = it.held.back().map_or(it.next, |it| it.0 + 1);
        if offset < last {
            return;
        }
        it.held.push_back((offset, entries));
        if it.waiting.is_none() {
            self.check(partition);
        }
    }

    /// Begins a round, or lets the one that is on be followed by another.
    fn begin_round(&mut self, now: Millis) {
        if self.round != Round::Resting {
            self.again = true;
            return;
        }
        self.again = false;
        self.due = Millis(now.0 + self.settings.round_ms);
        let generation = self.map.generation();
        let ready = |it: &Partition| it.stored.is_none_or(|it| it.1 <= generation);
        let offered = self.partitions.iter().filter(|(_, it)| self.has_map() && ready(it));
        let (mut offsets, mut caught_up) = (BTreeMap::new(), BTreeMap::new());
        for (partition, it) in offered {
            offsets.insert(*partition, it.next);
            caught_up.extend(it.follow.as_ref().map(|it| (*partition, it.caught_up())));
        }
        if !offsets.is_empty() {
            self.round = Round::Flushing(Offer { offsets, caught_up, generation });
            self.actions.push_back(Action::Flush);
        }
    }

    fn flushed(&mut self, now: Millis) {
        match std::mem::replace(&mut self.round, Round::Resting) {
            Round::Flushing(offer) if offer.offsets.is_empty() => self.end_round(now),
            Round::Flushing(offer) => {
                let offsets = offer.offsets.iter().map(|(partition, next)| (*partition, *next));
                let (offsets, generation) = (offsets.collect(), offer.generation);
                let caught_up = offer.caught_up.clone();
                self.actions.push_back(Action::Commit { offsets, generation, caught_up });
                self.round = Round::Committing(offer);
            }
            // Not what is waited for.
            other @ (Round::Resting | Round::Committing(_)) => self.round = other,
        }
    }

    fn end_round(&mut self, now: Millis) {
        if self.again {
            self.begin_round(now);
        }
    }

    fn committed(&mut self, now: Millis, stored: &BTreeSet<u32>) {
        match std::mem::replace(&mut self.round, Round::Resting) {
            Round::Committing(Offer { offsets, generation, .. }) => {
                for (partition, next) in offsets {
                    let Some(it) = self.partitions.get_mut(&partition) else { continue };
                    it.offered = next;
                    if stored.contains(&partition) {
                        it.stored = Some((next, generation));
                    }
                }
                self.tell(generation);
                let gone = |_: &u32, it: &mut Partition| it.leaving && it.offered == it.next;
                let gone = self.partitions.extract_if(.., gone);
                self.actions.extend(gone.map(|(partition, _)| Action::LetGo(partition)));
                self.end_round(now);
            }
            other @ (Round::Resting | Round::Flushing(_)) => self.round = other,
        }
    }
}

/// Returns the entries with their owners, all by one map; `None` if one has none.
fn addressed(map: &WholeMap, entries: &[Entry]) -> Option<Vec<Addressed>> {
    let address = |entry: &Entry| {
        let owner = map.map().owner(&entry.index_key.0)?;
        let update = IndexUpdate {
            generation: map.generation(),
            entry: Some(EntryUpdate { entry: entry.clone(), hops: 0 }),
            watermark: None,
        };
        Some(Addressed { node: owner.node.clone(), inbox: owner.inbox, update })
    };
    entries.iter().map(address).collect()
}

#[cfg(test)]
mod tests;
