//! Decides what writes change, on top of what is stored, and keeps that until it is committed.

use std::ops::Bound;

use fjall::{Keyspace, OwnedWriteBatch, UserKey, UserValue};
use schemas::range_segment::{Entry, Floor};
use schemas::{Generation, Key, KeySpan};

use super::merge::{Bounds, Overlay, merged};
use super::{Tables, failed};
use crate::store::{
    Aside, Batch, EntryKey, Outcome, Scan, StoreError, Write, is_below, key, value,
};
use crate::transfer::segment::entry_bytes;

/// The step that is staged.
#[derive(Default)]
pub(super) struct Staged {
    entries: Overlay,
    aside: Overlay,
    rows: Overlay,
    /// Where keys and values are written before they are known to be needed.
    key: Vec<u8>,
    value: Vec<u8>,
}

impl Staged {
    pub(super) fn write(&mut self, tables: &Tables, write: Write) -> Result<Outcome, StoreError> {
        Ok(match write {
            Write::Put(entry) => match self.put(&tables.entries, &entry)? {
                Some(replaced) => Outcome::Changed { replaced },
                None => Outcome::Superseded,
            },
            Write::Forget(EntryKey { index_key, primary_key }) => {
                Outcome::Forgotten { was: self.forget(&tables.entries, index_key, primary_key)? }
            }
            Write::Aside(entry) => {
                self.encode_key(&entry);
                let held = get(&tables.aside, &self.aside, &self.key)?;
                if held.is_none_or(|it| value::offset(&it).is_none_or(|it| it < entry.offset)) {
                    self.value.clear();
                    value::encode(&entry, &mut self.value);
                    self.aside.insert(key_of(&self.key), Some(value_of(&self.value)));
                }
                Outcome::Kept
            }
            Write::PutAside { span, below, after, max } => {
                self.put_aside(tables, &span, &below, after.as_ref(), max)?
            }
            Write::Erase { span, aside, after, max } => {
                self.erase(tables, &span, aside, after.as_ref(), max)?
            }
            Write::Collect { span, below, after, max } => {
                self.collect(&tables.entries, &span, &below, after.as_ref(), max)?
            }
            Write::Row { scan, primary_key, entries } => {
                self.row(tables, scan, primary_key, entries)?
            }
            Write::EndScan { scan, after, max } => {
                let rows = merged(&tables.rows, &self.rows, rows_of(scan, after.as_ref()));
                let (found, end) = first_keys(rows, max)?;
                self.rows.extend(found.into_iter().map(|it| (it, None)));
                let primary_key = |it: UserKey| Key(it[SCAN_BYTES..].to_vec());
                Outcome::Ended { after: end.map(primary_key) }
            }
        })
    }

    /// Adds the step to a batch, and returns how many bytes it is.
    pub(super) fn add_to(&self, tables: &Tables, batch: &mut OwnedWriteBatch) -> u64 {
        let mut bytes = 0;
        let overlays = [
            (&tables.entries, &self.entries),
            (&tables.aside, &self.aside),
            (&tables.rows, &self.rows),
        ];
        for (table, overlay) in overlays {
            for (key, value) in overlay {
                bytes += key.len() + value.as_ref().map_or(0, |it| it.len());
                match value {
                    Some(value) => batch.insert(table, key.clone(), value.clone()),
                    None => batch.remove(table, key.clone()),
                }
            }
        }
        bytes as u64
    }

    /// The later version wins; returns what it replaces, or `None` if it changes nothing.
    fn put(
        &mut self,
        table: &Keyspace,
        entry: &Entry,
    ) -> Result<Option<Option<Entry>>, StoreError> {
        self.encode_key(entry);
        let held = get(table, &self.entries, &self.key)?;
        let held_offset = held.as_ref().and_then(|it| value::offset(it));
        if held_offset.is_some_and(|it| entry.offset <= it) {
            return Ok(None);
        }
        let replaced = held.map(|it| {
            let (index_key, primary_key) = (entry.index_key.clone(), entry.primary_key.clone());
            value::decode_under(index_key, primary_key, &it)
                .ok_or_else(|| value::no_entry(&self.key))
        });
        let replaced = replaced.transpose()?;
        self.value.clear();
        value::encode(entry, &mut self.value);
        self.entries.insert(key_of(&self.key), Some(value_of(&self.value)));
        Ok(Some(replaced))
    }

    fn forget(
        &mut self,
        table: &Keyspace,
        index_key: Key,
        primary_key: Key,
    ) -> Result<Option<Entry>, StoreError> {
        self.key.clear();
        key::encode(&index_key, &primary_key, &mut self.key);
        let Some(held) = get(table, &self.entries, &self.key)? else { return Ok(None) };
        self.entries.insert(key_of(&self.key), None);
        value::decode(&self.key, &held).map(Some)
    }

    fn put_aside(
        &mut self,
        tables: &Tables,
        span: &KeySpan,
        below: &[Floor],
        after: Option<&EntryKey>,
        max: usize,
    ) -> Result<Outcome, StoreError> {
        let all = merged(&tables.aside, &self.aside, key::bounds(span, after));
        let (found, end) = first_entries(all, max)?;
        let mut changed = Vec::new();
        for (key, value) in found {
            let entry = value::decode(&key, &value)?;
            self.aside.insert(key_of(&key), None);
            if !is_below(below, &entry)
                && let Some(replaced) = self.put(&tables.entries, &entry)?
            {
                changed.push((entry, replaced));
            }
        }
        Ok(Outcome::Drained { changed, after: cursor(end)? })
    }

    fn erase(
        &mut self,
        tables: &Tables,
        span: &KeySpan,
        aside: Aside,
        after: Option<&EntryKey>,
        max: usize,
    ) -> Result<Outcome, StoreError> {
        let (start, end) = key::bounds(span, after);
        let bounds = (start.clone(), end.clone());
        let entries = first_keys(merged(&tables.entries, &self.entries, bounds), max)?;
        let aside = match aside {
            Aside::Stays => (Vec::new(), None),
            Aside::Goes => {
                // No further: what went from aside long ago is passed once, and not by every batch.
                let end = entries.1.as_ref().map_or(end, |it| Bound::Included(it.to_vec()));
                first_keys(merged(&tables.aside, &self.aside, (start, end)), max)?
            }
        };
        // Up to where both were looked at.
        let end = [entries.1, aside.1].into_iter().flatten().min();
        let goes = |key: UserKey| end.as_ref().is_none_or(|end| key <= *end).then_some((key, None));
        self.entries.extend(entries.0.into_iter().filter_map(goes));
        self.aside.extend(aside.0.into_iter().filter_map(goes));
        Ok(Outcome::Erased { after: cursor(end)? })
    }

    fn collect(
        &mut self,
        table: &Keyspace,
        span: &KeySpan,
        below: &[Floor],
        after: Option<&EntryKey>,
        max: usize,
    ) -> Result<Outcome, StoreError> {
        let all = merged(table, &self.entries, key::bounds(span, after));
        let (found, end) = first_entries(all, max)?;
        let (mut went, mut entries, mut bytes) = (Vec::new(), 0, 0);
        for (key, value) in found {
            let entry = value::decode(&key, &value)?;
            if entry.payload.is_some() {
                entries += 1;
                bytes += entry_bytes(&entry) as u64;
            } else if is_below(below, &entry) {
                self.entries.insert(key_of(&key), None);
                went.push(entry);
            }
        }
        Ok(Outcome::Collected { went, entries, bytes, after: cursor(end)? })
    }

    fn row(
        &mut self,
        tables: &Tables,
        scan: Scan,
        primary_key: Key,
        entries: Vec<Entry>,
    ) -> Result<Outcome, StoreError> {
        let keys: Vec<_> = entries.iter().map(|it| &it.index_key).collect();
        let row = row_key(scan, &primary_key);
        let before = get(&tables.rows, &self.rows, &row)?;
        let before: Vec<Key> = match &before {
            Some(it) => {
                postcard::from_bytes(it).map_err(|it| StoreError::Broken(it.to_string()))?
            }
            None => Vec::new(),
        };
        if !(keys.is_empty() && before.is_empty()) {
            let names = postcard::to_stdvec(&keys).expect("keys have a plain form");
            let value = (!keys.is_empty()).then(|| value_of(&names));
            self.rows.insert(key_of(&row), value);
        }
        let mut went = Vec::new();
        for index_key in before.into_iter().filter(|it| !keys.contains(&it)) {
            went.extend(self.forget(&tables.entries, index_key, primary_key.clone())?);
        }
        let mut changed = Vec::new();
        for entry in entries {
            if let Some(replaced) = self.put(&tables.entries, &entry)? {
                changed.push((entry, replaced));
            }
        }
        Ok(Outcome::Read { went, changed })
    }

    fn encode_key(&mut self, entry: &Entry) {
        self.key.clear();
        key::encode(&entry.index_key, &entry.primary_key, &mut self.key);
    }
}

/// The generation, before the primary key in the key of a row.
const SCAN_BYTES: usize = 8;

fn row_key(Scan(Generation(generation)): Scan, primary_key: &Key) -> Vec<u8> {
    let mut res = Vec::with_capacity(SCAN_BYTES + primary_key.0.len());
    res.extend(generation.to_be_bytes());
    res.extend(&primary_key.0);
    res
}

fn rows_of(scan: Scan, after: Option<&Key>) -> Bounds {
    let start = match after {
        Some(after) => Bound::Excluded(row_key(scan, after)),
        None => Bound::Included(row_key(scan, &Key::default())),
    };
    let Scan(Generation(generation)) = scan;
    let next = generation.checked_add(1).map(|it| Scan(Generation(it)));
    (start, next.map_or(Bound::Unbounded, |it| Bound::Excluded(row_key(it, &Key::default()))))
}

fn get(table: &Keyspace, overlay: &Overlay, key: &[u8]) -> Result<Option<UserValue>, StoreError> {
    match overlay.get(key) {
        Some(staged) => Ok(staged.clone()),
        None => table.get(key).map_err(|err| failed(&err)),
    }
}

/// Returns so many of them, or fewer if their payloads are large, and the last one, if there are more behind it.
fn first<T>(
    all: impl Iterator<Item = Result<T, StoreError>>,
    max: usize,
    payload_bytes: impl Fn(&T) -> usize,
) -> Result<(Vec<T>, bool), StoreError> {
    let (mut found, mut batch) = (Vec::new(), Batch::new(max));
    for it in all {
        let it = it?;
        if !batch.takes(payload_bytes(&it)) {
            return Ok((found, true));
        }
        found.push(it);
    }
    Ok((found, false))
}

/// Returns entries, and the key of the last one, if there are more behind it.
#[expect(clippy::type_complexity, reason = "both are taken apart at once")]
fn first_entries(
    all: impl Iterator<Item = Result<(UserKey, UserValue), StoreError>>,
    max: usize,
) -> Result<(Vec<(UserKey, UserValue)>, Option<UserKey>), StoreError> {
    let (found, is_more) = first(all, max, |it| value::payload_bytes(&it.1))?;
    let last = found.last().filter(|_| is_more).map(|it| it.0.clone());
    Ok((found, last))
}

/// The same, of the keys alone.
fn first_keys(
    all: impl Iterator<Item = Result<(UserKey, UserValue), StoreError>>,
    max: usize,
) -> Result<(Vec<UserKey>, Option<UserKey>), StoreError> {
    let keys = all.map(|it| it.map(|(key, _)| key_of(&key)));
    let (found, is_more) = first(keys, max, |_| 0)?;
    let last = found.last().filter(|_| is_more).cloned();
    Ok((found, last))
}

fn cursor(end: Option<UserKey>) -> Result<Option<EntryKey>, StoreError> {
    let decode = |it: UserKey| key::decode(&it).ok_or_else(|| value::no_entry(&it));
    end.map(decode).transpose()
}

/// A key of its own: one that was read shares its memory with the whole block that it is from, which a write
/// buffer would keep for as long, and not count.
fn key_of(bytes: &[u8]) -> UserKey {
    UserKey::from(bytes)
}

fn value_of(bytes: &[u8]) -> UserValue {
    UserValue::from(bytes)
}
