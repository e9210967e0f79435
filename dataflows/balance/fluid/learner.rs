//! Forecasts by an exponentially weighted level and the quantiles of what it erred by.

use std::collections::{BTreeMap, VecDeque};

use schemas::heatmap::LEVELS;

use super::{COST_US, KEYS};
use crate::forecast::{Forecast, H1, H6, H30, MAX30, MEAN30};

type Costs = Vec<(u32, f64)>;
type Spans = Vec<([u32; 2], f64)>;

/// Learns by what a level errs, in square-root space, by how high the level is.
#[derive(Default)]
pub struct Learner {
    /// Costs before each cell, and ranges with their levels, of the last ticks, newest last.
    past: VecDeque<(Costs, Spans)>,
    /// Residuals by target and level bucket, newest last, and sorted.
    residuals: BTreeMap<(usize, u32), VecDeque<f64>>,
    learned: u64,
    sorted: BTreeMap<(usize, u32), Quantiled>,
}

type Quantiled = [f64; LEVELS.len()];

fn bucket(level: f64) -> u32 {
    level.max(1.0).log2() as u32 / 2
}

fn cost_between(costs: &Costs, [from, to]: [u32; 2]) -> f64 {
    let before = |at: u32| {
        let index = costs.partition_point(|(start, _)| *start <= at);
        let (start, sum) = costs[index - 1];
        match costs.get(index) {
            Some((end, next)) => {
                sum + (next - sum) * f64::from(at - start) / f64::from(end - start)
            }
            None => sum,
        }
    };
    before(to) - before(from)
}

impl Learner {
    pub fn learn(&mut self, costs: Costs, spans: Spans) {
        self.past.push_back((costs, spans));
        if self.past.len() > 31 {
            self.past.pop_front();
        }
        let newest = self.past.len() - 1;
        for (target, ahead) in [(H1, 1), (H6, 6), (H30, 30), (MEAN30, 30), (MAX30, 30)] {
            let Some(then) = newest.checked_sub(ahead) else { continue };
            let mut spans = self.past[then].1.clone();
            spans.push(([0, KEYS], spans.iter().map(|(_, level)| level).sum()));
            for (span, level) in spans {
                let ticks =
                    if target >= MEAN30 { then + 1..newest + 1 } else { newest..newest + 1 };
                let costs =
                    ticks.map(|tick| cost_between(&self.past[tick].0, span)).collect::<Vec<_>>();
                let actual = match target {
                    MEAN30 => costs.iter().sum::<f64>() / costs.len() as f64,
                    MAX30 => costs.iter().copied().fold(0.0, f64::max),
                    _ => costs[0],
                };
                let known = self.residuals.entry((target, bucket(level))).or_default();
                known.push_back(actual.sqrt() - level.sqrt());
                if known.len() > 512 {
                    known.pop_front();
                }
            }
        }
        // Sorting is what takes time; quantiles of hundreds of residuals change little in four ticks.
        self.learned += 1;
        if !self.learned.is_multiple_of(4) {
            return;
        }
        self.sorted = self
            .residuals
            .iter()
            .filter(|(_, known)| known.len() >= 16)
            .map(|(at, known)| {
                let mut known = known.iter().copied().collect::<Vec<_>>();
                known.sort_by(f64::total_cmp);
                let at_level = |level: u16| known[(known.len() - 1) * usize::from(level) / 1000];
                (*at, LEVELS.map(at_level))
            })
            .collect();
    }

    pub fn forecast(&self, level: f64, tick_s: f64) -> Forecast {
        // Variance twice the mean, in queries of a tick: spread of .71 in square-root space.
        let sigma = 0.71 * (COST_US / tick_s).sqrt();
        let prior = [-1.645, -1.282, -0.674, 0.0, 0.674, 1.282, 1.645, 2.326].map(|z| z * sigma);
        Forecast(std::array::from_fn(|target| {
            let above = if target == MAX30 { 2.0 * sigma } else { 0.0 };
            let residuals = self.sorted.get(&(target, bucket(level)));
            let row = residuals.copied().unwrap_or(prior.map(|it| it + above));
            row.map(|it| crate::quanta::quantise((level.sqrt() + it).max(0.0).powi(2) as u64))
        }))
    }
}
