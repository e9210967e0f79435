//! Query logs of others on a real Kafka: a planner that is killed while its registry is away, a replay
//! without any, and what `examples/query_log.py` writes.

use std::path::Path;
use std::process::Command;

use isotherm::kafka::Output;
use isotherm::kafka::writer::Writer;
use schemas::query_log::{Op, QueriesLogged, QueryLogged};
use schemas::wire::Record as _;
use schemas::{Key, Millis, dead_letter};
use serde_json::Value;

use super::registry::Registry;
use super::{SCHEMA, framed, in_json};
use crate::killed::{check_replay, check_whole};
use crate::world::{Nodes, World, await_that, now_ms, say};

pub const MAPPING: &str = r#"
    [query_log]
    format = "auto"
    items = "reads"
    key = ["k"]
    op = "verb"
    ops = ["GET=READ", "PUT=WRITE"]
    time = "sent"
    time_unit = "micros"
    cost = "took_ms"
    cost_unit = "millis"
    bytes = "size"
    [schema_registry]
"#;

/// Writes so many batches, of eight queries each, with the id of a schema or as JSON.
fn write(world: &World, batches: u64, id: Option<u32>) {
    let writer = Writer::open(&world.connection, "foreign").unwrap();
    for n in 0..batches {
        let query = |i: u64| QueryLogged {
            time: Millis(now_ms()),
            key: Key(format!("{:02}-{i}", n % 100).into_bytes()),
            op: if i == 0 { Op::Write } else { Op::Read },
            cost_us: Some(1_500),
            bytes: 100,
            estimated: false,
        };
        let batch = QueriesLogged { queries: (0..8).map(query).collect() };
        let value = id.map_or_else(|| in_json(&batch), |id| framed(id, &batch));
        let output = Output::new(QueriesLogged::TOPIC, Vec::new(), value);
        let partition = Some((n % 8) as u32);
        writer.send(&Output { partition, key: None, ..output }).unwrap();
    }
    writer.flush().unwrap();
}

#[test]
fn planner_of_foreign_logs_goes_on_and_is_replayed_without_its_registry() {
    let Some(mut world) = World::create("foreign", &[]) else { return };
    let registry = Registry::start();
    registry.knows(7, SCHEMA);
    world.more = format!("{MAPPING}    url = \"{}\"", registry.url()).leak();
    let nodes = Nodes::start(&world.connection);
    let mut planner = world.planner("foreign", None);
    let begin = await_that("a tick", || world.last_tick());
    planner.await_told(200, "[+] schemas: 0 of the registry are known");
    write(&world, 100, Some(7));
    write(&world, 100, None);
    write(&world, 3, Some(9));
    planner.await_told(200, "[+] input: not used so far: 3 unknown_schema_id; ");
    planner.await_told(200, "[+] schemas: 1 of the registry are known");
    let tick = planner.await_tick(&world, begin + 60);
    planner.kill();

    // Ticks are run again, and go on, by what is recorded.
    let address = registry.address();
    drop(registry);
    let mut planner = world.planner("foreign", None);
    write(&world, 100, Some(7));
    planner.await_tick(&world, tick + 10);
    planner.await_told(200, "[+] schemas: 1 of the registry are known");
    write(&world, 50, Some(8));
    planner
        .await_told(503, "[-] schemas: the tick waits: the schema registry at http://127.0.0.1:");
    let waits = world.last_tick().unwrap();
    let registry = Registry::start_at(address);
    registry.knows(8, SCHEMA);
    planner.await_told(200, "[+] schemas: 2 of the registry are known");
    planner.await_tick(&world, waits + 40);
    planner.signal("-TERM");
    let log = planner.log();
    assert!(planner.ended().success(), "{log}");
    drop(nodes);
    assert_eq!(registry.asked(), [8]);
    drop(registry);

    check_whole(&world);
    assert_eq!(world.records(dead_letter::TOPIC).len(), 3);
    check_replay(&world, None);
}

#[test]
fn planner_that_waits_for_its_registry_ends_when_it_is_asked_to() {
    let Some(mut world) = World::create("unasked", &[]) else { return };
    let gone = Registry::start().url();
    world.more = format!("{MAPPING}    url = \"{gone}\"").leak();
    let mut planner = world.planner("unasked", None);
    await_that("a tick", || world.last_tick());
    write(&world, 1, Some(7));
    planner.await_told(503, "[-] schemas: the tick waits: ");
    assert!(!planner.has_ended());
    planner.signal("-TERM");
    assert!(planner.ended().success());
    // It was not decided, and is when somebody knows.
    let last = world.last_tick().unwrap();
    let queries = |world: &World| world.ticks().iter().map(|it| it.queries).sum::<u64>();
    assert_eq!(queries(&world), 0);
    let registry = Registry::start();
    registry.knows(7, SCHEMA);
    world.more = format!("{MAPPING}    url = \"{}\"", registry.url()).leak();
    let mut planner = world.planner("unasked", None);
    planner.await_tick(&world, last + 5);
    await_that("the queries", || (queries(&world) == 8).then_some(()));
}

#[test]
fn example_is_understood_in_both_of_its_forms() {
    let Ok(python) = std::env::var("ISOTHERM_TEST_PYTHON") else {
        return say("SKIPPED example: ISOTHERM_TEST_PYTHON, with confluent-kafka, is not set");
    };
    let Some(mut world) = World::create("example", &[]) else { return };
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    let registry = Registry::start();
    let configuration = std::fs::read_to_string(examples.join("query_log.toml")).unwrap();
    let configuration = configuration.replace("http://localhost:8081", &registry.url());
    world.more = configuration.leak();
    let mut planner = world.planner("example", None);
    await_that("a tick", || world.last_tick());
    let topic = world.connection.topic(QueriesLogged::TOPIC);
    for form in [&["--registry", &registry.url()][..], &["--json"]] {
        let mut example = Command::new(&python);
        example.arg(examples.join("query_log.py")).args(form).args(["--topic", &topic]);
        example.args(["--bootstrap-servers", &world.connection.bootstrap_servers]);
        let output = example.args(["--queries", "1000", "--rate", "1000000"]).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    await_that("all queries", || {
        (world.ticks().iter().map(|it| it.queries).sum::<u64>() == 2_000).then_some(())
    });
    assert_eq!(world.records(dead_letter::TOPIC).len(), 0);
    let last = world.last_tick().unwrap();
    planner.await_tick(&world, last + 10);
    planner.signal("-TERM");
    assert!(planner.ended().success());
    check_replay(&world, None);

    // A person sees the same, with the registry or with the schema as a file, and plans by it.
    let file = examples.join("query_log.avsc");
    let mut replay = Command::new(env!("CARGO_BIN_EXE_isotherm"));
    replay.arg("--config").arg(world.folder.path().join("example.toml"));
    replay.args(["replay", "--topic", "query_log", "--schema"]).arg(&file);
    let output = replay.output().unwrap();
    let replayed = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(replayed.contains(" 2,000 queries;"), "{replayed}");
    let more = [&[][..], &["--schema", file.to_str().unwrap()]];
    let seen = more.map(|more| {
        let arguments = ["tail", "query_log", "--no-follow", "-o", "jsonl", "--config"];
        let mut tail = Command::new(env!("CARGO_BIN_EXE_isotherm"));
        tail.args(arguments).arg(world.folder.path().join("example.toml")).args(more);
        let output = tail.output().unwrap();
        let told = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let records = told.lines().map(|it| serde_json::from_str::<Value>(it).unwrap());
        let mut records: Vec<_> = records.map(|it| it["value"]["queries"].clone()).collect();
        records.sort_by_key(Value::to_string);
        records
    });
    assert_eq!(seen[0], seen[1]);
    let queries: Vec<_> = seen[0].iter().flat_map(|it| it.as_array().unwrap()).collect();
    assert_eq!(queries.len(), 2_000);
    assert!(queries.iter().all(|it| it["key"].as_str().unwrap().starts_with("user-")));
    assert!(queries.iter().all(|it| it["cost_us"].as_u64().is_some_and(|it| 0 < it)));
    for op in ["READ", "SCAN", "WRITE"] {
        assert!(queries.iter().any(|it| it["op"] == op), "{op}");
    }
}
