//! Lays out the key space of a replay: the first ranges, the axis of the picture, where bytes lie.

use schemas::{Key, KeySpan};

use super::log::Keys;
use crate::assignment::birth;
use crate::config::Config;
use crate::replay;
use crate::replay::driver::dense_data;
use crate::replay::executor::DataSet;
use crate::replay::plot::KeyAxis;

/// Bytes of an entry, where nobody tells.
const ENTRY_BYTES: u64 = 1024;

/// Of all entries, where keys do not tell how many there are.
const ALL_BYTES: u64 = 1 << 30;

/// Where keys go and bytes lie.
pub struct Layout {
    /// Where the first ranges begin, but the first.
    pub split_points: Vec<Key>,
    /// Where the last cells end.
    pub key_end: Key,
    pub axis: KeyAxis,
    pub data: DataSet,
}

/// Lays out the key space; `bytes` is what nodes say that there is in all.
pub fn layout(config: &Config, keys: &Keys, bytes: Option<u64>) -> Layout {
    let n = config.planner.birth_ranges;
    let mut res = match keys {
        Keys::Integers(low, high) => Layout {
            split_points: replay::equal_splits(*low, *high, n),
            key_end: replay::key(*high),
            axis: KeyAxis::Integers(*low, *high),
            data: dense_data(*low, *high, ENTRY_BYTES),
        },
        Keys::Any(first, last) => Layout {
            split_points: birth::cuts(first, last, n),
            key_end: last.clone(),
            // Enough of them that a place is told from its neighbour's.
            axis: KeyAxis::Ranks(birth::cuts(first, last, 1024)),
            data: DataSet {
                intervals: vec![(KeySpan { start: first.clone(), end: last.clone() }, ALL_BYTES)],
            },
        },
    };
    if let (Some(bytes), Some(interval)) = (bytes, res.data.intervals.first_mut()) {
        interval.1 = bytes;
    }
    if !config.planner.split_points.is_empty() {
        res.split_points.clone_from(&config.planner.split_points);
    }
    res
}
