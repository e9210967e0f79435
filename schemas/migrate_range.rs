//! MIGRATE_RANGE: the planner's command to move a range; every worker reads all of them.

use serde::{Deserialize, Serialize};

use crate::wire::record;
use crate::{Epoch, Generation, Inbox, Key, MigrationId, Millis, NodeId};

/// One command. The key of the record is the destination node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MigrateRange {
    pub command: Command,
    pub migration: MigrationId,
    pub range_start: Key,
    pub range_end: Key,
    pub source_node: NodeId,
    pub source_epoch: Epoch,
    pub source_inbox: Inbox,
    pub destination_node: NodeId,
    pub destination_inbox: Inbox,
    /// The generation that the planner decided on: readers wait until they have it.
    pub generation: Generation,
    pub bandwidth_bytes_per_s: u64,
    /// When the planner gives up, if the copy is not ready.
    pub deadline: Millis,
    /// The plan that wants it; of a CANCEL, why.
    #[serde(default)]
    pub plan: Option<String>,
    #[serde(default)]
    pub reason: Option<String>,
}

record!(MigrateRange, "migrate_range");

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Command {
    Start,
    Cancel,
    #[serde(other)]
    Unknown,
}
