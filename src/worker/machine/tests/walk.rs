//! Moves at random with everything that can go wrong: processes read late and die, before and behind what
//! they send, with what was not synced; channels are replaced, and who was replaced goes on sending.
//!
//! What is checked all the time: what a client reads of an entry never goes back, and no digest differs.
//! At the end, when all are well: the index is the fold of the table, and every migration is over.

use std::collections::{BTreeMap, BTreeSet};

use schemas::migration_status::Status;

use super::world::{Channel, PARTITIONS, World, key, node};
use crate::assignment::map::{Map, Row};
use crate::worker::events::Source;

use super::From;
use super::{Key, NodeId};

const KEYS: [&str; 8] = ["b", "e", "g", "k", "n", "q", "t", "w"];

const PRIMARIES: u64 = 10;

#[test]
fn moves_end_and_lose_nothing_whatever_goes_wrong() {
    let number = |name| std::env::var(name).ok().map(|it| it.parse::<u64>().unwrap());
    let seeds = match number("ISOTHERM_WALK_SEED") {
        Some(seed) => seed..=seed,
        None => 1..=number("ISOTHERM_WALK_SEEDS").unwrap_or(100),
    };
    let are_few = seeds.clone().count() < 100;
    let mut happened = BTreeMap::<&str, usize>::new();
    for seed in seeds {
        println!("seed {seed}");
        let mut walk = Walk::new(seed);
        for _ in 0..1_000 {
            walk.step();
        }
        walk.heal();
        for (what, times) in walk.happened {
            *happened.entry(what).or_default() += times;
        }
    }
    println!("{happened:?}");
    // What never went wrong proves nothing.
    let wanted = [
        "replaced",
        "zombie",
        "crashed",
        "started",
        "cancelled",
        "rebuilt",
        "compacted",
        "joined",
        "split",
        "read",
        "complete",
        "failed",
    ];
    let missed: Vec<_> = wanted.iter().filter(|it| !happened.contains_key(*it)).collect();
    assert!(are_few || missed.is_empty(), "never: {missed:?}");
}

struct Walk {
    world: World,
    random: u64,
    names: Vec<NodeId>,
    /// Of the channel: what is committed.
    committed: Vec<usize>,
    zombie: Option<Channel>,
    /// How much of the map a router has.
    router: usize,
    /// The earliest time that what was read of an entry fits.
    read: BTreeMap<(String, u8), usize>,
    cancelled: Vec<schemas::MigrationId>,
    /// Ranges are given away as if their owner were lost, and nothing is read.
    rebuilds: bool,
    rebuilding: BTreeSet<Key>,
    happened: BTreeMap<&'static str, usize>,
}

impl Walk {
    fn new(seed: u64) -> Self {
        let mut world = World::new(&["a", "b", "c"]);
        world.assign(&[
            ("", "h", "a", From::Table),
            ("h", "r", "b", From::Table),
            ("r", "", "c", From::Table),
        ]);
        world.live(1);
        Self {
            world,
            random: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15),
            names: ["a", "b", "c"].map(node).to_vec(),
            committed: vec![0; PARTITIONS as usize],
            zombie: None,
            router: 0,
            read: BTreeMap::new(),
            cancelled: Vec::new(),
            rebuilds: seed.is_multiple_of(3),
            rebuilding: BTreeSet::new(),
            happened: BTreeMap::new(),
        }
    }

    fn below(&mut self, n: u64) -> u64 {
        self.random = self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (self.random >> 33) % n
    }

    fn count(&mut self, what: &'static str) {
        *self.happened.entry(what).or_default() += 1;
    }

    fn any(&mut self) -> NodeId {
        let at = self.below(self.names.len() as u64) as usize;
        self.names[at].clone()
    }

    fn step(&mut self) {
        match self.below(100) {
            0..14 => {
                let primary = self.below(PRIMARIES) as u8;
                let to = KEYS[self.below(8) as usize];
                let to = (self.below(4) > 0).then_some(to);
                self.world.row(primary, to);
            }
            14..17 => {
                let channel = &mut self.world.channel;
                channel.map_read = (channel.map_read + 1).min(self.world.assignment.len());
                // A map is used whole.
                while channel.map_read > 0 && !self.world.assignment[channel.map_read - 1].last {
                    channel.map_read += 1;
                }
            }
            17..27 => {
                let max = self.below(4) as usize;
                self.world.send_rows(max);
            }
            27..32 => {
                self.world.send_marks();
                self.committed.clone_from(&self.world.channel.next);
            }
            32 => {
                // It begins anew behind its commit, and the one before does not know.
                self.count("replaced");
                self.zombie = Some(self.world.channel.clone());
                self.world.channel.next.clone_from(&self.committed);
            }
            33..35 => {
                if let Some(zombie) = self.zombie.take() {
                    self.count("zombie");
                    let channel = std::mem::replace(&mut self.world.channel, zombie);
                    self.world.send_rows(2);
                    self.zombie = Some(std::mem::replace(&mut self.world.channel, channel));
                }
            }
            35..43 => {
                let one = self.any();
                while self.below(4) > 0 && self.world.read_map(&one) {}
            }
            43..65 => {
                let one = self.any();
                let sources = [
                    Source::Status(0),
                    Source::Command,
                    Source::Ack,
                    Source::Segment,
                    Source::Segment,
                    Source::Update,
                    Source::Update,
                ];
                for _ in 0..self.below(8) {
                    let source = sources[self.below(7) as usize];
                    self.world.read(&one, source);
                }
                self.world.run(&one, None);
                self.world.audit(&one);
            }
            65..68 => {
                let one = self.any();
                self.world.read_rows(&one);
                self.world.run(&one, None);
            }
            68 => {
                let one = self.any();
                self.count("crashed");
                let keep = self.below(self.world.unsynced(&one) as u64 + 1) as usize;
                self.world.crash(&one, keep);
            }
            69 | 70 => {
                let one = self.any();
                let source = [Source::Segment, Source::Update][self.below(2) as usize];
                self.world.read(&one, source);
                let dies = (self.below(3) as usize, self.below(2) == 0);
                self.world.run(&one, Some(dies));
            }
            71..76 => {
                self.world.plan();
            }
            76 | 77 => self.start(),
            78 if self.below(8) == 0 => self.cancel(),
            78 => (),
            79 => self.relabel(),
            80 if self.rebuilds => self.rebuild(),
            81 if self.rebuilds => self.compact(),
            80..84 => {
                let ms = self.below(600);
                self.world.tick(ms);
            }
            84..87 => {
                self.router = (self.router + 1).min(self.world.assignment.len());
            }
            // What a node reads that does not know yet that it was taken for lost is not settled.
            _ if self.rebuilds => (),
            _ => self.get(),
        }
    }

    fn start(&mut self) {
        let settled = self.settled();
        if settled.is_empty() || self.world.flights.len() >= 3 {
            return;
        }
        let (span, owner) = settled[self.below(settled.len() as u64) as usize].clone();
        let to = self.any();
        if to != owner {
            self.count("started");
            self.world.start(span, &to.0);
        }
    }

    fn settled(&self) -> Vec<(schemas::KeySpan, NodeId)> {
        let world = &self.world;
        let ranges =
            world.map.iter().map(|it| (crate::assignment::map::span_of(it), it.node.clone()));
        let settled = |it: &(schemas::KeySpan, NodeId)| {
            world.flights.values().all(|flight| flight.range_start != it.0.start)
                && !self.rebuilding.contains(&it.0.start)
        };
        ranges.filter(settled).collect()
    }

    fn cancel(&mut self) {
        let committed: Vec<_> =
            self.world.assignment.iter().filter_map(|it| it.migration).collect();
        let flights: Vec<_> = self.world.flights.keys().copied().collect();
        let left: Vec<_> = flights
            .into_iter()
            .filter(|it| !committed.contains(it) && !self.cancelled.contains(it))
            .collect();
        if !left.is_empty() {
            let one = left[self.below(left.len() as u64) as usize];
            self.count("cancelled");
            self.cancelled.push(one);
            self.world.cancel(one);
        }
    }

    /// Gives a settled range to a node as from one that is lost (R22).
    fn rebuild(&mut self) {
        let settled = self.settled();
        if settled.is_empty() || self.below(3) > 0 {
            return;
        }
        let (span, _) = settled[self.below(settled.len() as u64) as usize].clone();
        let to = self.any();
        self.count("rebuilt");
        let text = |it: &Key| String::from_utf8(it.0.clone()).unwrap();
        let (start, end) = (text(&span.start), text(&span.end));
        self.world.assign(&[(&start, &end, &to.0, From::Table)]);
        self.rebuilding.insert(span.start);
    }

    /// Lets rows go that later ones supersede, as far as the channel has come (R24).
    fn compact(&mut self) {
        for partition in 0..PARTITIONS {
            let rows = &self.world.table[partition as usize];
            for offset in 0..self.committed[partition as usize].min(rows.len()) {
                let is_old = rows[offset + 1..].iter().any(|it| it.primary == rows[offset].primary);
                if is_old {
                    self.world.compacted.insert((partition, offset));
                }
            }
        }
        self.count("compacted");
        // Whoever is active again has said so.
        let world = &self.world;
        self.rebuilding.retain(|start| {
            let range = world.map.owner(&start.0).expect("an owner");
            let mut active = world.nodes[&range.node].runner.worker().active();
            !active.any(|it| it.0.start == *start && it.1 == range.epoch)
        });
    }

    /// Splits a settled range, or joins two of one node.
    fn relabel(&mut self) {
        let settled = self.settled();
        let text = |it: &Key| String::from_utf8(it.0.clone()).unwrap();
        let pair = settled.windows(2).find(|it| it[0].1 == it[1].1 && it[0].0.end == it[1].0.start);
        if let Some([(left, owner), (right, _)]) = pair.filter(|_| self.random & 1024 == 0) {
            self.count("joined");
            let (start, end) = (text(&left.start), text(&right.end));
            self.world.assign(&[(&start, &end, &owner.0, From::None)]);
            return;
        }
        if settled.is_empty() {
            return;
        }
        let (span, owner) = settled[self.below(settled.len() as u64) as usize].clone();
        let inside = KEYS.iter().find(|it| span.start < key(it) && span.contains(it.as_bytes()));
        if let Some(at) = inside {
            self.count("split");
            let (start, end) = (text(&span.start), text(&span.end));
            let parts = [
                (start.as_str(), *at, owner.0.as_str(), From::None),
                (*at, end.as_str(), owner.0.as_str(), From::None),
            ];
            self.world.assign(&parts);
        }
    }

    /// Reads a key with a map that may be late, but never goes back.
    fn get(&mut self) {
        let mut map = Map::default();
        let whole = self.world.assignment[..self.router].iter().rposition(|it| it.last);
        for range in &self.world.assignment[..whole.map_or(0, |it| it + 1)] {
            let row = Row { start: range.range_start.clone(), assignment: Some(range.clone()) };
            map.apply(&row).unwrap();
        }
        let index = KEYS[self.below(8) as usize];
        let Some(found) = self.world.get(index, &map) else { return };
        self.count("read");
        for primary in 0..PRIMARIES as u8 {
            let found = found.iter().find(|it| it.primary_key.0 == [primary]).map(|it| it.offset);
            let table = &self.world.table[primary as usize % PARTITIONS as usize];
            let rows = table.iter().enumerate().filter(|it| it.1.primary == primary);
            // How it stands in the index, from each time on.
            let mut states = vec![(0, None)];
            states.extend(rows.map(|(offset, row)| {
                let is_here = row.after.as_ref().is_some_and(|it| it.0 == index);
                (offset + 1, is_here.then_some(offset as u64))
            }));
            let earliest = self.read.entry((index.to_owned(), primary)).or_default();
            let fits = |(at, state): (usize, &(usize, Option<u64>))| {
                let ends = states.get(at + 1).map_or(usize::MAX, |it| it.0);
                (state.1 == found && *earliest < ends).then_some(state.0)
            };
            let fits = states.iter().enumerate().find_map(fits);
            let Some(from) = fits else {
                let told = self.world.told();
                panic!("{index} of {primary}: {found:?} after {earliest} of {states:?}: {told}");
            };
            *earliest = from.max(*earliest);
        }
    }

    fn heal(&mut self) {
        self.world.live(12);
        self.world.check();
        // All of each range is looked at meanwhile.
        self.world.live(60);
        for name in self.names.clone() {
            self.world.audit(&name);
            for [told, counted] in self.world.sizes(&name) {
                assert_eq!(told, counted, "{name}: {}", self.world.told());
            }
        }
        for (migration, end) in self.world.ended.clone() {
            if end == Status::Complete {
                self.count("complete");
                continue;
            }
            self.count("failed");
            let is_old = |it: &schemas::migration_status::MigrationStatus| {
                let reason = it.reason.as_deref().unwrap_or_default();
                it.migration == migration && reason.contains("not as")
            };
            let is_wanted =
                self.cancelled.contains(&migration) || self.world.statuses.iter().any(is_old);
            assert!(is_wanted, "{migration} failed: {}", self.world.told());
        }
        self.router = self.world.assignment.len();
        for _ in 0..if self.rebuilds { 0 } else { 40 } {
            self.get();
        }
    }
}
