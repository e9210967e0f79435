//! Forecasts by a linear model: least squares over all rows, one for each operation and target.
//!
//! ```text
//!  row, what came of it ──> Gram: X'X, X'y ──> triangle R with R'R = X'X ┐
//!                           grows               √λ · spread of a column  ├──> least squares ──> weights
//!                                               for each, with target 0  ┘    (linfa)
//! ```
//!
//! A triangle has the least squares of all rows that it stands for, so a fit costs the same however
//! many there were. The appended rows make it ridge regression on standardised columns: columns that
//! say the same share the weight, and one that never varied gets none.
//!
//! All is in root space, from the row's base: a prediction is `base + weights · row`.

use dataflows::forecast::TARGETS;
use linfa::Dataset;
use linfa::traits::Fit;
use linfa_linear::LinearRegression;
use ndarray::{Array1, Array2};
use serde::{Deserialize, Serialize};

use super::features::{CONSTANT, FEATURES};

/// Weight of the appended rows, in rows.
const RIDGE: f64 = 20.0;

/// With fewer rows there is no model.
pub const ROWS_MIN: f64 = 1_000.0;

/// A column that varies less than this never did.
const SPREAD_MIN: f64 = 1e-6;

/// What least squares need of the rows seen.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Gram {
    /// Products of columns, by the lower one; then those of columns and targets.
    xx: Vec<f64>,
    xy: Vec<[f64; TARGETS]>,
}

/// The weights of a fitted model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Linear(Vec<[f32; TARGETS]>);

/// Why there is no model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FitError {
    #[error("too few rows to fit a linear model")]
    TooFew,
    #[error("the rows have no least squares")]
    Unsolvable,
}

impl Default for Gram {
    fn default() -> Self {
        Self { xx: vec![0.0; FEATURES * FEATURES], xy: vec![[0.0; TARGETS]; FEATURES] }
    }
}

impl Gram {
    /// Takes in a row, and what came of it: its targets less its base, as roots.
    pub fn add(&mut self, row: &[f32; FEATURES], came: &[f32; TARGETS]) {
        for (i, x) in row.iter().enumerate().filter(|it| *it.1 != 0.0) {
            let x = f64::from(*x);
            let products = &mut self.xx[i * FEATURES + i..(i + 1) * FEATURES];
            products.iter_mut().zip(&row[i..]).for_each(|(sum, y)| *sum += x * f64::from(*y));
            self.xy[i].iter_mut().zip(came).for_each(|(sum, y)| *sum += x * f64::from(*y));
        }
    }

    /// Lets all that it knows weigh less.
    pub fn fade(&mut self, stays: f64) {
        self.xx.iter_mut().chain(self.xy.as_flattened_mut()).for_each(|it| *it *= stays);
    }

    pub fn rows(&self) -> f64 {
        self.xx[CONSTANT * FEATURES + CONSTANT]
    }

    /// Takes in rows of another, as if there were so many of them.
    pub fn join(&mut self, other: &Self, rows: f64) {
        let part = rows / other.rows().max(1.0);
        let own = self.xx.iter_mut().chain(self.xy.as_flattened_mut());
        own.zip(other.xx.iter().chain(other.xy.as_flattened())).for_each(|(a, b)| *a += b * part);
    }

    pub fn fit(&self) -> Result<Linear, FitError> {
        let rows = self.rows();
        if rows < ROWS_MIN {
            return Err(FitError::TooFew);
        }
        let (triangle, targets) = self.triangle();
        let mut design = Array2::<f64>::zeros((2 * FEATURES, FEATURES));
        for i in 0..FEATURES {
            for j in i..FEATURES {
                design[(i, j)] = triangle[i * FEATURES + j];
            }
            let mean = self.xx[CONSTANT * FEATURES + i] / rows;
            let spread = (self.xx[i * FEATURES + i] / rows - mean * mean).max(0.0).sqrt();
            design[(FEATURES + i, i)] = match i {
                // The constant bears no weight, but keeps the whole solvable.
                CONSTANT => SPREAD_MIN,
                _ if spread < SPREAD_MIN => 1.0,
                _ => RIDGE.sqrt() * spread,
            };
        }
        let mut weights = vec![[0.0; TARGETS]; FEATURES];
        for target in 0..TARGETS {
            let mut y = Array1::<f64>::zeros(2 * FEATURES);
            (0..FEATURES).for_each(|i| y[i] = targets[i][target]);
            let model = LinearRegression::new().with_intercept(false);
            let fitted =
                model.fit(&Dataset::new(design.clone(), y)).map_err(|_| FitError::Unsolvable)?;
            for (weights, weight) in weights.iter_mut().zip(fitted.params()) {
                if !weight.is_finite() {
                    return Err(FitError::Unsolvable);
                }
                weights[target] = *weight as f32;
            }
        }
        Ok(Linear(weights))
    }

    /// R and R'⁻¹X'y, by Cholesky. A column that depends on those before it has a row of zeros.
    fn triangle(&self) -> (Vec<f64>, Vec<[f64; TARGETS]>) {
        let at = |i: usize, j: usize| i * FEATURES + j;
        let mut r = vec![0.0; FEATURES * FEATURES];
        let mut targets = vec![[0.0; TARGETS]; FEATURES];
        for i in 0..FEATURES {
            let above: f64 = (0..i).map(|k| r[at(k, i)] * r[at(k, i)]).sum();
            let pivot = self.xx[at(i, i)] - above;
            if pivot <= self.xx[at(i, i)] * 1e-10 {
                continue;
            }
            let root = pivot.sqrt();
            r[at(i, i)] = root;
            for j in i + 1..FEATURES {
                let above: f64 = (0..i).map(|k| r[at(k, i)] * r[at(k, j)]).sum();
                r[at(i, j)] = (self.xx[at(i, j)] - above) / root;
            }
            targets[i] = std::array::from_fn(|target| {
                let above: f64 = (0..i).map(|k| r[at(k, i)] * targets[k][target]).sum();
                (self.xy[i][target] - above) / root
            });
        }
        (r, targets)
    }
}

impl Default for Linear {
    /// One that expects of each row its base.
    fn default() -> Self {
        Self(vec![[0.0; TARGETS]; FEATURES])
    }
}

impl Linear {
    /// One of these weights, by feature and target; `None` if they are not as many, or one is no number.
    pub fn of(weights: &[f32]) -> Option<Self> {
        let (rows, rest) = weights.as_chunks::<TARGETS>();
        let is_sound = rest.is_empty() && weights.iter().all(|it| it.is_finite());
        (is_sound && rows.len() == FEATURES).then(|| Self(rows.to_vec()))
    }

    /// Weights of a feature at each target.
    pub fn weights(&self) -> &[[f32; TARGETS]] {
        &self.0
    }

    /// What is expected of a row less its base, as roots.
    pub fn predict(&self, row: &[f32; FEATURES]) -> [f32; TARGETS] {
        // As many sums as a processor makes at once.
        let mut sums = [0.0; TARGETS.next_power_of_two()];
        for (x, weights) in row.iter().zip(&self.0) {
            let mut wide = [0.0; TARGETS.next_power_of_two()];
            wide[..TARGETS].copy_from_slice(weights);
            sums.iter_mut().zip(wide).for_each(|(sum, weight)| *sum += x * weight);
        }
        std::array::from_fn(|target| sums[target])
    }
}

#[cfg(test)]
mod tests {
    use rand::{Rng, SeedableRng};
    use rand_pcg::Pcg64;

    use super::*;

    fn row(random: &mut Pcg64) -> [f32; FEATURES] {
        let mut row = [0.0; FEATURES];
        row[CONSTANT] = 1.0;
        // The last columns never vary, and one says what another says.
        (1..FEATURES - 4).for_each(|i| row[i] = random.random_range(-2.0..2.0));
        row[9] = row[8] * 2.0;
        row
    }

    #[test]
    fn weights_are_those_that_made_the_targets() {
        let mut random = Pcg64::seed_from_u64(5);
        let mut gram = Gram::default();
        let truth = |row: &[f32; FEATURES]| {
            std::array::from_fn(|target| 0.5 + row[1] * target as f32 - row[3] + 3.0 * row[8])
        };
        for _ in 0..20_000 {
            let row = row(&mut random);
            let noise = random.random_range(-0.1..0.1);
            gram.add(&row, &truth(&row).map(|it: f32| it + noise));
        }
        let linear = gram.fit().unwrap();
        for _ in 0..100 {
            let row = row(&mut random);
            for (expected, found) in truth(&row).into_iter().zip(linear.predict(&row)) {
                assert!((expected - found).abs() < 0.05, "{found} for {expected}");
            }
        }
        assert_eq!(linear.0[FEATURES - 1], [0.0; TARGETS], "what never varied bears nothing");
        let [one, other] = [linear.0[8], linear.0[9]].map(|it| it[0]);
        assert!(0.5 < one && 0.5 < other, "columns that say the same share: {one}, {other}");
    }

    #[test]
    fn few_rows_make_no_model() {
        let mut gram = Gram::default();
        let row = row(&mut Pcg64::seed_from_u64(1));
        (1..ROWS_MIN as u32).for_each(|_| gram.add(&row, &[0.0; TARGETS]));
        assert_eq!(gram.fit(), Err(FitError::TooFew));
        gram.add(&row, &[0.0; TARGETS]);
        assert!(gram.fit().is_ok());
    }

    #[test]
    fn panels_count_alike_however_many_rows_they_have() {
        let mut random = Pcg64::seed_from_u64(6);
        let mut gram = Gram::default();
        for (rows, weight) in [(1_000, 1.0), (9_000, 3.0)] {
            let mut panel = Gram::default();
            for _ in 0..rows {
                let row = row(&mut random);
                panel.add(&row, &[weight * row[3]; TARGETS]);
            }
            gram.join(&panel, 5_000.0);
        }
        assert!((gram.rows() - 10_000.0).abs() < 1e-6);
        let weight = gram.fit().unwrap().0[3][0];
        assert!((weight - 2.0).abs() < 0.1, "{weight}");
    }

    #[test]
    fn what_are_no_weights_is_no_model() {
        assert!(Linear::of(&[1.0; FEATURES * TARGETS]).is_some());
        assert_eq!(Linear::of(&[1.0; FEATURES * TARGETS - 1]), None);
        assert_eq!(Linear::of(&[f32::NAN; FEATURES * TARGETS]), None);
    }
}
