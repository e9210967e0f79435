//! Makes a planner: without a past, from what stands on the topics, or as a snapshot has it.
//!
//! ```text
//!  new ─────────> ranges at the split points, owned by nobody ─┐
//!  adopted ─────> assignment, commands, statuses ──────────────┼──> state ──> everything ──> dataflow
//!  restored ────> snapshot ────────────────────────────────────┤
//!  resettled ───> the state itself, under other settings ──────┘
//! ```

use std::collections::{BTreeMap, BTreeSet};

use dataflows::cells::Cells;
use dataflows::forecast::RangeForecast;
use dataflows::splits::SplitChange;
use dataflows::window;
use schemas::migrate_range::MigrateRange;
use schemas::migration_status::MigrationStatus;
use schemas::{Key, KeySpan, Millis};

use super::super::commands::Commands;
use super::super::fleet::Fleet;
use super::super::ledger::Ledger;
use super::super::ranges::{RangeState, Ranges};
use super::super::settings::Settings;
use super::super::snapshot::{Outbox, Slot};
use super::super::strips::Strips;
use super::{Changes, Planner, State, Turn};
use crate::assignment::birth;
use crate::assignment::map::Map;
use crate::forecast::edges::Edges;
use crate::forecast::{self, Forecaster};
use crate::foreign::translator::Translator;
use crate::migration::table::Migrations;

impl Planner {
    /// Begins without a past: ranges at the split points, owned by nobody yet.
    pub fn new(settings: Settings) -> Self {
        let ranges = Ranges::tiled(&settings.split_points);
        let cells = first_table(&ranges, &settings);
        Self::with(blank(settings, ranges, cells), Vec::new())
    }

    /// Takes over an assignment that stands without a planner's memory of it: from `assignment`,
    /// `migrate_range` and `migration_status`, each read to its end, at `now`.
    ///
    /// What is not committed is cancelled or said to have failed, and a snapshot is taken, with the
    /// first tick. All ranges rest as if they had just been moved: nobody knows when they were, and
    /// how large they are is yet to be reported.
    pub fn adopted(
        settings: Settings,
        now: Millis,
        map: Map,
        commands: &[MigrateRange],
        statuses: &[MigrationStatus],
    ) -> Self {
        let rests_until = now.0 / settings.tick_ms + settings.policy.cool_down_ticks;
        let ranges = Ranges::adopted(&map, rests_until);
        let cells = first_table(&ranges, &settings);
        let (migrations, owed) = Migrations::adopt(
            settings.policy.moves_in_flight_max as usize,
            settings.cancel_grace_ms,
            now,
            &map,
            commands,
            statuses,
        );
        let ledger = Ledger::adopted(&settings, now, commands, statuses);
        // What others said of the heat of ranges stands until it is told anew.
        let renewed = ranges.iter().map(|it| it.id).collect();
        let state = State { map, migrations, ledger, renewed, ..blank(settings, ranges, cells) };
        Self { is_adopting: true, owed, ..Self::with(state, Vec::new()) }
    }

    /// Goes on where a snapshot was taken, under these settings; its slots are fed before the next
    /// tick.
    ///
    /// The boxes that were recorded since are run again under the settings of their time, which are
    /// those of the snapshot until one of them names others.
    pub fn restored(settings: Settings, mut state: State, slots: Vec<Slot>) -> Self {
        state.cells = state.cells.restored();
        let moves_max = settings.policy.moves_in_flight_max as usize;
        state.migrations.limit(moves_max, settings.cancel_grace_ms);
        state.fleet.limit(settings.silent_ticks);
        state.forecaster.configure(forecast_of(&settings));
        if Strips::new(&state.settings) != Strips::new(&settings) {
            state.forecaster.forget_strips();
        }
        if state.settings.network != settings.network {
            state.forecaster.swap_model(settings.model());
        }
        state.settings = settings;
        Self::with(state, slots)
    }

    /// Goes on under other settings, with a dataflow that was started with them; `slots` are the
    /// sums of all cells, as of the last tick.
    pub fn resettled(self, settings: Settings, slots: Vec<Slot>) -> Self {
        let slots = self.as_of_next(slots);
        let Self { state, outbox, is_adopting, owed, .. } = self;
        Self { outbox, is_adopting, owed, ..Self::restored(settings, state, slots) }
    }

    fn with(mut state: State, slots: Vec<Slot>) -> Self {
        if state.settings.rung == forecast::Rung::Ladder {
            state.forecaster.load_model(state.settings.model());
        }
        state.swapped();
        let mut res = Self {
            policy: state.settings.text(),
            translator: Translator::new(&state.settings.query_log),
            strips: Strips::new(&state.settings),
            state,
            outbox: Outbox::default(),
            changes: Changes::default(),
            current: BTreeMap::new(),
            ahead: BTreeMap::new(),
            delta: BTreeMap::new(),
            is_fresh: true,
            is_adopting: false,
            elsewhere: None,
            owed: Vec::new(),
            turn: Turn::default(),
        };
        res.changes = res.everything(slots);
        res
    }

    /// All that the dataflow is to know as of the end of the last tick.
    fn everything(&self, slots: Vec<Slot>) -> Changes {
        let State { cells, ranges, .. } = &self.state;
        let mut splits = Vec::new();
        for (cell, it) in cells.iter() {
            let start = it.start.clone();
            splits.push(SplitChange::Insert { start: start.clone(), cell });
            if it.sampled {
                splits.push(SplitChange::Watch { start });
            }
        }
        let owned = |it: &RangeState| Some(((it.id, it.node.clone()?), 1));
        let slot = |(cell, tick, heat)| window::Reshape::Slot(cell, tick, heat);
        Changes {
            splits,
            reshapes: slots.into_iter().map(slot).collect(),
            cell_ranges: cells.iter().map(|(cell, it)| ((cell, it.range), 1)).collect(),
            range_nodes: ranges.iter().filter_map(owned).collect(),
        }
    }
}

/// All that is known before the first tick.
fn blank(settings: Settings, ranges: Ranges, cells: Cells) -> State {
    let moves_max = settings.policy.moves_in_flight_max as usize;
    State {
        tick: 0,
        map: Map::default(),
        ranges,
        cells,
        range_heat: BTreeMap::new(),
        node_heat: BTreeMap::new(),
        fleet: Fleet::new(settings.silent_ticks),
        migrations: Migrations::new(moves_max, settings.cancel_grace_ms),
        forecaster: Forecaster::new(forecast_of(&settings)),
        edges: Edges::default(),
        born: Vec::new(),
        dead: Vec::new(),
        renewed: BTreeSet::new(),
        forecasts: BTreeMap::new(),
        total: RangeForecast::default(),
        published: BTreeMap::new(),
        ledger: Ledger::default(),
        commands: Commands::default(),
        next_network: None,
        policy_digest: String::new(),
        last_refusal: String::new(),
        settings,
    }
}

fn forecast_of(settings: &Settings) -> forecast::Config {
    forecast::Config { rung: settings.rung, tick_ms: settings.tick_ms }
}

/// The cells that ranges are born with.
fn first_table(ranges: &Ranges, settings: &Settings) -> Cells {
    let mut cells = Cells::default();
    for range in ranges.iter() {
        for start in cell_starts(&range.span, settings) {
            cells.born(start, range.id);
        }
    }
    cells
}

/// Where the cells of the first assignment begin, but the first, which begins at the beginning.
pub fn first_cells(settings: &Settings) -> Vec<Key> {
    let ranges = birth::ranges(&settings.split_points);
    ranges.iter().flat_map(|it| cell_starts(it, settings)).skip(1).collect()
}

/// Where the cells of a new range begin: evenly by width between its ends.
fn cell_starts(span: &KeySpan, settings: &Settings) -> Vec<Key> {
    let mut starts = vec![span.start.clone()];
    let end = if span.end.0.is_empty() { &settings.key_end } else { &span.end };
    if span.start < *end {
        starts.extend(birth::cuts(&span.start, end, settings.cells.cells_per_range));
    }
    starts
}
