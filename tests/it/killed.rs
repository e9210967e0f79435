//! Kills the planner, ten times, and looks for what is missing or stands twice.

#![expect(clippy::unwrap_used, reason = "what a test cannot unwrap has failed it")]

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::os::unix::process::ExitStatusExt;

use isotherm::planner::progress::INPUTS;
use isotherm::replay::verify::{self, Verify};
use isotherm::tick::tick_box::TickBox;
use schemas::Millis;
use schemas::assignment::Assignment;
use schemas::migrate_range::{Command, MigrateRange};
use schemas::plan::Planned;

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
    let points: &[_] = if cfg!(feature = "failpoints") { &POINTS } else { &[] };
    if points.is_empty() {
        say(
            "SKIPPED in part: killed at named points, as that needs --features failpoints; all ten \
             kills are at random",
        );
    }
    let mut tick = 0;
    for kill in 0..KILLS {
        match points.get(kill as usize) {
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

    let count = |topic: &'static str| world.records(topic).len();
    let aborted = |topic| world.count_uncommitted(topic) - count(topic);
    let aborted = ["plan", "heatmap", "planner_progress"].map(|it| (it, aborted(it)));
    say(&format!("killed: aborted records {aborted:?}"));
    if cfg!(feature = "failpoints") {
        assert!(aborted.iter().map(|it| it.1).sum::<usize>() > 0, "nothing was aborted");
    }
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
    let assignments: Vec<Assignment> = world.values();
    once("range and epoch", assignments.iter().map(|it| (&it.range_start, it.epoch)));
    say(&format!(
        "{} ticks, {queries} queries, {} plans, {} STARTs, {} assignments",
        boxes.len(),
        plans.len(),
        starts().count(),
        assignments.len()
    ));
}

/// Runs all ticks again, or those from a time on.
pub fn check_replay(world: &World, from: Option<Millis>) {
    let verify = Verify {
        connection: &world.connection,
        planner_id: "planner",
        from,
        to: None,
        timely_workers: 2,
    };
    let verdict = verify::run(&verify, &mut |_| ()).unwrap();
    say(&verdict.to_string());
    assert_eq!(verdict.difference, None, "{verdict}");
    assert!(verdict.same > verdict.last - verdict.first, "{verdict}");
}

fn once<T: Ord + Debug>(what: &str, all: impl Iterator<Item = T>) {
    let mut seen = BTreeSet::new();
    for it in all {
        let told = format!("{it:?}");
        assert!(seen.insert(it), "{what} stands twice: {told}");
    }
}
