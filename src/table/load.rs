//! Makes rows of a table, and changes of them, from a seed: for trying and testing.
//!
//! ```text
//!  row-00000001 ──> insert ──> other payload ──> other key ──> deletion ──> insert …
//! ```
//!
//! Index keys are eight hexadecimal digits, evenly spread.

use rand::{Rng, SeedableRng};
use rand_pcg::Pcg64;
use schemas::Key;
use schemas::table::RowChanged;

/// What is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// At least one.
    pub rows: u64,
    pub payload_bytes: usize,
    pub seed: u64,
}

/// Changes of rows, without end: first every row once, then any, as often as is asked.
#[derive(Clone, Debug)]
pub struct Changes {
    shape: Shape,
    random: Pcg64,
    made: u64,
    /// The index key of each row; `None`: it is deleted.
    keys: Vec<Option<Key>>,
}

impl Changes {
    pub fn new(shape: Shape) -> Self {
        assert!(shape.rows > 0, "a table has rows");
        let random = Pcg64::seed_from_u64(shape.seed);
        Self { shape, random, made: 0, keys: vec![None; shape.rows as usize] }
    }

    /// Takes in what the table says of a row already, so that changes say what it was before.
    pub fn know(&mut self, primary_key: &[u8], index_key: Option<Key>) {
        let row =
            str::from_utf8(primary_key).ok().and_then(|it| it.strip_prefix("row-")?.parse().ok());
        if let Some(known) = row.and_then(|row: usize| self.keys.get_mut(row)) {
            *known = index_key;
        }
    }

    fn key(&mut self) -> Key {
        Key(format!("{:08x}", self.random.random::<u32>()).into_bytes())
    }

    fn payload(&mut self) -> Vec<u8> {
        let letter = |_| b'a' + self.random.random_range(0..26_u8);
        (0..self.shape.payload_bytes).map(letter).collect()
    }
}

/// The primary key of a row.
pub fn primary_key(row: u64) -> Vec<u8> {
    format!("row-{row:08}").into_bytes()
}

impl Iterator for Changes {
    type Item = (Vec<u8>, RowChanged);

    fn next(&mut self) -> Option<(Vec<u8>, RowChanged)> {
        let row = match self.made < self.shape.rows {
            true => self.made,
            false => self.random.random_range(0..self.shape.rows),
        };
        self.made += 1;
        let before = self.keys[row as usize].clone();
        // Of those that are there a twentieth goes, and a sixth gets another key.
        let dice = self.random.random_range(0..60);
        let after = match &before {
            None => Some(self.key()),
            Some(_) if dice < 3 => None,
            Some(_) if dice < 13 => Some(self.key()),
            Some(key) => Some(key.clone()),
        };
        self.keys[row as usize].clone_from(&after);
        let payload = after.is_some().then(|| self.payload());
        Some((primary_key(row), RowChanged { before, after, payload }))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn rows_that_are_there_already_are_changed_and_not_inserted() {
        let mut changes = Changes::new(Shape { rows: 2, payload_bytes: 1, seed: 3 });
        changes.know(&primary_key(1), Some(Key(b"there".to_vec())));
        changes.know(b"of another", Some(Key(b"x".to_vec())));
        let before: Vec<_> = changes.take(2).map(|it| it.1.before).collect();
        assert_eq!(before, [None, Some(Key(b"there".to_vec()))]);
    }

    #[test]
    fn changes_say_what_each_row_was_before() {
        let shape = Shape { rows: 50, payload_bytes: 9, seed: 3 };
        let mut rows = BTreeMap::new();
        let (mut deleted, mut moved) = (0, 0);
        for (i, (primary, change)) in Changes::new(shape).take(2_000).enumerate() {
            let before = rows.remove(&primary).flatten();
            assert_eq!(change.before, before, "change {i}");
            assert_eq!(change.payload.is_some(), change.after.is_some());
            deleted += usize::from(before.is_some() && change.after.is_none());
            moved +=
                usize::from(before.is_some() && change.after.is_some() && before != change.after);
            rows.insert(primary, change.after);
        }
        assert_eq!(rows.len(), 50);
        assert!(deleted > 20 && moved > 100, "{deleted} {moved}");
        let again: Vec<_> = Changes::new(shape).take(99).collect();
        assert_eq!(again, Changes::new(shape).take(99).collect::<Vec<_>>());
    }
}
