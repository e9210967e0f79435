//! Writes rows to the source table, and changes of them: for trying and testing.

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use clap::Args;
use schemas::table::RowChanged;
use schemas::wire::{Record as _, decode, encode};

use super::exit::{Exit, Fault, need_cluster};
use super::signals::Signals;
use crate::config::Config;
use crate::config::table::Format;
use crate::kafka::Output;
use crate::kafka::tail::{Start, scan};
use crate::kafka::writer::Writer;
use crate::table::load::{Changes, Shape};
use crate::table::rows::PAYLOAD_BYTES_MAX;

/// How often is looked whether the next change is due.
const PACE: Duration = Duration::from_millis(10);

#[derive(Clone, Debug, Args)]
pub struct LoadArgs {
    /// So many rows; each is inserted once
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..=100_000_000))]
    pub rows: u64,
    /// After that so many changes: other payloads, other index keys, deletions, inserts
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub changes: u64,
    /// So many changes a second at most, once the rows are there
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub rate: Option<u64>,
    /// What each row carries
    #[arg(long, value_name = "BYTES", default_value_t = 100, value_parser = clap::value_parser!(u64).range(..=PAYLOAD_BYTES_MAX as u64))]
    pub payload_bytes: u64,
    /// The same seed makes the same rows and changes
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
}

pub fn run(config: &Config, args: &LoadArgs) -> Result<Exit, Box<Fault>> {
    need_cluster(config)?;
    if config.table.format != Format::RowChanged {
        let what = "rows are written as row_changed, and table.format is another";
        let fault = Fault::new(Exit::Usage, "isotherm::load::format", what);
        return Err(Box::new(
            fault.remedy("leave table.format out, or write to the table by other means"),
        ));
    }
    let LoadArgs { rows, changes, rate, payload_bytes, seed } = *args;
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
    super::print(&format!(
        "{} rows, {} changes\n",
        written.min(rows),
        written.saturating_sub(rows)
    ))?;
    Ok(Exit::Done)
}
