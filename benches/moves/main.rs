//! Measures what it costs to move a range from worker to worker over a real Kafka, what readers notice of
//! it, and what memory it takes; how many reads are answered, and how fast updates are applied.
//!
//! `cargo bench --bench moves`, or one of `-- transfer`, `-- reads`, `-- queries`, `-- apply`, `-- memory`. Brings a
//! broker up as `docker/kafka` does, unless `ISOTHERM_TEST_KAFKA` names one. Linux only: it asks `/proc`.

mod cluster;
mod pipe;
mod reads;
mod queries;
mod apply;
#[path = "../bare/mod.rs"]
mod bare;
#[path = "../scale/mod.rs"]
mod scale;
#[path = "../took/mod.rs"]
mod took;

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use isotherm::kafka::admin::{Admin, Topic};
use isotherm::kafka::follow::{Follower, From};
use isotherm::kafka::source::Start;
use isotherm::kafka::tail::scan;
use schemas::migration_status::{MigrationStatus, Phase, Status};
use schemas::wire::{Record as _, decode};
use tikv_jemallocator::Jemalloc;

use cluster::{Bandwidth, Cluster, key};
use pipe::Pipe;
use queries::{Clients, Plain};
use reads::{Client, quantile};
use scale::or_smoke;
use took::Took;

/// As the program has: the bare pipe gains by it as well.
#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

const PAYLOAD_BYTES: usize = 1 << 10;

/// What is in the index, and in the plain server's map, while point reads are asked.
const QUERIED_ROWS: u64 = 20_000;
const QUERIED_BYTES: usize = 100;

/// All keys are before it.
const ONE_RANGE: &str = r#""g""#;

fn main() {
    if !scale::is_asked() {
        return;
    }
    if queries::serve_plain(QUERIED_ROWS, QUERIED_BYTES) {
        return;
    }
    let args: Vec<_> = std::env::args().collect();
    let kafka = Kafka::up();
    let is_wanted = |part: &str| {
        let named = ["transfer", "reads", "queries", "apply", "memory"];
        let named = named.map(|it| args.iter().any(|arg| arg == it));
        named == [false; 5] || args.iter().any(|arg| arg == part)
    };
    if is_wanted("transfer") {
        transfer(&kafka.bootstrap_servers);
    }
    if is_wanted("reads") {
        reads(&kafka.bootstrap_servers);
    }
    if is_wanted("queries") {
        queries(&kafka.bootstrap_servers);
    }
    if is_wanted("apply") {
        apply::apply(&kafka.bootstrap_servers);
    }
    if is_wanted("memory") {
        memory(&kafka.bootstrap_servers);
    }
}

/// A broker, which ends with this if it was begun with this.
struct Kafka {
    bootstrap_servers: String,
    is_ours: bool,
}

impl Kafka {
    fn up() -> Self {
        match std::env::var("ISOTHERM_TEST_KAFKA") {
            Ok(bootstrap_servers) => Self { bootstrap_servers, is_ours: false },
            Err(_) => {
                let output = script().arg("up").output().expect("bash is there");
                let said = String::from_utf8_lossy(&output.stderr);
                assert!(output.status.success(), "docker/kafka up: {said}");
                let bootstrap_servers = String::from_utf8_lossy(&output.stdout).trim().to_owned();
                Self { bootstrap_servers, is_ours: true }
            }
        }
    }
}

impl Drop for Kafka {
    fn drop(&mut self) {
        if self.is_ours {
            _ = script().arg("down").output();
        }
    }
}

fn script() -> Command {
    Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("docker/kafka"))
}

/// One range after the other goes to a node that had nothing of it yet; the same bytes go through the bare
/// pipe, in turns.
fn transfer(bootstrap_servers: &str) {
    let rows = or_smoke(100_000, 500);
    // All ranges but the last, which is empty.
    let split_points = r#""2", "4", "6", "8", "a", "c", "e", "g""#;
    let ranges = split_points.split(',').count();
    let mut cluster =
        Cluster::start(bootstrap_servers, split_points, &["n0"], &[], Bandwidth::Unbounded);
    cluster.write_rows(rows * ranges as u64, PAYLOAD_BYTES);
    cluster.join("n1", &[]);
    ["n0", "n1"].into_iter().for_each(|it| cluster.rest(it));
    let mut pipe = pipe(&cluster, rows);
    println!(
        "\na range of {} MB, entries of {PAYLOAD_BYTES} bytes that do not compress, in turns; seconds",
        (rows as usize * PAYLOAD_BYTES) / 1_000_000
    );
    println!(
        "{:>12} {:>10} {:>10} {:>10} {:>12} {:>12} {:>12}",
        "move, wall",
        "move, CPU",
        "pipe, wall",
        "pipe, CPU",
        "Kafka, wall",
        "pipe ÷ move",
        "Kafka ÷ move"
    );
    let mut turns = Vec::new();
    for range in 0..ranges {
        let moved = move_range(&cluster, range);
        cluster.rest("n0");
        let (bare, kafka) = (pipe.whole(), pipe.kafka_alone());
        // The first warms up.
        if 0 < range {
            tell(moved, bare, kafka);
            turns.push((moved, bare, kafka));
        }
    }
    let median = |of: &dyn Fn(&(Took, Took, Took)) -> f64| {
        let mut all: Vec<_> = turns.iter().map(of).collect();
        all.sort_by(f64::total_cmp);
        all[all.len() / 2]
    };
    println!(
        "median: pipe ÷ move {:.2} by the clock, {:.2} in CPU; Kafka alone ÷ move {:.2} by the clock",
        median(&|it| it.1.wall / it.0.wall),
        median(&|it| it.1.cpu / it.0.cpu),
        median(&|it| it.2.wall / it.0.wall),
    );
}

fn tell(moved: Took, bare: Took, kafka: Took) {
    println!(
        "{:>12.2} {:>10.2} {:>10.2} {:>10.2} {:>12.2} {:>12.2} {:>12.2}",
        moved.wall,
        moved.cpu,
        bare.wall,
        bare.cpu,
        kafka.wall,
        bare.wall / moved.wall,
        kafka.wall / moved.wall,
    );
}

fn pipe(cluster: &Cluster, rows: u64) -> Pipe {
    let topic = cluster.connection.topic("pipe");
    let settings = BTreeMap::from([("max.message.bytes".to_owned(), "2000000".to_owned())]);
    let topics =
        BTreeMap::from([("pipe".to_owned(), Topic { partitions: 1, replication: 1, settings })]);
    Admin::open(&cluster.connection).expect("a broker").create(&topics).expect("it may");
    let mut random = {
        use rand::SeedableRng;
        rand_pcg::Pcg64::seed_from_u64(2)
    };
    let mut entry = |row: u64| {
        let mut value = vec![0; PAYLOAD_BYTES];
        rand::RngCore::fill_bytes(&mut random, &mut value);
        ([key(row).0, vec![0, 0], row.to_be_bytes().to_vec()].concat(), value)
    };
    let entries: Vec<_> = (0..rows).map(&mut entry).collect();
    Pipe::new(&cluster.connection.bootstrap_servers, &topic, &entries)
}

/// Moves a range to the other node. Wall: from the beginning of copying until all is there, as
/// statuses are stamped by the broker. CPU: of both workers, until the source has let go.
fn move_range(cluster: &Cluster, range: usize) -> Took {
    let ranges = cluster.ranges();
    let (range, home) = (text(&ranges[range]["range"]), text(&ranges[range]["node"]));
    let to = if home == "n0" { "n1" } else { "n0" };
    let cpu = || cluster.cpu("n0") + cluster.cpu("n1");
    let before = cpu();
    cluster.command(&["move", &range, "--to", to, "--wait"]);
    let took = cpu() - before;
    let mut stamps = BTreeMap::new();
    let statuses = scan(&cluster.connection, MigrationStatus::TOPIC, Start::Beginning, |record| {
        let Some(value) = &record.value else { return ControlFlow::Continue(()) };
        let it: MigrationStatus = decode(value).expect("it is ours");
        if it.status == Status::InProgress {
            let of = stamps.entry(it.migration).or_insert((None, None));
            match it.phase {
                Some(Phase::Copying) => _ = of.0.get_or_insert(record.stamp.0),
                Some(Phase::Ready) => _ = of.1.get_or_insert(record.stamp.0),
                Some(Phase::Active | Phase::Unknown) | None => (),
            }
        }
        ControlFlow::Continue(())
    });
    statuses.expect("the topic can be read");
    let (begin, end) = stamps.values().next_back().copied().expect("a range has moved");
    let (begin, end) = (begin.expect("it was copied"), end.expect("it was ready"));
    Took { wall: (end - begin) as f64 / 1e3, cpu: took }
}

fn text(it: &serde_json::Value) -> String {
    it.as_str().expect("it is text").to_owned()
}

/// Reads at a steady pace, in turns while nothing moves and while a range does.
fn reads(bootstrap_servers: &str) {
    let rows = or_smoke(200_000, 2000);
    let during = or_smoke(Duration::from_secs(10), Duration::from_secs(1));
    // Half of the keys stay; the other half moves, some 20 MB.
    let cluster =
        Cluster::start(bootstrap_servers, r#""8""#, &["n0", "n1"], &[], Bandwidth::Default);
    cluster.write_rows(rows, 200);
    let ranges = cluster.ranges();
    let epoch = |at: usize| ranges[at]["epoch"].as_u64().expect("it has one");
    let port = |at: usize| cluster.port(&text(&ranges[at]["node"]));
    println!("\na point read at a time, every 5 ms; milliseconds");
    println!("{:>28} {:>8} {:>8} {:>8} {:>8}", "", "p50", "p90", "p99", "p99.9");
    // Who asks is another machine elsewhere; here its turns are as those of whom it asks.
    isotherm::web::precedence::take_short_turns();
    // Only of keys of the second half.
    let mut direct = Client::new(port(1), Some(epoch(1)), rows);
    let mut routed = Client::new(cluster.port("router"), None, rows);
    direct.only_from("8");
    routed.only_from("8");
    for (name, client) in [("worker directly", &mut direct), ("through the router", &mut routed)] {
        client.pace(during / 5);
        say(name, &client.pace(during));
    }
    let mut home = text(&ranges[1]["node"]);
    let mut ends = Follower::open(&cluster.connection, "bench").expect("a reader can be opened");
    let statuses = ends.partitions(MigrationStatus::TOPIC).expect("the topic is there");
    ends.add(statuses.into_iter().map(|it| (it, From::End))).expect("it can be read");
    // The first warms up.
    home = send_away(&cluster, &mut ends, &home);
    let mut ratios = Vec::new();
    for _ in 0..or_smoke(7, 1) {
        let still = routed.pace(during);
        say("router, nothing moves", &still);
        let stop = Instant::now() + during;
        let (moving, moves) = std::thread::scope(|scope| {
            // Told by records alone: a process for each command would take more than the move.
            let moves = scope.spawn(|| {
                let mut took = Vec::new();
                while Instant::now() < stop {
                    let begin = Instant::now();
                    home = send_away(&cluster, &mut ends, &home);
                    took.push(begin.elapsed().as_secs_f64());
                    std::thread::sleep(during / 4);
                }
                took
            });
            let took = routed.pace(during);
            (took, moves.join().expect("moves end"))
        });
        say("router, beside a move", &moving);
        println!("{:>28} {moves:>8.1?}", "seconds from its command on");
        ratios.push(quantile(&moving, 990) / quantile(&still, 990));
    }
    ratios.sort_by(f64::total_cmp);
    let median = ratios[ratios.len() / 2];
    println!("p99 beside a move ÷ without: {median:.2} (median of {ratios:.2?})");
}

/// Has the second range moved to the other node, and returns which that is.
fn send_away(cluster: &Cluster, ends: &mut Follower, home: &str) -> String {
    let to = if home == "n0" { "n1" } else { "n0" };
    cluster.ask_to_move(b"8", b"", to);
    cluster.wait("the end of a move", || {
        let record = ends.poll(Duration::from_millis(100)).expect("the topic can be read")?;
        let it: MigrationStatus = decode(record.value.as_deref()?).expect("it is ours");
        assert!(it.status != Status::Failed, "{it:?}");
        (it.status == Status::Complete).then_some(())
    });
    to.to_owned()
}

fn say(name: &str, took: &[f64]) {
    let ms = |permille| quantile(took, permille) * 1e3;
    let told = [500, 900, 990, 999].map(|it| format!("{:>8.2}", ms(it))).join(" ");
    println!("{name:>28} {told}");
}

/// Asks at growing rates: through the router, the worker directly, and a plain server.
fn queries(bootstrap_servers: &str) {
    let cluster = Cluster::start(bootstrap_servers, ONE_RANGE, &["n0"], &[], Bandwidth::Default);
    cluster.write_rows(QUERIED_ROWS, QUERIED_BYTES);
    cluster.rest("n0");
    let ranges = cluster.ranges();
    let epoch = ranges[0]["epoch"].as_u64();
    let plain = Plain::begin();
    let clients = [
        ("router and worker", Clients::new(cluster.port("router"), None, QUERIED_ROWS)),
        ("worker directly", Clients::new(cluster.port("n0"), epoch, QUERIED_ROWS)),
        ("plain server", Clients::new(plain.port, None, QUERIED_ROWS)),
    ];
    println!("\npoint reads a second until p99 passes 10 ms, a read a request, in turns");
    println!("{:>20} {:>10} {:>10}", "", "reads/s", "p50, ms");
    let mut best = [0.0_f64; 3];
    for _ in 0..or_smoke(3, 1) {
        for ((name, clients), best) in clients.iter().zip(&mut best) {
            let (rate, p50) = clients.rate();
            println!("{name:>20} {rate:>10.0} {p50:>10.2}");
            *best = best.max(rate);
        }
    }
    let [routed, direct, plain] = best;
    println!(
        "router and worker ÷ worker directly {:.2}, worker directly ÷ plain server {:.2}",
        routed / direct,
        direct / plain
    );
}

/// Moves a range of ten times the budget, and tells the peaks.
fn memory(bootstrap_servers: &str) {
    let budget_bytes: u64 = 64 << 20;
    let rows = or_smoke(10 * budget_bytes, budget_bytes / 8) / PAYLOAD_BYTES as u64;
    let budget = budget_bytes.to_string();
    let cluster = Cluster::start(
        bootstrap_servers,
        ONE_RANGE,
        &["n0", "n1"],
        &["--memory", &budget],
        Bandwidth::Unbounded,
    );
    let idle = ["n0", "n1"].map(|it| cluster.resident_bytes(it) >> 20);
    cluster.write_rows(rows, PAYLOAD_BYTES);
    let written = ["n0", "n1"].map(|it| cluster.peak_bytes(it) >> 20);
    ["n0", "n1"].into_iter().for_each(|it| cluster.forget_peak(it));
    let took = move_range(&cluster, 0);
    let peak = ["n0", "n1"].map(|it| cluster.peak_bytes(it) >> 20);
    println!(
        "\nmemory of a worker, budget {} MiB, a range of {} MiB moved in {:.0} s: resident MiB of n0 and n1: \
         {idle:?} when they begin, peak {written:?} while it is written, {peak:?} while it moves",
        budget_bytes >> 20,
        (rows * PAYLOAD_BYTES as u64) >> 20,
        took.wall,
    );
}
