//! Writes rows to the source table, and changes of them.

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use schemas::table::RowChanged;
use schemas::wire::{Record as _, decode, encode};

use super::LoadArgs;
use crate::cli::exit::{Exit, Fault};
use crate::cli::print;
use crate::cli::signals::Signals;
use crate::config::Config;
use crate::kafka::Output;
use crate::kafka::tail::{Start, scan};
use crate::kafka::writer::Writer;
use crate::table::load::{Changes, Shape};

/// How often is looked whether the next change is due.
const PACE: Duration = Duration::from_millis(10);

pub fn run(config: &Config, args: &LoadArgs) -> Result<Exit, Box<Fault>> {
    let LoadArgs { rows, changes, rate, payload_bytes, seed, .. } = *args;
    let signals = Signals::begin()?;
    let mut made = Changes::new(Shape { rows, payload_bytes: payload_bytes as usize, seed });
    scan(&config.kafka, RowChanged::TOPIC, Start::Beginning, |record| {
        let value = record.value.as_deref().map(decode::<RowChanged>);
        if let (Some(key), Some(Ok(change))) = (&record.key, value) {
            made.know(key, change.after);
        }
        ControlFlow::Continue(())
    })?;
    let writer = Writer::open(&config.kafka, "load")?;
    let mut paced: Option<(Instant, u64)> = None;
    let mut written = 0;
    for (primary_key, change) in made {
        if written == rows.saturating_add(changes) || signals.is_asked() {
            break;
        }
        if let (true, Some(rate)) = (rows <= written, rate) {
            let (since, count) = paced.get_or_insert_with(|| (Instant::now(), 0));
            while since.elapsed().as_secs_f64() * rate as f64 <= *count as f64
                && !signals.is_asked()
            {
                std::thread::park_timeout(PACE);
            }
            *count += 1;
        }
        writer.send(&Output::new(RowChanged::TOPIC, primary_key, encode(&change)))?;
        written += 1;
    }
    writer.flush()?;
    print(&format!("{} rows, {} changes\n", written.min(rows), written.saturating_sub(rows)))?;
    Ok(Exit::Done)
}
