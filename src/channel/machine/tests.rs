//! One channel step by step, a rule each; then all short sequences of events; then two channels that
//! take partitions from each other, one of them late to learn of it. One that was away: `tests/away.rs`.

use std::collections::BTreeMap;

use schemas::assignment::Assignment;
use schemas::index_update::Watermark;
use schemas::{Epoch, Key, MigrationId};

use super::*;

mod pair;
mod away;

const ROUND_MS: u64 = 1_000;

/// Of a table that is not compacted.
const SETTINGS: Settings = Settings { round_ms: ROUND_MS, compaction_lag_ms: None };

#[test]
fn r16_entries_of_a_row_go_to_their_owners_by_one_map() {
    let mut it = Bench::new();
    it.map(&[range("", "m", "a", 1), range("m", "", "b", 1)]);
    it.assigned(0, 7, None);
    it.settle();
    it.row(0, 7, &["f", "t"]);
    assert_eq!(it.sent(), ["a f 0@7 g1", "b t 0@7 g1"]);
    // Half of a generation is none.
    it.tell(Event::MapRead(row(range("", "f", "c", 2), false)));
    it.row(0, 8, &["c", "t"]);
    assert_eq!(it.sent(), ["a c 0@8 g1", "b t 0@8 g1"]);
    it.tell(Event::MapRead(row(range("f", "m", "d", 2), true)));
    it.row(0, 9, &["c", "g"]);
    assert_eq!(it.sent(), ["c c 0@9 g2", "d g 0@9 g2"]);
}

#[test]
fn r17_without_a_map_rows_wait_and_nothing_is_committed() {
    let mut it = Bench::new();
    it.assigned(0, 0, None);
    assert_eq!(it.actions(), [Action::Pause(0)]);
    it.row(0, 0, &["f"]);
    it.tell(Event::MapReached);
    assert_eq!((it.actions(), it.channel.poll_deadline()), (vec![], None));
    assert_eq!(it.waits(), [(0, Waiting::NoMap)]);
    it.map(&[range("", "", "a", 1)]);
    assert_eq!(it.sent(), ["a f 0@0 g1"]);
    assert_eq!(it.waits(), []);
}

#[test]
fn r17_before_the_first_reading_is_over_there_is_no_map() {
    let mut it = Bench::new();
    it.tell(Event::MapRead(row(range("", "", "a", 1), true)));
    it.assigned(0, 0, None);
    it.row(0, 0, &["f"]);
    assert_eq!(it.actions(), [Action::Pause(0)]);
    it.tell(Event::MapReached);
    assert_eq!(it.actions().len(), 3, "the row, that more can come, and a round");
}

#[test]
fn r17_row_without_an_owner_waits_and_nothing_from_it_on_is_committed() {
    let mut it = Bench::new();
    it.map(&[range("", "m", "a", 1)]);
    it.assigned(0, 0, None);
    it.settle();
    it.row(0, 0, &["f"]);
    it.row(0, 1, &["f", "t"]);
    it.row(0, 2, &["g"]);
    assert_eq!(it.sent(), ["a f 0@0 g1"], "no half of the second row");
    assert_eq!(it.waits(), [(0, Waiting::NoOwner { offset: 1 })]);
    assert_eq!(it.commit(), Some((vec![(0, 1)], 1)));
    it.tell(Event::MapRead(row(range("m", "", "b", 2), true)));
    assert_eq!(it.sent(), ["a f 0@1 g2", "b t 0@1 g2", "a g 0@2 g2"]);
    assert_eq!(it.commit(), Some((vec![(0, 3)], 2)));
}

#[test]
fn r17_who_takes_over_first_reads_to_the_committed_generation() {
    let mut it = Bench::new();
    it.map(&[range("", "", "a", 1)]);
    it.assigned(0, 5, Some(3));
    it.row(0, 5, &["f"]);
    assert_eq!(it.sent(), [""; 0]);
    assert_eq!(it.waits(), [(0, Waiting::OlderMap { committed: Generation(3) })]);
    // Nor is an older generation committed over it.
    assert_eq!(it.commit(), None);
    it.tell(Event::MapRead(row(range("", "", "b", 3), true)));
    assert_eq!(it.sent(), ["b f 0@5 g3"]);
    assert_eq!(it.commit(), Some((vec![(0, 6)], 3)));
}

#[test]
fn r17_commit_comes_behind_a_flush_and_names_what_was_sent_before_it() {
    let mut it = Bench::new();
    it.map(&[range("", "", "a", 1)]);
    it.assigned(0, 0, None);
    it.settle();
    it.row(0, 0, &["f"]);
    it.actions();
    it.now += ROUND_MS;
    it.tell(Event::Tick);
    assert_eq!(it.actions(), [Action::Flush]);
    it.row(0, 1, &["g"]);
    assert_eq!(it.sent().len(), 1);
    it.tell(Event::Flushed);
    let offsets = vec![(0, 1)];
    let (generation, caught_up) = (Generation(1), BTreeMap::new());
    assert_eq!(it.actions(), [Action::Commit { offsets, generation, caught_up }]);
}

#[test]
fn r17_watermark_comes_only_after_the_commit_succeeded() {
    let mut it = Bench::new();
    it.map(&[range("", "", "a", 1)]);
    it.assigned(0, 4, None);
    it.tell(Event::Flushed);
    it.actions();
    it.tell(Event::Committed { stored: BTreeSet::new() });
    assert_eq!(it.actions(), []);
    // It is tried again, at its time.
    assert_eq!(it.channel.poll_deadline(), Some(Millis(it.now + ROUND_MS)));
    it.now += ROUND_MS;
    it.tell(Event::Tick);
    it.tell(Event::Flushed);
    it.tell(Event::Committed { stored: [0].into() });
    assert_eq!(it.sent(), ["a floors 0:4 g1"]);
}

#[test]
fn r17_watermark_names_only_partitions_committed_at_exactly_its_generation() {
    let mut it = Bench::new();
    it.map(&[range("", "", "a", 1)]);
    it.assigned(0, 4, None);
    it.assigned(1, 9, Some(2));
    it.settle();
    assert_eq!(it.watermarks(&[0, 1]), ["a floors 0:4 g1"]);
    it.tell(Event::MapRead(row(range("", "", "b", 2), true)));
    it.settle();
    // Of one the commit fails, and what is stored is of generation 1.
    it.now += ROUND_MS;
    it.tell(Event::Tick);
    it.tell(Event::MapRead(row(range("", "", "c", 3), true)));
    it.tell(Event::Flushed);
    it.actions();
    it.tell(Event::Committed { stored: [0, 1].into() });
    assert_eq!(it.sent(), [""; 0], "committed at 2, and the map is 3");
    it.tell(Event::Flushed);
    it.tell(Event::Committed { stored: [1].into() });
    assert_eq!(it.sent(), ["c floors 1:9 g3"]);
}

#[test]
fn r17_watermark_goes_to_every_owner_and_every_source() {
    let mut it = Bench::new();
    it.map(&[range("", "m", "a", 1), range("m", "", "b", 1)]);
    it.assigned(0, 4, None);
    assert_eq!(it.watermarks(&[0]), ["a floors 0:4 g1", "b floors 0:4 g1"]);
    // All of a's goes to c: a owns nothing, and must pass the watermark on.
    it.tell(Event::MapRead(row(moved("", "m", ["a", "c"], 2), true)));
    let to = ["a", "b", "c"].map(|node| format!("{node} floors 0:4 g2"));
    assert_eq!(it.watermarks(&[0]), to);
    // A rebuild has no source to tell.
    let rebuild = Assignment { source: Source::Table, ..range("", "m", "d", 3) };
    it.tell(Event::MapRead(row(rebuild, true)));
    assert_eq!(it.watermarks(&[0]), ["b floors 0:4 g3", "d floors 0:4 g3"]);
}

#[test]
fn r17_source_that_was_never_an_owner_here_is_told_where_its_report_says() {
    let mut it = Bench::new();
    it.map(&[moved("", "", ["a", "b"], 5)]);
    assert_eq!(it.channel.unreachable().collect::<Vec<_>>(), [&node("a")]);
    it.tell(Event::NodeSeen { node: node("a"), inbox: Inbox(11) });
    assert_eq!(it.channel.unreachable().count(), 0);
    it.assigned(0, 4, None);
    it.tell(Event::Flushed);
    it.tell(Event::Committed { stored: [0].into() });
    let to: Vec<_> = it.addressed().into_iter().map(|it| (it.node.0, it.inbox.0)).collect();
    assert_eq!(to, [("a".to_owned(), 11), ("b".to_owned(), inbox("b"))]);
}

#[test]
fn r17_watermark_is_written_after_a_change_of_map_a_take_over_and_at_an_interval() {
    let mut it = Bench::new();
    it.map(&[range("", "", "a", 1)]);
    it.assigned(0, 4, None);
    assert_eq!(it.actions(), [Action::Flush], "taken over");
    it.settle();
    it.tell(Event::MapRead(row(range("", "", "b", 2), true)));
    assert_eq!(it.actions(), [Action::Flush], "another map");
    it.settle();
    assert_eq!(it.channel.poll_deadline(), Some(Millis(it.now + ROUND_MS)));
    it.now += ROUND_MS - 1;
    it.tell(Event::Tick);
    assert_eq!(it.actions(), []);
    it.now += 1;
    it.tell(Event::Tick);
    assert_eq!(it.actions(), [Action::Flush], "at an interval");
    // A change in the middle of a round is followed by another.
    it.tell(Event::MapRead(row(range("", "", "c", 3), true)));
    it.tell(Event::Flushed);
    it.actions();
    it.tell(Event::Committed { stored: [0].into() });
    assert_eq!(it.actions(), [Action::Flush]);
}

#[test]
fn revoked_partition_is_let_go_when_all_that_was_sent_of_it_is_offered() {
    let mut it = Bench::new();
    it.map(&[range("", "", "a", 1)]);
    it.assigned(0, 4, None);
    it.tell(Event::Flushed);
    it.row(0, 4, &["f"]);
    it.actions();
    it.tell(Event::Revoked { partition: 0 });
    it.row(0, 5, &["g"]);
    assert_eq!(it.actions(), [], "the round that is on does not have it yet");
    it.tell(Event::Committed { stored: [0].into() });
    assert_eq!(it.sent(), ["a floors 0:4 g1"]);
    it.tell(Event::Flushed);
    let offsets = vec![(0, 5)];
    let (generation, caught_up) = (Generation(1), BTreeMap::new());
    assert_eq!(it.actions(), [Action::Commit { offsets, generation, caught_up }]);
    // Even if it is not stored: then another sends it again.
    it.tell(Event::Committed { stored: BTreeSet::new() });
    assert_eq!(it.actions().last(), Some(&Action::LetGo(0)));
    // Of which nothing was sent, and which is not ours, can go at once.
    it.assigned(1, 4, Some(9));
    it.actions();
    it.tell(Event::Revoked { partition: 1 });
    it.tell(Event::Revoked { partition: 7 });
    assert_eq!(it.actions(), [Action::LetGo(1), Action::LetGo(7)]);
}

#[test]
fn answer_to_a_commit_before_a_partition_was_lost_is_none_after_it_is_back() {
    let mut it = Bench::new();
    it.map(&[range("", "", "a", 1)]);
    it.assigned(0, 4, None);
    it.assigned(1, 4, None);
    it.settle();
    it.now += ROUND_MS;
    it.tell(Event::Tick);
    it.tell(Event::Flushed);
    it.tell(Event::Lost { partition: 0 });
    it.assigned(0, 8, None);
    it.actions();
    it.tell(Event::Committed { stored: [0, 1].into() });
    assert_eq!(it.sent(), ["a floors 1:4 g1"]);
}

/// All sequences of a few events, each followed by what it must not have done.
#[test]
fn every_short_sequence_keeps_the_promises() {
    let rows = [0, 1, 2].map(|offset| Event::RowRead {
        partition: 0,
        offset,
        entries: vec![entry(0, offset, "f")],
    });
    let map = |generation, node| Event::MapRead(row(range("", "", node, generation), true));
    let assigned = |offset, generation: u64| Event::Assigned {
        partition: 0,
        offset,
        committed: committed(generation),
    };
    let events = [
        map(1, "a"),
        map(2, "b"),
        Event::MapReached,
        assigned(0, 0),
        assigned(1, 2),
        Event::Revoked { partition: 0 },
        Event::Flushed,
        Event::Committed { stored: [0].into() },
        Event::Committed { stored: BTreeSet::new() },
        rows[0].clone(),
        rows[1].clone(),
        rows[2].clone(),
    ];
    let mut seen = BTreeMap::new();
    walk(&Checked::new(), &events, 6, &mut seen);
    // Everything that can happen has: else the walk is too short to say anything.
    let named = ["sent", "commit", "watermark", "let go", "paused", "resumed"];
    assert!(named.iter().all(|it| seen.get(it).is_some_and(|n| *n > 100)), "{seen:?}");
}

fn walk(
    before: &Checked,
    events: &[Event],
    depth: usize,
    seen: &mut BTreeMap<&'static str, usize>,
) {
    for event in events {
        let mut after = before.clone();
        if after.step(event, seen) && depth > 1 {
            walk(&after, events, depth - 1, seen);
        }
    }
}

/// A channel with one partition, and what is known of it from outside.
#[derive(Clone)]
struct Checked {
    channel: Channel,
    /// Of each row, the generation by which it was sent last.
    sent: BTreeMap<u64, u64>,
    /// What was sent when the last flush was ordered, by which map.
    flushing: Option<(BTreeMap<u64, u64>, u64)>,
    committing: Option<(u64, u64)>,
    stored: Option<(u64, u64)>,
    from: Option<u64>,
    /// The rows that it was given.
    told: BTreeSet<u64>,
}

impl Checked {
    fn new() -> Self {
        let channel = Channel::new(SETTINGS);
        let (sent, flushing, committing) = (BTreeMap::new(), None, None);
        Self {
            channel,
            sent,
            flushing,
            committing,
            stored: None,
            from: None,
            told: BTreeSet::new(),
        }
    }

    /// Takes an event that can happen now; tells whether it can.
    fn step(&mut self, event: &Event, seen: &mut BTreeMap<&'static str, usize>) -> bool {
        match event {
            Event::Flushed if self.flushing.is_none() || self.committing.is_some() => return false,
            Event::Committed { .. } if self.committing.is_none() => return false,
            Event::Assigned { offset, committed, .. } => {
                if self.from.is_some() {
                    return false;
                }
                self.from = Some(*offset);
                self.sent.clear();
                self.told.clear();
                self.stored = committed.map(|it| (*offset, it.generation.0));
                self.committing = self.committing.filter(|_| false);
                self.flushing = None;
            }
            Event::Committed { stored } if !stored.is_empty() => self.stored = self.committing,
            Event::RowRead { offset, .. } => {
                // One that comes once more is not looked at, and needs no further word.
                if self.from.is_none() || self.told.last().is_some_and(|it| offset <= it) {
                    return false;
                }
                self.told.extend(Some(*offset).filter(|it| self.from <= Some(*it)));
            }
            Event::Flushed
            | Event::Committed { .. }
            | Event::MapRead(_)
            | Event::MapReached
            | Event::NodeSeen { .. }
            | Event::Revoked { .. }
            | Event::Lost { .. }
            | Event::EndsSeen { .. }
            | Event::Tick => (),
        }
        if matches!(event, Event::Committed { .. }) {
            self.committing = None;
        }
        self.channel.handle(Millis(0), event.clone());
        while let Some(action) = self.channel.poll_action() {
            self.check(action, seen);
        }
        true
    }

    fn check(&mut self, action: Action, seen: &mut BTreeMap<&'static str, usize>) {
        let generation = self.channel.generation().0;
        let mut count = |what| *seen.entry(what).or_default() += 1;
        match action {
            Action::Send(Addressed { update, node, .. }) => {
                let by = update.generation.0;
                assert_eq!(node.0, if by == 1 { "a" } else { "b" });
                if let Some(it) = update.entry {
                    count("sent");
                    assert!(self.stored.is_none_or(|it| it.1 <= by), "by an older map");
                    self.sent.insert(it.entry.offset, by);
                }
                if let Some(it) = update.watermark {
                    count("watermark");
                    let floors = it.floors.iter().map(|it| (it.offset, by)).collect::<Vec<_>>();
                    assert_eq!(floors, self.stored.iter().copied().collect::<Vec<_>>());
                    assert_eq!(by, generation);
                }
            }
            Action::Flush => self.flushing = Some((self.sent.clone(), generation)),
            Action::Commit { offsets, generation, .. } => {
                count("commit");
                let (sent, by) = self.flushing.take().expect("a flush comes before");
                assert_eq!(generation.0, by);
                for (_, next) in &offsets {
                    let from = self.from.expect("it is ours");
                    let told = self.told.range(from..*next);
                    assert!(told.into_iter().all(|it| sent.contains_key(it)), "not flushed");
                    assert!(self.stored.is_none_or(|it| it.1 <= by && it.0 <= *next));
                    self.committing = Some((*next, by));
                }
                assert!(!offsets.is_empty(), "nothing to commit");
            }
            Action::LookAtEnds | Action::AskRebuild(_) => panic!("nothing is compacted"),
            Action::Pause(_) => count("paused"),
            Action::Resume(_) => count("resumed"),
            Action::LetGo(_) => {
                count("let go");
                self.from = None;
            }
        }
    }
}

/// One channel, and what it has done.
struct Bench {
    channel: Channel,
    now: u64,
}

impl Bench {
    fn new() -> Self {
        Self { channel: Channel::new(SETTINGS), now: 10 }
    }

    fn tell(&mut self, event: Event) {
        assert_eq!(self.channel.handle(Millis(self.now), event), []);
    }

    /// A whole first reading.
    fn map(&mut self, ranges: &[Assignment]) {
        for (n, range) in ranges.iter().enumerate() {
            self.tell(Event::MapRead(row(range.clone(), n + 1 == ranges.len())));
        }
        self.tell(Event::MapReached);
    }

    fn assigned(&mut self, partition: u32, offset: u64, generation: Option<u64>) {
        let committed = generation.and_then(committed);
        self.tell(Event::Assigned { partition, offset, committed });
    }

    fn row(&mut self, partition: u32, offset: u64, keys: &[&str]) {
        let entries = keys.iter().map(|key| entry(partition, offset, key)).collect();
        self.tell(Event::RowRead { partition, offset, entries });
    }

    /// Tells whether one of the actions is such, and leaves all but those.
    fn peek(&mut self, is_it: impl Fn(&Action) -> bool) -> bool {
        let before = self.channel.actions.len();
        self.channel.actions.retain(|it| !is_it(it));
        self.channel.actions.len() < before
    }

    fn actions(&mut self) -> Vec<Action> {
        std::iter::from_fn(|| self.channel.poll_action()).collect()
    }

    fn addressed(&mut self) -> Vec<Addressed> {
        let sent = self.actions().into_iter().filter_map(|it| match it {
            Action::Send(it) => Some(it),
            Action::Flush
            | Action::Commit { .. }
            | Action::LookAtEnds
            | Action::AskRebuild(_)
            | Action::Pause(_)
            | Action::Resume(_)
            | Action::LetGo(_) => None,
        });
        sent.collect()
    }

    fn sent(&mut self) -> Vec<String> {
        self.addressed().iter().map(text).collect()
    }

    fn waits(&self) -> Vec<(u32, Waiting)> {
        self.channel.waiting().map(|(partition, it)| (partition, it.clone())).collect()
    }

    /// Ends all rounds; every commit is stored.
    fn settle(&mut self) {
        for _ in 0..3 {
            self.tell(Event::Flushed);
            self.tell(Event::Committed { stored: (0..9).collect() });
        }
        self.actions();
        assert!(self.channel.poll_deadline().is_some(), "it rests");
    }

    /// Begins a round and returns what is to be committed, and that it is not.
    fn commit(&mut self) -> Option<(Vec<(u32, u64)>, u64)> {
        self.now += ROUND_MS;
        self.tell(Event::Tick);
        self.tell(Event::Flushed);
        let mut res = None;
        for action in self.actions() {
            if let Action::Commit { offsets, generation, .. } = action {
                res = Some((offsets, generation.0));
            }
        }
        self.tell(Event::Committed { stored: BTreeSet::new() });
        self.actions();
        res
    }

    /// Ends a round in which these partitions are stored, and returns what was written then.
    fn watermarks(&mut self, stored: &[u32]) -> Vec<String> {
        self.settle();
        self.now += ROUND_MS;
        self.tell(Event::Tick);
        self.tell(Event::Flushed);
        self.actions();
        self.tell(Event::Committed { stored: stored.iter().copied().collect() });
        self.sent()
    }
}

fn text(sent: &Addressed) -> String {
    let Addressed { node, update, .. } = sent;
    let generation = update.generation.0;
    match (&update.entry, &update.watermark) {
        (Some(EntryUpdate { entry: it, hops: 0 }), None) => {
            format!("{node} {} {}@{} g{generation}", it.index_key, it.partition, it.offset)
        }
        (None, Some(Watermark { floors, via: None })) => {
            let floors: Vec<_> =
                floors.iter().map(|it| format!("{}:{}", it.partition, it.offset)).collect();
            format!("{node} floors {} g{generation}", floors.join(","))
        }
        other => panic!("{other:?}"),
    }
}

pub(super) fn entry(partition: u32, offset: u64, index_key: &str) -> Entry {
    let (index_key, primary_key) = (key(index_key), key("p"));
    Entry { index_key, primary_key, partition, offset, payload: Some(vec![1]) }
}

/// A commit of a generation, as an older channel made it; 0: none.
fn committed(generation: u64) -> Option<Committed> {
    let generation = Generation(generation);
    Some(Committed { generation, caught_up: None }).filter(|_| generation > Generation(0))
}

fn key(text: &str) -> Key {
    Key(text.as_bytes().to_vec())
}

fn node(name: &str) -> NodeId {
    NodeId(name.into())
}

fn inbox(node: &str) -> u32 {
    node.bytes().map(u32::from).sum::<u32>() % 16
}

pub(super) fn range(start: &str, end: &str, owner: &str, generation: u64) -> Assignment {
    Assignment {
        range_start: key(start),
        range_end: key(end),
        node: node(owner),
        inbox: Inbox(inbox(owner)),
        epoch: Epoch(generation),
        generation: Generation(generation),
        last: false,
        migration: None,
        source: Source::None,
        source_node: None,
        source_epoch: Epoch(0),
    }
}

fn moved(start: &str, end: &str, [source, owner]: [&str; 2], generation: u64) -> Assignment {
    Assignment {
        source: Source::Node,
        source_node: Some(node(source)),
        migration: Some(MigrationId(generation)),
        ..range(start, end, owner, generation)
    }
}

pub(super) fn row(range: Assignment, last: bool) -> Row {
    Row { start: range.range_start.clone(), assignment: Some(Assignment { last, ..range }) }
}
