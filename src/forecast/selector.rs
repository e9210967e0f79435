//! Chooses models by what they lost lately, for each operation and target.
//!
//! ```text
//!  pinball loss of a row ──> lately, and for long (fading) ──> mean ──> the least leads
//!                                                               └────> who lost hardly more has a say
//! ```
//!
//! * Only calibrated forecasts count, of which the truth is known. Who leads stays until another is
//!   better by a hundredth: a lead that is chance would make forecasts jump.
//! * **Together.** The pinball loss is convex: a mean of quantiles loses no more than those do in the mean, and less
//!   where they err apart. So the best of each other rung answers along, the less the more it has lost.
//! * **Who learns goes before who does not.** What a model lost before it knew much says little of what it loses
//!   now. So the first losses fade fastest, and who can learn more counts more.
//! * **No harm.** Nobody answers who has lost more than persistence.

use dataflows::forecast::TARGETS;
use serde::{Deserialize, Serialize};

use super::candidates::{CANDIDATES, Candidate};
use super::fading::{ENOUGH, STAYS, share};
use super::{AHEAD, OPS};

/// Another must have lost less than this part of what the leader lost.
const LEAD: f64 = 0.99;

/// Who has lost so much more than the leader, as a part of that, has no say; by target. What is thirty ticks ahead
/// overlaps from tick to tick, so that losses tell less.
const NEAR: [f64; TARGETS] = [0.1, 0.1, 0.15, 0.15, 0.15];

/// A loss counts by the square of the tick at which it was known, until all that is older fades alike.
const LEARNING: f64 = 2.0;

/// The losses of all models, and who leads.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Selector {
    /// By (op, target, candidate), in that order.
    losses: Vec<Recent>,
    /// By (op, target): of each field of candidates who leads.
    leaders: Vec<Vec<(Field, Candidate)>>,
}

/// Among whom is chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Field {
    Ewma,
    Linear,
    Network,
    All,
}

/// All, in the order of the ladder.
const FIELDS: [Field; 4] = [Field::Ewma, Field::Linear, Field::Network, Field::All];

/// Losses and their number, that fade as residuals do.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Recent {
    lately: [f64; 2],
    long: [f64; 2],
    /// Ticks since the first was known.
    age: f64,
}

impl Field {
    fn candidates(self) -> &'static [Candidate] {
        use Candidate::{
            Blend, Drift, Last, Linear, Mean2, Mean6, Mean20, Mean60, Network, Swayed,
        };
        match self {
            Self::Ewma => &[Mean6, Mean2, Mean20, Mean60],
            Self::Linear => &[Linear, Swayed],
            Self::Network => &[Network, Blend],
            Self::All => {
                &[Mean6, Last, Mean2, Mean20, Mean60, Drift, Linear, Swayed, Network, Blend]
            }
        }
    }
}

impl Default for Selector {
    fn default() -> Self {
        Self {
            losses: vec![Recent::default(); OPS * TARGETS * CANDIDATES.len()],
            leaders: vec![Vec::new(); OPS * TARGETS],
        }
    }
}

impl Selector {
    pub fn add(&mut self, op: usize, target: usize, candidate: Candidate, loss: f64) {
        let recent = &mut self.losses[place(op, target, candidate)];
        for [sum, count] in [&mut recent.lately, &mut recent.long] {
            *sum += loss;
            *count += 1.0;
        }
    }

    /// Forgets what one has lost.
    pub fn forget(&mut self, candidate: Candidate) {
        for at in 0..OPS * TARGETS {
            self.losses[at * CANDIDATES.len() + candidate as usize] = Recent::default();
            self.leaders[at].retain(|it| it.1 != candidate);
        }
    }

    /// Ends a tick.
    pub fn close(&mut self) {
        for it in self.losses.iter_mut().filter(|it| 0.0 < it.long[1]) {
            it.age += 1.0;
            let long = f64::from(STAYS[1]).min(1.0 - LEARNING / (it.age + LEARNING));
            it.lately.iter_mut().for_each(|it| *it *= f64::from(STAYS[0]));
            it.long.iter_mut().for_each(|it| *it *= long);
        }
        for op in 0..OPS {
            for target in 0..TARGETS {
                let leaders = FIELDS
                    .into_iter()
                    .filter_map(|field| Some((field, self.lead(op, target, field)?)));
                self.leaders[op * TARGETS + target] = leaders.collect();
            }
        }
    }

    /// Who leads; `None` while nobody has lost enough to tell.
    pub fn leader(&self, op: usize, target: usize, field: Field) -> Option<Candidate> {
        let leaders = &self.leaders[op * TARGETS + target];
        leaders.iter().find(|it| it.0 == field).map(|it| it.1)
    }

    /// Who answers, and how much each counts: the leader and the best of other rungs, who counts most first.
    pub fn ensemble(&self, op: usize, target: usize) -> Vec<(Candidate, f32)> {
        let Some(leader) = self.leader(op, target, Field::All) else { return Vec::new() };
        let lost = |it: Candidate| self.loss(op, target, it);
        let (least, last) = (lost(leader), lost(Candidate::Last));
        let weight = |it: Candidate| {
            let loss = lost(it).filter(|it| last.is_none_or(|last| *it <= last))?;
            let weight = 1.0 - (loss / least? - 1.0) / NEAR[target];
            (0.0 < weight).then(|| (it, weight.min(1.0) as f32))
        };
        let best =
            [Field::Ewma, Field::Linear, Field::Network].map(|it| self.leader(op, target, it));
        let others = best.into_iter().flatten().chain([Candidate::Drift, Candidate::Last]);
        let others = others.filter(|it| it.rung() != leader.rung()).filter_map(weight);
        let mut told: Vec<_> = [(leader, 1.0)].into_iter().chain(others).collect();
        told.iter_mut().for_each(|(it, weight)| *weight *= it.say());
        told.sort_by(|a, b| b.1.total_cmp(&a.1));
        told
    }

    /// Mean loss of a row lately, in operations.
    pub fn loss(&self, op: usize, target: usize, candidate: Candidate) -> Option<f64> {
        let Recent { lately, long, .. } = &self.losses[place(op, target, candidate)];
        let share = share(lately[1] / AHEAD[target] as f64);
        let mean = |[sum, count]: &[f64; 2]| sum / count.max(1e-9);
        (ENOUGH <= long[1]).then(|| share * mean(lately) + (1.0 - share) * mean(long))
    }

    fn lead(&self, op: usize, target: usize, field: Field) -> Option<Candidate> {
        let lost = |it: Candidate| Some((self.loss(op, target, it)?, it));
        let known = field.candidates().iter().filter_map(|it| lost(*it));
        let best = known.min_by(|a, b| a.0.total_cmp(&b.0))?;
        let before = self.leader(op, target, field).and_then(lost);
        Some(before.filter(|it| it.0 * LEAD <= best.0).unwrap_or(best).1)
    }
}

fn place(op: usize, target: usize, candidate: Candidate) -> usize {
    (op * TARGETS + target) * CANDIDATES.len() + candidate as usize
}

#[cfg(test)]
mod tests {
    use dataflows::forecast::MEAN30;

    use super::*;

    fn feed(it: &mut Selector, ticks: usize, losses: &[(Candidate, f64)]) {
        for _ in 0..ticks {
            for (candidate, loss) in losses {
                (0..10).for_each(|_| it.add(0, 0, *candidate, *loss));
            }
            it.close();
        }
    }

    #[test]
    fn who_lost_least_lately_leads_and_keeps_the_lead_against_chance() {
        use Candidate::{Last, Linear, Mean6, Network};
        let mut it = Selector::default();
        it.close();
        assert_eq!(it.leader(0, 0, Field::All), None);
        feed(&mut it, 50, &[(Last, 3.0), (Mean6, 2.0), (Linear, 1.0)]);
        let leaders = FIELDS.map(|field| it.leader(0, 0, field));
        assert_eq!(leaders, [Some(Mean6), Some(Linear), None, Some(Linear)]);
        assert_eq!(it.leader(1, 0, Field::All), None, "writes are another matter");
        feed(&mut it, 300, &[(Last, 3.0), (Linear, 1.0), (Network, 0.995)]);
        assert_eq!(it.leader(0, 0, Field::All), Some(Linear));
        feed(&mut it, 300, &[(Last, 0.5), (Linear, 1.0), (Network, 0.995)]);
        assert_eq!(it.leader(0, 0, Field::All), Some(Last), "what is worse is not used");
    }

    #[test]
    fn best_of_each_rung_answers_along_the_less_the_more_it_has_lost() {
        use Candidate::{Drift, Last, Linear, Mean6, Mean20, Network, Swayed};
        let mut it = Selector::default();
        assert_eq!(it.ensemble(0, 0), []);
        // None of the leader's own rung, nor the second of another, nor who lost too much more.
        let losses = [(Linear, 1.0), (Swayed, 1.0), (Mean6, 1.05), (Mean20, 1.06), (Drift, 1.11)];
        feed(&mut it, 60, &[&losses[..], &[(Last, 1.2), (Network, 1.02)]].concat());
        let told = it.ensemble(0, 0);
        assert_eq!(told.iter().map(|it| it.0).collect::<Vec<_>>(), [Linear, Network, Mean6]);
        for ((_, weight), wanted) in told.into_iter().zip([1.0, 0.8, 0.125]) {
            assert!((weight - wanted).abs() < 1e-5, "{weight}, not {wanted}");
        }
        // Nor who lost more than persistence, however little more.
        feed(&mut it, 600, &[(Linear, 1.0), (Last, 1.01), (Mean6, 1.02), (Network, 1.005)]);
        let told = it.ensemble(0, 0);
        assert_eq!(told.iter().map(|it| it.0).collect::<Vec<_>>(), [Linear, Network, Last]);
    }

    #[test]
    fn who_learns_counts_most_though_another_lost_a_little_less() {
        use Candidate::{Drift, Linear, Mean6};
        let mut it = Selector::default();
        feed(&mut it, 60, &[(Mean6, 1.0), (Drift, 1.0), (Linear, 1.02)]);
        assert_eq!(it.leader(0, 0, Field::All), Some(Mean6));
        let told = it.ensemble(0, 0);
        assert_eq!(told.iter().map(|it| it.0).collect::<Vec<_>>(), [Linear, Drift, Mean6]);
    }

    #[test]
    fn losses_of_the_first_ticks_count_little_soon() {
        use Candidate::{Linear, Mean6};
        let mut it = Selector::default();
        // Losses that overlap by thirty ticks fade slowly else.
        let mut lose = |ticks, linear| {
            for _ in 0..ticks {
                it.add(0, MEAN30, Mean6, 1.0);
                it.add(0, MEAN30, Linear, linear);
                it.close();
            }
            it.leader(0, MEAN30, Field::All)
        };
        assert_eq!(lose(100, 1.5), Some(Mean6));
        assert_eq!(lose(100, 0.9), Some(Linear), "in the mean of all ticks it lost 1.2");
    }
}
