//! Subtracts the assignment that is from the one that is desired: the plan's delta.
//!
//! ```text
//!  desired ──(+)──┐
//!                 consolidate ──> (span, node) +1 to come, -1 to go
//!  current ──(−)──┘
//! ```
//!
//! A row stands in the delta for as long as the two differ. What is done about it, and when, is for
//! the planner to say.

use schemas::{KeySpan, NodeId};

use crate::Rows;

/// A range, as far as an assignment is concerned, and its owner.
pub type Placed = (KeySpan, NodeId);

/// What is desired less what is.
pub fn delta<'scope>(
    desired: Rows<'scope, Placed>,
    current: Rows<'scope, Placed>,
) -> Rows<'scope, Placed> {
    desired.concat(current.negate()).consolidate()
}
