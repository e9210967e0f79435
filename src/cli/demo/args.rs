//! Says what can be asked of `isotherm demo`.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use crate::cli::Flag;
use crate::cli::args::{Capacities, capacities};
use crate::cli::replay::Scenario;

#[derive(Clone, Debug, Args)]
#[command(
    after_help = "Nothing needs to run beforehand: without --kafka, the broker is in this process and ends with it."
)]
pub struct DemoArgs {
    /// What is asked of the index
    #[arg(
        long,
        value_enum,
        value_name = "NAME",
        default_value = "moving-hotspot",
        help_heading = "The load"
    )]
    pub scenario: Scenario,
    /// Play a trace instead
    #[arg(long, value_name = "FILE.csv.zst", help_heading = "The load")]
    pub trace: Option<PathBuf>,
    /// So many times as fast as it was recorded
    #[arg(long, value_name = "X", default_value_t = 1.0, value_parser = speed, requires = "trace", help_heading = "The load")]
    pub speed: f64,
    /// How long it goes on
    #[arg(long, value_name = "DURATION", value_parser = length, default_value = "90s", help_heading = "The load")]
    pub duration: Duration,
    /// The same seed asks the same
    #[arg(long, value_name = "N", default_value_t = 1, help_heading = "The load")]
    pub seed: u64,
    /// Reads a second, in the mean
    #[arg(long, value_name = "N", default_value_t = 2_000, value_parser = clap::value_parser!(u64).range(1..), help_heading = "The load")]
    pub reads_per_s: u64,
    /// Updates of rows a second, in the mean
    #[arg(long, value_name = "N", default_value_t = 200, help_heading = "The load")]
    pub writes_per_s: u64,
    /// Rows of the table
    #[arg(long, value_name = "N", default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1_000..=50_000_000), help_heading = "The load")]
    pub keys: u64,
    /// What each row carries
    #[arg(long, value_name = "BYTES", default_value_t = 100, value_parser = clap::value_parser!(u64).range(..=100_000), help_heading = "The load")]
    pub payload_bytes: u64,

    /// How many nodes
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=16), help_heading = "Nodes")]
    pub nodes: Option<u32>,
    /// 1:2:3:4 as parts, or 1000000,2000000 in µs of service a second
    #[arg(long, value_name = "LIST", value_parser = capacities, help_heading = "Nodes")]
    pub capacity: Option<Capacities>,

    /// observe (plan nothing) or auto
    #[arg(long, value_name = "MODE", help_heading = "Planner")]
    pub mode: Option<String>,
    /// How long a tick is
    #[arg(long, value_name = "DURATION", default_value = "1s", help_heading = "Planner")]
    pub tick: String,
    /// persistence or ewma
    #[arg(long, value_name = "RUNG", help_heading = "Planner")]
    pub forecast: Option<String>,

    /// Run on this cluster instead of the embedded broker, on topics of a prefix of its own
    #[arg(long, value_name = "HOST:PORT,…", help_heading = "Where")]
    pub kafka: Option<String>,
    /// Go on until Ctrl-C behind the end of the load, to be looked at
    #[arg(long, help_heading = "Results")]
    pub stay: bool,
    /// Write the numbers
    #[arg(long, value_name = "FILE.json", help_heading = "Results")]
    pub report: Option<PathBuf>,
    /// Draw heat over key space and time, with owners and moves
    #[arg(long, value_name = "FILE.svg", help_heading = "Results")]
    pub plot: Option<PathBuf>,
}

impl DemoArgs {
    pub fn flags(&self) -> Vec<Flag> {
        let tick = Some(self.tick.clone());
        let given = [
            ("--mode", "planner.mode", &self.mode),
            ("--tick", "planner.tick", &tick),
            ("--forecast", "planner.forecast", &self.forecast),
            ("--kafka", "kafka.bootstrap_servers", &self.kafka),
        ];
        given.into_iter().filter_map(|(flag, key, it)| Some((flag, key, it.clone()?))).collect()
    }

    /// The command that shows the same in another mode.
    pub fn again(&self, mode: &str) -> String {
        let mut res = "isotherm demo".to_owned();
        match &self.trace {
            Some(path) => {
                res.push_str(&format!(" --trace {} --speed {}", path.display(), self.speed));
            }
            None => res.push_str(&format!(" --scenario {}", self.scenario.as_str())),
        }
        let duration = humantime::format_duration(self.duration).to_string().replace(' ', "");
        res.push_str(&format!(" --seed {} --duration {duration} --mode {mode}", self.seed));
        if let Some(kafka) = &self.kafka {
            res.push_str(&format!(" --kafka {kafka}"));
        }
        res
    }
}

fn length(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(it) if it < Duration::from_secs(5) => {
            Err("five seconds are the least: before that nothing can be seen".into())
        }
        Ok(it) => Ok(it),
        Err(err) => Err(err.to_string()),
    }
}

fn speed(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(it) if 0.0 < it && it.is_finite() => Ok(it),
        Ok(_) | Err(_) => Err("a speed is a number above 0".into()),
    }
}
