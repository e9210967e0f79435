//! What is told of moves, as it comes to the topics: by it deaths are timed, and shown.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use isotherm::assignment::map::{Map, Row};
use isotherm::kafka::follow::{Follower, From};
use isotherm::kafka::{Connection, Record};
use schemas::MigrationId;
use schemas::assignment::Assignment;
use schemas::migration_status::{MigrationStatus, Phase, Status};
use schemas::plan::{MoveChosen, Planned};
use schemas::range_segment::{Kind, RangeSegment};
use schemas::segment_ack::SegmentAck;
use schemas::wire::{Record as _, decode};

use crate::world::await_that;

/// So long is waited for the next record.
const MOMENT: Duration = Duration::from_millis(10);

/// So many are taken at once, at most.
const AT_ONCE: usize = 1_000;

/// Follows what planner and workers say.
pub struct Told {
    follower: Follower,
    pub map: Map,
    pub moves: BTreeMap<MigrationId, Course>,
    /// What became of commands; none, if one is refused.
    pub answers: BTreeMap<String, Option<MigrationId>>,
    /// The moves of plans.
    pub chosen: BTreeMap<MigrationId, MoveChosen>,
}

/// What was said of one migration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Course {
    /// The last one that its destination has come to.
    pub phase: Option<Phase>,
    pub is_committed: bool,
    /// Each time that its end was said.
    pub ends: Vec<Status>,
    /// Why it failed, each time that it was said.
    pub reasons: Vec<String>,
    pub streams: BTreeMap<u32, Stream>,
}

/// How far one stream of it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stream {
    /// The number of the last DATA of the copy; an OPEN has none.
    pub sent: u64,
    /// The number that the destination wants next.
    pub wanted: u64,
    /// END, or HANDOVER, was sent.
    pub is_whole: bool,
}

impl Told {
    pub fn follow(connection: &Connection) -> Self {
        let mut follower = Follower::open(connection, "told").unwrap();
        let topics = [
            Planned::TOPIC,
            Assignment::TOPIC,
            MigrationStatus::TOPIC,
            RangeSegment::TOPIC,
            SegmentAck::TOPIC,
        ];
        for topic in topics {
            let partitions = follower.partitions(topic).unwrap().into_iter();
            follower.add(partitions.map(|it| (it, From::Beginning))).unwrap();
        }
        let (map, moves, answers, chosen) =
            (Map::default(), BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        Self { follower, map, moves, answers, chosen }
    }

    pub fn course(&self, of: MigrationId) -> Course {
        self.moves.get(&of).cloned().unwrap_or_default()
    }

    /// Waits a moment for what comes, and takes in what there is: who polls now and then is not to fall behind.
    pub fn poll(&mut self) {
        let mut wait = MOMENT;
        for _ in 0..AT_ONCE {
            let Some(record) = self.follower.poll(wait).unwrap() else { return };
            self.take(&record);
            wait = Duration::ZERO;
        }
    }

    /// Takes in all that is there now.
    pub fn catch_up(&mut self) {
        let ends = await_that("the ends of topics", || self.follower.ends().unwrap());
        while !self.follower.has_reached(&ends).unwrap() {
            self.poll();
        }
    }

    /// Waits for so long, or until it is over, for a migration to be as it should; tells whether it is.
    pub fn is_soon(
        &mut self,
        of: MigrationId,
        within: Duration,
        is_so: impl Fn(&Course) -> bool,
    ) -> bool {
        let deadline = Instant::now() + within;
        loop {
            let course = self.course(of);
            if is_so(&course) {
                return true;
            }
            if !course.ends.is_empty() || deadline < Instant::now() {
                return false;
            }
            self.poll();
        }
    }

    fn take(&mut self, record: &Record) {
        let value = record.value.as_deref();
        match record.at.topic {
            Planned::TOPIC => {
                let it: Planned = decode(value.unwrap()).unwrap();
                let answers = it.commands.into_iter().map(|it| (it.command, it.migration));
                self.answers.extend(answers);
                let chosen = it.moves.into_iter().filter_map(|it| Some((it.migration?, it)));
                self.chosen.extend(chosen);
            }
            Assignment::TOPIC => {
                let row = Row::read(record.key.as_deref(), value).unwrap();
                if let Some(id) = row.assignment.as_ref().and_then(|it| it.migration) {
                    self.course_mut(id).is_committed = true;
                }
                self.map.apply(&row).unwrap();
            }
            MigrationStatus::TOPIC => {
                let it: MigrationStatus = decode(value.unwrap()).unwrap();
                let course = self.course_mut(it.migration);
                course.phase = course.phase.max(it.phase);
                if matches!(it.status, Status::Complete | Status::Failed) {
                    course.ends.push(it.status);
                    course.reasons.extend(it.reason);
                }
            }
            RangeSegment::TOPIC => {
                let it: RangeSegment = decode(value.unwrap()).unwrap();
                let course = self.course_mut(it.migration);
                let stream = course.streams.entry(it.stream).or_default();
                match it.kind {
                    Kind::Data if !stream.is_whole => stream.sent = it.seq,
                    Kind::End | Kind::Handover => stream.is_whole = true,
                    Kind::Data | Kind::Open | Kind::Refuse | Kind::Unknown => (),
                }
            }
            SegmentAck::TOPIC => {
                let it: SegmentAck = decode(value.unwrap()).unwrap();
                let course = self.course_mut(it.migration);
                course.streams.entry(it.stream).or_default().wanted = it.next_seq;
            }
            other => panic!("{other} is not followed"),
        }
    }

    fn course_mut(&mut self, of: MigrationId) -> &mut Course {
        self.moves.entry(of).or_default()
    }
}

impl Course {
    /// The last stream that was asked for, and how far it is.
    pub fn stream(&self) -> (u32, Stream) {
        self.streams.last_key_value().map(|it| (*it.0, *it.1)).unwrap_or_default()
    }

    /// Tells whether it stands in a phase: at COPYING, when the destination has stored some of the copy and
    /// not all of it was sent; at READY, when it is not committed.
    pub fn is_at(&self, phase: Phase) -> bool {
        let (_, Stream { sent, wanted, is_whole }) = self.stream();
        let is_there = match phase {
            Phase::Copying => 0 < sent && 1 < wanted && !is_whole,
            Phase::Ready => !self.is_committed,
            Phase::Active => true,
            Phase::Unknown => false,
        };
        is_there && self.phase == Some(phase) && self.ends.is_empty()
    }

    /// Tells whether some of it was sent at COPYING, and not all; what is small is acknowledged at its end only.
    pub fn is_sending(&self) -> bool {
        let (_, Stream { sent, is_whole, .. }) = self.stream();
        0 < sent && !is_whole && self.phase == Some(Phase::Copying) && self.ends.is_empty()
    }

    /// Tells whether all of it was sent.
    pub fn is_copied(&self) -> bool {
        self.stream().1.is_whole
    }
}
