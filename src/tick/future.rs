//! Judges the stamps of a log that its writers stamped: which lie too far ahead to be time.
//!
//! ```text
//!            judged   its next 100 records, whose median is the time it should have
//!  take <─── [ 14 ] [ 14, 14, 15, 90, 14, 15, … ] <──── push
//! ```
//!
//! A writer with a wrong clock, or a unit taken for another, stamps a record with next year. As the
//! end of a box it would close every tick until then.
//!
//! * **A log in order is never accused**, whatever its gaps: what follows is not earlier.
//! * **Most decide.** A stamp is from the future if at least half of the next records are more than
//!   `future_max_ms` before it. What nothing follows is compared with when the reading began: a log
//!   is not newer than its reader.
//! * **Bounded.** [`AHEAD_MAX`] records behind the one that is judged are held.

use std::collections::VecDeque;

use schemas::Millis;

/// How many records after it a record is compared with.
pub const AHEAD_MAX: usize = 100;

/// What the stamp of a record says of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    pub at: Millis,
    /// Since when the log goes, if this is the first record of its partition.
    pub begins: Millis,
    pub from_future: bool,
    /// By the clock of who wrote the record, not by the broker's.
    pub by_writer: bool,
}

/// The records of one partition on their way from the log into boxes.
#[derive(Debug)]
pub struct Lookahead<T> {
    future_max_ms: u64,
    past_max_ms: u64,
    opened: Millis,
    /// The first record was taken.
    has_begun: bool,
    records: VecDeque<(Millis, T)>,
}

impl Stamp {
    /// Takes the word of a broker.
    pub fn by_broker(at: Millis) -> Self {
        Self { at, begins: at, from_future: false, by_writer: false }
    }

    /// Takes the word of a writer, without comparing it with others.
    pub fn by_writer(at: Millis) -> Self {
        Self { by_writer: true, ..Self::by_broker(at) }
    }
}

impl<T> Lookahead<T> {
    /// Begins to read a partition, at the moment `opened`.
    pub fn new(future_max_ms: u64, past_max_ms: u64, opened: Millis) -> Self {
        Self { future_max_ms, past_max_ms, opened, has_begun: false, records: VecDeque::new() }
    }

    /// Tells whether the first record can be judged, though more may follow.
    pub fn is_full(&self) -> bool {
        self.records.len() > AHEAD_MAX
    }

    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Takes in the next record of the partition.
    pub fn push(&mut self, at: Millis, record: T) {
        assert!(!self.is_full(), "the first record is taken before more are read");
        self.records.push_back((at, record));
    }

    /// Returns the first record.
    pub fn first(&self) -> Option<&T> {
        self.records.front().map(|(_, record)| record)
    }

    /// Judges the first record by those that are here: there should be as many as can be, or the
    /// partition at its end.
    pub fn judge(&self) -> Option<Stamp> {
        let at = self.records.front()?.0;
        let from_future = self.is_from_future(at);
        let begins = match self.has_begun {
            false => self.earliest((!from_future).then_some(at)),
            true => at,
        };
        Some(Stamp { at, begins, from_future, by_writer: true })
    }

    /// Takes the first record out.
    pub fn take(&mut self) -> Option<T> {
        self.has_begun = true;
        self.records.pop_front().map(|(_, record)| record)
    }

    fn next(&self) -> impl Iterator<Item = Millis> {
        self.records.iter().skip(1).map(|it| it.0)
    }

    fn is_from_future(&self, at: Millis) -> bool {
        let exceeds = |it: Millis| it.0.saturating_add(self.future_max_ms) < at.0;
        let earlier = self.next().filter(|it| exceeds(*it)).count();
        let followers = self.records.len() - 1;
        (followers > 0 && earlier >= followers.div_ceil(2)) || exceeds(self.opened)
    }

    /// Returns the record's own stamp, or else the earliest of the next that makes sense; but not
    /// more than `past_max_ms` before their median.
    fn earliest(&self, own: Option<Millis>) -> Millis {
        let mut next: Vec<_> = self.next().collect();
        if next.is_empty() {
            return own.unwrap_or(self.opened);
        }
        let middle = (next.len() - 1) / 2;
        let median = *next.select_nth_unstable(middle).1;
        let floor = Millis(median.0.saturating_sub(self.past_max_ms));
        match own {
            Some(own) => own.max(floor),
            None => next.into_iter().filter(|it| *it >= floor).min().unwrap_or(median),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPENED: Millis = Millis(1_000_000);

    #[test]
    fn stamp_ahead_of_most_that_follow_is_from_the_future() {
        check(&[10, 11, 500, 12, 13, 14], "2");
        check(&[500, 10, 11], "0");
        // A second one stands between it and the time.
        check(&[10, 500, 501, 11, 12], "1 2");
        // One who comes late accuses nobody.
        check(&[300, 10, 301, 302], "");
    }

    #[test]
    fn log_in_order_is_never_accused() {
        check(&[10, 11, 5000, 5001, 90_000], "");
        check(&[7; 300], "");
    }

    #[test]
    fn limit_itself_is_allowed() {
        check(&[70, 10, 10], "");
        check(&[71, 10, 10], "0");
    }

    #[test]
    fn last_record_is_compared_with_the_reader() {
        check(&[10, OPENED.0 + 60], "");
        check(&[10, OPENED.0 + 61], "1");
    }

    #[test]
    fn median_is_of_the_next_hundred() {
        let mut stamps = vec![10; 151];
        stamps[0] = 500;
        stamps[1..51].fill(500);
        // Fifty earlier ones among the next hundred are half of them.
        let accused = (0..51).map(|it| it.to_string()).collect::<Vec<_>>().join(" ");
        check(&stamps, &accused);
        stamps[51] = 500;
        let accused = (1..52).map(|it| it.to_string()).collect::<Vec<_>>().join(" ");
        check(&stamps, &accused);
    }

    #[test]
    fn log_begins_with_a_stamp_that_makes_sense() {
        assert_eq!(begins(&[2000, 2001, 2002]), 2000);
        // Late, but not too late.
        assert_eq!(begins(&[1500, 2001, 2002]), 1500);
        assert_eq!(begins(&[0, 2001, 2002]), 1001);
        // From the future: those that follow tell.
        assert_eq!(begins(&[9000, 2001, 1999, 2002]), 1999);
        assert_eq!(begins(&[9000, 2001, 0, 2002]), 2001);
    }

    /// Reads all and compares which are from the future.
    fn check(stamps: &[u64], accused: &str) {
        let mut ahead = Lookahead::new(60, 1000, OPENED);
        let mut res = Vec::new();
        let mut judge = |ahead: &mut Lookahead<usize>| {
            let Some(stamp) = ahead.judge() else { return false };
            let index = ahead.take().unwrap();
            assert_eq!(stamp.at.0, stamps[index]);
            res.extend(stamp.from_future.then(|| index.to_string()));
            true
        };
        for (index, stamp) in stamps.iter().enumerate() {
            if ahead.is_full() {
                judge(&mut ahead);
            }
            ahead.push(Millis(*stamp), index);
        }
        while judge(&mut ahead) {}
        assert_eq!(res.join(" "), accused, "{stamps:?}");
    }

    fn begins(stamps: &[u64]) -> u64 {
        let mut ahead = Lookahead::new(60, 1000, OPENED);
        stamps.iter().for_each(|stamp| ahead.push(Millis(*stamp), ()));
        ahead.judge().unwrap().begins.0
    }
}
