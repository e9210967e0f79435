//! Follows ranges through splits and joins: where the load is now that one had.
//!
//! ```text
//!  before   a │ b │ c     b is split into b, d; a range that was asked for b counts both
//!  now      a │ b │ d │ c
//! ```
//!
//! A forecast is judged by what came, whatever became of its range: hot ranges are split, and if only those
//! counted that stay as they are, all that is hot would seem to cool down. Of what has joined with others the
//! part cannot be told any more.

use serde::{Deserialize, Serialize};

use super::ladder::Origination;

/// Ranges that lie side by side, by number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    pub first: usize,
    pub last: usize,
}

/// What became of the ranges that there were.
pub struct Lineage {
    /// Of each that there was, those that have a part of it.
    now: Vec<Option<Run>>,
    /// Of each that there is, those that it has parts of.
    before: Vec<Option<Run>>,
}

impl From<usize> for Run {
    fn from(at: usize) -> Self {
        Self { first: at, last: at }
    }
}

impl Run {
    fn with(self, at: usize) -> Self {
        Self { first: self.first.min(at), last: self.last.max(at) }
    }

    pub fn ranges(self) -> std::ops::RangeInclusive<usize> {
        self.first..=self.last
    }
}

impl Lineage {
    pub fn new(ranges: &[Origination]) -> Self {
        let before: Vec<Option<Run>> = ranges.iter().map(parents).collect();
        let count = before.iter().flatten().map(|it| it.last + 1).max().unwrap_or(0);
        let mut now = vec![None; count];
        for (at, run) in before.iter().enumerate() {
            for parent in run.iter().flat_map(|it| it.ranges()) {
                let run: &mut Option<Run> = &mut now[parent];
                *run = Some(run.map_or(Run::from(at), |it| it.with(at)));
            }
        }
        Self { now, before }
    }

    /// Where all of the load is that these have had, and nothing else; `None` if that cannot be told.
    pub fn follow(&self, run: Run) -> Option<Run> {
        let now = |at: usize| self.now.get(at).copied().flatten();
        let res = Run { first: now(run.first)?.first, last: now(run.last)?.last };
        let is_of_it = |at: usize| {
            self.before[at].is_some_and(|it| run.first <= it.first && it.last <= run.last)
        };
        res.ranges().all(is_of_it).then_some(res)
    }
}

fn parents(of: &Origination) -> Option<Run> {
    match of {
        Origination::Kept(at) => Some(Run::from(*at)),
        Origination::Born { parents, .. } => {
            let mut parents = parents.iter().map(|it| it.0);
            let first = Run::from(parents.next()?);
            Some(parents.fold(first, Run::with))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn load_is_followed_into_children_and_given_up_where_it_joins_others() {
        let (kept, run) = (Origination::Kept, |first, last| Run { first, last });
        let born = |parents: &[usize]| Origination::Born {
            parents: parents.iter().map(|it| (*it, 1.0)).collect(),
            history: Vec::new(),
        };
        // Of five ranges the second is split in three, the last two join.
        let ranges = [kept(0), born(&[1]), born(&[1]), born(&[1]), kept(2), born(&[3, 4])];
        let lineage = Lineage::new(&ranges);
        let follow = |first, last| lineage.follow(run(first, last));
        assert_eq!(follow(0, 0), Some(run(0, 0)));
        assert_eq!(follow(1, 1), Some(run(1, 3)));
        assert_eq!(follow(1, 2), Some(run(1, 4)));
        assert_eq!(follow(3, 4), Some(run(5, 5)), "both of those that have joined");
        assert_eq!([follow(3, 3), follow(2, 3), follow(4, 4), follow(5, 5)], [None; 4]);
        // Nothing is known of the parents of a range.
        assert_eq!(Lineage::new(&[born(&[])]).follow(run(0, 0)), None);
    }
}
