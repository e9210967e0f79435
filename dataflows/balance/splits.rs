//! Chooses splits: at cells, at no cost, one tick before the moves that they enable.
//!
//! ```text
//!  cells of a hot range   ▁▁▂▇█▇▂▁          too hot to move whole:   [▁▁▂│▇█│▇▂▁]  what fits, the rest
//!                                           ahead of need:           [▁▁▂▇│█│▇▂▁]  pieces of a like load
//!                                           too large to move:       [▁▁▂│▇█▇│▂▁]  pieces of a like size
//! ```
//!
//! * **Bounded.** No decision makes more ranges than `ranges_max`; what is only ahead of need keeps to
//!   the softer bound.
//! * **Only what helps.** A range of one cell stays; heat that no cut can help is reported.

use std::cmp::Reverse;

use schemas::plan::SplitChosen;

use super::board::Board;
use super::explain::{Reason, Refusal, Refusals};
use super::moves;
use super::{Cell, Range};

/// A range is cut into so many pieces at once, at most.
const PIECES_MAX: usize = 8;

/// Chooses splits for what is pressed and cannot be helped by moves, then those ahead of need.
pub fn choose(board: &mut Board<'_>, refusals: &mut Refusals) -> Vec<SplitChosen> {
    let mut room = Room::new(board);
    let mut splits = Vec::new();
    for place in pressed(board) {
        splits.extend(for_pressed(board, place, &mut room, refusals));
    }
    ahead_of_need(board, &mut room, &mut splits);
    splits
}

/// How many ranges and splits may still be made.
struct Room {
    ranges: usize,
    ranges_soft: usize,
    splits: usize,
}

impl Room {
    fn new(board: &Board<'_>) -> Self {
        let (policy, count) = (&board.situation.policy, board.situation.ranges.len());
        Self {
            ranges: (policy.ranges_max as usize).saturating_sub(count),
            ranges_soft: board.ranges_soft().saturating_sub(count),
            splits: policy.splits_max as usize,
        }
    }

    /// How many ranges one more split may add, of those that there is room for.
    fn most(&self, ranges: usize) -> usize {
        if self.splits == 0 { 0 } else { ranges }
    }

    fn take(&mut self, more_ranges: usize) {
        self.ranges -= more_ranges;
        self.ranges_soft = self.ranges_soft.saturating_sub(more_ranges);
        self.splits -= 1;
    }
}

/// Seats that are pressed although the chosen moves are made, the most pressed first.
fn pressed(board: &Board<'_>) -> Vec<usize> {
    let mut places = (0..board.seats.len())
        .map(|place| (board.pressure_ms(&board.seats[place]), place))
        .filter(|(area_ms, _)| *area_ms > 0)
        .collect::<Vec<_>>();
    places.sort_by_key(|(area_ms, place)| (Reverse(*area_ms), *place));
    places.into_iter().map(|(_, place)| place).collect()
}

/// Splits one range of a pressed node, the hottest that can be: into what should move and the rest.
fn for_pressed(
    board: &mut Board<'_>,
    place: usize,
    room: &mut Room,
    refusals: &mut Refusals,
) -> Option<SplitChosen> {
    let coolest = board.coolest_but(place)?;
    let (from, to) = (&board.seats[place], &board.seats[coolest]);
    let hottest = from.load.path().hottest();
    let aim = u128::from(board.situation.policy.aim_permille()) * u128::from(from.capacity) / 1000;
    let excess = u128::from(from.load.path().highest()).saturating_sub(aim);
    let wanted = moves::half_gap(from, to, board.situation.policy.tolerance_permille)
        .min(u64::try_from(excess).unwrap_or(u64::MAX));
    let bytes_max = board.situation.policy.move_bytes_max;
    for index in moves::hottest(board, place) {
        let range = board.range(index);
        let load = board.loads[index].median(hottest);
        if !may_split(board, range) {
            continue;
        }
        if range.bytes <= bytes_max && load <= wanted {
            continue;
        }
        let cells = board.cells(index);
        if cells.len() < 2 {
            refusals.tell(index, None, one_cell(&cells));
            continue;
        }
        let (at, reason) = if range.bytes > bytes_max {
            let bytes: Vec<_> = cells.iter().map(|cell| cell.bytes).collect();
            (even_cuts(&bytes, bytes_max), "too_large")
        } else if wanted > 0 {
            (piece_cuts(&cells, load, wanted), "too_hot_to_move")
        } else {
            continue;
        };
        let cut = Cut { index, cells: &cells, at, reason };
        match split(board, cut, room.most(room.ranges)) {
            Ok(chosen) => {
                room.take(chosen.at.len());
                refusals.forget(index);
                return Some(chosen);
            }
            Err(refusal) => refusals.tell(index, None, refusal),
        }
    }
    None
}

/// Splits ranges whose load is more than a piece, the hottest first, so that later moves find pieces
/// of a suitable size.
fn ahead_of_need(board: &mut Board<'_>, room: &mut Room, splits: &mut Vec<SplitChosen>) {
    let piece = board.piece_load();
    let mut hot = (0..board.loads.len())
        .map(|index| (board.loads[index].path().highest(), index))
        .filter(|(load, index)| *load > piece && may_split(board, board.range(*index)))
        .filter(|(_, index)| !board.touched[*index])
        .collect::<Vec<_>>();
    hot.sort_unstable_by_key(|(load, index)| (Reverse(*load), *index));
    for (load, index) in hot {
        let cells = board.cells(index);
        if cells.len() < 2 {
            continue;
        }
        let loads = loads_of(&cells, load);
        let pieces = load.div_ceil(piece).min(PIECES_MAX as u64);
        let at = even_cuts(&loads, load.div_ceil(pieces));
        let most = room.most(room.ranges_soft);
        let cut = Cut { index, cells: &cells, at, reason: "ahead_of_need" };
        if let Ok(chosen) = split(board, cut, most) {
            room.take(chosen.at.len());
            splits.push(chosen);
        }
    }
}

fn may_split(board: &Board<'_>, range: &Range) -> bool {
    range.settled && !range.pinned && board.situation.nodes.contains_key(&range.node)
}

/// A range is to be cut before some of its cells.
struct Cut<'a> {
    index: usize,
    cells: &'a [Cell],
    at: Vec<usize>,
    reason: &'a str,
}

/// Books a split, or says what stands against it.
fn split(board: &mut Board<'_>, cut: Cut<'_>, room: usize) -> Result<SplitChosen, Refusal> {
    let Cut { index, cells, mut at, reason } = cut;
    at.truncate(PIECES_MAX - 1);
    let wanted = at.len() as u64;
    at.truncate(room);
    let range = board.range(index);
    if wanted == 0 {
        return Err(one_cell(cells));
    }
    if at.is_empty() {
        let count = board.situation.ranges.len() as u64;
        let limit = u64::from(board.situation.policy.ranges_max);
        return Err(Refusal::new(Reason::RangesMax, count.saturating_add(wanted), limit));
    }
    board.touched[index] = true;
    Ok(SplitChosen {
        range_start: range.span.start.clone(),
        range_end: range.span.end.clone(),
        node: range.node.clone(),
        at: at.into_iter().map(|cell| cells[cell].start.clone()).collect(),
        reason: reason.to_owned(),
    })
}

/// Why a range cannot be cut: what the hottest cell says of itself.
fn one_cell(cells: &[Cell]) -> Refusal {
    let hottest = cells.iter().max_by_key(|cell| cell.heat.six().cost_us());
    let ppm = hottest.map_or(0, |cell| cell.unsplittable_ppm);
    if ppm >= 500_000 {
        Refusal::new(Reason::Unsplittable, u64::from(ppm), 500_000)
    } else {
        Refusal::new(Reason::OneCell, cells.len() as u64, 2)
    }
}

/// A range's load, shared by what its cells were asked lately: the last tick counts as much as the
/// mean of the last six, which is steadier.
fn loads_of(cells: &[Cell], load: u64) -> Vec<u64> {
    let asked = |it: i64| u128::from(it.max(0).unsigned_abs());
    let weights = cells
        .iter()
        .map(|cell| 6 * asked(cell.heat.one().cost_us()) + asked(cell.heat.six().cost_us()))
        .collect::<Vec<_>>();
    let sum = weights.iter().sum::<u128>();
    if sum == 0 {
        return vec![load / cells.len().max(1) as u64; cells.len()];
    }
    weights.into_iter().map(|it| (it * u128::from(load) / sum) as u64).collect()
}

/// Cuts into runs of cells whose weights come as near as cells allow to `most`.
fn even_cuts(weights: &[u64], most: u64) -> Vec<usize> {
    let mut at = Vec::new();
    let mut run = 0_u64;
    for (cell, weight) in weights.iter().enumerate() {
        if run > 0 && run.saturating_add(*weight / 2) > most {
            at.push(cell);
            run = 0;
        }
        run = run.saturating_add(*weight);
    }
    at
}

/// Cuts out the run of cells that has the most load of all that fit, and of those the fewest bytes;
/// if not even one cell fits, the hottest alone, so that the others can move away from it.
fn piece_cuts(cells: &[Cell], load: u64, wanted: u64) -> Vec<usize> {
    let loads = loads_of(cells, load);
    let mut best = (0, Reverse(0), [0, 0]);
    let (mut start, mut run, mut bytes) = (0, 0_u64, 0_u64);
    for end in 0..loads.len() {
        run = run.saturating_add(loads[end]);
        bytes = bytes.saturating_add(cells[end].bytes);
        while run > wanted {
            run -= loads[start];
            bytes = bytes.saturating_sub(cells[start].bytes);
            start += 1;
        }
        best = best.max((run, Reverse(bytes), [start, end + 1]));
    }
    let hottest = (0..loads.len()).max_by_key(|cell| (loads[*cell], Reverse(*cell)));
    let (load, _, cuts) = best;
    // A piece that is next to nothing helps nobody.
    let cuts = if load >= (wanted / 4).max(1) {
        cuts
    } else {
        hottest.map_or([0, 0], |cell| [cell, cell + 1])
    };
    cuts.into_iter().filter(|cell| (1..loads.len()).contains(cell)).collect()
}
