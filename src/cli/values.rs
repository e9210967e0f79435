//! Finds out what a value is by the topic that it stands on.

use schemas::assignment::Assignment;
use schemas::heatmap::RangeHeated;
use schemas::index_update::IndexUpdate;
use schemas::migrate_range::MigrateRange;
use schemas::migration_status::MigrationStatus;
use schemas::node_capacity::NodeCapacity;
use schemas::operator_command::OperatorCommand;
use schemas::plan::Planned;
use schemas::planner_progress::Progress;
use schemas::query_log::QueriesLogged;
use schemas::range_segment::RangeSegment;
use schemas::segment_ack::SegmentAck;
use schemas::table::RowChanged;
use schemas::wire::{DecodeError, Record, decode};

use super::keys::KeyFormat;
use super::records::{self, Line};
use super::told::bytes_told;

/// What becomes of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum As {
    /// One line that a person reads.
    Line,
    /// One line of JSON.
    Json,
}

/// Returns a value as text, or why it is no record of its topic. The values of a dead letter, and of
/// a topic that is not ours, are any bytes.
pub fn text(topic: &str, value: &[u8], form: As, keys: KeyFormat) -> Result<String, DecodeError> {
    match topic {
        QueriesLogged::TOPIC => text_of::<QueriesLogged>(value, form, keys),
        NodeCapacity::TOPIC => text_of::<NodeCapacity>(value, form, keys),
        RangeHeated::TOPIC => text_of::<RangeHeated>(value, form, keys),
        Planned::TOPIC => text_of::<Planned>(value, form, keys),
        MigrateRange::TOPIC => text_of::<MigrateRange>(value, form, keys),
        MigrationStatus::TOPIC => text_of::<MigrationStatus>(value, form, keys),
        Assignment::TOPIC => text_of::<Assignment>(value, form, keys),
        RangeSegment::TOPIC => text_of::<RangeSegment>(value, form, keys),
        SegmentAck::TOPIC => text_of::<SegmentAck>(value, form, keys),
        RowChanged::TOPIC => text_of::<RowChanged>(value, form, keys),
        IndexUpdate::TOPIC => text_of::<IndexUpdate>(value, form, keys),
        OperatorCommand::TOPIC => text_of::<OperatorCommand>(value, form, keys),
        Progress::TOPIC => text_of::<Progress>(value, form, keys),
        _ => Ok(match form {
            As::Line => bytes_told(value.len() as u64),
            As::Json => records::json(&serde_bytes::Bytes::new(value), keys),
        }),
    }
}

/// Returns the value of a record as one line of JSON; `null` for a tombstone, and text where it is no
/// record of the topic.
pub fn json(topic: &str, value: Option<&[u8]>, keys: KeyFormat) -> String {
    let Some(value) = value else { return "null".to_owned() };
    let wrong = |err| serde_json::Value::from(format!("<{err}>")).to_string();
    text(topic, value, As::Json, keys).unwrap_or_else(wrong)
}

fn text_of<R: Record + Line>(
    value: &[u8],
    form: As,
    keys: KeyFormat,
) -> Result<String, DecodeError> {
    let record = decode::<R>(value)?;
    Ok(match form {
        As::Line => record.line(keys),
        As::Json => records::json(&record, keys),
    })
}
