//! Keeps account of what moves have cost in the last hour, so that a budget holds across restarts.

use std::collections::VecDeque;

use dataflows::Tick;
use serde::{Deserialize, Serialize};

const HOUR_MS: u64 = 3_600_000;

/// Bytes of the moves that were started, by the tick in which they were.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ledger {
    started: VecDeque<(Tick, u64)>,
    bytes: u64,
}

impl Ledger {
    /// Writes down that a move was started.
    pub fn started(&mut self, tick: Tick, bytes: u64) {
        self.started.push_back((tick, bytes));
        self.bytes = self.bytes.saturating_add(bytes);
    }

    /// Returns the bytes of the last hour, as of a tick.
    pub fn churn_bytes(&mut self, tick: Tick, tick_ms: u64) -> u64 {
        let hour_ticks = HOUR_MS.div_ceil(tick_ms);
        while let Some(&(at, bytes)) = self.started.front()
            && at + hour_ticks <= tick
        {
            self.bytes -= bytes.min(self.bytes);
            self.started.pop_front();
        }
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn move_counts_for_an_hour() {
        let mut ledger = Ledger::default();
        ledger.started(10, 5);
        ledger.started(11, 7);
        assert_eq!(ledger.churn_bytes(729, 5000), 12);
        assert_eq!(ledger.churn_bytes(730, 5000), 7);
        assert_eq!(ledger.churn_bytes(731, 5000), 0);
    }
}
