//! Trains the network of the forecast.

use std::io::IsTerminal;
use std::path::PathBuf;

use clap::Args;

use super::exit::{Exit, Fault};
use super::forecast::{bar, each, model, refusal};
use super::panels::PanelArgs;
use super::result_file::ResultFile;
use super::{Flag, print};
use crate::config::Config;
use crate::forecast::backtest::{
    Backtest, BacktestError, CALIBRATED_PERCENT, LEARNED_PERCENT, Line, Op, duel, table,
};
use crate::forecast::linear::FitError;
use crate::forecast::model::{Model, Span};
use crate::forecast::panel::Panel;
use crate::forecast::train::{Step, fit, train};

#[derive(Clone, Debug, Args)]
#[command(
    after_help = "The first 60 % of each panel are trained on, and the last 25 % are scored: what comes of the model there \
                  stands in it. It is written if it loses no more there than the champion does."
)]
pub struct TrainArgs {
    #[command(flatten)]
    pub panels: PanelArgs,
    /// Where the model is written
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
    /// The same seed and panels give the same model
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
    /// How often weights are changed
    #[arg(long, value_name = "N", default_value_t = 2_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub steps: u32,
    /// Begin with the weights of this model, to tune it, instead of with none
    #[arg(long, value_name = "FILE")]
    pub begin: Option<PathBuf>,
    /// What the model is to replace, instead of the one that is built in
    #[arg(long, value_name = "FILE")]
    pub champion: Option<PathBuf>,
    /// Write the model even if it loses more than the champion, or cannot be compared with it
    #[arg(long)]
    pub force: bool,
}

impl TrainArgs {
    pub fn flags(&self) -> Vec<Flag> {
        self.panels.flags()
    }
}

pub fn run(config: &Config, args: &TrainArgs) -> Result<Exit, Box<Fault>> {
    // What cannot be written should show before the work is done.
    let out = ResultFile::create(&args.out)?;
    let champion = model(args.champion.as_deref())?;
    let begin = args.begin.as_deref().map(|it| model(Some(it))).transpose()?;
    let panels = args.panels.read(config)?;
    begin.as_ref().map_or(Ok(()), |it| check_begin(&panels, it))?;
    let learned: Vec<_> = panels.iter().map(|it| it.until(end(it))).collect();
    let bar = bar(u64::from(args.steps), "training");
    let mut recent = Recent::default();
    let told = |step: Step| {
        let loss = recent.add(step.loss);
        bar.set_position(u64::from(step.done));
        bar.set_message(format!("{loss:.4} of the linear model's loss"));
        let tenth = |done: u32| u64::from(done) * 10 / u64::from(args.steps);
        if bar.is_hidden() && tenth(step.done) != tenth(step.done - 1) {
            let percent = tenth(step.done) * 10;
            eprintln!("{percent:>3} %  {loss:.4} of the linear model's loss");
        }
    };
    let weights = begin.as_ref().map(|it| it.weights.clone());
    let trained = || -> Result<_, FitError> {
        let linear = fit(&learned)?;
        Ok((train(&learned, weights, args.seed, args.steps, told)?, linear))
    };
    let trained = trained().map_err(|error| {
        let what = format!("the panels cannot be learned from: {error}");
        let remedy = "give longer panels, or leave the one out that says nothing";
        Box::new(Fault::new(Exit::Usage, "isotherm::train::panels", what).remedy(remedy))
    })?;
    bar.finish_and_clear();
    let spans = lineage(panels.iter().map(|it| Span::of(it, end(it))), begin.as_ref());
    let mut model = Model::new(trained, args.seed, args.steps, spans);
    model.head.begun_with = begin.map(|it| it.digest().to_owned());
    let jobs = [&model, &champion].map(|model| panels.iter().map(move |panel| (panel, model)));
    let mut done = each(&jobs.into_iter().flatten().collect::<Vec<_>>());
    let others = done.split_off(panels.len());
    let done = panels.iter().zip(done).map(|(panel, it)| it.map_err(|it| refusal(panel, it)));
    let lines: Vec<_> = done.map(|it| it.map(|it| it.lines)).collect::<Result<_, _>>()?;
    let all: Vec<_> = lines.iter().flatten().cloned().collect();
    model.head.backtest = brief(&all);
    print(&table(&all, std::io::stdout().is_terminal()))?;
    match against(&lines, &others) {
        Some(ratio) if ratio <= 1.0 => {
            eprintln!("it loses {ratio:.4} times what the champion does");
        }
        ratio if args.force => eprintln!("{}, and is written all the same", worse(ratio)),
        ratio => {
            let what = format!("{}: it is not written", worse(ratio));
            let remedy = "train on more or other loads, with more --steps or another --seed; \
                          --force writes it all the same";
            let fault = Fault::new(Exit::Failed, "isotherm::train::champion", what);
            return Err(Box::new(fault.remedy(remedy)));
        }
    }
    out.write(model.encode())?;
    Ok(Exit::Done)
}

/// Fails if a model that is to be tuned has learned what is held out here.
fn check_begin(panels: &[Panel], begin: &Model) -> Result<(), Box<Fault>> {
    let spans = &begin.head.panels;
    let learned = |panel: &&Panel| spans.iter().any(|it| it.has(panel, held_out(panel)));
    let Some(panel) = panels.iter().find(learned) else { return Ok(()) };
    let what = format!("the model to begin with has learned the end of {}", panel.name);
    let fault = Fault::new(Exit::Usage, "isotherm::train::begin", what);
    Err(Box::new(fault.remedy("give loads that end later, or leave --begin out")))
}

/// What a model has learned, with what it began with: of each source one span.
fn lineage(own: impl Iterator<Item = Span>, begin: Option<&Model>) -> Vec<Span> {
    let mut spans: Vec<Span> = Vec::new();
    for span in own.chain(begin.into_iter().flat_map(|it| it.head.panels.clone())) {
        if !spans.iter_mut().any(|it| it.join(&span)) {
            spans.push(span);
        }
    }
    spans
}

/// How much more than the champion it loses, on the panels of which that one has not learned the end.
fn against(lines: &[Vec<Line>], others: &[Result<Backtest, BacktestError>]) -> Option<f64> {
    let both = lines.iter().zip(others);
    duel(both.filter_map(|(lines, other)| Some((&lines[..], &other.as_ref().ok()?.lines[..]))))
}

fn worse(ratio: Option<f64>) -> String {
    match ratio {
        Some(ratio) => format!(
            "the model loses {ratio:.4} times what the champion does on what neither has learned"
        ),
        None => "there is nothing that the champion has not learned, to compare it on".into(),
    }
}

/// What a model tells of its backtest: without what follows from the rest, and levels.
fn brief(lines: &[Line]) -> Vec<Line> {
    let single = lines.iter().filter(|it| it.op != Op::All);
    single.map(|it| Line { buckets: Vec::new(), ..it.clone() }).collect()
}

fn end(panel: &Panel) -> usize {
    panel.bins.len() * LEARNED_PERCENT / 100
}

fn held_out(panel: &Panel) -> usize {
    panel.bins.len() * CALIBRATED_PERCENT / 100
}

/// The loss lately: that of one step says little.
#[derive(Debug, Default)]
struct Recent(Option<f32>);

impl Recent {
    fn add(&mut self, loss: f32) -> f32 {
        let mean = self.0.map_or(loss, |mean| mean + (loss - mean) / 50.0);
        *self.0.insert(mean)
    }
}
