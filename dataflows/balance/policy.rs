//! Says what a person may set of the planner's judgement; every number has its unit in its name.

use serde::{Deserialize, Serialize};

/// The planner's policy. Its digest stands in every plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Policy {
    /// A node is too warm above this part of its capacity, in thousandths (DESIGN: 0.8).
    pub warm_permille: u32,
    /// At most so many ranges.
    pub ranges_max: u32,
    /// A larger range is split before it moves.
    pub move_bytes_max: u64,
    pub moves_in_flight_max: u32,
    pub moves_in_flight_per_node_max: u32,
    pub bytes_in_flight_max: u64,
    /// Bytes moved in an hour, over all nodes.
    pub churn_bytes_per_hour_max: u64,
    /// A node copies this fast, and copying costs it so much of its time for each MiB.
    pub bandwidth_bytes_per_s: u64,
    pub copy_us_per_mib: u64,
    /// What a move costs besides its bytes, in node-milliseconds of overload.
    pub disruption_ms: u64,
    /// Benefit must exceed cost by so much.
    pub net_benefit_ms_min: u64,
    /// A range rests so many ticks after it was moved, split or joined.
    pub cool_down_ticks: u64,
    /// A migration that is not ready after so long is cancelled.
    pub deadline_ms: u64,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            warm_permille: 800,
            ranges_max: 100_000,
            move_bytes_max: 256 << 20,
            moves_in_flight_max: 8,
            moves_in_flight_per_node_max: 4,
            bytes_in_flight_max: 1 << 30,
            churn_bytes_per_hour_max: 1 << 40,
            bandwidth_bytes_per_s: 50_000_000,
            copy_us_per_mib: 2_000,
            disruption_ms: 50,
            net_benefit_ms_min: 100,
            cool_down_ticks: 12,
            deadline_ms: 600_000,
        }
    }
}
