//! Heat of a range, now and forecast, as the planner saw it: what its plans rest on.
//!
//! Loads are `cost_us` per second, quantised in steps of about 1 %. A record stands until one of a
//! later tick has the same key; it ends with a tombstone.

use serde::{Deserialize, Serialize};

use crate::wire::record;
use crate::{Key, NodeId};

/// Levels of the quantiles of a forecast, in thousandths.
pub const LEVELS: [u16; 8] = [50, 100, 250, 500, 750, 900, 950, 990];

/// The heat of one range. The key of the record is `range_start`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RangeHeated {
    pub range_start: Key,
    pub range_end: Key,
    pub node: NodeId,
    /// The tick at whose end this was known.
    pub tick: u64,
    pub reads: OpHeat,
    pub writes: OpHeat,
    /// The range's share of the total load, in millionths.
    pub share_ppm: u32,
    /// The part of the range's load that no split can help, in millionths of the range's load.
    #[serde(default)]
    pub unsplittable_ppm: u32,
    /// Which rung of the forecast answered.
    pub rung: String,
    /// How good forecasts were lately, in thousandths: skill against persistence, and what lay in the 80 %
    /// interval. `None` until it is known.
    #[serde(default)]
    pub skill_permille: Option<i32>,
    #[serde(default)]
    pub coverage80_permille: Option<u32>,
}

record!(RangeHeated, "heatmap");

/// Load of one kind of operation.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpHeat {
    /// Load over the last ticks, by width of the window: 1, 6, 30, 120 ticks.
    pub now: Vec<u64>,
    pub forecast: Forecast,
}

/// Quantiles of the load at five targets, each at [`LEVELS`], in `cost_us` per second.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Forecast {
    /// One tick ahead.
    pub h1: Vec<u64>,
    /// Six ticks ahead.
    pub h6: Vec<u64>,
    /// Thirty ticks ahead.
    pub h30: Vec<u64>,
    /// Mean of the next thirty ticks.
    pub mean30: Vec<u64>,
    /// Maximum of the next thirty ticks.
    pub max30: Vec<u64>,
}
