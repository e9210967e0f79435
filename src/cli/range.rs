//! Lists ranges: who owns each, how large and how hot it is, where it is going.

use std::collections::BTreeMap;

use clap::{Args, Subcommand};
use schemas::assignment::Assignment;
use schemas::heatmap::RangeHeated;
use schemas::migration_status::MigrationStatus;
use schemas::node_capacity::RangeHeld;
use schemas::{Key, NodeId};
use serde_json::{Value, json};

use super::columns::columns;
use super::exit::{Exit, Fault, need_cluster};
use super::index::{self, Report, text_of};
use super::told::{bytes_told, percent};
use super::{Form, print};
use crate::assignment::map::{Map, span_of};
use crate::config::{Config, key_of, text_of_key};

#[derive(Clone, Debug, Subcommand)]
pub enum RangeCommand {
    /// A line for each range
    List(ListArgs),
    /// The range that holds a key
    Locate(LocateArgs),
}

#[derive(Clone, Debug, Args)]
pub struct ListArgs {
    /// The form of what is printed
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Form,
}

#[derive(Clone, Debug, Args)]
pub struct LocateArgs {
    /// As it is, or 0x and hexadecimal digits
    #[arg(value_parser = key_of)]
    pub key: Key,
    /// The form of what is printed
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Form,
}

/// All that is told of ranges.
#[derive(Default)]
struct Known {
    map: Map,
    nodes: BTreeMap<NodeId, Report>,
    in_flight: BTreeMap<Key, MigrationStatus>,
    heat: BTreeMap<Key, RangeHeated>,
}

pub fn run(config: &Config, command: &RangeCommand) -> Result<Exit, Box<Fault>> {
    need_cluster(config)?;
    let connection = &config.kafka;
    let (_, map) = index::map(connection)?;
    if map.is_empty() {
        // Fails, and says how there comes to be one.
        index::found(&map, "")?;
    }
    let known = Known {
        map,
        nodes: index::nodes(connection)?,
        in_flight: index::in_flight(connection)?,
        heat: index::heat(connection)?,
    };
    match command {
        RangeCommand::List(args) => {
            print(&known.listed(&known.map.iter().collect::<Vec<_>>(), args.output))?;
        }
        RangeCommand::Locate(args) => {
            let range = known.map.owner(&args.key.0).into_iter().collect::<Vec<_>>();
            print(&known.listed(&range, args.output))?;
        }
    }
    Ok(Exit::Done)
}

impl Known {
    /// What the owner says of the range as it is now.
    fn held(&self, it: &Assignment) -> Option<&RangeHeld> {
        let report = &self.nodes.get(&it.node)?.report;
        report
            .ranges
            .iter()
            .find(|held| (&held.range_start, held.epoch) == (&it.range_start, it.epoch))
    }

    fn listed(&self, ranges: &[&Assignment], form: Form) -> String {
        match form {
            Form::Table => {
                let header = [
                    "RANGE",
                    "NODE",
                    "EPOCH",
                    "ENTRIES",
                    "BYTES",
                    "READS µs/s",
                    "WRITES µs/s",
                    "SHARE",
                    "MOVE",
                ];
                columns(header, &ranges.iter().map(|it| self.row(it)).collect::<Vec<_>>())
            }
            Form::Json => {
                let all: Vec<_> = ranges.iter().map(|it| self.value(it)).collect();
                format!("{:#}\n", json!(all))
            }
            Form::Jsonl => ranges.iter().map(|it| format!("{}\n", self.value(it))).collect(),
        }
    }

    fn row(&self, it: &Assignment) -> [String; 9] {
        let (held, heat) = (self.held(it), self.heat.get(&it.range_start));
        let none = || "-".to_owned();
        // Over six ticks: one alone is restless.
        let load =
            |now: Option<&Vec<u64>>| now.and_then(|it| it.get(1)).map_or_else(none, u64::to_string);
        [
            text_of(&span_of(it)),
            it.node.0.clone(),
            it.epoch.0.to_string(),
            held.map_or_else(none, |it| it.entries.to_string()),
            held.map_or_else(none, |it| bytes_told(it.bytes)),
            load(heat.map(|it| &it.reads.now)),
            load(heat.map(|it| &it.writes.now)),
            heat.map_or_else(none, |it| percent(it.share_ppm)),
            self.in_flight.get(&it.range_start).map_or_else(none, going),
        ]
    }

    fn value(&self, it: &Assignment) -> Value {
        let (held, heat) = (self.held(it), self.heat.get(&it.range_start));
        let load = |now: Option<&Vec<u64>>| now.and_then(|it| it.get(1)).copied();
        json!({
            "range": text_of(&span_of(it)),
            "range_start": text_of_key(&it.range_start),
            "range_end": text_of_key(&it.range_end),
            "node": it.node,
            "epoch": it.epoch,
            "generation": it.generation,
            "entries": held.map(|it| it.entries),
            "bytes": held.map(|it| it.bytes),
            "reads_us_per_s": load(heat.map(|it| &it.reads.now)),
            "writes_us_per_s": load(heat.map(|it| &it.writes.now)),
            "share_ppm": heat.map(|it| it.share_ppm),
            "migration": self.in_flight.get(&it.range_start).map(|it| json!({
                "migration": it.migration.to_string(),
                "status": it.status,
                "phase": it.phase,
                "teller": it.teller,
                "bytes": it.bytes,
            })),
        })
    }
}

/// `m-7 COPYING to n3, 4.5 MB`; before the destination has said a word, nobody tells where to.
fn going(it: &MigrationStatus) -> String {
    let word = |it: Value| it.as_str().unwrap_or_default().to_owned();
    match &it.phase {
        Some(phase) => {
            let (phase, bytes) = (word(json!(phase)), bytes_told(it.bytes));
            format!("{} {phase} to {}, {bytes}", it.migration, it.teller)
        }
        None => format!("{} {}", it.migration, word(json!(it.status))),
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use schemas::heatmap::OpHeat;
    use schemas::migration_status::{Phase, Status};
    use schemas::node_capacity::{NodeCapacity, NodeState};
    use schemas::{Epoch, Inbox, MigrationId, Millis};

    use super::*;
    use crate::cli::index::tests::map_of;

    #[test]
    fn ranges_are_listed_with_what_is_known_of_them() {
        let map = map_of(&[("", "k 5", "n1"), ("k 5", "0xff", "n2"), ("0xff", "", "n1")]);
        let held = RangeHeld {
            range_start: Key::default(),
            epoch: Epoch(3),
            entries: 12,
            bytes: 4_500_000,
        };
        let report = NodeCapacity {
            node_id: NodeId("n1".into()),
            store_id: "s".into(),
            cpu_load: None,
            memory_load: None,
            io_load: None,
            capacity_us_per_s: None,
            memory_bytes_total: None,
            memory_bytes_used: None,
            disk_bytes_total: None,
            disk_bytes_used: None,
            endpoint: None,
            inbox: Inbox(0),
            state: NodeState::Up,
            ranges: vec![held],
        };
        let heat = RangeHeated {
            range_start: Key(b"k 5".to_vec()),
            range_end: Key(vec![0xff]),
            node: NodeId("n2".into()),
            tick: 4,
            reads: OpHeat { now: vec![900, 850, 1, 1], ..OpHeat::default() },
            writes: OpHeat { now: vec![0; 4], ..OpHeat::default() },
            share_ppm: 31_000,
            unsplittable_ppm: 0,
            rung: "ewma".into(),
            skill_permille: None,
            coverage80_permille: None,
        };
        let status = MigrationStatus {
            migration: MigrationId(7),
            range_start: Key::default(),
            range_end: Key(b"k 5".to_vec()),
            teller: NodeId("n3".into()),
            status: Status::InProgress,
            phase: Some(Phase::Copying),
            reason: None,
            epoch: Epoch(3),
            attempt: 1,
            bytes: 1_200_000,
            digest: None,
            partitions_left: Vec::new(),
        };
        let known = Known {
            nodes: BTreeMap::from([(report.node_id.clone(), Report { stamp: Millis(0), report })]),
            heat: BTreeMap::from([(heat.range_start.clone(), heat)]),
            in_flight: BTreeMap::from([(Key::default(), status)]),
            map,
        };
        let ranges: Vec<_> = known.map.iter().collect();
        expect![[r#"
            RANGE      NODE  EPOCH  ENTRIES  BYTES   READS µs/s  WRITES µs/s  SHARE  MOVE
            ..k 5      n1    3      12       4.5 MB  -           -            -      m-7 COPYING to n3, 1.2 MB
            k 5..0xff  n2    3      -        -       850         0            3.1 %  -
            0xff..     n1    3      -        -       -           -            -      -
        "#]]
        .assert_eq(&known.listed(&ranges, Form::Table));
        expect![[r#"
            {"bytes":4500000,"entries":12,"epoch":3,"generation":7,"migration":{"bytes":1200000,"migration":"m-7","phase":"COPYING","status":"IN_PROGRESS","teller":"n3"},"node":"n1","range":"..k 5","range_end":"k 5","range_start":"","reads_us_per_s":null,"share_ppm":null,"writes_us_per_s":null}
        "#]]
        .assert_eq(&known.listed(&ranges[..1], Form::Jsonl));
    }
}
