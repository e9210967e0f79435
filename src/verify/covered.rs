//! Tells whether all pages together are of one assignment, though each is of another moment.
//!
//! ```text
//!  heads    n1 ├────────┤          n2          ├────────────┤
//!  pages    n1 ├───┤├───┤          n2          ├──────┤├────┤     the same: each key was looked at where it is
//!           n1 ├───┤               n2      ├──────────┤├────┤     a range has moved meanwhile: once more
//! ```
//!
//! * **Where keys are counts, not how they are cut.** Ranges that are split or joined while the pages are read
//!   stay where they are, and may be at any time.

use std::collections::BTreeMap;

use schemas::NodeId;

use super::tiling::{Heads, behind};
use crate::web::held::{Cursor, Held, HeldInterval, Role};
use crate::web::reads::After;

/// Where nodes serve, without the bounds between what they have side by side.
#[derive(Debug, Default)]
pub struct Covered {
    spans: BTreeMap<NodeId, Vec<[Bound; 2]>>,
    /// Where the last page of a node has ended.
    reached: BTreeMap<NodeId, Bound>,
}

/// Before a key and all its primary keys but those below this, or behind all there is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Bound {
    At(Vec<u8>, Vec<u8>),
    End,
}

impl Covered {
    /// Takes in the next page of a worker; what is behind the table's ends does not count.
    pub fn page(&mut self, page: &Held, ends: &BTreeMap<u32, u64>) {
        let from = self.reached.get(&page.node).cloned().unwrap_or_else(Bound::start);
        let to = page.next.as_ref().map_or(Bound::End, Bound::behind);
        let spans = self.spans.entry(page.node.clone()).or_default();
        let served = page.intervals.iter().filter(|it| it.role == Role::Active);
        for it in served.filter(|it| behind(it, ends).is_none()) {
            let [start, end] = Bound::of(it);
            let [start, end] = [start.max(from.clone()), end.min(to.clone())];
            match spans.last_mut() {
                _ if start >= end => (),
                Some([_, last]) if *last == start => *last = end,
                Some(_) | None => spans.push([start, end]),
            }
        }
        self.reached.insert(page.node.clone(), to);
    }

    /// Tells whether the pages cover what these heads said before.
    pub fn is_of(&self, heads: &Heads, ends: &BTreeMap<u32, u64>) -> bool {
        let mut whole = Self::default();
        heads.values().for_each(|it| whole.page(it, ends));
        whole.spans == self.spans
    }
}

impl Bound {
    fn start() -> Self {
        Self::At(Vec::new(), Vec::new())
    }

    fn behind(Cursor(After { index_key, primary_key }): &Cursor) -> Self {
        Self::At(index_key.0.clone(), primary_key.0.clone())
    }

    fn of(it: &HeldInterval) -> [Self; 2] {
        let start = Self::At(it.range_start.0.clone(), Vec::new());
        let end = match it.range_end.0.as_slice() {
            [] => Self::End,
            key => Self::At(key.to_vec(), Vec::new()),
        };
        [start, end]
    }
}

#[cfg(test)]
mod tests {
    use schemas::range_segment::Floor;
    use schemas::{Epoch, Generation, Key};

    use super::*;

    /// A page: of a node, its active intervals, and where it ends.
    type Page<'a> = (&'a str, &'a [[&'a str; 2]], Option<[&'a str; 2]>);

    fn page((node, spans, next): &Page<'_>, offset: u64) -> Held {
        let key = |text: &str| Key(text.into());
        let active = |[start, end]: &[&str; 2]| HeldInterval {
            range_start: key(start),
            range_end: key(end),
            role: Role::Active,
            epoch: Epoch(1),
            floors: vec![Floor { partition: 0, offset }],
        };
        let next = next.map(|it| {
            let [index_key, primary_key] = it.map(key);
            Cursor(After { index_key, primary_key })
        });
        Held {
            node: NodeId((*node).into()),
            store_id: "s".into(),
            generation: Generation(1),
            intervals: spans.iter().map(active).collect(),
            entries: Vec::new(),
            next,
        }
    }

    /// Tells whether these pages are of n1 with [a, m) and [m, t), and n2 with what is left.
    fn is_same(pages: &[Page<'_>]) -> bool {
        is_same_at(pages, 7)
    }

    fn is_same_at(pages: &[Page<'_>], offset: u64) -> bool {
        let ends = BTreeMap::from([(0, 7)]);
        let heads: [Page<'_>; 2] =
            [("n1", &[["a", "m"], ["m", "t"]], None), ("n2", &[["", "a"], ["t", ""]], None)];
        let heads = heads.iter().map(|it| page(it, 7)).map(|it| (it.node.clone(), it)).collect();
        let mut covered = Covered::default();
        pages.iter().for_each(|it| covered.page(&page(it, offset), &ends));
        covered.is_of(&heads, &ends)
    }

    #[test]
    fn ranges_that_are_cut_in_other_ways_are_where_they_were() {
        let n2 = ("n2", &[["", "a"], ["t", ""]][..], None);
        assert!(is_same(&[("n1", &[["a", "m"], ["m", "t"]], None), n2]), "as they were");
        assert!(is_same(&[("n1", &[["a", "t"]], None), n2]), "joined");
        assert!(is_same(&[("n1", &[["a", "c"], ["c", "t"]], None), n2]), "joined and split");
        let first = ("n1", &[["a", "m"]][..], Some(["h", "1"]));
        assert!(is_same(&[first, ("n1", &[["a", "t"]], None), n2]), "joined between two pages");
        assert!(is_same(&[first, ("n1", &[["h", "t"]], None), n2]), "split between two pages");
        let between = ("n1", &[["a", "m"], ["m", "t"]][..], Some(["m", "1"]));
        assert!(is_same(&[between, ("n1", &[["m", "t"]], None), n2]), "many rows of a key");
        let n2 =
            [("n2", &[["", "a"], ["t", ""]][..], Some(["u", "1"])), ("n2", &[["t", ""]], None)];
        assert!(is_same(&[first, ("n1", &[["a", "t"]], None), n2[0], n2[1]]));
    }

    #[test]
    fn range_that_has_moved_meanwhile_is_not_compared() {
        let [n1, n2] = [
            ("n1", &[["a", "m"], ["m", "t"]][..], None),
            ("n2", &[["", "a"], ["t", ""]][..], None),
        ];
        let taken = ("n2", &[["", "a"], ["m", ""]][..], None);
        let given = ("n1", &[["a", "m"]][..], None);
        assert!(!is_same(&[n1, taken]), "in both");
        assert!(!is_same(&[given, n2]), "in none");
        assert!(!is_same(&[given, taken]), "all are later");
        assert!(!is_same(&[n1]), "a worker is not there");
        let first = ("n1", &[["a", "m"]][..], Some(["h", "1"]));
        assert!(
            !is_same(&[first, ("n1", &[["m", "t"]], None), n2]),
            "half of it left between pages"
        );
        assert!(!is_same(&[("n1", &[], Some(["h", "1"])), ("n1", &[["a", "t"]], None), n2]));
        // It was away and is back, and the other was asked meanwhile.
        assert!(!is_same(&[n1, ("n2", &[["", "a"], ["h", "m"], ["t", ""]], None)]));
    }

    #[test]
    fn who_is_behind_the_table_is_not_compared() {
        let [n1, n2] = [
            ("n1", &[["a", "m"], ["m", "t"]][..], None),
            ("n2", &[["", "a"], ["t", ""]][..], None),
        ];
        assert!(!is_same_at(&[n1, n2], 6));
        assert!(is_same_at(&[n1, n2], 8));
    }
}
