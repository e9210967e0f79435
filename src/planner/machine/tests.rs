mod world;
mod replayed;
mod operator;
mod by_hand;
mod rebuild;
mod swap;
mod refit;
mod audit;
mod observing;
mod rows;
mod elsewhere;

use schemas::migrate_range::Command;
use schemas::migration_status::Status;
use schemas::node_capacity::NodeCapacity;
use schemas::planner_progress::Progress;
use schemas::query_log::{Op, QueriesLogged, QueryLogged};
use schemas::wire::{Record as _, encode};
use schemas::{MigrationId, dead_letter};

use self::audit::{Audit, records};
use self::replayed::{Told, assert_same, restored};
use self::world::{FIRST, KEY_BYTES_TOO_MANY, Recorded, World};
use super::*;
use crate::forecast::Rung;
use crate::forecast::model::Model;
use crate::foreign::form::Answer;
use crate::kafka::{Record, TopicPartition};
use crate::migration::machine::Ignored;
use crate::migration::table::PLANNER;
use crate::planner::driver;
use crate::planner::settings::{Mode, Settings};
use crate::planner::snapshot::{FORMAT, Gatherer, assemble};
use crate::table::rows::KEY_BYTES_MAX;

#[test]
fn r25_birth_waits_for_as_many_nodes_as_are_asked_for() {
    let mut world = World::new(7);
    world.settings.mode = Mode::Observe;
    world.settings.birth_nodes = 1_000;
    let settings = world.settings.clone();
    let mut planner = Planner::new(settings.clone());
    let mut engine = driver::start(&settings, 1).unwrap();
    world.run(&mut planner, &mut engine, 8, |planner, _, outputs| {
        assert_eq!(outputs.assignments, []);
        assert!(planner.state().map.is_empty());
    });
}

#[test]
fn r25_planner_adopts_what_stands_on_the_topics() {
    let (mut in_flight, mut committed) = (0, 0);
    for seed in 300..306 {
        println!("seed {seed}");
        let mut world = World::new(seed);
        let settings = world.settings.clone();
        let mut planner = Planner::new(settings.clone());
        let mut engine = driver::start(&settings, 1).unwrap();
        let mut audit = Audit::new(settings.clone());
        let (mut commands, mut statuses) = (Vec::new(), Vec::new());
        let boxes = world.run(&mut planner, &mut engine, 16, |planner, recorded, outputs| {
            audit.tick(planner, recorded, outputs);
            commands.extend(outputs.commands.clone());
            statuses.extend(records::<MigrationStatus>(&outputs.outputs, MigrationStatus::TOPIC));
        });
        let heard = boxes.iter().flat_map(|it| &it.records);
        let heard = heard.filter(|it| it.at.topic == MigrationStatus::TOPIC);
        let heard = heard.map(|it| schemas::wire::decode(it.value.as_ref().unwrap()).unwrap());
        let heard = heard.filter(|it: &MigrationStatus| it.teller.0.starts_with('n'));
        statuses.extend(heard.filter(|it| it.migration.0 < 5000 && it.teller.0 != "nobody"));
        // Of one START nothing is left but that it is pending.
        let lost = MigrationId(3000);
        let pending = statuses.first().expect("the birth was told").clone();
        let status = Status::Pending;
        statuses.push(MigrationStatus { migration: lost, status, phase: None, ..pending });

        audit.adopted();
        in_flight += audit.in_flight().0;
        committed += audit.in_flight().1;
        let now = Millis((FIRST + 16) * settings.tick_ms);
        let map = audit.map.clone();
        let mut planner = Planner::adopted(settings.clone(), now, map, &commands, &statuses);
        let mut engine = driver::start(&settings, 1).unwrap();
        let mut told: Told = Vec::new();
        let boxes = world.run(&mut planner, &mut engine, 16, |planner, recorded, outputs| {
            audit.tick(planner, recorded, outputs);
            assert!(
                outputs
                    .commands
                    .iter()
                    .all(|it| it.command != Command::Start || lost < it.migration),
                "ids are never used again"
            );
            told.push(outputs.outputs.clone());
        });
        let ends = records::<MigrationStatus>(&told[0], MigrationStatus::TOPIC);
        let end = ends.iter().find(|it| it.migration == lost).expect("somebody says its end");
        assert_eq!((end.status, end.teller.0.as_str()), (Status::Failed, PLANNER));

        let (mut planner, _) = restored(&told[..1]).expect("a snapshot is taken at once");
        let mut engine = driver::start(&settings, 1).unwrap();
        for i in 1..6 {
            let outputs = world::tick(&mut planner, &mut engine, boxes[i].fill());
            assert_same(&format!("seed {seed}, box {i}"), &outputs.outputs, &told[i]);
        }
    }
    assert!(committed > 0 && in_flight > committed, "{committed} of {in_flight}");
}

#[test]
fn planner_goes_on_under_other_settings_within_their_limits() {
    let mut most = 0;
    for seed in 400..404 {
        println!("seed {seed}");
        let mut world = World::new(seed);
        let policy = &mut world.settings.policy;
        (policy.bytes_in_flight_max, policy.churn_bytes_per_hour_max) = (1 << 30, 1 << 40);
        (policy.moves_in_flight_max, policy.headroom_permille) = (1, 500);
        let mut planner = Planner::new(world.settings.clone());
        let mut engine = driver::start(&world.settings, 1).unwrap();
        world.run(&mut planner, &mut engine, 12, |planner, _, _| {
            assert!(planner.state().migrations.moves() <= 1);
        });
        world.settings.policy.moves_in_flight_max = 6;
        world.settings.policy.moves_in_flight_per_node_max = 4;
        let settings = world.settings.clone();
        let slots = engine.slots(None).unwrap();
        let mut engine = driver::start(&settings, 2).unwrap();
        let mut planner = planner.resettled(settings.clone(), slots);
        let mut policies = Vec::new();
        world.run(&mut planner, &mut engine, 12, |planner, _, outputs| {
            policies.extend(outputs.done.policy.clone());
            most = most.max(planner.state().migrations.moves());
        });
        // When they are new, and again with every snapshot; but for the network, which people choose.
        let told =
            policies.iter().map(|it| Settings { network: None, ..Settings::parse(it).unwrap() });
        let mut told: Vec<_> = told.collect();
        told.dedup();
        assert_eq!(told, [settings]);
    }
    assert!((2..=6).contains(&most), "{most} moves are in flight at most");
}

#[test]
fn snapshot_holds_all_that_outlives_a_tick() {
    let mut held = (0, 0);
    for seed in [500, 504] {
        println!("seed {seed}");
        let mut world = World::new(seed);
        let settings = world.settings.clone();
        let mut planner = Planner::new(settings.clone());
        let mut engine = driver::start(&settings, 1).unwrap();
        world.run(&mut planner, &mut engine, 30, |planner, recorded, outputs| {
            if !recorded.bounds.tick.is_multiple_of(settings.snapshot_ticks) {
                return;
            }
            let (it, _) = restored(std::slice::from_ref(&outputs.outputs)).unwrap();
            let (it, state) = (it.state(), planner.state());
            assert!(it.cells.iter().eq(state.cells.iter()));
            let told = |it: &State| {
                let heat = (&it.range_heat, &it.node_heat, &it.forecasts, &it.published);
                let changed = (&it.born, &it.dead, &it.renewed, &it.ledger, &it.forecaster);
                format!("{heat:?} {changed:?} {:?} {:?}", it.ranges, it.map)
            };
            assert_eq!(told(it), told(state));
            held.0 += usize::from(!state.born.is_empty());
            held.1 += usize::from(state.ledger.churn_bytes() > 0);
        });
    }
    assert!(held.0 > 0 && held.1 > 0, "{held:?}");
}

#[test]
fn owner_of_a_quiet_range_is_told_too() {
    let mut world = World::new(11);
    world.silence();
    let mut planner = Planner::new(world.settings.clone());
    let mut engine = driver::start(&world.settings, 1).unwrap();
    let mut owners = Vec::new();
    world.run(&mut planner, &mut engine, 6, |_, _, outputs| {
        let told = records::<RangeHeated>(&outputs.outputs, RangeHeated::TOPIC);
        owners.extend(told.into_iter().map(|it| it.node.0));
    });
    assert_eq!(owners.len(), 8, "each range once: {owners:?}");
    assert!(owners.iter().all(|it| !it.is_empty()));
}

#[test]
fn bad_input_has_its_answer_and_everything_else_counts() {
    let settings = world::settings(1000, 0);
    let mut planner = Planner::new(settings.clone());
    let mut engine = driver::start(&settings, 1).unwrap();
    let mut world = World::new(1);
    world.settings = settings.clone();

    let query = |key: Vec<u8>, time| QueryLogged {
        time: Millis(time),
        key: Key(key),
        op: Op::Read,
        cost_us: Some(100),
        bytes: 1,
        estimated: false,
    };
    let now = FIRST * 1000;
    // The longest key of the index counts.
    let longest = query(vec![5; KEY_BYTES_MAX], now);
    let long = vec![longest, query(vec![9; KEY_BYTES_TOO_MANY], now)];
    let late = vec![query(vec![6], now - 3 * 3_600_000)];
    let report = |node: &str, store: &str, capacity| NodeCapacity {
        node_id: NodeId(node.into()),
        store_id: store.into(),
        capacity_us_per_s: Some(capacity),
        ..world.any_report()
    };
    let unknown = MigrationStatus { migration: MigrationId(77), ..world.any_status() };
    let (log, capacity, status) =
        (QueriesLogged::TOPIC, NodeCapacity::TOPIC, MigrationStatus::TOPIC);
    let foreign = [&[0xc3, 1][..], &[7; 8], &[1, 2]].concat();
    let rows: Vec<(&'static str, Vec<u8>, Option<&str>)> = vec![
        (log, encode(&QueriesLogged { queries: long }), Some("key_too_long")),
        (log, b"not avro".to_vec(), Some("not_single_object")),
        (log, foreign.clone(), Some("unknown_schema")),
        (log, encode(&QueriesLogged { queries: late }), None),
        (capacity, encode(&report("a", "1", f64::NAN)), Some("capacity_not_a_capacity")),
        (capacity, encode(&report("a", "1", -1.0)), Some("capacity_not_a_capacity")),
        (capacity, encode(&report("a", "1", 5000.0)), None),
        (capacity, encode(&report("a", "2", 5000.0)), Some("duplicate_node_id")),
        (capacity, foreign.clone(), Some("unknown_schema")),
        (capacity, b"not avro".to_vec(), Some("not_single_object")),
        (status, encode(&unknown), None),
        (status, foreign, Some("unknown_schema")),
    ];
    let record = |(i, (topic, value, _)): (usize, &(&'static str, Vec<u8>, Option<&str>))| Record {
        headers: Vec::new(),
        at: TopicPartition { topic, partition: 0 },
        offset: 100 + i as u64,
        stamp: Millis(now),
        key: None,
        value: Some(value.clone()),
    };
    let mut recorded = Recorded {
        bounds: TickBox { stale: false, from_future: BTreeSet::new(), ..world.next_box().bounds },
        records: rows.iter().enumerate().map(record).collect(),
        from_future: Vec::new(),
    };
    let future = Record { offset: 99, ..recorded.records[3].clone() };
    recorded.from_future.push(future.clone());
    let outputs = world::tick(&mut planner, &mut engine, recorded.fill());

    let mut expected: Vec<_> = rows
        .iter()
        .enumerate()
        .filter_map(|(i, it)| Some((it.0, 100 + i, it.2?, it.1.clone())))
        .chain([(log, 99, "from_future", future.value.unwrap())])
        .map(|(topic, offset, reason, value)| {
            (topic.to_owned(), offset.to_string(), reason.to_owned(), value)
        })
        .collect();
    expected.sort();
    let header = |it: &Output, name: &str| {
        let found = it.headers.iter().find(|it| it.0 == name).unwrap();
        String::from_utf8(found.1.clone()).unwrap()
    };
    let dead = outputs.outputs.iter().filter(|it| it.topic == dead_letter::TOPIC);
    let letter = |it: &Output| {
        assert_eq!(header(it, dead_letter::HEADER_PARTITION), "0");
        assert!(!header(it, dead_letter::HEADER_DETAIL).is_empty());
        let [topic, offset, reason] =
            [dead_letter::HEADER_TOPIC, dead_letter::HEADER_OFFSET, dead_letter::HEADER_REASON]
                .map(|name| header(it, name));
        (topic, offset, reason, it.value.clone().unwrap())
    };
    let mut dead: Vec<_> = dead.map(letter).collect();
    dead.sort();
    assert_eq!(dead, expected);
    let done = &outputs.done;
    assert_eq!((done.dead, done.queries, done.late), (expected.len() as u64, 2, 1));
    assert_eq!(planner.state().migrations.ignored()[&Ignored::UnknownMigration], 1);
    assert_eq!(planner.state().fleet.refused().values().sum::<u64>(), 3);
    let cost = planner.state().range_heat.values().map(|it| it.one().cost_us()).sum::<i64>();
    assert_eq!(cost, 200);
    assert!(planner.nodes()[&NodeId("a".into())].takes, "the good report stands");
}
