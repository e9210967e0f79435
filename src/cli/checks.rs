//! Checks, before a process begins, that the topics are such that its promises hold.

use std::collections::BTreeMap;

use anyhow::Context;

use super::exit::{Exit, Fault};
use crate::config::Config;
use crate::kafka::admin::{Admin, Topic};
use crate::topics::definition::Process;
use crate::topics::requirements::{Unmet, requirements};
use crate::topics::{Actual, Cluster};

/// Topics of the cluster, by name without the configured prefix.
pub type Topics = BTreeMap<String, Actual>;

/// Waits for the cluster, and fails if its topics are not what the process needs; `further` tells
/// what else they must be. Returns the topics as they are.
pub fn check_topics(
    config: &Config,
    process: Process,
    further: impl Fn(Cluster<'_>, &Topics) -> Vec<Unmet>,
) -> Result<Topics, Box<Fault>> {
    let topics = Admin::await_cluster(&config.kafka)?.topics().context("look at the topics")?;
    let actual: Topics = topics.into_iter().map(actual).collect();
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

fn actual((name, topic): (String, Topic)) -> (String, Actual) {
    let Topic { partitions, replication, settings } = topic;
    let replication = u16::try_from(replication).unwrap_or(u16::MAX);
    (name, Actual { partitions, replication, settings })
}
