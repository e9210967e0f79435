//! Keeps what happens in a run of all processes at once, draws it while it goes on, and judges it at its end.
//!
//! ```text
//!  boxes, outputs ── of the planner ──┐             ┌─> view      what a terminal shows
//!  statuses, reports ── of workers ───┼─> Course ───┤
//!  latencies ── of the load ──────────┘             ├─> reaction  how fast a crowd was answered
//!                                                   └─> report    the numbers, and what they say
//! ```
//!
//! * **Independent.** Load and overload are recounted from the queries of the box and from who owned
//!   their keys, as in a replay; nothing of the planner's heat is looked at.
//!
//! What runs the processes is the command line's.

pub mod course;
pub mod reaction;
pub mod view;
pub mod report;
