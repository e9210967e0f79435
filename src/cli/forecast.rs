//! Tells how good the forecast is, on loads of which the future is known.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::{Args, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;

use super::exit::{Exit, Fault};
use super::panels::PanelArgs;
use super::print;
use super::result_file::ResultFile;
use crate::forecast::backtest::{Line, backtest, table};
use crate::forecast::model::Model;
use crate::forecast::panel::Panel;

#[derive(Clone, Debug, Subcommand)]
pub enum ForecastCommand {
    /// Forecast loads of which the future is known, and compare
    Backtest(BacktestArgs),
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
}

pub fn run(command: &ForecastCommand) -> Result<Exit, Box<Fault>> {
    let ForecastCommand::Backtest(args) = command;
    let model = model(args.model.as_deref())?;
    let json = args.json.as_deref().map(ResultFile::create).transpose()?;
    let panels = args.panels.read()?;
    let lines = lines(&panels, &model)?;
    if let Some(file) = json {
        let all = json!({ "model": model.head, "rows": lines });
        file.write(format!("{all:#}\n"))?;
    }
    print(&table(&lines, std::io::stdout().is_terminal()))?;
    Ok(Exit::Done)
}

/// Backtests panels one after the other.
pub fn lines(panels: &[Panel], model: &Model) -> Result<Vec<Line>, Box<Fault>> {
    let mut all = Vec::new();
    for panel in panels {
        let bar = bar(panel.bins.len() as u64, &panel.name);
        let lines = backtest(panel, Some(model), |bin| bar.set_position(bin as u64));
        bar.finish_and_clear();
        all.extend(lines.map_err(|error| {
            let what = format!("panel {} cannot be backtested: {error}", panel.name);
            let remedy = "give a longer panel, or a model that was not trained on the end of it";
            Box::new(Fault::new(Exit::Usage, "isotherm::forecast::backtest", what).remedy(remedy))
        })?);
    }
    Ok(all)
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
fn model(file: Option<&Path>) -> Result<Model, Box<Fault>> {
    let Some(path) = file else { return Ok(Model::shipped()) };
    let bytes = std::fs::read(path).with_context(|| format!("read {}", path.display()))?;
    Model::decode(&bytes).map_err(|error| {
        let what = format!("{} is no model: {error}", path.display());
        let remedy = "make one with `isotherm train`, or leave --model out";
        Box::new(Fault::new(Exit::Usage, "isotherm::forecast::model", what).remedy(remedy))
    })
}
