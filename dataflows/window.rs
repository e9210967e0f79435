//! Keeps the last sums of every cell, and knows which cells a tick concerns.
//!
//! ```text
//!            block of 256 cells                     a cell's sum of one tick: five u32,
//!  tick % w  ┌──┬──┬──┬──┬·                         or, where that is too narrow, in `wide`
//!         0  │  │▓▓│  │  │
//!         1  │  │▓▓│▓▓│  │    active[tick]  which cells have a sum of that tick
//!         2  │  │  │▓▓│  │    arriving[tick]  what came for ticks that are still open
//!         ·  └──┴──┴──┴──┴·
//! ```
//!
//! A cell has a local number while it has heat; numbers of cells gone cold are given to others. The
//! caller knows when a tick is closed; [`Window::next_tick`] says which one comes next. None is left out,
//! so no slot holds a sum older than the widest window.
//!
//! * **Exact.** A sum too great for its slot is kept aside in full.
//! * **A tick touches only the cells whose sum arrives or expires in it**, and those that are
//!   reshaped. Cold cells hold nothing but a number that another may get.
//! * **At most 4 kB a cell**, all in, for 120 ticks.

mod locals;
mod numbers;
mod slots;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use differential_dataflow::difference::IsZero;
use schemas::CellId;
use serde::{Deserialize, Serialize};

use crate::Tick;
use crate::heat::Heat;
use locals::{Bits, Locals};
use numbers::Numbers;
use slots::Slots;

/// A change of what the windows hold, made by hand: when a cell is cut or joined, and at a restart.
///
/// It is made as of the end of the tick before the one that it has as its time. Of the changes of
/// one tick, `Forget` comes first, so their order does not count. A restart loads a snapshot at the
/// tick at whose end it was taken: what is cut at the next one forgets what was loaded.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Reshape {
    /// The cell has had no heat.
    Forget(CellId),
    /// The cell has had this heat, too, in an earlier tick, or in this one.
    Slot(CellId, Tick, Heat),
}

impl Reshape {
    pub fn cell(&self) -> CellId {
        match self {
            Self::Forget(cell) | Self::Slot(cell, _, _) => *cell,
        }
    }
}

/// The sums of every cell over the widest of `N` windows, and those of ticks that are still open.
pub struct Window<const N: usize> {
    widths: [Tick; N],
    widest: Tick,
    arriving: BTreeMap<Tick, Arriving>,
    /// The tick that was closed last.
    closed: Option<Tick>,
    /// Which cells have a sum of a tick, for as long as the widest window holds it.
    active: BTreeMap<Tick, Locals>,
    slots: Slots,
    numbers: Numbers,
    /// In how many ticks of the widest window each cell has a sum.
    ticks: Vec<u32>,
    /// What has arrived in the tick that is being closed; zero in between.
    sums: Vec<Heat>,
    /// What reshaping changes in the tick that is being closed; empty in between.
    reshaped: BTreeMap<u32, [Heat; N]>,
}

#[derive(Default)]
struct Arriving {
    reshapes: Vec<Reshape>,
    parts: Vec<(CellId, Heat)>,
}

impl<const N: usize> Window<N> {
    pub fn new(widths: [Tick; N]) -> Self {
        let widest = widths.into_iter().max().unwrap_or(0);
        assert!(widths.iter().all(|it| *it > 0) && N > 0, "a window holds at least one tick");
        Self {
            widths,
            widest,
            arriving: BTreeMap::new(),
            closed: None,
            active: BTreeMap::new(),
            slots: Slots::new(widest as usize),
            numbers: Numbers::default(),
            ticks: Vec::new(),
            sums: Vec::new(),
            reshaped: BTreeMap::new(),
        }
    }

    /// Takes in a part of what `cell` was asked in an open tick.
    #[inline]
    pub fn add(&mut self, cell: CellId, tick: Tick, part: Heat) {
        self.open(tick).parts.push((cell, part));
    }

    /// Takes in a change that is to be made before the sums of an open tick.
    pub fn reshape(&mut self, tick: Tick, reshape: Reshape) {
        if let Reshape::Slot(cell, of, heat) = reshape {
            assert!(of <= tick, "a slot is history: tick {of} is after tick {tick}");
            if of == tick {
                return self.add(cell, tick, heat);
            }
        }
        self.open(tick).reshapes.push(reshape);
    }

    fn open(&mut self, tick: Tick) -> &mut Arriving {
        assert!(self.closed.is_none_or(|closed| closed < tick), "tick {tick} is closed");
        self.arriving.entry(tick).or_default()
    }

    /// Returns the next tick at which a sum arrives or expires in any of the windows.
    pub fn next_tick(&self) -> Option<Tick> {
        let arriving = self.arriving.keys().next().copied();
        let expiring = |width: Tick| {
            let first = self.closed.map_or(0, |closed| (closed + 1).saturating_sub(width));
            self.active.range(first..).next().map(|(tick, _)| tick + width)
        };
        arriving.into_iter().chain(self.widths.into_iter().filter_map(expiring)).min()
    }

    /// Closes a tick: calls `each` with every cell whose heat changes in any window, and by how much.
    pub fn close(&mut self, tick: Tick, mut each: impl FnMut(CellId, [Heat; N])) {
        assert_eq!(self.next_tick(), Some(tick), "ticks are closed in order, and none is left out");
        let Arriving { reshapes, parts } = self.arriving.remove(&tick).unwrap_or_default();
        self.make(tick, reshapes);
        let arrived = self.gather(parts);

        let mut touched = arrived.clone();
        for width in self.widths {
            if let Some(expired) = tick.checked_sub(width).and_then(|it| self.active.get(&it)) {
                touched.unite(expired);
            }
        }
        self.reshaped.keys().for_each(|local| touched.set(*local));

        let now = self.slots.row(tick);
        let rows = self.widths.map(|width| tick.checked_sub(width).map(|of| self.slots.row(of)));
        touched.each(|local| {
            let sum = std::mem::take(&mut self.sums[local as usize]);
            let expired = |row: Option<usize>| row.map(|row| self.slots.get(local, row));
            let mut change = rows.map(|row| sum - expired(row).unwrap_or_default());
            if let Some(reshaped) = self.reshaped.remove(&local) {
                change.iter_mut().zip(reshaped).for_each(|(sum, more)| *sum += more);
            }
            // What leaves the widest window has had the slot of this tick.
            let left = self.slots.set(local, now, sum);
            let ticks = &mut self.ticks[local as usize];
            *ticks = *ticks + u32::from(!sum.is_zero()) - u32::from(!left.is_zero());
            if change.iter().any(|it| !it.is_zero()) {
                each(self.numbers.cell(local), change);
            }
            if *ticks == 0 {
                self.numbers.free(local);
            }
        });
        let leaving = tick.checked_sub(self.widest);
        leaving.map(|of| self.active.remove(&of));
        if !arrived.is_empty() {
            self.active.insert(tick, Locals::of(arrived));
        }
        self.closed = Some(tick);
    }

    /// Adds what has arrived to the sums of the tick; returns the cells that have one.
    fn gather(&mut self, parts: Vec<(CellId, Heat)>) -> Bits {
        let mut arrived = Bits::default();
        for (cell, part) in parts {
            if !part.is_zero() {
                let local = self.local(cell);
                self.sums[local as usize] += part;
                arrived.set(local);
            }
        }
        arrived
    }

    /// Makes changes by hand, as of the end of the tick before.
    fn make(&mut self, tick: Tick, mut reshapes: Vec<Reshape>) {
        reshapes.sort_unstable();
        for reshape in reshapes {
            match reshape {
                Reshape::Forget(cell) => self.forget(cell, tick),
                Reshape::Slot(cell, of, heat) => self.fill(cell, of, heat, tick),
            }
        }
        if !self.reshaped.is_empty() {
            self.active.values_mut().for_each(Locals::pack);
        }
    }

    fn forget(&mut self, cell: CellId, tick: Tick) {
        let Some(local) = self.numbers.get(cell) else { return };
        for (of, heat) in self.history(local) {
            self.slots.set(local, self.slots.row(of), Heat::default());
            self.active.get_mut(&of).expect("it has a sum of that tick").clear(local);
            self.add_reshaped(local, of, Heat::default() - heat, tick);
        }
        // It may get heat again in this very tick, and is freed at its end if not.
        self.ticks[local as usize] = 0;
        self.reshaped.entry(local).or_insert([Heat::default(); N]);
    }

    fn fill(&mut self, cell: CellId, of: Tick, heat: Heat, tick: Tick) {
        // What had left the widest window by the end of the tick before is no part of any.
        if of + self.widest < tick || heat.is_zero() {
            return;
        }
        let local = self.local(cell);
        let row = self.slots.row(of);
        let mut sum = self.slots.get(local, row);
        sum += heat;
        let was = self.slots.set(local, row, sum);
        self.ticks[local as usize] += u32::from(was.is_zero());
        self.active.entry(of).or_default().set(local);
        self.add_reshaped(local, of, heat, tick);
    }

    /// Counts a change of the sum of an earlier tick, in the windows that held it at the end of the
    /// tick before.
    fn add_reshaped(&mut self, local: u32, of: Tick, heat: Heat, tick: Tick) {
        let change = self.reshaped.entry(local).or_insert([Heat::default(); N]);
        for (change, width) in change.iter_mut().zip(self.widths) {
            if tick <= of + width {
                *change += heat;
            }
        }
    }

    /// Returns the local number of a cell, a new one if it has none.
    fn local(&mut self, cell: CellId) -> u32 {
        let local = self.numbers.get_or_give(cell);
        if self.ticks.len() <= local as usize {
            self.ticks.push(0);
            self.sums.push(Heat::default());
            self.slots.hold(local);
        }
        local
    }

    /// Returns the sums of a cell in the widest window, oldest first.
    fn history(&self, local: u32) -> Vec<(Tick, Heat)> {
        let sums = self.active.keys().map(|of| (*of, self.slots.get(local, self.slots.row(*of))));
        sums.filter(|(_, heat)| !heat.is_zero()).collect()
    }

    /// Returns the sums of some cells over the widest window, as of the tick closed last, in the
    /// order of cells and ticks.
    pub fn slots(&self, cells: &[CellId]) -> Vec<(CellId, Tick, Heat)> {
        let mut cells = cells.to_vec();
        cells.sort_unstable();
        cells.dedup();
        let known = cells.into_iter().filter_map(|cell| Some((cell, self.numbers.get(cell)?)));
        known
            .flat_map(|(cell, local)| {
                self.history(local).into_iter().map(move |(tick, heat)| (cell, tick, heat))
            })
            .collect()
    }

    /// Returns the sums of all cells, as [`Window::slots`] does.
    pub fn all(&self) -> Vec<(CellId, Tick, Heat)> {
        self.slots(&self.numbers.all())
    }

    /// Returns how many cells have heat.
    pub fn cells(&self) -> usize {
        self.numbers.len()
    }
}
