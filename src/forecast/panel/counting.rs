//! Makes a panel of a query log: counts what is asked, bin by bin, of each strip of the key space.
//!
//! ```text
//!  queries: time, key, op ──> bin (time − start) ÷ bin_ms, strip by where it begins ──> panel
//! ```

use std::collections::BTreeMap;

use schemas::query_log::Op;
use schemas::{Key, Millis};

use super::{Panel, PanelError};
use crate::forecast::OPS;

/// A panel has no more loads than these: a gibibyte.
const LOADS_MAX: u64 = (1 << 30) / (4 * OPS as u64);

/// Counts queries.
#[derive(Clone, Debug)]
pub struct Counting {
    /// Where strips begin, but the first; ascending.
    starts: Vec<Key>,
    bin_ms: u64,
    start: Millis,
    bins: Vec<Vec<[u32; OPS]>>,
    offsets: BTreeMap<u32, [u64; 2]>,
}

impl Counting {
    /// Counts what is asked from `start` on, in bins that are over before `end`.
    pub fn new(
        starts: Vec<Key>,
        bin_ms: u64,
        start: Millis,
        end: Millis,
    ) -> Result<Self, PanelError> {
        let (bins, ranges) = (end.0.saturating_sub(start.0) / bin_ms, starts.len() + 1);
        if LOADS_MAX < bins.saturating_mul(ranges as u64) {
            return Err(PanelError::Large { bins, ranges });
        }
        let bins = vec![vec![[0; OPS]; ranges]; bins as usize];
        Ok(Self { starts, bin_ms, start, bins, offsets: BTreeMap::new() })
    }

    /// Tells whether a time lies in one of the bins.
    pub fn spans(&self, time: Millis) -> bool {
        self.bin(time).is_some()
    }

    /// Counts one query, unless it lies in none of the bins.
    pub fn add(&mut self, time: Millis, key: &[u8], op: Op) {
        let Some(bin) = self.bin(time) else { return };
        let strip = self.starts.partition_point(|it| it.0.as_slice() <= key);
        let op = match op {
            Op::Read | Op::Scan | Op::Unknown => 0,
            Op::Write => 1,
        };
        let sum = &mut self.bins[bin][strip][op];
        *sum = sum.saturating_add(1);
    }

    /// Notes a record of a topic that was counted.
    pub fn passed(&mut self, partition: u32, offset: u64) {
        let [first, end] = self.offsets.entry(partition).or_insert([offset, offset + 1]);
        (*first, *end) = ((*first).min(offset), (*end).max(offset + 1));
    }

    /// The panel; `digest` is that of its source.
    pub fn done(self, name: &str, digest: String) -> Result<Panel, PanelError> {
        let has = |op: &usize| self.bins.iter().flatten().any(|it| 0 < it[*op]);
        let ops: Vec<_> = (0..OPS).filter(has).collect();
        if ops.is_empty() {
            return Err(PanelError::Empty);
        }
        let loads =
            |bin: Vec<[u32; OPS]>| bin.into_iter().map(|it| it.map(|it| it as f32)).collect();
        let bins = self.bins.into_iter().map(loads).collect();
        Ok(Panel {
            name: name.to_owned(),
            bin_ms: self.bin_ms,
            start_ms: Some(self.start.0),
            bins,
            ops,
            digest,
            offsets: self.offsets,
        })
    }

    fn bin(&self, time: Millis) -> Option<usize> {
        let bin = time.0.checked_sub(self.start.0)? / self.bin_ms;
        usize::try_from(bin).ok().filter(|it| *it < self.bins.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replay::key;

    fn counting(end: u64) -> Counting {
        Counting::new([10, 20].map(key).to_vec(), 1_000, Millis(5_000), Millis(end)).unwrap()
    }

    #[test]
    fn queries_count_in_their_bin_and_strip() {
        let mut it = counting(8_900);
        let asked = [
            (4_999, 0, Op::Read),
            (5_000, 0, Op::Read),
            (5_999, 9, Op::Scan),
            (6_000, 10, Op::Write),
            (7_500, 20, Op::Read),
            // The last bin is not over before the end.
            (8_100, 20, Op::Read),
        ];
        for (time, index, op) in asked {
            it.add(Millis(time), &key(index).0, op);
        }
        [(3, 70), (3, 69), (1, 4), (3, 72)].iter().for_each(|(p, o)| it.passed(*p, *o));
        assert_eq!(
            [4_999, 5_000, 7_999, 8_000].map(|it_| it.spans(Millis(it_))),
            [false, true, true, false]
        );
        let panel = it.done("log", "d".into()).unwrap();
        let none = [0.0; OPS];
        assert_eq!(
            panel.bins,
            [[[2.0, 0.0], none, none], [none, [0.0, 1.0], none], [none, none, [1.0, 0.0]]]
        );
        assert_eq!((panel.ops, panel.start_ms, panel.bin_ms), (vec![0, 1], Some(5_000), 1_000));
        assert_eq!(panel.offsets, [(1, [4, 5]), (3, [69, 73])].into());
    }

    #[test]
    fn log_without_queries_or_with_too_many_bins_is_no_panel() {
        assert_eq!(counting(8_000).done("log", String::new()), Err(PanelError::Empty));
        assert_eq!(counting(5_999).done("log", String::new()), Err(PanelError::Empty));
        let end = Millis(1_000 * LOADS_MAX);
        let large = Counting::new(vec![key(1)], 1_000, Millis(0), end).err();
        assert_eq!(large, Some(PanelError::Large { bins: LOADS_MAX, ranges: 2 }));
    }
}
