//! Holds the forecast load of each node against its capacity.
//!
//! ```text
//!  range ──> spread ────┐
//!                       join ──> node, spread ──┬── count by node ──┐
//!  range ──> node ──────┘                       └── count of all ─┐ │
//!  total's forecast ─────────────────────────────── swing ────────┘ join ──> (node, pressure)
//!  node ──> capacity ───────────────────────────────────────────────┘
//! ```
//!
//! * **Incremental.** A spread that has not changed is not looked at: sums of medians and squares are kept
//!   by node. When the sum of all or the total's forecast changes, so do all nodes, and nothing else.
//! * A node that has no forecast load, or no capacity yet, is absent; so are all until the total has a
//!   forecast.

use differential_dataflow::operators::CountTotal;
use schemas::{NodeId, RangeId};
use serde::{Deserialize, Serialize};

use crate::forecast::RangeForecast;
use crate::spread::{Spread, Swing};
use crate::{ByKey, Rows};

/// A node's capacity and what it is to bear over the horizon, in `cost_us` per second.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Pressure {
    pub capacity_us_per_s: u64,
    pub mean30_q50: u64,
    pub mean30_q90: u64,
    pub max30_q95: u64,
}

impl Pressure {
    fn new(capacity_us_per_s: u64, spread: &Spread, swing: &Swing) -> Self {
        Self {
            capacity_us_per_s,
            mean30_q50: u64::try_from(spread.mean30.median).unwrap_or(0),
            mean30_q90: swing.sustained(spread),
            max30_q95: swing.peak(spread),
        }
    }

    /// Tells whether the careful mean is above a part of the capacity, in thousandths.
    pub fn is_warm(&self, permille: u32) -> bool {
        u128::from(self.mean30_q90) * 1000
            > u128::from(permille) * u128::from(self.capacity_us_per_s)
    }
}

/// The pressure on each node.
pub fn pressure<'scope>(
    spreads: ByKey<'scope, RangeId, Spread>,
    total: ByKey<'scope, (), RangeForecast>,
    nodes: ByKey<'scope, RangeId, NodeId>,
    capacities: ByKey<'scope, NodeId, u64>,
) -> Rows<'scope, (NodeId, Pressure)> {
    let spreads = spreads
        .join_core(nodes, |_range, spread, node| Some((node.clone(), *spread)))
        .explode(Some);
    let of_all = spreads.clone().map(|_| ()).count_total();
    let swing = of_all.join_core(total, |(), of_all, total| Some(((), Swing::new(total, of_all))));
    spreads
        .count_total()
        .join_core(capacities, |node, spread, capacity| {
            Some(((), (node.clone(), *capacity, *spread)))
        })
        .join_map(swing, |(), (node, capacity, spread), swing| {
            (node.clone(), Pressure::new(*capacity, spread, swing))
        })
        // Two sides that change in one tick say and take back what was between.
        .consolidate()
}
