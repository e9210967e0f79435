//! Parts the key space into strips of alike width, which stay as they are whatever becomes of ranges.
//!
//! ```text
//!  strips  │    a    │    b    │    c    │    d    │     alike: what is forecast
//!  cells   │    │ │ ││         │         │         │     add up to strips
//!  ranges  │    │   │                    │         │     have parts of strips
//! ```
//!
//! A cell that is wider than a strip is taken to be asked evenly. Of a strip that several ranges share, each
//! has what its cells were asked lately, or what it has of the width where nothing was asked.

use dataflows::cells::{CellState, Cells};
use dataflows::heat::Heat;
use schemas::{Key, KeySpan, RangeId};

use super::machine::first_cells;
use super::settings::Settings;
use crate::forecast::{OPS, Part};
use crate::keys::{WHOLE, fraction};

/// Where strips begin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Strips {
    starts: Vec<Key>,
    /// Where the width of the last one ends, though it is open-ended.
    end: Key,
}

impl Strips {
    pub fn new(settings: &Settings) -> Self {
        let cells = first_cells(settings);
        let starts = std::iter::once(Key::default()).chain(cells);
        Self { starts: starts.collect(), end: settings.key_end.clone() }
    }

    /// The load of each strip in the last tick, in microseconds.
    pub fn loads(&self, cells: &Cells) -> Vec<[u64; OPS]> {
        let mut loads = vec![[0; OPS]; self.starts.len()];
        self.each(cells, |strip, cell, part, _| {
            for (sum, load) in loads[strip].iter_mut().zip(asked(&cell.heat.one())) {
                *sum += of(load, part);
            }
        });
        loads
    }

    /// What each range has of strips, in key order.
    pub fn parts(&self, cells: &Cells) -> Vec<(RangeId, Vec<Part>)> {
        let mut pieces: Vec<(RangeId, usize, [u64; OPS], u64)> = Vec::new();
        let mut sums = vec![[0_u64; OPS]; self.starts.len()];
        self.each(cells, |strip, cell, part, width| {
            let (one, six) = (asked(&cell.heat.one()), asked(&cell.heat.six()));
            let weights: [u64; OPS] = std::array::from_fn(|op| of(6 * one[op] + six[op], part));
            sums[strip].iter_mut().zip(weights).for_each(|(sum, it)| *sum += it);
            match pieces.last_mut() {
                Some(last) if (last.0, last.1) == (cell.range, strip) => {
                    last.2.iter_mut().zip(weights).for_each(|(sum, it)| *sum += it);
                    last.3 += width;
                }
                _ => pieces.push((cell.range, strip, weights, width)),
            }
        });
        let mut res: Vec<(RangeId, Vec<Part>)> = Vec::new();
        for (range, strip, weights, width) in pieces {
            let share = std::array::from_fn(|op| match sums[strip][op] {
                0 => width as f64 / WHOLE as f64,
                sum => weights[op] as f64 / sum as f64,
            });
            let part = Part { strip, share };
            match res.last_mut() {
                Some(last) if last.0 == range => last.1.push(part),
                _ => res.push((range, vec![part])),
            }
        }
        res
    }

    /// Tells of each cell, in key order, which part of it lies in which strip, and which part of that
    /// strip it is.
    fn each<'a>(&self, cells: &'a Cells, mut each: impl FnMut(usize, &'a CellState, u64, u64)) {
        let mut strip = 0;
        let mut cells = cells.iter().map(|it| it.1).peekable();
        while let Some(cell) = cells.next() {
            let end = cells.peek().map(|it| &it.start);
            while self.starts.get(strip + 1).is_some_and(|it| *it <= cell.start) {
                strip += 1;
            }
            let mut at = &cell.start;
            loop {
                let next = self.starts.get(strip + 1);
                let inside = match (next, end) {
                    (None, _) => true,
                    (Some(_), None) => false,
                    (Some(next), Some(end)) => end <= next,
                };
                let until = if inside { end } else { next };
                let width = match (*at == self.starts[strip], inside && next != end) {
                    (true, false) => WHOLE,
                    (_, _) => part(&self.span(self.starts[strip].clone(), next), at, until),
                };
                if inside {
                    let whole = *at == cell.start;
                    let of_cell = if whole {
                        WHOLE
                    } else {
                        part(&self.span(cell.start.clone(), end), at, until)
                    };
                    each(strip, cell, of_cell, width);
                    break;
                }
                each(strip, cell, part(&self.span(cell.start.clone(), end), at, until), width);
                at = next.expect("it is not the last");
                strip += 1;
            }
        }
    }

    /// An interval that has a width, though it may be open-ended.
    fn span(&self, start: Key, end: Option<&Key>) -> KeySpan {
        let end = end.cloned().unwrap_or_default();
        let end = if end.0.is_empty() && start < self.end { self.end.clone() } else { end };
        KeySpan { start, end }
    }
}

/// The part of an interval that lies between two keys.
fn part(whole: &KeySpan, from: &Key, to: Option<&Key>) -> u64 {
    let to = to.map_or(WHOLE, |it| fraction(whole, it, true));
    to.saturating_sub(fraction(whole, from, false))
}

fn asked(heat: &Heat) -> [u64; OPS] {
    [heat.read_us, heat.write_us].map(|it| it.max(0) as u64)
}

fn of(load: u64, part: u64) -> u64 {
    (u128::from(load) * u128::from(part) / u128::from(WHOLE)) as u64
}

#[cfg(test)]
mod tests {
    use dataflows::heat::Rolling;
    use rand::{Rng, SeedableRng};
    use rand_pcg::Pcg64;

    use super::*;

    fn key(at: u32) -> Key {
        Key(if at == 0 { Vec::new() } else { at.to_be_bytes().to_vec() })
    }

    /// A strip begins at each of these, and the last one's width ends at `end`.
    fn strips(starts: &[u32], end: u32) -> Strips {
        Strips { starts: starts.iter().map(|it| key(*it)).collect(), end: key(end) }
    }

    /// Cells that begin there, each of a range and with so many reads of a millisecond.
    fn cells(all: &[(u32, u64, i64)]) -> Cells {
        let mut cells = Cells::default();
        for (start, range, reads) in all {
            let cell = cells.born(key(*start), RangeId(*range));
            let heat = Heat { reads: *reads, read_us: reads * 1000, ..Heat::default() };
            cells.heated(cell, Rolling::of(heat));
        }
        cells
    }

    fn shares(strips: &Strips, cells: &Cells) -> Vec<(u64, Vec<(usize, f64)>)> {
        let part = |it: &Part| (it.strip, (it.share[0] * 1e6).round() / 1e6);
        let of = |(id, parts): (RangeId, Vec<Part>)| (id.0, parts.iter().map(part).collect());
        strips.parts(cells).into_iter().map(of).collect()
    }

    #[test]
    fn cells_add_up_to_strips_and_a_wide_one_is_asked_evenly() {
        let strips = strips(&[0, 100, 200, 300], 400);
        let cells = cells(&[(0, 1, 5), (30, 1, 7), (100, 2, 60), (250, 3, 10), (300, 3, 2)]);
        let loads: Vec<_> = strips.loads(&cells).iter().map(|it| (it[0] + 50) / 100).collect();
        assert_eq!(loads, [120, 400, 200 + 100, 20]);
    }

    #[test]
    fn ranges_share_a_strip_by_what_they_are_asked_or_by_their_width() {
        let strips = strips(&[0, 100, 200, 300], 400);
        let cells =
            cells(&[(0, 1, 6), (50, 2, 2), (100, 2, 0), (175, 3, 0), (200, 3, 9), (350, 4, 3)]);
        assert_eq!(
            shares(&strips, &cells),
            [
                (1, vec![(0, 0.75)]),
                (2, vec![(0, 0.25), (1, 0.75)]),
                (3, vec![(1, 0.25), (2, 1.0), (3, 0.5)]),
                (4, vec![(3, 0.5)]),
            ]
        );
    }

    #[test]
    fn nothing_is_lost_or_counted_twice_whatever_the_table() {
        for seed in 0..300 {
            let mut random = Pcg64::seed_from_u64(seed);
            let mut starts = |most: usize| -> Vec<u32> {
                let mut starts: Vec<_> = (0..random.random_range(0..most))
                    .map(|_| random.random_range(1..60))
                    .chain([0])
                    .collect();
                starts.sort_unstable();
                starts.dedup();
                starts
            };
            let strips = strips(&starts(20), 50);
            let mut range = 0;
            let table: Vec<_> = starts(40)
                .into_iter()
                .map(|it| {
                    range += u64::from(random.random_bool(0.4));
                    (it, range, random.random_range(0..4) * 1000)
                })
                .collect();
            let cells = cells(&table);
            let all: u64 = table.iter().map(|it| it.2 as u64 * 1000).sum();
            let sum: u64 = strips.loads(&cells).iter().map(|it| it[0]).sum();
            assert!(all.abs_diff(sum) <= 100, "seed {seed}: {sum} of {all}");
            let mut shares = vec![[0.0; OPS]; strips.starts.len()];
            for part in strips.parts(&cells).iter().flat_map(|it| &it.1) {
                shares[part.strip].iter_mut().zip(part.share).for_each(|(sum, it)| *sum += it);
            }
            let is_whole = |it: &f64| (it - 1.0).abs() < 1e-3;
            assert!(shares.as_flattened().iter().all(is_whole), "seed {seed}: {shares:?}");
        }
    }
}
