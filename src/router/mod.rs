//! Finds the entries of the index: asks for each read who owns its keys, until there is an answer.
//!
//! ```text
//!  clients ── Reads ──> batch ── Reads, by owner ──> workers
//!          <─ Answers ─   ^ <─── Answers, hints ────
//!  assignment ──> maps ───┘ └──> log ──> query_log
//! ```

pub mod lookup;
pub mod maps;
pub mod events;
pub mod reading;
pub mod machine;
pub mod log;
pub mod options;
pub mod driver;
