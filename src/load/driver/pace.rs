//! Hands operations over when they are due, on a thread of its own: nobody who looks on holds them up.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError as NoUpdate};
use std::time::{Duration, Instant};

use tokio::sync::mpsc::Sender;
use tokio::sync::mpsc::error::TrySendError as NoRead;

use super::{Clock, Part, TOLD_EVERY, WAIT_MAX};
use crate::load::Micros;
use crate::load::schedule::{Operation, Schedule, What};
use crate::load::tally::{Outcome, Reason, Tally};
use crate::replay::trace::TraceError;

/// Waits for what is due, until there is no more or it is to stop, and tells what found no room.
pub struct Pace {
    pub clock: Clock,
    pub reads: Sender<Operation>,
    pub updates: SyncSender<Operation>,
    pub told: SyncSender<Part>,
    pub stop: Arc<AtomicBool>,
}

/// Who is to act on an operation has ended.
struct Gone;

impl Pace {
    /// Returns what was not told, and why the schedule broke off, if it did.
    pub fn run(self, schedule: Schedule) -> (Tally, Option<TraceError>) {
        let (mut tally, mut told) = (Tally::default(), Instant::now());
        for operation in schedule {
            let operation = match operation {
                Ok(it) => it,
                Err(err) => return (tally, Some(err)),
            };
            if !self.wait_until(operation.due) || self.hand_over(operation, &mut tally).is_err() {
                break;
            }
            if TOLD_EVERY <= told.elapsed() {
                told = Instant::now();
                let part = Part { tally: std::mem::take(&mut tally), under_way: None };
                if let Err(err) = self.told.try_send(part) {
                    tally = super::part_of(err).tally;
                }
            }
        }
        (tally, None)
    }

    /// Tells whether to go on.
    fn wait_until(&self, due: Micros) -> bool {
        loop {
            if self.stop.load(Ordering::Relaxed) {
                return false;
            }
            let left = due.0.saturating_sub(self.clock.now().0);
            if left == 0 {
                return true;
            }
            std::thread::park_timeout(Duration::from_micros(left).min(WAIT_MAX));
        }
    }

    fn hand_over(&self, operation: Operation, tally: &mut Tally) -> Result<(), Gone> {
        match operation.what {
            What::Read => match self.reads.try_send(operation) {
                Ok(()) => (),
                Err(NoRead::Full(_)) => {
                    tally.reads += 1;
                    tally.ended(Outcome::Failed(Reason::TooMany), 0);
                }
                Err(NoRead::Closed(_)) => return Err(Gone),
            },
            What::Update => match self.updates.try_send(operation) {
                Ok(()) => (),
                Err(NoUpdate::Full(_)) => tally.updates_failed += 1,
                Err(NoUpdate::Disconnected(_)) => return Err(Gone),
            },
        }
        Ok(())
    }
}
