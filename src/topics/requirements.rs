//! Says what of a cluster's topics a process cannot do without: checked at its start.
//!
//! Drift is a matter of taste, an unmet requirement breaks a promise, so the process does not start.
//! Each one tells the topic, the reason and the remedy.

use std::collections::BTreeMap;

use thiserror::Error;

use super::definition::{Definition, Process};
use super::{Actual, Cluster, definitions, parts};

/// What a process cannot work with.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("topic {topic}: {reason}; remedy: {remedy}")]
pub struct Unmet {
    /// With the configured prefix.
    pub topic: String,
    pub reason: String,
    pub remedy: String,
}

/// Their order is part of the protocol.
const ONE_PARTITION: [&str; 2] = ["assignment", "migrate_range"];

/// A worker reads the same partition of all three.
const INBOXES: [&str; 3] = ["index_update", "range_segment", "segment_ack"];

/// Keyed by what they are about, and in the planner's boxes or compared with them by replay.
const COMPACTED_BEHIND_PROGRESS: [&str; 3] = ["node_capacity", "heatmap", "migration_status"];

/// Returns what of the topics that a process reads or writes it cannot work with.
///
/// `actual` is by name without the configured prefix. A cluster that does not tell its settings, as
/// the embedded one, meets none of those that are about settings.
pub fn requirements(
    process: Process,
    cluster: Cluster<'_>,
    actual: &BTreeMap<String, Actual>,
) -> Vec<Unmet> {
    let mut check = Check { cluster, actual, unmet: Vec::new() };
    let definitions = definitions();
    let mine = |it: &&Definition| it.writers.contains(&process) || it.readers.contains(&process);
    for definition in definitions.iter().filter(mine) {
        check.exists(definition.name);
        if ONE_PARTITION.contains(&definition.name) {
            check.has_one_partition(definition.name);
        }
        if definition.settings["cleanup.policy"] == "compact" {
            check.is_kept(definition.name);
        }
        if definition.name == "table" {
            check.keeps_changes(definition);
        }
        if definition.name == "assignment" {
            check.keeps_generations(definition);
        }
    }
    if definitions.iter().filter(mine).any(|it| INBOXES.contains(&it.name)) {
        check.inboxes_are_equally_many();
    }
    if process == Process::Planner {
        check.is_stamped_by_the_broker("query_log");
        check.is_compacted_behind_progress();
    }
    check.unmet
}

/// Returns what of the planner's inputs is kept for less than two snapshot intervals: a restart
/// begins at the newest valid snapshot, which may be that old, and reads on from there.
pub fn retention(
    snapshot_interval_ms: u64,
    cluster: Cluster<'_>,
    actual: &BTreeMap<String, Actual>,
) -> Vec<Unmet> {
    let mut check = Check { cluster, actual, unmet: Vec::new() };
    let least = snapshot_interval_ms.saturating_mul(2).saturating_add(1);
    for definition in definitions() {
        let topic = definition.name;
        if definition.readers.contains(&Process::Planner) && check.deletes(topic) {
            let reason = "a restart reads what came since the newest snapshot, which may be two \
                          intervals old";
            check.at_least(topic, "retention.ms", least, reason);
        }
    }
    check.unmet
}

/// Returns for how long `table` keeps a deletion for who is on the way to it, in milliseconds.
pub fn deletions_kept_ms(actual: &BTreeMap<String, Actual>) -> u64 {
    let Some(table) = compacted_table(actual) else { return FOR_EVER };
    let kept = table.settings.get("delete.retention.ms").and_then(|it| it.parse::<i64>().ok());
    kept.map_or(FOR_EVER, |it| u64::try_from(it).unwrap_or(FOR_EVER))
}

/// Returns for how long compaction leaves a row of `table` alone, in milliseconds; `None`: nothing is
/// compacted.
pub fn changes_kept_ms(actual: &BTreeMap<String, Actual>) -> Option<u64> {
    let kept = compacted_table(actual)?.settings.get("min.compaction.lag.ms");
    // What cannot be read promises nothing.
    Some(kept.and_then(|it| it.parse().ok()).unwrap_or(0))
}

fn compacted_table(actual: &BTreeMap<String, Actual>) -> Option<&Actual> {
    let compacts = |it: &String| parts(it).any(|it| it == "compact");
    actual.get("table").filter(|it| it.settings.get("cleanup.policy").is_some_and(compacts))
}

struct Check<'a> {
    cluster: Cluster<'a>,
    actual: &'a BTreeMap<String, Actual>,
    unmet: Vec<Unmet>,
}

impl Check<'_> {
    fn exists(&mut self, topic: &str) {
        if !self.actual.contains_key(topic) {
            self.push(topic, "it does not exist".to_owned(), "isotherm topics apply".to_owned());
        }
    }

    fn has_one_partition(&mut self, topic: &str) {
        if let Some(Actual { partitions, .. }) = self.actual.get(topic)
            && *partitions != 1
        {
            let reason = format!(
                "it has {partitions} partitions, but the order of its records is part of the \
                 protocol, which only one partition keeps"
            );
            let remedy = "stop everything that writes or reads it, delete it, and run `isotherm \
                          topics apply`, which creates it with one partition";
            self.push(topic, reason, remedy.to_owned());
        }
    }

    fn inboxes_are_equally_many(&mut self) {
        let partitions = |it: &&'static str| Some((*it, self.actual.get(*it)?.partitions));
        let inboxes: Vec<_> = INBOXES.iter().filter_map(partitions).collect();
        let Some(most) = inboxes.iter().map(|it| it.1).max() else { return };
        let all: Vec<_> = inboxes.iter().map(|(topic, n)| format!("{topic} has {n}")).collect();
        let all = all.join(", ");
        let Cluster { bootstrap_servers, prefix } = self.cluster;
        for (topic, _) in inboxes.into_iter().filter(|it| it.1 < most) {
            let reason = format!(
                "a worker reads the same partition of three topics, so they need equally many: {all}"
            );
            let remedy = format!(
                "kafka-topics.sh --bootstrap-server {bootstrap_servers} --alter --topic \
                 {prefix}{topic} --partitions {most}"
            );
            self.push(topic, reason, remedy);
        }
    }

    fn is_stamped_by_the_broker(&mut self, topic: &str) {
        let key = "message.timestamp.type";
        let Some(stamped_by) = self.setting(topic, key) else { return };
        if stamped_by != "LogAppendTime" {
            let reason = format!(
                "its {key} is {stamped_by}, so a writer's clock would decide in which tick a query \
                 counts"
            );
            let remedy = self.cluster.set(topic, key, "LogAppendTime");
            self.push(topic, reason, remedy);
        }
    }

    fn is_compacted_behind_progress(&mut self) {
        let Some(kept) = self.setting("planner_progress", "retention.ms") else { return };
        let Some(kept_ms) = self.number("planner_progress", "retention.ms", kept) else { return };
        for topic in COMPACTED_BEHIND_PROGRESS {
            if self.compacts(topic) {
                let reason = "compaction would take records out of the boxes that planner_progress \
                              still names, so replay would differ";
                self.at_least(topic, "min.compaction.lag.ms", kept_ms, reason);
            }
        }
    }

    /// A reader that starts folds the topic from its beginning.
    fn is_kept(&mut self, topic: &str) {
        if self.deletes(topic)
            && let Some(kept) = self.setting(topic, "retention.ms")
            && self.number(topic, "retention.ms", kept).is_some_and(|it| it != FOR_EVER)
        {
            let reason = format!(
                "it deletes records after {kept} ms, but who starts reads it from the beginning and \
                 would miss what has not changed since"
            );
            let remedy = self.cluster.set(topic, "cleanup.policy", "compact");
            self.push(topic, reason, remedy);
        }
    }

    fn keeps_changes(&mut self, definition: &Definition) {
        let topic = definition.name;
        if !self.compacts(topic) {
            return;
        }
        let reason = "a channel that was away must see every change of a row, or it would leave \
                      entries at keys that the row has left";
        let key = "min.compaction.lag.ms";
        self.at_least(topic, key, declared(definition, key), reason);
        let reason = "a scan that has passed a row must see that it is deleted on its way";
        let key = "delete.retention.ms";
        self.at_least(topic, key, declared(definition, key), reason);
    }

    /// What is left of a generation is not a map that ever was.
    fn keeps_generations(&mut self, definition: &Definition) {
        let topic = definition.name;
        if self.compacts(topic) {
            let reason = "a reader that is behind must see each generation whole, or it would send by a \
                          map of which a part is older than it says";
            let key = "min.compaction.lag.ms";
            self.at_least(topic, key, declared(definition, key), reason);
        }
    }

    fn at_least(&mut self, topic: &str, key: &str, least: u64, reason: &str) {
        let Some(actual) = self.setting(topic, key) else { return };
        let Some(number) = self.number(topic, key, actual) else { return };
        if number < least {
            let reason = format!("its {key} is {actual}, less than {least}: {reason}");
            let remedy = self.cluster.set(topic, key, &least.to_string());
            self.push(topic, reason, remedy);
        }
    }

    fn compacts(&mut self, topic: &str) -> bool {
        self.setting(topic, "cleanup.policy").is_some_and(|it| parts(it).any(|it| it == "compact"))
    }

    fn deletes(&mut self, topic: &str) -> bool {
        self.setting(topic, "cleanup.policy").is_some_and(|it| parts(it).any(|it| it == "delete"))
    }
}

/// Returns what the tree says a setting is to be, in milliseconds.
fn declared(definition: &Definition, key: &str) -> u64 {
    definition.settings[key].parse().unwrap_or(FOR_EVER)
}

/// As a number of milliseconds, what Kafka writes as -1; it is the greatest that it takes.
const FOR_EVER: u64 = i64::MAX as u64;

impl<'a> Check<'a> {
    /// Returns a setting of a topic that exists; what is not told cannot be relied on.
    fn setting(&mut self, topic: &str, key: &str) -> Option<&'a str> {
        let res = self.actual.get(topic)?.settings.get(key);
        if res.is_none() {
            let reason = format!("the cluster does not tell its {key}");
            let remedy = "allow this process DescribeConfigs on the topic".to_owned();
            self.push(topic, reason, remedy);
        }
        res.map(String::as_str)
    }

    fn number(&mut self, topic: &str, key: &str, value: &str) -> Option<u64> {
        let res = value.parse::<i64>().ok().map(|it| u64::try_from(it).unwrap_or(FOR_EVER));
        if res.is_none() {
            let reason = format!("its {key} is `{value}`, which is not a number");
            let remedy = "set it to a number of milliseconds".to_owned();
            self.push(topic, reason, remedy);
        }
        res
    }

    /// Says the same once: two requirements may miss one setting.
    fn push(&mut self, topic: &str, reason: String, remedy: String) {
        let topic = format!("{}{topic}", self.cluster.prefix);
        let unmet = Unmet { topic, reason, remedy };
        if !self.unmet.contains(&unmet) {
            self.unmet.push(unmet);
        }
    }
}

#[cfg(test)]
mod tests;
