//! The broker of a real Kafka: stopped, started and paused by `docker/kafka`, by one test at a time.

use std::process::Command;
use std::sync::{PoisonError, RwLock, RwLockWriteGuard};

use crate::kafka::report;

/// Written by who stops the broker, read by who needs it.
pub static BROKER: RwLock<()> = RwLock::new(());

/// The broker, for a test that stops it and is alone with it; it runs again when this is dropped.
pub struct Broker {
    script: String,
    is_stopped: bool,
    _alone: RwLockWriteGuard<'static, ()>,
}

impl Broker {
    /// Waits until nobody else needs it; `None`, and a line, if no script is known to stop it by.
    pub fn alone(test: &str) -> Option<Self> {
        let name = "ISOTHERM_TEST_KAFKA_SCRIPT";
        let Ok(script) = std::env::var(name) else {
            report(&format!("SKIPPED {test}: {name} is not set, so no broker is stopped"));
            return None;
        };
        let _alone = BROKER.write().unwrap_or_else(PoisonError::into_inner);
        Some(Self { script, is_stopped: false, _alone })
    }

    pub fn stop(&mut self) {
        self.is_stopped = true;
        kafka(&self.script, &["stop", "1"]);
    }

    /// Lets it hang, its connections open, while something is done.
    pub fn paused<T>(&self, during: impl FnOnce() -> T) -> T {
        kafka(&self.script, &["pause", "1"]);
        let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(during));
        kafka(&self.script, &["resume", "1"]);
        done.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    pub fn start(&mut self) {
        kafka(&self.script, &["start", "1"]);
        self.is_stopped = false;
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        if self.is_stopped {
            // The test has failed: those after it shall not fail for that.
            _ = Command::new(&self.script).args(["start", "1"]).status();
        }
    }
}

pub fn kafka(script: &str, arguments: &[&str]) {
    let status = Command::new(script).args(arguments).status().unwrap();
    assert!(status.success(), "{script} {arguments:?}: {status}");
}
