//! Folds the source table: what the index should hold, from the latest record of each primary key.

use std::collections::BTreeMap;

use schemas::Key;
use schemas::table::RowChanged;
use xxhash_rust::xxh3::xxh3_128;

/// What a record of the table says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    Row(RowChanged),
    /// No value: compaction takes the row away.
    Nothing,
    /// It cannot be used, as its dead letter says.
    Unreadable,
}

/// What the index should hold of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted<'a> {
    Entry(&'a Entry),
    None,
    /// The last record cannot be used: a worker that was fed by a channel and one that has scanned the
    /// table may hold different things of it.
    Unknown,
}

/// An entry, as far as it is compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub index_key: Key,
    /// Of the payload.
    pub digest: u128,
}

/// The table, folded.
#[derive(Debug, Default)]
pub struct Fold {
    rows: BTreeMap<Key, Row>,
    /// By partition: behind the last record that was read.
    next: BTreeMap<u32, u64>,
    /// Records without a primary key, which concern no row.
    pub nameless: u64,
}

#[derive(Debug)]
pub struct Row {
    pub partition: u32,
    pub offset: u64,
    said: State,
    /// One of its records could not be used, so an older entry may have been left behind.
    pub is_doubtful: bool,
    /// An active worker holds it as it should.
    pub is_seen: bool,
    /// How many entries of it are where none should be, and how many are of another version.
    pub extra: u32,
    pub stale: u32,
}

#[derive(Debug)]
enum State {
    Entry(Entry),
    None,
    Unknown,
}

impl Fold {
    /// Takes in the next record of a partition.
    pub fn record(&mut self, (partition, offset): (u32, u64), key: Option<Vec<u8>>, said: Said) {
        self.next.insert(partition, offset + 1);
        let Some(key) = key else {
            self.nameless += 1;
            return;
        };
        let old = self.rows.get(&Key(key.clone()));
        let was_doubtful = old.is_some_and(|it| it.is_doubtful);
        let holds = old.is_some_and(|it| !matches!(it.said, State::None));
        let (said, is_doubtful) = match said {
            Said::Row(RowChanged { after: Some(index_key), payload, .. }) => {
                let digest = digest(payload.as_deref().unwrap_or_default());
                (State::Entry(Entry { index_key, digest }), was_doubtful)
            }
            Said::Row(RowChanged { after: None, .. }) => (State::None, was_doubtful),
            // After a deletion, nothing new; else a channel passes over it.
            Said::Nothing if !holds => (State::None, was_doubtful),
            Said::Nothing | Said::Unreadable => (State::Unknown, true),
        };
        let (is_seen, extra, stale) = (false, 0, 0);
        let row = Row { partition, offset, said, is_doubtful, is_seen, extra, stale };
        self.rows.insert(Key(key), row);
    }

    /// By partition, behind the last record that was read.
    pub fn ends(&self) -> &BTreeMap<u32, u64> {
        &self.next
    }

    pub fn row(&self, primary_key: &Key) -> Option<&Row> {
        self.rows.get(primary_key)
    }

    pub fn rows(&self) -> impl Iterator<Item = (&Key, &Row)> {
        self.rows.iter()
    }

    pub fn row_mut(&mut self, primary_key: &Key) -> Option<&mut Row> {
        self.rows.get_mut(primary_key)
    }

    /// Begins to compare anew.
    pub fn unsee(&mut self) {
        for it in self.rows.values_mut() {
            (it.is_seen, it.extra, it.stale) = (false, 0, 0);
        }
    }
}

impl Row {
    pub fn wanted(&self) -> Wanted<'_> {
        match &self.said {
            State::Entry(entry) => Wanted::Entry(entry),
            State::None => Wanted::None,
            State::Unknown => Wanted::Unknown,
        }
    }

    /// Tells whether it has no entry: it was deleted, or has no index key.
    pub fn has_none(&self) -> bool {
        match self.said {
            State::None => true,
            State::Entry(_) | State::Unknown => false,
        }
    }

    /// Tells whether it has changed behind these ends.
    pub fn is_behind(&self, ends: &BTreeMap<u32, u64>) -> bool {
        ends.get(&self.partition).copied().unwrap_or(0) <= self.offset
    }
}

pub fn digest(payload: &[u8]) -> u128 {
    xxh3_128(payload)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(records: &[Said], wanted: &str) {
        let mut fold = Fold::default();
        for (offset, said) in (7..).zip(records) {
            fold.record((2, offset), Some(b"p".to_vec()), said.clone());
        }
        let row = fold.row(&Key(b"p".to_vec())).unwrap();
        let told = match row.wanted() {
            Wanted::Entry(it) => it.index_key.to_string(),
            Wanted::None => "none".into(),
            Wanted::Unknown => "unknown".into(),
        };
        let told = if row.is_doubtful { format!("{told}, doubtful") } else { told };
        assert_eq!(told, wanted, "{records:?}");
        assert_eq!(fold.ends(), &BTreeMap::from([(2, 7 + records.len() as u64)]));
    }

    #[test]
    fn latest_record_of_a_row_says_all() {
        let row = |before: Option<&str>, after: Option<&str>| {
            let key = |it: Option<&str>| it.map(|it| Key(it.into()));
            Said::Row(RowChanged { before: key(before), after: key(after), payload: None })
        };
        check(&[row(None, Some("a"))], "a");
        check(&[row(None, Some("a")), row(Some("a"), Some("b"))], "b");
        // Whatever it says of what was before.
        check(&[row(None, Some("a")), row(None, Some("b"))], "b");
        check(&[row(None, Some("a")), row(Some("a"), None)], "none");
        check(&[row(None, Some("a")), row(Some("a"), None), Said::Nothing], "none");
        check(&[Said::Nothing], "none");
        check(&[row(None, Some("a")), Said::Nothing], "unknown, doubtful");
        check(&[Said::Unreadable], "unknown, doubtful");
        check(&[row(None, Some("a")), Said::Unreadable, row(Some("b"), Some("c"))], "c, doubtful");
    }
}
