use std::collections::BTreeSet;

use super::*;

const DEADLINE: Millis = Millis(3);
const GRACE_MS: u64 = 2;

fn node(text: &str) -> NodeId {
    NodeId(text.into())
}

fn migration() -> Migration {
    Migration::new(node("d"), DEADLINE, GRACE_MS)
}

/// Feeds words of the destination and tells the steps and the state.
fn check(words: &[Word], steps: &[Step], state: State) {
    let mut migration = migration();
    let mut emitted = Vec::new();
    let mut write = |migration: &mut Migration| {
        while let Some(step) = migration.poll_step() {
            emitted.push(step);
            migration.handle(Millis(0), Event::Written(step)).unwrap();
        }
    };
    write(&mut migration);
    for word in words {
        let _ = migration.handle(Millis(1), Event::Told { teller: &node("d"), word: *word });
        write(&mut migration);
    }
    assert_eq!((emitted.as_slice(), migration.state()), (steps, state));
}

#[test]
fn r10_ready_commits_and_complete_ends() {
    use Word::{Active, Complete, Copying, Ready};
    let steps = [Step::Start, Step::Commit];
    check(&[Copying], &steps[..1], State::Copying);
    check(&[Copying, Ready], &steps, State::HandingOver);
    check(&[Copying, Ready, Ready, Active], &steps, State::Draining);
    check(&[Copying, Ready, Active, Complete], &steps, State::Complete);
    check(&[Ready, Complete, Word::Failed], &steps, State::Complete);
}

#[test]
fn destination_that_fails_before_the_commit_ends_it() {
    check(&[Word::Copying, Word::Failed, Word::Ready], &[Step::Start], State::Failed);
}

#[test]
fn r5_failure_after_the_commit_ends_nothing() {
    let steps = [Step::Start, Step::Commit];
    check(&[Word::Ready, Word::Failed], &steps, State::HandingOver);
    check(&[Word::Ready, Word::Active, Word::Failed], &steps, State::Draining);
}

#[test]
fn r6_reasons_name_what_was_wrong() {
    let mut migration = migration();
    migration.handle(Millis(0), Event::Written(Step::Start)).unwrap();
    let foreign = Event::Told { teller: &node("s"), word: Word::Ready };
    assert_eq!(migration.handle(Millis(1), foreign), Err(Ignored::NotDestination));
    let destination = node("d");
    let early = Event::Told { teller: &destination, word: Word::Active };
    assert_eq!(migration.handle(Millis(1), early), Err(Ignored::OutOfPlace));
    let failed = Event::Told { teller: &destination, word: Word::Failed };
    migration.handle(Millis(1), failed).unwrap();
    assert_eq!(migration.handle(Millis(1), failed), Err(Ignored::Decided));
}

#[test]
fn r25_adopted_migration_is_cancelled_unless_committed() {
    let mut lost = Migration::adopted(node("d"), false, Millis(100), GRACE_MS);
    assert_eq!((lost.poll_step(), lost.state()), (Some(Step::Cancel), State::Cancelling));
    lost.handle(Millis(102), Event::Closed).unwrap();
    assert_eq!((lost.poll_step(), lost.state()), (Some(Step::Fail), State::Failed));
    let mut kept = Migration::adopted(node("d"), true, Millis(100), GRACE_MS);
    kept.handle(Millis(1 << 40), Event::Closed).unwrap();
    assert_eq!((kept.poll_step(), kept.state()), (None, State::HandingOver));
}

/// Walks every sequence of seven events, one a millisecond, and checks the promises of the
/// module after each event.
#[test]
fn r21_promises_hold_in_every_order() {
    let nodes = [node("d"), node("s")];
    let told = |word| Event::Told { teller: &nodes[0], word };
    let events = [
        Event::Written(Step::Start),
        Event::Written(Step::Commit),
        told(Word::Ready),
        told(Word::Active),
        told(Word::Complete),
        told(Word::Failed),
        Event::Told { teller: &nodes[1], word: Word::Ready },
        Event::Closed,
    ];
    let mut walk = Walk { events: &events, reached: BTreeSet::new(), walked: 0 };
    let mut migration = migration();
    let emitted: Vec<Step> = std::iter::from_fn(|| migration.poll_step()).collect();
    walk.on(&migration, &emitted, &mut Vec::new(), 7);
    assert_eq!(walk.reached.len(), 8, "every state was reached: {:?}", walk.reached);
    assert_eq!(walk.walked, (1..=7).map(|n| 8_u32.pow(n)).sum::<u32>());
}

struct Walk<'a> {
    events: &'a [Event<'a>],
    reached: BTreeSet<State>,
    walked: u32,
}

impl<'a> Walk<'a> {
    fn on(&mut self, from: &Migration, emitted: &[Step], path: &mut Vec<Event<'a>>, left: u32) {
        self.reached.insert(from.state());
        if left == 0 {
            return;
        }
        for event in self.events {
            let (mut to, mut emitted) = (from.clone(), emitted.to_vec());
            path.push(*event);
            let res = to.handle(Millis(path.len() as u64), *event);
            emitted.extend(std::iter::from_fn(|| to.poll_step()));
            self.walked += 1;
            check_promises(from, &to, *event, res, &emitted, path);
            self.on(&to, &emitted, path, left - 1);
            path.pop();
        }
    }
}

fn check_promises(
    from: &Migration,
    to: &Migration,
    event: Event<'_>,
    res: Result<(), Ignored>,
    emitted: &[Step],
    path: &[Event<'_>],
) {
    let told = || format!("{path:?}: {emitted:?}, {:?} to {:?}", from.state(), to.state());
    let count = |step: Step| emitted.iter().filter(|it| **it == step).count();
    assert_eq!((count(Step::Start), emitted[0]), (1, Step::Start), "{}", told());
    assert!(count(Step::Commit) + count(Step::Cancel) <= 1, "{}", told());
    assert!(count(Step::Fail) <= count(Step::Cancel), "{}", told());
    assert!(res.is_ok() || from == to, "an ignored event changes nothing: {}", told());
    if from.state().is_end() {
        assert_eq!(from, to, "the first end counts: {}", told());
    }
    if let Event::Told { teller, .. } = event
        && teller.0 == "s"
    {
        assert_eq!(res, Err(Ignored::NotDestination), "{}", told());
    }
    let committed = count(Step::Commit) == 1;
    assert_eq!(to.state().is_committed(), committed, "{}", told());
    if committed {
        assert_eq!(to.poll_deadline(), None, "no deadline runs on: {}", told());
    }
    // A deadline that has passed at the end of a tick is acted on.
    let due = from.poll_deadline().is_some_and(|it| it.0 <= path.len() as u64);
    if event == Event::Closed && due {
        assert_ne!(from.state(), to.state(), "{}", told());
    }
    if count(Step::Cancel) == 1 && from.state() == State::Copying {
        assert!(DEADLINE.0 <= path.len() as u64, "not before the deadline: {}", told());
    }
    if to.state() == State::Complete && from.state() != State::Complete {
        assert!(matches!(event, Event::Told { word: Word::Complete, .. }), "{}", told());
    }
}
