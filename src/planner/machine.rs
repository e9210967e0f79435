//! Decides, tick by tick: who owns what, what moves where, and what is told of it.
//!
//! ```text
//!  box of t ── begin ──> heat(t) ──> heated ──> forecasts(t) ──> decide ──> desired(t) ──> settle
//!              reports,              features    answers,         situation  rows           │
//!              statuses                          heatmap          decision            delta v
//!              outputs <── finish <── slots of cells that are cut or join <──── commands, cells
//! ```
//!
//! What lies between two calls is the dataflow's. The driver carries things to and fro.
//!
//! * **A function of the boxes.** No clock, no chance: the same boxes give the same outputs, byte for
//!   byte, whatever the number of timely workers, and however often it was restarted in between.
//! * **Static without nodes.** Before there are enough of them nothing is assigned; heat is kept.
//! * **One generation a tick**: what is committed, relabelled or given away in a tick goes together.

mod restore;
mod take;
mod operate;
mod rebuild;
mod swap;
mod decide;
mod settle;
mod tell;

pub use restore::first_cells;

use std::collections::{BTreeMap, BTreeSet};

use dataflows::Tick;
use dataflows::balance::Decision;
use dataflows::cells::{Cells, Reshape};
use dataflows::forecast::RangeForecast;
use dataflows::heat::Rolling;
use dataflows::samples::Sample;
use dataflows::splits::SplitChange;
use dataflows::window;
use schemas::assignment::Assignment;
use schemas::heatmap::RangeHeated;
use schemas::migrate_range::MigrateRange;
use schemas::migration_status::MigrationStatus;
use schemas::plan::{CommandAnswered, HeatCited, Planned, RebuildChosen};
use schemas::planner_progress::TickDone;
use schemas::{CellId, Key, KeySpan, Millis, NodeId, RangeId, dead_letter};
use serde::{Deserialize, Serialize};

use super::commands::Commands;
use super::elsewhere::Elsewhere;
use super::fleet::Fleet;
use super::ledger::Ledger;
use super::ranges::Ranges;
use super::settings::Settings;
use super::snapshot::{Outbox, Slot};
use super::strips::Strips;
use crate::assignment::map::Map;
use crate::forecast::edges::Edges;
use crate::forecast::{Born, Forecaster, Refitted, Score};
use crate::foreign::form::Form;
use crate::foreign::translator::Translator;
use crate::kafka::Output;
use crate::migration::table::{Ended, Migrations};
use crate::tick::tick_box::TickBox;

/// What outlives a tick, as plain values: a snapshot holds it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct State {
    /// The last tick that was decided.
    pub tick: Tick,
    /// What it went by: a span of history is run again under the settings of its time.
    pub settings: Settings,
    pub map: Map,
    pub ranges: Ranges,
    pub cells: Cells,
    pub range_heat: BTreeMap<RangeId, Rolling>,
    pub node_heat: BTreeMap<NodeId, Rolling>,
    pub fleet: Fleet,
    pub migrations: Migrations,
    pub forecaster: Forecaster,
    pub edges: Edges,
    /// For the forecast of the next tick: ranges that came out of others, and those that ended.
    pub born: Vec<Born>,
    pub dead: Vec<RangeId>,
    /// Ranges that have changed besides their heat, and are told of with the next tick.
    pub renewed: BTreeSet<RangeId>,
    /// What was published last: what plans rest on.
    pub forecasts: BTreeMap<RangeId, RangeForecast>,
    pub total: RangeForecast,
    pub published: BTreeMap<Key, RangeHeated>,
    pub ledger: Ledger,
    /// What people ask, until it is answered.
    pub commands: Commands,
    /// A model that has come, in Base64: it forecasts from the next tick on.
    pub next_network: Option<String>,
    /// Of the settings that were written to progress last.
    pub policy_digest: String,
    /// Of the last plan that only said why nothing is done, so that it is said once.
    pub last_refusal: String,
}

/// What changes for the dataflow behind a tick; fed with the records of the next one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    pub splits: Vec<SplitChange>,
    pub reshapes: Vec<window::Reshape>,
    pub cell_ranges: Vec<((CellId, RangeId), isize)>,
    pub range_nodes: Vec<((RangeId, NodeId), isize)>,
}

/// What the first half of the dataflow says of a tick.
#[derive(Clone, Debug, Default)]
pub struct Heated {
    pub cells: Vec<(CellId, Rolling)>,
    pub ranges: Vec<((RangeId, Rolling), isize)>,
    pub nodes: Vec<((NodeId, Rolling), isize)>,
    pub samples: Vec<(CellId, Sample)>,
    /// Records that could not be used, with the reason.
    pub refused: Vec<Refused>,
    pub queries: u64,
    pub late: u64,
}

/// A record of the query log that could not be used, or not all of it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Refused {
    pub partition: u32,
    pub offset: u64,
    pub value: Vec<u8>,
    pub reason: &'static str,
    pub detail: String,
}

/// Rows of the current and of the desired assignment that came or went.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    pub current: Vec<((KeySpan, NodeId), isize)>,
    pub desired: Vec<((KeySpan, NodeId), isize)>,
}

/// What a tick leads to.
#[derive(Clone, Debug, Default)]
pub struct TickOutputs {
    /// For one transaction, progress last.
    pub outputs: Vec<Output>,
    pub done: TickDone,
    pub plan: Option<Planned>,
    pub assignments: Vec<(Key, Option<Assignment>)>,
    pub commands: Vec<MigrateRange>,
    /// Migrations that are over.
    pub ended: Vec<Ended>,
    /// Load of each node in the tick, in `cost_us` per second.
    pub loads: BTreeMap<NodeId, u64>,
    /// The part of the load that no split can help, in millionths.
    pub unsplittable_ppm: u32,
}

impl TickOutputs {
    /// How many records could not be used, by reason.
    pub fn dead(&self) -> BTreeMap<String, u64> {
        let mut dead = BTreeMap::new();
        let letters = self.outputs.iter().filter(|it| it.topic == dead_letter::TOPIC);
        let headers = letters.flat_map(|it| &it.headers);
        for (_, reason) in headers.filter(|it| it.0 == dead_letter::HEADER_REASON) {
            *dead.entry(String::from_utf8_lossy(reason).into_owned()).or_default() += 1;
        }
        dead
    }
}

/// Decides what a planner does.
pub struct Planner {
    state: State,
    outbox: Outbox,
    changes: Changes,
    /// Text and digest of the settings.
    policy: (String, String),
    /// Of query logs, by the settings.
    translator: Translator,
    /// What the ladder forecasts.
    strips: Strips,
    /// What the dataflow was told of the assignment, what more of the desired one, and what it said of
    /// the difference.
    current: BTreeMap<KeySpan, NodeId>,
    ahead: BTreeMap<(KeySpan, NodeId), isize>,
    delta: BTreeMap<(KeySpan, NodeId), isize>,
    /// The dataflow knows nothing yet: what it says first is all, and no change.
    is_fresh: bool,
    /// Nothing on the topics lets a restart begin before the end of this tick.
    is_adopting: bool,
    /// What was forecast of the tick, where that was not done here.
    elsewhere: Option<Elsewhere>,
    /// Ends of migrations that nobody else will tell of.
    owed: Vec<MigrationStatus>,
    turn: Turn,
}

/// The tick that is being decided.
#[derive(Default)]
struct Turn {
    tick: Tick,
    tick_ms: u64,
    stale: bool,
    bounds: Option<TickBox>,
    /// As of when its records are decided on.
    end: Millis,
    dead: Vec<Output>,
    touched: BTreeSet<CellId>,
    queries: u64,
    late: u64,
    decision: Decision,
    /// To people, in the order in which they asked.
    answers: Vec<CommandAnswered>,
    /// The ranges that they want to be moved, with the place of the answer.
    wanted: Vec<(KeySpan, usize)>,
    /// Ranges that are to be built again, from this generation on.
    rebuilds: Vec<RebuildChosen>,
    /// The published forecasts that the decision rests on.
    rests_on: Vec<HeatCited>,
    /// Ranges whose published heat may have changed.
    heated: BTreeSet<RangeId>,
    refitted: Option<Refitted>,
    /// Cells that change behind this tick.
    reshapes: Vec<Reshape>,
    /// Cells of ranges that a split has made, with the place of each among the born.
    children: BTreeMap<CellId, usize>,
    statuses: Vec<Output>,
    /// Heat that is told, then ranges that are forgotten: what a plan rests on is told, though the range
    /// ends with it.
    heat: Vec<Output>,
    outputs: TickOutputs,
}

impl Planner {
    pub fn state(&self) -> &State {
        &self.state
    }

    pub fn settings(&self) -> &Settings {
        &self.state.settings
    }

    pub fn translator(&self) -> &Translator {
        &self.translator
    }

    /// Takes query logs to have another form from the next tick on, or to be of more schemas.
    pub fn reads_by(&mut self, form: Form) {
        self.translator = Translator::new(&form);
        self.state.settings.query_log = form;
        self.policy = self.state.settings.text();
    }

    /// Takes this, if it is something, for the forecast of the next tick.
    pub fn believe(&mut self, elsewhere: Option<Elsewhere>) {
        self.elsewhere = elsewhere;
    }

    /// Which rung answered, as reports name it.
    fn rung(&self) -> &str {
        match &self.elsewhere {
            Some(it) => &it.rung,
            None => self.state.forecaster.rung(),
        }
    }

    /// How good answers were lately.
    fn score(&self) -> Score {
        self.elsewhere.as_ref().map_or_else(|| self.state.forecaster.score(), |it| it.score)
    }

    /// The sums of all cells as they will be once what is divided or added up behind this tick is.
    fn as_of_next(&self, slots: Vec<Slot>) -> Vec<Slot> {
        let mut gone = BTreeSet::new();
        let mut more = Vec::new();
        for reshape in &self.changes.reshapes {
            match reshape {
                window::Reshape::Forget(cell) => _ = gone.insert(*cell),
                window::Reshape::Slot(cell, tick, heat) => more.push((*cell, *tick, *heat)),
            }
        }
        let mut res = slots;
        res.retain(|(cell, _, _)| !gone.contains(cell));
        res.extend(more);
        res
    }
}

#[cfg(test)]
mod tests;
