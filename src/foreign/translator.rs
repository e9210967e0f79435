//! Finds out by the first bytes of a record what form it has, and writes its queries in our own.

use std::borrow::Cow;
use std::collections::BTreeMap;

use schemas::Millis;
use schemas::query_log::{QueriesLogged, QueryLogged};
use schemas::wire::{Record as _, decode_datum, encode};
use serde_avro_fast::Schema;
use serde_avro_fast::schema::SchemaMut;

use super::form::{Answer, Form, Format, Mapping, Unit, framed};
use super::mapping::{Absent, Mapper, Misfit};
use super::units::unit_at;
use crate::table::value::Value;

/// Stands before the fingerprint of a schema.
const SINGLE_OBJECT: [u8; 2] = [0xc3, 0x01];

/// Translates records of one form.
#[derive(Debug)]
pub struct Translator {
    format: Format,
    mapping: Mapping,
    schema: Option<Writer>,
    by_id: BTreeMap<u32, Writer>,
}

/// How a record was written.
#[derive(Debug)]
enum Writer {
    Avro {
        schema: Box<Schema>,
        /// Of times that are numbers.
        time_unit: Unit,
        /// It is our own: only the frame is another.
        is_own: bool,
    },
    Json,
    Unusable(String),
}

impl Translator {
    pub fn new(form: &Form) -> Self {
        let mapping = form.mapping.clone();
        let avro = |text: &String| avro(text, &mapping).unwrap_or_else(Writer::Unusable);
        let writer = |answer: &Answer| match answer {
            Answer::Avro(text) => avro(text),
            Answer::Json => Writer::Json,
            Answer::Unusable(reason) => Writer::Unusable(reason.clone()),
        };
        let schema = form.schema.as_ref().map(avro);
        let by_id = form.by_id.iter().map(|(id, answer)| (*id, writer(answer))).collect();
        Self { format: form.format, schema, by_id, mapping }
    }

    /// Returns a value in our own form: as it is, if it claims to have that.
    pub fn own<'a>(&self, value: &'a [u8], stamp: Millis) -> Result<Cow<'a, [u8]>, Misfit> {
        let (avro, json) = match self.format {
            Format::Isotherm => return Ok(Cow::Borrowed(value)),
            Format::Avro => (true, false),
            Format::Json => (false, true),
            Format::Auto => (true, true),
        };
        if let Some(rest) = value.strip_prefix(&SINGLE_OBJECT) {
            return self.single_object(value, rest, stamp);
        }
        if let Some((id, datum)) = framed(value).filter(|_| avro) {
            let writer = self.schema.as_ref().or_else(|| self.by_id.get(&id));
            return match writer.ok_or(Misfit::UnknownSchemaId(id))? {
                Writer::Avro { is_own: true, .. } => {
                    let fingerprint = QueriesLogged::schema().rabin_fingerprint();
                    Ok([&SINGLE_OBJECT[..], fingerprint, datum].concat().into())
                }
                Writer::Avro { schema, time_unit, is_own: false } => {
                    self.of_avro(datum, schema, *time_unit, stamp)
                }
                Writer::Json => self.of_json(datum, stamp),
                Writer::Unusable(reason) => Err(Misfit::BadSchema { id, reason: reason.clone() }),
            };
        }
        let looks_like_json = value.trim_ascii_start().first().is_some_and(|it| b"{[".contains(it));
        match looks_like_json && json {
            true => self.of_json(value, stamp),
            false => Err(Misfit::UnknownFormat(match self.format {
                Format::Avro => "Avro with the id of a schema",
                Format::Json => "JSON",
                Format::Auto => "Avro with the id of a schema nor JSON",
                Format::Isotherm => unreachable!("all else is of our own form"),
            })),
        }
    }

    /// Whether what claims to be of our own form is, the dataflow finds out when it reads it.
    fn single_object<'a>(
        &self,
        value: &'a [u8],
        rest: &[u8],
        stamp: Millis,
    ) -> Result<Cow<'a, [u8]>, Misfit> {
        match (&self.schema, rest.split_first_chunk()) {
            (
                Some(Writer::Avro { schema, time_unit, is_own: false }),
                Some((fingerprint, datum)),
            ) if schema.rabin_fingerprint() == fingerprint => {
                self.of_avro(datum, schema, *time_unit, stamp)
            }
            (_, _) => Ok(Cow::Borrowed(value)),
        }
    }

    fn of_avro(
        &self,
        datum: &[u8],
        schema: &Schema,
        time_unit: Unit,
        stamp: Millis,
    ) -> Result<Cow<'static, [u8]>, Misfit> {
        let record = decode_datum::<Value>(datum, schema);
        let record = record.map_err(|it| Misfit::Malformed(it.to_string()))?;
        let mapping = &self.mapping;
        let mapper = Mapper { mapping, time_unit, absent: Absent::Misfit, stamp };
        mapper.queries(&record).map(written)
    }

    fn of_json(&self, text: &[u8], stamp: Millis) -> Result<Cow<'static, [u8]>, Misfit> {
        let record: Value = serde_json::from_slice(text)
            .map_err(|it| Misfit::Malformed(format!("no JSON that can be used: {it}")))?;
        let (mapping, time_unit) = (&self.mapping, self.mapping.time_unit);
        Mapper { mapping, time_unit, absent: Absent::Null, stamp }.queries(&record).map(written)
    }
}

fn written(queries: Vec<QueryLogged>) -> Cow<'static, [u8]> {
    encode(&QueriesLogged { queries }).into()
}

/// Reads a schema, or says why it is none.
pub fn check_schema(text: &str) -> Result<(), String> {
    avro(text, &Mapping::default()).map(|_| ())
}

fn avro(text: &str, mapping: &Mapping) -> Result<Writer, String> {
    let parsed: SchemaMut = text.parse().map_err(|it| format!("no Avro schema: {it}"))?;
    let none = Vec::new();
    let items = mapping.items.as_ref().unwrap_or(&none);
    let told = mapping.time.as_ref().and_then(|time| unit_at(&parsed, items, time));
    let schema = parsed.freeze().map_err(|it| format!("no Avro schema: {it}"))?;
    let is_own = schema.rabin_fingerprint() == QueriesLogged::schema().rabin_fingerprint();
    let time_unit = told.unwrap_or(mapping.time_unit);
    Ok(Writer::Avro { schema: Box::new(schema), time_unit, is_own })
}

#[cfg(test)]
mod tests;
