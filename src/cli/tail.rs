//! Prints the records of a topic.
//!
//! ```text
//!  2026-09-21 14:23:05  0:12  p-212  plan as a line                 table
//!  {"topic":"plan","partition":0,"offset":12,…,"value":{…}}         jsonl
//! ```
//!
//! * **Nothing stops it.** A tombstone, and a value that is no record of its topic, are shown as such.
//! * **A partition's records are in its order**; those of several partitions are as they come.

use std::borrow::Cow;
use std::io::{self, Write};
use std::ops::ControlFlow;

use clap::{Args, ValueEnum};
use schemas::query_log::QueriesLogged;
use schemas::wire::{DecodeError, Record as _};
use schemas::{Key, dead_letter};
use serde_json::json;

use super::Flag;
use super::args::{Moment, moment};
use super::exit::{Exit, Fault, need_cluster};
use super::keys::KeyFormat;
use super::query_log::{self, Reader};
use super::told::{self, bytes_told};
use super::values::{self, As};
use crate::config::Config;
use crate::kafka::registry::Away;
use crate::kafka::tail::{Start, follow, scan};
use crate::kafka::{Record, wall_clock};
use crate::topics::definitions;

#[derive(Clone, Debug, Args)]
pub struct TailArgs {
    /// Such as plan; the configured prefix is added
    pub topic: String,
    /// Begin there: beginning, end, -15m, RFC 3339, Unix time; with --no-follow from the beginning
    #[arg(long, value_parser = moment, value_name = "WHEN", default_value = "end",
          default_value_if("no_follow", "true", "beginning"), allow_hyphen_values = true)]
    pub from: Moment,
    /// End at what the topic holds now, instead of waiting for more
    #[arg(long)]
    pub no_follow: bool,
    /// End after so many records
    #[arg(short = 'n', long, value_name = "N")]
    pub count: Option<u64>,
    /// The form of what is printed
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Lines,
    /// The Avro schema of whoever wrote a query log, instead of `query_log.schema`
    #[arg(long, value_name = "FILE.avsc")]
    pub schema: Option<String>,
    /// How keys are written
    #[arg(long, value_enum, default_value_t)]
    pub key_format: KeyFormat,
}

impl TailArgs {
    pub fn flags(&self) -> Vec<Flag> {
        query_log::flags(self.schema.as_deref())
    }
}

/// The form of a stream of records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Lines {
    /// A line that a person reads
    #[default]
    Table,
    /// One JSON value a line
    Jsonl,
}

pub fn run(config: &Config, args: &TailArgs) -> Result<Exit, Box<Fault>> {
    need_cluster(config)?;
    let topic = known(&args.topic, &config.kafka.prefix)?;
    let start = start(args.from);
    let mut left = args.count.unwrap_or(u64::MAX);
    let (mut out, mut failed) = (io::stdout().lock(), None);
    let mut reader = Reader::open(config)?;
    let each = |record: Record| {
        let line = match own(&mut reader, &record) {
            Ok(Some(own)) => {
                told(&Record { value: Some(own), ..record }, args.output, args.key_format)
            }
            Ok(None) => told(&record, args.output, args.key_format),
            Err(wrong) => told_wrong(&record, &wrong, args.output, args.key_format),
        };
        if let Err(error) = writeln!(out, "{line}").and_then(|()| out.flush()) {
            failed = Some(error);
            return ControlFlow::Break(());
        }
        left -= 1;
        if left == 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    match (args.count, args.no_follow) {
        (Some(0), _) => (),
        (_, true) => scan(&config.kafka, topic, start, each)?,
        (_, false) => follow(&config.kafka, topic, start, each)?,
    }
    match failed {
        // A reader that went away (`| head`) is no failure.
        Some(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(anyhow::Error::new(error).context("write to standard output").into())
        }
        Some(_) | None => Ok(Exit::Done),
    }
}

/// Returns the value of a query log that is not in our own form, in that, or why it cannot be.
fn own(reader: &mut Reader, record: &Record) -> Result<Option<Vec<u8>>, Wrong> {
    let Some(value) = record.value.as_ref().filter(|_| record.at.topic == QueriesLogged::TOPIC)
    else {
        return Ok(None);
    };
    let away = |it: Away| Wrong { code: "registry_away", reason: it.to_string() };
    reader.learn(value).map_err(away)?;
    match reader.own(value, record.stamp) {
        Ok(Cow::Borrowed(_)) => Ok(None),
        Ok(Cow::Owned(own)) => Ok(Some(own)),
        Err(why) => Err(Wrong { code: why.code(), reason: why.to_string() }),
    }
}

/// Why a value is shown as bytes.
#[derive(Debug)]
struct Wrong {
    code: &'static str,
    reason: String,
}

impl From<DecodeError> for Wrong {
    fn from(err: DecodeError) -> Self {
        Self { code: err.code(), reason: err.to_string() }
    }
}

/// Finds where to begin in a topic.
pub(super) fn start(from: Moment) -> Start {
    match from.stamp(wall_clock()) {
        Some(stamp) => Start::Time(stamp),
        None if from == Moment::End => Start::End,
        None => Start::Beginning,
    }
}

/// Returns the topic of that name, or says which was probably meant.
fn known(name: &str, prefix: &str) -> Result<&'static str, Box<Fault>> {
    let topics: Vec<&'static str> = definitions().iter().map(|it| it.name).collect();
    if let Some(topic) = topics.iter().find(|it| **it == name) {
        return Ok(topic);
    }
    // It is added here, and easily typed all the same.
    let bare = name.strip_prefix(prefix).unwrap_or(name);
    let likeness = |it: &&&str| strsim::jaro_winkler(it, bare);
    let best = topics.iter().max_by(|a, b| likeness(a).total_cmp(&likeness(b)));
    let meant = best.filter(|it| 0.8 < likeness(it));
    let meant = meant.map_or(String::new(), |it| format!("did you mean `{it}`? "));
    let remedy = format!("{meant}the topics are {}", topics.join(", "));
    let what = format!("`{name}` is no topic of Isotherm");
    Err(Box::new(Fault::new(Exit::Usage, "isotherm::tail::topic", what).remedy(remedy)))
}

/// Returns a record as one line, without a newline.
pub fn told(record: &Record, form: Lines, keys: KeyFormat) -> String {
    let text = |form| {
        let text = |value: &Vec<u8>| values::text(record.at.topic, value, form, keys);
        record.value.as_ref().map(|value| text(value).map_err(Wrong::from))
    };
    match form {
        Lines::Table => line(record, text(As::Line), keys),
        Lines::Jsonl => object(record, text(As::Json), keys),
    }
}

fn told_wrong(record: &Record, wrong: &Wrong, form: Lines, keys: KeyFormat) -> String {
    let Wrong { code, reason } = wrong;
    let text = Some(Err(Wrong { code, reason: reason.clone() }));
    match form {
        Lines::Table => line(record, text, keys),
        Lines::Jsonl => object(record, text, keys),
    }
}

/// `text` is the value, unless there is none.
fn line(record: &Record, text: Option<Result<String, Wrong>>, keys: KeyFormat) -> String {
    let bytes = record.value.as_ref().map_or(0, Vec::len) as u64;
    let value = match text {
        None => "deleted".to_owned(),
        Some(Ok(bytes)) if record.at.topic == dead_letter::TOPIC => letter(record, &bytes),
        Some(Ok(line)) => line,
        Some(Err(Wrong { code, reason })) => {
            format!("not readable, {code}: {reason}; {}", bytes_told(bytes))
        }
    };
    let key = record.key.as_ref().map_or("-".into(), |it| keys.key(&Key(it.clone())));
    let (time, partition, offset) =
        (told::moment(record.stamp.0), record.at.partition, record.offset);
    // What a record says must not move a terminal's cursor.
    let shown = |it: char| if it.is_control() { it.escape_default().collect() } else { it.into() };
    let rest: String =
        format!("{key}  {value}").chars().map(shown).collect::<Vec<String>>().concat();
    format!("{time}  {partition}:{offset}  {rest}")
}

/// Where a dead letter came from, and why.
fn letter(record: &Record, bytes: &str) -> String {
    if record.header(dead_letter::HEADER_REASON).is_none() {
        return format!("{bytes}, without headers that say where from and why");
    }
    let header = |name| record.header(name).map(String::from_utf8_lossy).unwrap_or("?".into());
    format!(
        "from {} {}:{}, {}: {}; {bytes}",
        header(dead_letter::HEADER_TOPIC),
        header(dead_letter::HEADER_PARTITION),
        header(dead_letter::HEADER_OFFSET),
        header(dead_letter::HEADER_REASON),
        header(dead_letter::HEADER_DETAIL)
    )
}

/// The value comes last, as it is the longest; what is no record of its topic has `error` instead.
fn object(record: &Record, text: Option<Result<String, Wrong>>, keys: KeyFormat) -> String {
    let value = match text {
        None => "\"value\":null".to_owned(),
        Some(Ok(value)) => format!("\"value\":{value}"),
        Some(Err(Wrong { code, reason })) => {
            let bytes = keys.bytes(record.value.as_deref().unwrap_or_default());
            let error = json!({ "code": code, "reason": reason, "bytes": bytes });
            format!("\"error\":{error}")
        }
    };
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let headers = record.headers.iter().map(|it| (it.0.clone(), text(&it.1).into()));
    let headers: serde_json::Map<String, serde_json::Value> = headers.collect();
    let key = json!(record.key.as_ref().map(|it| keys.bytes(it)));
    let (headers, topic) = (json!(headers), json!(record.at.topic));
    let (partition, offset, stamp) = (record.at.partition, record.offset, record.stamp.0);
    format!(
        "{{\"topic\":{topic},\"partition\":{partition},\"offset\":{offset},\"stamp_ms\":{stamp},\
         \"key\":{key},\"headers\":{headers},{value}}}"
    )
}

#[cfg(test)]
mod tests;
