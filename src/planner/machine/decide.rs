//! Puts together what a decision rests on, and takes the decision into the dataflow.

use std::collections::BTreeMap;

use dataflows::balance::{self, Budget, Cell, Node, Range, Situation};
use dataflows::pressure::Pressure;
use schemas::plan::JoinChosen;
use schemas::{Key, KeySpan, NodeId};

use super::super::ranges::RangeState;
use super::super::settings::Mode;
use super::{Planner, Wanted};
use crate::keys::{WHOLE, fraction};

impl Planner {
    /// Load of each node in the last tick that was heard of, in `cost_us` per second.
    pub fn loads(&self) -> BTreeMap<NodeId, u64> {
        let tick_ms = i128::from(self.state.settings.tick_ms);
        let load = |us: i64| (i128::from(us.max(0)) * 1000 / tick_ms) as u64;
        let heat = self.state.node_heat.iter();
        heat.map(|(node, heat)| (node.clone(), load(heat.one().cost_us()))).collect()
    }

    /// The nodes as a plan made at the end of this tick sees them.
    pub(super) fn nodes(&self) -> BTreeMap<NodeId, Node> {
        let moves = self.state.migrations.moves_by_node();
        self.state.fleet.nodes(self.turn.tick, &self.loads(), &moves)
    }

    fn take_pressure(&mut self, rows: Vec<((NodeId, Pressure), isize)>) {
        for ((node, pressure), diff) in rows {
            if diff > 0 {
                self.pressure.insert(node, pressure);
            } else if self.pressure.get(&node) == Some(&pressure) {
                self.pressure.remove(&node);
            }
        }
    }

    /// Decides, now that forecasts are known and it is known who is `pressed`; returns how the
    /// current and the desired assignment have changed.
    pub fn decide(&mut self, pressure: Vec<((NodeId, Pressure), isize)>) -> Wanted {
        self.take_pressure(pressure);
        let intended = self.intended();
        let mut desired = intended.clone();
        let mut decision = self.decision(self.may_plan());
        decision.joins.retain(|it| self.has_one_inbox(it));
        self.turn.decision = decision;
        carry_out(&mut desired, &self.turn.decision);
        let current = rows(&self.current, &intended);
        let wanted = Wanted { current, desired: rows(&self.desired, &desired) };
        (self.current, self.desired) = (intended, desired);
        wanted
    }

    /// Plans nothing before the birth, nothing on a tick that is long over, nothing to observe.
    fn may_plan(&self) -> bool {
        match self.state.settings.mode {
            Mode::Observe => false,
            Mode::Auto => {
                !self.turn.stale
                    && !self.state.ranges.is_empty()
                    && self.state.ranges.iter().all(|it| it.node.is_some())
            }
        }
    }

    /// Tells whether all that is to join is assigned to one inbox: a node that came back with an
    /// empty store may read another one than it did.
    fn has_one_inbox(&self, it: &JoinChosen) -> bool {
        let span = KeySpan { start: it.range_start.clone(), end: it.range_end.clone() };
        let mut inboxes = self.state.map.overlapping(&span).map(|it| it.inbox);
        let first = inboxes.next();
        inboxes.all(|it| Some(it) == first)
    }

    /// The assignment as it will be when the moves in flight are over.
    fn intended(&self) -> BTreeMap<KeySpan, NodeId> {
        let owner = |it: &RangeState| Some((it.span.clone(), self.heir(it)?.clone()));
        self.state.ranges.iter().filter_map(owner).collect()
    }

    /// The owner of a range when its move is over, which may be underway.
    fn heir<'a>(&'a self, it: &'a RangeState) -> Option<&'a NodeId> {
        let migrations = &self.state.migrations;
        let flight = migrations.unsettled(&it.span).and_then(|id| migrations.get(id));
        match flight {
            Some(flight) if !flight.is_given_up() => Some(&flight.destination.node),
            Some(_) | None => it.node.as_ref(),
        }
    }

    pub(super) fn situation(&self) -> Situation {
        let state = &self.state;
        let ranges = state.ranges.iter().filter_map(|it| self.range(it)).collect();
        Situation {
            tick: self.turn.tick,
            tick_ms: self.state.settings.tick_ms,
            ranges,
            nodes: self.nodes(),
            total: state.total,
            budget: Budget {
                moves_in_flight: state.migrations.moves() as u32,
                bytes_in_flight: state.migrations.bytes_in_flight(),
                churn_bytes: state.ledger.churn_bytes(),
            },
            policy: self.state.settings.policy.clone(),
        }
    }

    fn range(&self, it: &RangeState) -> Option<Range> {
        let state = &self.state;
        let node = self.heir(it)?.clone();
        Some(Range {
            id: it.id,
            span: it.span.clone(),
            epoch: it.epoch,
            node,
            settled: state.migrations.unsettled(&it.span).is_none(),
            cool_until: it.cool_until,
            join_after: it.join_after,
            pinned: it.pinned,
            bytes: it.bytes,
            forecast: state.forecasts.get(&it.id).copied().unwrap_or_default(),
            // A child has its own from the tick behind the split on, in which it is asked first.
            own_forecast: true,
            cells: self.cells_of(it),
        })
    }

    fn cells_of(&self, it: &RangeState) -> Vec<Cell> {
        let found: Vec<_> = self.state.cells.within(&it.span.start, &it.span.end).collect();
        let n = found.len() as u64;
        let mut cells = Vec::with_capacity(found.len());
        for (i, (id, cell)) in found.iter().enumerate() {
            let next = found.get(i + 1).map_or(&it.span.end, |(_, next)| &next.start);
            // Bytes are taken to lie evenly; where a range has no end, evenly over its cells.
            let part = match it.span.end.0.is_empty() {
                true => WHOLE / n,
                false => fraction(&it.span, next, true) - fraction(&it.span, &cell.start, false),
            };
            cells.push(Cell {
                id: *id,
                start: cell.start.clone(),
                heat: cell.heat,
                bytes: (u128::from(it.bytes) * u128::from(part) / u128::from(WHOLE)) as u64,
                unsplittable_ppm: self
                    .state
                    .cells
                    .unsplittable_ppm(*id, &self.state.settings.cells),
            });
        }
        cells
    }
}

/// Applies a decision to the assignment.
fn carry_out(desired: &mut BTreeMap<KeySpan, NodeId>, decision: &balance::Decision) {
    let span = |start: &Key, end: &Key| KeySpan { start: start.clone(), end: end.clone() };
    for it in &decision.moves {
        desired.insert(span(&it.range_start, &it.range_end), it.destination.clone());
    }
    for it in &decision.splits {
        desired.remove(&span(&it.range_start, &it.range_end));
        for child in pieces(&it.range_start, &it.range_end, &it.at) {
            desired.insert(child, it.node.clone());
        }
    }
    for it in &decision.joins {
        for child in pieces(&it.range_start, &it.range_end, &it.at) {
            desired.remove(&child);
        }
        desired.insert(span(&it.range_start, &it.range_end), it.node.clone());
    }
}

/// The pieces between the ends of a range and the keys at which it is split.
pub fn pieces(start: &Key, end: &Key, at: &[Key]) -> Vec<KeySpan> {
    let starts = std::iter::once(start).chain(at);
    let ends = at.iter().chain(std::iter::once(end));
    let piece = |(start, end): (&Key, &Key)| KeySpan { start: start.clone(), end: end.clone() };
    starts.zip(ends).map(piece).collect()
}

/// What came and what went between two assignments.
fn rows(
    old: &BTreeMap<KeySpan, NodeId>,
    new: &BTreeMap<KeySpan, NodeId>,
) -> Vec<((KeySpan, NodeId), isize)> {
    let gone = old.iter().filter(|(span, node)| new.get(span) != Some(node));
    let come = new.iter().filter(|(span, node)| old.get(span) != Some(node));
    let row = |(span, node): (&KeySpan, &NodeId), diff| ((span.clone(), node.clone()), diff);
    gone.map(|it| row(it, -1)).chain(come.map(|it| row(it, 1))).collect()
}
