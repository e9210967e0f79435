//! Keeps what worlds consist of, each once: a node, all others, and what each of them may read.
//!
//! ```text
//!  node, what it reads ──> node, what it sends      others, what they read ──> others, what they send
//! ```
//!
//! What one makes of what it reads is worked out once, in a [`World`] where it is alone, for all worlds in
//! which it is as it is. So a world is a few numbers, and most of its ways on are looked up.
//!
//! Of logs there is only what may be read yet: worlds are the same that differ in nothing but what all have
//! behind them.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use super::super::world::{MayCrash, Node, World, number_of};
use super::heard::{Answers, answers};
use super::others::{KEYS, Others};
use super::turns::{Does, Turn, Who};
use crate::worker::events::{Record, Source};

/// Of a node, in their order.
pub const SOURCES: [Source; 5] =
    [Source::Status(0), Source::Command, Source::Ack, Source::Segment, Source::Update];
const COMMANDS: usize = 1;
const UPDATES: usize = 4;

/// A world, in parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Place {
    nodes: [u32; 2],
    others: u32,
    /// What each reader may read: the nodes, and the planner.
    logs: [u32; 3],
    pub faults_left: u8,
    pub seconds_left: u8,
    /// Of each key: the earliest time that what was read of it fits.
    pub read: [u8; KEYS.len()],
}

/// A node, and what of it is looked at often.
pub struct NodePart {
    node: Node,
    /// From where on it may read.
    from: [usize; SOURCES.len()],
    /// How far behind that it reads on.
    next: [usize; SOURCES.len()],
    wants: [bool; SOURCES.len()],
    pub map_read: usize,
    pub answers: Answers,
}

/// Numbers of records, by source. The planner has statuses alone.
type Logs = [Vec<u32>; SOURCES.len()];

/// Of readers, behind the nodes.
const PLANNER: usize = 2;

/// A turn, and all that it depends on.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Reading {
    part: u32,
    turn: Turn,
    record: u32,
    now: u64,
    map_len: usize,
    updates_len: usize,
    may_crash: MayCrash,
}

/// What comes of it.
struct Came {
    part: u32,
    /// How much of each source it never reads again.
    passed: [usize; SOURCES.len()],
    sent: Vec<Sent>,
}

#[derive(Clone, Copy)]
struct Sent {
    reader: usize,
    source: usize,
    record: u32,
}

/// What there was of one kind, by numbers that equal ones have in common.
struct Once<T> {
    all: Vec<T>,
    at: HashMap<u64, u32>,
}

#[derive(Default)]
pub struct Parts {
    nodes: Once<NodePart>,
    others: Once<Others>,
    records: Once<Record>,
    logs: Once<Logs>,
    came: Vec<Came>,
    /// What came of turns; `None`: there is no such turn.
    readings: HashMap<Reading, Option<u32>>,
    /// What of a reader's logs came with what of turns.
    behind: HashMap<(usize, u32, u32), u32>,
    can_crash: bool,
}

impl<T> Default for Once<T> {
    fn default() -> Self {
        Self { all: Vec::new(), at: HashMap::new() }
    }
}

impl<T> Once<T> {
    fn keep(&mut self, number: u64, it: impl FnOnce() -> T) -> u32 {
        let new = self.all.len() as u32;
        let at = *self.at.entry(number).or_insert(new);
        if at == new {
            self.all.push(it());
        }
        at
    }

    fn at(&self, at: u32) -> &T {
        &self.all[at as usize]
    }
}

impl Parts {
    /// Begins with a world, in which nodes may die or not.
    pub fn new(
        mut world: World,
        faults_left: u8,
        seconds_left: u8,
        can_crash: bool,
    ) -> (Self, Place) {
        let mut res = Self { can_crash, ..Self::default() };
        let may_crash = res.may_crash(faults_left);
        let mut logs = <[Logs; 3]>::default();
        let nodes = Who::BOTH.map(|who| {
            let name = who.name();
            let from = world.nodes[&name].reads_from(may_crash);
            for (log, source) in logs[who as usize].iter_mut().zip(SOURCES) {
                let records = (from[&source]..).map_while(|at| world.record(&name, source, at));
                *log = records.map(|it| res.keep_record(it)).collect();
            }
            res.keep_node(&mut world, who, may_crash).0
        });
        assert_eq!(world.statuses, [], "there was no move before");
        world.inboxes.clear();
        let others = res.keep_others(Others::new(world));
        let logs = logs.map(|it| res.keep_logs(it));
        let read = [0; KEYS.len()];
        (res, Place { nodes, others, logs, faults_left, seconds_left, read })
    }

    pub fn node(&self, at: Place, who: Who) -> &NodePart {
        self.nodes.at(at.nodes[who as usize])
    }

    pub fn others(&self, at: Place) -> &Others {
        self.others.at(at.others)
    }

    /// Returns the records that a node can read next.
    pub fn next(&self, at: Place, who: Who) -> impl Iterator<Item = (Source, &Record)> {
        let NodePart { next, wants, .. } = self.node(at, who);
        let logs = self.logs(at, who as usize);
        SOURCES.into_iter().enumerate().filter_map(|(n, source)| {
            let record = logs[n].get(next[n]).filter(|_| wants[n])?;
            Some((source, self.records.at(*record)))
        })
    }

    /// Returns the status that the planner reads next.
    pub fn next_status(&self, at: Place) -> Option<&Record> {
        self.logs(at, PLANNER)[0].first().map(|it| self.records.at(*it))
    }

    fn logs(&self, at: Place, reader: usize) -> &Logs {
        self.logs.at(at.logs[reader])
    }

    /// Lets one go on; `None`: it does not come to that.
    pub fn go(&mut self, at: Place, turn: Turn) -> Option<Place> {
        let faults_left = at.faults_left - u8::from(turn.is_fault());
        let seconds_left = at.seconds_left - u8::from(turn == Turn::Passes);
        let mut at = self.take(Place { faults_left, seconds_left, ..at }, turn)?;
        let mut both = |does| {
            for who in Who::BOTH {
                at = self.take(at, Turn::Of(who, does)).expect("it can");
            }
        };
        if matches!(turn, Turn::Passes | Turn::Lingers) {
            both(Does::Wakes);
        }
        if turn.is_fault() && faults_left == 0 {
            both(Does::Lasts);
        }
        Some(at)
    }

    fn take(&mut self, mut at: Place, turn: Turn) -> Option<Place> {
        let reading = self.reading(at, turn);
        let came = match self.readings.get(&reading) {
            Some(known) => *known,
            None => {
                let came = if let Turn::Of(who, does) = turn {
                    self.node_goes(at, who, does, reading)
                } else {
                    Some(self.others_go(at, turn))
                };
                let new = self.came.len() as u32;
                let number = came.is_some().then_some(new);
                self.came.extend(came);
                self.readings.insert(reading, number);
                number
            }
        }?;
        let part = self.came[came as usize].part;
        let reader = if let Turn::Of(who, _) = turn {
            at.nodes[who as usize] = part;
            who as usize
        } else {
            at.others = part;
            PLANNER
        };
        for (other, logs) in at.logs.iter_mut().enumerate() {
            *logs = self.logs_behind(other, *logs, came, reader);
        }
        Some(at)
    }

    fn reading(&self, at: Place, turn: Turn) -> Reading {
        let (part, may_crash) = (at.others, MayCrash::No);
        let bare = Reading { part, turn, record: 0, now: 0, map_len: 0, updates_len: 0, may_crash };
        let Turn::Of(who, does) = turn else {
            let record = if turn == Turn::Plans { self.logs(at, PLANNER)[0][0] } else { 0 };
            return Reading { record, ..bare };
        };
        let (logs, world) = (self.logs(at, who as usize), &self.others(at).world);
        let mut res = Reading {
            part: at.nodes[who as usize],
            now: world.now,
            may_crash: self.may_crash(at.faults_left),
            ..bare
        };
        if let Does::Reads(source, _) = does {
            let n = source_at(source);
            res.record = logs[n][self.node(at, who).next[n]];
        }
        // Who begins anew reads all of the map, and asks how many updates there are.
        if does.is_fault() {
            res.updates_len = logs[UPDATES].len();
        }
        if does.is_fault() || matches!(does, Does::ReadsMap(_)) {
            res.map_len = world.assignment.len();
        }
        res
    }

    fn node_goes(&mut self, at: Place, who: Who, does: Does, reading: Reading) -> Option<Came> {
        let name = who.name();
        let mut world = self.others(at).world.clone();
        let NodePart { node, from, .. } = self.node(at, who);
        let from = *from;
        world.nodes.insert(name.clone(), node.clone());
        let record = self.records.at(reading.record).clone();
        let updates = vec![record.clone(); from[UPDATES] + reading.updates_len];
        world.inboxes.insert((name.clone(), Source::Update), updates);
        if let Does::Reads(source, _) = does {
            world.tell(&name, source, record);
        }
        if !does.go(&mut world, &name) {
            return None;
        }
        world.inboxes.remove(&(name, Source::Update));
        let sent = self.sent(&mut world);
        let (part, now_from) = self.keep_node(&mut world, who, reading.may_crash);
        let passed = std::array::from_fn(|n| now_from[n] - from[n]);
        Some(Came { part, passed, sent })
    }

    fn others_go(&mut self, at: Place, turn: Turn) -> Came {
        let mut others = self.others(at).clone();
        let mut passed = [0; SOURCES.len()];
        if turn == Turn::Plans
            && let Some(Record::Status(status)) = self.next_status(at)
        {
            others.world.statuses.push(status.clone());
            passed[0] = 1;
        }
        let commands = others.world.commands.len();
        others.go(turn);
        let world = &mut others.world;
        world.statuses.clear();
        world.statuses_read = 0;
        let mut sent = self.sent(world);
        for command in &world.commands[commands..] {
            let record = self.keep_record(Record::Command(command.clone()));
            sent.extend([0, 1].map(|reader| Sent { reader, source: COMMANDS, record }));
        }
        Came { part: self.keep_others(others), passed, sent }
    }

    /// Takes what was sent out of a world.
    fn sent(&mut self, world: &mut World) -> Vec<Sent> {
        assert_eq!(world.dead, [], "nothing is unusable");
        let mut sent = Vec::new();
        for status in world.statuses.drain(..) {
            let record = self.keep_record(Record::Status(status));
            sent.extend([0, 1, PLANNER].map(|reader| Sent { reader, source: 0, record }));
        }
        for ((name, source), records) in std::mem::take(&mut world.inboxes) {
            let reader = Who::of(&name) as usize;
            for record in records {
                let record = self.keep_record(record);
                sent.push(Sent { reader, source: source_at(source), record });
            }
        }
        sent
    }

    /// Returns what a reader may read behind what came of a turn, its own or another's.
    fn logs_behind(&mut self, reader: usize, logs: u32, came: u32, whose: usize) -> u32 {
        let Came { passed, sent, .. } = &self.came[came as usize];
        let mut sent = sent.iter().filter(|it| it.reader == reader).peekable();
        if reader != whose && sent.peek().is_none() {
            return logs;
        }
        if let Some(known) = self.behind.get(&(reader, logs, came)) {
            return *known;
        }
        let mut new = self.logs.at(logs).clone();
        if reader == whose {
            new.iter_mut().zip(passed).for_each(|(log, passed)| _ = log.drain(..*passed));
        }
        sent.for_each(|it| new[it.source].push(it.record));
        let res = self.keep_logs(new);
        self.behind.insert((reader, logs, came), res);
        res
    }

    /// Takes a node out of a world; returns its number, and from where on it may read.
    fn keep_node(
        &mut self,
        world: &mut World,
        who: Who,
        may_crash: MayCrash,
    ) -> (u32, [usize; SOURCES.len()]) {
        let node = &world.nodes[&who.name()];
        let (number, from) = node.number(may_crash);
        let (number, from) = (number_of(&(who, may_crash, number)), SOURCES.map(|it| from[&it]));
        let at = self.nodes.keep(number, || {
            let answers = answers(world, who);
            let node = world.nodes.remove(&who.name()).expect("it is there");
            NodePart {
                from,
                next: std::array::from_fn(|n| node.read[&SOURCES[n]] - from[n]),
                wants: SOURCES.map(|it| node.runner.worker().wants(it)),
                map_read: node.map_read,
                answers,
                node,
            }
        });
        world.nodes.remove(&who.name());
        (at, from)
    }

    fn keep_others(&mut self, others: Others) -> u32 {
        self.others.keep(others.number(), || others)
    }

    fn keep_logs(&mut self, logs: Logs) -> u32 {
        let mut hasher = DefaultHasher::new();
        logs.hash(&mut hasher);
        self.logs.keep(hasher.finish(), || logs)
    }

    fn keep_record(&mut self, record: Record) -> u32 {
        self.records.keep(number_of(&record), || record)
    }

    fn may_crash(&self, faults_left: u8) -> MayCrash {
        if self.can_crash && faults_left > 0 { MayCrash::Yes } else { MayCrash::No }
    }
}

fn source_at(source: Source) -> usize {
    SOURCES.iter().position(|it| *it == source).expect("it is one of them")
}
