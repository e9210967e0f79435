//! Makes the requests of reads, on a thread of its own: one task a request, one timer for all.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::time::{Duration, Instant};

use tokio::sync::mpsc::Receiver;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{MissedTickBehavior, interval, sleep_until};
use tracing::warn;

use super::routers::Router;
use super::{Clock, Part, TOLD_EVERY};
use crate::load::machine::{Action, AskId, Event, Reads, Settings};
use crate::load::tally::{Reason, Tally};
use crate::load::{Micros, schedule::Operation};

/// So many reads that are due are taken at a time.
const TAKEN_MAX: usize = 256;

/// While nothing is under way, time is looked at this often.
const IDLE: Duration = Duration::from_secs(3600);

/// Takes reads that are due, until there are no more, and tells what came of them.
pub struct Reading {
    pub clock: Clock,
    pub routers: Vec<Arc<Router>>,
    pub machine: Reads,
    pub told: SyncSender<Part>,
    pub tally: Tally,
    asks: JoinSet<(AskId, Result<bool, Reason>)>,
    under_way: BTreeMap<AskId, Asked>,
    /// Keys whose rows were returned.
    seen: BTreeSet<u64>,
}

/// A request that is under way.
struct Asked {
    task: AbortHandle,
    key: u64,
    /// Its row had been returned before it was made.
    was_seen: bool,
}

impl Reading {
    pub fn new(
        clock: Clock,
        routers: &[String],
        settings: Settings,
        told: SyncSender<Part>,
    ) -> Self {
        let router = |it: &String| Arc::new(Router::new(it, settings.under_way_max));
        Self {
            clock,
            routers: routers.iter().map(router).collect(),
            machine: Reads::new(settings),
            told,
            tally: Tally::default(),
            asks: JoinSet::new(),
            under_way: BTreeMap::new(),
            seen: BTreeSet::new(),
        }
    }

    /// Returns what was not told.
    pub async fn run(mut self, mut due: Receiver<Operation>) -> Tally {
        let mut tell = interval(TOLD_EVERY);
        tell.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let timer = sleep_until((self.clock.began() + IDLE).into());
        tokio::pin!(timer);
        let (mut taken, mut is_open) = (Vec::with_capacity(TAKEN_MAX), true);
        while is_open || 0 < self.machine.under_way() {
            // Mostly it is later than it was: then the timer fires once too early, which is cheap.
            let at = match self.machine.poll_deadline() {
                Some(at) => self.clock.instant(at),
                None => Instant::now() + IDLE,
            };
            if at < timer.deadline().into() || timer.is_elapsed() {
                timer.as_mut().reset(at.into());
            }
            tokio::select! {
                count = due.recv_many(&mut taken, TAKEN_MAX), if is_open => {
                    is_open = 0 < count;
                    for Operation { key, due, .. } in taken.drain(..) {
                        self.tally.reads += 1;
                        self.handle(Event::Due { key, due });
                    }
                }
                Some(done) = self.asks.join_next() => match done {
                    Ok((ask, answer)) => {
                        if let (Some(asked), Ok(found)) = (self.under_way.remove(&ask), answer) {
                            self.answered(&asked, found);
                        }
                        self.handle(match answer {
                            Ok(found) => Event::Answered { ask, found },
                            Err(reason) => Event::Unanswered { ask, reason },
                        });
                    }
                    // It was given up.
                    Err(err) if err.is_cancelled() => (),
                    Err(err) => warn!(%err, "a request has ended early"),
                },
                () = timer.as_mut() => self.handle(Event::Tick),
                _ = tell.tick() => self.tell(),
            }
        }
        self.tally
    }

    fn answered(&mut self, asked: &Asked, found: bool) {
        match found {
            true => _ = self.seen.insert(asked.key),
            false => self.tally.vanished += u64::from(asked.was_seen),
        }
    }

    fn handle(&mut self, event: Event) {
        self.machine.handle(self.clock.now(), event);
        while let Some(action) = self.machine.poll_action() {
            match action {
                Action::Ask { ask, router, key, within_us } => {
                    let router = self.routers[router].clone();
                    let within = Duration::from_micros(within_us);
                    let task = self.asks.spawn(async move { (ask, router.ask(key, within).await) });
                    let was_seen = self.seen.contains(&key);
                    self.under_way.insert(ask, Asked { task, key, was_seen });
                }
                Action::GiveUp(ask) => {
                    self.under_way.remove(&ask).inspect(|it| it.task.abort());
                }
                Action::Repeat(reason) => self.tally.repeats(reason),
                Action::End { outcome, latency_us, .. } => self.tally.ended(outcome, latency_us),
            }
        }
    }

    /// Who has no room for it gets it next time.
    fn tell(&mut self) {
        let under_way = Some(self.machine.under_way());
        let part = Part { tally: std::mem::take(&mut self.tally), under_way };
        if let Err(err) = self.told.try_send(part) {
            self.tally = super::part_of(err).tally;
        }
    }
}

impl Clock {
    /// Returns when it is that time.
    fn instant(&self, it: Micros) -> Instant {
        self.began() + Duration::from_micros(it.0)
    }
}
