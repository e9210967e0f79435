//! Holds every output of the pipeline, at every tick, against a plain recomputation.
//!
//! ```text
//!  seed ──> story: what happens at each tick ──┬──> pipeline, one and two timely workers ──┐
//!                                              └──> oracle: all sums anew, at every tick ──┴ equal?
//! ```

mod story;
mod run;
mod oracle;

use dataflows::heat::{Heat, Rolling};
use dataflows::window::Reshape;
use schemas::{CellId, NodeId, RangeId};

use run::run;
use story::{Story, entry, record};

#[test]
fn outputs_equal_a_recomputation_with_one_timely_worker() {
    for seed in 1..=160 {
        println!("seed {seed}");
        let story = Story::random(seed);
        oracle::check(&story, 0, &run(&story, 1, 0));
    }
}

#[test]
fn outputs_equal_a_recomputation_with_two_timely_workers() {
    for seed in 201..=300 {
        println!("seed {seed}");
        let story = Story::random(seed);
        oracle::check(&story, 0, &run(&story, 2, 0));
    }
}

#[test]
fn pipeline_that_is_loaded_goes_on_as_if_it_had_never_stopped() {
    for seed in 501..=540 {
        println!("seed {seed}");
        let story = Story::random(seed);
        let at = 1 + seed as usize % (story.ticks.len() - 1);
        oracle::check(&story, at, &run(&story, 1 + seed as usize % 2, at));
    }
}

/// Two ranges: one is asked something at every tick, the other once.
#[test]
fn quiet_range_causes_no_update_whatever_others_do() {
    let mut story = Story::of_two_ranges();
    for tick in 0..20 {
        story.tick(|it| it.payloads.push(record(&[entry(tick, b"a", 10)])));
    }
    story.ticks[0].events.payloads.push(record(&[entry(0, b"q", 10)]));
    let said = run(&story, 2, 0);
    let ticks =
        |range| said.ranges.iter().filter(move |row| row.0.0 == RangeId(range)).map(|row| row.1);
    let quiet: std::collections::BTreeSet<_> = ticks(2).map(|tick| tick - story.first).collect();
    assert_eq!(quiet, [0, 1, 6].into(), "it arrives, and leaves the windows of one and six ticks");
    let cells = said.cells.iter().filter(|row| row.0 == CellId(2)).count();
    let nodes = said.nodes.iter().filter(|row| row.0.0 == NodeId("b".into())).count();
    assert_eq!((cells, ticks(2).count(), nodes), (3, 5, 5), "-1 and +1 at each, but for the first");
    assert!(ticks(1).count() >= 20, "the other is asked all the time");
}

#[test]
fn closing_the_inputs_runs_every_window_out() {
    let mut story = Story::of_two_ranges();
    story.tick(|it| it.payloads.push(record(&[entry(0, b"a", 10), entry(0, b"q", 20)])));
    story.tick(|it| {
        it.reshapes.push(Reshape::Forget(CellId(2)));
        let heat = Heat { reads: 1, read_us: 9, ..Heat::default() };
        it.reshapes.push(Reshape::Slot(CellId(1), 0, heat));
    });
    story.first = 1;
    let said = run(&story, 1, 0);
    let mut sum = Rolling::default();
    for (_, _, by) in said.cells_to_the_end {
        sum = Rolling(std::array::from_fn(|at| {
            let mut heat = sum.0[at];
            heat += by.0[at];
            heat
        }));
    }
    assert_eq!(sum, Rolling::default());
    assert!(said.last_tick > story.first + 100, "the widest window ends long after");
}
