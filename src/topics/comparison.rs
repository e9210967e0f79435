//! Compares the topics of a cluster with their definitions.
//!
//! * **Creating is all that is done.** A difference in a topic that exists is drift: it is told with
//!   the command that mends it and what that would cost, and left to a person.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::definition::Definition;
use super::{Actual, Cluster, parts};

/// Where a topic is not as its definition says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Without the configured prefix.
    pub topic: &'static str,
    pub difference: Difference,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Difference {
    /// There is no such topic: it is to be created with these.
    Create {
        partitions: u32,
        replication: u16,
        settings: BTreeMap<String, String>,
    },
    PartitionsDiffer {
        declared: u32,
        actual: u32,
    },
    ReplicationDiffers {
        declared: u16,
        actual: u16,
    },
    /// `actual` is `None` if the cluster does not tell it.
    SettingDiffers {
        key: String,
        declared: String,
        actual: Option<String>,
    },
}

/// Returns the differences, topic by topic in the order of the definitions.
///
/// `actual` is by name without the configured prefix; topics that are not defined are nobody's
/// business.
pub fn compare(definitions: &[Definition], actual: &BTreeMap<String, Actual>) -> Vec<Change> {
    let mut res = Vec::new();
    for definition in definitions {
        let Definition { name: topic, partitions, replication, ref settings, .. } = *definition;
        let mut push = |difference| res.push(Change { topic, difference });
        let Some(actual) = actual.get(topic) else {
            push(Difference::Create { partitions, replication, settings: settings.clone() });
            continue;
        };
        if partitions != actual.partitions {
            let (declared, actual) = (partitions, actual.partitions);
            push(Difference::PartitionsDiffer { declared, actual });
        }
        if replication != actual.replication {
            let (declared, actual) = (replication, actual.replication);
            push(Difference::ReplicationDiffers { declared, actual });
        }
        for (key, declared) in settings {
            let actual = actual.settings.get(key);
            if actual.is_none_or(|actual| !means_the_same(declared, actual)) {
                let (key, declared, actual) = (key.clone(), declared.clone(), actual.cloned());
                push(Difference::SettingDiffers { key, declared, actual });
            }
        }
    }
    res
}

/// Lists are compared as sets: `delete,compact` is `compact,delete`.
fn means_the_same(declared: &str, actual: &str) -> bool {
    parts(declared).collect::<BTreeSet<_>>() == parts(actual).collect()
}

impl Change {
    /// Tells whether it can be made without a person: whether the topic is only missing.
    pub fn is_applied(&self) -> bool {
        match &self.difference {
            Difference::Create { .. } => true,
            Difference::PartitionsDiffer { .. }
            | Difference::ReplicationDiffers { .. }
            | Difference::SettingDiffers { .. } => false,
        }
    }

    /// Returns what a person is to do, and what that costs.
    pub fn remedy(&self, cluster: Cluster<'_>) -> String {
        let Cluster { bootstrap_servers, prefix } = cluster;
        let topic = self.topic;
        match &self.difference {
            Difference::Create { .. } => "isotherm topics apply".to_owned(),
            Difference::PartitionsDiffer { declared, .. } if topic == "table" => format!(
                "leave it as it is: it works with any number, but not with another than it began with, as \
                 versions of a row are told apart by partition and offset; for {declared}, write the rows into \
                 a new table under another kafka.prefix"
            ),
            Difference::PartitionsDiffer { declared, actual } if actual < declared => format!(
                "kafka-topics.sh --bootstrap-server {bootstrap_servers} --alter --topic \
                 {prefix}{topic} --partitions {declared} (records of a key that are there already \
                 stay in the partition that they are in)"
            ),
            Difference::PartitionsDiffer { declared, .. } => format!(
                "Kafka takes no partition away: stop what writes {prefix}{topic}, read it to its \
                 end, delete it, and let `isotherm topics apply` create it with {declared}"
            ),
            Difference::ReplicationDiffers { declared, .. } => format!(
                "kafka-reassign-partitions.sh --bootstrap-server {bootstrap_servers} --execute with \
                 a plan that gives {prefix}{topic} {declared} replicas"
            ),
            Difference::SettingDiffers { key, declared, actual } => {
                let command = cluster.set(topic, key, declared);
                if shortens(key, declared, actual.as_deref()) {
                    format!("{command} (deletes what is older)")
                } else {
                    command
                }
            }
        }
    }
}

/// Tells whether the declared value keeps records for a shorter time or in less space.
fn shortens(key: &str, declared: &str, actual: Option<&str>) -> bool {
    // Negative means for ever.
    let limit = |it: &str| it.parse::<i64>().ok().map(|it| u64::try_from(it).unwrap_or(u64::MAX));
    match key {
        "retention.ms" | "retention.bytes" => actual.and_then(limit) > limit(declared),
        "cleanup.policy" => {
            let deletes = |policy: &str| parts(policy).any(|it| it == "delete");
            deletes(declared) && !actual.is_some_and(deletes)
        }
        _ => false,
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let topic = self.topic;
        match &self.difference {
            Difference::Create { partitions, replication, settings } => {
                write!(f, "{topic}: create, partitions {partitions}, replication {replication}")?;
                settings.iter().try_for_each(|(key, value)| write!(f, ", {key} {value}"))
            }
            Difference::PartitionsDiffer { declared, actual } => {
                write!(f, "{topic}: partitions {actual}, declared {declared}")
            }
            Difference::ReplicationDiffers { declared, actual } => {
                write!(f, "{topic}: replication {actual}, declared {declared}")
            }
            Difference::SettingDiffers { key, declared, actual } => {
                let actual = actual.as_deref().unwrap_or("not told");
                write!(f, "{topic}: {key} {actual}, declared {declared}")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;
    use crate::topics::definitions;

    #[test]
    fn what_is_as_declared_is_no_change() {
        check(|_| (), expect![""]);
    }

    #[test]
    fn missing_topic_is_created_as_declared() {
        check(
            |actual| _ = actual.remove("heatmap"),
            expect![[r#"
            heatmap: create, partitions 4, replication 3, cleanup.policy compact,delete, min.compaction.lag.ms 172800000, retention.ms 604800000, segment.ms 86400000
              apply: isotherm topics apply
        "#]],
        );
    }

    #[test]
    fn topic_that_is_not_ours_is_no_change() {
        check(|actual| _ = actual.insert("orders".to_owned(), Actual::default()), expect![""]);
    }

    #[test]
    fn setting_that_is_not_declared_is_no_change() {
        check(|actual| set(actual, "plan", "flush.ms", "1"), expect![""]);
    }

    #[test]
    fn policies_are_sets() {
        check(|actual| set(actual, "heatmap", "cleanup.policy", "delete, compact"), expect![""]);
        check(
            |actual| set(actual, "heatmap", "cleanup.policy", "delete"),
            expect![[r#"
            heatmap: cleanup.policy delete, declared compact,delete
              by hand: kafka-configs.sh --bootstrap-server k:9092 --alter --entity-type topics --entity-name p-heatmap --add-config cleanup.policy=[compact,delete]
        "#]],
        );
        check(
            |actual| set(actual, "plan", "cleanup.policy", "compact"),
            expect![[r#"
            plan: cleanup.policy compact, declared delete
              by hand: kafka-configs.sh --bootstrap-server k:9092 --alter --entity-type topics --entity-name p-plan --add-config cleanup.policy=delete (deletes what is older)
        "#]],
        );
    }

    #[test]
    fn shorter_retention_is_told_with_its_cost() {
        check(
            |actual| set(actual, "plan", "retention.ms", "-1"),
            expect![[r#"
            plan: retention.ms -1, declared 2592000000
              by hand: kafka-configs.sh --bootstrap-server k:9092 --alter --entity-type topics --entity-name p-plan --add-config retention.ms=2592000000 (deletes what is older)
        "#]],
        );
        check(
            |actual| set(actual, "plan", "retention.ms", "2592000001"),
            expect![[r#"
            plan: retention.ms 2592000001, declared 2592000000
              by hand: kafka-configs.sh --bootstrap-server k:9092 --alter --entity-type topics --entity-name p-plan --add-config retention.ms=2592000000 (deletes what is older)
        "#]],
        );
        check(
            |actual| set(actual, "plan", "retention.ms", "60000"),
            expect![[r#"
            plan: retention.ms 60000, declared 2592000000
              by hand: kafka-configs.sh --bootstrap-server k:9092 --alter --entity-type topics --entity-name p-plan --add-config retention.ms=2592000000
        "#]],
        );
    }

    #[test]
    fn setting_that_is_not_told_is_drift() {
        let settings = |actual: &mut BTreeMap<String, Actual>| {
            _ = actual.get_mut("query_log").unwrap().settings.remove("message.timestamp.type");
        };
        check(
            settings,
            expect![[r#"
            query_log: message.timestamp.type not told, declared LogAppendTime
              by hand: kafka-configs.sh --bootstrap-server k:9092 --alter --entity-type topics --entity-name p-query_log --add-config message.timestamp.type=LogAppendTime
        "#]],
        );
    }

    #[test]
    fn partitions_are_added_but_not_taken_away() {
        check(
            |actual| actual.get_mut("query_log").unwrap().partitions = 6,
            expect![[r#"
            query_log: partitions 6, declared 8
              by hand: kafka-topics.sh --bootstrap-server k:9092 --alter --topic p-query_log --partitions 8 (records of a key that are there already stay in the partition that they are in)
        "#]],
        );
        check(
            |actual| actual.get_mut("assignment").unwrap().partitions = 3,
            expect![[r#"
            assignment: partitions 3, declared 1
              by hand: Kafka takes no partition away: stop what writes p-assignment, read it to its end, delete it, and let `isotherm topics apply` create it with 1
        "#]],
        );
    }

    #[test]
    fn replication_is_compared() {
        check(
            |actual| actual.get_mut("plan").unwrap().replication = 1,
            expect![[r#"
            plan: replication 1, declared 3
              by hand: kafka-reassign-partitions.sh --bootstrap-server k:9092 --execute with a plan that gives p-plan 3 replicas
        "#]],
        );
    }

    fn set(actual: &mut BTreeMap<String, Actual>, topic: &str, key: &str, value: &str) {
        actual.get_mut(topic).unwrap().settings.insert(key.to_owned(), value.to_owned());
    }

    /// Compares a cluster that is as declared, but for one thing.
    fn check(alter: impl FnOnce(&mut BTreeMap<String, Actual>), expect: Expect) {
        let definitions = definitions();
        let actual = definitions.iter().map(|it| {
            let Definition { name, partitions, replication, ref settings, .. } = *it;
            (name.to_owned(), Actual { partitions, replication, settings: settings.clone() })
        });
        let mut actual = actual.collect();
        alter(&mut actual);
        let cluster = Cluster { bootstrap_servers: "k:9092", prefix: "p-" };
        let lines = compare(&definitions, &actual).into_iter().map(|it| {
            let by = if it.is_applied() { "apply" } else { "by hand" };
            format!("{it}\n  {by}: {}\n", it.remedy(cluster))
        });
        expect.assert_eq(&lines.collect::<String>());
    }
}
