//! Tells which cell a key lies in: sorted split points, searched by eight bytes.
//!
//! ```text
//!  key      u s e r : 4 2 7 1 · ·        starts   -        user:17   user:42   user:4271
//!           prefix │  word   │           words             17······  42······  4271····
//!                             └──> slots (the word's leading bits) ──> search among few words
//! ```
//!
//! All cells but the first begin after a common prefix; the eight bytes behind it are a word. Words
//! are found through a table of slots over their leading bits and, among those of one slot, by
//! halving. Only where a word is met exactly are keys compared in full.
//!
//! * **Exact.** A key lies in the cell with the greatest start that is not greater than the key.
//! * **Stable.** A cell is known by its id, which no cut shifts; a *rank* is its place in key order and
//!   holds until the next change.

use std::collections::BTreeMap;

use schemas::{CellId, Key};
use serde::{Deserialize, Serialize};

use crate::words::{Slots, common_prefix, word_of};

/// More changes than this are merged in one pass; fewer are made in place.
const IN_PLACE_MAX: usize = 16;

/// A change of where cells begin, or of which are sampled.
///
/// Of the changes of one tick, removals come first, then insertions, then the others: so their order
/// does not count, and a cell can be replaced by one of the same start.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum SplitChange {
    /// The cell that begins here ends; what it held belongs to the cell before it.
    Remove { start: Key },
    /// A cell begins here. It is not sampled.
    Insert { start: Key, cell: CellId },
    /// The cell that begins here is sampled from now on.
    Watch { start: Key },
    /// The cell that begins here is no longer sampled.
    Unwatch { start: Key },
}

/// The cells in key order. Before the first start there is no cell.
///
/// The vectors have an element a cell, at its rank.
#[derive(Clone, Debug, Default)]
pub struct Splits {
    starts: Vec<Key>,
    cells: Vec<CellId>,
    watched: Vec<bool>,
    /// The word of each start; that of the first is not used.
    words: Vec<u64>,
    /// The longest common prefix of all starts but the first, which mostly is the empty key.
    prefix: Vec<u8>,
    slots: Slots,
}

impl Splits {
    /// Returns the number of cells.
    pub fn len(&self) -> usize {
        self.starts.len()
    }

    pub fn is_empty(&self) -> bool {
        self.starts.is_empty()
    }

    /// Returns the id of the cell at a rank.
    pub fn cell(&self, rank: usize) -> CellId {
        self.cells[rank]
    }

    /// Returns the start of the cell at a rank.
    pub fn start(&self, rank: usize) -> &Key {
        &self.starts[rank]
    }

    /// Tells whether the cell at a rank is sampled.
    #[inline]
    pub fn is_watched(&self, rank: usize) -> bool {
        self.watched[rank]
    }

    /// Returns the rank of the cell in which the key lies.
    #[inline]
    pub fn rank(&self, key: &[u8]) -> Option<usize> {
        let first = self.starts.first()?;
        if !first.0.is_empty() && key < first.0.as_slice() {
            return None;
        }
        let words = self.words.get(1..).unwrap_or_default();
        Some(self.slots.count(&self.prefix, words, key, |it| &self.starts[1 + it].0))
    }

    /// Makes the changes of one tick. A start that is not there cannot be removed or watched: that
    /// is passed over. An insertion at a start that is there replaces the cell.
    pub fn apply(&mut self, mut changes: Vec<SplitChange>) {
        changes.sort_unstable();
        if changes.len() > IN_PLACE_MAX {
            self.merge(changes);
            self.prefix.clear();
            self.words.clear();
        } else {
            changes.into_iter().for_each(|change| self.change(change));
        }
        self.index();
    }

    /// Makes one change in place. A word that is put in is right only while the prefix is.
    fn change(&mut self, change: SplitChange) {
        match change {
            SplitChange::Remove { start } => {
                if let Ok(rank) = self.starts.binary_search(&start) {
                    self.starts.remove(rank);
                    self.cells.remove(rank);
                    self.watched.remove(rank);
                    self.words.remove(rank);
                }
            }
            SplitChange::Insert { start, cell } => match self.starts.binary_search(&start) {
                Ok(rank) => (self.cells[rank], self.watched[rank]) = (cell, false),
                Err(rank) => {
                    self.words.insert(rank, self.word(&start));
                    self.starts.insert(rank, start);
                    self.cells.insert(rank, cell);
                    self.watched.insert(rank, false);
                }
            },
            SplitChange::Watch { start } => self.watch(&start, true),
            SplitChange::Unwatch { start } => self.watch(&start, false),
        }
    }

    fn watch(&mut self, start: &Key, watched: bool) {
        if let Ok(rank) = self.starts.binary_search(start) {
            self.watched[rank] = watched;
        }
    }

    /// Makes many changes, through a map.
    fn merge(&mut self, changes: Vec<SplitChange>) {
        let ids =
            std::mem::take(&mut self.cells).into_iter().zip(std::mem::take(&mut self.watched));
        let mut map: BTreeMap<_, _> =
            std::mem::take(&mut self.starts).into_iter().zip(ids).collect();
        for change in changes {
            match change {
                SplitChange::Remove { start } => _ = map.remove(&start),
                SplitChange::Insert { start, cell } => _ = map.insert(start, (cell, false)),
                SplitChange::Watch { start } => _ = map.get_mut(&start).map(|it| it.1 = true),
                SplitChange::Unwatch { start } => _ = map.get_mut(&start).map(|it| it.1 = false),
            }
        }
        for (start, (cell, watched)) in map {
            self.starts.push(start);
            self.cells.push(cell);
            self.watched.push(watched);
        }
    }

    /// Brings words and slots up to the starts: the words all anew if the prefix is another one.
    fn index(&mut self) {
        let prefix = match self.starts.as_slice() {
            [_, second, .., last] => common_prefix(&second.0, &last.0),
            [_, second] => &second.0,
            [_] | [] => &[],
        };
        if self.words.len() != self.starts.len() || prefix != self.prefix.as_slice() {
            self.prefix = prefix.to_vec();
            self.words = self.starts.iter().map(|start| self.word(start)).collect();
        } else if let [_, second, ..] = self.starts.as_slice() {
            // It may have been the first, without the prefix.
            self.words[1] = self.word(second);
        }
        self.slots = Slots::new(&self.prefix, self.words.get(1..).unwrap_or_default());
    }

    fn word(&self, start: &Key) -> u64 {
        word_of(start.0.get(self.prefix.len()..).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use rand::{Rng, SeedableRng};
    use rand_pcg::Pcg64;

    use super::*;

    /// Random changes, each followed by look-ups of random keys, against a map.
    #[test]
    fn key_lies_in_the_cell_with_the_greatest_start_not_above_it() {
        for seed in 0..400 {
            println!("seed {seed}");
            let mut rng = Pcg64::seed_from_u64(seed);
            let prefix = random_key(&mut rng, 14, &[0, 7, 255]);
            let alphabet: &[u8] = [&[0, 255][..], &[0, 1, 2], b"abcdefgh", &[0, 127, 128, 255]]
                [rng.random_range(0..4)];
            let key = |rng: &mut Pcg64| match rng.random_range(0..8) {
                0 => random_key(rng, 14, alphabet),
                _ => [prefix.clone(), random_key(rng, 12, alphabet)].concat(),
            };
            let mut splits = Splits::default();
            let mut map = BTreeMap::new();
            for round in 0..8 {
                let most = [3, 60][rng.random_range(0..2)];
                let changes: Vec<_> = (0..rng.random_range(0..most))
                    .map(|i| change(&mut rng, &map, key, CellId(round * 100 + i)))
                    .collect();
                apply(&mut map, &changes);
                splits.apply(changes);
                assert_eq!(splits.len(), map.len());
                for _ in 0..60 {
                    let probe = match map.keys().nth(rng.random_range(0..map.len() + 1)) {
                        Some(start) if rng.random() => near(&mut rng, &start.0),
                        Some(_) | None => key(&mut rng),
                    };
                    let found = splits.rank(&probe).map(|rank| {
                        (splits.start(rank).clone(), (splits.cell(rank), splits.is_watched(rank)))
                    });
                    let expected = map.range(..=Key(probe.clone())).next_back();
                    assert_eq!(found, expected.map(|(k, v)| (k.clone(), *v)), "{probe:?} {map:?}");
                }
            }
        }
    }

    #[test]
    fn removal_comes_before_insertion_at_the_same_start() {
        let mut splits = Splits::default();
        let start = Key(b"k".to_vec());
        splits.apply(vec![SplitChange::Insert { start: start.clone(), cell: CellId(1) }]);
        splits.apply(vec![
            SplitChange::Watch { start: start.clone() },
            SplitChange::Insert { start: start.clone(), cell: CellId(2) },
            SplitChange::Remove { start },
        ]);
        assert_eq!((splits.len(), splits.cell(0), splits.is_watched(0)), (1, CellId(2), true));
    }

    fn random_key(rng: &mut Pcg64, bytes_max: usize, alphabet: &[u8]) -> Vec<u8> {
        let bytes = rng.random_range(0..=bytes_max);
        (0..bytes).map(|_| alphabet[rng.random_range(0..alphabet.len())]).collect()
    }

    /// A start itself, or one byte away from it.
    fn near(rng: &mut Pcg64, start: &[u8]) -> Vec<u8> {
        let mut key = start.to_vec();
        match rng.random_range(0..4) {
            0 => key.push(0),
            1 => _ = key.pop(),
            2 => key.push(255),
            _ => (),
        }
        key
    }

    type Map = BTreeMap<Key, (CellId, bool)>;

    fn change(
        rng: &mut Pcg64,
        map: &Map,
        key: impl Fn(&mut Pcg64) -> Vec<u8>,
        cell: CellId,
    ) -> SplitChange {
        let known = map.keys().nth(rng.random_range(0..map.len() + 1)).cloned();
        let start = known.filter(|_| rng.random_bool(0.9)).unwrap_or_else(|| Key(key(rng)));
        match rng.random_range(0..8) {
            0 | 1 => SplitChange::Remove { start },
            2 => SplitChange::Watch { start },
            3 => SplitChange::Unwatch { start },
            _ => SplitChange::Insert { start: Key(key(rng)), cell },
        }
    }

    fn apply(map: &mut Map, changes: &[SplitChange]) {
        let mut changes = changes.to_vec();
        changes.sort();
        for change in changes {
            match change {
                SplitChange::Remove { start } => _ = map.remove(&start),
                SplitChange::Insert { start, cell } => _ = map.insert(start, (cell, false)),
                SplitChange::Watch { start } => _ = map.get_mut(&start).map(|it| it.1 = true),
                SplitChange::Unwatch { start } => _ = map.get_mut(&start).map(|it| it.1 = false),
            }
        }
    }
}
