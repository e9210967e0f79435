//! Has the ladder answer for the planner's ranges, by way of strips of the key space: loads in microseconds of
//! service in, quantiles out.
//!
//! ```text
//!  loads of strips in the tick ÷ cost of an operation ──> ladder ──> fan of each strip × cost
//!  what a range has of strips ───────────────────────────────────────────┴──> quantiles of the range
//! ```
//!
//! * **Alike, and for good.** Strips are of alike width and are never split: what one row teaches is true of
//!   another, and no history breaks.
//! * **In operations.** The ladder counts operations of the mean cost: it knows what chance does to those.
//! * **Of experience alone.** For what the ladder has none it says nothing, and another rung answers.

use dataflows::forecast::{MEAN30, Q50, TARGETS};
use schemas::RangeId;
use schemas::heatmap::LEVELS;
use serde::{Deserialize, Serialize};

use super::candidates::Candidate;
use super::features::load;
use super::gru::Network;
use super::ladder::{Ladder, Model as Answering};
use super::model::Model;
use super::refit::Refitted;
use super::{OPS, Part};

/// At most so many strips a tick, in turn, tell what came of their answers.
const SAMPLED_MAX: usize = 256;

/// A fit takes effect so many ticks after it was begun.
pub const REFIT_LAG: u64 = 5;

/// Loads at each level, in microseconds a tick.
type Row = [f64; LEVELS.len()];

/// By target; `None` where there is no experience.
pub type Loads = [Option<Row>; TARGETS];

/// The ladder over strips.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Climb {
    /// As many rows as there were strips in the first tick that had load.
    ladder: Option<Ladder>,
    /// Mean cost of an operation, in microseconds.
    unit_us: [f64; OPS],
    /// In no snapshot, but with the settings.
    #[serde(skip, default = "Model::shipped")]
    model: Model,
}

impl Climb {
    pub fn new() -> Self {
        Self { ladder: None, unit_us: [1.0; OPS], model: Model::shipped() }
    }

    /// Forgets what was learned here.
    pub fn forget(&mut self) {
        (self.ladder, self.unit_us) = (None, [1.0; OPS]);
    }

    /// From the next tick on, and after a restart, this model answers.
    pub fn load_model(&mut self, model: Model) {
        self.model = model;
        if let Some(ladder) = &mut self.ladder {
            load_model(ladder, &self.model);
        }
    }

    /// The same with another model than the one that has answered so far.
    pub fn swap_model(&mut self, model: Model) {
        self.ladder.iter_mut().for_each(Ladder::forget_learned_before);
        self.load_model(model);
    }

    /// Takes in a tick: the load of each strip in microseconds. Those before the first load count as none: what came
    /// of them says nothing of load.
    pub fn observe(&mut self, strips: &[[u64; OPS]], tick_ms: u64, unit_us: [f64; OPS]) {
        self.unit_us = unit_us;
        if self.ladder.is_none() && strips.as_flattened().iter().all(|it| *it == 0) {
            return;
        }
        let ladder = self.ladder.get_or_insert_with(|| begin(strips.len(), tick_ms, &self.model));
        let operations = |it: &[u64; OPS]| -> [f32; OPS] {
            std::array::from_fn(|op| (it[op] as f64 / unit_us[op]) as f32)
        };
        let loads: Vec<_> = strips.iter().map(operations).collect();
        ladder.answer(&loads);
    }

    /// What is forecast of ranges, reads and writes, by what they have of strips.
    pub fn answers(&self, parts: &[(RangeId, Vec<Part>)]) -> Vec<(RangeId, [Loads; OPS])> {
        let Some(ladder) = &self.ladder else { return Vec::new() };
        let strip = |at: usize, op: usize, target: usize| -> Option<Row> {
            let fan = ladder.answers().calibrated(at * OPS + op, target, Answering::Shipped)?;
            Some(fan.map(|root| f64::from(load(root)) * self.unit_us[op]))
        };
        let strips: Vec<[Loads; OPS]> = (0..ladder.book().tracks().len())
            .map(|at| std::array::from_fn(|op| std::array::from_fn(|it| strip(at, op, it))))
            .collect();
        let range = |parts: &[Part]| -> [Loads; OPS] {
            let of = |op: usize, target: usize| {
                sum(parts.iter().map(|it| Some((it.share[op], strips[it.strip][op][target]?))))
            };
            std::array::from_fn(|op| std::array::from_fn(|target| of(op, target)))
        };
        parts.iter().map(|(id, parts)| (*id, range(parts))).collect()
    }

    #[cfg(test)]
    pub fn book(&self) -> Option<&super::features::Book> {
        self.ladder.as_ref().map(Ladder::book)
    }

    /// The fit of the linear model that took effect in the last tick.
    pub fn refitted(&self) -> Option<&Refitted> {
        self.ladder.as_ref()?.answers().refitted()
    }

    /// Who answers for the mean of the next thirty ticks of reads, on which decisions rest; `None` while nobody
    /// here does.
    pub fn leader(&self) -> Option<Candidate> {
        let ladder = self.ladder.as_ref()?;
        let answers = ladder.answers();
        let says = |strip| answers.calibrated(strip * OPS, MEAN30, Answering::Shipped).is_some();
        let is_any = (0..ladder.book().tracks().len()).any(says);
        is_any.then(|| answers.answering(0, MEAN30)).flatten()
    }
}

fn load_model(ladder: &mut Ladder, model: &Model) {
    ladder.set_network(Network::new(&model.weights));
    ladder.set_linear_before(model.linear.clone());
}

fn begin(strips: usize, tick_ms: u64, model: &Model) -> Ladder {
    let mut ladder = Ladder::new(strips, tick_ms, &[0, 1]);
    load_model(&mut ladder, model);
    ladder.sample(SAMPLED_MAX);
    ladder.refit(REFIT_LAG);
    ladder
}

/// Adds up parts, each a share of a row: medians, and the squares of what levels are away from them, as strips
/// spread independently of each other.
fn sum(parts: impl Iterator<Item = Option<(f64, Row)>>) -> Option<Row> {
    let (mut median, mut squares) = (0.0, Row::default());
    for part in parts {
        let (share, row) = part?;
        median += row[Q50] * share;
        for (sum, load) in squares.iter_mut().zip(row) {
            let off = (load - row[Q50]) * share;
            *sum += off * off;
        }
    }
    Some(std::array::from_fn(|i| {
        let off = squares[i].sqrt();
        if i < Q50 { (median - off).max(0.0) } else { median + off }
    }))
}

#[cfg(test)]
mod tests {
    use dataflows::forecast::H1;
    use rand::{Rng, SeedableRng};
    use rand_pcg::Pcg64;

    use super::*;
    use crate::forecast::AHEAD;
    use crate::forecast::gru::Weights;
    use crate::forecast::refit::FOLLOWS;

    #[test]
    fn another_network_answers_from_the_tick_behind_its_swap_on_and_has_yet_to_earn_its_lead() {
        let random = &mut Pcg64::seed_from_u64(5);
        let mut other = Model::shipped();
        other.weights = Weights::untrained(random);
        other.weights.0[6].iter_mut().for_each(|it| *it = random.random_range(-0.5..0.5));
        let (mut stays, mut swaps) = (Climb::new(), Climb::new());
        let network = |it: &Climb, target: usize| {
            let answers = it.ladder.as_ref().unwrap().answers();
            (0..12)
                .map(|at| answers.calibrated(at * OPS, target, Answering::Network))
                .collect::<Vec<_>>()
        };
        for tick in 0..200_u64 {
            if tick == 190 {
                assert!(network(&swaps, MEAN30).iter().all(Option::is_some), "it has not answered");
                swaps.swap_model(other.clone());
            }
            let load =
                |strip: u64, op: u64| 200 * (5 + strip) + (tick * 7_919 + strip * 31 + op) % 500;
            let strips: Vec<_> =
                (0..12).map(|strip| [load(strip, 0), load(strip, 1) / 4]).collect();
            stays.observe(&strips, 1_000, [100.0; OPS]);
            swaps.observe(&strips, 1_000, [100.0; OPS]);
            let said = [&stays, &swaps].map(|it| [H1, MEAN30].map(|target| network(it, target)));
            match tick {
                0..190 => assert_eq!(said[0], said[1], "tick {tick}"),
                190 => assert!(
                    said[1].iter().flatten().all(Option::is_none),
                    "what it missed is not known"
                ),
                191.. => {
                    assert!(said[1][1].iter().all(Option::is_none), "nor of thirty ticks");
                    assert!(said[0][0].iter().all(Option::is_some), "tick {tick}");
                }
            }
        }
        let said = [stays, swaps].map(|it| network(&it, H1));
        assert!(said[1].iter().all(Option::is_some) && said[0] != said[1], "{said:?}");
    }

    #[test]
    fn network_answers_as_soon_as_anything_has_come_of_an_answer() {
        let mut climb = Climb::new();
        // The tick of the first answer that rests on this linear model.
        let mut first = 1;
        for tick in 1..=150_u64 {
            let load = |strip: u64| 2_000 + (tick * 7_919 + strip * 31) % 500;
            let strips: Vec<_> = (0..30).map(|it| [load(it), load(it + 7) / 4]).collect();
            climb.observe(&strips, 1_000, [100.0; OPS]);
            if climb.refitted().is_some() && first == 1 {
                first = tick;
            }
            let answers = climb.ladder.as_ref().unwrap().answers();
            for (target, ahead) in AHEAD.into_iter().enumerate() {
                let says = answers.calibrated(0, target, Answering::Network);
                assert_eq!(says.is_some(), ahead as u64 <= tick - first, "{target} at tick {tick}");
            }
        }
        assert_eq!(first, FOLLOWS + REFIT_LAG);
    }

    #[test]
    fn ticks_before_the_first_load_count_as_none() {
        let [mut waits, mut begins] = [Climb::new(), Climb::new()];
        let parts = [(RangeId(1), vec![Part { strip: 3, share: [1.0; OPS] }])];
        (0..40).for_each(|_| waits.observe(&[[0; OPS]; 12], 1_000, [100.0; OPS]));
        assert_eq!(waits.answers(&parts), []);
        for tick in 0..40_u64 {
            let strips: Vec<_> =
                (0..12).map(|it| [2_000 + (tick * 7_919 + it * 31) % 500, 0]).collect();
            for it in [&mut waits, &mut begins] {
                it.observe(&strips, 1_000, [100.0; OPS]);
            }
        }
        assert!(begins.answers(&parts)[0].1[0][MEAN30].is_some());
        assert_eq!(waits.answers(&parts), begins.answers(&parts));
    }

    #[test]
    fn medians_add_up_and_spreads_are_independent() {
        let row = |median: f64, off: f64| -> Row {
            std::array::from_fn(|i| median + (i as f64 - Q50 as f64) * off)
        };
        let parts = [Some((0.5, row(200.0, 6.0))), Some((1.0, row(10.0, 4.0)))];
        let both = sum(parts.into_iter()).unwrap();
        assert_eq!([both[Q50], both[Q50 + 1], both[Q50 + 3]], [110.0, 115.0, 125.0]);
        assert_eq!(both[0], 95.0);
        let low = sum([Some((1.0, row(1.0, 5.0)))].into_iter()).unwrap();
        assert_eq!(low[0], 0.0, "no load is below none");
        assert_eq!(sum([parts[0], None].into_iter()), None);
    }
}
