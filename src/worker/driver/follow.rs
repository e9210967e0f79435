//! Reads what the machine is told, and looks whether what was to be read to an end is.

use std::time::{Duration, Instant};

use anyhow::bail;
use opentelemetry::KeyValue;

use super::{ENDS_EVERY, RECORD_WAIT, Run};
use crate::assignment::map::Row;
use crate::kafka::{Record, TopicPartition};
use crate::store::Scan;
use crate::telemetry::metrics;
use crate::tick::tick_box::Offset;
use crate::worker::events::{self, Event, Source};
use crate::worker::records;

impl Run<'_> {
    pub(super) fn read_map(&mut self) -> anyhow::Result<()> {
        while let Some(record) = self.map.poll(Duration::ZERO)? {
            match Row::read(record.key.as_deref(), record.value.as_deref()) {
                Ok(row) => {
                    if let Some(it) = &row.assignment
                        && self.runner.worker().is_started()
                    {
                        self.world.moves.read_row(it, &record);
                    }
                    self.handle(Event::MapRead(row));
                }
                Err(err) => self.dead(&record, err.code(), &err.to_string())?,
            }
        }
        Ok(())
    }

    pub(super) fn read_inbox(&mut self) -> anyhow::Result<()> {
        self.pause();
        // Where there is more to do, nothing is waited for.
        let is_busy = self.is_stepping || std::mem::take(&mut self.has_read_rows);
        let mut wait = if is_busy { Duration::ZERO } else { RECORD_WAIT };
        for _ in 0..self.shared.options.settings.records_max {
            let Some(record) = self.inbox.poll(wait)? else { break };
            wait = Duration::ZERO;
            let Some(source) = records::source(record.at) else {
                bail!("a record of {} came, which is not followed", record.at)
            };
            match records::event(source, &record, &self.who.node) {
                Ok(event) => {
                    self.take_in(&event, &record);
                    self.handle(event);
                }
                Err((code, detail)) => {
                    self.dead(&record, code, &detail)?;
                    self.handle(Event::Skipped { source, offset: record.offset });
                }
            }
            if !self.runner.worker().wants(source) {
                self.inbox.pause(record.at);
            }
        }
        Ok(())
    }

    /// Counts what taking it in costs, by the stated capacity, and traces moves.
    fn take_in(&mut self, event: &Event, record: &Record) {
        let Event::Record { record: taken, .. } = event else { return };
        match taken {
            events::Record::Update(it) => {
                let entries = u64::from(it.entry.is_some());
                self.world.writes += entries;
                metrics::get().updates.add(entries, &[]);
            }
            events::Record::Segment(it) => {
                let bytes = record.value.as_ref().map_or(0, Vec::len) as u64;
                self.world.copied_bytes += bytes;
                metrics::get().segment_bytes.add(bytes, &[KeyValue::new(metrics::DIRECTION, "in")]);
                self.world.moves.read_segment(it, record);
            }
            events::Record::Command(it) => self.world.moves.read_command(it, record),
            events::Record::Ack(it) => self.world.moves.read_ack(it, record),
            events::Record::Status(it) => self.world.moves.read_status(it),
        }
    }

    pub(super) fn read_scans(&mut self) -> anyhow::Result<()> {
        let ids: Vec<_> = self.scans.keys().copied().collect();
        for scan in ids {
            while self.runner.worker().wants_rows() {
                let follower = self.scans.get_mut(&scan).expect("it was just there");
                let Some(record) = follower.poll(Duration::ZERO)? else { break };
                self.has_read_rows = true;
                self.row(scan, &record)?;
            }
        }
        Ok(())
    }

    fn row(&mut self, scan: Scan, record: &Record) -> anyhow::Result<()> {
        let (event, unfit) = records::row(&self.shared.options.rows, scan, record);
        if let Some(err) = unfit {
            self.dead(record, err.code(), &err.to_string())?;
        }
        event.into_iter().for_each(|it| self.handle(it));
        Ok(())
    }

    /// Looks whether what was to be read to an end is.
    pub(super) fn look_at_ends(&mut self) -> anyhow::Result<()> {
        let is_started = self.runner.worker().is_started();
        let is_idle = self.maps_asked == 0 && self.scans.is_empty() && is_started;
        if is_idle || self.ends_asked.elapsed() < ENDS_EVERY {
            return Ok(());
        }
        self.ends_asked = Instant::now();
        if self.maps_asked > 0 {
            if self.map_ends.is_none() {
                // A START is seen at times before the generation that was committed with it. None waits for
                // the first map.
                self.map_ends = match self.is_map_known {
                    true => self.map.written_ends()?,
                    false => self.map.ends()?,
                };
            }
            if let Some(ends) = &self.map_ends
                && self.map.has_reached(ends)?
            {
                self.map_ends = None;
                self.maps_asked -= 1;
                self.is_map_known = true;
                self.handle(Event::MapReached);
            }
        }
        if !is_started {
            if self.updates_end.is_none() {
                let mine = records::partition(Source::Update, self.who.inbox);
                self.updates_end = self.inbox.ends()?.map(|mut ends| {
                    ends.retain(|at, _| *at == mine);
                    ends
                });
            }
            if let Some(ends) = &self.updates_end {
                let positions = self.inbox.positions()?;
                let is_read = |(at, end): (&TopicPartition, &Offset)| {
                    positions.get(at).is_some_and(|position| end <= position)
                };
                if ends.iter().all(is_read) {
                    self.handle(Event::UpdatesReached);
                }
            }
        }
        self.look_at_scans()
    }

    fn look_at_scans(&mut self) -> anyhow::Result<()> {
        let mut ended = Vec::new();
        for (scan, follower) in &mut self.scans {
            // One that stands where it was said to is at its end still, or a row is on its way.
            let mut positions = follower.positions()?;
            let known = |at: &TopicPartition| self.scans_ended.get(&(*scan, at.partition));
            positions.retain(|at, position| known(at) != Some(position));
            if positions.is_empty() {
                continue;
            }
            let Some(ends) = follower.ends()? else { continue };
            for (at, position) in positions {
                if ends.get(&at).is_some_and(|end| *end <= position) {
                    ended.push((*scan, at.partition, position));
                }
            }
        }
        for (scan, partition, position) in ended {
            self.scans_ended.insert((scan, partition), position);
            self.handle(Event::EndScanned { scan, partition, position: position.0 });
        }
        Ok(())
    }
}
