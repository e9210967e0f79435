//! The same with a topic of a real Kafka, of which nothing is asked but to read.

use std::collections::BTreeMap;
use std::fs;
use std::io::Cursor;
use std::process::Command;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

use isotherm::kafka::admin::{Admin, Topic};
use isotherm::kafka::writer::Writer;
use isotherm::kafka::{Connection, Output};
use isotherm::replay::batcher::{Batch, Batches, Cut};
use isotherm::replay::trace::{Assumed, Trace};
use schemas::node_capacity::{NodeCapacity, NodeState};
use schemas::query_log::{Op, QueriesLogged, QueryLogged};
use schemas::wire::{Record as _, encode};
use schemas::{Inbox, Key, Millis, NodeId};
use serde_json::Value;

use super::{isotherm, replay, table, zstd};
use crate::foreign;
use crate::kafka::broker::BROKER;
use crate::world::{Nodes, World, await_that, now_ms, say};

/// The log is of the spring of 2025; ticks of five seconds.
pub const START_MS: u64 = 1_743_500_000_000;
const TICK_MS: u64 = 5000;

const TIMEOUT: Duration = Duration::from_secs(60);

#[test]
fn historical_topic_gives_the_plans_of_the_same_trace() {
    let Some(connection) = connection("historical") else { return };
    let _here = BROKER.read().unwrap_or_else(PoisonError::into_inner);
    let dir = tempfile::tempdir().unwrap();
    let table = table();
    let path = dir.path().join("hot.csv.zst");
    std::fs::write(&path, zstd(&table)).unwrap();
    write_log(&connection, &table);

    let start = START_MS.to_string();
    let capacity = ["--capacity", "20000,40000,60000,80000"];
    let trace = ["--trace", path.to_str().unwrap(), "--start", &start];
    let of_trace = replay(&dir.path().join("trace"), &[&trace[..], &capacity].concat());
    let servers = ["--bootstrap-servers", &connection.bootstrap_servers];
    let topic = ["--topic", "query_log", "--prefix", &connection.prefix];
    let of_topic = replay(&dir.path().join("topic"), &[&topic[..], &servers, &capacity].concat());
    assert!(of_trace["moves"].as_u64().unwrap() > 0, "{of_trace}");
    for name in ["ticks", "queries", "moves", "splits", "bytes_moved", "plan_digest"] {
        assert_eq!(of_topic[name], of_trace[name], "{name}: {of_topic} {of_trace}");
    }
    let topics = Admin::open(&connection).unwrap().topics().unwrap();
    assert_eq!(topics.len(), 1, "nothing was written to the cluster: {topics:?}");
}

#[test]
fn log_of_others_gives_the_plans_of_the_same_log_in_our_own_form() {
    let own = |batch: &QueriesLogged| encode(batch);
    let avro = |batch: &QueriesLogged| foreign::framed(7, batch);
    type Written<'a> = &'a dyn Fn(&QueriesLogged) -> Vec<u8>;
    let forms: [(&str, Written); 2] = [("own", &own), ("avro", &avro)];
    let dir = tempfile::tempdir().unwrap();
    let (schema, mapping) = (dir.path().join("served.avsc"), dir.path().join("mapping.toml"));
    fs::write(&schema, foreign::SCHEMA).unwrap();
    fs::write(&mapping, foreign::real::MAPPING).unwrap();
    let table = table();
    let mut reports = Vec::new();
    for (name, written) in forms {
        let Some(connection) = connection(&format!("form-{name}")) else { return };
        let _here = BROKER.read().unwrap_or_else(PoisonError::into_inner);
        let writer = log_writer(&connection);
        for mut it in batches(&table) {
            // There is one time for a batch.
            let time = it.queries.queries[0].time;
            it.queries.queries.iter_mut().for_each(|it| it.time = time);
            writer.log(it.partition, it.stamp, written(&it.queries));
        }
        writer.0.flush().unwrap();
        let (schema, mapping) = (schema.to_str().unwrap(), mapping.to_str().unwrap());
        let args = [
            ["--topic", "query_log"],
            ["--prefix", &connection.prefix],
            ["--bootstrap-servers", &connection.bootstrap_servers],
            ["--config", mapping],
            ["--schema", schema],
            ["--capacity", "20000,40000,60000,80000"],
        ];
        reports.push(replay(&dir.path().join(name), args.as_flattened()));
    }
    let [own, avro] = &reports[..] else { panic!("two forms") };
    assert!(own["moves"].as_u64().unwrap() > 0, "{own}");
    // Load is recounted from the records alone.
    let names = ["records", "queries", "late", "moves", "splits", "bytes_moved", "plan_digest"];
    for name in names.into_iter().chain(["dead", "overload_node_seconds"]) {
        assert!(!own[name].is_null(), "{name}: {own}");
        assert_eq!(avro[name], own[name], "{name}: {avro} {own}");
    }
}

#[test]
fn nodes_are_those_of_the_cluster_and_a_reader_needs_no_more_than_to_read() {
    let Some(connection) = connection("reader") else { return };
    let Some(reader) = Reader::new(&connection) else { return };
    let _here = BROKER.read().unwrap_or_else(PoisonError::into_inner);
    let table = table();
    write_log(&connection, &table);
    create(&connection, NodeCapacity::TOPIC, 2);
    let writer = Writer::open(&connection, "nodes").unwrap();
    let report = |node: &str, stamp: u64, capacity_us_per_s: Option<f64>| {
        let value = encode(&report(node, capacity_us_per_s));
        let output = Output::new(NodeCapacity::TOPIC, node.as_bytes().to_vec(), value);
        writer.send(&Output { stamp: Some(Millis(stamp)), ..output }).unwrap();
    };
    for (n, node) in ["n1", "n2", "n3", "n4"].into_iter().enumerate() {
        // The latest before the log begins counts.
        report(node, START_MS - 20_000, Some(1.0));
        report(node, START_MS - 10_000, Some(20_000.0 * (n + 1) as f64));
        report(node, START_MS + 200_000, Some(9e9));
    }
    report("n5", START_MS - 10_000, None);
    report("n6", START_MS - 10_000, Some(f64::NAN));
    writer.flush().unwrap();

    let before = records(&connection);
    reader.allow();
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let (config, report) = (file("isotherm.toml"), file("report.json"));
    fs::write(&config, reader.configuration()).unwrap();
    let line = ["replay", "--topic", "query_log", "--config", &config, "--report", &report];
    let output = until_allowed(&line);
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{told}");
    assert!(told.contains("n5 is not managed") && told.contains("n6: capacity_us_per_s"), "{told}");
    let found: Value = serde_json::from_slice(&fs::read(&report).unwrap()).unwrap();
    let nodes = serde_json::json!({ "n1": 20_000, "n2": 40_000, "n3": 60_000, "n4": 80_000 });
    assert_eq!((&found["nodes"], &found["nodes_from"]), (&nodes, &"node_capacity".into()));

    // The same as with nodes that are stated.
    let dir = tempfile::tempdir().unwrap();
    let servers = ["--bootstrap-servers", &connection.bootstrap_servers];
    let topic = ["--topic", "query_log", "--prefix", &connection.prefix];
    let capacity = ["--capacity", "20000,40000,60000,80000"];
    let stated = super::replay(dir.path(), &[&topic[..], &servers, &capacity].concat());
    assert!(stated["moves"].as_u64().unwrap() > 0, "{stated}");
    assert_eq!(stated["plan_digest"], found["plan_digest"], "{stated} {found}");

    // Who could write would be seen.
    let writer = Writer::open(&reader.connection(), "intruder").unwrap();
    let sent = writer.send(&Output::new("query_log", vec![], vec![])).and_then(|()| writer.flush());
    assert!(sent.is_err(), "the reader may write");
    assert_eq!(records(&connection), before, "something was written");
}

#[test]
fn ticks_are_verified_by_who_may_only_read() {
    let Some(connection) = connection("verifier") else { return };
    let Some(mut reader) = Reader::new(&connection) else { return };
    let Some(world) = World::create("verifier", &[]) else { return };
    reader.plain = world.connection.clone();
    let nodes = Nodes::start(&world.connection);
    let mut planner = world.planner("verifier", None);
    let begin = await_that("a tick", || world.last_tick());
    planner.await_tick(&world, begin + 60);
    planner.signal("-TERM");
    assert!(planner.ended().success());
    drop(nodes);
    let before = records(&world.connection);
    reader.allow();
    let config = world.folder.path().join("reader.toml");
    fs::write(&config, reader.configuration()).unwrap();
    let output = until_allowed(&["replay", "--verify", "--config", config.to_str().unwrap()]);
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{told}{}", String::from_utf8_lossy(&output.stderr));
    assert!(told.contains("come out as they stand"), "{told}");
    assert_eq!(records(&world.connection), before, "something was written");
}

#[test]
fn bad_records_of_a_log_are_counted_by_reason_and_change_no_plan() {
    let Some(clean) = connection("clean") else { return };
    let _here = BROKER.read().unwrap_or_else(PoisonError::into_inner);
    let dir = tempfile::tempdir().unwrap();
    let table = table();
    write_soiled(&clean, &table, &[]);
    let soiled = Connection { prefix: clean.prefix.replace("clean", "soiled"), ..clean.clone() };
    write_soiled(&soiled, &table, &soil());
    let run = |connection: &Connection| {
        let servers = ["--bootstrap-servers", &connection.bootstrap_servers];
        let topic = ["--topic", "query_log", "--prefix", &connection.prefix];
        let dir = dir.path().join(&connection.prefix);
        let capacity = ["--capacity", "20000,40000,60000,80000"];
        (replay(&dir, &[&topic[..], &servers, &capacity].concat()), dir)
    };
    let ((clean, _), (soiled, dir)) = (run(&clean), run(&soiled));
    let dead = serde_json::json!({
        "from_future": 1, "key_too_long": 1, "not_single_object": 1, "unknown_schema": 1,
    });
    assert_eq!((&soiled["dead_by_reason"], &soiled["dead"]), (&dead, &4.into()), "{soiled}");
    assert_eq!((&soiled["late"], &clean["late"]), (&100.into(), &100.into()), "{soiled}");
    assert!(soiled["moves"].as_u64().unwrap() > 0, "{soiled}");
    for name in ["ticks", "moves", "splits", "bytes_moved", "plan_digest"] {
        assert_eq!(soiled[name], clean[name], "{name}: {soiled} {clean}");
    }
    let letters = fs::read_to_string(dir.join("out/dead_letter.jsonl")).unwrap();
    let letters: Vec<Value> = letters.lines().map(|it| serde_json::from_str(it).unwrap()).collect();
    assert_eq!(letters.len(), 4);
    for it in letters {
        assert_eq!(it["headers"]["isotherm.topic"], "query_log", "{it}");
        for name in ["partition", "offset", "reason", "detail"] {
            assert!(it["headers"][format!("isotherm.{name}")].is_string(), "{it}");
        }
        assert!(!it["value"].as_str().unwrap().is_empty(), "{it}");
    }
}

#[test]
fn broker_that_is_not_there_is_named() {
    let output =
        isotherm(&["replay", "--topic", "query_log", "--bootstrap-servers", "127.0.0.1:1"]);
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(told.contains("127.0.0.1:1") && told.contains("refused"), "{told}");
}

/// Who is known as `isotherm`, and may nothing yet.
struct Reader {
    plain: Connection,
    servers: String,
    ca: String,
    script: String,
}

impl Reader {
    fn new(plain: &Connection) -> Option<Self> {
        let names = ["SECURE", "CA", "SCRIPT"].map(|it| format!("ISOTHERM_TEST_KAFKA_{it}"));
        let [Ok(servers), Ok(ca), Ok(script)] = names.each_ref().map(std::env::var) else {
            say(&format!("SKIPPED a reader with few rights: {} are not set", names.join(", ")));
            return None;
        };
        Some(Self { plain: plain.clone(), servers, ca, script })
    }

    /// Lets it read what is there under the prefix, and nothing else: no group, no write.
    fn allow(&self) {
        let Connection { bootstrap_servers, prefix, .. } = &self.plain;
        let status = Command::new(&self.script)
            .args(["tool", "acls", "--bootstrap-server", bootstrap_servers, "--add"])
            .args(["--allow-principal", "User:isotherm", "--operation", "Read"])
            .args(["--resource-pattern-type", "prefixed", "--topic", prefix])
            .stdout(std::process::Stdio::null())
            .status()
            .unwrap();
        assert!(status.success(), "{status}");
    }

    fn properties(&self) -> BTreeMap<String, String> {
        let properties = [
            ("security.protocol", "SASL_SSL"),
            ("sasl.mechanism", "SCRAM-SHA-512"),
            ("sasl.username", "isotherm"),
            ("sasl.password", "isotherm"),
            ("ssl.ca.location", &self.ca),
        ];
        properties.map(|(name, value)| (name.to_owned(), value.to_owned())).into()
    }

    fn connection(&self) -> Connection {
        let (bootstrap_servers, properties) = (self.servers.clone(), self.properties());
        Connection { bootstrap_servers, properties, ..self.plain.clone() }
    }

    fn configuration(&self) -> String {
        let (servers, prefix) = (&self.servers, &self.plain.prefix);
        let mut text = format!("[kafka]\nbootstrap_servers = '{servers}'\nprefix = '{prefix}'\n");
        text += "[kafka.properties]\n";
        for (name, value) in self.properties() {
            text += &format!("'{name}' = '{value}'\n");
        }
        text
    }
}

/// Runs it until the broker knows of the rights that were given.
fn until_allowed(args: &[&str]) -> std::process::Output {
    let deadline = Instant::now() + TIMEOUT;
    loop {
        let output = isotherm(args);
        let told = String::from_utf8_lossy(&output.stderr);
        if !told.contains("uthoriz") {
            return output;
        }
        assert!(Instant::now() < deadline, "the broker does not learn of rights: {told}");
    }
}

pub fn connection(name: &str) -> Option<Connection> {
    let Ok(bootstrap_servers) = std::env::var("ISOTHERM_TEST_KAFKA") else {
        say(&format!("SKIPPED {name}: ISOTHERM_TEST_KAFKA is not set, so no topic is replayed"));
        return None;
    };
    let prefix = format!("{name}-{}-", now_ms());
    Some(Connection { bootstrap_servers, prefix, ..Connection::default() })
}

/// Where each partition of each topic ends.
fn records(connection: &Connection) -> BTreeMap<String, usize> {
    use isotherm::kafka::tail::{Start, scan};
    let topics = Admin::open(connection).unwrap().topics().unwrap();
    let count = |name: String| {
        let topic = isotherm::topics::definitions().into_iter().find(|it| it.name == name).unwrap();
        let mut n = 0;
        scan(connection, topic.name, Start::Beginning, |_| {
            n += 1;
            std::ops::ControlFlow::Continue(())
        })
        .unwrap();
        (name, n)
    };
    topics.into_keys().map(count).collect()
}

fn report(node: &str, capacity_us_per_s: Option<f64>) -> NodeCapacity {
    NodeCapacity {
        node_id: NodeId(node.into()),
        store_id: format!("store of {node}"),
        cpu_load: None,
        memory_load: None,
        io_load: None,
        capacity_us_per_s,
        memory_bytes_total: None,
        memory_bytes_used: None,
        disk_bytes_total: None,
        disk_bytes_used: None,
        endpoint: None,
        inbox: Inbox(0),
        state: NodeState::Up,
        ranges: Vec::new(),
    }
}

/// Writes the log of a trace to a topic that keeps the past.
pub fn write_log(connection: &Connection, table: &str) {
    let writer = log_writer(connection);
    batches(table).for_each(|it| writer.log(it.partition, it.stamp, encode(&it.queries)));
    writer.0.flush().unwrap();
}

/// The same, with a batch whose entries are hours old, and on request with what is no part of it.
fn write_soiled(connection: &Connection, table: &str, soil: &[(u64, Vec<u8>)]) {
    let writer = log_writer(connection);
    for (i, mut it) in batches(table).enumerate() {
        if i == 100 {
            for query in &mut it.queries.queries {
                query.time = Millis(query.time.0 - 3 * 3_600_000);
            }
        }
        writer.log(it.partition, it.stamp, encode(&it.queries));
        if i == 50 {
            for (ahead_ms, value) in soil {
                writer.log(it.partition, Millis(it.stamp.0 + ahead_ms), value.clone());
            }
        }
    }
    writer.0.flush().unwrap();
}

/// What is no part of a log.
fn soil() -> Vec<(u64, Vec<u8>)> {
    let query = |key| {
        let (time, op, cost_us) = (Millis(START_MS), Op::Read, Some(1_000_000));
        let query = QueryLogged { time, key: Key(key), op, cost_us, bytes: 1, estimated: false };
        encode(&QueriesLogged { queries: vec![query] })
    };
    let foreign = [&[0xc3, 1][..], &[7; 8], &[1, 2]].concat();
    let year_ms = 365 * 24 * 3_600_000;
    vec![
        (0, b"no record".to_vec()),
        (0, foreign),
        (0, query(vec![255; 20_000])),
        (year_ms, query(vec![0; 8])),
    ]
}

struct LogWriter(Writer);

fn log_writer(connection: &Connection) -> LogWriter {
    create(connection, QueriesLogged::TOPIC, 8);
    LogWriter(Writer::open(connection, "log").unwrap())
}

impl LogWriter {
    fn log(&self, partition: u32, stamp: Millis, value: Vec<u8>) {
        let output = Output::new(QueriesLogged::TOPIC, Vec::new(), value);
        let (partition, stamp) = (Some(partition), Some(stamp));
        self.0.send(&Output { partition, stamp, key: None, ..output }).unwrap();
    }
}

/// Creates a topic that keeps the past, by the stamps of who writes.
fn create(connection: &Connection, name: &str, partitions: u32) {
    let settings = [("message.timestamp.type", "CreateTime"), ("retention.ms", "-1")];
    let settings = settings.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let topic = Topic { partitions, replication: 1, settings: settings.into() };
    let topics = BTreeMap::from([(name.to_owned(), topic)]);
    Admin::open(connection).unwrap().create(&topics).unwrap();
}

/// A log that is over needs no marks of time.
fn batches(table: &str) -> impl Iterator<Item = Batch> {
    let cut = Cut { tick_ms: TICK_MS, partitions: 8, queries_max: 100 };
    let table = table.as_bytes().to_vec();
    let trace =
        Trace::new("table".into(), Cursor::new(table), Millis(START_MS), Assumed::default());
    let batches = Batches::new(cut, trace.unwrap()).map(Result::unwrap);
    batches.filter(|it| !it.queries.queries.is_empty())
}
