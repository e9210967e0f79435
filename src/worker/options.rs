//! Says what a worker is told, and how it tells of itself.

use std::collections::BTreeMap;
use std::time::Duration;

use schemas::{Generation, Inbox, NodeId};

use super::events::Settings;
use super::service::Costs;
use super::serving::Limits;
use crate::kafka::Connection;
use crate::store::fjall;
use crate::table::rows::Rows;
use crate::web::back;

/// What a worker is told at its start.
#[derive(Debug)]
pub struct Options {
    pub connection: Connection,
    pub node: NodeId,
    /// `None`: any, or the one that the store has had.
    pub inbox: Option<Inbox>,
    pub store: fjall::Options,
    /// Node, inbox, partitions and how long a scan may take are of what is found.
    pub settings: Settings,
    pub rows: Rows,
    pub limits: Limits,
    pub back: back::Limits,
    /// What a scan of the table may have fetched ahead.
    pub scan_bytes_max: u64,
    pub connections_max: usize,
    pub idle_max: Duration,
    /// Where others find it; `None`: where it listens.
    pub endpoint: Option<String>,
    pub report_every: Duration,
    /// Microseconds of service a second, and no faster; `None`: as fast as it goes.
    pub capacity_us_per_s: Option<u64>,
    pub costs: Costs,
    /// What the disk can do, if that is known.
    pub io_bytes_per_s: Option<u64>,
}

/// How a worker does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// Of the map that its roles are by; 0: there is none yet.
    pub generation: Generation,
    /// What was there at the start is read.
    pub is_started: bool,
    /// Intervals in which it has a role.
    pub roles: usize,
    /// Live entries of what is active, and their bytes, about.
    pub entries: u64,
    pub bytes: u64,
    /// Scans of the table that are under way.
    pub scans: usize,
    /// Why writes have stopped.
    pub no_room: Option<String>,
    /// Since the start.
    pub counts: BTreeMap<&'static str, u64>,
}

/// Looks on while a worker runs.
pub trait Watch {
    /// Now and then.
    fn told(&mut self, status: &Status);

    /// Tells whether the worker is to end, in order.
    fn is_stopping(&self) -> bool;
}
