//! Says which rows there are, and what a change of one says: the row of an integer has it as primary key
//! and as index key, both in the same eight bytes.
//!
//! An index key never changes here, so a row that is not known to exist may be said to be new: it comes
//! to the same entry.

use std::collections::BTreeSet;
use std::ops::Range;

use rand::{RngCore, SeedableRng};
use rand_pcg::Pcg64;
use schemas::table::RowChanged;

use crate::replay::key;

/// Rows with which a table is filled: of every `every`-th integer of `keys`, from the first on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filling {
    pub keys: Range<u64>,
    /// At least one.
    pub every: u64,
}

impl Filling {
    pub fn keys(&self) -> impl Iterator<Item = u64> {
        let every = usize::try_from(self.every).unwrap_or(usize::MAX);
        self.keys.clone().step_by(every)
    }

    fn has(&self, key: u64) -> bool {
        self.keys.contains(&key) && (key - self.keys.start).is_multiple_of(self.every)
    }
}

/// Changes of rows.
#[derive(Clone, Debug)]
pub struct Rows {
    filled: Option<Filling>,
    written: BTreeSet<u64>,
    payload_bytes: usize,
    random: Pcg64,
}

impl Rows {
    /// `filled` are there already.
    pub fn new(filled: Option<Filling>, payload_bytes: usize, seed: u64) -> Self {
        let (written, random) = (BTreeSet::new(), Pcg64::seed_from_u64(seed));
        Self { filled, written, payload_bytes, random }
    }

    /// Gives the row of a key another payload; returns its primary key, and what to write.
    pub fn change(&mut self, row: u64) -> (Vec<u8>, RowChanged) {
        let is_filled = self.filled.as_ref().is_some_and(|it| it.has(row));
        let is_there = is_filled || !self.written.insert(row);
        let key = key(row);
        let mut payload = vec![0; self.payload_bytes];
        self.random.fill_bytes(&mut payload);
        payload.iter_mut().for_each(|it| *it = b'a' + *it % 26);
        let before = is_there.then(|| key.clone());
        (key.0.clone(), RowChanged { before, after: Some(key), payload: Some(payload) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn row_is_new_once() {
        let filled = Filling { keys: 10..20, every: 5 };
        assert_eq!(filled.keys().collect::<Vec<_>>(), [10, 15]);
        let mut rows = Rows::new(Some(filled), 9, 3);
        let mut payloads = BTreeSet::new();
        for (row, is_new) in
            [(10, false), (15, false), (11, true), (11, false), (9, true), (20, true), (20, false)]
        {
            let (primary_key, change) = rows.change(row);
            assert_eq!(primary_key, row.to_be_bytes());
            assert_eq!(change.before.is_none(), is_new, "{row}");
            assert!(change.before.is_none_or(|it| it == key(row)));
            assert_eq!(change.after, Some(key(row)));
            let payload = change.payload.unwrap();
            assert!(payload.len() == 9 && payload.iter().all(u8::is_ascii_lowercase));
            payloads.insert(payload);
        }
        assert_eq!(payloads.len(), 7, "each is another");
        let again = |seed| Rows::new(None, 9, seed).change(1);
        assert_eq!(again(3), again(3));
        assert_ne!(again(3), again(4));
    }
}
