//! Fits the linear model anew from what came of late, beside the tick.
//!
//! ```text
//!  rows of a tick ── 30 ticks later, with what came ──> Gram, which fades ── every 30 ticks ──> fit, on a thread
//!                                                                              n               │
//!  the model of the ladder <────────────────────────────── n + lag, never earlier nor later ───┘
//! ```
//!
//! * **At its tick.** A fit that was begun at a tick takes effect so many ticks later, however long it took:
//!   who is restarted in between fits again from the same sums, and has the same model at the same tick.
//! * **Not too soon.** Where a model that was learned before answers, there are rows of sixty ticks before the first
//!   fit: those of a few ticks all say alike how large the total is, and that it does not change.
//! * **Told.** What came of each is told, the weights or that there are none: a fit without least squares
//!   is missed, and the model before it goes on.
//! * **Fading.** What came for long outweighs what came lately, so that a load which drifts does not turn
//!   the model around; whether it is used is the selector's matter.

use std::collections::VecDeque;
use std::sync::{Arc, OnceLock};
use std::thread;

use dataflows::forecast::{HORIZON, TARGETS};
use serde::{Deserialize, Serialize};

use super::features::{BASE, Book, FEATURES, Look, root};
use super::linear::{Gram, Linear, ROWS_MIN};
use super::{OPS, came};

/// Ticks before this one are too young to learn from.
const FIRST: u64 = 20;

/// A model that was learned before is not followed by one of fewer ticks.
const TICKS_MIN: u64 = 60;

/// The tick from which on a first fit may follow a model that was learned before.
pub const FOLLOWS: u64 = FIRST + HORIZON + TICKS_MIN;

/// So many ticks lie between the beginnings of two fits, at least.
const EVERY: u64 = 30;

/// What is known fades by one part in so many in a tick, or in so many rows where those take longer: a fit has some
/// seventy weights, and a row of one series tells little that those next to it do not.
const TICKS: f64 = 4_000.0;
const ROWS: f64 = 100_000.0;

/// The model that is learned while it answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Refit {
    /// A fit takes effect so many ticks after it was begun.
    lag: u64,
    grams: Vec<Gram>,
    /// Rows of which it is not known what comes, the latest tick first.
    rows: VecDeque<Vec<Row>>,
    underway: Option<Fitting>,
    /// The next fit is begun not before this tick.
    next: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Row {
    at: usize,
    op: usize,
    base: f32,
    features: Vec<f32>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Fitting {
    due: u64,
    grams: Vec<Gram>,
    #[serde(skip)]
    fitted: Fitted,
}

/// A fit that is due.
#[derive(Clone, Debug, PartialEq)]
pub struct Refitted {
    /// It was begun so many ticks ago.
    pub lag: u64,
    /// `None`: it is missed, as its rows have no least squares.
    pub linear: Option<[Linear; OPS]>,
}

/// What came of a fit: `None` where the rows have no least squares.
type Fitted = Arc<OnceLock<Option<[Linear; OPS]>>>;

impl PartialEq for Fitting {
    fn eq(&self, other: &Self) -> bool {
        (self.due, &self.grams) == (other.due, &other.grams)
    }
}

impl Refit {
    pub fn new(lag: u64) -> Self {
        Self {
            lag,
            grams: vec![Gram::default(); OPS],
            rows: VecDeque::new(),
            underway: None,
            next: 0,
        }
    }

    /// One that goes on from rows which were learned before.
    pub fn resume(lag: u64, learned: [Gram; OPS]) -> Self {
        Self { grams: learned.to_vec(), ..Self::new(lag) }
    }

    /// The first fit is begun not before this tick.
    pub fn await_tick(&mut self, tick: u64) {
        self.next = self.next.max(tick);
    }

    /// Takes in a tick, with the rows of it that are learned from. Returns what takes effect now.
    pub fn observe(
        &mut self,
        book: &Book,
        look: &Look,
        rows: impl Iterator<Item = usize>,
    ) -> Option<Refitted> {
        if self.rows.len() == HORIZON as usize {
            let rows = self.rows.pop_back().expect("it has as many");
            let ticks = TICKS.max(ROWS * OPS as f64 / rows.len().max(1) as f64);
            self.grams.iter_mut().for_each(|it| it.fade(1.0 - 1.0 / ticks));
            rows.iter().for_each(|it| self.learn(book, it));
        }
        let row = |at: usize| Row {
            at: at / OPS,
            op: at % OPS,
            base: book.tracks()[at / OPS][at % OPS].means()[BASE],
            features: look.0[at].to_vec(),
        };
        let is_old = FIRST <= book.ticks();
        let rows: Vec<_> = rows.filter(|_| is_old).map(row).collect();
        self.rows.push_front(rows);
        self.step(book.ticks())
    }

    fn learn(&mut self, book: &Book, row: &Row) {
        let mut told = [0.0; TARGETS];
        for (target, told) in told.iter_mut().enumerate() {
            let lag = |ahead: usize| book.load(row.at, row.op, HORIZON as usize - ahead);
            let Some(came) = came(target, lag) else { return };
            *told = root(came) - row.base;
        }
        let features: &[f32; FEATURES] =
            row.features.as_slice().try_into().expect("a row has all features");
        self.grams[row.op].add(features, &told);
    }

    fn step(&mut self, tick: u64) -> Option<Refitted> {
        if let Some(fitting) = self.underway.take_if(|it| it.due <= tick) {
            // The thread has long ended, or there is none after a restart.
            let linear = fitting.fitted.get_or_init(|| fit(&fitting.grams)).clone();
            return Some(Refitted { lag: tick - fitting.due + self.lag, linear });
        }
        if self.underway.is_none()
            && self.next <= tick
            && self.grams.iter().all(|it| ROWS_MIN <= it.rows())
        {
            self.next = tick + EVERY;
            let (grams, fitted) = (self.grams.clone(), Fitted::default());
            let (of, to) = (grams.clone(), fitted.clone());
            // Without a thread it is fitted when it is due.
            _ = thread::Builder::new()
                .name("refit".to_owned())
                .spawn(move || _ = to.get_or_init(|| fit(&of)));
            self.underway = Some(Fitting { due: tick + self.lag, grams, fitted });
        }
        None
    }
}

fn fit(grams: &[Gram]) -> Option<[Linear; OPS]> {
    let fitted: Result<Vec<_>, _> = grams.iter().map(Gram::fit).collect();
    fitted.ok()?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::forecast::features::CONSTANT;

    /// Feeds ticks of a load that grows and falls; returns the ticks at which a model came, with it.
    fn run(refit: &mut Refit, book: &mut Book, ticks: u64) -> Vec<(u64, Refitted)> {
        let mut came = Vec::new();
        for _ in 0..ticks {
            let tick = book.ticks();
            let load = |range: u64| ((tick * (range + 3)) % 29) as f32;
            let loads: Vec<_> = (0..50).map(|range| [load(range), load(range + 7)]).collect();
            book.observe(&loads);
            let look = book.look();
            if let Some(refitted) = refit.observe(book, &look, 0..100) {
                came.push((book.ticks(), refitted));
            }
        }
        came
    }

    #[test]
    fn model_comes_at_its_tick_and_is_the_same_after_a_restart() {
        let (mut refit, mut book) = (Refit::new(5), Book::new(50, 1_000));
        // Enough rows are known at 20 + 30 ticks and twenty more of fifty each, which fade, and one.
        let begun = 70;
        assert_eq!(run(&mut refit, &mut book, begun + 2), []);
        let bytes = postcard::to_stdvec(&refit).unwrap();
        let mut restarted: Refit = postcard::from_bytes(&bytes).unwrap();
        assert_eq!(restarted, refit);
        let mut later = book.clone();
        let came = run(&mut refit, &mut book, 60);
        assert_eq!(came, run(&mut restarted, &mut later, 60));
        let ticks: Vec<_> = came.iter().map(|it| it.0).collect();
        assert_eq!(ticks, [begun + 5, begun + 5 + EVERY]);
        assert!(came.iter().all(|it| it.1.lag == 5 && it.1.linear.is_some()));
        assert!(came[0].1 != came[1].1, "nothing was learned in between");
    }

    #[test]
    fn fit_without_least_squares_is_told_as_missed() {
        let (mut refit, mut book) = (Refit::new(5), Book::new(50, 1_000));
        run(&mut refit, &mut book, 71);
        refit.underway.as_mut().expect("it has begun").grams[1] = Gram::default();
        refit.underway.as_mut().expect("it has begun").fitted = Fitted::default();
        let came = run(&mut refit, &mut book, 30);
        assert_eq!(came, [(75, Refitted { lag: 5, linear: None })]);
    }

    #[test]
    fn who_goes_on_from_rows_fits_at_once() {
        let (mut refit, mut book) = (Refit::new(5), Book::new(50, 1_000));
        run(&mut refit, &mut book, 100);
        let learned = refit.grams.clone().try_into().unwrap();
        let begun = book.ticks() + 1;
        let came = run(&mut Refit::resume(5, learned), &mut book, 40);
        let ticks: Vec<_> = came.iter().map(|it| it.0).collect();
        assert_eq!(ticks, [begun + 5, begun + 5 + EVERY]);
    }

    #[test]
    fn few_rows_a_tick_are_kept_for_longer() {
        let kept = |rows: usize| {
            let (mut refit, mut book) = (Refit::new(5), Book::new(50, 1_000));
            run(&mut refit, &mut book, 60);
            let before = refit.grams[0].rows();
            refit.rows = vec![Vec::new(); HORIZON as usize - 1].into();
            refit.rows.push_back((0..rows).map(|_| refit_row()).collect());
            book.observe(&vec![[0.0; OPS]; 50]);
            let look = book.look();
            refit.observe(&book, &look, 0..0);
            before - (refit.grams[0].rows() - rows as f64)
        };
        let [few, many] = [2, 200].map(kept);
        assert!(0.0 < few && 5.0 * few < many, "{few} and {many} rows were forgotten");
    }

    fn refit_row() -> Row {
        let mut features = vec![0.0; FEATURES];
        features[CONSTANT] = 1.0;
        Row { at: 0, op: 0, base: 0.0, features }
    }
}
