//! Drives a cutter over logs that come to light as time goes on, and cuts them once more by the
//! definition.

use super::super::*;
use crate::tick::future::{AHEAD_MAX, Lookahead};

/// Tick 1 is `[10, 20)`, and its ends count as of 23.
pub const RULES: Rules = Rules {
    tick_ms: 10,
    grace_ms: 3,
    span_records_max: 5,
    stale_max: 3,
    future_max_ms: 60,
    past_max_ms: 10_000,
};

/// One offset: when it can be read, and the stamp of its record; a marker has none. Of a paced log
/// *when* is the tick that its writer has come to.
pub type Entry = (u64, Option<u64>);

/// A box with the offsets of its records, partition by partition in the order read.
pub type Filled = (TickBox, BTreeMap<TopicPartition, Vec<Offset>>);

/// One partition.
#[derive(Clone, Debug)]
pub struct Log {
    pub reading: Reading,
    pub by_writer: bool,
    pub entries: Vec<Entry>,
}

/// When the ends were asked for, and where they were.
type Answer = (u64, Vec<usize>);

pub struct Walk<'a> {
    pub logs: &'a [Log],
    pub cutter: Cutter,
    pub filled: Vec<Filled>,
    pub origins: Vec<Origin>,
    /// When each box was emitted.
    pub emitted: Vec<u64>,
    /// The answer that counted in each tick; `None` is before the first.
    pub answers: BTreeMap<Option<Tick>, Answer>,
    /// How many ticks a paced log is written ahead.
    pub lead: u64,
    next: Vec<usize>,
    ahead: Vec<Lookahead<usize>>,
    /// Up to where the markers were passed, which is told once.
    passed: Vec<Option<usize>>,
    records: BTreeMap<TopicPartition, Vec<Offset>>,
    last_answer: Option<Answer>,
}

pub fn key(id: usize) -> TopicPartition {
    TopicPartition { topic: ["mist", "rain"][id / 2], partition: id as u32 % 2 }
}

pub fn starts(logs: &[Log]) -> BTreeMap<TopicPartition, (Offset, Reading)> {
    logs.iter().enumerate().map(|(id, log)| (key(id), (Offset(0), log.reading))).collect()
}

impl<'a> Walk<'a> {
    pub fn new(logs: &'a [Log], recorded: impl IntoIterator<Item = TickBox>) -> Self {
        Self::with(RULES, logs, recorded)
    }

    pub fn with(
        rules: Rules,
        logs: &'a [Log],
        recorded: impl IntoIterator<Item = TickBox>,
    ) -> Self {
        let cutter = Cutter::new(rules, starts(logs), recorded);
        let next = (0..logs.len()).map(|id| cutter.position(key(id)).0 as usize).collect();
        let ahead = || Lookahead::new(rules.future_max_ms, rules.past_max_ms, Millis(1_000_000));
        let mut res = Self {
            logs,
            cutter,
            filled: Vec::new(),
            origins: Vec::new(),
            emitted: Vec::new(),
            answers: BTreeMap::new(),
            lead: 2,
            next,
            ahead: logs.iter().map(|_| ahead()).collect(),
            passed: vec![None; logs.len()],
            records: BTreeMap::new(),
            last_answer: None,
        };
        res.clear();
        if !res.is_live() {
            let historical = |it: &usize| logs[*it].reading == Reading::Historical;
            let end = |id: usize| (key(id), Offset(logs[id].entries.len() as u64));
            let ends = (0..logs.len()).filter(historical).map(end).collect();
            res.cutter.ends_known(END_OF_TIME, ends);
        }
        res
    }

    fn is_live(&self) -> bool {
        self.logs[0].reading == Reading::Live
    }

    /// Reads all there is at every millisecond from `now` to `last`.
    pub fn go(&mut self, now: u64, last: u64) {
        for now in now..=last {
            for step in 0.. {
                assert!(step < 1000, "hangs at {now}: {:?}", self.cutter);
                while (0..self.logs.len()).any(|id| self.read(id, now)) {}
                if !self.emit(now) && !self.ask(now) {
                    break;
                }
            }
        }
    }

    /// Does one thing after the other, in any order, until the whole log is in boxes.
    pub fn wander(&mut self, random: &mut Random, mut now: u64) {
        let mut steps = 0;
        while !self.is_whole() {
            match random.below(10) {
                0 => now += 1 + random.below(4) as u64,
                1 => _ = self.emit(now),
                2 => _ = self.ask(now),
                _ => _ = self.read(random.below(self.logs.len()), now),
            }
            steps += 1;
            assert!(steps < 1_000_000, "hangs at {now}: {:?}", self.cutter);
        }
    }

    /// Tells whether all that can be is in boxes; a paced log keeps what follows its last mark.
    fn is_whole(&self) -> bool {
        if self.logs.iter().any(|log| log.reading == Reading::Historical) {
            return self.cutter.is_finished();
        }
        let Some((last, _)) = self.filled.last() else { return false };
        let mut logs = self.logs.iter().zip(last.spans.values());
        logs.all(|(log, span)| match log.reading {
            Reading::Live | Reading::Historical => span.to.0 as usize == log.entries.len(),
            Reading::Paced => log.entries.last().is_some_and(|it| it.0 == last.tick),
        })
    }

    fn read(&mut self, id: usize, now: u64) -> bool {
        let at = key(id);
        if !self.cutter.wants(at) {
            return false;
        }
        let entries = &self.logs[id].entries;
        let (seen, is_historical) =
            (self.seen(id, now), self.logs[id].reading == Reading::Historical);
        while !self.ahead[id].is_full() && self.next[id] < seen {
            let fetched = self.next[id];
            self.next[id] += 1;
            let Some(stamp) = entries[fetched].1 else { continue };
            self.ahead[id].push(Millis(stamp), fetched);
            if !is_historical {
                break;
            }
        }
        let is_judged = !is_historical
            || self.cutter.is_replaying()
            || self.ahead[id].is_full()
            || self.next[id] == entries.len();
        match self.ahead[id].first().filter(|_| is_judged) {
            Some(&first) => self.place(id, first),
            None if self.ahead[id].is_empty() && self.passed[id] != Some(seen) => {
                self.passed[id] = Some(seen);
                self.cutter.pass(at, Offset(seen as u64));
            }
            None => return false,
        }
        true
    }

    fn place(&mut self, id: usize, first: usize) {
        let at = Millis(self.logs[id].entries[first].1.unwrap());
        let stamp = match (self.logs[id].reading, self.logs[id].by_writer) {
            (Reading::Historical, _) => self.ahead[id].judge().unwrap(),
            (_, true) => Stamp::by_writer(at),
            (_, false) => Stamp::by_broker(at),
        };
        match self.cutter.place(key(id), Offset(first as u64), stamp) {
            Place::Now => {
                self.records.get_mut(&key(id)).unwrap().push(Offset(first as u64));
            }
            Place::FromFuture => (),
            Place::Later => return,
        }
        self.ahead[id].take();
    }

    fn ask(&mut self, now: u64) -> bool {
        let due = self.cutter.poll_deadline().is_some_and(|deadline| deadline <= Millis(now));
        if due {
            let seen: Vec<_> = (0..self.logs.len()).map(|id| self.seen(id, now)).collect();
            let ends = (0..).map(key).zip(seen.iter().map(|it| Offset(*it as u64))).collect();
            if self.last_answer.is_none() {
                self.answers.insert(None, (now, seen.clone()));
            }
            self.last_answer = Some((now, seen));
            self.cutter.ends_known(Millis(now), ends);
        }
        due
    }

    fn emit(&mut self, now: u64) -> bool {
        let Some((bounds, origin)) = self.cutter.poll_box(Millis(now)) else { return false };
        if let Some(answer) = &self.last_answer
            && RULES.deadline(bounds.tick) <= Millis(answer.0)
        {
            self.answers.insert(Some(bounds.tick), answer.clone());
        }
        self.filled.push((bounds, std::mem::take(&mut self.records)));
        self.origins.push(origin);
        self.emitted.push(now);
        self.clear();
        true
    }

    fn clear(&mut self) {
        self.records = (0..self.logs.len()).map(|id| (key(id), vec![])).collect();
    }

    fn seen(&self, id: usize, now: u64) -> usize {
        let log = &self.logs[id];
        let until = match log.reading {
            Reading::Live | Reading::Historical => now,
            Reading::Paced => {
                let done = self.filled.last().map(|(bounds, _)| bounds.tick + 1);
                let others = self.logs.iter().any(|it| it.reading == Reading::Historical);
                let first = log.entries.first().map_or(0, |it| it.0);
                match self.cutter.open_tick().or(done) {
                    // What is late may open a tick before those that are written.
                    Some(open) => open.max(first) + self.lead,
                    // Who writes beside a historical log waits for it to begin.
                    None if others => return 0,
                    None => first + self.lead,
                }
            }
        };
        log.entries.partition_point(|entry| entry.0 <= until)
    }

    pub fn boxes(&self) -> Vec<TickBox> {
        self.filled.iter().map(|(bounds, _)| bounds.clone()).collect()
    }

    pub fn last_to(&self) -> Vec<Offset> {
        self.filled.last().unwrap().0.spans.values().map(|span| span.to).collect()
    }
}

/// Cuts by the definition: a tick after the other, with the whole log and all answers at hand.
pub fn recompute(logs: &[Log], live: &Walk<'_>) -> Vec<Filled> {
    let mut from = vec![0; logs.len()];
    let mut res = Vec::new();
    for (n, tick) in (first_tick(logs, live)..).take(live.filled.len()).enumerate() {
        let answer = live.answers.get(&Some(tick));
        let (mut spans, mut records) = (BTreeMap::new(), BTreeMap::new());
        let mut from_future = BTreeSet::new();
        for (id, log) in logs.iter().enumerate() {
            let entries = &log.entries;
            let stop = answer.map_or(entries.len(), |answer| answer.1[id]);
            let stamped = |at: &usize| entries[*at].1.is_some();
            let is_future = |at: &usize| is_future(log, *at, answer.map(|answer| answer.0));
            let ends = |at: &usize| {
                entries[*at].1.is_some_and(|it| it / RULES.tick_ms > tick) && !is_future(at)
            };
            let later = (from[id]..stop).find(ends);
            let extra = (from[id]..stop).filter(stamped).nth(RULES.span_records_max as usize);
            let paced = log.reading == Reading::Paced;
            assert!(!paced || later.is_some() || extra.is_some(), "closed without a mark");
            let to = later.unwrap_or(stop).min(extra.unwrap_or(stop));
            let offset = |at: usize| Offset(at as u64);
            let of_box = || (from[id]..to).filter(stamped);
            spans.insert(key(id), Span { from: offset(from[id]), to: offset(to) });
            records.insert(key(id), of_box().filter(|at| !is_future(at)).map(offset).collect());
            from_future.extend(of_box().filter(is_future).map(|at| (key(id), offset(at))));
            from[id] = to;
        }
        let stale = live.is_live() && (tick + 1 + RULES.stale_max) * 10 < live.emitted[n];
        let Rules { tick_ms, grace_ms, span_records_max, .. } = RULES;
        let bounds =
            TickBox { tick, tick_ms, grace_ms, span_records_max, spans, stale, from_future };
        res.push((bounds, records));
    }
    res
}

fn first_tick(logs: &[Log], live: &Walk<'_>) -> Tick {
    let answer = live.answers.get(&None);
    let mixed = logs.iter().any(|log| log.reading == Reading::Historical);
    let begins = logs.iter().enumerate().filter_map(|(id, log)| {
        let seen = answer.map_or(log.entries.len(), |answer| answer.1[id]);
        let mut stamps = (0..seen).filter_map(|at| log.entries[at].1.map(|it| (at, it)));
        let (at, first) = stamps.next()?;
        match log.reading {
            Reading::Paced => (!mixed).then_some(first),
            Reading::Live => Some(first),
            Reading::Historical => {
                let next: Vec<_> = stamps.map(|it| it.1).take(AHEAD_MAX).collect();
                let floor = median(&next).map_or(0, |it| it.saturating_sub(RULES.past_max_ms));
                let sensible = || next.iter().copied().filter(|it| *it >= floor).min();
                match is_future(log, at, None) {
                    true => sensible(),
                    false => Some(first.max(floor)),
                }
            }
        }
    });
    let oldest = begins.min();
    let first = match answer {
        Some((now, _)) => oldest.unwrap_or(*now).clamp(now.saturating_sub(RULES.past_max_ms), *now),
        None => oldest.unwrap_or(0),
    };
    first / RULES.tick_ms
}

fn is_future(log: &Log, at: usize, asked: Option<u64>) -> bool {
    let Some(stamp) = log.entries[at].1 else { return false };
    match log.reading {
        Reading::Paced => false,
        Reading::Live => {
            log.by_writer && asked.is_some_and(|asked| asked + RULES.future_max_ms < stamp)
        }
        Reading::Historical => {
            let next = log.entries[at + 1..].iter().filter_map(|it| it.1).take(AHEAD_MAX);
            let median = median(&next.collect::<Vec<_>>());
            median.is_some_and(|median| median + RULES.future_max_ms < stamp)
        }
    }
}

fn median(stamps: &[u64]) -> Option<u64> {
    let mut sorted = stamps.to_vec();
    sorted.sort_unstable();
    sorted.get(sorted.len().saturating_sub(1) / 2).copied()
}

/// Some numbers that a seed tells.
pub struct Random(pub u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        println!("seed {seed}");
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    pub fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % n as u64) as usize
    }

    /// Makes up to four partitions of two topics.
    pub fn logs(&mut self, mut partition: impl FnMut(&mut Self, usize) -> Log) -> Vec<Log> {
        (0..1 + self.below(4)).map(|id| partition(self, id)).collect()
    }

    /// Makes up to 40 offsets in some 200 ms, with markers, lags, crowds, and clocks that are ahead.
    pub fn log(&mut self, reading: Reading) -> Log {
        let mut now = self.below(60) as u64;
        let mut entry = |random: &mut Self| {
            now += [0, 0, 1, 3, 25][random.below(5)];
            let ahead = [0, 0, 0, 0, 0, 0, 0, 0, 5, 90, 900][random.below(11)];
            let stamp = now.saturating_sub([0, 0, 1, 4, 40][random.below(5)]) + ahead;
            (now, (random.below(6) > 0).then_some(stamp))
        };
        let entries = (0..self.below(41)).map(|_| entry(self)).collect();
        Log { reading, by_writer: self.below(2) > 0, entries }
    }

    /// Makes the log of a writer who marks the end of each of the ticks.
    pub fn paced(&mut self, ticks: std::ops::Range<Tick>) -> Log {
        let mut entries = Vec::new();
        for tick in ticks {
            for _ in 0..self.below(4) {
                let lag = [0, 0, 0, 15][self.below(4)];
                let stamp = (tick * 10 + self.below(10) as u64).saturating_sub(lag);
                entries.push((tick, (self.below(6) > 0).then_some(stamp)));
            }
            entries.push((tick, Some((tick + 1) * 10)));
        }
        Log { reading: Reading::Paced, by_writer: true, entries }
    }
}
