//! Puts load on the index, for trying and testing: writes rows and changes of them, or plays a scenario
//! or a trace.
//!
//! ```text
//!  --rows, --changes, --rate ──> rows ──> table
//!  --scenario, --trace ────────> play ──> routers (reads), table (updates) ──> what came of it
//! ```

mod rows;
mod play;
mod progress;
mod told;

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::Form;
use super::exit::{Exit, Fault, need_cluster};
use super::replay::{Scenario, length};
use crate::config::Config;
use crate::config::load::router;
use crate::config::table::Format;
use crate::table::rows::PAYLOAD_BYTES_MAX;

#[derive(Clone, Debug, Args)]
#[command(
    group = clap::ArgGroup::new("played").args(["scenario", "trace"]),
    after_help = "Without --scenario or --trace, rows are written: keys of eight hexadecimal digits, evenly spread.\n\
                  What is played has integer keys, as eight bytes. Reads are sent when they are due, whatever is \
                  under way, and latency counts from then; one that a router does not answer is repeated at another, \
                  and has failed at its deadline. If any has, or an update was not written, the exit status is 1."
)]
pub struct LoadArgs {
    /// Write so many rows; each is inserted once
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..=100_000_000),
          conflicts_with = "played", help_heading = "Rows")]
    pub rows: u64,
    /// After that so many changes: other payloads, other index keys, deletions, inserts
    #[arg(
        long,
        value_name = "N",
        default_value_t = 0,
        conflicts_with = "played",
        help_heading = "Rows"
    )]
    pub changes: u64,
    /// So many changes a second at most, once the rows are there
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..),
          conflicts_with = "played", help_heading = "Rows")]
    pub rate: Option<u64>,

    /// Play a generated load
    #[arg(long, value_enum, value_name = "NAME", help_heading = "Scenario")]
    pub scenario: Option<Scenario>,
    /// How long
    #[arg(long, value_name = "DURATION", value_parser = length, default_value = "1m",
          requires = "scenario", conflicts_with = "trace", help_heading = "Scenario")]
    pub duration: Duration,
    /// Over so many keys: the integers from 0 on
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1_000..=1_000_000_000), default_value_t = 100_000,
          requires = "scenario", conflicts_with = "trace", help_heading = "Scenario")]
    pub keys: u64,
    /// On average; a flash crowd comes on top
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(..=1_000_000), default_value_t = 2_000,
          requires = "scenario", conflicts_with = "trace", help_heading = "Scenario")]
    pub reads_per_s: u64,
    /// The same of updates
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(..=1_000_000), default_value_t = 200,
          requires = "scenario", conflicts_with = "trace", help_heading = "Scenario")]
    pub writes_per_s: u64,
    /// Write a row for each key first
    #[arg(long, requires = "scenario", conflicts_with = "trace", help_heading = "Scenario")]
    pub fill: bool,

    /// Play a trace, from its first request on
    #[arg(long, value_name = "FILE.csv.zst", help_heading = "Trace")]
    pub trace: Option<PathBuf>,
    /// So many times as fast as it was
    #[arg(long, value_name = "TIMES", value_parser = speed, default_value = "1", requires = "trace", conflicts_with = "scenario", help_heading = "Trace")]
    pub speed: f64,

    /// A router to ask, instead of `load.routers`; may be given several times
    #[arg(long, value_name = "HOST:PORT", value_parser = router, requires = "played", help_heading = "Scenario or trace")]
    pub router: Vec<String>,
    /// A read that is not answered so long after it was due has failed
    #[arg(long, value_name = "DURATION", value_parser = length, default_value = "30s",
          requires = "played", help_heading = "Scenario or trace")]
    pub deadline: Duration,
    /// How to print what came of it
    #[arg(
        short,
        long,
        value_enum,
        value_name = "FORM",
        default_value_t,
        requires = "played",
        help_heading = "Scenario or trace"
    )]
    pub output: Form,

    /// What each row carries
    #[arg(long, value_name = "BYTES", default_value_t = 100, value_parser = clap::value_parser!(u64).range(..=PAYLOAD_BYTES_MAX as u64))]
    pub payload_bytes: u64,
    /// The same seed makes the same rows, changes and scenario
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
}

pub fn run(config: &Config, args: &LoadArgs) -> Result<Exit, Box<Fault>> {
    need_cluster(config)?;
    if config.table.format != Format::RowChanged {
        let what = "rows are written as row_changed, and table.format is another";
        let fault = Fault::new(Exit::Usage, "isotherm::load::format", what);
        return Err(Box::new(
            fault.remedy("leave table.format out, or write to the table by other means"),
        ));
    }
    match (args.scenario, &args.trace) {
        (Some(scenario), _) => play::scenario(config, args, scenario),
        (None, Some(path)) => play::trace(config, args, path),
        (None, None) => rows::run(config, args),
    }
}

fn speed(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(it) if it.is_finite() && 0.0 < it => Ok(it),
        Ok(_) | Err(_) => Err("a speed is a number above 0, such as 10 or 0.5".into()),
    }
}
