//! Keeps the map of ranges that every process builds from `assignment`, by carving.
//!
//! ```text
//!  before   [a ........ n1 ........ d)[d ... n2 ... )
//!  record         [b .. n3 .. c)
//!  after    [a n1 b)[b n3 c)[c n1 d)[d ... n2 ... )
//! ```
//!
//! * **Carving.** A record replaces what lies in its interval and is older, and nothing else. So a
//!   reader may skip generations, and misses nothing that compaction dropped.
//! * **Epochs only grow.** A record that would give a key an epoch that is not greater than the one
//!   it replaces is refused.
//! * **No gap from a tombstone.** It says only that no range begins at its key any more; the record
//!   of the same generation that covers the key carves. Tombstones that expired are not missed.
//!
//! While a reader is on its first way through a compacted topic, the map may have gaps: what covered
//! them is superseded by records further on. At the end that the topic had when it began, it tiles.

use std::collections::BTreeMap;
use std::ops::Bound;

use schemas::assignment::Assignment;
use schemas::wire::{DecodeError, decode};
use schemas::{Epoch, Generation, Key, KeySpan};
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// The ranges and their owners, as far as they were read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Map {
    /// By start, disjoint. What is left of a carved range has its record with narrower bounds.
    ranges: BTreeMap<Key, Assignment>,
    /// The greatest generation of which a record was read.
    newest: Generation,
    /// The greatest generation that is whole.
    whole: Generation,
}

/// One record of the topic: an assignment, or the tombstone of a range that ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// The start of the range, and the key of the record.
    pub start: Key,
    /// `None`: a tombstone.
    pub assignment: Option<Assignment>,
}

impl Row {
    /// Reads a record of `assignment`: its key is where the range starts.
    pub fn read(key: Option<&[u8]>, value: Option<&[u8]>) -> Result<Self, DecodeError> {
        let assignment = value.map(decode::<Assignment>).transpose()?;
        Ok(Self { start: Key(key.unwrap_or_default().to_vec()), assignment })
    }
}

/// What a row did to the map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Applied {
    /// It replaced what was older in its interval.
    Carved,
    /// All of its interval is newer or the same: it was read before, or is superseded.
    Known,
    /// It is a tombstone.
    Ended,
}

/// Why a row is not used; the variants are the reasons that are counted.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Refused {
    #[error("the record of key {key} is for range {span}")]
    KeyMismatch { key: Key, span: KeySpan },
    #[error("range {span} holds no key")]
    Empty { span: KeySpan },
    #[error("range {span} of generation {} has epoch {}, not above the {} of what it replaces",
            generation.0, epoch.0, replaced.0)]
    EpochNotAbove { span: KeySpan, generation: Generation, epoch: Epoch, replaced: Epoch },
}

/// Where ranges do not cover the key space exactly once.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum NotTiled {
    #[error("no range covers {gap}")]
    Gap { gap: KeySpan },
    #[error("{left} and {right} overlap")]
    Overlap { left: KeySpan, right: KeySpan },
}

impl Map {
    /// Takes in the next row of the topic.
    pub fn apply(&mut self, row: &Row) -> Result<Applied, Refused> {
        let Some(record) = &row.assignment else { return Ok(Applied::Ended) };
        let span = span_of(record);
        if row.start != span.start {
            return Err(Refused::KeyMismatch { key: row.start.clone(), span });
        }
        if !span.end.0.is_empty() && span.end <= span.start {
            return Err(Refused::Empty { span });
        }
        let older = self.older(record, &span)?;

        if self.newest < record.generation {
            // The first record of a greater generation: the one before has no more to come.
            self.whole = self.newest;
            self.newest = record.generation;
        }
        if record.last && record.generation == self.newest {
            self.whole = self.newest;
        }
        if older.is_empty() {
            return Ok(Applied::Known);
        }
        for free in older {
            self.carve(&free);
            let piece = clipped(record, free.start, free.end);
            self.ranges.insert(piece.range_start.clone(), piece);
        }
        Ok(Applied::Carved)
    }

    /// Returns the range that holds a key.
    pub fn owner(&self, key: &[u8]) -> Option<&Assignment> {
        let key = Key(key.to_vec());
        let (_, range) = self.ranges.range(..=&key).next_back()?;
        span_of(range).contains(&key.0).then_some(range)
    }

    /// Returns the range that has exactly this interval.
    pub fn range(&self, span: &KeySpan) -> Option<&Assignment> {
        self.ranges.get(&span.start).filter(|range| range.range_end == span.end)
    }

    /// Returns the ranges that have a key in common with an interval, in key order.
    pub fn overlapping<'a>(&'a self, span: &'a KeySpan) -> impl Iterator<Item = &'a Assignment> {
        let first = self
            .ranges
            .range(..=&span.start)
            .next_back()
            .filter(|(_, range)| ends_after(&range.range_end, &span.start))
            .map_or(&span.start, |(start, _)| start);
        self.ranges
            .range((Bound::Included(first), Bound::Unbounded))
            .map(|(_, range)| range)
            .take_while(|range| ends_after(&span.end, &range.range_start))
    }

    /// Returns all ranges in key order.
    pub fn iter(&self) -> impl Iterator<Item = &Assignment> {
        self.ranges.values()
    }

    pub fn len(&self) -> usize {
        self.ranges.len()
    }

    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// Returns the greatest generation that is whole: what carries a greater one has to wait.
    pub fn generation(&self) -> Generation {
        self.whole
    }

    /// Returns the generation that comes after all that were read.
    pub fn next_generation(&self) -> Generation {
        Generation(self.newest.0 + 1)
    }

    /// Checks that the ranges cover the key space without gap or overlap.
    pub fn tiles(&self) -> Result<(), NotTiled> {
        tiles(self.ranges.values().map(span_of))
    }

    /// Returns the parts of an interval that are free or held by an older generation.
    fn older(&self, record: &Assignment, span: &KeySpan) -> Result<Vec<KeySpan>, Refused> {
        let mut older: Vec<KeySpan> = Vec::new();
        // From where on nothing is decided yet; `None` once the end of the key space is.
        let mut from = Some(span.start.clone());
        for held in self.overlapping(span) {
            if held.generation < record.generation {
                if record.epoch <= held.epoch {
                    return Err(Refused::EpochNotAbove {
                        span: span.clone(),
                        generation: record.generation,
                        epoch: record.epoch,
                        replaced: held.epoch,
                    });
                }
                continue;
            }
            if let Some(start) = from.take().filter(|start| *start < held.range_start) {
                older.push(KeySpan { start, end: held.range_start.clone() });
            }
            from = Some(held.range_end.clone()).filter(|end| !end.0.is_empty());
        }
        if let Some(start) = from.filter(|start| ends_after(&span.end, start)) {
            older.push(KeySpan { start, end: span.end.clone() });
        }
        Ok(older)
    }

    /// Makes an interval free: ranges inside it go, those that reach into it are narrowed.
    fn carve(&mut self, span: &KeySpan) {
        let held: Vec<Assignment> = self.overlapping(span).cloned().collect();
        for range in held {
            self.ranges.remove(&range.range_start);
            if range.range_start < span.start {
                let left = clipped(&range, range.range_start.clone(), span.start.clone());
                self.ranges.insert(left.range_start.clone(), left);
            }
            if !span.end.0.is_empty() && ends_after(&range.range_end, &span.end) {
                let right = clipped(&range, span.end.clone(), range.range_end.clone());
                self.ranges.insert(right.range_start.clone(), right);
            }
        }
    }
}

/// Returns the interval of an assignment.
pub fn span_of(range: &Assignment) -> KeySpan {
    KeySpan { start: range.range_start.clone(), end: range.range_end.clone() }
}

/// Checks that intervals in key order cover the key space without gap or overlap.
pub fn tiles(spans: impl Iterator<Item = KeySpan>) -> Result<(), NotTiled> {
    let mut before: Option<KeySpan> = None;
    for span in spans {
        // The end of the interval before; the first begins where the key space does.
        let reached = before.as_ref().map_or_else(Key::default, |before| before.end.clone());
        let unbounded = before.is_some() && reached.0.is_empty();
        if unbounded || span.start < reached {
            let left = before.expect("what overlaps has something before it");
            return Err(NotTiled::Overlap { left, right: span });
        }
        if reached < span.start {
            return Err(NotTiled::Gap { gap: KeySpan { start: reached, end: span.start } });
        }
        before = Some(span);
    }
    match before {
        None => Err(NotTiled::Gap { gap: KeySpan::all() }),
        Some(last) if last.end.0.is_empty() => Ok(()),
        Some(last) => Err(NotTiled::Gap { gap: KeySpan { start: last.end, end: Key::default() } }),
    }
}

/// Tells whether an interval that ends here reaches behind a key.
fn ends_after(end: &Key, key: &Key) -> bool {
    end.0.is_empty() || key < end
}

fn clipped(record: &Assignment, start: Key, end: Key) -> Assignment {
    Assignment { range_start: start, range_end: end, ..record.clone() }
}

#[cfg(test)]
mod tests {
    use schemas::assignment::Source;
    use schemas::{Inbox, NodeId};

    use super::*;

    /// Applies records (start, end, node, epoch, generation) and tells what the map is then.
    fn check(records: &[(&str, &str, &str, u64, u64)], ranges: &str) {
        let mut map = Map::default();
        for record in records {
            map.apply(&row(*record)).unwrap();
        }
        let told: Vec<String> =
            map.iter().map(|range| format!("{} {}", span_of(range), range.node)).collect();
        assert_eq!(told.join(" "), ranges);
    }

    fn row((start, end, node, epoch, generation): (&str, &str, &str, u64, u64)) -> Row {
        let assignment = Assignment {
            range_start: key(start),
            range_end: key(end),
            node: NodeId(node.into()),
            inbox: Inbox(0),
            epoch: Epoch(epoch),
            generation: Generation(generation),
            last: false,
            migration: None,
            source: Source::None,
            source_node: None,
            source_epoch: Epoch(0),
        };
        Row { start: key(start), assignment: Some(assignment) }
    }

    fn key(text: &str) -> Key {
        Key(text.as_bytes().to_vec())
    }

    #[test]
    fn r1_record_in_the_middle_leaves_both_sides() {
        check(&[("", "", "n1", 1, 1), ("b", "c", "n2", 2, 2)], "[-, b) n1 [b, c) n2 [c, -) n1");
    }

    #[test]
    fn r1_record_over_several_replaces_them_all() {
        let records = [
            ("", "b", "n1", 1, 1),
            ("b", "c", "n2", 1, 1),
            ("c", "", "n3", 1, 1),
            ("", "d", "n4", 2, 2),
        ];
        check(&records, "[-, d) n4 [d, -) n3");
        let all = [&records[..3], &[("", "", "n5", 3, 3)]].concat();
        check(&all, "[-, -) n5");
    }

    #[test]
    fn r1_older_record_fills_only_what_is_not_newer() {
        let records = [("c", "d", "n2", 5, 5), ("f", "", "n3", 5, 5), ("b", "", "n1", 1, 1)];
        check(&records, "[b, c) n1 [c, d) n2 [d, f) n1 [f, -) n3");
    }

    #[test]
    fn epoch_that_does_not_grow_is_refused() {
        let mut map = Map::default();
        map.apply(&row(("", "", "n1", 4, 1))).unwrap();
        let refused = map.apply(&row(("b", "c", "n2", 4, 2))).unwrap_err();
        assert_eq!(
            refused.to_string(),
            "range [b, c) of generation 2 has epoch 4, not above the 4 of what it replaces"
        );
        assert_eq!(map.len(), 1);
        assert_eq!(map.next_generation(), Generation(2), "a refused row is as if it never came");
    }

    #[test]
    fn empty_and_misplaced_records_are_refused() {
        let mut map = Map::default();
        let refused = map.apply(&row(("c", "b", "n1", 1, 1)));
        assert!(matches!(refused, Err(Refused::Empty { .. })));
        let misplaced = Row { start: key("a"), ..row(("b", "c", "n1", 1, 1)) };
        assert!(matches!(map.apply(&misplaced), Err(Refused::KeyMismatch { .. })));
        assert!(map.is_empty());
    }

    #[test]
    fn same_record_again_changes_nothing() {
        let mut map = Map::default();
        assert_eq!(map.apply(&row(("", "", "n1", 1, 1))), Ok(Applied::Carved));
        let before = map.clone();
        assert_eq!(map.apply(&row(("", "", "n1", 1, 1))), Ok(Applied::Known));
        assert_eq!(map.apply(&Row { start: key(""), assignment: None }), Ok(Applied::Ended));
        assert_eq!(map, before);
    }

    #[test]
    fn generation_is_whole_at_its_last_record_or_at_the_next_one() {
        let mut map = Map::default();
        map.apply(&row(("", "b", "n1", 1, 1))).unwrap();
        assert_eq!(map.generation(), Generation(0));
        let mut last = row(("b", "", "n1", 1, 1));
        last.assignment.as_mut().unwrap().last = true;
        map.apply(&last).unwrap();
        assert_eq!(map.generation(), Generation(1));
        map.apply(&row(("b", "", "n2", 2, 3))).unwrap();
        assert_eq!(map.generation(), Generation(1));
        map.apply(&row(("", "b", "n2", 2, 7))).unwrap();
        assert_eq!(map.generation(), Generation(3));
    }

    #[test]
    fn owner_is_found_at_both_bounds() {
        let mut map = Map::default();
        map.apply(&row(("b", "d", "n1", 1, 1))).unwrap();
        let owner = |text: &str| map.owner(text.as_bytes()).map(|range| range.node.0.as_str());
        assert_eq!(["a", "b", "cz", "d"].map(owner), [None, Some("n1"), Some("n1"), None]);
    }

    #[test]
    fn tiling_names_the_gap_or_the_overlap() {
        let check = |spans: &[(&str, &str)], told: &str| {
            let spans = spans.iter().map(|(a, b)| KeySpan { start: key(a), end: key(b) });
            let res = tiles(spans).map_or_else(|it| it.to_string(), |()| "tiles".into());
            assert_eq!(res, told);
        };
        check(&[("", "b"), ("b", "")], "tiles");
        check(&[], "no range covers [-, -)");
        check(&[("a", "")], "no range covers [-, a)");
        check(&[("", "b"), ("c", "")], "no range covers [b, c)");
        check(&[("", "b")], "no range covers [b, -)");
        check(&[("", "c"), ("b", "")], "[-, c) and [b, -) overlap");
        check(&[("", ""), ("b", "")], "[-, -) and [b, -) overlap");
    }
}
