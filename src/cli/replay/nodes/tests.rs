use schemas::node_capacity::{NodeState, RangeHeld};
use schemas::wire::encode;
use schemas::{Epoch, Inbox, Key};

use super::*;
use crate::kafka::TopicPartition;

const TICK_MS: u64 = 1_000;

fn report(node: &str, capacity_us_per_s: Option<f64>) -> NodeCapacity {
    NodeCapacity {
        node_id: NodeId(node.into()),
        store_id: format!("store of {node}"),
        cpu_load: None,
        memory_load: None,
        io_load: None,
        capacity_us_per_s,
        memory_bytes_total: None,
        memory_bytes_used: None,
        disk_bytes_total: None,
        disk_bytes_used: None,
        endpoint: None,
        inbox: Inbox(0),
        state: NodeState::Up,
        ranges: Vec::new(),
    }
}

fn record(stamp_ms: u64, value: Option<Vec<u8>>) -> Record {
    let at = TopicPartition { topic: NodeCapacity::TOPIC, partition: 0 };
    let (offset, key, headers) = (0, None, Vec::new());
    Record { at, offset, stamp: Millis(stamp_ms), key, value, headers }
}

/// What is found, of a span from 100 s to 200 s.
fn reports(told: &[(u64, NodeCapacity)]) -> Reports {
    let mut reports = Reports::new(12, TICK_MS, Millis(100_000), Some(Millis(200_000)));
    told.iter().for_each(|(ms, it)| reports.take(&record(*ms, Some(encode(it)))));
    reports
}

fn check(told: &[(u64, NodeCapacity)], expected: &[(&str, u64)]) {
    let found = reports(told).into_nodes().unwrap();
    let found = found.map(|it| it.capacities).unwrap_or_default();
    let found: Vec<_> = found.iter().map(|(node, it)| (node.0.as_str(), *it)).collect();
    assert_eq!(found, expected);
}

#[test]
fn nodes_are_as_they_were_when_the_span_began_or_came_in_it() {
    let at = |ms, node, capacity| (ms, report(node, Some(capacity)));
    check(&[], &[]);
    check(&[at(5, "a", 7.0), at(90_000, "a", 8.0), at(110_000, "a", 9.0)], &[("a", 8)]);
    check(&[at(110_000, "a", 7.0), at(120_000, "a", 8.0)], &[("a", 7)]);
    check(&[at(200_000, "a", 7.0)], &[]);
    check(&[at(5, "a", 7.0), at(150_000, "b", 8.0), at(210_000, "c", 9.0)], &[("a", 7), ("b", 8)]);
}

#[test]
fn node_without_a_capacity_is_left_out_and_none_is_invented() {
    let told = [(5, report("a", Some(7.0))), (5, report("b", None))];
    check(&told, &[("a", 7)]);
    let fault = reports(&told[1..]).into_nodes().unwrap_err();
    assert_eq!(fault.code, "isotherm::replay::capacity");
    assert!(fault.what.ends_with(": b"), "{fault}");
}

#[test]
fn report_that_does_not_hold_water_changes_nothing_and_is_counted() {
    let mut second = report("a", Some(9.0));
    second.store_id = "another".into();
    let mut reports = reports(&[
        (5, report("a", Some(7.0))),
        (5, report("a", Some(f64::NAN))),
        (6, report("a", Some(-1.0))),
        (7, second),
    ]);
    reports.take(&record(8, Some(b"no report".to_vec())));
    reports.take(&record(9, None));
    let refused: Vec<_> = reports.refused.iter().map(|(code, it)| (*code, it.0)).collect();
    let expected = [("capacity_not_a_capacity", 2), ("duplicate_node_id", 1), ("undecodable", 1)];
    assert_eq!(refused, expected);
    let nodes = reports.into_nodes().unwrap().unwrap();
    assert_eq!(nodes.capacities, [(NodeId("a".into()), 7)].into());
    assert_eq!((nodes.from, nodes.bytes), (NodesFrom::NodeCapacity, None));
}

#[test]
fn bytes_are_what_all_nodes_hold() {
    let held = |node: &str, bytes| {
        let range = RangeHeld { range_start: Key(vec![1]), epoch: Epoch(1), entries: 1, bytes };
        NodeCapacity { ranges: vec![range], ..report(node, Some(7.0)) }
    };
    let found = reports(&[(5, held("a", 20)), (6, held("a", 30)), (6, held("b", 40))]);
    assert_eq!(found.into_nodes().unwrap().unwrap().bytes, Some(70));
}
