//! Sets of local numbers: as bits while a tick is closed, as a list where that is smaller.

/// A set of local numbers, as a bit each.
#[derive(Clone, Default)]
pub struct Bits(Vec<u64>);

impl Bits {
    #[inline]
    pub fn set(&mut self, local: u32) {
        let word = local as usize / 64;
        if self.0.len() <= word {
            self.0.resize(word + 1, 0);
        }
        self.0[word] |= 1 << (local % 64);
    }

    pub fn unite(&mut self, more: &Locals) {
        match more {
            Locals::Few(locals) => locals.iter().for_each(|local| self.set(*local)),
            Locals::Many(bits) => {
                self.0.resize(self.0.len().max(bits.0.len()), 0);
                self.0.iter_mut().zip(&bits.0).for_each(|(word, more)| *word |= more);
            }
        }
    }

    pub fn is_empty(&self) -> bool {
        self.0.iter().all(|word| *word == 0)
    }

    #[inline]
    pub fn each(&self, mut each: impl FnMut(u32)) {
        for (at, word) in self.0.iter().enumerate() {
            let mut rest = *word;
            while rest != 0 {
                each(at as u32 * 64 + rest.trailing_zeros());
                rest &= rest - 1;
            }
        }
    }
}

/// A set of local numbers that is kept: as a list where that is smaller.
pub enum Locals {
    Few(Vec<u32>),
    Many(Bits),
}

impl Default for Locals {
    fn default() -> Self {
        Self::Few(Vec::new())
    }
}

impl Locals {
    pub fn of(bits: Bits) -> Self {
        let count: u32 = bits.0.iter().map(|word| word.count_ones()).sum();
        if count as usize >= 2 * bits.0.len() {
            return Self::Many(bits);
        }
        let mut locals = Vec::with_capacity(count as usize);
        bits.each(|local| locals.push(local));
        Self::Few(locals)
    }

    /// Adds a number; one that is there may be added again.
    pub fn set(&mut self, local: u32) {
        match self {
            Self::Few(locals) if locals.last() == Some(&local) => (),
            Self::Few(locals) => locals.push(local),
            Self::Many(bits) => bits.set(local),
        }
    }

    /// Becomes a set of bits if that is smaller.
    pub fn pack(&mut self) {
        if let Self::Few(locals) = self {
            let greatest = locals.iter().max().copied().unwrap_or(0);
            if locals.len() > 64 && locals.len() > greatest as usize / 32 {
                let mut bits = Bits::default();
                locals.iter().for_each(|local| bits.set(*local));
                *self = Self::Many(bits);
            }
        }
    }

    pub fn clear(&mut self, local: u32) {
        match self {
            Self::Few(locals) => locals.retain(|it| *it != local),
            Self::Many(bits) => bits.0[local as usize / 64] &= !(1 << (local % 64)),
        }
    }
}
