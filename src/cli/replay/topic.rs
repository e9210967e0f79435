//! Reads a topic once, to know how much there is to be replayed and where its keys lie.
//!
//! * **A stray stamp is no length of time.** What the planner takes to be from the future is passed
//!   over here as well.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use dataflows::tally::Costs;
use schemas::query_log::{self, Op, QueriesLogged, Query};
use schemas::wire::Record as _;
use schemas::{Key, Millis};

use super::log::{Extent, Keys};
use super::{Moments, wall_clock};
use crate::cli::args::Moment;
use crate::cli::exit::{Exit, Fault, need_cluster};
use crate::cli::planner;
use crate::cli::query_log::Reader;
use crate::config::{self, Config};
use crate::kafka::Record;
use crate::kafka::tail::{Start, scan};
use crate::replay::driver::Log;
use crate::table::rows::KEY_BYTES_MAX;
use crate::tick::future::Lookahead;
use crate::tick::rules::Rules;

pub fn topic_extent(
    config: &Config,
    topic: Option<&str>,
    [from, to]: Moments,
) -> Result<Extent, Box<Fault>> {
    need_cluster(config)?;
    let topic = topic.unwrap_or(QueriesLogged::TOPIC);
    if topic != QueriesLogged::TOPIC {
        let what =
            format!("{topic} is no query log: only {} can be replayed", QueriesLogged::TOPIC);
        let remedy = "if yours has another name in front, set kafka.prefix";
        return Err(Box::new(
            Fault::new(Exit::Usage, "isotherm::replay::topic", what).remedy(remedy),
        ));
    }
    let now = wall_clock();
    let from = match from {
        None | Some(Moment::Beginning) => Start::Beginning,
        Some(Moment::End) => Start::End,
        Some(it @ (Moment::At(_) | Moment::Ago { .. })) => {
            it.stamp(now).map_or(Start::Beginning, Start::Time)
        }
    };
    let to = to.and_then(|it| it.stamp(now));
    let mut survey = Survey::new(config, now);
    let mut reader = Reader::open(config)?;
    read_log(config, &mut reader, from, to, |reader, record| survey.take(reader, record))?;
    let Some((found, keys)) = survey.done() else {
        let what = format!("{} holds no queries in this span", config.kafka.topic(topic));
        let remedy = "`isotherm tail query_log --no-follow -n 1` shows where it begins";
        return Err(Box::new(
            Fault::new(Exit::Failed, "isotherm::replay::empty", what).remedy(remedy),
        ));
    };
    let duration_ms = found.last.0 - found.first.0 + 1;
    Ok(Extent {
        name: config.kafka.topic(topic),
        log: Log::Topic { connection: Box::new(config.kafka.clone()), from, to },
        mean_load: u64::try_from(u128::from(found.all_us) * 1000 / u128::from(duration_ms))
            .unwrap_or(u64::MAX),
        duration_ms,
        start: found.first,
        first: found.first,
        keys,
    })
}

/// Shows every record of the query log from `from` on that is stamped before `to`, with a reader that
/// knows its schema.
pub fn read_log(
    config: &Config,
    reader: &mut Reader,
    from: Start,
    to: Option<Millis>,
    mut each: impl FnMut(&Reader, &Record),
) -> Result<(), Box<Fault>> {
    let mut away = None;
    scan(&config.kafka, QueriesLogged::TOPIC, from, |record| {
        if to.is_some_and(|to| to <= record.stamp) {
            return ControlFlow::Continue(());
        }
        if let Err(err) = reader.learn(record.value.as_deref().unwrap_or_default()) {
            away = Some(err);
            return ControlFlow::Break(());
        }
        each(reader, &record);
        ControlFlow::Continue(())
    })?;
    let Some(away) = away else { return Ok(()) };
    let remedy = "wait until it answers, or give the schema of the log with --schema FILE.avsc";
    let fault = Fault::new(Exit::Failed, "isotherm::replay::registry", away.to_string());
    Err(Box::new(fault.remedy(remedy)))
}

/// Sums up what is read, record by record.
struct Survey {
    costs: Costs,
    rules: Rules,
    opened: Millis,
    partitions: BTreeMap<u32, Lookahead<Asked>>,
    found: Option<Found>,
    keys: Option<(Key, Key)>,
}

/// What one record asks.
#[derive(Default)]
struct Asked {
    all_us: u64,
    keys: Option<(Key, Key)>,
}

/// What all records ask.
struct Found {
    first: Millis,
    last: Millis,
    all_us: u64,
}

impl Survey {
    fn new(config: &Config, opened: Millis) -> Self {
        let (partitions, found, keys) = (BTreeMap::new(), None, None);
        let config::Costs { read_us, scan_us, write_us } = config.costs;
        let costs = Costs { read_us, scan_us, write_us };
        Self { costs, rules: planner::rules(config), opened, partitions, found, keys }
    }

    fn take(&mut self, reader: &Reader, record: &Record) {
        let value = record.value.as_deref().unwrap_or_default();
        let asked = self.asked(reader, value, record.stamp);
        let rules = self.rules;
        let ahead = self
            .partitions
            .entry(record.at.partition)
            .or_insert_with(|| Lookahead::new(rules.future_max_ms, rules.past_max_ms, self.opened));
        ahead.push(record.stamp, asked);
        if ahead.is_full() {
            count(&mut self.found, &mut self.keys, ahead);
        }
    }

    fn done(mut self) -> Option<(Found, Keys)> {
        for ahead in self.partitions.values_mut() {
            while !ahead.is_empty() {
                count(&mut self.found, &mut self.keys, ahead);
            }
        }
        let (first, last) = self.keys?;
        let integer =
            |key: &Key| <[u8; 8]>::try_from(key.0.as_slice()).map(u64::from_be_bytes).ok();
        let keys = match (integer(&first), integer(&last)) {
            (Some(low), Some(high)) => Keys::of(low, high),
            (_, _) => Keys::Any(first, last),
        };
        Some((self.found?, keys))
    }

    /// What cannot be read asks nothing; it is counted in the replay itself.
    fn asked(&self, reader: &Reader, value: &[u8], stamp: Millis) -> Asked {
        let mut asked = Asked::default();
        let Ok(own) = reader.own(value, stamp) else { return asked };
        let read = query_log::read(&own, |it: Query<'_>| {
            if KEY_BYTES_MAX < it.key.len() {
                return;
            }
            let costs = &self.costs;
            let cost_us = it.cost_us.unwrap_or(match it.op {
                Op::Read | Op::Unknown => costs.read_us,
                Op::Scan => costs.scan_us,
                Op::Write => costs.write_us,
            });
            asked.all_us = asked.all_us.saturating_add(cost_us);
            widen(&mut asked.keys, it.key);
        });
        read.map_or_else(|_| Asked::default(), |_| asked)
    }
}

/// Counts the first record that is held, unless it is from the future.
fn count(found: &mut Option<Found>, keys: &mut Option<(Key, Key)>, ahead: &mut Lookahead<Asked>) {
    let stamp = ahead.judge().filter(|it| !it.from_future);
    let (Some(asked), Some(stamp)) = (ahead.take(), stamp) else { return };
    let first = Found { first: stamp.at, last: stamp.at, all_us: 0 };
    let found = found.get_or_insert(first);
    (found.first, found.last) = (found.first.min(stamp.at), found.last.max(stamp.at));
    found.all_us = found.all_us.saturating_add(asked.all_us);
    if let Some((first, last)) = asked.keys {
        widen(keys, &first.0);
        widen(keys, &last.0);
    }
}

fn widen(keys: &mut Option<(Key, Key)>, key: &[u8]) {
    match keys {
        None => *keys = Some((Key(key.to_vec()), Key(key.to_vec()))),
        Some((first, _)) if key < first.0.as_slice() => *first = Key(key.to_vec()),
        Some((_, last)) if last.0.as_slice() < key => *last = Key(key.to_vec()),
        Some(_) => (),
    }
}
