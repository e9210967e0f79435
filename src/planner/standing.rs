//! Reads what stands on the topics without a planner's memory of it, to be adopted.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use anyhow::Context;
use schemas::assignment::{Assignment, Source};
use schemas::migrate_range::MigrateRange;
use schemas::migration_status::MigrationStatus;
use schemas::operator_command::{Command, OperatorCommand};
use schemas::wire::{Record, decode};
use schemas::{Key, MigrationId, Millis};

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

/// What was asked of ranges before, and what was done.
#[derive(Default)]
pub struct Rebuilds {
    /// When a range was given from the table, by the migration.
    pub given: BTreeMap<MigrationId, Millis>,
    /// What was asked, and when.
    pub asked: Vec<(Millis, OperatorCommand)>,
}

/// Reads what is known of rebuilds. Whoever goes on reading commands has begun with that: one that stands in
/// both counts once.
pub fn rebuilds(connection: &Connection) -> anyhow::Result<Rebuilds> {
    let Rebuilds { mut given, mut asked } = Rebuilds::default();
    scan(connection, Assignment::TOPIC, Start::Beginning, |record| {
        let stamp = record.stamp;
        let row = record.value.as_deref().and_then(|it| decode::<Assignment>(it).ok());
        let row = row.filter(|it| it.source == Source::Table);
        given.extend(row.and_then(|it| it.migration).map(|it| (it, stamp)));
        ControlFlow::Continue(())
    })?;
    scan(connection, OperatorCommand::TOPIC, Start::Beginning, |record| {
        let stamp = record.stamp;
        // What cannot be read was a dead letter when it came.
        let command = record.value.as_deref().and_then(|it| decode::<OperatorCommand>(it).ok());
        asked.extend(command.map(|it| (stamp, it)));
        ControlFlow::Continue(())
    })?;
    asked.retain(|it| it.1.command == Command::Rebuild);
    Ok(Rebuilds { given, asked })
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
