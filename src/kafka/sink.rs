//! Writes what a tick led to, and its box, in one transaction.
//!
//! Why nothing is written twice, in order:
//!
//! 1. [`Sink::open`] fences the predecessor: what it has not committed is aborted, and it can commit
//!    nothing more.
//! 2. Only then is progress read, so it is final.
//! 3. The source begins where the last committed box ends.
//! 4. Outputs and box of a tick become visible together or not at all.
//!
//! * **Every error ends this sink.** They differ in what is known: see [`CommitError`]. Nothing is
//!   written again by the same client, not even what was aborted: the next one has a new epoch, so
//!   nothing that is still on its way from this one can take the place of what the next one writes.
//! * **Bounded.** A call that may be repeated is, a few times; no other loop is put around the
//!   client.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseRecord, Producer, ThreadedProducer};
use thiserror::Error;

use crate::fail_points;

use super::ask::Asker;
use super::report::Report;
use super::writer::enqueue;
use super::{Connection, Output, REQUEST_MAX, count_letter, create, to_send};

/// How often a call is made that Kafka says may be made again.
const CALLS_MAX: u32 = 5;

type Cause = Box<dyn std::error::Error + Send + Sync>;

/// Why a tick was not committed, and what is known of it.
#[derive(Debug, Error)]
pub enum CommitError {
    /// Start again from the topics, at once.
    #[error("the tick was aborted: nothing of it is visible ({reason})")]
    Aborted { reason: String, source: Cause },
    /// Start again from the topics: they tell.
    #[error("the tick was committed or not: only its progress record tells ({reason})")]
    Unsettled { reason: String, source: Cause },
    /// Exit, if there is a successor: who starts again at once would fence it in turn. Kafka says the
    /// same of a transaction that was open for too long.
    #[error("fenced by a newer planner of the same id: nothing of the tick is visible")]
    Fenced { source: Cause },
    /// Start again from the topics, with a new client.
    #[error("the producer is broken ({reason})")]
    Fatal { reason: String, source: Cause },
}

impl CommitError {
    /// A stable code, for counters.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Aborted { .. } => "aborted",
            Self::Unsettled { .. } => "unsettled",
            Self::Fenced { .. } => "fenced",
            Self::Fatal { .. } => "fatal",
        }
    }
}

/// Writes to the topics of one planner.
pub struct Sink {
    /// Has a thread that serves delivery reports, for which an abort waits without serving them.
    producer: ThreadedProducer<Report>,
    connection: Connection,
    /// Records that the client has taken.
    sent: AtomicU64,
}

impl Sink {
    /// Takes over from every sink of this planner that was opened before. Waits for a broker that
    /// is away.
    pub fn open(connection: &Connection, planner_id: &str) -> anyhow::Result<Self> {
        Asker::new(connection, planner_id)?.wait()?;
        let mut client = connection.producer(planner_id)?;
        let id = format!("{}{planner_id}", connection.prefix);
        client
            .set("transactional.id", &id)
            // While a dead planner's transaction is open, readers see nothing that comes after it.
            .set("transaction.timeout.ms", "10000")
            // All of a tick is there at once; to wait for more only delays its commit.
            .set("linger.ms", "0");
        let report = Report::new(&connection.bootstrap_servers);
        let producer: ThreadedProducer<_> = create(&client, report, "writing")?;
        again(|| producer.init_transactions(REQUEST_MAX)).map_err(|err| {
            let why = match err.rdkafka_error_code() {
                Some(RDKafkaErrorCode::TransactionalIdAuthorizationFailed) => {
                    format!("its principal needs `Write` on transactional id {id}")
                }
                Some(_) | None => producer.context().reason(),
            };
            anyhow::Error::new(err).context(format!("take over as planner {planner_id}: {why}"))
        })?;
        Ok(Self { producer, connection: connection.clone(), sent: AtomicU64::new(0) })
    }

    /// Makes the outputs visible, together; who reads only the last of them, reads of all.
    pub fn commit(&self, outputs: &[Output]) -> Result<(), CommitError> {
        let Err(err) = self.try_commit(outputs) else { return Ok(()) };
        // Refused or not delivered in time: the transaction is still open.
        if matches!(err, KafkaError::MessageProduction(_) | KafkaError::Flush(_)) {
            return Err(self.abort(err));
        }
        if let KafkaError::Transaction(it) = &err {
            if it.txn_requires_abort() {
                return Err(self.abort(err));
            }
            if it.is_retriable() {
                return Err(CommitError::Unsettled { reason: self.reason(), source: err.into() });
            }
        }
        Err(self.fatal(err))
    }

    fn try_commit(&self, outputs: &[Output]) -> Result<(), KafkaError> {
        self.producer.context().brokers.look(self.producer.client());
        again(|| self.producer.begin_transaction())?;
        fail_points::pass("sink-after-begin");
        for (sent, output) in outputs.iter().enumerate() {
            let topic = self.connection.topic(output.topic);
            self.send(to_send(&topic, output))?;
            if sent == 0 && cfg!(debug_assertions) {
                // Until it is on the broker, there is nothing to abort.
                self.deliver();
                fail_points::pass("sink-after-first-send");
            }
            if sent == outputs.len() / 2 {
                fail_points::pass("sink-half-sent");
            }
        }
        self.deliver();
        fail_points::pass("sink-before-commit");
        again(|| self.producer.commit_transaction(REQUEST_MAX))?;
        self.producer.context().reached();
        outputs.iter().for_each(count_letter);
        fail_points::pass("sink-after-commit");
        Ok(())
    }

    fn send(&self, record: BaseRecord<'_, [u8], [u8]>) -> Result<(), KafkaError> {
        enqueue(&self.producer, record)?;
        self.sent.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// Waits until Kafka has the records. The commit does so too, but looks only every 100 ms, where
    /// a whole transaction takes 10. What is not delivered in time, the commit tells.
    fn deliver(&self) {
        self.is_settled(REQUEST_MAX);
    }

    /// Waits until the end of all records is known, delivered or not; tells whether it is.
    pub fn is_settled(&self, within: Duration) -> bool {
        self.producer.context().wait_for_ends(self.sent.load(Ordering::Relaxed), within)
    }

    fn abort(&self, cause: KafkaError) -> CommitError {
        let reason = self.reason();
        match again(|| self.producer.abort_transaction(REQUEST_MAX)) {
            Ok(()) => CommitError::Aborted { reason, source: cause.into() },
            Err(err) => self.fatal(err),
        }
    }

    fn fatal(&self, cause: KafkaError) -> CommitError {
        let source = cause.into();
        match self.producer.client().fatal_error() {
            Some((RDKafkaErrorCode::Fenced, _)) => CommitError::Fenced { source },
            Some((_, reason)) => CommitError::Fatal { reason, source },
            None => CommitError::Fatal { reason: self.reason(), source },
        }
    }

    fn reason(&self) -> String {
        let report = self.producer.context();
        report.take_undelivered().unwrap_or_else(|| report.reason())
    }
}

/// Makes a call of the transaction, and makes it again where Kafka says so.
fn again(call: impl Fn() -> Result<(), KafkaError>) -> Result<(), KafkaError> {
    let mut calls = 1;
    loop {
        match call() {
            Err(KafkaError::Transaction(err)) if err.is_retriable() && calls < CALLS_MAX => {
                calls += 1;
            }
            done => return done,
        }
    }
}
