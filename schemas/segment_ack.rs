//! The destination's side of a transfer: request, acknowledgement and flow control in one.

use serde::{Deserialize, Serialize};

use crate::wire::record;
use crate::{Epoch, Generation, Inbox, Key, MigrationId};

/// One acknowledgement. The key of the record is the source node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SegmentAck {
    pub migration: MigrationId,
    /// Of the START.
    pub generation: Generation,
    /// A higher one than before opens a stream.
    pub stream: u32,
    pub next_seq: u64,
    /// How many bytes the source may send beyond `next_seq`.
    pub credit_bytes: u64,
    pub range_start: Key,
    pub range_end: Key,
    pub source_epoch: Epoch,
    pub destination_inbox: Inbox,
    pub bandwidth_bytes_per_s: u64,
    /// The migration is active here: the stream may end.
    #[serde(default)]
    pub done: bool,
}

record!(SegmentAck, "segment_ack");
