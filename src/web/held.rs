//! Says how a worker tells all that it holds, also what it should not: JSON over HTTP,
//! `POST /v1/held`, page by page in the order of index key and primary key; or, as long as keys are short
//! enough for an address, `GET /v1/held?after=CURSOR&limit=N`.
//!
//! ```text
//!  verify ── limit=0 ──────> worker    roles and floors of all its intervals, no entries
//!         ── after, limit ─> worker    entries behind the cursor; intervals that the page touches
//! ```
//!
//! * **A page is of one moment**: its roles, floors and entries are of the same step. Two pages need
//!   not be; the generation tells whether the map was another in between.
//! * **Whatever is stored is told**, in whatever role, but tombstones and what is kept aside.

use schemas::range_segment::Floor;
use schemas::{Epoch, Generation, Key, KeySpan, NodeId};
use serde::{Deserialize, Serialize};

use super::reads::{After, FoundEntry};

/// Where it is asked for.
pub const PATH: &str = "/v1/held";

/// What is asked for: the body, or the query of the address.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Asked {
    /// Goes on behind this, as the page before has said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<Cursor>,
    /// Entries at most; the worker's own limit, if it is less. 0: only the intervals, all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
}

/// One page.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    pub node: NodeId,
    pub store_id: String,
    /// Of the worker's map; 0: it has none yet.
    pub generation: Generation,
    /// Intervals in which the worker has a role, whole, disjoint, in key order: those that have a key
    /// between the first that was looked at and the last. In what lies in none of them it has none.
    pub intervals: Vec<HeldInterval>,
    /// In the order of index key and primary key.
    pub entries: Vec<FoundEntry>,
    /// There may be more behind this. A page may have this and no entries.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<Cursor>,
}

/// What a worker is to an interval.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldInterval {
    #[serde(with = "super::reads::text")]
    pub range_start: Key,
    /// Empty: unbounded.
    #[serde(with = "super::reads::text")]
    pub range_end: Key,
    pub role: Role,
    /// Of an active one, that at which it serves; else, of what the role is on the way to or from.
    pub epoch: Epoch,
    /// Every update of a partition of `table` before its floor is applied; of one that is active and
    /// drained the greater of its own floor and the node's watermark. A partition that is not named
    /// has floor 0.
    #[serde(default)]
    pub floors: Vec<Floor>,
}

/// A worker's role in an interval.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    Active,
    Erasing,
    Import,
    Applying,
    Rebuild,
    Leaving,
    #[serde(other)]
    Unknown,
}

/// Where a page ended, in letters that an address takes as they are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Cursor(pub After);

impl HeldInterval {
    pub fn span(&self) -> KeySpan {
        KeySpan { start: self.range_start.clone(), end: self.range_end.clone() }
    }
}

impl From<Cursor> for String {
    fn from(Cursor(After { index_key, primary_key }): Cursor) -> Self {
        let hex = |it: &Key| it.0.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        format!("{}.{}", hex(&index_key), hex(&primary_key))
    }
}

impl TryFrom<String> for Cursor {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let key = |digits: &str| crate::config::key_of(&format!("0x{digits}"));
        let (index_key, primary_key) = text.split_once('.').ok_or("a cursor has a point in it")?;
        Ok(Self(After { index_key: key(index_key)?, primary_key: key(primary_key)? }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn page_is_read_as_it_was_written() {
        let key = |text: &str| Key(text.into());
        let entry = FoundEntry {
            index_key: key("k 1"),
            primary_key: Key(vec![0, 255]),
            partition: 3,
            offset: 9,
            payload: b"{}".to_vec(),
        };
        let after = After { index_key: entry.index_key.clone(), primary_key: Key(vec![0, 255]) };
        let interval = HeldInterval {
            range_start: key(""),
            range_end: key("m"),
            role: Role::Active,
            epoch: Epoch(4),
            floors: vec![Floor { partition: 3, offset: 12 }],
        };
        let held = Held {
            node: NodeId("n1".into()),
            store_id: "s".into(),
            generation: Generation(7),
            intervals: vec![interval],
            entries: vec![entry],
            next: Some(Cursor(after)),
        };
        let json = serde_json::to_string(&held).unwrap();
        assert_eq!(
            json,
            concat!(
                r#"{"node":"n1","store_id":"s","generation":7,"intervals":[{"range_start":"","#,
                r#""range_end":"m","role":"active","epoch":4,"#,
                r#""floors":[{"partition":3,"offset":12}]}],"#,
                r#""entries":[{"index_key":"k 1","primary_key":"0x00ff","partition":3,"offset":9,"#,
                r#""payload":"e30="}],"next":"6b2031.00ff"}"#
            )
        );
        assert_eq!(serde_json::from_str::<Held>(&json).unwrap(), held);
    }

    #[test]
    fn cursor_that_is_none_is_refused() {
        for text in ["", "6b", "6b.0", "6b.zz", "6b.00.00"] {
            assert!(Cursor::try_from(text.to_owned()).is_err(), "{text}");
        }
        let both_empty = Cursor::try_from(".".to_owned()).unwrap();
        assert_eq!(String::from(both_empty), ".");
    }
}
