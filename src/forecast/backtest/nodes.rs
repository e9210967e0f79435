//! Tells whether the formula for the load of a node at a quantile holds: how often ranges in a row come to
//! more, together, than it says of the mean of the next thirty bins at .9.
//!
//! ```text
//!  fans of ranges ──> loads, as a plan counts them ──> sum by node ──┐
//!  fan of the total ──> swing ────────────────────────────────────────┴──> load at .9, beside what came of the node
//! ```
//!
//! The total is forecast by means, as a planner's is: by the first rung alone.

use std::ops::Range;

use dataflows::balance::load;
use dataflows::forecast::{Forecast, MEAN30, RangeForecast, TARGETS};
use schemas::heatmap::LEVELS;
use serde::{Deserialize, Serialize};

use crate::forecast::conformal::Fan;
use crate::forecast::features;
use crate::forecast::ladder::{Answers, Ladder, Model};
use crate::forecast::panel::Panel;
use crate::forecast::{OPS, Rung};

/// So many nodes share the ranges of a panel, in a row and alike in number.
const NODES: usize = 4;

/// Loads are whole numbers there: of thousandths of an operation.
const UNIT: f32 = 1e3;

/// How often the nodes of a panel had more to do than their own .9.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NodeLine {
    pub panel: String,
    pub nodes: u64,
    /// Bins, times nodes.
    pub count: u64,
    /// The part of them in which a node's load was above its .9 of the mean of the next thirty: .1 is meant.
    pub exceed90: f64,
}

/// Counts along.
pub struct Nodes {
    spans: Vec<Range<usize>>,
    total: Ladder,
    count: u64,
    exceeded: u64,
}

impl Nodes {
    pub fn new(panel: &Panel) -> Self {
        let (ranges, nodes) = (panel.ranges(), panel.ranges().min(NODES));
        let span = |it: usize| it * ranges / nodes..(it + 1) * ranges / nodes;
        Self {
            spans: (0..nodes).map(span).collect(),
            total: Ladder::new(1, panel.bin_ms, &panel.ops),
            count: 0,
            exceeded: 0,
        }
    }

    /// Takes in a bin of which nothing is answered.
    pub fn observe(&mut self, loads: &[[f32; OPS]]) {
        self.total.observe(&[total(loads)]);
    }

    /// Takes in a bin and what is said at its end; it is scored if it `counts` and is followed by thirty.
    pub fn add(&mut self, panel: &Panel, bin: usize, answers: &Answers, counts: bool) {
        let of_total = forecast(&panel.ops, self.total.answer(&[total(&panel.bins[bin])]), 0);
        if !counts {
            return;
        }
        let forecasts: Vec<_> =
            (0..panel.ranges()).map(|range| forecast(&panel.ops, answers, range)).collect();
        let (loads, swing) = load::loads(forecasts.iter(), &of_total, Rung::Ladder.likely());
        for span in &self.spans {
            let rows = span.clone().flat_map(|it| panel.ops.iter().map(move |op| (it, *op)));
            let came: Option<f32> =
                rows.map(|(range, op)| panel.came(bin, range, op, MEAN30)).sum();
            let Some(came) = came else { return };
            self.count += 1;
            let expected = load::sum(&loads[span.clone()]).sustained(&swing);
            self.exceeded += u64::from(expected < units(came));
        }
    }

    /// `None` where nothing was scored.
    pub fn done(self, panel: &Panel) -> Option<NodeLine> {
        (0 < self.count).then(|| NodeLine {
            panel: panel.name.clone(),
            nodes: self.spans.len() as u64,
            count: self.count,
            exceed90: self.exceeded as f64 / self.count as f64,
        })
    }
}

fn total(loads: &[[f32; OPS]]) -> [f32; OPS] {
    std::array::from_fn(|op| loads.iter().map(|it| it[op]).sum())
}

fn units(load: f32) -> u64 {
    (load * UNIT) as u64
}

/// What is said of a range; of an operation that the panel lacks, nothing.
fn forecast(ops: &[usize], answers: &Answers, range: usize) -> RangeForecast {
    let level = |fan: Fan| -> [u64; LEVELS.len()] { fan.map(|it| units(features::load(it))) };
    let of = |op: usize| {
        let target = |target: usize| level(answers.fan(range * OPS + op, target, Model::Shipped));
        let none = [[0; LEVELS.len()]; TARGETS];
        Forecast(if ops.contains(&op) { std::array::from_fn(target) } else { none })
    };
    RangeForecast { reads: of(0), writes: of(1) }
}

#[cfg(test)]
mod tests {
    use rand::{Rng, SeedableRng};
    use rand_pcg::Pcg64;

    use super::*;
    use crate::forecast::backtest::backtest;

    /// How often nodes of these loads exceed their .9.
    fn exceed90(load: impl Fn(usize, usize, &mut Pcg64) -> f32) -> NodeLine {
        let mut random = Pcg64::seed_from_u64(11);
        let header: Vec<_> = (0..16).map(|it| format!("r{it}")).collect();
        let mut text = header.join(",") + "\n";
        for bin in 0..900 {
            let line = (0..16).map(|range| load(bin, range, &mut random).to_string());
            text += &(line.collect::<Vec<_>>().join(",") + "\n");
        }
        let panel = Panel::parse("p", 10_000, &text).unwrap();
        backtest(&panel, None, |_| ()).unwrap().nodes.remove(0)
    }

    #[test]
    fn nodes_of_ranges_that_swing_alone_or_together_exceed_what_is_said_no_more_often_than_meant() {
        // Levels last long enough that the mean of thirty differs.
        let alone = exceed90(|bin, range, random| {
            let level = ((bin / 20 + range * 7) * 7_919 % 13) as f32;
            (20.0 + 5.0 * level + random.random_range(-4.0..4.0_f32)).max(0.0)
        });
        let together = exceed90(|bin, range, random| {
            let level = (bin / 20 * 7_919 % 13) as f32;
            (20.0 + 5.0 * level + range as f32 + random.random_range(-4.0..4.0_f32)).max(0.0)
        });
        for it in [alone, together] {
            println!("{it:?}");
            assert_eq!((it.nodes, it.count), (4, 4 * (225 - 30)), "{it:?}");
            assert!(it.exceed90 < 0.15, "{it:?}");
        }
    }

    #[test]
    fn nodes_exceed_what_is_said_while_all_load_rises_as_nobody_could_foresee() {
        let it = exceed90(|bin, range, random| {
            let times = if bin < 800 { 1.0 } else { 3.0 };
            times * (20.0 + range as f32 + random.random_range(-4.0..4.0_f32))
        });
        println!("{it:?}");
        assert!(
            (0.1..0.35).contains(&it.exceed90),
            "{it:?}, of a rise that is ahead in 30 of 195 bins"
        );
    }
}
