//! Shows whose network forecasts in a running planner, and asks it to take another one.
//!
//! ```text
//!  planner_progress ──> the last policy ──> model ──> shown, or written
//!  FILE ──> operator_command ──> planner ──> plan: from the next tick on, or refused and why
//! ```

use std::ops::ControlFlow;

use schemas::operator_command::{Command, OperatorCommand};
use serde_json::json;

use super::{ModelArgs, SwapArgs, model};
use crate::cli::ask;
use crate::cli::exit::{Exit, Fault, need_cluster};
use crate::cli::result_file::ResultFile;
use crate::cli::{Form, print};
use crate::config::Config;
use crate::forecast::Rung;
use crate::forecast::model::Model;
use crate::planner::commands::MODEL_BYTES_MAX;
use crate::planner::progress;
use crate::planner::settings::Settings;

pub fn show(config: &Config, args: &ModelArgs) -> Result<Exit, Box<Fault>> {
    need_cluster(config)?;
    let out = args.out.as_deref().map(ResultFile::create).transpose()?;
    let planner = &config.planner.id;
    let mut policy = None;
    progress::each(&config.kafka, planner, |it| {
        policy = it.tick.and_then(|it| it.policy).or(policy.take());
        ControlFlow::Continue(())
    })?;
    let Some(text) = policy else {
        let what = format!("no planner {planner} has left a policy on planner_progress");
        let fault = Fault::new(Exit::Failed, "isotherm::forecast::no_planner", what);
        return Err(Box::new(fault.remedy("start one, or name another by planner.id")));
    };
    let settings = Settings::parse(&text)?;
    let model = settings.model();
    if let Some(file) = out {
        file.write(model.encode())?;
    }
    print(&told(&model, settings.rung, args.output))?;
    Ok(Exit::Done)
}

/// Says whose network it is, and what it has learned.
fn told(model: &Model, rung: Rung, form: Form) -> String {
    let built_in = model.digest() == Model::shipped().digest();
    let forecasts = rung == Rung::Ladder;
    let value = json!({
        "model": model.digest(),
        "built_in": built_in,
        "forecasts": forecasts,
        "head": model.head,
    });
    match form {
        Form::Table => (),
        Form::Json => return format!("{value:#}\n"),
        Form::Jsonl => return format!("{value}\n"),
    }
    let mut res = String::new();
    let mut line = |what: &str, it: String| res.push_str(&format!("{what:<10}{it}\n"));
    let of = if built_in { " (built in)" } else { "" };
    line("model", format!("{}{of}", model.digest()));
    let answers = if forecasts { "yes, as a rung of the ladder" } else { "no" };
    line("forecasts", answers.to_owned());
    line("trained", format!("{} steps, seed {}", model.head.steps, model.head.seed));
    for (i, it) in model.head.panels.iter().enumerate() {
        line(if i == 0 { "learned" } else { "" }, it.told());
    }
    res
}

pub fn swap(config: &Config, args: &SwapArgs) -> Result<Exit, Box<Fault>> {
    need_cluster(config)?;
    // An empty one stands for that.
    let file = match args.built_in {
        true => Vec::new(),
        false => model(args.model.as_deref())?.without_backtest().encode(),
    };
    if MODEL_BYTES_MAX < file.len() {
        let what = format!("a model of {} bytes is larger than {MODEL_BYTES_MAX}", file.len());
        let fault = Fault::new(Exit::Usage, "isotherm::forecast::swap", what);
        return Err(Box::new(
            fault.remedy("train one without --begin: its head names fewer spans"),
        ));
    }
    let command =
        OperatorCommand { model: Some(file), ..ask::command(Command::SwapModel, &args.reason) };
    let Some(answer) = ask::answer(&config.kafka, &command, args.timeout)? else {
        eprintln!("no planner has answered {} yet: does one run? It may still do so", command.id);
        return Ok(Exit::TimedOut);
    };
    if let Some(code) = answer.refused {
        let what = format!("the planner refuses it, {code}: {}", answer.detail);
        return Err(Box::new(Fault::new(Exit::Refused, "isotherm::forecast::swap", what)));
    }
    print(&format!("{}\n", answer.detail))?;
    Ok(Exit::Done)
}
