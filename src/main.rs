use std::collections::BTreeMap;
use isotherm::forecast::Rung;
use isotherm::planner::settings::{Mode, Settings};
use isotherm::replay::driver::{Log, Replay, dense_data, replay};
use isotherm::replay::executor::Model;
use isotherm::replay::scenario::{Scenario, Shape};
use isotherm::replay::{equal_splits, key};
use isotherm::tick::rules::Rules;
use schemas::{Millis, NodeId};

fn main() -> anyhow::Result<()> {
    tracing_subscriber::fmt().with_writer(std::io::stderr).init();
    let shape: Shape = std::env::args().nth(1).unwrap_or("moving-hotspot".into()).parse()?;
    let seed = std::env::args().nth(2).map_or(7, |it| it.parse().unwrap());
    let rules = Rules::default();
    let start = Millis(1_760_000_000_000 / rules.tick_ms * rules.tick_ms);
    let scenario = Scenario::new(shape, seed, start, 600_000);
    let total = scenario.mean_load() * 100 / 55;
    let nodes: BTreeMap<NodeId, u64> = (1..=4).map(|i| (NodeId(format!("n{i}")), total * i / 10)).collect();
    let first = start.0 / rules.tick_ms;
    let settings = Settings {
        tick_ms: rules.tick_ms,
        mode: Mode::Auto,
        rung: Rung::Ewma,
        costs: dataflows::tally::Costs { read_us: 500, scan_us: 1000, write_us: 1000 },
        cells: Default::default(),
        policy: Default::default(),
        birth_nodes: 4,
        split_points: equal_splits(0, 1_000_000, 32),
        key_end: key(1_000_000),
        snapshot_ticks: 0,
        silent_ticks: 12,
    };
    let grid = isotherm::planner::machine::first_cells(&settings);
    let it = Replay { log: Log::Scenario(scenario), settings, rules, nodes: nodes.clone(), model: Model::default(), data: dense_data(0, 1_000_000, 1024), grid: grid.clone(), last: Some(first + 119), first: Some(first), timely_workers: 1 };
    let t = std::time::Instant::now();
    let [a, b] = replay(&it, &|bounds, outputs| if let Some(plan) = &outputs.plan { eprintln!("{} moves {} splits {} joins {} rejected {} overload {}", bounds.tick - first, plan.moves.len(), plan.splits.len(), plan.joins.len(), plan.rejected.len(), outputs.done.overload_ms) })?;
    let caps: Vec<u64> = nodes.values().copied().collect();
    let owners = isotherm::planner::birth::shares(32, &nodes);
    let firsts = &a.tally;
    let own: Vec<usize> = (0..firsts.ticks()[0].len()).map(|i| { let k = if i == 0 { schemas::Key::default() } else { firsts.boundaries()[i-1].clone() }; let r = it.settings.split_points.partition_point(|s| *s <= k); nodes.keys().position(|n| *n == owners[r]).unwrap() }).collect();
    let over: f64 = firsts.by_owner(&own, 4).iter().map(|l| isotherm::replay::tally::overload(l, &caps, rules.tick_ms)).sum();
    let h = isotherm::replay::hindsight::hindsight(firsts, &caps, rules.tick_ms).unwrap();
    eprintln!("{:?} first {over:.1} hindsight {:.1} reactive {:.1} isotherm {:.1}; moves {} {} bytes {} {} splits {} {} joins {} {}", t.elapsed(), h.overload_node_seconds, b.overload_node_seconds, a.overload_node_seconds, a.moves, b.moves, a.bytes_moved >> 20, b.bytes_moved >> 20, a.splits, b.splits, a.joins, b.joins);
    Ok(())
}
