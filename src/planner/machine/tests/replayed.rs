//! What is run again comes out the same: after a restart, with other workers, in another order.

use std::collections::BTreeMap;

use expect_test::expect_file;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use rand_pcg::Pcg64;
use schemas::query_log::QueriesLogged;
use schemas::wire::encode;

use super::audit::{Audit, records};
use super::world::{Recorded, World, interleave};
use super::*;

/// What must have happened over all seeds, or else the test proves nothing.
const EVENTS: [&str; 23] = [
    "children with a past",
    "rebuild asked for",
    "built again",
    "cells cut",
    "cells joined",
    "splits",
    "started by its own forecast",
    "joins",
    "complete",
    "failed",
    "cancelled",
    "failed by silence",
    "committed though stale",
    "budget_churn",
    "cooling_down",
    "moved by hand",
    "refused: unsettled",
    "refused: unknown_node",
    "refused: already_there",
    "refused: not_supported",
    "refused: no_assignment",
    "refused: not_a_range",
    "refused: budget_moves",
];

#[test]
fn planner_that_was_restarted_equals_one_that_never_stopped() {
    // Worlds are independent of one another.
    let n = std::thread::available_parallelism().map_or(1, usize::from);
    let counts = std::thread::scope(|scope| {
        let seeds = |first| move || check_seeds((first..100).step_by(n));
        let threads: Vec<_> = (0..n as u64).map(|first| scope.spawn(seeds(first))).collect();
        threads.into_iter().map(|it| it.join().expect("see its seed")).collect::<Vec<_>>()
    });
    let mut all = BTreeMap::<String, u64>::new();
    counts.into_iter().flatten().for_each(|(what, n)| *all.entry(what).or_default() += n);
    println!("{all:?}");
    for what in EVENTS {
        assert!(all.get(what).is_some_and(|n| *n > 0), "{what} did not happen: {all:?}");
    }
}

fn check_seeds(seeds: impl Iterator<Item = u64>) -> BTreeMap<String, u64> {
    let mut all = BTreeMap::<String, u64>::new();
    for seed in seeds {
        println!("seed {seed}");
        let ticks = if seed % 10 == 3 { 44 } else { 22 };
        check_restart(seed, ticks).into_iter().for_each(|(what, n)| {
            *all.entry(what).or_default() += n;
        });
    }
    all
}

fn check_restart(seed: u64, ticks: Tick) -> BTreeMap<String, u64> {
    let (boxes, told, counts, settings) = unbroken(seed, ticks);
    let stop = Pcg64::seed_from_u64(seed).random_range(14..=boxes.len());
    let (mut planner, since) = restored(&told[..stop]).expect("there is a snapshot by then");
    let mut engine = driver::start(&settings, 1 + seed as usize / 2 % 2).unwrap();
    // The next snapshot holds all that is known: what follows from it is tested by itself.
    let until = (since + settings.snapshot_ticks as usize + 2).min(boxes.len());
    for i in since..until {
        let outputs = world::tick(&mut planner, &mut engine, boxes[i].fill());
        assert_same(&format!("seed {seed}, box {i}"), &outputs.outputs, &told[i]);
    }
    counts
}

pub(super) type Told = Vec<Vec<Output>>;

/// Boxes of a world, what a planner that never stops says to them, and what happened.
pub(super) fn unbroken(
    seed: u64,
    ticks: Tick,
) -> (Vec<Recorded>, Told, BTreeMap<String, u64>, Settings) {
    let mut world = World::new(seed);
    let settings = world.settings.clone();
    let mut planner = Planner::new(settings.clone());
    let mut engine = driver::start(&settings, 1).unwrap();
    let mut audit = Audit::new(settings.clone());
    let mut told = Vec::new();
    let cells_of = |planner: &Planner| -> BTreeSet<CellId> {
        planner.state().cells.iter().map(|it| it.0).collect()
    };
    let mut cells = cells_of(&planner);
    let mut counts = BTreeMap::<String, u64>::new();
    let boxes = world.run(&mut planner, &mut engine, ticks, |planner, recorded, outputs| {
        audit.tick(planner, recorded, outputs);
        let mut count = |what: &str, n| *counts.entry(what.to_owned()).or_default() += n as u64;
        let now = cells_of(planner);
        count("cells cut", now.difference(&cells).count());
        count("cells joined", cells.difference(&now).count());
        cells = now;
        if let Some(plan) = &outputs.plan {
            count("splits", plan.splits.len());
            count("joins", plan.joins.len());
            plan.rejected.iter().for_each(|it| count(&it.reason, 1));
        }
        told.push(outputs.outputs.clone());
    });
    audit.counts.into_iter().for_each(|(what, n)| *counts.entry(what).or_default() += n);
    (boxes, told, counts, settings)
}

/// A planner from the newest valid snapshot among what was told, and the number of the first box
/// behind it.
pub(super) fn restored(told: &[Vec<Output>]) -> Option<(Planner, usize)> {
    let mut gatherer = Gatherer::default();
    for progress in told.iter().flat_map(|it| records::<Progress>(it, Progress::TOPIC)) {
        progress.chunk.into_iter().for_each(|it| gatherer.add(it));
    }
    let (tick, state, slots): (_, State, _) = assemble(&gatherer.newest()?).unwrap();
    let since = (tick + 1 - FIRST) as usize;
    Some((Planner::restored(state.settings.clone(), state, slots), since))
}

#[test]
fn p1_what_another_model_has_forecast_is_not_run_again() {
    let mut ewma = world::settings(1_000, 8);
    // What it holds by number, too.
    ewma.query_log.by_id.insert(7, Answer::Json);
    let ladder = Settings { rung: Rung::Ladder, ..ewma.clone() };
    for settings in [&ewma, &ladder] {
        assert_eq!(Settings::parse(&settings.text().0).unwrap(), *settings);
    }
    assert!(!ewma.text().0.contains("\"model\""));
    let other = ladder.text().0.replace(Model::shipped().digest(), "abc");
    let refused = Settings::parse(&other).unwrap_err().to_string();
    assert!(refused.contains("by the model abc"), "{refused}");
}

/// Fails when the shape of a snapshot changes; then [`FORMAT`] must be raised.
#[test]
fn shape_of_a_snapshot_belongs_to_its_format() {
    let mut names = BTreeSet::new();
    for seed in 0..4 {
        let mut world = World::new(seed);
        let mut planner = Planner::new(world.settings.clone());
        let mut engine = driver::start(&world.settings.clone(), 1).unwrap();
        world.run(&mut planner, &mut engine, 22, |planner, _, _| {
            names.extend(shape(&format!("{:#?}", planner.state())));
        });
    }
    let names: Vec<_> = names.into_iter().collect();
    expect_file!["shape.txt"].assert_eq(&format!("format {FORMAT}\n{}\n", names.join("\n")));
}

/// Returns the paths of the names of types and fields in what `Debug` writes of a value.
fn shape(debug: &str) -> BTreeSet<String> {
    let (mut shape, mut path) = (BTreeSet::new(), Vec::<(usize, &str)>::new());
    for line in debug.lines() {
        let depth = line.len() - line.trim_start().len();
        while path.last().is_some_and(|it| depth <= it.0) {
            path.pop();
        }
        let begins_with_a_letter = |it: &&str| it.starts_with(|c: char| c.is_ascii_alphabetic());
        let words = line.trim().split(|c: char| !(c.is_alphanumeric() || c == '_'));
        if let Some(name) = words.take(1).find(begins_with_a_letter) {
            path.push((depth, name));
            shape.insert(path.iter().map(|it| it.1).collect::<Vec<_>>().join("."));
        }
    }
    shape
}

pub(super) fn assert_same(what: &str, left: &[Output], right: &[Output]) {
    for (l, r) in left.iter().zip(right) {
        assert_eq!((l.topic, &l.key), (r.topic, &r.key), "{what}");
        // Values are long: which record it is says more.
        assert!(l == r, "{what}: another value on {} of key {:?}", l.topic, l.key);
    }
    assert_eq!(left.len(), right.len(), "{what}");
}

#[test]
fn neither_timely_workers_nor_the_order_of_partitions_and_queries_show() {
    for seed in 200..206 {
        println!("seed {seed}");
        let (boxes, told, _, settings) = unbroken(seed, 22);
        let mut rng = Pcg64::seed_from_u64(seed);
        let mut planner = Planner::new(settings.clone());
        let mut engine = driver::start(&settings, 2).unwrap();
        for (i, recorded) in boxes.into_iter().enumerate() {
            let mixed = mixed(&mut rng, recorded);
            let outputs = world::tick(&mut planner, &mut engine, mixed.fill());
            assert_same(&format!("seed {seed}, box {i}"), &outputs.outputs, &told[i]);
        }
    }
}

/// The same box: its queries dealt out anew over the records that can be read, and its partitions
/// interleaved in another way.
fn mixed(rng: &mut Pcg64, mut recorded: Recorded) -> Recorded {
    let batch = |it: &Record| {
        let batch = schemas::wire::decode::<QueriesLogged>(it.value.as_ref()?).ok()?;
        let fits = batch.queries.iter().all(|it| it.key.0.len() < KEY_BYTES_TOO_MANY);
        (it.at.topic == QueriesLogged::TOPIC && fits).then_some(batch.queries)
    };
    let mut queries: Vec<_> = recorded.records.iter().filter_map(batch).flatten().collect();
    queries.shuffle(rng);
    for record in recorded.records.iter_mut() {
        let Some(old) = batch(record) else { continue };
        let queries = queries.split_off(queries.len() - old.len());
        record.value = Some(encode(&QueriesLogged { queries }));
    }
    interleave(rng, &mut recorded.records);
    recorded
}
