//! Answers what people ask: a move is checked and goes before all that is decided by heat.
//!
//! ```text
//!  waiting ── range? node? settled? ──> wanted ── budget? ──> decision ──> START
//!                   │ no                            │ no          v
//!                   └──> refused <──────────────────┘          answered in the plan of the tick
//! ```
//!
//! * **In every mode.** A planner that observes moves nothing by itself, and what it is told to.
//! * **Not by an old map.** On a tick that is long over nothing is answered; what waits is answered
//!   by the first one that is not.
//! * **Settled is settled.** A range whose migration has ended in this very tick may go on, so that
//!   who has seen the end of one move can ask for the next.

use dataflows::balance::{Decision, Refusal, Situation, Wanted, decide_after, decide_by_hand};
use schemas::node_capacity::NodeState;
use schemas::operator_command::{Command, OperatorCommand};
use schemas::plan::CommandAnswered;
use schemas::{KeySpan, MigrationId, NodeId};

use super::super::commands::{AGE_MS_MAX, Waiting};
use super::super::ranges::RangeState;
use super::Planner;

/// Why a command is refused: a stable code, and a text for a person.
pub(super) struct Refused {
    pub code: &'static str,
    pub detail: String,
}

/// What becomes of a command that is not refused.
enum Checked {
    Wanted(Wanted),
    /// It is carried out; so.
    Done(String),
}

impl Planner {
    /// Answers what waits, and decides the rest by heat, if that is to be.
    pub(super) fn decision(&mut self, by_heat: bool) -> Decision {
        let (wanted, asked) = self.asked();
        self.begin_rebuilds();
        if wanted.is_empty() && !by_heat {
            return Decision::default();
        }
        let situation: Situation = self.situation();
        let mut decision = match by_heat {
            true => decide_after(&situation, &wanted, &|it| self.cells_of(it)),
            false => decide_by_hand(&situation, &wanted),
        };
        for (place, refusal) in std::mem::take(&mut decision.refused) {
            refuse(&mut self.turn.answers[asked[place]], refused_by_budget(&refusal));
        }
        decision
    }

    /// The moves that people want and that may be, and where in the answers each of them is.
    fn asked(&mut self) -> (Vec<Wanted>, Vec<usize>) {
        let (mut wanted, mut asked) = (Vec::new(), Vec::new());
        if self.turn.stale {
            return (wanted, asked);
        }
        for Waiting { given, command } in self.state.commands.take() {
            if command.command == Command::Rebuild {
                let answer = self.mark_due(command);
                self.turn.answers.push(answer);
                continue;
            }
            let is_swap = command.command == Command::SwapModel;
            let checked = match self.turn.end.0.saturating_sub(given.0) {
                age_ms if AGE_MS_MAX < age_ms => Err(Refused {
                    code: "too_old",
                    detail: format!("it was given {} s ago: give it again", age_ms / 1000),
                }),
                _ if is_swap => self.swap_model(&command).map(Checked::Done),
                _ => self.check(&command).map(Checked::Wanted),
            };
            let mut answer = answer_to(command);
            match checked {
                Ok(Checked::Done(detail)) => answer.detail = detail,
                Ok(Checked::Wanted(it)) => {
                    wanted.push(it);
                    asked.push(self.turn.answers.len());
                }
                Err(refused) => refuse(&mut answer, refused),
            }
            self.turn.answers.push(answer);
        }
        self.turn.wanted = wanted.iter().map(|it| it.span.clone()).zip(asked.clone()).collect();
        (wanted, asked)
    }

    fn check(&self, command: &OperatorCommand) -> Result<Wanted, Refused> {
        match command.command {
            Command::Move => {
                let range = self.range_meant(command)?;
                self.may_go(range)?;
                let node = command.node.clone().filter(|it| !it.0.is_empty());
                let node = node.ok_or_else(|| refused("incomplete", "it names no node"))?;
                self.takes(range, &node)?;
                Ok(Wanted { span: range.span.clone(), node })
            }
            Command::Unknown => Err(refused("unknown", "it is newer than this planner")),
            Command::Rebuild | Command::SwapModel => unreachable!("its answer is another"),
            Command::Drain
            | Command::Cordon
            | Command::Uncordon
            | Command::Pin
            | Command::Unpin
            | Command::Pause
            | Command::Resume
            | Command::Approve => {
                let detail = format!("{} is not supported yet", verb(command.command));
                Err(Refused { code: "not_supported", detail })
            }
        }
    }

    /// The range that begins where the command says, and ends there, if it says where.
    fn range_meant(&self, command: &OperatorCommand) -> Result<&RangeState, Refused> {
        let Some(start) = &command.range_start else {
            return Err(refused("incomplete", "it names no range"));
        };
        if self.state.map.is_empty() {
            return Err(refused("no_assignment", "nothing is assigned yet"));
        }
        let ends_there =
            |it: &&RangeState| command.range_end.as_ref().is_none_or(|end| *end == it.span.end);
        self.state.ranges.at(start).filter(ends_there).ok_or_else(|| {
            let owner = self.state.map.owner(&start.0).expect("ranges tile the key space");
            let there = KeySpan { start: owner.range_start.clone(), end: owner.range_end.clone() };
            let meant = match &command.range_end {
                Some(end) => KeySpan { start: start.clone(), end: end.clone() }.to_string(),
                None => format!("a range that begins at {start}"),
            };
            let detail = format!("there is no {meant}: the key {start} is in {there}");
            Refused { code: "not_a_range", detail }
        })
    }

    fn may_go(&self, range: &RangeState) -> Result<(), Refused> {
        if range.pinned {
            return Err(Refused { code: "pinned", detail: format!("{} is pinned", range.span) });
        }
        let migrations = &self.state.migrations;
        let flight = migrations.unsettled(&range.span);
        match flight.filter(|id| !migrations.get(*id).is_some_and(|it| it.is_over())) {
            Some(id) => {
                let detail = format!("{} is not settled: {id} is in flight", range.span);
                Err(Refused { code: "unsettled", detail })
            }
            None => Ok(()),
        }
    }

    /// Tells whether a node may be given the range, which stays where it is else.
    fn takes(&self, range: &RangeState, node: &NodeId) -> Result<(), Refused> {
        let nodes = self.nodes();
        let no = |code, detail: String| Err(Refused { code, detail });
        let Some(member) = self.state.fleet.member(node) else {
            return no("unknown_node", format!("no node {node} has ever reported"));
        };
        if range.node.as_ref() == Some(node) {
            return no("already_there", format!("{} is on {node} already", range.span));
        }
        match member.state {
            NodeState::Up => (),
            NodeState::Draining => return no("node_draining", format!("{node} is draining")),
            NodeState::ReadOnly => {
                return no("node_read_only", format!("{node} stores nothing: its disk is full"));
            }
            NodeState::Unknown => {
                return no("node_not_up", format!("{node} is in a state of a newer version"));
            }
        }
        let unmanaged = |node: &NodeId| {
            let detail = format!("{node} states no capacity_us_per_s: set it in its configuration");
            no("node_unmanaged", detail)
        };
        match nodes.get(node) {
            None => return unmanaged(node),
            Some(it) if !it.takes => {
                let ticks = self.turn.tick.saturating_sub(member.reported);
                return no("node_silent", format!("{node} has not reported for {ticks} ticks"));
            }
            Some(_) => (),
        }
        match range.node.as_ref().filter(|it| !nodes.contains_key(*it)) {
            Some(source) => unmanaged(source),
            None => Ok(()),
        }
    }

    /// Tells under which migration what was wanted has begun.
    pub(super) fn begun(&mut self, span: &KeySpan, migration: MigrationId) {
        let place = self
            .turn
            .wanted
            .iter()
            .find(|(it, place)| it == span && self.turn.answers[*place].refused.is_none());
        if let Some((_, place)) = place {
            self.turn.answers[*place].migration = Some(migration);
        }
    }
}

pub(super) fn answer_to(command: OperatorCommand) -> CommandAnswered {
    CommandAnswered {
        command: command.id,
        verb: verb(command.command).to_owned(),
        actor: command.actor,
        reason: command.reason,
        migration: None,
        refused: None,
        detail: String::new(),
    }
}

fn refuse(answer: &mut CommandAnswered, Refused { code, detail }: Refused) {
    answer.refused = Some(code.to_owned());
    answer.detail = detail;
}

pub(super) fn refused(code: &'static str, detail: &str) -> Refused {
    Refused { code, detail: detail.to_owned() }
}

fn refused_by_budget(it: &Refusal) -> Refused {
    let detail = format!("{} against a limit of {}", it.value, it.limit);
    Refused { code: it.reason.code(), detail }
}

fn verb(command: Command) -> &'static str {
    match command {
        Command::Drain => "DRAIN",
        Command::Cordon => "CORDON",
        Command::Uncordon => "UNCORDON",
        Command::Pin => "PIN",
        Command::Unpin => "UNPIN",
        Command::Pause => "PAUSE",
        Command::Resume => "RESUME",
        Command::Approve => "APPROVE",
        Command::Move => "MOVE",
        Command::Rebuild => "REBUILD",
        Command::SwapModel => "SWAP_MODEL",
        Command::Unknown => "UNKNOWN",
    }
}
