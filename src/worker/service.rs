//! Works no faster than the capacity that is stated: one queue of reads, and beside it what is
//! written and copied.
//!
//! ```text
//!  reads   │ alone: all of the capacity          │ both: half of it each
//!  beside  │ alone: all of it                    │
//!
//!  copy of 4, begun at 0, nobody reads     ├──┤                         done at 4
//!  copy of 4, begun at 10                     ├─────────┤                done at 16: from 12 on it has half
//!  read of 2, asked at 12                         ├─────┤                done at 16: it has half, too
//!  read of 1, asked at 13                               ├─┤              done at 17: it waits for the other
//!  time                                    0  4  10  12 13  16 17
//! ```
//!
//! A node that has too many reads to do is helped by what it hands over, and that must not wait for all of
//! them; nor are reads to wait for all that there is to write, however much came at once.

use serde::{Deserialize, Serialize};

/// What work takes, in microseconds of service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Costs {
    pub read_us: u64,
    pub scan_us: u64,
    pub write_us: u64,
    /// Of a megabyte that is copied, in or out.
    pub copy_mb_us: u64,
}

/// Work, and when it is done. Moments are microseconds since any; work is microseconds that it takes alone.
#[derive(Clone, Debug, Default)]
pub struct Service {
    /// Microseconds of service a second; `None`: as fast as it goes.
    capacity_us_per_s: Option<u64>,
    /// When the reads are done that were taken in.
    free_at_us: u64,
    /// Reads that wait for their turn.
    waiting: usize,
    /// Work beside reads that is left, in halves of microseconds, as of a moment.
    beside_halves: u64,
    as_of_us: u64,
    /// Of service, since the start.
    taken_us: u64,
}

impl Service {
    pub fn new(capacity_us_per_s: Option<u64>) -> Self {
        Self { capacity_us_per_s, ..Self::default() }
    }

    pub fn is_stated(&self) -> bool {
        self.capacity_us_per_s.is_some()
    }

    /// A read begins to wait for its turn, or has it, or has gone.
    pub fn waits(&mut self, now_us: u64, is_waiting: bool) {
        self.pass(now_us);
        self.waiting = if is_waiting { self.waiting + 1 } else { self.waiting.saturating_sub(1) };
    }

    #[cfg(test)]
    pub fn waiting(&self) -> usize {
        self.waiting
    }

    /// Takes in a read whose turn it is, and which has waited for that since `arrived_us`; returns when it is
    /// done.
    pub fn take(&mut self, now_us: u64, arrived_us: u64, cost_us: u64) -> u64 {
        self.pass(now_us);
        let done_us = self.done_at(arrived_us, cost_us);
        self.taken_us = self.taken_us.saturating_add(cost_us);
        if self.is_stated() {
            self.free_at_us = done_us;
        }
        done_us
    }

    /// Returns when a read would be done whose turn it is.
    pub fn done_at(&self, arrived_us: u64, cost_us: u64) -> u64 {
        let (begins, takes) = (self.begins_at(arrived_us), self.time_of(cost_us));
        // Until then there is half of the capacity.
        let slow = self.slow_until().saturating_sub(begins);
        match takes.saturating_mul(2) <= slow {
            true => begins.saturating_add(takes * 2),
            false => begins.saturating_add(takes).saturating_add(slow / 2),
        }
    }

    /// Returns when a read begins whose turn it is.
    pub fn begins_at(&self, arrived_us: u64) -> u64 {
        if self.is_stated() { self.free_at_us.max(arrived_us) } else { arrived_us }
    }

    /// Takes in work beside reads.
    pub fn take_beside(&mut self, now_us: u64, cost_us: u64) {
        self.pass(now_us);
        self.taken_us = self.taken_us.saturating_add(cost_us);
        let halves = self.time_of(cost_us).saturating_mul(2);
        self.beside_halves = self.beside_halves.saturating_add(halves);
    }

    /// Returns how much work beside reads is left.
    pub fn beside_us(&mut self, now_us: u64) -> u64 {
        self.pass(now_us);
        self.beside_halves.div_ceil(2)
    }

    /// Returns the service that was done since the start, in microseconds: what was taken in, but for what is
    /// still to be done.
    pub fn done_us(&mut self, now_us: u64) -> u64 {
        self.pass(now_us);
        let Some(capacity) = self.capacity_us_per_s else { return self.taken_us };
        let left = u128::from(self.free_at_us.saturating_sub(now_us) + self.beside_halves / 2);
        let left = left * u128::from(capacity) / 1_000_000;
        self.taken_us.saturating_sub(u64::try_from(left).unwrap_or(u64::MAX))
    }

    /// Work beside reads goes on until now.
    fn pass(&mut self, now_us: u64) {
        let passed = now_us.saturating_sub(self.as_of_us);
        // Reads are there until they are done, and without an end while any wait.
        let reads_until = if 0 < self.waiting { now_us } else { self.free_at_us.min(now_us) };
        let slow = reads_until.saturating_sub(self.as_of_us).min(passed);
        let done = slow.saturating_add((passed - slow).saturating_mul(2));
        self.beside_halves = self.beside_halves.saturating_sub(done);
        self.as_of_us = self.as_of_us.max(now_us);
    }

    /// When work beside reads will be done, if there are reads until then.
    fn slow_until(&self) -> u64 {
        match self.beside_halves {
            0 => 0,
            halves => self.as_of_us.saturating_add(halves),
        }
    }

    /// How long work takes alone.
    fn time_of(&self, cost_us: u64) -> u64 {
        let Some(capacity) = self.capacity_us_per_s else { return 0 };
        let takes = u128::from(cost_us) * 1_000_000 / u128::from(capacity.max(1));
        u64::try_from(takes).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_wait_for_those_before_them() {
        let mut service = Service::new(Some(500_000));
        assert_eq!(service.take(3_000, 3_000, 2_000), 7_000);
        assert_eq!(service.begins_at(4_000), 7_000);
        assert_eq!(service.take(4_000, 4_000, 1_000), 9_000);
        assert_eq!(service.take(20_000, 20_000, 1_000), 22_000);
        assert_eq!(service.done_us(22_000), 4_000);
    }

    #[test]
    fn read_that_came_before_it_had_its_turn_begins_when_that_was_free() {
        let mut service = Service::new(Some(1_000_000));
        assert_eq!(service.take(0, 0, 5_000), 5_000);
        // The timer was late by a millisecond; none of the capacity is lost by that.
        assert_eq!(service.take(6_000, 1_000, 2_000), 7_000);
    }

    #[test]
    fn reads_and_what_is_beside_them_have_half_each() {
        let mut service = Service::new(Some(1_000_000));
        service.take_beside(0, 4_000);
        assert_eq!((service.beside_us(3_000), service.beside_us(4_000)), (1_000, 0));
        // As in the picture.
        service.take_beside(10_000, 4_000);
        assert_eq!(service.take(12_000, 12_000, 2_000), 16_000);
        assert_eq!(service.beside_us(13_000), 1_500);
        assert_eq!(service.take(13_000, 13_000, 1_000), 17_000);
        assert_eq!(service.beside_us(16_000), 0);
        assert_eq!(service.done_us(20_000), 11_000);
    }

    #[test]
    fn much_that_comes_at_once_beside_them_does_not_hold_reads_up() {
        let mut service = Service::new(Some(1_000_000));
        service.take_beside(0, 60_000_000);
        assert_eq!(service.take(1_000, 1_000, 2_000), 5_000);
        // And a queue of reads does not hold it up.
        service.waits(5_000, true);
        assert_eq!(service.beside_us(1_005_000), 60_000_000 - 1_000 - 2_000 - 500_000);
        service.waits(1_005_000, false);
        assert_eq!(service.beside_us(2_005_000), 58_497_000);
    }

    #[test]
    fn who_has_too_much_to_do_has_done_what_the_capacity_allows() {
        let mut service = Service::new(Some(500_000));
        // Four times what it can do, for a second; then nothing more comes.
        (0..1_000).for_each(|ms| _ = service.take(ms * 1_000, ms * 1_000, 2_000));
        let seconds = [1_000_000, 2_000_000, 4_000_000, 5_000_000];
        let done = seconds.map(|it| service.done_us(it));
        assert_eq!(done, [500_000, 1_000_000, 2_000_000, 2_000_000]);
        service.take_beside(5_000_000, 2_000_000);
        assert_eq!([6, 10].map(|it| service.done_us(it * 1_000_000)), [2_500_000, 4_000_000]);
    }

    #[test]
    fn without_a_stated_capacity_nothing_waits() {
        let mut service = Service::new(None);
        assert_eq!(service.take(3, 3, 1_000_000), 3);
        service.take_beside(3, 1_000_000);
        assert_eq!((service.begins_at(4), service.beside_us(4)), (4, 0));
        assert_eq!(service.done_us(4), 2_000_000);
    }
}
