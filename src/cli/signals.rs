//! Tells a process that it is asked to end: by SIGTERM or SIGINT, in order; by a second one, at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context;
use tokio::signal::unix::{SignalKind, signal};
use tracing::info;

use super::exit::Exit;

/// Whether the process is asked to end.
#[derive(Clone, Debug, Default)]
pub struct Signals(Arc<AtomicBool>);

impl Signals {
    /// Begins to wait for signals, on a thread of its own.
    pub fn begin() -> anyhow::Result<Self> {
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
            std::process::exit(Exit::Failed as i32);
        }
        info!("stops in order");
    }
}
