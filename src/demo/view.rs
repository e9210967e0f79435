//! Draws a run as it is now: heat over the key space, owners, nodes against their capacity, moves.
//!
//! ```text
//!  Course, Figures ──> Line, Line, …   each a list of (Tone, text): a terminal colours them
//! ```

use std::collections::BTreeMap;

use dataflows::balance::load::{self, Load};
use dataflows::forecast::{MEAN30, RangeForecast};
use schemas::heatmap::RangeHeated;
use schemas::migration_status::Status;
use schemas::{Key, KeySpan, Millis, NodeId};

use super::course::{Course, Moved};
use crate::replay::plot::KeyAxis;
use crate::replay::report::{counted, grouped, sized};

/// What a piece of text says by its colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tone {
    Plain,
    Faint,
    /// A load that is in order, beyond the warm part of a capacity, and beyond all of it.
    Cool,
    Warm,
    Hot,
    /// Of a node, by its number.
    Node(usize),
}

/// One line of the view.
pub type Line = Vec<(Tone, String)>;

/// What does not come from the topics.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Figures {
    /// Such as `moving-hotspot · seed 7 · embedded broker · tick 1 s`.
    pub title: String,
    pub elapsed_s: u64,
    pub duration_s: u64,
    pub queries_per_s: f64,
    pub updates_per_s: f64,
    pub p50_ms: f64,
    pub p99_ms: f64,
    pub failed: u64,
    /// No load is played any more.
    pub is_over: bool,
    pub now: Millis,
}

/// Columns of the key space.
const COLUMNS: usize = 64;
/// Columns of a bar, and how much load ÷ capacity all of it is.
const BAR: usize = 30;
const BAR_PERMILLE: u64 = 1_200;
const BLOCKS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
const OVER: &str = "the load is over, and moves come to their end";
/// So many moves are shown at once.
const MOVES_MAX: usize = 4;

/// All lines; no more than 24 with six nodes, and of 80 columns.
pub fn lines(course: &Course, axis: &KeyAxis, figures: &Figures) -> Vec<Line> {
    let mut res = head(course, figures);
    res.push(Line::new());
    res.extend(key_space(course, axis));
    res.push(Line::new());
    res.extend(nodes(course));
    res.push(Line::new());
    res.extend(moves(course, axis, figures.now));
    res
}

/// One line of it all, for who reads a log.
pub fn summary(course: &Course, figures: &Figures) -> String {
    let Figures { elapsed_s, queries_per_s, updates_per_s, p50_ms, p99_ms, failed, .. } = figures;
    let moving = course.moves.values().filter(|it| it.ended.is_none()).count();
    if figures.is_over {
        return format!("{}  {OVER}: moving {moving}", clock(*elapsed_s));
    }
    let loads = loads(course);
    let nodes = course.nodes.iter().map(|(node, capacity)| {
        let load = loads.get(node).copied().unwrap_or_default();
        format!("{node} {}", part(load, *capacity))
    });
    let nodes = nodes.collect::<Vec<_>>().join("  ");
    let (complete, _, bytes) = course.migrations();
    format!(
        "{}  queries {}/s  p50 {p50_ms:.1}  p99 {p99_ms:.1} ms  failed {failed}  updates {}/s  load {nodes}  \
         moving {moving}  moved {complete}, {}",
        clock(*elapsed_s),
        grouped(*queries_per_s as u64),
        grouped(*updates_per_s as u64),
        sized(bytes)
    )
}

fn head(course: &Course, it: &Figures) -> Vec<Line> {
    let time = format!("{} of {}", clock(it.elapsed_s), clock(it.duration_s));
    let forecast = format!("forecast: {}", course.recount.history.forecast.shortly());
    let mut res = vec![
        vec![(Tone::Plain, format!("isotherm demo · {}", it.title))],
        vec![(Tone::Plain, format!("{time}    ")), (Tone::Faint, forecast)],
    ];
    if it.is_over {
        res.push(vec![(Tone::Plain, OVER.to_owned())]);
        return res;
    }
    let Figures { queries_per_s, updates_per_s, p50_ms, p99_ms, failed, .. } = it;
    let queries = grouped(*queries_per_s as u64);
    let updates = grouped(*updates_per_s as u64);
    let tone = if *failed == 0 { Tone::Plain } else { Tone::Hot };
    res.push(vec![
        (Tone::Plain, format!("queries {queries}/s  p50 {p50_ms:.1} ms  p99 {p99_ms:.1} ms  ")),
        (tone, format!("failed {}", grouped(*failed))),
        (Tone::Plain, format!("    updates {updates}/s")),
    ]);
    res
}

fn key_space(course: &Course, axis: &KeyAxis) -> Vec<Line> {
    let mut now = vec![0.0; COLUMNS];
    let tally = &course.recount.history.tally;
    if let Some(sums) = tally.ticks().last() {
        let starts = std::iter::once(0.0).chain(tally.boundaries().iter().map(|it| axis.place(it)));
        let starts: Vec<f64> = starts.collect();
        for (i, sum) in sums.iter().enumerate() {
            let end = starts.get(i + 1).copied().unwrap_or(1.0);
            spread(&mut now, starts[i], end, *sum as f64);
        }
    }
    let mut ahead = vec![0.0; COLUMNS];
    for it in course.heats.values() {
        let (start, end) = place(axis, &it.range_start, &it.range_end);
        spread(&mut ahead, start, end, median_h30(it) as f64);
    }
    let mut owners = vec![None; COLUMNS];
    let numbers: BTreeMap<&NodeId, usize> =
        course.nodes.keys().enumerate().map(|(i, it)| (it, i)).collect();
    for (start, it) in &course.owned {
        let (from, to) = place(axis, start, &it.range_end);
        let number = numbers.get(&it.node).copied();
        let (first, end) = (from * COLUMNS as f64, (to * COLUMNS as f64).ceil());
        let end = (end as usize).min(COLUMNS);
        let first = (first as usize).min(end);
        owners[first..end].fill(number);
    }
    let owner = |it: &Option<usize>| match it {
        Some(number) => {
            let digit = char::from_digit((number + 1) as u32 % 36, 36).unwrap_or('+');
            (Tone::Node(*number), digit.to_string())
        }
        None => (Tone::Faint, "·".to_owned()),
    };
    let mut third = vec![(Tone::Plain, "owner       ".to_owned())];
    third.extend(owners.iter().map(owner));
    vec![strip("heat now    ", &now), strip("in 30 ticks ", &ahead), third]
}

/// Adds what lies between two places to columns, evenly.
fn spread(columns: &mut [f64], start: f64, end: f64, sum: f64) {
    let n = columns.len() as f64;
    let (from, to) = (start * n, (end * n).min(n));
    if to <= from {
        return;
    }
    let last = (to.ceil() as usize).min(columns.len());
    for (i, column) in columns.iter_mut().enumerate().take(last).skip(from as usize) {
        let within = (to.min(i as f64 + 1.0) - from.max(i as f64)).max(0.0);
        *column += sum * within / (to - from);
    }
}

fn strip(name: &str, columns: &[f64]) -> Line {
    let most = columns.iter().copied().fold(0.0, f64::max);
    let block = |it: &f64| match most {
        0.0 => BLOCKS[0],
        most => BLOCKS[(it / most * 8.0).ceil() as usize],
    };
    let blocks = columns.iter().map(block).collect();
    vec![(Tone::Plain, name.to_owned()), (Tone::Warm, blocks)]
}

fn median_h30(it: &RangeHeated) -> u64 {
    /// Of [`schemas::heatmap::LEVELS`].
    const MEDIAN: usize = 3;
    let median = |of: &schemas::heatmap::OpHeat| of.forecast.h30.get(MEDIAN).copied();
    median(&it.reads).unwrap_or_default() + median(&it.writes).unwrap_or_default()
}

/// Load of each node in the last tick, in microseconds a second.
fn loads(course: &Course) -> BTreeMap<NodeId, u64> {
    course.recount.history.ticks.last().map(|it| it.loads.clone()).unwrap_or_default()
}

/// What each node is to expect in the mean of the next thirty ticks, as a plan counts it: what is likely and its .9
/// quantile, in microseconds a second.
fn expected(course: &Course) -> BTreeMap<NodeId, (u64, u64)> {
    // Published by this process: each has its quantiles.
    let known = course.heats.values().filter_map(|it| {
        let forecast = RangeForecast::told(&it.reads.forecast, &it.writes.forecast).ok()?;
        Some((&it.node, forecast))
    });
    let (owners, forecasts): (Vec<_>, Vec<_>) = known.unzip();
    let (loads, swing) = load::loads(forecasts.iter(), &course.total, course.likely);
    let mut nodes = BTreeMap::<_, Load>::new();
    for (node, load) in owners.into_iter().zip(&loads) {
        let sum = nodes.entry(node.clone()).or_default();
        *sum = sum.plus(load);
    }
    nodes.into_iter().map(|(id, it)| (id, (it.median(MEAN30), it.sustained(&swing)))).collect()
}

fn nodes(course: &Course) -> Vec<Line> {
    let mut res = vec![vec![(
        Tone::Faint,
        format!(
            "{:<5} {:<BAR$} {:>5} {:>16} {:>7} {:>8}",
            "node", "load ÷ capacity", "now", "30 ticks / .9", "ranges", "bytes"
        ),
    )]];
    let (loads, expected) = (loads(course), expected(course));
    for (i, (node, capacity)) in course.nodes.iter().enumerate() {
        let load = loads.get(node).copied().unwrap_or_default();
        let (likely, high) = expected.get(node).copied().unwrap_or_default();
        let ranges = course.owned.values().filter(|it| it.node == *node).count();
        let bytes = course.bytes.get(node).copied().unwrap_or_default();
        let permille = load * 1_000 / (*capacity).max(1);
        let tone = match permille {
            0..=800 => Tone::Cool,
            801..=1_000 => Tone::Warm,
            _ => Tone::Hot,
        };
        let mark = BAR * 800 / BAR_PERMILLE as usize;
        let full = (permille.min(BAR_PERMILLE) as usize * BAR).div_ceil(BAR_PERMILLE as usize);
        let column = |at: usize| match (at < full, at == mark) {
            (true, _) => '█',
            (false, true) => '│',
            (false, false) => '·',
        };
        res.push(vec![
            (Tone::Node(i), format!("{:<5} ", node.0)),
            (tone, (0..BAR).map(column).collect()),
            (
                Tone::Plain,
                format!(
                    " {:>5} {:>16} {ranges:>7} {:>8}",
                    part(load, *capacity),
                    format!("{} / {}", part(likely, *capacity), part(high, *capacity)),
                    sized(bytes)
                ),
            ),
        ]);
    }
    res
}

fn moves(course: &Course, axis: &KeyAxis, now: Millis) -> Vec<Line> {
    let (mut res, mut under_way) = (Vec::new(), 0);
    for (id, it) in course.moves.iter().filter(|it| it.1.ended.is_none()) {
        under_way += 1;
        if under_way <= MOVES_MAX {
            res.push(vec![(
                Tone::Plain,
                format!(
                    "{:<8}{}",
                    if under_way == 1 { "moving" } else { "" },
                    moving(&id.to_string(), axis, it, now)
                ),
            )]);
        }
    }
    if under_way > MOVES_MAX {
        res.push(vec![(Tone::Faint, format!("{:<8}and {} more", "", under_way - MOVES_MAX))]);
    }
    let is_complete = |it: &&(_, &Moved)| matches!(it.1.ended, Some((_, Status::Complete)));
    let all: Vec<_> = course.moves.iter().collect();
    if let Some((id, it)) = all.iter().rev().find(is_complete) {
        let (what, why) = parts(&id.to_string(), it);
        res.push(vec![(Tone::Faint, format!("{:<8}{what}", "last"))]);
        res.extend(why.map(|it| vec![(Tone::Faint, format!("{:<8}{it}", ""))]));
    }
    let (complete, failed, bytes) = course.migrations();
    let history = &course.recount.history;
    let failed = if failed == 0 { String::new() } else { format!(", {failed} failed") };
    res.push(vec![(
        Tone::Faint,
        format!(
            "{:<8}{}{failed}, {}; {}, {}; {}; overload {:.1} node-s",
            "so far",
            counted(complete, "move"),
            sized(bytes),
            counted(history.splits, "split"),
            counted(history.joins, "join"),
            counted(course.owned.len() as u64, "range"),
            history.overload_node_seconds()
        ),
    )]);
    res
}

fn moving(id: &str, axis: &KeyAxis, it: &Moved, now: Millis) -> String {
    let phase = match (it.copying, it.ready, it.active) {
        (_, _, Some(_)) => "draining",
        (_, Some(_), None) => "ready",
        (Some(_), None, None) => "copying",
        (None, None, None) => "asked for",
    };
    let part = match (it.ready, it.bytes_planned) {
        (Some(_), _) => 100,
        (None, 0) => 0,
        (None, all) => (it.bytes * 100 / all).min(100),
    };
    let full = (part / 10) as usize;
    let bar = "▓".repeat(full) + &"░".repeat(10 - full);
    let since = now.0.saturating_sub(it.begun.0) as f64 / 1e3;
    format!(
        "{id}  {}  {} → {}  {phase:<9} {bar} {part:>3} %  {}  {since:.1} s",
        span(axis, &it.span),
        it.source,
        it.destination,
        sized(it.bytes)
    )
}

/// What became of a move, and what it was for.
pub fn told(id: &str, it: &Moved) -> String {
    let (what, why) = parts(id, it);
    match why {
        Some(why) => format!("{what} · {why}"),
        None => what,
    }
}

fn parts(id: &str, it: &Moved) -> (String, Option<String>) {
    let after = it.active.map_or_else(String::new, |active| {
        format!(" active after {:.1} s", active.0.saturating_sub(it.due.0) as f64 / 1e3)
    });
    let why = it.why.as_ref().zip(it.chosen.as_ref()).map(|(why, chosen)| {
        let when = match why.ticks_until {
            Some(0) => "too warm now".to_owned(),
            Some(ticks) => format!("too warm in {}", counted(ticks.into(), "tick")),
            None => "might be too warm".to_owned(),
        };
        format!(
            "{} {when}: with it {} → {} (q.9)",
            it.source,
            permille(chosen.source_before),
            permille(chosen.source_after)
        )
    });
    (format!("{id}  {} → {}{after} · {}", it.source, it.destination, sized(it.bytes)), why)
}

/// A range as parts of the key space.
fn span(axis: &KeyAxis, span: &KeySpan) -> String {
    let (from, to) = place(axis, &span.start, &span.end);
    let part = |it: f64| format!("{it:.4}").trim_start_matches('0').to_owned();
    format!("[{}, {})", part(from), part(to))
}

fn place(axis: &KeyAxis, start: &Key, end: &Key) -> (f64, f64) {
    let from = if start.0.is_empty() { 0.0 } else { axis.place(start) };
    let to = if end.0.is_empty() { 1.0 } else { axis.place(end) };
    (from, to)
}

/// A part of one, as `.63` or `1.20`.
fn part(load: u64, capacity: u64) -> String {
    permille(u32::try_from(load.saturating_mul(1_000) / capacity.max(1)).unwrap_or(u32::MAX))
}

fn permille(it: u32) -> String {
    format!("{:.2}", f64::from(it) / 1e3).trim_start_matches('0').to_owned()
}

fn clock(seconds: u64) -> String {
    format!("{:02}:{:02}", seconds / 60, seconds % 60)
}

#[cfg(test)]
mod tests;
