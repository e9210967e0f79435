//! Decides what of the table of cells changes behind a tick.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound::{Excluded, Unbounded};

use schemas::{CellId, Key, RangeId};

use super::{CellRules, CellState, Cells, Reshape, cell_id};
use crate::Tick;
use crate::heat::{Rolling, WIDEST};

/// Cold neighbours are looked for every so many ticks.
const JOIN_EVERY: Tick = 8;

/// So many cells on either side of a hot one are sampled as well: a sweep that goes on by a cell or two
/// in a tick comes to what is sampled.
const NEAR: usize = 3;

impl Cells {
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

    /// Samples what is half way to being cut, until it is cold again; and what lies beside it: a sweep
    /// that comes there would be gone before it is hot.
    fn flag(
        &mut self,
        total_us: i64,
        touched: &BTreeSet<CellId>,
        rules: &CellRules,
    ) -> Vec<(Key, bool)> {
        let mut flags = Vec::new();
        let last = self.starts.values().next_back().copied();
        let limit = |id| share(total_us, limit_ppm(rules, Some(id) == last));
        let mut looked_at: BTreeSet<_> = touched.union(&self.watched).copied().collect();
        let is_hot = |id: &&CellId| {
            self.by_id.get(id).is_some_and(|it| it.heat.six().cost_us() * 2 >= limit(**id))
        };
        let near: BTreeSet<_> =
            looked_at.iter().filter(is_hot).flat_map(|id| self.neighbours(*id)).collect();
        looked_at.extend(&near);
        for id in looked_at {
            let Some(state) = self.by_id.get_mut(&id) else { continue };
            let heat = state.heat.six().cost_us();
            let sampled = near.contains(&id)
                || heat > 0 && heat * if state.sampled { 4 } else { 2 } >= limit(id);
            if sampled != state.sampled {
                state.sampled = sampled;
                flags.push((state.start.clone(), sampled));
                self.watched.insert(id);
            }
        }
        flags
    }

    /// The cells before and after a cell.
    fn neighbours(&self, id: CellId) -> impl Iterator<Item = CellId> {
        let start = &self.by_id[&id].start;
        let after = self.starts.range::<Key, _>((Excluded(start), Unbounded));
        self.starts.range(..start).rev().take(NEAR).chain(after.take(NEAR)).map(|it| *it.1)
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
        new.samples.iter_mut().for_each(|it| it.sample.retain(|key| *key >= at));
        // What the division does to heat, the window says at the next tick.
        new.heat = Rolling::default();
        let old = self.by_id.get_mut(&cell).expect("it is being cut");
        old.samples.iter_mut().for_each(|it| it.sample.retain(|key| *key < at));
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

fn limit_ppm(rules: &CellRules, is_last: bool) -> u32 {
    if is_last { rules.cut_last_ppm } else { rules.cut_ppm }
}

/// A share of a load, in millionths; at least one, so that nothing is no share of nothing.
fn share(total_us: i64, ppm: u32) -> i64 {
    ((i128::from(total_us) * i128::from(ppm) / 1_000_000) as i64).max(1)
}
