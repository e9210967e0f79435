//! Models somebody who moves ranges by hand, from a seed, and often not as it may be.

use rand::{Rng, SeedableRng};
use rand_pcg::Pcg64;
use schemas::assignment::Assignment;
use schemas::operator_command::{Command, OperatorCommand};
use schemas::wire::encode;
use schemas::{Key, KeySpan};

use super::swap::{model, swap};
use super::world::{ChooseIn as _, node};
use crate::assignment::map::{Map, Row, span_of};

/// In one world of three there is one.
pub struct Operator {
    /// Its own, so that all else is as without it.
    rng: Pcg64,
    is_busy: bool,
    /// Brings other networks.
    swaps: bool,
    map: Map,
    asked: u64,
}

impl Operator {
    pub fn new(seed: u64) -> Self {
        let (rng, is_busy) = (Pcg64::seed_from_u64(!seed), seed.is_multiple_of(3));
        let swaps = seed % 4 == 3;
        Self { rng, is_busy, swaps, map: Map::default(), asked: 0 }
    }

    pub fn assigned(&mut self, start: Key, assignment: Option<Assignment>) {
        self.map.apply(&Row { start, assignment }).expect("epochs grow");
    }

    /// Up to three commands for a tick: most are moves of ranges as they are.
    pub fn commands(&mut self) -> Vec<Vec<u8>> {
        let count = if self.is_busy { self.rng.random_range(0..=3) } else { 0 };
        let mut commands: Vec<_> = (0..count).map(|_| self.command()).collect();
        if self.swaps && self.rng.random_bool(0.1) {
            self.asked += 1;
            let model = match self.rng.random_range(0..4) {
                0 => Vec::new(),
                seed => model(seed).encode(),
            };
            commands.push(encode(&swap(&format!("c-{}", self.asked), Some(model))));
        }
        commands
    }

    fn command(&mut self) -> Vec<u8> {
        const VERBS: [Command; 7] = [
            Command::Rebuild,
            Command::Move,
            Command::Move,
            Command::Move,
            Command::Move,
            Command::Move,
            Command::Drain,
        ];
        let Self { rng, map, asked, .. } = self;
        let spans: Vec<_> = map.iter().map(span_of).collect();
        let place = rng.random_range(0..spans.len().max(1));
        let mut span = spans.get(place).cloned().unwrap_or(KeySpan::all());
        if rng.random_bool(0.1) {
            span.start.0.push(7);
        }
        // Some were sent before.
        *asked += u64::from(!rng.random_bool(0.1));
        let command = OperatorCommand {
            node: Some(node(rng.random_range(1..=5))),
            range_start: Some(span.start),
            range_end: rng.random_bool(0.8).then_some(span.end),
            ..OperatorCommand::new(
                format!("c-{asked}"),
                *VERBS.choose_in(rng),
                "somebody".into(),
                String::new(),
            )
        };
        if rng.random_bool(0.95) { encode(&command) } else { b"not avro".to_vec() }
    }
}
