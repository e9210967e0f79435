//! Runs the worker: one thread has the machine and its store, others answer reads of what it serves.
//!
//! ```text
//!  assignment ─────────── from the beginning ──┐
//!  commands, statuses, ┐                       │              ┌──> store
//!  inbox               ├─ from the store's ────┼─> machine ───┼──> updates, segments, acks, statuses
//!  table, for a scan ──┘  positions            │   step       └──> Serving ──> reads
//!                          held, asked for ────┘                  clock ────> node_capacity
//! ```
//!
//! Reads: assignment, migrate_range, migration_status, segment_ack, range_segment, index_update, table,
//! node_capacity.  Writes: index_update, range_segment, segment_ack, migration_status, node_capacity,
//! dead_letter.
//!
//! * **Reads never wait for the machine**: they are answered by what the last step has left.
//! * **A full disk stops writes, not reads.** The step is tried again until there is room.
//! * **A stated capacity is kept.** Reads, updates and what is copied wait in one queue.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::ops::ControlFlow;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, bail, ensure};
use arc_swap::ArcSwapOption;
use schemas::node_capacity::{NodeCapacity, NodeState};
use schemas::wire::{Record as _, decode, encode};
use schemas::{Inbox, KeySpan, Millis, NodeId};
use tokio::runtime::Runtime;
use tokio::sync::oneshot;
use tokio::time::timeout;
use tracing::{error, info, warn};

use super::events::{self, Event, Source};
use super::gauge::Gauge;
use super::machine::Worker;
use super::records;
use super::report::{Who, intervals, report};
use super::service::Service;
use super::serving::{self, Serving};
use super::step::{Halted, Runner, World};
use crate::counts::Counts;
use crate::kafka::follow::{Follower, From};
use crate::kafka::tail::{Start, scan};
use crate::kafka::writer::Writer;
use crate::kafka::{Output, Record, TopicPartition};
use crate::store::fjall::{FjallSnapshot, FjallStore, Identity};
use crate::store::{EntryKey, Limit, Scan, Snapshot, Store, StoreError};
use crate::tick::tick_box::Offset;
use crate::web::clock::Clock;
use crate::web::held::{Asked, Cursor, Held};
use crate::web::listener::{self, Bounded};
use crate::web::reads::{After, Answer, FoundEntry, Later, Read, What};
use crate::web::{self, Health, back};

pub use super::options::{Options, Status, Watch};

/// How long is waited for a record before everything else is looked at.
const RECORD_WAIT: Duration = Duration::from_millis(5);

/// Where partitions end is asked this often, while a scan or a first reading waits for it.
const ENDS_EVERY: Duration = Duration::from_millis(50);

/// A full disk is tried again after this.
const ROOM_EVERY: Duration = Duration::from_secs(1);

/// How the worker does is told this often.
const TOLD_EVERY: Duration = Duration::from_millis(200);

/// So many may ask at once for what is held.
const HOLDING_MAX: usize = 16;

/// Of one page of what is held, tombstones among them.
const HELD_MAX: Limit = Limit { entries: 10_000, bytes: 4 << 20 };

/// Requests that are under way when the worker is to end have this much longer than their deadline.
const DRAIN_EXTRA: Duration = Duration::from_secs(1);

/// A worker that takes requests. Without [`Server::run`] nothing is served but health.
pub struct Server {
    shared: Arc<Shared>,
    address: SocketAddr,
    runtime: Runtime,
    stop: oneshot::Sender<()>,
    serving: tokio::task::JoinHandle<()>,
    holding: Receiver<Holding>,
}

/// What reads need.
struct Shared {
    options: Options,
    clock: Clock,
    serving: ArcSwapOption<Serving<FjallSnapshot>>,
    service: Mutex<Service>,
    counts: Counts,
}

/// Somebody asks for what is held, as of one step.
struct Holding {
    answer: oneshot::Sender<(Held, FjallSnapshot)>,
}

impl Server {
    /// Begins to listen.
    pub fn begin(listen: SocketAddr, options: Options, health: &Health) -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .thread_name("reads")
            .build()
            .context("begin the runtime of the reads")?;
        let listener = {
            let _within = runtime.enter();
            listener::listen(listen)?
        };
        let address = listener.local_addr().context("ask for the address that is listened on")?;
        let counts = Counts::default();
        let shared = Arc::new(Shared {
            clock: Clock::begin(),
            serving: ArcSwapOption::empty(),
            service: Mutex::new(Service::new(options.capacity_us_per_s)),
            counts: counts.clone(),
            options,
        });
        let (asks, holding) = sync_channel(HOLDING_MAX);
        let answering = shared.clone();
        let answering: back::Answering =
            Arc::new(move |reads, deadline| Box::pin(answering.clone().answer(reads, deadline)));
        let counting = counts.clone();
        let asking: back::Holding =
            Arc::new(move |asked| Box::pin(held(asks.clone(), asked, counting.clone())));
        let routes = web::routes(health).merge(back::routes(
            shared.options.back,
            answering,
            asking,
            counts.clone(),
        ));
        let Options { connections_max, idle_max, .. } = shared.options;
        let (stop, stopped) = oneshot::channel::<()>();
        let serving = runtime.spawn(async move {
            let until = async { stopped.await.unwrap_or(()) };
            let listener = Bounded::new(listener, connections_max, idle_max, counts);
            let serving = axum::serve(listener, routes).with_graceful_shutdown(until);
            if let Err(err) = serving.await {
                error!(%err, "reads are not served any more");
            }
        });
        Ok(Self { shared, address, runtime, stop, serving, holding })
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Runs until it is to end, or cannot go on.
    pub fn run(self, watch: &mut impl Watch) -> anyhow::Result<()> {
        let Self { shared, address, runtime, stop, serving, holding } = self;
        let done = Run::open(&shared, address, &holding, watch).and_then(|run| match run {
            Some(mut run) => run.run(watch),
            None => Ok(()),
        });
        drop(holding);
        let _ = stop.send(());
        let drain_max = shared.options.back.deadline_max + DRAIN_EXTRA;
        if runtime.block_on(async { timeout(drain_max, serving).await }).is_err() {
            warn!("requests were still under way at the end");
        }
        done
    }
}

impl Shared {
    /// Answers reads by what the last step has left.
    async fn answer(self: Arc<Self>, reads: Vec<Read>, deadline: Instant) -> Vec<Answer> {
        let Some(serving) = self.serving.load_full() else {
            return reads.iter().map(|_| Answer::NotYet { reason: Later::OlderMap }).collect();
        };
        let limits = &self.options.limits;
        let mut budget = match limits.budget(reads.len()) {
            Ok(budget) => budget,
            Err(reason) => return reads.iter().map(|_| Answer::Refused { reason }).collect(),
        };
        let mut answers = Vec::with_capacity(reads.len());
        for read in &reads {
            if !self.is_in_time(deadline) {
                self.counts.add("reads_late");
                answers.push(Answer::Late);
                continue;
            }
            let begun = Instant::now();
            let served = tokio::task::block_in_place(|| serving.read(read, limits, &mut budget));
            let answer = match served {
                Ok(served @ serving::Served::Found { .. }) => {
                    let took_us = begun.elapsed().as_micros() as u64;
                    let cost_us = self.cost_us(&read.what).unwrap_or(took_us.max(1));
                    self.work(cost_us).await;
                    served.answer(cost_us)
                }
                Ok(served) => served.answer(0),
                Err(err) => {
                    error!(%err, "a read of the store has failed");
                    self.counts.add("reads_failed");
                    Answer::NotYet { reason: Later::NotWhole }
                }
            };
            answers.push(answer);
        }
        answers
    }

    /// Tells whether what is asked now can begin before the deadline.
    fn is_in_time(&self, deadline: Instant) -> bool {
        let now = Instant::now();
        let now_us = self.clock_us(now);
        let begins_at = self.service().begins_at(now_us);
        now + Duration::from_micros(begins_at - now_us) < deadline
    }

    /// What a read takes by the stated capacity; `None`: what it takes.
    fn cost_us(&self, what: &What) -> Option<u64> {
        self.options.capacity_us_per_s?;
        Some(match what {
            What::Key(_) => self.options.costs.read_us,
            What::Range { .. } => self.options.costs.scan_us,
        })
    }

    /// Waits until the work is done, which takes as long as the stated capacity says.
    async fn work(&self, cost_us: u64) {
        let now = Instant::now();
        let now_us = self.clock_us(now);
        let done_us = self.service().take(now_us, cost_us);
        if now_us < done_us {
            tokio::time::sleep_until((now + Duration::from_micros(done_us - now_us)).into()).await;
        }
    }

    fn clock_us(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.clock.instant(Millis(0))).as_micros() as u64
    }

    fn service(&self) -> std::sync::MutexGuard<'_, Service> {
        self.service.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Asks the machine's thread for what is held, and reads a page of it.
async fn held(asks: SyncSender<Holding>, asked: Asked, counts: Counts) -> Option<Held> {
    let (answer, answered) = oneshot::channel();
    match asks.try_send(Holding { answer }) {
        Ok(()) => (),
        Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => return None,
    }
    let (mut held, snapshot) = answered.await.ok()?;
    let after = asked
        .after
        .map(|Cursor(it)| EntryKey { index_key: it.index_key, primary_key: it.primary_key });
    let entries = asked.limit.map_or(HELD_MAX.entries, |it| (it as usize).min(HELD_MAX.entries));
    if entries == 0 {
        return Some(held);
    }
    let limit = Limit { entries, ..HELD_MAX };
    let page =
        tokio::task::block_in_place(|| snapshot.page(&KeySpan::all(), after.as_ref(), limit));
    let page = match page {
        Ok(page) => page,
        Err(err) => {
            error!(%err, "a read of the store has failed");
            counts.add("reads_failed");
            return None;
        }
    };
    // Those intervals that have a key between the first that was looked at and the last.
    let first = after.map(|it| it.index_key).unwrap_or_default();
    let last = page.next.as_ref().map(|it| it.index_key.clone());
    held.intervals.retain(|it| {
        let begins_before_the_end = last.as_ref().is_none_or(|last| it.range_start <= *last);
        begins_before_the_end && (it.range_end.0.is_empty() || first < it.range_end)
    });
    held.next = page
        .next
        .map(|EntryKey { index_key, primary_key }| Cursor(After { index_key, primary_key }));
    held.entries = page.entries.into_iter().filter_map(found).collect();
    Some(held)
}

fn found(it: schemas::range_segment::Entry) -> Option<FoundEntry> {
    let payload = it.payload?;
    let (index_key, primary_key) = (it.index_key, it.primary_key);
    Some(FoundEntry { index_key, primary_key, partition: it.partition, offset: it.offset, payload })
}

/// What the machine's thread has.
struct Run<'a> {
    shared: &'a Shared,
    holding: &'a Receiver<Holding>,
    who: Who,
    runner: Runner<FjallStore>,
    map: Follower,
    inbox: Follower,
    /// Where the map ended when it was last to be read to its end, and how often it is to be again.
    map_ends: Option<BTreeMap<TopicPartition, Offset>>,
    maps_asked: u64,
    updates_end: Option<BTreeMap<TopicPartition, Offset>>,
    world: Sending<'a>,
    scans: BTreeMap<Scan, Follower>,
    ends_asked: Instant,
    gauge: Gauge,
    reported: Option<Instant>,
    told: Instant,
    /// Of service, when it was last reported.
    done_us: u64,
    /// Until then it works on what it has taken in, by the stated capacity.
    busy_until: Instant,
    /// Why writes have stopped.
    no_room: Option<String>,
}

/// What the machine wants of the world, until the step is over.
struct Sending<'a> {
    shared: &'a Shared,
    who: Who,
    writer: Writer,
    /// Since time was taken for it.
    copied_bytes: u64,
    writes: u64,
    maps_asked: u64,
    scans: Vec<(Scan, u32, Option<u64>)>,
}

impl World for Sending<'_> {
    type Error = anyhow::Error;

    fn send(&mut self, output: events::Output) -> anyhow::Result<()> {
        let record = records::output(&output, &self.who.node, self.who.inbox);
        match output {
            events::Output::Segment { .. } => {
                self.copied_bytes += record.value.as_ref().map_or(0, Vec::len) as u64;
                self.shared.counts.add("segments_sent");
            }
            events::Output::Update { .. } => self.shared.counts.add("updates_forwarded"),
            events::Output::Ack { .. } => self.shared.counts.add("acks_sent"),
            events::Output::Status(status) => {
                info!(migration = %status.migration, status = ?status.status, phase = ?status.phase, "says");
            }
            events::Output::Dead { .. } => self.shared.counts.add("no_such_generation"),
        }
        self.writer.send(&record)
    }

    fn flush(&mut self) -> anyhow::Result<()> {
        self.writer.flush()
    }

    fn read_map(&mut self) {
        self.maps_asked += 1;
    }

    fn scan_table(&mut self, scan: Scan, partition: u32, from: u64) {
        self.scans.push((scan, partition, Some(from)));
    }

    fn end_table(&mut self, scan: Scan, partition: u32) {
        self.scans.push((scan, partition, None));
    }
}

impl<'a> Run<'a> {
    /// Opens the store, and follows what it goes by; `None`: it is to end before that.
    fn open(
        shared: &'a Shared,
        address: SocketAddr,
        holding: &'a Receiver<Holding>,
        watch: &mut impl Watch,
    ) -> anyhow::Result<Option<Self>> {
        let Options { connection, node, store, .. } = &shared.options;
        let name = format!("worker-{node}");
        let mut opened = FjallStore::open(store, node)?;
        let mut map = Follower::open(connection, &name)?;
        map.add(map.partitions("assignment")?.into_iter().map(|at| (at, From::Beginning)))?;
        let inboxes = map.partitions("index_update")?.len() as u32;
        let identity = match opened.identity() {
            Some(identity) => identity.clone(),
            None => {
                let inbox = shared.options.inbox.unwrap_or_else(|| inbox_of(node, inboxes));
                let identity = Identity::new(node.clone(), inbox);
                opened.begin(identity.clone(), Vec::new())?;
                identity
            }
        };
        check_inbox(&identity, shared.options.inbox, inboxes)?;
        let who = Who {
            node: node.clone(),
            store_id: identity.store_id.clone(),
            inbox: identity.inbox,
            endpoint: shared.options.endpoint.clone().unwrap_or_else(|| address.to_string()),
        };
        check_alone(shared, &who)?;
        let settings = events::Settings {
            node: node.clone(),
            inbox: who.inbox,
            partitions: map.partitions("table")?.len() as u32,
            ..shared.options.settings.clone()
        };
        let worker = Worker::new(settings, &opened.states()?)?;
        let mut runner = Runner::new(worker, opened);
        let mut inbox = Follower::open(connection, &name)?;
        let mut sources = vec![Source::Command, Source::Ack, Source::Segment, Source::Update];
        let statuses = inbox.partitions("migration_status")?;
        sources.extend(statuses.iter().map(|it| Source::Status(it.partition)));
        let at = |source: &Source| records::partition(*source, who.inbox);
        if runner.worker().position(Source::Update).is_none() {
            inbox.add(sources.iter().map(|it| (at(it), From::End)))?;
            let positions = inbox.positions()?;
            let position = |it: &Source| Some((*it, positions.get(&at(it))?.0));
            let positions = sources.iter().filter_map(position).collect();
            runner.handle(shared.clock.now(), Event::Begun { positions });
            info!(inbox = who.inbox.0, store = who.store_id, "begins with an empty store");
        } else {
            let from = sources.iter().map(|it| match runner.worker().position(*it) {
                Some(offset) => (at(it), From::At(Offset(offset))),
                None => (at(it), From::Beginning),
            });
            inbox.add(from)?;
        }
        if watch.is_stopping() {
            return Ok(None);
        }
        let now = Instant::now();
        let writer = Writer::open_patient(connection, &name)?;
        let world = Sending {
            shared,
            who: who.clone(),
            writer,
            copied_bytes: 0,
            writes: 0,
            maps_asked: 0,
            scans: Vec::new(),
        };
        Ok(Some(Self {
            shared,
            holding,
            runner,
            map,
            inbox,
            map_ends: None,
            maps_asked: 1,
            updates_end: None,
            world,
            scans: BTreeMap::new(),
            ends_asked: now - ENDS_EVERY,
            gauge: Gauge::new(store.dir.clone(), shared.options.io_bytes_per_s),
            reported: None,
            told: now - TOLD_EVERY,
            done_us: 0,
            busy_until: now,
            no_room: None,
            who,
        }))
    }

    fn run(&mut self, watch: &mut impl Watch) -> anyhow::Result<()> {
        while !watch.is_stopping() {
            if Instant::now() < self.busy_until {
                std::thread::park_timeout(RECORD_WAIT);
            } else if self.no_room.is_none() {
                self.read_map()?;
                self.read_inbox()?;
                self.read_scans()?;
                self.look_at_ends()?;
            }
            self.tick();
            self.step()?;
            self.tell_held();
            self.report()?;
            self.tell(watch);
        }
        self.world.writer.flush()
    }

    fn handle(&mut self, event: Event) {
        self.runner.handle(self.shared.clock.now(), event);
    }

    fn read_map(&mut self) -> anyhow::Result<()> {
        while let Some(record) = self.map.poll(Duration::ZERO)? {
            match records::row(&record) {
                Ok(row) => self.handle(Event::MapRead(row)),
                Err(err) => self.dead(&record, err.code(), &err.to_string())?,
            }
        }
        Ok(())
    }

    fn read_inbox(&mut self) -> anyhow::Result<()> {
        let mut wait = RECORD_WAIT;
        for _ in 0..self.shared.options.settings.records_max {
            let Some(record) = self.inbox.poll(wait)? else { break };
            wait = Duration::ZERO;
            let Some(source) = records::source(record.at) else {
                bail!("a record of {} came, which is not followed", record.at)
            };
            match records::event(source, &record, &self.who.node) {
                Ok(event) => {
                    self.take_in(&event, &record);
                    self.handle(event);
                }
                Err(err) => {
                    self.dead(&record, err.code(), &err.to_string())?;
                    self.handle(Event::Skipped { source, offset: record.offset });
                }
            }
            if !self.runner.worker().wants(source) {
                self.inbox.pause(record.at);
            }
        }
        Ok(())
    }

    /// Counts what taking it in costs, by the stated capacity.
    fn take_in(&mut self, event: &Event, record: &Record) {
        match event {
            Event::Record { record: events::Record::Update(it), .. } if it.entry.is_some() => {
                self.world.writes += 1;
            }
            Event::Record { record: events::Record::Segment(_), .. } => {
                self.world.copied_bytes += record.value.as_ref().map_or(0, Vec::len) as u64;
            }
            _ => (),
        }
    }

    fn read_scans(&mut self) -> anyhow::Result<()> {
        let ids: Vec<_> = self.scans.keys().copied().collect();
        for scan in ids {
            while self.runner.worker().wants_rows() {
                let follower = self.scans.get_mut(&scan).expect("it was just there");
                let Some(record) = follower.poll(Duration::ZERO)? else { break };
                self.row(scan, &record)?;
            }
        }
        Ok(())
    }

    fn row(&mut self, scan: Scan, record: &Record) -> anyhow::Result<()> {
        let Record { at, offset, key, value, .. } = record;
        let version = (at.partition, *offset);
        let entries = self.shared.options.rows.entries(key.as_deref(), value.as_deref(), version);
        let entries = match entries {
            Ok(entries) => entries.into_iter().filter(|it| it.payload.is_some()).collect(),
            Err(err) => {
                self.dead(record, err.code(), &err.to_string())?;
                Vec::new()
            }
        };
        let Some(primary_key) = key.clone().map(schemas::Key) else { return Ok(()) };
        let (partition, offset) = version;
        self.handle(Event::RowScanned { scan, partition, offset, primary_key, entries });
        Ok(())
    }

    /// Looks whether what was to be read to an end is.
    fn look_at_ends(&mut self) -> anyhow::Result<()> {
        let is_started = self.runner.worker().is_started();
        let is_idle = self.maps_asked == 0 && self.scans.is_empty() && is_started;
        if is_idle || self.ends_asked.elapsed() < ENDS_EVERY {
            return Ok(());
        }
        self.ends_asked = Instant::now();
        if self.maps_asked > 0 {
            if self.map_ends.is_none() {
                self.map_ends = self.map.ends()?;
            }
            if let Some(ends) = &self.map_ends
                && self.map.has_reached(ends)?
            {
                self.map_ends = None;
                self.maps_asked -= 1;
                self.handle(Event::MapReached);
            }
        }
        if !is_started {
            if self.updates_end.is_none() {
                let mine = records::partition(Source::Update, self.who.inbox);
                self.updates_end = self.inbox.ends()?.map(|mut ends| {
                    ends.retain(|at, _| *at == mine);
                    ends
                });
            }
            if let Some(ends) = &self.updates_end {
                let positions = self.inbox.positions()?;
                let is_read = |(at, end): (&TopicPartition, &Offset)| {
                    positions.get(at).is_some_and(|position| end <= position)
                };
                if ends.iter().all(is_read) {
                    self.handle(Event::UpdatesReached);
                }
            }
        }
        self.look_at_scans()
    }

    fn look_at_scans(&mut self) -> anyhow::Result<()> {
        let mut ended = Vec::new();
        for (scan, follower) in &mut self.scans {
            let Some(ends) = follower.ends()? else { continue };
            for (at, position) in follower.positions()? {
                if ends.get(&at).is_some_and(|end| *end <= position) {
                    ended.push((*scan, at.partition, position.0));
                }
            }
        }
        for (scan, partition, position) in ended {
            self.handle(Event::EndScanned { scan, partition, position });
        }
        Ok(())
    }

    fn tick(&mut self) {
        if self.runner.worker().poll_deadline().is_some_and(|it| it <= self.shared.clock.now()) {
            self.handle(Event::Tick);
        }
    }

    /// Runs all steps that there are, and has what they leave served.
    fn step(&mut self) -> anyhow::Result<()> {
        let mut stepped = false;
        loop {
            let now = self.shared.clock.now();
            match self.runner.step(now, &mut self.world) {
                Ok(true) => stepped = true,
                Ok(false) => break,
                Err(Halted::Store(StoreError::NoSpace(reason))) => {
                    if self.no_room.is_none() {
                        error!(reason, "writes have stopped; reads go on");
                        self.shared.counts.add("disk_full");
                    }
                    self.no_room = Some(reason);
                    std::thread::park_timeout(ROOM_EVERY);
                    return Ok(());
                }
                Err(Halted::Store(err)) => return Err(err).context("store a step"),
                Err(Halted::World(err)) => return Err(err).context("send what a step says"),
            }
            if self.no_room.take().is_some() {
                info!("there is room again");
            }
        }
        if stepped {
            self.shared.serving.store(self.runner.serving().map(Arc::new));
            self.after_steps()?;
        }
        Ok(())
    }

    fn after_steps(&mut self) -> anyhow::Result<()> {
        self.maps_asked += std::mem::take(&mut self.world.maps_asked);
        for (scan, partition, from) in std::mem::take(&mut self.world.scans) {
            let at = TopicPartition { topic: "table", partition };
            match from {
                Some(from) => {
                    let from = if from == 0 { From::Beginning } else { From::At(Offset(from)) };
                    if !self.scans.contains_key(&scan) {
                        let connection = &self.shared.options.connection;
                        let name = format!("scan-{}", self.who.node);
                        self.scans.insert(scan, Follower::open(connection, &name)?);
                        info!(scan = scan.0.0, "scans the table");
                    }
                    let follower = self.scans.get_mut(&scan).expect("it was just opened");
                    follower.add([(at, from)])?;
                }
                None => {
                    let Some(follower) = self.scans.get_mut(&scan) else { continue };
                    follower.remove(&[at])?;
                    if follower.positions()?.is_empty() {
                        self.scans.remove(&scan);
                        info!(scan = scan.0.0, "the scan of the table is over");
                    }
                }
            }
        }
        let waiting: Vec<_> = self.runner.worker().waiting().map(|it| it.0).collect();
        let sources = self.inbox.positions()?;
        for at in sources.into_keys() {
            let Some(source) = records::source(at) else { continue };
            if !waiting.contains(&source) || self.runner.worker().wants(source) {
                self.inbox.resume(at);
            }
        }
        self.take_time();
        Ok(())
    }

    /// What was written and copied takes its time, if the capacity is stated.
    fn take_time(&mut self) {
        let bytes = std::mem::take(&mut self.world.copied_bytes);
        let writes = std::mem::take(&mut self.world.writes);
        let shared = self.shared;
        if !shared.service().is_stated() || bytes + writes == 0 {
            return;
        }
        let costs = &shared.options.costs;
        let cost_us = writes * costs.write_us + (bytes * costs.copy_mb_us).div_ceil(1_000_000);
        let now_us = shared.clock_us(Instant::now());
        let done_us = shared.service().take(now_us, cost_us);
        self.busy_until = Instant::now() + Duration::from_micros(done_us.saturating_sub(now_us));
    }

    fn tell_held(&mut self) {
        while let Ok(Holding { answer }) = self.holding.try_recv() {
            if !self.runner.worker().is_started() {
                continue;
            }
            let held = Held {
                node: self.who.node.clone(),
                store_id: self.who.store_id.clone(),
                generation: self.runner.worker().generation(),
                intervals: intervals(self.runner.worker()),
                entries: Vec::new(),
                next: None,
            };
            // Who asked may have gone.
            _ = answer.send((held, self.runner.store().snapshot()));
        }
    }

    fn report(&mut self) -> anyhow::Result<()> {
        let every = self.shared.options.report_every;
        let since = self.reported.map(|it| it.elapsed());
        if since.is_some_and(|it| it < every) || !self.runner.worker().is_started() {
            return Ok(());
        }
        self.reported = Some(Instant::now());
        let since_ms = since.map_or(0, |it| it.as_millis() as u64);
        let mut gauged = self.gauge.gauge(since_ms);
        if let Some(capacity) = self.shared.options.capacity_us_per_s {
            gauged.capacity_us_per_s = Some(capacity as f64);
            let done_us = self.shared.service().done_us();
            let possible = capacity as f64 * since_ms as f64 / 1000.0;
            let done = (done_us - std::mem::replace(&mut self.done_us, done_us)) as f64;
            gauged.cpu_load = (possible > 0.0).then(|| (done / possible).clamp(0.0, 1.0));
        }
        let state = if self.no_room.is_some() { NodeState::ReadOnly } else { NodeState::Up };
        let record = report(&self.who, &gauged, state, self.runner.worker().remembered());
        let key = self.who.node.0.clone().into_bytes();
        self.world.writer.send(&Output::new(NodeCapacity::TOPIC, key, encode(&record)))
    }

    fn dead(&mut self, record: &Record, reason: &'static str, detail: &str) -> anyhow::Result<()> {
        warn!(at = %record.at, offset = record.offset, reason, detail, "dead letter");
        self.shared.counts.add(reason);
        let bytes = (record.key.clone(), record.value.clone());
        let letter = Output::dead_letter((record.at, record.offset), bytes, reason, detail);
        self.world.writer.send(&letter).context("write a dead letter")
    }

    fn tell(&mut self, watch: &mut impl Watch) {
        if self.told.elapsed() < TOLD_EVERY {
            return;
        }
        self.told = Instant::now();
        let worker = self.runner.worker();
        let mut counts = self.shared.counts.all();
        counts.extend(worker.ignored().iter().map(|(it, n)| (it.code(), *n)));
        watch.told(&Status {
            generation: worker.generation(),
            is_started: worker.is_started(),
            roles: worker.remembered().roles.len(),
            scans: self.scans.len(),
            no_room: self.no_room.clone(),
            counts,
        });
    }
}

/// The inbox of a node that was not given one: any will do, as every record names its node.
fn inbox_of(node: &NodeId, inboxes: u32) -> Inbox {
    let hash = xxhash_rust::xxh3::xxh3_64(node.0.as_bytes());
    Inbox((hash % u64::from(inboxes.max(1))) as u32)
}

fn check_inbox(identity: &Identity, wanted: Option<Inbox>, inboxes: u32) -> anyhow::Result<()> {
    let Identity { node, inbox, .. } = identity;
    ensure!(
        inbox.0 < inboxes,
        "node {node} reads partition {} of its inboxes, and index_update has {inboxes}: they have to be as \
         many as they were",
        inbox.0
    );
    ensure!(
        wanted.is_none_or(|it| it == *inbox),
        "the store of node {node} reads partition {}, which stays as it was when it was made: leave \
         worker.inbox out",
        inbox.0
    );
    Ok(())
}

/// Fails if another store has reported under this name a moment ago.
fn check_alone(shared: &Shared, who: &Who) -> anyhow::Result<()> {
    let Options { connection, report_every, .. } = &shared.options;
    let mut other = None;
    scan(connection, NodeCapacity::TOPIC, Start::Beginning, |record| {
        if record.key.as_deref() == Some(who.node.0.as_bytes()) {
            let report = record.value.as_deref().map(decode::<NodeCapacity>);
            other = report.and_then(Result::ok).map(|it| (record.stamp, it));
        }
        ControlFlow::Continue(())
    })?;
    let Some((stamp, report)) = other else { return Ok(()) };
    let ago = Duration::from_millis(shared.clock.now().0.saturating_sub(stamp.0));
    if report.store_id == who.store_id || *report_every * 3 < ago {
        return Ok(());
    }
    Err(anyhow!(
        "another worker is node {} already: it serves at {}, and has reported {} ms ago; give this one \
         another --node-id, or end that one and wait for three intervals of reports",
        who.node,
        report.endpoint.as_deref().unwrap_or("an endpoint that it does not tell"),
        ago.as_millis()
    ))
}
