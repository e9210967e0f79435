//! How often what comes lies within the intervals, on generated load.

use super::*;

/// Gamma with a whole shape.
fn gamma(random: &mut Pcg64, shape: u32) -> f64 {
    (0..shape).map(|_| -random.random::<f64>().ln()).sum()
}

/// Holds the coverage of intervals on generated load against bounds in thousandths.
fn check_coverage(seed: u64, draw: impl Fn(&mut Pcg64, f64) -> u64) {
    let mut random = Pcg64::seed_from_u64(seed);
    let mut feed = Feed::new(Rung::Ewma);
    let means: Vec<f64> = (0..40).map(|i| 4.0 * 1.13_f64.powi(i)).collect();
    let (mut loads, mut told) = (Vec::new(), Vec::new());
    for _ in 0..330 {
        let reads: Vec<_> = means.iter().map(|mean| draw(&mut random, *mean)).collect();
        let id = |i| RangeId(i as u64);
        feed.tick(&reads.iter().enumerate().map(|(i, it)| (id(i), heat(*it, 0))).collect());
        told.push(
            (0..means.len())
                .map(|i| feed.answers.get(&id(i)).copied().unwrap_or_default().reads)
                .collect::<Vec<_>>(),
        );
        loads.push(reads.iter().map(|it| load(*it) as f64).collect::<Vec<_>>());
    }
    let actual = |target: usize, tick: usize, i: usize| {
        let ahead = || loads[tick + 1..tick + 31].iter().map(|it| it[i]);
        match target {
            H1 => loads[tick + 1][i],
            H6 => loads[tick + 6][i],
            MEAN30 => ahead().sum::<f64>() / 30.0,
            MAX30 => ahead().fold(0.0, f64::max),
            _ => loads[tick + 30][i],
        }
    };
    for target in 0..TARGETS {
        let (mut in_80, mut in_90, mut below_99, mut count) = (0, 0, 0, 0);
        for (tick, told) in told.iter().enumerate().take(300).skip(90) {
            for (i, reads) in told.iter().enumerate() {
                // A quantum and a half for rounding on either side.
                let (row, actual) = (reads.0[target], actual(target, tick, i));
                let within = |low: usize, high: usize| {
                    row[low] as f64 * 0.993 <= actual && actual <= row[high] as f64 * 1.007
                };
                in_80 += u32::from(within(1, 5));
                in_90 += u32::from(within(0, 6));
                below_99 += u32::from(actual <= row[7] as f64 * 1.007);
                count += 1;
            }
        }
        let permille = |it: u32| it * 1000 / count;
        let found = [in_80, in_90, below_99].map(permille);
        let said = format!("seed {seed}, target {target}: {found:?} of 800, 900, 990");
        println!("{said}");
        assert!((770..870).contains(&found[0]), "{said}");
        assert!((870..955).contains(&found[1]), "{said}");
        assert!(975 <= found[2], "{said}");
    }
}

#[test]
fn intervals_cover_poisson_load() {
    check_coverage(7, poisson);
}

#[test]
fn intervals_cover_negative_binomial_load() {
    // Arrivals around a level that itself jumps by a half, as bursts do.
    check_coverage(11, |random, mean| {
        let level = mean * gamma(random, 4) / 4.0;
        poisson(random, level)
    });
}
