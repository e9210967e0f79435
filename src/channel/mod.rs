//! Keeps the index equal to the source table: what each change of a row means, and for whom.
//!
//! ```text
//!  table ──> rows ──> entries ──┐
//!                               ├──> machine ──> index_update   entries, to the owners by one map
//!  assignment ──> map ──────────┘       └─────> index_update   watermarks, behind a commit
//! ```

pub mod events;
pub mod machine;
