//! Places keys on a line: a key as a fraction of an interval of keys.

use schemas::{Key, KeySpan};

/// The fraction that is the whole interval.
pub const WHOLE: u64 = 1 << 32;

/// Returns where a key lies in an interval, from 0 to [`WHOLE`], by the eight bytes after what the
/// interval's ends have in common. An empty key is its start, or its end if `as_end` is set.
pub fn fraction(span: &KeySpan, key: &Key, as_end: bool) -> u64 {
    if key.0.is_empty() {
        return if as_end { WHOLE } else { 0 };
    }
    if *key <= span.start {
        return 0;
    }
    let ends: [&[u8]; 2] = [&span.start.0, &span.end.0];
    if !ends[1].is_empty() && key.0.as_slice() >= ends[1] {
        return WHOLE;
    }
    let common = match ends[1] {
        [] => 0,
        end => ends[0].iter().zip(end).take_while(|(a, b)| a == b).count(),
    };
    let word = |key: &[u8]| {
        let mut word = [0; 8];
        key.iter().skip(common).zip(&mut word).for_each(|(byte, it)| *it = *byte);
        u64::from_be_bytes(word)
    };
    let low = word(ends[0]);
    let high = if ends[1].is_empty() { u64::MAX } else { word(ends[1]) };
    let at = word(&key.0).clamp(low, high);
    let part = u128::from(at - low) * u128::from(WHOLE) / u128::from((high - low).max(1));
    part as u64
}
