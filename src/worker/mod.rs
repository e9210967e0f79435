//! Holds ranges of the index, and serves reads of them.

pub mod serving;
