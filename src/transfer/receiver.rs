//! Decides what the destination makes of a segment: whether it is the next one of the newest stream.
//!
//! ```text
//!              lower stream, or seq ───> ignored
//!  segment ──> of a higher one, seq 0 ─> anew: what was staged is erased first
//!              the next one, sound ────> taken
//!              anything else ──────────> gap, broken: the next stream is asked for
//! ```

use schemas::Generation;
use schemas::range_segment::{Entry, Kind, RangeSegment};
use serde::{Deserialize, Serialize};

use super::digest::{Floors, Sums, by_partition};
use super::segment::{is_sound, sums};

/// How far a stream has come. It is stored with what it has staged.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receiver {
    pub stream: u32,
    pub next_seq: u64,
    /// Those of the opening.
    pub floors: Floors,
    /// Of what is staged.
    pub sums: Sums,
}

/// What a segment is to the stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It was taken before, or is of a stream that was given up.
    Known,
    /// It begins a higher stream.
    Anew,
    /// Something is missing: only another stream helps.
    Gap,
    /// Nothing of it can be believed, not even its numbers.
    Broken,
    Open(Floors),
    Data(Vec<Entry>),
    End {
        is_equal: bool,
    },
    Handover {
        is_equal: bool,
        floors: Floors,
        generation: Generation,
    },
    Refuse(String),
}

impl Receiver {
    /// Begins with a stream of which nothing has come.
    pub fn new(stream: u32) -> Self {
        Self { stream, ..Self::default() }
    }

    /// Returns what a segment is, and changes nothing.
    pub fn look(&self, segment: &RangeSegment) -> Verdict {
        let (stream, seq) = (segment.stream, segment.seq);
        if stream < self.stream {
            return Verdict::Known;
        }
        if !is_sound(segment) {
            return Verdict::Broken;
        }
        if segment.kind == Kind::Refuse {
            return Verdict::Refuse(segment.reason.clone().unwrap_or_default());
        }
        if self.stream < stream {
            return if seq == 0 { Verdict::Anew } else { Verdict::Gap };
        }
        if seq < self.next_seq {
            return Verdict::Known;
        }
        if self.next_seq < seq || (seq == 0) != (segment.kind == Kind::Open) {
            return Verdict::Gap;
        }
        let is_equal = sums(segment) == self.sums;
        match segment.kind {
            Kind::Open => Verdict::Open(by_partition(&segment.floors)),
            Kind::Data => Verdict::Data(segment.entries.clone()),
            Kind::End => Verdict::End { is_equal },
            Kind::Handover => {
                let (floors, generation) = (by_partition(&segment.floors), segment.generation);
                Verdict::Handover { is_equal, floors, generation }
            }
            Kind::Refuse => Verdict::Refuse(segment.reason.clone().unwrap_or_default()),
            // It says something that this program does not know.
            Kind::Unknown => Verdict::Gap,
        }
    }

    /// Takes in that the next segment was taken.
    pub fn advance(&mut self) {
        self.next_seq += 1;
    }

    /// Takes in that an entry of the stream was put, and what it replaced.
    pub fn changed(&mut self, entry: &Entry, replaced: Option<&Entry>) {
        self.sums.change(entry, replaced, &self.floors);
    }
}
