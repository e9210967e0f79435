//! Translates query logs as others write them into our own form.
//!
//! ```text
//!  c3 01 our schema   │ datum ─────────────────────────────────────────────> as it is
//!  c3 01 fingerprint  │ datum ──┐
//!  00 id of a schema  │ datum ──┴─ schema ─> Value ─┐
//!  {…} or […]         JSON ────────────────> Value ─┴─ mapping ─> queries ─> our own form
//!                                                        └──────> misfit, with the reason
//! ```
//!
//! * **A function of the record and the form.** What form a log has, the mapping, and every schema
//!   that a registry told, are part of a planner's settings. Those are recorded with the ticks that
//!   went by them, in the same transaction, so a replay asks no registry and comes to the same
//!   queries.
//! * **Our own records stay as they are**, at the cost of a look at their first bytes, since routers
//!   and channels write to the same topic.
//! * **All or none.** A record with one query that does not fit counts nothing, and is a dead letter.
//!
//! Nothing here asks a registry: who holds a `Form` is told which ids it lacks.

pub mod form;
pub mod mapping;
pub mod fields;
pub mod translator;
mod units;
