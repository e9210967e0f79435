//! Says where load lies in the key space: workloads of the fluid model.

use rand::Rng;
use rand_pcg::Pcg64;

/// Where the load is at a tick of so many, as shares of it on intervals of keys in parts of one.
pub type Workload = fn(tick: f64, ticks: f64) -> Vec<(f64, [f64; 2])>;

const ALL: [f64; 2] = [0.0, 1.0];

/// Half of the load on a tenth of the keys, which goes over half of them in the run.
pub fn moving_hotspot(tick: f64, ticks: f64) -> Vec<(f64, [f64; 2])> {
    hot_at(0.2 + 0.5 * tick / ticks)
}

/// The same as fast for as long as the run lasts: over half of the keys in 120 ticks, and back.
pub fn pacing_hotspot(tick: f64, _: f64) -> Vec<(f64, [f64; 2])> {
    let way = tick * 0.5 / 120.0 / 0.9;
    let there_and_back = 1.0 - (1.0 - way.rem_euclid(2.0)).abs();
    hot_at(0.05 + 0.9 * there_and_back)
}

fn hot_at(centre: f64) -> Vec<(f64, [f64; 2])> {
    vec![(0.5, ALL), (0.5, [centre - 0.05, centre + 0.05])]
}

pub fn uniform(_: f64, _: f64) -> Vec<(f64, [f64; 2])> {
    vec![(1.0, ALL)]
}

/// Hot in turns, one tick each, in two places of two nodes.
pub fn square_wave(tick: f64, _: f64) -> Vec<(f64, [f64; 2])> {
    let hot = if (tick as u64).is_multiple_of(2) { [0.12, 0.2] } else { [0.4, 0.48] };
    vec![(0.6, ALL), (0.4, hot)]
}

/// Popularity falls with the rank, ranks lie scattered over sixty-four places.
pub fn zipf(_: f64, _: f64) -> Vec<(f64, [f64; 2])> {
    let sum: f64 = (1..=64).map(|rank| 1.0 / f64::from(rank)).sum();
    let place = |rank: u32| f64::from((rank * 37) % 64) / 64.0;
    (1..=64)
        .map(|rank| (1.0 / f64::from(rank) / sum, [place(rank), place(rank) + 1.0 / 64.0]))
        .collect()
}

/// A third of the load on the newest keys, which grow over the right half in the run.
pub fn append(tick: f64, ticks: f64) -> Vec<(f64, [f64; 2])> {
    let edge = 0.5 + 0.48 * tick / ticks;
    vec![(0.67, [0.0, edge]), (0.33, [edge, edge + 0.01])]
}

/// A draw from a Poisson distribution; above thirty its normal approximation.
pub fn poisson(rng: &mut Pcg64, mean: f64) -> f64 {
    if mean <= 0.0 {
        return 0.0;
    }
    if mean > 30.0 {
        let [u, v]: [f64; 2] = [rng.random::<f64>().max(1e-12), rng.random()];
        let normal = (-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos();
        return (mean + mean.sqrt() * normal).round().max(0.0);
    }
    let (limit, mut product, mut count) = ((-mean).exp(), rng.random::<f64>(), 0.0);
    while product > limit {
        product *= rng.random::<f64>();
        count += 1.0;
    }
    count
}
