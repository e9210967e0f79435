//! Trains the network of the forecast.

use std::io::IsTerminal;
use std::path::PathBuf;

use clap::Args;

use super::exit::{Exit, Fault};
use super::forecast::{backtested, bar, model, one};
use super::panels::PanelArgs;
use super::result_file::ResultFile;
use super::{Flag, print};
use crate::config::Config;
use crate::forecast::backtest::{LEARNED_PERCENT, Line, Op, duel, table};
use crate::forecast::model::{Model, Span};
use crate::forecast::panel::Panel;
use crate::forecast::train::{Step, train};

#[derive(Clone, Debug, Args)]
#[command(
    after_help = "The first 60 % of each panel are trained on, and the last 25 % are scored: what comes of the model there \
                  stands in it. It is written unless it loses more there than the champion does."
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
    /// Write the model even if it loses more than the champion
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
    let weights =
        train(&learned, begin.as_ref().map(|it| it.weights.clone()), args.seed, args.steps, told)
            .map_err(|error| {
            let what = format!("the panels cannot be learned from: {error}");
            let remedy = "give longer panels, or leave the one out that says nothing";
            Box::new(Fault::new(Exit::Usage, "isotherm::train::panels", what).remedy(remedy))
        })?;
    bar.finish_and_clear();
    let mut spans: Vec<_> = panels.iter().map(|it| Span::of(it, end(it))).collect();
    // What it began with was learned by that.
    spans.extend(begin.iter().flat_map(|it| it.head.panels.clone()));
    let mut model = Model::new(weights, args.seed, args.steps, spans);
    model.head.begun_with = begin.map(|it| it.digest().to_owned());
    let lines = backtested(&panels, &model)?.lines;
    model.head.backtest = brief(&lines);
    print(&table(&lines, std::io::stdout().is_terminal()))?;
    match against(&panels, &lines, &champion) {
        None => eprintln!("there is nothing to compare it with the champion on"),
        Some(ratio) if 1.0 < ratio && !args.force => return Err(worse(ratio)),
        Some(ratio) => eprintln!("it loses {ratio:.4} times what the champion does"),
    }
    out.write(model.encode())?;
    Ok(Exit::Done)
}

/// How much more than the champion it loses, on the panels of which that one has not learned the end.
fn against(panels: &[Panel], lines: &[Line], champion: &Model) -> Option<f64> {
    let other = panels.iter().filter_map(|it| one(it, champion).ok());
    let other: Vec<_> = other.flat_map(|it| it.lines).collect();
    duel(lines, &other)
}

fn worse(ratio: f64) -> Box<Fault> {
    let what = format!(
        "the model loses {ratio:.4} times what the champion does on what neither has learned: it is not written"
    );
    let remedy = "train on more or longer loads, with more --steps or another --seed; --force writes it all the same";
    Box::new(Fault::new(Exit::Failed, "isotherm::train::champion", what).remedy(remedy))
}

/// What a model tells of its backtest: without what follows from the rest, and levels.
fn brief(lines: &[Line]) -> Vec<Line> {
    let single = lines.iter().filter(|it| it.op != Op::All);
    single.map(|it| Line { buckets: Vec::new(), ..it.clone() }).collect()
}

fn end(panel: &Panel) -> usize {
    panel.bins.len() * LEARNED_PERCENT / 100
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
