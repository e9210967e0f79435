//! The source table's change log, from which the index is derived.

use serde::{Deserialize, Serialize};

use crate::Key;
use crate::wire::record;

/// A change of one row. The key of the record is the primary key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RowChanged {
    /// The index key before the change; `None` for a new row.
    #[serde(default)]
    pub before: Option<Key>,
    /// The index key after it; `None` for a deletion.
    #[serde(default)]
    pub after: Option<Key>,
    #[serde(with = "serde_bytes")]
    #[serde(default)]
    pub payload: Option<Vec<u8>>,
}

record!(RowChanged, "table");
