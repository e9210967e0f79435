//! Says how far load lies from its level before there is experience: the prior.
//!
//! The load of a tick, counted in mean costs, is taken for negative binomial around the level m with
//! a variance of twice its mean (dispersion 2: size m, probability one half), which is also what a
//! Poisson number of exponential costs has. The mean of thirty ticks has the same spread, not its
//! thirtieth, as a level whose drift nobody has seen yet is not known better than that. The maximum
//! of thirty is that of independent ticks: at the level q it is a tick's quantile at q^(1/30).
//!
//! Quantiles are told as the distance from √(m + 3/8) in square-root space, where beyond the end of
//! the table they do not depend on m.

use std::sync::OnceLock;

use dataflows::forecast::HORIZON;
use schemas::heatmap::LEVELS;

/// Distances at each level.
type Offsets = [f64; LEVELS.len()];

/// The table has a row for every such step of √(m + 3/8) − √(3/8), up to a level of about 4,000.
const STEP: f64 = 0.25;
const ROWS: usize = 256;

/// Which of the two distributions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Prior {
    /// Of one tick, and of the mean of thirty.
    Tick,
    /// Of the maximum of thirty.
    Max,
}

/// Distances from `root`, which is the level in square-root space.
pub fn offsets(prior: Prior, root: f64) -> Offsets {
    static TABLE: OnceLock<Vec<[Offsets; 2]>> = OnceLock::new();
    let table = TABLE.get_or_init(|| (0..ROWS).map(row).collect());
    let at = ((root - floor()) / STEP).clamp(0.0, (ROWS - 1) as f64);
    let below = (at as usize).min(ROWS - 2);
    let part = at - below as f64;
    let [low, high] = [table[below], table[below + 1]].map(|row| match prior {
        Prior::Tick => row[0],
        Prior::Max => row[1],
    });
    std::array::from_fn(|i| low[i] * (1.0 - part) + high[i] * part)
}

/// Zero load in square-root space.
pub fn floor() -> f64 {
    0.375_f64.sqrt()
}

fn row(at: usize) -> [Offsets; 2] {
    let root = floor() + at as f64 * STEP;
    let weights = weights((root * root - 0.375).max(0.0));
    let offset = |level: f64| (quantile(&weights, level) as f64 + 0.375).sqrt() - root;
    let levels = LEVELS.map(|permille| f64::from(permille) / 1000.0);
    [levels.map(offset), levels.map(|level| offset(thirtieth_root(level)))]
}

/// Probabilities of 0, 1, 2 … around a mean, up to a common factor.
fn weights(mean: f64) -> Vec<f64> {
    // From the likeliest number on, both ways, lest the ends of a large one vanish.
    let ratio = |k: usize| (k as f64 + mean) / (k as f64 + 1.0) / 2.0;
    let mode = (mean - 1.0).max(0.0) as usize;
    let mut weights = vec![0.0; mode + 1];
    weights[mode] = 1.0;
    for k in (0..mode).rev() {
        weights[k] = weights[k + 1] / ratio(k);
    }
    while let Some(&last) = weights.last().filter(|it| 1e-15 < **it) {
        weights.push(last * ratio(weights.len() - 1));
    }
    weights
}

/// The least number whose cumulative probability reaches the level.
fn quantile(weights: &[f64], level: f64) -> usize {
    let goal = weights.iter().sum::<f64>() * level;
    let mut sum = 0.0;
    let reached = weights.iter().position(|weight| {
        sum += weight;
        goal <= sum
    });
    reached.unwrap_or(weights.len() - 1)
}

/// By halving, with products only: a library's power may differ from machine to machine.
fn thirtieth_root(level: f64) -> f64 {
    let (mut low, mut high) = (0.0, 1.0);
    for _ in 0..60 {
        let middle: f64 = (low + high) / 2.0;
        let power = (0..HORIZON).fold(1.0, |power, _| power * middle);
        if power < level { low = middle } else { high = middle }
    }
    high
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_have_the_mean_and_twice_its_variance() {
        for mean in [0.01, 0.5, 1.0, 7.3, 100.0, 4000.0] {
            let weights = weights(mean);
            let sum: f64 = weights.iter().sum();
            let moment = |f: &dyn Fn(f64) -> f64| {
                weights.iter().enumerate().map(|(k, it)| f(k as f64) * it).sum::<f64>() / sum
            };
            let found = moment(&|k| k);
            assert!((found / mean - 1.0).abs() < 1e-6, "mean {found} for {mean}");
            let variance = moment(&|k| (k - mean) * (k - mean));
            assert!((variance / mean - 2.0).abs() < 1e-6, "variance {variance} for {mean}");
        }
    }

    #[test]
    fn quantiles_are_the_known_ones() {
        // Negative binomial of size 10 and probability one half, from tables.
        let weights = weights(10.0);
        let found = [0.05, 0.5, 0.9, 0.99].map(|level| quantile(&weights, level));
        assert_eq!(found, [4, 9, 16, 23]);
        assert!((thirtieth_root(0.5) - 0.977_159_968_4).abs() < 1e-9);
    }

    #[test]
    fn offsets_ascend_and_the_maximum_is_above_the_tick() {
        for i in 0..2000 {
            let root = floor() + f64::from(i) * 0.037;
            let [tick, max] = [Prior::Tick, Prior::Max].map(|it| offsets(it, root));
            assert!(tick.is_sorted() && max.is_sorted(), "at {root}: {tick:?} {max:?}");
            assert!(tick.iter().zip(max).all(|(tick, max)| *tick <= max));
        }
        assert_eq!(
            offsets(Prior::Max, floor()),
            [0.0; LEVELS.len()],
            "nothing is expected of zero"
        );
    }
}
