//! Keeps what is remembered of every range, and makes of it what models look at: a row a range and
//! operation, a column a feature.
//!
//! ```text
//!             ┌ ring of 60 roots ────> own lags, maximum and mean of 30
//!  loads ──>  │ means over 2, 6, 20, 60 ─> own scales, the other operation, neighbours −8 … +8
//!  of a tick  └ swing ───────────────> how far load lies from its level lately
//!             total of all ranges ───> its own rise, share of it          all − mean over 20 of the row
//! ```
//!
//! A load `y` is counted in operations and stands as its **root**, √(y + 3/8), in which the spread
//! of Poisson arrivals is alike at all levels. Columns are differences from the row's own mean over
//! 20 ticks, so that a model knows no levels and meets none that it never saw.
//!
//! * **One definition.** Training, backtest and the running planner look at what [`Book::look`] says.
//! * **Incremental.** A tick costs the same whatever came before it; a test holds its features equal
//!   to those from the whole history.
//! * **Sound.** Any load gives finite features: what is not a number or negative counts as zero,
//!   and what is beyond [`LOAD_MAX`] as that.

use serde::{Deserialize, Serialize};

use super::OPS;

/// So many ticks of a range are remembered.
pub const HISTORY: usize = 60;

/// Spans of the weighted means; the index of each is a constant below.
const SPANS: [f32; 4] = [2.0, 6.0, 20.0, 60.0];
pub const MEANS: usize = SPANS.len();
pub const MEAN2: usize = 0;
pub const MEAN6: usize = 1;
/// The level that all is told from.
pub const BASE: usize = 2;
pub const MEAN60: usize = 3;

/// Lags that a row has as columns, in ticks.
const LAGS: [usize; 17] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 15, 20, 30, 45, 59];

/// How far neighbours are seen, on either side: as they are, and by their levels.
const NEAR: usize = 8;
const LEVEL_NEAR: usize = 4;

/// No load is greater, in operations a tick.
pub const LOAD_MAX: f32 = 1e12;

/// Ticks over which maximum and mean are told, as in the targets.
const RECENT: usize = 30;

/// With fewer days than this the time of day says nothing.
const DAYS_MIN: u64 = 2;
const DAY_MS: u64 = 86_400_000;

/// Columns of a row.
pub const FEATURES: usize = 1 + LAGS.len() + 3 + 4 + 3 + 3 + 4 * NEAR + 2 * LEVEL_NEAR + 3;

/// The column that is one in every row.
pub const CONSTANT: usize = 0;
/// Columns of the row itself, of the total, and of the first neighbours: [`NEAR_COLUMN`] and the
/// seven behind it, one below, one above, two below …
pub const OWN: usize = 39;
pub const LAG_COLUMN: usize = 1;
pub const MEAN_COLUMN: usize = 18;
pub const LEVEL_COLUMN: usize = 21;
pub const MAX_COLUMN: usize = 22;
pub const SWING_COLUMN: usize = 24;
pub const OTHER_COLUMN: usize = 25;
pub const TOTAL_COLUMN: usize = 28;
pub const SHARE_COLUMN: usize = 30;
pub const NEAR_COLUMN: usize = 31;
/// The column that is one for writes.
pub const OP_COLUMN: usize = FEATURES - 3;

/// What is remembered of one kind of operation in one range, as roots.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Track {
    /// The last [`HISTORY`] ticks, from the latest; shorter for a young one.
    ring: Vec<f32>,
    /// Where the latest is.
    head: usize,
    /// How many ticks it took in.
    age: u32,
    /// Weighted means over [`SPANS`].
    means: [f32; MEANS],
    /// Weighted mean of how far the load was from its mean over 6, over 20 ticks.
    swing: f32,
    /// The same over a longer time.
    sway: f32,
}

impl Default for Track {
    fn default() -> Self {
        Self { ring: Vec::new(), head: 0, age: 0, means: [root(0.0); MEANS], swing: 0.0, sway: 0.0 }
    }
}

/// A load as a root.
pub fn root(load: f32) -> f32 {
    let load = if load.is_nan() { 0.0 } else { load.clamp(0.0, LOAD_MAX) };
    (load + 0.375).sqrt()
}

/// The load that a root stands for.
pub fn load(root: f32) -> f32 {
    (root.max(0.0) * root.max(0.0) - 0.375).max(0.0)
}

impl Track {
    fn observe(&mut self, load: f32) {
        let now = root(load);
        self.age = self.age.saturating_add(1);
        let age = self.age as f32;
        if self.ring.len() < HISTORY {
            self.ring.push(now);
            self.head = self.ring.len() - 1;
        } else {
            self.head = (self.head + 1) % HISTORY;
            self.ring[self.head] = now;
        }
        let weight = |span: f32| (2.0 / (span + 1.0)).max(1.0 / age);
        if self.ring.len() > 1 {
            let off = (now - self.means[MEAN6]).abs();
            self.swing += (off - self.swing) * (2.0_f32 / 21.0).max(1.0 / (age - 1.0));
            let long = (2.0_f32 / 121.0).max(1.0 / (age - 1.0));
            self.sway += (off - self.sway) * long;
        }
        for (mean, span) in self.means.iter_mut().zip(SPANS) {
            *mean += (now - *mean) * weight(span);
        }
    }

    /// The root so many ticks ago; `None` before it began.
    pub fn lag(&self, ticks: usize) -> Option<f32> {
        let len = self.ring.len();
        (ticks < len).then(|| {
            let at = self.head + len - ticks;
            // A remainder, without a division: it is asked for fifty times a row and tick.
            self.ring[if len <= at { at - len } else { at }]
        })
    }

    pub fn means(&self) -> &[f32; MEANS] {
        &self.means
    }

    /// How far the load is from its level, lately and for longer.
    pub fn swing(&self) -> f32 {
        (self.swing + self.sway) / 2.0
    }

    /// Mean (as a load) and maximum (as a root) of the last ticks.
    fn recent(&self) -> (f32, f32) {
        let lags = (0..RECENT).map_while(|ticks| self.lag(ticks));
        let (sum, max, count) =
            lags.fold((0.0, 0.0_f32, 0), |(s, m, n), it| (s + load(it), m.max(it), n + 1));
        (sum / count.max(1) as f32, max)
    }
}

/// The history of all ranges, in the order of their keys.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Book {
    tracks: Vec<[Track; OPS]>,
    total: [Track; OPS],
    ticks: u64,
    tick_ms: u64,
}

/// Rows of features; range by range, in it operation by operation.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Look(pub Vec<[f32; FEATURES]>);

impl Book {
    pub fn new(ranges: usize, tick_ms: u64) -> Self {
        Self { tracks: vec![Default::default(); ranges], tick_ms, ..Self::default() }
    }

    /// Takes in the loads of a tick, in operations.
    pub fn observe(&mut self, loads: &[[f32; OPS]]) {
        assert_eq!(loads.len(), self.tracks.len(), "every range has a load");
        self.ticks += 1;
        for op in 0..OPS {
            let mut total = 0.0;
            for (tracks, loads) in self.tracks.iter_mut().zip(loads) {
                tracks[op].observe(loads[op]);
                total += load(root(loads[op]));
            }
            self.total[op].observe(total);
        }
    }

    /// The load of a range so many ticks ago, in operations; `None` before it began.
    pub fn load(&self, at: usize, op: usize, ticks: usize) -> Option<f32> {
        self.tracks[at][op].lag(ticks).map(load)
    }

    /// How many ticks were taken in.
    pub fn ticks(&self) -> u64 {
        self.ticks
    }

    pub fn tracks(&self) -> &[[Track; OPS]] {
        &self.tracks
    }

    pub fn look(&self) -> Look {
        let mut look = Look::default();
        self.look_again(&mut look);
        look
    }

    /// The same, where another look stood.
    pub fn look_again(&self, look: &mut Look) {
        let day = self.day();
        let rows = (0..self.tracks.len()).flat_map(|at| (0..OPS).map(move |op| (at, op)));
        look.0.clear();
        look.0.extend(rows.map(|(at, op)| self.row(at, op, day)));
    }

    /// Sine and cosine of the time of day, once there are days to compare. A day begins with the first tick here: when it
    /// does turns the two, which least squares learn of any turn.
    fn day(&self) -> [f32; 2] {
        let ms = self.ticks * self.tick_ms;
        if ms < DAYS_MIN * DAY_MS {
            return [0.0; 2];
        }
        let angle = (ms % DAY_MS) as f64 / DAY_MS as f64 * std::f64::consts::TAU;
        [libm::sin(angle) as f32, libm::cos(angle) as f32]
    }

    fn row(&self, at: usize, op: usize, day: [f32; 2]) -> [f32; FEATURES] {
        let (own, other) = (&self.tracks[at][op], &self.tracks[at][1 - op]);
        let base = own.means[BASE];
        let (mean, max) = own.recent();
        let mut row = [0.0; FEATURES];
        let mut column = 0;
        let mut put = |value: f32| {
            row[column] = value;
            column += 1;
        };
        put(1.0);
        LAGS.iter().for_each(|ticks| put(own.lag(*ticks).map_or(0.0, |it| it - base)));
        [MEAN2, MEAN6, MEAN60].into_iter().for_each(|mean| put(own.means[mean] - base));
        put(base - root(0.0));
        put(max - base);
        put(root(mean) - base);
        put(own.swing);
        let other_base = other.means[BASE];
        put(other.lag(0).map_or(0.0, |it| it - other_base));
        put(other.means[MEAN2] - other_base);
        put(other_base - base);
        // What the total's rise would be for this row, had it a fixed share.
        let total = &self.total[op];
        let total_base = total.means[BASE];
        put(base * (total.lag(0).unwrap_or(total_base) / total_base - 1.0));
        put(base * (total.means[MEAN2] / total_base - 1.0));
        put(base / total_base);
        let mut neighbours = |reach: usize, op: usize, mean: usize, base: f32| {
            for distance in 1..=reach {
                let below = at.checked_sub(distance).map(|it| &self.tracks[it]);
                for near in [below, self.tracks.get(at + distance)] {
                    // Beyond the ends of the key space all is as here.
                    put(near.map_or(0.0, |it| it[op].means[mean] - base));
                }
            }
        };
        neighbours(NEAR, op, MEAN2, base);
        neighbours(NEAR, 1 - op, MEAN2, other_base);
        neighbours(LEVEL_NEAR, op, BASE, base);
        put(op as f32);
        day.into_iter().for_each(put);
        assert_eq!(column, FEATURES, "every column is put once");
        row
    }
}

#[cfg(test)]
mod tests {
    use rand::{Rng, SeedableRng};
    use rand_pcg::Pcg64;

    use super::*;

    /// Loads of 23 ranges by tick: some without any, some that jump, one with what is no load.
    fn loads(ticks: usize, seed: u64) -> Vec<Vec<[f32; OPS]>> {
        let mut random = Pcg64::seed_from_u64(seed);
        let mut load = move |tick: usize, range: usize| match range % 5 {
            0 => 0.0,
            1 => random.random_range(0.0..9.0_f32).floor(),
            2 => (tick / 20 % 2 * 1_000_000) as f32,
            3 => 300.0 + random.random_range(-30.0..30.0_f32),
            _ => [f32::NAN, -5.0, f32::INFINITY, 3.0][tick % 4],
        };
        (0..ticks)
            .map(|tick| (0..23).map(|range| [load(tick, range), load(tick, range + 2)]).collect())
            .collect()
    }

    /// The means of all the history, by their definition.
    fn mean(roots: &[f32], span: f32) -> f32 {
        let mut mean = root(0.0);
        for (age, root) in roots.iter().enumerate() {
            mean += (root - mean) * (2.0 / (span + 1.0)).max(1.0 / (age + 1) as f32);
        }
        mean
    }

    #[test]
    fn incremental_features_are_those_of_the_whole_history() {
        let loads = loads(150, 11);
        // From the tenth tick on there are two days.
        let tick_ms = 5 * 3_600_000;
        let mut book = Book::new(23, tick_ms);
        for (tick, now) in loads.iter().enumerate() {
            book.observe(now);
            if ![0, 1, 5, 29, 59, 60, 61, 149].contains(&tick) {
                continue;
            }
            let series = |range: usize, op: usize| -> Vec<f32> {
                loads[..=tick].iter().map(|it| root(it[range][op])).collect()
            };
            let level = |range: usize, op: usize, span: f32| mean(&series(range, op), span);
            let look = book.look();
            for (range, op) in (0..23).flat_map(|it| [(it, 0), (it, 1)]) {
                let (own, other) = (series(range, op), series(range, 1 - op));
                let [base, other_base] = [&own, &other].map(|it| mean(it, 20.0));
                let lag = |ticks: usize| own.iter().rev().nth(ticks).map_or(0.0, |it| it - base);
                let recent: Vec<_> = own.iter().rev().take(RECENT).copied().collect();
                let greatest = recent.iter().fold(0.0_f32, |a, b| a.max(*b));
                let sum: f32 = recent.iter().map(|it| load(*it)).sum();
                let off = |it: usize| (own[it] - mean(&own[..it], 6.0)).abs();
                let swing = match tick {
                    0 => 0.0,
                    _ => mean(&(1..=tick).map(off).collect::<Vec<_>>(), 20.0),
                };
                let totals: Vec<f32> = loads[..=tick]
                    .iter()
                    .map(|it| root(it.iter().map(|it| load(root(it[op]))).sum()))
                    .collect();
                let total = mean(&totals, 20.0);
                let near = |reach: usize, op: usize, span: f32, base: f32| {
                    let sides = (1..=reach)
                        .flat_map(|it| [range.checked_sub(it), Some(range + it)])
                        .map(|it| it.filter(|it| *it < 23));
                    sides
                        .map(|it| it.map_or(0.0, |it| level(it, op, span) - base))
                        .collect::<Vec<_>>()
                };
                let ms = (tick as u64 + 1) * tick_ms;
                let angle = (ms % DAY_MS) as f64 / DAY_MS as f64 * std::f64::consts::TAU;
                let day = match tick {
                    0..9 => [0.0; 2],
                    _ => [angle.sin() as f32, angle.cos() as f32],
                };
                let expected = [
                    &[1.0][..],
                    &LAGS.map(lag),
                    &[2.0, 6.0, 60.0].map(|it| mean(&own, it) - base),
                    &[base - root(0.0), greatest - base, root(sum / recent.len() as f32) - base],
                    &[swing, other[tick] - other_base, mean(&other, 2.0) - other_base],
                    &[other_base - base, base * (totals[tick] / total - 1.0)],
                    &[base * (mean(&totals, 2.0) / total - 1.0), base / total],
                    &near(8, op, 2.0, base),
                    &near(8, 1 - op, 2.0, other_base),
                    &near(4, op, 20.0, base),
                    &[op as f32],
                    &day,
                ];
                let expected = expected.concat();
                assert_eq!(expected.len(), FEATURES);
                for (column, value) in expected.into_iter().enumerate() {
                    assert!(
                        (look.0[range * OPS + op][column] - value).abs()
                            <= 1e-5 * value.abs().max(1.0),
                        "column {column} of {range}, {op} at {tick}: {} is not {value}",
                        look.0[range * OPS + op][column]
                    );
                }
            }
        }
    }

    #[test]
    fn any_load_gives_finite_features() {
        let mut book = Book::new(23, 86_400_000);
        for loads in loads(100, 3) {
            book.observe(&loads);
            assert!(book.look().0.iter().flatten().all(|it| it.is_finite()));
        }
    }
}
