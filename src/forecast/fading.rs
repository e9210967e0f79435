//! Keeps residuals that fade: what was missed lately, on what was missed for long.
//!
//! ```text
//!  residual ──> bin ── lately: fades by 1/60 a tick ──┐ shares by how many residuals of their own
//!                └──── for long: by 1/4000 a tick ────┘ kind there are lately ──> quantile
//! ```
//!
//! With many ranges the last ticks say how wide a forecast must be; one series alone, whose residuals
//! of thirty ticks overlap, has only a few that are its own and needs what was before.

use std::array;

use serde::{Deserialize, Serialize};

use super::residuals::{bin, centre};

/// How much of the weight goes in a tick.
const LATELY: f32 = 1.0 / 60.0;
const LONG: f32 = 1.0 / 4_000.0;

/// Weight below which a bin is forgotten.
const LEAST: f32 = 1e-3;

/// So many residuals of their own must be known lately to weigh as much as all before.
const TRUSTED: f64 = 50.0;

/// With less weight there are no quantiles.
pub const ENOUGH: f64 = 24.0;

/// Levels from this one on are upper ones, wherever what is missed has moved them.
const UPPER: f64 = 0.8;

/// Residuals are told enlarged: bins are fine around one.
const ENLARGED: f64 = 4.0;

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Weight {
    bin: i16,
    lately: f32,
    long: f32,
}

/// Residuals that are alike; bins ascend.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Fading(Vec<Weight>);

impl Fading {
    pub fn add(&mut self, residual: f32) {
        let bin = bin(f64::from(residual) * ENLARGED);
        let at = self.0.partition_point(|it| it.bin < bin);
        if self.0.get(at).is_none_or(|it| it.bin != bin) {
            self.0.insert(at, Weight { bin, lately: 0.0, long: 0.0 });
        }
        self.0[at].lately += 1.0;
        self.0[at].long += 1.0;
    }

    /// Ends a tick.
    pub fn fade(&mut self) {
        for it in &mut self.0 {
            it.lately *= STAYS[0];
            it.long *= STAYS[1];
        }
        self.0.retain(|it| LEAST < it.long);
    }

    /// The residuals at levels in (0, 1), which ascend; `None` while there are not enough. `overlap` is
    /// how many residuals in a row tell of the same load, `alike` how many count as one to the upper levels.
    pub fn quantiles<const N: usize>(
        &self,
        levels: [f64; N],
        overlap: usize,
        alike: f64,
    ) -> Option<[f64; N]> {
        let lately: f64 = self.0.iter().map(|it| f64::from(it.lately)).sum();
        self.at(levels, lately, share(lately / overlap as f64), alike)
    }

    /// The same of all that was missed for long.
    pub fn steady<const N: usize>(&self, levels: [f64; N]) -> Option<[f64; N]> {
        self.at(levels, 1.0, 0.0, 1.0)
    }

    fn at<const N: usize>(
        &self,
        levels: [f64; N],
        lately: f64,
        share: f64,
        alike: f64,
    ) -> Option<[f64; N]> {
        let long: f64 = self.0.iter().map(|it| f64::from(it.long)).sum();
        if long < ENOUGH {
            return None;
        }
        let (lately_unit, long_unit) = (share / lately.max(1e-9), (1.0 - share) / long);
        let mut rest = self.0.iter();
        let mut reached = rest.next()?;
        let weight =
            |it: &Weight| f64::from(it.lately) * lately_unit + f64::from(it.long) * long_unit;
        let mut sum = weight(reached);
        Some(array::from_fn(|i| {
            let (level, next) = (levels[i], levels.get(i + 1).copied().unwrap_or(1.0));
            // As in split conformal prediction: the load to come is one more, beyond all others.
            let goal = match level {
                _ if level < 0.5 => level - (1.0 - level) / long,
                _ if level < UPPER => level + level / long,
                // No further than the next: with few residuals one that was met at the start would be all of them.
                _ => (level + level * alike / long).min(next),
            };
            while sum < goal {
                let Some(next) = rest.next() else { break };
                reached = next;
                sum += weight(next);
            }
            centre(reached.bin) / ENLARGED
        }))
    }

    pub fn merge(&mut self, other: &Self) {
        for it in &other.0 {
            let at = self.0.partition_point(|own| own.bin < it.bin);
            match self.0.get_mut(at).filter(|own| own.bin == it.bin) {
                Some(own) => {
                    own.lately += it.lately;
                    own.long += it.long;
                }
                None => self.0.insert(at, *it),
            }
        }
    }
}

/// How much what was lately weighs beside what was for long, by how many residuals of their own kind
/// there are lately.
pub fn share(own: f64) -> f64 {
    own / (own + TRUSTED)
}

/// How much of the weight stays in a tick: lately, for long.
pub const STAYS: [f32; 2] = [1.0 - LATELY, 1.0 - LONG];

#[cfg(test)]
mod tests {
    use super::*;

    /// Sixteenths from 0 to 15, in turn; then all at 3.
    fn turned(ticks: usize, then: usize, each: usize) -> Fading {
        let mut pool = Fading::default();
        for tick in 0..ticks + then {
            for i in 0..each {
                pool.add(if tick < ticks { ((tick * each + i) % 16) as f32 / 16.0 } else { 3.0 });
            }
            pool.fade();
        }
        pool
    }

    #[test]
    fn quantiles_are_those_of_what_was_added() {
        let pool = turned(320, 0, 1);
        let levels = [0.05, 0.25, 0.5, 0.9, 0.99];
        let all = pool.quantiles(levels, 1, 1.0).unwrap();
        for ((level, found), expected) in
            levels.into_iter().zip(all).zip([0.0, 4.0, 8.0, 14.0, 15.0])
        {
            assert!((found * 16.0 - expected).abs() <= 1.0, "{found} at {level}");
            assert_eq!(pool.quantiles([level], 1, 1.0), Some([found]));
        }
    }

    #[test]
    fn upper_levels_of_residuals_that_are_alike_lie_further_out() {
        let pool = turned(20, 0, 16);
        let levels = [0.05, 0.5, 0.85, 0.9];
        let [own, alike] = [1.0, 30.0].map(|it| pool.quantiles(levels, 1, it).unwrap());
        assert_eq!(own[..2], alike[..2]);
        assert!(own[2] < alike[2] && own[3] < alike[3], "{own:?}, {alike:?}");
    }

    #[test]
    fn few_residuals_of_their_own_kind_leave_the_say_to_those_before() {
        let median =
            |each, overlap| turned(2_000, 60, each).quantiles([0.5], overlap, 1.0).unwrap()[0];
        assert!(2.9 < median(20, 1), "many that are their own say how it is lately");
        assert!(median(4, 30) < 1.0, "of four series that overlap by thirty there are few");
        assert!(turned(2_000, 60, 20).steady([0.5]).unwrap()[0] < 1.0);
    }

    #[test]
    fn pool_without_enough_says_nothing_and_forgets_in_the_end() {
        let mut pool = Fading::default();
        (1..ENOUGH as u32).for_each(|_| pool.add(1.0));
        assert_eq!(pool.quantiles([0.5], 1, 1.0), None);
        pool.add(1.0);
        pool.add(f32::MAX);
        assert!(pool.quantiles([0.99], 1, 1.0).unwrap()[0].is_finite());
        (0..60_000).for_each(|_| pool.fade());
        assert_eq!(pool, Fading::default());
    }
}
