//! Says how a command can come out: exit statuses, and failures that a person can act on.

use std::error::Error;
use std::fmt;

use miette::Diagnostic;

use super::within::REACHABLE;
use crate::config::Config;
use crate::config::layers::ConfigError;

/// The status of the process when it ends; scripts rely on the numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    Done = 0,
    Failed = 1,
    /// The command line or the configuration does not hold.
    Usage = 2,
    /// With `--exit-code`: something is to be changed.
    Pending = 3,
    /// What it was based on has changed.
    Stale = 4,
    /// By a budget, a pin or the policy.
    Refused = 5,
    TimedOut = 6,
}

impl Exit {
    /// Ends the process at once. What libraries would do at its end is left out: threads of theirs may still be
    /// at work, and crash where OpenSSL has put away what they work with. Who prints has to flush: another thread
    /// may be held up by whoever reads standard output, and is not waited for here.
    pub fn leave(self) -> ! {
        // SAFETY: it ends the process, whose memory and files nobody needs any more.
        unsafe { libc::_exit(self as i32) }
    }
}

/// Why a command failed, and what to do.
#[derive(Debug)]
pub struct Fault {
    pub exit: Exit,
    /// Stable, such as `isotherm::topics::drift`.
    pub code: String,
    pub what: String,
    pub why: Option<Cause>,
    pub remedy: Option<String>,
}

/// One link of what led to a failure.
#[derive(Debug)]
pub struct Cause {
    text: String,
    next: Option<Box<Cause>>,
}

impl Fault {
    pub fn new(exit: Exit, code: &str, what: impl Into<String>) -> Self {
        Self { exit, code: code.into(), what: what.into(), why: None, remedy: None }
    }

    pub fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = Some(remedy.into());
        self
    }

    /// With the chain of causes of an error.
    pub fn because(mut self, error: &(dyn Error + 'static)) -> Self {
        let chain: Vec<String> = std::iter::successors(Some(error), |&it| it.source())
            .map(ToString::to_string)
            .collect();
        let link = |next, text| Some(Cause { text, next: Option::map(next, Box::new) });
        self.why = chain.into_iter().rev().fold(None, link);
        self
    }
}

/// Fails unless the configuration says where the cluster is; what reads or writes one asks first.
pub fn need_cluster(config: &Config) -> Result<(), Box<Fault>> {
    if !config.kafka.bootstrap_servers.is_empty() {
        return Ok(());
    }
    let what = "no cluster is configured: `kafka.bootstrap_servers` is empty";
    let remedy = "set it in isotherm.toml, or give --bootstrap-servers HOST:PORT";
    Err(Box::new(Fault::new(Exit::Usage, "isotherm::config::no_cluster", what).remedy(remedy)))
}

impl From<anyhow::Error> for Box<Fault> {
    fn from(error: anyhow::Error) -> Self {
        // One that has been an error in between is still itself.
        let error = match error.downcast::<Self>() {
            Ok(fault) => return fault,
            Err(error) => error,
        };
        let mut fault = Fault::new(Exit::Failed, "isotherm::failed", error.to_string());
        if error.chain().any(|it| is_away(&it.to_string())) {
            fault = fault.remedy(REACHABLE);
        }
        Self::new(match error.chain().nth(1) {
            Some(cause) => fault.because(cause),
            None => fault,
        })
    }
}

/// Tells whether an error says, in the words of the clients, that no broker answers.
fn is_away(text: &str) -> bool {
    text.split_once("kafka at ").is_some_and(|(_, it)| {
        it.contains(" cannot be reached: ") || it.ends_with(" did not answer in time")
    })
}

impl From<ConfigError> for Box<Fault> {
    fn from(error: ConfigError) -> Self {
        let text = |it: Option<Box<dyn fmt::Display + '_>>| it.map(|it| it.to_string());
        let code = text(error.code()).unwrap_or_default();
        let remedy = text(error.help());
        let what = error.to_string();
        Self::new(Fault { exit: Exit::Usage, code, what, why: None, remedy })
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

impl Error for Fault {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.why.as_ref().map(|it| it as &dyn Error)
    }
}

impl Diagnostic for Fault {
    fn code(&self) -> Option<Box<dyn fmt::Display + '_>> {
        Some(Box::new(&self.code))
    }

    fn help(&self) -> Option<Box<dyn fmt::Display + '_>> {
        self.remedy.as_ref().map(|it| Box::new(it) as Box<dyn fmt::Display>)
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Error for Cause {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.next.as_ref().map(|it| &**it as &dyn Error)
    }
}

#[cfg(test)]
mod tests {
    use anyhow::Context;

    use super::*;

    #[test]
    fn command_without_a_cluster_says_how_to_name_one() {
        let mut config = Config::default();
        let fault = need_cluster(&config).unwrap_err();
        assert_eq!(
            (fault.exit, fault.code.as_str()),
            (Exit::Usage, "isotherm::config::no_cluster")
        );
        assert!(fault.remedy.as_ref().is_some_and(|it| it.contains("--bootstrap-servers")));
        config.kafka.bootstrap_servers = "localhost:9092".into();
        assert!(need_cluster(&config).is_ok());
    }

    #[test]
    fn cluster_that_is_away_has_a_remedy_and_what_is_told_already_keeps_its_own() {
        let told = |text: &'static str| Box::<Fault>::from(anyhow::anyhow!(text)).remedy;
        for away in [
            "kafka at a:1,b:1 cannot be reached: a:1/bootstrap: Connection refused",
            "list topics: kafka at a:1 did not answer in time",
        ] {
            assert_eq!(told(away).as_deref(), Some(REACHABLE), "{away}");
        }
        assert_eq!(told("there is no topic plan at a:1"), None);
        let fault = Fault::new(Exit::Stale, "isotherm::x", "it has changed").remedy("look again");
        let error = anyhow::Error::new(Box::new(fault)).context("look at it");
        let fault = Box::<Fault>::from(error);
        assert_eq!((fault.exit, fault.remedy.as_deref()), (Exit::Stale, Some("look again")));
    }

    #[test]
    fn causes_are_told_in_order() {
        let error = Err::<(), _>(std::io::Error::other("connection refused"))
            .context("ask broker 3")
            .context("read the topics")
            .unwrap_err();
        let fault = Box::<Fault>::from(error);
        let causes =
            std::iter::successors(fault.source(), |&it| it.source()).map(|it| it.to_string());
        assert_eq!(causes.collect::<Vec<_>>(), ["ask broker 3", "connection refused"]);
        assert_eq!((fault.to_string().as_str(), fault.exit), ("read the topics", Exit::Failed));
    }
}
