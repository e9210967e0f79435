//! What a stream carries, and what becomes of one that breaks (R7 to R9).

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
    let settings =
        crate::worker::events::Settings { backlogs_max: 0, ..settings("a") };
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
