use rand::{Rng, SeedableRng};
use rand_pcg::Pcg64;

use super::*;
use crate::assignment::map::Applied;

fn key(text: &str) -> Key {
    Key(text.as_bytes().to_vec())
}

fn span(start: &str, end: &str) -> KeySpan {
    KeySpan { start: key(start), end: key(end) }
}

fn owner(n: u32) -> Owner {
    Owner { node: NodeId(format!("n{n}")), inbox: Inbox(n) }
}

fn take(map: &mut Map, rows: &[Row]) {
    for row in rows {
        map.apply(row).unwrap_or_else(|refused| panic!("{refused}"));
    }
}

/// Three ranges on n0, n0 and n1.
fn three() -> Map {
    let mut map = Map::default();
    let spans = [(span("", "f"), 0), (span("f", "m"), 0), (span("m", ""), 1)];
    let born = spans.map(|(span, n)| Born { span, owner: owner(n), migration: MigrationId(9) });
    let rows = birth(&map, &born).unwrap();
    take(&mut map, &rows);
    map
}

/// Tells rows in one line each.
fn told(rows: &[Row]) -> Vec<String> {
    let tell = |row: &Row| match &row.assignment {
        None => format!("{} ended", row.start),
        Some(it) => {
            let last = if it.last { " last" } else { "" };
            let node = it.source_node.as_ref().map_or(String::new(), |node| format!(" {node}"));
            format!(
                "{} {} epoch {} from {:?}{node} {} generation {}{last}",
                span_of(it),
                it.node,
                it.epoch.0,
                it.source,
                it.source_epoch.0,
                it.generation.0
            )
        }
    };
    rows.iter().map(tell).collect()
}

#[test]
fn r25_birth_gives_every_range_from_the_table() {
    let map = three();
    assert_eq!(map.tiles(), Ok(()));
    assert_eq!(map.generation(), Generation(1));
    assert!(map.iter().all(|it| it.source == Source::Table && it.epoch == Epoch(1)));
    let gap = [Born { span: span("a", ""), owner: owner(0), migration: MigrationId(1) }];
    assert!(birth(&Map::default(), &gap).is_err(), "a birth that does not tile is refused");
}

#[test]
fn split_join_and_move_in_one_generation() {
    let map = three();
    let mut draft = Draft::new(&map);
    draft.join(&span("", "m")).unwrap();
    draft.split(&span("m", ""), &[key("q"), key("t")]).unwrap();
    let rows = draft.finish();
    assert_eq!(
        told(&rows),
        [
            "f ended",
            "[-, m) n0 epoch 2 from None 1 generation 2",
            "[m, q) n1 epoch 2 from None 1 generation 2",
            "[q, t) n1 epoch 2 from None 1 generation 2",
            "[t, -) n1 epoch 2 from None 1 generation 2 last",
        ]
    );
    let mut next = map.clone();
    take(&mut next, &rows);
    let mut draft = Draft::new(&next);
    draft.commit(&span("q", "t"), &owner(0), MigrationId(12)).unwrap();
    assert_eq!(told(&draft.finish()), ["[q, t) n0 epoch 3 from Node n1 2 generation 3 last"]);
}

#[test]
fn r19_joined_epoch_is_above_the_greatest_parent() {
    let mut map = three();
    let mut draft = Draft::new(&map);
    draft.commit(&span("f", "m"), &owner(1), MigrationId(3)).unwrap();
    let rows = draft.finish();
    take(&mut map, &rows);
    let mut draft = Draft::new(&map);
    draft.join(&span("f", "")).unwrap();
    assert_eq!(
        told(&draft.finish()),
        ["m ended", "[f, -) n1 epoch 3 from None 2 generation 3 last"]
    );
}

#[test]
fn changes_that_do_not_fit_are_refused_and_leave_the_draft_alone() {
    let map = three();
    let mut draft = Draft::new(&map);
    let at = |text: &str| [key(text)];
    assert!(matches!(draft.split(&span("a", "f"), &at("b")), Err(Unfit::NotARange(_))));
    assert!(matches!(draft.split(&span("f", "m"), &at("m")), Err(Unfit::NotACut { .. })));
    assert!(matches!(draft.split(&span("f", "m"), &at("f")), Err(Unfit::NotACut { .. })));
    assert!(matches!(draft.split(&span("f", "m"), &[]), Err(Unfit::NotACut { .. })));
    let descending = [key("k"), key("h")];
    assert!(matches!(draft.split(&span("f", "m"), &descending), Err(Unfit::NotACut { .. })));
    assert!(matches!(draft.join(&span("f", "m")), Err(Unfit::NotARun(_))));
    assert!(matches!(draft.join(&span("", "h")), Err(Unfit::NotARun(_))));
    assert!(matches!(draft.join(&span("f", "")), Err(Unfit::NotOneOwner(_))));
    let same = draft.commit(&span("f", "m"), &owner(0), MigrationId(1));
    assert!(matches!(same, Err(Unfit::AlreadyThere { .. })));
    assert!(draft.is_empty());

    draft.split(&span("f", "m"), &at("h")).unwrap();
    assert!(matches!(draft.join(&span("", "m")), Err(Unfit::ChangedAlready(_))));
    assert!(matches!(draft.split(&span("f", "m"), &at("k")), Err(Unfit::ChangedAlready(_))));
    draft.split(&span("m", ""), &at("t")).unwrap();
    assert_eq!(draft.finish().len(), 4);
}

/// Walks 300 seeds of splits, joins and moves, and holds after each generation three readers against
/// the writer: one that reads all, one that reads what an arbitrary compaction has left, and one that
/// was away.
#[test]
fn every_reader_ends_with_the_map_of_the_writer() {
    let mut changes = [0; 3];
    for seed in 0..300 {
        let mut rng = Pcg64::seed_from_u64(seed);
        let mut writer = three();
        let mut topic: Vec<Row> = Vec::new();
        topic.extend(rows_of(&writer));
        let (mut laggard, mut laggard_at) = (Map::default(), 0);
        for step in 0..30 {
            let rows = random_generation(&mut rng, &writer, &mut changes);
            assert!(
                rows.iter()
                    .rev()
                    .skip(1)
                    .all(|it| it.assignment.as_ref().is_none_or(|it| !it.last))
            );
            let records = rows.iter().position(|it| it.assignment.is_some()).unwrap_or(0);
            assert!(rows[records..].iter().all(|it| it.assignment.is_some()), "tombstones first");
            for row in &rows {
                let applied = writer.apply(row).unwrap();
                assert_ne!(applied, Applied::Known, "seed {seed}: only what changes is written");
            }
            topic.extend(rows);
            assert_eq!(writer.tiles(), Ok(()), "seed {seed} step {step}");

            let mut reader = Map::default();
            take(&mut reader, &topic);
            assert_eq!(reader, writer, "seed {seed} step {step}: reader of everything");

            let mut newcomer = Map::default();
            take(&mut newcomer, &compacted(&mut rng, &topic));
            assert_eq!(newcomer, writer, "seed {seed} step {step}: reader of the compacted topic");

            if rng.random_ratio(1, 5) {
                take(&mut laggard, &compacted(&mut rng, &topic[laggard_at..]));
                laggard_at = topic.len();
                assert_eq!(laggard, writer, "seed {seed} step {step}: reader that was away");
            }
        }
    }
    assert!(changes.iter().all(|n| 500 < *n), "all kinds of change were tried: {changes:?}");
}

/// What a birth wrote, again.
fn rows_of(map: &Map) -> Vec<Row> {
    let row = |it: &Assignment| Row { start: it.range_start.clone(), assignment: Some(it.clone()) };
    map.iter().map(row).collect()
}

/// A topic after a compaction that kept any of the superseded records and any of the tombstones.
fn compacted(rng: &mut Pcg64, topic: &[Row]) -> Vec<Row> {
    let newest: BTreeMap<&Key, usize> =
        topic.iter().enumerate().map(|(at, row)| (&row.start, at)).collect();
    let kept = [1, 4, 8][rng.random_range(0..3)];
    let mut stays = |(at, row): &(usize, &Row)| {
        let stands = newest[&row.start] == *at && row.assignment.is_some();
        stands || rng.random_ratio(1, kept)
    };
    topic.iter().enumerate().filter(|it| stays(it)).map(|(_, row)| row.clone()).collect()
}

/// A generation of one to four random changes.
fn random_generation(rng: &mut Pcg64, map: &Map, changes: &mut [usize; 3]) -> Vec<Row> {
    let mut draft = Draft::new(map);
    let ranges: Vec<Assignment> = map.iter().cloned().collect();
    for _ in 0..rng.random_range(1..5) {
        let at = rng.random_range(0..ranges.len());
        let span = span_of(&ranges[at]);
        let kind = rng.random_range(0..3);
        let done = match kind {
            0 => {
                let mut cuts: Vec<Key> = (0..rng.random_range(1..4))
                    .map(|_| {
                        Key(vec![rng.random_range(b'a'..=b'z'), rng.random_range(b'a'..=b'z')])
                    })
                    .filter(|cut| span.start < *cut && span.contains(&cut.0))
                    .collect();
                cuts.sort();
                cuts.dedup();
                draft.split(&span, &cuts)
            }
            1 => {
                let until = (at + rng.random_range(1..4)).min(ranges.len() - 1);
                let end = ranges[until].range_end.clone();
                draft.join(&KeySpan { start: span.start, end })
            }
            _ => draft.commit(&span, &owner(rng.random_range(0..3)), MigrationId(1)),
        };
        changes[kind] += usize::from(done.is_ok());
    }
    draft.finish()
}

#[test]
fn r24_range_that_is_built_again_stays_where_it_is() {
    let map = three();
    let mut draft = Draft::new(&map);
    let elsewhere = draft.rebuild(&span("f", "m"), &owner(1), MigrationId(4));
    assert!(matches!(elsewhere, Err(Unfit::NotOneOwner(_))));
    draft.rebuild(&span("f", "m"), &owner(0), MigrationId(4)).unwrap();
    let twice = draft.rebuild(&span("f", "m"), &owner(0), MigrationId(5));
    assert!(matches!(twice, Err(Unfit::ChangedAlready(_))));
    assert_eq!(told(&draft.finish()), ["[f, m) n0 epoch 2 from Table 1 generation 2 last"]);
}
