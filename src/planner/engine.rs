//! Runs the dataflow on its timely workers, and talks to them stage by stage.
//!
//! ```text
//!              ┌─ heat(t) ─────> first stage settles ──> heat of cells, ranges, nodes
//!  the planner ├─ delta(t) ────> second stage        ──> desired less current assignment
//!              └─ slots ───────> between ticks       ──> sums by (cell, tick)
//! ```
//!
//! Timely workers are threads. Each reads its share of the records; what is not a query is fed to the
//! first. What comes out is put together and sorted, so their number does not show.
//!
//! * **Never half a stage.** A call returns when the stage has settled on every timely worker.
//! * **A panic of one ends all.** Its channel closes, and the call that waits for it says so.

use std::sync::Mutex;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use dataflows::delta::Placed;
use dataflows::tally::{Payload, Refusal, Rules};
use dataflows::{Pipeline, Tick, pipeline};
use schemas::CellId;
use timely::worker::Worker;

use super::machine::{Changes, Heated, Refused, Wanted};
use super::snapshot::Slot;

/// How long a timely worker that has nothing to do looks away.
const PARK: Duration = Duration::from_millis(1);

/// How long one timely worker is waited for before the others are looked at.
const LOOK_ROUND: Duration = Duration::from_millis(100);

enum Ask {
    Heat(Tick, Vec<Payload>, Changes),
    Delta(Tick, Wanted),
    /// Of these cells, or of all.
    Slots(Option<Vec<CellId>>),
}

enum Answer {
    Heat(Heated),
    Delta(Vec<(Placed, isize)>),
    Slots(Vec<Slot>),
}

/// The dataflow, running.
pub struct Engine {
    peers: Vec<Peer>,
}

struct Peer {
    asks: SyncSender<Ask>,
    answers: Receiver<Answer>,
}

impl Engine {
    /// Starts so many timely workers.
    pub fn start(timely_workers: usize, rules: Rules) -> anyhow::Result<Self> {
        assert!(0 < timely_workers, "somebody must work");
        let (mut peers, mut ends) = (Vec::new(), Vec::new());
        for _ in 0..timely_workers {
            let (asks, ask) = sync_channel(1);
            let (answer, answers) = sync_channel(1);
            peers.push(Peer { asks, answers });
            ends.push(Some((ask, answer)));
        }
        let ends = Mutex::new(ends);
        let threads = timely::execute(timely::Config::process(timely_workers), move |worker| {
            let mut ends = ends.lock().expect("no timely worker panics while it takes its end");
            let (asks, answers) = ends[worker.index()].take().expect("each takes its own");
            drop(ends);
            serve(worker, rules, &asks, &answers);
        });
        // They end when the engine is dropped and their channels close.
        let threads = threads.map_err(|err| anyhow!("start timely workers: {err}"))?;
        std::thread::Builder::new()
            .name("timely-join".to_owned())
            .spawn(move || threads.join().into_iter().for_each(drop))
            .context("start a thread")?;
        Ok(Self { peers })
    }

    /// Feeds the queries of a tick, and what has changed before it.
    pub fn heat(
        &mut self,
        tick: Tick,
        payloads: Vec<Payload>,
        changes: Changes,
    ) -> anyhow::Result<Heated> {
        let n = self.peers.len();
        let mut shares: Vec<Vec<Payload>> = (0..n).map(|_| Vec::new()).collect();
        for payload in payloads {
            shares[payload.partition as usize % n].push(payload);
        }
        let mut changes = Some(changes);
        let asks =
            shares.into_iter().map(|it| Ask::Heat(tick, it, changes.take().unwrap_or_default()));
        let mut heated = Heated::default();
        for answer in self.ask(asks.collect())? {
            let Answer::Heat(part) = answer else { unreachable!("an answer fits its ask") };
            heated.cells.extend(part.cells);
            heated.ranges.extend(part.ranges);
            heated.nodes.extend(part.nodes);
            heated.samples.extend(part.samples);
            heated.refused.extend(part.refused);
            heated.queries += part.queries;
            heated.late += part.late;
        }
        heated.cells.sort_unstable();
        heated.ranges.sort_unstable();
        heated.nodes.sort_unstable();
        heated.samples.sort_unstable();
        heated.refused.sort_unstable();
        Ok(heated)
    }

    /// Feeds how the current and the desired assignment have changed; returns how their difference
    /// has.
    pub fn delta(&mut self, tick: Tick, wanted: Wanted) -> anyhow::Result<Vec<(Placed, isize)>> {
        let mut rows = Vec::new();
        let rest = || Ask::Delta(tick, Wanted::default());
        for answer in self.ask(self.first(Ask::Delta(tick, wanted), rest))? {
            let Answer::Delta(part) = answer else { unreachable!("an answer fits its ask") };
            rows.extend(part);
        }
        rows.sort_unstable();
        Ok(rows)
    }

    /// Returns the sums of cells, or of all, as of the last tick.
    pub fn slots(&mut self, cells: Option<Vec<CellId>>) -> anyhow::Result<Vec<Slot>> {
        let asks = self.peers.iter().map(|_| Ask::Slots(cells.clone())).collect();
        let mut slots = Vec::new();
        for answer in self.ask(asks)? {
            let Answer::Slots(part) = answer else { unreachable!("an answer fits its ask") };
            slots.extend(part);
        }
        slots.sort_unstable();
        Ok(slots)
    }

    fn first(&self, first: Ask, rest: impl Fn() -> Ask) -> Vec<Ask> {
        std::iter::once(first).chain((1..self.peers.len()).map(|_| rest())).collect()
    }

    /// Asks all, then waits for all: a stage settles only when each of them steps.
    fn ask(&self, asks: Vec<Ask>) -> anyhow::Result<Vec<Answer>> {
        for (peer, ask) in self.peers.iter().zip(asks) {
            peer.asks.send(ask).context("a timely worker has ended")?;
        }
        let mut answers: Vec<Option<Answer>> = self.peers.iter().map(|_| None).collect();
        // One that panics leaves the others waiting for it for ever: so all of them are looked at.
        while let Some(first) = answers.iter().position(Option::is_none) {
            for (i, peer) in self.peers.iter().enumerate().skip(first) {
                if answers[i].is_some() {
                    continue;
                }
                let patience = if i == first { LOOK_ROUND } else { Duration::ZERO };
                match peer.answers.recv_timeout(patience) {
                    Ok(answer) => answers[i] = Some(answer),
                    Err(RecvTimeoutError::Timeout) => (),
                    Err(RecvTimeoutError::Disconnected) => bail!("a timely worker has panicked"),
                }
            }
        }
        Ok(answers.into_iter().flatten().collect())
    }
}

/// Answers until nobody can ask any more.
fn serve(worker: &mut Worker, rules: Rules, asks: &Receiver<Ask>, answers: &SyncSender<Answer>) {
    let read = |value: &[u8], each: &mut dyn FnMut(dataflows::tally::Query<'_>)| {
        schemas::query_log::read(value, each)
    };
    let mut stages = worker.dataflow::<Tick, _, _>(|scope| pipeline(scope, rules, read));
    while let Ok(ask) = asks.recv() {
        let answer = match ask {
            Ask::Heat(tick, payloads, changes) => {
                feed_heat(&mut stages, tick, payloads, changes);
                worker.step_or_park_while(Some(PARK), || !stages.heat.is_settled(tick));
                Answer::Heat(drain_heat(&stages))
            }
            Ask::Delta(tick, wanted) => {
                let stage = &mut stages.delta;
                stage.advance_to(tick);
                wanted.current.into_iter().for_each(|(row, diff)| stage.current.update(row, diff));
                wanted.desired.into_iter().for_each(|(row, diff)| stage.desired.update(row, diff));
                stage.advance_to(tick + 1);
                worker.step_or_park_while(Some(PARK), || !stages.delta.is_settled(tick));
                let rows = stages.delta.delta.drain();
                Answer::Delta(rows.into_iter().map(|(row, _, diff)| (row, diff)).collect())
            }
            Ask::Slots(cells) => Answer::Slots(match cells {
                Some(cells) => stages.heat.window.slots(&cells),
                None => stages.heat.window.all(),
            }),
        };
        if answers.send(answer).is_err() {
            break;
        }
    }
    // Closed inputs would run every window out, for nobody.
    for id in worker.installed_dataflows() {
        worker.drop_dataflow(id);
    }
}

fn feed_heat(stages: &mut Pipeline, tick: Tick, payloads: Vec<Payload>, changes: Changes) {
    let stage = &mut stages.heat;
    stage.advance_to(tick);
    payloads.into_iter().for_each(|it| stage.payloads.send((it, tick)));
    changes.splits.into_iter().for_each(|it| stage.splits.send((it, tick)));
    changes.reshapes.into_iter().for_each(|it| stage.reshapes.send((it, tick)));
    changes.cell_ranges.into_iter().for_each(|(row, diff)| stage.cell_ranges.update(row, diff));
    changes.range_nodes.into_iter().for_each(|(row, diff)| stage.range_nodes.update(row, diff));
    stage.advance_to(tick + 1);
}

fn drain_heat(stages: &Pipeline) -> Heated {
    let stage = &stages.heat;
    let mut heated = Heated {
        cells: stage.cells.drain().into_iter().map(|(cell, _, diff)| (cell, diff)).collect(),
        ranges: stage.ranges.drain().into_iter().map(|(row, _, diff)| (row, diff)).collect(),
        nodes: stage.nodes.drain().into_iter().map(|(row, _, diff)| (row, diff)).collect(),
        ..Heated::default()
    };
    for report in stage.reports.drain() {
        heated.queries += report.intake.queries;
        heated.late += report.intake.late;
        heated.samples.extend(report.samples);
        heated.refused.extend(report.refusals.into_iter().map(refused));
    }
    heated
}

fn refused(it: Refusal) -> Refused {
    let Payload { partition, offset, value, .. } = it.payload;
    Refused { partition, offset, value, reason: it.reason.code(), detail: it.reason.to_string() }
}
