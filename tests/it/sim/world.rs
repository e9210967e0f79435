//! Holds all processes and what is between them, and lets one thing after the other happen.

use std::collections::{BTreeMap, BTreeSet};

use isotherm::web::reads::What;
use schemas::operator_command::{Command, OperatorCommand};
use schemas::{Key, MigrationId, Millis, NodeId};

use super::channels::Channels;
use super::checks;
use super::client::Client;
use super::logs::{KEYS, Logs, PARTITIONS, PRIMARIES, key};
use super::options::{Options, Random, Step};
use super::planner::{self, PlannerProcess};
use super::routers::{Request, RouterProcess, router_of};
use super::workers::{Death, SOURCES, WorkerProcess, name};

const ROUTERS: usize = 2;

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
    /// Ranges that are to go back, and where; and those that have to leave there first.
    returns: BTreeSet<(Key, NodeId)>,
    leaving: BTreeSet<(Key, NodeId)>,
    /// All ranges were active once: until then nobody expects an answer.
    is_born: bool,
    commands: u64,
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
            tombstones += write_row(&mut logs, &mut random);
        }
        if options.rows_before > 12 {
            (0..PARTITIONS).for_each(|it| logs.compact(it, logs.table_len(it)));
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
            channels: Channels::new(&logs),
            workers,
            routers: (0..ROUTERS).map(|it| RouterProcess::new(it, &logs)).collect(),
            requests: Vec::new(),
            client: Client::default(),
            is_healing: false,
            returns: BTreeSet::new(),
            leaving: BTreeSet::new(),
            is_born: false,
            commands: 0,
            seen_commands: 0,
            happened: BTreeMap::new(),
            options,
            random,
            logs,
        };
        res.count_many("rows", rows);
        res.count_many("tombstones of the table", tombstones);
        if res.options.begins_settled {
            res.settle_down();
        }
        res
    }

    pub fn count(&mut self, what: &'static str) {
        self.count_many(what, 1);
    }

    pub fn count_many(&mut self, what: &'static str, times: u64) {
        *self.happened.entry(what).or_default() += times;
    }

    fn any_worker(&mut self) -> NodeId {
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
                let tombstones = write_row(logs, random);
                self.count("rows");
                self.count_many("tombstones of the table", tombstones);
            }
            Step::NodeReports => {
                let one = self.any_worker();
                self.report(&one);
            }
            Step::PlannerTicks => _ = self.plan(),
            Step::SomebodyMoves => self.ask_for_move(),
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
                for _ in 0..self.random.below(4) {
                    self.carry();
                }
            }
            Step::PlannerDies => {
                self.planner.die(logs, now, random);
                self.count("planner died");
            }
            Step::PlannerIsReplaced => {
                self.planner.replace(logs, now);
                self.count("planner was replaced");
            }
            Step::WorkerDies => {
                let one = self.any_worker();
                let worker = self.workers.get_mut(&one).expect("all are there");
                let keep = self.random.below(6);
                worker.crash(keep, now, &mut self.logs, &mut self.random);
                self.lose_requests(&one);
                self.count("worker died");
            }
            Step::WorkerDiesInStep => {
                let one = self.any_worker();
                self.read_some(&one);
                let death = self.random.pick(&[Death::Before, Death::Before, Death::Behind]);
                let dies = (self.random.below(2), death);
                self.run(&one, 4, Some(dies));
            }
            Step::WorkerIsAway => {
                let one = self.any_worker();
                let (keep, until) = (self.random.below(6), now + self.random.below(5_000));
                self.workers.get_mut(&one).expect("all are there").leave(keep, until);
                self.lose_requests(&one);
                self.count("worker was away");
            }
            Step::ChannelDies => {
                let [one, heir] = [0; 2].map(|_| random.index(self.channels.len()));
                self.channels.crash(one, heir, logs, random);
                self.count("channel died");
            }
            Step::ChannelIsReplaced => {
                let one = random.index(self.channels.len());
                self.channels.replace(one, 1 - one);
                self.count("channel was replaced");
            }
            Step::PartitionGoesOver => {
                let partition = random.below(PARTITIONS.into()) as u32;
                self.channels.hand_over(partition, random.index(self.channels.len()));
                self.count("partition was handed over");
            }
            Step::RouterDies => {
                let one = random.index(ROUTERS);
                self.routers[one].restart(logs);
                self.count("router died");
            }
            Step::SomethingIsLate => self.be_late(),
            Step::TableIsCompacted => {
                for partition in 0..PARTITIONS {
                    let until = logs.stored[partition as usize].map_or(0, |it| it.0);
                    logs.compact(partition, until);
                }
                self.count("table was compacted");
            }
            Step::MapIsCompacted => {
                // Nobody is as late as what goes is old.
                let read = self.workers.values().filter_map(WorkerProcess::map_read);
                let read = read.chain(self.routers.iter().map(RouterProcess::map_read));
                let read = read.chain(self.channels.maps_read()).min();
                self.logs.compact_assignment(read.unwrap_or_default());
                self.count("map was compacted");
            }
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
                self.count_many("moves refused", (plan.commands.len() - begun) as u64);
            }
            checks::tiles(self.planner.planner.state());
        }
        for command in &self.logs.commands[self.seen_commands..] {
            let what = match command.command {
                schemas::migrate_range::Command::Start => "moves",
                schemas::migrate_range::Command::Cancel => "cancels",
                schemas::migrate_range::Command::Unknown => unreachable!("planners know them"),
            };
            *self.happened.entry(what).or_default() += 1;
        }
        self.seen_commands = self.logs.commands.len();
        let state = self.planner.planner.state();
        let is_rebuilding = state.migrations.iter().any(|it| it.1.source.is_none());
        self.is_born |= !state.map.is_empty() && !is_rebuilding;
        !all.is_empty()
    }

    /// Somebody wants a range elsewhere; now and then, back where it came from.
    fn ask_for_move(&mut self) {
        let settled = planner::settled(&self.planner.planner);
        if settled.is_empty() {
            return;
        }
        for (start, owner) in std::mem::take(&mut self.leaving) {
            // What has left may be wanted back.
            let is_gone = settled.iter().any(|it| it.0 == start && it.1 != owner);
            let to = if is_gone { &mut self.returns } else { &mut self.leaving };
            to.insert((start, owner));
        }
        let back = settled.iter().find_map(|(start, owner)| {
            let is_it = |it: &&(Key, NodeId)| it.0 == *start && it.1 != *owner;
            self.returns.iter().find(is_it).cloned()
        });
        let (start, to) = match back {
            Some(back) => {
                self.returns.remove(&back);
                self.count("moves back asked for");
                back
            }
            None => {
                let (start, owner) = self.random.pick(&settled);
                let to = self.any_worker();
                if to == owner {
                    return;
                }
                if self.random.one_in(3) {
                    self.leaving.insert((start.clone(), owner));
                }
                (start, to)
            }
        };
        self.commands += 1;
        let command = OperatorCommand {
            id: format!("c-{}", self.commands),
            command: Command::Move,
            actor: "somebody".into(),
            reason: String::new(),
            node: Some(to),
            range_start: Some(start),
            range_end: None,
            plan: None,
            digest: None,
        };
        self.logs.asked.push((Millis(self.now), command));
    }

    pub fn read(&mut self, one: &NodeId, source: isotherm::worker::events::Source) -> bool {
        let worker = self.workers.get_mut(one).expect("all are there");
        worker.read(source, self.now, &self.logs)
    }

    /// Reads some of each log into a worker.
    fn read_some(&mut self, one: &NodeId) {
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

    fn lose_requests(&mut self, one: &NodeId) {
        self.requests.iter_mut().filter(|it| it.node() == one).for_each(Request::lose);
    }

    /// A client reads a few keys and intervals.
    pub fn read_index(&mut self, router: usize) {
        if !self.is_born || self.routers[router].is_reading() {
            return;
        }
        let random = &mut self.random;
        let read = |_| {
            let mut ends = [random.pick(&KEYS), random.pick(&KEYS)];
            ends.sort_unstable();
            match random.below(4) {
                0 if ends[0] < ends[1] => {
                    let limit = random.pick(&[None, Some(2)]);
                    let [start, end] = ends.map(key);
                    What::Range { start, end, limit, after: None }
                }
                1 if self.is_healing => {
                    let (start, end) = (Key::default(), Key::default());
                    What::Range { start, end, limit: None, after: None }
                }
                _ => What::Key(key(ends[0])),
            }
        };
        let reads = (0..1 + self.now % 3).map(read).collect();
        self.routers[router].ask(self.now, reads, &mut self.requests);
        self.count("reads");
    }

    /// Carries a request to its worker, or an answer back.
    pub fn carry(&mut self) -> bool {
        if self.requests.is_empty() {
            return false;
        }
        let at = self.random.index(self.requests.len());
        let request = &mut self.requests[at];
        if !request.is_answered() {
            let worker = self.workers.get(request.node());
            request.serve(worker);
            return true;
        }
        let request = self.requests.swap_remove(at);
        let router = router_of(&request);
        self.routers[router].answered(self.now, request, &mut self.requests);
        self.finish(router);
        true
    }

    fn finish(&mut self, router: usize) {
        let Some((reads, answers, is_late)) = self.routers[router].finished(self.now) else {
            return;
        };
        assert!(!is_late, "a read has failed: no answer to {reads:?} but {answers:?} in time");
        self.client.read(router, &reads, &answers, &self.logs);
        self.count("reads answered");
    }

    /// Somebody reads something not at all for a while.
    fn be_late(&mut self) {
        let until = self.now + self.random.below(4_000);
        match self.random.below(4) {
            0 => {
                let one = self.random.index(self.channels.len());
                self.channels.be_late(one, until);
                self.count("channel was late in the map");
            }
            1 => {
                let one = self.random.index(ROUTERS);
                self.routers[one].late_until = until;
                self.count("router was late in the map");
            }
            2 => {
                let one = self.any_worker();
                self.workers.get_mut(&one).expect("all are there").late.insert(None, until);
                self.count("worker was late in the map");
            }
            _ => {
                let (one, source) = (self.any_worker(), self.random.pick(&SOURCES));
                let worker = self.workers.get_mut(&one).expect("all are there");
                worker.late.insert(Some(source), until);
                self.count("worker was late in its inbox");
            }
        }
    }

    /// The moves that were begun.
    pub fn migrations(&self) -> BTreeSet<MigrationId> {
        self.logs.commands.iter().map(|it| it.migration).collect()
    }
}

/// Writes a change of some row; returns how many tombstones it wrote.
pub fn write_row(logs: &mut Logs, random: &mut Random) -> u64 {
    let primary = random.below(PRIMARIES.into()) as u8;
    let after = (!random.one_in(4)).then(|| key(random.pick(&KEYS)));
    let is_gone = after.is_none();
    logs.write_row(primary, after);
    if is_gone && random.one_in(2) {
        logs.write_tombstone(primary);
        return 1;
    }
    0
}
