//! Keeps what happens in a run: ticks as they are decided, moves from START to their end.
//!
//! ```text
//!  START ──> Copying ──> Ready ──> Active ──> ended: complete or failed
//!  by the outputs of a tick        by statuses, with the broker's stamps
//! ```

use std::collections::BTreeMap;

use dataflows::Tick;
use dataflows::balance::Likely;
use dataflows::forecast::RangeForecast;
use schemas::assignment::Assignment;
use schemas::heatmap::RangeHeated;
use schemas::migrate_range::Command;
use schemas::migration_status::{MigrationStatus, Phase, Status};
use schemas::node_capacity::NodeCapacity;
use schemas::plan::{MoveChosen, NodePressed, Planned};
use schemas::wire::{Record as _, decode};
use schemas::{Key, KeySpan, MigrationId, Millis, NodeId};

use crate::foreign::translator::Translator;
use crate::kafka::source::FilledBox;
use crate::planner::machine::TickOutputs;
use crate::replay::history::Recount;
use crate::tick::tick_box::TickBox;

/// A run as it is known by now.
pub struct Course {
    pub recount: Recount,
    /// Capacity of each node, in microseconds a second.
    pub nodes: BTreeMap<NodeId, u64>,
    /// Who owns what, as of the last tick that was decided.
    pub owned: BTreeMap<Key, Assignment>,
    /// What is published of each range, by its start.
    pub heats: BTreeMap<Key, RangeHeated>,
    /// What is forecast of all ranges together.
    pub total: RangeForecast,
    /// What of it nodes are to expect.
    pub likely: Likely,
    pub moves: BTreeMap<MigrationId, Moved>,
    /// What each node holds.
    pub bytes: BTreeMap<NodeId, u64>,
}

/// A move that has begun.
#[derive(Clone, Debug, PartialEq)]
pub struct Moved {
    pub span: KeySpan,
    pub source: NodeId,
    pub destination: NodeId,
    /// The tick at whose end it was decided.
    pub tick: Tick,
    /// When the tick of its START ended, and when its START was known to be committed.
    pub due: Millis,
    pub begun: Millis,
    /// Of these statuses the first, by their stamps.
    pub copying: Option<Millis>,
    pub ready: Option<Millis>,
    pub active: Option<Millis>,
    pub ended: Option<(Millis, Status)>,
    /// Copied so far, and to be copied, as far as is known.
    pub bytes: u64,
    pub bytes_planned: u64,
    /// As the plan has it; `None` for what people ask for.
    pub chosen: Option<MoveChosen>,
    /// The source, as it was seen to become too warm.
    pub why: Option<NodePressed>,
}

impl Course {
    pub fn new(recount: Recount, nodes: BTreeMap<NodeId, u64>, likely: Likely) -> Self {
        Self {
            recount,
            nodes,
            likely,
            total: RangeForecast::default(),
            owned: BTreeMap::new(),
            heats: BTreeMap::new(),
            moves: BTreeMap::new(),
            bytes: BTreeMap::new(),
        }
    }

    /// A tick is about to be decided.
    pub fn filled(&mut self, filled: &FilledBox, translator: &Translator) {
        self.recount.filled(filled, translator, &self.owned, &BTreeMap::new());
    }

    /// What a tick led to is committed, as is known `now`; `end` is where the tick ended.
    pub fn committed(&mut self, now: Millis, end: Millis, bounds: &TickBox, outputs: &TickOutputs) {
        for (start, assignment) in &outputs.assignments {
            match assignment {
                Some(it) => _ = self.owned.insert(start.clone(), it.clone()),
                None => _ = self.owned.remove(start),
            }
        }
        self.recount.committed(bounds, outputs, &self.owned);
        for output in outputs.outputs.iter().filter(|it| it.topic == RangeHeated::TOPIC) {
            let start = Key(output.key.clone().unwrap_or_default());
            // They were encoded by this process.
            match output.value.as_deref().map(decode::<RangeHeated>) {
                Some(Ok(heat)) => _ = self.heats.insert(start, heat),
                Some(Err(_)) | None => _ = self.heats.remove(&start),
            }
        }
        // It was made by this process, too.
        let total = outputs.done.total.as_ref();
        if let Some(Ok(total)) = total.map(|it| RangeForecast::told(&it.reads, &it.writes)) {
            self.total = total;
        }
        for command in outputs.commands.iter().filter(|it| it.command == Command::Start) {
            let chosen = outputs.plan.as_ref().and_then(|it| chosen(it, command.migration));
            let why = outputs.plan.as_ref().and_then(|it| {
                it.why.iter().find(|node| node.node == command.source_node).cloned()
            });
            self.moves.insert(
                command.migration,
                Moved {
                    span: KeySpan {
                        start: command.range_start.clone(),
                        end: command.range_end.clone(),
                    },
                    source: command.source_node.clone(),
                    destination: command.destination_node.clone(),
                    tick: bounds.tick,
                    due: end,
                    begun: now,
                    copying: None,
                    ready: None,
                    active: None,
                    ended: None,
                    bytes: 0,
                    bytes_planned: chosen.as_ref().map_or(0, |it| it.bytes),
                    chosen,
                    why,
                },
            );
        }
    }

    /// A worker, or the planner, has said how a migration stands.
    pub fn told(&mut self, stamp: Millis, status: &MigrationStatus) {
        let Some(it) = self.moves.get_mut(&status.migration) else { return };
        match status.status {
            // It says what is to be copied.
            Status::Pending => (),
            Status::InProgress | Status::Complete | Status::Failed | Status::Unknown => {
                it.bytes = it.bytes.max(status.bytes);
            }
        }
        match (status.status, status.phase) {
            (Status::InProgress, Some(Phase::Copying)) => _ = it.copying.get_or_insert(stamp),
            (Status::InProgress, Some(Phase::Ready)) => _ = it.ready.get_or_insert(stamp),
            (Status::InProgress, Some(Phase::Active)) => _ = it.active.get_or_insert(stamp),
            (Status::Complete | Status::Failed, _) => {
                it.ended.get_or_insert((stamp, status.status));
            }
            (Status::Pending | Status::Unknown, _)
            | (Status::InProgress, Some(Phase::Unknown) | None) => (),
        }
    }

    /// A node has reported.
    pub fn reported(&mut self, report: &NodeCapacity) {
        let bytes = report.ranges.iter().fold(0, |sum: u64, it| sum.saturating_add(it.bytes));
        self.bytes.insert(report.node_id.clone(), bytes);
    }

    /// Tells whether moves are under way.
    pub fn is_moving(&self) -> bool {
        self.moves.values().any(|it| it.ended.is_none())
    }

    /// Complete, failed, and the bytes of the former.
    pub fn migrations(&self) -> (u64, u64, u64) {
        let mut res = (0, 0, 0);
        for it in self.moves.values() {
            match it.ended {
                Some((_, Status::Complete)) => {
                    res.0 += 1;
                    res.2 += it.bytes;
                }
                Some(_) => res.1 += 1,
                None => (),
            }
        }
        res
    }
}

fn chosen(plan: &Planned, migration: MigrationId) -> Option<MoveChosen> {
    plan.moves.iter().find(|it| it.migration == Some(migration)).cloned()
}

#[cfg(test)]
mod tests {
    use dataflows::tally::Costs;
    use schemas::Epoch;

    use super::*;

    fn course(moves: &[u64]) -> Course {
        let nodes: BTreeMap<_, _> = [(NodeId("n1".into()), 1)].into();
        let costs = Costs { read_us: 1, scan_us: 1, write_us: 1 };
        let recount = Recount::new(Vec::new(), nodes.clone(), &[], costs, 1_000);
        let mut res = Course::new(recount, nodes, Likely::Mean);
        let moved = Moved {
            span: KeySpan { start: Key::default(), end: Key::default() },
            source: NodeId("n1".into()),
            destination: NodeId("n2".into()),
            tick: 1,
            due: Millis(2_000),
            begun: Millis(2_100),
            copying: None,
            ready: None,
            active: None,
            ended: None,
            bytes: 0,
            bytes_planned: 0,
            chosen: None,
            why: None,
        };
        res.moves = moves.iter().map(|it| (MigrationId(*it), moved.clone())).collect();
        res
    }

    fn status(migration: u64, status: Status, phase: Option<Phase>, bytes: u64) -> MigrationStatus {
        MigrationStatus {
            migration: MigrationId(migration),
            range_start: Key::default(),
            range_end: Key::default(),
            teller: NodeId("n2".into()),
            status,
            phase,
            reason: None,
            epoch: Epoch(1),
            attempt: 1,
            bytes,
            digest: None,
            partitions_left: Vec::new(),
        }
    }

    #[test]
    fn move_is_where_its_statuses_say_and_the_first_of_each_counts() {
        let mut course = course(&[7, 8]);
        let mut tell = |ms, it| course.told(Millis(ms), &it);
        tell(2_000, status(7, Status::Pending, None, 70));
        tell(2_200, status(7, Status::InProgress, Some(Phase::Copying), 10));
        tell(2_300, status(7, Status::InProgress, Some(Phase::Copying), 50));
        tell(2_400, status(7, Status::InProgress, Some(Phase::Ready), 60));
        tell(3_100, status(7, Status::InProgress, Some(Phase::Active), 60));
        // Repeated after a restart.
        tell(3_200, status(7, Status::InProgress, Some(Phase::Active), 0));
        tell(3_300, status(9, Status::Complete, None, 60));
        assert_eq!((course.is_moving(), course.migrations()), (true, (0, 0, 0)));
        course.told(Millis(3_400), &status(7, Status::Complete, None, 60));
        course.told(Millis(3_500), &status(7, Status::Failed, None, 0));
        let it = &course.moves[&MigrationId(7)];
        let stamps = [it.copying, it.ready, it.active].map(|it| it.map(|it| it.0));
        assert_eq!(stamps, [Some(2_200), Some(2_400), Some(3_100)]);
        assert_eq!(it.ended, Some((Millis(3_400), Status::Complete)));
        assert_eq!((course.is_moving(), course.migrations()), (true, (1, 0, 60)));
        course.told(Millis(3_600), &status(8, Status::Failed, None, 5));
        assert_eq!((course.is_moving(), course.migrations()), (false, (1, 1, 60)));
    }
}
