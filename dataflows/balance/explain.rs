//! Says why: which nodes are pressed, what was refused and by which number.

use schemas::plan::{NodePressed, Rejected};

use super::Situation;
use super::board::{Board, Seat};
use super::load::{permille, share_ppm};
use crate::forecast::{H1, MEAN30};

/// What stands against a move or a split. The code of each is part of the plan's schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    Pinned,
    InFlight,
    ForecastNotOwn,
    CoolingDown,
    TooLarge,
    NoDestination,
    HalfGap,
    DestinationTooWarm,
    PeakRises,
    NotWorthIt,
    NoRoom,
    BudgetMoves,
    BudgetMovesNode,
    BudgetBytes,
    BudgetChurn,
    RangesMax,
    OneCell,
    Unsplittable,
}

impl Reason {
    pub fn code(self) -> &'static str {
        match self {
            Self::Pinned => "pinned",
            Self::InFlight => "in_flight",
            Self::ForecastNotOwn => "forecast_not_own",
            Self::CoolingDown => "cooling_down",
            Self::TooLarge => "too_large",
            Self::NoDestination => "no_destination",
            Self::HalfGap => "half_gap",
            Self::DestinationTooWarm => "destination_too_warm",
            Self::PeakRises => "peak_rises",
            Self::NotWorthIt => "not_worth_it",
            Self::NoRoom => "no_room",
            Self::BudgetMoves => "budget_moves",
            Self::BudgetMovesNode => "budget_moves_node",
            Self::BudgetBytes => "budget_bytes",
            Self::BudgetChurn => "budget_churn",
            Self::RangesMax => "ranges_max",
            Self::OneCell => "one_cell",
            Self::Unsplittable => "unsplittable",
        }
    }
}

/// A reason, the number that decided, and what it was held against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub reason: Reason,
    pub value: i64,
    pub limit: i64,
}

impl Refusal {
    pub fn new(reason: Reason, value: u64, limit: u64) -> Self {
        let whole = |it| i64::try_from(it).unwrap_or(i64::MAX);
        Self { reason, value: whole(value), limit: whole(limit) }
    }
}

/// More refusals than any plan tells, so that some can be taken back.
const HELD_MAX: usize = 256;

/// What was considered and refused, in the order of the pressed nodes, each one's hottest first.
#[derive(Debug, Default)]
pub struct Refusals(Vec<(usize, Option<usize>, Refusal)>);

impl Refusals {
    /// Tells it once: of a range and destination, the last word counts.
    pub fn tell(&mut self, index: usize, destination: Option<usize>, refusal: Refusal) {
        let same = |it: &&mut (usize, Option<usize>, Refusal)| it.0 == index && it.1 == destination;
        let held = self.0.len();
        match self.0.iter_mut().find(same) {
            Some(told) => told.2 = refusal,
            None if held < HELD_MAX => self.0.push((index, destination, refusal)),
            None => (),
        }
    }

    /// Takes back what was told of a range that moves or is split after all.
    pub fn forget(&mut self, index: usize) {
        self.0.retain(|(it, _, _)| *it != index);
    }

    /// The first of them, in the plan's form.
    pub fn told(self, situation: &Situation) -> Vec<Rejected> {
        let nodes = situation.nodes.keys().collect::<Vec<_>>();
        let told = |(index, destination, refusal): (usize, Option<usize>, Refusal)| {
            let range = &situation.ranges[index];
            Rejected {
                range_start: range.span.start.clone(),
                range_end: range.span.end.clone(),
                source: range.node.clone(),
                destination: destination.map(|place| nodes[place].clone()),
                reason: refusal.reason.code().to_owned(),
                value: refusal.value,
                limit: refusal.limit,
            }
        };
        let told_max = situation.policy.rejected_max as usize;
        self.0.into_iter().take(told_max).map(told).collect()
    }
}

/// The nodes that are or will be too warm, the warmest first.
pub fn pressed(board: &Board<'_>) -> Vec<NodePressed> {
    let warm = board.situation.policy.warm_permille;
    let mut pressed = board
        .seats
        .iter()
        .filter_map(|seat| {
            let area_ms = board.pressure_ms(seat);
            (area_ms > 0).then(|| NodePressed {
                node: seat.id.clone(),
                capacity_us_per_s: seat.node.capacity_us_per_s,
                load_now: seat.node.load_now,
                mean30_q50: seat.load.median(MEAN30),
                mean30_q90: seat.load.sustained(&board.swing),
                max30_q95: seat.load.peak(&board.swing),
                area_ms,
                ticks_until: seat.load.path().ticks_until(&seat.level(warm)),
            })
        })
        .collect::<Vec<_>>();
    pressed.sort_by(|a, b| b.area_ms.cmp(&a.area_ms).then_with(|| a.node.cmp(&b.node)));
    pressed
}

/// A range's share of the total load in the next tick, in millionths.
pub fn range_share_ppm(board: &Board<'_>, index: usize) -> u32 {
    share_ppm(board.loads[index].median(H1), board.swing.total(H1))
}

/// Mean-30 at .9 ÷ capacity, in thousandths.
pub fn sustained_permille(board: &Board<'_>, seat: &Seat<'_>) -> u32 {
    permille(seat.load.sustained(&board.swing), seat.capacity)
}
