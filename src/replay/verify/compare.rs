//! Compares what came out of ticks with what stands of them, key by key.

use std::collections::BTreeMap;

use anyhow::bail;
use dataflows::Tick;
use schemas::assignment::Assignment;
use schemas::dead_letter;
use schemas::heatmap::RangeHeated;
use schemas::migrate_range::{Command, MigrateRange};
use schemas::migration_status::{MigrationStatus, Status};
use schemas::plan::Planned;
use schemas::planner_progress::Progress;
use schemas::wire::{Record as _, decode, encode};
use xxhash_rust::xxh3::xxh3_128;

use super::What;
use crate::migration::table::PLANNER;

/// What a record is, as far as it decides how it is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Heat,
    Plan,
    Start,
    Cancel,
    Pending,
    Failed,
    Assigned,
    Done,
    Chunk,
    Dead,
}

/// A record by what tells it from others: memory is for its digest, not for what it says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    /// In which it came out; of what stands it is not known.
    tick: Tick,
    /// By which it can be told whether it belongs to the span: a tick, a generation, a migration.
    place: Option<u64>,
    /// `None`: a tombstone.
    digest: Option<u128>,
}

/// What stands of a key.
#[derive(Debug, Default)]
pub(super) struct Standing {
    pub(super) entries: Vec<Entry>,
    /// Others have written under this key, too.
    pub(super) others: bool,
}

/// What came out, by kind and key, in its order.
#[derive(Default)]
pub(super) struct Expected {
    pub(super) entries: BTreeMap<Kind, BTreeMap<Vec<u8>, Vec<Entry>>>,
    pub(super) ticks: (Tick, Tick),
    /// The first that came out, and the last.
    pub(super) generations: (u64, u64),
}

/// How what stands of a key compares.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Compared {
    pub(super) same: u64,
    pub(super) removed: u64,
    pub(super) first: Option<(Tick, What)>,
}

impl Kind {
    pub(super) const ALL: [Self; 10] = [
        Self::Heat,
        Self::Plan,
        Self::Start,
        Self::Cancel,
        Self::Pending,
        Self::Failed,
        Self::Assigned,
        Self::Done,
        Self::Chunk,
        Self::Dead,
    ];

    pub(super) fn topic(self) -> &'static str {
        match self {
            Self::Heat => RangeHeated::TOPIC,
            Self::Plan => Planned::TOPIC,
            Self::Start | Self::Cancel => MigrateRange::TOPIC,
            Self::Pending | Self::Failed => MigrationStatus::TOPIC,
            Self::Assigned => Assignment::TOPIC,
            Self::Done | Self::Chunk => Progress::TOPIC,
            Self::Dead => dead_letter::TOPIC,
        }
    }

    fn is_compacted(self) -> bool {
        match self {
            Self::Heat | Self::Pending | Self::Failed | Self::Assigned => true,
            Self::Plan | Self::Start | Self::Cancel | Self::Done | Self::Chunk | Self::Dead => {
                false
            }
        }
    }
}

/// Returns what a record is; `None` if it is none of a planner's, or is not to be the same where ticks were run on another
/// kind of processor.
pub(super) fn read(
    topic: &str,
    tick: Tick,
    value: Option<&[u8]>,
    is_elsewhere: bool,
) -> anyhow::Result<Option<(Kind, Entry)>> {
    let mut digest = value.map(xxh3_128);
    let (kind, place) = match (topic, value) {
        (RangeHeated::TOPIC, None) => (Kind::Heat, None),
        (RangeHeated::TOPIC, Some(it)) => (Kind::Heat, Some(decode::<RangeHeated>(it)?.tick)),
        (Assignment::TOPIC, None) => (Kind::Assigned, None),
        (Assignment::TOPIC, Some(it)) => {
            (Kind::Assigned, Some(decode::<Assignment>(it)?.generation.0))
        }
        (_, None) => return Ok(None),
        (Planned::TOPIC, Some(it)) => (Kind::Plan, Some(decode::<Planned>(it)?.tick)),
        (MigrateRange::TOPIC, Some(it)) => {
            let it: MigrateRange = decode(it)?;
            match it.command {
                Command::Start => (Kind::Start, Some(it.migration.0)),
                Command::Cancel => (Kind::Cancel, None),
                Command::Unknown => return Ok(None),
            }
        }
        (MigrationStatus::TOPIC, Some(it)) => {
            // Workers write there as well, and not all of it may be readable.
            let Ok(it) = decode::<MigrationStatus>(it) else { return Ok(None) };
            match it.status {
                Status::Pending if it.teller.0 == PLANNER => (Kind::Pending, Some(it.migration.0)),
                Status::Failed if it.teller.0 == PLANNER => (Kind::Failed, None),
                Status::Pending
                | Status::InProgress
                | Status::Complete
                | Status::Failed
                | Status::Unknown => return Ok(None),
            }
        }
        (Progress::TOPIC, Some(it)) => match decode::<Progress>(it)?.tick {
            Some(mut done) => {
                // Where it was run is told apart.
                done.processor.clear();
                if is_elsewhere && let Some(it) = &mut done.refit {
                    it.weights = None;
                }
                let place = Some(done.tick);
                digest = Some(xxh3_128(&encode(&Progress { tick: Some(done), chunk: None })));
                (Kind::Done, place)
            }
            None if is_elsewhere => return Ok(None),
            None => (Kind::Chunk, None),
        },
        (dead_letter::TOPIC, Some(_)) => (Kind::Dead, None),
        (other, Some(_)) => bail!("{other} is not written by a planner"),
    };
    Ok(Some((kind, Entry { tick, place, digest })))
}

impl Expected {
    /// Returns the places of a kind that belong to the span, both included; `None` where that cannot
    /// be told.
    pub(super) fn range(&self, kind: Kind) -> Option<(u64, u64)> {
        match kind {
            Kind::Heat | Kind::Plan | Kind::Done => Some(self.ticks),
            Kind::Assigned => Some(self.generations),
            Kind::Start | Kind::Pending => {
                let begun =
                    self.entries.get(&kind).into_iter().flat_map(|it| it.values().flatten());
                let ids: Vec<u64> = begun.filter_map(|it| it.place).collect();
                // Without any, no place belongs to it.
                Some((*ids.iter().min().unwrap_or(&1), *ids.iter().max().unwrap_or(&0)))
            }
            Kind::Cancel | Kind::Failed | Kind::Chunk | Kind::Dead => None,
        }
    }
}

/// Compares what came out with what stands, of one key; `last` is the last tick of the span.
pub(super) fn compare(
    kind: Kind,
    expected: &[Entry],
    standing: &Standing,
    range: Option<(u64, u64)>,
    last: Tick,
) -> Compared {
    match range {
        Some(range) => compare_placed(kind, expected, standing, range, last),
        None => compare_found(kind, expected, standing),
    }
}

/// Compares one by one: all that stands in the range must have come out.
fn compare_placed(
    kind: Kind,
    expected: &[Entry],
    standing: &Standing,
    range: (u64, u64),
    last: Tick,
) -> Compared {
    let (found, goes_on) = within(&standing.entries, range);
    let goes_on = goes_on || standing.others;
    let mut res = Compared::default();
    let mut found = found.into_iter().peekable();
    for it in expected {
        if res.same == 0 && it.digest.is_some() {
            // It ended something from before the span.
            while found.next_if(|it| it.digest.is_none()).is_some() {}
        }
        match found.peek() {
            Some(next) if next.digest == it.digest => {
                res.same += 1;
                found.next();
            }
            Some(next) => {
                let is_later = match (it.place, next.place) {
                    (Some(place), Some(next)) if place == next => {
                        return res.with(it.tick, What::Differs);
                    }
                    (Some(place), Some(next)) => place < next,
                    // A tombstone that is missing; or one that should not be there.
                    (None, Some(_)) => true,
                    (_, None) => false,
                };
                match (is_later, kind.is_compacted()) {
                    (true, true) => res.removed += 1,
                    (true, false) => return res.with(it.tick, What::Missing),
                    (false, _) => return res.with(it.tick, What::Surplus),
                }
            }
            None if kind.is_compacted() && (goes_on || it.digest.is_none()) => res.removed += 1,
            None if kind.is_compacted() && expected.last() != Some(it) => res.removed += 1,
            None => return res.with(it.tick, What::Missing),
        }
    }
    match found.find(|it| it.digest.is_some()) {
        Some(_) => {
            // Of a key that does not come out at all, no tick is known: a place may be a generation.
            let tick = expected.last().map_or(last, |it| it.tick);
            res.with(tick, What::Surplus)
        }
        None => res,
    }
}

/// Returns what stands in the range, with tombstones that may belong to it; and whether something
/// comes after.
fn within(entries: &[Entry], (low, high): (u64, u64)) -> (Vec<Entry>, bool) {
    let mut res = Vec::new();
    let mut before = None;
    for (i, it) in entries.iter().enumerate() {
        let next = entries[i + 1..].iter().find_map(|it| it.place);
        let is_within = match it.place {
            Some(place) => (low..=high).contains(&place),
            None => {
                before.is_none_or(|place| place <= high) && next.is_none_or(|place| low <= place)
            }
        };
        before = it.place.or(before);
        if is_within {
            res.push(*it);
        }
    }
    let goes_on = entries.iter().filter_map(|it| it.place).any(|place| high < place);
    (res, goes_on)
}

/// Looks each up: what else stands may be from before or after.
fn compare_found(kind: Kind, expected: &[Entry], standing: &Standing) -> Compared {
    let mut res = Compared::default();
    let mut rest = standing.entries.iter();
    for it in expected {
        let times =
            |entries: &[Entry]| entries.iter().filter(|other| other.digest == it.digest).count();
        if kind != Kind::Dead && times(expected) < times(&standing.entries) {
            return res.with(it.tick, What::Surplus);
        }
        let mut ahead = rest.clone();
        if ahead.any(|other| other.digest == it.digest) {
            rest = ahead;
            res.same += 1;
        } else if kind.is_compacted() && standing.others {
            res.removed += 1;
        } else {
            return res.with(it.tick, What::Missing);
        }
    }
    res
}

impl Compared {
    fn with(self, tick: Tick, what: What) -> Self {
        Self { first: Some((tick, what)), ..self }
    }
}

#[cfg(test)]
mod tests {
    use schemas::planner_progress::TickDone;

    use super::*;

    /// Writes entries as text: `5a` is at place 5 and says `a`, `-` is a tombstone.
    fn entries(text: &str) -> Vec<Entry> {
        let entry = |it: &str| match it {
            "-" => Entry { tick: 0, place: None, digest: None },
            it => {
                let place = it[..1].parse().ok();
                Entry { tick: place.unwrap_or(0), place, digest: Some(xxh3_128(it.as_bytes())) }
            }
        };
        text.split_whitespace().map(entry).collect()
    }

    fn check(kind: Kind, expected: &str, found: &str, outcome: (u64, u64, Option<(Tick, What)>)) {
        let standing = Standing { entries: entries(found), others: false };
        let compared = compare(kind, &entries(expected), &standing, Some((4, 7)), 99);
        let (same, removed, first) = outcome;
        assert_eq!(compared, Compared { same, removed, first }, "{expected} | {found}");
    }

    #[test]
    fn what_stands_in_the_span_is_compared_and_nothing_else() {
        check(Kind::Plan, "4a 6b", "2x 4a 6b 9y", (2, 0, None));
        check(Kind::Plan, "", "2x 9y", (0, 0, None));
        check(Kind::Plan, "4a 6b", "4a 6c", (1, 0, Some((6, What::Differs))));
        check(Kind::Plan, "4a 6b", "4a", (1, 0, Some((6, What::Missing))));
        check(Kind::Plan, "4a 6b", "6b", (0, 0, Some((4, What::Missing))));
        check(Kind::Plan, "4a 6b", "4a 5x 6b", (1, 0, Some((6, What::Surplus))));
        check(Kind::Plan, "4a 6b", "4a 6b 6b", (2, 0, Some((6, What::Surplus))));
        check(Kind::Plan, "", "5x", (0, 0, Some((99, What::Surplus))));
        check(Kind::Assigned, "", "5x", (0, 0, Some((99, What::Surplus))));
    }

    #[test]
    fn what_compaction_has_removed_is_no_difference() {
        check(Kind::Heat, "4a 6b", "6b", (1, 1, None));
        check(Kind::Heat, "4a 6b", "9y", (0, 2, None));
        check(Kind::Heat, "4a - 6b", "6b", (1, 2, None));
        check(Kind::Heat, "4a -", "", (0, 2, None));
        check(Kind::Heat, "4a 6b", "4a", (1, 0, Some((6, What::Missing))));
        check(Kind::Heat, "4a 6b", "6c", (0, 1, Some((6, What::Differs))));
        check(Kind::Heat, "4a 6b", "4a 5x 6b", (1, 0, Some((6, What::Surplus))));
    }

    #[test]
    fn tombstones_are_compared_where_their_place_is_known() {
        check(Kind::Heat, "4a - 6b", "2x - 4a - 6b", (3, 0, None));
        check(Kind::Heat, "- 6b", "- 2x - 6b -", (2, 0, None));
        check(Kind::Heat, "4a 6b", "4a - 6b", (1, 0, Some((6, What::Surplus))));
    }

    #[test]
    fn what_has_no_place_is_looked_up() {
        let check = |kind, expected: &str, found: &str, others, outcome: (u64, u64, _)| {
            let standing = Standing { entries: entries(found), others };
            let compared = compare(kind, &entries(expected), &standing, None, 99);
            let (same, removed, first) = outcome;
            assert_eq!(compared, Compared { same, removed, first }, "{expected} | {found}");
        };
        check(Kind::Cancel, "4a 6b", "2x 4a 6b 9y", false, (2, 0, None));
        check(Kind::Cancel, "4a 6b", "6b 4a", false, (1, 0, Some((6, What::Missing))));
        check(Kind::Cancel, "4a", "4a 4a", false, (0, 0, Some((4, What::Surplus))));
        check(Kind::Failed, "4a", "", false, (0, 0, Some((4, What::Missing))));
        check(Kind::Failed, "4a", "", true, (0, 1, None));
        check(Kind::Dead, "4a", "4a 4a", false, (1, 0, None));
    }

    #[test]
    fn on_which_processor_a_tick_was_run_is_no_difference() {
        let on = |processor: &str, queries| {
            let done = TickDone {
                tick: 5,
                processor: processor.to_owned(),
                queries,
                ..TickDone::default()
            };
            let value = encode(&Progress { tick: Some(done), chunk: None });
            read(Progress::TOPIC, 5, Some(&value), false).unwrap().unwrap()
        };
        assert_eq!(on("x86_64", 7), on("aarch64", 7));
        assert_ne!(on("x86_64", 7), on("x86_64", 8));
    }
}
