//! A planner that observes: it shares out, moves what it is told to, and nothing else.

use std::collections::BTreeMap;

use super::audit::Audit;
use super::world::World;
use crate::planner::driver;
use crate::planner::machine::Planner;
use crate::planner::settings::Mode;

#[test]
fn observing_planner_shares_out_and_plans_nothing() {
    let mut world = World::new(13);
    world.settings.mode = Mode::Observe;
    let settings = world.settings.clone();
    let mut planner = Planner::new(settings.clone());
    let mut engine = driver::start(&settings, 1).unwrap();
    let mut generations = 0;
    world.run(&mut planner, &mut engine, 20, |_, _, outputs| {
        assert_eq!((&outputs.plan, outputs.commands.len()), (&None, 0));
        generations += usize::from(!outputs.assignments.is_empty());
    });
    assert_eq!(generations, 1, "the birth");
}

#[test]
fn planner_that_observes_moves_what_it_is_told_to_and_nothing_else() {
    let mut counts = BTreeMap::<String, u64>::new();
    for seed in 400..412 {
        println!("seed {seed}");
        let mut world = World::new(seed);
        world.settings.mode = Mode::Observe;
        let settings = world.settings.clone();
        let mut planner = Planner::new(settings.clone());
        let mut engine = driver::start(&settings, 1).unwrap();
        let mut audit = Audit::new(settings.clone());
        world.run(&mut planner, &mut engine, 30, |planner, recorded, outputs| {
            audit.tick(planner, recorded, outputs);
            let Some(plan) = &outputs.plan else { return };
            assert!(plan.moves.iter().all(|it| it.reason == "by_hand"));
            assert_eq!(
                (plan.splits.len(), plan.joins.len(), plan.mode.as_str()),
                (0, 0, "observe")
            );
        });
        for (what, count) in audit.counts {
            *counts.entry(what).or_default() += count;
        }
    }
    println!("{counts:?}");
    assert!(counts["moved by hand"] > 4 && counts["complete"] > 1);
}
