//! `[router]`: how reads of the index find who answers them.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::web::under_way::WRITTEN_WITHIN;

/// `[router]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Router {
    /// Where reads are served, and `/livez` and `/readyz`.
    pub listen: SocketAddr,
    /// A read that is not answered by then fails; its own deadline, if that is earlier.
    #[serde(with = "super::humane")]
    pub deadline: Duration,
    /// Who is asked to end and has not by then gives up, as when Kafka is away.
    #[serde(with = "super::humane")]
    pub stop_within: Duration,
    /// So many reads may wait for an answer; what comes then is refused.
    pub reads_waiting_max: usize,
    /// So many reads may come in one request.
    pub batch_reads_max: usize,
    /// So many entries are in the answer to one read; it says behind what to go on.
    pub entries_max: usize,
    /// So many clients may be connected.
    pub connections_max: usize,
    /// To each worker there are so many connections, and so many requests on them.
    pub worker_connections_max: usize,
    pub worker_requests_max: usize,
}

impl Default for Router {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 7073)),
            deadline: Duration::from_secs(30),
            stop_within: Duration::from_secs(60),
            reads_waiting_max: 20_000,
            batch_reads_max: 1_000,
            entries_max: 10_000,
            connections_max: 4_096,
            worker_connections_max: 2,
            worker_requests_max: 256,
        }
    }
}

impl Router {
    /// Tells (key, reason, remedy) of what does not hold.
    pub(super) fn check(&self) -> Vec<(&'static str, String, &'static str)> {
        let mut res = Vec::new();
        let positive = [
            ("router.reads_waiting_max", self.reads_waiting_max),
            ("router.batch_reads_max", self.batch_reads_max),
            ("router.entries_max", self.entries_max),
            ("router.connections_max", self.connections_max),
            ("router.worker_connections_max", self.worker_connections_max),
            ("router.worker_requests_max", self.worker_requests_max),
        ];
        for (key, value) in positive {
            if value == 0 {
                res.push((key, "it must be at least 1".into(), "leave it out for the default"));
            }
        }
        if self.reads_waiting_max < self.batch_reads_max {
            let reason = "a batch of router.batch_reads_max reads could never be taken";
            res.push(("router.reads_waiting_max", reason.into(), "leave it out for the default"));
        }
        if self.deadline < Duration::from_millis(1) {
            let reason = "every read would be late";
            res.push(("router.deadline", reason.into(), "set it to `30s`"));
        }
        if self.stop_within < self.deadline + WRITTEN_WITHIN {
            let reason =
                "reads that are under way may take until router.deadline, and 2s more to write";
            res.push((
                "router.stop_within",
                reason.into(),
                "set it to router.deadline and 2s more, or longer",
            ));
        }
        res
    }
}
