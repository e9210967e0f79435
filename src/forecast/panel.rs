//! Reads a panel: the load of ranges, bin by bin, from a table of comma-separated values.
//!
//! ```text
//!  r0,r1,…,w0,w1,…        reads and writes of each range, in the order of their keys
//!  12,0,…,3,0,…           a line a bin
//! ```

mod counting;

use std::collections::BTreeMap;

use dataflows::forecast::{HORIZON, TARGETS};
use sha2::{Digest, Sha256};

use super::features::{BASE, Book, LOAD_MAX, root};
use super::linear::{FitError, Gram, Linear};
use super::{OPS, came};
pub use counting::Counting;

/// Bins before this one are too young to learn from.
const FIRST: usize = 20;

/// The loads of ranges over some bins.
#[derive(Clone, Debug, PartialEq)]
pub struct Panel {
    pub name: String,
    pub bin_ms: u64,
    /// When the first bin begins; `None`: bins are counted, however long they are said to be.
    pub start_ms: Option<u64>,
    /// Bin by bin the load of each range, in operations.
    pub bins: Vec<Vec<[f32; OPS]>>,
    /// Operations that the panel has at all, by index.
    pub ops: Vec<usize>,
    /// Of where it is from, in hexadecimal.
    pub digest: String,
    /// By partition the first offset, and the one behind the last, of a panel that is from a topic.
    pub offsets: BTreeMap<u32, [u64; 2]>,
}

/// Why a table is no panel.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PanelError {
    #[error("column {0:?} is neither r0, r1, … nor w0, w1, … in order")]
    Column(String),
    #[error("line {line}: {value:?} is no load: a number from 0 to 1e12")]
    Load { line: usize, value: String },
    #[error("line {line} has {found} values instead of {expected}")]
    Width { line: usize, found: usize, expected: usize },
    #[error("there are no loads in it")]
    Empty,
    #[error("{bins} bins of {ranges} strips are more than a gibibyte of loads")]
    Large { bins: u64, ranges: usize },
}

impl Panel {
    pub fn parse(name: &str, bin_ms: u64, text: &str) -> Result<Self, PanelError> {
        let mut lines = text.lines();
        let header: Vec<_> = lines.next().unwrap_or_default().split(',').map(str::trim).collect();
        let reads = header.iter().filter(|it| it.starts_with('r')).count();
        let writes = header.len() - reads;
        let ranges = reads.max(writes);
        for (at, column) in header.iter().enumerate() {
            let expected = match at.checked_sub(reads) {
                None => format!("r{at}"),
                Some(at) => format!("w{at}"),
            };
            if *column != expected || (0 < writes && 0 < reads && reads != writes) {
                return Err(PanelError::Column((*column).to_owned()));
            }
        }
        let mut bins = Vec::new();
        for (at, line) in lines.enumerate().filter(|it| !it.1.trim().is_empty()) {
            let line_number = at + 2;
            let mut loads = vec![[0.0; OPS]; ranges];
            let values: Vec<_> = line.split(',').map(str::trim).collect();
            if values.len() != header.len() {
                let (found, expected) = (values.len(), header.len());
                return Err(PanelError::Width { line: line_number, found, expected });
            }
            for (at, value) in values.into_iter().enumerate() {
                let load = value.parse::<f32>().ok().filter(|it| (0.0..=LOAD_MAX).contains(it));
                let Some(load) = load else {
                    return Err(PanelError::Load { line: line_number, value: value.to_owned() });
                };
                match at.checked_sub(reads) {
                    None => loads[at][0] = load,
                    Some(at) => loads[at][1] = load,
                }
            }
            bins.push(loads);
        }
        if bins.is_empty() {
            return Err(PanelError::Empty);
        }
        let ops = [(0, reads), (1, writes)].into_iter().filter(|it| 0 < it.1).map(|it| it.0);
        let digest = Sha256::digest(text.as_bytes()).iter().map(|it| format!("{it:02x}")).collect();
        let (name, ops) = (name.to_owned(), ops.collect());
        Ok(Self { name, bin_ms, start_ms: None, bins, ops, digest, offsets: BTreeMap::new() })
    }

    /// The same panel with other bins to come.
    pub fn clone_without_bins(&self) -> Self {
        let (name, digest, ops) = (self.name.clone(), self.digest.clone(), self.ops.clone());
        let (bin_ms, start_ms, offsets) = (self.bin_ms, self.start_ms, self.offsets.clone());
        Self { name, bin_ms, start_ms, bins: Vec::new(), ops, digest, offsets }
    }

    /// The part of it before a bin.
    pub fn until(&self, end: usize) -> Self {
        Self { bins: self.bins[..end].to_vec(), ..self.clone_without_bins() }
    }

    pub fn ranges(&self) -> usize {
        self.bins[0].len()
    }

    /// What came of a range behind a bin, at each target; `None` where the panel ends before.
    pub fn came(&self, bin: usize, range: usize, op: usize, target: usize) -> Option<f32> {
        came(target, |ahead| self.bins.get(bin + ahead).map(|it| it[range][op]))
    }

    /// A linear model of each operation, from what is known at the end of bin number `end`.
    pub fn fit(&self, end: usize) -> Result<[Linear; OPS], FitError> {
        let [reads, writes] = self.sums(end);
        Ok([reads.fit()?, writes.fit()?])
    }

    /// What a linear model of each operation needs of the rows that are known at the end of bin number `end`.
    pub fn sums(&self, end: usize) -> [Gram; OPS] {
        let mut book = Book::new(self.ranges(), self.bin_ms);
        let mut grams = [Gram::default(), Gram::default()];
        for bin in 0..end.min(self.bins.len()) {
            book.observe(&self.bins[bin]);
            if bin < FIRST || end <= bin + HORIZON as usize {
                continue;
            }
            for (at, row) in book.look().0.iter().enumerate() {
                let (range, op) = (at / OPS, at % OPS);
                let base = book.tracks()[range][op].means()[BASE];
                let came: Option<Vec<_>> = (0..TARGETS)
                    .map(|target| Some(root(self.came(bin, range, op, target)?) - base))
                    .collect();
                if let Some(came) = came.and_then(|it| it.try_into().ok()) {
                    grams[op].add(row, &came);
                }
            }
        }
        // An operation that the panel lacks has any model: it is never asked.
        for op in 0..OPS {
            if !self.ops.contains(&op) {
                grams[op] = grams[self.ops[0]].clone();
            }
        }
        grams
    }
}

#[cfg(test)]
mod tests {
    use dataflows::forecast::{H1, H6, MAX30, MEAN30};

    use super::*;

    fn parse(text: &str) -> Result<Panel, PanelError> {
        Panel::parse("p", 10_000, text)
    }

    #[test]
    fn columns_become_operations_of_ranges() {
        let panel = parse("r0,r1,w0,w1\n1,2,3,4\n5,6,7,8\n").unwrap();
        assert_eq!(panel.bins, [[[1.0, 3.0], [2.0, 4.0]], [[5.0, 7.0], [6.0, 8.0]]]);
        assert_eq!(panel.ops, [0, 1]);
        assert_eq!(parse("r0\n9\n").unwrap().ops, [0]);
        assert_eq!(parse("w0\n9\n").unwrap().bins, [[[0.0, 9.0]]]);
    }

    #[test]
    fn table_that_is_no_panel_is_refused_with_the_line() {
        let column = |it: &str| Err(PanelError::Column(it.into()));
        let load = |line, it: &str| Err(PanelError::Load { line, value: it.into() });
        assert_eq!(parse("a,b\n1,2\n"), column("a"));
        assert_eq!(parse("r0,r2\n1,2\n"), column("r2"));
        assert_eq!(parse("r0,r1,w0\n1,2,3\n"), column("r0"));
        assert_eq!(parse(""), column(""));
        assert_eq!(parse("r0\n"), Err(PanelError::Empty));
        assert_eq!(parse("r0\n1\n-2\n"), load(3, "-2"));
        assert_eq!(parse("r0\nNaN\n"), load(2, "NaN"));
        assert_eq!(parse("r0\n\n1e13\n"), load(3, "1e13"));
        let width = PanelError::Width { line: 2, found: 1, expected: 2 };
        assert_eq!(parse("r0,r1\n1\n"), Err(width));
    }

    #[test]
    fn targets_are_those_of_the_bins_behind() {
        let text: String = (0..40).map(|it| format!("{}\n", it * it)).collect();
        let panel = parse(&format!("r0\n{text}")).unwrap();
        let came = |bin, target| panel.came(bin, 0, 0, target);
        assert_eq!([came(3, H1), came(3, H6), came(39, H1)], [Some(16.0), Some(81.0), None]);
        let mean = (4..34).map(|it| it * it).sum::<i32>() as f32 / 30.0;
        assert_eq!([came(3, MEAN30), came(3, MAX30)], [Some(mean), Some(33.0 * 33.0)]);
        assert_eq!([came(9, MAX30), came(10, MAX30)], [Some(39.0 * 39.0), None]);
    }
}
