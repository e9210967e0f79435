use expect_test::{Expect, expect};
use rand::{Rng, SeedableRng};
use rand_pcg::Pcg64;

use super::*;

const SETTINGS: Settings = Settings {
    routers: 2,
    deadline_us: 1_000,
    patience_us: 300,
    pause_us: 10,
    pause_max_us: 40,
    avoided_us: 200,
    under_way_max: 3,
};

fn due(key: u64, due: u64) -> Event {
    Event::Due { key, due: Micros(due) }
}

fn answered(read: u64, attempt: u32) -> Event {
    Event::Answered { ask: AskId { read, attempt }, found: true }
}

fn unanswered(read: u64, attempt: u32, reason: Reason) -> Event {
    Event::Unanswered { ask: AskId { read, attempt }, reason }
}

/// What is done at each event, and at each moment that the machine wants to look at until then.
fn check(settings: Settings, events: &[(u64, Event)], expected: Expect) {
    let mut reads = Reads::new(settings);
    let mut told = String::new();
    let mut handle = |reads: &mut Reads, now: u64, event| {
        reads.handle(Micros(now), event);
        while let Some(action) = reads.poll_action() {
            let text = match action {
                Action::Ask { ask, router, key, within_us } => {
                    let AskId { read, attempt } = ask;
                    format!(
                        "ask router {router} for key {key} as {read}.{attempt} within {within_us}"
                    )
                }
                Action::GiveUp(AskId { read, attempt }) => format!("give up {read}.{attempt}"),
                Action::Repeat(reason) => format!("repeat {}", reason.name()),
                Action::End { read, outcome, latency_us } => {
                    format!("{read}: {outcome:?} after {latency_us}")
                }
            };
            told.push_str(&format!("{now:<5} {text}\n"));
        }
    };
    for (now, event) in events {
        while let Some(Micros(at)) = reads.poll_deadline().filter(|it| it.0 < *now) {
            handle(&mut reads, at, Event::Tick);
        }
        handle(&mut reads, *now, *event);
    }
    expected.assert_eq(&told);
}

#[test]
fn reads_go_to_the_routers_in_turn() {
    check(
        SETTINGS,
        &[(5, due(7, 3)), (6, due(8, 6)), (7, answered(1, 0)), (8, answered(0, 0)), (9, due(9, 9))],
        expect![[r#"
            5     ask router 0 for key 7 as 0.0 within 300
            6     ask router 1 for key 8 as 1.0 within 300
            7     1: Answered { repeated: false, found: true } after 1
            8     0: Answered { repeated: false, found: true } after 5
            9     ask router 0 for key 9 as 2.0 within 300
        "#]],
    );
}

#[test]
fn read_that_is_not_answered_is_asked_of_the_other_at_once_and_then_after_pauses_that_double() {
    check(
        SETTINGS,
        &[
            (0, due(7, 0)),
            (10, unanswered(0, 0, Reason::Busy)),
            (20, unanswered(0, 1, Reason::Busy)),
            // It pauses.
            (29, Event::Tick),
            (40, unanswered(0, 2, Reason::Late)),
            (70, unanswered(0, 3, Reason::Refused)),
            (120, unanswered(0, 4, Reason::Garbage)),
            (170, answered(0, 5)),
        ],
        expect![[r#"
            0     ask router 0 for key 7 as 0.0 within 300
            10    repeat busy
            10    ask router 1 for key 7 as 0.1 within 300
            30    repeat busy
            30    ask router 0 for key 7 as 0.2 within 300
            60    repeat late
            60    ask router 1 for key 7 as 0.3 within 300
            110   repeat refused
            110   ask router 0 for key 7 as 0.4 within 300
            160   repeat garbage
            160   ask router 1 for key 7 as 0.5 within 300
            170   0: Answered { repeated: true, found: true } after 170
        "#]],
    );
}

#[test]
fn router_that_tells_nothing_is_given_up_and_avoided_for_a_while() {
    check(
        SETTINGS,
        &[
            (0, due(7, 0)),
            // What comes for a request that was given up changes nothing.
            (301, answered(0, 0)),
            (302, unanswered(0, 0, Reason::Lost)),
            (310, answered(0, 1)),
            (320, due(8, 320)),
            (330, due(9, 330)),
            (340, due(10, 340)),
            (350, answered(3, 0)),
            (520, due(11, 520)),
            (530, due(12, 530)),
        ],
        expect![[r#"
            0     ask router 0 for key 7 as 0.0 within 300
            300   give up 0.0
            300   repeat silent
            300   ask router 1 for key 7 as 0.1 within 700
            310   0: Answered { repeated: true, found: true } after 310
            320   ask router 1 for key 8 as 1.0 within 1000
            330   ask router 1 for key 9 as 2.0 within 1000
            340   ask router 1 for key 10 as 3.0 within 1000
            350   3: Answered { repeated: false, found: true } after 10
            520   ask router 0 for key 11 as 4.0 within 300
            530   5: Failed(TooMany) after 0
        "#]],
    );
}

#[test]
fn read_fails_at_its_deadline_whether_it_is_asked_for_or_pauses() {
    check(
        SETTINGS,
        &[
            (0, due(7, 0)),
            (0, due(8, 0)),
            (980, unanswered(0, 3, Reason::Busy)),
            (985, unanswered(1, 3, Reason::Busy)),
            (2_000, Event::Tick),
        ],
        expect![[r#"
            0     ask router 0 for key 7 as 0.0 within 300
            0     ask router 1 for key 8 as 1.0 within 300
            300   give up 0.0
            300   repeat silent
            300   ask router 1 for key 7 as 0.1 within 700
            300   give up 1.0
            300   repeat silent
            300   ask router 0 for key 8 as 1.1 within 700
            1000  give up 0.1
            1000  0: Failed(Silent) after 1000
            1000  give up 1.1
            1000  1: Failed(Silent) after 1000
        "#]],
    );
    // An answer that comes with the deadline is too late, and nothing is asked past it.
    check(
        SETTINGS,
        &[
            (900, due(7, 0)),
            (950, due(8, 0)),
            (1_000, answered(0, 0)),
            (1_000, unanswered(1, 0, Reason::Lost)),
            (1_500, due(9, 500)),
        ],
        expect![[r#"
            900   ask router 0 for key 7 as 0.0 within 100
            950   ask router 1 for key 8 as 1.0 within 50
            1000  0: Failed(Late) after 1000
            1000  give up 1.0
            1000  1: Failed(Silent) after 1000
            1500  2: Failed(Silent) after 1000
        "#]],
    );
}

#[test]
fn read_that_finds_too_many_under_way_fails_at_once() {
    let mut events: Vec<_> = (0..4).map(|it| (it, due(it, it))).collect();
    events.extend([(5, answered(1, 0)), (6, due(9, 6))]);
    check(
        SETTINGS,
        &events,
        expect![[r#"
            0     ask router 0 for key 0 as 0.0 within 300
            1     ask router 1 for key 1 as 1.0 within 300
            2     ask router 0 for key 2 as 2.0 within 300
            3     3: Failed(TooMany) after 0
            5     1: Answered { repeated: false, found: true } after 4
            6     ask router 1 for key 9 as 4.0 within 300
        "#]],
    );
}

#[test]
fn one_router_is_asked_again_after_a_pause() {
    check(
        Settings { routers: 1, ..SETTINGS },
        &[
            (0, due(7, 0)),
            (10, unanswered(0, 0, Reason::Unreachable)),
            (30, unanswered(0, 1, Reason::Unreachable)),
            (40, due(8, 40)),
            (50, answered(0, 2)),
        ],
        expect![[r#"
            0     ask router 0 for key 7 as 0.0 within 1000
            20    repeat unreachable
            20    ask router 0 for key 7 as 0.1 within 980
            40    ask router 0 for key 8 as 1.0 within 1000
            50    repeat unreachable
            50    ask router 0 for key 7 as 0.2 within 950
        "#]],
    );
}

/// Of a read, as a walk has seen it.
#[derive(Clone, Copy, Debug)]
struct Seen {
    due: u64,
    /// So often.
    asked: u32,
    /// The request that is under way, and since when.
    open: Option<(AskId, u64)>,
}

#[test]
fn every_read_ends_once_and_in_time_whatever_routers_do() {
    for seed in 0..300 {
        walk(seed);
    }
}

fn walk(seed: u64) {
    let mut random = Pcg64::seed_from_u64(seed);
    let settings = Settings { routers: random.random_range(1..4), under_way_max: 9, ..SETTINGS };
    let mut reads = Reads::new(settings);
    let mut seen = BTreeMap::<u64, Seen>::new();
    let (mut now, mut begun) = (0, 0);
    while begun < 60 || !seen.is_empty() {
        let open: Vec<_> = seen.values().filter_map(|it| it.open).collect();
        let event = match random.random_range(0..6) {
            0 | 1 if begun < 60 => {
                let late = random.random_range(0..=now.min(1_100));
                let due = now - if random.random_bool(0.2) { late } else { 0 };
                seen.insert(begun, Seen { due, asked: 0, open: None });
                begun += 1;
                Event::Due { key: begun, due: Micros(due) }
            }
            2 if !open.is_empty() => {
                let (ask, _) = open[random.random_range(0..open.len())];
                seen.get_mut(&ask.read).unwrap().open = None;
                match random.random_range(0..3) {
                    0 => Event::Answered { ask, found: false },
                    1 => Event::Unanswered { ask, reason: Reason::Lost },
                    _ => Event::Unanswered { ask, reason: Reason::Busy },
                }
            }
            // Of a request that nobody waits for.
            3 => {
                let read = random.random_range(0..60);
                let attempt = seen.get(&read).map_or(0, |it| it.asked);
                Event::Answered { ask: AskId { read, attempt }, found: true }
            }
            _ => {
                let moment = reads.poll_deadline().map_or(u64::MAX, |it| it.0);
                now = moment.min(now + random.random_range(1..90));
                Event::Tick
            }
        };
        reads.handle(Micros(now), event);
        while let Some(action) = reads.poll_action() {
            match action {
                Action::Ask { ask, router, within_us, .. } => {
                    let it = seen.get_mut(&ask.read).unwrap();
                    assert_eq!((it.asked, it.open), (ask.attempt, None), "seed {seed}");
                    let left = it.due + settings.deadline_us - now;
                    let patience = left.min(settings.patience_us);
                    assert!(within_us == left || within_us == patience, "seed {seed}");
                    assert!(1 < settings.routers || within_us == left, "seed {seed}");
                    assert!(0 < within_us && router < settings.routers, "seed {seed}");
                    (it.asked, it.open) = (it.asked + 1, Some((ask, now)));
                }
                Action::GiveUp(ask) => {
                    let it = seen.get_mut(&ask.read).unwrap();
                    let (open, since) = it.open.take().unwrap();
                    let is_late = it.due + settings.deadline_us <= now;
                    assert_eq!(open, ask, "seed {seed}");
                    assert!(is_late || since + settings.patience_us <= now, "seed {seed}");
                    assert!(is_late || 1 < settings.routers, "seed {seed}: nobody else to ask");
                }
                Action::Repeat(_) => (),
                Action::End { read, outcome, latency_us } => {
                    let Seen { due, open, .. } = seen.remove(&read).unwrap();
                    assert_eq!(open, None, "seed {seed}: somebody is still asked");
                    let (is_late, is_full) =
                        (due + settings.deadline_us <= now, seen.len() == settings.under_way_max);
                    match outcome {
                        Outcome::Answered { .. } => assert!(!is_late, "seed {seed}"),
                        Outcome::Failed(Reason::TooMany) => assert!(is_full, "seed {seed}"),
                        Outcome::Failed(_) => assert!(is_late, "seed {seed}"),
                    }
                    let is_sent = outcome != Outcome::Failed(Reason::TooMany);
                    assert_eq!(latency_us, if is_sent { now - due } else { 0 }, "seed {seed}");
                }
            }
        }
        assert_eq!(reads.under_way(), seen.len(), "seed {seed}: each ends once");
        assert_eq!(reads.poll_deadline().is_some(), !seen.is_empty(), "seed {seed}");
        assert!(reads.poll_deadline().is_none_or(|it| now < it.0), "seed {seed}");
    }
}
