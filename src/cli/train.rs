//! Trains the network of the forecast.

use std::io::IsTerminal;
use std::path::PathBuf;

use clap::Args;

use super::exit::{Exit, Fault};
use super::forecast::{bar, lines};
use super::panels::PanelArgs;
use super::print;
use super::result_file::ResultFile;
use crate::forecast::backtest::{LEARNED_PERCENT, Line, Op, table};
use crate::forecast::model::{Model, Span};
use crate::forecast::panel::Panel;
use crate::forecast::train::{Step, train};

#[derive(Clone, Debug, Args)]
#[command(
    after_help = "The first 60 % of each panel are trained on; what comes of the model on the rest stands in it."
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
}

pub fn run(args: &TrainArgs) -> Result<Exit, Box<Fault>> {
    // What cannot be written should show before the work is done.
    let out = ResultFile::create(&args.out)?;
    let panels = args.panels.read()?;
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
    let weights = train(&learned, args.seed, args.steps, told).map_err(|error| {
        let what = format!("the panels cannot be learned from: {error}");
        let remedy = "give longer panels, or leave the one out that says nothing";
        Box::new(Fault::new(Exit::Usage, "isotherm::train::panels", what).remedy(remedy))
    })?;
    bar.finish_and_clear();
    let spans = panels.iter().map(|it| Span::of(it, end(it))).collect();
    let mut model = Model::new(weights, args.seed, args.steps, spans);
    let lines = lines(&panels, &model)?;
    model.head.backtest = brief(&lines);
    out.write(model.encode())?;
    print(&table(&lines, std::io::stdout().is_terminal()))?;
    Ok(Exit::Done)
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
