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
    for seed in 1..=3 {
        let [first, reactive, ours] = three("moving-hotspot", moving_hotspot, 120, 5000, seed);
        assert!(ours.overload_node_s <= 0.06 * first.overload_node_s, "seed {seed}");
        assert!(ours.overload_node_s <= 1.1 * reactive.overload_node_s, "seed {seed}");
        assert!(ours.bytes_moved as f64 <= 0.7 * DATA as f64, "seed {seed}");
    }
}

#[test]
fn moving_hotspot_is_kept_below_the_threshold_in_ticks_of_a_second() {
    for seed in 1..=2 {
        let [first, _, ours] = three("moving-hotspot", moving_hotspot, 90, 1000, seed);
        assert!(ours.overload_node_s <= 0.12 * first.overload_node_s, "seed {seed}");
        assert!(ours.bytes_moved as f64 <= 0.7 * DATA as f64, "seed {seed}");
    }
}

/// Ranges level off where every node has its stripes: later passes find them cut and shared out.
#[test]
fn ranges_stay_few_over_an_hour() {
    for (ticks, tick_ms) in [(720, 5000), (3600, 1000)] {
        let scenario = Scenario::new(pacing_hotspot, ticks, tick_ms, 1);
        let it = run("pacing-hotspot", &scenario, Belief::Persistence);
        println!(
            "ranges {:?}",
            it.ranges.chunks(it.ranges.len() / 12).map(|it| it[0]).collect::<Vec<_>>()
        );
        assert!(it.ranges.iter().all(|it| *it <= 4 * 64), "the softer bound holds");
        let early = it.ranges[..it.ranges.len() / 2].iter().max();
        let late = it.ranges[it.ranges.len() / 2..].iter().max();
        assert!(
            late.zip(early).is_some_and(|(late, early)| late * 4 <= early * 5),
            "it levels off"
        );
    }
}

#[test]
fn even_load_moves_nothing_after_the_first_ticks() {
    for tick_ms in [5000, 1000] {
        let [_, _, ours] = three("uniform", uniform, 120, tick_ms, 2);
        assert!(ours.moved_at.iter().all(|tick| *tick < 10), "moved at {:?}", ours.moved_at);
    }
}

#[test]
fn static_skew_converges() {
    for tick_ms in [5000, 1000] {
        let [_, _, ours] = three("zipf", zipf, 120, tick_ms, 1);
        assert!(ours.moved_at.iter().all(|tick| *tick < 60), "moved at {:?}", ours.moved_at);
        assert!(ours.bytes_moved < DATA / 4);
    }
}

#[test]
fn square_wave_at_the_decision_interval_does_not_thrash() {
    for tick_ms in [5000, 1000] {
        let [_, reactive, ours] = three("square-wave", square_wave, 120, tick_ms, 1);
        for it in [&reactive, &ours] {
            assert!(it.moved_at.len() < 20 && it.bytes_moved < DATA / 2);
        }
        let late = ours.moved_at.iter().filter(|tick| **tick >= 30).count();
        assert!(late <= 2, "moved at {:?}", ours.moved_at);
    }
}

#[test]
fn append_is_no_worse_than_doing_nothing() {
    let [first, _, ours] = three("append", append, 120, 5000, 1);
    assert!(ours.overload_node_s < first.overload_node_s && ours.bytes_moved < DATA);
}
