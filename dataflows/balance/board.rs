//! Keeps the working copy of a situation on which a decision is tried out, move by move.

use std::collections::HashMap;

use schemas::NodeId;

use super::load::{Level, Load, Swing, loads, permille};
use super::{Cell, CellsOf, Node, Range, Situation};

/// A situation with what has been chosen so far.
pub struct Board<'a> {
    pub situation: &'a Situation,
    cells_of: &'a CellsOf<'a>,
    pub seats: Vec<Seat<'a>>,
    /// In the order of the situation's ranges.
    pub loads: Vec<Load>,
    /// Ranges that this decision moves, splits or joins already.
    pub touched: Vec<bool>,
    pub swing: Swing,
    pub spent: Spent,
}

/// A node and what lies on it, with what is chosen so far.
pub struct Seat<'a> {
    pub id: &'a NodeId,
    pub node: &'a Node,
    /// At least one.
    pub capacity: u64,
    pub load: Load,
    /// Indices of its ranges, in key order; what is chosen to leave is still among them.
    pub ranges: Vec<usize>,
    pub moves_in_flight: u32,
    pub bytes_free: Option<u64>,
}

/// What is in flight or moved within the hour, with what is chosen so far.
#[derive(Clone, Debug)]
pub struct Spent {
    pub moves: u32,
    pub bytes: u64,
    pub churn_bytes: u64,
}

impl<'a> Board<'a> {
    pub fn new(situation: &'a Situation, cells_of: &'a CellsOf<'a>) -> Self {
        let mut seats = situation.nodes.iter().map(Seat::new).collect::<Vec<_>>();
        // Looked up only, so its order cannot show.
        let places: HashMap<&NodeId, usize> =
            seats.iter().enumerate().map(|(place, seat)| (seat.id, place)).collect();
        let forecasts = situation.ranges.iter().map(|it| &it.forecast);
        let (loads, swing) = loads(forecasts, &situation.total, situation.likely);
        let mut last: Option<(&NodeId, usize)> = None;
        for (index, (range, load)) in situation.ranges.iter().zip(&loads).enumerate() {
            // Neighbours often share their node, and a look-up compares names.
            if last.is_none_or(|(node, _)| *node != range.node) {
                last = places.get(&range.node).map(|place| (&range.node, *place));
            }
            if let Some((_, place)) = last {
                seats[place].load = seats[place].load.plus(load);
                seats[place].ranges.push(index);
            }
        }
        let budget = &situation.budget;
        Self {
            situation,
            cells_of,
            seats,
            touched: vec![false; loads.len()],
            swing,
            loads,
            spent: Spent {
                moves: budget.moves_in_flight,
                bytes: budget.bytes_in_flight,
                churn_bytes: budget.churn_bytes,
            },
        }
    }

    pub fn range(&self, index: usize) -> &'a Range {
        &self.situation.ranges[index]
    }

    pub fn cells(&self, index: usize) -> Vec<Cell> {
        (self.cells_of)(self.range(index))
    }

    /// Overload over the horizon that a node is to be relieved of: none unless its likely load makes
    /// it pressed, then all above what it is to be brought down to.
    pub fn pressure_ms(&self, seat: &Seat<'_>) -> u64 {
        let (policy, tick_ms) = (&self.situation.policy, self.situation.tick_ms);
        let pressed = seat.level(policy.pressed_permille());
        if seat.load.path().area_ms(&pressed, 1, tick_ms) < policy.net_benefit_ms_min.max(1) {
            return 0;
        }
        self.likely_ms(seat, &seat.load, 1)
    }

    /// Area of the median path above the aim, from a tick on, if a node had this load.
    pub fn likely_ms(&self, seat: &Seat<'_>, load: &Load, from: u64) -> u64 {
        let aim = seat.level(self.situation.policy.aim_permille());
        load.path().area_ms(&aim, from, self.situation.tick_ms)
    }

    /// What a destination must fear: what is likely, or at .9 the area above the threshold itself,
    /// whichever is more.
    pub fn feared_ms(&self, seat: &Seat<'_>, load: &Load, from: u64) -> u64 {
        let warm = seat.level(self.situation.policy.warm_permille);
        let upper = load.upper_path(&self.swing).area_ms(&warm, from, self.situation.tick_ms);
        upper.max(self.likely_ms(seat, load, from))
    }

    /// The softer bound: with so many ranges, splits ahead of need stop.
    pub fn ranges_soft(&self) -> usize {
        let policy = &self.situation.policy;
        let takers = self.situation.nodes.values().filter(|node| node.takes).count();
        (takers * policy.ranges_per_node_soft as usize).min(policy.ranges_max as usize)
    }

    /// Load above which a range is split ahead of need.
    pub fn piece_load(&self) -> u64 {
        let sum = self.seats.iter().map(|seat| u128::from(seat.capacity)).sum::<u128>();
        let mean = sum / self.seats.len().max(1) as u128;
        let load = mean * u128::from(self.situation.policy.piece_permille) / 1000;
        u64::try_from(load).unwrap_or(u64::MAX).max(1)
    }

    /// The seat that takes ranges and has the least load for its capacity, but for one.
    pub fn coolest_but(&self, source: usize) -> Option<usize> {
        (0..self.seats.len())
            .filter(|place| *place != source && self.seats[*place].node.takes)
            .min_by_key(|place| self.seats[*place].warmth())
    }

    /// Takes a range from one seat to another and books what it costs.
    pub fn shift(&mut self, index: usize, source: usize, destination: usize) {
        let (load, bytes) = (self.loads[index], self.range(index).bytes);
        let from = &mut self.seats[source];
        from.load = from.load.minus(&load);
        from.moves_in_flight = from.moves_in_flight.saturating_add(1);
        let to = &mut self.seats[destination];
        to.load = to.load.plus(&load);
        to.moves_in_flight = to.moves_in_flight.saturating_add(1);
        to.bytes_free = to.bytes_free.map(|free| free.saturating_sub(bytes));
        self.touched[index] = true;
        self.spent.moves = self.spent.moves.saturating_add(1);
        self.spent.bytes = self.spent.bytes.saturating_add(bytes);
        self.spent.churn_bytes = self.spent.churn_bytes.saturating_add(bytes);
    }
}

impl<'a> Seat<'a> {
    fn new((id, node): (&'a NodeId, &'a Node)) -> Self {
        Self {
            id,
            node,
            capacity: node.capacity_us_per_s.max(1),
            load: Load::default(),
            ranges: Vec::new(),
            moves_in_flight: node.moves_in_flight,
            bytes_free: node.bytes_free,
        }
    }

    pub fn level(&self, permille: u32) -> Level {
        Level { permille, capacity_us_per_s: self.capacity }
    }

    /// Mean of the median path ÷ capacity, in thousandths.
    pub fn warmth(&self) -> u32 {
        permille(self.load.path().mean(), self.capacity)
    }
}
