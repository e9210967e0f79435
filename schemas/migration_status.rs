//! MIGRATION_STATUS: how a migration stands, told by its destination; PENDING by the planner.

use serde::{Deserialize, Serialize};

use crate::wire::record;
use crate::{Epoch, Key, MigrationId, NodeId};

/// One word about one migration. The key of the record is the migration's id.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MigrationStatus {
    pub migration: MigrationId,
    pub range_start: Key,
    pub range_end: Key,
    /// The node that moves it here, or `planner`.
    pub teller: NodeId,
    pub status: Status,
    #[serde(default)]
    pub phase: Option<Phase>,
    #[serde(default)]
    pub reason: Option<String>,
    /// The source's epoch before the commit, the destination's after it.
    pub epoch: Epoch,
    /// The number of the stream.
    #[serde(default)]
    pub attempt: u32,
    #[serde(default)]
    pub bytes: u64,
    /// Sum of the hashes of live entries, once known.
    #[serde(default, with = "crate::wire::digest_option")]
    pub digest: Option<u64>,
    /// Partitions of `table` that are still to drain.
    #[serde(default)]
    pub partitions_left: Vec<u32>,
}

record!(MigrationStatus, "migration_status");

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Status {
    Pending,
    InProgress,
    Complete,
    Failed,
    #[serde(other)]
    Unknown,
}

/// How far a migration in progress is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Phase {
    Copying,
    /// All is copied and verified: the planner may commit.
    Ready,
    /// The destination serves; updates by the source are still to drain.
    Active,
    #[serde(other)]
    Unknown,
}
