//! The router between clients and stand-ins for workers: in this process on the embedded broker and on
//! a real Kafka, and as a process.

pub mod standin;
pub mod process;
pub mod bad_input;
mod maps;

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use isotherm::config::Config;
use isotherm::kafka::source::Start;
use isotherm::kafka::tail::scan;
use isotherm::kafka::writer::Writer;
use isotherm::kafka::{Connection, Output};
use isotherm::router::driver::{Options, Router, Status, Watch};
use isotherm::web::Health;
use isotherm::web::reads::{Answer, Answers, Asked, Found, Read, What};
use isotherm::web::workers;
use isotherm::worker::serving::Serves;
use schemas::assignment::Assignment;
use schemas::node_capacity::{NodeCapacity, NodeState};
use schemas::query_log::{Op, QueriesLogged, QueryLogged};
use schemas::wire::{decode, encode};
use schemas::{Epoch, Inbox, Key, NodeId};

use crate::channel::range;
use crate::kafka::broker;
use crate::kafka::broker::Broker;
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
    // A busy machine may be late with the other one, too.
    let mut asked = 0;
    await_that("one is late, and one is found", || {
        asked += 1;
        let deadline_ms = 50 * asked;
        let reads = r#"{"reads":[{"what":{"key":"tea"}},{"what":{"key":"fig"}}],"deadline_ms":"#;
        let answers =
            pair.router.ask("POST /v1/reads", &format!("{reads}{deadline_ms}}}")).answers();
        matches!(&answers[..], [Answer::Late, Answer::Found(_)]).then_some(())
    });
    pair.router.end();
    let logged = logged(&pair.connection);
    let late = logged.iter().filter(|it| it.key == Key(b"tea".to_vec()));
    let late: Vec<_> = late.map(|it| (it.op, it.estimated, it.bytes)).collect();
    assert_eq!(late, vec![(Op::Read, true, 0); 1 + asked]);
    assert!(logged.iter().any(|it| (it.cost_us, it.estimated) == (Some(77), true)));
    assert!(pair.a.requests().len() <= asked, "one for each batch");
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
fn many_reads_share_one_connection_of_http2() {
    let pair = Pair::start(|_| ());
    let limits = workers::Limits { connections_max: 1, requests_max: 150, answer_bytes_max: 9_999 };
    let client = Arc::new(workers::Workers::new(limits));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let address = pair.router.address.to_string();
    let read = |text: &str| Read {
        what: What::Key(Key(text.into())),
        epoch: None,
        asked_as: Asked::Owner,
    };
    let reads = vec![read("fig"), read("tea")];
    let found = runtime.block_on(async {
        let deadline = (Instant::now() + Duration::from_secs(60)).into();
        let mut asks = tokio::task::JoinSet::new();
        for _ in 0..2_000 {
            let (client, address, reads) = (client.clone(), address.clone(), reads.clone());
            asks.spawn(async move { client.ask(&address, reads, deadline).await.unwrap() });
        }
        asks.join_all().await
    });
    let is_both = |it: &Answers| match &it.answers[..] {
        [Answer::Found(fig), Answer::Found(tea)] => {
            (payloads(fig), payloads(tea)) == ("fig of a".into(), "tea of b".into())
        }
        _ => false,
    };
    assert_eq!((found.len(), found.iter().all(is_both)), (2_000, true));
    assert_eq!(pair.a.requests().len(), 2_000, "one for each batch");
    // Else the router waits for its connection, which nobody drives any more.
    drop(runtime);
    pair.router.end();
}

#[test]
fn p3_broker_that_is_away_holds_no_read_up() {
    let Some(real) = real("router-away", &TOPICS) else { return };
    let connection = real.connection.clone();
    drop(real);
    let Some(mut kafka) = Broker::alone("router-away") else { return };
    let planner = Planner::new(&connection);
    let [a, b] = ["a", "b"].map(Standin::start);
    a.serve(1, &[("", "", "a", 1, Serves::Reads)], &["fig"]);
    b.serve(2, &[("", "", "b", 2, Serves::Reads)], &["fig"]);
    planner.reports(&[&a, &b]);
    planner.assign(&[range("", "", "a", 1)]);
    let router = Running::start(&connection, |_| ());
    router.until("there is a map", |it| it.generation.0 == 1 && it.endpoints == 2);
    kafka.stop();
    for _ in 0..300 {
        assert_eq!(told(&router.ask("GET /v1/keys/fig", "")), "200 fig of a");
    }
    kafka.start();
    planner.assign(&[range("", "", "b", 2)]);
    router.until("the map is newer", |it| it.generation.0 == 2);
    assert_eq!(told(&router.ask("GET /v1/keys/fig", "")), "200 fig of b");
    router.end();
    assert_eq!(logged(&connection).len(), 301, "what was asked meanwhile is logged");
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
        let config = Config { kafka: connection.clone(), ..Config::default() };
        let mut options = isotherm::cli::router::options(&config);
        set(&mut options);
        let router =
            Router::begin((Ipv4Addr::LOCALHOST, 0).into(), &options, &Health::new(&[])).unwrap();
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
