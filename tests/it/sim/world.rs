//! Holds all processes and what is between them, and lets one thing after the other happen.

use std::collections::{BTreeMap, BTreeSet};

use isotherm::worker::events::Source;
use schemas::migrate_range::Command;
use schemas::plan::CommandAnswered;
use schemas::{MigrationId, NodeId};

use super::channels::Channels;
use super::checks;
use super::client::Client;
use super::logs::{KEYS, Logs, PARTITIONS, PRIMARIES, key};
use super::operator::Operator;
use super::options::{Options, Random, Step};
use super::planner::{self, PlannerProcess};
use super::routers::{Request, RouterProcess};
use super::workers::{Death, SOURCES, WorkerProcess, name};

pub const ROUTERS: usize = 2;

pub struct World {
    pub options: Options,
    pub random: Random,
    pub now: u64,
    pub logs: Logs,
    pub planner: PlannerProcess,
    pub channels: Channels,
    pub workers: BTreeMap<NodeId, WorkerProcess>,
    pub routers: Vec<RouterProcess>,
    pub requests: Vec<Request>,
    pub client: Client,
    /// What is not to happen by chance any more.
    pub is_healing: bool,
    operator: Operator,
    /// All ranges were active once: until then nobody expects an answer.
    pub is_born: bool,
    seen_commands: usize,
    pub happened: BTreeMap<&'static str, u64>,
}

impl World {
    pub fn new(seed: u64) -> Self {
        let mut random = Random::of(seed);
        let options = Options::drawn(&mut random);
        let mut logs = Logs::new();
        let (mut rows, mut tombstones) = (0, 0);
        while rows < options.rows_before {
            rows += 1;
            tombstones += write_row(&mut logs, 0, &mut random);
        }
        if options.rows_before > 12 {
            (0..PARTITIONS).for_each(|it| _ = logs.compact(it, logs.table_len(it), 0));
        }
        let now = 10_000;
        let workers = (0..options.nodes).map(|number| {
            let worker = WorkerProcess::new(number, &options, &mut logs, &mut random);
            (name(number), worker)
        });
        let workers = workers.collect();
        let mut res = Self {
            now,
            planner: PlannerProcess::new(&options, now),
            channels: Channels::new(options.compaction_lag_ms, &logs),
            workers,
            routers: (0..ROUTERS).map(|it| RouterProcess::new(it, &logs)).collect(),
            requests: Vec::new(),
            client: Client::default(),
            is_healing: false,
            operator: Operator::default(),
            is_born: false,
            seen_commands: 0,
            happened: BTreeMap::new(),
            options,
            random,
            logs,
        };
        res.count_many("rows", rows);
        res.count_many("tombstones of the table", tombstones);
        res
    }

    pub fn count(&mut self, what: &'static str) {
        self.count_many(what, 1);
    }

    pub fn count_many(&mut self, what: &'static str, times: u64) {
        *self.happened.entry(what).or_default() += times;
    }

    pub fn any_worker(&mut self) -> NodeId {
        name(self.random.index(self.options.nodes))
    }

    /// Lets something happen.
    pub fn step(&mut self) {
        let Self { now, random, logs, .. } = self;
        let now = *now;
        match self.options.next(random) {
            Step::TimePasses => {
                let ms = random.below(self.options.time_ms_max + 1);
                self.pass(ms);
            }
            Step::RowIsWritten => {
                let tombstones = write_row(logs, now, random);
                self.count("rows");
                self.count_many("tombstones of the table", tombstones);
            }
            Step::NodeReports => {
                let one = self.any_worker();
                self.report(&one);
            }
            Step::PlannerTicks => _ = self.plan(),
            Step::SomebodyMoves => {
                let settled = planner::settled(&self.planner.planner);
                let to = self.any_worker();
                if self.operator.ask(settled, to, now, &mut self.logs, &mut self.random) {
                    self.count("moves back asked for");
                }
            }
            Step::WorkerWorks => {
                let one = self.any_worker();
                self.read_some(&one);
                let steps = self.random.pick(&[1, 3, usize::MAX]);
                self.run(&one, steps, None);
            }
            Step::WorkerReadsMap => {
                let one = self.any_worker();
                let worker = self.workers.get_mut(&one).expect("all are there");
                while worker.read_map(now, &self.logs) && !self.random.one_in(4) {}
                self.run(&one, 2, None);
            }
            Step::WorkerScans => {
                let one = self.any_worker();
                self.workers.get_mut(&one).expect("all are there").scan(now, &self.logs);
                self.run(&one, 2, None);
            }
            Step::ChannelReads => {
                let one = random.index(self.channels.len());
                if random.one_in(4) {
                    self.channels.learn(one, now, logs);
                }
                for _ in 0..random.below(5) {
                    let partition = random.below(PARTITIONS.into()) as u32;
                    let is_zombie = self.channels.is_zombie(one);
                    if self.channels.read_row(one, partition, now, logs) && is_zombie {
                        *self.happened.entry("rows read by a zombie channel").or_default() += 1;
                    }
                }
            }
            Step::ChannelReadsMap => {
                let one = random.index(self.channels.len());
                while self.channels.read_map(one, now, logs) && !random.one_in(4) {}
            }
            Step::ChannelActs => {
                let one = random.index(self.channels.len());
                for _ in 0..random.below(8) {
                    self.channels.act(one, now, logs, random);
                }
            }
            Step::RouterReadsMap => {
                let one = random.index(ROUTERS);
                let router = &mut self.routers[one];
                while router.read_map(now, logs, &mut self.requests) && !random.one_in(4) {}
                self.finish(one);
            }
            Step::ClientAsks => {
                let one = random.index(ROUTERS);
                self.read_index(one);
            }
            Step::RequestIsCarried => {
                for _ in 0..self.random.below(8) {
                    self.carry();
                }
            }
            Step::Fault(fault) => self.go_wrong(fault),
        }
    }

    pub fn pass(&mut self, ms: u64) {
        self.now += ms;
        let now = self.now;
        self.channels.tick(now);
        for worker in self.workers.values_mut() {
            worker.tick(now, &mut self.logs, &mut self.random);
        }
        for one in 0..ROUTERS {
            self.routers[one].tick(now, &mut self.requests);
            self.finish(one);
        }
    }

    pub fn report(&mut self, one: &NodeId) {
        self.logs.reports.extend(self.workers[one].report());
    }

    pub fn plan(&mut self) -> bool {
        let all = self.planner.run(&mut self.logs, self.now, &mut self.random);
        for outputs in &all {
            if let Some(plan) = &outputs.plan {
                self.count_many("splits", plan.splits.len() as u64);
                self.count_many("joins", plan.joins.len() as u64);
                let by_heat = plan.moves.iter().filter(|it| it.reason != "by_hand");
                self.count_many("moves by heat", by_heat.count() as u64);
                let begun = plan.commands.iter().filter(|it| it.migration.is_some()).count();
                self.count_many("moves that somebody asked for", begun as u64);
                let is_refused = |it: &&CommandAnswered| it.refused.is_some() && it.verb == "MOVE";
                let refused = plan.commands.iter().filter(is_refused).count();
                self.count_many("moves refused", refused as u64);
                self.count_many("ranges built again", plan.rebuilds.len() as u64);
            }
            checks::tiles(self.planner.planner.state());
        }
        for command in &self.logs.commands[self.seen_commands..] {
            let what = match command.command {
                Command::Start => "moves",
                Command::Cancel => "cancels",
                Command::Unknown => unreachable!("planners know them"),
            };
            *self.happened.entry(what).or_default() += 1;
        }
        self.seen_commands = self.logs.commands.len();
        let state = self.planner.planner.state();
        let is_rebuilding = state.migrations.iter().any(|it| it.1.source.is_none());
        self.is_born |= !state.map.is_empty() && !is_rebuilding;
        !all.is_empty()
    }

    pub fn read(&mut self, one: &NodeId, source: Source) -> bool {
        let worker = self.workers.get_mut(one).expect("all are there");
        worker.read(source, self.now, &self.logs)
    }

    /// Reads some of each log into a worker.
    pub fn read_some(&mut self, one: &NodeId) {
        for source in SOURCES {
            let left = self.random.pick(&[0, 1, 2, 6]);
            for _ in 0..left {
                self.read(one, source);
            }
        }
    }

    /// Lets a worker run steps, and looks at what that leads to.
    pub fn run(&mut self, one: &NodeId, steps: usize, dies: Option<(u64, Death)>) -> bool {
        let Self { now, logs, random, .. } = self;
        let worker = self.workers.get_mut(one).expect("all are there");
        let res = worker.run(steps, dies, *now, logs, random);
        let is_busy = res.as_ref().copied().unwrap_or(true);
        if res.is_err() {
            self.lose_requests(one);
            self.count("worker died in a step");
        }
        if is_busy {
            checks::worker(self, one);
            let outgoing = self.workers[one].runner().map(|it| &it.worker().remembered().outgoing);
            if outgoing.is_some_and(|it| it.values().any(|it| it.backlogs > 0)) {
                self.count("steps with a stream given up for its backlog");
            }
        }
        is_busy
    }

    /// The moves that were begun.
    pub fn migrations(&self) -> BTreeSet<MigrationId> {
        self.logs.commands.iter().map(|it| it.migration).collect()
    }
}

/// Writes a change of some row; returns how many tombstones it wrote.
pub fn write_row(logs: &mut Logs, now: u64, random: &mut Random) -> u64 {
    let primary = random.below(PRIMARIES.into()) as u8;
    let after = (!random.one_in(4)).then(|| key(random.pick(&KEYS)));
    let is_gone = after.is_none();
    logs.write_row(primary, after, now);
    if is_gone && random.one_in(2) {
        logs.write_tombstone(primary, now);
        return 1;
    }
    0
}
