//! Keeps what the planner knows of each range beside its owner: id, bytes, rest, pins.
//!
//! * **A range is its start.** Ids are for collections alone; they are never used again.
//! * **Tiling.** Splits and joins keep what the ranges cover.

use std::collections::BTreeMap;

use crate::assignment::birth;
use crate::assignment::map::{Map, span_of};
use dataflows::Tick;
use schemas::{Epoch, Key, KeySpan, Millis, NodeId, RangeId};
use serde::{Deserialize, Serialize};

/// One range.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RangeState {
    pub id: RangeId,
    pub span: KeySpan,
    /// `None` before the first assignment.
    pub node: Option<NodeId>,
    pub epoch: Epoch,
    /// As its node reported last, or a share of what the parent had.
    pub bytes: u64,
    /// Moved not long ago: not to be moved before this tick. Children inherit it.
    pub cool_until: Tick,
    /// Moved, split or joined not long ago: not to be joined before this tick.
    pub join_after: Tick,
    pub pinned: bool,
    /// When it was given to be built from the table, or the first of its parents was; 0: nobody knows.
    pub built: Millis,
    /// If that was before this, it is to be built again.
    pub due: Millis,
}

impl RangeState {
    /// Tells whether it is to be built again from the table (R24).
    pub fn is_due(&self) -> bool {
        self.built < self.due
    }
}

/// All ranges, in key order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ranges {
    by_start: BTreeMap<Key, RangeState>,
    starts: BTreeMap<RangeId, Key>,
    next_id: u64,
}

impl RangeState {
    /// Rests until a tick, and has no id yet.
    fn resting(span: KeySpan, node: Option<NodeId>, epoch: Epoch, until: Tick) -> Self {
        Self {
            id: RangeId(0),
            span,
            node,
            epoch,
            bytes: 0,
            cool_until: until,
            join_after: until,
            pinned: false,
            built: Millis(0),
            due: Millis(0),
        }
    }
}

impl Ranges {
    /// Tiles the key space at the split points: the first range begins at the beginning, the last
    /// one is open-ended.
    pub fn tiled(split_points: &[Key]) -> Self {
        let mut res = Self::default();
        for span in birth::ranges(split_points) {
            res.add(RangeState::resting(span, None, Epoch(0), 0));
        }
        res
    }

    /// Takes the ranges of an assignment over; all of them rest until a tick.
    pub fn adopted(map: &Map, rests_until: Tick) -> Self {
        let mut res = Self::default();
        for it in map.iter() {
            res.add(RangeState::resting(span_of(it), Some(it.node.clone()), it.epoch, rests_until));
        }
        res
    }

    /// Adds a range under an id of its own.
    pub fn add(&mut self, state: RangeState) -> RangeId {
        self.next_id += 1;
        self.put(RangeState { id: RangeId(self.next_id), ..state })
    }

    /// Adds a range under the id that it has.
    pub fn put(&mut self, state: RangeState) -> RangeId {
        let id = state.id;
        self.starts.insert(id, state.span.start.clone());
        let before = self.by_start.insert(state.span.start.clone(), state);
        assert_eq!(before, None, "one range begins at a key");
        id
    }

    /// Ranges that begin inside an interval, in key order.
    pub fn within<'a>(&'a self, span: &'a KeySpan) -> impl Iterator<Item = &'a RangeState> {
        let begin = self.by_start.range(span.start.clone()..);
        begin.map(|(_, it)| it).take_while(|it| span.contains(&it.span.start.0))
    }

    pub fn iter(&self) -> impl Iterator<Item = &RangeState> {
        self.by_start.values()
    }

    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut RangeState> {
        self.by_start.values_mut()
    }

    pub fn len(&self) -> usize {
        self.by_start.len()
    }

    pub fn is_empty(&self) -> bool {
        self.by_start.is_empty()
    }

    pub fn at(&self, start: &Key) -> Option<&RangeState> {
        self.by_start.get(start)
    }

    /// The range that holds a key.
    pub fn holding(&self, key: &Key) -> Option<&RangeState> {
        let before = self.by_start.range(..=key.clone()).next_back();
        before.map(|(_, it)| it).filter(|it| it.span.contains(&key.0))
    }

    pub fn at_mut(&mut self, start: &Key) -> Option<&mut RangeState> {
        self.by_start.get_mut(start)
    }

    pub fn get(&self, id: RangeId) -> Option<&RangeState> {
        self.by_start.get(self.starts.get(&id)?)
    }

    pub fn get_mut(&mut self, id: RangeId) -> Option<&mut RangeState> {
        self.by_start.get_mut(self.starts.get(&id)?)
    }

    /// Ends the range that begins at `start`.
    pub fn remove(&mut self, start: &Key) -> Option<RangeState> {
        let state = self.by_start.remove(start)?;
        self.starts.remove(&state.id);
        Some(state)
    }
}
