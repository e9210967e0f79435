//! Measures what a planner's tick costs against the number of cells and of timely workers.
//!
//! `cargo bench --bench size`. All of a tick but Kafka: records from memory in, outputs out.

mod scale;
mod world;

use scale::or_smoke;
use world::{STAGES, Took, World, median};

/// From cells over ranges and nodes to the plan: without forecasts, and what is told of it.
const PLAN: [&str; 3] = ["heat", "decide", "delta"];

fn main() {
    if !scale::is_asked() {
        return;
    }
    println!("\nwhole tick of a planner, ms (median); stages: CPU ms of all threads (median)");
    print!("{:>7} {:>6} {:>7} {:>8} {:>8}", "cells", "active", "workers", "wall", "CPU");
    STAGES.iter().for_each(|it| print!(" {it:>8}"));
    println!(" {:>8}", "the plan");
    for &cells in or_smoke(&[1000, 10_000, 100_000][..], &[1000]) {
        for timely_workers in [1, 2] {
            // From all to few: the windows that hold a tick of all cells have to run out.
            let mut world = World::new(cells, timely_workers);
            let all = ticks(&mut world, 100, 3, 12);
            let few = ticks(&mut world, 1, 125, 60);
            tell(cells, 1, timely_workers, &few);
            tell(cells, 100, timely_workers, &all);
        }
    }
}

fn ticks(world: &mut World, active_percent: usize, warm_up: usize, ticks: usize) -> Vec<Took> {
    (0..warm_up).for_each(|_| _ = world.tick(active_percent));
    (0..ticks).map(|_| world.tick(active_percent)).collect()
}

fn tell(cells: usize, active_percent: usize, timely_workers: usize, took: &[Took]) {
    let of = |f: &dyn Fn(&Took) -> f64| median(took.iter().map(f).collect());
    let (wall, cpu) = (of(&|it| it.wall), of(&|it| it.cpu.iter().sum()));
    print!("{cells:>7} {active_percent:>4} % {timely_workers:>7} {wall:>8.2} {cpu:>8.2}");
    (0..STAGES.len()).for_each(|stage| print!(" {:>8.2}", of(&|it| it.cpu[stage])));
    let plan =
        |it: &Took| STAGES.iter().zip(it.cpu).filter(|it| PLAN.contains(it.0)).map(|it| it.1).sum();
    println!(" {:>8.2}", of(&plan));
}
