//! Forecasts from a level and from what that level missed lately.
//!
//! ```text
//!  load ──> levels over 1, 3, 12 ticks ──> ring of 31 ticks ──┐ the level of then …
//!   └─────> mean, maximum of 30 ───────────────────────────── residual ──> pools ──┐
//!                                          … against the load of now               │
//!  quantile = (√(level ÷ unit + 3/8) + residual quantile)² − 3/8, times unit <─────┘
//! ```
//!
//! The unit is the mean cost of an operation, so a load counts like Poisson arrivals do, and the
//! square root makes its spread alike at all levels. Residuals are pooled by operation, target and
//! bucket of the level: fifths of the ranges with load, and the hottest twentieth. A residual is
//! known when its target is over: that of thirty ticks ahead after thirty ticks. Without enough of
//! them the [`prior`] stands in. Of all ranges together, the first ticks that have load give none.
//!
//! Of three levels, each (operation, target) uses the one with the narrowest residuals: the quick
//! one where load moves, the slow one where it stays. Load that leaves the band of the forecast for
//! two ticks upwards or three downwards is a step: the levels begin anew from the last two ticks.
//!
//! Each maximum is at least the mean at the same level. The median of the mean of thirty ticks is not
//! below the level, though hot ranges may have cooled lately as a hot spot moved on: such load does
//! not vanish, it goes to a range that one without sight of its neighbours cannot name, and a node's
//! sum of medians must not lose it. The lower quantiles stay what they were.

use std::collections::BTreeMap;

use dataflows::forecast::{H1, H6, H30, HORIZON, MAX30, MEAN30, Q50, Q99, TARGETS};
use dataflows::heat::WIDTHS;
use schemas::RangeId;
use schemas::heatmap::LEVELS;
use serde::{Deserialize, Serialize};

use super::known::{Known, Load};
use super::prior::{self, Prior};
use super::residuals::{self, ENOUGH, Pool};
use super::{OPS, Quantiles};

/// Index of the widest rolling window.
pub const WIDE: usize = WIDTHS.len() - 1;

/// A level is a weighted mean over about so many ticks; the first is the last tick itself.
const SPANS: [u64; 3] = [1, 3, 12];
/// The level that is used until experience chooses, and by which buckets are told apart.
const MIDDLE: usize = 1;
/// The level with the longest memory.
const SLOWEST: usize = 2;
/// Another level must be narrower by so much to be preferred.
const PREFERENCE: f64 = 0.98;

/// Levels are kept for the targets that are not over, and for this tick.
const RING: usize = HORIZON as usize + 1;

/// Fifths, and the hottest twentieth.
const BUCKETS: usize = 6;

/// What all ranges together were in so many ticks from the first load on is not asked what it missed: load
/// is only beginning then. They are one series, and of its residuals of thirty ticks ahead the first 32 make
/// its quantiles: a few that tell of the beginning would be its .9.
const YOUNG: u64 = 10;

/// At most so many ranges, in turn, give a residual in a tick.
const SAMPLED_MAX: usize = 2_048;

/// Ticks above and below the band that make a step.
const ABOVE_MAX: i8 = 2;
const BELOW_MAX: i8 = 3;

type Levels = [f32; SPANS.len()];
type Offsets = [f64; LEVELS.len()];
/// Levels at which the next bucket begins.
type Edges = [f32; BUCKETS - 1];

/// The history of one kind of operation in one range: its levels at the last ticks, in microseconds
/// a tick. Slots are common to all series; never used ones are empty.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Series {
    ring: Vec<Levels>,
    /// Ticks in a row above the band, or below it (negative).
    outside: i8,
}

/// What all series have in common.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ewma {
    /// How many ticks were observed, from the first load on.
    ticks: u64,
    /// Mean cost of an operation, in microseconds.
    unit_us: [f64; OPS],
    edges: Vec<[Edges; OPS]>,
    ranges: Calibration,
    total: Calibration,
    /// What the residuals say at the end of the tick; follows from them.
    outlook: [Outlook; 2],
}

/// Pools by (op, target, span, bucket), in that order.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Calibration {
    pools: Vec<Pool>,
    buckets: usize,
}

/// For each operation and target the level to use, and the residual quantiles by bucket.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Outlook([[Choice; TARGETS]; OPS]);

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Choice {
    span: usize,
    offsets: Vec<Option<Offsets>>,
}

impl Series {
    /// Adds a part of another's history to this one's.
    pub fn inherit(&mut self, of: &Series, share_ppm: u32) {
        let share = share_ppm as f32 / 1e6;
        self.ring.resize(RING, Levels::default());
        for (own, theirs) in self.ring.iter_mut().zip(&of.ring) {
            own.iter_mut().zip(theirs).for_each(|(own, theirs)| *own += theirs * share);
        }
    }

    /// The levels so many ticks ago.
    fn levels(&self, ticks: u64, lag: u64) -> Levels {
        let slot = (ticks + RING as u64 - lag) % RING as u64;
        self.ring.get(slot as usize).copied().unwrap_or_default()
    }

    /// Takes in the load of tick number `ticks`. `side` tells on which side of the band it is.
    fn observe(&mut self, ticks: u64, load_us: f32, side: i8, cold: bool) {
        let before = self.levels(ticks, 1);
        self.outside = if side == 0 || side != self.outside.signum() {
            side
        } else {
            self.outside.saturating_add(side)
        };
        let step = ABOVE_MAX <= self.outside || self.outside <= -BELOW_MAX;
        let levels = if cold {
            Levels::default()
        } else if step {
            self.outside = 0;
            let level = (load_us + before[0]) / 2.0;
            [load_us, level, level]
        } else {
            std::array::from_fn(|i| {
                // The first ticks weigh alike, or the first one would weigh most.
                let weight = (2.0 / (SPANS[i] + 1) as f32).max(1.0 / ticks as f32);
                before[i] + (load_us - before[i]) * weight
            })
        };
        self.ring.resize(RING, Levels::default());
        self.ring[(ticks % RING as u64) as usize] = levels;
    }
}

impl Ewma {
    pub fn new() -> Self {
        Self {
            ticks: 0,
            unit_us: [1.0; OPS],
            edges: vec![[[f32::INFINITY; BUCKETS - 1]; OPS]; RING],
            ranges: Calibration::new(BUCKETS),
            total: Calibration::new(1),
            outlook: Default::default(),
        }
    }

    /// Takes in the loads of a tick, and what forecasts of earlier ticks missed by.
    pub fn observe(
        &mut self,
        ranges: &mut BTreeMap<RangeId, Box<Known>>,
        total: &mut Known,
        tick_ms: u64,
    ) {
        if self.ticks == 0 && total.load.iter().all(Load::is_quiet) {
            return;
        }
        self.ticks += 1;
        for (unit, load) in self.unit_us.iter_mut().zip(total.load) {
            if 0 < load.wide_us && 0 < load.wide_count {
                *unit = load.wide_us as f64 / load.wide_count as f64;
            }
        }
        for known in ranges.values_mut().map(|it| &mut **it).chain([&mut *total]) {
            known.observe(self.ticks, tick_ms);
        }
        let slot = (self.ticks % RING as u64) as usize;
        self.edges[slot] = std::array::from_fn(|op| {
            edges(ranges.values().map(|it| it.series[op].levels(self.ticks, 0)[MIDDLE]))
        });
        let stride = ranges.len().div_ceil(SAMPLED_MAX).max(1);
        let first = self.ticks as usize % stride;
        for known in ranges.values().skip(first).step_by(stride) {
            self.ranges.add(known, 0, self.ticks, self.unit_us, &self.edges);
        }
        self.total.add(total, YOUNG, self.ticks, self.unit_us, &[]);
        self.outlook = [&mut self.ranges, &mut self.total].map(|calibration| {
            calibration.pools.iter_mut().for_each(Pool::close);
            calibration.outlook()
        });
    }

    /// Takes in a history that ends with the last tick.
    pub fn relive(&self, series: &mut [Series; OPS], history: &[[u64; OPS]]) {
        for (tick, loads) in (self.ticks + 1 - history.len() as u64..).zip(history) {
            for (series, load_us) in series.iter_mut().zip(loads) {
                series.observe(tick, *load_us as f32, 0, false);
            }
        }
    }

    pub fn ticks(&self) -> u64 {
        self.ticks
    }

    /// Mean cost of an operation, in microseconds.
    pub fn unit_us(&self) -> [f64; OPS] {
        self.unit_us
    }

    /// Quantiles for a range, in microseconds a tick.
    pub fn range(&self, op: usize, series: &Series) -> Quantiles {
        let levels = series.levels(self.ticks, 0);
        let edges = &self.edges[(self.ticks % RING as u64) as usize][op];
        self.quantiles(op, levels, &self.outlook[0], bucket(edges, levels), 0.0)
    }

    /// Quantiles for all ranges together.
    pub fn total(&self, op: usize, series: &Series) -> Quantiles {
        self.quantiles(op, series.levels(self.ticks, 0), &self.outlook[1], 0, f64::NEG_INFINITY)
    }

    /// `mean_min` is how far the median of the mean may be from the level, in square-root space.
    fn quantiles(
        &self,
        op: usize,
        levels: Levels,
        outlook: &Outlook,
        bucket: usize,
        mean_min: f64,
    ) -> Quantiles {
        if levels[SLOWEST] <= 0.0 {
            return Quantiles::default();
        }
        let unit = self.unit_us[op];
        let mut quantiles: Quantiles = std::array::from_fn(|target| {
            let choice = &outlook.0[op][target];
            let root = root(f64::from(levels[choice.span]), unit);
            let mut offsets = choice.offsets[bucket].unwrap_or_else(|| {
                prior::offsets(if target == MAX30 { Prior::Max } else { Prior::Tick }, root)
            });
            if target == MEAN30 {
                offsets[Q50..].iter_mut().for_each(|it| *it = it.max(mean_min));
            }
            offsets.map(|offset| {
                let root = (root + offset).max(prior::floor());
                (root * root - 0.375).max(0.0) * unit
            })
        });
        let [.., means, maxima] = &mut quantiles;
        maxima.iter_mut().zip(means).for_each(|(max, mean)| *max = max.max(*mean));
        quantiles
    }
}

impl Known {
    fn observe(&mut self, ticks: u64, tick_ms: u64) {
        let band = self.published.unwrap_or_default();
        let bands = [band.reads, band.writes].map(|it| (it.0[H1][0], it.0[H1][Q99]));
        for ((series, load), (low, high)) in self.series.iter_mut().zip(self.load).zip(bands) {
            let per_second = load.tick_us.saturating_mul(1000) / tick_ms;
            // One per cent for the quantum.
            let above = high.saturating_add(high / 100) < per_second;
            let below = per_second.saturating_add(per_second / 100) < low;
            let side = i8::from(above) - i8::from(below);
            series.observe(ticks, load.tick_us as f32, side, load.wide_us == 0);
        }
    }
}

impl Calibration {
    fn new(buckets: usize) -> Self {
        let pools = OPS * TARGETS * SPANS.len() * buckets;
        Self { pools: vec![Pool::default(); pools], buckets }
    }

    /// Adds what the levels of a series missed by, for each target that ended with this tick.
    fn add(
        &mut self,
        known: &Known,
        young: u64,
        ticks: u64,
        unit_us: [f64; OPS],
        edges: &[[Edges; OPS]],
    ) {
        for (op, series) in known.series.iter().enumerate() {
            if series.levels(ticks, HORIZON) == Levels::default()
                && series.levels(ticks, H6_LAG) == Levels::default()
                && series.levels(ticks, 1) == Levels::default()
            {
                continue;
            }
            let load = |lag| f64::from(series.levels(ticks, lag)[0]);
            let (sum, max) = (0..HORIZON)
                .map(load)
                .fold((0.0, 0.0_f64), |(sum, max), load| (sum + load, max.max(load)));
            let ended = [
                (H1, 1, load(0)),
                (H6, H6_LAG, load(0)),
                (H30, HORIZON, load(0)),
                (MEAN30, HORIZON, sum / HORIZON as f64),
                (MAX30, HORIZON, max),
            ];
            for (target, lag, actual) in ended {
                let then = series.levels(ticks, lag);
                if ticks <= lag + young || then[SLOWEST] <= 0.0 {
                    continue;
                }
                let slot = (ticks - lag) as usize % RING;
                let bucket = edges.get(slot).map_or(0, |it| bucket(&it[op], then));
                let actual = root(actual, unit_us[op]);
                for (span, level) in then.into_iter().enumerate() {
                    let at = self.at(op, target, span) + bucket;
                    self.pools[at].add(actual - root(f64::from(level), unit_us[op]));
                }
            }
        }
    }

    fn outlook(&self) -> Outlook {
        let choice = |op, target| {
            let span = self.narrowest(op, target);
            let at = self.at(op, target, span);
            let pools = &self.pools[at..at + self.buckets];
            let mut offsets: Vec<_> = pools.iter().map(Pool::quantiles).collect();
            if offsets.iter().any(Option::is_none) {
                let all = residuals::together(pools.iter());
                offsets.iter_mut().for_each(|it| *it = it.or(all));
            }
            Choice { span, offsets }
        };
        Outlook(std::array::from_fn(|op| std::array::from_fn(|target| choice(op, target))))
    }

    /// The span whose residuals lie closest together.
    fn narrowest(&self, op: usize, target: usize) -> usize {
        let spread = |span| {
            let at = self.at(op, target, span);
            let spreads = self.pools[at..at + self.buckets].iter().map(Pool::spread);
            let (apart, count) = spreads.fold((0.0, 0), |(a, n), (b, m)| (a + b, n + m));
            (ENOUGH <= count).then(|| apart / count as f64)
        };
        let Some(mut least) = spread(MIDDLE) else { return MIDDLE };
        let mut narrowest = MIDDLE;
        least *= PREFERENCE;
        for span in (0..SPANS.len()).filter(|it| *it != MIDDLE) {
            if let Some(it) = spread(span).filter(|it| *it < least) {
                (least, narrowest) = (it, span);
            }
        }
        narrowest
    }

    fn at(&self, op: usize, target: usize, span: usize) -> usize {
        ((op * TARGETS + target) * SPANS.len() + span) * self.buckets
    }
}

/// How many ticks ahead the second target is.
const H6_LAG: u64 = 6;

/// A load in square-root space.
fn root(load_us: f64, unit_us: f64) -> f64 {
    (load_us / unit_us + 0.375).sqrt()
}

fn bucket(edges: &Edges, levels: Levels) -> usize {
    edges.partition_point(|edge| *edge <= levels[MIDDLE])
}

/// The levels that part those above zero into fifths, and off the hottest twentieth.
fn edges(levels: impl Iterator<Item = f32>) -> Edges {
    let mut levels: Vec<_> = levels.filter(|it| 0.0 < *it).collect();
    levels.sort_unstable_by(f32::total_cmp);
    [20, 40, 60, 80, 95]
        .map(|percent| levels.get(levels.len() * percent / 100).copied().unwrap_or(f32::INFINITY))
}
