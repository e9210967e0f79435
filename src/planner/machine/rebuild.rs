//! Gives ranges to their owners again, to be built from the table: some at a time, until none is due (R24).
//!
//! ```text
//!  REBUILD ──> ranges that overlap: due, unless built since ──> settled, and its node builds none? ──> TABLE,
//!                     ^ split, join, move                       no: with a later tick               PENDING
//!                     └── children inherit it
//! ```
//!
//! * **In every mode**, and not on a tick that is long over.
//! * **What is in flight comes first.** A range that moves is built again where it has gone to.
//! * **Once.** When a range was given from the table is part of what is known of it, so what is asked
//!   twice, or by many, is done once.
//! * **Nor forgotten.** Who adopts an assignment takes over what was asked before. Of a range that was
//!   split, joined or moved since it was given, nobody knows when that was: it is built again.

use std::collections::{BTreeMap, BTreeSet};

use schemas::assignment::Source;
use schemas::operator_command::{Command, OperatorCommand};
use schemas::plan::{CommandAnswered, RebuildChosen};
use schemas::{Epoch, Key, KeySpan, MigrationId, Millis, NodeId};

use super::Planner;
use super::operate::answer_to;
use crate::assignment::draft::{Draft, Owner};
use crate::assignment::map::Map;

/// Of one node, so many ranges are built at once: reads of them wait.
pub const PER_NODE_MAX: usize = 2;

impl Planner {
    /// Takes down which ranges are to be built again; says so.
    pub(super) fn mark_due(&mut self, command: OperatorCommand) -> CommandAnswered {
        if self.state.map.is_empty() {
            let refused = Some("no_assignment".to_owned());
            let detail = "nothing is assigned yet: all will be built from the table".to_owned();
            return CommandAnswered { refused, detail, ..answer_to(command) };
        }
        let detail = match self.due_by(&command, self.turn.end) {
            0 => "all ranges were given from the table since: nothing to do".to_owned(),
            1 => "1 range is to be built again from the table".to_owned(),
            due => format!(
                "{due} ranges are to be built again from the table, {PER_NODE_MAX} of a node at once"
            ),
        };
        CommandAnswered { detail, ..answer_to(command) }
    }

    /// Lets ranges be due that were given before; what is given at that time is new. Returns how many are.
    fn due_by(&mut self, command: &OperatorCommand, now: Millis) -> usize {
        let bound = |key: &Option<Key>| key.clone().unwrap_or_default();
        let span = KeySpan { start: bound(&command.range_start), end: bound(&command.range_end) };
        let before = command.built_before.unwrap_or(now).min(now);
        let mut due = 0;
        for range in self.state.ranges.iter_mut().filter(|it| it.span.overlaps(&span)) {
            range.due = range.due.max(before);
            due += usize::from(range.is_due());
        }
        due
    }

    /// Takes over what was asked of a planner before, which may not have come to an end with it, and when
    /// what stands was given from the table: `given` by the migration, as far as that is known.
    pub fn adopt_rebuilds(
        &mut self,
        given: &BTreeMap<MigrationId, Millis>,
        asked: &[(Millis, OperatorCommand)],
    ) {
        for range in self.state.ranges.iter_mut() {
            let row = self.state.map.range(&range.span).expect("ranges are those of the map");
            let migration = row.migration.filter(|_| row.source == Source::Table);
            range.built = migration.and_then(|it| given.get(&it)).copied().unwrap_or_default();
        }
        for (stamp, command) in asked.iter().filter(|it| it.1.command == Command::Rebuild) {
            self.due_by(command, *stamp);
        }
    }

    /// Begins with what is due and settled, at nodes that build nothing now.
    pub(super) fn begin_rebuilds(&mut self) {
        if self.turn.stale || self.state.map.is_empty() {
            return;
        }
        let flights = self.state.migrations.iter().filter(|it| it.1.source.is_none());
        let busy: BTreeSet<NodeId> = flights.map(|it| it.1.destination.node.clone()).collect();
        let mut begun = BTreeMap::<NodeId, usize>::new();
        let due: Vec<_> = self.state.ranges.iter().filter(|it| it.is_due()).cloned().collect();
        for range in due {
            let Some(node) = range.node.filter(|it| !busy.contains(it)) else { continue };
            let count = begun.entry(node.clone()).or_default();
            // What somebody wants to move now moves first.
            let is_wanted = self.turn.wanted.iter().any(|it| it.0 == range.span);
            let is_settled = self.state.migrations.unsettled(&range.span).is_none();
            if *count == PER_NODE_MAX || is_wanted || !is_settled {
                continue;
            }
            *count += 1;
            let owner = self.owner_again(&range.span, node);
            let migrations = &mut self.state.migrations;
            let rebuild = migrations.rebuild(range.span.clone(), owner.clone(), range.epoch);
            let (migration, pending) = rebuild.expect("it is settled");
            self.tell_status(&pending);
            self.turn.rebuilds.push(RebuildChosen {
                migration,
                range_start: range.span.start.clone(),
                range_end: range.span.end.clone(),
                node: owner.node.clone(),
            });
        }
    }

    /// The owner as it reads now; as it did, if it has not reported since.
    fn owner_again(&self, span: &KeySpan, node: NodeId) -> Owner {
        let known = self.state.fleet.member(&node).map(|it| it.inbox);
        let inbox = known.unwrap_or_else(|| {
            self.state.map.range(span).expect("ranges are those of the map").inbox
        });
        Owner { node, inbox }
    }

    /// Writes the rebuilds that begin into the generation, which is to stand behind `map`.
    pub(super) fn build_again(&mut self, map: &Map, draft: &mut Draft<'_>) {
        for it in self.turn.rebuilds.clone() {
            let span = KeySpan { start: it.range_start, end: it.range_end };
            let flight = self.state.migrations.get(it.migration).expect("it has just begun");
            let owner = flight.destination.clone();
            draft.rebuild(&span, &owner, it.migration).expect("nothing touches it in flight");
            let epoch = map.range(&span).expect("it is a range").epoch;
            self.own(&span, owner.node, Epoch(epoch.0 + 1));
            self.given_from_table(&span);
        }
    }

    /// What a range holds is of this tick, or newer.
    pub(super) fn given_from_table(&mut self, span: &KeySpan) {
        let range = self.state.ranges.at_mut(&span.start).expect("what is given is a range");
        range.built = self.turn.end;
    }
}
