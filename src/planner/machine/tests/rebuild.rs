//! Ranges that are built again from the table, because somebody asks for it (R24).

use std::collections::BTreeMap;

use schemas::assignment::{Assignment, Source};
use schemas::migration_status::{MigrationStatus, Status};
use schemas::operator_command::{Command, OperatorCommand};
use schemas::wire::{Record as _, encode};
use schemas::{Key, Millis, NodeId};

use super::by_hand::Desk;
use super::{assert_same, records, restored};
use crate::planner::driver;
use crate::planner::machine::rebuild::PER_NODE_MAX;
use crate::planner::machine::{Planner, TickOutputs};

/// Enough for all ranges, though words of nodes are late.
const TICKS_MAX: usize = 60;

fn rebuild(id: &str) -> OperatorCommand {
    OperatorCommand::new(id.into(), Command::Rebuild, "channel g".into(), "it was away".into())
}

/// Gives a command in a tick of its own.
fn ask(desk: &mut Desk, command: &OperatorCommand) -> TickOutputs {
    let stamp = Millis(desk.end().0 - 1);
    desk.tick(false, vec![(OperatorCommand::TOPIC, stamp, encode(command))])
}

fn detail(outputs: &TickOutputs) -> &str {
    let [answer] = &outputs.plan.as_ref().expect("it is answered").commands[..] else {
        panic!("{:?}", outputs.plan)
    };
    assert_eq!((&*answer.verb, answer.migration), ("REBUILD", None));
    &answer.detail
}

/// What is given from the table.
fn given(outputs: &TickOutputs) -> Vec<Assignment> {
    let rows = outputs.assignments.iter().filter_map(|it| it.1.clone());
    rows.filter(|it| it.source == Source::Table).collect()
}

fn epochs(planner: &Planner) -> BTreeMap<Key, (NodeId, u64)> {
    let map = &planner.state().map;
    map.iter().map(|it| (it.range_start.clone(), (it.node.clone(), it.epoch.0))).collect()
}

fn is_at_rest(planner: &Planner) -> bool {
    let state = planner.state();
    state.migrations.iter().next().is_none() && state.ranges.iter().all(|it| !it.is_due())
}

/// Runs ticks until nothing is due or in flight; returns what was given from the table.
fn rest(desk: &mut Desk) -> Vec<Assignment> {
    let mut all = Vec::new();
    for _ in 0..TICKS_MAX {
        all.extend(given(&desk.tick(false, vec![])));
        if is_at_rest(&desk.planner) {
            return all;
        }
    }
    panic!("it does not end: {:?}", desk.planner.state().ranges);
}

#[test]
fn r24_every_range_is_given_to_its_owner_again_some_at_a_time() {
    let mut desk = Desk::new();
    let before = epochs(&desk.planner);
    let mut outputs = ask(&mut desk, &rebuild("c-1"));
    assert_eq!(
        detail(&outputs),
        "8 ranges are to be built again from the table, 2 of a node at once"
    );
    let mut all = Vec::new();
    for tick in 0..TICKS_MAX {
        let begun = given(&outputs);
        let statuses: Vec<MigrationStatus> = records(&outputs.outputs, MigrationStatus::TOPIC);
        let told = outputs.plan.as_ref().map_or(vec![], |it| it.rebuilds.clone());
        assert_eq!(told.len(), begun.len());
        for (it, told) in begun.iter().zip(told) {
            let span = (&it.range_start, &it.range_end, &it.node);
            assert_eq!((&told.range_start, &told.range_end, &told.node), span);
            assert_eq!(Some(told.migration), it.migration);
            let pending = statuses.iter().find(|status| Some(status.migration) == it.migration);
            let pending = pending.expect("PENDING stands with the assignment");
            assert_eq!((pending.status, pending.epoch), (Status::Pending, it.epoch));
        }
        all.extend(begun);
        let mut building = BTreeMap::<NodeId, usize>::new();
        for (_, flight) in desk.planner.state().migrations.iter() {
            *building.entry(flight.destination.node.clone()).or_default() += 1;
        }
        assert!(building.values().all(|it| *it <= PER_NODE_MAX), "{building:?}");
        if is_at_rest(&desk.planner) {
            break;
        }
        assert!(tick + 1 < TICKS_MAX, "it does not end");
        outputs = desk.tick(false, vec![]);
    }
    assert_eq!(all.len(), 8, "each once");
    let expected = before.into_iter().map(|(start, (node, epoch))| (start, (node, epoch + 1)));
    assert_eq!(epochs(&desk.planner), expected.collect());
    assert_eq!(desk.planner.state().map.tiles(), Ok(()));
}

#[test]
fn r24_request_counts_once_under_its_name_and_another_adds_nothing_that_is_done() {
    let mut desk = Desk::new();
    let early = OperatorCommand { built_before: Some(desk.end()), ..rebuild("c-1") };
    ask(&mut desk, &early);
    rest(&mut desk);
    let epochs_then = epochs(&desk.planner);
    assert_eq!(ask(&mut desk, &early).plan, None);
    let other = OperatorCommand { id: "c-2".into(), ..early };
    let outputs = ask(&mut desk, &other);
    assert_eq!(detail(&outputs), "all ranges were given from the table since: nothing to do");
    assert_eq!((rest(&mut desk), epochs(&desk.planner)), (vec![], epochs_then));
    // A later one is asked for anew, even while one is under way.
    ask(&mut desk, &rebuild("c-3"));
    assert!(!is_at_rest(&desk.planner));
    desk.tick(false, vec![]);
    let outputs = ask(&mut desk, &rebuild("c-4"));
    assert!(detail(&outputs).starts_with("8 ranges are to be built again"), "{outputs:?}");
    let begun = given(&outputs).len() + rest(&mut desk).len();
    assert_eq!(begun, 8, "those that were under way, too");
}

#[test]
fn r24_what_was_born_since_needs_no_rebuild_and_what_is_not_born_neither() {
    let mut desk = Desk::new();
    let born = desk.planner.state().ranges.iter().map(|it| it.built).max().unwrap();
    assert!(born.0 > 0);
    let since_born = OperatorCommand { built_before: Some(born), ..rebuild("c-1") };
    let outputs = ask(&mut desk, &since_born);
    assert_eq!((given(&outputs), is_at_rest(&desk.planner)), (vec![], true));
    let mut desk = Desk::begun(|_| ());
    let outputs = ask(&mut desk, &rebuild("c-1"));
    let answer = &outputs.plan.as_ref().unwrap().commands[0];
    assert_eq!(answer.refused.as_deref(), Some("no_assignment"));
}

#[test]
fn r24_range_in_flight_is_built_again_where_it_has_gone() {
    let mut desk = Desk::new();
    let good = desk.good("c-1", 3);
    ask(&mut desk, &good);
    let start = good.range_start.clone().unwrap();
    assert!(desk.planner.state().migrations.moves() == 1);
    ask(&mut desk, &rebuild("c-2"));
    let all = rest(&mut desk);
    let again = all.iter().find(|it| it.range_start == start).expect("it is built again");
    let range = desk.planner.state().map.owner(&start.0).unwrap().clone();
    assert_eq!((Some(&again.node), again.epoch), (Some(&range.node), range.epoch));
    assert!(range.epoch.0 == 2 || Some(&range.node) == good.node.as_ref(), "{range:?}");
}

#[test]
fn r24_request_of_a_clock_that_is_ahead_ends_too() {
    let mut desk = Desk::new();
    let ahead = Millis(desk.end().0 + 86_400_000);
    ask(&mut desk, &OperatorCommand { built_before: Some(ahead), ..rebuild("c-1") });
    rest(&mut desk);
    assert!(epochs(&desk.planner).values().all(|it| it.1 == 2));
}

#[test]
fn r24_split_and_join_hand_down_what_is_due() {
    let mut desk = Desk::new();
    let ranges = &mut desk.planner.state.ranges;
    let due: Vec<_> = ranges.iter().map(|it| it.span.clone()).collect();
    ranges.at_mut(&due[0].start).unwrap().due = Millis(9);
    ranges.at_mut(&due[0].start).unwrap().built = Millis(3);
    ranges.at_mut(&due[1].start).unwrap().built = Millis(5);
    let whole = schemas::KeySpan { start: due[0].start.clone(), end: due[1].end.clone() };
    desk.planner.join(&whole);
    let both = desk.planner.state.ranges.at(&whole.start).unwrap().clone();
    assert_eq!((both.built, both.due), (Millis(3), Millis(9)));
    desk.planner.split(&whole, &[due[1].start.clone()]);
    let ranges = &desk.planner.state.ranges;
    let children = [ranges.at(&due[0].start), ranges.at(&due[1].start)];
    assert!(children.iter().all(|it| it.unwrap().is_due()), "{children:?}");
}

#[test]
fn r24_request_names_an_interval_or_all() {
    let mut desk = Desk::new();
    let ranges: Vec<_> = desk.planner.state().map.iter().cloned().collect();
    let mut inside = ranges[2].range_start.clone();
    inside.0.push(7);
    let command = OperatorCommand {
        range_start: Some(inside),
        range_end: Some(ranges[3].range_end.clone()),
        ..rebuild("c-1")
    };
    let mut all = given(&ask(&mut desk, &command));
    all.extend(rest(&mut desk));
    all.sort_by_key(|it| it.range_start.clone());
    let starts: Vec<_> = all.into_iter().map(|it| it.range_start).collect();
    assert_eq!(starts, [ranges[2].range_start.clone(), ranges[3].range_start.clone()]);
}

#[test]
fn r24_request_does_not_grow_too_old_and_waits_for_a_tick_that_is_not_long_over() {
    let mut desk = Desk::new();
    let stamp = Millis(desk.end().0.saturating_sub(86_400_000));
    let value = encode(&rebuild("c-1"));
    let outputs = desk.tick(true, vec![(OperatorCommand::TOPIC, stamp, value)]);
    assert_eq!((&outputs.plan, given(&outputs)), (&None, vec![]));
    let outputs = desk.tick(false, vec![]);
    assert!(detail(&outputs).starts_with("8 ranges"), "{outputs:?}");
    // What is due waits for such a tick, too.
    for _ in 0..TICKS_MAX {
        let outputs = desk.tick(true, vec![]);
        assert_eq!(given(&outputs), []);
    }
    assert_eq!(desk.planner.state().migrations.iter().count(), 0);
    assert!(!is_at_rest(&desk.planner));
    assert_ne!(given(&desk.tick(false, vec![])), []);
}

#[test]
fn r24_what_is_due_outlives_a_restart() {
    let mut desk = Desk::with(|it| it.snapshot_ticks = 2);
    let mut told = vec![ask(&mut desk, &rebuild("c-1")).outputs];
    let mut boxes = vec![None];
    let mut due_at_snapshot = 0;
    while !is_at_rest(&desk.planner) {
        assert!(told.len() < TICKS_MAX, "it does not end");
        let recorded = desk.world.next_box();
        let outputs = driver::tick(&mut desk.planner, &mut desk.engine, recorded.fill()).unwrap();
        desk.world.carry_out(&outputs);
        if recorded.bounds.tick.is_multiple_of(2) && due_at_snapshot == 0 {
            due_at_snapshot = desk.planner.state().ranges.iter().filter(|it| it.is_due()).count();
        }
        boxes.push(Some(recorded));
        told.push(outputs.outputs);
    }
    assert!(due_at_snapshot > 0, "there is something to be forgotten");
    let first = desk.planner.state().tick + 1 - told.len() as u64;
    let settings = desk.world.settings.clone();
    let snapshots = (0..told.len()).filter(|it| (first + *it as u64).is_multiple_of(2));
    let taken = snapshots.min().unwrap();
    let (mut planner, _) = restored(&told[..=taken]).expect("a snapshot is taken every other tick");
    let mut engine = driver::start(&settings, 1).unwrap();
    for i in taken + 1..told.len() {
        let filled = boxes[i].as_ref().unwrap().fill();
        let outputs = driver::tick(&mut planner, &mut engine, filled).unwrap();
        assert_same(&format!("box {i}"), &outputs.outputs, &told[i]);
    }
}

#[test]
fn r24_what_was_asked_of_a_planner_before_is_not_forgotten_by_who_adopts() {
    let mut desk = Desk::new();
    ask(&mut desk, &rebuild("c-1"));
    let half = given(&desk.tick(false, vec![]));
    assert!(half.is_empty() && !is_at_rest(&desk.planner));
    let (map, now) = (desk.planner.state().map.clone(), desk.end());
    let settings = desk.world.settings.clone();
    let mut planner = Planner::adopted(settings, now, map.clone(), &[], &[]);
    assert!(planner.state().ranges.iter().all(|it| !it.is_due()), "as long as nothing is known");
    // When those were given that have been, and the birth was.
    let first = |it: &Assignment| if it.epoch.0 == 1 { 1 } else { now.0 };
    let of = |it: &Assignment| Some((it.migration?, Millis(first(it))));
    let given = map.iter().filter_map(of).collect();
    let asked = [(Millis(now.0 - 1), rebuild("c-1"))];
    planner.adopt_rebuilds(&given, &asked);
    let due: Vec<_> = planner.state().ranges.iter().map(|it| it.is_due()).collect();
    let expected: Vec<_> = map.iter().map(|it| it.epoch.0 == 1).collect();
    assert_eq!(due, expected);
    assert!(due.contains(&true) && due.contains(&false), "{due:?}");
    // Of what nobody knows when it was given, it may be long ago.
    planner.adopt_rebuilds(&BTreeMap::new(), &asked);
    assert!(planner.state().ranges.iter().all(|it| it.is_due()));
}
