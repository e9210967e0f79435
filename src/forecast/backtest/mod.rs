//! Backtests the ladder on a panel: what each model would have said, beside what came.
//!
//! ```text
//!  0 ─────────── 60 % ───────── 75 % ────────────── 100 % of the bins
//!  linear model    every answer   every answer also
//!  is fitted       calibrates     is scored, if its target is within
//! ```
//!
//! * **Out of sample.** What the linear model learns ends thirty bins before the first part does; a
//!   network is not scored on a span that it was trained on.
//! * **As it runs.** Models, calibration, selector and guard are those of the ladder, tick by tick; what
//!   came is known to them when it is over, and the linear model is fitted anew from it as a planner does.
//! * **Suspicious.** Loads of one bin cannot be known better than Poisson arrivals are. What is below
//!   that is reported as a suspected leak.

mod report;
mod score;
mod nodes;
mod trail;
mod fan;
mod duel;

use dataflows::forecast::{H1, H6, H30, TARGETS};
use serde::{Deserialize, Serialize};

use super::climb::REFIT_LAG;
use super::conformal::BUCKETS;
use super::gru::Network;
use super::ladder::{Ladder, MODELS, Model as Answering};
use super::linear::FitError;
use super::model::Model;
use super::panel::Panel;
use super::{AHEAD, OPS};
pub use duel::duel;
pub use fan::picture;
pub use nodes::NodeLine;
use nodes::Nodes;
pub use report::{node_table, table};
use score::Score;
use trail::Trails;
pub use trail::{Point, Trail};

/// Per cent of the bins from which on answers calibrate, and from which on they are scored.
pub const LEARNED_PERCENT: usize = 60;
pub const CALIBRATED_PERCENT: usize = 75;

/// The targets, as reports name them.
const NAMES: [&str; TARGETS] = ["h1", "h6", "h30", "mean30", "max30"];

/// The weighted quantile loss of Poisson loads of mean m is this over √m.
const POISSON: f64 = 0.405;

/// What is scored is followed by so many bins.
const AHEAD_MAX: usize = AHEAD[H30];

/// With fewer bins there is nothing to score.
const BINS_MIN: usize = 200;

/// Why a panel cannot be backtested.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BacktestError {
    #[error("it has {0} bins, and a backtest needs {BINS_MIN}")]
    Short(usize),
    #[error("the model was trained on some of its bins from {from} on, which are scored")]
    TrainedOn { from: usize },
    #[error("no linear model: {0}")]
    Fit(#[from] FitError),
}

/// Which operations a line is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Op {
    Read,
    Write,
    All,
}

/// What one model came to, at one target.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Line {
    pub panel: String,
    pub op: Op,
    pub target: String,
    pub model: String,
    pub wql: f64,
    /// One less the loss over that of persistence.
    pub skill: f64,
    pub relmae: f64,
    pub cover80: f64,
    pub cover90: f64,
    pub exceed99: f64,
    /// The least loss that is possible; only for loads of one bin.
    pub floor: Option<f64>,
    /// Better than possible.
    pub suspected_leak: bool,
    /// By level: rows without load, fifths, the hottest twentieth.
    pub buckets: Vec<Bucket>,
}

/// The coverage of rows of a level.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Bucket {
    pub count: u64,
    pub cover80: f64,
    pub cover90: f64,
    pub exceed99: f64,
}

/// Scores of a panel by (op, target, model, bucket).
type Scores = Vec<[[[Score; BUCKETS]; MODELS.len()]; TARGETS]>;

/// What came of a backtest.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Backtest {
    pub lines: Vec<Line>,
    pub nodes: Vec<NodeLine>,
    /// What was said of the busiest row, to be drawn.
    pub trails: Vec<Trail>,
}

/// Backtests a panel, with a network or without. `told` hears of every bin.
pub fn backtest(
    panel: &Panel,
    model: Option<&Model>,
    mut told: impl FnMut(usize),
) -> Result<Backtest, BacktestError> {
    let bins = panel.bins.len();
    if bins < BINS_MIN {
        return Err(BacktestError::Short(bins));
    }
    let [learned, calibrated] = [LEARNED_PERCENT, CALIBRATED_PERCENT].map(|it| bins * it / 100);
    let mut spans = model.iter().flat_map(|it| &it.head.panels);
    if spans.any(|it| it.has(panel, calibrated)) {
        return Err(BacktestError::TrainedOn { from: calibrated });
    }
    let mut ladder = Ladder::new(panel.ranges(), panel.bin_ms, &panel.ops);
    ladder.resume_fits(REFIT_LAG, panel.sums(learned))?;
    if let Some(model) = model {
        ladder.set_network(Network::new(&model.weights));
    }
    let mut scores: Scores = vec![Default::default(); OPS];
    let mut trails = Trails::new(panel, calibrated);
    let mut nodes = Nodes::new(panel);
    for (bin, loads) in panel.bins.iter().enumerate() {
        told(bin);
        if bin < learned {
            ladder.observe(loads);
            nodes.observe(loads);
            continue;
        }
        let answers = ladder.answer(loads);
        nodes.add(panel, bin, answers, calibrated <= bin);
        // All targets are scored at the same bins, so that they can be compared.
        if bin < calibrated || bins <= bin + AHEAD_MAX {
            continue;
        }
        trails.add(panel, bin, answers);
        for (range, op) in
            (0..panel.ranges()).flat_map(|it| panel.ops.iter().map(move |op| (it, *op)))
        {
            let at = range * OPS + op;
            for target in 0..TARGETS {
                let Some(came) = panel.came(bin, range, op, target) else { continue };
                let bucket = answers.bucket(at, target);
                for (model, scores) in MODELS.into_iter().zip(&mut scores[op][target]) {
                    scores[bucket].add(&answers.fan(at, target, model), came);
                }
            }
        }
    }
    let lines = lines(panel, model.is_some(), &scores, calibrated);
    let nodes = nodes.done(panel).into_iter().collect();
    Ok(Backtest { lines, nodes, trails: trails.done() })
}

fn lines(panel: &Panel, has_network: bool, scores: &Scores, calibrated: usize) -> Vec<Line> {
    let mut ops: Vec<_> = panel
        .ops
        .iter()
        .map(|op| (if *op == 0 { Op::Read } else { Op::Write }, vec![*op]))
        .collect();
    ops.push((Op::All, panel.ops.clone()));
    let mut lines = Vec::new();
    for (op, of) in ops {
        for (target, name) in NAMES.into_iter().enumerate() {
            let bins = calibrated + AHEAD[target]..panel.bins.len() - AHEAD_MAX + AHEAD[target];
            let floor =
                matches!(target, H1 | H6 | H30).then(|| floor(panel, &of, &panel.bins[bins]));
            let (persistence, _) = joined(scores, &of, target, 0);
            for (at, model) in MODELS.into_iter().enumerate() {
                if model == Answering::Network && !has_network {
                    continue;
                }
                let (score, buckets) = joined(scores, &of, target, at);
                if !score.has_load() {
                    continue;
                }
                let wql = score.wql();
                lines.push(Line {
                    panel: panel.name.clone(),
                    op,
                    target: name.to_owned(),
                    model: model.to_string(),
                    wql,
                    skill: score.skill(&persistence),
                    relmae: score.relmae(&persistence),
                    cover80: score.cover80(),
                    cover90: score.cover90(),
                    exceed99: score.exceed99(),
                    floor,
                    suspected_leak: floor.is_some_and(|it| wql < it),
                    buckets: buckets.iter().map(Bucket::of).collect(),
                });
            }
        }
    }
    lines
}

/// The scores of a model over some operations: of all rows, and by bucket.
fn joined(
    scores: &Scores,
    ops: &[usize],
    target: usize,
    model: usize,
) -> (Score, [Score; BUCKETS]) {
    let mut buckets = [Score::default(); BUCKETS];
    for op in ops {
        let of = scores[*op][target][model].iter();
        buckets.iter_mut().zip(of).for_each(|(bucket, score)| bucket.join(score));
    }
    let mut all = Score::default();
    buckets.iter().for_each(|it| all.join(it));
    (all, buckets)
}

/// The loss of one who knew the mean of each range in these bins.
fn floor(panel: &Panel, ops: &[usize], bins: &[Vec<[f32; OPS]>]) -> f64 {
    let mut sums = (0.0, 0.0);
    for (range, op) in (0..panel.ranges()).flat_map(|it| ops.iter().map(move |op| (it, *op))) {
        let mean = bins.iter().map(|it| f64::from(it[range][op])).sum::<f64>() / bins.len() as f64;
        sums = (sums.0 + POISSON * mean.sqrt(), sums.1 + mean);
    }
    sums.0 / sums.1.max(f64::MIN_POSITIVE)
}

impl Bucket {
    fn of(score: &Score) -> Self {
        let (cover80, cover90) = (score.cover80(), score.cover90());
        Self { count: score.count(), cover80, cover90, exceed99: score.exceed99() }
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand_distr::{Distribution, Poisson};
    use rand_pcg::Pcg64;

    use super::*;
    use crate::forecast::gru::Weights;
    use crate::forecast::model::Span;

    /// Poisson loads, each range at a level of its own.
    fn poisson() -> Panel {
        let mut random = Pcg64::seed_from_u64(8);
        let mut line = || -> String {
            let load = |range: u32| Poisson::new(f64::from(20 + 7 * range)).unwrap();
            let loads: Vec<_> =
                (0..12).map(|range| load(range).sample(&mut random).to_string()).collect();
            loads.join(",") + "\n"
        };
        let header: Vec<_> = (0..12).map(|it| format!("r{it}")).collect();
        let text: String = (0..600).map(|_| line()).collect();
        Panel::parse("poisson", 10_000, &format!("{}\n{text}", header.join(","))).unwrap()
    }

    fn model(spans: Vec<Span>) -> Model {
        let network = Weights::untrained(&mut Pcg64::seed_from_u64(1));
        Model::new((network, Default::default()), 1, 1, spans)
    }

    #[test]
    fn poisson_loads_are_known_as_well_as_they_can_be_and_no_better() {
        let panel = poisson();
        let lines = backtest(&panel, Some(&model(Vec::new())), |_| ()).unwrap().lines;
        assert_eq!(lines.len(), 2 * TARGETS * MODELS.len());
        for line in lines.iter().filter(|it| it.target.starts_with('h')) {
            let floor = line.floor.unwrap();
            assert!(0.98 * floor < line.wql && !line.buckets.is_empty(), "{line:?}");
            if ["linear", "network", "shipped"].contains(&line.model.as_str()) {
                assert!(line.wql < 1.1 * floor, "{line:?}");
                assert!((0.76..0.84).contains(&line.cover80), "{line:?}");
                assert!((0.0..0.025).contains(&line.exceed99), "{line:?}");
            }
        }
    }

    #[test]
    fn operation_that_is_not_asked_in_the_end_is_not_scored() {
        let mut panel = poisson();
        panel.ops = vec![0, 1];
        panel.bins[..400].iter_mut().flatten().for_each(|it| it[1] = it[0]);
        let lines = backtest(&panel, None, |_| ()).unwrap().lines;
        assert!(
            lines.iter().any(|it| it.op == Op::Read) && lines.iter().all(|it| it.op != Op::Write)
        );
        let numbers = |it: &Line| [it.wql, it.skill, it.relmae].into_iter().all(f64::is_finite);
        assert!(lines.iter().all(numbers), "{lines:?}");
    }

    #[test]
    fn loads_that_repeat_themselves_are_a_suspected_leak() {
        let mut panel = poisson();
        for (at, bin) in panel.bins.iter_mut().enumerate() {
            bin.iter_mut()
                .enumerate()
                .for_each(|(range, it)| it[0] = (100 + at / 40 + range) as f32);
        }
        let lines = backtest(&panel, None, |_| ()).unwrap().lines;
        let leak = |it: &&Line| it.suspected_leak && it.model == "linear" && it.target == "h1";
        assert!(lines.iter().any(|it| leak(&it)), "{}", table(&lines, false));
        assert!(table(&lines, false).contains("suspected leak"));
    }

    #[test]
    fn span_that_a_model_was_trained_on_is_not_scored() {
        let panel = poisson();
        let run = |to: usize| backtest(&panel, Some(&model(vec![Span::of(&panel, to)])), |_| ());
        assert!(run(360).is_ok() && run(450).is_ok());
        assert_eq!(run(451), Err(BacktestError::TrainedOn { from: 450 }));
        assert_eq!(backtest(&panel.until(199), None, |_| ()), Err(BacktestError::Short(199)));
        // Of a table bins count, whatever length they are said to have.
        let said = Panel { bin_ms: 60_000, ..panel.clone() };
        let run_said = |to: usize| {
            let model = model(vec![Span::of(&panel, to)]);
            backtest(&said, Some(&model), |_| ()).is_ok()
        };
        assert!(run_said(450) && !run_said(451));
        // The same log, later and in longer bins: 225 of 300 bins, 20 s each, are not scored.
        let panel = Panel { start_ms: Some(0), ..panel };
        let later = Panel { start_ms: Some(1_000_000), ..panel.clone() };
        let longer = Panel { bin_ms: 20_000, start_ms: Some(1_000_000), ..panel.until(300) };
        let model = |from: &Panel, to| {
            let spans = vec![Span::of(from, to)];
            Some(model(spans))
        };
        let is_scored =
            |it: &Panel, model: Option<Model>| backtest(it, model.as_ref(), |_| ()).is_ok();
        assert!(is_scored(&later, model(&panel, 550)) && !is_scored(&later, model(&panel, 551)));
        assert!(is_scored(&longer, model(&later, 450)) && !is_scored(&longer, model(&later, 451)));
        let behind = Panel { start_ms: Some(6_000_000), ..panel.clone() };
        assert!(is_scored(&panel, model(&behind, 600)), "what was learned begins behind it");
    }
}
