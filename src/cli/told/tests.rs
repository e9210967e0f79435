use expect_test::expect;
use schemas::plan::HeatCited;
use schemas::{Key, MigrationId, NodeId};

use super::*;

fn key(text: &str) -> Key {
    Key(text.into())
}

fn node(text: &str) -> NodeId {
    NodeId(text.into())
}

fn rejected(span: [&str; 2], destination: Option<&str>, reason: &str, n: [i64; 2]) -> Rejected {
    Rejected {
        range_start: key(span[0]),
        range_end: key(span[1]),
        source: node("n2"),
        destination: destination.map(node),
        reason: reason.into(),
        value: n[0],
        limit: n[1],
    }
}

pub fn plan() -> Planned {
    let pressed = NodePressed {
        node: node("n2"),
        capacity_us_per_s: 1_000_000,
        load_now: 710_000,
        mean30_q50: 812_000,
        mean30_q90: 930_000,
        max30_q95: 1_040_000,
        area_ms: 3_310,
        ticks_until: Some(22),
    };
    let chosen = MoveChosen {
        migration: Some(MigrationId(31)),
        range_start: key("k 0.228"),
        range_end: key("k 0.237"),
        source: node("n2"),
        destination: node("n4"),
        bytes: 9_340_000,
        share_ppm: 31_400,
        benefit_ms: 2_940,
        cost_ms: 410,
        source_before: 930,
        source_after: 790,
        destination_before: 580,
        destination_after: 660,
        reason: "heat".into(),
    };
    let cited = |start: &str, tick| HeatCited {
        range_start: key(start),
        tick,
        reads: Default::default(),
        writes: Default::default(),
    };
    Planned {
        plan: "p-212".into(),
        tick: 41,
        tick_start_ms: 1_790_000_585_000,
        tick_ms: 1_000,
        mode: "auto".into(),
        inputs_digest: "77ab01234567".into(),
        policy_digest: "1a2b01234567".into(),
        digest: "5f1c01234567".into(),
        why: vec![pressed],
        moves: vec![chosen],
        splits: vec![SplitChosen {
            range_start: key("k 0.250"),
            range_end: Key(vec![0xff]),
            node: node("n2"),
            at: vec![key("k 0.3"), key("k 0.4")],
            reason: "ahead_of_need".into(),
        }],
        joins: vec![JoinChosen {
            range_start: Key::default(),
            range_end: key("b"),
            node: node("n1"),
            at: vec![key("a")],
            reason: "cold".into(),
        }],
        rejected: vec![
            rejected(["k 0.219", "k 0.228"], Some("n4"), "cooling_down", [6, 0]),
            rejected(["k 0.228", "k 0.237"], Some("n1"), "destination_too_warm", [880, 800]),
            rejected(["k 0.237", "k 0.250"], None, "unsplittable", [710_000, 500_000]),
            rejected(["k 0.8", ""], Some("n3"), "peak_rises", [1_040, 990]),
            rejected(["k 0.8", ""], Some("n4"), "not_worth_it", [80, 510]),
            rejected(["k 0.8", ""], Some("n1"), "of_next_year", [-1, 2]),
        ],
        rests_on: vec![cited("k 0.219", 41), cited("k 0.228", 41), cited("k 0.8", 40)],
        unsplittable_ppm: 12_345,
        rung: "linear".into(),
        skill_permille: Some(312),
        coverage80_permille: Some(786),
        commands: Vec::new(),
        rebuilds: Vec::new(),
    }
}

/// One that does nothing.
fn bare() -> Planned {
    Planned {
        why: Vec::new(),
        moves: Vec::new(),
        splits: Vec::new(),
        joins: Vec::new(),
        rejected: Vec::new(),
        rests_on: Vec::new(),
        unsplittable_ppm: 0,
        skill_permille: None,
        coverage80_permille: None,
        tick_start_ms: 1_790_035_195_000,
        tick_ms: 5_000,
        ..plan()
    }
}

#[test]
fn phrase_is_the_warmest_node_or_what_was_chosen() {
    let mut plan = plan();
    expect!["n2 is too warm in 22 ticks"].assert_eq(&phrase(&plan));
    plan.why.push(plan.why[0].clone());
    expect!["n2 is too warm in 22 ticks, and 1 more"].assert_eq(&phrase(&plan));
    plan.why.clear();
    expect!["heat"].assert_eq(&phrase(&plan));
    plan.moves.clear();
    expect!["ahead of need"].assert_eq(&phrase(&plan));
    plan.splits.clear();
    plan.joins.clear();
    expect!["-"].assert_eq(&phrase(&plan));
}

#[test]
fn plan_is_told_with_its_numbers() {
    expect![[r#"
        plan p-212 · tick 41 (2026-09-21 14:23:05 to 14:23:06 UTC) · auto · digest 5f1c0123…
        why       n2 is too warm in 22 ticks: mean-30 .93 at the .9 quantile (.81 median), max-30 1.04 at .95; now .71; 3.3 node-s to be avoided
        chosen    move [k 0.228, k 0.237) n2 → n4   benefit 2.9 node-s   cost 0.4 node-s (9.3 MB, 3.1 % of the load)   heat   m-31
                    n2 .93 → .79, n4 .58 → .66 (mean-30 at .9)
                  split [k 0.250, 0xff) on n2 at k 0.3, k 0.4   ahead of need
                  join [-, b) on n1 over a   cold
        rejected  [k 0.219, k 0.228) n2 → n4   cooling down, 6 ticks left
                  [k 0.228, k 0.237) n2 → n1   would raise n1 to .88 (mean-30 at .9), above .80
                  [k 0.237, k 0.250) on n2     one key or a sweep has 71.0 % of it: no split can help
                  [k 0.8, -) n2 → n3           would raise the peak from .99 to 1.04 (max-30 at .95)
                  [k 0.8, -) n2 → n4           avoids 0.1 node-s, and 0.5 node-s are needed
                  [k 0.8, -) n2 → n1           of next year (-1 against 2)
        note      no split can help 1.2 % of the load
        rests on  heatmap of ticks 40 to 41, 3 ranges; inputs 77ab0123…; policy 1a2b0123…
                  forecast linear, skill .31 against persistence, 79 % of what came lay in the 80 % interval
    "#]].assert_eq(&told(&plan(), KeyFormat::Auto));
    expect!["p-212  2026-09-21 14:23:05  auto  1 moves (9.3 MB), 1 splits, 1 joins  benefit 2.9 node-s  digest 5f1c0123…"].assert_eq(&summary(&plan()));
}

#[test]
fn plan_that_does_nothing_says_so() {
    let plan = bare();
    expect![[r#"
        plan p-212 · tick 41 (2026-09-21 23:59:55 to 2026-09-22 00:00:00 UTC) · auto · digest 5f1c0123…
        chosen    nothing
        rests on  no heatmap, 0 ranges; inputs 77ab0123…; policy 1a2b0123…
                  forecast linear, of which too little has come to score it
    "#]].assert_eq(&told(&plan, KeyFormat::Hex));
}

#[test]
fn rebuild_is_told_from_its_request_to_the_last_range() {
    let answer = CommandAnswered {
        command: "rebuild-channel-3-1790000585000".into(),
        verb: "REBUILD".into(),
        actor: "channel channel".into(),
        reason: "partition 3 of the table was not read to its end for 9 d".into(),
        migration: None,
        refused: None,
        detail: "8 ranges are to be built again from the table, 2 of a node at once".into(),
    };
    let begun = RebuildChosen {
        migration: MigrationId(32),
        range_start: key("b"),
        range_end: Key::default(),
        node: node("n1"),
    };
    let mut plan = Planned { rebuilds: vec![begun], commands: vec![answer], ..bare() };
    expect![[r#"
        plan p-212 · tick 41 (2026-09-21 23:59:55 to 2026-09-22 00:00:00 UTC) · auto · digest 5f1c0123…
        asked     REBUILD rebuild-channel-3-1790000585000 by "channel channel", because "partition 3 of the table was not read to its end for 9 d": 8 ranges are to be built again from the table, 2 of a node at once
        chosen    build [b, -) on n1 again, from the table   m-32
        rests on  no heatmap, 0 ranges; inputs 77ab0123…; policy 1a2b0123…
                  forecast linear, of which too little has come to score it
    "#]].assert_eq(&told(&plan, KeyFormat::Auto));
    expect!["p-212  2026-09-21 23:59:55  auto  0 moves (0 B), 0 splits, 0 joins, 1 rebuilds  benefit 0.0 node-s  digest 5f1c0123…"].assert_eq(&summary(&plan));
    assert_eq!(phrase(&plan), "REBUILD");
    plan.commands.clear();
    assert_eq!(phrase(&plan), "a rebuild that was asked for goes on");
}

#[test]
fn every_known_reason_is_told_in_words() {
    // As `dataflows::balance` names them.
    let codes = [
        "pinned",
        "in_flight",
        "forecast_not_own",
        "cooling_down",
        "too_large",
        "no_destination",
        "half_gap",
        "destination_too_warm",
        "peak_rises",
        "not_worth_it",
        "no_room",
        "budget_moves",
        "budget_moves_node",
        "budget_bytes",
        "budget_churn",
        "ranges_max",
        "one_cell",
        "unsplittable",
    ];
    for code in codes {
        let told = reason(&rejected(["a", "b"], Some("n1"), code, [12_000, 8_000]));
        assert!(!told.contains('_') && !told.contains(" against "), "{code}: {told}");
    }
}

#[test]
fn numbers_are_told_in_their_units() {
    assert_eq!(
        [930, 1_040, 4, 5, 0, 2_000].map(ratio),
        [".93", "1.04", ".00", ".01", ".00", "2.00"]
    );
    assert_eq!(
        [0, 999, 1_000, 9_340_000, 93_400_000, 2_500_000_000].map(bytes_told),
        ["0 B", "999 B", "1.0 kB", "9.3 MB", "93 MB", "2.5 GB"]
    );
    assert_eq!([0, 31_400, 1_000_000].map(percent), ["0.0 %", "3.1 %", "100.0 %"]);
    assert_eq!(moment(u64::MAX), format!("{} ms", u64::MAX));
}
