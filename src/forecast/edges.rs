//! Follows places that move on through the key space, such as the end of keys that grow with time, and says
//! where they will be.
//!
//! ```text
//!  key │                · · ·     as fast as lately: so much of its load, in these ticks, in those ranges
//!      │          ●  ●            what was asked of it in a tick, and the farthest key of that
//!      │    ●  ●                  where it was, its load does not stay
//!      └───────────────────────── tick
//! ```
//!
//! * **Seen three times** in order, each near the one before, an edge is believed; not seen for three ticks, it
//!   is forgotten.
//! * **By keys alone.** Speed is a difference of keys as numbers, so ranges may be split and joined under it.

use std::collections::VecDeque;

use dataflows::Tick;
use dataflows::forecast::HORIZON;
use schemas::Key;
use serde::{Deserialize, Serialize};

/// So often it must have been seen before it is believed.
const SEEN_MIN: usize = 3;

/// Its speed is that of so many sights.
const SEEN_MAX: usize = 6;

/// Not seen for so long, it is forgotten.
const UNSEEN_MAX: Tick = 3;

/// From one tick to the next it may leave out so many times what it passes in one.
const GAP_MAX: u64 = 4;

/// At most so many are followed: those with the greatest load.
const EDGES_MAX: usize = 64;

/// Bytes of a key that count as its number, behind what all keys of an edge have in common but so many.
const NUMBER_BYTES: usize = 16;
const CARRY_BYTES: usize = 8;

/// What was asked of one operation, in a tick, at a place that moves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Swept {
    pub op: usize,
    /// The least and the greatest key of it.
    pub low: Key,
    pub high: Key,
    /// In microseconds.
    pub load_us: u64,
}

/// All that are followed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Edges(Vec<Edge>);

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Edge {
    op: usize,
    /// `None`: seen once.
    heading: Option<Heading>,
    /// The oldest first.
    seen: VecDeque<Seen>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Heading {
    Up,
    Down,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Seen {
    tick: Tick,
    low: Key,
    high: Key,
    load_us: u64,
}

/// Where an edge was and will be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Course {
    pub op: usize,
    /// A tick.
    pub load_us: u64,
    /// What it asked lately, and where.
    pub behind: Vec<(Key, u64)>,
    /// Its place in each tick of the horizon.
    pub ahead: Vec<Key>,
}

impl Edges {
    /// Takes in what moved on in a tick.
    pub fn observe(&mut self, tick: Tick, mut swept: Vec<Swept>) {
        self.0.retain(|it| tick <= it.last().tick + UNSEEN_MAX);
        swept.sort_by(|a, b| b.load_us.cmp(&a.load_us).then_with(|| a.low.cmp(&b.low)));
        swept.truncate(EDGES_MAX);
        let seen: Vec<_> = swept.into_iter().map(|it| (it.op, Seen::at(tick, it))).collect();
        let mut pairs = Vec::new();
        for (at, (op, seen)) in seen.iter().enumerate() {
            let edges = self.0.iter().enumerate().filter(|it| it.1.op == *op);
            pairs.extend(edges.filter_map(|(i, edge)| Some((edge.gap(seen)?, i, at))));
        }
        // The nearest first; each edge is seen once, and each place is of one edge.
        pairs.sort_unstable();
        let (mut met, mut known) = (vec![false; self.0.len()], vec![false; seen.len()]);
        for (_, i, at) in pairs {
            if !met[i] && !known[at] {
                (met[i], known[at]) = (true, true);
                self.0[i].go_on(seen[at].1.clone());
            }
        }
        let new = seen.into_iter().zip(known).filter(|it| !it.1).map(|it| it.0);
        self.0.extend(new.map(|(op, seen)| Edge { op, heading: None, seen: [seen].into() }));
        self.0.sort_by_key(|it| std::cmp::Reverse((it.seen.len(), it.last().load_us)));
        self.0.truncate(EDGES_MAX);
    }

    /// Returns the courses of those that are believed, from the end of this tick on.
    pub fn courses(&self, tick: Tick) -> impl Iterator<Item = Course> + '_ {
        self.0.iter().filter_map(move |it| it.course(tick))
    }
}

impl Edge {
    fn last(&self) -> &Seen {
        self.seen.back().expect("an edge was seen")
    }

    /// What lies between where it was last and that, if it may have come there: not more than a few times
    /// what it passed in a tick.
    fn gap(&self, seen: &Seen) -> Option<u128> {
        let last = self.last();
        let heading = heading(last, seen)?;
        if self.heading.is_some_and(|it| it != heading) {
            return None;
        }
        let ends = [&last.low, &last.high, &seen.low, &seen.high];
        let skip = ends.iter().map(|it| skip(ends[0], it)).min().unwrap_or_default();
        let [low, high, next_low, next_high] = ends.map(|it| number(it, skip));
        let gap = match heading {
            Heading::Up => next_low.saturating_sub(high),
            Heading::Down => low.saturating_sub(next_high),
        };
        let passed = (high - low).max(next_high - next_low);
        let may = passed.saturating_mul(u128::from(GAP_MAX * (seen.tick - last.tick)));
        (gap <= may).then_some(gap)
    }

    fn go_on(&mut self, seen: Seen) {
        self.heading = heading(self.last(), &seen);
        self.seen.push_back(seen);
        while SEEN_MAX < self.seen.len() {
            self.seen.pop_front();
        }
    }

    fn course(&self, tick: Tick) -> Option<Course> {
        let heading = self.heading?;
        let (first, last) = (self.seen.front()?, self.last());
        if self.seen.len() < SEEN_MIN {
            return None;
        }
        let [from, to] = [first, last].map(|it| it.front(heading));
        let skip = skip(from, to);
        let [begin, end] = [from, to].map(|it| number(it, skip));
        let ticks = u128::from(last.tick - first.tick);
        let speed = end.abs_diff(begin) / ticks;
        let place = |n: u64| {
            let on = speed.saturating_mul(u128::from(tick - last.tick + n));
            let at = match heading {
                Heading::Up => end.saturating_add(on),
                Heading::Down => end.saturating_sub(on),
            };
            key(to, skip, at)
        };
        let load_us =
            self.seen.iter().map(|it| it.load_us).sum::<u64>() / (last.tick - first.tick + 1);
        Some(Course {
            op: self.op,
            load_us,
            behind: self.seen.iter().map(|it| (it.front(heading).clone(), it.load_us)).collect(),
            ahead: (1..=HORIZON).map(place).collect(),
        })
    }
}

impl Seen {
    fn at(tick: Tick, swept: Swept) -> Self {
        let Swept { low, high, load_us, .. } = swept;
        Self { tick, low, high, load_us }
    }

    fn front(&self, heading: Heading) -> &Key {
        match heading {
            Heading::Up => &self.high,
            Heading::Down => &self.low,
        }
    }
}

fn heading(from: &Seen, to: &Seen) -> Option<Heading> {
    if from.low <= to.low && from.high < to.high {
        Some(Heading::Up)
    } else if to.low < from.low && to.high <= from.high {
        Some(Heading::Down)
    } else {
        None
    }
}

/// Bytes that do not count: what two keys have in common, but a few into which the number may carry.
fn skip(a: &Key, b: &Key) -> usize {
    let common = a.0.iter().zip(&b.0).take_while(|(a, b)| a == b).count();
    common.saturating_sub(CARRY_BYTES)
}

fn number(key: &Key, skip: usize) -> u128 {
    let mut bytes = [0; NUMBER_BYTES];
    key.0.iter().skip(skip).zip(&mut bytes).for_each(|(byte, it)| *it = *byte);
    u128::from_be_bytes(bytes)
}

fn key(like: &Key, skip: usize, number: u128) -> Key {
    Key([&like.0[..skip.min(like.0.len())], &number.to_be_bytes()].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn swept(at: u64, width: u64, load_us: u64) -> Swept {
        let key = |it: u64| Key([b"log/", &it.to_be_bytes()[..]].concat());
        Swept { op: 1, low: key(at), high: key(at + width), load_us }
    }

    fn at(key: &Key) -> u64 {
        u64::from_be_bytes(key.0[4..12].try_into().unwrap())
    }

    #[test]
    fn edges_go_on_as_fast_as_they_were() {
        let mut edges = Edges::default();
        for tick in 0..10 {
            let up = swept(1_000 * tick, 900, 50);
            let down = swept(90_000 - 200 * tick, 100, 7);
            edges.observe(tick, vec![up, down]);
            let believed = edges.courses(tick).count();
            assert_eq!(believed, if tick < 2 { 0 } else { 2 }, "at {tick}");
        }
        let ahead = |tick, n: usize| -> Vec<_> {
            edges.courses(tick).map(|it| (it.load_us, at(&it.ahead[n]))).collect()
        };
        assert_eq!(ahead(9, 0), [(50, 10_900), (7, 88_000)]);
        assert_eq!(ahead(9, 29), [(50, 39_900), (7, 82_200)]);
        // Not seen in a tick, it has gone on.
        assert_eq!(ahead(10, 0), [(50, 11_900), (7, 87_800)]);
        let behind: Vec<_> = edges.courses(9).next().unwrap().behind;
        assert_eq!((behind.len(), at(&behind[0].0), behind[0].1), (SEEN_MAX, 4_900, 50));
    }

    #[test]
    fn edge_that_is_gone_for_longer_is_another_one() {
        for (away, believed) in [(UNSEEN_MAX, 1), (UNSEEN_MAX + 1, 0)] {
            let mut edges = Edges::default();
            (0..5).for_each(|tick| edges.observe(tick, vec![swept(10 * tick, 5, 1)]));
            edges.observe(4 + away, vec![swept(10 * (4 + away), 5, 1)]);
            assert_eq!(edges.courses(4 + away).count(), believed, "away for {away}");
        }
    }

    #[test]
    fn what_comes_and_goes_is_no_edge() {
        let mut edges = Edges::default();
        for tick in 0..50 {
            edges.observe(tick, vec![swept([500, 900, 100][tick as usize % 3], 10, 5)]);
            assert_eq!(edges.courses(tick).count(), 0);
        }
    }

    #[test]
    fn number_carries_and_stays_a_key_at_the_ends_of_what_there_is() {
        let mut edges = Edges::default();
        let key = |it: u64| Key(it.to_be_bytes().to_vec());
        let one = |at: u64| Swept { op: 0, low: key(at - 0x40), high: key(at), load_us: 1 };
        (0..4).for_each(|tick| edges.observe(tick, vec![one(0xff00 + 0x80 * tick)]));
        let ahead = edges.courses(3).next().unwrap().ahead;
        assert_eq!(ahead[0].0[..8], key(0x1_0100).0);
        let mut edges = Edges::default();
        let far = |tick| one(u64::MAX - 1_000 + 100 * tick);
        (0..4).for_each(|tick| edges.observe(tick, vec![far(tick)]));
        let ahead = edges.courses(3).next().unwrap().ahead;
        assert_eq!(ahead[29].0, vec![0xff; NUMBER_BYTES]);
        assert!(ahead.is_sorted());
    }

    #[test]
    fn the_many_are_followed_by_their_load() {
        let mut edges = Edges::default();
        for tick in 0..4 {
            let all = (0..200).map(|n| swept(n * 1_000_000 + 2 * tick, 1, n + 1)).collect();
            edges.observe(tick, all);
        }
        let mut loads: Vec<_> = edges.courses(3).map(|it| it.load_us).collect();
        loads.sort_unstable();
        assert_eq!(loads, (201 - EDGES_MAX as u64..=200).collect::<Vec<_>>());
    }
}
