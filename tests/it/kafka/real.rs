//! The same on a real Kafka: what holds when brokers stop and transactions are aborted.
//!
//! Needs `ISOTHERM_TEST_KAFKA`, the bootstrap servers of one (`docker/kafka up` prints them), and for
//! what stops it `ISOTHERM_TEST_KAFKA_SCRIPT`, the path of `docker/kafka`, with its environment.

use std::io;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Arc, Mutex, PoisonError, RwLockReadGuard};

use isotherm::kafka::admin::{Admin, Created, Topic};
use isotherm::kafka::standby::Standby;
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;
use rdkafka::producer::{BaseRecord, Producer, ThreadedProducer};
use rdkafka::topic_partition_list::{Offset as At, TopicPartitionList};

use super::broker::{BROKER, Broker, kafka};
use super::*;

const YEAR_MS: u64 = 365 * 24 * HOUR_MS;

#[test]
fn predecessor_is_fenced_and_nothing_of_it_is_visible() {
    let Some(real) = real("fence", &[("heatmap", 3), ("planner_progress", 1)]) else { return };
    let outputs = |n: u8| {
        let heat = Output::new("heatmap", vec![n], vec![n; 24]);
        [heat, Output::new("planner_progress", b"planner".to_vec(), vec![n])]
    };
    let old = Sink::open(&real.connection, "planner").unwrap();
    old.commit(&outputs(1)).unwrap();
    let new = Sink::open(&real.connection, "planner").unwrap();
    let refused = old.commit(&outputs(2)).unwrap_err();
    assert!(matches!(refused, CommitError::Fenced { .. }), "{refused:?}");
    let still = old.commit(&outputs(3)).unwrap_err();
    assert!(matches!(still, CommitError::Fenced { .. }), "{still:?}");
    new.commit(&outputs(4)).unwrap();
    let boxes = tail(&real.connection, "planner_progress", 10).unwrap();
    assert_eq!(boxes.iter().map(|it| it.value.clone().unwrap()).collect::<Vec<_>>(), [[1], [4]]);
    let mut heat = Vec::new();
    scan(&real.connection, "heatmap", Start::Beginning, |record| {
        heat.push(record.value.unwrap()[0]);
        ControlFlow::Continue(())
    })
    .unwrap();
    heat.sort_unstable();
    assert_eq!(heat, [1, 4]);
}

#[test]
fn tail_counts_what_was_committed_and_not_what_was_aborted() {
    let Some(real) = real("tail", &[("planner_progress", 1)]) else { return };
    let unsteady = transactional(&real.connection);
    for n in 0..30_u8 {
        unsteady.begin_transaction().unwrap();
        log(&unsteady, &real.connection, "planner_progress", 0, &n.to_string());
        match n % 3 {
            0 => unsteady.commit_transaction(TIMEOUT).unwrap(),
            _ => unsteady.abort_transaction(TIMEOUT).unwrap(),
        }
    }
    let last = |n| {
        let records = tail(&real.connection, "planner_progress", n).unwrap();
        let text = |it: &[u8]| String::from_utf8(it.to_vec()).unwrap();
        records.iter().map(|it| text(it.value.as_deref().unwrap())).collect::<Vec<_>>()
    };
    assert_eq!(last(0), Vec::<String>::new());
    assert_eq!(last(3), ["21", "24", "27"]);
    assert_eq!(last(100).len(), 10);
}

#[test]
fn markers_and_open_transactions_hold_nobody_up() {
    let Some(real) = real("markers", &[("query_log", 3), ("node_capacity", 1)]) else { return };
    let (plain, unsteady) = (App::new(&real.connection), transactional(&real.connection));
    let log_one = |topic, partition| log(&unsteady, &real.connection, topic, partition, "unsteady");
    unsteady.begin_transaction().unwrap();
    log_one("query_log", 0);
    unsteady.abort_transaction(TIMEOUT).unwrap();
    plain.log("query_log", 1, now_ms(), "plain");
    plain.flush();
    let inputs = inputs(&real.connection, &["query_log", "node_capacity"], Reading::Live);
    let mut source = open(&inputs, vec![]);
    let mut late_ms = Vec::new();
    let mut next = || {
        let filled = next(&mut source);
        let deadline = (filled.bounds.tick + 1) * RULES.tick_ms + RULES.grace_ms;
        late_ms.push(now_ms().saturating_sub(deadline));
        filled
    };
    let first = next();
    assert_eq!(values(&first), ["plain"]);
    assert!(first.bounds.spans[&at("query_log", 0)].to.0 > 0, "aborted records have offsets");

    // What an open transaction hides counts in the tick that is open when it is committed.
    unsteady.begin_transaction().unwrap();
    log_one("query_log", 2);
    plain.log("query_log", 1, now_ms(), "plain");
    plain.flush();
    let second = next();
    assert_eq!(values(&second), ["plain"]);
    unsteady.commit_transaction(TIMEOUT).unwrap();
    let third = next();
    assert_eq!(values(&third), ["unsteady"]);
    assert!(first.bounds.is_followed_by(&second.bounds));
    assert!(second.bounds.is_followed_by(&third.bounds));
    report(&format!("ticks came {late_ms:?} ms after their grace"));
}

#[test]
fn historical_topic_of_last_year_is_read_from_a_time_to_a_time() {
    let kept = BTreeMap::from([("retention.ms".to_owned(), "-1".to_owned())]);
    let Some(real) = real_with("history", &[("query_log", 3)], &kept) else { return };
    let begin = (now_ms() - YEAR_MS) / 1000;
    let app = App::new(&real.connection);
    for tick in 0..30 {
        for (partition, ms) in history(tick, "query_log") {
            let stamp = (begin + tick) * 1000 + ms;
            app.log("query_log", partition, stamp, &tick.to_string());
        }
    }
    app.flush();
    let mut inputs = historical(&real.connection, &["query_log"]);
    let read = |inputs: &Inputs, recorded: Vec<TickBox>| {
        let mut source = open(inputs, recorded);
        let mut filled = Vec::new();
        while let Some(next) = source.next_tick().unwrap() {
            filled.push(next);
        }
        filled
    };
    let whole = read(&inputs, vec![]);
    assert_eq!(whole.iter().map(|it| it.bounds.tick).collect::<Vec<_>>(), ticks(begin, 0..30));
    for filled in &whole {
        let count = history(filled.bounds.tick - begin, "query_log").count();
        assert_eq!(filled.records.len(), count);
        assert!(!filled.bounds.stale);
    }
    let boxes: Vec<_> = whole.into_iter().map(|it| it.bounds).collect();
    let again: Vec<_> = read(&inputs, boxes.clone()).into_iter().map(|it| it.bounds).collect();
    assert_eq!(again, boxes);
    // Tick 10 has no record.
    inputs.inputs[0].start = Start::Time(Millis((begin + 10) * 1000));
    inputs.inputs[0].end = Some(Millis((begin + 20) * 1000));
    let part = read(&inputs, vec![]);
    assert_eq!(part.iter().map(|it| it.bounds.tick).collect::<Vec<_>>(), ticks(begin, 11..20));
    let found = offsets_at(&real.connection, "query_log", Millis((begin + 10) * 1000)).unwrap();
    assert_eq!(found[&at("query_log", 0)], part[0].bounds.spans[&at("query_log", 0)].from);
}

#[test]
fn what_retention_has_deleted_is_an_error_with_a_remedy() {
    let Some(real) = real_with("gap", &[("query_log", 2)], &BTreeMap::new()) else { return };
    let begin = (now_ms() - HOUR_MS) / 1000;
    let app = App::new(&real.connection);
    for n in 0..10 {
        app.log("query_log", 1, (begin + n) * 1000, "queries");
    }
    app.flush();
    let inputs = historical(&real.connection, &["query_log"]);
    let mut source = open(&inputs, vec![]);
    let boxes = [next(&mut source).bounds, next(&mut source).bounds];
    let client =
        ClientConfig::new().set("bootstrap.servers", &real.connection.bootstrap_servers).clone();
    let admin: AdminClient<DefaultClientContext> = client.create().unwrap();
    let mut list = TopicPartitionList::new();
    let topic = real.connection.topic("query_log");
    list.add_partition_offset(&topic, 1, At::Offset(6)).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(admin.delete_records(&list, &AdminOptions::new())).unwrap();
    let err = Source::open(&inputs, boxes[1..].to_vec()).err().expect("refused").to_string();
    let named = [&topic[..], "partition 1", "offset 1 ", "offset 6;", "raise retention.ms"];
    assert!(named.iter().all(|it| err.contains(it)), "{err}");
}

/// What the embedded broker does when it drops records is caught by the client already; so holes are
/// made with markers here, which are none on a real Kafka.
#[test]
fn missing_offset_is_a_gap_where_offsets_have_no_holes() {
    let Some(real) = real_with("holes", &[("query_log", 1)], &BTreeMap::new()) else { return };
    let unsteady = transactional(&real.connection);
    for _ in 0..2 {
        unsteady.begin_transaction().unwrap();
        log(&unsteady, &real.connection, "query_log", 0, "queries");
        unsteady.commit_transaction(TIMEOUT).unwrap();
    }
    let strict = Connection { embedded: true, ..real.connection.clone() };
    let gap =
        "has a gap: partition 0 has no offset 1 any more, the next record there is has offset 2";
    let mut source = open(&historical(&strict, &["query_log"]), vec![]);
    let err = source.next_tick().unwrap_err().to_string();
    assert!(err.contains(gap), "{err}");
    let each = |_| ControlFlow::Continue(());
    let err = scan(&strict, "query_log", Start::Beginning, each).unwrap_err().to_string();
    assert!(err.contains(gap), "{err}");
    scan(&real.connection, "query_log", Start::Beginning, each).unwrap();
}

#[test]
fn topics_are_created_once_and_listed_with_their_settings() {
    let Some(real) = real("admin", &[]) else { return };
    let admin = Admin::open(&real.connection).unwrap();
    let compacted = Topic {
        partitions: 2,
        replication: 1,
        settings: BTreeMap::from([("cleanup.policy".into(), "compact,delete".into())]),
    };
    let plain = Topic { partitions: 1, replication: 1, ..Topic::default() };
    let topics = BTreeMap::from([("heatmap".into(), compacted), ("plan".into(), plain)]);
    let created = |at| BTreeMap::from([("heatmap".to_owned(), at), ("plan".to_owned(), at)]);
    assert_eq!(admin.create(&topics).unwrap(), created(Created::Now));
    assert_eq!(admin.create(&topics).unwrap(), created(Created::Before));
    let wait = Instant::now() + TIMEOUT;
    let mut listed = admin.topics().unwrap();
    while listed.len() < 2 {
        assert!(Instant::now() < wait, "{listed:?}");
        listed = admin.topics().unwrap();
    }
    assert_eq!(listed.keys().collect::<Vec<_>>(), ["heatmap", "plan"]);
    assert_eq!((listed["heatmap"].partitions, listed["heatmap"].replication), (2, 1));
    assert_eq!(listed["heatmap"].settings["cleanup.policy"], "compact,delete");
    assert_eq!(listed["plan"].settings["cleanup.policy"], "delete");
    assert!(listed["plan"].settings.contains_key("retention.ms"));
    let refused = BTreeMap::from([(
        "bad".into(),
        Topic { partitions: 1, replication: 9, ..Topic::default() },
    )]);
    let err = format!("{:#}", admin.create(&refused).unwrap_err());
    assert!(err.contains("admin-") && err.contains("bad"), "{err}");
}

#[test]
fn record_for_a_missing_topic_is_told_by_name() {
    let Some(real) = real("missing", &[]) else { return };
    let writer = Writer::open(&real.connection, "test").unwrap();
    let sent = writer.send(&Output::new("plan", vec![1], vec![1])).and_then(|()| writer.flush());
    let err = sent.unwrap_err().to_string();
    assert!(err.contains("missing-") && err.contains("plan"), "{err}");
    let sink = Sink::open(&real.connection, "planner").unwrap();
    let err = sink.commit(&[Output::new("plan", vec![1], vec![1])]).unwrap_err();
    assert!(matches!(err, CommitError::Aborted { .. }), "{err:?}");
    assert!(err.to_string().contains("missing-"), "{err}");
}

#[test]
fn standby_takes_over_from_who_is_gone_and_not_before() {
    let Some(real) = real("standby", &[("planner_progress", 1)]) else { return };
    let join = |member| Standby::join(&real.connection, "planner_progress", "planner", member);
    // The later one has the lesser name.
    let first = join("planner-b").unwrap();
    first.wait_for_turn().unwrap();
    let second = Arc::new(join("planner-a").unwrap());
    let (told, turn) = channel();
    let waiting = second.clone();
    let waiter = thread::spawn(move || told.send(waiting.wait_for_turn()).unwrap());
    // As long as a session, and some.
    let early = turn.recv_timeout(Duration::from_secs(8));
    assert!(matches!(early, Err(RecvTimeoutError::Timeout)), "{early:?}");
    assert!(!first.has_lost_turn());
    drop(first);
    turn.recv_timeout(TIMEOUT).expect("nobody takes over").unwrap();
    waiter.join().unwrap();
    assert!(!second.has_lost_turn());
    // Who comes under the same name takes its place, and it must go.
    let third = join("planner-a").unwrap();
    third.wait_for_turn().unwrap();
    let deadline = Instant::now() + TIMEOUT;
    while !second.has_lost_turn() {
        assert!(Instant::now() < deadline, "two of one name");
        thread::yield_now();
    }
    assert!(!third.has_lost_turn());
}

#[test]
fn broker_away_at_start_and_in_the_middle_is_waited_for_and_nothing_is_lost() {
    let topics = [("query_log", 2), ("heatmap", 1), ("planner_progress", 1)];
    let Some(Real { connection, here }) = real("away", &topics) else { return };
    drop(here);
    let Some(mut broker) = Broker::alone("away") else { return };
    let lines = Lines::capture();
    broker.stop();
    let (ticks, ticked) = channel();
    let planner = {
        let connection = connection.clone();
        thread::spawn(move || {
            let mut sink = Sink::open(&connection, "planner").unwrap();
            let mut source = open(&inputs(&connection, &["query_log"], Reading::Live), vec![]);
            ticks.send((source.stop(), None)).unwrap();
            let mut aborted = 0;
            while let Some(filled) = source.next_tick().unwrap() {
                let heat = filled.records.iter();
                let mut outputs: Vec<_> = heat
                    .map(|it| Output::new("heatmap", vec![], it.value.clone().unwrap()))
                    .collect();
                let progress = filled.bounds.tick.to_string().into_bytes();
                outputs.push(Output::new("planner_progress", vec![], progress));
                while let Err(err) = sink.commit(&outputs) {
                    assert!(matches!(err, CommitError::Aborted { .. }), "{err:?}");
                    aborted += 1;
                    assert!(aborted < 10, "{err:?}");
                    // As the planner does, by a client of its own.
                    sink = Sink::open(&connection, "planner").unwrap();
                }
                _ = ticks.send((source.stop(), Some(filled.bounds)));
            }
            aborted
        })
    };
    // Away at the start: the planner waits, and says so.
    lines.wait_for("cannot be reached", 1);
    assert!(ticked.try_recv().is_err());
    broker.start();
    let (stop, _) = ticked.recv_timeout(TIMEOUT).expect("the planner does not come up");
    lines.wait_for("is back", 1);

    let app = App::new(&connection);
    let mut logged = 0;
    let mut log = |n: usize| {
        for _ in 0..n {
            app.log("query_log", logged % 2, now_ms(), &format!("{logged:04}"));
            logged += 1;
        }
    };
    log(100);
    app.flush();
    let mut boxes: Vec<TickBox> = Vec::new();
    let seen = |boxes: &mut Vec<TickBox>, until: usize| {
        let deadline = Instant::now() + 3 * TIMEOUT;
        while boxes.iter().map(in_box).sum::<usize>() < until {
            let left = deadline.saturating_duration_since(Instant::now());
            boxes.extend(ticked.recv_timeout(left).expect("the planner does not go on").1);
        }
    };
    seen(&mut boxes, 100);
    // Away for ten seconds in the middle: nothing can be told of the ends of ticks.
    broker.stop();
    log(100);
    let since = Instant::now();
    let away = Duration::from_secs(10);
    while let Some(left) = away.checked_sub(since.elapsed()) {
        match ticked.recv_timeout(left) {
            // On its way when the broker went.
            Ok((_, bounds)) if since.elapsed() < Duration::from_secs(6) => boxes.extend(bounds),
            Ok((_, bounds)) => panic!("{bounds:?} without a broker"),
            Err(_) => break,
        }
    }
    broker.start();
    log(100);
    app.flush();
    seen(&mut boxes, 300);
    stop.stop();
    let aborted = planner.join().unwrap();
    assert!(boxes.is_sorted_by(|a, b| a.is_followed_by(b)));
    let heat = tail(&connection, "heatmap", usize::MAX).unwrap();
    let mut heat: Vec<_> =
        heat.iter().map(|it| String::from_utf8(it.value.clone().unwrap()).unwrap()).collect();
    heat.sort();
    assert_eq!(heat, (0..300).map(|it| format!("{it:04}")).collect::<Vec<_>>());
    let progress = tail(&connection, "planner_progress", usize::MAX).unwrap();
    assert!(progress.len() >= boxes.len());
    let said = lines.count("cannot be reached");
    // Once each time, and again after each half minute, as a broker may take long to start.
    let again: u64 = lines.away_s().iter().map(|it| it / 30).sum();
    assert!((2..=3 + again as usize).contains(&said), "{said} lines say so: {}", lines.text());
    assert_eq!(lines.count("is back"), 2, "{}", lines.text());
    assert!(lines.text().contains("Connection refused"), "{}", lines.text());
    report(&format!("the broker was away twice: {said} lines, {aborted} ticks committed again"));
}

#[test]
fn broker_that_refuses_us_is_an_error_with_its_reason_and_a_reader_needs_few_rights() {
    let names = ["ISOTHERM_TEST_KAFKA_SECURE", "ISOTHERM_TEST_KAFKA_CA"];
    let [Ok(servers), Ok(ca)] = names.map(std::env::var) else {
        return report(&format!("SKIPPED secure: {} and {} are not set", names[0], names[1]));
    };
    let topics = [("query_log", 2), ("planner_progress", 1)];
    let Some(real) = real_with("secure", &topics, &BTreeMap::new()) else { return };
    let begin = (now_ms() - HOUR_MS) / 1000;
    let app = App::new(&real.connection);
    (0..5).for_each(|n| app.log("query_log", 1, (begin + n) * 1000, "queries"));
    app.flush();
    let with = |password: &str, ca: &str| {
        let properties = [
            ("security.protocol", "SASL_SSL"),
            ("sasl.mechanism", "SCRAM-SHA-512"),
            ("sasl.username", "isotherm"),
            ("sasl.password", password),
            ("ssl.ca.location", ca),
        ];
        let properties = properties.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let (bootstrap_servers, properties) = (servers.clone(), BTreeMap::from(properties));
        Connection { bootstrap_servers, properties, ..real.connection.clone() }
    };
    let mistaken = with("wrong", &ca);
    let mut plain = with("isotherm", &ca);
    plain.properties.clear();
    // Who reads on is not to wait for ever for what does not pass; who only looks, not at all.
    let opened = Source::open(&historical(&mistaken, &["query_log"]), vec![]);
    let refused = opened.err().expect("refused").to_string();
    let named = [&servers[..], "refuses", "Authentication failed", "sasl.*"];
    assert!(named.iter().all(|it| refused.contains(it)), "{refused}");
    let refused = Sink::open(&mistaken, "planner").err().expect("refused").to_string();
    assert!(refused.contains("Authentication failed"), "{refused}");
    let refused = tail(&mistaken, "planner_progress", 1).unwrap_err().to_string();
    assert!(refused.contains("Authentication failed"), "{refused}");
    let refused = tail(&plain, "planner_progress", 1).unwrap_err().to_string();
    assert!(refused.contains("security.protocol"), "{refused}");

    let connection = with("isotherm", &ca);
    let forbidden = tail(&connection, "planner_progress", 1).unwrap_err();
    assert!(format!("{forbidden:#}").contains("uthoriz"), "{forbidden:#}");
    allow(&real.connection, "query_log");
    let deadline = Instant::now() + TIMEOUT;
    let mut source = loop {
        // The broker takes a moment to know of it.
        match Source::open(&historical(&connection, &["query_log"]), vec![]) {
            Ok(source) => break source,
            Err(err) => assert!(Instant::now() < deadline, "{err:#}"),
        }
    };
    let mut read = 0;
    while let Some(filled) = source.next_tick().unwrap() {
        read += filled.records.len();
    }
    assert_eq!(read, 5);
}

/// Lets user isotherm read a topic, and nothing else: no group, no other topic.
fn allow(connection: &Connection, topic: &str) {
    let script = std::env::var("ISOTHERM_TEST_KAFKA_SCRIPT").expect("to call Kafka's tools by");
    let topic = connection.topic(topic);
    let rights = ["--allow-principal", "User:isotherm", "--operation", "Read", "--topic", &topic];
    let servers = ["tool", "acls", "--bootstrap-server", &connection.bootstrap_servers, "--add"];
    kafka(&script, &[&servers[..], &rights[..]].concat());
}

/// A connection to a real Kafka with topics of its own, while nobody stops it.
pub struct Real {
    pub connection: Connection,
    here: RwLockReadGuard<'static, ()>,
}

pub fn real(name: &str, topics: &[(&str, u32)]) -> Option<Real> {
    let stamped = ("message.timestamp.type".to_owned(), "LogAppendTime".to_owned());
    real_with(name, topics, &BTreeMap::from([stamped]))
}

/// Returns a connection with its topics created, or skips the test, so that it shows.
fn real_with(
    name: &str,
    topics: &[(&str, u32)],
    settings: &BTreeMap<String, String>,
) -> Option<Real> {
    let Ok(bootstrap_servers) = std::env::var("ISOTHERM_TEST_KAFKA") else {
        report(&format!(
            "SKIPPED {name}: ISOTHERM_TEST_KAFKA is not set, so this is not tested on a real Kafka"
        ));
        return None;
    };
    let here = BROKER.read().unwrap_or_else(PoisonError::into_inner);
    let prefix = format!("{name}-{}-", now_ms());
    let connection = Connection { bootstrap_servers, prefix, ..Connection::default() };
    if !topics.is_empty() {
        let topic = |n: u32| Topic { partitions: n, replication: 1, settings: settings.clone() };
        let topics = topics.iter().map(|(name, n)| ((*name).to_owned(), topic(*n)));
        Admin::open(&connection).unwrap().create(&topics.collect()).unwrap();
    }
    Some(Real { connection, here })
}

/// An app server whose records only count when it commits.
pub fn transactional(connection: &Connection) -> ThreadedProducer<DefaultProducerContext> {
    let mut client = ClientConfig::new();
    client.set("bootstrap.servers", &connection.bootstrap_servers);
    client.set("transactional.id", connection.topic("app"));
    let producer: ThreadedProducer<_> = client.create().unwrap();
    producer.init_transactions(TIMEOUT).unwrap();
    producer
}

/// Logs in an open transaction, and waits until it is there: or there is nothing to abort.
pub fn log(
    producer: &ThreadedProducer<DefaultProducerContext>,
    connection: &Connection,
    topic: &str,
    partition: i32,
    value: &str,
) {
    let topic = connection.topic(topic);
    let record = BaseRecord::<(), str>::to(&topic).payload(value).partition(partition);
    producer.send(record).map_err(|(err, _)| err).unwrap();
    let deadline = Instant::now() + TIMEOUT;
    while producer.in_flight_count() > 0 {
        assert!(Instant::now() < deadline, "Kafka does not answer");
        producer.poll(Duration::from_millis(1));
    }
}

fn in_box(bounds: &TickBox) -> usize {
    bounds.spans.values().map(|span| (span.to.0 - span.from.0) as usize).sum()
}

fn ticks(begin: u64, ticks: std::ops::Range<u64>) -> Vec<u64> {
    ticks.map(|tick| begin + tick).collect()
}

/// What is logged at INFO and above.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Lines {
    fn capture() -> Self {
        let lines = Self::default();
        let writer = lines.clone();
        let subscriber =
            tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone());
        tracing::subscriber::set_global_default(subscriber.finish()).unwrap();
        lines
    }

    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }

    fn count(&self, part: &str) -> usize {
        self.text().lines().filter(|line| line.contains(part)).count()
    }

    /// How long the broker was away, each time, in seconds.
    fn away_s(&self) -> Vec<u64> {
        let text = self.text();
        let told = text.lines().filter_map(|line| line.split_once("is back away_s="));
        told.map(|it| it.1.trim().parse().unwrap()).collect()
    }

    fn wait_for(&self, part: &str, n: usize) {
        let deadline = Instant::now() + TIMEOUT;
        while self.count(part) < n {
            assert!(Instant::now() < deadline, "nobody says {part}: {}", self.text());
            thread::yield_now();
        }
    }
}

impl io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
