//! Keeps what was answered until it is known what came of it.
//!
//! ```text
//!  answers of a tick ──> for each target the rows that are asked ── 1, 6, 30 ticks later ──> what came
//! ```
//!
//! * **Small.** Models that name one value keep that one, and what calibration added to it stands once
//!   for all rows. So a row takes 0.1 kB a tick and target.
//! * **Bounded.** Of very many ranges some are asked, others in the next tick.

use std::collections::VecDeque;

use dataflows::forecast::TARGETS;
use serde::{Deserialize, Serialize};

use super::super::AHEAD;
use super::super::candidates::{CANDIDATES, Candidate};
use super::super::conformal::{BUCKETS, Fan, Kind, told};

/// How many candidates name one value; they come first.
pub(super) const POINTS: usize = 8;
const FANS: usize = CANDIDATES.len() - POINTS;

/// By target, the latest first.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Origins {
    by_target: [VecDeque<Origin>; TARGETS],
    ranges_max: usize,
}

/// What was answered in a tick for a target.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Origin {
    pub has: [bool; CANDIDATES.len()],
    /// What calibration added, by candidate, then operation and bucket.
    pub offsets: Vec<Vec<Option<Fan>>>,
    pub rows: Vec<Told>,
}

/// What was said of a row.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Told {
    pub at: usize,
    pub op: usize,
    pub points: [f32; POINTS],
    pub fans: [Fan; FANS],
    pub buckets: [u8; CANDIDATES.len()],
    pub scale: f32,
}

impl Default for Origins {
    fn default() -> Self {
        Self { by_target: Default::default(), ranges_max: usize::MAX }
    }
}

impl Origins {
    pub fn sample(&mut self, ranges_max: usize) {
        self.ranges_max = ranges_max.max(1);
    }

    /// The ranges that are asked what came of the answers of a tick.
    pub fn sampled(&self, tick: u64, ranges: usize) -> impl Iterator<Item = usize> + Clone + use<> {
        let stride = ranges.div_ceil(self.ranges_max).max(1);
        (tick as usize % stride..ranges).step_by(stride)
    }

    pub fn add(&mut self, target: usize, origin: Origin) {
        let origins = &mut self.by_target[target];
        origins.push_front(origin);
        origins.truncate(AHEAD[target]);
    }

    /// Nothing will have come of what one has answered.
    pub fn forget(&mut self, candidate: Candidate) {
        self.by_target.iter_mut().flatten().for_each(|it| it.has[candidate as usize] = false);
    }

    /// That of which it is known now what came of it.
    pub fn settled(&self, target: usize) -> Option<&Origin> {
        self.by_target[target].get(AHEAD[target] - 1)
    }
}

impl Origin {
    /// The fan of a row as it was calibrated then.
    pub fn told(&self, row: &Told, candidate: Candidate) -> Option<Fan> {
        let place = row.op * BUCKETS + usize::from(row.buckets[candidate as usize]);
        let offsets = self.offsets[candidate as usize].get(place)?.as_ref()?;
        Some(told(&row.named(candidate), offsets, candidate.scale(row.scale)))
    }
}

impl Told {
    /// What the candidate named of it.
    pub fn named(&self, candidate: Candidate) -> Fan {
        let at = candidate as usize;
        match candidate.kind() {
            Kind::Point => [self.points[at]; _],
            Kind::Fan => self.fans[at - POINTS],
        }
    }
}
