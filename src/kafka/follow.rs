//! Follows partitions that are assigned by hand, each from an offset of its own.
//!
//! ```text
//!  assignment 0   from the beginning ──┐
//!  index_update 3 from a position    ──┼─> poll ──> record
//!  table 0..8     later, for a while ──┘     ends ──> where partitions end now
//!                                  positions ──> how far they are read, behind markers too
//! ```
//!
//! * **To the end that it had.** [`Follower::ends`] tells last stable offsets, [`Follower::written_ends`]
//!   those behind what is not committed yet; a partition is read to there when its position is as great,
//!   though what lies before are markers, aborted records or holes.
//! * **One partition can wait alone.** See [`Follower::pause`].
//! * **A gap is an error**, [`super::gap::Gone`]: what retention has deleted is not jumped over.
//! * **A broker that is away is waited for.** Nothing is lost by that.

use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use rdkafka::consumer::Consumer;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message;

use super::ask::{Asker, is_away};
use super::gap::check_beginnings;
use super::queues::{QUEUE_BYTES_MAX, Queues};
use super::report::Report;
use super::{Connection, REQUEST_MAX, Record, TopicPartition, create, is_passing};
use crate::tick::tick_box::Offset;

pub use super::queues::Waker;

/// The client's own events are served this often, though no record comes, or none fails to.
const SERVE_EVERY: Duration = Duration::from_millis(100);

/// More than this, the client does not take.
const QUEUE_KBYTES_MOST: u64 = 2_097_151;

/// So much of a partition the client fetches at a time by default, and no less than that.
const FETCH_BYTES: u64 = 1 << 20;
const FETCH_BYTES_MIN: u64 = 64 << 10;

/// Where to begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum From {
    Beginning,
    End,
    At(Offset),
    /// There, or at the beginning, if what lies before is gone.
    AtOrBeginning(Offset),
}

/// Reads partitions of several topics.
pub struct Follower {
    queues: Queues<Report>,
    asker: Asker,
    /// One that sees what is not committed yet, once it was needed.
    seer: OnceCell<Asker>,
    served: Instant,
    /// Since when nothing has come.
    idle_since: Instant,
}

impl Follower {
    /// Waits for a cluster that is away. Brokers show the name.
    pub fn open(connection: &Connection, name: &str) -> anyhow::Result<Self> {
        Self::open_holding(connection, name, QUEUE_BYTES_MAX)
    }

    /// The same; of each partition so much may be fetched ahead.
    pub fn open_holding(
        connection: &Connection,
        name: &str,
        queue_bytes_max: u64,
    ) -> anyhow::Result<Self> {
        let asker = Asker::new(connection, name)?;
        asker.wait()?;
        let mut client = connection.reader(name)?;
        // For each partition, since each has a queue of its own.
        client.set(
            "queued.max.messages.kbytes",
            (queue_bytes_max >> 10).min(QUEUE_KBYTES_MOST).to_string(),
        );
        if queue_bytes_max < FETCH_BYTES {
            // Else as much as that would come at once. A batch that is larger comes all the same.
            client.set("fetch.message.max.bytes", queue_bytes_max.max(FETCH_BYTES_MIN).to_string());
        }
        let consumer = create(&client, Report::new(&connection.bootstrap_servers), "reading")?;
        let queues = Queues::new(Arc::new(consumer), connection);
        let now = Instant::now();
        Ok(Self { queues, asker, seer: OnceCell::new(), served: now, idle_since: now })
    }

    /// Returns the partitions of a topic, which must be there.
    pub fn partitions(&self, topic: &'static str) -> anyhow::Result<Vec<TopicPartition>> {
        self.asker.wait_for(|it| it.partitions(topic))
    }

    /// Reads these partitions too, from here on. Waits for brokers that are away.
    pub fn add(
        &mut self,
        from: impl IntoIterator<Item = (TopicPartition, From)>,
    ) -> anyhow::Result<()> {
        let from: BTreeMap<_, _> = from.into_iter().collect();
        let held = self.queues.ids();
        for at in from.keys() {
            ensure!(!held.contains(at), "{at} is followed already");
        }
        let of = |wanted| from.iter().filter(move |it| *it.1 == wanted).map(|it| *it.0);
        let clamped = from.iter().filter(|it| matches!(it.1, From::AtOrBeginning(_)));
        let clamped = clamped.map(|it| *it.0);
        let beginnings: Vec<_> = of(From::Beginning).chain(clamped).collect();
        let ends: Vec<_> = of(From::End).collect();
        let mut starts = self.asker.wait_for(|it| it.beginnings(&beginnings))?;
        starts.extend(self.asker.wait_for(|it| it.ends(&ends))?);
        let mut given = BTreeMap::new();
        for (at, from) in &from {
            match from {
                From::Beginning | From::End => (),
                From::At(offset) => _ = given.insert(*at, *offset),
                From::AtOrBeginning(offset) => {
                    let start = starts.entry(*at).or_insert(*offset);
                    *start = (*start).max(*offset);
                }
            }
        }
        self.asker.wait_for(|it| check_beginnings(it, &given))?;
        starts.extend(given);
        self.queues.add(&starts)
    }

    /// Reads these partitions no more.
    pub fn remove(&mut self, ids: &[TopicPartition]) -> anyhow::Result<()> {
        self.queues.remove(ids)
    }

    /// Goes on with a partition at another offset.
    pub fn seek(&mut self, at: TopicPartition, offset: Offset) -> anyhow::Result<()> {
        self.queues.remove(&[at])?;
        self.add([(at, From::At(offset))])
    }

    /// Of this partition no record comes until it is resumed; what is fetched of it is kept.
    ///
    /// Who cannot use a record yet keeps it, pauses its partition and goes on with the others.
    pub fn pause(&mut self, at: TopicPartition) {
        self.queues.set_paused(at, true);
    }

    pub fn resume(&mut self, at: TopicPartition) {
        self.queues.set_paused(at, false);
    }

    /// Returns a handle by which another thread ends a [`Follower::poll`] that waits.
    pub fn waker(&self) -> Waker {
        self.queues.waker()
    }

    /// Returns the next record; `None` if none comes in time, or the wait was ended.
    pub fn poll(&mut self, timeout: Duration) -> anyhow::Result<Option<Record>> {
        if self.served.elapsed() > SERVE_EVERY {
            self.serve()?;
        }
        if let Some(record) = self.take()? {
            return Ok(Some(record));
        }
        self.queues.begin_wait();
        let deadline = Instant::now() + timeout;
        loop {
            if let Some(record) = self.take()? {
                return Ok(Some(record));
            }
            self.serve()?;
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() || self.queues.wait(left.min(SERVE_EVERY)) {
                // What has come in the last moment is not left for the next call.
                return self.take();
            }
        }
    }

    /// Returns where the partitions end now: their last stable offsets. `None`: a broker is away;
    /// ask again.
    pub fn ends(&self) -> anyhow::Result<Option<BTreeMap<TopicPartition, Offset>>> {
        self.ends_by(&self.asker)
    }

    /// The same, behind everything that is written, committed or not. Who has read to there has read all
    /// of every transaction of which something was to be seen, in any partition: one commits in each
    /// partition at a time of its own.
    pub fn written_ends(&self) -> anyhow::Result<Option<BTreeMap<TopicPartition, Offset>>> {
        if self.seer.get().is_none() {
            _ = self.seer.set(self.asker.seeing_all()?);
        }
        self.ends_by(self.seer.get().expect("it was set"))
    }

    fn ends_by(&self, asker: &Asker) -> anyhow::Result<Option<BTreeMap<TopicPartition, Offset>>> {
        match asker.ends(&self.queues.ids()) {
            Ok(ends) => {
                asker.report().reached();
                self.reached();
                Ok(Some(ends))
            }
            Err(err) if is_away(&err) => {
                asker.serve();
                asker.report().check()?;
                Ok(None)
            }
            Err(err) => Err(err),
        }
    }

    /// Returns how far each partition is read: what lies before was returned, or is no record.
    pub fn positions(&mut self) -> anyhow::Result<BTreeMap<TopicPartition, Offset>> {
        self.queues.positions()
    }

    /// Tells whether the partitions are read to these ends. One that is no longer followed is.
    pub fn has_reached(&mut self, ends: &BTreeMap<TopicPartition, Offset>) -> anyhow::Result<bool> {
        let is_there = |(at, position): (TopicPartition, Offset)| {
            ends.get(&at).is_none_or(|end| *end <= position)
        };
        if self.queues.taken().all(is_there) {
            return Ok(true);
        }
        Ok(self.positions()?.into_iter().all(is_there))
    }

    fn take(&mut self) -> anyhow::Result<Option<Record>> {
        let record = self.queues.take(&self.asker)?;
        if record.is_some() {
            self.queues.consumer().context().reached();
            self.idle_since = Instant::now();
        }
        Ok(record)
    }

    fn reached(&self) {
        // The same broker, and the same credentials.
        self.asker.report().reached();
        self.queues.consumer().context().reached();
    }

    /// Serves what is not of a partition: lost connections, and errors that nothing can repair.
    fn serve(&mut self) -> anyhow::Result<()> {
        self.served = Instant::now();
        for it in [Some(&self.asker), self.seer.get()].into_iter().flatten() {
            it.serve();
            it.report().check()?;
        }
        let consumer = self.queues.consumer();
        consumer.context().brokers.look(consumer.client());
        match consumer.poll(Duration::ZERO) {
            None => (),
            Some(Ok(message)) => bail!("a record of {} came past its queue", message.topic()),
            // Nobody joins a group here, so it does not matter whether we may.
            Some(Err(KafkaError::MessageConsumption(code)))
                if is_passing(code) || code == RDKafkaErrorCode::GroupAuthorizationFailed => {}
            Some(Err(err)) => return Err(err).context("read"),
        }
        self.queues.consumer().context().check()?;
        // Where retention has taken what is to be read next, the client may be silent.
        if self.idle_since.elapsed() > REQUEST_MAX {
            self.idle_since = Instant::now();
            let from = self.positions()?;
            match check_beginnings(&self.asker, &from) {
                Err(err) if is_away(&err) => (),
                done => done?,
            }
        }
        Ok(())
    }
}
