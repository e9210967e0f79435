//! Decides where ranges should be: the desired assignment, and why.
//!
//! ```text
//!  Situation ── pressure ──> moves ───> splits ─> joins ──> Decision
//!  ranges, nodes,  who is      benefit    at         cold       what, why,
//!  policy, budget  too warm    − cost     cells      neighbours why not
//! ```
//!
//! * **Pure.** A decision follows from the situation alone, all of it integers: the same situation
//!   gives the same decision, byte for byte, on any machine.
//! * **Explained.** What was considered and not done is told with the number that decided.
//! * **Bounded.** No decision goes past the budget that it is given.
//! * **Cheap when calm.** What is not pressed costs one pass over ranges; cells are asked for only where
//!   a range may be split.
//!
//! How it judges, as it came out best in a fluid model of a hot spot that travels:
//!
//! 1. What is likely of a range is its median, or its mean where the forecast knows where load goes
//!    ([`Likely`]). All are raised alike until they add up to the total's (twofold at most): the
//!    median of a range that may or may not become hot is below its mean, the total is well known.
//! 2. A node is **pressed** when its median path (1, 6, 30 ticks, straight between) has overload
//!    above `warm - headroom`; it is then relieved of what is above `warm - headroom - band`. The
//!    headroom is for what comes while a move is carried out, the band keeps it from being pressed
//!    again at once. The path, not the mean of the horizon, because a hot spot that is here now and
//!    gone in twenty ticks is overload as well.
//! 3. **Benefit** is the area that the source is relieved of (median), less what the destination
//!    must fear (the greater of its median area above the same aim, and its area at .9 above `warm`
//!    itself), from the tick on in which the move takes effect. **Cost** is a tenth of the
//!    transfer time, the time of both nodes that copying takes, and the disruption.
//! 4. Checks: mean-30 at .9 of the destination stays below `warm` (or what the source had), and the
//!    greater of the two peaks (max-30 at .95) does not rise; at most half the gap moves, measured
//!    when the source is hottest; pins, rest, flight, room and budgets.
//! 5. Of the offers, that with the most net benefit squared for each byte; then again, from the most
//!    pressed node.
//! 6. What is still pressed is split into a piece that fits; whatever has more load than a piece is
//!    split ahead of need, and cold neighbours below a quarter of a piece join.

pub mod policy;
pub mod load;
mod board;
mod moves;
mod splits;
mod joins;
mod explain;
#[cfg(test)]
mod fluid;
#[cfg(test)]
mod scenarios;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use schemas::{CellId, Epoch, Key, KeySpan, NodeId, RangeId, plan};

use crate::Tick;
use crate::forecast::RangeForecast;
use crate::heat::Rolling;
use board::Board;
pub use explain::Refusal;
use explain::Refusals;
pub use load::Likely;
use policy::Policy;

/// All that a decision rests on.
#[derive(Clone, Debug)]
pub struct Situation {
    /// The tick that has just ended. What is decided takes effect behind it.
    pub tick: Tick,
    pub tick_ms: u64,
    /// Contiguous, in key order, tiling the key space; owners as after the moves in flight.
    pub ranges: Vec<Range>,
    pub nodes: BTreeMap<NodeId, Node>,
    /// The forecast of the load of all ranges together.
    pub total: RangeForecast,
    /// What of a forecast is likely.
    pub likely: Likely,
    pub budget: Budget,
    pub policy: Policy,
}

/// One range, as it will be when the moves in flight are over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Range {
    pub id: RangeId,
    pub span: KeySpan,
    pub epoch: Epoch,
    /// The owner; of a range that is moving, its destination.
    pub node: NodeId,
    /// No START without COMPLETE or FAILED: it may be split, joined and moved.
    pub settled: bool,
    /// Moved not long ago: not to be moved before this tick. Its children inherit it.
    pub cool_until: Tick,
    /// Moved, split or joined not long ago: not to be joined before this tick.
    pub join_after: Tick,
    pub pinned: bool,
    pub bytes: u64,
    pub forecast: RangeForecast,
    /// False while the forecast is only a share of the parent's.
    pub own_forecast: bool,
}

/// Tells the cells of a range in key order, tiling it; at least one.
pub type CellsOf<'a> = dyn Fn(&Range) -> Vec<Cell> + 'a;

/// One cell of a range: the grain at which a range can be split.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cell {
    pub id: CellId,
    pub start: Key,
    pub heat: Rolling,
    /// Bytes of index entries, as far as known.
    pub bytes: u64,
    /// No cut can help it: one key, or a sweep, has this part of its load, in millionths.
    pub unsplittable_ppm: u32,
}

/// One node that can own ranges.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    pub capacity_us_per_s: u64,
    /// May be given ranges: not cordoned, draining, read-only or silent.
    pub takes: bool,
    /// Room for more bytes; `None` if it does not tell.
    pub bytes_free: Option<u64>,
    /// Load of the last tick, by owner, in `cost_us` per second.
    pub load_now: u64,
    /// Moves in flight to or from it.
    pub moves_in_flight: u32,
}

/// What may still be spent, of all that policy allows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Budget {
    pub moves_in_flight: u32,
    pub bytes_in_flight: u64,
    /// Bytes moved in the last hour, in flight included.
    pub churn_bytes: u64,
}

/// A move that a person wants, of a range that is settled, to a node that takes ranges.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    pub span: KeySpan,
    pub node: NodeId,
}

/// Decides what is to be done at the end of a tick.
pub fn decide(situation: &Situation, cells_of: &CellsOf<'_>) -> Decision {
    decide_after(situation, &[], cells_of)
}

/// Decides what is to be done after the moves that people want.
pub fn decide_after(situation: &Situation, wanted: &[Wanted], cells_of: &CellsOf<'_>) -> Decision {
    let mut board = Board::new(situation, cells_of);
    let mut refusals = Refusals::default();
    let why = explain::pressed(&board);
    let (mut moves, refused) = moves::by_hand(&mut board, wanted);
    moves.extend(moves::choose(&mut board, &mut refusals));
    let splits = splits::choose(&mut board, &mut refusals);
    let joins = joins::choose(&mut board);
    Decision { why, splits, moves, joins, rejected: refusals.told(situation), refused }
}

/// Decides on what people want alone, within the same budget.
pub fn decide_by_hand(situation: &Situation, wanted: &[Wanted]) -> Decision {
    let mut board = Board::new(situation, &|_| Vec::new());
    let (moves, refused) = moves::by_hand(&mut board, wanted);
    Decision { moves, refused, ..Decision::default() }
}

/// What is to be done, and what not, with reasons. Ranges are named by their spans.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Decision {
    pub why: Vec<plan::NodePressed>,
    pub splits: Vec<plan::SplitChosen>,
    pub moves: Vec<plan::MoveChosen>,
    pub joins: Vec<plan::JoinChosen>,
    pub rejected: Vec<plan::Rejected>,
    /// What stands against moves that people want, by their place among these.
    pub refused: Vec<(usize, Refusal)>,
}
