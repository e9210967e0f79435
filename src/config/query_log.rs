//! `[query_log]`: what form query logs of others have; `[schema_registry]`: who knows their schemas.

use schemas::query_log::Op;
use serde::{Deserialize, Serialize};

use crate::foreign::form::{Encoding, Format, Mapping, Path, Unit};

/// `[query_log]`. Fields are named by their paths, as `key` or `request.key`; unless it is said
/// otherwise, as in our own schema.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct QueryLog {
    /// What is read beside our own form.
    pub format: Format,
    /// File of the one Avro schema that counts for all records, instead of a registry.
    pub schema: String,
    /// Where the list of queries is; empty: a record is one query.
    pub items: String,
    /// One field, or several, which make a key as `table.key` does.
    pub key: Vec<String>,
    pub key_encoding: Encoding,
    pub op: String,
    /// What stands for which operation, as `GET=READ`; our own names need not be there.
    pub ops: Vec<String>,
    /// `READ`, `SCAN` or `WRITE` for what `ops` does not name; empty: such a record is not used.
    pub op_default: String,
    /// Empty: when the record was written.
    pub time: String,
    pub time_unit: Unit,
    /// Empty: `[costs]` counts.
    pub cost: String,
    pub cost_unit: Unit,
    pub bytes: String,
}

impl Default for QueryLog {
    fn default() -> Self {
        Self {
            format: Format::Isotherm,
            schema: String::new(),
            items: String::new(),
            key: vec!["key".into()],
            key_encoding: Encoding::Plain,
            op: "op".into(),
            ops: Vec::new(),
            op_default: String::new(),
            time: "time".into(),
            time_unit: Unit::Millis,
            cost: "cost_us".into(),
            cost_unit: Unit::Micros,
            bytes: "bytes".into(),
        }
    }
}

/// `[schema_registry]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SchemaRegistry {
    /// One, or several that are the same, with commas between them.
    pub url: String,
    pub user: String,
    pub password: String,
}

impl QueryLog {
    /// Tells (key, reason, remedy) of what does not hold.
    pub(super) fn check(
        &self,
        registry: &SchemaRegistry,
    ) -> Vec<(&'static str, String, &'static str)> {
        let mut res = Vec::new();
        let mut unless = |holds: bool, at, reason: &str, remedy| {
            if !holds {
                res.push((at, reason.to_owned(), remedy));
            }
        };
        let is_avro = matches!(self.format, Format::Avro | Format::Auto);
        unless(
            is_avro || self.schema.is_empty(),
            "query_log.schema",
            "a schema is given, and query_log.format is not of Avro",
            "set query_log.format to `avro` or `auto`, or take the schema out",
        );
        unless(
            self.format != Format::Avro || !(self.schema.is_empty() && registry.url.is_empty()),
            "query_log.format",
            "of Avro, the schema of the writer must be known",
            "set schema_registry.url, or query_log.schema to a file",
        );
        unless(
            !self.key.is_empty(),
            "query_log.key",
            "the field that is the key must be known",
            "set it to its path, such as `[\"key\"]` or `[\"request.key\"]`",
        );
        unless(
            self.key.len() < 2 || self.key_encoding == Encoding::Index,
            "query_log.key_encoding",
            "several fields make a key only as `table.key` does",
            "set it to `index`, or query_log.key to one field",
        );
        let paths = self.key.iter().chain([&self.items, &self.op, &self.time, &self.cost]);
        let mut paths = paths.chain([&self.bytes]).filter(|it| !it.is_empty());
        unless(
            self.key.iter().all(|it| !it.is_empty())
                && paths.all(|it| it.split('.').all(|name| !name.is_empty())),
            "query_log.key",
            "a path of this section has a name that is empty",
            "put one dot between two names, and none at the ends",
        );
        unless(
            self.ops.iter().all(|it| symbol_and_op(it).is_some()),
            "query_log.ops",
            "each is what a log says, `=`, and READ, SCAN or WRITE",
            "set it to `[\"GET=READ\", \"RANGE=SCAN\", \"PUT=WRITE\"]`",
        );
        unless(
            self.op_default.is_empty() || op_of(&self.op_default).is_some(),
            "query_log.op_default",
            "it is none of READ, SCAN and WRITE",
            "set it to `READ`, or to an empty text if what query_log.ops does not name is not to count",
        );
        unless(
            !(self.op.is_empty() && self.op_default.is_empty()),
            "query_log.op_default",
            "neither the field of the operation nor a default is known",
            "set it to `READ`, or query_log.op to the path of that field",
        );
        unless(
            registry.password.is_empty() || !registry.user.is_empty(),
            "schema_registry.user",
            "a password is given, and no user",
            "set it; of a token or an API key, the key is the user and its secret the password",
        );
        res
    }

    pub fn mapping(&self) -> Mapping {
        let path = |text: &String| -> Path { text.split('.').map(str::to_owned).collect() };
        let some = |text: &String| Some(path(text)).filter(|_| !text.is_empty());
        let op = |it: &String| symbol_and_op(it).map(|(symbol, op)| (symbol.to_owned(), op));
        Mapping {
            items: some(&self.items),
            key: self.key.iter().map(path).collect(),
            encoding: self.key_encoding,
            op: some(&self.op),
            ops: self.ops.iter().filter_map(op).collect(),
            op_default: op_of(&self.op_default),
            time: some(&self.time),
            time_unit: self.time_unit,
            cost: some(&self.cost),
            cost_unit: self.cost_unit,
            bytes: some(&self.bytes),
        }
    }
}

fn symbol_and_op(text: &str) -> Option<(&str, Op)> {
    let (symbol, op) = text.rsplit_once('=')?;
    Some((symbol, op_of(op.trim())?)).filter(|it| !it.0.is_empty())
}

fn op_of(text: &str) -> Option<Op> {
    match text {
        "READ" => Some(Op::Read),
        "SCAN" => Some(Op::Scan),
        "WRITE" => Some(Op::Write),
        _ => None,
    }
}
