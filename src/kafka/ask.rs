//! Asks a cluster what partitions there are, and where they begin, end, or were at a time.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::metadata::Metadata;
use rdkafka::topic_partition_list::{Offset as At, TopicPartitionList, TopicPartitionListElem};
use schemas::Millis;

use super::report::Report;
use super::{Connection, REQUEST_MAX, TopicPartition, create, passes};
use crate::tick::tick_box::Offset;

/// How long one try to reach a broker that may be away takes.
const TRY_MAX: Duration = Duration::from_secs(1);

/// Log lines and events that are served at a time.
const SERVED_MAX: usize = 64;

/// Where reading begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Start {
    #[default]
    Beginning,
    End,
    /// The first record that is stamped at or after this.
    Time(Millis),
}

/// Asks one cluster, on a connection of its own: a broker answers what comes by one connection in
/// order, and a fetch that finds nothing waits.
pub(super) struct Asker {
    consumer: BaseConsumer<Report>,
    pub(super) connection: Connection,
    name: String,
}

impl Asker {
    pub(super) fn new(connection: &Connection, name: &str) -> anyhow::Result<Self> {
        Self::create(&connection.reader(name)?, connection, name)
    }

    /// Returns another whose ends lie behind what is not committed, too.
    pub(super) fn seeing_all(&self) -> anyhow::Result<Self> {
        let mut client = self.connection.reader(&self.name)?;
        client.set("isolation.level", "read_uncommitted");
        Self::create(&client, &self.connection, &self.name)
    }

    fn create(client: &ClientConfig, connection: &Connection, name: &str) -> anyhow::Result<Self> {
        let report = Report::new(&connection.bootstrap_servers);
        let consumer = create(client, report, "asking")?;
        Ok(Self { consumer, connection: connection.clone(), name: name.to_owned() })
    }

    pub(super) fn report(&self) -> &Report {
        self.consumer.context()
    }

    /// Waits for the cluster to answer, as long as it does not refuse us.
    pub(super) fn wait(&self) -> anyhow::Result<()> {
        while !self.is_reached(TRY_MAX)? {
            self.report().check()?;
        }
        Ok(())
    }

    /// Waits for an answer to a question, as long as the cluster does not refuse us. One that has
    /// just started may not know who leads a partition.
    pub(super) fn wait_for<T>(
        &self,
        ask: impl Fn(&Self) -> anyhow::Result<T>,
    ) -> anyhow::Result<T> {
        loop {
            match ask(self) {
                Err(err) if is_away(&err) => self.wait()?,
                done => return done,
            }
        }
    }

    /// Waits for the cluster to answer, for as long as a request may take.
    pub(super) fn reach(&self) -> anyhow::Result<()> {
        let deadline = Instant::now() + REQUEST_MAX;
        while !self.is_reached(TRY_MAX)? {
            self.report().check()?;
            ensure!(Instant::now() < deadline, "{}", self.report().reason());
        }
        Ok(())
    }

    fn is_reached(&self, within: Duration) -> anyhow::Result<bool> {
        // Of a topic that nobody has, so that not all of a great cluster's are sent.
        let answer = self.consumer.client().fetch_metadata(Some("isotherm"), within);
        self.serve();
        match answer {
            Ok(_) => {
                self.report().reached();
                Ok(true)
            }
            Err(err) if passes(&err) => Ok(false),
            Err(err) => Err(err).context("ask for the cluster"),
        }
    }

    /// Serves log lines and events, which only come when they are asked for.
    pub(super) fn serve(&self) {
        self.report().brokers.look(self.consumer.client());
        for _ in 0..SERVED_MAX {
            // What is wrong here shows in the answers; why is in the report.
            _ = self.consumer.poll(Duration::ZERO);
        }
    }

    /// Returns the partitions of a topic, which must be there.
    pub(super) fn partitions(&self, topic: &'static str) -> anyhow::Result<Vec<TopicPartition>> {
        let ids = self.partitions_if_any(topic)?;
        ensure!(
            !ids.is_empty(),
            "there is no topic {} at {}: create it with `isotherm topics apply`",
            self.connection.topic(topic),
            self.connection.bootstrap_servers
        );
        Ok(ids)
    }

    /// Returns the partitions of a topic; none if there is no such topic.
    pub(super) fn partitions_if_any(
        &self,
        topic: &'static str,
    ) -> anyhow::Result<Vec<TopicPartition>> {
        let full = self.connection.topic(topic);
        let metadata = self.metadata(&full)?;
        let found = metadata.topics().first();
        let code = found.and_then(|it| it.error()).map(RDKafkaErrorCode::from);
        if let Some(code) = code.filter(|it| *it != RDKafkaErrorCode::UnknownTopicOrPartition) {
            let err = anyhow::Error::new(KafkaError::MetadataFetch(code));
            return Err(err.context(format!("look at topic {full}")));
        }
        let ids = found.into_iter().flat_map(|it| it.partitions());
        Ok(ids.map(|it| TopicPartition { topic, partition: it.id() as u32 }).collect())
    }

    /// Returns what the cluster shows of a topic, by its full name.
    pub(super) fn metadata(&self, full: &str) -> anyhow::Result<Metadata> {
        let metadata = self.consumer.fetch_metadata(Some(full), REQUEST_MAX);
        metadata.with_context(|| self.failed("ask for topics"))
    }

    pub(super) fn beginnings(
        &self,
        ids: &[TopicPartition],
    ) -> anyhow::Result<BTreeMap<TopicPartition, Offset>> {
        self.offsets(ids, At::Beginning)
    }

    /// Returns the last stable offsets.
    pub(super) fn ends(
        &self,
        ids: &[TopicPartition],
    ) -> anyhow::Result<BTreeMap<TopicPartition, Offset>> {
        self.offsets(ids, At::End)
    }

    pub(super) fn starts(
        &self,
        ids: &[TopicPartition],
        start: Start,
    ) -> anyhow::Result<BTreeMap<TopicPartition, Offset>> {
        match start {
            Start::Beginning => self.beginnings(ids),
            Start::End => self.ends(ids),
            Start::Time(at) => self.at_time(ids, at),
        }
    }

    /// Returns where the first record is that is stamped at or after a time, or else the end.
    pub(super) fn at_time(
        &self,
        ids: &[TopicPartition],
        at: Millis,
    ) -> anyhow::Result<BTreeMap<TopicPartition, Offset>> {
        ensure!(
            !self.connection.embedded,
            "the embedded broker cannot look up a time; read the topic from its beginning"
        );
        let at = i64::try_from(at.0).context("a time that Kafka can stamp")?;
        self.offsets(ids, At::Offset(at))
    }

    /// Asks for all partitions in one request.
    fn offsets(
        &self,
        ids: &[TopicPartition],
        at: At,
    ) -> anyhow::Result<BTreeMap<TopicPartition, Offset>> {
        if ids.is_empty() {
            // The client takes no empty list.
            return Ok(BTreeMap::new());
        }
        let mut list = TopicPartitionList::new();
        let mut topics = BTreeMap::new();
        for id in ids {
            let full = self.connection.topic(id.topic);
            list.add_partition_offset(&full, id.partition as i32, at)?;
            topics.insert(full, id.topic);
        }
        let answers = self.consumer.offsets_for_times(list, REQUEST_MAX);
        if answers.as_ref().is_err_and(is_unknown) {
            self.check_there(ids)?;
        }
        let answers = answers.with_context(|| self.failed("ask for offsets"))?;
        let mut found = BTreeMap::new();
        let mut behind = Vec::new();
        for it in answers.elements() {
            let Some(&topic) = topics.get(it.topic()) else {
                bail!("{} was not asked for", it.topic());
            };
            let id = TopicPartition { topic, partition: it.partition() as u32 };
            let offset = offset(&it);
            if offset.as_ref().is_err_and(is_unknown) {
                self.check_there(&[id])?;
            }
            match offset.with_context(|| format!("ask for the offset of {id}"))? {
                Some(offset) => _ = found.insert(id, offset),
                // No record is as new as the time that was asked for.
                None => behind.push(id),
            }
        }
        if !behind.is_empty() {
            ensure!(at != At::End, "{} has no end", behind[0]);
            found.extend(self.offsets(&behind, At::End)?);
        }
        Ok(found)
    }

    /// Looks whether partitions that the client does not know are still there: it forgets them
    /// when a broker goes away while it asks, and says the same of a topic that was deleted.
    ///
    /// # Errors
    /// One that passes if they are there; else which is missing.
    fn check_there(&self, ids: &[TopicPartition]) -> anyhow::Result<()> {
        for topic in ids.iter().map(|it| it.topic).collect::<BTreeSet<_>>() {
            let there = self.partitions(topic)?;
            let missing = ids.iter().find(|it| it.topic == topic && !there.contains(it));
            if let Some(id) = missing {
                bail!(
                    "there is no partition {id} at {} any more",
                    self.connection.bootstrap_servers
                );
            }
        }
        let err = KafkaError::OffsetFetch(RDKafkaErrorCode::LeaderNotAvailable);
        Err(err).context("ask for the offsets of partitions whose leader is not known")
    }

    fn failed(&self, what: &str) -> String {
        self.serve();
        format!("{what}: {}", self.report().reason())
    }
}

/// Tells whether a question failed because a broker is away, or not yet all there.
pub(super) fn is_away(err: &anyhow::Error) -> bool {
    err.downcast_ref::<KafkaError>().is_some_and(passes)
}

/// Tells whether the client does not know a partition.
fn is_unknown(err: &KafkaError) -> bool {
    use RDKafkaErrorCode as Code;
    matches!(
        err.rdkafka_error_code(),
        Some(Code::UnknownPartition | Code::UnknownTopicOrPartition | Code::UnknownTopic)
    )
}

fn offset(it: &TopicPartitionListElem<'_>) -> Result<Option<Offset>, KafkaError> {
    it.error()?;
    match it.offset() {
        At::Offset(offset) => Ok(Some(Offset(offset as u64))),
        At::End => Ok(None),
        At::Beginning | At::Stored | At::Invalid | At::OffsetTail(_) => {
            Err(KafkaError::OffsetFetch(RDKafkaErrorCode::OffsetOutOfRange))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::embedded::Embedded;
    use super::*;

    #[test]
    fn partition_whose_leader_is_not_known_is_asked_for_again_and_one_that_is_gone_is_named() {
        let broker = Embedded::start(&[("heatmap".to_owned(), 2)]).unwrap();
        let asker = Asker::new(&broker.connection(), "asking").unwrap();
        let at = |topic, partition| TopicPartition { topic, partition };
        let there = asker.check_there(&[at("heatmap", 0), at("heatmap", 1)]).unwrap_err();
        assert!(is_away(&there), "{there:?}");
        let gone = asker.check_there(&[at("heatmap", 1), at("heatmap", 2)]).unwrap_err();
        assert!(!is_away(&gone) && gone.to_string().contains("heatmap/2"), "{gone:?}");
        for (id, name) in [(at("heatmap", 2), "heatmap/2"), (at("plan", 0), "no topic plan")] {
            let asked = asker.ends(&[id]).unwrap_err();
            assert!(!is_away(&asked) && asked.to_string().contains(name), "{asked:?}");
        }
    }

    #[test]
    fn broker_that_the_cluster_does_not_name_for_a_moment_is_away() {
        let away = KafkaError::MetadataFetch(RDKafkaErrorCode::DestroyBroker);
        assert!(is_away(&anyhow::Error::new(away)));
        let refused = KafkaError::MetadataFetch(RDKafkaErrorCode::TopicAuthorizationFailed);
        assert!(!is_away(&anyhow::Error::new(refused)));
    }
}
