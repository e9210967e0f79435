//! Asks the planner for something, as a person, and waits for its answer.
//!
//! ```text
//!  operator_command ──> planner ──> plan of its next tick: done, begun, or refused and why
//! ```

use std::time::Duration;

use anyhow::Context;
use rand::rngs::OsRng;
use rand::{Rng, TryRngCore};
use schemas::operator_command::{Command, OperatorCommand};
use schemas::plan::{CommandAnswered, Planned};
use schemas::wire::{Record as _, decode, encode};

use super::exit::Fault;
use super::signals::Signals;
use super::within::Within;
use crate::kafka::follow::{Follower, From};
use crate::kafka::writer::Writer;
use crate::kafka::{Connection, Output};

/// So long a signal may go unseen.
pub const LOOK_EVERY: Duration = Duration::from_millis(200);

/// A command of whoever types, with an id of its own, that names nothing yet.
pub fn command(command: Command, reason: &str) -> OperatorCommand {
    OperatorCommand::new(
        format!("c-{:016x}", OsRng.unwrap_err().random::<u64>()),
        command,
        actor(),
        reason.to_owned(),
    )
}

pub fn ask(connection: &Connection, command: &OperatorCommand) -> anyhow::Result<()> {
    let writer = Writer::open(connection, "ask")?;
    let output = Output::new(OperatorCommand::TOPIC, Vec::new(), encode(command));
    writer.send(&Output { key: None, ..output })?;
    writer.flush().context("ask the planner")
}

/// Asks, and returns the answer; `None` if there was none in time, or a signal came.
pub fn answer(
    connection: &Connection,
    command: &OperatorCommand,
    timeout: Duration,
) -> Result<Option<CommandAnswered>, Box<Fault>> {
    let within = Within::new(timeout);
    // From before it is asked on, so that no answer is missed.
    let asked = within.ask({
        let (connection, command) = (connection.clone(), command.clone());
        move || {
            let follower = followed(&connection)?;
            ask(&connection, &command)?;
            Ok(follower)
        }
    });
    let Some(mut follower) = asked? else { return Err(within.unheard(connection)) };
    let signals = Signals::begin()?;
    loop {
        let left = within.left();
        if left.is_zero() || signals.is_asked() {
            return Ok(None);
        }
        let Some(record) = follower.poll(left.min(LOOK_EVERY))? else { continue };
        // A plan that cannot be read is of a newer planner, and answers somebody else.
        let Some(Ok(plan)) = record.value.as_deref().map(decode::<Planned>) else { continue };
        if let Some(it) = plan.commands.into_iter().find(|it| it.command == command.id) {
            return Ok(Some(it));
        }
    }
}

/// Follows what there will be of plans.
fn followed(connection: &Connection) -> anyhow::Result<Follower> {
    let mut follower = Follower::open(connection, "ask")?;
    let partitions = follower.partitions(Planned::TOPIC)?;
    follower.add(partitions.into_iter().map(|it| (it, From::End)))?;
    Ok(follower)
}

/// Who types.
fn actor() -> String {
    let of = |name: &str| std::env::var(name).ok().filter(|it| !it.is_empty());
    let user = of("USER").or_else(|| of("LOGNAME")).unwrap_or("somebody".into());
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").ok().or_else(|| of("HOSTNAME"));
    match host.map(|it| it.trim().to_owned()).filter(|it| !it.is_empty()) {
        Some(host) => format!("{user}@{host}"),
        None => user,
    }
}
