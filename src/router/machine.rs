//! Decides for a batch of reads whom to ask what, and when to ask again.
//!
//! ```text
//!  of a read
//!          asked of the owner                 found
//!  Open ─────────────────────────> Asked ──────────────> Done, or Open for the next piece
//!   ^ ^    of the source, once       │
//!   │ │    by the hint, once         │ ask the source
//!   │ ├──────────────────────────────┤ the answer is full, or the owner another
//!   │ │           in a moment        │ not yet, failed
//!   │ └───────── Pausing <───────────┤
//!   │                                │ moved, by a newer map than ours
//!   └──────── WaitingForMap <────────┘
//!      it came, or time for the hint
//!
//!  at the deadline, whatever it is: Done, with what was found until then or as late
//! ```
//!
//! * **By one map at a time (R18).** A read is sent to whom the newest map names, at its epoch. What
//!   a worker says of sources and other owners holds for the one read, once, and is not kept.
//! * **Nothing fails because of a move (P9).** Whatever a worker answers but a refusal, and whatever
//!   becomes of it, the read is asked again until its deadline.
//! * **One request a worker**: all reads of the batch that can be asked of it go together, up to a limit.
//! * **Bounded**: by the deadline, by the pauses between two tries, and by the bytes of all answers.

mod leg;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use schemas::{KeySpan, Millis};

use super::lookup::Lookup;
use super::reading::Limits;
use crate::web::reads::{Answer, Found, Later, Refusal, What};
use leg::{Aim, Leg, State};

pub use super::events::{Action, Ask, AskId, Event, Failure, Hint, Query, Retry};

/// How a router does its work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    pub limits: Limits,
    /// Of one request to a worker.
    pub ask_reads_max: usize,
    /// Of all answers to a batch: keys and payloads, and [`ENTRY_BYTES`] for each entry. The last
    /// answers may go beyond.
    pub answer_bytes_max: usize,
    /// A read is asked again after so long, then after twice that, and so on.
    pub pause_ms: u64,
    pub pause_max_ms: u64,
    /// A newer map is waited for so long before its hint is followed.
    pub hint_after_ms: u64,
    /// A request to a node that is not the owner any more is given up after so long. Any other is
    /// waited for: to ask a slow node again makes it slower.
    pub moved_silent_ms: u64,
}

/// What an entry takes in an answer beside its keys and payload.
pub const ENTRY_BYTES: usize = 64;

/// Reads that came together.
#[derive(Debug)]
pub struct Batch {
    settings: Settings,
    map: Arc<Lookup>,
    deadline: Millis,
    legs: Vec<Leg>,
    /// Requests that are not answered, with the legs whose reads they are.
    asks: BTreeMap<AskId, Vec<usize>>,
    asks_made: u64,
    ask_reads_max: usize,
    bytes: usize,
    actions: VecDeque<Action>,
}

impl Batch {
    pub fn new(settings: Settings, map: Arc<Lookup>, deadline: Millis, reads: Vec<What>) -> Self {
        let mut res = Self {
            settings,
            map,
            deadline,
            legs: reads.into_iter().map(|it| Leg::new(it, &settings.limits)).collect(),
            asks: BTreeMap::new(),
            asks_made: 0,
            ask_reads_max: settings.ask_reads_max,
            bytes: 0,
            actions: VecDeque::new(),
        };
        res.go_on();
        res
    }

    pub fn handle(&mut self, now: Millis, event: Event) {
        match event {
            Event::Answered { ask, answers } => self.answered(now, ask, answers),
            Event::Failed { ask, why } => self.failed(now, ask, why),
            Event::MapChanged(map) => self.change_map(now, map),
            Event::Tick => self.pass_time(now),
        }
        self.go_on();
    }

    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// Returns when [`Event::Tick`] is wanted; `None`: all reads are answered.
    pub fn poll_deadline(&self) -> Option<Millis> {
        let due = self.legs.iter().filter_map(Leg::due).min();
        due.map(|it| it.min(self.deadline))
    }

    /// Returns the answers, in the order of the reads; one that is not there yet is late.
    pub fn answers(self) -> Vec<Answer> {
        let done = |it: Leg| match it.state {
            State::Done(answer) => answer,
            State::Open(_) | State::Asked { .. } | State::Pausing { .. } => Answer::Late,
            State::WaitingForMap { .. } => Answer::Late,
        };
        self.legs.into_iter().map(done).collect()
    }

    fn answered(&mut self, now: Millis, ask: AskId, answers: Vec<Answer>) {
        let Some(legs) = self.asks.remove(&ask) else { return };
        if legs.len() != answers.len() {
            self.asks.insert(ask, legs);
            return self.failed(now, ask, Failure::Garbage);
        }
        let any_found = answers.iter().any(|it| matches!(it, Answer::Found(_)));
        for (leg, answer) in legs.into_iter().zip(answers) {
            self.take(now, (leg, ask), answer, any_found);
        }
        if self.settings.answer_bytes_max <= self.bytes {
            self.end_full();
        }
    }

    /// Takes in the answer to one read, if it is to what the read is asking now.
    fn take(&mut self, now: Millis, (leg, ask): (usize, AskId), answer: Answer, any_found: bool) {
        let generation = self.map.generation();
        let it = &mut self.legs[leg];
        let State::Asked { ask: asked, span, aim, .. } = &it.state else { return };
        if *asked != ask {
            return;
        }
        let (span, aim) = (span.clone(), aim.clone());
        match answer {
            Answer::Found(found) => self.found(now, leg, &span, found),
            Answer::Moved { node, epoch, generation: newer } if generation < newer => {
                let hint = Aim::Hinted { node, epoch, generation: newer };
                let until = Millis(now.0 + self.settings.hint_after_ms);
                let hint = Some((hint, until));
                it.state = State::WaitingForMap { generation: newer, hint };
                self.count(Retry::Moved);
            }
            // By a map that we have, too: as old as the one that we have asked by, or just come.
            Answer::Moved { .. } => {
                let is_other = it.owner != it.owner_by(&self.map);
                match is_other {
                    true => it.state = State::Open(Aim::Owner),
                    false => self.pause(now, leg),
                }
                self.count(Retry::Moved);
            }
            Answer::AskSource { node, epoch } => {
                match aim {
                    Aim::Owner | Aim::Hinted { .. } => {
                        it.state = State::Open(Aim::Source { node, epoch });
                    }
                    // Else reads would go in circles.
                    Aim::Source { .. } => self.pause(now, leg),
                }
                self.count(Retry::AskSource);
            }
            Answer::NotYet { reason: Later::AnswerFull } => {
                match any_found {
                    // Of the owner again: by now there may be a newer map than a hint is of.
                    true => it.state = State::Open(Aim::Owner),
                    false => self.pause(now, leg),
                }
                self.count(Retry::AnswerFull);
            }
            Answer::NotYet { reason } => {
                self.pause(now, leg);
                self.count(match reason {
                    Later::OlderMap => Retry::OlderMap,
                    Later::NotWhole => Retry::NotWhole,
                    Later::AnswerFull | Later::Unknown => Retry::LaterUnknown,
                });
            }
            Answer::Refused { reason } => self.refused(now, leg, reason),
            Answer::Late => {
                self.pause(now, leg);
                self.count(Retry::WorkerLate);
            }
        }
    }

    fn found(&mut self, now: Millis, leg: usize, span: &KeySpan, found: Found) {
        let it = &mut self.legs[leg];
        let Some(reading) = &mut it.reading else { return };
        let (bytes, cost_us) = (bytes_of(&found), found.cost_us);
        let done = match reading.take(span, found) {
            Ok(done) => done,
            Err(_misfit) => {
                self.pause(now, leg);
                return self.count(Retry::Failed(Failure::Garbage));
            }
        };
        it.tries = 0;
        it.state = match done {
            Some(found) => State::Done(Answer::Found(found)),
            None => State::Open(Aim::Owner),
        };
        let (op, key) = (reading.op(), span.start.clone());
        let query = Query { op, key, cost_us: Some(cost_us), bytes: bytes.0 };
        self.bytes += bytes.1;
        self.actions.push_back(Action::Log(query));
    }

    fn refused(&mut self, now: Millis, leg: usize, reason: Refusal) {
        match reason {
            Refusal::KeyTooLong
            | Refusal::EmptyInterval
            | Refusal::AfterOutside
            | Refusal::NoEntries => {
                self.legs[leg].state = State::Done(Answer::Refused { reason });
            }
            Refusal::BatchTooLarge => {
                self.ask_reads_max = (self.ask_reads_max / 2).max(1);
                self.pause(now, leg);
                self.count(Retry::WorkerRefused);
            }
            // Between us and the worker, not the client's doing.
            Refusal::NoEpoch | Refusal::Unknown => {
                self.pause(now, leg);
                self.count(Retry::WorkerRefused);
            }
        }
    }

    /// A read does not wait for a request any more; perhaps none does.
    fn give_up(&mut self, ask: AskId) {
        self.count(Retry::Failed(Failure::Silent));
        let legs = self.asks.get(&ask).into_iter().flatten();
        if legs.filter(|leg| self.legs[**leg].waits_for(ask)).count() == 0 {
            self.asks.remove(&ask);
            self.actions.push_back(Action::GiveUp(ask));
        }
    }

    fn failed(&mut self, now: Millis, ask: AskId, why: Failure) {
        for leg in self.asks.remove(&ask).into_iter().flatten() {
            let it = &mut self.legs[leg];
            if it.waits_for(ask) {
                match why {
                    // There is a better way.
                    Failure::HintOld => it.state = State::Open(Aim::Owner),
                    Failure::NoEndpoint
                    | Failure::Unreachable
                    | Failure::Lost
                    | Failure::Silent
                    | Failure::Overloaded
                    | Failure::Refused
                    | Failure::Garbage => self.pause(now, leg),
                }
                self.count(Retry::Failed(why));
            }
        }
    }

    fn change_map(&mut self, now: Millis, map: Arc<Lookup>) {
        if map.generation() <= self.map.generation() {
            return;
        }
        self.map = map;
        for it in &mut self.legs {
            it.change_map(now, &self.map, &self.settings);
        }
    }

    fn pass_time(&mut self, now: Millis) {
        for leg in 0..self.legs.len() {
            let it = &mut self.legs[leg];
            match &mut it.state {
                State::Pausing { until } if *until <= now => it.state = State::Open(Aim::Owner),
                State::WaitingForMap { hint, .. } => {
                    if let Some((aim, _)) = hint.take_if(|it| it.1 <= now) {
                        it.state = State::Open(aim);
                        self.count(Retry::HintFollowed);
                    }
                }
                State::Asked { ask, until: Some(until), .. } if *until <= now => {
                    let ask = *ask;
                    it.state = State::Open(Aim::Owner);
                    self.give_up(ask);
                }
                State::Pausing { .. } | State::Asked { .. } | State::Open(_) | State::Done(_) => (),
            }
        }
        if self.deadline <= now {
            self.end_late();
        }
    }

    /// Asks what can be asked.
    fn go_on(&mut self) {
        let mut by_node: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for (number, leg) in self.legs.iter_mut().enumerate() {
            match leg.ask(&self.map) {
                Ok(None) => (),
                Ok(Some((whom, read))) => by_node.entry(whom).or_default().push((number, read)),
                Err(()) => self.actions.push_back(Action::Count(Retry::NoOwner)),
            }
        }
        for ((node, hint), asked) in by_node {
            let mut asked = asked.into_iter().peekable();
            while asked.peek().is_some() {
                self.asks_made += 1;
                let id = AskId(self.asks_made);
                let (legs, reads): (Vec<_>, _) = asked.by_ref().take(self.ask_reads_max).unzip();
                for leg in &legs {
                    self.legs[*leg].asked(id);
                }
                self.asks.insert(id, legs);
                self.actions.push_back(Action::Ask(Ask { id, node: node.clone(), reads, hint }));
            }
        }
    }

    fn pause(&mut self, now: Millis, leg: usize) {
        self.legs[leg].pause(now, &self.settings);
    }

    /// The deadline has come.
    fn end_late(&mut self) {
        for it in &mut self.legs {
            let Some(reading) = it.unfinished() else { continue };
            let (op, key) = (reading.op(), reading.position().clone());
            let query = Query { op, key, cost_us: None, bytes: 0 };
            self.actions.push_back(Action::Log(query));
            let answer = reading.so_far().map_or(Answer::Late, Answer::Found);
            it.state = State::Done(answer);
        }
    }

    /// The answers take all that they may.
    fn end_full(&mut self) {
        for it in &mut self.legs {
            let Some(reading) = it.unfinished() else { continue };
            let later = Answer::NotYet { reason: Later::AnswerFull };
            let answer = reading.so_far().map_or(later, Answer::Found);
            it.state = State::Done(answer);
        }
    }

    fn count(&mut self, what: Retry) {
        self.actions.push_back(Action::Count(what));
    }
}

/// Returns the bytes of keys and payloads, and what they count in an answer.
fn bytes_of(found: &Found) -> (u64, usize) {
    let bytes = found
        .entries
        .iter()
        .map(|it| it.index_key.0.len() + it.primary_key.0.len() + it.payload.len());
    let bytes = bytes.sum::<usize>();
    (bytes as u64, bytes + found.entries.len() * ENTRY_BYTES)
}

#[cfg(test)]
mod tests;
