//! The index as processes on a real Kafka: rows are written and read while ranges move by hand and
//! processes are killed; in the end it equals its table.
//!
//! ```text
//!  load ──> table ──> 2 channels ──> 4 workers <── 2 routers <── readers
//!                       planner, observing ──┘  kill -9 of source and destination in each phase
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use isotherm::cli::exit::Exit;
use isotherm::table::load::{Changes, Shape};
use schemas::Key;
use schemas::migration_status::{MigrationStatus, Phase, Status};
use serde_json::{Value, json};

use crate::moved::{check, isotherm, ranges};
use crate::world::{Process, World, await_that, now_ms, say};

const ROWS: u64 = 200_000;

const NODES: [&str; 4] = ["n0", "n1", "n2", "n3"];

/// Which of the two dies, and when its migration has come to this.
const DEATHS: [(&str, Option<Phase>); 6] = [
    ("source", Some(Phase::Copying)),
    ("destination", Some(Phase::Copying)),
    ("source", Some(Phase::Ready)),
    ("destination", Some(Phase::Ready)),
    ("source", Some(Phase::Active)),
    ("destination", Some(Phase::Active)),
];

const MOVES: usize = 30;

/// Between two batches of a reader, which is not to keep the others from their work.
const PAUSE: Duration = Duration::from_millis(20);

#[test]
fn index_equals_its_table_though_ranges_move_and_processes_die() {
    let Some(mut world) = World::create("index", &[]) else { return };
    world.mode = "observe";
    world.birth_nodes = NODES.len() as u32;
    world.more = r#"split_points = ["1", "2", "3", "4", "5", "6", "7", "8", "9", "a", "b", "c", "d", "e", "f"]
        [channel]
        watermark_every = "1s"
        [worker]
        report_every = "300ms"
        grace = "1s""#;
    world.policy = "bandwidth_bytes_per_s = 4000000\nmoves_in_flight_per_node_max = 16\nmoves_in_flight_max = 32";
    let seed = now_ms();
    say(&format!("index: seed {seed}"));
    let mut random = seed;
    let mut below = |n: usize| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (random >> 33) as usize % n
    };
    let mut planner = world.start("planner", &["planner"], None);
    let worker =
        |node: &str| world.start(node, &["worker", "--dir", "data", "--node-id", node], None);
    let mut workers: BTreeMap<&str, Process> = NODES.map(|it| (it, worker(it))).into();
    let channel = |name: &str| world.start(name, &["channel", "--member", name], None);
    let mut channels = [channel("c0"), channel("c1")];
    let routers = ["r0", "r1"].map(|it| world.start(it, &["router"], None));
    for it in workers.values().chain(&channels).chain(&routers).chain([&planner]) {
        await_that("all to be ready", || (it.ask("/readyz")?.0 == 200).then_some(()));
    }
    let mut load = load(&world, seed);
    let readers: Vec<_> = routers.iter().map(|it| Reader::start(it.port(), seed)).collect();
    await_that("the rows", || {
        let entries = ranges(&world)?.iter().map(|it| it["entries"].as_u64()).sum::<Option<u64>>();
        entries.filter(|it| ROWS * 9 / 10 < *it)
    });

    let mut met = BTreeSet::new();
    let mut range = "7..8".to_owned();
    for i in 0..MOVES {
        // Chains and returns of one range, then another one.
        if i % 5 == 4 {
            let all = ranges(&world).unwrap();
            range = all[below(all.len())]["range"].as_str().unwrap().to_owned();
        }
        let home = owner(&world, &range);
        let others: Vec<_> = NODES.into_iter().filter(|it| *it != home).collect();
        let to = others[below(others.len())];
        let before = world.values::<MigrationStatus>().len();
        let mut moving =
            isotherm(&world, &["move", &range, "--to", to, "--wait", "--timeout", "100s"]);
        let mut moving = moving.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        match i {
            8 => {
                channels[0].kill_now();
                channels[0] = channel("c0");
            }
            16 => {
                planner.kill_now();
                planner = world.start("planner", &["planner"], None);
            }
            _ if i % 2 == 1 && i / 2 < 2 * DEATHS.len() => {
                let (which, phase) = DEATHS[i / 2 % DEATHS.len()];
                let seen = await_phase(&world, before, phase);
                let node = if which == "source" { home.as_str() } else { to };
                workers.get_mut(node).unwrap().kill_now();
                met.insert(format!("{which} at {seen:?}"));
                workers.insert(NODES.into_iter().find(|it| *it == node).unwrap(), worker(node));
            }
            _ => (),
        }
        // It may have failed by its deadline; then it is over as well.
        let status = await_that("the end of a move", || moving.try_wait().unwrap());
        assert!([0, 1, 5, 6].contains(&status.code().unwrap()), "move {i}: {status}");
    }
    say(&format!("index: killed were {met:?}"));
    load.kill().unwrap();
    load.wait().unwrap();
    await_that("the end of each migration", || {
        ends(&world).values().all(|it| *it == 1).then_some(())
    });
    let read: Vec<_> = readers.into_iter().map(Reader::end).collect();
    say(&format!(
        "index: reads answered and asked again {read:?}; {} migrations",
        ends(&world).len()
    ));
    assert!(read.iter().all(|it| it.0 > 1_000), "{read:?}");
    let said = check(&world, &["verify", "--timeout", "100s"], Exit::Done, "0 missing, 0 extra");
    assert!(said.contains("0 stale, 0 foreign; 0 gaps, 0 overlaps"), "{said}");
    let complete = world.values::<MigrationStatus>();
    let complete = complete.iter().filter(|it| it.status == Status::Complete).count();
    assert!(complete > MOVES / 2, "{complete} moves were completed");
    assert!(met.len() >= 4, "{met:?}");
}

/// Writes the rows, then changes of them until it is killed.
fn load(world: &World, seed: u64) -> Child {
    let (rows, seed) = (ROWS.to_string(), seed.to_string());
    let args = ["load", "--rows", &rows, "--changes", "10000000", "--rate", "300", "--seed", &seed];
    isotherm(world, &args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

fn owner(world: &World, range: &str) -> String {
    let located = await_that("a range that is settled", || {
        let all: Vec<Value> = ranges(world)?;
        let found = all.into_iter().find(|it| it["range"] == range)?;
        found["migration"].is_null().then_some(found)
    });
    located["node"].as_str().unwrap().to_owned()
}

/// Waits until a migration that was begun last has come to a phase, or further; returns to which.
fn await_phase(world: &World, before: usize, wanted: Option<Phase>) -> Option<Phase> {
    let rank = |it: Option<Phase>| match it {
        Some(Phase::Copying) => 1,
        Some(Phase::Ready) => 2,
        Some(Phase::Active) => 3,
        Some(Phase::Unknown) | None => 0,
    };
    await_that("the phase of a move", || {
        let all = world.values::<MigrationStatus>();
        let newest = all.get(before..)?.last()?;
        let is_over = matches!(newest.status, Status::Complete | Status::Failed);
        (is_over || rank(wanted) <= rank(newest.phase)).then_some(newest.phase)
    })
}

/// How often each migration was said to have ended.
fn ends(world: &World) -> BTreeMap<u64, usize> {
    let mut ends = BTreeMap::new();
    for it in world.values::<MigrationStatus>() {
        let count = ends.entry(it.migration.0).or_insert(0);
        *count += usize::from(matches!(it.status, Status::Complete | Status::Failed));
    }
    // Those of the birth are of the table.
    ends
}

/// Reads through one router, and holds it to what it has said before.
struct Reader {
    stopped: Arc<AtomicBool>,
    again: Arc<AtomicU64>,
    thread: JoinHandle<u64>,
}

/// The newest version of an entry that was seen, and whether it was missing since.
#[derive(Clone, Copy, Default)]
struct Seen {
    offset: u64,
    is_missing: bool,
}

impl Reader {
    fn start(port: u16, seed: u64) -> Self {
        let shape = Shape { rows: ROWS, payload_bytes: 100, seed };
        let keys: Vec<_> = Changes::new(shape).take(20_000).filter_map(|it| it.1.after).collect();
        let (stopped, again) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (over, repeats) = (stopped.clone(), again.clone());
        let thread = thread::spawn(move || {
            let mut seen = BTreeMap::new();
            let mut answered = 0;
            for batch in keys.chunks(50).cycle() {
                if over.load(Ordering::Acquire) {
                    break;
                }
                let answers = ask(port, batch, &repeats);
                for (key, answer) in batch.iter().zip(answers) {
                    let found = answer.get("found");
                    let found =
                        found.unwrap_or_else(|| panic!("a read of {key} has failed: {answer}"));
                    check_not_back(&mut seen, key, found);
                    answered += 1;
                }
                thread::park_timeout(PAUSE);
            }
            answered
        });
        Self { stopped, again, thread }
    }

    /// Returns how many reads were answered, and how many were asked again.
    fn end(self) -> (u64, u64) {
        self.stopped.store(true, Ordering::Release);
        (self.thread.join().unwrap(), self.again.load(Ordering::Relaxed))
    }
}

fn check_not_back(seen: &mut BTreeMap<(Key, String), Seen>, key: &Key, found: &Value) {
    let entries: BTreeMap<_, _> = found["entries"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| (it["primary_key"].as_str().unwrap().to_owned(), it["offset"].as_u64().unwrap()))
        .collect();
    for ((of, primary), it) in seen.range_mut((key.clone(), String::new())..) {
        if of != key {
            break;
        }
        it.is_missing |= !entries.contains_key(primary);
    }
    for (primary, offset) in entries {
        let it = seen.entry((key.clone(), primary)).or_default();
        let is_newer = if it.is_missing { it.offset < offset } else { it.offset <= offset };
        assert!(
            is_newer,
            "{key} went back to {offset} from {}, missing {}",
            it.offset, it.is_missing
        );
        *it = Seen { offset, is_missing: false };
    }
}

/// Asks a router for keys; what is not answered is asked again, until the deadline of a read.
fn ask(port: u16, keys: &[Key], again: &AtomicU64) -> Vec<Value> {
    let key = |it: &Key| json!({ "what": { "key": String::from_utf8(it.0.clone()).unwrap() } });
    let body = json!({ "reads": keys.iter().map(key).collect::<Vec<_>>() }).to_string();
    await_that("an answer of a router", || {
        let answers = post(port, &body);
        if answers.is_none() {
            again.fetch_add(1, Ordering::Relaxed);
        }
        answers
    })
}

fn post(port: u16, body: &str) -> Option<Vec<Value>> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    write!(
        stream,
        "POST /v1/reads HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    if head.split(' ').nth(1)? != "200" {
        return None;
    }
    let body: Value = serde_json::from_str(body.trim()).ok()?;
    Some(body["answers"].as_array()?.clone())
}
