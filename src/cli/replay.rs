//! Shows what would have been done with a query log, or checks what was done.
//!
//! ```text
//!  flags ──> log ───────────> nodes ──> layout ──> replay ──> table, report, picture, outputs
//!            how much of what            of keys
//! ```
//!
//! Whatever is read, it is only read: what is written goes to the embedded broker and to files.

mod args;
pub mod log;
pub mod topic;
pub mod nodes;
pub mod keys;
mod progress;
mod out;

use std::io::IsTerminal;

use indicatif::ProgressBar;

use super::args::Moment;
use super::exit::{Exit, Fault, need_cluster};
use super::result_file::ResultFile;
use super::{planner, query_log};
use crate::config::Config;
use crate::kafka::wall_clock;
use crate::planner::machine::{TickOutputs, first_cells};
use crate::planner::settings::Settings;
use crate::replay::driver::{Log, Replay, replay};
use crate::replay::executor::Model;
use crate::replay::outcome::Subject;
use crate::replay::report::Paper;
use crate::replay::verify::{self, Verify};
use crate::tick::rules::Rules;
use crate::tick::tick_box::TickBox;
pub use args::{ReplayArgs, Scenario, length};
use keys::{Layout, layout};
use out::Out;
use progress::Progress;

/// How many records a tick may bring in one partition: the writer of a log knows no bound, and
/// waits for the tick to be read.
const SPAN_RECORDS_MAX: u64 = 100_000;

pub fn run(config: &Config, args: &ReplayArgs) -> Result<Exit, Box<Fault>> {
    check_span([args.from, args.to])?;
    if args.verify {
        return verify(config, args);
    }
    let extent = log::extent(config, args)?;
    let nodes = nodes::nodes(config, args, &extent)?;
    let Layout { split_points, key_end, axis, data } = layout(config, &extent.keys, nodes.bytes);
    let rules = Rules {
        // Stamps alone end ticks here.
        grace_ms: 0,
        span_records_max: SPAN_RECORDS_MAX.max(config.planner.span_records_max),
        ..planner::rules(config)
    };
    let settings = Settings {
        birth_nodes: nodes.capacities.len() as u32,
        split_points: split_points.clone(),
        key_end,
        // The embedded broker dies with the process: nobody would read it.
        snapshot_ticks: 0,
        ..planner::settings(config)?
    };
    let first = extent.start.0 / rules.tick_ms;
    let ticks = extent.duration_ms.div_ceil(rules.tick_ms).max(1);
    let ticks = args.ticks.map_or(ticks, |it| it.min(ticks));
    let is_topic = matches!(extent.log, Log::Topic { .. });
    let it = Replay {
        log: extent.log,
        grid: first_cells(&settings),
        settings,
        rules,
        nodes: nodes.capacities.clone(),
        // They copy as fast as the planner is told, and with as much work.
        model: Model {
            bandwidth_bytes_per_s: config.policy.bandwidth_bytes_per_s,
            copy_us_per_mib: config.policy.copy_us_per_mib,
            ..Model::default()
        },
        data: data.clone(),
        // A topic ends by itself.
        last: (!is_topic).then_some(first + ticks - 1),
        first: (!is_topic).then_some(first),
        timely_workers: config.planner.timely_workers,
        registry: query_log::access(config),
    };
    // What cannot be written should show before the work is done.
    let report_file = args.report.as_deref().map(ResultFile::create).transpose()?;
    let plot_file = args.plot.as_deref().map(ResultFile::create).transpose()?;
    let out = args.out.as_deref().map(Out::create).transpose()?;
    let bar = Progress::new(ticks);
    let told = |_: &TickBox, outputs: &TickOutputs| {
        bar.tick(outputs.done.queries);
        if let Some(out) = &out {
            out.write(&outputs.outputs);
        }
    };
    let [isotherm, reactive] = replay(&it, &told)?;
    bar.finish();
    if let Some(out) = out {
        out.finish()?;
    }
    let subject = Subject {
        name: extent.name,
        seed: args.scenario.map(|_| args.seed),
        tick_ms: rules.tick_ms,
        nodes: nodes.capacities,
        nodes_from: nodes.from,
        split_points,
        keys: axis,
        bytes: data.total(),
    };
    let report = subject.report(&isotherm, Some(&reactive));
    if let Some(file) = report_file {
        let text = serde_json::to_string_pretty(&report).expect("a report is plain values");
        file.write(text + "\n")?;
    }
    if let Some(file) = plot_file {
        file.write(subject.picture(&isotherm, &report).svg())?;
    }
    let paper = if std::io::stdout().is_terminal() { Paper::Ruled } else { Paper::Plain };
    super::print(&report.table(paper))?;
    Ok(Exit::Done)
}

/// Where a span of a topic begins and ends.
pub type Moments = [Option<Moment>; 2];

/// Fails where the span ends before it begins.
pub fn check_span(span: Moments) -> Result<(), Box<Fault>> {
    let now = wall_clock();
    match span.map(|it| it?.stamp(now)) {
        [Some(from), Some(to)] if to <= from => {
            let what = "--from is not before --to: nothing lies between them";
            let remedy = "turn them round, or leave one of the two out";
            let fault = Fault::new(Exit::Usage, "isotherm::replay::span", what);
            Err(Box::new(fault.remedy(remedy)))
        }
        [_, _] => Ok(()),
    }
}

/// Runs the recorded ticks again, and tells the first difference.
fn verify(config: &Config, args: &ReplayArgs) -> Result<Exit, Box<Fault>> {
    need_cluster(config)?;
    let now = wall_clock();
    let it = Verify {
        connection: &config.kafka,
        planner_id: &config.planner.id,
        from: args.from.and_then(|it| it.stamp(now)),
        to: args.to.and_then(|it| it.stamp(now)),
        timely_workers: config.planner.timely_workers,
    };
    let bar = match std::io::stderr().is_terminal() {
        true => ProgressBar::new_spinner(),
        false => ProgressBar::hidden(),
    };
    let verdict = verify::run(&it, &mut |tick| bar.set_message(format!("tick {tick}")))?;
    bar.finish_and_clear();
    super::print(&format!("{verdict}\n"))?;
    Ok(if verdict.differing == 0 { Exit::Done } else { Exit::Failed })
}
