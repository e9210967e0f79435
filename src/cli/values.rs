//! Finds out what a value is by the topic that it stands on.

use schemas::assignment::Assignment;
use schemas::heatmap::RangeHeated;
use schemas::migrate_range::MigrateRange;
use schemas::migration_status::MigrationStatus;
use schemas::node_capacity::NodeCapacity;
use schemas::plan::Planned;
use schemas::planner_progress::Progress;
use schemas::query_log::QueriesLogged;
use schemas::wire::{Record, decode};

use super::keys::KeyFormat;
use super::records;

/// Returns the value of a record as one line of JSON; `null` for a tombstone, and text where it is no
/// record of the topic.
pub fn json(topic: &str, value: Option<&[u8]>, keys: KeyFormat) -> String {
    let Some(value) = value else { return "null".to_owned() };
    match topic {
        QueriesLogged::TOPIC => json_of::<QueriesLogged>(value, keys),
        NodeCapacity::TOPIC => json_of::<NodeCapacity>(value, keys),
        RangeHeated::TOPIC => json_of::<RangeHeated>(value, keys),
        Planned::TOPIC => json_of::<Planned>(value, keys),
        MigrateRange::TOPIC => json_of::<MigrateRange>(value, keys),
        MigrationStatus::TOPIC => json_of::<MigrationStatus>(value, keys),
        Assignment::TOPIC => json_of::<Assignment>(value, keys),
        Progress::TOPIC => json_of::<Progress>(value, keys),
        _ => serde_json::Value::from(keys.bytes(value)).to_string(),
    }
}

fn json_of<R: Record>(value: &[u8], keys: KeyFormat) -> String {
    match decode::<R>(value) {
        Ok(record) => records::json(&record, keys),
        Err(err) => serde_json::Value::from(format!("<{err}>")).to_string(),
    }
}
