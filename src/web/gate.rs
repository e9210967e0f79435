//! Lets so many through at once; of those who wait, the one whose deadline is next.
//!
//! ```text
//!  who comes ──> free? ── yes ──────────────────────> passes ──┐
//!     ^           └─ no ──> waits, by deadline ── next ──^     │ has passed: the next one
//!     │                      └─ gives up, or is late: gone     │
//!     └────────────────────────────────────────────────────────┘
//! ```
//!
//! * **By deadline.** Among those with as much time that is the order in which they came. Who has waited at
//!   another node, as its range moved, does not begin at the end of the queue here.
//! * **Who gives up is gone**: it takes no turn.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

/// A gate.
#[derive(Debug)]
pub struct Gate(Mutex<State>);

#[derive(Debug)]
struct State {
    free: usize,
    waiting: BTreeMap<Place, oneshot::Sender<()>>,
    came: u64,
}

/// Deadline, and number of the coming.
type Place = (Instant, u64);

/// One who passes, until this is dropped.
#[derive(Debug)]
pub struct Pass<'a>(&'a Gate);

/// One who waits. A turn that was given to it while it gave up is given on.
struct Waiter<'a> {
    gate: &'a Gate,
    place: Place,
    has_passed: bool,
}

impl Gate {
    pub fn new(at_once: usize) -> Self {
        Self(Mutex::new(State { free: at_once, waiting: BTreeMap::new(), came: 0 }))
    }

    /// Waits until the deadline; `None`: it was not let through.
    pub async fn pass(&self, deadline: Instant) -> Option<Pass<'_>> {
        let (mut waiter, turn) = {
            let mut state = self.state();
            if 0 < state.free {
                state.free -= 1;
                return Some(Pass(self));
            }
            let place = (deadline, state.came);
            state.came += 1;
            let (give, turn) = oneshot::channel();
            state.waiting.insert(place, give);
            (Waiter { gate: self, place, has_passed: false }, turn)
        };
        timeout_at(deadline, turn).await.ok()?.ok()?;
        waiter.has_passed = true;
        Some(Pass(self))
    }

    /// How many wait.
    pub fn waiting(&self) -> usize {
        self.state().waiting.len()
    }

    fn go_on(&self) {
        let mut state = self.state();
        match state.waiting.pop_first() {
            // If it has given up, it finds itself gone from those who wait, and gives its turn on itself.
            Some((_, give)) => _ = give.send(()),
            None => state.free += 1,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Pass<'_> {
    fn drop(&mut self) {
        self.0.go_on();
    }
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        if !self.has_passed && self.gate.state().waiting.remove(&self.place).is_none() {
            self.gate.go_on();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use tokio::sync::mpsc;
    use tokio::task::{JoinHandle, yield_now};

    use super::*;

    fn run<F: Future>(it: F) -> F::Output {
        tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(it)
    }

    /// Has one wait for so many seconds at most, and tell its name when it passes.
    async fn wait(
        gate: &Arc<Gate>,
        told: &mpsc::UnboundedSender<&'static str>,
        (name, seconds): (&'static str, u64),
    ) -> JoinHandle<()> {
        let before = gate.waiting();
        let (gate_of, told, until) =
            (gate.clone(), told.clone(), Instant::now() + Duration::from_secs(seconds));
        let it = tokio::spawn(async move {
            if gate_of.pass(until).await.is_some() {
                told.send(name).unwrap();
            }
        });
        while gate.waiting() == before {
            yield_now().await;
        }
        it
    }

    #[test]
    fn who_has_the_least_time_passes_first_and_who_gives_up_takes_no_turn() {
        run(async {
            let gate = Arc::new(Gate::new(1));
            let (told, mut heard) = mpsc::unbounded_channel();
            let first = gate.pass(Instant::now() + Duration::from_secs(900)).await;
            let mut all = Vec::new();
            for it in [("c", 700), ("a", 500), ("d", 800), ("gone", 400), ("b", 600)] {
                all.push(wait(&gate, &told, it).await);
            }
            all[3].abort();
            drop(first);
            for it in all {
                _ = it.await;
            }
            drop(told);
            let mut order = String::new();
            while let Some(name) = heard.recv().await {
                order.push_str(name);
            }
            assert_eq!(order, "abcd");
            assert_eq!(gate.waiting(), 0);
        });
    }

    #[test]
    fn turn_that_comes_while_its_one_gives_up_goes_to_the_next() {
        run(async {
            let gate = Arc::new(Gate::new(1));
            let (told, mut heard) = mpsc::unbounded_channel();
            let first = gate.pass(Instant::now() + Duration::from_secs(900)).await;
            let gone = wait(&gate, &told, ("gone", 400)).await;
            let next = wait(&gate, &told, ("next", 500)).await;
            // It is given its turn, and is gone before it has looked.
            drop(first);
            gone.abort();
            next.await.unwrap();
            assert_eq!(heard.recv().await, Some("next"));
            assert!(gate.pass(Instant::now() + Duration::from_secs(900)).await.is_some());
        });
    }

    /// Threads that are late and threads that pass meet: no turn is lost, and none is given twice.
    #[test]
    fn turns_stay_as_many_as_they_are_however_many_give_up() {
        let mut threads = tokio::runtime::Builder::new_multi_thread();
        let runtime = threads.worker_threads(4).enable_time().build().unwrap();
        let gate = Arc::new(Gate::new(2));
        let within = Arc::new(AtomicUsize::new(0));
        runtime.block_on(async {
            let all: Vec<_> = (0..20_000_u64)
                .map(|n| {
                    let (gate, within) = (gate.clone(), within.clone());
                    tokio::spawn(async move {
                        let until = Instant::now() + Duration::from_micros(n % 3_000);
                        let Some(_pass) = gate.pass(until).await else { return };
                        let before = within.fetch_add(1, Ordering::SeqCst);
                        assert!(before < 2, "{before} are within");
                        yield_now().await;
                        within.fetch_sub(1, Ordering::SeqCst);
                    })
                })
                .collect();
            for it in all {
                it.await.unwrap();
            }
        });
        assert_eq!((gate.waiting(), gate.state().free), (0, 2));
    }

    #[test]
    fn at_most_so_many_pass_and_who_is_late_does_not() {
        run(async {
            let gate = Gate::new(2);
            let soon = || Instant::now() + Duration::from_millis(5);
            let (a, b) = (gate.pass(soon()).await, gate.pass(soon()).await);
            assert!(a.is_some() && b.is_some() && gate.pass(soon()).await.is_none());
            assert_eq!(gate.waiting(), 0);
            drop(a);
            assert!(gate.pass(soon()).await.is_some());
            drop(b);
        });
    }
}
