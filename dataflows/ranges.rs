//! Groups the heat of cells by range.
//!
//! ```text
//!  cell ──> range ──┐
//!                   join ──> (range, what changes in each window) ──> count: (range, heat)
//!  heat by cell ────┘
//! ```
//!
//! **Incremental.** A range causes an update only when heat arrives in it or expires from it, or when a
//! cell comes to it or leaves it; it does not matter what others do. With a cell its history goes along.

use differential_dataflow::operators::CountTotal;
use schemas::{CellId, RangeId};

use crate::heat::Rolling;
use crate::{ByKey, BySelf, Rolls, Rows};

/// What changes in the heat of each range.
pub fn ranges<'scope>(
    heat: BySelf<'scope, CellId, Rolling>,
    ranges: ByKey<'scope, CellId, RangeId>,
) -> Rolls<'scope, RangeId> {
    heat.join_core(ranges, |_cell, (), range| Some(*range))
}

/// The heat of each range as rows. A range without heat is absent.
pub fn heat_by_range<'scope>(
    changes: BySelf<'scope, RangeId, Rolling>,
) -> Rows<'scope, (RangeId, Rolling)> {
    changes.count_total()
}
