//! Ends the planner when it is asked to, and notices when it stands still.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use anyhow::Context;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::info;

use super::super::exit::Exit;
use super::watch::TICKS;
use crate::kafka::source::Stop;
use crate::web::Health;

/// A planner that has not ended a tick for so many of them is not ready.
const STILL_TICKS: u32 = 5;

/// Nor is one that takes longer than this and that.
const STILL_MIN: Duration = Duration::from_secs(5);

/// What the thread that waits for signals and the one that plans both know.
#[derive(Clone)]
pub struct Stopping(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    asked: bool,
    reading: Option<Stop>,
    /// When the last tick ended, if there was one.
    ticked: Option<Instant>,
}

impl Stopping {
    /// Begins to wait for SIGTERM and SIGINT.
    pub fn begin(tick: Duration, health: Arc<Health>) -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("begin the runtime of the thread that waits for signals")?;
        let signals = {
            let _within = runtime.enter();
            let on = |kind| signal(kind).context("wait for signals");
            [on(SignalKind::terminate())?, on(SignalKind::interrupt())?]
        };
        let res = Self(Arc::default());
        let stopping = res.clone();
        let wait = move || runtime.block_on(stopping.wait(signals, tick, &health));
        std::thread::Builder::new().name("signals".into()).spawn(wait).context("begin a thread")?;
        Ok(res)
    }

    /// From now on, this ends the reading.
    pub fn reading(&self, stop: Stop) {
        let mut state = self.state();
        if state.asked {
            stop.stop();
        }
        state.reading = Some(stop);
    }

    /// A tick has ended.
    pub fn ticked(&self) {
        self.state().ticked = Some(Instant::now());
    }

    pub fn is_asked(&self) -> bool {
        self.state().asked
    }

    async fn wait(&self, [mut term, mut int]: [Signal; 2], tick: Duration, health: &Health) {
        let mut look = tokio::time::interval(Duration::from_secs(1));
        loop {
            tokio::select! {
                _ = term.recv() => self.ask(),
                _ = int.recv() => self.ask(),
                _ = look.tick() => {
                    let still = self.state().ticked.map(|it| it.elapsed());
                    let still = still.filter(|it| (STILL_TICKS * tick).max(STILL_MIN) < *it);
                    if let Some(still) = still {
                        let reason = format!("no tick for {} s; is Kafka away?", still.as_secs());
                        health.waiting(TICKS, reason);
                    }
                }
            }
        }
    }

    fn ask(&self) {
        let mut state = self.state();
        match (&state.reading, state.asked) {
            (Some(stop), false) => {
                info!("stops after this tick");
                stop.stop();
            }
            // Nothing has begun that is to be ended.
            (None, false) => Exit::Done.leave(),
            (_, true) => {
                info!("stops at once");
                Exit::Failed.leave();
            }
        }
        state.asked = true;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("nobody panics with it in hand")
    }
}
