//! `[channel]`: how the index is kept equal to the table.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// `[channel]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Channel {
    /// The consumer group; channels of one group share the partitions of the table.
    pub group: String,
    /// A name that this channel has again after a restart, and no other channel has: then it keeps its
    /// partitions. Without one, they go to the others at once when it ends.
    pub member: String,
    /// So often, and when something changes, offsets are committed and watermarks are written.
    #[serde(with = "super::humane")]
    pub watermark_every: Duration,
    /// Who is asked to end and has not by then gives up, as when Kafka is away.
    #[serde(with = "super::humane")]
    pub stop_within: Duration,
    /// Where `/livez` and `/readyz` are served.
    pub listen: SocketAddr,
}

impl Default for Channel {
    fn default() -> Self {
        Self {
            group: "channel".into(),
            member: String::new(),
            watermark_every: Duration::from_secs(1),
            stop_within: Duration::from_secs(60),
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 7072)),
        }
    }
}

impl Channel {
    /// Tells (key, reason, remedy) of what does not hold.
    pub(super) fn check(&self) -> Vec<(&'static str, String, &'static str)> {
        let mut res = Vec::new();
        if self.group.is_empty() {
            res.push(("channel.group", "a channel needs a group".into(), "set it to `channel`"));
        }
        if self.watermark_every < Duration::from_millis(10) {
            let reason = "each of them is a record for every node, so 10ms is the least";
            res.push(("channel.watermark_every", reason.into(), "set it to `1s`"));
        }
        if self.stop_within < Duration::from_secs(1) {
            let reason = "what is sent has to be written and committed first";
            res.push(("channel.stop_within", reason.into(), "set it to `60s`"));
        }
        res
    }
}
