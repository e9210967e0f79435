//! Says what a router is told, and how it tells of itself.

use std::collections::BTreeMap;
use std::time::Duration;

use schemas::Generation;

use super::machine::Settings;
use crate::kafka::Connection;
use crate::web::{front, workers};

/// What a router is told at its start.
#[derive(Clone, Debug)]
pub struct Options {
    pub connection: Connection,
    pub settings: Settings,
    pub front: front::Limits,
    pub workers: workers::Limits,
    /// So many clients may be connected, each as long as anything passes.
    pub connections_max: usize,
    pub idle_max: Duration,
    /// So many reads may wait for an answer.
    pub waiting_max: usize,
    /// What a query counts before one of its kind was answered.
    pub read_cost_us: u64,
    pub scan_cost_us: u64,
}

/// How a router does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// Of the map that reads go by; 0: there is none yet.
    pub generation: Generation,
    pub ranges: usize,
    /// Nodes that have said where they serve reads.
    pub endpoints: usize,
    pub waiting: usize,
    /// Since the start.
    pub counts: BTreeMap<&'static str, u64>,
}

/// Looks on while a router runs.
pub trait Watch {
    /// Now and then.
    fn told(&mut self, status: &Status);

    /// Tells whether the router is to end, in order.
    fn is_stopping(&self) -> bool;
}
