//! Writes what was asked to `query_log`, on a thread of its own, so that Kafka holds no answer up.

use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Context as _;
use opentelemetry::KeyValue;
use opentelemetry::trace::SpanContext;
use schemas::query_log::{QueriesLogged, QueryLogged};
use schemas::wire::encode;
use tracing::warn;

use super::writer::Writer;
use super::{Connection, Output, wall_clock};
use crate::counts::Counts;
use crate::queries::Batch;
use crate::telemetry::spans::{self, Begun};
use crate::telemetry::{carried, names};

/// So many batches may wait to be logged.
const WAITING_MAX: usize = 10_000;

/// A batch has links to so many traces; of more, it tells how many.
const LINKS_MAX: usize = 32;

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
    /// And the span that has asked them, if it is sampled.
    Queries(Vec<QueryLogged>, Option<SpanContext>),
    Letter(Box<Output>),
}

/// The thread that writes; it ends when all that hand over are gone.
#[derive(Debug)]
pub struct Logger(JoinHandle<()>);

impl Logged {
    pub fn queries(&self, queries: Vec<QueryLogged>, asked: Option<SpanContext>) {
        if queries.is_empty() {
            return;
        }
        let count = queries.len() as u64;
        if self.logged.try_send(Item::Queries(queries, asked)).is_err() {
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
        let (batch, links) = (Batch::default(), Links::default());
        let topic = connection.topic("query_log");
        let mut writing = Writing { writer, topic, batch, links, counts: counts.clone() };
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
    topic: String,
    batch: Batch,
    /// Of what the batch has come from.
    links: Links,
    counts: Counts,
}

impl Writing {
    fn run(&mut self, items: &Receiver<Item>) {
        loop {
            match items.recv_timeout(LOOK_EVERY) {
                Ok(Item::Queries(queries, asked)) => {
                    asked.into_iter().for_each(|it| self.links.add(it));
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
            self.write_queries(&queries);
        }
        if let Err(err) = self.writer.flush() {
            warn!(err = format!("{err:#}"), "the last queries may not be logged");
        }
    }

    fn write_due(&mut self) {
        if let Some(queries) = self.batch.due(wall_clock()) {
            self.write_queries(&queries);
        }
    }

    /// A batch of which anything is sampled has a trace of its own, with links to those.
    fn write_queries(&mut self, queries: &QueriesLogged) {
        let mut output = output(queries);
        let Links { spans, left_out } = std::mem::take(&mut self.links);
        if spans.is_empty() {
            return self.write(&output);
        }
        let context = Begun::send(&self.topic, None).linked(spans).with([
            KeyValue::new(names::QUERIES, queries.queries.len() as i64),
            KeyValue::new(names::UNLINKED, left_out as i64),
        ]);
        let context = context.begin();
        carried::put(&context, &mut output.headers);
        self.write(&output);
        spans::end(&context);
    }

    /// What Kafka does not take is gone: it is load, and the next tick has another.
    fn write(&self, output: &Output) {
        if let Err(err) = self.writer.send(output) {
            warn!(err = format!("{err:#}"), topic = output.topic, "a record was not written");
            self.counts.add("records_not_written");
        }
    }
}

/// Spans of distinct traces, and how many more there were.
#[derive(Debug, Default)]
struct Links {
    spans: Vec<SpanContext>,
    left_out: u64,
}

impl Links {
    fn add(&mut self, span: SpanContext) {
        if self.spans.iter().any(|it| it.trace_id() == span.trace_id()) {
            return;
        }
        if self.spans.len() == LINKS_MAX {
            self.left_out += 1;
        } else {
            self.spans.push(span);
        }
    }
}

fn output(queries: &QueriesLogged) -> Output {
    let mut output = Output::new("query_log", Vec::new(), encode(queries));
    output.key = None;
    output
}

#[cfg(test)]
mod tests {
    use opentelemetry::trace::{SpanId, TraceFlags, TraceId, TraceState};

    use super::*;

    #[test]
    fn links_are_of_distinct_traces_and_bounded() {
        let mut links = Links::default();
        let sampled = TraceFlags::SAMPLED;
        for trace in 1..=LINKS_MAX as u128 + 5 {
            for span in 1..=2 {
                let (trace, span) = (TraceId::from(trace), SpanId::from(span));
                links.add(SpanContext::new(trace, span, sampled, true, TraceState::default()));
            }
        }
        assert_eq!(links.spans.len(), LINKS_MAX);
        assert!(links.spans.iter().all(|it| it.span_id() == SpanId::from(1)));
        // What has no link is not known again, and counted as often as it comes.
        assert_eq!(links.left_out, 10);
    }
}
