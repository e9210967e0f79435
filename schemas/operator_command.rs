//! What a person, or a channel, asks of the planner, with who and why.

use serde::{Deserialize, Serialize};

use crate::wire::record;
use crate::{Key, Millis, NodeId};

/// One command.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OperatorCommand {
    /// Names the command, so that one that is sent twice counts once.
    pub id: String,
    pub command: Command,
    pub actor: String,
    pub reason: String,
    /// DRAIN, CORDON, UNCORDON; MOVE: the destination.
    #[serde(default)]
    pub node: Option<NodeId>,
    /// PIN, UNPIN, MOVE; REBUILD: all that overlaps, and without ends everything.
    #[serde(default)]
    pub range_start: Option<Key>,
    #[serde(default)]
    pub range_end: Option<Key>,
    /// APPROVE: the plan and exactly its digest.
    #[serde(default)]
    pub plan: Option<String>,
    #[serde(default)]
    pub digest: Option<String>,
    /// REBUILD: ranges that were given to be built from the table since then need it not.
    #[serde(default)]
    pub built_before: Option<Millis>,
    /// SWAP_MODEL: the file of the model that forecasts from the next tick on.
    #[serde(default, with = "serde_bytes")]
    pub model: Option<Vec<u8>>,
}

record!(OperatorCommand, "operator_command");

impl OperatorCommand {
    /// A command that names nothing yet.
    pub fn new(id: String, command: Command, actor: String, reason: String) -> Self {
        Self {
            id,
            command,
            actor,
            reason,
            node: None,
            range_start: None,
            range_end: None,
            plan: None,
            digest: None,
            built_before: None,
            model: None,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Command {
    Drain,
    Cordon,
    Uncordon,
    Pin,
    Unpin,
    Pause,
    Resume,
    Approve,
    Move,
    Rebuild,
    SwapModel,
    #[serde(other)]
    Unknown,
}
