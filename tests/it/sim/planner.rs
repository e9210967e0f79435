//! Runs the planner: boxes of what there is, each tick a transaction or nothing, and what is left of it when
//! it dies.

use std::collections::BTreeMap;

use dataflows::Tick;
use dataflows::balance::policy::Policy;
use dataflows::cells::CellRules;
use dataflows::tally::Costs;
use isotherm::assignment::map::Map;
use isotherm::forecast::Rung;
use isotherm::kafka::source::FilledBox;
use isotherm::kafka::{Record, TopicPartition};
use isotherm::planner::driver::{self, Resumed};
use isotherm::planner::machine::{Planner, TickOutputs};
use isotherm::planner::progress::Reader;
use isotherm::planner::settings::{Mode, Settings};
use isotherm::tick::machine::Origin;
use isotherm::tick::tick_box::{Offset, Span, TickBox};
use schemas::assignment::Source;
use schemas::migrate_range::Command;
use schemas::migration_status::{MigrationStatus, Status};
use schemas::node_capacity::NodeCapacity;
use schemas::operator_command::OperatorCommand;
use schemas::planner_progress::Progress;
use schemas::wire::{Record as _, decode, encode};
use schemas::{Key, MigrationId, Millis};

use super::dataflow::Dataflow;
use super::logs::{KEYS, Logs, key};
use super::options::{Options, Random};

pub const TICK_MS: u64 = 250;

/// A tick that ended longer ago is not decided by.
const STALE_MS: u64 = 2_000;

pub struct PlannerProcess {
    pub planner: Planner,
    dataflow: Dataflow,
    settings: Settings,
    next: Tick,
    /// By topic, what it has read of it.
    read: BTreeMap<&'static str, u64>,
    by_heat: bool,
}

fn settings(options: &Options) -> Settings {
    Settings {
        tick_ms: TICK_MS,
        mode: if options.by_heat { Mode::Auto } else { Mode::Observe },
        rung: Rung::Ewma,
        costs: Costs { read_us: 1, scan_us: 1, write_us: 1 },
        cells: CellRules { cells_per_range: 4, cells_per_range_max: 8, ..CellRules::default() },
        policy: Policy {
            ranges_max: 9,
            ranges_per_node_min: 1,
            moves_in_flight_max: 5,
            moves_in_flight_per_node_max: 5,
            bandwidth_bytes_per_s: 0,
            disruption_ms: 0,
            net_benefit_ms_min: 0,
            cool_down_ticks: 3,
            deadline_ms: options.deadline_ms,
            ..Policy::default()
        },
        birth_nodes: options.nodes as u32,
        split_points: [0x40, 0x80].map(key).to_vec(),
        key_end: key(0xe0),
        snapshot_ticks: 7,
        silent_ticks: 24,
        cancel_grace_ms: 3_000,
        query_log: Default::default(),
        network: None,
    }
}

impl PlannerProcess {
    pub fn new(options: &Options, now: u64) -> Self {
        let settings = settings(options);
        Self {
            planner: Planner::new(settings.clone()),
            dataflow: Dataflow::default(),
            settings,
            next: now / TICK_MS,
            read: BTreeMap::new(),
            by_heat: options.by_heat,
        }
    }

    /// Decides the ticks that are over, each with what there is of its inputs; tells what became of them.
    pub fn run(&mut self, logs: &mut Logs, now: u64, random: &mut Random) -> Vec<TickOutputs> {
        let mut all = Vec::new();
        while (self.next + 1) * TICK_MS <= now {
            let bounds = self.next_box(logs, now, random);
            let outputs = self.tick(logs, bounds.clone(), Origin::Chosen);
            self.passed(&bounds);
            commit(logs, &outputs);
            all.push(outputs);
        }
        all
    }

    /// Dies, with a tick decided that is not committed, and begins again from its progress.
    pub fn die(&mut self, logs: &mut Logs, now: u64, random: &mut Random) {
        if (self.next + 1) * TICK_MS <= now {
            let bounds = self.next_box(logs, now, random);
            self.tick(logs, bounds, Origin::Chosen);
        }
        let mut reader = Reader::default();
        logs.progress.iter().for_each(|it| reader.take(it.clone(), Tick::MAX));
        let past = reader.past().unwrap();
        let Some(resumed) = driver::rebuilt(past, Some(&self.settings)).unwrap() else {
            // As one that has taken the assignment over, and has committed nothing yet.
            return self.replace(logs, now);
        };
        let Resumed { planner, beginning, recorded, .. } = resumed;
        self.planner = planner;
        self.dataflow = Dataflow::default();
        for bounds in recorded {
            if !beginning.knows(&bounds) {
                self.tick(logs, bounds.clone(), Origin::Recorded);
            }
            self.passed(&bounds);
        }
    }

    /// Another one, of another id, takes the assignment over.
    pub fn replace(&mut self, logs: &mut Logs, now: u64) {
        let mut map = Map::default();
        let rows = logs.assignment.iter().enumerate();
        for (_, row) in rows.filter(|it| !logs.assignment_gone.contains(&it.0)) {
            map.apply(row).unwrap();
        }
        let settings = self.settings.clone();
        logs.progress.clear();
        self.dataflow = Dataflow::default();
        self.next = now / TICK_MS;
        for topic in [NodeCapacity::TOPIC, MigrationStatus::TOPIC, OperatorCommand::TOPIC] {
            self.read.insert(topic, end(logs, topic));
        }
        self.planner = match map.is_empty() {
            true => Planner::new(settings),
            false => {
                let (commands, statuses) = (&logs.commands, &logs.statuses);
                let mut res = Planner::adopted(settings, Millis(now), map, commands, statuses);
                res.adopt_rebuilds(&logs.given, &logs.asked);
                res
            }
        };
    }

    /// Nothing is hot any more.
    pub fn calm(&mut self) {
        self.by_heat = false;
    }

    fn next_box(&self, logs: &mut Logs, now: u64, random: &mut Random) -> TickBox {
        let tick = self.next;
        if self.by_heat && !logs.heat.contains_key(&tick) {
            // Mostly as in the tick before.
            let last = logs.heat.get(&(tick - 1)).cloned();
            let heat = match last {
                Some(last) if !random.one_in(6) => last,
                _ => {
                    let count = random.below(4);
                    let hot = |_| (key(random.pick(&KEYS)), random.pick(&[60_000, 110_000]));
                    (0..count).map(hot).collect()
                }
            };
            logs.heat.insert(tick, heat);
        }
        let topics = [NodeCapacity::TOPIC, MigrationStatus::TOPIC, OperatorCommand::TOPIC];
        let spans = topics.map(|topic| {
            let from = self.read.get(topic).copied().unwrap_or_default();
            let end = end(logs, topic);
            let to = if random.one_in(4) { from + random.below(end - from + 1) } else { end };
            (at(topic), Span { from: Offset(from), to: Offset(to) })
        });
        TickBox {
            tick,
            tick_ms: TICK_MS,
            grace_ms: 0,
            span_records_max: 1_000,
            spans: spans.into(),
            stale: (tick + 1) * TICK_MS + STALE_MS < now,
            from_future: Default::default(),
        }
    }

    fn passed(&mut self, bounds: &TickBox) {
        self.next = bounds.tick + 1;
        self.read.extend(bounds.spans.iter().map(|(at, span)| (at.topic, span.to.0)));
    }

    fn tick(&mut self, logs: &Logs, bounds: TickBox, origin: Origin) -> TickOutputs {
        let tick = bounds.tick;
        let records = bounds.spans.iter().flat_map(|(at, span)| {
            (span.from.0..span.to.0).map(|offset| record(logs, *at, offset))
        });
        let (records, from_future) = (records.collect(), Vec::new());
        self.planner.begin(FilledBox { bounds, origin, records, from_future });
        let heated =
            self.dataflow.heated(&self.planner, logs.heat.get(&tick).map_or(&[], Vec::as_slice));
        self.planner.heated(heated);
        let wanted = self.planner.decide();
        if !self.planner.settle(Dataflow::delta(wanted)).is_empty() {
            self.planner.divide(Vec::new());
        }
        let all = self.planner.is_snapshot_due().then(Vec::new);
        self.planner.finish(all)
    }
}

fn at(topic: &'static str) -> TopicPartition {
    TopicPartition { topic, partition: 0 }
}

fn end(logs: &Logs, topic: &'static str) -> u64 {
    let len = match topic {
        NodeCapacity::TOPIC => logs.reports.len(),
        MigrationStatus::TOPIC => logs.statuses.len(),
        OperatorCommand::TOPIC => logs.asked.len(),
        other => panic!("{other} is no input"),
    };
    len as u64
}

fn record(logs: &Logs, at: TopicPartition, offset: u64) -> Record {
    let i = offset as usize;
    let (stamp, value) = match at.topic {
        NodeCapacity::TOPIC => (Millis(0), encode(&logs.reports[i])),
        MigrationStatus::TOPIC => (Millis(0), encode(&logs.statuses[i])),
        _ => (logs.asked[i].0, encode(&logs.asked[i].1)),
    };
    Record { at, offset, stamp, key: None, value: Some(value), headers: Vec::new() }
}

/// All that a tick leads to is there at once.
fn commit(logs: &mut Logs, outputs: &TickOutputs) {
    let end = Millis((outputs.done.tick + 1) * TICK_MS);
    for (start, assignment) in &outputs.assignments {
        let row = assignment.as_ref().filter(|it| it.source == Source::Table);
        logs.given.extend(row.and_then(|it| it.migration).map(|it| (it, end)));
        let (start, assignment) = (start.clone(), assignment.clone());
        logs.assignment.push(isotherm::assignment::map::Row { start, assignment });
    }
    logs.commands.extend(outputs.commands.iter().cloned());
    for output in &outputs.outputs {
        let value = output.value.as_deref().unwrap_or_default();
        match output.topic {
            MigrationStatus::TOPIC => logs.statuses.push(decode(value).unwrap()),
            Progress::TOPIC => logs.progress.push(decode(value).unwrap()),
            schemas::dead_letter::TOPIC => logs.letters.push(format!("{output:?}")),
            _ => (),
        }
    }
}

/// What a cancelled migration is known by.
pub fn is_cancelled(logs: &Logs, migration: MigrationId) -> bool {
    let is_it = |it: &&schemas::migrate_range::MigrateRange| {
        it.migration == migration && it.command == Command::Cancel
    };
    logs.commands.iter().any(|it| is_it(&it))
}

/// How a migration ended, by what was said first.
pub fn end_of(logs: &Logs, migration: MigrationId) -> Option<&MigrationStatus> {
    let is_end = |it: &&MigrationStatus| matches!(it.status, Status::Complete | Status::Failed);
    logs.statuses.iter().filter(|it| it.migration == migration).find(is_end)
}

/// Where a range begins that is settled, and whose it is.
pub fn settled(planner: &Planner) -> Vec<(Key, schemas::NodeId)> {
    let state = planner.state();
    let is_settled = |it: &&schemas::assignment::Assignment| {
        state.migrations.unsettled(&isotherm::assignment::map::span_of(it)).is_none()
    };
    let settled = state.map.iter().filter(is_settled);
    settled.map(|it| (it.range_start.clone(), it.node.clone())).collect()
}
