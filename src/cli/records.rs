//! Writes the records of every topic: one line that a person reads, or one line of JSON.
//!
//! ```text
//!  T: Line ──> line()        m-31 START [a, b) n2 → n4 of epoch 4, generation 12
//!  T: Serialize ──> json()   {"command":"START","migration":31,…}
//! ```
//!
//! * **Keys as asked.** Keys and payloads are text in JSON too, in the format that was asked for.

use std::io;

use schemas::assignment::{Assignment, Source};
use schemas::heatmap::{OpHeat, RangeHeated};
use schemas::index_update::IndexUpdate;
use schemas::migrate_range::MigrateRange;
use schemas::migration_status::MigrationStatus;
use schemas::node_capacity::NodeCapacity;
use schemas::operator_command::OperatorCommand;
use schemas::plan::Planned;
use schemas::planner_progress::Progress;
use schemas::query_log::QueriesLogged;
use schemas::range_segment::{Entry, RangeSegment};
use schemas::segment_ack::SegmentAck;
use schemas::table::RowChanged;
use serde::Serialize;

use super::keys::KeyFormat;
use super::told::{bytes_told, moment, percent, ratio, shortened, summary};

/// More bytes than any key or payload of use to a reader; of what is longer only the size is told.
const BYTES_TOLD_MAX: usize = 4_096;

/// A record that can be told in one line.
pub trait Line: Serialize {
    fn line(&self, keys: KeyFormat) -> String;
}

/// Returns a record as one line of JSON, without a newline.
pub fn json(record: &impl Serialize, keys: KeyFormat) -> String {
    let mut res = Vec::new();
    let mut serializer = serde_json::Serializer::with_formatter(&mut res, KeysAsText(keys));
    record.serialize(&mut serializer).expect("a record is plain values with text as names");
    String::from_utf8(res).expect("JSON is text")
}

struct KeysAsText(KeyFormat);

impl serde_json::ser::Formatter for KeysAsText {
    fn write_byte_array<W: ?Sized + io::Write>(
        &mut self,
        to: &mut W,
        bytes: &[u8],
    ) -> io::Result<()> {
        let text = if bytes.len() <= BYTES_TOLD_MAX {
            self.0.bytes(bytes)
        } else {
            format!("<{} bytes>", bytes.len())
        };
        write!(to, "{}", serde_json::Value::from(text))
    }
}

impl Line for QueriesLogged {
    fn line(&self, keys: KeyFormat) -> String {
        let costs = self.queries.iter().filter_map(|it| it.cost_us);
        let (cost_us, n) = (costs.fold(0, u64::saturating_add), self.queries.len());
        let first = self.queries.first().map_or(String::new(), |it| {
            format!(", the first {} {} at {}", wire(&it.op), keys.key(&it.key), moment(it.time.0))
        });
        format!("{n} queries, {cost_us} µs{first}")
    }
}

impl Line for NodeCapacity {
    fn line(&self, _keys: KeyFormat) -> String {
        let share = |it: Option<f64>| it.map_or("?".into(), |it| format!("{it:.2}"));
        let capacity = self.capacity_us_per_s.map_or("?".into(), |it| format!("{it:.0}"));
        let loads = [self.cpu_load, self.memory_load, self.io_load].map(share).join("/");
        let held: u64 = self.ranges.iter().map(|it| it.bytes).fold(0, u64::saturating_add);
        format!(
            "{} {} capacity {capacity} µs/s, cpu/memory/io {loads}, {} ranges of {}, inbox {}, store {}",
            self.node_id,
            wire(&self.state),
            self.ranges.len(),
            bytes_told(held),
            self.inbox.0,
            shortened(&self.store_id)
        )
    }
}

impl Line for RangeHeated {
    fn line(&self, keys: KeyFormat) -> String {
        let now = |it: &OpHeat| it.now.first().copied().unwrap_or(0);
        // Mean of the next thirty ticks: its median and its .9 quantile.
        let ahead = |level: usize| {
            [&self.reads, &self.writes]
                .map(|it| it.forecast.mean30.get(level).copied().unwrap_or(0))
        };
        let [median, high] = [ahead(3), ahead(5)].map(|[a, b]| a.saturating_add(b));
        format!(
            "tick {} {} on {}: reads {} writes {} µs/s, mean-30 {median} (.9: {high}), {} of the load, {}",
            self.tick,
            keys.span(&self.range_start, &self.range_end),
            self.node,
            now(&self.reads),
            now(&self.writes),
            percent(self.share_ppm),
            self.rung
        )
    }
}

impl Line for Planned {
    fn line(&self, _keys: KeyFormat) -> String {
        summary(self)
    }
}

impl Line for MigrateRange {
    fn line(&self, keys: KeyFormat) -> String {
        let reason = self.reason.as_ref().map_or(String::new(), |it| format!(": {it}"));
        format!(
            "{} {} {} {} → {} of epoch {}, generation {}, until {}{reason}",
            self.migration,
            wire(&self.command),
            keys.span(&self.range_start, &self.range_end),
            self.source_node,
            self.destination_node,
            self.source_epoch.0,
            self.generation.0,
            moment(self.deadline.0)
        )
    }
}

impl Line for MigrationStatus {
    fn line(&self, keys: KeyFormat) -> String {
        let phase = self.phase.as_ref().map_or(String::new(), |it| format!(" {}", wire(it)));
        let reason = self.reason.as_ref().map_or(String::new(), |it| format!(": {it}"));
        let left = match self.partitions_left.len() {
            0 => String::new(),
            n => format!(", {n} partitions to drain"),
        };
        format!(
            "{} {}{phase} by {} {} epoch {}, attempt {}, {}{left}{reason}",
            self.migration,
            wire(&self.status),
            self.teller,
            keys.span(&self.range_start, &self.range_end),
            self.epoch.0,
            self.attempt,
            bytes_told(self.bytes)
        )
    }
}

impl Line for Assignment {
    fn line(&self, keys: KeyFormat) -> String {
        let from = match (&self.source, &self.source_node) {
            (Source::None, _) => "relabelled".to_owned(),
            (Source::Node, Some(node)) => format!("from {node}"),
            (Source::Node, None) => "from a node that it does not tell".into(),
            (Source::Table, _) => "from the table".into(),
            (Source::Unknown, _) => "from a source that this program does not know".into(),
        };
        let migration = self.migration.map_or(String::new(), |it| format!(", {it}"));
        let last = if self.last { ", the last of its generation" } else { "" };
        format!(
            "{} on {} epoch {} generation {}, {from} (epoch {}){migration}{last}",
            keys.span(&self.range_start, &self.range_end),
            self.node,
            self.epoch.0,
            self.generation.0,
            self.source_epoch.0
        )
    }
}

impl Line for RangeSegment {
    fn line(&self, _keys: KeyFormat) -> String {
        let reason = self.reason.as_ref().map_or(String::new(), |it| format!(": {it}"));
        format!(
            "{} stream {} segment {} {}, {} entries, {} floors, count {}{reason}",
            self.migration,
            self.stream,
            self.seq,
            wire(&self.kind),
            self.entries.len(),
            self.floors.len(),
            self.count
        )
    }
}

impl Line for SegmentAck {
    fn line(&self, keys: KeyFormat) -> String {
        let done = if self.done { ", done" } else { "" };
        format!(
            "{} stream {} next segment {} {} generation {}, credit {}{done}",
            self.migration,
            self.stream,
            self.next_seq,
            keys.span(&self.range_start, &self.range_end),
            self.generation.0,
            bytes_told(self.credit_bytes)
        )
    }
}

impl Line for RowChanged {
    fn line(&self, keys: KeyFormat) -> String {
        let key = |it: &Option<schemas::Key>| it.as_ref().map_or("none".into(), |it| keys.key(it));
        format!(
            "{} → {}, {}",
            key(&self.before),
            key(&self.after),
            payload(self.payload.as_deref())
        )
    }
}

impl Line for IndexUpdate {
    fn line(&self, keys: KeyFormat) -> String {
        let generation = self.generation.0;
        let entry = self.entry.as_ref().map(|it| {
            let Entry { index_key, primary_key, partition, offset, payload: bytes } = &it.entry;
            let (index, primary) = (keys.key(index_key), keys.key(primary_key));
            let payload = payload(bytes.as_deref());
            format!(
                "entry {index} of {primary} at {partition}:{offset}, {payload}, {} hops",
                it.hops
            )
        });
        let watermark = self.watermark.as_ref().map(|it| {
            let floors: Vec<String> =
                it.floors.iter().map(|it| format!("{}:{}", it.partition, it.offset)).collect();
            let via = it.via.as_ref().map_or(String::new(), |it| format!(" via {it}"));
            format!("watermark {}{via}", floors.join(" "))
        });
        let what = entry.or(watermark).unwrap_or_else(|| "nothing that is known here".into());
        format!("{what}, generation {generation}")
    }
}

impl Line for OperatorCommand {
    fn line(&self, keys: KeyFormat) -> String {
        let mut of = Vec::new();
        of.extend(self.node.as_ref().map(ToString::to_string));
        if let (Some(start), Some(end)) = (&self.range_start, &self.range_end) {
            of.push(keys.span(start, end));
        }
        let before = self.built_before.map(|it| format!("built before {}", moment(it.0)));
        of.extend(before);
        of.extend(self.plan.clone());
        let of = of.join(" ");
        format!("{} {} {of} by {}: {}", self.id, wire(&self.command), self.actor, self.reason)
    }
}

impl Line for Progress {
    fn line(&self, _keys: KeyFormat) -> String {
        if let Some(it) = &self.tick {
            let records = it.spans.iter().map(|it| it.to.saturating_sub(it.from));
            let records = records.fold(0, u64::saturating_add);
            let stale = if it.stale { ", stale" } else { "" };
            let refit = it.refit.as_ref().map_or(String::new(), |it| match it.weights {
                Some(_) => format!(", linear model fitted anew as of tick {}", it.begun),
                None => format!(", the fit of tick {} missed", it.begun),
            });
            return format!(
                "tick {} of {} ms: {} partitions, {records} offsets, {} queries, {} late, {} dead, {}, overload {} of a node{refit}{stale}",
                it.tick,
                it.tick_ms,
                it.spans.len(),
                it.queries,
                it.late,
                it.dead,
                it.rung,
                ratio(it.overload_ms.saturating_mul(1_000) / it.tick_ms.max(1))
            );
        }
        match &self.chunk {
            Some(it) => format!(
                "snapshot of tick {}: chunk {} of {}, {}, digest {}",
                it.tick,
                it.index + 1,
                it.count,
                bytes_told(it.bytes.len() as u64),
                shortened(&it.digest)
            ),
            None => "nothing that is known here".into(),
        }
    }
}

/// An enum's symbol as it stands in records.
fn wire(symbol: &impl Serialize) -> String {
    match serde_json::to_value(symbol) {
        Ok(serde_json::Value::String(text)) => text,
        Ok(_) | Err(_) => "UNKNOWN".into(),
    }
}

fn payload(bytes: Option<&[u8]>) -> String {
    bytes.map_or("deleted".into(), |it| bytes_told(it.len() as u64))
}

#[cfg(test)]
mod tests;
