//! A sender and a receiver over a store, a page and a change at a time.

use schemas::range_segment::Kind;
use schemas::{Key, KeySpan, MigrationId};

use super::super::receiver::{Receiver, Verdict};
use super::super::segment::is_sound;
use super::*;
use crate::store::memory::{MemorySnapshot, MemoryStore};
use crate::store::{Limit, Outcome, Snapshot, Store, Write};

const STREAM: StreamId = StreamId { migration: MigrationId(7), number: 3 };

fn entry(index: &str, offset: u64, payload: Option<&str>) -> Entry {
    Entry {
        index_key: Key(index.into()),
        primary_key: Key(b"1".to_vec()),
        partition: 0,
        offset,
        payload: payload.map(|it| it.as_bytes().to_vec()),
    }
}

/// A source and a destination with a store each.
struct Pair {
    sender: Sender,
    source: MemoryStore,
    snapshot: MemorySnapshot,
    receiver: Receiver,
    destination: MemoryStore,
    told: Vec<String>,
    page: usize,
}

impl Pair {
    fn new(entries: &[Entry], floors: Floors, credit_bytes: u64) -> Self {
        let mut source = MemoryStore::default();
        source.stage(entries.iter().cloned().map(Write::Put).collect()).unwrap();
        source.commit(vec![]).unwrap();
        Self {
            sender: Sender::new(STREAM, floors, credit_bytes, 0),
            snapshot: source.snapshot(),
            source,
            receiver: Receiver::new(STREAM.number),
            destination: MemoryStore::default(),
            told: Vec::new(),
            page: 1,
        }
    }

    /// Changes the source's store.
    fn put(&mut self, entry: Entry) {
        let outcomes = self.source.stage(vec![Write::Put(entry.clone())]).unwrap();
        self.source.commit(vec![]).unwrap();
        if let [Outcome::Changed { replaced }] = &outcomes[..] {
            self.sender.changed(&entry, replaced.as_ref());
        }
    }

    /// Lets the sender do one thing; tells whether there was one.
    fn step(&mut self) -> bool {
        match self.sender.poll(Millis(0)) {
            None => false,
            Some(Next::Segment(segment)) => {
                self.receive(&segment);
                true
            }
            Some(Next::Scan { after, .. }) => {
                let limit = Limit { entries: self.page, bytes: usize::MAX };
                let page = self.snapshot.page(&KeySpan::all(), after.as_ref(), limit).unwrap();
                for segment in self.sender.scanned(Millis(0), page) {
                    self.receive(&segment);
                }
                true
            }
        }
    }

    fn receive(&mut self, segment: &RangeSegment) {
        assert!(is_sound(segment));
        let told = match self.receiver.look(segment) {
            Verdict::Open(floors) => {
                self.receiver.floors = floors;
                "open".to_owned()
            }
            Verdict::Data(entries) => {
                let writes = entries.iter().cloned().map(Write::Put).collect();
                let outcomes = self.destination.stage(writes).unwrap();
                self.destination.commit(vec![]).unwrap();
                for (entry, outcome) in entries.iter().zip(outcomes) {
                    if let Outcome::Changed { replaced } = outcome {
                        self.receiver.changed(entry, replaced.as_ref());
                    }
                }
                let keys = entries.iter().map(|it| format!("{}@{}", it.index_key, it.offset));
                keys.collect::<Vec<_>>().join(" ")
            }
            Verdict::End { is_equal } => format!("end {is_equal}"),
            Verdict::Handover { is_equal, .. } => format!("handover {is_equal}"),
            other @ (Verdict::Known
            | Verdict::Anew
            | Verdict::Gap
            | Verdict::Broken
            | Verdict::Refuse(_)) => panic!("{other:?}"),
        };
        self.receiver.advance();
        self.told.push(told);
    }

    fn grant(&mut self, credit_bytes: u64) {
        self.sender.granted(self.receiver.next_seq, credit_bytes);
    }
}

#[test]
fn r9_stream_has_the_snapshot_and_what_changed_since_and_the_sums_are_equal() {
    let entries = [entry("a", 5, Some("x")), entry("b", 6, Some("x")), entry("c", 7, None)];
    let mut it = Pair::new(&entries, Floors::from([(0, 6)]), u64::MAX);
    assert!(it.step() && it.step());
    // One that the scan has passed, one that it has not come to, one that is new.
    it.put(entry("a", 9, None));
    it.put(entry("c", 10, Some("y")));
    it.put(entry("d", 11, Some("y")));
    while it.step() {}
    assert_eq!(it.told, ["open", "a@5", "a@9 c@10 d@11", "b@6", "c@7", "end true"]);
    it.put(entry("b", 12, Some("z")));
    it.put(entry("b", 4, Some("old")));
    while it.step() {}
    it.sender.freeze(Floors::new(), Generation(4));
    while it.step() {}
    assert_eq!(it.told[6..], ["b@12", "handover true"]);
    assert!(it.sender.is_handed());
}

#[test]
fn r9_tombstones_above_the_floors_are_sent_and_those_below_are_not() {
    let entries = [entry("a", 5, None), entry("b", 6, None), entry("c", 2, Some("x"))];
    let mut it = Pair::new(&entries, Floors::from([(0, 6)]), u64::MAX);
    while it.step() {}
    assert_eq!(it.told, ["open", "b@6", "c@2", "end true"]);
}

#[test]
fn nothing_but_the_opening_goes_out_beyond_the_credit() {
    let entries = ["a", "b", "c", "d"].map(|it| entry(it, 5, Some("x")));
    let mut it = Pair::new(&entries, Floors::new(), 200);
    while it.step() {}
    assert_eq!(it.told, ["open", "a@5"]);
    it.grant(200);
    while it.step() {}
    assert_eq!(it.told, ["open", "a@5", "b@5", "c@5"]);
    it.grant(1_000);
    while it.step() {}
    assert_eq!(it.told[4..], ["d@5", "end true"]);
}

#[test]
fn nothing_goes_out_faster_than_the_bandwidth() {
    let mut it = Pair::new(&[entry("a", 5, Some("x"))], Floors::new(), u64::MAX);
    it.sender = Sender::new(STREAM, Floors::new(), u64::MAX, 1_000);
    assert!(it.step());
    assert!(!it.step());
    assert_eq!(it.sender.poll_deadline(Millis(0)), Some(Millis(BARE_BYTES)));
    let next = it.sender.poll(Millis(BARE_BYTES));
    assert_eq!(next, Some(Next::Scan { after: None, bytes: PAGE_BYTES_MIN }));
}

#[test]
fn page_takes_a_moment_of_the_bandwidth() {
    let page = |bandwidth| {
        let mut sender = Sender::new(STREAM, Floors::new(), u64::MAX, bandwidth);
        assert!(matches!(sender.poll(Millis(0)), Some(Next::Segment(_))));
        match sender.poll(Millis(1_000_000)) {
            Some(Next::Scan { bytes, .. }) => bytes,
            other => panic!("{other:?}"),
        }
    };
    let pages = [0, 1_000, 50_000_000, u64::MAX].map(page);
    assert_eq!(pages, [SEGMENT_BYTES_MAX, PAGE_BYTES_MIN, 100_000, SEGMENT_BYTES_MAX]);
}

#[test]
fn eased_copy_takes_a_part_of_the_bandwidth_and_a_handover_all() {
    let page = |bandwidth, permille, is_frozen| {
        let mut sender = Sender::new(STREAM, Floors::new(), u64::MAX, bandwidth);
        sender.ease(permille);
        if is_frozen {
            sender.freeze(Floors::new(), Generation(1));
        }
        assert!(matches!(sender.poll(Millis(0)), Some(Next::Segment(_))));
        let due = sender.poll_deadline(Millis(0));
        match sender.poll(Millis(1_000_000)) {
            Some(Next::Scan { bytes, .. }) => (bytes, due),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(page(100_000_000, 250, false), (50_000, None));
    assert_eq!(page(100_000_000, 250, true), (200_000, None));
    // What is slow anyway is no slower, and what is not held back at all stays so.
    assert_eq!(page(1_000, 250, false), (PAGE_BYTES_MIN, Some(Millis(BARE_BYTES))));
    assert_eq!(page(0, 250, false), (SEGMENT_BYTES_MAX, None));

    let mut copied = Sender::new(STREAM, Floors::new(), u64::MAX, 100_000_000);
    copied.ease(250);
    assert_eq!(copied.bandwidth_bytes_per_s(), 25_000_000);
    copied.scan = Scan::Ended;
    assert_eq!(copied.bandwidth_bytes_per_s(), 100_000_000);
}

#[test]
fn segments_of_changes_are_bounded() {
    let mut it = Pair::new(&[], Floors::new(), u64::MAX);
    let large = "x".repeat(SEGMENT_BYTES_MAX / 2);
    for index in ["a", "b", "c"] {
        it.put(entry(index, 5, Some(&large)));
    }
    assert!(it.sender.waiting_bytes() > SEGMENT_BYTES_MAX);
    while it.step() {}
    assert_eq!(it.told, ["open", "a@5", "b@5", "c@5", "end true"]);
    assert_eq!(it.sender.waiting_bytes(), 0);
}

#[test]
fn r8_segment_is_the_next_one_or_known_or_a_gap_or_begins_anew() {
    let at = |number, seq, content| seal(StreamId { number, ..STREAM }, seq, content);
    let data = || Content::Data(vec![entry("a", 5, Some("x"))]);
    let mut receiver = Receiver::new(3);
    receiver.next_seq = 2;
    let check = |segment: &RangeSegment, expected: Verdict| {
        assert_eq!(receiver.look(segment), expected, "{segment:?}");
    };
    check(&at(2, 9, data()), Verdict::Known);
    check(&at(3, 1, data()), Verdict::Known);
    check(&at(3, 2, data()), Verdict::Data(vec![entry("a", 5, Some("x"))]));
    check(&at(3, 3, data()), Verdict::Gap);
    check(&at(4, 0, Content::Open(Floors::new())), Verdict::Anew);
    check(&at(4, 1, data()), Verdict::Gap);
    let mut broken = at(3, 2, data());
    broken.entries[0].offset += 1;
    check(&broken, Verdict::Broken);
    let mut truncated = at(3, 2, data());
    truncated.entries.clear();
    check(&truncated, Verdict::Broken);
    check(&at(3, 9, Content::Refuse("why".into())), Verdict::Refuse("why".into()));
    // An opening that is not the first, and a first one that is no opening.
    check(&at(3, 2, Content::Open(Floors::new())), Verdict::Gap);
    assert_eq!(Receiver::new(3).look(&at(3, 0, data())), Verdict::Gap);
    let mut newer = at(3, 2, data());
    newer.kind = Kind::Unknown;
    check(&newer, Verdict::Broken);
}
