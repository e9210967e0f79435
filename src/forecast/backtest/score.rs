//! Adds up how good forecasts were: loss, coverage, distance of the median.

use dataflows::forecast::{Q50, Q90, Q95, Q99};

use crate::forecast::conformal::Fan;
use crate::forecast::features::{load, root};
use crate::forecast::ladder::pinball;

/// Index of the levels .05 and .1, the lower ends of the intervals.
const Q05: usize = 0;
const Q10: usize = 1;

/// Sums over forecasts of which the truth is known.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Score {
    count: u64,
    loss: f64,
    load: f64,
    off: f64,
    within80: u64,
    within90: u64,
    above99: u64,
}

impl Score {
    pub fn add(&mut self, fan: &Fan, came: f32) {
        let at = root(came);
        self.count += 1;
        self.loss += pinball(fan, came);
        self.load += f64::from(came);
        self.off += f64::from((came - load(fan[Q50])).abs());
        self.within80 += u64::from((fan[Q10]..=fan[Q90]).contains(&at));
        self.within90 += u64::from((fan[Q05]..=fan[Q95]).contains(&at));
        self.above99 += u64::from(fan[Q99] < at);
    }

    pub fn join(&mut self, other: &Self) {
        self.count += other.count;
        self.loss += other.loss;
        self.load += other.load;
        self.off += other.off;
        self.within80 += other.within80;
        self.within90 += other.within90;
        self.above99 += other.above99;
    }

    pub fn count(&self) -> u64 {
        self.count
    }

    /// Tells whether anything was asked: of nothing there is no loss.
    pub fn has_load(&self) -> bool {
        0.0 < self.load
    }

    /// Weighted quantile loss: twice the mean pinball loss over the mean load, which there has to be.
    pub fn wql(&self) -> f64 {
        2.0 * self.loss / self.load
    }

    /// One less the loss over another's.
    pub fn skill(&self, other: &Self) -> f64 {
        1.0 - over(self.loss, other.loss)
    }

    /// How far medians are from the truth, over how far another's are.
    pub fn relmae(&self, other: &Self) -> f64 {
        over(self.off, other.off)
    }

    pub fn cover80(&self) -> f64 {
        self.part(self.within80)
    }

    pub fn cover90(&self) -> f64 {
        self.part(self.within90)
    }

    pub fn exceed99(&self) -> f64 {
        self.part(self.above99)
    }

    fn part(&self, of: u64) -> f64 {
        of as f64 / self.count.max(1) as f64
    }
}

/// A part of what may be nothing: as much as itself, and anything is very much more than it.
fn over(part: f64, of: f64) -> f64 {
    const MOST: f64 = 1e6;
    match (part, of) {
        (0.0, 0.0) => 1.0,
        (part, of) => (part / of).min(MOST),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_over_nothing_is_still_a_number() {
        let parts = [(0.0, 0.0), (1.0, 0.0), (0.0, 2.0), (1.0, 2.0)].map(|(a, b)| over(a, b));
        assert_eq!(parts, [1.0, 1e6, 0.0, 0.5]);
    }
}
