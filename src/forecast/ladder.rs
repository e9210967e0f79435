//! Answers with the best of several models, each calibrated: one tick of loads in, a fan for each row out.
//!
//! ```text
//!  loads ──> settle: what came of earlier answers ──> pools of each model (conformal), losses (selector)
//!     └────> look ──> points ──────────> calibrated ─┐
//!                       └ linear fan ──> network ────┴──> calibrated ──> who leads ──> guard ──> answer
//! ```
//!
//! A row is an operation of a range; rows stand range by range, in it operation by operation. All is
//! in root space (`features`).
//!
//! * **Sound.** Fans ascend, are never negative and never NaN, whatever the load does.
//! * **No harm.** A model that is not calibrated, or lost more than persistence lately, is not used.
//!   Before any is calibrated a prior answers.

use std::collections::VecDeque;

use dataflows::forecast::{H1, HORIZON, MAX30, Q50, Q99, TARGETS};
use schemas::heatmap::LEVELS;

use super::candidates::{self, CANDIDATES, Candidate};
use super::conformal::{self, BUCKETS, Conformal, FRACTIONS, Fan, Place};
use super::features::{BASE, Book, Look, MEAN2, MEAN6, load, root};
use super::gru::{HIDDEN, Network, Parts, Seen, seen};
use super::guard::Guard;
use super::linear::Linear;
use super::prior::{self, Prior};
use super::selector::{Field, Selector};
use super::{AHEAD, OPS, came};

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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// The linear model alone: what a network is trained on.
    Linear,
    Full,
}

/// All models over the ranges of a key space, with what they remember.
pub struct Ladder {
    book: Book,
    /// Operations that there are.
    ops: Vec<usize>,
    linear: Option<[Linear; OPS]>,
    network: Option<Network>,
    depth: Depth,
    states: Vec<[f32; HIDDEN]>,
    guards: Vec<Guard>,
    calibration: Vec<Conformal>,
    selector: Selector,
    /// The answers of the last ticks, from the latest.
    origins: VecDeque<Answers>,
}

/// What all models say at the end of a tick.
#[derive(Clone, Debug)]
pub struct Answers {
    rows: Vec<Row>,
    has: [bool; CANDIDATES.len()],
    leaders: [[Option<Candidate>; 3]; OPS * TARGETS],
}

#[derive(Clone, Debug)]
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
            ops: ops.to_vec(),
            linear: None,
            network: None,
            depth: Depth::Full,
            states: vec![[0.0; HIDDEN]; ranges * OPS],
            guards: vec![Guard::default(); ranges * OPS],
            calibration: CANDIDATES.map(|it| Conformal::new(it.kind())).to_vec(),
            selector: Selector::default(),
            origins: VecDeque::new(),
        }
    }

    /// From the next answer on this model answers too.
    pub fn set_linear(&mut self, linear: [Linear; OPS]) {
        self.linear = Some(linear);
    }

    pub fn set_network(&mut self, network: Network) {
        self.network = Some(network);
    }

    pub fn set_depth(&mut self, depth: Depth) {
        self.depth = depth;
    }

    /// The linear model's fans of a row at the last answer, as the network corrects them.
    pub fn base(&self, at: usize) -> &[Parts; TARGETS] {
        &self.origins[0].rows[at].base
    }

    pub fn book(&self) -> &Book {
        &self.book
    }

    /// Takes in the loads of a tick without an answer: history for later ones.
    pub fn observe(&mut self, loads: &[[f32; OPS]]) {
        self.book.observe(loads);
    }

    /// Takes in the loads of a tick, and forecasts from its end on.
    pub fn answer(&mut self, loads: &[[f32; OPS]]) -> &Answers {
        self.book.observe(loads);
        self.settle();
        let look = self.book.look();
        let has = CANDIDATES.map(|it| {
            self.depth.has(it)
                && match it {
                    Candidate::Last
                    | Candidate::Mean2
                    | Candidate::Mean6
                    | Candidate::Mean20
                    | Candidate::Mean60 => true,
                    Candidate::Linear | Candidate::Swayed => self.linear.is_some(),
                    Candidate::Network | Candidate::Blend => {
                        self.linear.is_some() && self.network.is_some()
                    }
                }
        });
        let mut rows: Vec<_> = (0..look.0.len()).map(|at| self.row(at, &look)).collect();
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
                | Candidate::Linear => (),
            }
            self.calibrate(candidate, &mut rows);
        }
        let leaders = std::array::from_fn(|at| {
            [Field::Ewma, Field::Linear, Field::All]
                .map(|it| self.selector.leader(at / TARGETS, at % TARGETS, it))
        });
        self.origins.push_front(Answers { rows, has, leaders });
        self.origins.truncate(HORIZON as usize);
        &self.origins[0]
    }

    fn row(&self, at: usize, look: &Look) -> Row {
        let (range, op) = (at / OPS, at % OPS);
        let track = &self.book.tracks()[range][op];
        let linear = self.linear.as_ref().map(|it| &it[op]);
        let named = candidates::points(track, &look.0[at], linear);
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
            reactive: self.guards[at].is_up().then(|| last.max(track.means()[MEAN2])),
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
        let Some(network) = &self.network else { return };
        let ops = &self.ops;
        let at: Vec<_> = (0..rows.len()).filter(|it| ops.contains(&(it % OPS))).collect();
        let seen: Vec<_> = at.iter().map(|at| self.seen(*at, look, &rows[*at])).collect();
        let mut states: Vec<_> = at.iter().map(|at| self.states[*at]).collect();
        let deltas = network.answer(&seen, &mut states);
        for ((at, state), deltas) in at.into_iter().zip(states).zip(deltas) {
            self.states[at] = state;
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
        for (target, ahead) in AHEAD.into_iter().enumerate() {
            let Some(answers) = self.origins.get(ahead - 1) else { continue };
            for (at, row) in answers.rows.iter().enumerate() {
                let op = at % OPS;
                let track = &self.book.tracks()[at / OPS][op];
                let lag = |ahead_of_it: usize| track.lag(ahead - ahead_of_it).map(load);
                let Some(came) = came(target, lag).filter(|_| self.ops.contains(&op)) else {
                    continue;
                };
                if target == H1 {
                    let told = answers.fan(at, H1, Model::Shipped);
                    self.guards[at].observe(told[Q99] < root(came));
                }
                for candidate in CANDIDATES.into_iter().filter(|it| answers.has[*it as usize]) {
                    let c = candidate as usize;
                    let place = Place { op, target, bucket: row.buckets[target][c].into() };
                    let (named, told) = (&row.named[target][c], &row.told[target][c]);
                    let scale = candidate.scale(row.scale);
                    self.calibration[c].add(place, named, told.as_ref(), root(came), scale);
                    if let Some(told) = told {
                        self.selector.add(op, target, candidate, pinball(told, came));
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
        let row = &self.rows[at];
        let [ewma, linear, all] = self.leaders[at % OPS * TARGETS + target];
        let told = |it: Option<Candidate>| it.and_then(|it| row.told[target][it as usize]);
        let last = || told(Some(Candidate::Last));
        let fan = match model {
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
                (Some(_), None) | (None, _) => told(all)
                    .or_else(|| told(Some(Candidate::Linear)))
                    .or_else(|| told(Some(Candidate::Mean6))),
            },
        };
        fan.unwrap_or(row.prior[target])
    }

    /// Who answers as shipped; `None` for the prior.
    pub fn leader(&self, op: usize, target: usize) -> Option<Candidate> {
        self.leaders[op * TARGETS + target][2]
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
