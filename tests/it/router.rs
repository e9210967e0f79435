//! The router between clients and stand-ins for workers: in this process on the embedded broker and on
//! a real Kafka, and as a process.

pub mod standin;
pub mod process;

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use isotherm::config::Config;
use isotherm::kafka::source::Start;
use isotherm::kafka::tail::scan;
use isotherm::kafka::writer::Writer;
use isotherm::kafka::{Connection, Output};
use isotherm::router::driver::{Options, Router, Status, Watch};
use isotherm::web::Health;
use isotherm::web::reads::{Answer, Answers, Found};
use isotherm::worker::serving::Serves;
use schemas::assignment::Assignment;
use schemas::node_capacity::{NodeCapacity, NodeState};
use schemas::query_log::{Op, QueriesLogged, QueryLogged};
use schemas::wire::{decode, encode};
use schemas::{Epoch, Inbox, Key, NodeId};

use crate::channel::range;
use crate::kafka::broker;
use crate::kafka::real::real;
use crate::world::await_that;
use standin::{COST_US, Mood, Standin};

const TOPICS: [(&str, u32); 4] =
    [("assignment", 1), ("node_capacity", 1), ("query_log", 2), ("dead_letter", 1)];

#[test]
fn key_is_read_from_who_owns_it() {
    let broker = broker(&TOPICS);
    key_is_read(&broker.connection());
}

#[test]
fn key_is_read_from_who_owns_it_on_a_real_kafka() {
    let Some(real) = real("router", &TOPICS) else { return };
    key_is_read(&real.connection);
}

fn key_is_read(connection: &Connection) {
    let planner = Planner::new(connection);
    let [a, b] = ["a", "b"].map(Standin::start);
    let parts = [("", "m", "a", 1, Serves::Reads), ("m", "", "b", 1, Serves::Nothing)];
    a.serve(1, &parts, &["fig"]);
    let parts = [("", "m", "a", 1, Serves::Nothing), ("m", "", "b", 1, Serves::Reads)];
    b.serve(1, &parts, &["tea"]);
    let router = Running::start(connection, |_| ());
    // There is no map yet, so it waits.
    let early = router.asks_later("GET /v1/keys/fig", "");
    router.until("a read waits", |it| it.waiting == 1);
    planner.reports(&[&a, &b]);
    planner.assign(&[range("", "m", "a", 1), range("m", "", "b", 1)]);
    assert_eq!(told(&early.join().unwrap()), "200 fig of a");
    assert_eq!(told(&router.ask("GET /v1/keys/fig", "")), "200 fig of a");
    assert_eq!(told(&router.ask("GET /v1/keys/tea", "")), "200 tea of b");
    assert_eq!(told(&router.ask("GET /v1/keys/0x7a", "")), "200 ");
    assert_eq!(told(&router.ask("GET /v1/range?start=a&end=z", "")), "200 fig of a, tea of b");
    router.end();
    let logged = logged(connection);
    let count = |op, key: &str| {
        let of = |it: &&QueryLogged| (it.op, it.key.0.as_slice()) == (op, key.as_bytes());
        let all: Vec<_> = logged.iter().filter(of).collect();
        assert!(all.iter().all(|it| (it.cost_us, it.estimated) == (Some(COST_US), false)));
        all.len()
    };
    let counts = [(Op::Read, "fig"), (Op::Read, "tea"), (Op::Scan, "a"), (Op::Scan, "m")];
    assert_eq!(counts.map(|(op, key)| count(op, key)), [2, 1, 1, 1]);
}

/// Two workers and a router, at generation 1: keys below m are a's, the others b's.
struct Pair {
    _broker: isotherm::kafka::embedded::Embedded,
    connection: Connection,
    planner: Planner,
    a: Standin,
    b: Standin,
    router: Running,
}

impl Pair {
    fn start(set: impl FnOnce(&mut Options)) -> Self {
        let broker = broker(&TOPICS);
        let connection = broker.connection();
        let planner = Planner::new(&connection);
        let [a, b] = ["a", "b"].map(Standin::start);
        a.serve(
            1,
            &[("", "m", "a", 1, Serves::Reads), ("m", "", "b", 1, Serves::Nothing)],
            &["fig"],
        );
        b.serve(
            1,
            &[("", "m", "a", 1, Serves::Nothing), ("m", "", "b", 1, Serves::Reads)],
            &["tea"],
        );
        planner.reports(&[&a, &b]);
        planner.assign(&[range("", "m", "a", 1), range("m", "", "b", 1)]);
        let router = Running::start(&connection, set);
        router.until("there is a map", |it| it.generation.0 == 1 && it.endpoints == 2);
        Self { _broker: broker, connection, planner, a, b, router }
    }

    /// Keys below m are to be b's, at epoch 2; b serves them so.
    fn move_to_b(&self, serves: Serves) {
        let source = Serves::ReadsAsSource { frozen: Epoch(1) };
        let parts = [("", "m", "b", 2, source), ("m", "", "b", 1, Serves::Nothing)];
        self.a.serve(2, &parts, &["fig"]);
        let parts = [("", "m", "b", 2, serves), ("m", "", "b", 1, Serves::Reads)];
        self.b.serve(2, &parts, &["fig", "tea"]);
    }

    /// Reads one key, if it can be asked.
    fn try_fig(&self) -> Option<()> {
        let mut stream = TcpStream::connect(self.router.address).ok()?;
        let head = "GET /v1/keys/fig HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
        stream.write_all(head.as_bytes()).ok()?;
        let mut told = String::new();
        stream.read_to_string(&mut told).ok()?;
        told.starts_with("HTTP/1.1 200").then_some(())
    }

    fn fig(&self) -> String {
        told(&self.router.ask("GET /v1/keys/fig", ""))
    }

    fn until_counted(&self, reason: &str, count: u64) {
        self.router.until(&format!("{reason} {count} times"), |it| {
            it.counts.get(reason).is_some_and(|it| count <= *it)
        });
    }
}

#[test]
fn r18_moved_range_is_read_from_its_source_until_the_new_owner_has_it() {
    let pair = Pair::start(|_| ());
    assert_eq!(pair.fig(), "200 fig of a");
    pair.move_to_b(Serves::BySource { node: NodeId("a".into()), epoch: Epoch(1) });
    pair.planner.assign(&[range("", "m", "b", 2)]);
    pair.router.until("the map is newer", |it| it.generation.0 == 2);
    for _ in 0..2 {
        assert_eq!(pair.fig(), "200 fig of a");
    }
    pair.move_to_b(Serves::Reads);
    assert_eq!(pair.fig(), "200 fig of b");
    let requests = [pair.a.requests(), pair.b.requests()].map(|it| it.len());
    assert_eq!(requests, [3, 3], "the source is asked only when the owner says so");
    pair.router.end();
}

#[test]
fn r18_read_by_a_stale_map_waits_for_the_newer_one() {
    let pair = Pair::start(|it| it.settings.hint_after_ms = 1_000_000);
    pair.move_to_b(Serves::Reads);
    let asked = pair.router.asks_later("GET /v1/keys/fig", "");
    pair.until_counted("moved", 1);
    pair.planner.assign(&[range("", "m", "b", 2)]);
    assert_eq!(told(&asked.join().unwrap()), "200 fig of b");
    pair.router.end();
}

#[test]
fn r18_hint_is_followed_when_the_map_does_not_come_and_older_maps_are_passed_over() {
    let pair = Pair::start(|it| it.settings.hint_after_ms = 1);
    let source = Serves::ReadsAsSource { frozen: Epoch(1) };
    pair.a.serve(5, &[("", "", "b", 5, source)], &["fig"]);
    pair.b.serve(5, &[("", "", "b", 5, Serves::Reads)], &["fig"]);
    assert_eq!(pair.fig(), "200 fig of b");
    // By generation 3 alone, a would be the owner, and what it holds is older.
    pair.planner.assign(&[range("", "m", "a", 3)]);
    pair.planner.write(&Output::new("assignment", b"k".to_vec(), b"what?".to_vec()));
    pair.until_counted("not_single_object", 1);
    assert_eq!(pair.router.status.lock().unwrap().generation.0, 1);
    assert_eq!(pair.fig(), "200 fig of b");
    pair.planner.assign(&[range("", "", "b", 5)]);
    pair.router.until("the map is newer", |it| it.generation.0 == 5);
    assert_eq!(pair.fig(), "200 fig of b");
    pair.router.end();
}

#[test]
fn p9_node_that_is_down_is_waited_for() {
    let mut pair = Pair::start(|_| ());
    assert_eq!(told(&pair.router.ask("GET /v1/keys/tea", "")), "200 tea of b");
    pair.b.stop();
    let asked = pair.router.asks_later("GET /v1/keys/tea", "");
    pair.until_counted("unreachable", 3);
    assert_eq!(pair.fig(), "200 fig of a", "the others are served");
    pair.b.resume();
    assert_eq!(told(&asked.join().unwrap()), "200 tea of b");
    // One of which nothing is known yet.
    let c = Standin::start("c");
    c.serve(2, &[("", "", "c", 2, Serves::Reads)], &["fig"]);
    pair.planner.assign(&[range("", "", "c", 2)]);
    pair.router.until("the map is newer", |it| it.generation.0 == 2);
    let asked = pair.router.asks_later("GET /v1/keys/fig", "");
    pair.until_counted("no_endpoint", 1);
    pair.planner.reports(&[&c]);
    assert_eq!(told(&asked.join().unwrap()), "200 fig of c");
    pair.router.end();
}

#[test]
fn p9_worker_that_answers_nonsense_is_asked_again_until_it_does_not() {
    let pair = Pair::start(|it| it.settings.pause_max_ms = 20);
    let moods = [
        (Mood::Refuses(500), "request_refused"),
        (Mood::Refuses(503), "worker_overloaded"),
        (Mood::Garbles, "garbage"),
        (Mood::Forgets, "garbage"),
        (Mood::Invents, "garbage"),
        (Mood::Sends, "ask_source"),
    ];
    for (mood, reason) in moods {
        let before = pair.router.status.lock().unwrap().counts.get(reason).copied();
        pair.b.is(mood);
        let asked = pair.router.asks_later("GET /v1/keys/tea", "");
        pair.until_counted(reason, before.unwrap_or_default() + 2);
        pair.b.is(Mood::Serves);
        assert_eq!(told(&asked.join().unwrap()), "200 tea of b", "{mood:?}");
    }
    pair.router.end();
}

#[test]
fn read_past_its_deadline_is_late_and_logged_as_an_estimate() {
    let pair = Pair::start(|it| it.read_cost_us = 77);
    pair.b.is(Mood::Hangs);
    let late = pair.router.ask("GET /v1/keys/tea?deadline_ms=50", "");
    assert_eq!((late.status, late.problem()), (504, "urn:isotherm:late".into()));
    let reads = r#"{"reads":[{"what":{"key":"tea"}},{"what":{"key":"fig"}}],"deadline_ms":50}"#;
    let answers = pair.router.ask("POST /v1/reads", reads).answers();
    assert!(matches!(&answers[..], [Answer::Late, Answer::Found(_)]), "{answers:?}");
    pair.router.end();
    let logged = logged(&pair.connection);
    let late = logged.iter().filter(|it| it.key == Key(b"tea".to_vec()));
    let late: Vec<_> = late.map(|it| (it.op, it.estimated, it.bytes)).collect();
    assert_eq!(late, [(Op::Read, true, 0); 2]);
    assert!(logged.iter().any(|it| (it.cost_us, it.estimated) == (Some(77), true)));
    // In one request to each.
    assert_eq!(pair.a.requests().len(), 1);
}

#[test]
fn more_reads_than_may_wait_are_refused_and_logged() {
    let pair = Pair::start(|it| it.waiting_max = 3);
    pair.b.is(Mood::Hangs);
    let asked: Vec<_> = (0..2).map(|_| pair.router.asks_later("GET /v1/keys/tea", "")).collect();
    pair.router.until("two wait", |it| it.waiting == 2);
    let two = r#"{"reads":[{"what":{"key":"fig"}},{"what":{"range":{"start":"g"}}}]}"#;
    let busy = pair.router.ask("POST /v1/reads", two);
    assert_eq!((busy.status, busy.problem()), (503, "urn:isotherm:too_many_waiting".into()));
    assert!(busy.head.contains("retry-after: 1"), "{}", busy.head);
    assert_eq!(pair.fig(), "200 fig of a", "there is room for one");
    pair.b.is(Mood::Serves);
    for it in asked {
        assert_eq!(told(&it.join().unwrap()), "200 tea of b");
    }
    pair.router.end();
    let logged = logged(&pair.connection);
    let estimated = logged.iter().filter(|it| it.estimated).map(|it| (it.op, it.key.to_string()));
    let expected = [(Op::Read, "fig".to_owned()), (Op::Scan, "g".to_owned())];
    assert_eq!(estimated.collect::<Vec<_>>(), expected);
}

#[test]
fn range_across_owners_comes_in_key_order_and_goes_on_behind_its_limit() {
    let pair = Pair::start(|_| ());
    let keys = |from: char, to: char| (from..=to).map(String::from).collect::<Vec<_>>();
    let (low, high) = (keys('a', 'l'), keys('m', 'z'));
    let of = |keys: &[String]| keys.iter().map(String::clone).collect::<Vec<_>>();
    fn refs(keys: &[String]) -> Vec<&str> {
        keys.iter().map(String::as_str).collect()
    }
    let parts = [("", "m", "a", 1, Serves::Reads), ("m", "", "b", 1, Serves::Nothing)];
    pair.a.serve(1, &parts, &refs(&low));
    let parts = [("", "m", "a", 1, Serves::Nothing), ("m", "", "b", 1, Serves::Reads)];
    pair.b.serve(1, &parts, &refs(&high));
    let read = |query: &str| {
        let heard = pair.router.ask(&format!("GET /v1/range?{query}"), "");
        let found: Found = serde_json::from_str(&heard.body).unwrap();
        let keys: Vec<_> = found.entries.iter().map(|it| it.index_key.to_string()).collect();
        (keys, found.next.map(|it| it.index_key.to_string()))
    };
    let all = [of(&low), of(&high)].concat();
    assert_eq!(read(""), (all.clone(), None));
    assert_eq!(read("start=b&end=y"), (all[1..24].to_vec(), None));
    assert_eq!(read("start=b&limit=11"), (all[1..12].to_vec(), Some("l".into())));
    let rest = "start=b&limit=3&after_index_key=l&after_primary_key=p";
    assert_eq!(read(rest), (all[12..15].to_vec(), Some("o".into())));
    pair.router.end();
}

#[test]
fn requests_that_cannot_be_used_have_an_answer_each_and_stop_nothing() {
    let pair = Pair::start(|it| (it.front.reads_max, it.front.body_bytes_max) = (2, 1_000));
    let large = format!(r#"{{"reads":[{{"what":{{"key":"{}"}}}}]}}"#, "k".repeat(1_000));
    let requests = [
        ("POST /v1/reads", "what?", 400, "bad_request"),
        ("POST /v1/reads", "", 400, "bad_request"),
        ("POST /v1/reads", r#"{"reads":[{"what":{"key":"a"},"epoch":3}]}"#, 400, "bad_request"),
        ("POST /v1/reads", r#"{"reads":[{"what":{"key":"0xz"}}]}"#, 400, "bad_request"),
        (
            "POST /v1/reads",
            r#"{"reads":[{"what":{"key":"a"}},{"what":{"key":"b"}},{"what":{"key":"c"}}]}"#,
            413,
            "batch_too_large",
        ),
        ("POST /v1/reads", &large, 413, "request_too_large"),
        ("GET /v1/keys/0xzz", "", 400, "bad_request"),
        ("GET /v1/keys/%ff", "", 400, "bad_request"),
        ("GET /v1/keys/a?deadline=5", "", 400, "bad_request"),
        ("GET /v1/range?start=b&end=a", "", 400, "bad_request"),
        ("GET /v1/range?from=a", "", 400, "bad_request"),
        ("GET /v1/range?limit=0", "", 400, "bad_request"),
        ("GET /v1/range?after_index_key=b", "", 400, "bad_request"),
        ("GET /v1/nothing", "", 404, "no_such_path"),
        ("DELETE /v1/reads", "", 405, "no_such_method"),
    ];
    for (request, body, status, code) in requests {
        let heard = pair.router.ask(request, body);
        let problem = (heard.status, heard.problem());
        assert_eq!(problem, (status, format!("urn:isotherm:{code}")), "{request} {body}");
        assert!(heard.head.contains("content-type: application/problem+json"), "{}", heard.head);
    }
    let mut garbage = TcpStream::connect(pair.router.address).unwrap();
    garbage.write_all(b"\x16\x03\x01what? \r\n\r\n").unwrap();
    assert_eq!(hear(garbage).status, 400);
    let none = r#"{"reads":[],"deadline_ms":0}"#;
    assert_eq!(pair.router.ask("POST /v1/reads", none).answers(), []);
    let one = r#"{"reads":[{"what":{"key":"fig"}},{"what":{"range":{"start":"b","end":"a"}}}]}"#;
    let answers = pair.router.ask("POST /v1/reads", one).answers();
    assert!(matches!(&answers[..], [Answer::Found(_), Answer::Refused { .. }]), "{answers:?}");
    pair.until_counted("bad_request", 9);
    pair.router.end();
}

#[test]
fn record_of_assignment_that_cannot_be_used_is_a_dead_letter_and_stops_nothing() {
    let pair = Pair::start(|_| ());
    pair.planner.write(&Output::new("assignment", b"k".to_vec(), b"what?".to_vec()));
    pair.planner.write(&Output::new("node_capacity", b"a".to_vec(), b"what?".to_vec()));
    let mut inverted = range("m", "b", "a", 2);
    inverted.last = true;
    pair.planner.assign(&[inverted]);
    pair.until_counted("reports_not_used", 1);
    pair.until_counted("map_rows_refused", 1);
    assert_eq!(pair.fig(), "200 fig of a");
    pair.router.end();
    let mut dead = 0;
    scan(&pair.connection, "dead_letter", Start::Beginning, |record| {
        assert_eq!(record.value.as_deref(), Some(&b"what?"[..]));
        dead += 1;
        std::ops::ControlFlow::Continue(())
    })
    .unwrap();
    assert_eq!(dead, 1);
}

#[test]
fn more_connections_than_may_be_are_told_so_and_those_that_rest_are_let_go() {
    let pair = Pair::start(|it| it.connections_max = 8);
    let resting: Vec<_> =
        (0..8).map(|_| TcpStream::connect(pair.router.address).unwrap()).collect();
    let mut refused = 0;
    for _ in 0..100 {
        let mut one = TcpStream::connect(pair.router.address).unwrap();
        let mut told = String::new();
        one.read_to_string(&mut told).unwrap();
        assert!(told.starts_with("HTTP/1.1 503"), "{told}");
        let (_, body) = told.split_once("\r\n\r\n").unwrap();
        let problem: serde_json::Value = serde_json::from_str(body).unwrap();
        refused += u64::from(problem["type"] == "urn:isotherm:too_many_connections");
    }
    assert_eq!(refused, 100);
    pair.until_counted("too_many_connections", 100);
    drop(resting);
    await_that("room for another", || pair.try_fig());
    pair.router.end();

    let pair = Pair::start(|it| it.idle_max = Duration::from_millis(20));
    let mut resting = TcpStream::connect(pair.router.address).unwrap();
    assert_eq!(resting.read(&mut [0]).unwrap(), 0, "it is closed");
    pair.router.end();
}

/// A router in this process.
struct Running {
    address: SocketAddr,
    stop: Arc<AtomicBool>,
    status: Arc<Mutex<Status>>,
    thread: JoinHandle<anyhow::Result<()>>,
}

struct Looking {
    stop: Arc<AtomicBool>,
    status: Arc<Mutex<Status>>,
}

impl Watch for Looking {
    fn told(&mut self, status: &Status) {
        self.status.lock().unwrap().clone_from(status);
    }

    fn is_stopping(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }
}

impl Running {
    fn start(connection: &Connection, set: impl FnOnce(&mut Options)) -> Self {
        let mut config = Config { kafka: connection.clone(), ..Config::default() };
        config.router.listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let mut options = isotherm::cli::router::options(&config);
        set(&mut options);
        let router = Router::begin(&options, &Health::new(&[])).unwrap();
        let address = router.address();
        let (stop, status) = (Arc::<AtomicBool>::default(), Arc::<Mutex<Status>>::default());
        let mut looking = Looking { stop: stop.clone(), status: status.clone() };
        let thread = thread::spawn(move || router.run(&mut looking));
        Self { address, stop, status, thread }
    }

    fn ask(&self, request: &str, body: &str) -> Heard {
        ask(self.address, request, body)
    }

    fn asks_later(&self, request: &'static str, body: &'static str) -> JoinHandle<Heard> {
        let address = self.address;
        thread::spawn(move || ask(address, request, body))
    }

    fn until(&self, what: &str, holds: impl Fn(&Status) -> bool) {
        await_that(what, || {
            assert!(!self.thread.is_finished(), "the router has ended");
            holds(&self.status.lock().unwrap()).then_some(())
        });
    }

    /// Ends it in order.
    fn end(self) {
        self.stop.store(true, Ordering::Release);
        self.thread.join().unwrap().unwrap();
    }
}

/// What was heard from a router.
struct Heard {
    status: u16,
    head: String,
    body: String,
}

impl Heard {
    fn problem(&self) -> String {
        let problem: serde_json::Value = serde_json::from_str(&self.body).unwrap();
        assert_eq!(problem["status"], self.status);
        problem["type"].as_str().unwrap().into()
    }

    fn answers(&self) -> Vec<Answer> {
        assert_eq!(self.status, 200, "{}", self.body);
        serde_json::from_str::<Answers>(&self.body).unwrap().answers
    }
}

/// Asks as curl does.
fn ask(address: SocketAddr, request: &str, body: &str) -> Heard {
    let mut stream = TcpStream::connect(address).unwrap();
    let length = body.len();
    let head =
        format!("{request} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {length}");
    write!(stream, "{head}\r\n\r\n{body}").unwrap();
    hear(stream)
}

fn hear(mut stream: TcpStream) -> Heard {
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Heard { status, head: head.to_lowercase(), body: body.into() }
}

/// Tells the status and the payloads.
fn told(heard: &Heard) -> String {
    match serde_json::from_str::<Found>(&heard.body) {
        Ok(found) => format!("{} {}", heard.status, payloads(&found)),
        Err(_) => format!("{} {}", heard.status, heard.body),
    }
}

fn payloads(found: &Found) -> String {
    let texts = found.entries.iter().map(|it| String::from_utf8(it.payload.clone()).unwrap());
    texts.collect::<Vec<_>>().join(", ")
}

/// Who writes the assignment, and what nodes report.
struct Planner(Writer);

impl Planner {
    fn new(connection: &Connection) -> Self {
        Self(Writer::open(connection, "planner").unwrap())
    }

    /// Writes a generation.
    fn assign(&self, ranges: &[Assignment]) {
        for (n, it) in ranges.iter().enumerate() {
            let it = Assignment { last: n + 1 == ranges.len(), ..it.clone() };
            let start = it.range_start.0.clone();
            self.0.send(&Output::new("assignment", start, encode(&it))).unwrap();
        }
        self.0.flush().unwrap();
    }

    fn write(&self, output: &Output) {
        self.0.send(output).unwrap();
        self.0.flush().unwrap();
    }

    fn reports(&self, nodes: &[&Standin]) {
        for it in nodes {
            let report = NodeCapacity {
                node_id: NodeId(it.name.into()),
                store_id: it.name.into(),
                cpu_load: None,
                memory_load: None,
                io_load: None,
                capacity_us_per_s: None,
                memory_bytes_total: None,
                memory_bytes_used: None,
                disk_bytes_total: None,
                disk_bytes_used: None,
                endpoint: Some(it.address.to_string()),
                inbox: Inbox(0),
                state: NodeState::Up,
                ranges: vec![],
            };
            let output = Output::new("node_capacity", it.name.into(), encode(&report));
            self.0.send(&output).unwrap();
        }
        self.0.flush().unwrap();
    }
}

fn logged(connection: &Connection) -> Vec<QueryLogged> {
    let mut res = Vec::new();
    scan(connection, "query_log", Start::Beginning, |record| {
        res.extend(decode::<QueriesLogged>(&record.value.unwrap()).unwrap().queries);
        std::ops::ControlFlow::Continue(())
    })
    .unwrap();
    res
}
