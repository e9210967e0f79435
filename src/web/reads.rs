//! Says how reads of the index are asked for and answered, by clients of a router and by routers of
//! a worker: JSON over HTTP/1 or HTTP/2, `POST /v1/reads`.
//!
//! ```text
//!  client ── Reads ──> router ── Reads, each with its epoch ──> worker
//!         <─ Answers ─        <─ Answers, or where to ask ────
//! ```
//!
//! Keys are text: as they are where printable, else `0x` and hexadecimal. Payloads are base64.

use schemas::{Epoch, Generation, Key, NodeId};
use serde::{Deserialize, Serialize};

/// A batch of reads.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reads {
    pub reads: Vec<Read>,
    /// What is not answered by then fails; the receiver's own limit, if it is less. Counts from the arrival.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline_ms: Option<u64>,
}

/// One read: of all entries of an index key, or of an interval.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Read {
    pub what: What,
    /// Of the range that the asker believes to hold it; routers set it, their clients do not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epoch: Option<Epoch>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum What {
    Key(#[serde(with = "text")] Key),
    Range {
        #[serde(with = "text", default)]
        start: Key,
        /// Empty: unbounded.
        #[serde(with = "text", default)]
        end: Key,
        /// Entries at most; the receiver's own limit, if it is less.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        limit: Option<u32>,
        /// Goes on behind this entry, as an answer before has said.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        after: Option<After>,
    },
}

/// Where an answer ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct After {
    #[serde(with = "text")]
    pub index_key: Key,
    #[serde(with = "text")]
    pub primary_key: Key,
}

/// One answer for each read, in their order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answers {
    pub answers: Vec<Answer>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    Found(Found),
    /// A newer map names another owner, or another epoch of this one.
    Moved {
        node: NodeId,
        epoch: Epoch,
        generation: Generation,
    },
    /// The owner has not got it yet: for this once, ask the source, at that epoch. Not to be kept.
    AskSource {
        node: NodeId,
        epoch: Epoch,
    },
    /// Ask again in a moment: the map here is older, or the range is being built.
    NotYet {
        reason: String,
    },
    /// Not to be asked again in this form.
    Refused {
        reason: String,
    },
    /// Past its deadline.
    Late,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Found {
    /// In the order of index key and primary key.
    pub entries: Vec<FoundEntry>,
    /// There is more behind this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<After>,
    /// Service time, without waiting.
    pub cost_us: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FoundEntry {
    #[serde(with = "text")]
    pub index_key: Key,
    #[serde(with = "text")]
    pub primary_key: Key,
    /// The `table` partition and offset of the row change.
    pub partition: u32,
    pub offset: u64,
    #[serde(with = "payload")]
    pub payload: Vec<u8>,
}

mod text {
    use schemas::Key;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    use crate::config::{key_of, text_of_key};

    pub(super) fn serialize<S: Serializer>(key: &Key, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&text_of_key(key))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Key, D::Error> {
        key_of(&String::deserialize(from)?).map_err(D::Error::custom)
    }
}

mod payload {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&STANDARD.encode(bytes))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u8>, D::Error> {
        STANDARD.decode(String::deserialize(from)?).map_err(D::Error::custom)
    }
}
