//! Shares the partitions of a topic with the other members of a group, and stores what is done.
//!
//! ```text
//!  group ── Assigned (partition, stored offset, its text) ──> member
//!  partitions ── Record ──────────────────────────────────>
//!  group ── Revoked ──────────────────────────────────────>  ends its work on them, commits,
//!        <── commit (partition, offset, text) ── each stored or not   and polls again: let go
//! ```
//!
//! * **Who is asked to let go may finish first.** A revoked partition goes at the next poll; until then
//!   commits of it are taken, unless it is lost: then another has it already.
//! * **Others keep what they have.** Partitions move one by one, and the rest is read on meanwhile.
//! * **A commit tells of each partition whether it is stored**, and stores a text with the offset.
//! * **A broker that is away is waited for**, by whoever polls.
//! * **A member with a name that nobody heard for a while joins again**, whoever has its name now. One
//!   that the group hears, and that gives its name to another, ends: there are two of them.
//!
//! That nobody else works on a partition is likely, and no more: a member that was not heard for a
//! while goes on until it learns that. The group is a classic one, as for [`super::standby`].

mod member;
mod begin;

use std::collections::BTreeMap;
use std::ptr::null_mut;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use rdkafka::bindings::{
    rd_kafka_commit_queue, rd_kafka_queue_destroy, rd_kafka_queue_get_consumer,
};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message;
use rdkafka::topic_partition_list::{Offset as At, TopicPartitionList};
use rdkafka::types::RDKafkaRespErr;
use thiserror::Error;
use tracing::info;

use super::ask::{Asker, is_away};
use super::gap::check_beginnings;
use super::queues::{QUEUE_BYTES_MAX, Queues, Waker};
use super::{Connection, REQUEST_MAX, Record, TopicPartition, passes};
use crate::tick::tick_box::Offset;
pub use begin::begin_at_end;
use member::{Change, Member};

/// The group must hear of its member at least this often.
const SERVE_EVERY: Duration = Duration::from_millis(100);

/// An answer to a commit is looked for this often.
const ANSWER_EVERY: Duration = Duration::from_millis(5);

/// A member of a group.
pub struct Group {
    /// Without the prefix.
    group: String,
    /// What it is called there.
    member: Option<String>,
    queues: Queues<Member>,
    asker: Asker,
    topic: &'static str,
    /// What a poll before has said to be revoked.
    leaving: Vec<TopicPartition>,
    /// It was told that it has joined.
    knows: bool,
    served: Instant,
}

/// What a poll brings.
#[derive(Debug)]
pub enum Event {
    Record(Record),
    /// These are ours now, too, and are read from there. None: we have joined, and are given nothing yet.
    Assigned(Vec<Claimed>),
    /// These are ours until the next poll; or not any more, if they are lost: then the group had not heard
    /// of us, and we are to join again.
    Revoked {
        partitions: Vec<TopicPartition>,
        lost: bool,
    },
}

/// A partition that was given to us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claimed {
    pub at: TopicPartition,
    /// Where reading begins: the stored offset, or else the beginning.
    pub from: Offset,
    /// What was stored with the offset.
    pub metadata: Option<String>,
}

/// An offset to be stored: what lies before it is done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Commit {
    pub at: TopicPartition,
    pub offset: Offset,
    pub metadata: String,
}

/// Why an offset was not stored. It may be, if the answer was lost.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{0}")]
pub struct NotStored(pub String);

/// Tells who is refused what is missing.
pub(super) fn may_not_join(group: &str) -> String {
    format!("join group {group}: its principal needs `Read` on it")
}

impl Group {
    /// Joins the group of this name, prefixed as topics are. A member with a name of its own that
    /// is back soon after its end takes its place again at once, and one without leaves it free.
    pub fn join(
        connection: &Connection,
        topic: &'static str,
        group: &str,
        member: Option<&str>,
    ) -> anyhow::Result<Self> {
        let asker = Asker::new(connection, group)?;
        asker.wait()?;
        asker.wait_for(|it| it.partitions(topic))?;
        let (group, member) = (group.to_owned(), member.map(str::to_owned));
        let consumer = joined(connection, topic, &group, member.as_deref())?;
        let queues = Queues::new(consumer, connection);
        let (leaving, served) = (Vec::new(), Instant::now());
        Ok(Self { group, member, queues, asker, topic, leaving, knows: false, served })
    }

    /// Returns a handle by which another thread ends a [`Group::poll`] that waits.
    pub fn waker(&self) -> Waker {
        self.queues.waker()
    }

    /// Returns what comes next; `None` if nothing comes in time, or the wait was ended.
    pub fn poll(&mut self, timeout: Duration) -> anyhow::Result<Option<Event>> {
        self.let_go()?;
        if self.member().is_fenced() {
            return self.join_again();
        }
        if self.served.elapsed() > SERVE_EVERY {
            self.serve()?;
        }
        self.queues.begin_wait();
        let deadline = Instant::now() + timeout;
        loop {
            if let Some(event) = self.changed()? {
                return Ok(Some(event));
            }
            if let Some(record) = self.queues.take(&self.asker)? {
                self.queues.consumer().context().report.reached();
                return Ok(Some(Event::Record(record)));
            }
            let known = self.member().changes().len();
            self.serve()?;
            if known < self.member().changes().len() {
                continue;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() || self.queues.wait(left.min(SERVE_EVERY)) {
                return Ok(None);
            }
        }
    }

    /// Of this partition no record comes until it is resumed; what is fetched of it is kept.
    pub fn pause(&mut self, at: TopicPartition) {
        self.queues.set_paused(at, true);
    }

    pub fn resume(&mut self, at: TopicPartition) {
        self.queues.set_paused(at, false);
    }

    /// Returns how far each partition is read, behind markers too.
    pub fn positions(&mut self) -> anyhow::Result<BTreeMap<TopicPartition, Offset>> {
        self.queues.positions()
    }

    /// Returns where each partition ends now, its last stable offset, and how far it is read. `None`: a
    /// broker is away.
    pub fn ends(&mut self) -> anyhow::Result<Option<BTreeMap<TopicPartition, (Offset, Offset)>>> {
        match self.asker.ends(&self.queues.ids()) {
            Ok(ends) => {
                let positions = self.positions()?;
                let both = |(at, end)| Some((at, (end, *positions.get(&at)?)));
                Ok(Some(ends.into_iter().filter_map(both).collect()))
            }
            Err(err) if is_away(&err) => {
                self.asker.serve();
                Ok(None)
            }
            Err(err) => Err(err),
        }
    }

    /// Stores offsets, and tells of each whether it is stored. Waits for the answer.
    pub fn commit(
        &self,
        commits: &[Commit],
    ) -> anyhow::Result<Vec<(TopicPartition, Result<(), NotStored>)>> {
        // The broker takes commits of a member for any partition, also for one that it has let go.
        let held = self.queues.ids();
        let (commits, others): (Vec<_>, Vec<_>) =
            commits.iter().cloned().partition(|it| held.contains(&it.at));
        let mut res = not_stored(&others, "it is not this member's any more");
        res.extend(self.store(&commits)?);
        Ok(res)
    }

    fn store(
        &self,
        commits: &[Commit],
    ) -> anyhow::Result<Vec<(TopicPartition, Result<(), NotStored>)>> {
        let Some(list) = self.list(commits)? else { return Ok(Vec::new()) };
        *self.member().answer() = None;
        if let Err(code) = self.ask_to_store(&list) {
            return Ok(not_stored(commits, &code.to_string()));
        }
        let deadline = Instant::now() + REQUEST_MAX;
        while Instant::now() < deadline {
            self.serve_for(ANSWER_EVERY)?;
            if self.member().is_fenced() {
                break;
            }
            let Some(answer) = self.member().answer().take() else { continue };
            // That to an earlier commit, which was given up, is none to this one.
            if let Some(told) = answer.to(commits) {
                return Ok(told);
            }
        }
        Ok(not_stored(commits, &self.member().report.reason()))
    }

    fn list(&self, commits: &[Commit]) -> anyhow::Result<Option<TopicPartitionList>> {
        let mut list = TopicPartitionList::new();
        let topic = self.asker.connection.topic(self.topic);
        for it in commits {
            let offset = At::Offset(it.offset.0 as i64);
            list.add_partition_offset(&topic, it.at.partition as i32, offset)?;
            let mut last = list.find_partition(&topic, it.at.partition as i32);
            last.as_mut().expect("it was added").set_metadata(&it.metadata);
        }
        Ok(Some(list).filter(|it| it.count() > 0))
    }

    /// Sends a commit; the answer comes as an event. The client's own call that waits for it tells of
    /// an error only if it is one of all partitions, and waits without end.
    fn ask_to_store(&self, list: &TopicPartitionList) -> Result<(), RDKafkaErrorCode> {
        let client = self.queues.consumer().client().native_ptr();
        // SAFETY: client and list live; the list is copied, and the queue has a count of its users.
        let code = unsafe {
            let queue = rd_kafka_queue_get_consumer(client);
            let code = rd_kafka_commit_queue(client, list.ptr(), queue, None, null_mut());
            rd_kafka_queue_destroy(queue);
            code
        };
        let taken = code == RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR;
        if taken { Ok(()) } else { Err(code.into()) }
    }

    /// Joins as a new member, and tells that what this one had is lost.
    fn join_again(&mut self) -> anyhow::Result<Option<Event>> {
        info!(group = self.group, "joins its group again, which had not heard of it for too long");
        self.member().close();
        let partitions = self.queues.ids();
        let member = self.member.as_deref();
        let consumer = joined(&self.asker.connection, self.topic, &self.group, member)?;
        self.queues = self.queues.anew(consumer);
        self.knows = false;
        Ok(Some(Event::Revoked { partitions, lost: true }))
    }

    /// Gives back what the last poll has said to be revoked.
    fn let_go(&mut self) -> anyhow::Result<()> {
        match std::mem::take(&mut self.leaving) {
            leaving if leaving.is_empty() => Ok(()),
            leaving => self.queues.remove(&leaving),
        }
    }

    /// Takes in what the group has said, as far as brokers answer.
    fn changed(&mut self) -> anyhow::Result<Option<Event>> {
        let Some(change) = self.member().changes().front().cloned() else { return Ok(None) };
        let at = |partition: &u32| TopicPartition { topic: self.topic, partition: *partition };
        let event = match change {
            Change::Given(partitions) => {
                let ids: Vec<_> = partitions.iter().map(at).collect();
                let claimed = match self.claim(&ids) {
                    Err(err) if is_away(&err) => {
                        self.asker.serve();
                        return Ok(None);
                    }
                    done => done?,
                };
                let from = claimed.iter().map(|it| (it.at, it.from)).collect();
                self.queues.add(&from)?;
                let is_news = !claimed.is_empty() || !self.knows;
                self.knows = true;
                is_news.then_some(Event::Assigned(claimed))
            }
            Change::Taken { partitions, lost: false } if partitions.is_empty() => {
                self.queues.remove(&[])?;
                None
            }
            Change::Taken { partitions, lost } => {
                self.knows &= !lost;
                let partitions: Vec<_> = partitions.iter().map(at).collect();
                match lost {
                    true => self.queues.remove(&partitions)?,
                    false => self.leaving.clone_from(&partitions),
                }
                Some(Event::Revoked { partitions, lost })
            }
        };
        self.member().next_change();
        Ok(event)
    }

    /// Returns where to begin with partitions that were given to us.
    fn claim(&self, ids: &[TopicPartition]) -> anyhow::Result<Vec<Claimed>> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let topic = self.asker.connection.topic(self.topic);
        let mut list = TopicPartitionList::new();
        ids.iter().for_each(|it| _ = list.add_partition(&topic, it.partition as i32));
        let stored = self.queues.consumer().committed_offsets(list, REQUEST_MAX);
        let stored = stored.context("ask for what the group has stored")?;
        let mut given = BTreeMap::new();
        let mut texts = BTreeMap::new();
        for it in stored.elements() {
            it.error().with_context(|| format!("ask for what the group has stored of {topic}"))?;
            let at = TopicPartition { topic: self.topic, partition: it.partition() as u32 };
            if let At::Offset(offset) = it.offset() {
                given.insert(at, Offset(offset as u64));
                if !it.metadata().is_empty() {
                    texts.insert(at, it.metadata().to_owned());
                }
            }
        }
        check_beginnings(&self.asker, &given)?;
        let fresh: Vec<_> = ids.iter().copied().filter(|it| !given.contains_key(it)).collect();
        given.extend(self.asker.beginnings(&fresh)?);
        let claimed = |(at, from)| Claimed { at, from, metadata: texts.remove(&at) };
        Ok(given.into_iter().map(claimed).collect())
    }

    fn member(&self) -> &Member {
        self.queues.consumer().context()
    }

    fn serve(&mut self) -> anyhow::Result<()> {
        self.served = Instant::now();
        self.asker.serve();
        self.serve_for(Duration::ZERO)
    }

    /// Serves what is not of a partition: what the group says, answers, lost connections.
    fn serve_for(&self, timeout: Duration) -> anyhow::Result<()> {
        let consumer = self.queues.consumer();
        self.member().report.brokers.look(consumer.client());
        match consumer.poll(timeout) {
            None => (),
            Some(Ok(message)) => bail!("a record of {} came past its queue", message.topic()),
            Some(Err(err)) if passes(&err) => (),
            Some(Err(KafkaError::MessageConsumptionFatal(RDKafkaErrorCode::FencedInstanceId)))
                if self.member().report.is_missed() =>
            {
                self.member().fenced();
            }
            Some(Err(KafkaError::MessageConsumptionFatal(code))) => {
                return Err(code).context(
                    "leave the group: another member has the same name, or the group is gone",
                );
            }
            Some(Err(KafkaError::MessageConsumption(
                code @ RDKafkaErrorCode::GroupAuthorizationFailed,
            ))) => {
                return Err(code)
                    .with_context(|| may_not_join(&self.asker.connection.topic(&self.group)));
            }
            // The member joins again by itself.
            Some(Err(err)) => tracing::debug!(%err, "in a group"),
        }
        self.member().report.check()
    }
}

/// Makes a client that joins the group.
fn joined(
    connection: &Connection,
    topic: &str,
    group: &str,
    member: Option<&str>,
) -> anyhow::Result<Arc<BaseConsumer<Member>>> {
    let mut client = connection.reader(group)?;
    client
        .set("queued.max.messages.kbytes", (QUEUE_BYTES_MAX >> 10).to_string())
        .set("group.protocol", "classic")
        // Who has a partition keeps it when others come, unless it is their share.
        .set("partition.assignment.strategy", "cooperative-sticky")
        .set("session.timeout.ms", "6000")
        .set("heartbeat.interval.ms", "1000");
    if let Some(name) = member {
        client.set("group.instance.id", name);
    }
    let context = Member::new(&connection.bootstrap_servers);
    let consumer: BaseConsumer<Member> =
        client.create_with_context(context).context("make the client of the group")?;
    consumer.subscribe(&[&connection.topic(topic)]).context("join the group")?;
    Ok(Arc::new(consumer))
}

fn not_stored(commits: &[Commit], why: &str) -> Vec<(TopicPartition, Result<(), NotStored>)> {
    commits.iter().map(|it| (it.at, Err(NotStored(why.to_owned())))).collect()
}

impl Drop for Group {
    fn drop(&mut self) {
        self.member().close();
    }
}
