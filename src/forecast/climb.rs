//! Has the ladder answer for the planner's ranges: loads in microseconds of service in, quantiles out.
//!
//! ```text
//!  ranges in key order, births ──> rows of the ladder ──┐
//!  loads of the tick ÷ cost of an operation ────────────┴─> ladder ──> fan × cost of an operation
//! ```
//!
//! * **In operations.** The ladder counts operations of the mean cost: it knows what chance does to those.
//! * **Of experience alone.** For what the ladder has none it says nothing, and another rung answers.

use std::collections::HashMap;

use dataflows::forecast::{MEAN30, TARGETS};
use schemas::RangeId;
use schemas::heatmap::LEVELS;
use serde::{Deserialize, Serialize};

use super::candidates::Candidate;
use super::features::load;
use super::gru::Network;
use super::ladder::{Ladder, Model, Origination};
use super::{Born, OPS, model};

/// At most so many ranges a tick, in turn, tell what came of their answers.
const SAMPLED_MAX: usize = 256;

/// A fit takes effect so many ticks after it was begun.
const REFIT_LAG: u64 = 5;

/// Loads at each target and level, in microseconds a tick.
pub type Loads = [Option<[f64; LEVELS.len()]>; TARGETS];

/// The ladder, and whose its rows are.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Climb {
    /// In the order of their keys.
    ids: Vec<RangeId>,
    ladder: Ladder,
    /// Mean cost of an operation, in microseconds.
    unit_us: [f64; OPS],
}

impl Climb {
    pub fn new(tick_ms: u64) -> Self {
        let mut ladder = Ladder::new(0, tick_ms, &[0, 1]);
        ladder.sample(SAMPLED_MAX);
        ladder.refit(REFIT_LAG);
        let mut res = Self { ids: Vec::new(), ladder, unit_us: [1.0; OPS] };
        res.load_network();
        res
    }

    /// After a restart: the network's numbers are in no snapshot.
    pub fn load_network(&mut self) {
        self.ladder.set_network(Network::new(&model::Model::shipped().weights));
    }

    /// Takes in a tick: the ranges there are, in the order of their keys, those of them that were born, and
    /// the load of each in microseconds.
    pub fn observe(
        &mut self,
        order: &[RangeId],
        born: &[Born],
        unit_us: [f64; OPS],
        load_us: impl Fn(&RangeId) -> [u64; OPS],
    ) {
        self.unit_us = unit_us;
        if order != self.ids || !born.is_empty() {
            self.regroup(order, born);
        }
        let loads: Vec<_> = order.iter().map(|it| self.operations(&load_us(it))).collect();
        self.ladder.answer(&loads);
    }

    fn operations(&self, load_us: &[u64; OPS]) -> [f32; OPS] {
        std::array::from_fn(|op| (load_us[op] as f64 / self.unit_us[op]) as f32)
    }

    fn regroup(&mut self, order: &[RangeId], born: &[Born]) {
        let before: HashMap<_, _> = self.ids.iter().zip(0..).collect();
        let born: HashMap<_, _> = born.iter().map(|it| (it.id, it)).collect();
        let ranges: Vec<_> =
            order.iter().map(|id| self.origination(id, born.get(id).copied(), &before)).collect();
        self.ladder.regroup(&ranges);
        self.ids = order.to_vec();
    }

    fn origination(
        &self,
        id: &RangeId,
        born: Option<&Born>,
        before: &HashMap<&RangeId, usize>,
    ) -> Origination {
        let Some(born) = born else {
            let unknown = Origination::Born { parents: Vec::new(), history: Vec::new() };
            return before.get(id).copied().map_or(unknown, Origination::Kept);
        };
        let parents = born.parents.iter();
        let parents: Vec<_> =
            parents.filter_map(|(id, ppm)| Some((*before.get(id)?, *ppm as f32 / 1e6))).collect();
        let history = born.since(self.ladder.book().ticks());
        let history = history.iter().map(|it| self.operations(it)).collect();
        Origination::Born { parents, history }
    }

    /// What is forecast of each range, reads and writes, in the order of their keys.
    pub fn answers(&self) -> impl Iterator<Item = (RangeId, [Loads; OPS])> + '_ {
        let loads = move |at: usize| {
            std::array::from_fn(|op| std::array::from_fn(|target| self.loads(at, op, target)))
        };
        self.ids.iter().enumerate().map(move |(at, id)| (*id, loads(at)))
    }

    fn loads(&self, at: usize, op: usize, target: usize) -> Option<[f64; LEVELS.len()]> {
        let fan = self.ladder.answers().calibrated(at * OPS + op, target, Model::Shipped)?;
        Some(fan.map(|root| f64::from(load(root)) * self.unit_us[op]))
    }

    /// Who answers for the mean of the next thirty ticks of reads, on which decisions rest.
    pub fn leader(&self) -> Option<Candidate> {
        self.ladder.answers().leader(0, MEAN30)
    }
}
