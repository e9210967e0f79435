//! Tells what happens at each tick, at random, and how things stand after it.

use std::collections::{BTreeMap, BTreeSet};

use dataflows::Tick;
use dataflows::delta::Placed;
use dataflows::heat::Heat;
use dataflows::splits::SplitChange;
use dataflows::tally::{BYTES_MAX, COST_US_MAX, Costs, Query, Rules};
use dataflows::window::Reshape;
use rand::seq::{IndexedRandom, SliceRandom};
use rand::{Rng, SeedableRng};
use rand_pcg::Pcg64;
use schemas::query_log::Op;
use schemas::wire::DecodeError;
use schemas::{CellId, Key, KeySpan, Millis, NodeId, RangeId};

pub const TICK_MS: u64 = 100;
pub const RULES: Rules = Rules {
    costs: Costs { read_us: 3, scan_us: 5, write_us: 7 },
    tick_ms: TICK_MS,
    key_bytes_max: 8,
};

/// An entry as the test writes it; the value of a record is a list of them.
#[derive(Clone, Debug)]
pub struct Asked {
    pub time: u64,
    pub key: Vec<u8>,
    pub op: Op,
    pub cost_us: Option<u64>,
    pub bytes: u64,
}

/// A record: its entries, and whether it breaks off behind them.
#[derive(Clone, Debug)]
pub struct Logged {
    pub entries: Vec<Asked>,
    pub broken: bool,
}

/// What is fed at one tick.
#[derive(Clone, Debug, Default)]
pub struct Events {
    pub payloads: Vec<Logged>,
    pub splits: Vec<SplitChange>,
    pub reshapes: Vec<Reshape>,
    pub cell_ranges: Vec<((CellId, RangeId), isize)>,
    pub range_nodes: Vec<((RangeId, NodeId), isize)>,
    pub desired: Vec<(Placed, isize)>,
    pub current: Vec<(Placed, isize)>,
}

/// How things stand at the end of a tick.
#[derive(Clone, Debug, Default)]
pub struct State {
    pub splits: BTreeMap<Key, CellId>,
    pub watched: BTreeSet<CellId>,
    pub history: BTreeMap<(CellId, Tick), Heat>,
    pub cell_ranges: BTreeMap<CellId, RangeId>,
    pub range_nodes: BTreeMap<RangeId, NodeId>,
    pub desired: BTreeSet<Placed>,
    pub current: BTreeSet<Placed>,
}

pub struct Told {
    pub events: Events,
    pub state: State,
}

pub struct Story {
    pub seed: u64,
    pub first: Tick,
    pub ticks: Vec<Told>,
    /// How many ticks are fed at once, in no order.
    pub bursts: Vec<usize>,
}

impl Story {
    /// Two ranges of one cell each: `a` on node a, and from `m` on, on node b.
    pub fn of_two_ranges() -> Self {
        let mut story = Self { seed: 0, first: 1000, ticks: Vec::new(), bursts: Vec::new() };
        story.tick(|events| {
            for (id, start, node) in [(1, "", "a"), (2, "m", "b")] {
                let start = Key(start.into());
                events.splits.push(SplitChange::Insert { start, cell: CellId(id) });
                events.cell_ranges.push(((CellId(id), RangeId(id)), 1));
                events.range_nodes.push(((RangeId(id), NodeId(node.into())), 1));
            }
        });
        story
    }

    /// Adds a tick that is fed by itself. The first call's events join those of the second, so that a
    /// story begins with something to tell.
    pub fn tick(&mut self, tell: impl FnOnce(&mut Events)) {
        let fresh = self.ticks.len() == 1 && self.bursts.is_empty();
        if !fresh {
            let (events, state) = Default::default();
            self.ticks.push(Told { events, state });
        }
        if fresh || self.ticks.len() > 1 {
            self.bursts.push(1);
        }
        tell(&mut self.ticks.last_mut().expect("a tick was added").events);
    }

    pub fn random(seed: u64) -> Self {
        let mut teller = Teller::new(seed);
        let mut ticks = Vec::new();
        let mut bursts = Vec::new();
        while ticks.len() < 135 {
            // Mostly a few ticks, now and then a long silence.
            let (burst, silent) = match teller.rng.random_range(0..12) {
                0..3 => (teller.rng.random_range(5..70), true),
                3..5 => (teller.rng.random_range(2..5), false),
                _ => (1, teller.rng.random_bool(0.2)),
            };
            bursts.push(burst);
            for _ in 0..burst {
                let events = teller.tell(ticks.is_empty(), silent);
                ticks.push(Told { events, state: teller.state.clone() });
                teller.now += 1;
            }
        }
        Self { seed, first: FIRST, ticks, bursts }
    }
}

const FIRST: Tick = 50_000;

struct Teller {
    rng: Pcg64,
    now: Tick,
    state: State,
    next_id: u64,
}

impl Teller {
    fn new(seed: u64) -> Self {
        let rng = Pcg64::seed_from_u64(seed);
        Self { rng, now: FIRST, state: State::default(), next_id: 100 }
    }

    fn tell(&mut self, is_first: bool, silent: bool) -> Events {
        let mut events = Events::default();
        if is_first {
            self.begin(&mut events);
        } else if !silent {
            // Placement first: queries of a tick are looked up as of it.
            for _ in 0..self.rng.random_range(0..5) {
                match self.rng.random_range(0..6) {
                    0 => self.cut(&mut events),
                    1 => self.join(&mut events),
                    2 => self.split_range(&mut events),
                    3 => self.move_range(&mut events),
                    4 => self.regroup(&mut events),
                    _ => self.watch(&mut events),
                }
            }
        }
        if !silent && self.rng.random_bool(0.6) {
            self.ask(&mut events);
        }
        if !silent || is_first {
            self.place(&mut events);
        }
        events
    }

    fn begin(&mut self, events: &mut Events) {
        for (id, start) in [(1, vec![]), (2, b"c".to_vec()), (3, b"m".to_vec()), (4, b"t".to_vec())]
        {
            let start = Key(start);
            self.state.splits.insert(start.clone(), CellId(id));
            events.splits.push(SplitChange::Insert { start, cell: CellId(id) });
            self.group(events, CellId(id), RangeId(id / 2));
        }
        for range in 0..3 {
            self.own(events, RangeId(range), NodeId(format!("n{}", range % 2)));
        }
    }

    /// Sets the range of a cell.
    fn group(&mut self, events: &mut Events, cell: CellId, range: RangeId) {
        if let Some(old) = self.state.cell_ranges.insert(cell, range) {
            events.cell_ranges.push(((cell, old), -1));
        }
        events.cell_ranges.push(((cell, range), 1));
    }

    /// Sets the node of a range.
    fn own(&mut self, events: &mut Events, range: RangeId, node: NodeId) {
        if let Some(old) = self.state.range_nodes.insert(range, node.clone()) {
            events.range_nodes.push(((range, old), -1));
        }
        events.range_nodes.push(((range, node), 1));
    }

    fn id(&mut self) -> u64 {
        self.next_id += 1;
        // Far apart, as ids that are hashes are.
        self.next_id.wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }

    fn some_cell(&mut self) -> (Key, CellId) {
        let splits: Vec<_> = self.state.splits.clone().into_iter().collect();
        splits.choose(&mut self.rng).expect("there is a cell").clone()
    }

    /// A cell that something else has been done to in this tick is left alone.
    fn is_free(events: &Events, cell: CellId) -> bool {
        events.reshapes.iter().all(|it| it.cell() != cell)
    }

    /// Cuts a cell in two and divides its history.
    fn cut(&mut self, events: &mut Events) {
        let at = self.key();
        let (start, cell) = {
            let below = self.state.splits.range(..=at.clone()).next_back();
            let (start, cell) = below.expect("the first cell begins at the empty key");
            (start.clone(), *cell)
        };
        if start == at || !Self::is_free(events, cell) || self.state.splits.len() > 12 {
            return;
        }
        let right = CellId(self.id());
        self.state.splits.insert(at.clone(), right);
        events.splits.push(SplitChange::Insert { start: at, cell: right });
        let range = self.state.cell_ranges[&cell];
        self.group(events, right, range);
        events.reshapes.push(Reshape::Forget(cell));
        for (of, heat) in self.take(cell) {
            let part = heat.part(1, 3);
            self.give(events, cell, of, heat - part);
            self.give(events, right, of, part);
        }
    }

    /// Joins a cell to the one before it.
    fn join(&mut self, events: &mut Events) {
        let (start, cell) = self.some_cell();
        let Some((_, &left)) = self.state.splits.range(..start.clone()).next_back() else { return };
        if !Self::is_free(events, cell) || !Self::is_free(events, left) {
            return;
        }
        let range = self.state.cell_ranges.remove(&cell).expect("every cell has a range");
        self.state.splits.remove(&start);
        self.state.watched.remove(&cell);
        events.splits.push(SplitChange::Remove { start });
        events.cell_ranges.push(((cell, range), -1));
        events.reshapes.push(Reshape::Forget(cell));
        for (of, heat) in self.take(cell) {
            self.give(events, left, of, heat);
        }
    }

    fn take(&mut self, cell: CellId) -> Vec<(Tick, Heat)> {
        let taken: BTreeMap<_, _> =
            self.state.history.extract_if(.., |at, _| at.0 == cell).collect();
        taken.into_iter().map(|((_, of), heat)| (of, heat)).collect()
    }

    fn give(&mut self, events: &mut Events, cell: CellId, of: Tick, heat: Heat) {
        *self.state.history.entry((cell, of)).or_default() += heat;
        events.reshapes.push(Reshape::Slot(cell, of, heat));
    }

    /// Gives some cells of a range to a new one, on the same node.
    fn split_range(&mut self, events: &mut Events) {
        let (start, cell) = self.some_cell();
        let range = self.state.cell_ranges[&cell];
        let child = RangeId(self.id());
        let node = self.state.range_nodes[&range].clone();
        self.own(events, child, node);
        let behind: Vec<_> = self.state.splits.range(start..).map(|(_, cell)| *cell).collect();
        for cell in
            behind.into_iter().filter(|it| self.state.cell_ranges[it] == range).collect::<Vec<_>>()
        {
            self.group(events, cell, child);
        }
    }

    fn move_range(&mut self, events: &mut Events) {
        let ranges: Vec<_> = self.state.range_nodes.keys().copied().collect();
        let range = *ranges.choose(&mut self.rng).expect("there is a range");
        let node = NodeId(format!("n{}", self.rng.random_range(0..4)));
        self.own(events, range, node);
    }

    /// Gives a cell to another range.
    fn regroup(&mut self, events: &mut Events) {
        let (_, cell) = self.some_cell();
        let (_, other) = self.some_cell();
        let range = self.state.cell_ranges[&other];
        self.group(events, cell, range);
    }

    /// Begins or ends sampling; not of a cell whose start changes in this tick.
    fn watch(&mut self, events: &mut Events) {
        let (start, cell) = self.some_cell();
        if events.splits.iter().any(|it| {
            let (SplitChange::Remove { start: at }
            | SplitChange::Insert { start: at, .. }
            | SplitChange::Watch { start: at }
            | SplitChange::Unwatch { start: at }) = it;
            *at == start
        }) {
            return;
        }
        if self.state.watched.remove(&cell) {
            events.splits.push(SplitChange::Unwatch { start });
        } else {
            self.state.watched.insert(cell);
            events.splits.push(SplitChange::Watch { start });
        }
    }

    fn key(&mut self) -> Key {
        let bytes = self.rng.random_range(1..4);
        Key((0..bytes).map(|_| self.rng.random_range(b'a'..=b'z')).collect())
    }

    /// Queries: some late, some broken, some with keys that are too long.
    fn ask(&mut self, events: &mut Events) {
        for _ in 0..self.rng.random_range(0..6) {
            let many = if self.rng.random_bool(0.1) { 200 } else { 8 };
            let entries = (0..self.rng.random_range(0..many)).map(|_| self.asked()).collect();
            let logged = Logged { entries, broken: self.rng.random_bool(0.1) };
            if !logged.broken {
                for asked in logged.entries.iter().filter(|it| it.key.len() <= RULES.key_bytes_max)
                {
                    let (_, cell) = self
                        .state
                        .splits
                        .range(..=Key(asked.key.clone()))
                        .next_back()
                        .expect("a first cell");
                    *self.state.history.entry((*cell, self.now)).or_default() += heat_of(asked);
                }
            }
            events.payloads.push(logged);
        }
    }

    fn asked(&mut self) -> Asked {
        let rng = &mut self.rng;
        let (early, late) = (self.now * TICK_MS, rng.random_bool(0.1));
        let time = if late {
            early.saturating_sub(rng.random_range(1..90_000))
        } else {
            early + rng.random_range(0..3)
        };
        let op = *[Op::Read, Op::Read, Op::Scan, Op::Write, Op::Unknown].choose(rng).expect("five");
        let cost_us = [None, Some(0), Some(40), Some(90), Some(u64::MAX)][rng.random_range(0..5)];
        let cost_us = if rng.random_bool(0.9) { cost_us.map(|it| it.min(90)) } else { cost_us };
        let bytes = if rng.random_bool(0.01) { u64::MAX } else { rng.random_range(0..50) };
        let mut key = self.key().0;
        if self.rng.random_bool(0.02) {
            key.resize(9, b'x');
        }
        Asked { time, key, op, cost_us, bytes }
    }

    fn place(&mut self, events: &mut Events) {
        for (rows, said) in [
            (&mut self.state.desired, &mut events.desired),
            (&mut self.state.current, &mut events.current),
        ] {
            for _ in 0..self.rng.random_range(0..3) {
                let start = Key(vec![b'a' + self.rng.random_range(0..4)]);
                let node = NodeId(format!("n{}", self.rng.random_range(0..2)));
                let row = (KeySpan { start, end: Key::default() }, node);
                let diff = if rows.remove(&row) { -1 } else { 1 };
                if diff > 0 {
                    rows.insert(row.clone());
                }
                said.push((row, diff));
            }
        }
    }
}

/// What an entry counts.
pub fn heat_of(asked: &Asked) -> Heat {
    let bytes = asked.bytes.min(BYTES_MAX) as i64;
    let cost = |default: u64| asked.cost_us.unwrap_or(default).min(COST_US_MAX) as i64;
    match asked.op {
        Op::Read | Op::Unknown => Heat { reads: 1, read_us: cost(3), bytes, ..Heat::default() },
        Op::Scan => Heat { reads: 1, read_us: cost(5), bytes, ..Heat::default() },
        Op::Write => Heat { writes: 1, write_us: cost(7), bytes, ..Heat::default() },
    }
}

pub fn entry(tick: Tick, key: &[u8], cost_us: u64) -> Asked {
    Asked {
        time: tick * TICK_MS,
        key: key.to_vec(),
        op: Op::Read,
        cost_us: Some(cost_us),
        bytes: 0,
    }
}

pub fn record(entries: &[Asked]) -> Logged {
    Logged { entries: entries.to_vec(), broken: false }
}

const OPS: [Op; 4] = [Op::Read, Op::Scan, Op::Write, Op::Unknown];

/// Writes a record as bytes; [`read`] reads it.
pub fn write(logged: &Logged) -> Vec<u8> {
    let mut value = Vec::new();
    for asked in &logged.entries {
        let op = OPS.iter().position(|op| *op == asked.op).expect("one of four") as u64;
        let cost = asked.cost_us.map_or([0, 0], |it| [1, it]);
        for number in [asked.time, op, cost[0], cost[1], asked.bytes, asked.key.len() as u64] {
            value.extend(number.to_le_bytes());
        }
        value.extend(&asked.key);
    }
    if logged.broken {
        value.push(0);
    }
    value
}

pub fn read(mut value: &[u8], each: &mut dyn FnMut(Query<'_>)) -> Result<usize, DecodeError> {
    let broken = || DecodeError::Malformed("it breaks off".to_owned());
    let mut entries = 0;
    while !value.is_empty() {
        let (head, rest) = value.split_at_checked(48).ok_or_else(broken)?;
        let number = |at: usize| {
            u64::from_le_bytes(head[8 * at..8 * at + 8].try_into().expect("eight bytes"))
        };
        let (key, rest) = rest.split_at_checked(number(5) as usize).ok_or_else(broken)?;
        each(Query {
            time: Millis(number(0)),
            key,
            op: OPS[number(1) as usize],
            cost_us: (number(2) == 1).then(|| number(3)),
            bytes: number(4),
            estimated: false,
        });
        (value, entries) = (rest, entries + 1);
    }
    Ok(entries)
}

/// Shuffles what is fed together.
pub fn shuffle<T>(items: &mut [T], seed: u64) {
    items.shuffle(&mut Pcg64::seed_from_u64(seed));
}
