//! A channel that was away for longer than compaction leaves changes alone, as processes on a real Kafka (R24).
//!
//! ```text
//!  table   fig ─ nut ─ yam        the change from fig to nut is gone before the channel is back
//!  index   fig            yam     nobody deletes fig, until the range is built again
//! ```

use std::time::Duration;

use isotherm::channel::committed::{CaughtUp, Committed};
use isotherm::channel::machine::Settings;
use isotherm::cli::exit::Exit;
use isotherm::kafka::Connection;
use isotherm::kafka::group::{Claimed, Commit, Event, Group};
use isotherm::tick::tick_box::Offset;
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::producer::{BaseRecord, Producer};
use rdkafka::topic_partition_list::TopicPartitionList;
use schemas::Millis;
use schemas::operator_command::{Command, OperatorCommand};
use schemas::plan::Planned;

use crate::channel::{App, Running, range};
use crate::kafka::real::transactional;
use crate::killed::check_replay;
use crate::moved::{check, ranges, run};
use crate::world::{PATIENCE, World, await_that, now_ms};

const NODES: [&str; 2] = ["n0", "n1"];

const DAY_MS: u64 = 86_400_000;

/// Longer than the channel is ever kept from looking at the end of the table.
const LAG_MS: u64 = 8_000;

/// Where the row is whose change nobody sees.
const PARTITION: u32 = 3;

#[test]
fn r24_channel_that_was_away_for_too_long_has_the_index_built_again() {
    let Some(mut world) = World::create("away", &[]) else { return };
    world.mode = "observe";
    world.birth_nodes = NODES.len() as u32;
    world.more = "split_points = [\"g\", \"n\", \"t\"]\n[worker]\nreport_every = \"300ms\"";
    let mut planner = world.planner("away", None);
    let _workers =
        NODES.map(|it| world.start(it, &["worker", "--dir", "data", "--node-id", it], None));
    let channel = world.start("channel", &["channel"], None);
    let app = App::new(&world.connection);
    for (n, key) in ["ant", "hen", "owl", "wasp"].into_iter().enumerate() {
        app.row(n as u32, &format!("q{n}"), Some((None, Some(key))));
    }
    app.row(PARTITION, "p", Some((None, Some("fig"))));
    await_that("ranges that are settled", || {
        let ranges = ranges(&world)?;
        ranges.iter().all(|it| it["migration"].is_null()).then_some(())
    });
    check(&world, &["verify", "--timeout", "100s"], Exit::Done, "0 missing, 0 extra");
    // It came for the first time, and all was just given from the table.
    let epochs =
        || ranges(&world).unwrap().iter().map(|it| it["epoch"].as_u64()).collect::<Vec<_>>();
    await_that("answers to a channel that is new", || {
        let asked = asked(&world).len();
        (0 < asked && asked == answered(&world).len()).then_some(())
    });
    assert_eq!(epochs(), [Some(1); 4]);
    // It goes by what the cluster says.
    assert!(asked(&world).iter().all(|it| it.reason.contains("alone for 7 d")));

    channel.signal("-TERM");
    assert!(channel.ended().success());
    planner.signal("-TERM");
    assert!(planner.ended().success());
    app.row(PARTITION, "p", Some((Some("fig"), Some("nut"))));
    app.row(PARTITION, "p", Some((Some("nut"), Some("yam"))));
    // Else all is known to have been given since then.
    let given = now_ms();
    await_that("a time for which changes were kept", || (given + LAG_MS < now_ms()).then_some(()));
    let since = now_ms() - 9 * DAY_MS;
    pass_over(&world, since);
    let first = asked(&world).len();

    // A channel to which the cluster says that it compacts sooner than it does.
    let settings = Settings { round_ms: 100, compaction_lag_ms: Some(LAG_MS) };
    let quick = Running::start_with(&world.connection, settings);
    let request = await_that("a request", || asked(&world).into_iter().nth(first));
    assert_eq!(request.id, format!("rebuild-channel-{PARTITION}-{since}"));
    assert!(
        request.reason.contains("for 9 d") && request.reason.contains("for 8 s"),
        "{request:?}"
    );
    // As long as there is no planner, what nobody deletes is there.
    check(&world, &["verify", "--timeout", "100s"], Exit::Failed, "0 missing, 1 extra");
    planner = world.planner("away", None);
    await_that("ranges that are built again", || {
        let ranges = ranges(&world)?;
        let is_done = |it: &serde_json::Value| it["migration"].is_null() && it["epoch"] == 2;
        ranges.iter().all(is_done).then_some(())
    });
    check(&world, &["verify", "--timeout", "100s"], Exit::Done, "0 missing, 0 extra");

    // It has committed that it is back.
    quick.end();
    let all = asked(&world).len();
    let channel = world.start("channel", &["channel"], None);
    app.row(PARTITION, "p", Some((Some("yam"), Some("bee"))));
    check(&world, &["verify", "--timeout", "100s"], Exit::Done, "0 missing, 0 extra");
    assert!(!channel.log().contains("asks for a rebuild"), "{}", channel.log());
    assert_eq!(asked(&world).len(), all);
    assert_eq!(epochs(), [Some(2); 4]);
    check(&world, &["tail", "operator_command", "--no-follow"], Exit::Done, "REBUILD built before");
    check_told(&world, &request.id);
    planner.signal("-TERM");
    assert!(planner.ended().success());
    check_replay(&world, None);
}

#[test]
fn r24_end_of_a_partition_is_reached_behind_markers_and_aborted_rows() {
    let Some(world) = World::create("away-markers", &[]) else { return };
    let app = App::new(&world.connection);
    app.assign(&[range("", "", "a", 1)]);
    let unsteady = transactional(&world.connection);
    let topic = world.connection.topic("table");
    let write = || {
        unsteady.begin_transaction().unwrap();
        let record = BaseRecord::to(&topic).key("p").payload("no row").partition(0);
        unsteady.send(record).map_err(|it| it.0).unwrap();
        unsteady.flush(PATIENCE).unwrap();
    };
    write();
    unsteady.commit_transaction(PATIENCE).unwrap();
    write();
    unsteady.abort_transaction(PATIENCE).unwrap();
    let settings = Settings { round_ms: 100, compaction_lag_ms: Some(DAY_MS) };
    let channel = Running::start_with(&world.connection, settings);
    let caught_up = |offset| {
        await_that(&format!("all is read before {offset}"), || {
            let it = committed(&world)?.caught_up?;
            (it.offset == offset && it.time.0 > 0).then_some(it)
        })
    };
    // A row, a marker, an aborted row, a marker.
    caught_up(4);
    // What is open is not there yet.
    write();
    app.row(1, "q", Some((None, Some("fig"))));
    caught_up(4);
    unsteady.abort_transaction(PATIENCE).unwrap();
    channel.end();
    let channel = Running::start_with(&world.connection, settings);
    caught_up(6);
    channel.end();
}

/// What the channels have stored of the first partition.
fn committed(world: &World) -> Option<Committed> {
    let Connection { bootstrap_servers, prefix, .. } = &world.connection;
    let mut client = ClientConfig::new();
    client.set("bootstrap.servers", bootstrap_servers).set("group.id", format!("{prefix}channel"));
    let consumer: BaseConsumer = client.create().unwrap();
    let mut list = TopicPartitionList::new();
    list.add_partition(&world.connection.topic("table"), 0);
    let stored = consumer.committed_offsets(list, PATIENCE).unwrap();
    Committed::read(stored.elements()[0].metadata())
}

fn asked(world: &World) -> Vec<OperatorCommand> {
    let asked: Vec<OperatorCommand> = world.values();
    assert!(asked.iter().all(|it| it.command == Command::Rebuild), "{asked:?}");
    asked
}

fn answered(world: &World) -> Vec<String> {
    let plans: Vec<Planned> = world.values();
    plans.into_iter().flat_map(|it| it.commands).map(|it| it.command).collect()
}

/// Stores, in the name of the channels, that one row fewer is to be read, and that all was read that
/// long ago: as when compaction had taken the row away.
fn pass_over(world: &World, since: u64) {
    let mut group = Group::join(&world.connection, "table", "channel", None).unwrap();
    let claimed = await_that("the partitions of the group", || {
        match group.poll(Duration::from_millis(100)).unwrap() {
            Some(Event::Assigned(claimed)) if !claimed.is_empty() => Some(claimed),
            Some(Event::Assigned(_) | Event::Record(_) | Event::Revoked { .. }) | None => None,
        }
    });
    let claimed = claimed.into_iter().find(|it| it.at.partition == PARTITION);
    let Claimed { at, from, metadata } = claimed.expect("there is only one member");
    let committed = Committed::read(&metadata.expect("it was read before")).unwrap();
    assert!(committed.caught_up.is_some_and(|it| it.time.0 > since), "{committed:?}");
    let caught_up = Some(CaughtUp { time: Millis(since), offset: from.0 });
    let metadata = Committed { caught_up, ..committed }.to_string();
    let stored = group.commit(&[Commit { at, offset: Offset(from.0 + 1), metadata }]).unwrap();
    assert!(stored.iter().all(|it| it.1.is_ok()), "{stored:?}");
}

/// The plan that has the answer, as a person reads it, and those behind it.
fn check_told(world: &World, id: &str) {
    let plans: Vec<Planned> = world.values();
    let plan = plans.iter().find(|it| it.commands.iter().any(|it| it.command == id)).unwrap();
    let output = run(world, &["plan", "show", &plan.plan]);
    let told = String::from_utf8(output.stdout).unwrap();
    for part in ["REBUILD", id, "4 ranges are to be built again from the table", "build [-, g) on"]
    {
        assert!(told.contains(part), "{part} is not in {told}");
    }
    let rebuilds = plans.iter().map(|it| it.rebuilds.len()).sum::<usize>();
    assert_eq!(rebuilds, 4);
    check(world, &["plan", "list"], Exit::Done, "REBUILD");
}
