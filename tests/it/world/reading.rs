//! Tells what is on the topics.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use isotherm::kafka::Record;
use isotherm::kafka::source::Start;
use isotherm::kafka::tail::{scan, tail};
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::Message;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use schemas::Millis;
use schemas::planner_progress::{Progress, TickDone};
use schemas::wire::{Record as _, decode};

use super::{PATIENCE, World};

impl World {
    /// Returns what is committed on a topic, each partition in its order.
    pub fn records(&self, topic: &'static str) -> Vec<Record> {
        let mut records = Vec::new();
        scan(&self.connection, topic, Start::Beginning, |it| {
            records.push(it);
            ControlFlow::Continue(())
        })
        .unwrap();
        records
    }

    /// Returns the values that are committed on a topic.
    pub fn values<R: schemas::wire::Record>(&self) -> Vec<R> {
        let records = self.records(R::TOPIC).into_iter();
        records.filter_map(|it| it.value).map(|it| decode(&it).unwrap()).collect()
    }

    pub fn ticks(&self) -> Vec<TickDone> {
        self.ticks_of("planner")
    }

    pub fn ticks_of(&self, id: &str) -> Vec<TickDone> {
        let records = self.records(Progress::TOPIC).into_iter();
        let records = records.filter(|it| it.key.as_deref() == Some(id.as_bytes()));
        let progress = records.map(|it| decode::<Progress>(&it.value.unwrap()).unwrap());
        progress.filter_map(|it| it.tick).collect()
    }

    /// Returns the last tick that is committed.
    pub fn last_tick(&self) -> Option<u64> {
        // Between ticks there may be as many chunks of a snapshot.
        let last = tail(&self.connection, Progress::TOPIC, 12).unwrap();
        let progress = last.iter().map(|it| decode::<Progress>(it.value.as_deref().unwrap()));
        let last = progress.filter_map(|it| it.unwrap().tick);
        last.map(|it| it.tick).max()
    }

    /// Returns what is on a topic, aborted or not, and only as records.
    pub fn uncommitted(&self, topic: &str) -> Vec<Raw> {
        let mut client = ClientConfig::new();
        client
            .set("bootstrap.servers", &self.connection.bootstrap_servers)
            .set("group.id", "counts")
            .set("enable.auto.commit", "false")
            .set("isolation.level", "read_uncommitted")
            .set("enable.partition.eof", "true");
        let consumer: BaseConsumer = client.create().unwrap();
        let full = self.connection.topic(topic);
        let metadata = consumer.fetch_metadata(Some(&full), PATIENCE).unwrap();
        let mut open: BTreeSet<i32> =
            metadata.topics()[0].partitions().iter().map(|it| it.id()).collect();
        let mut list = TopicPartitionList::new();
        for it in &open {
            list.add_partition_offset(&full, *it, Offset::Beginning).unwrap();
        }
        consumer.assign(&list).unwrap();
        let mut records = Vec::new();
        let deadline = Instant::now() + PATIENCE;
        while !open.is_empty() {
            assert!(Instant::now() < deadline, "{full} does not end");
            match consumer.poll(Duration::from_millis(100)) {
                Some(Ok(message)) => records.push(Raw::new(&message)),
                Some(Err(KafkaError::PartitionEOF(partition))) => _ = open.remove(&partition),
                Some(Err(err)) => panic!("{err}"),
                None => (),
            }
        }
        records
    }
}

/// A record, committed or not.
pub struct Raw {
    pub partition: u32,
    pub offset: u64,
    pub stamp: Millis,
    pub key: Vec<u8>,
    pub value: Option<Vec<u8>>,
}

impl Raw {
    fn new(message: &impl Message) -> Self {
        Self {
            partition: message.partition() as u32,
            offset: message.offset() as u64,
            stamp: Millis(message.timestamp().to_millis().unwrap_or(0) as u64),
            key: message.key().unwrap_or_default().to_vec(),
            value: message.payload().map(<[u8]>::to_vec),
        }
    }
}
