//! Answers with the best of several models, each calibrated: one tick of loads in, a fan for each row out.
//!
//! ```text
//!  loads ──> settle: what came of earlier answers ──> pools of each model (conformal), losses (selector)
//!     └────> look ──> points, drift ───> calibrated ─┐
//!                       └ linear fan ──> network ────┴──> calibrated ──> who leads ──> guard ──> answer
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

mod origins;

use dataflows::forecast::{H1, H6, MAX30, Q50, Q99, TARGETS};
use schemas::heatmap::LEVELS;
use serde::{Deserialize, Serialize};

use super::candidates::{self, CANDIDATES, Candidate};
use super::conformal::{self, BUCKETS, Conformal, FRACTIONS, Fan, Kind, Place};
use super::drift::Drift;
use super::features::{BASE, Book, Look, MEAN2, MEAN6, load, root};
use super::gru::{BLOCK, HIDDEN, Network, Parts, Seen, seen};
use super::guard::Guard;
use super::linear::Linear;
use super::prior::{self, Prior};
use super::refit::Refit;
use super::selector::{Field, Selector};
use super::{AHEAD, OPS, came};
use origins::{Origin, Origins};

/// Who answers, as reports name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Model {
    Persistence,
    Ewma,
    Linear,
    Network,
    /// The one that the selector chose, behind the guard.
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

/// All models over the ranges of a key space, with what they remember. Its serialised form is all but the
/// network, which is named again.
///
/// A range takes about 1 kB, and one that is asked what came of its answers 20 kB beside that.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ladder {
    book: Book,
    drift: Drift,
    /// Operations that there are.
    ops: Vec<usize>,
    linear: Option<[Linear; OPS]>,
    refit: Option<Refit>,
    #[serde(skip)]
    network: Loaded,
    depth: Depth,
    lives: Vec<Life>,
    calibration: Vec<Conformal>,
    selector: Selector,
    origins: Origins,
    /// Follows from what comes next.
    #[serde(skip)]
    answers: Answers,
}

/// What goes on of a row from tick to tick, besides its loads.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Life {
    state: [f32; HIDDEN],
    guard: Guard,
    /// The root above which the next load is unexpected.
    ceiling: Option<f32>,
}

/// A network, which is not told by its numbers.
#[derive(Clone, Debug, Default)]
struct Loaded(Option<Network>);

impl PartialEq for Loaded {
    fn eq(&self, other: &Self) -> bool {
        self.0.is_some() == other.0.is_some()
    }
}

/// What all models say at the end of a tick.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Answers {
    rows: Vec<Row>,
    has: [bool; CANDIDATES.len()],
    leaders: Vec<[Option<Candidate>; 3]>,
    /// By (op, target): what drifts has been judged.
    judged: Vec<bool>,
}

#[derive(Clone, Debug, PartialEq)]
struct Row {
    named: [[Fan; CANDIDATES.len()]; TARGETS],
    /// `None` while the candidate is not calibrated.
    told: [[Option<Fan>; CANDIDATES.len()]; TARGETS],
    buckets: [[u8; CANDIDATES.len()]; TARGETS],
    /// The linear model's fan as it is for long: what the network corrects.
    base: [Parts; TARGETS],
    scale: f32,
    /// What answers while nobody is calibrated.
    prior: [Fan; TARGETS],
    /// What answers while the guard is up.
    reactive: Option<f32>,
}

impl Ladder {
    pub fn new(ranges: usize, tick_ms: u64, ops: &[usize]) -> Self {
        Self {
            book: Book::new(ranges, tick_ms),
            drift: Drift::new(ranges),
            ops: ops.to_vec(),
            linear: None,
            refit: None,
            network: Loaded::default(),
            depth: Depth::Full,
            lives: vec![Life::default(); ranges * OPS],
            calibration: CANDIDATES.map(|it| Conformal::new(it.kind())).to_vec(),
            selector: Selector::default(),
            origins: Origins::default(),
            answers: Answers::default(),
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
        self.refit = Some(Refit::new(lag));
    }

    pub fn set_network(&mut self, network: Network) {
        self.network = Loaded(Some(network));
    }

    /// Forgets what was learned of the network, and of those that rest on it: states, what they missed, what
    /// they lost. Another one has to earn its lead.
    pub fn forget_network(&mut self) {
        self.lives.iter_mut().for_each(|it| it.state = [0.0; HIDDEN]);
        for it in [Candidate::Network, Candidate::Blend] {
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
        self.drift.observe(&self.book);
    }

    /// Takes in the loads of a tick, and forecasts from its end on.
    pub fn answer(&mut self, loads: &[[f32; OPS]]) -> &Answers {
        self.book.observe(loads);
        self.settle();
        let drift = self.drift.observe(&self.book);
        let look = self.book.look();
        if let Some(refit) = &mut self.refit {
            let ranges = self.origins.sampled(self.book.ticks(), self.book.tracks().len());
            let rows = ranges.flat_map(|range| (0..OPS).map(move |op| range * OPS + op));
            self.linear = refit.observe(&self.book, &look, rows).or(self.linear.take());
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
                    Candidate::Linear | Candidate::Swayed => self.linear.is_some(),
                    Candidate::Network | Candidate::Blend => {
                        self.linear.is_some() && self.network.0.is_some()
                    }
                }
        });
        let mut rows: Vec<_> = (0..look.0.len())
            .map(|at| self.row(at, &look, drift.as_ref().map(|it| &it[at])))
            .collect();
        for candidate in CANDIDATES.into_iter().filter(|it| has[*it as usize]) {
            match candidate {
                Candidate::Network => self.correct(&look, &mut rows),
                Candidate::Swayed => self.steady(&mut rows),
                Candidate::Blend => rows.iter_mut().for_each(Row::blend),
                Candidate::Last
                | Candidate::Mean2
                | Candidate::Mean6
                | Candidate::Mean20
                | Candidate::Mean60
                | Candidate::Drift
                | Candidate::Linear => (),
            }
            self.calibrate(candidate, &mut rows);
        }
        let fields = [Field::Ewma, Field::Linear, Field::All];
        let leader =
            |at: usize| fields.map(|it| self.selector.leader(at / TARGETS, at % TARGETS, it));
        let leaders = (0..OPS * TARGETS).map(leader).collect();
        let judged = (0..OPS * TARGETS)
            .map(|it| self.selector.loss(it / TARGETS, it % TARGETS, Candidate::Drift).is_some())
            .collect();
        self.answers = Answers { rows, has, leaders, judged };
        self.remember();
        &self.answers
    }

    pub fn answers(&self) -> &Answers {
        &self.answers
    }

    /// Keeps what is needed when it is known what came of the answers.
    fn remember(&mut self) {
        for (at, life) in self.lives.iter_mut().enumerate() {
            life.ceiling = Some(self.answers.fan(at, H1, Model::Shipped)[Q99]);
        }
        let tick = self.book.ticks();
        for target in 0..TARGETS {
            let offsets = self.calibration.iter().map(|it| it.offsets_of(target)).collect();
            let rows = self.origins.sampled(tick, self.book.tracks().len());
            let rows = rows.flat_map(|range| self.ops.iter().map(move |op| range * OPS + op));
            let rows = rows.map(|at| self.answers.rows[at].origin(at, target)).collect();
            let has = self.answers.has;
            self.origins.add(target, Origin { has, offsets, rows });
        }
    }

    fn row(&self, at: usize, look: &Look, drift: Option<&[f64; TARGETS]>) -> Row {
        let (range, op) = (at / OPS, at % OPS);
        let track = &self.book.tracks()[range][op];
        let linear = self.linear.as_ref().map(|it| &it[op]);
        let named = candidates::points(track, &look.0[at], linear, drift);
        let level = track.means()[MEAN6];
        let prior = std::array::from_fn(|target| {
            let prior = if target == MAX30 { Prior::Max } else { Prior::Tick };
            prior::offsets(prior, f64::from(level)).map(|it| (level + it as f32).max(root(0.0)))
        });
        let last = track.lag(0).unwrap_or(level);
        Row {
            named,
            told: [[None; CANDIDATES.len()]; TARGETS],
            buckets: [[0; CANDIDATES.len()]; TARGETS],
            base: Default::default(),
            scale: candidates::scale(track),
            prior,
            reactive: self.lives[at].guard.is_up().then(|| last.max(track.means()[MEAN2])),
        }
    }

    /// Says what the network corrects.
    fn steady(&mut self, rows: &mut [Row]) {
        let candidate = Candidate::Swayed;
        let calibration = &mut self.calibration[candidate as usize];
        for_each_placed(&self.ops, candidate, rows, |place, fan, row| {
            let fan = calibration.steady(place, fan, candidate.scale(row.scale));
            row.base[place.target] = Parts::of(&fan.unwrap_or(row.prior[place.target]));
        });
    }

    /// Has the network correct the linear model's fans.
    fn correct(&mut self, look: &Look, rows: &mut [Row]) {
        let Some(network) = &self.network.0 else { return };
        let ops = &self.ops;
        let at: Vec<_> = (0..rows.len()).filter(|it| ops.contains(&(it % OPS))).collect();
        let seen: Vec<_> = at.iter().map(|at| self.seen(*at, look, &rows[*at])).collect();
        let mut states: Vec<_> = at.iter().map(|at| self.lives[*at].state).collect();
        let blocks = seen.chunks(BLOCK).zip(states.chunks_mut(BLOCK));
        let deltas: Vec<_> = blocks.flat_map(|(seen, it)| network.answer(seen, it)).collect();
        for ((at, state), deltas) in at.into_iter().zip(states).zip(deltas) {
            self.lives[at].state = state;
            for (target, deltas) in deltas.as_chunks::<{ LEVELS.len() }>().0.iter().enumerate() {
                rows[at].named[target][Candidate::Network as usize] =
                    rows[at].base[target].fan(deltas);
            }
        }
    }

    fn seen(&self, at: usize, look: &Look, row: &Row) -> Seen {
        let track = &self.book.tracks()[at / OPS][at % OPS];
        seen(&look.0[at], track.swing(), track.means()[BASE], &row.base)
    }

    fn calibrate(&mut self, candidate: Candidate, rows: &mut [Row]) {
        let c = candidate as usize;
        let calibration = &mut self.calibration[c];
        for_each_placed(&self.ops, candidate, rows, |place, fan, row| {
            let told = calibration.calibrated(place, fan, candidate.scale(row.scale));
            row.told[place.target][c] = told;
            row.buckets[place.target][c] = place.bucket as u8;
        });
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

/// Gives the fan that a candidate names of each row and target, with its bucket of level.
fn for_each_placed(
    ops: &[usize],
    candidate: Candidate,
    rows: &mut [Row],
    mut each: impl FnMut(Place, &Fan, &mut Row),
) {
    let c = candidate as usize;
    for &op in ops {
        for target in 0..TARGETS {
            let level = |row: &Row| row.named[target][c][Q50];
            let edges = conformal::edges(rows.iter().skip(op).step_by(OPS).map(level));
            for row in rows.iter_mut().skip(op).step_by(OPS) {
                let bucket = conformal::bucket(&edges, level(row));
                let fan = row.named[target][c];
                each(Place { op, target, bucket }, &fan, row);
            }
        }
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

impl Answers {
    /// The roots at each level that a model says of a row.
    pub fn fan(&self, at: usize, target: usize, model: Model) -> Fan {
        self.calibrated(at, target, model).unwrap_or_else(|| match model {
            Model::Shipped => self.foreseen(at, target),
            Model::Persistence | Model::Ewma | Model::Linear | Model::Network => {
                self.rows[at].prior[target]
            }
        })
    }

    /// Tells whether who leads at a nearer target is not yet known at this one.
    fn unjudged(&self, op: usize, target: usize) -> bool {
        target != H1
            && !self.judged[op * TARGETS + target]
            && self.nearest(op, target) == Some(Candidate::Drift)
    }

    /// Who leads at the next nearer target.
    fn nearest(&self, op: usize, target: usize) -> Option<Candidate> {
        let nearer: &[usize] = match target {
            H1 => return None,
            H6 => &[H1],
            _ => &[H6, H1],
        };
        let known = |it: &&usize| self.judged[op * TARGETS + **it];
        nearer.iter().find(known).and_then(|it| self.leader(op, *it))
    }

    /// Who answers as shipped, if a nearer target must tell, too; `None` for the prior.
    pub fn answering(&self, op: usize, target: usize) -> Option<Candidate> {
        let own = self.leader(op, target).filter(|_| !self.unjudged(op, target));
        own.or_else(|| self.nearest(op, target))
    }

    /// What is said before anything is known of a target: what leads at a nearer one, as wide as the prior.
    fn foreseen(&self, at: usize, target: usize) -> Fan {
        let row = &self.rows[at];
        let leader = self.nearest(at % OPS, target);
        let leader = leader.filter(|it| it.kind() == Kind::Point);
        let Some(leader) = leader.filter(|it| self.has[*it as usize]) else {
            return row.prior[target];
        };
        let level = row.named[target][leader as usize][Q50];
        let prior = if target == MAX30 { Prior::Max } else { Prior::Tick };
        prior::offsets(prior, f64::from(level)).map(|it| (level + it as f32).max(root(0.0)))
    }

    /// The same, if it rests on experience.
    pub fn calibrated(&self, at: usize, target: usize, model: Model) -> Option<Fan> {
        let row = &self.rows[at];
        let [ewma, linear, all] = self.leaders[at % OPS * TARGETS + target];
        let told = |it: Option<Candidate>| it.and_then(|it| row.told[target][it as usize]);
        let last = || told(Some(Candidate::Last));
        match model {
            Model::Persistence => last(),
            Model::Ewma => told(ewma.or(Some(Candidate::Mean6))),
            Model::Linear => told(linear.or(Some(Candidate::Linear))),
            Model::Network => told(Some(Candidate::Network)),
            Model::Shipped => match (row.reactive, last()) {
                (Some(level), Some(last)) => {
                    let rise = level - row.named[target][Candidate::Last as usize][Q50];
                    Some(last.map(|it| it + rise))
                }
                // While nobody's losses are known, by how much each knows.
                (Some(_), None) | (None, _) => self
                    .unjudged(at % OPS, target)
                    .then(|| self.foreseen(at, target))
                    .or_else(|| told(all))
                    .or_else(|| told(Some(Candidate::Linear)))
                    .or_else(|| told(Some(Candidate::Mean6))),
            },
        }
    }

    /// Who answers as shipped; `None` for the prior.
    pub fn leader(&self, op: usize, target: usize) -> Option<Candidate> {
        self.leaders.get(op * TARGETS + target)?[2]
    }

    /// The bucket of a row by its forecast.
    pub fn bucket(&self, at: usize, target: usize) -> usize {
        let bucket = self.rows[at].buckets[target][Candidate::Mean20 as usize];
        usize::from(bucket).min(BUCKETS - 1)
    }
}

impl Row {
    fn blend(&mut self) {
        for (named, base) in self.named.iter_mut().zip(&self.base) {
            let (network, linear) =
                (named[Candidate::Network as usize], base.fan(&[0.0; LEVELS.len()]));
            named[Candidate::Blend as usize] =
                std::array::from_fn(|i| (network[i] + linear[i]) / 2.0);
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
