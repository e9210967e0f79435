//! Turns query logs and capacities into heat, plans and commands, tick by tick.

pub mod settings;
pub mod fleet;
pub mod ranges;
mod passing;
pub mod strips;
pub mod ledger;
pub mod commands;
pub mod elsewhere;
pub mod publish;
pub mod snapshot;
pub mod machine;
pub mod engine;
pub mod progress;
pub mod standing;
pub mod driver;
