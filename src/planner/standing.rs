//! Reads what stands on the topics without a planner's memory of it, to be adopted.

use std::ops::ControlFlow;

use anyhow::Context;
use schemas::assignment::Assignment;
use schemas::migrate_range::MigrateRange;
use schemas::migration_status::MigrationStatus;
use schemas::wire::{Record, decode};
use schemas::{Key, Millis};

use super::machine::Planner;
use super::settings::Settings;
use crate::assignment::map::{Map, Row};
use crate::kafka::Connection;
use crate::kafka::tail::{Start, scan};

/// The assignment, and all that was said of migrations.
#[derive(Default)]
pub struct Standing {
    pub map: Map,
    pub commands: Vec<MigrateRange>,
    pub statuses: Vec<MigrationStatus>,
    /// The stamp of the newest record.
    pub newest: Millis,
}

/// Reads the topics to their ends; if no assignment stands, only that one.
pub fn read(connection: &Connection) -> anyhow::Result<Standing> {
    let mut res = Standing::default();
    let mut newest = Millis(0);
    let mut rows = Vec::new();
    read_all::<Assignment>(connection, &mut newest, |key, assignment| {
        rows.push(Row { start: Key(key), assignment });
    })?;
    for row in &rows {
        res.map.apply(row).with_context(|| {
            format!("{} has a record that no planner writes", connection.topic(Assignment::TOPIC))
        })?;
    }
    if !res.map.is_empty() {
        let Standing { commands, statuses, .. } = &mut res;
        read_all(connection, &mut newest, |_, it| commands.extend(it))?;
        read_all(connection, &mut newest, |_, it| statuses.extend(it))?;
    }
    res.newest = newest;
    Ok(res)
}

/// Goes on with what stands: what is committed goes on, what is not is cancelled.
pub fn adopt(_settings: Settings, _standing: Standing) -> anyhow::Result<Planner> {
    anyhow::bail!(
        "an assignment stands, and there is no valid progress of this planner: run it under the id \
         under which it was run before"
    )
}

fn read_all<R: Record>(
    connection: &Connection,
    newest: &mut Millis,
    mut each: impl FnMut(Vec<u8>, Option<R>),
) -> anyhow::Result<()> {
    let mut broken = None;
    scan(connection, R::TOPIC, Start::Beginning, |record| {
        *newest = (*newest).max(record.stamp);
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
