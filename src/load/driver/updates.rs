//! Writes updates, on a thread of its own: a broker that is slow or away holds no read up.

use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender};
use std::time::Instant;

use schemas::table::RowChanged;
use schemas::wire::{Record as _, encode};
use tracing::warn;

use super::{Clock, Part, TOLD_EVERY};
use crate::kafka::Output;
use crate::kafka::writer::Writer;
use crate::load::rows::Rows;
use crate::load::schedule::Operation;
use crate::load::tally::Tally;

/// Writes what is due, until there is no more, and tells what came of it.
pub struct Updating {
    pub clock: Clock,
    pub writer: Writer,
    pub rows: Rows,
    pub told: SyncSender<Part>,
}

impl Updating {
    /// Returns what was not told.
    pub fn run(mut self, due: &Receiver<Operation>) -> Tally {
        let (mut tally, mut told) = (Tally::default(), Instant::now());
        loop {
            match due.recv_timeout(TOLD_EVERY) {
                Ok(operation) => self.write(&mut tally, operation),
                Err(RecvTimeoutError::Timeout) => (),
                Err(RecvTimeoutError::Disconnected) => break,
            }
            if TOLD_EVERY <= told.elapsed() {
                told = Instant::now();
                let part = Part { tally: std::mem::take(&mut tally), under_way: None };
                if let Err(err) = self.told.try_send(part) {
                    tally = super::part_of(err).tally;
                }
            }
        }
        if let Err(err) = self.writer.flush() {
            failed(&mut tally, &err);
        }
        tally
    }

    fn write(&mut self, tally: &mut Tally, Operation { due, key, .. }: Operation) {
        let (primary_key, change) = self.rows.change(key);
        let output = Output::new(RowChanged::TOPIC, primary_key, encode(&change));
        match self.writer.send(&output) {
            Ok(()) => tally.updates.record(self.clock.now().0.saturating_sub(due.0)),
            Err(err) => failed(tally, &err),
        }
    }
}

fn failed(tally: &mut Tally, err: &anyhow::Error) {
    if tally.updates_failed == 0 {
        warn!("an update was not written: {err:#}");
    }
    tally.updates_failed += 1;
}
