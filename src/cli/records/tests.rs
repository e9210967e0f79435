use expect_test::{Expect, expect};
use schemas::index_update::{EntryUpdate, Watermark};
use schemas::node_capacity::{NodeState, RangeHeld};
use schemas::planner_progress::{LinearWeights, Refitted, SnapshotChunk, Span, TickDone};
use schemas::query_log::{Op, QueryLogged};
use schemas::range_segment::{Floor, Kind};
use schemas::{
    Epoch, Generation, Inbox, Key, MigrationId, Millis, NodeId, heatmap, migrate_range,
    migration_status, operator_command,
};

use super::*;

fn check(record: &impl Line, line: Expect) {
    line.assert_eq(&record.line(KeyFormat::Auto));
}

fn key(text: &str) -> Key {
    Key(text.into())
}

fn node(text: &str) -> NodeId {
    NodeId(text.into())
}

#[test]
fn queries_and_capacities() {
    let query = |op, cost_us| QueryLogged {
        time: Millis(1_790_000_585_000),
        key: key("k1"),
        op,
        cost_us,
        bytes: 10,
        estimated: false,
    };
    let queries = vec![query(Op::Scan, Some(120)), query(Op::Read, None)];
    check(
        &QueriesLogged { queries },
        expect!["2 queries, 120 µs, the first SCAN k1 at 2026-09-21 14:23:05"],
    );
    let held = RangeHeld { range_start: key("a"), epoch: Epoch(3), entries: 2, bytes: 2_000_000 };
    let capacity = NodeCapacity {
        node_id: node("n1"),
        store_id: "3f9c2d1e77".into(),
        cpu_load: Some(0.615),
        memory_load: None,
        io_load: Some(0.0),
        capacity_us_per_s: Some(2e6),
        memory_bytes_total: None,
        memory_bytes_used: None,
        disk_bytes_total: None,
        disk_bytes_used: None,
        endpoint: None,
        inbox: Inbox(3),
        state: NodeState::ReadOnly,
        ranges: vec![held],
    };
    check(
        &capacity,
        expect![
            "n1 READ_ONLY capacity 2000000 µs/s, cpu/memory/io 0.61/?/0.00, 1 ranges of 2.0 MB, inbox 3, store 3f9c2d1e…"
        ],
    );
}

#[test]
fn heat_and_progress() {
    let op = |now: u64| OpHeat {
        now: vec![now, 1, 2, 3],
        forecast: heatmap::Forecast {
            mean30: (1..=8).map(|it| it * now).collect(),
            ..Default::default()
        },
    };
    let heated = RangeHeated {
        range_start: key("a"),
        range_end: key(""),
        node: node("n2"),
        tick: 41,
        reads: op(100),
        writes: op(7),
        share_ppm: 250_000,
        unsplittable_ppm: 0,
        rung: "ewma".into(),
        skill_permille: Some(-40),
        coverage80_permille: Some(801),
    };
    check(
        &heated,
        expect![
            "tick 41 [a, -) on n2: reads 100 writes 7 µs/s, mean-30 428 (.9: 642), 25.0 % of the load, ewma"
        ],
    );
    let span = |from, to| Span { topic: "query_log".into(), partition: 0, from, to };
    let done = TickDone {
        tick: 41,
        tick_ms: 5_000,
        spans: vec![span(3, 10), span(0, 5)],
        queries: 700,
        late: 2,
        rung: "ewma".into(),
        overload_ms: 1_250,
        stale: true,
        ..Default::default()
    };
    check(
        &Progress { tick: Some(done.clone()), chunk: None },
        expect![
            "tick 41 of 5000 ms: 2 partitions, 12 offsets, 700 queries, 2 late, 0 dead, ewma, overload .25 of a node, stale"
        ],
    );
    let refit = |weights| Some(Refitted { begun: 36, weights });
    let fitted = TickDone { refit: refit(Some(LinearWeights::default())), ..done.clone() };
    check(
        &Progress { tick: Some(fitted), chunk: None },
        expect![
            "tick 41 of 5000 ms: 2 partitions, 12 offsets, 700 queries, 2 late, 0 dead, ewma, overload .25 of a node, linear model fitted anew as of tick 36, stale"
        ],
    );
    let missed = TickDone { refit: refit(None), ..done };
    check(
        &Progress { tick: Some(missed), chunk: None },
        expect![
            "tick 41 of 5000 ms: 2 partitions, 12 offsets, 700 queries, 2 late, 0 dead, ewma, overload .25 of a node, the fit of tick 36 missed, stale"
        ],
    );
    let chunk = SnapshotChunk {
        tick: 40,
        index: 1,
        count: 3,
        digest: "ab".into(),
        bytes: vec![0; 5_000],
        format: 1,
    };
    let chunk = Progress { tick: None, chunk: Some(chunk) };
    check(&chunk, expect!["snapshot of tick 40: chunk 2 of 3, 5.0 kB, digest ab"]);
    assert!(json(&chunk, KeyFormat::Auto).contains(r#""bytes":"<5000 bytes>""#));
}

#[test]
fn commands_statuses_and_assignments() {
    let start = MigrateRange {
        command: migrate_range::Command::Start,
        migration: MigrationId(31),
        range_start: key("a"),
        range_end: Key(vec![0, 255]),
        source_node: node("n2"),
        source_epoch: Epoch(4),
        source_inbox: Inbox(1),
        destination_node: node("n4"),
        destination_inbox: Inbox(2),
        generation: Generation(12),
        bandwidth_bytes_per_s: 50_000_000,
        deadline: Millis(1_790_000_585_000),
        plan: Some("p-7".into()),
        reason: None,
    };
    check(
        &start,
        expect![
            "m-31 START [a, 0x00ff) n2 → n4 of epoch 4, generation 12, until 2026-09-21 14:23:05"
        ],
    );
    expect![[r#"{"command":"START","migration":31,"range_start":"61","range_end":"00ff","source_node":"n2","source_epoch":4,"source_inbox":1,"destination_node":"n4","destination_inbox":2,"generation":12,"bandwidth_bytes_per_s":50000000,"deadline":1790000585000,"plan":"p-7","reason":null}"#]].assert_eq(&json(&start, KeyFormat::Hex));
    let status = MigrationStatus {
        migration: MigrationId(31),
        range_start: key("a"),
        range_end: key("b"),
        teller: node("n4"),
        status: migration_status::Status::InProgress,
        phase: Some(migration_status::Phase::Active),
        reason: None,
        epoch: Epoch(5),
        attempt: 1,
        bytes: 1_500_000,
        digest: None,
        partitions_left: vec![0, 3],
    };
    check(
        &status,
        expect![
            "m-31 IN_PROGRESS ACTIVE by n4 [a, b) epoch 5, attempt 1, 1.5 MB, 2 partitions to drain"
        ],
    );
    let assignment = Assignment {
        range_start: key(""),
        range_end: key("b"),
        node: node("n4"),
        inbox: Inbox(2),
        epoch: Epoch(5),
        generation: Generation(13),
        last: true,
        migration: Some(MigrationId(31)),
        source: Source::Node,
        source_node: Some(node("n2")),
        source_epoch: Epoch(4),
    };
    check(
        &assignment,
        expect![
            "[-, b) on n4 epoch 5 generation 13, from n2 (epoch 4), m-31, the last of its generation"
        ],
    );
    let command = OperatorCommand {
        node: Some(node("n2")),
        ..OperatorCommand::new(
            "c-1".into(),
            operator_command::Command::Drain,
            "kim".into(),
            "new disk".into(),
        )
    };
    check(&command, expect!["c-1 DRAIN n2 by kim: new disk"]);
    let command = OperatorCommand {
        id: "rebuild-channel-3-1790000585000".into(),
        command: operator_command::Command::Rebuild,
        actor: "channel channel".into(),
        reason: "partition 3 of the table was not read to its end for 9 d".into(),
        node: None,
        built_before: Some(Millis(1_790_000_585_000)),
        ..command
    };
    check(
        &command,
        expect![
            "rebuild-channel-3-1790000585000 REBUILD built before 2026-09-21 14:23:05 by channel channel: partition 3 of the table was not read to its end for 9 d"
        ],
    );
}

#[test]
fn bulk_records() {
    let entry = Entry {
        index_key: key("i"),
        primary_key: key("p"),
        partition: 2,
        offset: 77,
        payload: None,
    };
    let segment = RangeSegment {
        migration: MigrationId(31),
        stream: 1,
        seq: 4,
        crc32c: 0,
        kind: Kind::Data,
        floors: Vec::new(),
        entries: vec![entry.clone()],
        live_digest: 0,
        tombstone_digest: 0,
        count: 0,
        generation: Generation(0),
        reason: None,
    };
    check(&segment, expect!["m-31 stream 1 segment 4 DATA, 1 entries, 0 floors, count 0"]);
    let ack = SegmentAck {
        migration: MigrationId(31),
        generation: Generation(12),
        stream: 1,
        next_seq: 5,
        credit_bytes: 4_000_000,
        range_start: key("a"),
        range_end: key("b"),
        source_epoch: Epoch(4),
        destination_inbox: Inbox(2),
        bandwidth_bytes_per_s: 1,
        done: true,
    };
    check(&ack, expect!["m-31 stream 1 next segment 5 [a, b) generation 12, credit 4.0 MB, done"]);
    let row = RowChanged { before: None, after: Some(key("b")), payload: Some(vec![0; 12]) };
    check(&row, expect!["none → b, 12 B"]);
    let entry = IndexUpdate {
        generation: Generation(12),
        entry: Some(EntryUpdate { entry, hops: 1 }),
        watermark: None,
    };
    check(&entry, expect!["entry i of p at 2:77, deleted, 1 hops, generation 12"]);
    let floors = vec![Floor { partition: 0, offset: 9 }, Floor { partition: 2, offset: 7 }];
    let watermark = Watermark { floors, via: Some(node("n2")) };
    let watermark =
        IndexUpdate { generation: Generation(12), entry: None, watermark: Some(watermark) };
    check(&watermark, expect!["watermark 0:9 2:7 via n2, generation 12"]);
}
