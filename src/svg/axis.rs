//! Chooses where an axis has marks, and how they are written.

/// Marks from `low` to `high` at steps of 1, 2 or 5 times a power of ten, at most `marks_max`.
pub fn marks(low: f64, high: f64, marks_max: usize) -> Vec<f64> {
    let rough = ((high - low) / marks_max as f64).max(1e-9);
    let power = 10_f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].map(|it| it * power).into_iter().find(|it| rough <= *it);
    let step = step.unwrap_or(10.0 * power);
    let first = (low / step - 1e-9).ceil() as i64;
    let last = (high / step + 1e-9).floor() as i64;
    (first..=last).map(|i| i as f64 * step).collect()
}

/// The least of 1, 2, 3, 5 and 8 times a power of ten that is not below.
pub fn rounded_up(value: f64) -> f64 {
    let power = 10_f64.powf(value.max(1e-9).log10().floor());
    let steps = [1.0, 2.0, 3.0, 5.0, 8.0, 10.0].map(|it| it * power);
    steps.into_iter().find(|it| value <= it * (1.0 + 1e-9)).unwrap_or(10.0 * power)
}

/// A mark as text, without digits that say nothing.
pub fn told(mark: f64) -> String {
    let text = format!("{mark:.3}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// The unit in which a duration is told, and how many milliseconds it has.
pub fn time_unit(duration_ms: f64) -> (&'static str, f64) {
    let units = [("seconds", 1e3, 180.0), ("minutes", 6e4, 180.0), ("hours", 3.6e6, 72.0)];
    let fitting = units.into_iter().find(|(_, unit, most)| duration_ms <= unit * most);
    fitting.map_or(("days", 8.64e7), |(name, unit, _)| (name, unit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_round_and_within() {
        assert_eq!(marks(0.0, 10.0, 6), [0.0, 2.0, 4.0, 6.0, 8.0, 10.0]);
        assert_eq!(marks(0.0, 0.9, 5), [0.0, 0.2, 0.4, 0.6000000000000001, 0.8]);
        assert_eq!(marks(0.0, 0.0, 5), [0.0]);
        assert_eq!([0.6000000000000001, 10.0, 2.5, 0.0].map(told), ["0.6", "10", "2.5", "0"]);
    }

    #[test]
    fn ends_of_scales_are_round() {
        assert_eq!(
            [0.0012, 1.0, 1.1, 7.0, 8.5, 31.0].map(rounded_up).map(told),
            ["0.002", "1", "2", "8", "10", "50"]
        );
    }

    #[test]
    fn time_is_told_in_numbers_below_a_few_hundred() {
        let units = [90e3, 600e3, 3.6e6 * 5.0, 8.64e7 * 30.0].map(|it| time_unit(it).0);
        assert_eq!(units, ["seconds", "minutes", "hours", "days"]);
    }
}
