//! A fit of the linear model, as progress tells it.

use dataflows::forecast::TARGETS;

use super::world::{FIRST, World};
use crate::forecast::Rung;
use crate::forecast::features::FEATURES;
use crate::planner::driver;
use crate::planner::machine::Planner;

#[test]
fn weights_stand_in_the_tick_in_which_they_take_effect() {
    let mut world = World::new(11);
    world.settings.rung = Rung::Ladder;
    let mut planner = Planner::new(world.settings.clone());
    let mut engine = driver::start(&world.settings, 1).unwrap();
    let mut told = Vec::new();
    world.run(&mut planner, &mut engine, 160, |_, _, outputs| {
        let done = &outputs.done;
        told.extend(done.refit.clone().map(|it| (done.tick, it)));
    });
    // As soon as sixty ticks are known, and thirty ticks later.
    let ticks: Vec<_> = told.iter().map(|it| (it.1.begun - FIRST, it.0 - FIRST)).collect();
    assert_eq!(ticks, [(109, 114), (139, 144)]);
    for (_, refit) in &told {
        let weights = refit.weights.as_ref().expect("there are least squares");
        for of in [&weights.reads, &weights.writes] {
            assert_eq!(of.len(), FEATURES * TARGETS);
            assert!(of.iter().any(|it| *it != 0.0));
        }
        assert!(weights.reads != weights.writes);
    }
    assert!(told[0].1.weights != told[1].1.weights, "nothing was learned in between");
}
