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

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use schemas::{CellId, Key, RangeId};
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::Xxh3;

use crate::Tick;
use crate::heat::{Heat, Rolling, WIDEST};
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

/// Cold neighbours are looked for every so many ticks.
const JOIN_EVERY: Tick = 8;

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
    samples: VecDeque<(Tick, Sample)>,
    /// Before this tick some of its history is estimated, and it does not join.
    rests_until: Tick,
    /// Sums before this tick are estimated, because a cell was cut.
    pub estimated_until: Tick,
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
            Some((last, merged)) if *last == tick => merged.merge(sample),
            Some(_) | None => state.samples.push_back((tick, sample)),
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
        if sample.weight() < u64::from(rules.samples_min) {
            return 0;
        }
        if sample.is_sweep() {
            return 1_000_000;
        }
        let one_key_ppm = sample.one_key_ppm();
        if one_key_ppm >= 500_000 { one_key_ppm } else { 0 }
    }

    /// Decides what changes behind `tick`: flags of cells to be sampled or not, then cuts and joins.
    ///
    /// `total` is the heat of all cells together.
    pub fn reshape(
        &mut self,
        tick: Tick,
        total: &Rolling,
        touched: &BTreeSet<CellId>,
        rules: &CellRules,
    ) -> (Vec<(Key, bool)>, Vec<Reshape>) {
        self.forget_samples(tick);
        let total_us = total.six().cost_us();
        let flags = self.flag(total_us, touched, rules);
        let mut reshapes = self.cut(tick, total_us, rules);
        // Nothing hurries to join, and to look for it is a walk over all cells.
        if tick.is_multiple_of(JOIN_EVERY) {
            let left = (rules.reshapes_max as usize).saturating_sub(reshapes.len());
            reshapes.extend(self.join(tick, total, rules, left));
        }
        (flags, reshapes)
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
            while state.samples.front().is_some_and(|it| it.0 + SAMPLE_TICKS <= tick) {
                state.samples.pop_front();
            }
            if state.samples.is_empty() && !state.sampled {
                idle.push(id);
            }
        }
        idle.iter().for_each(|id| _ = self.watched.remove(id));
    }

    /// Samples what is half way to being cut, until it is cold again.
    fn flag(
        &mut self,
        total_us: i64,
        touched: &BTreeSet<CellId>,
        rules: &CellRules,
    ) -> Vec<(Key, bool)> {
        let mut flags = Vec::new();
        let last = self.starts.values().next_back().copied();
        for &id in touched.union(&self.watched.clone()) {
            let Some(state) = self.by_id.get_mut(&id) else { continue };
            let limit = share(total_us, limit_ppm(rules, Some(id) == last));
            let heat = state.heat.six().cost_us();
            let sampled = if state.sampled { heat * 4 >= limit } else { heat * 2 >= limit };
            let sampled = sampled && heat > 0;
            if sampled != state.sampled {
                state.sampled = sampled;
                flags.push((state.start.clone(), sampled));
                self.watched.insert(id);
            }
        }
        flags
    }

    fn cut(&mut self, tick: Tick, total_us: i64, rules: &CellRules) -> Vec<Reshape> {
        let last = self.starts.values().next_back().copied();
        let heat = |it: &CellState| it.heat.six().cost_us();
        let too_hot = |id: &CellId| {
            let state = &self.by_id[id];
            heat(state) > share(total_us, limit_ppm(rules, Some(*id) == last))
        };
        let mut hot: Vec<_> =
            self.watched.iter().copied().filter(|it| self.by_id.contains_key(it)).collect();
        hot.retain(too_hot);
        // The hottest first: there may be more than a tick cuts.
        hot.sort_by_key(|id| (-heat(&self.by_id[id]), *id));
        let mut cuts = Vec::new();
        for cell in hot {
            if cuts.len() >= rules.reshapes_max as usize
                || self.len() >= rules.cells_max as usize
                || self.is_crowded(cell, rules)
            {
                continue;
            }
            cuts.extend(self.cut_one(tick, cell, rules));
        }
        cuts
    }

    fn cut_one(&mut self, tick: Tick, cell: CellId, rules: &CellRules) -> Option<Reshape> {
        let state = &self.by_id[&cell];
        let sample = state.sample();
        if sample.weight() < u64::from(rules.samples_min) {
            return None;
        }
        let at = sample.median_key(&state.start)?;
        let (before, all) = sample.part_left(&at);
        let right_part = (all - before, all);
        let right = cell_id(cell, tick, &at);
        let until = tick + WIDEST;
        let mut new = CellState { start: at.clone(), ..state.clone() };
        (new.rests_until, new.estimated_until) = (tick + rules.rest_ticks, until);
        new.samples.iter_mut().for_each(|(_, it)| it.retain(|key| *key >= at));
        // What the division does to heat, the window says at the next tick.
        new.heat = Rolling::default();
        let old = self.by_id.get_mut(&cell).expect("it is being cut");
        old.samples.iter_mut().for_each(|(_, it)| it.retain(|key| *key < at));
        (old.rests_until, old.estimated_until) = (new.rests_until, until);
        self.watched.insert(right);
        self.insert(right, new);
        Some(Reshape::Cut { cell, right, at, right_part })
    }

    fn is_crowded(&self, cell: CellId, rules: &CellRules) -> bool {
        let range = self.by_id[&cell].range;
        let max = rules.cells_per_range_max as usize;
        let start = &self.by_id[&cell].start;
        let same = |it: &&CellId| self.by_id[it].range == range;
        let before = self.starts.range(..start).rev().map(|it| it.1).take_while(same).take(max);
        let after = self.starts.range(start..).map(|it| it.1).take_while(same).take(max);
        before.count() + after.count() >= max
    }

    /// Joins cold neighbours of one range that has more cells than it was born with.
    fn join(&mut self, tick: Tick, total: &Rolling, rules: &CellRules, max: usize) -> Vec<Reshape> {
        let limit = share(total.0[2].cost_us(), rules.join_ppm);
        let mut per_range = BTreeMap::<RangeId, u32>::new();
        for state in self.by_id.values() {
            *per_range.entry(state.range).or_default() += 1;
        }
        if per_range.values().all(|n| *n <= rules.cells_per_range) {
            return Vec::new();
        }
        let mut joins = Vec::new();
        let mut left: Option<CellId> = None;
        let order: Vec<_> = self.starts.values().copied().collect();
        for right in order {
            let state = &self.by_id[&right];
            let fits = |left: &CellState| {
                left.range == state.range
                    && left.rests_until.max(state.rests_until) <= tick
                    && !left.sampled
                    && !state.sampled
                    && left.heat.0[2].cost_us() + state.heat.0[2].cost_us() < limit
                    && per_range[&state.range] > rules.cells_per_range
            };
            let found = left.filter(|left| joins.len() < max && fits(&self.by_id[left]));
            let Some(found) = found else {
                left = Some(right);
                continue;
            };
            *per_range.entry(state.range).or_default() -= 1;
            let (start, range) = (state.start.clone(), state.range);
            self.join_two(tick, found, right, rules);
            joins.push(Reshape::Join { left: found, right, start, range });
            // It rests; the next one begins anew.
            left = None;
        }
        joins
    }

    fn join_two(&mut self, tick: Tick, left: CellId, right: CellId, rules: &CellRules) {
        let gone = self.by_id.remove(&right).expect("it is in the table");
        self.starts.remove(&gone.start);
        self.watched.remove(&right);
        let state = self.by_id.get_mut(&left).expect("it is in the table");
        state.rests_until = tick + rules.rest_ticks;
        state.estimated_until = state.estimated_until.max(gone.estimated_until);
        state.samples.clear();
    }
}

impl CellState {
    /// What was sampled lately.
    pub fn sample(&self) -> Sample {
        let mut all = Sample::default();
        self.samples.iter().for_each(|(_, it)| all.merge(it.clone()));
        all
    }
}

/// Divides the slots of a cell that is cut: what the left part keeps, and what the right one gets.
pub fn divide(heat: Heat, right_part: (u64, u64)) -> (Heat, Heat) {
    let right = heat.part(right_part.0, right_part.1);
    (heat - right, right)
}

fn limit_ppm(rules: &CellRules, is_last: bool) -> u32 {
    if is_last { rules.cut_last_ppm } else { rules.cut_ppm }
}

/// A share of a load, in millionths; at least one, so that nothing is no share of nothing.
fn share(total_us: i64, ppm: u32) -> i64 {
    ((i128::from(total_us) * i128::from(ppm) / 1_000_000) as i64).max(1)
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
