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
//! * **What was forecast on another kind of processor** is taken as it stands ([`Elsewhere`]), and that is told; what the
//!   planner has learned, in snapshots and fits, may differ in a last digit there, and is not compared. A planner that went on
//!   here began with what was learned there: what it forecast is verified with `--from` its first tick, and where a span begins
//!   before that it may differ by a quantum.
//!
//! [`Elsewhere`]: crate::planner::elsewhere::Elsewhere

mod compare;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::ops::ControlFlow;
use std::time::{Duration, UNIX_EPOCH};

use anyhow::{Context, bail, ensure};
use dataflows::Tick;
use schemas::planner_progress::{Progress, TickDone};
use schemas::wire::Record as _;
use schemas::{Key, Millis};

use self::compare::{Expected, Kind, Standing, compare, read};
use crate::forecast;
use crate::kafka::source::{Input, Inputs, Source};
use crate::kafka::tail::{Start, scan};
use crate::kafka::{Connection, Output};
use crate::planner::driver::{Resumed, Run, rebuilt};
use crate::planner::progress::{self, CLOCKS_MS, INPUTS};
use crate::tick::rules::{Reading, Rules};

/// So many differences are told one by one.
const DIFFERENCES_MAX: usize = 100;

/// No time of this year or later can be written.
const YEAR_10000_MS: u64 = 253_402_300_800_000;

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
    /// Keys whose records are not the same.
    pub differing: u64,
    /// Where the first of them differ, by tick.
    pub differences: Vec<Difference>,
    /// The kinds of processor on which ticks were run that are not the one on which they were run again.
    pub elsewhere: BTreeSet<String>,
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
    let (first, resumed) = resume(it, (first, last), tick_ms)?;
    let ticks = resumed.recorded.iter().map(|it| it.tick).zip(&resumed.by);
    let ticks = ticks.filter(|(tick, _)| (first..=last).contains(tick));
    let elsewhere: BTreeSet<_> =
        ticks.filter_map(|(_, by)| Some(by.elsewhere.as_ref()?.processor.clone())).collect();
    let is_elsewhere = !elsewhere.is_empty();
    let mut expected = expect(it, resumed, (first, last), is_elsewhere, told)?;
    let since = Millis((first * tick_ms).saturating_sub(CLOCKS_MS));
    let mut verdict = Verdict { first, last, elsewhere, ..Verdict::default() };
    let mut differences = Vec::new();
    for kind in Kind::ALL {
        let range = expected.range(kind);
        let mut expected = expected.entries.remove(&kind).unwrap_or_default();
        let mut standing = standing(it, (kind, since), is_elsewhere)?;
        for key in standing.keys() {
            expected.entry(key.clone()).or_default();
        }
        for (key, expected) in expected {
            let standing = standing.remove(&key).unwrap_or_default();
            let compared = compare(kind, &expected, &standing, range, last);
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
    differences.sort_unstable();
    verdict.differing = differences.len() as u64;
    differences.truncate(DIFFERENCES_MAX);
    verdict.differences = differences;
    Ok(verdict)
}

/// Ticks from the first to the last.
struct Span {
    first: Tick,
    last: Tick,
    tick_ms: u64,
}

/// Finds out which ticks are meant: of a planner that began anew without its past, those since, unless
/// others are asked for.
fn span(it: &Verify<'_>) -> anyhow::Result<Span> {
    let mut found: Option<Span> = None;
    let mut anew = None;
    let is_meant = |start_ms: u64| {
        it.from.is_none_or(|from| from.0 <= start_ms) && it.to.is_none_or(|to| start_ms < to.0)
    };
    progress::each(it.connection, it.planner_id, |progress| {
        if let Some(done) = progress.tick.filter(|it| is_meant(it.tick * it.tick_ms)) {
            let TickDone { tick, tick_ms, .. } = done;
            if found.as_ref().is_some_and(|it| it.last + 1 < tick) {
                found = None;
                anew = Some((tick, tick_ms));
            }
            found.get_or_insert(Span { first: tick, last: tick, tick_ms }).last = tick;
        }
        ControlFlow::Continue(())
    })?;
    let found = found.with_context(|| {
        format!(
            "{} has no tick of planner {} in this span; whose are looked at, `planner.id` says: that of \
             a demonstration is demo",
            it.connection.topic(Progress::TOPIC),
            it.planner_id
        )
    })?;
    match anew.filter(|_| it.from.is_some()) {
        Some(anew) => bail!("{}", began_anew(it.planner_id, anew)),
        None => Ok(found),
    }
}

/// Restores the planner as it was before the first tick. If nobody said where to begin, that may be
/// a later one: the first tick of an adoption rests on what others wrote, which may be gone; what it
/// led to is in its snapshot.
fn resume(
    it: &Verify<'_>,
    (first, last): (Tick, Tick),
    tick_ms: u64,
) -> anyhow::Result<(Tick, Resumed)> {
    let before = |tick| rebuilt(progress::read_before(it.connection, it.planner_id, tick)?, None);
    if let Some(resumed) = before(first)? {
        return Ok((first, resumed));
    }
    let later = progress::first_after_snapshot(it.connection, it.planner_id, first)?;
    let later = later.filter(|tick| *tick <= last);
    let topic = it.connection.topic(Progress::TOPIC);
    let why = format!(
        "tick {first} cannot be run again: no snapshot that was taken before it is on {topic}"
    );
    match later {
        Some(tick) if it.from.is_none() => Ok((tick, before(tick)?.context(why)?)),
        Some(tick) => bail!("{}", begins_later(&why, (tick, tick_ms))),
        None => bail!("{why}, and none after it before tick {last}"),
    }
}

/// Why a span does not go on over the tick in which a planner began anew, and which would.
fn began_anew(planner_id: &str, (tick, tick_ms): (Tick, u64)) -> String {
    let start = start(tick, tick_ms);
    format!(
        "planner {planner_id} began anew at tick {tick}, without its past: begin there or later, with \
         --from {start}, or end before it, with --to {start}"
    )
}

/// With which tick a span can begin instead.
fn begins_later(why: &str, (tick, tick_ms): (Tick, u64)) -> String {
    format!(
        "{why}; begin with tick {tick}, with --from {}, or without --from",
        start(tick, tick_ms)
    )
}

/// When a tick begins, as `--from` and `--to` take it.
fn start(tick: Tick, tick_ms: u64) -> String {
    // No clock of a broker is beyond.
    let since = Duration::from_millis(tick.saturating_mul(tick_ms).min(YEAR_10000_MS - 1));
    humantime::format_rfc3339_millis(UNIX_EPOCH + since).to_string()
}

/// Runs the ticks again; returns what came out of those that are compared.
fn expect(
    it: &Verify<'_>,
    resumed: Resumed,
    (first, last): (Tick, Tick),
    is_elsewhere: bool,
    told: &mut dyn FnMut(Tick),
) -> anyhow::Result<Expected> {
    let Resumed { planner, beginning, mut recorded, by, policies } = resumed;
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
    let mut by = VecDeque::from(by);
    let mut res = Expected { ticks: (first, last), ..Expected::default() };
    let mut tick = 0;
    while tick < last
        && let Some(filled) = source.next_tick()?
    {
        tick = filled.bounds.tick;
        let by = by.pop_front().context("each recorded tick has a policy")?;
        if beginning.knows(&filled.bounds) {
            continue;
        }
        run = run.going_by(policies.settings(&by.policy_digest, None)?)?;
        run.planner.believe(by.elsewhere);
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
            if let Some((kind, entry)) = read(topic, tick, value.as_deref(), is_elsewhere)? {
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
    (kind, since): (Kind, Millis),
    is_elsewhere: bool,
) -> anyhow::Result<BTreeMap<Vec<u8>, Standing>> {
    let mut res: BTreeMap<Vec<u8>, Standing> = BTreeMap::new();
    let mut broken = None;
    scan(it.connection, kind.topic(), Start::Time(since), |record| {
        let key = record.key.unwrap_or_default();
        if kind.topic() == Progress::TOPIC && key != it.planner_id.as_bytes() {
            return ControlFlow::Continue(());
        }
        match read(kind.topic(), 0, record.value.as_deref(), is_elsewhere) {
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

/// A key as a person can read it.
fn text(key: &[u8]) -> String {
    match str::from_utf8(key) {
        Ok(text) if !text.is_empty() && !text.chars().any(char::is_control) => text.to_owned(),
        Ok(_) | Err(_) => Key(key.to_vec()).to_string(),
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { first, last, same, removed, differing, differences, elsewhere } = self;
        match differences.first() {
            None => write!(
                f,
                "ticks {first} to {last} come out as they stand: {same} records are the same, and \
                 {removed} are superseded and removed"
            )?,
            Some(it) => {
                write!(f, "tick {} differs, the first of {first} to {last}: {it}", it.tick)?;
                if 1 < *differing {
                    write!(f, "; {} more keys differ, in this tick or later", differing - 1)?;
                }
            }
        }
        if !elsewhere.is_empty() {
            let there: Vec<_> = elsewhere.iter().map(String::as_str).collect();
            write!(
                f,
                "; ticks were run on {}, and this is {}: what was forecast there is taken as it stands",
                there.join(", "),
                forecast::processor()
            )?;
        }
        Ok(())
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

    #[test]
    fn where_to_begin_is_told_as_from_takes_it() {
        let anew = began_anew("demo", (3_470_000_001, 500));
        let expected = "with --from 2024-12-24T00:26:40.500Z, or end before it, with --to \
                        2024-12-24T00:26:40.500Z";
        assert!(anew.starts_with("planner demo began anew at tick 3470000001"), "{anew}");
        assert!(anew.ends_with(expected), "{anew}");
        let later = begins_later("tick 3 cannot be run again", (347_000_000, 5_000));
        let expected = "tick 3 cannot be run again; begin with tick 347000000, with --from \
                        2024-12-24T00:26:40.000Z, or without --from";
        assert_eq!(later, expected);
        for (tick, tick_ms) in [(0, 100), (3_470_000_001, 500), (7, 123)] {
            let read = humantime::parse_rfc3339(&start(tick, tick_ms)).unwrap();
            let since = read.duration_since(UNIX_EPOCH).unwrap();
            assert_eq!(since, Duration::from_millis(tick * tick_ms));
        }
        assert_eq!(start(u64::MAX, u64::MAX), "9999-12-31T23:59:59.999Z");
    }

    #[test]
    fn that_ticks_were_run_on_another_processor_is_told() {
        let here = Verdict { first: 3, last: 9, same: 40, ..Verdict::default() };
        assert!(!here.to_string().contains("this is"), "{here}");
        let elsewhere = Verdict { elsewhere: BTreeSet::from(["z80".to_owned()]), ..here };
        let told = elsewhere.to_string();
        assert!(told.contains("run on z80") && told.contains(forecast::processor()), "{told}");
    }
}
