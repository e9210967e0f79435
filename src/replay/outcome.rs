//! Puts what happened in a replay beside what would have happened otherwise: report and picture.

use std::collections::BTreeMap;

use schemas::{Key, NodeId};

use super::foresight::Forecast;
use super::hindsight::hindsight;
use super::history::History;
use super::leads::{Leads, leads};
use super::plot::{Frame, KeyAxis, Moved, Picture, PictureNode};
use super::report::{NodesFrom, Overload, Report, Settled};
use super::tally::{Tally, overload};
use crate::assignment::birth;

/// What a replay was of.
#[derive(Clone, Debug)]
pub struct Subject {
    pub name: String,
    pub seed: Option<u64>,
    pub tick_ms: u64,
    pub nodes: BTreeMap<NodeId, u64>,
    pub nodes_from: NodesFrom,
    /// Where the ranges of the first assignment begin, but the first.
    pub split_points: Vec<Key>,
    pub keys: KeyAxis,
    pub bytes: u64,
}

impl Subject {
    /// Returns the numbers: as it was, with the first assignment kept, with the best static one, and
    /// reacting only.
    pub fn report(&self, isotherm: &History, reactive: Option<&History>) -> Report {
        let capacities: Vec<u64> = self.nodes.values().copied().collect();
        let best = hindsight(&isotherm.tally, &capacities, self.tick_ms);
        let loads = isotherm.tally.by_owner(&self.first_owners(&isotherm.tally), capacities.len());
        let first = loads.iter().map(|it| overload(it, &capacities, self.tick_ms)).sum();
        let lead = Leads::of(&leads(isotherm, self.tick_ms, &self.nodes, &isotherm.lefts));
        let lead_s = lead.median_ticks.map(|it| it * self.tick_ms as f64 / 1e3);
        Report {
            source: self.name.clone(),
            seed: self.seed,
            tick_ms: self.tick_ms,
            nodes: self.nodes.clone(),
            nodes_from: self.nodes_from,
            ticks: isotherm.ticks.len() as u64,
            records: isotherm.records,
            queries: isotherm.queries,
            late: isotherm.late,
            dead: isotherm.dead.values().sum(),
            dead_by_reason: isotherm.dead.clone(),
            overload_node_seconds: Overload {
                first,
                hindsight: best.map(|it| it.overload_node_seconds),
                reactive: reactive.map(History::overload_node_seconds),
                isotherm: isotherm.overload_node_seconds(),
            },
            overload_settled: Settled {
                reactive: reactive.and_then(History::overload_settled),
                isotherm: isotherm.overload_settled(),
            },
            moves: isotherm.moves,
            splits: isotherm.splits,
            joins: isotherm.joins,
            ranges: isotherm.ticks.last().map_or(0, |it| it.ranges.len() as u64),
            bytes_moved: isotherm.bytes_moved,
            bytes: self.bytes,
            unsplittable_share: isotherm.unsplittable_ppm as f64 / 1e6,
            plan_digest: isotherm.plan_digest.clone(),
            lead,
            forecast: Forecast { lead_s, ..isotherm.forecast.clone() },
        }
    }

    pub fn picture(&self, history: &History, report: &Report) -> Picture {
        let owners = self.first_owners(&history.tally);
        let capacities: Vec<u64> = self.nodes.values().copied().collect();
        let firsts = history.tally.by_owner(&owners, capacities.len());
        let number = |node: &NodeId| self.nodes.keys().position(|it| it == node).unwrap_or(0);
        let ratio =
            |us: u64, capacity: u64| us as f64 * 1000.0 / (self.tick_ms as f64 * capacity as f64);
        let mut moves = Vec::new();
        let mut frames = Vec::new();
        for (i, told) in history.ticks.iter().enumerate() {
            moves.extend(told.moves.iter().map(|(start, end, _)| Moved {
                frame: i,
                start: self.keys.place(start),
                end: if end.0.is_empty() { 1.0 } else { self.keys.place(end) },
            }));
            let sums = history.tally.ticks().get(i);
            let first = firsts.get(i);
            let loads = told.loads.values().zip(&capacities);
            frames.push(Frame {
                heat: sums.cloned().unwrap_or_default(),
                ranges: match told.ranges.is_empty() {
                    true => vec![(0.0, 0)],
                    false => told
                        .ranges
                        .iter()
                        .map(|(start, node)| (self.place(start), number(node)))
                        .collect(),
                },
                loads: loads.map(|(load, capacity)| *load as f64 / *capacity as f64).collect(),
                loads_first: first
                    .map(|it| it.iter().zip(&capacities).map(|(us, it)| ratio(*us, *it)).collect())
                    .unwrap_or_default(),
            });
        }
        let rows = std::iter::once(0.0)
            .chain(history.tally.boundaries().iter().map(|it| self.keys.place(it)))
            .collect();
        Picture {
            name: self.name.clone(),
            tick_ms: self.tick_ms,
            nodes: self
                .nodes
                .iter()
                .map(|(id, it)| PictureNode { name: id.0.clone(), capacity_us_per_s: *it })
                .collect(),
            rows,
            frames,
            moves,
            splits: history.splits,
            joins: history.joins,
            bytes_moved: history.bytes_moved,
            overload: report.overload_node_seconds.isotherm,
            overload_first: report.overload_node_seconds.first,
            ahead: None,
        }
    }

    fn place(&self, key: &Key) -> f64 {
        if key.0.is_empty() { 0.0 } else { self.keys.place(key) }
    }

    /// Who owns each interval of the tally in the first assignment.
    fn first_owners(&self, tally: &Tally) -> Vec<usize> {
        let capacities: Vec<u64> = self.nodes.values().copied().collect();
        let shares = birth::shares(self.split_points.len() + 1, &capacities);
        let starts = std::iter::once(Key::default()).chain(tally.boundaries().iter().cloned());
        starts.map(|it| shares[self.split_points.partition_point(|split| *split <= it)]).collect()
    }
}
