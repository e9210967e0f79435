//! Decides the life of each read: which router is asked, when another is, when it has failed.
//!
//! ```text
//!  due ──> asked of a router ──> answered
//!              │ ^
//!              │ └── no answer for a while, or none that can be used: of the next, as often as there are
//!              │     routers at once, and then after a pause, which doubles
//!              └── at its deadline: failed
//! ```
//!
//! * **One end.** A read is answered or has failed, once; what comes for a request that was given up
//!   changes nothing.
//! * **Bounded**: reads that are under way; of each, one request at a time.
//! * **A router that does not answer is avoided** for a while by reads that could ask another.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::Micros;
use super::tally::{Outcome, Reason};

/// How reads are repeated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// How many there are; at least one.
    pub routers: usize,
    /// A read fails so long after it was due.
    pub deadline_us: u64,
    /// A router that has told nothing for so long is given up, if there is another that is not avoided. Else it
    /// is waited for: to ask it again would be to begin at the end of its queue.
    pub patience_us: u64,
    /// Before a read is repeated more often than there are routers; doubled each time, up to the other.
    pub pause_us: u64,
    pub pause_max_us: u64,
    /// A router without an answer is avoided for so long.
    pub avoided_us: u64,
    pub under_way_max: usize,
}

impl Settings {
    /// A router is waited for during a fourth of the deadline, 5 s at most.
    pub fn new(routers: usize, deadline_us: u64, under_way_max: usize) -> Self {
        Self {
            routers,
            deadline_us,
            patience_us: (deadline_us / 4).min(5_000_000),
            pause_us: 10_000,
            pause_max_us: 500_000,
            avoided_us: 1_000_000,
            under_way_max,
        }
    }
}

/// A request that was made for a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct AskId {
    pub read: u64,
    /// From zero.
    pub attempt: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A read of a key is due, or was.
    Due {
        key: u64,
        due: Micros,
    },
    Answered {
        ask: AskId,
        found: bool,
    },
    Unanswered {
        ask: AskId,
        reason: Reason,
    },
    /// Time has passed.
    Tick,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Ask a router; there is so long left for an answer.
    Ask { ask: AskId, router: usize, key: u64, within_us: u64 },
    /// Nobody waits for the answer any more.
    GiveUp(AskId),
    /// The request that follows is a repetition, for this reason.
    Repeat(Reason),
    /// In the order of their beginnings, reads are 0, 1 …
    End { read: u64, outcome: Outcome, latency_us: u64 },
}

/// All reads that are under way.
#[derive(Clone, Debug)]
pub struct Reads {
    settings: Settings,
    reads: BTreeMap<u64, Read>,
    /// When to look at a read: one moment each.
    moments: BTreeSet<(Micros, u64)>,
    /// By router: until when it is avoided.
    avoided: Vec<Micros>,
    /// Of the next read, and the router that is to be asked for it.
    next_read: u64,
    next_router: usize,
    actions: VecDeque<Action>,
}

#[derive(Clone, Copy, Debug)]
struct Read {
    key: u64,
    due: Micros,
    /// The last one.
    attempt: u32,
    router: usize,
    is_asking: bool,
    /// Why the last request came to nothing.
    reason: Option<Reason>,
    moment: Micros,
}

impl Reads {
    pub fn new(settings: Settings) -> Self {
        assert!(0 < settings.routers, "there is somebody to ask");
        Self {
            settings,
            reads: BTreeMap::new(),
            moments: BTreeSet::new(),
            avoided: vec![Micros(0); settings.routers],
            next_read: 0,
            next_router: 0,
            actions: VecDeque::new(),
        }
    }

    pub fn handle(&mut self, now: Micros, event: Event) {
        match event {
            Event::Due { key, due } => self.begin(now, key, due),
            Event::Answered { ask, found } => {
                if let Some(read) = self.asking(ask) {
                    self.avoided[read.router] = now;
                    let outcome = match now < self.deadline(&read) {
                        true => Outcome::Answered { repeated: 0 < read.attempt, found },
                        false => Outcome::Failed(Reason::Late),
                    };
                    self.end(now, ask.read, outcome);
                }
            }
            Event::Unanswered { ask, reason } => match self.asking(ask) {
                Some(read) if now < self.deadline(&read) => self.repeat(now, ask.read, reason),
                Some(_) => self.end(now, ask.read, Outcome::Failed(reason)),
                None => (),
            },
            Event::Tick => (),
        }
        while let Some((moment, read)) = self.moments.first().copied()
            && moment <= now
        {
            self.look(now, read);
        }
    }

    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// Returns when to tell that time has passed.
    pub fn poll_deadline(&self) -> Option<Micros> {
        self.moments.first().map(|it| it.0)
    }

    /// Returns how many reads have no end yet.
    pub fn under_way(&self) -> usize {
        self.reads.len()
    }

    fn begin(&mut self, now: Micros, key: u64, due: Micros) {
        let id = self.next_read;
        self.next_read += 1;
        if self.settings.under_way_max <= self.reads.len() {
            let outcome = Outcome::Failed(Reason::TooMany);
            return self.actions.push_back(Action::End { read: id, outcome, latency_us: 0 });
        }
        let router = self.not_avoided(now, self.next_router);
        self.next_router = (self.next_router + 1) % self.settings.routers;
        let read =
            Read { key, due, attempt: 0, router, is_asking: true, reason: None, moment: now };
        self.reads.insert(id, read);
        self.ask(now, id);
    }

    /// Returns the read that the request is made for, unless nobody waits for its answer.
    fn asking(&self, ask: AskId) -> Option<Read> {
        let is_last = |it: &Read| it.is_asking && it.attempt == ask.attempt;
        self.reads.get(&ask.read).copied().filter(is_last)
    }

    /// A moment of a read has come.
    fn look(&mut self, now: Micros, id: u64) {
        let read = self.reads[&id];
        let ask = AskId { read: id, attempt: read.attempt };
        if self.deadline(&read) <= now {
            if read.is_asking {
                self.actions.push_back(Action::GiveUp(ask));
            }
            let reason = read.reason.unwrap_or(Reason::Silent);
            self.end(now, id, Outcome::Failed(reason));
        } else if read.is_asking {
            self.actions.push_back(Action::GiveUp(ask));
            self.repeat(now, id, Reason::Silent);
        } else {
            self.ask(now, id);
        }
    }

    /// Asks the router of a read, as its attempt.
    fn ask(&mut self, now: Micros, id: u64) {
        let read = self.reads[&id];
        let deadline = self.deadline(&read);
        // What nobody waits for any more is not to be done: the next one asks for the same.
        let Settings { routers, patience_us, .. } = self.settings;
        let others = (0..routers).filter(|it| *it != read.router);
        let is_last = { others }.all(|it| now < self.avoided[it]);
        let left_us = deadline.0.saturating_sub(now.0);
        let within_us = if is_last { left_us } else { left_us.min(patience_us) };
        let Read { router, key, attempt, reason, .. } = read;
        if 0 < within_us {
            self.actions.extend(reason.map(Action::Repeat));
            let ask = AskId { read: id, attempt };
            self.actions.push_back(Action::Ask { ask, router, key, within_us });
        }
        self.wait(id, Micros(now.0 + within_us), 0 < within_us);
    }

    /// Asks the next router, at once or after a pause.
    fn repeat(&mut self, now: Micros, id: u64, reason: Reason) {
        let read = self.reads[&id];
        match reason {
            Reason::Unreachable | Reason::Lost | Reason::Silent => {
                self.avoided[read.router] = Micros(now.0 + self.settings.avoided_us);
            }
            // It lives.
            Reason::Busy | Reason::Late | Reason::Refused | Reason::Garbage | Reason::TooMany => (),
        }
        let router = self.not_avoided(now, (read.router + 1) % self.settings.routers);
        let attempt = read.attempt + 1;
        self.reads.insert(id, Read { attempt, router, reason: Some(reason), ..read });
        let Settings { routers, pause_us, pause_max_us, .. } = self.settings;
        if attempt < routers as u32 && router != read.router {
            return self.ask(now, id);
        }
        let again = attempt.saturating_sub(routers as u32).min(20);
        let pause_us = pause_us.saturating_mul(1 << again).min(pause_max_us);
        let until = Micros(now.0 + pause_us).min(self.deadline(&read));
        self.wait(id, until, false);
    }

    /// Returns a router from this one on that is not avoided, if there is one.
    fn not_avoided(&self, now: Micros, router: usize) -> usize {
        let count = self.settings.routers;
        let mut all = (0..count).map(|it| (router + it) % count);
        all.find(|it| self.avoided[*it] <= now).unwrap_or(router)
    }

    fn deadline(&self, read: &Read) -> Micros {
        Micros(read.due.0.saturating_add(self.settings.deadline_us))
    }

    fn wait(&mut self, id: u64, moment: Micros, is_asking: bool) {
        let read = self.reads.get_mut(&id).expect("it is under way");
        self.moments.remove(&(read.moment, id));
        (read.moment, read.is_asking) = (moment, is_asking);
        self.moments.insert((moment, id));
    }

    fn end(&mut self, now: Micros, id: u64, outcome: Outcome) {
        let read = self.reads.remove(&id).expect("it is under way");
        self.moments.remove(&(read.moment, id));
        let latency_us = now.0.saturating_sub(read.due.0);
        self.actions.push_back(Action::End { read: id, outcome, latency_us });
    }
}

#[cfg(test)]
mod tests;
