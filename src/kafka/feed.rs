//! Takes over what the client has fetched of one partition, and keeps it until a box has it.
//!
//! ```text
//!  broker ──> queue ──> ahead ──> a box
//!             bytes     one record; of a historical log a hundred, to judge the first by
//! ```

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use rdkafka::consumer::base_consumer::PartitionQueue;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::topic_partition_list::{Offset as At, TopicPartitionList};

use super::ask::Asker;
use super::gap::{failed, gap};
use super::report::Report;
use super::{Connection, Record, TopicPartition, is_by_writer, passes};
use crate::tick::future::{Lookahead, Stamp};
use crate::tick::machine::Reading;
use crate::tick::tick_box::Offset;

pub(super) type Queue = PartitionQueue<Report>;

/// One partition.
pub(super) struct Feed {
    pub(super) at: TopicPartition,
    pub(super) cluster: usize,
    pub(super) reading: Reading,
    pub(super) queue: Queue,
    /// Read, but not in a box yet.
    pub(super) ahead: Lookahead<Fetched>,
    /// What lies before is read.
    pub(super) position: Offset,
    /// Where a historical log ends.
    pub(super) end: Option<Offset>,
    /// Of a broker without markers and compaction.
    pub(super) contiguous: bool,
}

pub(super) struct Fetched {
    pub(super) record: Record,
    pub(super) by_writer: bool,
}

impl Feed {
    /// Takes over what the client has fetched, as much as is needed; tells whether there was any.
    pub(super) fn fetch(&mut self, judged: bool, asker: &Asker) -> anyhow::Result<bool> {
        let mut any = false;
        while self.needs_more(judged) {
            match self.queue.poll(Duration::ZERO) {
                None => break,
                Some(Err(err)) if passes(&err) => (),
                Some(Err(err)) => return Err(failed(asker, self.at, self.position, err)),
                Some(Ok(message)) => {
                    let record = Record::new(self.at.topic, &message);
                    let by_writer = is_by_writer(&message);
                    drop(message);
                    self.take_over(Fetched { record, by_writer }, judged, &asker.connection)?;
                    any = true;
                }
            }
        }
        Ok(any)
    }

    fn take_over(
        &mut self,
        fetched: Fetched,
        judged: bool,
        connection: &Connection,
    ) -> anyhow::Result<()> {
        let offset = Offset(fetched.record.offset);
        if self.contiguous && offset != self.position {
            return Err(gap(self.at, self.position, Some(offset), connection));
        }
        self.position = Offset(offset.0 + 1);
        // What came after the end was known judges nobody.
        if !judged || self.end.is_none_or(|end| offset < end) {
            self.ahead.push(fetched.record.stamp, fetched);
        }
        Ok(())
    }

    fn needs_more(&self, judged: bool) -> bool {
        match judged {
            true => !self.ahead.is_full() && !self.is_at_end(),
            false => self.ahead.is_empty(),
        }
    }

    /// Returns what the stamp of the first record says, if that can be told already.
    pub(super) fn stamp(&self, judged: bool) -> Option<Stamp> {
        let first = self.ahead.first()?;
        match (judged, first.by_writer) {
            (true, _) if !self.ahead.is_full() && !self.is_at_end() => None,
            (true, true) => self.ahead.judge(),
            (_, false) => Some(Stamp::by_broker(first.record.stamp)),
            (false, true) => Some(Stamp::by_writer(first.record.stamp)),
        }
    }

    pub(super) fn take(&mut self) -> Option<Record> {
        self.ahead.take().map(|it| it.record)
    }

    fn is_at_end(&self) -> bool {
        self.end.is_some_and(|end| end <= self.position)
    }
}

/// Assigns every partition, each with a queue of its own, which says when it is no longer empty.
pub(super) fn split(
    consumer: &Arc<BaseConsumer<Report>>,
    connection: &Connection,
    from: &BTreeMap<TopicPartition, Offset>,
    nonempty: impl Fn() + Clone + Send + Sync + 'static,
) -> anyhow::Result<Vec<(TopicPartition, Queue)>> {
    let mut list = TopicPartitionList::new();
    for (at, from) in from {
        let topic = connection.topic(at.topic);
        list.add_partition_offset(&topic, at.partition as i32, At::Offset(from.0 as i64))?;
    }
    consumer.assign(&list).context("assign")?;
    // What is fetched before its queue is split off would come past it. To pause throws that away,
    // and to resume fetches it again.
    consumer.pause(&list).context("pause")?;
    let queues = from.keys().map(|at| {
        let topic = connection.topic(at.topic);
        let queue = consumer.split_partition_queue(&topic, at.partition as i32);
        let mut queue = queue.with_context(|| format!("split off {at}"))?;
        queue.set_nonempty_callback(nonempty.clone());
        Ok((*at, queue))
    });
    let queues = queues.collect::<anyhow::Result<_>>()?;
    consumer.resume(&list).context("resume")?;
    Ok(queues)
}
