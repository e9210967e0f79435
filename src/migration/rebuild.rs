//! Decides the life of one rebuild of a range from the source table: from the assignment to the end.
//!
//! ```text
//!            Written           Complete
//!  Assigned ────────> Scanning ───────> Complete
//! ```
//!
//! The assignment record is the command, and PENDING is written with it; there is no START, no commit
//! and no CANCEL: the range has no other owner to go back to, so only COMPLETE ends it.
//!
//! * **One end**, by the word of the node that the range was given to.

use schemas::NodeId;
use serde::{Deserialize, Serialize};

use super::machine::{Ignored, Word};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum State {
    /// The assignment and PENDING are to be written.
    Assigned,
    Scanning,
    Complete,
}

/// One rebuild of one range.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rebuild {
    node: NodeId,
    state: State,
}

/// What the driver has learned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// The assignment is committed.
    Written,
    /// A node says how far it is.
    Told { teller: &'a NodeId, word: Word },
}

impl Rebuild {
    pub fn new(node: NodeId) -> Self {
        Self { node, state: State::Assigned }
    }

    /// A rebuild of which the assignment stands on the topic.
    pub fn adopted(node: NodeId) -> Self {
        Self { node, state: State::Scanning }
    }

    /// Takes in what happened.
    pub fn handle(&mut self, event: Event<'_>) -> Result<(), Ignored> {
        if let Event::Told { teller, .. } = event
            && *teller != self.node
        {
            return Err(Ignored::NotDestination);
        }
        use Event::{Told, Written};
        match (self.state, event) {
            (State::Assigned, Written) => self.state = State::Scanning,
            (State::Scanning, Told { word: Word::Copying | Word::Active, .. }) => (),
            (State::Scanning, Told { word: Word::Complete, .. }) => self.state = State::Complete,
            (State::Complete, Told { .. }) => return Err(Ignored::Decided),
            // A scan that fails begins again; nothing is ever ready to be committed.
            (_, Told { .. }) => return Err(Ignored::OutOfPlace),
            (State::Scanning | State::Complete, Written) => (),
        }
        Ok(())
    }

    pub fn state(&self) -> State {
        self.state
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Walks every sequence of six events: the end comes by COMPLETE of the node alone, after the
    /// assignment was written, and stays.
    #[test]
    fn only_complete_of_the_node_ends_it() {
        let nodes = [NodeId("d".into()), NodeId("x".into())];
        let told = |word| Event::Told { teller: &nodes[0], word };
        let events = [
            Event::Written,
            told(Word::Copying),
            told(Word::Ready),
            told(Word::Active),
            told(Word::Complete),
            told(Word::Failed),
            Event::Told { teller: &nodes[1], word: Word::Complete },
        ];
        let mut reached = std::collections::BTreeSet::new();
        for walk in 0..events.len().pow(6) {
            let mut rebuild = Rebuild::new(nodes[0].clone());
            let mut written = false;
            for step in 0..6 {
                let event = events[walk / events.len().pow(step) % events.len()];
                let before = rebuild.clone();
                let res = rebuild.handle(event);
                let ends = written && before.state() != State::Complete && event == events[4];
                assert!(res.is_ok() || before == rebuild, "walk {walk}");
                assert_eq!(
                    rebuild.state() == State::Complete,
                    ends || before.state() == State::Complete
                );
                written |= event == Event::Written;
                reached.insert(rebuild.state());
            }
        }
        assert_eq!(reached.len(), 3);
    }
}
