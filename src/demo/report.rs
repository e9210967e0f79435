//! Says what came of a run: numbers for programs, and the same for people.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use schemas::NodeId;
use serde::{Deserialize, Serialize};

use super::course::Moved;
use super::reaction::Reaction;
use crate::config::text_of_key;
use crate::replay::foresight::Forecast;
use crate::replay::history::SETTLED_TICKS;
use crate::replay::leads::{Lead, Leads, middle};
use crate::replay::report::{grouped, sized};

/// All of it. Times are seconds where the name says `_s`, else milliseconds; ticks count from the first.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// `embedded`, or the address of a cluster.
    pub broker: String,
    pub mode: String,
    pub load: String,
    pub seed: Option<u64>,
    pub duration_s: f64,
    pub tick_ms: u64,
    pub ticks: u64,
    /// From the start of the process to the first answer.
    pub start_to_first_query_s: f64,
    pub queries: Queries,
    pub updates: Updates,
    pub plans: u64,
    pub migrations: Migrations,
    pub splits: u64,
    pub joins: u64,
    pub ranges: u64,
    pub latency_ms: Latency,
    pub overload_node_seconds: Overload,
    /// Mean part of the load that no split can help.
    pub unsplittable_share: f64,
    pub nodes: Vec<Node>,
    pub moves: Vec<Move>,
    pub lead: Leads,
    pub delay_ms: Delays,
    /// Where the load is a crowd that comes.
    pub reaction: Option<Reaction>,
    pub forecast: Forecast,
    pub verify: Verify,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Queries {
    pub sent: u64,
    pub answered: u64,
    /// Without an answer at their deadline.
    pub failed: u64,
    /// Answered, but only when they were asked again, of another router.
    pub repeated: u64,
    /// Answered: there is no such row, though it had been returned before.
    pub vanished: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Updates {
    pub sent: u64,
    /// Rows that Kafka did not take.
    pub failed: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Migrations {
    pub complete: u64,
    pub failed: u64,
    /// Copied by those that are complete.
    pub bytes: u64,
}

/// Of answered queries, from when they were due.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Latency {
    pub p50: f64,
    pub p99: f64,
    pub p999: f64,
    pub max: f64,
}

/// Node-seconds above 0.8 of a capacity.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Overload {
    pub measured: f64,
    /// Of the ticks from [`SETTLED_TICKS`] on: without those in
    /// which nobody can know what comes. `None`: there was none.
    pub settled: Option<f64>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Node {
    pub node: NodeId,
    pub capacity_us_per_s: u64,
    /// Load ÷ capacity.
    pub load_mean: f64,
    pub load_max: f64,
    pub overload_node_seconds: f64,
    pub bytes: u64,
}

/// One move.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Move {
    pub migration: String,
    /// As in a configuration; empty where there is no bound.
    pub range_start: String,
    pub range_end: String,
    pub source: NodeId,
    pub destination: NodeId,
    pub reason: String,
    /// `complete`, `failed`, or `open`.
    pub outcome: String,
    pub bytes: u64,
    /// Tick of the decision, counted from the first of the run.
    pub tick: u64,
    /// From the end of the tick that decided it until the destination served.
    pub active_after_ms: Option<u64>,
    /// Ticks from then to the overload that it avoided; none or less: it came too late. `None`: there
    /// was no overload to be avoided, or it cannot be told.
    pub lead_ticks: Option<i64>,
}

/// Medians over all moves of what passes between a decision and its effect.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delays {
    /// From the end of a tick to its commit: grace, dataflow, decision, transaction.
    pub commit: Option<u64>,
    /// From the commit of START to READY.
    pub copy: Option<u64>,
    /// From READY to ACTIVE: the rest of the tick, its commit, the cut-over.
    pub cut_over: Option<u64>,
    /// All of it.
    pub whole: Option<u64>,
}

/// The outcome of a move that is under way at the end.
const OPEN: &str = "open";

/// What comparing the index with the table has found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verify {
    pub entries: u64,
    pub missing: u64,
    pub extra: u64,
    pub stale: u64,
    pub foreign: u64,
    pub gaps: u64,
    pub overlaps: u64,
    /// Why it was not compared, if it was not.
    pub not_compared: Option<String>,
}

impl Verify {
    pub fn is_clean(&self) -> bool {
        let Self { missing, extra, stale, foreign, gaps, overlaps, .. } = *self;
        missing + extra + stale + foreign + gaps + overlaps == 0 && self.not_compared.is_none()
    }
}

impl Move {
    pub fn new(migration: String, it: &Moved, first: u64, lead: Option<Lead>) -> Self {
        use schemas::migration_status::Status;
        Self {
            migration,
            range_start: text_of_key(&it.span.start),
            range_end: text_of_key(&it.span.end),
            source: it.source.clone(),
            destination: it.destination.clone(),
            reason: it.chosen.as_ref().map_or("by hand", |it| it.reason.as_str()).to_owned(),
            outcome: match it.ended {
                Some((_, Status::Complete)) => "complete",
                Some(_) => "failed",
                None => OPEN,
            }
            .to_owned(),
            bytes: it.bytes,
            tick: it.tick.saturating_sub(first),
            active_after_ms: it.active.map(|active| active.0.saturating_sub(it.due.0)),
            lead_ticks: match lead {
                Some(Lead::Ticks(ticks)) => Some(ticks),
                Some(Lead::NoOnset | Lead::Unknown) | None => None,
            },
        }
    }
}

impl Delays {
    pub fn of<'a>(moves: impl Iterator<Item = &'a Moved> + Clone) -> Self {
        let median = |of: &dyn Fn(&Moved) -> Option<u64>| {
            let mut all: Vec<_> = moves.clone().filter_map(of).collect();
            all.sort_unstable();
            middle(&all)
        };
        Self {
            commit: median(&|it| Some(it.begun.0.saturating_sub(it.due.0))),
            copy: median(&|it| Some(it.ready?.0.saturating_sub(it.begun.0))),
            cut_over: median(&|it| Some(it.active?.0.saturating_sub(it.ready?.0))),
            whole: median(&|it| Some(it.active?.0.saturating_sub(it.due.0))),
        }
    }
}

impl Report {
    /// Tells whether nothing failed and nothing differs.
    pub fn is_good(&self) -> bool {
        self.faults().is_empty()
    }

    /// Tells what is not as it should be. Where nothing is moved, a node that is overloaded may fail queries.
    fn faults(&self) -> Vec<String> {
        let mut res = Vec::new();
        if self.queries.sent + self.updates.sent == 0 {
            res.push("nothing was asked of the index".to_owned());
        }
        let excused = self.mode == "observe";
        let counted = [
            (if excused { 0 } else { self.queries.failed }, "queries failed"),
            (self.queries.vanished, "answers did not have a row that was there before"),
            (self.updates.failed, "updates failed"),
            (self.migrations.failed, "moves failed"),
        ];
        let counted = counted.iter().filter(|it| 0 < it.0);
        res.extend(counted.map(|(n, what)| format!("{} {what}", grouped(*n))));
        match &self.verify.not_compared {
            Some(reason) => res.push(format!("the index was not compared: {reason}")),
            None if !self.verify.is_clean() => {
                res.push("the index differs from the table".to_owned())
            }
            None => (),
        }
        res
    }

    /// The end of a run as a person reads it; `again` is the command that shows it without moves.
    pub fn told(&self, again: &str) -> String {
        let mut res = String::new();
        let mut line = |name: &str, text: String| res.push_str(&format!("{name:<20} {text}\n"));
        for it in &self.nodes {
            let share = |it: f64| format!("{it:.2}").trim_start_matches('0').to_owned();
            let text = format!(
                "load ÷ capacity {} on average, {} at most; overload {:.1} node-s; {}",
                share(it.load_mean),
                share(it.load_max),
                it.overload_node_seconds,
                sized(it.bytes),
            );
            line(&it.node.0, text);
        }
        let compare = match self.mode.as_str() {
            "observe" => "the same with moves: ",
            _ => "to compare: ",
        };
        let area = self.overload_node_seconds.measured;
        line("overload area", format!("{area:.1} node-seconds        ({compare}{again})"));
        if let Some(settled) = self.overload_node_seconds.settled {
            line("", format!("{settled:.1} of them from tick {SETTLED_TICKS} on"));
        }
        let Latency { p50, p99, p999, max } = self.latency_ms;
        line("latency", format!("p50 {p50:.1}  p99 {p99:.1}  p99.9 {p999:.1}  max {max:.0} ms"));
        let Queries { answered, failed, repeated, vanished, .. } = self.queries;
        let (answered, repeated) = (grouped(answered), grouped(repeated));
        let updates = grouped(self.updates.sent);
        let lost = match self.updates.failed {
            0 => String::new(),
            it => format!(", {} failed", grouped(it)),
        };
        let gone = match vanished {
            0 => String::new(),
            it => format!(", {} of them of a row that was there before and is not", grouped(it)),
        };
        let failed = grouped(failed);
        line(
            "queries",
            format!(
                "{answered} answered{gone}, {repeated} of them asked again, {failed} failed; {updates} updates{lost}"
            ),
        );
        let Migrations { complete, failed, bytes } = self.migrations;
        let open = match self.moves.iter().filter(|it| it.outcome == OPEN).count() {
            0 => String::new(),
            it => format!(", {it} open at the end"),
        };
        line("moves", format!("{complete} complete, {failed} failed{open}, {}", sized(bytes)));
        if let Some(reasons) = self.reasons() {
            line("", format!("reasons: {reasons}; of each move in the file of --report"));
        }
        if 0 < complete {
            line("", format!("lead: {}", self.lead.told()));
        }
        let ms = |it: Option<u64>| it.map_or_else(|| "–".to_owned(), |it| format!("{it} ms"));
        let Delays { commit, copy, cut_over, whole } = self.delay_ms;
        if whole.is_some() {
            line(
                "decision to effect",
                format!(
                    "{} in the median: commit {}, copy {}, cut-over {}",
                    ms(whole),
                    ms(commit),
                    ms(copy),
                    ms(cut_over)
                ),
            );
        }
        if let Some(it) = &self.reaction {
            line("reaction", it.told());
        }
        let (splits, joins, ranges) = (self.splits, self.joins, self.ranges);
        let share = self.unsplittable_share * 100.0;
        line(
            "splits, joins",
            format!("{splits}, {joins}; {ranges} ranges; unsplittable {share:.1} % of the load"),
        );
        line("forecast", self.forecast.told());
        if let Some(told) = self.forecast.deciders() {
            line("", format!("moves were decided: {told}"));
        }
        line("verify", self.verified());
        let faults = self.faults();
        if !faults.is_empty() {
            line("not good", faults.join("; "));
        }
        res
    }

    /// Why there were moves, most often first; `None`: there were none.
    fn reasons(&self) -> Option<String> {
        let mut counts = BTreeMap::<&str, u64>::new();
        self.moves.iter().for_each(|it| *counts.entry(&it.reason).or_default() += 1);
        let mut counts: Vec<_> = counts.into_iter().collect();
        counts.sort_by_key(|(_, count)| Reverse(*count));
        let all: Vec<_> =
            counts.iter().map(|(reason, count)| format!("{count} {reason}")).collect();
        (!all.is_empty()).then(|| all.join(", "))
    }

    fn verified(&self) -> String {
        let Verify { entries, missing, extra, stale, foreign, gaps, overlaps, not_compared } =
            &self.verify;
        match not_compared {
            Some(reason) => format!("not compared: {reason}"),
            None => format!(
                "{} entries: {missing} missing, {extra} extra, {stale} stale, {foreign} foreign; \
                 {gaps} gaps, {overlaps} overlaps",
                grouped(*entries)
            ),
        }
    }

    /// What each node had to do, from the loads of its ticks in microseconds a second.
    pub fn of_nodes(
        nodes: &BTreeMap<NodeId, u64>,
        bytes: &BTreeMap<NodeId, u64>,
        ticks: &[BTreeMap<NodeId, u64>],
        tick_ms: u64,
    ) -> Vec<Node> {
        let one = |(node, capacity): (&NodeId, &u64)| {
            let parts: Vec<f64> = ticks
                .iter()
                .map(|it| it.get(node).copied().unwrap_or_default() as f64 / *capacity as f64)
                .collect();
            let over: f64 = parts.iter().map(|it| (it - 0.8).max(0.0)).sum();
            Node {
                node: node.clone(),
                capacity_us_per_s: *capacity,
                load_mean: parts.iter().sum::<f64>() / parts.len().max(1) as f64,
                load_max: parts.iter().copied().fold(0.0, f64::max),
                overload_node_seconds: over * tick_ms as f64 / 1e3,
                bytes: bytes.get(node).copied().unwrap_or_default(),
            }
        };
        nodes.iter().map(one).collect()
    }
}

#[cfg(test)]
mod tests;
