//! What a scan of the table puts, and when it is whole (R22 to R24).

use schemas::Millis;

use super::super::world::PARTITIONS;
use super::*;
use crate::store::Scan;
use crate::worker::events::Event;

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
fn r22_one_scan_is_for_all_intervals_of_a_node() {
    let mut it = World::new(&["a", "b"]);
    it.row(2, Some("c"));
    it.row(3, Some("k"));
    it.row(4, Some("t"));
    it.assign(&[
        ("", "g", "a", From::Table),
        ("g", "n", "a", From::Table),
        ("n", "p", "b", From::Table),
        ("p", "", "a", From::Table),
    ]);
    it.deliver_map("a");
    let scans = &it.nodes[&node("a")].runner.worker().remembered().scans;
    let partitions: Vec<_> = scans.values().map(|it| it.len()).collect();
    assert_eq!(partitions, [PARTITIONS as usize], "one scan, of each partition: {}", it.told());
    it.live(2);
    it.check();
}

#[test]
fn r22_birth_is_the_same_of_a_table_that_is_empty_whole_or_partly_compacted() {
    let born = |rows: &[(u8, Option<&str>)], compacted: &[(u32, usize)]| {
        let mut it = World::new(&["a", "b"]);
        rows.iter().for_each(|(primary, after)| it.row(*primary, *after));
        it.compacted.extend(compacted);
        // All comes by the scan.
        it.channel.next = it.table.iter().map(Vec::len).collect();
        it.assign(&[("", "h", "a", From::Table), ("h", "", "b", From::Table)]);
        it.live(3);
        it.check();
        it.held().len()
    };
    assert_eq!(born(&[], &[]), 0);
    let rows = [
        (2, Some("c")),
        (3, Some("d")),
        (2, Some("t")),
        (3, None),
        (2, Some("e")),
        (4, Some("k")),
        (4, Some("k")),
    ];
    // Superseded: those at 0 and 1 of the first partition and its fourth, and the first of the second.
    let superseded = [(0, 0), (0, 1), (0, 3), (1, 0)];
    for some in 0..1 << superseded.len() {
        let compacted: Vec<_> = (0..superseded.len()).filter(|n| some >> n & 1 == 1).collect();
        let compacted: Vec<_> = compacted.into_iter().map(|n| superseded[n]).collect();
        assert_eq!(born(&rows, &compacted), 2, "without {compacted:?}");
    }
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
    let scan = Scan(Generation(1));
    let end = |position| Event::EndScanned { scan, partition: 0, position };
    let (now, a) = (Millis(it.now), node("a"));
    it.nodes.get_mut(&a).unwrap().runner.handle(now, end(1));
    assert!(!it.run(&a, None), "it is known");
    it.nodes.get_mut(&a).unwrap().runner.handle(now, end(2));
    assert!(it.run(&a, None));
}

#[test]
fn r22_row_counts_though_its_scan_ends_in_the_same_step() {
    let mut it = World::new(&["a"]);
    it.row(2, Some("c"));
    it.row(3, Some("d"));
    it.assign(&[("", "", "a", From::Table)]);
    it.deliver_map("a");
    it.run(&node("a"), None);
    it.mark("a", 1, 1, None);
    it.deliver("a", &[Source::Update]);
    it.run(&node("a"), None);
    assert_eq!(it.roles("a"), ["[-, -) Rebuild"]);
    it.settle();
    let active: Vec<_> = it.nodes[&node("a")].runner.worker().active().collect();
    assert_eq!(active.len(), 1, "{}", it.told());
    assert_eq!(active[0].2.entries, 2);
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

#[test]
fn r24_what_comes_behind_an_end_in_time_lets_a_scan_go_on_and_begin_again_later() {
    for (ms, times) in [(3_999, 0), (4_000, 1)] {
        let mut it = World::new(&["a"]);
        it.row(2, Some("c"));
        it.assign(&[("", "", "a", From::Table)]);
        it.settle();
        // The row is deleted while nothing is read, and of that only the end is left.
        it.row(2, None);
        it.row(4, Some("e"));
        it.compacted.extend([(0, 0), (0, 1)]);
        it.tick(ms);
        // The row and the end behind it come in one step.
        while it.read_rows(&node("a")) {}
        it.settle();
        assert_eq!(it.ignored("a", Ignored::SlowScan), times, "after {ms} ms");
        assert_eq!(has(&it, "a", "c", 0), times == 0, "nobody would delete it any more");
        assert!(has(&it, "a", "e", 2), "{}", it.told());
    }
}

#[test]
fn r24_end_that_is_further_on_without_a_row_counts_as_one() {
    let mut it = World::new(&["a"]);
    it.row(2, Some("c"));
    it.assign(&[("", "", "a", From::Table)]);
    it.settle();
    it.tick(4_000);
    let end = Event::EndScanned { scan: Scan(Generation(1)), partition: 0, position: 2 };
    let now = Millis(it.now);
    it.nodes.get_mut(&node("a")).unwrap().runner.handle(now, end);
    it.run(&node("a"), None);
    assert_eq!(it.ignored("a", Ignored::SlowScan), 1);
}

/// What scans of a worker say of partitions that are done.
fn done(it: &World, name: &str) -> Vec<Option<u64>> {
    let scans = &it.nodes[&node(name)].runner.worker().remembered().scans;
    scans.values().flat_map(|it| it.values().map(|it| it.done)).collect()
}

#[test]
fn r22_watermark_of_an_older_generation_ends_no_scan() {
    let mut it = World::new(&["a"]);
    it.row(2, Some("c"));
    it.assign(&[("", "", "a", From::Table)]);
    it.live(1);
    it.assign(&[("", "", "a", From::Table)]);
    it.settle();
    assert_eq!(done(&it, "a"), [None, None]);
    it.mark("a", 2, 1, None);
    it.settle();
    assert_eq!(done(&it, "a"), [Some(1), None], "one has no row there");
}

#[test]
fn r22_partition_that_is_done_stays_done() {
    let mut it = World::new(&["a"]);
    it.row(2, Some("c"));
    it.assign(&[("", "", "a", From::Table)]);
    it.settle();
    it.mark("a", 1, 0, None);
    it.settle();
    assert_eq!(done(&it, "a"), [Some(1), Some(0)]);
    let late = Event::RowScanned {
        scan: Scan(Generation(1)),
        partition: 0,
        offset: 5,
        primary_key: Key(vec![9]),
        entries: vec![entry("d", 9, 5)],
    };
    let now = Millis(it.now);
    it.nodes.get_mut(&node("a")).unwrap().runner.handle(now, late);
    it.settle();
    assert!(!has(&it, "a", "d", 5));
}

#[test]
fn r22_end_counts_only_while_the_scan_stands_there() {
    let mut it = World::new(&["a"]);
    it.row(2, Some("c"));
    it.assign(&[("", "", "a", From::Table)]);
    it.settle();
    it.row(2, Some("d"));
    it.row(2, Some("e"));
    it.read_rows(&node("a"));
    it.run(&node("a"), None);
    it.mark("a", 1, 1, None);
    it.deliver("a", &[Source::Update]);
    assert_eq!(done(&it, "a")[0], None);
    it.settle();
    assert_eq!(done(&it, "a")[0], Some(3));
}

#[test]
fn r22_scan_begins_when_all_its_intervals_are_empty() {
    let mut it = filled();
    // More than go in one step.
    for primary in 10..20 {
        it.row(primary, Some("e"));
    }
    it.live(1);
    it.assign(&[("", "m", "a", From::Table)]);
    while it.read_map(&node("a")) {}
    let mut erasing = 0;
    while it.step("a") == 0 {
        erasing += usize::from(it.roles("a") == ["[-, m) Erasing"]);
    }
    assert!(erasing > 1);
    assert_eq!(it.roles("a"), ["[-, m) Rebuild"]);
}

#[test]
fn r22_what_is_aside_and_below_the_floor_of_the_scan_is_dropped() {
    let mut it = World::new(&["a"]);
    it.row(2, Some("c"));
    it.row(2, Some("d"));
    it.assign(&[("", "", "a", From::Table)]);
    it.settle();
    // Whoever was replaced sends it once more.
    it.update("a", 1, entry("c", 2, 0));
    it.settle();
    it.mark("a", 1, 0, None);
    it.mark("a", 1, 2, None);
    it.settle();
    assert_eq!(it.roles("a"), ["[-, -) Active"]);
    assert!(!has(&it, "a", "c", 0) && has(&it, "a", "d", 1));
}

#[test]
fn r24_owner_that_gets_its_range_from_the_table_again_begins_with_nothing() {
    let mut it = filled();
    // As of a change that nobody has seen: no row says any more that it left this key.
    it.update("a", 1, entry("k", 8, 90));
    it.live(1);
    assert!(has(&it, "a", "k", 90));
    it.assign(&[("", "m", "a", From::Table)]);
    it.deliver_map("a");
    assert_eq!(it.roles("a"), ["[-, m) Rebuild"]);
    assert!(!has(&it, "a", "k", 90) && !has(&it, "a", "c", 0));
    assert_eq!(it.get("c", &it.map), None, "not yet");
    // What comes meanwhile is kept aside, and is there in the end.
    it.row(2, Some("f"));
    it.send_rows(usize::MAX);
    it.deliver("a", &ALL);
    assert!(!has(&it, "a", "f", 2));
    it.live(2);
    assert_eq!(it.roles("a"), ["[-, m) Active"], "{}", it.told());
    it.check();
}

#[test]
fn r24_stream_out_of_a_range_that_is_built_again_is_broken() {
    let mut it = filled();
    it.hold("b", &[Source::Segment]);
    it.start(span("", "m"), "b");
    it.settle();
    let sent = it.segments("b").len();
    assert!(sent > 0, "it is under way");
    // Nobody but the source knows yet.
    it.hold_map("b");
    it.assign(&[("", "m", "a", From::Table)]);
    it.row(8, Some("e"));
    it.live(2);
    assert_eq!(it.roles("a"), ["[-, m) Active"], "{}", it.told());
    assert_eq!(it.segments("b").len(), sent, "nothing of what it has now");
    assert!(it.nodes[&node("a")].runner.worker().remembered().outgoing.is_empty());
    it.let_read("b");
    it.live(3);
    assert_eq!(it.roles("b"), ["[m, -) Active"], "{}", it.told());
    assert!(it.words().iter().any(|it| it == "b m-1 Failed"), "{:?}", it.words());
    it.check();
}

#[test]
fn r24_rebuild_of_an_owner_goes_on_after_a_crash() {
    for keep in [0, 1, 3, usize::MAX] {
        let mut it = filled();
        it.update("a", 1, entry("k", 8, 90));
        it.live(1);
        it.assign(&[("", "m", "a", From::Table)]);
        it.deliver_map("a");
        it.read_rows(&node("a"));
        it.run(&node("a"), None);
        let keep = keep.min(it.unsynced(&node("a")));
        it.crash(&node("a"), keep);
        it.live(3);
        it.check();
    }
}
