//! The network's activations where it answers: several at a time, and the same bits on every machine, which a
//! library's are not.

/// Beyond this it is one, to the last bit but one.
const REACH: f32 = 9.0;

/// Lambert's continued fraction for tanh(x/2), cut off after its seventh term, and
/// tanh x = 2t / (1 + t²) with t = tanh(x/2). No further than 3e-7 from the truth.
pub fn tanh(x: f32) -> f32 {
    let half = x.clamp(-REACH, REACH) * 0.5;
    let s = half * half;
    let p = half * (135_135.0 + s * (17_325.0 + s * (378.0 + s)));
    let q = 135_135.0 + s * (62_370.0 + s * (3_150.0 + s * 28.0));
    2.0 * p * q / (p * p + q * q)
}

/// 1 / (1 + e⁻ˣ).
pub fn sigmoid(x: f32) -> f32 {
    0.5 + 0.5 * tanh(0.5 * x)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_are_what_they_are_called() {
        for i in -40_000..=40_000 {
            let x = i as f32 / 2_000.0;
            let wide = f64::from(x);
            let off = |is: f32, should: f64| (f64::from(is) - should).abs();
            assert!(off(tanh(x), wide.tanh()) < 3e-7, "tanh {x} is {}", tanh(x));
            assert!(off(sigmoid(x), 1.0 / (1.0 + (-wide).exp())) < 3e-7, "of {x}: {}", sigmoid(x));
            assert_eq!(tanh(-x), -tanh(x));
        }
        for x in [1e30, f32::INFINITY] {
            assert!((1.0 - tanh(x)).abs() < 3e-7 && (1.0 - sigmoid(x)).abs() < 3e-7);
        }
        assert!(tanh(f32::NAN).is_nan());
    }
}
