//! Holds our bytes equal to those of another Avro implementation, which wrote `tests/golden/*.bin`.
//!
//! With `ISOTHERM_GOLDEN_OUT=DIR` what is encoded here is written there, for `golden.py --check`.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::fs;
use std::path::Path;

use schemas::assignment::{self, Assignment};
use schemas::heatmap::{Forecast, OpHeat, RangeHeated};
use schemas::index_update::{EntryUpdate, IndexUpdate, Watermark};
use schemas::migrate_range::{self, MigrateRange};
use schemas::migration_status::{MigrationStatus, Phase, Status};
use schemas::node_capacity::{NodeCapacity, NodeState, RangeHeld};
use schemas::operator_command::{self, OperatorCommand};
use schemas::plan::{
    CommandAnswered, HeatCited, JoinChosen, MoveChosen, NodePressed, Planned, RebuildChosen,
    Rejected, SplitChosen,
};
use schemas::planner_progress::{
    LinearWeights, Progress, RecordAt, Refitted, SnapshotChunk, Span, TickDone, TotalForecast,
};
use schemas::query_log::{Op, QueriesLogged, QueryLogged};
use schemas::range_segment::{Entry, Floor, Kind, RangeSegment};
use schemas::segment_ack::SegmentAck;
use schemas::table::RowChanged;
use schemas::wire::{Record, decode, encode};
use schemas::{Epoch, Generation, Inbox, Key, MigrationId, Millis, NodeId};

/// Decodes what the other implementation wrote, and encodes the same bytes.
fn check<R: Record + Debug + PartialEq>(expected: &[R]) {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden");
    let out = std::env::var_os("ISOTHERM_GOLDEN_OUT");
    let mut names = BTreeSet::new();
    for (number, expected) in expected.iter().enumerate() {
        let name = format!("{}.{number}.bin", R::TOPIC);
        let value = fs::read(golden.join(&name)).unwrap();
        assert_eq!(&decode::<R>(&value).unwrap(), expected, "{name}");
        let encoded = encode(expected);
        assert_eq!(encoded, value, "{name}");
        if let Some(out) = &out {
            fs::create_dir_all(out).unwrap();
            fs::write(Path::new(out).join(&name), &encoded).unwrap();
        }
        names.insert(name);
    }
    let written = fs::read_dir(&golden).unwrap().map(|it| it.unwrap().file_name());
    let written = written.map(|it| it.into_string().unwrap()).filter(|it| {
        it.strip_prefix(R::TOPIC).is_some_and(|it| it.starts_with('.') && it.ends_with(".bin"))
    });
    assert_eq!(written.collect::<BTreeSet<_>>(), names);
}

#[test]
fn query_log() {
    let query = |time, key: &[u8], op, cost_us, bytes, estimated| QueryLogged {
        time: Millis(time),
        key: Key(key.to_vec()),
        op,
        cost_us,
        bytes,
        estimated,
    };
    let queries = vec![
        query(1_767_225_600_123, b"\0k\xff", Op::Read, Some(250), 4096, false),
        query(0, b"", Op::Scan, None, 0, true),
        query(i64::MAX as u64, &[b'k'; 70], Op::Write, Some(0), 1, false),
        query(1, b"u", Op::Unknown, Some(1), 2, false),
    ];
    check(&[QueriesLogged { queries }, QueriesLogged::default()]);
}

#[test]
fn node_capacity() {
    let held = |key: &[u8], epoch, entries, bytes| RangeHeld {
        range_start: Key(key.to_vec()),
        epoch: Epoch(epoch),
        entries,
        bytes,
    };
    let known = NodeCapacity {
        node_id: node("n1"),
        store_id: "s-7f".to_owned(),
        cpu_load: Some(0.25),
        memory_load: Some(0.5),
        io_load: Some(1.0),
        capacity_us_per_s: Some(4e6),
        memory_bytes_total: Some(16 << 30),
        memory_bytes_used: Some(8 << 30),
        disk_bytes_total: Some(1 << 40),
        disk_bytes_used: Some(1),
        endpoint: Some("10.0.0.1:8080".to_owned()),
        inbox: Inbox(15),
        state: NodeState::ReadOnly,
        ranges: vec![held(b"", 1, 10, 10240), held(b"\0k\xff", 2, 0, 0)],
    };
    let unknown = NodeCapacity {
        node_id: node("nü"),
        store_id: String::new(),
        cpu_load: None,
        memory_load: None,
        io_load: None,
        capacity_us_per_s: None,
        memory_bytes_total: None,
        memory_bytes_used: None,
        disk_bytes_total: None,
        disk_bytes_used: None,
        endpoint: None,
        inbox: Inbox(0),
        state: NodeState::Up,
        ranges: vec![],
    };
    check(&[known, unknown]);
}

#[test]
fn heatmap() {
    check(&[RangeHeated {
        range_start: key("a"),
        range_end: key(""),
        node: node("n1"),
        tick: 353_445_120,
        reads: OpHeat { now: vec![1, 2, 3, 1_000_000_000_000], forecast: forecast(100) },
        writes: OpHeat { now: vec![0; 4], forecast: forecast(0) },
        share_ppm: 250_000,
        unsplittable_ppm: 1_000_000,
        rung: "ewma".to_owned(),
        skill_permille: Some(-12),
        coverage80_permille: Some(801),
    }]);
}

#[test]
fn plan() {
    check(&[Planned {
        plan: "p-353445120".to_owned(),
        tick: 353_445_120,
        tick_start_ms: 1_767_225_600_000,
        tick_ms: 5000,
        mode: "auto".to_owned(),
        inputs_digest: "aa".to_owned(),
        policy_digest: "bb".to_owned(),
        digest: "cc".to_owned(),
        why: nodes_pressed(),
        moves: moves(),
        splits: vec![SplitChosen {
            range_start: key("a"),
            range_end: key("z"),
            node: node("n1"),
            at: vec![key("g"), key("m")],
            reason: "hot".to_owned(),
        }],
        joins: vec![JoinChosen {
            range_start: key("q"),
            range_end: key(""),
            node: node("n3"),
            at: vec![key("r")],
            reason: "cold".to_owned(),
        }],
        rejected: vec![
            Rejected {
                range_start: key("c"),
                range_end: key("d"),
                source: node("n1"),
                destination: Some(node("n4")),
                reason: "not_worth_it".to_owned(),
                value: -5,
                limit: 500,
            },
            Rejected {
                range_start: key("d"),
                range_end: key("e"),
                source: node("n1"),
                destination: None,
                reason: "cooling_down".to_owned(),
                value: 3,
                limit: 12,
            },
        ],
        rests_on: vec![HeatCited {
            range_start: key("a"),
            tick: 353_445_119,
            reads: forecast(100),
            writes: forecast(0),
        }],
        unsplittable_ppm: 42,
        rung: "linear".to_owned(),
        skill_permille: Some(310),
        coverage80_permille: Some(795),
        commands: commands(),
        rebuilds: vec![RebuildChosen {
            migration: MigrationId(9),
            range_start: key("m"),
            range_end: key(""),
            node: node("n3"),
        }],
    }]);
}

fn commands() -> Vec<CommandAnswered> {
    let done = CommandAnswered {
        command: "c-1".to_owned(),
        verb: "MOVE".to_owned(),
        actor: "ops@nü".to_owned(),
        reason: "make room".to_owned(),
        migration: Some(MigrationId(7)),
        refused: None,
        detail: String::new(),
    };
    let refused = CommandAnswered {
        command: "c-2".to_owned(),
        verb: "DRAIN".to_owned(),
        actor: "ops".to_owned(),
        reason: String::new(),
        migration: None,
        refused: Some("not_supported".to_owned()),
        detail: "DRAIN is not supported yet".to_owned(),
    };
    vec![done, refused]
}

fn nodes_pressed() -> Vec<NodePressed> {
    let warm = NodePressed {
        node: node("n1"),
        capacity_us_per_s: 4_000_000,
        load_now: 3_900_000,
        mean30_q50: 3_950_000,
        mean30_q90: 4_100_000,
        max30_q95: 4_500_000,
        area_ms: 12_345,
        ticks_until: Some(0),
    };
    let idle = NodePressed {
        node: node("n2"),
        capacity_us_per_s: 1,
        load_now: 0,
        mean30_q50: 0,
        mean30_q90: 0,
        max30_q95: 0,
        area_ms: 0,
        ticks_until: None,
    };
    vec![warm, idle]
}

fn moves() -> Vec<MoveChosen> {
    let by_heat = MoveChosen {
        migration: Some(MigrationId(7)),
        range_start: key("a"),
        range_end: key("m"),
        source: node("n1"),
        destination: node("n2"),
        bytes: 1 << 20,
        share_ppm: 125_000,
        benefit_ms: 9000,
        cost_ms: 100,
        source_before: 1025,
        source_after: 700,
        destination_before: 300,
        destination_after: 625,
        reason: "heat".to_owned(),
    };
    let by_drain = MoveChosen {
        migration: None,
        range_start: key("m"),
        range_end: key(""),
        source: node("n1"),
        destination: node("n3"),
        bytes: 0,
        share_ppm: 0,
        benefit_ms: 0,
        cost_ms: 0,
        source_before: 0,
        source_after: 0,
        destination_before: 0,
        destination_after: 0,
        reason: "drain".to_owned(),
    };
    vec![by_heat, by_drain]
}

#[test]
fn migrate_range() {
    let start = MigrateRange {
        command: migrate_range::Command::Start,
        migration: MigrationId(7),
        range_start: key("a"),
        range_end: key("m"),
        source_node: node("n1"),
        source_epoch: Epoch(3),
        source_inbox: Inbox(1),
        destination_node: node("n2"),
        destination_inbox: Inbox(2),
        generation: Generation(12),
        bandwidth_bytes_per_s: 50_000_000,
        deadline: Millis(1_767_225_900_000),
        plan: Some("p-353445120".to_owned()),
        reason: None,
    };
    let cancel = MigrateRange {
        command: migrate_range::Command::Cancel,
        bandwidth_bytes_per_s: 0,
        deadline: Millis(0),
        plan: None,
        reason: Some("past the deadline".to_owned()),
        ..start.clone()
    };
    check(&[start, cancel]);
}

#[test]
fn migration_status() {
    let active = MigrationStatus {
        migration: MigrationId(7),
        range_start: key("a"),
        range_end: key("m"),
        teller: node("n2"),
        status: Status::InProgress,
        phase: Some(Phase::Active),
        reason: None,
        epoch: Epoch(4),
        attempt: 2,
        bytes: 1 << 20,
        digest: Some(0xfffe_0000_0000_0001),
        partitions_left: vec![0, 7],
    };
    let failed = MigrationStatus {
        migration: MigrationId(8),
        range_start: key(""),
        range_end: key(""),
        teller: node("planner"),
        status: Status::Failed,
        phase: None,
        reason: Some("past the deadline".to_owned()),
        epoch: Epoch(0),
        attempt: 0,
        bytes: 0,
        digest: None,
        partitions_left: vec![],
    };
    check(&[active, failed]);
}

#[test]
fn assignment() {
    let moved = Assignment {
        range_start: key("a"),
        range_end: key("m"),
        node: node("n2"),
        inbox: Inbox(2),
        epoch: Epoch(4),
        generation: Generation(13),
        last: true,
        migration: Some(MigrationId(7)),
        source: assignment::Source::Node,
        source_node: Some(node("n1")),
        source_epoch: Epoch(3),
    };
    let born = Assignment {
        range_start: key("m"),
        range_end: key(""),
        node: node("n1"),
        inbox: Inbox(1),
        epoch: Epoch(1),
        generation: Generation(1),
        last: false,
        migration: None,
        source: assignment::Source::Table,
        source_node: None,
        source_epoch: Epoch(0),
    };
    check(&[moved, born]);
}

#[test]
fn range_segment() {
    let floor = |partition, offset| Floor { partition, offset };
    let handover = RangeSegment {
        migration: MigrationId(7),
        stream: 2,
        seq: 0,
        crc32c: u32::MAX,
        kind: Kind::Handover,
        floors: vec![floor(0, 9_000_000_000), floor(1, 0)],
        entries: vec![],
        live_digest: u64::MAX - 1,
        tombstone_digest: 256,
        count: 2,
        generation: Generation(13),
        reason: None,
    };
    let tombstone = Entry {
        index_key: key(""),
        primary_key: key("43"),
        partition: 0,
        offset: 0,
        payload: None,
    };
    let data = RangeSegment {
        seq: 1,
        crc32c: 0,
        kind: Kind::Data,
        floors: vec![],
        entries: vec![entry(), tombstone],
        live_digest: 0,
        tombstone_digest: 0,
        count: 0,
        generation: Generation(0),
        reason: Some("backlog".to_owned()),
        ..handover.clone()
    };
    check(&[handover, data]);
}

#[test]
fn segment_ack() {
    check(&[SegmentAck {
        migration: MigrationId(7),
        generation: Generation(12),
        stream: 2,
        next_seq: 5,
        credit_bytes: 8 << 20,
        range_start: key("a"),
        range_end: key("m"),
        source_epoch: Epoch(3),
        destination_inbox: Inbox(2),
        bandwidth_bytes_per_s: 50_000_000,
        done: true,
    }]);
}

#[test]
fn table() {
    let moved = RowChanged {
        before: Some(key("red")),
        after: Some(key("blue")),
        payload: Some(vec![0, 1]),
    };
    check(&[moved, RowChanged { before: None, after: None, payload: None }]);
}

#[test]
fn index_update() {
    let generation = Generation(13);
    let entry = Some(EntryUpdate { entry: entry(), hops: 1 });
    let floors = vec![Floor { partition: 3, offset: 9_000_000_001 }];
    let watermark = Some(Watermark { floors, via: Some(node("n1")) });
    check(&[
        IndexUpdate { generation, entry, watermark: None },
        IndexUpdate { generation, entry: None, watermark },
    ]);
}

#[test]
fn operator_command() {
    let by_hand = OperatorCommand {
        id: "c1".to_owned(),
        command: operator_command::Command::Move,
        actor: "ada".to_owned(),
        reason: "load test".to_owned(),
        node: Some(node("n2")),
        range_start: Some(key("a")),
        range_end: Some(key("")),
        plan: None,
        digest: None,
        built_before: None,
        model: None,
    };
    let approval = OperatorCommand {
        id: "c2".to_owned(),
        command: operator_command::Command::Approve,
        actor: "bob".to_owned(),
        reason: "looks right".to_owned(),
        node: None,
        range_start: None,
        range_end: None,
        plan: Some("p-353445120".to_owned()),
        digest: Some("cc".to_owned()),
        built_before: None,
        model: None,
    };
    let rebuild = OperatorCommand {
        id: "c3".to_owned(),
        command: operator_command::Command::Rebuild,
        actor: "channel".to_owned(),
        reason: "was away".to_owned(),
        node: None,
        range_start: None,
        range_end: None,
        plan: None,
        digest: None,
        built_before: Some(Millis(1_767_225_600_000)),
        model: None,
    };
    let swap = OperatorCommand {
        id: "c4".to_owned(),
        command: operator_command::Command::SwapModel,
        actor: "ada".to_owned(),
        reason: "it loses less".to_owned(),
        built_before: None,
        model: Some(b"{}\n\x00\x7f".to_vec()),
        ..rebuild.clone()
    };
    check(&[by_hand, approval, rebuild, swap]);
}

#[test]
fn planner_progress() {
    let span =
        |topic: &str, partition, from, to| Span { topic: topic.to_owned(), partition, from, to };
    let tick = TickDone {
        tick: 353_445_120,
        tick_ms: 5000,
        grace_ms: 300,
        span_records_max: 100_000,
        spans: vec![span("node_capacity", 0, 0, 0), span("query_log", 7, 10, 9_000_000_000)],
        stale: true,
        from_future: vec![RecordAt { topic: "query_log".to_owned(), partition: 7, offset: 11 }],
        policy_digest: "bb".to_owned(),
        policy: Some("mode = \"auto\"".to_owned()),
        total: Some(TotalForecast { reads: forecast(100), writes: forecast(0) }),
        refit: Some(Refitted {
            begun: 353_445_115,
            weights: Some(LinearWeights { reads: vec![0.5, -1.25], writes: vec![] }),
        }),
        rung: "ewma".to_owned(),
        skill_permille: Some(250),
        coverage80_permille: None,
        processor: "x86_64".to_owned(),
        queries: 1000,
        late: 8,
        dead: 1,
        overload_ms: 12_345,
    };
    let chunk = SnapshotChunk {
        tick: 353_445_120,
        format: 1,
        index: 0,
        count: 3,
        digest: "dd".to_owned(),
        bytes: vec![0x28, 0xb5, 0x2f, 0xfd],
    };
    check(&[
        Progress { tick: Some(tick), chunk: None },
        Progress { tick: None, chunk: Some(chunk) },
    ]);
}

fn key(text: &str) -> Key {
    Key(text.as_bytes().to_vec())
}

fn node(name: &str) -> NodeId {
    NodeId(name.to_owned())
}

fn forecast(base: u64) -> Forecast {
    let row = |i: u64| (0..8).map(|j| base + 10 * i + j).collect();
    Forecast { h1: row(0), h6: row(1), h30: row(2), mean30: row(3), max30: row(4) }
}

fn entry() -> Entry {
    Entry {
        index_key: key("blue"),
        primary_key: key("42"),
        partition: 3,
        offset: 9_000_000_000,
        payload: Some(vec![0, 1]),
    }
}
