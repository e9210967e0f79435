//! Reads what a record of `table` says of a row, and what that means for the index.
//!
//! ```text
//!  c3 01 fingerprint │ datum ──┐            ┌ row_changed: before, after, payload, as they are
//!  00 schema id      │ datum ──┴─ schema ───┤
//!                                           └ envelope: before and after are rows; their fields
//!                                             make the key, and what the index returns
//! ```
//!
//! * **The same for everybody.** Who sends changes and who scans the table come to the same entries, or
//!   to the same error, whose record is a dead letter.
//! * **Nothing is guessed.** An update that does not say what the row was before would leave an entry
//!   behind, so it is an error.

use std::collections::BTreeMap;

use schemas::Key;
use schemas::range_segment::Entry;
use schemas::table::RowChanged;
use schemas::wire::{DecodeError, Record, decode_datum};
use serde_avro_fast::Schema;
use thiserror::Error;

use super::key::{NoOrder, key_of};
use super::value::Value;

/// A longer key is no key of the index; so are both keys and the payload below half a segment.
pub const KEY_BYTES_MAX: usize = 16 * 1024;

/// An entry has to fit into a segment, and into a record of Kafka.
pub const PAYLOAD_BYTES_MAX: usize = 384 * 1024;

/// What the values of `table` are.
#[derive(Debug)]
pub struct Rows {
    form: Form,
    by_fingerprint: BTreeMap<[u8; 8], Schema>,
    by_id: BTreeMap<u32, Schema>,
}

/// How a value tells of a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Form {
    /// As in `schemas/table.avsc`: keys and payload are there already.
    RowChanged,
    /// The row before and the row after, as Debezium has them.
    Envelope {
        /// Paths of the fields that make the index key.
        key: Vec<Vec<String>>,
        /// Paths of the fields that the index returns, as JSON; none: the row.
        payload: Vec<Vec<String>>,
    },
}

/// A schema that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{name} is no Avro schema: {reason}")]
pub struct BadSchema {
    pub name: String,
    pub reason: String,
}

/// Why a record cannot be used; the variants are the reasons that are counted.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum RowError {
    #[error("{0}")]
    Malformed(#[from] DecodeError),
    #[error("schema id {0} is not configured: name its file in table.schema_ids")]
    UnknownSchemaId(u32),
    #[error("the record has no key, which is the primary key of its row")]
    NoPrimaryKey,
    #[error("the row has no field {0}")]
    NoField(String),
    #[error("field {path}: {reason}")]
    NoOrder { path: String, reason: NoOrder },
    #[error(
        "a change does not say what the row was before, so its entry would stay: let the database \
         log whole rows (PostgreSQL: REPLICA IDENTITY FULL)"
    )]
    NoBefore,
    #[error("a key of {bytes} bytes, where {KEY_BYTES_MAX} are the most")]
    KeyTooLong { bytes: usize },
    #[error("a payload of {bytes} bytes, where {PAYLOAD_BYTES_MAX} are the most")]
    PayloadTooLong { bytes: usize },
}

impl RowError {
    /// The reason as a stable code: a metric's label and a dead letter's header.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Malformed(it) => it.code(),
            Self::UnknownSchemaId(_) => "unknown_schema",
            Self::NoPrimaryKey => "no_primary_key",
            Self::NoField(_) => "no_field",
            Self::NoOrder { .. } => "no_order",
            Self::NoBefore => "no_before",
            Self::KeyTooLong { .. } => "key_too_long",
            Self::PayloadTooLong { .. } => "payload_too_long",
        }
    }
}

impl Rows {
    /// Takes the schemas of writers as texts with names; `by_id` are those of a registry.
    pub fn new(
        form: Form,
        schemas: &[(String, String)],
        by_id: &[(u32, String, String)],
    ) -> Result<Self, BadSchema> {
        let mut by_fingerprint = BTreeMap::new();
        if form == Form::RowChanged {
            let own = parse("schemas/table.avsc", RowChanged::SCHEMA_JSON)?;
            by_fingerprint.insert(*own.rabin_fingerprint(), own);
        }
        for (name, text) in schemas {
            let schema = parse(name, text)?;
            by_fingerprint.insert(*schema.rabin_fingerprint(), schema);
        }
        let by_id = by_id.iter().map(|(id, name, text)| Ok((*id, parse(name, text)?)));
        let by_id = by_id.collect::<Result<_, _>>()?;
        Ok(Self { form, by_fingerprint, by_id })
    }

    /// Returns the entries of a record: none of a tombstone.
    pub fn entries(
        &self,
        primary_key: Option<&[u8]>,
        value: Option<&[u8]>,
        (partition, offset): (u32, u64),
    ) -> Result<Vec<Entry>, RowError> {
        let Some(value) = value else { return Ok(Vec::new()) };
        let row = self.read(value)?;
        let primary_key = Key(primary_key.ok_or(RowError::NoPrimaryKey)?.to_vec());
        check_key(&primary_key)?;
        Ok(entries(row, &primary_key, (partition, offset)))
    }

    /// Returns what a value says of a row, its keys short enough.
    pub fn read(&self, value: &[u8]) -> Result<RowChanged, RowError> {
        let (schema, datum) = self.writer(value)?;
        let mut row = match &self.form {
            Form::RowChanged => decode_datum::<RowChanged>(datum, schema)?,
            Form::Envelope { key, payload } => {
                let envelope = decode_datum::<Value>(datum, schema)?;
                from_envelope(&envelope, key, payload)?
            }
        };
        if let Some(after) = &row.after {
            check_key(after)?;
        }
        // Of a key that is none of the index, nothing is to be deleted.
        row.before = row.before.filter(|it| it.0.len() <= KEY_BYTES_MAX);
        let bytes = row.payload.as_ref().map_or(0, Vec::len);
        if PAYLOAD_BYTES_MAX < bytes {
            return Err(RowError::PayloadTooLong { bytes });
        }
        Ok(row)
    }

    /// Returns the schema by which a value was written, and what follows the mark of it.
    fn writer<'a>(&self, value: &'a [u8]) -> Result<(&Schema, &'a [u8]), RowError> {
        if let Some((id, datum)) = value.strip_prefix(&[0]).and_then(|it| it.split_first_chunk()) {
            let id = u32::from_be_bytes(*id);
            return Ok((self.by_id.get(&id).ok_or(RowError::UnknownSchemaId(id))?, datum));
        }
        let Some(rest) = value.strip_prefix(&[0xc3, 0x01]) else {
            return Err(DecodeError::NotSingleObject.into());
        };
        let Some((fingerprint, datum)) = rest.split_first_chunk::<8>() else {
            let reason = "it ends within the fingerprint".to_owned();
            return Err(DecodeError::Malformed(reason).into());
        };
        let unknown = || DecodeError::UnknownSchema(u64::from_le_bytes(*fingerprint));
        Ok((self.by_fingerprint.get(fingerprint).ok_or_else(unknown)?, datum))
    }
}

/// Returns what a change of a row means (R16): a deletion at the key before, an entry at the key after;
/// where the two are equal, the entry alone, as one version can be no two things.
pub fn entries(row: RowChanged, primary_key: &Key, (partition, offset): (u32, u64)) -> Vec<Entry> {
    let RowChanged { before, after, payload } = row;
    let entry = |index_key: Key, payload| Entry {
        index_key,
        primary_key: primary_key.clone(),
        partition,
        offset,
        payload,
    };
    let left = before.filter(|it| Some(it) != after.as_ref()).map(|it| entry(it, None));
    // No payload would be a deletion.
    let here = after.map(|it| entry(it, Some(payload.unwrap_or_default())));
    left.into_iter().chain(here).collect()
}

fn parse(name: &str, text: &str) -> Result<Schema, BadSchema> {
    let bad =
        |err: &dyn std::error::Error| BadSchema { name: name.into(), reason: err.to_string() };
    text.parse().map_err(|err| bad(&err))
}

fn check_key(key: &Key) -> Result<(), RowError> {
    match key.0.len() {
        bytes if KEY_BYTES_MAX < bytes => Err(RowError::KeyTooLong { bytes }),
        _ => Ok(()),
    }
}

fn from_envelope(
    envelope: &Value,
    key: &[Vec<String>],
    payload: &[Vec<String>],
) -> Result<RowChanged, RowError> {
    let row = |name: &str| match envelope.field(name) {
        None => Err(RowError::NoField(name.to_owned())),
        Some(Value::Null) => Ok(None),
        Some(row) => Ok(Some(row)),
    };
    let (before, after) = (row("before")?, row("after")?);
    // Of what is created or was read in a first snapshot, there was nothing before.
    let changes = |op: &Value| [Value::Text("u".into()), Value::Text("d".into())].contains(op);
    if before.is_none() && envelope.field("op").is_some_and(changes) {
        return Err(RowError::NoBefore);
    }
    let key = |row: Option<&Value>| row.map_or(Ok(None), |row| index_key(row, key));
    let payload = after.map(|row| returned(row, payload)).transpose()?;
    Ok(RowChanged { before: key(before)?, after: key(after)?, payload })
}

fn index_key(row: &Value, paths: &[Vec<String>]) -> Result<Option<Key>, RowError> {
    let mut fields = Vec::new();
    for path in paths {
        fields.push(row.at(path).ok_or_else(|| RowError::NoField(path.join(".")))?);
    }
    let no_order =
        |(n, reason): (usize, NoOrder)| RowError::NoOrder { path: paths[n].join("."), reason };
    Ok(key_of(&fields).map_err(no_order)?.map(Key))
}

/// Returns the fields as one JSON object, or the row.
fn returned(row: &Value, paths: &[Vec<String>]) -> Result<Vec<u8>, RowError> {
    let mut fields = Vec::new();
    for path in paths {
        let field = row.at(path).ok_or_else(|| RowError::NoField(path.join(".")))?;
        fields.push((path.join("."), field.clone()));
    }
    let json = match paths {
        [] => serde_json::to_vec(row),
        _ => serde_json::to_vec(&Value::Fields(fields)),
    };
    Ok(json.expect("names are text, and all else JSON takes"))
}

#[cfg(test)]
mod tests;
