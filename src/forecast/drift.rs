//! Forecasts load that moves along the key space: how fast it went lately, and where that takes it.
//!
//! ```text
//!  load of six ticks ago, shifted by −48 … 48 rows ──> which shift, beside what stays, explains the load best ──> v
//!  last ticks, each shifted by v to here ──> moved ──> shifted on by v · ticks ──┐
//!  mean over 20 ticks ─────────────────────> still ──────────────────────────────┴─> a · still + b · moved
//! ```
//!
//! * **Two parts.** `a` and `b` are least squares over all rows of what came of late, none below zero, for each
//!   operation and target: where nothing moves, little is asked of what would have. What is not over yet goes
//!   by the next nearer target.
//! * **One speed** for reads and writes: who reads what was just written follows the writes.
//! * **Any distance.** What it takes thirty ticks to get here is seen coming, however many rows away it is.
//! * **Soon.** Two numbers of each target are learned from all rows, so that ten ticks tell; but not from one that
//!   load grows, which may just have begun.

use std::collections::VecDeque;

use dataflows::forecast::{H1, H6, H30, HORIZON, MAX30, MEAN30, TARGETS};
use serde::{Deserialize, Serialize};

use super::features::Book;
use super::{AHEAD, OPS};

/// By how many rows load may have moved in [`LAG`] ticks, on either side.
const REACH: i32 = 48;
/// Ticks between what is compared.
const LAG: usize = 6;
/// Ticks of which what moves is put together; each weighs this much of the next.
const RECENT: usize = 8;
const RECENT_WEIGHT: f64 = 0.75;
/// Weight of a tick in what stays.
const STILL: f64 = 2.0 / 21.0;
/// How much of what is known stays in a tick: of the speed, and of the parts.
const SPEED_STAYS: f64 = 0.95;
const PARTS_STAY: f64 = 0.97;
/// Load is expected to grow, all in all, once it was seen in so many ticks of forecasts.
const LEARNED_LEAST: u64 = 6;
/// Weight of the appended rows, as a part of all: columns that say the same share the weight.
const RIDGE: f64 = 1e-6;

/// Loads of rows, by operation.
type Profile = [Vec<f64>; OPS];

/// What two columns and a target come to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Pair {
    xx: [f64; 3],
    xy: [f64; 2],
}

/// What moves, and how fast.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Drift {
    ticks: u64,
    still: Profile,
    /// Loads of the last ticks with what was still then, the latest first.
    recent: VecDeque<(Profile, Profile)>,
    /// By operation, then shift.
    shifts: Vec<Vec<Pair>>,
    /// Sum of the squares of loads, by operation.
    squares: [f64; OPS],
    /// What was forecast with, the latest tick first.
    told: VecDeque<Told>,
    /// By operation, then target up to the mean.
    parts: Vec<[Pair; MAX30]>,
}

/// What forecasts of a tick were made of, of the rows from which is learned.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Told {
    rows: Vec<u32>,
    /// By operation, row by row: what stays, and what will have moved there at each target up to the mean.
    made_of: [Vec<(f64, [f64; MAX30])>; OPS],
}

impl Pair {
    fn fade(&mut self, stays: f64) {
        self.xx.iter_mut().chain(&mut self.xy).for_each(|it| *it *= stays);
    }

    fn add(&mut self, [a, b]: [f64; 2], y: f64) {
        let products = [a * a, a * b, b * b];
        self.xx.iter_mut().zip(products).for_each(|(sum, it)| *sum += it);
        self.xy.iter_mut().zip([a * y, b * y]).for_each(|(sum, it)| *sum += it);
    }

    /// The weights, and how much of the sum of squares they explain; `None` of nothing.
    fn fit(&self) -> Option<([f64; 2], f64)> {
        let ridge = (self.xx[0] + self.xx[2]) * RIDGE;
        if ridge <= 0.0 {
            return None;
        }
        let [aa, ab, bb] = [self.xx[0] + ridge, self.xx[1], self.xx[2] + ridge];
        let [ay, by] = self.xy;
        let det = aa * bb - ab * ab;
        let both = [(ay * bb - by * ab) / det, (by * aa - ay * ab) / det];
        if 0.0 < det && both.iter().all(|it| 0.0 <= *it && it.is_finite()) {
            return Some((both, both[0] * ay + both[1] * by));
        }
        let [a, b] = [ay.max(0.0) / aa, by.max(0.0) / bb];
        Some(if a * ay < b * by { ([0.0, b], b * by) } else { ([a, 0.0], a * ay) })
    }
}

impl Drift {
    pub fn new(rows: usize) -> Self {
        let none = || std::array::from_fn(|_| vec![0.0; rows]);
        Self {
            ticks: 0,
            still: none(),
            recent: VecDeque::new(),
            shifts: vec![vec![Pair::default(); (2 * REACH + 1) as usize]; OPS],
            squares: [0.0; OPS],
            told: VecDeque::new(),
            parts: vec![Default::default(); OPS],
        }
    }

    /// Takes in a tick that the book knows of. Returns what is forecast of each row, in operations, range by
    /// range, in it operation by operation; nothing before it has ticks to compare. Of all ranges it learns
    /// from these.
    pub fn observe(
        &mut self,
        book: &Book,
        sampled: impl Iterator<Item = usize> + Clone,
    ) -> Option<Vec<[f64; TARGETS]>> {
        self.ticks += 1;
        let rows = book.tracks().len();
        let now: Profile = std::array::from_fn(|op| {
            (0..rows).map(|at| f64::from(book.load(at, op, 0).unwrap_or(0.0))).collect()
        });
        // Until that many have come, a tick counts the more the later it is: load may just have begun.
        let weight = STILL.max(2.0 / (self.ticks + 1) as f64);
        for (still, now) in self.still.iter_mut().zip(&now) {
            still.iter_mut().zip(now).for_each(|(still, now)| *still += (now - *still) * weight);
        }
        self.compare(&now, sampled.clone());
        self.recent.push_front((now, self.still.clone()));
        self.recent.truncate(RECENT);
        self.learn(book);
        if self.recent.len() <= LAG {
            return None;
        }
        let speed = self.speed();
        let moved = self.moved(speed);
        let made_of = |op: usize, at: usize| -> (f64, [f64; TARGETS]) {
            let course = course(&moved[op], at, speed);
            (self.still[op][at], std::array::from_fn(|target| moved_on(&course, target)))
        };
        let parts: [[_; TARGETS]; OPS] =
            std::array::from_fn(|op| std::array::from_fn(|target| self.weights(op, target)));
        let forecast = |it: usize| {
            let (at, op) = (it / OPS, it % OPS);
            let (still, moved) = made_of(op, at);
            std::array::from_fn(|target| {
                let [a, b] = parts[op][target];
                a * still + b * moved[target]
            })
        };
        let all = (0..rows * OPS).map(forecast).collect();
        let kept = |op: usize| {
            let kept = sampled.clone().map(|at| {
                let (still, moved) = made_of(op, at);
                (still, std::array::from_fn(|target| moved[target]))
            });
            kept.collect()
        };
        let made_of: [Vec<_>; OPS] = std::array::from_fn(kept);
        self.told.push_front(Told { rows: sampled.map(|at| at as u32).collect(), made_of });
        self.told.truncate(HORIZON as usize);
        Some(all)
    }

    /// Compares the load with that of some ticks ago, by how far it has moved.
    fn compare(&mut self, now: &Profile, sampled: impl Iterator<Item = usize> + Clone) {
        let Some((then, still)) = self.recent.get(LAG - 1) else { return };
        for op in 0..OPS {
            let squares = sampled.clone().map(|at| now[op][at] * now[op][at]);
            self.squares[op] = self.squares[op] * SPEED_STAYS + squares.sum::<f64>();
            for (pair, shift) in self.shifts[op].iter_mut().zip(-REACH..) {
                pair.fade(SPEED_STAYS);
                for at in sampled.clone() {
                    let moved = at_or_near(&then[op], at as i64 - i64::from(shift));
                    pair.add([still[op][at], moved], now[op][at]);
                }
            }
        }
    }

    /// Rows a tick.
    fn speed(&self) -> f64 {
        let explained = |shift: i32| -> f64 {
            let Some(at) = usize::try_from(shift + REACH).ok() else { return 0.0 };
            (0..OPS)
                .filter_map(|op| {
                    Some(self.shifts[op].get(at)?.fit()?.1 / self.squares[op].max(1e-9))
                })
                .sum()
        };
        // Of those that explain as much, the nearest.
        let mut shifts: Vec<_> = (-REACH..=REACH).collect();
        shifts.sort_by_key(|it| it.abs());
        let (mut best, mut most) = (0, explained(0));
        for shift in shifts {
            let it = explained(shift);
            if most < it {
                (best, most) = (shift, it);
            }
        }
        let mut res = f64::from(best);
        if best.abs() < REACH {
            let [below, above] = [explained(best - 1), explained(best + 1)];
            let bend = 2.0 * most - below - above;
            if 0.0 < bend {
                res += ((above - below) / bend / 2.0).clamp(-0.5, 0.5);
            }
        }
        res / LAG as f64
    }

    /// The last ticks, as they would be here now.
    fn moved(&self, speed: f64) -> Profile {
        std::array::from_fn(|op| {
            let mut sums = vec![0.0; self.still[op].len()];
            let (mut weight, mut weights) = (1.0, 0.0);
            for (ticks, (then, _)) in self.recent.iter().enumerate() {
                let shift = speed * ticks as f64;
                for (at, sum) in sums.iter_mut().enumerate() {
                    *sum += weight * shifted(&then[op], at, shift);
                }
                weights += weight;
                weight *= RECENT_WEIGHT;
            }
            sums.iter_mut().for_each(|it| *it /= weights);
            sums
        })
    }

    /// Learns what part of what came had stayed, and what had moved.
    fn learn(&mut self, book: &Book) {
        for target in [H1, H6, H30, MEAN30] {
            let Some(told) = self.told.get(AHEAD[target] - 1) else { continue };
            for op in 0..OPS {
                let pair = &mut self.parts[op][target];
                pair.fade(PARTS_STAY);
                for (at, (still, moved)) in told.rows.iter().zip(&told.made_of[op]) {
                    let lag = |ahead| book.load(*at as usize, op, AHEAD[target] - ahead);
                    let Some(came) = super::came(target, lag) else { continue };
                    pair.add([*still, moved[target]], f64::from(came));
                }
            }
        }
    }

    fn weights(&self, op: usize, target: usize) -> [f64; 2] {
        let nearer: &[usize] = match target {
            H1 => &[H1],
            H6 => &[H6, H1],
            H30 => &[H30, H6, H1],
            _ => &[MEAN30, H6, H1],
        };
        // The first forecast is of the tick after those that are compared.
        let learned = self.ticks.saturating_sub((LAG + AHEAD[target]) as u64);
        let fitted = nearer.iter().find_map(|it| self.parts[op][*it].fit());
        let [a, b] = fitted.map_or([1.0, 0.0], |it| it.0);
        let grows = if learned < LEARNED_LEAST { (a + b).max(1.0) } else { 1.0 };
        [a / grows, b / grows]
    }
}

/// What will have moved to a row in one tick, in two …
fn course(moved: &[f64], at: usize, speed: f64) -> [f64; HORIZON as usize] {
    std::array::from_fn(|it| shifted(moved, at, speed * (it + 1) as f64))
}

/// What of it counts at a target.
fn moved_on(course: &[f64; HORIZON as usize], target: usize) -> f64 {
    match target {
        MEAN30 => course.iter().sum::<f64>() / HORIZON as f64,
        MAX30 => course.iter().copied().fold(0.0, f64::max),
        _ => course[AHEAD[target] - 1],
    }
}

/// What is at a row when all has moved up by so many rows; straight lines between.
fn shifted(loads: &[f64], at: usize, shift: f64) -> f64 {
    let from = at as f64 - shift;
    // Its floor, without a call: it is asked for thirty times a row.
    let toward_zero = from as i64;
    let below = toward_zero - i64::from(from < toward_zero as f64);
    let part = from - below as f64;
    at_or_near(loads, below) * (1.0 - part) + at_or_near(loads, below + 1) * part
}

/// Beyond the ends all is as there.
fn at_or_near(loads: &[f64], at: i64) -> f64 {
    let last = loads.len() as i64 - 1;
    usize::try_from(at.clamp(0, last.max(0)))
        .ok()
        .and_then(|it| loads.get(it))
        .copied()
        .unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use rand::{Rng, SeedableRng};
    use rand_pcg::Pcg64;

    use super::*;

    const ROWS: usize = 64;

    /// Runs over reads of each row at a tick; returns what is forecast of them at the end.
    fn run(ticks: u64, load: impl FnMut(u64, usize) -> f32) -> Option<Vec<[f64; TARGETS]>> {
        learned_from(1, ticks, load)
    }

    /// The same, learned from every so many-th row, another one each tick.
    fn learned_from(
        step: usize,
        ticks: u64,
        mut load: impl FnMut(u64, usize) -> f32,
    ) -> Option<Vec<[f64; TARGETS]>> {
        let (mut book, mut drift) = (Book::new(ROWS, 1_000), Drift::new(ROWS));
        let mut told = None;
        for tick in 0..ticks {
            let loads: Vec<_> = (0..ROWS).map(|it| [load(tick, it), 0.0]).collect();
            book.observe(&loads);
            told = drift.observe(&book, (tick as usize % step..ROWS).step_by(step));
        }
        told.map(|it| it.into_iter().step_by(OPS).collect())
    }

    /// Forty reads a row that goes up by a row in so many ticks, on what stays at each row.
    fn moving(tick: u64, row: usize, ticks_a_row: f64, still: f32) -> f32 {
        let away = row as f64 - tick as f64 / ticks_a_row - 4.0;
        still + if (0.0..3.0).contains(&away) { 40.0 } else { 0.0 }
    }

    #[test]
    fn what_moves_is_expected_where_it_will_be() {
        // Half a row a tick: after 40 ticks it is at row 24, thirty later at 39.
        let told = run(41, |tick, row| moving(tick, row, 2.0, 3.0)).unwrap();
        let at = |target: usize, row: usize| told[row][target];
        for (target, first) in [(H1, 24), (H6, 27), (H30, 39)] {
            assert!(30.0 < at(target, first + 1), "{target}: {:?}", told[first + 1]);
            assert!(at(target, first - 3) < 10.0 && at(target, first + 6) < 10.0);
        }
        // It takes six ticks to go by.
        assert!((at(MEAN30, 32) - 3.0 - 40.0 * 6.0 / 30.0).abs() < 2.0, "{}", at(MEAN30, 32));
        assert!(30.0 < at(MAX30, 32) && at(MAX30, 60) < 10.0);
    }

    #[test]
    fn some_rows_a_tick_tell_it_as_well() {
        let told = learned_from(4, 41, |tick, row| moving(tick, row, 2.0, 3.0)).unwrap();
        assert!(30.0 < told[28][H6] && told[24][H6] < 10.0 && told[34][H6] < 10.0, "{told:?}");
    }

    #[test]
    fn it_moves_down_as_well_and_is_known_after_ten_ticks() {
        let told = run(14, |tick, row| moving(tick, ROWS - 1 - row, 1.0, 0.0)).unwrap();
        // After fourteen ticks it is at 44 to 46, six later at 38.
        assert!(30.0 < told[39][H6] && told[45][H6] < 10.0, "{told:?}");
    }

    #[test]
    fn what_stays_is_expected_where_it_is() {
        let mut random = Pcg64::seed_from_u64(4);
        let level = |row: usize| if row % 7 == 3 { 90.0 } else { 6.0 };
        let told = run(90, |_, row| level(row) + random.random_range(-3.0..3.0_f32)).unwrap();
        for (row, told) in told.iter().enumerate() {
            for target in [H1, H6, H30, MEAN30] {
                let off = (told[target] - f64::from(level(row))).abs();
                assert!(off < 0.2 * f64::from(level(row)) + 2.0, "{row} at {target}: {told:?}");
            }
        }
    }

    /// What comes thirty ticks later was forecast for the first time when there was hardly any load to go by.
    #[test]
    fn load_that_has_just_begun_is_not_expected_to_grow_for_ever() {
        let mut random = Pcg64::seed_from_u64(9);
        for ticks in 12..90 {
            let load = |tick: u64, _| match tick {
                0..2 => 0.1,
                2 => 12.0,
                _ => 20.0 + random.random_range(-4.0..4.0_f32),
            };
            let told = run(ticks, load).unwrap();
            for target in [H1, H6, H30, MEAN30] {
                let mean = told.iter().map(|it| it[target]).sum::<f64>() / ROWS as f64;
                assert!((14.0..24.0).contains(&mean), "{mean} at {target} after {ticks} ticks");
            }
        }
    }

    #[test]
    fn nothing_is_said_before_there_are_ticks_to_compare_and_nothing_of_nothing() {
        assert_eq!(run(LAG as u64, |_, _| 5.0), None);
        let told = run(80, |_, _| 0.0).unwrap();
        assert!(told.as_flattened().iter().all(|it| *it < 1e-6), "{told:?}");
    }
}
