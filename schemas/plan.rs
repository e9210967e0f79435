//! A decision of the planner, explained: what was chosen, what was rejected, why, and the numbers.
//!
//! Loads are `cost_us` per second, areas node-milliseconds of overload, shares millionths.

use serde::{Deserialize, Serialize};

use crate::heatmap::Forecast;
use crate::wire::record;
use crate::{Key, MigrationId, NodeId};

/// One decision. The key of the record is `plan`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Planned {
    /// `p-` and the tick: a tick has one plan at most.
    pub plan: String,
    pub tick: u64,
    /// Start of the tick, milliseconds since the Unix epoch, and how long it is.
    pub tick_start_ms: u64,
    pub tick_ms: u64,
    pub mode: String,
    /// SHA-256 of all that the decision rests on, in hexadecimal.
    pub inputs_digest: String,
    pub policy_digest: String,
    /// SHA-256 of the decision itself; approval names it.
    pub digest: String,
    /// The nodes that are or will be too warm, the warmest first.
    pub why: Vec<NodePressed>,
    pub moves: Vec<MoveChosen>,
    pub splits: Vec<SplitChosen>,
    pub joins: Vec<JoinChosen>,
    pub rejected: Vec<Rejected>,
    /// The published forecasts that the decision rests on.
    pub rests_on: Vec<HeatCited>,
    /// Load that no split can help, in millionths of the total.
    pub unsplittable_ppm: u32,
    /// Which rung of the forecast answered.
    #[serde(default)]
    pub rung: String,
    /// How good forecasts were lately, in thousandths: skill against persistence, and what lay in the 80 %
    /// interval. `None` until it is known.
    #[serde(default)]
    pub skill_permille: Option<i32>,
    #[serde(default)]
    pub coverage80_permille: Option<u32>,
    /// Commands that were answered in this tick, each of them once.
    #[serde(default)]
    pub commands: Vec<CommandAnswered>,
    /// Ranges whose rebuild begins with this tick, of those that commands have asked for.
    #[serde(default)]
    pub rebuilds: Vec<RebuildChosen>,
}

record!(Planned, "plan");

/// Why there is something to do: a node and its load against its capacity.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodePressed {
    pub node: NodeId,
    pub capacity_us_per_s: u64,
    /// Load of the last tick.
    pub load_now: u64,
    /// Mean of the next thirty ticks at the .5 and at the .9 quantile; their maximum at .95.
    pub mean30_q50: u64,
    pub mean30_q90: u64,
    pub max30_q95: u64,
    /// Overload that is expected over the horizon if nothing is done.
    pub area_ms: u64,
    /// Ticks until the median load passes the threshold; 0 if it has, `None` if it will not.
    #[serde(default)]
    pub ticks_until: Option<u32>,
}

/// A range that is to move.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MoveChosen {
    /// `None` until the migration is started (in `recommend`).
    #[serde(default)]
    pub migration: Option<MigrationId>,
    pub range_start: Key,
    pub range_end: Key,
    pub source: NodeId,
    pub destination: NodeId,
    pub bytes: u64,
    /// Share of the total load.
    pub share_ppm: u32,
    /// Overload avoided over the horizon.
    pub benefit_ms: u64,
    /// What copying and disruption cost, in the same unit.
    pub cost_ms: u64,
    /// Load ÷ capacity in thousandths, mean-30 at .9, of source and destination.
    pub source_before: u32,
    pub source_after: u32,
    pub destination_before: u32,
    pub destination_after: u32,
    /// By hand, by drain, or by heat.
    pub reason: String,
}

/// A range that is to be split, on its node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SplitChosen {
    pub range_start: Key,
    pub range_end: Key,
    pub node: NodeId,
    /// Where the children after the first begin.
    pub at: Vec<Key>,
    pub reason: String,
}

/// Neighbouring ranges of one node that are to become one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoinChosen {
    pub range_start: Key,
    pub range_end: Key,
    pub node: NodeId,
    pub at: Vec<Key>,
    pub reason: String,
}

/// What was considered and not done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rejected {
    pub range_start: Key,
    pub range_end: Key,
    pub source: NodeId,
    /// `None` if no destination was looked at, because the range itself stands against it.
    #[serde(default)]
    pub destination: Option<NodeId>,
    /// A stable code, such as `cooling_down`, `destination_too_warm`, `not_worth_it`, `budget_bytes`.
    pub reason: String,
    /// The number that decided, and what it was held against.
    pub value: i64,
    pub limit: i64,
}

/// A range that its owner is to build again from the source table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RebuildChosen {
    pub migration: MigrationId,
    pub range_start: Key,
    pub range_end: Key,
    pub node: NodeId,
}

/// What became of something that a person, or a channel, asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommandAnswered {
    pub command: String,
    /// Such as `MOVE`.
    pub verb: String,
    pub actor: String,
    /// As they say.
    pub reason: String,
    /// What was started; `None` if it is refused.
    #[serde(default)]
    pub migration: Option<MigrationId>,
    /// A stable code, such as `unsettled` or `budget_bytes`; `None` if it is carried out.
    #[serde(default)]
    pub refused: Option<String>,
    /// The same, or what follows, for a person to read, with names and numbers.
    #[serde(default)]
    pub detail: String,
}

/// A published forecast, as it stood when the decision was made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeatCited {
    pub range_start: Key,
    /// The tick of the heatmap record.
    pub tick: u64,
    pub reads: Forecast,
    pub writes: Forecast,
}
