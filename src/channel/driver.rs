//! Runs the channel: changes of rows in, entries to the nodes that own them, and watermarks.
//!
//! ```text
//!  assignment, node_capacity ── from the beginning ──┐
//!  table ── the group's partitions, from where ──────┼──> machine ──> index_update, flush, commit
//!           it has committed                         ┘
//! ```
//!
//! Reads: table, assignment, node_capacity.
//! Writes: index_update, query_log, operator_command, dead_letter.
//!
//! * **At least once.** What was sent and not committed is sent again after a restart; its versions
//!   are the same, so that changes nothing.
//! * **Nothing is half told.** Before a partition is let go, and at the end, what was sent of it is
//!   flushed and committed.
//! * **What cannot be used stops nothing.** It is a dead letter, written before its offset is committed.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use schemas::index_update::IndexUpdate;
use schemas::node_capacity::NodeCapacity;
use schemas::operator_command::OperatorCommand;
use schemas::query_log::{Op, QueryLogged};
use schemas::wire::{Record as _, decode, encode};
use schemas::{Generation, Millis, NodeId};
use tracing::{debug, info, warn};

use super::committed::{CaughtUp, Committed};
use super::machine::{Action, Addressed, Away, Channel, End, Event, Settings, Waiting};
use super::request;
use crate::assignment::map::Row;
use crate::kafka::follow::{Follower, From};
use crate::kafka::group::{self, Claimed, Commit, Group};
use crate::kafka::writer::Writer;
use crate::kafka::{Connection, Output, Record, TopicPartition, wall_clock};
use crate::queries::Batch;
use crate::table::rows::Rows;
use crate::telemetry::metrics;
use crate::tick::tick_box::Offset;

/// The map is looked at this often, however many rows there are.
const MAP_EVERY: Duration = Duration::from_millis(10);

/// How long is waited for a row before everything else is looked at.
const ROW_WAIT: Duration = Duration::from_millis(20);

/// How the channel does is told this often.
const TOLD_EVERY: Duration = Duration::from_millis(200);

/// What a channel is told at its start.
#[derive(Debug)]
pub struct Options {
    pub connection: Connection,
    pub group: String,
    /// See [`Group::join`].
    pub member: Option<String>,
    pub settings: Settings,
    pub rows: Rows,
    /// What an update counts in `query_log`.
    pub write_cost_us: u64,
}

/// How a channel does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    pub generation: Generation,
    /// `None`: not read yet.
    pub ranges: Option<usize>,
    /// The group has given it partitions, if only none.
    pub joined: bool,
    pub partitions: BTreeSet<u32>,
    pub waiting: Vec<(u32, Waiting)>,
    /// Partitions whose ends nobody has seen yet, so that rows may be missing (R24).
    pub unseen: Vec<u32>,
    /// Sources that cannot be told how far the channel is.
    pub unreachable: Vec<NodeId>,
    /// Since the start.
    pub counts: BTreeMap<&'static str, u64>,
}

/// Looks on while a channel runs.
pub trait Watch {
    /// Now and then.
    fn told(&mut self, status: &Status);

    /// Tells whether the channel is to end, in order.
    fn is_stopping(&self) -> bool;
}

/// Runs until it is to end, or cannot go on.
pub fn run(options: &Options, watch: &mut impl Watch) -> anyhow::Result<()> {
    let mut run = Run::open(options)?;
    if !run.read_map_first(watch)? {
        return Ok(());
    }
    let Options { connection, group, member, .. } = options;
    let mut group = Group::join(connection, "table", group, member.as_deref())?;
    while !watch.is_stopping() {
        run.read_map(&mut group)?;
        match group.poll(ROW_WAIT)? {
            None => (),
            Some(group::Event::Record(record)) => run.row(record)?,
            Some(group::Event::Assigned(claimed)) => run.assigned(claimed),
            Some(group::Event::Revoked { partitions, lost }) => {
                run.status.joined &= !lost;
                for at in partitions {
                    run.revoked(at.partition, lost);
                }
            }
        }
        run.act(&mut group)?;
        run.tell(watch);
    }
    run.end(&mut group)
}

struct Run<'a> {
    options: &'a Options,
    channel: Channel,
    follower: Follower,
    writer: Writer,
    batch: Batch,
    status: Status,
    map_looked: Instant,
    told: Instant,
}

impl<'a> Run<'a> {
    fn open(options: &'a Options) -> anyhow::Result<Self> {
        let name = &options.group;
        let mut follower = Follower::open(&options.connection, name)?;
        let mut ids = follower.partitions("assignment")?;
        ids.extend(follower.partitions("node_capacity")?);
        follower.add(ids.into_iter().map(|at| (at, From::Beginning)))?;
        let now = Instant::now();
        Ok(Self {
            options,
            channel: Channel::new(options.settings),
            follower,
            writer: Writer::open_patient(&options.connection, name)?,
            batch: Batch::default(),
            status: Status::default(),
            map_looked: now,
            told: now,
        })
    }

    /// Reads assignment to the end that it has; tells whether it came to that.
    fn read_map_first(&mut self, watch: &mut impl Watch) -> anyhow::Result<bool> {
        let mut ends = None;
        while !watch.is_stopping() {
            if ends.is_none() {
                ends = self.follower.ends()?;
            }
            if let Some(ends) = &ends
                && self.follower.has_reached(ends)?
            {
                self.handle(Event::MapReached);
                return Ok(true);
            }
            if let Some(record) = self.follower.poll(ROW_WAIT)? {
                self.of_map(&record)?;
            }
        }
        Ok(false)
    }

    /// Takes in what there is of the map, if it is time to look.
    fn read_map(&mut self, group: &mut Group) -> anyhow::Result<()> {
        if self.map_looked.elapsed() < MAP_EVERY {
            return Ok(());
        }
        self.map_looked = Instant::now();
        while let Some(record) = self.follower.poll(Duration::ZERO)? {
            self.of_map(&record)?;
        }
        self.act(group)
    }

    fn of_map(&mut self, record: &Record) -> anyhow::Result<()> {
        match record.at.topic {
            "assignment" => match Row::read(record.key.as_deref(), record.value.as_deref()) {
                Ok(row) => self.handle(Event::MapRead(row)),
                Err(err) => self.dead(record, err.code(), &err.to_string())?,
            },
            _ => match record.value.as_deref().map(decode::<NodeCapacity>) {
                None => (),
                Some(Ok(NodeCapacity { node_id: node, inbox, .. })) => {
                    self.handle(Event::NodeSeen { node, inbox });
                }
                // The planner, which reads all of them, has it as a dead letter.
                Some(Err(_)) => self.count("reports_not_used"),
            },
        }
        Ok(())
    }

    fn row(&mut self, record: Record) -> anyhow::Result<()> {
        let Record { at, offset, key, value, .. } = &record;
        let version = (at.partition, *offset);
        let entries = self.options.rows.entries(key.as_deref(), value.as_deref(), version);
        let entries = match entries {
            Ok(entries) => entries,
            Err(err) => {
                self.dead(&record, err.code(), &err.to_string())?;
                Vec::new()
            }
        };
        self.count("rows");
        self.handle(Event::RowRead { partition: at.partition, offset: *offset, entries });
        Ok(())
    }

    fn assigned(&mut self, claimed: Vec<Claimed>) {
        self.status.joined = true;
        for Claimed { at, from, metadata } in claimed {
            let committed = metadata.as_deref().and_then(Committed::read);
            self.status.partitions.insert(at.partition);
            let (partition, offset) = (at.partition, from.0);
            self.handle(Event::Assigned { partition, offset, committed });
        }
    }

    fn revoked(&mut self, partition: u32, lost: bool) {
        match lost {
            true => {
                self.status.partitions.remove(&partition);
                self.handle(Event::Lost { partition });
            }
            false => self.handle(Event::Revoked { partition }),
        }
    }

    /// Does what the machine wants, to its end: after that, what was to be let go is.
    fn act(&mut self, group: &mut Group) -> anyhow::Result<()> {
        let now = wall_clock();
        if self.channel.poll_deadline().is_some_and(|it| it <= now) {
            self.handle(Event::Tick);
        }
        while let Some(action) = self.channel.poll_action() {
            match action {
                Action::Send(it) => self.send(it)?,
                Action::Flush => {
                    self.writer.flush()?;
                    self.handle(Event::Flushed);
                }
                Action::Commit { offsets, generation, caught_up } => {
                    let stored = self.commit(group, &offsets, generation, &caught_up)?;
                    self.handle(Event::Committed { stored });
                }
                Action::LookAtEnds => self.look_at_ends(group)?,
                Action::AskRebuild(away) => self.ask_rebuild(&away)?,
                Action::Pause(partition) => group.pause(table(partition)),
                Action::Resume(partition) => group.resume(table(partition)),
                Action::LetGo(partition) => _ = self.status.partitions.remove(&partition),
            }
        }
        match self.batch.due(now) {
            Some(queries) => self.log(&queries),
            None => Ok(()),
        }
    }
}

impl Run<'_> {
    fn send(&mut self, sent: Addressed) -> anyhow::Result<()> {
        let Addressed { node, inbox, update } = sent;
        let IndexUpdate { entry, .. } = &update;
        match entry {
            Some(it) => {
                let query = QueryLogged {
                    time: wall_clock(),
                    key: it.entry.index_key.clone(),
                    op: Op::Write,
                    cost_us: Some(self.options.write_cost_us),
                    bytes: it.entry.payload.as_ref().map_or(0, Vec::len) as u64,
                    estimated: false,
                };
                self.batch.push(query.time, query);
                self.count("entries");
            }
            None => self.count("watermarks"),
        }
        let mut output = Output::new("index_update", node.0.into_bytes(), encode(&update));
        output.partition = Some(inbox.0);
        self.writer.send(&output)
    }

    /// Returns the partitions whose offset is stored.
    fn commit(
        &mut self,
        group: &Group,
        offsets: &[(u32, u64)],
        generation: Generation,
        caught_up: &BTreeMap<u32, CaughtUp>,
    ) -> anyhow::Result<BTreeSet<u32>> {
        let text = |partition| {
            let caught_up = caught_up.get(partition).copied();
            Committed { generation, caught_up }.to_string()
        };
        let commits = offsets.iter().map(|(partition, offset)| Commit {
            at: table(*partition),
            offset: Offset(*offset),
            metadata: text(partition),
        });
        let mut stored = BTreeSet::new();
        for (at, done) in group.commit(&commits.collect::<Vec<_>>())? {
            match done {
                Ok(()) => _ = stored.insert(at.partition),
                Err(err) => {
                    self.count("commits_not_stored");
                    warn!(%at, %err, "an offset was not stored; it is tried again");
                }
            }
        }
        debug!(?offsets, generation = generation.0, "committed");
        Ok(stored)
    }

    fn look_at_ends(&mut self, group: &mut Group) -> anyhow::Result<()> {
        let asked = wall_clock();
        let ends = group.ends()?.unwrap_or_default();
        let end = |(at, (end, position)): (TopicPartition, (Offset, Offset))| {
            (at.partition, End { end: end.0, position: position.0 })
        };
        let ends: BTreeMap<_, End> = ends.into_iter().map(end).collect();
        let lag = ends.values().map(|it| it.end.saturating_sub(it.position)).sum();
        metrics::get().channel_lag.record(lag, &[]);
        self.handle(Event::EndsSeen { asked, ends });
        Ok(())
    }

    fn ask_rebuild(&mut self, away: &Away) -> anyhow::Result<()> {
        let command = request::rebuild(&self.options.group, away);
        let (id, reason) = (&command.id, &command.reason);
        match away.since.time {
            // What was built lately is not built again.
            Millis(0) => info!(id, reason, "asks whether ranges are to be rebuilt"),
            _ => warn!(id, reason, "asks for a rebuild of all ranges"),
        }
        self.count("rebuilds_asked");
        let output = Output::new(OperatorCommand::TOPIC, Vec::new(), encode(&command));
        self.writer.send(&Output { key: None, ..output }).context("ask for a rebuild")
    }

    /// Lets go of all partitions, and logs what there is.
    fn end(&mut self, group: &mut Group) -> anyhow::Result<()> {
        for partition in self.status.partitions.clone() {
            self.handle(Event::Revoked { partition });
        }
        self.act(group)?;
        ensure!(self.status.partitions.is_empty(), "a partition was not let go");
        if let Some(queries) = self.batch.take() {
            self.log(&queries)?;
        }
        self.writer.flush()
    }

    fn log(&mut self, queries: &schemas::query_log::QueriesLogged) -> anyhow::Result<()> {
        let mut output = Output::new("query_log", Vec::new(), encode(queries));
        output.key = None;
        self.writer.send(&output)
    }

    fn dead(&mut self, record: &Record, reason: &'static str, detail: &str) -> anyhow::Result<()> {
        warn!(at = %record.at, offset = record.offset, reason, detail, "dead letter");
        self.count(reason);
        let bytes = (record.key.clone(), record.value.clone());
        let letter = Output::dead_letter((record.at, record.offset), bytes, reason, detail);
        self.writer.send(&letter).context("write a dead letter")
    }

    fn handle(&mut self, event: Event) {
        for refused in self.channel.handle(wall_clock(), event) {
            warn!(%refused, "a row of assignment is not used");
            self.count("map_rows_refused");
        }
    }

    fn count(&mut self, what: &'static str) {
        *self.status.counts.entry(what).or_default() += 1;
    }

    fn tell(&mut self, watch: &mut impl Watch) {
        if self.told.elapsed() < TOLD_EVERY {
            return;
        }
        self.told = Instant::now();
        self.status.generation = self.channel.generation();
        self.status.ranges = Some(self.channel.ranges());
        self.status.waiting =
            self.channel.waiting().map(|(partition, it)| (partition, it.clone())).collect();
        self.status.unseen = self.channel.unseen().collect();
        self.status.unreachable = self.channel.unreachable().cloned().collect();
        watch.told(&self.status);
    }
}

fn table(partition: u32) -> TopicPartition {
    TopicPartition { topic: "table", partition }
}
