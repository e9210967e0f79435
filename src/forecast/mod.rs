//! Forecasts the load of every range, and of all together: features in, quantiles out, a batch a tick.
//!
//! ```text
//!  changed heat, births, deaths ──> loads ──> rung ──> quantise ──> what differs from the last answer
//!                                             │ persistence: the last tick's load, as it is
//!                                             │ EWMA: level + residual quantiles (ewma, residuals, prior)
//!                                             └ ladder: of strips of the key space the best of several, what
//!                                               drifts, linear model and network among them (climb, ladder); where it knows too little, EWMA
//! ```
//!
//! Loads go in as sums of a tick and come out as `cost_us` per second. `backtest` judges the ladder, and
//! `train` feeds its network.
//!
//! * **Deterministic.** +, −, ×, ÷ and √ of IEEE floats in a fixed order, so the same features give the same
//!   answers; what a snapshot restores goes on to the bit. Exponentials and logarithms are of the same kind. The
//!   network's products are those of a library that chooses by the processor: the same on the same kind of it ([`processor`]).
//! * **Sound.** Quantiles ascend, are never negative and never NaN, whatever the load does.
//! * **Quiet.** A range is answered for only when a quantised value has changed; `None` when all of
//!   them have become zero.

mod known;
mod ewma;
mod prior;
mod residuals;
pub mod features;
pub mod linear;
mod activation;
pub mod gru;
mod fading;
mod conformal;
mod candidates;
mod selector;
mod guard;
mod drift;
pub mod ladder;
mod refit;
mod climb;
mod score;
mod forecaster;
pub mod edges;
pub mod panel;
pub mod model;
pub mod train;
pub mod backtest;

use std::fmt;

use dataflows::balance::Likely;
use dataflows::forecast::{H1, H6, H30, HORIZON, MAX30, MEAN30, TARGETS};
use dataflows::heat::Rolling;
use schemas::{RangeId, heatmap};
use serde::{Deserialize, Serialize};

pub use forecaster::{Answers, Forecaster};
pub use refit::Refitted;
pub use score::Score;

/// The kind of processor that this one is: on one of another kind the network's products may differ in a last digit, as a sum of
/// products is rounded once where they are fused, and else at each of them.
pub fn processor() -> &'static str {
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("fma") {
        return "x86_64+fma";
    }
    std::env::consts::ARCH
}

/// Loads at each target and level, in microseconds a tick.
type Quantiles = [[f64; heatmap::LEVELS.len()]; TARGETS];

/// Index of reads and of writes wherever both are kept.
pub const OPS: usize = 2;

/// How many ticks ahead each target ends.
pub const AHEAD: [usize; TARGETS] = [1, 6, 30, 30, 30];

/// What came at a target, given the load of each tick ahead; `None` where one is not known.
fn came(target: usize, load: impl Fn(usize) -> Option<f32>) -> Option<f32> {
    let ahead = || (1..=HORIZON as usize).map(&load).collect::<Option<Vec<_>>>();
    match target {
        H1 | H6 | H30 => load(AHEAD[target]),
        MEAN30 => ahead().map(|it| it.iter().sum::<f32>() / HORIZON as f32),
        MAX30 => ahead().map(|it| it.into_iter().fold(0.0, f32::max)),
        _ => unreachable!("there are {TARGETS} targets"),
    }
}

/// What answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rung {
    /// Every quantile of every target is the last tick's load: the reactive form.
    Persistence,
    /// A level from exponentially weighted means, and quantiles from what it missed lately.
    Ewma,
    /// Whoever of several models lost least lately, behind a guard.
    Ladder,
}

impl Rung {
    /// What of its forecasts nodes are to expect.
    pub fn likely(self) -> Likely {
        match self {
            Self::Persistence | Self::Ewma => Likely::Median,
            Self::Ladder => Likely::Mean,
        }
    }
}

impl fmt::Display for Rung {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Persistence => "persistence",
            Self::Ewma => "ewma",
            Self::Ladder => "ladder",
        })
    }
}

/// What a forecaster is told once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Config {
    pub rung: Rung,
    pub tick_ms: u64,
}

/// What a tick brings.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Features {
    /// The heat of ranges at the end of the tick; those that are not named have the heat that they
    /// had. A range that is born is named if it has any. Zero for one that has gone cold.
    pub changed: Vec<(RangeId, Rolling)>,
    /// Ranges that a split or a join made. A parent may keep its id and be born again.
    pub born: Vec<Born>,
    /// Ranges that are no more.
    pub dead: Vec<RangeId>,
    /// Ranges through which an edge has gone, or will.
    pub passing: Vec<Passing>,
    /// Reads and writes in the tick, in microseconds, of each strip of the key space; who does not forecast
    /// strips does not ask.
    pub strips: Vec<[u64; OPS]>,
    /// What each range has of strips.
    pub parts: Vec<(RangeId, Vec<Part>)>,
}

/// What a place that moves on is to one operation of a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Passing {
    pub range: RangeId,
    pub op: usize,
    /// Of what was asked of the range lately, so much, in millionths, was not the edge's.
    pub kept_ppm: u32,
    /// What the edge asks in a tick, in microseconds.
    pub load_us: u64,
    /// The ticks in which it is there: the lowest bit is the next one.
    pub ticks: u32,
}

/// What a range has of a strip.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Part {
    pub strip: usize,
    /// Of its reads and of its writes.
    pub share: [f64; OPS],
}

/// A range that came out of others.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Born {
    pub id: RangeId,
    /// What it came from, each with the part of its load that came along, in millionths. The parts
    /// of one parent add up to a million over its children.
    pub parents: Vec<(RangeId, u32)>,
    /// What it would have had, had it been there: reads and writes of each tick in microseconds, the oldest
    /// first, up to the tick of its birth. Empty: only the shares are known.
    pub history: Vec<[u64; OPS]>,
}

impl Passing {
    /// Takes what goes on out of a forecast, and puts in what comes.
    fn carry(&self, quantiles: &mut Quantiles) {
        let kept = f64::from(self.kept_ppm) / 1e6;
        let comes = |target: usize| match target {
            H1 | H6 | H30 => f64::from(self.ticks >> (AHEAD[target] - 1) & 1),
            MEAN30 => f64::from(self.ticks.count_ones()) / HORIZON as f64,
            _ => f64::from(u8::from(self.ticks != 0)),
        };
        for (target, levels) in quantiles.iter_mut().enumerate() {
            let comes = comes(target) * self.load_us as f64;
            levels.iter_mut().for_each(|it| *it = *it * kept + comes);
        }
    }
}

impl Born {
    /// The part of its history that lies not before so many ticks.
    fn since(&self, ticks: u64) -> &[[u64; OPS]] {
        let count = self.history.len().min(usize::try_from(ticks).unwrap_or(usize::MAX));
        &self.history[self.history.len() - count..]
    }
}
