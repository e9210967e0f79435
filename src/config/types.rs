//! Says in words what a value should be that is of another type.

use std::net::SocketAddr;

use figment::Figment;
use figment::error::Kind;
use figment::value::Value;

use super::layers::text_of;
use super::{Config, Problem, dict_of, secrets};

/// What does not hold of the merged layers, by their types.
pub(super) fn problems(error: figment::Error, merged: &Figment) -> Vec<Problem> {
    let defaults = Value::from(dict_of(&Config::default()));
    error.into_iter().map(|it| problem(it, &defaults, merged)).collect()
}

fn problem(error: figment::Error, defaults: &Value, merged: &Figment) -> Problem {
    let key = error.path.join(".");
    let default = defaults.find_ref(&key).filter(|it| it.as_dict().is_none());
    let reason = match expected(&error.kind, &key, default) {
        Some(expected) => match found(&key, merged) {
            Some(found) => format!("it should be {expected}, and is {found}"),
            None => format!("it should be {expected}"),
        },
        None => error.kind.to_string(),
    };
    let remedy = match default.map(text_of).filter(|it| !it.is_empty()) {
        Some(default) => format!("correct it, or leave it out for the default, {default}"),
        None => "correct it, or leave it out".to_owned(),
    };
    let origin = error.metadata.as_ref().map_or("default".into(), |it| it.name.to_string());
    Problem { code: "type", key, origin, reason, remedy }
}

/// What there is, unless that may be secret.
fn found(key: &str, merged: &Figment) -> Option<String> {
    let found = merged.find_value(key).ok().filter(|_| !secrets::may_be_secret(key))?;
    Some(text_of(&found)).filter(|it| !it.is_empty())
}

/// What should stand at a key, by its default; `None`: the error says it in words of our own.
fn expected(kind: &Kind, key: &str, default: Option<&Value>) -> Option<String> {
    match kind {
        Kind::UnknownVariant(_, names) => Some(format!("one of {}", names.join(", "))),
        Kind::InvalidType(_, of) | Kind::InvalidValue(_, of) => Some(words(of, key, default)),
        Kind::Message(_) => address(default),
        Kind::InvalidLength(..)
        | Kind::UnknownField(..)
        | Kind::MissingField(_)
        | Kind::DuplicateField(_)
        | Kind::ISizeOutOfRange(_)
        | Kind::USizeOutOfRange(_)
        | Kind::Unsupported(_)
        | Kind::UnsupportedKey(..) => None,
    }
}

/// Says what a type is that serde names.
fn words(of: &str, key: &str, default: Option<&Value>) -> String {
    let what = match of {
        "u64" | "usize" if key.contains("bytes") && !key.contains("_per_") => {
            "bytes as a whole number"
        }
        "u32" => "a whole number from 0 to 4294967295",
        "u64" | "usize" => "a whole number",
        "a boolean" => "true or false",
        "a sequence" => return "a list, such as [\"a\", \"b\"]".to_owned(),
        _ => {
            return address(default).or_else(|| duration(default)).unwrap_or_else(|| text(default));
        }
    };
    match default.map(text_of).filter(|it| !it.is_empty()) {
        Some(default) => format!("{what}, such as {default}"),
        None => what.to_owned(),
    }
}

fn address(default: Option<&Value>) -> Option<String> {
    let default = default?.as_str().filter(|it| it.parse::<SocketAddr>().is_ok())?;
    Some(format!("ADDRESS:PORT, such as {default}"))
}

fn duration(default: Option<&Value>) -> Option<String> {
    let default = default?.as_str().filter(|it| humantime::parse_duration(it).is_ok())?;
    Some(format!("a duration, such as \"{default}\""))
}

fn text(default: Option<&Value>) -> String {
    match default.and_then(Value::as_str).filter(|it| !it.is_empty()) {
        Some(default) => format!("a text, such as \"{default}\""),
        None => "a text".to_owned(),
    }
}
