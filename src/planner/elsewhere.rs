//! What was forecast on another kind of processor: it is taken as it stands where its ticks are run again here.
//!
//! ```text
//!  planner_progress: total, rung, scores ──┐
//!                                          ├──> instead of what is forecast here ──> plan
//!  heatmap: ranges that were told anew ────┘
//! ```
//!
//! There a forecast may differ by a quantum, and so may a plan; what was sent by it has happened. Of a range that was not told
//! anew nothing has changed. What is known for later forecasts is learned here all the same.

use std::collections::BTreeMap;

use dataflows::forecast::RangeForecast;
use schemas::heatmap::RangeHeated;
use schemas::planner_progress::TickDone;
use schemas::{Key, RangeId};

use super::ranges::Ranges;
use crate::forecast::{self, Answers, Score};

/// The forecast of one tick, as the topics tell it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Elsewhere {
    /// The kind of processor.
    pub processor: String,
    pub rung: String,
    pub score: Score,
    total: RangeForecast,
    /// By the first key of the range.
    ranges: BTreeMap<Key, RangeForecast>,
}

impl Elsewhere {
    /// What the progress of a tick tells; `None` if it was run on such a processor as this. Fails when it has other quantiles.
    pub fn of(done: &TickDone) -> Result<Option<Self>, String> {
        if done.processor == forecast::processor() {
            return Ok(None);
        }
        Ok(Some(Self {
            processor: done.processor.clone(),
            rung: done.rung.clone(),
            score: Score {
                skill_permille: done.skill_permille,
                coverage80_permille: done.coverage80_permille,
            },
            total: match &done.total {
                Some(it) => RangeForecast::told(&it.reads, &it.writes)?,
                None => RangeForecast::default(),
            },
            ranges: BTreeMap::new(),
        }))
    }

    /// Takes in what the tick told of a range. Fails when it has other quantiles.
    pub fn add(&mut self, told: &RangeHeated) -> Result<(), String> {
        let forecast = RangeForecast::told(&told.reads.forecast, &told.writes.forecast)?;
        self.ranges.insert(told.range_start.clone(), forecast);
        Ok(())
    }

    /// Puts itself in the place of what is answered here; `known` is what was answered before it.
    pub fn replace(
        &self,
        answers: &mut Answers,
        ranges: &Ranges,
        known: &BTreeMap<RangeId, RangeForecast>,
    ) {
        // Those that have ended.
        answers.ranges.retain(|(id, it)| it.is_none() && ranges.get(*id).is_none());
        for (start, told) in &self.ranges {
            let Some(range) = ranges.at(start) else { continue };
            let told = Some(*told).filter(|it| *it != RangeForecast::default());
            if known.get(&range.id).copied() != told {
                answers.ranges.push((range.id, told));
            }
        }
        answers.ranges.sort_unstable_by_key(|(id, _)| *id);
        answers.total = self.total;
    }
}
