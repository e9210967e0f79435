//! Tells how much of what a cell was asked goes to a place that moves on: a sweep.
//!
//! ```text
//!  key │            w w r         w: beyond all that came before   ── no cut has it on both sides
//!      │       w w r  r   r       r: within it                     ── a cut may halve it
//!      │  w w r  r  r   r
//!      └──────────────────── time
//! ```
//!
//! * **Chance is taken off.** Of a load that stays where it is, too, some lies beyond all before; what
//!   is expected of it counts for nothing, and what is near it is no sweep.
//! * **Coarse clocks do.** What has one time has no order, and is compared with earlier times only.

use std::cmp::Ordering;
use std::collections::BTreeSet;

use schemas::query_log::Op;
use schemas::{Key, Millis};

use super::Sample;

/// Keys rise or fall with time when the square of their rank correlation is at least this many
/// hundredths: a correlation of 0.8, four and a half deviations from chance for a full sample.
const SWEEP_SQUARE_PERCENT: i128 = 64;

/// Fewer distinct times or keys than this tell nothing of a sweep.
const SWEEP_DISTINCT_MIN: usize = 12;

/// What lies beyond all before it must be more than chance has by so many deviations, squared, times
/// four: four and a half.
const DEVIATIONS_SQUARE: i128 = 81;

const ONE_PPM: i64 = 1_000_000;

impl Sample {
    /// Returns how many of the entries of one tick, in millionths, are a sweep's, and of how many:
    /// of reads, and of writes. They often differ: what is written last is read for a while.
    pub fn swept(&self) -> [(i64, i64); 2] {
        let is_sweep = self.is_sweep();
        [false, true].map(|writes| {
            let of_op = self.entries.iter().filter(|it| (it.op == Op::Write) == writes);
            let mut order: Vec<_> = of_op.map(|it| (it.time, &it.key)).collect();
            let all = order.len() as i64 * ONE_PPM;
            if is_sweep {
                return (all, all);
            }
            order.sort_unstable();
            let rising = beyond(&order, Ord::cmp);
            let falling = beyond(&order, |a, b| b.cmp(a));
            (rising.max(falling), all)
        })
    }

    /// Tells whether keys rise or fall with time: what comes next lies behind all that came, and a
    /// cut would be left behind too.
    fn is_sweep(&self) -> bool {
        let times: BTreeSet<_> = self.entries.iter().map(|it| it.time).collect();
        if times.len() < SWEEP_DISTINCT_MIN || self.weights().len() < SWEEP_DISTINCT_MIN {
            return false;
        }
        let times = ranks(self.entries.iter().map(|it| it.time).collect());
        let keys = ranks(self.entries.iter().map(|it| &it.key).collect());
        let product = |a: &[i128], b: &[i128]| a.iter().zip(b).map(|(a, b)| a * b).sum::<i128>();
        let both = product(&times, &keys);
        100 * both * both >= SWEEP_SQUARE_PERCENT * product(&times, &times) * product(&keys, &keys)
    }
}

/// Returns how many entries, in millionths, are a sweep's, if chance does not explain them; `order` is
/// by time.
fn beyond(order: &[(Millis, &Key)], cmp: impl Fn(&Key, &Key) -> Ordering) -> i64 {
    let (mut before, mut found) = (0_i64, 0);
    let (mut chance, mut variance) = (0_i64, 0_i128);
    let mut farthest: Option<&Key> = None;
    let mut first = 0;
    for now in order.chunk_by(|a, b| a.0 == b.0) {
        let n = now.len() as i64;
        match farthest {
            Some(limit) => {
                found += now.iter().filter(|it| cmp(it.1, limit).is_gt()).count() as i64 * ONE_PPM;
                // Each of them is the farthest of itself and those before with the same chance; of
                // several at one time, one follows another.
                let mean = n * ONE_PPM / (before + 1);
                let spread = if n == 1 { ONE_PPM - mean } else { ONE_PPM + mean };
                chance += mean;
                variance += i128::from(mean) * i128::from(spread);
            }
            None => first = n,
        }
        before += n;
        let last = now.iter().map(|it| it.1).max_by(|a, b| cmp(a, b));
        farthest = farthest.into_iter().chain(last).max_by(|a, b| cmp(a, b));
    }
    let more = i128::from(found - chance);
    if more <= 0 || 4 * more * more < DEVIATIONS_SQUARE * variance {
        return 0;
    }
    // As a part of those that could have been; the first are like the rest.
    let could = (before - first) * ONE_PPM;
    (i128::from(before * ONE_PPM) * i128::from(found - chance)
        / i128::from((could - chance).max(1))) as i64
}

/// Twice the rank of each item less its mean; equal items share the mean of their ranks.
fn ranks<T: Ord>(items: Vec<T>) -> Vec<i128> {
    let below = |item: &T| items.iter().filter(|it| *it < item).count() as i128;
    let equal = |item: &T| items.iter().filter(|it| *it == item).count() as i128;
    let twice = |item: &T| 2 * below(item) + equal(item) - items.len() as i128;
    items.iter().map(twice).collect()
}

#[cfg(test)]
mod tests {
    use rand::{Rng, SeedableRng};
    use rand_pcg::Pcg64;

    use super::super::tests::sample;

    #[test]
    fn sweep_is_told_from_chance_and_from_one_key() {
        for seed in 0..200 {
            println!("seed {seed}");
            let mut rng = Pcg64::seed_from_u64(seed);
            let rising: Vec<_> =
                (0..3000).map(|t| (t * 10 + rng.random_range(0..500), t)).collect();
            assert!(is_sweep(&rising), "rising");
            let falling: Vec<_> = (0..3000).map(|t| (90_000 - t * 10, t)).collect();
            assert!(is_sweep(&falling), "falling");
            let still: Vec<_> = (0..3000).map(|t| (rng.random_range(0..500_u64), t)).collect();
            assert!(!is_sweep(&still), "still");
            let one: Vec<_> = (0..3000).map(|t| (9, t)).collect();
            assert!(!is_sweep(&one), "one key");
            let burst: Vec<_> = (0..3000).map(|i| (i, i % 4)).collect();
            assert!(!is_sweep(&burst), "four times");
        }
    }

    #[test]
    fn part_of_a_sweep_is_told_among_what_stays() {
        // Writes at an edge that goes on, and reads behind it, by a tenth of a cell and more.
        for (writes, least, most) in [(100, 95, 100), (60, 35, 75), (40, 15, 60), (0, 0, 3)] {
            let mean = mean_percent(|rng, t| match rng.random_range(0..100) < writes {
                true => t,
                false => t.saturating_sub(rng.random_range(300..6000)),
            });
            assert!((least..=most).contains(&mean), "{writes} % of writes: {mean} % are told");
        }
    }

    #[test]
    fn what_stays_is_no_sweep_and_a_front_hardly() {
        let still = mean_percent(|rng, _| rng.random_range(0..3000));
        assert_eq!(still, 0);
        // The front of a hot spot that travels grows into a cell: that is a little like a sweep, in
        // this one cell while it does.
        let front = mean_percent(|rng, t| rng.random_range(0..t + 1));
        assert!(front < 25, "{front} %");
        let later = mean_percent(|rng, t| rng.random_range(0..t + 1500));
        assert!(later < 5, "{later} %");
    }

    #[test]
    fn clock_of_coarse_grain_does() {
        let swept = |grain: u64| {
            let asked: Vec<_> = (0..3000).map(|t| (t, t / grain * grain)).collect();
            sample(&asked).swept()[0]
        };
        // All but the first grain is beyond what came before.
        for grain in [300, 1000, 1500] {
            let (swept, all) = swept(grain);
            assert!(swept * 100 >= all * 80, "{grain}: {swept} of {all}");
        }
        assert_eq!(swept(3000).0, 0, "what comes at once has no order");
    }

    /// Percent of samples of 3000 entries that are told to be a sweep's, over many seeds.
    fn mean_percent(at: impl Fn(&mut Pcg64, u64) -> u64) -> i64 {
        let (mut swept, mut all) = (0, 0);
        for seed in 0..200 {
            let mut rng = Pcg64::seed_from_u64(seed);
            let asked: Vec<_> = (0..3000).map(|t| (at(&mut rng, t), t)).collect();
            let (more, of) = sample(&asked).swept()[0];
            (swept, all) = (swept + more, all + of);
        }
        println!("seeds 0 to 199: {swept} of {all}");
        swept * 100 / all
    }

    fn is_sweep(asked: &[(u64, u64)]) -> bool {
        let (swept, all) = sample(asked).swept()[0];
        swept == all
    }
}
