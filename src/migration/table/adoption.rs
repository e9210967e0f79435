//! Adopts an assignment that stands without a planner's memory of it: from topics to [`Migrations`].
//!
//! ```text
//!  assignment ────────┐             committed    ──> handing over, scanning: goes on
//!  migration_status ──┼─> per id ─> START known  ──> CANCEL
//!  migrate_range ─────┘             neither      ──> FAILED, by the planner
//! ```
//!
//! * **Nothing is left hanging.** What was begun and has not ended goes on if it is committed, and
//!   ends if it is not.
//! * **Ids are never used again**: the next one is above all that stand on the topics.

use std::collections::BTreeMap;

use schemas::assignment::{Assignment, Source};
use schemas::migrate_range::{Command, MigrateRange};
use schemas::migration_status::{MigrationStatus, Status};
use schemas::{Inbox, KeySpan, MigrationId, Millis, NodeId};

use super::flight::{Flight, Life};
use super::{Migrations, PLANNER};
use crate::assignment::draft::Owner;
use crate::assignment::map::{Map, span_of};
use crate::migration::machine::Migration;
use crate::migration::rebuild::Rebuild;

impl Migrations {
    /// Takes over what is in flight, from the ends of the three topics. With it come the FAILED
    /// statuses that are to be written: of migrations whose START is no longer there.
    pub fn adopt(
        moves_max: usize,
        grace_ms: u64,
        now: Millis,
        map: &Map,
        commands: &[MigrateRange],
        statuses: &[MigrationStatus],
    ) -> (Self, Vec<MigrationStatus>) {
        let mut res = Self::new(moves_max, grace_ms);
        let starts: BTreeMap<MigrationId, &MigrateRange> = commands
            .iter()
            .filter(|it| it.command == Command::Start)
            .map(|it| (it.migration, it))
            .collect();
        let committed: BTreeMap<MigrationId, &Assignment> =
            map.iter().filter_map(|it| Some((it.migration?, it))).collect();

        let seen = commands.iter().map(|it| it.migration);
        let seen =
            seen.chain(statuses.iter().map(|it| it.migration)).chain(committed.keys().copied());
        res.next = MigrationId(seen.map(|it| it.0).max().unwrap_or(0) + 1);

        let mut failed = Vec::new();
        for (id, status) in open(statuses) {
            let (range, start) = (committed.get(&id), starts.get(&id));
            match flight(range.copied(), start.copied(), status, now, grace_ms) {
                Some(flight) => {
                    res.spans.insert(flight.span.start.clone(), id);
                    res.flights.insert(id, flight);
                }
                None => failed.push(MigrationStatus {
                    teller: NodeId(PLANNER.into()),
                    status: Status::Failed,
                    phase: None,
                    reason: Some("adopted, and its START is no longer there".into()),
                    ..status.clone()
                }),
            }
        }
        (res, failed)
    }
}

/// Returns the migrations that have not ended, each with its newest status. The first end counts,
/// whatever was said after it.
fn open(statuses: &[MigrationStatus]) -> BTreeMap<MigrationId, &MigrationStatus> {
    let mut res = BTreeMap::new();
    res.extend(statuses.iter().map(|it| (it.migration, it)));
    for it in statuses {
        match it.status {
            Status::Complete | Status::Failed => {
                res.remove(&it.migration);
            }
            Status::Pending | Status::InProgress | Status::Unknown => (),
        }
    }
    res
}

/// Returns what goes on: a committed migration as its assignment says, another one as its START says.
fn flight(
    range: Option<&Assignment>,
    start: Option<&MigrateRange>,
    status: &MigrationStatus,
    now: Millis,
    grace_ms: u64,
) -> Option<Flight> {
    let moving = |node: &NodeId, committed| {
        Life::Move(Migration::adopted(node.clone(), committed, now, grace_ms))
    };
    let (span, source, source_epoch, destination, life) = match (range, start) {
        (Some(range), _) => {
            let destination = Owner { node: range.node.clone(), inbox: range.inbox };
            let (source, life) = match (range.source, &range.source_node) {
                (Source::Node, Some(node)) => {
                    // Only commands need the inbox, and after the commit there are none.
                    let inbox = start.map_or(Inbox::default(), |it| it.source_inbox);
                    (Some(Owner { node: node.clone(), inbox }), moving(&range.node, true))
                }
                (Source::Table, _) => (None, Life::Rebuild(Rebuild::adopted(range.node.clone()))),
                (Source::None | Source::Node | Source::Unknown, _) => return None,
            };
            (span_of(range), source, range.source_epoch, destination, life)
        }
        (None, Some(start)) => {
            let span = KeySpan { start: start.range_start.clone(), end: start.range_end.clone() };
            let source = Owner { node: start.source_node.clone(), inbox: start.source_inbox };
            let node = start.destination_node.clone();
            let life = moving(&node, false);
            let destination = Owner { node, inbox: start.destination_inbox };
            (span, Some(source), start.source_epoch, destination, life)
        }
        (None, None) => return None,
    };
    Some(Flight {
        span,
        source,
        source_epoch,
        destination,
        bytes: status.bytes,
        bandwidth_bytes_per_s: start.map_or(0, |it| it.bandwidth_bytes_per_s),
        deadline: start.map_or(now, |it| it.deadline),
        plan: start.and_then(|it| it.plan.clone()),
        life,
    })
}
