//! Traces the moves that a worker has a part in, by what its machine is told and what it says.
//!
//! ```text
//!  destination   process migrate_range ─┬─ copy        START … END read; segments are events
//!                                       ├─ verify      END … READY said
//!                                       ├─ cut-over    its row of assignment … ACTIVE said
//!                                       ├─ drain       ACTIVE … COMPLETE said
//!                                       └─ send migration_status, each
//!  source        process segment_ack ─── snapshot      a request … OPEN, and … END, HANDOVER said
//!                process assignment                    its row of assignment … HANDOVER said
//! ```
//!
//! * **By what records carry.** A context stays here from the record that brought it to the one that takes
//!   it on, however long the machine lets either wait.
//! * **After a start** the contexts of migrations that are not over are read from their STARTs again, and
//!   what goes on begins in the same trace, as resumed. What was under way has no end.
//! * **Bounded**, and nothing rests on it: of more moves at once the first ones are not traced to their end.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use opentelemetry::trace::TraceContextExt as _;
use opentelemetry::{Context, KeyValue};
use schemas::assignment::Assignment;
use schemas::migrate_range::{Command, MigrateRange};
use schemas::migration_status::{MigrationStatus, Phase, Status};
use schemas::range_segment::{Kind, RangeSegment};
use schemas::segment_ack::SegmentAck;
use schemas::wire::{Record as _, decode};
use schemas::{MigrationId, NodeId};

use crate::kafka::tail::{Start, scan};
use crate::kafka::{Connection, Record};
use crate::telemetry::spans::{self, Begun};
use crate::telemetry::{carried, names};
use crate::worker::states::{Remembered, Role};

/// So many moves are traced at once, to here and from here.
const MOVES_MAX: usize = 256;

/// So many segments of one move are events; the others are counted.
const EVENTS_MAX: u64 = 32;

/// The moves under way.
pub(super) struct Moves {
    node: NodeId,
    connection: Connection,
    to_here: BTreeMap<MigrationId, ToHere>,
    from_here: BTreeMap<MigrationId, FromHere>,
}

/// As their destination.
struct ToHere {
    whole: Context,
    part: Option<(Part, Context)>,
    segments: Segments,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Copy,
    Verify,
    CutOver,
    Drain,
}

/// As their source.
struct FromHere {
    stream: u32,
    whole: Context,
    snapshot: Option<Context>,
    segments: Segments,
}

#[derive(Clone, Copy, Default)]
struct Segments {
    count: u64,
    bytes: u64,
}

impl Moves {
    pub fn new(node: &NodeId, connection: &Connection) -> Self {
        let (to_here, from_here) = (BTreeMap::new(), BTreeMap::new());
        Self { node: node.clone(), connection: connection.clone(), to_here, from_here }
    }

    /// Finds the contexts of what was under way before the start.
    pub fn resume(&mut self, remembered: &Remembered) -> anyhow::Result<()> {
        let parts = remembered.roles.values().filter_map(|it| under_way(&it.role));
        let parts: BTreeMap<_, _> = parts.collect();
        if parts.is_empty() || !spans::is_on() {
            return Ok(());
        }
        let connection = self.connection.clone();
        scan(&connection, MigrateRange::TOPIC, Start::Beginning, |record| {
            if let Some(Ok(start)) = record.value.as_deref().map(decode::<MigrateRange>)
                && start.command == Command::Start
                && let Some(part) = parts.get(&start.migration)
            {
                let resumed = KeyValue::new(names::RESUMED, true);
                self.command(&start, &record, vec![resumed]);
                if let (Some(part), Some(it)) = (part, self.to_here.get_mut(&start.migration)) {
                    it.begin(*part);
                }
            }
            ControlFlow::Continue(())
        })
    }

    /// Takes in a command that was read.
    pub fn read_command(&mut self, command: &MigrateRange, record: &Record) {
        match command.command {
            Command::Start => self.command(command, record, Vec::new()),
            Command::Cancel => {
                if let Some(it) = self.to_here.get(&command.migration) {
                    event(&it.whole, "cancel is read", Vec::new());
                }
            }
            Command::Unknown => (),
        }
    }

    fn command(&mut self, start: &MigrateRange, record: &Record, more: Vec<KeyValue>) {
        if start.destination_node != self.node || self.to_here.contains_key(&start.migration) {
            return;
        }
        let parent = carried::context(&record.headers);
        if parent.is_none() && !spans::is_on() {
            return;
        }
        let attributes = [
            KeyValue::new(names::NODE, self.node.0.clone()),
            KeyValue::new(names::SOURCE_NODE, start.source_node.0.clone()),
            KeyValue::new(names::RANGE_START, start.range_start.to_string()),
            KeyValue::new(names::RANGE_END, start.range_end.to_string()),
        ];
        let whole = self.process(record, parent.as_ref(), start.migration);
        let whole = whole.with(attributes).with(more).begin();
        if self.to_here.len() == MOVES_MAX {
            self.to_here.pop_first();
        }
        let it = ToHere { whole, part: None, segments: Segments::default() };
        self.to_here.insert(start.migration, it);
    }

    /// Takes in a segment that was read.
    pub fn read_segment(&mut self, segment: &RangeSegment, record: &Record) {
        let Some(it) = self.to_here.get_mut(&segment.migration) else { return };
        let at = it.part.as_ref().map_or(&it.whole, |it| &it.1);
        it.segments.take(at, "segment is read", segment, bytes_of(record.value.as_deref()));
        let is_copying = it.part.as_ref().is_some_and(|it| it.0 == Part::Copy);
        match segment.kind {
            Kind::End if is_copying => it.begin(Part::Verify),
            Kind::End | Kind::Open | Kind::Data | Kind::Handover | Kind::Refuse | Kind::Unknown => {
            }
        }
    }

    /// Takes in an acknowledgement that was read; one of a higher stream asks for it.
    pub fn read_ack(&mut self, ack: &SegmentAck, record: &Record) {
        let known = self.from_here.get(&ack.migration);
        if ack.done || known.is_some_and(|it| ack.stream <= it.stream) {
            return;
        }
        let Some(parent) = carried::context(&record.headers) else { return };
        let whole = self.process(record, Some(&parent), ack.migration);
        let whole = whole.with([
            KeyValue::new(names::NODE, self.node.0.clone()),
            KeyValue::new(names::STREAM, i64::from(ack.stream)),
        ]);
        let whole = whole.begin();
        let snapshot = Some(Begun::part("snapshot", &whole).begin());
        self.send_from(ack.migration, ack.stream, whole, snapshot);
    }

    fn send_from(
        &mut self,
        id: MigrationId,
        stream: u32,
        whole: Context,
        snapshot: Option<Context>,
    ) {
        if self.from_here.len() == MOVES_MAX {
            self.from_here.pop_first();
        }
        let segments = Segments::default();
        let it = FromHere { stream, whole, snapshot, segments };
        if let Some(before) = self.from_here.insert(id, it) {
            before.end();
        }
    }

    /// Takes in a row of the map that was read after the start: the commit of a move.
    pub fn read_row(&mut self, row: &Assignment, record: &Record) {
        let Some(id) = row.migration else { return };
        if row.node == self.node
            && let Some(it) = self.to_here.get_mut(&id)
            && it.part.as_ref().is_none_or(|it| matches!(it.0, Part::Copy | Part::Verify))
        {
            it.begin(Part::CutOver);
        }
        if row.source_node.as_ref() == Some(&self.node)
            && row.node != self.node
            && let Some(parent) = carried::context(&record.headers)
        {
            let stream = self.from_here.get(&id).map_or(0, |it| it.stream);
            let whole = self.process(record, Some(&parent), id).with([
                KeyValue::new(names::NODE, self.node.0.clone()),
                KeyValue::new(names::GENERATION, row.generation.0 as i64),
            ]);
            self.send_from(id, stream, whole.begin(), None);
        }
    }

    /// Says in a status how the move stands; returns the context that it takes along.
    pub fn say(&mut self, status: &MigrationStatus) -> Option<Context> {
        let it = self.to_here.get_mut(&status.migration)?;
        match (status.status, status.phase) {
            (Status::InProgress, Some(Phase::Copying)) if it.part.is_none() => it.begin(Part::Copy),
            (Status::InProgress, Some(Phase::Ready)) => it.end_part(),
            (Status::InProgress, Some(Phase::Active))
                if it.part.as_ref().is_none_or(|it| it.0 != Part::Drain) =>
            {
                it.begin(Part::Drain);
            }
            (Status::InProgress | Status::Pending | Status::Unknown, _) => (),
            (Status::Complete | Status::Failed, _) => it.end_part(),
        }
        let said = Begun::send(&self.connection.topic(MigrationStatus::TOPIC), Some(&it.whole));
        let said = said.with([
            KeyValue::new(names::MIGRATION, status.migration.to_string()),
            KeyValue::new(names::STATUS, format!("{:?}", status.status)),
            KeyValue::new(names::PHASE, status.phase.map_or(String::new(), |it| format!("{it:?}"))),
        ]);
        let said = said.begin();
        if matches!(status.status, Status::Complete | Status::Failed) {
            let it = self.to_here.remove(&status.migration)?;
            if status.status == Status::Failed {
                spans::fail(&it.whole, status.reason.as_deref().unwrap_or("failed"));
            }
            it.segments.tell(&it.whole);
            spans::end(&it.whole);
        }
        Some(said)
    }

    /// Acknowledges segments; returns the context that goes along.
    pub fn acknowledge(&self, ack: &SegmentAck) -> Option<Context> {
        let it = self.to_here.get(&ack.migration)?;
        Some(it.part.as_ref().map_or(&it.whole, |it| &it.1).clone())
    }

    /// Sends a segment; returns the context that goes along.
    pub fn send(&mut self, segment: &RangeSegment, bytes: u64) -> Option<Context> {
        let it = self.from_here.get_mut(&segment.migration)?;
        if let Some(snapshot) = it.snapshot.take() {
            spans::end(&snapshot);
        }
        it.segments.take(&it.whole, "segment is sent", segment, bytes);
        let context = it.whole.clone();
        match segment.kind {
            Kind::End | Kind::Handover => it.end(),
            Kind::Refuse => {
                spans::fail(&it.whole, segment.reason.as_deref().unwrap_or("refused"));
                it.end();
            }
            Kind::Open | Kind::Data | Kind::Unknown => (),
        }
        Some(context)
    }

    /// Takes in a status that was read: behind the end of a move, nothing more is sent for it.
    pub fn read_status(&mut self, status: &MigrationStatus) {
        if matches!(status.status, Status::Complete | Status::Failed)
            && let Some(it) = self.from_here.remove(&status.migration)
        {
            it.end();
        }
    }

    fn process<'a>(
        &self,
        record: &Record,
        parent: Option<&'a Context>,
        id: MigrationId,
    ) -> Begun<'a> {
        Begun::process(&self.connection.topic(record.at.topic), parent).with([
            KeyValue::new(names::PARTITION, record.at.partition.to_string()),
            KeyValue::new(names::OFFSET, record.offset as i64),
            KeyValue::new(names::MIGRATION, id.to_string()),
        ])
    }
}

impl ToHere {
    /// Ends the part that is under way, and begins this one.
    fn begin(&mut self, part: Part) {
        self.end_part();
        let name = match part {
            Part::Copy => "copy",
            Part::Verify => "verify",
            Part::CutOver => "cut-over",
            Part::Drain => "drain",
        };
        self.part = Some((part, Begun::part(name, &self.whole).begin()));
    }

    fn end_part(&mut self) {
        if let Some((part, context)) = self.part.take() {
            if part == Part::Copy {
                self.segments.tell(&context);
            }
            spans::end(&context);
        }
    }
}

impl FromHere {
    fn end(&self) {
        self.segments.tell(&self.whole);
        spans::end(&self.whole);
    }
}

impl Segments {
    fn take(&mut self, at: &Context, name: &'static str, segment: &RangeSegment, bytes: u64) {
        self.count += 1;
        self.bytes += bytes;
        if self.count <= EVENTS_MAX && at.span().is_recording() {
            let attributes = vec![
                KeyValue::new(names::STREAM, i64::from(segment.stream)),
                KeyValue::new(names::SEQ, segment.seq as i64),
                KeyValue::new(names::KIND, format!("{:?}", segment.kind)),
                KeyValue::new(names::BYTES, bytes as i64),
            ];
            event(at, name, attributes);
        }
    }

    fn tell(self, at: &Context) {
        at.span().set_attributes([
            KeyValue::new(names::SEGMENTS, self.count as i64),
            KeyValue::new(names::BYTES, self.bytes as i64),
        ]);
    }
}

/// Returns the migration that a role is of, if it comes here and is not over; and in which part it is, if in
/// any: what is ready waits for its commit.
fn under_way(role: &Role) -> Option<(MigrationId, Option<Part>)> {
    if let Some(import) = role.draining() {
        return Some((import.migration, Some(Part::Drain)));
    }
    let import = role.import()?;
    let part = match role {
        Role::Applying(_) => Some(Part::CutOver),
        Role::Active(_)
        | Role::Erasing(_)
        | Role::Import(_)
        | Role::Rebuild(_)
        | Role::Leaving(_) => (!import.ready).then_some(Part::Copy),
    };
    Some((import.migration, part))
}

fn event(at: &Context, name: &'static str, attributes: Vec<KeyValue>) {
    at.span().add_event(name, attributes);
}

fn bytes_of(value: Option<&[u8]>) -> u64 {
    value.map_or(0, <[u8]>::len) as u64
}
