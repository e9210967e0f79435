//! Puts together what a decision rests on, and takes the decision into the dataflow.

use std::collections::BTreeMap;

use dataflows::balance::{Budget, Cell, Decision, Node, Range, Situation};
use dataflows::delta::Placed;
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

    /// Decides, now that forecasts are known; returns how the current and the desired assignment have changed.
    pub fn decide(&mut self) -> Wanted {
        let current = self.come_and_gone();
        for ((span, node), diff) in &current {
            // What went is told before what came in its place.
            match *diff > 0 {
                true => _ = self.current.insert(span.clone(), node.clone()),
                false => _ = self.current.remove(span),
            }
        }
        let mut decision = self.decision(self.may_plan());
        decision.joins.retain(|it| self.has_one_inbox(it));
        self.turn.decision = decision;
        let ahead = beyond(&self.current, &self.turn.decision);
        let mut desired: BTreeMap<_, _> = current.iter().cloned().collect();
        for (row, diff) in std::mem::replace(&mut self.ahead, ahead.clone()) {
            *desired.entry(row).or_default() -= diff;
        }
        for (row, diff) in ahead {
            *desired.entry(row).or_default() += diff;
        }
        desired.retain(|_, diff| *diff != 0);
        Wanted { current, desired: desired.into_iter().collect() }
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

    /// What came and what went since the tick before of the assignment as it will be when the moves
    /// in flight are over. Both are in key order, and mostly the same.
    fn come_and_gone(&self) -> Vec<(Placed, isize)> {
        let mut rows = Vec::new();
        let row = |span: &KeySpan, node: &NodeId, diff| ((span.clone(), node.clone()), diff);
        let mut old = self.current.iter().peekable();
        for range in self.state.ranges.iter() {
            let Some(heir) = self.heir(range) else { continue };
            while let Some((span, node)) = old.next_if(|it| *it.0 < range.span) {
                rows.push(row(span, node, -1));
            }
            match old.next_if(|it| *it.0 == range.span) {
                Some((_, node)) if node == heir => (),
                was => {
                    rows.extend(was.map(|(span, node)| row(span, node, -1)));
                    rows.push(row(&range.span, heir, 1));
                }
            }
        }
        rows.extend(old.map(|(span, node)| row(span, node, -1)));
        rows
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
            likely: state.settings.rung.likely(),
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
        })
    }

    pub(super) fn cells_of(&self, it: &Range) -> Vec<Cell> {
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

/// What a decision adds to the assignment and takes from it.
fn beyond(current: &BTreeMap<KeySpan, NodeId>, decision: &Decision) -> BTreeMap<Placed, isize> {
    let span = |start: &Key, end: &Key| KeySpan { start: start.clone(), end: end.clone() };
    let (mut gone, mut come) = (Vec::new(), Vec::new());
    for it in &decision.moves {
        let moved = span(&it.range_start, &it.range_end);
        gone.push(moved.clone());
        come.push((moved, it.destination.clone()));
    }
    for it in &decision.splits {
        gone.push(span(&it.range_start, &it.range_end));
        let children = pieces(&it.range_start, &it.range_end, &it.at);
        come.extend(children.into_iter().map(|child| (child, it.node.clone())));
    }
    for it in &decision.joins {
        gone.extend(pieces(&it.range_start, &it.range_end, &it.at));
        come.push((span(&it.range_start, &it.range_end), it.node.clone()));
    }
    let owned = |it: KeySpan| Some(((it.clone(), current.get(&it)?.clone()), -1));
    gone.into_iter().filter_map(owned).chain(come.into_iter().map(|it| (it, 1))).collect()
}

/// The pieces between the ends of a range and the keys at which it is split.
pub fn pieces(start: &Key, end: &Key, at: &[Key]) -> Vec<KeySpan> {
    let starts = std::iter::once(start).chain(at);
    let ends = at.iter().chain(std::iter::once(end));
    let piece = |(start, end): (&Key, &Key)| KeySpan { start: start.clone(), end: end.clone() };
    starts.zip(ends).map(piece).collect()
}
