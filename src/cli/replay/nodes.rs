//! Finds out which nodes there are in a replay, and what each can do.
//!
//! ```text
//!  --nodes, --capacity ──────────────────────────────────┐
//!  node_capacity, as it stood when the span began ──> or ├─> capacities, bytes held
//!  1:2:3:4, from the load ───────────────────────────> or ┘
//! ```
//!
//! * **No invented capacity.** A node that reports none is named, and left out.
//! * **Judged as the planner judges.** What it would refuse of a report is refused here.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use anyhow::Context;
use dataflows::Tick;
use schemas::node_capacity::NodeCapacity;
use schemas::wire::{Record as _, decode};
use schemas::{Millis, NodeId};
use tracing::warn;

use super::args::ReplayArgs;
use super::log::Extent;
use crate::cli::args::Capacities;
use crate::cli::exit::{Exit, Fault};
use crate::config::Config;
use crate::kafka::Record;
use crate::kafka::tail::{Start, has_topic, scan};
use crate::planner::fleet::{Fleet, Warning};
use crate::replay::driver::Log;
use crate::replay::report::NodesFrom;

/// What the load should be of the capacity of all nodes together, where neither is given.
const LOAD_PERCENT: u64 = 55;

/// The nodes of a replay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Nodes {
    /// In microseconds of service a second.
    pub capacities: BTreeMap<NodeId, u64>,
    pub from: NodesFrom,
    /// All that they hold, if they tell.
    pub bytes: Option<u64>,
}

/// The nodes by the flags, else those of the cluster that is read, else four of capacities 1:2:3:4.
pub fn nodes(config: &Config, args: &ReplayArgs, extent: &Extent) -> Result<Nodes, Box<Fault>> {
    if args.nodes.is_none() && args.capacity.is_none() && matches!(extent.log, Log::Topic { .. }) {
        let found = reported(config, extent).context("take the nodes from node_capacity")?;
        if let Some(found) = found.into_nodes()? {
            return Ok(found);
        }
        warn!("no node has reported on node_capacity before the end of the span; four are assumed");
    }
    Ok(Nodes { capacities: stated(args, extent.mean_load)?, from: from(args), bytes: None })
}

fn from(args: &ReplayArgs) -> NodesFrom {
    match args.nodes.is_some() || args.capacity.is_some() {
        true => NodesFrom::Stated,
        false => NodesFrom::Default,
    }
}

fn stated(args: &ReplayArgs, mean_load: u64) -> Result<BTreeMap<NodeId, u64>, Box<Fault>> {
    shared_out(args.nodes, args.capacity.clone(), mean_load)
}

/// As many nodes as the flags say, such that the load is 0.55 of them where it is not stated; named n1 and
/// so on, with capacities in microseconds a second.
pub fn shared_out(
    nodes: Option<u32>,
    capacity: Option<Capacities>,
    mean_load: u64,
) -> Result<BTreeMap<NodeId, u64>, Box<Fault>> {
    let n = nodes.map_or(4, |it| it as usize);
    let capacities = capacity.unwrap_or_else(|| match n {
        4 => Capacities::Ratio(vec![1, 2, 3, 4]),
        n => Capacities::Ratio(vec![1; n]),
    });
    if nodes.is_some() && capacities.len() != n {
        let what = format!("--nodes says {n}, and --capacity names {}", capacities.len());
        let remedy = "name as many capacities as nodes, or leave one of the two out";
        return Err(Box::new(
            Fault::new(Exit::Usage, "isotherm::replay::nodes", what).remedy(remedy),
        ));
    }
    let capacities = match capacities {
        Capacities::UsPerS(it) => it,
        Capacities::Ratio(parts) => {
            let sum: u128 = parts.iter().map(|it| u128::from(*it)).sum();
            let total = (u128::from(mean_load) * 100 / u128::from(LOAD_PERCENT)).max(sum);
            // No part is more than the total, which is less than twice the load or the sum.
            let part = |it: &u64| u64::try_from(total * u128::from(*it) / sum).unwrap_or(u64::MAX);
            parts.iter().map(part).collect()
        }
    };
    // So that their order is that of their names.
    let width = capacities.len().to_string().len();
    let name = |i: usize| NodeId(format!("n{i:0width$}"));
    Ok((1..).map(name).zip(capacities).collect())
}

/// What nodes have told of themselves: as of the beginning of the span, or when they came in it.
struct Reports {
    fleet: Fleet,
    tick_ms: u64,
    begin: Tick,
    end: Option<Millis>,
    bytes: BTreeMap<NodeId, u64>,
    refused: BTreeMap<&'static str, (u64, String)>,
}

fn reported(config: &Config, extent: &Extent) -> anyhow::Result<Reports> {
    let tick_ms = config.planner.tick.as_millis() as u64;
    let end = Some(Millis(extent.start.0 + extent.duration_ms));
    let mut reports = Reports::new(config.planner.silent_ticks, tick_ms, extent.start, end);
    if has_topic(&config.kafka, NodeCapacity::TOPIC)? {
        scan(&config.kafka, NodeCapacity::TOPIC, Start::Beginning, |record| {
            reports.take(&record);
            ControlFlow::Continue(())
        })?;
    }
    Ok(reports)
}

impl Reports {
    fn new(silent_ticks: u64, tick_ms: u64, begin: Millis, end: Option<Millis>) -> Self {
        let (fleet, begin) = (Fleet::new(silent_ticks), begin.0 / tick_ms);
        let (bytes, refused) = (BTreeMap::new(), BTreeMap::new());
        Self { fleet, tick_ms, begin, end, bytes, refused }
    }

    fn take(&mut self, record: &Record) {
        let tick = record.stamp.0 / self.tick_ms;
        // A mark that a node is gone says nothing of when it was there.
        let Some(value) = &record.value else { return };
        if self.end.is_some_and(|end| end <= record.stamp) {
            return;
        }
        let report: NodeCapacity = match decode(value) {
            Ok(report) => report,
            Err(error) => return self.refuse("undecodable", error.to_string()),
        };
        if self.begin < tick && self.fleet.member(&report.node_id).is_some() {
            return;
        }
        match self.fleet.report(tick, &report) {
            Ok(_) => {
                let bytes =
                    report.ranges.iter().fold(0, |sum: u64, it| sum.saturating_add(it.bytes));
                self.bytes.insert(report.node_id, bytes);
            }
            Err(refused) => self.refuse(refused.code(), refused.to_string()),
        }
    }

    fn refuse(&mut self, code: &'static str, why: String) {
        self.refused.entry(code).or_insert((0, why)).0 += 1;
    }

    /// Returns the nodes; none if there never was a report that can be used.
    fn into_nodes(self) -> Result<Option<Nodes>, Box<Fault>> {
        for (code, (count, why)) in &self.refused {
            warn!(reason = code, count, "reports of nodes are not used, such as: {why}");
        }
        let (none, idle) = (BTreeMap::new(), BTreeMap::new());
        let nodes = self.fleet.nodes(self.begin, &none, &idle);
        let capacities: BTreeMap<_, _> =
            nodes.into_iter().map(|(id, it)| (id, it.capacity_us_per_s)).collect();
        for node in self.bytes.keys().filter(|it| !capacities.contains_key(it)) {
            warn!("{}; it is left out", Warning::Unmanaged { node: node.clone() });
        }
        if capacities.is_empty() && !self.bytes.is_empty() {
            let names: Vec<_> = self.bytes.keys().map(|it| it.0.as_str()).collect();
            let what = format!("no node states its capacity: {}", names.join(", "));
            let remedy =
                "say what they can do: --capacity 1000000,2000000 in µs of service a second";
            return Err(Box::new(
                Fault::new(Exit::Failed, "isotherm::replay::capacity", what).remedy(remedy),
            ));
        }
        let bytes = self.bytes.values().fold(0, |sum: u64, it| sum.saturating_add(*it));
        let bytes = (0 < bytes).then_some(bytes);
        let from = NodesFrom::NodeCapacity;
        Ok((!capacities.is_empty()).then_some(Nodes { capacities, from, bytes }))
    }
}

#[cfg(test)]
mod tests;
