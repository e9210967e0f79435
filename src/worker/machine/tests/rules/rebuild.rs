//! What a scan of the table puts, and when it is whole (R22 to R24).

use super::*;

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

#[test]
fn r22_end_that_is_said_again_is_no_step() {
    let mut it = World::new(&["a"]);
    it.row(2, Some("c"));
    it.assign(&[("", "", "a", From::Table)]);
    it.settle();
    let scan = crate::store::Scan(schemas::Generation(1));
    let end = |position| crate::worker::events::Event::EndScanned { scan, partition: 0, position };
    let (now, a) = (schemas::Millis(it.now), node("a"));
    it.nodes.get_mut(&a).unwrap().runner.handle(now, end(1));
    assert!(!it.run(&a, None), "it is known");
    it.nodes.get_mut(&a).unwrap().runner.handle(now, end(2));
    assert!(it.run(&a, None));
}

#[test]
fn r23_row_that_cannot_be_read_counts_as_deleted() {
    let mut it = World::new(&["a"]);
    it.row(2, Some("c"));
    it.row(4, Some("d"));
    // As a scan tells of what is no row to it: without entries.
    it.row(2, None);
    it.assign(&[("", "", "a", From::Table)]);
    it.settle();
    assert!(!has(&it, "a", "c", 0) && has(&it, "a", "d", 1));
}

#[test]
fn r24_scan_that_took_too_long_begins_again_with_nothing() {
    let mut it = World::new(&["a"]);
    it.row(2, Some("c"));
    it.row(4, Some("t"));
    it.assign(&[("", "", "a", From::Table)]);
    it.deliver_map("a");
    it.read_rows(&node("a"));
    it.run(&node("a"), None);
    assert!(has(&it, "a", "c", 0));
    it.update("a", 1, entry("d", 6, 7));
    it.deliver("a", &[Source::Update]);
    // The row is deleted, and compaction has taken all of that away.
    it.row(2, None);
    it.compacted.extend([(0, 0), (0, 2)]);
    it.tick(3_999);
    it.run(&node("a"), None);
    assert_eq!(it.ignored("a", Ignored::SlowScan), 0);
    it.tick(1);
    it.settle();
    assert_eq!(it.ignored("a", Ignored::SlowScan), 1);
    assert!(!has(&it, "a", "c", 0), "nobody would delete it any more");
    assert!(has(&it, "a", "t", 1));
    it.mark("a", 1, 0, None);
    it.mark("a", 1, 8, None);
    it.settle();
    assert!(has(&it, "a", "d", 7), "what was aside is there still: {}", it.told());
}

#[test]
fn r24_scan_that_stands_at_the_end_may_wait_for_as_long_as_it_likes() {
    let mut it = World::new(&["a"]);
    it.row(2, Some("c"));
    it.assign(&[("", "", "a", From::Table)]);
    it.settle();
    it.tick(100_000);
    it.settle();
    assert_eq!(it.ignored("a", Ignored::SlowScan), 0);
    // After a start it is not known to stand there.
    it.crash(&node("a"), usize::MAX);
    it.row(4, Some("d"));
    it.row(4, Some("e"));
    it.deliver_map("a");
    it.settle();
    assert_eq!(it.ignored("a", Ignored::SlowScan), 1);
    it.live(2);
    it.check();
}
