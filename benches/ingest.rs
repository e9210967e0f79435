//! Measures what it costs to take queries in, against the bare loop: poll, decode, look up.
//!
//! ```text
//!  bare     poll ──> decode ──> look up
//!  ingest   source ──> ticks ──> decode ──> look up ──> sums ──> windows by cell
//!  heat     the same, and ──> ranges ──> nodes
//! ```
//!
//! and what the same queries cost to read that others wrote in another form (`foreign`).
//!
//! `cargo bench --bench ingest`. Each reads the same log from an embedded broker, in turns within one
//! run. What is compared is CPU of the threads that do the work: the one that reads and the timely
//! worker's. The Kafka client's own threads and the broker's are left out, on every side.
//!
//! Linux only: it asks `/proc` for the CPU of another thread.

mod scale;
mod foreign;

use std::collections::BTreeMap;
use std::fs;
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use cpu_time::ThreadTime;
use dataflows::Tick;
use dataflows::splits::{SplitChange, Splits};
use dataflows::tally::{Costs, Payload, Rules};
use isotherm::kafka::embedded::Embedded;
use isotherm::kafka::source::{Input, Inputs, Source, Start};
use isotherm::kafka::writer::Writer;
use isotherm::kafka::{Connection, Output};
use isotherm::planner::engine::Engine;
use isotherm::planner::machine::Changes;
use isotherm::tick;
use isotherm::tick::machine::Reading;
use rand::{Rng, SeedableRng};
use rand_distr::Zipf;
use rand_pcg::Pcg64;
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::Message;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use scale::or_smoke;
use schemas::query_log::{self, Op, QueriesLogged, QueryLogged};
use schemas::wire::{Record, encode};
use schemas::{CellId, Key, Millis, NodeId, RangeId};

const PARTITIONS: u32 = 24;
const ENTRIES_A_RECORD: usize = 100;
const PAIRS: usize = 5;
const TICK_MS: u64 = 1000;

/// The broker holds 5 MiB of a partition, which bounds what can be read in one go.
fn records_all() -> usize {
    or_smoke(20_000, 1000)
}

fn main() {
    if !scale::is_asked() {
        return;
    }
    compare_forms();
    for &ticks in or_smoke(&[10, 2][..], &[2]) {
        let log = Log::write(ticks);
        println!(
            "\n{} thousand queries a tick, {ENTRIES_A_RECORD} a record, CPU ns a query; ratios of {PAIRS} turns",
            records_all() * ENTRIES_A_RECORD / ticks / 1000
        );
        println!(
            "{:>8} {:>6} {:>7} {:>6} {:>7} {:>6}  ratios of ingest",
            "cells", "bare", "ingest", "ratio", "heat", "ratio"
        );
        or_smoke(&[1000, 10_000, 100_000][..], &[1000])
            .iter()
            .for_each(|cells| compare(&log, *cells));
    }
}

fn compare(log: &Log, cells: usize) {
    let starts = starts(cells);
    // The first turn of each warms up.
    let turn = |_| [log.bare(&starts), log.ingest(&starts, false), log.ingest(&starts, true)];
    let turns: Vec<_> = (0..=PAIRS).map(turn).skip(1).collect();
    let nanoseconds = |side: usize| {
        let each =
            turns.iter().map(|it| it[side] * 1e9 / (records_all() * ENTRIES_A_RECORD) as f64);
        median(each.collect())
    };
    let ratios = |side: usize| turns.iter().map(|it| it[0] / it[side]).collect::<Vec<_>>();
    let [bare, ingest, heat] = [0, 1, 2].map(nanoseconds);
    let [ratio, whole] = [1, 2].map(|it| median(ratios(it)));
    let all: Vec<_> = ratios(1).iter().map(|it| format!("{it:.2}")).collect();
    let all = all.join(" ");
    println!("{cells:>8} {bare:>6.0} {ingest:>7.0} {ratio:>6.2} {heat:>7.0} {whole:>6.2}  {all}");
}

/// Reads the same batch in several forms, from memory.
fn compare_forms() {
    let mut rng = Pcg64::seed_from_u64(1);
    let zipf = Zipf::new(10_000_000.0, 0.99).expect("a distribution");
    let batch = batch(&mut rng, zipf, Millis(1_743_500_000_000));
    let turns: Vec<_> = (0..=PAIRS).map(|_| foreign::nanoseconds(&batch)).skip(1).collect();
    println!(
        "\nread from memory, {ENTRIES_A_RECORD} a record, CPU ns a query; ratios of {PAIRS} turns"
    );
    println!("{:>16} {:>6} {:>6}", "form", "ns", "ratio");
    for (form, name) in ["own", "own, framed", "Avro", "JSON"].into_iter().enumerate() {
        let ns = median(turns.iter().map(|it| it[form]).collect());
        let ratio = median(turns.iter().map(|it| it[form] / it[0]).collect());
        println!("{name:>16} {ns:>6.0} {ratio:>6.1}");
    }
}

/// Keys of 24 bytes, Zipf over ten million, scattered.
fn batch(rng: &mut Pcg64, zipf: Zipf<f64>, stamp: Millis) -> QueriesLogged {
    let query = |_| {
        let key = (rng.sample(zipf) as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        QueryLogged {
            time: stamp,
            key: Key([b"user", &key.to_be_bytes()[..], &[b'k'; 12]].concat()),
            op: if rng.random_bool(0.25) { Op::Write } else { Op::Read },
            cost_us: Some(rng.random_range(50..150)),
            bytes: 1024,
            estimated: false,
        }
    };
    QueriesLogged { queries: (0..ENTRIES_A_RECORD).map(query).collect() }
}

/// A query log on a broker of its own.
struct Log {
    broker: Embedded,
}

impl Log {
    /// Writes a log of so many ticks, which are over.
    fn write(ticks: usize) -> Self {
        let topics = [(QueriesLogged::TOPIC.to_owned(), PARTITIONS)];
        let broker = Embedded::start(&topics).expect("a broker can be started");
        let writer = Writer::open(&broker.connection(), "ingest").expect("a writer can be opened");
        let mut rng = Pcg64::seed_from_u64(1);
        let zipf = Zipf::new(10_000_000.0, 0.99).expect("a distribution");
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is later than 1970");
        let begin = (now.as_millis() as u64 - 600_000) / TICK_MS * TICK_MS;
        for record in 0..records_all() {
            let stamp = Millis(begin + (record * ticks / records_all()) as u64 * TICK_MS);
            let output = Output {
                topic: QueriesLogged::TOPIC,
                partition: Some(record as u32 % PARTITIONS),
                stamp: Some(stamp),
                key: None,
                value: Some(encode(&batch(&mut rng, zipf, stamp))),
                headers: Vec::new(),
            };
            writer.send(&output).expect("the broker takes it");
        }
        writer.flush().expect("the broker takes all");
        Self { broker }
    }

    /// CPU seconds of the bare loop.
    fn bare(&self, starts: &[Key]) -> f64 {
        let mut splits = Splits::default();
        splits.apply(inserts(starts));
        let Connection { bootstrap_servers, .. } = self.broker.connection();
        let consumer: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", bootstrap_servers)
            .set("group.id", "bare")
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("fetch.wait.max.ms", "10")
            .create()
            .expect("a consumer can be made");
        let mut list = TopicPartitionList::new();
        for partition in 0..PARTITIONS as i32 {
            list.add_partition_offset(QueriesLogged::TOPIC, partition, Offset::Beginning)
                .expect("a partition");
        }
        consumer.assign(&list).expect("partitions can be assigned");
        let (mut records, mut sum) = (0, 0);
        let time = ThreadTime::now();
        while records < records_all() {
            let Some(message) = consumer.poll(Duration::from_millis(100)) else { continue };
            let message = message.expect("the broker is here");
            let value = message.payload().expect("a value");
            query_log::read(value, |it| sum += splits.rank(it.key).unwrap_or(0))
                .expect("a record of the query log");
            records += 1;
        }
        std::hint::black_box(sum);
        time.elapsed().as_secs_f64()
    }

    /// CPU seconds of source and dataflow; by cell alone, or up to ranges and nodes.
    fn ingest(&self, starts: &[Key], to_nodes: bool) -> f64 {
        // Those of the engine before end in their own time.
        while !timely_threads().is_empty() {
            thread::sleep(Duration::from_millis(1));
        }
        let costs = Costs { read_us: 100, scan_us: 500, write_us: 200 };
        let rules = Rules { costs, tick_ms: TICK_MS, key_bytes_max: 4096 };
        let mut engine = Engine::start(1, rules).expect("threads can be started");
        let changes = changes(starts, to_nodes);
        let mut source = Source::open(&self.inputs(), Vec::new()).expect("the broker is here");
        let first = source.open_tick().expect("the broker is here").expect("the log has ticks");
        heat(&mut engine, first - 1, Vec::new(), changes);

        let (mut records, mut touched) = (0, 0);
        let (before, time) = (timely_seconds(), ThreadTime::now());
        while records < records_all() {
            let filled = source.next_tick().expect("the broker is here").expect("a tick");
            records += filled.records.len();
            let payloads = filled.records.into_iter().filter_map(|it| {
                let (partition, offset, stamp) = (it.at.partition, it.offset, it.stamp);
                Some(Payload { partition, offset, stamp, value: it.value? })
            });
            let payloads = payloads.collect();
            touched += heat(&mut engine, filled.bounds.tick, payloads, Changes::default());
        }
        let took = time.elapsed().as_secs_f64() + timely_seconds() - before;
        assert!(touched > 0, "queries touch cells");
        took
    }

    fn inputs(&self) -> Inputs {
        let input = Input {
            connection: self.broker.connection(),
            topics: vec![QueriesLogged::TOPIC],
            reading: Reading::Live,
            start: Start::Beginning,
            end: None,
        };
        let rules = tick::machine::Rules { tick_ms: TICK_MS, ..tick::machine::Rules::default() };
        Inputs { name: "ingest".to_owned(), rules, inputs: vec![input] }
    }
}

fn heat(engine: &mut Engine, tick: Tick, payloads: Vec<Payload>, changes: Changes) -> usize {
    engine.heat(tick, payloads, changes).expect("the timely worker lives").cells.len()
}

/// Cells; and if wanted ranges of ten cells each, on a hundred nodes.
fn changes(starts: &[Key], to_nodes: bool) -> Changes {
    let mut res = Changes { splits: inserts(starts), ..Changes::default() };
    if to_nodes {
        let cells = 0..starts.len() as u64;
        res.cell_ranges = cells.map(|it| ((id(it), RangeId(it / 10)), 1)).collect();
        let ranges = 0..starts.len() as u64 / 10;
        let node = |it| NodeId(format!("node-{}", it % 100));
        res.range_nodes = ranges.map(|it| ((RangeId(it), node(it)), 1)).collect();
    }
    res
}

fn id(cell: u64) -> CellId {
    CellId(cell.wrapping_mul(0x9e37_79b9_7f4a_7c15))
}

/// Uniform starts behind a common prefix, the first one empty.
fn starts(cells: usize) -> Vec<Key> {
    let step = u64::MAX / cells as u64;
    let start = |at: u64| Key([b"user".as_slice(), &(at * step).to_be_bytes()].concat());
    std::iter::once(Key::default()).chain((1..cells as u64).map(start)).collect()
}

fn inserts(starts: &[Key]) -> Vec<SplitChange> {
    let insert =
        |(at, start): (u64, &Key)| SplitChange::Insert { start: start.clone(), cell: id(at) };
    (0..).zip(starts).map(insert).collect()
}

/// CPU seconds of each thread of a timely worker, by its id.
fn timely_threads() -> BTreeMap<String, f64> {
    let tasks = fs::read_dir("/proc/self/task").expect("Linux tells of threads");
    let thread = |task: fs::DirEntry| {
        // A thread may end while it is looked at.
        let name = fs::read_to_string(task.path().join("comm")).ok()?;
        let nanoseconds = fs::read_to_string(task.path().join("schedstat")).ok()?;
        let nanoseconds: f64 = nanoseconds.split(' ').next()?.parse().ok()?;
        let id = task.file_name().to_string_lossy().into_owned();
        name.starts_with("timely:work").then_some((id, nanoseconds / 1e9))
    };
    tasks.filter_map(Result::ok).filter_map(thread).collect()
}

fn timely_seconds() -> f64 {
    timely_threads().values().sum()
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
