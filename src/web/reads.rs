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
use thiserror::Error;

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
    #[serde(default, skip_serializing_if = "Asked::is_owner")]
    pub asked_as: Asked,
}

/// As what a worker is asked. A source that has handed a range over answers only those that the new
/// owner has sent to it, so that nobody comes to it by an old map.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Asked {
    #[default]
    Owner,
    /// For this once, after [`Answer::AskSource`], at the epoch that it names.
    Source,
}

impl Asked {
    fn is_owner(&self) -> bool {
        *self == Self::Owner
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum What {
    /// An answer that ended before all entries of the key goes on by a range from the key to the key
    /// and a zero byte.
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
    /// Ask again in a moment.
    NotYet {
        reason: Later,
    },
    /// Not to be asked again in this form.
    Refused {
        reason: Refusal,
    },
    /// Past its deadline.
    Late,
}

impl Answer {
    /// A stable code of how the read ended, for counters.
    pub fn outcome(&self) -> &'static str {
        match self {
            Self::Found(_) => "found",
            Self::Moved { .. } => "moved",
            Self::AskSource { .. } => "ask_source",
            Self::NotYet { .. } => "not_yet",
            Self::Refused { .. } => "refused",
            Self::Late => "late",
        }
    }
}

/// Why a read is to be asked again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Later {
    /// The asker's map is newer than the worker's.
    OlderMap,
    /// The range is on its way to the worker, or is built from the source table.
    NotWhole,
    /// The answers to the reads before it took all that a batch may take.
    AnswerFull,
    #[serde(other)]
    Unknown,
}

/// Why a read is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, Error)]
#[serde(rename_all = "snake_case")]
pub enum Refusal {
    #[error("a read that is sent to a worker names the epoch of its range")]
    NoEpoch,
    #[error("the key is longer than keys of the index may be")]
    KeyTooLong,
    #[error("the interval holds no key: it ends at its start or before")]
    EmptyInterval,
    #[error("the read is to go on behind an entry that is not in its interval")]
    AfterOutside,
    #[error("a limit of no entries answers nothing")]
    NoEntries,
    #[error("the batch has more reads than are taken at once")]
    BatchTooLarge,
    #[serde(other)]
    #[error("for a reason that this version does not know")]
    Unknown,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Found {
    /// In the order of index key and primary key.
    pub entries: Vec<FoundEntry>,
    /// There may be more behind this.
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

pub(super) mod text {
    use schemas::Key;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    use crate::config::{key_of, text_of_key};

    pub(in crate::web) fn serialize<S: Serializer>(key: &Key, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&text_of_key(key))
    }

    pub(in crate::web) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Key, D::Error> {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &str) -> Key {
        Key(text.into())
    }

    #[test]
    fn reads_are_written_briefly_and_read_again() {
        let owner = Read { what: What::Key(key("a")), epoch: None, asked_as: Asked::Owner };
        let what = What::Range {
            start: key("a"),
            end: Key(vec![0xff]),
            limit: Some(9),
            after: Some(After { index_key: key("b"), primary_key: key("1") }),
        };
        let source = Read { what, epoch: Some(Epoch(4)), asked_as: Asked::Source };
        let reads = Reads { reads: vec![owner, source], deadline_ms: Some(50) };
        let json = serde_json::to_string(&reads).unwrap();
        assert_eq!(
            json,
            concat!(
                r#"{"reads":[{"what":{"key":"a"}},{"what":{"range":{"start":"a","end":"0xff","#,
                r#""limit":9,"after":{"index_key":"b","primary_key":"1"}}},"epoch":4,"#,
                r#""asked_as":"source"}],"deadline_ms":50}"#
            )
        );
        assert_eq!(serde_json::from_str::<Reads>(&json).unwrap(), reads);
    }

    #[test]
    fn misspelled_reads_are_refused() {
        for json in [
            r#"{"reads":[],"deadline":5}"#,
            r#"{"reads":[{"what":{"key":"a"},"epocH":4}]}"#,
            r#"{"reads":[{"what":{"range":{"from":"a"}}}]}"#,
            r#"{"reads":[{"what":{"key":"a"},"asked_as":"any"}]}"#,
        ] {
            assert!(serde_json::from_str::<Reads>(json).is_err(), "{json}");
        }
    }

    #[test]
    fn reason_of_a_newer_version_is_unknown_and_no_error() {
        let later = r#"{"not_yet":{"reason":"full_moon"}}"#;
        let later = serde_json::from_str::<Answer>(later).unwrap();
        assert_eq!(later, Answer::NotYet { reason: Later::Unknown });
        let refused = r#"{"refused":{"reason":"full_moon"}}"#;
        let refused = serde_json::from_str::<Answer>(refused).unwrap();
        assert_eq!(refused, Answer::Refused { reason: Refusal::Unknown });
    }
}
