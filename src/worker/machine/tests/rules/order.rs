//! In what order records count, and what is stored before what is said (R1 to R4).

use super::*;

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
fn r2_record_of_a_generation_that_never_comes_is_a_dead_letter() {
    let mut it = halves();
    it.update("a", 9, entry("c", 2, 7));
    it.update("a", 1, entry("d", 2, 7));
    it.settle();
    assert_eq!(it.dead, [Source::Update]);
    assert!(!has(&it, "a", "c", 7) && has(&it, "a", "d", 7));
}

#[test]
fn r2_command_that_waits_holds_no_update() {
    let mut it = halves();
    it.hold_map("a");
    it.assign(&[("m", "", "b", From::None)]);
    it.start(span("m", ""), "a");
    it.deliver("a", &[Source::Command]);
    it.update("a", 1, entry("c", 2, 7));
    it.deliver("a", &[Source::Update]);
    assert_eq!(it.words(), [""; 0]);
    assert!(has(&it, "a", "c", 7));
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
fn r3_end_that_is_come_to_while_what_was_there_is_read_is_said_once() {
    let mut it = ready();
    it.let_read("a");
    it.let_read("b");
    it.settle();
    it.hold("b", &ALL);
    it.mark("a", 2, 50, None);
    it.mark("b", 2, 50, None);
    it.settle();
    it.crash(&node("b"), 0);
    it.let_read("b");
    it.settle();
    assert_eq!(it.words().iter().filter(|it| it.ends_with("Complete")).count(), 1);
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
fn r3_what_a_step_sends_is_flushed_before_it_is_stored() {
    let mut it = halves();
    it.update("a", 1, entry("t", 2, 7));
    it.read(&node("a"), Source::Update);
    // Of what it sends, nothing comes out before it dies; all that it has stored is there.
    it.run(&node("a"), Some((0, false)));
    it.settle();
    assert!(has(&it, "b", "t", 7), "the record is read again, or what was sent is there");
}

#[test]
fn r3_newer_map_takes_no_effect_before_what_was_there_is_read() {
    let mut it = ready();
    it.update("a", 1, entry("c", 2, 90));
    it.deliver("a", &ALL);
    assert!(has(&it, "a", "c", 90), "it may have been read here");
    it.crash(&node("a"), 0);
    assert!(!has(&it, "a", "c", 90));
    it.let_read("a");
    it.hold("a", &[Source::Update]);
    it.deliver_map("a");
    it.deliver("a", &ALL);
    assert_eq!(it.roles("a"), ["[-, m) Active"]);
    it.let_read("a");
    it.settle();
    assert_eq!(it.segments("b").last().map(|it| it.kind), Some(Kind::Handover));
    it.let_read("b");
    it.settle();
    assert!(has(&it, "b", "c", 90), "{}", it.told());
}

#[test]
fn r3_where_a_new_store_begins_is_on_disk_before_anybody_hears_of_it() {
    let mut it = World::new(&["a"]);
    assert!(it.run(&node("a"), None));
    assert_eq!(it.unsynced(&node("a")), 0);
}

#[test]
fn r3_what_goes_on_by_itself_is_not_shown_before_the_start_is_over() {
    let mut it = filled();
    it.hold("b", &[Source::Update]);
    it.update("b", 1, entry("t", 2, 90));
    it.start(span("", "m"), "b");
    it.read(&node("b"), Source::Command);
    // It dies before it says that it has begun.
    it.run(&node("b"), Some((0, false)));
    assert_eq!(it.roles("b"), ["[-, m) Erasing", "[m, -) Active"]);
    it.settle();
    assert_eq!(it.roles("b"), ["[-, m) Import", "[m, -) Active"]);
    assert!(it.serving(&node("b")).is_none());
}

#[test]
fn r3_handover_goes_out_only_when_the_commit_that_was_read_is_on_disk() {
    let mut it = ready();
    it.let_read("a");
    it.hold("a", &[Source::Update]);
    it.update("a", 1, entry("c", 2, 90));
    while it.read_map(&node("a")) {}
    // It dies behind the first that it sends, and before anything is stored.
    it.run(&node("a"), Some((0, true)));
    it.let_read("a");
    it.let_read("b");
    it.settle();
    assert_eq!(it.roles("b"), ["[-, m) Active", "[m, -) Active"]);
    assert!(has(&it, "b", "c", 90), "{}", it.told());
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
fn what_waits_and_what_a_step_takes_in_is_bounded_by_what_it_carries() {
    let mut it = filled();
    let a = node("a");
    it.nodes.get_mut(&a).unwrap().settings.step_bytes_max = 100;
    it.crash(&a, usize::MAX);
    it.settle();
    for offset in 50..60 {
        it.update("a", 1, entry("c", 2, offset));
    }
    let mut read = 0;
    while it.read(&a, Source::Update) {
        read += 1;
    }
    assert_eq!(read, 2, "each carries more than half of it");
    it.settle();
    assert!(has(&it, "a", "c", 59), "{}", it.told());
}
