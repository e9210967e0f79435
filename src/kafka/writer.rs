//! Writes records that belong to no transaction: traces, dead letters, what a stand-in answers.
//!
//! * **Once, in order, or an error.** The client is idempotent; a record that is given up is told by
//!   the next call.
//! * **Bounded.** Who writes faster than the broker takes it waits.
//! * **A broker that is away** is waited for, for a while, or as long as it takes: as the writer is opened.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseRecord, Producer, ThreadedProducer};

use super::report::Report;
use super::{Connection, Output, count_letter, create, to_send};

/// A broker may be away for so long before a record is given up.
const DELIVERY_MAX: Duration = Duration::from_secs(120);

/// So often a wait for deliveries looks up.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Writes to any topics.
pub struct Writer {
    producer: ThreadedProducer<Report>,
    connection: Connection,
    /// How long a broker may be away; `None`: as long as it takes.
    away_max: Option<Duration>,
    /// Records that the client has taken.
    sent: AtomicU64,
}

impl Writer {
    /// Connects when there is something to write.
    pub fn open(connection: &Connection, name: &str) -> anyhow::Result<Self> {
        Self::with(connection, name, Some(DELIVERY_MAX))
    }

    /// The same; a record is given up only if the broker refuses it.
    pub fn open_patient(connection: &Connection, name: &str) -> anyhow::Result<Self> {
        Self::with(connection, name, None)
    }

    fn with(
        connection: &Connection,
        name: &str,
        away_max: Option<Duration>,
    ) -> anyhow::Result<Self> {
        let mut client = connection.producer(name)?;
        // Of 0, there is no end.
        let timeout_ms = away_max.map_or(0, |it| it.as_millis());
        client.set("message.timeout.ms", timeout_ms.to_string());
        let report = Report::new(&connection.bootstrap_servers);
        let producer = create(&client, report, "writing")?;
        Ok(Self { producer, connection: connection.clone(), away_max, sent: AtomicU64::new(0) })
    }

    /// Hands the record to the client; waits while that holds as much as it may.
    pub fn send(&self, output: &Output) -> anyhow::Result<()> {
        let topic = self.connection.topic(output.topic);
        enqueue(&self.producer, to_send(&topic, output))
            .with_context(|| format!("write to {topic}"))?;
        self.sent.fetch_add(1, Ordering::Relaxed);
        count_letter(output);
        self.check()
    }

    /// Waits until Kafka has all that was sent.
    pub fn flush(&self) -> anyhow::Result<()> {
        let deadline = self.away_max.map(|it| Instant::now() + it);
        let sent = self.sent.load(Ordering::Relaxed);
        let is_any_under_way = self.producer.context().ended() < sent;
        while !self.producer.context().wait_for_ends(sent, LOOK_EVERY) {
            if deadline.is_some_and(|it| it < Instant::now()) {
                bail!("write: {}", self.producer.context().reason());
            }
            self.check()?;
        }
        // Else nothing says that there is a broker.
        if is_any_under_way {
            self.producer.context().reached();
        }
        self.check()
    }

    /// Waits until the end of each record is known, for as long as a broker may be away; returns how many
    /// Kafka has not got, and why, unless that was told by a call before.
    pub fn settle(&self) -> (u64, Option<String>) {
        let report = self.producer.context();
        let deadline = self.away_max.map(|it| Instant::now() + it);
        let taken = self.taken();
        while !report.wait_for_ends(taken, LOOK_EVERY) {
            report.brokers.look(self.producer.client());
            if deadline.is_some_and(|it| it < Instant::now()) || report.check().is_err() {
                break;
            }
        }
        let open = taken - report.ended();
        let why = report.take_undelivered().or_else(|| (0 < open).then(|| report.reason()));
        (report.given_up() + open, why)
    }

    /// Returns how many records were given up, of those that the client has taken.
    pub fn given_up(&self) -> u64 {
        self.producer.context().given_up()
    }

    /// Returns how many records the client has taken.
    pub fn taken(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    fn check(&self) -> anyhow::Result<()> {
        let report = self.producer.context();
        report.brokers.look(self.producer.client());
        match report.take_undelivered() {
            Some(reason) => bail!("{reason}"),
            None => report.check(),
        }
    }
}

/// Hands the record to the client; waits while that holds as much as it may. Ends: a record in the queue is
/// delivered or times out, or is waited for as agreed.
pub(super) fn enqueue(
    producer: &ThreadedProducer<Report>,
    record: BaseRecord<'_, [u8], [u8]>,
) -> Result<(), KafkaError> {
    let mut refused = producer.send(record).err();
    while let Some((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), record)) = refused {
        let report = producer.context();
        report.brokers.look(producer.client());
        report.wait_for_ends(report.ended() + 1, LOOK_EVERY);
        refused = producer.send(record).err();
    }
    refused.map_or(Ok(()), |(err, _)| Err(err))
}
