//! Asks for moves: of any settled range, and of some back to where they came from.

use std::collections::BTreeSet;

use schemas::operator_command::{Command, OperatorCommand};
use schemas::{Key, Millis, NodeId};

use super::logs::Logs;
use super::options::Random;

#[derive(Debug, Default)]
pub struct Operator {
    /// Ranges that are to go back, and where to.
    returns: BTreeSet<(Key, NodeId)>,
    /// Those that have to leave there first.
    leaving: BTreeSet<(Key, NodeId)>,
    commands: u64,
}

impl Operator {
    /// Wants one of the settled ranges at a node, or one back; tells whether it is one back.
    pub fn ask(
        &mut self,
        settled: Vec<(Key, NodeId)>,
        to: NodeId,
        now: u64,
        logs: &mut Logs,
        random: &mut Random,
    ) -> bool {
        for (start, owner) in std::mem::take(&mut self.leaving) {
            let is_gone = settled.iter().any(|it| it.0 == start && it.1 != owner);
            let wanted = if is_gone { &mut self.returns } else { &mut self.leaving };
            wanted.insert((start, owner));
        }
        let back = settled.iter().find_map(|(start, owner)| {
            let is_it = |it: &&(Key, NodeId)| it.0 == *start && it.1 != *owner;
            self.returns.iter().find(is_it).cloned()
        });
        if let Some((start, to)) = back {
            self.returns.remove(&(start.clone(), to.clone()));
            self.command(start, to, now, logs);
            return true;
        }
        let elsewhere: Vec<_> = settled.into_iter().filter(|it| it.1 != to).collect();
        if !elsewhere.is_empty() {
            let (start, owner) = random.pick(&elsewhere);
            if random.one_in(3) {
                self.leaving.insert((start.clone(), owner));
            }
            self.command(start, to, now, logs);
        }
        false
    }

    fn command(&mut self, start: Key, to: NodeId, now: u64, logs: &mut Logs) {
        self.commands += 1;
        let command = OperatorCommand {
            node: Some(to),
            range_start: Some(start),
            ..OperatorCommand::new(
                format!("c-{}", self.commands),
                Command::Move,
                "somebody".into(),
                String::new(),
            )
        };
        logs.asked.push((Millis(now), command));
    }
}
