//! What a planner process does with input that it cannot use, on a real Kafka.

use std::collections::BTreeMap;

use isotherm::kafka::writer::Writer;
use isotherm::kafka::{Output, Record};
use isotherm::table::rows::KEY_BYTES_MAX;
use schemas::migration_status::{MigrationStatus, Status};
use schemas::node_capacity::{NodeCapacity, NodeState};
use schemas::query_log::{Op, QueriesLogged, QueryLogged};
use schemas::wire::{Record as _, encode};
use schemas::{Epoch, Inbox, Key, MigrationId, Millis, NodeId, dead_letter};

use crate::killed::check_replay;
use crate::world::{Nodes, World, await_that, now_ms};

const HOURS_MS: u64 = 3 * 3_600_000;

#[test]
fn bad_input_goes_to_dead_letter_is_counted_and_stops_nothing() {
    let Some(world) = World::create("bad", &[]) else { return };
    let nodes = Nodes::start(&world.connection);
    let mut planner = world.planner("bad", None);
    await_that("a tick", || world.last_tick());
    let writer = Writer::open(&world.connection, "bad").unwrap();
    for (topic, value) in bad() {
        writer.send(&Output::new(topic, b"bad".to_vec(), value)).unwrap();
    }
    writer.flush().unwrap();

    let counts = "[+] input: not used so far: 2 capacity_not_a_capacity, 1 duplicate_node_id, \
                  1 key_too_long, 2 not_single_object, 3 unknown_schema, 1 status_unknown_migration; ";
    planner.await_told(200, counts);
    let late: u64 = world.ticks().iter().map(|it| it.late).sum();
    assert!(3 <= late, "{late} queries came late");
    let last = world.last_tick().unwrap();
    planner.await_tick(&world, last + 20);
    planner.signal("-TERM");
    assert!(planner.ended().success());
    drop(nodes);
    check_letters(&world);
    check_replay(&world, None);
}

/// Each is answered in another way.
fn bad() -> Vec<(&'static str, Vec<u8>)> {
    let query = |key: Vec<u8>, ago_ms: u64| QueryLogged {
        time: Millis(now_ms() - ago_ms),
        key: Key(key),
        op: Op::Read,
        cost_us: Some(1),
        bytes: 1,
        estimated: false,
    };
    let queries = |queries| encode(&QueriesLogged { queries });
    let late = (0..3).map(|i| query(vec![i], HOURS_MS)).collect();
    let foreign = [&[0xc3, 1][..], &[7; 8], &[1, 2]].concat();
    let status = MigrationStatus {
        migration: MigrationId(77),
        range_start: Key(vec![1]),
        range_end: Key(vec![2]),
        teller: NodeId("n1".into()),
        status: Status::Complete,
        phase: None,
        reason: None,
        epoch: Epoch(1),
        attempt: 1,
        bytes: 0,
        digest: None,
        partitions_left: Vec::new(),
    };
    let (log, capacity, migration) =
        (QueriesLogged::TOPIC, NodeCapacity::TOPIC, MigrationStatus::TOPIC);
    vec![
        (log, b"no record".to_vec()),
        (log, foreign.clone()),
        (log, queries(vec![query(vec![9; KEY_BYTES_MAX + 1], 0)])),
        (log, queries(late)),
        (capacity, encode(&report("bad", f64::NAN))),
        (capacity, encode(&report("bad", -1.0))),
        // A second store under the name of a node that reports.
        (capacity, encode(&report("n0", 9e9))),
        (capacity, foreign.clone()),
        (migration, foreign),
        (migration, b"no record".to_vec()),
        (migration, encode(&status)),
    ]
}

fn report(node: &str, capacity_us_per_s: f64) -> NodeCapacity {
    NodeCapacity {
        node_id: NodeId(node.into()),
        store_id: "another".into(),
        cpu_load: None,
        memory_load: None,
        io_load: None,
        capacity_us_per_s: Some(capacity_us_per_s),
        memory_bytes_total: None,
        memory_bytes_used: None,
        disk_bytes_total: None,
        disk_bytes_used: None,
        endpoint: None,
        inbox: Inbox(0),
        state: NodeState::Up,
        ranges: Vec::new(),
    }
}

/// Every letter has the bytes of the record that it names.
fn check_letters(world: &World) {
    let letters = world.records(dead_letter::TOPIC);
    let mut records = BTreeMap::new();
    for topic in [QueriesLogged::TOPIC, NodeCapacity::TOPIC, MigrationStatus::TOPIC] {
        let place = |it: Record| ((topic.to_owned(), it.at.partition, it.offset), it.value);
        records.extend(world.records(topic).into_iter().map(place));
    }
    assert_eq!(letters.len(), 9);
    for it in letters {
        let header = |name| String::from_utf8(it.header(name).unwrap().to_vec()).unwrap();
        let number = |name| header(name).parse::<u64>().unwrap();
        let partition = number(dead_letter::HEADER_PARTITION) as u32;
        let place =
            (header(dead_letter::HEADER_TOPIC), partition, number(dead_letter::HEADER_OFFSET));
        assert_eq!(it.value, records[&place], "{place:?}");
        assert!(!header(dead_letter::HEADER_REASON).is_empty());
    }
}
