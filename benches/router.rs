//! Measures how fast the router finds who owns a key, while new maps take the place of old ones.
//!
//! `cargo bench --bench router`. One thread looks keys up, each by the newest map, as a read does; another
//! puts a new map there every 10 ms: "follows" is made from the one before, of which eight ranges have moved,
//! one was split and two have joined; "built" is put together from all of its ranges. The rate is by the
//! CPU time of the thread that looks up.
//!
//! Then what a request costs of one read, from a client over HTTP/2 to an answer that is there already and
//! back: with nothing set of telemetry, and with an exporter of spans and metrics, whose collector is away. By
//! the CPU time of a process that does both.

#[path = "router/requests.rs"]
mod requests;
mod scale;

use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use cpu_time::ThreadTime;
use isotherm::assignment::map::{Map, Row, span_of};
use isotherm::router::lookup::Lookup;
use isotherm::router::maps::{Maps, Offered};
use rand::{Rng, SeedableRng};
use rand_pcg::Pcg64;
use scale::or_smoke;
use schemas::assignment::{Assignment, Source};
use schemas::{Epoch, Generation, Inbox, Key, KeySpan, NodeId};

const NODES: u64 = 1_000;
const KEYS: usize = 1 << 16;
const EVERY: Duration = Duration::from_millis(10);

fn ranges() -> u64 {
    or_smoke(100_000, 5000)
}

fn main() {
    if !scale::is_asked() {
        return;
    }
    if let Ok(name) = std::env::var(requests::CHILD) {
        return requests::measure(&name);
    }
    println!(
        "{} ranges on {NODES} nodes; a map is offered every {} ms\n{:>24} {:>10} {:>24} {:>10}",
        ranges(),
        EVERY.as_millis(),
        "keys",
        "maps",
        "look-ups (million/s CPU)",
        "new maps"
    );
    for (name, key) in [("user/HEX", hex as fn(u64) -> Vec<u8>), ("8 bytes", bytes)] {
        let mut map = map(key);
        let timed = |build: &mut dyn FnMut() -> Lookup| {
            let started = Instant::now();
            let lookup = Arc::new(build());
            (lookup, started.elapsed().as_secs_f64() * 1e3)
        };
        let (lookup, built_ms) = timed(&mut || Lookup::new(&map, Generation(1)));
        of(name, "none", key, lookup.clone(), None);
        let mut build = |generation| Arc::new(Lookup::new(&map, Generation(generation)));
        of(name, "built", key, lookup.clone(), Some(&mut build));
        let (mut rng, mut last, mut took_ms) =
            (Pcg64::seed_from_u64(3), lookup.clone(), Vec::new());
        let mut follow = |generation| {
            let changed = change(&mut map, &mut rng, key, generation);
            let (lookup, ms) =
                timed(&mut || last.following(&map, Generation(generation), changed.clone()));
            took_ms.push(ms);
            last = lookup.clone();
            lookup
        };
        of(name, "follows", key, lookup, Some(&mut follow));
        took_ms.sort_by(f64::total_cmp);
        println!(
            "{name:>24} one is built in {built_ms:.1} ms, and follows in {:.1}",
            took_ms[took_ms.len() / 2]
        );
    }
    requests::compare();
}

/// Looks keys up for a while, and tells how fast.
fn of(
    name: &str,
    maps_are: &str,
    key: fn(u64) -> Vec<u8>,
    first: Arc<Lookup>,
    next: Option<&mut (dyn FnMut(u64) -> Arc<Lookup> + Send)>,
) {
    let mut rng = Pcg64::seed_from_u64(7);
    let keys: Vec<_> = (0..KEYS).map(|_| key(rng.random())).collect();
    let maps = Maps::default();
    assert_eq!(maps.offer(first), Offered::Taken);
    let during = or_smoke(Duration::from_secs(3), Duration::from_millis(50));
    let (ended, mut offered) = (AtomicBool::new(false), 0);
    let rate = thread::scope(|scope| {
        let offering = next.map(|next| {
            let (maps, ended) = (&maps, &ended);
            scope.spawn(move || {
                let mut due = Instant::now();
                let mut count = 0;
                while !ended.load(Ordering::Relaxed) {
                    assert_eq!(maps.offer(next(count + 2)), Offered::Taken);
                    count += 1;
                    due += EVERY;
                    thread::park_timeout(due.saturating_duration_since(Instant::now()));
                }
                count
            })
        });
        let (started, cpu) = (Instant::now(), ThreadTime::now());
        let mut looked_up = 0;
        let mut epochs = 0;
        while started.elapsed() < during {
            for key in &keys {
                let map = maps.load();
                epochs += map.owner(black_box(key)).map_or(0, |it| it.epoch.0);
            }
            looked_up += keys.len();
        }
        black_box(epochs);
        let rate = looked_up as f64 / cpu.elapsed().as_secs_f64() / 1e6;
        ended.store(true, Ordering::Relaxed);
        offered = offering.map_or(0, |it| it.join().expect("maps are offered to the end"));
        rate
    });
    println!("{name:>24} {maps_are:>10} {rate:>24.1} {offered:>10}");
}

/// Moves eight ranges, splits one and joins two; returns where the map has changed.
fn change(
    map: &mut Map,
    rng: &mut Pcg64,
    key: fn(u64) -> Vec<u8>,
    generation: u64,
) -> Vec<KeySpan> {
    let mut rows = Vec::new();
    for it in 0..10 {
        let at = Key(key(rng.random()));
        let range = map.owner(&at.0).expect("all is owned").clone();
        let node = NodeId(format!("node-{}", rng.random_range(0..NODES)));
        match it {
            0 if at != range.range_start => {
                rows.push(Assignment { range_end: at.clone(), ..range.clone() });
                rows.push(Assignment { range_start: at, ..range });
            }
            1 if !range.range_end.0.is_empty() => {
                let next = map.owner(&range.range_end.0).expect("all is owned").clone();
                rows.push(Assignment { range_end: next.range_end, ..range });
            }
            _ => rows.push(Assignment { node, ..range }),
        }
    }
    let mut changed = Vec::new();
    for it in rows {
        let epoch = Epoch(generation);
        let assignment = Assignment { epoch, generation: Generation(generation), ..it };
        let span = span_of(&assignment);
        changed.extend(map.overlapping(&span).map(span_of));
        changed.push(span);
        let start = assignment.range_start.clone();
        // Two of the ten may have met.
        _ = map.apply(&Row { start, assignment: Some(assignment) });
    }
    changed
}

fn map(key: fn(u64) -> Vec<u8>) -> Map {
    let mut rng = Pcg64::seed_from_u64(1);
    let mut starts: Vec<_> = (1..ranges()).map(|_| Key(key(rng.random()))).collect();
    starts.push(Key::default());
    starts.sort_unstable();
    starts.dedup();
    let mut map = Map::default();
    for (n, start) in starts.iter().enumerate() {
        let assignment = Assignment {
            range_start: start.clone(),
            range_end: starts.get(n + 1).cloned().unwrap_or_default(),
            node: NodeId(format!("node-{}", n as u64 % NODES)),
            inbox: Inbox(0),
            epoch: Epoch(1),
            generation: Generation(1),
            last: n + 1 == starts.len(),
            migration: None,
            source: Source::None,
            source_node: None,
            source_epoch: Epoch(0),
        };
        let row = Row { start: start.clone(), assignment: Some(assignment) };
        map.apply(&row).expect("ranges are disjoint");
    }
    map
}

fn hex(number: u64) -> Vec<u8> {
    format!("user/{number:016x}").into_bytes()
}

fn bytes(number: u64) -> Vec<u8> {
    number.to_be_bytes().to_vec()
}
