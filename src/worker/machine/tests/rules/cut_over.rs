//! Who applies what behind the commit, and until when (R10 to R15).

use super::*;

#[test]
fn r10_source_applies_nothing_after_its_commit_and_hands_over_once() {
    let mut it = ready();
    it.let_read("a");
    it.deliver_map("a");
    assert_eq!(it.roles("a"), ["[-, m) Leaving"]);
    it.update("a", 1, entry("c", 2, 90));
    it.deliver("a", &ALL);
    assert!(!has(&it, "a", "c", 90));
    assert_eq!(it.updates("b").last().unwrap(), "c@90 g2 hops 1");
    let handed =
        |it: &World| it.segments("b").iter().filter(|it| it.kind == Kind::Handover).count();
    assert_eq!(handed(&it), 1);
    it.crash(&node("a"), usize::MAX);
    it.settle();
    assert!(it.serving(&node("a")).is_some(), "its start is over");
    assert_eq!(handed(&it), 1, "it is stored that all was handed over");
    assert_eq!(it.roles("a"), ["[-, m) Leaving"]);
}

#[test]
fn r11_update_before_the_own_commit_is_forwarded_not_kept_aside() {
    let mut it = ready();
    it.update("b", 1, entry("c", 2, 90));
    it.deliver("b", &ALL);
    assert_eq!(it.updates("a").last().unwrap(), "c@90 g1 hops 1");
}

#[test]
fn r11_update_behind_the_own_commit_is_kept_aside_until_all_is_handed_over() {
    let mut it = ready();
    it.let_read("b");
    it.deliver_map("b");
    it.update("b", 2, entry("c", 2, 90));
    let updates = it.updates("a").len();
    it.deliver("b", &ALL);
    assert!(!has(&it, "b", "c", 90));
    assert_eq!(it.updates("a").len(), updates);
    it.let_read("a");
    it.settle();
    assert!(has(&it, "b", "c", 90), "{}", it.told());
    assert_eq!(it.ignored("b", Ignored::SumsDiffer), 0);
}

#[test]
fn r12_handover_waits_for_the_own_commit() {
    let mut it = ready();
    it.let_read("a");
    it.settle();
    assert_eq!(it.segments("b").last().map(|it| it.kind), Some(Kind::Handover));
    assert_eq!(it.roles("b"), ["[-, m) Import", "[m, -) Active"]);
    it.let_read("b");
    it.settle();
    assert_eq!(it.roles("b"), ["[-, m) Active", "[m, -) Active"]);
}

#[test]
fn r12_handover_that_differs_is_asked_for_again() {
    let mut it = ready();
    it.hold("b", &[Source::Segment]);
    it.let_read("a");
    it.settle();
    let inbox = it.inboxes.get_mut(&(node("b"), Source::Segment)).unwrap();
    let Some(Record::Segment(last)) = inbox.last_mut() else { panic!("a segment") };
    let stream =
        crate::transfer::segment::StreamId { migration: last.migration, number: last.stream };
    let sums = crate::transfer::digest::Sums::default();
    let floors = crate::transfer::digest::Floors::new();
    let generation = last.generation;
    let content = crate::transfer::segment::Content::Handover { sums, floors, generation };
    *last = crate::transfer::segment::seal(stream, last.seq, content);
    it.let_read("b");
    it.live(3);
    assert_eq!(it.ignored("b", Ignored::SumsDiffer), 1);
    it.check();
}

#[test]
fn r12_segment_of_what_is_active_is_answered_with_done() {
    let mut it = ready();
    it.let_read("a");
    it.let_read("b");
    it.settle();
    assert_eq!(it.roles("b"), ["[-, m) Active", "[m, -) Active"]);
    let acks = it.acks("a").len();
    let stream = StreamId { migration: MigrationId(1), number: 9 };
    let open = seal(stream, 0, Content::Open(Floors::new()));
    it.inboxes.get_mut(&(node("b"), Source::Segment)).unwrap().push(Record::Segment(open));
    it.settle();
    assert!(it.acks("a")[acks..].iter().any(|it| it.done));
}

#[test]
fn r12_handover_of_another_commit_is_none() {
    let mut it = ready();
    it.hold("b", &[Source::Segment]);
    it.let_read("a");
    it.settle();
    let inbox = it.inboxes.get_mut(&(node("b"), Source::Segment)).unwrap();
    let Some(Record::Segment(last)) = inbox.last_mut() else { panic!("a segment") };
    assert_eq!(last.kind, Kind::Handover);
    let stream = StreamId { migration: last.migration, number: last.stream };
    let (sums, floors) = (sums(last), by_partition(&last.floors));
    let generation = Generation(1);
    *last = seal(stream, last.seq, Content::Handover { sums, floors, generation });
    it.let_read("b");
    it.settle();
    assert_eq!(it.roles("b"), ["[-, m) Import", "[m, -) Active"]);
}

#[test]
fn r12_what_is_aside_and_below_the_floor_is_dropped() {
    let mut it = ready();
    it.let_read("b");
    it.deliver_map("b");
    it.update("b", 2, entry("e", 2, 2));
    it.update("b", 2, entry("f", 2, 3));
    it.deliver("b", &ALL);
    it.let_read("a");
    it.settle();
    assert_eq!(it.roles("b"), ["[-, m) Active", "[m, -) Active"]);
    assert!(!has(&it, "b", "e", 2) && has(&it, "b", "f", 3), "{}", it.told());
}

#[test]
fn r13_complete_waits_for_a_watermark_by_the_source_and_a_direct_one_of_each_partition() {
    let mut it = ready();
    it.let_read("a");
    it.let_read("b");
    it.settle();
    let is_complete = |it: &World| it.words().iter().any(|it| it.ends_with("Complete"));
    assert!(it.words().iter().any(|it| it.ends_with("Active")));
    it.mark("b", 2, 50, None);
    it.settle();
    assert!(!is_complete(&it), "none came by a");
    it.mark("b", 1, 60, Some("a"));
    it.settle();
    assert!(!is_complete(&it), "it is of a map before the commit");
    it.mark("a", 2, 50, None);
    it.settle();
    assert_eq!(it.updates("b").last().unwrap(), "floor 50 g2 via a");
    assert!(is_complete(&it));
}

#[test]
fn r13_complete_waits_for_a_direct_watermark_at_or_above_the_inherited_floor() {
    let mut it = ready();
    it.let_read("a");
    it.let_read("b");
    it.mark("a", 2, 50, None);
    it.settle();
    let is_complete = |it: &World| it.words().iter().any(|it| it.ends_with("Complete"));
    assert_eq!(it.updates("b").last().unwrap(), "floor 50 g2 via a");
    assert!(!is_complete(&it), "none came from the channel itself");
    it.mark("b", 1, 50, None);
    it.mark("b", 2, 2, None);
    it.settle();
    assert!(!is_complete(&it), "all before the floor is not told by this map: {}", it.told());
    it.mark("b", 2, 3, None);
    it.settle();
    assert!(is_complete(&it));
}

#[test]
fn r13_source_passes_a_watermark_on_once_behind_all_before_it_and_none_of_an_older_map() {
    let mut it = ready();
    it.mark("a", 1, 40, None);
    it.update("a", 1, entry("c", 2, 90));
    it.mark("a", 2, 91, None);
    it.mark("a", 2, 92, None);
    it.hold("b", &ALL);
    it.let_read("a");
    let before = it.updates("b").len();
    it.deliver_map("a");
    it.deliver("a", &[Source::Update]);
    assert_eq!(it.updates("b")[before..], ["c@90 g2 hops 1", "floor 91 g2 via a"]);
}

#[test]
fn r13_source_keeps_what_it_has_until_it_is_complete() {
    let mut it = ready();
    it.let_read("a");
    it.let_read("b");
    it.settle();
    it.live(0);
    assert_eq!(it.roles("a"), ["[-, m) Leaving"]);
    it.tick(1_000_000);
    it.settle();
    assert_eq!(it.roles("a"), ["[-, m) Leaving"], "no timer ends it");
    it.live(2);
    assert_eq!(it.roles("a"), [""; 0]);
}

#[test]
fn r13_watermark_by_another_node_says_nothing() {
    let mut it = ready();
    it.let_read("a");
    it.let_read("b");
    it.settle();
    it.mark("b", 2, 50, None);
    it.mark("b", 2, 50, Some("c"));
    it.settle();
    assert!(!it.words().iter().any(|it| it.ends_with("Complete")));
}

#[test]
fn r13_source_lets_go_when_the_map_names_a_newer_epoch() {
    let mut it = ready();
    it.let_read("a");
    it.let_read("b");
    it.settle();
    assert_eq!(it.roles("a"), ["[-, m) Leaving"]);
    it.assign(&[("", "m", "b", From::None)]);
    it.settle();
    assert_eq!(it.roles("a"), [""; 0]);
}

#[test]
fn r13_failed_does_not_end_what_is_leaving() {
    let mut it = ready();
    it.let_read("a");
    it.deliver_map("a");
    let word = it.statuses.last().unwrap().clone();
    it.statuses.push(MigrationStatus { status: Status::Failed, ..word });
    it.deliver("a", &ALL);
    it.tick(1_000);
    it.deliver("a", &ALL);
    assert_eq!(it.roles("a"), ["[-, m) Leaving"]);
}

#[test]
fn r13_what_was_moved_away_stays_for_a_grace() {
    let mut it = World::new(&["b"]);
    let settings = Settings { grace_ms: 2_500, ..settings("a") };
    let a = it.begin(settings, crate::store::memory::MemoryStore::default());
    it.nodes.insert(node("a"), a);
    it.assign(&[("", "m", "a", From::Table), ("m", "", "b", From::Table)]);
    it.row(2, Some("c"));
    it.live(1);
    let migration = it.start(span("", "m"), "b");
    while !it.ended.contains_key(&migration) {
        it.live(1);
    }
    it.live(1);
    assert_eq!(it.roles("a"), ["[-, m) Leaving"]);
    it.live(3);
    assert_eq!(it.roles("a"), [""; 0]);
}

#[test]
fn r14_update_below_the_floor_is_ignored() {
    let mut it = halves();
    it.mark("a", 1, 10, None);
    it.update("a", 1, entry("c", 2, 9));
    it.update("a", 1, entry("d", 2, 10));
    it.settle();
    assert!(!has(&it, "a", "c", 9) && has(&it, "a", "d", 10));
    assert_eq!(it.ignored("a", Ignored::BelowFloor), 1);
}

#[test]
fn r14_before_a_range_is_drained_its_floor_stays() {
    let mut it = ready();
    it.let_read("a");
    it.let_read("b");
    it.settle();
    it.mark("b", 2, 50, None);
    it.update("b", 2, entry("c", 2, 20));
    it.settle();
    assert!(has(&it, "b", "c", 20), "it may have come by a, behind the watermark");
}

#[test]
fn r14_watermark_of_before_the_commit_says_nothing_of_the_range() {
    let mut it = ready();
    it.let_read("a");
    it.let_read("b");
    it.mark("b", 1, 50, None);
    it.settle();
    it.mark("b", 2, 10, Some("a"));
    it.settle();
    it.update("b", 2, entry("c", 2, 20));
    it.update("b", 2, entry("t", 6, 20));
    it.settle();
    assert!(has(&it, "b", "c", 20));
    assert!(!has(&it, "b", "t", 20), "of what was b's before it does");
}

#[test]
fn r14_floor_is_not_below_that_which_was_handed_over() {
    let mut it = ready();
    it.let_read("a");
    it.let_read("b");
    it.live(3);
    it.check();
    it.assign(&[("m", "", "b", From::None)]);
    it.settle();
    // A channel that was replaced begins anew behind what it has committed.
    it.mark("b", 3, 0, None);
    it.update("b", 3, entry("e", 2, 1));
    it.settle();
    assert!(!has(&it, "b", "e", 1));
}

/// As [`ready`], and b is applying: more is aside than goes in ten steps.
fn applying() -> World {
    let mut it = ready();
    it.let_read("b");
    it.deliver_map("b");
    // Watermarks of b's channels are further than what was handed over.
    it.mark("b", 2, 50, None);
    for index in ["e", "f", "g", "h", "i"] {
        for primary in [2, 4, 6, 8, 10] {
            it.update("b", 2, entry(index, primary, 60));
        }
    }
    it.deliver("b", &ALL);
    it.let_read("a");
    it.deliver_map("a");
    it.deliver("a", &ALL);
    while it.read(&node("b"), Source::Segment) {}
    while it.roles("b")[0] == "[-, m) Import" {
        it.step("b");
    }
    assert_eq!(it.roles("b"), ["[-, m) Applying", "[m, -) Active"]);
    it
}

#[test]
fn r14_floor_of_what_is_being_applied_is_that_which_was_handed_over() {
    let mut it = applying();
    it.update("b", 2, entry("j", 2, 20));
    it.update("b", 2, entry("k", 2, 2));
    while it.read(&node("b"), Source::Update) {}
    it.step("b");
    assert_eq!(it.roles("b")[0], "[-, m) Applying");
    assert!(has(&it, "b", "j", 20), "it may have come by a, behind the watermark");
    assert!(!has(&it, "b", "k", 2), "it is among what was handed over");
    assert_eq!(it.ignored("b", Ignored::BelowFloor), 1);
}

#[test]
fn r15_tombstone_stays_while_what_it_hides_may_be_aside_or_on_its_way() {
    let mut it = applying();
    // The first that is looked at.
    it.update("b", 2, tombstone("b", 2, 20));
    while it.read(&node("b"), Source::Update) {}
    for _ in 0..6 {
        it.tick(1_000);
        it.step("b");
    }
    assert_eq!(it.roles("b")[0], "[-, m) Applying");
    assert!(has(&it, "b", "b", 20));
    it.settle();
    for _ in 0..30 {
        it.tick(1_000);
        it.settle();
    }
    assert_eq!(it.roles("b")[0], "[-, m) Active");
    assert!(has(&it, "b", "b", 20), "nothing says that all by a is here");
    it.mark("b", 2, 50, Some("a"));
    it.settle();
    for _ in 0..30 {
        it.tick(1_000);
        it.settle();
    }
    assert!(!has(&it, "b", "b", 20), "{}", it.told());
}

#[test]
fn r15_tombstone_goes_below_the_floor_only() {
    let mut it = halves();
    it.update("a", 1, tombstone("c", 2, 9));
    it.update("a", 1, tombstone("d", 2, 10));
    it.settle();
    it.mark("a", 1, 10, None);
    it.settle();
    for _ in 0..4 {
        it.tick(1_000);
        it.settle();
    }
    assert_eq!((has(&it, "a", "c", 9), has(&it, "a", "d", 10)), (false, true), "{}", it.told());
}
