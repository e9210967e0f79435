//! Keeps what people ask of the planner until it is answered, and remembers what it was asked.
//!
//! ```text
//!  operator_command ──> seen? ──> waiting ──> a tick that is not stale ──> done, or refused: told in plan
//!  in its order         dropped   at most 256, the rest to dead_letter
//! ```
//!
//! * **Once.** A command that is sent again, by the same id, counts no more; of the last 4096 that is
//!   known.
//! * **Answered.** What is not carried out is refused with a reason. Nothing waits for ever: what is
//!   older than [`AGE_MS_MAX`] when its turn comes is refused, too, as nobody expects it any more.
//! * **A REBUILD is never lost**: who asks for it goes on and relies on it. It has no age, and one too many
//!   counts with one that waits.
//! * **Bounded.** Texts of people are cut to what a plan can hold.

use std::collections::{BTreeSet, VecDeque};

use schemas::operator_command::{Command, OperatorCommand};
use schemas::{Key, Millis, NodeId};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::table::rows::KEY_BYTES_MAX;

/// Whoever asked does not wait longer.
pub const AGE_MS_MAX: u64 = 600_000;

/// So many wait at once.
const WAITING_MAX: usize = 256;

const SEEN_MAX: usize = 4096;

/// A longer id is none.
const ID_BYTES_MAX: usize = 128;

/// A larger model is none.
pub const MODEL_BYTES_MAX: usize = 256 << 10;

/// Of a text that is told in a plan.
const TEXT_CHARS_MAX: usize = 256;

/// What was asked, and what waits.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Commands {
    waiting: VecDeque<Waiting>,
    /// The ids of the last, in their order.
    seen: VecDeque<String>,
    /// The same, to be looked up.
    known: BTreeSet<String>,
}

/// A command, and when it was given.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waiting {
    pub given: Millis,
    pub command: OperatorCommand,
}

/// Why a command is not taken in; the variants are the reasons that are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum NotTaken {
    #[error("it has no id, or one of more than {ID_BYTES_MAX} bytes, so it cannot be answered")]
    Nameless,
    #[error("{WAITING_MAX} commands wait to be answered already")]
    TooMany,
}

impl NotTaken {
    /// A stable code, for counters and dead letters.
    pub fn code(self) -> &'static str {
        match self {
            Self::Nameless => "command_nameless",
            Self::TooMany => "too_many_commands",
        }
    }
}

impl Commands {
    /// Takes in a command, in the order of the topic. One that is known changes nothing.
    pub fn given(&mut self, given: Millis, command: OperatorCommand) -> Result<(), NotTaken> {
        if command.id.is_empty() || ID_BYTES_MAX < command.id.len() {
            return Err(NotTaken::Nameless);
        }
        if self.known.contains(&command.id) {
            return Ok(());
        }
        if WAITING_MAX <= self.waiting.len() {
            return self.join(&command).ok_or(NotTaken::TooMany);
        }
        self.known.insert(command.id.clone());
        self.seen.push_back(command.id.clone());
        if SEEN_MAX < self.seen.len()
            && let Some(oldest) = self.seen.pop_front()
        {
            self.known.remove(&oldest);
        }
        let command = OperatorCommand {
            actor: cut(&command.actor),
            reason: cut(&command.reason),
            node: command.node.map(|it| NodeId(cut(&it.0))),
            range_start: command.range_start.map(short),
            range_end: command.range_end.map(short),
            plan: None,
            digest: None,
            model: command
                .model
                .filter(|it| command.command == Command::SwapModel && it.len() <= MODEL_BYTES_MAX),
            ..command
        };
        if command.model.is_some() {
            // One model that waits is enough: the later one counts.
            self.waiting.iter_mut().for_each(|it| it.command.model = None);
        }
        self.waiting.push_back(Waiting { given, command });
        Ok(())
    }

    /// Lets a REBUILD that waits stand for this one, too.
    fn join(&mut self, command: &OperatorCommand) -> Option<()> {
        let span = |it: &OperatorCommand| (it.range_start.clone(), it.range_end.clone());
        let is_same =
            |it: &&mut OperatorCommand| it.command == Command::Rebuild && span(it) == span(command);
        let mut waiting = self.waiting.iter_mut().map(|it| &mut it.command);
        let same = waiting.find(is_same).filter(|_| command.command == Command::Rebuild)?;
        // Without a time, all need it.
        let both = same.built_before.zip(command.built_before);
        same.built_before = both.map(|(one, other)| one.max(other));
        Some(())
    }

    /// Returns all that waits, in its order, to be answered now.
    pub fn take(&mut self) -> VecDeque<Waiting> {
        std::mem::take(&mut self.waiting)
    }

    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }
}

fn cut(text: &str) -> String {
    text.chars().take(TEXT_CHARS_MAX).collect()
}

/// No range begins or ends at a key that is longer than keys of the index may be.
fn short(mut key: Key) -> Key {
    key.0.truncate(KEY_BYTES_MAX + 1);
    key
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command(id: &str) -> OperatorCommand {
        OperatorCommand::new(id.into(), Command::Move, "me".into(), "x".repeat(1000))
    }

    #[test]
    fn command_that_is_sent_twice_counts_once_though_it_was_answered() {
        let mut commands = Commands::default();
        for id in ["a", "b", "a"] {
            assert_eq!(commands.given(Millis(1), command(id)), Ok(()));
        }
        let ids =
            |it: VecDeque<Waiting>| it.into_iter().map(|it| it.command.id).collect::<Vec<_>>();
        assert_eq!(ids(commands.take()), ["a", "b"]);
        assert_eq!(commands.given(Millis(2), command("b")), Ok(()));
        assert!(commands.is_empty());
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let mut commands = Commands::default();
        for i in 0..2 * SEEN_MAX {
            if commands.waiting.len() == WAITING_MAX {
                let refused = commands.given(Millis(1), command(&i.to_string()));
                assert_eq!(refused, Err(NotTaken::TooMany));
                assert_eq!(commands.take()[0].command.reason.len(), TEXT_CHARS_MAX);
            }
            assert_eq!(commands.given(Millis(1), command(&i.to_string())), Ok(()));
        }
        assert_eq!((commands.seen.len(), commands.known.len()), (SEEN_MAX, SEEN_MAX));
        let last = (2 * SEEN_MAX - 1).to_string();
        commands.take();
        assert_eq!(commands.given(Millis(1), command(&last)), Ok(()));
        assert!(commands.is_empty(), "the last are known");
    }

    #[test]
    fn r24_rebuild_that_is_one_too_many_counts_with_one_that_waits() {
        let rebuild = |id: &str, ms| OperatorCommand {
            command: Command::Rebuild,
            built_before: Some(Millis(ms)),
            ..command(id)
        };
        let mut commands = Commands::default();
        for i in 1..WAITING_MAX {
            assert_eq!(commands.given(Millis(1), command(&i.to_string())), Ok(()));
        }
        assert_eq!(commands.given(Millis(1), rebuild("a", 5)), Ok(()));
        assert_eq!(commands.given(Millis(1), command("b")), Err(NotTaken::TooMany));
        assert_eq!(commands.given(Millis(1), rebuild("c", 7)), Ok(()));
        let waiting = commands.take();
        let last = &waiting[WAITING_MAX - 1].command;
        assert_eq!((&*last.id, last.built_before), ("a", Some(Millis(7))));
    }

    #[test]
    fn command_without_a_name_cannot_be_answered() {
        let mut commands = Commands::default();
        assert_eq!(commands.given(Millis(1), command("")), Err(NotTaken::Nameless));
        assert_eq!(commands.given(Millis(1), command(&"x".repeat(129))), Err(NotTaken::Nameless));
    }
}
