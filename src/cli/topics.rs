//! Compares topics with their declarations, and creates what is missing.
//!
//! * **Creating is all that is done.** What exists is never changed: the remedy is told.

use std::collections::BTreeMap;

use clap::{Args, Subcommand};
use serde_json::json;

use super::columns::columns;
use super::exit::{Exit, Fault, need_cluster};
use super::{Form, print};
use crate::config::Config;
use crate::kafka::Connection;
use crate::kafka::admin::{Admin, Topic};

use crate::topics::comparison::{Change, Difference, compare};
use crate::topics::definition::{Definition, Process};
use crate::topics::requirements::{Unmet, requirements};
use crate::topics::{Actual, Cluster, definitions};

#[derive(Clone, Debug, Subcommand)]
pub enum TopicsCommand {
    /// Tell what differs from the declarations; changes nothing
    Plan(PlanArgs),
    /// Create topics that are missing; changes and deletes none
    Apply(ApplyArgs),
}

#[derive(Clone, Debug, Args)]
pub struct PlanArgs {
    /// Exit with 3 if anything differs
    #[arg(long)]
    pub exit_code: bool,
    /// Compare with so many copies of each partition, instead of the declared ones
    #[arg(long, visible_alias = "replication", value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub replication_factor: Option<u16>,
    /// The form of what is printed
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Form,
}

#[derive(Clone, Debug, Args)]
pub struct ApplyArgs {
    /// Tell what would be created, and create nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Copies of each partition, instead of the declared ones
    #[arg(long, visible_alias = "replication", value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub replication_factor: Option<u16>,
    /// The form of what is printed
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Form,
}

pub fn run(config: &Config, command: &TopicsCommand) -> Result<Exit, Box<Fault>> {
    need_cluster(config)?;
    match command {
        TopicsCommand::Plan(args) => {
            let (_, found) = look(&config.kafka, args.replication_factor)?;
            print(&found.told(State::Create, args.output))?;
            let as_declared = found.changes.is_empty();
            Ok(if args.exit_code && !as_declared { Exit::Pending } else { Exit::Done })
        }
        TopicsCommand::Apply(args) => {
            let (admin, found) = look(&config.kafka, args.replication_factor)?;
            found.check_brokers()?;
            let state = if args.dry_run { State::WouldCreate } else { State::Created };
            if !args.dry_run {
                admin.create(&found.missing())?;
            }
            print(&found.told(state, args.output))?;
            Ok(Exit::Done)
        }
    }
}

/// Creates topics that are not there, with as many copies as there are brokers, at most as declared.
pub fn create_missing(
    connection: &Connection,
    definitions: impl Iterator<Item = Definition>,
) -> anyhow::Result<()> {
    let admin = Admin::open(connection)?;
    let brokers = u32::try_from(admin.brokers()?).unwrap_or(u32::MAX);
    let there = admin.topics()?;
    let missing = definitions.filter(|it| !there.contains_key(it.name)).map(|it| {
        let replication = u32::from(it.replication).min(brokers);
        let topic = Topic { partitions: it.partitions, replication, settings: it.settings };
        (it.name.to_owned(), topic)
    });
    admin.create(&missing.collect())?;
    Ok(())
}

/// What became, or becomes, of a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Create,
    WouldCreate,
    Created,
    Drift,
}

impl State {
    fn as_str(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::WouldCreate => "would create",
            Self::Created => "created",
            Self::Drift => "drift",
        }
    }
}

/// How a cluster differs from the definitions.
struct Found<'a> {
    connection: &'a Connection,
    brokers: usize,
    defined: usize,
    changes: Vec<Change>,
    /// What processes cannot work with, of topics that are there; and which processes.
    unmet: Vec<(Unmet, Vec<&'static str>)>,
}

fn look(connection: &Connection, replication: Option<u16>) -> anyhow::Result<(Admin, Found<'_>)> {
    let admin = Admin::open(connection)?;
    let actual = admin.topics()?.into_iter().map(|(name, topic)| {
        let Topic { partitions, replication, settings } = topic;
        let replication = u16::try_from(replication).unwrap_or(u16::MAX);
        (name, Actual { partitions, replication, settings })
    });
    let actual = actual.collect();
    let brokers = admin.brokers()?;
    Ok((admin, Found::new(connection, brokers, replication, &actual)))
}

impl<'a> Found<'a> {
    fn new(
        connection: &'a Connection,
        brokers: usize,
        replication: Option<u16>,
        actual: &BTreeMap<String, Actual>,
    ) -> Self {
        let mut definitions = definitions();
        for it in &mut definitions {
            it.replication = replication.unwrap_or(it.replication);
        }
        let changes = compare(&definitions, actual);
        let unmet = unmet(cluster(connection), actual);
        Self { connection, brokers, defined: definitions.len(), changes, unmet }
    }

    fn missing(&self) -> BTreeMap<String, Topic> {
        let missing = self.changes.iter().filter_map(|it| match &it.difference {
            Difference::Create { partitions, replication, settings } => {
                let (partitions, replication) = (*partitions, u32::from(*replication));
                let settings = settings.clone();
                Some((it.topic.to_owned(), Topic { partitions, replication, settings }))
            }
            Difference::PartitionsDiffer { .. }
            | Difference::ReplicationDiffers { .. }
            | Difference::SettingDiffers { .. } => None,
        });
        missing.collect()
    }

    /// The number of copies that the brokers are too few for.
    fn too_many_copies(&self) -> Option<u16> {
        let copies = self.changes.iter().filter_map(|it| match it.difference {
            Difference::Create { replication, .. } => Some(replication),
            Difference::ReplicationDiffers { declared, .. } => Some(declared),
            Difference::PartitionsDiffer { .. } | Difference::SettingDiffers { .. } => None,
        });
        copies.filter(|it| self.brokers < usize::from(*it)).max()
    }

    /// Fails before anything is created that Kafka would refuse halfway.
    fn check_brokers(&self) -> Result<(), Box<Fault>> {
        match self.too_many_copies() {
            Some(copies) if self.changes.iter().any(Change::is_applied) => {
                let what = format!("topics are to have {copies} replicas, {}", self.are_there());
                let code = "isotherm::topics::replication";
                Err(Box::new(Fault::new(Exit::Failed, code, what).remedy(self.fewer_copies())))
            }
            Some(_) | None => Ok(()),
        }
    }

    fn are_there(&self) -> String {
        match self.brokers {
            1 => "and there is one broker".to_owned(),
            n => format!("and there are {n} brokers"),
        }
    }

    fn fewer_copies(&self) -> String {
        let n = self.brokers;
        let loss = if n == 1 {
            " for a trial (a broker that is lost takes its records with it)"
        } else {
            ""
        };
        format!("give --replication-factor {n}{loss}, or add brokers")
    }

    fn remedy(&self, change: &Change) -> String {
        match change.difference {
            Difference::ReplicationDiffers { declared, .. }
                if self.brokers < usize::from(declared) =>
            {
                format!(
                    "{declared} replicas are declared, {}: {}",
                    self.are_there(),
                    self.fewer_copies()
                )
            }
            Difference::Create { .. }
            | Difference::PartitionsDiffer { .. }
            | Difference::ReplicationDiffers { .. }
            | Difference::SettingDiffers { .. } => change.remedy(cluster(self.connection)),
        }
    }

    /// `missing` is what becomes of topics that are not there.
    fn told(&self, missing: State, form: Form) -> String {
        let state = |it: &Change| if it.is_applied() { missing } else { State::Drift };
        let values = || {
            let changes = self.changes.iter().map(|it| self.value(it, state(it)));
            changes.chain(self.unmet.iter().map(unmet_value))
        };
        match form {
            Form::Table => self.table(&state),
            Form::Json => format!("{:#}\n", json!(values().collect::<Vec<_>>())),
            Form::Jsonl => values().map(|it| format!("{it}\n")).collect(),
        }
    }

    fn table(&self, state: &dyn Fn(&Change) -> State) -> String {
        if self.changes.is_empty() && self.unmet.is_empty() {
            return format!("all {} topics are as declared\n", self.defined);
        }
        let row = |it: &Change| {
            [self.connection.topic(it.topic), state(it).as_str().to_owned(), what(&it.difference)]
        };
        let rows: Vec<_> = self.changes.iter().map(row).collect();
        let mut res = match rows.is_empty() {
            true => String::new(),
            false => columns(["TOPIC", "STATE", "WHAT"], &rows),
        };
        let mut section = |title: &str, lines: Vec<String>| {
            if !lines.is_empty() {
                res.push_str(&format!("\n{title}\n"));
                lines.iter().for_each(|it| res.push_str(&format!("  {it}\n")));
            }
        };
        section("left to be done by hand", self.by_hand());
        let unmet = self.unmet.iter().map(|(it, processes)| {
            format!("{}: {} (in the way of {})", it.topic, it.reason, processes.join(", "))
        });
        section("promises that are broken until then", unmet.collect());
        let pending = self.changes.iter().any(|it| state(it) == State::Create);
        let mut next = Vec::from_iter(pending.then(|| "isotherm topics apply".to_owned()));
        if let Some(copies) = self.too_many_copies().filter(|_| pending) {
            next.push(format!(
                "{copies} replicas are declared, {}: {}",
                self.are_there(),
                self.fewer_copies()
            ));
        }
        section("to create what is missing", next);
        res
    }

    /// What is the same for several topics is told once.
    fn by_hand(&self) -> Vec<String> {
        let mut res: Vec<(String, Vec<String>)> = Vec::new();
        for it in self.changes.iter().filter(|it| !it.is_applied()) {
            let (topic, remedy) = (self.connection.topic(it.topic), self.remedy(it));
            match res.iter_mut().find(|(known, _)| *known == remedy) {
                Some((_, topics)) => topics.push(topic),
                None => res.push((remedy, vec![topic])),
            }
        }
        res.iter().map(|(remedy, topics)| format!("{}: {remedy}", topics.join(", "))).collect()
    }

    fn value(&self, change: &Change, state: State) -> serde_json::Value {
        let mut res = json!({
            "topic": self.connection.topic(change.topic),
            "state": state.as_str(),
            "remedy": self.remedy(change),
        });
        let rest = match &change.difference {
            Difference::Create { partitions, replication, settings } => {
                json!({ "partitions": partitions, "replication": replication, "settings": settings })
            }
            Difference::PartitionsDiffer { declared, actual } => {
                json!({ "what": "partitions", "declared": declared, "actual": actual })
            }
            Difference::ReplicationDiffers { declared, actual } => {
                json!({ "what": "replication", "declared": declared, "actual": actual })
            }
            Difference::SettingDiffers { key, declared, actual } => {
                json!({ "what": key, "declared": declared, "actual": actual })
            }
        };
        if let (Some(res), serde_json::Value::Object(mut rest)) = (res.as_object_mut(), rest) {
            res.append(&mut rest);
        }
        res
    }
}

fn cluster(connection: &Connection) -> Cluster<'_> {
    let Connection { bootstrap_servers, prefix, .. } = connection;
    Cluster { bootstrap_servers, prefix }
}

fn what(difference: &Difference) -> String {
    match difference {
        Difference::Create { partitions, replication, settings } => {
            let settings = settings.iter().map(|(key, value)| format!(", {key} {value}"));
            format!(
                "partitions {partitions}, replication {replication}{}",
                settings.collect::<String>()
            )
        }
        Difference::PartitionsDiffer { declared, actual } => {
            format!("partitions {actual}, declared {declared}")
        }
        Difference::ReplicationDiffers { declared, actual } => {
            format!("replication {actual}, declared {declared}")
        }
        Difference::SettingDiffers { key, declared, actual } => {
            format!("{key} {}, declared {declared}", actual.as_deref().unwrap_or("not told"))
        }
    }
}

fn unmet_value((unmet, processes): &(Unmet, Vec<&'static str>)) -> serde_json::Value {
    let Unmet { topic, reason, remedy } = unmet;
    json!({ "topic": topic, "state": "unmet", "processes": processes, "what": reason, "remedy": remedy })
}

/// Asks for every process; of a topic that is not there yet only that it is missing counts.
fn unmet(
    cluster: Cluster<'_>,
    actual: &BTreeMap<String, Actual>,
) -> Vec<(Unmet, Vec<&'static str>)> {
    let mut res: Vec<(Unmet, Vec<&'static str>)> = Vec::new();
    for process in Process::ALL {
        for it in requirements(process, cluster, actual) {
            let name = it.topic.strip_prefix(cluster.prefix).unwrap_or(&it.topic);
            if !actual.contains_key(name) {
                continue;
            }
            match res.iter_mut().find(|(known, _)| *known == it) {
                Some((_, processes)) => processes.push(process.name()),
                None => res.push((it, vec![process.name()])),
            }
        }
    }
    res
}

#[cfg(test)]
mod tests;
