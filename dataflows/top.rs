//! Finds the hottest ranges over the six-tick window.
//!
//! ```text
//!  (range, heat) ──> 64 groups ──> the k hottest of each ──> the k hottest of all
//! ```
//!
//! **Incremental.** A tick costs the groups that have a range whose heat changed, and the last step if one
//! of their hottest did: not all ranges.

use std::cmp::Reverse;

use schemas::RangeId;

use crate::Rows;
use crate::heat::Rolling;

/// Ten thousand ranges are about as many in a group as there are hottest of all groups.
const GROUPS: u64 = 64;

/// Heat of six ticks in microseconds, the hottest first; of equals, the lower id.
type Rank = (Reverse<i64>, RangeId);

/// The `k` ranges with the highest cost over the last six ticks, and that cost.
pub fn top<'scope>(
    heat: Rows<'scope, (RangeId, Rolling)>,
    k: usize,
) -> Rows<'scope, (RangeId, i64)> {
    let rank = |(range, heat): (RangeId, Rolling)| {
        let cost_us = heat.six().cost_us();
        (cost_us > 0).then_some((range.0 % GROUPS, (Reverse(cost_us), range)))
    };
    let of_groups = hottest(heat.flat_map(rank), k, "TopOfGroups");
    let of_all = hottest(of_groups.map(|(_, rank)| (0, rank)), k, "Top");
    of_all.map(|(_, (Reverse(cost_us), range))| (range, cost_us))
}

/// The `k` first by rank, in each group.
fn hottest<'scope>(
    ranked: Rows<'scope, (u64, Rank)>,
    k: usize,
    name: &str,
) -> Rows<'scope, (u64, Rank)> {
    ranked.reduce_named(name, move |_group, ranks, hottest| {
        hottest.extend(ranks.iter().take(k).map(|(rank, _)| (**rank, 1)));
    })
}
