//! Runs a story through the pipeline.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use dataflows::delta::Placed;
use dataflows::heat::{Heat, Rolling};
use dataflows::splits::SplitChange;
use dataflows::stage::Feed;
use dataflows::sums::Report;
use dataflows::tally::Payload;
use dataflows::window::Reshape;
use dataflows::{Pipeline, Tick, pipeline};
use schemas::{CellId, Millis, NodeId, RangeId};
use timely::worker::Worker;

use crate::story::{self, Events, RULES, State, Story};

/// All that timely workers said, together.
#[derive(Default)]
pub struct Said {
    pub reports: Vec<Report>,
    pub cells: Vec<(CellId, Tick, Rolling)>,
    pub ranges: Vec<((RangeId, Rolling), Tick, isize)>,
    pub nodes: Vec<((NodeId, Rolling), Tick, isize)>,
    pub delta: Vec<(Placed, Tick, isize)>,
    /// What the windows held, at the last tick of each burst.
    pub slots: Vec<(Tick, CellId, Tick, Heat)>,
    /// With what comes when the inputs are closed.
    pub cells_to_the_end: Vec<(CellId, Tick, Rolling)>,
    pub last_tick: Tick,
}

/// Tells a story to some timely workers, from a tick on: the state before it is loaded at it.
pub fn run(story: &Story, peers: usize, from: usize) -> Said {
    let said = Arc::new(Mutex::new(Said::default()));
    let all = Arc::clone(&said);
    let story = Arc::new(Story {
        seed: story.seed,
        first: story.first,
        bursts: story.bursts.clone(),
        ticks: story
            .ticks
            .iter()
            .map(|it| story::Told { events: it.events.clone(), state: it.state.clone() })
            .collect(),
    });
    let guards = timely::execute(timely::Config::process(peers), move |worker| {
        let mut pipeline = worker.dataflow(|scope| pipeline(scope, RULES, story::read));
        tell(worker, &mut pipeline, &story, from, &all);
        let Pipeline { heat, delta } = pipeline;
        let cells = heat.cells;
        drop((heat.payloads, heat.splits, heat.reshapes, heat.cell_ranges, heat.range_nodes));
        drop((delta.desired, delta.current));
        step(worker, || heat.probe.done());
        let mut all = all.lock().expect("nobody has panicked");
        let rest = cells.drain();
        all.last_tick = rest.iter().map(|row| row.1).chain([all.last_tick]).max().unwrap_or(0);
        all.cells_to_the_end.extend(rest);
    });
    for ended in guards.expect("timely workers").join() {
        ended.expect("a timely worker ends well");
    }
    let said = Arc::into_inner(said).expect("all have ended");
    said.into_inner().expect("nobody has panicked")
}

/// A limit, so that a panic of another timely worker is not an endless wait.
fn step(worker: &mut Worker, is_done: impl Fn() -> bool) {
    for _ in 0..30_000 {
        if is_done() {
            return;
        }
        worker.step_or_park(Some(Duration::from_millis(1)));
    }
    panic!("it does not settle");
}

fn tell(worker: &mut Worker, it: &mut Pipeline, story: &Story, from: usize, all: &Mutex<Said>) {
    let (index, peers) = (worker.index(), worker.peers());
    let before = story.first + from as Tick - 1;
    it.heat.advance_to(before);
    it.delta.advance_to(before);
    if from > 0 && index == 0 {
        load(it, before, &story.ticks[from - 1].state);
    }
    let mut at = 0;
    for (round, burst) in story.bursts.iter().enumerate() {
        let ticks = at.max(from)..at + burst;
        at += burst;
        if ticks.is_empty() {
            continue;
        }
        let (first, last) =
            (story.first + ticks.start as Tick, story.first + ticks.end as Tick - 1);
        let told = story.ticks[ticks].iter().map(|it| &it.events);
        let told: Vec<_> = (first..).zip(told).collect();
        let seed = story.seed * 1000 + round as u64;

        feed_payloads(it, &told, seed, index, peers);
        if index == 0 {
            feed_heat(it, &told, seed);
        }
        it.heat.advance_to(last + 1);
        step(worker, || it.heat.is_settled(last));
        if index == 0 {
            for (tick, events) in &told {
                let rows = |feed: &mut dataflows::stage::FeedRows<Placed>,
                            rows: &[(Placed, isize)]| {
                    rows.iter().for_each(|(row, diff)| feed.update_at(row.clone(), *tick, *diff));
                };
                rows(&mut it.delta.desired, &events.desired);
                rows(&mut it.delta.current, &events.current);
            }
        }
        it.delta.advance_to(last + 1);
        step(worker, || it.delta.is_settled(last));
        drain(it, last, &mut all.lock().expect("nobody has panicked"));
    }
}

fn drain(it: &Pipeline, tick: Tick, all: &mut Said) {
    let cells = it.heat.cells.drain();
    all.cells_to_the_end.extend(cells.iter().copied());
    all.cells.extend(cells);
    all.reports.extend(it.heat.reports.drain());
    all.ranges.extend(it.heat.ranges.drain());
    all.nodes.extend(it.heat.nodes.drain());
    all.delta.extend(it.delta.delta.drain());
    let slots = it.heat.window.all();
    if let Some((cell, _, _)) = slots.last() {
        let of_cell: Vec<_> = slots.iter().filter(|slot| slot.0 == *cell).copied().collect();
        assert_eq!(it.heat.window.slots(&[*cell]), of_cell);
    }
    all.slots.extend(slots.into_iter().map(|(cell, of, heat)| (tick, cell, of, heat)));
}

/// Sends items with their ticks, in no order.
fn send<D: Clone + 'static>(feed: &mut Feed<D>, mut items: Vec<D>, seed: u64) {
    story::shuffle(&mut items, seed);
    items.into_iter().for_each(|item| feed.send(item));
}

type TickTold<'a> = (Tick, &'a Events);

fn feed_payloads(it: &mut Pipeline, told: &[TickTold<'_>], seed: u64, index: usize, peers: usize) {
    let payload = |tick: Tick, offset: usize, value| {
        let stamp = Millis(tick * story::TICK_MS);
        (Payload { partition: 0, offset: offset as u64, stamp, value }, tick)
    };
    let payloads = told
        .iter()
        .flat_map(|(tick, events)| events.payloads.iter().map(move |it| (*tick, story::write(it))))
        .enumerate()
        .filter(|(at, _)| at % peers == index)
        .map(|(at, (tick, value))| payload(tick, at, value))
        .collect();
    send(&mut it.heat.payloads, payloads, seed);
}

fn feed_heat(it: &mut Pipeline, told: &[TickTold<'_>], seed: u64) {
    let (mut splits, mut reshapes) =
        (Vec::<(SplitChange, Tick)>::new(), Vec::<(Reshape, Tick)>::new());
    for (tick, events) in told {
        splits.extend(events.splits.iter().map(|change| (change.clone(), *tick)));
        reshapes.extend(events.reshapes.iter().map(|reshape| (reshape.clone(), *tick)));
        for (row, diff) in &events.cell_ranges {
            it.heat.cell_ranges.update_at(*row, *tick, *diff);
        }
        for (row, diff) in &events.range_nodes {
            it.heat.range_nodes.update_at(row.clone(), *tick, *diff);
        }
    }
    send(&mut it.heat.splits, splits, seed + 1);
    send(&mut it.heat.reshapes, reshapes, seed + 2);
}

/// Loads the state at the end of a tick, at that tick.
fn load(it: &mut Pipeline, tick: Tick, state: &State) {
    for (start, cell) in &state.splits {
        let (start, cell) = (start.clone(), *cell);
        if state.watched.contains(&cell) {
            it.heat.splits.send((SplitChange::Watch { start: start.clone() }, tick));
        }
        it.heat.splits.send((SplitChange::Insert { start, cell }, tick));
    }
    for ((cell, of), heat) in &state.history {
        it.heat.reshapes.send((Reshape::Slot(*cell, *of, *heat), tick));
    }
    state.cell_ranges.iter().for_each(|(a, b)| it.heat.cell_ranges.update_at((*a, *b), tick, 1));
    for (range, node) in &state.range_nodes {
        it.heat.range_nodes.update_at((*range, node.clone()), tick, 1);
    }
    state.desired.iter().for_each(|row| it.delta.desired.update_at(row.clone(), tick, 1));
    state.current.iter().for_each(|row| it.delta.current.update_at(row.clone(), tick, 1));
}
