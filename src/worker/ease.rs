//! Decides how much of the bandwidth copies may take, by how long threads that have something to do wait for a
//! processor.
//!
//! ```text
//!  naps of a thread that goes before all others, as those that answer reads do
//!     late ≥ 2 of 200, or of those since  ──> half of what copies had, not less than a 32nd of the
//!                      they were halved       bandwidth, or 1.5 MB/s
//!     otherwise                           ──> more of it every 50 naps: a thousandth at first, and up to
//!                                             a hundredth the longer it is since they were halved
//! ```
//!
//! * **Who copies yields**: a read that finds all processors taken is late, and nothing else shows that on the
//!   machine itself. It is what CockroachDB's elastic work goes by too, with the p99 of its scheduler's delay.
//! * **Begins low.** A move that ends before anything can be measured must not harm. Where no thread waits, all
//!   of the bandwidth is taken after eight seconds; what was found is kept from one move to the next.
//! * **Is careful where it was too much.** By a hundredth at once it would be there again within a second of
//!   being halved.
//! * **One in a hundred is too many.** A read wakes several threads, one behind the other, and what is
//!   promised of reads is their p99.
//! * **Of the source alone.** What a destination has to do goes by what is sent to it.

/// After so many naps what copies may take is found anew.
pub const NAPS: u32 = 50;

/// So many times them are looked at together.
const TURNS: usize = 4;

/// So many late ones of them are too many.
const LATE: u32 = 2;

/// All of the bandwidth.
const WHOLE: u16 = 1_000;
const LEAST: u16 = 31;
const MORE_MAX: u16 = 10;

/// After so many times [`NAPS`] without too many late ones the part grows by a thousandth more at once.
const TURNS_PER_MORE: u16 = 10;

/// The part of the bandwidth that copies may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ease {
    permille: u16,
    /// Of the last turns, since the part was halved, how many naps ended late.
    late: [u32; TURNS],
    /// Since then, or since the beginning.
    turns: u16,
}

impl Default for Ease {
    fn default() -> Self {
        Self { permille: LEAST, late: [0; TURNS], turns: 0 }
    }
}

impl Ease {
    /// In thousandths of the bandwidth.
    pub fn permille(self) -> u16 {
        self.permille
    }

    /// Takes in how many of [`NAPS`] naps ended late.
    pub fn napped(&mut self, late: u32) {
        self.late.rotate_right(1);
        self.late[0] = late;
        if self.late.iter().sum::<u32>() < LATE {
            let more = (1 + self.turns / TURNS_PER_MORE).min(MORE_MAX);
            self.permille = (self.permille + more).min(WHOLE);
            self.turns = self.turns.saturating_add(1);
        } else {
            *self = Self { permille: (self.permille / 2).max(LEAST), ..Self::default() };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_take_half_where_threads_wait_and_slowly_more_where_none_does() {
        let mut ease = Ease::default();
        let mut after = |late| {
            ease.napped(late);
            ease.permille()
        };
        assert_eq!([0, 0, 1, 0, 0, 0, 1].map(&mut after), [32, 33, 34, 35, 36, 37, 38]);
        assert_eq!([0, 0, 0, 0, 0].map(&mut after), [39, 40, 41, 43, 45]);
        assert_eq!([2, 50].map(&mut after), [LEAST, LEAST]);
        let whole = (1..).find(|_| after(0) == WHOLE).unwrap();
        assert_eq!(whole, 142, "times NAPS milliseconds and a tenth");
        // Late ones count together, and once; then it grows slowly again.
        assert_eq!([1, 0, 1, 0, 1].map(&mut after), [WHOLE, WHOLE, 500, 501, 502]);
    }
}
