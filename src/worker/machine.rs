//! Decides what a worker stores, serves, sends and says, step by step.
//!
//! ```text
//!  what an interval is to this node
//!
//!            START                 erased              HANDOVER, own commit        aside applied
//!  (none) ─────────> Erasing(i) ──────────> Import ──────────────────────> Applying ──────────┐
//!    ^  ^               ^   a higher stream   │ │ CANCEL, FAILED             ^                v
//!    │  │               └─────────────────────┘ │                            │              Active ─┐
//!    │  └── erased ── Erasing ──────────────────┘         scanned, watermarks│                │ ^   │ split,
//!    │                   ^                                                   │                │ └───┘ join
//!    │    TABLE assignment                 erased                            │                │
//!    ├───────────────────────> Erasing(r) ──────────> Rebuild ───────────────┘                │
//!    │                                                              commit to another         │
//!    └── erased ── Erasing <── COMPLETE, newer epoch ── Leaving <─────────────────────────────┘
//!
//!  a step
//!            records, cursors         Staged                   Committed
//!  Resting ───────────────────> Staging ──────> Committing ──────────────> Resting
//!               Stage                  Send, Commit         Sync, Send, Publish
//! ```
//!
//! * **A step is all or nothing (R3)**: what records do, and where to read on, is stored at once, behind
//!   what it sends. What others rely on is said only once it is on disk, and again after a restart.
//! * **One map (R2, R4)**: what carries a generation waits until the roles are by it. A record that waits
//!   holds its own partition only.
//! * **As it was (R3).** After a start `index_update` is applied by the roles of before, to the end that
//!   it has or to what waits, before a newer map takes effect or a read is served: so what was read here
//!   once is not missing from what is handed over, or read, later.
//! * **Nothing is invented.** What the map says of this node and what it has no part in is counted, has no
//!   role, and updates of it wait.
//!
//! ```text
//!  what happens                     from                to                        in
//!  START                            what is there       Erasing(i)                import::start
//!  erased                           Erasing             what is then, or (none)   drain::erased
//!  a higher stream, or a gap        Import              Erasing(i)                import::begin_stream
//!  CANCEL                           Import, Erasing(i)  Erasing                   import::cancel
//!  FAILED: sums differ, REFUSE      Import              Erasing                   import::received
//!  the source has another epoch     Import, Erasing(i)  Erasing                   roles::lose, import::give_up
//!  HANDOVER, own commit             Import              Applying                  import::apply
//!  TABLE assignment                 what is there       Erasing(r)                roles::gain
//!  a scan that takes too long       Rebuild             Erasing(r)                rebuild::end_slow_scans
//!  scanned, watermarks              Rebuild             Applying                  rebuild::apply_scan
//!  aside applied                    Applying            Active                    drain::activate
//!  split, join                      Active              Active                    roles::relabelled
//!  commit to another, from here     Active              Leaving                   roles::lose
//!  newer epoch of another else      all but Import      Erasing                   roles::lose
//!  COMPLETE, and its grace          Leaving             Erasing                   outgoing::end_graces
//! ```

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use schemas::range_segment::Entry;
use schemas::{Epoch, Generation, Key, KeySpan, MigrationId, Millis};

use super::events::{Action, Event, Ignored, Output, Record, Settings, Source};
use super::queue::Queue;
use super::queues::Queued;
use super::rebuild::Scanned;
use super::serving::View;
use super::states::{Held, Name, Remembered, Role, Size, Unreadable};
use super::words::Asked;
use crate::assignment::whole::WholeMap;
use crate::store::{EntryKey, Outcome, Scan, States, Write};
use crate::transfer::segment::StreamId;
use crate::transfer::sender::Sender;

/// One worker.
#[derive(Clone, Debug)]
pub struct Worker {
    pub(super) settings: Settings,
    pub(super) now: Millis,
    pub(super) remembered: Remembered,
    /// The pieces that the step has changed.
    pub(super) changed: BTreeSet<Name>,
    pub(super) map: WholeMap,
    /// How often the map was to be read to its end, and was.
    pub(super) map_asked: u64,
    pub(super) map_reached: u64,
    start: Start,
    pub(super) queues: BTreeMap<Source, Queue<Queued>>,
    pub(super) rows: Queue<Scanned>,
    /// Scans that run, and where they stand at an end.
    pub(super) scanning: BTreeSet<Scan>,
    pub(super) at_end: BTreeMap<(Scan, u32), u64>,
    pub(super) asked: BTreeMap<MigrationId, Asked>,
    /// When it was last said how much has come.
    pub(super) copied_told: BTreeMap<MigrationId, Millis>,
    pub(super) senders: BTreeMap<MigrationId, Sender>,
    pub(super) eased_permille: u16,
    pub(super) collected: super::updates::Collected,
    phase: Phase,
    pub(super) step: Step,
    actions: VecDeque<Action>,
    view: Option<Arc<View>>,
    ignored: BTreeMap<Ignored, u64>,
}

/// What is read again after a start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Start {
    Reading { updates_reached: bool },
    Over,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Resting,
    Staging,
    Committing,
}

/// What a step does.
#[derive(Clone, Debug, Default)]
pub(super) struct Step {
    pub(super) writes: Vec<Write>,
    /// For each write, on whose behalf.
    pub(super) origins: Vec<Of>,
    is_staged: bool,
    pub(super) sends: Vec<Output>,
    pub(super) promises: Vec<Output>,
    /// Streams that begin with what this step leaves.
    pub(super) opened: Vec<Sender>,
    pub(super) released: Vec<StreamId>,
    /// Behind the commit.
    pub(super) then: Vec<Action>,
    pub(super) sync: bool,
    /// What is served may be another.
    pub(super) view: bool,
}

/// On whose behalf something is written; intervals are named by their starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Of {
    /// What it counts, if it is live; its key, if its range is being counted; and itself, if it is sent on in
    /// a stream.
    Update {
        start: Key,
        bytes: Option<u64>,
        counted: Option<EntryKey>,
        sent: Option<Entry>,
    },
    Aside,
    Segment(Key, Entry),
    Erase(Key),
    Apply(Key),
    Row,
    EndScan(Scan),
    Collect,
}

impl Worker {
    /// Begins with what was stored.
    pub fn new(settings: Settings, states: &States) -> Result<Self, Unreadable> {
        assert!(
            settings.records_max > 0 && settings.step_bytes_max > 0 && settings.cursor_max > 0,
            "a step gets on"
        );
        Ok(Self {
            settings,
            now: Millis(0),
            remembered: Remembered::read(states)?,
            changed: BTreeSet::new(),
            map: WholeMap::default(),
            map_asked: 1,
            map_reached: 0,
            start: Start::Reading { updates_reached: false },
            queues: BTreeMap::new(),
            rows: Queue::default(),
            scanning: BTreeSet::new(),
            at_end: BTreeMap::new(),
            asked: BTreeMap::new(),
            copied_told: BTreeMap::new(),
            senders: BTreeMap::new(),
            eased_permille: 1_000,
            collected: super::updates::Collected::default(),
            phase: Phase::Resting,
            step: Step::default(),
            actions: VecDeque::new(),
            view: None,
            ignored: BTreeMap::new(),
        })
    }

    /// Takes in what happened. In the middle of a step that is nothing but what the step waits for, or that
    /// time has passed.
    pub fn handle(&mut self, now: Millis, event: Event) {
        let is_of_step = match &event {
            Event::Staged(_)
            | Event::Committed
            | Event::Paged { .. }
            | Event::Eased { .. }
            | Event::Tick => true,
            Event::Begun { .. }
            | Event::MapRead(_)
            | Event::MapReached
            | Event::UpdatesReached
            | Event::Record { .. }
            | Event::Skipped { .. }
            | Event::RowScanned { .. }
            | Event::EndScanned { .. } => false,
        };
        assert!(is_of_step || self.phase == Phase::Resting, "a step goes by what was there");
        self.now = now;
        match event {
            Event::Begun { positions } => {
                for (source, offset) in positions {
                    self.remembered.positions.insert(source, offset);
                    self.changed.insert(Name::Position(source));
                }
                self.step.sync = true;
            }
            Event::MapRead(row) => {
                let refused = self.map.read(row).refused.len();
                (0..refused).for_each(|_| self.ignore(Ignored::RefusedRow));
            }
            Event::MapReached => self.map_reached += 1,
            Event::UpdatesReached => {
                if let Start::Reading { updates_reached } = &mut self.start {
                    *updates_reached = true;
                }
            }
            Event::Record { source, offset, record } => self.queue(source, offset, Some(record)),
            Event::Skipped { source, offset } => self.queue(source, offset, None),
            Event::RowScanned { scan, partition, offset, primary_key, entries } => {
                self.rows.push_back(Scanned::Row { scan, partition, offset, primary_key, entries });
            }
            Event::EndScanned { scan, partition, position } => {
                self.rows.push_back(Scanned::End { scan, partition, position });
            }
            Event::Staged(outcomes) => {
                assert_eq!(self.phase, Phase::Staging, "nothing else is staged");
                self.staged(outcomes);
            }
            Event::Committed => {
                assert_eq!(self.phase, Phase::Committing, "nothing else is committed");
                self.committed();
            }
            Event::Paged { stream, page } => self.paged(stream, page),
            Event::Eased { permille } => self.eased_permille = permille,
            Event::Tick => (),
        }
    }

    /// Returns what is to be done next. Between two events all of it is.
    pub fn poll_action(&mut self) -> Option<Action> {
        if self.actions.is_empty() && self.phase == Phase::Resting {
            self.begin();
        }
        self.actions.pop_front()
    }

    /// Tells whether a step has begun and is not over.
    pub fn is_stepping(&self) -> bool {
        !self.actions.is_empty() || self.phase != Phase::Resting
    }

    /// Returns when [`Event::Tick`] is wanted.
    pub fn poll_deadline(&self) -> Option<Millis> {
        if self.start != Start::Over {
            return None;
        }
        let deadlines = [
            self.asks_due(),
            self.streams_due(),
            self.graces_due(),
            self.collect_due(),
            self.scans_due(),
        ];
        deadlines.into_iter().flatten().min()
    }

    /// Returns where to go on reading a partition; `None` in a new store.
    pub fn position(&self, source: Source) -> Option<u64> {
        self.remembered.positions.get(&source).copied()
    }

    /// Returns what is active here, and how much it is, about.
    pub fn active(&self) -> impl Iterator<Item = (&KeySpan, Epoch, Size)> {
        let roles = self.remembered.roles.values();
        roles.filter_map(|it| it.role.active().map(|active| (&it.span, active.epoch, active.size)))
    }

    /// Returns what is remembered.
    pub fn remembered(&self) -> &Remembered {
        &self.remembered
    }

    /// Returns the generation that the roles are by.
    pub fn generation(&self) -> Generation {
        self.remembered.generation
    }

    /// Tells whether what was there at the start is read, so that reads can be served.
    pub fn is_started(&self) -> bool {
        self.start == Start::Over
    }

    /// How many records were not used, by reason, since the start.
    pub fn ignored(&self) -> &BTreeMap<Ignored, u64> {
        &self.ignored
    }

    pub(super) fn ignore(&mut self, reason: Ignored) {
        *self.ignored.entry(reason).or_default() += 1;
    }

    pub(super) fn write(&mut self, of: Of, write: Write) {
        self.step.writes.push(write);
        self.step.origins.push(of);
    }

    /// Says what an interval is from now on.
    pub(super) fn hold(&mut self, held: Held) {
        self.changed.insert(Name::Role(held.span.start.clone()));
        self.remembered.roles.insert(held.span.start.clone(), held);
        self.step.view = true;
    }

    pub(super) fn let_go(&mut self, start: &Key) -> Option<Held> {
        self.changed.insert(Name::Role(start.clone()));
        self.step.view = true;
        self.remembered.roles.remove(start)
    }

    /// Returns a role to be changed within its kind.
    pub(super) fn role_mut(&mut self, start: &Key) -> Option<&mut Role> {
        self.changed.insert(Name::Role(start.clone()));
        self.remembered.roles.get_mut(start).map(|it| &mut it.role)
    }

    fn begin(&mut self) {
        if self.map_reached > 0 {
            self.end_start();
            if self.start == Start::Over && self.remembered.generation < self.map.generation() {
                self.follow_map();
            } else {
                self.go_on();
                self.take();
                self.tell_due();
            }
        }
        if self.step.writes.is_empty() {
            self.send();
        } else {
            self.phase = Phase::Staging;
            self.step.is_staged = true;
            self.actions.push_back(Action::Stage(std::mem::take(&mut self.step.writes)));
        }
    }

    /// Ends the start, if all of it is read.
    fn end_start(&mut self) {
        let Start::Reading { updates_reached } = self.start else { return };
        let generation = self.remembered.generation;
        let next = self.queues.get(&Source::Update).and_then(|it| it.front()?.record.as_ref());
        let waits = |record: &Record| match record {
            Record::Update(update) => generation < update.generation,
            Record::Status(_) | Record::Command(_) | Record::Ack(_) | Record::Segment(_) => false,
        };
        let is_empty = self.queues.get(&Source::Update).is_none_or(|it| it.is_empty());
        if updates_reached && is_empty || next.is_some_and(waits) {
            self.start = Start::Over;
            self.step.view = true;
            self.tell_again();
        }
    }

    /// Goes on with what goes on by cursors.
    fn go_on(&mut self) {
        self.go_on_with_roles();
        self.go_on_with_scans();
        if self.start == Start::Over {
            self.collect();
        }
    }

    fn staged(&mut self, outcomes: Vec<Outcome>) {
        let origins = std::mem::take(&mut self.step.origins);
        assert_eq!(origins.len(), outcomes.len(), "each write has an outcome");
        for (of, outcome) in origins.into_iter().zip(outcomes) {
            match of {
                Of::Update { start, bytes, counted, sent } => {
                    self.put(&start, bytes, counted.as_ref(), sent.as_ref(), outcome);
                }
                Of::Segment(start, entry) => self.put_staged(&start, &entry, outcome),
                Of::Erase(start) => self.erased(&start, outcome),
                Of::Apply(start) => self.applied(&start, outcome),
                Of::Row => self.row_put(outcome),
                Of::EndScan(scan) => self.scan_forgotten(scan, outcome),
                Of::Collect => self.collected(outcome),
                Of::Aside => (),
            }
        }
        self.send();
    }

    /// Sends what is to be sent before the step is stored, and has it stored.
    fn send(&mut self) {
        // A handover that came out before the commit is on disk could miss what is applied after a crash.
        if !self.step.sync {
            self.pump();
        }
        let sends = std::mem::take(&mut self.step.sends);
        self.actions.extend(sends.into_iter().map(Action::Send));
        if self.changed.is_empty() && !self.step.is_staged {
            self.say();
            return;
        }
        let changed = std::mem::take(&mut self.changed);
        let states = changed.iter().map(|it| self.remembered.state(it)).collect();
        self.actions.push_back(Action::Commit(states));
        self.phase = Phase::Committing;
    }

    fn committed(&mut self) {
        self.phase = Phase::Resting;
        self.say();
    }

    /// Says what rests on what is stored.
    fn say(&mut self) {
        self.phase = Phase::Resting;
        let mut step = std::mem::take(&mut self.step);
        let released = step.released.drain(..).map(Action::Release);
        self.actions.extend(released);
        for sender in step.opened.drain(..) {
            self.actions.push_back(Action::Snapshot(sender.stream()));
            self.open(sender, &mut step.promises);
        }
        if step.sync || !step.promises.is_empty() {
            self.actions.push_back(Action::Sync);
        }
        self.actions.extend(step.promises.drain(..).map(Action::Send));
        if step.view && self.start == Start::Over {
            let view = self.serves();
            if self.view.as_deref() != Some(&view) {
                let view = Arc::new(view);
                self.view = Some(view.clone());
                self.actions.push_back(Action::Publish(view));
            }
        }
        self.actions.extend(step.then);
    }
}

#[cfg(test)]
mod tests;
