//! Says how the topics are to be, and where a cluster's topics are otherwise.
//!
//! ```text
//!  topics/*.yaml ──> definitions ─┬─> compare ──────> changes: to be created, or to be mended by hand
//!  (embedded)                     │      ^
//!  a cluster's topics ────────────┼──────┴──────────> requirements: what a process cannot do without
//! ```
//!
//! * **Nothing is taken away.** What exists already is never changed, let alone deleted or shortened:
//!   the remedy is told, and a person applies it.
//! * **Only what is declared is compared.** A cluster's own defaults are its own affair.

pub mod definition;
pub mod comparison;
pub mod requirements;

use std::collections::BTreeMap;

pub use definition::definitions;

/// A topic as a cluster has it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Actual {
    pub partitions: u32,
    pub replication: u16,
    /// All settings that the cluster tells, its defaults included.
    pub settings: BTreeMap<String, String>,
}

/// What the commands in a remedy need to name.
#[derive(Clone, Copy, Debug)]
pub struct Cluster<'a> {
    pub bootstrap_servers: &'a str,
    /// Stands before the name of every topic.
    pub prefix: &'a str,
}

impl Cluster<'_> {
    /// Returns the command that sets a setting, for a person to run.
    fn set(&self, topic: &str, key: &str, value: &str) -> String {
        // A comma would part two settings.
        let value = if value.contains(',') { format!("[{value}]") } else { value.to_owned() };
        format!(
            "kafka-configs.sh --bootstrap-server {} --alter --entity-type topics --entity-name \
             {}{topic} --add-config {key}={value}",
            self.bootstrap_servers, self.prefix
        )
    }
}

/// Returns the parts of a list in one line, such as `compact,delete`.
fn parts(list: &str) -> impl Iterator<Item = &str> {
    list.split(',').map(str::trim).filter(|it| !it.is_empty())
}
