//! Decides the table of cells: which are sampled, which are cut in two, which join.
//!
//! ```text
//!            heat ≥ half the limit         heat > limit, sample has a median
//!   quiet ───────────────────────> sampled ────────────────────────────────> cut: [left][right]
//!     ^  <───────────────────────     │ one key, or a sweep
//!     │   heat below a quarter        └──────────────> unsplittable, with its share
//!     └──── join: two cold neighbours of one range become the left one
//! ```
//!
//! * **A cell never spans a range's boundary**: ranges are split at starts of cells, and cells of two
//!   ranges do not join.
//! * **History is kept.** The left part keeps the cell's id and what the right part does not get, in
//!   proportion to the samples; the sums of both are what the sums of the cell were.
//! * **Stable ids.** A new cell's id comes from (parent, tick, key), so every replay gives the same.
//! * **Bounded**: cells in all, cells of a range, cuts and joins a tick.
//!
//! What is decided at the end of a tick holds from the next one on.

mod reshape;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use schemas::query_log::Op;
use schemas::{CellId, Key, RangeId};
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::Xxh3;

use crate::Tick;
use crate::heat::{Heat, Rolling};
use crate::samples::Sample;

/// Limits of the table of cells.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CellRules {
    /// A cell with more than this share of the total load, in millionths, is cut.
    pub cut_ppm: u32,
    /// The open-ended last cell is cut at this share already, because what grows grows there.
    pub cut_last_ppm: u32,
    /// Neighbours join while they have less than this share together.
    pub join_ppm: u32,
    /// Below so many sampled queries a median says nothing.
    pub samples_min: u32,
    /// A cell rests so many ticks after it was cut or joined, before it is joined.
    pub rest_ticks: Tick,
    /// Cells that a range is born with, and keeps.
    pub cells_per_range: u32,
    pub cells_per_range_max: u32,
    pub cells_max: u32,
    /// Cuts and joins a tick.
    pub reshapes_max: u32,
}

impl Default for CellRules {
    fn default() -> Self {
        Self {
            cut_ppm: 15_000,
            cut_last_ppm: 5_000,
            join_ppm: 1_000,
            samples_min: 16,
            rest_ticks: 60,
            cells_per_range: 8,
            cells_per_range_max: 256,
            cells_max: 200_000,
            reshapes_max: 64,
        }
    }
}

/// For how many ticks samples are kept: long enough for a median, short enough to follow.
const SAMPLE_TICKS: Tick = 6;

/// A change of the table, with the cell's history where it is divided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reshape {
    /// `cell` keeps what lies before `at`; `right` is new, and gets this part of the history.
    Cut { cell: CellId, right: CellId, at: Key, right_part: (u64, u64) },
    /// `left` gets all that `right` has; `right`, which began at `start`, ends.
    Join { left: CellId, right: CellId, start: Key, range: RangeId },
}

/// One cell, with what is known of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CellState {
    pub start: Key,
    pub range: RangeId,
    /// Kept by a snapshot too: what has changed at the first tick behind it is told by what was.
    pub heat: Rolling,
    /// Its keys are sampled from the next tick on.
    pub sampled: bool,
    /// Samples of the last ticks, the oldest first.
    samples: VecDeque<Sampled>,
    /// Before this tick some of its history is estimated, and it does not join.
    rests_until: Tick,
    /// Sums before this tick are estimated, because a cell was cut.
    pub estimated_until: Tick,
}

/// What was sampled of a cell in a tick.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Sampled {
    tick: Tick,
    sample: Sample,
    /// Of the whole cell as it was then: what a cut leaves on either side is too little to tell.
    swept: [(i64, i64); 2],
}

/// All cells, in key order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cells {
    by_id: BTreeMap<CellId, CellState>,
    starts: BTreeMap<Key, CellId>,
    /// Those that are sampled or have samples.
    #[serde(skip)]
    watched: BTreeSet<CellId>,
}

impl Cells {
    /// Returns the table as a snapshot holds it, ready for use.
    pub fn restored(mut self) -> Self {
        let is_watched = |it: &CellState| it.sampled || !it.samples.is_empty();
        self.watched =
            self.by_id.iter().filter(|(_, it)| is_watched(it)).map(|(id, _)| *id).collect();
        self
    }

    /// Adds a cell that begins at `start`, where the table has none yet.
    pub fn born(&mut self, start: Key, range: RangeId) -> CellId {
        let id = cell_id(CellId(0), 0, &start);
        let (heat, samples) = (Rolling::default(), VecDeque::new());
        let (sampled, rests_until, estimated_until) = (false, 0, 0);
        let state =
            CellState { start, range, heat, sampled, samples, rests_until, estimated_until };
        self.insert(id, state);
        id
    }

    pub fn get(&self, id: CellId) -> Option<&CellState> {
        self.by_id.get(&id)
    }

    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    pub fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    /// Cells in key order.
    pub fn iter(&self) -> impl Iterator<Item = (CellId, &CellState)> {
        self.starts.values().map(|id| (*id, &self.by_id[id]))
    }

    /// Cells that are sampled, or were lately.
    pub fn watched(&self) -> impl Iterator<Item = (CellId, &CellState)> {
        self.watched.iter().filter_map(|id| Some((*id, self.by_id.get(id)?)))
    }

    /// Cells of the key interval that begins at `start` and ends before `end` (empty: unbounded).
    pub fn within<'a>(
        &'a self,
        start: &Key,
        end: &'a Key,
    ) -> impl Iterator<Item = (CellId, &'a CellState)> {
        let inside = move |it: &(&Key, &CellId)| end.0.is_empty() || it.0 < end;
        self.starts.range(start.clone()..).take_while(inside).map(|(_, id)| (*id, &self.by_id[id]))
    }

    /// Returns where the cell before the one that begins here begins.
    pub fn before(&self, start: &Key) -> Option<&Key> {
        self.starts.range(..start.clone()).next_back().map(|it| it.0)
    }

    /// Tells whether a cell begins at this key: a range may be split here.
    pub fn begins_at(&self, key: &Key) -> bool {
        self.starts.contains_key(key)
    }

    /// Gives the cells between two keys to another range; returns those that changed.
    pub fn relabel(&mut self, start: &Key, end: &Key, range: RangeId) -> Vec<(CellId, RangeId)> {
        let ids: Vec<_> = self.within(start, end).map(|(id, _)| id).collect();
        let changed = ids.into_iter().filter_map(|id| {
            let cell = self.by_id.get_mut(&id)?;
            let old = std::mem::replace(&mut cell.range, range);
            (old != range).then_some((id, old))
        });
        changed.collect()
    }

    /// Takes in how the heat of a cell has changed.
    pub fn heated(&mut self, cell: CellId, diff: Rolling) {
        // A cell that has ended says its last word, which is its zero.
        let Some(state) = self.by_id.get_mut(&cell) else { return };
        differential_dataflow::difference::Semigroup::plus_equals(&mut state.heat, &diff);
    }

    /// Takes in the sample of a cell in a tick.
    pub fn sampled(&mut self, cell: CellId, tick: Tick, sample: Sample) {
        let Some(state) = self.by_id.get_mut(&cell) else { return };
        match state.samples.back_mut() {
            Some(last) if last.tick == tick => {
                last.sample.merge(sample);
                last.swept = last.sample.swept();
            }
            Some(_) | None => {
                let swept = sample.swept();
                state.samples.push_back(Sampled { tick, sample, swept });
            }
        }
        self.watched.insert(cell);
    }

    /// Returns which part of a cell's load no cut can help, in millionths.
    pub fn unsplittable_ppm(&self, cell: CellId, rules: &CellRules) -> u32 {
        let state = &self.by_id[&cell];
        if state.samples.is_empty() {
            return 0;
        }
        let sample = state.sample();
        let one_key_ppm = sample.one_key_ppm();
        let tells = sample.weight() >= u64::from(rules.samples_min) && one_key_ppm >= 500_000;
        if tells { one_key_ppm.max(state.swept_ppm()) } else { state.swept_ppm() }
    }

    fn insert(&mut self, id: CellId, state: CellState) {
        let before = self.starts.insert(state.start.clone(), id);
        assert_eq!(before, None, "one cell begins at {}", state.start);
        let before = self.by_id.insert(id, state);
        assert!(before.is_none(), "cell ids are unique: {id:?}");
    }

    fn forget_samples(&mut self, tick: Tick) {
        let mut idle = Vec::new();
        for &id in &self.watched {
            let Some(state) = self.by_id.get_mut(&id) else {
                idle.push(id);
                continue;
            };
            while state.samples.front().is_some_and(|it| it.tick + SAMPLE_TICKS <= tick) {
                state.samples.pop_front();
            }
            if state.samples.is_empty() && !state.sampled {
                idle.push(id);
            }
        }
        idle.iter().for_each(|id| _ = self.watched.remove(id));
    }
}

impl CellState {
    /// What was sampled lately.
    pub fn sample(&self) -> Sample {
        let mut all = Sample::default();
        self.samples.iter().for_each(|it| all.merge(it.sample.clone()));
        all
    }

    /// Of reads and of writes in a tick: least and greatest key of what moved on, and its load in microseconds.
    pub fn swept_at(&self, tick: Tick) -> [Option<(Key, Key, u64)>; 2] {
        let Some(last) = self.samples.back().filter(|it| it.tick == tick) else {
            return [None, None];
        };
        let heat = self.heat.one();
        let loads = [heat.read_us, heat.write_us];
        std::array::from_fn(|op| {
            let (swept, all) = last.swept[op];
            let load_us = i128::from(loads[op].max(0)) * i128::from(swept) / i128::from(all.max(1));
            if 2 * swept < all || load_us <= 0 {
                return None;
            }
            let of_op = last.sample.entries().iter().filter(|it| (it.op == Op::Write) == (op == 1));
            let keys = of_op.map(|it| &it.key);
            Some((keys.clone().min()?.clone(), keys.max()?.clone(), load_us as u64))
        })
    }

    /// The part that goes to a place that moves on, in millionths. Tick by tick: a sweep may pass a
    /// cell within one, and what is asked behind it goes on for longer.
    fn swept_ppm(&self) -> u32 {
        let add = |(a, b), (c, d)| (a + c, b + d);
        let mut swept_us = 0;
        let heat = self.heat.six();
        for (op, cost_us) in [heat.read_us, heat.write_us].into_iter().enumerate() {
            let (swept, all) = self.samples.iter().map(|it| it.swept[op]).fold((0, 0), add);
            swept_us += i128::from(cost_us) * i128::from(swept) / i128::from(all.max(1));
        }
        let cost_us = i128::from(heat.cost_us().max(1));
        (swept_us * 1_000_000 / cost_us).clamp(0, 1_000_000) as u32
    }
}

/// Divides the slots of a cell that is cut: what the left part keeps, and what the right one gets.
pub fn divide(heat: Heat, right_part: (u64, u64)) -> (Heat, Heat) {
    let right = heat.part(right_part.0, right_part.1);
    (heat - right, right)
}

fn cell_id(parent: CellId, tick: Tick, start: &Key) -> CellId {
    let mut hash = Xxh3::new();
    hash.update(&parent.0.to_be_bytes());
    hash.update(&tick.to_be_bytes());
    hash.update(&start.0);
    CellId(hash.digest())
}

#[cfg(test)]
mod tests;
