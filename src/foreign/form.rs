//! Says what form the records of a query log have, as plain values that are recorded and compared.

use std::collections::BTreeMap;

use schemas::query_log::Op;
use serde::{Deserialize, Serialize};

/// Of schemas that a registry told, so many are known at a time, of so many bytes in sum: they are
/// written to progress with the settings.
pub const SCHEMAS_MAX: usize = 256;
pub const SCHEMAS_BYTES_MAX: usize = 384 * 1024;

/// A schema of more bytes is not used.
pub const SCHEMA_BYTES_MAX: usize = 64 * 1024;

/// The names of fields that lead to a value.
pub type Path = Vec<String>;

/// What form the records have.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Form {
    pub format: Format,
    pub mapping: Mapping,
    /// One Avro schema for all records, whatever id they name.
    pub schema: Option<String>,
    /// Whose ids `by_id` are.
    pub registry: Option<String>,
    /// What the registry told, as far as it was asked.
    pub by_id: BTreeMap<u32, Answer>,
}

/// Which formats are read beside our own, which always is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// None.
    #[default]
    Isotherm,
    /// In Confluent's framing, or as single objects of the schema.
    Avro,
    Json,
    /// Either, as the first bytes of a record have it.
    Auto,
}

/// What a registry says of an id, for good.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    /// The text of an Avro schema, which need not be one.
    Avro(String),
    /// Behind the id stands JSON.
    Json,
    /// There is a schema, and it is of no use, for this reason.
    Unusable(String),
}

/// Where in a record its queries are, and what of them is what.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mapping {
    /// Where the list of queries is; `None`: the record is one query.
    pub items: Option<Path>,
    /// One path, or several, which make an index key as `table.key` does.
    pub key: Vec<Path>,
    pub encoding: Encoding,
    pub op: Option<Path>,
    pub ops: BTreeMap<String, Op>,
    /// Of what `ops` does not name; `None`: that is a misfit.
    pub op_default: Option<Op>,
    /// `None`: when the record was written.
    pub time: Option<Path>,
    /// Of a number whose schema does not say it.
    pub time_unit: Unit,
    pub cost: Option<Path>,
    pub cost_unit: Unit,
    pub bytes: Option<Path>,
}

/// What bytes a key is of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Encoding {
    /// Bytes as they are, text as UTF-8, a whole number as eight bytes, the most significant first.
    #[default]
    Plain,
    /// Text of hexadecimal digits.
    Hex,
    /// Text in base 64, with or without padding.
    Base64,
    /// As `table.key` makes it of fields.
    Index,
}

/// What a number of time counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Unit {
    Nanos,
    Micros,
    #[default]
    Millis,
    Seconds,
}

impl Answer {
    fn bytes(&self) -> usize {
        match self {
            Self::Avro(text) | Self::Unusable(text) => text.len(),
            Self::Json => 0,
        }
    }
}

impl Form {
    /// Returns the id of the schema by which a value says it was written, if that counts.
    pub fn named(&self, value: &[u8]) -> Option<u32> {
        match self.format {
            Format::Avro | Format::Auto if self.schema.is_none() => framed(value).map(|it| it.0),
            Format::Avro | Format::Auto | Format::Isotherm | Format::Json => None,
        }
    }

    /// Takes over what another form knows of the same registry.
    pub fn knowing(mut self, other: &Self) -> Self {
        if self.registry == other.registry {
            self.by_id.clone_from(&other.by_id);
        }
        self
    }

    /// Takes in what the registry says of an id. Of what is not `needed` now, the smallest ids are
    /// forgotten when there are too many; if all are needed, the answer is not taken in.
    pub fn learn(&mut self, id: u32, answer: Answer, needed: &dyn Fn(u32) -> bool) {
        let more = answer.bytes();
        let is_full = |by_id: &BTreeMap<u32, Answer>| {
            let bytes: usize = by_id.values().map(Answer::bytes).sum();
            by_id.len() == SCHEMAS_MAX || SCHEMAS_BYTES_MAX < bytes + more
        };
        while is_full(&self.by_id) {
            let Some(id) = self.by_id.keys().copied().find(|it| !needed(*it)) else { return };
            self.by_id.remove(&id);
        }
        self.by_id.insert(id, answer);
    }
}

/// Returns the id of a schema in Confluent's framing, and what follows it.
pub(super) fn framed(value: &[u8]) -> Option<(u32, &[u8])> {
    let (id, datum) = value.strip_prefix(&[0])?.split_first_chunk()?;
    Some((u32::from_be_bytes(*id), datum))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn id_of_a_schema_is_told_only_where_it_counts() {
        let value = [0, 0, 0, 1, 2, 3];
        for (format, named) in [
            (Format::Isotherm, None),
            (Format::Json, None),
            (Format::Avro, Some(258)),
            (Format::Auto, Some(258)),
        ] {
            let form = Form { format, ..Form::default() };
            assert_eq!(form.named(&value), named, "{format:?}");
            assert_eq!(form.named(&value[..4]), None);
            assert_eq!(form.named(b"{}"), None);
            let given = Form { schema: Some(String::new()), ..form };
            assert_eq!(given.named(&value), None);
        }
    }

    fn form(registry: &str) -> Form {
        Form { registry: Some(registry.to_owned()), ..Form::default() }
    }

    #[test]
    fn ids_of_another_registry_are_not_taken_over() {
        let mut known = form("http://a");
        known.learn(7, Answer::Json, &|_| true);
        assert_eq!(form("http://a").knowing(&known).by_id, known.by_id);
        assert_eq!(form("http://b").knowing(&known).by_id, BTreeMap::new());
    }

    #[test]
    fn schemas_are_bounded_and_those_in_use_stay() {
        let mut form = form("http://a");
        for id in 0..SCHEMAS_MAX as u32 + 3 {
            form.learn(id, Answer::Json, &|it| it == 1);
        }
        assert_eq!(form.by_id.len(), SCHEMAS_MAX);
        assert_eq!(form.by_id.keys().copied().take(2).collect::<Vec<_>>(), [1, 4]);
        let large = || Answer::Avro("x".repeat(SCHEMA_BYTES_MAX));
        for id in 1_000..1_010 {
            form.learn(id, large(), &|it| 1_000 <= it);
        }
        // As many as fit beside one another, all of them in use.
        let ids: Vec<_> = form.by_id.keys().copied().filter(|it| 1_000 <= *it).collect();
        assert_eq!(ids, Vec::from_iter(1_000..1_006));
    }

    #[test]
    fn form_is_the_same_when_it_was_recorded() {
        let mut form = form("http://a");
        form.learn(7, Answer::Avro("\"long\"".to_owned()), &|_| true);
        form.mapping.ops.insert("GET".to_owned(), Op::Scan);
        let text = serde_json::to_string(&form).unwrap();
        assert_eq!(serde_json::from_str::<Form>(&text).unwrap(), form);
        let bytes = postcard::to_stdvec(&form).unwrap();
        assert_eq!(postcard::from_bytes::<Form>(&bytes).unwrap(), form);
    }
}
