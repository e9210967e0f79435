//! Keeps a range-partitioned index evenly warm: everything that has a process around it, in the
//! order data flows.

pub mod topics;
pub mod kafka;
