use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    isotherm::cli::main(isotherm::cli::Cli::parse())
}
