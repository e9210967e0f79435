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
use schemas::heatmap::LEVELS;
use serde::{Deserialize, Serialize};

use super::conformal::{Fan, Kind};
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

/// What those forecast that name one value, at each target, as roots; the others' are zero.
pub fn points(
    track: &Track,
    row: &[f32; FEATURES],
    linear: Option<&Linear>,
    drift: Option<&[f64; TARGETS]>,
) -> [[Fan; CANDIDATES.len()]; TARGETS] {
    let means = track.means();
    let last = track.lag(0).unwrap_or(means[MEAN2]);
    let expected = linear.map(|it| it.predict(row).map(|it| (it + means[BASE]).max(root(0.0))));
    std::array::from_fn(|target| {
        let expected = expected.map_or(means[BASE], |it| it[target]);
        CANDIDATES.map(|it| {
            let value = match it {
                Candidate::Last => last,
                Candidate::Mean2 => means[MEAN2],
                Candidate::Mean6 => means[MEAN6],
                Candidate::Mean20 => means[BASE],
                Candidate::Mean60 => means[MEAN60],
                Candidate::Drift => drift.map_or(means[BASE], |it| root(it[target] as f32)),
                Candidate::Linear | Candidate::Swayed => expected,
                Candidate::Network | Candidate::Blend => 0.0,
            };
            [value; LEVELS.len()]
        })
    })
}
