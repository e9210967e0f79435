//! Says what a person may set of the planner's judgement; every number has its unit in its name.

use serde::{Deserialize, Serialize};

/// The planner's policy. Its digest stands in every plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Policy {
    /// A node is too warm above this part of its capacity, in thousandths (DESIGN: 0.8).
    pub warm_permille: u32,
    /// A node is pressed from so far below `warm_permille` on: what comes while a move is carried
    /// out must find room.
    pub headroom_permille: u32,
    /// A pressed node is brought so far below the point at which it became pressed.
    pub band_permille: u32,
    /// Nodes whose load ÷ capacity differs by less count as even.
    pub tolerance_permille: u32,
    /// A range with more load than this part of the mean node's capacity is split ahead of need.
    pub piece_permille: u32,
    /// At most so many ranges.
    pub ranges_max: u32,
    /// Above so many ranges a node (of those that take some), splits ahead of need stop.
    pub ranges_per_node_soft: u32,
    /// Up to so many ranges a node, nothing joins.
    pub ranges_per_node_min: u32,
    /// At most so many splits, and so many joins, in one decision.
    pub splits_max: u32,
    pub joins_max: u32,
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
    /// A range rests so many ticks: it does not join after a move, split or join, and moves again only where that
    /// wins more, by `net_benefit_ms_min` and `disruption_ms` for each tick that is left.
    pub cool_down_ticks: u64,
    /// A migration that is not ready after so long is cancelled.
    pub deadline_ms: u64,
    /// Of a pressed node, so many of its hottest ranges are looked at, and so many of the coolest
    /// nodes as their destinations.
    pub candidates_max: u32,
    pub destinations_max: u32,
    /// So many refusals are told, the most relevant first.
    pub rejected_max: u32,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            warm_permille: 800,
            headroom_permille: 150,
            band_permille: 50,
            tolerance_permille: 50,
            piece_permille: 80,
            ranges_max: 100_000,
            ranges_per_node_soft: 64,
            ranges_per_node_min: 8,
            splits_max: 32,
            joins_max: 32,
            move_bytes_max: 256 << 20,
            moves_in_flight_max: 8,
            moves_in_flight_per_node_max: 4,
            bytes_in_flight_max: 1 << 30,
            churn_bytes_per_hour_max: 1 << 40,
            bandwidth_bytes_per_s: 50_000_000,
            copy_us_per_mib: 2_000,
            disruption_ms: 50,
            net_benefit_ms_min: 400,
            cool_down_ticks: 12,
            deadline_ms: 600_000,
            candidates_max: 32,
            destinations_max: 8,
            rejected_max: 16,
        }
    }
}

impl Policy {
    /// A node is pressed above this part of its capacity, in thousandths.
    pub fn pressed_permille(&self) -> u32 {
        self.warm_permille.saturating_sub(self.headroom_permille)
    }

    /// A pressed node is brought down to this part of its capacity, in thousandths.
    pub fn aim_permille(&self) -> u32 {
        self.pressed_permille().saturating_sub(self.band_permille)
    }
}
