//! Says what of the heat is published: a range's record, when a quantum of it has changed.
//!
//! * **What is published is what plans rest on.** Loads are quantised before anybody looks at them.
//! * **Quiet ranges say nothing.** The share of the total, and how good forecasts were, are told along, and
//!   are no reason to tell.

use dataflows::Tick;
use dataflows::forecast::RangeForecast;
use dataflows::heat::{Heat, Rolling, WIDTHS};
use dataflows::quanta::quantise;
use schemas::NodeId;
use schemas::heatmap::{OpHeat, RangeHeated};

use super::ranges::RangeState;
use crate::forecast::Score;

/// What there is to say of a range besides what it is.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    pub tick: Tick,
    pub tick_ms: u64,
    pub heat: Rolling,
    pub forecast: RangeForecast,
    /// Cost of all ranges together over the six-tick window.
    pub total_us: i64,
    pub unsplittable_ppm: u32,
    pub rung: &'a str,
    pub score: Score,
}

/// Makes the record of a range.
pub fn heated(range: &RangeState, facts: Facts<'_>) -> RangeHeated {
    let Facts { tick, tick_ms, heat, forecast, total_us, unsplittable_ppm, rung, score } = facts;
    let now = |part: fn(&Heat) -> i64| {
        let load = |(heat, width): (&Heat, &Tick)| {
            let window_ms = i128::from(width * tick_ms);
            quantise((i128::from(part(heat)).max(0) * 1000 / window_ms) as u64)
        };
        heat.0.iter().zip(&WIDTHS).map(load).collect()
    };
    let share = i128::from(heat.six().cost_us().max(0)) * 1_000_000 / i128::from(total_us.max(1));
    RangeHeated {
        range_start: range.span.start.clone(),
        range_end: range.span.end.clone(),
        // Before the first assignment nobody has it.
        node: range.node.clone().unwrap_or(NodeId(String::new())),
        tick,
        reads: OpHeat { now: now(|it| it.read_us), forecast: (&forecast.reads).into() },
        writes: OpHeat { now: now(|it| it.write_us), forecast: (&forecast.writes).into() },
        share_ppm: share.clamp(0, 1_000_000) as u32,
        unsplittable_ppm,
        rung: rung.to_owned(),
        skill_permille: score.skill_permille,
        coverage80_permille: score.coverage80_permille,
    }
}

/// Tells whether a record says something that the one before it did not.
pub fn is_news(old: &RangeHeated, new: &RangeHeated) -> bool {
    let RangeHeated {
        range_start,
        range_end,
        node,
        tick: _,
        reads,
        writes,
        share_ppm: _,
        unsplittable_ppm,
        rung,
        skill_permille: _,
        coverage80_permille: _,
    } = old;
    (range_start, range_end, node) != (&new.range_start, &new.range_end, &new.node)
        || (reads, writes) != (&new.reads, &new.writes)
        || (unsplittable_ppm, rung) != (&new.unsplittable_ppm, &new.rung)
}

#[cfg(test)]
mod tests {
    use schemas::{Epoch, Key, KeySpan, Millis, RangeId};

    use super::*;

    fn record(tick: Tick, read_us: i64, total_us: i64) -> RangeHeated {
        let range = RangeState {
            id: RangeId(1),
            span: KeySpan { start: Key(vec![1]), end: Key(vec![2]) },
            node: Some(NodeId("n1".into())),
            epoch: Epoch(3),
            bytes: 0,
            cool_until: 0,
            join_after: 0,
            pinned: false,
            built: Millis(0),
            due: Millis(0),
        };
        let heat = Rolling::of(Heat { reads: 1, read_us, ..Heat::default() });
        let forecast = RangeForecast::default();
        let (unsplittable_ppm, rung, tick_ms, score) = (0, "ewma", 5000, Score::default());
        heated(
            &range,
            Facts { tick, tick_ms, heat, forecast, total_us, unsplittable_ppm, rung, score },
        )
    }

    #[test]
    fn load_is_per_second_of_its_window() {
        let record = record(7, 60_000, 240_000);
        assert_eq!(record.reads.now, [12_000, 2000, 400, 100].map(quantise));
        assert_eq!(record.writes.now, [0; 4]);
        assert_eq!(record.share_ppm, 250_000);
    }

    #[test]
    fn only_a_changed_quantum_is_news() {
        let old = record(7, 60_000, 240_000);
        assert!(!is_news(&old, &record(8, 60_000, 999_000)), "another share");
        assert!(!is_news(&old, &record(8, 60_010, 240_000)), "within a quantum");
        assert!(is_news(&old, &record(8, 62_000, 240_000)));
    }
}
