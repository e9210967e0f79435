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
//! * **Made from the one before**: what has not changed is copied in runs, so a router of a hundred thousand
//!   ranges takes a new map in a few milliseconds.
//! * A gap is said to be one: nobody is guessed.

use std::collections::HashMap;
use std::ops::Range;

use dataflows::words::{Slots, common_prefix, word_of};
use schemas::assignment::Assignment;
use schemas::{Epoch, Generation, KeySpan, NodeId};

use crate::assignment::map::Map;

/// Stands for a node where no range is.
const NOBODY: u32 = u32::MAX;

/// Of which part of the ranges a following lookup is put together anew as a whole.
const RENEWED_PART: usize = 16;

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
        let mut draft = Draft::new(Self { generation, ranges: map.len(), ..Self::default() });
        draft.add(&KeySpan::all(), map.iter());
        draft.finish(&[])
    }

    /// Returns the lookup of a later map, which is as this one's outside of what has changed. What is the
    /// same is copied in long runs: that takes a small part of the time of [`Self::new`].
    pub fn following(&self, map: &Map, generation: Generation, changed: Vec<KeySpan>) -> Self {
        let changed = merged(changed);
        let renewed = changed.iter().flat_map(|it| map.overlapping(it)).count();
        if self.owners.is_empty() || map.len() < RENEWED_PART * renewed {
            return Self::new(map, generation);
        }
        self.edited(map, generation, &changed)
    }

    /// `changed` are in key order and apart.
    fn edited(&self, map: &Map, generation: Generation, changed: &[KeySpan]) -> Self {
        let nodes = self.nodes.clone();
        let mut draft =
            Draft::new(Self { generation, ranges: map.len(), nodes, ..Self::default() });
        // All of this one before it is copied or replaced.
        let mut rank = 0;
        for span in changed {
            draft.copy(self, rank..self.starts_before(&span.start.0));
            draft.add(span, map.overlapping(span));
            rank = match span.end.0.is_empty() {
                true => self.owners.len(),
                false => self.starts_before(&span.end.0),
            };
            let goes_on = rank < self.owners.len() && self.start(rank) == span.end.0;
            if !span.end.0.is_empty() && !goes_on {
                // It ends within a gap.
                draft.push(&span.end.0, (NOBODY, Epoch(0)));
            }
        }
        draft.copy(self, rank..self.owners.len());
        draft.finish(&self.prefix)
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

    #[inline]
    fn start(&self, rank: usize) -> &[u8] {
        &self.bytes[self.begins[rank] as usize..self.begins[rank + 1] as usize]
    }

    /// Counts the starts that are less than a key.
    fn starts_before(&self, key: &[u8]) -> usize {
        let (mut low, mut high) = (0, self.owners.len());
        while low < high {
            let middle = low.midpoint(high);
            match self.start(middle) < key {
                true => low = middle + 1,
                false => high = middle,
            }
        }
        low
    }

    fn word(&self, rank: usize) -> u64 {
        word_of(self.start(rank).get(self.prefix.len()..).unwrap_or_default())
    }
}

/// A lookup that is being put together, in key order.
struct Draft<'a> {
    lookup: Lookup,
    numbers: HashMap<&'a NodeId, u32>,
    /// So many nodes are of the lookup before.
    copied: usize,
    /// What was not copied.
    fresh: Vec<usize>,
}

impl<'a> Draft<'a> {
    fn new(lookup: Lookup) -> Self {
        let copied = lookup.nodes.len();
        Self { lookup, numbers: HashMap::new(), copied, fresh: Vec::new() }
    }

    /// Adds the ranges of an interval, and the gaps between them.
    fn add(&mut self, span: &KeySpan, ranges: impl Iterator<Item = &'a Assignment>) {
        // Behind what was seen; `None`: there is nothing.
        let mut reached = Some(span.start.0.as_slice());
        for it in ranges {
            if let Some(end) = reached.filter(|end| *end < it.range_start.0.as_slice()) {
                self.push(end, (NOBODY, Epoch(0)));
            }
            let node = self.number(&it.node);
            self.push(&it.range_start.0, (node, it.epoch));
            reached = Some(it.range_end.0.as_slice()).filter(|end| !end.is_empty());
        }
        let is_open = |end: &&[u8]| span.end.0.is_empty() || *end < span.end.0.as_slice();
        if let Some(end) = reached.filter(is_open) {
            self.push(end, (NOBODY, Epoch(0)));
        }
    }

    fn push(&mut self, start: &[u8], owner: (u32, Epoch)) {
        let it = &mut self.lookup;
        self.fresh.push(it.owners.len());
        it.begins.push(it.bytes.len() as u32);
        it.bytes.extend_from_slice(start);
        it.words.push(0);
        it.owners.push(owner);
    }

    fn copy(&mut self, of: &Lookup, ranks: Range<usize>) {
        let it = &mut self.lookup;
        let (from, to) = (of.begins[ranks.start], of.begins[ranks.end]);
        let at = it.bytes.len() as u32;
        it.begins.extend(of.begins[ranks.clone()].iter().map(|begin| begin - from + at));
        it.bytes.extend_from_slice(&of.bytes[from as usize..to as usize]);
        it.words.extend_from_slice(&of.words[ranks.clone()]);
        it.owners.extend_from_slice(&of.owners[ranks]);
    }

    /// Looked up only, so the order of the numbers' table cannot show.
    fn number(&mut self, node: &'a NodeId) -> u32 {
        let nodes = &mut self.lookup.nodes;
        *self.numbers.entry(node).or_insert_with(|| {
            // One that was copied may be there.
            let place = nodes[..self.copied].iter().position(|it| it == node);
            let place = place.unwrap_or_else(|| {
                nodes.push(node.clone());
                nodes.len() - 1
            });
            place as u32
        })
    }

    /// Ends it; words that were copied are of keys with this prefix.
    fn finish(self, prefix: &[u8]) -> Lookup {
        let Self { lookup: mut it, fresh, .. } = self;
        it.begins.push(it.bytes.len() as u32);
        let count = it.owners.len();
        if 1 < count {
            it.prefix = common_prefix(it.start(1), it.start(count - 1)).to_vec();
        }
        if it.prefix == prefix {
            fresh.into_iter().for_each(|rank| it.words[rank] = it.word(rank));
        } else {
            it.words = (0..count).map(|rank| it.word(rank)).collect();
        }
        it.slots = Slots::new(&it.prefix, &it.words[1..]);
        it
    }
}

/// Returns the intervals in key order, those that touch or overlap as one.
fn merged(mut spans: Vec<KeySpan>) -> Vec<KeySpan> {
    spans.sort_unstable();
    let mut res: Vec<KeySpan> = Vec::with_capacity(spans.len());
    for span in spans {
        match res.last_mut() {
            Some(last) if last.end.0.is_empty() => break,
            Some(last) if span.start <= last.end => {
                if span.end.0.is_empty() || last.end < span.end {
                    last.end = span.end;
                }
            }
            Some(_) | None => res.push(span),
        }
    }
    res
}

#[cfg(test)]
mod tests {
    use rand::{Rng, SeedableRng};
    use rand_pcg::Pcg64;
    use schemas::assignment::{Assignment, Source};
    use schemas::{Inbox, Key};

    use super::*;
    use crate::assignment::map::{Row, span_of};

    /// Random maps, with gaps and many keys that share eight bytes, against a map.
    #[test]
    fn key_has_the_owner_that_the_map_says() {
        let (mut gaps, mut edited) = (0, 0);
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
            let mut lookup = Lookup::default();
            for generation in 1..=rng.random_range(1..60) {
                let (start, end) = match rng.random_range(0..10) {
                    0 => (vec![], any(&mut rng)),
                    1 => (any(&mut rng), vec![]),
                    _ => (any(&mut rng), any(&mut rng)),
                };
                let node = format!("n{}", rng.random_range(0..4));
                // What holds no key is refused, and so on: then there is one range less.
                let row = row(Key(start), Key(end), node, generation);
                let span = span_of(row.assignment.as_ref().unwrap());
                let mut changed: Vec<_> = map.overlapping(&span).map(span_of).collect();
                if map.apply(&row).is_ok() {
                    changed.push(span);
                    let changed = merged(changed);
                    lookup = match lookup.owners.is_empty() {
                        true => Lookup::new(&map, map.generation()),
                        false => lookup.edited(&map, map.generation(), &changed),
                    };
                    edited += 1;
                }
                if rng.random_range(0..20) == 0 {
                    lookup = Lookup::new(&map, map.generation());
                }
            }
            assert_eq!((lookup.generation(), lookup.ranges()), (map.generation(), map.len()));
            check_order(&lookup);
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
        assert!(edited > 1_000, "{edited} lookups were made from the one before");
    }

    #[test]
    fn following_lookup_is_as_the_map_is() {
        let mut map = Map::default();
        let key = |it: u64| Key(it.to_be_bytes().to_vec());
        let span =
            |it: u64| (key(64 * it), if it == 999 { Key::default() } else { key(64 * it + 64) });
        for it in 0..1_000 {
            let (start, end) = span(it);
            let start = if it == 0 { Key::default() } else { start };
            map.apply(&row(start, end, format!("n{}", it % 3), 1)).unwrap();
        }
        let mut lookup = Lookup::default().following(&map, Generation(1), vec![KeySpan::all()]);
        for generation in 2..40 {
            let (start, end) = span(generation * 13);
            let middle = key(64 * generation * 13 + 20);
            let rows = [(start, middle.clone(), "new"), (middle, end, "n1")];
            let mut changed = Vec::new();
            for (start, end, node) in rows {
                let row = row(start, end, node.into(), generation);
                let span = span_of(row.assignment.as_ref().unwrap());
                changed.extend(map.overlapping(&span).map(span_of));
                changed.push(span);
                map.apply(&row).unwrap();
            }
            lookup = lookup.following(&map, Generation(generation), changed);
            check_order(&lookup);
        }
        assert_eq!(lookup.ranges(), map.len());
        for it in map.iter() {
            let found = lookup.owner(&it.range_start.0).unwrap();
            assert_eq!((found.node, found.epoch), (&it.node, it.epoch));
            assert_eq!((found.start, found.end), (&it.range_start.0[..], &it.range_end.0[..]));
        }
    }

    fn check_order(lookup: &Lookup) {
        let starts: Vec<_> = (0..lookup.owners.len()).map(|it| lookup.start(it)).collect();
        assert!(starts.is_sorted_by(|a, b| a < b), "{starts:?}");
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
