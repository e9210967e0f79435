//! Reads Kafka tick by tick: several topics, of one cluster or of more, in one box.
//!
//! ```text
//!  query_log 0     ──queue──> ahead ─┐
//!  query_log 1     ──queue──> ahead ─┼─ place ─> records of the open tick ──> next_tick
//!  node_capacity 0 ──queue──> ahead ─┘    Cutter ──────────────── its box ──>
//! ```
//!
//! * **A partition that is ahead is not read.** Each has a queue of its own, so that what is fetched
//!   stays there; the client stops fetching when it is full. To pause the partition instead would
//!   throw away what is fetched, and fetch it again.
//! * **Bounded.** Besides the open tick, a partition holds one record back, and its queue; a
//!   historical one the records by which stamps are judged.
//! * **A gap is an error.** Retention that overtook the planner is not jumped over.
//! * **A broker that is away is waited for.** Nothing is lost by that: what is not in a box yet is
//!   read when it is back.
//!
//! What a box is, is for [`Cutter`] to decide; here are the wall clock and the wire.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message;
use rdkafka::topic_partition_list::Offset as At;
use schemas::Millis;

pub use super::ask::Start;
use super::ask::{Asker, is_away};
use super::feed::{Feed, split};
use super::gap::check_beginnings;
use super::report::Report;
use super::{Connection, REQUEST_MAX, Record, TopicPartition, create};
use super::{is_passing, wall_clock};
use crate::tick::future::Lookahead;
use crate::tick::machine::{Cutter, END_OF_TIME, Origin, Place, Reading, Rules};
use crate::tick::tick_box::{Offset, TickBox};

/// The client's own events are served this often, though no record comes.
const SERVE_EVERY: Duration = Duration::from_millis(100);

/// What all partitions of a cluster may hold fetched, and what one of them may, at least and most.
const QUEUES_KBYTES_MAX: usize = 65_536;
const QUEUE_KBYTES: std::ops::RangeInclusive<usize> = 256..=4096;

/// Topics of one cluster that are read in the same way.
#[derive(Clone, Debug)]
pub struct Input {
    pub connection: Connection,
    pub topics: Vec<&'static str>,
    pub reading: Reading,
    /// Where reading begins, unless a box is recorded.
    pub start: Start,
    /// A historical reading ends before the first record that is stamped at or after this.
    pub end: Option<Millis>,
}

/// All that a source reads, and how it cuts that.
#[derive(Clone, Debug)]
pub struct Inputs {
    /// Whose reading it is; brokers show it.
    pub name: String,
    pub rules: Rules,
    pub inputs: Vec<Input>,
}

/// A box, and what is in it: by partition in their order, partitions in any.
#[derive(Debug)]
pub struct FilledBox {
    pub bounds: TickBox,
    pub origin: Origin,
    pub records: Vec<Record>,
    /// Those that the box names as being from the future: for `dead_letter`.
    pub from_future: Vec<Record>,
}

/// Reads partitions, tick by tick.
pub struct Source {
    clusters: Vec<Cluster>,
    feeds: BTreeMap<TopicPartition, Feed>,
    cutter: Cutter,
    records: Vec<Record>,
    from_future: Vec<Record>,
    reader: Arc<Reader>,
    /// Since when nothing has come of a log that should go on.
    idle_since: Instant,
}

/// Ends a reading from another thread.
#[derive(Clone)]
pub struct Stop(Arc<Reader>);

/// Topics of one input, and how to reach them.
struct Cluster {
    /// Shared with the queues, which must not outlive it.
    consumer: Arc<BaseConsumer<Report>>,
    asker: Asker,
    ids: Vec<TopicPartition>,
}

/// The thread that waits for records.
struct Reader {
    thread: Mutex<Thread>,
    stopped: AtomicBool,
}

impl Source {
    /// Begins where the first of the recorded boxes does, or else where the inputs say.
    ///
    /// Waits for brokers that are away.
    pub fn open(inputs: &Inputs, recorded: Vec<TickBox>) -> anyhow::Result<Self> {
        check_recorded(&inputs.rules, &recorded)?;
        let opened = wall_clock();
        let reader = Arc::new(Reader {
            thread: Mutex::new(thread::current()),
            stopped: AtomicBool::new(false),
        });
        let mut found = Vec::new();
        let (mut starts, mut ends) = (BTreeMap::new(), BTreeMap::new());
        for input in &inputs.inputs {
            let asker = Asker::new(&input.connection, &inputs.name)?;
            asker.wait()?;
            let mut ids = Vec::new();
            for topic in &input.topics {
                ids.extend(asker.wait_for(|it| it.partitions(topic))?);
            }
            let from = asker.wait_for(|it| it.starts(&ids, input.start))?;
            starts.extend(from.into_iter().map(|(id, from)| (id, (from, input.reading))));
            if input.reading == Reading::Historical {
                ends.extend(asker.wait_for(|it| match input.end {
                    Some(end) => it.at_time(&ids, end),
                    None => it.ends(&ids),
                })?);
            }
            found.push((input, asker, ids));
        }
        for at in recorded.iter().flat_map(|bounds| bounds.spans.keys()) {
            ensure!(
                starts.contains_key(at),
                "there is no partition {at} any more, which progress names: a topic was deleted or \
                 made anew; start under another planner id"
            );
        }
        let mut cutter = Cutter::new(inputs.rules, starts, recorded);
        let (mut clusters, mut feeds) = (Vec::new(), BTreeMap::new());
        for (input, asker, ids) in found {
            let consumer = Arc::new(consumer(input, inputs, ids.len())?);
            let from: BTreeMap<_, _> = ids.iter().map(|&id| (id, cutter.position(id))).collect();
            asker.wait_for(|it| check_beginnings(it, &from))?;
            let waker = reader.clone();
            let nonempty = move || waker.unpark();
            for (at, queue) in split(&consumer, &asker.connection, &from, nonempty)? {
                let Rules { future_max_ms, past_max_ms, .. } = inputs.rules;
                let feed = Feed {
                    at,
                    cluster: clusters.len(),
                    reading: input.reading,
                    queue,
                    ahead: Lookahead::new(future_max_ms, past_max_ms, opened),
                    position: from[&at],
                    end: ends.get(&at).copied(),
                    contiguous: asker.connection.embedded,
                };
                feeds.insert(at, feed);
            }
            clusters.push(Cluster { consumer, asker, ids });
        }
        if inputs.inputs.iter().all(|input| input.reading != Reading::Live) {
            cutter.ends_known(END_OF_TIME, ends);
        }
        let (records, from_future) = (Vec::new(), Vec::new());
        let idle_since = Instant::now();
        Ok(Self { clusters, feeds, cutter, records, from_future, reader, idle_since })
    }

    /// Returns a handle by which another thread ends the reading.
    pub fn stop(&self) -> Stop {
        Stop(self.reader.clone())
    }

    /// Waits until it is known which tick comes next; `None` when there is none.
    ///
    /// Who paces a topic beside a historical log learns here where to begin.
    pub fn open_tick(&mut self) -> anyhow::Result<Option<dataflows::Tick>> {
        self.wait(|source| source.cutter.open_tick())
    }

    /// Waits for the next tick to be over; `None` when a historical log is, or the reading was
    /// stopped.
    pub fn next_tick(&mut self) -> anyhow::Result<Option<FilledBox>> {
        self.wait(|source| {
            let (bounds, origin) = source.cutter.poll_box(wall_clock())?;
            let records = std::mem::take(&mut source.records);
            let from_future = std::mem::take(&mut source.from_future);
            Some(FilledBox { bounds, origin, records, from_future })
        })
    }

    /// Reads until there is what is waited for, or no more to read.
    fn wait<T>(
        &mut self,
        mut poll: impl FnMut(&mut Self) -> Option<T>,
    ) -> anyhow::Result<Option<T>> {
        *self.reader.thread.lock().expect("nobody panics with it in hand") = thread::current();
        loop {
            if self.reader.stopped.load(Ordering::Acquire) {
                return Ok(None);
            }
            while self.read()? {
                self.idle_since = Instant::now();
            }
            if let Some(done) = poll(self) {
                return Ok(Some(done));
            }
            if self.cutter.is_finished() {
                return Ok(None);
            }
            if self.pass_markers()? {
                continue;
            }
            let now = wall_clock();
            match self.cutter.poll_deadline() {
                // The clock is read first: records may come while the answer is under way.
                Some(deadline) if deadline <= now => self.ask(now)?,
                deadline => {
                    let until =
                        deadline.map_or(SERVE_EVERY, |it| Duration::from_millis(it.0 - now.0));
                    // A queue that is no longer empty ends this, now or since it was found empty.
                    thread::park_timeout(until.min(SERVE_EVERY));
                }
            }
            self.serve()?;
        }
    }

    /// Reads what is there of every partition that is wanted; tells whether there was anything.
    fn read(&mut self) -> anyhow::Result<bool> {
        let mut any = false;
        for (&at, feed) in &mut self.feeds {
            while self.cutter.wants(at) {
                let cluster = &self.clusters[feed.cluster];
                let judged = feed.reading == Reading::Historical && !self.cutter.is_replaying();
                if feed.fetch(judged, &cluster.asker)? {
                    cluster.consumer.context().reached();
                    any = true;
                }
                let Some(stamp) = feed.stamp(judged) else { break };
                let first = feed.ahead.first().expect("its stamp is known");
                let place = self.cutter.place(at, Offset(first.record.offset), stamp);
                match place {
                    Place::Later => break,
                    Place::Now => self.records.extend(feed.take()),
                    Place::FromFuture => self.from_future.extend(feed.take()),
                }
                any = true;
            }
        }
        Ok(any)
    }

    /// Takes in what is behind the last records, and is none; tells whether there was anything.
    ///
    /// To be told of the end of a partition would do as well, but up to `fetch.wait.max.ms` later.
    fn pass_markers(&mut self) -> anyhow::Result<bool> {
        let mut any = false;
        for cluster in &self.clusters {
            let positions = cluster.consumer.position().context("ask for positions")?;
            for &id in &cluster.ids {
                let full = cluster.asker.connection.topic(id.topic);
                let it = positions.find_partition(&full, id.partition as i32);
                // Before anything is read there is no position; what is held back counts as read.
                let Some(At::Offset(position)) = it.map(|it| it.offset()) else { continue };
                let position = Offset(position as u64);
                let feed = self.feeds.get_mut(&id).expect("a feed for each partition");
                any |= feed.position < position && feed.end.is_some();
                feed.position = feed.position.max(position);
                if feed.ahead.is_empty() && self.cutter.position(id) < position {
                    self.cutter.pass(id, position);
                    any = true;
                }
            }
        }
        Ok(any)
    }

    /// Asks where the partitions end; if nobody answers, it is asked again.
    fn ask(&mut self, now: Millis) -> anyhow::Result<()> {
        let mut ends = BTreeMap::new();
        for cluster in &self.clusters {
            match cluster.asker.ends(&cluster.ids) {
                Ok(found) => ends.extend(found),
                Err(err) if is_away(&err) => {
                    cluster.asker.serve();
                    return Ok(());
                }
                Err(err) => return Err(err),
            }
            // The same broker, and the same credentials.
            cluster.asker.report().reached();
            cluster.consumer.context().reached();
        }
        self.cutter.ends_known(now, ends);
        Ok(())
    }

    /// Serves what is not of a partition: lost connections, and errors that nothing can repair.
    fn serve(&mut self) -> anyhow::Result<()> {
        for cluster in &self.clusters {
            cluster.serve()?;
        }
        // A log that is no longer there is silent, where its end was known to be behind.
        let is_due = self.idle_since.elapsed() > REQUEST_MAX;
        let is_wanted = self.cutter.is_replaying()
            || self.feeds.values().any(|it| it.reading == Reading::Historical);
        if is_due && is_wanted {
            self.idle_since = Instant::now();
            for cluster in &self.clusters {
                let from = cluster.ids.iter().map(|&id| (id, self.feeds[&id].position)).collect();
                match check_beginnings(&cluster.asker, &from) {
                    Err(err) if is_away(&err) => (),
                    done => done?,
                }
            }
        }
        Ok(())
    }
}

impl Stop {
    /// Ends the reading: what is waited for there does not come any more.
    pub fn stop(&self) {
        self.0.stopped.store(true, Ordering::Release);
        self.0.unpark();
    }
}

impl Reader {
    fn unpark(&self) {
        self.thread.lock().expect("nobody panics with it in hand").unpark();
    }
}

impl Cluster {
    fn serve(&self) -> anyhow::Result<()> {
        self.asker.serve();
        self.asker.report().check()?;
        self.consumer.context().brokers.look(self.consumer.client());
        match self.consumer.poll(Duration::ZERO) {
            None => (),
            Some(Ok(message)) => {
                bail!("a record of {} came past its queue", message.topic())
            }
            // Nobody joins a group here, so it does not matter whether we may.
            Some(Err(KafkaError::MessageConsumption(code)))
                if is_passing(code) || code == RDKafkaErrorCode::GroupAuthorizationFailed => {}
            Some(Err(err)) => return Err(err).context("read"),
        }
        self.consumer.context().check()
    }
}

/// Refuses boxes that are not of this reading.
fn check_recorded(rules: &Rules, recorded: &[TickBox]) -> anyhow::Result<()> {
    for pair in recorded.windows(2) {
        ensure!(
            pair[0].is_followed_by(&pair[1]),
            "a hole in progress: tick {} does not follow tick {}; start under another planner id",
            pair[1].tick,
            pair[0].tick
        );
    }
    let Some(last) = recorded.last() else { return Ok(()) };
    ensure!(
        last.tick_ms == rules.tick_ms,
        "progress was written with ticks of {} ms, and the configuration says {} ms: set it back, \
         or start under another planner id",
        last.tick_ms,
        rules.tick_ms
    );
    Ok(())
}

fn consumer(
    input: &Input,
    inputs: &Inputs,
    partitions: usize,
) -> anyhow::Result<BaseConsumer<Report>> {
    let queue = (QUEUES_KBYTES_MAX / partitions).clamp(*QUEUE_KBYTES.start(), *QUEUE_KBYTES.end());
    let mut client = input.connection.reader(&inputs.name)?;
    // For each partition, since each has a queue of its own. A tick needs no more at a time.
    client.set("queued.max.messages.kbytes", queue.to_string());
    create(&client, Report::new(&input.connection.bootstrap_servers), "reading")
}
