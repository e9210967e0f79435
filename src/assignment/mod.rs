//! Keeps who owns what, and writes it: the map of ranges and its generations.
//!
//! ```text
//!  changes ──> Draft ──> rows ──> [assignment] ──> rows, perhaps fewer ──> Map
//!  split,      what       tombstones, then          compaction drops       carved, so that
//!  join, move  differs    records, the last         what is superseded     fewer are enough
//!                         of them marked
//! ```

pub mod map;
pub mod whole;
pub mod draft;
pub mod birth;
