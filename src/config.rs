//! Says what a person may configure, and checks it once, at the edge.
//!
//! ```text
//!  defaults < /etc < $XDG_CONFIG_HOME < . < --config < ISOTHERM__SECTION__KEY < flags
//!      └──────────────────── layers ─────────────────────┘
//!                  merged ──> checked ──> secrets filled in ──> Config
//! ```
//!
//! * **Unknown keys are errors**, with the key that was probably meant and the place where it stands.
//! * **Every value has an origin**, which `config show --origin` prints.
//! * **Secrets come by reference** (`${env:…}`, `${file:…}`) and are never printed.

pub mod layers;
pub mod channel;
pub mod router;
pub mod worker;
pub mod table;
pub mod load;
pub mod query_log;
mod secrets;
mod types;

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use dataflows::balance::policy::Policy;
use figment::value::{Dict, Value};
use schemas::Key;
use serde::{Deserialize, Serialize};

use crate::kafka::Connection;

/// The whole configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    pub kafka: Connection,
    pub planner: Planner,
    pub channel: channel::Channel,
    pub router: router::Router,
    pub worker: worker::Worker,
    pub table: table::Table,
    pub load: load::Load,
    pub query_log: query_log::QueryLog,
    pub schema_registry: query_log::SchemaRegistry,
    pub costs: Costs,
    pub policy: Policy,
}

/// `[planner]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Planner {
    /// Names its progress and its transactions; planners of one id relieve each other.
    pub id: String,
    pub mode: Mode,
    pub forecast: Rung,
    #[serde(with = "humane")]
    pub tick: Duration,
    /// A tick is closed so long after its end, for records that are under way.
    #[serde(with = "humane")]
    pub grace: Duration,
    /// Of a partition, a tick holds at most so many records.
    pub span_records_max: u64,
    /// A tick that ended so many ticks ago plans nothing.
    pub stale_max_ticks: u64,
    /// A stamp so far ahead of its neighbours ends no tick.
    #[serde(with = "humane")]
    pub future_max: Duration,
    /// Without progress, the first tick is not before that.
    #[serde(with = "humane")]
    pub past_max: Duration,
    /// A snapshot is taken every so many ticks.
    pub snapshot_ticks: u64,
    pub timely_workers: usize,
    /// So many nodes must report before there is a first assignment.
    pub birth_nodes: usize,
    /// The first assignment has so many ranges, of equal width from `key_first` to `key_last`,
    /// unless `split_points` say where ranges begin.
    pub birth_ranges: u32,
    #[serde(with = "key_text")]
    pub key_first: Key,
    #[serde(with = "key_text")]
    pub key_last: Key,
    #[serde(with = "key_texts")]
    pub split_points: Vec<Key>,
    /// A node that did not report for so many ticks is given nothing.
    pub silent_ticks: u64,
    /// A destination may take so long to answer a CANCEL.
    #[serde(with = "humane")]
    pub cancel_grace: Duration,
    /// Where `/livez` and `/readyz` are served.
    pub listen: SocketAddr,
}

impl Default for Planner {
    fn default() -> Self {
        Self {
            id: "planner".into(),
            mode: Mode::Auto,
            forecast: Rung::Ladder,
            tick: Duration::from_secs(5),
            grace: Duration::from_millis(300),
            span_records_max: 100_000,
            stale_max_ticks: 3,
            future_max: Duration::from_secs(60),
            past_max: Duration::from_secs(3_600),
            snapshot_ticks: 360,
            timely_workers: 1,
            birth_nodes: 1,
            birth_ranges: 32,
            key_first: Key::default(),
            key_last: Key::default(),
            split_points: Vec::new(),
            silent_ticks: 12,
            cancel_grace: Duration::from_secs(30),
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 7070)),
        }
    }
}

/// What becomes of a plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Nothing is planned: the baseline.
    Observe,
    /// A plan waits for the approval of exactly its digest.
    Recommend,
    /// A plan is carried out.
    Auto,
}

impl Mode {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Observe => "observe",
            Self::Recommend => "recommend",
            Self::Auto => "auto",
        }
    }
}

/// How load is forecast.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Rung {
    /// It stays as it is: the reactive form, to compare with.
    Persistence,
    Ewma,
    /// Whoever of EWMA, linear model and network lost least lately.
    Ladder,
}

/// `[costs]`: what a query counts that does not tell its cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Costs {
    pub read_us: u64,
    pub scan_us: u64,
    pub write_us: u64,
}

impl Default for Costs {
    fn default() -> Self {
        Self { read_us: 100, scan_us: 1_000, write_us: 150 }
    }
}

/// A value that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Of the key, such as `unknown_key`.
    pub code: &'static str,
    pub key: String,
    /// Where it stands, such as a file.
    pub origin: String,
    pub reason: String,
    pub remedy: String,
}

impl Config {
    /// Checks what types do not say, and tells (key, reason, remedy).
    fn check(&self) -> Vec<(&'static str, String, &'static str)> {
        let Planner { mode, tick, timely_workers, birth_nodes, .. } = self.planner;
        let mut res = Vec::new();
        let mut unless = |holds: bool, key, reason: &str, remedy| {
            if !holds {
                res.push((key, reason.to_owned(), remedy));
            }
        };
        let whole = tick.subsec_nanos().is_multiple_of(1_000_000);
        unless(
            whole && Duration::from_millis(100) <= tick,
            "planner.tick",
            "a tick is a whole number of milliseconds, at least 100 of them",
            "set it to `5s`, or to `1s` for a demonstration",
        );
        unless(
            mode != Mode::Recommend,
            "planner.mode",
            "`recommend` needs somebody who approves plans, and this version cannot take approvals",
            "set it to `observe`, and read the plans of a replay; or to `auto`",
        );
        let id = &self.planner.id;
        unless(!id.is_empty(), "planner.id", "a planner needs an id", "set it to `planner`");
        let positive = [
            ("planner.timely_workers", timely_workers as u64),
            ("planner.birth_nodes", birth_nodes as u64),
            ("planner.birth_ranges", u64::from(self.planner.birth_ranges)),
            ("planner.span_records_max", self.planner.span_records_max),
            ("planner.snapshot_ticks", self.planner.snapshot_ticks),
            ("planner.silent_ticks", self.planner.silent_ticks),
            ("policy.ranges_max", u64::from(self.policy.ranges_max)),
            ("policy.bandwidth_bytes_per_s", self.policy.bandwidth_bytes_per_s),
            ("policy.deadline_ms", self.policy.deadline_ms),
        ];
        for (key, value) in positive {
            unless(0 < value, key, "it must be at least 1", "leave it out for the default");
        }
        let warm = self.policy.warm_permille;
        unless(
            (1..=1_000).contains(&warm),
            "policy.warm_permille",
            "a node is too warm above a part of its capacity, in thousandths: 1 to 1000",
            "set it to 800",
        );
        let Planner { key_first, key_last, split_points, .. } = &self.planner;
        unless(
            key_last.0.is_empty() || key_first < key_last,
            "planner.key_last",
            "it does not lie above planner.key_first",
            "exchange the two, or leave both out",
        );
        unless(
            split_points.windows(2).all(|it| it[0] < it[1])
                && split_points.first().is_none_or(|it| !it.0.is_empty()),
            "planner.split_points",
            "they must ascend, and none may be empty: the first range begins before the first of them",
            "sort them, without duplicates",
        );
        res.extend(self.channel.check());
        res.extend(self.router.check());
        res.extend(self.worker.check());
        res.extend(self.table.check());
        res.extend(self.load.check());
        res.extend(self.query_log.check(&self.schema_registry));
        res
    }
}

fn dict_of(section: &impl Serialize) -> Dict {
    let value = Value::serialize(section).expect("a section is plain values");
    value.into_dict().expect("a section is a table")
}

/// Reads a key from text: as it stands, or `0x` and hexadecimal digits.
pub fn key_of(text: &str) -> Result<Key, String> {
    let Some(digits) = text.strip_prefix("0x") else { return Ok(Key(text.as_bytes().to_vec())) };
    let digit = |it: &u8| char::from(*it).to_digit(16);
    let byte = |pair: &[u8]| match pair {
        [high, low] => Some((digit(high)? << 4 | digit(low)?) as u8),
        _ => None,
    };
    let bytes: Option<Vec<u8>> = digits.as_bytes().chunks(2).map(byte).collect();
    bytes
        .map(Key)
        .ok_or_else(|| format!("`{text}` is no hexadecimal key: pairs of digits follow 0x"))
}

/// Writes a key as [`key_of`] reads it.
pub fn text_of_key(key: &Key) -> String {
    match str::from_utf8(&key.0) {
        Ok(text) if !text.starts_with("0x") && !text.chars().any(char::is_control) => text.into(),
        Ok(_) | Err(_) => {
            let digits = key.0.iter().map(|byte| format!("{byte:02x}"));
            std::iter::once("0x".to_owned()).chain(digits).collect()
        }
    }
}

/// Durations as people write them: `300ms`, `1h 30m`.
mod humane {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(it: &Duration, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(&humantime::format_duration(*it))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
        let text = String::deserialize(from)?;
        let wrong =
            |it| D::Error::custom(format!("`{text}` is no duration such as `5s` or `300ms`: {it}"));
        humantime::parse_duration(&text).map_err(wrong)
    }
}

mod key_text {
    use schemas::Key;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(key: &Key, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&super::text_of_key(key))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Key, D::Error> {
        super::key_of(&String::deserialize(from)?).map_err(D::Error::custom)
    }
}

mod key_texts {
    use schemas::Key;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(keys: &[Key], to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(keys.iter().map(super::text_of_key))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<Key>, D::Error> {
        let texts = Vec::<String>::deserialize(from)?;
        texts.iter().map(|it| super::key_of(it)).collect::<Result<_, _>>().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests;
