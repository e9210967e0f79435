//! Keeps the migrations in flight, by id: what is unsettled, what it weighs, what is to be written.
//!
//! ```text
//!  propose, assign ──> Flight{Move | Rebuild} by id ──> Action: records to write
//!  told, close, written ──>  its machine            ──> Ended: how it came out
//! ```
//!
//! In a tick the driver calls `told` for every status, `close` at its end, then takes all of
//! `poll_action` and all of `poll_ended`, and calls `written` when the transaction has committed. A
//! snapshot is taken after that: what is to be written is not part of it.
//!
//! * **Matching is by id.** A status of an id that was never begun or that has ended changes nothing
//!   and comes back as a reason; so does the word of a node that is not the destination.
//! * **One at a time.** An interval has at most one migration in flight; nothing else may touch it.
//! * **Bounded.** At most `moves_max` moves are in flight. Rebuilds are disjoint ranges.
//! * **Ids are never used again**, across restarts too: the next one is part of the state.

mod flight;
mod adoption;

use std::collections::{BTreeMap, VecDeque};

use schemas::migrate_range::MigrateRange;
use schemas::migration_status::{MigrationStatus, Status};
use schemas::{Epoch, Generation, Key, KeySpan, MigrationId, Millis, NodeId};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::machine::{self, Ignored, Migration, Step, Word};
use super::rebuild::{self, Rebuild};
use crate::assignment::draft::Owner;
use crate::assignment::map::Map;
pub use flight::Flight;
use flight::Life;

/// What the planner is called as a teller of statuses.
pub const PLANNER: &str = "planner";

/// A move that is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proposal {
    pub span: KeySpan,
    pub destination: Owner,
    pub bytes: u64,
    pub bandwidth_bytes_per_s: u64,
    /// Given up if it is not ready by then.
    pub deadline: Millis,
    /// The plan that wants it.
    pub plan: Option<String>,
}

/// All that is in flight.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Migrations {
    flights: BTreeMap<MigrationId, Flight>,
    /// By start; the intervals are disjoint.
    spans: BTreeMap<Key, MigrationId>,
    next: MigrationId,
    moves_max: usize,
    /// How long a destination may take to answer a CANCEL.
    grace_ms: u64,
    /// Taken by the driver, and not yet said to be written.
    #[serde(skip)]
    unwritten: Vec<(MigrationId, Step)>,
    /// Ended, and not yet taken by the driver.
    #[serde(skip)]
    over: VecDeque<MigrationId>,
    #[serde(skip)]
    ignored: BTreeMap<Ignored, u64>,
}

/// What the driver must write in the transaction of the tick.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Both records.
    Start {
        start: MigrateRange,
        pending: MigrationStatus,
    },
    /// A change of the next generation.
    Commit {
        span: KeySpan,
        owner: Owner,
        migration: MigrationId,
    },
    Cancel {
        cancel: MigrateRange,
    },
    Fail {
        failed: MigrationStatus,
    },
}

/// A migration that is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    pub migration: MigrationId,
    pub flight: Flight,
    pub outcome: Outcome,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    Complete,
    Failed,
}

/// Why a migration cannot begin.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Refused {
    #[error("no range has exactly the interval {0}")]
    NotARange(KeySpan),
    #[error("{span} is not settled: {migration} is in flight")]
    Unsettled { span: KeySpan, migration: MigrationId },
    #[error("{span} is on {node} already")]
    AlreadyThere { span: KeySpan, node: NodeId },
    #[error("{0} moves are in flight, and no more are allowed")]
    TooMany(usize),
}

impl Migrations {
    pub fn new(moves_max: usize, grace_ms: u64) -> Self {
        let next = MigrationId(1);
        let (flights, spans) = (BTreeMap::new(), BTreeMap::new());
        let (unwritten, over, ignored) = (Vec::new(), VecDeque::new(), BTreeMap::new());
        Self { flights, spans, next, moves_max, grace_ms, unwritten, over, ignored }
    }

    /// Sets the limits as they are configured now; a snapshot brings those of its time. What is in
    /// flight keeps its own grace.
    pub fn limit(&mut self, moves_max: usize, grace_ms: u64) {
        self.moves_max = moves_max;
        self.grace_ms = grace_ms;
    }

    /// Begins a move of a range that is settled.
    pub fn propose(&mut self, map: &Map, wanted: Proposal) -> Result<MigrationId, Refused> {
        let Proposal { span, destination, .. } = wanted;
        let range = map.range(&span).ok_or_else(|| Refused::NotARange(span.clone()))?;
        if range.node == destination.node {
            return Err(Refused::AlreadyThere { span, node: destination.node });
        }
        if self.moves_max <= self.moves() {
            return Err(Refused::TooMany(self.moves()));
        }
        let life = Migration::new(destination.node.clone(), wanted.deadline, self.grace_ms);
        self.begin(Flight {
            span,
            source: Some(Owner { node: range.node.clone(), inbox: range.inbox }),
            source_epoch: range.epoch,
            destination,
            bytes: wanted.bytes,
            bandwidth_bytes_per_s: wanted.bandwidth_bytes_per_s,
            deadline: wanted.deadline,
            plan: wanted.plan,
            life: Life::Move(life),
        })
    }

    /// Begins a rebuild from the source table. The caller writes the assignment with the id, and the
    /// PENDING that comes back with it, in one transaction.
    pub fn rebuild(
        &mut self,
        span: KeySpan,
        destination: Owner,
        source_epoch: Epoch,
    ) -> Result<(MigrationId, MigrationStatus), Refused> {
        let life = Life::Rebuild(Rebuild::new(destination.node.clone()));
        let migration = self.begin(Flight {
            span,
            source: None,
            source_epoch,
            destination,
            bytes: 0,
            bandwidth_bytes_per_s: 0,
            deadline: Millis(u64::MAX),
            plan: None,
            life,
        })?;
        self.unwritten.push((migration, Step::Start));
        let pending = self.flights[&migration].status(migration, Status::Pending, None);
        Ok((migration, pending))
    }

    /// Takes in a status. What is ignored is counted by its reason.
    pub fn told(&mut self, now: Millis, status: &MigrationStatus) -> Result<(), Ignored> {
        let res = self.hear(now, status);
        if let Err(reason) = res {
            *self.ignored.entry(reason).or_default() += 1;
        }
        res
    }

    /// Takes in that a tick has ended.
    pub fn close(&mut self, now: Millis) {
        for (id, flight) in &mut self.flights {
            let Life::Move(machine) = &mut flight.life else { continue };
            let ended = machine.state().is_end();
            machine.handle(now, machine::Event::Closed).expect("the end of a tick fits always");
            if !ended && machine.state().is_end() {
                self.over.push_back(*id);
            }
        }
    }

    /// Returns the next thing to write. `generation` is the one that readers must have.
    pub fn poll_action(&mut self, generation: Generation) -> Option<Action> {
        for (id, flight) in &mut self.flights {
            let Life::Move(machine) = &mut flight.life else { continue };
            if let Some(step) = machine.poll_step() {
                self.unwritten.push((*id, step));
                return Some(flight.action(*id, step, generation));
            }
        }
        None
    }

    /// Returns the next migration that has ended, and forgets it. To be called after all actions
    /// were taken: the last of them is about the end.
    pub fn poll_ended(&mut self) -> Option<Ended> {
        let migration = self.over.pop_front()?;
        let flight = self.flights.remove(&migration).expect("what ended is forgotten once");
        let outcome = flight.outcome().expect("only what ended is queued");
        self.spans.remove(&flight.span.start);
        Some(Ended { migration, flight, outcome })
    }

    /// Takes in that everything that was taken since the last call is committed.
    pub fn written(&mut self, now: Millis) {
        for (id, step) in std::mem::take(&mut self.unwritten) {
            // A migration that failed has no more use for it.
            let Some(flight) = self.flights.get_mut(&id) else { continue };
            let res = match &mut flight.life {
                Life::Move(machine) => machine.handle(now, machine::Event::Written(step)),
                Life::Rebuild(machine) => machine.handle(rebuild::Event::Written),
            };
            res.expect("what is written fits always");
        }
    }

    /// Returns the migration in flight that has a key in common with an interval.
    pub fn unsettled(&self, span: &KeySpan) -> Option<MigrationId> {
        let before_end = if span.end.0.is_empty() {
            self.spans.values().next_back()
        } else {
            self.spans.range(..&span.end).next_back().map(|(_, id)| id)
        };
        before_end.copied().filter(|id| self.flights[id].span.overlaps(span))
    }

    pub fn get(&self, migration: MigrationId) -> Option<&Flight> {
        self.flights.get(&migration)
    }

    pub fn iter(&self) -> impl Iterator<Item = (MigrationId, &Flight)> {
        self.flights.iter().map(|(id, flight)| (*id, flight))
    }

    /// How many moves are in flight; rebuilds do not count.
    pub fn moves(&self) -> usize {
        self.flights.values().filter(|it| it.source.is_some()).count()
    }

    /// How many moves are in flight to or from each node that has any.
    pub fn moves_by_node(&self) -> BTreeMap<NodeId, u32> {
        let mut res = BTreeMap::new();
        for Flight { source, destination, .. } in self.flights.values() {
            let Some(source) = source else { continue };
            for owner in [source, destination] {
                *res.entry(owner.node.clone()).or_default() += 1;
            }
        }
        res
    }

    /// Bytes of all moves in flight.
    pub fn bytes_in_flight(&self) -> u64 {
        self.flights.values().map(|it| it.bytes).fold(0, u64::saturating_add)
    }

    /// Returns by which end of a tick something happens by itself.
    pub fn poll_deadline(&self) -> Option<Millis> {
        let deadline = |flight: &Flight| match &flight.life {
            Life::Move(machine) => machine.poll_deadline(),
            Life::Rebuild(_) => None,
        };
        self.flights.values().filter_map(deadline).min()
    }

    /// How many statuses were ignored, by reason, since this process began.
    pub fn ignored(&self) -> &BTreeMap<Ignored, u64> {
        &self.ignored
    }

    fn begin(&mut self, flight: Flight) -> Result<MigrationId, Refused> {
        if let Some(migration) = self.unsettled(&flight.span) {
            return Err(Refused::Unsettled { span: flight.span, migration });
        }
        let id = self.next;
        self.next = MigrationId(id.0 + 1);
        self.spans.insert(flight.span.start.clone(), id);
        self.flights.insert(id, flight);
        Ok(id)
    }

    fn hear(&mut self, now: Millis, status: &MigrationStatus) -> Result<(), Ignored> {
        if status.teller.0 == PLANNER {
            return Err(Ignored::OwnWord);
        }
        let Some(flight) = self.flights.get_mut(&status.migration) else {
            let begun = status.migration < self.next;
            return Err(if begun { Ignored::Decided } else { Ignored::UnknownMigration });
        };
        let (teller, word) = (&status.teller, Word::of(status)?);
        let ended = flight.outcome().is_some();
        match &mut flight.life {
            Life::Move(machine) => machine.handle(now, machine::Event::Told { teller, word })?,
            Life::Rebuild(machine) => machine.handle(rebuild::Event::Told { teller, word })?,
        }
        if !ended && flight.outcome().is_some() {
            self.over.push_back(status.migration);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
