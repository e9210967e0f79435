//! Groups the heat of ranges by the node that owns them.
//!
//! ```text
//!  range ──> node ───┐
//!                    join ──> (node, what changes in each window) ──> count: (node, heat)
//!  heat by range ────┘
//! ```
//!
//! **Incremental.** A node causes an update only when one of its ranges does, or when a range comes or
//! goes; a range that moves takes its heat along.

use differential_dataflow::operators::CountTotal;
use schemas::{NodeId, RangeId};

use crate::heat::Rolling;
use crate::{ByKey, BySelf, Rows};

/// The heat of each node, by owner. A node without heat is absent.
pub fn nodes<'scope>(
    heat: BySelf<'scope, RangeId, Rolling>,
    nodes: ByKey<'scope, RangeId, NodeId>,
) -> Rows<'scope, (NodeId, Rolling)> {
    heat.join_core(nodes, |_range, (), node| Some(node.clone())).count_total()
}
