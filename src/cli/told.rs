//! Tells a plan as a person would, with its numbers.
//!
//! ```text
//!  plan p-212 · tick 41 (… to …) · auto · digest 5f1c…
//!  asked     what people asked, and what became of it
//!  why       which node, when, how warm
//!  chosen    what moves, is split, is joined, is built again; what it brings and costs
//!  rejected  what was considered, and the number that decided
//!  rests on  which heatmap, inputs and policy; how good forecasts were lately
//! ```

use schemas::plan::{
    CommandAnswered, JoinChosen, MoveChosen, NodePressed, Planned, RebuildChosen, Rejected,
    SplitChosen,
};

use super::keys::KeyFormat;
use crate::replay::report::hundredths;

/// How many characters of a digest a person is shown.
const DIGEST_SHOWN: usize = 8;

/// Returns the plan as text, with a newline at its end.
pub fn told(plan: &Planned, keys: KeyFormat) -> String {
    let mut res = format!("{}\n", title(plan));
    section(&mut res, "asked", plan.commands.iter().map(answered).collect());
    section(&mut res, "why", plan.why.iter().map(why).collect());
    let mut chosen: Vec<String> = plan.moves.iter().flat_map(|it| moved(it, keys)).collect();
    chosen.extend(plan.splits.iter().map(|it| split(it, keys)));
    chosen.extend(plan.joins.iter().map(|it| joined(it, keys)));
    chosen.extend(plan.rebuilds.iter().map(|it| rebuilt(it, keys)));
    if chosen.is_empty() {
        chosen.push("nothing".into());
    }
    section(&mut res, "chosen", chosen);
    section(&mut res, "rejected", aligned(&plan.rejected, keys));
    if 0 < plan.unsplittable_ppm {
        let share = percent(plan.unsplittable_ppm);
        section(&mut res, "note", vec![format!("no split can help {share} of the load")]);
    }
    let rests_on = [Some(rests_on(plan)), forecast(plan)];
    section(&mut res, "rests on", rests_on.into_iter().flatten().collect());
    res
}

/// A line for a list of plans.
pub fn summary(plan: &Planned) -> String {
    let [moves, splits, joins] = [plan.moves.len(), plan.splits.len(), plan.joins.len()];
    let bytes: u64 = plan.moves.iter().map(|it| it.bytes).sum();
    let benefit: u64 = plan.moves.iter().map(|it| it.benefit_ms).sum();
    let rebuilds = match plan.rebuilds.len() {
        0 => String::new(),
        n => format!(", {n} rebuilds"),
    };
    format!(
        "{}  {}  {}  {moves} moves ({}), {splits} splits, {joins} joins{rebuilds}  benefit {}  digest {}",
        plan.plan,
        moment(plan.tick_start_ms),
        plan.mode,
        bytes_told(bytes),
        node_seconds(benefit),
        shortened(&plan.digest)
    )
}

/// Why there is a plan, in a phrase: the warmest node, or else the reason of what was chosen.
pub fn phrase(plan: &Planned) -> String {
    let moves = plan.moves.iter().map(|it| &it.reason);
    let splits = plan.splits.iter().map(|it| &it.reason);
    let joins = plan.joins.iter().map(|it| &it.reason);
    match plan.why.as_slice() {
        [] => {
            let asked = plan.commands.first().map(|it| &it.verb);
            let chosen = moves.chain(splits).chain(joins).chain(asked).next();
            match chosen.map(|it| words(it)) {
                Some(it) => it,
                None if plan.rebuilds.is_empty() => "-".into(),
                None => "a rebuild that was asked for goes on".into(),
            }
        }
        [one] => warmth(one),
        [first, more @ ..] => format!("{}, and {} more", warmth(first), more.len()),
    }
}

/// Part of one, in thousandths: `.93`, `1.04`.
pub fn ratio(permille: u64) -> String {
    let hundredths = permille.saturating_add(5) / 10;
    let text = format!("{}.{:02}", hundredths / 100, hundredths % 100);
    text.strip_prefix('0').map_or(text.clone(), Into::into)
}

/// `9 MB`, in powers of ten.
pub fn bytes_told(bytes: u64) -> String {
    let units =
        [(1_000_000_000_000, "TB"), (1_000_000_000, "GB"), (1_000_000, "MB"), (1_000, "kB")];
    match units.into_iter().find(|(size, _)| *size <= bytes) {
        // One digit behind the point below ten.
        Some((size, unit)) if bytes < size * 10 => {
            let tenths = bytes / (size / 10);
            format!("{}.{} {unit}", tenths / 10, tenths % 10)
        }
        Some((size, unit)) => format!("{} {unit}", bytes / size),
        None => format!("{bytes} B"),
    }
}

/// Millionths as `3.1 %`.
pub fn percent(ppm: u32) -> String {
    let tenths = ppm.saturating_add(500) / 1_000;
    format!("{}.{} %", tenths / 10, tenths % 10)
}

/// A stamp as `2026-01-31 14:03:05`, UTC.
pub fn moment(ms: u64) -> String {
    let time = std::time::UNIX_EPOCH.checked_add(std::time::Duration::from_millis(ms));
    // Behind the year 9999 there is no such text.
    match time.filter(|_| ms < 253_402_300_800_000) {
        Some(time) => {
            let text = humantime::format_rfc3339_seconds(time).to_string();
            text.replace('T', " ").trim_end_matches('Z').into()
        }
        None => format!("{ms} ms"),
    }
}

pub fn shortened(digest: &str) -> String {
    match digest.char_indices().nth(DIGEST_SHOWN) {
        Some((at, _)) => format!("{}…", &digest[..at]),
        None => digest.into(),
    }
}

fn title(plan: &Planned) -> String {
    let from = moment(plan.tick_start_ms);
    let to = moment(plan.tick_start_ms.saturating_add(plan.tick_ms));
    // The day is told once, unless the tick is in two.
    let to = match (from.split_once(' '), to.split_once(' ')) {
        (Some((day, _)), Some((same, time))) if day == same => time.into(),
        _ => to,
    };
    let (tick, mode, digest) = (plan.tick, &plan.mode, shortened(&plan.digest));
    format!("plan {} · tick {tick} ({from} to {to} UTC) · {mode} · digest {digest}", plan.plan)
}

/// Writes lines behind a name; nothing where there are none.
fn section(res: &mut String, name: &str, lines: Vec<String>) {
    for (i, line) in lines.into_iter().enumerate() {
        let name = if i == 0 { name } else { "" };
        res.push_str(format!("{name:<10}{line}").trim_end());
        res.push('\n');
    }
}

fn why(it: &NodePressed) -> String {
    let part = |load: u64| match it.capacity_us_per_s {
        0 => "∞".into(),
        capacity => ratio(
            u64::try_from(u128::from(load) * 1_000 / u128::from(capacity)).unwrap_or(u64::MAX),
        ),
    };
    format!(
        "{}: mean-30 {} at the .9 quantile ({} median), max-30 {} at .95; now {}; {} to be avoided",
        warmth(it),
        part(it.mean30_q90),
        part(it.mean30_q50),
        part(it.max30_q95),
        part(it.load_now),
        node_seconds(it.area_ms)
    )
}

fn warmth(it: &NodePressed) -> String {
    let when = match it.ticks_until {
        None => "stays below what is too warm".into(),
        Some(0) => "is too warm".into(),
        Some(1) => "is too warm in 1 tick".into(),
        Some(n) => format!("is too warm in {n} ticks"),
    };
    format!("{} {when}", it.node)
}

/// What became of what a person asked.
pub fn answered(it: &CommandAnswered) -> String {
    let reason = match it.reason.as_str() {
        "" => String::new(),
        reason => format!(", because {reason:?}"),
    };
    let what = match (&it.refused, it.migration) {
        (Some(code), _) => format!("refused, {}: {}", words(code), it.detail),
        (None, Some(id)) => format!("begun as {id}"),
        (None, None) if it.detail.is_empty() => "done".into(),
        (None, None) => it.detail.clone(),
    };
    format!("{} {} by {:?}{reason}: {what}", it.verb, it.command, it.actor)
}

fn moved(it: &MoveChosen, keys: KeyFormat) -> [String; 2] {
    let span = keys.span(&it.range_start, &it.range_end);
    let id = it.migration.map_or(String::new(), |id| format!("   {id}"));
    let first = format!(
        "move {span} {} → {}   benefit {}   cost {} ({}, {} of the load)   {}{id}",
        it.source,
        it.destination,
        node_seconds(it.benefit_ms),
        node_seconds(it.cost_ms),
        bytes_told(it.bytes),
        percent(it.share_ppm),
        words(&it.reason),
    );
    let second = format!(
        "  {} {} → {}, {} {} → {} (mean-30 at .9)",
        it.source,
        ratio(it.source_before.into()),
        ratio(it.source_after.into()),
        it.destination,
        ratio(it.destination_before.into()),
        ratio(it.destination_after.into()),
    );
    [first, second]
}

fn split(it: &SplitChosen, keys: KeyFormat) -> String {
    let (span, at) = (keys.span(&it.range_start, &it.range_end), listed(&it.at, keys));
    format!("split {span} on {} at {at}   {}", it.node, words(&it.reason))
}

fn joined(it: &JoinChosen, keys: KeyFormat) -> String {
    let (span, at) = (keys.span(&it.range_start, &it.range_end), listed(&it.at, keys));
    format!("join {span} on {} over {at}   {}", it.node, words(&it.reason))
}

fn rebuilt(it: &RebuildChosen, keys: KeyFormat) -> String {
    let span = keys.span(&it.range_start, &it.range_end);
    format!("build {span} on {} again, from the table   {}", it.node, it.migration)
}

fn listed(at: &[schemas::Key], keys: KeyFormat) -> String {
    at.iter().map(|it| keys.key(it)).collect::<Vec<_>>().join(", ")
}

/// What was rejected in one column, why in the next.
fn aligned(rejected: &[Rejected], keys: KeyFormat) -> Vec<String> {
    let what = |it: &Rejected| {
        let span = keys.span(&it.range_start, &it.range_end);
        match &it.destination {
            Some(destination) => format!("{span} {} → {destination}", it.source),
            None => format!("{span} on {}", it.source),
        }
    };
    let width = rejected.iter().map(|it| what(it).chars().count()).max().unwrap_or(0);
    rejected.iter().map(|it| format!("{:width$}   {}", what(it), reason(it))).collect()
}

/// A rejection in words; a code that is newer than this program is told as it stands.
fn reason(it: &Rejected) -> String {
    let [value, limit] = [it.value, it.limit].map(|it| u64::try_from(it).unwrap_or(0));
    let there = it.destination.as_ref().map_or("the destination", |it| it.0.as_str());
    let bytes = |it| bytes_told(it);
    match it.reason.as_str() {
        "pinned" => "pinned".into(),
        "in_flight" => "a migration of it is in flight".into(),
        "forecast_not_own" => "has no forecast of its own yet".into(),
        "cooling_down" => format!("cooling down, {value} ticks left"),
        "too_large" => {
            format!("{} are more than the {} that move at once", bytes(value), bytes(limit))
        }
        "no_destination" => "no node takes it".into(),
        "half_gap" => format!("{value} µs/s are more than half the gap, {limit} µs/s"),
        "destination_too_warm" => {
            format!(
                "would raise {there} to {} (mean-30 at .9), above {}",
                ratio(value),
                ratio(limit)
            )
        }
        "peak_rises" => {
            format!(
                "would raise the peak from {} to {} (max-30 at .95)",
                ratio(limit),
                ratio(value)
            )
        }
        "not_worth_it" => {
            format!("avoids {}, and {} are needed", node_seconds(value), node_seconds(limit))
        }
        "no_room" => format!("needs {}, and {there} has room for {}", bytes(value), bytes(limit)),
        "budget_moves" => format!("{value} moves would be in flight, at most {limit} may"),
        "budget_moves_node" => {
            format!("{value} moves at one node would be in flight, at most {limit} may")
        }
        "budget_bytes" => {
            format!("{} would be in flight, at most {} may", bytes(value), bytes(limit))
        }
        "budget_churn" => {
            format!("{} would have moved in an hour, at most {} may", bytes(value), bytes(limit))
        }
        "ranges_max" => format!("there would be {value} ranges, at most {limit} may be"),
        "one_cell" => "is one cell: nowhere to cut it yet".into(),
        "unsplittable" => {
            let share = percent(u32::try_from(value).unwrap_or(u32::MAX));
            format!("one key or a sweep has {share} of it: no split can help")
        }
        code => format!("{} ({} against {})", words(code), it.value, it.limit),
    }
}

fn rests_on(plan: &Planned) -> String {
    let mut ticks: Vec<u64> = plan.rests_on.iter().map(|it| it.tick).collect();
    ticks.sort_unstable();
    let heatmap = match (ticks.first(), ticks.last()) {
        (Some(first), Some(last)) if first == last => format!("heatmap of tick {first}"),
        (Some(first), Some(last)) => format!("heatmap of ticks {first} to {last}"),
        _ => "no heatmap".into(),
    };
    format!(
        "{heatmap}, {} ranges; inputs {}; policy {}",
        ticks.len(),
        shortened(&plan.inputs_digest),
        shortened(&plan.policy_digest)
    )
}

/// `None`: by a version that did not tell.
fn forecast(plan: &Planned) -> Option<String> {
    if plan.rung.is_empty() {
        return None;
    }
    let Some((skill, coverage)) = plan.skill_permille.zip(plan.coverage80_permille) else {
        return Some(format!("forecast {}, of which too little has come to score it", plan.rung));
    };
    let score = format!(
        "skill {} against persistence, {} % of what came lay in the 80 % interval",
        hundredths(f64::from(skill) / 1_000.0),
        (coverage + 5) / 10
    );
    Some(match plan.rung.as_str() {
        // By choice, or as what is configured was worse lately.
        "persistence" => format!("forecast persistence; what is configured: {score}"),
        rung => format!("forecast {rung}, {score}"),
    })
}

/// Node-milliseconds as `2.9 node-s`.
fn node_seconds(ms: u64) -> String {
    let tenths = ms.saturating_add(50) / 100;
    format!("{}.{} node-s", tenths / 10, tenths % 10)
}

fn words(code: &str) -> String {
    code.replace('_', " ")
}

#[cfg(test)]
pub mod tests;
