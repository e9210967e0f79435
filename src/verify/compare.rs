//! Compares what workers hold, entry by entry, with what the table says.

use std::collections::BTreeMap;

use schemas::{Key, KeySpan, NodeId};

use super::fold::{Fold, Wanted, digest};
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

/// What was compared so far.
#[derive(Debug, Default)]
pub struct Comparison {
    found: Vec<Found>,
    /// Active intervals, and whose they are.
    active: BTreeMap<Key, (KeySpan, NodeId)>,
    /// Entries that were compared, and those in intervals that are on their way, which were not.
    pub entries: u64,
    pub on_the_way: u64,
}

/// What came of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    pub found: Vec<Found>,
    /// Rows that have changed since the end that was read first.
    pub changing: u64,
    /// Rows with records that cannot be used: what is left of them is not told from what should be.
    pub doubtful: u64,
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
        let Some(row) = fold.row(&it.primary_key) else {
            self.tell(Kind::Extra, node, it, "the table has no such row".into());
            return;
        };
        let wanted = match row.wanted() {
            Wanted::Entry(entry) if entry.index_key == it.index_key => entry,
            Wanted::Entry(entry) => {
                let detail = format!("the row is at {} now", entry.index_key);
                self.tell(Kind::Extra, node, it, detail);
                return;
            }
            Wanted::None => {
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
            self.tell(Kind::Stale, node, it, detail);
        } else if digest(&it.payload) != wanted.digest {
            self.tell(Kind::Stale, node, it, "its payload is another".into());
        } else {
            fold.see(&it.primary_key);
        }
    }

    fn tell(&mut self, kind: Kind, node: &NodeId, it: &FoundEntry, detail: String) {
        let (index_key, primary_key) = (it.index_key.clone(), it.primary_key.clone());
        self.found.push(Found { kind, node: Some(node.clone()), index_key, primary_key, detail });
    }

    /// Ends it: all pages were taken in, and `fold` is of later than the last of them. `ends` are those
    /// that the workers had reached before the first.
    pub fn verdict(mut self, fold: &Fold, ends: &BTreeMap<u32, u64>) -> Verdict {
        let mut res = Verdict::default();
        // A version that is not the latest stands for the entry, and is told already.
        let stale = self.found.iter().filter(|it| it.kind == Kind::Stale);
        let stale: std::collections::BTreeSet<Key> =
            stale.map(|it| it.primary_key.clone()).collect();
        for (primary_key, row) in fold.rows() {
            res.changing += u64::from(row.is_behind(ends));
            res.doubtful += u64::from(row.is_doubtful);
            let Wanted::Entry(entry) = row.wanted() else { continue };
            if row.is_seen || row.is_behind(ends) || stale.contains(primary_key) {
                continue;
            }
            // In a gap nobody can have it, and the gap is told.
            let Some(node) = self.owner(&entry.index_key) else { continue };
            let detail = format!("the row is of {}:{}", row.partition, row.offset);
            let (index_key, primary_key) = (entry.index_key.clone(), primary_key.clone());
            let (kind, node) = (Kind::Missing, Some(node.clone()));
            self.found.push(Found { kind, node, index_key, primary_key, detail });
        }
        let counts = |it: &Found| match (it.kind, fold.row(&it.primary_key)) {
            (Kind::Foreign | Kind::Missing, _) | (_, None) => true,
            (Kind::Stale, Some(row)) => !row.is_behind(ends),
            (Kind::Extra, Some(row)) => !row.is_behind(ends) && !row.is_doubtful,
        };
        self.found.retain(counts);
        self.found.sort_by(|a, b| {
            (a.kind, &a.index_key, &a.primary_key).cmp(&(b.kind, &b.index_key, &b.primary_key))
        });
        res.found = self.found;
        res
    }

    fn owner(&self, key: &Key) -> Option<&NodeId> {
        let (_, (span, node)) = self.active.range(..=key).next_back()?;
        span.contains(&key.0).then_some(node)
    }
}

#[cfg(test)]
mod tests;
