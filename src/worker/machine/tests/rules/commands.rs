//! Which command, end, segment and commit is of which migration (R5, R6).

use super::*;

#[test]
fn r5_start_at_another_epoch_fails_as_old() {
    let mut it = halves();
    let migration = it.start(span("", "m"), "b");
    it.assign(&[("", "m", "a", From::None)]);
    it.settle();
    it.live(1);
    assert_eq!(it.ended.get(&migration), Some(&Status::Failed));
    assert_eq!(it.roles("b"), ["[m, -) Active"]);
    assert_eq!(
        (it.ignored("b", Ignored::StaleCommand), it.ignored("a", Ignored::StaleCommand)),
        (1, 0)
    );
}

#[test]
fn r5_import_that_the_map_has_left_behind_fails_and_leaves_nothing() {
    let mut it = filled();
    it.hold("a", &ALL);
    let migration = it.start(span("", "m"), "b");
    it.settle();
    assert_eq!(it.roles("b"), ["[-, m) Import", "[m, -) Active"]);
    it.assign(&[("", "m", "a", From::None)]);
    it.settle();
    assert_eq!(it.ended.get(&migration), Some(&Status::Failed));
    assert_eq!(it.roles("b"), ["[m, -) Active"]);
}

#[test]
fn r5_cancel_before_the_commit_fails_and_leaves_nothing() {
    let mut it = filled();
    it.hold("a", &[Source::Ack]);
    let migration = it.start(span("", "m"), "b");
    it.settle();
    it.cancel(migration);
    it.let_read("a");
    it.live(2);
    assert_eq!(it.ended.get(&migration), Some(&Status::Failed));
    assert_eq!(it.roles("b"), ["[m, -) Active"]);
    assert!(!has(&it, "b", "c", 0));
    let outgoing = &it.nodes[&node("a")].runner.worker().remembered().outgoing;
    assert!(outgoing.is_empty(), "a has heard it too");
    it.check();
}

#[test]
fn r5_after_the_commit_there_is_no_cancel() {
    let mut it = ready();
    it.cancel(schemas::MigrationId(1));
    it.let_read("a");
    it.let_read("b");
    it.live(3);
    assert_eq!(it.ended.get(&schemas::MigrationId(1)), Some(&Status::Complete));
    it.check();
}

#[test]
fn r5_cancel_of_what_is_complete_says_nothing() {
    let mut it = filled();
    it.start(span("", "m"), "b");
    it.live(4);
    it.check();
    let words = it.words();
    it.commands.push(MigrateRange { command: Command::Cancel, ..it.commands[0].clone() });
    it.settle();
    assert_eq!(it.words(), words);
}

#[test]
fn r5_cancel_of_what_was_never_begun_is_answered_with_failed() {
    let mut it = filled();
    let migration = it.start(span("", "m"), "b");
    it.cancel(migration);
    // The START is not there any more.
    it.commands.remove(0);
    it.settle();
    assert_eq!(it.words(), ["b m-1 Failed"]);
}

#[test]
fn r5_cancel_closes_the_stream_at_the_source() {
    let mut it = filled();
    it.hold("b", &[Source::Segment]);
    let migration = it.start(span("", "m"), "b");
    it.settle();
    it.hold("a", &[Source::Status(0)]);
    it.cancel(migration);
    it.settle();
    let segments = it.segments("b").len();
    it.row(8, Some("e"));
    it.live(1);
    assert_eq!(it.segments("b").len(), segments);
}

#[test]
fn r5_after_ready_only_a_cancel_makes_it_fail() {
    let mut it = ready();
    let stream = StreamId { migration: MigrationId(1), number: 2 };
    let sums = Sums { count: 9, ..Sums::default() };
    let contents = [
        Content::Open(Floors::new()),
        Content::End(sums),
        Content::Refuse("not whole at its source".to_owned()),
    ];
    for (seq, content) in (0..).zip(contents) {
        let inbox = it.inboxes.get_mut(&(node("b"), Source::Segment)).unwrap();
        inbox.push(Record::Segment(seal(
            StreamId { number: 2 + seq as u32 / 2, ..stream },
            seq,
            content,
        )));
    }
    it.deliver("b", &ALL);
    assert_eq!(it.ignored("b", Ignored::SumsDiffer), 1);
    assert_eq!(it.roles("b"), ["[-, m) Import", "[m, -) Active"]);
    assert!(!it.words().iter().any(|it| it.ends_with("Failed")), "{:?}", it.words());
    it.let_read("a");
    it.let_read("b");
    it.live(3);
    it.check();
}

#[test]
fn r5_ready_import_that_the_map_has_left_behind_goes_without_a_word() {
    let mut it = filled();
    it.hold("a", &[Source::Ack]);
    let migration = it.start(span("", "m"), "b");
    it.settle();
    it.hold("b", &[Source::Command]);
    // So the planner does not commit it.
    it.cancel(migration);
    it.hold("a", &[Source::Command]);
    it.settle();
    assert_eq!(it.words().last().unwrap(), "b m-1 InProgress Ready");
    it.assign(&[("", "m", "a", From::None)]);
    it.settle();
    assert_eq!(it.roles("b"), ["[m, -) Active"]);
    assert_eq!(it.words().last().unwrap(), "b m-1 InProgress Ready");
    it.let_read("a");
    it.let_read("b");
    it.live(1);
    assert_eq!(it.words().last().unwrap(), "b m-1 Failed");
    it.check();
}

#[test]
fn r6_segments_and_acks_of_unknown_migrations_are_counted_and_ignored() {
    let mut it = filled();
    it.start(span("", "m"), "b");
    it.live(3);
    it.check();
    let (segment, ack) = (it.segments("b")[0].clone(), it.acks("a")[0].clone());
    let (ignored_b, ignored_a) =
        (it.ignored("b", Ignored::UnknownMigration), it.ignored("a", Ignored::UnknownMigration));
    it.inboxes.get_mut(&(node("b"), Source::Segment)).unwrap().push(Record::Segment(segment));
    it.inboxes.get_mut(&(node("a"), Source::Ack)).unwrap().push(Record::Ack(ack));
    let roles = (it.roles("a"), it.roles("b"));
    it.settle();
    assert_eq!(it.ignored("b", Ignored::UnknownMigration), ignored_b + 1);
    assert_eq!(it.ignored("a", Ignored::UnknownMigration), ignored_a + 1);
    assert_eq!((it.roles("a"), it.roles("b")), roles);
}

#[test]
fn r6_segment_of_a_decided_migration_is_none_of_the_next() {
    let mut it = filled();
    it.hold("b", &[Source::Segment]);
    let first = it.start(span("", "m"), "b");
    it.settle();
    let open = it.segments("b")[0].clone();
    it.cancel(first);
    it.let_read("b");
    it.live(1);
    assert_eq!(it.ended.get(&first), Some(&Status::Failed));
    it.hold("a", &[Source::Ack]);
    it.start(span("", "m"), "b");
    it.settle();
    let ignored = it.ignored("b", Ignored::UnknownMigration);
    it.inboxes.get_mut(&(node("b"), Source::Segment)).unwrap().push(Record::Segment(open));
    it.settle();
    assert_eq!(it.ignored("b", Ignored::UnknownMigration), ignored + 1);
    let held = &it.nodes[&node("b")].runner.worker().remembered().roles;
    let Role::Import(import) = &held[&key("")].role else { panic!("{held:?}") };
    assert_eq!(import.receiver.next_seq, 0);
}

#[test]
fn r6_import_takes_no_other_commit_for_its_own() {
    let mut it = filled();
    it.hold("a", &[Source::Ack]);
    it.start(span("", "m"), "b");
    it.settle();
    assert_eq!(it.roles("b"), ["[-, m) Import", "[m, -) Active"]);
    it.assign(&[("", "m", "b", From::Table)]);
    it.live(3);
    assert_eq!(it.roles("b"), ["[-, m) Active", "[m, -) Active"]);
}

#[test]
fn r6_request_of_a_decided_migration_opens_nothing() {
    let mut it = filled();
    it.hold("b", &[Source::Segment]);
    let first = it.start(span("", "m"), "b");
    it.settle();
    it.cancel(first);
    it.live(1);
    it.start(span("", "m"), "b");
    it.settle();
    let (segments, ignored) = (it.segments("b").len(), it.ignored("a", Ignored::UnknownMigration));
    let late = SegmentAck { stream: 7, ..it.acks("a")[0].clone() };
    it.inboxes.get_mut(&(node("a"), Source::Ack)).unwrap().push(Record::Ack(late));
    it.settle();
    assert_eq!(it.segments("b").len(), segments);
    assert_eq!(it.ignored("a", Ignored::UnknownMigration), ignored + 1);
}

#[test]
fn r6_end_of_another_migration_ends_nothing_here() {
    let mut it = ready();
    it.let_read("a");
    it.deliver_map("a");
    let end = it.statuses.last().unwrap().clone();
    it.statuses.push(MigrationStatus {
        migration: MigrationId(77),
        status: Status::Complete,
        ..end
    });
    it.deliver("a", &ALL);
    it.tick(1_000);
    it.deliver("a", &ALL);
    assert_eq!(it.roles("a"), ["[-, m) Leaving"]);
}
