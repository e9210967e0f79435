//! Holds a queue for each assigned partition, and takes records from them in turn.
//!
//! ```text
//!  index_update 3 ──queue──┐
//!  assignment 0   ──queue──┼─ in turn ─> one record after the other
//!  table 7        ──queue──┘
//!      paused: what is fetched stays, and nobody else waits for it
//! ```
//!
//! * **A paused partition holds up nobody, and loses nothing.** Its queue fills up to its bound, and
//!   the client stops fetching it. To pause it at the client would throw away what is fetched.
//! * **In order, and in turn.** Each partition in its order; of none more than a burst while another
//!   has something.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, Thread};
use std::time::Duration;

use anyhow::Context;
use rdkafka::consumer::base_consumer::PartitionQueue;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::topic_partition_list::{Offset as At, TopicPartitionList};

use super::ask::Asker;
use super::gap::{failed, gap};
use super::{Connection, REQUEST_MAX, Record, TopicPartition, passes};
use crate::tick::tick_box::Offset;

/// What one partition may hold fetched.
pub(super) const QUEUE_BYTES_MAX: u64 = 2 << 20;

/// Of one partition, so many records come in a row while others have some too.
const BURST: u32 = 64;

/// The queues of one consumer.
pub(super) struct Queues<C: ConsumerContext + 'static> {
    /// Dropped before the consumer, which they must not outlive.
    lanes: Vec<Lane<C>>,
    consumer: Arc<BaseConsumer<C>>,
    connection: Connection,
    /// The lane whose turn it is, and how many records it may still give.
    turn: usize,
    left: u32,
    waker: Waker,
}

struct Lane<C: ConsumerContext + 'static> {
    at: TopicPartition,
    queue: PartitionQueue<C>,
    /// What lies before is taken.
    position: Offset,
    paused: bool,
}

/// Ends a wait for records from another thread.
#[derive(Clone)]
pub struct Waker(Arc<Waiting>);

/// The thread that waits for records.
struct Waiting {
    thread: Mutex<Thread>,
    woken: AtomicBool,
}

impl Waker {
    fn new() -> Self {
        let thread = Mutex::new(thread::current());
        Self(Arc::new(Waiting { thread, woken: AtomicBool::new(false) }))
    }

    /// Lets the wait for a record that goes on, or else the next one, end without one.
    pub fn wake(&self) {
        self.0.woken.store(true, Ordering::Release);
        self.unpark();
    }

    fn unpark(&self) {
        self.0.thread.lock().expect("nobody panics with it in hand").unpark();
    }
}

impl<C: ConsumerContext + 'static> Queues<C> {
    pub(super) fn new(consumer: Arc<BaseConsumer<C>>, connection: &Connection) -> Self {
        let (lanes, connection) = (Vec::new(), connection.clone());
        Self { lanes, consumer, connection, turn: 0, left: BURST, waker: Waker::new() }
    }

    /// Without partitions, of another consumer; who wakes these, wakes those.
    pub(super) fn anew(&self, consumer: Arc<BaseConsumer<C>>) -> Self {
        Self { waker: self.waker(), ..Self::new(consumer, &self.connection) }
    }

    pub(super) fn consumer(&self) -> &BaseConsumer<C> {
        &self.consumer
    }

    pub(super) fn waker(&self) -> Waker {
        self.waker.clone()
    }

    /// Assigns partitions beside those that are assigned, which have to be others.
    pub(super) fn add(&mut self, from: &BTreeMap<TopicPartition, Offset>) -> anyhow::Result<()> {
        let list = self.list(from.iter().map(|(at, from)| (*at, At::Offset(from.0 as i64))))?;
        self.consumer.incremental_assign(&list).context("assign")?;
        if from.is_empty() {
            return Ok(());
        }
        // What is fetched before its queue is split off would come past it. To pause throws that
        // away, and to resume fetches it again.
        self.consumer.pause(&list).context("pause")?;
        for (&at, &position) in from {
            let topic = self.connection.topic(at.topic);
            let queue = self.consumer.split_partition_queue(&topic, at.partition as i32);
            let mut queue = queue.with_context(|| format!("split off {at}"))?;
            let waker = self.waker.clone();
            queue.set_nonempty_callback(move || waker.unpark());
            self.lanes.push(Lane { at, queue, position, paused: false });
        }
        self.consumer.resume(&list).context("resume")
    }

    /// Takes partitions away.
    pub(super) fn remove(&mut self, ids: &[TopicPartition]) -> anyhow::Result<()> {
        for lane in self.lanes.extract_if(.., |it| ids.contains(&it.at)) {
            let topic = self.connection.topic(lane.at.topic);
            // Makes the client forget its position at once, which else might be taken for that of a
            // reading that begins here anew. Refused where no fetch has begun: then there is none.
            let here = At::Offset(lane.position.0 as i64);
            _ = self.consumer.seek(&topic, lane.at.partition as i32, here, REQUEST_MAX);
        }
        (self.turn, self.left) = (0, BURST);
        let list = self.list(ids.iter().map(|at| (*at, At::Invalid)))?;
        self.consumer.incremental_unassign(&list).context("take partitions away")
    }

    /// From now on, no record of the partition comes, or they come again where they ended.
    pub(super) fn set_paused(&mut self, at: TopicPartition, paused: bool) {
        if let Some(lane) = self.lanes.iter_mut().find(|it| it.at == at) {
            lane.paused = paused;
        }
    }

    pub(super) fn ids(&self) -> Vec<TopicPartition> {
        self.lanes.iter().map(|it| it.at).collect()
    }

    /// Returns the next record that is there.
    pub(super) fn take(&mut self, asker: &Asker) -> anyhow::Result<Option<Record>> {
        // The first one may have the rest of its turn, and once more a whole one.
        for _ in 0..=self.lanes.len() {
            let Some(lane) = self.lanes.get_mut(self.turn) else { return Ok(None) };
            if self.left > 0
                && !lane.paused
                && let Some(record) = lane.take(asker)?
            {
                self.left -= 1;
                return Ok(Some(record));
            }
            self.turn = (self.turn + 1) % self.lanes.len();
            self.left = BURST;
        }
        Ok(None)
    }

    /// Waits until there may be something to take, or the time is over; tells whether somebody ended
    /// the wait.
    pub(super) fn wait(&self, timeout: Duration) -> bool {
        let waiting = &self.waker.0;
        if waiting.woken.swap(false, Ordering::AcqRel) {
            return true;
        }
        // A queue that is no longer empty ends this, now or since it was found empty.
        thread::park_timeout(timeout);
        waiting.woken.swap(false, Ordering::AcqRel)
    }

    /// The thread that calls this is the one to be woken.
    pub(super) fn begin_wait(&self) {
        let mut thread = self.waker.0.thread.lock().expect("nobody panics with it in hand");
        *thread = thread::current();
    }

    /// Returns where reading stands, behind markers too.
    pub(super) fn positions(&mut self) -> anyhow::Result<BTreeMap<TopicPartition, Offset>> {
        let told = self.consumer.position().context("ask for positions")?;
        let mut res = BTreeMap::new();
        for lane in &mut self.lanes {
            let full = self.connection.topic(lane.at.topic);
            let it = told.find_partition(&full, lane.at.partition as i32);
            // Before anything is read there is no position.
            if let Some(At::Offset(position)) = it.map(|it| it.offset()) {
                lane.position = lane.position.max(Offset(position as u64));
            }
            res.insert(lane.at, lane.position);
        }
        Ok(res)
    }

    /// Returns behind which record reading stands; markers that came since are not counted.
    pub(super) fn taken(&self) -> impl Iterator<Item = (TopicPartition, Offset)> {
        self.lanes.iter().map(|it| (it.at, it.position))
    }

    fn list(
        &self,
        ids: impl Iterator<Item = (TopicPartition, At)>,
    ) -> anyhow::Result<TopicPartitionList> {
        let mut list = TopicPartitionList::new();
        for (at, offset) in ids {
            let topic = self.connection.topic(at.topic);
            list.add_partition_offset(&topic, at.partition as i32, offset)?;
        }
        Ok(list)
    }
}

impl<C: ConsumerContext + 'static> Lane<C> {
    fn take(&mut self, asker: &Asker) -> anyhow::Result<Option<Record>> {
        loop {
            match self.queue.poll(Duration::ZERO) {
                None => return Ok(None),
                Some(Err(err)) if passes(&err) => (),
                Some(Err(err)) => return Err(failed(asker, self.at, self.position, err)),
                Some(Ok(message)) => {
                    let record = Record::new(self.at.topic, &message);
                    let offset = Offset(record.offset);
                    // Of a broker without markers and compaction, offsets have no holes.
                    if asker.connection.embedded && offset != self.position {
                        return Err(gap(self.at, self.position, Some(offset), &asker.connection));
                    }
                    self.position = Offset(offset.0 + 1);
                    return Ok(Some(record));
                }
            }
        }
    }
}
