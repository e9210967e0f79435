//! Forecasts by a recurrent network, as a correction of the linear model's fan.
//!
//! ```text
//!  inputs of a tick ──> GRU ──> state, carried to the next tick ──┐
//!                                                 row, linear fan ┴─> tanh ──> δ, a level and target
//!  median + δ₀ · spread, gap · exp(δ) <── linear fan: median, gaps
//! ```
//!
//! One network serves all ranges and both operations. What it is fed is told in units of the row's
//! own swing, so that it knows no levels.
//!
//! * **Starts as the linear model.** With the last layer at zero every δ is zero, and the fan is the
//!   linear one to the last bit.
//! * **Never crosses.** A gap is positive, whatever the network says.
//! * **Row by row.** What a row gets does not depend on the rows beside it in a block.

use burn::tensor::activation::sigmoid;
use burn::tensor::{Device, Tensor, TensorData};
use dataflows::forecast::{Q50, TARGETS};
use rand::Rng;
use rand_pcg::Pcg64;
use schemas::heatmap::LEVELS;
use serde::{Deserialize, Serialize};

use super::activation;
use super::conformal::Fan;
use super::features::{
    FEATURES, LAG_COLUMN, LEVEL_COLUMN, MAX_COLUMN, MEAN_COLUMN, NEAR_COLUMN, OP_COLUMN,
    OTHER_COLUMN, OWN, SHARE_COLUMN, SWING_COLUMN, TOTAL_COLUMN,
};

/// Size of the state of a row.
pub const HIDDEN: usize = 32;
/// So many rows are stepped at once: what they need stays in the processor's nearest cache.
pub const BLOCK: usize = 64;
const HEAD: usize = 32;
/// What the recurrent part sees of a tick.
pub const INPUTS: usize = 16;
/// What the head sees beside the state.
pub const STATICS: usize = OWN + 2 * TARGETS + 2;
const OUTPUTS: usize = TARGETS * LEVELS.len();

/// Rows and columns of each tensor of weights.
pub const SHAPES: [(usize, usize); 8] = [
    (INPUTS, 3 * HIDDEN),
    (1, 3 * HIDDEN),
    (HIDDEN, 3 * HIDDEN),
    (1, 3 * HIDDEN),
    (HIDDEN + STATICS, HEAD),
    (1, HEAD),
    (HEAD, OUTPUTS),
    (1, OUTPUTS),
];

/// What a gap may be multiplied by at most is the exponential of this.
pub const DELTA_MAX: f32 = 2.5;
/// Swing of a row whose arrivals are Poisson, about.
const SWING_LEAST: f32 = 0.5;
/// What the network sees is within these bounds.
const SEEN_MAX: f32 = 8.0;

/// The weights of the network, tensor by tensor.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Weights(pub Vec<Vec<f32>>);

impl Weights {
    /// Those of a network that knows nothing: it equals the linear model.
    pub fn untrained(random: &mut Pcg64) -> Self {
        let tensor = |(at, (rows, columns)): (usize, (usize, usize))| {
            let reach = match (at, rows) {
                (6, _) | (_, 1) => 0.0,
                _ => (6.0 / (rows + columns) as f32).sqrt(),
            };
            (0..rows * columns).map(|_| random.random_range(-1.0..1.0_f32) * reach).collect()
        };
        Self(SHAPES.into_iter().enumerate().map(tensor).collect())
    }
}

/// Where the network is computed: the one place that names a backend of burn's.
#[cfg(not(feature = "burn-ndarray"))]
fn device() -> Device {
    Device::flex()
}

/// The same, with `--features burn-ndarray`. Its numbers are others in their last bits.
#[cfg(feature = "burn-ndarray")]
#[allow(deprecated)] // `burn` gives it up for `flex`; it is the only other one that needs no library.
fn device() -> Device {
    Device::ndarray()
}

/// The weights where they are computed with.
#[derive(Clone, Debug)]
pub struct Network {
    tensors: [Tensor<2>; SHAPES.len()],
    /// Every second of them.
    biases: [Vec<f32>; SHAPES.len() / 2],
    device: Device,
}

/// What the network sees of a row.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Seen {
    pub inputs: [f32; INPUTS],
    pub statics: [f32; STATICS],
}

/// A fan as its median and the gaps between its levels: what the network corrects.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Parts {
    pub median: f32,
    pub gaps: [f32; LEVELS.len() - 1],
}

impl Parts {
    pub fn of(fan: &Fan) -> Self {
        Self { median: fan[Q50], gaps: std::array::from_fn(|i| (fan[i + 1] - fan[i]).max(1e-3)) }
    }

    /// What a δ of one for the median is.
    pub fn spread(&self) -> f32 {
        self.gaps[Q50 - 1] + self.gaps[Q50]
    }

    /// The fan with corrections: of the median first, then of each gap.
    pub fn fan(&self, deltas: &[f32; LEVELS.len()]) -> Fan {
        let delta = |i: usize| deltas[i].clamp(-DELTA_MAX, DELTA_MAX);
        let gap = |i: usize| self.gaps[i] * libm::expf(delta(i + 1));
        let mut fan = [self.median + delta(0) * self.spread(); LEVELS.len()];
        (Q50 + 1..LEVELS.len()).for_each(|i| fan[i] = fan[i - 1] + gap(i - 1));
        (0..Q50).rev().for_each(|i| fan[i] = fan[i + 1] - gap(i));
        fan
    }
}

/// Says what the network sees. `swing` is how far the row swings, `base` its level, as roots.
pub fn seen(row: &[f32; FEATURES], swing: f32, base: f32, linear: &[Parts; TARGETS]) -> Seen {
    let unit = swing + SWING_LEAST;
    let within = |it: f32| if it.is_finite() { it.clamp(-SEEN_MAX, SEEN_MAX) } else { 0.0 };
    let mut statics = [0.0; STATICS];
    for (i, (to, from)) in statics.iter_mut().zip(&row[..OWN]).enumerate() {
        *to = match i {
            // Share has no unit; the level has its logarithm.
            SHARE_COLUMN => *from,
            LEVEL_COLUMN => libm::logf(1.0 + from) / 2.0,
            _ => within(from / unit),
        };
    }
    for (target, parts) in linear.iter().enumerate() {
        statics[OWN + target] = within((parts.median - base) / unit);
        statics[OWN + TARGETS + target] = within(libm::logf(parts.spread() / unit));
    }
    let [op, size] = [row[OP_COLUMN], libm::logf(unit)];
    statics[OWN + 2 * TARGETS..].copy_from_slice(&[op, size]);
    let inputs = [
        statics[LAG_COLUMN],
        statics[LAG_COLUMN] - statics[LAG_COLUMN + 1],
        statics[MEAN_COLUMN],
        statics[MEAN_COLUMN + 1],
        statics[MEAN_COLUMN + 2],
        statics[LEVEL_COLUMN],
        statics[MAX_COLUMN],
        statics[SWING_COLUMN],
        statics[OTHER_COLUMN],
        statics[TOTAL_COLUMN],
        statics[NEAR_COLUMN],
        statics[NEAR_COLUMN + 1],
        statics[NEAR_COLUMN + 2],
        statics[NEAR_COLUMN + 3],
        op,
        size,
    ];
    Seen { inputs, statics }
}

impl Network {
    pub fn new(weights: &Weights) -> Self {
        Self::on(weights, device())
    }

    /// The same where gradients are known.
    pub fn learning(weights: &Weights) -> Self {
        let it = Self::on(weights, device().autodiff());
        Self { tensors: it.tensors.map(Tensor::require_grad), ..it }
    }

    fn on(weights: &Weights, device: Device) -> Self {
        let tensors = std::array::from_fn(|i| {
            let (rows, columns) = SHAPES[i];
            Tensor::from_data(TensorData::new(weights.0[i].clone(), [rows, columns]), &device)
        });
        let biases = std::array::from_fn(|i| weights.0[2 * i + 1].clone());
        Self { tensors, biases, device }
    }

    pub fn tensors(&self) -> &[Tensor<2>; SHAPES.len()] {
        &self.tensors
    }

    pub fn tensor(&self, plain: Vec<f32>, columns: usize) -> Tensor<2> {
        let rows = plain.len() / columns;
        Tensor::from_data(TensorData::new(plain, [rows, columns]), &self.device)
    }

    /// The part of the gates that comes from inputs.
    pub fn gates(&self, inputs: Tensor<2>) -> Tensor<2> {
        inputs.matmul(self.tensors[0].clone()) + self.tensors[1].clone()
    }

    /// The next state, where gradients are known.
    pub fn step(&self, gates: Tensor<2>, state: Tensor<2>) -> Tensor<2> {
        let own = state.clone().matmul(self.tensors[2].clone()) + self.tensors[3].clone();
        let [update, reset] = [0, HIDDEN].map(|from| {
            let part = |it: &Tensor<2>| it.clone().narrow(1, from, HIDDEN);
            sigmoid(part(&gates) + part(&own))
        });
        let part = |it: Tensor<2>| it.narrow(1, 2 * HIDDEN, HIDDEN);
        let new = (part(gates) + reset * part(own)).tanh();
        new.clone() + update * (state - new)
    }

    /// The corrections, target by target of the median and of the gaps.
    pub fn head(&self, state: Tensor<2>, statics: Tensor<2>) -> Tensor<2> {
        let seen = Tensor::cat(vec![state, statics], 1);
        let hidden = (seen.matmul(self.tensors[4].clone()) + self.tensors[5].clone()).tanh();
        hidden.matmul(self.tensors[6].clone()) + self.tensors[7].clone()
    }

    /// Steps a block of rows: their states become the next ones, and their corrections return. Products are
    /// `burn`'s; what lies between them is done here, in one pass: as tensors it takes most of the time.
    pub fn answer(&self, seen: &[Seen], states: &mut [[f32; HIDDEN]]) -> Vec<[f32; OUTPUTS]> {
        if seen.is_empty() {
            return Vec::new();
        }
        self.advance(seen, states);
        let known = seen
            .iter()
            .zip(&*states)
            .flat_map(|(seen, state)| state.iter().chain(&seen.statics).copied());
        let mut hidden = self.product(known.collect(), 4);
        for it in hidden.as_chunks_mut::<HEAD>().0 {
            *it = std::array::from_fn(|i| activation::tanh(it[i] + self.biases[2][i]));
        }
        let mut deltas = self.product(hidden, 6);
        for it in deltas.as_chunks_mut::<OUTPUTS>().0 {
            *it = std::array::from_fn(|i| sound(it[i] + self.biases[3][i]));
        }
        deltas.as_chunks().0.to_vec()
    }

    /// The recurrent part of it: the states of a block become the next ones.
    pub fn advance(&self, seen: &[Seen], states: &mut [[f32; HIDDEN]]) {
        let gates = self.product(seen.iter().flat_map(|it| it.inputs).collect(), 0);
        let own = self.product(states.as_flattened().to_vec(), 2);
        let [of_gates, of_own] = [&self.biases[0], &self.biases[1]];
        let [gates, own] = [&gates, &own].map(|it| it.as_chunks::<{ 3 * HIDDEN }>().0);
        for (state, (gates, own)) in states.iter_mut().zip(gates.iter().zip(own)) {
            let own: [f32; 3 * HIDDEN] = std::array::from_fn(|i| own[i] + of_own[i]);
            let gates: [f32; 3 * HIDDEN] = std::array::from_fn(|i| gates[i] + of_gates[i]);
            let opened: [f32; 2 * HIDDEN] =
                std::array::from_fn(|i| activation::sigmoid(gates[i] + own[i]));
            let (update, reset) = opened.split_at(HIDDEN);
            let new: [f32; HIDDEN] = std::array::from_fn(|i| {
                activation::tanh(gates[2 * HIDDEN + i] + reset[i] * own[2 * HIDDEN + i])
            });
            *state = std::array::from_fn(|i| sound(new[i] + update[i] * (state[i] - new[i])));
        }
    }

    /// Rows times a tensor of weights.
    fn product(&self, rows: Vec<f32>, weights: usize) -> Vec<f32> {
        let rows = self.tensor(rows, SHAPES[weights].0);
        let product = rows.matmul(self.tensors[weights].clone()).into_data();
        product.try_to_vec::<f32>().expect("all tensors are of f32")
    }
}

/// What is not a number becomes zero.
fn sound(it: f32) -> f32 {
    if it.is_finite() { it } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    fn rows(count: usize, random: &mut Pcg64) -> Vec<Seen> {
        let mut any = || random.random_range(-3.0..3.0_f32);
        (0..count)
            .map(|_| Seen {
                inputs: std::array::from_fn(|_| any()),
                statics: std::array::from_fn(|_| any()),
            })
            .collect()
    }

    /// Weights of a network that says something.
    fn loud(random: &mut Pcg64, reach: f32) -> Weights {
        let mut weights = Weights::untrained(random);
        weights.0[6].iter_mut().for_each(|it| *it = random.random_range(-reach..reach));
        weights
    }

    #[test]
    fn untrained_network_is_the_linear_model_to_the_bit() {
        let random = &mut Pcg64::seed_from_u64(2);
        let network = Network::new(&Weights::untrained(random));
        let mut states = vec![[0.0; HIDDEN]; 50];
        for _ in 0..3 {
            let deltas = network.answer(&rows(50, random), &mut states);
            for deltas in deltas.iter().flat_map(|it| it.as_chunks().0) {
                let mut at = random.random_range(-1.0..40.0_f32);
                let fan: Fan = std::array::from_fn(|_| {
                    at += random.random_range(0.0..2.0_f32);
                    at
                });
                let parts = Parts::of(&fan);
                let bits = |fan: Fan| fan.map(f32::to_bits);
                assert_eq!(bits(parts.fan(deltas)), bits(parts.fan(&[0.0; LEVELS.len()])));
                assert!(fan.iter().zip(parts.fan(deltas)).all(|(a, b)| (a - b).abs() < 0.01));
            }
        }
        assert!(states.iter().flatten().any(|it| 0.01 < it.abs()), "the state is carried");
    }

    #[test]
    fn what_answers_is_what_was_trained() {
        let random = &mut Pcg64::seed_from_u64(6);
        let mut weights = loud(random, 0.5);
        for at in [1, 3, 5, 7] {
            weights.0[at].iter_mut().for_each(|it| *it = random.random_range(-0.5..0.5));
        }
        let (answering, learning) = (Network::new(&weights), Network::learning(&weights));
        let mut states = vec![[0.0; HIDDEN]; 30];
        let mut state = learning.tensor(vec![0.0; 30 * HIDDEN], HIDDEN);
        for _ in 0..40 {
            let rows = rows(30, random);
            let deltas = answering.answer(&rows, &mut states);
            let inputs = learning.tensor(rows.iter().flat_map(|it| it.inputs).collect(), INPUTS);
            let statics = learning.tensor(rows.iter().flat_map(|it| it.statics).collect(), STATICS);
            state = learning.step(learning.gates(inputs), state.detach());
            let trained = learning.head(state.clone(), statics).into_data().try_to_vec::<f32>();
            for (a, b) in deltas.as_flattened().iter().zip(trained.unwrap()) {
                assert!((a - b).abs() < 1e-4, "{a} and {b}");
            }
        }
        assert!(states.iter().flatten().any(|it| 0.1 < it.abs()));
    }

    #[test]
    fn row_gets_the_same_bits_in_any_block() {
        let random = &mut Pcg64::seed_from_u64(3);
        let network = Network::new(&loud(random, 0.5));
        let rows = rows(203, random);
        let run = |block: usize| {
            let mut states = vec![[0.0; HIDDEN]; rows.len()];
            let mut all = Vec::new();
            for _ in 0..3 {
                all.clear();
                for (rows, states) in rows.chunks(block).zip(states.chunks_mut(block)) {
                    all.extend(
                        network.answer(rows, states).into_iter().flatten().map(f32::to_bits),
                    );
                }
            }
            all
        };
        let one = run(1);
        for block in [2, 7, 64, 203] {
            assert!(run(block) == one, "blocks of {block}");
        }
    }

    #[test]
    fn quantiles_never_cross_whatever_the_network_says() {
        let random = &mut Pcg64::seed_from_u64(4);
        for reach in [1.0, 1e6, 1e38] {
            let network = Network::new(&loud(random, reach));
            let mut states = vec![[0.0; HIDDEN]; 20];
            for deltas in network.answer(&rows(20, random), &mut states) {
                for deltas in deltas.as_chunks().0 {
                    let fan = Parts { median: 3.0, gaps: [0.001; 7] }.fan(deltas);
                    assert!(fan.is_sorted() && fan.iter().all(|it| it.is_finite()), "{fan:?}");
                }
            }
        }
    }
}
