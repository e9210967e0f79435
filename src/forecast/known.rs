//! What is known of a range: its load, what it is forecast from, and what was published of it.

use dataflows::forecast::{Forecast, RangeForecast, TARGETS};
use dataflows::heat::Rolling;
use dataflows::quanta::quantise;
use schemas::heatmap;
use serde::{Deserialize, Serialize};

use super::ewma::{Series, WIDE};
use super::{OPS, Quantiles, Rung};

/// What is known of a range with heat.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Known {
    pub load: [Load; OPS],
    pub series: [Series; OPS],
    pub published: Option<RangeForecast>,
}

/// What one kind of operation asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Load {
    /// In the last tick, in microseconds of service.
    pub tick_us: u64,
    /// In the widest window.
    pub wide_us: u64,
    pub wide_count: u64,
}

/// No operation in the widest window.
pub(super) const QUIET: [Load; OPS] = [Load { tick_us: 0, wide_us: 0, wide_count: 0 }; OPS];

/// So much of a tick, a second.
pub(super) fn per_second(tick_us: u64, tick_ms: u64) -> f32 {
    tick_us as f32 * 1_000.0 / tick_ms as f32
}

impl Load {
    /// Tells whether nothing was asked in the widest window.
    pub fn is_quiet(&self) -> bool {
        *self == Self::default()
    }

    pub fn of(rolling: &Rolling) -> [Self; OPS] {
        let (one, wide) = (rolling.one(), rolling.0[WIDE]);
        let load = |tick: i64, us: i64, count: i64| {
            let [tick_us, wide_us, wide_count] = [tick, us, count].map(|it| it.max(0) as u64);
            Self { tick_us, wide_us, wide_count }
        };
        [
            load(one.read_us, wide.read_us, wide.reads),
            load(one.write_us, wide.write_us, wide.writes),
        ]
    }
}

impl Known {
    /// What a rung says; without any load, that is no load at every level.
    pub fn forecast(
        &self,
        rung: Rung,
        tick_ms: u64,
        quantiles: impl Fn(usize, &Series) -> Quantiles,
    ) -> RangeForecast {
        let per_second = 1000.0 / tick_ms as f64;
        let op = |op: usize| match rung {
            Rung::Persistence => {
                let load = u128::from(self.load[op].tick_us) * 1000 / u128::from(tick_ms);
                let load = quantise(u64::try_from(load).unwrap_or(u64::MAX));
                Forecast([[load; heatmap::LEVELS.len()]; TARGETS])
            }
            // Rounded: a cast cuts off, and saturates far above the greatest quantum.
            Rung::Ewma | Rung::Ladder => Forecast(
                quantiles(op, &self.series[op])
                    .map(|row| row.map(|it| quantise((it * per_second + 0.5) as u64))),
            ),
        };
        RangeForecast { reads: op(0), writes: op(1) }
    }

    /// Returns the forecast if it differs from the published one, which it then is.
    pub fn publish(&mut self, forecast: RangeForecast) -> Option<Option<RangeForecast>> {
        let forecast = Some(forecast).filter(|it| *it != RangeForecast::default());
        (forecast != self.published).then(|| {
            self.published = forecast;
            forecast
        })
    }
}
