//! Reads back what a planner has committed: where to begin, and what to run again.
//!
//! ```text
//!  planner_progress  … [box][box][chunk][box][chunk][box][box]
//!                             └── newest valid snapshot ──┘└─ boxes since: run again, drop what comes
//! ```
//!
//! * **Each tick by its own policy.** A box is run again by what counted when it was first run, which
//!   the records tell, and never by what is configured now.
//! * **Whole or no beginning.** What is left after retention, or after an adoption whose snapshot did
//!   not get through, is told apart from a planner's first tick.
//! * **Bounded.** Of boxes, those since the newest valid snapshot are kept.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use anyhow::{Context, anyhow, ensure};
use dataflows::Tick;
use schemas::Millis;
use schemas::heatmap::RangeHeated;
use schemas::planner_progress::{Progress, TickDone};
use schemas::wire::{Record as _, decode};

use super::elsewhere::Elsewhere;
use super::machine::State;
use super::settings::Settings;
use super::snapshot::{Gatherer, Slot, assemble};
use crate::kafka::Connection;
use crate::kafka::tail::{Start, scan};
use crate::tick::tick_box::TickBox;

/// What a tick led to was written at its end or later, by a clock that may be behind by so much.
pub const CLOCKS_MS: u64 = 60_000;

/// The topics that a planner reads tick by tick.
pub const INPUTS: [&str; 4] =
    ["query_log", "node_capacity", "migration_status", "operator_command"];

/// What a planner of some id has left behind.
#[derive(Default)]
pub struct Past {
    /// The newest valid snapshot: state, and sums by (cell, tick).
    pub snapshot: Option<(State, Vec<Slot>)>,
    /// The boxes since, or all there are; contiguous, the oldest first. Before those since a snapshot
    /// comes that of its own tick, emptied: the place where they go on.
    pub recorded: Vec<Recorded>,
    /// By their digests.
    pub policies: Policies,
    /// There are boxes, and what came before them is gone: they are no beginning.
    pub is_cut: bool,
}

/// A tick that was committed.
#[derive(Clone, Debug)]
pub struct Recorded {
    pub bounds: TickBox,
    pub by: By,
}

/// By what a tick was decided, beside its box.
#[derive(Clone, Debug)]
pub struct By {
    pub policy_digest: String,
    /// What was forecast, where that was on another kind of processor.
    pub elsewhere: Option<Elsewhere>,
}

/// What planners went by, as they wrote it.
#[derive(Clone, Debug, Default)]
pub struct Policies(BTreeMap<String, String>);

impl Policies {
    /// Returns the settings of a digest; `now` are those of which no record is needed.
    pub fn settings(&self, digest: &str, now: Option<&Settings>) -> anyhow::Result<Settings> {
        if let Some(now) = now.filter(|it| it.text().1 == digest) {
            return Ok(now.clone());
        }
        let text = self.0.get(digest).with_context(|| {
            format!(
                "the policy {digest}, by which ticks on planner_progress were decided, is not there \
                 any more; set it back, or choose another planner id, which adopts the assignment"
            )
        })?;
        Settings::parse(text)
            .with_context(|| format!("read the policy {digest} from planner_progress"))
    }
}

/// Reads all progress of a planner. Final only once its predecessor is fenced.
pub fn read(connection: &Connection, planner_id: &str) -> anyhow::Result<Past> {
    read_before(connection, planner_id, Tick::MAX)
}

/// Reads what there is to run the ticks from `first` on again: of snapshots, those count that were
/// taken before that tick.
pub fn read_before(connection: &Connection, planner_id: &str, first: Tick) -> anyhow::Result<Past> {
    let mut reader = Reader::default();
    each(connection, planner_id, |progress| {
        reader.take(progress, first);
        ControlFlow::Continue(())
    })?;
    let mut past = reader.past()?;
    read_elsewhere(connection, &mut past.recorded)?;
    Ok(past)
}

/// Reads what ticks of another kind of processor told of ranges.
fn read_elsewhere(connection: &Connection, recorded: &mut [Recorded]) -> anyhow::Result<()> {
    let Some(first) = recorded.iter().find(|it| it.by.elsewhere.is_some()) else { return Ok(()) };
    let TickBox { tick: first, tick_ms, .. } = first.bounds;
    let since = Millis((first * tick_ms).saturating_sub(CLOCKS_MS));
    let mut broken = None;
    scan(connection, RangeHeated::TOPIC, Start::Time(since), |record| {
        let Some(value) = record.value else { return ControlFlow::Continue(()) };
        match add(recorded, &value) {
            Ok(()) => ControlFlow::Continue(()),
            Err(err) => {
                broken = Some(format!("offset {}: {err}", record.offset));
                ControlFlow::Break(())
            }
        }
    })?;
    let broken = broken.map_or(Ok(()), |it| Err(anyhow!("{it}")));
    broken.with_context(|| format!("read {}", connection.topic(RangeHeated::TOPIC)))
}

/// Takes in what a tick told of a range, if the tick is one of another kind of processor.
fn add(recorded: &mut [Recorded], value: &[u8]) -> Result<(), String> {
    let told: RangeHeated = decode(value).map_err(|it| it.to_string())?;
    let at = recorded.binary_search_by_key(&told.tick, |it| it.bounds.tick);
    let elsewhere = at.ok().and_then(|at| recorded[at].by.elsewhere.as_mut());
    elsewhere.map_or(Ok(()), |it| it.add(&told))
}

/// Returns the first of its ticks from `from` on that can be run again from a snapshot, if any.
pub fn first_after_snapshot(
    connection: &Connection,
    planner_id: &str,
    from: Tick,
) -> anyhow::Result<Option<Tick>> {
    let mut gatherer = Gatherer::default();
    let mut found = None;
    each(connection, planner_id, |Progress { chunk, .. }| {
        chunk.into_iter().for_each(|it| gatherer.add(it));
        match gatherer.newest_tick().filter(|it| from <= *it) {
            Some(tick) => {
                found = Some(tick + 1);
                ControlFlow::Break(())
            }
            None => ControlFlow::Continue(()),
        }
    })?;
    Ok(found)
}

/// Shows the progress records of a planner.
pub fn each(
    connection: &Connection,
    planner_id: &str,
    mut each: impl FnMut(Progress) -> ControlFlow<()>,
) -> anyhow::Result<()> {
    let mut broken = None;
    scan(connection, Progress::TOPIC, Start::Beginning, |record| {
        if record.key.as_deref() != Some(planner_id.as_bytes()) {
            return ControlFlow::Continue(());
        }
        match decode::<Progress>(&record.value.unwrap_or_default()) {
            Ok(progress) => each(progress),
            Err(err) => {
                broken = Some(format!("offset {}: {err}", record.offset));
                ControlFlow::Break(())
            }
        }
    })?;
    ensure!(
        broken.is_none(),
        "progress of {planner_id} cannot be read ({}): was it written by another version? Run that, or \
         choose another planner id, which adopts the assignment",
        broken.unwrap_or_default()
    );
    Ok(())
}

/// Takes in the progress records of a planner, in their order.
#[derive(Default)]
pub struct Reader {
    gatherer: Gatherer,
    done: Vec<TickDone>,
    policies: BTreeMap<String, String>,
    /// Of which tick the last chunk was, whether or not its snapshot is of use.
    chunked: Option<Tick>,
    is_cut: bool,
}

impl Reader {
    /// Takes in the next record; of snapshots, those count that were taken before the tick `first`.
    pub fn take(&mut self, progress: Progress, first: Tick) {
        let Progress { tick, chunk } = progress;
        if let Some(tick) = tick {
            self.take_tick(tick);
        }
        self.chunked = chunk.as_ref().map(|it| it.tick).or(self.chunked);
        if let Some(chunk) = chunk.filter(|it| it.tick < first) {
            self.gatherer.add(chunk);
            if let Some(newest) = self.gatherer.newest_tick() {
                self.done.retain(|it| newest <= it.tick);
            }
        }
    }

    fn take_tick(&mut self, mut tick: TickDone) {
        if let Some(text) = tick.policy.take() {
            if self.done.is_empty() {
                // What an adoption begins with is in the snapshot of this tick only.
                self.is_cut = self.chunked == Some(tick.tick);
            }
            self.policies.insert(tick.policy_digest.clone(), text);
        } else if self.done.is_empty() {
            // The first tick of a planner tells its policy.
            self.is_cut = true;
        }
        if self.done.last().is_some_and(|last| last.tick + 1 != tick.tick) {
            // An adoption: what came before is of no use to it.
            self.done.clear();
            self.is_cut = true;
        }
        self.done.push(tick);
    }

    /// Returns what was read, or an error if it is not of one planner.
    pub fn past(self) -> anyhow::Result<Past> {
        let Self { gatherer, mut done, policies, mut is_cut, .. } = self;
        let snapshot = match gatherer.newest() {
            Some(chunks) => {
                let (tick, state, slots) =
                    assemble::<State>(&chunks).context("read the newest snapshot")?;
                done.retain(|it| tick <= it.tick);
                // One from before an adoption says nothing of what came after that.
                let follows = done.first().is_some_and(|it| it.tick == tick);
                is_cut |= !follows;
                follows.then_some((state, slots))
            }
            None => None,
        };
        let mut recorded: Vec<Recorded> =
            done.into_iter().map(recorded).collect::<Result<_, _>>()?;
        if snapshot.is_some() {
            let spans = recorded[0].bounds.spans.values_mut();
            spans.for_each(|it| it.from = it.to);
        }
        for pair in recorded.windows(2) {
            let [one, next] = [&pair[0].bounds, &pair[1].bounds];
            ensure!(
                one.is_followed_by(next),
                "progress has a hole after tick {}: it is not from one planner",
                one.tick
            );
        }
        let is_cut = is_cut && snapshot.is_none() && !recorded.is_empty();
        Ok(Past { snapshot, recorded, policies: Policies(policies), is_cut })
    }
}

fn recorded(done: TickDone) -> anyhow::Result<Recorded> {
    let bounds = TickBox::read_from(&done, &INPUTS)?;
    let elsewhere = Elsewhere::of(&done);
    let elsewhere = elsewhere.map_err(|it| anyhow!("tick {} forecast {it}", done.tick))?;
    Ok(Recorded { bounds, by: By { policy_digest: done.policy_digest, elsewhere } })
}
