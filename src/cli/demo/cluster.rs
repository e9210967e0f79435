//! Runs all processes in this one, each on threads of its own, through the same drivers and topics.
//!
//! ```text
//!  broker: embedded, or a cluster with topics of a prefix of its own
//!  workers n1, n2 …   planner   channel   router      a thread each, which ends when it is asked to
//! ```
//!
//! * **Whoever ends early ends the run**: what it has to say is not lost.
//! * **Ended in the order of the flow**: who asks before who answers.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use schemas::{Generation, Millis, NodeId};

use crate::channel;
use crate::channel::committed::{CaughtUp, Committed};
use crate::cli;
use crate::config::Config;
use crate::demo::course::Course;
use crate::foreign::translator::Translator;
use crate::kafka::embedded::Embedded;
use crate::kafka::group::begin_at_end;
use crate::kafka::source::{FilledBox, Start};
use crate::kafka::{Connection, wall_clock};
use crate::planner;
use crate::planner::machine::TickOutputs;
use crate::router;
use crate::tick::tick_box::TickBox;
use crate::topics::definition::Definition;
use crate::topics::definitions;
use crate::web::Health;
use crate::worker;

/// `table` is written and read faster with more partitions, and the embedded broker keeps more of it.
pub const TABLE_PARTITIONS: u32 = 32;

const PLANNER: &str = "planner";

/// Whoever is asked to end has so long.
const END_WITHIN: Duration = Duration::from_secs(40);

/// A planner that is asked to end sees moves through that are under way, for so many ticks.
const ENDING_TICKS_MAX: u32 = 30;

/// The course of a run, which planner, follower and view share.
#[derive(Clone)]
pub struct Shared(Arc<Mutex<Course>>);

impl Shared {
    pub fn new(course: Course) -> Self {
        Self(Arc::new(Mutex::new(course)))
    }

    pub fn lock(&self) -> MutexGuard<'_, Course> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Asks a process to end.
#[derive(Clone, Default)]
struct Stop(Arc<AtomicBool>);

impl Stop {
    fn ask(&self) {
        self.0.store(true, Ordering::Release);
    }

    fn is_asked(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// All processes of a run. They end when it is dropped, at the latest.
pub struct Cluster {
    processes: Vec<Process>,
    ended: Receiver<Ended>,
    say: Sender<Ended>,
    /// Last, so that it outlives who talks to it.
    _broker: Option<Embedded>,
}

struct Process {
    name: String,
    stop: Stop,
    thread: Option<JoinHandle<()>>,
}

/// A process has ended by itself, or because it was asked to.
struct Ended {
    name: String,
    how: anyhow::Result<()>,
}

/// Starts a broker in this process, with all topics.
pub fn embedded() -> anyhow::Result<(Embedded, Connection)> {
    let topics = topics().map(|it| (it.name.to_owned(), it.partitions));
    let broker = Embedded::start(&topics.collect::<Vec<_>>())?;
    let connection = broker.connection();
    Ok((broker, connection))
}

/// The topics as they are declared, but for the table.
pub fn topics() -> impl Iterator<Item = Definition> {
    definitions().into_iter().map(|mut it| {
        if it.name == "table" {
            it.partitions = TABLE_PARTITIONS;
        }
        it
    })
}

impl Cluster {
    pub fn new(broker: Option<Embedded>) -> Self {
        let (say, ended) = channel();
        Self { processes: Vec::new(), ended, say, _broker: broker }
    }

    fn spawn(
        &mut self,
        name: &str,
        run: impl FnOnce(&Stop) -> anyhow::Result<()> + Send + 'static,
    ) -> anyhow::Result<()> {
        let stop = Stop::default();
        let (say, asked) = (self.say.clone(), stop.clone());
        let who = name.to_owned();
        let thread = thread::Builder::new().name(who.clone()).spawn(move || {
            let how = run(&asked).with_context(|| format!("run {who}"));
            // Nobody listens when the run is over.
            _ = say.send(Ended { name: who, how });
        });
        let thread = Some(thread.with_context(|| format!("begin the thread of {name}"))?);
        self.processes.push(Process { name: name.to_owned(), stop, thread });
        Ok(())
    }

    /// Starts a node of this capacity, in microseconds a second.
    pub fn start_worker(
        &mut self,
        config: &Config,
        node: &NodeId,
        capacity: u64,
    ) -> anyhow::Result<()> {
        let mut config = config.clone();
        config.worker.node_id.clone_from(&node.0);
        config.worker.capacity_us_per_s = Some(capacity);
        let listen = config.worker.listen;
        let options = cli::worker::options(&config)?;
        self.spawn(&node.0, move |stop| {
            let health = Health::new(&[]);
            let server = worker::driver::Server::begin(listen, options, &health)?;
            server.run(kept_ms("table", "delete.retention.ms"), &mut WatchedWorker(stop))
        })
    }

    /// Starts the control plane; what it decides goes into the course.
    pub fn start_planner(&mut self, config: &Config, course: &Shared) -> anyhow::Result<()> {
        let mut options = cli::planner::options(config)?;
        for input in &mut options.inputs {
            // The embedded broker cannot look up a time, and there is nothing older than the run.
            input.start = Start::Beginning;
        }
        if config.kafka.embedded {
            // It dies with the process: nobody would read them.
            options.settings.snapshot_ticks = 0;
        }
        let (course, tick_ms) = (course.clone(), options.rules.tick_ms);
        self.spawn(PLANNER, move |stop| {
            planner::driver::run(
                &options,
                &mut WatchedPlanner { stop, course, tick_ms, asked_ticks: 0 },
            )
        })
    }

    /// Starts the channel. What the table has already is for the scan of the workers at birth.
    pub fn start_channel(&mut self, config: &Config) -> anyhow::Result<()> {
        let now = wall_clock();
        begin_at_end(&config.kafka, "table", &config.channel.group, &|end| {
            let caught_up = Some(CaughtUp { time: now, offset: end.0 });
            Committed { generation: Generation(0), caught_up }.to_string()
        })?;
        let rows = cli::channel::rows(&config.table)?;
        let lag = kept_ms("table", "min.compaction.lag.ms");
        let options = cli::channel::options(config, rows, Some(lag));
        self.spawn("channel", move |stop| channel::driver::run(&options, &mut WatchedChannel(stop)))
    }

    /// Starts a router, and returns where it listens.
    pub fn start_router(&mut self, config: &Config) -> anyhow::Result<SocketAddr> {
        let health = Health::new(&[]);
        let options = cli::router::options(config);
        let router = router::driver::Router::begin(config.router.listen, &options, &health)?;
        let address = router.address();
        self.spawn("router", move |stop| router.run(&mut WatchedRouter(stop)))?;
        Ok(address)
    }

    /// Fails if a process has ended that was not asked to.
    pub fn check(&self) -> anyhow::Result<()> {
        if !self.has_ended() {
            return Ok(());
        }
        match self.ended.recv_timeout(END_WITHIN) {
            Ok(Ended { name, how }) => {
                how?;
                bail!("{name} has ended, though nobody asked it to")
            }
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                bail!("a process has panicked")
            }
        }
    }

    /// Tells whether one has; [`Cluster::check`] says how.
    pub fn has_ended(&self) -> bool {
        let has = |it: &Process| it.thread.as_ref().is_none_or(JoinHandle::is_finished);
        self.processes.iter().any(|it| has(it) && !it.stop.is_asked())
    }

    /// Has the planner plan no more; it ends once nothing moves.
    pub fn stop_planning(&self) {
        self.processes.iter().filter(|it| it.name == PLANNER).for_each(|it| it.stop.ask());
    }

    pub fn is_planning(&self) -> bool {
        let planner = self.processes.iter().find(|it| it.name == PLANNER);
        planner.is_some_and(|it| it.thread.as_ref().is_some_and(|it| !it.is_finished()))
    }

    /// Asks one process after the other to end, and returns what the first of them that failed says.
    pub fn end(&mut self) -> anyhow::Result<()> {
        let mut res = Ok(());
        for name in [PLANNER, "router", "channel"] {
            res = res.and(self.end_one(name));
        }
        let rest: Vec<_> = self.processes.iter().map(|it| it.name.clone()).collect();
        rest.iter().fold(res, |res, it| res.and(self.end_one(it)))
    }

    fn end_one(&mut self, name: &str) -> anyhow::Result<()> {
        let Some(at) = self.processes.iter().position(|it| it.name == name) else { return Ok(()) };
        let mut process = self.processes.remove(at);
        process.stop.ask();
        let how = match self.ended.recv_timeout(END_WITHIN) {
            Ok(Ended { how, .. }) => how,
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                // Its thread is left alone, and goes with the process.
                bail!("{name} has not ended within {} s", END_WITHIN.as_secs())
            }
        };
        if let Some(thread) = process.thread.take() {
            thread.join().map_err(|_| anyhow!("{name} has panicked"))?;
        }
        how
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // Who has not ended in order is not waited for: the run has failed, and says why.
        self.processes.iter().for_each(|it| it.stop.ask());
    }
}

/// A setting of a topic as it is declared, in milliseconds.
fn kept_ms(topic: &str, setting: &str) -> u64 {
    let definition = definitions().into_iter().find(|it| it.name == topic);
    let text = definition.and_then(|it| it.settings.get(setting).cloned());
    text.and_then(|it| it.parse().ok()).expect("the embedded definition has it")
}

struct WatchedWorker<'a>(&'a Stop);

impl worker::driver::Watch for WatchedWorker<'_> {
    fn told(&mut self, _status: &worker::driver::Status) {}

    fn is_stopping(&self) -> bool {
        self.0.is_asked()
    }
}

struct WatchedChannel<'a>(&'a Stop);

impl channel::driver::Watch for WatchedChannel<'_> {
    fn told(&mut self, _status: &channel::driver::Status) {}

    fn is_stopping(&self) -> bool {
        self.0.is_asked()
    }
}

struct WatchedRouter<'a>(&'a Stop);

impl router::driver::Watch for WatchedRouter<'_> {
    fn told(&mut self, _status: &router::driver::Status) {}

    fn is_stopping(&self) -> bool {
        self.0.is_asked()
    }
}

struct WatchedPlanner<'a> {
    stop: &'a Stop,
    course: Shared,
    tick_ms: u64,
    /// Since it was asked to end.
    asked_ticks: u32,
}

impl planner::driver::Watch for WatchedPlanner<'_> {
    fn filled(&mut self, filled: &FilledBox, translator: &Translator) {
        self.course.lock().filled(filled, translator);
    }

    fn committed(
        &mut self,
        bounds: &TickBox,
        outputs: &TickOutputs,
    ) -> anyhow::Result<ControlFlow<()>> {
        let end = Millis((bounds.tick + 1) * self.tick_ms);
        let mut course = self.course.lock();
        course.committed(wall_clock(), end, bounds, outputs);
        self.asked_ticks += u32::from(self.stop.is_asked());
        let is_over = 0 < self.asked_ticks && !course.is_moving();
        Ok(match is_over || ENDING_TICKS_MAX < self.asked_ticks {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        })
    }
}

/// Nodes by name, with their capacities in microseconds a second.
pub type Nodes = BTreeMap<NodeId, u64>;
