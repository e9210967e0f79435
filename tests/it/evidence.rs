//! Says what stands around a tick that does not come out again, so that a failure which comes once in a hundred runs
//! explains itself.

use std::collections::BTreeSet;

use schemas::assignment::Assignment;
use schemas::heatmap::RangeHeated;
use schemas::migrate_range::MigrateRange;
use schemas::migration_status::MigrationStatus;
use schemas::plan::Planned;
use schemas::planner_progress::{Progress, TickDone};
use schemas::wire::{Record as _, decode};
use schemas::{Key, Millis};

use crate::world::{Raw, World, say};

/// So many ticks before it and after it are told.
const AROUND: u64 = 3;

/// A longer text of a record is cut off.
const TEXT_CHARS_MAX: usize = 500;

const TOPICS: [&str; 6] = [
    Progress::TOPIC,
    Planned::TOPIC,
    Assignment::TOPIC,
    MigrateRange::TOPIC,
    MigrationStatus::TOPIC,
    RangeHeated::TOPIC,
];

/// Tells the logs of all processes, and what was written while the ticks around this one were: what was committed, and
/// what was not.
pub fn tell(world: &World, planner_id: &str, tick: u64) {
    tell_logs(world);
    let near = |it: &TickDone| it.tick.abs_diff(tick) <= AROUND;
    let progress = world.records(Progress::TOPIC).into_iter();
    let progress = progress.filter(|it| it.key.as_deref() == Some(planner_id.as_bytes()));
    let done = progress.map(|it| (it.stamp, decode::<Progress>(&it.value.unwrap()).unwrap().tick));
    let stamps: BTreeSet<Millis> =
        done.filter(|it| it.1.as_ref().is_some_and(near)).map(|it| it.0).collect();
    let (Some(first), Some(last)) = (stamps.first(), stamps.last()) else {
        return say(&format!("no tick near {tick} is on planner_progress"));
    };
    for topic in TOPICS {
        let committed: BTreeSet<_> =
            world.records(topic).iter().map(|it| (it.at.partition, it.offset)).collect();
        say(&format!("{topic}, from {} to {}:", first.0, last.0));
        for it in world.uncommitted(topic) {
            // A clock that was set meanwhile hides nothing but a line.
            if !(first.0.saturating_sub(1000)..=last.0 + 1000).contains(&it.stamp.0) {
                continue;
            }
            let is_there = committed.contains(&(it.partition, it.offset));
            let is_there = if is_there { "" } else { " NOT COMMITTED" };
            let Raw { partition, offset, stamp, key, value } = it;
            let text: String = text(topic, value.as_deref()).chars().take(TEXT_CHARS_MAX).collect();
            let key = Key(key);
            say(&format!("  {partition}/{offset} at {}{is_there} {key}: {text}", stamp.0));
        }
    }
}

fn tell_logs(world: &World) {
    for entry in std::fs::read_dir(&world.folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|it| it == "log") {
            say(&format!("{}\n{}", path.display(), std::fs::read_to_string(&path).unwrap()));
        }
    }
}

/// What a record says, in short.
fn text(topic: &str, value: Option<&[u8]>) -> String {
    let Some(value) = value else { return "a tombstone".to_owned() };
    match topic {
        Progress::TOPIC => match decode::<Progress>(value).unwrap() {
            Progress { tick: Some(it), .. } => {
                let TickDone { tick, queries, stale, spans, .. } = it;
                let spans = spans
                    .iter()
                    .map(|it| format!("{}/{} {}..{}", it.topic, it.partition, it.from, it.to));
                let spans = spans.collect::<Vec<_>>().join(", ");
                format!("tick {tick}, {queries} queries, stale {stale}: {spans}")
            }
            Progress { tick: None, chunk } => {
                format!("a chunk of the snapshot of tick {}", chunk.unwrap_or_default().tick)
            }
        },
        Planned::TOPIC => {
            let plan: Planned = decode(value).unwrap();
            let Planned { tick, moves, splits, joins, rebuilds, rejected, .. } = plan;
            let splits: Vec<_> = splits.into_iter().map(|it| it.at).collect();
            let [moves, joins, rebuilds, rejected] =
                [moves.len(), joins.len(), rebuilds.len(), rejected.len()];
            format!(
                "tick {tick}, {moves} moves, {joins} joins, {rebuilds} rebuilds, {rejected} rejected, \
                 splits at {splits:?}"
            )
        }
        Assignment::TOPIC => format!("{:?}", decode::<Assignment>(value).unwrap()),
        MigrateRange::TOPIC => format!("{:?}", decode::<MigrateRange>(value).unwrap()),
        MigrationStatus::TOPIC => format!("{:?}", decode::<MigrationStatus>(value).unwrap()),
        RangeHeated::TOPIC => format!("tick {}", decode::<RangeHeated>(value).unwrap().tick),
        other => unreachable!("{other} was not asked for"),
    }
}
