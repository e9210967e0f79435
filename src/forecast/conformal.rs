//! Calibrates a model's forecast by what it missed lately: conformal prediction on residuals that fade.
//!
//! ```text
//!  root − forecast ──> pool of (op, target, bucket[, level]) ──> residual at each level ──> + forecast
//!                      bucket: none, fifths by level, hottest twentieth   ▲
//!                                                         level moves with the misses (ACI)
//! ```
//!
//! A model that names one value has one pool for all levels: its fan is what it missed by. One that
//! names a fan has a pool for each level, which moves that level. A pool with too few residuals
//! answers as all buckets of its operation and target do; without any the fan stays as it is, and is
//! not calibrated.
//!
//! Upper levels adapt: when more loads than a level allows lie above it, the level is raised by a
//! hundredth of the excess, tick by tick, and the other way round.

use std::array;
use std::cell::LazyCell;

use dataflows::forecast::{MAX30, MEAN30, Q50, Q90, Q99, TARGETS};
use schemas::heatmap::LEVELS;
use serde::{Deserialize, Serialize};

use super::fading::Fading;
use super::features::root;
use super::{AHEAD, OPS};

/// Rows without load, fifths of the others, and the hottest twentieth.
pub const BUCKETS: usize = 7;

/// Roots that begin each bucket of rows with load but the first.
pub type Edges = [f32; BUCKETS - 2];

/// Roots at each level, ascending.
pub type Fan = [f32; LEVELS.len()];

/// Levels as fractions.
pub const FRACTIONS: [f64; LEVELS.len()] = [0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99];

/// A row without load for long is no further than this from the root of zero.
const IDLE: f32 = 0.02;

/// How fast levels adapt.
const ADAPT: f64 = 0.01;

/// How far the .99 of a Gumbel law lies above its .9, as a part of how far that lies above its median: the level
/// p lies at -ln(-ln p). Few maxima of thirty ticks are independent of each other, so the greatest to come is
/// likely not among those that were seen.
const GUMBEL: f32 = 1.247_33;

/// What a model names for a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    /// One value: its fan is all alike.
    Point,
    /// A value at each level.
    Fan,
}

/// Where residuals that are alike lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    pub op: usize,
    pub target: usize,
    pub bucket: usize,
}

/// The residuals of one model, and what they say.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Conformal {
    kind: Kind,
    /// By (op, target, bucket, level), in that order.
    pools: Vec<Fading>,
    /// How far the levels from [`Q90`] up have been moved, by (op, target).
    moved: Vec<[f64; LEVELS.len()]>,
    /// Loads above each level in this tick, and all; by (op, target). Empty between ticks.
    misses: Vec<([u32; LEVELS.len()], u32)>,
}

/// The roots that part rows with load into fifths, and off the hottest twentieth.
pub fn edges(levels: impl Iterator<Item = f32>) -> Edges {
    let mut levels: Vec<_> = levels.filter(|it| !is_idle(*it)).collect();
    levels.sort_unstable_by(f32::total_cmp);
    [20, 40, 60, 80, 95]
        .map(|percent| levels.get(levels.len() * percent / 100).copied().unwrap_or(f32::INFINITY))
}

pub fn bucket(edges: &Edges, level: f32) -> usize {
    if is_idle(level) { 0 } else { 1 + edges.partition_point(|it| *it <= level) }
}

fn is_idle(level: f32) -> bool {
    level - root(0.0) < IDLE
}

impl Conformal {
    pub fn new(kind: Kind) -> Self {
        let groups = OPS * TARGETS;
        Self {
            kind,
            pools: vec![Fading::default(); groups * BUCKETS * kind.pools()],
            moved: vec![[0.0; LEVELS.len()]; groups],
            misses: vec![Default::default(); groups],
        }
    }

    /// What makes good what it missed lately, by bucket; `None` while too little is known.
    pub fn lately(&self, op: usize, target: usize) -> [Option<Fan>; BUCKETS] {
        let group = op * TARGETS + target;
        let (overlap, moved) = (AHEAD[target], self.moved[group]);
        let levels = array::from_fn(|i| FRACTIONS[i] + moved[i]);
        let offsets = self.offsets(group, |pool| pool.quantiles(levels, overlap, alike(target)));
        match (self.kind, target) {
            (Kind::Point, MAX30) => offsets.map(|it| it.map(with_tail)),
            (Kind::Point | Kind::Fan, _) => offsets,
        }
    }

    /// What makes good what it missed for long: it moves slowly, and can be corrected and calibrated
    /// once more without following the same misses twice.
    pub fn steady(&self, op: usize, target: usize) -> [Option<Fan>; BUCKETS] {
        self.offsets(op * TARGETS + target, |pool| pool.steady(FRACTIONS))
    }

    /// Takes in the root that came of a forecast. `told` is the fan as it was calibrated then.
    pub fn add(&mut self, place: Place, fan: &Fan, told: Option<&Fan>, came: f32, scale: f32) {
        let count = self.kind.pools();
        let first = (place.group() * BUCKETS + place.bucket) * count;
        for (pool, root) in self.pools[first..first + count].iter_mut().zip(fan) {
            pool.add((came - root) / scale);
        }
        let Some(told) = told else { return };
        let (above, all) = &mut self.misses[place.group()];
        above.iter_mut().zip(told).for_each(|(count, root)| *count += u32::from(*root < came));
        *all += 1;
    }

    /// Ends a tick.
    pub fn close(&mut self) {
        self.pools.iter_mut().for_each(Fading::fade);
        for (moved, (above, all)) in self.moved.iter_mut().zip(&mut self.misses) {
            for i in Q90..LEVELS.len() {
                let allowed = 1.0 - FRACTIONS[i];
                if 0 < *all {
                    let excess = f64::from(above[i]) / f64::from(*all) - allowed;
                    // Never as far as the next level, nor to the end.
                    moved[i] = (moved[i] + ADAPT * excess).clamp(-allowed / 2.0, allowed / 2.0);
                }
            }
            (*above, *all) = Default::default();
        }
    }

    /// Residuals at each level, by bucket; those of all buckets together where there are too few.
    fn offsets(
        &self,
        group: usize,
        levels: impl Fn(&Fading) -> Option<[f64; LEVELS.len()]>,
    ) -> [Option<Fan>; BUCKETS] {
        let count = self.kind.pools();
        let pools = &self.pools[group * BUCKETS * count..][..BUCKETS * count];
        let together = LazyCell::new(|| {
            let all = (0..count).map(|i| {
                let mut all = Fading::default();
                pools.iter().skip(i).step_by(count).for_each(|it| all.merge(it));
                all
            });
            fan(&all.collect::<Vec<_>>(), &levels)
        });
        array::from_fn(|bucket| {
            fan(&pools[bucket * count..][..count], &levels).or_else(|| *together)
        })
    }
}

impl Kind {
    fn pools(self) -> usize {
        match self {
            Self::Point => 1,
            Self::Fan => LEVELS.len(),
        }
    }
}

impl Place {
    fn group(self) -> usize {
        self.op * TARGETS + self.target
    }
}

/// How many residuals in a row count as one to upper levels. Those of means and maxima of thirty ticks share
/// most of their ticks, though not all; the root lies between.
fn alike(target: usize) -> f64 {
    if matches!(target, MEAN30 | MAX30) { (AHEAD[target] as f64).sqrt() } else { 1.0 }
}

/// A fan of a maximum whose tail is no lighter than the law that maxima tend to has it.
fn with_tail(mut fan: Fan) -> Fan {
    fan[Q99] = fan[Q99].max(fan[Q90] + GUMBEL * (fan[Q90] - fan[Q50]));
    fan
}

/// A fan with what calibration adds to it: ascending, and never below no load.
pub fn told(fan: &Fan, offsets: &Fan, scale: f32) -> Fan {
    let mut least = root(0.0);
    array::from_fn(|i| {
        least = least.max(fan[i] + offsets[i] * scale);
        least
    })
}

/// A fan of what a pool says, or one for each level, as roots.
fn fan(pools: &[Fading], levels: impl Fn(&Fading) -> Option<[f64; LEVELS.len()]>) -> Option<Fan> {
    if let [pool] = pools {
        return levels(pool).map(|it| it.map(|it| it as f32));
    }
    let mut fan = Fan::default();
    for (i, (root, pool)) in fan.iter_mut().zip(pools).enumerate() {
        *root = levels(pool)?[i] as f32;
    }
    Some(fan)
}

#[cfg(test)]
mod tests {
    use dataflows::forecast::{H30, Q95};
    use rand::{Rng, SeedableRng};
    use rand_pcg::Pcg64;

    use super::*;

    /// Feeds a calibration with a forecast that is too low and too narrow; returns the parts of
    /// loads below each level in the last third.
    fn covered(kind: Kind, named: &Fan, seed: u64) -> [f64; LEVELS.len()] {
        let mut random = Pcg64::seed_from_u64(seed);
        let mut it = Conformal::new(kind);
        let place = Place { op: 1, target: 0, bucket: 3 };
        let (mut below, mut count) = ([0.0; LEVELS.len()], 0.0);
        for tick in 0..300 {
            let offsets = it.lately(place.op, place.target)[place.bucket];
            let told = offsets.map(|it| told(named, &it, 1.0));
            for _ in 0..20 {
                let came =
                    10.0 + random.random_range(-1.0..1.0_f32) + random.random_range(-1.0..1.0_f32);
                it.add(place, named, told.as_ref(), came, 1.0);
                if let Some(told) = told.filter(|_| 200 <= tick) {
                    count += 1.0;
                    below
                        .iter_mut()
                        .zip(told)
                        .for_each(|(n, q)| *n += f64::from(u8::from(came <= q)));
                }
            }
            it.close();
        }
        below.map(|it| it / count)
    }

    #[test]
    fn levels_hold_what_they_say_whatever_was_named() {
        let narrow = [8.8, 8.85, 8.9, 9.0, 9.1, 9.15, 9.2, 9.3];
        for (kind, named) in [(Kind::Point, [7.0; LEVELS.len()]), (Kind::Fan, narrow)] {
            for (found, level) in covered(kind, &named, 12).into_iter().zip(FRACTIONS) {
                assert!((found - level).abs() < 0.05, "{found} below {level}, {kind:?}");
            }
        }
    }

    #[test]
    fn upper_levels_of_what_shares_its_ticks_lie_further_out() {
        let fans = [H30, MEAN30, MAX30].map(|target| {
            let mut it = Conformal::new(Kind::Point);
            let place = Place { op: 0, target, bucket: 1 };
            let named = [1.0; LEVELS.len()];
            (0..200).for_each(|i| it.add(place, &named, None, 1.0 + (i % 40) as f32 / 40.0, 1.0));
            it.close();
            it.lately(place.op, place.target)[place.bucket].unwrap()
        });
        for fan in &fans[1..] {
            assert!(fans[0][..Q90] == fan[..Q90] && fans[0][Q95] < fan[Q95], "{fans:?}");
        }
        // Of maxima alone a tail is known where none was seen.
        let tail = |it: &Fan| (it[Q99] - it[Q90]) / (it[Q90] - it[Q50]);
        let gumbel = |p: f64| -(-p.ln()).ln();
        let expected = (gumbel(0.99) - gumbel(0.9)) / (gumbel(0.9) - gumbel(0.5));
        let found = f64::from(tail(&fans[2]));
        assert!(tail(&fans[1]) < 0.5 && (found - expected).abs() < 1e-4, "{fans:?}");
    }

    #[test]
    fn fan_never_crosses_nor_falls_below_no_load() {
        let mut it = Conformal::new(Kind::Fan);
        let place = Place { op: 0, target: 2, bucket: 1 };
        // Each level missed by something else, so that they would cross.
        let named: Fan = std::array::from_fn(|i| if i % 2 == 0 { 5.0 } else { 0.7 });
        (0..40).for_each(|i| it.add(place, &named, None, if i % 2 == 0 { 0.7 } else { 4.0 }, 1.0));
        it.close();
        let offsets = it.lately(place.op, place.target)[place.bucket].unwrap();
        let told = told(&[9.0, 1.0, 3.0, 0.0, 2.0, 8.0, 1.0, 4.0], &offsets, 1.0);
        assert!(told.is_sorted() && root(0.0) <= told[0], "{told:?}");
    }

    #[test]
    fn level_that_is_missed_too_often_rises_within_its_bounds() {
        let mut it = Conformal::new(Kind::Point);
        let place = Place { op: 0, target: 0, bucket: 1 };
        let told = [1.0; LEVELS.len()];
        for _ in 0..2_000 {
            it.add(place, &told, Some(&told), 2.0, 1.0);
            it.close();
        }
        let raised = it.moved[place.group()];
        assert!(raised[..Q90].iter().all(|it| *it == 0.0));
        for (raised, level) in raised.into_iter().zip(FRACTIONS).skip(Q90) {
            assert!((raised - (1.0 - level) / 2.0).abs() < 1e-9, "{raised} at {level}");
        }
    }

    #[test]
    fn buckets_are_idle_then_fifths_then_the_hottest() {
        let levels: Vec<_> =
            (0..200).map(|it| root(if it < 100 { 0.0 } else { it as f32 })).collect();
        let edges = edges(levels.iter().copied());
        let mut sizes = [0; BUCKETS];
        levels.iter().for_each(|it| sizes[bucket(&edges, *it)] += 1);
        assert_eq!(sizes, [100, 20, 20, 20, 20, 15, 5]);
    }
}
