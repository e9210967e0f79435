//! Strips of the key space as rows: load is expected where it goes.

use super::*;

#[test]
fn edge_is_expected_where_it_goes_and_not_where_it_was() {
    for (rung, follows) in [(Rung::Ewma, true), (Rung::Persistence, false)] {
        let mut feed = Feed::new(rung);
        let [here, next, cold] = [1, 2, 3].map(RangeId);
        for _ in 0..80 {
            feed.tick(&BTreeMap::from([(here, heat(400, 0)), (next, heat(100, 0))]));
        }
        // Half of what is asked here moves on to the next range, where it stays from the second tick to
        // the seventh, and then to one that has never been asked anything.
        let features = |passing| Features { passing, ..Features::default() };
        let load_us = load(200) * TICK_MS / 1_000;
        let passing = |range, kept_ppm, ticks| Passing { range, op: 0, kept_ppm, load_us, ticks };
        let answers = feed.answer(&features(vec![
            passing(here, 500_000, 0b1),
            passing(next, 1_000_000, 0b111_1110),
            passing(cold, 1_000_000, !0b111_1111 & ((1 << HORIZON) - 1)),
        ]));
        let medians = |feed: &Feed, id: &RangeId| {
            let row = feed.answers.get(id).map(|it| it.reads.0);
            [H1, H6, H30, MEAN30].map(|it| row.map_or(0, |row| row[it][Q50]))
        };
        if follows {
            let about = |id, expected: [u64; 4]| {
                let found = medians(&feed, id);
                let is_near = |(it, reads): (u64, u64)| it.abs_diff(load(reads)) <= load(12);
                assert!(found.into_iter().zip(expected).all(is_near), "{id:?}: {found:?}");
            };
            about(&here, [400, 200, 200, 206]);
            about(&next, [100, 300, 100, 140]);
            about(&cold, [0, 0, 200, 153]);
            assert_eq!(feed.answers[&cold].reads.0[MAX30], feed.answers[&cold].reads.0[H30]);
        } else {
            assert_eq!(answers.ranges, [], "who only reacts expects nothing");
        }
        // It is gone, and so is what was expected of it.
        feed.answer(&Features::default());
        assert_eq!(medians(&feed, &cold), [0; 4]);
    }
}

#[test]
fn hot_spot_is_expected_where_it_goes_before_it_is_there() {
    let mut feed = Feed::new(Rung::Ladder);
    let mut random = Pcg64::seed_from_u64(7);
    let ranges = 24;
    // It stays in each range for ten ticks, and has come to the sixteenth once it has been everywhere twice.
    let ticks = 2 * ranges * 10 + 16 * 10;
    for tick in 0..ticks {
        let load = |range: u64| if tick / 10 % ranges == range { 80.0 } else { 4.0 };
        let heats: BTreeMap<_, _> =
            (0..ranges).map(|it| (RangeId(it), heat(poisson(&mut random, load(it)), 0))).collect();
        let mut features = feed.features(&heats);
        features.strips = heats.values().map(|it| [it.read_us as u64, 0]).collect();
        features.parts = (0..ranges).map(|it| (RangeId(it), vec![whole(it as usize)])).collect();
        feed.answer(&features);
        // Who leads at one tick is known, and does not answer for thirty yet.
        assert!(tick != 6 || feed.forecaster.rung() == "ewma", "{}", feed.forecaster.rung());
    }
    assert!(
        ["linear", "network", "drift"].contains(&feed.forecaster.rung()),
        "{}",
        feed.forecaster.rung()
    );
    let expected = |range: u64| feed.answers[&RangeId(range)].reads.0[MAX30][Q50];
    let [behind, ahead] = [13, 16].map(expected);
    assert!(2 * behind < ahead, "{ahead} is expected of what is next, {behind} of what was hot");
    assert!(feed.forecaster.score().skill_permille.is_some());
    feed.forecaster.forget_strips();
    assert_eq!((feed.forecaster.rung(), feed.forecaster.score()), ("ewma", Score::default()));
}
