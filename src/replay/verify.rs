//! Runs recorded ticks of a planner again, and compares what comes out with what stands.
//!
//! ```text
//!  planner_progress ──> newest snapshot before ──> the same boxes ──> outputs ─┐
//!                                                                              ├─> first difference
//!  heatmap, plan, migrate_range, migration_status, assignment, … ──────────────┘
//! ```
//!
//! * **The planner's own code**, by the policy that was recorded with each tick, whatever is
//!   configured now.
//! * **Nothing is written**, and nothing fenced: a planner may go on meanwhile.
//! * **Byte for byte**, key by key in the order of the topic. What compaction has removed is counted,
//!   and is no difference; what stands twice is one.
//!
//! Heat is forecast again as well. On another kind of processor it may differ in a quantum, which
//! then is a difference.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::ops::ControlFlow;

use anyhow::{Context, bail, ensure};
use dataflows::Tick;
use schemas::assignment::Assignment;
use schemas::heatmap::RangeHeated;
use schemas::migrate_range::{Command, MigrateRange};
use schemas::migration_status::{MigrationStatus, Status};
use schemas::plan::Planned;
use schemas::planner_progress::{Progress, TickDone};
use schemas::wire::{Record as _, decode};
use schemas::{Key, Millis, dead_letter};
use xxhash_rust::xxh3::xxh3_128;

use crate::kafka::source::{Input, Inputs, Source};
use crate::kafka::tail::{Start, scan};
use crate::kafka::{Connection, Output};
use crate::migration::table::PLANNER;
use crate::planner::driver::{Resumed, Run, rebuilt};
use crate::planner::progress::{self, INPUTS};
use crate::tick::rules::{Reading, Rules};

/// What a tick led to was written at its end or later, by a clock that may be behind by so much.
const CLOCKS_MS: u64 = 60_000;

/// What is to be verified.
#[derive(Clone, Debug)]
pub struct Verify<'a> {
    pub connection: &'a Connection,
    pub planner_id: &'a str,
    /// Ticks that begin at this or later; else all.
    pub from: Option<Millis>,
    /// Ticks that begin before this; else all.
    pub to: Option<Millis>,
    pub timely_workers: usize,
}

/// What came out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// The ticks that were compared.
    pub first: Tick,
    pub last: Tick,
    /// Records that are the same.
    pub same: u64,
    /// Records of keys that were written again since, and that compaction has removed.
    pub removed: u64,
    pub difference: Option<Difference>,
}

/// Where what stands is not what comes out.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Difference {
    pub tick: Tick,
    pub topic: &'static str,
    pub key: String,
    pub what: What,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum What {
    /// It comes out, and is not on the topic.
    Missing,
    /// It is on the topic, and does not come out, or not so often.
    Surplus,
    Differs,
}

/// Runs the ticks again, and compares; `told` of each tick.
pub fn run(it: &Verify<'_>, told: &mut dyn FnMut(Tick)) -> anyhow::Result<Verdict> {
    let Span { first, last, tick_ms } = span(it)?;
    let past = progress::read_before(it.connection, it.planner_id, first)?;
    let resumed = rebuilt(past, None)?.with_context(|| {
        format!(
            "tick {first} cannot be run again: no snapshot that was taken before it is left on {}; \
             begin later",
            it.connection.topic(Progress::TOPIC)
        )
    })?;
    let mut expected = expect(it, resumed, first, last, told)?;
    let since = Millis((first * tick_ms).saturating_sub(CLOCKS_MS));
    let mut verdict = Verdict { first, last, ..Verdict::default() };
    let mut differences = Vec::new();
    for kind in Kind::ALL {
        let range = expected.range(kind);
        let mut expected = expected.entries.remove(&kind).unwrap_or_default();
        let mut standing = standing(it, kind, since)?;
        for key in standing.keys() {
            expected.entry(key.clone()).or_default();
        }
        for (key, expected) in expected {
            let standing = standing.remove(&key).unwrap_or_default();
            let compared = compare(kind, &expected, &standing, range);
            verdict.same += compared.same;
            verdict.removed += compared.removed;
            differences.extend(compared.first.map(|(tick, what)| Difference {
                tick,
                topic: kind.topic(),
                key: text(&key),
                what,
            }));
        }
    }
    verdict.difference = differences.into_iter().min();
    Ok(verdict)
}

/// Ticks from the first to the last.
struct Span {
    first: Tick,
    last: Tick,
    tick_ms: u64,
}

/// Finds out which ticks are meant.
fn span(it: &Verify<'_>) -> anyhow::Result<Span> {
    let mut found: Option<Span> = None;
    let is_meant = |start_ms: u64| {
        it.from.is_none_or(|from| from.0 <= start_ms) && it.to.is_none_or(|to| start_ms < to.0)
    };
    progress::each(it.connection, it.planner_id, |progress| {
        if let Some(done) = progress.tick.filter(|it| is_meant(it.tick * it.tick_ms)) {
            let TickDone { tick, tick_ms, .. } = done;
            found.get_or_insert(Span { first: tick, last: tick, tick_ms }).last = tick;
        }
        ControlFlow::Continue(())
    })?;
    found.with_context(|| {
        format!(
            "{} has no tick of planner {} in this span",
            it.connection.topic(Progress::TOPIC),
            it.planner_id
        )
    })
}

/// What a record is, as far as it decides how it is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
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
struct Entry {
    /// In which it came out; of what stands it is not known.
    tick: Tick,
    /// By which it can be told whether it belongs to the span: a tick, a generation, a migration.
    place: Option<u64>,
    /// `None`: a tombstone.
    digest: Option<u128>,
}

/// What stands of a key.
#[derive(Debug, Default)]
struct Standing {
    entries: Vec<Entry>,
    /// Others have written under this key, too.
    others: bool,
}

/// What came out, by kind and key, in its order.
#[derive(Default)]
struct Expected {
    entries: BTreeMap<Kind, BTreeMap<Vec<u8>, Vec<Entry>>>,
    ticks: (Tick, Tick),
    /// The first that came out, and the last.
    generations: (u64, u64),
}

/// How what stands of a key compares.
#[derive(Debug, Default, PartialEq, Eq)]
struct Compared {
    same: u64,
    removed: u64,
    first: Option<(Tick, What)>,
}

impl Kind {
    const ALL: [Self; 10] = [
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

    fn topic(self) -> &'static str {
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

/// Returns what a record is; `None` if it is none of a planner's.
fn read(topic: &str, tick: Tick, value: Option<&[u8]>) -> anyhow::Result<Option<(Kind, Entry)>> {
    let digest = value.map(xxh3_128);
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
            Some(done) => (Kind::Done, Some(done.tick)),
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
    fn range(&self, kind: Kind) -> Option<(u64, u64)> {
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

/// Runs the ticks again; returns what came out of those that are compared.
fn expect(
    it: &Verify<'_>,
    resumed: Resumed,
    first: Tick,
    last: Tick,
    told: &mut dyn FnMut(Tick),
) -> anyhow::Result<Expected> {
    let Resumed { planner, beginning, mut recorded, digests, policies } = resumed;
    recorded.retain(|it| it.tick <= last);
    let bounds = recorded.last().context("there are ticks")?;
    let rules = Rules {
        tick_ms: bounds.tick_ms,
        grace_ms: bounds.grace_ms,
        span_records_max: bounds.span_records_max,
        ..Rules::default()
    };
    let input = Input {
        connection: it.connection.clone(),
        topics: INPUTS.to_vec(),
        reading: Reading::Live,
        start: Start::End,
        end: None,
    };
    let inputs = Inputs { name: "verify".to_owned(), rules, inputs: vec![input] };
    let mut source = Source::open(&inputs, recorded)?;
    let mut run = Run::start(planner, it.timely_workers)?;
    let mut digests = VecDeque::from(digests);
    let mut res = Expected { ticks: (first, last), ..Expected::default() };
    let mut tick = 0;
    while tick < last
        && let Some(filled) = source.next_tick()?
    {
        tick = filled.bounds.tick;
        let digest = digests.pop_front().context("each recorded tick has a policy")?;
        if beginning.knows(&filled.bounds) {
            continue;
        }
        run = run.going_by(policies.settings(&digest, None)?)?;
        if tick == first {
            res.generations.0 = run.planner.state().map.generation().0 + 1;
        }
        let outputs = run.tick(filled, it.planner_id)?;
        res.generations.1 = run.planner.state().map.generation().0;
        told(tick);
        if tick < first {
            continue;
        }
        for Output { topic, key, value, .. } in outputs.outputs {
            if let Some((kind, entry)) = read(topic, tick, value.as_deref())? {
                let keys = res.entries.entry(kind).or_default();
                keys.entry(key.unwrap_or_default()).or_default().push(entry);
            }
        }
    }
    ensure!(tick == last, "the reading ended at tick {tick}, before tick {last}");
    Ok(res)
}

/// Reads what stands of a kind, key by key, in its order.
fn standing(
    it: &Verify<'_>,
    kind: Kind,
    since: Millis,
) -> anyhow::Result<BTreeMap<Vec<u8>, Standing>> {
    let mut res: BTreeMap<Vec<u8>, Standing> = BTreeMap::new();
    let mut broken = None;
    scan(it.connection, kind.topic(), Start::Time(since), |record| {
        let key = record.key.unwrap_or_default();
        if kind.topic() == Progress::TOPIC && key != it.planner_id.as_bytes() {
            return ControlFlow::Continue(());
        }
        match read(kind.topic(), 0, record.value.as_deref()) {
            Ok(Some((of, entry))) if of == kind => res.entry(key).or_default().entries.push(entry),
            Ok(_) => res.entry(key).or_default().others = true,
            Err(err) => {
                let at = format!("read {} at offset {}", kind.topic(), record.offset);
                broken = Some(err.context(at));
                return ControlFlow::Break(());
            }
        }
        ControlFlow::Continue(())
    })?;
    broken.map_or(Ok(res), Err)
}

fn compare(
    kind: Kind,
    expected: &[Entry],
    standing: &Standing,
    range: Option<(u64, u64)>,
) -> Compared {
    match range {
        Some(range) => compare_placed(kind, expected, standing, range),
        None => compare_found(kind, expected, standing),
    }
}

/// Compares one by one: all that stands in the range must have come out.
fn compare_placed(
    kind: Kind,
    expected: &[Entry],
    standing: &Standing,
    range: (u64, u64),
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
            let tick = expected.last().map_or(range.1, |it| it.tick);
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

/// A key as a person can read it.
fn text(key: &[u8]) -> String {
    match str::from_utf8(key) {
        Ok(text) if !text.is_empty() && !text.chars().any(char::is_control) => text.to_owned(),
        Ok(_) | Err(_) => Key(key.to_vec()).to_string(),
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { first, last, same, removed, difference } = self;
        match difference {
            None => write!(
                f,
                "ticks {first} to {last} come out as they stand: {same} records are the same, and \
                 {removed} are superseded and removed"
            ),
            Some(it) => write!(f, "tick {} differs, the first of {first} to {last}: {it}", it.tick),
        }
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { topic, key, what, .. } = self;
        match what {
            What::Missing => write!(f, "a record of {key} comes out, and is not on {topic}"),
            What::Surplus => write!(f, "a record of {key} is on {topic}, and does not come out"),
            What::Differs => write!(f, "the record of {key} on {topic} is another"),
        }
    }
}

#[cfg(test)]
mod tests {
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
        let compared = compare(kind, &entries(expected), &standing, Some((4, 7)));
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
        check(Kind::Plan, "", "5x", (0, 0, Some((7, What::Surplus))));
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
            let compared = compare(kind, &entries(expected), &standing, None);
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
}
