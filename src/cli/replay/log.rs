//! Finds out what there is to be replayed, before it is: how much, how long, over which keys.

use std::path::Path;

use schemas::{Key, Millis};

use super::args::{ReplayArgs, Scenario};
use super::topic::topic_extent;
use crate::cli::exit::{Exit, Fault};
use crate::cli::named;
use crate::config::Config;
use crate::replay;
use crate::replay::driver::{Log, open_trace};
use crate::replay::scenario::{self, Shape};
use crate::replay::trace::{Assumed, Trace, TraceError};

/// Time zero of scenarios and traces, unless `--start` says otherwise: the year 2025 begins.
const START: Millis = Millis(1_735_689_600_000);

/// What is known of a log before it is replayed.
pub struct Extent {
    pub name: String,
    pub log: Log,
    /// `cost_us` per second.
    pub mean_load: u64,
    pub duration_ms: u64,
    pub start: Millis,
    /// When the first query is asked, which may be later.
    pub first: Millis,
    pub keys: Keys,
}

/// Where keys lie.
pub enum Keys {
    /// Big-endian integers, from the first to below the second.
    Integers(u64, u64),
    /// Anything, from the first to the last.
    Any(Key, Key),
}

/// Integers that lie further apart than this are no numbers of entries, but hashes, say.
const ENTRIES_MAX: u64 = 1 << 32;

impl Keys {
    /// Of integers, from the first to the last.
    pub fn of(first: u64, last: u64) -> Self {
        match last - first < ENTRIES_MAX && last < u64::MAX {
            true => Self::Integers(first, last + 1),
            false => Self::Any(replay::key(first), replay::key(last)),
        }
    }
}

/// Finds out what there is to be replayed.
pub fn extent(config: &Config, args: &ReplayArgs) -> Result<Extent, Box<Fault>> {
    let tick_ms = config.planner.tick.as_millis() as u64;
    let start = Millis(args.start.unwrap_or(START).0 / tick_ms * tick_ms);
    match (args.scenario, &args.trace) {
        (Some(shape), _) => {
            let duration_ms = args.duration.map_or(600_000, |it| it.as_millis() as u64);
            Ok(scenario_extent(shape, args.seed, duration_ms, start))
        }
        (None, Some(path)) => trace_extent(path, start),
        (None, None) => topic_extent(config, args.topic.as_deref(), [args.from, args.to]),
    }
}

pub fn scenario_extent(shape: Scenario, seed: u64, duration_ms: u64, start: Millis) -> Extent {
    let shape: Shape = shape.as_str().parse().expect("both have the same names");
    let scenario = scenario::Scenario::new(shape, seed, start, duration_ms);
    Extent {
        name: shape.name().to_owned(),
        mean_load: scenario.mean_load(),
        keys: Keys::Integers(0, scenario.keys),
        log: Log::Scenario(scenario),
        duration_ms,
        start,
        first: start,
    }
}

/// A trace that is none.
pub fn unreadable(error: TraceError) -> Box<Fault> {
    told("isotherm::replay::trace", &error)
}

/// The same, with the code of another command.
pub fn told(code: &str, error: &TraceError) -> Box<Fault> {
    let (exit, remedy) = match error.is_closed() {
        true => (Exit::Usage, named::remedy(Path::new(&error.file))),
        false => (Exit::Failed, TraceError::REMEDY.to_owned()),
    };
    Box::new(Fault::new(exit, code, error.to_string()).remedy(remedy))
}

/// Reads the trace once, so that what is wrong with it shows before anything is done with it.
pub fn trace_extent(path: &Path, start: Millis) -> Result<Extent, Box<Fault>> {
    let assumed = Assumed::default();
    let found = open_trace(path, start, assumed).and_then(Trace::extent).map_err(unreadable)?;
    if found.reads + found.writes == 0 {
        let what = format!("{} holds no requests", path.display());
        return Err(Box::new(Fault::new(Exit::Failed, "isotherm::replay::empty", what)));
    }
    let all_us = found.reads * assumed.read_us + found.writes * assumed.write_us;
    let name = path.file_stem().map_or_else(String::new, |it| it.to_string_lossy().into_owned());
    Ok(Extent {
        name: name.trim_end_matches(".csv").to_owned(),
        log: Log::Trace { path: path.to_owned(), start, assumed },
        mean_load: all_us.saturating_mul(1000) / found.duration_ms.saturating_add(1),
        duration_ms: found.duration_ms.saturating_add(1),
        start,
        first: Millis(start.0.saturating_add(found.first_ms)),
        keys: Keys::of(found.key_min, found.key_max),
    })
}
