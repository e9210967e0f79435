//! Prints a script that completes commands in a shell.

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use super::exit::{Exit, Fault};
use super::{Cli, print};

#[derive(Clone, Debug, Args)]
pub struct CompletionsArgs {
    /// The shell
    #[arg(value_enum)]
    pub shell: Shell,
}

pub fn run(args: &CompletionsArgs) -> Result<Exit, Box<Fault>> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "isotherm", &mut script);
    print(&String::from_utf8_lossy(&script))?;
    Ok(Exit::Done)
}
