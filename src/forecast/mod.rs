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
//! * **Deterministic.** Only +, −, ×, ÷ and √ of IEEE floats in a fixed order, so the same features
//!   give the same answers; what a snapshot restores goes on to the bit.
//! * **Sound.** Quantiles ascend, are never negative and never NaN, whatever the load does.
//! * **Quiet.** A range is answered for only when a quantised value has changed; `None` when all of
//!   them have become zero.

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
pub mod edges;
pub mod panel;
pub mod model;
pub mod train;
pub mod backtest;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use dataflows::Tick;
use dataflows::forecast::{Forecast, H1, H6, H30, HORIZON, MAX30, MEAN30, RangeForecast, TARGETS};
use dataflows::heat::Rolling;
use dataflows::quanta::quantise;
use schemas::{RangeId, heatmap};
use serde::{Deserialize, Serialize};

use candidates::Candidate;
use climb::{Climb, Loads};
use ewma::{Ewma, Series, WIDE};
use gru::Weights;
use score::Scores;

pub use score::Score;

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

/// The forecast at the end of a tick.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answers {
    /// Upserts in order of the range: those that differ from what was last answered for the range.
    pub ranges: Vec<(RangeId, Option<RangeForecast>)>,
    /// All ranges together, a series of its own: quantiles do not add.
    pub total: RangeForecast,
    /// Ranges born in this tick, ascending: theirs is their share of their parents' forecast. From
    /// the next tick on it is their own.
    pub inherited: Vec<RangeId>,
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

/// What is known of a range with heat.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Known {
    load: [Load; OPS],
    series: [Series; OPS],
    published: Option<RangeForecast>,
}

/// What one kind of operation asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Load {
    /// In the last tick, in microseconds of service.
    tick_us: u64,
    /// In the widest window.
    wide_us: u64,
    wide_count: u64,
}

/// No operation in the widest window.
const QUIET: [Load; OPS] = [Load { tick_us: 0, wide_us: 0, wide_count: 0 }; OPS];

impl Load {
    fn of(rolling: &Rolling) -> [Self; OPS] {
        let (one, wide) = (rolling.one(), rolling.0[WIDE]);
        let load = |tick: i64, us: i64, count: i64| {
            let [tick_us, wide_us, wide_count] = [tick, us, count].map(|it| it.max(0) as u64);
            Self { tick_us, wide_us, wide_count }
        };
        [
            load(one.read_us, wide.read_us, wide.reads),
            load(one.write_us, wide.write_us, wide.writes),
        ]
    }
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
        self.config = config;
        match config.rung {
            Rung::Ladder => _ = self.climb.get_or_insert_with(Climb::new),
            Rung::Persistence | Rung::Ewma => self.climb = None,
        }
    }

    /// Has this network answer from the next tick on, where one does. A snapshot brings none: it is to be
    /// loaded behind that, too.
    pub fn load_network(&mut self, weights: Weights) {
        if let Some(climb) = &mut self.climb {
            climb.load_network(weights);
        }
    }

    /// Has another network answer from the next tick on: what was learned of the one before is not true of it.
    pub fn swap_network(&mut self, weights: Weights) {
        if let Some(climb) = &mut self.climb {
            climb.swap_network(weights);
        }
    }

    /// Strips are others than they were: what was learned of them is forgotten.
    pub fn forget_strips(&mut self) {
        self.climb.iter_mut().for_each(Climb::forget);
    }

    /// Tells whether it wants to know of strips.
    pub fn sees_strips(&self) -> bool {
        self.climb.is_some()
    }

    /// Which rung answers, as reports name it.
    pub fn rung(&self) -> &'static str {
        match self.config.rung {
            Rung::Persistence => "persistence",
            Rung::Ewma => "ewma",
            Rung::Ladder => {
                self.climb.as_ref().and_then(Climb::leader).map_or("ewma", Candidate::rung)
            }
        }
    }

    /// How good answers were lately.
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
        let (rung, tick_ms, ewma) = (self.config.rung, self.config.tick_ms, &self.ewma);
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
        for (id, known) in &mut self.ranges {
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
            if let Some(answer) = known.answer(rung, tick_ms, quantiles) {
                ranges.push((*id, answer));
            }
        }
        self.total.answer(rung, tick_ms, |op, it| ewma.total(op, it));
        self.scores.ask(&self.ranges, tick, tick_ms);
        let cold = |known: &Known| known.load == QUIET && known.published.is_none();
        self.ranges.retain(|_, known| !cold(known));
        ranges.sort_unstable_by_key(|(id, _)| *id);
        let mut inherited: Vec<_> = features.born.iter().map(|it| it.id).collect();
        inherited.sort_unstable();
        Answers { ranges, total: self.total.published.unwrap_or_default(), inherited }
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

impl Known {
    /// Returns the forecast if it differs from the published one, which it then is.
    fn answer(
        &mut self,
        rung: Rung,
        tick_ms: u64,
        ewma: impl Fn(usize, &Series) -> Quantiles,
    ) -> Option<Option<RangeForecast>> {
        let per_second = 1000.0 / tick_ms as f64;
        let op = |op: usize| match rung {
            Rung::Persistence => {
                let load = u128::from(self.load[op].tick_us) * 1000 / u128::from(tick_ms);
                let load = quantise(u64::try_from(load).unwrap_or(u64::MAX));
                Forecast([[load; heatmap::LEVELS.len()]; TARGETS])
            }
            // Rounded: a cast cuts off, and saturates far above the greatest quantum.
            Rung::Ewma | Rung::Ladder => Forecast(
                ewma(op, &self.series[op])
                    .map(|row| row.map(|it| quantise((it * per_second + 0.5) as u64))),
            ),
        };
        let forecast = RangeForecast { reads: op(0), writes: op(1) };
        let forecast = Some(forecast).filter(|it| *it != RangeForecast::default());
        (forecast != self.published).then(|| {
            self.published = forecast;
            forecast
        })
    }
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
