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

/// Writes a latency in µs in milliseconds, with up to three digits that count, or in seconds.
pub fn brief(us: u64) -> String {
    let ms = us as f64 / 1e3;
    match us {
        ..10_000 => format!("{ms:.2} ms"),
        10_000..100_000 => format!("{ms:.1} ms"),
        100_000..10_000_000 => format!("{ms:.0} ms"),
        10_000_000.. => format!("{:.1} s", ms / 1e3),
    }
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
        row("updates sent", &it.updates, it.updates.count()),
    ];
    let mut res = columns(["OUTCOME", "COUNT", "P50", "P99", "P99.9", "MAX"], &rows);
    let mut line = |text: String| res.push_str(&format!("{text}\n"));
    line(format!(
        "{} reads answered, {} failed{}; {} of rows that are not there",
        it.reads_answered(),
        it.reads_failed(),
        reasons(&it.failed_for),
        it.not_found
    ));
    if 0 < it.vanished {
        line(format!(
            "{} of them had been there before, and nothing here deletes rows",
            it.vanished
        ));
    }
    line(format!("{} requests repeated{}", it.repeats, reasons(&it.repeated_for)));
    if 0 < it.updates_failed {
        line(format!("{} updates were not written", it.updates_failed));
    }
    res
}

fn cell(us: Option<u64>) -> String {
    us.map_or("-".into(), brief)
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
        "vanished": it.vanished,
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

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::load::tally::Outcome;

    #[test]
    fn latency_is_told_by_outcome_and_why_reads_have_failed() {
        let mut it = Tally { reads: 1_004, ..Tally::default() };
        for us in 1..=1_000 {
            it.ended(Outcome::Answered { repeated: us % 100 == 0, found: us != 5 }, us * 100);
        }
        it.ended(Outcome::Failed(Reason::Busy), 30_000_000);
        for reason in [Reason::Busy, Reason::TooMany, Reason::TooMany] {
            it.ended(Outcome::Failed(reason), 30_000_123);
        }
        (0..12).for_each(|_| it.repeats(Reason::Lost));
        it.repeats(Reason::Silent);
        expect![[r#"
            OUTCOME                   COUNT  P50      P99      P99.9   MAX
            reads answered at once    990    49.9 ms  99.3 ms  100 ms  100 ms
            reads answered, repeated  10     50.2 ms  100 ms   100 ms  100 ms
            reads failed              4      30.0 s   30.0 s   30.0 s  30.0 s
            updates sent              0      -        -        -       -
            1000 reads answered, 4 failed (2 busy, 2 too_many_under_way); 1 of rows that are not there
            13 requests repeated (12 connection_lost, 1 silent)
        "#]].assert_eq(&told(&it, Form::Table));
        it.updates.record(450);
        it.updates_failed = 3;
        expect![[r#"
            {"answered":1000,"failed":4,"failed_for":{"busy":2,"too_many_under_way":2},"latency_us":{"answered":{"count":1000,"max":100351,"p50":50175,"p99":99327,"p99_9":100351},"answered_at_once":{"count":990,"max":100351,"p50":49919,"p99":99327,"p99_9":100351},"answered_repeated":{"count":10,"max":100351,"p50":50175,"p99":100351,"p99_9":100351},"failed":{"count":2,"max":30015487,"p50":30015487,"p99":30015487,"p99_9":30015487},"updates":{"count":1,"max":451,"p50":451,"p99":451,"p99_9":451}},"not_found":1,"reads":1004,"repeated_for":{"connection_lost":12,"silent":1},"requests_repeated":13,"updates":1,"updates_failed":3,"vanished":0}
        "#]].assert_eq(&told(&it, Form::Jsonl));
        assert!(told(&it, Form::Table).ends_with("\n3 updates were not written\n"));
        let pretty: Value = serde_json::from_str(&told(&it, Form::Json)).unwrap();
        assert_eq!(pretty, value(&it));
    }

    #[test]
    fn latency_is_told_with_the_digits_that_count() {
        let told = [1, 999, 9_994, 12_340, 123_400, 30_000_000].map(brief);
        let expected = ["0.00 ms", "1.00 ms", "9.99 ms", "12.3 ms", "123 ms", "30.0 s"];
        assert_eq!(told, expected);
    }
}
