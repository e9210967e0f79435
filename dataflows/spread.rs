//! Adds forecasts up: medians, and how far the careful quantiles lie above them.
//!
//! ```text
//!  load of a node at a quantile: Σ medians + √( Σ (q − median)² of its ranges
//!                                             + (its share of the total × the total's q − median)² )
//! ```
//!
//! Ranges spread independently of each other, so squares add up; and all of them swing with the total.
//!
//! **Integers only.** Taking a range out of a sum undoes putting it in, exactly.

use std::ops::{Mul, Sub};

use differential_dataflow::difference::{Abelian, IsZero, Monoid, Multiply, Semigroup};
use schemas::RangeId;
use serde::{Deserialize, Serialize};
use timely::dataflow::operators::vec::Map;

use crate::forecast::{MAX30, MEAN30, Q50, Q90, Q95, RangeForecast};
use crate::scores::Upserts;

/// A greater load of one range counts as this one, so that the squares of a million ranges fit.
const LOAD_MAX: u64 = 1 << 42;

/// One target at one careful level: of a range, or of several together.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Level {
    pub median: i64,
    /// Sum of the squares of what the quantile lies above the median.
    pub squares: i128,
}

/// The two targets that decisions rest on: the mean of the horizon at .9 and its maximum at .95.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Spread {
    pub mean30: Level,
    pub max30: Level,
}

impl Spread {
    pub fn of(forecast: &RangeForecast) -> Self {
        let level = |target, level| {
            let [median, above] = above_median(forecast, target, level);
            Level { median, squares: i128::from(above).pow(2) }
        };
        Self { mean30: level(MEAN30, Q90), max30: level(MAX30, Q95) }
    }

    fn zip(self, more: Self, f: impl Fn(Level, Level) -> Level) -> Self {
        Self { mean30: f(self.mean30, more.mean30), max30: f(self.max30, more.max30) }
    }
}

/// What the forecasts come to, as upserts like them.
///
/// Behind this point nobody carries whole forecasts: they are ten times as large.
pub fn spreads(forecasts: Upserts<'_, RangeId, RangeForecast>) -> Upserts<'_, RangeId, Spread> {
    forecasts.map(|(range, forecast, tick)| (range, forecast.map(|it| Spread::of(&it)), tick))
}

/// How far all loads swing together: what the total's quantiles lie above its medians, and the sums of
/// the medians of all ranges, so that the shares of the nodes add up to one.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Swing {
    mean30: [i64; 2],
    max30: [i64; 2],
}

impl Swing {
    pub fn new(total: &RangeForecast, of_all: &Spread) -> Self {
        let swing = |target, level, all: Level| {
            let [_, above] = above_median(total, target, level);
            [all.median, above]
        };
        Self { mean30: swing(MEAN30, Q90, of_all.mean30), max30: swing(MAX30, Q95, of_all.max30) }
    }

    /// The load at .9 of the mean of the horizon.
    pub fn sustained(&self, spread: &Spread) -> u64 {
        upper(spread.mean30, self.mean30)
    }

    /// The load at .95 of the maximum of the horizon.
    pub fn peak(&self, spread: &Spread) -> u64 {
        upper(spread.max30, self.max30)
    }
}

fn upper(level: Level, [all, above]: [i64; 2]) -> u64 {
    let common = i128::from(level.median) * i128::from(above) / i128::from(all.max(1));
    let squares = level.squares.saturating_add(common.saturating_mul(common));
    let above = u128::try_from(squares).unwrap_or(0).isqrt();
    let median = u64::try_from(level.median).unwrap_or(0);
    median.saturating_add(u64::try_from(above).unwrap_or(u64::MAX))
}

/// The median at a target, and what a level lies above it.
fn above_median(forecast: &RangeForecast, target: usize, level: usize) -> [i64; 2] {
    let load = |level: usize| {
        let (reads, writes) = (forecast.reads.0[target][level], forecast.writes.0[target][level]);
        reads.saturating_add(writes).min(LOAD_MAX)
    };
    [load(Q50) as i64, load(level).saturating_sub(load(Q50)) as i64]
}

impl Mul<isize> for Spread {
    type Output = Self;
    fn mul(self, n: isize) -> Self {
        self.zip(self, |it, _| Level {
            median: it.median * n as i64,
            squares: it.squares * n as i128,
        })
    }
}

impl Sub for Spread {
    type Output = Self;
    fn sub(self, part: Self) -> Self {
        self.zip(part, |a, b| Level { median: a.median - b.median, squares: a.squares - b.squares })
    }
}

impl IsZero for Spread {
    fn is_zero(&self) -> bool {
        *self == Self::default()
    }
}

impl Semigroup for Spread {
    fn plus_equals(&mut self, more: &Self) {
        *self = self.zip(*more, |a, b| Level {
            median: a.median + b.median,
            squares: a.squares + b.squares,
        });
    }
}

impl Monoid for Spread {
    fn zero() -> Self {
        Self::default()
    }
}

impl Abelian for Spread {
    fn negate(&mut self) {
        *self = Self::default() - *self;
    }
}

impl Multiply<isize> for Spread {
    type Output = Self;
    fn multiply(self, n: &isize) -> Self {
        self * *n
    }
}
