//! Keeps the state of one read of a batch.

use schemas::{Epoch, Generation, KeySpan, Millis, NodeId};

use super::super::events::{AskId, Hint};
use super::super::lookup::Lookup;
use super::super::reading::{Limits, Reading};
use super::Settings;
use crate::web::reads::{Answer, Asked as AskedAs, Read, What};

/// One read of a batch.
#[derive(Debug)]
pub(super) struct Leg {
    /// `None`: it was refused.
    pub(super) reading: Option<Reading>,
    pub(super) state: State,
    /// By the map when it was last asked.
    pub(super) owner: Option<(NodeId, Epoch)>,
    /// Since it last went on.
    pub(super) tries: u32,
}

#[derive(Debug)]
pub(super) enum State {
    Open(Aim),
    Asked { ask: AskId, span: KeySpan, aim: Aim, until: Option<Millis> },
    Pausing { until: Millis },
    WaitingForMap { generation: Generation, hint: Option<(Aim, Millis)> },
    Done(Answer),
}

/// As whom a worker is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Aim {
    Owner,
    Source { node: NodeId, epoch: Epoch },
    Hinted { node: NodeId, epoch: Epoch, generation: Generation },
}

/// Whom to ask, and by what.
pub(super) type Whom = (NodeId, Option<Hint>);

impl Leg {
    pub(super) fn new(what: What, limits: &Limits) -> Self {
        let (reading, state) = match Reading::new(what, limits) {
            Ok(it) => (Some(it), State::Open(Aim::Owner)),
            Err(reason) => (None, State::Done(Answer::Refused { reason })),
        };
        Self { reading, state, owner: None, tries: 0 }
    }

    /// Returns when the leg wants to be looked at, but for the deadline.
    pub(super) fn due(&self) -> Option<Millis> {
        match &self.state {
            State::Done(_) => None,
            State::Asked { until: Some(until), .. }
            | State::Pausing { until }
            | State::WaitingForMap { hint: Some((_, until)), .. } => Some(*until),
            State::Asked { until: None, .. }
            | State::WaitingForMap { hint: None, .. }
            | State::Open(_) => Some(Millis(u64::MAX)),
        }
    }

    /// Returns the owner of what is to be asked next, by a map.
    pub(super) fn owner_by(&self, map: &Lookup) -> Option<(NodeId, Epoch)> {
        let owned = map.owner(&self.reading.as_ref()?.position().0)?;
        Some((owned.node.clone(), owned.epoch))
    }

    /// Returns the reading, if it is not done.
    pub(super) fn unfinished(&mut self) -> Option<&mut Reading> {
        match self.state {
            State::Done(_) => None,
            State::Open(_)
            | State::Asked { .. }
            | State::Pausing { .. }
            | State::WaitingForMap { .. } => self.reading.as_mut(),
        }
    }

    pub(super) fn pause(&mut self, now: Millis, settings: &Settings) {
        let pause = (settings.pause_ms << self.tries.min(16)).min(settings.pause_max_ms);
        self.state = State::Pausing { until: Millis(now.0 + pause) };
        self.tries += 1;
    }

    /// Goes by a newer map from here on.
    pub(super) fn change_map(&mut self, now: Millis, map: &Lookup, settings: &Settings) {
        let owner = self.owner_by(map);
        match &mut self.state {
            State::WaitingForMap { generation, .. } => {
                if *generation <= map.generation() {
                    self.state = State::Open(Aim::Owner);
                }
            }
            State::Pausing { .. } => {
                if self.owner != owner {
                    (self.state, self.tries) = (State::Open(Aim::Owner), 0);
                }
            }
            State::Asked { until, .. } => {
                let node = |it: Option<(NodeId, Epoch)>| it.map(|it| it.0);
                if node(self.owner.clone()) != node(owner) {
                    until.get_or_insert(Millis(now.0 + settings.moved_silent_ms));
                }
            }
            State::Open(_) | State::Done(_) => (),
        }
    }

    /// Asks what is open, by a map: returns whom, and what. Which request it is, [`Leg::asked`] says.
    ///
    /// `Err`: nobody owns the key.
    pub(super) fn ask(&mut self, map: &Lookup) -> Result<Option<(Whom, Read)>, ()> {
        let (State::Open(aim), Some(reading)) = (&self.state, &self.reading) else {
            return Ok(None);
        };
        let aim = aim.clone();
        let Some(owned) = map.owner(&reading.position().0) else {
            let generation = Generation(map.generation().0 + 1);
            self.state = State::WaitingForMap { generation, hint: None };
            return Err(());
        };
        self.owner = Some((owned.node.clone(), owned.epoch));
        let (node, epoch, asked_as, hint) = match &aim {
            Aim::Owner => (owned.node, owned.epoch, AskedAs::Owner, None),
            Aim::Source { node, epoch } => (node, *epoch, AskedAs::Source, None),
            Aim::Hinted { node, epoch, generation } => {
                let hint = Hint { by: map.generation(), generation: *generation };
                (node, *epoch, AskedAs::Owner, Some(hint))
            }
        };
        let piece = reading.piece(&owned);
        let read = Read { what: piece.what, epoch: Some(epoch), asked_as };
        let whom = (node.clone(), hint);
        self.state = State::Asked { ask: AskId::default(), span: piece.span, aim, until: None };
        Ok(Some((whom, read)))
    }

    /// The request is this one.
    pub(super) fn asked(&mut self, id: AskId) {
        if let State::Asked { ask, .. } = &mut self.state {
            *ask = id;
        }
    }

    /// Tells whether the leg waits for the answer to this request.
    pub(super) fn waits_for(&self, id: AskId) -> bool {
        matches!(&self.state, State::Asked { ask, .. } if *ask == id)
    }
}
