//! Holds the sums, block by block: see the picture in [`super`].

use std::collections::BTreeMap;

use crate::Tick;
use crate::heat::Heat;

/// Cells of one block: their slots are allocated together, and lie together tick by tick.
const BLOCK_CELLS: usize = 256;

/// The sums of all cells, a slot for each tick of the widest window.
pub struct Slots {
    widest: usize,
    pub(super) blocks: Vec<Box<[Slot]>>,
    /// Sums that are too great for a slot, by row and cell.
    pub(super) wide: BTreeMap<(usize, u32), Heat>,
}

type Slot = [u32; 5];

/// Stands in the first field of a slot whose sum is kept in `wide`.
const WIDE: u32 = u32::MAX;

impl Slots {
    pub fn new(widest: usize) -> Self {
        Self { widest, blocks: Vec::new(), wide: BTreeMap::new() }
    }

    /// Makes room for a cell.
    pub fn hold(&mut self, local: u32) {
        while self.blocks.len() <= local as usize / BLOCK_CELLS {
            self.blocks.push(vec![Slot::default(); self.widest * BLOCK_CELLS].into());
        }
    }

    /// Returns where, in each block, the slots of a tick lie.
    pub fn row(&self, tick: Tick) -> usize {
        (tick % self.widest as Tick) as usize * BLOCK_CELLS
    }

    #[inline]
    pub fn get(&self, local: u32, row: usize) -> Heat {
        let local_in_block = local as usize % BLOCK_CELLS;
        self.read(local, row, self.blocks[local as usize / BLOCK_CELLS][row + local_in_block])
    }

    #[inline]
    fn read(&self, local: u32, row: usize, slot: Slot) -> Heat {
        if slot[0] == WIDE {
            return self.wide[&(row, local)];
        }
        let [reads, writes, read_us, write_us, bytes] = slot.map(i64::from);
        Heat { reads, writes, read_us, write_us, bytes }
    }

    /// Puts a sum in the place of another, which it returns.
    #[inline]
    pub fn set(&mut self, local: u32, row: usize, sum: Heat) -> Heat {
        let Heat { reads, writes, read_us, write_us, bytes } = sum;
        let fields = [reads, writes, read_us, write_us, bytes];
        let fits = fields.iter().all(|it| (0..i64::from(WIDE)).contains(it));
        let slot = if fits { fields.map(|it| it as u32) } else { [WIDE, 0, 0, 0, 0] };
        let at = &mut self.blocks[local as usize / BLOCK_CELLS][row + local as usize % BLOCK_CELLS];
        let was = std::mem::replace(at, slot);
        let left = self.read(local, row, was);
        if was[0] == WIDE {
            self.wide.remove(&(row, local));
        }
        if !fits {
            self.wide.insert((row, local), sum);
        }
        left
    }
}
