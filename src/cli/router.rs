//! Runs a query router.
//!
//! ```text
//!  configuration ──> listens ──> topics checked ──> driver, until it is asked to end
//!                       └──────────────┴──────────────┴──> Health ──> /readyz
//!  SIGTERM, SIGINT ──> answers what has come, logs it, ends
//! ```

use std::collections::BTreeMap;
use std::time::Duration;

use clap::Args;
use tracing::info;

use super::Flag;
use super::checks::check_topics;
use super::exit::{Exit, Fault, need_cluster};
use super::signals::Signals;
use crate::config::Config;
use crate::counts::told;
use crate::router::driver::{Options, Router, Status, Watch};
use crate::router::machine::Settings;
use crate::router::reading;
use crate::table::rows::KEY_BYTES_MAX;
use crate::telemetry::metrics;
use crate::topics::definition::Process;
use crate::web::{Health, front, workers};

const TOPICS: &str = "topics";
const ASSIGNMENT: &str = "assignment";
const COUNTS: &str = "counts";

/// A connection may rest for this much longer than a read may take.
const IDLE_EXTRA: Duration = Duration::from_secs(60);

/// What must hold for a router to be ready.
const CONDITIONS: [&str; 3] = [TOPICS, ASSIGNMENT, COUNTS];

#[derive(Clone, Debug, Args)]
pub struct RouterArgs {
    /// Where reads, /livez and /readyz are served, instead of `router.listen`
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub listen: Option<String>,
}

impl RouterArgs {
    pub fn flags(&self) -> Vec<Flag> {
        let listen = self.listen.clone();
        listen.into_iter().map(|it| ("--listen", "router.listen", it)).collect()
    }
}

pub fn run(config: &Config, _args: &RouterArgs) -> Result<Exit, Box<Fault>> {
    need_cluster(config)?;
    let signals = Signals::begin_within(config.router.stop_within)?;
    let health = Health::new(&CONDITIONS);
    let router = Router::begin(config.router.listen, &options(config), &health)?;
    info!(address = %router.address(), "serves reads, /livez and /readyz");

    health.waiting(TOPICS, "waits for Kafka");
    check_topics(config, Process::Router, |_, _| Vec::new())?;
    health.ready(TOPICS, "they are as they must be");

    health.waiting(ASSIGNMENT, "is being read");
    health.ready(COUNTS, told(&BTreeMap::new()));
    let mut watching = Watching { health: &health, signals: &signals, told: Status::default() };
    router.run(&mut watching)?;
    info!(counts = ?watching.told.counts, "has ended");
    Ok(Exit::Done)
}

/// Returns what a router is told at its start.
pub fn options(config: &Config) -> Options {
    let router = &config.router;
    Options {
        connection: config.kafka.clone(),
        settings: Settings {
            limits: reading::Limits {
                key_bytes_max: KEY_BYTES_MAX,
                entries_max: router.entries_max,
            },
            ask_reads_max: 250,
            answer_bytes_max: 8 << 20,
            pause_ms: 1,
            pause_max_ms: 500,
            hint_after_ms: 500,
            moved_silent_ms: 1_000,
        },
        front: front::Limits {
            body_bytes_max: 4 << 20,
            body_within: Duration::from_secs(10),
            reads_max: router.batch_reads_max,
            deadline_max: router.deadline,
        },
        workers: workers::Limits {
            connections_max: router.worker_connections_max,
            requests_max: router.worker_requests_max,
            answer_bytes_max: 32 << 20,
        },
        connections_max: router.connections_max,
        // A read may wait for its answer, and that is no reason to let go of who waits.
        idle_max: router.deadline + IDLE_EXTRA,
        waiting_max: router.reads_waiting_max,
        read_cost_us: config.costs.read_us,
        scan_cost_us: config.costs.scan_us,
    }
}

/// Looks on, and tells.
struct Watching<'a> {
    health: &'a Health,
    signals: &'a Signals,
    told: Status,
}

impl Watch for Watching<'_> {
    fn told(&mut self, status: &Status) {
        let Status { generation, ranges, endpoints, .. } = *status;
        match generation.0 {
            0 => self.health.waiting(ASSIGNMENT, "there is none yet"),
            it => {
                let reason = format!("generation {it}, {ranges} ranges, {endpoints} nodes serve");
                self.health.ready(ASSIGNMENT, reason);
            }
        }
        // What cannot be used stops nothing, so it makes nothing unready.
        self.health.ready(COUNTS, told(&status.counts));
        if self.told.generation != generation {
            info!(generation = generation.0, ranges, "the map has changed");
        }
        if self.told.endpoints != endpoints {
            info!(endpoints, "another number of nodes have said where they serve reads");
        }
        let measured = metrics::get();
        metrics::tell_events(&status.counts);
        measured.generation.record(generation.0, &[]);
        measured.ranges.record(ranges as u64, &[]);
        measured.router_endpoints.record(endpoints as u64, &[]);
        measured.router_waiting.record(status.waiting as u64, &[]);
        self.told = status.clone();
    }

    fn is_stopping(&self) -> bool {
        self.signals.is_asked()
    }
}
