//! Measures what queries ask of a cell, as the difference of a collection of cells.

use std::ops::{AddAssign, Mul, Neg, Sub};

use differential_dataflow::difference::{Abelian, IsZero, Monoid, Multiply, Semigroup};
use serde::{Deserialize, Serialize};

use crate::Tick;

/// How many ticks each rolling window holds.
pub const WIDTHS: [Tick; 4] = [1, 6, 30, 120];

/// How many ticks of sums are kept: the widest window.
pub const WIDEST: Tick = 120;

/// What queries asked: counts, service time in microseconds, bytes. Scans count as reads.
///
/// Signed, because the difference of two windows is one of these too.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Heat {
    pub reads: i64,
    pub writes: i64,
    pub read_us: i64,
    pub write_us: i64,
    pub bytes: i64,
}

impl Heat {
    /// Service time of reads and writes together, in microseconds.
    pub fn cost_us(&self) -> i64 {
        self.read_us + self.write_us
    }

    fn zip(self, other: Self, f: impl Fn(i64, i64) -> i64) -> Self {
        Self {
            reads: f(self.reads, other.reads),
            writes: f(self.writes, other.writes),
            read_us: f(self.read_us, other.read_us),
            write_us: f(self.write_us, other.write_us),
            bytes: f(self.bytes, other.bytes),
        }
    }

    /// The part `numerator ÷ denominator` of it, rounded down; the rest is the caller's.
    pub fn part(self, numerator: u64, denominator: u64) -> Self {
        assert!(0 < denominator && numerator <= denominator, "a part is at most the whole");
        let scale =
            |it: i64| (i128::from(it) * i128::from(numerator) / i128::from(denominator)) as i64;
        self.zip(self, |it, _| scale(it))
    }
}

impl AddAssign for Heat {
    fn add_assign(&mut self, more: Self) {
        *self = self.zip(more, |a, b| a + b);
    }
}

impl Sub for Heat {
    type Output = Self;
    fn sub(self, part: Self) -> Self {
        self.zip(part, |a, b| a - b)
    }
}

impl Neg for Heat {
    type Output = Self;
    fn neg(self) -> Self {
        Self::default() - self
    }
}

impl Mul<isize> for Heat {
    type Output = Self;
    fn mul(self, n: isize) -> Self {
        self.zip(self, |it, _| it * n as i64)
    }
}

/// Heat over each of the rolling windows, in the order of [`WIDTHS`].
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Rolling(pub [Heat; WIDTHS.len()]);

impl Rolling {
    /// The same heat in every window: what a tick adds.
    pub fn of(heat: Heat) -> Self {
        Self([heat; WIDTHS.len()])
    }

    pub fn one(&self) -> Heat {
        self.0[0]
    }

    pub fn six(&self) -> Heat {
        self.0[1]
    }
}

impl Sub for Rolling {
    type Output = Self;
    fn sub(self, part: Self) -> Self {
        Self(std::array::from_fn(|i| self.0[i] - part.0[i]))
    }
}

macro_rules! difference {
    ($name:ty, $zero:expr, $each:expr) => {
        impl IsZero for $name {
            fn is_zero(&self) -> bool {
                *self == Self::default()
            }
        }
        impl Semigroup for $name {
            fn plus_equals(&mut self, more: &Self) {
                *self = $each(*self, *more);
            }
        }
        impl Monoid for $name {
            fn zero() -> Self {
                Self::default()
            }
        }
        impl Abelian for $name {
            fn negate(&mut self) {
                *self = Self::default() - *self;
            }
        }
        impl Multiply<isize> for $name {
            type Output = Self;
            fn multiply(self, n: &isize) -> Self {
                $zero(self, *n)
            }
        }
    };
}

difference!(Heat, |it: Heat, n| it * n, |a: Heat, b: Heat| a.zip(b, |a, b| a + b));
difference!(
    Rolling,
    |it: Rolling, n| Rolling(it.0.map(|heat| heat * n)),
    |a: Rolling, b: Rolling| {
        let mut sum = a;
        sum.0.iter_mut().zip(b.0).for_each(|(sum, more)| *sum += more);
        sum
    }
);
