//! Reads a topic back, to the end that it has: the last records, or all of them; or goes on from there.
//!
//! The end is where it was when reading began, or a client that waits there would never get away from
//! a topic that is written all the time. It is reached where the client says so or where a record lies
//! behind it, never by counting: the last offsets may be markers and aborted records, of which there is
//! no telling how many.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::topic_partition_list::{Offset as At, TopicPartitionList};
use schemas::Millis;

use super::ask::Asker;
pub use super::ask::Start;
use super::gap::gap;
use super::report::Report;
use super::{Connection, REQUEST_MAX, Record, TopicPartition, create, passes};
use crate::tick::tick_box::Offset;

/// The client's events are served this often while nothing comes.
const SERVE_EVERY: Duration = Duration::from_millis(100);

/// Returns the last `n` records of a topic with one partition, or all, if it has fewer.
pub fn tail(connection: &Connection, topic: &'static str, n: usize) -> anyhow::Result<Vec<Record>> {
    let asker = Asker::new(connection, "tail")?;
    asker.reach()?;
    let ids = asker.partitions(topic)?;
    let [at] = ids[..] else {
        bail!("{topic} has {} partitions, and its order counts: it should have one", ids.len())
    };
    // A topic that was just created may have no leader yet.
    let bounds = |asker: &Asker| Ok((asker.beginnings(&ids)?[&at].0, asker.ends(&ids)?[&at].0));
    let (low, high) = asker.wait_for(bounds)?;
    let consumer = consumer(connection)?;
    // A transaction of one record takes two offsets, an aborted one takes some for nothing.
    let mut reach = n.saturating_mul(2) as u64;
    loop {
        let start = high.saturating_sub(reach).max(low);
        let mut records = Vec::new();
        let starts = BTreeMap::from([(at, Offset(start))]);
        let ends = BTreeMap::from([(at, Offset(high))]);
        read_from(&consumer, connection, starts, Some(ends), |record| {
            records.push(record);
            ControlFlow::Continue(())
        })?;
        if records.len() >= n || start == low {
            return Ok(records.split_off(records.len().saturating_sub(n)));
        }
        reach = reach.saturating_mul(2);
    }
}

/// Tells whether the cluster has a topic.
pub fn has_topic(connection: &Connection, topic: &'static str) -> anyhow::Result<bool> {
    let asker = Asker::new(connection, "tail")?;
    asker.reach()?;
    Ok(!asker.partitions_if_any(topic)?.is_empty())
}

/// Shows every record of a topic from `start` to its end, each partition in its order, until `each`
/// breaks.
pub fn scan(
    connection: &Connection,
    topic: &'static str,
    start: Start,
    each: impl FnMut(Record) -> ControlFlow<()>,
) -> anyhow::Result<()> {
    let asker = Asker::new(connection, "tail")?;
    asker.reach()?;
    // A broker that has just started does not know all at once.
    let ids = asker.wait_for(|it| it.partitions(topic))?;
    let starts = asker.wait_for(|it| it.starts(&ids, start))?;
    let ends = asker.wait_for(|it| it.ends(&ids))?;
    read_from(&consumer(connection)?, connection, starts, Some(ends), each)
}

/// Does the same, and waits for more at the end.
pub fn follow(
    connection: &Connection,
    topic: &'static str,
    start: Start,
    each: impl FnMut(Record) -> ControlFlow<()>,
) -> anyhow::Result<()> {
    let asker = Asker::new(connection, "tail")?;
    asker.reach()?;
    let ids = asker.wait_for(|it| it.partitions(topic))?;
    let starts = asker.wait_for(|it| it.starts(&ids, start))?;
    read_from(&consumer(connection)?, connection, starts, None, each)
}

/// Returns where the first record of each partition is that is stamped at or after `time`, or else
/// its end.
pub fn offsets_at(
    connection: &Connection,
    topic: &'static str,
    time: Millis,
) -> anyhow::Result<BTreeMap<TopicPartition, Offset>> {
    let asker = Asker::new(connection, "tail")?;
    asker.reach()?;
    let ids = asker.wait_for(|it| it.partitions(topic))?;
    asker.wait_for(|it| it.at_time(&ids, time))
}

fn consumer(connection: &Connection) -> anyhow::Result<BaseConsumer<Report>> {
    let mut client = connection.reader("tail")?;
    // Nothing else says that all is read.
    client.set("enable.partition.eof", "true").set("queued.max.messages.kbytes", "4096");
    create(&client, Report::new(&connection.bootstrap_servers), "reading")
}

/// Reads to where partitions end, or else until who reads has had enough.
fn read_from(
    consumer: &BaseConsumer<Report>,
    connection: &Connection,
    starts: BTreeMap<TopicPartition, Offset>,
    ends: Option<BTreeMap<TopicPartition, Offset>>,
    mut each: impl FnMut(Record) -> ControlFlow<()>,
) -> anyhow::Result<()> {
    let Some(topic) = starts.keys().next().map(|it| it.topic) else { return Ok(()) };
    let full = connection.topic(topic);
    let mut list = TopicPartitionList::new();
    for (at, start) in &starts {
        list.add_partition_offset(&full, at.partition as i32, At::Offset(start.0 as i64))?;
    }
    consumer.assign(&list).context("assign")?;
    let mut open = starts;
    let mut deadline = Instant::now() + REQUEST_MAX;
    while !open.is_empty() {
        consumer.context().brokers.look(consumer.client());
        match consumer.poll(SERVE_EVERY) {
            Some(Ok(message)) => {
                let record = Record::new(topic, &message);
                let Some(position) = open.get_mut(&record.at) else { continue };
                if connection.embedded && record.offset != position.0 {
                    return Err(gap(record.at, *position, Some(Offset(record.offset)), connection));
                }
                *position = Offset(record.offset + 1);
                let end = ends.as_ref().and_then(|it| it.get(&record.at));
                if end.is_some_and(|end| end.0 <= record.offset) {
                    open.remove(&record.at);
                    continue;
                }
                deadline = Instant::now() + REQUEST_MAX;
                if each(record).is_break() {
                    return Ok(());
                }
            }
            Some(Err(KafkaError::PartitionEOF(partition))) => {
                if ends.is_some() {
                    open.remove(&TopicPartition { topic, partition: partition as u32 });
                }
            }
            // Nobody joins a group here, so it does not matter whether we may.
            Some(Err(KafkaError::MessageConsumption(
                RDKafkaErrorCode::GroupAuthorizationFailed,
            ))) => (),
            // The client reconnects by itself, and tells.
            Some(Err(err)) if passes(&err) => consumer.context().check()?,
            Some(Err(err)) => return Err(err).with_context(|| format!("read {full}")),
            None if ends.is_none() => consumer.context().check()?,
            None if Instant::now() < deadline => (),
            None => bail!("read {full}: {}", consumer.context().reason()),
        }
    }
    Ok(())
}
