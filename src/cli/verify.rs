//! Compares the whole index with the source table.
//!
//! ```text
//!  table to its end ──> fold          wait until every floor is there, and no gap is being filled
//!  workers, all pages ──> comparison  once more, if what is active has changed meanwhile
//!  table to its new end ──> what has changed is left out ──> verdict
//! ```

pub mod ask;
pub mod report;

use std::collections::BTreeMap;
use std::thread;
use std::time::{Duration, Instant};

use clap::Args;
use schemas::{Generation, NodeId};
use tracing::{info, warn};

use super::channel::rows;
use super::exit::{Exit, Fault, need_cluster};
use super::keys::KeyFormat;
use super::within::{REACHABLE, Within};
use super::{Form, index, print};
use crate::config::Config;
use crate::kafka::follow::{Follower, From};
use crate::table::rows::Rows;
use crate::verify::compare::{Comparison, Verdict};
use crate::verify::covered::Covered;
use crate::verify::fold::{Fold, Said};
use crate::verify::tiling::{self, Heads, waits_for};
use ask::Workers;
use report::told;

/// Workers and the assignment are looked at so often while something is waited for.
const LOOK_EVERY: Duration = Duration::from_millis(300);

/// A table that is being read is not given up before nothing has come of it for so long.
const SILENCE: Duration = Duration::from_secs(5);

const TABLE: &str = "table";

#[derive(Clone, Debug, Args)]
pub struct VerifyArgs {
    /// Wait no longer than this for Kafka, and for workers to have what the table has
    #[arg(long, value_parser = humantime::parse_duration, value_name = "DURATION", default_value = "5m")]
    pub timeout: Duration,
    /// The form of what is printed
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Form,
    /// How keys are written
    #[arg(long, value_enum, default_value_t)]
    pub key_format: KeyFormat,
}

/// What was found, and over how much.
#[derive(Debug, Default)]
pub struct Verified {
    pub verdict: Verdict,
    pub faults: Vec<tiling::Fault>,
    pub rows: u64,
    /// Those of them that have no entry: deleted, or without an index key.
    pub without: u64,
    pub entries: u64,
    pub on_the_way: u64,
    pub nodes: u64,
    /// By partition, the ends of the table that were compared.
    pub ends: BTreeMap<u32, u64>,
}

/// What came of waiting.
pub enum Outcome {
    Verified(Box<Verified>),
    /// In time there was nothing that could be compared, because of this.
    TimedOut(String),
    /// In time Kafka did not tell what the table has, because of this.
    Unheard(String),
}

pub fn run(config: &Config, args: &VerifyArgs) -> Result<Exit, Box<Fault>> {
    need_cluster(config)?;
    let (reason, remedy) = match verified(config, args.timeout)? {
        Outcome::Verified(it) => {
            print(&told(&it, args.output, args.key_format))?;
            let is_clean = it.verdict.is_clean() && it.faults.is_empty();
            return Ok(if is_clean { Exit::Done } else { Exit::Failed });
        }
        Outcome::TimedOut(reason) => (reason, "let workers, channels and planner run"),
        Outcome::Unheard(reason) => (reason, REACHABLE),
    };
    let what = format!("not compared in {}: {reason}", humantime::format_duration(args.timeout));
    let fault = Fault::new(Exit::TimedOut, "isotherm::verify::timeout", what);
    Err(Box::new(fault.remedy(format!("{remedy}, or wait longer, with --timeout"))))
}

/// Compares, once that can be done.
pub fn verified(config: &Config, timeout: Duration) -> anyhow::Result<Outcome> {
    let within = Within::new(timeout);
    let servers = &config.kafka.bootstrap_servers;
    let opened = within.ask({
        let config = config.clone();
        move || Reading::open(&config)
    });
    let Some(mut table) = opened? else {
        return Ok(Outcome::Unheard(format!("kafka at {servers} has not answered")));
    };
    let unread = || {
        let reason =
            format!("kafka at {servers} tells no more, and the table is not read to its end");
        Ok(Outcome::Unheard(reason))
    };
    if !table.read_to_end(&within)? {
        return unread();
    }
    let ends = table.fold.ends().clone();
    info!(rows = table.fold.rows().count(), "the table is read");
    let workers = Workers::new()?;
    loop {
        let (heads, endpoints) = match settled(config, &workers, &ends, &within)? {
            Ok(it) => it,
            Err(reason) => return Ok(Outcome::TimedOut(reason)),
        };
        table.fold.unsee();
        let (mut comparison, mut covered) = (Comparison::default(), Covered::default());
        let mut broken = None;
        for (node, endpoint) in &endpoints {
            let fold = &mut table.fold;
            let dumped = workers.dump(node, endpoint, |it| {
                comparison.page(fold, it);
                covered.page(it, &ends);
            });
            if let Err(err) = dumped {
                broken = Some(format!("{err:#}"));
            }
        }
        // A range that has moved between two pages may be in both, or in none.
        let reason = match broken {
            Some(reason) => reason,
            None if covered.is_of(&heads, &ends) => {
                if !table.read_to_end(&within)? {
                    return unread();
                }
                let (entries, on_the_way) = (comparison.entries, comparison.on_the_way);
                return Ok(Outcome::Verified(Box::new(Verified {
                    faults: tiling::faults(&heads),
                    rows: table.fold.rows().count() as u64,
                    without: table.fold.rows().filter(|it| it.1.has_none()).count() as u64,
                    entries,
                    on_the_way,
                    nodes: heads.len() as u64,
                    verdict: comparison.verdict(&table.fold, &ends),
                    ends,
                })));
            }
            None => "ranges moved meanwhile".to_owned(),
        };
        if within.is_over() {
            return Ok(Outcome::TimedOut(reason));
        }
        info!(reason, "compares once more");
    }
}

/// The workers as they are now.
struct Look {
    heads: Heads,
    endpoints: BTreeMap<NodeId, String>,
    generation: Generation,
}

type Settled = (Heads, BTreeMap<NodeId, String>);

/// Waits until the workers can be compared with a table of these ends; or else says what it waited for.
fn settled(
    config: &Config,
    workers: &Workers,
    ends: &BTreeMap<u32, u64>,
    within: &Within,
) -> anyhow::Result<Result<Settled, String>> {
    let mut told = String::new();
    loop {
        let reason = match look(config, workers)? {
            Ok(Look { heads, endpoints, generation }) => {
                match waits_for(&heads, generation, ends) {
                    None => return Ok(Ok((heads, endpoints))),
                    Some(reason) => reason,
                }
            }
            Err(reason) => reason,
        };
        if within.is_over() {
            return Ok(Err(reason));
        }
        if told != reason {
            eprintln!("waits: {reason}");
            told = reason;
        }
        thread::sleep(LOOK_EVERY);
    }
}

/// Looks at every worker; or says why it cannot be. One that owns nothing and does not answer is passed
/// over: nobody knows whether it will ever be back.
fn look(config: &Config, workers: &Workers) -> anyhow::Result<Result<Look, String>> {
    let (generation, map) = index::map(&config.kafka)?;
    if map.is_empty() {
        return Ok(Err("there is no assignment yet".into()));
    }
    let nodes = index::nodes(&config.kafka)?;
    if let Some(it) = map.iter().find(|it| !nodes.contains_key(&it.node)) {
        return Ok(Err(format!("{}, which owns ranges, has never reported", it.node)));
    }
    let (mut heads, mut endpoints) = (Heads::new(), BTreeMap::new());
    for (node, index::Report { report, .. }) in nodes {
        let owns = map.iter().any(|it| it.node == node);
        let head = match &report.endpoint {
            Some(endpoint) => workers.head(&node, endpoint).map(|it| (it, endpoint.clone())),
            None => Err(anyhow::anyhow!("{node} does not tell where it can be asked")),
        };
        match head {
            Ok((head, endpoint)) => {
                heads.insert(node.clone(), head);
                endpoints.insert(node, endpoint);
            }
            Err(err) if owns => return Ok(Err(format!("{err:#}"))),
            Err(err) => warn!(%node, "owns nothing and is not compared: {err:#}"),
        }
    }
    Ok(Ok(Look { heads, endpoints, generation }))
}

/// The table, read on and on.
struct Reading {
    follower: Follower,
    rows: Rows,
    fold: Fold,
}

impl Reading {
    fn open(config: &Config) -> anyhow::Result<Self> {
        let rows = rows(&config.table)?;
        let mut follower = Follower::open(&config.kafka, "verify")?;
        let partitions = follower.partitions(TABLE)?;
        follower.add(partitions.into_iter().map(|it| (it, From::Beginning)))?;
        Ok(Self { follower, rows, fold: Fold::default() })
    }

    /// Reads to the end that the table has now; tells whether it was reached, or the time was up and nothing
    /// more came.
    fn read_to_end(&mut self, within: &Within) -> anyhow::Result<bool> {
        let mut heard = Instant::now();
        let is_over = |heard: Instant| within.is_over() && SILENCE <= heard.elapsed();
        let ends = loop {
            match self.follower.ends()? {
                Some(ends) => break ends,
                None if is_over(heard) => return Ok(false),
                None => (),
            }
        };
        while !self.follower.has_reached(&ends)? {
            let Some(record) = self.follower.poll(LOOK_EVERY)? else {
                if is_over(heard) {
                    return Ok(false);
                }
                continue;
            };
            heard = Instant::now();
            let said = match record.value.as_deref().map(|it| self.rows.read(it)) {
                None => Said::Nothing,
                Some(Ok(row)) => Said::Row(row),
                Some(Err(err)) => {
                    info!(at = %record.at, offset = record.offset, %err, "cannot be used");
                    Said::Unreadable
                }
            };
            self.fold.record((record.at.partition, record.offset), record.key, said);
        }
        Ok(true)
    }
}
