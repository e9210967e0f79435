//! NODE_CAPACITY: how a node feels and what it owns, reported by each worker at an interval.

use serde::{Deserialize, Serialize};

use crate::wire::record;
use crate::{Epoch, Inbox, Key, NodeId};

/// One report of one node. What a node does not know is `None`, never zero.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NodeCapacity {
    pub node_id: NodeId,
    /// Random, made with an empty store: tells a node that lost its disk from one that restarted.
    pub store_id: String,
    /// Share of the processor in use, 0 to 1.
    #[serde(default)]
    pub cpu_load: Option<f64>,
    /// Share of the memory in use, 0 to 1.
    #[serde(default)]
    pub memory_load: Option<f64>,
    /// Share of the disk's throughput in use, 0 to 1.
    #[serde(default)]
    pub io_load: Option<f64>,
    /// Microseconds of service that the node can do a second.
    #[serde(default)]
    pub capacity_us_per_s: Option<f64>,
    #[serde(default)]
    pub memory_bytes_total: Option<u64>,
    #[serde(default)]
    pub memory_bytes_used: Option<u64>,
    #[serde(default)]
    pub disk_bytes_total: Option<u64>,
    #[serde(default)]
    pub disk_bytes_used: Option<u64>,
    /// Where it serves reads, `host:port`.
    #[serde(default)]
    pub endpoint: Option<String>,
    pub inbox: Inbox,
    pub state: NodeState,
    /// What it holds, a row for each range that it owns.
    #[serde(default)]
    pub ranges: Vec<RangeHeld>,
}

record!(NodeCapacity, "node_capacity");

/// What a node says that it is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum NodeState {
    Up,
    /// Serves, but asks to be given nothing.
    Draining,
    /// Serves reads, but stores nothing: a full or read-only disk.
    ReadOnly,
    #[serde(other)]
    Unknown,
}

/// What a node holds of one range.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RangeHeld {
    pub range_start: Key,
    pub epoch: Epoch,
    pub entries: u64,
    pub bytes: u64,
}
