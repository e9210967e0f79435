//! Keeps what nodes report: capacity, room, what they hold, and whether they still report.
//!
//! ```text
//!  NODE_CAPACITY ──> valid? ──> same store? ──> Member ──> Node, for the plan
//!  in partition      refused     duplicate       ^         bytes of ranges
//!  order             by reason   ignored         │ load of the tick, at its end
//! ```
//!
//! * **The last good report stands.** One that does not hold water changes nothing, and comes back as
//!   a reason.
//! * **One store a node id.** While the first store reports, a second one under its name is ignored.
//! * **No invented capacity.** A node that does not state one is not managed, with a warning.
//! * **Integers.** Shares become millionths when they come in; all that a plan can see of a node
//!   follows from integers.

use std::collections::{BTreeMap, BTreeSet};

use dataflows::Tick;
use dataflows::balance::Node;
use schemas::node_capacity::{NodeCapacity, NodeState, RangeHeld};
use schemas::{Epoch, Inbox, Key, NodeId};
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// A share of one, in millionths.
const ONE_PPM: u64 = 1_000_000;

/// Above this share of processor or disk, the capacity is what the node is seen to do.
const BUSY_PPM: u64 = ONE_PPM / 2;

/// A capacity that is observed counts so much against what was known before.
const SMOOTHING: i128 = 8;

/// No node is faster: a thousand times a thousand cores.
const CAPACITY_MAX: f64 = 1e12;

/// While a store has reported within so many of its intervals, another one is a duplicate.
const DUPLICATE_INTERVALS: Tick = 3;

/// All nodes that ever reported.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fleet {
    members: BTreeMap<NodeId, Member>,
    /// A node that did not report for so many ticks is given nothing.
    silent_ticks: Tick,
    #[serde(skip)]
    refused: BTreeMap<&'static str, u64>,
}

/// What is known of one node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    pub store_id: String,
    pub inbox: Inbox,
    pub endpoint: Option<String>,
    pub state: NodeState,
    pub reported: Tick,
    /// Ticks between its last two reports; `None` before the second.
    interval: Option<Tick>,
    /// As stated; `None` if it does not tell.
    stated_us_per_s: Option<u64>,
    /// As it counts: stated, or as observed under load, smoothed.
    capacity_us_per_s: u64,
    /// The greater of the loads of processor and disk.
    busy_ppm: u64,
    bytes_free: Option<u64>,
    /// By start and epoch.
    held: BTreeMap<(Key, Epoch), Size>,
}

/// How large a range is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Size {
    pub entries: u64,
    pub bytes: u64,
}

/// What a report changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reported {
    /// A node that was not known.
    Joined,
    Again,
    /// The node is back with an empty store: what it held is lost.
    StoreReplaced,
}

/// Why a report is not used; the variants are the reasons that are counted.
#[derive(Clone, Debug, PartialEq, Error)]
pub enum Refused {
    #[error("a report without a node id or a store id")]
    Nameless,
    #[error("{node}: {field} is {value}, which is no share between 0 and 1")]
    NotAShare { node: NodeId, field: &'static str, value: f64 },
    #[error(
        "{node}: capacity_us_per_s is {value}; state what it can do, above 0 and at most {CAPACITY_MAX:e}"
    )]
    NotACapacity { node: NodeId, value: f64 },
    #[error("{node}: {used} bytes of {field} are used, of {total}")]
    UsedBeyondTotal { node: NodeId, field: &'static str, used: u64, total: u64 },
    #[error(
        "{node}: store {second} reports while store {first} does, at {}: give one of the two another node id",
        endpoint.as_deref().unwrap_or("an endpoint that it does not tell")
    )]
    DuplicateNodeId { node: NodeId, first: String, second: String, endpoint: Option<String> },
}

impl Refused {
    /// A stable code, for counters and dead letters.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Nameless => "capacity_nameless",
            Self::NotAShare { .. } => "capacity_not_a_share",
            Self::NotACapacity { .. } => "capacity_not_a_capacity",
            Self::UsedBeyondTotal { .. } => "capacity_used_beyond_total",
            Self::DuplicateNodeId { .. } => "duplicate_node_id",
        }
    }
}

/// What a person should know about the nodes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Error)]
pub enum Warning {
    #[error("{node} is not managed: it reports no capacity_us_per_s; set it in its configuration")]
    Unmanaged { node: NodeId },
    #[error("{node} is given nothing: it has not reported for {ticks} ticks")]
    Silent { node: NodeId, ticks: Tick },
    #[error(
        "{} share inbox {}: each reads what is for the other, and skips it; configure another inbox",
        nodes.iter().map(|it| it.0.as_str()).collect::<Vec<_>>().join(" and "), inbox.0
    )]
    InboxShared { inbox: Inbox, nodes: BTreeSet<NodeId> },
}

impl Fleet {
    pub fn new(silent_ticks: Tick) -> Self {
        assert!(0 < silent_ticks, "a node may be silent for one tick at least");
        Self { members: BTreeMap::new(), silent_ticks, refused: BTreeMap::new() }
    }

    /// Sets the limit as it is configured now; a snapshot brings the one of its time.
    pub fn limit(&mut self, silent_ticks: Tick) {
        assert!(0 < silent_ticks, "a node may be silent for one tick at least");
        self.silent_ticks = silent_ticks;
    }

    /// Takes in a report of this tick. What is refused is counted by its reason.
    pub fn report(&mut self, tick: Tick, report: &NodeCapacity) -> Result<Reported, Refused> {
        let res = self.take(tick, report);
        if let Err(refused) = &res {
            *self.refused.entry(refused.code()).or_default() += 1;
        }
        res
    }

    /// Takes in the load of each node in this tick, by owner, in `cost_us` per second: what a busy
    /// node was seen to do says what it can do.
    pub fn close(&mut self, tick: Tick, loads: &BTreeMap<NodeId, u64>) {
        for (node, member) in &mut self.members {
            if member.reported == tick {
                member.observe(loads.get(node).copied().unwrap_or(0));
            }
        }
    }

    /// Returns the managed nodes as a plan made at the end of this tick sees them.
    pub fn nodes(
        &self,
        tick: Tick,
        loads: &BTreeMap<NodeId, u64>,
        moves_in_flight: &BTreeMap<NodeId, u32>,
    ) -> BTreeMap<NodeId, Node> {
        let managed = self.members.iter().filter(|(_, it)| it.stated_us_per_s.is_some());
        managed
            .map(|(id, member)| {
                let node = Node {
                    capacity_us_per_s: member.capacity_us_per_s,
                    takes: member.state == NodeState::Up && !self.is_silent(tick, member),
                    bytes_free: member.bytes_free,
                    load_now: loads.get(id).copied().unwrap_or(0),
                    moves_in_flight: moves_in_flight.get(id).copied().unwrap_or(0),
                };
                (id.clone(), node)
            })
            .collect()
    }

    /// Returns how large a range is by its owner's last report; `None` before the first one that
    /// has this epoch.
    pub fn size(&self, node: &NodeId, range_start: &Key, epoch: Epoch) -> Option<Size> {
        self.members.get(node)?.held.get(&(range_start.clone(), epoch)).copied()
    }

    pub fn member(&self, node: &NodeId) -> Option<&Member> {
        self.members.get(node)
    }

    /// Returns what a person should know at the end of this tick, in a stable order.
    pub fn warnings(&self, tick: Tick) -> BTreeSet<Warning> {
        let mut res = BTreeSet::new();
        let mut inboxes: BTreeMap<Inbox, BTreeSet<NodeId>> = BTreeMap::new();
        for (node, member) in &self.members {
            let node = node.clone();
            if self.is_silent(tick, member) {
                res.insert(Warning::Silent { node, ticks: tick - member.reported });
                // Nobody reads its inbox; its capacity is of no use to anyone.
                continue;
            }
            if member.stated_us_per_s.is_none() {
                res.insert(Warning::Unmanaged { node: node.clone() });
            }
            inboxes.entry(member.inbox).or_default().insert(node);
        }
        let shared = inboxes.into_iter().filter(|(_, nodes)| 1 < nodes.len());
        res.extend(shared.map(|(inbox, nodes)| Warning::InboxShared { inbox, nodes }));
        res
    }

    /// How many reports were refused, by reason, since this process began.
    pub fn refused(&self) -> &BTreeMap<&'static str, u64> {
        &self.refused
    }

    fn take(&mut self, tick: Tick, report: &NodeCapacity) -> Result<Reported, Refused> {
        let good = Good::check(report)?;
        let silent_ticks = self.silent_ticks;
        let Some(member) = self.members.get_mut(&report.node_id) else {
            self.members.insert(report.node_id.clone(), Member::new(tick, report, good));
            return Ok(Reported::Joined);
        };
        let gap = tick.saturating_sub(member.reported);
        if report.store_id != member.store_id {
            if gap <= member.rests(silent_ticks) {
                return Err(Refused::DuplicateNodeId {
                    node: report.node_id.clone(),
                    first: member.store_id.clone(),
                    second: report.store_id.clone(),
                    endpoint: member.endpoint.clone(),
                });
            }
            *member = Member::new(tick, report, good);
            return Ok(Reported::StoreReplaced);
        }
        // An interruption is no interval; of several reports in one tick only the last counts.
        if 0 < gap && gap <= member.rests(silent_ticks) {
            member.interval = Some(gap);
        }
        member.update(tick, report, good);
        Ok(Reported::Again)
    }

    fn is_silent(&self, tick: Tick, member: &Member) -> bool {
        self.silent_ticks <= tick.saturating_sub(member.reported)
    }
}

impl Member {
    fn new(tick: Tick, report: &NodeCapacity, good: Good) -> Self {
        let mut res = Self {
            store_id: report.store_id.clone(),
            inbox: report.inbox,
            endpoint: None,
            state: report.state,
            reported: tick,
            interval: None,
            stated_us_per_s: None,
            capacity_us_per_s: good.capacity_us_per_s.unwrap_or(0),
            busy_ppm: 0,
            bytes_free: None,
            held: BTreeMap::new(),
        };
        res.update(tick, report, good);
        res
    }

    fn update(&mut self, tick: Tick, report: &NodeCapacity, good: Good) {
        if self.stated_us_per_s != good.capacity_us_per_s {
            // Another machine under the same name: nothing was observed of it.
            self.stated_us_per_s = good.capacity_us_per_s;
            self.capacity_us_per_s = good.capacity_us_per_s.unwrap_or(0);
        }
        self.reported = tick;
        self.inbox = report.inbox;
        self.endpoint.clone_from(&report.endpoint);
        self.state = report.state;
        self.busy_ppm = good.busy_ppm;
        self.bytes_free = good.bytes_free;
        let size = |it: &RangeHeld| Size { entries: it.entries, bytes: it.bytes };
        self.held =
            report.ranges.iter().map(|it| ((it.range_start.clone(), it.epoch), size(it))).collect();
    }

    fn observe(&mut self, load_us_per_s: u64) {
        let Some(stated) = self.stated_us_per_s else { return };
        let target = if BUSY_PPM < self.busy_ppm {
            i128::from(load_us_per_s) * i128::from(ONE_PPM) / i128::from(self.busy_ppm)
        } else {
            i128::from(stated)
        };
        let known = i128::from(self.capacity_us_per_s);
        // Rounded away from what is known, so that the target is reached.
        let step = target - known;
        let step = (step.abs() + SMOOTHING - 1) / SMOOTHING * step.signum();
        // A node that can do nothing still divides.
        let res = (known + step).clamp(1, CAPACITY_MAX as i128);
        self.capacity_us_per_s = u64::try_from(res).expect("it was just clamped");
    }

    /// For how many ticks its store may rest before another one takes its place.
    fn rests(&self, silent_ticks: Tick) -> Tick {
        self.interval.map_or(silent_ticks, |it| it * DUPLICATE_INTERVALS)
    }
}

/// What a report says in numbers, once they hold water.
struct Good {
    capacity_us_per_s: Option<u64>,
    busy_ppm: u64,
    bytes_free: Option<u64>,
}

impl Good {
    fn check(report: &NodeCapacity) -> Result<Self, Refused> {
        let node = || report.node_id.clone();
        if report.node_id.0.is_empty() || report.store_id.is_empty() {
            return Err(Refused::Nameless);
        }
        let share = |field, value: Option<f64>| match value {
            None => Ok(0),
            Some(value) if (0.0..=1.0).contains(&value) => {
                Ok((value * ONE_PPM as f64).round() as u64)
            }
            Some(value) => Err(Refused::NotAShare { node: node(), field, value }),
        };
        let busy_ppm = share("cpu_load", report.cpu_load)?.max(share("io_load", report.io_load)?);
        share("memory_load", report.memory_load)?;
        let capacity_us_per_s = match report.capacity_us_per_s {
            None => None,
            // Half a microsecond a second would round to a capacity of nothing.
            Some(value) if (1.0..=CAPACITY_MAX).contains(&value) => Some(value.round() as u64),
            Some(value) => return Err(Refused::NotACapacity { node: node(), value }),
        };
        let free = |field, used: Option<u64>, total: Option<u64>| match (used, total) {
            (Some(used), Some(total)) if total < used => {
                Err(Refused::UsedBeyondTotal { node: node(), field, used, total })
            }
            (Some(used), Some(total)) => Ok(Some(total - used)),
            (None, _) | (_, None) => Ok(None),
        };
        free("memory", report.memory_bytes_used, report.memory_bytes_total)?;
        let bytes_free = free("disk", report.disk_bytes_used, report.disk_bytes_total)?;
        Ok(Self { capacity_us_per_s, busy_ppm, bytes_free })
    }
}

#[cfg(test)]
mod tests;
