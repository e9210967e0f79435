//! Says that records are gone which were to be read.

use std::collections::BTreeMap;

use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use thiserror::Error;

use super::ask::Asker;
use super::{Connection, TopicPartition};
use crate::tick::tick_box::Offset;

/// What was to be read next is gone: retention has overtaken the reader, or the topic was made anew.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{text}")]
pub struct Gone {
    pub at: TopicPartition,
    pub wanted: Offset,
    text: String,
}

/// Returns [`Gone`] for a partition that begins behind what is wanted of it, at the offset `begins` if
/// that is known.
pub(super) fn gap(
    at: TopicPartition,
    wanted: Offset,
    begins: Option<Offset>,
    connection: &Connection,
) -> anyhow::Error {
    let topic = connection.topic(at.topic);
    let is = match begins {
        Some(begins) => format!("the next record there is has offset {}", begins.0),
        None => "the partition ends before it: the topic was made anew".to_owned(),
    };
    let remedy = match connection.embedded {
        true => {
            "the embedded broker keeps 5 MiB of a partition: write more slowly, or to more partitions"
        }
        false => {
            "raise retention.ms and retention.bytes of the topic, and begin anew: under another \
             planner id, or with an empty store"
        }
    };
    let partition = at.partition;
    let text = format!(
        "{topic} has a gap: partition {partition} has no offset {} any more, {is}; {remedy}",
        wanted.0
    );
    anyhow::Error::new(Gone { at, wanted, text })
}

/// Refuses to read from where there is nothing any more.
pub(super) fn check_beginnings(
    asker: &Asker,
    from: &BTreeMap<TopicPartition, Offset>,
) -> anyhow::Result<()> {
    let ids: Vec<_> = from.keys().copied().collect();
    for (at, begins) in asker.beginnings(&ids)? {
        if from[&at] < begins {
            return Err(gap(at, from[&at], Some(begins), &asker.connection));
        }
    }
    Ok(())
}

/// Puts what went wrong with a partition into words.
pub(super) fn failed(
    asker: &Asker,
    at: TopicPartition,
    position: Offset,
    err: KafkaError,
) -> anyhow::Error {
    let is_gap = [RDKafkaErrorCode::AutoOffsetReset, RDKafkaErrorCode::OffsetOutOfRange];
    if err.rdkafka_error_code().is_some_and(|code| is_gap.contains(&code)) {
        let begins = asker.beginnings(&[at]).ok().map(|it| it[&at]);
        return gap(at, position, begins.filter(|it| position < *it), &asker.connection);
    }
    anyhow::Error::new(err).context(format!("read {at} at offset {}", position.0))
}
