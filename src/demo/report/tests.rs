use expect_test::expect;

use super::*;

fn report() -> Report {
    let n = |name: &str| NodeId(name.into());
    let nodes = [(n("n1"), 1_000), (n("n2"), 2_000)].into();
    let loads = [[(n("n1"), 900), (n("n2"), 1_000)].into(), [(n("n1"), 300)].into()];
    let bytes = [(n("n1"), 5_000_000)].into();
    Report {
        broker: "embedded".into(),
        mode: "auto".into(),
        seed: Some(7),
        queries: Queries { sent: 181_202, answered: 181_202, failed: 0, repeated: 3, vanished: 0 },
        updates: Updates { sent: 18_020, failed: 0 },
        migrations: Migrations { complete: 41, failed: 0, bytes: 412_000_000 },
        splits: 19,
        joins: 6,
        ranges: 45,
        latency_ms: Latency { p50: 1.1, p99: 7.3, p999: 21.0, max: 40.4 },
        overload_node_seconds: Overload { measured: 3.1, settled: Some(0.25) },
        nodes: Report::of_nodes(&nodes, &bytes, &loads, 1_000),
        lead: Leads::of(&[
            Lead::Ticks(9),
            Lead::Ticks(0),
            Lead::NoOnset,
            Lead::Ticks(12),
            Lead::Unknown,
        ]),
        delay_ms: Delays { commit: Some(160), copy: Some(210), cut_over: None, whole: Some(1_300) },
        reaction: Some(Reaction { split: Some(1), active: Some(3.52), ..Reaction::default() }),
        forecast: Forecast {
            rung: "ewma".into(),
            skill: Some(-0.04),
            coverage80: Some(0.786),
            lead_s: Some(2.0),
            moves_by_rung: [("ewma".into(), 30), ("drift".into(), 11)].into(),
        },
        verify: Verify { entries: 100_000, ..Verify::default() },
        moves: [moved("by hand"), moved("heat"), moved("heat")].into(),
        ..Report::default()
    }
}

fn moved(reason: &str) -> Move {
    Move {
        migration: "m-7".into(),
        range_start: String::new(),
        range_end: "0x80".into(),
        source: NodeId("n1".into()),
        destination: NodeId("n2".into()),
        reason: reason.into(),
        outcome: "complete".into(),
        bytes: 7,
        tick: 3,
        active_after_ms: Some(1_300),
        lead_ticks: Some(9),
    }
}

#[test]
fn end_of_a_run_is_told() {
    expect![[r#"
        n1                   load ÷ capacity .60 on average, .90 at most; overload 0.1 node-s; 5.0 MB
        n2                   load ÷ capacity .25 on average, .50 at most; overload 0.0 node-s; 0 B
        overload area        3.1 node-seconds        (to compare: isotherm demo --mode observe)
                             0.2 of them from tick 60 on
        latency              p50 1.1  p99 7.3  p99.9 21.0  max 40 ms
        queries              181,202 answered, 3 of them asked again, 0 failed; 18,020 updates
        moves                41 complete, 0 failed, 412 MB
                             reasons: 2 heat, 1 by hand; of each move in the file of --report
                             lead: median 9 ticks: 2 in time, 1 late, 1 false, 1 open
        decision to effect   1300 ms in the median: commit 160 ms, copy 210 ms, cut-over –
        reaction             split after 1, START never, ACTIVE after 3.5 ticks, from the first whole tick of the crowd on
        splits, joins        19, 6; 45 ranges; unsplittable 0.0 % of the load
        forecast             ewma, skill -.04; 79 % of what came lay in the 80 % interval
                             moves were decided: 11 by drift, 30 by ewma
        verify               100,000 entries: 0 missing, 0 extra, 0 stale, 0 foreign; 0 gaps, 0 overlaps
    "#]].assert_eq(&report().told("isotherm demo --mode observe"));
    let lost = Report { updates: Updates { sent: 8, failed: 1_002 }, ..report() }.told("");
    assert!(lost.contains("0 failed; 8 updates, 1,002 failed\n"), "{lost}");
    let queries = Queries { vanished: 2, ..report().queries };
    let gone = Report { queries, ..report() }.told("");
    let text =
        "answered, 2 of them of a row that was there before and is not, 3 of them asked again";
    assert!(gone.contains(text), "{gone}");
}

#[test]
fn run_is_good_if_nothing_failed_and_nothing_differs() {
    assert!(report().is_good());
    let check = |change: fn(&mut Report), expected: bool| {
        let mut report = report();
        change(&mut report);
        assert_eq!(report.is_good(), expected, "{report:?}");
    };
    check(|it| it.queries.failed = 1, false);
    check(|it| it.migrations.failed = 1, false);
    check(|it| it.queries.vanished = 1, false);
    check(|it| it.updates.failed = 1, false);
    // Who is asked too much may fail queries where nothing is moved, and nothing else.
    check(|it| (it.queries.failed, it.mode) = (1, "observe".into()), true);
    check(|it| (it.queries.vanished, it.mode) = (1, "observe".into()), false);
    check(|it| (it.updates.failed, it.mode) = (1, "observe".into()), false);
    check(|it| (it.migrations.failed, it.mode) = (1, "observe".into()), false);
    // A move that is under way at the end is neither complete nor failed: what differs, the comparison tells.
    check(|it| it.moves[0].outcome = "open".into(), true);
}

#[test]
fn run_in_which_nothing_was_asked_is_not_good_and_says_so() {
    for mode in ["auto", "observe"] {
        let (queries, updates) = (Queries::default(), Updates::default());
        let idle = Report { mode: mode.into(), queries, updates, ..report() };
        assert!(!idle.is_good());
        let told = idle.told("");
        assert!(
            told.ends_with("\nnot good             nothing was asked of the index\n"),
            "{told}"
        );
        let updates = Updates { sent: 1, failed: 0 };
        assert!(Report { updates, ..idle }.is_good());
    }
}

#[test]
fn what_is_not_good_is_told_at_the_end() {
    let bad = Report {
        queries: Queries { failed: 1_200, vanished: 2, ..report().queries },
        migrations: Migrations { failed: 1, ..report().migrations },
        verify: Verify { stale: 3, ..Verify::default() },
        moves: vec![Move { outcome: "open".into(), ..moved("heat") }],
        ..report()
    };
    let told = bad.told("");
    let last = "not good             1,200 queries failed; 2 answers did not have a row that was there before; \
                1 moves failed; the index differs from the table\n";
    assert!(told.ends_with(last), "{told}");
    assert!(told.contains("41 complete, 1 failed, 1 open at the end, 412 MB\n"), "{told}");
    assert!(!report().told("").contains("not good"));
}

#[test]
fn json_has_the_keys_that_programs_read() {
    let json = serde_json::to_value(report()).unwrap();
    for key in [
        "/broker",
        "/mode",
        "/seed",
        "/duration_s",
        "/ticks",
        "/queries/sent",
        "/queries/answered",
        "/queries/failed",
        "/updates/sent",
        "/plans",
        "/migrations/complete",
        "/migrations/failed",
        "/migrations/bytes",
        "/splits",
        "/latency_ms/p50",
        "/latency_ms/p99",
        "/latency_ms/p999",
        "/overload_node_seconds/measured",
        "/unsplittable_share",
        "/forecast/rung",
        "/forecast/skill",
        "/forecast/coverage80",
        "/forecast/lead_s",
        "/verify/entries",
        "/verify/missing",
        "/verify/extra",
        "/verify/stale",
        "/verify/foreign",
        "/verify/gaps",
        "/verify/overlaps",
    ] {
        assert!(json.pointer(key).is_some_and(|it| !it.is_null()), "{key} in {json}");
    }
    assert_eq!(serde_json::from_value::<Report>(json).unwrap(), report());
}

#[test]
fn node_is_overloaded_above_four_fifths() {
    let [one, two] = &report().nodes[..] else { panic!("there are two nodes") };
    assert_eq!((one.load_mean, one.load_max, one.bytes), (0.6, 0.9, 5_000_000));
    assert!((one.overload_node_seconds - 0.1).abs() < 1e-9, "{one:?}");
    assert_eq!((two.load_mean, two.load_max, two.overload_node_seconds), (0.25, 0.5, 0.0));
}
