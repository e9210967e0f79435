//! Sums the hashes of entries, so that two sides can tell that they hold the same.
//!
//! * **In any order.** A sum does not know in which order entries were put, or replaced.
//! * **What counts**: live entries, and tombstones at or above the floors; those below may be dropped
//!   by either side at any time.

use std::collections::BTreeMap;

use schemas::range_segment::{Entry, Floor};
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::Xxh3Default;

/// By partition of `table`: every update before the offset that concerns the range is applied.
pub type Floors = BTreeMap<u32, u64>;

/// What a side holds of a range, in sum.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sums {
    /// Of the hashes of live entries.
    pub live: u64,
    /// Of the hashes of tombstones at or above the floors.
    pub tombstones: u64,
    /// Of live entries.
    pub count: u64,
}

impl Sums {
    pub fn add(&mut self, entry: &Entry, floors: &Floors) {
        let hash = hash(entry);
        if entry.payload.is_some() {
            self.live = self.live.wrapping_add(hash);
            self.count = self.count.wrapping_add(1);
        } else if !is_below(floors, entry) {
            self.tombstones = self.tombstones.wrapping_add(hash);
        }
    }

    pub fn remove(&mut self, entry: &Entry, floors: &Floors) {
        let hash = hash(entry);
        if entry.payload.is_some() {
            self.live = self.live.wrapping_sub(hash);
            self.count = self.count.wrapping_sub(1);
        } else if !is_below(floors, entry) {
            self.tombstones = self.tombstones.wrapping_sub(hash);
        }
    }

    /// Takes in that an entry was put, and what it replaced.
    pub fn change(&mut self, entry: &Entry, replaced: Option<&Entry>, floors: &Floors) {
        if let Some(replaced) = replaced {
            self.remove(replaced, floors);
        }
        self.add(entry, floors);
    }
}

/// Tells whether the version of an entry is below the floors.
pub fn is_below(floors: &Floors, entry: &Entry) -> bool {
    floors.get(&entry.partition).is_some_and(|floor| entry.offset < *floor)
}

/// Returns floors as records have them.
pub fn listed(floors: &Floors) -> Vec<Floor> {
    floors
        .iter()
        .map(|(partition, offset)| Floor { partition: *partition, offset: *offset })
        .collect()
}

/// Returns floors as records have them, by partition.
pub fn by_partition(floors: &[Floor]) -> Floors {
    floors.iter().map(|it| (it.partition, it.offset)).collect()
}

/// Hashes keys, version and payload, each behind its length.
fn hash(entry: &Entry) -> u64 {
    let mut hasher = Xxh3Default::new();
    for part in [&entry.index_key.0, &entry.primary_key.0] {
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part);
    }
    hasher.update(&entry.partition.to_le_bytes());
    hasher.update(&entry.offset.to_le_bytes());
    if let Some(payload) = &entry.payload {
        hasher.update(&(payload.len() as u64).to_le_bytes());
        hasher.update(payload);
    }
    hasher.digest()
}

#[cfg(test)]
mod tests {
    use schemas::Key;

    use super::*;

    fn entry(index: &str, primary: &str, offset: u64, payload: Option<&str>) -> Entry {
        Entry {
            index_key: Key(index.into()),
            primary_key: Key(primary.into()),
            partition: 0,
            offset,
            payload: payload.map(|it| it.as_bytes().to_vec()),
        }
    }

    fn sums(entries: &[Entry]) -> Sums {
        let mut sums = Sums::default();
        entries.iter().for_each(|it| sums.add(it, &Floors::from([(0, 5)])));
        sums
    }

    #[test]
    fn sums_do_not_know_the_order_and_forget_what_is_replaced() {
        let [a, b, c] = ["a", "b", "c"].map(|it| entry(it, "1", 7, Some("x")));
        assert_eq!(sums(&[a.clone(), b.clone()]), sums(&[b.clone(), a.clone()]));
        let mut changed = sums(&[a.clone(), c.clone()]);
        changed.change(&b, Some(&c), &Floors::new());
        assert_eq!(changed, sums(&[a, b]));
    }

    #[test]
    fn every_part_of_an_entry_is_in_its_hash() {
        let one = entry("a", "bc", 7, Some("x"));
        let others = [
            entry("ab", "c", 7, Some("x")),
            entry("a", "bd", 7, Some("x")),
            entry("a", "bc", 8, Some("x")),
            entry("a", "bc", 7, Some("y")),
            entry("a", "bc", 7, Some("")),
            Entry { partition: 1, ..one.clone() },
        ];
        for other in others {
            assert_ne!(
                sums(std::slice::from_ref(&other)).live,
                sums(std::slice::from_ref(&one)).live
            );
        }
    }

    #[test]
    fn r9_tombstone_counts_only_at_or_above_the_floor() {
        assert_eq!(sums(&[entry("a", "1", 4, None)]), Sums::default());
        let above = sums(&[entry("a", "1", 5, None)]);
        assert_ne!(above.tombstones, 0);
        assert_eq!((above.live, above.count), (0, 0));
    }
}
