//! Looks on the topics for what is missing or stands twice, once all is at rest.

use std::collections::BTreeMap;

use schemas::migrate_range::{Command, MigrateRange};
use schemas::migration_status::Status;
use schemas::plan::Planned;

use crate::index::told::Told;
use crate::killed::{check_replay, check_whole};
use crate::world::{World, say};

/// So many moves by heat have ended, at least.
const MOVES: usize = 3;

pub fn check(world: &World, told: &Told) {
    check_whole(world);
    let complete = check_moves(world, told);
    assert!(MOVES <= complete, "{complete} moves by heat were completed");
    check_replay(world, None);
    let aborted = ["plan", "heatmap", "planner_progress", "migrate_range", "assignment"];
    let aborted = aborted.map(|it| (it, world.uncommitted(it).len() - world.records(it).len()));
    say(&format!("aborted records: {aborted:?}"));
    assert!(aborted.iter().any(|it| 0 < it.1), "nothing was aborted");
}

/// Each START is the move of its plan, and the other way round; each has one end, which may have been said again (R3).
/// Returns how many were completed.
fn check_moves(world: &World, told: &Told) -> usize {
    let commands: Vec<MigrateRange> = world.values();
    let starts = commands.iter().filter(|it| it.command == Command::Start);
    let started: BTreeMap<_, _> = starts.map(|it| (it.migration, it)).collect();
    let plans: Vec<Planned> = world.values();
    let moves = plans.iter().flat_map(|plan| plan.moves.iter().map(move |it| (&plan.plan, it)));
    let mut complete = 0;
    let mut bytes = Vec::new();
    for (plan, it) in moves {
        let migration = it.migration.unwrap();
        let start = started.get(&migration).unwrap_or_else(|| panic!("{plan}: no START of {it:?}"));
        assert_eq!(start.plan.as_ref(), Some(plan), "{start:?}");
        assert_eq!(
            (&start.range_start, &start.range_end, &start.source_node, &start.destination_node),
            (&it.range_start, &it.range_end, &it.source, &it.destination),
            "{plan}: {start:?}"
        );
        assert_eq!(it.reason, "heat", "{plan}: {it:?}");
        let [end, again @ ..] = &told.course(migration).ends[..] else {
            panic!("{plan}: {it:?} has no end")
        };
        assert!(again.iter().all(|it| it == end), "{plan}: {it:?} ends as {end:?} and {again:?}");
        complete += usize::from(*end == Status::Complete);
        bytes.push(it.bytes);
    }
    let chosen = bytes.len();
    assert_eq!(chosen, started.len(), "each START is a move of a plan");
    say(&format!("{chosen} moves by heat, {complete} of them completed, of {bytes:?} bytes"));
    complete
}
