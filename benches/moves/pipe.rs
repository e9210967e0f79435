//! The bare pipe: a tree is read, its entries go through a topic in messages as large as segments, and are
//! written to another tree. No versions, no digests, no protocol.

use std::thread;
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::Message;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use rdkafka::types::RDKafkaErrorCode;

use crate::bare::{Bare, STEP};
use crate::took::{Took, timed};

/// As large as a segment.
const MESSAGE_BYTES: usize = 512 << 10;

/// What a worker's store has by default.
pub const MEMORY_BYTES: u64 = 128 << 20;

/// Two trees, one of them full, and a topic.
pub struct Pipe {
    bootstrap_servers: String,
    topic: String,
    folder: tempfile::TempDir,
    full: Bare,
    entries: u64,
    rounds: usize,
}

impl Pipe {
    pub fn new(bootstrap_servers: &str, topic: &str, entries: &[(Vec<u8>, Vec<u8>)]) -> Self {
        let folder = tempfile::tempdir().expect("a folder for a benchmark");
        let full = Bare::open(&folder.path().join("full"), MEMORY_BYTES);
        for step in entries.chunks(STEP) {
            let mut batch = full.db.batch();
            step.iter().for_each(|(key, value)| batch.insert(&full.entries, key, value));
            batch.commit().expect("there is room");
        }
        let (bootstrap_servers, topic) = (bootstrap_servers.to_owned(), topic.to_owned());
        Self { bootstrap_servers, topic, folder, full, entries: entries.len() as u64, rounds: 0 }
    }

    /// From tree to tree.
    pub fn whole(&mut self) -> Took {
        self.rounds += 1;
        let path = self.folder.path().join(format!("empty-{}", self.rounds));
        let empty = Bare::open(&path, MEMORY_BYTES);
        let took = self.through(|message| {
            let mut batch = empty.db.batch();
            let count = read(message, |key, value| batch.insert(&empty.entries, key, value));
            batch.commit().expect("there is room");
            count
        });
        drop(empty);
        std::fs::remove_dir_all(path).expect("it is ours");
        took
    }

    /// Through the topic only: what is read is forgotten.
    pub fn kafka_alone(&mut self) -> Took {
        let messages = self.messages();
        self.run(messages.into_iter(), |message| read(message, |_, _| ()))
    }

    fn through(&self, write: impl FnMut(&[u8]) -> u64) -> Took {
        let mut entries = self.full.entries.iter();
        let mut is_over = false;
        let messages = std::iter::from_fn(move || {
            let mut message = Vec::with_capacity(MESSAGE_BYTES);
            while !is_over && message.len() < MESSAGE_BYTES {
                let Some(guard) = entries.next() else {
                    is_over = true;
                    break;
                };
                let (key, value) = guard.into_inner().expect("the tree can be read");
                put(&mut message, &key, &value);
            }
            (!message.is_empty()).then_some(message)
        });
        self.run(messages, write)
    }

    fn messages(&self) -> Vec<Vec<u8>> {
        let mut messages = vec![Vec::new()];
        for guard in self.full.entries.iter() {
            let (key, value) = guard.into_inner().expect("the tree can be read");
            if MESSAGE_BYTES <= messages[messages.len() - 1].len() {
                messages.push(Vec::new());
            }
            let last = messages.last_mut().expect("there is one");
            put(last, &key, &value);
        }
        messages
    }

    /// Produces in this thread, consumes in another.
    fn run(
        &self,
        messages: impl Iterator<Item = Vec<u8>> + Send,
        mut write: impl FnMut(&[u8]) -> u64,
    ) -> Took {
        let mut client = ClientConfig::new();
        client.set("bootstrap.servers", &self.bootstrap_servers);
        let consumer: BaseConsumer = client
            .clone()
            .set("group.id", &self.topic)
            .set("enable.auto.commit", "false")
            .set("fetch.wait.max.ms", "10")
            .create()
            .expect("a consumer can be made");
        let producer: BaseProducer = client
            .set("acks", "all")
            .set("enable.idempotence", "true")
            .set("linger.ms", "5")
            .set("message.max.bytes", "2000000")
            .create()
            .expect("a producer can be made");
        let (_, end) = consumer
            .fetch_watermarks(&self.topic, 0, Duration::from_secs(30))
            .expect("the topic is there");
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(&self.topic, 0, Offset::Offset(end)).expect("an offset");
        consumer.assign(&list).expect("it can be assigned");
        let exchange = || {
            thread::scope(|scope| {
                scope.spawn(|| {
                    for message in messages {
                        let mut record =
                            BaseRecord::<(), _>::to(&self.topic).partition(0).payload(&message);
                        while let Err((err, back)) = producer.send(record) {
                            assert_eq!(err.rdkafka_error_code(), Some(RDKafkaErrorCode::QueueFull));
                            producer.poll(Duration::from_millis(1));
                            record = back;
                        }
                        producer.poll(Duration::ZERO);
                    }
                    producer.flush(Duration::from_secs(60)).expect("the broker takes all");
                });
                let mut count = 0;
                while count < self.entries {
                    match consumer.poll(Duration::from_millis(100)) {
                        Some(Ok(message)) => {
                            count += write(message.payload().expect("it has a value"));
                        }
                        Some(Err(err)) => panic!("{err}"),
                        None => (),
                    }
                }
            });
        };
        timed(exchange)
    }
}

fn put(message: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    message.extend((key.len() as u32).to_le_bytes());
    message.extend((value.len() as u32).to_le_bytes());
    message.extend(key);
    message.extend(value);
}

/// Calls back with each entry, and returns how many there are.
fn read(mut message: &[u8], mut each: impl FnMut(&[u8], &[u8])) -> u64 {
    let mut count = 0;
    while let Some((head, rest)) = message.split_first_chunk::<8>() {
        let length = |at: usize| {
            u32::from_le_bytes(head[at..at + 4].try_into().expect("four bytes")) as usize
        };
        let (key, rest) = rest.split_at(length(0));
        let (value, rest) = rest.split_at(length(4));
        each(key, value);
        (message, count) = (rest, count + 1);
    }
    count
}
