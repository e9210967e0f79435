//! Makes queries of a value, by the mapping of its fields.
//!
//! ```text
//!  { sent: …, reads: [ { k: "a", op: "GET" }, … ] }     items = reads, key = k, time = sent
//!                        └── each of them a query ──┘
//! ```
//!
//! A field that an item has not is looked for in the record around it.

use schemas::query_log::{Op, QueryLogged};
use schemas::{Key, Millis};
use thiserror::Error;

use super::fields::{self, Unfit, shown};
use super::form::{Mapping, Path, Unit};
use crate::table::rows::KEY_BYTES_MAX;
use crate::table::value::Value;

/// Why a record cannot be used; the variants are the reasons that are counted.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Misfit {
    #[error("it is neither our own form nor {0}, which is what query_log.format says")]
    UnknownFormat(&'static str),
    #[error(
        "schema id {0}: the registry does not know it, or none is configured (schema_registry.url, \
         query_log.schema)"
    )]
    UnknownSchemaId(u32),
    #[error("schema id {id} cannot be used: {reason}")]
    BadSchema { id: u32, reason: String },
    #[error("{0}")]
    Malformed(String),
    #[error("there is no field {0}, which [query_log] names")]
    NoField(String),
    #[error("field {path}: {why}")]
    Unfit { path: String, why: Unfit },
    #[error("field {path}: `{symbol}` is no operation that query_log.ops names")]
    UnknownOp { path: String, symbol: String },
    #[error("a key of {bytes} bytes, where {KEY_BYTES_MAX} are the most")]
    KeyTooLong { bytes: usize },
    #[error("query {number}: {why}")]
    InItem { number: usize, why: Box<Misfit> },
}

impl Misfit {
    /// The reason as a stable code: a metric's label and a dead letter's header.
    pub fn code(&self) -> &'static str {
        match self {
            Self::UnknownFormat(_) => "unknown_format",
            Self::UnknownSchemaId(_) => "unknown_schema_id",
            Self::BadSchema { .. } => "bad_schema",
            Self::Malformed(_) => "malformed",
            Self::NoField(_) => "no_field",
            Self::Unfit { why: Unfit::Type { .. }, .. } => "wrong_type",
            Self::Unfit { why: Unfit::Value { .. }, .. } => "wrong_value",
            Self::UnknownOp { .. } => "unknown_op",
            Self::KeyTooLong { .. } => "key_too_long",
            Self::InItem { why, .. } => why.code(),
        }
    }
}

/// What a field means that is not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Absent {
    /// The same as null: in JSON.
    Null,
    /// The path is wrong, or the schema another: in Avro every field is there.
    Misfit,
}

/// Makes queries of one record.
#[derive(Clone, Copy, Debug)]
pub struct Mapper<'a> {
    pub mapping: &'a Mapping,
    /// Of times that are numbers.
    pub time_unit: Unit,
    pub absent: Absent,
    /// When the record was written.
    pub stamp: Millis,
}

impl Mapper<'_> {
    /// Returns all queries of a record, or why one does not fit.
    pub fn queries(&self, record: &Value) -> Result<Vec<QueryLogged>, Misfit> {
        let Some(items) = &self.mapping.items else {
            return Ok(vec![self.query(record, record)?]);
        };
        let items = match record.at(items) {
            Some(Value::List(items)) => items,
            Some(Value::Null) => return Ok(Vec::new()),
            Some(other) => {
                let why = Unfit::Type { kind: other.kind(), wanted: "a list" };
                return Err(Misfit::Unfit { path: items.join("."), why });
            }
            None => return Err(Misfit::NoField(items.join("."))),
        };
        let query = |(n, item): (usize, &Value)| {
            let in_item = |why| Misfit::InItem { number: n + 1, why: Box::new(why) };
            self.query(item, record).map_err(in_item)
        };
        items.iter().enumerate().map(query).collect()
    }

    fn query(&self, item: &Value, record: &Value) -> Result<QueryLogged, Misfit> {
        let mapping = self.mapping;
        let at = |path: &Path| item.at(path).or_else(|| record.at(path));
        let here = |path: &Path| at(path).ok_or_else(|| Misfit::NoField(path.join(".")));
        // A field that need not be mapped, nor have a value.
        let maybe = |path: &Option<Path>| match (path, self.absent) {
            (None, _) => Ok(&Value::Null),
            (Some(path), Absent::Null) => Ok(at(path).unwrap_or(&Value::Null)),
            (Some(path), Absent::Misfit) => here(path),
        };
        let key = mapping.key.iter().map(here).collect::<Result<Vec<_>, _>>()?;
        let key = fields::key(&key, mapping.encoding);
        let key = key.map_err(unfit(mapping.key.first()))?;
        if KEY_BYTES_MAX < key.len() {
            return Err(Misfit::KeyTooLong { bytes: key.len() });
        }
        let time = fields::time(maybe(&mapping.time)?, self.time_unit);
        let cost_us = fields::cost_us(maybe(&mapping.cost)?, mapping.cost_unit);
        let bytes = fields::bytes(maybe(&mapping.bytes)?);
        Ok(QueryLogged {
            time: time.map_err(unfit(mapping.time.as_ref()))?.unwrap_or(self.stamp),
            key: Key(key),
            op: self.op(maybe(&mapping.op)?)?,
            cost_us: cost_us.map_err(unfit(mapping.cost.as_ref()))?,
            bytes: bytes.map_err(unfit(mapping.bytes.as_ref()))?,
            estimated: false,
        })
    }

    fn op(&self, field: &Value) -> Result<Op, Misfit> {
        let Mapping { op, ops, op_default, .. } = self.mapping;
        let symbol = match field {
            Value::Null => None,
            Value::Flag(_)
            | Value::Whole(_)
            | Value::Real(_)
            | Value::Text(_)
            | Value::Bytes(_)
            | Value::List(_)
            | Value::Fields(_) => Some(fields::symbol(field).map_err(unfit(op.as_ref()))?),
        };
        let known = symbol.as_ref().and_then(|it| ops.get(it).copied().or_else(|| own_op(it)));
        known.or(*op_default).ok_or_else(|| Misfit::UnknownOp {
            path: op.as_ref().map_or_else(String::new, |it| it.join(".")),
            symbol: symbol.map_or("null".to_owned(), |it| shown(&it)),
        })
    }
}

/// Our own names need not be mapped.
fn own_op(symbol: &str) -> Option<Op> {
    match symbol {
        "READ" => Some(Op::Read),
        "SCAN" => Some(Op::Scan),
        "WRITE" => Some(Op::Write),
        _ => None,
    }
}

fn unfit(path: Option<&Path>) -> impl FnOnce(Unfit) -> Misfit {
    let path = path.map_or_else(String::new, |it| it.join("."));
    |why| Misfit::Unfit { path, why }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::foreign::form::Encoding;

    fn path(text: &str) -> Path {
        text.split('.').map(str::to_owned).collect()
    }

    fn mapping() -> Mapping {
        Mapping {
            items: Some(path("reads")),
            key: vec![path("k")],
            op: Some(path("op")),
            ops: [("GET", Op::Read), ("RANGE", Op::Scan), ("1", Op::Write)]
                .map(|(name, op)| (name.to_owned(), op))
                .into(),
            time: Some(path("sent.at")),
            cost: Some(path("took")),
            cost_unit: Unit::Micros,
            bytes: Some(path("size")),
            ..Mapping::default()
        }
    }

    fn queries(mapping: &Mapping, absent: Absent, json: &str) -> Result<Vec<QueryLogged>, Misfit> {
        let record: Value = serde_json::from_str(json).unwrap();
        let mapper = Mapper { mapping, time_unit: Unit::Millis, absent, stamp: Millis(99) };
        mapper.queries(&record)
    }

    /// Tells each query in short, or the code and the reason.
    fn check(mapping: &Mapping, absent: Absent, json: &str, told: &[&str]) {
        let queries = queries(mapping, absent, json);
        let lines = match queries {
            Ok(queries) => queries
                .into_iter()
                .map(|it| {
                    let key = String::from_utf8(it.key.0).unwrap();
                    format!("{} {key} {:?} {:?} {}", it.time.0, it.op, it.cost_us, it.bytes)
                })
                .collect(),
            Err(why) => vec![why.code().to_owned(), why.to_string()],
        };
        assert_eq!(lines, told, "{json}");
    }

    #[test]
    fn items_are_queries_and_what_they_lack_is_in_the_record_around_them() {
        check(
            &mapping(),
            Absent::Null,
            r#"{"sent": {"at": 7}, "took": 5, "reads": [
                {"k": "a", "op": "GET", "took": 3, "size": 4},
                {"k": "b", "op": "RANGE", "took": null, "sent": {"at": 8}},
                {"k": "c", "op": 1},
                {"k": "d", "op": "SCAN"}]}"#,
            &["7 a Read Some(3) 4", "8 b Scan None 0", "7 c Write Some(5) 0", "7 d Scan Some(5) 0"],
        );
        check(&mapping(), Absent::Null, r#"{"reads": []}"#, &[]);
        check(&mapping(), Absent::Null, r#"{"reads": null}"#, &[]);
    }

    #[test]
    fn record_without_items_is_one_query() {
        let one = Mapping { items: None, time: None, ..mapping() };
        check(&one, Absent::Null, r#"{"k": "a", "op": "GET"}"#, &["99 a Read None 0"]);
    }

    #[test]
    fn default_counts_for_what_is_not_named() {
        let mapping = Mapping { op_default: Some(Op::Write), ..mapping() };
        let json = r#"{"reads": [{"k": "a", "op": "PUT"}, {"k": "b"}, {"k": "c", "op": "GET"}]}"#;
        check(
            &mapping,
            Absent::Null,
            json,
            &["99 a Write None 0", "99 b Write None 0", "99 c Read None 0"],
        );
    }

    #[test]
    fn one_that_does_not_fit_is_told_with_its_place_and_nothing_counts() {
        let item = |item: &str, told: &[&str]| {
            let good = r#"{"k": "a", "op": "GET"}"#;
            let json = format!(r#"{{"reads": [{good}, {item}, {good}]}}"#);
            check(&mapping(), Absent::Null, &json, told);
        };
        item(
            r#"{"op": "GET"}"#,
            &["no_field", "query 2: there is no field k, which [query_log] names"],
        );
        item("7", &["no_field", "query 2: there is no field k, which [query_log] names"]);
        item(
            r#"{"k": true, "op": "GET"}"#,
            &[
                "wrong_type",
                "query 2: field k: a boolean, where a key of bytes, text or a whole number is wanted",
            ],
        );
        item(
            r#"{"k": "b", "op": "PUT"}"#,
            &["unknown_op", "query 2: field op: `PUT` is no operation that query_log.ops names"],
        );
        item(
            r#"{"k": "b"}"#,
            &["unknown_op", "query 2: field op: `null` is no operation that query_log.ops names"],
        );
        item(
            r#"{"k": "b", "op": [1]}"#,
            &["wrong_type", "query 2: field op: a list, where text or a whole number is wanted"],
        );
        item(
            r#"{"k": "b", "op": "GET", "took": -1}"#,
            &["wrong_value", "query 2: field took: `-1` is negative"],
        );
        item(
            r#"{"k": "b", "op": "GET", "size": "much"}"#,
            &["wrong_type", "query 2: field size: text, where a whole number is wanted"],
        );
        item(
            r#"{"k": "b", "op": "GET", "sent": {"at": "now"}}"#,
            &["wrong_value", "query 2: field sent.at: `now` is no time of RFC 3339 since 1970"],
        );
        let long = format!(r#"{{"k": "{}", "op": "GET"}}"#, "x".repeat(KEY_BYTES_MAX + 1));
        item(&long, &["key_too_long", "query 2: a key of 16385 bytes, where 16384 are the most"]);
    }

    #[test]
    fn list_of_queries_must_be_one() {
        check(
            &mapping(),
            Absent::Null,
            "{}",
            &["no_field", "there is no field reads, which [query_log] names"],
        );
        check(
            &mapping(),
            Absent::Null,
            r#"{"reads": {"k": "a"}}"#,
            &["wrong_type", "field reads: a record, where a list is wanted"],
        );
    }

    #[test]
    fn field_that_is_not_there_is_null_in_json_and_a_misfit_in_avro() {
        let json = r#"{"reads": [{"k": "a", "op": "GET", "sent": {"at": 7}, "size": 1}]}"#;
        check(&mapping(), Absent::Null, json, &["7 a Read None 1"]);
        let told = ["no_field", "query 1: there is no field took, which [query_log] names"];
        check(&mapping(), Absent::Misfit, json, &told);
    }

    #[test]
    fn several_fields_make_a_key_of_the_index() {
        let key = vec![path("city"), path("no")];
        let mapping =
            Mapping { key, encoding: Encoding::Index, items: None, op: None, ..mapping() };
        let mapping = Mapping { op_default: Some(Op::Read), ..mapping };
        let queries = queries(&mapping, Absent::Null, r#"{"city": "Bern", "no": 7}"#).unwrap();
        assert_eq!(queries[0].key.0, b"Bern\0\x01\x80\0\0\0\0\0\0\x07");
    }
}
