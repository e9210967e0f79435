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
//!  diurnal         every key alike, ten times as much at the peak as in the valley; a run is a day,
//!                  which begins in the valley
//! ```
//!
//! Arrivals are Poisson, costs exponential around the mean of their operation, at least 1 µs. A
//! million keys of 1 KiB; 2,000 reads and 200 writes a second, in the diurnal mean.
//!
//! * **The same everywhere.** A seed gives the same queries on any machine: logarithm, exponential and
//!   sine are made of sums and products here, as libraries differ in the last bit.

use std::fmt;
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
    Diurnal,
}

impl Shape {
    pub const ALL: [Self; 6] = [
        Self::Uniform,
        Self::Zipf,
        Self::MovingHotspot,
        Self::Append,
        Self::FlashCrowd,
        Self::Diurnal,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::Uniform => "uniform",
            Self::Zipf => "zipf",
            Self::MovingHotspot => "moving-hotspot",
            Self::Append => "append",
            Self::FlashCrowd => "flash-crowd",
            Self::Diurnal => "diurnal",
        }
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
            // From 40 % of the run on, a tenth of the load comes five times: 1 + 0.6 × 0.4.
            Shape::FlashCrowd => base * 124 / 100,
            Shape::Uniform
            | Shape::Zipf
            | Shape::MovingHotspot
            | Shape::Append
            | Shape::Diurnal => base,
        }
    }

    /// About how many queries there will be, for a progress bar.
    pub fn queries(&self) -> u64 {
        let base = (self.reads_per_s + self.writes_per_s) * self.duration_ms / 1000;
        if self.shape == Shape::FlashCrowd { base * 124 / 100 } else { base }
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
    /// Where in the key space a query goes, from 0 to 1, at a part of the run.
    fn place(&mut self, part: f64, write: bool) -> f64 {
        let random = &mut self.random;
        match self.scenario.shape {
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
            Shape::FlashCrowd => {
                let crowd = if part < FLASH_AT { 0.1 } else { 0.5 / 1.4 };
                let place: f64 = random.random();
                if random.random::<f64>() < crowd { 0.62 + 0.01 * place } else { place }
            }
        }
    }
}

/// When the crowd comes.
const FLASH_AT: f64 = 0.4;

/// The load at a part of the run, as a multiple of what is stated.
fn rate(shape: Shape, part: f64) -> f64 {
    match shape {
        Shape::Uniform | Shape::Zipf | Shape::MovingHotspot | Shape::Append => 1.0,
        Shape::FlashCrowd => {
            if part < FLASH_AT {
                1.0
            } else {
                1.4
            }
        }
        // (1 + 9/11) ÷ (1 − 9/11) = 10.
        Shape::Diurnal => 1.0 - 9.0 / 11.0 * cos_turn(part),
    }
}

fn peak(shape: Shape) -> f64 {
    match shape {
        Shape::Uniform | Shape::Zipf | Shape::MovingHotspot | Shape::Append => 1.0,
        Shape::FlashCrowd => 1.4,
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
            sum += exp(-0.99 * ln(f64::from(rank)));
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
    -ln(1.0 - random.random::<f64>())
}

/// The natural logarithm of a positive normal number.
fn ln(x: f64) -> f64 {
    let bits = x.to_bits();
    let exponent = (bits >> 52) as i64 - 1023;
    let mantissa = f64::from_bits((bits & ((1 << 52) - 1)) | (1023 << 52));
    // ln m = 2 artanh((m − 1) ÷ (m + 1)), of an argument of at most a third.
    let z = (mantissa - 1.0) / (mantissa + 1.0);
    let series = (0..18).rev().fold(0.0, |sum, i| sum * z * z + 1.0 / f64::from(2 * i + 1));
    2.0 * z * series + exponent as f64 * std::f64::consts::LN_2
}

fn exp(x: f64) -> f64 {
    // By the series of x ÷ 1024, squared ten times.
    let x = x / 1024.0;
    let series = (1..12).rev().fold(1.0, |sum, i| 1.0 + sum * x / f64::from(i));
    (0..10).fold(series, |power, _| power * power)
}

/// The cosine of a part of a full turn, from 0 to 1.
fn cos_turn(part: f64) -> f64 {
    // Turned back by a half, which changes the sign, the series converges fast.
    let x = (part - 0.5) * std::f64::consts::TAU;
    let series = (1..12).rev().fold(1.0, |sum, i| {
        let i = f64::from(i);
        1.0 - sum * x * x / ((2.0 * i - 1.0) * 2.0 * i)
    });
    -series
}

#[cfg(test)]
mod tests {
    use std::ops::Range;

    use super::*;

    const RUN_MS: u64 = 50_000;

    fn scenario(shape: Shape) -> Scenario {
        Scenario::new(shape, 5, Millis(1_000_000), RUN_MS)
    }

    /// The share of the queries in a part of the run that go to a part of the key space.
    fn check(shape: Shape, run: Range<f64>, space: Range<f64>, expected: f64) {
        let (mut inside, mut all) = (0.0, 0.0);
        for query in scenario(shape).queries_logged() {
            let part = (query.time.0 - 1_000_000) as f64 / RUN_MS as f64;
            if run.contains(&part) {
                let bytes = query.key.0.try_into().unwrap();
                let place = u64::from_be_bytes(bytes) as f64 / 1e6;
                all += 1.0;
                inside += f64::from(u8::from(space.contains(&place)));
            }
        }
        let found: f64 = inside / all;
        assert!((found - expected).abs() < 0.012, "{shape}: {found} of the load in {space:?}");
    }

    #[test]
    fn shapes_are_what_they_are_called() {
        check(Shape::Uniform, 0.0..1.0, 0.3..0.4, 0.1);
        check(Shape::MovingHotspot, 0.0..0.02, 0.15..0.26, 0.5 + 0.5 * 0.11);
        check(Shape::MovingHotspot, 0.98..1.0, 0.64..0.75, 0.5 + 0.5 * 0.11);
        check(Shape::Append, 0.5..0.52, 0.49..0.57, 0.98);
        check(Shape::Append, 0.0..0.5, 0.56..1.0, 0.0);
        check(Shape::FlashCrowd, 0.0..0.4, 0.62..0.63, 0.1 + 0.009);
        check(Shape::FlashCrowd, 0.4..1.0, 0.62..0.63, 0.5 / 1.4 + 0.0064);
        check(Shape::Diurnal, 0.0..1.0, 0.3..0.4, 0.1);
    }

    #[test]
    fn rates_and_loads_are_as_stated() {
        for shape in Shape::ALL {
            let (mut queries, mut writes, mut cost, mut last) = (0, 0, 0, Millis(0));
            for query in scenario(shape).queries_logged() {
                assert!(last <= query.time, "{shape} goes back in time");
                last = query.time;
                queries += 1;
                writes += u64::from(query.op == Op::Write);
                cost += query.cost_us.unwrap();
            }
            let near = |found: u64, expected: u64| found.abs_diff(expected) * 40 <= expected;
            assert!(near(queries, scenario(shape).queries()), "{shape}: {queries}");
            // Four deviations of some ten thousand.
            assert!((writes * 11).abs_diff(queries) * 25 < queries, "{shape}: {writes} writes");
            assert!(near(cost / 50, scenario(shape).mean_load()), "{shape}: {cost}");
        }
    }

    #[test]
    fn crowd_comes_at_two_fifths_and_day_is_ten_times_night() {
        let count = |shape, run: Range<u64>| {
            let within = |it: &QueryLogged| run.contains(&(it.time.0 - 1_000_000));
            scenario(shape).queries_logged().filter(within).count() as f64
        };
        let ratio = |shape, a: Range<u64>, b| count(shape, a) / count(shape, b);
        let flash = ratio(Shape::FlashCrowd, 20_000..25_000, 15_000..20_000);
        assert!((flash - 1.4).abs() < 0.05, "{flash}");
        let day = ratio(Shape::Diurnal, 24_000..26_000, 0..2_000);
        assert!((8.5..11.5).contains(&day), "{day}");
    }

    #[test]
    fn hottest_block_has_its_share_and_the_rest_theirs() {
        let mut blocks = vec![0_u32; 1_000];
        for query in scenario(Shape::Zipf).queries_logged() {
            let index = u64::from_be_bytes(query.key.0.try_into().unwrap());
            blocks[(index / 1_000) as usize] += 1;
        }
        let sorted = blocks.is_sorted_by(|a, b| a >= b);
        assert!(!sorted, "blocks are in shuffled order");
        blocks.sort_unstable_by(|a, b| b.cmp(a));
        let harmonic: f64 = (1..=1000).map(|rank| f64::from(rank).powf(-0.99)).sum();
        let all = f64::from(blocks.iter().sum::<u32>());
        for rank in [1, 2, 10] {
            let found = f64::from(blocks[rank - 1]) / all;
            let expected = (rank as f64).powf(-0.99) / harmonic;
            assert!((found / expected - 1.0).abs() < 0.1, "rank {rank}: {found} of {expected}");
        }
    }

    #[test]
    fn seed_decides() {
        let some = |seed| {
            let scenario = Scenario { seed, ..scenario(Shape::MovingHotspot) };
            scenario.queries_logged().take(50).collect::<Vec<_>>()
        };
        assert_eq!(some(1), some(1));
        assert_ne!(some(1), some(2));
    }

    #[test]
    fn functions_agree_with_the_library() {
        for i in 1..2000 {
            let x = f64::from(i) * 0.013;
            assert!((ln(x) - x.ln()).abs() < 1e-13 * (1.0 + x.ln().abs()), "ln {x}");
            assert!((exp(-x / 3.0) / (-x / 3.0).exp() - 1.0).abs() < 1e-12, "exp {x}");
            let part = f64::from(i) / 2000.0;
            let cos = (part * std::f64::consts::TAU).cos();
            assert!((cos_turn(part) - cos).abs() < 1e-7, "cosine of {part}");
        }
        let fewest = 1.0 - (1.0 - f64::EPSILON / 2.0);
        assert!(ln(fewest).is_finite());
    }

    #[test]
    fn names_are_read_back_and_others_refused_with_all_names() {
        for shape in Shape::ALL {
            assert_eq!(shape.to_string().parse(), Ok(shape));
        }
        let refused = "zip".parse::<Shape>().unwrap_err().to_string();
        assert!(
            refused.contains("\"zip\"") && refused.contains("zipf, moving-hotspot"),
            "{refused}"
        );
    }
}
