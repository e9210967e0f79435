//! Answers for every range that has heat, tick by tick, by whichever rung is configured.
//!
//! ```text
//!  births, deaths, heat ──> known ──> EWMA ──────────────┐
//!                             │         places that move ┤
//!  strips ──> climb ──────────│──────────────────────────┴──> quantise ──> published, if it differs
//!                             └──> scores: what came of that; worse than persistence ──> persistence stands in
//! ```

use std::collections::{BTreeMap, BTreeSet};

use dataflows::Tick;
use dataflows::forecast::{MAX30, MEAN30, Q50, RangeForecast};
use schemas::RangeId;
use serde::{Deserialize, Serialize};

use super::candidates::Candidate;
use super::climb::{Climb, Loads};
use super::ewma::{Ewma, Series};
use super::known::{Known, Load, QUIET};
use super::model::Model;
use super::refit::Refitted;
use super::score::{self, Question, Score, Scores};
use super::{Born, Config, Features, OPS, Passing, Quantiles, Rung};

/// The forecast at the end of a tick.
#[derive(Clone, Debug, PartialEq)]
pub struct Answers {
    /// Upserts in order of the range: those that differ from what was last answered for the range.
    pub ranges: Vec<(RangeId, Option<RangeForecast>)>,
    /// All ranges together, a series of its own: quantiles do not add.
    pub total: RangeForecast,
    /// Ranges born in this tick, ascending: theirs is their share of their parents' forecast. From
    /// the next tick on it is their own.
    pub inherited: Vec<RangeId>,
    /// The fit of the linear model that took effect in this tick.
    pub refitted: Option<Refitted>,
}

/// Answers with a forecast, tick by tick. Its serialised form is its part of a snapshot.
///
/// A range with heat in the last 120 ticks takes about 1.6 kB; one without takes nothing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Forecaster {
    config: Config,
    last: Option<Tick>,
    ranges: BTreeMap<RangeId, Box<Known>>,
    total: Known,
    ewma: Ewma,
    climb: Option<Climb>,
    scores: Scores,
}

impl Forecaster {
    pub fn new(config: Config) -> Self {
        assert!(0 < config.tick_ms, "a tick has a length");
        let mut res = Self {
            config,
            last: None,
            ranges: BTreeMap::new(),
            total: Known::default(),
            ewma: Ewma::new(),
            climb: None,
            scores: Scores::default(),
        };
        res.configure(config);
        res
    }

    /// Goes on as it is configured now; a snapshot brings what was said in its time.
    pub fn configure(&mut self, config: Config) {
        assert!(0 < config.tick_ms, "a tick has a length");
        if config.rung != self.config.rung {
            self.scores.judge_anew();
        }
        self.config = config;
        match config.rung {
            Rung::Ladder => _ = self.climb.get_or_insert_with(Climb::new),
            Rung::Persistence | Rung::Ewma => self.climb = None,
        }
    }

    /// Has this model answer from the next tick on, where one does. A snapshot brings none: it is to be
    /// loaded behind that, too.
    pub fn load_model(&mut self, model: Model) {
        if let Some(climb) = &mut self.climb {
            climb.load_model(model);
        }
    }

    /// Has another model answer from the next tick on: what is known of the one before is not true of it.
    pub fn swap_model(&mut self, model: Model) {
        if let Some(climb) = &mut self.climb {
            climb.swap_model(model);
            self.scores.judge_anew();
        }
    }

    /// Strips are others than they were: what was learned of them is forgotten, and what rested on it is no longer
    /// judged.
    pub fn forget_strips(&mut self) {
        if let Some(climb) = &mut self.climb {
            climb.forget();
            self.scores.judge_anew();
        }
    }

    /// What is remembered of strips; `None` before the first load.
    #[cfg(test)]
    pub fn book(&self) -> Option<&super::features::Book> {
        self.climb.as_ref()?.book()
    }

    /// Tells whether it wants to know of strips.
    pub fn sees_strips(&self) -> bool {
        self.climb.is_some()
    }

    /// Which rung answers, as reports name it.
    pub fn rung(&self) -> &'static str {
        match self.config.rung {
            _ if self.is_stood_in_for() => "persistence",
            Rung::Persistence => "persistence",
            Rung::Ewma => "ewma",
            Rung::Ladder => {
                self.climb.as_ref().and_then(Climb::leader).map_or("ewma", Candidate::rung)
            }
        }
    }

    /// Tells whether persistence is published instead, as what is configured was worse lately.
    fn is_stood_in_for(&self) -> bool {
        self.config.rung != Rung::Persistence && self.scores.harms()
    }

    /// How good answers were lately, or would have been if persistence had not stood in.
    pub fn score(&self) -> Score {
        self.scores.score()
    }

    /// Takes in what a tick brought, and forecasts from its end on. Ticks come in order; every one
    /// counts, those in which nothing changed too.
    pub fn answer(&mut self, tick: Tick, features: &Features) -> Answers {
        assert!(self.last.is_none_or(|last| last < tick), "ticks are answered in order");
        self.last = Some(tick);
        let mut ranges = Vec::new();
        self.regroup(features, &mut ranges);
        self.sum_up();
        let gone: BTreeSet<_> =
            features.dead.iter().copied().chain(features.born.iter().map(|it| it.id)).collect();
        self.scores.observe(&self.ranges, &gone, self.config.tick_ms);
        if self.config.rung != Rung::Persistence {
            self.ewma.observe(&mut self.ranges, &mut self.total, self.config.tick_ms);
        }
        let (rung, is_stood_in_for) = (self.config.rung, self.is_stood_in_for());
        let (tick_ms, ewma) = (self.config.tick_ms, &self.ewma);
        let mut climbed = BTreeMap::new();
        if let Some(climb) = &mut self.climb {
            climb.observe(&features.strips, tick_ms, ewma.unit_us());
            for (id, loads) in climb.answers(&features.parts) {
                // One that was cold may be about to warm up.
                if self.ranges.contains_key(&id) || is_some_load(&loads, tick_ms) {
                    self.ranges.entry(id).or_default();
                    climbed.insert(id, loads);
                }
            }
        }
        let mut passing = BTreeMap::<RangeId, Vec<&Passing>>::new();
        for it in features.passing.iter().filter(|_| rung != Rung::Persistence) {
            passing.entry(it.range).or_default().push(it);
            self.ranges.entry(it.range).or_default();
        }
        let mut questions = Vec::new();
        let asks = score::asks(self.ranges.len(), tick);
        for (at, (id, known)) in self.ranges.iter_mut().enumerate() {
            let climbed = climbed.get(id);
            let quantiles = |op: usize, it: &Series| {
                let mut quantiles = ewma.range(op, it);
                for it in passing.get(id).into_iter().flatten().filter(|it| it.op == op) {
                    it.carry(&mut quantiles);
                }
                match climbed {
                    Some(climbed) => climbed_or(&climbed[op], quantiles),
                    None => quantiles,
                }
            };
            let told = known.forecast(rung, tick_ms, quantiles);
            if asks(at) {
                questions.extend(Question::of(*id, known, &told, tick_ms));
            }
            let told = match is_stood_in_for {
                true => self.scores.persistence(known, told, tick_ms),
                false => told,
            };
            ranges.extend(known.publish(told).map(|it| (*id, it)));
        }
        self.scores.ask(questions);
        let last = self.total.load.map(|it| it.tick_us as f64);
        let total = self.total.forecast(rung, tick_ms, |op, it| match is_stood_in_for {
            true => about(last[op], ewma.total(op, it)),
            false => ewma.total(op, it),
        });
        self.total.publish(total);
        let cold = |known: &Known| known.load == QUIET && known.published.is_none();
        self.ranges.retain(|_, known| !cold(known));
        ranges.sort_unstable_by_key(|(id, _)| *id);
        let mut inherited: Vec<_> = features.born.iter().map(|it| it.id).collect();
        inherited.sort_unstable();
        let refitted = self.climb.as_ref().and_then(Climb::refitted).cloned();
        Answers { ranges, total: self.total.published.unwrap_or_default(), inherited, refitted }
    }

    /// What was last answered for each range that has a forecast: what is fed again after a restart.
    pub fn published(&self) -> impl Iterator<Item = (RangeId, RangeForecast)> + '_ {
        self.ranges.iter().filter_map(|(id, known)| Some((*id, known.published?)))
    }

    /// What was last answered for all ranges together.
    pub fn total(&self) -> RangeForecast {
        self.total.published.unwrap_or_default()
    }

    /// Lets ranges be born and die, and notes the heat of the tick.
    fn regroup(&mut self, features: &Features, ended: &mut Vec<(RangeId, Option<RangeForecast>)>) {
        // Children are made before any is put in its place, as one may have its parent's id.
        let heir = |born: &Born| {
            let mut heir = Box::<Known>::default();
            heir.published = self.ranges.get(&born.id).and_then(|it| it.published);
            if !born.history.is_empty() {
                self.ewma.relive(&mut heir.series, born.since(self.ewma.ticks()));
                return (born.id, heir);
            }
            for (parent, share_ppm) in &born.parents {
                let Some(parent) = self.ranges.get(parent) else { continue };
                for (series, of) in heir.series.iter_mut().zip(&parent.series) {
                    series.inherit(of, *share_ppm);
                }
            }
            (born.id, heir)
        };
        let heirs: Vec<_> = features.born.iter().map(heir).collect();
        self.ranges.extend(heirs);
        for (id, rolling) in &features.changed {
            let load = Load::of(rolling);
            if load != QUIET || self.ranges.contains_key(id) {
                self.ranges.entry(*id).or_default().load = load;
            }
        }
        for id in &features.dead {
            if self.ranges.remove(id).is_some_and(|it| it.published.is_some()) {
                ended.push((*id, None));
            }
        }
    }

    fn sum_up(&mut self) {
        self.total.load = QUIET;
        for known in self.ranges.values() {
            for (sum, load) in self.total.load.iter_mut().zip(known.load) {
                sum.tick_us += load.tick_us;
                sum.wide_us += load.wide_us;
                sum.wide_count += load.wide_count;
            }
        }
    }
}

/// The last load of all ranges, as wide as what is forecast of it.
fn about(last: f64, quantiles: Quantiles) -> Quantiles {
    let medians = quantiles.map(|it| it[Q50]);
    let middle = |target: usize| medians[if target == MAX30 { MEAN30 } else { target }];
    std::array::from_fn(|target| quantiles[target].map(|it| (it - middle(target) + last).max(0.0)))
}

/// What the ladder says, and elsewhere what is said without it. A maximum is not below a mean.
fn climbed_or(climbed: &Loads, otherwise: Quantiles) -> Quantiles {
    let mut all: Quantiles = std::array::from_fn(|it| climbed[it].unwrap_or(otherwise[it]));
    let means = all[MEAN30];
    all[MAX30].iter_mut().zip(means).for_each(|(max, mean)| *max = max.max(mean));
    all
}

/// Tells whether anything is left of it once it is quantised.
fn is_some_load(loads: &[Loads; OPS], tick_ms: u64) -> bool {
    let greatest = loads.iter().flatten().flatten().flatten().fold(0.0, |a: f64, b| a.max(*b));
    tick_ms as f64 <= greatest * 1000.0
}

#[cfg(test)]
mod tests;
