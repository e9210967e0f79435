//! Reads the loads that a command names, as panels.
//!
//! ```text
//!  --panel ──> a table of loads ──────────────────────────────────────┐
//!  --trace ──┬─> how long, which keys ──> strips ──> count by strip ──┴─> panels, in this order
//!  --scenario┤
//!  --topic ──┘
//! ```
//!
//! * **As the planner sees it.** What is counted of a log are the rows that a planner forecasts: the
//!   cells of the first assignment, over the keys that there are.

mod file;
mod log;

use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgGroup, Args};

use super::args::{Moment, moment};
use super::exit::{Exit, Fault};
use super::replay::{Scenario, length};
use super::{Flag, query_log};
use crate::config::Config;
use crate::forecast::panel::Panel;

#[derive(Clone, Debug, Args)]
#[command(group = ArgGroup::new("loads").required(true).multiple(true).args(["panel", "trace", "scenario", "topic"]))]
pub struct PanelArgs {
    /// A panel: load per range and bin (r0,r1,…,w0,w1,… a line a bin); may be given several times
    #[arg(long, value_name = "FILE.csv.zst", help_heading = "Loads")]
    pub panel: Vec<PathBuf>,
    /// A trace (time_ms,key,op a line), counted by strips of its keys; may be given several times
    #[arg(long, value_name = "FILE.csv.zst", help_heading = "Loads")]
    pub trace: Vec<PathBuf>,
    /// A generated log, counted likewise; may be given several times
    #[arg(long, value_enum, value_name = "NAME", help_heading = "Loads")]
    pub scenario: Vec<Scenario>,
    /// How long a generated log is
    #[arg(long, value_name = "DURATION", value_parser = length, default_value = "2h", help_heading = "Loads")]
    pub duration: Duration,
    /// The query log of the cluster, such as query_log, counted likewise
    #[arg(long, value_name = "TOPIC", help_heading = "Loads")]
    pub topic: Option<String>,
    /// Begin there: beginning (the default), -15m, RFC 3339, Unix time
    #[arg(long, value_parser = moment, value_name = "WHEN", allow_hyphen_values = true, requires = "topic", help_heading = "Loads")]
    pub from: Option<Moment>,
    /// End there: end (the default), -5m, RFC 3339, Unix time
    #[arg(long, value_parser = moment, value_name = "WHEN", allow_hyphen_values = true, requires = "topic", help_heading = "Loads")]
    pub to: Option<Moment>,
    /// The Avro schema of whoever wrote the topic, instead of `query_log.schema`
    #[arg(long, value_name = "FILE.avsc", requires = "topic", help_heading = "Loads")]
    pub schema: Option<String>,
    /// How long a bin is: one for all, or one for each panel, trace, scenario and topic in this order
    #[arg(long, value_name = "DURATION", value_parser = bin, default_value = "10s", help_heading = "Loads")]
    pub bin: Vec<u64>,
}

/// Longer bins would be no load, but days.
const BIN_MAX: Duration = Duration::from_secs(86_400);

/// Reads how long a bin is, in milliseconds.
fn bin(text: &str) -> Result<u64, String> {
    let it = humantime::parse_duration(text).map_err(|it| it.to_string())?;
    match u64::try_from(it.as_millis()) {
        Ok(ms) if 0 < ms && it <= BIN_MAX => Ok(ms),
        Ok(_) | Err(_) => Err("a bin is from 1ms to 1day long, such as 10s".to_owned()),
    }
}

impl PanelArgs {
    pub fn flags(&self) -> Vec<Flag> {
        query_log::flags(self.schema.as_deref()).into_iter().collect()
    }

    /// Reads them all, in their order.
    pub fn read(&self, config: &Config) -> Result<Vec<Panel>, Box<Fault>> {
        let (loads, bins) = (self.loads(), self.bin.len());
        if bins != 1 && bins != loads {
            let what = format!("{bins} --bin for {loads} panels, traces, scenarios and topics");
            let remedy = "give one --bin for all, or one for each: panels first, then traces, scenarios and the topic";
            let fault = Fault::new(Exit::Usage, "isotherm::panel::bins", what);
            return Err(Box::new(fault.remedy(remedy)));
        }
        let mut bins = self.bin.iter().copied().cycle();
        let mut bin = || bins.next().expect("there is one bin at least");
        let mut panels = Vec::new();
        for path in &self.panel {
            panels.push(file::read(path, bin())?);
        }
        for path in &self.trace {
            panels.push(log::of_trace(config, path, bin())?);
        }
        for shape in &self.scenario {
            panels.push(log::of_scenario(config, *shape, self.duration, bin())?);
        }
        if let Some(topic) = &self.topic {
            panels.push(log::of_topic(config, topic, [self.from, self.to], bin())?);
        }
        Ok(panels)
    }

    fn loads(&self) -> usize {
        let topics = usize::from(self.topic.is_some());
        self.panel.len() + self.trace.len() + self.scenario.len() + topics
    }
}
