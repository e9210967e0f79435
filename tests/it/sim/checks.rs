//! Says what must hold: all the time, and once everybody is well again.

use std::collections::BTreeMap;

use isotherm::assignment::map::span_of;
use isotherm::planner::machine::State;
use isotherm::store::{Limit, Snapshot, Store};
use isotherm::worker::events::Ignored;
use schemas::migrate_range::{Command, MigrateRange};
use schemas::migration_status::{MigrationStatus, Status};
use schemas::range_segment::Entry;
use schemas::{Key, KeySpan, MigrationId, NodeId};

use super::planner::{end_of, is_cancelled};
use super::world::World;

/// What no worker may come across, whatever goes wrong but corruption.
const NEVER: [Ignored; 6] = [
    Ignored::SumsDiffer,
    Ignored::BrokenStream,
    Ignored::UnexpectedRange,
    Ignored::MalformedUpdate,
    Ignored::NoSuchGeneration,
    Ignored::RefusedRow,
];

/// A key has one owner (P11).
pub fn tiles(state: &State) {
    if !state.map.is_empty() {
        state.map.tiles().unwrap();
    }
}

/// A worker has come across nothing that cannot be, and applies what nobody else does (P8).
pub fn worker(world: &World, one: &NodeId) {
    let Some(runner) = world.workers[one].runner() else { return };
    for reason in NEVER {
        let is_new = runner.worker().ignored().contains_key(&reason);
        assert!(!is_new, "{one} came across {reason:?}");
    }
    for (other, it) in world.workers.iter().filter(|it| it.0 != one) {
        let Some(it) = it.runner() else { continue };
        for (span, epoch, _) in runner.worker().active() {
            let mut same = it.worker().active().filter(|it| it.1 == epoch);
            let both = same.find(|it| it.0.overlaps(span));
            assert!(both.is_none(), "{one} and {other} are active in {span} at {epoch:?}");
        }
    }
}

/// All is as it should be, now that nothing goes wrong any more.
pub fn healed(world: &mut World) {
    let state = world.planner.planner.state();
    let left: Vec<_> = state.migrations.iter().map(|it| it.0).collect();
    assert_eq!(left, [], "every migration ends");
    assert!(state.ranges.iter().all(|it| !it.is_due()), "all that was asked for is built again");
    assert_eq!(world.logs.letters, [""; 0], "nothing is unusable");
    assert!(!state.map.is_empty(), "somebody owns the keys");
    tiles(state);

    let fold = world.logs.fold();
    let mut held = BTreeMap::new();
    for (node, worker) in &world.workers {
        let live = live(world, node);
        let worker = worker.runner().expect("all are back").worker();
        let owned: Vec<_> = state.map.iter().filter(|it| it.node == *node).collect();
        for range in &owned {
            let active = worker.active().find(|it| *it.0 == span_of(range));
            let epoch = active.map(|it| it.1);
            assert_eq!(epoch, Some(range.epoch), "{node} is active in {}", span_of(range));
        }
        let is_owned = |key: &Key| owned.iter().any(|it| span_of(it).contains(&key.0));
        let expected = fold.iter().filter(|it| is_owned(&it.0.0));
        let expected: BTreeMap<_, _> = expected.map(|it| (it.0.clone(), *it.1)).collect();
        assert_eq!(live, expected, "{node} holds the fold of the table, and nothing else");
        held.extend(live);
    }
    assert_eq!(held, fold, "all of the table is held");
    let tombstones =
        world.workers.keys().map(|it| stored(world, it).count() - live(world, it).len());
    let tombstones: usize = tombstones.sum();
    let deleted = world.logs.deleted();
    world.count_many("tombstones collected", deleted.saturating_sub(tombstones) as u64);
    for migration in world.migrations() {
        let what = ended(world, migration);
        world.count(what);
    }
    world.count_many("ranges that came back", came_back(world));
}

/// How a migration ended; fails if it should not have.
fn ended(world: &World, migration: MigrationId) -> &'static str {
    let end: Option<&MigrationStatus> = end_of(&world.logs, migration);
    let end = end.unwrap_or_else(|| panic!("{migration} has not ended"));
    let reason = end.reason.as_deref().unwrap_or_default();
    let is_old = reason.contains("not as");
    match end.status {
        Status::Complete => "complete",
        Status::Failed if is_cancelled(&world.logs, migration) => "failed, cancelled",
        Status::Failed if is_old => "failed, old",
        Status::Failed | Status::Pending | Status::InProgress | Status::Unknown => {
            panic!("{migration} failed for no good reason: {end:?}")
        }
    }
}

/// How many completed moves brought a range to where another had taken it from.
fn came_back(world: &World) -> u64 {
    let is_complete = |it: &&MigrateRange| {
        let end = end_of(&world.logs, it.migration);
        it.command == Command::Start && end.is_some_and(|it| it.status == Status::Complete)
    };
    let moves: Vec<_> = world.logs.commands.iter().filter(is_complete).collect();
    let is_back = |(at, it): &(usize, &&MigrateRange)| {
        let mut before = moves[..*at].iter().filter(|that| that.range_start == it.range_start);
        before.any(|that| that.source_node == it.destination_node)
    };
    moves.iter().enumerate().filter(is_back).count() as u64
}

/// The live entries of a node, with their versions.
fn live(world: &World, node: &NodeId) -> BTreeMap<(Key, Key), u64> {
    let live = stored(world, node).filter(|it| it.payload.is_some());
    live.map(|it| ((it.index_key, it.primary_key), it.offset)).collect()
}

/// All that a node has stored of entries, with the tombstones.
fn stored(world: &World, node: &NodeId) -> impl Iterator<Item = Entry> {
    let all = Limit { entries: usize::MAX, bytes: usize::MAX };
    let snapshot = world.workers[node].store().snapshot();
    snapshot.page(&KeySpan::all(), None, all).unwrap().entries.into_iter()
}
