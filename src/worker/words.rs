//! Says how migrations to this node stand, and what it wants of their sources.
//!
//! * **Behind a sync, and again after a start (R3).** The newest word of each migration is remembered
//!   until its end was read back.

use schemas::migration_status::{MigrationStatus, Phase, Status};
use schemas::range_segment::RangeSegment;
use schemas::segment_ack::SegmentAck;
use schemas::{Epoch, KeySpan, MigrationId, Millis};

use super::events::Output;
use super::machine::Worker;
use super::states::{Erasing, Held, Import, Name, Role, Then};
use crate::transfer::segment::entry_bytes;

/// When a source was last asked, and what came since.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Asked {
    at: Millis,
    /// Of segments that are not acknowledged.
    bytes: u64,
}

/// How often it is said how much has come of a copy.
const COPIED_EVERY_MS: u64 = 1_000;

impl Worker {
    pub(super) fn tell(&mut self, status: MigrationStatus) {
        self.changed.insert(Name::Word(status.migration));
        self.remembered.words.insert(status.migration, status.clone());
        // At the end of a start all words are said.
        if self.is_started() {
            self.step.promises.push(Output::Status(status));
        }
    }

    pub(super) fn forget_word(&mut self, migration: MigrationId) {
        self.copied_told.remove(&migration);
        self.changed.insert(Name::Word(migration));
        self.remembered.words.remove(&migration);
    }

    pub(super) fn tell_progress(&mut self, span: &KeySpan, import: &Import, phase: Phase) {
        let digest = (phase == Phase::Ready).then_some(import.receiver.sums.live);
        self.tell(MigrationStatus {
            phase: Some(phase),
            epoch: import.source_epoch,
            attempt: import.receiver.stream,
            bytes: import.bytes,
            digest,
            ..self.status(import.migration, span, Status::InProgress)
        });
    }

    /// Says now and then how much has come. It promises nothing, and is not said again after a start.
    pub(super) fn tell_copied(&mut self, span: &KeySpan) {
        let held = self.remembered.roles.get(&span.start);
        let Some(import) = held.and_then(|it| it.role.import()).filter(|it| !it.ready) else {
            return;
        };
        let status = MigrationStatus {
            phase: Some(Phase::Copying),
            epoch: import.source_epoch,
            attempt: import.receiver.stream,
            bytes: import.bytes,
            ..self.status(import.migration, span, Status::InProgress)
        };
        let (now, is_started) = (self.now, self.is_started());
        let told = self.copied_told.entry(status.migration).or_insert(now);
        if is_started && told.0 + COPIED_EVERY_MS <= now.0 {
            *told = now;
            self.step.sends.push(Output::Status(status));
        }
    }

    pub(super) fn tell_failed(&mut self, span: &KeySpan, import: &Import, reason: &str) {
        self.asked.remove(&import.migration);
        self.copied_told.remove(&import.migration);
        self.tell(MigrationStatus {
            reason: Some(reason.to_owned()),
            epoch: import.source_epoch,
            attempt: import.receiver.stream,
            bytes: import.bytes,
            ..self.status(import.migration, span, Status::Failed)
        });
    }

    pub(super) fn tell_active(
        &mut self,
        migration: MigrationId,
        span: &KeySpan,
        epoch: Epoch,
        partitions_left: Vec<u32>,
    ) {
        self.tell(MigrationStatus {
            phase: Some(Phase::Active),
            epoch,
            partitions_left,
            ..self.status(migration, span, Status::InProgress)
        });
    }

    pub(super) fn tell_complete(&mut self, migration: MigrationId, span: &KeySpan, epoch: Epoch) {
        let status = self.status(migration, span, Status::Complete);
        self.tell(MigrationStatus { epoch, ..status });
    }

    pub(super) fn status(
        &self,
        migration: MigrationId,
        span: &KeySpan,
        status: Status,
    ) -> MigrationStatus {
        MigrationStatus {
            migration,
            range_start: span.start.clone(),
            range_end: span.end.clone(),
            teller: self.settings.node.clone(),
            status,
            phase: None,
            reason: None,
            epoch: Epoch(0),
            attempt: 0,
            bytes: 0,
            digest: None,
            partitions_left: Vec::new(),
        }
    }

    /// Says all that was promised, as it may not have come out before the start.
    pub(super) fn tell_again(&mut self) {
        let words = self.remembered.words.values().cloned();
        self.step.promises.extend(words.map(Output::Status));
        let imports: Vec<_> = self.starts(|role| role.is_asking());
        for start in imports {
            let span = self.remembered.roles[&start].span.clone();
            self.ack(&span);
        }
        self.reopen_streams();
    }

    /// Asks again where nothing came for long (R8), and tells what is left to drain.
    pub(super) fn tell_due(&mut self) {
        if !self.is_started() {
            return;
        }
        for start in self.starts(|role| role.is_asking()) {
            let Held { span, role } = &self.remembered.roles[&start];
            let Some(import) = role.import() else { continue };
            let asked = self.asked.get(&import.migration).copied().unwrap_or_default();
            let credit = self.credit_bytes();
            let is_due = asked.at.0 + self.settings.repeat_ms <= self.now.0;
            if is_due || credit / 4 <= asked.bytes {
                self.ack(&span.clone());
            }
        }
        self.end_graces();
    }

    pub(super) fn asks_due(&self) -> Option<Millis> {
        let asking = self.remembered.roles.values().filter(|it| it.role.is_asking());
        let due = asking.filter_map(|it| {
            let asked = self.asked.get(&it.role.import()?.migration).copied().unwrap_or_default();
            Some(Millis(asked.at.0 + self.settings.repeat_ms))
        });
        due.min()
    }

    /// Takes in that a source is alive.
    pub(super) fn heard(&mut self, segment: &RangeSegment) {
        let now = self.now;
        let asked = self.asked.entry(segment.migration).or_default();
        asked.at = now;
        asked.bytes += segment.entries.iter().map(|it| entry_bytes(it) as u64).sum::<u64>();
    }

    /// Says to the source of an import what is wanted next.
    pub(super) fn ack(&mut self, span: &KeySpan) {
        let Some(held) = self.remembered.roles.get(&span.start) else { return };
        let Some(import) = held.role.import().cloned() else { return };
        self.asked.insert(import.migration, Asked { at: self.now, bytes: 0 });
        self.acknowledge(span, &import, Done::No);
    }

    pub(super) fn acknowledge(&mut self, span: &KeySpan, import: &Import, done: Done) {
        let ack = SegmentAck {
            migration: import.migration,
            generation: import.generation,
            stream: import.receiver.stream,
            next_seq: import.receiver.next_seq,
            credit_bytes: self.credit_bytes(),
            range_start: span.start.clone(),
            range_end: span.end.clone(),
            source_epoch: import.source_epoch,
            destination_inbox: self.settings.inbox,
            bandwidth_bytes_per_s: import.bandwidth_bytes_per_s,
            done: done == Done::Yes,
        };
        let (node, inbox) = (import.source.clone(), import.source_inbox);
        self.step.promises.push(Output::Ack { node, inbox, ack });
    }

    /// Returns what one source may send, so that all of them do not send too much.
    fn credit_bytes(&self) -> u64 {
        let imports = self.remembered.roles.values().filter(|it| it.role.is_asking());
        let share = self.settings.inbox_credit_bytes / imports.count().max(1) as u64;
        self.settings.stream_credit_bytes.min(share).max(1)
    }
}

/// Whether the stream may end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Done {
    No,
    Yes,
}

impl Role {
    /// Tells whether segments are wanted.
    fn is_asking(&self) -> bool {
        match self {
            Self::Import(_) | Self::Erasing(Erasing { then: Then::NextStream(_), .. }) => true,
            Self::Erasing(Erasing {
                then: Then::None | Then::Import(_) | Then::Rebuild(_) | Then::ScanAnew(_),
                ..
            })
            | Self::Active(_)
            | Self::Applying(_)
            | Self::Rebuild(_)
            | Self::Leaving(_) => false,
        }
    }
}
