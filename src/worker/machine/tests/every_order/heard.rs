//! Says what a node answers to whoever asks for a key, by whichever map.

use schemas::Epoch;

use super::super::world::World;
use super::others::KEYS;
use super::turns::Who;
use crate::web::reads::{Answer, Asked};
use crate::worker::serving::Served;

/// Of the range that moves: a has it at the first, b at the second, a again at the third.
pub const EPOCHS_MAX: usize = 3;

/// Of each key and epoch: asked as the owner, and as the source.
pub type Answers = [[[Heard; 2]; EPOCHS_MAX]; KEYS.len()];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    NotNow,
    /// At which epoch, by its place.
    AskSource(Who, usize),
    Version(Option<u64>),
}

pub fn answers(world: &World, who: Who) -> Answers {
    KEYS.map(|key| {
        let both =
            |epoch| [Asked::Owner, Asked::Source].map(|it| heard(world, who, key, epoch, it));
        std::array::from_fn(both)
    })
}

fn heard(
    world: &World,
    who: Who,
    (key, primary): (&str, u8),
    epoch: usize,
    asked_as: Asked,
) -> Heard {
    match world.ask(&who.name(), key, Epoch(epoch as u64 + 1), asked_as) {
        Some(Served::Found { entries, .. }) => {
            let found = entries.iter().find(|it| it.primary_key.0 == [primary]);
            Heard::Version(found.map(|it| it.offset))
        }
        Some(Served::Not(Answer::AskSource { node, epoch })) => {
            Heard::AskSource(Who::of(&node), epoch.0 as usize - 1)
        }
        Some(Served::Not(_)) | None => Heard::NotNow,
    }
}
