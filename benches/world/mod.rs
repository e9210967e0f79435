//! Runs a planner, its dataflow and modelled nodes on queries from memory, without a broker.
//!
//! Ten cells a range, a hundred ranges a node, one query of random cost for each active cell. Nodes have
//! so much room that nothing has to move, and cells are neither cut nor joined: sizes stay what they are.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use cpu_time::ProcessTime;
use dataflows::Tick;
use dataflows::balance::policy::Policy;
use dataflows::cells::CellRules;
use dataflows::tally::Costs;
use isotherm::assignment::birth;
use isotherm::forecast::Rung;
use isotherm::kafka::source::FilledBox;
use isotherm::kafka::{Record, TopicPartition};
use isotherm::planner::driver;
use isotherm::planner::engine::Engine;
use isotherm::planner::machine::{Planner, TickOutputs, first_cells};
use isotherm::planner::settings::{Mode, Settings};
use isotherm::replay::executor::{DataSet, Executor, Model};
use isotherm::tick::machine::Origin;
use isotherm::tick::tick_box::TickBox;
use rand::{Rng, SeedableRng};
use rand_pcg::Pcg64;
use schemas::query_log::{Op, QueriesLogged, QueryLogged};
use schemas::wire::{Record as _, encode};
use schemas::{Key, KeySpan, Millis, NodeId};

const TICK_MS: u64 = 5000;

/// The parts of a tick, in their order.
pub const STAGES: [&str; 7] = ["begin", "heat", "forecast", "decide", "delta", "settle", "finish"];

/// What a tick took, in milliseconds.
pub struct Took {
    /// By the clock on the wall.
    pub wall: f64,
    /// CPU of all threads, by stage.
    pub cpu: [f64; STAGES.len()],
}

/// A planner and what it plans for.
pub struct World {
    pub planner: Planner,
    pub engine: Engine,
    pub next: Tick,
    executor: Executor,
    starts: Vec<Key>,
    rng: Pcg64,
}

impl World {
    /// Begins, shares the ranges out, and gives heat to every cell.
    pub fn new(cells: usize, timely_workers: usize) -> Self {
        let ranges = cells / 10;
        let nodes = (ranges / 100).max(4);
        let settings = Settings {
            tick_ms: TICK_MS,
            mode: Mode::Auto,
            rung: Rung::Ewma,
            costs: Costs { read_us: 100, scan_us: 500, write_us: 200 },
            cells: CellRules { cut_ppm: 1_000_000, cut_last_ppm: 1_000_000, ..RULES },
            policy: Policy { ranges_per_node_min: 1_000_000, ..Policy::default() },
            birth_nodes: nodes as u32,
            split_points: birth::cuts(&Key::default(), &Key::default(), ranges as u32),
            key_end: Key(vec![0xff; 8]),
            snapshot_ticks: 0,
            silent_ticks: 12,
            cancel_grace_ms: 60_000,
            query_log: Default::default(),
            network: None,
        };
        let capacities: BTreeMap<_, _> =
            (0..nodes).map(|it| (NodeId(format!("node-{it}")), 1_000_000_000)).collect();
        let data = DataSet { intervals: vec![(KeySpan::all(), 1 << 40)] };
        let mut res = Self {
            planner: Planner::new(settings.clone()),
            engine: driver::start(&settings, timely_workers).expect("threads can be started"),
            next: 1000,
            executor: Executor::new(Model::default(), data, capacities),
            starts: std::iter::once(Key::default()).chain(first_cells(&settings)).collect(),
            rng: Pcg64::seed_from_u64(1),
        };
        // Birth; what it begins is over a tick later.
        (0..3).for_each(|_| _ = res.tick(100));
        res
    }

    /// Runs a tick in which so many per cent of the cells are asked for something.
    pub fn tick(&mut self, active_percent: usize) -> Took {
        let filled = self.filled(active_percent);
        let tick = filled.bounds.tick;
        let (planner, engine) = (&mut self.planner, &mut self.engine);
        let mut watch = Stopwatch::start();
        let (payloads, changes) = planner.begin(filled);
        watch.lap();
        let heated = engine.heat(tick, payloads, changes).expect("timely workers live");
        watch.lap();
        planner.heated(heated);
        watch.lap();
        let wanted = planner.decide();
        watch.lap();
        let delta = engine.delta(tick, wanted).expect("timely workers live");
        watch.lap();
        let cells = planner.settle(delta);
        watch.lap();
        assert!(cells.is_empty(), "no cell is cut or joined here");
        let outputs = planner.finish(None);
        watch.lap();
        self.committed(&outputs);
        watch.took()
    }

    /// Returns the records of the next tick.
    pub fn filled(&mut self, active_percent: usize) -> FilledBox {
        let tick = self.next;
        self.next += 1;
        let [begin, end] = [tick, tick + 1].map(|it| Millis(it * TICK_MS));
        let answers = self.executor.run(begin, end);
        let mut records = Vec::new();
        let mut add = |topic, stamp, value| {
            let (at, offset) = (TopicPartition { topic, partition: 0 }, records.len() as u64);
            let value = Some(value);
            records.push(Record { at, offset, stamp, key: None, value, headers: Vec::new() });
        };
        answers.statuses.iter().for_each(|it| add("migration_status", it.0, encode(&it.1)));
        answers.reports.iter().for_each(|it| add("node_capacity", it.0, encode(&it.1)));
        for batch in self.active(active_percent).chunks(100) {
            let queries = batch.iter().map(|&cell| QueryLogged {
                time: begin,
                key: Key([self.starts[cell].0.as_slice(), b"key"].concat()),
                op: if self.rng.random_bool(0.25) { Op::Write } else { Op::Read },
                cost_us: Some(self.rng.random_range(50..150)),
                bytes: 1024,
                estimated: false,
            });
            add(QueriesLogged::TOPIC, begin, encode(&QueriesLogged { queries: queries.collect() }));
        }
        // Partitions are for timely workers to share.
        for (partition, record) in (0..).zip(&mut records) {
            record.at.partition = partition;
        }
        let bounds = TickBox {
            tick,
            tick_ms: TICK_MS,
            grace_ms: 300,
            span_records_max: 100_000,
            spans: BTreeMap::new(),
            stale: false,
            from_future: BTreeSet::new(),
        };
        FilledBox { bounds, origin: Origin::Chosen, records, from_future: Vec::new() }
    }

    /// Lets the nodes do what a tick led to.
    pub fn committed(&mut self, outputs: &TickOutputs) {
        let now = Millis(self.next * TICK_MS);
        outputs.commands.iter().for_each(|it| self.executor.commanded(now, it));
        for (start, assignment) in &outputs.assignments {
            self.executor.assigned(now, start.clone(), assignment.clone());
        }
    }

    fn active(&mut self, percent: usize) -> Vec<usize> {
        let cells = self.starts.len();
        match percent {
            100 => (0..cells).collect(),
            _ => (0..cells * percent / 100).map(|_| self.rng.random_range(0..cells)).collect(),
        }
    }
}

const RULES: CellRules = CellRules {
    cut_ppm: 0,
    cut_last_ppm: 0,
    join_ppm: 1_000,
    samples_min: 16,
    rest_ticks: 60,
    cells_per_range: 10,
    cells_per_range_max: 256,
    cells_max: 200_000,
    reshapes_max: 64,
};

/// Measures one stage after the other.
struct Stopwatch {
    start: Instant,
    last: ProcessTime,
    cpu: Vec<f64>,
}

impl Stopwatch {
    fn start() -> Self {
        Self { start: Instant::now(), last: ProcessTime::now(), cpu: Vec::new() }
    }

    fn lap(&mut self) {
        self.cpu.push(self.last.elapsed().as_secs_f64() * 1e3);
        self.last = ProcessTime::now();
    }

    fn took(self) -> Took {
        let wall = self.start.elapsed().as_secs_f64() * 1e3;
        Took { wall, cpu: self.cpu.try_into().expect("a lap a stage") }
    }
}

pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
