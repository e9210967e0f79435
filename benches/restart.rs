//! Measures a snapshot, and how long a planner takes from it to its first new tick.
//!
//! `cargo bench --bench restart`. All of it but Kafka, at 100,000 cells with 120 ticks in the window.

mod scale;
#[expect(dead_code, reason = "another benchmark tells stages apart")]
mod world;

use std::time::Instant;

use isotherm::planner::driver;
use isotherm::planner::machine::{Planner, State};
use isotherm::planner::snapshot::{Slot, assemble, chunks};
use world::{World, median};

const REPEATS: usize = 3;

fn main() {
    if !scale::is_asked() {
        return;
    }
    println!(
        "\nrestart at {} cells, 120 ticks in the window, seconds (median of {REPEATS})",
        cells()
    );
    println!(
        "{:>6} {:>10} {:>7} {:>7} {:>7} {:>7} {:>8} {:>7} {:>11} {:>12}",
        "active",
        "sums",
        "chunks",
        "MB",
        "take",
        "read",
        "restore",
        "start",
        "first tick",
        "a tick then"
    );
    of(1);
    of(100);
}

fn cells() -> usize {
    scale::or_smoke(100_000, 1000)
}

fn of(active_percent: usize) {
    let mut world = World::new(cells(), 1);
    (0..120).for_each(|_| _ = world.tick(active_percent));
    let mut took = [const { Vec::new() }; 6];
    let (mut sums, mut count, mut bytes) = (0, 0, 0);
    for _ in 0..REPEATS {
        let [take, read, restore, start, first, then] = &mut took;
        let tick = world.next - 1;
        let written = timed(take, || {
            let slots = world.engine.slots(None).expect("timely workers live");
            sums = slots.len();
            chunks(tick, world.planner.state(), slots)
        });
        (count, bytes) = (written.len(), written.iter().map(|it| it.bytes.len()).sum::<usize>());
        let (at, state, slots): (_, State, Vec<Slot>) =
            timed(read, || assemble(&written).expect("it was just written"));
        assert_eq!((at, slots.len()), (tick, sums));
        let settings = world.planner.settings().clone();
        world.planner = timed(restore, || Planner::restored(settings, state, slots));
        world.engine = timed(start, || driver::start(world.planner.settings(), 1))
            .expect("threads can be started");
        for times in [first, then] {
            let filled = world.filled(active_percent);
            let outputs =
                timed(times, || driver::tick(&mut world.planner, &mut world.engine, filled));
            world.committed(&outputs.expect("timely workers live"));
        }
    }
    let [take, read, restore, start, first, then] = took.map(median);
    let megabytes = bytes as f64 / 1e6;
    println!(
        "{active_percent:>4} % {sums:>10} {count:>7} {megabytes:>7.1} {take:>7.2} {read:>7.2} \
         {restore:>8.2} {start:>7.2} {first:>11.2} {then:>12.2}"
    );
}

fn timed<T>(times: &mut Vec<f64>, run: impl FnOnce() -> T) -> T {
    let start = Instant::now();
    let res = run();
    times.push(start.elapsed().as_secs_f64());
    res
}
