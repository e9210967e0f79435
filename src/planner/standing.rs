//! Reads what stands on the topics without a planner's memory of it, to be adopted.

use std::ops::ControlFlow;

use anyhow::Context;
use schemas::Key;
use schemas::assignment::Assignment;
use schemas::migrate_range::MigrateRange;
use schemas::migration_status::MigrationStatus;
use schemas::wire::{Record, decode};

use crate::assignment::map::{Map, Row};
use crate::kafka::Connection;
use crate::kafka::tail::{Start, scan};

/// The assignment, and all that was said of migrations.
#[derive(Default)]
pub struct Standing {
    pub map: Map,
    pub commands: Vec<MigrateRange>,
    pub statuses: Vec<MigrationStatus>,
}

/// Reads the topics to their ends; if no assignment stands, only that one.
pub fn read(connection: &Connection) -> anyhow::Result<Standing> {
    let mut res = Standing::default();
    let mut rows = Vec::new();
    read_all::<Assignment>(connection, |key, assignment| {
        rows.push(Row { start: Key(key), assignment });
    })?;
    for row in &rows {
        res.map.apply(row).with_context(|| {
            format!("{} has a record that no planner writes", connection.topic(Assignment::TOPIC))
        })?;
    }
    if !res.map.is_empty() {
        let Standing { commands, statuses, .. } = &mut res;
        read_all(connection, |_, it| commands.extend(it))?;
        read_all(connection, |_, it| statuses.extend(it))?;
    }
    Ok(res)
}

fn read_all<R: Record>(
    connection: &Connection,
    mut each: impl FnMut(Vec<u8>, Option<R>),
) -> anyhow::Result<()> {
    let mut broken = None;
    scan(connection, R::TOPIC, Start::Beginning, |record| {
        match record.value.as_deref().map(decode::<R>).transpose() {
            Ok(value) => each(record.key.unwrap_or_default(), value),
            // Others write there, too: what one of them has got wrong was counted when it came.
            Err(_) if R::TOPIC == MigrationStatus::TOPIC => (),
            Err(err) => {
                broken = Some(anyhow::Error::new(err).context(format!(
                    "read {} at offset {}",
                    connection.topic(R::TOPIC),
                    record.offset
                )));
                return ControlFlow::Break(());
            }
        }
        ControlFlow::Continue(())
    })?;
    broken.map_or(Ok(()), Err)
}
