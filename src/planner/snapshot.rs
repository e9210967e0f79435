//! Cuts the planner's state into chunks, and puts valid chunks together again.
//!
//! ```text
//!  state ─ postcard ─┬─ Rest ─────────┐
//!  cells' slots ─────┴─ Slots × n ────┴─ zstd ─> chunks of at most 512 KiB ─> planner_progress
//! ```
//!
//! * **Valid or not there.** A snapshot counts when all of its chunks are, and their digest is right.
//! * **Paced.** A tick's transaction takes [`CHUNKS_PER_TICK_MAX`] of them along, so that no tick is
//!   a mountain. What is queued is a function of ticks alone: a planner that starts again in between
//!   goes on with the same chunk.
//! * **Plain values.** Sums by (cell, tick) and collections, nothing of the insides of operators.

use std::collections::{BTreeMap, VecDeque};

use dataflows::Tick;
use dataflows::heat::Heat;
use schemas::CellId;
use schemas::planner_progress::SnapshotChunk;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use sha2::{Digest, Sha256};
use thiserror::Error;

/// Changes when the shape of what is written does, which a test tells; a snapshot of another format is
/// not read.
pub const FORMAT: u32 = 15;

/// Of a chunk as written.
const CHUNK_BYTES_MAX: usize = 512 << 10;

/// Of a piece before it is compressed: what is compressed may not shrink.
const PIECE_BYTES_MAX: usize = CHUNK_BYTES_MAX - (4 << 10);

pub const CHUNKS_PER_TICK_MAX: usize = 8;

/// One sum of one cell.
pub type Slot = (CellId, Tick, Heat);

/// Why chunks are not a snapshot.
#[derive(Debug, PartialEq, Eq, Error)]
pub enum SnapshotError {
    #[error(
        "the snapshot of tick {tick} has format {format}, this program reads {FORMAT}: run the version \
         that wrote it, or choose another planner id, which adopts the assignment"
    )]
    Format { tick: Tick, format: u32 },
    #[error("the snapshot of tick {0} does not decode: {1}")]
    Malformed(Tick, String),
}

#[derive(Serialize, Deserialize)]
enum Piece {
    /// A part of the state's bytes.
    Rest(#[serde(with = "serde_bytes")] Vec<u8>),
    Slots(Vec<Slot>),
}

/// Makes the chunks of a snapshot taken at the end of `tick`.
pub fn chunks<S: Serialize>(tick: Tick, state: &S, slots: Vec<Slot>) -> Vec<SnapshotChunk> {
    let rest = postcard::to_stdvec(state).expect("plain values can be written");
    let mut pieces: Vec<_> =
        rest.chunks(PIECE_BYTES_MAX).map(|it| Piece::Rest(it.to_vec())).collect();
    // At most 60 bytes a slot: seven varints of up to ten bytes, most of them short.
    let per_piece = PIECE_BYTES_MAX / 70;
    let mut slots = slots;
    // By cell, so that another number of timely workers can load them.
    slots.sort_unstable();
    pieces.extend(slots.chunks(per_piece).map(|it| Piece::Slots(it.to_vec())));
    let bytes: Vec<Vec<u8>> = pieces.iter().map(compress).collect();
    let digest = digest(&bytes);
    let count = bytes.len() as u32;
    let chunk = |(index, bytes)| {
        let (format, digest) = (FORMAT, digest.clone());
        SnapshotChunk { tick, format, index, count, digest, bytes }
    };
    (0..).zip(bytes).map(chunk).collect()
}

/// Reads a whole set of chunks back.
pub fn assemble<S: DeserializeOwned>(
    chunks: &[SnapshotChunk],
) -> Result<(Tick, S, Vec<Slot>), SnapshotError> {
    let tick = chunks.first().map_or(0, |it| it.tick);
    if let Some(other) = chunks.iter().find(|it| it.format != FORMAT) {
        return Err(SnapshotError::Format { tick, format: other.format });
    }
    let malformed = |err: String| SnapshotError::Malformed(tick, err);
    let (mut rest, mut slots) = (Vec::new(), Vec::new());
    for chunk in chunks {
        let plain = zstd::bulk::decompress(&chunk.bytes, 4 * PIECE_BYTES_MAX);
        let plain = plain.map_err(|err| malformed(err.to_string()))?;
        match postcard::from_bytes(&plain).map_err(|err| malformed(err.to_string()))? {
            Piece::Rest(part) => rest.extend(part),
            Piece::Slots(part) => slots.extend(part),
        }
    }
    let state = postcard::from_bytes(&rest).map_err(|err| malformed(err.to_string()))?;
    Ok((tick, state, slots))
}

/// Finds valid snapshots among chunks as they come.
#[derive(Debug, Default)]
pub struct Gatherer {
    open: BTreeMap<Tick, Vec<SnapshotChunk>>,
    newest: Option<Vec<SnapshotChunk>>,
}

impl Gatherer {
    pub fn add(&mut self, chunk: SnapshotChunk) {
        let tick = chunk.tick;
        let chunks = self.open.entry(tick).or_default();
        if chunk.index == 0 {
            chunks.clear();
        }
        if chunk.index as usize != chunks.len() {
            // A part of it is gone by retention: it will not become valid.
            self.open.remove(&tick);
            return;
        }
        let last = chunk.index + 1 == chunk.count;
        chunks.push(chunk);
        if last {
            let chunks = self.open.remove(&tick).expect("it was just added to");
            let bytes: Vec<_> = chunks.iter().map(|it| it.bytes.clone()).collect();
            if chunks.iter().all(|it| it.digest == digest(&bytes)) {
                self.newest = Some(chunks);
            }
        }
    }

    /// Returns at the end of which tick the newest valid snapshot was taken.
    pub fn newest_tick(&self) -> Option<Tick> {
        self.newest.as_ref().map(|it| it[0].tick)
    }

    /// Returns the chunks of the newest valid snapshot.
    pub fn newest(self) -> Option<Vec<SnapshotChunk>> {
        self.newest
    }
}

/// Chunks that wait for their tick.
#[derive(Debug, Default)]
pub struct Outbox {
    chunks: VecDeque<SnapshotChunk>,
}

impl Outbox {
    /// Queues a snapshot; what is left of an older one is dropped, as it will not be needed.
    pub fn replace(&mut self, chunks: Vec<SnapshotChunk>) {
        self.chunks = chunks.into();
    }

    /// Returns what goes with this tick's transaction.
    pub fn poll_tick(&mut self) -> Vec<SnapshotChunk> {
        let n = self.chunks.len().min(CHUNKS_PER_TICK_MAX);
        self.chunks.drain(..n).collect()
    }
}

fn compress(piece: &Piece) -> Vec<u8> {
    let plain = postcard::to_stdvec(piece).expect("plain values can be written");
    zstd::bulk::compress(&plain, 3).expect("memory can be compressed")
}

fn digest(bytes: &[Vec<u8>]) -> String {
    let mut sha = Sha256::new();
    bytes.iter().for_each(|it| sha.update(it));
    hex(&sha.finalize())
}

/// Writes bytes as lower-case hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slots(n: u64) -> Vec<Slot> {
        let heat = |i: u64| Heat { reads: i as i64, read_us: (i * i) as i64, ..Heat::default() };
        (0..n).map(|i| (CellId(i.wrapping_mul(0x9e37_79b9_7f4a_7c15)), i % 120, heat(i))).collect()
    }

    #[test]
    fn state_and_slots_come_back_in_bounded_chunks() {
        let state: Vec<u64> = (0..200_000).map(|i: u64| i.wrapping_mul(0x9e37_79b9)).collect();
        let mut slots = slots(50_000);
        let chunks = chunks(7, &state, slots.clone());
        assert!(chunks.len() > 4, "{}", chunks.len());
        assert!(chunks.iter().all(|it| it.bytes.len() <= CHUNK_BYTES_MAX));
        let (tick, back, mut back_slots): (_, Vec<u64>, _) = assemble(&chunks).unwrap();
        slots.sort();
        back_slots.sort();
        assert_eq!((tick, back), (7, state));
        assert_eq!(back_slots, slots);
    }

    #[test]
    fn snapshot_counts_only_when_whole_and_unharmed() {
        let gather = |chunks: &[SnapshotChunk]| {
            let mut gatherer = Gatherer::default();
            chunks.iter().for_each(|it| gatherer.add(it.clone()));
            gatherer.newest().map(|it| it[0].tick)
        };
        let old = chunks(7, &1_u8, slots(30_000));
        let new = chunks(9, &2_u8, slots(30_000));
        assert!(old.len() > 2 && new.len() > 2);
        assert_eq!(gather(&old), Some(7));
        assert_eq!(gather(&[&old[..], &new[..]].concat()), Some(9));
        assert_eq!(gather(&[&old[..], &new[..1]].concat()), Some(7), "not whole");
        assert_eq!(gather(&old[1..]), None, "its beginning is gone");
        let mut harmed = new.clone();
        harmed[1].bytes[40] ^= 1;
        assert_eq!(gather(&[old, harmed].concat()), Some(7), "not what was written");
    }

    #[test]
    fn snapshot_of_another_format_is_refused_with_the_remedy() {
        let mut chunks = chunks(7, &1_u8, slots(3));
        chunks[0].format = FORMAT + 1;
        let refused = assemble::<u8>(&chunks).unwrap_err();
        assert_eq!(refused, SnapshotError::Format { tick: 7, format: FORMAT + 1 });
        assert!(refused.to_string().contains("another planner id"), "{refused}");
    }

    #[test]
    fn outbox_is_paced() {
        let mut outbox = Outbox::default();
        let chunk = |index| SnapshotChunk { index, ..SnapshotChunk::default() };
        outbox.replace((0..20).map(chunk).collect());
        let sizes: Vec<_> = (0..4).map(|_| outbox.poll_tick().len()).collect();
        assert_eq!(sizes, [8, 8, 4, 0]);
    }
}
