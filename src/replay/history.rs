//! Recounts what happened in a replay, from the records and the commands alone.
//!
//! * **Independent.** Load is summed up from the queries of the box and from who owned their keys when
//!   the tick began; nothing of the planner's heat is looked at.

use std::collections::BTreeMap;

use dataflows::Tick;
use dataflows::tally::{COST_US_MAX, Costs};
use schemas::assignment::Assignment;
use schemas::query_log::{self, Op, QueriesLogged, QueryLogged};
use schemas::wire::Record as _;
use schemas::{Key, NodeId};
use sha2::{Digest, Sha256};

use super::foresight::Forecast;
use super::leads::Left;
use super::tally::{Tally, overload};
use crate::assignment::birth;
use crate::foreign::translator::Translator;
use crate::kafka::source::FilledBox;
use crate::planner::machine::TickOutputs;
use crate::planner::snapshot::hex;
use crate::tick::tick_box::TickBox;

/// From this tick of a run on, what comes can be known.
pub const SETTLED_TICKS: usize = 60;

/// What happened, tick by tick.
#[derive(Clone, Debug)]
pub struct History {
    /// Load over the grid; of the queries, without copying.
    pub tally: Tally,
    pub ticks: Vec<TickTold>,
    pub records: u64,
    pub queries: u64,
    pub late: u64,
    /// Records that could not be used, by reason.
    pub dead: BTreeMap<String, u64>,
    pub moves: u64,
    pub splits: u64,
    pub joins: u64,
    pub plans: u64,
    pub bytes_moved: u64,
    /// Mean part of the load that no split can help, in millionths.
    pub unsplittable_ppm: u64,
    /// SHA-256 over the digests of all plans, in hexadecimal.
    pub plan_digest: String,
    /// What the last tick says of its forecast, and on whose all moves rest.
    pub forecast: Forecast,
    /// Moves whose destination became active, for who counts them: what a tick leads to does not tell.
    pub lefts: Vec<Left>,
}

/// One tick.
#[derive(Clone, Debug)]
pub struct TickTold {
    pub tick: Tick,
    /// Load of each node with what copying takes, in microseconds a second.
    pub loads: BTreeMap<NodeId, u64>,
    /// Where ranges begin and who owns them, once the tick is decided.
    pub ranges: Vec<(Key, NodeId)>,
    /// Moves that began: the range's ends, and who is to have it.
    pub moves: Vec<(Key, Key, NodeId)>,
    pub overload_node_seconds: f64,
}

impl TickTold {
    /// A tick in which nothing happened.
    pub fn of(tick: Tick) -> Self {
        Self {
            tick,
            loads: BTreeMap::new(),
            ranges: Vec::new(),
            moves: Vec::new(),
            overload_node_seconds: 0.0,
        }
    }
}

impl History {
    /// The overload area of all ticks.
    pub fn overload_node_seconds(&self) -> f64 {
        self.ticks.iter().map(|it| it.overload_node_seconds).sum()
    }

    /// The overload area of the ticks from [`SETTLED_TICKS`] on; `None` if there is none.
    pub fn overload_settled(&self) -> Option<f64> {
        let settled = self.ticks.get(SETTLED_TICKS..)?;
        (!settled.is_empty()).then(|| settled.iter().map(|it| it.overload_node_seconds).sum())
    }
}

/// Counts along.
pub struct Recount {
    pub history: History,
    nodes: BTreeMap<NodeId, u64>,
    costs: Costs,
    tick_ms: u64,
    loads_us: BTreeMap<NodeId, u64>,
    /// Who owns what before anything is assigned: as the first assignment has it.
    firsts: BTreeMap<Key, NodeId>,
    digests: Sha256,
    unsplittable: (u128, u128),
}

impl Recount {
    pub fn new(
        grid: Vec<Key>,
        nodes: BTreeMap<NodeId, u64>,
        split_points: &[Key],
        costs: Costs,
        tick_ms: u64,
    ) -> Self {
        let starts = std::iter::once(Key::default()).chain(split_points.iter().cloned());
        let capacities: Vec<u64> = nodes.values().copied().collect();
        let ids: Vec<&NodeId> = nodes.keys().collect();
        let owners = birth::shares(split_points.len() + 1, &capacities);
        let firsts = starts.zip(owners.into_iter().map(|it| ids[it].clone())).collect();
        let history = History {
            tally: Tally::new(grid, costs.read_us, costs.write_us),
            ticks: Vec::new(),
            records: 0,
            queries: 0,
            late: 0,
            dead: BTreeMap::new(),
            moves: 0,
            splits: 0,
            joins: 0,
            plans: 0,
            bytes_moved: 0,
            unsplittable_ppm: 0,
            plan_digest: String::new(),
            forecast: Forecast::default(),
            lefts: Vec::new(),
        };
        let (loads_us, digests, unsplittable) = (BTreeMap::new(), Sha256::new(), (0, 0));
        Self { history, nodes, costs, tick_ms, loads_us, firsts, digests, unsplittable }
    }

    /// Counts the records of a tick, by who owns their keys now; `copy_us` comes on top.
    pub fn filled(
        &mut self,
        filled: &FilledBox,
        translator: &Translator,
        owned: &BTreeMap<Key, Assignment>,
        copy_us: &BTreeMap<NodeId, u64>,
    ) {
        let tick = filled.bounds.tick;
        self.history.tally.pass(tick);
        self.loads_us = copy_us.clone();
        for record in filled.records.iter().filter(|it| it.at.topic == QueriesLogged::TOPIC) {
            let Some(value) = &record.value else { continue };
            self.history.records += 1;
            let mut queries = Vec::new();
            let Ok(own) = translator.own(value, record.stamp) else { continue };
            let read = query_log::read(&own, |it| {
                let (time, key) = (it.time, Key(it.key.to_vec()));
                let (op, cost_us, bytes, estimated) = (it.op, it.cost_us, it.bytes, it.estimated);
                queries.push(QueryLogged { time, key, op, cost_us, bytes, estimated });
            });
            if read.is_err() {
                continue;
            }
            for query in queries {
                let cost_us = query.cost_us.unwrap_or(match query.op {
                    Op::Read | Op::Unknown => self.costs.read_us,
                    Op::Scan => self.costs.scan_us,
                    Op::Write => self.costs.write_us,
                });
                // As the planner counts it.
                let cost_us = cost_us.min(COST_US_MAX);
                let owner = match owned.is_empty() {
                    true => self.firsts.range(..=&query.key).next_back().map(|(_, it)| it),
                    false => owned.range(..=&query.key).next_back().map(|(_, it)| &it.node),
                };
                if let Some(node) = owner {
                    let load = self.loads_us.entry(node.clone()).or_default();
                    *load = load.saturating_add(cost_us);
                }
                self.history.tally.add(tick, &query);
            }
        }
    }

    /// Takes in what the tick led to, and what is owned behind it.
    pub fn committed(
        &mut self,
        bounds: &TickBox,
        outputs: &TickOutputs,
        owned: &BTreeMap<Key, Assignment>,
    ) {
        let history = &mut self.history;
        let done = &outputs.done;
        history.queries += done.queries;
        history.late += done.late;
        for (reason, n) in outputs.dead() {
            *history.dead.entry(reason).or_default() += n;
        }
        let load = |node: &NodeId| self.loads_us.get(node).copied().unwrap_or(0);
        let loads_us: Vec<u64> = self.nodes.keys().map(load).collect();
        let capacities: Vec<u64> = self.nodes.values().copied().collect();
        let total: u128 = loads_us.iter().map(|it| u128::from(*it)).sum();
        self.unsplittable.0 += total * u128::from(outputs.unsplittable_ppm);
        self.unsplittable.1 += total;
        history.unsplittable_ppm = (self.unsplittable.0 / self.unsplittable.1.max(1)) as u64;
        let moves_by_rung = std::mem::take(&mut history.forecast.moves_by_rung);
        history.forecast = Forecast { moves_by_rung, ..Forecast::of(done) };
        let mut moves = Vec::new();
        if let Some(plan) = &outputs.plan {
            history.plans += 1;
            let n = plan.moves.len() as u64;
            history.moves += n;
            if 0 < n {
                *history.forecast.moves_by_rung.entry(done.rung.clone()).or_default() += n;
            }
            history.splits += plan.splits.len() as u64;
            history.joins += plan.joins.len() as u64;
            self.digests.update(plan.digest.as_bytes());
            moves.extend(
                plan.moves.iter().map(|it| {
                    (it.range_start.clone(), it.range_end.clone(), it.destination.clone())
                }),
            );
        }
        history.plan_digest = hex(&self.digests.clone().finalize());
        let per_second = |us: &u64| {
            let us_per_s = u128::from(*us) * 1_000 / u128::from(self.tick_ms);
            u64::try_from(us_per_s).unwrap_or(u64::MAX)
        };
        history.ticks.push(TickTold {
            tick: bounds.tick,
            loads: self.nodes.keys().cloned().zip(loads_us.iter().map(per_second)).collect(),
            ranges: owned.iter().map(|(start, it)| (start.clone(), it.node.clone())).collect(),
            moves,
            overload_node_seconds: overload(&loads_us, &capacities, self.tick_ms),
        });
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use schemas::Millis;
    use schemas::wire::encode;

    use super::*;
    use crate::foreign::form::Form;
    use crate::kafka::Record;
    use crate::tick::machine::Origin;
    use crate::tick::tick_box::TopicPartition;

    /// Of a tick of half a second.
    fn bounds() -> TickBox {
        TickBox {
            tick: 3,
            tick_ms: 500,
            grace_ms: 0,
            span_records_max: 10,
            spans: BTreeMap::new(),
            stale: false,
            from_future: BTreeSet::new(),
        }
    }

    #[test]
    fn cost_that_cannot_be_is_cut_off_as_the_planner_does() {
        // The most that a record can say, and the most that a person can configure.
        let costs = Costs { read_us: u64::MAX, scan_us: 1, write_us: u64::MAX };
        let asked = [(Op::Read, Some(i64::MAX as u64)), (Op::Read, None), (Op::Write, None)];
        let query = |(op, cost_us)| {
            let (time, key) = (Millis(5), Key(vec![7]));
            QueryLogged { time, key, op, cost_us, bytes: 0, estimated: false }
        };
        let logged = QueriesLogged { queries: asked.map(query).to_vec() };
        let bounds = bounds();
        let record = |offset| Record {
            at: TopicPartition { topic: QueriesLogged::TOPIC, partition: 0 },
            offset,
            stamp: Millis(1_500),
            key: None,
            value: Some(encode(&logged)),
            headers: Vec::new(),
        };
        let filled = FilledBox {
            bounds: bounds.clone(),
            origin: Origin::Chosen,
            records: (0..2).map(record).collect(),
            from_future: Vec::new(),
        };
        let n1 = NodeId("n1".into());
        let nodes = [(n1.clone(), 1_000_000)].into();
        let mut recount = Recount::new(Vec::new(), nodes, &[], costs, 500);
        let none = BTreeMap::new();
        recount.filled(&filled, &Translator::new(&Form::default()), &BTreeMap::new(), &none);
        let outputs = TickOutputs { unsplittable_ppm: 250_000, ..TickOutputs::default() };
        recount.committed(&bounds, &outputs, &BTreeMap::new());
        let history = recount.history;
        assert_eq!(history.tally.ticks(), [[6 * COST_US_MAX]]);
        assert_eq!(history.ticks[0].loads[&n1], 12 * COST_US_MAX);
        assert_eq!(history.unsplittable_ppm, 250_000);
    }

    #[test]
    fn load_beyond_all_numbers_is_the_largest() {
        let costs = Costs { read_us: 1, scan_us: 1, write_us: 1 };
        let nodes: BTreeMap<_, _> = ["n1", "n2"].map(|it| (NodeId(it.into()), 7)).into();
        let mut recount = Recount::new(Vec::new(), nodes.clone(), &[], costs, 500);
        recount.loads_us = nodes.keys().map(|it| (it.clone(), u64::MAX)).collect();
        let bounds = bounds();
        let outputs = TickOutputs { unsplittable_ppm: 250_000, ..TickOutputs::default() };
        recount.committed(&bounds, &outputs, &BTreeMap::new());
        let told = &recount.history.ticks[0];
        assert!(told.loads.values().all(|it| *it == u64::MAX), "{told:?}");
        assert!(told.overload_node_seconds.is_finite(), "{told:?}");
        assert_eq!(recount.history.unsplittable_ppm, 250_000);
    }

    #[test]
    fn settled_are_the_ticks_from_the_sixtieth_on() {
        let costs = Costs { read_us: 1, scan_us: 1, write_us: 1 };
        let nodes = [(NodeId("n1".into()), 1)].into();
        let mut history = Recount::new(Vec::new(), nodes, &[], costs, 1_000).history;
        for tick in 0..62_u32 {
            let overload_node_seconds = f64::from(tick);
            history.ticks.push(TickTold { overload_node_seconds, ..TickTold::of(tick.into()) });
            let settled = history.overload_settled();
            assert_eq!(settled.is_some(), SETTLED_TICKS <= tick as usize, "{settled:?}, {tick}");
        }
        assert_eq!(
            (history.overload_settled(), history.overload_node_seconds()),
            (Some(121.0), 1891.0)
        );
    }
}
