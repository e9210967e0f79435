//! What the planner has done: the box of every tick, and now and then a snapshot in chunks.

use serde::{Deserialize, Serialize};

use crate::heatmap::Forecast;
use crate::wire::record;

/// One record of a planner; exactly one of the two is set. The key is the planner's id.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    #[serde(default)]
    pub tick: Option<TickDone>,
    #[serde(default)]
    pub chunk: Option<SnapshotChunk>,
}

record!(Progress, "planner_progress");

/// A tick: what it read and by which rules, and what is not derived from that.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TickDone {
    pub tick: u64,
    pub tick_ms: u64,
    pub grace_ms: u64,
    pub span_records_max: u64,
    /// The box: offsets `[from, to)` of every input partition.
    pub spans: Vec<Span>,
    /// Ended too long ago to plan by.
    pub stale: bool,
    /// Records that were cut as being stamped too far in the future: no end of a box.
    #[serde(default)]
    pub from_future: Vec<RecordAt>,
    pub policy_digest: String,
    /// The policy itself, when its digest differs from that of the tick before, and with a snapshot.
    #[serde(default)]
    pub policy: Option<String>,
    /// The forecast of the total load, which stands on no other topic.
    #[serde(default)]
    pub total: Option<TotalForecast>,
    /// A fit of the linear model that takes effect in this tick, or would.
    #[serde(default)]
    pub refit: Option<Refitted>,
    /// Which rung and which model answered.
    pub rung: String,
    /// How good forecasts were lately, in thousandths: skill against persistence, and what lay in the 80 %
    /// interval. `None` until it is known.
    #[serde(default)]
    pub skill_permille: Option<i32>,
    #[serde(default)]
    pub coverage80_permille: Option<u32>,
    /// The kind of processor: the forecast is the same to the bit on the same kind.
    pub processor: String,
    /// Entries in the box, and how many of them were late, and how many records were refused.
    pub queries: u64,
    pub late: u64,
    pub dead: u64,
    /// Load of each node over its capacity is derived; this is its integral over the tick.
    pub overload_ms: u64,
}

/// What came of a fit of the linear model.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Refitted {
    /// The tick in which it was begun; it knows of those of which thirty more had come.
    pub begun: u64,
    /// `None`: it is missed, as its rows have no least squares, and the model before it goes on.
    #[serde(default)]
    pub weights: Option<LinearWeights>,
}

/// Weights of a linear model, feature by feature as in `src/forecast/features.rs`, and of each target by
/// target as in [`Forecast`]. What is
/// expected is `(base + Σ weight · feature)² − 3/8` operations a tick, base being the row's mean over
/// 20 ticks in root space.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct LinearWeights {
    pub reads: Vec<f32>,
    pub writes: Vec<f32>,
}

/// Quantised quantiles of the total, reads and writes apart.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TotalForecast {
    pub reads: Forecast,
    pub writes: Forecast,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Span {
    /// Without the configured prefix.
    pub topic: String,
    pub partition: u32,
    pub from: u64,
    pub to: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct RecordAt {
    pub topic: String,
    pub partition: u32,
    pub offset: u64,
}

/// A part of a snapshot as of the end of a tick, compressed; valid once the last one is there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotChunk {
    /// The tick at whose end the snapshot was taken.
    pub tick: u64,
    pub format: u32,
    pub index: u32,
    pub count: u32,
    /// SHA-256 over all chunks, in hexadecimal.
    pub digest: String,
    #[serde(with = "serde_bytes")]
    pub bytes: Vec<u8>,
}
