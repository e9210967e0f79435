//! A small world around a planner process, on a real Kafka: topics, nodes, application.
//!
//! ```text
//!  planner ── process, can be killed ──> migrate_range, assignment ──> Nodes, a thread
//!     ^                                                                  │ statuses, reports,
//!     └────────────── node_capacity, migration_status, query_log <───────┘ and queries with a hot spot
//! ```

mod process;
mod reading;
mod nodes;
mod load;

use std::collections::BTreeMap;
use std::fs::File;
use std::path::PathBuf;
use std::process::Command;
use std::sync::{PoisonError, RwLockReadGuard};
use std::thread;
use std::time::{Duration, Instant};

use isotherm::kafka::Connection;
use isotherm::kafka::admin::{Admin, Topic};
use isotherm::topics::definitions;

use crate::kafka::broker::BROKER;

pub use self::load::Load;
pub use self::nodes::Nodes;
pub use self::process::Process;
pub use self::reading::Raw;

pub const TICK_MS: u64 = 200;

/// How long anything may take that should happen soon: the machine may be busy with other tests.
pub const PATIENCE: Duration = Duration::from_secs(300);

/// Topics of one test, while nobody stops the broker.
pub struct World {
    pub connection: Connection,
    pub folder: tempfile::TempDir,
    /// Of the planners that are started from now on.
    pub mode: &'static str,
    pub birth_nodes: u32,
    /// Of `[planner]`, and sections behind it; and of `[policy]`.
    pub more: &'static str,
    pub policy: &'static str,
    /// What processes log that are started from now on, and more of their environment.
    pub log: &'static str,
    pub environment: Vec<(&'static str, String)>,
    _here: Option<RwLockReadGuard<'static, ()>>,
}

impl World {
    /// Creates the topics, or says that the test is skipped. `settings` are by topic, on top of the
    /// declared ones; `partitions` is how many.
    pub fn create(name: &str, settings: &[(&str, &str, &str)]) -> Option<Self> {
        let Ok(bootstrap_servers) = std::env::var("ISOTHERM_TEST_KAFKA") else {
            say(&format!(
                "SKIPPED {name}: ISOTHERM_TEST_KAFKA is not set, so this is not tested on a real Kafka"
            ));
            return None;
        };
        let here = BROKER.read().unwrap_or_else(PoisonError::into_inner);
        let prefix = format!("{name}-{}-", now_ms());
        let connection = Connection { bootstrap_servers, prefix, ..Connection::default() };
        let mut topics = BTreeMap::new();
        for it in definitions() {
            let mut topic =
                Topic { partitions: it.partitions, replication: 1, settings: it.settings };
            for (_, key, value) in settings.iter().filter(|(topic, _, _)| *topic == it.name) {
                match *key {
                    "partitions" => topic.partitions = value.parse().unwrap(),
                    _ => _ = topic.settings.insert((*key).to_owned(), (*value).to_owned()),
                }
            }
            topics.insert(it.name.to_owned(), topic);
        }
        Admin::open(&connection).unwrap().create(&topics).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let (mode, birth_nodes, more, policy) = ("auto", nodes::NODES, "", "");
        let (log, environment, _here) = ("info", Vec::new(), Some(here));
        Some(Self { connection, folder, mode, birth_nodes, more, policy, log, environment, _here })
    }

    /// Lets go of the broker, so that this test may stop it.
    pub fn leave(&mut self) {
        self._here = None;
    }

    /// Starts a planner; each name has a port, and so a place in the group, of its own.
    pub fn planner(&self, name: &str, fail_points: Option<&str>) -> Process {
        self.planner_of(name, "planner", fail_points)
    }

    /// The same under another planner id.
    pub fn planner_of(&self, name: &str, id: &str, fail_points: Option<&str>) -> Process {
        self.start(name, &["planner", "--id", id], fail_points)
    }

    /// Starts a process that serves its health; each name has a port of its own, and keeps it.
    pub fn start(&self, name: &str, args: &[&str], fail_points: Option<&str>) -> Process {
        let (configuration, log) = (self.path(name, "toml"), self.path(name, "log"));
        let port_file = self.path(name, "port");
        let port = std::fs::read_to_string(&port_file).unwrap_or_else(|_| {
            let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            let port = free.local_addr().unwrap().port().to_string();
            std::fs::write(&port_file, &port).unwrap();
            port
        });
        std::fs::write(&configuration, self.configuration()).unwrap();
        let log = File::options().create(true).append(true).open(log).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_isotherm"));
        let listen = format!("127.0.0.1:{port}");
        command.args(args).args(["--listen", &listen, "--config"]).arg(configuration);
        command.current_dir(&self.folder);
        command.env("NO_COLOR", "1").env("ISOTHERM_LOG", self.log).stderr(log);
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        if let Some(it) = fail_points {
            command.env("FAILPOINTS", it);
        }
        let child = command.spawn().unwrap();
        Process { child, log: self.path(name, "log"), port: port.parse().unwrap() }
    }

    pub fn configuration(&self) -> String {
        let Connection { bootstrap_servers, prefix, .. } = &self.connection;
        let Self { mode, birth_nodes, more, policy, .. } = self;
        // The rungs of the ladder remember most. Who only carries out what people ask has no use for them, and
        // others for the processor.
        let forecast = if *mode == "observe" { "ewma" } else { "ladder" };
        // Ticks that are two minutes late still plan: a busy machine needs longer for one than it is long.
        format!(
            r#"
            [kafka]
            bootstrap_servers = "{bootstrap_servers}"
            prefix = "{prefix}"
            [planner]
            mode = "{mode}"
            forecast = "{forecast}"
            tick = "{TICK_MS}ms"
            grace = "100ms"
            stale_max_ticks = 600
            snapshot_ticks = 25
            silent_ticks = 100
            birth_nodes = {birth_nodes}
            {more}
            [policy]
            cool_down_ticks = 4
            ranges_max = 200
            {policy}
            "#
        )
    }

    fn path(&self, name: &str, extension: &str) -> PathBuf {
        self.folder.path().join(format!("{name}.{extension}"))
    }
}

/// Waits for something to come true.
pub fn await_that<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        thread::park_timeout(Duration::from_millis(10));
    }
}

pub fn now_ms() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.unwrap().as_millis() as u64
}

/// Says it even when the test passes, which is when the harness drops what a test prints.
pub fn say(line: &str) {
    use std::io::Write;
    let mut terminal = std::io::stderr();
    writeln!(terminal, "{line}").unwrap();
}
