//! Plays load: operations when they are due, reads through routers, updates into the table.
//!
//! ```text
//!  schedule ──> a thread that waits for what is due
//!                 ├── reads ────> a thread of requests ─┐
//!                 ├── updates ──> a thread that writes ─┼──> parts ──> Status ──> Watch
//!                 └───────── what finds no room ────────┘    every 200 ms, on this thread
//! ```
//!
//! Reads: nothing.  Writes: table.
//!
//! * **Nothing that is due waits for another operation**, nor for who looks on. What finds no room has
//!   failed, and is counted.
//! * **Ends in order**: what is under way is waited for up to its deadline, and all updates are written.

mod pace;
mod routers;
mod reads;
mod updates;

use std::collections::VecDeque;
use std::net::{TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};
use schemas::table::RowChanged;
use schemas::wire::{Record as _, encode};
use tokio::sync::mpsc;

use self::pace::Pace;
use self::reads::Reading;
use self::updates::Updating;
use super::Micros;
use super::machine::Settings;
use super::rows::{Filling, Rows};
use super::schedule::{Operation, Schedule};
use super::tally::Tally;
use crate::kafka::writer::Writer;
use crate::kafka::{Connection, Output};

/// How load does is told this often.
const TOLD_EVERY: Duration = Duration::from_millis(200);

/// Over so long are rates and quantiles of the moment.
const RECENT: Duration = Duration::from_secs(5);

/// So long is waited at a time.
const WAIT_MAX: Duration = Duration::from_millis(20);

/// So many parts may wait to be looked at.
const PARTS_MAX: usize = 16;

/// So many updates may wait to be written.
const UPDATES_MAX: usize = 100_000;

/// A router may take so long to be reached before anything is begun.
const REACHED_WITHIN: Duration = Duration::from_secs(2);

/// How load is played.
#[derive(Clone, Debug)]
pub struct Options {
    pub connection: Connection,
    /// As `host:port`; at least one, though nothing is read.
    pub routers: Vec<String>,
    /// Rows that are there already.
    pub filled: Option<Filling>,
    pub payload_bytes: usize,
    /// Of payloads.
    pub seed: u64,
    /// A read fails so long after it was due.
    pub deadline: Duration,
    /// So many reads may be under way, at least one; what is due then fails.
    pub in_flight_max: usize,
}

impl Options {
    pub fn new(connection: Connection, routers: Vec<String>) -> Self {
        Self {
            connection,
            routers,
            filled: None,
            payload_bytes: 100,
            seed: 1,
            deadline: Duration::from_secs(30),
            in_flight_max: 20_000,
        }
    }
}

/// How load does.
#[derive(Clone, Debug, Default)]
pub struct Status {
    pub since_start: Duration,
    /// Reads that have no end yet.
    pub under_way: usize,
    pub all: Tally,
    /// Of the last five seconds, or of `recent_over` where that is shorter.
    pub recent: Tally,
    pub recent_over: Duration,
}

impl Status {
    /// Returns a count of `recent` as a rate.
    pub fn per_s(&self, count: u64) -> f64 {
        count as f64 / self.recent_over.as_secs_f64().max(1e-3)
    }
}

/// Looks on while load is played.
pub trait Watch {
    /// About five times a second, and at the end.
    fn told(&mut self, status: &Status);

    /// Tells whether nothing more is to be begun.
    fn is_stopping(&self) -> bool;
}

/// What a thread has to tell of the time since it told last.
struct Part {
    tally: Tally,
    under_way: Option<usize>,
}

fn part_of(err: TrySendError<Part>) -> Part {
    match err {
        TrySendError::Full(it) | TrySendError::Disconnected(it) => it,
    }
}

/// The time of a run.
#[derive(Clone, Copy, Debug)]
pub struct Clock(Instant);

impl Clock {
    fn began(&self) -> Instant {
        self.0
    }

    fn now(&self) -> Micros {
        Micros(self.0.elapsed().as_micros() as u64)
    }
}

/// Plays a schedule to its end, or until it is to stop; returns what came of it.
pub fn run(options: &Options, schedule: Schedule, watch: &mut impl Watch) -> anyhow::Result<Tally> {
    let clock = Clock(Instant::now());
    let (told, parts) = sync_channel(PARTS_MAX);
    let (reads, due_reads) = mpsc::channel(options.in_flight_max);
    let (updates, due_updates) = sync_channel(UPDATES_MAX);
    let acting = [
        begin_reads(options, clock, told.clone(), due_reads)?,
        begin_updates(options, clock, told.clone(), due_updates)?,
    ];
    let stop = Arc::<AtomicBool>::default();
    let pace = Pace { clock, reads, updates, told, stop: stop.clone() };
    let pace = begin("load-pace", move || pace.run(schedule))?;
    let mut play = Play::new(clock, parts);
    while !(pace.is_finished() && acting.iter().all(JoinHandle::is_finished)) {
        stop.fetch_or(watch.is_stopping(), Ordering::Relaxed);
        play.tell(watch);
        std::thread::park_timeout(WAIT_MAX);
    }
    let failed = |_| anyhow!("a thread that plays load has failed");
    let (tally, broken) = pace.join().map_err(failed)?;
    play.take(Part { tally, under_way: None });
    for thread in acting {
        let tally = thread.join().map_err(failed)?;
        play.take(Part { tally, under_way: None });
    }
    play.end(watch);
    broken.map_or(Ok(play.status.all), |err| Err(err.into()))
}

fn begin<T: Send + 'static>(
    name: &str,
    run: impl FnOnce() -> T + Send + 'static,
) -> anyhow::Result<JoinHandle<T>> {
    std::thread::Builder::new().name(name.into()).spawn(run).context("begin a thread")
}

fn begin_reads(
    options: &Options,
    clock: Clock,
    told: SyncSender<Part>,
    due: mpsc::Receiver<Operation>,
) -> anyhow::Result<JoinHandle<Tally>> {
    let deadline_us = options.deadline.as_micros() as u64;
    let settings = Settings::new(options.routers.len(), deadline_us, options.in_flight_max);
    let reading = Reading::new(clock, &options.routers, settings, told);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("begin the runtime of reads")?;
    begin("load-reads", move || runtime.block_on(reading.run(due)))
}

fn begin_updates(
    options: &Options,
    clock: Clock,
    told: SyncSender<Part>,
    due: Receiver<Operation>,
) -> anyhow::Result<JoinHandle<Tally>> {
    let writer = Writer::open(&options.connection, "load")?;
    let rows = Rows::new(options.filled.clone(), options.payload_bytes, options.seed);
    let updating = Updating::new(clock, writer, rows, told);
    begin("load-updates", move || updating.run(&due))
}

/// A run under way, as it is seen from outside.
struct Play {
    clock: Clock,
    parts: Receiver<Part>,
    /// When it was told last.
    told: Option<Instant>,
    status: Status,
    recent: VecDeque<(Instant, Tally)>,
}

impl Play {
    fn new(clock: Clock, parts: Receiver<Part>) -> Self {
        let (told, status, recent) = (None, Status::default(), VecDeque::new());
        Self { clock, parts, told, status, recent }
    }

    /// Tells how it does, if it is time.
    fn tell(&mut self, watch: &mut impl Watch) {
        let now = Instant::now();
        if self.told.is_some_and(|it| now - it < TOLD_EVERY) {
            return;
        }
        self.told = Some(now);
        self.take_parts();
        while self.recent.front().is_some_and(|it| RECENT < now - it.0) {
            self.recent.pop_front();
        }
        self.status.since_start = now - self.clock.began();
        self.status.recent_over = RECENT.min(self.status.since_start);
        self.status.recent = Tally::default();
        self.recent.iter().for_each(|it| self.status.recent += &it.1);
        watch.told(&self.status);
    }

    /// Tells how it has come out.
    fn end(&mut self, watch: &mut impl Watch) {
        self.take_parts();
        (self.status.under_way, self.told) = (0, None);
        self.tell(watch);
    }

    fn take_parts(&mut self) {
        while let Ok(part) = self.parts.try_recv() {
            self.take(part);
        }
    }

    fn take(&mut self, part: Part) {
        self.status.all += &part.tally;
        self.status.under_way = part.under_way.unwrap_or(self.status.under_way);
        self.recent.push_back((Instant::now(), part.tally));
    }
}

/// Opens what writes the rows with which a table is to be filled: the earlier, the sooner the first one goes.
pub fn filler(connection: &Connection) -> anyhow::Result<Writer> {
    // Rows that go together are read together, by each worker that builds its ranges from them.
    let mut connection = connection.clone();
    let properties = &mut connection.producer.properties;
    properties.entry("linger.ms".to_owned()).or_insert_with(|| "100".to_owned());
    Writer::open(&connection, "load")
}

/// Writes these rows; returns how many, which are fewer if it is to stop.
pub fn fill(
    writer: &Writer,
    filling: &Filling,
    payload_bytes: usize,
    seed: u64,
    is_stopping: &dyn Fn() -> bool,
) -> anyhow::Result<u64> {
    let mut rows = Rows::new(None, payload_bytes, seed);
    let mut written = 0;
    for row in filling.keys() {
        if is_stopping() {
            break;
        }
        let (primary_key, change) = rows.change(row);
        writer.send(&Output::new(RowChanged::TOPIC, primary_key, encode(&change)))?;
        written += 1;
    }
    writer.flush()?;
    Ok(written)
}

/// Tries to connect to each router; returns those that cannot be reached, and why.
pub fn unreachable(routers: &[String]) -> Vec<(String, anyhow::Error)> {
    let reach = |router: &String| -> anyhow::Result<()> {
        let mut addresses = router.to_socket_addrs().context("look up the address")?;
        let address = addresses.next().context("the name has no address")?;
        TcpStream::connect_timeout(&address, REACHED_WITHIN)?;
        Ok(())
    };
    routers.iter().filter_map(|it| reach(it).err().map(|err| (it.clone(), err))).collect()
}
