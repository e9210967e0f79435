//! Keeps a sample of what a cell was asked, and reads off it where and whether to cut.
//!
//! ```text
//!  entries by hash   0 ├─x──x─x───x┤ the 32 smallest are kept          │ 2⁶⁴
//!  of (key, time, op)                 x  x x   x  xx    x   x  x  x  x
//! ```
//!
//! * **Deterministic.** A sample follows from the multiset of entries alone: neither their order, nor how
//!   they were dealt out and merged, shows in it.
//! * **Fair.** A hash stands for one (key, time, op); how often that was asked is counted with it. So a
//!   key asked a thousand times in one millisecond neither fills the sample nor counts only once.
//! * **Bounded.** No more than [`ENTRIES_MAX`] are kept.

mod sweep;

use std::collections::BTreeMap;

use schemas::query_log::Op;
use schemas::{Key, Millis};
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

/// How many entries a sample keeps.
pub const ENTRIES_MAX: usize = 32;

/// What one (key, time, op) was found to be.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Entry {
    pub hash: u64,
    pub key: Key,
    pub time: Millis,
    pub op: Op,
    /// How often it was met.
    pub count: u64,
}

/// The entries of a cell with the smallest hashes, ascending.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Sample {
    entries: Vec<Entry>,
}

/// Returns the hash by which entries are sampled.
#[inline]
pub fn hash(key: &[u8], time: Millis, op: Op) -> u64 {
    let op = match op {
        Op::Read => 0,
        Op::Scan => 1,
        Op::Write => 2,
        Op::Unknown => 3,
    };
    // Twice in one shot, without copying the key. As a seed, the time would meet the bytes of a short
    // key by exclusive or, and many pairs of them would have one hash.
    let mut bytes = [op; 17];
    bytes[..8].copy_from_slice(&xxh3_64(key).to_le_bytes());
    bytes[8..16].copy_from_slice(&time.0.to_le_bytes());
    xxh3_64(&bytes)
}

impl Sample {
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Returns how often the sampled entries were met.
    pub fn weight(&self) -> u64 {
        self.entries.iter().map(|entry| entry.count).sum()
    }

    /// Tells whether an entry of this hash would be kept: if not, its key need not be copied.
    #[inline]
    pub fn takes(&self, hash: u64) -> bool {
        self.entries.len() < ENTRIES_MAX || self.entries.last().is_some_and(|it| hash <= it.hash)
    }

    /// Takes in an entry, if its hash is among the smallest.
    pub fn insert(&mut self, more: Entry) {
        let place = |it: &Entry| {
            (it.hash, &it.key, it.time, it.op).cmp(&(more.hash, &more.key, more.time, more.op))
        };
        match self.entries.binary_search_by(place) {
            Ok(at) => self.entries[at].count += more.count,
            Err(at) => self.entries.insert(at, more),
        }
        self.entries.truncate(ENTRIES_MAX);
    }

    /// Takes in the sample of other entries of the same cell.
    pub fn merge(&mut self, more: Self) {
        more.entries.into_iter().for_each(|entry| self.insert(entry));
    }

    /// Keeps the entries whose keys pass: of a cell that was cut, those of one side.
    pub fn retain(&mut self, mut keep: impl FnMut(&Key) -> bool) {
        self.entries.retain(|entry| keep(&entry.key));
    }

    /// Returns where to cut: the sampled key before which most nearly half lies, the lesser of two.
    /// Something lies on either side of it. `None` if one key has it all.
    pub fn median_key(&self, start: &Key) -> Option<Key> {
        let (mut left, total) = (0, self.weight());
        let mut best: Option<(u64, &Key)> = None;
        for (key, weight) in self.weights() {
            let off = total.abs_diff(2 * left);
            if left > 0 && key > start && best.is_none_or(|(least, _)| off < least) {
                best = Some((off, key));
            }
            left += weight;
        }
        best.map(|(_, key)| key.clone())
    }

    /// Returns which part, as numerator and denominator, lies before a key; a half if nothing is
    /// known.
    pub fn part_left(&self, at: &Key) -> (u64, u64) {
        let left = self.entries.iter().filter(|it| it.key < *at).map(|it| it.count).sum();
        if self.is_empty() { (1, 2) } else { (left, self.weight()) }
    }

    /// Returns the share of the most frequent key, in millionths.
    pub fn one_key_ppm(&self) -> u32 {
        let most = self.weights().into_values().max().unwrap_or(0);
        (u128::from(most) * 1_000_000 / u128::from(self.weight().max(1))) as u32
    }

    /// How often each sampled key was met, in key order.
    fn weights(&self) -> BTreeMap<&Key, u64> {
        let mut weights = BTreeMap::new();
        for entry in &self.entries {
            *weights.entry(&entry.key).or_default() += entry.count;
        }
        weights
    }
}

#[cfg(test)]
mod tests {
    use rand::seq::SliceRandom;
    use rand::{Rng, SeedableRng};
    use rand_pcg::Pcg64;

    use super::*;

    #[test]
    fn sample_does_not_depend_on_order_or_dealing() {
        for seed in 0..100 {
            println!("seed {seed}");
            let mut rng = Pcg64::seed_from_u64(seed);
            let mut asked: Vec<_> =
                (0..400).map(|_| (rng.random_range(0..40_u64), rng.random_range(0..5))).collect();
            let once = sample(&asked);

            // The smallest distinct hashes, each with all of its occurrences.
            let mut counts = BTreeMap::<u64, u64>::new();
            for (key, time) in &asked {
                *counts.entry(hash(&bytes(*key), Millis(*time), Op::Read)).or_default() += 1;
            }
            let expected: Vec<_> = counts.into_iter().take(ENTRIES_MAX).collect();
            let kept: Vec<_> = once.entries().iter().map(|it| (it.hash, it.count)).collect();
            assert_eq!(kept, expected);

            asked.shuffle(&mut rng);
            let mut merged = Sample::default();
            let parts = rng.random_range(1..60);
            asked.chunks(parts).for_each(|part| merged.merge(sample(part)));
            assert_eq!(merged, once);
        }
    }

    #[test]
    fn cut_has_about_half_on_either_side() {
        for seed in 0..50 {
            println!("seed {seed}");
            let mut rng = Pcg64::seed_from_u64(seed);
            let asked: Vec<_> = (0..5000).map(|i| (rng.random_range(0..100_000_u64), i)).collect();
            let sample = sample(&asked);
            let at = sample.median_key(&Key::default()).unwrap();
            let (left, all) = sample.part_left(&at);
            assert_eq!((left, all), (16, 32));
            let truth = asked.iter().filter(|it| Key(bytes(it.0)) < at).count();
            assert!((1000..4000).contains(&truth), "{truth} of 5000 lie left");
            assert!(sample.swept()[0].0 == 0 && sample.one_key_ppm() < 100_000);
        }
    }

    #[test]
    fn one_key_cannot_be_cut() {
        let sample = sample(&[(7, 1), (7, 2), (7, 2), (7, 9)]);
        assert_eq!(sample.median_key(&Key::default()), None);
        assert_eq!((sample.weight(), sample.one_key_ppm()), (4, 1_000_000));
        assert_eq!(Sample::default().median_key(&Key::default()), None);
        assert_eq!(
            (Sample::default().one_key_ppm(), Sample::default().part_left(&key(1))),
            (0, (1, 2))
        );
    }

    #[test]
    fn hot_key_is_cut_off_on_its_colder_side() {
        let mut asked: Vec<_> = (0..90).map(|time| (50, time % 3)).collect();
        asked.extend([(10, 1), (20, 1), (90, 1)]);
        let sample = sample(&asked);
        assert_eq!(sample.one_key_ppm(), 967_741);
        // Before 50 lie 2 of 93, before 90 lie 92: equally bad, but for the one on the left.
        assert_eq!(sample.median_key(&key(10)), Some(key(50)));
        assert_eq!(sample.part_left(&key(50)), (2, 93));
    }

    #[test]
    fn cut_is_after_the_start() {
        let sample = sample(&[(3, 1), (5, 1)]);
        assert_eq!(sample.median_key(&key(3)), Some(key(5)));
        assert_eq!(sample.median_key(&key(5)), None);
    }

    #[test]
    fn retained_side_is_that_of_the_cut() {
        let mut left = sample(&[(1, 1), (2, 1), (3, 1), (4, 1)]);
        left.retain(|it| *it < key(3));
        assert_eq!(left, sample(&[(1, 1), (2, 1)]));
    }

    pub(super) fn sample(asked: &[(u64, u64)]) -> Sample {
        let mut sample = Sample::default();
        for (key, time) in asked {
            let hash = hash(&bytes(*key), Millis(*time), Op::Read);
            if sample.takes(hash) {
                let (key, time) = (Key(bytes(*key)), Millis(*time));
                sample.insert(Entry { hash, key, time, op: Op::Read, count: 1 });
            }
        }
        sample
    }

    fn key(key: u64) -> Key {
        Key(bytes(key))
    }

    fn bytes(key: u64) -> Vec<u8> {
        key.to_be_bytes().to_vec()
    }
}
