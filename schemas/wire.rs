//! Writes and reads Avro single-object encoding: two marker bytes, a fingerprint, the datum.

use serde::{Serialize, de::DeserializeOwned};
use serde_avro_fast::Schema;
use thiserror::Error;

/// A type that is the value of one topic's records.
pub trait Record: Serialize + DeserializeOwned {
    /// The name of the topic, without the configured prefix.
    const TOPIC: &'static str;

    /// The schema, parsed once.
    fn schema() -> &'static Schema;
}

/// Why bytes are not a record of the topic; the variants are the reasons that are counted.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum DecodeError {
    #[error("not Avro single-object encoding: it does not begin with c3 01")]
    NotSingleObject,
    #[error("unknown schema {0:016x}: the writer is newer than this program, or of another topic")]
    UnknownSchema(u64),
    #[error("the datum does not fit its schema: {0}")]
    Malformed(String),
}

/// Encodes a record as the value of its topic.
pub fn encode<R: Record>(record: &R) -> Vec<u8> {
    let mut config = serde_avro_fast::ser::SerializerConfig::new(R::schema());
    serde_avro_fast::to_single_object_vec(record, &mut config)
        .expect("a record fits the schema of its own type")
}

/// Decodes the value of a record.
pub fn decode<R: Record>(value: &[u8]) -> Result<R, DecodeError> {
    let _ = value;
    unimplemented!()
}
