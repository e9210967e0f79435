//! Models the nodes of a replay: carries the planner's commands out, and answers as workers would.
//!
//! ```text
//!  END of tick t: START ─> delay ─> COPYING ── bytes at a share of 50 MB/s ──> READY   in tick t + 1 …
//!                 assignment with the migration ─> ACTIVE ─> delay ─> COMPLETE
//!                 assignment from TABLE         ─> delay ─> COMPLETE
//!                 CANCEL ─> FAILED
//! ```
//!
//! * **Event time only.** It is told of what was committed at the end of a tick, and says what
//!   happens in the next one, with stamps in it.
//! * **Copying costs.** Both ends are charged for what they copy; a node's copies share its bandwidth.
//! * **Integers**, so that the same commands have the same answers on any machine.

use std::collections::BTreeMap;

use schemas::assignment::{Assignment, Source};
use schemas::migrate_range::{Command, MigrateRange};
use schemas::migration_status::{MigrationStatus, Phase, Status};
use schemas::node_capacity::{NodeCapacity, NodeState, RangeHeld};
use schemas::{Epoch, Inbox, Key, KeySpan, MigrationId, Millis, NodeId};

use crate::keys::{WHOLE, fraction};

/// What a modelled node is able to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Model {
    pub bandwidth_bytes_per_s: u64,
    /// Time of each end for each MiB that it copies.
    pub copy_us_per_mib: u64,
    /// Between a command and its first effect, and between the last effect and COMPLETE.
    pub delay_ms: u64,
}

impl Default for Model {
    fn default() -> Self {
        Self { bandwidth_bytes_per_s: 50_000_000, copy_us_per_mib: 2_000, delay_ms: 100 }
    }
}

/// How many bytes lie where: even within each interval.
#[derive(Clone, Debug)]
pub struct DataSet {
    /// Where an interval begins, and its bytes; in key order.
    pub intervals: Vec<(KeySpan, u64)>,
}

impl DataSet {
    /// Returns the bytes of a key interval.
    pub fn bytes(&self, span: &KeySpan) -> u64 {
        let within = |(it, bytes): &(KeySpan, u64)| {
            let part = u128::from(fraction(it, &span.end, true) - fraction(it, &span.start, false));
            (u128::from(*bytes) * part / u128::from(WHOLE)) as u64
        };
        self.intervals.iter().filter(|(it, _)| it.overlaps(span)).map(within).sum()
    }

    pub fn total(&self) -> u64 {
        self.intervals.iter().map(|it| it.1).sum()
    }
}

/// What happens in a tick, in the order of its stamps.
#[derive(Clone, Debug, Default)]
pub struct Answers {
    pub statuses: Vec<(Millis, MigrationStatus)>,
    pub reports: Vec<(Millis, NodeCapacity)>,
    /// Time that copying took of each node.
    pub copy_us: BTreeMap<NodeId, u64>,
}

/// All nodes of a replay.
#[derive(Debug)]
pub struct Executor {
    model: Model,
    data: DataSet,
    nodes: BTreeMap<NodeId, u64>,
    owned: BTreeMap<Key, Assignment>,
    jobs: BTreeMap<MigrationId, Job>,
    pub bytes_moved: u64,
}

#[derive(Clone, Debug)]
struct Job {
    span: KeySpan,
    /// Who tells of it.
    destination: NodeId,
    ends: Option<[NodeId; 2]>,
    epoch: Epoch,
    bytes: u64,
    stage: Stage,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// The command is on its way until then.
    Starting(Millis),
    /// So many thousandths of a byte are left.
    Copying(u128),
    Ready,
    /// Committed: active at once, complete then.
    Active(Option<Millis>),
    Cancelled,
}

impl Executor {
    /// Models nodes with their capacities, in microseconds a second.
    pub fn new(model: Model, data: DataSet, nodes: BTreeMap<NodeId, u64>) -> Self {
        let (owned, jobs) = (BTreeMap::new(), BTreeMap::new());
        Self { model, data, nodes, owned, jobs, bytes_moved: 0 }
    }

    /// Takes in a command that was committed at `now`.
    pub fn commanded(&mut self, now: Millis, it: &MigrateRange) {
        match it.command {
            Command::Start => {
                let span = KeySpan { start: it.range_start.clone(), end: it.range_end.clone() };
                let bytes = self.data.bytes(&span);
                let destination = it.destination_node.clone();
                let ends = Some([it.source_node.clone(), destination.clone()]);
                let stage = Stage::Starting(Millis(now.0 + self.model.delay_ms));
                let epoch = it.source_epoch;
                let job = Job { span, destination, ends, epoch, bytes, stage };
                self.jobs.insert(it.migration, job);
            }
            Command::Cancel => {
                if let Some(job) = self.jobs.get_mut(&it.migration)
                    && !matches!(job.stage, Stage::Active(_))
                {
                    job.stage = Stage::Cancelled;
                }
            }
            Command::Unknown => (),
        }
    }

    /// Takes in a record of the assignment that was committed at `now`.
    pub fn assigned(&mut self, now: Millis, start: Key, it: Option<Assignment>) {
        let Some(it) = it else {
            self.owned.remove(&start);
            return;
        };
        let done = Millis(now.0 + self.model.delay_ms);
        match (it.source, it.migration) {
            (Source::Node, Some(migration)) => {
                if let Some(job) = self.jobs.get_mut(&migration) {
                    (job.stage, job.epoch) = (Stage::Active(Some(done)), it.epoch);
                    self.bytes_moved += job.bytes;
                }
            }
            (Source::Table, Some(migration)) => {
                let span = KeySpan { start: it.range_start.clone(), end: it.range_end.clone() };
                let stage = Stage::Active(Some(done));
                let destination = it.node.clone();
                let (ends, epoch, bytes) = (None, it.epoch, 0);
                let job = Job { span, destination, ends, epoch, bytes, stage };
                self.jobs.insert(migration, job);
            }
            (Source::None | Source::Unknown | Source::Node | Source::Table, _) => (),
        }
        self.owned.insert(start, it);
    }

    /// Says what happens in `[from, to)`.
    pub fn run(&mut self, from: Millis, to: Millis) -> Answers {
        let mut answers = Answers::default();
        let mut now = from;
        while now < to {
            self.step(now, &mut answers);
            let next = self.next_event(now).min(to);
            self.copy(now, next, &mut answers);
            now = next;
        }
        // As of the last millisecond of the tick, which is what it reports on.
        let stamp = Millis(to.0 - 1);
        answers.reports = self.reports().map(|it| (stamp, it)).collect();
        answers
    }

    /// Makes every transition that is due.
    fn step(&mut self, now: Millis, answers: &mut Answers) {
        let mut over = Vec::new();
        for (&id, job) in &mut self.jobs {
            let mut say = |job: &Job, status, phase| {
                answers.statuses.push((now, job.status(id, status, phase)));
            };
            match job.stage {
                Stage::Starting(at) if at <= now => {
                    job.stage = Stage::Copying(u128::from(job.bytes) * 1000);
                    say(job, Status::InProgress, Some(Phase::Copying));
                }
                Stage::Copying(0) => {
                    job.stage = Stage::Ready;
                    say(job, Status::InProgress, Some(Phase::Ready));
                }
                Stage::Active(Some(at)) if at <= now => {
                    say(job, Status::Complete, None);
                    over.push(id);
                }
                Stage::Active(Some(at)) if at.0 - self.model.delay_ms == now.0 => {
                    say(job, Status::InProgress, Some(Phase::Active));
                }
                Stage::Cancelled => {
                    say(job, Status::Failed, None);
                    over.push(id);
                }
                Stage::Starting(_) | Stage::Copying(_) | Stage::Ready | Stage::Active(_) => (),
            }
        }
        over.iter().for_each(|id| _ = self.jobs.remove(id));
    }

    /// Thousandths of bytes a millisecond for each copy: a node's copies share what it can do.
    fn rates(&self) -> BTreeMap<MigrationId, u128> {
        let mut copies = BTreeMap::<&NodeId, u128>::new();
        let copying = |it: &&Job| matches!(it.stage, Stage::Copying(left) if left > 0);
        for end in self.jobs.values().filter(copying).flat_map(|it| it.ends.iter().flatten()) {
            *copies.entry(end).or_default() += 1;
        }
        let all = u128::from(self.model.bandwidth_bytes_per_s);
        let rate = |job: &Job| {
            let most = job.ends.iter().flatten().map(|end| copies[end]).max().unwrap_or(1);
            (all / most).max(1)
        };
        self.jobs.iter().filter(|it| copying(&it.1)).map(|(id, it)| (*id, rate(it))).collect()
    }

    fn next_event(&self, now: Millis) -> Millis {
        let rates = self.rates();
        let at = |(id, job): (&MigrationId, &Job)| match job.stage {
            Stage::Starting(at) | Stage::Active(Some(at)) => Some(at.0),
            Stage::Copying(left) if left > 0 => {
                Some(now.0 + u64::try_from(left.div_ceil(rates[id])).unwrap_or(u64::MAX / 2))
            }
            Stage::Copying(_) | Stage::Cancelled => Some(now.0 + 1),
            Stage::Ready | Stage::Active(None) => None,
        };
        let next = self.jobs.iter().filter_map(at).map(|it| it.max(now.0 + 1)).min();
        Millis(next.unwrap_or(u64::MAX))
    }

    fn copy(&mut self, from: Millis, to: Millis, answers: &mut Answers) {
        for (id, rate) in self.rates() {
            let job = self.jobs.get_mut(&id).expect("it has a rate");
            let Stage::Copying(left) = job.stage else { continue };
            let done = left.min(rate * u128::from(to.0 - from.0));
            job.stage = Stage::Copying(left - done);
            let cost = done * u128::from(self.model.copy_us_per_mib) / (1000 << 20);
            for end in job.ends.iter().flatten() {
                *answers.copy_us.entry(end.clone()).or_default() += cost as u64;
            }
        }
    }

    /// Who owns what, by start.
    pub fn owned(&self) -> &BTreeMap<Key, Assignment> {
        &self.owned
    }

    /// What each node reports of itself and of what it owns.
    pub fn reports(&self) -> impl Iterator<Item = NodeCapacity> {
        (0..).zip(&self.nodes).map(|(inbox, (node, capacity))| {
            let held = |(start, it): (&Key, &Assignment)| RangeHeld {
                range_start: start.clone(),
                epoch: it.epoch,
                entries: self.data.bytes(&span_of(it)) >> 10,
                bytes: self.data.bytes(&span_of(it)),
            };
            NodeCapacity {
                node_id: node.clone(),
                store_id: format!("modelled-{node}"),
                cpu_load: None,
                memory_load: None,
                io_load: None,
                capacity_us_per_s: Some(*capacity as f64),
                memory_bytes_total: None,
                memory_bytes_used: None,
                disk_bytes_total: None,
                disk_bytes_used: None,
                endpoint: None,
                inbox: Inbox(inbox),
                state: NodeState::Up,
                ranges: self.owned.iter().filter(|it| it.1.node == *node).map(held).collect(),
            }
        })
    }
}

fn span_of(it: &Assignment) -> KeySpan {
    KeySpan { start: it.range_start.clone(), end: it.range_end.clone() }
}

impl Job {
    fn status(&self, id: MigrationId, status: Status, phase: Option<Phase>) -> MigrationStatus {
        MigrationStatus {
            migration: id,
            range_start: self.span.start.clone(),
            range_end: self.span.end.clone(),
            teller: self.destination.clone(),
            status,
            phase,
            reason: None,
            epoch: self.epoch,
            attempt: 1,
            bytes: self.bytes,
            digest: None,
            partitions_left: Vec::new(),
        }
    }
}
