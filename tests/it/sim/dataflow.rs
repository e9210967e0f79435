//! Stands in for the dataflow of the planner: some keys are hot, all else is cold; and the delta is what it is.

use std::collections::BTreeMap;

use dataflows::delta::Placed;
use dataflows::heat::{Heat, Rolling};
use isotherm::planner::machine::{Heated, Planner, Wanted};
use schemas::{CellId, Key, RangeId};

/// What it has told, which lives as long as the planner's process.
#[derive(Debug, Default)]
pub struct Dataflow {
    cells: BTreeMap<CellId, Rolling>,
    ranges: BTreeMap<RangeId, Rolling>,
}

impl Dataflow {
    /// What the first half of the dataflow says of a tick: how the heat has changed.
    pub fn heated(&mut self, planner: &Planner, hot: &[(Key, i64)]) -> Heated {
        let state = planner.state();
        let mut costs = BTreeMap::<&Key, i64>::new();
        for (key, cost_us) in hot {
            let range = state.ranges.iter().find(|it| it.span.contains(&key.0));
            *costs.entry(&range.expect("ranges tile the key space").span.start).or_default() +=
                cost_us;
        }
        let (mut cells, mut ranges) = (BTreeMap::new(), BTreeMap::new());
        for range in state.ranges.iter() {
            let Some(cost_us) = costs.get(&range.span.start) else { continue };
            let heat =
                |cost_us| Rolling::of(Heat { reads: 10, read_us: cost_us, ..Heat::default() });
            let found: Vec<_> =
                state.cells.within(&range.span.start, &range.span.end).map(|it| it.0).collect();
            ranges.insert(range.id, heat(*cost_us));
            let share = cost_us / found.len().max(1) as i64;
            cells.extend(found.into_iter().map(|it| (it, heat(share))));
        }
        let mut res = Heated::default();
        for (cell, old) in std::mem::replace(&mut self.cells, cells.clone()) {
            res.cells.push((cell, Rolling::default() - old));
        }
        res.cells.extend(cells);
        for (range, old) in std::mem::replace(&mut self.ranges, ranges.clone()) {
            res.ranges.push(((range, old), -1));
        }
        res.ranges.extend(ranges.into_iter().map(|it| (it, 1)));
        res
    }

    /// How what is desired less what is has changed.
    pub fn delta(wanted: Wanted) -> Vec<(Placed, isize)> {
        let mut rows = BTreeMap::new();
        for (row, diff) in wanted.desired {
            *rows.entry(row).or_insert(0) += diff;
        }
        for (row, diff) in wanted.current {
            *rows.entry(row).or_insert(0) -= diff;
        }
        rows.into_iter().filter(|it| it.1 != 0).collect()
    }
}
