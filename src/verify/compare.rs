//! Compares what workers hold, entry by entry, with what the table says.
//!
//! * **All are counted, so many of each kind are kept** to be told. What is counted waits with its row for
//!   what the table says in the end.

use std::collections::BTreeMap;

use schemas::{Key, KeySpan, NodeId};

use super::fold::{Fold, Row, Wanted, digest};
use crate::web::held::{Held, Role};
use crate::web::reads::FoundEntry;

/// Something that is not as the table says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    pub kind: Kind,
    /// Who holds it, or should.
    pub node: Option<NodeId>,
    pub index_key: Key,
    pub primary_key: Key,
    pub detail: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// The table has it, the owner has not.
    Missing,
    /// The owner has it, the table has not, or not any more.
    Extra,
    /// The owner has another version of it, or another payload.
    Stale,
    /// A worker has it in an interval in which it has no role.
    Foreign,
}

impl Kind {
    pub const ALL: [Self; 4] = [Self::Missing, Self::Extra, Self::Stale, Self::Foreign];

    pub fn name(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Extra => "extra",
            Self::Stale => "stale",
            Self::Foreign => "foreign",
        }
    }
}

/// So many of each kind are kept.
const FOUND_MAX: usize = 1_000;

/// What was compared so far.
#[derive(Debug, Default)]
pub struct Comparison {
    found: BTreeMap<Kind, Vec<Found>>,
    foreign: u64,
    /// How many entries there are of rows that the table did not have, by primary key.
    strangers: BTreeMap<Key, u64>,
    /// Active intervals, and whose they are.
    active: BTreeMap<Key, (KeySpan, NodeId)>,
    /// Entries that were compared, and those in intervals that are on their way, which were not.
    pub entries: u64,
    pub on_the_way: u64,
}

/// What came of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// In the order of kinds and keys; not all, if there are many.
    pub found: Vec<Found>,
    /// All.
    pub counts: BTreeMap<Kind, u64>,
    /// Rows that have changed since the end that was read first.
    pub changing: u64,
    /// Rows with records that cannot be used: what is left of them is not told from what should be.
    pub doubtful: u64,
}

impl Verdict {
    pub fn count(&self, kind: Kind) -> u64 {
        self.counts.get(&kind).copied().unwrap_or_default()
    }

    pub fn is_clean(&self) -> bool {
        Kind::ALL.into_iter().all(|it| self.count(it) == 0)
    }
}

impl Comparison {
    /// Takes in a page of a worker.
    pub fn page(&mut self, fold: &mut Fold, page: &Held) {
        let node = &page.node;
        for it in page.intervals.iter().filter(|it| it.role == Role::Active) {
            self.active.insert(it.range_start.clone(), (it.span(), node.clone()));
        }
        for entry in &page.entries {
            let interval = page.intervals.iter().find(|it| it.span().contains(&entry.index_key.0));
            match interval.map(|it| it.role) {
                None => {
                    let detail = format!("{} has no role there", page.node);
                    self.foreign += 1;
                    self.tell(Kind::Foreign, node, entry, detail);
                }
                Some(Role::Active) => self.entry(fold, node, entry),
                Some(
                    Role::Erasing
                    | Role::Import
                    | Role::Applying
                    | Role::Rebuild
                    | Role::Leaving
                    | Role::Unknown,
                ) => self.on_the_way += 1,
            }
        }
    }

    fn entry(&mut self, fold: &mut Fold, node: &NodeId, it: &FoundEntry) {
        self.entries += 1;
        let Some(row) = fold.row_mut(&it.primary_key) else {
            *self.strangers.entry(it.primary_key.clone()).or_default() += 1;
            self.tell(Kind::Extra, node, it, "the table has no such row".into());
            return;
        };
        let wanted = match row.wanted() {
            Wanted::Entry(entry) if entry.index_key == it.index_key => entry,
            Wanted::Entry(entry) => {
                let detail = format!("the row is at {} now", entry.index_key);
                row.extra += 1;
                self.tell(Kind::Extra, node, it, detail);
                return;
            }
            Wanted::None => {
                row.extra += 1;
                self.tell(Kind::Extra, node, it, "the row was deleted".into());
                return;
            }
            Wanted::Unknown => return,
        };
        let version = (row.partition, row.offset);
        if (it.partition, it.offset) != version {
            let detail = format!(
                "it is of {}:{}, and the row of {}:{}",
                it.partition, it.offset, version.0, version.1
            );
            row.stale += 1;
            self.tell(Kind::Stale, node, it, detail);
        } else if digest(&it.payload) != wanted.digest {
            row.stale += 1;
            self.tell(Kind::Stale, node, it, "its payload is another".into());
        } else {
            row.is_seen = true;
        }
    }

    fn tell(&mut self, kind: Kind, node: &NodeId, it: &FoundEntry, detail: String) {
        let (index_key, primary_key) = (it.index_key.clone(), it.primary_key.clone());
        self.keep(Found { kind, node: Some(node.clone()), index_key, primary_key, detail });
    }

    fn keep(&mut self, it: Found) {
        let kept = self.found.entry(it.kind).or_default();
        if kept.len() < FOUND_MAX {
            kept.push(it);
        }
    }

    /// Ends it: all pages were taken in, and `fold` is of later than the last of them. `ends` are those
    /// that the workers had reached before the first.
    pub fn verdict(mut self, fold: &Fold, ends: &BTreeMap<u32, u64>) -> Verdict {
        let mut res = Verdict::default();
        let [mut missing, mut extra, mut stale] = [0; 3];
        for (primary_key, n) in &self.strangers {
            let counts = fold.row(primary_key).is_none_or(|it| counts(Kind::Extra, it, ends));
            extra += if counts { *n } else { 0 };
        }
        for (primary_key, row) in fold.rows() {
            res.changing += u64::from(row.is_behind(ends));
            res.doubtful += u64::from(row.is_doubtful);
            extra += if counts(Kind::Extra, row, ends) { u64::from(row.extra) } else { 0 };
            stale += if counts(Kind::Stale, row, ends) { u64::from(row.stale) } else { 0 };
            let Wanted::Entry(entry) = row.wanted() else { continue };
            // A version that is not the latest stands for the entry, and is told already.
            if row.is_seen || row.is_behind(ends) || row.stale > 0 {
                continue;
            }
            // In a gap nobody can have it, and the gap is told.
            let Some(node) = self.owner(&entry.index_key) else { continue };
            let detail = format!("the row is of {}:{}", row.partition, row.offset);
            let (index_key, primary_key) = (entry.index_key.clone(), primary_key.clone());
            let (kind, node) = (Kind::Missing, Some(node.clone()));
            missing += 1;
            self.keep(Found { kind, node, index_key, primary_key, detail });
        }
        res.counts = BTreeMap::from([
            (Kind::Missing, missing),
            (Kind::Extra, extra),
            (Kind::Stale, stale),
            (Kind::Foreign, self.foreign),
        ]);
        res.found = self.found.into_values().flatten().collect();
        res.found
            .retain(|it| fold.row(&it.primary_key).is_none_or(|row| counts(it.kind, row, ends)));
        res.found.sort_by(|a, b| {
            (a.kind, &a.index_key, &a.primary_key).cmp(&(b.kind, &b.index_key, &b.primary_key))
        });
        res
    }

    fn owner(&self, key: &Key) -> Option<&NodeId> {
        let (_, (span, node)) = self.active.range(..=key).next_back()?;
        span.contains(&key.0).then_some(node)
    }
}

/// Tells whether a fault of a row is one, by what the table says in the end.
fn counts(kind: Kind, row: &Row, ends: &BTreeMap<u32, u64>) -> bool {
    match kind {
        Kind::Foreign | Kind::Missing => true,
        Kind::Stale => !row.is_behind(ends),
        Kind::Extra => !row.is_behind(ends) && !row.is_doubtful,
    }
}

#[cfg(test)]
mod tests;
