//! Takes in what a tick brings: reports, statuses and commands, then what the dataflow made of the queries.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use dataflows::heat::Rolling;
use dataflows::tally::Payload;
use differential_dataflow::difference::{IsZero, Semigroup};
use schemas::migration_status::MigrationStatus;
use schemas::node_capacity::NodeCapacity;
use schemas::operator_command::OperatorCommand;
use schemas::query_log::QueriesLogged;
use schemas::wire::{Record as _, decode};
use schemas::{CellId, Millis, RangeId};

use super::super::passing::{passing, swept};
use super::{Changes, Heated, Planner, Turn};
use crate::forecast::Features;
use crate::kafka::source::FilledBox;
use crate::kafka::{Output, Record};

impl Planner {
    /// Takes in the records of a tick; returns what the dataflow is to read.
    pub fn begin(&mut self, filled: FilledBox) -> (Vec<Payload>, Changes) {
        let FilledBox { bounds, mut records, mut from_future, .. } = filled;
        // Partitions come interleaved as the broker had it: that must not show.
        records.sort_by_key(|it| (it.at, it.offset));
        from_future.sort_by_key(|it| (it.at, it.offset));
        let (tick, tick_ms, stale) = (bounds.tick, bounds.tick_ms, bounds.stale);
        let end = Millis((tick + 1) * tick_ms);
        self.turn = Turn { tick, tick_ms, stale, end, bounds: Some(bounds), ..Turn::default() };
        for record in from_future {
            let detail = format!("its stamp, {}, is far ahead of those after it", record.stamp.0);
            self.turn.dead.push(dead(record, "from_future", &detail));
        }
        let mut payloads = Vec::new();
        for record in records {
            match record.at.topic {
                QueriesLogged::TOPIC => payloads.extend(self.payload(record)),
                NodeCapacity::TOPIC => self.take_report(record),
                MigrationStatus::TOPIC => self.take_status(record),
                OperatorCommand::TOPIC => self.take_command(record),
                other => unreachable!("{other} is not an input of a planner"),
            }
        }
        self.weigh();
        self.state.ledger.forget(tick, tick_ms);
        (payloads, std::mem::take(&mut self.changes))
    }

    /// Returns what the dataflow is to read of a query log: always our own form.
    fn payload(&mut self, mut record: Record) -> Option<Payload> {
        // Without a value it is a mark of time and nothing else.
        let value = record.value.as_ref()?;
        match self.translator.own(value, record.stamp) {
            Ok(Cow::Borrowed(_)) => (),
            Ok(Cow::Owned(own)) => record.value = Some(own),
            Err(why) => {
                let detail = format!("nothing of it counts: {why}");
                self.turn.dead.push(dead(record, why.code(), &detail));
                return None;
            }
        }
        let Record { at, offset, stamp, value, .. } = record;
        Some(Payload { partition: at.partition, offset, stamp, value: value? })
    }

    /// Takes the sizes of ranges from what their owners reported in this tick.
    fn weigh(&mut self) {
        let fleet = &self.state.fleet;
        for range in self.state.ranges.iter_mut() {
            let Some(node) = &range.node else { continue };
            if fleet.member(node).is_some_and(|it| it.reported == self.turn.tick)
                && let Some(size) = fleet.size(node, &range.span.start, range.epoch)
            {
                range.bytes = size.bytes;
            }
        }
    }

    fn take_report(&mut self, record: Record) {
        let Some(value) = &record.value else { return };
        let refused = match decode::<NodeCapacity>(value) {
            Ok(report) => {
                let res = self.state.fleet.report(self.turn.tick, &report);
                res.err().map(|it| (it.code(), it.to_string()))
            }
            Err(err) => Some((err.code(), err.to_string())),
        };
        if let Some((reason, detail)) = refused {
            self.turn.dead.push(dead(record, reason, &detail));
        }
    }

    fn take_status(&mut self, record: Record) {
        let Some(value) = &record.value else { return };
        match decode::<MigrationStatus>(value) {
            // What does not fit is counted by its reason, and changes nothing.
            Ok(status) => _ = self.state.migrations.told(self.turn.end, &status),
            Err(err) => {
                let detail = err.to_string();
                self.turn.dead.push(dead(record, err.code(), &detail));
            }
        }
    }

    fn take_command(&mut self, record: Record) {
        let Some(value) = &record.value else { return };
        let refused = match decode::<OperatorCommand>(value) {
            Ok(command) => {
                let res = self.state.commands.given(record.stamp, command);
                res.err().map(|it| (it.code(), it.to_string()))
            }
            Err(err) => Some((err.code(), err.to_string())),
        };
        if let Some((reason, detail)) = refused {
            self.turn.dead.push(dead(record, reason, &detail));
        }
    }

    /// Takes in what the heat of the tick is, and forecasts.
    pub fn heated(&mut self, heated: Heated) {
        let (tick, is_fresh) = (self.turn.tick, self.is_fresh);
        (self.turn.queries, self.turn.late) = (heated.queries, heated.late);
        for it in heated.refused {
            let at = crate::kafka::TopicPartition {
                topic: QueriesLogged::TOPIC,
                partition: it.partition,
            };
            let letter =
                Output::dead_letter((at, it.offset), (None, Some(it.value)), it.reason, &it.detail);
            self.turn.dead.push(letter);
        }
        self.take_cells(heated.cells);
        for (cell, sample) in heated.samples {
            self.state.cells.sampled(cell, tick, sample);
        }
        let mut changed = take_rows(&mut self.state.range_heat, heated.ranges, is_fresh);
        take_rows(&mut self.state.node_heat, heated.nodes, is_fresh);
        // One that was born is named whether its heat has changed or not.
        changed.extend(self.state.born.iter().map(|it| it.id));
        let heat = |id: &RangeId| self.state.range_heat.get(id).copied().unwrap_or_default();
        let (mut strips, mut parts) = Default::default();
        if self.state.forecaster.sees_strips() {
            strips = self.strips.loads(&self.state.cells);
            parts = self.strips.parts(&self.state.cells);
        }
        self.state.edges.observe(tick, swept(&self.state.cells, tick));
        let passing =
            passing(self.state.edges.courses(tick), &self.state.ranges, &self.state.range_heat);
        let features = Features {
            changed: changed.iter().map(|id| (*id, heat(id))).collect(),
            born: std::mem::take(&mut self.state.born),
            dead: std::mem::take(&mut self.state.dead),
            passing,
            strips,
            parts,
        };
        let mut answers = self.state.forecaster.answer(tick, &features);
        if let Some(it) = &self.elsewhere {
            it.replace(&mut answers, &self.state.ranges, &self.state.forecasts);
        }
        self.turn.heated = changed;
        self.turn.heated.append(&mut self.state.renewed);
        for (id, forecast) in &answers.ranges {
            self.turn.heated.insert(*id);
            match forecast {
                Some(forecast) => _ = self.state.forecasts.insert(*id, *forecast),
                None => _ = self.state.forecasts.remove(id),
            }
        }
        self.state.total = answers.total;
        self.turn.refitted = answers.refitted;
        let loads = self.loads();
        self.state.fleet.close(tick, &loads);
    }

    fn take_cells(&mut self, diffs: Vec<(CellId, Rolling)>) {
        let mut sums = BTreeMap::<CellId, Rolling>::new();
        for (cell, diff) in diffs {
            sums.entry(cell).or_default().plus_equals(&diff);
        }
        if self.is_fresh {
            // What is said is all there is; what has changed is what differs from the snapshot.
            let known: Vec<_> = self.state.cells.iter().map(|(id, it)| (id, it.heat)).collect();
            for (cell, old) in known {
                let entry = sums.entry(cell).or_default();
                *entry = *entry - old;
            }
        }
        for (cell, diff) in sums {
            if !diff.is_zero() {
                self.state.cells.heated(cell, diff);
                self.turn.touched.insert(cell);
            }
        }
    }
}

/// Takes rows that came and went into a map of those that are; returns whose have changed.
fn take_rows<K: Ord + Clone>(
    known: &mut BTreeMap<K, Rolling>,
    rows: Vec<((K, Rolling), isize)>,
    is_all: bool,
) -> BTreeSet<K> {
    let mut said = BTreeMap::<K, Rolling>::new();
    if is_all {
        // Who is not named any more has lost its heat.
        said.extend(known.keys().map(|it| (it.clone(), Rolling::default())));
    }
    for ((key, heat), diff) in rows {
        let said = said.entry(key).or_default();
        if diff > 0 {
            *said = heat;
        }
    }
    let mut changed = BTreeSet::new();
    for (key, heat) in said {
        if known.get(&key).copied().unwrap_or_default() == heat {
            continue;
        }
        changed.insert(key.clone());
        match heat.is_zero() {
            true => _ = known.remove(&key),
            false => _ = known.insert(key, heat),
        }
    }
    changed
}

/// Makes the dead letter of a record.
fn dead(record: Record, reason: &'static str, detail: &str) -> Output {
    let Record { at, offset, key, value, .. } = record;
    Output::dead_letter((at, offset), (key, value), reason, detail)
}
