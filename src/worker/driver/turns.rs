//! Has reads wait for their turn at a capacity that is stated, by their deadlines ([`crate::web::gate`]).
//!
//! ```text
//!  reads come ──> wait ──> the first one ── the service is free, soon ──> taken, or late
//!                  │         └─ past its deadline: late ─┐
//!                  └─ nobody waits for it any more ──────┴─> costs nothing
//! ```
//!
//! * **Nothing is done in vain.** Who waits has taken nothing yet: a request that is given up, as its range has
//!   moved or its time is over, leaves the queue and takes no time from others.
//! * **Soon enough for who asks.** A read is only taken if it is done a little before its deadline, as the
//!   answer has a way to go; else a node with too much to do would do all of it in vain, each read just too late.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::time::sleep_until;

use crate::web::gate::{Gate, Pass};
use crate::worker::service::Service;

/// Timers are no finer than this: one whose turn it is goes ahead by so much.
const AHEAD: Duration = Duration::from_millis(2);

/// Of the time that a read has, this part is for the way of its answer, and no more than that.
const WAY_PART: u32 = 20;
const WAY_MAX: Duration = Duration::from_millis(250);

/// The queue.
pub struct Turns {
    /// Since when the service counts time.
    begun: Instant,
    service: Mutex<Service>,
    gate: Gate,
}

/// One whose turn it is; the next one waits until this is dropped.
pub struct Turn<'a> {
    turns: &'a Turns,
    arrived: Instant,
    /// By when it must be done.
    until: Instant,
    done: Instant,
    _pass: Option<Pass<'a>>,
}

impl Turns {
    pub fn new(service: Service) -> Self {
        Self { begun: Instant::now(), service: Mutex::new(service), gate: Gate::new(1) }
    }

    pub fn service(&self) -> std::sync::MutexGuard<'_, Service> {
        self.service.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// When it is now, as the service counts time.
    pub fn clock_us(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.begun).as_micros() as u64
    }

    /// The turn of who need not wait.
    pub fn at_once(&self, deadline: Instant) -> Turn<'_> {
        let arrived = Instant::now();
        let way = match self.service().is_stated() {
            true => (deadline.saturating_duration_since(arrived) / WAY_PART).min(WAY_MAX),
            false => Duration::ZERO,
        };
        let until = deadline.checked_sub(way).unwrap_or(deadline);
        Turn { turns: self, arrived, until, done: arrived, _pass: None }
    }

    /// Waits until it is the turn of who comes now; `None`: that is not before the deadline. Nobody waits
    /// where no capacity is stated.
    pub async fn wait(&self, deadline: Instant) -> Option<Turn<'_>> {
        let mut turn = self.at_once(deadline);
        let arrived = turn.arrived;
        if !self.service().is_stated() {
            return Some(turn);
        }
        let _waiting = Waiting::begin(self);
        turn._pass = Some(self.gate.pass(turn.until.into()).await?);
        loop {
            let (now, arrived_us) = (Instant::now(), self.clock_us(arrived));
            // What is written and copied may put it off meanwhile.
            let begins_us = self.service().begins_at(arrived_us);
            let begins = now + Duration::from_micros(begins_us.saturating_sub(self.clock_us(now)));
            if begins <= now + AHEAD {
                return Some(turn);
            }
            if turn.until <= begins {
                return None;
            }
            sleep_until((begins - AHEAD).into()).await;
        }
    }
}

impl Turn<'_> {
    /// Tells whether it is too late for anything.
    pub fn is_over(&self) -> bool {
        self.until <= Instant::now()
    }

    /// Takes the time for something; not if it cannot be done soon enough.
    pub fn take(&mut self, cost_us: u64) -> bool {
        let arrived_us = self.turns.clock_us(self.arrived);
        let mut service = self.turns.service();
        let now = Instant::now();
        let now_us = self.turns.clock_us(now);
        let done = |us: u64| now + Duration::from_micros(us.saturating_sub(now_us));
        // What took as long as it took is done.
        if service.is_stated() && self.until < done(service.done_at(arrived_us, cost_us)) {
            return false;
        }
        self.done = done(service.take(now_us, arrived_us, cost_us));
        true
    }

    /// Lets the next one go on, and waits until what was taken is done.
    pub async fn done(self) {
        let done = self.done;
        drop(self);
        if Instant::now() < done {
            sleep_until(done.into()).await;
        }
    }
}

/// One that waits is counted, however it ends.
struct Waiting<'a>(&'a Turns);

impl<'a> Waiting<'a> {
    fn begin(turns: &'a Turns) -> Self {
        turns.service().waits(turns.clock_us(Instant::now()), true);
        Self(turns)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.service().waits(self.0.clock_us(Instant::now()), false);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    /// A thousand microseconds of service a second: a read that costs one takes a millisecond.
    fn turns() -> Arc<Turns> {
        Arc::new(Turns::new(Service::new(Some(1_000))))
    }

    /// Tells how long before its deadline it is done, if it is.
    async fn read(turns: &Turns, cost_us: u64, deadline: Instant) -> Option<Duration> {
        let mut turn = turns.wait(deadline).await?;
        let left = turn.take(cost_us).then(|| deadline.checked_duration_since(turn.done).unwrap());
        turn.done().await;
        left
    }

    fn run<F: Future>(it: F) -> F::Output {
        tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap().block_on(it)
    }

    /// Twice what there is time for: what is taken is done in time, and fills the time.
    #[test]
    fn who_has_too_much_to_do_does_what_it_can_in_time() {
        let turns = turns();
        let answered = run(async {
            let deadline = Instant::now() + Duration::from_secs(2);
            let asked: Vec<_> = (0..200)
                .map(|_| {
                    let turns = turns.clone();
                    tokio::spawn(async move { read(&turns, 20, deadline).await })
                })
                .collect();
            let mut answered = 0;
            for it in asked {
                if let Some(left) = it.await.unwrap() {
                    // A twentieth, of what is left when it comes.
                    assert!(Duration::from_millis(80) <= left, "{left:?} are left for the way");
                    answered += 1;
                }
            }
            answered
        });
        // There is time for a hundred, but for the way; how many of them depends on who else wants the processor.
        assert!((1..=98).contains(&answered), "{answered}");
        assert_eq!(turns.service().done_us(u64::MAX), answered * 20);
    }

    #[test]
    fn who_has_gone_has_taken_nothing() {
        let turns = turns();
        run(async {
            let deadline = Instant::now() + Duration::from_secs(600);
            let first = turns.wait(deadline).await;
            let waiting: Vec<_> = (0..100)
                .map(|_| {
                    let turns = turns.clone();
                    tokio::spawn(async move { read(&turns, 1_000, deadline).await })
                })
                .collect();
            while turns.service().waiting() < 100 {
                tokio::task::yield_now().await;
            }
            waiting.iter().for_each(tokio::task::JoinHandle::abort);
            for it in waiting {
                assert!(it.await.unwrap_err().is_cancelled());
            }
            assert_eq!(turns.service().waiting(), 0);
            drop(first);
            assert!(read(&turns, 1, deadline).await.is_some());
        });
        assert_eq!(turns.service().done_us(u64::MAX), 1);
    }

    #[test]
    fn without_a_stated_capacity_nobody_waits() {
        let turns = Turns::new(Service::new(None));
        run(async {
            let first = turns.wait(Instant::now()).await;
            assert!(first.is_some());
            assert!(turns.wait(Instant::now()).await.is_some());
        });
    }
}
