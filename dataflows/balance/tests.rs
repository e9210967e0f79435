//! Holds decisions to their promises: on small cases by name, and on random ones by what must hold.

use std::collections::BTreeMap;

use expect_test::{Expect, expect};
use rand::{Rng, SeedableRng};
use rand_pcg::Pcg64;
use schemas::{CellId, Epoch, Key, KeySpan, NodeId, RangeId};

use super::policy::Policy;
use super::{Budget, Cell, Decision, Likely, Node, Range, Situation, Wanted, decide_by_hand};
use crate::forecast::{
    Forecast, H1, H6, H30, MAX30, MEAN30, Q50, Q90, Q95, RangeForecast, TARGETS,
};
use crate::heat::{Heat, Rolling};

const MIB: u64 = 1 << 20;
const CAPACITY: u64 = 1_000_000;

fn key(at: usize) -> Key {
    if at == 0 { Key::default() } else { Key(format!("{at:04}").into_bytes()) }
}

fn node(name: &str) -> NodeId {
    NodeId(name.to_owned())
}

/// The same at all targets and levels.
fn flat(load: u64) -> RangeForecast {
    RangeForecast { reads: Forecast([[load; 8]; TARGETS]), writes: Forecast::default() }
}

/// A situation and the cells of its ranges.
#[derive(Clone, Debug)]
pub struct Case {
    pub situation: Situation,
    pub cells: BTreeMap<RangeId, Vec<Cell>>,
}

impl std::ops::Deref for Case {
    type Target = Situation;

    fn deref(&self) -> &Situation {
        &self.situation
    }
}

impl std::ops::DerefMut for Case {
    fn deref_mut(&mut self) -> &mut Situation {
        &mut self.situation
    }
}

pub fn decide(case: &Case) -> Decision {
    decide_after(case, &[])
}

fn decide_after(case: &Case, wanted: &[Wanted]) -> Decision {
    super::decide_after(&case.situation, wanted, &|range| case.cells[&range.id].clone())
}

/// Ranges in key order as (node, load, loads of cells in parts of it); a cell has a MiB.
fn situation(ranges: &[(&str, u64, &[i64])]) -> Case {
    let mut next = 0;
    let mut all_cells = BTreeMap::new();
    let mut built = Vec::new();
    for (id, (owner, load, cells)) in ranges.iter().enumerate() {
        let start = next;
        let sum: i64 = cells.iter().sum::<i64>().max(1);
        let cells = cells.iter().map(|part| {
            let read_us = 5 * *load as i64 * part / sum;
            next += 1;
            Cell {
                id: CellId(next as u64),
                start: key(next - 1),
                heat: Rolling::of(Heat { read_us, ..Heat::default() }),
                bytes: MIB,
                unsplittable_ppm: 0,
            }
        });
        let cells = cells.collect::<Vec<_>>();
        built.push(Range {
            id: RangeId(id as u64),
            span: KeySpan { start: key(start), end: key(next) },
            epoch: Epoch(1),
            node: node(owner),
            settled: true,
            cool_until: 0,
            join_after: 0,
            pinned: false,
            bytes: cells.len() as u64 * MIB,
            forecast: flat(*load),
            own_forecast: true,
        });
        all_cells.insert(RangeId(id as u64), cells);
    }
    built.last_mut().unwrap().span.end = Key::default();
    let one = Node {
        capacity_us_per_s: CAPACITY,
        takes: true,
        bytes_free: None,
        load_now: 0,
        moves_in_flight: 0,
    };
    let names = ranges.iter().map(|(owner, _, _)| node(owner));
    let situation = Situation {
        tick: 100,
        tick_ms: 5000,
        total: flat(ranges.iter().map(|(_, load, _)| load).sum()),
        ranges: built,
        nodes: names.map(|name| (name, one.clone())).collect(),
        likely: Likely::default(),
        budget: Budget { moves_in_flight: 0, bytes_in_flight: 0, churn_bytes: 0 },
        policy: Policy::default(),
    };
    Case { situation, cells: all_cells }
}

/// One node at .9 with a range that fits the other one, which is at .3.
fn pressed() -> Case {
    situation(&[("a", 600_000, &[1, 1]), ("a", 250_000, &[1, 1]), ("b", 300_000, &[1, 1])])
}

fn told(decision: &Decision) -> String {
    let mut lines = Vec::new();
    for it in &decision.why {
        lines.push(format!("{} pressed by {} ms", it.node, it.area_ms));
    }
    for it in &decision.moves {
        let span = KeySpan { start: it.range_start.clone(), end: it.range_end.clone() };
        lines.push(format!(
            "move {span} {} -> {}, benefit {} cost {}, {} -> {} and {} -> {}",
            it.source,
            it.destination,
            it.benefit_ms,
            it.cost_ms,
            it.source_before,
            it.source_after,
            it.destination_before,
            it.destination_after
        ));
    }
    let cuts = |at: &[Key]| at.iter().map(Key::to_string).collect::<Vec<_>>().join(" ");
    for it in &decision.splits {
        lines.push(format!("split {} at {}, {}", it.range_start, cuts(&it.at), it.reason));
    }
    for it in &decision.joins {
        lines.push(format!("join {} over {}, {}", it.range_start, cuts(&it.at), it.reason));
    }
    for it in &decision.rejected {
        let to = it.destination.as_ref().map_or("-".to_owned(), NodeId::to_string);
        lines.push(format!(
            "no {} -> {to}: {} {} / {}",
            it.range_start, it.reason, it.value, it.limit
        ));
    }
    lines.iter().map(|line| format!("{line}\n")).collect()
}

fn check(situation: &Case, expect: Expect) {
    let decision = decide(situation);
    assert_sound(situation, &decision);
    expect.assert_eq(&told(&decision));
}

#[test]
fn what_people_want_goes_first_and_is_booked() {
    let mut situation = pressed();
    let wanted = |index: usize, to: &str| Wanted {
        span: situation.ranges[index].span.clone(),
        node: node(to),
    };
    let [hot, twice] = [wanted(0, "b"), wanted(0, "b")];
    let cold = wanted(2, "a");
    let decision = decide_after(&situation, &[hot.clone(), twice]);
    // Nothing is hot any more where it was, and what was moved is not moved back.
    let moved = |it: &Decision| -> Vec<_> {
        it.moves.iter().map(|it| (it.source.0.clone(), it.reason.clone())).collect()
    };
    assert_eq!(moved(&decision)[0], ("a".into(), "by_hand".into()));
    assert!(decision.moves.iter().skip(1).all(|it| it.range_start != hot.span.start));
    let [(1, refusal)] = &decision.refused[..] else { panic!("{:?}", decision.refused) };
    assert_eq!(refusal.reason.code(), "in_flight");
    assert_eq!(
        decision.moves[0].cost_ms,
        50 + 4 + 4 + 4,
        "disruption, a tenth of the transfer, both nodes"
    );
    situation.budget.moves_in_flight = situation.policy.moves_in_flight_max - 1;
    let decision = decide_after(&situation, &[cold.clone(), hot.clone()]);
    assert_eq!(moved(&decision), [("b".into(), "by_hand".into())], "nothing is left for heat");
    let [(1, refusal)] = &decision.refused[..] else { panic!("{:?}", decision.refused) };
    assert_eq!(refusal.reason.code(), "budget_moves");
    let alone = decide_by_hand(&pressed(), &[cold]);
    assert_eq!((alone.moves.len(), alone.why.len(), alone.splits.len()), (1, 0, 0));
}

#[test]
fn pressed_node_gives_what_fits() {
    check(
        &pressed(),
        expect![[r#"
        a pressed by 37500 ms
        move [0002, 0004) a -> b, benefit 36250 cost 62, 850 -> 600 and 300 -> 550
        split - at 0001, ahead_of_need
        split 0004 at 0005, ahead_of_need
        no - -> b: half_gap 600000 / 275000
    "#]],
    );
}

#[test]
fn node_is_relieved_over_a_link_on_which_a_copy_takes_longer_than_it_wins() {
    let mut situation = pressed();
    situation.policy.bandwidth_bytes_per_s = 52_000;
    let decision = decide(&situation);
    let [chosen] = &decision.moves[..] else { panic!("{:?}", decision.rejected) };
    // It takes 40 s, and avoids 26 node-seconds of the 36 that it would at once.
    assert_eq!((chosen.benefit_ms, chosen.cost_ms), (26_250, 50 + 4_032 + 8));
}

#[test]
fn quantiles_of_destination_decide_at_the_same_median() {
    let mut situation = pressed();
    for target in 0..TARGETS {
        situation.ranges[2].forecast.reads.0[target][Q90] = 900_000;
    }
    check(
        &situation,
        expect![[r#"
        a pressed by 37500 ms
        split - at 0001, too_hot_to_move
        split 0004 at 0005, ahead_of_need
        split 0002 at 0003, ahead_of_need
        no 0002 -> b: destination_too_warm 1150 / 850
    "#]],
    );
}

#[test]
fn peak_decides_at_the_same_median() {
    let mut situation = pressed();
    situation.ranges[2].forecast.reads.0[MAX30][Q95] = 800_000;
    check(
        &situation,
        expect![[r#"
        a pressed by 37500 ms
        split - at 0001, too_hot_to_move
        split 0004 at 0005, ahead_of_need
        split 0002 at 0003, ahead_of_need
        no 0002 -> b: peak_rises 1050 / 850
    "#]],
    );
}

#[test]
fn careful_path_of_destination_counts_against_the_benefit() {
    let mut situation = pressed();
    let benefit = decide(&situation).moves[0].benefit_ms;
    for target in [H1, H6, H30] {
        situation.ranges[2].forecast.reads.0[target][Q90] = 600_000;
    }
    // At .9 the destination is at .85 then, 50 thousandths of 29 ticks of 5 s too much.
    assert_eq!(decide(&situation).moves[0].benefit_ms, benefit - 50 * 29 * 5);
}

#[test]
fn load_that_is_soon_gone_is_acted_upon() {
    let mut situation = pressed();
    for (range, gone) in [(0, 100_000), (1, 50_000)] {
        situation.ranges[range].forecast.reads.0[H30] = [gone; 8];
        situation.ranges[range].forecast.reads.0[MEAN30] = [gone * 4; 8];
    }
    situation.total = RangeForecast::default();
    assert_eq!(decide(&situation).moves.len(), 1);
    // With all targets at the mean, which does not press the node, there is nothing to do.
    for range in 0..2 {
        let mean = situation.ranges[range].forecast.reads.0[MEAN30];
        situation.ranges[range].forecast.reads.0 = [mean; TARGETS];
    }
    let decision = decide(&situation);
    assert!(decision.moves.is_empty() && decision.why.is_empty(), "{}", told(&decision));
}

#[test]
fn what_may_not_move_stays() {
    let refuse = |change: fn(&mut Case), reason: &str| {
        let mut situation = pressed();
        assert_eq!(decide(&situation).moves.len(), 1, "{reason}: it would move otherwise");
        change(&mut situation);
        let decision = decide(&situation);
        assert_sound(&situation, &decision);
        assert!(decision.moves.is_empty(), "{reason}: {}", told(&decision));
        assert!(decision.rejected.iter().any(|it| it.reason == reason), "{}", told(&decision));
    };
    refuse(|it| it.ranges[1].pinned = true, "pinned");
    refuse(|it| it.ranges[1].settled = false, "in_flight");
    refuse(|it| it.ranges[1].cool_until = it.tick + 1_000, "cooling_down");
    refuse(|it| it.ranges[1].own_forecast = false, "forecast_not_own");
    refuse(|it| it.policy.move_bytes_max = MIB, "too_large");
    refuse(|it| it.nodes.get_mut(&node("b")).unwrap().takes = false, "no_destination");
    refuse(|it| it.nodes.get_mut(&node("b")).unwrap().bytes_free = Some(MIB), "no_room");
    refuse(|it| it.nodes.get_mut(&node("b")).unwrap().moves_in_flight = 4, "budget_moves_node");
    refuse(|it| it.nodes.get_mut(&node("a")).unwrap().moves_in_flight = 4, "budget_moves_node");
    refuse(|it| it.budget.moves_in_flight = 8, "budget_moves");
    refuse(|it| it.budget.bytes_in_flight = (1 << 30) - MIB, "budget_bytes");
    refuse(|it| it.budget.churn_bytes = u64::MAX - MIB, "budget_churn");
    refuse(|it| it.policy.disruption_ms = 1_000_000, "not_worth_it");
}

#[test]
fn range_that_rests_moves_only_where_that_wins_more_for_each_tick_that_is_left() {
    let mut situation = pressed();
    let moved = decide(&situation).moves.remove(0);
    let wins = moved.benefit_ms - moved.cost_ms - situation.policy.net_benefit_ms_min;
    let of_a_tick = situation.policy.net_benefit_ms_min + situation.policy.disruption_ms;
    situation.ranges[1].cool_until = situation.tick + wins / of_a_tick;
    assert_eq!(decide(&situation).moves, [moved]);
    situation.ranges[1].cool_until += 1;
    let decision = decide(&situation);
    assert!(decision.moves.is_empty(), "{}", told(&decision));
}

#[test]
fn range_too_hot_to_move_gives_up_a_piece() {
    let hot = situation(&[("a", 900_000, &[1, 1, 1, 1, 1, 1, 1, 1]), ("b", 300_000, &[1, 1])]);
    check(
        &hot,
        expect![[r#"
        a pressed by 45000 ms
        split - at 0006, too_hot_to_move
        split 0008 at 0009, ahead_of_need
    "#]],
    );
}

#[test]
fn hot_cell_is_cut_out_on_both_sides() {
    let hot = situation(&[("a", 900_000, &[1, 1, 90, 1, 1]), ("b", 300_000, &[1, 1])]);
    check(
        &hot,
        expect![[r#"
        a pressed by 45000 ms
        split - at 0002 0003, too_hot_to_move
        split 0005 at 0006, ahead_of_need
    "#]],
    );
}

#[test]
fn heat_of_one_key_is_reported_and_not_split() {
    let mut hot = situation(&[("a", 900_000, &[1]), ("b", 300_000, &[1])]);
    hot.cells.get_mut(&RangeId(0)).unwrap()[0].unsplittable_ppm = 800_000;
    check(
        &hot,
        expect![[r#"
        a pressed by 45000 ms
        no - -> b: half_gap 900000 / 300000
        no - -> -: unsplittable 800000 / 500000
    "#]],
    );
}

#[test]
fn large_range_is_split_before_it_moves() {
    let mut large = pressed();
    large.ranges[1].bytes = 400 * MIB;
    large.cells.get_mut(&RangeId(1)).unwrap().iter_mut().for_each(|cell| cell.bytes = 200 * MIB);
    check(
        &large,
        expect![[r#"
        a pressed by 37500 ms
        split - at 0001, too_hot_to_move
        split 0004 at 0005, ahead_of_need
        split 0002 at 0003, ahead_of_need
        no 0002 -> -: too_large 419430400 / 268435456
    "#]],
    );
}

#[test]
fn calm_cluster_is_left_alone() {
    let ranges =
        (0..40).map(|it| (["a", "b"][it / 20], 27_000, &[1_i64, 1][..])).collect::<Vec<_>>();
    check(&situation(&ranges), expect![[r#""#]]);
}

#[test]
fn cold_neighbours_join_when_rested() {
    let cold = |load| {
        let ranges =
            (0..40).map(|it| (["a", "b"][it / 20], load, &[1_i64][..])).collect::<Vec<_>>();
        situation(&ranges)
    };
    let mut resting = cold(1000);
    resting.ranges[3].join_after = 101;
    resting.ranges[5].pinned = true;
    resting.ranges[8].settled = false;
    resting.ranges[10].cool_until = 101;
    resting.policy.ranges_per_node_min = 1;
    check(
        &resting,
        expect![[r#"
        join - over 0001 0002, cold
        join 0006 over 0007, cold
        join 0011 over 0012 0013 0014 0015 0016 0017 0018 0019, cold
        join 0020 over 0021 0022 0023 0024 0025 0026 0027 0028 0029 0030 0031 0032 0033 0034 0035 0036 0037 0038 0039, cold
    "#]],
    );
    assert!(decide(&cold(18_000)).joins.len() < 20, "what is warm joins up to a piece's quarter");
    assert!(decide(&cold(21_000)).joins.is_empty());
}

#[test]
fn splits_keep_to_the_bounds() {
    let hot = |max: u32, soft: u32| {
        let mut hot = situation(&[("a", 500_000, &[1; 8]), ("b", 500_000, &[1; 8])]);
        hot.policy.ranges_max = max;
        hot.policy.ranges_per_node_soft = soft;
        decide(&hot).splits.iter().map(|it| it.at.len()).sum::<usize>()
    };
    assert!(hot(100, 100) > 6);
    assert!((1..=6).contains(&hot(8, 100)));
    assert!((1..=6).contains(&hot(100, 4)));
    assert_eq!(hot(2, 100), 0);
}

#[test]
fn load_and_capacity_times_ten_give_the_same_moves() {
    let named = |it: &Decision| {
        it.moves
            .iter()
            .map(|it| (it.range_start.clone(), it.destination.clone()))
            .collect::<Vec<_>>()
    };
    let mut compared = 0;
    for seed in 0..400 {
        let situation = random(seed, &[Mode::Calm]);
        let mut tenfold = situation.clone();
        tenfold.total = times_ten(&tenfold.total);
        for range in &mut tenfold.ranges {
            range.forecast = times_ten(&range.forecast);
        }
        for node in tenfold.nodes.values_mut() {
            node.capacity_us_per_s *= 10;
        }
        // Copying costs a greater node less of its time.
        tenfold.policy.copy_us_per_mib *= 10;
        let [one, ten] = [decide(&situation), decide(&tenfold)];
        assert_eq!(named(&one), named(&ten), "seed {seed}");
        compared += one.moves.len();
    }
    assert!(compared > 50, "only {compared} moves compared");
}

fn times_ten(it: &RangeForecast) -> RangeForecast {
    let row = |it: Forecast| Forecast(it.0.map(|row| row.map(|load| load * 10)));
    RangeForecast { reads: row(it.reads), writes: row(it.writes) }
}

/// What forecasts a random situation has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Calm,
    Zero,
    Huge,
    Crossing,
}

fn random(seed: u64, modes: &[Mode]) -> Case {
    let mut rng = Pcg64::seed_from_u64(seed);
    let nodes = rng.random_range(1..6_usize);
    let names = (0..nodes).map(|it| format!("n{it}")).collect::<Vec<_>>();
    let hottest = if seed.is_multiple_of(3) { 5_000 } else { 200_000 };
    let ranges = (0..rng.random_range(1..40)).map(|_| {
        let cells =
            (0..rng.random_range(1..9)).map(|_| rng.random_range(0..100)).collect::<Vec<_>>();
        (rng.random_range(0..nodes), rng.random_range(0..hottest), cells)
    });
    let ranges = ranges.collect::<Vec<_>>();
    let named = ranges.iter().map(|(node, load, cells)| (names[*node].as_str(), *load, &cells[..]));
    let mut it = situation(&named.collect::<Vec<_>>());
    let spare = it.nodes.values().next().expect("a situation has a node").clone();
    it.nodes.entry(node("spare")).or_insert(spare);
    for node in it.nodes.values_mut() {
        node.capacity_us_per_s = rng.random_range(1..20) * 100_000;
        node.takes = rng.random_bool(0.8);
        node.moves_in_flight = rng.random_range(0..4);
        node.bytes_free = rng.random_bool(0.3).then(|| rng.random_range(0..10) * MIB);
    }
    for range in &mut it.ranges {
        let median = range.forecast.load(H1, Q50);
        range.forecast.reads = forecast(&mut rng, modes, median);
        range.settled = rng.random_bool(0.9);
        range.own_forecast = rng.random_bool(0.9);
        range.pinned = rng.random_bool(0.1);
        range.cool_until = rng.random_range(90..103);
        range.join_after = rng.random_range(90..103);
    }
    it.policy.moves_in_flight_max = rng.random_range(0..10);
    it.policy.moves_in_flight_per_node_max = rng.random_range(0..6);
    it.policy.bytes_in_flight_max = rng.random_range(0..80) * MIB;
    it.policy.churn_bytes_per_hour_max = rng.random_range(0..80) * MIB;
    it.policy.move_bytes_max = rng.random_range(1..40) * MIB;
    it.policy.ranges_max = rng.random_range(1..60);
    it.policy.ranges_per_node_min = rng.random_range(0..5);
    it.budget.moves_in_flight = rng.random_range(0..6);
    it.budget.bytes_in_flight = rng.random_range(0..30) * MIB;
    it.budget.churn_bytes = rng.random_range(0..30) * MIB;
    if modes.contains(&Mode::Huge) && rng.random_bool(0.2) {
        it.ranges.iter_mut().for_each(|range| range.bytes = u64::MAX - range.id.0);
        it.policy.move_bytes_max = u64::MAX;
        it.policy.bytes_in_flight_max = u64::MAX;
        it.policy.copy_us_per_mib = u64::MAX;
        it.tick_ms = [0, u64::MAX][usize::from(rng.random_bool(0.5))];
        it.nodes
            .values_mut()
            .for_each(|node| node.capacity_us_per_s = [0, 1, u64::MAX][rng.random_range(0..3)]);
    }
    let total = it.total.load(H1, Q50);
    it.total.reads = forecast(&mut rng, modes, total);
    it
}

fn forecast(rng: &mut Pcg64, modes: &[Mode], median: u64) -> Forecast {
    let mode = modes[rng.random_range(0..modes.len())];
    Forecast(std::array::from_fn(|_| {
        let mut row: [u64; 8] = match mode {
            Mode::Calm => {
                let near = rng.random_range(median / 2..=median * 2);
                std::array::from_fn(|level| near * (8 + level as u64) / 11)
            }
            Mode::Zero => [0; 8],
            Mode::Huge => std::array::from_fn(|_| u64::MAX >> rng.random_range(0..40)),
            Mode::Crossing => std::array::from_fn(|_| rng.random_range(0..2 * median.max(1))),
        };
        if mode == Mode::Huge {
            row.sort_unstable();
        }
        row
    }))
}

#[test]
fn promises_hold_whatever_the_forecast_says() {
    let modes: [&[Mode]; 5] = [
        &[Mode::Calm],
        &[Mode::Zero, Mode::Calm],
        &[Mode::Huge],
        &[Mode::Crossing],
        &[Mode::Calm, Mode::Zero, Mode::Huge, Mode::Crossing],
    ];
    let mut seen = [0; 4];
    for seed in 0..1500 {
        println!("seed {seed}");
        let situation = random(seed, modes[seed as usize % modes.len()]);
        let decision = decide(&situation);
        assert_sound(&situation, &decision);
        assert_eq!(decision, decide(&situation), "the same situation gives the same decision");
        let counts = [&decision.moves.len(), &decision.splits.len(), &decision.joins.len()];
        seen.iter_mut().zip(counts).for_each(|(sum, more)| *sum += more);
        seen[3] += decision.rejected.len();
    }
    assert!(seen.iter().all(|it| *it > 150), "too little of it happened: {seen:?}");
}

/// Holds a decision to all that must be true of it, whatever the situation.
pub fn assert_sound(situation: &Case, decision: &Decision) {
    assert_within_budget(situation, decision);
    assert_tiling(situation, decision);
    assert_half_gap(situation, decision);
    assert!(decision.rejected.len() <= situation.policy.rejected_max as usize);
    assert!(decision.moves.is_empty() || !decision.why.is_empty(), "a move has a reason");
}

fn assert_within_budget(situation: &Situation, decision: &Decision) {
    let (policy, budget) = (&situation.policy, &situation.budget);
    if decision.moves.is_empty() {
        return;
    }
    let bytes: u128 = decision.moves.iter().map(|it| u128::from(it.bytes)).sum();
    let within = |spent: u64, limit: u64| bytes + u128::from(spent) <= u128::from(limit);
    let count = budget.moves_in_flight as usize + decision.moves.len();
    assert!(count <= policy.moves_in_flight_max as usize, "moves in flight");
    assert!(within(budget.bytes_in_flight, policy.bytes_in_flight_max), "bytes in flight");
    assert!(within(budget.churn_bytes, policy.churn_bytes_per_hour_max), "churn");
    for (name, node) in &situation.nodes {
        let ends = decision.moves.iter().filter(|it| it.source == *name || it.destination == *name);
        let count = node.moves_in_flight as usize + ends.count();
        let more = count > node.moves_in_flight as usize;
        assert!(!more || count <= policy.moves_in_flight_per_node_max as usize, "moves of a node");
        let given = decision.moves.iter().filter(|it| it.destination == *name);
        let given: u128 = given.map(|it| u128::from(it.bytes)).sum();
        assert!(given <= u128::from(node.bytes_free.unwrap_or(u64::MAX)), "room on a node");
    }
}

/// Applies the decision to the spans: what results tiles the key space, at bounds that are cells.
fn assert_tiling(situation: &Case, decision: &Decision) {
    let mut starts: BTreeMap<&Key, &Range> =
        situation.ranges.iter().map(|range| (&range.span.start, range)).collect();
    let count = starts.len();
    let mut touched = Vec::new();
    for it in &decision.moves {
        let range = starts[&it.range_start];
        let node = &situation.nodes[&it.destination];
        assert_eq!(it.range_end, range.span.end);
        assert_eq!(it.source, range.node);
        assert!(it.source != it.destination && node.takes);
        assert!(range.settled && range.own_forecast && !range.pinned);
        assert!(range.bytes <= situation.policy.move_bytes_max);
        let rest = range.cool_until.saturating_sub(situation.tick);
        let (least, disruption) =
            (situation.policy.net_benefit_ms_min, situation.policy.disruption_ms);
        assert!(it.cost_ms + least + rest * (least + disruption) <= it.benefit_ms, "{it:?}");
        touched.push(&it.range_start);
    }
    for it in &decision.splits {
        let range = starts[&it.range_start];
        assert!(range.settled && !range.pinned && it.range_end == range.span.end);
        assert!(!it.at.is_empty() && it.at.is_sorted());
        touched.push(&it.range_start);
        for at in &it.at {
            assert!(
                situation.cells[&range.id][1..].iter().any(|cell| cell.start == *at),
                "a cut is at a cell"
            );
            assert!(starts.insert(at, range).is_none());
        }
    }
    for it in &decision.joins {
        let last = it.at.last().expect("a join has at least two ranges");
        assert_eq!(starts[last].span.end, it.range_end);
        touched.push(&it.range_start);
        let mut end = &starts[&it.range_start].span.end;
        for at in &it.at {
            assert_eq!(end, at, "what joins is adjacent");
            let range = starts.remove(at).expect("a join takes away a bound");
            assert!(range.settled && !range.pinned && range.node == it.node);
            end = &range.span.end;
            touched.push(at);
        }
    }
    touched.sort();
    assert!(touched.windows(2).all(|it| it[0] != it[1]), "one decision touches a range once");
    let most = count.max(situation.policy.ranges_max as usize);
    assert!(starts.len() <= most, "{} ranges of {most}", starts.len());
}

/// No move makes its destination warmer than its source is then, by medians at the target at which
/// the source was hottest before it.
fn assert_half_gap(situation: &Situation, decision: &Decision) {
    const TARGETS: [usize; 3] = [H1, H6, H30];
    let clamped = |it: u64| u128::from(it.min(1 << 42));
    let median = |it: &RangeForecast, target: usize| {
        clamped(it.reads.0[target][Q50].saturating_add(it.writes.0[target][Q50]))
    };
    let sum = |target| situation.ranges.iter().map(|it| median(&it.forecast, target)).sum::<u128>();
    let sums = TARGETS.map(sum);
    let loads_of = |range: &Range| {
        let mut sums = sums.iter();
        TARGETS.map(|target| {
            let (own, sum) = (median(&range.forecast, target), sums.next().unwrap());
            (own * median(&situation.total, target) / sum.max(&1)).clamp(own, 2 * own)
        })
    };
    let mut loads: BTreeMap<&NodeId, [u128; 3]> = BTreeMap::new();
    for range in &situation.ranges {
        let sum = loads.entry(&range.node).or_default();
        sum.iter_mut().zip(loads_of(range)).for_each(|(sum, more)| *sum += more);
    }
    for it in &decision.moves {
        let find = |range: &&Range| range.span.start == it.range_start;
        let moved = loads_of(situation.ranges.iter().find(find).expect("a move names a range"));
        let before = loads[&it.source];
        let hottest = *before.iter().max().expect("three targets");
        let then = before.iter().position(|load| *load == hottest).expect("it is one of them");
        let from = loads.entry(&it.source).or_default();
        from.iter_mut().zip(moved).for_each(|(sum, less)| *sum -= less);
        let to = loads.entry(&it.destination).or_default();
        to.iter_mut().zip(moved).for_each(|(sum, more)| *sum += more);
        let capacity = |name: &NodeId| u128::from(situation.nodes[name].capacity_us_per_s.max(1));
        let left = loads[&it.destination][then] * capacity(&it.source);
        let right = loads[&it.source][then] * capacity(&it.destination);
        assert!(left <= right, "{} would be warmer than {} then", it.destination, it.source);
    }
}
