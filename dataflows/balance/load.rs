//! Adds forecasts up to the load of a node, and says how much of it is overload.
//!
//! ```text
//!  load                   ___ upper          load of a node at a quantile:
//!   │        ____---------    h30            Σ medians + √(Σ own spread² + common swing²)
//!   │   _---‾ ................ aim
//!   │ h1    h6                               area: what of the path lies above the aim
//!   └──1─────6─────────────────30── ticks
//! ```
//!
//! * **Maxima do not add up.** Those of ranges come at other ticks each, the more so where load moves on from
//!   one to the next. So the peak of a node is the greatest of what is likely of it at the other targets, and
//!   what maxima lie above the same of each range counts like a spread.
//! * **Integers only.** Sums are exact, so taking a range out of a node undoes putting it in.
//! * **Total.** No forecast, however large or crossed, overflows: loads are clamped to [`LOAD_MAX`].

use schemas::heatmap::LEVELS;

use crate::forecast::{H1, H6, H30, HORIZON, MAX30, MEAN30, Q50, Q90, Q95, RangeForecast, TARGETS};

/// A greater load of one range counts as this one: four times the greatest quantum, so that sums of
/// a million ranges, and of their squares, stay in their types.
pub const LOAD_MAX: u64 = 1 << 42;

/// The careful level of each target: paths and the sustained load at .9, the peak at .95.
const UPPER: [usize; TARGETS] = [Q90, Q90, Q90, Q90, Q95];

/// What part of a distribution each level stands for, in thousandths.
const WEIGHTS: [u64; LEVELS.len()] = [75, 100, 200, 250, 200, 100, 45, 30];

/// What of a range's forecast is likely.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Likely {
    /// The median: for forecasts that follow what is there.
    #[default]
    Median,
    /// The mean: for those that know where load goes. What is here or there has none in its median, and a
    /// node has many such ranges.
    Mean,
}

impl Likely {
    fn of(self, forecast: &RangeForecast, target: usize) -> u64 {
        match self {
            Self::Median => at(forecast, target, Q50),
            Self::Mean => {
                let levels = WEIGHTS.iter().enumerate();
                levels.map(|(level, weight)| at(forecast, target, level) * weight).sum::<u64>()
                    / 1000
            }
        }
    }
}

/// The loads of ranges, as they are added up to those of nodes, and how far all swing together.
///
/// Where heat will go is uncertain, so the median of each range is below its mean, while the total
/// is known well. So what is likely of all is raised alike until it comes to the total's, twofold at most:
/// without this, heat that is somewhere would be planned for nowhere.
pub fn loads<'a>(
    forecasts: impl Iterator<Item = &'a RangeForecast>,
    total: &RangeForecast,
    likely: Likely,
) -> (Vec<Load>, Swing) {
    let mut loads: Vec<_> = forecasts.map(|it| Load::of(it, likely)).collect();
    let of_total = Load::of(total, likely);
    let before = sum(&loads);
    loads.iter_mut().for_each(|it| *it = it.raised(&before, &of_total));
    let swing = Swing::new(total, &sum(&loads));
    (loads, swing)
}

/// Of the ranges of a node, or of all.
pub fn sum<'a>(loads: impl IntoIterator<Item = &'a Load>) -> Load {
    loads.into_iter().fold(Load::default(), |sum, it| sum.plus(it))
}

/// The forecast load of a range, or of a node as the sum of its ranges.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// What is likely; of the maximum it is not asked.
    median: [u64; TARGETS],
    /// Sum of the squares of what the upper quantile lies above what is likely.
    spread2: [u128; TARGETS],
}

impl Load {
    pub fn of(forecast: &RangeForecast, likely: Likely) -> Self {
        let mut load = Self::default();
        for target in 0..TARGETS {
            load.median[target] = likely.of(forecast, target);
        }
        for (target, upper) in UPPER.into_iter().enumerate() {
            let from = if target == MAX30 { load.highest() } else { load.median[target] };
            let above = at(forecast, target, upper).saturating_sub(from);
            load.spread2[target] = u128::from(above).pow(2);
        }
        load
    }

    pub fn plus(mut self, more: &Self) -> Self {
        for target in 0..TARGETS {
            self.median[target] += more.median[target];
            self.spread2[target] += more.spread2[target];
        }
        self
    }

    /// Without a part of it, which must have been added before.
    pub fn minus(mut self, part: &Self) -> Self {
        for target in 0..TARGETS {
            self.median[target] -= part.median[target];
            self.spread2[target] -= part.spread2[target];
        }
        self
    }

    /// Its medians times `total` ÷ `sum`, at least once and at most twice.
    fn raised(mut self, sum: &Self, total: &Self) -> Self {
        for target in 0..TARGETS {
            if total.median[target] <= sum.median[target] {
                continue;
            }
            let (median, sum) = (u128::from(self.median[target]), u128::from(sum.median[target]));
            let raised = median * u128::from(total.median[target]) / sum.max(1);
            self.median[target] = raised.clamp(median, 2 * median) as u64;
        }
        self
    }

    /// What is likely at a target.
    pub fn median(&self, target: usize) -> u64 {
        self.median[target]
    }

    /// The upper quantile at a target: own spreads are independent, the common swing is shared.
    pub fn upper(&self, target: usize, swing: &Swing) -> u64 {
        self.above(self.median[target], target, swing)
    }

    /// The way the median goes over the horizon.
    pub fn path(&self) -> Path {
        Path([H1, H6, H30].map(|target| self.median[target]))
    }

    /// The way the upper quantile goes over the horizon.
    pub fn upper_path(&self, swing: &Swing) -> Path {
        Path([H1, H6, H30].map(|target| self.upper(target, swing)))
    }

    /// Mean of the horizon at .9.
    pub fn sustained(&self, swing: &Swing) -> u64 {
        self.upper(MEAN30, swing)
    }

    /// Maximum of the horizon at .95.
    pub fn peak(&self, swing: &Swing) -> u64 {
        self.above(self.highest(), MAX30, swing)
    }

    /// The greatest of what is likely, but for the maximum.
    fn highest(&self) -> u64 {
        self.median[..MAX30].iter().copied().max().unwrap_or(0)
    }

    /// A load with its own spread and its part of the common swing.
    fn above(&self, load: u64, target: usize, swing: &Swing) -> u64 {
        let all = u128::from(swing.above[target]);
        let common = u128::from(load) * all / u128::from(swing.median[target].max(1));
        let common = common.min(all);
        let above = self.spread2[target].saturating_add(common.pow(2)).isqrt();
        load.saturating_add(u64::try_from(above).unwrap_or(u64::MAX))
    }
}

fn at(forecast: &RangeForecast, target: usize, level: usize) -> u64 {
    forecast.load(target, level).min(LOAD_MAX)
}

/// How far all loads swing together: what the total's upper quantiles lie above its medians.
#[derive(Clone, Copy, Debug, Default)]
pub struct Swing {
    /// The sum of all ranges; in the place of the maximum its greatest.
    median: [u64; TARGETS],
    above: [u64; TARGETS],
}

impl Swing {
    /// `sum` is that of all ranges, so that the shares of the nodes add up to one.
    pub fn new(total: &RangeForecast, sum: &Load) -> Self {
        let medians: [u64; TARGETS] = std::array::from_fn(|target| at(total, target, Q50));
        let highest = medians[..MAX30].iter().copied().max().unwrap_or(0);
        let above = std::array::from_fn(|target| {
            let from = if target == MAX30 { highest } else { medians[target] };
            at(total, target, UPPER[target]).saturating_sub(from)
        });
        let mut median = sum.median;
        median[MAX30] = sum.highest();
        Self { median, above }
    }

    /// Sum of the medians of all ranges at a target.
    pub fn total(&self, target: usize) -> u64 {
        self.median[target]
    }
}

/// Load one, six and thirty ticks ahead; straight lines between.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Path([u64; 3]);

impl Path {
    /// Load at a tick of the horizon.
    pub fn at(&self, tick: u64) -> u128 {
        let [h1, h6, h30] = self.0.map(u128::from);
        let tick = u128::from(tick.clamp(1, HORIZON));
        if tick <= 6 {
            (h1 * (6 - tick) + h6 * (tick - 1)) / 5
        } else {
            (h6 * (30 - tick) + h30 * (tick - 6)) / 24
        }
    }

    pub fn highest(&self) -> u64 {
        self.0.into_iter().max().unwrap_or(0)
    }

    /// The target at which it is highest, of equal ones the nearest.
    pub fn hottest(&self) -> usize {
        let targets = [H1, H6, H30].into_iter().zip(self.0);
        targets.rev().max_by_key(|(_, load)| *load).map_or(H1, |(target, _)| target)
    }

    /// Mean load over the horizon: what the straight lines come to.
    pub fn mean(&self) -> u64 {
        let [h1, h6, h30] = self.0.map(u128::from);
        ((6 * h1 + 29 * h6 + 25 * h30) / 60) as u64
    }

    /// Area above a level over the horizon from a tick on, in milliseconds of the whole node.
    pub fn area_ms(&self, level: &Level, from: u64, tick_ms: u64) -> u64 {
        let limit = u128::from(level.permille) * u128::from(level.capacity_us_per_s);
        if u128::from(self.highest()) * 1000 <= limit {
            return 0;
        }
        let excess = (from.max(1)..=HORIZON)
            .map(|tick| (self.at(tick) * 1000).saturating_sub(limit))
            .sum::<u128>();
        let area = excess.saturating_mul(u128::from(tick_ms))
            / (1000 * u128::from(level.capacity_us_per_s));
        u64::try_from(area).unwrap_or(u64::MAX)
    }

    /// How many whole ticks pass before the path is above a level.
    pub fn ticks_until(&self, level: &Level) -> Option<u32> {
        let limit = u128::from(level.permille) * u128::from(level.capacity_us_per_s);
        (1..=HORIZON).find(|tick| self.at(*tick) * 1000 > limit).map(|tick| tick as u32 - 1)
    }
}

/// A part of a node's capacity.
#[derive(Clone, Copy, Debug)]
pub struct Level {
    pub permille: u32,
    /// At least one.
    pub capacity_us_per_s: u64,
}

/// Load ÷ capacity in thousandths.
pub fn permille(load: u64, capacity_us_per_s: u64) -> u32 {
    let permille = u128::from(load) * 1000 / u128::from(capacity_us_per_s.max(1));
    u32::try_from(permille).unwrap_or(u32::MAX)
}

/// Millionths that a part is of the whole.
pub fn share_ppm(part: u64, whole: u64) -> u32 {
    (u128::from(part) * 1_000_000 / u128::from(whole.max(1))).min(1_000_000) as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::forecast::Forecast;

    /// A load with this median and this upper quantile, at every target.
    fn forecast(median: u64, upper: u64) -> RangeForecast {
        let row = [median, median, median, median, median, upper, upper, upper];
        RangeForecast { reads: Forecast([row; TARGETS]), writes: Forecast::default() }
    }

    fn of(forecast: &RangeForecast) -> Load {
        Load::of(forecast, Likely::Median)
    }

    #[test]
    fn own_spreads_are_independent_and_the_swing_is_shared() {
        let parts = [(100, 130), (200, 240)].map(|(q50, q90)| of(&forecast(q50, q90)));
        let load = parts[0].plus(&parts[1]);
        let calm = Swing::new(&forecast(1000, 1000), &load);
        assert_eq!(load.upper(H1, &calm), 300 + 50, "30 and 40 make 50");
        let all = load.plus(&of(&forecast(300, 300)));
        let swinging = Swing::new(&forecast(600, 840), &all);
        assert_eq!(load.upper(H1, &swinging), 300 + 130, "50, and half of 240, make 130");
        assert_eq!(all.minus(&parts[0]).minus(&parts[1]), of(&forecast(300, 300)));
    }

    #[test]
    fn area_counts_what_lies_above_a_level() {
        let path = Path([900, 900, 0]);
        let level = Level { permille: 800, capacity_us_per_s: 1000 };
        assert_eq!(path.area_ms(&level, 1, 1000), 6 * 100 + 62 + 25, "six ticks and a slope");
        assert_eq!(path.area_ms(&level, 9, 1000), 0);
        let mean = (1..=HORIZON).map(|tick| path.at(tick)).sum::<u128>() / 30;
        assert!(path.mean().abs_diff(mean as u64) <= 1);
        assert_eq!(path.ticks_until(&level), Some(0));
        assert_eq!(Path([0, 0, 1000]).ticks_until(&level), Some(25));
        assert_eq!(Path([0, 0, 800]).ticks_until(&level), None);
    }

    #[test]
    fn medians_are_raised_to_their_total_but_not_beyond_twice() {
        let [one, sum] = [of(&forecast(100, 150)), of(&forecast(400, 400))];
        let raised = |total| one.raised(&sum, &of(&forecast(total, total))).median(H1);
        assert_eq!([raised(600), raised(300), raised(9000)], [150, 100, 200]);
    }

    #[test]
    fn what_is_here_or_there_is_likely_by_its_mean() {
        let here_or_there = Forecast([[0, 0, 0, 0, 200, 800, 900, 1000]; TARGETS]);
        let forecast = RangeForecast { reads: here_or_there, writes: Forecast::default() };
        let likely = [Likely::Median, Likely::Mean].map(|it| Load::of(&forecast, it).median(H1));
        assert_eq!(likely, [0, (200 * 200 + 800 * 100 + 900 * 45 + 1000 * 30) / 1000]);
    }

    #[test]
    fn maxima_of_ranges_that_come_one_after_the_other_do_not_add_up() {
        // Four ranges with a load of ten, each of which has a hundred in one of the ticks to come.
        let mut one = forecast(10, 10);
        one.reads.0[MAX30] = [100; 8];
        let four = (0..4).fold(Load::default(), |sum, _| sum.plus(&of(&one)));
        let calm = Swing::new(&forecast(0, 0), &four);
        assert_eq!(four.peak(&calm), 40 + 2 * 90);
    }

    #[test]
    fn extreme_loads_are_clamped() {
        let extreme = of(&forecast(0, u64::MAX));
        let swing = Swing::new(&forecast(0, u64::MAX), &extreme);
        assert_eq!(extreme.upper(H1, &swing), LOAD_MAX);
        assert_eq!(of(&forecast(u64::MAX, 0)).upper(H1, &swing), 2 * LOAD_MAX);
    }
}
