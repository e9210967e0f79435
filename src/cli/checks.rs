//! Checks, before a process begins, that the topics are such that its promises hold.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Context;

use super::exit::{Exit, Fault};
use crate::config::Config;
use crate::kafka::admin::{Admin, Topic};
use crate::topics::definition::{Definition, Process};
use crate::topics::requirements::{Unmet, requirements};
use crate::topics::{Actual, Cluster, definitions};

/// Topics of the cluster, by name without the configured prefix.
pub type Topics = BTreeMap<String, Actual>;

/// Waits for the cluster, and fails if its topics are not what the process needs; `further` tells
/// what else they must be. Returns the topics as they are.
pub fn check_topics(
    config: &Config,
    process: Process,
    further: impl Fn(Cluster<'_>, &Topics) -> Vec<Unmet>,
) -> Result<Topics, Box<Fault>> {
    let admin = Admin::await_cluster(&config.kafka)?;
    let topics = admin.topics().context("look at the topics")?;
    let actual: Topics = topics.into_iter().map(actual).collect();
    if !config.kafka.embedded {
        check_rights(&admin, config, process, &actual)?;
    }
    let cluster = Cluster {
        bootstrap_servers: &config.kafka.bootstrap_servers,
        prefix: &config.kafka.prefix,
    };
    let mut unmet = requirements(process, cluster, &actual);
    unmet.extend(further(cluster, &actual));
    if unmet.is_empty() {
        return Ok(actual);
    }
    let (reasons, mut remedies): (Vec<_>, Vec<_>) = unmet
        .into_iter()
        .map(|it| (format!("topic {}: {}", it.topic, it.reason), it.remedy))
        .unzip();
    remedies.dedup();
    let name = process.name();
    let what = format!("the {name} cannot work with these topics: {}", reasons.join("; "));
    let fault = Fault::new(Exit::Failed, &format!("isotherm::{name}::topics"), what);
    Err(Box::new(fault.remedy(remedies.join("\n"))))
}

/// Fails if topics of the process are not shown because it has no rights on them: that is another
/// matter than that they are not there.
fn check_rights(
    admin: &Admin,
    config: &Config,
    process: Process,
    shown: &Topics,
) -> Result<(), Box<Fault>> {
    let definitions = definitions();
    let mine = |it: &&Definition| it.readers.contains(&process) || it.writers.contains(&process);
    let missing = definitions.iter().filter(mine).map(|it| it.name);
    let forbidden = admin.forbidden(missing.filter(|it| !shown.contains_key(*it)))?;
    if forbidden.is_empty() {
        return Ok(());
    }
    let name = process.name();
    let topics: Vec<_> = forbidden.iter().map(|it| config.kafka.topic(it)).collect();
    let what = format!(
        "the {name} may not use these topics, or they are not there: {} (TOPIC_AUTHORIZATION_FAILED)",
        topics.join(", ")
    );
    let right = |it: &&Definition, of: &BTreeSet<Process>| {
        (forbidden.contains(&it.name) && of.contains(&process)).then(|| config.kafka.topic(it.name))
    };
    let reads: Vec<_> = definitions.iter().filter_map(|it| right(&it, &it.readers)).collect();
    let writes: Vec<_> = definitions.iter().filter_map(|it| right(&it, &it.writers)).collect();
    let rights = [("Read", reads), ("Write", writes), ("DescribeConfigs", topics)];
    let rights = rights.iter().filter(|it| !it.1.is_empty());
    let rights: Vec<_> = rights.map(|(it, on)| format!("{it} on {}", on.join(", "))).collect();
    let fault = Fault::new(Exit::Failed, &format!("isotherm::{name}::rights"), what);
    Err(Box::new(fault.remedy(format!("give its principal {}", rights.join("; ")))))
}

fn actual((name, topic): (String, Topic)) -> (String, Actual) {
    let Topic { partitions, replication, settings } = topic;
    let replication = u16::try_from(replication).unwrap_or(u16::MAX);
    (name, Actual { partitions, replication, settings })
}
