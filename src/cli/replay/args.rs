//! Says what can be asked of `isotherm replay`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use schemas::Millis;

use crate::cli::Flag;
use crate::cli::args::{Capacities, Moment, capacities, moment};
use crate::cli::query_log;

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
    /// The Avro schema of whoever wrote the topic, instead of `query_log.schema`
    #[arg(long, value_name = "FILE.avsc", requires = "topic", help_heading = "The log")]
    pub schema: Option<String>,
    /// Begin there: beginning (the default), -15m, RFC 3339, Unix time
    #[arg(long, value_parser = moment, value_name = "WHEN", allow_hyphen_values = true,
          conflicts_with_all = ["trace", "scenario"], help_heading = "The log")]
    pub from: Option<Moment>,
    /// End there: end (the default), -5m, RFC 3339, Unix time
    #[arg(long, value_parser = moment, value_name = "WHEN", allow_hyphen_values = true,
          conflicts_with_all = ["trace", "scenario"], help_heading = "The log")]
    pub to: Option<Moment>,
    /// Of the generated log
    #[arg(long, value_name = "N", default_value_t = 1, help_heading = "The log")]
    pub seed: u64,
    /// How long the generated log is; 10m by default
    #[arg(long, value_name = "DURATION", value_parser = length, help_heading = "The log")]
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
    /// persistence, ewma or ladder, instead of `planner.forecast`
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
    /// The same, of a place that was cold
    ColdCrowd,
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
            Self::ColdCrowd => "cold-crowd",
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
        let given = given.into_iter().filter_map(|(flag, key, it)| Some((flag, key, it.clone()?)));
        given.chain(query_log::flags(self.schema.as_deref())).collect()
    }
}

/// How long a log is.
pub fn length(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(it) if it.as_millis() == 0 => Err("a log has some length".to_owned()),
        Ok(it) => Ok(it),
        Err(err) => Err(err.to_string()),
    }
}

fn unix_ms(text: &str) -> Result<Millis, std::num::ParseIntError> {
    text.parse().map(Millis)
}
