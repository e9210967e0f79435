//! The index compared with the table, against workers that stand in and hold what a test says.

use std::collections::BTreeMap;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use axum::extract::State;
use axum::routing::post;
use axum::{Json, Router};
use isotherm::cli::Form;
use isotherm::cli::keys::KeyFormat;
use isotherm::cli::verify::report::told;
use isotherm::cli::verify::{Outcome, verified};
use isotherm::config::Config;
use isotherm::kafka::embedded::Embedded;
use isotherm::kafka::writer::Writer;
use isotherm::kafka::{Connection, Output};
use isotherm::web::held::{Asked, Cursor, Held, HeldInterval, PATH, Role};
use isotherm::web::reads::{After, FoundEntry};
use schemas::assignment::{Assignment, Source};
use schemas::node_capacity::{NodeCapacity, NodeState};
use schemas::range_segment::Floor;
use schemas::table::RowChanged;
use schemas::wire::{Record, encode};
use schemas::{Epoch, Generation, Inbox, Key, NodeId};
use tokio::sync::oneshot;

use crate::kafka::broker;

const PARTITIONS: u32 = 2;

/// So many rows, each at an index key of its own; every third has changed its key since, every fifth is
/// deleted.
const ROWS: u32 = 40;

/// As long as it takes.
const PATIENCE: Duration = Duration::from_secs(60);

/// A broker with a table, and what two workers should hold of it.
struct Index {
    broker: Embedded,
    workers: [Held; 2],
}

impl Index {
    fn new() -> Self {
        let topics = [("table", PARTITIONS), ("assignment", 1), ("node_capacity", 1)];
        let broker = broker(&topics);
        let writer = Writer::open(&broker.connection(), "test").unwrap();
        let mut next = BTreeMap::<u32, u64>::new();
        let mut entries = BTreeMap::new();
        let mut write = |n: u32, before: Option<Key>, after: Option<Key>| {
            let (partition, primary_key) = (n % PARTITIONS, format!("row {n:03}"));
            let offset = next.entry(partition).or_default();
            let payload = after.as_ref().map(|_| format!("of {n} at {offset}").into_bytes());
            let row = RowChanged { before: before.clone(), after: after.clone(), payload };
            let key = primary_key.clone().into_bytes();
            let output = Output::new("table", key, encode(&row));
            writer.send(&Output { partition: Some(partition), ..output }).unwrap();
            let primary_key = Key(primary_key.into_bytes());
            if let Some(before) = before {
                entries.remove(&(before, primary_key.clone()));
            }
            if let (Some(index_key), Some(payload)) = (after, row.payload) {
                let key = (index_key.clone(), primary_key.clone());
                let offset = *offset;
                entries
                    .insert(key, FoundEntry { index_key, primary_key, partition, offset, payload });
            }
            *offset += 1;
        };
        for n in 0..ROWS {
            write(n, None, Some(key_of(n)));
        }
        for n in (0..ROWS).step_by(3) {
            write(n, Some(key_of(n)), Some(key_of(ROWS - n)));
        }
        for n in (1..ROWS).step_by(5) {
            let before = if n % 3 == 0 { key_of(ROWS - n) } else { key_of(n) };
            write(n, Some(before), None);
        }
        let [start, middle, end] = [Key::default(), key_of(ROWS / 2), Key::default()];
        let floor =
            |(partition, offset): (&u32, &u64)| Floor { partition: *partition, offset: *offset };
        let floors: Vec<_> = next.iter().map(floor).collect();
        let worker = |node: &str, range_start: &Key, range_end: &Key| {
            let interval = HeldInterval {
                range_start: range_start.clone(),
                range_end: range_end.clone(),
                role: Role::Active,
                epoch: Epoch(1),
                floors: floors.clone(),
            };
            let span = interval.span();
            let entries = entries.values().filter(|it| span.contains(&it.index_key.0));
            Held {
                node: NodeId(node.into()),
                store_id: "s".into(),
                generation: Generation(1),
                intervals: vec![interval],
                entries: entries.cloned().collect(),
                next: None,
            }
        };
        let workers = [worker("n1", &start, &middle), worker("n2", &middle, &end)];
        for (i, (node, start, end)) in
            [("n1", start, middle.clone()), ("n2", middle, end)].into_iter().enumerate()
        {
            let assignment = Assignment {
                range_start: start.clone(),
                range_end: end,
                node: NodeId(node.into()),
                inbox: Inbox(0),
                epoch: Epoch(1),
                generation: Generation(1),
                last: i == 1,
                migration: None,
                source: Source::Table,
                source_node: None,
                source_epoch: Epoch(0),
            };
            writer.send(&Output::new(Assignment::TOPIC, start.0, encode(&assignment))).unwrap();
        }
        writer.flush().unwrap();
        Self { broker, workers }
    }

    /// Serves the workers, compares, and returns what is told; or why it could not be compared.
    fn verify(&self, workers: Vec<Worker>, timeout: Duration) -> Result<String, String> {
        let connection = self.broker.connection();
        let workers: Vec<_> = workers.into_iter().map(|it| it.serve(&connection)).collect();
        let config = Config { kafka: connection, ..Config::default() };
        let outcome = verified(&config, timeout).unwrap();
        drop(workers);
        match outcome {
            Outcome::Verified(it) => Ok(told(&it, Form::Table, KeyFormat::Auto)),
            Outcome::TimedOut(reason) | Outcome::Unheard(reason) => Err(reason),
        }
    }

    /// Changes what workers hold, compares, and expects lines after the first three.
    fn check(&self, change: impl FnOnce(&mut [Held; 2]), counts: &str, lines: &[&str]) {
        let mut held = self.workers.clone();
        change(&mut held);
        let told = self.verify(held.map(Worker::new).into(), PATIENCE).unwrap();
        let [title, found, without, rest @ ..] = &told.lines().collect::<Vec<_>>()[..] else {
            panic!("{told}")
        };
        assert!(title.ends_with(&format!("on 2 nodes against {ROWS} rows of the table")), "{told}");
        assert_eq!((*found, rest), (counts, lines), "{told}");
        let no_entry = "8 rows have no entry: they were deleted, or have no index key";
        assert_eq!(*without, no_entry, "{told}");
    }
}

fn key_of(n: u32) -> Key {
    Key(format!("k {n:03}").into_bytes())
}

/// A worker that stands in. Each head that is asked for raises floors by a bit, if it lags.
struct Worker {
    held: Held,
    /// Its floors are at zero until so many heads were asked for.
    lags: u32,
    /// Pages with entries that were asked for, and what has become of the worker by then.
    pages: u32,
    change: fn(&mut Held, u32),
}

impl Worker {
    fn new(held: Held) -> Self {
        Self { held, lags: 0, pages: 0, change: |_, _| () }
    }

    /// Serves it, and reports where.
    fn serve(self, connection: &Connection) -> Served {
        let node = self.held.node.clone();
        let (told, tells) = std::sync::mpsc::sync_channel(1);
        let (stop, stopped) = oneshot::channel::<()>();
        let thread = thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
                told.send(listener.local_addr().unwrap()).unwrap();
                let state = Arc::new(Mutex::new(self));
                let app = Router::new().route(PATH, post(answer)).with_state(state);
                let until = async { _ = stopped.await };
                axum::serve(listener, app).with_graceful_shutdown(until).await.unwrap();
            });
        });
        let report = NodeCapacity {
            node_id: node.clone(),
            store_id: "s".into(),
            cpu_load: None,
            memory_load: None,
            io_load: None,
            capacity_us_per_s: None,
            memory_bytes_total: None,
            memory_bytes_used: None,
            disk_bytes_total: None,
            disk_bytes_used: None,
            endpoint: Some(tells.recv_timeout(PATIENCE).unwrap().to_string()),
            inbox: Inbox(0),
            state: NodeState::Up,
            ranges: Vec::new(),
        };
        let writer = Writer::open(connection, "test").unwrap();
        let key = node.0.into_bytes();
        writer.send(&Output::new(NodeCapacity::TOPIC, key, encode(&report))).unwrap();
        writer.flush().unwrap();
        Served { stop: Some(stop), thread: Some(thread) }
    }
}

/// A worker that is served, until this is dropped.
struct Served {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Served {
    fn drop(&mut self) {
        drop(self.stop.take());
        let ended = self.thread.take().unwrap().join();
        if !thread::panicking() {
            ended.unwrap();
        }
    }
}

async fn answer(State(worker): State<Arc<Mutex<Worker>>>, asked: String) -> Json<Held> {
    let asked: Asked = serde_json::from_str(&asked).unwrap();
    let mut worker = worker.lock().unwrap();
    let mut page = worker.held.clone();
    if asked.limit == Some(0) {
        page.entries.clear();
        (worker.change)(&mut page, worker.pages);
        if 0 < worker.lags {
            worker.lags -= 1;
            page.intervals.iter_mut().for_each(|it| it.floors.clear());
        }
        return Json(page);
    }
    worker.pages += 1;
    (worker.change)(&mut page, worker.pages);
    if let Some(Cursor(After { index_key, primary_key })) = asked.after {
        let behind = (index_key, primary_key);
        page.entries.retain(|it| behind < (it.index_key.clone(), it.primary_key.clone()));
    }
    // Its own limit is less than what is asked for.
    if page.entries.len() > 7 {
        page.entries.truncate(7);
        let last = page.entries.last().unwrap();
        let (index_key, primary_key) = (last.index_key.clone(), last.primary_key.clone());
        page.next = Some(Cursor(After { index_key, primary_key }));
    }
    Json(page)
}

#[test]
fn whatever_a_worker_has_too_little_too_much_or_too_old_is_found() {
    let index = Index::new();
    let clean = "0 missing, 0 extra, 0 stale, 0 foreign; 0 gaps, 0 overlaps";
    index.check(|_| (), clean, &[]);

    // One update that was dropped.
    let lost = index.workers[0].entries[3].clone();
    let (index_key, primary_key) = (&lost.index_key, &lost.primary_key);
    let of = format!("{}:{}", lost.partition, lost.offset);
    let line = format!("missing {index_key} of row {primary_key} on n1: the row is of {of}");
    let counts = "1 missing, 0 extra, 0 stale, 0 foreign; 0 gaps, 0 overlaps";
    index.check(|it| _ = it[0].entries.remove(3), counts, &[&line]);

    // A deletion that was.
    let kept =
        FoundEntry { index_key: key_of(1), primary_key: Key(b"row 001".into()), ..lost.clone() };
    let counts = "0 missing, 1 extra, 0 stale, 0 foreign; 0 gaps, 0 overlaps";
    let line = "extra k 001 of row row 001 on n1: the row was deleted";
    let change = |it: &mut [Held; 2]| it[0].entries.insert(1, kept.clone());
    index.check(change, counts, &[line]);

    // Another version than that of the table.
    let counts = "0 missing, 0 extra, 1 stale, 0 foreign; 0 gaps, 0 overlaps";
    let old = index.workers[1].entries[5].clone();
    let line = format!(
        "stale {} of row {} on n2: it is of {}:{}, and the row of {}:{}",
        old.index_key, old.primary_key, old.partition, 900, old.partition, old.offset
    );
    index.check(|it| it[1].entries[5].offset = 900, counts, &[&line]);

    // Left behind where a worker owns nothing.
    let counts = "0 missing, 0 extra, 0 stale, 1 foreign; 0 gaps, 0 overlaps";
    let line = format!("foreign {index_key} of row {primary_key} on n2: n2 has no role there");
    index.check(|it| it[1].entries.insert(0, lost.clone()), counts, &[&line]);
}

#[test]
fn gap_and_overlap_of_what_is_served_are_found() {
    let index = Index::new();
    let gap = |it: &mut [Held; 2]| {
        it[0].intervals[0].range_end = key_of(10);
        it[0].entries.retain(|it| it.index_key < key_of(10));
    };
    let counts = "0 missing, 0 extra, 0 stale, 0 foreign; 1 gaps, 0 overlaps";
    index.check(gap, counts, &["gap [k 010, k 020): nobody serves it"]);
    let overlap = |it: &mut [Held; 2]| {
        let n1 = it[0].clone();
        it[1].intervals[0].range_start = key_of(10);
        it[1].entries.splice(0..0, n1.entries.into_iter().filter(|it| key_of(10) <= it.index_key));
    };
    let counts = "0 missing, 0 extra, 0 stale, 0 foreign; 0 gaps, 1 overlaps";
    let line = "overlap: n1 serves [-, k 020), and n2 serves [k 010, -)";
    index.check(overlap, counts, &[line]);
}

#[test]
fn workers_that_are_behind_are_waited_for_but_not_for_ever() {
    let index = Index::new();
    let lagging = |lags| index.workers.clone().map(|held| Worker { lags, ..Worker::new(held) });
    let told = index.verify(lagging(3).into(), PATIENCE).unwrap();
    assert!(told.contains("0 missing, 0 extra"), "{told}");
    let reason = index.verify(lagging(u32::MAX).into(), Duration::ZERO).unwrap_err();
    assert!(reason.contains("to offset 0 of partition 0 of the table, which ends at"), "{reason}");
    let [n1, _] = index.workers.clone().map(Worker::new);
    let away = Worker::new(Held { node: NodeId("n3".into()), ..n1.held.clone() });
    let index = Index::new();
    let reason = index.verify(vec![n1, away], Duration::ZERO).unwrap_err();
    assert!(reason.contains("n2, which owns ranges, has never reported"), "{reason}");
}

#[test]
fn ranges_that_are_cut_anew_at_each_page_are_compared_and_those_that_move_are_not() {
    let index = Index::new();
    let changing = |change| index.workers.clone().map(|it| Worker { change, ..Worker::new(it) });
    let cut = |held: &mut Held, page: u32| {
        let [first] = &mut held.intervals[..] else { panic!("it has one") };
        first.epoch = Epoch(u64::from(1 + page));
        let mut second = first.clone();
        first.range_end = Key([key_of(10 * page).0.as_slice(), b"x"].concat());
        second.range_start = first.range_end.clone();
        let is_within = first.range_start < second.range_start;
        let is_before_end = second.range_end.0.is_empty() || second.range_start < second.range_end;
        if is_within && is_before_end {
            held.intervals.push(second);
        } else {
            first.range_end = second.range_end;
        }
    };
    let told = index.verify(changing(cut).into(), PATIENCE).unwrap();
    assert!(told.contains("0 missing, 0 extra, 0 stale, 0 foreign; 0 gaps"), "{told}");

    // By its second page, n1 has given the end of its range away; n2 has none of it yet.
    let give = |held: &mut Held, page: u32| {
        if held.node.0 == "n1" && page > 1 {
            held.intervals[0].range_end = key_of(10);
            held.entries.retain(|it| it.index_key < key_of(10));
        }
    };
    let reason = index.verify(changing(give).into(), Duration::ZERO).unwrap_err();
    assert_eq!(reason, "ranges moved meanwhile");
}

#[test]
fn faults_have_their_exit_status() {
    let index = Index::new();
    let status = |workers: [Held; 2]| {
        let connection = index.broker.connection();
        let _served = workers.map(|it| Worker::new(it).serve(&connection));
        let mut command = Command::new(env!("CARGO_BIN_EXE_isotherm"));
        command.args(["--bootstrap-servers", &connection.bootstrap_servers]);
        command.args(["verify", "--timeout", "60s", "-o", "jsonl"]).env_remove("ISOTHERM_LOG");
        let output = command.output().unwrap();
        (output.status.code(), serde_json::from_slice::<serde_json::Value>(&output.stdout).unwrap())
    };
    let (code, told) = status(index.workers.clone());
    assert_eq!(
        (code, told["missing"].as_u64(), told["nodes"].as_u64()),
        (Some(0), Some(0), Some(2))
    );
    let mut workers = index.workers.clone();
    workers[0].entries.remove(0);
    let (code, told) = status(workers);
    assert_eq!((code, told["missing"].as_u64()), (Some(1), Some(1)));
}
