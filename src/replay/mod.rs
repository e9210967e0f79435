//! Tells what Isotherm would have done with a log: its parts that need no cluster.
//!
//! ```text
//!  scenario ─┐                                        ┌─> tally ──> hindsight ─┐
//!            ├─> batcher ──> query_log ──> planner ───┤                        ├─> report, plot
//!  trace ────┘                                        └─> what it did ─────────┘
//! ```
//!
//! * **Independent.** What the planner did is judged by a recount of the queries, not by its heat.

pub mod scenario;
pub mod trace;
pub mod batcher;
pub mod executor;
pub mod feed;
pub mod driver;
pub mod history;
pub mod tally;
pub mod hindsight;
pub mod leads;
pub mod foresight;
pub mod report;
pub mod outcome;
pub mod verify;
pub mod plot;

use schemas::Key;

/// The key of an integer: big-endian, so that keys are ordered as their integers are.
pub fn key(index: u64) -> Key {
    Key(index.to_be_bytes().to_vec())
}

/// Where ranges of equal width begin, the outer two being open-ended: `ranges - 1` keys at most, of
/// the integers from `low` to below `high`.
pub fn equal_splits(low: u64, high: u64, ranges: u32) -> Vec<Key> {
    assert!(low < high && 0 < ranges, "there are keys to be split");
    let at = |i: u32| low + (u128::from(high - low) * u128::from(i) / u128::from(ranges)) as u64;
    let mut splits: Vec<_> = (1..ranges).map(at).filter(|it| low < *it).collect();
    splits.dedup();
    splits.into_iter().map(key).collect()
}
