//! Keeps account of what moves have cost in the last hour, so that a budget holds across restarts.

use std::collections::{BTreeMap, VecDeque};

use dataflows::Tick;
use schemas::Millis;
use schemas::migrate_range::{Command, MigrateRange};
use schemas::migration_status::MigrationStatus;
use serde::{Deserialize, Serialize};

use super::settings::Settings;

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

    /// Writes down the moves of which the topics tell; they began before their deadlines by what the
    /// policy grants.
    pub fn adopted(
        settings: &Settings,
        now: Millis,
        commands: &[MigrateRange],
        statuses: &[MigrationStatus],
    ) -> Self {
        let bytes: BTreeMap<_, _> = statuses.iter().map(|it| (it.migration, it.bytes)).collect();
        let begun = |it: &&MigrateRange| it.command == Command::Start;
        let mut started: Vec<(Tick, u64)> = commands
            .iter()
            .filter(begun)
            .map(|it| {
                let at = it.deadline.0.saturating_sub(settings.policy.deadline_ms).min(now.0);
                (at / settings.tick_ms, bytes.get(&it.migration).copied().unwrap_or(0))
            })
            .collect();
        started.sort_unstable();
        let mut res = Self::default();
        started.into_iter().for_each(|(tick, bytes)| res.started(tick, bytes));
        res
    }

    /// Returns the bytes of the last hour, as of the last [`Ledger::forget`].
    pub fn churn_bytes(&self) -> u64 {
        self.bytes
    }

    /// Forgets what is longer ago than an hour.
    pub fn forget(&mut self, tick: Tick, tick_ms: u64) {
        let hour_ticks = HOUR_MS.div_ceil(tick_ms);
        while let Some(&(at, bytes)) = self.started.front()
            && at + hour_ticks <= tick
        {
            self.bytes -= bytes.min(self.bytes);
            self.started.pop_front();
        }
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
        let mut bytes_at = |tick| {
            ledger.forget(tick, 5000);
            ledger.churn_bytes()
        };
        assert_eq!([729, 730, 731].map(&mut bytes_at), [12, 7, 0]);
    }
}
