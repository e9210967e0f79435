//! Partitions that are followed by hand: on the embedded broker, and on a real Kafka what needs its
//! transactions, its retention, or that it is away.

use isotherm::kafka::Record;
use isotherm::kafka::follow::{Follower, From};
use isotherm::kafka::gap::Gone;
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;
use rdkafka::producer::Producer;
use rdkafka::topic_partition_list::{Offset as At, TopicPartitionList};

use super::broker::Broker;
use super::real::{log, real, transactional};
use super::*;

/// Nothing is waited for that is not there already.
const AT_ONCE: Duration = Duration::from_millis(1);

#[test]
fn several_topics_are_followed_each_from_an_offset_of_its_own() {
    let broker = broker(&[("index_update", 2), ("assignment", 1)]);
    let app = App::new(&broker.connection());
    write(&app, "index_update", 1, 0..50);
    write(&app, "assignment", 0, 0..20);
    let mut follower = Follower::open(&broker.connection(), "worker").unwrap();
    assert_eq!(follower.partitions("index_update").unwrap().len(), 2);
    let (updates, map) = (at("index_update", 1), at("assignment", 0));
    let from = [
        (updates, From::At(Offset(30))),
        (map, From::Beginning),
        (at("index_update", 0), From::End),
    ];
    follower.add(from).unwrap();
    let ends = follower.ends().unwrap().unwrap();
    assert_eq!((ends[&updates], ends[&map]), (Offset(50), Offset(20)));
    let read = read_to(&mut follower, &ends);
    assert_eq!(of(&read, updates), numbers(30..50));
    assert_eq!(of(&read, map), numbers(0..20));
    assert_eq!(follower.positions().unwrap()[&updates], Offset(50));
    // And what comes later.
    write(&app, "index_update", 0, 7..9);
    let ends = follower.ends().unwrap().unwrap();
    assert_eq!(of(&read_to(&mut follower, &ends), at("index_update", 0)), numbers(7..9));
    let again = follower.add([(map, From::Beginning)]).unwrap_err().to_string();
    assert!(again.contains("assignment/0 is followed already"), "{again}");
}

#[test]
fn r2_paused_partition_holds_up_nobody_and_loses_nothing() {
    let broker = broker(&[("index_update", 3)]);
    let app = App::new(&broker.connection());
    for partition in 0..3 {
        write(&app, "index_update", partition, 0..200);
    }
    let mut follower = Follower::open(&broker.connection(), "worker").unwrap();
    let waits = at("index_update", 1);
    follower.add((0..3).map(|it| (at("index_update", it), From::Beginning))).unwrap();
    // It waits with the first record in hand.
    let mut held = Vec::new();
    let mut others = Vec::new();
    let deadline = Instant::now() + TIMEOUT;
    while others.len() < 400 {
        assert!(Instant::now() < deadline, "{} records of the others", others.len());
        let Some(record) = follower.poll(AT_ONCE).unwrap() else { continue };
        match record.at == waits {
            true => {
                assert!(held.is_empty(), "{record:?} of a paused partition");
                follower.pause(waits);
                held.push(record);
            }
            false => others.push(record),
        }
    }
    assert_eq!(of(&others, at("index_update", 0)), numbers(0..200));
    write(&app, "index_update", 1, 200..220);
    follower.resume(waits);
    let ends = follower.ends().unwrap().unwrap();
    held.extend(read_to(&mut follower, &ends));
    assert_eq!(of(&held, waits), numbers(0..220));
}

#[test]
fn partition_that_is_taken_away_and_back_begins_where_it_is_told() {
    let broker = broker(&[("table", 2)]);
    let app = App::new(&broker.connection());
    (0..2).for_each(|it| write(&app, "table", it, 0..100));
    let mut follower = Follower::open(&broker.connection(), "worker").unwrap();
    let (table, other) = (at("table", 0), at("table", 1));
    follower.add([(other, From::Beginning)]).unwrap();
    for begin in [0, 60, 10, 99, 0] {
        follower.add([(table, From::At(Offset(begin)))]).unwrap();
        let ends = BTreeMap::from([(table, Offset(100))]);
        assert_eq!(follower.positions().unwrap()[&table], Offset(begin), "none is read");
        assert!(!follower.has_reached(&ends).unwrap());
        let mut read = read_to(&mut follower, &ends);
        assert_eq!(of(&read, table), numbers(begin..100));
        follower.seek(table, Offset(begin.max(50))).unwrap();
        read = read_to(&mut follower, &ends);
        assert_eq!(of(&read, table), numbers(begin.max(50)..100));
        follower.remove(&[table]).unwrap();
        assert_eq!(follower.positions().unwrap().len(), 1);
    }
}

#[test]
fn wait_for_a_record_ends_when_it_comes_and_when_it_is_ended() {
    let broker = broker(&[("assignment", 1)]);
    let app = App::new(&broker.connection());
    let mut follower = Follower::open(&broker.connection(), "worker").unwrap();
    follower.add([(at("assignment", 0), From::End)]).unwrap();
    let waker = follower.waker();
    let writer = thread::spawn(move || write(&app, "assignment", 0, 0..1));
    assert!(follower.poll(TIMEOUT).unwrap().is_some());
    writer.join().unwrap();
    let begin = Instant::now();
    waker.wake();
    assert_eq!(follower.poll(TIMEOUT).unwrap(), None);
    assert!(begin.elapsed() < TIMEOUT, "the wait was not ended");
}

#[test]
fn record_that_the_embedded_broker_has_dropped_is_gone() {
    let broker = broker(&[("index_update", 1)]);
    let app = App::new(&broker.connection());
    let kibibyte = "x".repeat(64 * 1024);
    for _ in 0..128 {
        app.log("index_update", 0, now_ms(), &kibibyte);
    }
    app.flush();
    let mut follower = Follower::open(&broker.connection(), "worker").unwrap();
    let err = follower.add([(at("index_update", 0), From::At(Offset(0)))]).unwrap_err();
    let gone = err.downcast_ref::<Gone>().expect("it says so");
    assert_eq!((gone.at, gone.wanted), (at("index_update", 0), Offset(0)));
    assert!(gone.to_string().contains("5 MiB"), "{gone}");
    // From where there is something left, it goes on.
    follower.add([(at("index_update", 0), From::Beginning)]).unwrap();
    assert!(follower.poll(TIMEOUT).unwrap().is_some());
}

#[test]
fn end_behind_markers_and_aborted_records_is_reached() {
    let Some(real) = real("follow", &[("table", 2)]) else { return };
    let unsteady = transactional(&real.connection);
    let mut follower = Follower::open(&real.connection, "worker").unwrap();
    let ids = [at("table", 0), at("table", 1)];
    follower.add(ids.map(|it| (it, From::Beginning))).unwrap();
    // Nothing but an aborted record and its marker.
    unsteady.begin_transaction().unwrap();
    log(&unsteady, &real.connection, "table", 1, "aborted");
    unsteady.abort_transaction(TIMEOUT).unwrap();
    let ends = ends_behind(&follower, ids[1], 2);
    assert_eq!(read_to(&mut follower, &ends), []);
    for n in 0..5 {
        unsteady.begin_transaction().unwrap();
        log(&unsteady, &real.connection, "table", 0, &n.to_string());
        unsteady.commit_transaction(TIMEOUT).unwrap();
    }
    // Each with its marker.
    let ends = ends_behind(&follower, ids[0], 10);
    let read = read_to(&mut follower, &ends);
    assert_eq!(of(&read, ids[0]), numbers(0..5));
    assert_eq!(follower.positions().unwrap(), ends);
    // What is open is not read, and its offsets are not the end.
    unsteady.begin_transaction().unwrap();
    log(&unsteady, &real.connection, "table", 0, "open");
    let open = follower.ends().unwrap().unwrap();
    assert_eq!(open[&ids[0]], ends[&ids[0]]);
    assert_eq!(read_to(&mut follower, &open), []);
    unsteady.commit_transaction(TIMEOUT).unwrap();
    // Begun anew from the middle of all that, the same end is reached.
    let ends = ends_behind(&follower, ids[0], 12);
    follower.seek(ids[0], Offset(9)).unwrap();
    assert_eq!(of(&read_to(&mut follower, &ends), ids[0]), ["open"]);
}

#[test]
fn what_retention_has_deleted_is_gone_for_who_follows() {
    let Some(real) = real("followed", &[("index_update", 2)]) else { return };
    let app = App::new(&real.connection);
    write(&app, "index_update", 1, 0..10);
    let client =
        ClientConfig::new().set("bootstrap.servers", &real.connection.bootstrap_servers).clone();
    let admin: AdminClient<DefaultClientContext> = client.create().unwrap();
    let mut list = TopicPartitionList::new();
    let topic = real.connection.topic("index_update");
    list.add_partition_offset(&topic, 1, At::Offset(6)).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(admin.delete_records(&list, &AdminOptions::new())).unwrap();
    let mut follower = Follower::open(&real.connection, "worker").unwrap();
    let err = follower.add([(at("index_update", 1), From::At(Offset(5)))]).unwrap_err();
    assert!(err.downcast_ref::<Gone>().is_some(), "{err:#}");
    follower.add([(at("index_update", 1), From::At(Offset(6)))]).unwrap();
    let ends = follower.ends().unwrap().unwrap();
    assert_eq!(of(&read_to(&mut follower, &ends), at("index_update", 1)), numbers(6..10));
    // Behind its end there was never anything: the topic is another.
    follower.seek(at("index_update", 1), Offset(99)).unwrap();
    let deadline = Instant::now() + TIMEOUT;
    let err = loop {
        assert!(Instant::now() < deadline, "an offset behind the end is no error");
        if let Err(err) = follower.poll(AT_ONCE) {
            break err;
        }
    };
    assert!(err.downcast_ref::<Gone>().is_some(), "{err:#}");
}

#[test]
fn broker_that_is_away_is_waited_for_by_who_follows() {
    let Some(real) = real("follow-away", &[("index_update", 1)]) else { return };
    let connection = real.connection.clone();
    drop(real);
    let Some(mut broker) = Broker::alone("away") else { return };
    let app = App::new(&connection);
    write(&app, "index_update", 0, 0..10);
    let mut follower = Follower::open(&connection, "worker").unwrap();
    follower.add([(at("index_update", 0), From::Beginning)]).unwrap();
    let ends = follower.ends().unwrap().unwrap();
    assert_eq!(read_to(&mut follower, &ends).len(), 10);
    broker.stop();
    let deadline = Instant::now() + TIMEOUT;
    while follower.ends().unwrap().is_some() {
        assert!(Instant::now() < deadline, "a broker that is stopped answers");
    }
    assert_eq!(follower.poll(AT_ONCE).unwrap(), None);
    broker.start();
    write(&app, "index_update", 0, 10..20);
    let ends = BTreeMap::from([(at("index_update", 0), Offset(20))]);
    let read = read_to(&mut follower, &ends);
    assert_eq!(of(&read, at("index_update", 0)), numbers(10..20));
}

/// Waits for a partition to end there: what was committed just now may not count yet.
fn ends_behind(
    follower: &Follower,
    at: TopicPartition,
    end: u64,
) -> BTreeMap<TopicPartition, Offset> {
    let deadline = Instant::now() + TIMEOUT;
    loop {
        let ends = follower.ends().unwrap().unwrap();
        if Offset(end) <= ends[&at] {
            return ends;
        }
        assert!(Instant::now() < deadline, "{at} ends at {:?}, not at {end}", ends[&at]);
    }
}

/// Reads until these ends are reached, and returns what came, past them or of others too.
fn read_to(follower: &mut Follower, ends: &BTreeMap<TopicPartition, Offset>) -> Vec<Record> {
    let deadline = Instant::now() + TIMEOUT;
    let mut read = Vec::new();
    while !follower.has_reached(ends).unwrap() {
        let positions = follower.positions().unwrap();
        assert!(Instant::now() < deadline, "read to {positions:?} of {ends:?}");
        read.extend(follower.poll(AT_ONCE).unwrap());
    }
    read
}

fn write(app: &App, topic: &'static str, partition: u32, numbers: std::ops::Range<u64>) {
    for n in numbers {
        app.log(topic, partition as i32, now_ms(), &n.to_string());
    }
    app.flush();
}

fn of(records: &[Record], at: TopicPartition) -> Vec<String> {
    let mine = records.iter().filter(|it| it.at == at);
    mine.map(|it| String::from_utf8(it.value.clone().unwrap()).unwrap()).collect()
}

fn numbers(of: std::ops::Range<u64>) -> Vec<String> {
    of.map(|it| it.to_string()).collect()
}
