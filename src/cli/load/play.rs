//! Plays a scenario or a trace, and tells what came of it.

use std::path::Path;
use std::time::{Duration, Instant};

use schemas::Millis;
use tracing::warn;

use super::LoadArgs;
use super::progress::Progress;
use super::told::told;
use crate::cli::checks::check_topics;
use crate::cli::exit::{Exit, Fault};
use crate::cli::print;
use crate::cli::replay::{Scenario as Name, log};
use crate::cli::signals::Signals;
use crate::config::Config;
use crate::load::driver::{Options, Status, Watch, fill, filler, run, unreachable};
use crate::load::rows::Filling;
use crate::load::schedule::Schedule;
use crate::replay::driver::open_trace;
use crate::replay::scenario::{Scenario, Shape};
use crate::replay::trace::{Assumed, TraceError};
use crate::topics::definition::Process;

pub fn scenario(config: &Config, args: &LoadArgs, name: Name) -> Result<Exit, Box<Fault>> {
    if args.reads_per_s + args.writes_per_s == 0 {
        let what = "--reads-per-s and --writes-per-s are both 0: there is nothing to play";
        let fault = Fault::new(Exit::Usage, "isotherm::load::empty", what);
        return Err(Box::new(fault.remedy("leave one of them out for the default")));
    }
    let shape: Shape = name.as_str().parse().map_err(anyhow::Error::new)?;
    let scenario = Scenario {
        keys: args.keys,
        reads_per_s: args.reads_per_s,
        writes_per_s: args.writes_per_s,
        ..Scenario::new(shape, args.seed, Millis(0), args.duration.as_millis() as u64)
    };
    let filling = args.fill.then_some(Filling { keys: 0..args.keys, every: 1 });
    play(config, args, Schedule::scenario(&scenario), args.duration, filling)
}

pub fn trace(config: &Config, args: &LoadArgs, path: &Path) -> Result<Exit, Box<Fault>> {
    let schedule =
        || Ok(Schedule::trace(open_trace(path, Millis(0), Assumed::default())?, args.speed));
    // Once to the end, so that what is wrong with it shows before anything is done with it.
    let last = schedule().and_then(|it| it.last().transpose()).map_err(unreadable)?;
    let Some(last) = last else {
        let what = format!("{} holds no requests", path.display());
        return Err(Box::new(Fault::new(Exit::Failed, "isotherm::load::empty", what)));
    };
    let schedule = schedule().map_err(unreadable)?;
    play(config, args, schedule, Duration::from_micros(last.due.0), None)
}

fn unreadable(err: TraceError) -> Box<Fault> {
    log::told("isotherm::load::trace", &err)
}

fn play(
    config: &Config,
    args: &LoadArgs,
    schedule: Schedule,
    length: Duration,
    filling: Option<Filling>,
) -> Result<Exit, Box<Fault>> {
    let routers = match args.router.is_empty() {
        true => config.load.routers.clone(),
        false => args.router.clone(),
    };
    reach(&routers)?;
    check_topics(config, Process::Load, |_, _| Vec::new())?;
    let signals = Signals::begin()?;
    let payload_bytes = args.payload_bytes as usize;
    if let Some(filling) = &filling {
        let began = Instant::now();
        let is_stopping = || signals.is_asked();
        let rows = fill(&filler(&config.kafka)?, filling, payload_bytes, args.seed, &is_stopping)?;
        eprintln!(
            "wrote {rows} rows in {:.1} s; the index has them a little later, and until then reads \
             are of rows that are not there",
            began.elapsed().as_secs_f64()
        );
    }
    let options = Options {
        filled: filling,
        payload_bytes,
        seed: args.seed,
        deadline: args.deadline,
        ..Options::new(config.kafka.clone(), routers)
    };
    let mut watching = Watching { signals, progress: Progress::new(length) };
    let tally = run(&options, schedule, &mut watching)?;
    watching.progress.finish();
    print(&told(&tally, args.output))?;
    Ok(if tally.is_clean() { Exit::Done } else { Exit::Failed })
}

/// Fails if none of the routers can be reached.
fn reach(routers: &[String]) -> Result<(), Box<Fault>> {
    let unreachable = unreachable(routers);
    let why: Vec<_> =
        unreachable.iter().map(|(router, err)| format!("{router}: {err:#}")).collect();
    if unreachable.len() < routers.len() {
        why.iter().for_each(|it| warn!("a router cannot be reached, others are asked: {it}"));
        return Ok(());
    }
    let what = format!("no router can be reached: {}", why.join("; "));
    let remedy = "start one with `isotherm router`, or say where one is with --router HOST:PORT";
    Err(Box::new(Fault::new(Exit::Failed, "isotherm::load::no_router", what).remedy(remedy)))
}

/// Looks on, and tells.
struct Watching {
    signals: Signals,
    progress: Progress,
}

impl Watch for Watching {
    fn told(&mut self, status: &Status) {
        self.progress.told(status);
    }

    fn is_stopping(&self) -> bool {
        self.signals.is_asked()
    }
}
