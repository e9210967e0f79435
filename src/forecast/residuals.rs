//! Keeps what forecasts missed by, over the last ticks, and tells its quantiles.
//!
//! ```text
//!  residual ──> bin ──> pool of (op, target, span, bucket)
//!                       counts += tick   counts −= the tick that leaves the window
//! ```
//!
//! Residuals are in square-root space. A bin is 1/32 wide up to 1, and 1/32 of its power of two from
//! there on, so that neither the number of ranges nor a jump makes a pool large. The quantiles are
//! those of split conformal prediction: of n residuals the ⌈(n + 1) q⌉-th above the median, the
//! ⌊(n + 1) q⌋-th below it.

use std::collections::VecDeque;

use schemas::heatmap::LEVELS;
use serde::{Deserialize, Serialize};

/// Residuals of so many ticks are kept.
pub const WINDOW_TICKS: usize = 120;

/// With fewer residuals a pool has no quantiles.
pub const ENOUGH: u64 = 32;

/// Bins of this width around zero.
const GRAIN: f64 = 1.0 / 32.0;

/// A bin, with how many residuals are in it; ascending.
type Runs = Vec<(i16, u32)>;

/// Residuals that are alike.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Pool {
    counts: Runs,
    ticks: VecDeque<Runs>,
    /// Of the tick that is not closed; empty between ticks.
    open: Vec<i16>,
}

impl Pool {
    pub fn add(&mut self, residual: f64) {
        self.open.push(bin(residual));
    }

    /// Takes in what was added since the last close, and lets the oldest tick go.
    pub fn close(&mut self) {
        self.open.sort_unstable();
        let runs = self.open.chunk_by(|a, b| a == b).map(|run| (run[0], run.len() as u32));
        let runs: Runs = runs.collect();
        self.open.clear();
        self.counts = merged(&self.counts, &runs, |count, more| count + more);
        self.ticks.push_back(runs);
        if self.ticks.len() > WINDOW_TICKS {
            let oldest = self.ticks.pop_front().expect("the window is not empty");
            self.counts = merged(&self.counts, &oldest, |count, gone| count - gone);
        }
    }

    /// Residual at each level, ascending; `None` while there are not [`ENOUGH`].
    pub fn quantiles(&self) -> Option<[f64; LEVELS.len()]> {
        quantiles(&self.counts)
    }

    /// How far residuals lie from their median, and how many there are.
    pub fn spread(&self) -> (f64, u64) {
        let count = size(&self.counts);
        let middle = ranked(&self.counts, count.div_ceil(2));
        let apart = |(bin, count): &(i16, u32)| (centre(*bin) - middle).abs() * f64::from(*count);
        (self.counts.iter().map(apart).sum(), count)
    }
}

/// The quantiles of several pools as one.
pub fn together<'a>(pools: impl Iterator<Item = &'a Pool>) -> Option<[f64; LEVELS.len()]> {
    let all = pools.fold(Runs::new(), |all, pool| merged(&all, &pool.counts, |a, b| a + b));
    quantiles(&all)
}

fn quantiles(counts: &Runs) -> Option<[f64; LEVELS.len()]> {
    let size = size(counts);
    (ENOUGH <= size).then(|| {
        LEVELS.map(|permille| {
            let at = (size + 1) * u64::from(permille);
            let rank = if permille < 500 { at / 1000 } else { at.div_ceil(1000) };
            ranked(counts, rank.clamp(1, size))
        })
    })
}

fn size(counts: &Runs) -> u64 {
    counts.iter().map(|(_, count)| u64::from(*count)).sum()
}

/// The residual of a rank; ranks begin at one.
fn ranked(counts: &Runs, rank: u64) -> f64 {
    let mut seen = 0;
    let reached = counts.iter().find(|(_, count)| {
        seen += u64::from(*count);
        rank <= seen
    });
    reached.or(counts.last()).map_or(0.0, |(bin, _)| centre(*bin))
}

fn merged(a: &Runs, b: &Runs, join: impl Fn(u32, u32) -> u32) -> Runs {
    let (mut a, mut b) = (a.iter().copied().peekable(), b.iter().copied().peekable());
    let mut all = Runs::new();
    loop {
        let bin = match (a.peek(), b.peek()) {
            (None, None) => return all,
            (Some((bin, _)), None) | (None, Some((bin, _))) => *bin,
            (Some((a, _)), Some((b, _))) => *a.min(b),
        };
        let count = join(
            a.next_if(|it| it.0 == bin).map_or(0, |it| it.1),
            b.next_if(|it| it.0 == bin).map_or(0, |it| it.1),
        );
        if 0 < count {
            all.push((bin, count));
        }
    }
}

/// The number of a residual's bin; bins of opposite residuals have opposite numbers.
pub fn bin(residual: f64) -> i16 {
    let grains = residual.abs() / GRAIN;
    let bin = if grains < 32.0 {
        (grains + 0.5) as i16
    } else {
        // Exponent and the upper five bits of the mantissa: 32 bins for each doubling.
        let bits = grains.min(1e12).to_bits() >> 47;
        (bits as i64 - (i64::from(1023 + 5) << 5)) as i16 + 32
    };
    if residual < 0.0 { -bin } else { bin }
}

/// The residual that stands for a bin.
pub fn centre(bin: i16) -> f64 {
    let at = i64::from(bin.abs());
    let size = if at < 32 {
        at as f64 * GRAIN
    } else {
        let (doublings, part) = ((at - 32) / 32, (at - 32) % 32);
        (32.0 + part as f64 + 0.5) * (1_u64 << doublings) as f64 * GRAIN
    };
    if bin < 0 { -size } else { size }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bin_stands_for_its_residuals() {
        for i in -4000..4000 {
            let residual = f64::from(i) * f64::from(i).abs() * 0.0007;
            let off = (centre(bin(residual)) - residual).abs();
            assert!(off <= GRAIN / 2.0 + residual.abs() / 64.0, "{residual} is off by {off}");
            assert_eq!(centre(bin(-residual)), -centre(bin(residual)));
        }
        assert_eq!(centre(bin(0.0)), 0.0);
        assert!(centre(bin(f64::MAX)).is_finite());
        assert!(bin(0.99) <= bin(1.0) && bin(1.0) < bin(1.1) && bin(1.99) < bin(2.01));
    }

    #[test]
    fn quantiles_are_those_of_the_window() {
        let mut pool = Pool::default();
        for tick in 0..WINDOW_TICKS + 60 {
            assert_eq!(pool.quantiles().is_some(), ENOUGH <= size(&pool.counts));
            pool.add(if tick < 60 { 500.0 } else { tick as f64 % 12.0 / 16.0 });
            pool.close();
        }
        // The twelve residuals 0, 1/16 … 11/16 ten times each, and nothing of the first ticks.
        assert_eq!(size(&pool.counts), WINDOW_TICKS as u64);
        let sixteenths = pool.quantiles().unwrap().map(|it| it * 16.0);
        assert_eq!(sixteenths, [0.0, 1.0, 2.0, 6.0, 9.0, 10.0, 11.0, 11.0]);
    }

    #[test]
    fn empty_ticks_count_in_the_window() {
        let mut pool = Pool::default();
        (0..40).for_each(|_| pool.add(1.0));
        (0..WINDOW_TICKS).for_each(|_| pool.close());
        assert!(pool.quantiles().is_some());
        pool.close();
        assert_eq!(pool.quantiles(), None);
    }
}
