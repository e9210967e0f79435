//! Kills the planner, ten times, and looks for what is missing or stands twice.

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::os::unix::process::ExitStatusExt;

use isotherm::forecast::processor;
use isotherm::kafka::Output;
use isotherm::kafka::writer::Writer;
use isotherm::planner::progress::INPUTS;
use isotherm::replay::verify::{self, Verdict, Verify};
use isotherm::tick::tick_box::TickBox;
use schemas::Millis;
use schemas::assignment::Assignment;
use schemas::migrate_range::{Command, MigrateRange};
use schemas::plan::Planned;
use schemas::wire::encode;

use crate::evidence;
use crate::world::{Nodes, World, now_ms, say};

const TICKS: u64 = 200;

const KILLS: u64 = 10;

const SIGKILL: i32 = 9;

/// Where the planner dies by itself, when it is built for that. The last three have records in an open
/// transaction.
const POINTS: [&str; 5] = [
    "sink-after-commit",
    "sink-after-begin",
    "sink-after-first-send",
    "sink-half-sent",
    "sink-before-commit",
];

#[test]
fn planner_that_is_killed_ten_times_leaves_nothing_out_and_writes_nothing_twice() {
    let Some(world) = World::create("killed", &[]) else { return };
    let seed = now_ms();
    say(&format!("killed: seed {seed}"));
    let mut random = seed;
    let mut below = |n: u64| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (random >> 32) % n
    };
    let nodes = Nodes::start(&world.connection);
    let mut tick = 0;
    for kill in 0..KILLS {
        match POINTS.get(kill as usize) {
            Some(point) => {
                let planner =
                    world.planner("killed", Some(&format!("{point}={}*off->panic", 6 + below(10))));
                let status = planner.ended();
                assert_eq!(status.signal(), Some(SIGKILL), "{point}: {status}");
                tick = world.last_tick().unwrap();
            }
            None => {
                let mut planner = world.planner("killed", None);
                tick = planner.await_tick(&world, tick + 5 + below(15));
                planner.kill();
            }
        }
    }
    let mut planner = world.planner("killed", None);
    let first = world.ticks()[0].tick;
    planner.await_tick(&world, tick.max(first + TICKS) + 20);
    planner.signal("-TERM");
    let status = planner.ended();
    assert!(status.success(), "{status}");
    drop(nodes);
    check_whole(&world);
    check_replay(&world, None);
    check_forged(&world);

    let count = |topic: &'static str| world.records(topic).len();
    let aborted = |topic| world.uncommitted(topic).len() - count(topic);
    let aborted = ["plan", "heatmap", "planner_progress"].map(|it| (it, aborted(it)));
    say(&format!("killed: aborted records {aborted:?}"));
    assert!(aborted.iter().map(|it| it.1).sum::<usize>() > 0, "nothing was aborted");
}

#[test]
fn ticks_of_another_kind_of_processor_are_gone_on_with_and_run_again() {
    let Some(world) = World::create("elsewhere", &[]) else { return };
    let nodes = Nodes::start(&world.connection);
    let mut there = world.planner("there", Some("processor=return(z80)"));
    let first = there.await_tick(&world, 0);
    there.await_tick(&world, first + 40);
    there.kill();
    let last = world.last_tick().unwrap();
    let mut here = world.planner("here", None);
    here.await_tick(&world, last + 20);
    here.signal("-TERM");
    assert!(here.ended().success());
    drop(nodes);
    check_whole(&world);
    let mut kinds: Vec<_> = world.ticks().into_iter().map(|it| it.processor).collect();
    kinds.dedup();
    assert_eq!(kinds, ["z80", processor()]);
    let verdict = check_replay_of(&world, "planner", None);
    assert_eq!(verdict.elsewhere, BTreeSet::from(["z80".to_owned()]));
    check_forged(&world);
}

/// Looks for what is missing or stands twice.
pub fn check_whole(world: &World) {
    let done = world.ticks();
    let boxes: Vec<_> = done.iter().map(|it| TickBox::read_from(it, &INPUTS).unwrap()).collect();
    assert!(boxes.is_sorted_by(|a, b| a.is_followed_by(b)), "boxes are not contiguous");
    let queries: u64 = done.iter().map(|it| it.queries).sum();
    assert!(boxes.len() as u64 >= TICKS.min(50) && queries > 0, "{} boxes", boxes.len());

    let plans: Vec<Planned> = world.values();
    once("plan", plans.iter().map(|it| &it.plan));
    let commands: Vec<MigrateRange> = world.values();
    let starts = || commands.iter().filter(|it| it.command == Command::Start);
    once("START", starts().map(|it| it.migration));
    assert!(starts().count() > 0, "nothing was moved");
    let plans: BTreeSet<_> = plans.iter().map(|it| it.plan.as_str()).collect();
    for it in starts() {
        assert!(plans.contains(it.plan.as_deref().unwrap()), "a START without its plan: {it:?}");
    }
    say(&format!(
        "{} ticks, {queries} queries, {} plans, {} STARTs, {} assignments",
        boxes.len(),
        plans.len(),
        starts().count(),
        check_assigned(world)
    ));
}

/// Looks for an epoch of a range that stands twice, and counts.
pub fn check_assigned(world: &World) -> usize {
    let assignments: Vec<Assignment> = world.values();
    once("range and epoch", assignments.iter().map(|it| (&it.range_start, it.epoch)));
    assignments.len()
}

/// What nobody decided is found, with its tick.
fn check_forged(world: &World) {
    let mut plan = world.values::<Planned>().swap_remove(3);
    plan.unsplittable_ppm += 1;
    let writer = Writer::open(&world.connection, "forger").unwrap();
    let key = plan.plan.clone().into_bytes();
    writer.send(&Output::new("plan", key, encode(&plan))).unwrap();
    writer.flush().unwrap();
    let verdict = replayed(world, "planner", None);
    let [difference] = &verdict.differences[..] else { panic!("{verdict}") };
    assert_eq!((difference.tick, difference.topic), (plan.tick, "plan"), "{difference}");
}

/// Runs all ticks again, or those from a time on.
pub fn check_replay(world: &World, from: Option<Millis>) {
    check_replay_of(world, "planner", from);
}

pub fn check_replay_of(world: &World, planner_id: &str, from: Option<Millis>) -> Verdict {
    let verdict = replayed(world, planner_id, from);
    say(&verdict.to_string());
    if let Some(first) = verdict.differences.first() {
        verdict.differences.iter().for_each(|it| say(&format!("tick {}: {it}", it.tick)));
        evidence::tell(world, planner_id, first.tick);
    }
    assert_eq!(verdict.differing, 0, "{verdict}");
    assert!(verdict.same > verdict.last - verdict.first, "{verdict}");
    verdict
}

fn replayed(world: &World, planner_id: &str, from: Option<Millis>) -> Verdict {
    let verify =
        Verify { connection: &world.connection, planner_id, from, to: None, timely_workers: 2 };
    verify::run(&verify, &mut |_| ()).unwrap()
}

fn once<T: Ord + Debug>(what: &str, all: impl Iterator<Item = T>) {
    let mut seen = BTreeSet::new();
    for it in all {
        let told = format!("{it:?}");
        assert!(seen.insert(it), "{what} stands twice: {told}");
    }
}
