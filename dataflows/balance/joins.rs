//! Chooses joins: neighbours on one node that have been cold for a while become one by relabelling.
//!
//! ```text
//!  n1 n1 n1 n2 n2 n1        a run of one node's settled cold ranges joins up to a load
//!  ▁  ▁  ▂  ▁  █  ▁   ──>   that is far below what would be split again
//!  [  join ]
//! ```

use schemas::plan::JoinChosen;

use super::Range;
use super::board::Board;

/// Chooses joins while there are more ranges than each node should have.
pub fn choose(board: &mut Board<'_>) -> Vec<JoinChosen> {
    let (policy, ranges) = (&board.situation.policy, &board.situation.ranges);
    let takers = board.situation.nodes.values().filter(|node| node.takes).count();
    let least = takers * policy.ranges_per_node_min as usize;
    let mut spare = ranges.len().saturating_sub(least);
    let limits = Limits::new(board);
    let mut joins = Vec::new();
    let mut first = 0;
    while first < ranges.len() && spare > 0 && joins.len() < policy.joins_max as usize {
        let run = run_length(board, first, &limits, spare);
        if run > 1 {
            board.touched[first..first + run].fill(true);
            joins.push(join(&ranges[first..first + run]));
            spare -= run - 1;
        }
        first += run;
    }
    joins
}

/// What a joined range may have.
struct Limits {
    load: u64,
    bytes: u64,
}

impl Limits {
    /// A quarter of what is split ahead of need; half of it when there are more ranges than the
    /// softer bound allows.
    fn new(board: &Board<'_>) -> Self {
        let crowded = board.situation.ranges.len() > board.ranges_soft();
        let load = board.piece_load() / if crowded { 2 } else { 4 };
        Self { load, bytes: board.situation.policy.move_bytes_max / 2 }
    }
}

/// How many ranges from the first on can be one: at least the first itself.
fn run_length(board: &Board<'_>, first: usize, limits: &Limits, spare: usize) -> usize {
    let ranges = &board.situation.ranges;
    let (mut load, mut bytes, mut run) = (0_u64, 0_u64, 0);
    for index in first..ranges.len().min(first + spare + 1) {
        let range = &ranges[index];
        load = load.saturating_add(board.loads[index].path().highest());
        bytes = bytes.saturating_add(range.bytes);
        let fits = load <= limits.load && bytes <= limits.bytes && range.node == ranges[first].node;
        if !fits || !may_join(board, index) {
            break;
        }
        run += 1;
    }
    run.max(1)
}

fn may_join(board: &Board<'_>, index: usize) -> bool {
    let (range, tick) = (board.range(index), board.situation.tick);
    let rested = range.cool_until <= tick && range.join_after <= tick;
    let free = !board.touched[index] && range.settled && !range.pinned && range.own_forecast;
    free && rested && board.situation.nodes.contains_key(&range.node)
}

fn join(run: &[Range]) -> JoinChosen {
    let (first, last) = (&run[0], &run[run.len() - 1]);
    JoinChosen {
        range_start: first.span.start.clone(),
        range_end: last.span.end.clone(),
        node: first.node.clone(),
        at: run[1..].iter().map(|range| range.span.start.clone()).collect(),
        reason: "cold".to_owned(),
    }
}
