use schemas::assignment::{Assignment, Source};
use schemas::query_log::Op;
use schemas::{Epoch, Generation, Inbox, Key, NodeId};

use super::*;
use crate::assignment::map::{Map, Row};
use crate::web::reads::{After, Asked as AskedAs, FoundEntry, Read};

const SETTINGS: Settings = Settings {
    limits: Limits { key_bytes_max: 8, entries_max: 10 },
    ask_reads_max: 3,
    answer_bytes_max: 1_000,
    pause_ms: 10,
    pause_max_ms: 40,
    hint_after_ms: 100,
    moved_silent_ms: 50,
};

const DEADLINE: Millis = Millis(10_000);

fn key(text: &str) -> Key {
    Key(text.into())
}

/// Ranges (start, end, node, epoch), of a generation.
fn map(generation: u64, ranges: &[(&str, &str, &str, u64)]) -> Arc<Lookup> {
    let mut map = Map::default();
    for (start, end, node, epoch) in ranges {
        let assignment = Assignment {
            range_start: key(start),
            range_end: key(end),
            node: NodeId((*node).into()),
            inbox: Inbox(0),
            epoch: Epoch(*epoch),
            generation: Generation(generation),
            last: true,
            migration: None,
            source: Source::None,
            source_node: None,
            source_epoch: Epoch(0),
        };
        map.apply(&Row { start: key(start), assignment: Some(assignment) }).unwrap();
    }
    Arc::new(Lookup::new(&map, Generation(generation)))
}

/// Keys below m are n1's, the others n2's.
fn two() -> Arc<Lookup> {
    map(1, &[("", "m", "n1", 1), ("m", "", "n2", 2)])
}

fn range(start: &str, end: &str) -> What {
    What::Range { start: key(start), end: key(end), limit: None, after: None }
}

fn found(keys: &str) -> Found {
    let entry = |it: char| FoundEntry {
        index_key: key(&it.to_string()),
        primary_key: key("p"),
        partition: 0,
        offset: 1,
        payload: vec![7; 10],
    };
    Found { entries: keys.chars().map(entry).collect(), next: None, cost_us: 5 }
}

fn moved(node: &str, epoch: u64, generation: u64) -> Answer {
    let (node, epoch) = (NodeId(node.into()), Epoch(epoch));
    Answer::Moved { node, epoch, generation: Generation(generation) }
}

fn source(node: &str, epoch: u64) -> Answer {
    Answer::AskSource { node: NodeId(node.into()), epoch: Epoch(epoch) }
}

fn later(reason: Later) -> Answer {
    Answer::NotYet { reason }
}

/// A batch, and what it has asked that is not answered.
struct Tried {
    batch: Batch,
    now: Millis,
    asked: VecDeque<Ask>,
    logged: Vec<String>,
    counted: Vec<Retry>,
    given_up: Vec<AskId>,
}

impl Tried {
    fn new(map: Arc<Lookup>, reads: Vec<What>) -> Self {
        let now = Millis(1_000);
        let batch = Batch::new(SETTINGS, map, DEADLINE, reads);
        let (asked, logged, counted) = (VecDeque::new(), Vec::new(), Vec::new());
        let given_up = Vec::new();
        let mut res = Self { batch, now, asked, logged, counted, given_up };
        res.act();
        res
    }

    fn keys(map: Arc<Lookup>, keys: &[&str]) -> Self {
        Self::new(map, keys.iter().map(|it| What::Key(key(it))).collect())
    }

    fn act(&mut self) {
        while let Some(action) = self.batch.poll_action() {
            match action {
                Action::Ask(ask) => self.asked.push_back(ask),
                Action::Count(it) => self.counted.push(it),
                Action::GiveUp(ask) => self.given_up.push(ask),
                Action::Log(Query { op, key, cost_us, bytes }) => {
                    let op = if op == Op::Scan { "scan" } else { "read" };
                    self.logged.push(format!("{op} {key} {cost_us:?} {bytes}"));
                }
            }
        }
    }

    fn handle(&mut self, event: Event) -> &mut Self {
        self.batch.handle(self.now, event);
        self.act();
        self
    }

    /// Tells what was asked and not answered yet.
    fn asks(&self) -> Vec<String> {
        self.asked.iter().map(tell).collect()
    }

    /// Answers what was asked first.
    fn answer(&mut self, answers: Vec<Answer>) -> &mut Self {
        let ask = self.asked.pop_front().expect("something was asked").id;
        self.handle(Event::Answered { ask, answers })
    }

    fn fail(&mut self, why: Failure) -> &mut Self {
        let ask = self.asked.pop_front().expect("something was asked").id;
        self.handle(Event::Failed { ask, why })
    }

    /// Lets time pass until something is due; returns how long that is.
    fn wait(&mut self) -> u64 {
        let due = self.batch.poll_deadline().expect("not all is answered");
        let waited = due.0 - self.now.0;
        self.now = due;
        self.handle(Event::Tick);
        waited
    }

    fn changed(&mut self, map: Arc<Lookup>) -> &mut Self {
        self.handle(Event::MapChanged(map))
    }

    fn answers(self) -> Vec<Answer> {
        assert_eq!(self.batch.poll_deadline(), None, "all is answered");
        self.batch.answers()
    }
}

fn tell(ask: &Ask) -> String {
    let read = |it: &Read| {
        let what = match &it.what {
            What::Key(key) => key.to_string(),
            What::Range { start, end, after, .. } => match after {
                None => format!("[{start}, {end})"),
                Some(After { index_key, .. }) => format!("[{start}, {end}) after {index_key}"),
            },
        };
        let by_source = if it.asked_as == AskedAs::Source { " as source" } else { "" };
        format!("{what}@{}{by_source}", it.epoch.expect("an epoch").0)
    };
    let reads: Vec<_> = ask.reads.iter().map(read).collect();
    let hint = ask.hint.map_or(String::new(), |it| format!(" by hint of {}", it.generation.0));
    format!("{}: {}{hint}", ask.node, reads.join(" "))
}

#[test]
fn reads_of_one_worker_go_as_one_request_up_to_a_limit() {
    let tried = Tried::keys(two(), &["a", "z", "b", "c", "d"]);
    assert_eq!(tried.asks(), ["n1: a@1 b@1 c@1", "n1: d@1", "n2: z@2"]);
}

#[test]
fn answers_come_in_the_order_of_the_reads_and_are_logged() {
    let mut tried = Tried::keys(two(), &["z", "a", "123456789"]);
    assert_eq!(tried.asks(), ["n1: a@1", "n2: z@2"]);
    tried.answer(vec![Answer::Found(found("a"))]).answer(vec![Answer::Found(found(""))]);
    assert_eq!(tried.logged, ["read a Some(5) 12", "read z Some(5) 0"]);
    let too_long = Answer::Refused { reason: Refusal::KeyTooLong };
    let expected = vec![Answer::Found(found("")), Answer::Found(found("a")), too_long];
    assert_eq!(tried.answers(), expected);
}

#[test]
fn range_goes_on_across_owners_and_each_piece_is_logged_where_it_lies() {
    let mut tried = Tried::new(two(), vec![range("c", "t")]);
    assert_eq!(tried.asks(), ["n1: [c, m)@1"]);
    let next = Some(After { index_key: key("d"), primary_key: key("p") });
    tried.answer(vec![Answer::Found(Found { next, ..found("cd") })]);
    assert_eq!(tried.asks(), ["n1: [c, m) after d@1"]);
    tried.answer(vec![Answer::Found(found("e"))]);
    assert_eq!(tried.asks(), ["n2: [m, t)@2"]);
    tried.answer(vec![Answer::Found(found("n"))]);
    assert_eq!(tried.logged, ["scan c Some(5) 24", "scan c Some(5) 12", "scan m Some(5) 12"]);
    assert_eq!(tried.answers(), [Answer::Found(Found { cost_us: 15, ..found("cden") })]);
}

#[test]
fn r18_moved_read_waits_for_the_map_and_goes_by_it() {
    let mut tried = Tried::keys(two(), &["a", "b"]);
    tried.answer(vec![moved("n3", 5, 4), Answer::Found(found("b"))]);
    assert_eq!(tried.asks(), [""; 0]);
    tried.changed(map(3, &[("", "", "n4", 3)]));
    assert_eq!(tried.asks(), [""; 0], "that one is older than what was told");
    tried.changed(map(4, &[("", "", "n3", 5)]));
    assert_eq!(tried.asks(), ["n3: a@5"]);
    tried.answer(vec![Answer::Found(found("a"))]);
    assert_eq!(tried.counted, [Retry::Moved]);
    assert_eq!(tried.answers().len(), 2);
}

#[test]
fn r18_map_never_goes_back() {
    let mut tried = Tried::keys(map(4, &[("", "", "n3", 5)]), &["a"]);
    tried.changed(two()).answer(vec![later(Later::NotWhole)]).wait();
    assert_eq!(tried.asks(), ["n3: a@5"]);
}

#[test]
fn r18_hint_is_followed_once_if_the_map_does_not_come() {
    let mut tried = Tried::keys(two(), &["a"]);
    tried.answer(vec![moved("n3", 5, 4)]);
    assert_eq!(tried.wait(), SETTINGS.hint_after_ms);
    assert_eq!(tried.asks(), ["n3: a@5 by hint of 4"]);
    assert_eq!(tried.asked[0].hint, Some(Hint { by: Generation(1), generation: Generation(4) }));
    // Not kept: the next time, the owner by the map is asked.
    tried.answer(vec![later(Later::OlderMap)]).wait();
    assert_eq!(tried.asks(), ["n1: a@1"]);
    tried.answer(vec![moved("n3", 5, 4)]).wait();
    tried.fail(Failure::HintOld);
    assert_eq!(tried.asks(), ["n1: a@1"], "at once");
}

#[test]
fn r18_hint_may_lead_to_a_source() {
    let mut tried = Tried::keys(two(), &["a"]);
    tried.answer(vec![moved("n3", 5, 4)]).wait();
    tried.answer(vec![source("n1", 1)]);
    assert_eq!(tried.asks(), ["n1: a@1 as source"]);
    tried.answer(vec![Answer::Found(found("a"))]);
    assert_eq!(tried.answers(), [Answer::Found(found("a"))]);
}

#[test]
fn r18_source_is_asked_once_and_not_kept() {
    let mut tried = Tried::keys(two(), &["a", "b"]);
    tried.answer(vec![source("n3", 7), Answer::Found(found("b"))]);
    assert_eq!(tried.asks(), ["n3: a@7 as source"]);
    tried.fail(Failure::Lost).wait();
    assert_eq!(tried.asks(), ["n1: a@1"]);
    // Nor does a source lead to another.
    tried.answer(vec![source("n3", 7)]).answer(vec![source("n1", 8)]);
    assert_eq!(tried.asks(), [""; 0]);
    tried.wait();
    assert_eq!(tried.asks(), ["n1: a@1"]);
}

#[test]
fn range_goes_back_to_the_owner_for_the_piece_behind_what_a_source_gave() {
    let mut tried = Tried::new(two(), vec![range("a", "z")]);
    tried.answer(vec![source("n3", 7)]).answer(vec![Answer::Found(found("b"))]);
    assert_eq!(tried.asks(), ["n2: [m, z)@2"]);
}

#[test]
fn p9_whatever_a_worker_answers_the_read_is_asked_again() {
    let again = [
        later(Later::OlderMap),
        later(Later::NotWhole),
        later(Later::Unknown),
        later(Later::AnswerFull),
        moved("n1", 1, 1),
        moved("n3", 0, 0),
        Answer::Late,
        Answer::Refused { reason: Refusal::NoEpoch },
        Answer::Refused { reason: Refusal::Unknown },
        Answer::Found(found("b")),
    ];
    for answer in again {
        let mut tried = Tried::keys(two(), &["a"]);
        tried.answer(vec![answer.clone()]);
        assert_eq!(tried.asks(), [""; 0], "{answer:?}: not at once");
        assert_eq!((tried.wait(), tried.asks()), (10, vec!["n1: a@1".into()]), "{answer:?}");
    }
    use Failure::{Garbage, Lost, NoEndpoint, Overloaded, Refused, Unreachable};
    for why in [NoEndpoint, Unreachable, Lost, Overloaded, Refused, Garbage] {
        let mut tried = Tried::keys(two(), &["a"]);
        let waited = [(); 4].map(|()| tried.fail(why).wait());
        assert_eq!(waited, [10, 20, 40, 40], "longer and longer, up to a limit");
        assert_eq!((tried.asks(), tried.counted[0]), (vec!["n1: a@1".into()], Retry::Failed(why)));
    }
}

#[test]
fn answers_that_are_not_as_many_as_the_reads_are_none() {
    let mut tried = Tried::keys(two(), &["a", "b"]);
    tried.answer(vec![Answer::Found(found("a"))]).wait();
    assert_eq!(tried.asks(), ["n1: a@1 b@1"]);
    assert_eq!(tried.counted, [Retry::Failed(Failure::Garbage); 2]);
}

#[test]
fn worker_that_is_slow_is_not_asked_again() {
    let tried = Tried::keys(two(), &["a"]);
    assert_eq!(tried.batch.poll_deadline(), Some(DEADLINE));
}

#[test]
fn worker_that_is_no_owner_any_more_is_given_up_and_its_answer_is_none() {
    let mut tried = Tried::keys(two(), &["a", "b"]);
    tried.changed(map(2, &[("", "", "n1", 3)]));
    assert_eq!(tried.batch.poll_deadline(), Some(DEADLINE), "the same node will answer");
    tried.changed(map(3, &[("", "b", "n3", 4), ("b", "", "n1", 3)]));
    let first = tried.asked.pop_front().unwrap().id;
    assert_eq!(tried.wait(), SETTINGS.moved_silent_ms);
    assert_eq!((tried.asks(), &tried.given_up[..]), (vec!["n3: a@4".into()], &[][..]));
    // The other read has its answer from there.
    tried.changed(map(4, &[("", "", "n3", 5)])).wait();
    assert_eq!(tried.given_up, [first]);
    let answers = vec![Answer::Found(found("a")), Answer::Found(found("b"))];
    tried.handle(Event::Answered { ask: first, answers });
    tried.answer(vec![Answer::Found(found(""))]).answer(vec![Answer::Found(found(""))]);
    assert_eq!(tried.answers(), [Answer::Found(found("")), Answer::Found(found(""))]);
}

#[test]
fn answer_of_who_was_given_up_counts_only_for_reads_that_still_wait_for_it() {
    let mut tried = Tried::keys(two(), &["a", "b"]);
    tried.changed(map(3, &[("", "b", "n3", 4), ("b", "", "n1", 3)]));
    let first = tried.asked.pop_front().unwrap().id;
    tried.wait();
    let answers = vec![Answer::Found(found("a")), Answer::Found(found("b"))];
    tried.handle(Event::Answered { ask: first, answers });
    assert_eq!(tried.logged, ["read b Some(5) 12"]);
    tried.answer(vec![Answer::Found(found(""))]);
    assert_eq!(tried.answers(), [Answer::Found(found("")), Answer::Found(found("b"))]);
}

#[test]
fn pause_ends_when_the_map_has_another_owner() {
    let mut tried = Tried::keys(two(), &["a", "z"]);
    tried.fail(Failure::Unreachable).fail(Failure::Unreachable);
    tried.changed(map(2, &[("", "m", "n3", 3), ("m", "", "n2", 2)]));
    assert_eq!(tried.asks(), ["n3: a@3"]);
}

#[test]
fn moved_by_the_map_that_has_just_come_is_asked_by_it_at_once() {
    let mut tried = Tried::keys(two(), &["a"]);
    tried.changed(map(2, &[("", "", "n3", 3)])).answer(vec![moved("n3", 3, 2)]);
    assert_eq!(tried.asks(), ["n3: a@3"]);
}

#[test]
fn key_without_an_owner_waits_for_a_map() {
    let mut tried = Tried::keys(Arc::new(Lookup::default()), &["a"]);
    assert_eq!(tried.asks(), [""; 0]);
    assert_eq!(tried.batch.poll_deadline(), Some(DEADLINE));
    tried.changed(map(1, &[("b", "", "n1", 1)]));
    assert_eq!(tried.asks(), [""; 0]);
    tried.changed(map(2, &[("", "", "n1", 1)]));
    assert_eq!(tried.asks(), ["n1: a@1"]);
}

#[test]
fn at_the_deadline_a_read_is_late_or_says_how_far_it_came() {
    let mut tried = Tried::new(two(), vec![What::Key(key("a")), range("b", "")]);
    tried.answer(vec![later(Later::NotWhole), Answer::Found(found("bc"))]);
    tried.logged.clear();
    tried.now = DEADLINE;
    tried.handle(Event::Tick);
    assert_eq!(tried.logged, ["read a None 0", "scan m None 0"]);
    let next = Some(After { index_key: key("c"), primary_key: key("p") });
    assert_eq!(tried.answers(), [Answer::Late, Answer::Found(Found { next, ..found("bc") })]);
}

#[test]
fn reads_that_found_the_answer_full_are_asked_again_at_once_if_others_went_on() {
    let mut tried = Tried::keys(two(), &["a", "b"]);
    tried.answer(vec![Answer::Found(found("a")), later(Later::AnswerFull)]);
    assert_eq!(tried.asks(), ["n1: b@1"]);
    // But not of a source twice.
    let mut tried = Tried::keys(two(), &["a", "b"]);
    tried.answer(vec![source("n3", 7), source("n3", 7)]);
    tried.answer(vec![Answer::Found(found("a")), later(Later::AnswerFull)]);
    assert_eq!(tried.asks(), ["n1: b@1"]);
}

#[test]
fn worker_that_takes_smaller_batches_gets_them() {
    let mut tried = Tried::keys(two(), &["a", "b", "c"]);
    tried.answer(vec![Answer::Refused { reason: Refusal::BatchTooLarge }; 3]).wait();
    assert_eq!(tried.asks(), ["n1: a@1", "n1: b@1", "n1: c@1"]);
}

#[test]
fn batch_ends_when_its_answers_take_all_that_they_may() {
    let mut tried =
        Tried::new(two(), vec![range("", ""), What::Key(key("a")), What::Key(key("z"))]);
    let large = |keys: &str| {
        let mut it = found(keys);
        it.entries.iter_mut().for_each(|it| it.payload = vec![1; 600]);
        it
    };
    tried.answer(vec![Answer::Found(large("bc")), Answer::Found(found("a"))]);
    let next = Some(After { index_key: key("c"), primary_key: key("p") });
    let first = Answer::Found(Found { next, ..large("bc") });
    assert_eq!(tried.answers(), [first, Answer::Found(found("a")), later(Later::AnswerFull)]);
}

/// Workers that answer anything, and maps that come at any time: every read ends by its deadline, and
/// what was found is what the last worker said, whoever was asked.
#[test]
fn every_batch_ends_whatever_happens() {
    use rand::{Rng, SeedableRng};
    let mut found_any = 0;
    for seed in 0..3_000 {
        println!("seed {seed}");
        let mut rng = rand_pcg::Pcg64::seed_from_u64(seed);
        let mut tried =
            Tried::new(two(), vec![What::Key(key("a")), range("b", ""), range("", "c")]);
        let mut generation = 1;
        for _ in 0..3_000 {
            if tried.batch.poll_deadline().is_none() {
                break;
            }
            match rng.random_range(0..10) {
                0 => {
                    generation += 1;
                    let node = ["n1", "n2", "n3"][rng.random_range(0..3)];
                    let middle = ["b", "k", "x"][rng.random_range(0..3)];
                    let [a, b] = [("", middle, node, generation), (middle, "", "n1", generation)];
                    tried.changed(map(generation, &[a, b]));
                }
                1..3 => _ = tried.wait(),
                _ if tried.asked.is_empty() => _ = tried.wait(),
                3 => _ = tried.fail([Failure::Lost, Failure::Silent][rng.random_range(0..2)]),
                _ => {
                    let reads = tried.asked[0].reads.clone();
                    let answer = |_: &Read| match rng.random_range(0..9) {
                        0 => moved("n3", generation + 1, generation + rng.random_range(0..2)),
                        1 => source("n2", 1),
                        2 => later(Later::NotWhole),
                        3 => later(Later::AnswerFull),
                        4 => Answer::Late,
                        5 => Answer::Refused { reason: Refusal::BatchTooLarge },
                        6 => Answer::Found(found("m")),
                        7 => Answer::Found(found("a")),
                        _ => Answer::Found(found("")),
                    };
                    let answers = reads.iter().map(answer).collect();
                    tried.answer(answers);
                }
            }
        }
        for answer in tried.answers() {
            match answer {
                Answer::Found(_) => found_any += 1,
                Answer::Late | Answer::NotYet { reason: Later::AnswerFull } => (),
                other @ (Answer::Moved { .. }
                | Answer::AskSource { .. }
                | Answer::NotYet { .. }
                | Answer::Refused { .. }) => panic!("a client is told {other:?}"),
            }
        }
    }
    assert!(found_any > 3_000, "{found_any}");
}
