use schemas::migration_status::Phase;
use schemas::{Inbox, NodeId};

use super::*;
use crate::assignment::draft::{Born, Draft, birth};

fn key(text: &str) -> Key {
    Key(text.as_bytes().to_vec())
}

fn span(start: &str, end: &str) -> KeySpan {
    KeySpan { start: key(start), end: key(end) }
}

fn owner(n: u32) -> Owner {
    Owner { node: NodeId(format!("n{n}")), inbox: Inbox(n) }
}

/// Ranges [-, f), [f, m), [m, -) on n1, all complete.
fn settled() -> (Map, Migrations) {
    let mut migrations = Migrations::new(2, 1_000);
    let spans = [span("", "f"), span("f", "m"), span("m", "")];
    let born = spans.map(|span| {
        let (migration, _) = migrations.rebuild(span.clone(), owner(1), Epoch(0)).unwrap();
        Born { span, owner: owner(1), migration }
    });
    let mut map = Map::default();
    for row in birth(&map, &born).unwrap() {
        map.apply(&row).unwrap();
    }
    migrations.written(Millis(0));
    for it in &born {
        let complete = status(it.migration, 1, Status::Complete, None);
        migrations.told(Millis(0), &complete).unwrap();
    }
    assert_eq!(ended(&mut migrations), ["m-1 Complete", "m-2 Complete", "m-3 Complete"]);
    (map, migrations)
}

fn proposal(span: KeySpan, n: u32) -> Proposal {
    Proposal {
        span,
        destination: owner(n),
        bytes: 100,
        bandwidth_bytes_per_s: 50,
        deadline: Millis(10_000),
        plan: Some("p-7".into()),
    }
}

fn status(id: MigrationId, n: u32, status: Status, phase: Option<Phase>) -> MigrationStatus {
    let (range_start, range_end) = (Key::default(), Key::default());
    let (reason, epoch, attempt, bytes) = (None, Epoch(1), 1, 0);
    let (digest, partitions_left, migration) = (None, Vec::new(), id);
    let teller = owner(n).node;
    MigrationStatus {
        migration,
        range_start,
        range_end,
        teller,
        status,
        phase,
        reason,
        epoch,
        attempt,
        bytes,
        digest,
        partitions_left,
    }
}

/// Takes all actions, as a driver does, and tells them in one line each.
fn actions(migrations: &mut Migrations) -> Vec<String> {
    let mut told = Vec::new();
    while let Some(action) = migrations.poll_action(Generation(1)) {
        told.push(match action {
            Action::Start { start, pending } => {
                assert_eq!((start.migration, pending.status), (pending.migration, Status::Pending));
                format!(
                    "start {} {} to {}",
                    start.migration, start.source_node, start.destination_node
                )
            }
            Action::Commit { span, owner, migration } => {
                format!("commit {migration} {span} to {}", owner.node)
            }
            Action::Cancel { cancel } => format!("cancel {}", cancel.migration),
            Action::Fail { failed } => format!("fail {} by {}", failed.migration, failed.teller),
        });
    }
    told
}

fn ended(migrations: &mut Migrations) -> Vec<String> {
    std::iter::from_fn(|| migrations.poll_ended())
        .map(|it| format!("{} {:?}", it.migration, it.outcome))
        .collect()
}

#[test]
fn move_goes_from_proposal_to_completion() {
    let (mut map, mut migrations) = settled();
    let id = migrations.propose(&map, proposal(span("f", "m"), 2)).unwrap();
    assert_eq!(actions(&mut migrations), ["start m-4 n1 to n2"]);
    migrations.written(Millis(1));

    migrations.told(Millis(2), &status(id, 2, Status::InProgress, Some(Phase::Ready))).unwrap();
    let Some(Action::Commit { span, owner, migration }) = migrations.poll_action(Generation(1))
    else {
        panic!("READY commits");
    };
    let mut draft = Draft::new(&map);
    draft.commit(&span, &owner, migration).unwrap();
    for row in draft.finish() {
        map.apply(&row).unwrap();
    }
    migrations.written(Millis(3));
    migrations.told(Millis(4), &status(id, 2, Status::InProgress, Some(Phase::Active))).unwrap();
    assert_eq!(migrations.get(id).unwrap().state(), Some(machine::State::Draining));
    assert_eq!(migrations.unsettled(&span), Some(id), "draining is not settled");
    migrations.told(Millis(5), &status(id, 2, Status::Complete, None)).unwrap();
    assert_eq!(ended(&mut migrations), ["m-4 Complete"]);
    assert_eq!(migrations.unsettled(&KeySpan::all()), None);
    assert_eq!(map.range(&span).unwrap().node, owner.node);
}

#[test]
fn r21_deadline_cancels_and_silence_fails() {
    let (map, mut migrations) = settled();
    migrations.propose(&map, proposal(span("f", "m"), 2)).unwrap();
    assert_eq!(migrations.poll_deadline(), None, "not before START is written");
    actions(&mut migrations);
    migrations.written(Millis(1));
    assert_eq!(migrations.poll_deadline(), Some(Millis(10_000)));
    migrations.close(Millis(9_999));
    assert_eq!(actions(&mut migrations), [""; 0]);
    migrations.close(Millis(10_000));
    assert_eq!(actions(&mut migrations), ["cancel m-4"]);
    migrations.written(Millis(10_000));
    migrations.close(Millis(10_999));
    assert_eq!(ended(&mut migrations), [""; 0]);
    migrations.close(Millis(11_000));
    assert_eq!(actions(&mut migrations), ["fail m-4 by planner"]);
    assert_eq!(ended(&mut migrations), ["m-4 Failed"]);
    migrations.written(Millis(11_000));
    let late = status(MigrationId(4), 2, Status::Failed, None);
    assert_eq!(migrations.told(Millis(12_000), &late), Err(Ignored::Decided));
}

#[test]
fn r19_interval_in_flight_is_not_touched_again() {
    let (map, mut migrations) = settled();
    let id = migrations.propose(&map, proposal(span("f", "m"), 2)).unwrap();
    let again = migrations.propose(&map, proposal(span("f", "m"), 3));
    assert_eq!(again, Err(Refused::Unsettled { span: span("f", "m"), migration: id }));
    for (touches, at) in [
        (true, span("", "")),
        (true, span("a", "g")),
        (true, span("l", "")),
        (true, span("g", "h")),
        (false, span("", "f")),
        (false, span("m", "")),
    ] {
        assert_eq!(migrations.unsettled(&at).is_some(), touches, "{at}");
    }
    let behind = migrations.propose(&map, proposal(span("m", ""), 2)).unwrap();
    assert_eq!(
        migrations.unsettled(&span("g", "m")),
        Some(id),
        "a flight that begins there hides none"
    );
    assert_eq!(migrations.unsettled(&span("m", "n")), Some(behind));
}

#[test]
fn moves_are_bounded_and_counted() {
    let (map, mut migrations) = settled();
    migrations.propose(&map, proposal(span("", "f"), 2)).unwrap();
    migrations.propose(&map, proposal(span("f", "m"), 3)).unwrap();
    let third = migrations.propose(&map, proposal(span("m", ""), 3));
    assert_eq!(third, Err(Refused::TooMany(2)));
    let mut wider = migrations.clone();
    wider.limit(3, 1_000);
    assert!(wider.propose(&map, proposal(span("m", ""), 3)).is_ok());
    let counts = migrations.moves_by_node().into_iter().map(|(node, n)| format!("{node} {n}"));
    assert_eq!(counts.collect::<Vec<_>>(), ["n1 2", "n2 1", "n3 1"]);
    assert_eq!(migrations.bytes_in_flight(), 200);
    let refused = migrations.propose(&map, proposal(span("f", "g"), 2));
    assert_eq!(refused, Err(Refused::NotARange(span("f", "g"))));
    let refused = migrations.propose(&map, proposal(span("m", ""), 1));
    assert!(matches!(refused, Err(Refused::AlreadyThere { .. })));
}

#[test]
fn r6_status_that_is_not_used_is_counted_by_reason() {
    let (map, mut migrations) = settled();
    let id = migrations.propose(&map, proposal(span("f", "m"), 2)).unwrap();
    actions(&mut migrations);
    migrations.written(Millis(1));
    let before = migrations.clone();
    let ready = Some(Phase::Ready);
    let mut check = |status: &MigrationStatus, reason| {
        assert_eq!(migrations.told(Millis(1), status), Err(reason));
    };
    check(&status(MigrationId(99), 2, Status::Complete, None), Ignored::UnknownMigration);
    check(&status(MigrationId(1), 1, Status::Complete, None), Ignored::Decided);
    check(&status(id, 1, Status::InProgress, ready), Ignored::NotDestination);
    check(&status(id, 2, Status::Complete, None), Ignored::OutOfPlace);
    check(&status(id, 2, Status::Unknown, None), Ignored::UnknownStatus);
    let own =
        MigrationStatus { teller: NodeId(PLANNER.into()), ..status(id, 2, Status::Pending, None) };
    check(&own, Ignored::OwnWord);
    assert_eq!(migrations.ignored().values().sum::<u64>(), 6);
    assert_eq!(migrations.ignored().len(), 6);
    assert_eq!(migrations.flights, before.flights);
}

#[test]
fn r21_snapshot_brings_back_what_is_in_flight_and_the_next_id() {
    let (map, mut migrations) = settled();
    migrations.propose(&map, proposal(span("f", "m"), 2)).unwrap();
    actions(&mut migrations);
    migrations.written(Millis(1));
    let bytes = postcard::to_stdvec(&migrations).unwrap();
    let mut restored: Migrations = postcard::from_bytes(&bytes).unwrap();
    assert_eq!(restored, migrations);
    restored.close(Millis(10_000));
    assert_eq!(actions(&mut restored), ["cancel m-4"]);
    let next = restored.propose(&map, proposal(span("", "f"), 2));
    assert_eq!(next, Ok(MigrationId(5)), "ids are never used again");
}

#[test]
fn r25_adopted_assignment_goes_on_where_it_was_committed_and_ends_where_it_was_not() {
    let (mut map, mut migrations) = settled();
    let mut commands = Vec::new();
    let mut statuses = Vec::new();
    for at in [span("", "f"), span("f", "m")] {
        migrations.propose(&map, proposal(at, 2)).unwrap();
    }
    while let Some(action) = migrations.poll_action(Generation(1)) {
        let Action::Start { start, pending } = action else { panic!("both begin") };
        commands.push(start);
        statuses.push(pending);
    }
    // The first is committed; of the third, long ago, only the status is left; a fourth has ended.
    let mut draft = Draft::new(&map);
    draft.commit(&span("", "f"), &owner(2), MigrationId(4)).unwrap();
    for row in draft.finish() {
        map.apply(&row).unwrap();
    }
    statuses.push(status(MigrationId(77), 3, Status::InProgress, None));
    statuses.push(status(MigrationId(78), 3, Status::Complete, None));
    statuses.push(status(MigrationId(78), 3, Status::InProgress, Some(Phase::Active)));

    let now = Millis(50);
    let (mut adopted, failed) = Migrations::adopt(2, 1_000, now, &map, &commands, &statuses);
    let orphans: Vec<_> = failed.iter().map(|it| (it.migration.0, it.teller.0.as_str())).collect();
    assert_eq!(orphans, [(77, PLANNER)]);
    assert_eq!(failed[0].status, Status::Failed);
    assert_eq!(actions(&mut adopted), ["cancel m-5"]);
    assert_eq!(adopted.get(MigrationId(4)).unwrap().state(), Some(machine::State::HandingOver));
    assert_eq!(adopted.unsettled(&span("a", "b")), Some(MigrationId(4)));
    adopted.told(now, &status(MigrationId(4), 2, Status::Complete, None)).unwrap();
    adopted.close(Millis(1_050));
    assert_eq!(actions(&mut adopted), ["fail m-5 by planner"]);
    assert_eq!(ended(&mut adopted), ["m-4 Complete", "m-5 Failed"]);
    let next = adopted.propose(&map, proposal(span("f", "m"), 2));
    assert_eq!(next, Ok(MigrationId(79)), "above all that stand on the topics");
}

#[test]
fn r25_adopted_birth_goes_on_scanning() {
    let (map, _) = settled();
    let pending = status(MigrationId(2), 1, Status::Pending, None);
    let (mut adopted, failed) = Migrations::adopt(2, 1_000, Millis(0), &map, &[], &[pending]);
    assert!(failed.is_empty());
    assert_eq!((adopted.moves(), adopted.unsettled(&span("f", "m"))), (0, Some(MigrationId(2))));
    adopted.told(Millis(1), &status(MigrationId(2), 1, Status::Complete, None)).unwrap();
    assert_eq!(ended(&mut adopted), ["m-2 Complete"]);
}
