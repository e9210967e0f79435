//! Shows what would have been done with a query log, or checks what was done.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, IsTerminal, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::Context;
use clap::{Args, ValueEnum};
use dataflows::cells::CellRules;
use dataflows::tally;
use indicatif::{ProgressBar, ProgressStyle};
use schemas::query_log::{self, Op, QueriesLogged};
use schemas::wire::Record as _;
use schemas::{Key, KeySpan, Millis, NodeId};

use super::args::{Capacities, Moment, capacities, moment};
use super::exit::{Exit, Fault, need_cluster};
use super::keys::KeyFormat;
use super::{Flag, values};
use crate::assignment::birth;
use crate::config::{self, Config};
use crate::forecast::Rung;
use crate::kafka::Output;
use crate::kafka::tail::{Start, scan};
use crate::planner::machine::{TickOutputs, first_cells};
use crate::planner::settings::{Mode, Settings};
use crate::replay;
use crate::replay::driver::{Log, Replay, dense_data, open_trace};
use crate::replay::executor::{DataSet, Model};
use crate::replay::outcome::Subject;
use crate::replay::plot::KeyAxis;
use crate::replay::report::Paper;
use crate::replay::scenario::{self, Shape};
use crate::replay::trace::{Assumed, Trace};
use crate::replay::verify::{self, Verify};
use crate::tick::rules::Rules;
use crate::tick::tick_box::TickBox;

#[derive(Clone, Debug, Args)]
#[command(
    group = clap::ArgGroup::new("log").required(true).args(["topic", "trace", "scenario", "verify"]),
    after_help = "Outputs go to the embedded broker: the cluster that is read from is not written to."
)]
pub struct ReplayArgs {
    /// Replay a topic of the cluster, such as query_log
    #[arg(long, value_name = "TOPIC", help_heading = "The log")]
    pub topic: Option<String>,
    /// Replay a trace
    #[arg(long, value_name = "FILE.csv.zst", help_heading = "The log")]
    pub trace: Option<PathBuf>,
    /// Replay a generated log
    #[arg(long, value_enum, value_name = "NAME", help_heading = "The log")]
    pub scenario: Option<Scenario>,
    /// Run the recorded ticks of a real planner again, and compare
    #[arg(long, conflicts_with_all = ["nodes", "capacity", "plot", "report", "out"], help_heading = "The log")]
    pub verify: bool,
    /// Begin there: beginning, -15m, RFC 3339, Unix time
    #[arg(long, value_parser = moment, value_name = "WHEN", allow_hyphen_values = true,
          conflicts_with_all = ["trace", "scenario"], help_heading = "The log")]
    pub from: Option<Moment>,
    /// End there: end, -5m, RFC 3339, Unix time
    #[arg(long, value_parser = moment, value_name = "WHEN", allow_hyphen_values = true,
          conflicts_with_all = ["trace", "scenario"], help_heading = "The log")]
    pub to: Option<Moment>,
    /// Of the generated log
    #[arg(long, value_name = "N", default_value_t = 1, help_heading = "The log")]
    pub seed: u64,
    /// How long the generated log is
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration, help_heading = "The log")]
    pub duration: Option<Duration>,
    /// When a generated log or a trace begins, in Unix milliseconds; the beginning of 2025 by default
    #[arg(long, value_name = "MS", value_parser = unix_ms, help_heading = "The log")]
    pub start: Option<Millis>,
    /// End a scenario or trace after so many ticks
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..), help_heading = "The log")]
    pub ticks: Option<u64>,

    /// How many nodes; without it those in node_capacity, or 4
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000), help_heading = "Nodes")]
    pub nodes: Option<u32>,
    /// 1:2:3:4 as parts, or 1000000,2000000 in µs of service a second
    #[arg(long, value_name = "LIST", value_parser = capacities, help_heading = "Nodes")]
    pub capacity: Option<Capacities>,

    /// observe or auto, instead of `planner.mode`
    #[arg(long, value_name = "MODE", help_heading = "Planner")]
    pub mode: Option<String>,
    /// How long a tick is, instead of `planner.tick`
    #[arg(long, value_name = "DURATION", help_heading = "Planner")]
    pub tick: Option<String>,
    /// persistence or ewma, instead of `planner.forecast`
    #[arg(long, value_name = "RUNG", help_heading = "Planner")]
    pub forecast: Option<String>,

    /// Write every output as JSON lines, a file a topic
    #[arg(long, value_name = "DIR", help_heading = "Results")]
    pub out: Option<PathBuf>,
    /// Write the numbers
    #[arg(long, value_name = "FILE.json", help_heading = "Results")]
    pub report: Option<PathBuf>,
    /// Draw heat over key space and time, with owners and moves
    #[arg(long, value_name = "FILE.svg", help_heading = "Results")]
    pub plot: Option<PathBuf>,
}

/// A log that is generated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Scenario {
    /// Every key alike
    Uniform,
    /// A few keys take most of it
    Zipf,
    /// Half of the load on a tenth of the keys, which travels
    MovingHotspot,
    /// Keys that grow at the end
    Append,
    /// A sudden crowd at one place
    FlashCrowd,
    /// Days and nights
    Diurnal,
}

impl Scenario {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Uniform => "uniform",
            Self::Zipf => "zipf",
            Self::MovingHotspot => "moving-hotspot",
            Self::Append => "append",
            Self::FlashCrowd => "flash-crowd",
            Self::Diurnal => "diurnal",
        }
    }
}

impl ReplayArgs {
    pub fn flags(&self) -> Vec<Flag> {
        let given = [
            ("--mode", "planner.mode", &self.mode),
            ("--tick", "planner.tick", &self.tick),
            ("--forecast", "planner.forecast", &self.forecast),
        ];
        given.into_iter().filter_map(|(flag, key, it)| Some((flag, key, it.clone()?))).collect()
    }
}

/// Time zero of scenarios and traces, unless `--start` says otherwise: the year 2025 begins.
const START: Millis = Millis(1_735_689_600_000);

/// How many queries a second a tick may bring in one partition of the embedded broker.
const SPAN_RECORDS_MAX: u64 = 100_000;

/// What the load should be of the capacity of all nodes together, where neither is given.
const LOAD_PERCENT: u64 = 55;

/// Bytes of an entry, where nobody tells.
const ENTRY_BYTES: u64 = 1024;

/// What is known of a log before it is replayed.
struct Extent {
    name: String,
    log: Log,
    /// `cost_us` per second.
    mean_load: u64,
    duration_ms: u64,
    start: Millis,
    keys: Keys,
}

/// Where keys lie.
enum Keys {
    /// Big-endian integers, from the first to below the second.
    Integers(u64, u64),
    /// Anything, from the first to the last.
    Any(Key, Key),
}

pub fn run(config: &Config, args: &ReplayArgs) -> Result<Exit, Box<Fault>> {
    if args.verify {
        return verify(config, args);
    }
    let extent = extent(config, args)?;
    let nodes = nodes(args, extent.mean_load)?;
    let rules = Rules {
        tick_ms: config.planner.tick.as_millis() as u64,
        grace_ms: 0,
        span_records_max: SPAN_RECORDS_MAX.max(config.planner.span_records_max),
        ..Rules::default()
    };
    let (split_points, key_end, axis, data) = keys(config, &extent.keys);
    let settings = Settings {
        tick_ms: rules.tick_ms,
        mode: match config.planner.mode {
            config::Mode::Observe => Mode::Observe,
            config::Mode::Auto | config::Mode::Recommend => Mode::Auto,
        },
        rung: match config.planner.forecast {
            config::Rung::Persistence => Rung::Persistence,
            config::Rung::Ewma => Rung::Ewma,
        },
        costs: costs(config),
        cells: CellRules::default(),
        policy: config.policy.clone(),
        birth_nodes: nodes.len() as u32,
        split_points: split_points.clone(),
        key_end,
        // The embedded broker dies with the process: nobody would read it.
        snapshot_ticks: 0,
        silent_ticks: config.planner.silent_ticks,
        cancel_grace_ms: config.planner.cancel_grace.as_millis() as u64,
    };
    let first = extent.start.0 / rules.tick_ms;
    let ticks = extent.duration_ms.div_ceil(rules.tick_ms).max(1);
    let ticks = args.ticks.map_or(ticks, |it| it.min(ticks));
    let is_topic = matches!(extent.log, Log::Topic { .. });
    let replay = Replay {
        log: extent.log,
        grid: first_cells(&settings),
        settings,
        rules,
        nodes: nodes.clone(),
        model: Model::default(),
        data: data.clone(),
        // A topic ends by itself.
        last: (!is_topic).then_some(first + ticks - 1),
        first: (!is_topic).then_some(first),
        timely_workers: config.planner.timely_workers,
    };
    let bar = Progress::new(ticks);
    let out = args.out.as_deref().map(Out::create).transpose()?;
    let told = |_: &TickBox, outputs: &TickOutputs| {
        bar.tick(outputs.done.queries);
        if let Some(out) = &out {
            out.write(&outputs.outputs);
        }
    };
    let [isotherm, reactive] = replay::driver::replay(&replay, &told)?;
    bar.finish();
    if let Some(out) = out {
        out.finish()?;
    }
    let subject = Subject {
        name: extent.name,
        seed: args.scenario.map(|_| args.seed),
        tick_ms: rules.tick_ms,
        nodes,
        split_points,
        keys: axis,
        bytes: data.total(),
    };
    let report = subject.report(&isotherm, &reactive);
    if let Some(path) = &args.report {
        let text = serde_json::to_string_pretty(&report).expect("a report is plain values");
        std::fs::write(path, text + "\n")
            .with_context(|| format!("write the report to {}", path.display()))?;
    }
    if let Some(path) = &args.plot {
        std::fs::write(path, subject.picture(&isotherm, &report).svg())
            .with_context(|| format!("draw {}", path.display()))?;
    }
    let paper = if std::io::stdout().is_terminal() { Paper::Ruled } else { Paper::Plain };
    super::print(&report.table(paper))?;
    Ok(Exit::Done)
}

/// Runs the recorded ticks again, and tells the first difference.
fn verify(config: &Config, args: &ReplayArgs) -> Result<Exit, Box<Fault>> {
    need_cluster(config)?;
    let now = wall_clock();
    let it = Verify {
        connection: &config.kafka,
        planner_id: &config.planner.id,
        from: args.from.and_then(|it| it.stamp(now)),
        to: args.to.and_then(|it| it.stamp(now)),
        timely_workers: config.planner.timely_workers,
    };
    let bar = match std::io::stderr().is_terminal() {
        true => ProgressBar::new_spinner(),
        false => ProgressBar::hidden(),
    };
    let verdict = verify::run(&it, &mut |tick| bar.set_message(format!("tick {tick}")))?;
    bar.finish_and_clear();
    super::print(&format!("{verdict}\n"))?;
    Ok(if verdict.difference.is_none() { Exit::Done } else { Exit::Failed })
}

fn wall_clock() -> Millis {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    Millis(since.map_or(0, |it| it.as_millis() as u64))
}

fn unix_ms(text: &str) -> Result<Millis, std::num::ParseIntError> {
    text.parse().map(Millis)
}

fn costs(config: &Config) -> tally::Costs {
    let config::Costs { read_us, scan_us, write_us } = config.costs;
    tally::Costs { read_us, scan_us, write_us }
}

/// Finds out what there is to be replayed.
fn extent(config: &Config, args: &ReplayArgs) -> Result<Extent, Box<Fault>> {
    let tick_ms = config.planner.tick.as_millis() as u64;
    let start = Millis(args.start.unwrap_or(START).0 / tick_ms * tick_ms);
    if let Some(shape) = args.scenario {
        let duration_ms = args.duration.map_or(600_000, |it| it.as_millis() as u64);
        let shape: Shape = shape.as_str().parse().map_err(anyhow::Error::new)?;
        let scenario = scenario::Scenario::new(shape, args.seed, start, duration_ms);
        let (mean_load, keys) = (scenario.mean_load(), Keys::Integers(0, scenario.keys));
        let name = shape.name().to_owned();
        return Ok(Extent {
            name,
            log: Log::Scenario(scenario),
            mean_load,
            duration_ms,
            start,
            keys,
        });
    }
    if let Some(path) = &args.trace {
        let assumed = Assumed::default();
        let found = open_trace(path, start, assumed).and_then(Trace::extent);
        let found = found.map_err(anyhow::Error::new)?;
        let all_us = found.reads * assumed.read_us + found.writes * assumed.write_us;
        let mean_load = all_us * 1000 / found.duration_ms.max(1);
        let name =
            path.file_stem().map_or_else(String::new, |it| it.to_string_lossy().into_owned());
        return Ok(Extent {
            name: name.trim_end_matches(".csv").to_owned(),
            log: Log::Trace { path: path.clone(), start, assumed },
            mean_load,
            duration_ms: found.duration_ms + 1,
            start,
            keys: Keys::Integers(found.key_min, found.key_max + 1),
        });
    }
    topic_extent(config, args)
}

/// Reads the topic once, to know how much there is and where keys lie.
fn topic_extent(config: &Config, args: &ReplayArgs) -> Result<Extent, Box<Fault>> {
    need_cluster(config)?;
    let topic = args.topic.as_deref().unwrap_or(QueriesLogged::TOPIC);
    if topic != QueriesLogged::TOPIC {
        let what =
            format!("{topic} is no query log: only {} can be replayed", QueriesLogged::TOPIC);
        let remedy = "if yours has another name in front, set kafka.prefix";
        return Err(Box::new(
            Fault::new(Exit::Usage, "isotherm::replay::topic", what).remedy(remedy),
        ));
    }
    let now = wall_clock();
    let from = match args.from {
        None | Some(Moment::Beginning) => Start::Beginning,
        Some(Moment::End) => Start::End,
        Some(it @ (Moment::At(_) | Moment::Ago { .. })) => {
            it.stamp(now).map_or(Start::Beginning, Start::Time)
        }
    };
    let to = args.to.and_then(|it| it.stamp(now));
    let costs = costs(config);
    let (mut all_us, mut stamps) = (0_u64, None::<(Millis, Millis)>);
    let mut keys = None::<(Key, Key)>;
    scan(&config.kafka, QueriesLogged::TOPIC, from, |record| {
        if to.is_some_and(|to| to <= record.stamp) {
            return ControlFlow::Continue(());
        }
        let (low, high) = stamps.get_or_insert((record.stamp, record.stamp));
        (*low, *high) = ((*low).min(record.stamp), (*high).max(record.stamp));
        let value = record.value.unwrap_or_default();
        // What cannot be read is counted in the replay itself.
        _ = query_log::read(&value, |it| {
            all_us += it.cost_us.unwrap_or(match it.op {
                Op::Read | Op::Unknown => costs.read_us,
                Op::Scan => costs.scan_us,
                Op::Write => costs.write_us,
            });
            let (first, last) =
                keys.get_or_insert_with(|| (Key(it.key.to_vec()), Key(it.key.to_vec())));
            if it.key < first.0.as_slice() {
                *first = Key(it.key.to_vec());
            } else if last.0.as_slice() < it.key {
                *last = Key(it.key.to_vec());
            }
        });
        ControlFlow::Continue(())
    })?;
    let (Some((low, high)), Some((first, last))) = (stamps, keys) else {
        let what = format!("{} holds no queries in this span", config.kafka.topic(topic));
        return Err(Box::new(Fault::new(Exit::Failed, "isotherm::replay::empty", what)));
    };
    let duration_ms = high.0 - low.0 + 1;
    let integer = |key: &Key| <[u8; 8]>::try_from(key.0.as_slice()).map(u64::from_be_bytes).ok();
    let keys = match (integer(&first), integer(&last)) {
        (Some(low), Some(high)) => Keys::Integers(low, high.saturating_add(1)),
        (_, _) => Keys::Any(first, last),
    };
    Ok(Extent {
        name: config.kafka.topic(topic),
        log: Log::Topic { connection: Box::new(config.kafka.clone()), from, to },
        mean_load: all_us * 1000 / duration_ms,
        duration_ms,
        start: low,
        keys,
    })
}

/// The nodes, by the flags, else four of capacities 1:2:3:4, such that the load is 0.55 of them.
fn nodes(args: &ReplayArgs, mean_load: u64) -> Result<BTreeMap<NodeId, u64>, Box<Fault>> {
    let n = args.nodes.map_or(4, |it| it as usize);
    let capacities = args.capacity.clone().unwrap_or_else(|| match n {
        4 => Capacities::Ratio(vec![1, 2, 3, 4]),
        n => Capacities::Ratio(vec![1; n]),
    });
    if args.nodes.is_some() && capacities.len() != n {
        let what = format!("--nodes says {n}, and --capacity names {}", capacities.len());
        let remedy = "name as many capacities as nodes, or leave one of the two out";
        return Err(Box::new(
            Fault::new(Exit::Usage, "isotherm::replay::nodes", what).remedy(remedy),
        ));
    }
    let capacities = match capacities {
        Capacities::UsPerS(it) => it,
        Capacities::Ratio(parts) => {
            let sum: u64 = parts.iter().sum();
            let total = (mean_load * 100 / LOAD_PERCENT).max(sum);
            parts
                .iter()
                .map(|it| (u128::from(total) * u128::from(*it) / u128::from(sum)) as u64)
                .collect()
        }
    };
    // So that their order is that of their names.
    let width = capacities.len().to_string().len();
    let name = |i: usize| NodeId(format!("n{i:0width$}"));
    Ok((1..).map(name).zip(capacities).collect())
}

/// Where the first ranges begin, where cells end, how keys are drawn, and where bytes lie.
fn keys(config: &Config, keys: &Keys) -> (Vec<Key>, Key, KeyAxis, DataSet) {
    let planner = &config.planner;
    let n = planner.birth_ranges;
    let (cuts, end, axis, data) = match keys {
        Keys::Integers(low, high) => (
            replay::equal_splits(*low, *high, n),
            replay::key(*high),
            KeyAxis::Integers(*low, *high),
            dense_data(*low, *high, ENTRY_BYTES),
        ),
        Keys::Any(first, last) => {
            let span = KeySpan { start: first.clone(), end: last.clone() };
            let data = DataSet { intervals: vec![(span, 1 << 30)] };
            let cuts = birth::cuts(first, last, n);
            // Enough of them that a place is told from its neighbour's.
            let axis = KeyAxis::Ranks(birth::cuts(first, last, 1024));
            (cuts, last.clone(), axis, data)
        }
    };
    match planner.split_points.is_empty() {
        true => (cuts, end, axis, data),
        false => (planner.split_points.clone(), end, axis, data),
    }
}

/// Tells how far it is: a bar on a terminal, else a line every ten per cent.
struct Progress {
    bar: ProgressBar,
    ticks: u64,
    done: AtomicU64,
    queries: AtomicU64,
    began: Instant,
}

impl Progress {
    fn new(ticks: u64) -> Self {
        let bar = match std::io::stderr().is_terminal() {
            true => ProgressBar::new(ticks),
            false => ProgressBar::hidden(),
        };
        let style = "{bar:40} {pos}/{len} ticks  {per_sec}  {msg}  {eta} left";
        bar.set_style(ProgressStyle::with_template(style).expect("the template is well-formed"));
        let (done, queries) = (AtomicU64::new(0), AtomicU64::new(0));
        Self { bar, ticks, done, queries, began: Instant::now() }
    }

    fn tick(&self, queries: u64) {
        let done = self.done.fetch_add(1, Ordering::Relaxed) + 1;
        let queries = self.queries.fetch_add(queries, Ordering::Relaxed) + queries;
        let seconds = self.began.elapsed().as_secs_f64().max(1e-3);
        let rate = format!("{:.0} queries/s", queries as f64 / seconds);
        self.bar.set_message(rate.clone());
        self.bar.set_position(done);
        let tenth = |done: u64| done * 10 / self.ticks.max(1);
        if self.bar.is_hidden() && tenth(done) != tenth(done - 1) {
            let per_s = done as f64 / seconds;
            eprintln!(
                "{:>3} %  {done} of {} ticks, {per_s:.0} ticks/s, {rate}",
                tenth(done) * 10,
                self.ticks
            );
        }
    }

    fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

/// Writes what the planner wrote, a file a topic, a line a record.
struct Out {
    dir: PathBuf,
    files: Mutex<BTreeMap<&'static str, BufWriter<File>>>,
    failed: Mutex<Option<anyhow::Error>>,
}

impl Out {
    fn create(dir: &Path) -> anyhow::Result<Self> {
        std::fs::create_dir_all(dir).with_context(|| format!("make {}", dir.display()))?;
        Ok(Self { dir: dir.to_owned(), files: Mutex::default(), failed: Mutex::default() })
    }

    fn write(&self, outputs: &[Output]) {
        let mut failed = self.failed.lock().expect("nobody panics with it");
        if failed.is_none() {
            *failed = outputs.iter().try_for_each(|it| self.write_one(it)).err();
        }
    }

    fn write_one(&self, output: &Output) -> anyhow::Result<()> {
        let mut files = self.files.lock().expect("nobody panics with it");
        if !files.contains_key(output.topic) {
            let path = self.dir.join(format!("{}.jsonl", output.topic));
            let file = File::create(&path).with_context(|| format!("make {}", path.display()))?;
            files.insert(output.topic, BufWriter::new(file));
        }
        let file = files.get_mut(output.topic).expect("it was just made");
        let value = output.value.as_deref();
        let line = values::json(output.topic, value, KeyFormat::default());
        writeln!(file, "{line}").context("write an output")
    }

    fn finish(self) -> anyhow::Result<()> {
        if let Some(err) = self.failed.into_inner().expect("nobody panics with it") {
            return Err(err);
        }
        let files = self.files.into_inner().expect("nobody panics with it");
        files.into_values().try_for_each(|mut it| it.flush()).context("write the outputs")
    }
}
