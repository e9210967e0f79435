//! Reads what stands of the index: who owns what, what nodes report, what is on its way.
//!
//! A range is written as people can type it again: `start..end`, keys as in a configuration; where it
//! has no end, or begins at the beginning, nothing stands there.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use schemas::assignment::Assignment;
use schemas::heatmap::RangeHeated;
use schemas::migration_status::{MigrationStatus, Status};
use schemas::node_capacity::NodeCapacity;
use schemas::wire::{Record, decode};
use schemas::{Generation, Key, KeySpan, Millis, NodeId};
use tracing::warn;

use super::exit::{Exit, Fault};
use crate::assignment::map::{Map, Row, span_of};
use crate::assignment::whole::WholeMap;
use crate::config::{key_of, text_of_key};
use crate::kafka::Connection;
use crate::kafka::tail::{Start, scan};

/// What a node reported last, and when.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    pub stamp: Millis,
    pub report: NodeCapacity,
}

/// Returns the map of the newest generation that is whole.
pub fn map(connection: &Connection) -> anyhow::Result<(Generation, Map)> {
    let mut whole = WholeMap::default();
    each::<Assignment>(connection, |key, _, assignment| {
        for it in whole.read(Row { start: Key(key), assignment }).refused {
            warn!("passed over a record of assignment: {it}");
        }
    })?;
    Ok((whole.generation(), whole.map().clone()))
}

/// Returns the last report of each node.
pub fn nodes(connection: &Connection) -> anyhow::Result<BTreeMap<NodeId, Report>> {
    let mut res = BTreeMap::new();
    each::<NodeCapacity>(connection, |_, stamp, report| {
        if let Some(report) = report {
            res.insert(report.node_id.clone(), Report { stamp, report });
        }
    })?;
    Ok(res)
}

/// Returns the last word about each migration that has not ended, by the start of its range.
pub fn in_flight(connection: &Connection) -> anyhow::Result<BTreeMap<Key, MigrationStatus>> {
    let mut newest = BTreeMap::new();
    each::<MigrationStatus>(connection, |_, _, status| {
        let Some(it) = status else { return };
        let known: Option<&MigrationStatus> = newest.get(&it.migration);
        // The first end counts.
        if known.is_none_or(|known| !is_end(known.status)) {
            newest.insert(it.migration, it);
        }
    })?;
    let open = newest.into_values().filter(|it| !is_end(it.status));
    Ok(open.map(|it| (it.range_start.clone(), it)).collect())
}

/// Returns the heat of each range as it was told last.
pub fn heat(connection: &Connection) -> anyhow::Result<BTreeMap<Key, RangeHeated>> {
    let mut res = BTreeMap::new();
    each::<RangeHeated>(connection, |key, _, heat| match heat {
        Some(heat) => _ = res.insert(heat.range_start.clone(), heat),
        None => _ = res.remove(&Key(key)),
    })?;
    Ok(res)
}

pub fn is_end(status: Status) -> bool {
    matches!(status, Status::Complete | Status::Failed)
}

/// Writes a range so that it can be typed again.
pub fn text_of(span: &KeySpan) -> String {
    format!("{}..{}", text_of_key(&span.start), text_of_key(&span.end))
}

/// Finds the range that is written so, or that begins at the key that is.
pub fn found<'a>(map: &'a Map, text: &str) -> Result<&'a Assignment, Box<Fault>> {
    let key = key_of(text).ok();
    let by_text = map.iter().find(|it| text_of(&span_of(it)) == text);
    let by_start = || map.iter().find(|it| Some(&it.range_start) == key.as_ref());
    by_text.or_else(by_start).ok_or_else(|| {
        let start = text.split_once("..").map_or(text, |it| it.0);
        let there = key_of(start).ok().and_then(|it| map.owner(&it.0));
        let (what, remedy) = match there {
            _ if map.is_empty() => (
                "there is no assignment yet".to_owned(),
                "a planner makes one when enough nodes report; it must be running".to_owned(),
            ),
            Some(it) => (
                format!("no range is `{text}`: that key is in {}", text_of(&span_of(it))),
                "ranges are split and join; `isotherm range list` shows those that are".to_owned(),
            ),
            None => (
                format!("no range is `{text}`"),
                "`isotherm range list` shows those that are, in the form that is meant".to_owned(),
            ),
        };
        Box::new(Fault::new(Exit::Stale, "isotherm::range::unknown", what).remedy(remedy))
    })
}

/// Shows every record of a topic; what is none is passed over, and told in the log.
fn each<R: Record>(
    connection: &Connection,
    mut each: impl FnMut(Vec<u8>, Millis, Option<R>),
) -> anyhow::Result<()> {
    scan(connection, R::TOPIC, Start::Beginning, |record| {
        match record.value.as_deref().map(decode::<R>).transpose() {
            Ok(value) => each(record.key.unwrap_or_default(), record.stamp, value),
            Err(err) => {
                warn!(at = %record.at, offset = record.offset, %err, "passed over a record");
            }
        }
        ControlFlow::Continue(())
    })
}

#[cfg(test)]
pub mod tests {
    use schemas::assignment::Source;
    use schemas::{Epoch, Inbox};

    use super::*;

    /// A map of ranges (start, end, node).
    pub fn map_of(ranges: &[(&str, &str, &str)]) -> Map {
        let mut map = Map::default();
        for (i, (start, end, node)) in ranges.iter().enumerate() {
            let [start, end] = [start, end].map(|it| key_of(it).unwrap());
            let assignment = Assignment {
                range_start: start.clone(),
                range_end: end,
                node: NodeId((*node).into()),
                inbox: Inbox(0),
                epoch: Epoch(3),
                generation: Generation(7),
                last: i + 1 == ranges.len(),
                migration: None,
                source: Source::None,
                source_node: None,
                source_epoch: Epoch(0),
            };
            map.apply(&Row { start, assignment: Some(assignment) }).unwrap();
        }
        map
    }

    #[test]
    fn range_is_found_as_it_is_written() {
        let map = map_of(&[("", "a..b", "n1"), ("a..b", "0xff00", "n2"), ("0xff00", "", "n3")]);
        for it in map.iter() {
            let text = text_of(&span_of(it));
            assert_eq!(found(&map, &text).unwrap(), it, "{text}");
            let start = text_of_key(&it.range_start);
            assert_eq!(found(&map, &start).unwrap(), it, "{start}");
        }
        let fault = found(&map, "a..c").unwrap_err();
        assert_eq!(
            (fault.exit, fault.what.as_str()),
            (Exit::Stale, "no range is `a..c`: that key is in ..a..b")
        );
        assert!(found(&Map::default(), "a").unwrap_err().what.contains("no assignment"));
    }
}
