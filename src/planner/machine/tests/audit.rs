//! Holds what a planner does against what it promises, from its boxes and outputs alone.

use std::collections::{BTreeMap, BTreeSet};

use dataflows::Tick;
use dataflows::heat::{Rolling, WIDTHS};
use dataflows::quanta::quantise;
use differential_dataflow::difference::Semigroup;
use schemas::assignment::{Assignment, Source};
use schemas::heatmap::RangeHeated;
use schemas::migrate_range::{Command, MigrateRange};
use schemas::migration_status::{MigrationStatus, Phase, Status};
use schemas::operator_command::OperatorCommand;
use schemas::plan::Planned;
use schemas::query_log::{Op, QueriesLogged};
use schemas::wire::{Record as _, decode};
use schemas::{CellId, Generation, Key, KeySpan, MigrationId, Millis, NodeId};

use super::world::{KEY_BYTES_TOO_MANY, Recorded};
use crate::assignment::birth;
use crate::assignment::map::{Applied, Map, Row, span_of, tiles};
use crate::kafka::Output;
use crate::migration::table::{Outcome, PLANNER};
use crate::planner::machine::{Planner, TickOutputs};
use crate::planner::settings::Settings;

const HOUR_MS: u64 = 3_600_000;

/// What was promised and is owed.
pub struct Audit {
    settings: Settings,
    pub map: Map,
    open: BTreeMap<MigrationId, Open>,
    begun: BTreeSet<MigrationId>,
    plans: BTreeMap<String, Planned>,
    published: BTreeMap<Key, RangeHeated>,
    told: BTreeMap<(Key, Tick), RangeHeated>,
    started: Vec<(Tick, u64)>,
    /// Cost of all queries, tick by tick.
    costs: BTreeMap<Tick, u64>,
    cells: BTreeSet<CellId>,
    /// What people asked and was not answered yet, and all ids there were.
    asked: BTreeMap<String, OperatorCommand>,
    ids: BTreeSet<String>,
    pub counts: BTreeMap<String, u64>,
}

struct Open {
    start: MigrateRange,
    bytes: u64,
    ready: bool,
    committed: bool,
    cancelled: Option<u64>,
}

impl Audit {
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            map: Map::default(),
            open: BTreeMap::new(),
            begun: BTreeSet::new(),
            plans: BTreeMap::new(),
            published: BTreeMap::new(),
            told: BTreeMap::new(),
            started: Vec::new(),
            costs: BTreeMap::new(),
            cells: BTreeSet::new(),
            asked: BTreeMap::new(),
            ids: BTreeSet::new(),
            counts: BTreeMap::new(),
        }
    }

    /// Another planner takes over, which knows nothing but what stands on the topics: it cancels, and
    /// counts heat from now on.
    pub fn adopted(&mut self) {
        self.costs.clear();
        // What was not answered by then is not read again.
        self.asked.clear();
        self.open.values_mut().for_each(|it| it.start.deadline = Millis(0));
    }

    /// How many moves are in flight, and how many of them are committed.
    pub fn in_flight(&self) -> (usize, usize) {
        (self.open.len(), self.open.values().filter(|it| it.committed).count())
    }

    /// What came out of a split has the history of its cells: over each window as much as they have.
    fn check_children(&mut self, planner: &Planner) {
        let state = planner.state();
        for born in state.born.iter().filter(|it| it.parents.len() == 1) {
            let Some(range) = state.ranges.get(born.id) else { continue };
            let cells = state.cells.within(&range.span.start, &range.span.end);
            let mut heat = Rolling::default();
            cells.for_each(|(_, cell)| heat.plus_equals(&cell.heat));
            for (width, heat) in WIDTHS.into_iter().zip(heat.0) {
                let last = born.history.iter().rev().take(width as usize);
                let sums = last.fold([0, 0], |[r, w], it| [r + it[0], w + it[1]]);
                assert_eq!(sums.map(|it| it as i64), [heat.read_us, heat.write_us], "{born:?}");
            }
            *self.counts.entry("children with a past".to_owned()).or_default() +=
                u64::from(born.history.iter().flatten().any(|it| 0 < *it));
        }
    }

    pub fn tick(&mut self, planner: &Planner, recorded: &Recorded, outputs: &TickOutputs) {
        let tick = recorded.bounds.tick;
        let end_ms = (tick + 1) * self.settings.tick_ms;
        self.check_heat(planner, recorded, outputs);
        self.check_children(planner);
        self.hear(recorded);
        if let Some(plan) = &outputs.plan {
            self.check_plan(plan, recorded.bounds.stale);
            self.check_answers(plan);
        }
        assert!(recorded.bounds.stale || self.asked.is_empty(), "{:?} wait", self.asked);
        self.check_generation(outputs, recorded.bounds.stale);
        let statuses: Vec<MigrationStatus> = records(&outputs.outputs, MigrationStatus::TOPIC);
        let (starts, others): (Vec<_>, Vec<_>) =
            outputs.commands.iter().partition(|it| it.command == Command::Start);
        for it in others {
            assert_eq!(it.command, Command::Cancel, "no such command is written");
            self.check_cancel(it, end_ms);
        }
        for it in statuses.iter().filter(|it| it.status == Status::Failed) {
            let Some(open) = self.open.get(&it.migration) else {
                // Adopted, and of a START that nobody knows any more.
                assert!(!self.begun.contains(&it.migration));
                continue;
            };
            let cancelled = open.cancelled.expect("only what is cancelled fails by silence");
            // Who adopts counts from the tick's begin, at which it did.
            let is_adopted = open.start.deadline == Millis(0);
            let cancelled = cancelled - if is_adopted { self.settings.tick_ms } else { 0 };
            assert!(cancelled + self.settings.cancel_grace_ms <= end_ms);
            self.count("failed by silence");
        }
        for it in &outputs.ended {
            self.check_end(it.migration, it.outcome);
        }
        // A range whose migration has ended in this tick may go on.
        starts.into_iter().for_each(|it| self.check_start(tick, it, &statuses));
        self.check_budget(tick);
    }

    fn count(&mut self, what: &str) {
        *self.counts.entry(what.to_owned()).or_default() += 1;
    }

    /// Heat, load and what is published of it, against a plain recomputation.
    fn check_heat(&mut self, planner: &Planner, recorded: &Recorded, outputs: &TickOutputs) {
        let tick_ms = self.settings.tick_ms;
        let ranges: Vec<(KeySpan, Option<NodeId>)> = match self.map.is_empty() {
            true => birth::ranges(&self.settings.split_points)
                .into_iter()
                .map(|it| (it, None))
                .collect(),
            false => self.map.iter().map(|it| (span_of(it), Some(it.node.clone()))).collect(),
        };
        let mut sums = vec![[0_u64; 2]; ranges.len()];
        for (key, write, cost_us) in self.asked(recorded) {
            let i = ranges.iter().position(|it| it.0.contains(&key)).unwrap();
            sums[i][usize::from(write)] += cost_us;
        }
        self.costs.insert(recorded.bounds.tick, sums.iter().flatten().sum());

        let mut ended = BTreeSet::new();
        for it in outputs.outputs.iter().filter(|it| it.topic == RangeHeated::TOPIC) {
            let start = Key(it.key.clone().unwrap());
            let Some(value) = &it.value else {
                assert!(self.published.remove(&start).is_some(), "{start} was told of");
                ended.insert(start);
                continue;
            };
            let record: RangeHeated = decode(value).unwrap();
            self.told.insert((start.clone(), record.tick), record.clone());
            self.published.insert(start, record);
        }
        let mut loads = BTreeMap::<NodeId, u64>::new();
        for ((span, node), sums) in ranges.iter().zip(&sums) {
            if let Some(node) = node {
                *loads.entry(node.clone()).or_default() += sums[0] + sums[1];
            }
            if ended.contains(&span.start) {
                continue;
            }
            let now = sums.map(|it| quantise(it * 1000 / tick_ms));
            let Some(record) = self.published.get(&span.start) else {
                assert_eq!(now, [0; 2], "{span} has heat and was never told of");
                continue;
            };
            assert_eq!([record.reads.now[0], record.writes.now[0]], now, "{span}");
            assert_eq!(record.range_end, span.end);
            assert_eq!(Some(&record.node).filter(|it| !it.0.is_empty()), node.as_ref(), "{span}");
        }
        let load = |(node, sum): (NodeId, u64)| (node, sum * 1000 / tick_ms);
        let loads: BTreeMap<_, _> = loads.into_iter().map(load).filter(|it| it.1 > 0).collect();
        let told = outputs.loads.iter().filter(|it| *it.1 > 0);
        assert_eq!(told.map(|(a, b)| (a.clone(), *b)).collect::<BTreeMap<_, _>>(), loads);

        // However cells were cut and joined, in sum nothing is lost in any window.
        let cells: BTreeSet<CellId> = planner.state().cells.iter().map(|it| it.0).collect();
        for (i, width) in WIDTHS.iter().enumerate() {
            let since = (recorded.bounds.tick + 1).saturating_sub(*width);
            let all: u64 = self.costs.range(since..).map(|it| it.1).sum();
            let ranges = planner.state().range_heat.values();
            assert_eq!(ranges.map(|it| it.0[i].cost_us()).sum::<i64>(), all as i64, "{width}");
            // What a cell that has just ended had, is said of its neighbour with the next tick.
            if self.cells.is_subset(&cells) {
                let heat = planner.state().cells.iter().map(|it| it.1.heat.0[i].cost_us());
                assert_eq!(heat.sum::<i64>(), all as i64, "cells, {width}");
            }
        }
        self.cells = cells;
    }

    /// Every query that counts: its key, whether it writes, and its cost.
    fn asked(&self, recorded: &Recorded) -> Vec<(Vec<u8>, bool, u64)> {
        let costs = &self.settings.costs;
        let values = recorded.records.iter().filter(|it| it.at.topic == QueriesLogged::TOPIC);
        let batches = values.filter_map(|it| decode::<QueriesLogged>(it.value.as_ref()?).ok());
        let query = |it: schemas::query_log::QueryLogged| {
            let (write, default_us) = match it.op {
                Op::Read | Op::Unknown => (false, costs.read_us),
                Op::Scan => (false, costs.scan_us),
                Op::Write => (true, costs.write_us),
            };
            (it.key.0, write, it.cost_us.unwrap_or(default_us))
        };
        let all = batches.flat_map(|it| it.queries).map(query);
        all.filter(|it| it.0.len() < KEY_BYTES_TOO_MANY).collect()
    }

    fn hear(&mut self, recorded: &Recorded) {
        for record in recorded.records.iter().filter(|it| it.at.topic == MigrationStatus::TOPIC) {
            let Ok(it) = decode::<MigrationStatus>(record.value.as_ref().unwrap()) else {
                continue;
            };
            let Some(open) = self.open.get_mut(&it.migration) else { continue };
            open.ready |=
                it.teller == open.start.destination_node && it.phase == Some(Phase::Ready);
        }
        for record in recorded.records.iter().filter(|it| it.at.topic == OperatorCommand::TOPIC) {
            if let Ok(it) = decode::<OperatorCommand>(record.value.as_ref().unwrap())
                && self.ids.insert(it.id.clone())
            {
                self.asked.insert(it.id.clone(), it);
            }
        }
    }

    /// Every command is answered once; what is not refused has begun, as it was asked.
    fn check_answers(&mut self, plan: &Planned) {
        for it in &plan.commands {
            let asked = self.asked.remove(&it.command).expect("an answer is to a question");
            match (&it.refused, it.migration) {
                (Some(code), None) => {
                    assert!(!it.detail.is_empty(), "{code} is told in words");
                    self.count(&format!("refused: {code}"));
                }
                (None, Some(id)) => {
                    let chosen = plan.moves.iter().find(|it| it.migration == Some(id));
                    let chosen = chosen.expect("what has begun is among the moves");
                    assert_eq!(chosen.reason, "by_hand");
                    assert_eq!(asked.node.as_ref(), Some(&chosen.destination));
                    assert_eq!(asked.range_start.as_ref(), Some(&chosen.range_start));
                    self.count("moved by hand");
                }
                (None, None) if it.verb == "REBUILD" => self.count("rebuild asked for"),
                (None, None) if it.verb == "SWAP_MODEL" => self.count("network swapped"),
                (Some(_), Some(_)) | (None, None) => panic!("neither refused nor begun: {it:?}"),
            }
        }
    }

    fn check_plan(&mut self, plan: &Planned, stale: bool) {
        let chosen = plan.moves.len() + plan.splits.len() + plan.joins.len();
        assert!(!stale || chosen == 0, "a stale tick plans nothing");
        for it in &plan.rests_on {
            let told = self.told.get(&(it.range_start.clone(), it.tick));
            let told = told.expect("what a plan rests on is published");
            assert_eq!((&told.reads.forecast, &told.writes.forecast), (&it.reads, &it.writes));
        }
        self.plans.insert(plan.plan.clone(), plan.clone());
    }

    /// One whole generation, tombstones first; it tiles, epochs grow, and nothing that is in flight is
    /// touched but by its commit.
    fn check_generation(&mut self, outputs: &TickOutputs, stale: bool) {
        let rows = &outputs.assignments;
        let written = outputs.outputs.iter().filter(|it| it.topic == "assignment").count();
        assert_eq!(rows.len(), written);
        assert!(rows.is_sorted_by_key(|it| it.1.is_some()), "tombstones come first");
        let moved = rows.iter().filter(|it| it.1.as_ref().is_some_and(is_commit)).count();
        if stale && moved > 0 {
            self.count("committed though stale");
        }
        let generations: BTreeSet<Generation> =
            rows.iter().filter_map(|it| Some(it.1.as_ref()?.generation)).collect();
        assert!(generations.len() <= 1, "one generation a tick");
        for (i, (start, assignment)) in rows.iter().enumerate() {
            let Some(it) = assignment else {
                let row = Row { start: start.clone(), assignment: None };
                self.map.apply(&row).unwrap();
                continue;
            };
            assert_eq!(it.last, i + 1 == rows.len());
            let span = span_of(it);
            let mut touched = self.open.iter_mut().filter(|it| it.1.span().overlaps(&span));
            match it.source {
                Source::Node => {
                    let (id, open) = touched.next().expect("a commit is of a migration");
                    assert_eq!((Some(*id), open.span()), (it.migration, span.clone()));
                    assert!(open.ready, "{id} is committed on READY of its destination");
                    assert_eq!((open.cancelled, open.committed), (None, false));
                    assert_eq!(it.node, open.start.destination_node);
                    open.committed = true;
                }
                Source::Table | Source::None => {
                    assert_eq!(touched.next().map(|it| *it.0), None, "{span} is in flight");
                    if let (Source::Table, Some(old)) = (it.source, self.map.range(&span)) {
                        assert!(!stale, "a stale tick begins nothing");
                        assert_eq!((&it.node, it.epoch.0), (&old.node, old.epoch.0 + 1));
                        *self.counts.entry("built again".to_owned()).or_default() += 1;
                    }
                }
                Source::Unknown => panic!("no such source is written"),
            }
            let row = Row { start: start.clone(), assignment: assignment.clone() };
            assert_eq!(self.map.apply(&row), Ok(Applied::Carved), "epochs grow");
        }
        if !self.map.is_empty() {
            assert_eq!(tiles(self.map.iter().map(span_of)), Ok(()));
        }
    }

    fn check_start(&mut self, tick: Tick, it: &MigrateRange, statuses: &[MigrationStatus]) {
        let span = KeySpan { start: it.range_start.clone(), end: it.range_end.clone() };
        let range = self.map.range(&span).expect("START names a range as it now is");
        assert_eq!((range.epoch, &range.node), (it.source_epoch, &it.source_node));
        assert!(it.generation <= self.map.generation());
        assert!(self.open.values().all(|it| !it.span().overlaps(&span)), "{span} is settled");
        assert!(self.begun.insert(it.migration), "ids are never used again");
        let plan = &self.plans[it.plan.as_ref().unwrap()];
        let chosen = plan.moves.iter().find(|chosen| chosen.migration == Some(it.migration));
        assert_eq!(chosen.expect("every START has its plan").range_start, it.range_start);
        // What it rests on was told of this very range, not of what it was split from.
        if let Some(rests) = plan.rests_on.iter().find(|it| it.range_start == span.start) {
            assert_eq!(self.told[&(span.start.clone(), rests.tick)].range_end, span.end);
            self.count("started by its own forecast");
        }
        let pending = statuses.iter().find(|status| status.migration == it.migration);
        let pending = pending.expect("PENDING comes with START");
        assert_eq!((pending.status, pending.teller.0.as_str()), (Status::Pending, PLANNER));
        self.started.push((tick, pending.bytes));
        let (start, bytes) = (it.clone(), pending.bytes);
        let open = Open { start, bytes, ready: false, committed: false, cancelled: None };
        self.open.insert(it.migration, open);
        self.count("started");
    }

    fn check_cancel(&mut self, it: &MigrateRange, end_ms: u64) {
        let open = self.open.get_mut(&it.migration).expect("what is cancelled is in flight");
        assert!(!open.committed && open.cancelled.is_none());
        assert!(open.start.deadline.0 <= end_ms, "only past the deadline");
        open.cancelled = Some(end_ms);
        self.count("cancelled");
    }

    fn check_end(&mut self, id: MigrationId, outcome: Outcome) {
        // A rebuild has no START.
        let Some(open) = self.open.remove(&id) else { return };
        assert_eq!(open.committed, outcome == Outcome::Complete, "{id}");
        self.count(if open.committed { "complete" } else { "failed" });
    }

    fn check_budget(&mut self, tick: Tick) {
        let policy = self.settings.policy.clone();
        assert!(self.open.len() <= policy.moves_in_flight_max as usize);
        let bytes: u64 = self.open.values().map(|it| it.bytes).sum();
        assert!(bytes <= policy.bytes_in_flight_max, "{bytes} bytes are in flight");
        let hour = HOUR_MS.div_ceil(self.settings.tick_ms);
        let lately = self.started.iter().filter(|it| tick < it.0 + hour);
        let churn: u64 = lately.map(|it| it.1).sum();
        assert!(churn <= policy.churn_bytes_per_hour_max, "{churn} bytes in an hour");
        assert!(self.map.iter().count() <= policy.ranges_max as usize);
    }
}

fn is_commit(it: &Assignment) -> bool {
    it.source == Source::Node
}

impl Open {
    fn span(&self) -> KeySpan {
        KeySpan { start: self.start.range_start.clone(), end: self.start.range_end.clone() }
    }
}

/// The records of one topic, tombstones left out.
pub fn records<R: schemas::wire::Record>(outputs: &[Output], topic: &str) -> Vec<R> {
    let values = outputs.iter().filter(|it| it.topic == topic).filter_map(|it| it.value.as_ref());
    values.map(|it| decode(it).unwrap()).collect()
}
