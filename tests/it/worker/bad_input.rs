//! What workers are told that they cannot use: each has its answer, and everything else goes on.

use isotherm::table::rows::{KEY_BYTES_MAX, PAYLOAD_BYTES_MAX};
use isotherm::transfer::segment::{Content, StreamId, seal};
use schemas::index_update::{EntryUpdate, IndexUpdate, Watermark};
use schemas::range_segment::Floor;
use schemas::segment_ack::SegmentAck;

use super::*;

/// Of another program's records.
const FOREIGN: &[u8] = &[0xc3, 1, 7, 7, 7, 7, 7, 7, 7, 7, 1, 2];

#[test]
fn records_that_cannot_be_used_are_told_with_reason_and_origin_and_stop_nothing() {
    let Some(mut play) = Play::create("worker-bad") else { return };
    play.write_bytes("table", "broken row", b"what?".to_vec());
    play.rows += 1;
    play.rows(keys());
    let [a, b, _channel] = play.begin();

    let dead = dead();
    for (topic, key, value, _) in &dead {
        play.write_bytes(topic, key, value.clone());
    }
    // Of a migration that nobody knows, and a command of an older epoch.
    let of_none = Move { id: 77, span: ("m", ""), from: ("b", 0), to: "a" };
    play.start_move(&of_none);
    let failed = play.await_end(77, Status::Failed);
    assert_eq!(failed.reason.as_deref(), Some("the range is not as the command has it"));
    let stream = StreamId { migration: MigrationId(99), number: 1 };
    play.write("a", &seal(stream, 0, Content::Open([(0, 0)].into())));
    play.write("a", &ack(99));
    let known = MigrationStatus { migration: MigrationId(99), ..failed };
    play.write("99", &known);
    play.write("a", &IndexUpdate { generation: Generation(1), entry: None, watermark: None });

    let counts = [
        ("not_single_object", 6),
        ("unknown_schema", 5),
        ("malformed", 1),
        ("key_too_long", 3),
        ("payload_too_long", 2),
        ("no_such_generation", 3),
        ("unknown_migration", 2),
        ("command_stale", 1),
        ("update_malformed", 1),
    ];
    play.await_counts(&a, &counts);
    for (topic, _, value, reason) in &dead {
        let written = play.world.records(topic);
        let is_of_it = |(of, offset, why, letter): &(String, u64, String, Record)| {
            let value = Some(value.as_slice());
            let is_there = |it: &Record| it.offset == *offset && it.value.as_deref() == value;
            let is_told = of == topic && why == reason && letter.value.as_deref() == value;
            is_told && written.iter().any(is_there)
        };
        await_that(&format!("a letter of {topic}, {reason}"), || {
            play.letters().iter().any(is_of_it).then_some(())
        });
    }

    // All goes on: reads, changes of rows, moves both ways.
    assert_eq!(play.await_read(&a, "c1", 1), "of c1");
    play.rows(["c9".to_owned()]);
    assert_eq!(play.await_read(&a, "c9", 1), "of c9");
    play.moves(&Move { id: 11, span: ("", "m"), from: ("a", 1), to: "b" });
    play.moves(&Move { id: 12, span: ("m", ""), from: ("b", 1), to: "a" });
    assert_eq!(play.await_read(&b, "c9", 2), "of c9");
    assert_eq!(play.await_read(&a, "z1", 2), "of z1");
    play.check_verified();
    for mut it in [a, b] {
        assert!(!it.has_ended());
        it.signal("-TERM");
        assert!(it.ended().success());
    }
}

/// More than a page of what is held, so that a page begins behind the longest keys.
#[test]
fn rows_of_the_greatest_size_are_served_moved_and_verified() {
    let Some(mut play) = Play::create("worker-large") else { return };
    let long = |n: u8| vec![b'b' + n; KEY_BYTES_MAX];
    for n in 0..12 {
        let payload = Some(vec![b'x'; PAYLOAD_BYTES_MAX]);
        let row = RowChanged { before: None, after: Some(Key(long(n))), payload };
        play.writer.send(&Output::new("table", long(n), encode(&row))).unwrap();
    }
    play.writer.flush().unwrap();
    play.rows(["a".to_owned()]);
    let [_a, b, _channel] = play.begin();
    play.moves(&Move { id: 11, span: ("", "m"), from: ("a", 1), to: "b" });
    let key = String::from_utf8(long(3)).unwrap();
    assert_eq!(play.await_read(&b, &key, 2).len(), PAYLOAD_BYTES_MAX);
    play.check_verified();
}

/// What comes to `dead_letter`, by topic, with the key of the record, and the reason.
fn dead() -> Vec<(&'static str, &'static str, Vec<u8>, &'static str)> {
    let stream = StreamId { migration: MigrationId(99), number: 1 };
    let segment = |it: Entry| encode(&seal(stream, 1, Content::Data(vec![it])));
    let update = |it: Entry| {
        let entry = Some(EntryUpdate { entry: it, hops: 0 });
        encode(&IndexUpdate { generation: Generation(1), entry, watermark: None })
    };
    let entry = |key: usize, primary: usize, payload: usize| Entry {
        index_key: Key(vec![b'k'; key]),
        primary_key: Key(vec![b'p'; primary]),
        partition: 0,
        offset: 1 << 40,
        payload: Some(vec![b'x'; payload]),
    };
    let long = KEY_BYTES_MAX + 1;
    let mut cut = segment(entry(5, 5, 100));
    cut.truncate(cut.len() - 20);
    let floors = vec![Floor { partition: 0, offset: 1 }];
    let watermark = Some(Watermark { floors, via: None });
    let of_never = IndexUpdate { generation: Generation(1 << 40), entry: None, watermark };
    let mut command =
        Move { id: 98, span: ("m", ""), from: ("b", 1), to: "a" }.command(Verb::Start, 1 << 40);
    command.plan = Some("of a generation that never was".into());
    let request = SegmentAck { generation: Generation(1 << 40), ..ack(98) };
    let what = || b"what?".to_vec();
    let foreign = || FOREIGN.to_vec();
    vec![
        ("assignment", "x", what(), "not_single_object"),
        ("migrate_range", "a", what(), "not_single_object"),
        ("migrate_range", "a", foreign(), "unknown_schema"),
        ("migrate_range", "a", encode(&command), "no_such_generation"),
        ("migration_status", "1", what(), "not_single_object"),
        ("migration_status", "1", foreign(), "unknown_schema"),
        ("segment_ack", "a", what(), "not_single_object"),
        ("segment_ack", "a", foreign(), "unknown_schema"),
        ("segment_ack", "a", encode(&request), "no_such_generation"),
        ("range_segment", "a", what(), "not_single_object"),
        ("range_segment", "a", foreign(), "unknown_schema"),
        ("range_segment", "a", cut, "malformed"),
        ("range_segment", "a", segment(entry(long, 1, 1)), "key_too_long"),
        ("range_segment", "a", segment(entry(1, 1, PAYLOAD_BYTES_MAX + 1)), "payload_too_long"),
        ("index_update", "a", foreign(), "unknown_schema"),
        ("index_update", "a", update(entry(long, 1, 1)), "key_too_long"),
        ("index_update", "a", update(entry(1, long, 1)), "key_too_long"),
        ("index_update", "a", update(entry(1, 1, PAYLOAD_BYTES_MAX + 1)), "payload_too_long"),
        ("index_update", "a", encode(&of_never), "no_such_generation"),
        ("table", "broken row", what(), "not_single_object"),
    ]
}

fn ack(id: u64) -> SegmentAck {
    SegmentAck {
        migration: MigrationId(id),
        generation: Generation(1),
        stream: 1,
        next_seq: 0,
        credit_bytes: 1 << 20,
        range_start: Key(b"m".to_vec()),
        range_end: Key(Vec::new()),
        source_epoch: Epoch(1),
        destination_inbox: Inbox(0),
        bandwidth_bytes_per_s: 1 << 20,
        done: false,
    }
}
