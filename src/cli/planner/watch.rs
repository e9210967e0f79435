//! Tells how the planner is doing: in the log, and to who asks whether it is ready.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::time::Instant;

use anyhow::ensure;
use opentelemetry::KeyValue;
use schemas::migrate_range::Command;
use schemas::plan::Planned;
use tracing::{debug, info, warn};

use super::super::told::answered;
use super::Stopping;
use crate::config::Config;
use crate::foreign::translator::Translator;
use crate::kafka::registry::Away;
use crate::kafka::source::{FilledBox, Stop};
use crate::kafka::standby::Standby;
use crate::kafka::wall_clock;
use crate::migration::machine::Ignored;
use crate::migration::table::Outcome;
use crate::planner::driver::{Beginning, Watch};
use crate::planner::fleet::Warning;
use crate::planner::machine::{Planner, TickOutputs};
use crate::telemetry::metrics;
use crate::tick::machine::Origin;
use crate::tick::tick_box::TickBox;
use crate::web::Health;

pub const TOPICS: &str = "topics";
pub const TURN: &str = "turn";
pub const PROGRESS: &str = "progress";
pub const ASSIGNMENT: &str = "assignment";
pub const FORECAST: &str = "forecast";
pub const TICKS: &str = "ticks";
pub const INPUT: &str = "input";
pub const SCHEMAS: &str = "schemas";

/// What must hold for a planner to be ready.
pub const CONDITIONS: [&str; 8] =
    [TOPICS, TURN, PROGRESS, ASSIGNMENT, FORECAST, TICKS, INPUT, SCHEMAS];

/// After so many ticks, a forecast rests on what was seen.
const WARM_TICKS: u64 = 32;

/// What came in since this process began to decide, and could not be used as it was meant.
#[derive(Debug, Default)]
struct Input {
    late: u64,
    dead: BTreeMap<String, u64>,
    /// Statuses that changed nothing; there is no dead letter of them.
    ignored: BTreeMap<&'static str, u64>,
}

/// Looks on, and tells.
pub struct Watching<'a> {
    health: &'a Health,
    stopping: &'a Stopping,
    standby: &'a Standby,
    birth_nodes: usize,
    beginning: Option<Beginning>,
    /// Ticks of this planner that are known to it.
    ticks: u64,
    told: BTreeSet<Warning>,
    counted: BTreeMap<&'static str, u64>,
    input: Input,
    /// It waits for the schema registry.
    is_away: bool,
    /// When the tick that is being decided began; `None`, if it was decided before the start.
    filled: Option<Instant>,
    pub has_committed: bool,
}

impl<'a> Watching<'a> {
    pub fn new(
        health: &'a Health,
        stopping: &'a Stopping,
        standby: &'a Standby,
        config: &Config,
    ) -> Self {
        Self {
            health,
            stopping,
            standby,
            birth_nodes: config.planner.birth_nodes,
            beginning: None,
            ticks: 0,
            told: BTreeSet::new(),
            counted: BTreeMap::new(),
            input: Input::default(),
            is_away: false,
            filled: None,
            has_committed: false,
        }
    }

    fn look_at_nodes(&mut self, planner: &Planner) {
        let state = planner.state();
        let nodes = state.fleet.nodes(state.tick, &BTreeMap::new(), &BTreeMap::new());
        let here = nodes.values().filter(|it| it.takes).count();
        match state.map.is_empty() {
            true => self.health.waiting(
                ASSIGNMENT,
                format!("waits for nodes: {here} of {} report", self.birth_nodes),
            ),
            false => self.health.ready(
                ASSIGNMENT,
                format!(
                    "generation {}, {} ranges, {here} nodes",
                    state.map.generation().0,
                    state.map.iter().count()
                ),
            ),
        }
        metrics::get().generation.record(state.map.generation().0, &[]);
        metrics::get().ranges.record(state.map.iter().count() as u64, &[]);
        let warnings = state.fleet.warnings(state.tick);
        for it in warnings.iter().filter(|it| !self.told.iter().any(|told| is_same(told, it))) {
            warn!("{it}");
        }
        self.told = warnings;
    }

    /// What is refused or ignored is counted by its reason; a count that grew is told.
    fn look_at_counts(&mut self, planner: &Planner) {
        let state = planner.state();
        let refused = state.fleet.refused().iter().map(|(code, n)| (*code, *n, String::new()));
        let ignored = state.migrations.ignored().iter();
        // The planner's own words come back to it with every migration.
        let ignored = ignored.filter(|(it, _)| **it != Ignored::OwnWord);
        self.input.ignored = ignored.clone().map(|(it, n)| (it.code(), *n)).collect();
        let ignored = ignored.map(|(it, n)| (it.code(), *n, format!(": {it}")));
        for (code, n, why) in refused.chain(ignored) {
            let before = self.counted.insert(code, n).unwrap_or(0);
            if before < n {
                warn!(times = n - before, "ignored, {code}{why}");
            }
        }
        metrics::tell_events(&self.counted);
    }

    /// Bad input stops nothing, so it makes nothing unready: it is told with its counts.
    fn look_at_input(&mut self, outputs: &TickOutputs) {
        self.input.late += outputs.done.late;
        for (reason, n) in outputs.dead() {
            *self.input.dead.entry(reason).or_default() += n;
        }
        let Input { late, dead, ignored } = &self.input;
        metrics::tell_events(&BTreeMap::from([("queries_late", *late)]));
        let dead = dead.iter().map(|(reason, n)| format!("{n} {reason}"));
        let ignored = ignored.iter().map(|(reason, n)| format!("{n} {reason}"));
        let told = dead.chain(ignored).collect::<Vec<_>>().join(", ");
        let told = if told.is_empty() { "nothing" } else { &told };
        self.health.ready(INPUT, format!("not used so far: {told}; {late} queries came late"));
    }

    /// What was decided before the start was counted then.
    fn measure(&self, outputs: &TickOutputs, late_ms: u64) {
        let Some(filled) = self.filled else { return };
        let measured = metrics::get();
        measured.tick_duration.record(filled.elapsed().as_secs_f64(), &[]);
        measured.tick_lag.record(late_ms as f64 / 1000.0, &[]);
        measured.queries.add(outputs.done.queries, &[]);
        measured.commits.add(1, &[KeyValue::new(metrics::OUTCOME, "committed")]);
        let rung = KeyValue::new(metrics::RUNG, outputs.done.rung.clone());
        measured.forecast_ticks.add(1, &[rung]);
        // What is not known is no number, rather than the last one that was.
        let skill = outputs.done.skill_permille.map_or(f64::NAN, f64::from);
        let coverage = outputs.done.coverage80_permille.map_or(f64::NAN, f64::from);
        measured.forecast_skill.record(skill / 1000.0, &[]);
        measured.forecast_coverage.record(coverage / 1000.0, &[]);
        if let Some(plan) = &outputs.plan {
            measured.plans.add(1, &[]);
            let chosen = plan.moves.iter().map(|it| ("chosen", &it.reason));
            let rejected = plan.rejected.iter().map(|it| ("rejected", &it.reason));
            for (outcome, reason) in chosen.chain(rejected) {
                let attributes = [
                    KeyValue::new(metrics::OUTCOME, outcome),
                    KeyValue::new(metrics::REASON, reason.clone()),
                ];
                measured.moves.add(1, &attributes);
            }
        }
        for it in &outputs.ended {
            let outcome = match it.outcome {
                Outcome::Complete => "complete",
                Outcome::Failed => "failed",
            };
            measured.migrations_ended.add(1, &[KeyValue::new(metrics::OUTCOME, outcome)]);
        }
    }

    fn look_at_forecast(&self) {
        let reason = match self.beginning {
            Some(Beginning::Snapshot { .. }) => "goes on with what was seen".to_owned(),
            Some(Beginning::New | Beginning::First { .. } | Beginning::Adopted { .. }) | None => {
                let ticks = self.ticks.min(WARM_TICKS);
                match ticks == WARM_TICKS {
                    true => "rests on what was seen".to_owned(),
                    false => format!(
                        "warm-up {} %, {} ticks left: it rests on what is usual, until enough was seen",
                        ticks * 100 / WARM_TICKS,
                        WARM_TICKS - ticks
                    ),
                }
            }
        };
        self.health.ready(FORECAST, reason);
    }
}

impl Watch for Watching<'_> {
    fn begun(&mut self, beginning: Beginning) {
        let reason = match beginning {
            Beginning::New => "there is none: a new planner".to_owned(),
            Beginning::First { boxes } => format!("all of it is run again: {boxes} ticks"),
            Beginning::Snapshot { tick, boxes } => {
                format!("restored from the snapshot of tick {tick}, and {boxes} ticks since")
            }
            Beginning::Adopted { ranges } => {
                format!("there is none: adopts the assignment, {ranges} ranges")
            }
        };
        info!("progress: {reason}");
        self.health.ready(PROGRESS, reason);
        self.health.ready(SCHEMAS, "no registry was asked yet");
        self.beginning = Some(beginning);
        self.ticks = 0;
        self.counted.clear();
        self.input = Input::default();
    }

    fn reading(&mut self, stop: Stop) {
        self.stopping.reading(stop);
    }

    fn waits(&mut self, away: &Away) -> anyhow::Result<ControlFlow<()>> {
        if !std::mem::replace(&mut self.is_away, true) {
            warn!("{away}; the tick waits for it");
        }
        self.health.waiting(SCHEMAS, format!("the tick waits: {away}"));
        ensure!(
            !self.standby.has_lost_turn(),
            "the turn is lost: another planner has taken over, while this one waited for the schema \
             registry"
        );
        Ok(match self.stopping.is_asked() {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        })
    }

    fn learned(&mut self, schemas: usize) {
        if std::mem::take(&mut self.is_away) {
            info!("the schema registry is back");
        }
        self.health.ready(SCHEMAS, format!("{schemas} of the registry are known"));
    }

    fn decided(&mut self, planner: &Planner, origin: Origin) -> anyhow::Result<()> {
        self.ticks += 1;
        match origin {
            // What is to be said of it was said when it was first decided.
            Origin::Recorded => {
                let tick = planner.state().tick;
                self.health.waiting(TICKS, format!("runs tick {tick} again"));
                return Ok(());
            }
            Origin::Chosen => (),
        }
        ensure!(
            !self.standby.has_lost_turn(),
            "the turn is lost: another planner has taken over, and what this one has just decided is \
             not written"
        );
        self.look_at_nodes(planner);
        self.look_at_counts(planner);
        self.look_at_forecast();
        Ok(())
    }

    fn filled(&mut self, filled: &FilledBox, _translator: &Translator) {
        self.filled = match filled.origin {
            Origin::Recorded => None,
            Origin::Chosen => Some(Instant::now()),
        };
    }

    fn committed(
        &mut self,
        bounds: &TickBox,
        outputs: &TickOutputs,
    ) -> anyhow::Result<ControlFlow<()>> {
        self.has_committed = true;
        self.stopping.ticked();
        let TickBox { tick, tick_ms, stale, .. } = *bounds;
        let late_ms = wall_clock().0.saturating_sub((tick + 1) * tick_ms);
        let queries = outputs.done.queries;
        match stale {
            true => {
                self.health.waiting(TICKS, format!("tick {tick}, catches up: {late_ms} ms behind"));
            }
            false => self.health.ready(TICKS, format!("tick {tick}, {queries} queries")),
        }
        self.look_at_input(outputs);
        self.measure(outputs, late_ms);
        debug!(tick, queries, stale, late_ms, dead = outputs.done.dead, "tick");
        if let Some(plan) = &outputs.plan {
            tell(plan);
        }
        for it in &outputs.commands {
            if it.command == Command::Cancel {
                let reason = it.reason.as_deref().unwrap_or("none");
                warn!(migration = %it.migration, reason, "cancelled");
            }
        }
        for it in &outputs.ended {
            match it.outcome {
                Outcome::Complete => info!(migration = %it.migration, "complete"),
                Outcome::Failed => warn!(migration = %it.migration, "failed"),
            }
        }
        Ok(match self.stopping.is_asked() {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        })
    }
}

fn tell(plan: &Planned) {
    for it in &plan.commands {
        info!("{}", answered(it));
    }
    let Planned { plan: id, moves, splits, joins, rebuilds, rejected, .. } = plan;
    let why: Vec<&str> = plan.why.iter().map(|it| it.node.0.as_str()).collect();
    info!(
        moves = moves.len(),
        splits = splits.len(),
        joins = joins.len(),
        rebuilds = rebuilds.len(),
        rejected = rejected.len(),
        warm = why.join(","),
        "plan {id}"
    );
}

/// A silence that lasts is told once, though it grows.
fn is_same(a: &Warning, b: &Warning) -> bool {
    match (a, b) {
        (Warning::Silent { node: a, .. }, Warning::Silent { node: b, .. }) => a == b,
        (Warning::Silent { .. } | Warning::Unmanaged { .. } | Warning::InboxShared { .. }, _) => {
            a == b
        }
    }
}
