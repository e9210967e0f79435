//! Steps weights against their gradients, by Adam, with weights that decay.

use crate::forecast::gru::{SHAPES, Weights};

const MEAN_STAYS: f32 = 0.9;
const SQUARE_STAYS: f32 = 0.999;
/// Gradients of a greater norm are shortened to it.
const NORM_MAX: f32 = 1.0;

/// What is remembered of the gradients.
pub struct Adam {
    means: Vec<Vec<f32>>,
    squares: Vec<Vec<f32>>,
    steps: i32,
    decay: f32,
}

impl Adam {
    pub fn new(decay: f32) -> Self {
        let zeros: Vec<_> =
            SHAPES.iter().map(|(rows, columns)| vec![0.0; rows * columns]).collect();
        Self { means: zeros.clone(), squares: zeros, steps: 0, decay }
    }

    pub fn step(&mut self, weights: &mut Weights, gradients: &[Vec<f32>], rate: f32) {
        self.steps += 1;
        let norm = gradients.iter().flatten().map(|it| it * it).sum::<f32>().sqrt();
        let shortened = (NORM_MAX / norm.max(1e-12)).min(1.0);
        let warm = [MEAN_STAYS, SQUARE_STAYS].map(|stays| 1.0 - stays.powi(self.steps));
        let weights = weights.0.iter_mut().flatten();
        let remembered = self.means.iter_mut().flatten().zip(self.squares.iter_mut().flatten());
        for ((weight, gradient), (mean, square)) in
            weights.zip(gradients.iter().flatten()).zip(remembered)
        {
            let gradient = gradient * shortened;
            *mean += (gradient - *mean) * (1.0 - MEAN_STAYS);
            *square += (gradient * gradient - *square) * (1.0 - SQUARE_STAYS);
            let step = (*mean / warm[0]) / ((*square / warm[1]).sqrt() + 1e-8);
            *weight -= rate * (step + self.decay * *weight);
        }
    }
}
