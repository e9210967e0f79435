//! Talks to Kafka: the only code that names its client.
//!
//! ```text
//!  partitions ──> source ──> ticks          ticks ──> sink ──> one transaction each
//!  a topic, or its end ──> tail             records ──> writer
//!  queries ──> logger, which holds nobody up
//!  partitions, by hand ──> follow           a share of a topic's ──> group ──> what is done
//!  what topics there are <──> admin         whose turn it is <── standby
//!  embedded: a broker in this process
//! ```
//!
//! * Nothing of the client's is in a signature that leaves this module.
//! * Every option is set here, with its reason.
//! * **A broker that is away is waited for**, by the client; see `report` for what it says of it.

mod brokers;
mod report;
mod ask;
pub mod gap;
mod feed;
mod queues;
pub mod source;
pub mod sink;
pub mod writer;
pub mod logger;
pub mod tail;
pub mod follow;
pub mod group;

pub mod admin;
pub mod embedded;
pub mod standby;
pub mod registry;

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, bail};
use opentelemetry::KeyValue;
use rdkafka::ClientConfig;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, Headers, Message, OwnedHeaders, Timestamp};
use rdkafka::producer::BaseRecord;
use schemas::{Millis, dead_letter};
use serde::{Deserialize, Serialize};

use crate::telemetry::metrics;
pub use crate::tick::tick_box::TopicPartition;

/// How long one request to Kafka may take, retries included.
const REQUEST_MAX: Duration = Duration::from_secs(10);

/// Nobody may set these: promises rest on them.
const FIXED: [&str; 10] = [
    "bootstrap.servers",
    "transactional.id",
    "enable.idempotence",
    "partitioner",
    "group.instance.id",
    "enable.auto.commit",
    "isolation.level",
    "auto.offset.reset",
    "enable.partition.eof",
    "delivery.report.only.error",
];

/// How to reach a cluster, and what a person wants of the client.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Connection {
    pub bootstrap_servers: String,
    /// Stands before the name of every topic.
    pub prefix: String,
    /// Verbatim to librdkafka, for every client.
    pub properties: BTreeMap<String, String>,
    /// Verbatim to librdkafka; these win over `properties`.
    pub producer: ClientProperties,
    pub consumer: ClientProperties,
    /// The broker is one of [`embedded`], with its limits.
    #[serde(skip)]
    pub embedded: bool,
}

/// `[kafka.producer.properties]` and `[kafka.consumer.properties]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ClientProperties {
    pub properties: BTreeMap<String, String>,
}

impl Connection {
    /// Returns the full name of a topic.
    pub fn topic(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    /// Returns the options of everything that reads.
    fn reader(&self, name: &str) -> anyhow::Result<ClientConfig> {
        let mut client = self.client(name);
        client
            // Assigning by hand needs a name all the same; no group is joined.
            .set("group.id", format!("{}{name}", self.prefix))
            // A queue that was full is filled again soon: else a fast reader waits for a second.
            .set("fetch.queue.backoff.ms", "10")
            // One that was full waits for the fetch of the others that is under way. An embedded broker does
            // not answer before, though a record comes.
            .set("fetch.wait.max.ms", if self.embedded { "10" } else { "100" });
        self.set(&mut client, "kafka.properties", &self.properties)?;
        self.set(&mut client, "kafka.consumer.properties", &self.consumer.properties)?;
        client
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            // The outputs of an aborted tick do not exist.
            .set("isolation.level", "read_committed")
            // A hole in the log is an error, not a jump.
            .set("auto.offset.reset", "error");
        Ok(client)
    }

    /// Returns the options of everything that writes.
    fn producer(&self, name: &str) -> anyhow::Result<ClientConfig> {
        let mut client = self.client(name);
        // A dead letter holds the largest record of any other topic.
        client.set("message.max.bytes", "5242880");
        // What waits to be sent is bounded: who sends more waits, too.
        client.set("queue.buffering.max.messages", "100000");
        client.set("queue.buffering.max.kbytes", "65536");
        // Whoever writes waits for what was written, so nothing waits for more; what comes while a request
        // is under way goes together all the same.
        client.set("linger.ms", "0");
        self.set(&mut client, "kafka.properties", &self.properties)?;
        self.set(&mut client, "kafka.producer.properties", &self.producer.properties)?;
        client
            // A request that is sent again counts once, and the order stays.
            .set("enable.idempotence", "true")
            // As Java clients do, so that a key is in the same partition whoever writes it.
            .set("partitioner", "murmur2_random");
        Ok(client)
    }

    fn client(&self, name: &str) -> ClientConfig {
        let mut client = ClientConfig::new();
        client
            .set("bootstrap.servers", &self.bootstrap_servers)
            .set("client.id", format!("isotherm-{name}"))
            // A broker that is away is asked for again soon, but not twenty times a second.
            .set("reconnect.backoff.ms", "100")
            .set("reconnect.backoff.max.ms", "2000")
            // A cluster whose brokers were missing for a moment is looked at again soon, and not in five
            // minutes: until then a reader may know of no leader.
            .set("topic.metadata.refresh.interval.ms", "10000")
            // Quick to see that a broker is gone that does not say so.
            .set("socket.keepalive.enable", "true")
            .set_log_level(RDKafkaLogLevel::Info);
        client
    }

    fn set(
        &self,
        client: &mut ClientConfig,
        table: &str,
        properties: &BTreeMap<String, String>,
    ) -> anyhow::Result<()> {
        for (name, value) in properties {
            if FIXED.contains(&name.as_str()) {
                bail!("[{table}] sets {name}, which is not to be chosen: take the line out");
            }
            client.set(name, value);
        }
        Ok(())
    }
}

impl Record {
    fn new(topic: &'static str, message: &impl Message) -> Self {
        Self {
            at: TopicPartition { topic, partition: message.partition() as u32 },
            offset: message.offset() as u64,
            // Before the epoch, or none at all: counts as late, never as early.
            stamp: Millis(message.timestamp().to_millis().unwrap_or(0).max(0) as u64),
            key: message.key().map(<[u8]>::to_vec),
            value: message.payload().map(<[u8]>::to_vec),
            headers: headers(message),
        }
    }
}

/// Most records have none, and allocate nothing.
fn headers(message: &impl Message) -> Vec<(String, Vec<u8>)> {
    let header = |it: Header<'_, &[u8]>| (it.key.to_owned(), it.value.unwrap_or_default().to_vec());
    message.headers().map_or_else(Vec::new, |it| it.iter().map(header).collect())
}

/// A record as it came; what it says is for the reader to decode.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    pub at: TopicPartition,
    pub offset: u64,
    pub stamp: Millis,
    /// `None`: no key at all.
    pub key: Option<Vec<u8>>,
    /// `None`: a tombstone.
    pub value: Option<Vec<u8>>,
    pub headers: Vec<(String, Vec<u8>)>,
}

impl Record {
    /// Returns the value of the first header of that name.
    pub fn header(&self, name: &str) -> Option<&[u8]> {
        self.headers.iter().find(|it| it.0 == name).map(|it| it.1.as_slice())
    }
}

/// A record to be written. The topic is without the configured prefix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    pub topic: &'static str,
    /// `None`: by the key, as Java clients do.
    pub partition: Option<u32>,
    /// `None`: the wall clock at the time of writing.
    pub stamp: Option<Millis>,
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    pub headers: Vec<(&'static str, Vec<u8>)>,
}

impl Output {
    /// The record of `dead_letter` for what could not be used: its bytes, where it was, and why.
    pub fn dead_letter(
        (at, offset): (TopicPartition, u64),
        (key, value): (Option<Vec<u8>>, Option<Vec<u8>>),
        reason: &'static str,
        detail: &str,
    ) -> Self {
        let text = |text: &str| text.as_bytes().to_vec();
        let headers = vec![
            (dead_letter::HEADER_TOPIC, text(at.topic)),
            (dead_letter::HEADER_PARTITION, text(&at.partition.to_string())),
            (dead_letter::HEADER_OFFSET, text(&offset.to_string())),
            (dead_letter::HEADER_REASON, text(reason)),
            (dead_letter::HEADER_DETAIL, text(detail)),
        ];
        let key = key.or_else(|| Some(text(at.topic)));
        Self { topic: dead_letter::TOPIC, partition: None, stamp: None, key, value, headers }
    }

    /// A record with a key and a value, and nothing else.
    pub fn new(topic: &'static str, key: Vec<u8>, value: Vec<u8>) -> Self {
        let (key, value) = (Some(key), Some(value));
        Self { topic, partition: None, stamp: None, key, value, headers: Vec::new() }
    }
}

/// Counts the output, if it is a dead letter, by the topic that it was on and the reason.
fn count_letter(output: &Output) {
    if output.topic != dead_letter::TOPIC {
        return;
    }
    let header = |name| {
        let found = output.headers.iter().find(|it| it.0 == name);
        found.map_or_else(String::new, |it| String::from_utf8_lossy(&it.1).into_owned())
    };
    let attributes = [
        KeyValue::new(metrics::TOPIC, header(dead_letter::HEADER_TOPIC)),
        KeyValue::new(metrics::REASON, header(dead_letter::HEADER_REASON)),
    ];
    metrics::get().dead_letters.add(1, &attributes);
}

/// Tells whether the stamp of a record is by its writer's clock.
fn is_by_writer(message: &impl Message) -> bool {
    matches!(message.timestamp(), Timestamp::CreateTime(_) | Timestamp::NotAvailable)
}

/// Returns the output as the client takes it.
fn to_send<'a>(topic: &'a str, output: &'a Output) -> BaseRecord<'a, [u8], [u8]> {
    let mut record = BaseRecord::to(topic);
    record.key = output.key.as_deref();
    record.payload = output.value.as_deref();
    record.partition = output.partition.map(|it| it as i32);
    record.timestamp = output.stamp.map(|it| it.0 as i64);
    if !output.headers.is_empty() {
        let headers = OwnedHeaders::new_with_capacity(output.headers.len());
        let insert = |headers: OwnedHeaders, (key, value): &(&'static str, Vec<u8>)| {
            headers.insert(Header { key, value: Some(value) })
        };
        record.headers = Some(output.headers.iter().fold(headers, insert));
    }
    record
}

/// Tells whether the client repairs this by itself: it connects again until it is closed.
fn passes(err: &KafkaError) -> bool {
    err.rdkafka_error_code().is_some_and(is_passing)
}

fn is_passing(code: RDKafkaErrorCode) -> bool {
    use RDKafkaErrorCode as Code;
    matches!(
        code,
        Code::AllBrokersDown
            | Code::BrokerTransportFailure
            | Code::OperationTimedOut
            | Code::MessageTimedOut
            | Code::RequestTimedOut
            | Code::Resolve
            | Code::LeaderNotAvailable
            | Code::NotLeaderForPartition
            | Code::BrokerNotAvailable
            // It is in no answer of the cluster for a moment, and is connected to again when it is.
            | Code::DestroyBroker
            // The answer has neither brokers nor topics.
            | Code::Partial
            | Code::NetworkException
            // Just started, or another leads the partition now: the client asks anew.
            | Code::FencedLeaderEpoch
            | Code::UnknownLeaderEpoch
            | Code::OffsetNotAvailable
            | Code::ReplicaNotAvailable
            | Code::KafkaStorageError
            | Code::CoordinatorLoadInProgress
            | Code::CoordinatorNotAvailable
            | Code::NotCoordinator
            | Code::WaitingForCoordinator
            // These do not pass; but the report of the client gives them their time.
            | Code::Authentication
            | Code::SSL
    )
}

/// Returns what the clock on the wall says, as stamps of records have it.
pub fn wall_clock() -> Millis {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is later than 1970");
    Millis(since.as_millis() as u64)
}

/// Makes the client that the options describe.
fn create<T>(config: &ClientConfig, context: report::Report, what: &str) -> anyhow::Result<T>
where
    T: rdkafka::config::FromClientConfigAndContext<report::Report>,
{
    config.create_with_context(context).with_context(|| {
        format!("make the {what} client: an option in [kafka] is not what librdkafka takes")
    })
}
