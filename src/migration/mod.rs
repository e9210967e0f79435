//! Follows migrations from the planner's side, from the proposal to the end.
//!
//! ```text
//!  a decision ──> Migrations ──> START, PENDING, commit, CANCEL, FAILED
//!  statuses ────>  by id, each
//!  ends of ticks>  a machine ──> what ended, and how
//! ```

pub mod machine;
pub mod rebuild;
pub mod table;
