//! Says what a channel is told, and what it does.

use std::collections::{BTreeMap, BTreeSet};

use schemas::index_update::IndexUpdate;
use schemas::range_segment::Entry;
use schemas::{Generation, Inbox, Millis, NodeId};

use super::committed::{CaughtUp, Committed};
use crate::assignment::map::Row;

/// What happens to a channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The next row of `assignment`.
    MapRead(Row),
    /// `assignment` is read to the end that it had when the channel began.
    MapReached,
    /// A report: where a node reads.
    NodeSeen { node: NodeId, inbox: Inbox },
    /// A partition of `table` is ours, from this offset on; `committed` is stored with it, if it is a
    /// channel's commit.
    Assigned { partition: u32, offset: u64, committed: Option<Committed> },
    /// A partition is to be let go: it waits for [`Action::LetGo`].
    Revoked { partition: u32 },
    /// A partition is somebody else's already.
    Lost { partition: u32 },
    /// The next row of a partition, with its entries; none, if it has none or is not used.
    RowRead { partition: u32, offset: u64, entries: Vec<Entry> },
    /// All that was sent before [`Action::Flush`] is in Kafka.
    Flushed,
    /// The answer to [`Action::Commit`]: the partitions whose offset is stored.
    Committed { stored: BTreeSet<u32> },
    /// The answer to [`Action::LookAtEnds`], which was carried out at that time: of partitions that are
    /// ours, or of none, if nobody answers.
    EndsSeen { asked: Millis, ends: BTreeMap<u32, End> },
    /// Time has passed.
    Tick,
}

/// Where a partition ends, and how far it is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct End {
    /// The last stable offset.
    pub end: u64,
    /// What lies before was told as rows, or is no row.
    pub position: u64,
}

/// What a channel is to do, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    Send(Addressed),
    Flush,
    /// Store these offsets, `(partition, next offset)`, and with each the generation, and when all was read.
    Commit {
        offsets: Vec<(u32, u64)>,
        generation: Generation,
        caught_up: BTreeMap<u32, CaughtUp>,
    },
    /// Tell where our partitions end.
    LookAtEnds,
    /// Ask the planner for a rebuild.
    AskRebuild(Away),
    /// Nothing more of the partition can be used now.
    Pause(u32),
    Resume(u32),
    LetGo(u32),
}

/// Rows of a partition were read so late that compaction may have taken others away, unread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Away {
    pub partition: u32,
    /// When all was read before.
    pub since: CaughtUp,
    /// When all was read again.
    pub until: CaughtUp,
    /// A row is left alone for so long.
    pub lag_ms: u64,
}

/// A record of `index_update`, and whose it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Addressed {
    pub node: NodeId,
    pub inbox: Inbox,
    pub update: IndexUpdate,
}

/// Why rows of a partition wait.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Waiting {
    /// There is no assignment yet, or it is not read.
    NoMap,
    /// The one before had a newer map.
    OlderMap { committed: Generation },
    /// The map has no owner for a key of the row at this offset.
    NoOwner { offset: u64 },
}
