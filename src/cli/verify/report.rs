//! Tells what came of comparing the index with the table.

use serde_json::json;

use super::Verified;
use crate::cli::Form;
use crate::cli::keys::KeyFormat;
use crate::verify::compare::{Found, Kind, Verdict};
use crate::verify::tiling;

/// So many faults of each kind are told to a person.
const TOLD_MAX: usize = 20;

/// Tells what was found.
pub fn told(it: &Verified, form: Form, keys: KeyFormat) -> String {
    let count = |kind| it.verdict.count(kind);
    let gaps = it.faults.iter().filter(|it| matches!(it, tiling::Fault::Gap(_))).count();
    let overlaps = it.faults.len() - gaps;
    if form != Form::Table {
        let value = json!({
            "rows": it.rows,
            "rows_without_entry": it.without,
            "entries": it.entries,
            "nodes": it.nodes,
            "ends": it.ends,
            "missing": count(Kind::Missing),
            "extra": count(Kind::Extra),
            "stale": count(Kind::Stale),
            "foreign": count(Kind::Foreign),
            "gaps": gaps,
            "overlaps": overlaps,
            "changing": it.verdict.changing,
            "doubtful": it.verdict.doubtful,
            "on_the_way": it.on_the_way,
            "faults": it.faults.iter().map(|it| fault(it, keys)).collect::<Vec<_>>(),
            "not_listed": Kind::ALL.into_iter().map(count).sum::<u64>() - it.verdict.found.len() as u64,
            "found": it.verdict.found.iter().map(|it| json!({
                "kind": it.kind.name(),
                "node": it.node,
                "index_key": keys.key(&it.index_key),
                "primary_key": keys.key(&it.primary_key),
                "detail": it.detail,
            })).collect::<Vec<_>>(),
        });
        return match form {
            Form::Json => format!("{value:#}\n"),
            Form::Table | Form::Jsonl => format!("{value}\n"),
        };
    }
    let Verified { rows, without, entries, nodes, on_the_way, .. } = it;
    let mut res = format!("{entries} entries on {nodes} nodes against {rows} rows of the table\n");
    let counts = Kind::ALL.map(|kind| format!("{} {}", count(kind), kind.name())).join(", ");
    res.push_str(&format!("{counts}; {gaps} gaps, {overlaps} overlaps\n"));
    let Verdict { changing, doubtful, found, .. } = &it.verdict;
    for (n, why) in [
        (without, "rows have no entry: they were deleted, or have no index key"),
        (changing, "rows have changed meanwhile, and are left out"),
        (doubtful, "rows have records that cannot be used: an old entry of them is no fault"),
        (
            on_the_way,
            "more entries are copies that nobody reads: of ranges that come, or have gone a while ago (worker.grace)",
        ),
    ] {
        if 0 < *n {
            res.push_str(&format!("{n} {why}\n"));
        }
    }
    it.faults.iter().for_each(|it| res.push_str(&format!("{}\n", fault(it, keys))));
    for kind in Kind::ALL {
        let of_kind = || found.iter().filter(|it| it.kind == kind);
        for it in of_kind().take(TOLD_MAX) {
            res.push_str(&format!("{}\n", one(it, keys)));
        }
        let more = count(kind) - of_kind().count().min(TOLD_MAX) as u64;
        if more > 0 {
            res.push_str(&format!(
                "{} … and {more} more; -o json lists more of them\n",
                kind.name()
            ));
        }
    }
    res
}

fn one(it: &Found, keys: KeyFormat) -> String {
    let node = it.node.as_ref().map_or(String::new(), |it| format!(" on {it}"));
    let (index_key, primary_key) = (keys.key(&it.index_key), keys.key(&it.primary_key));
    format!("{} {index_key} of row {primary_key}{node}: {}", it.kind.name(), it.detail)
}

fn fault(it: &tiling::Fault, keys: KeyFormat) -> String {
    match it {
        tiling::Fault::Gap(it) => {
            format!("gap {}: nobody serves it", keys.span(&it.start, &it.end))
        }
        tiling::Fault::Overlap { left, right } => format!(
            "overlap: {} serves {}, and {} serves {}",
            left.0,
            keys.span(&left.1.start, &left.1.end),
            right.0,
            keys.span(&right.1.start, &right.1.end)
        ),
    }
}
