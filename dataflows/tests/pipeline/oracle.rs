//! Recomputes every output at every tick, and holds what was said against it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;

use dataflows::Tick;
use dataflows::heat::{Heat, Rolling, WIDEST, WIDTHS};
use dataflows::samples::{ENTRIES_MAX, hash};
use dataflows::tally::Intake;
use schemas::{CellId, Millis};

use crate::run::Said;
use crate::story::{RULES, State, Story, TICK_MS, Told};

/// Checks all that was said from a tick of the story on.
pub fn check(story: &Story, from: usize, said: &Said) {
    let mut cells = Rows::new(
        said.cells.iter().map(|(cell, tick, by)| ((*cell, *by), *tick, 1)).collect::<Vec<_>>(),
    );
    let mut ranges = Rows::new(said.ranges.clone());
    let mut nodes = Rows::new(said.nodes.clone());
    let mut delta = Rows::new(said.delta.clone());
    let mut rolling = BTreeMap::<CellId, Rolling>::new();
    let before = from.saturating_sub(1);
    for (tick, told) in (story.first..).zip(&story.ticks).skip(before) {
        let state = &told.state;
        let heat = by_cell(state, tick);
        let at = (tick - story.first) as usize;
        // What is loaded is said at once, whatever the tick before was.
        let exact = at > before;

        let mut changed = 0;
        for ((cell, by), diff) in cells.take(tick) {
            assert_eq!(diff, 1);
            changed +=
                usize::from(add(rolling.entry(cell).or_default(), &by) != Rolling::default());
        }
        assert_eq!(changed, cells.taken, "a cell says only what changes, at tick {tick}");
        assert!(cells.is_distinct_by(|row| row.0), "a cell says it once, at tick {tick}");
        rolling.retain(|_, heat| *heat != Rolling::default());
        assert_eq!(rolling, heat, "cells at tick {tick}");

        let heat = grouped(
            heat.into_iter()
                .filter_map(|(cell, heat)| Some((*state.cell_ranges.get(&cell)?, heat))),
        );
        ranges.expect("ranges", tick, exact, heat.clone().into_iter().collect());
        let heat = grouped(
            heat.into_iter().map(|(range, heat)| (state.range_nodes[&range].clone(), heat)),
        );
        nodes.expect("nodes", tick, exact, heat.into_iter().collect());

        delta.expect_diffs("delta", tick, deltas(state));
        if at >= from {
            check_reports(tick, told, said);
        }
    }
    check_slots(story, said);
}

/// What was said of a collection, and what it has come to.
struct Rows<D> {
    by_tick: BTreeMap<Tick, Vec<(D, isize)>>,
    rows: BTreeMap<D, isize>,
    last: Vec<D>,
    taken: usize,
}

impl<D: Ord + Clone + Debug> Rows<D> {
    fn new(said: Vec<(D, Tick, isize)>) -> Self {
        let mut by_tick = BTreeMap::<Tick, Vec<(D, isize)>>::new();
        for (row, tick, diff) in said {
            by_tick.entry(tick).or_default().push((row, diff));
        }
        Self { by_tick, rows: BTreeMap::new(), last: Vec::new(), taken: 0 }
    }

    fn take(&mut self, tick: Tick) -> Vec<(D, isize)> {
        let taken = self.by_tick.remove(&tick).unwrap_or_default();
        self.last = taken.iter().map(|(row, _)| row.clone()).collect();
        self.taken = taken.len();
        taken
    }

    fn is_distinct_by<K: Ord>(&self, key: impl Fn(&D) -> K) -> bool {
        self.last.iter().map(key).collect::<BTreeSet<_>>().len() == self.last.len()
    }

    fn expect(&mut self, what: &str, tick: Tick, exact: bool, expected: Vec<D>) {
        let before: BTreeSet<_> = self.rows.keys().cloned().collect();
        let after: BTreeSet<_> = expected.iter().cloned().collect();
        self.expect_diffs(what, tick, expected.into_iter().map(|row| (row, 1)).collect());
        let changes = before.symmetric_difference(&after).count();
        if exact {
            assert_eq!(self.taken, changes, "{what} say only what changes, at tick {tick}");
        }
    }

    fn expect_diffs(&mut self, what: &str, tick: Tick, expected: BTreeMap<D, isize>) {
        for (row, diff) in self.take(tick) {
            *self.rows.entry(row).or_default() += diff;
        }
        self.rows.retain(|_, diff| *diff != 0);
        assert_eq!(self.rows, expected, "{what} at tick {tick}");
    }
}

fn add(sum: &mut Rolling, more: &Rolling) -> Rolling {
    sum.0.iter_mut().zip(more.0).for_each(|(sum, more)| *sum += more);
    *more
}

fn by_cell(state: &State, now: Tick) -> BTreeMap<CellId, Rolling> {
    let mut heat = BTreeMap::<CellId, Rolling>::new();
    for ((cell, of), sum) in &state.history {
        for (at, width) in WIDTHS.into_iter().enumerate() {
            if now < of + width && *sum != Heat::default() {
                heat.entry(*cell).or_default().0[at] += *sum;
            }
        }
    }
    heat
}

fn grouped<K: Ord>(heat: impl Iterator<Item = (K, Rolling)>) -> BTreeMap<K, Rolling> {
    let mut groups = BTreeMap::<K, Rolling>::new();
    heat.for_each(|(key, heat)| _ = add(groups.entry(key).or_default(), &heat));
    groups
}

fn deltas(state: &State) -> BTreeMap<dataflows::delta::Placed, isize> {
    let desired = state.desired.difference(&state.current).map(|row| (row.clone(), 1));
    let current = state.current.difference(&state.desired).map(|row| (row.clone(), -1));
    desired.chain(current).collect()
}

fn check_reports(tick: Tick, told: &Told, said: &Said) {
    let mut expected = Intake { records: told.events.payloads.len() as u64, ..Intake::default() };
    let mut sampled = BTreeMap::<CellId, BTreeMap<u64, u64>>::new();
    let mut refusals = 0;
    for logged in &told.events.payloads {
        let (short, long): (Vec<_>, Vec<_>) =
            logged.entries.iter().partition(|it| it.key.len() <= RULES.key_bytes_max);
        if logged.broken {
            (expected.refused, refusals) = (expected.refused + 1, refusals + 1);
            continue;
        }
        refusals += usize::from(!long.is_empty());
        expected.too_long += long.len() as u64;
        expected.queries += short.len() as u64;
        for asked in short {
            expected.late += u64::from(asked.time < tick * TICK_MS);
            let key = schemas::Key(asked.key.clone());
            let (_, cell) = told.state.splits.range(..=key).next_back().expect("a first cell");
            if told.state.watched.contains(cell) {
                let hash = hash(&asked.key, Millis(asked.time), asked.op);
                *sampled.entry(*cell).or_default().entry(hash).or_default() += 1;
            }
        }
    }
    let (mut intake, mut samples) = (Intake::default(), BTreeMap::new());
    let mut refused = 0;
    for report in said.reports.iter().filter(|it| it.tick == tick) {
        intake += report.intake;
        refused += report.refusals.len();
        for (cell, sample) in report.samples.clone() {
            let all: &mut dataflows::samples::Sample = samples.entry(cell).or_default();
            all.merge(sample);
        }
    }
    assert_eq!((intake, refused), (expected, refusals), "reports at tick {tick}");
    let kept = |(cell, all): (CellId, BTreeMap<u64, u64>)| {
        (cell, all.into_iter().take(ENTRIES_MAX).collect::<Vec<_>>())
    };
    let samples: BTreeMap<_, Vec<_>> = samples
        .into_iter()
        .map(|(cell, it)| (cell, it.entries().iter().map(|it| (it.hash, it.count)).collect()))
        .collect();
    assert_eq!(samples, sampled.into_iter().map(kept).collect(), "samples at tick {tick}");
}

/// What the windows hold is the history, as far as the widest window reaches.
fn check_slots(story: &Story, said: &Said) {
    let mut by_tick = BTreeMap::<Tick, BTreeMap<(CellId, Tick), Heat>>::new();
    for (now, cell, of, heat) in &said.slots {
        let slots = by_tick.entry(*now).or_default();
        assert_eq!(slots.insert((*cell, *of), *heat), None, "one timely worker has a cell");
    }
    for (now, slots) in by_tick {
        let history = &story.ticks[(now - story.first) as usize].state.history;
        let recent =
            history.iter().filter(|((_, of), heat)| now < of + WIDEST && **heat != Heat::default());
        assert_eq!(slots, recent.map(|(at, heat)| (*at, *heat)).collect(), "slots at tick {now}");
    }
}
