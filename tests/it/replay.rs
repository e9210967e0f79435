//! `isotherm replay`, as a person runs it.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::process::Command;

use isotherm::kafka::admin::{Admin, Topic};
use isotherm::kafka::writer::Writer;
use isotherm::kafka::{Connection, Output};
use isotherm::replay::batcher::{Batches, Cut};
use isotherm::replay::trace::{Assumed, Trace};
use schemas::Millis;
use schemas::query_log::QueriesLogged;
use schemas::wire::{Record as _, encode};
use serde_json::Value;

/// The log is of the spring of 2025; ticks of five seconds.
const START_MS: u64 = 1_743_500_000_000;
const TICK_MS: u64 = 5000;

#[test]
fn short_hot_spot_is_replayed_with_report_picture_and_outputs() {
    let dir = tempfile::tempdir().unwrap();
    let report = replay(
        dir.path(),
        &["--scenario", "moving-hotspot", "--seed", "5", "--ticks", "16", "--duration", "10m"],
    );
    let area = |name: &str| report["overload_node_seconds"][name].as_f64().unwrap();
    assert!(area("first") > 20.0, "{report}");
    assert!(area("isotherm") < area("first") / 2.0, "{report}");
    assert!(area("isotherm") <= area("reactive") * 1.1, "{report}");
    assert_eq!(report["ticks"], 16, "{report}");
    assert!(report["moves"].as_u64().unwrap() > 0, "{report}");
    for topic in ["assignment", "heatmap", "plan", "migrate_range", "planner_progress"] {
        let lines = std::fs::read_to_string(dir.path().join(format!("out/{topic}.jsonl"))).unwrap();
        for line in lines.lines() {
            let value: Value = serde_json::from_str(line).unwrap();
            assert!(value.is_object() || value.is_null(), "{topic}: {line}");
        }
        assert!(!lines.is_empty(), "{topic}");
    }
    let picture = std::fs::read_to_string(dir.path().join("picture.svg")).unwrap();
    assert!(picture.starts_with("<svg") && picture.contains("Overload area"), "it is no picture");
}

#[test]
fn same_log_and_seed_give_the_same_plans() {
    let digest = |seed: &str| {
        let dir = tempfile::tempdir().unwrap();
        let args = ["--scenario", "flash-crowd", "--seed", seed, "--duration", "1m"];
        replay(dir.path(), &args)["plan_digest"].clone()
    };
    assert_eq!(digest("3"), digest("3"));
    assert_ne!(digest("3"), digest("4"));
}

#[test]
fn trace_that_is_none_is_named_with_its_line() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("broken.csv.zst");
    std::fs::write(&path, zstd("time_ms,key,op\n0,1,R\n5,x,W\n")).unwrap();
    let output = isotherm(&["replay", "--trace", path.to_str().unwrap()]);
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(told.contains("line 3") && told.contains("\"x\""), "{told}");
}

#[test]
fn historical_topic_gives_the_plans_of_the_same_trace() {
    let Ok(bootstrap_servers) = std::env::var("ISOTHERM_TEST_KAFKA") else {
        crate::kafka::report(
            "SKIPPED historical_topic: ISOTHERM_TEST_KAFKA is not set, so no topic is replayed",
        );
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let table = table();
    let path = dir.path().join("hot.csv.zst");
    std::fs::write(&path, zstd(&table)).unwrap();
    let prefix = format!("replay-{}-", std::process::id());
    let connection = Connection { bootstrap_servers, prefix, ..Connection::default() };
    write_topic(&connection, &table);

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

/// Two minutes of reads, half of them of a hot spot that stays: it has to be moved.
fn table() -> String {
    let mut table = "time_ms,key,op\n".to_owned();
    let mut state = 88_172_645_463_325_252_u64;
    for i in 0..24_000_u64 {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let key = if state & 1 == 0 { state / 2 % 10_000 } else { 1_000 + state / 2 % 800 };
        let op = if state >> 60 == 0 { 'W' } else { 'R' };
        table += &format!("{},{key},{op}\n", i * 5);
    }
    table
}

/// Writes the log of a trace to a topic that keeps the past.
fn write_topic(connection: &Connection, table: &str) {
    let settings = [("message.timestamp.type", "CreateTime"), ("retention.ms", "-1")];
    let settings = settings.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let topic = Topic { partitions: 8, replication: 1, settings: settings.into() };
    let topics = BTreeMap::from([(QueriesLogged::TOPIC.to_owned(), topic)]);
    Admin::open(connection).unwrap().create(&topics).unwrap();
    let cut = Cut { tick_ms: TICK_MS, partitions: 8, queries_max: 100 };
    let trace =
        Trace::new("table".into(), table.as_bytes(), Millis(START_MS), Assumed::default()).unwrap();
    let writer = Writer::open(connection, "log").unwrap();
    for batch in Batches::new(cut, trace) {
        let batch = batch.unwrap();
        // A log that is over needs no marks of time.
        if batch.queries.queries.is_empty() {
            continue;
        }
        let output = Output::new(QueriesLogged::TOPIC, Vec::new(), encode(&batch.queries));
        let (partition, stamp) = (Some(batch.partition), Some(batch.stamp));
        writer.send(&Output { partition, stamp, key: None, ..output }).unwrap();
    }
    writer.flush().unwrap();
}

fn zstd(text: &str) -> Vec<u8> {
    let mut encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
    encoder.write_all(text.as_bytes()).unwrap();
    encoder.finish().unwrap()
}

/// Replays and returns the report.
fn replay(dir: &Path, args: &[&str]) -> Value {
    std::fs::create_dir_all(dir).unwrap();
    let path = |name: &str| dir.join(name).to_str().unwrap().to_owned();
    let (report, plot, out) = (path("report.json"), path("picture.svg"), path("out"));
    let results = ["--report", &report, "--plot", &plot, "--out", &out];
    let output = isotherm(&[&["replay"], args, &results[..]].concat());
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{args:?}: {told}");
    serde_json::from_slice(&std::fs::read(report).unwrap()).unwrap()
}

fn isotherm(args: &[&str]) -> std::process::Output {
    Command::new(env!("CARGO_BIN_EXE_isotherm")).args(args).output().unwrap()
}
