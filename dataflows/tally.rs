//! Sums up what the entries of one tick ask, cell by cell.
//!
//! ```text
//!  payload ──> read ──> staged entries ──┬─ whole ───> sums[rank], sample of the cell
//!                       (rank, heat)     └─ broken ──> refused, with the reason; nothing counts
//! ```
//!
//! * **Whole or not at all.** A record that cannot be read to its end counts nothing.
//! * **No sum overflows.** Cost and bytes of one entry are cut off at [`COST_US_MAX`] and [`BYTES_MAX`]:
//!   eight thousand million such entries fit into one window.
//! * **Late is not lost.** An entry counts in the tick of its record, whatever its own time says; that
//!   only tells how many were late.

use std::collections::BTreeMap;
use std::fmt;

use schemas::query_log::Op;
pub use schemas::query_log::Query;
use schemas::wire::DecodeError;
use schemas::{CellId, Key, Millis};
use serde::{Deserialize, Serialize};

use crate::Tick;
use crate::heat::Heat;
use crate::samples::{self, Entry, Sample};
use crate::splits::{SplitChange, Splits};

/// No entry counts more service time than this, nor more bytes.
pub const COST_US_MAX: u64 = 1 << 30;
pub const BYTES_MAX: u64 = 1 << 30;

/// The value of one record of the query log, and where it stood.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Payload {
    pub partition: u32,
    pub offset: u64,
    pub stamp: Millis,
    pub value: Vec<u8>,
}

/// What an entry without a cost counts, by its operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Costs {
    pub read_us: u64,
    pub scan_us: u64,
    pub write_us: u64,
}

/// The rules of summing up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    pub costs: Costs,
    pub tick_ms: u64,
    /// An entry with a longer key is passed over.
    pub key_bytes_max: usize,
}

/// Why a record is refused, in whole or in part.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// It cannot be read to its end; nothing of it counts.
    Undecodable(DecodeError),
    /// So many of its entries have keys that are too long; the rest counts.
    KeyTooLong { entries: u64, key_bytes_max: usize },
}

impl Reason {
    /// The reason as a stable code, as dead letters and counts have it.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Undecodable(why) => why.code(),
            Self::KeyTooLong { .. } => "key_too_long",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Undecodable(why) => write!(f, "nothing of it counts: {why}"),
            Self::KeyTooLong { entries, key_bytes_max } => {
                write!(
                    f,
                    "{entries} entries with keys of more than {key_bytes_max} bytes; the rest counts"
                )
            }
        }
    }
}

/// A record of which something could not be used, with its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub payload: Payload,
    pub reason: Reason,
}

/// What a tick's records were, at one timely worker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Intake {
    pub records: u64,
    /// Entries that count.
    pub queries: u64,
    /// Of these, those whose own time is before the tick.
    pub late: u64,
    /// Of these, those whose cost was estimated by the writer.
    pub estimated: u64,
    /// Entries before the first cell, or without any; they count nowhere.
    pub outside: u64,
    /// Records that are refused whole.
    pub refused: u64,
    /// Entries that were passed over for their keys.
    pub too_long: u64,
}

impl std::ops::AddAssign for Intake {
    fn add_assign(&mut self, more: Self) {
        self.records += more.records;
        self.queries += more.queries;
        self.late += more.late;
        self.estimated += more.estimated;
        self.outside += more.outside;
        self.refused += more.refused;
        self.too_long += more.too_long;
    }
}

/// The sums of the tick that is being read.
pub struct Tally {
    rules: Rules,
    splits: Splits,
    /// The sum of each cell, at its rank; zero between ticks.
    sums: Vec<Heat>,
    /// Ranks with a sum.
    touched: Vec<u32>,
    samples: BTreeMap<u32, Sample>,
    intake: Intake,
    refusals: Vec<Refusal>,
    staged: Staged,
}

/// What the record that is being read counts if it can be read to its end.
#[derive(Default)]
struct Staged {
    entries: Vec<(u32, Heat)>,
    sampled: Vec<(u32, Entry)>,
    intake: Intake,
}

/// What a tick came to.
pub struct Tallied {
    pub sums: Vec<(CellId, Heat)>,
    pub samples: Vec<(CellId, Sample)>,
    pub intake: Intake,
    pub refusals: Vec<Refusal>,
}

impl Tally {
    pub fn new(rules: Rules) -> Self {
        assert!(rules.tick_ms > 0, "a tick has a length");
        Self {
            rules,
            splits: Splits::default(),
            sums: Vec::new(),
            touched: Vec::new(),
            samples: BTreeMap::new(),
            intake: Intake::default(),
            refusals: Vec::new(),
            staged: Staged::default(),
        }
    }

    /// Changes the split points. Between ticks only: sums are kept by rank.
    pub fn split(&mut self, changes: Vec<SplitChange>) {
        assert!(self.touched.is_empty(), "split points change between ticks");
        self.splits.apply(changes);
        self.sums.resize(self.splits.len(), Heat::default());
    }

    /// Counts one record; `read` calls back with each of its entries.
    #[inline]
    pub fn add(
        &mut self,
        tick: Tick,
        payload: Payload,
        read: impl FnOnce(&[u8], &mut dyn FnMut(Query<'_>)) -> Result<usize, DecodeError>,
    ) {
        let begin = Millis(tick.saturating_mul(self.rules.tick_ms));
        let (rules, splits, samples) = (&self.rules, &self.splits, &self.samples);
        let staged = &mut self.staged;
        let result = read(&payload.value, &mut |query| {
            staged.take(rules, splits, samples, begin, query);
        });
        self.intake.records += 1;
        match result {
            Ok(_) => {
                let entries = self.staged.intake.too_long;
                self.count();
                if entries > 0 {
                    let key_bytes_max = self.rules.key_bytes_max;
                    let reason = Reason::KeyTooLong { entries, key_bytes_max };
                    self.refusals.push(Refusal { payload, reason });
                }
            }
            Err(error) => {
                self.staged.entries.clear();
                self.staged.sampled.clear();
                self.staged.intake = Intake::default();
                self.intake.refused += 1;
                self.refusals.push(Refusal { payload, reason: Reason::Undecodable(error) });
            }
        }
    }

    /// Adds what is staged to the sums.
    fn count(&mut self) {
        for (rank, heat) in self.staged.entries.drain(..) {
            let sum = &mut self.sums[rank as usize];
            // Each entry is a read or a write.
            if sum.reads + sum.writes == 0 {
                self.touched.push(rank);
            }
            *sum += heat;
        }
        for (rank, entry) in self.staged.sampled.drain(..) {
            self.samples.entry(rank).or_default().insert(entry);
        }
        self.intake += std::mem::take(&mut self.staged.intake);
    }

    /// Ends the tick: returns what it came to, cells in key order, and begins the next at zero.
    pub fn close(&mut self) -> Tallied {
        self.touched.sort_unstable();
        let (splits, sums) = (&self.splits, &mut self.sums);
        let sum =
            |rank: u32| (splits.cell(rank as usize), std::mem::take(&mut sums[rank as usize]));
        Tallied {
            sums: self.touched.drain(..).map(sum).collect(),
            samples: std::mem::take(&mut self.samples)
                .into_iter()
                .map(|(rank, sample)| (splits.cell(rank as usize), sample))
                .collect(),
            intake: std::mem::take(&mut self.intake),
            refusals: std::mem::take(&mut self.refusals),
        }
    }
}

impl Staged {
    #[inline]
    fn take(
        &mut self,
        rules: &Rules,
        splits: &Splits,
        samples: &BTreeMap<u32, Sample>,
        begin: Millis,
        query: Query<'_>,
    ) {
        if query.key.len() > rules.key_bytes_max {
            self.intake.too_long += 1;
            return;
        }
        let Some(rank) = splits.rank(query.key) else {
            self.intake.outside += 1;
            return;
        };
        self.intake.queries += 1;
        self.intake.late += u64::from(query.time < begin);
        self.intake.estimated += u64::from(query.estimated);
        self.entries.push((rank as u32, heat(&rules.costs, &query)));
        if splits.is_watched(rank) {
            let hash = samples::hash(query.key, query.time, query.op);
            if samples.get(&(rank as u32)).is_none_or(|it| it.takes(hash)) {
                let Query { time, op, .. } = query;
                let entry = Entry { hash, key: Key(query.key.to_vec()), time, op, count: 1 };
                self.sampled.push((rank as u32, entry));
            }
        }
    }
}

/// What one entry asked.
#[inline]
fn heat(costs: &Costs, query: &Query<'_>) -> Heat {
    let (writes, default_us) = match query.op {
        Op::Read | Op::Unknown => (false, costs.read_us),
        Op::Scan => (false, costs.scan_us),
        Op::Write => (true, costs.write_us),
    };
    let cost_us = query.cost_us.unwrap_or(default_us).min(COST_US_MAX) as i64;
    let bytes = query.bytes.min(BYTES_MAX) as i64;
    if writes {
        Heat { writes: 1, write_us: cost_us, bytes, ..Heat::default() }
    } else {
        Heat { reads: 1, read_us: cost_us, bytes, ..Heat::default() }
    }
}
