//! Nodes that stand in for workers and what is in front of them.
//!
//! A START is IN_PROGRESS and READY, a commit is ACTIVE and COMPLETE, a rebuild is COMPLETE, all at once. The
//! hot spot of queries jumps, so that ranges must move.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use isotherm::assignment::map::{Map, Row};
use isotherm::kafka::writer::Writer;
use isotherm::kafka::{Connection, Output};
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::Message;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use schemas::assignment::{Assignment, Source};
use schemas::migrate_range::{Command as Verb, MigrateRange};
use schemas::migration_status::{MigrationStatus, Phase, Status};
use schemas::node_capacity::{NodeCapacity, NodeState, RangeHeld};
use schemas::query_log::{Op, QueriesLogged, QueryLogged};
use schemas::wire::{decode, encode};
use schemas::{Inbox, Key, Millis, NodeId};

use super::{TICK_MS, now_ms};

/// Of each node, in microseconds of service a second.
const CAPACITY: f64 = 1_000_000.0;

pub const NODES: u32 = 3;

/// The hot spot jumps after so many reports.
const STAY: u64 = 60;

/// The nodes and the application, in a thread of their own.
pub struct Nodes {
    stopped: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Nodes {
    pub fn start(connection: &Connection) -> Self {
        let (stopped, mut round) = (Arc::new(AtomicBool::new(false)), 0);
        let mut play = Play {
            writer: Writer::open(connection, "nodes").unwrap(),
            map: Map::default(),
            said: BTreeSet::new(),
            random: 1,
        };
        let consumer = consumer(connection);
        let (connection, over) = (connection.clone(), stopped.clone());
        let thread = thread::spawn(move || {
            let mut due = Instant::now();
            while !over.load(Ordering::Acquire) {
                let left = due.saturating_duration_since(Instant::now());
                // An error is a broker that is away, and soon back.
                if let Some(Ok(message)) = consumer.poll(left) {
                    let topic = message.topic().strip_prefix(&connection.prefix).unwrap();
                    play.take(topic, message.key().unwrap_or_default(), message.payload());
                }
                if due <= Instant::now() {
                    due += Duration::from_millis(TICK_MS / 2);
                    play.report(round);
                    round += 1;
                }
            }
            play.writer.flush().unwrap();
        });
        Self { stopped, thread: Some(thread) }
    }
}

impl Drop for Nodes {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::Release);
        let ended = self.thread.take().unwrap().join();
        if !thread::panicking() {
            ended.unwrap();
        }
    }
}

/// Reads commands and assignments, committed ones only.
fn consumer(connection: &Connection) -> BaseConsumer {
    let mut client = ClientConfig::new();
    client
        .set("bootstrap.servers", &connection.bootstrap_servers)
        .set("group.id", connection.topic("nodes"))
        .set("enable.auto.commit", "false")
        .set("isolation.level", "read_committed")
        .set("fetch.wait.max.ms", "20");
    let consumer: BaseConsumer = client.create().unwrap();
    let mut list = TopicPartitionList::new();
    for topic in ["assignment", "migrate_range"] {
        list.add_partition_offset(&connection.topic(topic), 0, Offset::Beginning).unwrap();
    }
    consumer.assign(&list).unwrap();
    consumer
}

struct Play {
    writer: Writer,
    map: Map,
    said: BTreeSet<String>,
    random: u64,
}

impl Play {
    fn take(&mut self, topic: &str, key: &[u8], value: Option<&[u8]>) {
        match topic {
            "migrate_range" => {
                let it: MigrateRange = decode(value.unwrap()).unwrap();
                self.commanded(&it);
            }
            "assignment" => {
                let assignment: Option<Assignment> = value.map(|it| decode(it).unwrap());
                if let Some(it) = &assignment {
                    self.assigned(it);
                }
                self.map.apply(&Row { start: Key(key.to_vec()), assignment }).unwrap();
            }
            other => panic!("{other} was not asked for"),
        }
    }

    fn commanded(&mut self, it: &MigrateRange) {
        let status = MigrationStatus {
            migration: it.migration,
            range_start: it.range_start.clone(),
            range_end: it.range_end.clone(),
            teller: it.destination_node.clone(),
            status: Status::InProgress,
            phase: Some(Phase::Copying),
            reason: None,
            epoch: it.source_epoch,
            attempt: 1,
            bytes: 0,
            digest: None,
            partitions_left: Vec::new(),
        };
        match it.command {
            Verb::Start => {
                self.say(&status);
                self.say(&MigrationStatus { phase: Some(Phase::Ready), digest: Some(7), ..status });
            }
            Verb::Cancel => {
                let reason = Some("cancelled".to_owned());
                self.say(&MigrationStatus {
                    status: Status::Failed,
                    phase: None,
                    reason,
                    ..status
                });
            }
            Verb::Unknown => panic!("{it:?}"),
        }
    }

    fn assigned(&mut self, it: &Assignment) {
        let Some(migration) = it.migration else { return };
        let status = MigrationStatus {
            migration,
            range_start: it.range_start.clone(),
            range_end: it.range_end.clone(),
            teller: it.node.clone(),
            status: Status::Complete,
            phase: None,
            reason: None,
            epoch: it.epoch,
            attempt: 1,
            bytes: 0,
            digest: None,
            partitions_left: Vec::new(),
        };
        if it.source == Source::Node {
            let active = (Status::InProgress, Some(Phase::Active));
            self.say(&MigrationStatus { status: active.0, phase: active.1, ..status.clone() });
        }
        self.say(&status);
    }

    /// Says it, once.
    fn say(&mut self, it: &MigrationStatus) {
        if self.said.insert(format!("{} {:?} {:?}", it.migration, it.status, it.phase)) {
            let key = it.migration.to_string().into_bytes();
            self.writer.send(&Output::new("migration_status", key, encode(it))).unwrap();
        }
    }

    /// Every node reports, and is asked something.
    fn report(&mut self, round: u64) {
        for n in 0..NODES {
            let node = NodeId(format!("n{n}"));
            let held = self.map.iter().filter(|it| it.node == node).map(|it| RangeHeld {
                range_start: it.range_start.clone(),
                epoch: it.epoch,
                entries: 1000,
                bytes: 1 << 20,
            });
            let report = NodeCapacity {
                node_id: node.clone(),
                store_id: format!("store of {}", node.0),
                cpu_load: Some(0.3),
                memory_load: None,
                io_load: None,
                capacity_us_per_s: Some(CAPACITY),
                memory_bytes_total: None,
                memory_bytes_used: None,
                disk_bytes_total: Some(1 << 40),
                disk_bytes_used: Some(1 << 30),
                endpoint: Some(format!("127.0.0.1:{}", 9000 + n)),
                inbox: Inbox(n),
                state: NodeState::Up,
                ranges: held.collect(),
            };
            let key = node.0.into_bytes();
            self.writer.send(&Output::new("node_capacity", key, encode(&report))).unwrap();
        }
        let time = Millis(now_ms());
        for partition in 0..8 {
            let queries = (0..8).map(|_| QueryLogged {
                time,
                key: self.key(round),
                op: if self.below(5) == 0 { Op::Write } else { Op::Read },
                cost_us: Some(2_500),
                bytes: 1000,
                estimated: false,
            });
            let value = encode(&QueriesLogged { queries: queries.collect() });
            let output = Output::new("query_log", Vec::new(), value);
            self.writer.send(&Output { partition: Some(partition), key: None, ..output }).unwrap();
        }
    }

    /// Two thirds of the queries are for an eighth of the keys.
    fn key(&mut self, round: u64) -> Key {
        let place = self.below(256);
        let hot = (round / STAY * 96 + place / 8) % 256;
        let first = if self.below(3) == 0 { place } else { hot };
        let rest = self.below(1 << 31).to_be_bytes();
        Key([&[first as u8], &rest[4..]].concat())
    }

    fn below(&mut self, n: u64) -> u64 {
        self.random = self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (self.random >> 32) % n
    }
}
