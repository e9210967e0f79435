//! Sets up what a process tells of itself: the log, spans and metrics.
//!
//! ```text
//!  OTEL_* ──> variables ──┬─> spans ────> exporter ──> a collector
//!                         └─> metrics ──> /metrics, and a collector
//!  -v, ISOTHERM_LOG ────────> log ──────> standard error: fragments with fields, ids of the span
//! ```
//!
//! * **With nothing set nothing is exported**, and no span begins.
//! * **A collector that is away holds nobody up**, at the end neither: see `END_MAX`.

pub mod names;
mod variables;
mod log;
mod exporter;
pub mod carried;
pub mod spans;
pub mod metrics;

use std::io::IsTerminal;
use std::sync::OnceLock;
use std::sync::mpsc::sync_channel;
use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_otlp::{MetricExporter, SpanExporter};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing::warn;
use tracing_subscriber::EnvFilter;

use self::exporter::Exporter;
use self::log::WithIds;
use self::spans::Ids;
use self::variables::Variables;

/// What is not handed over so long after the end of the work is lost.
const END_MAX: Duration = Duration::from_secs(2);

/// Filters as `tracing` knows them, such as `isotherm=debug`; wins over `-v` and `-q`.
const FILTER_VARIABLE: &str = "ISOTHERM_LOG";

/// How much is logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verbosity {
    /// `-q`: errors.
    Quiet,
    /// Where a view tells what goes on.
    Warnings,
    Normal,
    /// `-v`: what is decided, and why.
    Verbose,
    /// `-vv`: each record, and what libraries say.
    All,
}

impl Verbosity {
    fn filter(self) -> &'static str {
        match self {
            Self::Quiet => "error",
            Self::Warnings => "warn",
            Self::Normal => "info",
            Self::Verbose => "info,isotherm=debug,dataflows=debug",
            Self::All => "debug,isotherm=trace,dataflows=trace",
        }
    }
}

static TRACES: OnceLock<SdkTracerProvider> = OnceLock::new();

/// Begins to log; a second call changes nothing.
pub fn init(verbosity: Verbosity) {
    let filter = EnvFilter::try_from_env(FILTER_VARIABLE)
        .unwrap_or_else(|_| EnvFilter::new(verbosity.filter()));
    let subscriber = tracing_subscriber::fmt()
        .with_target(false)
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(is_coloured(std::io::stderr().is_terminal()))
        .map_event_format(WithIds)
        .finish();
    // Only tests begin twice.
    let _ = tracing::subscriber::set_global_default(subscriber);
}

/// Begins to measure, and to export what `OTEL_*` variables ask for. `process` is its kind, such as
/// `worker`; before it has threads of others, and once.
pub fn begin(process: &str) -> anyhow::Result<()> {
    let variables = Variables::read(|name| std::env::var(name).ok());
    for it in &variables.warnings {
        warn!("{it}");
    }
    spans::set_propagates(variables.propagates);
    let resource = resource(process);
    if variables.traces
        && let Some(otlp) = made("spans", SpanExporter::builder().with_http().build())
    {
        let provider = SdkTracerProvider::builder()
            .with_id_generator(Ids::default())
            .with_resource(resource.clone())
            .with_batch_exporter(Exporter::new(otlp))
            .build();
        spans::turn_on(provider.tracer("isotherm"));
        // Only tests begin twice.
        _ = TRACES.set(provider);
    }
    let exporter = variables.metrics.then(|| MetricExporter::builder().with_http().build());
    let exporter = exporter.and_then(|it| made("metrics", it));
    metrics::begin(resource, exporter)
}

/// An exporter, or a line that there is none: what cannot be watched goes on all the same.
fn made<T>(what: &str, exporter: Result<T, impl std::fmt::Display>) -> Option<T> {
    let warn = |err| {
        warn!("{what} are not exported: {err}; check the OTEL_EXPORTER_OTLP_* variables");
    };
    exporter.map_err(warn).ok()
}

/// Hands over what was not exported yet. A collector that does not take it is not waited for.
pub fn end() {
    let (ended, end) = sync_channel(1);
    // The SDK's own limit on metrics is longer, and not to be set.
    std::thread::spawn(move || {
        if let Some(provider) = TRACES.get() {
            _ = provider.shutdown_with_timeout(END_MAX);
        }
        metrics::end();
        // Nobody may wait any more.
        _ = ended.send(());
    });
    _ = end.recv_timeout(END_MAX);
}

/// What the process is, unless variables say otherwise.
fn resource(process: &str) -> Resource {
    let told = Resource::builder().build();
    let name = told.get(&"service.name".into()).map(|it| it.to_string());
    let is_named = name.is_some_and(|it| !it.starts_with("unknown_service"));
    let version = KeyValue::new("service.version", env!("CARGO_PKG_VERSION"));
    let builder = Resource::builder().with_attribute(version);
    match is_named {
        true => builder.build(),
        false => builder.with_service_name(format!("isotherm-{process}")).build(),
    }
}

/// Tells whether to write colours; `NO_COLOR` set to anything says no.
pub fn is_coloured(is_terminal: bool) -> bool {
    is_terminal && std::env::var_os("NO_COLOR").is_none_or(|it| it.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_filter_is_one() {
        let all = [
            Verbosity::Quiet,
            Verbosity::Warnings,
            Verbosity::Normal,
            Verbosity::Verbose,
            Verbosity::All,
        ];
        for it in all {
            EnvFilter::try_new(it.filter()).unwrap();
        }
        assert!(!is_coloured(false));
    }
}
