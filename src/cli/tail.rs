//! Prints the records of a topic.

use clap::{Args, ValueEnum};

use super::args::{Moment, moment};
use super::exit::{Exit, Fault, need_cluster};
use super::keys::KeyFormat;
use crate::config::Config;

#[derive(Clone, Debug, Args)]
pub struct TailArgs {
    /// Such as plan; the configured prefix is added
    pub topic: String,
    /// Begin there: beginning, end, -15m, RFC 3339, Unix time
    #[arg(long, value_parser = moment, value_name = "WHEN", default_value = "end", allow_hyphen_values = true)]
    pub from: Moment,
    /// End at what the topic holds now, instead of waiting for more
    #[arg(long)]
    pub no_follow: bool,
    /// End after so many records
    #[arg(short = 'n', long, value_name = "N")]
    pub count: Option<u64>,
    /// The form of what is printed
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Lines,
    /// How keys are written
    #[arg(long, value_enum, default_value_t)]
    pub key_format: KeyFormat,
}

/// The form of a stream of records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Lines {
    /// A line that a person reads
    #[default]
    Table,
    /// One JSON value a line
    Jsonl,
}

pub fn run(config: &Config, _args: &TailArgs) -> Result<Exit, Box<Fault>> {
    need_cluster(config)?;
    Err(anyhow::anyhow!("`tail` is not part of this build yet").into())
}
