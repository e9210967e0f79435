//! Works no faster than the capacity that is stated: one queue of reads, served in order ([`super::turns`]),
//! and beside it what is written and copied.
//!
//! ```text
//!  read, asked at 3, takes 4    ├────┤
//!  read, asked at 4, takes 2         ├──┤          done at 9, though it takes 2
//!  copy, begun at 5, takes 1      ├──┤             done at 7: it has half of the capacity while reads wait
//!  read, asked at 5, takes 2                ├──┤   done at 12: it waits for all of them
//!  time                      0  3  5  7  9 10 12
//! ```
//!
//! A node that has too many reads to do is helped by what it hands over, and that must not wait for all of
//! them; nor are reads to wait for ever where there is too much to write.

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

/// A queue of work; times are microseconds since any moment.
#[derive(Clone, Debug, Default)]
pub struct Service {
    /// Microseconds of service a second; `None`: as fast as it goes.
    capacity_us_per_s: Option<u64>,
    free_at_us: u64,
    /// Reads that wait for their turn.
    waiting: usize,
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

    /// Takes in a read whose turn it is, and which has waited for that since `arrived_us`; returns when it is
    /// done.
    pub fn take(&mut self, arrived_us: u64, cost_us: u64) -> u64 {
        let takes = self.takes(cost_us);
        self.free_at_us = self.begins_at(arrived_us).saturating_add(takes);
        self.begins_at(arrived_us)
    }

    /// Returns when a read would be done that was taken in now.
    pub fn done_at(&self, arrived_us: u64, cost_us: u64) -> u64 {
        self.begins_at(arrived_us).saturating_add(self.time_of(cost_us))
    }

    #[cfg(test)]
    pub fn waiting(&self) -> usize {
        self.waiting
    }

    /// A read begins to wait for its turn, or has it, or has gone.
    pub fn waits(&mut self, is_waiting: bool) {
        self.waiting = if is_waiting { self.waiting + 1 } else { self.waiting.saturating_sub(1) };
    }

    /// Takes in work beside reads, of one who does one after the other; returns when it is done: twice as
    /// late as without reads that wait. Those that have their time keep it, and all later ones wait.
    pub fn take_beside(&mut self, now_us: u64, cost_us: u64) -> u64 {
        let takes = self.takes(cost_us);
        let reads_wait = 0 < self.waiting || now_us < self.free_at_us;
        let parts = if reads_wait { 2 } else { 1 };
        self.free_at_us = self.begins_at(now_us).saturating_add(takes);
        now_us.saturating_add(takes.saturating_mul(parts))
    }

    /// Counts the work, and returns how long it takes, in microseconds.
    fn takes(&mut self, cost_us: u64) -> u64 {
        self.taken_us = self.taken_us.saturating_add(cost_us);
        self.time_of(cost_us)
    }

    fn time_of(&self, cost_us: u64) -> u64 {
        let Some(capacity) = self.capacity_us_per_s else { return 0 };
        let takes = u128::from(cost_us) * 1_000_000 / u128::from(capacity.max(1));
        u64::try_from(takes).unwrap_or(u64::MAX)
    }

    /// Returns when a read begins whose turn it is.
    pub fn begins_at(&self, arrived_us: u64) -> u64 {
        if self.is_stated() { self.free_at_us.max(arrived_us) } else { arrived_us }
    }

    /// Returns the service that was done since the start, in microseconds: what was taken in, but for what is
    /// still to be done.
    pub fn done_us(&self, now_us: u64) -> u64 {
        let Some(capacity) = self.capacity_us_per_s else { return self.taken_us };
        let left = u128::from(self.free_at_us.saturating_sub(now_us)) * u128::from(capacity);
        self.taken_us.saturating_sub(u64::try_from(left / 1_000_000).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_waits_for_what_came_before_it() {
        let mut service = Service::new(Some(500_000));
        assert_eq!(service.take(3_000, 2_000), 7_000);
        assert_eq!(service.begins_at(4_000), 7_000);
        assert_eq!(service.take(4_000, 1_000), 9_000);
        assert_eq!(service.take(20_000, 1_000), 22_000);
        assert_eq!(service.done_us(22_000), 4_000);
    }

    #[test]
    fn what_is_copied_has_half_while_reads_wait_and_they_wait_for_it() {
        let mut service = Service::new(Some(500_000));
        assert_eq!(service.take(0, 1_000_000), 2_000_000);
        assert_eq!(service.take_beside(1_000, 3_000), 13_000);
        assert_eq!(service.take_beside(13_000, 500), 15_000);
        assert_eq!(service.take(15_000, 1_000), 2_009_000);
        assert_eq!(service.done_us(2_009_000), 1_004_500);
        assert_eq!(service.take_beside(3_000_000, 1_000), 3_002_000);
        assert_eq!(service.begins_at(3_000_000), 3_002_000);
    }

    #[test]
    fn read_that_waits_for_its_turn_keeps_copies_to_their_half() {
        let mut service = Service::new(Some(500_000));
        service.waits(true);
        assert_eq!(service.take_beside(1_000, 3_000), 13_000);
        service.waits(false);
        assert_eq!(service.done_at(2_000, 500), 8_000);
        assert_eq!(service.take_beside(20_000, 3_000), 26_000);
    }

    #[test]
    fn who_has_too_much_to_do_has_done_what_the_capacity_allows() {
        let mut service = Service::new(Some(500_000));
        // Four times what it can do, for a second; then nothing more comes.
        (0..1_000).for_each(|ms| _ = service.take(ms * 1_000, 2_000));
        let seconds = [1_000_000, 2_000_000, 4_000_000, 5_000_000];
        let done = seconds.map(|it| service.done_us(it));
        assert_eq!(done, [500_000, 1_000_000, 2_000_000, 2_000_000]);
    }

    #[test]
    fn without_a_stated_capacity_nothing_waits() {
        let mut service = Service::new(None);
        assert_eq!(service.take(3, 1_000_000), 3);
        assert_eq!((service.begins_at(4), service.done_us(4)), (4, 1_000_000));
    }
}
