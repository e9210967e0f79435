//! The index as processes on a real Kafka: rows are written and read while ranges move by hand and
//! processes are killed; in the end it equals its table.
//!
//! ```text
//!  load ──> table ──> 2 channels ──> 4 workers <── 2 routers <── readers
//!                       planner, observing ──┘  kill -9 of source and destination in each phase
//! ```

pub mod cluster;
pub mod told;
pub mod deaths;
mod reader;

use std::collections::{BTreeSet, VecDeque};
use std::process::{Child, Stdio};

use isotherm::assignment::map::span_of;
use isotherm::cli::exit::Exit;
use isotherm::cli::index::text_of;
use isotherm::table::load::Shape;
use schemas::assignment::Assignment;
use schemas::migration_status::{Phase, Status};
use schemas::{KeySpan, MigrationId};

use self::cluster::{Cluster, NODES, Size};
use self::deaths::{Death, KINDS, Kind, Side, table};
use self::reader::Reader;
use self::told::Told;
use crate::moved::{check, isotherm, ranges};
use crate::world::{Process, World, await_that, now_ms, say};

const ROWS: u64 = 200_000;

const MOVES: usize = 30;

/// So many are asked for, if some are refused, or a death was not seen.
const MOVES_MAX: usize = 42;

/// Each death twice; one that is not seen is tried again.
const ROUNDS: usize = 2;

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
        grace = "1s"
        stream_credit_bytes = 1048576"#;
    // A copy takes a second, so that it can be seen half done.
    world.policy = "bandwidth_bytes_per_s = 2000000\nmoves_in_flight_per_node_max = 16\nmoves_in_flight_max = 32";
    let seed = now_ms();
    say(&format!("index: seed {seed}"));
    let mut random = seed;
    let mut below = |n: usize| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (random >> 33) as usize % n
    };
    let mut cluster = Cluster::start(&world, &Size::default());
    let mut told = Told::follow(&world.connection);
    let mut load = load(&world, seed);
    let shape = Shape { rows: ROWS, payload_bytes: 100, seed };
    let [a, b] = cluster.routers.each_ref().map(Process::port);
    let readers = [vec![a, b], vec![b, a]].map(|it| Reader::start(it, shape));
    await_that("the rows", || {
        let entries = ranges(&world)?.iter().map(|it| it["entries"].as_u64()).sum::<Option<u64>>();
        entries.filter(|it| ROWS * 9 / 10 < *it)
    });
    // The planner has all these writes to look at.
    cluster.await_ready();
    told.catch_up();
    let born = told.moves.len();

    let mut due: VecDeque<Kind> = KINDS.into_iter().cycle().take(ROUNDS * KINDS.len()).collect();
    let mut deaths = Vec::new();
    let mut missed = BTreeSet::new();
    let mut range = span_of(told.map.owner(b"7").unwrap());
    let mut begun: Vec<Begun> = Vec::new();
    let mut made = 0;
    for _ in 0..MOVES_MAX {
        if MOVES <= made && due.is_empty() {
            break;
        }
        // Chains and returns of one range, then another one.
        if made % 5 == 4 {
            let all: Vec<_> = told.map.iter().map(span_of).collect();
            range = all[below(all.len())].clone();
        }
        let from = node(told.map.range(&range).unwrap());
        let others: Vec<_> = NODES.into_iter().filter(|it| *it != from).collect();
        let before = begun.last().filter(|it| it.range == range && it.to == from);
        let to = match before {
            Some(it) if made % 3 == 0 => it.from,
            Some(_) | None => others[below(others.len())],
        };
        let Some(migration) = begin_move(&world, &mut told, &range, to) else { continue };
        begun.push(Begun { migration, range: range.clone(), from, to });
        match made {
            8 => cluster.kill_channel(0),
            16 => cluster.kill_planner(),
            _ if made % 2 == 1 => {
                if let Some(kind) = due.pop_front() {
                    let node = if kind.0 == Side::Source { from } else { to };
                    if let Some(death) = cluster.kill_worker_at(&mut told, migration, kind, node) {
                        deaths.push(death);
                    } else {
                        due.push_back(kind);
                        missed.insert(migration);
                    }
                }
            }
            _ => (),
        }
        end_move(&mut told, migration);
        made += 1;
    }
    assert!(load.try_wait().unwrap().is_none(), "rows were changed all the time");
    load.kill().unwrap();
    load.wait().unwrap();
    let read = readers.map(Reader::end);
    told.catch_up();
    let (chains, returns) = chains_and_returns(&begun, &told);
    say(&format!("index: {made} moves, {chains} chains and {returns} returns among them"));
    say(&format!("of reads {read:?}\n{}", table(&deaths, &told)));

    assert!(MOVES <= made, "{made} moves were begun");
    assert!(0 < chains && 0 < returns, "{chains} chains, {returns} returns of {begun:?}");
    assert!(read.iter().all(|it| it.answered > 1_000), "{read:?}");
    let said = check(&world, &["verify", "--timeout", "100s"], Exit::Done, "0 missing, 0 extra");
    assert!(said.contains("0 stale, 0 foreign; 0 gaps, 0 overlaps"), "{said}");
    check_ends(&told, &missed);
    // Before and behind READY; nothing was corrupted.
    let counted = cluster.counted();
    assert!(counted.iter().any(|it| it.contains(" segments_sent")), "{counted:?}");
    assert!(!counted.iter().any(|it| it.contains(" sums_differ")), "{counted:?}");
    let complete = told.moves.values().filter(|it| it.ends[0] == Status::Complete).count() - born;
    assert!(complete > MOVES / 2, "{complete} moves were completed");
    check_deaths(&deaths, &told);
}

/// A move that was asked for and has begun.
#[derive(Debug)]
struct Begun {
    migration: MigrationId,
    range: KeySpan,
    from: &'static str,
    to: &'static str,
}

/// Counts of moves on end of one range, both complete, those that go on from A over B to C, and those back to A.
fn chains_and_returns(begun: &[Begun], told: &Told) -> (usize, usize) {
    let is_complete =
        |it: &Begun| told.course(it.migration).ends.first() == Some(&Status::Complete);
    let follows = |[first, second]: &[&Begun; 2]| {
        first.range == second.range && is_complete(first) && is_complete(second)
    };
    let pairs = begun.windows(2).map(|it| [&it[0], &it[1]]).filter(follows);
    let (returns, chains): (Vec<_>, Vec<_>) =
        pairs.partition(|[first, second]| first.from == second.to);
    (chains.len(), returns.len())
}

/// Writes the rows, then changes of them until it is killed.
fn load(world: &World, seed: u64) -> Child {
    let (rows, seed) = (ROWS.to_string(), seed.to_string());
    let args = ["load", "--rows", &rows, "--changes", "10000000", "--rate", "300", "--seed", &seed];
    isotherm(world, &args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

/// Asks for a move, and waits until it begins; `None`: it is refused.
fn begin_move(world: &World, told: &mut Told, range: &KeySpan, to: &str) -> Option<MigrationId> {
    let said = check(world, &["move", &text_of(range), "--to", to], Exit::Done, "asked as ");
    let command = said.split(' ').nth(2).unwrap();
    await_that("the answer to a command", || {
        told.poll();
        told.answers.get(command).copied()
    })
}

/// Waits for the end of a move, whichever.
fn end_move(told: &mut Told, migration: MigrationId) {
    await_that("the end of a move", || {
        told.poll();
        (!told.course(migration).ends.is_empty()).then_some(())
    });
    // The map too.
    told.catch_up();
}

fn node(range: &Assignment) -> &'static str {
    NODES.into_iter().find(|it| *it == range.node.0).unwrap()
}

/// Each has one end. Who has died behind the end of a move, as it was missed, may have said it again (R3).
fn check_ends(told: &Told, missed: &BTreeSet<MigrationId>) {
    for (migration, course) in &told.moves {
        let [first, again @ ..] = &course.ends[..] else { panic!("{migration} has no end") };
        assert!(again.is_empty() || missed.contains(migration), "{migration} {course:?}");
        assert!(again.iter().all(|it| it == first), "{migration} {course:?}");
        let differs = course.reasons.iter().any(|it| it.contains("what came differs"));
        assert!(!differs, "{migration} {course:?}");
    }
}

/// Each kind was seen; and what a source had begun to send when it died in it, it has not ended.
fn check_deaths(deaths: &[Death], told: &Told) {
    let unseen = |kind: &&Kind| deaths.iter().all(|it| it.kind != **kind);
    let unseen: Vec<_> = KINDS.iter().filter(unseen).collect();
    assert!(unseen.is_empty(), "nobody has died as {unseen:?}");
    for it in deaths.iter().filter(|it| it.kind == (Side::Source, Phase::Copying)) {
        let (number, _) = it.course.stream();
        let course = told.course(it.migration);
        let is_broken = !course.streams[&number].is_whole && number < course.stream().0;
        assert!(is_broken, "{} {:?} {course:?}", it.migration, it.course);
    }
}
