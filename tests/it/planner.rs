//! The planner as a process, on a real Kafka: how it begins, waits, hands over and ends; and where it begins
//! to read, on the embedded broker.
//!
//! What stops the broker needs `ISOTHERM_TEST_KAFKA_SCRIPT` as well, the path of `docker/kafka`, with
//! its environment.

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use isotherm::cli;
use isotherm::config::Config;
use isotherm::foreign::translator::Translator;
use isotherm::kafka::source::{FilledBox, Input, Start};
use isotherm::planner::driver::{Beginning, Options, Stamps, Watch, run};
use isotherm::planner::machine::TickOutputs;
use isotherm::tick::machine::Reading;
use isotherm::tick::tick_box::{Offset, TickBox};
use isotherm::topics::definitions;
use schemas::Millis;

use crate::channel;
use crate::kafka::broker::Broker;
use crate::kafka::{App, broker};
use crate::killed::{check_assigned, check_replay, check_replay_of, check_whole};
use crate::world::{Nodes, PATIENCE, TICK_MS, World, await_that, say};

#[test]
fn planner_says_what_it_waits_for_and_ends_in_order() {
    let Some(world) = World::create("ready", &[]) else { return };
    let mut planner = world.planner("ready", None);
    planner.await_told(503, "[-] assignment: waits for nodes: 0 of 3 report");
    assert_eq!(planner.ask("/livez").unwrap().0, 200);
    let nodes = Nodes::start(&world.connection);
    planner.await_told(200, "[+] assignment: generation ");
    planner.await_told(200, "[+] progress: there is none: a new planner");
    planner.await_told(200, "[+] forecast: warm-up ");
    planner.await_told(200, "[+] forecast: rests on what was seen");
    let first = world.ticks()[0].tick;
    // Snapshots are taken every 25 ticks.
    planner.await_tick(&world, first + 30);
    planner.signal("-INT");
    let status = planner.ended();
    assert!(status.success(), "{status}");
    let again = world.planner("again", None);
    again.await_told(200, "[+] progress: restored from the snapshot of tick ");
    drop(nodes);
}

#[test]
fn topics_that_break_a_promise_are_refused_with_the_remedy() {
    let settings = [
        ("node_capacity", "min.compaction.lag.ms", "1000"),
        ("query_log", "message.timestamp.type", "CreateTime"),
        ("assignment", "partitions", "2"),
    ];
    let Some(world) = World::create("unmet", &settings) else { return };
    let mut planner = world.planner("unmet", None);
    // What it says at last has several lines.
    let code = planner.await_end().code();
    let log = planner.log().replace(['\n', '│'], " ");
    assert_eq!(code, Some(1), "{log}");
    let named = [
        "isotherm::planner::topics",
        "node_capacity",
        "min.compaction.lag.ms",
        "kafka-configs.sh",
        "LogAppendTime",
        "assignment: it has 2 partitions",
        "delete it, and run",
    ];
    assert!(named.iter().all(|it| log.contains(it)), "{log}");
}

#[test]
fn standby_takes_over_from_a_planner_that_is_killed() {
    let Some(world) = World::create("standby", &[]) else { return };
    let nodes = Nodes::start(&world.connection);
    let mut first = world.planner("first", None);
    let begin = await_that("a tick", || world.last_tick());
    let mut second = world.planner("second", None);
    let tick = first.await_tick(&world, begin + 30);
    await_that("who waits for its turn", || {
        let (status, body) = second.ask("/readyz?verbose")?;
        (status == 503 && body.contains("[-] turn: waits for its turn")).then_some(())
    });
    first.kill();
    let tick = second.await_tick(&world, tick + 60);
    second.signal("-TERM");
    assert!(second.ended().success());
    drop(nodes);
    assert!(begin + 60 <= tick);
    check_whole(&world);
    check_replay(&world, None);
}

#[test]
fn planner_that_was_replaced_while_it_was_paused_writes_nothing_more_and_says_so() {
    let Some(world) = World::create("paused", &[]) else { return };
    let nodes = Nodes::start(&world.connection);
    let mut first = world.planner("first", None);
    let begin = await_that("a tick", || world.last_tick());
    let mut second = world.planner("second", None);
    second.await_log("serves /livez", 1);
    first.await_tick(&world, begin + 20);
    first.signal("-STOP");
    // Its place is given to the second one, which fences it.
    second.await_log("its turn", 1);
    let tick = second.await_tick(&world, begin + 40);
    first.signal("-CONT");
    let log = await_that("the end of who was replaced", || first.has_ended().then(|| first.log()));
    let status = first.ended();
    assert_eq!(status.code(), Some(1), "{log}");
    let flat = log.replace(['\n', '│'], " ");
    assert!(flat.contains("has taken over") || flat.contains("the turn is lost"), "{log}");
    second.await_tick(&world, tick + 30);
    second.signal("-TERM");
    assert!(second.ended().success());
    drop(nodes);
    check_whole(&world);
    check_replay(&world, None);
}

#[test]
fn planner_waits_for_a_broker_that_is_away_and_loses_nothing() {
    let Some(mut world) = World::create("away", &[]) else { return };
    // Each tick, and what the clients say of the broker: for a failure that does not come again.
    world.log = "info,isotherm=debug";
    world.leave();
    let Some(mut broker) = Broker::alone("away") else { return };
    broker.stop();
    let mut planner = world.planner("away", None);
    planner.await_log("cannot be reached", 1);
    let waits = planner.ask("/readyz?verbose").unwrap();
    assert!(waits.0 == 503 && waits.1.contains("[-] topics: waits for Kafka"), "{waits:?}");
    broker.start();
    let nodes = Nodes::start(&world.connection);
    let begin = await_that("a tick", || world.last_tick());
    planner.await_tick(&world, begin + 40);
    await_that("a move", || (!world.records("migrate_range").is_empty()).then_some(()));
    let tick = world.last_tick().unwrap();
    broker.stop();
    let since = Instant::now();
    await_that("ten seconds", || (Duration::from_secs(10) < since.elapsed()).then_some(()));
    assert!(!planner.has_ended(), "{}", planner.log());
    let still = planner.ask("/readyz?verbose").unwrap();
    assert!(still.0 == 503 && still.1.contains("[-] ticks: no tick for "), "{still:?}");
    broker.start();
    planner.await_tick(&world, tick + 10_000 / TICK_MS + 20);
    planner.signal("-TERM");
    let log = planner.log();
    assert!(planner.ended().success(), "{log}");
    drop(nodes);
    check_whole(&world);
    check_replay(&world, None);
    assert!(log.contains("is back"), "{log}");
}

#[test]
fn planner_whose_transaction_was_open_for_too_long_goes_on_as_nobody_has_its_turn() {
    let Some(world) = World::create("slow", &[]) else { return };
    let nodes = Nodes::start(&world.connection);
    // The broker allows ten seconds, and looks every ten.
    let points = "sink-half-sent=30*off->1*delay(25000)->off";
    let mut planner = world.planner("slow", Some(points));
    planner.await_log("starts again from the topics", 1);
    let tick = world.last_tick().unwrap();
    planner.await_tick(&world, tick + 60);
    planner.signal("-TERM");
    let log = planner.log();
    assert!(planner.ended().success(), "{log}");
    drop(nodes);
    assert!(log.contains("fenced by a newer planner"), "{log}");
    check_whole(&world);
    check_replay(&world, None);
}

#[test]
fn assignment_without_its_planners_progress_is_adopted() {
    let Some(world) = World::create("adopted", &[]) else { return };
    let nodes = Nodes::start(&world.connection);
    let mut first = world.planner("first", None);
    let begin = await_that("a tick", || world.last_tick());
    first.await_tick(&world, begin + 40);
    first.kill();
    let known = |id: &str| world.ticks_of(id).last().map(|it| it.tick);
    let second = world.planner_of("second", "heir", None);
    let tick = await_that("a tick of the heir", || known("heir"));
    assert!(second.log().contains("adopts the assignment"), "{}", second.log());
    await_that("more ticks", || known("heir").filter(|it| tick + 30 <= *it));
    // In the snapshot of its first tick is what it has adopted.
    second.signal("-KILL");
    second.ended();
    let mut third = world.planner_of("third", "heir", None);
    await_that("more ticks", || known("heir").filter(|it| tick + 70 <= *it));
    assert!(third.log().contains("restored from the snapshot"), "{}", third.log());
    assert!(!third.has_ended());
    third.signal("-TERM");
    assert!(third.ended().success());
    drop(nodes);
    check_assigned(&world);
    // What it rests on in its first tick is in the snapshot of that.
    let ticks = world.ticks_of("heir");
    let verdict = check_replay_of(&world, "heir", None);
    assert_eq!(verdict.first, ticks[0].tick + 1, "{verdict}");
}

/// How long records are safe from compaction, and progress is kept: as short as a test can wait, and longer
/// than what is run again (the last part of it, and up to an interval of snapshots before) and the time until then.
const LAG_MS: u64 = 24_000;

#[test]
fn ticks_come_out_the_same_when_topics_have_been_compacted_as_their_settings_allow() {
    let lag = LAG_MS.to_string();
    let mut settings = vec![("planner_progress", "retention.ms", lag.as_str())];
    let compacted = ["node_capacity", "heatmap", "migration_status"];
    for topic in compacted {
        settings.extend([
            (topic, "min.compaction.lag.ms", lag.as_str()),
            (topic, "max.compaction.lag.ms", "32000"),
            (topic, "segment.ms", "2000"),
            (topic, "min.cleanable.dirty.ratio", "0.01"),
        ]);
    }
    let Some(world) = World::create("compacted", &settings) else { return };
    let nodes = Nodes::start(&world.connection);
    let mut planner = world.planner("compacted", None);
    let begin = await_that("a tick", || world.last_tick());
    planner.await_tick(&world, begin + 60);
    let first = |topic| {
        let records = world.records(topic).into_iter();
        records.map(|it| (it.at.partition, it.offset)).min()
    };
    let before = compacted.map(|it| first(it).unwrap());
    let deadline = Instant::now() + PATIENCE;
    let is_compacted = || {
        let now = compacted.map(|it| first(it).unwrap());
        now.iter().zip(&before).filter(|(now, before)| now > before).count()
    };
    while is_compacted() < compacted.len() && Instant::now() < deadline {
        let last = world.last_tick().unwrap();
        planner.await_tick(&world, last + 5);
    }
    let n = is_compacted();
    planner.signal("-TERM");
    assert!(planner.ended().success());
    drop(nodes);
    say(&format!("compacted: {n} of {} topics", compacted.len()));
    assert!(0 < n, "the broker has compacted nothing in {} s", PATIENCE.as_secs());
    let last = world.last_tick().unwrap();
    // What is younger than the lag is whole.
    check_replay(&world, Some(Millis(last * TICK_MS - LAG_MS / 4)));
}

/// Looks at the first tick only.
#[derive(Default)]
struct First {
    beginning: Option<Beginning>,
    bounds: Option<TickBox>,
    records: usize,
}

impl Watch for First {
    fn begun(&mut self, beginning: Beginning) {
        self.beginning = Some(beginning);
    }

    fn filled(&mut self, filled: &FilledBox, _: &Translator) {
        self.bounds = Some(filled.bounds.clone());
        self.records = filled.records.len();
    }

    fn committed(&mut self, _: &TickBox, _: &TickOutputs) -> anyhow::Result<ControlFlow<()>> {
        Ok(ControlFlow::Break(()))
    }
}

#[test]
fn r25_who_adopts_an_assignment_begins_at_the_ends_of_its_inputs() {
    let topics: Vec<_> = definitions().into_iter().map(|it| (it.name, it.partitions)).collect();
    let broker = broker(&topics);
    let connection = broker.connection();
    let app = App::new(&connection);
    for partition in 0..3 {
        app.log("query_log", partition, crate::world::now_ms(), "what?");
    }
    app.flush();
    channel::App::new(&connection).assign(&[channel::range("", "", "a", 1)]);
    let config = Config { kafka: connection.clone(), ..Config::default() };
    let options = Options {
        planner_id: "planner".into(),
        settings: cli::planner::settings(&config).unwrap(),
        rules: cli::planner::rules(&config),
        inputs: vec![Input {
            connection: connection.clone(),
            topics: vec!["query_log", "node_capacity", "migration_status", "operator_command"],
            reading: Reading::Live,
            start: Start::Beginning,
            end: None,
        }],
        outputs: connection,
        timely_workers: 1,
        stamps: Stamps::WallClock,
        registry: None,
    };
    let mut first = First::default();
    run(&options, &mut first).unwrap();
    assert_eq!(first.beginning, Some(Beginning::Adopted { ranges: 1 }));
    let from = |it: &TickBox, partition| it.spans[&crate::kafka::at("query_log", partition)].from;
    let bounds = first.bounds.unwrap();
    assert_eq!([0, 1, 2, 3].map(|it| from(&bounds, it)), [1, 1, 1, 0].map(Offset));
    assert_eq!(first.records, 0, "what was asked of another planner");
}
