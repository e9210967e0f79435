//! Asks a schema registry what schema an id stands for.
//!
//! ```text
//!  GET /schemas/ids/7 ──> 200 and a schema        Told::Schema    for good
//!                     ──> 404 in its own words    Told::Unknown   may be there later
//!                     ──> all else, or nothing    Away            ask again
//! ```
//!
//! * **Only a registry's own words are an answer.** A page of a proxy, a missing right, or a path
//!   that leads elsewhere say nothing of the id.

use std::fmt;
use std::time::Duration;

use schema_registry_converter::blocking::schema_registry::{SrSettings, get_schema_by_id};
use schema_registry_converter::error::SRCError;
use schema_registry_converter::schema_registry_common::{RawError, SchemaType};
use thiserror::Error;

use crate::foreign::form::{Answer, SCHEMA_BYTES_MAX};

/// How long a request may take.
const REQUEST_MAX: Duration = Duration::from_secs(5);

/// How to reach a registry.
#[derive(Clone, PartialEq, Eq)]
pub struct Access {
    /// One, or several that are the same, with commas between them.
    pub url: String,
    pub user: String,
    pub password: String,
}

/// A client of a registry.
pub struct Registry {
    settings: SrSettings,
    url: String,
}

/// What a registry says of an id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    Schema(Answer),
    /// It does not know the id.
    Unknown,
}

/// No registry has answered.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("the schema registry at {url} does not answer: {reason}")]
pub struct Away {
    pub url: String,
    pub reason: String,
}

/// An address that leads nowhere.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum BadAddress {
    #[error("`{0}` is no address: it begins with neither http:// nor https://")]
    NoHttp(String),
    #[error("an address has a user or a password in it, which would be written to topics")]
    HasSecret,
    #[error("the client of the registry cannot be made: {0}")]
    Client(String),
}

impl Access {
    /// Returns its addresses, without a slash at their ends.
    fn urls(&self) -> Result<Vec<String>, BadAddress> {
        let each = self.url.split(',').map(|it| it.trim().trim_end_matches('/'));
        each.map(|url| {
            let rest = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://"));
            let host = rest.and_then(|it| it.split('/').next()).filter(|it| !it.is_empty());
            match host.ok_or_else(|| BadAddress::NoHttp(url.to_owned()))?.contains('@') {
                true => Err(BadAddress::HasSecret),
                false => Ok(url.to_owned()),
            }
        })
        .collect()
    }
}

impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Access").field("url", &self.url).finish_non_exhaustive()
    }
}

impl Registry {
    /// Asks nothing yet.
    pub fn open(access: &Access) -> Result<Self, BadAddress> {
        let mut urls = access.urls()?.into_iter();
        let first = urls.next().expect("a text has a part before its first comma");
        let mut builder = SrSettings::new_builder(first);
        urls.for_each(|it| _ = builder.add_url(it));
        if !access.user.is_empty() {
            builder.set_basic_authorization(&access.user, Some(&access.password));
        }
        let settings = builder.set_timeout(REQUEST_MAX).build();
        let settings = settings.map_err(|it| BadAddress::Client(it.to_string()))?;
        Ok(Self { settings, url: access.url.clone() })
    }

    /// Asks once.
    pub fn ask(&self, id: u32) -> Result<Told, Away> {
        let schema = match get_schema_by_id(id, &self.settings) {
            Ok(schema) => schema,
            Err(err) if is_unknown(&err) => return Ok(Told::Unknown),
            Err(err) => return Err(Away { url: self.url.clone(), reason: reason(&err) }),
        };
        let unusable = |reason: String| Answer::Unusable(reason);
        Ok(Told::Schema(match schema.schema_type {
            _ if SCHEMA_BYTES_MAX < schema.schema.len() => unusable(format!(
                "it has {} bytes, where {SCHEMA_BYTES_MAX} are the most",
                schema.schema.len()
            )),
            SchemaType::Avro if !schema.references.is_empty() => {
                unusable("it refers to other schemas, which are not read".to_owned())
            }
            SchemaType::Avro => Answer::Avro(schema.schema),
            SchemaType::Json => Answer::Json,
            SchemaType::Protobuf => unusable("it is of type PROTOBUF".to_owned()),
            SchemaType::Other(it) => {
                unusable(format!("it is of type {}", it.chars().take(40).collect::<String>()))
            }
            _ => unusable("it is of a type that is not known here".to_owned()),
        }))
    }
}

/// Tells whether a registry says in its own words that there is no such id.
fn is_unknown(err: &SRCError) -> bool {
    let source = std::error::Error::source(err);
    let code = source.and_then(|it| it.downcast_ref::<RawError>()).map(|it| it.error_code);
    // A path that leads elsewhere has 404 here, and what has no such words 0.
    code == Some(40_403)
}

/// What a person can do something about: the last of the causes.
fn reason(err: &SRCError) -> String {
    let mut causes = vec![err.error.clone()];
    let mut source = std::error::Error::source(err);
    while let Some(cause) = source {
        let text = cause.to_string();
        if !causes.last().is_some_and(|it| it.contains(&text)) {
            causes.push(text);
        }
        source = cause.source();
    }
    causes.join(": ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(url: &str, told: Result<&[&str], &str>) {
        let access = Access { url: url.into(), user: "u".into(), password: "secret".into() };
        let urls = access.urls().map_err(|it| it.to_string());
        let told = told.map(|it| it.iter().map(ToString::to_string).collect::<Vec<_>>());
        assert_eq!(urls, told.map_err(str::to_owned));
        assert!(!format!("{access:?}").contains("secret"));
    }

    #[test]
    fn addresses_are_of_http_and_hold_no_secrets() {
        check("http://a:8081/, https://b", Ok(&["http://a:8081", "https://b"]));
        check("https://a/registry/", Ok(&["https://a/registry"]));
        let none = "is no address: it begins with neither http:// nor https://";
        check("a:8081", Err(&format!("`a:8081` {none}")));
        check("http://", Err(&format!("`http:` {none}")));
        check("", Err(&format!("`` {none}")));
        check("http://a,", Err(&format!("`` {none}")));
        check("https://key:word@a/x", Err(&BadAddress::HasSecret.to_string()));
        check("https://a/x@y", Ok(&["https://a/x@y"]));
    }
}
