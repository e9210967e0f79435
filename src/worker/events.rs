//! Says what a worker's machine is told, and what it does.

use std::sync::Arc;

use schemas::index_update::IndexUpdate;
use schemas::migrate_range::MigrateRange;
use schemas::migration_status::MigrationStatus;
use schemas::range_segment::{Entry, RangeSegment};
use schemas::segment_ack::SegmentAck;
use schemas::{Generation, Inbox, Key, KeySpan, NodeId};
use serde::{Deserialize, Serialize};

use super::serving::View;
use crate::assignment::map::Row;
use crate::store::{EntryKey, Limit, Outcome, Page, Scan, State, Write};
use crate::transfer::segment::StreamId;

/// A partition whose position is stored with what came of its records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Source {
    /// `migration_status`, by partition.
    Status(u32),
    /// `migrate_range`.
    Command,
    /// The worker's partition of `segment_ack`.
    Ack,
    /// That of `range_segment`.
    Segment,
    /// That of `index_update`.
    Update,
}

/// A record of one of these partitions. Those of the inbox that are for another node are not told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    Status(MigrationStatus),
    Command(MigrateRange),
    Ack(SegmentAck),
    Segment(RangeSegment),
    Update(IndexUpdate),
}

/// What happens to a worker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Of a new store only, before anything else: where it begins to read.
    Begun { positions: Vec<(Source, u64)> },
    /// The next row of `assignment`, which is read from the beginning.
    MapRead(Row),
    /// `assignment` is read to the end that it had at the start, or to behind all that was written of it at
    /// [`Action::ReadMap`], committed or not.
    MapReached,
    /// `index_update` is read to the end that it had at the start.
    UpdatesReached,
    /// The next record, as long as [`super::machine::Worker::wants`] some.
    Record { source: Source, offset: u64, record: Record },
    /// A record that cannot be used, or is not for this node: only its offset counts.
    Skipped { source: Source, offset: u64 },
    /// The next row that a scan of `table` comes to, with its entries; none, if it has none or cannot
    /// be used.
    RowScanned { scan: Scan, partition: u32, offset: u64, primary_key: Key, entries: Vec<Entry> },
    /// The scan stands at the end of a partition, at this position; told again when it does so at
    /// another one.
    EndScanned { scan: Scan, partition: u32, position: u64 },
    /// The answer to [`Action::Stage`].
    Staged(Vec<Outcome>),
    /// The answer to [`Action::Commit`].
    Committed,
    /// The answer to [`Action::Page`].
    Paged { stream: StreamId, page: Page },
    /// What is copied from here may take so many thousandths of the bandwidth from now on.
    Eased { permille: u16 },
    /// Time has passed.
    Tick,
}

/// What a worker is to do, in this order. What is sent is flushed before a commit or a sync.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Decide what the writes change, and tell it.
    Stage(Vec<Write>),
    Send(Output),
    /// Flush, then store what is staged, and these states.
    Commit(Vec<State>),
    /// Flush; what was committed is to outlive a power cut before anything that follows: a promise.
    Sync,
    /// Keep what is committed, as of now, for a stream.
    Snapshot(StreamId),
    /// The stream is over.
    Release(StreamId),
    /// Read a page of what was kept for the stream.
    Page {
        stream: StreamId,
        span: KeySpan,
        after: Option<EntryKey>,
        limit: Limit,
    },
    /// Serve this, with what is committed.
    Publish(Arc<View>),
    /// Say when `assignment` is read to the end that it has now.
    ReadMap,
    /// Scan the partition of `table` from here.
    ScanTable {
        scan: Scan,
        partition: u32,
        from: u64,
    },
    /// The scan of the partition is over.
    EndTable {
        scan: Scan,
        partition: u32,
    },
}

/// A record that a worker writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    Update {
        node: NodeId,
        inbox: Inbox,
        update: IndexUpdate,
    },
    Segment {
        node: NodeId,
        inbox: Inbox,
        segment: RangeSegment,
    },
    Ack {
        node: NodeId,
        inbox: Inbox,
        ack: SegmentAck,
    },
    Status(MigrationStatus),
    /// A record that cannot be used: of a generation that does not exist.
    Dead {
        source: Source,
        offset: u64,
        record: Record,
        generation: Generation,
    },
}

/// How a worker does its work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    pub node: NodeId,
    pub inbox: Inbox,
    /// Of `table`.
    pub partitions: u32,
    /// Of one step.
    pub records_max: usize,
    /// Of what records of one step carry, about, and of what waits of a partition; one record at least.
    pub step_bytes_max: usize,
    /// Of one batch of what goes on by a cursor.
    pub cursor_max: usize,
    /// What a source may send beyond what is acknowledged, of one stream.
    pub stream_credit_bytes: u64,
    /// And of all streams to this node.
    pub inbox_credit_bytes: u64,
    /// Changes that wait to be sent in a stream; beyond them it is given up.
    pub backlog_bytes_max: usize,
    /// How many streams of a migration are given up before it is refused.
    pub backlogs_max: u32,
    /// A request is repeated this often while no segment comes.
    pub repeat_ms: u64,
    /// How long what was moved away is kept after the end of the migration.
    pub grace_ms: u64,
    /// A scan of a partition that has come to no end for so long begins again: a deletion that it was yet
    /// to see may be gone from the table.
    pub scan_ms_max: u64,
    /// Tombstones below the floor are looked for this often, a batch at a time.
    pub collect_ms: u64,
}

/// Why a record was not used; counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Ignored {
    /// An update below the floor.
    BelowFloor,
    /// A command, segment or acknowledgement of a migration that is not known here or was decided.
    UnknownMigration,
    /// A segment that was taken before, or of a stream that was given up.
    KnownSegment,
    /// A segment that is broken, or behind a gap.
    BrokenStream,
    /// The range was handed over as it was, but the sums differ.
    SumsDiffer,
    /// A command that this program does not know.
    UnknownCommand,
    /// A START that does not have the range as the map has it; answered with FAILED.
    StaleCommand,
    /// An update that has neither an entry nor a watermark, or both.
    MalformedUpdate,
    /// The map says that a range came here in a way that this node has no part in.
    UnexpectedRange,
    /// The map's generation never came.
    NoSuchGeneration,
    /// What a scan of the table has put: it took too long.
    SlowScan,
    /// A row of the map.
    RefusedRow,
}

impl Ignored {
    /// A stable code, for counters.
    pub fn code(self) -> &'static str {
        match self {
            Self::BelowFloor => "update_below_floor",
            Self::UnknownMigration => "unknown_migration",
            Self::KnownSegment => "segment_known",
            Self::BrokenStream => "stream_broken",
            Self::SumsDiffer => "sums_differ",
            Self::UnknownCommand => "command_unknown",
            Self::StaleCommand => "command_stale",
            Self::MalformedUpdate => "update_malformed",
            Self::UnexpectedRange => "range_unexpected",
            Self::NoSuchGeneration => "no_such_generation",
            Self::SlowScan => "scan_slow",
            Self::RefusedRow => "assignment_refused",
        }
    }
}
