//! Derives the index from the rows of the source table: the same for who sends changes, and for who
//! scans the table.
//!
//! ```text
//!  a record's value ── rows ──> before, after, payload ── entries ──> a deletion, an entry
//!     Avro, of the writer's schema   │ key: one or several fields, in an order that bytes have
//! ```

pub mod rows;
pub mod key;
pub mod value;
pub mod load;
