use super::*;
use crate::store::memory::{MemorySnapshot, MemoryStore};
use crate::store::{Store, Write};

const LIMITS: Limits = Limits {
    reads_max: 3,
    key_bytes_max: 8,
    entries_max: 100,
    looked_at_max: 1000,
    answer_bytes_max: 100_000,
};

fn key(text: &str) -> Key {
    Key(text.into())
}

fn node(name: &str) -> NodeId {
    NodeId(name.into())
}

fn span(start: &str, end: &str) -> KeySpan {
    KeySpan { start: key(start), end: key(end) }
}

fn part(span: KeySpan, owner: &str, epoch: u64, serves: Serves) -> Part {
    Part { span, owner: node(owner), epoch: Epoch(epoch), serves }
}

fn frozen(epoch: u64) -> Serves {
    Serves::ReadsAsSource { frozen: Epoch(epoch) }
}

fn by_source(name: &str, epoch: u64) -> Serves {
    Serves::BySource { node: node(name), epoch: Epoch(epoch) }
}

fn entry(index: &str, primary: &str, payload: Option<&str>) -> Entry {
    Entry {
        index_key: key(index),
        primary_key: key(primary),
        partition: 2,
        offset: 7,
        payload: payload.map(|it| it.as_bytes().to_vec()),
    }
}

fn snapshot(entries: &[Entry]) -> MemorySnapshot {
    let mut store = MemoryStore::default();
    store.stage(entries.iter().cloned().map(Write::Put).collect()).unwrap();
    store.commit(vec![]).unwrap();
    store.snapshot()
}

/// Node n1 at generation 9, with three entries, and a tombstone among them.
fn serving(parts: Vec<Part>) -> Serving<MemorySnapshot> {
    let snapshot = snapshot(&[
        entry("b", "1", Some("x")),
        entry("b", "2", None),
        entry("b", "3", Some("y")),
        entry("c", "1", Some("z")),
    ]);
    Serving { view: Arc::new(View::new(node("n1"), Generation(9), parts)), snapshot }
}

/// All keys in one part.
fn whole(owner: &str, epoch: u64, serves: Serves) -> Serving<MemorySnapshot> {
    serving(vec![part(KeySpan::all(), owner, epoch, serves)])
}

fn range(start: &str, end: &str, limit: Option<u32>) -> What {
    What::Range { start: key(start), end: key(end), limit, after: None }
}

fn read(what: What, epoch: u64) -> Read {
    Read { what, epoch: Some(Epoch(epoch)), asked_as: Asked::Owner }
}

fn tell(served: &Served) -> String {
    let keys = |(index, primary): (&Key, &Key)| format!("{index}{primary}");
    match served {
        Served::Found { entries, next } => {
            let found = entries.iter().map(|it| keys((&it.index_key, &it.primary_key)));
            let next =
                next.iter().map(|it| format!("> {}", keys((&it.index_key, &it.primary_key))));
            found.chain(next).collect::<Vec<_>>().join(" ")
        }
        Served::Not(Answer::Moved { node, epoch, generation }) => {
            format!("moved to {node} at {} by {}", epoch.0, generation.0)
        }
        Served::Not(Answer::AskSource { node, epoch }) => format!("ask {node} at {}", epoch.0),
        Served::Not(Answer::NotYet { reason }) => format!("not yet: {reason:?}"),
        Served::Not(Answer::Refused { reason }) => format!("refused: {reason:?}"),
        Served::Not(Answer::Found(_) | Answer::Late) => panic!("not given here: {served:?}"),
    }
}

#[track_caller]
fn check_read(serving: &Serving<MemorySnapshot>, read: &Read, limits: &Limits, expected: &str) {
    let mut budget = limits.budget(1).unwrap();
    assert_eq!(tell(&serving.read(read, limits, &mut budget).unwrap()), expected);
}

/// Asks for key b at an epoch.
#[track_caller]
fn check(serving: &Serving<MemorySnapshot>, asked_as: Asked, epoch: u64, expected: &str) {
    let read = Read { asked_as, ..read(What::Key(key("b")), epoch) };
    check_read(serving, &read, &LIMITS, expected);
}

#[test]
fn r18_active_serves_at_exactly_its_epoch() {
    let serving = whole("n1", 5, Serves::Reads);
    check(&serving, Asked::Owner, 5, "b1 b3");
    check(&serving, Asked::Owner, 4, "moved to n1 at 5 by 9");
    check(&serving, Asked::Owner, 6, "not yet: OlderMap");
}

#[test]
fn r18_worker_that_knows_more_refuses_with_owner_and_epoch() {
    let serving = whole("n2", 5, Serves::Nothing);
    check(&serving, Asked::Owner, 4, "moved to n2 at 5 by 9");
    check(&serving, Asked::Owner, 5, "moved to n2 at 5 by 9");
}

#[test]
fn r18_worker_that_knows_less_says_not_yet_whatever_it_serves() {
    let all = [Serves::Reads, frozen(4), by_source("n2", 4), Serves::Later, Serves::Nothing];
    for serves in all {
        for asked_as in [Asked::Owner, Asked::Source] {
            check(&whole("n1", 5, serves.clone()), asked_as, 6, "not yet: OlderMap");
        }
    }
}

#[test]
fn r18_worker_without_a_map_says_not_yet() {
    let serving = serving(vec![]);
    check(&serving, Asked::Owner, 1, "not yet: OlderMap");
}

#[test]
fn r18_import_and_applying_at_that_epoch_name_the_source_and_its_epoch() {
    let serving = whole("n1", 5, by_source("n2", 4));
    check(&serving, Asked::Owner, 5, "ask n2 at 4");
    check(&serving, Asked::Owner, 4, "moved to n1 at 5 by 9");
}

#[test]
fn r18_source_that_has_not_read_the_commit_serves_both_the_old_router_and_the_sent_one() {
    let serving = whole("n1", 4, Serves::Reads);
    check(&serving, Asked::Source, 4, "b1 b3");
    check(&serving, Asked::Owner, 4, "b1 b3");
}

#[test]
fn r18_leaving_serves_only_who_was_sent_by_the_new_owner_at_the_frozen_epoch() {
    let serving = whole("n2", 5, frozen(4));
    check(&serving, Asked::Source, 4, "b1 b3");
    // By an old map: it is told of the new owner, though the entries are still here.
    check(&serving, Asked::Owner, 4, "moved to n2 at 5 by 9");
    check(&serving, Asked::Owner, 5, "moved to n2 at 5 by 9");
    check(&serving, Asked::Source, 5, "moved to n2 at 5 by 9");
    check(&serving, Asked::Source, 3, "moved to n2 at 5 by 9");
}

#[test]
fn r18_source_that_has_dropped_the_range_sends_the_router_back_to_the_map() {
    let serving = whole("n2", 5, Serves::Nothing);
    check(&serving, Asked::Source, 4, "moved to n2 at 5 by 9");
}

#[test]
fn r18_range_that_came_back_is_not_served_at_the_epoch_before_it_left() {
    // It left at 4, was at n2 at 5, and is here again at 6.
    let serving = whole("n1", 6, Serves::Reads);
    check(&serving, Asked::Owner, 4, "moved to n1 at 6 by 9");
    check(&serving, Asked::Source, 4, "moved to n1 at 6 by 9");
}

#[test]
fn r18_worker_that_waits_for_a_source_is_none_itself() {
    let serving = whole("n1", 5, by_source("n2", 4));
    check(&serving, Asked::Source, 5, "not yet: NotWhole");
}

#[test]
fn r18_rebuild_says_not_yet() {
    let serving = whole("n1", 5, Serves::Later);
    check(&serving, Asked::Owner, 5, "not yet: NotWhole");
    check(&serving, Asked::Source, 5, "not yet: NotWhole");
    check(&serving, Asked::Owner, 4, "moved to n1 at 5 by 9");
}

#[test]
fn r18_owner_whose_role_is_not_as_its_map_yet_does_not_name_itself_as_another() {
    let serving = whole("n1", 5, Serves::Nothing);
    check(&serving, Asked::Owner, 5, "not yet: OlderMap");
}

#[test]
fn r18_read_that_names_no_epoch_is_refused() {
    let read = Read { epoch: None, ..read(What::Key(key("b")), 0) };
    check_read(&whole("n1", 5, Serves::Reads), &read, &LIMITS, "refused: NoEpoch");
}

#[test]
fn r18_interval_is_served_only_if_all_of_it_is() {
    let serving = serving(vec![
        part(span("", "c"), "n1", 5, Serves::Reads),
        part(span("c", "f"), "n2", 6, frozen(5)),
        part(span("f", "h"), "n1", 5, Serves::Reads),
        // A gap up to j.
        part(span("j", ""), "n1", 5, Serves::Reads),
    ]);
    let check = |start: &str, end: &str, expected: &str| {
        check_read(&serving, &read(range(start, end, None), 5), &LIMITS, expected);
    };
    check("a", "c", "b1 b3");
    check("a", "c1", "moved to n2 at 6 by 9");
    check("", "", "moved to n2 at 6 by 9");
    check("f", "h", "");
    check("f", "i", "not yet: OlderMap");
    check("h", "j", "not yet: OlderMap");
    check("k", "", "");
}

#[test]
fn r18_interval_goes_on_at_the_epochs_of_what_is_left_of_it() {
    let serving = serving(vec![
        part(span("", "c"), "n2", 6, Serves::Nothing),
        part(span("c", ""), "n1", 5, Serves::Reads),
    ]);
    let what = |after: &str| What::Range {
        start: key("a"),
        end: key(""),
        limit: None,
        after: Some(After { index_key: key(after), primary_key: key("0") }),
    };
    check_read(&serving, &read(what("c"), 5), &LIMITS, "c1");
    check_read(&serving, &read(what("b"), 5), &LIMITS, "moved to n2 at 6 by 9");
}

#[test]
fn parts_that_tile_in_pieces_of_one_epoch_are_served_as_one() {
    let parts = [("", "b"), ("b", "c"), ("c", "")];
    let parts = parts.map(|(start, end)| part(span(start, end), "n1", 5, Serves::Reads));
    check_read(&serving(parts.to_vec()), &read(range("", "", None), 5), &LIMITS, "b1 b3 c1");
}

#[test]
fn read_of_a_key_finds_all_its_entries_and_none_of_another() {
    let entries = [
        entry("a", "b", Some("x")),
        entry("b", "", Some("x")),
        entry("b", "1", Some("x")),
        entry("b\0", "1", Some("x")),
        entry("ba", "1", Some("x")),
    ];
    let view = whole("n1", 5, Serves::Reads).view;
    let serving = Serving { view, snapshot: snapshot(&entries) };
    check_read(&serving, &read(What::Key(key("b")), 5), &LIMITS, "b- b1");
    check_read(&serving, &read(What::Key(key("z")), 5), &LIMITS, "");
    check_read(&serving, &read(What::Key(key("")), 5), &LIMITS, "");
}

/// Follows an answer to its end, and returns all entries and the number of answers.
fn follow(serving: &Serving<MemorySnapshot>, limits: &Limits, limit: Option<u32>) -> (String, u32) {
    let mut after = None;
    let mut found = Vec::new();
    for answers in 1..100 {
        let what = What::Range { start: key("a"), end: key(""), limit, after };
        let mut budget = limits.budget(1).unwrap();
        let served = serving.read(&read(what, 5), limits, &mut budget).unwrap();
        let Served::Found { entries, next } = served else { panic!("{served:?}") };
        let told = Served::Found { entries, next: None };
        found.push(tell(&told));
        let Some(EntryKey { index_key, primary_key }) = next else {
            found.retain(|it| !it.is_empty());
            return (found.join(" "), answers);
        };
        after = Some(After { index_key, primary_key });
    }
    panic!("the answers do not end");
}

#[test]
fn range_goes_on_behind_an_answer_and_misses_and_repeats_nothing() {
    let serving = whole("n1", 5, Serves::Reads);
    let all = "b1 b3 c1".to_owned();
    assert_eq!(follow(&serving, &LIMITS, None), (all.clone(), 1));
    assert_eq!(follow(&serving, &LIMITS, Some(1)), (all.clone(), 3));
    assert_eq!(follow(&serving, &LIMITS, Some(2)), (all.clone(), 2));
    assert_eq!(follow(&serving, &LIMITS, Some(u32::MAX)), (all.clone(), 1));
    let limits = Limits { entries_max: 1, ..LIMITS };
    assert_eq!(follow(&serving, &limits, Some(50)), (all.clone(), 3), "the lesser limit holds");
    // One entry at least, though it is beyond the limit.
    let limits = Limits { answer_bytes_max: 1, ..LIMITS };
    assert_eq!(follow(&serving, &limits, None), (all.clone(), 3));
    let limits = Limits { looked_at_max: 1, ..LIMITS };
    assert_eq!(follow(&serving, &limits, None), (all, 4), "a tombstone is looked at, too");
}

#[test]
fn entries_found_are_bounded_by_bytes_of_keys_payload_and_overhead() {
    let serving = whole("n1", 5, Serves::Reads);
    let bytes = |bytes: usize| Limits { answer_bytes_max: bytes, ..LIMITS };
    let of_one = "b".len() + "1".len() + "x".len() + ENTRY_BYTES;
    let read = read(range("a", "", None), 5);
    check_read(&serving, &read, &bytes(of_one), "b1 > b1");
    check_read(&serving, &read, &bytes(of_one + 1), "b1 b3 > b3");
    check_read(&serving, &read, &bytes(2 * of_one), "b1 b3 > b3");
    check_read(&serving, &read, &bytes(3 * of_one), "b1 b3 c1");
}

#[test]
fn batch_shares_one_budget_and_its_first_read_is_always_answered() {
    let serving = whole("n1", 5, Serves::Reads);
    let limits = Limits { answer_bytes_max: 2 * ENTRY_BYTES, ..LIMITS };
    let mut budget = limits.budget(3).unwrap();
    let told = ["b", "c", "b"]
        .map(|it| tell(&serving.read(&read(What::Key(key(it)), 5), &limits, &mut budget).unwrap()));
    assert_eq!(told, ["b1 b3", "not yet: AnswerFull", "not yet: AnswerFull"]);
    // A hint costs nothing.
    let moved = serving.read(&read(What::Key(key("b")), 4), &limits, &mut budget).unwrap();
    assert_eq!(tell(&moved), "moved to n1 at 5 by 9");
}

#[test]
fn batch_of_too_many_reads_is_refused() {
    assert_eq!(LIMITS.budget(4).unwrap_err(), Refusal::BatchTooLarge);
    assert!(LIMITS.budget(3).is_ok());
}

#[test]
fn reads_that_make_no_sense_are_refused_by_reason() {
    let serving = whole("n1", 5, Serves::Reads);
    let check = |what: What, expected: &str| {
        check_read(&serving, &read(what, 5), &LIMITS, &format!("refused: {expected}"));
    };
    let long = "k".repeat(9);
    check(What::Key(key(&long)), "KeyTooLong");
    check(range(&long, "", None), "KeyTooLong");
    check(range("", &long, None), "KeyTooLong");
    check(range("b", "b", None), "EmptyInterval");
    check(range("b", "a", None), "EmptyInterval");
    check(range("a", "b", Some(0)), "NoEntries");
    for index_key in ["a", "c"] {
        let after = After { index_key: key(index_key), primary_key: key("") };
        let what = What::Range { start: key("b"), end: key("c"), limit: None, after: Some(after) };
        check(what, "AfterOutside");
    }
}

#[test]
fn answer_has_versions_and_cost_and_no_tombstones() {
    let serving = whole("n1", 5, Serves::Reads);
    let limits = Limits { entries_max: 1, ..LIMITS };
    let mut budget = limits.budget(1).unwrap();
    let served = serving.read(&read(What::Key(key("b")), 5), &limits, &mut budget).unwrap();
    let json = serde_json::to_string(&served.answer(42)).unwrap();
    assert_eq!(
        json,
        r#"{"found":{"entries":[{"index_key":"b","primary_key":"1","partition":2,"offset":7,"payload":"eA=="}],"next":{"index_key":"b","primary_key":"1"},"cost_us":42}}"#
    );
}
