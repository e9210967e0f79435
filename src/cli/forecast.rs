//! Tells how good the forecast is, on loads of which the future is known; and whose network it is.

mod swap;

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use clap::{Args, Subcommand};
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use serde_json::json;

use super::exit::{Exit, Fault};
use super::named;
use super::panels::PanelArgs;
use super::print;
use super::result_file::ResultFile;
use super::{Flag, Form};
use crate::config::Config;
use crate::forecast::backtest::{Backtest, BacktestError, backtest, node_table, picture, table};
use crate::forecast::model::Model;
use crate::forecast::panel::Panel;

#[derive(Clone, Debug, Subcommand)]
pub enum ForecastCommand {
    /// Forecast loads of which the future is known, and compare
    Backtest(BacktestArgs),
    /// Show the model whose network forecasts in a running planner
    Model(ModelArgs),
    /// Have another model forecast from the planner's next tick on
    Swap(SwapArgs),
}

#[derive(Clone, Debug, Args)]
pub struct ModelArgs {
    /// Write it to a file
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// The form of what is printed
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Form,
}

#[derive(Clone, Debug, Args)]
pub struct SwapArgs {
    /// As `isotherm train` writes it
    #[arg(value_name = "FILE", required_unless_present = "built_in")]
    pub model: Option<PathBuf>,
    /// Back to the one that is built into the planner
    #[arg(long, conflicts_with = "model")]
    pub built_in: bool,
    /// Why; plans and the log tell it
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub reason: String,
    /// Wait no longer than this for the planner's answer
    #[arg(long, value_parser = humantime::parse_duration, value_name = "DURATION", default_value = "1m")]
    pub timeout: Duration,
}

#[derive(Clone, Debug, Args)]
#[command(
    after_help = "The first 60 % of a panel fit the linear model, the next 15 % calibrate, the last 25 % are scored."
)]
pub struct BacktestArgs {
    #[command(flatten)]
    pub panels: PanelArgs,
    /// The network, instead of the one that is built in
    #[arg(long, value_name = "FILE")]
    pub model: Option<PathBuf>,
    /// Write all numbers to a file
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Draw what was said of the busiest row of each panel, over what came
    #[arg(long, value_name = "FILE.svg")]
    pub plot: Option<PathBuf>,
}

impl ForecastCommand {
    pub fn flags(&self) -> Vec<Flag> {
        match self {
            Self::Backtest(args) => args.panels.flags(),
            Self::Model(_) | Self::Swap(_) => Vec::new(),
        }
    }
}

pub fn run(config: &Config, command: &ForecastCommand) -> Result<Exit, Box<Fault>> {
    match command {
        ForecastCommand::Backtest(args) => backtest_of(config, args),
        ForecastCommand::Model(args) => swap::show(config, args),
        ForecastCommand::Swap(args) => swap::swap(config, args),
    }
}

fn backtest_of(config: &Config, args: &BacktestArgs) -> Result<Exit, Box<Fault>> {
    let model = model(args.model.as_deref())?;
    // What cannot be written should show before the work is done.
    let json = args.json.as_deref().map(ResultFile::create).transpose()?;
    let plot = args.plot.as_deref().map(ResultFile::create).transpose()?;
    let panels = args.panels.read(config)?;
    let Backtest { lines, nodes, trails } = backtested(&panels, &model)?;
    if let Some(file) = json {
        let all = json!({ "model": model.head, "rows": lines, "nodes": nodes });
        file.write(format!("{all:#}\n"))?;
    }
    if let Some(file) = plot {
        file.write(picture(&trails))?;
    }
    print(&(table(&lines, std::io::stdout().is_terminal()) + &node_table(&nodes)))?;
    Ok(Exit::Done)
}

/// Backtests panels, as many at a time as there are processors.
fn backtested(panels: &[Panel], model: &Model) -> Result<Backtest, Box<Fault>> {
    let mut all = Backtest::default();
    let jobs: Vec<_> = panels.iter().map(|it| (it, model)).collect();
    for (panel, done) in panels.iter().zip(each(&jobs)) {
        let Backtest { lines, nodes, trails } = done.map_err(|it| refusal(panel, it))?;
        all.lines.extend(lines);
        all.nodes.extend(nodes);
        all.trails.extend(trails);
    }
    Ok(all)
}

/// Why a panel was not backtested, for people.
pub fn refusal(panel: &Panel, error: BacktestError) -> Box<Fault> {
    let what = format!("panel {} cannot be backtested: {error}", panel.name);
    let remedy = "give a longer one, or a model that was not trained on the end of it";
    Box::new(Fault::new(Exit::Usage, "isotherm::forecast::backtest", what).remedy(remedy))
}

/// Backtests each panel with its model, as many at a time as there are processors, and shows how far each is. What comes of
/// them is in their order.
pub fn each(jobs: &[(&Panel, &Model)]) -> Vec<Result<Backtest, BacktestError>> {
    let bars = MultiProgress::new();
    let (next, done) = (AtomicUsize::new(0), Mutex::new(BTreeMap::new()));
    let work = || {
        while let at = next.fetch_add(1, Ordering::Relaxed)
            && let Some((panel, model)) = jobs.get(at)
        {
            let bar = bars.add(bar(panel.bins.len() as u64, &panel.name));
            let it = backtest(panel, Some(model), |bin| bar.set_position(bin as u64));
            bar.finish_and_clear();
            done.lock().unwrap_or_else(PoisonError::into_inner).insert(at, it);
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(work);
        }
    });
    done.into_inner().unwrap_or_else(PoisonError::into_inner).into_values().collect()
}

/// A bar on a terminal, else nothing.
pub fn bar(length: u64, name: &str) -> ProgressBar {
    let bar = match std::io::stderr().is_terminal() {
        true => ProgressBar::new(length),
        false => ProgressBar::hidden(),
    };
    let style = "{prefix}  {bar:40} {pos}/{len}  {msg}  {eta} left";
    bar.set_style(ProgressStyle::with_template(style).expect("the template is well-formed"));
    bar.with_prefix(name.to_owned())
}

/// The model of a file, or the one that is built in.
pub fn model(file: Option<&Path>) -> Result<Model, Box<Fault>> {
    let Some(path) = file else { return Ok(Model::shipped()) };
    const CODE: &str = "isotherm::forecast::model";
    let bytes = std::fs::read(path).map_err(|error| named::unread(CODE, path, &error))?;
    Model::decode(&bytes).map_err(|error| {
        let what = format!("{} is no model: {error}", path.display());
        let remedy = "make one with `isotherm train`, or name none: one is built in";
        Box::new(Fault::new(Exit::Usage, CODE, what).remedy(remedy))
    })
}
