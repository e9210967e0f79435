//! Scores what was answered of the mean of the next thirty ticks, on which decisions rest: skill and coverage.
//!
//! ```text
//!  answered fan, load of the tick ──> question ── thirty loads ──> what came ──┬─> loss of the fan ───┐
//!                                       └─> load + what it missed lately ──────┴─> loss of that ──────┴─> skill
//!                                                                               below 0: persistence answers
//! ```
//!
//! * **Against persistence at its best.** The last load is given the spread that it had lately (`fading`), as far
//!   as that was known when it was asked: of what came later nobody could know.
//! * **As it is published.** A fan is what people and plans see of a range, quantised, or would see if persistence
//!   did not answer instead; of a range that was split or joined meanwhile nothing is said. Ranges that had no load, and were to have none, do not count.
//! * **Lately.** Scores fade by a sixtieth a tick.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use dataflows::Tick;
use dataflows::forecast::{HORIZON, MEAN30, Q10, Q90, RangeForecast};
use dataflows::quanta::quantise;
use schemas::RangeId;
use schemas::heatmap::LEVELS;
use serde::{Deserialize, Serialize};

use super::OPS;
use super::conformal::FRACTIONS;
use super::fading::{ENOUGH, Fading, STAYS};
use super::features::{load, root};
use super::known::Known;

/// At most so many ranges, in turn, are asked for in a tick.
const ASKED_MAX: usize = 32;

/// What did harm is used again at this skill.
const GOOD_AGAIN_PERMILLE: i32 = 50;

/// How good answers were lately, in thousandths.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Score {
    /// By how much less was lost than by persistence: 1,000 is perfect, 0 no better, and less is worse. `None`:
    /// it is not known yet.
    pub skill_permille: Option<i32>,
    /// How much of what came lay in the 80 % interval.
    pub coverage80_permille: Option<u32>,
}

/// Questions, and what came of earlier ones.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Scores {
    /// Those of the last ticks, the oldest first.
    asked: VecDeque<Asked>,
    /// Roots by which the last load missed, by operation.
    missed: [Fading; OPS],
    sums: Sums,
    /// More was lost than by persistence, and since then not clearly less.
    harms: bool,
}

/// What was asked in a tick.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Asked {
    /// Roots at each level by which the last load was likely to miss, by operation.
    spread: [Option<[f64; LEVELS.len()]>; OPS],
    questions: Vec<Question>,
}

/// Loads are microseconds a second.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Question {
    range: RangeId,
    op: usize,
    told: [u64; LEVELS.len()],
    last: f32,
    /// In microseconds, since it was asked.
    came_us: u64,
}

/// Fading sums over questions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Sums {
    loss: f64,
    persistence: f64,
    within: f64,
    count: f64,
}

impl Scores {
    /// Takes in the loads of a tick. Of ranges that were born or died in it nothing is asked any more.
    pub(super) fn observe(
        &mut self,
        ranges: &BTreeMap<RangeId, Box<Known>>,
        gone: &BTreeSet<RangeId>,
        tick_ms: u64,
    ) {
        for asked in &mut self.asked {
            asked.questions.retain(|it| !gone.contains(&it.range));
            for it in &mut asked.questions {
                it.came_us += ranges.get(&it.range).map_or(0, |known| known.load[it.op].tick_us);
            }
        }
        if self.asked.len() < HORIZON as usize {
            return;
        }
        let mut over = self.asked.pop_front().unwrap_or_default();
        over.questions.retain(Question::is_of_load);
        self.settle(&over, tick_ms);
        self.missed.iter_mut().for_each(Fading::fade);
        let Sums { loss, persistence, within, count } = &mut self.sums;
        for it in [loss, persistence, within, count] {
            *it *= f64::from(STAYS[0]);
        }
        if let Some(skill) = self.score().skill_permille {
            self.harms = skill < if self.harms { GOOD_AGAIN_PERMILLE } else { 0 };
        }
    }

    /// Tells whether persistence was better lately: then it is to answer.
    pub fn harms(&self) -> bool {
        self.harms
    }

    fn settle(&mut self, over: &Asked, tick_ms: u64) {
        let came = |it: &Question| {
            let us = u128::from(it.came_us) * 1_000 / u128::from(HORIZON * tick_ms);
            u64::try_from(us).unwrap_or(u64::MAX)
        };
        for it in &over.questions {
            let Some(spread) = &over.spread[it.op] else { continue };
            let (came, last) = (came(it), root(it.last));
            let persistence = spread.iter().map(|off| f64::from(load(last + *off as f32)));
            let told = it.told.iter().map(|it| *it as f64);
            self.sums.loss += loss(told, came as f64);
            self.sums.persistence += loss(persistence, came as f64);
            let within = (it.told[Q10]..=it.told[Q90]).contains(&quantise(came));
            self.sums.within += f64::from(u8::from(within));
            self.sums.count += 1.0;
        }
        for it in &over.questions {
            self.missed[it.op].add(root(came(it) as f32) - root(it.last));
        }
    }

    /// Asks about what is answered in this tick.
    pub(super) fn ask(&mut self, questions: Vec<Question>) {
        let spread = |op: usize| self.missed[op].quantiles(FRACTIONS, HORIZON as usize, 1.0);
        self.asked.push_back(Asked { spread: std::array::from_fn(spread), questions });
    }

    pub fn score(&self) -> Score {
        let Sums { loss, persistence, within, count } = self.sums;
        if count < ENOUGH || persistence <= 0.0 {
            return Score::default();
        }
        // A skill below that of -1,000 would say no more.
        let skill = (1.0 - loss / persistence).clamp(-1.0, 1.0);
        Score {
            skill_permille: Some((skill * 1_000.0).round() as i32),
            coverage80_permille: Some((within / count * 1_000.0).round() as u32),
        }
    }
}

/// Tells of which of so many ranges a tick asks.
pub(super) fn asks(ranges: usize, tick: Tick) -> impl Fn(usize) -> bool {
    let stride = ranges.div_ceil(ASKED_MAX).max(1);
    let first = tick as usize % stride;
    move |at| at % stride == first
}

impl Question {
    /// Those of a range, of reads and of writes.
    pub fn of(range: RangeId, known: &Known, told: &RangeForecast, tick_ms: u64) -> [Self; OPS] {
        let told = [told.reads, told.writes].map(|it| it.0[MEAN30]);
        std::array::from_fn(|op| {
            let last = known.load[op].tick_us as f32 * 1_000.0 / tick_ms as f32;
            Self { range, op, told: told[op], last, came_us: 0 }
        })
    }

    fn is_of_load(&self) -> bool {
        0 < self.came_us || self.told.iter().any(|it| 0 < *it)
    }
}

/// Pinball loss over all levels.
fn loss(fan: impl Iterator<Item = f64>, came: f64) -> f64 {
    let at =
        |(told, level): (f64, &f64)| (came - told) * (level - f64::from(u8::from(came < told)));
    fan.zip(&FRACTIONS).map(at).sum()
}

#[cfg(test)]
mod tests {
    use std::ops::Range;

    use dataflows::forecast::{Forecast, TARGETS};

    use super::super::known::Load;
    use super::*;

    /// One range whose reads jump about 1,000 a second, tick by tick; `told` is what is answered.
    fn scored(ticks: Range<u64>, scores: &mut Scores, told: impl Fn(u64) -> [u64; LEVELS.len()]) {
        for tick in ticks {
            let mut known = Known::default();
            let tick_us = [200, 1_800, 900, 1_100][tick as usize % 4];
            known.load[0] = Load { tick_us, ..Load::default() };
            let reads = Forecast([told(tick); TARGETS]);
            let told = RangeForecast { reads, ..RangeForecast::default() };
            let ranges = (0..4).map(|id| (RangeId(id), Box::new(known.clone()))).collect();
            scores.observe(&ranges, &BTreeSet::new(), 1_000);
            let questions = ranges.iter().flat_map(|(id, it)| Question::of(*id, it, &told, 1_000));
            scores.ask(questions.collect());
        }
    }

    fn score(ticks: u64, told: impl Fn(u64) -> [u64; LEVELS.len()]) -> Score {
        let mut scores = Scores::default();
        scored(0..ticks, &mut scores, told);
        scores.score()
    }

    const AROUND: [u64; LEVELS.len()] = [900, 920, 950, 1_000, 1_050, 1_080, 1_100, 1_200];

    /// What is asked of ranges without load.
    fn of_none<'a>(ranges: impl IntoIterator<Item = &'a RangeId>) -> Vec<Question> {
        let none = (Known::default(), RangeForecast::default());
        let of = |id: &RangeId| Question::of(*id, &none.0, &none.1, 1_000);
        ranges.into_iter().flat_map(of).collect()
    }

    #[test]
    fn mean_beats_what_jumps_about_it_and_a_wrong_one_does_not() {
        let good = score(200, |_| AROUND.map(quantise));
        assert!(700 < good.skill_permille.unwrap(), "{good:?}");
        assert_eq!(good.coverage80_permille, Some(1_000));
        let bad = score(200, |_| AROUND.map(|it| quantise(it) * 3));
        assert!(bad.skill_permille.unwrap() < 0, "{bad:?}");
        assert_eq!(bad.coverage80_permille, Some(0));
        let last = score(200, |tick| [[200, 1_800, 900, 1_100][tick as usize % 4]; LEVELS.len()]);
        assert!(last.skill_permille.unwrap() < 0, "without its spread it is worse: {last:?}");
        assert!(last.coverage80_permille.unwrap() < 500, "{last:?}");
    }

    #[test]
    fn nothing_is_said_before_enough_is_known_and_nothing_of_no_load() {
        let none = Score::default();
        assert_eq!(score(HORIZON, |_| [1_000; LEVELS.len()]), none);
        let mut scores = Scores::default();
        let known = Box::<Known>::default();
        let ranges: BTreeMap<_, _> = [(RangeId(1), known)].into();
        for _ in 0..300 {
            scores.observe(&ranges, &BTreeSet::new(), 1_000);
            scores.ask(of_none(ranges.keys()));
        }
        assert_eq!(scores.score(), none);
    }

    #[test]
    fn range_that_was_split_is_not_asked_for_any_more() {
        let mut scores = Scores::default();
        let ranges: BTreeMap<_, _> =
            (0..3).map(|it| (RangeId(it), Box::<Known>::default())).collect();
        scores.ask(of_none(ranges.keys()));
        scores.observe(&ranges, &[RangeId(1)].into(), 1_000);
        let left: Vec<_> = scores.asked[0].questions.iter().map(|it| (it.range.0, it.op)).collect();
        assert_eq!(left, [(0, 0), (0, 1), (2, 0), (2, 1)]);
    }

    #[test]
    fn of_many_ranges_some_are_asked_for_in_turn() {
        let asked = |tick: u64| {
            let asks = asks(1_000, tick);
            (0..1_000).filter(move |it| asks(*it))
        };
        assert!((0..40).all(|tick| asked(tick).count() <= ASKED_MAX));
        assert_eq!((0..40).flat_map(asked).collect::<BTreeSet<_>>().len(), 1_000);
        assert!((0..ASKED_MAX).all(asks(ASKED_MAX, 7)), "of few, all");
    }

    #[test]
    fn what_lost_more_than_persistence_harms_until_it_is_clearly_better() {
        let mut scores = Scores::default();
        let wrong = |_| AROUND.map(|it| quantise(it) * 3);
        scored(0..200, &mut scores, wrong);
        assert!(scores.harms());
        let mut between = 0;
        for tick in 200..1_000 {
            let was = scores.harms();
            scored(tick..tick + 1, &mut scores, |_| AROUND.map(quantise));
            let skill = scores.score().skill_permille;
            let (low, high) = (skill < Some(0), Some(GOOD_AGAIN_PERMILLE) <= skill);
            assert_eq!(scores.harms(), low || (was && !high), "tick {tick}: {skill:?}");
            between += u32::from(was && !low && !high);
        }
        assert!(0 < between && !scores.harms(), "{:?}", scores.score());
    }
}
