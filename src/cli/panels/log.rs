//! Counts a query log, from a trace or a topic, by the rows that a planner would forecast.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use schemas::Millis;
use schemas::query_log::{self, Query};
use sha2::{Digest, Sha256};
use zstd::stream::read::Decoder;

use crate::cli::exit::{Exit, Fault};
use crate::cli::planner;
use crate::cli::query_log::Reader;
use crate::cli::replay::keys::layout;
use crate::cli::replay::log::{Extent, scenario_extent, trace_extent, unreadable};
use crate::cli::replay::topic::{read_log, topic_extent};
use crate::cli::replay::{Moments, Scenario, check_span};
use crate::config::Config;
use crate::forecast::panel::{Counting, Panel, PanelError};
use crate::kafka::wall_clock;
use crate::planner::machine::first_cells;
use crate::planner::settings::Settings;
use crate::planner::snapshot::hex;
use crate::replay::driver::{Log, open_trace};
use crate::replay::trace::Assumed;
use crate::table::rows::KEY_BYTES_MAX;

/// A trace is known by so much of it, unpacked.
const BEGINNING_BYTES: u64 = 4096;

pub fn of_trace(config: &Config, path: &Path, bin_ms: u64) -> Result<Panel, Box<Fault>> {
    let extent = trace_extent(path, Millis(0))?;
    let mut counting = counting(config, &extent, bin_ms)?;
    for query in open_trace(path, extent.start, Assumed::default()).map_err(unreadable)? {
        let query = query.map_err(unreadable)?;
        counting.add(query.time, &query.key.0, query.op);
    }
    let digest = beginning(path)?;
    counting.done(&extent.name, digest).map_err(|error| no_panel(&extent, &error))
}

/// Of the first seed.
pub fn of_scenario(
    config: &Config,
    shape: Scenario,
    duration: Duration,
    bin_ms: u64,
) -> Result<Panel, Box<Fault>> {
    let duration_ms = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let extent = scenario_extent(shape, 1, duration_ms, Millis(0));
    let Log::Scenario(scenario) = &extent.log else {
        unreachable!("the extent of a scenario is that of a scenario")
    };
    let mut counting = counting(config, &extent, bin_ms)?;
    for query in scenario.queries_logged() {
        counting.add(query.time, &query.key.0, query.op);
    }
    // However long it is: most of them begin alike.
    let digest = hex(&Sha256::digest(format!("scenario {}", extent.name)));
    counting.done(&extent.name, digest).map_err(|error| no_panel(&extent, &error))
}

pub fn of_topic(
    config: &Config,
    topic: &str,
    span: Moments,
    bin_ms: u64,
) -> Result<Panel, Box<Fault>> {
    check_span(span)?;
    let extent = topic_extent(config, Some(topic), span)?;
    let Log::Topic { from, to, .. } = extent.log else {
        unreachable!("the extent of a topic is that of a topic")
    };
    let mut counting = counting(config, &extent, bin_ms)?;
    let mut reader = Reader::open(config)?;
    read_log(config, &mut reader, from, to, |reader, record| {
        let value = record.value.as_deref().unwrap_or_default();
        let Ok(own) = reader.own(value, record.stamp) else { return };
        let mut asked = Vec::new();
        let read = query_log::read(&own, |it: Query<'_>| {
            // A longer one is none, for a planner either.
            if it.key.len() <= KEY_BYTES_MAX {
                asked.push((it.key.to_vec(), it.op));
            }
        });
        if read.is_ok() && counting.spans(record.stamp) {
            counting.passed(record.at.partition, record.offset);
            asked.iter().for_each(|(key, op)| counting.add(record.stamp, key, *op));
        }
    })?;
    // Its records go, and come again elsewhere: the same log is known by its name and its time.
    let digest = hex(&Sha256::digest(format!("topic {}", extent.name)));
    counting.done(&extent.name, digest).map_err(|error| no_panel(&extent, &error))
}

/// Counts nothing yet, over the cells of the first assignment: of the keys that are configured, if they are, or
/// that there are.
fn counting(config: &Config, extent: &Extent, bin_ms: u64) -> Result<Counting, Box<Fault>> {
    let planner = &config.planner;
    let settings = planner::settings(config)?;
    let settings = match planner.split_points.is_empty() && planner.key_last.0.is_empty() {
        true => {
            let layout = layout(config, &extent.keys, None);
            Settings { split_points: layout.split_points, key_end: layout.key_end, ..settings }
        }
        false => settings,
    };
    // Bins are those of the clock, as ticks are.
    let start = Millis(extent.first.0 / bin_ms * bin_ms);
    let last = Millis(extent.start.0.saturating_add(extent.duration_ms));
    let end = match extent.log {
        // Until then it is known, though it may have been quiet.
        Log::Topic { to: Some(to), .. } => to.min(wall_clock()).max(last),
        Log::Topic { .. } | Log::Scenario(_) | Log::Trace { .. } => last,
    };
    Counting::new(first_cells(&settings), bin_ms, start, end).map_err(|it| no_panel(extent, &it))
}

fn no_panel(extent: &Extent, error: &PanelError) -> Box<Fault> {
    let what = format!("{} makes no panel: {error}", extent.name);
    let fault = Fault::new(Exit::Usage, "isotherm::panel::log", what);
    let remedy = match extent.log {
        Log::Topic { .. } => "give other --from and --to, or another --bin",
        Log::Scenario(_) | Log::Trace { .. } => "give another --bin",
    };
    Box::new(fault.remedy(remedy))
}

/// Of what a trace begins with, in hexadecimal: a part of one that was cut off behind is the same source.
fn beginning(path: &Path) -> anyhow::Result<String> {
    let told = || format!("read {}", path.display());
    let file = File::open(path).with_context(told)?;
    let mut block = Vec::new();
    let mut table = Decoder::new(file).with_context(told)?.take(BEGINNING_BYTES);
    table.read_to_end(&mut block).with_context(told)?;
    Ok(hex(&Sha256::digest(block)))
}
