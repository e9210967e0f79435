//! Keeps the index equal to the source table: sends each change of a row to who owns its keys.
//!
//! ```text
//!  table ──> entries ──┐
//!                      ├──> machine ──> index_update   entries, to the owners by one map
//!  assignment ──> map ─┘       ├─────> index_update   watermarks, behind a commit
//!                              └─────> operator_command   a rebuild, if it was away too long
//! ```

pub mod committed;
pub mod events;
pub mod machine;
pub mod request;
pub mod driver;
