//! Answers with those of several models that lost least, each calibrated: one tick of loads in, a fan for each row out.
//!
//! ```text
//!  loads ──> settle: what came of earlier answers ──> pools of each model (conformal), losses (selector)
//!     └────> look ──> points, drift ───> calibrated ─┐
//!                       └ linear fan ──> network ────┴──> calibrated ──> who lost little ──> guard ──> answer
//! ```
//!
//! A row is an operation of a range; rows stand range by range, in it operation by operation. All is
//! in root space (`features`). Of very many ranges some, in turn, tell what came of answers (`origins`).
//!
//! * **Sound.** Fans ascend, are never negative and never NaN, whatever the load does.
//! * **No harm.** A model that is not calibrated, or lost more than persistence lately, is not used.
//!   Before any is calibrated a prior answers.
//! * **Soon.** What drifts is known after ten ticks, but not what comes of it in thirty: until then it answers
//!   where it leads at a nearer target, as wide as the prior.

mod answers;
mod origins;

use std::{array, mem};

use dataflows::forecast::{H1, Q99, TARGETS};
use schemas::heatmap::LEVELS;
use serde::{Deserialize, Serialize};

use super::candidates::{self, CANDIDATES, Candidate, Points};
use super::conformal::{Conformal, FRACTIONS, Fan, Place};
use super::drift::Drift;
use super::features::{BASE, Book, Look, MEAN2, MEAN6, load, root};
use super::gru::{BLOCK, HIDDEN, Network, Parts, Seen, seen};
use super::guard::Guard;
use super::linear::{FitError, Gram, Linear};
use super::refit::{FOLLOWS, Refit};
use super::selector::Selector;
use super::{AHEAD, OPS, came};
pub use answers::Answers;
use answers::{Row, Table};
use origins::{Origin, Origins};

/// Who answers, as reports name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Model {
    Persistence,
    Ewma,
    Linear,
    Network,
    /// Those that the selector chose, behind the guard.
    Shipped,
}

/// All, in the order of the ladder.
pub const MODELS: [Model; 5] =
    [Model::Persistence, Model::Ewma, Model::Linear, Model::Network, Model::Shipped];

/// How much of the ladder is climbed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Depth {
    /// The linear model alone: what a network is trained on.
    Linear,
    Full,
}

/// All models over the ranges of a key space, with what they remember. Its serialised form is all but what was
/// learned before, which is named again.
///
/// A range takes about 1 kB, and one that is asked what came of its answers 25 kB beside that, and as much again
/// where a fit is prepared.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ladder {
    book: Book,
    drift: Drift,
    /// Operations that there are.
    ops: Vec<usize>,
    /// Fitted here.
    linear: Option<[Linear; OPS]>,
    refit: Option<Refit>,
    #[serde(skip)]
    before: Before,
    depth: Depth,
    lives: Vec<Life>,
    calibration: Vec<Conformal>,
    selector: Selector,
    origins: Origins,
    /// Follows from what comes next.
    #[serde(skip)]
    answers: Answers,
    #[serde(skip)]
    look: Scratch,
}

/// What goes on of a row from tick to tick, besides its loads.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Life {
    state: [f32; HIDDEN],
    guard: Guard,
    /// The root above which the next load is unexpected.
    ceiling: Option<f32>,
}

/// Where the look of a tick stands, so that the next one has a place; it says nothing.
#[derive(Clone, Debug, Default)]
struct Scratch(Look);

impl PartialEq for Scratch {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

/// What was learned before. A network is not told by its numbers.
#[derive(Clone, Debug, Default)]
struct Before {
    network: Option<Network>,
    /// Answers until there is one that was fitted here.
    linear: Option<[Linear; OPS]>,
}

impl PartialEq for Before {
    fn eq(&self, other: &Self) -> bool {
        (self.network.is_some(), &self.linear) == (other.network.is_some(), &other.linear)
    }
}

impl Ladder {
    pub fn new(ranges: usize, tick_ms: u64, ops: &[usize]) -> Self {
        Self {
            book: Book::new(ranges, tick_ms),
            drift: Drift::new(ranges),
            ops: ops.to_vec(),
            linear: None,
            refit: None,
            before: Before::default(),
            depth: Depth::Full,
            lives: vec![Life::default(); ranges * OPS],
            calibration: CANDIDATES.map(|it| Conformal::new(it.kind())).to_vec(),
            selector: Selector::default(),
            origins: Origins::default(),
            answers: Answers::default(),
            look: Scratch::default(),
        }
    }

    /// At most so many ranges a tick, in turn, are asked what came of their answers.
    pub fn sample(&mut self, ranges_max: usize) {
        self.origins.sample(ranges_max);
    }

    /// From the next answer on this model answers too.
    pub fn set_linear(&mut self, linear: [Linear; OPS]) {
        self.linear = Some(linear);
    }

    /// From now on it is fitted anew from what came of late; a fit takes effect so many ticks after it was
    /// begun.
    pub fn refit(&mut self, lag: u64) {
        let mut refit = Refit::new(lag);
        if self.before.linear.is_some() {
            refit.await_tick(FOLLOWS);
        }
        self.refit = Some(refit);
    }

    /// Likewise, from rows on which were learned before; its first fit answers from now on.
    pub fn resume_fits(&mut self, lag: u64, learned: [Gram; OPS]) -> Result<(), FitError> {
        self.linear = Some([learned[0].fit()?, learned[1].fit()?]);
        self.refit = Some(Refit::resume(lag, learned));
        Ok(())
    }

    pub fn set_network(&mut self, network: Network) {
        self.before.network = Some(network);
    }

    /// Until a linear model was fitted here this one answers.
    pub fn set_linear_before(&mut self, linear: [Linear; OPS]) {
        self.before.linear = Some(linear);
    }

    /// Forgets what is known of the models that were learned before, and of those that rest on them: states, what
    /// they missed, what they lost. Others have to earn their lead.
    pub fn forget_learned_before(&mut self) {
        self.lives.iter_mut().for_each(|it| it.state = [0.0; HIDDEN]);
        self.forget(&[Candidate::Network, Candidate::Blend]);
        if self.linear.is_none() {
            self.forget(&[Candidate::Linear, Candidate::Swayed]);
        }
    }

    fn forget(&mut self, candidates: &[Candidate]) {
        for it in candidates.iter().copied() {
            self.calibration[it as usize] = Conformal::new(it.kind());
            self.selector.forget(it);
            self.origins.forget(it);
        }
    }

    pub fn set_depth(&mut self, depth: Depth) {
        self.depth = depth;
    }

    /// The linear model's fans of a row at the last answer, as the network corrects them.
    pub fn base(&self, at: usize) -> &[Parts; TARGETS] {
        &self.answers.rows[at].base
    }

    pub fn book(&self) -> &Book {
        &self.book
    }

    /// Takes in the loads of a tick without an answer: history for later ones.
    pub fn observe(&mut self, loads: &[[f32; OPS]]) {
        self.book.observe(loads);
        self.drift.observe(&self.book, self.sampled());
    }

    /// Takes in the loads of a tick, and forecasts from its end on.
    pub fn answer(&mut self, loads: &[[f32; OPS]]) -> &Answers {
        self.book.observe(loads);
        self.settle();
        let sampled = self.sampled();
        let drift = self.drift.observe(&self.book, sampled.clone());
        let mut look = mem::take(&mut self.look.0);
        self.book.look_again(&mut look);
        let mut refitted = None;
        if let Some(refit) = &mut self.refit {
            let rows = sampled.clone().flat_map(|range| (0..OPS).map(move |op| range * OPS + op));
            refitted = refit.observe(&self.book, &look, rows);
            let linear = refitted.as_ref().and_then(|it| it.linear.clone());
            let follows = self.linear.is_none() && linear.is_some();
            self.linear = linear.or(self.linear.take());
            if follows && self.before.linear.is_some() {
                use Candidate::{Blend, Linear, Network, Swayed};
                // What the one before has missed is not what this one will.
                self.forget(&[Linear, Swayed, Network, Blend]);
            }
        }
        let has = CANDIDATES.map(|it| {
            self.depth.has(it)
                && match it {
                    Candidate::Last
                    | Candidate::Mean2
                    | Candidate::Mean6
                    | Candidate::Mean20
                    | Candidate::Mean60 => true,
                    Candidate::Drift => drift.is_some(),
                    Candidate::Linear | Candidate::Swayed => self.linear().is_some(),
                    Candidate::Network | Candidate::Blend => {
                        self.linear().is_some() && self.before.network.is_some()
                    }
                }
        });
        let mut rows = mem::take(&mut self.answers.rows);
        rows.clear();
        rows.extend(
            (0..look.0.len()).map(|at| self.row(at, &look, drift.as_ref().map(|it| &it[at]))),
        );
        let mut tables = [const { None }; CANDIDATES.len()];
        for candidate in CANDIDATES.into_iter().filter(|it| has[*it as usize]) {
            match candidate {
                Candidate::Network => self.correct(&look, &mut rows),
                Candidate::Swayed => self.steady(&mut rows),
                Candidate::Last
                | Candidate::Mean2
                | Candidate::Mean6
                | Candidate::Mean20
                | Candidate::Mean60
                | Candidate::Drift
                | Candidate::Linear
                | Candidate::Blend => (),
            }
            let calibration = &self.calibration[candidate as usize];
            let lately = |op: usize, target: usize| calibration.lately(op, target);
            tables[candidate as usize] = Some(Table::new(&rows, &self.ops, candidate, lately));
        }
        self.look = Scratch(look);
        self.answers = Answers::new(rows, tables, &self.selector, refitted);
        self.remember();
        &self.answers
    }

    pub fn answers(&self) -> &Answers {
        &self.answers
    }

    fn linear(&self) -> Option<&[Linear; OPS]> {
        self.linear.as_ref().or(self.before.linear.as_ref())
    }

    /// The ranges that are asked in this tick what came of their answers.
    fn sampled(&self) -> impl Iterator<Item = usize> + Clone + use<> {
        self.origins.sampled(self.book.ticks(), self.book.tracks().len())
    }

    /// Keeps what is needed when it is known what came of the answers.
    fn remember(&mut self) {
        for (at, life) in self.lives.iter_mut().enumerate() {
            life.ceiling = Some(self.answers.fan(at, H1, Model::Shipped)[Q99]);
        }
        let sampled = self.origins.sampled(self.book.ticks(), self.book.tracks().len());
        let rows: Vec<_> =
            sampled.flat_map(|range| self.ops.iter().map(move |op| range * OPS + op)).collect();
        for target in 0..TARGETS {
            let offsets = self.answers.tables.iter();
            let offsets =
                offsets.map(|it| it.as_ref().map_or(Vec::new(), |it| it.offsets_of(target)));
            let kept = rows.iter().map(|at| self.answers.kept(*at, target));
            let origin = Origin {
                has: self.answers.has(),
                offsets: offsets.collect(),
                rows: kept.collect(),
            };
            self.origins.add(target, origin);
        }
    }

    fn row(&self, at: usize, look: &Look, drift: Option<&[f64; TARGETS]>) -> Row {
        let (range, op) = (at / OPS, at % OPS);
        let track = &self.book.tracks()[range][op];
        let linear = self.linear().map(|it| &it[op]);
        let level = track.means()[MEAN6];
        let last = track.lag(0).unwrap_or(level);
        Row {
            points: Points::new(track, &look.0[at], linear, drift),
            network: Default::default(),
            base: Default::default(),
            scale: candidates::scale(track),
            level,
            reactive: self.lives[at].guard.is_up().then(|| last.max(track.means()[MEAN2])),
        }
    }

    /// Says what the network corrects.
    fn steady(&self, rows: &mut [Row]) {
        let candidate = Candidate::Swayed;
        let calibration = &self.calibration[candidate as usize];
        let steady = |op: usize, target: usize| calibration.steady(op, target);
        let table = Table::new(rows, &self.ops, candidate, steady);
        for (at, row) in rows.iter_mut().enumerate().filter(|it| self.ops.contains(&(it.0 % OPS))) {
            let scale = candidate.scale(row.scale);
            row.base = array::from_fn(|target| {
                let level = row.level(target, candidate);
                let offsets = table.offsets(at % OPS, target, level);
                let fan = offsets.map(|it| it.map(|offset| level + offset * scale));
                Parts::of(&fan.unwrap_or_else(|| answers::prior(target, row.level)))
            });
        }
    }

    /// Has the network correct the linear model's fans.
    fn correct(&mut self, look: &Look, rows: &mut [Row]) {
        let Some(network) = &self.before.network else { return };
        let at: Vec<_> = (0..rows.len()).filter(|it| self.ops.contains(&(it % OPS))).collect();
        for at in at.chunks(BLOCK) {
            let seen: Vec<_> = at.iter().map(|at| self.seen(*at, look, &rows[*at])).collect();
            let mut states: Vec<_> = at.iter().map(|at| self.lives[*at].state).collect();
            let deltas = network.answer(&seen, &mut states);
            for ((at, state), deltas) in at.iter().zip(states).zip(deltas) {
                self.lives[*at].state = state;
                let row = &mut rows[*at];
                let deltas = deltas.as_chunks::<{ LEVELS.len() }>().0.iter();
                for ((fan, base), deltas) in row.network.iter_mut().zip(&row.base).zip(deltas) {
                    *fan = base.fan(deltas);
                }
            }
        }
    }

    fn seen(&self, at: usize, look: &Look, row: &Row) -> Seen {
        let track = &self.book.tracks()[at / OPS][at % OPS];
        seen(&look.0[at], track.swing(), track.means()[BASE], &row.base)
    }

    /// Takes in what came of earlier answers.
    fn settle(&mut self) {
        for (at, life) in self.lives.iter_mut().enumerate() {
            let last = self.book.tracks()[at / OPS][at % OPS].lag(0);
            if let (Some(ceiling), Some(last)) = (life.ceiling, last) {
                life.guard.observe(ceiling < last);
            }
        }
        for (target, ahead) in AHEAD.into_iter().enumerate() {
            let Some(origin) = self.origins.settled(target) else { continue };
            for row in &origin.rows {
                let op = row.op;
                let lag = |ahead_of_it: usize| self.book.load(row.at, op, ahead - ahead_of_it);
                let Some(came) = came(target, lag) else { continue };
                for candidate in CANDIDATES.into_iter().filter(|it| origin.has[*it as usize]) {
                    let bucket = row.buckets[candidate as usize].into();
                    let place = Place { op, target, bucket };
                    let named = row.named(candidate);
                    let told = origin.told(row, candidate);
                    let scale = candidate.scale(row.scale);
                    let calibration = &mut self.calibration[candidate as usize];
                    calibration.add(place, &named, told.as_ref(), root(came), scale);
                    if let Some(told) = told {
                        self.selector.add(op, target, candidate, pinball(&told, came));
                    }
                }
            }
        }
        self.calibration.iter_mut().for_each(Conformal::close);
        self.selector.close();
    }
}

impl Depth {
    fn has(self, candidate: Candidate) -> bool {
        match self {
            Self::Linear => candidate == Candidate::Swayed,
            Self::Full => true,
        }
    }
}

/// Mean pinball loss of a fan, in operations.
pub fn pinball(fan: &Fan, came: f32) -> f64 {
    let losses = fan.iter().zip(FRACTIONS).map(|(root, level)| {
        let off = f64::from(came) - f64::from(load(*root));
        (off * level).max(off * (level - 1.0))
    });
    losses.sum::<f64>() / LEVELS.len() as f64
}

#[cfg(test)]
mod tests;
