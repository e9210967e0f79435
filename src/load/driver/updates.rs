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
    clock: Clock,
    writer: Writer,
    rows: Rows,
    told: SyncSender<Part>,
    tally: Tally,
    /// Of the records that the client has taken, so many are counted as given up.
    given_up: u64,
    was_warned: bool,
}

impl Updating {
    pub fn new(clock: Clock, writer: Writer, rows: Rows, told: SyncSender<Part>) -> Self {
        let (tally, given_up, was_warned) = (Tally::default(), 0, false);
        Self { clock, writer, rows, told, tally, given_up, was_warned }
    }

    /// Returns what was not told.
    pub fn run(mut self, due: &Receiver<Operation>) -> Tally {
        let mut told = Instant::now();
        loop {
            match due.recv_timeout(TOLD_EVERY) {
                Ok(operation) => self.write(operation),
                Err(RecvTimeoutError::Timeout) => (),
                Err(RecvTimeoutError::Disconnected) => break,
            }
            if TOLD_EVERY <= told.elapsed() {
                told = Instant::now();
                self.count_given_up();
                let part = Part { tally: std::mem::take(&mut self.tally), under_way: None };
                if let Err(err) = self.told.try_send(part) {
                    self.tally = super::part_of(err).tally;
                }
            }
        }
        let (lost, why) = self.writer.settle();
        self.tally.updates_failed += lost - self.given_up;
        if let Some(why) = why {
            self.warn(&why);
        }
        self.tally
    }

    fn write(&mut self, Operation { due, key, .. }: Operation) {
        let (primary_key, change) = self.rows.change(key);
        let output = Output::new(RowChanged::TOPIC, primary_key, encode(&change));
        let taken = self.writer.taken();
        let sent = self.writer.send(&output);
        // What fails may be a record before it.
        match self.writer.taken() == taken {
            true => self.tally.updates_failed += 1,
            false => self.tally.updates.record(self.clock.now().0.saturating_sub(due.0)),
        }
        if let Err(err) = sent {
            self.warn(&format!("{err:#}"));
        }
    }

    fn count_given_up(&mut self) {
        let given_up = self.writer.given_up();
        self.tally.updates_failed += given_up - self.given_up;
        self.given_up = given_up;
    }

    /// Once: the tally counts them.
    fn warn(&mut self, why: &str) {
        if !self.was_warned {
            warn!("an update was not written: {why}");
            self.was_warned = true;
        }
    }
}
