//! Runs decisions against a fluid model of the cluster: load flows where keys lie, nothing queues.
//!
//! ```text
//!  workload ──> cells' cost ──> nodes' overload
//!                   │                 ^ owners
//!                   v                 │
//!               forecast ──> decide ──> splits, joins at once; moves when copied
//! ```
//!
//! A decision is taken at the end of a tick. What it splits is split from the next tick on; a move
//! is copied in the next tick (or more), committed at its end, and counts from the tick after it.

mod learner;
pub mod workload;

use std::collections::VecDeque;

use rand::SeedableRng;
use rand_pcg::Pcg64;
use schemas::{CellId, Epoch, Key, KeySpan, NodeId, RangeId};

use crate::balance::policy::Policy;
use crate::balance::tests::{Case, decide};
use crate::balance::{Budget, Cell, Decision, Likely, Node, Range, Situation};
use crate::forecast::{Forecast, RangeForecast, TARGETS};
use crate::heat::{Heat, Rolling, WIDTHS};
use learner::Learner;
use workload::{Workload, poisson};

/// Keys of the index, a kibibyte each.
pub const KEYS: u32 = 1_000_000;
pub const BYTES_PER_KEY: u64 = 1024;
const COST_US: f64 = 1000.0;
const QUERIES_PER_S: f64 = 2000.0;

/// What the planner believes of the future.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Belief {
    /// No decisions at all.
    Kept,
    /// All quantiles of all targets are the last tick's load.
    Persistence,
    /// A level, and the quantiles of what it erred by.
    Ewma,
}

impl std::fmt::Display for Belief {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Kept => "first",
            Self::Persistence => "reactive",
            Self::Ewma => "quantiles",
        })
    }
}

#[derive(Clone)]
pub struct Scenario {
    pub workload: Workload,
    pub ticks: u64,
    pub tick_ms: u64,
    pub seed: u64,
    pub capacities: Vec<u64>,
    pub policy: Policy,
}

impl Scenario {
    pub fn new(workload: Workload, ticks: u64, tick_ms: u64, seed: u64) -> Self {
        // Total such that the mean offered load is 0.55 of it.
        let unit = (QUERIES_PER_S * COST_US / 0.55 / 10.0) as u64;
        let capacities = (1..=4).map(|it| it * unit).collect();
        Self { workload, ticks, tick_ms, seed, capacities, policy: Policy::default() }
    }
}

/// What came of a run.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    pub overload_node_s: f64,
    pub moves: u64,
    pub splits: u64,
    pub joins: u64,
    pub bytes_moved: u64,
    /// Ranges at the end of each tick.
    pub ranges: Vec<usize>,
    /// Tick of each move.
    pub moved_at: Vec<u64>,
}

struct SimCell {
    id: u64,
    start: u32,
    /// Cost of the last ticks, the newest first.
    cost: VecDeque<f64>,
    level: f64,
}

struct SimRange {
    id: u64,
    start: u32,
    node: usize,
    cool_until: u64,
    join_after: u64,
    /// From this tick on it has a forecast of its own.
    known_from: u64,
    /// Destination, and the tick of the commit.
    moving: Option<(usize, u64)>,
}

pub struct Fluid {
    scenario: Scenario,
    belief: Belief,
    rng: Pcg64,
    tick: u64,
    next_id: u64,
    cells: Vec<SimCell>,
    ranges: Vec<SimRange>,
    churn: VecDeque<(u64, u64)>,
    learner: Learner,
    pub outcome: Outcome,
}

fn key(position: u32) -> Key {
    if position == 0 || position >= KEYS {
        Key::default()
    } else {
        Key(position.to_be_bytes().to_vec())
    }
}

fn position(key: &Key) -> u32 {
    key.0.as_slice().try_into().map_or(0, u32::from_be_bytes)
}

/// Runs a scenario and shows every situation and decision.
pub fn run_checked(
    scenario: &Scenario,
    belief: Belief,
    mut check: impl FnMut(&Case, &Decision),
) -> Outcome {
    let mut fluid = Fluid::new(scenario, belief);
    for tick in 0..scenario.ticks {
        fluid.step(tick, &mut check);
    }
    fluid.outcome
}

impl Fluid {
    fn new(scenario: &Scenario, belief: Belief) -> Self {
        let ranges = 32_u32;
        let total: u64 = scenario.capacities.iter().sum();
        let mut bounds = Vec::new();
        let mut sum = 0;
        for capacity in &scenario.capacities {
            sum += capacity;
            bounds.push((sum as f64 / total as f64 * f64::from(ranges)).round() as u32);
        }
        let mut fluid = Self {
            scenario: scenario.clone(),
            belief,
            rng: Pcg64::seed_from_u64(scenario.seed),
            tick: 0,
            next_id: 1000,
            cells: Vec::new(),
            ranges: Vec::new(),
            churn: VecDeque::new(),
            learner: Learner::default(),
            outcome: Outcome::default(),
        };
        for range in 0..ranges {
            let node = bounds.iter().position(|bound| range < *bound).unwrap();
            let start = (u64::from(KEYS) * u64::from(range) / u64::from(ranges)) as u32;
            let (cool_until, join_after) = (0, 0);
            let id = fluid.id();
            fluid.ranges.push(SimRange {
                id,
                start,
                node,
                cool_until,
                join_after,
                known_from: 0,
                moving: None,
            });
        }
        for cell in 0..ranges * 8 {
            let start = (u64::from(KEYS) * u64::from(cell) / u64::from(ranges * 8)) as u32;
            let id = fluid.id();
            fluid.cells.push(SimCell { id, start, cost: VecDeque::new(), level: 0.0 });
        }
        fluid
    }

    fn id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    fn tick_s(&self) -> f64 {
        self.scenario.tick_ms as f64 / 1000.0
    }

    fn cell_end(&self, index: usize) -> u32 {
        self.cells.get(index + 1).map_or(KEYS, |cell| cell.start)
    }

    fn range_end(&self, index: usize) -> u32 {
        self.ranges.get(index + 1).map_or(KEYS, |range| range.start)
    }

    /// Cells of a range, by index.
    fn cells_of(&self, index: usize) -> std::ops::Range<usize> {
        let (start, end) = (self.ranges[index].start, self.range_end(index));
        self.cells.partition_point(|it| it.start < start)
            ..self.cells.partition_point(|it| it.start < end)
    }

    fn step(&mut self, tick: u64, check: &mut impl FnMut(&Case, &Decision)) {
        self.tick = tick;
        self.ask();
        let loads = self.measure();
        self.commit();
        self.learn();
        if self.belief != Belief::Kept {
            let cells = self.ranges.iter().enumerate().map(|(index, range)| {
                (RangeId(range.id), self.cells_of(index).map(|cell| self.cell(cell)).collect())
            });
            let case = Case { situation: self.situation(&loads), cells: cells.collect() };
            let decision = decide(&case);
            check(&case, &decision);
            self.apply(&decision);
            self.cut_cells();
        }
        self.outcome.ranges.push(self.ranges.len());
    }

    /// Draws what each cell is asked in this tick.
    fn ask(&mut self) {
        let parts = (self.scenario.workload)(self.tick as f64 + 0.5, self.scenario.ticks as f64);
        let queries = QUERIES_PER_S * self.tick_s();
        for index in 0..self.cells.len() {
            let [from, to] = [self.cells[index].start, self.cell_end(index)]
                .map(|it| f64::from(it) / f64::from(KEYS));
            let share: f64 = parts
                .iter()
                .map(|(weight, [a, b])| weight * (to.min(*b) - from.max(*a)).max(0.0) / (b - a))
                .sum();
            let load = poisson(&mut self.rng, queries * share) * COST_US / self.tick_s();
            let cell = &mut self.cells[index];
            cell.level = if self.tick == 0 { load } else { (cell.level + load) / 2.0 };
            cell.cost.push_front(load);
            cell.cost.truncate(*WIDTHS.last().unwrap() as usize);
        }
    }

    /// Adds up the overload of the tick; returns the nodes' loads.
    fn measure(&mut self) -> Vec<f64> {
        let mut loads = vec![0.0; self.scenario.capacities.len()];
        for index in 0..self.ranges.len() {
            let cost: f64 = self.cells_of(index).map(|cell| self.cells[cell].cost[0]).sum();
            let range = &self.ranges[index];
            loads[range.node] += cost;
            if let Some((destination, _)) = range.moving {
                // Copying is charged to both ends, in the tick that it begins in.
                let mib = (self.bytes(index) >> 20) as f64;
                let copying = mib * self.scenario.policy.copy_us_per_mib as f64 / self.tick_s();
                loads[range.node] += copying;
                loads[destination] += copying;
            }
        }
        let excess: f64 = loads
            .iter()
            .zip(&self.scenario.capacities)
            .map(|(load, capacity)| (load / *capacity as f64 - 0.8).max(0.0))
            .sum();
        self.outcome.overload_node_s += excess * self.tick_s();
        loads
    }

    fn commit(&mut self) {
        for range in &mut self.ranges {
            if let Some((destination, _)) = range.moving.take_if(|(_, at)| *at <= self.tick) {
                range.node = destination;
                range.cool_until = self.tick + self.scenario.policy.cool_down_ticks;
                range.join_after = range.cool_until;
            }
        }
    }

    fn bytes(&self, index: usize) -> u64 {
        u64::from(self.range_end(index) - self.ranges[index].start) * BYTES_PER_KEY
    }

    fn learn(&mut self) {
        let mut sum = 0.0;
        let mut costs = Vec::with_capacity(self.cells.len() + 1);
        for cell in &self.cells {
            costs.push((cell.start, sum));
            sum += cell.cost[0];
        }
        costs.push((KEYS, sum));
        let spans = (0..self.ranges.len())
            .map(|index| {
                let level: f64 = self.cells_of(index).map(|cell| self.cells[cell].level).sum();
                ([self.ranges[index].start, self.range_end(index)], level)
            })
            .collect();
        if self.belief == Belief::Ewma {
            self.learner.learn(costs, spans);
        }
    }

    fn forecast(&self, level: f64, last: f64) -> RangeForecast {
        let reads = match self.belief {
            Belief::Kept | Belief::Persistence => {
                Forecast([[crate::quanta::quantise(last as u64); 8]; TARGETS])
            }
            Belief::Ewma => self.learner.forecast(level, self.tick_s()),
        };
        RangeForecast { reads, writes: Forecast::default() }
    }

    fn situation(&self, loads: &[f64]) -> Situation {
        let name = |node: usize| NodeId(format!("n{}", node + 1));
        let nodes = (0..loads.len()).map(|node| {
            let moving =
                |it: &&SimRange| it.moving.is_some_and(|(to, _)| to == node || it.node == node);
            let told = Node {
                capacity_us_per_s: self.scenario.capacities[node],
                takes: true,
                bytes_free: None,
                load_now: loads[node] as u64,
                moves_in_flight: self.ranges.iter().filter(moving).count() as u32,
            };
            (name(node), told)
        });
        let ranges = (0..self.ranges.len()).map(|index| {
            let range = &self.ranges[index];
            let cells = self.cells_of(index);
            let level = cells.clone().map(|cell| self.cells[cell].level).sum();
            let last = cells.map(|cell| self.cells[cell].cost[0]).sum();
            Range {
                id: RangeId(range.id),
                span: KeySpan { start: key(range.start), end: key(self.range_end(index)) },
                epoch: Epoch(0),
                node: name(range.moving.map_or(range.node, |(to, _)| to)),
                settled: range.moving.is_none(),
                cool_until: range.cool_until,
                join_after: range.join_after,
                pinned: false,
                bytes: self.bytes(index),
                forecast: self.forecast(level, last),
                own_forecast: range.known_from <= self.tick,
            }
        });
        let moving = |index: &usize| self.ranges[*index].moving.is_some();
        let hour = 3_600_000 / self.scenario.tick_ms;
        Situation {
            tick: self.tick,
            tick_ms: self.scenario.tick_ms,
            ranges: ranges.collect(),
            nodes: nodes.collect(),
            likely: Likely::default(),
            total: self.forecast(
                self.cells.iter().map(|cell| cell.level).sum(),
                self.cells.iter().map(|cell| cell.cost[0]).sum(),
            ),
            budget: Budget {
                moves_in_flight: (0..self.ranges.len()).filter(moving).count() as u32,
                bytes_in_flight: (0..self.ranges.len())
                    .filter(moving)
                    .map(|it| self.bytes(it))
                    .sum(),
                churn_bytes: self
                    .churn
                    .iter()
                    .filter(|(at, _)| self.tick < at + hour)
                    .map(|(_, bytes)| bytes)
                    .sum(),
            },
            policy: self.scenario.policy.clone(),
        }
    }

    fn cell(&self, index: usize) -> Cell {
        let cell = &self.cells[index];
        let heat = |ticks: u64| {
            let cost: f64 = cell.cost.iter().take(ticks as usize).sum();
            Heat { read_us: (cost * self.tick_s()) as i64, ..Heat::default() }
        };
        Cell {
            id: CellId(cell.id),
            start: key(cell.start),
            heat: Rolling(WIDTHS.map(heat)),
            bytes: u64::from(self.cell_end(index) - cell.start) * BYTES_PER_KEY,
            unsplittable_ppm: 0,
        }
    }

    fn find(&self, start: &Key) -> usize {
        let start = position(start);
        self.ranges
            .iter()
            .position(|range| range.start == start)
            .expect("a range is named by its start")
    }

    fn apply(&mut self, decision: &Decision) {
        let rest = self.tick + self.scenario.policy.cool_down_ticks;
        for chosen in &decision.moves {
            let index = self.find(&chosen.range_start);
            let destination = chosen.destination.0[1..].parse::<usize>().unwrap() - 1;
            let bytes = self.bytes(index);
            let copy_s = bytes as f64 / self.scenario.policy.bandwidth_bytes_per_s as f64;
            let ticks = (copy_s / self.tick_s()).ceil().max(1.0) as u64;
            assert!(self.ranges[index].moving.is_none(), "a range in flight is not touched");
            self.ranges[index].moving = Some((destination, self.tick + ticks));
            self.churn.push_back((self.tick, bytes));
            self.outcome.moves += 1;
            self.outcome.bytes_moved += bytes;
            self.outcome.moved_at.push(self.tick);
        }
        for chosen in &decision.splits {
            let index = self.find(&chosen.range_start);
            for (nth, at) in chosen.at.iter().enumerate() {
                let parent = &self.ranges[index + nth];
                let child = SimRange {
                    id: 0,
                    start: position(at),
                    node: parent.node,
                    cool_until: parent.cool_until,
                    join_after: rest,
                    known_from: self.tick + 1,
                    moving: None,
                };
                let id = self.id();
                self.ranges.insert(index + nth + 1, SimRange { id, ..child });
            }
            self.ranges[index].known_from = self.tick + 1;
            self.ranges[index].join_after = rest;
            self.outcome.splits += 1;
        }
        for chosen in &decision.joins {
            for at in &chosen.at {
                let index = self.find(at);
                let gone = self.ranges.remove(index);
                let kept = &mut self.ranges[index - 1];
                kept.cool_until = kept.cool_until.max(gone.cool_until);
                kept.join_after = rest;
                kept.known_from = self.tick + 1;
            }
            self.outcome.joins += 1;
        }
    }

    /// Hot cells are cut in two, cold neighbours of a range become one.
    fn cut_cells(&mut self) {
        let total: f64 = self.cells.iter().map(|cell| cell.level).sum();
        let bounds = self.ranges.iter().map(|range| range.start).collect::<Vec<_>>();
        let mut index = 0;
        while index < self.cells.len() {
            let (start, end) = (self.cells[index].start, self.cell_end(index));
            let next_end =
                if index + 1 < self.cells.len() { self.cell_end(index + 1) } else { end };
            let next_level = self.cells.get(index + 1).map_or(total, |cell| cell.level);
            if self.cells[index].level > total / 100.0 && end - start > 64 {
                let id = self.id();
                let cell = &mut self.cells[index];
                cell.level /= 2.0;
                cell.cost.iter_mut().for_each(|cost| *cost /= 2.0);
                let (level, cost) = (cell.level, cell.cost.clone());
                self.cells.insert(index + 1, SimCell { id, start: (start + end) / 2, cost, level });
                index += 1;
            } else if self.cells[index].level + next_level < total / 500.0
                && next_end - start <= KEYS / 256
                && bounds.binary_search(&end).is_err()
            {
                let gone = self.cells.remove(index + 1);
                let cell = &mut self.cells[index];
                cell.level += gone.level;
                cell.cost.iter_mut().zip(&gone.cost).for_each(|(cost, more)| *cost += more);
                continue;
            }
            index += 1;
        }
    }
}
