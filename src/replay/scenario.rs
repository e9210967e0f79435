//! Generates load whose shape is known: queries in order of time, from a seed.
//!
//! ```text
//!  uniform         every key alike
//!  zipf            1,000 blocks of neighbouring keys, the k-th hottest asked in proportion to
//!                  k^-0.99, the blocks in shuffled order
//!  moving-hotspot  half of the load on a tenth of the key space, which goes from .15-.25 to .65-.75
//!  append          the key space grows from a tenth to all of it; writes at its right edge, reads
//!                  behind it by a fiftieth of the key space in the mean
//!  flash-crowd     a hundredth of the key space, with a tenth of the load, is asked five times as
//!                  much from 40 % of the run on
//!  cold-crowd      the same, of a place that had no more than its share before
//!  diurnal         every key alike, ten times as much at the peak as in the valley; a run is a day,
//!                  which begins in the valley
//! ```
//!
//! Arrivals are Poisson, costs exponential around the mean of their operation, at least 1 µs. A
//! million keys of 1 KiB; 2,000 reads and 200 writes a second, in the diurnal mean.
//!
//! * **The same everywhere.** A seed gives the same queries on any machine: logarithm, exponential and
//!   cosine are libm's in Rust, as those of systems differ in the last bit.

use std::fmt;
use std::ops::Range;
use std::str::FromStr;

use rand::{Rng, SeedableRng};
use rand_pcg::Pcg64;
use schemas::Millis;
use schemas::query_log::{Op, QueryLogged};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::key;

/// The shape of a load.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Shape {
    Uniform,
    Zipf,
    MovingHotspot,
    Append,
    FlashCrowd,
    ColdCrowd,
    Diurnal,
}

impl Shape {
    pub const ALL: [Self; 7] = [
        Self::Uniform,
        Self::Zipf,
        Self::MovingHotspot,
        Self::Append,
        Self::FlashCrowd,
        Self::ColdCrowd,
        Self::Diurnal,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::Uniform => "uniform",
            Self::Zipf => "zipf",
            Self::MovingHotspot => "moving-hotspot",
            Self::Append => "append",
            Self::FlashCrowd => "flash-crowd",
            Self::ColdCrowd => "cold-crowd",
            Self::Diurnal => "diurnal",
        }
    }

    fn has_crowd(self) -> bool {
        matches!(self, Self::FlashCrowd | Self::ColdCrowd)
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// No scenario has this name.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error(
    "no scenario is called {0:?}: there are {names}",
    names = Shape::ALL.map(Shape::name).join(", ")
)]
pub struct UnknownShape(pub String);

impl FromStr for Shape {
    type Err = UnknownShape;

    fn from_str(name: &str) -> Result<Self, UnknownShape> {
        let named = Self::ALL.into_iter().find(|it| it.name() == name);
        named.ok_or_else(|| UnknownShape(name.to_owned()))
    }
}

/// What is generated. Give `start` at a tick's beginning.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scenario {
    pub shape: Shape,
    pub seed: u64,
    pub start: Millis,
    pub duration_ms: u64,
    pub keys: u64,
    pub entry_bytes: u64,
    pub reads_per_s: u64,
    pub writes_per_s: u64,
    /// Mean service time of a read and of a write.
    pub read_us: u64,
    pub write_us: u64,
}

impl Scenario {
    pub fn new(shape: Shape, seed: u64, start: Millis, duration_ms: u64) -> Self {
        Self {
            shape,
            seed,
            start,
            duration_ms,
            keys: 1_000_000,
            entry_bytes: 1024,
            reads_per_s: 2_000,
            writes_per_s: 200,
            read_us: 500,
            write_us: 1_000,
        }
    }

    /// The mean load that it offers, in `cost_us` per second.
    pub fn mean_load(&self) -> u64 {
        let base = self.reads_per_s * self.read_us + self.writes_per_s * self.write_us;
        match self.shape {
            // From 40 % of the run on, there are two fifths more: 1 + 0.6 × 0.4.
            Shape::FlashCrowd | Shape::ColdCrowd => base * 124 / 100,
            Shape::Uniform
            | Shape::Zipf
            | Shape::MovingHotspot
            | Shape::Append
            | Shape::Diurnal => base,
        }
    }

    /// The keys to which a crowd comes, and when, in milliseconds from the start.
    pub fn crowd(&self) -> Option<(Range<u64>, u64)> {
        let key = |place: f64| (place * self.keys as f64) as u64;
        let (start, end) = (key(CROWD_START), key(CROWD_START + CROWD_WIDTH));
        let since_ms = (self.duration_ms as f64 * FLASH_AT) as u64;
        self.shape.has_crowd().then_some((start..end, since_ms))
    }

    /// About how many queries there will be, for a progress bar.
    pub fn queries(&self) -> u64 {
        let base = (self.reads_per_s + self.writes_per_s) * self.duration_ms / 1000;
        if self.shape.has_crowd() { base * 124 / 100 } else { base }
    }

    /// The queries, in order of time. They are made as they are asked for.
    pub fn queries_logged(&self) -> Queries {
        assert!(1_000 <= self.keys, "a scenario has at least a thousand keys");
        assert!(0 < self.reads_per_s + self.writes_per_s, "a scenario has load");
        let mut random = Pcg64::seed_from_u64(self.seed);
        let blocks = if self.shape == Shape::Zipf {
            Blocks::shuffled(&mut random)
        } else {
            Blocks::default()
        };
        Queries { scenario: self.clone(), random, blocks, now_us: 0.0 }
    }
}

/// Queries of a scenario.
#[derive(Clone, Debug)]
pub struct Queries {
    scenario: Scenario,
    random: Pcg64,
    blocks: Blocks,
    /// Since the start.
    now_us: f64,
}

impl Iterator for Queries {
    type Item = QueryLogged;

    fn next(&mut self) -> Option<QueryLogged> {
        let scenario = &self.scenario;
        let base = (scenario.reads_per_s + scenario.writes_per_s) as f64 / 1e6;
        let (rate_max, end_us) = (base * peak(scenario.shape), scenario.duration_ms as f64 * 1e3);
        // Arrivals at the greatest rate, thinned to the rate of the moment.
        let (now, part) = loop {
            self.now_us += exponential(&mut self.random) / rate_max;
            if end_us <= self.now_us {
                return None;
            }
            let part = self.now_us / end_us;
            let kept = rate(scenario.shape, part) / peak(scenario.shape);
            if self.random.random::<f64>() < kept {
                break (self.now_us, part);
            }
        };
        let rates = scenario.reads_per_s + scenario.writes_per_s;
        let write = self.random.random_range(0..rates) < scenario.writes_per_s;
        let (op, mean_us) =
            if write { (Op::Write, scenario.write_us) } else { (Op::Read, scenario.read_us) };
        let at = self.place(part, write);
        let index = (at * self.scenario.keys as f64) as u64;
        let cost_us = (exponential(&mut self.random) * mean_us as f64) as u64;
        Some(QueryLogged {
            time: Millis(self.scenario.start.0 + (now / 1e3) as u64),
            key: key(index.min(self.scenario.keys - 1)),
            op,
            cost_us: Some(cost_us.max(1)),
            bytes: self.scenario.entry_bytes,
            estimated: false,
        })
    }
}

impl Queries {
    /// When the query that was returned last arrived, in microseconds since the start.
    pub fn now_us(&self) -> u64 {
        self.now_us as u64
    }

    /// Where in the key space a query goes, from 0 to 1, at a part of the run.
    fn place(&mut self, part: f64, write: bool) -> f64 {
        let random = &mut self.random;
        let shape = self.scenario.shape;
        match shape {
            Shape::Uniform | Shape::Diurnal => random.random(),
            Shape::Zipf => self.blocks.place(random),
            Shape::MovingHotspot if random.random() => {
                0.15 + 0.5 * part + 0.1 * random.random::<f64>()
            }
            Shape::MovingHotspot => random.random(),
            Shape::Append => {
                let edge = 0.1 + 0.9 * part;
                let behind = if write { 0.0 } else { exponential(random) / 50.0 };
                (edge - behind).max(0.0)
            }
            Shape::FlashCrowd | Shape::ColdCrowd => {
                let before = if shape == Shape::FlashCrowd { 0.1 } else { 0.0 };
                let crowd = if part < FLASH_AT { before } else { 0.5 / 1.4 };
                let place: f64 = random.random();
                if random.random::<f64>() < crowd {
                    CROWD_START + CROWD_WIDTH * place
                } else {
                    place
                }
            }
        }
    }
}

/// When the crowd comes, and where.
const FLASH_AT: f64 = 0.4;
const CROWD_START: f64 = 0.62;
const CROWD_WIDTH: f64 = 0.01;

/// The load at a part of the run, as a multiple of what is stated.
fn rate(shape: Shape, part: f64) -> f64 {
    match shape {
        Shape::Uniform | Shape::Zipf | Shape::MovingHotspot | Shape::Append => 1.0,
        Shape::FlashCrowd | Shape::ColdCrowd => {
            if part < FLASH_AT {
                1.0
            } else {
                1.4
            }
        }
        // (1 + 9/11) ÷ (1 − 9/11) = 10.
        Shape::Diurnal => 1.0 - 9.0 / 11.0 * libm::cos(part * std::f64::consts::TAU),
    }
}

fn peak(shape: Shape) -> f64 {
    match shape {
        Shape::Uniform | Shape::Zipf | Shape::MovingHotspot | Shape::Append => 1.0,
        Shape::FlashCrowd | Shape::ColdCrowd => 1.4,
        Shape::Diurnal => 20.0 / 11.0,
    }
}

/// Blocks of keys by hotness.
#[derive(Clone, Debug, Default)]
struct Blocks {
    /// Ascending; of the k hottest together.
    weights: Vec<f64>,
    /// Where the k-th hottest lies.
    places: Vec<u32>,
}

impl Blocks {
    const COUNT: u32 = 1_000;

    fn shuffled(random: &mut Pcg64) -> Self {
        let mut places: Vec<_> = (0..Self::COUNT).collect();
        for i in (1..places.len()).rev() {
            places.swap(i, random.random_range(0..=i));
        }
        let mut sum = 0.0;
        let weights = (1..=Self::COUNT).map(|rank| {
            sum += libm::exp(-0.99 * libm::log(f64::from(rank)));
            sum
        });
        Self { weights: weights.collect(), places }
    }

    fn place(&self, random: &mut Pcg64) -> f64 {
        let all = self.weights.last().copied().unwrap_or_default();
        let at = random.random::<f64>() * all;
        let rank = self.weights.partition_point(|it| *it <= at).min(self.places.len() - 1);
        (f64::from(self.places[rank]) + random.random::<f64>()) / f64::from(Self::COUNT)
    }
}

fn exponential(random: &mut Pcg64) -> f64 {
    // One minus, as zero is drawn and one is not.
    -libm::log(1.0 - random.random::<f64>())
}

#[cfg(test)]
mod tests;
