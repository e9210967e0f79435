//! Trains the network on panels: the same panels and seed give the same weights.
//!
//! ```text
//!  panels ──┬──> material, as they are ──────────────┐ sequences of 48 ticks, two halves of a batch
//!           └──> varied, anew every round ──> material ┴──> pinball loss over the linear model's ──> Adam
//! ```
//!
//! Each (panel, operation, target) counts by how much better than the linear model the network is
//! there, whatever the load: a level has no say.

mod adam;
mod material;
mod vary;

use burn::tensor::Tensor;
use dataflows::forecast::{Q50, TARGETS};
use rand::{Rng, SeedableRng};
use rand_pcg::Pcg64;
use schemas::heatmap::LEVELS;

use super::OPS;
use super::conformal::FRACTIONS;
use super::gru::{DELTA_MAX, HIDDEN, INPUTS, Network, STATICS, Weights};
use super::linear::{FitError, Gram, Linear};
use super::panel::Panel;
use adam::Adam;
use material::{Example, Material};
use vary::varied;

/// Ticks of a sequence, and those of them at its beginning that only fill the state.
const LENGTH: usize = 48;
const FILLING: usize = 8;
/// A sequence does not begin before this tick.
const FIRST: usize = 40;
/// Of one panel, so many rows and bins are learned from.
const EXAMPLES_MAX: usize = 2_000_000;
/// In the linear model to begin with a panel counts as so many rows.
const ROWS_OF_A_PANEL: f64 = 10_000.0;
/// With fewer bins there is no sequence.
const BINS_MIN: usize = 2 * (FIRST + LENGTH);
/// Sequences of half a batch: each half has a thread.
const HALF: usize = 64;
/// After so many steps others are drawn of the panels.
const ROUND_STEPS: u32 = 100;
/// How many of ten sequences are of panels as they are.
const PLAIN_OF_TEN: usize = 2;
/// The rate rises over so many steps, and then falls as a cosine to a part of itself.
const RISING_STEPS: f32 = 100.0;
const RATE: f32 = 2e-3;
const RATE_END: f32 = 0.02;
const DECAY: f32 = 0.1;
/// What corrections cost by themselves.
const CORRECTION: f64 = 0.02;

/// How a training goes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Step {
    pub done: u32,
    /// Loss over that of the linear model.
    pub loss: f32,
}

/// Fits the linear model that a planner begins with, on panels, all of each, which count alike.
pub fn fit(panels: &[Panel]) -> Result<[Linear; OPS], FitError> {
    let mut grams = [Gram::default(), Gram::default()];
    // Where no panel has an operation, it is as the other.
    let all: Vec<_> =
        panels.iter().map(recent).map(|it| (it.sums(it.bins.len()), it.ops)).collect();
    for (op, gram) in grams.iter_mut().enumerate() {
        let has = all.iter().any(|it| it.1.contains(&op));
        let of = all.iter().filter(|it| !has || it.1.contains(&op));
        of.for_each(|it| gram.join(&it.0[op], ROWS_OF_A_PANEL));
    }
    let [reads, writes] = grams;
    Ok([reads.fit()?, writes.fit()?])
}

/// Trains on panels, all of each, from these weights on, or from none. `told` hears of every step.
pub fn train(
    panels: &[Panel],
    begin: Option<Weights>,
    seed: u64,
    steps: u32,
    mut told: impl FnMut(Step),
) -> Result<Weights, FitError> {
    let mut random = Pcg64::seed_from_u64(seed);
    let untrained = Weights::untrained(&mut random);
    let mut weights = begin.unwrap_or(untrained);
    let mut adam = Adam::new(DECAY);
    let panels: Vec<_> = panels.iter().map(recent).collect();
    let plain = panels.iter().map(Material::new).collect::<Result<Vec<_>, _>>()?;
    let mut others: Vec<Material> = Vec::new();
    for step in 0..steps {
        if step % ROUND_STEPS == 0 {
            let drawn: Vec<_> = panels.iter().map(|it| varied(it, &mut random)).collect();
            // There is room for those of one round; what became too small to learn from is left out.
            others.clear();
            others = drawn.iter().filter_map(|it| Material::new(it).ok()).collect::<Vec<_>>();
        }
        let batch: Vec<_> = (0..2 * HALF)
            .map(|at| {
                let is_plain = at % 10 < PLAIN_OF_TEN || others.is_empty();
                sequence(if is_plain { &plain } else { &others }, &mut random)
            })
            .collect();
        let (first, second) = batch.split_at(HALF);
        let (loss, gradients) = std::thread::scope(|scope| {
            let half = scope.spawn(|| gradients(&weights, second));
            let (a, mut sum) = gradients(&weights, first);
            let (b, other) = half.join().expect("a half does not panic");
            sum.iter_mut().flatten().zip(other.iter().flatten()).for_each(|(a, b)| *a += b);
            ((a + b) / 2.0, sum)
        });
        adam.step(&mut weights, &gradients, rate(step, steps));
        told(Step { done: step + 1, loss });
    }
    Ok(weights)
}

/// The end of a panel, if it is larger than there is room for: an example takes half a kilobyte.
fn recent(panel: &Panel) -> Panel {
    let bins = (EXAMPLES_MAX / (panel.ranges() * OPS)).max(BINS_MIN);
    let from = panel.bins.len().saturating_sub(bins);
    Panel { bins: panel.bins[from..].to_vec(), ..panel.clone_without_bins() }
}

fn rate(step: u32, steps: u32) -> f32 {
    let rising = (step as f32 / RISING_STEPS).min(1.0);
    let part = f64::from(step) / f64::from(steps) * std::f64::consts::PI;
    let falling = (1.0 + libm::cos(part) as f32) / 2.0;
    RATE * rising * (RATE_END + (1.0 - RATE_END) * falling)
}

/// Some ticks of a row.
struct Sequence<'a> {
    examples: &'a [Example],
    /// What a loss of each target weighs.
    units: [f32; TARGETS],
}

fn sequence<'a>(materials: &'a [Material], random: &mut Pcg64) -> Sequence<'a> {
    let sizes = materials.iter().map(Material::size);
    let mut at = random.random_range(0.0..sizes.clone().sum::<f64>());
    let chosen = sizes
        .take_while(|size| {
            at -= size;
            0.0 <= at
        })
        .count();
    let material = &materials[chosen.min(materials.len() - 1)];
    let op = material.ops[random.random_range(0..material.ops.len())];
    let row = &material.rows[random.random_range(0..material.rows.len() / OPS) * OPS + op];
    let from = random.random_range(FIRST..=row.len() - LENGTH);
    let units = material.linear_loss[op].map(|it| 1.0 / it);
    Sequence { examples: &row[from..from + LENGTH], units }
}

/// Loss of some sequences, and its gradients.
fn gradients(weights: &Weights, batch: &[Sequence]) -> (f32, Vec<Vec<f32>>) {
    let network = Network::learning(weights);
    let (mut inputs, mut statics) = (Vec::new(), Vec::new());
    let [mut median, mut spread, mut gaps, mut came, mut weight] = [const { Vec::new() }; 5];
    for tick in 0..LENGTH {
        for sequence in batch {
            let example = &sequence.examples[tick];
            inputs.extend(example.seen.inputs);
            if tick < FILLING {
                continue;
            }
            statics.extend(example.seen.statics);
            for (target, linear) in example.linear.iter().enumerate() {
                median.push(linear.median);
                spread.push(linear.spread());
                gaps.extend(linear.gaps);
                came.push(example.came[target].unwrap_or(linear.median));
                let known = example.came[target].is_some();
                weight.push(if known { example.weight * sequence.units[target] } else { 0.0 });
            }
        }
    }
    let rows = batch.len();
    let gates = network.gates(network.tensor(inputs, INPUTS));
    let mut state = network.tensor(vec![0.0; rows * HIDDEN], HIDDEN);
    let mut states = Vec::new();
    for tick in 0..LENGTH {
        state = network.step(gates.clone().narrow(0, tick * rows, rows), state);
        if FILLING <= tick {
            states.push(state.clone());
        }
    }
    let deltas = network.head(Tensor::cat(states, 0), network.tensor(statics, STATICS));
    let corrections = deltas.clone().powf_scalar(2.0).mean().mul_scalar(CORRECTION);
    let levels = LEVELS.len();
    let count = weight.len();
    let deltas = deltas.reshape([count, levels]).clamp(-DELTA_MAX, DELTA_MAX);
    let shift = deltas.clone().narrow(1, 0, 1) * network.tensor(spread, 1);
    let gaps = network.tensor(gaps, levels - 1) * deltas.narrow(1, 1, levels - 1).exp();
    let fan = gaps.matmul(network.tensor(sums(), levels)) + network.tensor(median, 1) + shift;
    let off = network.tensor(came, 1) - fan;
    let fractions = network.tensor(FRACTIONS.map(|it| it as f32).to_vec(), levels);
    let losses = (off.clone() * fractions.clone()).max_pair(off * (fractions - 1.0)).sum_dim(1);
    let loss = (losses * network.tensor(weight, 1)).mean();
    let value = plain(loss.clone())[0];
    let gradients = (loss + corrections).backward();
    let of = |it: &Tensor<2>| plain(it.grad(&gradients).expect("every weight has a gradient"));
    (value, network.tensors().iter().map(of).collect())
}

/// Which gaps lie between the median and each level, and on which side.
fn sums() -> Vec<f32> {
    let side = |gap: usize, level: usize| {
        let (above, below) = (Q50 <= gap && gap < level, level <= gap && gap < Q50);
        f32::from(u8::from(above)) - f32::from(u8::from(below))
    };
    (0..LEVELS.len() - 1)
        .flat_map(|gap| (0..LEVELS.len()).map(move |level| side(gap, level)))
        .collect()
}

fn plain<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().try_to_vec::<f32>().expect("all tensors are of f32")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Load that comes and goes in a rhythm which the linear model cannot tell from the level.
    fn panel() -> Panel {
        let load = |bin: usize, range: usize| {
            let noise = (bin * 7_919 + range * 104_729) % 13;
            let burst = if (bin / 9 + range).is_multiple_of(3) { 60 } else { 0 };
            [(20 + noise + burst) as f32, (noise * 2) as f32]
        };
        Panel {
            name: "rhythm".into(),
            bin_ms: 10_000,
            bins: (0..220).map(|bin| (0..6).map(|range| load(bin, range)).collect()).collect(),
            ops: vec![0, 1],
            digest: String::new(),
            offsets: Default::default(),
            start_ms: None,
        }
    }

    #[test]
    fn training_gives_the_same_weights_for_a_seed_and_begins_at_the_linear_model() {
        let run = |seed: u64| {
            let mut losses = Vec::new();
            let weights = train(&[panel()], None, seed, 2, |step| losses.push(step.loss)).unwrap();
            assert!((0.5..1.5).contains(&losses[0]), "the linear model's loss: {losses:?}");
            weights
        };
        let one = run(1);
        assert!(one == run(1), "the same seed gave other weights");
        assert!(one != run(2));
        // From there on.
        let tuned = train(&[panel()], Some(one.clone()), 1, 2, |_| ()).unwrap();
        assert!(tuned != one && tuned != run(1), "it was not tuned, or began anew");
        assert!(one.0.iter().flatten().all(|it| it.is_finite()));
    }

    #[test]
    fn gradients_point_where_the_loss_falls() {
        let material = [Material::new(&panel()).unwrap()];
        let mut random = Pcg64::seed_from_u64(4);
        let batch: Vec<_> = (0..8).map(|_| sequence(&material, &mut random)).collect();
        let mut weights = Weights::untrained(&mut random);
        weights.0[6].iter_mut().for_each(|it| *it = random.random_range(-0.1..0.1));
        let (before, slopes) = gradients(&weights, &batch);
        let steep: f32 = slopes.iter().flatten().map(|it| it * it).sum::<f32>().sqrt();
        for (tensor, slopes) in weights.0.iter_mut().zip(&slopes) {
            tensor
                .iter_mut()
                .zip(slopes)
                .for_each(|(weight, slope)| *weight -= 0.01 * slope / steep);
        }
        let (after, _) = gradients(&weights, &batch);
        let expected = 0.01 * steep;
        assert!((before - after - expected).abs() < 0.3 * expected, "{before} {after} {expected}");
    }

    #[test]
    fn panels_that_are_drawn_keep_the_load_of_what_they_join() {
        let mut random = Pcg64::seed_from_u64(5);
        let whole: f32 = panel().bins.iter().flatten().flatten().sum();
        for _ in 0..50 {
            let drawn = varied(&panel(), &mut random);
            assert!(0 < drawn.ranges() && drawn.bins.iter().all(|it| it.len() == drawn.ranges()));
            let sum: f32 = drawn.bins.iter().flatten().flatten().sum();
            assert!(0.15 * whole < sum && sum < 8.1 * whole, "{sum} of {whole}");
        }
    }

    #[test]
    fn panel_that_is_too_short_is_refused() {
        assert_eq!(
            train(&[panel().until(BINS_MIN - 1)], None, 1, 1, |_| ()),
            Err(FitError::TooFew)
        );
    }
}
