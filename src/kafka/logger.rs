//! Writes what was asked to `query_log`, on a thread of its own, so that Kafka holds no answer up.

use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Context;
use schemas::query_log::{QueriesLogged, QueryLogged};
use schemas::wire::encode;
use tracing::warn;

use super::writer::Writer;
use super::{Connection, Output, wall_clock};
use crate::counts::Counts;
use crate::queries::Batch;

/// So many batches may wait to be logged.
const WAITING_MAX: usize = 10_000;

/// A batch is looked at this often.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Where queries are handed over.
#[derive(Clone, Debug)]
pub struct Logged {
    logged: SyncSender<Item>,
    counts: Counts,
}

#[derive(Debug)]
enum Item {
    Queries(Vec<QueryLogged>),
    Letter(Box<Output>),
}

/// The thread that writes; it ends when all that hand over are gone.
#[derive(Debug)]
pub struct Logger(JoinHandle<()>);

impl Logged {
    pub fn queries(&self, queries: Vec<QueryLogged>) {
        if queries.is_empty() {
            return;
        }
        let count = queries.len() as u64;
        if self.logged.try_send(Item::Queries(queries)).is_err() {
            self.counts.add_many("queries_not_logged", count);
        }
    }

    pub fn letter(&self, letter: Output) {
        if self.logged.try_send(Item::Letter(Box::new(letter))).is_err() {
            self.counts.add("letters_not_written");
        }
    }
}

impl Logger {
    /// Brokers show the name.
    pub fn begin(
        connection: &Connection,
        name: &str,
        counts: &Counts,
    ) -> anyhow::Result<(Self, Logged)> {
        let writer = Writer::open(connection, name)?;
        let (logged, items) = sync_channel(WAITING_MAX);
        let mut writing = Writing { writer, batch: Batch::default(), counts: counts.clone() };
        let run = move || writing.run(&items);
        let thread = std::thread::Builder::new().name("query-log".into()).spawn(run);
        let thread = thread.context("begin a thread")?;
        Ok((Self(thread), Logged { logged, counts: counts.clone() }))
    }

    /// Waits until all is written.
    pub fn end(self) {
        if self.0.join().is_err() {
            warn!("the thread that logs queries has failed");
        }
    }
}

struct Writing {
    writer: Writer,
    batch: Batch,
    counts: Counts,
}

impl Writing {
    fn run(&mut self, items: &Receiver<Item>) {
        loop {
            match items.recv_timeout(LOOK_EVERY) {
                Ok(Item::Queries(queries)) => {
                    for query in queries {
                        self.batch.push(wall_clock(), query);
                        self.write_due();
                    }
                }
                Ok(Item::Letter(letter)) => self.write(&letter),
                Err(RecvTimeoutError::Timeout) => self.write_due(),
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        if let Some(queries) = self.batch.take() {
            self.write(&output(&queries));
        }
        if let Err(err) = self.writer.flush() {
            warn!(err = format!("{err:#}"), "the last queries may not be logged");
        }
    }

    fn write_due(&mut self) {
        if let Some(queries) = self.batch.due(wall_clock()) {
            self.write(&output(&queries));
        }
    }

    /// What Kafka does not take is gone: it is load, and the next tick has another.
    fn write(&self, output: &Output) {
        if let Err(err) = self.writer.send(output) {
            warn!(err = format!("{err:#}"), topic = output.topic, "a record was not written");
            self.counts.add("records_not_written");
        }
    }
}

fn output(queries: &QueriesLogged) -> Output {
    let mut output = Output::new("query_log", Vec::new(), encode(queries));
    output.key = None;
    output
}
