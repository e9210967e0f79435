//! Builds segments of a stream, and checks those that come.

use schemas::range_segment::{Entry, Kind, RangeSegment};
use schemas::{Generation, MigrationId};

use super::digest::{Floors, Sums, listed};

/// No segment of entries is larger, unless a single entry is.
pub const SEGMENT_BYTES_MAX: usize = 512 * 1024;

/// What an entry takes beside its keys and payload, at most.
pub const ENTRY_BYTES: usize = 32;

/// Identifies a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId {
    pub migration: MigrationId,
    pub number: u32,
}

/// What a segment says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// Before which offsets everything is applied in what follows.
    Open(Floors),
    Data(Vec<Entry>),
    /// All of the range was sent, and this is the sum of it.
    End(Sums),
    /// The range is frozen at the source since it has read the commit.
    Handover {
        sums: Sums,
        floors: Floors,
        generation: Generation,
    },
    Refuse(String),
}

/// Returns what an entry counts against credit and limits.
pub fn entry_bytes(entry: &Entry) -> usize {
    let payload = entry.payload.as_ref().map_or(0, Vec::len);
    entry.index_key.0.len() + entry.primary_key.0.len() + payload + ENTRY_BYTES
}

/// Returns the segment with its checksum.
pub fn seal(stream: StreamId, seq: u64, content: Content) -> RangeSegment {
    let StreamId { migration, number } = stream;
    let mut res = RangeSegment {
        migration,
        stream: number,
        seq,
        crc32c: 0,
        kind: Kind::Open,
        floors: Vec::new(),
        entries: Vec::new(),
        live_digest: 0,
        tombstone_digest: 0,
        count: 0,
        generation: Generation(0),
        reason: None,
    };
    let sum = |res: &mut RangeSegment, sums: Sums| {
        res.live_digest = sums.live;
        res.tombstone_digest = sums.tombstones;
        res.count = sums.count;
    };
    match content {
        Content::Open(floors) => res.floors = listed(&floors),
        Content::Data(entries) => {
            res.kind = Kind::Data;
            res.entries = entries;
        }
        Content::End(sums) => {
            res.kind = Kind::End;
            sum(&mut res, sums);
        }
        Content::Handover { sums, floors, generation } => {
            res.kind = Kind::Handover;
            sum(&mut res, sums);
            res.floors = listed(&floors);
            res.generation = generation;
        }
        Content::Refuse(reason) => {
            res.kind = Kind::Refuse;
            res.reason = Some(reason);
        }
    }
    res.crc32c = checksum(&res);
    res
}

/// Returns the sums that an END or HANDOVER says.
pub fn sums(segment: &RangeSegment) -> Sums {
    let RangeSegment { live_digest, tombstone_digest, count, .. } = segment;
    Sums { live: *live_digest, tombstones: *tombstone_digest, count: *count }
}

/// Tells whether a segment is as it was sealed.
pub fn is_sound(segment: &RangeSegment) -> bool {
    checksum(segment) == segment.crc32c
}

/// Returns the checksum of all fields but itself: numbers as they are, bytes behind their length.
fn checksum(segment: &RangeSegment) -> u32 {
    let mut crc = Crc(0);
    let kind = match segment.kind {
        Kind::Unknown => 0,
        Kind::Open => 1,
        Kind::Data => 2,
        Kind::End => 3,
        Kind::Handover => 4,
        Kind::Refuse => 5,
    };
    let RangeSegment { migration, stream, seq, generation, count, .. } = segment;
    for number in [migration.0, u64::from(*stream), *seq, kind, generation.0, *count] {
        crc.number(number);
    }
    crc.number(segment.live_digest);
    crc.number(segment.tombstone_digest);
    crc.number(segment.floors.len() as u64);
    for floor in &segment.floors {
        crc.number(u64::from(floor.partition));
        crc.number(floor.offset);
    }
    crc.number(segment.entries.len() as u64);
    for entry in &segment.entries {
        crc.bytes(Some(&entry.index_key.0));
        crc.bytes(Some(&entry.primary_key.0));
        crc.number(u64::from(entry.partition));
        crc.number(entry.offset);
        crc.bytes(entry.payload.as_deref());
    }
    crc.bytes(segment.reason.as_ref().map(|it| it.as_bytes()));
    crc.0
}

struct Crc(u32);

impl Crc {
    fn number(&mut self, number: u64) {
        self.0 = crc32c::crc32c_append(self.0, &number.to_le_bytes());
    }

    fn bytes(&mut self, bytes: Option<&[u8]>) {
        self.number(bytes.map_or(u64::MAX, |it| it.len() as u64));
        self.0 = crc32c::crc32c_append(self.0, bytes.unwrap_or_default());
    }
}

#[cfg(test)]
mod tests {
    use schemas::Key;

    use super::*;

    #[test]
    fn segment_that_differs_anywhere_from_what_was_sealed_is_not_sound() {
        let entry = Entry {
            index_key: Key(b"a".to_vec()),
            primary_key: Key(b"1".to_vec()),
            partition: 2,
            offset: 7,
            payload: Some(b"x".to_vec()),
        };
        let stream = StreamId { migration: MigrationId(3), number: 2 };
        let sums = Sums { live: 1, tombstones: 2, count: 3 };
        let floors = Floors::from([(0, 4)]);
        let contents = [
            Content::Open(floors.clone()),
            Content::Data(vec![entry]),
            Content::End(sums),
            Content::Handover { sums, floors, generation: Generation(9) },
            Content::Refuse("backlog".into()),
        ];
        for content in contents {
            let sealed = seal(stream, 5, content);
            assert!(is_sound(&sealed));
            // Each byte of it, where it is still a record.
            let bytes = schemas::wire::encode(&sealed);
            let mut faults = 0;
            for at in 10..bytes.len() {
                for bit in 0..8 {
                    let mut bytes = bytes.clone();
                    bytes[at] ^= 1 << bit;
                    if let Ok(other) = schemas::wire::decode::<RangeSegment>(&bytes) {
                        assert!(!is_sound(&other) || other == sealed, "bit {bit} of byte {at}");
                        faults += 1;
                    }
                }
            }
            assert!(faults > 100, "{faults}");
        }
    }
}
