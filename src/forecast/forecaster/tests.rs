use std::collections::VecDeque;

use dataflows::forecast::{Forecast, H1, H6, H30, HORIZON, MAX30, MEAN30, Q50, Q90, Q95, TARGETS};
use dataflows::heat::{Heat, Rolling, WIDEST, WIDTHS};
use dataflows::quanta::quantise;
use rand::{Rng, SeedableRng};
use rand_pcg::Pcg64;

use super::super::Part;
use super::super::model::Model;
use super::*;

mod coverage;
mod strips;

const TICK_MS: u64 = 5_000;

/// Feeds a forecaster as the dataflow would: rolling windows, and of those only what changed.
struct Feed {
    forecaster: Forecaster,
    tick: Tick,
    windows: BTreeMap<RangeId, (VecDeque<Heat>, Rolling)>,
    answers: BTreeMap<RangeId, RangeForecast>,
}

impl Feed {
    fn new(rung: Rung) -> Self {
        let forecaster = Forecaster::new(Config { rung, tick_ms: TICK_MS });
        Self { forecaster, tick: 1_000, windows: BTreeMap::new(), answers: BTreeMap::new() }
    }

    fn features(&mut self, heats: &BTreeMap<RangeId, Heat>) -> Features {
        for id in heats.keys() {
            self.windows.entry(*id).or_default();
        }
        let mut features = Features::default();
        for (id, (window, last)) in &mut self.windows {
            window.push_front(heats.get(id).copied().unwrap_or_default());
            window.truncate(WIDEST as usize);
            let rolling = Rolling(WIDTHS.map(|width| {
                window.iter().take(width as usize).fold(Heat::default(), |mut sum, heat| {
                    sum += *heat;
                    sum
                })
            }));
            if rolling != *last {
                *last = rolling;
                features.changed.push((*id, rolling));
            }
        }
        features
    }

    fn answer(&mut self, features: &Features) -> Answers {
        let answers = self.forecaster.answer(self.tick, features);
        self.tick += 1;
        for (id, forecast) in &answers.ranges {
            let before = match forecast {
                Some(forecast) => self.answers.insert(*id, *forecast),
                None => self.answers.remove(id),
            };
            assert_ne!(before, *forecast, "answered for {id:?} though nothing changed");
            assert_ne!(*forecast, Some(RangeForecast::default()), "zeros are told as None");
        }
        let published: BTreeMap<_, _> = self.forecaster.published().collect();
        assert_eq!(published, self.answers);
        for forecast in answers.ranges.iter().filter_map(|it| it.1).chain([answers.total]) {
            sound(&forecast);
        }
        answers
    }

    fn tick(&mut self, heats: &BTreeMap<RangeId, Heat>) -> Answers {
        let features = self.features(heats);
        self.answer(&features)
    }

    /// One range with reads alone.
    fn reads(&mut self, reads: u64) -> RangeForecast {
        self.tick(&BTreeMap::from([(RangeId(1), heat(reads, 0))]));
        self.answers.get(&RangeId(1)).copied().unwrap_or_default()
    }
}

fn sound(forecast: &RangeForecast) {
    for row in forecast.reads.0.iter().chain(&forecast.writes.0) {
        assert!(row.is_sorted(), "quantiles cross: {row:?}");
        assert!(row.iter().all(|it| quantise(*it) == *it), "not quantised: {row:?}");
    }
    for op in [forecast.reads, forecast.writes] {
        assert!(op.0[MEAN30].iter().zip(op.0[MAX30]).all(|(mean, max)| *mean <= max));
    }
}

/// Reads and writes of a millisecond each.
fn heat(reads: u64, writes: u64) -> Heat {
    let [reads, writes] = [reads, writes].map(|it| it as i64);
    Heat { reads, writes, read_us: reads * 1000, write_us: writes * 1000, bytes: reads }
}

/// Operations in a tick, as the load that a forecast tells.
fn load(operations: u64) -> u64 {
    operations * 1000 * 1000 / TICK_MS
}

fn poisson(random: &mut Pcg64, mean: f64) -> u64 {
    // Thousandths of arrivals, so that a large mean does not vanish.
    let (mut left, mut arrivals) = (mean, 0);
    loop {
        left += random.random::<f64>().ln();
        if left < 0.0 {
            return arrivals;
        }
        arrivals += 1;
    }
}

/// All of a strip.
fn whole(strip: usize) -> Part {
    Part { strip, share: [1.0; OPS] }
}

#[test]
fn persistence_answers_the_last_tick_at_every_quantile() {
    let mut feed = Feed::new(Rung::Persistence);
    for (reads, writes) in [(10, 3), (0, 7), (123_456, 0)] {
        let answers = feed.tick(&BTreeMap::from([(RangeId(4), heat(reads, writes))]));
        let [reads, writes] = [reads, writes].map(|it| Forecast([[quantise(load(it)); 8]; 5]));
        let expected = RangeForecast { reads, writes };
        assert_eq!(answers.ranges, [(RangeId(4), Some(expected))]);
        assert_eq!((answers.total, feed.forecaster.rung()), (expected, "persistence"));
    }
    assert_eq!(feed.tick(&BTreeMap::new()).ranges, [(RangeId(4), None)], "quiet again");
    assert_eq!(feed.tick(&BTreeMap::new()).ranges, []);
}

#[test]
fn what_was_worse_than_persistence_lately_is_not_used() {
    let mut feed = Feed::new(Rung::Ewma);
    let mut rungs = Vec::new();
    // Rises for as long as one learns of it, and falls as steeply.
    for tick in 0..400_u64 {
        let way = if tick < 200 { (60 + tick % 120).abs_diff(120) } else { 30 };
        let heats = (0..40).map(|id| (RangeId(id), heat(100 + 20 * (60 - way) + id, 0)));
        let heats: BTreeMap<_, _> = heats.collect();
        feed.tick(&heats);
        let is_bad = feed.forecaster.score().skill_permille.is_some_and(|it| it < 0);
        let rung = feed.forecaster.rung();
        assert!(!is_bad || rung == "persistence", "tick {tick}");
        if rung == "persistence" {
            // The last load, as far as it was off lately.
            let off = |id: &RangeId, level: usize| {
                let told = feed.answers[id].reads.0[MEAN30][level];
                (told as f64).sqrt() - (load(heats[id].reads as u64) as f64).sqrt()
            };
            let first = RangeId(0);
            assert!(off(&first, 1) + 5.0 < off(&first, 5), "tick {tick}");
            for id in heats.keys() {
                assert!((off(id, 5) - off(&first, 5)).abs() < 4.0, "tick {tick}");
            }
            let total = feed.forecaster.total().reads.0;
            let all: u64 = heats.values().map(|it| load(it.reads as u64)).sum();
            assert!(total[MEAN30][3].abs_diff(all) <= all / 50, "tick {tick}: {total:?}");
            // All ranges together are one series: what it misses is known later.
            let is_known = 72 <= tick;
            assert!(!is_known || total[MEAN30][3] < total[MEAN30][5], "tick {tick}: {total:?}");
        }
        if rungs.last() != Some(&rung) {
            rungs.push(rung);
        }
    }
    assert_eq!(rungs, ["ewma", "persistence", "ewma"]);
}

#[test]
fn another_rung_is_judged_anew() {
    let mut feed = Feed::new(Rung::Persistence);
    for tick in 0..100 {
        let heats = (0..40).map(|id| (RangeId(id), heat(100 + 50 * (tick % 3), 0))).collect();
        feed.tick(&heats);
    }
    let bad = feed.forecaster.score().skill_permille;
    assert!(bad < Some(0), "without a spread: {bad:?}");
    let config = Config { rung: Rung::Ewma, tick_ms: TICK_MS };
    feed.forecaster.configure(config);
    assert_eq!(feed.forecaster.rung(), "ewma");
    assert_eq!(feed.forecaster.score().skill_permille, None);
}

#[test]
fn nothing_is_answered_for_what_was_never_asked() {
    for rung in [Rung::Persistence, Rung::Ewma] {
        let mut feed = Feed::new(rung);
        let zeros = (0..9).map(|id| (RangeId(id), heat(0, 0))).collect();
        for _ in 0..50 {
            let answers = feed.tick(&zeros);
            assert_eq!((answers.ranges, answers.total), (vec![], RangeForecast::default()));
        }
    }
}

#[test]
fn prior_stands_in_until_there_is_experience() {
    let mut feed = Feed::new(Rung::Ewma);
    let forecast = feed.reads(100);
    let row = forecast.reads.0[MEAN30];
    // A variance of twice the mean: ± 1.28 × √200 at the level .9.
    assert!(row[Q50].abs_diff(load(99)) <= load(1), "{row:?}");
    assert!(row[Q90].abs_diff(load(118)) <= load(2), "{row:?}");
    // The median of the maximum of thirty ticks is at 2.0 deviations.
    let row = forecast.reads.0[MAX30];
    assert!(row[Q50].abs_diff(load(129)) <= load(3), "{row:?}");
    assert_eq!(forecast.reads.0[H1], forecast.reads.0[H6]);
    // What never changes is known exactly as soon as residuals are.
    (0..70).for_each(|_| {
        feed.reads(100);
    });
    for target in 0..TARGETS {
        let row = feed.answers[&RangeId(1)].reads.0[target];
        assert!(row.iter().all(|it| *it == quantise(load(100))), "target {target}: {row:?}");
    }
}

#[test]
fn mean_and_maximum_keep_their_prior_for_thirty_one_ticks() {
    let mut feed = Feed::new(Rung::Ewma);
    let heats = (0..64).map(|id| (RangeId(id), heat(100, 0))).collect();
    for tick in 1..=33 {
        feed.tick(&heats);
        let reads = feed.answers[&RangeId(5)].reads;
        let wide = [H1, H6, MEAN30, MAX30].map(|it| reads.0[it][0] < reads.0[it][Q95]);
        assert_eq!(wide, [tick < 2, tick < 7, tick < 31, tick < 31], "after {tick} ticks");
    }
}

#[test]
fn total_does_not_expect_that_load_begins_again() {
    let mut feed = Feed::new(Rung::Ewma);
    // Nothing, for longer than the first ticks count; a trickle, a part of a tick, and then all.
    let begins = [&[0; 12][..], &[1, 1, 1, 40]].concat();
    for tick in 0..150 {
        let reads = begins.get(tick).copied().unwrap_or(100);
        let heats = (0..64).map(|id| (RangeId(id), heat(reads, 0))).collect();
        let total = feed.tick(&heats).total;
        let row = total.reads.0[MEAN30];
        let most = load(64 * reads) * 5 / 4;
        assert!(tick < begins.len() + 2 || row[Q90] <= most, "tick {tick}: {row:?}");
    }
}

#[test]
fn level_follows_a_step_within_three_ticks() {
    let mut random = Pcg64::seed_from_u64(3);
    for (before, after) in [(100.0, 400.0), (400.0, 100.0), (0.0, 50.0), (3000.0, 2000.0)] {
        let mut feed = Feed::new(Rung::Ewma);
        // One of twelve ranges, and long enough for the slow level to be chosen by the others.
        let mut tick = |mean| {
            let mut heats: BTreeMap<_, _> =
                (2..14).map(|id| (RangeId(id), 20.0 * 1.5_f64.powi(id as i32))).collect();
            heats.insert(RangeId(1), mean);
            let draw = |(id, mean)| (id, heat(poisson(&mut random, mean), 0));
            feed.tick(&heats.into_iter().map(draw).collect());
            feed.answers.get(&RangeId(1)).copied().unwrap_or_default()
        };
        (0..150).for_each(|_| {
            tick(before);
        });
        let forecasts = [tick(after), tick(after), tick(after)];
        let median = forecasts[2].reads.0[H1][Q50] as f64 / load(1) as f64;
        let off = (median / after - 1.0).abs();
        assert!(off < 0.25, "{before} to {after}: {median} after three ticks");
    }
}

#[test]
fn hot_spot_that_moves_on_does_not_vanish_from_the_medians() {
    let mut feed = Feed::new(Rung::Ewma);
    // Each range in turn is hot for ten ticks: none stays so for thirty.
    for tick in 0..200 {
        let asked = |id| heat(if tick / 10 % 20 == id { 900 } else { 5 }, 0);
        feed.tick(&(0..20).map(|id| (RangeId(id), asked(id))).collect());
        let medians: u64 = feed.answers.values().map(|it| it.reads.0[MEAN30][Q50]).sum();
        let now = load(900 + 19 * 5);
        assert!(now * 9 / 10 <= medians, "tick {tick}: {medians} of {now}");
    }
}

#[test]
fn what_stays_is_not_answered_again() {
    let mut feed = Feed::new(Rung::Ewma);
    let heats = (0..20).map(|id| (RangeId(id), heat(50 + id, id))).collect();
    for _ in 0..160 {
        feed.tick(&heats);
    }
    for _ in 0..20 {
        assert_eq!(feed.tick(&heats).ranges, [], "constant load");
    }
    let mut one = heats.clone();
    one.insert(RangeId(7), heat(60, 7));
    let answered: Vec<_> = feed.tick(&one).ranges.into_iter().map(|it| it.0).collect();
    assert_eq!(answered, [RangeId(7)]);
}

#[test]
fn cold_range_ends_with_none_and_takes_no_memory() {
    let mut feed = Feed::new(Rung::Ewma);
    for _ in 0..40 {
        feed.reads(80);
    }
    let ended: Vec<_> = (0..200).flat_map(|_| feed.tick(&BTreeMap::new()).ranges).collect();
    assert_eq!(ended.last().map(|it| it.1), Some(None));
    assert!(feed.forecaster.ranges.is_empty());
}

#[test]
fn children_begin_with_their_share_and_have_their_own_a_tick_later() {
    let mut feed = Feed::new(Rung::Ewma);
    let (parent, left, right) = (RangeId(1), RangeId(8), RangeId(9));
    for _ in 0..80 {
        feed.reads(400);
    }
    let born = |id, share| Born { id, parents: vec![(parent, share)], history: Vec::new() };
    let rolling = |it| Rolling::of(heat(it, 0));
    let answers = feed.answer(&Features {
        changed: vec![(parent, rolling(0)), (left, rolling(100)), (right, rolling(300))],
        born: vec![born(left, 250_000), born(right, 750_000)],
        dead: vec![parent],
        ..Features::default()
    });
    assert_eq!(answers.inherited, [left, right]);
    assert_eq!(answers.ranges[0], (parent, None));
    for (id, reads) in [(left, 100), (right, 300)] {
        let row = feed.answers[&id].reads.0[MEAN30];
        assert!(row.iter().all(|it| it.abs_diff(load(reads)) <= load(1)), "{id:?}: {row:?}");
    }
    let joined = feed.answer(&Features {
        changed: vec![(left, rolling(400)), (right, rolling(0))],
        born: vec![Born {
            id: left,
            parents: vec![(left, 1_000_000), (right, 1_000_000)],
            history: Vec::new(),
        }],
        dead: vec![right],
        ..Features::default()
    });
    assert_eq!((joined.inherited, joined.ranges[1]), (vec![left], (right, None)));
    assert!(feed.answers[&left].reads.0[MAX30].iter().all(|it| it.abs_diff(load(400)) <= load(2)));
    assert_eq!(feed.answer(&Features::default()).inherited, []);
}

#[test]
fn adversarial_load_leaves_quantiles_sound() {
    let loads: [(&str, &dyn Fn(u64) -> u64); 8] = [
        ("none", &|_| 0),
        ("constant", &|_| 7),
        ("step", &|tick| if tick < 60 { 5 } else { 5_000_000 }),
        ("square wave", &|tick| tick % 2 * 1_000_000),
        ("shuffled", &|tick| tick * tick % 97),
        ("jumps", &|tick| if tick % 17 == 3 { 1_000_000_000 } else { tick % 3 }),
        ("once", &|tick| u64::from(tick == 40) * 1_000_000),
        ("growth", &|tick| 1 << (tick % 40)),
    ];
    // No forecast is out of all proportion to what was seen: so many times as much at most.
    for (rung, times) in [(Rung::Ewma, 10), (Rung::Ladder, 12)] {
        for (name, reads) in loads {
            let mut feed = Feed::new(rung);
            for tick in 0..200 {
                let heats = BTreeMap::from([(RangeId(1), heat(reads(tick), 0))]);
                let mut features = feed.features(&heats);
                // A strip that is the range, and one where nothing is.
                features.strips = vec![[reads(tick) * 1_000, 0], [0, 0]];
                features.parts = vec![(RangeId(1), vec![whole(0)])];
                feed.answer(&features);
                let greatest = (0..=tick).map(reads).max().unwrap_or_default();
                let forecast = feed.answers.get(&RangeId(1)).copied().unwrap_or_default();
                let bound = load(greatest * times + 100);
                assert!(
                    forecast.load(MAX30, 7) <= bound,
                    "{rung}, {name} at {tick}: {forecast:?}, beyond {bound}"
                );
            }
        }
    }
}

#[test]
fn restored_copy_goes_on_to_the_bit() {
    for (seed, rung) in [(0, Rung::Ewma), (1, Rung::Ewma), (2, Rung::Ladder), (3, Rung::Ladder)] {
        let mut random = Pcg64::seed_from_u64(seed);
        let mut feed = Feed::new(rung);
        // The last one behind the first fit of the linear model, when the network answers, too.
        let restored_at = random.random_range(if seed == 3 { 100..150 } else { 0..100 });
        let (mut copy, mut fits) = (None, 0);
        let mut alive: Vec<u64> = (0..12).collect();
        for tick in 0..200 {
            let heats: BTreeMap<_, _> = alive
                .iter()
                .filter(|_| random.random_bool(0.8))
                .map(|id| (RangeId(*id), *id))
                .collect();
            let heats = heats
                .into_iter()
                .map(|(id, of)| (id, heat(poisson(&mut random, of as f64), of % 5)))
                .collect();
            let mut features = feed.features(&heats);
            if random.random_bool(0.3) {
                let parent = alive.remove(random.random_range(0..alive.len()));
                let (left, right) = (100 + tick * 2, 101 + tick * 2);
                let share = random.random_range(0..=1_000_000);
                let past = random.random_range(0..3) * 40;
                let mut born = |id, share| Born {
                    id: RangeId(id),
                    parents: vec![(RangeId(parent), share)],
                    history: (0..past).map(|_| [random.random_range(0..9_000), 500]).collect(),
                };
                features.born = vec![born(left, share), born(right, 1_000_000 - share)];
                features.dead = vec![RangeId(parent)];
                feed.windows.remove(&RangeId(parent));
                alive.extend([left, right]);
            }
            features.strips =
                (0..60).map(|it| [random.random_range(0..9_000) * it, it * 500]).collect();
            let part = |it: &u64| (RangeId(*it), vec![whole(*it as usize % 60)]);
            features.parts = alive.iter().map(part).collect();
            if tick == restored_at {
                let bytes = postcard::to_stdvec(&feed.forecaster).unwrap();
                let mut restored = postcard::from_bytes::<Forecaster>(&bytes).unwrap();
                restored.configure(Config { rung, tick_ms: TICK_MS });
                restored.load_model(Model::shipped());
                copy = Some(restored);
                assert!(seed != 3 || fits > 0, "nothing was fitted by tick {tick}");
            }
            let at = feed.tick;
            let answers = feed.answer(&features);
            fits += u32::from(answers.refitted.is_some());
            if let Some(copy) = &mut copy {
                assert_eq!(copy.answer(at, &features), answers, "seed {seed}, tick {tick}");
            }
        }
        assert_eq!(copy.as_ref(), Some(&feed.forecaster), "seed {seed}");
    }
}
