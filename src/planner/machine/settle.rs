//! Carries the plan's delta out: one generation, commands, and what changes for the next tick.

use std::collections::BTreeMap;

use dataflows::cells::{Reshape, divide};
use dataflows::delta::Placed;
use dataflows::heat::{Rolling, WIDEST};
use dataflows::splits::SplitChange;
use dataflows::window;
use differential_dataflow::difference::{IsZero, Semigroup};
use schemas::assignment::Assignment;
use schemas::heatmap::RangeHeated;
use schemas::migrate_range::MigrateRange;
use schemas::migration_status::MigrationStatus;
use schemas::wire::Record;
use schemas::{CellId, Epoch, Key, KeySpan, Millis, NodeId, RangeId};

use super::super::ranges::RangeState;
use super::Planner;
use super::decide::pieces;
use super::tell::output;
use crate::assignment::birth;
use crate::assignment::draft::{self, Draft, Owner};
use crate::assignment::map::Row;
use crate::forecast::{Born, Rung};
use crate::kafka::Output;
use crate::keys::{WHOLE, fraction};
use crate::migration::table::{Action, Proposal};
use crate::planner::snapshot::Slot;

/// Where the delta says that something is to be done.
#[derive(Debug, PartialEq, Eq)]
enum Deed {
    Split { span: KeySpan, at: Vec<Key> },
    Join { span: KeySpan },
    Move { span: KeySpan, destination: NodeId },
}

impl Planner {
    /// Takes in how the delta has changed, and carries it out. Returns the cells whose sums are
    /// wanted, because they are cut or join, or are what a range was split into.
    pub fn settle(&mut self, delta: Vec<(Placed, isize)>) -> Vec<CellId> {
        for (row, diff) in delta {
            *self.delta.entry(row).or_default() += diff;
        }
        self.delta.retain(|_, sum| *sum != 0);
        // What is published and told is as of the assignment of this tick, so it comes first.
        self.publish();
        self.turn.rests_on = self.rests_on();
        let deeds = deeds(&self.delta);
        if self.state.map.is_empty() {
            self.birth();
        } else {
            self.generation(&deeds);
        }
        self.start_moves(&deeds);
        self.turn.outputs.plan = self.plan();
        let children = self.cells_of_children();
        let mut wanted = self.reshape();
        wanted.extend(children.keys());
        wanted.sort_unstable();
        wanted.dedup();
        self.turn.children = children;
        wanted
    }

    /// The cells of ranges that came out of a split in this tick, with the place of each among the born.
    fn cells_of_children(&self) -> BTreeMap<CellId, usize> {
        let mut cells = BTreeMap::new();
        if self.state.settings.rung == Rung::Persistence {
            return cells;
        }
        for (at, born) in self.state.born.iter().enumerate() {
            // Of those that have joined the sum of their histories is exact.
            if born.parents.len() > 1 {
                continue;
            }
            let Some(range) = self.state.ranges.get(born.id) else { continue };
            let within = self.state.cells.within(&range.span.start, &range.span.end);
            cells.extend(within.map(|(cell, _)| (cell, at)));
        }
        cells
    }

    /// Gives ranges that came out of a split the history of their cells.
    fn relive(&mut self, sums: &BTreeMap<CellId, Vec<Slot>>) {
        let first = (self.turn.tick + 1).saturating_sub(WIDEST);
        for (cell, at) in std::mem::take(&mut self.turn.children) {
            let history = &mut self.state.born[at].history;
            history.resize((self.turn.tick + 1 - first) as usize, [0; 2]);
            for (_, tick, heat) in sums.get(&cell).into_iter().flatten() {
                let Some(at) = tick.checked_sub(first) else { continue };
                let Some([reads, writes]) = history.get_mut(at as usize) else { continue };
                *reads += heat.read_us.max(0) as u64;
                *writes += heat.write_us.max(0) as u64;
            }
        }
    }

    /// Takes in the sums of cells: divides those that are cut and adds up those that join, for the next
    /// tick, and tells children what they would have had.
    pub fn divide(&mut self, slots: Vec<Slot>) {
        let mut sums = BTreeMap::<CellId, Vec<Slot>>::new();
        slots.into_iter().for_each(|slot| sums.entry(slot.0).or_default().push(slot));
        self.relive(&sums);
        let mut of = |cell| sums.remove(&cell).unwrap_or_default();
        let reshapes = &mut self.changes.reshapes;
        for reshape in std::mem::take(&mut self.turn.reshapes) {
            match reshape {
                Reshape::Cut { cell, right, right_part, .. } => {
                    reshapes.push(window::Reshape::Forget(cell));
                    for (_, tick, heat) in of(cell) {
                        let (kept, moved) = divide(heat, right_part);
                        reshapes.push(window::Reshape::Slot(cell, tick, kept));
                        reshapes.push(window::Reshape::Slot(right, tick, moved));
                    }
                }
                Reshape::Join { left, right, .. } => {
                    reshapes.push(window::Reshape::Forget(right));
                    let slot = |(_, tick, heat)| window::Reshape::Slot(left, tick, heat);
                    reshapes.extend(of(right).into_iter().map(slot));
                }
            }
        }
        reshapes.retain(|it| !matches!(it, window::Reshape::Slot(_, _, heat) if heat.is_zero()));
    }

    /// Shares the ranges out, if enough nodes have reported.
    fn birth(&mut self) {
        let nodes = self.nodes();
        let takers = nodes.iter().filter(|(_, it)| it.takes);
        let (takers, capacities): (Vec<_>, Vec<_>) =
            takers.map(|(id, it)| (id.clone(), it.capacity_us_per_s)).unzip();
        if takers.is_empty() || (takers.len() as u32) < self.state.settings.birth_nodes {
            return;
        }
        let owners = birth::shares(self.state.ranges.len(), &capacities);
        let spans: Vec<_> = self.state.ranges.iter().map(|it| it.span.clone()).collect();
        let mut born = Vec::new();
        for (span, node) in spans.into_iter().zip(owners) {
            let node = takers[node].clone();
            let owner = self.owner(&node);
            let begun = self.state.migrations.rebuild(span.clone(), owner.clone(), Epoch(0));
            let (migration, pending) = begun.expect("nothing is in flight before the birth");
            self.tell_status(&pending);
            self.own(&span, node, Epoch(1));
            self.given_from_table(&span);
            born.push(draft::Born { span, owner, migration });
        }
        let rows = draft::birth(&self.state.map, &born).expect("ranges tile the key space");
        self.write(rows);
    }

    /// Writes what this tick commits, gives up and relabels.
    fn generation(&mut self, deeds: &[Deed]) {
        let map = std::mem::take(&mut self.state.map);
        let mut draft = Draft::new(&map);
        for status in std::mem::take(&mut self.owed) {
            self.tell_status(&status);
        }
        self.state.migrations.close(self.turn.end);
        while let Some(action) = self.state.migrations.poll_action(map.generation()) {
            match action {
                Action::Commit { span, owner, migration } => {
                    draft.commit(&span, &owner, migration).expect("nothing touches it in flight");
                    let epoch = map.range(&span).expect("it is a range").epoch;
                    self.own(&span, owner.node, Epoch(epoch.0 + 1));
                }
                Action::Cancel { cancel } => self.tell_command(cancel),
                Action::Fail { failed } => self.tell_status(&failed),
                Action::Start { .. } => unreachable!("a START is told in the tick that decides it"),
            }
        }
        self.build_again(&map, &mut draft);
        for deed in deeds {
            match deed {
                Deed::Split { span, at } => {
                    draft.split(span, at).expect("a decision splits settled ranges at their cells");
                    self.split(span, at);
                }
                Deed::Join { span } => {
                    draft.join(span).expect("a decision joins settled neighbours of one node");
                    self.join(span);
                }
                Deed::Move { .. } => (),
            }
        }
        let rows = draft.finish();
        self.state.map = map;
        self.write(rows);
        while let Some(ended) = self.state.migrations.poll_ended() {
            self.turn.outputs.ended.push(ended);
        }
    }

    fn write(&mut self, rows: Vec<Row>) {
        for row in rows {
            self.state.map.apply(&row).expect("a draft fits its map");
            let key = row.start.0.clone();
            let record = match &row.assignment {
                Some(assignment) => output(key, assignment),
                None => Output { value: None, ..Output::new(Assignment::TOPIC, key, Vec::new()) },
            };
            self.turn.outputs.outputs.push(record);
            self.turn.outputs.assignments.push((row.start, row.assignment));
        }
    }

    /// Begins the moves, in the generation that now stands.
    fn start_moves(&mut self, deeds: &[Deed]) {
        for deed in deeds {
            let Deed::Move { span, destination } = deed else { continue };
            let destination = self.owner(destination);
            let policy = &self.state.settings.policy;
            let cool_until = self.turn.tick + policy.cool_down_ticks;
            let range = self.state.ranges.at_mut(&span.start).expect("a decision moves ranges");
            (range.cool_until, range.join_after) = (cool_until, cool_until);
            let bytes = range.bytes;
            let proposal = Proposal {
                span: span.clone(),
                destination,
                bytes,
                bandwidth_bytes_per_s: policy.bandwidth_bytes_per_s,
                deadline: Millis(self.turn.end.0 + policy.deadline_ms),
                plan: Some(self.plan_id()),
            };
            let begun = self.state.migrations.propose(&self.state.map, proposal);
            let id = begun.expect("a decision moves settled ranges, within the budget");
            self.state.ledger.started(self.turn.tick, bytes);
            let told = &mut self.turn.decision.moves;
            if let Some(told) = told.iter_mut().find(|it| it.range_start == span.start) {
                told.migration = Some(id);
            }
            self.begun(span, id);
        }
        let generation = self.state.map.generation();
        while let Some(action) = self.state.migrations.poll_action(generation) {
            let Action::Start { start, pending } = action else {
                unreachable!("all else was taken with the generation")
            };
            self.tell_command(start);
            self.tell_status(&pending);
        }
    }

    fn owner(&self, node: &NodeId) -> Owner {
        let member = self.state.fleet.member(node).expect("who is given ranges has reported");
        Owner { node: node.clone(), inbox: member.inbox }
    }

    fn tell_command(&mut self, record: MigrateRange) {
        let key = record.destination_node.0.clone().into_bytes();
        self.turn.outputs.outputs.push(output(key, &record));
        self.turn.outputs.commands.push(record);
    }

    pub(super) fn tell_status(&mut self, record: &MigrationStatus) {
        self.turn.statuses.push(output(record.migration.to_string().into_bytes(), record));
    }

    /// Gives a range to a node, from the next tick on.
    pub(super) fn own(&mut self, span: &KeySpan, node: NodeId, epoch: Epoch) {
        let range = self.state.ranges.at_mut(&span.start).expect("what is owned is a range");
        assert_eq!(range.span, *span, "a range is owned as a whole");
        range.epoch = epoch;
        let id = range.id;
        let old = range.node.replace(node.clone());
        let rows = &mut self.changes.range_nodes;
        rows.extend(old.map(|old| ((id, old), -1)));
        rows.push(((id, node), 1));
        // Who owns it is news, too.
        self.state.renewed.insert(id);
    }

    /// Makes ranges of the parts of one; the first keeps its id.
    pub(super) fn split(&mut self, span: &KeySpan, at: &[Key]) {
        let parent = self.state.ranges.remove(&span.start).expect("what is split is a range");
        let join_after = self.turn.tick + self.state.settings.policy.cool_down_ticks;
        let spans = pieces(&span.start, &span.end, at);
        let shares = self.shares_of(&spans);
        let mut ppm_left = 1_000_000;
        for (i, child) in spans.iter().enumerate() {
            let bytes = part_of(parent.bytes, &parent.span, child, spans.len() as u64);
            let state = RangeState {
                span: child.clone(),
                epoch: Epoch(parent.epoch.0 + 1),
                bytes,
                join_after,
                ..parent.clone()
            };
            let id = match i {
                0 => self.state.ranges.put(state),
                _ => self.state.ranges.add(state),
            };
            let ppm = if i + 1 == spans.len() { ppm_left } else { shares[i].min(ppm_left) };
            ppm_left -= ppm;
            self.state.born.push(Born { id, parents: vec![(parent.id, ppm)], history: Vec::new() });
            self.state.renewed.insert(id);
            if i > 0 {
                let node = parent.node.clone().expect("it has an owner");
                self.changes.range_nodes.push(((id, node), 1));
                self.relabel(child, id);
            }
        }
    }

    /// Makes one range of several; it keeps the id of the first.
    pub(super) fn join(&mut self, span: &KeySpan) {
        let starts: Vec<Key> =
            self.state.ranges.within(span).map(|it| it.span.start.clone()).collect();
        let parts: Vec<RangeState> =
            starts.iter().filter_map(|it| self.state.ranges.remove(it)).collect();
        let first = parts.first().expect("a run has ranges").clone();
        let join_after = self.turn.tick + self.state.settings.policy.cool_down_ticks;
        let state = RangeState {
            span: span.clone(),
            epoch: Epoch(parts.iter().map(|it| it.epoch.0).max().unwrap_or(0) + 1),
            bytes: parts.iter().map(|it| it.bytes).sum(),
            built: parts.iter().map(|it| it.built).min().unwrap_or_default(),
            due: parts.iter().map(|it| it.due).max().unwrap_or_default(),
            cool_until: parts.iter().map(|it| it.cool_until).max().unwrap_or(0),
            join_after,
            ..first.clone()
        };
        self.state.ranges.put(state);
        let parents = parts.iter().map(|it| (it.id, 1_000_000)).collect();
        self.state.born.push(Born { id: first.id, parents, history: Vec::new() });
        self.state.renewed.insert(first.id);
        for part in &parts[1..] {
            self.relabel(&part.span, first.id);
            let node = part.node.clone().expect("it has an owner");
            self.changes.range_nodes.push(((part.id, node), -1));
            self.state.dead.push(part.id);
            self.state.renewed.remove(&part.id);
            self.state.forecasts.remove(&part.id);
            if self.state.published.remove(&part.span.start).is_some() {
                let start = part.span.start.0.clone();
                let none = Output::new(RangeHeated::TOPIC, start, Vec::new());
                self.turn.heat.push(Output { value: None, ..none });
            }
        }
    }

    /// Gives the cells of an interval to a range, from the next tick on.
    fn relabel(&mut self, span: &KeySpan, range: RangeId) {
        for (cell, old) in self.state.cells.relabel(&span.start, &span.end, range) {
            self.changes.cell_ranges.push(((cell, old), -1));
            self.changes.cell_ranges.push(((cell, range), 1));
        }
    }

    /// The part of each piece in the heat of all of them together, in millionths.
    fn shares_of(&self, spans: &[KeySpan]) -> Vec<u32> {
        let cost = |span: &KeySpan| {
            let cells = self.state.cells.within(&span.start, &span.end);
            cells.map(|(_, it)| it.heat.six().cost_us().max(0) as u128).sum::<u128>()
        };
        let costs: Vec<u128> = spans.iter().map(cost).collect();
        let all: u128 = costs.iter().sum();
        let even = 1_000_000 / spans.len() as u32;
        let share = |it: &u128| (it * 1_000_000).checked_div(all).map_or(even, |it| it as u32);
        costs.iter().map(share).collect()
    }

    /// Lets cells be cut and join. Returns those whose sums are to be divided or added up.
    fn reshape(&mut self) -> Vec<CellId> {
        let mut total = Rolling::default();
        self.state.range_heat.values().for_each(|it| total.plus_equals(it));
        let (tick, touched) = (self.turn.tick, std::mem::take(&mut self.turn.touched));
        let (flags, reshapes) =
            self.state.cells.reshape(tick, &total, &touched, &self.state.settings.cells);
        for (start, sampled) in flags {
            self.changes.splits.push(match sampled {
                true => SplitChange::Watch { start },
                false => SplitChange::Unwatch { start },
            });
        }
        let mut wanted = Vec::new();
        for reshape in &reshapes {
            match reshape {
                Reshape::Cut { cell, right, at, .. } => {
                    let state = self.state.cells.get(*right).expect("it was just made");
                    let start = at.clone();
                    self.changes
                        .splits
                        .push(SplitChange::Insert { start: start.clone(), cell: *right });
                    if state.sampled {
                        self.changes.splits.push(SplitChange::Watch { start });
                    }
                    self.changes.cell_ranges.push(((*right, state.range), 1));
                    wanted.push(*cell);
                }
                Reshape::Join { right, range, start, .. } => {
                    self.changes.splits.push(SplitChange::Remove { start: start.clone() });
                    self.changes.cell_ranges.push(((*right, *range), -1));
                    wanted.push(*right);
                }
            }
        }
        self.turn.reshapes = reshapes;
        wanted
    }
}

/// Bytes of a piece of a range: evenly by width, or by number where the range has no end.
fn part_of(bytes: u64, whole: &KeySpan, piece: &KeySpan, pieces: u64) -> u64 {
    let part = match whole.end.0.is_empty() {
        true => WHOLE / pieces,
        false => fraction(whole, &piece.end, true) - fraction(whole, &piece.start, false),
    };
    (u128::from(bytes) * u128::from(part) / u128::from(WHOLE)) as u64
}

/// Reads out of the delta what is to be done: what went and what came in one interval belong together.
fn deeds(delta: &BTreeMap<Placed, isize>) -> Vec<Deed> {
    let side = |sign: isize| {
        let rows = delta.iter().filter(move |it| it.1.signum() == sign);
        rows.map(|((span, node), _)| (span.start.clone(), (span.clone(), node.clone())))
            .collect::<BTreeMap<_, _>>()
    };
    let (gone, come) = (side(-1), side(1));
    let mut deeds = Vec::new();
    for (start, (span, node)) in &gone {
        match come.get(start) {
            Some((new, destination)) if new == span && destination != node => {
                let (span, destination) = (span.clone(), destination.clone());
                deeds.push(Deed::Move { span, destination });
            }
            Some((new, _)) if ends_before(new, span) => {
                let inside = come.range(start..).map(|it| &it.1.0).skip(1);
                let inside = inside.take_while(|it| span.contains(&it.start.0));
                deeds.push(Deed::Split {
                    span: span.clone(),
                    at: inside.map(|it| it.start.clone()).collect(),
                });
            }
            Some((new, _)) => deeds.push(Deed::Join { span: new.clone() }),
            // Inside of one that joins.
            None => (),
        }
    }
    deeds
}

fn ends_before(a: &KeySpan, b: &KeySpan) -> bool {
    !a.end.0.is_empty() && (b.end.0.is_empty() || a.end < b.end)
}
