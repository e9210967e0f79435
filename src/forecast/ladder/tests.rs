use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use rand_pcg::Pcg64;

use dataflows::forecast::Q50;

use super::*;
use crate::forecast::gru::Weights;
use crate::forecast::panel::Panel;

const TICKS: usize = 260;
const RANGES: usize = 12;
/// From here on there are linear model and network.
const LEARNED: usize = 150;

/// No shape may make it lose more than this part of what persistence loses: what the guard lets pass.
const HARM_MAX: f64 = 1.25;

/// The same of one that has only begun to learn.
const YOUNG_HARM_MAX: f64 = 1.3;

/// So much it may lose then of all ten targets of a range in a tick, in operations, where persistence loses nothing.
const YOUNG_LOST_MAX: f64 = 1e-2;

/// The load of a range at a tick.
type Shape = Box<dyn Fn(usize, usize) -> f32>;

/// Loads of a shape, tick by tick.
fn panel(ranges: usize, load: impl Fn(usize, usize) -> f32) -> Panel {
    let bin =
        |tick: usize| (0..ranges).map(|it| [load(tick, it), load(tick + 1, it) / 2.0]).collect();
    Panel {
        name: "shape".into(),
        bin_ms: 10_000,
        bins: (0..TICKS).map(bin).collect(),
        ops: vec![0, 1],
        digest: String::new(),
        offsets: Default::default(),
        start_ms: None,
    }
}

/// A network that says something.
fn network() -> Network {
    let random = &mut Pcg64::seed_from_u64(9);
    let mut weights = Weights::untrained(random);
    weights.0[6].iter_mut().for_each(|it| *it = random.random_range(-0.3..0.3));
    Network::new(&weights)
}

/// Runs a ladder over a panel that gets a linear model and a network at [`LEARNED`]; judges it from then on.
fn check(panel: &Panel) -> [f64; 2] {
    judge(panel, Ladder::new(panel.ranges(), panel.bin_ms, &panel.ops), Some(LEARNED))
}

/// The same with the models that a planner begins with, fitted anew as it does, from the first tick on.
fn check_shipped(panel: &Panel) -> [f64; 2] {
    let mut ladder = Ladder::new(panel.ranges(), panel.bin_ms, &panel.ops);
    let model = crate::forecast::model::Model::shipped();
    ladder.set_network(Network::new(&model.weights));
    ladder.set_linear_before(model.linear);
    ladder.sample(panel.ranges());
    ladder.refit(5);
    judge(panel, ladder, None)
}

/// Runs the ladder over a panel, holds every fan sound, and returns the losses of persistence and of
/// what was shipped, from the tick on at which it has learned.
fn judge(panel: &Panel, mut ladder: Ladder, learned: Option<usize>) -> [f64; 2] {
    let mut losses = [0.0; 2];
    for (bin, loads) in panel.bins.iter().enumerate() {
        if Some(bin) == learned {
            // Too simple a panel has no linear model; the ladder goes on without.
            if let Ok(linear) = panel.fit(LEARNED) {
                ladder.set_linear(linear);
            }
            ladder.set_network(network());
        }
        let answers = ladder.answer(loads);
        for (at, target) in
            (0..panel.ranges() * OPS).flat_map(|at| (0..TARGETS).map(move |it| (at, it)))
        {
            for model in MODELS {
                let fan = answers.fan(at, target, model);
                assert!(
                    fan.is_sorted() && fan.iter().all(|it| it.is_finite() && root(0.0) <= *it),
                    "{model:?} says {fan:?} of row {at} at {target}, tick {bin}"
                );
            }
            let came = panel.came(bin, at / OPS, at % OPS, target);
            if let Some(came) = came.filter(|it| learned.unwrap_or(0) <= bin && it.is_finite()) {
                for (loss, model) in losses.iter_mut().zip([Model::Persistence, Model::Shipped]) {
                    *loss += pinball(&answers.fan(at, target, model), came);
                }
            }
        }
    }
    losses
}

/// The shapes that a forecast could be harmed by.
#[test]
fn no_shape_makes_it_unsound_or_worse_than_persistence_by_more_than_the_guard_bounds() {
    let mut shuffled: Vec<_> = (0..TICKS).map(|it| ((it * it) % 97) as f32).collect();
    shuffled.shuffle(&mut Pcg64::seed_from_u64(1));
    let is_there = |tick: usize, range: usize| (170 + range..215).contains(&tick);
    let shapes: [(&str, Shape); 9] = [
        ("zero", Box::new(|_, _| 0.0)),
        ("constant", Box::new(|_, range| 40.0 + range as f32)),
        ("step", Box::new(|tick, _| if tick < 200 { 10.0 } else { 500.0 })),
        ("fall", Box::new(|tick, _| if tick < 200 { 500.0 } else { 0.0 })),
        ("square wave", Box::new(|tick, range| ((tick + range) % 2 * 100) as f32)),
        ("shuffled", Box::new(move |tick, range| shuffled[(tick + range * 7) % TICKS])),
        ("jump", Box::new(|tick, range| if tick == 210 { 1e6 } else { 5.0 + range as f32 })),
        ("born and gone", Box::new(move |tick, range| f32::from(is_there(tick, range)) * 300.0)),
        ("spikes", Box::new(|tick, range| if tick % 17 == range { 1e6 } else { 0.0 })),
    ];
    for (name, shape) in shapes {
        for ranges in [RANGES, 1] {
            let panel = panel(ranges, &shape);
            let lost_young = YOUNG_LOST_MAX * (ranges * TICKS) as f64;
            for (from, [persistence, shipped], most, least) in [
                ("learned", check(&panel), HARM_MAX, 1e-3),
                ("shipped", check_shipped(&panel), YOUNG_HARM_MAX, lost_young),
            ] {
                println!("{name}, {ranges}, {from}: {:.3} of persistence", shipped / persistence);
                assert!(
                    shipped <= persistence * most + least,
                    "{name}, {ranges} ranges, {from}: {shipped} beside {persistence}"
                );
            }
        }
    }
}

#[test]
fn what_is_no_load_makes_nothing_unsound() {
    check(&panel(RANGES, |tick, range| match (tick + range) % 9 {
        0 => f32::NAN,
        1 => -7.0,
        2 => f32::INFINITY,
        3 => f32::MAX,
        _ => 4.0,
    }));
}

#[test]
fn hot_spot_that_moves_is_foreseen_by_who_sees_its_neighbours() {
    let mut random = Pcg64::seed_from_u64(6);
    let noise: Vec<f32> = (0..TICKS * 40).map(|_| random.random_range(0.0..6.0)).collect();
    // It needs eight ticks for a range.
    let panel = panel(RANGES, |tick, range| {
        let away = (tick as f32 / 8.0 - range as f32).rem_euclid(RANGES as f32);
        let hot = if away < 1.0 { 200.0 } else { 0.0 };
        (hot + noise[tick * RANGES + range]).floor()
    });
    let [persistence, shipped] = check(&panel);
    assert!(shipped < persistence * 0.7, "{shipped} beside {persistence}");
}

#[test]
fn guard_answers_with_what_is_there_after_two_ticks_above_the_band() {
    let mut ladder = Ladder::new(40, 10_000, &[0]);
    // So noisy that a slow mean leads, and one range among forty does not change that.
    let mut random = Pcg64::seed_from_u64(3);
    let mut median = |first: Option<f32>| {
        let mut loads: Vec<_> = (0..40).map(|_| [random.random_range(0.0..40.0), 0.0]).collect();
        loads[0][0] = first.unwrap_or(loads[0][0]);
        load(ladder.answer(&loads).fan(0, H1, Model::Shipped)[Q50])
    };
    (0..100).for_each(|_| assert!(median(None) < 40.0));
    let risen: Vec<_> = (0..2).map(|_| median(Some(400.0))).collect();
    assert!(risen[0] < 100.0 && 300.0 < risen[1], "{risen:?}");
}

#[test]
fn young_ladder_answers_with_a_prior_that_has_a_width() {
    let mut ladder = Ladder::new(2, 10_000, &[0]);
    let answers = ladder.answer(&[[9.0, 0.0], [0.0, 0.0]]);
    let [busy, idle] = [0, OPS].map(|at| answers.fan(at, H1, Model::Shipped).map(super::load));
    assert!(busy[0] < 6.0 && 12.0 < busy[Q99], "{busy:?}");
    assert!(idle.iter().all(|it| *it < 1e-3), "{idle:?}");
}

#[test]
fn those_that_lost_hardly_more_than_the_leader_answer_along() {
    let mut ladder = Ladder::new(40, 10_000, &[0]);
    // Nothing but noise: what drifts, and means, know the same of it.
    let mut random = Pcg64::seed_from_u64(3);
    for _ in 0..100 {
        let loads: Vec<_> = (0..40).map(|_| [random.random_range(0.0..40.0), 0.0]).collect();
        ladder.answer(&loads);
    }
    let answers = ladder.answers();
    let ensemble = &answers.ensembles[H1];
    assert!(1 < ensemble.len(), "{ensemble:?}");
    let said = answers.fan(0, H1, Model::Shipped)[Q50];
    let medians =
        ensemble.iter().map(|(it, weight)| (answers.told(0, H1, *it).unwrap()[Q50], weight));
    let medians: Vec<_> = medians.collect();
    let all: f32 = medians.iter().map(|it| it.1).sum();
    let mean = medians.iter().map(|(median, weight)| median * *weight).sum::<f32>() / all;
    assert!((said - mean).abs() < 1e-5 && said != medians[0].0, "{said} of {medians:?}");
}

#[test]
fn others_answer_where_the_leader_cannot() {
    let mut ladder = Ladder::new(RANGES, 10_000, &[0]);
    let random = &mut Pcg64::seed_from_u64(11);
    for _ in 0..80 {
        let loads: Vec<_> = (0..RANGES).map(|_| [random.random_range(0..50) as f32, 0.0]).collect();
        ladder.answer(&loads);
    }
    let mut answers = ladder.answers().clone();
    answers.ensembles[H1] = vec![(Candidate::Drift, 1.0), (Candidate::Mean60, 0.5)];
    let says = |it: &Answers| it.calibrated(0, H1, Model::Shipped);
    assert!(answers.told(0, H1, Candidate::Drift).is_some());
    let both = says(&answers);
    answers.tables[Candidate::Drift as usize] = None;
    assert_eq!(says(&answers), answers.told(0, H1, Candidate::Mean60));
    assert!(both.is_some() && says(&answers).is_some() && says(&answers) != both);
}
