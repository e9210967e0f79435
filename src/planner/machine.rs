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

use std::collections::{BTreeMap, BTreeSet};

use dataflows::Tick;
use dataflows::balance::{self, Decision};
use dataflows::cells::{Cells, Reshape};
use dataflows::forecast::RangeForecast;
use dataflows::heat::Rolling;
use schemas::heatmap::RangeHeated;
use schemas::{CellId, Key, KeySpan, Millis, NodeId, RangeId};
use serde::{Deserialize, Serialize};

/// What outlives a tick, as plain values: a snapshot holds it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct State {
    /// The last tick that was decided.
    pub tick: Tick,
    pub map: Map,
    pub ranges: Ranges,
    pub cells: Cells,
    pub fleet: Fleet,
    pub migrations: Migrations,
    pub forecaster: Forecaster,
    /// What was published last: what plans rest on.
    pub forecasts: BTreeMap<RangeId, RangeForecast>,
    pub total: RangeForecast,
    pub published: BTreeMap<Key, RangeHeated>,
    pub ledger: Ledger,
    pub next_migration: u64,
    /// Of the settings that were written to progress last.
    pub policy_digest: String,
    /// Of the last plan that only said why nothing is done, so that it is said once.
    pub last_refusal: String,
}

/// What changes for the dataflow behind a tick; fed with the records of the next one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    pub splits: Vec<SplitChange>,
    pub slots: Vec<SlotChange>,
    pub cell_ranges: Vec<((CellId, RangeId), isize)>,
    pub range_nodes: Vec<((RangeId, NodeId), isize)>,
    pub capacities: Vec<((NodeId, u64), isize)>,
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
    /// Load of each node in the tick, in `cost_us` per second.
    pub loads: BTreeMap<NodeId, u64>,
}

/// Decides what a planner does.
pub struct Planner {
    settings: Settings,
    state: State,
    outbox: Outbox,
    changes: Changes,
    /// Heat of ranges and nodes: what the dataflow said last of each.
    range_heat: BTreeMap<RangeId, Rolling>,
    node_heat: BTreeMap<NodeId, Rolling>,
    /// What the dataflow was told of the assignment.
    current: BTreeMap<KeySpan, NodeId>,
    desired: BTreeMap<KeySpan, NodeId>,
    delta: BTreeMap<(KeySpan, NodeId), isize>,
    turn: Turn,
}

/// The tick that is being decided.
#[derive(Default)]
struct Turn {
    bounds: TickBox,
    /// Of the tick: as of when its records are decided on.
    end: Millis,
    dead: Vec<Output>,
    touched: BTreeSet<CellId>,
    heated: BTreeSet<RangeId>,
    stats: Stats,
    decision: Decision,
    reshapes: Vec<Reshape>,
    outputs: TickOutputs,
}
