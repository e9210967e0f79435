//! Segments that come broken, twice or in the wrong order from a node that the test plays.

use isotherm::transfer::digest::Sums;
use isotherm::transfer::segment::{Content, StreamId, seal};
use schemas::index_update::{IndexUpdate, Watermark};
use schemas::range_segment::{Floor, RangeSegment};
use schemas::segment_ack::SegmentAck;

use super::*;

const MOVE: Move = Move { id: 9, span: ("m", ""), from: ("ghost", 1), to: "a" };

#[test]
fn broken_cut_lost_and_late_segments_are_asked_for_again_and_known_ones_are_ignored() {
    let Some(mut play) = Play::create("worker-segments") else { return };
    let entries = play.rows(keys());
    let a = play.worker("a");
    let _channel = play.channel();
    await_waiting(&a);
    play.assign(&[of_table(("", "m"), "a", 1, 1), of_table(("m", ""), "ghost", 1, 2)]);
    play.await_end(1, Status::Complete);
    play.start_move(&MOVE);
    let mine: Vec<_> =
        entries.into_iter().filter(|it| b"m".as_slice() <= it.index_key.0.as_slice()).collect();
    let floors = [(0, play.rows)];
    let stream = |number| Stream::new(number, &mine, floors);

    // A checksum that is wrong: the numbers are not believed, the next stream is asked for.
    play.await_request(1);
    let [open, first, ..] = stream(1).segments;
    play.send(&open);
    play.send(&RangeSegment { crc32c: first.crc32c ^ 1, ..first });
    // Cut off: what cannot be read is a dead letter, and what follows is behind a gap.
    play.await_request(2);
    let [open, first, second, _] = stream(2).segments;
    play.send(&open);
    let mut cut = encode(&first);
    cut.truncate(cut.len() / 2);
    play.write_bytes("range_segment", "a", cut);
    play.send(&second);
    // In the wrong order.
    play.await_request(3);
    let [open, first, second, _] = stream(3).segments;
    play.send(&open);
    play.send(&second);
    play.send(&first);
    // Each twice, and one of a stream that was given up.
    play.await_request(4);
    for it in stream(4).segments {
        play.send(&it);
        play.send(&it);
    }
    play.send(&stream(1).segments[1]);
    play.await_phase(MOVE.id, "Ready");
    play.await_counts(&a, &[("stream_broken", 3), ("malformed", 1), ("segment_known", 6)]);
    let letters = play.letters();
    assert!(letters.iter().all(|it| it.0 == "range_segment" && it.2 == "malformed"), "{letters:?}");
    assert_eq!(letters.len(), 1);

    // It ends as any other.
    play.assign(&[MOVE.committed()]);
    let generation = Generation(play.generation);
    let handover = Content::Handover { sums: stream(4).sums, floors: floors.into(), generation };
    play.send(&seal(stream(4).id, 4, handover));
    let listed = floors.map(|(partition, offset)| Floor { partition, offset }).to_vec();
    let via = Some(NodeId("ghost".into()));
    let watermark = Some(Watermark { floors: listed, via });
    play.write("a", &IndexUpdate { generation, entry: None, watermark });
    play.await_end(MOVE.id, Status::Complete);
    assert_eq!(play.await_read(&a, "z3", 2), "of z3");
    play.check_verified();
}

impl Play {
    fn send(&self, segment: &RangeSegment) {
        self.write("a", segment);
    }

    /// Waits until this stream is asked of the node that the test plays.
    fn await_request(&self, stream: u32) {
        await_that(&format!("a request of stream {stream}"), || {
            let all = self.world.values::<SegmentAck>();
            all.iter().any(|it| it.stream == stream).then_some(())
        });
    }
}

/// All segments of a stream up to END.
struct Stream {
    id: StreamId,
    segments: [RangeSegment; 4],
    sums: Sums,
}

impl Stream {
    fn new(number: u32, entries: &[Entry], floors: [(u32, u64); 1]) -> Self {
        let id = StreamId { migration: MigrationId(MOVE.id), number };
        let mut sums = Sums::default();
        entries.iter().for_each(|it| sums.add(it, &floors.into()));
        let (first, second) = entries.split_at(entries.len() / 2);
        let contents = [
            Content::Open(floors.into()),
            Content::Data(first.to_vec()),
            Content::Data(second.to_vec()),
            Content::End(sums),
        ];
        let mut seq = 0..;
        let segments = contents.map(|it| seal(id, seq.next().unwrap(), it));
        Self { id, segments, sums }
    }
}
