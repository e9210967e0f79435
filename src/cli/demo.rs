//! Shows it all at work in one process: an index under load, balanced while it moves.
//!
//! ```text
//!  flags ──> load, nodes ──> broker ──> table filled, processes started ──> first answer
//!        ──> load played, seen live ──> moves end ──> verify ──> report, picture
//! ```

mod args;
mod cluster;
mod live;
mod load;

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use dataflows::{Tick, tally};
use schemas::Key;
use tracing::info;

use super::exit::{Exit, Fault};
use super::replay::nodes::shared_out;
use super::result_file::ResultFile;
use super::signals::Signals;
use super::topics::create_missing;
use super::verify;
use crate::config::{Config, Costs, Mode};
use crate::demo::course::Course;
use crate::demo::reaction::{Crowd, Reaction};
use crate::demo::report::{
    Delays, Latency, Migrations, Move, Overload, Queries, Report, Updates, Verify,
};
use crate::kafka::embedded::Embedded;
use crate::kafka::wall_clock;
use crate::load::driver::{fill, filler};
use crate::load::tally::Tally;
use crate::replay;
use crate::replay::foresight::Forecast;
use crate::replay::history::Recount;
use crate::replay::leads::{Lead, Leads, Left, leads};
use crate::replay::outcome::Subject;
use crate::replay::plot::KeyAxis;
use crate::replay::report::NodesFrom;
use crate::verify::compare::Kind;
use crate::verify::tiling;
pub use args::DemoArgs;
use cluster::{Cluster, Nodes, Shared};
use load::Load;

/// The first answer may take so long.
const FIRST_WITHIN: Duration = Duration::from_secs(60);

/// Workers may take so long to have all that the table has.
const VERIFY_WITHIN: Duration = Duration::from_secs(120);

const LOOK_EVERY: Duration = Duration::from_millis(20);

/// The load is recounted over so many intervals of the key space.
const GRID: u32 = 512;

pub fn run(config: &Config, args: &DemoArgs) -> Result<Exit, Box<Fault>> {
    let began = Instant::now();
    let load = load::load(args)?;
    let nodes = shared_out(args.nodes, args.capacity.clone(), load.mean_us_per_s)?;
    // What cannot be written should show before the work is done.
    let report_file = args.report.as_deref().map(ResultFile::create).transpose()?;
    let plot_file = args.plot.as_deref().map(ResultFile::create).transpose()?;
    let signals = Signals::begin()?;
    let dir = tempfile::tempdir().context("make a folder for the stores")?;
    let (broker, mut config) = broker(config, args, &load)?;
    configure(&mut config, &load, &nodes, dir.path());
    if let Some(address) = &args.kafka {
        info!(address, prefix = config.kafka.prefix, "topics of this run");
    }

    eprintln!("{} nodes, a planner, a channel and a router begin; some seconds …", nodes.len());
    let course = Shared::new(Course::new(
        recount(&config, &load, &nodes),
        nodes.clone(),
        super::planner::rung(config.planner.forecast).likely(),
    ));
    let mut cluster = Cluster::new(broker);
    let filler = filler(&config.kafka)?;
    cluster.start_planner(&config, &course)?;
    for (node, capacity) in &nodes {
        cluster.start_worker(&config, node, *capacity)?;
    }
    let router = cluster.start_router(&config)?;
    let filled = load.filling.clone();
    let is_stopping = || signals.is_asked();
    fill(&filler, &filled, load.payload_bytes, args.seed, &is_stopping)?;
    cluster.start_channel(&config)?;
    await_first(&cluster, router, filled.keys.start, &signals)?;
    let start_to_first_query_s = began.elapsed().as_secs_f64();
    drop(filler);

    let shown =
        live::Shown { course: &course, axis: &load.axis, title: title(&config, args, &load) };
    let mut live = live::Live::begin(shown, &config.kafka, &cluster, &signals, args.duration)?;
    let played = load.play(&config.kafka, router, args, &mut live);
    // What comes behind the load says nothing of it. Its last ticks may not have been decided yet.
    let last_loaded = wall_clock().0 / config.planner.tick.as_millis() as u64;
    let forecast = course.lock().recount.history.forecast.clone();
    cluster.stop_planning();
    live.over();
    while cluster.is_planning() && !signals.is_asked() {
        cluster.check()?;
        live.look();
        std::thread::park_timeout(LOOK_EVERY);
    }
    let followed = live.end();
    let crowd = live.begun.and_then(|it| load.crowd(it));
    // The last is told when all answers have come.
    let played_for = live.played_for.min(args.duration);
    drop(live);
    let tally = played?;
    cluster.check()?;
    eprintln!("the index is compared with the table …");
    let verified = verified(&config, &signals)?;
    // A planner that goes on, as one that was not waited for, needs the course: it is let go again.
    let (report, picture) = {
        let course = course.lock();
        let report = Report {
            broker: args.kafka.clone().unwrap_or_else(|| "embedded".to_owned()),
            seed: Some(args.seed),
            load: load.name.clone(),
            duration_s: played_for.as_secs_f64(),
            start_to_first_query_s,
            reaction: crowd.and_then(|it| reaction(&config, &course, &it)),
            verify: verified,
            ..reported(&config, &course, &tally, last_loaded, forecast)
        };
        let picture = plot_file.is_some().then(|| picture(&config, &load, &course));
        (report, picture)
    };
    if let Some(file) = report_file {
        let text = serde_json::to_string_pretty(&report).expect("a report is plain values");
        file.write(text + "\n")?;
    }
    if let (Some(file), Some(picture)) = (plot_file, picture) {
        file.write(&picture)?;
    }
    let other = if report.mode == "observe" { "auto" } else { "observe" };
    super::print(&report.told(&args.again(other)))?;
    // What is known of the run is told by now.
    followed?;
    if args.stay {
        eprintln!("{}\nends with Ctrl-C", where_to_look(&config, router));
        while !signals.is_asked() {
            cluster.check()?;
            std::thread::park_timeout(LOOK_EVERY);
        }
    }
    cluster.end()?;
    if args.kafka.is_some() {
        eprintln!("its topics stay, with the prefix {}", config.kafka.prefix);
    }
    Ok(if report.is_good() { Exit::Done } else { Exit::Failed })
}

/// Fails if a cluster is named in a way that has no say here.
pub fn check_cluster(servers: Option<&str>, args: &DemoArgs) -> Result<(), Box<Fault>> {
    let Some(servers) = servers.filter(|_| args.kafka.is_none()) else { return Ok(()) };
    let what = "a demonstration has a broker of its own, whatever --bootstrap-servers names";
    let fault = Fault::new(Exit::Usage, "isotherm::demo::cluster", what);
    Err(Box::new(fault.remedy(format!("give --kafka {servers} to run it on that cluster"))))
}

/// Starts the broker, or makes topics on the cluster; returns the configuration that says where it is.
fn broker(
    config: &Config,
    args: &DemoArgs,
    load: &Load,
) -> Result<(Option<Embedded>, Config), Box<Fault>> {
    let mut config = config.clone();
    if args.kafka.is_some() {
        // Another may begin in the same moment, on another machine too.
        let (now_s, unique) = (wall_clock().0 / 1_000, rand::random::<u32>());
        config.kafka.prefix.push_str(&format!("demo-{now_s}-{unique:08x}-"));
        create_missing(&config.kafka, cluster::topics())?;
        return Ok((None, config));
    }
    load.check_embedded(args, config.planner.tick)?;
    let (broker, connection) = cluster::embedded()?;
    config.kafka = connection;
    Ok((Some(broker), config))
}

/// Sets what a run needs; what a person has set of the policy stays.
fn configure(config: &mut Config, load: &Load, nodes: &Nodes, dir: &Path) {
    let any_port = std::net::SocketAddr::from((std::net::Ipv4Addr::LOCALHOST, 0));
    "demo".clone_into(&mut config.planner.id);
    config.planner.grace = Duration::from_millis(100);
    config.planner.birth_nodes = nodes.len();
    config.planner.split_points = load.split_points(config.planner.birth_ranges);
    config.planner.key_last = load.key_end();
    (config.costs.read_us, config.costs.write_us) = (load.read_us, load.write_us);
    config.channel.watermark_every = Duration::from_millis(200);
    config.worker.dir = dir.to_owned();
    config.worker.listen = any_port;
    // More than the least, as all are one program here.
    config.worker.memory_bytes = 96 << 20;
    config.worker.copy_mb_us = u64::from(config.policy.copy_us_per_mib as u32);
    config.worker.report_every = Duration::from_millis(500);
    config.worker.grace = Duration::from_secs(1);
    // Other processes of this machine have the rest of the disk.
    config.worker.disk_reserve_bytes = 16 << 20;
    config.router.listen = any_port;
    config.table = crate::config::table::Table::default();
}

fn recount(config: &Config, load: &Load, nodes: &Nodes) -> Recount {
    let (grid, nodes) = (load.split_points(GRID), nodes.clone());
    let Costs { read_us, scan_us, write_us } = config.costs;
    let costs = tally::Costs { read_us, scan_us, write_us };
    let tick_ms = config.planner.tick.as_millis() as u64;
    Recount::new(grid, nodes, &config.planner.split_points, costs, tick_ms)
}

/// Waits until the router answers.
fn await_first(
    cluster: &Cluster,
    router: std::net::SocketAddr,
    key: u64,
    signals: &Signals,
) -> anyhow::Result<()> {
    let begun = Instant::now();
    // Short: who waits within a router looks again only every half second.
    let path = format!("/v1/keys/0x{key:016x}?deadline_ms=100");
    loop {
        cluster.check()?;
        if load::get(router, &path).is_ok_and(|status| status == 200) || signals.is_asked() {
            return Ok(());
        }
        ensure!(begun.elapsed() < FIRST_WITHIN, "the index does not answer");
        std::thread::park_timeout(LOOK_EVERY);
    }
}

fn title(config: &Config, args: &DemoArgs, load: &Load) -> String {
    let broker = if args.kafka.is_some() { "Kafka" } else { "embedded broker" };
    let tick = humantime::format_duration(config.planner.tick);
    let mode = match config.planner.mode {
        Mode::Observe | Mode::Recommend => " · observe: nothing is moved",
        Mode::Auto => "",
    };
    format!("{} · seed {} · {broker} · tick {tick}{mode}", load.name, args.seed)
}

/// Says how others can look at what stays.
fn where_to_look(config: &Config, router: std::net::SocketAddr) -> String {
    let prefix = match config.kafka.prefix.as_str() {
        "" => String::new(),
        prefix => format!(" --prefix {prefix}"),
    };
    let cluster = format!("--bootstrap-servers {}{prefix}", config.kafka.bootstrap_servers);
    format!(
        "stays: isotherm {cluster} range list; plan list; node list; tail heatmap …\n\
         reads are answered on {router}, such as curl 'http://{router}/v1/range?start=0x00&limit=3'"
    )
}

/// Compares all that workers hold with the table.
fn verified(config: &Config, signals: &Signals) -> anyhow::Result<Verify> {
    if signals.is_asked() {
        let not_compared = Some("it was asked to end".to_owned());
        return Ok(Verify { not_compared, ..Verify::default() });
    }
    let it = match verify::verified(config, VERIFY_WITHIN)? {
        verify::Outcome::Verified(it) => it,
        verify::Outcome::TimedOut(reason) | verify::Outcome::Unheard(reason) => {
            return Ok(Verify { not_compared: Some(reason), ..Verify::default() });
        }
    };
    let count = |kind| it.verdict.count(kind);
    let gaps = it.faults.iter().filter(|it| matches!(it, tiling::Fault::Gap(_))).count() as u64;
    Ok(Verify {
        entries: it.entries,
        missing: count(Kind::Missing),
        extra: count(Kind::Extra),
        stale: count(Kind::Stale),
        foreign: count(Kind::Foreign),
        gaps,
        overlaps: it.faults.len() as u64 - gaps,
        not_compared: None,
    })
}

/// All that follows from the course; of its ticks, those up to that one belong to the load.
fn reported(
    config: &Config,
    course: &Course,
    tally: &Tally,
    last_loaded: Tick,
    forecast: Forecast,
) -> Report {
    let history = &course.recount.history;
    let tick_ms = config.planner.tick.as_millis() as u64;
    let first = history.ticks.first().map_or(0, |it| it.tick);
    let moved: Vec<_> = course.moves.iter().collect();
    let left = |it: &crate::demo::course::Moved| {
        Some(Left {
            span: it.span.clone(),
            source: it.source.clone(),
            start: it.tick,
            active: it.active?.0 / tick_ms,
        })
    };
    let lefts: Vec<_> = moved.iter().filter_map(|it| left(it.1)).collect();
    let all = leads(history, tick_ms, &course.nodes, &lefts);
    let lead = Leads::of(&all);
    let lead_s = lead.median_ticks.map(|it| it * tick_ms as f64 / 1e3);
    let mut each = all.iter();
    let moves = moved.iter().map(|(id, it)| {
        let lead: Option<Lead> = it.active.and_then(|_| each.next().copied());
        Move::new(id.to_string(), it, first, lead)
    });
    let moves = moves.collect();
    let (complete, failed, bytes) = course.migrations();
    let latency = tally.answered();
    let ms = |part| latency.quantile(part).unwrap_or_default() as f64 / 1e3;
    let loaded = history.ticks.iter().take_while(|it| it.tick <= last_loaded);
    let loads: Vec<_> = loaded.map(|it| it.loads.clone()).collect();
    let nodes = Report::of_nodes(&course.nodes, &course.bytes, &loads, tick_ms);
    Report {
        mode: config.planner.mode.as_str().to_owned(),
        tick_ms,
        ticks: history.ticks.len() as u64,
        queries: Queries {
            sent: tally.reads,
            answered: tally.reads_answered(),
            failed: tally.reads_failed(),
            repeated: tally.repeated.count(),
            vanished: tally.vanished,
        },
        updates: Updates { sent: tally.updates.count(), failed: tally.updates_failed },
        plans: history.plans,
        migrations: Migrations { complete, failed, bytes },
        splits: history.splits,
        joins: history.joins,
        ranges: course.owned.len() as u64,
        latency_ms: Latency {
            p50: ms(0.5),
            p99: ms(0.99),
            p999: ms(0.999),
            max: latency.max().unwrap_or_default() as f64 / 1e3,
        },
        overload_node_seconds: Overload {
            measured: history.overload_node_seconds(),
            settled: history.overload_settled(),
        },
        unsplittable_share: history.unsplittable_ppm as f64 / 1e6,
        nodes,
        moves,
        lead,
        delay_ms: Delays::of(course.moves.values()),
        forecast: Forecast { lead_s, ..forecast },
        ..Report::default()
    }
}

fn reaction(config: &Config, course: &Course, crowd: &Crowd) -> Option<Reaction> {
    let tick_ms = config.planner.tick.as_millis() as u64;
    Reaction::of(crowd, &course.recount.history, tick_ms, course.moves.values())
}

fn picture(config: &Config, load: &Load, course: &Course) -> String {
    let subject = Subject {
        name: load.name.clone(),
        seed: None,
        tick_ms: config.planner.tick.as_millis() as u64,
        nodes: course.nodes.clone(),
        nodes_from: NodesFrom::Stated,
        split_points: config.planner.split_points.clone(),
        keys: load.axis.clone(),
        bytes: course.bytes.values().sum(),
    };
    let mut history = course.recount.history.clone();
    history.bytes_moved = course.migrations().2;
    let report = subject.report(&history, None);
    subject.picture(&history, &report).svg()
}

impl Load {
    /// Where the ranges of the first assignment begin, but the first.
    fn split_points(&self, ranges: u32) -> Vec<Key> {
        let KeyAxis::Integers(low, high) = self.axis else { return Vec::new() };
        replay::equal_splits(low, high, ranges)
    }

    fn key_end(&self) -> Key {
        let KeyAxis::Integers(_, high) = self.axis else { return Key::default() };
        replay::key(high)
    }
}
