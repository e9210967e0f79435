//! Query logs as others write them: in Confluent's framing with a registry, and as JSON.
//!
//! On the embedded broker; what rests on transactions is in `real`.

mod registry;
pub mod real;

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use isotherm::cli;
use isotherm::config::Config;
use isotherm::config::query_log::{QueryLog, SchemaRegistry};
use isotherm::foreign::form::{self, Format, Unit};
use isotherm::kafka::registry::{Access, Away, Registry as Client, Told};
use isotherm::kafka::source::{Input, Start};
use isotherm::kafka::writer::Writer;
use isotherm::kafka::{Connection, Output};
use isotherm::planner::driver::{Options, Stamps, Watch, run};
use isotherm::planner::machine::TickOutputs;
use isotherm::tick::machine::Reading;
use isotherm::tick::tick_box::TickBox;
use isotherm::topics::definitions;
use registry::{Answer, Registry, unknown};
use schemas::dead_letter;
use schemas::heatmap::RangeHeated;
use schemas::node_capacity::NodeCapacity;
use schemas::query_log::{Op, QueriesLogged, QueryLogged};
use schemas::wire::{Record as _, encode};
use schemas::{Inbox, Key, Millis, NodeId};
use serde_json::json;

use crate::kafka::broker;

/// A batch of reads as somebody else writes it.
pub const SCHEMA: &str = r#"{"type": "record", "name": "Batch", "fields": [
    {"name": "sent", "type": {"type": "long", "logicalType": "timestamp-micros"}},
    {"name": "reads", "type": {"type": "array", "items": {
        "type": "record", "name": "Read", "fields": [
            {"name": "k", "type": "bytes"},
            {"name": "verb", "type": {"type": "enum", "name": "Verb", "symbols": ["GET", "PUT"]}},
            {"name": "took_ms", "type": "double"},
            {"name": "size", "type": "int"}
        ]}}}]}"#;

/// Of which configuration speaks the mapping of it.
fn query_log() -> QueryLog {
    QueryLog {
        format: Format::Auto,
        items: "reads".into(),
        key: vec!["k".into()],
        op: "verb".into(),
        ops: vec!["GET=READ".into(), "PUT=WRITE".into()],
        time: "sent".into(),
        time_unit: Unit::Micros,
        cost: "took_ms".into(),
        cost_unit: Unit::Millis,
        bytes: "size".into(),
        ..QueryLog::default()
    }
}

/// The same queries as Avro with the id of a schema.
pub fn framed(id: u32, batch: &QueriesLogged) -> Vec<u8> {
    let mut value = [&[0][..], &id.to_be_bytes()].concat();
    long(&mut value, batch.queries[0].time.0 as i64 * 1_000);
    long(&mut value, batch.queries.len() as i64);
    for it in &batch.queries {
        long(&mut value, it.key.0.len() as i64);
        value.extend(&it.key.0);
        long(&mut value, i64::from(it.op == Op::Write));
        value.extend((it.cost_us.unwrap() as f64 / 1_000.0).to_le_bytes());
        long(&mut value, it.bytes as i64);
    }
    long(&mut value, 0);
    value
}

fn long(to: &mut Vec<u8>, number: i64) {
    let mut zigzag = ((number << 1) ^ (number >> 63)).cast_unsigned();
    while 0x80 <= zigzag {
        to.push(zigzag as u8 | 0x80);
        zigzag >>= 7;
    }
    to.push(zigzag as u8);
}

/// The same queries as JSON.
fn in_json(batch: &QueriesLogged) -> Vec<u8> {
    let read = |it: &QueryLogged| {
        json!({
            "k": String::from_utf8(it.key.0.clone()).unwrap(),
            "verb": if it.op == Op::Write { "PUT" } else { "GET" },
            "took_ms": it.cost_us.unwrap() as f64 / 1_000.0,
            "size": it.bytes,
        })
    };
    let reads: Vec<_> = batch.queries.iter().map(read).collect();
    json!({ "sent": batch.queries[0].time.0 * 1_000, "reads": reads }).to_string().into_bytes()
}

#[test]
fn only_what_a_registry_says_itself_is_an_answer() {
    let registry = Registry::start();
    let client = Client::open(&access(&registry)).unwrap();
    let schema = |text: &str, more: &str| {
        Answer::Text(200, format!(r#"{{"schema": {}{more}}}"#, json!(text)))
    };
    let unusable = |it: &str| Some(Told::Schema(form::Answer::Unusable(it.into())));
    let long = "x".repeat(form::SCHEMA_BYTES_MAX + 1);
    let nothing = Answer::Text(404, "<html>".into());
    let elsewhere = r#"{"error_code": 404, "message": "HTTP 404 Not Found"}"#;
    let cases = [
        (schema(SCHEMA, ""), Some(Told::Schema(form::Answer::Avro(SCHEMA.into())))),
        (schema("no schema", ""), Some(Told::Schema(form::Answer::Avro("no schema".into())))),
        (schema("{}", r#", "schemaType": "JSON""#), Some(Told::Schema(form::Answer::Json))),
        (schema("x", r#", "schemaType": "PROTOBUF""#), unusable("it is of type PROTOBUF")),
        (schema("x", r#", "schemaType": "THRIFT""#), unusable("it is of type THRIFT")),
        (
            schema(SCHEMA, r#", "references": [{"name": "a", "subject": "b", "version": 1}]"#),
            unusable("it refers to other schemas, which are not read"),
        ),
        (schema(&long, ""), unusable("it has 65537 bytes, where 65536 are the most")),
        (unknown(), Some(Told::Unknown)),
        (nothing, None),
        (Answer::Text(404, elsewhere.into()), None),
        (Answer::Text(200, "<html>a proxy</html>".into()), None),
        (Answer::Text(200, "{}".into()), None),
        (Answer::Text(500, r#"{"error_code": 50001, "message": "store"}"#.into()), None),
        (Answer::Text(503, String::new()), None),
        (Answer::Text(403, String::new()), None),
        (Answer::Stall, None),
    ];
    for (id, (answer, told)) in (1..).zip(cases) {
        registry.answers(id, answer.clone());
        assert_eq!(client.ask(id).ok(), told, "{answer:?}");
    }
    registry.answers(99, Answer::Text(500, r#"{"error_code": 50001, "message": "store"}"#.into()));
    let away = client.ask(99).unwrap_err().to_string();
    assert!(
        away.contains(&registry.url()) && away.contains("500") && away.contains("store"),
        "{away}"
    );
    drop(registry);
    let away = client.ask(1).unwrap_err().to_string();
    assert!(away.contains("refused"), "{away}");
}

#[test]
fn registry_is_asked_with_user_and_password_and_the_next_one_when_one_is_away() {
    let registry = Registry::start();
    registry.knows(7, SCHEMA);
    // key:secret
    registry.wants("Basic a2V5OnNlY3JldA==");
    let anonymous = Client::open(&access(&registry)).unwrap();
    let away = anonymous.ask(7).unwrap_err().to_string();
    assert!(away.contains("401") && !away.contains("secret"), "{away}");
    let gone = Registry::start().url();
    let both = Access {
        url: format!("{gone}, {}", registry.url()),
        user: "key".into(),
        password: "secret".into(),
    };
    let told = Client::open(&both).unwrap().ask(7);
    assert_eq!(told, Ok(Told::Schema(form::Answer::Avro(SCHEMA.into()))));
}

fn access(registry: &Registry) -> Access {
    Access { url: registry.url(), user: String::new(), password: String::new() }
}

const TICK_MS: u64 = 1_000;

const FIRST_MS: u64 = 1_743_500_000_000;

/// What was asked in each tick, as one batch a partition: the load moves over the keys.
fn batches() -> Vec<(u32, Millis, QueriesLogged)> {
    let mut random = 1_u64;
    let mut below = |n: u64| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (random >> 32) % n
    };
    let mut res = Vec::new();
    for tick in 0..20 {
        for partition in 0..4_u32 {
            let stamp = Millis(FIRST_MS + tick * TICK_MS + u64::from(partition) * 7);
            let query = |_| QueryLogged {
                time: Millis(stamp.0 - 5),
                key: Key(format!("{:02x}{}", (tick * 12 + below(40)) % 256, below(9)).into_bytes()),
                op: if below(4) == 0 { Op::Write } else { Op::Read },
                cost_us: Some(250 * (1 + below(40))),
                bytes: below(5_000),
                estimated: false,
            };
            res.push((partition, stamp, QueriesLogged { queries: (0..25).map(query).collect() }));
        }
    }
    res
}

/// What a planner makes of a log.
#[derive(Default)]
struct Made {
    /// Heat as it was published, tick by tick.
    heat: Vec<(Vec<u8>, Option<Vec<u8>>)>,
    /// Bytes and reasons.
    dead: Vec<(Option<Vec<u8>>, String)>,
    queries: u64,
    /// What is to be done when the registry is waited for.
    away: Option<Box<dyn FnMut()>>,
    waited: Vec<String>,
}

impl Watch for Made {
    fn waits(&mut self, away: &Away) -> anyhow::Result<ControlFlow<()>> {
        self.waited.push(away.to_string());
        self.away.take().into_iter().for_each(|mut it| it());
        Ok(ControlFlow::Continue(()))
    }

    fn committed(&mut self, _: &TickBox, outputs: &TickOutputs) -> anyhow::Result<ControlFlow<()>> {
        self.queries += outputs.done.queries;
        for it in &outputs.outputs {
            if it.topic == RangeHeated::TOPIC {
                self.heat.push((it.key.clone().unwrap(), it.value.clone()));
            } else if it.topic == dead_letter::TOPIC {
                let reason =
                    it.headers.iter().find(|it| it.0 == dead_letter::HEADER_REASON).unwrap();
                self.dead.push((it.value.clone(), String::from_utf8(reason.1.clone()).unwrap()));
            }
        }
        Ok(ControlFlow::Continue(()))
    }
}

/// Lets a planner read a log of these records to its end.
fn made(log: &[(u32, Millis, Vec<u8>)], config: Config, made: &mut Made) {
    let topics: Vec<_> = definitions().into_iter().map(|it| (it.name, it.partitions)).collect();
    let broker = broker(&topics);
    let connection = broker.connection();
    let config = Config { kafka: connection.clone(), ..config };
    write(&connection, log);
    let input = Input {
        connection: connection.clone(),
        topics: vec!["query_log", "node_capacity"],
        reading: Reading::Historical,
        start: Start::Beginning,
        end: None,
    };
    let rules = cli::planner::rules(&config);
    let options = Options {
        planner_id: "planner".into(),
        settings: cli::planner::settings(&config).unwrap(),
        rules: isotherm::tick::machine::Rules { grace_ms: 0, ..rules },
        inputs: vec![input],
        outputs: connection,
        timely_workers: 1,
        stamps: Stamps::EventTime,
        registry: cli::query_log::access(&config),
    };
    run(&options, made).unwrap();
}

fn write(connection: &Connection, log: &[(u32, Millis, Vec<u8>)]) {
    let writer = Writer::open(connection, "log").unwrap();
    let send = |topic, partition, stamp, key: Option<Vec<u8>>, value| {
        let output = Output::new(topic, Vec::new(), value);
        let (partition, stamp) = (Some(partition), Some(stamp));
        writer.send(&Output { partition, stamp, key, ..output }).unwrap();
    };
    let report = NodeCapacity {
        node_id: NodeId("n1".into()),
        store_id: "store".into(),
        cpu_load: None,
        memory_load: None,
        io_load: None,
        capacity_us_per_s: Some(1_000_000.0),
        memory_bytes_total: None,
        memory_bytes_used: None,
        disk_bytes_total: None,
        disk_bytes_used: None,
        endpoint: None,
        inbox: Inbox(0),
        state: schemas::node_capacity::NodeState::Up,
        ranges: Vec::new(),
    };
    send("node_capacity", 0, Millis(FIRST_MS), Some(b"n1".to_vec()), encode(&report));
    for (partition, stamp, value) in log {
        send("query_log", *partition, *stamp, None, value.clone());
    }
    writer.flush().unwrap();
}

fn config(registry: &str) -> Config {
    let mut config = Config { query_log: query_log(), ..Config::default() };
    config.schema_registry = SchemaRegistry { url: registry.into(), ..SchemaRegistry::default() };
    config.planner.tick = std::time::Duration::from_millis(TICK_MS);
    config
}

#[test]
fn heat_is_that_of_the_same_queries_in_our_own_form() {
    let ours: Vec<_> =
        batches().into_iter().map(|(at, stamp, it)| (at, stamp, encode(&it))).collect();
    let mut expected = Made::default();
    made(&ours, config(""), &mut expected);
    assert_eq!(expected.queries, 20 * 4 * 25);
    assert!(expected.heat.len() > 40, "{} records of heat", expected.heat.len());

    // One partition each is of Avro, of a later schema, of JSON, and of our own form.
    let foreign = batches().into_iter().map(|(at, stamp, it)| {
        let value = match at {
            0 => framed(7, &it),
            1 => framed(if stamp.0 < FIRST_MS + 9 * TICK_MS { 7 } else { 8 }, &it),
            2 => in_json(&it),
            _ => encode(&it),
        };
        (at, stamp, value)
    });
    let mut foreign: Vec<_> = foreign.collect();
    let whole = batches().swap_remove(0).2;
    let bad = [
        (framed(9, &whole), "unknown_schema_id"),
        (framed(10, &whole), "bad_schema"),
        (framed(11, &whole), "bad_schema"),
        (framed(7, &whole)[..30].to_vec(), "malformed"),
        (b"hello".to_vec(), "unknown_format"),
        (b"{}".to_vec(), "no_field"),
        (
            br#"{"sent": 1, "reads": [{"k": "a", "verb": "GET"}, {"k": "a", "verb": "DROP"}]}"#
                .to_vec(),
            "unknown_op",
        ),
        (
            br#"{"sent": 1, "reads": [{"k": "a", "verb": "GET", "took_ms": -1}]}"#.to_vec(),
            "wrong_value",
        ),
        (br#"{"sent": 1, "reads": [{"k": null, "verb": "GET"}]}"#.to_vec(), "wrong_type"),
        (encode(&whole)[..30].to_vec(), "malformed"),
    ];
    // In the middle of the log.
    let (at, stamp) = (foreign[40].0, foreign[40].1);
    for (n, it) in bad.iter().enumerate() {
        foreign.insert(41 + n, (at, stamp, it.0.clone()));
    }
    // What is not known is not asked for at every tick.
    let last = foreign.last().unwrap().1;
    foreign.push((3, last, framed(9, &whole)));

    // The registry is away when it is needed first, and answers once that has shown.
    let gone = Registry::start();
    let address = gone.address();
    let mut found = Made::default();
    let kept = std::rc::Rc::new(std::cell::RefCell::new(None));
    let keep = kept.clone();
    found.away = Some(Box::new(move || {
        let registry = Registry::start_at(address);
        registry.knows(7, SCHEMA);
        registry.knows(8, &SCHEMA.replace("\"Batch\"", "\"Batch\", \"doc\": \"the same\""));
        registry.knows(10, "no schema");
        let protobuf = json!({ "schema": "x", "schemaType": "PROTOBUF" });
        registry.answers(11, Answer::Text(200, protobuf.to_string()));
        *keep.borrow_mut() = Some(registry);
    }));
    let url = gone.url();
    drop(gone);
    made(&foreign, config(&url), &mut found);

    assert!(found.waited[0].contains("refused"), "{:?}", found.waited);
    let mut dead = found.dead.clone();
    dead.sort();
    let mut told: Vec<_> =
        bad.iter().map(|(value, reason)| (Some(value.clone()), (*reason).to_owned())).collect();
    told.push(told[0].clone());
    told.sort();
    assert_eq!(dead, told);
    assert_eq!(found.queries, expected.queries);
    let by_range = |made: &Made| -> BTreeMap<Vec<u8>, Vec<Option<Vec<u8>>>> {
        let mut res = BTreeMap::<_, Vec<_>>::new();
        for (key, value) in &made.heat {
            res.entry(key.clone()).or_default().push(value.clone());
        }
        res
    };
    assert_eq!(by_range(&found), by_range(&expected));
    // Once for each, whatever came of it.
    let mut asked = kept.borrow().as_ref().unwrap().asked();
    asked.sort_unstable();
    assert_eq!(asked, [7, 8, 9, 10, 11]);
}

#[test]
fn records_of_random_bytes_do_not_ask_for_every_id_there_is() {
    let registry = Registry::start();
    registry.knows(7_000, SCHEMA);
    let batch = batches().swap_remove(0).2;
    let id = |n: u32| if n.is_multiple_of(20) { 7_000 } else { 1 + n };
    let log: Vec<_> =
        (0..200).map(|n| (n % 4, Millis(FIRST_MS + u64::from(n)), framed(id(n), &batch))).collect();
    let mut found = Made::default();
    made(&log, config(&registry.url()), &mut found);
    let asked = registry.asked();
    // That of the most records first.
    assert_eq!((asked.len(), asked[0]), (64, 7_000));
    assert_eq!((found.queries, found.dead.len()), (10 * 25, 190));
}
