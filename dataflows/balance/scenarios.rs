//! Holds decisions to what they are for: runs of the fluid model, with a table to quote.

use super::fluid::workload::{
    Workload, append, moving_hotspot, pacing_hotspot, square_wave, uniform, zipf,
};
use super::fluid::{BYTES_PER_KEY, Belief, KEYS, Outcome, Scenario, run_checked};
use super::tests::assert_sound;

const DATA: u64 = KEYS as u64 * BYTES_PER_KEY;

/// Runs a scenario, holds every decision to its bounds and prints a line.
fn run(name: &str, scenario: &Scenario, belief: Belief) -> Outcome {
    let it = run_checked(scenario, belief, assert_sound);
    let ranges = it.ranges.iter().max().expect("a run has ticks");
    println!(
        "{name:<16} {:>4} x {:>4} ms  seed {}  {belief:<12}  {:>7.1} node-s  {:>3} moves  {:>4} MiB  \
         {:>3} splits  {:>3} joins  {ranges:>3} ranges",
        scenario.ticks,
        scenario.tick_ms,
        scenario.seed,
        it.overload_node_s,
        it.moved_at.len(),
        it.bytes_moved >> 20,
        it.splits,
        it.joins,
    );
    it
}

/// First assignment kept, reactive, with quantiles.
fn three(name: &str, workload: Workload, ticks: u64, tick_ms: u64, seed: u64) -> [Outcome; 3] {
    let scenario = Scenario::new(workload, ticks, tick_ms, seed);
    [Belief::Kept, Belief::Persistence, Belief::Ewma].map(|belief| run(name, &scenario, belief))
}

#[test]
fn moving_hotspot_is_kept_below_the_threshold() {
    let mut sums = [0.0; 3];
    for seed in 1..=8 {
        let [first, reactive, ours] = three("moving-hotspot", moving_hotspot, 120, 5000, seed);
        assert!(ours.overload_node_s <= 0.12 * first.overload_node_s, "seed {seed}");
        assert!(ours.overload_node_s <= 1.1 * reactive.overload_node_s, "seed {seed}");
        assert!(ours.bytes_moved as f64 <= 1.2 * DATA as f64, "seed {seed}");
        for (sum, it) in sums.iter_mut().zip([first, reactive, ours]) {
            *sum += it.overload_node_s;
        }
    }
    println!(
        "of first: reactive {:.3}, with quantiles {:.3}",
        sums[1] / sums[0],
        sums[2] / sums[0]
    );
}

#[test]
fn moving_hotspot_in_ticks_of_a_second() {
    for seed in 1..=4 {
        let [first, _, ours] = three("moving-hotspot", moving_hotspot, 90, 1000, seed);
        assert!(ours.overload_node_s <= 0.15 * first.overload_node_s, "seed {seed}");
        assert!(ours.bytes_moved as f64 <= 1.2 * DATA as f64, "seed {seed}");
    }
}

#[test]
fn ranges_stay_few_over_an_hour() {
    for (ticks, tick_ms) in [(720, 5000), (3600, 1000)] {
        let scenario = Scenario::new(pacing_hotspot, ticks, tick_ms, 1);
        let it = run("pacing-hotspot", &scenario, Belief::Ewma);
        let curve = it.ranges.iter().step_by(it.ranges.len() / 12).collect::<Vec<_>>();
        println!("ranges {curve:?}");
    }
}

#[test]
fn other_loads() {
    for (ticks, tick_ms) in [(120, 5000), (120, 1000)] {
        for seed in 1..=2 {
            three("uniform", uniform, ticks, tick_ms, seed);
            three("zipf", zipf, ticks, tick_ms, seed);
            three("square-wave", square_wave, ticks, tick_ms, seed);
            three("append", append, ticks, tick_ms, seed);
        }
    }
}
