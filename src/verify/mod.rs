//! Compares all that workers hold with the source table, by code that no channel or worker shares.
//!
//! ```text
//!  table, to its end ──> Fold: one row a primary key ───────────┐
//!  workers' roles and floors ──> wait for? ──> gaps, overlaps    ├──> missing, extra, stale, foreign
//!  workers' pages ──> Comparison ────────────────────────────────┘
//!                └──> Covered: each key once, where it was? ──> else once more
//! ```
//!
//! * **The latest record of a primary key says all**: one entry, or none. What a row was before is not
//!   looked at, so an entry that should have been taken away shows.
//! * **A table that goes on is no fault.** What has changed after the end that was read first is left
//!   out, whichever version a worker has of it.

pub mod fold;
pub mod tiling;
pub mod covered;
pub mod compare;
