use dataflows::Tick;
use schemas::assignment::Assignment;
use schemas::node_capacity::{NodeCapacity, NodeState};
use schemas::operator_command::{Command, OperatorCommand};
use schemas::plan::CommandAnswered;
use schemas::wire::{Record as _, encode};
use schemas::{Key, Millis, NodeId};

use super::world::{World, node};
use crate::kafka::{Record, TopicPartition};
use crate::planner::driver;
use crate::planner::engine::Engine;
use crate::planner::machine::{Planner, TickOutputs};
use crate::planner::settings::{Mode, Settings};

/// A planner that observes, with all of its ranges settled.
pub(super) struct Desk {
    pub world: World,
    pub planner: Planner,
    pub engine: Engine,
    offset: u64,
}

impl Desk {
    pub fn new() -> Self {
        Self::with(|_| ())
    }

    /// The same under settings that are changed.
    pub fn with(change: impl FnOnce(&mut Settings)) -> Self {
        let mut res = Self::begun(change);
        for _ in 0..60 {
            res.tick(false, vec![]);
            let state = res.planner.state();
            if !state.map.is_empty() && state.migrations.iter().next().is_none() {
                return res;
            }
        }
        panic!("the ranges are not settled");
    }

    /// Before the first tick.
    pub fn begun(change: impl FnOnce(&mut Settings)) -> Self {
        let mut world = World::new(1);
        world.settings.mode = Mode::Observe;
        change(&mut world.settings);
        world.silence();
        let planner = Planner::new(world.settings.clone());
        let engine = driver::start(&world.settings, 1).unwrap();
        Self { world, planner, engine, offset: 1_000_000 }
    }

    /// Runs a tick with these records besides those of the world.
    pub fn tick(
        &mut self,
        stale: bool,
        values: Vec<(&'static str, Millis, Vec<u8>)>,
    ) -> TickOutputs {
        let mut recorded = self.world.next_box();
        recorded.bounds.stale = stale;
        for (topic, stamp, value) in values {
            self.offset += 1;
            let at = TopicPartition { topic, partition: 0 };
            let (offset, key, value, headers) = (self.offset, None, Some(value), Vec::new());
            recorded.records.push(Record { at, offset, stamp, key, value, headers });
        }
        let filled = recorded.fill();
        let outputs = driver::tick(&mut self.planner, &mut self.engine, filled).unwrap();
        self.world.carry_out(&outputs);
        outputs
    }

    /// When the next tick is over.
    pub fn end(&self) -> Millis {
        Millis((self.planner.state().tick + 2) * self.world.settings.tick_ms)
    }

    /// Gives commands in one tick; returns the answers, in their order.
    pub fn ask(&mut self, stale: bool, commands: &[OperatorCommand]) -> Vec<CommandAnswered> {
        let stamp = Millis(self.end().0 - 1);
        let value = |it: &OperatorCommand| (OperatorCommand::TOPIC, stamp, encode(it));
        let outputs = self.tick(stale, commands.iter().map(value).collect());
        outputs.plan.map_or(Vec::new(), |it| it.commands)
    }

    /// A move of the range of that number to a node that has not got it.
    pub fn good(&self, id: &str, number: usize) -> OperatorCommand {
        let range = self.planner.state().map.iter().nth(number).expect("there are eight").clone();
        let elsewhere = (1..=4).map(node).find(|it| *it != range.node);
        command(id, &range, elsewhere)
    }
}

fn command(id: &str, range: &Assignment, node: Option<NodeId>) -> OperatorCommand {
    OperatorCommand {
        node,
        range_start: Some(range.range_start.clone()),
        range_end: Some(range.range_end.clone()),
        ..OperatorCommand::new(id.into(), Command::Move, "me".into(), "why not".into())
    }
}

fn codes(answers: &[CommandAnswered]) -> Vec<&str> {
    answers.iter().map(|it| it.refused.as_deref().unwrap_or("begun")).collect()
}

#[test]
fn command_waits_for_a_tick_that_is_not_long_over_and_is_answered_once() {
    let mut desk = Desk::new();
    let good = desk.good("c-1", 3);
    assert_eq!(codes(&desk.ask(true, std::slice::from_ref(&good))), [""; 0]);
    assert_eq!(codes(&desk.ask(true, std::slice::from_ref(&good))), [""; 0]);
    let answers = desk.ask(false, &[]);
    assert_eq!(codes(&answers), ["begun"]);
    let answer = &answers[0];
    assert_eq!((&*answer.command, &*answer.verb, &*answer.actor), ("c-1", "MOVE", "me"));
    let flight = desk.planner.state().migrations.get(answer.migration.unwrap()).unwrap();
    assert_eq!(Some(&flight.destination.node), good.node.as_ref());
    assert_eq!(codes(&desk.ask(false, &[good])), [""; 0]);
}

#[test]
fn command_that_has_waited_too_long_is_refused() {
    let mut desk = Desk::new();
    let end = desk.end();
    let values = [(600_000, "c-1", 3), (600_001, "c-2", 5)].map(|(age_ms, id, number)| {
        let value = encode(&desk.good(id, number));
        (OperatorCommand::TOPIC, Millis(end.0 - age_ms), value)
    });
    let outputs = desk.tick(false, values.into());
    assert_eq!(codes(&outputs.plan.unwrap().commands), ["begun", "too_old"]);
}

#[test]
fn every_command_that_cannot_be_is_refused_with_its_reason() {
    let mut desk = Desk::new();
    let silent_ticks = desk.world.settings.silent_ticks;
    let report = |name: &str, state, capacity_us_per_s| {
        let (node_id, endpoint) = (NodeId(name.into()), None);
        let any = desk.world.any_report();
        let it = NodeCapacity { node_id, endpoint, state, capacity_us_per_s, ..any };
        (NodeCapacity::TOPIC, Millis(0), encode(&it))
    };
    let silent = report("silent", NodeState::Up, Some(1e6));
    let reports = vec![
        report("draining", NodeState::Draining, Some(1e6)),
        report("full", NodeState::ReadOnly, Some(1e6)),
        report("unmanaged", NodeState::Up, None),
    ];
    desk.tick(false, vec![silent]);
    (1..silent_ticks as Tick).for_each(|_| _ = desk.tick(false, vec![]));
    desk.tick(false, reports);

    let good = desk.good("", 3);
    let own = desk.planner.state().map.iter().nth(3).unwrap().node.clone();
    let to = |name: &str| OperatorCommand { node: Some(NodeId(name.into())), ..good.clone() };
    let verb = |command| OperatorCommand { command, ..good.clone() };
    let mut inside = good.range_start.clone().unwrap();
    inside.0.push(0);
    let cases = [
        (OperatorCommand { node: None, ..good.clone() }, "incomplete"),
        (OperatorCommand { range_start: None, ..good.clone() }, "incomplete"),
        (OperatorCommand { range_end: Some(Key::default()), ..good.clone() }, "not_a_range"),
        (OperatorCommand { range_start: Some(inside), ..good.clone() }, "not_a_range"),
        (to("nobody"), "unknown_node"),
        (to("draining"), "node_draining"),
        (to("full"), "node_read_only"),
        (to("silent"), "node_silent"),
        (to("unmanaged"), "node_unmanaged"),
        (to(&own.0), "already_there"),
        (verb(Command::Drain), "not_supported"),
        (verb(Command::Cordon), "not_supported"),
        (verb(Command::Uncordon), "not_supported"),
        (verb(Command::Pin), "not_supported"),
        (verb(Command::Unpin), "not_supported"),
        (verb(Command::Pause), "not_supported"),
        (verb(Command::Resume), "not_supported"),
        (verb(Command::Approve), "not_supported"),
        (verb(Command::Unknown), "unknown"),
        // Where it ends need not be said.
        (OperatorCommand { range_end: None, ..good.clone() }, "begun"),
        (good.clone(), "in_flight"),
    ];
    let named = (0..).zip(&cases);
    let commands = named.map(|(i, (it, _))| OperatorCommand { id: format!("c-{i}"), ..it.clone() });
    let answers = desk.ask(false, &commands.collect::<Vec<_>>());
    let expected = cases.iter().map(|it| it.1).collect::<Vec<_>>();
    assert_eq!(codes(&answers), expected, "{answers:#?}");
    let is_told = |it: &CommandAnswered| it.refused.is_none() == it.detail.is_empty();
    assert!(answers.iter().all(is_told), "{answers:#?}");
    let again = OperatorCommand { id: "again".into(), ..good };
    assert_eq!(codes(&desk.ask(false, &[again])), ["unsettled"]);
}

#[test]
fn moves_by_hand_stay_within_the_budget() {
    let mut desk = Desk::new();
    let all: Vec<_> = (0..8).map(|i| desk.good(&format!("c-{i}"), i)).collect();
    let answers = desk.ask(false, &all);
    let begun = answers.iter().filter(|it| it.migration.is_some()).count();
    let policy = &desk.world.settings.policy;
    assert!((1..=policy.moves_in_flight_max as usize).contains(&begun), "{answers:#?}");
    assert_eq!(answers.len(), 8);
    let refused = answers.iter().filter_map(|it| it.refused.as_deref());
    assert!(refused.clone().all(|it| it.starts_with("budget_")), "{answers:#?}");
    assert_eq!(desk.planner.state().migrations.moves(), begun);
}
