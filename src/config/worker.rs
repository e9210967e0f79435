//! `[worker]`: how a node holds its ranges and serves them.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::web::under_way::WRITTEN_WITHIN;

/// `[worker]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Worker {
    /// The name of the node; no two workers have the same.
    pub node_id: String,
    /// Where the store is, in a folder for each node.
    pub dir: PathBuf,
    /// Where reads are served, and `/livez` and `/readyz`.
    pub listen: SocketAddr,
    /// Where routers find it, if that is not where it listens.
    pub endpoint: Option<String>,
    /// The partition of its inboxes; without it, one is chosen by the node's name. It stays as it was when
    /// the store was made.
    pub inbox: Option<u32>,
    /// What the worker may take, the program itself included: of the rest a quarter is for the store's cache
    /// and write buffers, a sixteenth for what is sent ahead to it.
    pub memory_bytes: u64,
    /// So much of the disk stays free.
    pub disk_reserve_bytes: u64,
    #[serde(with = "super::humane")]
    pub report_every: Duration,
    /// The worker works no faster than so many microseconds of service a second: reads as one queue, and beside
    /// it what is written and copied. Without it, it is as fast as it goes, and says what its processors could do.
    pub capacity_us_per_s: Option<u64>,
    /// What copying a megabyte counts, if a capacity is stated.
    pub copy_mb_us: u64,
    /// What the disk can do, of which the part in use is reported.
    pub io_bytes_per_s: Option<u64>,
    /// So many records are taken in a step.
    pub step_records_max: usize,
    /// What a source may send ahead of acknowledgements, of one stream and of all to this node.
    pub stream_credit_bytes: u64,
    pub inbox_credit_bytes: u64,
    /// Changes that wait behind a stream; beyond them it begins anew.
    pub backlog_bytes_max: usize,
    /// How long what was moved away is kept after the end of the migration, for routers that are late.
    #[serde(with = "super::humane")]
    pub grace: Duration,
    /// A read that is not answered by then is late; its own deadline, if that is earlier.
    #[serde(with = "super::humane")]
    pub deadline: Duration,
    /// Who is asked to end and has not by then gives up, as when Kafka is away.
    #[serde(with = "super::humane")]
    pub stop_within: Duration,
    /// So many reads may come in one request.
    pub batch_reads_max: usize,
    /// So many routers may be connected.
    pub connections_max: usize,
}

impl Default for Worker {
    fn default() -> Self {
        Self {
            node_id: String::new(),
            dir: PathBuf::from("data"),
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 7074)),
            endpoint: None,
            inbox: None,
            memory_bytes: 512 << 20,
            disk_reserve_bytes: 256 << 20,
            report_every: Duration::from_secs(1),
            capacity_us_per_s: None,
            copy_mb_us: 10_000,
            io_bytes_per_s: None,
            step_records_max: 500,
            stream_credit_bytes: 8 << 20,
            inbox_credit_bytes: 24 << 20,
            backlog_bytes_max: 16 << 20,
            grace: Duration::from_secs(30),
            deadline: Duration::from_secs(30),
            stop_within: Duration::from_secs(60),
            batch_reads_max: 1_000,
            connections_max: 1_024,
        }
    }
}

impl Worker {
    /// Tells (key, reason, remedy) of what does not hold.
    pub(super) fn check(&self) -> Vec<(&'static str, String, &'static str)> {
        let mut res = Vec::new();
        let positive = [
            ("worker.step_records_max", self.step_records_max),
            ("worker.batch_reads_max", self.batch_reads_max),
            ("worker.connections_max", self.connections_max),
        ];
        for (key, value) in positive {
            if value == 0 {
                res.push((key, "it must be at least 1".into(), "leave it out for the default"));
            }
        }
        if self.node_id.contains(['/', '\\']) || matches!(self.node_id.as_str(), "." | "..") {
            let reason = "it is the name of a folder, too";
            res.push(("worker.node_id", reason.into(), "give it another"));
        }
        if self.memory_bytes < 64 << 20 {
            let reason = "a worker needs 64 MiB, 24 of them for the program itself";
            res.push(("worker.memory_bytes", reason.into(), "set it to 536870912"));
        }
        if self.report_every < Duration::from_millis(50) {
            let reason = "each report is a record, so 50ms is the least";
            res.push(("worker.report_every", reason.into(), "set it to `1s`"));
        }
        if self.inbox_credit_bytes < self.stream_credit_bytes || self.stream_credit_bytes < 1 << 20
        {
            let reason = "a stream needs a MiB, and an inbox as much as a stream";
            res.push(("worker.stream_credit_bytes", reason.into(), "leave both out"));
        }
        if self.capacity_us_per_s == Some(0) {
            let reason = "a node without capacity serves nothing";
            res.push(("worker.capacity_us_per_s", reason.into(), "set it to 1000000"));
        }
        if self.stop_within < self.deadline + WRITTEN_WITHIN {
            let reason =
                "reads that are under way may take until worker.deadline, and 2s more to write";
            res.push((
                "worker.stop_within",
                reason.into(),
                "set it to worker.deadline and 2s more, or longer",
            ));
        }
        res
    }
}
