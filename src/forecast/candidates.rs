//! Names the models that may answer, and says what each forecasts of a row.
//!
//! ```text
//!  Last, Mean2 … Mean60   one value: persistence, and means over 2 to 60 ticks
//!  Drift                  one value: what stays, and what moves along the key space
//!  Linear                 one value, calibrated as it is
//!  Swayed                 the same, calibrated in units of how far the row swings
//!  Network                a fan: the linear one, corrected
//!  Blend                  a fan: half network, half Swayed
//! ```

use dataflows::forecast::TARGETS;
use serde::{Deserialize, Serialize};

use super::conformal::Kind;
use super::features::{BASE, FEATURES, MEAN2, MEAN6, MEAN60, Track, root};
use super::linear::Linear;

/// A model, with a calibration of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Candidate {
    Last,
    Mean2,
    Mean6,
    Mean20,
    Mean60,
    Drift,
    Linear,
    Swayed,
    Network,
    Blend,
}

/// All, in order.
pub const CANDIDATES: [Candidate; 10] = [
    Candidate::Last,
    Candidate::Mean2,
    Candidate::Mean6,
    Candidate::Mean20,
    Candidate::Mean60,
    Candidate::Drift,
    Candidate::Linear,
    Candidate::Swayed,
    Candidate::Network,
    Candidate::Blend,
];

/// What a row swings by is told from this on.
const SWAY_LEAST: f32 = 0.1;
/// Bounds of the unit in which a row's residuals are told.
const SCALE_MIN: f32 = 0.5;
const SCALE_MAX: f32 = 3.0;

impl Candidate {
    pub fn kind(self) -> Kind {
        match self {
            Self::Last
            | Self::Mean2
            | Self::Mean6
            | Self::Mean20
            | Self::Mean60
            | Self::Drift
            | Self::Linear
            | Self::Swayed => Kind::Point,
            Self::Network | Self::Blend => Kind::Fan,
        }
    }

    /// The rung of the ladder that it stands on, as reports name it.
    pub fn rung(self) -> &'static str {
        match self {
            Self::Last => "persistence",
            Self::Mean2 | Self::Mean6 | Self::Mean20 | Self::Mean60 => "ewma",
            Self::Drift => "drift",
            Self::Linear | Self::Swayed => "linear",
            Self::Network | Self::Blend => "network",
        }
    }

    /// What it counts beside others that lost as much: more, the more it can learn of what it lost.
    pub fn say(self) -> f32 {
        match self {
            Self::Last | Self::Mean2 | Self::Mean6 | Self::Mean20 | Self::Mean60 => 0.25,
            Self::Drift => 0.5,
            Self::Linear | Self::Swayed | Self::Network | Self::Blend => 1.0,
        }
    }

    /// The unit of its residuals.
    pub fn scale(self, scale: f32) -> f32 {
        if self == Self::Swayed { scale } else { 1.0 }
    }
}

/// How far a row swings, between a power of it that is steady for rows without load.
pub fn scale(track: &Track) -> f32 {
    let swing = track.swing() + SWAY_LEAST;
    // swing to the power of ¾, by roots alone: a library's power may differ from machine to machine.
    (swing.sqrt() * swing.sqrt().sqrt()).clamp(SCALE_MIN, SCALE_MAX)
}

/// What those say that name one value, as roots.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Points {
    pub last: f32,
    mean2: f32,
    mean6: f32,
    base: f32,
    mean60: f32,
    drift: [f32; TARGETS],
    linear: [f32; TARGETS],
}

impl Points {
    /// Those of a row; without a model what drifts, or is linear, is the row's own mean.
    pub fn new(
        track: &Track,
        row: &[f32; FEATURES],
        linear: Option<&Linear>,
        drift: Option<&[f64; TARGETS]>,
    ) -> Self {
        let means = track.means();
        let base = means[BASE];
        let linear = linear.map(|it| it.predict(row).map(|it| (it + base).max(root(0.0))));
        Self {
            last: track.lag(0).unwrap_or(means[MEAN2]),
            mean2: means[MEAN2],
            mean6: means[MEAN6],
            base,
            mean60: means[MEAN60],
            drift: drift.map_or([base; _], |it| it.map(|it| root(it as f32))),
            linear: linear.unwrap_or([base; _]),
        }
    }

    /// What a candidate says at a target; of one that names a fan, nothing.
    pub fn of(&self, candidate: Candidate, target: usize) -> f32 {
        match candidate {
            Candidate::Last => self.last,
            Candidate::Mean2 => self.mean2,
            Candidate::Mean6 => self.mean6,
            Candidate::Mean20 => self.base,
            Candidate::Mean60 => self.mean60,
            Candidate::Drift => self.drift[target],
            Candidate::Linear | Candidate::Swayed => self.linear[target],
            Candidate::Network | Candidate::Blend => 0.0,
        }
    }
}
