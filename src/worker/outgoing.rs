//! Decides for an interval as its source: streams on request, the handover behind the commit, the end.
//!
//! ```text
//!               a higher stream is asked for          commit
//!  Active ────> number stored, synced ──> OPEN … END ────────> Leaving: OPEN …, HANDOVER
//!     ^ │                 ^                 │ too much waits        │ COMPLETE
//!     │ └─────────────────┴─────────────────┘                       └── grace ──> Erasing
//!     └── CANCEL, FAILED: the stream is closed
//! ```
//!
//! * **A number has one snapshot (R8)**: it is on disk before the first segment goes out, and after a
//!   start the next one is opened, unless all was handed over.
//! * **Frozen (R10).** From the step in which the commit is read nothing is applied to the range, and what
//!   is said as leaving is behind a sync.

use schemas::migrate_range::{Command, MigrateRange};
use schemas::migration_status::{MigrationStatus, Status};
use schemas::range_segment::{Entry, RangeSegment};
use schemas::segment_ack::SegmentAck;
use schemas::{KeySpan, MigrationId, Millis};

use super::events::{Action, Ignored, Output};
use super::machine::Worker;
use super::queues::Taken;
use super::states::{Held, Leaving, Name, Outgoing, Role, Then};
use crate::store::{Limit, Page};
use crate::transfer::digest::Floors;
use crate::transfer::segment::{Content, ENTRY_BYTES, SEGMENT_BYTES_MAX, StreamId, seal};
use crate::transfer::sender::{Next, Sender};

impl Worker {
    /// Remembers whom a move from here goes to, until it ends.
    pub(super) fn take_command_as_source(&mut self, command: &MigrateRange) -> Taken {
        if command.source_node != self.settings.node {
            return Taken::Used;
        }
        match command.command {
            Command::Start => {
                let outgoing = Outgoing {
                    span: span_of(command),
                    source_epoch: command.source_epoch,
                    to: command.destination_node.clone(),
                    to_inbox: command.destination_inbox,
                    bandwidth_bytes_per_s: command.bandwidth_bytes_per_s,
                    stream: 0,
                    backlogs: 0,
                };
                self.changed.insert(Name::Outgoing(command.migration));
                self.remembered.outgoing.insert(command.migration, outgoing);
                Taken::Used
            }
            Command::Cancel => {
                let migration = command.migration;
                match self.starts(|role| role.is_leaving_by(migration)).is_empty() {
                    true => self.forget(migration),
                    // After the commit there is no CANCEL.
                    false => self.ignore(Ignored::UnknownMigration),
                }
                Taken::Used
            }
            Command::Unknown => {
                self.ignore(Ignored::UnknownCommand);
                Taken::Used
            }
        }
    }

    pub(super) fn take_status(&mut self, status: &MigrationStatus) -> Taken {
        let migration = status.migration;
        let is_complete = match status.status {
            Status::Complete => true,
            Status::Failed => false,
            Status::Pending | Status::InProgress | Status::Unknown => return Taken::Used,
        };
        let is_own =
            |it: &MigrationStatus| it.status == status.status && it.teller == status.teller;
        if self.remembered.words.get(&migration).is_some_and(is_own) {
            self.forget_word(migration);
        }
        let starts = self.starts(|role| role.is_leaving_by(migration));
        if is_complete || starts.is_empty() {
            self.forget(migration);
        }
        let now = self.now;
        for start in starts {
            if let (true, Some(Role::Leaving(it))) = (is_complete, self.role_mut(&start)) {
                it.ended.get_or_insert(now);
            }
        }
        Taken::Used
    }

    pub(super) fn take_ack(&mut self, ack: &SegmentAck) -> Taken {
        if self.remembered.generation < ack.generation {
            return Taken::WaitsFor(ack.generation);
        }
        let migration = ack.migration;
        let Some(outgoing) = self.remembered.outgoing.get(&migration) else {
            // Decided; or its START is not read yet, and who asks asks again.
            self.ignore(Ignored::UnknownMigration);
            return Taken::Used;
        };
        if outgoing.stream < ack.stream {
            return self.take_request(&outgoing.clone(), ack);
        }
        let stream = StreamId { migration, number: ack.stream };
        match self.senders.get_mut(&migration).filter(|it| it.stream() == stream) {
            Some(_) if ack.done => self.release(migration),
            Some(sender) => sender.granted(ack.next_seq, ack.credit_bytes),
            None => (),
        }
        Taken::Used
    }

    fn take_request(&mut self, outgoing: &Outgoing, ack: &SegmentAck) -> Taken {
        let Outgoing { span, source_epoch, to, to_inbox, .. } = outgoing;
        let held = self.remembered.roles.get(&span.start).filter(|it| it.span == *span);
        let can_serve = match held.map(|it| &it.role) {
            Some(Role::Active(it)) => it.epoch == *source_epoch,
            Some(Role::Leaving(it)) => it.migration == ack.migration,
            Some(Role::Applying(_) | Role::Erasing(_) | Role::Import(_) | Role::Rebuild(_))
            | None => false,
        };
        if can_serve {
            self.open_stream(ack.migration, ack.stream, ack.credit_bytes);
            return Taken::Last;
        }
        let range = self.map.map().range(span);
        if range.is_some_and(|it| it.node == self.settings.node && it.epoch == *source_epoch) {
            let stream = StreamId { migration: ack.migration, number: ack.stream };
            let segment = seal(stream, 0, Content::Refuse("not whole at its source".to_owned()));
            let (node, inbox) = (to.clone(), *to_inbox);
            self.step.sends.push(Output::Segment { node, inbox, segment });
        } else {
            self.ignore(Ignored::UnknownMigration);
        }
        Taken::Used
    }

    /// Begins a stream behind this step: its number is stored with it, its snapshot is what it leaves.
    fn open_stream(&mut self, migration: MigrationId, number: u32, credit_bytes: u64) {
        self.release(migration);
        let Some(outgoing) = self.remembered.outgoing.get_mut(&migration) else { return };
        outgoing.stream = number;
        self.changed.insert(Name::Outgoing(migration));
        let Outgoing { span, bandwidth_bytes_per_s, .. } = outgoing.clone();
        let Some(held) = self.remembered.roles.get(&span.start) else { return };
        let stream = StreamId { migration, number };
        let new = |floors| Sender::new(stream, floors, credit_bytes, bandwidth_bytes_per_s);
        let sender = match &held.role {
            Role::Active(it) => new(self.floors(it)),
            Role::Leaving(it) => {
                let mut sender = new(it.floors.clone());
                sender.freeze(it.floors.clone(), it.commit);
                sender
            }
            Role::Applying(_) | Role::Erasing(_) | Role::Import(_) | Role::Rebuild(_) => return,
        };
        self.step.opened.push(sender);
    }

    /// After a start: what was being sent is sent anew, in the next stream (R8).
    pub(super) fn reopen_streams(&mut self) {
        for (migration, outgoing) in self.remembered.outgoing.clone() {
            let held = self.remembered.roles.get(&outgoing.span.start);
            let is_due = match held.map(|it| &it.role) {
                Some(Role::Active(it)) => it.epoch == outgoing.source_epoch,
                Some(Role::Leaving(it)) => it.migration == migration && !it.handed,
                Some(Role::Applying(_) | Role::Erasing(_) | Role::Import(_) | Role::Rebuild(_))
                | None => false,
            };
            if is_due && outgoing.stream > 0 {
                self.open_stream(migration, outgoing.stream + 1, SEGMENT_BYTES_MAX as u64);
            }
        }
    }

    /// Another owns the range from now on (R10).
    pub(super) fn leave(&mut self, span: KeySpan, leaving: Leaving) {
        let Leaving { migration, commit, .. } = leaving;
        let floors = leaving.floors.clone();
        self.hold(Held { span, role: Role::Leaving(leaving) });
        if let Some(sender) = self.senders.get_mut(&migration) {
            sender.freeze(floors, commit);
        } else if let Some(outgoing) = self.remembered.outgoing.get(&migration) {
            let number = outgoing.stream + 1;
            self.open_stream(migration, number, SEGMENT_BYTES_MAX as u64);
        }
    }

    /// The step is stored: the stream begins.
    pub(super) fn open(&mut self, mut sender: Sender, promises: &mut Vec<Output>) {
        let migration = sender.stream().migration;
        if let Some(Next::Segment(segment)) = sender.poll(self.now) {
            promises.extend(self.addressed(migration, segment));
        }
        self.senders.insert(migration, sender);
    }

    fn addressed(&self, migration: MigrationId, segment: RangeSegment) -> Option<Output> {
        let Outgoing { to, to_inbox, .. } = self.remembered.outgoing.get(&migration)?;
        Some(Output::Segment { node: to.clone(), inbox: *to_inbox, segment })
    }

    /// Takes in what an update has changed of what is being sent (R9).
    pub(super) fn stream_change(&mut self, span: &KeySpan, entry: &Entry, was: Option<&Entry>) {
        let Some(migration) = self.sent(span) else { return };
        if let Some(sender) = self.senders.get_mut(&migration) {
            sender.changed(entry, was);
        }
    }

    /// Returns the floors of the stream that is open for an interval.
    pub(super) fn stream_floors(&self, span: &KeySpan) -> Option<Floors> {
        Some(self.senders[&self.sent(span)?].floors().clone())
    }

    /// Returns the migration that an interval is being sent for.
    pub(super) fn sent(&self, span: &KeySpan) -> Option<MigrationId> {
        let outgoing = &self.remembered.outgoing;
        let is_of = |it: &&MigrationId| outgoing.get(it).is_some_and(|it| it.span == *span);
        self.senders.keys().find(is_of).copied()
    }

    /// Sends of all streams what can be sent.
    pub(super) fn pump(&mut self) {
        for migration in self.senders.keys().copied().collect::<Vec<_>>() {
            self.bound_backlog(migration);
            let eased_permille = self.eased_permille;
            if let Some(sender) = self.senders.get_mut(&migration) {
                sender.ease(eased_permille);
            }
            while let Some(sender) = self.senders.get_mut(&migration)
                && let Some(next) = sender.poll(self.now)
            {
                let stream = sender.stream();
                match next {
                    Next::Segment(segment) => {
                        let sent = self.addressed(migration, segment);
                        self.step.sends.extend(sent);
                    }
                    Next::Scan { after, bytes } => {
                        let span = self.remembered.outgoing[&migration].span.clone();
                        let limit = Limit { entries: bytes / ENTRY_BYTES + 1, bytes };
                        self.step.then.push(Action::Page { stream, span, after, limit });
                    }
                }
            }
            if self.senders.get(&migration).is_some_and(Sender::is_handed) {
                self.handed(migration);
            }
        }
    }

    pub(super) fn paged(&mut self, stream: StreamId, page: Page) {
        let now = self.now;
        let sender = self.senders.get_mut(&stream.migration);
        let Some(sender) = sender.filter(|it| it.stream() == stream) else { return };
        for segment in sender.scanned(now, page) {
            let sent = self.addressed(stream.migration, segment);
            self.step.sends.extend(sent);
        }
    }

    fn handed(&mut self, migration: MigrationId) {
        for start in self.starts(|role| role.is_leaving_by(migration)) {
            if let Some(Role::Leaving(it)) = self.role_mut(&start) {
                it.handed = true;
            }
        }
        self.release(migration);
    }

    /// A stream of which too much waits is given up: the next one begins with all of it.
    fn bound_backlog(&mut self, migration: MigrationId) {
        let Some(sender) = self.senders.get(&migration) else { return };
        if sender.waiting_bytes() <= self.settings.backlog_bytes_max || sender.is_frozen() {
            return;
        }
        let stream = sender.stream();
        let Some(outgoing) = self.remembered.outgoing.get_mut(&migration) else { return };
        outgoing.backlogs += 1;
        self.changed.insert(Name::Outgoing(migration));
        if outgoing.backlogs <= self.settings.backlogs_max {
            self.open_stream(migration, stream.number + 1, SEGMENT_BYTES_MAX as u64);
            return;
        }
        let refusal = seal(stream, u64::from(u32::MAX), Content::Refuse("backlog".to_owned()));
        let refusal = self.addressed(migration, refusal);
        self.step.sends.extend(refusal);
        self.release(migration);
    }

    /// Ends the stream of a migration, if one is open.
    fn release(&mut self, migration: MigrationId) {
        if let Some(sender) = self.senders.remove(&migration) {
            self.step.released.push(sender.stream());
        }
        self.step.opened.retain(|it| it.stream().migration != migration);
    }

    /// Ends all that is known of a migration from here.
    fn forget(&mut self, migration: MigrationId) {
        self.release(migration);
        if self.remembered.outgoing.remove(&migration).is_some() {
            self.changed.insert(Name::Outgoing(migration));
        }
    }

    /// Forgets moves from here of ranges that the map has gone on with; their ends may have been read
    /// before their STARTs.
    pub(super) fn forget_old(&mut self) {
        let is_old = |(migration, it): (&MigrationId, &Outgoing)| {
            let ranges: Vec<_> = self.map.map().overlapping(&it.span).collect();
            let is_past = ranges.iter().any(|range| it.source_epoch < range.epoch);
            let is_this = ranges.iter().any(|range| range.migration == Some(*migration));
            (is_past && !is_this).then_some(*migration)
        };
        let old: Vec<_> = self.remembered.outgoing.iter().filter_map(is_old).collect();
        old.into_iter().for_each(|it| self.forget(it));
    }

    /// Ends all streams of an interval that is not here any more.
    pub(super) fn close_streams(&mut self, span: &KeySpan) {
        let of_it = |it: (&MigrationId, &Outgoing)| it.1.span.overlaps(span).then_some(*it.0);
        let those: Vec<_> = self.remembered.outgoing.iter().filter_map(of_it).collect();
        those.into_iter().for_each(|it| self.forget(it));
    }

    /// Tells whether anything is being copied from here.
    pub fn is_sending(&self) -> bool {
        !self.senders.is_empty()
    }

    /// How much of the bandwidth that may take, in thousandths.
    pub fn eased_permille(&self) -> u16 {
        self.eased_permille
    }

    pub(super) fn streams_due(&self) -> Option<Millis> {
        self.senders.values().filter_map(|it| it.poll_deadline(self.now)).min()
    }

    /// Erases what was moved away and is not asked for any more (R13).
    pub(super) fn end_graces(&mut self) {
        let (now, grace_ms) = (self.now, self.settings.grace_ms);
        let is_over = |role: &Role| role.ended().is_some_and(|it| it.0 + grace_ms <= now.0);
        for start in self.starts(is_over) {
            let span = self.remembered.roles[&start].span.clone();
            self.erase(span, Then::None);
        }
    }

    pub(super) fn graces_due(&self) -> Option<Millis> {
        let ended = self.remembered.roles.values().filter_map(|it| it.role.ended());
        ended.min().map(|it| Millis(it.0 + self.settings.grace_ms))
    }
}

impl Role {
    fn is_leaving_by(&self, migration: MigrationId) -> bool {
        self.leaving().is_some_and(|it| it.migration == migration)
    }
}

fn span_of(command: &MigrateRange) -> KeySpan {
    KeySpan { start: command.range_start.clone(), end: command.range_end.clone() }
}
