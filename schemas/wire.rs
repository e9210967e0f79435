//! Writes and reads Avro single-object encoding: two marker bytes, a fingerprint, the datum.
//!
//! ```text
//!  c3 01 │ fingerprint, 8 bytes      │ datum
//!        │ CRC-64-AVRO of the schema │ as the schema says, to the last byte
//! ```
//!
//! * **Any bytes are safe.** What is not a record is a [`DecodeError`]: never a panic, and never an
//!   allocation of more than a small multiple of the bytes given.
//! * **Nothing wraps around.** Unsigned numbers are `long` on the wire; a negative one is malformed.
//! * **Exactly one datum.** Bytes behind it are malformed: somebody else's framing.
//!
//! Decoding matches fields by name and enum symbols by name, so a datum of an older or newer schema
//! decodes with the schema of its writer; what the writer had not is the Rust default.

use serde::{Serialize, de::DeserializeOwned};
use serde_avro_fast::Schema;
use thiserror::Error;

/// A type that is the value of one topic's records.
pub trait Record: Serialize + DeserializeOwned {
    /// The name of the topic, without the configured prefix.
    const TOPIC: &'static str;

    /// The schema as it stands in the tree.
    const SCHEMA_JSON: &'static str;

    /// The schema, parsed once.
    fn schema() -> &'static Schema;
}

/// Makes a type the record of a topic, with the schema of that stem.
macro_rules! record {
    ($record:ty, $topic:literal) => {
        impl $crate::wire::Record for $record {
            const TOPIC: &'static str = $topic;
            const SCHEMA_JSON: &'static str = include_str!(concat!($topic, ".avsc"));

            fn schema() -> &'static serde_avro_fast::Schema {
                static SCHEMA: std::sync::LazyLock<serde_avro_fast::Schema> =
                    std::sync::LazyLock::new(|| {
                        let parsed = <$record as $crate::wire::Record>::SCHEMA_JSON.parse();
                        parsed.expect(concat!("schemas/", $topic, ".avsc is an Avro schema"))
                    });
                &SCHEMA
            }
        }
    };
}
pub(crate) use record;

/// Why bytes are not a record of the topic; the variants are the reasons that are counted.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Error)]
pub enum DecodeError {
    #[error("not Avro single-object encoding: it does not begin with c3 01")]
    NotSingleObject,
    #[error("unknown schema {0:016x}: the writer is newer than this program, or of another topic")]
    UnknownSchema(u64),
    #[error("the datum does not fit its schema: {0}")]
    Malformed(String),
}

impl DecodeError {
    /// The reason as a stable code: a metric's label and a dead letter's header.
    pub fn code(&self) -> &'static str {
        match self {
            Self::NotSingleObject => "not_single_object",
            Self::UnknownSchema(_) => "unknown_schema",
            Self::Malformed(_) => "malformed",
        }
    }
}

/// Encodes a record as the value of its topic.
///
/// # Panics
///
/// If an unsigned number, other than a digest, is 2^63 or more: `long` does not hold it.
pub fn encode<R: Record>(record: &R) -> Vec<u8> {
    let mut config = serde_avro_fast::ser::SerializerConfig::new(R::schema());
    serde_avro_fast::to_single_object_vec(record, &mut config)
        .expect("a record fits the schema of its own type")
}

/// Decodes the value of a record.
pub fn decode<R: Record>(value: &[u8]) -> Result<R, DecodeError> {
    decode_datum(datum::<R>(value)?, R::schema())
}

/// Returns what follows the header, if the header names the schema of `R`.
pub(crate) fn datum<R: Record>(value: &[u8]) -> Result<&[u8], DecodeError> {
    let Some(rest) = value.strip_prefix(&[0xc3, 0x01]) else {
        return Err(DecodeError::NotSingleObject);
    };
    let Some((fingerprint, datum)) = rest.split_first_chunk::<8>() else {
        return Err(DecodeError::Malformed("it ends within the fingerprint".to_owned()));
    };
    if fingerprint != R::schema().rabin_fingerprint() {
        return Err(DecodeError::UnknownSchema(u64::from_le_bytes(*fingerprint)));
    }
    Ok(datum)
}

/// Decodes a datum with the schema of its writer.
pub fn decode_datum<R: DeserializeOwned>(datum: &[u8], writer: &Schema) -> Result<R, DecodeError> {
    let mut config = serde_avro_fast::de::DeserializerConfig::new(writer);
    // No item of an array takes less than a byte, so more of them than bytes is a lie.
    config.max_seq_size = datum.len();
    let slice = serde_avro_fast::de::read::SliceRead::new(datum);
    let mut state = serde_avro_fast::de::DeserializerState::with_config(slice, config);
    let record = R::deserialize(state.deserializer())
        .map_err(|error| DecodeError::Malformed(error.to_string()))?;
    let mut rest = state.into_reader();
    let behind = std::io::BufRead::fill_buf(&mut rest).map_or(0, <[u8]>::len);
    if behind > 0 {
        return Err(DecodeError::Malformed(format!("{behind} bytes behind the datum")));
    }
    Ok(record)
}

/// A sum of hashes: eight bytes, the most significant first, as it needs all 64 bits.
pub(crate) mod digest {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};
    use serde_bytes::ByteArray;

    pub fn serialize<S: Serializer>(digest: &u64, to: S) -> Result<S::Ok, S::Error> {
        ByteArray::new(digest.to_be_bytes()).serialize(to)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<u64, D::Error> {
        ByteArray::deserialize(from).map(|it| u64::from_be_bytes(it.into_array()))
    }
}

/// A digest that may not be known yet.
pub(crate) mod digest_option {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};
    use serde_bytes::ByteArray;

    pub fn serialize<S: Serializer>(digest: &Option<u64>, to: S) -> Result<S::Ok, S::Error> {
        digest.map(|it| ByteArray::new(it.to_be_bytes())).serialize(to)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<u64>, D::Error> {
        let digest = Option::<ByteArray<8>>::deserialize(from)?;
        Ok(digest.map(|it| u64::from_be_bytes(it.into_array())))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::Value;

    use super::*;
    use crate::operator_command::{Command, OperatorCommand};
    use crate::planner_progress::{Progress, SnapshotChunk};
    use crate::query_log::QueriesLogged;
    use crate::{MigrationId, migration_status};

    #[test]
    fn reason_names_what_is_wrong_with_the_header() {
        let value = encode(&command());
        let reason = |value: &[u8]| decode::<OperatorCommand>(value).unwrap_err().to_string();
        assert_eq!(reason(b"hello, world"), DecodeError::NotSingleObject.to_string());
        assert_eq!(reason(&[]), DecodeError::NotSingleObject.to_string());
        let error = decode::<OperatorCommand>(&value[..9]).unwrap_err();
        assert!(matches!(error, DecodeError::Malformed(_)), "{error:?}");
        let other = encode(&QueriesLogged::default());
        let fingerprint = u64::from_le_bytes(*QueriesLogged::schema().rabin_fingerprint());
        let error = decode::<OperatorCommand>(&other).unwrap_err();
        assert_eq!(error, DecodeError::UnknownSchema(fingerprint));
        assert!(error.to_string().contains(&format!("{fingerprint:016x}")), "{error}");
    }

    #[test]
    fn truncated_or_prolonged_datum_is_malformed() {
        let value = encode(&command());
        for length in 10..value.len() {
            let error = decode::<OperatorCommand>(&value[..length]).unwrap_err();
            assert!(matches!(error, DecodeError::Malformed(_)), "{length}: {error:?}");
        }
        let error = decode::<OperatorCommand>(&[&value[..], &[0]].concat()).unwrap_err();
        assert_eq!(error, DecodeError::Malformed("1 bytes behind the datum".to_owned()));
    }

    /// A length or count that is not there costs an error, not memory or time.
    #[test]
    fn huge_claims_are_malformed() {
        // i64::MAX and i64::MIN.
        let most = [0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01];
        let least = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01];
        for claim in [most, least] {
            let header = &encode(&command())[..10];
            let error = decode::<OperatorCommand>(&[header, &claim, b"x"].concat()).unwrap_err();
            assert!(matches!(error, DecodeError::Malformed(_)), "{error:?}");
            let header = &encode(&QueriesLogged::default())[..10];
            let error = decode::<QueriesLogged>(&[header, &claim, &[0; 64]].concat()).unwrap_err();
            assert!(matches!(error, DecodeError::Malformed(_)), "{error:?}");
        }
    }

    #[test]
    fn negative_number_is_malformed() {
        let chunk = SnapshotChunk { tick: 7, format: 1, index: 3, count: 4, ..Default::default() };
        let value = encode(&Progress { tick: None, chunk: Some(chunk) });
        // No tick, a chunk, and of that the first four numbers.
        assert_eq!(value[10..16], [0, 2, 14, 2, 6, 8]);
        for at in 12..16 {
            let mut value = value.clone();
            value[at] = 1;
            let error = decode::<Progress>(&value).unwrap_err();
            assert!(matches!(error, DecodeError::Malformed(_)), "{error:?}");
        }
    }

    #[test]
    fn digest_has_all_64_bits() {
        let status = migration_status::MigrationStatus {
            migration: MigrationId(1),
            range_start: crate::Key::default(),
            range_end: crate::Key::default(),
            teller: crate::NodeId("n1".to_owned()),
            status: migration_status::Status::Complete,
            phase: None,
            reason: None,
            epoch: crate::Epoch(2),
            attempt: 1,
            bytes: 0,
            digest: Some(u64::MAX - 1),
            partitions_left: Vec::new(),
        };
        assert_eq!(decode(&encode(&status)), Ok(status));
    }

    /// Symbols, fields and an order that a later version of the schema may bring.
    #[test]
    fn newer_symbol_is_unknown_and_newer_field_is_skipped() {
        let newer: Schema = r#"{"type": "record", "name": "OperatorCommand", "fields": [
            {"name": "command", "type": {"type": "enum", "name": "OperatorVerb",
                "symbols": ["UNKNOWN", "EVICT", "DRAIN"], "default": "UNKNOWN"}},
            {"name": "id", "type": "string"},
            {"name": "urgency", "type": ["null", "long"], "default": null},
            {"name": "actor", "type": "string"},
            {"name": "reason", "type": "string"},
            {"name": "node", "type": ["null", "string"], "default": null}]}"#
            .parse()
            .unwrap();
        let datum = |symbol| [symbol, 4, b'c', b'1', 2, 5, 2, b'a', 2, b'r', 2, 4, b'n', b'1'];
        let read = |symbol| decode_datum::<OperatorCommand>(&datum(symbol), &newer);
        assert_eq!(read(4), Ok(command()));
        assert_eq!(read(2), Ok(OperatorCommand { command: Command::Unknown, ..command() }));
        // No such symbol even for its writer.
        assert!(matches!(read(6), Err(DecodeError::Malformed(_))));
    }

    /// What a schema lets a writer leave out, its reader does without; and each enum takes a symbol
    /// that it has not heard of.
    #[test]
    fn field_with_a_default_may_be_missing_and_a_symbol_may_be_newer() {
        check_missing::<QueriesLogged>(3);
        check_missing::<crate::node_capacity::NodeCapacity>(10);
        check_missing::<crate::heatmap::RangeHeated>(3);
        check_missing::<crate::plan::Planned>(8);
        check_missing::<crate::migrate_range::MigrateRange>(2);
        check_missing::<migration_status::MigrationStatus>(5);
        check_missing::<crate::assignment::Assignment>(2);
        check_missing::<crate::range_segment::RangeSegment>(7);
        check_missing::<crate::segment_ack::SegmentAck>(1);
        check_missing::<crate::table::RowChanged>(3);
        // Of these two, the fields within the two that may be missing as well.
        check_missing::<crate::index_update::IndexUpdate>(2);
        check_missing::<Progress>(4);
        check_missing::<OperatorCommand>(7);
        let empty: Schema = r#"{"type": "record", "name": "Empty", "fields": []}"#.parse().unwrap();
        assert_eq!(decode_datum(&[], &empty), Ok(Progress::default()));
    }

    fn check_missing<R: Record>(missing: usize) {
        let mut schema = serde_json::from_str(R::SCHEMA_JSON).unwrap();
        let mut datum = Vec::new();
        assert_eq!(strip(&mut schema, &mut datum, &mut BTreeMap::new()), missing, "{}", R::TOPIC);
        let writer: Schema = schema.to_string().parse().unwrap();
        if let Err(error) = decode_datum::<R>(&datum, &writer) {
            panic!("{}: {error}: {schema:#}", R::TOPIC);
        }
    }

    type Named = BTreeMap<String, Value>;

    /// Takes fields with a default out of a schema, but those of records and enums, and counts
    /// them. Writes a datum of what is left: zeros, and one item an array.
    fn strip(schema: &mut Value, datum: &mut Vec<u8>, named: &mut Named) -> usize {
        let kind = match schema {
            Value::String(name) => {
                match named.get(name).cloned() {
                    Some(mut schema) => _ = strip(&mut schema, datum, named),
                    None if name == "float" => datum.extend([0; 4]),
                    None => datum.push(0),
                }
                return 0;
            }
            Value::Array(union) => {
                datum.push(2);
                return strip(&mut union[1], datum, named);
            }
            Value::Object(schema) => schema["type"].as_str().unwrap().to_owned(),
            Value::Null | Value::Bool(_) | Value::Number(_) => panic!("{schema} is no schema"),
        };
        let mut res = 0;
        match kind.as_str() {
            "record" => {
                let fields = schema["fields"].as_array_mut().unwrap();
                let all = fields.len();
                let is_named = |it: &Value| it["type"][1]["name"].is_string();
                let has_parts = |it: &Value| is_named(it) && it["type"][1]["type"] != "fixed";
                fields.retain(|it| it.get("default").is_none() || has_parts(it));
                res += all - fields.len();
                for field in fields {
                    res += strip(&mut field["type"], datum, named);
                }
            }
            "array" => {
                datum.push(2);
                res += strip(&mut schema["items"], datum, named);
                datum.push(0);
            }
            "enum" => {
                datum.push(0);
                schema["symbols"] = serde_json::json!(["NEWER"]);
            }
            other => panic!("no schema of ours has a {other} without a default"),
        }
        if let Some(name) = schema["name"].as_str() {
            named.insert(name.to_owned(), schema.clone());
        }
        res
    }

    fn command() -> OperatorCommand {
        OperatorCommand {
            node: Some(crate::NodeId("n1".to_owned())),
            ..OperatorCommand::new("c1".to_owned(), Command::Drain, "a".to_owned(), "r".to_owned())
        }
    }
}
