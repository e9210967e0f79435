//! Sends what the machine says, and remembers what else it wants of the world.

use opentelemetry::{Context, KeyValue};
use schemas::migration_status::{MigrationStatus, Status};
use tracing::info;

use super::moves::Moves;
use super::serve::Shared;
use crate::kafka::writer::Writer;
use crate::store::Scan;
use crate::telemetry::{carried, metrics};
use crate::worker::events;
use crate::worker::records;
use crate::worker::report::Who;
use crate::worker::step::World;

/// What the machine wants of the world, until the step is over.
pub(super) struct Sending<'a> {
    pub shared: &'a Shared,
    pub who: Who,
    pub writer: Writer,
    pub moves: Moves,
    /// Since time was taken for it.
    pub copied_bytes: u64,
    pub writes: u64,
    pub maps_asked: u64,
    pub scans: Vec<(Scan, u32, Option<u64>)>,
}

impl World for Sending<'_> {
    type Error = anyhow::Error;

    fn send(&mut self, output: events::Output) -> anyhow::Result<()> {
        let mut record = records::output(&output, &self.who.node, self.who.inbox);
        let context = match output {
            events::Output::Segment { segment, .. } => {
                let bytes = record.value.as_ref().map_or(0, Vec::len) as u64;
                self.copied_bytes += bytes;
                self.shared.counts.add("segments_sent");
                metrics::get()
                    .segment_bytes
                    .add(bytes, &[KeyValue::new(metrics::DIRECTION, "out")]);
                self.moves.send(&segment, bytes)
            }
            events::Output::Update { .. } => {
                self.shared.counts.add("updates_forwarded");
                None
            }
            events::Output::Ack { ack, .. } => {
                self.shared.counts.add("acks_sent");
                self.moves.acknowledge(&ack)
            }
            events::Output::Status(status) => self.say(&status),
            events::Output::Dead { .. } => {
                self.shared.counts.add("no_such_generation");
                None
            }
        };
        if let Some(context) = &context {
            carried::put(context, &mut record.headers);
        }
        self.writer.send(&record)
    }

    fn flush(&mut self) -> anyhow::Result<()> {
        self.writer.flush()
    }

    fn read_map(&mut self) {
        self.maps_asked += 1;
    }

    fn scan_table(&mut self, scan: Scan, partition: u32, from: u64) {
        self.scans.push((scan, partition, Some(from)));
    }

    fn end_table(&mut self, scan: Scan, partition: u32) {
        self.scans.push((scan, partition, None));
    }
}

impl Sending<'_> {
    /// Returns the context that the status takes along.
    fn say(&mut self, status: &MigrationStatus) -> Option<Context> {
        let context = self.moves.say(status);
        let _within = context.clone().map(Context::attach);
        info!(migration = %status.migration, status = ?status.status, phase = ?status.phase, "says");
        let outcome = match status.status {
            Status::Complete => "complete",
            Status::Failed => "failed",
            Status::Pending | Status::InProgress | Status::Unknown => return context,
        };
        metrics::get().migrations.add(1, &[KeyValue::new(metrics::OUTCOME, outcome)]);
        context
    }
}
