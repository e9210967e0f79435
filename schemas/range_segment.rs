//! A piece of a range on its way from source to destination.

use serde::{Deserialize, Serialize};

use crate::wire::record;
use crate::{Generation, Key, MigrationId};

/// One segment of a stream. The key of the record is the destination node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RangeSegment {
    pub migration: MigrationId,
    /// Streams of one migration are numbered; a higher one replaces all before it.
    pub stream: u32,
    pub seq: u64,
    /// Of the encoded content.
    pub crc32c: u32,
    pub kind: Kind,
    /// OPEN and HANDOVER: before which offset everything of a `table` partition is applied.
    #[serde(default)]
    pub floors: Vec<Floor>,
    /// DATA.
    #[serde(default)]
    pub entries: Vec<Entry>,
    /// END and HANDOVER: sums of the hashes of live entries and of tombstones above the floor.
    #[serde(default, with = "crate::wire::digest")]
    pub live_digest: u64,
    #[serde(default, with = "crate::wire::digest")]
    pub tombstone_digest: u64,
    #[serde(default)]
    pub count: u64,
    /// HANDOVER.
    #[serde(default)]
    pub generation: Generation,
    /// REFUSE.
    #[serde(default)]
    pub reason: Option<String>,
}

record!(RangeSegment, "range_segment");

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Kind {
    Open,
    Data,
    End,
    Handover,
    Refuse,
    #[serde(other)]
    Unknown,
}

/// Every update of the `table` partition before `offset` that concerns the range is applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Floor {
    pub partition: u32,
    pub offset: u64,
}

/// An index entry with its version; a payload of `None` is a tombstone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    pub index_key: Key,
    pub primary_key: Key,
    pub partition: u32,
    pub offset: u64,
    #[serde(with = "serde_bytes")]
    #[serde(default)]
    pub payload: Option<Vec<u8>>,
}
