//! Says what a worker remembers: what it holds of which interval, and how far it has read.
//!
//! Each piece is a state of the store under a name of its own, so a step stores what it changed.

use std::collections::{BTreeMap, BTreeSet};

use schemas::migration_status::MigrationStatus;
use schemas::range_segment::Entry;
use schemas::{Epoch, Generation, Inbox, Key, KeySpan, MigrationId, Millis, NodeId};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::events::Source;
use crate::store::{Aside, EntryKey, Scan, State, States};
use crate::transfer::digest::Floors;
use crate::transfer::receiver::Receiver;
use crate::transfer::segment::entry_bytes;

/// An interval, and what this node is to it. Intervals are disjoint; what is in none has no role.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    pub span: KeySpan,
    pub role: Role,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Role {
    Active(Active),
    Erasing(Erasing),
    Import(Import),
    Applying(Applying),
    Rebuild(Rebuild),
    Leaving(Leaving),
}

/// The owner, which applies and serves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Active {
    pub epoch: Epoch,
    /// Of the generation that brought it here: older watermarks say nothing of it.
    pub commit: Generation,
    pub floors: Floors,
    /// Where updates may still be on their way from; `None`: drained.
    pub drain: Option<Import>,
    pub size: Size,
}

/// What a range holds; after a split estimated, until all of it was looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Size {
    pub entries: u64,
    pub bytes: u64,
}

/// What is stored of the interval goes, batch by batch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Erasing {
    pub after: Option<EntryKey>,
    pub then: Then,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Then {
    None,
    /// Entries and what is aside go.
    Import(Import),
    /// What an earlier stream has staged goes; what is aside stays.
    NextStream(Import),
    Rebuild(Rebuild),
    /// What a scan has put that took too long goes; what is aside stays.
    ScanAnew(Rebuild),
}

/// The destination of a migration, before it serves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Import {
    pub migration: MigrationId,
    pub source: NodeId,
    pub source_inbox: Inbox,
    pub source_epoch: Epoch,
    /// Of the START.
    pub generation: Generation,
    pub bandwidth_bytes_per_s: u64,
    pub receiver: Receiver,
    pub bytes: u64,
    /// READY was said: FAILED is said no more, but in answer to CANCEL.
    pub ready: bool,
    /// Partitions of which a watermark came by the source.
    pub via: BTreeSet<u32>,
}

/// Whole, but for what is kept aside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Applying {
    pub epoch: Epoch,
    pub commit: Generation,
    pub floors: Floors,
    pub after: Option<EntryKey>,
    pub from: Origin,
    pub size: Size,
}

/// Where a range that is being applied came from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Origin {
    Node(Import),
    Table { migration: Option<MigrationId> },
}

/// The range comes from the source table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rebuild {
    pub epoch: Epoch,
    pub scan: Scan,
    pub migration: Option<MigrationId>,
    pub size: Size,
}

/// The range is another's, which is not known to be done with it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leaving {
    /// That of the new owner.
    pub epoch: Epoch,
    pub frozen: Epoch,
    pub commit: Generation,
    pub to: NodeId,
    pub to_inbox: Inbox,
    pub migration: MigrationId,
    pub floors: Floors,
    pub handed: bool,
    /// Partitions of which a watermark was passed on.
    pub passed: BTreeSet<u32>,
    /// When the migration was seen to be complete.
    pub ended: Option<Millis>,
}

/// What the source remembers of a migration from its START to its end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outgoing {
    pub span: KeySpan,
    pub source_epoch: Epoch,
    pub to: NodeId,
    pub to_inbox: Inbox,
    pub bandwidth_bytes_per_s: u64,
    /// The number of the newest stream; 0 before the first one.
    pub stream: u32,
    /// How many streams were given up for what waited.
    pub backlogs: u32,
}

/// A scan of `table`, by partition.
pub type Scanning = BTreeMap<u32, Scanned>;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scanned {
    pub position: u64,
    /// The floor that it gives.
    pub done: Option<u64>,
    /// When it began, or last came to an end: deletions since then are yet to be seen.
    pub since: Millis,
}

/// The last direct watermark of a partition; ordered as they come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Mark {
    pub generation: Generation,
    pub offset: u64,
}

/// All that a worker remembers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Remembered {
    /// By start.
    pub roles: BTreeMap<Key, Held>,
    pub outgoing: BTreeMap<MigrationId, Outgoing>,
    /// The newest word of each migration here, until its end was read back.
    pub words: BTreeMap<MigrationId, MigrationStatus>,
    pub scans: BTreeMap<Scan, Scanning>,
    /// Scans that are over, while their rows are forgotten; behind which key to go on.
    pub ended_scans: BTreeMap<Scan, Option<Key>>,
    pub marks: BTreeMap<u32, Mark>,
    /// Where to go on reading.
    pub positions: BTreeMap<Source, u64>,
    /// The generation that the roles are by.
    pub generation: Generation,
}

/// The name of a piece.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Name {
    Role(Key),
    Outgoing(MigrationId),
    Word(MigrationId),
    Scan(Scan),
    EndedScan(Scan),
    Mark(u32),
    Position(Source),
    Generation,
}

/// The names of the store's states are those of the worker behind this.
const PREFIX: &[u8] = b"worker/1/";

/// What is stored cannot be read.
#[derive(Debug, Error)]
#[error("the state {name:?} is not as this program writes it: {reason}")]
pub struct Unreadable {
    name: Vec<u8>,
    reason: postcard::Error,
}

impl Remembered {
    /// Reads what was stored. States of others are left alone.
    pub fn read(states: &States) -> Result<Self, Unreadable> {
        let mut res = Self::default();
        for (name, value) in states {
            let Some(rest) = name.strip_prefix(PREFIX) else { continue };
            let taken = res.take(rest, value);
            taken.map_err(|reason| Unreadable { name: name.clone(), reason })?;
        }
        Ok(res)
    }

    fn take(&mut self, name: &[u8], value: &[u8]) -> Result<(), postcard::Error> {
        fn of<T: DeserializeOwned>(value: &[u8]) -> Result<T, postcard::Error> {
            postcard::from_bytes(value)
        }
        match of(name)? {
            Name::Role(start) => _ = self.roles.insert(start, of(value)?),
            Name::Outgoing(id) => _ = self.outgoing.insert(id, of(value)?),
            Name::Word(id) => _ = self.words.insert(id, of(value)?),
            Name::Scan(scan) => _ = self.scans.insert(scan, of(value)?),
            Name::EndedScan(scan) => _ = self.ended_scans.insert(scan, of(value)?),
            Name::Mark(partition) => _ = self.marks.insert(partition, of(value)?),
            Name::Position(source) => _ = self.positions.insert(source, of(value)?),
            Name::Generation => self.generation = of(value)?,
        }
        Ok(())
    }

    /// Returns a piece as it is to be stored; nothing, if there is none any more.
    pub fn state(&self, name: &Name) -> State {
        fn some<T: Serialize>(value: Option<&T>) -> Option<Vec<u8>> {
            value.map(|it| postcard::to_stdvec(it).expect("plain values have a form"))
        }
        let value = match name {
            Name::Role(start) => some(self.roles.get(start)),
            Name::Outgoing(id) => some(self.outgoing.get(id)),
            Name::Word(id) => some(self.words.get(id)),
            Name::Scan(scan) => some(self.scans.get(scan)),
            Name::EndedScan(scan) => some(self.ended_scans.get(scan)),
            Name::Mark(partition) => some(self.marks.get(partition)),
            Name::Position(source) => some(self.positions.get(source)),
            Name::Generation => some(Some(&self.generation)),
        };
        ([PREFIX, &postcard::to_stdvec(name).expect("a name has a form")].concat(), value)
    }

    /// Returns what is held of the interval that a key is in.
    pub fn at(&self, key: &Key) -> Option<&Held> {
        let (_, held) = self.roles.range(..=key).next_back()?;
        held.span.contains(&key.0).then_some(held)
    }

    /// Returns the starts of what overlaps an interval, in key order.
    pub fn overlapping(&self, span: &KeySpan) -> Vec<Key> {
        let first = self.at(&span.start).map_or(&span.start, |it| &it.span.start);
        let behind = self.roles.range(first..).map(|it| it.1);
        let inside = behind.take_while(|it| it.span.overlaps(span));
        inside.map(|it| it.span.start.clone()).collect()
    }
}

impl Role {
    pub fn active(&self) -> Option<&Active> {
        if let Self::Active(it) = self { Some(it) } else { None }
    }

    pub fn leaving(&self) -> Option<&Leaving> {
        if let Self::Leaving(it) = self { Some(it) } else { None }
    }

    /// Returns when the migration of what has left was seen to be complete.
    pub fn ended(&self) -> Option<Millis> {
        self.leaving()?.ended
    }

    /// Returns the import that has become active, while updates by its source are still on their way.
    pub fn draining(&self) -> Option<&Import> {
        self.active()?.drain.as_ref()
    }

    /// Returns the import that this is, or is on its way to, or was a moment ago.
    pub fn import(&self) -> Option<&Import> {
        match self {
            Self::Import(it)
            | Self::Applying(Applying { from: Origin::Node(it), .. })
            | Self::Erasing(Erasing { then: Then::Import(it) | Then::NextStream(it), .. }) => {
                Some(it)
            }
            Self::Active(_)
            | Self::Erasing(Erasing {
                then: Then::None | Then::Rebuild(_) | Then::ScanAnew(_),
                ..
            })
            | Self::Applying(Applying { from: Origin::Table { .. }, .. })
            | Self::Rebuild(_)
            | Self::Leaving(_) => None,
        }
    }

    /// As [`Role::import`], to be changed.
    pub fn import_mut(&mut self) -> Option<&mut Import> {
        match self {
            Self::Import(it)
            | Self::Applying(Applying { from: Origin::Node(it), .. })
            | Self::Erasing(Erasing { then: Then::Import(it) | Then::NextStream(it), .. }) => {
                Some(it)
            }
            Self::Active(_)
            | Self::Erasing(Erasing {
                then: Then::None | Then::Rebuild(_) | Then::ScanAnew(_),
                ..
            })
            | Self::Applying(Applying { from: Origin::Table { .. }, .. })
            | Self::Rebuild(_)
            | Self::Leaving(_) => None,
        }
    }
}

impl Size {
    /// Takes in that an entry was put, and what it replaced.
    pub(super) fn change(&mut self, entry: &Entry, replaced: Option<&Entry>) {
        self.put(live_bytes(entry), replaced);
    }

    /// As [`Size::change`], of an entry that counts so much, if it is live.
    pub(super) fn put(&mut self, bytes: Option<u64>, replaced: Option<&Entry>) {
        if let Some(replaced) = replaced {
            self.went(replaced);
        }
        if let Some(bytes) = bytes {
            self.entries += 1;
            self.bytes += bytes;
        }
    }

    /// Takes in that an entry is there no more.
    pub(super) fn went(&mut self, entry: &Entry) {
        if let Some(bytes) = live_bytes(entry) {
            self.entries = self.entries.saturating_sub(1);
            self.bytes = self.bytes.saturating_sub(bytes);
        }
    }
}

/// Returns what a live entry counts.
pub(super) fn live_bytes(entry: &Entry) -> Option<u64> {
    entry.payload.as_ref().map(|_| entry_bytes(entry) as u64)
}

impl Then {
    /// What becomes of the entries aside.
    pub fn aside(&self) -> Aside {
        match self {
            Self::None | Self::Import(_) | Self::Rebuild(_) => Aside::Goes,
            Self::NextStream(_) | Self::ScanAnew(_) => Aside::Stays,
        }
    }
}
