//! Load between a schedule, routers that stand in and a table on the embedded broker; and as a command
//! between processes.

mod standin;
mod process;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::time::Duration;

use isotherm::kafka::Connection;
use isotherm::kafka::embedded::Embedded;
use isotherm::kafka::tail::{Start, scan};
use isotherm::load::driver::{Options, Status, Watch, fill, filler, run, unreachable};
use isotherm::load::rows::Filling;
use isotherm::load::schedule::Schedule;
use isotherm::load::tally::{Reason, Tally};
use isotherm::replay::key;
use isotherm::replay::trace::TraceError;
use rdkafka::bindings::rd_kafka_resp_err_t as Refusal;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use rdkafka::types::RDKafkaApiKey;
use schemas::Millis;
use schemas::query_log::{Op, QueryLogged};
use schemas::table::RowChanged;
use schemas::wire::decode;

use self::standin::{Mood, Standin};
use crate::kafka::broker;

/// Reads wait for a fourth of it for one router.
const DEADLINE: Duration = Duration::from_secs(8);

/// One for a run on the embedded broker.
struct Run {
    broker: Embedded,
    options: Options,
}

impl Run {
    fn new(routers: &[&Standin]) -> Self {
        let broker = broker(&[("table", 3)]);
        let routers = routers.iter().map(|it| it.address.to_string()).collect();
        let options = Options { deadline: DEADLINE, ..Options::new(broker.connection(), routers) };
        Self { broker, options }
    }

    /// Plays one read of each key, the first at once and the others so many ms after each other.
    fn reads(&self, keys: u64, every_ms: u64) -> Tally {
        let queries = (0..keys).map(move |it| query(it * every_ms, it, Op::Read));
        self.play(queries, &mut Looking::default())
    }

    fn play(
        &self,
        queries: impl Iterator<Item = QueryLogged> + Send + 'static,
        looking: &mut Looking<'_>,
    ) -> Tally {
        run(&self.options, schedule(queries), looking).unwrap()
    }
}

fn schedule(queries: impl Iterator<Item = QueryLogged> + Send + 'static) -> Schedule {
    Schedule::trace(queries.map(Ok::<_, TraceError>), 1.0)
}

fn query(time_ms: u64, index: u64, op: Op) -> QueryLogged {
    let (time, key, cost_us) = (Millis(time_ms), key(index), None);
    QueryLogged { time, key, op, cost_us, bytes: 0, estimated: false }
}

/// Looks on; stops when it is told what it waits for.
#[derive(Default)]
struct Looking<'a> {
    stops: Option<&'a dyn Fn(&Status) -> bool>,
    is_stopping: bool,
    told: Vec<Status>,
}

impl Watch for Looking<'_> {
    fn told(&mut self, status: &Status) {
        self.is_stopping |= self.stops.is_some_and(|it| it(status));
        self.told.push(status.clone());
    }

    fn is_stopping(&self) -> bool {
        self.is_stopping
    }
}

/// What the table says, in order of partition and offset.
fn rows(connection: &Connection) -> BTreeMap<Vec<u8>, Vec<RowChanged>> {
    let mut res = BTreeMap::<_, Vec<_>>::new();
    scan(connection, "table", Start::Beginning, |record| {
        let row = decode::<RowChanged>(&record.value.unwrap()).unwrap();
        res.entry(record.key.unwrap()).or_default().push(row);
        ControlFlow::Continue(())
    })
    .unwrap();
    res
}

#[test]
fn reads_go_to_all_routers_and_updates_to_the_table() {
    let [a, b] = [Standin::start(), Standin::start()];
    b.is(Mood::Misses);
    let run = Run::new(&[&a, &b]);
    let op = |it: u64| if it.is_multiple_of(3) { Op::Write } else { Op::Read };
    let queries = (0..300).map(move |it| query(it, it % 60, op(it)));
    let mut looking = Looking::default();
    let tally = run.play(queries, &mut looking);
    assert_eq!((tally.reads, tally.at_once.count(), tally.updates.count()), (200, 200, 100));
    assert!(tally.is_clean() && tally.repeats == 0, "{tally:?}");
    // Every second read is b's, which has no rows.
    assert_eq!([a.requests().len(), b.requests().len()], [100, 100]);
    assert_eq!((tally.not_found, tally.vanished), (100, 0));
    let requests = [a.requests(), b.requests()].concat();
    assert!(requests.iter().all(|it| (1..=8_000).contains(&it.1)), "{requests:?}");
    let asked: BTreeSet<_> = requests.iter().map(|it| it.0).collect();
    assert_eq!(asked, (0..60).filter(|it: &u64| !it.is_multiple_of(3)).collect());

    let rows = rows(&run.broker.connection());
    assert_eq!(rows.len(), 20);
    for (primary_key, changes) in &rows {
        assert_eq!(changes.len(), 5);
        for (n, change) in changes.iter().enumerate() {
            let key = Some(schemas::Key(primary_key.clone()));
            assert_eq!((&change.before, &change.after), (&key.clone().filter(|_| 0 < n), &key));
            assert_eq!(change.payload.as_ref().unwrap().len(), 100);
        }
    }
    let last = looking.told.last().unwrap();
    assert!(last.all == tally && last.under_way == 0, "{last:?}");
    assert!(last.recent.reads <= 200, "{last:?}");
}

#[test]
fn read_that_a_router_does_not_answer_is_repeated_at_another() {
    for (mood, reason) in [
        (Mood::Refuses(503), Reason::Busy),
        (Mood::Refuses(504), Reason::Late),
        (Mood::Refuses(404), Reason::Refused),
        (Mood::Garbles, Reason::Garbage),
        (Mood::Lies, Reason::Garbage),
        (Mood::Floods, Reason::Garbage),
        (Mood::Hangs, Reason::Silent),
    ] {
        let [a, b] = [Standin::start(), Standin::start()];
        a.is(mood);
        let tally = Run::new(&[&a, &b]).reads(20, 1);
        assert!(tally.is_clean() && tally.reads_answered() == 20, "{mood:?} {tally:?}");
        assert_eq!(b.requests().len(), 20, "{mood:?}");
        let asked = a.requests().len() as u64;
        assert_eq!((tally.repeated.count(), tally.repeats), (asked, asked), "{mood:?}");
        assert!(0 < asked, "{mood:?}");
        assert_eq!(tally.repeated_for, BTreeMap::from([(reason, asked)]), "{mood:?}");
    }
}

#[test]
fn router_that_dies_fails_no_read_while_there_is_another() {
    let [mut a, b] = [Standin::start(), Standin::start()];
    let run = Run::new(&[&a, &b]);
    a.is(Mood::Hangs);
    let address = a.address;
    let hung = a.inner();
    let killer = std::thread::spawn(move || {
        hung.await_requests(5);
        a.stop();
    });
    let tally = run.reads(400, 2);
    killer.join().unwrap();
    assert!(tally.is_clean() && tally.reads_answered() == 400, "{tally:?}");
    assert!(5 <= tally.repeated_for[&Reason::Lost], "{tally:?}");
    assert_eq!(tally.repeats, tally.repeated.count());
    let gone = unreachable(&[address.to_string(), b.address.to_string()]);
    let [(router, why)] = &gone[..] else { panic!("{gone:?}") };
    assert!(*router == address.to_string() && why.to_string().contains("refused"), "{why}");
}

#[test]
fn read_without_an_answer_at_its_deadline_has_failed() {
    let a = Standin::start();
    a.is(Mood::Refuses(503));
    let mut run = Run::new(&[&a]);
    run.options.deadline = Duration::from_millis(700);
    let tally = run.reads(10, 1);
    assert_eq!((tally.reads_failed(), tally.reads_answered()), (10, 0));
    assert_eq!(tally.failed_for, BTreeMap::from([(Reason::Busy, 10)]));
    assert!(700_000 <= tally.failed.quantile(0.0).unwrap() + 7_000, "{tally:?}");
    assert_eq!(a.requests().len() as u64, 10 + tally.repeats);
    assert!((30..500).contains(&tally.repeats), "pauses grow: {tally:?}");
}

/// In a closed loop, or on too few connections, the last would never come.
#[test]
fn what_is_due_is_sent_though_hundreds_of_reads_wait() {
    let a = Standin::start();
    a.is(Mood::Hangs);
    let run = Run::new(&[&a]);
    let hung = a.inner();
    let waker = std::thread::spawn(move || {
        hung.await_requests(700);
        hung.is(Mood::Serves);
    });
    let tally = run.reads(700, 1);
    waker.join().unwrap();
    assert_eq!((tally.at_once.count(), tally.repeats), (700, 0), "{tally:?}");
    // The first has waited for the last to be due, and that shows.
    assert!(690_000 <= tally.at_once.max().unwrap(), "{tally:?}");
    assert!(300_000 <= tally.at_once.quantile(0.5).unwrap(), "{tally:?}");
}

#[test]
fn reads_that_find_too_many_under_way_fail_at_once_and_are_counted() {
    let a = Standin::start();
    a.is(Mood::Hangs);
    let mut run = Run::new(&[&a]);
    run.options.in_flight_max = 10;
    let hung = a.inner();
    let stops = |status: &Status| {
        let is_full = status.all.not_sent == 30;
        if is_full {
            hung.is(Mood::Serves);
        }
        is_full
    };
    let mut looking = Looking { stops: Some(&stops), ..Looking::default() };
    let reads = (0..40).map(|it| query(it, it, Op::Read));
    // Which it does not wait for.
    let reads = reads.chain([query(60_000, 9, Op::Read)]);
    let tally = run.play(reads, &mut looking);
    assert_eq!((tally.reads, tally.reads_answered(), tally.not_sent), (40, 10, 30), "{tally:?}");
    assert_eq!(tally.failed_for, BTreeMap::from([(Reason::TooMany, 30)]));
    assert!(looking.told.iter().any(|it| it.under_way == 10));
}

#[test]
fn trace_that_breaks_ends_the_run_with_its_line_and_what_was_due_is_answered() {
    let a = Standin::start();
    let run_of = Run::new(&[&a]);
    let broken = TraceError {
        file: "t".into(),
        line: Some(7),
        reason: isotherm::replay::trace::Reason::Time("x".into()),
    };
    let queries = (0..20).map(|it| Ok(query(it, it, Op::Read))).chain([Err(broken)]);
    let schedule = Schedule::trace(queries, 1.0);
    let err = run(&run_of.options, schedule, &mut Looking::default()).unwrap_err();
    assert!(err.to_string().starts_with("t, line 7"), "{err:#}");
    assert_eq!(a.requests().len(), 20);
}

#[test]
fn updates_that_kafka_does_not_take_are_counted_and_stop_nothing() {
    use Refusal::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED as FORBIDDEN;
    let mock: MockCluster<'_, DefaultProducerContext> = MockCluster::new(1).unwrap();
    mock.create_topic("table", 1, 1).unwrap();
    mock.request_errors(RDKafkaApiKey::Produce, &[FORBIDDEN; 2]);
    let a = Standin::start();
    let mut run = Run::new(&[&a]);
    let bootstrap_servers = mock.bootstrap_servers();
    run.options.connection =
        Connection { bootstrap_servers, embedded: true, ..Connection::default() };
    let op = |it: u64| if it.is_multiple_of(2) { Op::Write } else { Op::Read };
    let tally =
        run.play((0..100).map(move |it| query(it * 5, it, op(it))), &mut Looking::default());
    assert_eq!(tally.reads_answered(), 50);
    let there = rows(&run.options.connection).len() as u64;
    assert!(0 < tally.updates_failed, "{tally:?}");
    assert_eq!(there + tally.updates_failed, 50, "each is there, or counted: {tally:?}");
    assert!(!tally.is_clean());
}

#[test]
fn row_that_was_read_and_is_not_there_any_more_is_counted() {
    let router = Standin::start();
    let run = Run::new(&[&router]);
    let inner = router.inner();
    let loses = std::thread::spawn(move || {
        inner.await_requests(10);
        inner.is(Mood::Misses);
    });
    let is_seen = |it: &Status| 0 < it.all.vanished;
    let mut looking = Looking { stops: Some(&is_seen), ..Looking::default() };
    let tally = run.play((0..100_000).map(|it| query(it * 5, it % 3, Op::Read)), &mut looking);
    loses.join().unwrap();
    assert!(0 < tally.vanished && tally.vanished <= tally.not_found, "{tally:?}");
    assert!(tally.is_clean(), "others may delete rows of a table that is not its own");
}

#[test]
fn table_is_filled_with_a_row_for_each_key() {
    let broker = broker(&[("table", 8)]);
    let connection = broker.connection();
    let filling = Filling { keys: 100..20_100, every: 4 };
    let writer = filler(&connection).unwrap();
    assert_eq!(fill(&writer, &filling, 50, 7, &|| false).unwrap(), 5_000);
    let rows = rows(&connection);
    assert_eq!(rows.len(), 5_000);
    let keys: Vec<_> =
        rows.keys().map(|it| u64::from_be_bytes(it[..].try_into().unwrap())).collect();
    assert_eq!(keys, filling.keys().collect::<Vec<_>>());
    assert!(rows.values().all(|it| it.len() == 1 && it[0].before.is_none()));
    assert_eq!(fill(&writer, &filling, 50, 7, &|| true).unwrap(), 0);
}
