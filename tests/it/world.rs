//! A small world around a planner process, on a real Kafka: topics, nodes, application.
//!
//! ```text
//!  planner ── process, can be killed ──> migrate_range, assignment ──> Nodes, a thread
//!     ^                                                                  │ statuses, reports,
//!     └────────────── node_capacity, migration_status, query_log <───────┘ and queries with a hot spot
//! ```
//!
//! The nodes stand in for workers and what is in front of them: a START is IN_PROGRESS and READY, a
//! commit is ACTIVE and COMPLETE, a rebuild is COMPLETE, all at once. The hot spot jumps, so that
//! ranges must move.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLockReadGuard};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use isotherm::assignment::map::{Map, Row};
use isotherm::kafka::admin::{Admin, Topic};
use isotherm::kafka::source::Start;
use isotherm::kafka::tail::{scan, tail};
use isotherm::kafka::writer::Writer;
use isotherm::kafka::{Connection, Output, Record};
use isotherm::topics::definitions;
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::Message;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use schemas::assignment::{Assignment, Source};
use schemas::migrate_range::{Command as Verb, MigrateRange};
use schemas::migration_status::{MigrationStatus, Phase, Status};
use schemas::node_capacity::{NodeCapacity, NodeState, RangeHeld};
use schemas::planner_progress::{Progress, TickDone};
use schemas::query_log::{Op, QueriesLogged, QueryLogged};
use schemas::wire::{Record as _, decode, encode};
use schemas::{Inbox, Key, Millis, NodeId};

use crate::kafka::real::BROKER;

pub const TICK_MS: u64 = 200;

/// How long anything may take that should happen soon: the machine may be busy with other tests.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// Of each node, in microseconds of service a second.
const CAPACITY: f64 = 1_000_000.0;

const NODES: u32 = 3;

/// The hot spot jumps after so many reports.
const STAY: u64 = 60;

/// Topics of one test, while nobody stops the broker.
pub struct World {
    pub connection: Connection,
    pub folder: tempfile::TempDir,
    /// Of the planners that are started from now on.
    pub mode: &'static str,
    pub birth_nodes: u32,
    /// Of `[planner]`, and sections behind it; and of `[policy]`.
    pub more: &'static str,
    pub policy: &'static str,
    _here: Option<RwLockReadGuard<'static, ()>>,
}

impl World {
    /// Creates the topics, or says that the test is skipped. `settings` are by topic, on top of the
    /// declared ones; `partitions` is how many.
    pub fn create(name: &str, settings: &[(&str, &str, &str)]) -> Option<Self> {
        let Ok(bootstrap_servers) = std::env::var("ISOTHERM_TEST_KAFKA") else {
            say(&format!(
                "SKIPPED {name}: ISOTHERM_TEST_KAFKA is not set, so this is not tested on a real Kafka"
            ));
            return None;
        };
        let here = BROKER.read().unwrap_or_else(PoisonError::into_inner);
        let prefix = format!("{name}-{}-", now_ms());
        let connection = Connection { bootstrap_servers, prefix, ..Connection::default() };
        let mut topics = BTreeMap::new();
        for it in definitions() {
            let mut topic =
                Topic { partitions: it.partitions, replication: 1, settings: it.settings };
            for (_, key, value) in settings.iter().filter(|(topic, _, _)| *topic == it.name) {
                match *key {
                    "partitions" => topic.partitions = value.parse().unwrap(),
                    _ => _ = topic.settings.insert((*key).to_owned(), (*value).to_owned()),
                }
            }
            topics.insert(it.name.to_owned(), topic);
        }
        Admin::open(&connection).unwrap().create(&topics).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let (mode, birth_nodes, more, policy) = ("auto", NODES, "", "");
        Some(Self { connection, folder, mode, birth_nodes, more, policy, _here: Some(here) })
    }

    /// Lets go of the broker, so that this test may stop it.
    pub fn leave(&mut self) {
        self._here = None;
    }

    /// Starts a planner; each name has a port, and so a place in the group, of its own.
    pub fn planner(&self, name: &str, fail_points: Option<&str>) -> Process {
        self.planner_of(name, "planner", fail_points)
    }

    /// The same under another planner id.
    pub fn planner_of(&self, name: &str, id: &str, fail_points: Option<&str>) -> Process {
        self.start(name, &["planner", "--id", id], fail_points)
    }

    /// Starts a process that serves its health; each name has a port of its own, and keeps it.
    pub fn start(&self, name: &str, args: &[&str], fail_points: Option<&str>) -> Process {
        let (configuration, log) = (self.path(name, "toml"), self.path(name, "log"));
        let port_file = self.path(name, "port");
        let port = std::fs::read_to_string(&port_file).unwrap_or_else(|_| {
            let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            let port = free.local_addr().unwrap().port().to_string();
            std::fs::write(&port_file, &port).unwrap();
            port
        });
        std::fs::write(&configuration, self.configuration()).unwrap();
        let log = File::options().create(true).append(true).open(log).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_isotherm"));
        let listen = format!("127.0.0.1:{port}");
        command.args(args).args(["--listen", &listen, "--config"]).arg(configuration);
        command.current_dir(&self.folder);
        command.env("NO_COLOR", "1").env_remove("ISOTHERM_LOG").stderr(log);
        if let Some(it) = fail_points {
            command.env("FAILPOINTS", it);
        }
        let child = command.spawn().unwrap();
        Process { child, log: self.path(name, "log"), port: port.parse().unwrap() }
    }

    pub fn configuration(&self) -> String {
        let Connection { bootstrap_servers, prefix, .. } = &self.connection;
        let Self { mode, birth_nodes, more, policy, .. } = self;
        format!(
            r#"
            [kafka]
            bootstrap_servers = "{bootstrap_servers}"
            prefix = "{prefix}"
            [planner]
            mode = "{mode}"
            tick = "{TICK_MS}ms"
            grace = "100ms"
            stale_max_ticks = 50
            snapshot_ticks = 25
            silent_ticks = 100
            birth_nodes = {birth_nodes}
            {more}
            [policy]
            cool_down_ticks = 4
            ranges_max = 200
            {policy}
            "#
        )
    }

    fn path(&self, name: &str, extension: &str) -> PathBuf {
        self.folder.path().join(format!("{name}.{extension}"))
    }

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

    /// Counts what is on a topic, aborted or not, and only as records.
    pub fn count_uncommitted(&self, topic: &str) -> usize {
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
        let mut count = 0;
        let deadline = Instant::now() + PATIENCE;
        while !open.is_empty() {
            assert!(Instant::now() < deadline, "{full} does not end");
            match consumer.poll(Duration::from_millis(100)) {
                Some(Ok(_)) => count += 1,
                Some(Err(KafkaError::PartitionEOF(partition))) => _ = open.remove(&partition),
                Some(Err(err)) => panic!("{err}"),
                None => (),
            }
        }
        count
    }
}

/// A process, running.
pub struct Process {
    child: Child,
    log: PathBuf,
    port: u16,
}

impl Process {
    pub fn signal(&self, signal: &str) {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args([signal, &id]).status().unwrap().success());
    }

    pub fn kill(mut self) {
        self.kill_now();
    }

    /// Another of its name may be started then.
    pub fn kill_now(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// Waits until a tick is committed that is not before this one.
    pub fn await_tick(&mut self, world: &World, tick: u64) -> u64 {
        await_that(&format!("tick {tick}"), || {
            assert!(!self.has_ended(), "the planner has ended before tick {tick}");
            world.last_tick().filter(|it| tick <= *it)
        })
    }

    /// Waits for its end.
    pub fn ended(mut self) -> ExitStatus {
        let log = self.log.clone();
        await_that(&format!("the end of the planner: {log:?}"), || self.child.try_wait().unwrap())
    }

    pub fn log_path(&self) -> PathBuf {
        self.log.clone()
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }

    /// Waits until the log has it so often.
    pub fn await_log(&self, text: &str, n: usize) {
        await_that(&format!("{text} in the log"), || {
            (n <= self.log().matches(text).count()).then_some(())
        });
    }

    /// Asks as curl does, and tells status and body.
    pub fn ask(&self, path: &str) -> Option<(u16, String)> {
        use std::io::{Read, Write};
        let mut stream = std::net::TcpStream::connect(("127.0.0.1", self.port)).ok()?;
        write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        let (head, body) = answer.split_once("\r\n\r\n")?;
        Some((head.split(' ').nth(1)?.parse().ok()?, body.into()))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already.
        _ = self.child.kill();
        _ = self.child.wait();
        if thread::panicking() {
            say(&format!("{}\n{}", self.log.display(), self.log()));
        }
    }
}

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

/// Waits for something to come true.
pub fn await_that<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        thread::park_timeout(Duration::from_millis(10));
    }
}

pub fn now_ms() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.unwrap().as_millis() as u64
}

/// Says it even when the test passes, which is when the harness drops what a test prints.
pub fn say(line: &str) {
    use std::io::Write;
    let mut terminal = std::io::stderr();
    writeln!(terminal, "{line}").unwrap();
}
