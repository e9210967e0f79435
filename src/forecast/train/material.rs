//! Makes of a panel what a network learns from: rows, the linear model's fans, and what came.

use dataflows::forecast::TARGETS;
use schemas::heatmap::LEVELS;

use crate::forecast::OPS;
use crate::forecast::conformal::FRACTIONS;
use crate::forecast::features::{BASE, root};
use crate::forecast::gru::{Parts, Seen, seen};
use crate::forecast::ladder::{Depth, Ladder};
use crate::forecast::linear::FitError;
use crate::forecast::panel::Panel;

/// Ticks from which on losses of the linear model are told: before, it is hardly calibrated.
const FIRST: usize = 60;
/// What a row without load weighs, as a root.
const WEIGHT_LEAST: f32 = 0.3;
/// No (operation, target) loses less than this, as a root.
const LOSS_LEAST: f64 = 1e-3;

/// A row at a tick.
pub struct Example {
    pub seen: Seen,
    pub linear: [Parts; TARGETS],
    /// Roots; `None` where the panel ends before.
    pub came: [Option<f32>; TARGETS],
    /// What a difference of roots weighs: about that of loads.
    pub weight: f32,
}

/// A panel as a network learns from it.
pub struct Material {
    /// By row, then tick; rows of operations that the panel lacks are empty.
    pub rows: Vec<Vec<Example>>,
    pub ops: Vec<usize>,
    /// Mean loss of the linear model by operation and target: the unit of a network's.
    pub linear_loss: [[f32; TARGETS]; OPS],
}

impl Material {
    pub fn new(panel: &Panel) -> Result<Self, FitError> {
        if panel.bins.len() < super::BINS_MIN {
            return Err(FitError::TooFew);
        }
        let mut ladder = Ladder::new(panel.ranges(), panel.bin_ms, &panel.ops);
        ladder.set_linear(panel.fit(panel.bins.len())?);
        ladder.set_depth(Depth::Linear);
        let mut rows: Vec<Vec<Example>> = (0..panel.ranges() * OPS).map(|_| Vec::new()).collect();
        let mut losses = [[(0.0, 0.0); TARGETS]; OPS];
        for (bin, loads) in panel.bins.iter().enumerate() {
            ladder.answer(loads);
            for (at, row) in ladder.book().look().0.iter().enumerate() {
                let (range, op) = (at / OPS, at % OPS);
                if !panel.ops.contains(&op) {
                    continue;
                }
                let track = &ladder.book().tracks()[range][op];
                let base = track.means()[BASE];
                let linear = *ladder.base(at);
                let came =
                    std::array::from_fn(|target| panel.came(bin, range, op, target).map(root));
                let weight = base - root(0.0) + WEIGHT_LEAST;
                for target in (0..TARGETS).filter(|_| FIRST <= bin) {
                    if let Some(came) = came[target] {
                        let (sum, count) = &mut losses[op][target];
                        *sum += loss(&linear[target], came) * f64::from(weight);
                        *count += 1.0;
                    }
                }
                let seen = seen(row, track.swing(), base, &linear);
                rows[at].push(Example { seen, linear, came, weight });
            }
        }
        let mean = |(sum, count): (f64, f64)| (sum / f64::max(count, 1.0)).max(LOSS_LEAST) as f32;
        let linear_loss = losses.map(|it| it.map(mean));
        Ok(Self { rows, ops: panel.ops.clone(), linear_loss })
    }

    /// What it weighs in the choice of what is learned next: the root of how much there is.
    pub fn size(&self) -> f64 {
        (self.rows.iter().map(Vec::len).sum::<usize>() as f64).sqrt()
    }
}

/// Pinball loss over all levels, as roots.
fn loss(parts: &Parts, came: f32) -> f64 {
    let fan = parts.fan(&[0.0; LEVELS.len()]);
    let at = |(root, level): (&f32, f64)| {
        let off = f64::from(came - root);
        (off * level).max(off * (level - 1.0))
    };
    fan.iter().zip(FRACTIONS).map(at).sum()
}
