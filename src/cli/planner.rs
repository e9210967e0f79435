//! Runs the control plane.
//!
//! ```text
//!  configuration ──> topics checked ──> its turn ──> driver, tick by tick
//!                          └────────────────┴──────────────┴──> Health ──> /readyz
//!  SIGTERM, SIGINT ──> stops after the tick that is being decided
//! ```

mod stopping;
mod watch;

use std::sync::Arc;

use clap::Args;
use dataflows::cells::CellRules;
use dataflows::tally;
use opentelemetry::KeyValue;
use schemas::Millis;
use tracing::{info, warn};

use super::Flag;
use super::checks::check_topics;
use super::exit::{Exit, Fault, need_cluster};
use super::query_log;
use crate::assignment::birth;
use crate::config::{self, Config};
use crate::fail_points;
use crate::forecast::Rung;
use crate::kafka::sink::CommitError;
use crate::kafka::source::{Input, Start};
use crate::kafka::standby::Standby;
use crate::kafka::wall_clock;
use crate::planner::driver::{self, Options, Stamps};
use crate::planner::progress::INPUTS;
use crate::planner::settings::{Mode, Settings};
use crate::telemetry::metrics;
use crate::tick::rules::{Reading, Rules};
use crate::topics::definition::Process;
use crate::topics::requirements::retention;
use crate::web::{self, Health};
use stopping::Stopping;
use watch::{PROGRESS, TOPICS, TURN, Watching};

/// So often a planner starts without having committed anything in between. Each start may take as
/// long as the client waits for a partition without a leader.
const STARTS_MAX: u32 = 10;

#[derive(Clone, Debug, Args)]
pub struct PlannerArgs {
    /// observe or auto, instead of `planner.mode`
    #[arg(long, value_name = "MODE")]
    pub mode: Option<String>,
    /// The name of this planner's progress, instead of `planner.id`
    #[arg(long, value_name = "ID")]
    pub id: Option<String>,
    /// How long a tick is, instead of `planner.tick`
    #[arg(long, value_name = "DURATION")]
    pub tick: Option<String>,
    /// Where /livez and /readyz are served, instead of `planner.listen`
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub listen: Option<String>,
}

impl PlannerArgs {
    pub fn flags(&self) -> Vec<Flag> {
        let given = [
            ("--mode", "planner.mode", &self.mode),
            ("--id", "planner.id", &self.id),
            ("--tick", "planner.tick", &self.tick),
            ("--listen", "planner.listen", &self.listen),
        ];
        given.into_iter().filter_map(|(flag, key, it)| Some((flag, key, it.clone()?))).collect()
    }
}

pub fn run(config: &Config, _args: &PlannerArgs) -> Result<Exit, Box<Fault>> {
    need_cluster(config)?;
    let options = options(config)?;
    let _points = fail_points::begin();
    let health = Arc::new(Health::new(&watch::CONDITIONS));
    let server = web::serve(config.planner.listen, &health)?;
    info!(address = %server.address(), "serves /livez and /readyz");
    let stopping = Stopping::begin(config.planner.tick, health.clone())?;

    health.waiting(TOPICS, "waits for Kafka");
    let interval_ms = config.planner.tick.as_millis() as u64 * config.planner.snapshot_ticks;
    check_topics(config, Process::Planner, |cluster, topics| {
        retention(interval_ms, cluster, topics)
    })?;
    health.ready(TOPICS, "they are as they must be");

    let (id, kafka) = (&config.planner.id, &config.kafka);
    let member = format!("{}-{}", host(), server.address().port());
    health.waiting(TURN, format!("waits for its turn, as {member}; another planner {id} runs"));
    info!(id, member, "waits for its turn");
    let standby = Standby::join(kafka, "planner_progress", id, &member)?;
    standby.wait_for_turn()?;
    health.ready(TURN, format!("its turn, as {member}"));
    info!(id, member, mode = config.planner.mode.as_str(), "its turn");

    health.waiting(PROGRESS, "reads what was committed before");
    let mut watching = Watching::new(&health, &stopping, &standby, config);
    let mut starts = 0;
    loop {
        watching.has_committed = false;
        let err = match driver::run(&options, &mut watching) {
            Ok(()) => return Ok(Exit::Done),
            Err(err) => err,
        };
        if let Some(it) = err.downcast_ref::<CommitError>() {
            let outcome = [KeyValue::new(metrics::OUTCOME, it.code())];
            metrics::get().commits.add(1, &outcome);
        }
        starts = if watching.has_committed { 1 } else { starts + 1 };
        if !passes(&err, &standby) || starts == STARTS_MAX || standby.has_lost_turn() {
            return Err(fault(id, err));
        }
        warn!(error = format!("{err:#}"), "starts again from the topics");
        health.waiting(PROGRESS, format!("starts again from the topics: {err:#}"));
    }
}

/// Tells whether an error is over when the planner starts again from the topics.
fn passes(err: &anyhow::Error, standby: &Standby) -> bool {
    match err.downcast_ref::<CommitError>() {
        // Kafka refuses who took too long over a transaction in the same words as who has a successor.
        Some(CommitError::Fenced { .. }) => standby.keeps_turn(),
        Some(_) => true,
        None => false,
    }
}

fn fault(id: &str, err: anyhow::Error) -> Box<Fault> {
    if let Some(CommitError::Fenced { .. }) = err.downcast_ref() {
        let what = format!("fenced: another planner {id} has taken over; nothing more was written");
        let remedy = "nothing, if that one is to go on; else stop it, or give one of them another \
                      planner.id and another kafka.prefix";
        let fault = Fault::new(Exit::Failed, "isotherm::planner::fenced", what);
        return Box::new(fault.remedy(remedy).because(err.as_ref()));
    }
    err.into()
}

/// By what it forecasts.
pub fn rung(it: config::Rung) -> Rung {
    match it {
        config::Rung::Persistence => Rung::Persistence,
        config::Rung::Ewma => Rung::Ewma,
        config::Rung::Ladder => Rung::Ladder,
    }
}

/// Returns how a planner decides.
pub fn settings(config: &Config) -> Result<Settings, Box<Fault>> {
    let config::Costs { read_us, scan_us, write_us } = config.costs;
    let planner = &config.planner;
    let split_points = match planner.split_points.is_empty() {
        true => birth::cuts(&planner.key_first, &planner.key_last, planner.birth_ranges),
        false => planner.split_points.clone(),
    };
    Ok(Settings {
        tick_ms: planner.tick.as_millis() as u64,
        mode: match planner.mode {
            // Nobody can approve a plan yet, and none that was not approved is carried out.
            config::Mode::Observe | config::Mode::Recommend => Mode::Observe,
            config::Mode::Auto => Mode::Auto,
        },
        rung: rung(planner.forecast),
        costs: tally::Costs { read_us, scan_us, write_us },
        cells: CellRules::default(),
        policy: config.policy.clone(),
        birth_nodes: planner.birth_nodes as u32,
        split_points,
        key_end: planner.key_last.clone(),
        snapshot_ticks: planner.snapshot_ticks,
        silent_ticks: planner.silent_ticks,
        // A model comes with a command, or there is the one that is built in.
        network: None,
        cancel_grace_ms: planner.cancel_grace.as_millis() as u64,
        query_log: query_log::form(config)?,
    })
}

/// Returns how a planner cuts time.
pub fn rules(config: &Config) -> Rules {
    let planner = &config.planner;
    Rules {
        tick_ms: planner.tick.as_millis() as u64,
        grace_ms: planner.grace.as_millis() as u64,
        span_records_max: planner.span_records_max,
        stale_max: planner.stale_max_ticks,
        future_max_ms: planner.future_max.as_millis() as u64,
        past_max_ms: planner.past_max.as_millis() as u64,
    }
}

/// Returns what a planner is told at its start.
pub fn options(config: &Config) -> Result<Options, Box<Fault>> {
    let rules = rules(config);
    let now = wall_clock().0;
    let input = Input {
        connection: config.kafka.clone(),
        topics: INPUTS.to_vec(),
        reading: Reading::Live,
        // What is older counts in no tick.
        start: Start::Time(Millis(now.saturating_sub(rules.past_max_ms))),
        end: None,
    };
    Ok(Options {
        planner_id: config.planner.id.clone(),
        settings: settings(config)?,
        rules,
        inputs: vec![input],
        outputs: config.kafka.clone(),
        stamps: Stamps::WallClock,
        timely_workers: config.planner.timely_workers,
        registry: query_log::access(config),
    })
}

/// The name of this machine; with the port that is listened on, no other planner has it.
fn host() -> String {
    let told = std::fs::read_to_string("/proc/sys/kernel/hostname").ok();
    let told = told.or_else(|| std::env::var("HOSTNAME").ok());
    told.map(|it| it.trim().to_owned()).filter(|it| !it.is_empty()).unwrap_or("planner".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plan_is_carried_out_only_where_that_is_asked_for() {
        let decides = |mode| {
            let planner = config::Planner { mode, ..config::Planner::default() };
            settings(&Config { planner, ..Config::default() }).unwrap().mode
        };
        assert_eq!(decides(config::Mode::Auto), Mode::Auto);
        assert_eq!(decides(config::Mode::Observe), Mode::Observe);
        assert_eq!(decides(config::Mode::Recommend), Mode::Observe);
    }
}
