//! Models all that is around a planner, tick by tick, from a seed: what is asked, reported and told.
//!
//! ```text
//!  hot spot ──> batches ─────────┐
//!  executor ──> reports, answers ┼─> some late, twice, unknown, mute, unreadable ──> box of t ──> planner
//!     ^                          │                                                                 │
//!     └──────────────────────────┴─── commands, assignments, its own statuses <────────────────────┘
//! ```

use std::collections::{BTreeMap, BTreeSet};

use dataflows::Tick;
use dataflows::balance::policy::Policy;
use dataflows::cells::CellRules;
use dataflows::tally::Costs;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use rand_pcg::Pcg64;
use schemas::migrate_range::Command;
use schemas::migration_status::{MigrationStatus, Status};
use schemas::node_capacity::NodeCapacity;
use schemas::operator_command::OperatorCommand;
use schemas::query_log::{Op, QueriesLogged, QueryLogged};
use schemas::wire::{Record as _, encode};
use schemas::{Epoch, Key, KeySpan, MigrationId, Millis, NodeId};

use super::operator::Operator;
use crate::assignment::birth;
use crate::forecast::Rung;
use crate::kafka::source::FilledBox;
use crate::kafka::{Record, TopicPartition};
use crate::planner::driver;
use crate::planner::engine::Engine;
use crate::planner::machine::{Planner, TickOutputs};
use crate::planner::settings::{Mode, Settings};
use crate::replay::executor::{DataSet, Executor, Model};
use crate::table::rows::KEY_BYTES_MAX;
use crate::tick::machine::Origin;
use crate::tick::tick_box::{Offset, Span, TickBox};

/// The tick at which every world begins.
pub const FIRST: Tick = 100_000;

/// An entry with a key of this length is passed over.
pub const KEY_BYTES_TOO_MANY: usize = KEY_BYTES_MAX + 1;

const PARTITIONS: u32 = 3;

/// One box, to be read as often as wanted.
#[derive(Clone, Debug)]
pub struct Recorded {
    pub bounds: TickBox,
    pub records: Vec<Record>,
    pub from_future: Vec<Record>,
}

impl Recorded {
    pub fn fill(&self) -> FilledBox {
        FilledBox {
            bounds: self.bounds.clone(),
            origin: Origin::Recorded,
            records: self.records.clone(),
            from_future: self.from_future.clone(),
        }
    }
}

pub struct World {
    pub settings: Settings,
    rng: Pcg64,
    executor: Executor,
    tick: Tick,
    offsets: BTreeMap<TopicPartition, u64>,
    /// Statuses on their way, by the tick in which they come.
    coming: BTreeMap<Tick, Vec<MigrationStatus>>,
    /// Migrations of which nobody hears.
    muted: BTreeSet<MigrationId>,
    shape: Shape,
    operator: Operator,
}

/// How the load of a world is.
struct Shape {
    /// Where the hot spot is, as a part of the key space, and how it travels.
    at: f64,
    speed: f64,
    /// One key has this part of the load.
    one_key: f64,
    /// What comes lies behind what came.
    sweeps: bool,
    /// Load over capacity.
    level: f64,
    is_silent: bool,
}

/// Settings of a small world whose tick is so long.
pub fn settings(tick_ms: u64, snapshot_ticks: Tick) -> Settings {
    Settings {
        tick_ms,
        mode: Mode::Auto,
        rung: Rung::Ewma,
        costs: Costs { read_us: 1000, scan_us: 2000, write_us: 3000 },
        cells: CellRules {
            cut_ppm: 60_000,
            cut_last_ppm: 30_000,
            join_ppm: 20_000,
            samples_min: 6,
            rest_ticks: 6,
            cells_per_range: 4,
            cells_per_range_max: 12,
            cells_max: 60,
            reshapes_max: 4,
        },
        policy: Policy {
            headroom_permille: 200,
            ranges_max: 20,
            ranges_per_node_soft: 6,
            ranges_per_node_min: 2,
            piece_permille: 160,
            splits_max: 3,
            joins_max: 3,
            move_bytes_max: 24 << 20,
            moves_in_flight_max: 3,
            moves_in_flight_per_node_max: 2,
            bytes_in_flight_max: 20 << 20,
            churn_bytes_per_hour_max: 40 << 20,
            bandwidth_bytes_per_s: 4_000_000 * 1000 / tick_ms,
            disruption_ms: tick_ms / 100,
            net_benefit_ms_min: tick_ms / 100,
            cool_down_ticks: 5,
            deadline_ms: 6 * tick_ms,
            ..Policy::default()
        },
        birth_nodes: 4,
        split_points: birth::cuts(&Key::default(), &Key::default(), 8),
        key_end: Key(vec![0xff; 4]),
        snapshot_ticks,
        silent_ticks: 5,
        cancel_grace_ms: 2 * tick_ms,
        query_log: Default::default(),
        network: None,
    }
}

pub fn node(i: u64) -> NodeId {
    NodeId(format!("n{i}"))
}

/// Runs a tick as the driver does: by the network that was chosen before.
pub fn tick(planner: &mut Planner, engine: &mut Engine, filled: FilledBox) -> TickOutputs {
    planner.forecasts_by(planner.network());
    driver::tick(planner, engine, filled).unwrap()
}

impl World {
    pub fn new(seed: u64) -> Self {
        let mut rng = Pcg64::seed_from_u64(seed);
        // An hour is longer than the world, or a part of it.
        let tick_ms = if seed.is_multiple_of(4) { 120_000 } else { 1000 };
        let rung = if seed % 4 == 3 { Rung::Ladder } else { Rung::Ewma };
        let mut settings = Settings { rung, ..settings(tick_ms, rng.random_range(7..=11)) };
        if seed % 7 == 2 {
            // So long that no move pays before.
            settings.policy.cool_down_ticks = 200;
        }
        let model = Model {
            bandwidth_bytes_per_s: settings.policy.bandwidth_bytes_per_s,
            delay_ms: tick_ms / 5,
            ..Model::default()
        };
        let data = DataSet { intervals: vec![(KeySpan::all(), 128 << 20)] };
        let nodes = (1..=4).map(|i| (node(i), i * 100_000)).collect();
        let shape = Shape {
            at: rng.random_range(0.0..1.0),
            speed: rng.random_range(-0.02..0.02),
            one_key: if seed % 5 == 1 { 0.3 } else { 0.0 },
            sweeps: seed % 5 == 2,
            level: rng.random_range(0.4..0.8),
            is_silent: false,
        };
        Self {
            settings,
            rng,
            executor: Executor::new(model, data, nodes),
            tick: FIRST,
            offsets: BTreeMap::new(),
            coming: BTreeMap::new(),
            muted: BTreeSet::new(),
            shape,
            operator: Operator::new(seed),
        }
    }

    /// Nothing is asked any more.
    pub fn silence(&mut self) {
        self.shape.is_silent = true;
    }

    /// A report that holds water, before it is changed.
    pub fn any_report(&self) -> NodeCapacity {
        self.executor.reports().next().expect("there are nodes")
    }

    /// A status as a destination says it, before it is changed.
    pub fn any_status(&self) -> MigrationStatus {
        MigrationStatus {
            migration: MigrationId(1),
            range_start: Key::default(),
            range_end: Key::default(),
            teller: node(1),
            status: Status::InProgress,
            phase: None,
            reason: None,
            epoch: Epoch(1),
            attempt: 1,
            bytes: 0,
            digest: None,
            partitions_left: Vec::new(),
        }
    }

    /// Runs so many ticks; returns their boxes and what they led to.
    pub fn run(
        &mut self,
        planner: &mut Planner,
        engine: &mut Engine,
        ticks: Tick,
        mut each: impl FnMut(&Planner, &Recorded, &TickOutputs),
    ) -> Vec<Recorded> {
        let mut boxes = Vec::new();
        for _ in 0..ticks {
            let recorded = self.next_box();
            let outputs = tick(planner, engine, recorded.fill());
            self.carry_out(&outputs);
            each(planner, &recorded, &outputs);
            boxes.push(recorded);
        }
        boxes
    }

    /// What the next tick reads.
    pub fn next_box(&mut self) -> Recorded {
        let (tick, tick_ms) = (self.tick, self.settings.tick_ms);
        let (from, to) = (Millis(tick * tick_ms), Millis((tick + 1) * tick_ms));
        let before = self.offsets.clone();
        let mut records = Vec::new();
        self.ask(from, &mut records);

        let answers = self.executor.run(from, to);
        for (_, status) in answers.statuses {
            self.send(status);
        }
        for status in self.coming.remove(&tick).unwrap_or_default() {
            let value = Some(encode(&status));
            let partition = (status.migration.0 % 2) as u32;
            records.push(self.record(MigrationStatus::TOPIC, partition, from, value));
        }
        for (i, (stamp, report)) in answers.reports.into_iter().enumerate() {
            self.report(i as u32, stamp, report, &mut records);
        }
        for value in self.operator.commands() {
            records.push(self.record(OperatorCommand::TOPIC, 0, from, Some(value)));
        }
        let mut from_future = Vec::new();
        if self.rng.random_bool(0.03) {
            let value = Some(vec![1, 2, 3]);
            from_future.push(self.record(QueriesLogged::TOPIC, 1, Millis(to.0 * 2), value));
        }
        // As they came from the broker: in order by partition, partitions in any.
        interleave(&mut self.rng, &mut records);
        let spans = self.offsets.iter().map(|(at, to)| {
            let from = before.get(at).copied().unwrap_or(0);
            (*at, Span { from: Offset(from), to: Offset(*to) })
        });
        let bounds = TickBox {
            tick,
            tick_ms,
            grace_ms: 0,
            span_records_max: 1000,
            spans: spans.collect(),
            stale: self.rng.random_bool(0.04),
            from_future: from_future.iter().map(|it| (it.at, Offset(it.offset))).collect(),
        };
        self.tick += 1;
        Recorded { bounds, records, from_future }
    }

    /// Takes in what was committed at the end of a tick.
    pub fn carry_out(&mut self, outputs: &TickOutputs) {
        let now = Millis(self.tick * self.settings.tick_ms);
        for it in &outputs.commands {
            if it.command == Command::Start && self.rng.random_bool(0.15) {
                self.muted.insert(it.migration);
            }
            self.executor.commanded(now, it);
        }
        for (start, it) in &outputs.assignments {
            self.executor.assigned(now, start.clone(), it.clone());
            self.operator.assigned(start.clone(), it.clone());
        }
        // The planner reads its own words again.
        for it in outputs.outputs.iter().filter(|it| it.topic == MigrationStatus::TOPIC) {
            let value = it.value.as_deref().expect("a status is no tombstone");
            let status = schemas::wire::decode(value).unwrap();
            self.coming.entry(self.tick).or_default().push(status);
        }
    }

    /// Sends a status, sometimes late, twice, not at all, or with a stranger's beside it.
    fn send(&mut self, status: MigrationStatus) {
        if self.muted.contains(&status.migration) {
            return;
        }
        let late = *[0, 0, 0, 0, 0, 1, 2, 4].choose_in(&mut self.rng);
        let at = self.tick + late;
        if self.rng.random_bool(0.2) {
            let again = at + self.rng.random_range(0..3);
            self.coming.entry(again).or_default().push(status.clone());
        }
        if self.rng.random_bool(0.1) {
            let migration = MigrationId(self.rng.random_range(5000..6000));
            self.coming
                .entry(at)
                .or_default()
                .push(MigrationStatus { migration, ..status.clone() });
        }
        if self.rng.random_bool(0.1) {
            let strange = MigrationStatus {
                teller: NodeId("nobody".into()),
                status: Status::Complete,
                ..status.clone()
            };
            self.coming.entry(self.tick).or_default().push(strange);
        }
        self.coming.entry(at).or_default().push(status);
    }

    fn report(
        &mut self,
        partition: u32,
        stamp: Millis,
        good: NodeCapacity,
        records: &mut Vec<Record>,
    ) {
        if self.tick > FIRST + 2 && self.rng.random_bool(0.3) {
            return;
        }
        let busy = self.rng.random_bool(0.2).then(|| self.rng.random_range(0.3..1.0));
        let mut good = NodeCapacity { cpu_load: busy, ..good };
        if self.rng.random_bool(0.05) {
            good.capacity_us_per_s = Some(f64::NAN);
        } else if self.rng.random_bool(0.05) {
            good.capacity_us_per_s = Some(-3.0);
        } else if self.rng.random_bool(0.05) {
            good.store_id = "another".into();
        }
        let bytes = match self.rng.random_bool(0.03) {
            true => vec![0xc3, 1, 9, 9, 9],
            false => encode(&good),
        };
        records.push(self.record(NodeCapacity::TOPIC, partition % 2, stamp, Some(bytes)));
    }

    fn ask(&mut self, from: Millis, records: &mut Vec<Record>) {
        if self.shape.is_silent {
            return;
        }
        let tick_ms = self.settings.tick_ms;
        self.shape.at = (self.shape.at + self.shape.speed).rem_euclid(1.0);
        if self.rng.random_bool(0.08) {
            self.shape.level = *[0.0, 0.3, 0.6, 0.8, 1.0].choose_in(&mut self.rng);
        }
        let count = self.rng.random_range(40..60_u64);
        let capacity_us = 1_000_000 * tick_ms / 1000;
        let mean_us = (capacity_us as f64 * self.shape.level / count as f64) as u64;
        let mut queries = Vec::new();
        for i in 0..count * u64::from(mean_us > 0) {
            let time = Millis(from.0 + i * tick_ms / count);
            let late = self.rng.random_bool(0.02);
            let time = if late { Millis(time.0.saturating_sub(3 * 3_600_000)) } else { time };
            let cost_us = self.rng.random_range(mean_us / 2..mean_us * 3 / 2 + 1);
            queries.push(QueryLogged {
                time,
                key: self.key(i, count),
                op: *[Op::Read, Op::Read, Op::Scan, Op::Write].choose_in(&mut self.rng),
                cost_us: self.rng.random_bool(0.95).then_some(cost_us),
                bytes: self.rng.random_range(0..5000),
                estimated: self.rng.random_bool(0.1),
            });
        }
        if self.rng.random_bool(0.05) {
            let key = Key(vec![7; KEY_BYTES_TOO_MANY]);
            let (op, cost_us) = (Op::Read, Some(mean_us));
            queries.push(QueryLogged { time: from, key, op, cost_us, bytes: 1, estimated: false });
        }
        for batch in queries.chunks(17) {
            let partition = self.rng.random_range(0..PARTITIONS);
            let value = Some(encode(&QueriesLogged { queries: batch.to_vec() }));
            records.push(self.record(QueriesLogged::TOPIC, partition, from, value));
        }
        if self.rng.random_bool(0.1) {
            let partition = self.rng.random_range(0..PARTITIONS);
            let value = match self.rng.random_bool(0.5) {
                true => Some(vec![0xc3, 1, 0, 0]),
                false => None,
            };
            records.push(self.record(QueriesLogged::TOPIC, partition, from, value));
        }
    }

    /// Half of what is asked lies in the hot spot, a tenth of the key space.
    fn key(&mut self, i: u64, count: u64) -> Key {
        let Shape { at, one_key, sweeps, speed, .. } = self.shape;
        let place = if self.rng.random_bool(one_key) {
            at - 40.0 * speed
        } else if sweeps && self.rng.random_bool(0.4) {
            // What was reached so far, slowly.
            0.9 + 0.1 * ((self.tick - FIRST) as f64 + i as f64 / count as f64) / 200.0
        } else if self.rng.random_bool(0.5) {
            at + self.rng.random_range(-0.05..0.05)
        } else {
            self.rng.random_range(0.0..1.0)
        };
        let bytes = (place.rem_euclid(1.0) * f64::from(u32::MAX)) as u32;
        Key(bytes.to_be_bytes().to_vec())
    }

    fn record(
        &mut self,
        topic: &'static str,
        partition: u32,
        stamp: Millis,
        value: Option<Vec<u8>>,
    ) -> Record {
        let at = TopicPartition { topic, partition };
        let next = self.offsets.entry(at).or_default();
        let offset = *next;
        *next += 1;
        Record { at, offset, stamp, key: None, value, headers: Vec::new() }
    }
}

/// Mixes partitions; the records of each stay in order.
pub fn interleave(rng: &mut Pcg64, records: &mut Vec<Record>) {
    let mut order: Vec<TopicPartition> = records.iter().map(|it| it.at).collect();
    order.shuffle(rng);
    let mut queues = BTreeMap::<TopicPartition, Vec<Record>>::new();
    records.sort_by_key(|it| (it.at, it.offset));
    records.drain(..).rev().for_each(|it| queues.entry(it.at).or_default().push(it));
    *records = order.iter().filter_map(|at| queues.get_mut(at)?.pop()).collect();
}

pub trait ChooseIn<T> {
    fn choose_in(&self, rng: &mut Pcg64) -> &T;
}

impl<T, const N: usize> ChooseIn<T> for [T; N] {
    fn choose_in(&self, rng: &mut Pcg64) -> &T {
        &self[rng.random_range(0..N)]
    }
}
