//! Says what a forecast is: quantiles of the load at five targets, for reads and for writes.
//!
//! Loads are `cost_us` per second, quantised ([`crate::quanta`]): what is published is what counts.

use schemas::heatmap;
use serde::{Deserialize, Serialize};

/// Index of each target in [`Forecast`]: one, six and thirty ticks ahead, then the mean and the
/// maximum of the next thirty ticks.
pub const H1: usize = 0;
pub const H6: usize = 1;
pub const H30: usize = 2;
pub const MEAN30: usize = 3;
pub const MAX30: usize = 4;
pub const TARGETS: usize = 5;

/// How many ticks ahead a plan looks.
pub const HORIZON: u64 = 30;

/// Index of a level in [`Quantiles`]; the levels stand in [`heatmap::LEVELS`].
pub const Q10: usize = 1;
pub const Q50: usize = 3;
pub const Q90: usize = 5;
pub const Q95: usize = 6;
pub const Q99: usize = 7;

/// Load at each level, ascending.
pub type Quantiles = [u64; heatmap::LEVELS.len()];

/// The load of one kind of operation in one range: quantiles for each target.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Forecast(pub [Quantiles; TARGETS]);

/// The forecast of one range, or of the total.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct RangeForecast {
    pub reads: Forecast,
    pub writes: Forecast,
}

impl RangeForecast {
    /// As it is told of reads and of writes. Fails when a target has not as many quantiles as there are levels.
    pub fn told(reads: &heatmap::Forecast, writes: &heatmap::Forecast) -> Result<Self, String> {
        Ok(Self { reads: reads.try_into()?, writes: writes.try_into()? })
    }

    /// Reads and writes together at a target and level. Quantiles do not add; for two kinds of
    /// operation that rise together, the sum is the careful bound.
    pub fn load(&self, target: usize, level: usize) -> u64 {
        self.reads.0[target][level].saturating_add(self.writes.0[target][level])
    }
}

impl From<&Forecast> for heatmap::Forecast {
    fn from(it: &Forecast) -> Self {
        let [h1, h6, h30, mean30, max30] = it.0.map(Vec::from);
        Self { h1, h6, h30, mean30, max30 }
    }
}

impl TryFrom<&heatmap::Forecast> for Forecast {
    type Error = String;

    /// Fails when a target has not as many quantiles as there are levels.
    fn try_from(it: &heatmap::Forecast) -> Result<Self, String> {
        let row = |row: &Vec<u64>| {
            Quantiles::try_from(row.as_slice()).map_err(|_| format!("{} quantiles", row.len()))
        };
        Ok(Self([row(&it.h1)?, row(&it.h6)?, row(&it.h30)?, row(&it.mean30)?, row(&it.max30)?]))
    }
}
