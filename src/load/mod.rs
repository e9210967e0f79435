//! Plays scenarios and traces: reads through routers, and updates of rows into the source table, each
//! when it is due.
//!
//! ```text
//!  scenario ─┐               ┌─ reads ────> machine ──> one router, or another ─┐
//!            ├─> schedule ───┤                                                  ├─> tally
//!  trace ────┘   when due    └─ updates ──> rows ─────> table ──────────────────┘   every 200 ms
//! ```
//!
//! * **Open loop.** What is due is sent, whatever is under way; what is more than may be under way has
//!   failed, and is counted so.
//! * **No coordinated omission.** Latency counts from when an operation was due, not from when it was sent.
//! * **A read that has failed** is one without an answer at its deadline: until then it is repeated, at
//!   another router if there is one.

pub mod schedule;
pub mod rows;
pub mod tally;
pub mod machine;
pub mod driver;

/// Microseconds since the start of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Micros(pub u64);
