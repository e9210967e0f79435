//! Source, sink and tail on the embedded broker, which has no markers and shows aborted records: what
//! holds without those is checked here, the rest in `real`.

#![expect(clippy::unwrap_used, reason = "what a test cannot unwrap has failed it")]

pub mod broker;
pub mod real;
pub mod follow;
pub mod group;

use std::collections::BTreeMap;
use std::io::Write;
use std::ops::ControlFlow;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use isotherm::kafka::embedded::Embedded;
use isotherm::kafka::sink::{CommitError, Sink};
use isotherm::kafka::source::{FilledBox, Input, Inputs, Source, Start};
use isotherm::kafka::tail::{offsets_at, scan, tail};
use isotherm::kafka::writer::Writer;
use isotherm::kafka::{Connection, Output, TopicPartition};
use isotherm::tick::machine::{Origin, Reading, Rules};
use isotherm::tick::tick_box::{Offset, TickBox};
use rdkafka::bindings::rd_kafka_resp_err_t as Refusal;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use rdkafka::types::RDKafkaApiKey;
use schemas::Millis;

const TIMEOUT: Duration = Duration::from_secs(60);

const HOUR_MS: u64 = 3_600_000;

const RULES: Rules = Rules {
    tick_ms: 1000,
    grace_ms: 100,
    span_records_max: 1000,
    stale_max: 3,
    future_max_ms: 60_000,
    past_max_ms: 24 * HOUR_MS,
};

#[test]
fn late_record_counts_in_the_open_tick_while_another_topic_is_idle() {
    let broker = broker(&[("query_log", 2), ("node_capacity", 1)]);
    let app = App::new(&broker.connection());
    let mut source = open(&live(&broker, &["query_log", "node_capacity"]), vec![]);

    let stamp = now_ms();
    app.log("query_log", 0, stamp, "first");
    app.flush();
    let first = next(&mut source);
    assert_eq!((first.bounds.tick, values(&first)), (stamp / 1000, vec!["first".into()]));
    assert!(now_ms() >= (first.bounds.tick + 1) * 1000, "its end is not over");
    assert!(!first.bounds.stale && first.origin == Origin::Chosen);

    app.log("query_log", 0, stamp, "late");
    app.flush();
    let open = first.bounds.tick + 1;
    let in_time = now_ms() <= (open + 1) * 1000;
    let second = next(&mut source);
    assert!(first.bounds.is_followed_by(&second.bounds));
    assert!(!in_time || values(&second) == ["late"], "{second:?}");
}

#[test]
fn an_hour_away_is_caught_up_tick_by_tick_over_several_topics() {
    let broker = broker(&[("query_log", 3), ("node_capacity", 2)]);
    let begin = write_history(&broker.connection());
    let mut source = open(&live(&broker, &["query_log", "node_capacity"]), vec![]);
    let start = Instant::now();
    let boxes = read_history(&mut source, begin);
    // They are over, so there is nothing to wait for.
    assert!(start.elapsed() < TIMEOUT);
    assert!(boxes.iter().all(|it| it.stale), "nothing is to be planned by what is an hour old");
}

#[test]
fn historical_log_ends_and_is_cut_as_a_live_one() {
    let broker = broker(&[("query_log", 3), ("node_capacity", 2)]);
    let begin = write_history(&broker.connection());
    let topics = ["query_log", "node_capacity"];
    let live_boxes = read_history(&mut open(&live(&broker, &topics), vec![]), begin);
    let inputs = historical(&broker.connection(), &topics);
    let mut source = open(&inputs, vec![]);
    let boxes = read_history(&mut source, begin);
    assert!(source.next_tick().unwrap().is_none());
    let spans = |boxes: &[TickBox]| boxes.iter().map(|it| it.spans.clone()).collect::<Vec<_>>();
    assert_eq!(spans(&boxes), spans(&live_boxes));
    assert!(boxes.iter().all(|it| !it.stale));
}

#[test]
fn restart_reads_recorded_boxes_again_and_goes_on_behind_them() {
    let broker = broker(&[("query_log", 3), ("node_capacity", 2)]);
    let begin = write_history(&broker.connection());
    let inputs = live(&broker, &["query_log", "node_capacity"]);
    let whole = read_history(&mut open(&inputs, vec![]), begin);
    for (first, last) in [(0, 3), (7, 20), (29, 29)] {
        let mut source = open(&inputs, whole[first..=last].to_vec());
        for (tick, bounds) in whole.iter().enumerate().skip(first) {
            let filled = next(&mut source);
            let recorded = if tick <= last { Origin::Recorded } else { Origin::Chosen };
            assert_eq!((&filled.bounds, filled.origin), (bounds, recorded));
            check_history(&filled, begin);
        }
    }
}

#[test]
fn progress_that_does_not_fit_is_refused_with_a_remedy() {
    let broker = broker(&[("query_log", 3), ("node_capacity", 2)]);
    let begin = write_history(&broker.connection());
    let inputs = live(&broker, &["query_log", "node_capacity"]);
    let boxes = read_history(&mut open(&inputs, vec![]), begin);
    let refused = |inputs: &Inputs, boxes: Vec<TickBox>| {
        Source::open(inputs, boxes).err().expect("refused").to_string()
    };
    let hole = refused(&inputs, vec![boxes[3].clone(), boxes[5].clone()]);
    assert!(hole.contains("hole") && hole.contains("planner id"), "{hole}");
    let mut shrunk = boxes[..2].to_vec();
    for bounds in &mut shrunk {
        let span = bounds.spans[&at("query_log", 0)];
        bounds.spans.insert(at("query_log", 9), span);
    }
    let lost = refused(&inputs, shrunk);
    assert!(lost.contains("query_log/9") && lost.contains("planner id"), "{lost}");
    let rules = Rules { tick_ms: 500, ..RULES };
    let length = refused(&Inputs { rules, ..inputs.clone() }, boxes[..2].to_vec());
    assert!(length.contains("1000 ms") && length.contains("500 ms"), "{length}");
    let mut strange = inputs.clone();
    strange.inputs[0].topics.push("plan");
    strange.inputs[0].connection.prefix = "elsewhere-".into();
    let missing = refused(&strange, vec![]);
    assert!(missing.contains("elsewhere-") && missing.contains("topics apply"), "{missing}");
}

#[test]
fn what_the_embedded_broker_has_dropped_is_a_loud_error() {
    let broker = broker(&[("query_log", 1), ("node_capacity", 1)]);
    let app = App::new(&broker.connection());
    let begin = (now_ms() - HOUR_MS) / 1000 * 1000;
    let inputs = live(&broker, &["query_log", "node_capacity"]);
    app.log("query_log", 0, begin, "first");
    app.flush();
    let mut source = open(&inputs, vec![]);
    let first = next(&mut source);
    assert_eq!(first.records.len(), 1);
    // The broker keeps 5 MiB; the reader holds 4 MiB ahead.
    let kibibyte = "x".repeat(64 * 1024);
    for _ in 0..256 {
        app.log("query_log", 0, begin + 1000, &kibibyte);
    }
    app.flush();
    let mut err = None;
    for _ in 0..2 * HOUR_MS / 1000 {
        match source.next_tick() {
            Ok(_) => (),
            Err(it) => {
                err = Some(it.to_string());
                break;
            }
        }
    }
    let err = err.expect("16 MiB were written");
    let named = ["query_log has a gap: partition 0 has no offset", "5 MiB", "write more slowly"];
    assert!(named.iter().all(|it| err.contains(it)), "{err}");
    // The same when reading begins at what is gone, and when the whole topic is read.
    let err = Source::open(&inputs, vec![first.bounds]).err().expect("refused").to_string();
    assert!(named.iter().all(|it| err.contains(it)), "{err}");
}

#[test]
fn paced_topics_are_read_as_their_writer_marks_ticks() {
    let broker = broker(&[("query_log", 2), ("node_capacity", 1)]);
    let app = App::new(&broker.connection());
    let mut inputs = live(&broker, &["query_log", "node_capacity"]);
    inputs.inputs[0].reading = Reading::Paced;
    let mut source = open(&inputs, vec![]);
    let stop = source.stop();
    let (done, ticks) = std::sync::mpsc::sync_channel::<u64>(0);
    let writer = thread::spawn(move || {
        for tick in 100..120 {
            // Two ticks ahead, and no more.
            if tick >= 103 {
                assert_eq!(ticks.recv().unwrap(), tick - 3);
            }
            app.log("query_log", tick as i32 % 2, tick * 1000 + 5, &tick.to_string());
            for (topic, partition) in [("query_log", 0), ("query_log", 1), ("node_capacity", 0)] {
                app.log(topic, partition, (tick + 1) * 1000, "mark");
            }
            app.flush();
        }
        drop(ticks);
    });
    for tick in 100..120 {
        let filled = next(&mut source);
        assert_eq!(filled.bounds.tick, tick);
        let mut values = values(&filled);
        values.sort();
        let marks = if tick == 100 { 0 } else { 3 };
        assert_eq!(values, [vec![tick.to_string()], vec!["mark".to_owned(); marks]].concat());
        _ = done.send(tick);
    }
    writer.join().unwrap();
    // Nobody marks tick 120: its reader is told that there is no more.
    let stopper = thread::spawn(move || stop.stop());
    assert!(source.next_tick().unwrap().is_none());
    stopper.join().unwrap();
}

#[test]
fn two_clusters_are_read_into_one_box() {
    let (far, near) = (broker(&[("query_log", 3)]), broker(&[("node_capacity", 1)]));
    let begin = write_history_to(&far.connection(), &["query_log"]);
    let app = App::new(&near.connection());
    let mut inputs = historical(&far.connection(), &["query_log"]);
    inputs.inputs.push(Input {
        reading: Reading::Paced,
        ..live(&near, &["node_capacity"]).inputs.remove(0)
    });
    let mut source = open(&inputs, vec![]);
    // The log tells where to begin, before anything is written beside it.
    assert_eq!(source.open_tick().unwrap(), Some(begin));
    let mut boxes: Vec<TickBox> = Vec::new();
    for tick in begin..begin + 30 {
        app.log("node_capacity", 0, tick * 1000, "warm");
        app.log("node_capacity", 0, (tick + 1) * 1000, "mark");
        app.flush();
        let filled = next(&mut source);
        let near: Vec<_> =
            filled.records.iter().filter(|it| it.at.topic == "node_capacity").collect();
        assert_eq!(near.len(), if tick == begin { 1 } else { 2 });
        assert_eq!(filled.records.len() - near.len(), history(tick - begin, "query_log").count());
        boxes.push(filled.bounds);
    }
    assert!(source.next_tick().unwrap().is_none(), "the log is at its end");
    assert!(boxes.is_sorted_by(|a, b| a.is_followed_by(b)));
    assert_eq!(boxes[0].spans.len(), 4);
    // And once more, as it was recorded.
    let mut again = open(&inputs, boxes.clone());
    for bounds in boxes {
        assert_eq!(next(&mut again).bounds, bounds);
    }
    assert!(again.next_tick().unwrap().is_none());
}

#[test]
fn stamp_from_the_future_is_named_by_the_box_and_set_apart() {
    let broker = broker(&[("query_log", 1)]);
    let app = App::new(&broker.connection());
    let begin = 1_700_000_000_000;
    for i in 0..250 {
        app.log("query_log", 0, begin + 100 * i, "queries");
        if i % 100 == 7 {
            app.log("query_log", 0, begin + 100 * i + 3 * HOUR_MS, "from the future");
        }
    }
    app.flush();
    let inputs = historical(&broker.connection(), &["query_log"]);
    let read = |recorded: Vec<TickBox>| {
        let mut source = open(&inputs, recorded);
        let (mut boxes, mut apart) = (Vec::new(), 0);
        while let Some(filled) = source.next_tick().unwrap() {
            assert!(values(&filled).iter().all(|it| it == "queries"));
            for record in &filled.from_future {
                let named = (record.at, Offset(record.offset));
                assert!(filled.bounds.from_future.contains(&named));
                assert_eq!(record.value.as_deref(), Some(&b"from the future"[..]));
                apart += 1;
            }
            assert_eq!(filled.bounds.from_future.len(), filled.from_future.len());
            boxes.push(filled.bounds);
        }
        (boxes, apart)
    };
    let (boxes, apart) = read(vec![]);
    assert_eq!((boxes.len(), apart), (25, 3), "250 records in steps of 100 ms");
    assert_eq!(read(boxes.clone()), (boxes.clone(), apart));
    // Begun in the middle, and gone on behind what is recorded.
    assert_eq!(read(boxes[5..12].to_vec()).0, boxes[5..]);
}

#[test]
fn nothing_is_lost_while_queues_are_split_off() {
    let broker = broker(&[("query_log", 3), ("node_capacity", 2)]);
    let begin = write_history(&broker.connection());
    for _ in 0..30 {
        let mut source = open(&live(&broker, &["query_log", "node_capacity"]), vec![]);
        check_history(&next(&mut source), begin);
    }
}

#[test]
fn what_was_written_is_read_back_whole_and_from_its_tail() {
    let broker = broker(&[("plan", 1), ("heatmap", 3)]);
    let connection = broker.connection();
    let writer = Writer::open(&connection, "test").unwrap();
    let output = |n: u8| {
        let mut output = Output::new("plan", vec![n], vec![n, n]);
        output.headers.push(("traceparent", b"00-1-2-3".to_vec()));
        output
    };
    for n in 0..100 {
        writer.send(&output(n)).unwrap();
        writer.send(&Output { value: None, ..Output::new("heatmap", vec![n], vec![]) }).unwrap();
    }
    writer.flush().unwrap();
    let last = tail(&connection, "plan", 3).unwrap();
    let keys: Vec<_> = last.iter().map(|it| it.key.clone().unwrap()).collect();
    assert_eq!(keys, [[97], [98], [99]]);
    assert_eq!(last[0].value.as_deref(), Some(&[97, 97][..]));
    assert_eq!(tail(&connection, "plan", usize::MAX).unwrap().len(), 100);
    let refused = tail(&connection, "heatmap", 3).unwrap_err().to_string();
    assert!(refused.contains("3 partitions"), "{refused}");

    let mut seen = BTreeMap::<u32, Vec<u64>>::new();
    scan(&connection, "heatmap", Start::Beginning, |record| {
        assert_eq!(record.value, None);
        seen.entry(record.at.partition).or_default().push(record.offset);
        ControlFlow::Continue(())
    })
    .unwrap();
    assert_eq!((seen.len(), seen.values().map(Vec::len).sum::<usize>()), (3, 100));
    assert!(seen.values().all(|offsets| offsets.is_sorted_by(|a, b| a + 1 == *b)));
    let mut count = 0;
    scan(&connection, "heatmap", Start::Beginning, |_| {
        count += 1;
        if count == 10 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })
    .unwrap();
    assert_eq!(count, 10);
    let timeless = offsets_at(&connection, "heatmap", Millis(1)).unwrap_err().to_string();
    assert!(timeless.contains("cannot look up a time"), "{timeless}");
}

#[test]
fn same_key_goes_to_the_same_partition_as_java_puts_it() {
    let broker = broker(&[("heatmap", 12)]);
    let writer = Writer::open(&broker.connection(), "test").unwrap();
    // What Kafka's own tests say of its hash of keys.
    let keys: [(&str, i32); 6] = [
        ("21", -973_932_308),
        ("foobar", -790_332_482),
        ("a-little-bit-long-string", -985_981_536),
        ("a-little-bit-longer-string", -1_486_304_829),
        ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
        ("abc", 479_470_107),
    ];
    for (key, _) in keys {
        writer.send(&Output::new("heatmap", key.into(), vec![1])).unwrap();
    }
    writer.flush().unwrap();
    let partition = |hash: i32| (hash as u32 & 0x7fff_ffff) % 12;
    let expected: BTreeMap<_, _> =
        keys.iter().map(|(key, hash)| (key.as_bytes().to_vec(), partition(*hash))).collect();
    let mut found = BTreeMap::new();
    scan(&broker.connection(), "heatmap", Start::Beginning, |record| {
        found.insert(record.key.unwrap(), record.at.partition);
        ControlFlow::Continue(())
    })
    .unwrap();
    assert_eq!(found, expected);
}

#[test]
fn sink_writes_keys_tombstones_headers_partitions_and_stamps() {
    let broker = broker(&[("index_update", 4), ("planner_progress", 1)]);
    let connection = broker.connection();
    let sink = Sink::open(&connection, "planner").unwrap();
    let update = Output {
        topic: "index_update",
        partition: Some(2),
        stamp: Some(Millis(1_234_567)),
        key: None,
        value: Some(b"entry".to_vec()),
        headers: vec![("traceparent", b"00-1-2-3".to_vec())],
    };
    let progress = Output::new("planner_progress", b"planner".to_vec(), b"box".to_vec());
    for _ in 0..3 {
        sink.commit(&[update.clone(), progress.clone()]).unwrap();
    }
    sink.commit(&[]).unwrap();
    assert_eq!(tail(&connection, "planner_progress", 10).unwrap().len(), 3);
    let mut records = Vec::new();
    scan(&connection, "index_update", Start::Beginning, |record| {
        records.push(record);
        ControlFlow::Continue(())
    })
    .unwrap();
    assert_eq!(records.len(), 3);
    let first = &records[0];
    assert_eq!((first.at, first.offset), (at("index_update", 2), 0));
    assert_eq!((first.stamp, first.key.as_deref()), (Millis(1_234_567), None));
    assert_eq!(first.value.as_deref(), Some(&b"entry"[..]));
}

#[test]
fn errors_of_a_commit_are_told_apart() {
    use Refusal::{
        RD_KAFKA_RESP_ERR_COORDINATOR_LOAD_IN_PROGRESS as LOADING,
        RD_KAFKA_RESP_ERR_INVALID_PRODUCER_EPOCH as OLD_EPOCH,
        RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED as FORBIDDEN,
    };
    let broker: MockCluster<'_, DefaultProducerContext> = MockCluster::new(1).unwrap();
    broker.create_topic("planner_progress", 1, 1).unwrap();
    let bootstrap_servers = broker.bootstrap_servers();
    let connection = Connection { bootstrap_servers, embedded: true, ..Connection::default() };
    let sink = Sink::open(&connection, "planner").unwrap();
    let mut n = 0;
    let mut commit = |api, refusals: &[Refusal]| {
        broker.request_errors(api, refusals);
        n += 1;
        sink.commit(&[Output::new("planner_progress", vec![], vec![n])])
    };
    commit(RDKafkaApiKey::EndTxn, &[LOADING; 3]).unwrap();
    let refused = commit(RDKafkaApiKey::AddPartitionsToTxn, &[FORBIDDEN]).unwrap_err();
    assert!(matches!(refused, CommitError::Aborted { .. }), "{refused:?}");
    // The client waits for nothing that was given up.
    assert!(sink.is_settled(Duration::from_secs(60)), "what was given up counts as ended");
    commit(RDKafkaApiKey::EndTxn, &[]).unwrap();
    let fenced = commit(RDKafkaApiKey::EndTxn, &[OLD_EPOCH]).unwrap_err();
    assert!(matches!(fenced, CommitError::Fenced { .. }), "{fenced:?}");
    let still = commit(RDKafkaApiKey::EndTxn, &[]).unwrap_err();
    assert!(matches!(still, CommitError::Fenced { .. }), "{still:?}");
    let written = tail(&connection, "planner_progress", 1).unwrap();
    assert!(written[0].value.as_deref() >= Some(&[3][..]));
}

#[test]
fn option_that_promises_rest_on_is_refused() {
    let broker = broker(&[("plan", 1)]);
    let mut connection = broker.connection();
    let set = |name: &str, value: &str| BTreeMap::from([(name.to_owned(), value.to_owned())]);
    connection.consumer.properties = set("isolation.level", "read_uncommitted");
    let refused = tail(&connection, "plan", 1).unwrap_err().to_string();
    assert!(refused.contains("[kafka.consumer.properties] sets isolation.level"), "{refused}");
    connection.consumer.properties = set("fetch.wate.max.ms", "10");
    let unknown = format!("{:#}", tail(&connection, "plan", 1).unwrap_err());
    assert!(unknown.contains("fetch.wate.max.ms"), "{unknown}");
    connection.consumer.properties = set("fetch.wait.max.ms", "20");
    assert_eq!(tail(&connection, "plan", 1).unwrap(), []);
}

#[test]
fn broker_that_is_not_there_is_an_error_with_the_reason_for_who_does_not_wait() {
    let connection =
        Connection { bootstrap_servers: "127.0.0.1:1".into(), ..Connection::default() };
    let err = tail(&connection, "plan", 1).unwrap_err().to_string();
    assert!(err.contains("127.0.0.1:1") && err.contains("Connection refused"), "{err}");
}

/// An app server, a node, or whoever writes.
pub struct App(Writer);

impl App {
    pub fn new(connection: &Connection) -> Self {
        Self(Writer::open(connection, "app").unwrap())
    }

    pub fn log(&self, topic: &'static str, partition: i32, stamp: u64, value: &str) {
        let partition = u32::try_from(partition).ok();
        let value = Some(value.as_bytes().to_vec());
        let (stamp, headers) = (Some(Millis(stamp)), Vec::new());
        self.0.send(&Output { topic, partition, stamp, key: None, value, headers }).unwrap();
    }

    /// Waits until Kafka has what was logged.
    pub fn flush(&self) {
        self.0.flush().unwrap();
    }
}

/// Thirty ticks of a topic, an hour ago: `(partition, ms into the tick)`.
fn history(tick: u64, topic: &str) -> impl Iterator<Item = (i32, u64)> {
    // Partition 2 is quiet most of the time, and so is the other topic.
    let is_log = topic == "query_log";
    let busy = (0..if is_log { tick % 5 } else { 0 }).map(|i| (0, 100 * i));
    let quiet = (is_log && tick % 10 == 3).then_some((2, 999));
    let first = (is_log && tick == 0).then_some((0, 0));
    let last = (is_log && tick == 29).then_some((2, 1));
    let nodes = (!is_log && tick % 7 == 5).then_some((1, 500));
    busy.chain(quiet).chain(first).chain(last).chain(nodes)
}

fn write_history(connection: &Connection) -> u64 {
    write_history_to(connection, &["query_log", "node_capacity"])
}

fn write_history_to(connection: &Connection, topics: &[&'static str]) -> u64 {
    let begin = (now_ms() - HOUR_MS) / 1000;
    let app = App::new(connection);
    for tick in 0..30 {
        for &topic in topics {
            for (partition, ms) in history(tick, topic) {
                app.log(topic, partition, (begin + tick) * 1000 + ms, &tick.to_string());
            }
        }
    }
    app.flush();
    begin
}

fn read_history(source: &mut Source, begin: u64) -> Vec<TickBox> {
    let mut boxes: Vec<TickBox> = Vec::new();
    for tick in 0..30 {
        let filled = next(source);
        assert_eq!(filled.bounds.tick, begin + tick);
        check_history(&filled, begin);
        assert!(boxes.last().is_none_or(|last| last.is_followed_by(&filled.bounds)));
        boxes.push(filled.bounds);
    }
    boxes
}

fn check_history(filled: &FilledBox, begin: u64) {
    let tick = filled.bounds.tick - begin;
    let all = || ["query_log", "node_capacity"].into_iter().flat_map(|it| history(tick, it));
    assert_eq!(filled.records.len(), all().count(), "{filled:?}");
    assert!(values(filled).iter().all(|it| *it == tick.to_string()), "{filled:?}");
    let mut last = BTreeMap::new();
    for record in &filled.records {
        let span = filled.bounds.spans[&record.at];
        assert!(span.from <= Offset(record.offset) && Offset(record.offset) < span.to);
        assert!(last.insert(record.at, record.offset).is_none_or(|it| it < record.offset));
    }
}

pub fn broker(topics: &[(&str, u32)]) -> Embedded {
    let topics: Vec<_> = topics.iter().map(|(name, n)| ((*name).to_owned(), *n)).collect();
    Embedded::start(&topics).unwrap()
}

fn live(broker: &Embedded, topics: &[&'static str]) -> Inputs {
    inputs(&broker.connection(), topics, Reading::Live)
}

fn historical(connection: &Connection, topics: &[&'static str]) -> Inputs {
    inputs(connection, topics, Reading::Historical)
}

fn inputs(connection: &Connection, topics: &[&'static str], reading: Reading) -> Inputs {
    let input = Input {
        connection: connection.clone(),
        topics: topics.to_vec(),
        reading,
        start: Start::Beginning,
        end: None,
    };
    Inputs { name: "planner".into(), rules: RULES, inputs: vec![input] }
}

fn open(inputs: &Inputs, recorded: Vec<TickBox>) -> Source {
    Source::open(inputs, recorded).unwrap()
}

fn next(source: &mut Source) -> FilledBox {
    source.next_tick().unwrap().expect("the log goes on")
}

fn values(filled: &FilledBox) -> Vec<String> {
    let value = |it: &[u8]| String::from_utf8(it.to_vec()).unwrap();
    filled.records.iter().map(|it| value(it.value.as_deref().unwrap())).collect()
}

pub fn at(topic: &'static str, partition: u32) -> TopicPartition {
    TopicPartition { topic, partition }
}

fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64
}

/// Says it even when the test passes, which is when the harness drops what a test prints.
pub fn report(line: &str) {
    let mut terminal = std::io::stderr();
    writeln!(terminal, "{line}").unwrap();
}
