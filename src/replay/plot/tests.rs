use rand::{Rng, SeedableRng};
use rand_pcg::Pcg64;

use super::*;

/// A run with noise, splits, joins and moves, as hard to draw as a run of its size can be.
fn picture(seed: u64, frames: usize, rows: usize, nodes: usize) -> Picture {
    let mut random = Pcg64::seed_from_u64(seed);
    let mut ranges: Vec<_> =
        (0..32).map(|it| (f64::from(it) / 32.0, it as usize % nodes)).collect();
    let mut picture = Picture {
        name: "noise <&>".into(),
        tick_ms: 5_000,
        rows: (0..rows).map(|it| it as f64 / rows as f64).collect(),
        overload: 6.04,
        overload_first: 218.3,
        splits: 3,
        joins: 1,
        bytes_moved: 45_000_000,
        ..Picture::default()
    };
    for number in 0..nodes {
        let (name, capacity_us_per_s) = (format!("n{number}"), 250_000 * (number as u64 + 1));
        picture.nodes.push(PictureNode { name, capacity_us_per_s });
    }
    for frame in 0..frames {
        if random.random_bool(0.3) && ranges.len() < 500 {
            let at = random.random_range(0..ranges.len());
            let end = ranges.get(at + 1).map_or(1.0, |it| it.0);
            ranges.insert(at + 1, ((ranges[at].0 + end) / 2.0, ranges[at].1));
        }
        if random.random_bool(0.3) {
            let at = random.random_range(0..ranges.len());
            ranges[at].1 = random.random_range(0..nodes);
            let end = ranges.get(at + 1).map_or(1.0, |it| it.0);
            picture.moves.push(Moved { frame, start: ranges[at].0, end });
        }
        picture.frames.push(Frame {
            heat: (0..rows)
                .map(|_| random.random::<u64>() >> random.random_range(51..64))
                .collect(),
            ranges: ranges.clone(),
            loads: (0..nodes).map(|_| random.random::<f64>()).collect(),
            loads_first: (0..nodes).map(|_| random.random::<f64>() * 9.0).collect(),
        });
    }
    picture
}

/// Holds a picture to what every one promises.
fn check(picture: &Picture) -> String {
    let svg = picture.svg();
    assert!(svg.len() < 1_000_000, "{} bytes", svg.len());
    assert!(!svg.contains("NaN") && !svg.contains("inf"), "a number is none");
    let count = |text: &str| svg.matches(text).count();
    for element in ["svg", "g", "text", "defs", "pattern", "title"] {
        let opened = count(&format!("<{element}>")) + count(&format!("<{element} "));
        assert_eq!(
            opened,
            count(&format!("</{element}>")),
            "{element} is closed as often as opened"
        );
    }
    assert_eq!(count("<circle"), picture.moves.len().min(2_000));
    svg
}

#[test]
fn picture_stays_below_a_megabyte_whatever_is_drawn() {
    check(&picture(1, 720, 512, 4));
    check(&picture(2, 5_000, 64, 30));
    check(&picture(3, 120, 2_048, 4));
    let mut restless = picture(10, 400, 512, 5);
    for (at, frame) in restless.frames.iter_mut().enumerate() {
        frame.ranges =
            (0..1_000).map(|it| (f64::from(it) / 1e3, (it as usize / 7 + at) % 5)).collect();
    }
    check(&restless);
}

#[test]
fn small_and_empty_runs_are_drawn() {
    check(&Picture::default());
    check(&picture(4, 1, 1, 1));
    check(&picture(5, 2, 3, 2));
    let mut quiet = picture(6, 10, 8, 2);
    quiet.frames.iter_mut().for_each(|it| it.heat.fill(0));
    check(&quiet);
}

#[test]
fn titles_tell_what_is_seen() {
    let svg = check(&picture(7, 60, 64, 4));
    for said in [
        "Heat: where the load of noise &lt;&amp;&gt; is (dots: where ranges begin, ",
        "3 splits, 1 join)",
        "45 MB",
        "Overload area 6.0 against 218 node-seconds",
        "n3: 1<",
        "load ÷ capacity",
        "load ÷ mean load",
        "minutes (a tick is 5 s)",
    ] {
        assert!(svg.contains(said), "{said:?} is not told");
    }
    assert!(!svg.contains("forecast"), "there is none");
}

#[test]
fn forecast_is_hatched_behind_now() {
    let mut picture = picture(8, 30, 16, 2);
    picture.ahead = Some(Ahead { ticks: 30, ranges: vec![(0.0, 500), (0.5, 20)] });
    let svg = check(&picture);
    assert!(svg.contains("hatched: forecast") && svg.contains("url(#ahead)"));
}

#[test]
fn heat_is_drawn_where_it_is() {
    let mut picture = picture(9, 4, 4, 1);
    picture.frames.iter_mut().for_each(|it| it.heat = vec![0, 0, 100, 0]);
    let svg = check(&picture);
    // The third quarter from below, all the time: four times the mean, where the scale ends at five.
    let (top, height) = (TITLE + HEAT_HEIGHT / 4, HEAT_HEIGHT / 4);
    let path = format!("d=\"M{LEFT} {top}h{ACROSS}v{height}h-{ACROSS}z\"");
    assert_eq!(svg.matches(&path).count(), 1, "{path}");
}

#[test]
fn keys_have_places() {
    let integers = KeyAxis::Integers(100, 300);
    let place = |index: u64| integers.place(&super::super::key(index));
    assert_eq!([0, 100, 150, 300, 900].map(place), [0.0, 0.0, 0.25, 1.0, 1.0]);
    assert_eq!(integers.place(&Key::default()), 0.0);
    let ranks = KeyAxis::Ranks(["b", "d", "f"].map(|it| Key(it.into())).to_vec());
    let place = |key: &str| ranks.place(&Key(key.into()));
    assert_eq!(["", "b", "c", "z"].map(place), [0.0, 0.25, 0.25, 0.75]);
}
