//! Compares topics with their declarations, and creates what is missing.

use clap::{Args, Subcommand};

use super::Form;
use super::exit::{Exit, Fault, need_cluster};
use crate::config::Config;

#[derive(Clone, Debug, Subcommand)]
pub enum TopicsCommand {
    /// Tell what differs from the declarations; changes nothing
    Plan(PlanArgs),
    /// Create topics that are missing; changes and deletes none
    Apply(ApplyArgs),
}

#[derive(Clone, Debug, Args)]
pub struct PlanArgs {
    /// Exit with 3 if anything differs
    #[arg(long)]
    pub exit_code: bool,
    /// The form of what is printed
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Form,
}

#[derive(Clone, Debug, Args)]
pub struct ApplyArgs {
    /// Tell what would be created, and create nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Copies of each partition, instead of the declared ones
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub replication_factor: Option<u16>,
    /// The form of what is printed
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Form,
}

pub fn run(config: &Config, _command: &TopicsCommand) -> Result<Exit, Box<Fault>> {
    need_cluster(config)?;
    Err(anyhow::anyhow!("`topics` is not part of this build yet").into())
}
