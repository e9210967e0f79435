//! Talks to Kafka: the only code that names its client.
//!
//! * Nothing of the client's is in a signature that leaves this module.
//! * Every option is set here, with its reason.

use std::collections::BTreeMap;

use schemas::Millis;
use serde::{Deserialize, Serialize};

pub use crate::tick::tick_box::TopicPartition;

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
    /// A record with a key and a value, and nothing else.
    pub fn new(topic: &'static str, key: Vec<u8>, value: Vec<u8>) -> Self {
        let (key, value) = (Some(key), Some(value));
        Self { topic, partition: None, stamp: None, key, value, headers: Vec::new() }
    }
}
