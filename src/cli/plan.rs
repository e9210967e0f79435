//! Reads plans back, and tells them.

use clap::{Args, Subcommand};

use super::Form;
use super::args::{Moment, moment};
use super::exit::{Exit, Fault, need_cluster};
use super::keys::KeyFormat;
use crate::config::Config;

#[derive(Clone, Debug, Subcommand)]
pub enum PlanCommand {
    /// A line for each plan
    List(ListArgs),
    /// Tell a plan: why, what was chosen, what was not
    Show(ShowArgs),
}

#[derive(Clone, Debug, Args)]
pub struct ListArgs {
    /// Begin there: beginning, -15m, RFC 3339, Unix time
    #[arg(long, value_parser = moment, value_name = "WHEN", default_value = "beginning", allow_hyphen_values = true)]
    pub from: Moment,
    /// The form of what is printed
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Form,
}

#[derive(Clone, Debug, Args)]
pub struct ShowArgs {
    /// Such as p-212
    pub id: String,
    /// The form of what is printed
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Form,
    /// How keys are written
    #[arg(long, value_enum, default_value_t)]
    pub key_format: KeyFormat,
}

pub fn run(config: &Config, _command: &PlanCommand) -> Result<Exit, Box<Fault>> {
    need_cluster(config)?;
    Err(anyhow::anyhow!("`plan` is not part of this build yet").into())
}
