//! Says where load moves on from, by the samples of cells, and what edges are to ranges.
//!
//! ```text
//!  samples of cells ──> what moved on, and where ──> edges ──> courses ──> ranges that each has left or will come to
//! ```

use std::collections::BTreeMap;

use dataflows::Tick;
use dataflows::cells::Cells;
use dataflows::heat::Rolling;
use schemas::{Key, RangeId};

use super::ranges::Ranges;
use crate::forecast::Passing;
use crate::forecast::edges::{Course, Swept};

/// What moved on in a tick, each run of neighbouring cells together.
pub fn swept(cells: &Cells, tick: Tick) -> Vec<Swept> {
    let mut watched: Vec<_> = cells.watched().collect();
    watched.sort_by(|a, b| a.1.start.cmp(&b.1.start));
    let mut res = Vec::<Swept>::new();
    // The place of the last cell of each operation that had any.
    let mut runs = [None::<(usize, Key)>, None];
    for (_, cell) in watched {
        for (op, found) in cell.swept_at(tick).into_iter().enumerate() {
            let Some((low, high, load_us)) = found else { continue };
            let before = cells.before(&cell.start);
            match &mut runs[op] {
                Some((at, start)) if before == Some(&*start) => {
                    let swept = &mut res[*at];
                    swept.low = swept.low.clone().min(low);
                    swept.high = swept.high.clone().max(high);
                    swept.load_us += load_us;
                    *start = cell.start.clone();
                }
                run => {
                    *run = Some((res.len(), cell.start.clone()));
                    res.push(Swept { op, low, high, load_us });
                }
            }
        }
    }
    res
}

/// What edges are to the ranges that they were in lately or will be in; `heat` is that of ranges.
pub fn passing(
    courses: impl Iterator<Item = Course>,
    ranges: &Ranges,
    heat: &BTreeMap<RangeId, Rolling>,
) -> Vec<Passing> {
    let at = |key: &Key| Some(ranges.holding(key)?.id);
    let mut res = Vec::new();
    for Course { op, load_us, behind, ahead } in courses {
        // What it asked of a range, and the ticks in which it will be there.
        let mut passed = BTreeMap::<RangeId, (u64, u32)>::new();
        for (key, load_us) in &behind {
            if let Some(id) = at(key) {
                passed.entry(id).or_default().0 += load_us;
            }
        }
        for (n, key) in ahead.iter().enumerate() {
            if let Some(id) = at(key) {
                passed.entry(id).or_default().1 |= 1 << n;
            }
        }
        for (range, (gone_us, ticks)) in passed {
            let six = heat.get(&range).copied().unwrap_or_default().six();
            let asked_us = [six.read_us, six.write_us][op].max(1) as u64;
            let gone_ppm = (u128::from(gone_us) * 1_000_000 / u128::from(asked_us)).min(1_000_000);
            let kept_ppm = 1_000_000 - gone_ppm as u32;
            res.push(Passing { range, op, kept_ppm, load_us, ticks });
        }
    }
    res
}
