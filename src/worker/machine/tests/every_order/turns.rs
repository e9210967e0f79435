//! Says who can go on, and how.

use schemas::NodeId;

use super::super::world::{World, node};
use crate::worker::events::Source;

/// One goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Turn {
    Of(Who, Does),
    /// The planner reads a status.
    Plans,
    /// It has the range go on to the other node.
    Starts,
    Cancels,
    /// A row is written, and the channel sends it.
    Writes(Row, By),
    /// The channel sends what it has not sent.
    Sends(By),
    /// It commits that, and says so.
    Marks(By),
    /// Another channel begins behind the commit, and the one before does not know.
    Replaced,
    ZombieSends,
    /// A second passes, as nobody can go on.
    Passes,
    /// A second passes, though somebody could.
    Lingers,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Who {
    A,
    B,
}

/// What a node does; then it does all that follows, and comes to rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Does {
    /// It reads the next record, and may die of that.
    Reads(Source, Option<Death>),
    ReadsMap(Option<Death>),
    /// It ends, and begins again.
    Crashes(Loses),
    /// Time has passed.
    Wakes,
    /// Nothing; but it is known that it will not die any more.
    Lasts,
}

/// At which flush of those to come, and whether behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Death {
    flush: usize,
    behind: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Loses {
    Nothing,
    Unsynced,
}

/// What becomes of the row that stands at `c`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Row {
    Stays,
    Goes,
    /// To another key of the range.
    Moves,
}

/// By which map a channel sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum By {
    Known,
    Newest,
}

impl Turn {
    pub fn is_fault(self) -> bool {
        match self {
            Self::Of(_, does) => does.is_fault(),
            Self::Cancels | Self::Replaced | Self::Lingers => true,
            Self::Plans
            | Self::Starts
            | Self::Writes(..)
            | Self::Sends(_)
            | Self::Marks(_)
            | Self::ZombieSends
            | Self::Passes => false,
        }
    }

    /// Returns the ways in which a node may die of this; none comes to a third flush.
    pub fn deaths(self) -> impl Iterator<Item = Self> {
        let all = [(0, false), (0, true), (1, false), (1, true)];
        let deaths = all.map(|(flush, behind)| Some(Death { flush, behind }));
        deaths.into_iter().filter_map(move |death| {
            let Self::Of(who, does) = self else { return None };
            let does = match does {
                Does::Reads(source, None) => Does::Reads(source, death),
                Does::ReadsMap(None) => Does::ReadsMap(death),
                Does::Reads(_, Some(_))
                | Does::ReadsMap(Some(_))
                | Does::Crashes(_)
                | Does::Wakes
                | Does::Lasts => return None,
            };
            Some(Self::Of(who, does))
        })
    }
}

impl Who {
    pub const BOTH: [Self; 2] = [Self::A, Self::B];

    pub fn name(self) -> NodeId {
        node(["a", "b"][self as usize])
    }

    pub fn of(name: &NodeId) -> Self {
        if *name == Self::A.name() { Self::A } else { Self::B }
    }
}

impl Does {
    pub fn is_fault(self) -> bool {
        match self {
            Self::Reads(_, death) | Self::ReadsMap(death) => death.is_some(),
            Self::Crashes(_) => true,
            Self::Wakes | Self::Lasts => false,
        }
    }

    /// Has a node do it, which has read the record; tells whether it comes to that.
    pub fn go(self, world: &mut World, name: &NodeId) -> bool {
        match self {
            Self::Reads(source, death) => {
                if source == Source::Update {
                    world.reach_updates(name);
                }
                run(world, name, death);
            }
            Self::ReadsMap(death) => read_map(world, name, death),
            Self::Crashes(Loses::Nothing) => world.crash(name, usize::MAX),
            Self::Crashes(Loses::Unsynced) => world.crash(name, 0),
            Self::Wakes => {
                world.tick(0);
                run(world, name, None);
            }
            Self::Lasts => (),
        }
        let is_dead = world.nodes[name].map_read == 0;
        if is_dead {
            read_map(world, name, None);
        }
        is_dead || !self.is_fault()
    }
}

fn read_map(world: &mut World, name: &NodeId, death: Option<Death>) {
    while world.read_map(name) {}
    run(world, name, death);
}

fn run(world: &mut World, name: &NodeId, death: Option<Death>) {
    world.run(name, death.map(|it| (it.flush, it.behind)));
    world.audit(name);
}

impl Row {
    pub fn to(self) -> Option<&'static str> {
        match self {
            Self::Stays => Some("c"),
            Self::Goes => None,
            Self::Moves => Some("e"),
        }
    }
}
