//! Finds the best static assignment in hindsight: one contiguous range a node, never moved.
//!
//! ```text
//!  least(S, b) = min over the last node n of S and where it begins, a ≤ b, of
//!                least(S without n, a) + area(n, a, b)          S: nodes that share [0, b)
//! ```
//!
//! * **Exact** over the boundaries of the grid, all orders of the nodes and every one left out: no such
//!   assignment has a smaller overload area.
//!
//! With N nodes, G intervals and T ticks, `area` is taken N × G² ÷ 2 times of T steps each, and there
//! are 2^N × N ÷ 2 × G² ÷ 2 steps besides. An area only grows with its interval, so no interval is
//! looked at whose area alone is above the best found on a grid eight times as coarse: mostly that
//! leaves a small part.

use super::tally::{Tally, WARM_PERMILLE, scale};

/// More nodes have too many orders.
pub const NODES_MAX: usize = 6;

/// Grids of fewer intervals are not made coarser.
const COARSE_MIN: usize = 16;
const COARSER: usize = 8;

/// The best static assignment.
#[derive(Clone, Debug, PartialEq)]
pub struct Hindsight {
    pub overload_node_seconds: f64,
    /// Node and the first interval of its range, in key order; a node that is not named has none.
    pub ranges: Vec<(usize, usize)>,
}

/// Finds it; `None` if there are more nodes than [`NODES_MAX`], or none.
pub fn hindsight(tally: &Tally, capacities_us_per_s: &[u64], tick_ms: u64) -> Option<Hindsight> {
    let nodes = 1..=NODES_MAX;
    nodes.contains(&capacities_us_per_s.len()).then(|| {
        let nodes: Vec<_> = capacities_us_per_s.iter().map(|it| Node::new(*it, tick_ms)).collect();
        let grid = Grid::new(tally);
        let places: Vec<_> = (0..=tally.boundaries().len() + 1).collect();
        grid.best(&nodes, &places)
    })
}

/// What a node's load is compared with.
struct Node {
    /// In a tick, in the units of the grid.
    warm: f64,
    scale: f64,
}

impl Node {
    fn new(capacity_us_per_s: u64, tick_ms: u64) -> Self {
        assert!(0 < capacity_us_per_s, "a node has a capacity");
        let warm = capacity_us_per_s as f64 * (tick_ms * WARM_PERMILLE) as f64;
        Self { warm, scale: scale(capacity_us_per_s) }
    }
}

/// For each boundary the load of each tick before it: floats, which the processor compares several
/// at a time.
struct Grid {
    before: Vec<Vec<f64>>,
}

/// How the best assignment of a set of nodes up to a boundary ends.
#[derive(Clone, Copy)]
struct Last {
    area: f64,
    node: u8,
    from: u32,
}

impl Grid {
    fn new(tally: &Tally) -> Self {
        let mut before = vec![vec![0.0; tally.ticks().len()]];
        for interval in 0..=tally.boundaries().len() {
            let sums = before[interval].iter().zip(tally.ticks());
            before.push(sums.map(|(sum, tick)| sum + tick[interval] as f64 * 1e6).collect());
        }
        Self { before }
    }

    /// The best whose ranges begin at `places`; the first is 0, the last the end of the grid.
    fn best(&self, nodes: &[Node], places: &[usize]) -> Hindsight {
        let bound = if places.len() <= COARSE_MIN * COARSER {
            f64::INFINITY
        } else {
            let end = places[places.len() - 1];
            let coarse = places[..places.len() - 1].iter().step_by(COARSER).copied();
            let coarse: Vec<_> = coarse.chain([end]).collect();
            // A little more, as the sums may be rounded otherwise there.
            self.best(nodes, &coarse).overload_node_seconds * (1.0 + 1e-9)
        };
        let none = Last { area: f64::INFINITY, node: 0, from: 0 };
        let sets = 1 << nodes.len();
        // By place, then by set of nodes.
        let mut least = vec![vec![none; sets]; places.len()];
        least[0].fill(Last { area: 0.0, ..none });
        for to in 1..places.len() {
            let (done, rest) = least.split_at_mut(to);
            let here = &mut rest[0];
            for (n, node) in nodes.iter().enumerate() {
                for from in (0..to).rev() {
                    let area = self.area(node, places[from], places[to]);
                    if bound < area {
                        break;
                    }
                    for set in (0..sets).filter(|set| set & (1 << n) != 0) {
                        let sum = done[from][set & !(1 << n)].area + area;
                        if sum < here[set].area {
                            here[set] = Last { area: sum, node: n as u8, from: from as u32 };
                        }
                    }
                }
            }
        }
        told(&least, places)
    }

    /// The overload area of a node that owns the intervals from one boundary to another.
    fn area(&self, node: &Node, from: usize, to: usize) -> f64 {
        let ticks = self.before[from].iter().zip(&self.before[to]);
        // Four sums side by side, or each addition would wait for the one before.
        let mut sums = [0.0; 4];
        let mut excesses = ticks.map(|(from, to)| (to - from - node.warm).max(0.0));
        while let Some(excess) = excesses.next() {
            sums[0] += excess;
            sums[1..].iter_mut().for_each(|sum| *sum += excesses.next().unwrap_or(0.0));
        }
        sums.iter().sum::<f64>() / node.scale
    }
}

/// Reads the best assignment of all nodes from its end.
fn told(least: &[Vec<Last>], places: &[usize]) -> Hindsight {
    let (mut at, mut set) = (places.len() - 1, least[0].len() - 1);
    let overload_node_seconds = least[at][set].area;
    let mut ranges = Vec::new();
    while 0 < at {
        let Last { node, from, .. } = least[at][set];
        ranges.push((usize::from(node), places[from as usize]));
        (at, set) = (from as usize, set & !(1 << node));
    }
    ranges.reverse();
    Hindsight { overload_node_seconds, ranges }
}

#[cfg(test)]
mod tests {
    use rand::{Rng, SeedableRng};
    use rand_pcg::Pcg64;
    use schemas::Millis;
    use schemas::query_log::{Op, QueryLogged};

    use super::*;
    use crate::replay::key;
    use crate::replay::tally::overload;

    fn tally(ticks: &[Vec<u64>]) -> Tally {
        let mut tally = Tally::new((1..ticks[0].len() as u64).map(key).collect(), 0, 0);
        for (tick, row) in ticks.iter().enumerate() {
            for (interval, us) in row.iter().enumerate() {
                let (time, key, op) = (Millis(0), key(interval as u64), Op::Read);
                let cost_us = Some(*us);
                let query = QueryLogged { time, key, op, cost_us, bytes: 0, estimated: false };
                tally.add(tick as u64, &query);
            }
        }
        assert_eq!(tally.ticks(), ticks);
        tally
    }

    /// The area of an assignment, by recount.
    fn area(tally: &Tally, ranges: &[(usize, usize)], capacities: &[u64]) -> f64 {
        let intervals = 0..tally.boundaries().len() + 1;
        let owner = |it: usize| ranges.iter().rfind(|(_, from)| *from <= it).unwrap().0;
        let owners: Vec<_> = intervals.map(owner).collect();
        let ticks = tally.by_owner(&owners, capacities.len());
        ticks.iter().map(|loads| overload(loads, capacities, 1_000)).sum()
    }

    /// The least area over all orders of all nodes and all boundaries, tried one by one.
    fn brute(tally: &Tally, capacities: &[u64], chosen: &mut Vec<(usize, usize)>) -> f64 {
        let end = tally.boundaries().len() + 1;
        let from = chosen.last().map_or(0, |it| it.1);
        let mut least = area(tally, chosen, capacities);
        for node in 0..capacities.len() {
            if chosen.iter().all(|it| it.0 != node) {
                for at in from + 1..end {
                    chosen.push((node, at));
                    least = least.min(brute(tally, capacities, chosen));
                    chosen.pop();
                }
            }
        }
        least
    }

    fn check(seed: u64, nodes: usize, intervals: usize, ticks: usize) {
        let mut random = Pcg64::seed_from_u64(seed);
        let mut row = || (0..intervals).map(|_| random.random_range(0..3_u64).pow(7)).collect();
        let tally = tally(&(0..ticks).map(|_| row()).collect::<Vec<Vec<u64>>>());
        let capacities: Vec<_> = (0..nodes).map(|_| random.random_range(50..400)).collect();
        let found = hindsight(&tally, &capacities, 1_000).unwrap();
        let recount = area(&tally, &found.ranges, &capacities);
        let least = (0..nodes).map(|node| brute(&tally, &capacities, &mut vec![(node, 0)]));
        let least = least.fold(f64::INFINITY, f64::min);
        let said = format!("seed {seed}: {found:?}, recounted {recount}, brute {least}");
        assert!((found.overload_node_seconds - recount).abs() < 1e-9, "{said}");
        assert!((found.overload_node_seconds - least).abs() < 1e-9, "{said}");
    }

    #[test]
    fn best_is_that_of_brute_force() {
        (0..30).for_each(|seed| check(seed, 3, 8, 7));
        (30..34).for_each(|seed| check(seed, 4, 7, 5));
        check(99, 1, 5, 3);
    }

    #[test]
    fn coarse_grid_does_not_cost_the_best() {
        // More intervals than are left as they are, so that the bound counts.
        (0..3).for_each(|seed| check(seed, 2, COARSE_MIN * COARSER + 70, 5));
    }

    #[test]
    fn order_of_the_nodes_is_chosen() {
        // Alternating peaks: the hot left third fits the large node only, which is the last one.
        let ticks = vec![vec![700, 100, 100]; 4];
        let found = hindsight(&tally(&ticks), &[150, 150, 1_000], 1_000).unwrap();
        assert_eq!(found.overload_node_seconds, 0.0);
        assert_eq!(found.ranges[0], (2, 0));
    }

    #[test]
    fn seven_nodes_are_too_many() {
        let tally = tally(&[vec![1, 2]]);
        assert_eq!(hindsight(&tally, &[1; 7], 1_000), None);
        assert!(hindsight(&tally, &[1; 6], 1_000).is_some());
    }
}
