//! Tells a process that it is asked to end: by SIGTERM or SIGINT, in order; by a second one, at once.
//!
//! * **Bounded.** Who does not end in time, as while Kafka is away, gives up. That is no worse than to be
//!   killed: what was not stored is read again after the next start.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context;
use tokio::signal::unix::{SignalKind, signal};
use tracing::{error, info};

use super::exit::Exit;
use crate::telemetry;

/// Whether the process is asked to end.
#[derive(Clone, Debug, Default)]
pub struct Signals(Arc<AtomicBool>);

impl Signals {
    /// Begins to wait for signals, on a thread of its own.
    pub fn begin() -> anyhow::Result<Self> {
        Self::begin_within(Duration::MAX)
    }

    /// The same; a process that is asked to end has so long.
    pub fn begin_within(stop_within: Duration) -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("begin the runtime of the thread that waits for signals")?;
        let [mut term, mut int] = {
            let _within = runtime.enter();
            let on = |kind| signal(kind).context("wait for signals");
            [on(SignalKind::terminate())?, on(SignalKind::interrupt())?]
        };
        let res = Self::default();
        let signals = res.clone();
        let wait = async move {
            loop {
                tokio::select! {
                    _ = term.recv() => signals.ask(),
                    _ = int.recv() => signals.ask(),
                    () = tokio::time::sleep(stop_within), if signals.is_asked() => {
                        give_up(stop_within);
                    }
                }
            }
        };
        let run = move || runtime.block_on(wait);
        std::thread::Builder::new().name("signals".into()).spawn(run).context("begin a thread")?;
        Ok(res)
    }

    pub fn is_asked(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }

    fn ask(&self) {
        if self.0.swap(true, Ordering::AcqRel) {
            info!("stops at once");
            Exit::Failed.leave();
        }
        info!("stops in order");
    }
}

fn give_up(stop_within: Duration) {
    let within = humantime::format_duration(stop_within);
    error!(
        "has not ended within {within}, and gives up: what Kafka has not got is sent again after the next \
         start; is Kafka away?"
    );
    telemetry::end();
    Exit::TimedOut.leave();
}
