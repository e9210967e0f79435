//! Listens to what a group says, and keeps it until the member polls.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard};

use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::topic_partition_list::{Offset as At, TopicPartitionList};
use rdkafka::types::RDKafkaRespErr;

use super::super::TopicPartition;
use super::super::report::Report;
use super::{Commit, NotStored};

/// What the client tells of its group.
pub(super) struct Member {
    pub(super) report: Report,
    changes: Mutex<VecDeque<Change>>,
    answer: Mutex<Option<Answer>>,
    /// It takes no part any more: what it has goes without a word.
    closing: AtomicBool,
    /// Another has its name, or it has itself, as it came twice.
    fenced: AtomicBool,
}

/// What the group has said, and the client waits for us to carry out.
#[derive(Clone, Debug)]
pub(super) enum Change {
    Given(Vec<u32>),
    Taken { partitions: Vec<u32>, lost: bool },
}

/// What became of the last commit: by partition, offset and text.
pub(super) struct Answer {
    stored: KafkaResult<()>,
    each: Vec<(u32, At, String, KafkaResult<()>)>,
}

impl Answer {
    /// Returns what became of each commit, if it is these that are answered.
    pub(super) fn to(
        self,
        commits: &[Commit],
    ) -> Option<Vec<(TopicPartition, Result<(), NotStored>)>> {
        let Self { stored, each } = self;
        let find = |it: &Commit| {
            let of = |told: &&(u32, At, String, KafkaResult<()>)| {
                told.0 == it.at.partition
                    && told.1 == At::Offset(it.offset.0 as i64)
                    && told.2 == it.metadata
            };
            let told = each.iter().find(of)?;
            let res = stored.clone().and(told.3.clone());
            Some((it.at, res.map_err(|err| NotStored(err.to_string()))))
        };
        commits.iter().map(find).collect()
    }
}

impl Member {
    pub(super) fn new(servers: &str) -> Self {
        Self {
            report: Report::new(servers),
            changes: Mutex::default(),
            answer: Mutex::default(),
            closing: AtomicBool::new(false),
            fenced: AtomicBool::new(false),
        }
    }

    pub(super) fn close(&self) {
        self.closing.store(true, Ordering::Release);
    }

    pub(super) fn fenced(&self) {
        self.fenced.store(true, Ordering::Release);
    }

    pub(super) fn is_fenced(&self) -> bool {
        self.fenced.load(Ordering::Acquire)
    }

    pub(super) fn changes(&self) -> MutexGuard<'_, VecDeque<Change>> {
        self.changes.lock().expect("nobody panics with it in hand")
    }

    pub(super) fn next_change(&self) -> Option<Change> {
        self.changes().pop_front()
    }

    pub(super) fn answer(&self) -> MutexGuard<'_, Option<Answer>> {
        self.answer.lock().expect("nobody panics with it in hand")
    }
}

impl ClientContext for Member {
    fn log(&self, level: RDKafkaLogLevel, fac: &str, line: &str) {
        self.report.log(level, fac, line);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.report.error(error, reason);
    }
}

impl ConsumerContext for Member {
    /// Notes the change only: where to begin has to be asked for, and what ends to be finished.
    fn rebalance(
        &self,
        consumer: &BaseConsumer<Self>,
        what: RDKafkaRespErr,
        list: &mut TopicPartitionList,
    ) {
        self.report.reached();
        let is_given = what == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS;
        if is_given {
            self.report.joined();
        }
        if self.closing.load(Ordering::Acquire) {
            // Nobody polls any more; what this cannot do ends with the client.
            _ = match is_given {
                true => consumer.incremental_assign(&TopicPartitionList::new()),
                false => consumer.incremental_unassign(list),
            };
            return;
        }
        let partitions = list.elements().iter().map(|it| it.partition() as u32).collect();
        self.changes().push_back(match is_given {
            true => Change::Given(partitions),
            false => Change::Taken { partitions, lost: consumer.assignment_lost() },
        });
    }

    fn commit_callback(&self, stored: KafkaResult<()>, list: &TopicPartitionList) {
        let each = list
            .elements()
            .into_iter()
            .map(|it| (it.partition() as u32, it.offset(), it.metadata().to_owned(), it.error()));
        *self.answer() = Some(Answer { stored, each: each.collect() });
    }
}
