//! Runs the planner: one tick of records in, one transaction of decisions out.
//!
//! ```text
//!  progress ──> Past ─┬─ snapshot, boxes ──> run again, dropped ─┐
//!                     ├─ nothing, no assignment ── a new planner ┼──> tick by tick ──> commit
//!                     └─ an assignment stands ──── it is adopted ┘
//! ```
//!
//! Reads: query_log, node_capacity, migration_status, operator_command, assignment,
//! planner_progress, heatmap, migrate_range.
//! Writes: heatmap, plan, migrate_range, migration_status, assignment, planner_progress, dead_letter.
//!
//! A restart takes the newest valid snapshot, runs the boxes that were recorded since, drops what
//! comes out of them, and goes on behind the last. What of those was forecast on another kind of processor
//! is taken as `heatmap` tells it.
//!
//! * **Settings change between ticks.** What was decided by others is run again by those; a planner
//!   and a dataflow that go by new ones take over where the old ones stand, as from a snapshot.
//! * **Schemas come before the tick.** What a registry tells is part of the settings by which the
//!   tick is decided, and is recorded with them; ticks that are run again ask no registry.

mod learn;

mod traces;

use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Context;
use dataflows::{Tick, tally};
use schemas::Millis;
use tracing::info;

use self::learn::Learner;
use self::traces::Traces;
use super::engine::Engine;
use super::machine::{Planner, TickOutputs};
use super::progress::{self, By, Past, Policies};
use super::settings::Settings;
use super::standing::{self, Rebuilds, Standing};
use crate::fail_points;
use crate::foreign::translator::Translator;
use crate::kafka::Connection;
use crate::kafka::registry::{Access, Away};
use crate::kafka::sink::Sink;
use crate::kafka::source::{FilledBox, Input, Inputs, Source, Start, Stop};
use crate::table::rows::KEY_BYTES_MAX;
use crate::tick::machine::{Origin, Reading, Rules};
use crate::tick::tick_box::TickBox;

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
    /// Who is asked for schemas of query logs, if the settings name a registry.
    pub registry: Option<Access>,
}

/// What outputs are stamped with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stamps {
    WallClock,
    /// The end of their tick. Where a log of the past is replayed, the planner reads its own statuses
    /// back, and they have to lie in its time.
    EventTime,
}

/// What a planner begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Beginning {
    /// There is nothing yet.
    New,
    /// All of its ticks are run again, so many.
    First { boxes: usize },
    /// A snapshot as of the end of this tick, and so many ticks since.
    Snapshot { tick: Tick, boxes: usize },
    /// An assignment stands that is of another planner, or of this one's forgotten past.
    Adopted { ranges: usize },
}

impl Beginning {
    /// Tells whether the box is in the snapshot: only the place where it ends is of use.
    pub fn knows(self, bounds: &TickBox) -> bool {
        match self {
            Self::Snapshot { tick, .. } => bounds.tick <= tick,
            Self::New | Self::First { .. } | Self::Adopted { .. } => false,
        }
    }
}

/// Looks on while a planner runs.
pub trait Watch {
    /// It is known what it begins with.
    fn begun(&mut self, _beginning: Beginning) {}

    /// It reads; by this, another thread ends that.
    fn reading(&mut self, _stop: Stop) {}

    /// A historical log begins with this tick.
    fn opened(&mut self, _first: Tick) -> anyhow::Result<()> {
        Ok(())
    }

    /// It waits for the schema registry, and asks again. Says whether to go on.
    fn waits(&mut self, _away: &Away) -> anyhow::Result<ControlFlow<()>> {
        Ok(ControlFlow::Continue(()))
    }

    /// It knows so many schemas of the registry, all that the tick needs among them.
    fn learned(&mut self, _schemas: usize) {}

    /// It is about to decide on this; the translator reads its query logs.
    fn filled(&mut self, _filled: &FilledBox, _translator: &Translator) {}

    /// It has decided, and what that leads to is not committed yet.
    fn decided(&mut self, _planner: &Planner, _origin: Origin) -> anyhow::Result<()> {
        Ok(())
    }

    /// What the tick led to is committed, or was before the restart. Says whether to go on.
    fn committed(
        &mut self,
        bounds: &TickBox,
        outputs: &TickOutputs,
    ) -> anyhow::Result<ControlFlow<()>>;
}

/// Runs until the watch says that it is enough, the reading is stopped, or a historical log ends.
pub fn run(options: &Options, watch: &mut dyn Watch) -> anyhow::Result<()> {
    // In this order: progress is final once the predecessor is fenced.
    let sink = Sink::open(&options.outputs, &options.planner_id)?;
    let past = progress::read(&options.outputs, &options.planner_id)?;
    let Resumed { mut planner, beginning, recorded, by, policies } = resume(options, past)?;
    info!(?beginning, "begins");
    watch.begun(beginning);
    let mut inputs = Inputs {
        name: options.planner_id.clone(),
        rules: options.rules,
        inputs: options.inputs.clone(),
    };
    if let Beginning::Adopted { .. } = beginning {
        inputs.inputs.iter_mut().for_each(|it| it.start = Start::End);
    }
    let mut source = Source::open(&inputs, recorded)?;
    if let Beginning::Adopted { .. } = beginning {
        // Behind the end from which commands are read: what comes in between is read twice, and not missed.
        let Rebuilds { given, asked } = standing::rebuilds(&options.outputs)?;
        planner.adopt_rebuilds(&given, &asked);
    }
    watch.reading(source.stop());
    if options.inputs.iter().any(|it| it.reading == Reading::Historical)
        && let Some(first) = source.open_tick()?
    {
        watch.opened(first)?;
    }
    let mut run = Run::start(planner, options.timely_workers)?;
    let mut by = VecDeque::from(by);
    let mut learner = options.registry.as_ref().map(Learner::new).transpose()?;
    let mut traces = Traces::new(&options.outputs);
    while let Some(filled) = source.next_tick()? {
        if beginning.knows(&filled.bounds) {
            by.pop_front();
            continue;
        }
        let mut elsewhere = None;
        let settings = match (by.pop_front(), &mut learner) {
            (Some(by), _) => {
                elsewhere = by.elsewhere;
                policies.settings(&by.policy_digest, Some(&options.settings))?
            }
            (None, None) => run.chosen(&options.settings),
            (None, Some(learner)) => {
                let mut settings = run.chosen(&options.settings);
                let known = &run.planner.settings().query_log;
                settings.query_log = settings.query_log.knowing(known);
                match learner.learn(&mut settings.query_log, &filled.records, watch)? {
                    ControlFlow::Continue(()) => settings,
                    ControlFlow::Break(()) => break,
                }
            }
        };
        run = run.going_by(settings)?;
        run.planner.believe(elsewhere);
        watch.filled(&filled, run.planner.translator());
        let mut traced = match filled.origin {
            Origin::Recorded => {
                traces.recall(&filled.records);
                None
            }
            Origin::Chosen => Some(traces.begin(&filled.records)),
        };
        let (bounds, origin) = (filled.bounds.clone(), filled.origin);
        let mut outputs = run.tick(filled, &options.planner_id)?;
        watch.decided(&run.planner, origin)?;
        match options.stamps {
            Stamps::WallClock => (),
            Stamps::EventTime => {
                let end = options.rules.end_of(bounds.tick);
                outputs.outputs.iter_mut().for_each(|it| it.stamp = Some(end));
            }
        }
        if let Some(tick) = &mut traced {
            traces.write(tick, &mut outputs);
            let committed = commit(&sink, &outputs);
            traces.end(tick, &outputs, committed.as_ref().err());
            committed?;
        }
        if watch.committed(&bounds, &outputs)?.is_break() {
            break;
        }
    }
    Ok(())
}

/// A planner and its dataflow.
pub struct Run {
    pub planner: Planner,
    engine: Engine,
    timely_workers: usize,
}

impl Run {
    /// Starts the dataflow that the planner's settings ask for.
    pub fn start(planner: Planner, timely_workers: usize) -> anyhow::Result<Self> {
        let engine = start(planner.settings(), timely_workers)?;
        Ok(Self { planner, engine, timely_workers })
    }

    /// What is configured, with the network that people have chosen meanwhile.
    fn chosen(&self, configured: &Settings) -> Settings {
        Settings { network: self.planner.network(), ..configured.clone() }
    }

    /// Goes by these settings from the next tick on.
    pub fn going_by(mut self, settings: Settings) -> anyhow::Result<Self> {
        if *self.planner.settings() == settings {
            return Ok(self);
        }
        let now = self.planner.settings();
        let (query_log, network) = (now.query_log.clone(), now.network.clone());
        if (Settings { query_log, network, ..settings.clone() }) == *now {
            // The dataflow knows nothing of these two.
            self.planner.reads_by(settings.query_log);
            self.planner.forecasts_by(settings.network);
            return Ok(self);
        }
        let slots = self.engine.slots(None)?;
        Self::start(self.planner.resettled(settings, slots), self.timely_workers)
    }

    /// Carries one tick through machine and dataflow.
    pub fn tick(&mut self, filled: FilledBox, planner_id: &str) -> anyhow::Result<TickOutputs> {
        let mut outputs = tick(&mut self.planner, &mut self.engine, filled)?;
        // Progress is told apart by planner.
        for it in &mut outputs.outputs {
            if it.topic == "planner_progress" {
                it.key = Some(planner_id.to_owned().into_bytes());
            }
        }
        Ok(outputs)
    }
}

/// Starts the dataflow that the settings ask for.
pub fn start(settings: &Settings, timely_workers: usize) -> anyhow::Result<Engine> {
    let rules = tally::Rules {
        costs: settings.costs,
        tick_ms: settings.tick_ms,
        // What can be in the index can be asked for.
        key_bytes_max: KEY_BYTES_MAX,
    };
    Engine::start(timely_workers, rules)
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
    planner.heated(heated);
    let wanted = planner.decide();
    let delta = engine.delta(tick, wanted)?;
    let cells = planner.settle(delta);
    if !cells.is_empty() {
        planner.divide(engine.slots(Some(cells))?);
    }
    let all = planner.is_snapshot_due().then(|| engine.slots(None)).transpose()?;
    Ok(planner.finish(all))
}

/// What a planner goes on with.
pub struct Resumed {
    pub planner: Planner,
    pub beginning: Beginning,
    pub recorded: Vec<TickBox>,
    /// By what the recorded ticks were decided.
    pub by: Vec<By>,
    pub policies: Policies,
}

fn resume(options: &Options, past: Past) -> anyhow::Result<Resumed> {
    if let Some(resumed) = rebuilt(past, Some(&options.settings))? {
        return Ok(resumed);
    }
    let (planner, beginning) = begin(options)?;
    let (recorded, by) = (Vec::new(), Vec::new());
    Ok(Resumed { planner, beginning, recorded, by, policies: Policies::default() })
}

/// Returns the planner that the past is of, unless there is none or its beginning is gone. `now` are
/// settings of which no record is needed.
pub fn rebuilt(past: Past, now: Option<&Settings>) -> anyhow::Result<Option<Resumed>> {
    let Past { snapshot, recorded, policies, is_cut } = past;
    let boxes = recorded.len();
    let (planner, beginning) = match snapshot {
        Some((state, slots)) => {
            let (tick, boxes) = (state.tick, boxes - 1);
            let settings = state.settings.clone();
            settings.check().context("go on with the snapshot")?;
            (Planner::restored(settings, state, slots), Beginning::Snapshot { tick, boxes })
        }
        None if is_cut || recorded.is_empty() => return Ok(None),
        None => {
            let settings = policies.settings(&recorded[0].by.policy_digest, now)?;
            (Planner::new(settings), Beginning::First { boxes })
        }
    };
    let (by, recorded) = recorded.into_iter().map(|it| (it.by, it.bounds)).unzip();
    Ok(Some(Resumed { planner, beginning, recorded, by, policies }))
}

/// Begins without a past of its own.
fn begin(options: &Options) -> anyhow::Result<(Planner, Beginning)> {
    let standing = standing::read(&options.outputs)?;
    if standing.map.is_empty() {
        return Ok((Planner::new(options.settings.clone()), Beginning::New));
    }
    let ranges = standing.map.iter().count();
    // Told by no record: what it leads to is in the snapshot of the first tick.
    let now = SystemTime::now().duration_since(UNIX_EPOCH).context("it is later than 1970")?;
    let now = Millis(now.as_millis() as u64);
    let Standing { map, commands, statuses } = standing;
    let planner = Planner::adopted(options.settings.clone(), now, map, &commands, &statuses);
    Ok((planner, Beginning::Adopted { ranges }))
}

fn commit(sink: &Sink, outputs: &TickOutputs) -> anyhow::Result<()> {
    fail_points::pass("planner-before-transaction");
    sink.commit(&outputs.outputs).context("commit the tick")
}
