//! What a stream carries, and what becomes of one that breaks (R7 to R9).

use schemas::migration_status::Phase;

use super::*;

#[test]
fn r7_range_that_comes_back_begins_empty() {
    let mut it = filled();
    it.start(span("", "m"), "b");
    // Of the end a hears late: what it had is there still when the range comes back.
    it.hold("a", &[Source::Status(0)]);
    it.live(3);
    assert_eq!(it.roles("a"), ["[-, m) Leaving"]);
    it.row(2, None);
    it.live(3);
    let back = it.start(span("", "m"), "a");
    it.live(4);
    assert_eq!(it.ended.get(&back), Some(&Status::Complete), "{}", it.told());
    assert!(!has(&it, "a", "c", 0));
    it.check();
}

#[test]
fn r7_rebuild_begins_empty() {
    let mut it = filled();
    // The deletion did not come here, and compaction has taken it away.
    it.row(2, None);
    it.channel.next[0] += 1;
    let rows = it.table[0].iter().enumerate();
    let gone = rows.filter(|it| it.1.primary == 2).map(|it| (0, it.0)).collect::<Vec<_>>();
    it.compacted.extend(gone);
    it.assign(&[("", "m", "a", From::Table)]);
    it.live(2);
    it.check();
}

#[test]
fn r7_what_was_aside_goes_with_the_rest() {
    let mut it = World::new(&["a"]);
    it.assign(&[("", "", "a", From::Table)]);
    it.settle();
    it.update("a", 1, entry("d", 2, 50));
    it.settle();
    it.assign(&[("", "", "a", From::Table)]);
    it.settle();
    it.mark("a", 2, 0, None);
    it.settle();
    assert_eq!(it.roles("a"), ["[-, -) Active"], "{}", it.told());
    assert!(!has(&it, "a", "d", 50), "it was sent by a map before the scan's, which has it");
}

#[test]
fn r8_source_that_starts_again_opens_the_next_stream_from_zero() {
    let mut it = filled();
    it.hold("b", &[Source::Segment]);
    it.start(span("", "m"), "b");
    it.settle();
    it.crash(&node("a"), 0);
    it.settle();
    let opens: Vec<_> = it.segments("b").into_iter().filter(|it| it.kind == Kind::Open).collect();
    let numbers: Vec<_> = opens.iter().map(|it| (it.stream, it.seq)).collect();
    assert_eq!(numbers, [(1, 0), (2, 0)]);
    it.let_read("b");
    it.live(3);
    it.check();
}

#[test]
fn r8_equal_or_lower_request_opens_nothing() {
    let mut it = filled();
    it.hold("b", &[Source::Segment]);
    it.start(span("", "m"), "b");
    it.settle();
    let segments = it.segments("b").len();
    let ack = it.acks("a")[0].clone();
    it.inboxes.get_mut(&(node("a"), Source::Ack)).unwrap().push(Record::Ack(ack));
    it.settle();
    assert_eq!(it.segments("b").len(), segments);
}

#[test]
fn r8_request_is_repeated_while_no_segment_comes() {
    let mut it = filled();
    it.hold("a", &ALL);
    it.start(span("", "m"), "b");
    it.settle();
    for asked in 1..4 {
        assert_eq!(it.acks("a").len(), asked);
        it.tick(1_000);
        it.settle();
    }
}

/// Spoils what is under way to b, and looks for a move that is complete nevertheless, by a later stream.
fn check_spoiled(spoil: impl Fn(&mut Vec<Record>), reason: Ignored) {
    let mut it = filled();
    it.hold("b", &[Source::Segment]);
    let migration = it.start(span("", "m"), "b");
    it.settle();
    spoil(it.inboxes.get_mut(&(node("b"), Source::Segment)).unwrap());
    it.let_read("b");
    it.live(4);
    assert!(it.ignored("b", reason) > 0);
    assert_eq!(it.ended.get(&migration), Some(&Status::Complete), "{}", it.told());
    it.check();
}

#[test]
fn r8_broken_truncated_and_missing_segments_ask_for_the_next_stream() {
    let change = |at: usize, change: fn(&mut schemas::range_segment::RangeSegment)| {
        move |inbox: &mut Vec<Record>| {
            let Record::Segment(it) = &mut inbox[at] else { panic!("a segment") };
            change(it);
        }
    };
    check_spoiled(change(1, |it| it.crc32c ^= 1), Ignored::BrokenStream);
    check_spoiled(change(1, |it| it.entries.clear()), Ignored::BrokenStream);
    check_spoiled(change(0, |it| it.floors.clear()), Ignored::BrokenStream);
    check_spoiled(|inbox| _ = inbox.remove(1), Ignored::BrokenStream);
    check_spoiled(|inbox| inbox.swap(1, 2), Ignored::BrokenStream);
    check_spoiled(|inbox| inbox.push(inbox[1].clone()), Ignored::KnownSegment);
}

#[test]
fn r8_next_stream_keeps_what_is_aside() {
    let mut it = ready();
    it.let_read("b");
    it.deliver_map("b");
    it.update("b", 2, entry("c", 2, 90));
    it.deliver("b", &ALL);
    it.crash(&node("a"), usize::MAX);
    it.let_read("a");
    it.settle();
    assert!(it.segments("b").iter().any(|it| it.stream > 1));
    assert_eq!(it.roles("b"), ["[-, m) Active", "[m, -) Active"]);
    assert!(has(&it, "b", "c", 90));
}

#[test]
fn what_has_come_of_a_copy_is_said_each_second() {
    let mut it = filled();
    it.hold("b", &[Source::Segment]);
    let migration = it.start(span("", "m"), "b");
    it.settle();
    let inbox = it.inboxes.get_mut(&(node("b"), Source::Segment)).unwrap();
    // As it is, and then in parts of which each comes later.
    let Record::Segment(data) = inbox[1].clone() else { panic!("{:?}", inbox[1]) };
    inbox.truncate(1);
    let stream = StreamId { migration, number: 1 };
    let parts = data.entries.iter().cycle().take(4).zip(1..);
    let part = |(entry, seq): (&Entry, u64)| seal(stream, seq, Content::Data(vec![entry.clone()]));
    inbox.extend(parts.map(part).map(Record::Segment));
    it.let_read("b");
    let said = it.statuses.len();
    for ms in [0, 0, 400, 600, 999] {
        it.now += ms;
        it.read(&node("b"), Source::Segment);
        it.run(&node("b"), None);
    }
    let of_it = it.statuses[said..].iter().filter(|it| it.teller == node("b"));
    let told: Vec<_> = of_it.map(|it| (it.status, it.phase, it.bytes)).collect();
    let bytes = crate::transfer::segment::entry_bytes(&data.entries[0]) as u64;
    assert_eq!(told, [(Status::InProgress, Some(Phase::Copying), 3 * bytes)]);
}

#[test]
fn r8_acknowledgement_of_a_lower_stream_grants_nothing() {
    let mut it = filled();
    it.hold("b", &[Source::Segment]);
    it.start(span("", "m"), "b");
    it.settle();
    let mut ack = it.acks("a")[0].clone();
    for (stream, credit_bytes, sent) in [(5, 1, 1), (4, 100_000, 1), (5, 100_000, 3)] {
        (ack.stream, ack.credit_bytes) = (stream, credit_bytes);
        it.inboxes.get_mut(&(node("a"), Source::Ack)).unwrap().push(Record::Ack(ack.clone()));
        it.settle();
        let segments = it.segments("b").into_iter().filter(|it| it.stream == 5);
        assert_eq!(segments.count(), sent, "stream {stream}, credit {credit_bytes}");
    }
}

#[test]
fn r8_next_stream_keeps_what_the_source_has_passed_on() {
    let mut it = ready();
    it.let_read("b");
    it.deliver_map("b");
    it.mark("b", 2, 50, Some("a"));
    it.deliver("b", &ALL);
    it.crash(&node("a"), usize::MAX);
    it.let_read("a");
    it.settle();
    assert!(it.segments("b").iter().any(|it| it.stream > 1));
    it.mark("b", 2, 50, None);
    it.settle();
    assert_eq!(it.words().last().unwrap(), "b m-1 Complete");
}

#[test]
fn r8_source_that_is_not_whole_refuses_and_the_move_fails() {
    let mut it = World::new(&["a", "b"]);
    it.assign(&[("", "m", "a", From::Table), ("m", "", "b", From::Table)]);
    it.settle();
    let migration = it.start(span("", "m"), "b");
    it.settle();
    assert_eq!(it.ended.get(&migration), Some(&Status::Failed), "{}", it.told());
}

#[test]
fn r9_stream_of_which_too_much_waits_is_given_up_for_the_next() {
    let mut it = filled();
    it.hold("b", &[Source::Segment]);
    it.start(span("", "m"), "b");
    it.settle();
    for primary in 10..60 {
        it.row(primary, Some("e"));
    }
    it.live(1);
    let newest = it.segments("b").iter().map(|it| it.stream).max();
    assert!(newest > Some(1), "{newest:?}");
    it.let_read("b");
    it.live(4);
    it.check();
}

#[test]
fn r9_stream_is_refused_when_it_was_given_up_too_often() {
    let mut it = World::new(&["b"]);
    let settings = Settings { backlogs_max: 0, ..settings("a") };
    let a = it.begin(settings, crate::store::memory::MemoryStore::default());
    it.nodes.insert(node("a"), a);
    it.assign(&[("", "m", "a", From::Table), ("m", "", "b", From::Table)]);
    // More than the credit, so that the stream does not come to its end.
    for primary in 10..60 {
        it.row(primary, Some("e"));
    }
    it.live(1);
    it.hold("b", &[Source::Segment]);
    let migration = it.start(span("", "m"), "b");
    it.settle();
    for primary in 10..60 {
        it.row(primary, Some("e"));
    }
    it.live(1);
    it.let_read("b");
    it.live(2);
    assert_eq!(it.ended.get(&migration), Some(&Status::Failed));
    assert!(
        it.statuses.iter().any(|it| it.reason.as_ref().is_some_and(|it| it.contains("backlog")))
    );
    it.check();
}

#[test]
fn r9_source_collects_no_tombstone_that_an_open_stream_counts() {
    let mut it = filled();
    it.hold("b", &[Source::Segment]);
    it.start(span("", "m"), "b");
    it.settle();
    it.update("a", 1, tombstone("e", 2, 10));
    it.mark("a", 1, 11, None);
    for _ in 0..8 {
        it.settle();
        it.tick(500);
    }
    it.settle();
    assert!(has(&it, "a", "e", 10));
    it.cancel(MigrationId(1));
    for _ in 0..8 {
        it.settle();
        it.tick(500);
    }
    assert!(!has(&it, "a", "e", 10), "the stream is closed: {}", it.told());
}

#[test]
fn r9_destination_collects_no_tombstone() {
    let mut it = filled();
    it.update("a", 1, tombstone("e", 2, 50));
    it.hold_map("a");
    it.hold_map("b");
    it.start(span("", "m"), "b");
    it.settle();
    it.mark("b", 1, 60, None);
    for _ in 0..8 {
        it.settle();
        it.tick(500);
    }
    it.settle();
    assert_eq!(it.roles("b"), ["[-, m) Import", "[m, -) Active"]);
    assert!(has(&it, "b", "e", 50));
}

#[test]
fn r9_stream_has_only_what_changed_the_source() {
    let mut it = filled();
    it.hold("b", &[Source::Segment]);
    it.start(span("", "m"), "b");
    it.settle();
    let ack = SegmentAck { next_seq: 9, credit_bytes: 100_000, ..it.acks("a")[0].clone() };
    it.inboxes.get_mut(&(node("a"), Source::Ack)).unwrap().push(Record::Ack(ack));
    it.settle();
    let before = it.segments("b").len();
    for times in 1..3 {
        it.update("a", 1, entry("c", 2, 90));
        it.settle();
        assert_eq!(it.segments("b").len(), before + 1, "sent {times} times");
    }
}

#[test]
fn r9_end_that_differs_fails() {
    let mut it = filled();
    it.hold("b", &[Source::Segment]);
    let migration = it.start(span("", "m"), "b");
    it.settle();
    let inbox = it.inboxes.get_mut(&(node("b"), Source::Segment)).unwrap();
    let Some(Record::Segment(last)) = inbox.last_mut() else { panic!("a segment") };
    assert_eq!(last.kind, Kind::End);
    let stream = StreamId { migration, number: last.stream };
    *last = seal(stream, last.seq, Content::End(Sums::default()));
    it.let_read("b");
    it.live(1);
    assert_eq!(it.ended.get(&migration), Some(&Status::Failed));
    it.check();
}
