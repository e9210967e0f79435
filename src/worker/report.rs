//! Says how the node does and what it holds: NODE_CAPACITY, and all intervals for who verifies.

use schemas::node_capacity::{NodeCapacity, NodeState, RangeHeld};
use schemas::{Epoch, Inbox, NodeId};

use super::machine::Worker;
use super::states::{Erasing, Held, Remembered, Role, Then};
use crate::transfer::digest::listed;
use crate::web::held::{self, HeldInterval};

/// What a node is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Who {
    pub node: NodeId,
    pub store_id: String,
    pub inbox: Inbox,
    /// Where it serves reads, `host:port`.
    pub endpoint: String,
}

/// How a node feels; what is not known is `None`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Gauged {
    /// Parts of all there is, 0 to 1.
    pub cpu_load: Option<f64>,
    pub memory_load: Option<f64>,
    pub io_load: Option<f64>,
    pub capacity_us_per_s: Option<f64>,
    pub memory_bytes_total: Option<u64>,
    pub memory_bytes_used: Option<u64>,
    pub disk_bytes_total: Option<u64>,
    pub disk_bytes_used: Option<u64>,
}

/// Makes a report.
pub fn report(
    who: &Who,
    gauged: &Gauged,
    state: NodeState,
    remembered: &Remembered,
) -> NodeCapacity {
    let ranges = remembered.roles.values().filter_map(owned).collect();
    NodeCapacity {
        node_id: who.node.clone(),
        store_id: who.store_id.clone(),
        cpu_load: gauged.cpu_load,
        memory_load: gauged.memory_load,
        io_load: gauged.io_load,
        capacity_us_per_s: gauged.capacity_us_per_s,
        memory_bytes_total: gauged.memory_bytes_total,
        memory_bytes_used: gauged.memory_bytes_used,
        disk_bytes_total: gauged.disk_bytes_total,
        disk_bytes_used: gauged.disk_bytes_used,
        endpoint: Some(who.endpoint.clone()),
        inbox: who.inbox,
        state,
        ranges,
    }
}

fn owned(held: &Held) -> Option<RangeHeld> {
    let (epoch, size) = match &held.role {
        Role::Active(it) => (it.epoch, it.size),
        Role::Applying(it) => (it.epoch, it.size),
        Role::Rebuild(it) => (it.epoch, it.size),
        Role::Erasing(_) | Role::Import(_) | Role::Leaving(_) => return None,
    };
    let range_start = held.span.start.clone();
    Some(RangeHeld { range_start, epoch, entries: size.entries, bytes: size.bytes })
}

/// Returns the intervals in which there is a role, in key order.
pub fn intervals(worker: &Worker) -> Vec<HeldInterval> {
    worker.remembered().roles.values().map(|it| interval(worker, it)).collect()
}

fn interval(worker: &Worker, held: &Held) -> HeldInterval {
    let (role, epoch, floors) = match &held.role {
        Role::Active(it) => (held::Role::Active, it.epoch, listed(&worker.floors(it))),
        Role::Erasing(Erasing { then, .. }) => (held::Role::Erasing, on_the_way(then), Vec::new()),
        Role::Import(it) => (held::Role::Import, it.source_epoch, Vec::new()),
        Role::Applying(it) => (held::Role::Applying, it.epoch, listed(&it.floors)),
        Role::Rebuild(it) => (held::Role::Rebuild, it.epoch, Vec::new()),
        Role::Leaving(it) => (held::Role::Leaving, it.epoch, listed(&it.floors)),
    };
    let (range_start, range_end) = (held.span.start.clone(), held.span.end.clone());
    HeldInterval { range_start, range_end, role, epoch, floors }
}

fn on_the_way(then: &Then) -> Epoch {
    match then {
        Then::None => Epoch(0),
        Then::Import(it) | Then::NextStream(it) => it.source_epoch,
        Then::Rebuild(it) | Then::ScanAnew(it) => it.epoch,
    }
}
