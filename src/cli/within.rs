//! Waits for Kafka no longer than a person does.

use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use super::exit::{Exit, Fault};
use crate::kafka::Connection;

/// Kafka has so long to answer who waits for nobody, and looks once.
const ONCE: Duration = Duration::from_secs(10);

/// The time that a command has.
#[derive(Clone, Copy, Debug)]
pub struct Within {
    timeout: Duration,
    begun: Instant,
}

impl Within {
    /// It begins now.
    pub fn new(timeout: Duration) -> Self {
        Self { timeout, begun: Instant::now() }
    }

    /// How much of it is left.
    pub fn left(&self) -> Duration {
        self.timeout.saturating_sub(self.begun.elapsed())
    }

    pub fn is_over(&self) -> bool {
        self.left().is_zero()
    }

    /// Does what may wait for Kafka as long as it takes, on a thread of its own; `None`: the time was up
    /// before. The thread is left alone then, and goes with the process. No time at all is that of one look.
    pub fn ask<T: Send + 'static>(
        &self,
        ask: impl FnOnce() -> anyhow::Result<T> + Send + 'static,
    ) -> anyhow::Result<Option<T>> {
        let (say, said) = channel();
        let ask = move || {
            // Nobody listens when the time is up.
            _ = say.send(ask());
        };
        thread::Builder::new().name("ask".into()).spawn(ask).context("begin a thread")?;
        match said.recv_timeout(self.patience().saturating_sub(self.begun.elapsed())) {
            Ok(answer) => answer.map(Some),
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(RecvTimeoutError::Disconnected) => bail!("the thread that asks Kafka has panicked"),
        }
    }

    /// That nothing was heard of the cluster in this time.
    pub fn unheard(&self, connection: &Connection) -> Box<Fault> {
        let timeout = humantime::format_duration(self.patience());
        let what =
            format!("kafka at {} has not answered within {timeout}", connection.bootstrap_servers);
        let fault = Fault::new(Exit::TimedOut, "isotherm::kafka::timeout", what);
        Box::new(fault.remedy(format!("{REACHABLE}, or wait longer, with --timeout")))
    }

    fn patience(&self) -> Duration {
        if self.timeout.is_zero() { ONCE } else { self.timeout }
    }
}

/// What to do where no broker answers.
pub const REACHABLE: &str = "check --bootstrap-servers and that the broker is reachable";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_not_answered_in_time_goes_on_and_who_is_gets_the_answer() {
        let (never, waits) = channel::<()>();
        let within = Within::new(Duration::from_millis(1));
        let answer = within.ask(move || Ok(waits.recv().is_ok())).unwrap();
        assert_eq!(answer, None);
        assert!(within.is_over());
        drop(never);
        let once = Within::new(Duration::ZERO);
        assert_eq!((once.is_over(), once.ask(|| Ok(7)).unwrap()), (true, Some(7)));
        let within = Within::new(Duration::MAX);
        assert_eq!(within.ask(|| Ok(7)).unwrap(), Some(7));
        let error = within.ask::<u8>(|| bail!("there is no such topic")).unwrap_err();
        assert_eq!(error.to_string(), "there is no such topic");
    }
}
