//! Falls back to the reactive forecast where load leaves the band: a guard over each row.
//!
//! ```text
//!            above the .99 of the tick before, twice running
//!  Quiet ────────────────────────────────────────────────────> Up for 6 ticks ──> Quiet
//! ```
//!
//! A row that is up is answered by the greater of its last load and its quick mean. So the harm of a
//! forecast that did not see a step is bounded: two ticks, and then what persistence would say.

use serde::{Deserialize, Serialize};

/// Ticks above the band that put a row up.
const ABOVE_MAX: u8 = 2;
/// How long it stays up.
const UP_TICKS: u8 = 6;

/// The guard of one row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Guard {
    above: u8,
    up: u8,
}

impl Guard {
    /// Takes in whether the load of a tick lay above the band that was forecast for it.
    pub fn observe(&mut self, above: bool) {
        self.up = self.up.saturating_sub(1);
        self.above = if above { self.above + 1 } else { 0 };
        if ABOVE_MAX <= self.above {
            *self = Self { above: 0, up: UP_TICKS };
        }
    }

    pub fn is_up(self) -> bool {
        0 < self.up
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn row_is_up_for_six_ticks_after_two_above_running() {
        let mut guard = Guard::default();
        let mut up = |above: bool| {
            guard.observe(above);
            guard.is_up()
        };
        assert!(!up(true) && !up(false) && !up(true), "once is chance");
        assert!(up(true));
        assert!((1..UP_TICKS).all(|_| up(false)));
        assert!(!up(false));
    }
}
