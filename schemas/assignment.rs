//! Who owns what: one record a range, generation after generation, in one partition.

use serde::{Deserialize, Serialize};

use crate::wire::record;
use crate::{Epoch, Generation, Inbox, Key, MigrationId, NodeId};

/// One range of a generation. The key of the record is `range_start`; a range that ends is a tombstone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Assignment {
    pub range_start: Key,
    pub range_end: Key,
    pub node: NodeId,
    pub inbox: Inbox,
    pub epoch: Epoch,
    pub generation: Generation,
    /// The last record of its generation.
    pub last: bool,
    /// The migration that brought it here, if one did.
    #[serde(default)]
    pub migration: Option<MigrationId>,
    /// Where the node is to have the entries from.
    pub source: Source,
    /// The node of `Source::Node`.
    #[serde(default)]
    pub source_node: Option<NodeId>,
    pub source_epoch: Epoch,
}

record!(Assignment, "assignment");

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Source {
    /// It has them: a relabelling.
    None,
    /// A node hands them over.
    Node,
    /// The source table is scanned.
    Table,
    #[serde(other)]
    Unknown,
}
