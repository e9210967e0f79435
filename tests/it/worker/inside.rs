//! A worker in this process, on a broker of its own; the test is planner, channel and clients.

use std::net::Ipv4Addr;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use isotherm::config::{Config, worker::Worker as WorkerConfig};
use isotherm::kafka::Connection;
use isotherm::kafka::source::Start;
use isotherm::kafka::tail::scan;
use isotherm::web::Health;
use isotherm::worker::driver::{Server, Status, Watch};
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use schemas::index_update::{EntryUpdate, IndexUpdate, Watermark};
use schemas::range_segment::{Floor, Kind, RangeSegment};
use schemas::segment_ack::SegmentAck;

use super::*;

const TOPICS: [&str; 8] = [
    "assignment",
    "migrate_range",
    "migration_status",
    "segment_ack",
    "range_segment",
    "index_update",
    "table",
    "node_capacity",
];

/// Of two, which has dead letters only.
const OTHER_BROKER: i32 = 2;

#[test]
fn what_each_step_stores_is_served() {
    let inside = Inside::start();
    inside.update(0, "fig");
    assert_eq!(inside.await_read("k", |_| true), "fig");
    // Its map is the same, and its roles are.
    inside.update(1, "nut");
    assert_eq!(inside.await_read("k", |it| it != "fig"), "nut");
    inside.end();
}

#[test]
fn what_comes_behind_a_dead_letter_is_not_stored_before_that_is_written() {
    let inside = Inside::start();
    inside.update(0, "fig");
    assert_eq!(inside.await_read("k", |_| true), "fig");
    inside.cluster.broker_down(OTHER_BROKER).unwrap();
    inside.write("index_update", "a", b"what?".to_vec());
    inside.update(1, "nut");
    // It waits for Kafka, so it tells nobody what it holds.
    await_that("a worker that waits", || {
        assert_eq!(inside.read("k").as_deref(), Some("fig"));
        inside.ask("GET /v1/held?limit=0", "").contains("not_started").then_some(())
    });
    assert_eq!(inside.read("k").as_deref(), Some("fig"));
    inside.cluster.broker_up(OTHER_BROKER).unwrap();
    assert_eq!(inside.await_read("k", |it| it != "fig"), "nut");
    let letters = inside.records(dead_letter::TOPIC);
    let letters: Vec<_> = letters.into_iter().map(|it| it.value.unwrap()).collect();
    assert_eq!(letters, [b"what?"]);
    inside.end();
}

#[test]
fn source_reads_on_of_what_a_copy_waits_for_when_its_stated_capacity_is_free() {
    // A byte takes half an hour; nothing.
    let [slow, fast] = [2_000_000_000_000_000, 0].map(|copy_mb_us| {
        Inside::start_with(|worker| {
            worker.capacity_us_per_s = Some(1_000_000);
            worker.copy_mb_us = copy_mb_us;
        })
    });
    for inside in [&slow, &fast] {
        inside.update(0, "fig");
        assert_eq!(inside.await_read("k", |_| true), "fig");
        inside.write("migrate_range", "ghost", encode(&MOVE.command(Verb::Start, 1)));
        // So little credit that nothing follows what opens the stream.
        await_that("the stream", || {
            inside.acknowledge(0, 1);
            (!inside.segments().is_empty()).then_some(())
        });
        inside.acknowledge(1, 1 << 20);
    }
    await_that("the end of the stream", || {
        fast.segments().iter().any(|it| it.kind == Kind::End).then_some(())
    });
    let reports = slow.count("node_capacity");
    await_that("two reports", || (reports + 2 <= slow.count("node_capacity")).then_some(()));
    assert_eq!(slow.segments().len(), 1);
    // And reads have their half.
    assert_eq!(slow.read("k").as_deref(), Some("fig"));
    [slow, fast].into_iter().for_each(Inside::end);
}

const MOVE: Move = Move { id: 9, span: ("", ""), from: ("a", 1), to: "ghost" };

struct Inside {
    cluster: MockCluster<'static, DefaultProducerContext>,
    connection: Connection,
    writer: Writer,
    port: u16,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<anyhow::Result<()>>,
    _dir: tempfile::TempDir,
}

struct Looking(Arc<AtomicBool>);

impl Watch for Looking {
    fn told(&mut self, _status: &Status) {}

    fn is_stopping(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

impl Inside {
    fn start() -> Self {
        Self::start_with(|_| ())
    }

    /// Starts node a as it is configured, and lets it own all keys.
    fn start_with(configure: impl FnOnce(&mut WorkerConfig)) -> Self {
        let cluster = MockCluster::new(2).unwrap();
        let leaders =
            TOPICS.map(|it| (it, 1)).into_iter().chain([(dead_letter::TOPIC, OTHER_BROKER)]);
        for (topic, leader) in leaders {
            cluster.create_topic(topic, 1, 1).unwrap();
            cluster.partition_leader(topic, 0, Some(leader)).unwrap();
        }
        let bootstrap_servers = cluster.bootstrap_servers();
        let connection = Connection { bootstrap_servers, embedded: true, ..Connection::default() };
        let dir = tempfile::tempdir().unwrap();
        let mut config = Config { kafka: connection.clone(), ..Config::default() };
        config.worker.node_id = "a".into();
        config.worker.dir = dir.path().to_owned();
        config.worker.disk_reserve_bytes = 0;
        config.worker.report_every = Duration::from_millis(100);
        configure(&mut config.worker);
        let options = isotherm::cli::worker::options(&config).unwrap();
        let listen = (Ipv4Addr::LOCALHOST, 0).into();
        let server = Server::begin(listen, options, &Health::new(&[])).unwrap();
        let port = server.address().port();
        let stop = Arc::<AtomicBool>::default();
        let mut looking = Looking(stop.clone());
        let thread = thread::spawn(move || server.run(u64::MAX, &mut looking));
        let writer = Writer::open(&connection, "test").unwrap();
        let res = Self { cluster, connection, writer, port, stop, thread, _dir: dir };
        let all =
            Assignment { last: true, generation: Generation(1), ..of_table(("", ""), "a", 1, 1) };
        res.write("assignment", "", encode(&all));
        // It reads what comes behind the beginning of its store.
        await_that("an answer", || {
            let floors = vec![Floor { partition: 0, offset: 0 }];
            let watermark = Some(Watermark { floors, via: None });
            let update = IndexUpdate { generation: Generation(1), entry: None, watermark };
            res.write("index_update", "a", encode(&update));
            res.ask_for("k").contains("found").then_some(())
        });
        res
    }

    fn write(&self, topic: &'static str, key: &str, value: Vec<u8>) {
        self.writer.send(&Output::new(topic, key.into(), value)).unwrap();
        self.writer.flush().unwrap();
    }

    /// Sends what key k has from an offset of the table on.
    fn update(&self, offset: u64, payload: &str) {
        let (index_key, primary_key) = (Key("k".into()), Key("p".into()));
        let payload = Some(payload.into());
        let entry = Entry { index_key, primary_key, partition: 0, offset, payload };
        let entry = Some(EntryUpdate { entry, hops: 0 });
        let update = IndexUpdate { generation: Generation(1), entry, watermark: None };
        self.write("index_update", "a", encode(&update));
    }

    /// Grants credit for stream 1 of the move, as its destination does.
    fn acknowledge(&self, next_seq: u64, credit_bytes: u64) {
        let start = MOVE.command(Verb::Start, 1);
        let ack = SegmentAck {
            migration: start.migration,
            generation: start.generation,
            stream: 1,
            next_seq,
            credit_bytes,
            range_start: start.range_start,
            range_end: start.range_end,
            source_epoch: start.source_epoch,
            destination_inbox: start.destination_inbox,
            bandwidth_bytes_per_s: start.bandwidth_bytes_per_s,
            done: false,
        };
        self.write("segment_ack", "a", encode(&ack));
    }

    fn segments(&self) -> Vec<RangeSegment> {
        let all = self.records("range_segment").into_iter();
        all.map(|it| wire::decode(&it.value.unwrap()).unwrap()).collect()
    }

    fn count(&self, topic: &'static str) -> usize {
        self.records(topic).len()
    }

    fn records(&self, topic: &'static str) -> Vec<Record> {
        let mut all = Vec::new();
        scan(&self.connection, topic, Start::Beginning, |it| {
            all.push(it);
            ControlFlow::Continue(())
        })
        .unwrap();
        all
    }

    fn ask(&self, request: &str, body: &str) -> String {
        assert!(!self.thread.is_finished(), "the worker has ended");
        let length = body.len();
        let head = format!("{request} HTTP/1.1\r\nHost: x\r\nConnection: close");
        raw(self.port, format!("{head}\r\nContent-Length: {length}\r\n\r\n{body}").as_bytes())
            .unwrap()
    }

    fn ask_for(&self, key: &str) -> String {
        let body = format!(r#"{{"reads":[{{"what":{{"key":"{key}"}},"epoch":1}}]}}"#);
        self.ask("POST /v1/reads", &body)
    }

    /// Returns the payload of a key, if it has one.
    fn read(&self, key: &str) -> Option<String> {
        let heard = self.ask_for(key);
        let answers: Answers = serde_json::from_str(heard.split_once("\r\n\r\n")?.1).ok()?;
        let Answer::Found(found) = answers.answers.into_iter().next()? else { return None };
        Some(String::from_utf8(found.entries.into_iter().next()?.payload).unwrap())
    }

    fn await_read(&self, key: &str, is_it: impl Fn(&str) -> bool) -> String {
        await_that(&format!("a read of {key}"), || self.read(key).filter(|it| is_it(it)))
    }

    /// Ends it in order.
    fn end(self) {
        self.stop.store(true, Ordering::Release);
        self.thread.join().unwrap().unwrap();
    }
}
