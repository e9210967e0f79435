//! Counts what came of operations, and how long they took: from when each was due.
//!
//! ```text
//!  due ──────── sent ──> asked ──(repeated)──> answered      latency of a read
//!  due ──────── handed to Kafka's client                     latency of an update
//! ```
//!
//! Latencies are in histograms with errors below 1 %, up to ten minutes. Tallies of intervals and of
//! threads add up.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::AddAssign;

use hdrhistogram::Histogram;

/// Latencies above this count as this.
const LATENCY_MAX_US: u64 = 600_000_000;

/// Digits that count.
const PRECISION: u8 = 2;

/// Why a read was repeated, or has failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// No connection to the router.
    Unreachable,
    /// The connection broke.
    Lost,
    /// It does not take more now.
    Busy,
    /// It has told that there was no answer in time.
    Late,
    /// It has told nothing.
    Silent,
    /// It has told that the request cannot be answered.
    Refused,
    /// It has told what is no answer to that request.
    Garbage,
    /// As many were under way as may be: it was never sent.
    TooMany,
}

impl Reason {
    pub fn name(self) -> &'static str {
        match self {
            Self::Unreachable => "unreachable",
            Self::Lost => "connection_lost",
            Self::Busy => "busy",
            Self::Late => "late",
            Self::Silent => "silent",
            Self::Refused => "refused",
            Self::Garbage => "garbage",
            Self::TooMany => "too_many_under_way",
        }
    }
}

/// What came of a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// By the router that was asked first, or by one that was asked again; `found`: the row is there.
    Answered {
        repeated: bool,
        found: bool,
    },
    Failed(Reason),
}

/// How long operations of a kind took.
#[derive(Clone, PartialEq)]
pub struct Latency(Histogram<u64>);

impl Default for Latency {
    fn default() -> Self {
        let histogram = Histogram::new_with_bounds(1, LATENCY_MAX_US, PRECISION);
        Self(histogram.expect("the bounds are well-formed"))
    }
}

impl Latency {
    pub fn record(&mut self, us: u64) {
        self.0.saturating_record(us.max(1));
    }

    pub fn count(&self) -> u64 {
        self.0.len()
    }

    /// Returns the latency in µs that a part of the operations, such as 0.99, does not exceed; `None`: there
    /// were none.
    pub fn quantile(&self, part: f64) -> Option<u64> {
        (!self.0.is_empty()).then(|| self.0.value_at_quantile(part).min(self.0.max()))
    }

    /// In µs.
    pub fn max(&self) -> Option<u64> {
        (!self.0.is_empty()).then(|| self.0.max())
    }
}

impl fmt::Debug for Latency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [p50, p99] = [0.5, 0.99].map(|part| self.quantile(part).unwrap_or(0));
        write!(f, "{} (p50 {p50} us, p99 {p99} us)", self.count())
    }
}

impl AddAssign<&Self> for Latency {
    fn add_assign(&mut self, other: &Self) {
        self.0 += &other.0;
    }
}

/// What came of operations, of an interval or in all.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tally {
    /// Reads that were due.
    pub reads: u64,
    /// Reads by outcome. The latency of one that has failed is how long it was tried.
    pub at_once: Latency,
    pub repeated: Latency,
    pub failed: Latency,
    /// Reads that were answered: there is no such row.
    pub not_found: u64,
    /// Answers of those that there is no such row, asked for when its row had been returned before. Nothing
    /// that is played deletes rows.
    pub vanished: u64,
    /// Reads that were never sent, as too many were under way: they have failed, and have no latency.
    pub not_sent: u64,
    /// So often another request was made for a read.
    pub repeats: u64,
    /// Why requests were repeated, and why reads have failed.
    pub repeated_for: BTreeMap<Reason, u64>,
    pub failed_for: BTreeMap<Reason, u64>,
    /// Updates that were handed to Kafka's client, and those that Kafka has not got.
    pub updates: Latency,
    pub updates_failed: u64,
}

impl Tally {
    /// Takes a read that was due so long ago, in µs.
    pub fn ended(&mut self, outcome: Outcome, latency_us: u64) {
        match outcome {
            Outcome::Answered { repeated, found } => {
                self.not_found += u64::from(!found);
                let latency = if repeated { &mut self.repeated } else { &mut self.at_once };
                latency.record(latency_us);
            }
            Outcome::Failed(reason) => {
                *self.failed_for.entry(reason).or_default() += 1;
                match reason {
                    Reason::TooMany => self.not_sent += 1,
                    Reason::Unreachable
                    | Reason::Lost
                    | Reason::Busy
                    | Reason::Late
                    | Reason::Silent
                    | Reason::Refused
                    | Reason::Garbage => self.failed.record(latency_us),
                }
            }
        }
    }

    /// Takes that a read is asked for once more.
    pub fn repeats(&mut self, reason: Reason) {
        self.repeats += 1;
        *self.repeated_for.entry(reason).or_default() += 1;
    }

    pub fn reads_answered(&self) -> u64 {
        self.at_once.count() + self.repeated.count()
    }

    pub fn reads_failed(&self) -> u64 {
        self.failed.count() + self.not_sent
    }

    /// Returns the latencies of all reads that were answered.
    pub fn answered(&self) -> Latency {
        let mut res = self.at_once.clone();
        res += &self.repeated;
        res
    }

    pub fn is_clean(&self) -> bool {
        self.reads_failed() == 0 && self.updates_failed == 0
    }
}

impl AddAssign<&Self> for Tally {
    fn add_assign(&mut self, other: &Self) {
        self.reads += other.reads;
        self.at_once += &other.at_once;
        self.repeated += &other.repeated;
        self.failed += &other.failed;
        self.not_found += other.not_found;
        self.vanished += other.vanished;
        self.not_sent += other.not_sent;
        self.repeats += other.repeats;
        for (mine, others) in [
            (&mut self.repeated_for, &other.repeated_for),
            (&mut self.failed_for, &other.failed_for),
        ] {
            others.iter().for_each(|(reason, count)| *mine.entry(*reason).or_default() += count);
        }
        self.updates += &other.updates;
        self.updates_failed += other.updates_failed;
    }
}

#[cfg(test)]
mod tests {
    use rand::{Rng, SeedableRng};
    use rand_pcg::Pcg64;

    use super::*;

    /// The least value that so large a part does not exceed, within 1 %.
    fn check(latency: &Latency, all: &mut [u64], part: f64) {
        all.sort_unstable();
        let rank = ((all.len() as f64 * part).ceil() as usize).clamp(1, all.len());
        let (exact, found) = (all[rank - 1], latency.quantile(part).unwrap());
        let error = found.abs_diff(exact) as f64 / exact as f64;
        assert!(error < 0.01, "{part}: {found}, and not {exact}");
    }

    #[test]
    fn quantiles_are_those_of_a_plain_recomputation_however_tallies_are_split() {
        let seed = 17;
        let mut random = Pcg64::seed_from_u64(seed);
        let (mut whole, mut sum) = (Tally::default(), Tally::default());
        let mut all = BTreeMap::<u8, Vec<u64>>::new();
        for _ in 0..50 {
            let mut part = Tally::default();
            for _ in 0..random.random_range(1..400) {
                // From 1 µs to 100 s, alike in orders of magnitude.
                let us = 10f64.powf(random.random_range(0.0..8.0)) as u64;
                let (kind, found) = (random.random_range(0..4u8), random.random());
                all.entry(kind).or_default().push(us);
                for tally in [&mut part, &mut whole] {
                    match kind {
                        0 | 1 => {
                            tally.ended(Outcome::Answered { repeated: kind == 1, found }, us);
                        }
                        2 => tally.ended(Outcome::Failed(Reason::Lost), us),
                        _ => tally.updates.record(us),
                    }
                    tally.repeats(if found { Reason::Busy } else { Reason::Lost });
                    tally.reads += 1;
                }
            }
            sum += &part;
        }
        assert_eq!(sum, whole, "seed {seed}");
        let kinds = [&whole.at_once, &whole.repeated, &whole.failed, &whole.updates];
        for (latency, (_, all)) in kinds.into_iter().zip(&mut all) {
            assert_eq!(latency.count(), all.len() as u64);
            for part in [0.001, 0.5, 0.9, 0.99, 0.999, 1.0] {
                check(latency, all, part);
            }
        }
        let mut answered = [all[&0].clone(), all[&1].clone()].concat();
        assert_eq!(whole.reads_answered(), answered.len() as u64);
        check(&whole.answered(), &mut answered, 0.99);
        assert_eq!(whole.failed_for[&Reason::Lost], whole.reads_failed());
        assert_eq!(whole.repeats, whole.repeated_for.values().sum::<u64>());
    }

    #[test]
    fn read_that_was_never_sent_has_failed_and_hides_no_latency() {
        let mut tally = Tally::default();
        assert!(tally.is_clean() && tally.failed.quantile(0.5).is_none());
        tally.ended(Outcome::Failed(Reason::TooMany), 0);
        assert_eq!((tally.reads_failed(), tally.failed.count()), (1, 0));
        assert!(!tally.is_clean());
        let mut tally = Tally { updates_failed: 1, ..Tally::default() };
        assert!(!tally.is_clean());
        tally.updates.record(u64::MAX);
        let max = tally.updates.max().unwrap();
        assert!(max.abs_diff(LATENCY_MAX_US) < LATENCY_MAX_US / 100, "{max}");
    }
}
