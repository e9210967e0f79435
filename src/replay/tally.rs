//! Recounts the load per tick and key interval, straight from the queries: the judge of every plan.
//!
//! ```text
//!               interval 0   interval 1   interval 2          boundaries: where an interval begins
//!  first tick      us           us           us
//!  the next        us           us           us
//! ```

use dataflows::Tick;
use dataflows::tally::COST_US_MAX;
use schemas::Key;
use schemas::query_log::{Op, QueryLogged};

/// A node is too warm above this part of its capacity, in thousandths; the overload begins there.
pub const WARM_PERMILLE: u64 = 800;

/// Service time in microseconds, by tick and interval.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tally {
    /// Ascending; what lies before the first belongs to interval zero.
    boundaries: Vec<Key>,
    /// Cost of a read and of a write that does not tell its own.
    default_us: [u64; 2],
    first: Option<Tick>,
    ticks: Vec<Vec<u64>>,
}

impl Tally {
    /// Counts over the intervals that `boundaries` part: one more than there are of them.
    pub fn new(boundaries: Vec<Key>, read_us: u64, write_us: u64) -> Self {
        assert!(boundaries.is_sorted_by(|a, b| a < b), "boundaries ascend");
        Self { boundaries, default_us: [read_us, write_us], first: None, ticks: Vec::new() }
    }

    /// Counts a query in a tick. Ticks may come in any order, but none before the first one.
    pub fn add(&mut self, tick: Tick, query: &QueryLogged) {
        let first = *self.first.get_or_insert(tick);
        let at = tick.checked_sub(first).expect("no tick comes before the first one") as usize;
        self.reach(at);
        let default_us = match query.op {
            Op::Read | Op::Scan | Op::Unknown => self.default_us[0],
            Op::Write => self.default_us[1],
        };
        let interval = self.interval(&query.key);
        let sum = &mut self.ticks[at][interval];
        // As the planner counts it.
        *sum = sum.saturating_add(query.cost_us.unwrap_or(default_us).min(COST_US_MAX));
    }

    /// Makes sure that a tick is there, though nothing was asked in it.
    pub fn pass(&mut self, tick: Tick) {
        let first = *self.first.get_or_insert(tick);
        if let Some(at) = tick.checked_sub(first) {
            self.reach(at as usize);
        }
    }

    /// The interval in which a key lies; of a boundary, the one that begins there.
    pub fn interval(&self, key: &Key) -> usize {
        self.boundaries.partition_point(|it| it <= key)
    }

    pub fn boundaries(&self) -> &[Key] {
        &self.boundaries
    }

    pub fn first(&self) -> Option<Tick> {
        self.first
    }

    /// From the first tick on, the sums of its intervals.
    pub fn ticks(&self) -> &[Vec<u64>] {
        &self.ticks
    }

    /// All service time in microseconds.
    pub fn sum_us(&self) -> u64 {
        self.ticks.iter().flatten().fold(0, |sum, it| sum.saturating_add(*it))
    }

    /// The sums of each tick by owner, where `owners` names an owner of each interval by number.
    pub fn by_owner(&self, owners: &[usize], nodes: usize) -> Vec<Vec<u64>> {
        let intervals = self.boundaries.len() + 1;
        assert_eq!(owners.len(), intervals, "every interval has an owner");
        let sums = |tick: &Vec<u64>| {
            let mut sums = vec![0; nodes];
            for (us, owner) in tick.iter().zip(owners) {
                sums[*owner] = u64::saturating_add(sums[*owner], *us);
            }
            sums
        };
        self.ticks.iter().map(sums).collect()
    }

    fn reach(&mut self, at: usize) {
        if self.ticks.len() <= at {
            self.ticks.resize_with(at + 1, || vec![0; self.boundaries.len() + 1]);
        }
    }
}

/// The overload area in node-seconds of one tick: how far each node's load is above the warm part of
/// its capacity, as a part of its capacity, times the tick's seconds.
pub fn overload(loads_us: &[u64], capacities_us_per_s: &[u64], tick_ms: u64) -> f64 {
    assert_eq!(loads_us.len(), capacities_us_per_s.len(), "every node has a load and a capacity");
    let nodes = loads_us.iter().zip(capacities_us_per_s);
    nodes.map(|(load, capacity)| excess(*load, *capacity, tick_ms) as f64 / scale(*capacity)).sum()
}

/// Load above the warm part of the capacity in a tick, in the units of [`scale`]: whole numbers, so
/// that sums of it are exact.
pub(super) fn excess(load_us: u64, capacity_us_per_s: u64, tick_ms: u64) -> u64 {
    let warm = u128::from(capacity_us_per_s) * u128::from(tick_ms);
    let warm = warm.saturating_mul(u128::from(WARM_PERMILLE));
    u64::try_from((u128::from(load_us) * 1_000_000).saturating_sub(warm)).unwrap_or(u64::MAX)
}

/// How many units of [`excess`] make a node-second.
pub(super) fn scale(capacity_us_per_s: u64) -> f64 {
    capacity_us_per_s as f64 * 1e6
}

#[cfg(test)]
mod tests {
    use schemas::Millis;

    use super::*;
    use crate::replay::key;

    fn query(index: u64, op: Op, cost_us: Option<u64>) -> QueryLogged {
        QueryLogged { time: Millis(0), key: key(index), op, cost_us, bytes: 0, estimated: false }
    }

    #[test]
    fn queries_count_in_their_tick_and_interval() {
        let mut tally = Tally::new([10, 20].map(key).to_vec(), 3, 7);
        tally.add(5, &query(0, Op::Read, Some(100)));
        tally.add(5, &query(9, Op::Write, None));
        tally.add(7, &query(10, Op::Scan, None));
        tally.add(5, &query(19, Op::Unknown, Some(4)));
        tally.add(7, &query(20, Op::Read, Some(1)));
        tally.pass(8);
        assert_eq!(tally.ticks(), [[107, 4, 0], [0, 0, 0], [0, 3, 1], [0, 0, 0]]);
        assert_eq!(tally.by_owner(&[1, 0, 1], 2), [[4, 107], [0, 0], [3, 1], [0, 0]]);
        assert_eq!((tally.first(), tally.sum_us()), (Some(5), 115));
        assert_eq!(tally.interval(&Key::default()), 0);
    }

    #[test]
    fn no_cost_and_no_sum_overflows() {
        let mut tally = Tally::new([10, 20].map(key).to_vec(), u64::MAX, 7);
        for (index, cost_us) in [(0, Some(u64::MAX)), (9, None), (15, Some(i64::MAX as u64))] {
            tally.add(5, &query(index, Op::Read, cost_us));
        }
        assert_eq!(tally.ticks(), [[2 * COST_US_MAX, COST_US_MAX, 0]]);
        tally.ticks = vec![vec![u64::MAX, u64::MAX, 1]];
        assert_eq!(
            (tally.by_owner(&[1, 1, 0], 2), tally.sum_us()),
            (vec![vec![1, u64::MAX]], u64::MAX)
        );
        assert!(overload(&[u64::MAX; 2], &[1, u64::MAX], u64::MAX).is_finite());
    }

    #[test]
    fn overload_is_what_is_above_four_fifths() {
        // 5 s: 0.9 of a capacity is 0.1 over for 5 s; 0.8 is not over; 2.8 is 2 over.
        let capacities = [1_000, 2_000, 100];
        let area = overload(&[4_500, 8_000, 1_400], &capacities, 5_000);
        assert!((area - (0.5 + 10.0)).abs() < 1e-9, "{area}");
    }
}
