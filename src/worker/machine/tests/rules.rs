//! One rule a test, by hand: who reads what when. The rules are those of `docs/protocol.md`.

mod order;
mod commands;
mod copy;
mod cut_over;
mod roles;
mod rebuild;

use schemas::migrate_range::{Command, MigrateRange};
use schemas::migration_status::{MigrationStatus, Status};
use schemas::range_segment::{Entry, Kind};
use schemas::segment_ack::SegmentAck;
use schemas::{Generation, MigrationId};

use super::world::{World, key, node, settings, span};
use super::{From, Key};
use crate::transfer::digest::{Floors, Sums, by_partition};
use crate::transfer::segment::{Content, StreamId, seal, sums};
use crate::worker::events::{Ignored, Record, Settings, Source};
use crate::worker::states::Role;

const ALL: [Source; 5] =
    [Source::Status(0), Source::Command, Source::Ack, Source::Segment, Source::Update];

/// Nodes a and b, which have half of the keys each, at generation 1 and active; nobody has anything.
fn halves() -> World {
    let mut it = World::new(&["a", "b"]);
    it.assign(&[("", "m", "a", From::Table), ("m", "", "b", From::Table)]);
    it.live(1);
    it
}

/// As [`halves`], with rows 2 and 4 in a's half, and 6 in b's.
fn filled() -> World {
    let mut it = halves();
    it.row(2, Some("c"));
    it.row(4, Some("d"));
    it.row(6, Some("t"));
    it.live(1);
    it
}

/// All but the reading of the map goes on at both, until a's half is ready to go to b.
fn ready() -> World {
    let mut it = filled();
    it.hold_map("a");
    it.hold_map("b");
    it.start(span("", "m"), "b");
    it.settle();
    it.tick(1_000);
    it.settle();
    assert_eq!(it.map.generation().0, 2, "committed: {}", it.told());
    it
}

fn entry(index: &str, primary: u8, offset: u64) -> Entry {
    Entry {
        index_key: key(index),
        primary_key: Key(vec![primary]),
        partition: u32::from(primary) % 2,
        offset,
        payload: Some(b"x".to_vec()),
    }
}

fn tombstone(index: &str, primary: u8, offset: u64) -> Entry {
    Entry { payload: None, ..entry(index, primary, offset) }
}

/// Whether a worker has an entry with that version.
fn has(it: &World, name: &str, index: &str, offset: u64) -> bool {
    use crate::store::{Limit, Snapshot, Store};
    let limit = Limit { entries: usize::MAX, bytes: usize::MAX };
    let snapshot = it.nodes[&node(name)].runner.store().snapshot();
    let page = snapshot.page(&schemas::KeySpan::all(), None, limit).unwrap();
    page.entries.iter().any(|it| it.index_key == key(index) && it.offset == offset)
}
