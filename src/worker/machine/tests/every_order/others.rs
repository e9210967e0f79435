//! A planner and a channel as a [`World`] has them, and what they have to do.

use super::super::world::{Channel, TableRow, World, key, number_of, span};
use super::turns::{By, Does, Turn, Who};

/// What is read: an index key, and the primary key of the one row that ever stands there.
pub const KEYS: [(&str, u8); 3] = [("c", 2), ("d", 4), ("e", 2)];

#[derive(Clone)]
pub struct Others {
    pub world: World,
    /// How often a row has changed.
    pub written: usize,
    zombie: Option<Channel>,
    committed: Vec<usize>,
    /// By how much of the map it was last said what was sent, and what.
    marked: (usize, Vec<usize>),
    /// Of each key, how it stands in the index from each time on.
    pub states: [Vec<Option<u64>>; KEYS.len()],
}

impl Others {
    /// Begins with all that there is being sent, and told.
    pub fn new(world: World) -> Self {
        let sent = world.channel.next.clone();
        Self {
            written: 0,
            zombie: None,
            committed: sent.clone(),
            marked: (world.channel.map_read, sent),
            states: states(&world),
            world,
        }
    }

    /// Returns what the channel has to do.
    pub fn ways(&self) -> Vec<Turn> {
        let Channel { map_read, next } = &self.world.channel;
        let map_len = self.world.assignment.len();
        let mut ways = Vec::new();
        if self.is_left(&self.world.channel) {
            ways.extend(self.maps().map(Turn::Sends));
        }
        let is_said = |by| {
            let map_read = if by == By::Newest { map_len } else { *map_read };
            self.marked.0 == map_read && self.marked.1 == *next
        };
        ways.extend(self.maps().filter(|it| !is_said(*it)).map(Turn::Marks));
        ways
    }

    /// By which maps the channel can send.
    pub fn maps(&self) -> impl Iterator<Item = By> {
        let is_newer = self.world.channel.map_read < self.world.assignment.len();
        [Some(By::Known), is_newer.then_some(By::Newest)].into_iter().flatten()
    }

    /// Tells whether a channel that was replaced has something to send.
    pub fn has_zombie(&self) -> bool {
        self.zombie.as_ref().is_some_and(|it| self.is_left(it))
    }

    /// Tells whether the planner can still cancel the move.
    pub fn can_cancel(&self) -> bool {
        let is_committed =
            |it| self.world.assignment.iter().any(|range| range.migration == Some(it));
        self.world.flights.keys().any(|it| !is_committed(*it))
    }

    /// Tells whether another move can begin, if there are to be so many.
    pub fn can_start(&self, moves: usize) -> bool {
        self.world.flights.is_empty() && self.world.ended.len() < moves
    }

    fn is_left(&self, channel: &Channel) -> bool {
        self.world.table.iter().map(Vec::len).ne(channel.next.iter().copied())
    }

    pub fn go(&mut self, turn: Turn) {
        let world = &mut self.world;
        if let Turn::Writes(_, By::Newest) | Turn::Sends(By::Newest) | Turn::Marks(By::Newest) =
            turn
        {
            world.channel.map_read = world.assignment.len();
        }
        match turn {
            Turn::Plans => _ = world.plan(),
            Turn::Starts => {
                let owner = &world.map.owner(&key("").0).expect("an owner").node;
                let to = if Who::of(owner) == Who::A { Who::B } else { Who::A };
                world.start(span("", "m"), &to.name().0);
            }
            Turn::Cancels => world.cancel(*world.flights.keys().next().expect("there is one")),
            Turn::Writes(row, _) => {
                world.row(2, row.to());
                world.send_rows(usize::MAX);
                self.written += 1;
                self.states = states(world);
            }
            Turn::Sends(_) => world.send_rows(usize::MAX),
            Turn::Marks(_) => {
                world.send_marks();
                self.committed.clone_from(&world.channel.next);
                self.marked = (world.channel.map_read, self.committed.clone());
            }
            Turn::Replaced => {
                self.zombie = Some(world.channel.clone());
                world.channel.next.clone_from(&self.committed);
            }
            Turn::ZombieSends => {
                let zombie = self.zombie.take().expect("there is one");
                let channel = std::mem::replace(&mut world.channel, zombie);
                world.send_rows(usize::MAX);
                world.channel = channel;
            }
            Turn::Passes | Turn::Lingers => world.now += 1_000,
            Turn::Of(..) => unreachable!("it is a node's"),
        }
    }

    /// Takes any turn in a world that is whole.
    pub fn go_whole(&mut self, turn: Turn) {
        if let Turn::Of(who, does) = turn {
            if let Does::Reads(source, _) = does {
                assert!(self.world.read(&who.name(), source), "there is a record");
            }
            does.go(&mut self.world, &who.name());
            return;
        }
        self.go(turn);
        if matches!(turn, Turn::Passes | Turn::Lingers) {
            for who in Who::BOTH {
                Does::Wakes.go(&mut self.world, &who.name());
            }
        }
    }

    /// Returns a number that others have in common that go on alike.
    pub fn number(&self) -> u64 {
        let World { now, table, assignment, commands, flights, ended, channel, .. } = &self.world;
        let planner = (assignment.len(), commands.len(), flights.len(), ended);
        number_of(&(now, table, planner, channel, &self.zombie, &self.committed, &self.marked))
    }
}

fn states(world: &World) -> [Vec<Option<u64>>; KEYS.len()] {
    KEYS.map(|(key, primary)| {
        let rows = world.table[0].iter().enumerate().filter(|it| it.1.primary == primary);
        let state = |(offset, row): (usize, &TableRow)| {
            let is_here = row.after.as_ref().is_some_and(|it| it.0 == key);
            is_here.then_some(offset as u64)
        };
        rows.map(state).collect()
    })
}
