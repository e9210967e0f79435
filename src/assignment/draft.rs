//! Writes a generation: from the map and a set of changes to the rows of the topic, in their order.
//!
//! ```text
//!  map ──┐
//!        ├──> Draft ──> [tombstones] [records in key order .. last]
//!  changes
//! ```
//!
//! * **Only what changes is written.** A range that no change names keeps its record, its epoch and
//!   its generation. So a generation costs what changes, not what there is.
//! * **Tombstones first, `last` on the last record.** A reader knows that a generation is whole when
//!   it has the record so marked, or the first of a greater one.
//! * **Any reader ends with the same map.** Whoever begins at the beginning of the compacted topic
//!   sees, of each start of a range, the newest record and perhaps older ones; tombstones may have
//!   expired, and the record that was marked `last` may be superseded. Carving makes up for all of it.
//! * **Epochs grow.** A child has its parent's epoch + 1, a joined range the greatest parent's + 1, a
//!   moved one its source's + 1, and one that is built again its own + 1.
//!
//! A generation changes an interval once: what touches it again waits for the next one.

use std::collections::{BTreeMap, BTreeSet};

use schemas::assignment::{Assignment, Source};
use schemas::{Epoch, Generation, Inbox, Key, KeySpan, MigrationId, NodeId};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::map::{Map, NotTiled, Row, span_of, tiles};

/// A node as an owner: who, and where it reads.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    pub node: NodeId,
    pub inbox: Inbox,
}

/// A range of the first generation. Its node builds it from the source table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Born {
    pub span: KeySpan,
    pub owner: Owner,
    pub migration: MigrationId,
}

/// A generation that is being put together.
#[derive(Debug)]
pub struct Draft<'a> {
    map: &'a Map,
    generation: Generation,
    /// New records, disjoint, by start.
    records: BTreeMap<Key, Assignment>,
    /// Starts of ranges that a change touches; those that no record begins with get a tombstone.
    touched: BTreeSet<Key>,
}

/// Why a change cannot be part of the generation.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Unfit {
    #[error("no range has exactly the interval {0}")]
    NotARange(KeySpan),
    #[error("the ranges in {0} do not fill it exactly, or are fewer than two")]
    NotARun(KeySpan),
    #[error("the ranges in {0} have more than one owner")]
    NotOneOwner(KeySpan),
    #[error("{key} does not lie inside {span} behind the cut before it")]
    NotACut { span: KeySpan, key: Key },
    #[error("{span} is on {node} already")]
    AlreadyThere { span: KeySpan, node: NodeId },
    #[error("{0} is changed already in this generation")]
    ChangedAlready(KeySpan),
}

/// Returns the rows of the first generation, which must tile the key space.
pub fn birth(map: &Map, born: &[Born]) -> Result<Vec<Row>, NotTiled> {
    tiles(born.iter().map(|it| it.span.clone()))?;
    let mut draft = Draft::new(map);
    for Born { span, owner, migration } in born {
        let bare = Assignment {
            range_start: span.start.clone(),
            range_end: span.end.clone(),
            node: owner.node.clone(),
            inbox: owner.inbox,
            epoch: Epoch(1),
            generation: draft.generation,
            last: false,
            migration: Some(*migration),
            source: Source::Table,
            source_node: None,
            source_epoch: Epoch(0),
        };
        draft.records.insert(span.start.clone(), bare);
    }
    Ok(draft.finish())
}

impl<'a> Draft<'a> {
    /// Begins the generation that comes after all that the map has read of.
    pub fn new(map: &'a Map) -> Self {
        let (records, touched) = (BTreeMap::new(), BTreeSet::new());
        Self { map, generation: map.next_generation(), records, touched }
    }

    pub fn generation(&self) -> Generation {
        self.generation
    }

    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Splits a range: the children after the first begin at the cuts, which ascend.
    pub fn split(&mut self, span: &KeySpan, cuts: &[Key]) -> Result<(), Unfit> {
        let parent = self.unchanged(span)?.clone();
        let mut start = span.start.clone();
        let mut children = Vec::with_capacity(cuts.len() + 1);
        for key in cuts {
            if *key <= start || !span.contains(&key.0) {
                return Err(Unfit::NotACut { span: span.clone(), key: key.clone() });
            }
            let end = key.clone();
            children.push(KeySpan { start: std::mem::replace(&mut start, key.clone()), end });
        }
        if children.is_empty() {
            return Err(Unfit::NotACut { span: span.clone(), key: Key::default() });
        }
        children.push(KeySpan { start, end: span.end.clone() });
        for child in children {
            self.relabel(child, &parent, parent.epoch);
        }
        self.touched.insert(parent.range_start);
        Ok(())
    }

    /// Makes one range of the whole ranges that fill an interval, which have one owner.
    pub fn join(&mut self, span: &KeySpan) -> Result<(), Unfit> {
        let run: Vec<&Assignment> = self.map.overlapping(span).collect();
        let [first, .., last] = run.as_slice() else { return Err(Unfit::NotARun(span.clone())) };
        let is_run = run.windows(2).all(|pair| pair[0].range_end == pair[1].range_start);
        if first.range_start != span.start || last.range_end != span.end || !is_run {
            return Err(Unfit::NotARun(span.clone()));
        }
        if run.iter().any(|it| (&it.node, it.inbox) != (&first.node, first.inbox)) {
            return Err(Unfit::NotOneOwner(span.clone()));
        }
        self.check_unchanged(span)?;
        let greatest = run.iter().map(|it| it.epoch).max().expect("a run has two ranges");
        self.touched.extend(run.iter().map(|it| it.range_start.clone()));
        self.relabel(span.clone(), first, greatest);
        Ok(())
    }

    /// Gives a range to the destination of a migration that is ready.
    pub fn commit(
        &mut self,
        span: &KeySpan,
        owner: &Owner,
        migration: MigrationId,
    ) -> Result<(), Unfit> {
        let source = self.unchanged(span)?;
        if source.node == owner.node {
            let node = owner.node.clone();
            return Err(Unfit::AlreadyThere { span: span.clone(), node });
        }
        let moved = Assignment {
            node: owner.node.clone(),
            inbox: owner.inbox,
            epoch: Epoch(source.epoch.0 + 1),
            generation: self.generation,
            last: false,
            migration: Some(migration),
            source: Source::Node,
            source_node: Some(source.node.clone()),
            source_epoch: source.epoch,
            ..source.clone()
        };
        self.touched.insert(span.start.clone());
        self.records.insert(span.start.clone(), moved);
        Ok(())
    }

    /// Gives a range to its owner again, which builds it from the source table.
    pub fn rebuild(
        &mut self,
        span: &KeySpan,
        owner: &Owner,
        migration: MigrationId,
    ) -> Result<(), Unfit> {
        let range = self.unchanged(span)?;
        if range.node != owner.node {
            return Err(Unfit::NotOneOwner(span.clone()));
        }
        let again = Assignment {
            inbox: owner.inbox,
            epoch: Epoch(range.epoch.0 + 1),
            generation: self.generation,
            last: false,
            migration: Some(migration),
            source: Source::Table,
            source_node: None,
            source_epoch: range.epoch,
            ..range.clone()
        };
        self.touched.insert(span.start.clone());
        self.records.insert(span.start.clone(), again);
        Ok(())
    }

    /// Returns the rows in the order in which they are to be written; none if nothing changes.
    pub fn finish(mut self) -> Vec<Row> {
        if let Some(mut last) = self.records.last_entry() {
            last.get_mut().last = true;
        }
        let begins = |start: &Key| self.records.contains_key(start);
        let ended: Vec<Key> = self.touched.into_iter().filter(|start| !begins(start)).collect();
        let tombstones = ended.into_iter().map(|start| Row { start, assignment: None });
        let records =
            self.records.into_iter().map(|(start, record)| Row { start, assignment: Some(record) });
        tombstones.chain(records).collect()
    }

    /// The same owner under another interval: it has the entries already.
    fn relabel(&mut self, span: KeySpan, parent: &Assignment, greatest: Epoch) {
        let record = Assignment {
            range_start: span.start.clone(),
            range_end: span.end,
            epoch: Epoch(greatest.0 + 1),
            generation: self.generation,
            last: false,
            migration: None,
            source: Source::None,
            source_node: None,
            source_epoch: greatest,
            ..parent.clone()
        };
        self.records.insert(span.start, record);
    }

    fn unchanged(&self, span: &KeySpan) -> Result<&'a Assignment, Unfit> {
        let range = self.map.range(span).ok_or_else(|| Unfit::NotARange(span.clone()))?;
        self.check_unchanged(span)?;
        Ok(range)
    }

    fn check_unchanged(&self, span: &KeySpan) -> Result<(), Unfit> {
        // Records are disjoint and in key order: the one that begins last before the interval's end
        // is the only one that can reach into it.
        let before_end = if span.end.0.is_empty() {
            self.records.values().next_back()
        } else {
            self.records.range(..&span.end).next_back().map(|(_, record)| record)
        };
        match before_end {
            Some(record) if span_of(record).overlaps(span) => {
                Err(Unfit::ChangedAlready(span.clone()))
            }
            Some(_) | None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;
