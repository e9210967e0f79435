//! Scores what was answered of the mean of the next thirty ticks, on which decisions rest: skill and coverage.
//!
//! ```text
//!  answered fan, load of the tick ──> question ── thirty loads ──> what came ──┬─> loss of the fan ───┐
//!                                       └─> load + what it missed lately ──────┴─> loss of that ──────┴─> skill
//!                                                        └── below 0: this is published instead <───────────┘
//! ```
//!
//! * **Against persistence at its best.** The last load is given the spread that it had lately (`fading`), as far
//!   as that was known when it was asked: of what came later nobody could know. Where that is better, it is
//!   what stands in.
//! * **As it is published.** A fan is what people and plans see of a range, quantised, or would see if persistence
//!   did not stand in; of a range that was split or joined meanwhile nothing is said. Ranges that had no load,
//!   and were to have none, do not count.
//! * **Lately.** Scores fade by a sixtieth a tick. A verdict of which too little is left to tell is none.

use std::array;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

use dataflows::Tick;
use dataflows::forecast::{
    Forecast, H1, H6, H30, HORIZON, MAX30, MEAN30, Q10, Q90, RangeForecast, TARGETS,
};
use dataflows::quanta::quantise;
use schemas::RangeId;
use schemas::heatmap::LEVELS;
use serde::{Deserialize, Serialize};

use super::conformal::FRACTIONS;
use super::fading::{ENOUGH, Fading, STAYS};
use super::features::{load, root};
use super::known::{Known, per_second};
use super::{AHEAD, OPS};

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
    /// Roots by which the last load was off, by operation and target.
    off: [[Fading; TARGETS]; OPS],
    /// Their quantiles.
    spread: [[Spread; TARGETS]; OPS],
    sums: Sums,
    /// More was lost than by persistence, and since then not clearly less.
    harms: bool,
}

/// Roots at each level by which the last load is likely to be off; `None` where too little is known.
type Spread = Option<[f64; LEVELS.len()]>;

/// What was asked in a tick.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Asked {
    /// That of the mean of thirty ticks, by operation.
    spread: [Spread; OPS],
    questions: Vec<Question>,
}

/// Loads are microseconds a second.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Question {
    range: RangeId,
    op: usize,
    told: [u64; LEVELS.len()],
    last: f32,
    /// In microseconds, at each target: of a tick, and of the mean the sum.
    came_us: [u64; TARGETS],
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
        for (asked, ago) in self.asked.iter_mut().rev().zip(1..) {
            asked.questions.retain(|it| !gone.contains(&it.range));
            for it in &mut asked.questions {
                it.take(ago, ranges.get(&it.range).map_or(0, |known| known.load[it.op].tick_us));
            }
        }
        if self.asked.len() < HORIZON as usize {
            return;
        }
        let mut over = self.asked.pop_front().unwrap_or_default();
        over.questions.retain(Question::is_of_load);
        self.settle(&over, tick_ms);
        self.off.as_flattened_mut().iter_mut().for_each(Fading::fade);
        for (spreads, off) in self.spread.iter_mut().zip(&self.off) {
            for ((spread, off), ahead) in spreads.iter_mut().zip(off).zip(AHEAD) {
                *spread = off.quantiles(FRACTIONS, ahead, 1.0);
            }
        }
        let Sums { loss, persistence, within, count } = &mut self.sums;
        for it in [loss, persistence, within, count] {
            *it *= f64::from(STAYS[0]);
        }
        let least = if self.harms { GOOD_AGAIN_PERMILLE } else { 0 };
        self.harms = self.score().skill_permille.is_some_and(|it| it < least);
    }

    /// Tells whether persistence was better lately: then it is to stand in.
    pub fn harms(&self) -> bool {
        self.harms
    }

    /// Another forecast is to be judged from now on.
    pub fn judge_anew(&mut self) {
        (self.asked, self.sums, self.harms) = Default::default();
    }

    /// What persistence says of a range, with the spread that the last load had lately; what is told otherwise where
    /// no spread is known yet. An operation without any load for long has none.
    pub(super) fn persistence(
        &self,
        known: &Known,
        told: RangeForecast,
        tick_ms: u64,
    ) -> RangeForecast {
        let of = |op: usize, told: Forecast| {
            let load = &known.load[op];
            if load.is_quiet() {
                return Forecast::default();
            }
            let last = per_second(load.tick_us, tick_ms);
            Forecast(array::from_fn(|target| match &self.spread[op][target] {
                Some(it) => around(last, it),
                None => told.0[target],
            }))
        };
        RangeForecast { reads: of(0, told.reads), writes: of(1, told.writes) }
    }

    fn settle(&mut self, over: &Asked, tick_ms: u64) {
        for it in &over.questions {
            let Some(spread) = &over.spread[it.op] else { continue };
            let came = it.came(MEAN30, tick_ms);
            self.sums.loss += loss(&it.told, came);
            self.sums.persistence += loss(&around(it.last, spread), came);
            let within = (it.told[Q10]..=it.told[Q90]).contains(&quantise(came));
            self.sums.within += f64::from(u8::from(within));
            self.sums.count += 1.0;
        }
        for it in &over.questions {
            for (target, off) in self.off[it.op].iter_mut().enumerate() {
                off.add(root(it.came(target, tick_ms) as f32) - root(it.last));
            }
        }
    }

    /// Asks about what is answered in this tick.
    pub(super) fn ask(&mut self, questions: Vec<Question>) {
        let spread = self.spread.map(|it| it[MEAN30]);
        self.asked.push_back(Asked { spread, questions });
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
            let last = per_second(known.load[op].tick_us, tick_ms);
            Self { range, op, told: told[op], last, came_us: [0; TARGETS] }
        })
    }

    /// Takes in the load of a tick, so many after the one in which it was asked.
    fn take(&mut self, ago: usize, us: u64) {
        for target in [H1, H6, H30].into_iter().filter(|it| AHEAD[*it] == ago) {
            self.came_us[target] = us;
        }
        self.came_us[MEAN30] += us;
        self.came_us[MAX30] = self.came_us[MAX30].max(us);
    }

    /// What came at a target, a second.
    fn came(&self, target: usize, tick_ms: u64) -> u64 {
        let ticks = if target == MEAN30 { HORIZON } else { 1 };
        let us = u128::from(self.came_us[target]) * 1_000 / u128::from(ticks * tick_ms);
        u64::try_from(us).unwrap_or(u64::MAX)
    }

    fn is_of_load(&self) -> bool {
        0 < self.came_us[MEAN30] || self.told.iter().any(|it| 0 < *it)
    }
}

/// The last load with its spread, as it is published.
fn around(last: f32, spread: &[f64; LEVELS.len()]) -> [u64; LEVELS.len()] {
    spread.map(|off| quantise((load(root(last) + off as f32) + 0.5) as u64))
}

/// Pinball loss over all levels.
fn loss(fan: &[u64; LEVELS.len()], came: u64) -> f64 {
    let came = came as f64;
    let at = |(told, level): (&u64, &f64)| {
        let told = *told as f64;
        (came - told) * (level - f64::from(u8::from(came < told)))
    };
    fan.iter().zip(&FRACTIONS).map(at).sum()
}

#[cfg(test)]
mod tests {
    use std::ops::Range;

    use dataflows::forecast::{Forecast, TARGETS};

    use super::super::known::Load;
    use super::*;

    /// One range whose reads jump about 1,000 a second, tick by tick; `told` is what is answered.
    fn scored(ticks: Range<u64>, scores: &mut Scores, told: impl Fn(u64) -> [u64; LEVELS.len()]) {
        run(ticks, scores, |tick, _, _| RangeForecast {
            reads: Forecast([told(tick); TARGETS]),
            ..RangeForecast::default()
        });
    }

    fn run(
        ticks: Range<u64>,
        scores: &mut Scores,
        told: impl Fn(u64, &Scores, &Known) -> RangeForecast,
    ) {
        for tick in ticks {
            let mut known = Known::default();
            let tick_us = [200, 1_800, 900, 1_100][tick as usize % 4];
            known.load[0] = Load { tick_us, ..Load::default() };
            let ranges = (0..4).map(|id| (RangeId(id), Box::new(known.clone()))).collect();
            scores.observe(&ranges, &BTreeSet::new(), 1_000);
            let told = told(tick, scores, &known);
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
    fn what_stands_in_is_what_it_is_judged_against() {
        let mut scores = Scores::default();
        let none = RangeForecast::default();
        run(0..200, &mut scores, |_, scores, known| scores.persistence(known, none, 1_000));
        assert_eq!(scores.score().skill_permille, Some(0));
        let mut known = Known::default();
        known.load[0] = Load { tick_us: 900, ..Load::default() };
        let of_writes = RangeForecast { writes: Forecast([AROUND; TARGETS]), ..none };
        let told = scores.persistence(&known, of_writes, 1_000);
        assert_eq!(told.writes, Forecast::default(), "nothing was written");
        known.load[1] = known.load[0];
        let late = scores.persistence(&known, of_writes, 1_000);
        assert_eq!(late.writes, of_writes.writes, "nobody knows yet how writes spread");
        assert_eq!(late.reads, told.reads);
        // The greatest of thirty loads is always 1,800, and the least that it can follow is 200.
        let reads = told.reads.0;
        let most = load(root(900.0) + root(1_800.0) - root(200.0));
        assert!((reads[MAX30][Q90] as f32 / most - 1.0).abs() < 0.03, "{most}: {reads:?}");
        assert!(reads.iter().all(|it| it.is_sorted() && it[Q10] < it[Q90]), "{reads:?}");
        assert!(reads[MEAN30][Q90] < reads[H1][Q90], "{reads:?}");
    }

    #[test]
    fn verdict_of_which_too_little_is_left_is_none() {
        let mut scores = Scores::default();
        scored(0..200, &mut scores, |_| AROUND.map(|it| quantise(it) * 3));
        assert!(scores.harms());
        let none = BTreeMap::new();
        for _ in 0..300 {
            scores.observe(&none, &BTreeSet::new(), 1_000);
            scores.ask(Vec::new());
        }
        assert_eq!(scores.score(), Score::default());
        assert!(!scores.harms(), "nobody has asked anything for long");
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
            let is_between = (Some(0)..Some(GOOD_AGAIN_PERMILLE)).contains(&skill);
            between += u32::from(is_between && was && scores.harms());
            assert!(!is_between || was == scores.harms(), "tick {tick}: {skill:?}");
        }
        assert!(0 < between && !scores.harms(), "{:?}", scores.score());
    }
}
