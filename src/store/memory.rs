//! Stores in memory what the store on disk does, and can lose what was not synced: for simulation.
//!
//! ```text
//!  commit ──> image, image, image     crash(1) leaves the synced one and the first behind it
//!  sync   ──────────────────> image
//! ```
//!
//! * **The same outcomes**, step by step, as the store on disk: a test holds them equal.
//! * **Lost from the end.** A crash leaves a chosen number of the commits behind the last sync, in order.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use schemas::range_segment::{Entry, Floor};
use schemas::{Key, KeySpan};

use super::{
    Aside, Batch, EntryKey, Limit, Outcome, Page, Scan, Snapshot, State, States, Store, StoreError,
    Write, is_below,
};
use crate::transfer::segment::entry_bytes;

/// A store whose disk is a list of images.
#[derive(Clone, Debug, Default)]
pub struct MemoryStore {
    synced: Arc<Image>,
    /// What was committed since, oldest first.
    unsynced: Vec<Arc<Image>>,
    staged: Option<Image>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Image {
    entries: BTreeMap<EntryKey, Entry>,
    aside: BTreeMap<EntryKey, Entry>,
    /// The index keys that a scan has put of a row.
    rows: BTreeMap<(Scan, Key), Vec<Key>>,
    states: States,
}

/// The entries as of one moment.
#[derive(Clone, Debug)]
pub struct MemorySnapshot(Arc<Image>);

impl MemoryStore {
    /// Loses what is staged, and of the commits since the last sync all but the first `keep`.
    pub fn crash(&mut self, keep: usize) {
        self.staged = None;
        self.unsynced.truncate(keep);
        self.synced = self.committed().clone();
        self.unsynced.clear();
    }

    /// Returns how many commits a crash may lose.
    pub fn unsynced(&self) -> usize {
        self.unsynced.len()
    }

    fn committed(&self) -> &Arc<Image> {
        self.unsynced.last().unwrap_or(&self.synced)
    }
}

impl Store for MemoryStore {
    type Snapshot = MemorySnapshot;

    fn states(&self) -> Result<States, StoreError> {
        Ok(self.committed().states.clone())
    }

    fn stage(&mut self, writes: Vec<Write>) -> Result<Vec<Outcome>, StoreError> {
        let mut image = Image::clone(self.committed());
        let outcomes = writes.into_iter().map(|it| image.write(it)).collect();
        self.staged = Some(image);
        Ok(outcomes)
    }

    fn commit(&mut self, states: Vec<State>) -> Result<(), StoreError> {
        let staged = self.staged.take();
        let mut image = staged.unwrap_or_else(|| Image::clone(self.committed()));
        for (name, state) in states {
            match state {
                Some(state) => _ = image.states.insert(name, state),
                None => _ = image.states.remove(&name),
            }
        }
        self.unsynced.push(Arc::new(image));
        Ok(())
    }

    fn sync(&mut self) -> Result<(), StoreError> {
        self.synced = self.committed().clone();
        self.unsynced.clear();
        Ok(())
    }

    fn snapshot(&self) -> MemorySnapshot {
        MemorySnapshot(self.committed().clone())
    }
}

impl Image {
    fn write(&mut self, write: Write) -> Outcome {
        match write {
            Write::Put(entry) => match put(&mut self.entries, entry) {
                Some(replaced) => Outcome::Changed { replaced },
                None => Outcome::Superseded,
            },
            Write::Forget(key) => Outcome::Forgotten { was: self.entries.remove(&key) },
            Write::Aside(entry) => {
                put(&mut self.aside, entry);
                Outcome::Kept
            }
            Write::PutAside { span, below, after, max } => {
                self.put_aside(&span, &below, after.as_ref(), max)
            }
            Write::Erase { span, aside, after, max } => {
                self.erase(&span, aside, after.as_ref(), max)
            }
            Write::Collect { span, below, after, max } => {
                self.collect(&span, &below, after.as_ref(), max)
            }
            Write::Row { scan, primary_key, entries } => self.row(scan, primary_key, entries),
            Write::EndScan { scan, after, max } => self.end_scan(scan, after.as_ref(), max),
        }
    }

    fn put_aside(
        &mut self,
        span: &KeySpan,
        below: &[Floor],
        after: Option<&EntryKey>,
        max: usize,
    ) -> Outcome {
        let (keys, after) = first(keys_and_payloads(&self.aside, span, after), max);
        let mut changed = Vec::new();
        for key in keys {
            let entry = self.aside.remove(&key).expect("it was found there");
            if !is_below(below, &entry)
                && let Some(replaced) = put(&mut self.entries, entry.clone())
            {
                changed.push((entry, replaced));
            }
        }
        Outcome::Drained { changed, after }
    }

    fn erase(
        &mut self,
        span: &KeySpan,
        aside: Aside,
        after: Option<&EntryKey>,
        max: usize,
    ) -> Outcome {
        let bare = |it: EntryKey| (it, 0);
        let entries = first(keys(&self.entries, span, after).map(bare), max);
        let is_within = |it: &EntryKey| entries.1.as_ref().is_none_or(|end| it <= end);
        let aside = match aside {
            Aside::Stays => (Vec::new(), None),
            Aside::Goes => first(keys(&self.aside, span, after).filter(is_within).map(bare), max),
        };
        // Up to where both were looked at.
        let end = [entries.1, aside.1].into_iter().flatten().min();
        for (table, keys) in [(&mut self.entries, entries.0), (&mut self.aside, aside.0)] {
            for key in keys.iter().filter(|it| end.as_ref().is_none_or(|end| *it <= end)) {
                table.remove(key);
            }
        }
        Outcome::Erased { after: end }
    }

    fn collect(
        &mut self,
        span: &KeySpan,
        below: &[Floor],
        after: Option<&EntryKey>,
        max: usize,
    ) -> Outcome {
        let (looked, after) = first(keys_and_payloads(&self.entries, span, after), max);
        let (mut went, mut entries, mut bytes) = (Vec::new(), 0, 0);
        for key in looked {
            let goes = |it: &mut Entry| it.payload.is_none() && is_below(below, it);
            let entry = self.entries.get_mut(&key).expect("it was found there");
            if goes(entry) {
                went.extend(self.entries.remove(&key));
            } else if entry.payload.is_some() {
                entries += 1;
                bytes += entry_bytes(entry) as u64;
            }
        }
        Outcome::Collected { went, entries, bytes, after }
    }

    fn end_scan(&mut self, scan: Scan, after: Option<&Key>, max: usize) -> Outcome {
        let start = match after {
            Some(after) => Bound::Excluded((scan, after.clone())),
            None => Bound::Included((scan, Key::default())),
        };
        let rows = self.rows.range((start, Bound::Unbounded)).map(|it| it.0.clone());
        let (rows, after) = first(rows.take_while(|it| it.0 == scan).map(|it| (it, 0)), max);
        for row in &rows {
            self.rows.remove(row);
        }
        Outcome::Ended { after: after.map(|it| it.1) }
    }

    fn row(&mut self, scan: Scan, primary_key: Key, entries: Vec<Entry>) -> Outcome {
        let keys: Vec<_> = entries.iter().map(|it| it.index_key.clone()).collect();
        let row = (scan, primary_key.clone());
        let before = match keys.is_empty() {
            true => self.rows.remove(&row),
            false => self.rows.insert(row, keys.clone()),
        };
        let gone = before.unwrap_or_default().into_iter().filter(|it| !keys.contains(it));
        let went = gone.filter_map(|index_key| {
            self.entries.remove(&EntryKey { index_key, primary_key: primary_key.clone() })
        });
        let went = went.collect();
        let put = |entry: Entry| Some((entry.clone(), put(&mut self.entries, entry)?));
        Outcome::Read { went, changed: entries.into_iter().filter_map(put).collect() }
    }
}

/// The later version wins; returns what it replaces, or `None` if it changes nothing.
fn put(table: &mut BTreeMap<EntryKey, Entry>, entry: Entry) -> Option<Option<Entry>> {
    let key = EntryKey::of(&entry);
    if table.get(&key).is_some_and(|held| entry.offset <= held.offset) {
        return None;
    }
    Some(table.insert(key, entry))
}

fn within<'a>(
    table: &'a BTreeMap<EntryKey, Entry>,
    span: &'a KeySpan,
    after: Option<&EntryKey>,
) -> impl Iterator<Item = &'a Entry> + use<'a> {
    let start = EntryKey { index_key: span.start.clone(), primary_key: Key::default() };
    let start = match after.filter(|it| start <= **it) {
        Some(after) => Bound::Excluded(after.clone()),
        None => Bound::Included(start),
    };
    let range = table.range((start, Bound::Unbounded)).map(|it| it.1);
    range.take_while(|it| span.contains(&it.index_key.0))
}

fn keys<'a>(
    table: &'a BTreeMap<EntryKey, Entry>,
    span: &'a KeySpan,
    after: Option<&EntryKey>,
) -> impl Iterator<Item = EntryKey> + use<'a> {
    within(table, span, after).map(EntryKey::of)
}

fn keys_and_payloads<'a>(
    table: &'a BTreeMap<EntryKey, Entry>,
    span: &'a KeySpan,
    after: Option<&EntryKey>,
) -> impl Iterator<Item = (EntryKey, usize)> + use<'a> {
    let payload_bytes = |it: &Entry| it.payload.as_ref().map_or(0, Vec::len);
    within(table, span, after).map(move |it| (EntryKey::of(it), payload_bytes(it)))
}

/// Returns so many of them, or fewer if their payloads are large, and the last one, if there are more behind
/// it.
fn first<T: Clone>(all: impl Iterator<Item = (T, usize)>, max: usize) -> (Vec<T>, Option<T>) {
    let (mut found, mut batch) = (Vec::new(), Batch::new(max));
    for (it, payload_bytes) in all {
        if !batch.takes(payload_bytes) {
            let last = found.last().cloned();
            return (found, last);
        }
        found.push(it);
    }
    (found, None)
}

impl Snapshot for MemorySnapshot {
    fn page(
        &self,
        span: &KeySpan,
        after: Option<&EntryKey>,
        limit: Limit,
    ) -> Result<Page, StoreError> {
        Page::of(within(&self.0.entries, span, after).cloned().map(Ok), limit)
    }
}
