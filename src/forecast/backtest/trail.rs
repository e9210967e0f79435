//! Keeps what was said of the row of a panel that is asked most, beside what came: to be drawn.

use dataflows::forecast::{H1, MEAN30};
use schemas::heatmap::LEVELS;

use super::{NAMES, Op};
use crate::forecast::OPS;
use crate::forecast::features::load;
use crate::forecast::ladder::{Answers, Model};
use crate::forecast::panel::Panel;

/// The targets that are kept: the next bin, and what plans rest on.
const TARGETS_KEPT: [usize; 2] = [H1, MEAN30];

/// No more points than these, the last ones.
const POINTS_MAX: usize = 300;

/// The answers about one row and target, bin by bin.
#[derive(Clone, Debug, PartialEq)]
pub struct Trail {
    pub panel: String,
    pub range: usize,
    pub op: Op,
    pub target: &'static str,
    pub bin_ms: u64,
    /// The bin at whose end the first answer was given.
    pub first: usize,
    pub points: Vec<Point>,
}

/// One answer, as loads: operations a bin.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    pub fan: [f32; LEVELS.len()],
    pub came: f32,
}

/// Trails under way.
pub struct Trails {
    row: usize,
    op: usize,
    kept: Vec<Trail>,
}

impl Trails {
    /// Of the row that is asked most from bin number `from` on.
    pub fn new(panel: &Panel, from: usize) -> Self {
        let asked = |range: usize, op: usize| -> f64 {
            panel.bins[from..].iter().map(|it| f64::from(it[range][op])).sum()
        };
        let rows =
            (0..panel.ranges()).flat_map(|range| panel.ops.iter().map(move |op| (range, *op)));
        let rows = rows.map(|(range, op)| (asked(range, op), range, op));
        let (_, range, op) =
            rows.max_by(|a, b| a.0.total_cmp(&b.0)).expect("a panel has a range and an operation");
        let trail = |target: usize| Trail {
            panel: panel.name.clone(),
            range,
            op: if op == 0 { Op::Read } else { Op::Write },
            target: NAMES[target],
            bin_ms: panel.bin_ms,
            first: from.max(panel.bins.len().saturating_sub(POINTS_MAX)),
            points: Vec::new(),
        };
        Self { row: range * OPS + op, op, kept: TARGETS_KEPT.map(trail).to_vec() }
    }

    /// Takes in what is said at the end of a bin, if it is one of the last and its target is known.
    pub fn add(&mut self, panel: &Panel, bin: usize, answers: &Answers) {
        for (target, trail) in TARGETS_KEPT.into_iter().zip(&mut self.kept) {
            let came = panel.came(bin, trail.range, self.op, target);
            if let Some(came) = came.filter(|_| trail.first <= bin) {
                let fan = answers.fan(self.row, target, Model::Shipped).map(load);
                trail.points.push(Point { fan, came });
            }
        }
    }

    pub fn done(self) -> Vec<Trail> {
        self.kept
    }
}
