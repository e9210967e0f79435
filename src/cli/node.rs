//! Lists nodes, as each reported last.

use std::collections::BTreeMap;

use clap::{Args, Subcommand};
use schemas::node_capacity::NodeCapacity;
use schemas::{Millis, NodeId};
use serde_json::json;

use super::columns::columns;
use super::exit::{Exit, Fault, need_cluster};
use super::index::{self, Report};
use super::told::bytes_told;
use super::{Form, print};
use crate::assignment::map::Map;
use crate::config::Config;
use crate::kafka::wall_clock;

#[derive(Clone, Debug, Subcommand)]
pub enum NodeCommand {
    /// A line for each node that ever reported
    List(ListArgs),
}

#[derive(Clone, Debug, Args)]
pub struct ListArgs {
    /// The form of what is printed
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Form,
}

pub fn run(config: &Config, command: &NodeCommand) -> Result<Exit, Box<Fault>> {
    need_cluster(config)?;
    let NodeCommand::List(args) = command;
    let nodes = index::nodes(&config.kafka)?;
    let (_, map) = index::map(&config.kafka)?;
    let planner = &config.planner;
    let silent_ms = planner.silent_ticks * planner.tick.as_millis() as u64;
    print(&listed(&nodes, &map, [wall_clock(), Millis(silent_ms)], args.output))?;
    Ok(Exit::Done)
}

/// Lists them at a time; who has not reported for as long as the second one is silent.
fn listed(
    nodes: &BTreeMap<NodeId, Report>,
    map: &Map,
    [now, silent]: [Millis; 2],
    form: Form,
) -> String {
    let value = |it: &Report| {
        let report = &it.report;
        json!({
            "node": report.node_id,
            "state": report.state,
            "endpoint": report.endpoint,
            "inbox": report.inbox,
            "store_id": report.store_id,
            "reported_ms": it.stamp,
            "ranges": owned(map, &report.node_id),
            "entries": entries(report),
            "bytes": bytes(report),
            "capacity_us_per_s": report.capacity_us_per_s,
            "cpu_load": report.cpu_load,
            "memory_load": report.memory_load,
            "io_load": report.io_load,
            "memory_bytes_used": report.memory_bytes_used,
            "memory_bytes_total": report.memory_bytes_total,
            "disk_bytes_used": report.disk_bytes_used,
            "disk_bytes_total": report.disk_bytes_total,
        })
    };
    match form {
        Form::Table => {
            let header = [
                "NODE",
                "STATE",
                "REPORTED",
                "RANGES",
                "ENTRIES",
                "BYTES",
                "CAPACITY µs/s",
                "CPU",
                "MEMORY",
                "IO",
                "DISK",
                "ENDPOINT",
            ];
            columns(
                header,
                &nodes.values().map(|it| row(it, map, [now, silent])).collect::<Vec<_>>(),
            )
        }
        Form::Json => format!("{:#}\n", json!(nodes.values().map(value).collect::<Vec<_>>())),
        Form::Jsonl => nodes.values().map(|it| format!("{}\n", value(it))).collect(),
    }
}

fn row(Report { stamp, report }: &Report, map: &Map, [now, silent]: [Millis; 2]) -> [String; 12] {
    let none = || "-".to_owned();
    let share = |it: Option<f64>| it.map_or_else(none, |it| format!("{:.0} %", it * 100.0));
    let ago_ms = now.0.saturating_sub(stamp.0);
    let ago = humantime::format_duration(std::time::Duration::from_secs(ago_ms / 1_000));
    let state = match silent.0 <= ago_ms {
        true => "SILENT".to_owned(),
        false => json!(report.state).as_str().unwrap_or_default().to_owned(),
    };
    let disk = match (report.disk_bytes_used, report.disk_bytes_total) {
        (Some(used), Some(total)) => format!("{} of {}", bytes_told(used), bytes_told(total)),
        (used, _) => used.map_or_else(none, bytes_told),
    };
    [
        report.node_id.0.clone(),
        state,
        format!("{ago} ago"),
        owned(map, &report.node_id).to_string(),
        entries(report).to_string(),
        bytes_told(bytes(report)),
        report.capacity_us_per_s.map_or_else(none, |it| format!("{it:.0}")),
        share(report.cpu_load),
        share(report.memory_load),
        share(report.io_load),
        disk,
        report.endpoint.clone().unwrap_or_else(none),
    ]
}

fn owned(map: &Map, node: &NodeId) -> usize {
    map.iter().filter(|it| it.node == *node).count()
}

fn entries(report: &NodeCapacity) -> u64 {
    report.ranges.iter().map(|it| it.entries).sum()
}

fn bytes(report: &NodeCapacity) -> u64 {
    report.ranges.iter().map(|it| it.bytes).sum()
}

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use schemas::node_capacity::{NodeState, RangeHeld};
    use schemas::{Epoch, Inbox, Key};
    use serde_json::Value;

    use super::*;
    use crate::cli::index::tests::map_of;

    #[test]
    fn nodes_are_listed_and_what_they_do_not_tell_is_no_zero() {
        let held = RangeHeld {
            range_start: Key::default(),
            epoch: Epoch(3),
            entries: 12,
            bytes: 4_500_000,
        };
        let known = NodeCapacity {
            node_id: NodeId("n1".into()),
            store_id: "s".into(),
            cpu_load: Some(0.254),
            memory_load: None,
            io_load: None,
            capacity_us_per_s: Some(4e6),
            memory_bytes_total: None,
            memory_bytes_used: None,
            disk_bytes_total: Some(1_000_000_000_000),
            disk_bytes_used: Some(34_000_000_000),
            endpoint: Some("127.0.0.1:7101".into()),
            inbox: Inbox(4),
            state: NodeState::ReadOnly,
            ranges: vec![held],
        };
        let silent = NodeCapacity {
            node_id: NodeId("n2".into()),
            cpu_load: None,
            capacity_us_per_s: None,
            disk_bytes_total: None,
            disk_bytes_used: None,
            endpoint: None,
            state: NodeState::Up,
            ranges: Vec::new(),
            ..known.clone()
        };
        let reports = [(known, 99_000), (silent, 10_000)].map(|(report, stamp)| {
            (report.node_id.clone(), Report { stamp: Millis(stamp), report })
        });
        let (nodes, map) = (BTreeMap::from(reports), map_of(&[("", "m", "n1"), ("m", "", "n1")]));
        expect![[r#"
            NODE  STATE      REPORTED    RANGES  ENTRIES  BYTES   CAPACITY µs/s  CPU   MEMORY  IO  DISK             ENDPOINT
            n1    READ_ONLY  1s ago      2       12       4.5 MB  4000000        25 %  -       -   34 GB of 1.0 TB  127.0.0.1:7101
            n2    SILENT     1m 30s ago  0       0        0 B     -              -     -       -   -                -
        "#]]
        .assert_eq(&listed(&nodes, &map, [Millis(100_000), Millis(60_000)], Form::Table));
        let lines = listed(&nodes, &map, [Millis(100_000), Millis(60_000)], Form::Jsonl);
        let second: Value = serde_json::from_str(lines.lines().nth(1).unwrap()).unwrap();
        assert_eq!((&second["ranges"], &second["cpu_load"]), (&json!(0), &Value::Null));
    }
}
