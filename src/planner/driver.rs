//! Runs the planner: one tick of records in, one transaction of decisions out.
//!
//! Reads: query_log, node_capacity, migration_status, assignment, planner_progress.
//! Writes: heatmap, plan, migrate_range, migration_status, assignment, planner_progress, dead_letter.
//!
//! A restart takes the newest valid snapshot, runs the boxes that were recorded since, drops what
//! comes out of them, and goes on behind the last.

use std::ops::ControlFlow;

use anyhow::Context;
use dataflows::{Config, Tick, tally};
use tracing::{info, warn};

use super::engine::Engine;
use super::machine::{Planner, TickOutputs};
use super::progress::{self, Past};
use super::settings::Settings;
use crate::kafka::Connection;
use crate::kafka::sink::{CommitError, Sink};
use crate::kafka::source::{FilledBox, Input, Inputs, Source};
use crate::tick::machine::{Origin, Reading, Rules};
use crate::tick::tick_box::TickBox;

/// An entry with a longer key is passed over.
const KEY_BYTES_MAX: usize = 4096;

/// How many of the hottest ranges are told.
const TOP: usize = 16;

/// What a planner is told at its start.
#[derive(Clone, Debug)]
pub struct Options {
    /// Kafka fences every planner of this id but the newest.
    pub planner_id: String,
    pub settings: Settings,
    pub rules: Rules,
    pub inputs: Vec<Input>,
    /// Where it writes, and where its progress is.
    pub outputs: Connection,
    pub timely_workers: usize,
    pub stamps: Stamps,
}

/// What outputs are stamped with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stamps {
    WallClock,
    /// The end of their tick. Where a log of the past is replayed, the planner reads its own statuses
    /// back, and they have to lie in its time.
    EventTime,
}

/// Looks on while a planner runs.
pub trait Watch {
    /// A historical log begins with this tick.
    fn opened(&mut self, _first: Tick) -> anyhow::Result<()> {
        Ok(())
    }

    /// It is about to decide on this.
    fn filled(&mut self, _filled: &FilledBox) {}

    /// What the tick led to is committed, or was before the restart. Says whether to go on.
    fn committed(
        &mut self,
        bounds: &TickBox,
        outputs: &TickOutputs,
    ) -> anyhow::Result<ControlFlow<()>>;
}

/// Runs until the watch says that it is enough, or a historical log ends.
pub fn run(options: &Options, watch: &mut dyn Watch) -> anyhow::Result<()> {
    // In this order: progress is final once the predecessor is fenced.
    let sink = Sink::open(&options.outputs, &options.planner_id)?;
    let past = progress::read(&options.outputs, &options.planner_id)?;
    let (mut planner, recorded) = resume(options, past)?;
    let inputs = Inputs {
        name: options.planner_id.clone(),
        rules: options.rules,
        inputs: options.inputs.clone(),
    };
    let mut source = Source::open(&inputs, recorded)?;
    if options.inputs.iter().any(|it| it.reading == Reading::Historical)
        && let Some(first) = source.open_tick()?
    {
        watch.opened(first)?;
    }
    let mut engine = start(&options.settings, options.timely_workers)?;
    while let Some(filled) = source.next_tick()? {
        watch.filled(&filled);
        let (bounds, origin) = (filled.bounds.clone(), filled.origin);
        let mut outputs = tick(&mut planner, &mut engine, filled)?;
        let end = options.rules.end_of(bounds.tick);
        for it in &mut outputs.outputs {
            match options.stamps {
                Stamps::WallClock => (),
                Stamps::EventTime => it.stamp = Some(end),
            }
            // Progress is told apart by planner.
            if it.topic == "planner_progress" {
                it.key = Some(options.planner_id.clone().into_bytes());
            }
        }
        match origin {
            Origin::Recorded => (),
            Origin::Chosen => commit(&sink, &outputs)?,
        }
        if watch.committed(&bounds, &outputs)?.is_break() {
            break;
        }
    }
    Ok(())
}

/// Starts the dataflow that the settings ask for.
pub fn start(settings: &Settings, timely_workers: usize) -> anyhow::Result<Engine> {
    let rules = tally::Rules {
        costs: settings.costs,
        tick_ms: settings.tick_ms,
        key_bytes_max: KEY_BYTES_MAX,
    };
    let warm_permille = settings.policy.warm_permille;
    Engine::start(timely_workers, Config { rules, top: TOP, warm_permille })
}

/// Carries one tick through machine and dataflow.
pub fn tick(
    planner: &mut Planner,
    engine: &mut Engine,
    filled: FilledBox,
) -> anyhow::Result<TickOutputs> {
    let tick = filled.bounds.tick;
    let (payloads, changes) = planner.begin(filled);
    let heated = engine.heat(tick, payloads, changes)?;
    let expected = planner.heated(heated);
    let pressure = engine.pressure(tick, expected)?;
    let wanted = planner.decide(pressure);
    let delta = engine.delta(tick, wanted)?;
    let cells = planner.settle(delta);
    if !cells.is_empty() {
        planner.divide(engine.slots(Some(cells))?);
    }
    let all = planner.is_snapshot_due().then(|| engine.slots(None)).transpose()?;
    Ok(planner.finish(all))
}

fn resume(options: &Options, past: Past) -> anyhow::Result<(Planner, Vec<TickBox>)> {
    let settings = options.settings.clone();
    let planner = match past.snapshot {
        Some((state, slots)) => {
            info!(tick = state.tick, boxes = past.boxes.len(), "restored from a snapshot");
            Planner::restored(settings, state, slots)
        }
        None => {
            info!(boxes = past.boxes.len(), "begins without a snapshot");
            Planner::new(settings)
        }
    };
    Ok((planner, past.boxes))
}

fn commit(sink: &Sink, outputs: &TickOutputs) -> anyhow::Result<()> {
    match sink.commit(&outputs.outputs) {
        Err(CommitError::Aborted { reason, .. }) => {
            // The same once more: what a tick leads to does not depend on when it is written.
            warn!(reason, "a tick was aborted and is written again");
            sink.commit(&outputs.outputs).context("commit the tick")
        }
        done => done.context("commit the tick"),
    }
}
