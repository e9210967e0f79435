//! What the index was asked: batches of queries, written by app servers, the router and the channel.

use serde::{Deserialize, Serialize};

use crate::{Key, Millis};

/// A batch of queries; one is fine, a hundred are 3.5 times cheaper to read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueriesLogged {
    pub queries: Vec<QueryLogged>,
}

/// One query, served or not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueryLogged {
    /// When it was asked, by its writer's clock. Only tells how late the record is.
    pub time: Millis,
    /// What was asked; of a scan, where it began.
    pub key: Key,
    pub op: Op,
    /// Service time without waiting, in microseconds; `None` counts the configured cost of the operation.
    #[serde(default)]
    pub cost_us: Option<u64>,
    /// Bytes returned or written.
    #[serde(default)]
    pub bytes: u64,
    /// The cost is a mean, as the query was not answered.
    #[serde(default)]
    pub estimated: bool,
}

/// What a query does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Op {
    Read,
    Scan,
    Write,
    /// A symbol that is newer than this program; counts as a read.
    #[serde(other)]
    Unknown,
}
