//! Decides what the source sends next of a stream: the snapshot page by page, and beside it what changes.
//!
//! ```text
//!            opened                    scanned, nothing waits            frozen, nothing waits
//!  Opening ─────────> Scanning ──────────────────────────────> Following ────────> Handed
//!   OPEN               DATA of pages and of changes   END        DATA of changes    HANDOVER
//! ```
//!
//! * **The sum of all that was sent.** What END and HANDOVER say is the sum over the snapshot and all
//!   changes since, in whatever order the two went out: of an entry that both have, the later wins.
//! * **Bounded.** Beyond the credit, and faster than the bandwidth, nothing is sent; changes that wait
//!   are counted, and whoever owns the sender gives the stream up when they are too many.

use std::collections::VecDeque;

use schemas::range_segment::{Entry, RangeSegment};
use schemas::{Generation, Millis};

use super::digest::{Floors, Sums, is_below};
use super::segment::{Content, SEGMENT_BYTES_MAX, StreamId, entry_bytes, seal};
use crate::store::{EntryKey, Page};

/// What a segment without entries counts.
const BARE_BYTES: u64 = 128;

/// The source's side of one stream.
#[derive(Clone, Debug)]
pub struct Sender {
    stream: StreamId,
    floors: Floors,
    sums: Sums,
    state: State,
    scan: Scan,
    /// Changes to be sent.
    waiting: VecDeque<Entry>,
    waiting_bytes: usize,
    next_seq: u64,
    /// Sent and not acknowledged: `(seq, bytes)`.
    unacked: VecDeque<(u64, u64)>,
    unacked_bytes: u64,
    credit_bytes: u64,
    bandwidth_bytes_per_s: u64,
    /// So many thousandths of it may be taken now.
    eased_permille: u16,
    /// By bandwidth, nothing before.
    due: Millis,
    frozen: Option<(Floors, Generation)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Opening,
    Scanning,
    Following,
    Handed,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Scan {
    At(Option<EntryKey>),
    /// A page was asked for.
    Asked(Option<EntryKey>),
    Ended,
}

/// A page takes so many milliseconds of the bandwidth, if it is not less than that.
const PAGE_MS: u64 = 2;
const PAGE_BYTES_MIN: usize = 16 << 10;

/// So much a copy may take, if its bandwidth is not less, whoever waits: it has to come to an end.
const EASED_BYTES_PER_S_MIN: u64 = 1_500_000;

/// What is next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    Segment(RangeSegment),
    /// A page of the snapshot is wanted, of about so many bytes.
    Scan {
        after: Option<EntryKey>,
        bytes: usize,
    },
}

impl Sender {
    pub fn new(
        stream: StreamId,
        floors: Floors,
        credit_bytes: u64,
        bandwidth_bytes_per_s: u64,
    ) -> Self {
        Self {
            stream,
            floors,
            sums: Sums::default(),
            state: State::Opening,
            scan: Scan::At(None),
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            next_seq: 0,
            unacked: VecDeque::new(),
            unacked_bytes: 0,
            credit_bytes,
            bandwidth_bytes_per_s,
            eased_permille: 1_000,
            due: Millis(0),
            frozen: None,
        }
    }

    pub fn stream(&self) -> StreamId {
        self.stream
    }

    /// The floors of the opening: below them tombstones may be dropped while the stream is open.
    pub fn floors(&self) -> &Floors {
        &self.floors
    }

    /// How many bytes of changes wait to be sent.
    pub fn waiting_bytes(&self) -> usize {
        self.waiting_bytes
    }

    /// From now on the copy takes a part of the bandwidth. Changes behind it take all: they must not pile up.
    pub fn ease(&mut self, permille: u16) {
        self.eased_permille = permille;
    }

    /// Takes in a change of the store since the snapshot.
    pub fn changed(&mut self, entry: &Entry, replaced: Option<&Entry>) {
        self.sums.change(entry, replaced, &self.floors);
        self.waiting_bytes += entry_bytes(entry);
        self.waiting.push_back(entry.clone());
    }

    /// Takes in a page of the snapshot. Tombstones below the floors are not sent.
    pub fn scanned(&mut self, now: Millis, page: Page) -> Vec<RangeSegment> {
        assert!(matches!(self.scan, Scan::Asked(_)), "a page answers what was asked");
        self.scan = page.next.map_or(Scan::Ended, |it| Scan::At(Some(it)));
        let mut entries = page.entries;
        entries.retain(|it| it.payload.is_some() || !is_below(&self.floors, it));
        entries.iter().for_each(|it| self.sums.add(it, &self.floors));
        let mut entries = VecDeque::from(entries);
        let mut segments = Vec::new();
        while !entries.is_empty() {
            let (first, _) = first_of(&mut entries);
            segments.push(self.send(now, Content::Data(first)));
        }
        segments
    }

    /// Takes in an acknowledgement of this stream.
    pub fn granted(&mut self, next_seq: u64, credit_bytes: u64) {
        while let Some((_, bytes)) = self.unacked.pop_front_if(|it| it.0 < next_seq) {
            self.unacked_bytes -= bytes;
        }
        self.credit_bytes = credit_bytes;
    }

    /// Takes in that nothing will change any more: the commit was read.
    pub fn freeze(&mut self, floors: Floors, generation: Generation) {
        self.frozen = Some((floors, generation));
    }

    pub fn is_handed(&self) -> bool {
        self.state == State::Handed
    }

    /// Tells whether nothing will change any more.
    pub fn is_frozen(&self) -> bool {
        self.frozen.is_some() || self.is_handed()
    }

    /// Returns what is to be done next, if anything can be.
    pub fn poll(&mut self, now: Millis) -> Option<Next> {
        if self.state == State::Opening {
            self.state = State::Scanning;
            return Some(Next::Segment(self.send(now, Content::Open(self.floors.clone()))));
        }
        if self.state == State::Handed {
            return None;
        }
        let can_send = self.unacked_bytes < self.credit_bytes && self.due <= now;
        if !self.waiting.is_empty() {
            let entries = can_send.then(|| self.first_waiting())?;
            return Some(Next::Segment(self.send(now, Content::Data(entries))));
        }
        match &self.scan {
            Scan::Asked(_) => return None,
            Scan::At(after) => {
                let after = after.clone();
                let left = self.credit_bytes.saturating_sub(self.unacked_bytes);
                let bytes = self.page_bytes_max().min(usize::try_from(left).unwrap_or(usize::MAX));
                return can_send.then(|| {
                    self.scan = Scan::Asked(after.clone());
                    Next::Scan { after, bytes }
                });
            }
            Scan::Ended => (),
        }
        if let Some((floors, generation)) = self.frozen.take() {
            self.state = State::Handed;
            let content = Content::Handover { sums: self.sums, floors, generation };
            return Some(Next::Segment(self.send(now, content)));
        }
        if self.state == State::Scanning {
            self.state = State::Following;
            return Some(Next::Segment(self.send(now, Content::End(self.sums))));
        }
        None
    }

    /// Returns when something can be sent that bandwidth holds back.
    pub fn poll_deadline(&self, now: Millis) -> Option<Millis> {
        let has_more = !self.waiting.is_empty() || matches!(self.scan, Scan::At(_));
        (has_more && self.unacked_bytes < self.credit_bytes && now < self.due).then_some(self.due)
    }

    /// A page is small where bandwidth is: who shares the processor with the copying waits for a part of it
    /// at a time.
    fn page_bytes_max(&self) -> usize {
        let bandwidth = self.bandwidth_bytes_per_s();
        let of_a_moment = bandwidth.saturating_mul(PAGE_MS) / 1000;
        match bandwidth {
            0 => SEGMENT_BYTES_MAX,
            _ => (of_a_moment as usize).clamp(PAGE_BYTES_MIN, SEGMENT_BYTES_MAX),
        }
    }

    /// What may be taken now; 0: all that there is.
    fn bandwidth_bytes_per_s(&self) -> u64 {
        let whole = self.bandwidth_bytes_per_s;
        if self.is_frozen() || self.scan == Scan::Ended {
            return whole;
        }
        let eased = u128::from(whole) * u128::from(self.eased_permille) / 1_000;
        (eased as u64).max(whole.min(EASED_BYTES_PER_S_MIN))
    }

    fn first_waiting(&mut self) -> Vec<Entry> {
        let (entries, bytes) = first_of(&mut self.waiting);
        self.waiting_bytes -= bytes;
        entries
    }

    fn send(&mut self, now: Millis, content: Content) -> RangeSegment {
        let segment = seal(self.stream, self.next_seq, content);
        let entries = segment.entries.iter().map(|it| entry_bytes(it) as u64);
        let bytes = BARE_BYTES + entries.sum::<u64>();
        self.unacked.push_back((self.next_seq, bytes));
        self.unacked_bytes += bytes;
        self.next_seq += 1;
        if let Some(ms) = (bytes * 1000).checked_div(self.bandwidth_bytes_per_s()) {
            self.due = Millis(self.due.max(now).0 + ms);
        }
        segment
    }
}

/// Takes as many as one segment holds, at least one, and returns how many bytes they are.
fn first_of(all: &mut VecDeque<Entry>) -> (Vec<Entry>, usize) {
    let mut entries = Vec::new();
    let mut bytes = 0;
    while let Some(entry) =
        all.pop_front_if(|it| entries.is_empty() || bytes + entry_bytes(it) <= SEGMENT_BYTES_MAX)
    {
        bytes += entry_bytes(&entry);
        entries.push(entry);
    }
    (entries, bytes)
}

#[cfg(test)]
mod tests;
