//! What all models say at the end of a tick.
//!
//! ```text
//!  what is named of a row ──> level ── edges ──> bucket ── offsets ──> its fan, as it is asked for
//!  (Row)                              └──────── Table, one a candidate ────────┘
//! ```
//!
//! Of ten models one is asked for a target, and of very many rows few are asked twice: so fans are not kept.

use std::array;

use dataflows::forecast::{H1, H6, MAX30, Q50, TARGETS};
use schemas::heatmap::LEVELS;

use super::super::OPS;
use super::super::candidates::{CANDIDATES, Candidate, Points};
use super::super::conformal::{self, BUCKETS, Edges, Fan, Kind, told};
use super::super::features::root;
use super::super::gru::Parts;
use super::super::prior::{self, Prior};
use super::super::refit::Refitted;
use super::super::selector::{Field, Selector};
use super::Model;
use super::origins::{POINTS, Told};

/// Of an operation no more rows than these say where its buckets begin.
const ROWS_MAX: usize = 4_096;

/// What [`Model::Ewma`] and [`Model::Linear`] are.
const RUNGS: [Field; 2] = [Field::Ewma, Field::Linear];

/// What all models say at the end of a tick.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Answers {
    pub(super) rows: Vec<Row>,
    /// By candidate; `None` of one that says nothing.
    pub(super) tables: [Option<Table>; CANDIDATES.len()],
    /// By (op, target): who leads on each of the rungs that are told on their own.
    leaders: Vec<[Option<Candidate>; RUNGS.len()]>,
    /// By (op, target): who answers as shipped, the leader first, and how much each counts.
    pub(super) ensembles: Vec<Vec<(Candidate, f32)>>,
    /// By (op, target): what drifts has been judged.
    judged: Vec<bool>,
    refitted: Option<Refitted>,
}

/// What is known of a row.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Row {
    pub points: Points,
    pub network: [Fan; TARGETS],
    /// The linear model's fan as it is for long: what the network corrects.
    pub base: [Parts; TARGETS],
    pub scale: f32,
    /// Where the prior lies, that answers while nobody is calibrated.
    pub level: f32,
    /// What answers while the guard is up.
    pub reactive: Option<f32>,
}

/// How what a candidate names is calibrated in a tick; by (op, target).
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Table {
    edges: Vec<Edges>,
    offsets: Vec<Offsets>,
}

/// What is added to a fan, by bucket; `None` where too little is known.
pub(super) type Offsets = [Option<Fan>; BUCKETS];

impl Row {
    pub fn named(&self, target: usize, candidate: Candidate) -> Fan {
        if candidate.kind() == Kind::Point {
            return [self.points.of(candidate, target); _];
        }
        let network = self.network[target];
        if candidate == Candidate::Network {
            return network;
        }
        let linear = self.base[target].fan(&[0.0; LEVELS.len()]);
        array::from_fn(|i| (network[i] + linear[i]) / 2.0)
    }

    /// The median that a candidate names.
    pub fn level(&self, target: usize, candidate: Candidate) -> f32 {
        match candidate.kind() {
            Kind::Point => self.points.of(candidate, target),
            Kind::Fan => self.named(target, candidate)[Q50],
        }
    }
}

impl Table {
    /// That of these operations; `offsets` says what is added.
    pub fn new(
        rows: &[Row],
        ops: &[usize],
        candidate: Candidate,
        offsets: impl Fn(usize, usize) -> Offsets,
    ) -> Self {
        let mut table = Self {
            edges: vec![Edges::default(); OPS * TARGETS],
            offsets: vec![Offsets::default(); OPS * TARGETS],
        };
        let step = (rows.len() / OPS).div_ceil(ROWS_MAX).max(1) * OPS;
        for (op, target) in ops.iter().flat_map(|op| (0..TARGETS).map(move |it| (*op, it))) {
            let levels = rows.iter().skip(op).step_by(step).map(|it| it.level(target, candidate));
            table.edges[op * TARGETS + target] = conformal::edges(levels);
            table.offsets[op * TARGETS + target] = offsets(op, target);
        }
        table
    }

    pub fn bucket(&self, op: usize, target: usize, level: f32) -> usize {
        conformal::bucket(&self.edges[op * TARGETS + target], level)
    }

    pub fn offsets(&self, op: usize, target: usize, level: f32) -> Option<&Fan> {
        let bucket = self.bucket(op, target, level);
        self.offsets[op * TARGETS + target][bucket].as_ref()
    }

    /// What is added at a target, by operation and bucket.
    pub fn offsets_of(&self, target: usize) -> Vec<Option<Fan>> {
        (0..OPS).flat_map(|op| self.offsets[op * TARGETS + target]).collect()
    }
}

impl Answers {
    /// What is said of these rows; of a candidate without a table nothing.
    pub(super) fn new(
        rows: Vec<Row>,
        tables: [Option<Table>; CANDIDATES.len()],
        selector: &Selector,
        refitted: Option<Refitted>,
    ) -> Self {
        let leader = |at: usize| RUNGS.map(|it| selector.leader(at / TARGETS, at % TARGETS, it));
        let ensemble = |at: usize| selector.ensemble(at / TARGETS, at % TARGETS);
        let judged =
            |at: usize| selector.loss(at / TARGETS, at % TARGETS, Candidate::Drift).is_some();
        Self {
            rows,
            tables,
            leaders: (0..OPS * TARGETS).map(leader).collect(),
            ensembles: (0..OPS * TARGETS).map(ensemble).collect(),
            judged: (0..OPS * TARGETS).map(judged).collect(),
            refitted,
        }
    }

    /// The fit of the linear model that took effect with these.
    pub fn refitted(&self) -> Option<&Refitted> {
        self.refitted.as_ref()
    }

    /// The roots at each level that a model says of a row.
    pub fn fan(&self, at: usize, target: usize, model: Model) -> Fan {
        self.calibrated(at, target, model).unwrap_or_else(|| match model {
            Model::Shipped => self.foreseen(at, target),
            Model::Persistence | Model::Ewma | Model::Linear | Model::Network => {
                prior(target, self.rows[at].level)
            }
        })
    }

    /// The same, if it rests on experience.
    pub fn calibrated(&self, at: usize, target: usize, model: Model) -> Option<Fan> {
        let row = &self.rows[at];
        let [ewma, linear] = self.leaders[at % OPS * TARGETS + target];
        let told = |it: Option<Candidate>| it.and_then(|it| self.told(at, target, it));
        let last = || told(Some(Candidate::Last));
        match model {
            Model::Persistence => last(),
            Model::Ewma => told(ewma.or(Some(Candidate::Mean6))),
            Model::Linear => told(linear.or(Some(Candidate::Linear))),
            Model::Network => told(Some(Candidate::Network)),
            Model::Shipped => match row.reactive.and_then(|it| Some((it, last()?))) {
                Some((level, last)) => {
                    let rise = level - row.points.last;
                    Some(last.map(|it| it + rise))
                }
                // While nobody's losses are known, by how much each knows; but who leads nearby is known to.
                None => self
                    .unjudged(at % OPS, target)
                    .then(|| self.foreseen(at, target))
                    .or_else(|| self.together(at, target))
                    .or_else(|| told(self.nearest_known(at % OPS, target)))
                    .or_else(|| told(Some(Candidate::Linear)))
                    .or_else(|| told(Some(Candidate::Mean6))),
            },
        }
    }

    /// The fan of a candidate with what it missed lately made good; `None` while too little is known.
    pub(super) fn told(&self, at: usize, target: usize, candidate: Candidate) -> Option<Fan> {
        let (row, table) = (&self.rows[at], self.tables[candidate as usize].as_ref()?);
        let offsets = table.offsets(at % OPS, target, row.level(target, candidate))?;
        Some(told(&row.named(target, candidate), offsets, candidate.scale(row.scale)))
    }

    /// What those of the ensemble say who can, the others beside the first of them.
    fn together(&self, at: usize, target: usize) -> Option<Fan> {
        let ensemble = self.ensembles.get(at % OPS * TARGETS + target)?.iter();
        let mut told = ensemble.filter_map(|(it, say)| Some((self.told(at, target, *it)?, *say)));
        let (first, leading) = told.next()?;
        Some(mean(first, told.map(|(fan, say)| (fan, say / leading))))
    }

    /// Tells whether who leads at a nearer target is not yet known at this one.
    fn unjudged(&self, op: usize, target: usize) -> bool {
        target != H1
            && !self.judged[op * TARGETS + target]
            && self.nearest(op, target) == Some(Candidate::Drift)
    }

    /// Who leads at the next nearer target at which what drifts has been judged, too.
    fn nearest(&self, op: usize, target: usize) -> Option<Candidate> {
        let known = |it: &&usize| self.judged[op * TARGETS + **it];
        nearer(target).iter().find(known).and_then(|it| self.leader(op, *it))
    }

    /// Who leads at the next nearer target at which anybody has been judged.
    fn nearest_known(&self, op: usize, target: usize) -> Option<Candidate> {
        nearer(target).iter().find_map(|it| self.leader(op, *it))
    }

    /// Who answers as shipped, if a nearer target must tell, too; `None` for the prior.
    pub fn answering(&self, op: usize, target: usize) -> Option<Candidate> {
        match self.unjudged(op, target) {
            true => self.nearest(op, target),
            false => self.leader(op, target).or_else(|| self.nearest_known(op, target)),
        }
    }

    /// What is said before anything is known of a target: what leads at a nearer one, as wide as the prior.
    fn foreseen(&self, at: usize, target: usize) -> Fan {
        let row = &self.rows[at];
        let leader = self.nearest(at % OPS, target);
        let leader = leader.filter(|it| it.kind() == Kind::Point);
        let leader = leader.filter(|it| self.tables[*it as usize].is_some());
        prior(target, leader.map_or(row.level, |it| row.level(target, it)))
    }

    /// Who answers as shipped; `None` for the prior.
    pub fn leader(&self, op: usize, target: usize) -> Option<Candidate> {
        self.ensembles.get(op * TARGETS + target)?.first().map(|it| it.0)
    }

    /// The bucket of a row by its forecast.
    pub fn bucket(&self, at: usize, target: usize) -> usize {
        self.bucket_by(at, target, Candidate::Mean20)
    }

    fn bucket_by(&self, at: usize, target: usize, candidate: Candidate) -> usize {
        let level = self.rows[at].level(target, candidate);
        self.tables[candidate as usize].as_ref().map_or(0, |it| it.bucket(at % OPS, target, level))
    }

    /// Which candidates say something.
    pub(super) fn has(&self) -> [bool; CANDIDATES.len()] {
        self.tables.each_ref().map(Option::is_some)
    }

    /// What is kept of a row until it is known what came of it.
    pub(super) fn kept(&self, at: usize, target: usize) -> Told {
        let row = &self.rows[at];
        Told {
            at: at / OPS,
            op: at % OPS,
            points: array::from_fn(|it| row.points.of(CANDIDATES[it], target)),
            fans: array::from_fn(|it| row.named(target, CANDIDATES[POINTS + it])),
            buckets: CANDIDATES.map(|it| self.bucket_by(at, target, it) as u8),
            scale: row.scale,
        }
    }
}

/// The nearer targets, the next one first.
fn nearer(target: usize) -> &'static [usize] {
    match target {
        H1 => &[],
        H6 => &[H1],
        _ => &[H6, H1],
    }
}

/// The mean of a leader's fan and those of others, by their weights beside its. Where the leader says that
/// nothing may come, nothing may: some load and none make a load in the mean, and rows without any are many.
fn mean(leading: Fan, others: impl Iterator<Item = (Fan, f32)>) -> Fan {
    let (mut sum, mut all) = (leading, 1.0);
    for (fan, weight) in others {
        sum.iter_mut().zip(fan).for_each(|(sum, it)| *sum += weight * it);
        all += weight;
    }
    array::from_fn(|i| if leading[i] <= root(0.0) { leading[i] } else { sum[i] / all })
}

/// What is said of a level of which nothing is known.
pub(super) fn prior(target: usize, level: f32) -> Fan {
    let of = if target == MAX30 { Prior::Max } else { Prior::Tick };
    prior::offsets(of, f64::from(level)).map(|it| (level + it as f32).max(root(0.0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mean_counts_each_by_its_weight_and_leaves_none_where_the_leader_has_none() {
        let none = root(0.0);
        let leading = [none, none, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
        assert_eq!(mean(leading, [].into_iter()), leading);
        let others = [([2.0; _], 0.5), ([8.0; _], 0.5)];
        let wanted = [none, none, 3.0, 3.5, 4.0, 4.5, 5.0, 5.5];
        assert_eq!(mean(leading, others.into_iter()), wanted);
    }
}
