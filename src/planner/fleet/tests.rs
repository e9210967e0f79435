use super::*;

const SILENT_TICKS: Tick = 12;

fn id(n: u32) -> NodeId {
    NodeId(format!("n{n}"))
}

fn report(n: u32) -> NodeCapacity {
    NodeCapacity {
        node_id: id(n),
        store_id: format!("s{n}"),
        cpu_load: Some(0.2),
        memory_load: Some(0.3),
        io_load: None,
        capacity_us_per_s: Some(1_000_000.0),
        memory_bytes_total: None,
        memory_bytes_used: None,
        disk_bytes_total: Some(1_000),
        disk_bytes_used: Some(400),
        endpoint: Some(format!("n{n}:7000")),
        inbox: Inbox(n),
        state: NodeState::Up,
        ranges: Vec::new(),
    }
}

fn node(fleet: &Fleet, tick: Tick, n: u32) -> Option<Node> {
    fleet.nodes(tick, &BTreeMap::new(), &BTreeMap::new()).remove(&id(n))
}

fn warnings(fleet: &Fleet, tick: Tick) -> Vec<String> {
    fleet.warnings(tick).iter().map(ToString::to_string).collect()
}

#[test]
fn report_that_does_not_hold_water_leaves_the_last_good_one() {
    let mut fleet = Fleet::new(SILENT_TICKS);
    fleet.report(1, &report(1)).unwrap();
    let before = fleet.members.clone();
    let mut check = |change: &dyn Fn(&mut NodeCapacity), code: &str| {
        let mut bad = NodeCapacity { inbox: Inbox(77), ..report(1) };
        change(&mut bad);
        assert_eq!(fleet.report(2, &bad).unwrap_err().code(), code);
        assert_eq!(fleet.members, before, "{code}");
    };
    for value in [f64::NAN, -0.1, 1.01, f64::INFINITY, f64::NEG_INFINITY] {
        check(&|it| it.cpu_load = Some(value), "capacity_not_a_share");
        check(&|it| it.io_load = Some(value), "capacity_not_a_share");
        check(&|it| it.memory_load = Some(value), "capacity_not_a_share");
    }
    for value in [f64::NAN, -1.0, 0.0, 0.3, 2e12, f64::INFINITY] {
        check(&|it| it.capacity_us_per_s = Some(value), "capacity_not_a_capacity");
    }
    check(&|it| it.disk_bytes_used = Some(1_001), "capacity_used_beyond_total");
    check(&|it| it.store_id.clear(), "capacity_nameless");
    assert_eq!(fleet.refused()["capacity_not_a_share"], 15);
    assert_eq!(fleet.refused()["capacity_not_a_capacity"], 6);
    let nameless = NodeCapacity { node_id: NodeId(String::new()), ..report(1) };
    assert_eq!(fleet.report(2, &nameless), Err(Refused::Nameless));
}

#[test]
fn refusal_names_the_node_the_number_and_the_remedy() {
    let mut fleet = Fleet::new(SILENT_TICKS);
    let bad = NodeCapacity { capacity_us_per_s: Some(-5.0), ..report(1) };
    assert_eq!(
        fleet.report(1, &bad).unwrap_err().to_string(),
        "n1: capacity_us_per_s is -5; state what it can do, above 0 and at most 1e12"
    );
}

#[test]
fn second_store_is_ignored_while_the_first_reports() {
    let mut fleet = Fleet::new(SILENT_TICKS);
    fleet.report(10, &report(1)).unwrap();
    fleet.report(12, &report(1)).unwrap();
    let other = NodeCapacity { store_id: "other".into(), ..report(1) };
    let refused = fleet.report(18, &other).unwrap_err();
    assert_eq!(refused.code(), "duplicate_node_id");
    assert_eq!(
        refused.to_string(),
        "n1: store other reports while store s1 does, at n1:7000: give one of the two another node id"
    );
    assert_eq!(fleet.refused()["duplicate_node_id"], 1);
    assert_eq!(
        fleet.member(&id(1)).unwrap().reported,
        12,
        "the second does not speak for the first"
    );
    assert_eq!(
        fleet.report(19, &other),
        Ok(Reported::StoreReplaced),
        "three intervals of 2 are over"
    );
    assert_eq!(fleet.report(20, &report(1)).unwrap_err().code(), "duplicate_node_id");
}

#[test]
fn interval_is_measured_but_not_across_an_interruption() {
    let mut fleet = Fleet::new(SILENT_TICKS);
    for tick in [0, 2, 4, 100, 100] {
        fleet.report(tick, &report(1)).unwrap();
    }
    assert_eq!(fleet.member(&id(1)).unwrap().interval, Some(2));
    let mut fresh = Fleet::new(SILENT_TICKS);
    fresh.report(0, &report(1)).unwrap();
    let other = NodeCapacity { store_id: "other".into(), ..report(1) };
    assert!(fresh.report(SILENT_TICKS, &other).is_err(), "no interval is known yet");
    assert_eq!(fresh.report(SILENT_TICKS + 1, &other), Ok(Reported::StoreReplaced));
}

#[test]
fn capacity_is_as_stated_until_the_node_is_busy() {
    let mut fleet = Fleet::new(SILENT_TICKS);
    let capacity_after = |fleet: &mut Fleet, tick, cpu, io, load: u64| {
        let busy = NodeCapacity { cpu_load: Some(cpu), io_load: Some(io), ..report(1) };
        fleet.report(tick, &busy).unwrap();
        fleet.close(tick, &BTreeMap::from([(id(1), load)]));
        node(fleet, tick, 1).unwrap().capacity_us_per_s
    };
    assert_eq!(
        capacity_after(&mut fleet, 1, 0.5, 0.1, 100_000),
        1_000_000,
        "one half is not above"
    );
    assert_eq!(capacity_after(&mut fleet, 2, 0.8, 0.1, 480_000), 950_000, "an eighth of the way");
    assert_eq!(capacity_after(&mut fleet, 3, 0.1, 0.8, 480_000), 906_250, "the greater of the two");
    let quiet = fleet.clone();
    fleet.close(4, &BTreeMap::new());
    assert_eq!(fleet, quiet, "without a report there is nothing to hold the load against");
    for tick in 4..400 {
        capacity_after(&mut fleet, tick, 0.8, 0.1, 480_000);
    }
    assert_eq!(node(&fleet, 399, 1).unwrap().capacity_us_per_s, 600_000, "load ÷ share");
    for tick in 400..800 {
        capacity_after(&mut fleet, tick, 0.2, 0.1, 100_000);
    }
    assert_eq!(node(&fleet, 799, 1).unwrap().capacity_us_per_s, 1_000_000, "back as stated");
    for tick in 800..1_200 {
        capacity_after(&mut fleet, tick, 1.0, 1.0, 0);
    }
    assert_eq!(node(&fleet, 1_199, 1).unwrap().capacity_us_per_s, 1, "never zero");
}

#[test]
fn node_without_capacity_is_not_managed_and_says_so() {
    let mut fleet = Fleet::new(SILENT_TICKS);
    let unknown = NodeCapacity { capacity_us_per_s: None, ..report(1) };
    fleet.report(1, &unknown).unwrap();
    fleet.close(1, &BTreeMap::from([(id(1), 900_000)]));
    assert_eq!(node(&fleet, 1, 1), None);
    assert_eq!(
        warnings(&fleet, 1),
        ["n1 is not managed: it reports no capacity_us_per_s; set it in its configuration"]
    );
    fleet.report(2, &report(1)).unwrap();
    assert_eq!(node(&fleet, 2, 1).unwrap().capacity_us_per_s, 1_000_000);
    assert_eq!(warnings(&fleet, 2), [""; 0]);
}

#[test]
fn only_an_up_node_that_reports_takes_ranges() {
    let mut fleet = Fleet::new(SILENT_TICKS);
    let states = [NodeState::Up, NodeState::Draining, NodeState::ReadOnly, NodeState::Unknown];
    for (n, state) in states.into_iter().enumerate() {
        fleet.report(5, &NodeCapacity { state, ..report(n as u32) }).unwrap();
    }
    let takes = |tick| [0, 1, 2, 3].map(|n| node(&fleet, tick, n).unwrap().takes);
    assert_eq!(takes(5), [true, false, false, false]);
    assert_eq!(takes(4 + SILENT_TICKS), [true, false, false, false]);
    assert_eq!(takes(5 + SILENT_TICKS), [false; 4]);
    let mut patient = fleet.clone();
    patient.limit(SILENT_TICKS + 1);
    assert!(node(&patient, 5 + SILENT_TICKS, 0).unwrap().takes);
    assert_eq!(
        warnings(&fleet, 5 + SILENT_TICKS)[0],
        "n0 is given nothing: it has not reported for 12 ticks"
    );
}

#[test]
fn two_nodes_that_share_an_inbox_are_named() {
    let mut fleet = Fleet::new(SILENT_TICKS);
    for n in [1, 2, 3] {
        fleet.report(1, &NodeCapacity { inbox: Inbox(n % 2), ..report(n) }).unwrap();
    }
    assert_eq!(
        warnings(&fleet, 1),
        [
            "n1 and n3 share inbox 1: each reads what is for the other, and skips it; configure another inbox"
        ]
    );
}

#[test]
fn sizes_are_those_of_the_last_report_by_start_and_epoch() {
    let mut fleet = Fleet::new(SILENT_TICKS);
    let held = |start: &str, epoch, bytes| RangeHeld {
        range_start: Key(start.into()),
        epoch: Epoch(epoch),
        entries: 2,
        bytes,
    };
    fleet
        .report(1, &NodeCapacity { ranges: vec![held("a", 3, 70), held("m", 1, 9)], ..report(1) })
        .unwrap();
    let size = |fleet: &Fleet, start: &str, epoch| {
        fleet.size(&id(1), &Key(start.into()), Epoch(epoch)).map(|it| it.bytes)
    };
    assert_eq!(
        [size(&fleet, "a", 3), size(&fleet, "a", 4), size(&fleet, "m", 1)],
        [Some(70), None, Some(9)]
    );
    fleet.report(2, &NodeCapacity { ranges: vec![held("a", 4, 71)], ..report(1) }).unwrap();
    assert_eq!(
        [size(&fleet, "a", 3), size(&fleet, "a", 4), size(&fleet, "m", 1)],
        [None, Some(71), None]
    );
    assert_eq!(node(&fleet, 2, 1).unwrap().bytes_free, Some(600));
}

#[test]
fn snapshot_brings_back_the_fleet() {
    let mut fleet = Fleet::new(SILENT_TICKS);
    fleet.report(1, &NodeCapacity { cpu_load: Some(0.7), ..report(1) }).unwrap();
    fleet.close(1, &BTreeMap::from([(id(1), 500_000)]));
    let bytes = postcard::to_stdvec(&fleet).unwrap();
    assert_eq!(postcard::from_bytes::<Fleet>(&bytes).unwrap(), fleet);
}
