//! Reads the definitions of the topics: one YAML file each, in the shape that topicctl has.
//!
//! ```text
//!  meta.name, .description                what it is; the stem of the file
//!  meta.labels: schema, key               what a record says and is found by
//!  meta.labels: writers, readers          processes, separated by commas
//!  spec: partitions, replicationFactor    how many
//!  spec: retentionMinutes, settings       for how long, and all else
//! ```
//!
//! * **A key that nobody reads is an error**, not a comment.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use thiserror::Error;

use super::parts;

/// How a topic is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Definition {
    /// Without the configured prefix.
    pub name: &'static str,
    pub description: String,
    /// The file of the schema, under `schemas/`.
    pub schema: String,
    /// What the key of a record is, or `none`.
    pub key: String,
    pub writers: BTreeSet<Process>,
    pub readers: BTreeSet<Process>,
    pub partitions: u32,
    /// How many brokers have a copy. A cluster of one broker takes no more than 1.
    pub replication: u16,
    /// The declared settings, among them `retention.ms`, as Kafka names them.
    pub settings: BTreeMap<String, String>,
}

/// Who takes part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Process {
    Planner,
    Worker,
    Channel,
    Router,
    Replay,
    /// What plays load, instead of an application.
    Load,
    /// The user's programs.
    Application,
    /// A person, by command line or HTTP.
    Operator,
    Dashboard,
}

impl Process {
    pub const ALL: [Self; 9] = [
        Self::Planner,
        Self::Worker,
        Self::Channel,
        Self::Router,
        Self::Replay,
        Self::Load,
        Self::Application,
        Self::Operator,
        Self::Dashboard,
    ];

    /// The name in definitions, and of the folder under `src/`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Planner => "planner",
            Self::Worker => "worker",
            Self::Channel => "channel",
            Self::Router => "router",
            Self::Replay => "replay",
            Self::Load => "load",
            Self::Application => "application",
            Self::Operator => "operator",
            Self::Dashboard => "dashboard",
        }
    }

    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|it| it.name() == name)
    }
}

/// Why a text is not the definition of a topic.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum DefinitionError {
    #[error("{0}")]
    Malformed(String),
    #[error("it names the topic {0}, and its file another")]
    OtherName(String),
    #[error(
        "`{0}` is no process: write one of planner, worker, channel, router, replay, \
             load, application, operator, dashboard"
    )]
    UnknownProcess(String),
    #[error("it has no `cleanup.policy`: write delete, compact, or both")]
    NoPolicy,
    #[error("it has both `retentionMinutes` and `retention.ms`: write the first alone")]
    TwoRetentions,
    #[error("it has no partition or no replica: write at least one of each")]
    Empty,
}

/// Returns the definitions of all topics, in the order of their names.
pub fn definitions() -> Vec<Definition> {
    macro_rules! embedded {
        ($($name:literal),*) => {
            [$(($name, include_str!(concat!("../../topics/", $name, ".yaml")))),*]
        };
    }
    let texts = embedded![
        "assignment",
        "dead_letter",
        "heatmap",
        "index_update",
        "migrate_range",
        "migration_status",
        "node_capacity",
        "operator_command",
        "plan",
        "planner_progress",
        "query_log",
        "range_segment",
        "segment_ack",
        "table"
    ];
    let parsed = texts.map(|(name, text)| match parse(name, text) {
        Ok(definition) => definition,
        Err(error) => panic!("topics/{name}.yaml: {error}"),
    });
    parsed.into()
}

/// Reads the definition of a topic in a file of that stem.
pub fn parse(stem: &'static str, text: &str) -> Result<Definition, DefinitionError> {
    let File { meta, spec } = serde_saphyr::from_str(text)
        .map_err(|error| DefinitionError::Malformed(error.to_string()))?;
    if meta.name != stem {
        return Err(DefinitionError::OtherName(meta.name));
    }
    if spec.partitions == 0 || spec.replication_factor == 0 {
        return Err(DefinitionError::Empty);
    }
    let mut settings = spec.settings;
    if !settings.contains_key("cleanup.policy") {
        return Err(DefinitionError::NoPolicy);
    }
    if let Some(minutes) = spec.retention_minutes {
        let retention_ms = (u64::from(minutes) * 60_000).to_string();
        if settings.insert("retention.ms".to_owned(), retention_ms).is_some() {
            return Err(DefinitionError::TwoRetentions);
        }
    }
    Ok(Definition {
        name: stem,
        description: meta.description.trim_end().to_owned(),
        schema: meta.labels.schema,
        key: meta.labels.key,
        writers: processes(&meta.labels.writers)?,
        readers: processes(&meta.labels.readers)?,
        partitions: spec.partitions,
        replication: spec.replication_factor,
        settings,
    })
}

fn processes(names: &str) -> Result<BTreeSet<Process>, DefinitionError> {
    let process = |name: &str| {
        Process::from_name(name).ok_or_else(|| DefinitionError::UnknownProcess(name.to_owned()))
    };
    parts(names).map(process).collect()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    meta: Meta,
    spec: Spec,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Meta {
    name: String,
    /// Of topicctl, which keeps the topics of many clusters; any name.
    #[serde(rename = "cluster")]
    _cluster: Option<String>,
    description: String,
    labels: Labels,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Labels {
    schema: String,
    key: String,
    writers: String,
    readers: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Spec {
    partitions: u32,
    replication_factor: u16,
    retention_minutes: Option<u32>,
    settings: BTreeMap<String, String>,
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    #[test]
    fn every_topic_is_defined_as_the_protocol_needs_it() {
        let lines = definitions().into_iter().map(|it| {
            let names = |of: &BTreeSet<Process>| match of.is_empty() {
                true => "nobody".to_owned(),
                false => of.iter().map(|it| it.name()).collect::<Vec<_>>().join("+"),
            };
            let retention = it.settings.get("retention.ms");
            let hours = retention.map(|it| it.parse::<u64>().unwrap() / 3_600_000);
            let hours = hours.map_or("-".to_owned(), |it| format!("{it} h"));
            let policy = &it.settings["cleanup.policy"];
            let (writers, readers) = (names(&it.writers), names(&it.readers));
            format!("{} {} {policy} {hours}: {writers} -> {readers}\n", it.name, it.partitions)
        });
        expect![[r#"
            assignment 1 compact -: planner -> planner+worker+channel+router+replay+operator
            dead_letter 1 delete 336 h: planner+worker+channel+router -> replay+operator
            heatmap 4 compact,delete 168 h: planner -> planner+replay+operator+dashboard
            index_update 16 delete 48 h: worker+channel -> worker
            migrate_range 1 delete 168 h: planner -> planner+worker+replay
            migration_status 1 compact,delete 168 h: planner+worker -> planner+worker+replay+operator
            node_capacity 1 compact,delete 168 h: worker -> planner+worker+channel+router+replay+operator
            operator_command 1 delete 720 h: channel+operator -> planner+replay
            plan 1 delete 720 h: planner -> replay+operator
            planner_progress 1 delete 48 h: planner -> planner+replay
            query_log 8 delete 48 h: channel+router+application -> planner+replay
            range_segment 16 delete 1 h: worker -> worker
            segment_ack 16 delete 1 h: worker -> worker
            table 8 compact -: load+application -> worker+channel+operator
        "#]]
        .assert_eq(&lines.collect::<String>());
    }

    /// The rules that hold between the settings of several topics.
    #[test]
    fn definitions_meet_the_requirements_of_every_process() {
        let actual = definitions().into_iter().map(|it| {
            let Definition { partitions, replication, settings, .. } = it;
            (it.name.to_owned(), crate::topics::Actual { partitions, replication, settings })
        });
        let actual = actual.collect();
        let cluster = crate::topics::Cluster { bootstrap_servers: "k:9092", prefix: "" };
        for process in Process::ALL {
            let unmet = crate::topics::requirements::requirements(process, cluster, &actual);
            assert_eq!(unmet, []);
        }
    }

    const TEXT: &str = "
meta: {name: plan, description: d, labels: {schema: plan.avsc, key: k, writers: planner, readers: operator}}
spec: {partitions: 1, replicationFactor: 3, retentionMinutes: 60, settings: {cleanup.policy: delete, segment.ms: 5}}
";

    #[test]
    fn number_without_quotes_is_a_setting() {
        let settings = parse("plan", TEXT).unwrap().settings;
        let expected =
            [("cleanup.policy", "delete"), ("retention.ms", "3600000"), ("segment.ms", "5")];
        assert!(settings.iter().map(|(key, value)| (&**key, &**value)).eq(expected));
    }

    #[test]
    fn definition_with_a_fault_is_refused_with_its_reason() {
        check(
            "name: plan",
            "name: table",
            expect!["it names the topic table, and its file another"],
        );
        check(
            "writers: planner",
            "writers: planer",
            expect![
                "`planer` is no process: write one of planner, worker, channel, router, replay, load, application, operator, dashboard"
            ],
        );
        check(
            "cleanup.policy: delete",
            "cleanup: delete",
            expect!["it has no `cleanup.policy`: write delete, compact, or both"],
        );
        check(
            "segment.ms",
            "retention.ms",
            expect!["it has both `retentionMinutes` and `retention.ms`: write the first alone"],
        );
        check(
            "partitions: 1",
            "partitions: 0",
            expect!["it has no partition or no replica: write at least one of each"],
        );
        check("partitions: 1", "partitions: many", expect!["error: line 3 column 20: invalid u32"]);
        check(
            "description: d",
            "descriptoin: d",
            expect![
                "error: line 2 column 20: unknown field `descriptoin`, expected one of name, cluster, description, labels"
            ],
        );
        check(
            "retentionMinutes",
            "retentionDays",
            expect![
                "error: line 3 column 45: unknown field `retentionDays`, expected one of partitions, replicationFactor, retentionMinutes, settings"
            ],
        );
    }

    fn check(text: &str, fault: &str, expect: Expect) {
        let error = parse("plan", &TEXT.replacen(text, fault, 1)).unwrap_err().to_string();
        // What the parser shows of the text is its own affair.
        expect.assert_eq(error.lines().next().unwrap());
    }
}
