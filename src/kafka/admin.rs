//! Lists and creates topics.
//!
//! The embedded broker has no settings and creates topics itself: see [`super::embedded`].

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use rdkafka::admin::{
    AdminClient, AdminOptions, ConfigResource, NewTopic, OwnedResourceSpecifier, ResourceSpecifier,
    TopicReplication,
};
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::producer::{BaseProducer, Producer};

use super::ask::Asker;
use super::report::Report;
use super::{Connection, REQUEST_MAX, create};

/// How often it is looked whether a new topic is shown.
const SHOWN_EVERY: Duration = Duration::from_millis(50);

/// A topic as it is, or is to be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Topic {
    pub partitions: u32,
    pub replication: u32,
    /// Every setting that has a value; of a topic that is to be, those that differ from the broker's.
    pub settings: BTreeMap<String, String>,
}

/// Whether a topic was created.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Created {
    Now,
    Before,
}

/// Manages the topics of one cluster.
pub struct Admin {
    client: AdminClient<Report>,
    /// Asks for the list: the client for administration has no such call.
    lister: BaseProducer<Report>,
    connection: Connection,
}

impl Admin {
    /// Connects, or tells why that is not possible.
    pub fn open(connection: &Connection) -> anyhow::Result<Self> {
        Asker::new(connection, "admin")?.reach()?;
        let options = connection.producer("admin")?;
        let report = || Report::new(&connection.bootstrap_servers);
        let client = create(&options, report(), "administering")?;
        let lister = create(&options, report(), "listing")?;
        Ok(Self { client, lister, connection: connection.clone() })
    }

    /// Connects, as soon as the cluster is there.
    pub fn await_cluster(connection: &Connection) -> anyhow::Result<Self> {
        Asker::new(connection, "admin")?.wait()?;
        Self::open(connection)
    }

    /// Returns the topics with the configured prefix, by their names without it. Those that belong
    /// to Kafka itself are left out.
    pub fn topics(&self) -> anyhow::Result<BTreeMap<String, Topic>> {
        let metadata = self.lister.client().fetch_metadata(None, REQUEST_MAX);
        let metadata = metadata.with_context(|| self.failed("list topics"))?;
        let mut topics = BTreeMap::new();
        for it in metadata.topics() {
            let name = it.name().strip_prefix(&self.connection.prefix);
            let Some(name) = name.filter(|it| !it.starts_with("__")) else { continue };
            let replication = it.partitions().iter().map(|it| it.replicas().len()).min();
            let topic = Topic {
                partitions: u32::try_from(it.partitions().len())?,
                replication: u32::try_from(replication.unwrap_or(0))?,
                settings: BTreeMap::new(),
            };
            topics.insert(name.to_owned(), topic);
        }
        if !self.connection.embedded && !topics.is_empty() {
            self.read_settings(&mut topics)?;
        }
        Ok(topics)
    }

    /// Returns which of these are not shown because we may not so much as describe them. Kafka does not tell
    /// whether they are there.
    pub fn forbidden<'a>(
        &self,
        names: impl Iterator<Item = &'a str>,
    ) -> anyhow::Result<Vec<&'a str>> {
        // Asked as a reader: for one who writes, a cluster may create what is not there.
        let asker = Asker::new(&self.connection, "admin")?;
        let mut res = Vec::new();
        for name in names {
            let metadata = asker.metadata(&self.connection.topic(name))?;
            let code = metadata.topics().first().and_then(|it| it.error());
            if code.map(RDKafkaErrorCode::from) == Some(RDKafkaErrorCode::TopicAuthorizationFailed)
            {
                res.push(name);
            }
        }
        Ok(res)
    }

    /// Returns how many brokers there are: a topic has at most as many replicas.
    pub fn brokers(&self) -> anyhow::Result<usize> {
        let metadata = self.lister.client().fetch_metadata(Some("isotherm"), REQUEST_MAX);
        Ok(metadata.with_context(|| self.failed("ask for the brokers"))?.brokers().len())
    }

    /// Creates the topics, names without the configured prefix. One that exists is left as it is.
    pub fn create(
        &self,
        topics: &BTreeMap<String, Topic>,
    ) -> anyhow::Result<BTreeMap<String, Created>> {
        ensure!(!self.connection.embedded, "the embedded broker creates its topics itself");
        if topics.is_empty() {
            // The client takes that for a mistake.
            return Ok(BTreeMap::new());
        }
        let names: Vec<_> = topics.keys().map(|it| self.connection.topic(it)).collect();
        let new = topics.values().zip(&names).map(|(topic, name)| {
            let partitions = i32::try_from(topic.partitions)?;
            let replication = TopicReplication::Fixed(i32::try_from(topic.replication)?);
            let new = NewTopic::new(name, partitions, replication);
            Ok(topic.settings.iter().fold(new, |new, (name, value)| new.set(name, value)))
        });
        let new = new.collect::<anyhow::Result<Vec<_>>>()?;
        let answers = block_on(self.client.create_topics(&new, &options()))?;
        let answers = answers.with_context(|| self.failed("create topics"))?;
        let mut created = BTreeMap::new();
        for (name, answer) in topics.keys().zip(answers) {
            let at = match answer {
                Ok(_) => Created::Now,
                Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => Created::Before,
                Err((full, code)) => return Err(code).with_context(|| format!("create {full}")),
            };
            created.insert(name.clone(), at);
        }
        self.await_shown(topics)?;
        Ok(created)
    }

    /// Waits until the cluster shows topics to everybody: a broker learns of them a little after the
    /// controller has answered.
    fn await_shown(&self, topics: &BTreeMap<String, Topic>) -> anyhow::Result<()> {
        let deadline = Instant::now() + REQUEST_MAX;
        loop {
            let shown = self.topics()?;
            let Some(missing) = topics.keys().find(|it| !shown.contains_key(*it)) else {
                return Ok(());
            };
            ensure!(
                Instant::now() < deadline,
                "{} was created and is not shown after {} s: is a broker behind?",
                self.connection.topic(missing),
                REQUEST_MAX.as_secs()
            );
            std::thread::sleep(SHOWN_EVERY);
        }
    }

    fn read_settings(&self, topics: &mut BTreeMap<String, Topic>) -> anyhow::Result<()> {
        let names: Vec<_> = topics.keys().map(|it| self.connection.topic(it)).collect();
        let asked: Vec<_> = names.iter().map(|it| ResourceSpecifier::Topic(it)).collect();
        let answers = block_on(self.client.describe_configs(&asked, &options()))?;
        let answers = answers.with_context(|| self.failed("ask for the settings of topics"))?;
        for answer in answers {
            let ConfigResource { specifier, entries } =
                answer.context("ask for the settings of a topic")?;
            let OwnedResourceSpecifier::Topic(full) = specifier else { continue };
            let name = full.strip_prefix(&self.connection.prefix).unwrap_or(&full);
            let Some(topic) = topics.get_mut(name) else { continue };
            let entries = entries.into_iter();
            topic.settings = entries.filter_map(|it| Some((it.name, it.value?))).collect();
        }
        Ok(())
    }

    fn failed(&self, what: &str) -> String {
        self.lister.poll(std::time::Duration::ZERO);
        format!("{what}: {}", self.lister.context().reason())
    }
}

fn options() -> AdminOptions {
    AdminOptions::new().request_timeout(Some(REQUEST_MAX)).operation_timeout(Some(REQUEST_MAX))
}

/// Runs a future of the client to its end; it has a thread of its own that completes it.
fn block_on<T>(future: impl Future<Output = T>) -> anyhow::Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    Ok(runtime.context("start a runtime for the administering client")?.block_on(future))
}
