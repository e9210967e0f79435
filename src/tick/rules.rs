//! Says how time is cut into ticks, and how long logs are read.

use dataflows::Tick;
use schemas::Millis;

/// How time is cut. A change counts from the next box that is chosen; the length of a tick cannot
/// change, for ticks are numbered by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    pub tick_ms: u64,
    /// How long after the end of a tick a record may still come and count in it.
    pub grace_ms: u64,
    /// How many records of one partition a tick holds at most; the rest counts in the next.
    pub span_records_max: u64,
    /// A live tick is stale that ends more than this many ticks before the wall clock.
    pub stale_max: u64,
    /// How far ahead of its time a stamp by a writer may lie and still end a tick.
    pub future_max_ms: u64,
    /// The first tick is not longer ago than this.
    pub past_max_ms: u64,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            tick_ms: 5000,
            grace_ms: 300,
            span_records_max: 100_000,
            stale_max: 3,
            future_max_ms: 60_000,
            past_max_ms: 24 * 3_600_000,
        }
    }
}

/// How long a partition is read, and what ends its ticks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reading {
    /// As it grows; the wall clock ends ticks.
    Live,
    /// To where it ended when reading began; stamps alone end ticks.
    Historical,
    /// As it is written by who waits for the reader, and marks the end of every tick with a stamp.
    Paced,
}

impl Rules {
    /// Returns the tick in which the moment lies.
    pub fn tick_of(&self, stamp: Millis) -> Tick {
        stamp.0 / self.tick_ms
    }

    /// Returns the first moment that is not in the tick any more.
    pub fn end_of(&self, tick: Tick) -> Millis {
        Millis(tick.saturating_add(1).saturating_mul(self.tick_ms))
    }

    /// Returns as of when the ends of partitions count in the tick.
    pub fn deadline(&self, tick: Tick) -> Millis {
        Millis(self.end_of(tick).0.saturating_add(self.grace_ms))
    }
}
