//! Finds who owns a key: a map that never changes, in flat arrays.
//!
//! ```text
//!  starts   -        b        f        k ·······   in one run of bytes, and as words
//!  owners   n1       n2       –        n1          which of the nodes; none: a gap
//!  epochs   4        9                 4
//! ```
//!
//! * **Nothing is locked.** A map is built once and then only read; a new one takes its place as a
//!   whole ([`super::maps`]).
//! * **Small.** A look-up touches a slot, a word or two, an owner and an epoch; only where eight bytes
//!   are equal are keys compared in full.
//! * A gap is said to be one: nobody is guessed.

use dataflows::words::{Slots, common_prefix, word_of};
use schemas::{Epoch, Generation, NodeId};

use crate::assignment::map::Map;

/// Stands for a node where no range is.
const NOBODY: u32 = u32::MAX;

/// Who owns what, of one generation.
#[derive(Clone, Debug, Default)]
pub struct Lookup {
    generation: Generation,
    ranges: usize,
    nodes: Vec<NodeId>,
    /// Of each start, its bytes end where those of the next begin.
    bytes: Vec<u8>,
    begins: Vec<u32>,
    /// An element a start.
    words: Vec<u64>,
    owners: Vec<(u32, Epoch)>,
    /// The longest common prefix of all starts but the first, which mostly is the empty key.
    prefix: Vec<u8>,
    slots: Slots,
}

/// Whose a key is, and how far that holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owned<'a> {
    pub node: &'a NodeId,
    pub epoch: Epoch,
    pub start: &'a [u8],
    /// Empty: unbounded.
    pub end: &'a [u8],
}

impl Lookup {
    pub fn new(map: &Map, generation: Generation) -> Self {
        let mut res = Self { generation, ranges: map.len(), ..Self::default() };
        let mut numbers = std::collections::BTreeMap::new();
        // Behind what was seen; `None`: there is nothing.
        let mut reached: Option<&[u8]> = Some(&[]);
        for it in map.iter() {
            if let Some(end) = reached.filter(|end| *end < it.range_start.0.as_slice()) {
                res.push(end, (NOBODY, Epoch(0)));
            }
            let node = *numbers.entry(&it.node).or_insert_with(|| {
                res.nodes.push(it.node.clone());
                res.nodes.len() as u32 - 1
            });
            res.push(&it.range_start.0, (node, it.epoch));
            reached = Some(it.range_end.0.as_slice()).filter(|end| !end.is_empty());
        }
        if let Some(end) = reached {
            res.push(end, (NOBODY, Epoch(0)));
        }
        res.begins.push(res.bytes.len() as u32);
        res.index();
        res
    }

    /// Returns the generation; 0 if there is no map yet.
    pub fn generation(&self) -> Generation {
        self.generation
    }

    /// Returns how many ranges there are.
    pub fn ranges(&self) -> usize {
        self.ranges
    }

    /// Returns the owner of a key; `None`: there is none.
    #[inline]
    pub fn owner(&self, key: &[u8]) -> Option<Owned<'_>> {
        let words = self.words.get(1..)?;
        let rank = self.slots.count(&self.prefix, words, key, |it| self.start(it + 1));
        let (node, epoch) = self.owners[rank];
        let node = self.nodes.get(node as usize)?;
        let end = if rank + 1 < self.owners.len() { self.start(rank + 1) } else { &[] };
        Some(Owned { node, epoch, start: self.start(rank), end })
    }

    fn push(&mut self, start: &[u8], owner: (u32, Epoch)) {
        self.begins.push(self.bytes.len() as u32);
        self.bytes.extend_from_slice(start);
        self.owners.push(owner);
    }

    fn index(&mut self) {
        let count = self.owners.len();
        if 1 < count {
            let (second, last) = (self.start(1), self.start(count - 1));
            self.prefix = common_prefix(second, last).to_vec();
        }
        let word = |it| word_of(self.start(it).get(self.prefix.len()..).unwrap_or_default());
        self.words = (0..count).map(word).collect();
        self.slots = Slots::new(&self.prefix, &self.words[1..]);
    }

    #[inline]
    fn start(&self, rank: usize) -> &[u8] {
        &self.bytes[self.begins[rank] as usize..self.begins[rank + 1] as usize]
    }
}

#[cfg(test)]
mod tests {
    use rand::{Rng, SeedableRng};
    use rand_pcg::Pcg64;
    use schemas::assignment::{Assignment, Source};
    use schemas::{Inbox, Key};

    use super::*;
    use crate::assignment::map::Row;

    /// Random maps, with gaps and many keys that share eight bytes, against a map.
    #[test]
    fn key_has_the_owner_that_the_map_says() {
        let mut gaps = 0;
        for seed in 0..300 {
            println!("seed {seed}");
            let mut rng = Pcg64::seed_from_u64(seed);
            let prefix = key(&mut rng, 9, b"u");
            let alphabet: &[u8] = [&b"ab"[..], &[0, 255], b"abcdefgh"][rng.random_range(0..3)];
            let any = |rng: &mut Pcg64| match rng.random_range(0..8) {
                0 => key(rng, 12, alphabet),
                _ => [prefix.clone(), key(rng, 12, alphabet)].concat(),
            };
            let mut map = Map::default();
            for generation in 1..=rng.random_range(1..40) {
                let (start, end) = match rng.random_range(0..10) {
                    0 => (vec![], any(&mut rng)),
                    1 => (any(&mut rng), vec![]),
                    _ => (any(&mut rng), any(&mut rng)),
                };
                let node = format!("n{}", rng.random_range(0..4));
                // What holds no key is refused, and so on: then there is one range less.
                let _ = map.apply(&row(Key(start), Key(end), node, generation));
            }
            let lookup = Lookup::new(&map, map.generation());
            assert_eq!((lookup.generation(), lookup.ranges()), (map.generation(), map.len()));
            for _ in 0..200 {
                let mut probe = match map.iter().nth(rng.random_range(0..map.len() + 1)) {
                    Some(it) if rng.random() => it.range_start.0.clone(),
                    Some(it) => it.range_end.0.clone(),
                    None => any(&mut rng),
                };
                match rng.random_range(0..4) {
                    0 => probe.push(0),
                    1 => _ = probe.pop(),
                    _ => (),
                }
                let found = lookup.owner(&probe).map(|it| (it.node, it.epoch, it.start, it.end));
                let expected = map.owner(&probe).map(|it| {
                    (&it.node, it.epoch, it.range_start.0.as_slice(), it.range_end.0.as_slice())
                });
                gaps += u32::from(expected.is_none());
                assert_eq!(found, expected, "{probe:?}");
            }
        }
        assert!(gaps > 100, "{gaps} keys were without an owner");
    }

    #[test]
    fn without_a_map_nobody_owns_anything() {
        assert_eq!(Lookup::default().owner(b"k"), None);
        assert_eq!(Lookup::new(&Map::default(), Generation(0)).owner(b""), None);
    }

    fn key(rng: &mut Pcg64, bytes_max: usize, alphabet: &[u8]) -> Vec<u8> {
        let bytes = rng.random_range(0..=bytes_max);
        (0..bytes).map(|_| alphabet[rng.random_range(0..alphabet.len())]).collect()
    }

    fn row(start: Key, end: Key, node: String, generation: u64) -> Row {
        let assignment = Assignment {
            range_start: start.clone(),
            range_end: end,
            node: NodeId(node),
            inbox: Inbox(0),
            epoch: Epoch(generation),
            generation: Generation(generation),
            last: true,
            migration: None,
            source: Source::None,
            source_node: None,
            source_epoch: Epoch(0),
        };
        Row { start, assignment: Some(assignment) }
    }
}
