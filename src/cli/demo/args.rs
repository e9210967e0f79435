//! Says what can be asked of `isotherm demo`.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use crate::cli::Flag;
use crate::cli::args::{Capacities, capacities};
use crate::cli::replay::Scenario;

/// What is usual.
const READS_PER_S: &str = "2000";
const WRITES_PER_S: &str = "200";
const KEYS: &str = "100000";
const PAYLOAD_BYTES: &str = "100";
const TICK: &str = "1s";

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
        conflicts_with = "trace",
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
    /// Reads a second, on average
    #[arg(long, value_name = "N", default_value = READS_PER_S, value_parser = clap::value_parser!(u64).range(1..), help_heading = "The load")]
    pub reads_per_s: u64,
    /// Updates of rows a second, on average
    #[arg(long, value_name = "N", default_value = WRITES_PER_S, help_heading = "The load")]
    pub writes_per_s: u64,
    /// Rows of the table
    #[arg(long, value_name = "N", default_value = KEYS, value_parser = clap::value_parser!(u64).range(1_000..=50_000_000), help_heading = "The load")]
    pub keys: u64,
    /// What each row carries
    #[arg(long, value_name = "BYTES", default_value = PAYLOAD_BYTES, value_parser = clap::value_parser!(u64).range(..=100_000), help_heading = "The load")]
    pub payload_bytes: u64,

    /// How many nodes, 16 at most; as many as --capacity names, or 4
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=16), help_heading = "Nodes")]
    pub nodes: Option<u32>,
    /// 1:2:3:4 as parts, or 1000000,2000000 in µs of service a second; 1:2:3:4 of four nodes by default, else all alike
    #[arg(long, value_name = "LIST", value_parser = capacities, help_heading = "Nodes")]
    pub capacity: Option<Capacities>,

    /// observe (plan nothing) or auto, instead of `planner.mode`, which is auto by default
    #[arg(long, value_name = "MODE", help_heading = "Planner")]
    pub mode: Option<String>,
    /// How long a tick is, 100ms at least
    #[arg(long, value_name = "DURATION", default_value = TICK, help_heading = "Planner")]
    pub tick: String,
    /// persistence, ewma or ladder, instead of `planner.forecast`, which is ladder by default
    #[arg(long, value_name = "RUNG", help_heading = "Planner")]
    pub forecast: Option<String>,

    /// Run on this cluster instead of the embedded broker, on topics of a prefix of its own
    #[arg(long, value_name = "HOST:PORT,…", help_heading = "Where")]
    pub kafka: Option<String>,
    /// After the load, keep running until Ctrl-C, to look around
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

    /// The command that shows the same in another mode: all flags but those of results, where they differ
    /// from what is usual.
    pub fn again(&self, mode: &str) -> String {
        let mut res = "isotherm demo".to_owned();
        let mut flag = |name: &str, value: String, usual: &str| {
            if value != usual {
                res.push_str(&format!(" --{name} {value}"));
            }
        };
        match &self.trace {
            Some(path) => {
                flag("trace", quoted(&path.display().to_string()), "");
                flag("speed", self.speed.to_string(), "1");
            }
            None => flag("scenario", self.scenario.as_str().to_owned(), ""),
        }
        flag("seed", self.seed.to_string(), "");
        let duration = humantime::format_duration(self.duration).to_string().replace(' ', "");
        flag("duration", duration, "");
        flag("reads-per-s", self.reads_per_s.to_string(), READS_PER_S);
        flag("writes-per-s", self.writes_per_s.to_string(), WRITES_PER_S);
        flag("keys", self.keys.to_string(), KEYS);
        flag("payload-bytes", self.payload_bytes.to_string(), PAYLOAD_BYTES);
        flag("nodes", self.nodes.map_or_else(String::new, |it| it.to_string()), "");
        let capacity = self.capacity.as_ref().map_or_else(String::new, ToString::to_string);
        flag("capacity", capacity, "");
        flag("tick", self.tick.clone(), TICK);
        flag("forecast", self.forecast.clone().unwrap_or_default(), "");
        flag("mode", mode.to_owned(), "");
        flag("kafka", self.kafka.clone().unwrap_or_default(), "");
        res
    }
}

/// As a shell takes it for one word.
fn quoted(text: &str) -> String {
    let is_plain = |it: char| it.is_alphanumeric() || "/._-+:@%,".contains(it);
    if text.chars().all(is_plain) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
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
