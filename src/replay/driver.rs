//! Runs the planner over a log: what would Isotherm have done with it?
//!
//! ```text
//!  scenario, trace ──> writer ──┐ paced                       ┌─> executor ──> statuses, reports
//!                               ├─> query_log ──> planner ────┤      ^             │ of the next tick
//!  a topic of any cluster ──────┘   twice: isotherm, reactive └─> recount          └──> planner
//! ```
//!
//! Reads: assignment, dead_letter, heatmap, migrate_range, migration_status, node_capacity, operator_command,
//! plan, planner_progress, query_log.
//! Writes: nothing.
//!
//! That is what replay as a whole may ask of a cluster. What is run here reads a log of queries and
//! nothing else of it; the topics of the same names beside it, which are written, are on the
//! embedded broker.
//!
//! * **The planner's own code.** It reads boxes and commits transactions; what it writes goes to the
//!   embedded broker, whatever cluster the log is on.
//! * **Nothing is written to the cluster that is read.**
//! * **Lockstep.** The executor marks the end of a tick on its topics when it has said what happens
//!   in it, so a tick is decided when all of it is known; the writer of a trace stays a few ahead.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::BufReader;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::thread;

use anyhow::{Context, anyhow};
use dataflows::Tick;
use schemas::migrate_range::Command;
use schemas::migration_status::Phase;
use schemas::query_log::QueriesLogged;
use schemas::wire::{Record as _, encode};
use schemas::{Key, KeySpan, MigrationId, Millis, NodeId};
use zstd::stream::read::Decoder;

use super::executor::{DataSet, Executor, Model};
use super::feed::{PARTITIONS, Pace, write_log};
use super::history::{History, Recount};
use super::key;
use super::leads::Left;
use super::scenario::Scenario;
use super::trace::{Assumed, Trace, TraceError};
use crate::forecast::Rung;
use crate::foreign::translator::Translator;
use crate::kafka::embedded::Embedded;
use crate::kafka::registry::Access;
use crate::kafka::source::{FilledBox, Input, Start};
use crate::kafka::writer::Writer;
use crate::kafka::{Connection, Output};
use crate::planner::driver::{Options, Stamps, Watch, run};
use crate::planner::machine::TickOutputs;
use crate::planner::settings::Settings;
use crate::tick::rules::{Reading, Rules};
use crate::tick::tick_box::TickBox;

/// What the planner writes, in one partition each.
const OUTPUTS: [&str; 8] = [
    "node_capacity",
    "migration_status",
    "assignment",
    "migrate_range",
    "heatmap",
    "plan",
    "planner_progress",
    "dead_letter",
];

/// Where the queries come from.
#[derive(Clone, Debug)]
pub enum Log {
    Scenario(Scenario),
    Trace { path: PathBuf, start: Millis, assumed: Assumed },
    Topic { connection: Box<Connection>, from: Start, to: Option<Millis> },
}

/// What is to be replayed.
#[derive(Clone, Debug)]
pub struct Replay {
    pub log: Log,
    pub settings: Settings,
    pub rules: Rules,
    /// Capacity of each node, in microseconds a second.
    pub nodes: BTreeMap<NodeId, u64>,
    pub model: Model,
    pub data: DataSet,
    /// Where the intervals begin over which load is recounted.
    pub grid: Vec<Key>,
    /// The last tick; a topic ends by itself.
    pub last: Option<Tick>,
    pub first: Option<Tick>,
    pub timely_workers: usize,
    /// Who is asked for schemas of the log.
    pub registry: Option<Access>,
}

/// Runs the planner over the log, once as it is and once reacting only; returns what happened.
///
/// `progress` is told of every tick of the first.
pub fn replay(
    it: &Replay,
    progress: &(dyn Fn(&TickBox, &TickOutputs) + Sync),
) -> anyhow::Result<[History; 2]> {
    let runs = [("isotherm.", it.settings.rung), ("reactive.", Rung::Persistence)];
    let topic = |prefix: &str| {
        let prefix = prefix.to_owned();
        OUTPUTS.map(|name| (format!("{prefix}{name}"), 1))
    };
    let mut topics: Vec<(String, u32)> = runs.iter().flat_map(|run| topic(run.0)).collect();
    topics.push((QueriesLogged::TOPIC.to_owned(), PARTITIONS));
    let broker = Embedded::start(&topics)?;
    let local = broker.connection();
    let pace = Pace::new(runs.len());

    thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let done = write_log(it, &local, &pace);
            // A planner that waits for what will not come is told.
            if done.is_err() {
                pace.end();
            }
            done
        });
        let planner = |(i, (prefix, rung)): (usize, (&'static str, Rung))| {
            let (local, pace) = (&local, &pace);
            scope.spawn(move || {
                let done = run_one(it, local, prefix, rung, |bounds, outputs| {
                    pace.reached(i, bounds.tick);
                    if i == 0 {
                        progress(bounds, outputs);
                    }
                    !pace.has_ended()
                });
                if done.is_err() {
                    pace.end();
                }
                done
            })
        };
        let planners: Vec<_> = runs.into_iter().enumerate().map(planner).collect();
        let histories: Vec<_> = planners.into_iter().map(join).collect();
        pace.end();
        join(writer)?;
        let [isotherm, reactive] =
            <[_; 2]>::try_from(histories).map_err(|_| anyhow!("there are two runs"))?;
        Ok([isotherm?, reactive?])
    })
}

fn join<T>(thread: thread::ScopedJoinHandle<'_, anyhow::Result<T>>) -> anyhow::Result<T> {
    thread.join().map_err(|_| anyhow!("a thread of the replay panicked"))?
}

fn run_one(
    it: &Replay,
    local: &Connection,
    prefix: &'static str,
    rung: Rung,
    reached: impl FnMut(&TickBox, &TickOutputs) -> bool,
) -> anyhow::Result<History> {
    let outputs = Connection { prefix: prefix.to_owned(), ..local.clone() };
    let queries = match &it.log {
        Log::Scenario(_) | Log::Trace { .. } => Input {
            connection: local.clone(),
            topics: vec![QueriesLogged::TOPIC],
            reading: Reading::Paced,
            start: Start::Beginning,
            end: None,
        },
        Log::Topic { connection, from, to } => Input {
            connection: (**connection).clone(),
            topics: vec![QueriesLogged::TOPIC],
            reading: Reading::Historical,
            start: *from,
            end: *to,
        },
    };
    let answers = Input {
        connection: outputs.clone(),
        topics: vec!["node_capacity", "migration_status"],
        reading: Reading::Paced,
        start: Start::Beginning,
        end: None,
    };
    let settings = Settings { rung, ..it.settings.clone() };
    let mut watch = Lockstep {
        executor: Executor::new(it.model, it.data.clone(), it.nodes.clone()),
        writer: Writer::open(&outputs, "executor")?,
        recount: Recount::new(
            it.grid.clone(),
            it.nodes.clone(),
            &settings.split_points,
            settings.costs,
            it.rules.tick_ms,
        ),
        tick_ms: it.rules.tick_ms,
        last: it.last,
        copy_us: BTreeMap::new(),
        has_begun: false,
        begun: BTreeMap::new(),
        reached,
    };
    if let Some(first) = it.first {
        watch.opened(first)?;
    }
    let options = Options {
        planner_id: format!("replay-{}", prefix.trim_end_matches('.')),
        settings,
        rules: it.rules,
        inputs: vec![queries, answers],
        outputs,
        timely_workers: it.timely_workers,
        stamps: Stamps::EventTime,
        registry: it.registry.clone(),
    };
    run(&options, &mut watch).with_context(|| format!("replay, {prefix}"))?;
    let mut history = watch.recount.history;
    history.bytes_moved = watch.executor.bytes_moved;
    Ok(history)
}

/// Carries out what a tick decided, and says what happens in the next.
struct Lockstep<F> {
    executor: Executor,
    writer: Writer,
    recount: Recount,
    tick_ms: u64,
    last: Option<Tick>,
    /// What copying takes of each node in the tick that is open.
    copy_us: BTreeMap<NodeId, u64>,
    has_begun: bool,
    /// Moves that are not active yet; until then, their `active` is that of START.
    begun: BTreeMap<MigrationId, Left>,
    reached: F,
}

impl<F: FnMut(&TickBox, &TickOutputs) -> bool> Lockstep<F> {
    /// Writes what happens in a tick, and marks its end.
    fn play(&mut self, tick: Tick) -> anyhow::Result<()> {
        let (from, to) = (Millis(tick * self.tick_ms), Millis((tick + 1) * self.tick_ms));
        let answers = self.executor.run(from, to);
        for (stamp, status) in &answers.statuses {
            if status.phase == Some(Phase::Active)
                && let Some(left) = self.begun.remove(&status.migration)
            {
                self.recount.history.lefts.push(Left { active: stamp.0 / self.tick_ms, ..left });
            }
            let key = status.migration.to_string().into_bytes();
            let output = Output::new("migration_status", key, encode(status));
            self.writer.send(&Output { stamp: Some(*stamp), ..output })?;
        }
        for (stamp, report) in &answers.reports {
            let key = report.node_id.0.clone().into_bytes();
            let output = Output::new("node_capacity", key, encode(report));
            self.writer.send(&Output { stamp: Some(*stamp), ..output })?;
        }
        for topic in ["migration_status", "node_capacity"] {
            // No record, a mark of time: the tick is over.
            let mark = Output::new(topic, b"tick".to_vec(), Vec::new());
            self.writer.send(&Output { stamp: Some(to), value: None, ..mark })?;
        }
        self.copy_us = answers.copy_us;
        self.writer.flush()
    }
}

impl<F: FnMut(&TickBox, &TickOutputs) -> bool> Watch for Lockstep<F> {
    fn opened(&mut self, first: Tick) -> anyhow::Result<()> {
        match std::mem::replace(&mut self.has_begun, true) {
            true => Ok(()),
            false => self.play(first),
        }
    }

    fn filled(&mut self, filled: &FilledBox, translator: &Translator) {
        self.recount.filled(filled, translator, self.executor.owned(), &self.copy_us);
    }

    fn committed(
        &mut self,
        bounds: &TickBox,
        outputs: &TickOutputs,
    ) -> anyhow::Result<ControlFlow<()>> {
        let now = Millis((bounds.tick + 1) * self.tick_ms);
        for (start, assignment) in &outputs.assignments {
            self.executor.assigned(now, start.clone(), assignment.clone());
        }
        for it in &outputs.commands {
            self.executor.commanded(now, it);
            if it.command == Command::Start {
                let span = KeySpan { start: it.range_start.clone(), end: it.range_end.clone() };
                let (source, start) = (it.source_node.clone(), bounds.tick);
                let left = Left { span, source, start, active: start };
                self.begun.insert(it.migration, left);
            }
        }
        self.recount.committed(bounds, outputs, self.executor.owned());
        let goes_on = (self.reached)(bounds, outputs) && self.last != Some(bounds.tick);
        self.play(bounds.tick + 1)?;
        Ok(if goes_on { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
    }
}

/// Opens the file of a trace and reads its header.
pub fn open_trace(
    path: &Path,
    start: Millis,
    assumed: Assumed,
) -> Result<Trace<Decoder<'static, BufReader<File>>>, TraceError> {
    let name = path.display().to_string();
    match File::open(path) {
        Ok(file) => Trace::compressed(name, file, start, assumed),
        Err(error) => Err(TraceError::closed(name, &error)),
    }
}

/// The data of a scenario or trace: as many bytes for every integer key.
pub fn dense_data(low: u64, high: u64, entry_bytes: u64) -> DataSet {
    let span = KeySpan { start: key(low), end: key(high) };
    DataSet { intervals: vec![(span, (high - low) * entry_bytes)] }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trace_is_opened_by_its_path_and_a_missing_one_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("some.csv.zst");
        let table = zstd::encode_all(&b"time_ms,key,op\n3,70,R\n"[..], 3).unwrap();
        std::fs::write(&path, table).unwrap();
        let trace = open_trace(&path, Millis(5), Assumed::default()).unwrap();
        assert_eq!(trace.map(|it| it.unwrap().time).collect::<Vec<_>>(), [Millis(8)]);
        let none = open_trace(&dir.path().join("none"), Millis(5), Assumed::default());
        let refused = none.err().unwrap().to_string();
        assert!(refused.ends_with("none: there is no such file"), "{refused}");
    }
}
