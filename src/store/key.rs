//! Writes the two keys of an entry as one, in the same order.
//!
//! ```text
//!  index key, each 00 as 00 ff │ 00 00 │ primary key as it is
//! ```
//!
//! * **Order-preserving.** Composite keys lie as (index key, primary key) do, and every interval of
//!   index keys is an interval of composite keys.

use std::ops::Bound;

use schemas::{Key, KeySpan};

use super::EntryKey;

const ESCAPED: [u8; 2] = [0, 0xff];
const END: [u8; 2] = [0, 0];

/// Appends the composite key.
pub(super) fn encode(index_key: &Key, primary_key: &Key, into: &mut Vec<u8>) {
    into.reserve(index_key.0.len() + END.len() + primary_key.0.len());
    escape(&index_key.0, into);
    into.extend(END);
    into.extend(&primary_key.0);
}

/// Returns the two keys; `None` if it is no composite key.
pub(super) fn decode(composite: &[u8]) -> Option<EntryKey> {
    let mut index_key = Vec::with_capacity(composite.len());
    let mut rest = composite;
    loop {
        let zero = rest.iter().position(|it| *it == 0)?;
        index_key.extend(&rest[..zero]);
        let (mark, behind) = rest[zero..].split_first_chunk::<2>()?;
        rest = behind;
        match *mark {
            END => break,
            ESCAPED => index_key.push(0),
            _ => return None,
        }
    }
    Some(EntryKey { index_key: Key(index_key), primary_key: Key(rest.to_vec()) })
}

/// Returns the interval of composite keys that an interval of index keys is, behind an entry.
pub(super) fn bounds(span: &KeySpan, after: Option<&EntryKey>) -> (Bound<Vec<u8>>, Bound<Vec<u8>>) {
    let mut start = Vec::new();
    escape(&span.start.0, &mut start);
    let mut start = Bound::Included(start);
    if let Some(after) = after.filter(|it| span.start <= it.index_key) {
        let mut composite = Vec::new();
        encode(&after.index_key, &after.primary_key, &mut composite);
        start = Bound::Excluded(composite);
    }
    let end = match span.end.0.as_slice() {
        [] => Bound::Unbounded,
        end => {
            let mut escaped = Vec::new();
            escape(end, &mut escaped);
            Bound::Excluded(escaped)
        }
    };
    (start, end)
}

fn escape(bytes: &[u8], into: &mut Vec<u8>) {
    let mut parts = bytes.split(|it| *it == 0);
    into.extend(parts.next().unwrap_or_default());
    for part in parts {
        into.extend(ESCAPED);
        into.extend(part);
    }
}

#[cfg(test)]
mod tests {
    use std::ops::RangeBounds;

    use super::*;

    /// All strings of up to three of the bytes that escaping concerns.
    fn strings() -> Vec<Key> {
        let bytes = [0, 1, 0xfe, 0xff];
        let mut res = vec![vec![]];
        for from in [0, 1, 5] {
            let longer = |it: &Vec<u8>| bytes.map(|byte| [&it[..], &[byte]].concat());
            let longer: Vec<_> = res[from..].iter().flat_map(longer).collect();
            res.extend(longer);
        }
        res.sort();
        res.dedup();
        res.into_iter().map(Key).collect()
    }

    fn composite(index_key: &Key, primary_key: &Key) -> Vec<u8> {
        let mut res = Vec::new();
        encode(index_key, primary_key, &mut res);
        res
    }

    #[test]
    fn composite_keys_lie_as_the_pairs_do_and_decode_to_them() {
        let strings = strings();
        assert_eq!(strings.len(), 1 + 4 + 16 + 64);
        let pairs = strings.iter().flat_map(|a| strings.iter().map(move |b| (a, b)));
        let composites: Vec<_> = pairs.map(|(a, b)| (composite(a, b), a, b)).collect();
        assert!(composites.is_sorted_by(|a, b| a.0 < b.0));
        for (bytes, index_key, primary_key) in composites {
            let key = EntryKey { index_key: index_key.clone(), primary_key: primary_key.clone() };
            assert_eq!(decode(&bytes), Some(key));
        }
    }

    #[test]
    fn interval_of_composite_keys_holds_what_the_interval_of_keys_does() {
        let strings = strings();
        let probes: Vec<_> = strings
            .iter()
            .flat_map(|it| [(it, Key::default()), (it, Key(vec![0xff; 3]))])
            .collect();
        for start in &strings {
            for end in &strings {
                let span = KeySpan { start: start.clone(), end: end.clone() };
                let bounds = bounds(&span, None);
                for (key, primary) in &probes {
                    let inside = bounds.contains(&composite(key, primary));
                    assert_eq!(inside, span.contains(&key.0), "{key:?} in {span:?}");
                }
            }
        }
    }

    #[test]
    fn interval_behind_an_entry_begins_at_the_next_one() {
        let key = |text: &str| Key(text.as_bytes().to_vec());
        let span = KeySpan { start: key("b"), end: key("d") };
        let after = |index: &str, primary: &str| {
            let after = EntryKey { index_key: key(index), primary_key: key(primary) };
            bounds(&span, Some(&after))
        };
        let inside = |bounds: &(Bound<Vec<u8>>, Bound<Vec<u8>>)| {
            let entries = [("a", "1"), ("b", "1"), ("b", "2"), ("c", ""), ("d", "")];
            let entries =
                entries.iter().filter(|(a, b)| bounds.contains(&composite(&key(a), &key(b))));
            entries.map(|(a, b)| format!("{a}{b}")).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(inside(&after("b", "1")), "b2 c");
        assert_eq!(inside(&after("b", "2")), "c");
        assert_eq!(inside(&after("a", "7")), "b1 b2 c", "it lies before the interval");
    }

    #[test]
    fn bytes_that_are_no_composite_key_are_none() {
        for bytes in [&b"a"[..], b"a\0", b"a\0\x01b", b""] {
            assert_eq!(decode(bytes), None);
        }
    }
}
