//! Reads the records that a worker is told, and makes those that it writes.

use schemas::index_update::IndexUpdate;
use schemas::migrate_range::MigrateRange;
use schemas::migration_status::MigrationStatus;
use schemas::range_segment::RangeSegment;
use schemas::segment_ack::SegmentAck;
use schemas::wire::{self, DecodeError, Record as _, decode, encode};
use schemas::{Inbox, Key, NodeId};

use super::events::{Event, Output, Record, Source};
use crate::kafka::{self, TopicPartition};
use crate::store::Scan;
use crate::table::rows::{KEY_BYTES_MAX, PAYLOAD_BYTES_MAX, RowError, Rows};

/// The partition of a source.
pub fn partition(source: Source, inbox: Inbox) -> TopicPartition {
    let (topic, partition) = match source {
        Source::Status(partition) => (MigrationStatus::TOPIC, partition),
        Source::Command => (MigrateRange::TOPIC, 0),
        Source::Ack => (SegmentAck::TOPIC, inbox.0),
        Source::Segment => (RangeSegment::TOPIC, inbox.0),
        Source::Update => (IndexUpdate::TOPIC, inbox.0),
    };
    TopicPartition { topic, partition }
}

/// The source that a partition is.
pub fn source(at: TopicPartition) -> Option<Source> {
    match at.topic {
        MigrationStatus::TOPIC => Some(Source::Status(at.partition)),
        MigrateRange::TOPIC => Some(Source::Command),
        SegmentAck::TOPIC => Some(Source::Ack),
        RangeSegment::TOPIC => Some(Source::Segment),
        IndexUpdate::TOPIC => Some(Source::Update),
        _ => None,
    }
}

/// Reads a record of a source. Those of an inbox that are for another node are skipped.
///
/// Tells a stable code and a text of what cannot be used.
pub fn event(
    source: Source,
    record: &kafka::Record,
    node: &NodeId,
) -> Result<Event, (&'static str, String)> {
    let taken = decoded(source, record, node).map_err(|it| (it.code(), it.to_string()))?;
    if let Event::Record { record, .. } = &taken {
        check_sizes(record)?;
    }
    Ok(taken)
}

/// No store takes keys of any length, and no segment payloads.
fn check_sizes(record: &Record) -> Result<(), (&'static str, String)> {
    let entries = match record {
        Record::Update(it) => it.entry.iter().map(|it| &it.entry).collect(),
        Record::Segment(it) => it.entries.iter().collect(),
        Record::Status(_) | Record::Command(_) | Record::Ack(_) => Vec::new(),
    };
    for it in entries {
        let bytes = it.index_key.0.len().max(it.primary_key.0.len());
        if KEY_BYTES_MAX < bytes {
            let text = format!("a key of {bytes} bytes, where {KEY_BYTES_MAX} are the most");
            return Err(("key_too_long", text));
        }
        let bytes = it.payload.as_ref().map_or(0, Vec::len);
        if PAYLOAD_BYTES_MAX < bytes {
            let text =
                format!("a payload of {bytes} bytes, where {PAYLOAD_BYTES_MAX} are the most");
            return Err(("payload_too_long", text));
        }
    }
    Ok(())
}

fn decoded(source: Source, record: &kafka::Record, node: &NodeId) -> Result<Event, DecodeError> {
    let offset = record.offset;
    let is_inbox = matches!(source, Source::Ack | Source::Segment | Source::Update);
    let is_mine = record.key.as_deref() == Some(node.0.as_bytes());
    let Some(value) = record.value.as_deref().filter(|_| is_mine || !is_inbox) else {
        return Ok(Event::Skipped { source, offset });
    };
    let record = match source {
        Source::Status(_) => Record::Status(decode(value)?),
        Source::Command => Record::Command(decode(value)?),
        Source::Ack => Record::Ack(decode(value)?),
        Source::Segment => Record::Segment(decode(value)?),
        Source::Update => Record::Update(decode(value)?),
    };
    Ok(Event::Record { source, offset, record })
}

/// Reads a row for a scan. One that cannot be read, which is told too, has no entries any more (R23);
/// `None`: nothing can have been put of it.
pub fn row(rows: &Rows, scan: Scan, record: &kafka::Record) -> (Option<Event>, Option<RowError>) {
    let kafka::Record { at, offset, key, value, .. } = record;
    let (partition, offset) = (at.partition, *offset);
    let read = rows.entries(key.as_deref(), value.as_deref(), (partition, offset));
    let (mut entries, unfit) = match read {
        Ok(entries) => (entries, None),
        Err(err) => (Vec::new(), Some(err)),
    };
    entries.retain(|it| it.payload.is_some());
    let primary_key = key.clone().filter(|it| it.len() <= KEY_BYTES_MAX).map(Key);
    let event = |primary_key| Event::RowScanned { scan, partition, offset, primary_key, entries };
    (primary_key.map(event), unfit)
}

/// Makes the record that is written of an output of the machine.
pub fn output(output: &Output, me: &NodeId, my_inbox: Inbox) -> kafka::Output {
    match output {
        Output::Update { node, inbox, update } => to(node, *inbox, update),
        Output::Segment { node, inbox, segment } => to(node, *inbox, segment),
        Output::Ack { node, inbox, ack } => to(node, *inbox, ack),
        Output::Status(status) => {
            let key = status.migration.to_string().into_bytes();
            kafka::Output::new(MigrationStatus::TOPIC, key, encode(status))
        }
        Output::Dead { source, offset, record, generation } => {
            let detail = format!(
                "it names generation {}, which assignment did not have when it was read to its end",
                generation.0
            );
            let value = match record {
                Record::Status(it) => encode(it),
                Record::Command(it) => encode(it),
                Record::Ack(it) => encode(it),
                Record::Segment(it) => encode(it),
                Record::Update(it) => encode(it),
            };
            let bytes = (Some(me.0.clone().into_bytes()), Some(value));
            let at = (partition(*source, my_inbox), *offset);
            kafka::Output::dead_letter(at, bytes, "no_such_generation", &detail)
        }
    }
}

fn to<R: wire::Record>(node: &NodeId, inbox: Inbox, record: &R) -> kafka::Output {
    let key = node.0.clone().into_bytes();
    kafka::Output { partition: Some(inbox.0), ..kafka::Output::new(R::TOPIC, key, encode(record)) }
}

#[cfg(test)]
mod tests {
    use schemas::table::RowChanged;
    use schemas::{Generation, Millis};

    use super::*;
    use crate::table::rows::Form;

    #[test]
    fn r23_row_that_cannot_be_read_is_one_that_was_deleted() {
        let rows = Rows::new(Form::RowChanged, &[], &[]).unwrap();
        let check = |key: Option<Vec<u8>>, value: Option<Vec<u8>>, entries, code| {
            let record = kafka::Record {
                at: TopicPartition { topic: "table", partition: 3 },
                offset: 7,
                stamp: Millis(0),
                key,
                value,
                headers: Vec::new(),
            };
            let (event, unfit) = row(&rows, Scan(Generation(1)), &record);
            let found = event.map(|it| {
                let Event::RowScanned { partition: 3, offset: 7, entries, .. } = it else {
                    panic!("{it:?}")
                };
                entries.len()
            });
            assert_eq!((found, unfit.map(|it| it.code())), (entries, code));
        };
        let key = |it: &str| Some(Key(it.into()));
        let change = RowChanged { before: key("a"), after: key("b"), payload: Some(vec![1]) };
        let primary = Some(b"p".to_vec());
        check(primary.clone(), Some(encode(&change)), Some(1), None);
        check(primary.clone(), None, Some(0), None);
        check(primary, Some(b"no row".to_vec()), Some(0), Some("not_single_object"));
        check(None, Some(encode(&change)), None, Some("no_primary_key"));
        let long = Some(vec![0; KEY_BYTES_MAX + 1]);
        check(long, Some(encode(&change)), None, Some("key_too_long"));
    }
}
