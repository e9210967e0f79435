//! Traces plans: each has a trace of its own, of an id that its digest gives.
//!
//! ```text
//!  plan ─── send migrate_range, one a move          its context goes along with START and PENDING
//!              └─ … what workers do …
//!                    └─ process migration_status    of what they say of it, in the tick that reads it
//!                          ├─ send assignment       the commit
//!                          └─ send migrate_range    a CANCEL
//! ```
//!
//! * **Beside the record, not in it.** Contexts are headers: keys and values are the same without them.
//! * **After a start** contexts come from what is read again: a status has that of its move.

use std::collections::BTreeMap;
use std::time::SystemTime;

use opentelemetry::trace::TraceId;
use opentelemetry::{Context, KeyValue};
use schemas::assignment::Assignment;
use schemas::migrate_range::{Command, MigrateRange};
use schemas::migration_status::MigrationStatus;
use schemas::plan::Planned;
use schemas::wire::{self, Record as _, decode};
use schemas::{MigrationId, NodeId};

use crate::kafka::{Connection, Output, Record};
use crate::planner::machine::TickOutputs;
use crate::telemetry::spans::{self, Begun};
use crate::telemetry::{carried, names};

/// So many migrations are known at once.
const MIGRATIONS_MAX: usize = 10_000;

/// How the planner calls itself as a teller.
const PLANNER: &str = "planner";

/// What is known of traces between ticks.
pub(super) struct Traces {
    connection: Connection,
    /// Where a migration belongs that is not over.
    migrations: BTreeMap<MigrationId, Context>,
}

/// Spans of the tick that is being decided.
pub(super) struct OfTick {
    begun: SystemTime,
    statuses: BTreeMap<MigrationId, Context>,
    /// To be ended with it.
    under_way: Vec<Context>,
}

impl Traces {
    pub fn new(connection: &Connection) -> Self {
        Self { connection: connection.clone(), migrations: BTreeMap::new() }
    }

    /// Takes in the records of a tick that was decided before: nothing begins of them.
    pub fn recall(&mut self, records: &[Record]) {
        for (id, context, _) in statuses(records) {
            self.remember(id, context);
        }
    }

    /// Begins a tick with what it reads.
    pub fn begin(&mut self, records: &[Record]) -> OfTick {
        let mut tick =
            OfTick { begun: SystemTime::now(), statuses: BTreeMap::new(), under_way: Vec::new() };
        for (id, context, record) in statuses(records) {
            let topic = self.connection.topic(MigrationStatus::TOPIC);
            let status = Begun::process(&topic, Some(&context)).with([
                KeyValue::new(names::MIGRATION, id.to_string()),
                KeyValue::new(names::PARTITION, record.at.partition.to_string()),
                KeyValue::new(names::OFFSET, record.offset as i64),
            ]);
            let status = status.begin();
            tick.under_way.push(status.clone());
            tick.statuses.insert(id, status);
            self.remember(id, context);
        }
        tick
    }

    /// Begins the trace of the plan, if there is one, and sends contexts along with what the tick led to.
    pub fn write(&mut self, tick: &mut OfTick, outputs: &mut TickOutputs) {
        let plan = outputs.plan.as_ref().and_then(|it| begin_plan(tick, it));
        for output in &mut outputs.outputs {
            let context = match output.topic {
                Planned::TOPIC => plan.clone(),
                MigrateRange::TOPIC => self.command(tick, plan.as_ref(), output),
                MigrationStatus::TOPIC => decoded::<MigrationStatus>(output)
                    .and_then(|it| self.migrations.get(&it.migration).cloned()),
                Assignment::TOPIC => self.commit(tick, output),
                _ => None,
            };
            if let Some(context) = context {
                carried::put(&context, &mut output.headers);
            }
        }
    }

    /// Ends the tick: it is committed, or why not.
    pub fn end(&mut self, tick: &OfTick, outputs: &TickOutputs, failed: Option<&anyhow::Error>) {
        for it in tick.under_way.iter().rev() {
            if let Some(err) = failed {
                spans::fail(it, &format!("{err:#}"));
            }
            spans::end(it);
        }
        for it in &outputs.ended {
            self.migrations.remove(&it.migration);
        }
    }

    fn command(
        &mut self,
        tick: &mut OfTick,
        plan: Option<&Context>,
        output: &Output,
    ) -> Option<Context> {
        let it: MigrateRange = decoded(output)?;
        let id = it.migration;
        let parent = match it.command {
            Command::Start => plan.cloned(),
            Command::Cancel | Command::Unknown => self.cause(tick, id),
        }?;
        let sent = Begun::send(&self.connection.topic(MigrateRange::TOPIC), Some(&parent)).with([
            KeyValue::new(names::MIGRATION, id.to_string()),
            KeyValue::new(names::COMMAND, format!("{:?}", it.command)),
            KeyValue::new(names::SOURCE_NODE, it.source_node.0),
            KeyValue::new(names::DESTINATION_NODE, it.destination_node.0),
            KeyValue::new(names::RANGE_START, it.range_start.to_string()),
            KeyValue::new(names::RANGE_END, it.range_end.to_string()),
        ]);
        let sent = sent.begin();
        tick.under_way.push(sent.clone());
        if it.command == Command::Start {
            self.remember(id, sent.clone());
        }
        Some(sent)
    }

    fn commit(&self, tick: &mut OfTick, output: &Output) -> Option<Context> {
        let it: Assignment = decoded(output)?;
        let id = it.migration?;
        let parent = self.cause(tick, id)?;
        let sent = Begun::send(&self.connection.topic(Assignment::TOPIC), Some(&parent)).with([
            KeyValue::new(names::MIGRATION, id.to_string()),
            KeyValue::new(names::GENERATION, it.generation.0 as i64),
            KeyValue::new(names::DESTINATION_NODE, it.node.0),
        ]);
        let sent = sent.begin();
        tick.under_way.push(sent.clone());
        Some(sent)
    }

    /// Returns what has led to something that becomes of a migration in this tick.
    fn cause(&self, tick: &OfTick, id: MigrationId) -> Option<Context> {
        tick.statuses.get(&id).or_else(|| self.migrations.get(&id)).cloned()
    }

    fn remember(&mut self, id: MigrationId, context: Context) {
        if self.migrations.len() == MIGRATIONS_MAX {
            self.migrations.pop_first();
        }
        self.migrations.insert(id, context);
    }
}

/// Begins the trace of a plan.
fn begin_plan(tick: &mut OfTick, plan: &Planned) -> Option<Context> {
    let begun = Begun::root("plan").with([
        KeyValue::new(names::PLAN, plan.plan.clone()),
        KeyValue::new(names::DIGEST, plan.digest.clone()),
        KeyValue::new(names::TICK, plan.tick as i64),
        KeyValue::new(names::MOVES, plan.moves.len() as i64),
    ]);
    let context = begun.begin_trace(trace_id(&plan.digest)?, tick.begun);
    tick.under_way.push(context.clone());
    Some(context)
}

/// The statuses among records that others have said and that have a context.
fn statuses(records: &[Record]) -> impl Iterator<Item = (MigrationId, Context, &Record)> {
    let of_topic = records.iter().filter(|it| it.at.topic == MigrationStatus::TOPIC);
    of_topic.filter_map(|record| {
        let context = carried::context(&record.headers)?;
        let status: MigrationStatus = decode(record.value.as_deref()?).ok()?;
        (status.teller != NodeId(PLANNER.into())).then_some((status.migration, context, record))
    })
}

fn decoded<R: wire::Record>(output: &Output) -> Option<R> {
    decode(output.value.as_deref()?).ok()
}

/// The first half of a digest is the trace's id.
fn trace_id(digest: &str) -> Option<TraceId> {
    TraceId::from_hex(digest.get(..32)?).ok().filter(|it| *it != TraceId::INVALID)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trace_of_a_plan_has_the_first_half_of_its_digest() {
        let digest = "0af7651916cd43dd8448eb211c80319c1af7651916cd43dd8448eb211c80319c";
        assert_eq!(trace_id(digest).unwrap().to_string(), digest[..32]);
        assert_eq!(trace_id(""), None);
        assert_eq!(trace_id(&"0".repeat(64)), None);
    }
}
