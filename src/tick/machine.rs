//! Decides where a tick ends in every partition, and so which records are in it: the box.
//!
//! ```text
//!                       every first record seen,            every `to` known,
//!                       or end reached                      emit the box
//!  no progress: Starting ─────────────────────> Choosing(t) ───────────────> Choosing(t + 1)
//!                                                  ^
//!  progress:    Replaying(box) ── all read, emit ──┘ after the last recorded box
//!
//!  Choosing: `to` is the first of
//!    a record stamped at or after the end of the tick, unless that stamp is from the future
//!    the end of the partition, as it stood when the tick's end plus grace had passed
//!    a record more than a span may hold
//! ```
//!
//! The driver reads every partition that [`Cutter::wants`], in any order, and shows each record to
//! [`Cutter::place`]. One that is placed later it keeps and shows again, first of its partition,
//! when the partition is wanted again: so it holds at most one record of each partition back.
//!
//! | reading    | asked for ends                    | a tick is closed by            | finished           |
//! |------------|-----------------------------------|--------------------------------|--------------------|
//! | live       | when a tick and its grace passed  | a later stamp, the wall clock  | never              |
//! | historical | once, as of [`END_OF_TIME`]       | a later stamp, the end         | all at their ends  |
//! | paced      | never: its writer marks each tick | a later stamp alone            | when its driver says so, or the historical ones beside it are |
//!
//! * **Boxes tile the log.** No offset is left out, none is read twice, and in a partition the
//!   order stays.
//! * **No record counts early.** One that comes late counts in the tick that is open. One from the
//!   future counts as used nowhere: the box names it.
//! * **Nobody waits for an idle partition.** The wall clock ends its tick. Who paces a partition has
//!   promised not to leave it idle.
//! * **A mountain is taken in slices.** Ends only matter where no later stamp was read, so what has
//!   piled up is cut by its stamps.
//! * **A recorded box is kept.** Neither stamps nor ends nor limits count in it.
//!
//! Where a partition ends is a question at a time: an answer serves every tick whose end plus grace
//! had passed when it was asked.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use dataflows::Tick;
use schemas::Millis;

use super::future::Stamp;
pub use super::rules::{Reading, Rules};
use super::tick_box::{Offset, Span, TickBox, TopicPartition};

/// As of when the ends of a finished log are known.
pub const END_OF_TIME: Millis = Millis(u64::MAX);

/// Where a record belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// In the box that is emitted next.
    Now,
    /// In that box, which names it as being from the future: it is not used.
    FromFuture,
    /// In one after it: keep the record, and show it again.
    Later,
}

/// Whether a box was read from progress, or is to be written there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    Recorded,
    Chosen,
}

/// Cuts the logs of all partitions into ticks.
#[derive(Debug)]
pub struct Cutter {
    rules: Rules,
    phase: Phase,
    partitions: BTreeMap<TopicPartition, Partition>,
    recorded: VecDeque<TickBox>,
    ends: Ends,
    from_future: BTreeSet<(TopicPartition, Offset)>,
    /// Whether the wall clock ends ticks.
    is_live: bool,
    /// Whether some partition is read to an end.
    is_historical: bool,
}

#[derive(Debug)]
enum Phase {
    /// The first tick is that of the oldest record.
    Starting {
        oldest: Option<Tick>,
    },
    Replaying(TickBox),
    Choosing(Tick),
}

/// One partition in the open tick.
#[derive(Debug)]
struct Partition {
    reading: Reading,
    from: Offset,
    /// Just after the last record that is in the tick.
    taken: Offset,
    records: u64,
    /// What lies before is read; markers that follow may be, too.
    position: Offset,
    /// The tick goes no further, as far as known.
    bound: Option<Offset>,
    /// Set when everything before it is read.
    to: Option<Offset>,
    /// The stamp by its writer's clock that set `to`.
    cut_by: Option<Millis>,
}

/// Where the partitions ended when it was last asked.
#[derive(Debug)]
struct Ends {
    asked: Option<Millis>,
    at: BTreeMap<TopicPartition, Offset>,
}

impl Cutter {
    /// Begins at `starts`, or where the first of the `recorded` boxes does; those come first.
    pub fn new(
        rules: Rules,
        starts: BTreeMap<TopicPartition, (Offset, Reading)>,
        recorded: impl IntoIterator<Item = TickBox>,
    ) -> Self {
        assert!(rules.tick_ms > 0, "a tick takes time");
        assert!(rules.span_records_max > 0, "a tick can hold a record");
        let is_read = |reading| starts.values().any(|it| it.1 == reading);
        let [is_live, is_historical] = [Reading::Live, Reading::Historical].map(is_read);
        let is_mixed = is_historical || is_read(Reading::Paced);
        assert!(is_live != is_mixed, "the wall clock ends all ticks or none, and there are some");
        let mut recorded = VecDeque::from_iter(recorded);
        let first = recorded.pop_front();
        let from = |at, start| {
            let span = first.as_ref().and_then(|first| first.spans.get(&at));
            span.map_or(start, |span| span.from)
        };
        let partition = |(at, (start, reading))| (at, Partition::new(reading, from(at, start)));
        let partitions = starts.into_iter().map(partition).collect();
        let phase = first.map_or(Phase::Starting { oldest: None }, Phase::Replaying);
        let ends = Ends { asked: None, at: BTreeMap::new() };
        let from_future = BTreeSet::new();
        let mut res =
            Self { rules, phase, partitions, recorded, ends, from_future, is_live, is_historical };
        res.bound();
        res
    }

    /// Returns before what a partition is read.
    pub fn position(&self, at: TopicPartition) -> Offset {
        self.partitions[&at].position
    }

    /// Tells whether the open tick may hold more of the partition.
    pub fn wants(&self, at: TopicPartition) -> bool {
        self.partitions[&at].to.is_none()
    }

    /// Tells whether the open tick was recorded, so that stamps do not count.
    pub fn is_replaying(&self) -> bool {
        matches!(self.phase, Phase::Replaying(_))
    }

    /// Returns the tick whose box is emitted next, when it is known.
    pub fn open_tick(&self) -> Option<Tick> {
        match &self.phase {
            Phase::Starting { .. } => None,
            Phase::Replaying(bounds) => Some(bounds.tick),
            Phase::Choosing(tick) => (!self.is_finished()).then_some(*tick),
        }
    }

    /// Takes in the next record of a partition that is wanted.
    pub fn place(&mut self, at: TopicPartition, offset: Offset, stamp: Stamp) -> Place {
        let is_future = self.is_from_future(at, offset, stamp);
        let is_pacer = self.paces(&self.partitions[&at]);
        let partition = self.partitions.get_mut(&at).expect("a partition that is read");
        assert!(partition.to.is_none(), "the open tick wants no more of {at}");
        assert!(partition.position <= offset, "{at} goes back to {offset:?}: {partition:?}");

        let mut is_cut = || match &mut self.phase {
            Phase::Starting { oldest } => {
                let tick = self.rules.tick_of(stamp.begins);
                if !is_pacer {
                    *oldest = Some(oldest.map_or(tick, |oldest| oldest.min(tick)));
                }
                true
            }
            Phase::Replaying(_) => false,
            Phase::Choosing(open) => {
                let is_later = *open < self.rules.tick_of(stamp.at) && !is_future;
                partition.cut_by = (is_later && stamp.by_writer).then_some(stamp.at);
                is_later || partition.records == self.rules.span_records_max
            }
        };
        let bound = partition.bound.filter(|&bound| bound <= offset);
        partition.to = bound.or_else(|| is_cut().then_some(offset));
        if partition.to.is_some() {
            self.start();
            return Place::Later;
        }
        partition.records += 1;
        partition.taken = Offset(offset.0 + 1);
        partition.reach(partition.taken);
        if is_future {
            self.from_future.insert((at, offset));
            return Place::FromFuture;
        }
        Place::Now
    }

    /// Takes in that no record before `position` is still to be shown, only markers were left.
    pub fn pass(&mut self, at: TopicPartition, position: Offset) {
        self.partitions.get_mut(&at).expect("a partition that is read").reach(position);
        self.start();
    }

    /// Takes in where the partitions ended at `asked` or later.
    pub fn ends_known(&mut self, asked: Millis, at: BTreeMap<TopicPartition, Offset>) {
        self.ends = Ends { asked: Some(asked), at };
        self.bound();
        self.start();
    }

    /// Returns when to ask for the ends, unless the open tick has what it may need of them.
    pub fn poll_deadline(&self) -> Option<Millis> {
        self.deadline().filter(|&deadline| self.ends.asked.is_none_or(|asked| asked < deadline))
    }

    /// Returns the box of the open tick when it is read, and opens the next tick.
    pub fn poll_box(&mut self, now: Millis) -> Option<(TickBox, Origin)> {
        if self.is_finished() || !self.is_read() || self.is_early(now) {
            return None;
        }
        let spans = self.partitions.iter_mut().map(|(&at, it)| (at, it.close())).collect();
        let from_future = std::mem::take(&mut self.from_future);
        let Rules { tick_ms, grace_ms, span_records_max, .. } = self.rules;
        let (bounds, origin) = match &self.phase {
            Phase::Starting { .. } => unreachable!("no tick is open"),
            Phase::Replaying(bounds) => (bounds.clone(), Origin::Recorded),
            &Phase::Choosing(tick) => {
                let stale = self.is_stale(tick, now);
                let bounds = TickBox {
                    tick,
                    tick_ms,
                    grace_ms,
                    span_records_max,
                    spans,
                    stale,
                    from_future,
                };
                (bounds, Origin::Chosen)
            }
        };
        let next = self.recorded.pop_front();
        if let Some(next) = &next {
            assert!(bounds.is_followed_by(next), "a hole in progress: {bounds:?}, then {next:?}");
        }
        self.phase = next.map_or(Phase::Choosing(bounds.tick + 1), Phase::Replaying);
        self.bound();
        Some((bounds, origin))
    }

    /// Tells whether the partitions that have an end are read to it, and no box is recorded behind.
    pub fn is_finished(&self) -> bool {
        let at_end = |(at, it): (_, &Partition)| {
            it.reading != Reading::Historical
                || self.ends.at.get(at).is_some_and(|end| *end <= it.from)
        };
        match self.phase {
            Phase::Replaying(_) => false,
            Phase::Starting { .. } | Phase::Choosing(_) => {
                self.is_historical && self.partitions.iter().all(at_end)
            }
        }
    }

    fn is_read(&self) -> bool {
        self.partitions.values().all(|partition| partition.to.is_some())
    }

    /// Tells whether the tick is not over by the wall clock, where that has a say: some writer's
    /// clock is ahead. If by too much, the ends are to tell first.
    fn is_early(&self, now: Millis) -> bool {
        let tick = match self.phase {
            Phase::Starting { .. } => return true,
            Phase::Replaying(_) => return false,
            Phase::Choosing(tick) => tick,
        };
        let limit = Millis(now.0.saturating_add(self.rules.future_max_ms));
        self.is_live
            && (now < self.rules.end_of(tick)
                || self.partitions.values().any(|it| it.cut_by.is_some_and(|at| limit < at)))
    }

    fn is_stale(&self, tick: Tick, now: Millis) -> bool {
        let span_ms = self.rules.stale_max.saturating_mul(self.rules.tick_ms);
        self.is_live && self.rules.end_of(tick).0.saturating_add(span_ms) < now.0
    }

    /// Tells whether the partition is written for ticks that others begin.
    fn paces(&self, partition: &Partition) -> bool {
        partition.reading == Reading::Paced && self.is_historical
    }

    /// Tells whether a record that is still in the open tick is so in spite of its stamp.
    fn is_from_future(&self, at: TopicPartition, offset: Offset, stamp: Stamp) -> bool {
        match &self.phase {
            Phase::Replaying(bounds) => bounds.from_future.contains(&(at, offset)),
            Phase::Starting { .. } => stamp.from_future,
            Phase::Choosing(_) => {
                stamp.from_future
                    || stamp.by_writer && self.time_max().is_some_and(|max| max < stamp.at)
            }
        }
    }

    /// Returns the latest stamp that a live record can have which came before the ends were asked
    /// for, unless its writer's clock is wrong.
    fn time_max(&self) -> Option<Millis> {
        let asked = self.ends.asked.filter(|_| self.is_live && self.poll_deadline().is_none())?;
        Some(Millis(asked.0.saturating_add(self.rules.future_max_ms)))
    }

    /// Opens the first tick when the oldest record is known. What was seen is shown again.
    fn start(&mut self) {
        let Phase::Starting { oldest } = self.phase else { return };
        let is_timeless = self.is_live && self.ends.asked.is_none();
        if is_timeless || !self.partitions.values().all(|it| it.to.is_some() || self.paces(it)) {
            return;
        }
        let tick = match (self.ends.asked, oldest) {
            (Some(now), oldest) if self.is_live => {
                let now_tick = self.rules.tick_of(now);
                let past = Millis(now.0.saturating_sub(self.rules.past_max_ms));
                oldest.map_or(now_tick, |it| it.clamp(self.rules.tick_of(past), now_tick))
            }
            // A log that is empty is finished, whatever the tick.
            (_, oldest) => oldest.unwrap_or(0),
        };
        self.phase = Phase::Choosing(tick);
        self.partitions.values_mut().for_each(|it| it.to = None);
        self.bound();
    }

    /// Works out how far the open tick goes at most, and whether it is there already.
    fn bound(&mut self) {
        let deadline = self.deadline();
        let usable = deadline.is_some_and(|it| self.ends.asked.is_some_and(|asked| it <= asked));
        let time_max = self.time_max();
        for (at, partition) in &mut self.partitions {
            partition.bound = match &self.phase {
                // A partition that is not in the box came into being after it.
                Phase::Replaying(it) => Some(it.spans.get(at).map_or(partition.from, |it| it.to)),
                // What is taken stays, though the answer may be older.
                Phase::Starting { .. } | Phase::Choosing(_) => {
                    let end = self.ends.at.get(at).filter(|_| usable);
                    end.map(|&end| end.max(partition.taken))
                }
            };
            // The stamp that ended the tick here was none: the record is shown again.
            if time_max.is_some_and(|max| partition.cut_by.is_some_and(|at| max < at)) {
                (partition.to, partition.cut_by) = (None, None);
            }
            partition.reach(partition.position);
        }
    }

    /// Returns as of when the ends count in the open tick.
    fn deadline(&self) -> Option<Millis> {
        match self.phase {
            Phase::Starting { .. } => Some(Millis(0)),
            Phase::Replaying(_) => None,
            Phase::Choosing(tick) => Some(self.rules.deadline(tick)),
        }
    }
}

impl Partition {
    fn new(reading: Reading, from: Offset) -> Self {
        let (bound, to, cut_by) = (None, None, None);
        Self { reading, from, taken: from, records: 0, position: from, bound, to, cut_by }
    }

    fn reach(&mut self, position: Offset) {
        self.position = self.position.max(position);
        if self.to.is_none() {
            self.to = self.bound.filter(|&bound| bound <= self.position);
        }
    }

    /// Begins again where the tick ended. The position stays: it may be behind markers already.
    fn close(&mut self) -> Span {
        let to = self.to.take().expect("the tick is read");
        let span = Span { from: self.from, to };
        let position = self.position.max(to);
        *self = Self { position, ..Self::new(self.reading, to) };
        span
    }
}

#[cfg(test)]
mod tests;
