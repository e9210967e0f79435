//! Decides for an interval as its destination: from START to COMPLETE, or FAILED.
//!
//! ```text
//!  START ──> old? FAILED
//!        └─> erase, IN_PROGRESS ──> request ──> OPEN, DATA … END ──> equal? READY : FAILED
//!                                      ^                 │ gap, broken, higher stream
//!                                      └── erase <───────┘
//!  own commit, HANDOVER ──> equal? Applying ──> ACTIVE, done ──> drained: COMPLETE
//!                           └── else the next stream
//! ```
//!
//! * **After READY there is no FAILED but in answer to CANCEL (R5)**: the planner may have committed.
//! * **Every word and every acknowledgement is behind a sync (R3)**, and is said again after a start;
//!   a request also while no segment comes (R8).

use std::collections::BTreeSet;

use schemas::migrate_range::{Command, MigrateRange};
use schemas::migration_status::{MigrationStatus, Phase, Status};
use schemas::range_segment::{Entry, Kind, RangeSegment};
use schemas::{Generation, Key, KeySpan, MigrationId};

use super::events::Ignored;
use super::machine::{Of, Worker};
use super::queues::Taken;
use super::states::{Applying, Erasing, Held, Import, Origin, Role, Size, Then};
use super::words::Done;
use crate::store::{Outcome, Write};
use crate::transfer::digest::Floors;
use crate::transfer::receiver::{Receiver, Verdict};
use crate::transfer::segment::entry_bytes;

impl Worker {
    pub(super) fn take_command(&mut self, command: &MigrateRange) -> Taken {
        if command.destination_node != self.settings.node {
            return self.take_command_as_source(command);
        }
        if self.remembered.generation < command.generation {
            return Taken::WaitsFor(command.generation);
        }
        match command.command {
            Command::Start => self.start(command),
            Command::Cancel => self.cancel(command),
            Command::Unknown => {
                self.ignore(Ignored::UnknownCommand);
                Taken::Used
            }
        }
    }

    fn start(&mut self, start: &MigrateRange) -> Taken {
        let span = KeySpan { start: start.range_start.clone(), end: start.range_end.clone() };
        let range = self.map.map().range(&span);
        let is_valid = range.is_some_and(|it| {
            it.epoch == start.source_epoch
                && it.node == start.source_node
                && it.node != self.settings.node
        });
        let import = Import {
            migration: start.migration,
            source: start.source_node.clone(),
            source_inbox: start.source_inbox,
            source_epoch: start.source_epoch,
            generation: start.generation,
            bandwidth_bytes_per_s: start.bandwidth_bytes_per_s,
            receiver: Receiver::new(1),
            bytes: 0,
            ready: false,
            via: BTreeSet::new(),
        };
        if is_valid {
            self.tell_progress(&span, &import, Phase::Copying);
            self.erase(span, Then::Import(import));
        } else {
            self.ignore(Ignored::StaleCommand);
            self.tell_failed(&span, &import, "the range is not as the command has it");
        }
        Taken::Last
    }

    fn cancel(&mut self, cancel: &MigrateRange) -> Taken {
        let span = KeySpan { start: cancel.range_start.clone(), end: cancel.range_end.clone() };
        let held = self.importing(cancel.migration);
        let reason = cancel.reason.as_deref().unwrap_or("cancelled");
        if let Some((span, import)) = held {
            if self.committed_here(&span.start).is_none() {
                self.tell_failed(&span, &import, reason);
                self.erase(span, Then::None);
            } else {
                // After the commit there is no CANCEL.
                self.ignore(Ignored::UnknownMigration);
            }
            return Taken::Last;
        }
        let range = self.map.map().range(&span);
        if range.is_some_and(|it| it.migration == Some(cancel.migration)) {
            self.ignore(Ignored::UnknownMigration);
            return Taken::Used;
        }
        // It was given up here, or never begun: the first end counts.
        self.tell(MigrationStatus {
            epoch: cancel.source_epoch,
            reason: Some(reason.to_owned()),
            ..self.status(cancel.migration, &span, Status::Failed)
        });
        Taken::Used
    }

    /// Gives a migration up that its map has left behind (R5).
    pub(super) fn give_up(&mut self, span: &KeySpan, import: &Import, reason: &str) {
        if import.ready {
            // The planner has decided it long since.
            self.forget_word(import.migration);
        } else {
            self.tell_failed(span, import, reason);
        }
        self.erase(span.clone(), Then::None);
    }

    /// Says that no more is wanted, if the segment is of what is active here already.
    fn answer_done(&mut self, segment: &RangeSegment) {
        let of_it = |it: &Held| {
            let import = it.role.draining().filter(|it| it.migration == segment.migration)?;
            Some((it.span.clone(), import.clone()))
        };
        let Some((span, import)) = self.remembered.roles.values().find_map(of_it) else {
            self.ignore(Ignored::UnknownMigration);
            return;
        };
        if matches!(segment.kind, Kind::Open | Kind::Handover) {
            self.acknowledge(&span, &import, Done::Yes);
        }
    }

    /// Returns what a migration brings here.
    fn importing(&self, migration: MigrationId) -> Option<(KeySpan, Import)> {
        let of_it = |it: &&Held| it.role.import().is_some_and(|it| it.migration == migration);
        let held = self.remembered.roles.values().find(of_it)?;
        Some((held.span.clone(), held.role.import()?.clone()))
    }

    pub(super) fn take_segment(&mut self, segment: &RangeSegment) -> Taken {
        if self.remembered.generation < segment.generation {
            return Taken::WaitsFor(segment.generation);
        }
        let migration = segment.migration;
        let Some((span, import)) = self.importing(migration) else {
            self.answer_done(segment);
            return Taken::Used;
        };
        let verdict = import.receiver.look(segment);
        match &self.remembered.roles[&span.start].role {
            Role::Import(_) => (),
            // All that is needed is here.
            Role::Applying(_) => {
                self.ignore(Ignored::KnownSegment);
                return Taken::Used;
            }
            Role::Erasing(_) if verdict == Verdict::Known => (),
            Role::Erasing(_) => return Taken::Waits,
            Role::Active(_) | Role::Rebuild(_) | Role::Leaving(_) => {
                unreachable!("these are no imports")
            }
        }
        let is_data = matches!(verdict, Verdict::Data(_) | Verdict::Known);
        let of_it = |it: &Of| matches!(it, Of::Segment(start, _) if *start == span.start);
        if !is_data && self.step.origins.iter().any(of_it) {
            // The sums are known only when what came before is staged.
            return Taken::Waits;
        }
        self.heard(segment);
        self.received(&span, &import, verdict, segment)
    }

    fn received(
        &mut self,
        span: &KeySpan,
        import: &Import,
        verdict: Verdict,
        segment: &RangeSegment,
    ) -> Taken {
        let committed = self.committed_here(&span.start);
        match verdict {
            Verdict::Known => {
                self.ignore(Ignored::KnownSegment);
                Taken::Used
            }
            Verdict::Anew => {
                self.begin_stream(span, import, segment.stream);
                // It is the first one of that stream, and is taken as such.
                Taken::Waits
            }
            Verdict::Gap | Verdict::Broken => {
                self.ignore(Ignored::BrokenStream);
                let seen = if verdict == Verdict::Gap { segment.stream } else { 0 };
                self.ask_next(span, import, seen);
                Taken::Last
            }
            Verdict::Open(floors) => {
                self.advance(span, |it| it.receiver.floors = floors);
                Taken::Used
            }
            Verdict::Data(entries) => {
                let bytes: usize = entries.iter().map(entry_bytes).sum();
                self.advance(span, |it| it.bytes += bytes as u64);
                self.tell_copied(span);
                for entry in entries {
                    if span.contains(&entry.index_key.0) {
                        let of = Of::Segment(span.start.clone(), entry.clone());
                        self.write(of, Write::Put(entry));
                    }
                }
                Taken::Used
            }
            Verdict::End { is_equal: true } => {
                self.advance(span, |it| it.ready = true);
                if !import.ready && committed.is_none() {
                    self.tell_progress(
                        span,
                        &Import { ready: true, ..import.clone() },
                        Phase::Ready,
                    );
                }
                self.ack(span);
                Taken::Used
            }
            Verdict::End { is_equal: false } if import.ready || committed.is_some() => {
                self.ignore(Ignored::SumsDiffer);
                self.ask_next(span, import, segment.stream);
                Taken::Last
            }
            Verdict::End { is_equal: false } => {
                self.ignore(Ignored::SumsDiffer);
                self.tell_failed(span, import, "what came differs from what was sent");
                self.erase(span.clone(), Then::None);
                Taken::Last
            }
            Verdict::Handover { is_equal, floors, generation } => {
                let Some(commit) = committed.filter(|it| *it == generation) else {
                    // Of a commit that this node's map has left behind.
                    self.ignore(Ignored::UnknownMigration);
                    return Taken::Used;
                };
                if !is_equal {
                    self.ignore(Ignored::SumsDiffer);
                    self.ask_next(span, import, segment.stream);
                    return Taken::Last;
                }
                self.apply(span, import, commit, floors);
                Taken::Last
            }
            Verdict::Refuse(_) if import.ready || committed.is_some() => {
                // It is asked again, at its time.
                Taken::Used
            }
            Verdict::Refuse(reason) => {
                self.tell_failed(span, import, &format!("refused by its source: {reason}"));
                self.erase(span.clone(), Then::None);
                Taken::Last
            }
        }
    }

    fn advance(&mut self, span: &KeySpan, change: impl FnOnce(&mut Import)) {
        if let Some(Role::Import(it)) = self.role_mut(&span.start) {
            change(it);
            it.receiver.advance();
        }
    }

    /// Takes in what an entry of a stream did to the store.
    pub(super) fn put_staged(&mut self, start: &Key, entry: &Entry, outcome: Outcome) {
        let Outcome::Changed { replaced } = outcome else { return };
        if let Some(Role::Import(it)) = self.role_mut(start) {
            it.receiver.changed(entry, replaced.as_ref());
        }
    }

    /// What came of lower streams goes, but for what is aside.
    fn begin_stream(&mut self, span: &KeySpan, import: &Import, stream: u32) {
        let import = Import { receiver: Receiver::new(stream), bytes: 0, ..import.clone() };
        let role = Role::Erasing(Erasing { after: None, then: Then::NextStream(import) });
        self.hold(Held { span: span.clone(), role });
    }

    /// Asks for a stream that is higher than any that was seen (R8).
    fn ask_next(&mut self, span: &KeySpan, import: &Import, seen: u32) {
        let stream = import.receiver.stream.max(seen).saturating_add(1);
        self.begin_stream(span, import, stream);
        self.ack(span);
    }

    /// What the source had is here, and it will have no more (R12).
    fn apply(&mut self, span: &KeySpan, import: &Import, commit: Generation, floors: Floors) {
        let range = self.map.map().range(span).expect("it is committed by the map");
        let epoch = range.epoch;
        let size = Size { entries: import.receiver.sums.count, bytes: import.bytes };
        let from = Origin::Node(import.clone());
        let applying = Applying { epoch, commit, floors, after: None, from, size };
        self.hold(Held { span: span.clone(), role: Role::Applying(applying) });
    }
}
