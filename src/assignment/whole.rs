//! Takes in the map generation by generation: none shows before it is whole.
//!
//! ```text
//!  assignment   … 7  7  7 last │ 8  8 …
//!  map               7         │ 7  7 …       until 8 is whole, too
//! ```
//!
//! * **One map.** What is sent by a map, and says its generation, is sent by all of that generation and
//!   nothing of the next.
//! * **Whole** is a generation at its record marked `last`, or at the first record of a greater one:
//!   compaction may have taken `last` away.

use schemas::{Generation, KeySpan};

use super::map::{Map, Refused, Row, span_of};

/// The map as of the last whole generation, and what was read of the next one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WholeMap {
    map: Map,
    generation: Generation,
    next: Vec<Row>,
}

/// What a row did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taken {
    /// The map is of a greater generation now.
    pub advanced: bool,
    /// Outside of these, the map is as it was.
    pub changed: Vec<KeySpan>,
    /// Rows that are not used.
    pub refused: Vec<Refused>,
}

impl WholeMap {
    /// Takes in the next row of the topic.
    pub fn read(&mut self, row: Row) -> Taken {
        let before = self.generation;
        let (mut refused, mut changed) = (Vec::new(), Vec::new());
        // A tombstone says nothing that the records of its generation do not.
        if let Some(generation) = row.assignment.as_ref().map(|it| it.generation) {
            if self.next.iter().any(|it| of(it) < Some(generation)) {
                self.end(&mut refused, &mut changed);
            }
            let is_last = row.assignment.as_ref().is_some_and(|it| it.last);
            self.next.push(row);
            if is_last || generation <= self.generation {
                self.end(&mut refused, &mut changed);
            }
        }
        Taken { advanced: before < self.generation, changed, refused }
    }

    /// Returns the map of the greatest whole generation.
    pub fn map(&self) -> &Map {
        &self.map
    }

    /// Returns that generation; 0 if there is none.
    pub fn generation(&self) -> Generation {
        self.generation
    }

    /// What was read is whole.
    fn end(&mut self, refused: &mut Vec<Refused>, changed: &mut Vec<KeySpan>) {
        for row in std::mem::take(&mut self.next) {
            self.generation = self.generation.max(of(&row).unwrap_or_default());
            let span = row.assignment.as_ref().map(span_of);
            let replaced = span.iter().flat_map(|it| self.map.overlapping(it));
            let replaced: Vec<_> = replaced.map(span_of).collect();
            match self.map.apply(&row) {
                Ok(_) => changed.extend(replaced.into_iter().chain(span)),
                Err(err) => refused.push(err),
            }
        }
    }
}

fn of(row: &Row) -> Option<Generation> {
    row.assignment.as_ref().map(|it| it.generation)
}

#[cfg(test)]
mod tests {
    use schemas::assignment::{Assignment, Source};
    use schemas::{Epoch, Inbox, Key, NodeId};

    use super::*;

    /// Reads rows (start, end, node, generation, last) and tells the map after each.
    fn check(rows: &[(&str, &str, &str, u64, bool)], maps: &[&str]) {
        let mut whole = WholeMap::default();
        let mut told = Vec::new();
        for row in rows {
            let before = whole.generation();
            let taken = whole.read(self::row(*row));
            assert_eq!(taken.refused, []);
            assert_eq!(taken.advanced, before < whole.generation());
            let owners: Vec<_> = whole.map().iter().map(|it| it.node.0.as_str()).collect();
            told.push(format!("{} {}", whole.generation().0, owners.join(" ")));
        }
        assert_eq!(told, maps);
    }

    fn row((start, end, node, generation, last): (&str, &str, &str, u64, bool)) -> Row {
        let key = |text: &str| Key(text.as_bytes().to_vec());
        let assignment = Assignment {
            range_start: key(start),
            range_end: key(end),
            node: NodeId(node.into()),
            inbox: Inbox(0),
            epoch: Epoch(generation),
            generation: Generation(generation),
            last,
            migration: None,
            source: Source::None,
            source_node: None,
            source_epoch: Epoch(0),
        };
        Row { start: key(start), assignment: Some(assignment) }
    }

    #[test]
    fn r16_generation_shows_when_it_is_whole_and_not_before() {
        let rows = [
            ("", "m", "a", 1, false),
            ("m", "", "b", 1, true),
            ("", "g", "c", 2, false),
            ("g", "m", "d", 2, true),
        ];
        check(&rows, &["0 ", "1 a b", "1 a b", "2 c d b"]);
    }

    #[test]
    fn generation_whose_last_record_is_gone_is_whole_at_the_next() {
        let rows = [("", "m", "a", 1, false), ("m", "", "b", 4, false), ("", "m", "c", 5, true)];
        check(&rows, &["0 ", "1 a", "5 c b"]);
    }

    #[test]
    fn change_is_told_with_what_it_replaces_and_not_of_a_row_that_is_refused() {
        let mut whole = WholeMap::default();
        let key = |text: &str| Key(text.into());
        let span = |start, end| KeySpan { start: key(start), end: key(end) };
        assert_eq!(whole.read(row(("", "m", "a", 1, false))).changed, []);
        let born = whole.read(row(("m", "", "b", 1, true))).changed;
        assert_eq!(born, [span("", "m"), span("m", "")]);
        let moved = whole.read(row(("d", "g", "b", 2, true))).changed;
        assert_eq!(moved, [span("", "m"), span("d", "g")]);
        let taken = whole.read(row(("m", "b", "a", 3, true)));
        assert_eq!((taken.refused.len(), taken.changed), (1, vec![]));
    }

    #[test]
    fn record_that_comes_again_changes_nothing() {
        let rows = [("", "", "a", 1, true), ("", "", "b", 2, true), ("", "", "a", 1, true)];
        check(&rows, &["1 a", "2 b", "2 b"]);
        let mut whole = WholeMap::default();
        let tombstone = Row { start: Key::default(), assignment: None };
        assert_eq!(
            whole.read(tombstone),
            Taken { advanced: false, changed: vec![], refused: vec![] }
        );
        assert_eq!(whole, WholeMap::default());
    }

    #[test]
    fn row_that_is_refused_is_told_when_its_generation_is_whole() {
        let mut whole = WholeMap::default();
        whole.read(row(("", "", "a", 1, true)));
        let mut old = row(("", "", "b", 2, true));
        old.assignment.as_mut().expect("a range").epoch = Epoch(1);
        let taken = whole.read(old);
        assert_eq!(taken.refused.len(), 1);
        assert_eq!(whole.map().owner(b"k").expect("an owner").node.0, "a");
    }
}
