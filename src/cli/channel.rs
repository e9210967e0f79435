//! Runs the table's channel.
//!
//! ```text
//!  configuration ──> schemas read ──> topics checked ──> driver, row by row
//!                                          └────────────────┴──> Health ──> /readyz
//!  SIGTERM, SIGINT ──> commits what was sent, leaves the group, ends
//! ```

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Args;
use tracing::{info, warn};

use super::Flag;
use super::checks::check_topics;
use super::exit::{Exit, Fault, need_cluster};
use super::named;
use super::signals::Signals;
use crate::channel::driver::{self, Options, Status, Watch};
use crate::channel::machine::{Settings, Waiting};
use crate::config::Config;
use crate::config::table::{Format, Table};
use crate::table::rows::{Form, Rows};
use crate::telemetry::metrics;
use crate::topics::definition::Process;
use crate::topics::requirements::changes_kept_ms;
use crate::web::{self, Health};

const TOPICS: &str = "topics";
const ASSIGNMENT: &str = "assignment";
const ROWS: &str = "rows";

/// Who joins is given nothing at first, and what others give up for it after that. If nothing comes for so long, others
/// have all: longer than the group waits for a member that does not answer.
const GIVEN_WITHIN: Duration = Duration::from_secs(10);

/// What must hold for a channel to be ready.
const CONDITIONS: [&str; 3] = [TOPICS, ASSIGNMENT, ROWS];

#[derive(Clone, Debug, Args)]
pub struct ChannelArgs {
    /// The consumer group of this channel, instead of `channel.group`
    #[arg(long, value_name = "NAME")]
    pub group: Option<String>,
    /// The name that this channel has again after a restart, instead of `channel.member`
    #[arg(long, value_name = "NAME")]
    pub member: Option<String>,
    /// Where /livez and /readyz are served, instead of `channel.listen`
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub listen: Option<String>,
}

impl ChannelArgs {
    pub fn flags(&self) -> Vec<Flag> {
        let given = [
            ("--group", "channel.group", &self.group),
            ("--member", "channel.member", &self.member),
            ("--listen", "channel.listen", &self.listen),
        ];
        given.into_iter().filter_map(|(flag, key, it)| Some((flag, key, it.clone()?))).collect()
    }
}

pub fn run(config: &Config, _args: &ChannelArgs) -> Result<Exit, Box<Fault>> {
    need_cluster(config)?;
    let rows = rows(&config.table)?;
    let signals = Signals::begin_within(config.channel.stop_within)?;
    let health = Arc::new(Health::new(&CONDITIONS));
    let server = web::serve(config.channel.listen, &health)?;
    info!(address = %server.address(), "serves /livez and /readyz");

    health.waiting(TOPICS, "waits for Kafka");
    let topics = check_topics(config, Process::Channel, |_, _| Vec::new())?;
    health.ready(TOPICS, "they are as they must be");

    health.waiting(ASSIGNMENT, "is being read");
    health.waiting(ROWS, "the assignment comes first");
    let options = options(config, rows, changes_kept_ms(&topics));
    let told = Status::default();
    let mut watching = Watching { health: &health, signals: &signals, told, joined: None };
    driver::run(&options, &mut watching)?;
    info!(counts = ?watching.told.counts, "has ended");
    Ok(Exit::Done)
}

/// Returns what a channel is told at its start; `table` is compacted after so long, if at all.
pub fn options(config: &Config, rows: Rows, compaction_lag_ms: Option<u64>) -> Options {
    Options {
        connection: config.kafka.clone(),
        group: config.channel.group.clone(),
        member: Some(config.channel.member.clone()).filter(|it| !it.is_empty()),
        settings: Settings {
            round_ms: config.channel.watermark_every.as_millis() as u64,
            compaction_lag_ms,
        },
        rows,
        write_cost_us: config.costs.write_us,
    }
}

/// Returns what the records of the table are, with the schemas of their writers.
pub fn rows(table: &Table) -> Result<Rows, Box<Fault>> {
    const CODE: &str = "isotherm::table::schema";
    let read = |file: &str, key: &str| {
        let text = std::fs::read_to_string(file);
        text.map_err(|error| named::unread_of(key, CODE, Path::new(file), &error))
    };
    let schemas = table.schemas.iter().map(|file| Ok((file.clone(), read(file, "table.schemas")?)));
    let schemas = schemas.collect::<Result<Vec<_>, Box<Fault>>>()?;
    let by_id = table.files_by_id().map(|(id, file)| {
        let text = read(file, "table.schema_ids")?;
        Ok((id, file.to_owned(), text))
    });
    let by_id = by_id.collect::<Result<Vec<_>, Box<Fault>>>()?;
    let paths = |of: &[String]| {
        of.iter().map(|path| path.split('.').map(str::to_owned).collect()).collect()
    };
    let form = match table.format {
        Format::RowChanged => Form::RowChanged,
        Format::Envelope => {
            Form::Envelope { key: paths(&table.key), payload: paths(&table.payload) }
        }
    };
    Rows::new(form, &schemas, &by_id).map_err(|error| {
        let fault = Fault::new(Exit::Usage, CODE, error.to_string());
        Box::new(fault.remedy("set table.schemas and table.schema_ids to files of Avro schemas"))
    })
}

/// Looks on, and tells.
struct Watching<'a> {
    health: &'a Health,
    signals: &'a Signals,
    told: Status,
    joined: Option<Instant>,
}

impl Watch for Watching<'_> {
    fn told(&mut self, status: &Status) {
        let (generation, ranges) = (status.generation.0, status.ranges.unwrap_or_default());
        match generation {
            0 => self.health.waiting(ASSIGNMENT, "there is none yet"),
            _ => self.health.ready(ASSIGNMENT, format!("generation {generation}, {ranges} ranges")),
        }
        self.joined = status.joined.then(|| self.joined.unwrap_or_else(Instant::now));
        match rows_wait(status, self.joined.map(|it| it.elapsed())) {
            None => self.health.ready(ROWS, partitions(status)),
            Some(why) => self.health.waiting(ROWS, why),
        }
        if self.told.generation != status.generation {
            info!(generation, ranges, "the map has changed");
        }
        if self.told.partitions != status.partitions {
            info!(partitions = ?status.partitions, "its partitions have changed");
        }
        if self.told.waiting != status.waiting {
            for (partition, waiting) in &status.waiting {
                warn!(partition, reason = reason(waiting), "rows wait");
            }
        }
        if self.told.unreachable != status.unreachable {
            for node in &status.unreachable {
                warn!(%node, "a source gets no watermarks: it has never reported where it reads");
            }
        }
        let measured = metrics::get();
        metrics::tell_events(&status.counts);
        measured.generation.record(generation, &[]);
        measured.ranges.record(ranges as u64, &[]);
        measured.channel_partitions.record(status.partitions.len() as u64, &[]);
        self.told = status.clone();
    }

    fn is_stopping(&self) -> bool {
        self.signals.is_asked()
    }
}

/// Says why rows are not used, or what becomes of them is not known yet; it has joined so long ago.
fn rows_wait(status: &Status, joined: Option<Duration>) -> Option<String> {
    let is_settled = |joined| !status.partitions.is_empty() || GIVEN_WITHIN <= joined;
    if !joined.is_some_and(is_settled) {
        return Some("the group has not given it partitions yet".into());
    }
    if let Some((partition, waiting)) = status.waiting.first() {
        return Some(format!("table/{partition} waits: {}", reason(waiting)));
    }
    let unseen = status.unseen.first()?;
    Some(format!("table/{unseen}: where it ends is not known yet"))
}

fn partitions(status: &Status) -> String {
    let names: Vec<_> = status.partitions.iter().map(u32::to_string).collect();
    match &names[..] {
        [] => "others have all partitions of the table".into(),
        _ => format!("partitions {} of the table", names.join(", ")),
    }
}

fn reason(waiting: &Waiting) -> String {
    match waiting {
        Waiting::NoMap => "there is no assignment yet".into(),
        Waiting::OlderMap { committed } => {
            format!("another channel has committed by generation {}, not read yet", committed.0)
        }
        Waiting::NoOwner { offset } => {
            format!("no range holds a key of the row at offset {offset}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn channel_is_ready_once_it_has_joined_and_knows_where_its_partitions_end() {
        let mut status = Status::default();
        let check_after = |status: &Status, joined: Option<u64>, expected: Option<&str>| {
            let joined = joined.map(Duration::from_secs);
            assert_eq!(rows_wait(status, joined).as_deref(), expected, "{status:?}, {joined:?}");
        };
        let check = |status: &Status, expected| check_after(status, Some(1), expected);
        let not_yet = Some("the group has not given it partitions yet");
        check_after(&status, None, not_yet);
        // Another one may be about to give some up.
        check_after(&status, Some(9), not_yet);
        check_after(&status, Some(10), None);
        assert_eq!(partitions(&status), "others have all partitions of the table");
        status.partitions = [1, 3].into();
        status.unseen = vec![3];
        check(&status, Some("table/3: where it ends is not known yet"));
        status.waiting = vec![(1, Waiting::NoMap)];
        check(&status, Some("table/1 waits: there is no assignment yet"));
        (status.unseen, status.waiting) = (vec![], vec![]);
        check(&status, None);
        assert_eq!(partitions(&status), "partitions 1, 3 of the table");
    }
}
