//! Holds one migration in flight, and writes its records.

use schemas::migrate_range::{Command, MigrateRange};
use schemas::migration_status::{MigrationStatus, Status};
use schemas::{Epoch, Generation, KeySpan, MigrationId, Millis, NodeId};
use serde::{Deserialize, Serialize};

use super::{Action, Outcome, PLANNER};
use crate::assignment::draft::Owner;
use crate::migration::machine::{self, Migration, Step};
use crate::migration::rebuild::{self, Rebuild};

/// One migration in flight, and all that its records say.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Flight {
    pub span: KeySpan,
    /// `None`: from the source table.
    pub source: Option<Owner>,
    pub source_epoch: Epoch,
    pub destination: Owner,
    pub bytes: u64,
    pub bandwidth_bytes_per_s: u64,
    pub deadline: Millis,
    pub plan: Option<String>,
    pub(super) life: Life,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Life {
    Move(Migration),
    Rebuild(Rebuild),
}

impl Flight {
    /// Tells whether it will leave the range where it is.
    pub fn is_given_up(&self) -> bool {
        matches!(self.state(), Some(machine::State::Cancelling | machine::State::Failed))
    }

    /// The state of a move; `None` for a rebuild.
    pub fn state(&self) -> Option<machine::State> {
        match &self.life {
            Life::Move(machine) => Some(machine.state()),
            Life::Rebuild(_) => None,
        }
    }

    /// Tells whether it has ended, and is still to be forgotten.
    pub fn is_over(&self) -> bool {
        self.outcome().is_some()
    }

    pub(super) fn outcome(&self) -> Option<Outcome> {
        match &self.life {
            Life::Move(machine) => match machine.state() {
                machine::State::Complete => Some(Outcome::Complete),
                machine::State::Failed => Some(Outcome::Failed),
                machine::State::Proposed
                | machine::State::Copying
                | machine::State::Committing
                | machine::State::HandingOver
                | machine::State::Draining
                | machine::State::Cancelling => None,
            },
            Life::Rebuild(machine) => {
                (machine.state() == rebuild::State::Complete).then_some(Outcome::Complete)
            }
        }
    }

    pub(super) fn action(&self, id: MigrationId, step: Step, generation: Generation) -> Action {
        match step {
            Step::Start => Action::Start {
                start: self.command(id, Command::Start, generation, None),
                pending: self.status(id, Status::Pending, None),
            },
            Step::Commit => Action::Commit {
                span: self.span.clone(),
                owner: self.destination.clone(),
                migration: id,
            },
            Step::Cancel => {
                let reason = "not ready by its deadline";
                Action::Cancel {
                    cancel: self.command(id, Command::Cancel, generation, Some(reason)),
                }
            }
            Step::Fail => {
                let reason = "cancelled, and its destination is silent";
                Action::Fail { failed: self.status(id, Status::Failed, Some(reason)) }
            }
        }
    }

    fn command(
        &self,
        migration: MigrationId,
        command: Command,
        generation: Generation,
        reason: Option<&str>,
    ) -> MigrateRange {
        let source = self.source.as_ref().expect("only moves have commands");
        MigrateRange {
            command,
            migration,
            range_start: self.span.start.clone(),
            range_end: self.span.end.clone(),
            source_node: source.node.clone(),
            source_epoch: self.source_epoch,
            source_inbox: source.inbox,
            destination_node: self.destination.node.clone(),
            destination_inbox: self.destination.inbox,
            generation,
            bandwidth_bytes_per_s: self.bandwidth_bytes_per_s,
            deadline: self.deadline,
            plan: self.plan.clone(),
            reason: reason.map(Into::into),
        }
    }

    pub(super) fn status(
        &self,
        id: MigrationId,
        status: Status,
        reason: Option<&str>,
    ) -> MigrationStatus {
        // A rebuild begins at its commit: what is told is the epoch that the destination has.
        let committed = self.source.is_none();
        MigrationStatus {
            migration: id,
            range_start: self.span.start.clone(),
            range_end: self.span.end.clone(),
            teller: NodeId(PLANNER.into()),
            status,
            phase: None,
            reason: reason.map(Into::into),
            epoch: Epoch(self.source_epoch.0 + u64::from(committed)),
            attempt: 0,
            bytes: self.bytes,
            digest: None,
            partitions_left: Vec::new(),
        }
    }
}
