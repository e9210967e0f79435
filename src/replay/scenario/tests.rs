use std::ops::Range;

use super::*;

const RUN_MS: u64 = 50_000;

fn scenario(shape: Shape) -> Scenario {
    Scenario::new(shape, 5, Millis(1_000_000), RUN_MS)
}

/// The share of the queries in a part of the run that go to a part of the key space.
fn check(shape: Shape, run: Range<f64>, space: Range<f64>, expected: f64) {
    let (mut inside, mut all) = (0.0, 0.0);
    for query in scenario(shape).queries_logged() {
        let part = (query.time.0 - 1_000_000) as f64 / RUN_MS as f64;
        if run.contains(&part) {
            let bytes = query.key.0.try_into().unwrap();
            let place = u64::from_be_bytes(bytes) as f64 / 1e6;
            all += 1.0;
            inside += f64::from(u8::from(space.contains(&place)));
        }
    }
    let found: f64 = inside / all;
    assert!((found - expected).abs() < 0.012, "{shape}: {found} of the load in {space:?}");
}

#[test]
fn shapes_are_what_they_are_called() {
    check(Shape::Uniform, 0.0..1.0, 0.3..0.4, 0.1);
    check(Shape::MovingHotspot, 0.0..0.02, 0.15..0.26, 0.5 + 0.5 * 0.11);
    check(Shape::MovingHotspot, 0.98..1.0, 0.64..0.75, 0.5 + 0.5 * 0.11);
    check(Shape::Append, 0.5..0.52, 0.49..0.57, 0.98);
    check(Shape::Append, 0.0..0.5, 0.56..1.0, 0.0);
    check(Shape::FlashCrowd, 0.0..0.4, 0.62..0.63, 0.1 + 0.009);
    check(Shape::FlashCrowd, 0.4..1.0, 0.62..0.63, 0.5 / 1.4 + 0.0064);
    check(Shape::ColdCrowd, 0.0..0.4, 0.62..0.63, 0.01);
    check(Shape::ColdCrowd, 0.4..1.0, 0.62..0.63, 0.5 / 1.4 + 0.0064);
    check(Shape::Diurnal, 0.0..1.0, 0.3..0.4, 0.1);
}

#[test]
fn rates_and_loads_are_as_stated() {
    for shape in Shape::ALL {
        let (mut queries, mut writes, mut cost, mut last) = (0, 0, 0, Millis(0));
        for query in scenario(shape).queries_logged() {
            assert!(last <= query.time, "{shape} goes back in time");
            last = query.time;
            queries += 1;
            writes += u64::from(query.op == Op::Write);
            cost += query.cost_us.unwrap();
        }
        let near = |found: u64, expected: u64| found.abs_diff(expected) * 40 <= expected;
        assert!(near(queries, scenario(shape).queries()), "{shape}: {queries}");
        // Four deviations of some ten thousand.
        assert!((writes * 11).abs_diff(queries) * 25 < queries, "{shape}: {writes} writes");
        assert!(near(cost / 50, scenario(shape).mean_load()), "{shape}: {cost}");
    }
}

#[test]
fn crowd_comes_at_two_fifths_and_day_is_ten_times_night() {
    let count = |shape, run: Range<u64>| {
        let within = |it: &QueryLogged| run.contains(&(it.time.0 - 1_000_000));
        scenario(shape).queries_logged().filter(within).count() as f64
    };
    let ratio = |shape, a: Range<u64>, b| count(shape, a) / count(shape, b);
    let flash = ratio(Shape::FlashCrowd, 20_000..25_000, 15_000..20_000);
    assert!((flash - 1.4).abs() < 0.05, "{flash}");
    let day = ratio(Shape::Diurnal, 24_000..26_000, 0..2_000);
    assert!((8.5..11.5).contains(&day), "{day}");
}

#[test]
fn crowd_is_where_and_when_it_is_said_to_be() {
    let flash = Scenario { keys: 1_000, ..scenario(Shape::FlashCrowd) };
    let (keys, since_ms) = flash.crowd().unwrap();
    assert_eq!((keys, since_ms), (620..630, flash.duration_ms * 2 / 5));
    assert_eq!(scenario(Shape::Uniform).crowd(), None);
}

#[test]
fn hottest_block_has_its_share_and_the_rest_theirs() {
    let mut blocks = vec![0_u32; 1_000];
    for query in scenario(Shape::Zipf).queries_logged() {
        let index = u64::from_be_bytes(query.key.0.try_into().unwrap());
        blocks[(index / 1_000) as usize] += 1;
    }
    let sorted = blocks.is_sorted_by(|a, b| a >= b);
    assert!(!sorted, "blocks are in shuffled order");
    blocks.sort_unstable_by(|a, b| b.cmp(a));
    let harmonic: f64 = (1..=1000).map(|rank| f64::from(rank).powf(-0.99)).sum();
    let all = f64::from(blocks.iter().sum::<u32>());
    for rank in [1, 2, 10] {
        let found = f64::from(blocks[rank - 1]) / all;
        let expected = (rank as f64).powf(-0.99) / harmonic;
        assert!((found / expected - 1.0).abs() < 0.1, "rank {rank}: {found} of {expected}");
    }
}

#[test]
fn seed_decides() {
    let some = |seed| {
        let scenario = Scenario { seed, ..scenario(Shape::MovingHotspot) };
        scenario.queries_logged().take(50).collect::<Vec<_>>()
    };
    assert_eq!(some(1), some(1));
    assert_ne!(some(1), some(2));
}

#[test]
fn names_are_read_back_and_others_refused_with_all_names() {
    for shape in Shape::ALL {
        assert_eq!(shape.to_string().parse(), Ok(shape));
    }
    let refused = "zip".parse::<Shape>().unwrap_err().to_string();
    assert!(refused.contains("\"zip\"") && refused.contains("zipf, moving-hotspot"), "{refused}");
}
