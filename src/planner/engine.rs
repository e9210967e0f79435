//! Runs the dataflow on its timely workers, and talks to them tick by tick.
//!
//! ```text
//!              ┌─ heat(t) ─────> half of the dataflow settles ─> heat of cells, ranges, nodes
//!  the planner ├─ forecasts(t) ─> …                            ─> pressure of nodes
//!              ├─ desired(t) ──> …                            ─> the plan's delta
//!              └─ slots ───────> sums by (cell, tick), between ticks
//! ```
//!
//! Timely workers are threads of their own. Each is fed its share of the records; what is not a
//! query is fed to the first. What comes out is merged and sorted, so that their number does not show.
//!
//! * **Never half a tick.** A call returns when its half has settled on every timely worker.
//! * **A panic of one ends all**: its channel closes, and the call that waits for it says so.
