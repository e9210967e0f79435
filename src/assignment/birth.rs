//! Shares out the key space for the first time, where nothing else is configured.
//!
//! ```text
//!  key bounds ──> cuts ──> ranges ──> shares, by capacity, contiguous
//!  first, last    equal    n + 1      n1 n1 n1 n2 n3 n3 …
//! ```
//!
//! * **Outer ranges are open-ended**: a key outside the bounds has an owner too.
//! * **Contiguous**: the ranges of a node are neighbours, and can join.
//!
//! Equal width is in bytes. Keys that use few of their bytes, such as decimal text, are better served
//! by split points.

use schemas::{Key, KeySpan};

/// How many bytes behind the common prefix of the bounds a cut looks at.
const CUT_BYTES: usize = 8;

/// Returns where ranges begin, after the first, so that there are so many of equal width. Fewer where
/// the bounds are too close together for as many.
pub fn cuts(first: &Key, last: &Key, ranges: u32) -> Vec<Key> {
    let shared = if last.0.is_empty() {
        0
    } else {
        first.0.iter().zip(&last.0).take_while(|(a, b)| a == b).count()
    };
    let low = number(&first.0[shared..]);
    let high = if last.0.is_empty() { 1 << (8 * CUT_BYTES) } else { number(&last.0[shared..]) };
    let width = high.saturating_sub(low);
    let mut cuts: Vec<Key> = (1..u128::from(ranges))
        .map(|i| {
            let at = low + width * i / u128::from(ranges);
            let digits = u64::try_from(at).expect("a cut lies below the last key").to_be_bytes();
            let used = digits.iter().rposition(|byte| *byte != 0).map_or(0, |it| it + 1);
            Key([&first.0[..shared], &digits[..used]].concat())
        })
        .filter(|cut| first < cut && (last.0.is_empty() || cut < last))
        .collect();
    cuts.dedup();
    cuts
}

/// Returns the ranges that begin at the cuts, and the one before them.
pub fn ranges(cuts: &[Key]) -> Vec<KeySpan> {
    let starts = std::iter::once(Key::default()).chain(cuts.iter().cloned());
    let ends = cuts.iter().cloned().chain(std::iter::once(Key::default()));
    starts.zip(ends).map(|(start, end)| KeySpan { start, end }).collect()
}

/// Returns for each of so many ranges, in key order, which of the nodes owns it: each node a
/// contiguous share by its capacity.
pub fn shares(ranges: usize, capacities: &[u64]) -> Vec<usize> {
    let total: u128 = capacities.iter().map(|it| u128::from(*it)).sum();
    assert!(0 < total, "somebody has to own the ranges");
    let mut res = Vec::with_capacity(ranges);
    // The node whose share the middle of the range lies in, and where that share ends.
    let (mut node, mut end) = (0, u128::from(capacities[0]));
    for i in 0..ranges {
        let middle = (2 * i as u128 + 1) * total;
        while end * 2 * ranges as u128 <= middle {
            node += 1;
            end += u128::from(capacities[node]);
        }
        res.push(node);
    }
    res
}

/// The first bytes as a number, as many as a cut looks at.
fn number(bytes: &[u8]) -> u128 {
    let byte = |i: usize| u128::from(bytes.get(i).copied().unwrap_or(0));
    (0..CUT_BYTES).fold(0, |number, i| number << 8 | byte(i))
}

#[cfg(test)]
mod tests {
    use rand::{Rng, SeedableRng};
    use rand_pcg::Pcg64;

    use super::*;
    use crate::assignment::map::tiles;

    #[test]
    fn cuts_are_equally_far_apart() {
        let check = |first: &[u8], last: &[u8], ranges, expected: &[&[u8]]| {
            let cuts = cuts(&Key(first.to_vec()), &Key(last.to_vec()), ranges);
            let cuts: Vec<&[u8]> = cuts.iter().map(|it| it.0.as_slice()).collect();
            assert_eq!(cuts, expected);
        };
        check(b"", b"", 4, &[&[0x40], &[0x80], &[0xc0]]);
        check(b"", b"", 1, &[]);
        check(b"user-a", b"user-c", 2, &[b"user-b"]);
        check(b"a", b"c", 4, &[b"a\x80", b"b", b"b\x80"]);
        check(&[1; 7], &[3; 7], 2, &[&[2; 7]]);
        check(b"a", b"a\0", 8, &[]);
    }

    #[test]
    fn random_bounds_give_ranges_that_tile_and_shares_by_capacity() {
        for seed in 0..300 {
            let mut rng = Pcg64::seed_from_u64(seed);
            let mut key = || {
                let n = rng.random_range(0..12);
                Key((0..n).map(|_| rng.random_range(0..=3) * 80).collect())
            };
            let (a, b) = (key(), key());
            let (first, last) = if b.0.is_empty() || a < b { (a, b) } else { (b, Key::default()) };
            let cuts = cuts(&first, &last, rng.random_range(1..100));
            let ranges = ranges(&cuts);
            assert_eq!(tiles(ranges.iter().cloned()), Ok(()), "seed {seed}");
            assert!(cuts.iter().all(|it| first < *it), "seed {seed}");

            let capacities: Vec<u64> =
                (0..rng.random_range(1..8)).map(|_| rng.random_range(1..1_000_000)).collect();
            let owners = shares(ranges.len(), &capacities);
            assert!(owners.is_sorted() && owners.len() == ranges.len(), "seed {seed}: contiguous");
            let total: u64 = capacities.iter().sum();
            let mut due = 0.0;
            for (node, capacity) in capacities.iter().enumerate() {
                due += *capacity as f64 / total as f64 * ranges.len() as f64;
                let owned = owners.iter().filter(|it| **it <= node).count() as f64;
                assert!((owned - due).abs() <= 0.500_001, "seed {seed}: {owned} of {due}");
            }
        }
    }

    #[test]
    fn node_without_capacity_owns_nothing() {
        assert_eq!(shares(4, &[0, 1, 0, 1, 0]), [1, 1, 3, 3]);
    }
}
