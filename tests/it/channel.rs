//! The channel beside a hand-written assignment: in this process on the embedded broker and on a real
//! Kafka, and as processes that are killed and replaced.

pub mod killed;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use isotherm::channel::driver::{self, Options, Status, Watch};
use isotherm::channel::machine::Settings;
use isotherm::kafka::follow::{Follower, From};
use isotherm::kafka::writer::Writer;
use isotherm::kafka::{Connection, Output, Record};
use isotherm::table::rows::{Form, Rows};
use rdkafka::producer::Producer;
use schemas::assignment::{Assignment, Source};
use schemas::index_update::{EntryUpdate, IndexUpdate};
use schemas::query_log::{Op, QueriesLogged};
use schemas::table::RowChanged;
use schemas::wire::{decode, encode};
use schemas::{Epoch, Generation, Inbox, Key, MigrationId, NodeId, dead_letter};

use crate::kafka::broker;
use crate::kafka::broker::Broker;
use crate::kafka::real::{real, transactional};

const PATIENCE: Duration = Duration::from_secs(60);

const TOPICS: [(&str, u32); 6] = [
    ("table", 3),
    ("assignment", 1),
    ("node_capacity", 1),
    ("index_update", 4),
    ("query_log", 1),
    ("dead_letter", 1),
];

#[test]
fn rows_reach_their_owners_with_watermarks_behind_them() {
    let broker = broker(&TOPICS);
    rows_reach_their_owners(&broker.connection());
}

#[test]
fn rows_reach_their_owners_on_a_real_kafka() {
    let Some(real) = real("channel", &TOPICS) else { return };
    rows_reach_their_owners(&real.connection);
}

fn rows_reach_their_owners(connection: &Connection) {
    let app = App::new(connection);
    let mut world = World::follow(connection);
    let channel = Running::start(connection);
    // No owner is invented: rows wait for the assignment.
    app.row(0, "p1", Some((None, Some("fig"))));
    app.row(0, "p2", Some((None, Some("tea"))));
    channel.until("there is no map", |it| it.waiting.len() == 3 && it.ranges == Some(0));
    app.assign(&[range("", "m", "a", 1), range("m", "", "b", 1)]);
    app.row(1, "p3", Some((None, Some("nut"))));
    app.row(0, "p1", Some((Some("fig"), Some("yam"))));
    app.row(0, "p2", Some((Some("tea"), Some("tea"))));
    app.row(1, "p3", Some((Some("nut"), None)));
    app.row(1, "p3", None);
    app.garbage(2, "p4");
    world.until_told(&["a", "b"], 1, &[4, 3, 1]);
    let expected = [
        "a fig p1 0@0 g1",
        "a fig p1 0@2 g1 gone",
        "b nut p3 1@0 g1",
        "b nut p3 1@1 g1 gone",
        "b tea p2 0@1 g1",
        "b tea p2 0@3 g1",
        "b yam p1 0@2 g1",
    ];
    assert_eq!(world.entries(), expected);
    world.until("there is a dead letter", |it| !it.dead.is_empty());
    assert_eq!(world.dead, [("table/2@0".to_owned(), "not_single_object".to_owned())]);
    world.until("all is logged", |it| it.writes.len() == expected.len());
    assert_eq!(world.writes.iter().filter(|it| *it == "fig").count(), 2);

    // a's range goes to c: a gets watermarks as a source, and a row for it goes to c.
    app.assign(&[moved("", "m", ["a", "c"], 2)]);
    world.until_told(&["a", "b", "c"], 2, &[4, 3, 1]);
    app.row(2, "p5", Some((None, Some("fig"))));
    world.until_told(&["a", "b", "c"], 2, &[4, 3, 2]);
    assert!(world.entries().contains(&"c fig p5 2@1 g2".to_owned()), "{:?}", world.entries());

    // Ended in order, it has committed all, and the next one has nothing to send again.
    app.row(2, "p5", Some((Some("fig"), None)));
    channel.end();
    let sent = world.entries().len();
    let channel = Running::start(connection);
    world.until_told(&["a", "b", "c"], 2, &[4, 3, 3]);
    app.assign(&[range("", "", "a", 3)]);
    world.until_told(&["a"], 3, &[4, 3, 3]);
    assert_eq!(world.entries().len(), sent + 1, "{:?}", world.entries());
    channel.end();
}

#[test]
fn row_of_an_aborted_transaction_is_none() {
    let Some(real) = real("channel-aborted", &TOPICS) else { return };
    let app = App::new(&real.connection);
    app.assign(&[range("", "", "a", 1)]);
    let unsteady = transactional(&real.connection);
    let mut world = World::follow(&real.connection);
    let channel = Running::start(&real.connection);
    let topic = real.connection.topic("table");
    for (n, key) in ["aborted", "committed"].iter().enumerate() {
        unsteady.begin_transaction().unwrap();
        let value = encode(&change((None, Some(key))));
        let record = rdkafka::producer::BaseRecord::to(&topic).key("p").payload(&value);
        unsteady.send(record.partition(0)).map_err(|it| it.0).unwrap();
        unsteady.flush(PATIENCE).unwrap();
        match n {
            0 => unsteady.abort_transaction(PATIENCE).unwrap(),
            _ => unsteady.commit_transaction(PATIENCE).unwrap(),
        }
    }
    // Two markers lie between them.
    world.until_told(&["a"], 1, &[3, 0, 0]);
    assert_eq!(world.entries(), ["a committed p 0@2 g1"]);
    channel.end();
}

#[test]
fn broker_that_is_away_is_waited_for_and_no_row_is_left_out() {
    let Some(real) = real("channel-away", &TOPICS) else { return };
    let connection = real.connection.clone();
    drop(real);
    let Some(mut broker) = Broker::alone("away") else { return };
    let app = App::new(&connection);
    app.assign(&[range("", "", "a", 1)]);
    let mut world = World::follow(&connection);
    let channel = Running::start(&connection);
    app.row(0, "p1", Some((None, Some("fig"))));
    world.until_told(&["a"], 1, &[1, 0, 0]);
    broker.stop();
    let deadline = Instant::now() + PATIENCE;
    while world.follower.ends().unwrap().is_some() {
        assert!(Instant::now() < deadline, "a broker that is stopped answers");
    }
    broker.start();
    app.row(0, "p1", Some((Some("fig"), Some("nut"))));
    world.until_told(&["a"], 1, &[2, 0, 0]);
    let expected = ["a fig p1 0@0 g1", "a fig p1 0@1 g1 gone", "a nut p1 0@1 g1"];
    assert_eq!(world.entries(), expected);
    channel.end();
}

/// A channel in this process.
pub struct Running {
    stop: Arc<AtomicBool>,
    status: Shown,
    thread: JoinHandle<anyhow::Result<()>>,
}

/// How it does, which is shown if the test fails.
struct Shown(Arc<Mutex<Status>>);

impl Drop for Shown {
    fn drop(&mut self) {
        if thread::panicking() {
            // Who panics may have it in hand.
            let status = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            eprintln!("the channel: {status:?}");
        }
    }
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
    fn start(connection: &Connection) -> Self {
        Self::start_with(connection, Settings { round_ms: 50, compaction_lag_ms: None })
    }

    pub fn start_with(connection: &Connection, settings: Settings) -> Self {
        let options = Options {
            connection: connection.clone(),
            group: "channel".into(),
            member: None,
            settings,
            rows: Rows::new(Form::RowChanged, &[], &[]).unwrap(),
            write_cost_us: 150,
        };
        let (stop, status) = (Arc::<AtomicBool>::default(), Arc::<Mutex<Status>>::default());
        let mut looking = Looking { stop: stop.clone(), status: status.clone() };
        let thread = thread::spawn(move || {
            driver::run(&options, &mut looking).inspect_err(|err| eprintln!("the channel: {err:#}"))
        });
        Self { stop, status: Shown(status), thread }
    }

    fn until(&self, what: &str, holds: impl Fn(&Status) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !holds(&self.status.0.lock().unwrap()) {
            assert!(Instant::now() < deadline, "{what}: {:?}", self.status.0.lock().unwrap());
            assert!(!self.thread.is_finished(), "the channel has ended");
            thread::yield_now();
        }
    }

    /// Ends it in order.
    pub fn end(self) {
        self.stop.store(true, Ordering::Release);
        self.thread.join().unwrap().unwrap();
    }
}

/// Who writes the table, and the assignment.
pub struct App(Writer);

impl App {
    pub fn new(connection: &Connection) -> Self {
        Self(Writer::open(connection, "app").unwrap())
    }

    /// A change of index key from one to another; `None`: a tombstone.
    pub fn row(&self, partition: u32, primary: &str, keys: Option<(Option<&str>, Option<&str>)>) {
        let mut output = Output::new("table", primary.into(), vec![]);
        output.value = keys.map(|keys| encode(&change(keys)));
        output.partition = Some(partition);
        self.write(&output);
    }

    fn garbage(&self, partition: u32, primary: &str) {
        let mut output = Output::new("table", primary.into(), b"what?".to_vec());
        output.partition = Some(partition);
        self.write(&output);
    }

    /// Writes a generation.
    pub fn assign(&self, ranges: &[Assignment]) {
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
}

fn change((before, after): (Option<&str>, Option<&str>)) -> RowChanged {
    let key = |text: &str| Key(text.as_bytes().to_vec());
    let payload = after.map(|it| format!("of {it}").into_bytes());
    RowChanged { before: before.map(key), after: after.map(key), payload }
}

pub fn range(start: &str, end: &str, owner: &str, generation: u64) -> Assignment {
    let key = |text: &str| Key(text.as_bytes().to_vec());
    Assignment {
        range_start: key(start),
        range_end: key(end),
        node: NodeId(owner.into()),
        inbox: Inbox(inbox(owner)),
        epoch: Epoch(generation),
        generation: Generation(generation),
        last: false,
        migration: None,
        source: Source::None,
        source_node: None,
        source_epoch: Epoch(0),
    }
}

pub fn moved(start: &str, end: &str, [source, owner]: [&str; 2], generation: u64) -> Assignment {
    Assignment {
        source: Source::Node,
        source_node: Some(NodeId(source.into())),
        migration: Some(MigrationId(generation)),
        ..range(start, end, owner, generation)
    }
}

fn inbox(node: &str) -> u32 {
    u32::from(node.as_bytes()[0] - b'a')
}

/// What the channels have written.
pub struct World {
    follower: Follower,
    /// In the order of each inbox.
    pub updates: Vec<(String, IndexUpdate)>,
    dead: Vec<(String, String)>,
    /// Logged writes by key.
    writes: Vec<String>,
    /// By node, generation and partition.
    floors: BTreeMap<(String, u64, u32), u64>,
}

impl World {
    pub fn follow(connection: &Connection) -> Self {
        let mut follower = Follower::open(connection, "looking").unwrap();
        for topic in ["index_update", "query_log", "dead_letter"] {
            let ids = follower.partitions(topic).unwrap();
            follower.add(ids.into_iter().map(|at| (at, From::Beginning))).unwrap();
        }
        let (updates, dead, writes) = (Vec::new(), Vec::new(), Vec::new());
        Self { follower, updates, dead, writes, floors: BTreeMap::new() }
    }

    /// Waits for watermarks of a generation that tell these nodes of these offsets of `table`.
    pub fn until_told(&mut self, nodes: &[&str], generation: u64, offsets: &[u64]) {
        let what = format!("{nodes:?} are told {offsets:?} of generation {generation}");
        self.until(&what, |it| {
            let mut all =
                nodes.iter().flat_map(|node| (0..).zip(offsets).map(move |it| (node, it)));
            all.all(|(node, (partition, offset))| {
                let told = it.floors.get(&((*node).to_owned(), generation, partition));
                told.is_some_and(|it| offset <= it)
            })
        });
    }

    fn until(&mut self, what: &str, holds: impl Fn(&Self) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !holds(self) {
            assert!(Instant::now() < deadline, "{what}: {:?}, {:?}", self.floors, self.entries());
            if let Some(record) = self.follower.poll(Duration::from_millis(20)).unwrap() {
                self.take(&record);
            }
        }
    }

    fn take(&mut self, record: &Record) {
        let value = record.value.as_deref().unwrap();
        match record.at.topic {
            "index_update" => {
                let node = String::from_utf8(record.key.clone().unwrap()).unwrap();
                assert_eq!(record.at.partition, inbox(&node), "in the inbox of its node");
                let update = decode::<IndexUpdate>(value).unwrap();
                for floor in update.watermark.iter().flat_map(|it| &it.floors) {
                    let at = (node.clone(), update.generation.0, floor.partition);
                    let known = self.floors.entry(at).or_default();
                    *known = floor.offset.max(*known);
                }
                self.updates.push((node, update));
            }
            "query_log" => {
                for it in decode::<QueriesLogged>(value).unwrap().queries {
                    assert_eq!((it.op, it.cost_us), (Op::Write, Some(150)));
                    self.writes.push(it.key.to_string());
                }
            }
            _ => {
                let text = |name| {
                    let value = record.header(name).unwrap().to_vec();
                    String::from_utf8(value).unwrap()
                };
                let [topic, partition, offset] = [
                    dead_letter::HEADER_TOPIC,
                    dead_letter::HEADER_PARTITION,
                    dead_letter::HEADER_OFFSET,
                ]
                .map(text);
                assert_eq!(value, b"what?");
                let at = format!("{topic}/{partition}@{offset}");
                self.dead.push((at, text(dead_letter::HEADER_REASON)));
            }
        }
    }

    /// Returns what was sent, without repetitions.
    fn entries(&self) -> Vec<String> {
        let text = |(node, it): &(String, IndexUpdate)| {
            let EntryUpdate { entry, .. } = it.entry.as_ref()?;
            let gone = if entry.payload.is_none() { " gone" } else { "" };
            Some(format!(
                "{node} {} {} {}@{} g{}{gone}",
                entry.index_key, entry.primary_key, entry.partition, entry.offset, it.generation.0
            ))
        };
        let all: BTreeSet<_> = self.updates.iter().filter_map(text).collect();
        all.into_iter().collect()
    }
}
