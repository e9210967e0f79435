//! Names points at which a test lets the planner die, or say something else: only in builds with debug assertions, as tests have.

/// The planner is here; `FAILPOINTS` may say that it dies, or waits.
pub fn pass(point: &str) {
    if cfg!(debug_assertions) {
        fail::fail_point!(point);
    }
}

/// What `FAILPOINTS` has a planner say here, by `return(…)`.
pub fn said(point: &str) -> Option<String> {
    if cfg!(debug_assertions) {
        fail::fail_point!(point, |it| it);
    }
    None
}

/// Reads `FAILPOINTS`, until what is returned is dropped. A point that panics ends the process as SIGKILL
/// does, with nothing cleaned up.
pub fn begin() -> Option<fail::FailScenario<'static>> {
    if !cfg!(debug_assertions) {
        return None;
    }
    let scenario = fail::FailScenario::setup();
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        usual(panic);
        let id = std::process::id().to_string();
        let killed = std::process::Command::new("kill").args(["-9", &id]).status();
        // Not reached, unless there is no such program.
        tracing::error!(?killed, "does not die");
        std::process::abort();
    }));
    Some(scenario)
}
