//! Says where a group that nobody has joined yet begins.

use anyhow::Context;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::topic_partition_list::{Offset as At, TopicPartitionList};

use super::Commit;
use crate::kafka::ask::Asker;
use crate::kafka::report::Report;
use crate::kafka::{Connection, create};
use crate::tick::tick_box::Offset;

/// Stores for a group without members that all of a topic is done as it is now, with this text each. For
/// a group of which it is known that what was written before is taken care of otherwise.
pub fn begin_at_end(
    connection: &Connection,
    topic: &'static str,
    group: &str,
    text: &dyn Fn(Offset) -> String,
) -> anyhow::Result<()> {
    let asker = Asker::new(connection, group)?;
    asker.wait()?;
    let partitions = asker.wait_for(|it| it.partitions(topic))?;
    let ends = asker.wait_for(|it| it.ends(&partitions))?;
    let commits = ends.into_iter().map(|(at, offset)| {
        let metadata = text(offset);
        Commit { at, offset, metadata }
    });
    let client = connection.reader(group)?;
    let report = Report::new(&connection.bootstrap_servers);
    let consumer: BaseConsumer<Report> = create(&client, report, "group's")?;
    let mut list = TopicPartitionList::new();
    for it in commits {
        let (topic, partition) = (connection.topic(topic), it.at.partition as i32);
        list.add_partition_offset(&topic, partition, At::Offset(it.offset.0 as i64))?;
        let mut last = list.find_partition(&topic, partition);
        last.as_mut().expect("it was added").set_metadata(&it.metadata);
    }
    consumer.commit(&list, CommitMode::Sync).context("store where the group begins")
}
