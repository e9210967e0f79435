//! Ticks that another kind of processor has forecast are run again here.

use schemas::heatmap::RangeHeated;

use super::replayed::unbroken;
use super::*;
use crate::forecast;
use crate::planner::elsewhere::Elsewhere;

/// What a tick told of its forecast, as another processor would have; `change` is what that does with loads.
fn told_by(outputs: &[Output], change: impl Fn(u64) -> u64) -> Elsewhere {
    let progress = records::<Progress>(outputs, Progress::TOPIC);
    let mut done = progress.into_iter().find_map(|it| it.tick).expect("a tick is told");
    done.processor = "z80".to_owned();
    let mut elsewhere = Elsewhere::of(&done).unwrap().expect("this is no z80");
    for mut it in records::<RangeHeated>(outputs, RangeHeated::TOPIC) {
        for of in [&mut it.reads.forecast, &mut it.writes.forecast] {
            let targets = [&mut of.h1, &mut of.h6, &mut of.h30, &mut of.mean30, &mut of.max30];
            targets.into_iter().flatten().for_each(|load| *load = change(*load));
        }
        elsewhere.add(&it).unwrap();
    }
    elsewhere
}

#[test]
fn p1_what_was_forecast_elsewhere_is_taken_as_it_stands() {
    let mut others = 0;
    for seed in 400..406 {
        println!("seed {seed}");
        let (boxes, here, _, settings) = unbroken(seed, 22);
        let play =
            |since: usize, planner: Planner, forecast: &dyn Fn(usize) -> Option<Elsewhere>| {
                let (mut planner, mut told) = (planner, Told::new());
                let mut engine = driver::start(&settings, 1).unwrap();
                for (i, it) in boxes.iter().enumerate().skip(since) {
                    planner.believe(forecast(i));
                    told.push(world::tick(&mut planner, &mut engine, it.fill()).outputs);
                }
                told
            };
        let new = || Planner::new(settings.clone());
        // Another processor, which expects half as much again.
        let there = play(0, new(), &|i| Some(told_by(&here[i], |load| load * 3 / 2)));
        others += there.iter().zip(&here).filter(|(there, here)| there != here).count();
        let again = play(0, new(), &|i| Some(told_by(&there[i], |load| load)));
        for (i, (again, there)) in again.iter().zip(&there).enumerate() {
            assert_same(&format!("seed {seed}, box {i}"), again, there);
        }
        // Behind a restart, too.
        let (planner, since) = restored(&there[..16]).expect("there is a snapshot by then");
        let again = play(since, planner, &|i| Some(told_by(&there[i], |load| load)));
        for (i, (again, there)) in again.iter().zip(&there[since..]).enumerate() {
            assert_same(&format!("seed {seed}, box {i} since the restart"), again, there);
        }
    }
    assert!(20 < others, "{others} ticks came out otherwise there");
}

#[test]
fn what_was_forecast_here_is_forecast_again() {
    let done = TickDone { processor: forecast::processor().to_owned(), ..TickDone::default() };
    assert_eq!(Elsewhere::of(&done), Ok(None));
    let broken = TickDone {
        processor: "z80".to_owned(),
        total: Some(Default::default()),
        ..TickDone::default()
    };
    assert_eq!(Elsewhere::of(&broken), Err("0 quantiles".to_owned()));
}
