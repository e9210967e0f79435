//! Sets up the log: on standard error, fragments with fields, coloured only on a terminal.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

/// Filters as `tracing` knows them, such as `isotherm=debug`; wins over `-v` and `-q`.
const FILTER_VARIABLE: &str = "ISOTHERM_LOG";

/// How much is logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verbosity {
    /// `-q`: errors.
    Quiet,
    /// Where a view tells what goes on.
    Warnings,
    Normal,
    /// `-v`: what is decided, and why.
    Verbose,
    /// `-vv`: each record, and what libraries say.
    All,
}

impl Verbosity {
    fn filter(self) -> &'static str {
        match self {
            Self::Quiet => "error",
            Self::Warnings => "warn",
            Self::Normal => "info",
            Self::Verbose => "info,isotherm=debug,dataflows=debug",
            Self::All => "debug,isotherm=trace,dataflows=trace",
        }
    }
}

/// Begins to log; a second call changes nothing.
pub fn init(verbosity: Verbosity) {
    let filter = EnvFilter::try_from_env(FILTER_VARIABLE)
        .unwrap_or_else(|_| EnvFilter::new(verbosity.filter()));
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(is_coloured(std::io::stderr().is_terminal()))
        .with_target(false)
        .finish();
    // Only tests begin twice.
    let _ = tracing::subscriber::set_global_default(subscriber);
}

/// Tells whether to write colours; `NO_COLOR` set to anything says no.
pub fn is_coloured(is_terminal: bool) -> bool {
    is_terminal && std::env::var_os("NO_COLOR").is_none_or(|it| it.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_filter_is_one() {
        let all = [
            Verbosity::Quiet,
            Verbosity::Warnings,
            Verbosity::Normal,
            Verbosity::Verbose,
            Verbosity::All,
        ];
        for it in all {
            EnvFilter::try_new(it.filter()).unwrap();
        }
        assert!(!is_coloured(false));
    }
}
