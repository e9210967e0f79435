//! Keeps how far one read is: what is to be asked next, and what was found.
//!
//! ```text
//!  wanted   [b ───────────────────────────── t)
//!  map      ── n1 ──)[f ──── n2 ────)[m ──── n1 ──
//!  pieces   [b ─── f)[f ─── after x, m)               one after the other, in key order
//! ```
//!
//! * **In order, without a gap.** A piece is asked for behind what was found; the next one begins where
//!   the owner's range ends.
//! * **What does not fit is not taken**: entries beside the piece, out of order or beyond the limit,
//!   and an answer that does not go on.

use schemas::query_log::Op;
use schemas::{Key, KeySpan};

use super::lookup::Owned;
use crate::web::reads::{After, Found, FoundEntry, Refusal, What};

/// What a read may ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    pub key_bytes_max: usize,
    /// Of the answer to one read.
    pub entries_max: usize,
}

/// A read on its way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reading {
    wanted: Wanted,
    /// The rest begins here, or behind an entry.
    from: Key,
    after: Option<After>,
    entries: Vec<FoundEntry>,
    cost_us: u64,
    has_gone_on: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Wanted {
    Key,
    Range { end: Key, limit: usize },
}

/// What is asked of one owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    pub span: KeySpan,
    pub what: What,
}

/// An answer that is not one to what was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Misfit;

impl Reading {
    pub fn new(what: What, limits: &Limits) -> Result<Self, Refusal> {
        let is_too_long = |it: &Key| limits.key_bytes_max < it.0.len();
        let (wanted, from, after) = match what {
            What::Key(key) => {
                if is_too_long(&key) {
                    return Err(Refusal::KeyTooLong);
                }
                (Wanted::Key, key, None)
            }
            What::Range { start, end, limit, after } => {
                let keys = [Some(&start), Some(&end), after.as_ref().map(|it| &it.index_key)];
                if keys.into_iter().flatten().any(is_too_long) {
                    return Err(Refusal::KeyTooLong);
                }
                let span = KeySpan { start, end };
                if !span.end.0.is_empty() && span.end <= span.start {
                    return Err(Refusal::EmptyInterval);
                }
                if after.as_ref().is_some_and(|it| !span.contains(&it.index_key.0)) {
                    return Err(Refusal::AfterOutside);
                }
                let limit = limit.map_or(limits.entries_max, |it| it as usize);
                if limit == 0 {
                    return Err(Refusal::NoEntries);
                }
                let limit = limit.min(limits.entries_max);
                (Wanted::Range { end: span.end, limit }, span.start, after)
            }
        };
        let entries = Vec::new();
        Ok(Self { wanted, from, after, entries, cost_us: 0, has_gone_on: false })
    }

    pub fn op(&self) -> Op {
        match self.wanted {
            Wanted::Key => Op::Read,
            Wanted::Range { .. } => Op::Scan,
        }
    }

    /// Returns the key whose owner is to be asked next.
    pub fn position(&self) -> &Key {
        self.after.as_ref().map_or(&self.from, |it| &it.index_key)
    }

    /// Returns what is to be asked of the owner of the position.
    pub fn piece(&self, owned: &Owned<'_>) -> Piece {
        match &self.wanted {
            Wanted::Key => {
                let end = Key([&self.from.0[..], &[0]].concat());
                let span = KeySpan { start: self.from.clone(), end };
                Piece { span, what: What::Key(self.from.clone()) }
            }
            Wanted::Range { end, limit } => {
                let start = self.from.0.as_slice().max(owned.start);
                let end = match (end.0.as_slice(), owned.end) {
                    (end, []) | ([], end) => end,
                    (wanted, owned) => wanted.min(owned),
                };
                let (start, end) = (Key(start.to_vec()), Key(end.to_vec()));
                let limit = Some((limit - self.entries.len()).try_into().unwrap_or(u32::MAX));
                let (span, after) =
                    (KeySpan { start: start.clone(), end: end.clone() }, self.after.clone());
                Piece { span, what: What::Range { start, end, limit, after } }
            }
        }
    }

    /// Takes in what was found in a piece; returns the answer if it is whole, or as long as it may be.
    pub fn take(&mut self, span: &KeySpan, found: Found) -> Result<Option<Found>, Misfit> {
        if !self.fits(span, &found) {
            return Err(Misfit);
        }
        let Wanted::Range { end, limit } = &self.wanted else { return Ok(Some(found)) };
        let (is_last, limit) = (span.end == *end, *limit);
        self.cost_us += found.cost_us;
        self.has_gone_on |= found.next.is_some() || !found.entries.is_empty();
        self.entries.extend(found.entries);
        let is_over = is_last && found.next.is_none();
        if found.next.is_none() {
            self.from = span.end.clone();
        }
        self.after = found.next;
        if is_over {
            let (entries, cost_us) = (std::mem::take(&mut self.entries), self.cost_us);
            return Ok(Some(Found { entries, next: None, cost_us }));
        }
        Ok(if self.entries.len() == limit { self.so_far() } else { None })
    }

    /// Ends the read with what was found until now; `None`: there is nothing that could be gone on
    /// behind.
    pub fn so_far(&mut self) -> Option<Found> {
        let last = self.entries.last();
        let last = last.map(|FoundEntry { index_key, primary_key, .. }| After {
            index_key: index_key.clone(),
            primary_key: primary_key.clone(),
        });
        if !self.has_gone_on {
            return None;
        }
        let next = Some(self.after.clone().or(last)?);
        Some(Found { entries: std::mem::take(&mut self.entries), next, cost_us: self.cost_us })
    }

    fn fits(&self, span: &KeySpan, found: &Found) -> bool {
        let limit = match self.wanted {
            Wanted::Key => usize::MAX,
            Wanted::Range { limit, .. } => limit - self.entries.len(),
        };
        let mut last = self.after.as_ref().map(|it| (&it.index_key, &it.primary_key));
        let mut follows = |index_key, primary_key| {
            let it = Some((index_key, primary_key));
            let follows = last < it && span.contains(&index_key.0);
            last = it;
            follows
        };
        let in_order =
            found.entries.iter().all(|it: &FoundEntry| follows(&it.index_key, &it.primary_key));
        // It may be the last entry itself, or a tombstone behind it.
        let next = found.next.as_ref().map(|it| (&it.index_key, &it.primary_key));
        let goes_on = match (&next, &found.entries[..]) {
            (None, _) => true,
            (Some(next), [.., entry]) => {
                (&entry.index_key, &entry.primary_key) <= *next && span.contains(&next.0.0)
            }
            (Some(next), []) => follows(next.0, next.1),
        };
        found.entries.len() <= limit && in_order && goes_on
    }
}

#[cfg(test)]
mod tests {
    use schemas::{Epoch, NodeId};

    use super::*;

    const LIMITS: Limits = Limits { key_bytes_max: 8, entries_max: 10 };

    fn key(text: &str) -> Key {
        Key(text.into())
    }

    fn range(start: &str, end: &str, limit: u32) -> What {
        What::Range { start: key(start), end: key(end), limit: Some(limit), after: None }
    }

    fn span(start: &str, end: &str) -> KeySpan {
        KeySpan { start: key(start), end: key(end) }
    }

    fn after(text: &str) -> After {
        After { index_key: key(text), primary_key: key("p") }
    }

    fn found(keys: &str, next: Option<&str>) -> Found {
        let entry = |it: char| FoundEntry {
            index_key: key(&it.to_string()),
            primary_key: key("p"),
            partition: 0,
            offset: 1,
            payload: vec![],
        };
        Found { entries: keys.chars().map(entry).collect(), next: next.map(after), cost_us: 5 }
    }

    fn keys(found: &Found) -> String {
        found.entries.iter().map(|it| it.index_key.to_string()).collect()
    }

    /// Asks by owners of [-, f) [f, m) [m, -).
    fn piece(reading: &Reading) -> (KeySpan, Option<u32>, Option<After>) {
        let node = NodeId("n1".into());
        let at = reading.position().0.as_slice();
        let (start, end) = match at {
            it if it < &b"f"[..] => (&b""[..], &b"f"[..]),
            it if it < &b"m"[..] => (&b"f"[..], &b"m"[..]),
            _ => (&b"m"[..], &b""[..]),
        };
        let piece = reading.piece(&Owned { node: &node, epoch: Epoch(1), start, end });
        let What::Range { start, end, limit, after } = piece.what else { panic!("no range") };
        assert_eq!(piece.span, KeySpan { start, end });
        (piece.span, limit, after)
    }

    #[test]
    fn range_is_read_piece_by_piece_in_key_order() {
        let mut it = Reading::new(range("b", "t", 9), &LIMITS).unwrap();
        assert_eq!(piece(&it), (span("b", "f"), Some(9), None));
        assert_eq!(it.take(&span("b", "f"), found("bc", Some("d"))), Ok(None));
        assert_eq!(piece(&it), (span("b", "f"), Some(7), Some(after("d"))));
        assert_eq!(it.take(&span("b", "f"), found("", None)), Ok(None));
        assert_eq!(piece(&it), (span("f", "m"), Some(7), None));
        assert_eq!(it.take(&span("f", "m"), found("g", None)), Ok(None));
        assert_eq!(piece(&it), (span("m", "t"), Some(6), None));
        let whole = it.take(&span("m", "t"), found("s", None)).unwrap().unwrap();
        assert_eq!((keys(&whole), whole.next, whole.cost_us), ("bcgs".into(), None, 20));
    }

    #[test]
    fn range_ends_at_its_limit_and_says_behind_what_to_go_on() {
        let mut it = Reading::new(range("b", "", 2), &LIMITS).unwrap();
        let told = it.take(&span("b", "f"), found("bc", None)).unwrap().unwrap();
        assert_eq!((keys(&told), told.next), ("bc".into(), Some(after("c"))));
        let What::Range { start, end, .. } = range("b", "", 2) else { panic!("a range") };
        let rest = What::Range { start, end, limit: None, after: Some(after("c")) };
        let mut it = Reading::new(rest, &LIMITS).unwrap();
        assert_eq!(piece(&it), (span("b", "f"), Some(10), Some(after("c"))));
        assert_eq!(it.take(&span("b", "f"), found("", None)), Ok(None));
        assert_eq!(piece(&it).0, span("f", "m"));
    }

    #[test]
    fn what_does_not_fit_is_not_taken() {
        let misfits = [
            found("bf", None),
            found("a", None),
            found("cb", None),
            found("bb", None),
            found("bcde", None),
            found("bc", Some("b")),
            found("b", Some("g")),
            found("", Some("a")),
        ];
        for misfit in misfits {
            let mut it = Reading::new(range("b", "t", 3), &LIMITS).unwrap();
            assert_eq!(it.take(&span("b", "f"), misfit.clone()), Err(Misfit), "{misfit:?}");
            assert_eq!(it, Reading::new(range("b", "t", 3), &LIMITS).unwrap());
        }
        let mut it = Reading::new(range("b", "t", 3), &LIMITS).unwrap();
        it.take(&span("b", "f"), found("b", Some("c"))).unwrap();
        let stands_still = found("", Some("c"));
        assert_eq!(it.take(&span("b", "f"), stands_still), Err(Misfit));
        let mut it = Reading::new(What::Key(key("b")), &LIMITS).unwrap();
        assert_eq!(it.take(&span("b", "b\0"), found("c", None)), Err(Misfit));
        assert_eq!(it.take(&span("b", "b\0"), found("b", None)), Ok(Some(found("b", None))));
    }

    #[test]
    fn what_was_found_until_now_can_be_gone_on_behind() {
        let mut it = Reading::new(range("b", "t", 9), &LIMITS).unwrap();
        assert_eq!(it.so_far(), None);
        it.take(&span("b", "f"), found("", None)).unwrap();
        assert_eq!(it.so_far(), None, "there is no entry to go on behind");
        it.take(&span("f", "m"), found("g", None)).unwrap();
        assert_eq!(it.so_far().unwrap().next, Some(after("g")));
    }

    #[test]
    fn reads_that_ask_for_nothing_are_refused() {
        let refused = |what: What| Reading::new(what, &LIMITS).unwrap_err();
        assert_eq!(refused(What::Key(key("123456789"))), Refusal::KeyTooLong);
        assert_eq!(refused(range("123456789", "", 1)), Refusal::KeyTooLong);
        assert_eq!(refused(range("b", "b", 1)), Refusal::EmptyInterval);
        assert_eq!(refused(range("c", "b", 1)), Refusal::EmptyInterval);
        assert_eq!(refused(range("b", "c", 0)), Refusal::NoEntries);
        let (start, end) = (key("b"), key("c"));
        let outside = What::Range { start, end, limit: None, after: Some(after("c")) };
        assert_eq!(refused(outside), Refusal::AfterOutside);
    }
}
