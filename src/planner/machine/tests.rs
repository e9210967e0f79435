mod world;

use std::collections::BTreeMap;
use std::time::Instant;

use rand::{Rng, SeedableRng};
use rand_pcg::Pcg64;
use schemas::planner_progress::Progress;
use schemas::wire::decode;

use self::world::{FIRST, World};
use super::*;
use crate::planner::driver;
use crate::planner::snapshot::{Gatherer, assemble};

/// How often what should happen did: a world in which nothing happens proves nothing.
#[derive(Debug, Default)]
struct Coverage(BTreeMap<&'static str, u64>);

impl Coverage {
    fn count(&mut self, what: &'static str, n: usize) {
        *self.0.entry(what).or_default() += n as u64;
    }
}

#[test]
fn planner_that_was_restarted_equals_one_that_never_stopped() {
    let begun = Instant::now();
    let mut coverage = Coverage::default();
    for seed in 0..100 {
        println!("seed {seed}");
        check_restart(seed, &mut coverage);
    }
    println!("{coverage:?} {:?}", begun.elapsed());
}

fn check_restart(seed: u64, coverage: &mut Coverage) {
    let mut world = World::new(seed);
    let settings = world.settings.clone();
    let ticks = 60;
    let mut planner = Planner::new(settings.clone());
    let mut engine = driver::start(&settings, 1).unwrap();
    let mut told = Vec::new();
    let mut cells: BTreeSet<_> = planner.state().cells.iter().map(|(id, _)| id).collect();
    let boxes = world.run(&mut planner, &mut engine, ticks, |planner, _, outputs| {
        let now: BTreeSet<_> = planner.state().cells.iter().map(|(id, _)| id).collect();
        coverage.count("cells cut", now.difference(&cells).count());
        coverage.count("cells joined", cells.difference(&now).count());
        cells = now;
        if let Some(plan) = &outputs.plan {
            coverage.count("splits", plan.splits.len());
            coverage.count("joins", plan.joins.len());
            coverage.count("moves", plan.moves.len());
            for it in &plan.rejected {
                coverage.count(Box::leak(it.reason.clone().into_boxed_str()), 1);
            }
        }
        for it in &outputs.ended {
            let what = match it.outcome {
                crate::migration::table::Outcome::Complete => "complete",
                crate::migration::table::Outcome::Failed => "failed",
            };
            coverage.count(what, 1);
        }
        told.push(outputs.outputs.clone());
    });
    let mut rng = Pcg64::seed_from_u64(seed);
    let stop = rng.random_range(14..ticks as usize);
    let workers = 1 + seed as usize % 2;
    let Some((planner, since)) = restored(&told[..stop]) else { panic!("seed {seed}") };
    let (mut planner, since) = (planner, since);
    let mut engine = driver::start(&settings, workers).unwrap();
    for i in since..boxes.len() {
        let outputs = driver::tick(&mut planner, &mut engine, boxes[i].fill()).unwrap();
        assert_same(i, &outputs.outputs, &told[i]);
    }
}

/// A planner from the newest valid snapshot among what was told, and the number of the first box
/// behind it.
fn restored(told: &[Vec<Output>]) -> Option<(Planner, usize)> {
    let mut gatherer = Gatherer::default();
    for it in told.iter().flatten().filter(|it| it.topic == "planner_progress") {
        let Progress { chunk, .. } = decode(it.value.as_deref()?).unwrap();
        chunk.into_iter().for_each(|it| gatherer.add(it));
    }
    let (tick, state, slots): (_, State, _) = assemble(&gatherer.newest()?).unwrap();
    let since = (tick + 1 - FIRST) as usize;
    Some((Planner::restored(state.settings.clone(), state, slots), since))
}

fn assert_same(tick: usize, left: &[Output], right: &[Output]) {
    for (l, r) in left.iter().zip(right) {
        if l != r {
            let bytes = |it: &Output| it.value.as_ref().map(Vec::len);
            panic!("tick {tick}: {} {:?} {:?}", l.topic, bytes(l), bytes(r));
        }
    }
    assert_eq!(left.len(), right.len(), "tick {tick}");
}
