//! Answers one read by what a worker holds: with entries, or where and when to ask (R18).
//!
//! ```text
//!                              asked as owner, at an epoch that is
//!  this node serves      less than its own   its own          greater
//!  reads                 moved               found            not yet
//!  reads as source       moved               moved            not yet
//!  by its source         moved               ask the source   not yet
//!  later                 moved               not yet          not yet
//!  nothing               moved               moved, or not    not yet
//!                                            yet if it is to
//!
//!                              asked as source
//!  reads                 found at its own epoch, else as above
//!  reads as source       found at the epoch that it is frozen at, else as above
//! ```
//!
//! * **Never by a stale epoch.** Entries are given at exactly the epoch that is asked for.
//! * **One moment.** What is served and the entries are of the same step. A view that is looked at
//!   before or after the snapshot is taken would answer from a range that was erased between the
//!   two, or that was not yet whole.
//! * **Bounded.** An answer ends at a limit of entries, bytes, or entries looked at, and says behind
//!   what to go on; so tombstones cannot make a read long.
//!
//! Nothing here waits: a read that is not to be answered yet is asked again by who asked it, who
//! knows its deadline.

use std::collections::BTreeMap;
use std::sync::Arc;

use schemas::range_segment::Entry;
use schemas::{Epoch, Generation, Key, KeySpan, NodeId};

use crate::store::{EntryKey, Limit, Snapshot, StoreError};
use crate::web::reads::{After, Answer, Asked, Found, FoundEntry, Later, Read, Refusal, What};

/// What a worker serves, by its own map of one whole generation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct View {
    node: NodeId,
    generation: Generation,
    /// By start, disjoint.
    parts: BTreeMap<Key, Part>,
}

/// An interval of the map, or a piece of one where the node serves its pieces differently.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    pub span: KeySpan,
    /// By the worker's own map, as the epoch is.
    pub owner: NodeId,
    pub epoch: Epoch,
    pub serves: Serves,
}

/// What reads of an interval a node serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Serves {
    /// Active at the epoch of the part.
    Reads,
    /// Leaving: frozen at an epoch before that of the part.
    ReadsAsSource { frozen: Epoch },
    /// Import or Applying at the epoch of the part, or Erasing on the way to one.
    BySource { node: NodeId, epoch: Epoch },
    /// Rebuild, or Erasing on the way to it.
    Later,
    /// The range is another's, or was only just heard of.
    Nothing,
}

/// How much is answered at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    pub reads_max: usize,
    /// Of a key that is asked for.
    pub key_bytes_max: usize,
    /// Of one read.
    pub entries_max: usize,
    /// Of one read, tombstones among them.
    pub looked_at_max: usize,
    /// Of all answers to a batch: keys and payloads, and [`ENTRY_BYTES`] for each entry. The last
    /// entry may go beyond.
    pub answer_bytes_max: usize,
}

/// What an entry takes in an answer beside its keys and payload.
pub const ENTRY_BYTES: usize = 64;

/// What is left of [`Limits::answer_bytes_max`] for the reads of a batch.
#[derive(Debug)]
pub struct Budget {
    bytes: usize,
}

/// What a worker serves and the entries of it, as of one step.
#[derive(Clone, Debug)]
pub struct Serving<S> {
    pub view: Arc<View>,
    pub snapshot: S,
}

/// The answer to one read, but for what it cost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Served {
    Found { entries: Vec<Entry>, next: Option<EntryKey> },
    Not(Answer),
}

impl View {
    /// Returns a view of parts in any order.
    pub fn new(
        node: NodeId,
        generation: Generation,
        parts: impl IntoIterator<Item = Part>,
    ) -> Self {
        let parts = parts.into_iter().map(|it| (it.span.start.clone(), it));
        let parts: BTreeMap<_, _> = parts.collect();
        let mut pairs = parts.values().zip(parts.values().skip(1));
        let is_disjoint = |(left, right): (&Part, &Part)| !left.span.overlaps(&right.span);
        assert!(pairs.all(is_disjoint), "a key has one owner");
        Self { node, generation, parts }
    }

    pub fn generation(&self) -> Generation {
        self.generation
    }

    /// Returns why an interval is not to be served at an epoch; `None`: it is to be.
    fn withheld(&self, span: &KeySpan, epoch: Epoch, asked: Asked) -> Option<Answer> {
        // All before this key may be served.
        let mut from = &span.start;
        loop {
            let part = self.part(from);
            if let Some(answer) = self.withheld_at(part, epoch, asked) {
                return Some(answer);
            }
            from = part.map(|it| &it.span.end).filter(|it| !it.0.is_empty())?;
            if !span.contains(&from.0) {
                return None;
            }
        }
    }

    fn withheld_at(&self, part: Option<&Part>, epoch: Epoch, asked: Asked) -> Option<Answer> {
        let Some(Part { owner, epoch: newest, serves, .. }) = part else {
            return Some(Answer::NotYet { reason: Later::OlderMap });
        };
        let moved = || {
            let (node, generation) = (owner.clone(), self.generation);
            Some(Answer::Moved { node, epoch: *newest, generation })
        };
        if *newest < epoch {
            return Some(Answer::NotYet { reason: Later::OlderMap });
        }
        match (serves, asked) {
            (Serves::ReadsAsSource { frozen }, Asked::Source) if *frozen == epoch => None,
            _ if epoch < *newest => moved(),
            (Serves::Reads, Asked::Owner | Asked::Source) => None,
            (Serves::BySource { node, epoch }, Asked::Owner) => {
                Some(Answer::AskSource { node: node.clone(), epoch: *epoch })
            }
            (Serves::Later, Asked::Owner | Asked::Source)
            // A source that is asked for another source would send reads in circles.
            | (Serves::BySource { .. }, Asked::Source) => {
                Some(Answer::NotYet { reason: Later::NotWhole })
            }
            // Its role is on the way to what the map says.
            (Serves::Nothing, Asked::Owner | Asked::Source) if *owner == self.node => {
                Some(Answer::NotYet { reason: Later::OlderMap })
            }
            (Serves::Nothing | Serves::ReadsAsSource { .. }, Asked::Owner | Asked::Source) => {
                moved()
            }
        }
    }

    fn part(&self, key: &Key) -> Option<&Part> {
        let (_, part) = self.parts.range(..=key).next_back()?;
        part.span.contains(&key.0).then_some(part)
    }
}

impl Limits {
    /// Returns the budget of a batch of so many reads, unless these are too many.
    pub fn budget(&self, reads: usize) -> Result<Budget, Refusal> {
        if self.reads_max < reads {
            return Err(Refusal::BatchTooLarge);
        }
        Ok(Budget { bytes: self.answer_bytes_max })
    }

    fn is_too_long(&self, key: &Key) -> bool {
        self.key_bytes_max < key.0.len()
    }
}

impl Budget {
    fn spend(&mut self, entry: &Entry) {
        let payload = entry.payload.as_ref().map_or(0, Vec::len);
        let bytes = entry.index_key.0.len() + entry.primary_key.0.len() + payload + ENTRY_BYTES;
        self.bytes = self.bytes.saturating_sub(bytes);
    }
}

/// A read in one form, whether of a key or of an interval.
struct Asking {
    span: KeySpan,
    after: Option<EntryKey>,
    entries_max: usize,
}

impl<S: Snapshot> Serving<S> {
    /// Answers one read of a batch.
    pub fn read(
        &self,
        read: &Read,
        limits: &Limits,
        budget: &mut Budget,
    ) -> Result<Served, StoreError> {
        let asking = match self.asking(read, limits) {
            Ok(asking) => asking,
            Err(answer) => return Ok(Served::Not(answer)),
        };
        if budget.bytes == 0 {
            return Ok(Served::Not(Answer::NotYet { reason: Later::AnswerFull }));
        }
        self.found(asking, limits.looked_at_max, budget)
    }

    /// Tells whether a read is to be answered from the store.
    pub fn serves(&self, read: &Read, limits: &Limits) -> bool {
        self.asking(read, limits).is_ok()
    }

    /// Returns what is to be read, or why nothing is.
    fn asking(&self, read: &Read, limits: &Limits) -> Result<Asking, Answer> {
        let refused = |reason| Answer::Refused { reason };
        let epoch = read.epoch.ok_or(refused(Refusal::NoEpoch))?;
        let asking = asking(&read.what, limits).map_err(refused)?;
        let mut left = asking.span.clone();
        if let Some(after) = &asking.after {
            left.start = after.index_key.clone();
        }
        match self.view.withheld(&left, epoch, read.asked_as) {
            Some(answer) => Err(answer),
            None => Ok(asking),
        }
    }

    fn found(
        &self,
        asking: Asking,
        looked_at_max: usize,
        budget: &mut Budget,
    ) -> Result<Served, StoreError> {
        let Asking { span, mut after, entries_max } = asking;
        let mut entries = Vec::new();
        let mut looked_at = 0;
        loop {
            let entries_left = (entries_max - entries.len()).min(looked_at_max - looked_at);
            let limit = Limit {
                entries: entries_left.min(budget.bytes / ENTRY_BYTES + 1),
                bytes: budget.bytes,
            };
            let page = self.snapshot.page(&span, after.as_ref(), limit)?;
            let mut rest = page.entries.into_iter();
            while let Some(entry) = rest.next() {
                let at = EntryKey::of(&entry);
                looked_at += 1;
                if entry.payload.is_some() {
                    budget.spend(&entry);
                    entries.push(entry);
                }
                let is_full =
                    entries.len() == entries_max || looked_at == looked_at_max || budget.bytes == 0;
                if is_full {
                    let is_more = rest.len() > 0 || page.next.is_some();
                    return Ok(Served::Found { entries, next: is_more.then_some(at) });
                }
            }
            after = page.next;
            if after.is_none() {
                return Ok(Served::Found { entries, next: None });
            }
        }
    }
}

impl Served {
    /// Returns the answer, with what it cost.
    pub fn answer(self, cost_us: u64) -> Answer {
        match self {
            Self::Found { entries, next } => {
                let after = |EntryKey { index_key, primary_key }| After { index_key, primary_key };
                let entries = entries.into_iter().filter_map(found_entry).collect();
                Answer::Found(Found { entries, next: next.map(after), cost_us })
            }
            Self::Not(answer) => answer,
        }
    }
}

fn found_entry(entry: Entry) -> Option<FoundEntry> {
    let Entry { index_key, primary_key, partition, offset, payload } = entry;
    Some(FoundEntry { index_key, primary_key, partition, offset, payload: payload? })
}

fn asking(what: &What, limits: &Limits) -> Result<Asking, Refusal> {
    match what {
        What::Key(key) => {
            if limits.is_too_long(key) {
                return Err(Refusal::KeyTooLong);
            }
            let end = Key([&key.0[..], &[0]].concat());
            let span = KeySpan { start: key.clone(), end };
            Ok(Asking { span, after: None, entries_max: limits.entries_max })
        }
        What::Range { start, end, limit, after } => {
            let keys = [Some(start), Some(end), after.as_ref().map(|it| &it.index_key)];
            if keys.into_iter().flatten().any(|it| limits.is_too_long(it)) {
                return Err(Refusal::KeyTooLong);
            }
            if !end.0.is_empty() && end <= start {
                return Err(Refusal::EmptyInterval);
            }
            let span = KeySpan { start: start.clone(), end: end.clone() };
            if after.as_ref().is_some_and(|it| !span.contains(&it.index_key.0)) {
                return Err(Refusal::AfterOutside);
            }
            let entries_max = limit.map_or(limits.entries_max, |it| it as usize);
            if entries_max == 0 {
                return Err(Refusal::NoEntries);
            }
            let after = after
                .clone()
                .map(|After { index_key, primary_key }| EntryKey { index_key, primary_key });
            Ok(Asking { span, after, entries_max: entries_max.min(limits.entries_max) })
        }
    }
}

#[cfg(test)]
mod tests;
