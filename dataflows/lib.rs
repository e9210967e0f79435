//! Says how collections become collections: from queries to heat, from what is decided to the plan's delta.
//!
//! ```text
//!  payloads ──> sums ──> exchange ──> heatmap ──> ranges ──┬──> heat by range
//!               by cell  by cell      windows     by range │
//!  splits ───────┴──> reports           │                  └──> nodes ──> heat by node
//!  reshapes ────────────────────────────┤
//!                                       └──> heat by cell               ── 1. heat is settled
//!  cell ──> range, range ──> node
//!
//!            the caller forecasts what changed, and decides where ranges should be
//!  desired, current ──> delta                                           ── 2. the delta is settled
//! ```
//!
//! At each tick the caller feeds a stage, advances it past the tick, steps until it is settled, and
//! drains its outputs; then the next stage, at the same tick. So what a person or a model answers stands
//! between two stages, and one timestamp covers heat, forecast and plan.
//!
//! * What nodes are to expect is no collection: forecasts are raised to that of all ranges together before they are added
//!   up ([`balance::load`]), so all sums change with each tick, and a decision looks at each range anyway.
//! * No clock, no I/O, no model weights: what a dataflow cannot derive from its input collections
//!   arrives as an argument.
//! * Effects are the caller's. Closing the inputs runs time to its end: windows run out and everything is
//!   retracted, so outputs count only up to the tick that was settled.

pub mod heat;
pub mod quanta;
pub mod forecast;
pub mod balance;
pub mod words;
pub mod splits;
pub mod samples;
pub mod cells;
pub mod tally;
pub mod sums;
pub mod window;
pub mod heatmap;
pub mod ranges;
pub mod nodes;
pub mod delta;
pub mod stage;

use differential_dataflow::input::Input as _;
use differential_dataflow::operators::arrange::{Arranged, TraceAgent};
use differential_dataflow::trace::implementations::{KeySpine, ValSpine};
use schemas::CellId;
use schemas::wire::DecodeError;
use timely::dataflow::operators::{Enter, Input as _};
use timely::dataflow::{ProbeHandle, Scope};

use stage::{DeltaStage, HeatStage, Output};
use tally::Query;

/// Event time in whole ticks since the epoch, and the timestamp of every collection in this crate.
pub type Tick = u64;

/// A collection whose differences are plain counts.
pub type Rows<'scope, D> = differential_dataflow::VecCollection<'scope, Tick, D, isize>;

/// A collection of cells, with what they were asked at a tick in the difference.
pub type Sums<'scope> = differential_dataflow::VecCollection<'scope, Tick, CellId, heat::Heat>;

/// A collection of `D`, with its heat over all rolling windows in the difference.
pub type Rolls<'scope, D> = differential_dataflow::VecCollection<'scope, Tick, D, heat::Rolling>;

/// Rows, arranged by their first part.
pub type ByKey<'scope, K, V> = Arranged<'scope, TraceAgent<ValSpine<K, V, Tick, isize>>>;

/// A collection that is arranged as it is, with differences of type `R`.
pub type BySelf<'scope, D, R> = Arranged<'scope, TraceAgent<KeySpine<D, Tick, R>>>;

/// The inputs and outputs of one timely worker.
pub struct Pipeline {
    pub heat: HeatStage,
    pub delta: DeltaStage,
}

/// Builds the whole dataflow; `read` calls back with each entry of a record's value.
pub fn pipeline(
    scope: Scope<'_, Tick>,
    rules: tally::Rules,
    read: impl Fn(&[u8], &mut dyn FnMut(Query<'_>)) -> Result<usize, DecodeError> + 'static,
) -> Pipeline {
    Pipeline { heat: heat_stage(scope, rules, read), delta: delta_stage(scope) }
}

fn heat_stage<'scope>(
    scope: Scope<'scope, Tick>,
    rules: tally::Rules,
    read: impl Fn(&[u8], &mut dyn FnMut(Query<'_>)) -> Result<usize, DecodeError> + 'static,
) -> HeatStage {
    let (payloads_feed, payloads) = scope.new_input();
    let (splits_feed, splits) = scope.new_input();
    let (reshapes_feed, reshapes) = scope.new_input();
    let (cell_ranges_feed, cell_ranges) = scope.new_collection();
    let (range_nodes_feed, range_nodes) = scope.new_collection();
    let probe = ProbeHandle::new();
    scope.region_named("Heat", |stage| {
        let (sums, reports) = sums::sums(payloads.enter(stage), splits.enter(stage), rules, read);
        let (cells, window) = heatmap::heatmap(sums, reshapes.enter(stage));

        let by_cell = cells.clone().arrange_by_self_named("HeatByCell");
        let cell_ranges = cell_ranges.enter(stage).arrange_by_key_named("CellRanges");
        let by_range = ranges::ranges(by_cell, cell_ranges).arrange_by_self_named("HeatByRange");
        let ranges = ranges::heat_by_range(by_range.clone());
        let range_nodes = range_nodes.enter(stage).arrange_by_key_named("RangeNodes");
        let nodes = nodes::nodes(by_range, range_nodes);
        HeatStage {
            payloads: payloads_feed,
            splits: splits_feed,
            reshapes: reshapes_feed,
            cell_ranges: cell_ranges_feed,
            range_nodes: range_nodes_feed,
            reports: Output::new(reports, &probe),
            cells: Output::new(cells.inner, &probe),
            ranges: Output::new(ranges.inner, &probe),
            nodes: Output::new(nodes.inner, &probe),
            window,
            probe,
        }
    })
}

fn delta_stage(scope: Scope<'_, Tick>) -> DeltaStage {
    let (desired_feed, desired) = scope.new_collection();
    let (current_feed, current) = scope.new_collection();
    let probe = ProbeHandle::new();
    scope.region_named("Delta", |stage| {
        let delta = delta::delta(desired.enter(stage), current.enter(stage));
        DeltaStage {
            desired: desired_feed,
            current: current_feed,
            delta: Output::new(delta.inner, &probe),
            probe,
        }
    })
}
