//! Reads what a query is of the values of fields: its key, cost, time.
//!
//! What a value does not say is an error, never a guess: a number below zero is no cost, text is no
//! number unless it is one.

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use schemas::Millis;
use thiserror::Error;

use super::form::{Encoding, Unit};
use crate::table::key::key_of;
use crate::table::value::Value;

/// Of a value that is shown in a reason, so much.
const SHOWN_MAX: usize = 60;

/// Why a value is not what it is mapped to.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Unfit {
    #[error("{kind}, where {wanted} is wanted")]
    Type { kind: &'static str, wanted: &'static str },
    #[error("`{value}` is {reason}")]
    Value { value: String, reason: &'static str },
}

/// Returns the key that fields make.
pub fn key(fields: &[&Value], encoding: Encoding) -> Result<Vec<u8>, Unfit> {
    match (encoding, fields) {
        (Encoding::Index, _) => match key_of(fields) {
            Ok(Some(key)) => Ok(key),
            Ok(None) => Err(of_type(&Value::Null, "part of a key")),
            Err((n, _)) => Err(of_type(fields[n], "part of a key")),
        },
        (_, [field]) => key_of_one(field, encoding),
        (_, _) => unreachable!("several fields make a key of the index only"),
    }
}

fn key_of_one(field: &Value, encoding: Encoding) -> Result<Vec<u8>, Unfit> {
    match field {
        Value::Bytes(bytes) => Ok(bytes.clone()),
        Value::Whole(it) => {
            let it = u64::try_from(*it).map_err(|_| unfit(it, "negative"))?;
            Ok(it.to_be_bytes().to_vec())
        }
        Value::Text(text) => match encoding {
            Encoding::Plain | Encoding::Index => Ok(text.as_bytes().to_vec()),
            Encoding::Hex => from_hex(text).ok_or_else(|| unfit(text, "not hexadecimal")),
            Encoding::Base64 => LENIENT.decode(text).map_err(|_| unfit(text, "not in base 64")),
        },
        Value::Null | Value::Flag(_) | Value::Real(_) | Value::List(_) | Value::Fields(_) => {
            Err(of_type(field, "a key of bytes, text or a whole number"))
        }
    }
}

/// With padding or without, as writers of all kinds have it.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let text = text.strip_prefix("0x").unwrap_or(text).as_bytes();
    let digit = |it: u8| char::from(it).to_digit(16).map(|it| it as u8);
    let pairs = text.chunks(2).map(|it| match it {
        [high, low] => Some(digit(*high)? << 4 | digit(*low)?),
        _ => None,
    });
    pairs.collect()
}

/// Returns a cost in microseconds; `None` of null.
pub fn cost_us(field: &Value, unit: Unit) -> Result<Option<u64>, Unfit> {
    let real = |it: f64, shown: String| match it {
        it if !it.is_finite() => Err(unfit(shown, "no number")),
        it if it < 0.0 => Err(unfit(shown, "negative")),
        // A conversion of what is too large is the largest.
        it => Ok(Some(((it * nanos(unit) as f64 / 1e3).round() as u64).min(i64::MAX as u64))),
    };
    match field {
        Value::Null => Ok(None),
        Value::Whole(it) => {
            let it = u128::try_from(*it).map_err(|_| unfit(it, "negative"))?;
            let us = (it * u128::from(nanos(unit)) + 500) / 1_000;
            Ok(Some(us.min(i64::MAX as u128) as u64))
        }
        Value::Real(it) => real(*it, it.to_string()),
        // Avro's decimals come as text.
        Value::Text(text) => match text.parse() {
            Ok(it) => real(it, text.clone()),
            Err(_) => Err(unfit(text, "no number")),
        },
        Value::Flag(_) | Value::Bytes(_) | Value::List(_) | Value::Fields(_) => {
            Err(of_type(field, "a number"))
        }
    }
}

/// Returns how many bytes; none of null.
pub fn bytes(field: &Value) -> Result<u64, Unfit> {
    match field {
        Value::Null => Ok(0),
        Value::Whole(it) => u64::try_from(*it).map_err(|_| unfit(it, "negative")),
        Value::Flag(_)
        | Value::Real(_)
        | Value::Text(_)
        | Value::Bytes(_)
        | Value::List(_)
        | Value::Fields(_) => Err(of_type(field, "a whole number")),
    }
}

/// Returns a time; `None` of null. Text is RFC 3339.
pub fn time(field: &Value, unit: Unit) -> Result<Option<Millis>, Unfit> {
    match field {
        Value::Null => Ok(None),
        Value::Whole(it) => {
            let it = u128::try_from(*it).map_err(|_| unfit(it, "before 1970"))?;
            let ms = it * u128::from(nanos(unit)) / 1_000_000;
            Ok(Some(Millis(ms.min(i64::MAX as u128) as u64)))
        }
        Value::Real(it) if it.is_finite() && 0.0 <= *it => {
            let ms = (it * nanos(unit) as f64 / 1e6) as u64;
            Ok(Some(Millis(ms.min(i64::MAX as u64))))
        }
        Value::Real(it) => Err(unfit(it, "no time since 1970")),
        Value::Text(text) => match rfc_3339(text) {
            Some(time) => Ok(Some(time)),
            None => Err(unfit(text, "no time of RFC 3339 since 1970")),
        },
        Value::Flag(_) | Value::Bytes(_) | Value::List(_) | Value::Fields(_) => {
            Err(of_type(field, "a time"))
        }
    }
}

/// Reads a time with its offset from UTC, which must be there.
fn rfc_3339(text: &str) -> Option<Millis> {
    let text = text.trim();
    let (local, offset_min) = match text.strip_suffix(['Z', 'z']) {
        Some(local) => (local, 0),
        None => {
            let (local, offset) = text.split_at_checked(text.len().checked_sub(6)?)?;
            let (sign, hours, minutes) = (offset.get(..1)?, offset.get(1..3)?, offset.get(4..)?);
            let minutes: i64 = hours.parse::<i64>().ok()? * 60 + minutes.parse::<i64>().ok()?;
            match (sign, offset.get(3..4)?) {
                ("+", ":") => (local, minutes),
                ("-", ":") => (local, -minutes),
                (_, _) => return None,
            }
        }
    };
    let local = local.replacen(['t', ' '], "T", 1);
    let time = humantime::parse_rfc3339(&format!("{local}Z")).ok()?;
    let ms = time.duration_since(std::time::UNIX_EPOCH).ok()?.as_millis();
    let ms = i64::try_from(ms).ok()? - offset_min * 60_000;
    u64::try_from(ms).ok().map(Millis)
}

/// Returns what stands for an operation, as text.
pub fn symbol(field: &Value) -> Result<String, Unfit> {
    match field {
        Value::Text(it) => Ok(it.clone()),
        Value::Whole(it) => Ok(it.to_string()),
        Value::Flag(it) => Ok(it.to_string()),
        Value::Null | Value::Real(_) | Value::Bytes(_) | Value::List(_) | Value::Fields(_) => {
            Err(of_type(field, "text or a whole number"))
        }
    }
}

fn nanos(unit: Unit) -> u64 {
    match unit {
        Unit::Nanos => 1,
        Unit::Micros => 1_000,
        Unit::Millis => 1_000_000,
        Unit::Seconds => 1_000_000_000,
    }
}

fn of_type(field: &Value, wanted: &'static str) -> Unfit {
    Unfit::Type { kind: field.kind(), wanted }
}

fn unfit(value: impl ToString, reason: &'static str) -> Unfit {
    Unfit::Value { value: shown(&value.to_string()), reason }
}

/// As much of a text as a reason needs.
pub(super) fn shown(text: &str) -> String {
    match text.char_indices().nth(SHOWN_MAX) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}…", &text[..end]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(it: &str) -> Value {
        Value::Text(it.to_owned())
    }

    fn check_key(field: &Value, encoding: Encoding, told: Result<&[u8], &str>) {
        let key = key(&[field], encoding).map_err(|it| it.to_string());
        assert_eq!(key.as_deref().map_err(String::as_str), told, "{field:?}");
    }

    #[test]
    fn key_is_of_bytes_text_or_a_whole_number() {
        check_key(&text("ü"), Encoding::Plain, Ok("ü".as_bytes()));
        check_key(&Value::Bytes(vec![0, 255]), Encoding::Plain, Ok(&[0, 255]));
        check_key(&Value::Bytes(vec![0, 255]), Encoding::Hex, Ok(&[0, 255]));
        check_key(&Value::Whole(258), Encoding::Plain, Ok(&[0, 0, 0, 0, 0, 0, 1, 2]));
        check_key(&Value::Whole(258), Encoding::Index, Ok(&[128, 0, 0, 0, 0, 0, 1, 2]));
        check_key(&Value::Whole(-1), Encoding::Plain, Err("`-1` is negative"));
        check_key(&text("0x00fF"), Encoding::Hex, Ok(&[0, 255]));
        check_key(&text("0ff"), Encoding::Hex, Err("`0ff` is not hexadecimal"));
        check_key(&text("zz"), Encoding::Hex, Err("`zz` is not hexadecimal"));
        check_key(&text("AP8="), Encoding::Base64, Ok(&[0, 255]));
        check_key(&text("AP8"), Encoding::Base64, Ok(&[0, 255]));
        check_key(&text("A!"), Encoding::Base64, Err("`A!` is not in base 64"));
        let wanted = "a key of bytes, text or a whole number";
        check_key(&Value::Null, Encoding::Plain, Err(&format!("null, where {wanted} is wanted")));
        check_key(
            &Value::Real(0.5),
            Encoding::Hex,
            Err(&format!("a real number, where {wanted} is wanted")),
        );
        check_key(&Value::Null, Encoding::Index, Err("null, where part of a key is wanted"));
    }

    #[test]
    fn key_of_several_fields_is_that_of_the_index() {
        let fields = [text("Bern"), Value::Whole(7)];
        let made = key(&[&fields[0], &fields[1]], Encoding::Index).unwrap();
        assert_eq!(made, key_of(&[&fields[0], &fields[1]]).unwrap().unwrap());
    }

    fn check_cost(field: &Value, unit: Unit, told: Result<Option<u64>, &str>) {
        let cost = cost_us(field, unit).map_err(|it| it.to_string());
        assert_eq!(cost.as_ref().map_err(String::as_str), told.as_ref().map_err(|it| *it));
    }

    #[test]
    fn cost_is_in_microseconds() {
        check_cost(&Value::Whole(1_499), Unit::Nanos, Ok(Some(1)));
        check_cost(&Value::Whole(1_500), Unit::Nanos, Ok(Some(2)));
        check_cost(&Value::Whole(3), Unit::Millis, Ok(Some(3_000)));
        check_cost(&Value::Real(0.0125), Unit::Seconds, Ok(Some(12_500)));
        check_cost(&text("1.50"), Unit::Millis, Ok(Some(1_500)));
        check_cost(&Value::Null, Unit::Micros, Ok(None));
        check_cost(&Value::Whole(i64::MAX), Unit::Seconds, Ok(Some(i64::MAX as u64)));
        check_cost(&Value::Real(1e300), Unit::Seconds, Ok(Some(i64::MAX as u64)));
        check_cost(&Value::Whole(-1), Unit::Micros, Err("`-1` is negative"));
        check_cost(&Value::Real(-0.5), Unit::Micros, Err("`-0.5` is negative"));
        check_cost(&Value::Real(f64::NAN), Unit::Micros, Err("`NaN` is no number"));
        check_cost(&Value::Real(f64::INFINITY), Unit::Micros, Err("`inf` is no number"));
        check_cost(&text("NaN"), Unit::Micros, Err("`NaN` is no number"));
        check_cost(&text("much"), Unit::Micros, Err("`much` is no number"));
        check_cost(&Value::Flag(true), Unit::Micros, Err("a boolean, where a number is wanted"));
    }

    fn check_time(field: &Value, unit: Unit, told: Result<Option<u64>, &str>) {
        let time = time(field, unit).map(|it| it.map(|it| it.0)).map_err(|it| it.to_string());
        assert_eq!(time.as_ref().map_err(String::as_str), told.as_ref().map_err(|it| *it));
    }

    #[test]
    fn time_is_in_milliseconds() {
        check_time(&Value::Whole(1_700_000_000_123_999), Unit::Micros, Ok(Some(1_700_000_000_123)));
        check_time(&Value::Whole(1_700_000_000), Unit::Seconds, Ok(Some(1_700_000_000_000)));
        check_time(&Value::Real(1_700_000_000.5), Unit::Seconds, Ok(Some(1_700_000_000_500)));
        check_time(&Value::Null, Unit::Seconds, Ok(None));
        let day = Ok(Some(1_767_225_600_250));
        check_time(&text("2026-01-01T00:00:00.25Z"), Unit::Seconds, day);
        check_time(&text("2026-01-01 00:00:00.25z"), Unit::Seconds, day);
        check_time(&text("2026-01-01T02:00:00.250+02:00"), Unit::Seconds, day);
        check_time(&text("2025-12-31T18:30:00.250-05:30"), Unit::Seconds, day);
        for wrong in
            ["2026-01-01", "2026-01-01T00:00:00", "yesterday", "", "ü", "1969-12-31T23:59:59Z"]
        {
            let told = format!("`{wrong}` is no time of RFC 3339 since 1970");
            check_time(&text(wrong), Unit::Millis, Err(&told));
        }
        check_time(&Value::Whole(-1), Unit::Millis, Err("`-1` is before 1970"));
        check_time(&Value::Real(f64::NAN), Unit::Millis, Err("`NaN` is no time since 1970"));
        check_time(&Value::Bytes(vec![]), Unit::Millis, Err("bytes, where a time is wanted"));
    }

    #[test]
    fn bytes_and_symbols_are_what_they_are_taken_for() {
        assert_eq!((bytes(&Value::Whole(9)), bytes(&Value::Null)), (Ok(9), Ok(0)));
        assert_eq!(bytes(&Value::Whole(-9)), Err(unfit(-9, "negative")));
        assert_eq!(bytes(&text("9")).unwrap_err(), of_type(&text(""), "a whole number"));
        assert_eq!(symbol(&Value::Whole(3)), Ok("3".to_owned()));
        assert_eq!(symbol(&Value::Flag(true)), Ok("true".to_owned()));
        assert!(symbol(&Value::Null).is_err());
    }

    #[test]
    fn reason_shows_no_more_of_a_value_than_it_needs() {
        assert_eq!(shown(&"ü".repeat(60)), "ü".repeat(60));
        assert_eq!(shown(&"ü".repeat(61)), "ü".repeat(60) + "…");
    }
}
