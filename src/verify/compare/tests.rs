use schemas::table::RowChanged;
use schemas::{Epoch, Generation};

use super::*;
use crate::verify::fold::Said;
use crate::web::held::HeldInterval;

fn key(text: &str) -> Key {
    Key(text.into())
}

fn row(after: Option<&str>) -> Said {
    let payload = Some(b"x".to_vec());
    Said::Row(RowChanged { before: None, after: after.map(key), payload })
}

/// A table of rows (primary key, index key) at offsets 0, 1, … of partition 0.
fn fold(rows: &[(&str, Option<&str>)]) -> Fold {
    let mut fold = Fold::default();
    for (offset, (primary_key, index_key)) in (0..).zip(rows) {
        fold.record((0, offset), Some(primary_key.as_bytes().to_vec()), row(*index_key));
    }
    fold
}

/// A page of a worker: its intervals, and its entries (index key, primary key, offset, payload).
fn page(node: &str, intervals: &[(&str, &str, Role)], entries: &[(&str, &str, u64, &str)]) -> Held {
    let interval = |(start, end, role): &(&str, &str, Role)| HeldInterval {
        range_start: key(start),
        range_end: key(end),
        role: *role,
        epoch: Epoch(1),
        floors: Vec::new(),
    };
    let entry = |(index_key, primary_key, offset, payload): &(&str, &str, u64, &str)| FoundEntry {
        index_key: key(index_key),
        primary_key: key(primary_key),
        partition: 0,
        offset: *offset,
        payload: payload.as_bytes().to_vec(),
    };
    Held {
        node: NodeId(node.into()),
        store_id: "s".into(),
        generation: Generation(1),
        intervals: intervals.iter().map(interval).collect(),
        entries: entries.iter().map(entry).collect(),
        next: None,
    }
}

/// Compares, lets the table go on, and tells what is found.
fn check(mut fold: Fold, pages: &[Held], later: &[(&str, Said)], found: &[&str]) -> Verdict {
    let ends = fold.ends().clone();
    let mut comparison = Comparison::default();
    pages.iter().for_each(|it| comparison.page(&mut fold, it));
    let next = ends.get(&0).copied().unwrap_or(0);
    for (offset, (primary_key, said)) in (next..).zip(later) {
        fold.record((0, offset), Some(primary_key.as_bytes().to_vec()), said.clone());
    }
    let verdict = comparison.verdict(&fold, &ends);
    let told = |it: &Found| {
        let node = it.node.as_ref().unwrap();
        format!("{} {}/{} on {node}: {}", it.kind.name(), it.index_key, it.primary_key, it.detail)
    };
    assert_eq!(verdict.found.iter().map(told).collect::<Vec<_>>(), found);
    verdict
}

const ALL: [(&str, &str, Role); 1] = [("", "", Role::Active)];

fn table() -> Fold {
    fold(&[("1", Some("a")), ("2", Some("b")), ("1", Some("c")), ("3", Some("d")), ("3", None)])
}

#[test]
fn what_is_as_the_table_says_is_no_fault() {
    let a = page("n1", &[("", "b", Role::Active)], &[]);
    let b = page("n2", &[("b", "", Role::Active)], &[("b", "2", 1, "x"), ("c", "1", 2, "x")]);
    let verdict = check(table(), &[a, b], &[], &[]);
    assert_eq!((verdict.changing, verdict.doubtful), (0, 0));
}

#[test]
fn update_that_was_dropped_is_found() {
    // The put at the new key.
    let held = page("n1", &ALL, &[("b", "2", 1, "x")]);
    check(table(), &[held], &[], &["missing c/1 on n1: the row is of 0:2"]);
    // The deletion at the key before.
    let held = page("n1", &ALL, &[("a", "1", 0, "x"), ("b", "2", 1, "x"), ("c", "1", 2, "x")]);
    check(table(), &[held], &[], &["extra a/1 on n1: the row is at c now"]);
    // A change of the payload alone.
    let changed = fold(&[("1", Some("a")), ("1", Some("a"))]);
    let held = page("n1", &ALL, &[("a", "1", 0, "x")]);
    check(changed, &[held], &[], &["stale a/1 on n1: it is of 0:0, and the row of 0:1"]);
}

#[test]
fn entry_that_is_one_too_many_is_found() {
    let good = [("b", "2", 1, "x"), ("c", "1", 2, "x")];
    let with = |it| page("n1", &ALL, &[good[0], good[1], it]);
    let deleted = ["extra d/3 on n1: the row was deleted"];
    check(table(), &[with(("d", "3", 3, "x"))], &[], &deleted);
    let never = ["extra e/9 on n1: the table has no such row"];
    check(table(), &[with(("e", "9", 3, "x"))], &[], &never);
    let harmed = page("n1", &ALL, &[good[0], ("c", "1", 2, "y")]);
    check(table(), &[harmed], &[], &["stale c/1 on n1: its payload is another"]);
}

#[test]
fn what_a_worker_has_no_role_for_is_foreign_and_what_is_on_its_way_is_not() {
    let owner = page("n1", &ALL, &[("b", "2", 1, "x"), ("c", "1", 2, "x")]);
    let other = |role| page("n2", &[("b", "c", role)], &[("b", "2", 0, "old"), ("c", "1", 2, "x")]);
    let foreign = ["foreign c/1 on n2: n2 has no role there"];
    for role in [Role::Import, Role::Leaving, Role::Erasing, Role::Applying, Role::Rebuild] {
        check(table(), &[owner.clone(), other(role)], &[], &foreign);
    }
}

#[test]
fn what_nobody_owns_is_a_gap_and_nothing_more() {
    let held = page("n1", &[("", "c", Role::Active)], &[("b", "2", 1, "x")]);
    check(table(), &[held], &[], &[]);
}

#[test]
fn row_that_changes_meanwhile_is_left_out_whichever_version_is_held() {
    let versions = [vec![("a", "1", 0, "x")], vec![("k", "1", 5, "x")], vec![]];
    for version in versions {
        let mut entries = vec![("b", "2", 1, "x")];
        entries.extend(version);
        let held = page("n1", &ALL, &entries);
        let verdict = check(table(), &[held], &[("1", row(Some("k")))], &[]);
        assert_eq!(verdict.changing, 1);
    }
    // Of a version that the table never had, there is no such excuse.
    let held = page("n1", &ALL, &[("b", "2", 1, "x"), ("c", "1", 9, "x")]);
    check(table(), &[held], &[], &["stale c/1 on n1: it is of 0:9, and the row of 0:2"]);
}

#[test]
fn what_cannot_be_read_leaves_its_row_in_doubt_but_no_other() {
    let mut fold = table();
    fold.record((0, 5), Some(b"2".to_vec()), Said::Unreadable);
    let held = page("n1", &ALL, &[("b", "2", 1, "x"), ("c", "1", 2, "x")]);
    let verdict = check(fold, &[held], &[], &[]);
    assert_eq!(verdict.doubtful, 1);
    let mut fold = table();
    fold.record((0, 5), Some(b"2".to_vec()), Said::Nothing);
    let held = page("n1", &ALL, &[]);
    check(fold, &[held], &[], &["missing c/1 on n1: the row is of 0:2"]);
}

#[test]
fn all_are_counted_though_not_all_are_kept() {
    let rows: Vec<_> = (0..3_000).map(|n| format!("{n:04}")).collect();
    let keys: Vec<_> = rows.iter().map(|it| (it.as_str(), Some(it.as_str()))).collect();
    let mut fold = fold(&keys);
    let ends = fold.ends().clone();
    // Of the rows one third is missing, one of another version, one as it should be; and there are strangers.
    let version = |n: usize| if n % 3 == 1 { 9_999 } else { n as u64 };
    let held = (0..3_000).filter(|n| n % 3 != 0);
    let held = held.map(|n| (rows[n].as_str(), rows[n].as_str(), version(n), "x"));
    let strangers: Vec<_> = (0..1_500).map(|n| format!("s{n:04}")).collect();
    let all: Vec<_> = held.chain(strangers.iter().map(|it| ("5", it.as_str(), 1, "x"))).collect();
    let mut comparison = Comparison::default();
    comparison.page(&mut fold, &page("a", &[("", "", Role::Active)], &all));
    // One stranger is a row after all, which came later.
    fold.record((0, 3_000), Some(b"s0007".to_vec()), row(Some("5")));
    let verdict = comparison.verdict(&fold, &ends);
    let counts = Kind::ALL.map(|it| verdict.count(it));
    assert_eq!(counts, [1_000, 1_499, 1_000, 0]);
    let kept = |kind| verdict.found.iter().filter(|it| it.kind == kind).count();
    assert_eq!(Kind::ALL.map(kept), [1_000, FOUND_MAX - 1, 1_000, 0]);
    assert!(!verdict.is_clean());
}
