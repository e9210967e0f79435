use dataflows::balance::Likely;
use dataflows::forecast::{Forecast, H30, MEAN30};
use dataflows::tally::Costs;
use expect_test::expect;
use schemas::assignment::{Assignment, Source};
use schemas::heatmap::{LEVELS, OpHeat};
use schemas::plan::{MoveChosen, NodePressed};
use schemas::query_log::{Op, QueryLogged};
use schemas::{Epoch, Generation, Inbox, MigrationId};

use super::*;
use crate::replay::history::{Recount, TickTold};
use crate::replay::key;

fn node(name: &str) -> NodeId {
    NodeId(name.into())
}

fn owned(start: Key, end: Key, name: &str) -> (Key, Assignment) {
    let it = Assignment {
        range_start: start.clone(),
        range_end: end,
        node: node(name),
        inbox: Inbox(0),
        epoch: Epoch(1),
        generation: Generation(1),
        last: true,
        migration: None,
        source: Source::None,
        source_node: None,
        source_epoch: Epoch(0),
    };
    (start, it)
}

fn heat(start: Key, end: Key, name: &str, median: u64, high: u64) -> (Key, RangeHeated) {
    let told = |target| match target {
        H30 | MEAN30 => [0, 0, 0, median, median, high, high, high],
        _ => [0; LEVELS.len()],
    };
    let forecast = (&Forecast(std::array::from_fn(told))).into();
    let it = RangeHeated {
        range_start: start.clone(),
        range_end: end,
        node: node(name),
        tick: 41,
        reads: OpHeat { now: Vec::new(), forecast },
        writes: OpHeat { now: Vec::new(), forecast: (&Forecast::default()).into() },
        share_ppm: 0,
        unsplittable_ppm: 0,
        rung: "ewma".into(),
        skill_permille: None,
        coverage80_permille: None,
    };
    (start, it)
}

fn moved(end: Option<(Millis, Status)>) -> Moved {
    let chosen = MoveChosen {
        migration: None,
        range_start: key(10),
        range_end: key(20),
        source: node("n1"),
        destination: node("n2"),
        bytes: 2_000_000,
        share_ppm: 1,
        benefit_ms: 2,
        cost_ms: 1,
        source_before: 930,
        source_after: 790,
        destination_before: 580,
        destination_after: 660,
        reason: "heat".into(),
    };
    let why = NodePressed {
        node: node("n1"),
        capacity_us_per_s: 1_000,
        load_now: 710,
        mean30_q50: 810,
        mean30_q90: 930,
        max30_q95: 990,
        area_ms: 100,
        ticks_until: Some(22),
    };
    Moved {
        span: KeySpan { start: key(10), end: key(20) },
        source: node("n1"),
        destination: node("n2"),
        tick: 41,
        due: Millis(42_000),
        begun: Millis(42_150),
        copying: Some(Millis(42_300)),
        ready: end.map(|_| Millis(42_900)),
        active: end.map(|_| Millis(44_100)),
        ended: end,
        bytes: 1_200_000,
        bytes_planned: 2_000_000,
        chosen: Some(chosen),
        why: Some(why),
    }
}

fn course() -> Course {
    let nodes: BTreeMap<_, _> = [(node("n1"), 1_000), (node("n2"), 2_000)].into();
    let costs = Costs { read_us: 1, scan_us: 1, write_us: 1 };
    let grid = [25, 50, 75].map(key).to_vec();
    let mut recount = Recount::new(grid, nodes.clone(), &[], costs, 1_000);
    for (index, cost_us) in [(10, 200), (30, 900), (60, 100)] {
        let (time, key, op, cost_us) = (Millis(0), key(index), Op::Read, Some(cost_us));
        let query = QueryLogged { time, key, op, cost_us, bytes: 0, estimated: false };
        recount.history.tally.add(41, &query);
    }
    recount.history.ticks.push(TickTold {
        loads: [(node("n1"), 1_100), (node("n2"), 100)].into(),
        overload_node_seconds: 0.3,
        ..TickTold::of(41)
    });
    let mut res = Course::new(recount, nodes, Likely::Median);
    res.owned = [owned(Key::default(), key(50), "n1"), owned(key(50), Key::default(), "n2")].into();
    res.heats = [
        heat(Key::default(), key(50), "n1", 400, 500),
        heat(key(50), Key::default(), "n2", 800, 1_000),
    ]
    .into();
    res.recount.history.forecast.rung = "linear".into();
    res.recount.history.forecast.skill = Some(0.312);
    res.bytes = [(node("n1"), 4_000_000), (node("n2"), 9_500_000)].into();
    let complete = moved(Some((Millis(44_800), Status::Complete)));
    res.moves = [(MigrationId(7), complete), (MigrationId(8), moved(None))].into();
    res
}

fn figures() -> Figures {
    Figures {
        title: "moving-hotspot · seed 7 · embedded broker · tick 1 s".into(),
        elapsed_s: 41,
        duration_s: 90,
        queries_per_s: 2_013.4,
        updates_per_s: 198.0,
        p50_ms: 1.12,
        p99_ms: 6.84,
        failed: 0,
        is_over: false,
        now: Millis(43_000),
    }
}

#[test]
fn view_shows_load_owners_nodes_and_moves() {
    let axis = KeyAxis::Integers(0, 100);
    let lines = lines(&course(), &axis, &figures());
    let text = |line: &Line| line.iter().map(|it| it.1.as_str()).collect::<String>();
    let told: String = lines.iter().map(|it| text(it).trim_end().to_owned() + "\n").collect();
    expect![[r#"
        isotherm demo · moving-hotspot · seed 7 · embedded broker · tick 1 s
        00:41 of 01:30    forecast: linear, skill .31
        queries 2,013/s  p50 1.1 ms  p99 6.8 ms  failed 0    updates 198/s

        heat now    ▂▂▂▂▂▂▂▂▂▂▂▂▂▂▂▂████████████████▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁
        in 30 ticks ▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄▄████████████████████████████████
        owner       1111111111111111111111111111111122222222222222222222222222222222

        node  load ÷ capacity                  now    30 ticks / .9  ranges    bytes
        n1    ████████████████████████████··  1.10        .40 / .50       1   4.0 MB
        n2    ██··················│·········   .05        .40 / .50       1   9.5 MB

        moving  m-8  [.1000, .2000)  n1 → n2  copying   ▓▓▓▓▓▓░░░░  60 %  1.2 MB  0.8 s
        last    m-7  n1 → n2 active after 2.1 s · 1.2 MB
                n1 too warm in 22 ticks: with it .93 → .79 (q.9)
        so far  1 move, 1.2 MB; 0 splits, 0 joins; 2 ranges; overload 0.3 node-s
    "#]]
    .assert_eq(&told);
    assert!(lines.len() <= 24 && lines.iter().all(|it| text(it).chars().count() <= 80));
    // The node with more to do than it can is hot; the one with less is not.
    let bars: Vec<Tone> = lines
        .iter()
        .filter(|it| it.len() == 3 && text(it).starts_with('n'))
        .map(|it| it[1].0)
        .collect();
    assert!(bars.ends_with(&[Tone::Hot, Tone::Cool]), "{bars:?}");
}

#[test]
fn summary_is_one_line() {
    expect!["00:41  queries 2,013/s  p50 1.1  p99 6.8 ms  failed 0  updates 198/s  load n1 1.10  n2 .05  moving 1  moved 1, 1.2 MB"].assert_eq(&summary(&course(), &figures()));
}

#[test]
fn behind_the_load_nothing_is_told_of_it() {
    let over = Figures { is_over: true, ..figures() };
    expect!["00:41  the load is over, and moves come to their end: moving 1"]
        .assert_eq(&summary(&course(), &over));
    let lines = lines(&course(), &KeyAxis::Integers(0, 100), &over);
    assert!(!lines.iter().flatten().any(|it| it.1.contains("queries")), "{lines:?}");
}

#[test]
fn what_lies_in_parts_of_columns_is_shared_out() {
    let mut columns = vec![0.0; 4];
    spread(&mut columns, 0.125, 0.625, 8.0);
    assert_eq!(columns, [2.0, 4.0, 2.0, 0.0]);
    spread(&mut columns, 0.9, 0.9, 5.0);
    spread(&mut columns, 0.75, 1.5, 1.0);
    assert_eq!(columns, [2.0, 4.0, 2.0, 1.0]);
}
