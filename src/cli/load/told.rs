//! Tells what came of load: latency by outcome, and why reads were repeated or have failed.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::cli::Form;
use crate::cli::columns::columns;
use crate::load::tally::{Latency, Reason, Tally};

const QUANTILES: [f64; 3] = [0.5, 0.99, 0.999];

pub fn told(it: &Tally, form: Form) -> String {
    match form {
        Form::Table => table(it),
        Form::Json => format!("{:#}\n", value(it)),
        Form::Jsonl => format!("{}\n", value(it)),
    }
}

/// Writes a latency in µs with three digits that count.
pub fn milliseconds(us: u64) -> String {
    let ms = us as f64 / 1e3;
    let digits = if ms < 10.0 {
        2
    } else if ms < 100.0 {
        1
    } else {
        0
    };
    format!("{ms:.digits$} ms")
}

fn table(it: &Tally) -> String {
    let row = |name: &str, latency: &Latency, count: u64| {
        let [p50, p99, p999] = QUANTILES.map(|part| cell(latency.quantile(part)));
        [name.into(), count.to_string(), p50, p99, p999, cell(latency.max())]
    };
    let rows = [
        row("reads answered at once", &it.at_once, it.at_once.count()),
        row("reads answered, repeated", &it.repeated, it.repeated.count()),
        row("reads failed", &it.failed, it.reads_failed()),
        row("updates", &it.updates, it.updates.count()),
    ];
    let mut res = columns(["LATENCY", "COUNT", "P50", "P99", "P99.9", "MAX"], &rows);
    let mut line = |text: String| res.push_str(&format!("{text}\n"));
    line(format!(
        "{} reads answered, {} failed{}; {} of rows that are not there",
        it.reads_answered(),
        it.reads_failed(),
        reasons(&it.failed_for),
        it.not_found
    ));
    line(format!("{} requests repeated{}", it.repeats, reasons(&it.repeated_for)));
    if 0 < it.updates_failed {
        line(format!("{} updates were not written", it.updates_failed));
    }
    res
}

fn cell(us: Option<u64>) -> String {
    us.map_or("-".into(), milliseconds)
}

/// Writes ` (2 busy, 1 late)`; nothing, if there are none.
fn reasons(counts: &BTreeMap<Reason, u64>) -> String {
    let parts: Vec<_> =
        counts.iter().map(|(reason, count)| format!("{count} {}", reason.name())).collect();
    if parts.is_empty() { String::new() } else { format!(" ({})", parts.join(", ")) }
}

fn value(it: &Tally) -> Value {
    let counts = |it: &BTreeMap<Reason, u64>| -> BTreeMap<&str, u64> {
        it.iter().map(|(reason, count)| (reason.name(), *count)).collect()
    };
    json!({
        "reads": it.reads,
        "answered": it.reads_answered(),
        "failed": it.reads_failed(),
        "failed_for": counts(&it.failed_for),
        "not_found": it.not_found,
        "requests_repeated": it.repeats,
        "repeated_for": counts(&it.repeated_for),
        "updates": it.updates.count(),
        "updates_failed": it.updates_failed,
        "latency_us": {
            "answered": latency(&it.answered()),
            "answered_at_once": latency(&it.at_once),
            "answered_repeated": latency(&it.repeated),
            "failed": latency(&it.failed),
            "updates": latency(&it.updates),
        },
    })
}

fn latency(it: &Latency) -> Value {
    let [p50, p99, p999] = QUANTILES.map(|part| it.quantile(part));
    json!({ "count": it.count(), "p50": p50, "p99": p99, "p99_9": p999, "max": it.max() })
}
