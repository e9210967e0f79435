//! Writes the log of a scenario or trace for the planners that read it, as fast as they do.
//!
//! ```text
//!  queries ──> batches ──> query_log     no more than AHEAD ticks before the slower planner
//!              ends of ticks ──> every partition, from the first tick to the last
//! ```

use std::sync::{Condvar, Mutex};

use dataflows::Tick;
use schemas::Millis;
use schemas::query_log::QueriesLogged;
use schemas::wire::{Record as _, encode};

use super::batcher::{Batch, Batches, Cut};
use super::driver::{Log, Replay, open_trace};
use crate::kafka::writer::Writer;
use crate::kafka::{Connection, Output};

/// The log of a trace or scenario has so many partitions on the embedded broker.
pub const PARTITIONS: u32 = 8;

/// Queries of one record.
const BATCH_MAX: usize = 100;

/// The writer stays so many ticks ahead of the slower planner: the embedded broker forgets what is
/// more than 5 MiB behind.
const AHEAD: Tick = 4;

/// How far the planners are, for who writes their log.
pub struct Pace {
    ticks: Mutex<(Vec<Tick>, bool)>,
    changed: Condvar,
}

impl Pace {
    pub fn new(runs: usize) -> Self {
        Self { ticks: Mutex::new((vec![0; runs], false)), changed: Condvar::new() }
    }

    pub fn reached(&self, run: usize, tick: Tick) {
        self.ticks.lock().expect("nobody panics with it").0[run] = tick;
        self.changed.notify_all();
    }

    pub fn end(&self) {
        self.ticks.lock().expect("nobody panics with it").1 = true;
        self.changed.notify_all();
    }

    pub fn has_ended(&self) -> bool {
        self.ticks.lock().expect("nobody panics with it").1
    }

    /// Waits until a tick may be written; `false` when nobody reads any more.
    fn wait(&self, tick: Tick, first: Tick) -> bool {
        let mut ticks = self.ticks.lock().expect("nobody panics with it");
        while !ticks.1 {
            let slowest = ticks.0.iter().copied().min().unwrap_or(0).max(first.saturating_sub(1));
            if tick <= slowest + AHEAD {
                return true;
            }
            ticks = self.changed.wait(ticks).expect("nobody panics with it");
        }
        false
    }
}

/// Writes the log of a scenario or trace; a topic is there already.
pub fn write_log(it: &Replay, local: &Connection, pace: &Pace) -> anyhow::Result<()> {
    let cut = Cut { tick_ms: it.rules.tick_ms, partitions: PARTITIONS, queries_max: BATCH_MAX };
    match &it.log {
        Log::Topic { .. } => Ok(()),
        Log::Scenario(scenario) => {
            let queries = scenario.queries_logged().map(Ok::<_, std::convert::Infallible>);
            write_batches(it, Batches::new(cut, queries), local, pace)
        }
        Log::Trace { path, start, assumed } => {
            let trace = open_trace(path, *start, *assumed)?;
            write_batches(it, Batches::new(cut, trace), local, pace)
        }
    }
}

fn write_batches<E: std::error::Error + Send + Sync + 'static>(
    it: &Replay,
    batches: impl Iterator<Item = Result<Batch, E>>,
    local: &Connection,
    pace: &Pace,
) -> anyhow::Result<()> {
    let log = LogWriter { writer: Writer::open(local, "log")?, tick_ms: it.rules.tick_ms, pace };
    let first = it.first.unwrap_or(0);
    let mut tick = first;
    for batch in batches {
        let Batch { partition, stamp, queries } = batch?;
        let next = stamp.0 / it.rules.tick_ms;
        // Ends of ticks are marked from the first query to the last; before and after them they are
        // marked here, or the planner would wait for ever.
        if !queries.queries.is_empty() && !log.mark(&mut tick, next, first)? {
            return Ok(());
        }
        if next != tick {
            log.writer.flush()?;
            tick = next;
            if !pace.wait(tick, first) {
                return Ok(());
            }
        }
        log.send(partition, stamp, &queries)?;
    }
    log.mark(&mut tick, it.last.map_or(0, |it| it + 1), first)?;
    log.writer.flush()
}

/// Writes a log as fast as it is read.
struct LogWriter<'a> {
    writer: Writer,
    tick_ms: u64,
    pace: &'a Pace,
}

impl LogWriter<'_> {
    /// Marks the ends of ticks up to the next one; `false` when nobody reads any more.
    fn mark(&self, tick: &mut Tick, next: Tick, first: Tick) -> anyhow::Result<bool> {
        while *tick < next {
            *tick += 1;
            if !self.pace.wait(*tick, first) {
                return Ok(false);
            }
            for partition in 0..PARTITIONS {
                let stamp = Millis(*tick * self.tick_ms);
                self.send(partition, stamp, &QueriesLogged::default())?;
            }
            self.writer.flush()?;
        }
        Ok(true)
    }

    fn send(&self, partition: u32, stamp: Millis, queries: &QueriesLogged) -> anyhow::Result<()> {
        let output = Output::new(QueriesLogged::TOPIC, Vec::new(), encode(queries));
        let (partition, stamp) = (Some(partition), Some(stamp));
        self.writer.send(&Output { partition, stamp, key: None, ..output })
    }
}
