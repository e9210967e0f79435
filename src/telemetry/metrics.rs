//! Names what is measured, with units and what it says, and holds the instruments.
//!
//! ```text
//!  drivers, watches ──> instruments ──> /metrics, whoever asks       on, whatever is set
//!                                  └──> a collector, every minute    with an exporter
//! ```
//!
//! * **One place.** `docs/telemetry.md` has this list as a table, and a test holds them equal.
//! * **No keys, no ranges, no nodes**: what an attribute may be is a short list.
//! * **Counted once.** What a process counts by reason for `/readyz?verbose` is [`EVENTS`], read from there.

use std::collections::BTreeMap;
use std::sync::{LazyLock, Mutex, OnceLock, PoisonError};

use opentelemetry::metrics::{Counter, Gauge, Histogram, Meter, MeterProvider as _};
use opentelemetry::{KeyValue, global};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::metrics::{PeriodicReader, SdkMeterProvider};
use prometheus::{Encoder as _, Registry, TextEncoder};

use self::Kind::{Counter as C, Gauge as G, Histogram as H};

/// A measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metric {
    pub name: &'static str,
    /// As UCUM has it.
    pub unit: &'static str,
    pub kind: Kind,
    /// What it tells apart.
    pub attributes: &'static [&'static str],
    pub says: &'static str,
}

impl Metric {
    /// Returns what Prometheus calls it; of a histogram, what its names begin with.
    pub fn prometheus_name(&self) -> String {
        let name = self.name.replace('.', "_");
        let unit = match self.unit {
            "s" => "_seconds",
            "By" => "_bytes",
            _ => "",
        };
        let total = if self.kind == Kind::Counter { "_total" } else { "" };
        format!("{name}{unit}{total}")
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Counter,
    Gauge,
    Histogram,
}

const fn metric(
    name: &'static str,
    (kind, unit): (Kind, &'static str),
    attributes: &'static [&'static str],
    says: &'static str,
) -> Metric {
    Metric { name, unit, kind, attributes, says }
}

pub const OUTCOME: &str = "outcome";
pub const REASON: &str = "reason";
pub const TOPIC: &str = "topic";
pub const DIRECTION: &str = "direction";
pub const RUNG: &str = "rung";

pub const EVENTS: Metric = metric(
    "isotherm.events",
    (C, "{event}"),
    &[REASON],
    "what happened, by reason, as in /readyz?verbose",
);
pub const GENERATION: Metric = metric(
    "isotherm.map.generation",
    (G, "{generation}"),
    &[],
    "generation of the map that the process goes by",
);
pub const RANGES: Metric =
    metric("isotherm.ranges", (G, "{range}"), &[], "ranges of the map; of a worker, that it holds");
pub const TICK_DURATION: Metric = metric(
    "isotherm.planner.tick.duration",
    (H, "s"),
    &[],
    "from a box that is filled to its commit",
);
pub const TICK_LAG: Metric = metric(
    "isotherm.planner.tick.lag",
    (G, "s"),
    &[],
    "how long ago the tick had ended when it was committed",
);
pub const QUERIES: Metric =
    metric("isotherm.planner.queries", (C, "{query}"), &[], "queries that ticks have counted");
pub const PLANS: Metric =
    metric("isotherm.planner.plans", (C, "{plan}"), &[], "plans that were committed");
pub const MOVES: Metric = metric(
    "isotherm.planner.moves",
    (C, "{move}"),
    &[OUTCOME, REASON],
    "moves that plans have chosen, and why; or rejected, and why",
);
pub const FORECAST_TICKS: Metric = metric(
    "isotherm.forecast.ticks",
    (C, "{tick}"),
    &[RUNG],
    "ticks that were answered, by the rung that answered",
);
pub const FORECAST_SKILL: Metric = metric(
    "isotherm.forecast.skill",
    (G, "{skill}"),
    &[],
    "1 - loss / loss of calibrated persistence, lately, of the mean of the next thirty ticks; below 0, and until it is .05, that stands in",
);
pub const FORECAST_COVERAGE: Metric = metric(
    "isotherm.forecast.coverage80",
    (G, "{share}"),
    &[],
    "share of what came, lately, that lay in the 80 % interval",
);
pub const COMMITS: Metric = metric(
    "isotherm.planner.commits",
    (C, "{commit}"),
    &[OUTCOME],
    "ticks that were committed, and attempts that were not",
);
pub const MIGRATIONS_ENDED: Metric = metric(
    "isotherm.planner.migrations",
    (C, "{migration}"),
    &[OUTCOME],
    "migrations that have ended, as the planner knows",
);
pub const WORKER_READS: Metric =
    metric("isotherm.worker.reads", (C, "{read}"), &[OUTCOME], "reads that a worker has answered");
pub const WORKER_READ_DURATION: Metric = metric(
    "isotherm.worker.read.duration",
    (H, "s"),
    &[],
    "of a batch of reads at a worker, from its arrival to its answers",
);
pub const UPDATES: Metric =
    metric("isotherm.worker.updates", (C, "{update}"), &[], "entries that came in index_update");
pub const SEGMENT_BYTES: Metric = metric(
    "isotherm.worker.segment.size",
    (C, "By"),
    &[DIRECTION],
    "bytes of segments that went in and out",
);
pub const MIGRATIONS: Metric = metric(
    "isotherm.worker.migrations",
    (C, "{migration}"),
    &[OUTCOME],
    "migrations to this worker whose end it has said",
);
pub const STORED: Metric =
    metric("isotherm.worker.stored", (G, "By"), &[], "live entries of what is active, about");
pub const STORED_ENTRIES: Metric =
    metric("isotherm.worker.entries", (G, "{entry}"), &[], "live entries of what is active, about");
pub const CHANNEL_LAG: Metric = metric(
    "isotherm.channel.lag",
    (G, "{row}"),
    &[],
    "rows of the channel's partitions that are not read yet, as of the last look at their ends",
);
pub const CHANNEL_PARTITIONS: Metric = metric(
    "isotherm.channel.partitions",
    (G, "{partition}"),
    &[],
    "partitions of the table it has",
);
pub const ROUTER_READS: Metric =
    metric("isotherm.router.reads", (C, "{read}"), &[OUTCOME], "reads that a router has answered");
pub const ROUTER_READ_DURATION: Metric = metric(
    "isotherm.router.read.duration",
    (H, "s"),
    &[],
    "of a request at a router, from its arrival to its answers",
);
pub const ROUTER_WAITING: Metric =
    metric("isotherm.router.waiting", (G, "{read}"), &[], "reads that wait for their answer");
pub const ROUTER_ENDPOINTS: Metric = metric(
    "isotherm.router.endpoints",
    (G, "{node}"),
    &[],
    "nodes that have said where they serve",
);
pub const DEAD_LETTERS: Metric = metric(
    "isotherm.kafka.dead_letters",
    (C, "{record}"),
    &[TOPIC, REASON],
    "records that could not be used, by the topic that they were on",
);
pub const KAFKA_ERRORS: Metric = metric(
    "isotherm.kafka.errors",
    (C, "{error}"),
    &[REASON],
    "errors that Kafka's client has told, by its code",
);
pub const SPANS_LOST: Metric = metric(
    "isotherm.telemetry.spans.lost",
    (C, "{span}"),
    &[],
    "spans that the collector did not take",
);

/// All of them.
pub const METRICS: [Metric; 29] = [
    EVENTS,
    GENERATION,
    RANGES,
    TICK_DURATION,
    TICK_LAG,
    QUERIES,
    PLANS,
    MOVES,
    FORECAST_TICKS,
    FORECAST_SKILL,
    FORECAST_COVERAGE,
    COMMITS,
    MIGRATIONS_ENDED,
    WORKER_READS,
    WORKER_READ_DURATION,
    UPDATES,
    SEGMENT_BYTES,
    MIGRATIONS,
    STORED,
    STORED_ENTRIES,
    CHANNEL_LAG,
    CHANNEL_PARTITIONS,
    ROUTER_READS,
    ROUTER_READ_DURATION,
    ROUTER_WAITING,
    ROUTER_ENDPOINTS,
    DEAD_LETTERS,
    KAFKA_ERRORS,
    SPANS_LOST,
];

/// Bounds of durations, in seconds.
const BOUNDS_S: [f64; 14] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// The instruments. They measure nothing before telemetry is set up.
pub struct Instruments {
    pub generation: Gauge<u64>,
    pub ranges: Gauge<u64>,
    pub tick_duration: Histogram<f64>,
    pub tick_lag: Gauge<f64>,
    pub queries: Counter<u64>,
    pub plans: Counter<u64>,
    pub moves: Counter<u64>,
    pub forecast_ticks: Counter<u64>,
    pub forecast_skill: Gauge<f64>,
    pub forecast_coverage: Gauge<f64>,
    pub commits: Counter<u64>,
    pub migrations_ended: Counter<u64>,
    pub worker_reads: Counter<u64>,
    pub worker_read_duration: Histogram<f64>,
    pub updates: Counter<u64>,
    pub segment_bytes: Counter<u64>,
    pub migrations: Counter<u64>,
    pub stored: Gauge<u64>,
    pub stored_entries: Gauge<u64>,
    pub channel_lag: Gauge<u64>,
    pub channel_partitions: Gauge<u64>,
    pub router_reads: Counter<u64>,
    pub router_read_duration: Histogram<f64>,
    pub router_waiting: Gauge<u64>,
    pub router_endpoints: Gauge<u64>,
    pub dead_letters: Counter<u64>,
    pub kafka_errors: Counter<u64>,
    pub spans_lost: Counter<u64>,
}

static INSTRUMENTS: LazyLock<Instruments> = LazyLock::new(|| match PROVIDER.get() {
    Some((provider, _)) => Instruments::new(&provider.meter("isotherm")),
    None => Instruments::new(&global::meter("isotherm")),
});

static PROVIDER: OnceLock<(SdkMeterProvider, Registry)> = OnceLock::new();

/// What the process has last told that it counts by reason.
static EVENTS_TOLD: Mutex<BTreeMap<&'static str, u64>> = Mutex::new(BTreeMap::new());

/// Returns the instruments.
pub fn get() -> &'static Instruments {
    &INSTRUMENTS
}

/// Counts outcomes, of which the same ones mostly follow each other.
pub fn count_outcomes(counter: &Counter<u64>, outcomes: impl Iterator<Item = &'static str>) {
    let add = |(outcome, count)| counter.add(count, &[KeyValue::new(OUTCOME, outcome)]);
    let mut run: Option<(&'static str, u64)> = None;
    for it in outcomes {
        match &mut run {
            Some((outcome, count)) if *outcome == it => *count += 1,
            Some(_) | None => run.replace((it, 1)).into_iter().for_each(add),
        }
    }
    run.into_iter().for_each(add);
}

/// Takes in what the process counts by reason, as of now.
pub fn tell_events(counts: &BTreeMap<&'static str, u64>) {
    let mut told = EVENTS_TOLD.lock().unwrap_or_else(PoisonError::into_inner);
    told.extend(counts);
}

/// Begins to measure; before any instrument is used.
pub(super) fn begin(
    resource: Resource,
    exporter: Option<opentelemetry_otlp::MetricExporter>,
) -> anyhow::Result<()> {
    let registry = Registry::new();
    let pages = opentelemetry_prometheus::exporter()
        .with_registry(registry.clone())
        .scope_info_enabled(false)
        .build()?;
    let mut provider = SdkMeterProvider::builder().with_resource(resource).with_reader(pages);
    if let Some(exporter) = exporter {
        provider = provider.with_reader(PeriodicReader::builder(exporter).build());
    }
    let provider = provider.build();
    // Only tests begin twice.
    _ = PROVIDER.set((provider, registry));
    LazyLock::force(&INSTRUMENTS);
    Ok(())
}

/// Returns what there is, in Prometheus's words.
pub fn page() -> String {
    let Some((_, registry)) = PROVIDER.get() else { return String::new() };
    let mut page = Vec::new();
    if let Err(err) = TextEncoder::new().encode(&registry.gather(), &mut page) {
        return format!("# {err}\n");
    }
    String::from_utf8_lossy(&page).into_owned()
}

/// Hands over what there is.
pub(super) fn end() {
    if let Some((provider, _)) = PROVIDER.get() {
        // The collector may be away.
        _ = provider.shutdown();
    }
}

impl Instruments {
    fn new(meter: &Meter) -> Self {
        let counter = |it: Metric| {
            meter.u64_counter(it.name).with_unit(it.unit).with_description(it.says).build()
        };
        let gauge = |it: Metric| {
            meter.u64_gauge(it.name).with_unit(it.unit).with_description(it.says).build()
        };
        let real = |it: Metric| {
            meter.f64_gauge(it.name).with_unit(it.unit).with_description(it.says).build()
        };
        let histogram = |it: Metric| {
            let it = meter.f64_histogram(it.name).with_unit(it.unit).with_description(it.says);
            it.with_boundaries(BOUNDS_S.to_vec()).build()
        };
        meter
            .u64_observable_counter(EVENTS.name)
            .with_unit(EVENTS.unit)
            .with_description(EVENTS.says)
            .with_callback(|observer| {
                let told = EVENTS_TOLD.lock().unwrap_or_else(PoisonError::into_inner);
                for (reason, count) in told.iter() {
                    observer.observe(*count, &[KeyValue::new(REASON, *reason)]);
                }
            })
            .build();
        Self {
            generation: gauge(GENERATION),
            ranges: gauge(RANGES),
            tick_duration: histogram(TICK_DURATION),
            tick_lag: real(TICK_LAG),
            queries: counter(QUERIES),
            plans: counter(PLANS),
            moves: counter(MOVES),
            forecast_ticks: counter(FORECAST_TICKS),
            forecast_skill: real(FORECAST_SKILL),
            forecast_coverage: real(FORECAST_COVERAGE),
            commits: counter(COMMITS),
            migrations_ended: counter(MIGRATIONS_ENDED),
            worker_reads: counter(WORKER_READS),
            worker_read_duration: histogram(WORKER_READ_DURATION),
            updates: counter(UPDATES),
            segment_bytes: counter(SEGMENT_BYTES),
            migrations: counter(MIGRATIONS),
            stored: gauge(STORED),
            stored_entries: gauge(STORED_ENTRIES),
            channel_lag: gauge(CHANNEL_LAG),
            channel_partitions: gauge(CHANNEL_PARTITIONS),
            router_reads: counter(ROUTER_READS),
            router_read_duration: histogram(ROUTER_READ_DURATION),
            router_waiting: gauge(ROUTER_WAITING),
            router_endpoints: gauge(ROUTER_ENDPOINTS),
            dead_letters: counter(DEAD_LETTERS),
            kafka_errors: counter(KAFKA_ERRORS),
            spans_lost: counter(SPANS_LOST),
        }
    }
}

#[cfg(test)]
mod tests;
