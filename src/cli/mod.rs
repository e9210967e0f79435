//! Takes what a person types, and answers: data on standard output, all else on standard error.
//!
//! ```text
//!  Cli ──> Settings ──> command ──> text ──> Exit
//!          layers,      one file
//!          flags last   each
//! ```
//!
//! * **Every failure says what, why and what to do**, with a stable code and an exit status.
//! * **Configuration first.** A command that needs it does not begin before all of it holds.

pub mod exit;
mod named;
mod within;
pub mod args;
mod ask;
pub mod keys;
pub mod config;
pub mod completions;
pub mod signals;
pub mod result_file;
pub mod checks;
pub mod planner;
pub mod channel;
pub mod worker;
pub mod load;
pub mod router;
pub mod topics;
pub mod replay;
pub mod demo;
pub mod panels;
pub mod forecast;
pub mod train;
pub mod tail;
pub mod records;
pub mod values;
pub mod query_log;
pub mod columns;
pub mod plan;
pub mod told;
pub mod index;
pub mod range;
pub mod node;
pub mod move_range;
pub mod verify;

use std::io::Write;
use std::path::PathBuf;

use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum};

use crate::config::Config;
use crate::config::layers::{Loaded, Sources};
use crate::telemetry::{self, Verbosity};
use exit::{Exit, Fault};

/// Keeps a range-partitioned index evenly warm.
#[derive(Debug, Parser)]
#[command(name = "isotherm", version, about, propagate_version = true, max_term_width = 100)]
pub struct Cli {
    #[command(flatten)]
    pub shared: Shared,
    #[command(subcommand)]
    pub command: Command,
}

/// What every command understands.
#[derive(Clone, Debug, Default, Args)]
pub struct Shared {
    /// Read this file after the usual ones; may be given several times
    #[arg(long, global = true, value_name = "FILE", help_heading = "Everywhere")]
    pub config: Vec<PathBuf>,
    /// Where the cluster is, instead of `kafka.bootstrap_servers`
    #[arg(long, global = true, value_name = "HOST:PORT,…", help_heading = "Everywhere")]
    pub bootstrap_servers: Option<String>,
    /// Stands before the names of topics, instead of `kafka.prefix`
    #[arg(long, global = true, value_name = "TEXT", help_heading = "Everywhere")]
    pub prefix: Option<String>,
    /// Log errors only
    #[arg(short, long, global = true, conflicts_with = "verbose", help_heading = "Everywhere")]
    pub quiet: bool,
    /// Log more; twice for all there is
    #[arg(short, long, global = true, action = ArgAction::Count, help_heading = "Everywhere")]
    pub verbose: u8,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// See it all at work in one process: an index under load, balanced while it moves
    Demo(Box<demo::DemoArgs>),
    /// Run the control plane: queries and capacities in, assignments and commands out
    Planner(planner::PlannerArgs),
    /// Run the table's channel: changes of rows in, index entries to the nodes that own them
    Channel(channel::ChannelArgs),
    /// Run a node of the index: holds ranges, serves reads of them, hands them over
    Worker(worker::WorkerArgs),
    /// Put load on the index: write rows and changes of them, or play a scenario or a trace
    Load(Box<load::LoadArgs>),
    /// Run a query router: reads in, answers of the nodes that own the keys out
    Router(router::RouterArgs),
    /// Compare the cluster's topics with the declared ones, and create what is missing
    #[command(subcommand)]
    Topics(topics::TopicsCommand),
    /// Show what would have been done with a query log, or check what was done
    Replay(Box<replay::ReplayArgs>),
    /// Measure the forecast; show or swap its network
    #[command(subcommand)]
    Forecast(forecast::ForecastCommand),
    /// Train the network of the forecast
    Train(train::TrainArgs),
    /// Print the records of a topic
    Tail(tail::TailArgs),
    /// Read plans: what was decided, and why
    #[command(subcommand)]
    Plan(plan::PlanCommand),
    /// See who owns which range
    #[command(subcommand)]
    Range(range::RangeCommand),
    /// See the nodes, as they report
    #[command(subcommand)]
    Node(node::NodeCommand),
    /// Move a range to a node by hand
    Move(move_range::MoveArgs),
    /// Compare all that workers hold with the source table
    Verify(verify::VerifyArgs),
    /// Read the configuration
    #[command(subcommand)]
    Config(config::ConfigCommand),
    /// Print a script that completes commands in a shell
    Completions(completions::CompletionsArgs),
}

/// The form of what is printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Form {
    #[default]
    Table,
    Json,
    /// One JSON value a line
    Jsonl,
}

/// Runs a command, and tells a failure on standard error.
pub fn main(cli: Cli) -> Exit {
    telemetry::init(cli.verbosity());
    let ended = run(cli);
    telemetry::end();
    match ended {
        Ok(exit) => exit,
        Err(fault) => {
            let exit = fault.exit;
            eprintln!("{:?}", miette::Report::new(*fault));
            exit
        }
    }
}

fn run(cli: Cli) -> Result<Exit, Box<Fault>> {
    let Cli { shared, command } = cli;
    if let Some(process) = command.process() {
        telemetry::begin(process)?;
    }
    match command {
        Command::Demo(args) => {
            demo::check_cluster(shared.bootstrap_servers.as_deref(), &args)?;
            demo::run(&shared.settled(args.flags())?, &args)
        }
        Command::Planner(args) => planner::run(&shared.settled(args.flags())?, &args),
        Command::Channel(args) => channel::run(&shared.settled(args.flags())?, &args),
        Command::Worker(args) => worker::run(&shared.settled(args.flags())?, &args),
        Command::Load(args) => load::run(&shared.settled(Vec::new())?, &args),
        Command::Router(args) => router::run(&shared.settled(args.flags())?, &args),
        Command::Topics(command) => topics::run(&shared.settled(Vec::new())?, &command),
        Command::Replay(args) => replay::run(&shared.settled(args.flags())?, &args),
        Command::Forecast(command) => forecast::run(&shared.settled(command.flags())?, &command),
        Command::Train(args) => train::run(&shared.settled(args.flags())?, &args),
        Command::Tail(args) => tail::run(&shared.settled(args.flags())?, &args),
        Command::Plan(command) => plan::run(&shared.settled(Vec::new())?, &command),
        Command::Range(command) => range::run(&shared.settled(Vec::new())?, &command),
        Command::Node(command) => node::run(&shared.settled(Vec::new())?, &command),
        Command::Move(args) => move_range::run(&shared.settled(Vec::new())?, &args),
        Command::Verify(args) => verify::run(&shared.settled(Vec::new())?, &args),
        Command::Config(command) => config::run(&shared.load(Vec::new())?, &command),
        Command::Completions(args) => completions::run(&args),
    }
}

impl Cli {
    fn verbosity(&self) -> Verbosity {
        match (self.shared.verbosity(), &self.command) {
            // It shows by itself what goes on.
            (Verbosity::Normal, Command::Demo(_)) => Verbosity::Warnings,
            (it, _) => it,
        }
    }
}

impl Command {
    /// Returns the kind of process that this is, if it runs until it is asked to end.
    fn process(&self) -> Option<&'static str> {
        match self {
            Self::Planner(_) => Some("planner"),
            Self::Channel(_) => Some("channel"),
            Self::Worker(_) => Some("worker"),
            Self::Router(_) => Some("router"),
            Self::Demo(_)
            | Self::Load(_)
            | Self::Topics(_)
            | Self::Replay(_)
            | Self::Forecast(_)
            | Self::Train(_)
            | Self::Tail(_)
            | Self::Plan(_)
            | Self::Range(_)
            | Self::Node(_)
            | Self::Move(_)
            | Self::Verify(_)
            | Self::Config(_)
            | Self::Completions(_) => None,
        }
    }
}

/// A flag that sets a key: (flag, key, value).
pub type Flag = (&'static str, &'static str, String);

impl Shared {
    fn verbosity(&self) -> Verbosity {
        match (self.quiet, self.verbose) {
            (true, _) => Verbosity::Quiet,
            (false, 0) => Verbosity::Normal,
            (false, 1) => Verbosity::Verbose,
            (false, _) => Verbosity::All,
        }
    }

    /// Merges all layers, with the flags of the command on top.
    fn load(&self, flags: Vec<Flag>) -> Result<Loaded, Box<Fault>> {
        let mut sources = Sources::usual();
        sources.named.clone_from(&self.config);
        let shared = [
            ("--bootstrap-servers", "kafka.bootstrap_servers", &self.bootstrap_servers),
            ("--prefix", "kafka.prefix", &self.prefix),
        ];
        let given = |(flag, key, value): (_, _, &Option<String>)| Some((flag, key, value.clone()?));
        sources.flags = shared.into_iter().filter_map(given).chain(flags).collect();
        Ok(sources.load()?)
    }

    /// The same with secrets filled in: what a process needs.
    fn settled(&self, flags: Vec<Flag>) -> Result<Config, Box<Fault>> {
        Ok(self.load(flags)?.into_config()?)
    }
}

/// Prints data. A reader that went away (`| head`) is no failure.
fn print(text: &str) -> Result<(), Box<Fault>> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(anyhow::Error::new(error).context("write to standard output").into())
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests;
