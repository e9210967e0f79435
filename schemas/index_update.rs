//! What a worker is to apply: index entries, and watermarks that say how far a channel is.

use serde::{Deserialize, Serialize};

use crate::range_segment::{Entry, Floor};
use crate::wire::record;
use crate::{Generation, NodeId};

/// One record of a worker's inbox; exactly one of the two is set. The key is the node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IndexUpdate {
    /// Of the sender's map.
    pub generation: Generation,
    #[serde(default)]
    pub entry: Option<EntryUpdate>,
    #[serde(default)]
    pub watermark: Option<Watermark>,
}

record!(IndexUpdate, "index_update");

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EntryUpdate {
    pub entry: Entry,
    /// How often it was forwarded.
    pub hops: u32,
}

/// Everything of these partitions before these offsets was sent before this.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Watermark {
    pub floors: Vec<Floor>,
    /// The node that passed it on; `None` straight from a channel.
    #[serde(default)]
    pub via: Option<NodeId>,
}
