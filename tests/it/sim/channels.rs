//! Runs the channels: a group whose partitions go from one to the other, in order or by force. Who has lost
//! one by force does not know it for a while: what it sends arrives, what it commits is not stored.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use isotherm::channel::committed::Committed;
use isotherm::channel::machine::{Action, Addressed, Channel, End, Event, Settings};
use isotherm::channel::request;
use schemas::operator_command::OperatorCommand;
use schemas::{Millis, NodeId};

use super::logs::{Logs, PARTITIONS, flushed_in_part};
use super::options::Random;

const GROUP: &str = "channel";

/// Two channels, and what the broker knows of their group.
pub struct Channels {
    /// Until then none of them does anything.
    pub away_until: u64,
    settings: Settings,
    instances: Vec<Instance>,
    /// The consumer group's generation; a commit by an older one is not stored.
    term: u64,
    /// By partition: whose it is, and since which term.
    owners: Vec<(usize, u64)>,
}

/// One channel.
struct Instance {
    channel: Channel,
    map_read: usize,
    /// Where the map ended when it began; `None`: it was told that this is reached.
    map_end: Option<usize>,
    reports_read: usize,
    late_until: u64,
    /// The consumer group's generation that it knows.
    term: u64,
    partitions: BTreeMap<u32, Reading>,
    /// Partitions that it was asked to let go, and for whom.
    leaving: BTreeMap<u32, usize>,
    actions: VecDeque<Action>,
    /// Sent, and perhaps not in the log yet.
    buffer: Vec<Sent>,
}

/// What a channel writes.
enum Sent {
    Update(Addressed),
    Command(OperatorCommand),
}

struct Reading {
    next: u64,
    term: u64,
    is_paused: bool,
}

impl Instance {
    fn new(settings: Settings, logs: &Logs) -> Self {
        Self {
            channel: Channel::new(settings),
            map_read: 0,
            map_end: Some(logs.assignment.len()),
            reports_read: 0,
            late_until: 0,
            term: 0,
            partitions: BTreeMap::new(),
            leaving: BTreeMap::new(),
            actions: VecDeque::new(),
            buffer: Vec::new(),
        }
    }

    fn handle(&mut self, now: u64, event: Event) {
        let refused = self.channel.handle(Millis(now), event);
        assert_eq!(refused, [], "a channel uses every row of the map");
        self.actions.extend(std::iter::from_fn(|| self.channel.poll_action()));
    }
}

impl Channels {
    pub fn new(compaction_lag_ms: u64, logs: &Logs) -> Self {
        let settings = Settings { round_ms: 500, compaction_lag_ms: Some(compaction_lag_ms) };
        let instances = vec![Instance::new(settings, logs), Instance::new(settings, logs)];
        Self { away_until: 0, settings, instances, term: 1, owners: vec![(0, 1), (1, 1)] }
    }

    pub fn len(&self) -> usize {
        self.instances.len()
    }

    /// How much of the map each has read.
    pub fn maps_read(&self) -> impl Iterator<Item = usize> {
        self.instances.iter().map(|it| it.map_read)
    }

    /// Tells whether one goes on with a partition that is another's.
    pub fn is_zombie(&self, one: usize) -> bool {
        let mut read = self.instances[one].partitions.iter();
        read.any(|(partition, it)| self.owners[*partition as usize] != (one, it.term))
    }

    /// The owner keeps a partition until all that it sent is committed, or cannot be.
    pub fn hand_over(&mut self, partition: u32, heir: usize) {
        let (owner, _) = self.owners[partition as usize];
        if owner != heir {
            self.instances[owner].leaving.insert(partition, heir);
        }
    }

    /// All that a channel has goes to another, and it is not asked.
    pub fn replace(&mut self, one: usize, heir: usize) {
        self.term += 1;
        for owner in self.owners.iter_mut().filter(|it| it.0 == one) {
            *owner = (heir, self.term);
        }
    }

    /// A channel dies; a new one begins in its place. Some of what it sent last is not there.
    pub fn crash(
        &mut self,
        one: usize,
        heir: usize,
        now: u64,
        logs: &mut Logs,
        random: &mut Random,
    ) {
        let new = Instance::new(self.settings, logs);
        let old = std::mem::replace(&mut self.instances[one], new);
        write(logs, now, flushed_in_part(old.buffer, Sent::node, random));
        self.replace(one, heir);
    }

    pub fn be_late(&mut self, one: usize, until: u64) {
        self.instances[one].late_until = until;
    }

    /// Reads a row of the map, and what nodes report.
    pub fn read_map(&mut self, one: usize, now: u64, logs: &Logs) -> bool {
        let is_away = self.is_away(now);
        let it = &mut self.instances[one];
        if is_away || now < it.late_until || !it.actions.is_empty() {
            return false;
        }
        if let Some(report) = logs.reports.get(it.reports_read) {
            it.reports_read += 1;
            let (node, inbox) = (report.node_id.clone(), report.inbox);
            it.handle(now, Event::NodeSeen { node, inbox });
        }
        while logs.assignment_gone.contains(&it.map_read) {
            it.map_read += 1;
        }
        if let Some(row) = logs.assignment.get(it.map_read) {
            it.map_read += 1;
            it.handle(now, Event::MapRead(row.clone()));
            return true;
        }
        if it.map_end.take_if(|end| *end <= it.map_read).is_some() {
            it.handle(now, Event::MapReached);
            return true;
        }
        false
    }

    /// Learns what has become of the group, and is told what to let go.
    pub fn learn(&mut self, one: usize, now: u64, logs: &Logs) -> bool {
        let is_away = self.is_away(now);
        let it = &mut self.instances[one];
        if is_away || !it.actions.is_empty() {
            return false;
        }
        let mut is_news = it.term != self.term;
        it.term = self.term;
        for partition in 0..PARTITIONS {
            let (owner, term) = self.owners[partition as usize];
            let has = it.partitions.get(&partition).map(|it| it.term);
            if has.is_some_and(|has| owner != one || has != term) {
                it.partitions.remove(&partition);
                it.handle(now, Event::Lost { partition });
            }
            if owner == one && !it.partitions.contains_key(&partition) {
                let stored = logs.stored[partition as usize];
                let (offset, committed) = stored.map_or((0, None), |it| (it.0, Some(it.1)));
                let reading = Reading { next: offset, term, is_paused: false };
                it.partitions.insert(partition, reading);
                it.handle(now, Event::Assigned { partition, offset, committed });
            }
            let is_mine = it.partitions.contains_key(&partition);
            if is_mine && it.leaving.contains_key(&partition) {
                it.handle(now, Event::Revoked { partition });
                is_news = true;
            }
        }
        is_news
    }

    /// Reads the next row of a partition.
    pub fn read_row(&mut self, one: usize, partition: u32, now: u64, logs: &Logs) -> bool {
        let is_away = self.is_away(now);
        let it = &mut self.instances[one];
        let is_busy = is_away || !it.actions.is_empty() || it.leaving.contains_key(&partition);
        let Some(reading) = it.partitions.get_mut(&partition).filter(|it| !it.is_paused) else {
            return false;
        };
        if is_busy || logs.table_len(partition) <= reading.next {
            return false;
        }
        let offset = reading.next;
        reading.next += 1;
        if let Some((_, entries)) = logs.row(partition, offset) {
            it.handle(now, Event::RowRead { partition, offset, entries });
        }
        true
    }

    fn is_away(&self, now: u64) -> bool {
        now < self.away_until
    }

    pub fn tick(&mut self, now: u64) {
        if self.is_away(now) {
            return;
        }
        for it in &mut self.instances {
            let is_due = it.channel.poll_deadline().is_some_and(|it| it.0 <= now);
            if is_due && it.actions.is_empty() {
                it.handle(now, Event::Tick);
            }
        }
    }

    /// Does what a channel wants next.
    pub fn act(&mut self, one: usize, now: u64, logs: &mut Logs, random: &mut Random) -> bool {
        if self.is_away(now) {
            return false;
        }
        let (term, owners) = (self.term, &mut self.owners);
        let it = &mut self.instances[one];
        let Some(action) = it.actions.pop_front() else { return false };
        match action {
            Action::Send(sent) => it.buffer.push(Sent::Update(sent)),
            Action::AskRebuild(away) => {
                it.buffer.push(Sent::Command(request::rebuild(GROUP, &away)));
            }
            Action::LookAtEnds => {
                let end = |(partition, it): (&u32, &Reading)| {
                    (*partition, End { end: logs.table_len(*partition), position: it.next })
                };
                let ends = it.partitions.iter().map(end).collect();
                it.handle(now, Event::EndsSeen { asked: Millis(now), ends });
            }
            Action::Flush => {
                write(logs, now, std::mem::take(&mut it.buffer));
                it.handle(now, Event::Flushed);
            }
            Action::Commit { offsets, generation, caught_up } => {
                let mut stored = BTreeSet::new();
                for (partition, next) in offsets {
                    let is_owner = owners[partition as usize].0 == one;
                    // Some are refused for other reasons.
                    if it.term == term && is_owner && !random.one_in(12) {
                        let caught_up = caught_up.get(&partition).copied();
                        let committed = Committed { generation, caught_up };
                        logs.stored[partition as usize] = Some((next, committed));
                        stored.insert(partition);
                    }
                }
                it.handle(now, Event::Committed { stored });
            }
            Action::Pause(partition) => {
                it.partitions.entry(partition).and_modify(|it| it.is_paused = true);
            }
            Action::Resume(partition) => {
                it.partitions.entry(partition).and_modify(|it| it.is_paused = false);
            }
            Action::LetGo(partition) => {
                let heir = it.leaving.remove(&partition);
                it.partitions.remove(&partition);
                if let Some(heir) = heir.filter(|_| owners[partition as usize].0 == one) {
                    self.term += 1;
                    owners[partition as usize] = (heir, self.term);
                }
            }
        }
        // The client sends when it likes.
        let it = &mut self.instances[one];
        if random.one_in(2) {
            write(logs, now, std::mem::take(&mut it.buffer));
        }
        true
    }
}

impl Sent {
    /// The partition to which it goes.
    fn node(&self) -> Option<NodeId> {
        match self {
            Self::Update(it) => Some(it.node.clone()),
            Self::Command(_) => None,
        }
    }
}

fn write(logs: &mut Logs, now: u64, sent: Vec<Sent>) {
    for it in sent {
        match it {
            Sent::Update(Addressed { node, update, .. }) => logs.write_update(node, update),
            Sent::Command(command) => logs.ask(now, command),
        }
    }
}
