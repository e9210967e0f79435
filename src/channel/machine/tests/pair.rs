//! Channels that take a partition from each other, at random: the map is read late by some, commits of
//! who has lost the partition are refused, and who has lost it may not know for long.
//!
//! What is checked is what watermarks are for: behind one of `(offset, generation)`, every row before
//! the offset was sent, and no row from it on is committed that was not sent by that map or a newer one.

use super::*;

const CHANNELS: usize = 3;

const GENERATIONS: u64 = 6;

#[test]
fn r17_no_watermark_says_more_than_was_sent_though_channels_are_replaced() {
    let (mut watermarks, mut refused, mut taken) = (0, 0, 0);
    for seed in 1..=4_000 {
        println!("seed {seed}");
        let mut world = World::new(seed);
        for _ in 0..400 {
            world.step();
        }
        watermarks += world.floors.len();
        refused += world.refused;
        taken += world.taken;
    }
    println!("{watermarks} floors, {refused} commits of zombies, {taken} take-overs");
    assert!(watermarks > 10_000 && refused > 1_000 && taken > 5_000, "too little happens");
}

struct World {
    random: u64,
    channels: Vec<Instance>,
    /// Who has the partition, and the commit that the group has.
    owner: usize,
    stored: Option<(u64, u64)>,
    /// Of each row, the greatest generation by which it is in the log.
    sent: BTreeMap<u64, u64>,
    floors: Vec<(u64, u64)>,
    refused: usize,
    taken: usize,
}

struct Instance {
    channel: Channel,
    /// How much of the map it has read, and where it reads the table.
    map: u64,
    next: Option<u64>,
    paused: bool,
    /// How often it was given the partition: a commit of an earlier time is refused.
    term: u64,
    /// What it wants done next, first to last, and since which term.
    todo: VecDeque<(u64, Action)>,
    /// Sent, and not in the log yet.
    buffer: Vec<Addressed>,
}

impl World {
    fn new(seed: u64) -> Self {
        let instance = |_| Instance {
            channel: Channel::new(Settings { round_ms: 0, ..SETTINGS }),
            map: 0,
            next: None,
            paused: false,
            term: 0,
            todo: VecDeque::new(),
            buffer: Vec::new(),
        };
        let channels = (0..CHANNELS).map(instance).collect();
        let (sent, floors) = (BTreeMap::new(), Vec::new());
        let mut res = Self {
            random: seed,
            channels,
            owner: 0,
            stored: None,
            sent,
            floors,
            refused: 0,
            taken: 0,
        };
        res.take_over(0);
        res
    }

    fn below(&mut self, n: u64) -> u64 {
        self.random = self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (self.random >> 33) % n
    }

    fn step(&mut self) {
        let one = self.below(CHANNELS as u64) as usize;
        match self.below(60) {
            0 => {
                let heir = self.below(CHANNELS as u64) as usize;
                if heir != self.owner {
                    self.take_over(heir);
                }
            }
            1 => {
                // It learns that it has lost the partition, or dies and begins anew.
                if one != self.owner {
                    self.tell(one, Event::Lost { partition: 0 });
                    self.channels[one].next = None;
                }
            }
            2 | 3 => self.read_map(one),
            4..8 => self.tell(one, Event::Tick),
            8..20 => {
                let it = &mut self.channels[one];
                if let Some(offset) = it.next.filter(|_| !it.paused) {
                    it.next = Some(offset + 1);
                    let entries = vec![entry(0, offset, "f")];
                    self.tell(one, Event::RowRead { partition: 0, offset, entries });
                }
            }
            _ => self.act(one),
        }
    }

    fn take_over(&mut self, heir: usize) {
        self.taken += 1;
        self.owner = heir;
        let (offset, committed) = self.stored.map_or((0, None), |it| (it.0, committed(it.1)));
        self.channels[heir].next = Some(offset);
        self.channels[heir].paused = false;
        self.channels[heir].term += 1;
        self.tell(heir, Event::Assigned { partition: 0, offset, committed });
    }

    fn read_map(&mut self, one: usize) {
        let it = &mut self.channels[one];
        if it.map == 1 {
            self.tell(one, Event::MapReached);
        }
        let it = &mut self.channels[one];
        if it.map < GENERATIONS {
            it.map += 1;
            let (map, owner) = (it.map, ["a", "b", "c"][it.map as usize % 3]);
            self.tell(one, Event::MapRead(row(range("", "", owner, map), true)));
        }
    }

    fn tell(&mut self, one: usize, event: Event) {
        let it = &mut self.channels[one];
        it.channel.handle(Millis(0), event);
        let actions = std::iter::from_fn(|| it.channel.poll_action());
        it.todo.extend(actions.map(|action| (it.term, action)));
    }

    /// Does what a channel wants next.
    fn act(&mut self, one: usize) {
        let it = &mut self.channels[one];
        let Some((term, action)) = it.todo.pop_front() else { return };
        match action {
            Action::LetGo(_) => (),
            Action::LookAtEnds | Action::AskRebuild(_) => panic!("nothing is compacted"),
            Action::Pause(_) => it.paused = true,
            Action::Resume(_) => it.paused = false,
            Action::Send(sent) => it.buffer.push(sent),
            Action::Flush => {
                self.write(one);
                self.tell(one, Event::Flushed);
            }
            Action::Commit { offsets, generation, .. } => {
                let ours = one == self.owner && term == self.channels[one].term;
                self.commit(one, ours, &offsets, generation);
            }
        }
        if self.below(2) == 0 {
            self.write(one);
        }
    }

    fn commit(&mut self, one: usize, ours: bool, offsets: &[(u32, u64)], generation: Generation) {
        let mut stored = BTreeSet::new();
        for (partition, next) in offsets {
            // Some are lost on their way.
            if ours && self.below(4) > 0 {
                let before = self.stored.unwrap_or_default();
                assert!(
                    before.1 <= generation.0,
                    "generations go back: {before:?}, {generation:?}"
                );
                self.stored = Some((*next, generation.0));
                stored.insert(*partition);
                self.check();
            } else if !ours {
                self.refused += 1;
            }
        }
        self.tell(one, Event::Committed { stored });
    }

    /// What was sent comes into the log.
    fn write(&mut self, one: usize) {
        for sent in std::mem::take(&mut self.channels[one].buffer) {
            let by = sent.update.generation.0;
            if let Some(it) = sent.update.entry {
                let newest = self.sent.entry(it.entry.offset).or_default();
                *newest = by.max(*newest);
            }
            if let Some(it) = sent.update.watermark {
                let floor = (it.floors[0].offset, by);
                let all = (0..floor.0).all(|row| self.sent.contains_key(&row));
                assert!(all, "floor {floor:?} of {:?}", self.sent);
                self.floors.push(floor);
                self.check();
            }
        }
    }

    fn check(&self) {
        let committed = self.stored.map_or(0, |it| it.0);
        for (offset, generation) in &self.floors {
            for row in *offset..committed {
                let by = self.sent.get(&row);
                assert!(
                    by.is_some_and(|it| generation <= it),
                    "row {row} was committed and sent by {by:?}, behind floor {offset} of {generation}"
                );
            }
        }
    }
}
