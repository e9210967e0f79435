//! Tells how early moves were: whether a range had left before its node would have been overloaded.
//!
//! ```text
//!  load of the source        ____/‾‾‾‾ with what has left it added back
//!            0.8 ───────────/──────────
//!                START  ACTIVE  onset
//!                         ├─ lead ─┤
//! ```
//!
//! The *onset* is the first tick since START in which the load of the source, with the later load of the
//! ranges that have left it added back, passes 0.8 of its capacity. A move without an onset within
//! [`ONSET_TICKS_MAX`] ticks of ACTIVE is a *false move*.

use std::collections::BTreeMap;

use dataflows::Tick;
use schemas::{Key, KeySpan, NodeId};
use serde::{Deserialize, Serialize};

use super::history::History;
use super::tally::WARM_PERMILLE;
use crate::keys::{WHOLE, fraction};

/// An overload that comes later has nothing to do with the move.
pub const ONSET_TICKS_MAX: Tick = 60;

/// A move whose destination became active.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Left {
    pub span: KeySpan,
    pub source: NodeId,
    /// The tick that decided it, and the one in which it became active.
    pub start: Tick,
    pub active: Tick,
}

/// How early one was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lead {
    /// So many ticks from ACTIVE to the onset; none or less: it was too late.
    Ticks(i64),
    /// There was none.
    NoOnset,
    /// The run was over before that could be said.
    Unknown,
}

/// How early moves were.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Leads {
    pub before: u64,
    pub after: u64,
    /// Without an onset within so long.
    pub false_moves: u64,
    pub unknown: u64,
    pub median_ticks: Option<f64>,
}

/// Tells of each move how early it was. `nodes` are capacities in microseconds a second.
pub fn leads(
    history: &History,
    tick_ms: u64,
    nodes: &BTreeMap<NodeId, u64>,
    moves: &[Left],
) -> Vec<Lead> {
    let lead = |it: &Left| match nodes.get(&it.source) {
        Some(capacity) => lead(history, tick_ms, *capacity, moves, it),
        None => Lead::Unknown,
    };
    moves.iter().map(lead).collect()
}

fn lead(history: &History, tick_ms: u64, capacity: u64, moves: &[Left], one: &Left) -> Lead {
    let from_here = |it: &&Left| it.source == one.source && one.start <= it.active;
    let gone: Vec<_> = moves.iter().filter(from_here).collect();
    let last = history.ticks.last().map_or(0, |it| it.tick);
    for (i, told) in history.ticks.iter().enumerate() {
        if told.tick < one.start {
            continue;
        }
        if one.active + ONSET_TICKS_MAX < told.tick {
            return Lead::NoOnset;
        }
        let own = told.loads.get(&one.source).copied().unwrap_or_default();
        let gone = gone.iter().filter(|it| it.active < told.tick);
        let back: u128 = gone.map(|it| u128::from(load(history, tick_ms, i, &it.span))).sum();
        let warm = u128::from(capacity) * u128::from(WARM_PERMILLE);
        if warm < (u128::from(own) + back) * 1_000 {
            return Lead::Ticks(told.tick as i64 - one.active as i64);
        }
    }
    if one.active + ONSET_TICKS_MAX <= last { Lead::NoOnset } else { Lead::Unknown }
}

/// Load of an interval of keys in a tick, in microseconds a second: even within each interval of the tally.
fn load(history: &History, tick_ms: u64, tick: usize, span: &KeySpan) -> u64 {
    let Some(sums) = history.tally.ticks().get(tick) else { return 0 };
    let boundaries = history.tally.boundaries();
    let first = boundaries.partition_point(|it| *it <= span.start);
    let mut us = 0_u128;
    for (i, sum) in sums.iter().enumerate().skip(first) {
        let start = i.checked_sub(1).map_or_else(Key::default, |it| boundaries[it].clone());
        if !span.end.0.is_empty() && span.end <= start {
            break;
        }
        let end = boundaries.get(i).cloned().unwrap_or_default();
        let interval = KeySpan { start, end };
        let part = fraction(&interval, &span.end, true) - fraction(&interval, &span.start, false);
        us += u128::from(*sum) * u128::from(part) / u128::from(WHOLE);
    }
    u64::try_from(us * 1_000 / u128::from(tick_ms)).unwrap_or(u64::MAX)
}

impl Leads {
    pub fn of(leads: &[Lead]) -> Self {
        let mut ticks: Vec<i64> = Vec::new();
        let mut res = Self::default();
        for it in leads {
            match it {
                Lead::Ticks(it) => {
                    ticks.push(*it);
                    *(if 0 < *it { &mut res.before } else { &mut res.after }) += 1;
                }
                Lead::NoOnset => res.false_moves += 1,
                Lead::Unknown => res.unknown += 1,
            }
        }
        ticks.sort_unstable();
        res.median_ticks = middle(&ticks).map(|it| it as f64);
        res
    }

    /// Such as `median 4 ticks: 30 in time, 2 late, 10 false, 3 open`: of an open one it is not known yet.
    pub fn told(&self) -> String {
        let Self { before, after, false_moves, unknown, median_ticks } = self;
        let median = median_ticks.map_or_else(String::new, |it| format!("median {it} ticks: "));
        format!("{median}{before} in time, {after} late, {false_moves} false, {unknown} open")
    }
}

/// The median, the upper one of two.
pub fn middle<T: Copy>(sorted: &[T]) -> Option<T> {
    sorted.get(sorted.len() / 2).copied()
}

#[cfg(test)]
mod tests {
    use dataflows::tally::Costs;
    use schemas::Millis;
    use schemas::query_log::{Op, QueryLogged};

    use super::super::history::{Recount, TickTold};
    use super::super::key;
    use super::*;

    /// Of a node of capacity 1,000 a second: what was asked in each tick of the keys that stay, and of
    /// those from 50 on, which belong to it until `active`.
    fn check(asked: &[(u64, u64)], start: Tick, active: Tick, expected: Lead) {
        let n = |name: &str| NodeId(name.into());
        let nodes: BTreeMap<_, _> = [(n("n1"), 1_000), (n("n2"), 1_000)].into();
        let costs = Costs { read_us: 1, scan_us: 1, write_us: 1 };
        let grid = [25, 40, 60, 75].map(key).to_vec();
        let mut history = Recount::new(grid, nodes.clone(), &[], costs, 1_000).history;
        for (tick, (stays, leaves)) in (100..).zip(asked) {
            history.tally.pass(tick);
            for (index, cost_us) in [(10, stays), (50, leaves)] {
                let (time, key, op) = (Millis(0), key(index), Op::Read);
                let cost_us = Some(*cost_us);
                let query = QueryLogged { time, key, op, cost_us, bytes: 0, estimated: false };
                history.tally.add(tick, &query);
            }
            let own = if tick <= active { stays + leaves } else { *stays };
            history.ticks.push(TickTold { loads: [(n("n1"), own)].into(), ..TickTold::of(tick) });
        }
        let span = KeySpan { start: key(40), end: key(75) };
        let left = Left { span, source: n("n1"), start, active };
        assert_eq!(leads(&history, 1_000, &nodes, &[left]), [expected], "{asked:?}");
    }

    #[test]
    fn lead_is_from_active_to_the_overload_that_would_have_been() {
        // With what has left it, the node passes 800 in tick 105.
        let asked = [(300, 300), (300, 400), (300, 400), (300, 450), (300, 500), (300, 501)];
        check(&asked, 101, 102, Lead::Ticks(3));
        // It had too much to do from tick 101 on, and the move took until 103.
        check(&[(300, 600); 6], 101, 103, Lead::Ticks(-2));
        check(&[(300, 500); 6], 101, 103, Lead::Unknown);
        check(&[(300, 500); 70], 101, 103, Lead::NoOnset);
        let late: Vec<_> = (0..70).map(|it| (300, if it < 65 { 500 } else { 600 })).collect();
        check(&late, 101, 103, Lead::NoOnset);
    }

    #[test]
    fn load_beyond_all_numbers_is_an_onset() {
        let costs = Costs { read_us: 1, scan_us: 1, write_us: 1 };
        let nodes: BTreeMap<_, _> = [(NodeId("n1".into()), u64::MAX)].into();
        let mut history = Recount::new(vec![key(50)], nodes.clone(), &[], costs, 1).history;
        for tick in 100..104 {
            for _ in 0..4 {
                let (time, key, op, cost_us) = (Millis(0), key(60), Op::Read, Some(u64::MAX));
                let query = QueryLogged { time, key, op, cost_us, bytes: 0, estimated: false };
                history.tally.add(tick, &query);
            }
            let loads = if tick < 103 { BTreeMap::new() } else { nodes.clone() };
            history.ticks.push(TickTold { loads, ..TickTold::of(tick) });
        }
        let span = KeySpan { start: key(50), end: Key::default() };
        let left = Left { span, source: NodeId("n1".into()), start: 101, active: 102 };
        assert_eq!(leads(&history, 1, &nodes, &[left]), [Lead::Ticks(1)]);
    }

    #[test]
    fn load_of_a_part_of_an_interval_is_its_part() {
        let costs = Costs { read_us: 1, scan_us: 1, write_us: 1 };
        let nodes = [(NodeId("n1".into()), 1)].into();
        let mut history = Recount::new([40, 60].map(key).to_vec(), nodes, &[], costs, 500).history;
        let (time, key_50, op, cost_us) = (Millis(0), key(50), Op::Read, Some(800));
        let query = QueryLogged { time, key: key_50, op, cost_us, bytes: 0, estimated: false };
        history.tally.add(7, &query);
        let load =
            |start, end| load(&history, 500, 0, &KeySpan { start: key(start), end: key(end) });
        assert_eq!([load(40, 60), load(45, 50), load(0, 50), load(60, 90)], [1_600, 400, 800, 0]);
        let all = KeySpan { start: Key::default(), end: Key::default() };
        assert_eq!(super::load(&history, 500, 0, &all), 1_600);
    }
}
