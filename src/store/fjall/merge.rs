//! Reads a table as it will be once what is staged is committed.

use std::collections::BTreeMap;
use std::collections::btree_map::Range;
use std::iter::Peekable;
use std::ops::Bound;

use fjall::{Keyspace, UserKey, UserValue};

use super::{StoreError, failed};

/// What is staged of one table; `None`: removed.
pub(super) type Overlay = BTreeMap<UserKey, Option<UserValue>>;

/// An interval of stored keys.
pub(super) type Bounds = (Bound<Vec<u8>>, Bound<Vec<u8>>);

/// Returns the interval, unless it holds nothing.
pub(super) fn not_empty(bounds: Bounds) -> Option<Bounds> {
    use Bound::{Excluded, Included, Unbounded};
    let is_empty = match (&bounds.0, &bounds.1) {
        (Unbounded, _) | (_, Unbounded) => false,
        (Included(start), Included(end)) => start > end,
        (Included(start) | Excluded(start), Included(end) | Excluded(end)) => start >= end,
    };
    (!is_empty).then_some(bounds)
}

/// Returns the keys and values of an interval in order, what is staged in the place of what is stored.
pub(super) fn merged<'a>(
    table: &Keyspace,
    overlay: &'a Overlay,
    bounds: Bounds,
) -> impl Iterator<Item = Result<(UserKey, UserValue), StoreError>> + use<'a> {
    let bounds = not_empty(bounds);
    let sides = bounds.map(|it| Merged {
        staged: overlay.range::<[u8], _>((as_slice(&it.0), as_slice(&it.1))).peekable(),
        stored: table.range(it),
        next: None,
    });
    sides.into_iter().flatten()
}

fn as_slice(bound: &Bound<Vec<u8>>) -> Bound<&[u8]> {
    bound.as_ref().map(Vec::as_slice)
}

struct Merged<'a> {
    stored: fjall::Iter,
    staged: Peekable<Range<'a, UserKey, Option<UserValue>>>,
    /// Taken from what is stored, and not returned yet.
    next: Option<(UserKey, UserValue)>,
}

impl Iterator for Merged<'_> {
    type Item = Result<(UserKey, UserValue), StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if self.next.is_none() {
                match self.stored.next().map(fjall::Guard::into_inner).transpose() {
                    Ok(next) => self.next = next,
                    Err(err) => return Some(Err(failed(&err))),
                }
            }
            let stored = self.next.as_ref();
            let is_staged = |it: &(&UserKey, _)| stored.is_none_or(|stored| *it.0 <= stored.0);
            let Some((key, value)) = self.staged.next_if(is_staged) else {
                return self.next.take().map(Ok);
            };
            self.next.take_if(|it| it.0 == *key);
            if let Some(value) = value {
                return Some(Ok((key.clone(), value.clone())));
            }
        }
    }
}
