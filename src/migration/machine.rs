//! Decides the life of one migration: when to start it, when to commit it, when to give it up.
//!
//! ```text
//!            Written(Start)       Ready             Written(Commit)             Active
//!  Proposed ───────────────> Copying ───> Committing ─────────────> HandingOver ──────> Draining
//!                             │   │ deadline                             │ Complete        │ Complete
//!                      Failed │   v                                      └───> Complete <──┘
//!                             │ Cancelling
//!                             v   │ Failed, or silence: then the planner says it itself
//!                          Failed <
//! ```
//!
//! The driver feeds [`Migration::handle`], writes every [`Migration::poll_step`] in the transaction of
//! the tick, and says that it is written when that has committed. Time is that of records and of the
//! ends of ticks, so a machine rebuilt from topics decides what it decided before.
//!
//! * **One end.** A migration is complete or failed, and stays so: the first end counts.
//! * **Commit or CANCEL.** At most one of the two is emitted, at most once. After a commit there is
//!   no CANCEL.
//! * **The destination's word.** Only the destination moves a migration on; what another node says,
//!   or what does not fit the state, changes nothing and comes back as a reason.
//! * **START once**, before all else.

use std::collections::VecDeque;

use schemas::migration_status::{MigrationStatus, Phase, Status};
use schemas::{Millis, NodeId};
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// What the driver has learned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// The record of this step is committed.
    Written(Step),
    /// A node says how far it is.
    Told { teller: &'a NodeId, word: Word },
    /// A tick has ended.
    Closed,
}

/// What a status says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Word {
    /// The destination has accepted and copies.
    Copying,
    /// All is copied and verified.
    Ready,
    /// The destination serves the range.
    Active,
    Complete,
    Failed,
}

/// What the driver must write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// START to the destination and PENDING, together.
    Start,
    /// The assignment that makes the destination the owner; the only record that moves the range.
    Commit,
    /// CANCEL: both sides forget the migration, and the source keeps the range.
    Cancel,
    /// FAILED in the name of a destination that is silent.
    Fail,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum State {
    Proposed,
    Copying,
    Committing,
    /// Committed, and the destination does not serve yet.
    HandingOver,
    /// The destination serves; updates by the source are still on their way.
    Draining,
    Complete,
    Cancelling,
    Failed,
}

impl State {
    /// Tells whether the migration has ended.
    pub fn is_end(self) -> bool {
        match self {
            Self::Complete | Self::Failed => true,
            Self::Proposed
            | Self::Copying
            | Self::Committing
            | Self::HandingOver
            | Self::Draining
            | Self::Cancelling => false,
        }
    }

    /// Tells whether the destination is or is about to be the owner.
    pub fn is_committed(self) -> bool {
        match self {
            Self::Committing | Self::HandingOver | Self::Draining | Self::Complete => true,
            Self::Proposed | Self::Copying | Self::Cancelling | Self::Failed => false,
        }
    }
}

/// Why an event changed nothing; the variants are the reasons that are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Error)]
pub enum Ignored {
    #[error("no such migration was ever begun here")]
    UnknownMigration,
    #[error("the migration has ended")]
    Decided,
    #[error("the teller is not the destination")]
    NotDestination,
    #[error("the planner's own word, read back")]
    OwnWord,
    #[error("does not fit how far the migration is")]
    OutOfPlace,
    #[error("a status that this program does not know")]
    UnknownStatus,
}

impl Ignored {
    /// A stable code, for counters.
    pub fn code(self) -> &'static str {
        match self {
            Self::UnknownMigration => "status_unknown_migration",
            Self::Decided => "status_decided_migration",
            Self::NotDestination => "status_not_destination",
            Self::OwnWord => "status_own_word",
            Self::OutOfPlace => "status_out_of_place",
            Self::UnknownStatus => "status_unknown",
        }
    }
}

impl Word {
    /// Returns what a status says, if it is one that a destination has to say.
    pub fn of(status: &MigrationStatus) -> Result<Self, Ignored> {
        match (status.status, status.phase) {
            (Status::InProgress, None | Some(Phase::Copying)) => Ok(Self::Copying),
            (Status::InProgress, Some(Phase::Ready)) => Ok(Self::Ready),
            (Status::InProgress, Some(Phase::Active)) => Ok(Self::Active),
            (Status::Complete, _) => Ok(Self::Complete),
            (Status::Failed, _) => Ok(Self::Failed),
            (Status::Pending, _) => Err(Ignored::OutOfPlace),
            (Status::InProgress, Some(Phase::Unknown)) | (Status::Unknown, _) => {
                Err(Ignored::UnknownStatus)
            }
        }
    }
}

/// One migration of one range.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Migration {
    destination: NodeId,
    /// The copy must be ready by then.
    deadline: Millis,
    /// How long the destination may take to answer a CANCEL.
    grace_ms: u64,
    /// When it was cancelled.
    cancelled: Option<Millis>,
    state: State,
    /// Bounded: a transition emits at most one step.
    #[serde(skip)]
    steps: VecDeque<Step>,
}

impl Migration {
    /// Proposes to move a range; the first step is ready at once.
    pub fn new(destination: NodeId, deadline: Millis, grace_ms: u64) -> Self {
        let (cancelled, state, steps) = (None, State::Proposed, VecDeque::from([Step::Start]));
        Self { destination, deadline, grace_ms, cancelled, state, steps }
    }

    /// A migration of which START was written, and then all was forgotten but the topics: it is
    /// cancelled, unless it was committed.
    pub fn adopted(destination: NodeId, committed: bool, now: Millis, grace_ms: u64) -> Self {
        let (cancelled, state, steps) = if committed {
            (None, State::HandingOver, VecDeque::new())
        } else {
            (Some(now), State::Cancelling, VecDeque::from([Step::Cancel]))
        };
        Self { destination, deadline: now, grace_ms, cancelled, state, steps }
    }

    /// Takes in what happened.
    pub fn handle(&mut self, now: Millis, event: Event<'_>) -> Result<(), Ignored> {
        if let Event::Told { teller, .. } = event
            && *teller != self.destination
        {
            return Err(Ignored::NotDestination);
        }
        use Event::{Closed, Told, Written};
        match (self.state, event) {
            (State::Proposed, Written(Step::Start)) => self.state = State::Copying,
            (State::Copying, Told { word: Word::Ready, .. }) => {
                self.state = State::Committing;
                self.steps.push_back(Step::Commit);
            }
            (State::Copying, Closed) if self.deadline <= now => {
                self.state = State::Cancelling;
                self.cancelled = Some(now);
                self.steps.push_back(Step::Cancel);
            }
            (State::Committing, Written(Step::Commit)) => self.state = State::HandingOver,
            (State::HandingOver, Told { word: Word::Active, .. }) => self.state = State::Draining,
            (State::HandingOver | State::Draining, Told { word: Word::Complete, .. }) => {
                self.state = State::Complete;
            }
            (State::Copying | State::Cancelling, Told { word: Word::Failed, .. }) => {
                self.state = State::Failed;
            }
            (State::Cancelling, Closed) if self.poll_deadline().is_some_and(|it| it <= now) => {
                self.state = State::Failed;
                self.steps.push_back(Step::Fail);
            }
            (State::Complete | State::Failed, Told { .. }) => return Err(Ignored::Decided),
            // How the copy goes; or said again after a restart, or crossed with a transition.
            (
                State::Copying | State::Committing,
                Told { word: Word::Copying | Word::Ready, .. },
            )
            | (State::HandingOver, Told { word: Word::Copying | Word::Ready, .. })
            | (State::Draining, Told { word: Word::Ready | Word::Active, .. })
            | (State::Cancelling, Told { word: Word::Copying | Word::Ready, .. }) => (),
            (_, Told { .. }) => return Err(Ignored::OutOfPlace),
            // Nothing is due, or the record asks for no answer.
            (_, Written(_) | Closed) => (),
        }
        Ok(())
    }

    /// Returns the next thing to write.
    pub fn poll_step(&mut self) -> Option<Step> {
        self.steps.pop_front()
    }

    /// Returns by which end of a tick something happens by itself.
    pub fn poll_deadline(&self) -> Option<Millis> {
        match self.state {
            State::Copying => Some(self.deadline),
            State::Cancelling => {
                self.cancelled.map(|at| Millis(at.0.saturating_add(self.grace_ms)))
            }
            State::Proposed
            | State::Committing
            | State::HandingOver
            | State::Draining
            | State::Complete
            | State::Failed => None,
        }
    }

    pub fn state(&self) -> State {
        self.state
    }
}

#[cfg(test)]
mod tests;
