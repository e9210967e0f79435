//! Makes an index key of the fields of a row, ordered as the fields are.
//!
//! ```text
//!  ("Bern", 7)   42 65 72 6e │ 00 01 │ 80 00 00 00 00 00 00 07
//!                as it is, 00 as 00 ff │ its end │ the sign turned over
//! ```
//!
//! * **Bytes order as fields do**: by the first, then by the second. Text orders by its UTF-8, false
//!   before true, numbers by their value, real ones with those that are none at both ends.
//! * **No two rows of different fields have one key.**
//! * The last field, if it is text or bytes, stands as it is, so that a key of one field is that field.

use thiserror::Error;

use super::value::Value;

/// The kind of value has no order here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("{0} cannot be part of a key")]
pub struct NoOrder(pub &'static str);

const SIGN: u64 = 1 << 63;

/// Returns the key of fields, in their order; `None` if one is null: then the row has none. Or else,
/// which of them has no order.
pub fn key_of(fields: &[&Value]) -> Result<Option<Vec<u8>>, (usize, NoOrder)> {
    let mut key = Vec::new();
    let count = fields.len();
    for (n, field) in fields.iter().enumerate() {
        let is_last = n + 1 == count;
        match field {
            Value::Null => return Ok(None),
            Value::Flag(it) => key.push(u8::from(*it)),
            Value::Whole(it) => key.extend((it.cast_unsigned() ^ SIGN).to_be_bytes()),
            Value::Real(it) => key.extend(ordered(*it).to_be_bytes()),
            Value::Text(it) if is_last => key.extend(it.as_bytes()),
            Value::Bytes(it) if is_last => key.extend(it),
            Value::Text(it) => delimited(&mut key, it.as_bytes()),
            Value::Bytes(it) => delimited(&mut key, it),
            Value::List(_) | Value::Fields(_) => return Err((n, NoOrder(field.kind()))),
        }
    }
    Ok(Some(key))
}

/// Zero has one key, though it has two signs.
fn ordered(it: f64) -> u64 {
    let bits = (it + 0.0).to_bits();
    if bits & SIGN == 0 { bits | SIGN } else { !bits }
}

fn delimited(key: &mut Vec<u8>, bytes: &[u8]) {
    for &byte in bytes {
        key.push(byte);
        if byte == 0 {
            key.push(0xff);
        }
    }
    key.extend([0, 1]);
}

#[cfg(test)]
mod tests {
    use std::cmp::Ordering;

    use super::*;

    #[test]
    fn bytes_order_as_fields_do() {
        let texts = ["", "\0", "\0\0", "\0\u{1}", "a", "a\0", "a\0b", "a\u{1}", "ab", "ü"];
        let wholes = [i64::MIN, -256, -1, 0, 1, 255, 256, i64::MAX];
        let reals = [f64::NEG_INFINITY, -1.5, -1.0, -f64::MIN_POSITIVE, 0.0, 1e-300, 2.5, f64::MAX];
        let mut rows = Vec::new();
        for text in texts {
            for whole in wholes {
                for last in texts {
                    rows.push([text_of(text), Value::Whole(whole), text_of(last)]);
                }
            }
            for real in reals {
                rows.push([text_of(text), Value::Real(real), Value::Bytes(vec![0xff, 0])]);
            }
        }
        for a in &rows {
            for b in &rows {
                // Whole and real numbers have no order among each other.
                if let Some(order) = order(a, b) {
                    let key = |row: &[Value; 3]| key_of(&row.each_ref()).unwrap().unwrap();
                    assert_eq!(key(a).cmp(&key(b)), order, "{a:?} {b:?}");
                }
            }
        }
    }

    fn text_of(text: &str) -> Value {
        Value::Text(text.to_owned())
    }

    fn order(a: &[Value; 3], b: &[Value; 3]) -> Option<Ordering> {
        let mut res = Ordering::Equal;
        for pair in a.iter().zip(b) {
            res = res.then(match pair {
                (Value::Text(a), Value::Text(b)) => a.as_bytes().cmp(b.as_bytes()),
                (Value::Whole(a), Value::Whole(b)) => a.cmp(b),
                (Value::Real(a), Value::Real(b)) => a.total_cmp(b),
                (Value::Bytes(a), Value::Bytes(b)) => a.cmp(b),
                (_, _) if res == Ordering::Equal => return None,
                (_, _) => Ordering::Equal,
            });
        }
        Some(res)
    }

    #[test]
    fn key_of_one_text_is_that_text_and_null_is_no_key() {
        assert_eq!(key_of(&[&text_of("a\0b")]), Ok(Some(b"a\0b".to_vec())));
        assert_eq!(key_of(&[&text_of("a"), &Value::Null]), Ok(None));
        assert_eq!(key_of(&[&Value::Real(-0.0)]), key_of(&[&Value::Real(0.0)]));
        assert_eq!(key_of(&[&Value::List(vec![])]), Err((0, NoOrder("a list"))));
        assert!(key_of(&[&Value::Flag(false)]).unwrap() < key_of(&[&Value::Flag(true)]).unwrap());
    }
}
