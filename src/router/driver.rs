//! Runs the router: reads of clients in, requests to the workers that own the keys, answers out.
//!
//! ```text
//!  assignment ────> maps ───────┐
//!  node_capacity ─> endpoints ──┼──> a batch each ──> workers
//!  clients ──> front ───────────┘          └──> query_log, on a thread of its own
//! ```
//!
//! Reads: assignment, node_capacity.  Writes: query_log, dead_letter.
//!
//! * **Not before the first reading (R18).** Reads that come before `assignment` is read to the end that
//!   it had wait for that.
//! * **Kafka holds no read up.** What is to be logged and cannot be taken is counted, and dropped.
//! * **Ends in order**: takes no more requests, answers those that it has, logs them.

mod traced;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use arc_swap::ArcSwap;
use opentelemetry::Context;
use opentelemetry::context::FutureExt as _;
use opentelemetry::trace::{SpanContext, TraceContextExt as _};
use schemas::node_capacity::NodeCapacity;
use schemas::query_log::QueryLogged;
use schemas::wire::{DecodeError, decode};
use schemas::{Generation, KeySpan, NodeId};
use tokio::runtime::Runtime;
use tokio::sync::{Semaphore, oneshot, watch};
use tokio::task::{AbortHandle, JoinHandle, JoinSet};
use tokio::time::sleep_until;
use tracing::warn;

use self::traced::traced;
use super::log::Means;
use super::lookup::Lookup;
use super::machine::{Action, Ask, AskId, Batch, Event, Failure};
use super::maps::{Maps, Offered};
use crate::assignment::map::Row;
use crate::assignment::whole::WholeMap;
use crate::counts::Counts;
use crate::kafka::follow::{Follower, From};
use crate::kafka::logger::{Logged, Logger};
use crate::kafka::{Output, Record, TopicPartition};
use crate::telemetry::spans;
use crate::tick::tick_box::Offset;
use crate::web::clock::Clock;
use crate::web::front::{self, Asked, Busy};
use crate::web::listener::{self, Bounded};
use crate::web::precedence;
use crate::web::reads::Answer;
use crate::web::under_way::UnderWay;
use crate::web::workers::{Unanswered, Workers};
use crate::web::{self, Health};

pub use super::options::{Options, Status, Watch};

/// How long is waited for a record before everything else is looked at.
const RECORD_WAIT: Duration = Duration::from_millis(20);

/// How the router does is told this often.
const TOLD_EVERY: Duration = Duration::from_millis(200);

/// Requests that are under way when the router is to end have this much longer than their deadline.
const DRAIN_EXTRA: Duration = Duration::from_secs(1);

/// A router that takes requests. Without [`Router::run`], they wait.
pub struct Router {
    shared: Arc<Shared>,
    address: SocketAddr,
    runtime: Runtime,
    stop: oneshot::Sender<()>,
    serving: JoinHandle<()>,
    under_way: UnderWay,
    logger: Logger,
}

/// What reads need.
struct Shared {
    options: Options,
    clock: Clock,
    maps: Maps,
    map_changed: watch::Sender<()>,
    endpoints: ArcSwap<BTreeMap<NodeId, String>>,
    workers: Workers,
    waiting: Arc<Semaphore>,
    counts: Counts,
    logged: Logged,
    means: Mutex<Means>,
}

impl Router {
    /// Begins to listen.
    pub fn begin(listen: SocketAddr, options: &Options, health: &Health) -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .thread_name("router")
            .on_thread_start(precedence::take_short_turns)
            .build()
            .context("begin the runtime of the router")?;
        let listener = {
            let _within = runtime.enter();
            listener::listen(listen)?
        };
        let address = listener.local_addr().context("ask for the address that is listened on")?;
        let counts = Counts::default();
        let (logger, logged) = Logger::begin(&options.connection, "router", &counts)?;
        let shared = Arc::new(Shared {
            options: options.clone(),
            clock: Clock::begin(),
            maps: Maps::default(),
            map_changed: watch::Sender::new(()),
            endpoints: ArcSwap::default(),
            workers: Workers::new(options.workers),
            waiting: Arc::new(Semaphore::new(options.waiting_max)),
            counts: counts.clone(),
            logged,
            means: Mutex::new(Means::new(options.read_cost_us, options.scan_cost_us)),
        });
        let answering = shared.clone();
        let answering: front::Answering =
            Arc::new(move |asked| Box::pin(answering.clone().answer(asked)));
        let routes =
            web::routes(health).merge(front::routes(options.front, answering, counts.clone()));
        let under_way = UnderWay::default();
        let routes = under_way.counted(routes);
        let Options { connections_max, idle_max, .. } = *options;
        let (stop, stopped) = oneshot::channel::<()>();
        let serving = runtime.spawn(async move {
            let until = async { stopped.await.unwrap_or(()) };
            let serving = async {
                let listener = Bounded::new(listener, connections_max, idle_max, counts);
                axum::serve(listener, routes).with_graceful_shutdown(until).await.context("serve")
            };
            if let Err(error) = serving.await {
                tracing::error!(error = format!("{error:#}"), "reads are not served any more");
            }
        });
        Ok(Self { shared, address, runtime, stop, serving, under_way, logger })
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Runs until it is to end, or cannot go on.
    pub fn run(self, watch: &mut impl Watch) -> anyhow::Result<()> {
        let followed = Following::open(&self.shared)?.follow(watch);
        let Self { shared, runtime, stop, serving, under_way, logger, .. } = self;
        let _ = stop.send(());
        let drain_max = shared.options.front.deadline_max + DRAIN_EXTRA;
        let left = runtime.block_on(under_way.drained(serving, drain_max));
        if left > 0 {
            warn!(left, "requests were still under way at the end");
        }
        drop(runtime);
        drop(shared);
        logger.end();
        followed
    }
}

/// Reads what there is of the map and of the nodes.
struct Following<'a> {
    shared: &'a Shared,
    follower: Follower,
    map: WholeMap,
    map_reached: bool,
    /// The map as of the last generation that was whole, and where it has changed since.
    lookup: Arc<Lookup>,
    changed: Vec<KeySpan>,
    endpoints: BTreeMap<NodeId, String>,
    /// The newest map waits for one of this generation, which a hint was of; and where its topics ended
    /// after that.
    held: Option<(Generation, Option<Ends>)>,
}

type Ends = BTreeMap<TopicPartition, Offset>;

impl<'a> Following<'a> {
    fn open(shared: &'a Shared) -> anyhow::Result<Self> {
        let mut follower = Follower::open(&shared.options.connection, "router")?;
        let mut ids = follower.partitions("assignment")?;
        ids.extend(follower.partitions("node_capacity")?);
        follower.add(ids.into_iter().map(|at| (at, From::Beginning)))?;
        Ok(Self {
            shared,
            follower,
            map: WholeMap::default(),
            map_reached: false,
            lookup: Arc::default(),
            changed: Vec::new(),
            endpoints: BTreeMap::new(),
            held: None,
        })
    }

    fn follow(mut self, watch: &mut impl Watch) -> anyhow::Result<()> {
        let mut ends = None;
        let mut told = Instant::now() - TOLD_EVERY;
        while !watch.is_stopping() {
            if ends.is_none() {
                ends = self.follower.ends()?;
            }
            if !self.map_reached
                && let Some(ends) = &ends
                && self.follower.has_reached(ends)?
            {
                self.map_reached = true;
                self.advance();
            }
            if let Some(record) = self.follower.poll(RECORD_WAIT)? {
                self.take(&record);
            }
            if TOLD_EVERY <= told.elapsed() {
                told = Instant::now();
                self.check_held()?;
                watch.told(&self.shared.status());
            }
        }
        Ok(())
    }

    fn take(&mut self, record: &Record) {
        match record.at.topic {
            "assignment" => match Row::read(record.key.as_deref(), record.value.as_deref()) {
                Ok(row) => self.take_row(row),
                Err(err) => self.dead(record, &err),
            },
            _ => self.take_report(record),
        }
    }

    fn take_row(&mut self, row: Row) {
        let taken = self.map.read(row);
        for refused in taken.refused {
            warn!(%refused, "a row of assignment is not used");
            self.shared.counts.add("map_rows_refused");
        }
        self.changed.extend(taken.changed);
        if taken.advanced && self.map_reached {
            self.advance();
        }
    }

    fn advance(&mut self) {
        let (map, generation) = (self.map.map(), self.map.generation());
        let changed = std::mem::take(&mut self.changed);
        self.lookup = Arc::new(self.lookup.following(map, generation, changed));
        self.offer();
    }

    fn offer(&mut self) {
        match self.shared.maps.offer(self.lookup.clone()) {
            Offered::Known => (),
            Offered::Taken => {
                self.held = None;
                self.shared.map_changed.send_replace(());
            }
            Offered::Held { trusted } => self.held = Some((trusted, None)),
        }
    }

    /// A hint was given after its generation was written; so a map that is read to the end that it has
    /// now, and is older, will not come to it.
    fn check_held(&mut self) -> anyhow::Result<()> {
        let Some((trusted, ends)) = self.held.take() else { return Ok(()) };
        let ends = if ends.is_some() { ends } else { self.follower.ends()? };
        match ends {
            Some(ends) if self.follower.has_reached(&ends)? => {
                warn!(generation = trusted.0, "a worker has told of a map that does not exist");
                self.shared.counts.add("hints_bogus");
                self.shared.maps.distrust(trusted);
                self.offer();
            }
            ends => self.held = Some((trusted, ends)),
        }
        Ok(())
    }

    fn take_report(&mut self, record: &Record) {
        let node =
            NodeId(String::from_utf8_lossy(record.key.as_deref().unwrap_or_default()).into());
        let endpoint = match record.value.as_deref().map(decode::<NodeCapacity>) {
            None => None,
            Some(Ok(report)) => report.endpoint,
            // The planner, which reads all of them, has it as a dead letter.
            Some(Err(_)) => return self.shared.counts.add("reports_not_used"),
        };
        if self.endpoints.get(&node) == endpoint.as_ref() {
            return;
        }
        match endpoint {
            Some(endpoint) => _ = self.endpoints.insert(node, endpoint),
            None => _ = self.endpoints.remove(&node),
        }
        self.shared
            .workers
            .keep(&self.endpoints.values().map(String::as_str).collect::<BTreeSet<_>>());
        self.shared.endpoints.store(Arc::new(self.endpoints.clone()));
    }

    fn dead(&self, record: &Record, err: &DecodeError) {
        let (reason, detail) = (err.code(), err.to_string());
        warn!(at = %record.at, offset = record.offset, reason, detail, "dead letter");
        self.shared.counts.add(reason);
        let bytes = (record.key.clone(), record.value.clone());
        let letter = Output::dead_letter((record.at, record.offset), bytes, reason, &detail);
        self.shared.logged.letter(letter);
    }
}

impl Shared {
    fn status(&self) -> Status {
        let map = self.maps.load();
        Status {
            generation: map.generation(),
            ranges: map.ranges(),
            endpoints: self.endpoints.load().len(),
            waiting: self.options.waiting_max - self.waiting.available_permits(),
            counts: self.counts.all(),
        }
    }

    /// Answers reads, unless too many wait already.
    async fn answer(self: Arc<Self>, asked: Asked) -> Result<Vec<Answer>, Busy> {
        let Asked { reads, arrived, deadline } = asked;
        let arrived = self.clock.at(arrived);
        let trace = spans::is_on().then(Context::current);
        self.counts.add_many("reads", reads.len() as u64);
        let count = u32::try_from(reads.len()).unwrap_or(u32::MAX);
        let Ok(_waiting) = self.waiting.clone().try_acquire_many_owned(count) else {
            self.log(trace, |means| {
                reads.into_iter().map(|it| means.refused(arrived, it)).collect()
            });
            return Err(Busy);
        };
        let mut map_changed = self.map_changed.subscribe();
        let deadline = (self.clock.at(deadline), deadline);
        let map = self.maps.load_full();
        let mut batch = Batch::new(self.options.settings, map, deadline.0, reads);
        let (mut asks, mut under_way) = (JoinSet::new(), BTreeMap::new());
        let mut queries = Vec::new();
        loop {
            while let Some(action) = batch.poll_action() {
                match action {
                    Action::Ask(ask) => {
                        let id = ask.id;
                        let asked = self.clone().ask(ask, deadline.1);
                        let task = match &trace {
                            Some(it) => asks.spawn(asked.with_context(it.clone())),
                            None => asks.spawn(asked),
                        };
                        under_way.insert(id, task);
                    }
                    Action::GiveUp(ask) => {
                        under_way.remove(&ask).inspect(AbortHandle::abort);
                    }
                    Action::Log(query) => queries.push(query),
                    Action::Count(retry) => self.counts.add(retry.code()),
                }
            }
            let Some(due) = batch.poll_deadline() else { break };
            tokio::select! {
                Some(done) = asks.join_next() => match done {
                    Ok((ask, Ok(answers))) => {
                        batch.handle(self.clock.now(), Event::Answered { ask, answers });
                    }
                    Ok((ask, Err(why))) => {
                        batch.handle(self.clock.now(), Event::Failed { ask, why });
                    }
                    // It was given up.
                    Err(err) if err.is_cancelled() => (),
                    Err(err) => warn!(%err, "a request has ended early"),
                },
                Ok(()) = map_changed.changed() => {
                    batch.handle(self.clock.now(), Event::MapChanged(self.maps.load_full()));
                }
                () = sleep_until(self.clock.instant(due).into()) => {
                    batch.handle(self.clock.now(), Event::Tick);
                }
            }
        }
        self.log(trace, |means| queries.into_iter().map(|it| means.logged(arrived, it)).collect());
        Ok(batch.answers())
    }

    fn log(&self, trace: Option<Context>, queries: impl FnOnce(&mut Means) -> Vec<QueryLogged>) {
        let queries = queries(&mut self.means.lock().unwrap_or_else(PoisonError::into_inner));
        let sampled = trace.map(|it| it.span().span_context().clone());
        self.logged.queries(queries, sampled.filter(SpanContext::is_sampled));
    }

    async fn ask(
        self: Arc<Self>,
        ask: Ask,
        deadline: Instant,
    ) -> (AskId, Result<Vec<Answer>, Failure>) {
        (ask.id, self.asked(ask, deadline).await)
    }

    async fn asked(&self, ask: Ask, deadline: Instant) -> Result<Vec<Answer>, Failure> {
        let Ask { node, reads, hint, .. } = ask;
        if hint.is_some_and(|it| !self.maps.trust(it.by, it.generation)) {
            return Err(Failure::HintOld);
        }
        let endpoint = self.endpoints.load().get(&node).cloned().ok_or(Failure::NoEndpoint)?;
        let count = reads.len();
        let asked = self.workers.ask(&endpoint, reads, deadline.into());
        let asked = match spans::is_on() {
            true => traced(asked, &node, &endpoint, count).await,
            false => asked.await,
        };
        asked.map(|it| it.answers).map_err(|it| match it {
            Unanswered::Unreachable => Failure::Unreachable,
            Unanswered::Lost => Failure::Lost,
            Unanswered::Overloaded => Failure::Overloaded,
            Unanswered::Refused => Failure::Refused,
            Unanswered::Garbage => Failure::Garbage,
            Unanswered::Late => Failure::Silent,
        })
    }
}
