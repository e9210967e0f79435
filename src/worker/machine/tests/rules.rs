//! One rule a test, by hand: who reads what when.

use schemas::migration_status::Status;
use schemas::range_segment::{Entry, Kind};

use super::world::{World, key, node, span};
use super::{From, Key};
use crate::worker::events::{Ignored, Record, Source};

const ALL: [Source; 5] =
    [Source::Status(0), Source::Command, Source::Ack, Source::Segment, Source::Update];

/// Nodes a and b, which have half of the keys each, at generation 1 and active; nobody has anything.
fn halves() -> World {
    let mut it = World::new(&["a", "b"]);
    it.assign(&[("", "m", "a", From::Table), ("m", "", "b", From::Table)]);
    it.live(1);
    it
}

/// As [`halves`], with rows 2 and 4 in a's half, and 6 in b's.
fn filled() -> World {
    let mut it = halves();
    it.row(2, Some("c"));
    it.row(4, Some("d"));
    it.row(6, Some("t"));
    it.live(1);
    it
}

/// All but the reading of the map goes on at both, until a's half is ready to go to b.
fn ready() -> World {
    let mut it = filled();
    it.hold_map("a");
    it.hold_map("b");
    it.start(span("", "m"), "b");
    it.settle();
    it.tick(1_000);
    it.settle();
    assert_eq!(it.map.generation().0, 2, "committed: {}", it.told());
    it
}

fn entry(index: &str, primary: u8, offset: u64) -> Entry {
    Entry {
        index_key: key(index),
        primary_key: Key(vec![primary]),
        partition: u32::from(primary) % 2,
        offset,
        payload: Some(b"x".to_vec()),
    }
}

fn tombstone(index: &str, primary: u8, offset: u64) -> Entry {
    Entry { payload: None, ..entry(index, primary, offset) }
}

/// Whether a worker has an entry with that version.
fn has(it: &World, name: &str, index: &str, offset: u64) -> bool {
    use crate::store::{Limit, Snapshot, Store};
    let limit = Limit { entries: usize::MAX, bytes: usize::MAX };
    let snapshot = it.nodes[&node(name)].runner.store().snapshot();
    let page = snapshot.page(&schemas::KeySpan::all(), None, limit).unwrap();
    page.entries.iter().any(|it| it.index_key == key(index) && it.offset == offset)
}

#[test]
fn r2_update_of_a_newer_generation_waits_and_holds_its_own_partition_only() {
    let mut it = halves();
    it.hold_map("a");
    it.update("a", 2, entry("c", 2, 7));
    it.assign(&[("m", "", "b", From::None)]);
    it.start(span("m", ""), "a");
    it.deliver("a", &[Source::Update]);
    assert!(!has(&it, "a", "c", 7));
    // Commands wait for themselves; statuses and segments go on.
    it.deliver("a", &ALL);
    assert_eq!(it.words(), [""; 0]);
    it.let_read("a");
    it.settle();
    assert!(has(&it, "a", "c", 7));
    assert_eq!(it.words()[0], "a m-1 InProgress Copying");
}

#[test]
fn r2_request_waits_for_the_generation_of_its_start() {
    let mut it = filled();
    it.hold_map("a");
    it.assign(&[("", "m", "a", From::None)]);
    it.start(span("", "m"), "b");
    it.settle();
    assert_eq!(it.segments("b"), []);
    // It is not repeated in this test: what came first is answered.
    it.let_read("a");
    it.settle();
    assert_eq!(it.segments("b").first().map(|it| it.kind), Some(Kind::Open));
}

#[test]
fn r1_part_of_a_range_is_lost_though_its_split_was_skipped() {
    let mut it = filled();
    it.hold_map("a");
    it.assign(&[("", "d", "a", From::None), ("d", "m", "a", From::None)]);
    it.assign(&[("", "d", "b", From::Table)]);
    it.let_read("a");
    it.live(3);
    assert_eq!(it.roles("a"), ["[d, m) Active"]);
    assert_eq!(it.roles("b"), ["[-, d) Active", "[m, -) Active"]);
    it.check();
}

#[test]
fn r2_record_of_a_generation_that_never_comes_is_a_dead_letter() {
    let mut it = halves();
    it.update("a", 9, entry("c", 2, 7));
    it.update("a", 1, entry("d", 2, 7));
    it.settle();
    assert_eq!(it.dead, [Source::Update]);
    assert!(!has(&it, "a", "c", 7) && has(&it, "a", "d", 7));
}

#[test]
fn r3_words_and_requests_are_said_again_after_a_start() {
    let mut it = filled();
    it.hold("a", &ALL);
    it.start(span("", "m"), "b");
    it.settle();
    let (words, acks) = (it.words().len(), it.acks("a").len());
    assert_eq!((words, acks), (1, 1));
    it.crash(&node("b"), 0);
    it.settle();
    assert_eq!(it.words(), ["b m-1 InProgress Copying"; 2]);
    assert_eq!(it.acks("a").len(), 2);
    it.let_read("a");
    it.live(3);
    it.check();
}

#[test]
fn r3_after_a_start_nothing_is_served_before_what_was_there_is_read() {
    let mut it = filled();
    assert!(it.get("c", &it.map.clone()).is_some());
    it.crash(&node("a"), 0);
    it.hold("a", &[Source::Update]);
    it.settle();
    assert!(it.serving(&node("a")).is_none());
    it.let_read("a");
    it.settle();
    assert_eq!(it.get("c", &it.map.clone()).map(|it| it.len()), Some(1));
}

#[test]
fn r3_generation_that_has_taken_effect_is_not_waited_for_after_a_crash() {
    let mut it = halves();
    it.assign(&[("", "m", "a", From::None)]);
    it.settle();
    it.update("a", 2, entry("c", 2, 7));
    it.settle();
    assert!(it.get("c", &it.map.clone()).is_some_and(|it| it.len() == 1));
    it.crash(&node("a"), 0);
    it.hold("a", &[Source::Update]);
    it.settle();
    assert!(it.serving(&node("a")).is_none(), "what was read once would be missing");
}

#[test]
fn r4_update_for_another_goes_to_it_with_the_own_generation() {
    let mut it = halves();
    it.assign(&[("m", "", "b", From::None)]);
    it.settle();
    it.update("a", 1, entry("t", 2, 7));
    it.deliver("a", &[Source::Update]);
    assert_eq!(it.updates("b").last().unwrap(), "t@7 g2 hops 1");
    assert!(!has(&it, "a", "t", 7));
}

#[test]
fn r5_start_at_another_epoch_fails_as_old() {
    let mut it = halves();
    let migration = it.start(span("", "m"), "b");
    it.assign(&[("", "m", "a", From::None)]);
    it.settle();
    it.live(1);
    assert_eq!(it.ended.get(&migration), Some(&Status::Failed));
    assert_eq!(it.roles("b"), ["[m, -) Active"]);
}

#[test]
fn r5_import_that_the_map_has_left_behind_fails_and_leaves_nothing() {
    let mut it = filled();
    it.hold("a", &ALL);
    let migration = it.start(span("", "m"), "b");
    it.settle();
    assert_eq!(it.roles("b"), ["[-, m) Import", "[m, -) Active"]);
    it.assign(&[("", "m", "a", From::None)]);
    it.settle();
    assert_eq!(it.ended.get(&migration), Some(&Status::Failed));
    assert_eq!(it.roles("b"), ["[m, -) Active"]);
}

#[test]
fn r5_cancel_before_the_commit_fails_and_leaves_nothing() {
    let mut it = filled();
    it.hold("a", &[Source::Ack]);
    let migration = it.start(span("", "m"), "b");
    it.settle();
    it.cancel(migration);
    it.let_read("a");
    it.live(2);
    assert_eq!(it.ended.get(&migration), Some(&Status::Failed));
    assert_eq!(it.roles("b"), ["[m, -) Active"]);
    assert!(!has(&it, "b", "c", 0));
    let outgoing = &it.nodes[&node("a")].runner.worker().remembered().outgoing;
    assert!(outgoing.is_empty(), "a has heard it too");
    it.check();
}

#[test]
fn r5_after_the_commit_there_is_no_cancel() {
    let mut it = ready();
    it.cancel(schemas::MigrationId(1));
    it.let_read("a");
    it.let_read("b");
    it.live(3);
    assert_eq!(it.ended.get(&schemas::MigrationId(1)), Some(&Status::Complete));
    it.check();
}

#[test]
fn r6_segments_and_acks_of_unknown_migrations_are_counted_and_ignored() {
    let mut it = filled();
    it.start(span("", "m"), "b");
    it.live(3);
    it.check();
    let (segment, ack) = (it.segments("b")[0].clone(), it.acks("a")[0].clone());
    let (ignored_b, ignored_a) =
        (it.ignored("b", Ignored::UnknownMigration), it.ignored("a", Ignored::UnknownMigration));
    it.inboxes.get_mut(&(node("b"), Source::Segment)).unwrap().push(Record::Segment(segment));
    it.inboxes.get_mut(&(node("a"), Source::Ack)).unwrap().push(Record::Ack(ack));
    let roles = (it.roles("a"), it.roles("b"));
    it.settle();
    assert_eq!(it.ignored("b", Ignored::UnknownMigration), ignored_b + 1);
    assert_eq!(it.ignored("a", Ignored::UnknownMigration), ignored_a + 1);
    assert_eq!((it.roles("a"), it.roles("b")), roles);
}

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
        crate::worker::events::Settings { backlogs_max: 0, ..super::world::settings("a") };
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
    it.crash(&node("a"), 0);
    it.deliver_map("a");
    it.deliver("a", &ALL);
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

#[test]
fn r18_view_follows_the_roles_of_a_move() {
    let served = |it: &World, name: &str| {
        let serving = it.serving(&node(name)).unwrap();
        let view = format!("{:?}", serving.view);
        let from = view.find("serves: ").unwrap() + 8;
        view[from..].split([' ', '}', ',']).next().unwrap().to_owned()
    };
    let mut it = ready();
    assert_eq!((served(&it, "a"), served(&it, "b")), ("Reads".into(), "Nothing".into()));
    it.let_read("b");
    it.deliver_map("b");
    assert_eq!(served(&it, "b"), "BySource");
    assert!(it.get("c", &it.map.clone()).is_some(), "a is active at the epoch of before");
    it.let_read("a");
    it.deliver_map("a");
    assert_eq!(served(&it, "a"), "ReadsAsSource");
    assert!(it.get("c", &it.map.clone()).is_some());
    it.settle();
    assert_eq!(served(&it, "b"), "Reads");
    it.live(2);
    assert_eq!(served(&it, "a"), "Nothing");
}

#[test]
fn r19_split_and_join_take_floors_along_and_a_join_the_lesser() {
    let mut it = ready();
    it.let_read("a");
    it.let_read("b");
    it.live(3);
    it.check();
    it.assign(&[
        ("", "m", "b", From::None),
        ("m", "t", "b", From::None),
        ("t", "", "b", From::None),
    ]);
    it.live(1);
    assert_eq!(it.roles("b"), ["[-, m) Active", "[m, t) Active", "[t, -) Active"]);
    it.assign(&[("", "", "b", From::None)]);
    it.settle();
    let held = &it.nodes[&node("b")].runner.worker().remembered().roles;
    let told = format!("{:?}", held.values().collect::<Vec<_>>());
    assert!(told.contains("floors: {0: 3}"), "{told}");
    it.check();
}

#[test]
fn r22_scan_is_whole_only_behind_a_watermark_of_its_generation() {
    let mut it = World::new(&["a"]);
    it.row(2, Some("c"));
    it.assign(&[("", "", "a", From::Table)]);
    it.settle();
    assert_eq!(it.roles("a"), ["[-, -) Rebuild"]);
    // The channel has sent more than the scan has seen the end of.
    it.mark("a", 1, 2, None);
    it.settle();
    assert_eq!(it.roles("a"), ["[-, -) Rebuild"]);
    for _ in 0..2 {
        it.row(2, Some("d"));
        it.row(3, Some("e"));
    }
    it.settle();
    assert_eq!(it.roles("a"), ["[-, -) Rebuild"], "the scan is ahead of the watermark");
    it.mark("a", 1, 3, None);
    it.settle();
    assert_eq!(it.roles("a"), ["[-, -) Active"], "{}", it.told());
}

#[test]
fn r22_updates_during_a_scan_are_kept_aside() {
    let mut it = World::new(&["a"]);
    it.row(2, Some("c"));
    it.assign(&[("", "", "a", From::Table)]);
    it.settle();
    it.update("a", 1, tombstone("c", 2, 5));
    it.update("a", 1, entry("d", 2, 5));
    it.settle();
    assert!(has(&it, "a", "c", 0) && !has(&it, "a", "d", 5));
    it.mark("a", 1, 0, None);
    it.mark("a", 1, 6, None);
    it.settle();
    assert!(has(&it, "a", "d", 5) || it.roles("a") == ["[-, -) Rebuild"]);
}

#[test]
fn r22_scan_goes_on_where_it_was_after_a_crash() {
    let mut it = World::new(&["a"]);
    for primary in 0..30 {
        it.row(primary, Some(["c", "t"][primary as usize % 2]));
    }
    it.assign(&[("", "m", "a", From::Table), ("m", "", "a", From::Table)]);
    for _ in 0..6 {
        it.deliver_map("a");
        it.read_rows(&node("a"));
        it.run(&node("a"), None);
    }
    let keep = it.unsynced(&node("a")) / 2;
    it.crash(&node("a"), keep);
    it.live(2);
    it.check();
}
