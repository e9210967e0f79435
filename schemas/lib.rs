//! Says what a record of each topic means: one Avro schema and one Rust type a topic.
//!
//! ```text
//!  topics/x.yaml ── where it lies      schemas/x.avsc ── what it says      schemas/x.rs ── as Rust
//! ```
//!
//! * **One stem a topic.** A test holds the three files of a topic together.
//! * **Bytes are ordinary Avro**: single-object encoding, which other implementations write and read.
//! * **Schemas grow.** A field that is added has a default, an enum has a symbol for what is unknown.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};

use serde::{Deserialize, Serialize};

pub mod wire;

pub mod query_log;
pub mod node_capacity;
pub mod heatmap;
pub mod plan;
pub mod migrate_range;
pub mod migration_status;
pub mod assignment;
pub mod range_segment;
pub mod segment_ack;
pub mod table;
pub mod index_update;
pub mod operator_command;
pub mod planner_progress;
pub mod dead_letter;

/// An opaque key of the index; keys are ordered lexicographically.
#[derive(Clone, Debug, Default, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Key(#[serde(with = "serde_bytes")] pub Vec<u8>);

// By length where one is empty: all keys are compared with the beginning of the key space, whose bytes lie
// nowhere. To compare none of them there makes processors with AVX-512 look the address up in vain, for longer
// than a whole map takes.
impl Ord for Key {
    fn cmp(&self, other: &Self) -> Ordering {
        if self.0.is_empty() || other.0.is_empty() {
            return self.0.len().cmp(&other.0.len());
        }
        self.0.cmp(&other.0)
    }
}

impl PartialOrd for Key {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.0.len() == other.0.len() && (self.0.is_empty() || self.0 == other.0)
    }
}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.hash(state);
    }
}

/// A key interval `[start, end)`; an empty `end` means unbounded.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct KeySpan {
    pub start: Key,
    pub end: Key,
}

impl KeySpan {
    /// The whole key space.
    pub fn all() -> Self {
        Self { start: Key::default(), end: Key::default() }
    }

    /// Tells whether the key lies in the interval.
    pub fn contains(&self, key: &[u8]) -> bool {
        let begins_before = self.start.0.is_empty() || self.start.0.as_slice() <= key;
        begins_before && (self.end.0.is_empty() || key < self.end.0.as_slice())
    }

    /// Tells whether the two intervals have a key in common.
    pub fn overlaps(&self, other: &Self) -> bool {
        let begins_before = |a: &Self, b: &Self| b.end.0.is_empty() || a.start < b.end;
        begins_before(self, other) && begins_before(other, self)
    }
}

/// Identifies a node that can own ranges: the `node_id` that it reports.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct NodeId(pub String);

/// Identifies a range inside one planner; on topics a range is known by its start and epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RangeId(pub u64);

/// Identifies a cell, an interval of keys finer than a range; never a rank, which cuts would shift.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct CellId(pub u64);

/// Orders the ownership changes of one range; a larger epoch fences a smaller one. On topics `long`.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Epoch(pub u64);

/// Orders the assignments as a whole.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Generation(pub u64);

/// Identifies a migration; never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct MigrationId(pub u64);

/// The one partition of `index_update`, `range_segment` and `segment_ack` that a worker reads.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Inbox(pub u32);

/// Milliseconds since the Unix epoch, as Kafka stamps a record.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Millis(pub u64);

impl fmt::Display for Key {
    /// Printable keys as they are, others in hexadecimal; the empty one as `-`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("-");
        }
        match str::from_utf8(&self.0) {
            Ok(text) if text.chars().all(|it| it.is_ascii_graphic() || it == ' ') => {
                f.write_str(text)
            }
            Ok(_) | Err(_) => {
                f.write_str("0x")?;
                self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }
    }
}

impl fmt::Display for KeySpan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{}, {})", self.start, self.end)
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for MigrationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "m-{}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use std::hash::{BuildHasher, RandomState};

    use super::*;

    #[test]
    fn keys_order_are_equal_and_hash_as_their_bytes_do() {
        let all: [&[u8]; 8] = [b"", b"\0", b"\0\0", b"\0\x01", b"a", b"ab", b"b", b"\xff"];
        let hashes = RandomState::new();
        for a in all {
            for b in all {
                let [one, other] = [a, b].map(|it| Key(it.to_vec()));
                assert_eq!(one.cmp(&other), a.cmp(b), "{one} {other}");
                assert_eq!(one == other, a == b, "{one} {other}");
                let [x, y] = [&one, &other].map(|it| hashes.hash_one(it));
                assert!(a != b || x == y, "{one} {other}");
                for end in all {
                    let span = KeySpan { start: one.clone(), end: Key(end.to_vec()) };
                    let is_in = a <= b && (end.is_empty() || b < end);
                    assert_eq!(span.contains(b), is_in, "{span} {other}");
                }
            }
        }
    }
}
