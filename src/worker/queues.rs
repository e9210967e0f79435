//! Takes records in the order of their partitions, as far as each can be.
//!
//! * **A record that waits holds its own partition only**: commands do not wait for updates, nor these for
//!   segments.
//! * **Bounded.** So many records of a partition, and bytes, are taken in before they are used; more are not
//!   wanted.
//! * **A generation that does not exist is not waited for (R2)**: once the map is read to the end that it
//!   had when the record came, and lacks it, the record is a dead letter.

use schemas::Generation;

use super::events::{Action, Ignored, Output, Record, Settings, Source};
use super::machine::Worker;
use super::queue::{Bytes, Queue};
use super::states::Name;

#[derive(Clone, Debug)]
pub(super) struct Queued {
    offset: u64,
    /// `None`: it is skipped.
    pub(super) record: Option<Record>,
    /// It waits for a generation: which reading of the map shows whether that exists.
    asked: Option<u64>,
}

impl Bytes for Queued {
    fn bytes(&self) -> usize {
        self.record.as_ref().map_or(0, Bytes::bytes)
    }
}

/// What a step may still take in.
#[derive(Clone, Copy, Debug)]
pub(super) struct Left {
    records: usize,
    bytes: usize,
}

impl Left {
    fn of(settings: &Settings) -> Self {
        Self { records: settings.records_max, bytes: settings.step_bytes_max }
    }

    pub(super) fn has_some(self) -> bool {
        self.records > 0 && self.bytes > 0
    }

    pub(super) fn take(&mut self, bytes: usize) {
        self.records -= 1;
        self.bytes = self.bytes.saturating_sub(bytes);
    }
}

/// What became of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Taken {
    Used,
    /// It changes a role, or opens a stream: it ends the step.
    Last,
    /// Until something else happens.
    Waits,
    /// Until the map has this generation.
    WaitsFor(Generation),
}

impl Worker {
    /// Tells whether more records of a partition can be taken now.
    pub fn wants(&self, source: Source) -> bool {
        self.queues.get(&source).is_none_or(|it| self.has_room(it))
    }

    /// Tells whether more rows of scans can be taken now.
    pub fn wants_rows(&self) -> bool {
        self.has_room(&self.rows)
    }

    fn has_room<T: Bytes>(&self, queue: &Queue<T>) -> bool {
        let Settings { records_max, step_bytes_max, .. } = self.settings;
        queue.len() < records_max && queue.bytes() < step_bytes_max
    }

    /// Returns the partitions of which a record waits, and its offset.
    pub fn waiting(&self) -> impl Iterator<Item = (Source, u64)> {
        self.queues.iter().filter_map(|(source, it)| Some((*source, it.front()?.offset)))
    }

    pub(super) fn queue(&mut self, source: Source, offset: u64, record: Option<Record>) {
        let queue = self.queues.entry(source).or_default();
        let known = self.remembered.positions.get(&source).copied().unwrap_or_default();
        let next = queue.back().map_or(known, |it| it.offset + 1);
        if next <= offset {
            queue.push_back(Queued { offset, record, asked: None });
        }
    }

    /// Takes in records, each partition as far as it can be.
    pub(super) fn take(&mut self) {
        let mut left = Left::of(&self.settings);
        let sources: Vec<_> = self.queues.keys().copied().collect();
        for source in sources {
            if !self.is_started() && source != Source::Update {
                continue;
            }
            while left.has_some()
                && let Some(next) = self.queues.get_mut(&source).and_then(|it| it.pop_front())
            {
                left.take(next.bytes());
                let Queued { offset, record, asked } = next;
                let taken = record.as_ref().map_or(Taken::Used, |it| self.take_record(it));
                match taken {
                    Taken::Used | Taken::Last => {
                        self.remembered.positions.insert(source, offset + 1);
                        self.changed.insert(Name::Position(source));
                        if taken == Taken::Last {
                            return;
                        }
                    }
                    Taken::Waits => {
                        self.wait(source, Queued { offset, record, asked });
                        break;
                    }
                    Taken::WaitsFor(generation) => {
                        let next = Queued { offset, record, asked };
                        if self.wait_for(source, next, generation) {
                            break;
                        }
                    }
                }
            }
        }
        self.take_rows(left);
    }

    fn take_record(&mut self, record: &Record) -> Taken {
        match record {
            Record::Status(it) => self.take_status(it),
            Record::Command(it) => self.take_command(it),
            Record::Ack(it) => self.take_ack(it),
            Record::Segment(it) => self.take_segment(it),
            Record::Update(it) => self.take_update(it),
        }
    }

    fn wait(&mut self, source: Source, queued: Queued) {
        self.queues.entry(source).or_default().push_front(queued);
    }

    /// Lets a record wait for a generation, unless that does not exist; tells whether it waits (R2).
    fn wait_for(&mut self, source: Source, mut queued: Queued, generation: Generation) -> bool {
        if self.map.generation() < generation {
            match queued.asked {
                None => {
                    self.map_asked += 1;
                    queued.asked = Some(self.map_asked);
                    self.step.then.push(Action::ReadMap);
                }
                Some(asked) if asked <= self.map_reached => {
                    let Queued { offset, record, .. } = queued;
                    let record = record.expect("what is skipped does not wait");
                    self.ignore(Ignored::NoSuchGeneration);
                    self.step.sends.push(Output::Dead { source, offset, record, generation });
                    self.remembered.positions.insert(source, offset + 1);
                    self.changed.insert(Name::Position(source));
                    return false;
                }
                Some(_) => (),
            }
        }
        self.wait(source, queued);
        true
    }
}
