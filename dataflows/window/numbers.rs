//! Numbers the cells that have heat, from zero on.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use schemas::CellId;

/// Which cell has which local number.
#[derive(Default)]
pub struct Numbers {
    locals: HashMap<CellId, u32, BuildHasherDefault<IdHasher>>,
    pub(super) cells: Vec<CellId>,
    pub(super) free: Vec<u32>,
}

impl Numbers {
    /// Returns how many cells have a number.
    pub fn len(&self) -> usize {
        self.locals.len()
    }

    pub fn get(&self, cell: CellId) -> Option<u32> {
        self.locals.get(&cell).copied()
    }

    #[inline]
    pub fn get_or_give(&mut self, cell: CellId) -> u32 {
        *self.locals.entry(cell).or_insert_with(|| {
            let local = self.free.pop().unwrap_or(self.cells.len() as u32);
            match self.cells.get_mut(local as usize) {
                Some(place) => *place = cell,
                None => self.cells.push(cell),
            }
            local
        })
    }

    pub fn free(&mut self, local: u32) {
        let cell = self.cells[local as usize];
        assert_eq!(self.locals.remove(&cell), Some(local), "a number is given back once");
        self.free.push(local);
    }

    #[inline]
    pub fn cell(&self, local: u32) -> CellId {
        self.cells[local as usize]
    }

    pub fn all(&self) -> Vec<CellId> {
        self.locals.keys().copied().collect()
    }
}

/// Hashes an id by one multiplication: ids are not chosen by an adversary.
#[derive(Default)]
struct IdHasher(u64);

impl Hasher for IdHasher {
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u64(u64::from(*byte)));
    }

    fn write_u64(&mut self, id: u64) {
        self.0 = (self.0 ^ id).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(26);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}
