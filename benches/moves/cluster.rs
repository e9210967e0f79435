//! Runs Isotherm's processes on a real Kafka, as people do: by their command lines.

use std::collections::BTreeMap;
use std::fs::File;
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use isotherm::kafka::writer::Writer;
use isotherm::kafka::{Connection, Output};
use rand::{RngCore, SeedableRng};
use rand_pcg::Pcg64;
use schemas::operator_command::{self, OperatorCommand};
use schemas::table::RowChanged;
use schemas::wire::{Record as _, encode};
use schemas::{Key, NodeId};
use serde_json::Value;

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(300);

/// Index keys of rows are so many hexadecimal digits, evenly spread.
pub fn key(row: u64) -> Key {
    Key(format!("{:016x}", row.wrapping_mul(0x9e37_79b9_7f4a_7c15)).into_bytes())
}

/// What a move may take.
pub enum Bandwidth {
    Unbounded,
    /// As people have it who set nothing.
    Default,
}

/// Topics, a folder, and processes that end with it.
pub struct Cluster {
    pub connection: Connection,
    folder: tempfile::TempDir,
    processes: BTreeMap<String, (Child, u16)>,
}

impl Cluster {
    /// Starts a planner that does what it is told, these workers, a channel and a router. The index is split
    /// at these keys, and shared out among these workers.
    pub fn start(
        bootstrap_servers: &str,
        split_points: &str,
        nodes: &[&str],
        worker: &[&str],
        bandwidth: Bandwidth,
    ) -> Self {
        let prefix = format!("bench-{}-", std::process::id());
        let connection = Connection {
            bootstrap_servers: bootstrap_servers.to_owned(),
            prefix: format!("{prefix}{}-", now_ms()),
            ..Connection::default()
        };
        let folder = tempfile::tempdir().expect("a folder for a benchmark");
        let mut res = Self { connection, folder, processes: BTreeMap::new() };
        let Connection { bootstrap_servers, prefix, .. } = &res.connection;
        let birth_nodes = nodes.len();
        let bandwidth = match bandwidth {
            Bandwidth::Unbounded => "[policy]\nbandwidth_bytes_per_s = 100000000000",
            Bandwidth::Default => "",
        };
        let configuration = format!(
            r#"
            [kafka]
            bootstrap_servers = "{bootstrap_servers}"
            prefix = "{prefix}"
            [planner]
            mode = "observe"
            tick = "200ms"
            grace = "100ms"
            birth_nodes = {birth_nodes}
            split_points = [{split_points}]
            [channel]
            watermark_every = "500ms"
            [worker]
            grace = "1s"
            {bandwidth}
            "#
        );
        std::fs::write(res.folder.path().join("isotherm.toml"), configuration).expect("room");
        res.command(&["topics", "apply", "--replication-factor", "1"]);
        res.spawn("planner", &["planner"]);
        nodes.iter().for_each(|it| res.join(it, worker));
        res.spawn("channel", &["channel"]);
        res.spawn("router", &["router"]);
        res
    }

    /// Starts a worker.
    pub fn join(&mut self, node: &str, more: &[&str]) {
        let args = [&["worker", "--dir", "data", "--node-id", node], more].concat();
        self.spawn(node, &args);
    }

    /// Waits until a node has reported, and a worker's compaction, which goes on behind what is asked, is over.
    pub fn rest(&self, node: &str) {
        self.wait("a report", || self.command(&["node", "list"]).contains(node).then_some(()));
        self.wait("rest", || {
            let before = self.cpu(node);
            thread::park_timeout(Duration::from_secs(2));
            (self.cpu(node) - before < 0.5).then_some(())
        });
    }

    fn spawn(&mut self, name: &str, args: &[&str]) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("it is bound").port();
        drop(listener);
        let log = File::create(self.folder.path().join(name)).expect("room");
        let child = self
            .isotherm(args)
            .args(["--listen", &format!("127.0.0.1:{port}")])
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("the binary is built");
        self.processes.insert(name.to_owned(), (child, port));
    }

    fn isotherm(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_isotherm"));
        command.args(args).current_dir(&self.folder).env("NO_COLOR", "1");
        command
    }

    /// Runs a command and returns what it prints.
    pub fn command(&self, args: &[&str]) -> String {
        let output = self.isotherm(args).output().expect("the binary is built");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "isotherm {args:?}: {said}");
        String::from_utf8(output.stdout).expect("it prints text")
    }

    /// Writes rows that do not compress, and waits until the index has them.
    pub fn write_rows(&self, rows: u64, payload_bytes: usize) {
        self.send_rows((0..rows).map(|it| (it, None)), payload_bytes, 1);
        self.await_rows(rows);
    }

    /// Writes rows, each with its key before.
    pub fn send_rows(
        &self,
        rows: impl Iterator<Item = (u64, Option<Key>)>,
        payload_bytes: usize,
        seed: u64,
    ) {
        let writer = Writer::open(&self.connection, "bench").expect("a writer can be opened");
        let mut random = Pcg64::seed_from_u64(seed);
        for (row, before) in rows {
            let mut payload = vec![0; payload_bytes];
            random.fill_bytes(&mut payload);
            let change = RowChanged { before, after: Some(key(row)), payload: Some(payload) };
            let primary = row.to_be_bytes().to_vec();
            let output = Output::new(RowChanged::TOPIC, primary, encode(&change));
            writer.send(&output).expect("the broker takes it");
        }
        writer.flush().expect("the broker takes all");
    }

    /// Waits until the index has so many rows, and nothing moves.
    pub fn await_rows(&self, rows: u64) {
        self.wait("the rows in the index", || {
            let ranges = self.ranges();
            let entries = ranges.iter().map(|it| it["entries"].as_u64()).sum::<Option<u64>>();
            let is_settled = ranges.iter().all(|it| it["migration"].is_null());
            (is_settled && entries == Some(rows)).then_some(())
        });
    }

    /// Has a range moved, as `isotherm move` does that does not wait.
    pub fn ask_to_move(&self, start: &[u8], end: &[u8], to: &str) {
        let command = OperatorCommand {
            node: Some(NodeId(to.to_owned())),
            range_start: Some(Key(start.to_vec())),
            range_end: Some(Key(end.to_vec())),
            ..OperatorCommand::new(
                format!("bench-{}", now_ms()),
                operator_command::Command::Move,
                "bench".to_owned(),
                "reads beside a move".to_owned(),
            )
        };
        let writer = Writer::open(&self.connection, "bench").expect("a writer can be opened");
        let mut output = Output::new(OperatorCommand::TOPIC, Vec::new(), encode(&command));
        output.key = None;
        writer.send(&output).and_then(|()| writer.flush()).expect("the broker takes it");
    }

    /// What `isotherm range list` tells.
    pub fn ranges(&self) -> Vec<Value> {
        let output = self.isotherm(&["range", "list", "-o", "json"]).output();
        serde_json::from_slice(&output.expect("the binary is built").stdout).unwrap_or_default()
    }

    /// The partition of a node's inboxes.
    pub fn inbox(&self, node: &str) -> u32 {
        self.wait("a report", || {
            let output = self.isotherm(&["node", "list", "-o", "json"]).output();
            let output = output.expect("the binary is built");
            let nodes: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap_or_default();
            let it = nodes.iter().find(|it| it["node"] == node)?;
            Some(it["inbox"].as_u64()? as u32)
        })
    }

    /// Sends a process a signal.
    pub fn signal(&self, name: &str, signal: &str) {
        let id = self.processes[name].0.id().to_string();
        let done = Command::new("kill").args([signal, &id]).status().expect("kill is there");
        assert!(done.success(), "kill {signal} {name}: {done}");
    }

    pub fn port(&self, name: &str) -> u16 {
        self.processes[name].1
    }

    /// CPU seconds that all of them have taken.
    pub fn cpu_of_all(&self) -> f64 {
        self.processes.keys().map(|it| self.cpu(it)).sum()
    }

    /// CPU seconds that a process has taken, user and system.
    pub fn cpu(&self, name: &str) -> f64 {
        let id = self.processes[name].0.id();
        let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).expect("it runs");
        // Behind the name, which may have any characters.
        let fields: Vec<_> = stat.rsplit(')').next().expect("it has a name").split(' ').collect();
        let ticks = |at: usize| fields[at].parse::<f64>().expect("a number");
        // A tick of the clock is a hundredth of a second on Linux.
        (ticks(12) + ticks(13)) / 100.0
    }

    /// The most memory that a process has had resident, in bytes.
    pub fn peak_bytes(&self, name: &str) -> u64 {
        self.status(name, "VmHWM:")
    }

    /// What it has resident now, in bytes.
    pub fn resident_bytes(&self, name: &str) -> u64 {
        self.status(name, "VmRSS:")
    }

    fn status(&self, name: &str, field: &str) -> u64 {
        let id = self.processes[name].0.id();
        let status = std::fs::read_to_string(format!("/proc/{id}/status")).expect("it runs");
        let line = status.lines().find_map(|it| it.strip_prefix(field)).expect("Linux says it");
        line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") << 10
    }

    /// Lets the peak of a process begin anew.
    pub fn forget_peak(&self, name: &str) {
        let id = self.processes[name].0.id();
        std::fs::write(format!("/proc/{id}/clear_refs"), "5").expect("it is ours");
    }

    pub fn wait<T>(&self, what: &str, mut look: impl FnMut() -> Option<T>) -> T {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(found) = look() {
                return found;
            }
            if deadline < Instant::now() {
                let logs = self.processes.keys().map(|it| {
                    let log = std::fs::read_to_string(self.folder.path().join(it));
                    format!("{it}: {}\n", log.unwrap_or_default())
                });
                panic!("waited in vain for {what}\n{}", logs.collect::<String>());
            }
            thread::park_timeout(Duration::from_millis(100));
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for (child, _) in self.processes.values_mut() {
            // It may have ended already.
            _ = child.kill();
            _ = child.wait();
        }
    }
}

pub fn now_ms() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.expect("it is later than 1970").as_millis() as u64
}
