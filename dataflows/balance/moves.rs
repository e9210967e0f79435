//! Chooses which whole ranges move: from the most pressed node, the one that pays most.
//!
//! ```text
//!  most pressed node ── its hottest ranges ── coolest nodes ── offers ── best one ── book, again
//!                        may it move at all?   does it fit?     benefit − cost
//! ```
//!
//! * **Careful.** What the source is relieved of counts at the median, what the destination takes
//!   on at .9; its sustained load at .9 and the pair's peak at .95 must not become worse.
//! * **Never past even.** At most half the gap between the two nodes moves.
//! * **Who has moved rests.** For each tick of rest that is left, moving again must win so much more: a forecast that
//!   wavers moves nothing to and fro, and one that turned out wrong does not keep a load where it cannot stay.

use std::cmp::Reverse;

use schemas::NodeId;
use schemas::plan::MoveChosen;

use super::board::{Board, Seat};
use super::explain::{self, Reason, Refusal, Refusals};
use super::load::{Load, permille};
use super::{Range, Wanted};

/// What a transfer costs of its time, in thousandths: it keeps the link busy, and not the nodes, whose own work counts
/// besides. As a whole, moves over a slow link never pay, however long a node has too much to do (`docs/performance.md`).
const LINK_PERMILLE: u128 = 100;

/// A move that may be made, with its numbers.
#[derive(Clone, Copy, Debug)]
struct Offer {
    index: usize,
    destination: usize,
    benefit_ms: u64,
    cost_ms: u64,
}

/// Chooses moves until no node is pressed, nothing pays or a budget is spent.
pub fn choose(board: &mut Board<'_>, refusals: &mut Refusals) -> Vec<MoveChosen> {
    let mut moves = Vec::new();
    let mut given_up = vec![false; board.seats.len()];
    while let Some(source) = most_pressed(board, &given_up) {
        match best(board, source, refusals) {
            Some(offer) => {
                refusals.forget(offer.index);
                moves.push(carry_out(board, source, offer));
            }
            None => given_up[source] = true,
        }
    }
    moves
}

/// Takes the moves that people want, in their order, as far as the budget goes; what stands against
/// the others is told by their place. What they cost is booked before anything else is chosen.
pub fn by_hand(
    board: &mut Board<'_>,
    wanted: &[Wanted],
) -> (Vec<MoveChosen>, Vec<(usize, Refusal)>) {
    let (mut moves, mut refused) = (Vec::new(), Vec::new());
    for (place, it) in wanted.iter().enumerate() {
        match one_by_hand(board, it) {
            Ok(chosen) => moves.push(chosen),
            Err(refusal) => refused.push((place, refusal)),
        }
    }
    (moves, refused)
}

fn one_by_hand(board: &mut Board<'_>, wanted: &Wanted) -> Result<MoveChosen, Refusal> {
    let found = board.situation.ranges.iter().position(|it| it.span == wanted.span);
    let index = found.expect("what is wanted was checked: it is a range");
    let range = board.range(index);
    if board.touched[index] {
        return Err(Refusal::new(Reason::InFlight, 1, 0));
    }
    let seat = |node: &NodeId| board.seats.iter().position(|it| it.id == node);
    let [Some(source), Some(destination)] = [&range.node, &wanted.node].map(seat) else {
        panic!("what is wanted was checked: both nodes state what they can do")
    };
    fits_budget(board, range, source, destination)?;
    let seats = [source, destination].map(|place| &board.seats[place]);
    let cost_ms = cost_ms(board, range.bytes, seats);
    let chosen = carry_out(board, source, Offer { index, destination, benefit_ms: 0, cost_ms });
    Ok(MoveChosen { reason: "by_hand".to_owned(), ..chosen })
}

fn most_pressed(board: &Board<'_>, given_up: &[bool]) -> Option<usize> {
    let pressure = |place: &usize| board.pressure_ms(&board.seats[*place]);
    (0..board.seats.len())
        .filter(|place| !given_up[*place])
        .map(|place| (pressure(&place), Reverse(place)))
        .max()
        .filter(|(area_ms, _)| *area_ms > 0)
        .map(|(_, Reverse(place))| place)
}

/// The best offer for a pressed node; what stands against the others is told.
fn best(board: &Board<'_>, source: usize, refusals: &mut Refusals) -> Option<Offer> {
    let destinations = destinations(board, source);
    let mut offers = Vec::new();
    for index in hottest(board, source) {
        if let Err(refusal) = may_move(board, index) {
            refusals.tell(index, None, refusal);
            continue;
        }
        if destinations.is_empty() {
            refusals.tell(index, None, Refusal::new(Reason::NoDestination, 0, 1));
        }
        for destination in destinations.iter().copied() {
            match offer(board, index, source, destination) {
                Ok(offer) => offers.push(offer),
                Err(refusal) => refusals.tell(index, Some(destination), refusal),
            }
        }
    }
    pick(board, &offers)
}

/// The offer with the most net benefit squared for each byte. Net benefit alone would take along
/// wide cold ranges that may be hot later, benefit for each byte only crumbs. Then the cooler
/// destination, then the lower key.
fn pick(board: &Board<'_>, offers: &[Offer]) -> Option<Offer> {
    let rank = |offer: &&Offer| {
        let net = u128::from((offer.benefit_ms - offer.cost_ms).min(u64::from(u32::MAX)));
        let kib = u128::from(board.range(offer.index).bytes >> 10) + 1;
        let warmth = board.seats[offer.destination].warmth();
        (net * net * 1000 / kib, Reverse((warmth, offer.destination, offer.index)))
    };
    offers.iter().max_by_key(rank).copied()
}

/// The hottest ranges of a node that this decision has not touched, a bounded number.
pub fn hottest(board: &Board<'_>, place: usize) -> Vec<usize> {
    let mut ranges = board.seats[place]
        .ranges
        .iter()
        .filter(|index| !board.touched[**index])
        .map(|index| (Reverse(board.loads[*index].path().mean()), *index))
        .collect::<Vec<_>>();
    ranges.sort_unstable();
    ranges.truncate(board.situation.policy.candidates_max as usize);
    ranges.into_iter().filter(|(load, _)| load.0 > 0).map(|(_, index)| index).collect()
}

/// The coolest nodes that take ranges, a bounded number.
fn destinations(board: &Board<'_>, source: usize) -> Vec<usize> {
    let mut places = (0..board.seats.len())
        .filter(|place| *place != source && board.seats[*place].node.takes)
        .map(|place| (board.seats[place].warmth(), place))
        .collect::<Vec<_>>();
    places.sort_unstable();
    places.truncate(board.situation.policy.destinations_max as usize);
    places.into_iter().map(|(_, place)| place).collect()
}

/// What stands against moving a range, wherever to.
pub fn may_move(board: &Board<'_>, index: usize) -> Result<(), Refusal> {
    let (range, policy) = (board.range(index), &board.situation.policy);
    if range.pinned {
        Err(Refusal::new(Reason::Pinned, 1, 0))
    } else if !range.settled {
        Err(Refusal::new(Reason::InFlight, 1, 0))
    } else if !range.own_forecast {
        Err(Refusal::new(Reason::ForecastNotOwn, 0, 1))
    } else if range.bytes > policy.move_bytes_max {
        Err(Refusal::new(Reason::TooLarge, range.bytes, policy.move_bytes_max))
    } else {
        Ok(())
    }
}

/// What a move is worth, or what stands against it.
fn offer(
    board: &Board<'_>,
    index: usize,
    source: usize,
    destination: usize,
) -> Result<Offer, Refusal> {
    let range = board.range(index);
    fits_budget(board, range, source, destination)?;
    let load = &board.loads[index];
    let (from, to) = (&board.seats[source], &board.seats[destination]);
    let even = half_gap(from, to, board.situation.policy.tolerance_permille);
    let moved = load.median(from.load.path().hottest());
    if moved > even {
        return Err(Refusal::new(Reason::HalfGap, moved, even));
    }
    let after = [from.load.minus(load), to.load.plus(load)];
    stays_cool(board, [from, to], &after)?;
    worth_it(board, index, [source, destination], &after)
}

fn fits_budget(
    board: &Board<'_>,
    range: &Range,
    source: usize,
    destination: usize,
) -> Result<(), Refusal> {
    let (policy, spent) = (&board.situation.policy, &board.spent);
    let (from, to) = (&board.seats[source], &board.seats[destination]);
    let busiest = u64::from(from.moves_in_flight.max(to.moves_in_flight));
    let room = to.bytes_free.unwrap_or(u64::MAX);
    let bounds = [
        (Reason::BudgetMoves, u64::from(spent.moves), 1, u64::from(policy.moves_in_flight_max)),
        (Reason::BudgetMovesNode, busiest, 1, u64::from(policy.moves_in_flight_per_node_max)),
        (Reason::BudgetBytes, spent.bytes, range.bytes, policy.bytes_in_flight_max),
        (Reason::BudgetChurn, spent.churn_bytes, range.bytes, policy.churn_bytes_per_hour_max),
        (Reason::NoRoom, 0, range.bytes, room),
    ];
    for (reason, spent, more, limit) in bounds {
        let value = spent.saturating_add(more);
        // A sum that was cut off at its type's end is past any limit.
        if value > limit || spent.checked_add(more).is_none() {
            return Err(Refusal::new(reason, value, limit));
        }
    }
    Ok(())
}

/// The load that would make two nodes even, by their capacities, when the source is hottest; none
/// if they are even already.
pub fn half_gap(from: &Seat<'_>, to: &Seat<'_>, tolerance_permille: u32) -> u64 {
    let then = from.load.path().hottest();
    let [from_load, to_load] = [from, to].map(|seat| seat.load.median(then));
    let warmth = permille(to_load, to.capacity).saturating_add(tolerance_permille);
    if permille(from_load, from.capacity) <= warmth {
        return 0;
    }
    let [from_load, to_load] = [from_load, to_load].map(u128::from);
    let [from_capacity, to_capacity] = [from, to].map(|seat| u128::from(seat.capacity));
    let gap = (from_load * to_capacity).saturating_sub(to_load * from_capacity);
    u64::try_from(gap / (from_capacity + to_capacity)).unwrap_or(u64::MAX)
}

/// The checks on the sustained load of the destination and on the peak of both.
fn stays_cool(board: &Board<'_>, seats: [&Seat<'_>; 2], after: &[Load; 2]) -> Result<(), Refusal> {
    let [from, to] = seats;
    let swing = &board.swing;
    let warm = board.situation.policy.warm_permille;
    let limit = warm.max(permille(from.load.sustained(swing), from.capacity));
    let sustained = permille(after[1].sustained(swing), to.capacity);
    if sustained > limit {
        let [value, limit] = [sustained, limit].map(u64::from);
        return Err(Refusal::new(Reason::DestinationTooWarm, value, limit));
    }
    let peak = |loads: [&Load; 2]| {
        permille(loads[0].peak(swing), from.capacity)
            .max(permille(loads[1].peak(swing), to.capacity))
    };
    let [peak_before, peak_after] =
        [peak([&from.load, &to.load]), peak([&after[0], &after[1]])].map(u64::from);
    if peak_after > peak_before {
        return Err(Refusal::new(Reason::PeakRises, peak_after, peak_before));
    }
    Ok(())
}

/// Overload that the move avoids from when it takes effect on, against what it costs.
fn worth_it(
    board: &Board<'_>,
    index: usize,
    places: [usize; 2],
    after: &[Load; 2],
) -> Result<Offer, Refusal> {
    let (policy, tick_ms) = (&board.situation.policy, board.situation.tick_ms.max(1));
    let [from, to] = places.map(|place| &board.seats[place]);
    let transfer_ms = transfer_ms(board, board.range(index).bytes, [from, to]);
    // Copied in the ticks after this one, committed at the end of the last of them.
    let effect = 1 + transfer_ms.div_ceil(tick_ms).max(1);
    let avoided = board
        .likely_ms(from, &from.load, effect)
        .saturating_sub(board.likely_ms(from, &after[0], effect));
    let caused = board
        .feared_ms(to, &after[1], effect)
        .saturating_sub(board.feared_ms(to, &to.load, effect));
    let benefit_ms = avoided.saturating_sub(caused);
    let cost_ms = cost_ms(board, board.range(index).bytes, [from, to]);
    let least = cost_ms.saturating_add(policy.net_benefit_ms_min);
    if benefit_ms < least {
        return Err(Refusal::new(Reason::NotWorthIt, benefit_ms, least));
    }
    let rest = board.range(index).cool_until.saturating_sub(board.situation.tick);
    let of_a_tick = policy.net_benefit_ms_min.saturating_add(policy.disruption_ms);
    if benefit_ms - least < of_a_tick.saturating_mul(rest) {
        return Err(Refusal::new(Reason::CoolingDown, rest, 0));
    }
    Ok(Offer { index, destination: places[1], benefit_ms, cost_ms })
}

/// What a move costs, in milliseconds of a whole node.
fn cost_ms(board: &Board<'_>, bytes: u64, seats: [&Seat<'_>; 2]) -> u64 {
    let link_ms = u128::from(transfer_ms(board, bytes, seats)) * LINK_PERMILLE / 1000;
    let copying_ms = copying_ms(board, bytes, seats);
    (link_ms as u64).saturating_add(copying_ms).saturating_add(board.situation.policy.disruption_ms)
}

/// How long the copy takes, when the moves in flight at its busier end share the bandwidth.
fn transfer_ms(board: &Board<'_>, bytes: u64, seats: [&Seat<'_>; 2]) -> u64 {
    let sharing = u128::from(seats[0].moves_in_flight.max(seats[1].moves_in_flight)) + 1;
    let bandwidth = u128::from(board.situation.policy.bandwidth_bytes_per_s.max(1));
    u64::try_from(u128::from(bytes) * 1000 * sharing / bandwidth).unwrap_or(u64::MAX)
}

/// How much of the two nodes' time the copy takes.
fn copying_ms(board: &Board<'_>, bytes: u64, seats: [&Seat<'_>; 2]) -> u64 {
    let copy_us_per_mib = u128::from(board.situation.policy.copy_us_per_mib);
    let work_ns = (u128::from(bytes).saturating_mul(copy_us_per_mib) >> 20).saturating_mul(1000);
    let [a, b] = seats.map(|seat| work_ns / u128::from(seat.capacity));
    u64::try_from(a.saturating_add(b)).unwrap_or(u64::MAX)
}

fn carry_out(board: &mut Board<'_>, source: usize, offer: Offer) -> MoveChosen {
    let sustained = |board: &Board<'_>| {
        [source, offer.destination]
            .map(|place| explain::sustained_permille(board, &board.seats[place]))
    };
    let before = sustained(board);
    board.shift(offer.index, source, offer.destination);
    let after = sustained(board);
    let range = board.range(offer.index);
    MoveChosen {
        migration: None,
        range_start: range.span.start.clone(),
        range_end: range.span.end.clone(),
        source: range.node.clone(),
        destination: board.seats[offer.destination].id.clone(),
        bytes: range.bytes,
        share_ppm: explain::range_share_ppm(board, offer.index),
        benefit_ms: offer.benefit_ms,
        cost_ms: offer.cost_ms,
        source_before: before[0],
        source_after: after[0],
        destination_before: before[1],
        destination_after: after[1],
        reason: "heat".to_owned(),
    }
}
