//! Tells what a tick led to: plan, assignment, commands, statuses, heat, dead letters, progress.

use std::collections::BTreeSet;

use schemas::NodeId;
use schemas::plan::{HeatCited, Planned};
use schemas::planner_progress::{self, LinearWeights, Progress, TickDone, TotalForecast};
use schemas::wire::{Record, encode};
use sha2::{Digest, Sha256};

use super::super::publish::{Facts, heated, is_news};
use super::super::ranges::RangeState;
use super::super::settings::Mode;
use super::super::snapshot::{Slot, chunks, hex};
use super::{Planner, Tick, TickOutputs};
use crate::fail_points;
use crate::forecast::linear::Linear;
use crate::forecast::{self, Refitted};
use crate::kafka::Output;

impl Planner {
    /// Tells whether the sums of all cells are wanted at the end of this tick.
    pub fn is_snapshot_due(&self) -> bool {
        let every = self.state.settings.snapshot_ticks;
        every > 0 && (self.is_adopting || self.turn.tick.is_multiple_of(every))
    }

    /// Ends the tick; `all` are the sums of all cells, if they were wanted.
    pub fn finish(&mut self, all: Option<Vec<Slot>>) -> TickOutputs {
        let mut res = std::mem::take(&mut self.turn.outputs);
        res.loads = self.loads();
        res.unsplittable_ppm = self.unsplittable_of_all_ppm();
        let mut outputs = std::mem::take(&mut res.outputs);
        if let Some(plan) = &res.plan {
            outputs.insert(0, output(plan.plan.as_bytes().to_vec(), plan));
        }
        outputs.extend(std::mem::take(&mut self.turn.statuses));
        outputs.extend(std::mem::take(&mut self.turn.heat));
        outputs.extend(std::mem::take(&mut self.turn.dead));
        res.done =
            self.done(outputs.iter().filter(|it| it.topic == schemas::dead_letter::TOPIC).count());

        self.state.migrations.written(self.turn.end);
        self.state.tick = self.turn.tick;
        self.is_fresh = false;
        if let Some(slots) = all {
            self.is_adopting = false;
            let slots = self.as_of_next(slots);
            self.outbox.replace(chunks(self.turn.tick, &self.state, slots));
        }
        let progress = |it: Progress| output(Vec::new(), &it);
        for chunk in self.outbox.poll_tick() {
            outputs.push(progress(Progress { tick: None, chunk: Some(chunk) }));
        }
        outputs.push(progress(Progress { tick: Some(res.done.clone()), chunk: None }));
        res.outputs = outputs;
        res
    }

    /// The plan of the tick, if there is something to say.
    pub(super) fn plan(&mut self) -> Option<Planned> {
        let decision = std::mem::take(&mut self.turn.decision);
        let done = decision.moves.len() + decision.splits.len() + decision.joins.len();
        let done = done + self.turn.rebuilds.len();
        let score = self.score();
        let mut plan = Planned {
            plan: self.plan_id(),
            tick: self.turn.tick,
            tick_start_ms: self.turn.tick * self.turn.tick_ms,
            tick_ms: self.turn.tick_ms,
            mode: match self.state.settings.mode {
                Mode::Observe => "observe".to_owned(),
                Mode::Auto => "auto".to_owned(),
            },
            inputs_digest: String::new(),
            policy_digest: self.policy.1.clone(),
            digest: String::new(),
            why: decision.why,
            moves: decision.moves,
            splits: decision.splits,
            joins: decision.joins,
            rejected: decision.rejected,
            rests_on: std::mem::take(&mut self.turn.rests_on),
            unsplittable_ppm: self.unsplittable_of_all_ppm(),
            rung: self.rung().to_owned(),
            skill_permille: score.skill_permille,
            coverage80_permille: score.coverage80_permille,
            commands: std::mem::take(&mut self.turn.answers),
            rebuilds: std::mem::take(&mut self.turn.rebuilds),
        };
        if done == 0 && plan.commands.is_empty() {
            // Why nothing is done is said once, not at every tick.
            let refusal = digest_of(&(
                plan.why.iter().map(|it| &it.node).collect::<Vec<_>>(),
                plan.rejected.iter().map(|it| (&it.range_start, &it.reason)).collect::<Vec<_>>(),
            ));
            if plan.rejected.is_empty() || refusal == self.state.last_refusal {
                return None;
            }
            self.state.last_refusal = refusal;
        }
        plan.inputs_digest =
            digest_of(&(&plan.rests_on, &plan.why, &plan.policy_digest, &plan.commands));
        plan.digest = digest_of(&plan);
        Some(plan)
    }

    pub(super) fn plan_id(&self) -> String {
        format!("p-{}", self.turn.tick)
    }

    /// The published heat of the ranges that the decision names, all published by now.
    pub(super) fn rests_on(&self) -> Vec<HeatCited> {
        let it = &self.turn.decision;
        let joined = it.joins.iter().flat_map(|it| std::iter::once(&it.range_start).chain(&it.at));
        let named = it.moves.iter().map(|it| &it.range_start);
        let named = named.chain(it.splits.iter().map(|it| &it.range_start));
        let named = named.chain(joined).chain(it.rejected.iter().map(|it| &it.range_start));
        let cited = |start| {
            let record = self.state.published.get(start)?;
            Some(HeatCited {
                range_start: record.range_start.clone(),
                tick: record.tick,
                reads: record.reads.forecast.clone(),
                writes: record.writes.forecast.clone(),
            })
        };
        named.collect::<BTreeSet<_>>().into_iter().filter_map(cited).collect()
    }

    /// Heat of ranges that has changed, as of the assignment that the tick began with.
    pub(super) fn publish(&mut self) {
        let total_us = self.state.range_heat.values().map(|it| it.six().cost_us()).sum();
        let (rung, score) = (self.rung().to_owned(), self.score());
        let ids: Vec<_> = self.turn.heated.iter().copied().collect();
        // Of other ranges no cell has samples, so nothing is known that no split can help.
        let watched: BTreeSet<_> = self.state.cells.watched().map(|(_, it)| it.range).collect();
        for id in ids {
            let Some(range) = self.state.ranges.get(id) else { continue };
            let heat = self.state.range_heat.get(&id).copied().unwrap_or_default();
            let forecast = self.state.forecasts.get(&id).copied().unwrap_or_default();
            let facts = Facts {
                tick: self.turn.tick,
                tick_ms: self.turn.tick_ms,
                heat,
                forecast,
                total_us,
                unsplittable_ppm: match watched.contains(&id) {
                    true => self.unsplittable_ppm(range),
                    false => 0,
                },
                rung: &rung,
                score,
            };
            let record = heated(range, facts);
            let old = self.state.published.get(&range.span.start);
            if old.is_none_or(|old| is_news(old, &record)) {
                self.turn.heat.push(output(range.span.start.0.clone(), &record));
                self.state.published.insert(range.span.start.clone(), record);
            }
        }
    }

    fn unsplittable_ppm(&self, range: &RangeState) -> u32 {
        let (mut hot, mut all) = (0_i128, 0_i128);
        for (id, cell) in self.state.cells.within(&range.span.start, &range.span.end) {
            let cost = i128::from(cell.heat.six().cost_us());
            all += cost;
            hot += cost
                * i128::from(self.state.cells.unsplittable_ppm(id, &self.state.settings.cells));
        }
        (hot / all.max(1)).clamp(0, 1_000_000) as u32
    }

    /// Of the load of all ranges, the part that no split can help.
    fn unsplittable_of_all_ppm(&self) -> u32 {
        let cells = &self.state.cells;
        let hot: i128 = cells
            .watched()
            .map(|(id, it)| {
                let ppm = cells.unsplittable_ppm(id, &self.state.settings.cells);
                i128::from(it.heat.six().cost_us()) * i128::from(ppm)
            })
            .sum();
        let all =
            self.state.range_heat.values().map(|it| i128::from(it.six().cost_us())).sum::<i128>();
        (hot / all.max(1)).clamp(0, 1_000_000) as u32
    }

    fn done(&mut self, dead: usize) -> TickDone {
        let score = self.score();
        let (text, digest) = &self.policy;
        let is_new = *digest != self.state.policy_digest;
        self.state.policy_digest.clone_from(digest);
        let mut done = TickDone {
            policy_digest: digest.clone(),
            // With a snapshot as well: what stands before it may be deleted.
            policy: (is_new || self.is_snapshot_due()).then(|| text.clone()),
            total: Some(TotalForecast {
                reads: (&self.state.total.reads).into(),
                writes: (&self.state.total.writes).into(),
            }),
            refit: self.turn.refitted.take().map(|it| refit(self.turn.tick, it)),
            rung: self.rung().to_owned(),
            skill_permille: score.skill_permille,
            coverage80_permille: score.coverage80_permille,
            processor: fail_points::said("processor")
                .unwrap_or_else(|| forecast::processor().to_owned()),
            queries: self.turn.queries,
            late: self.turn.late,
            dead: dead as u64,
            overload_ms: self.overload_ms(),
            ..TickDone::default()
        };
        self.turn.bounds.as_ref().expect("a tick has begun").write_to(&mut done);
        done
    }

    /// Overload of all nodes in this tick, in node-milliseconds.
    fn overload_ms(&self) -> u64 {
        let nodes = self.nodes();
        let over = |(node, load): (NodeId, u64)| {
            let capacity = u128::from(nodes.get(&node)?.capacity_us_per_s).max(1);
            let permille = u128::from(load) * 1000 / capacity;
            let over =
                permille.saturating_sub(u128::from(self.state.settings.policy.warm_permille));
            Some((over * u128::from(self.turn.tick_ms) / 1000) as u64)
        };
        self.loads().into_iter().filter_map(over).sum()
    }
}

/// Makes the record of a topic.
pub(super) fn output<R: Record>(key: Vec<u8>, record: &R) -> Output {
    Output::new(R::TOPIC, key, encode(record))
}

fn digest_of<T: serde::Serialize>(it: &T) -> String {
    hex(&Sha256::digest(serde_json::to_vec(it).expect("plain values can be written")))
}

fn refit(tick: Tick, Refitted { lag, linear }: Refitted) -> planner_progress::Refitted {
    let weights = |it: &Linear| it.weights().as_flattened().to_vec();
    let weights = linear.map(|it| {
        let [reads, writes] = it.each_ref().map(weights);
        LinearWeights { reads, writes }
    });
    planner_progress::Refitted { begun: tick.saturating_sub(lag), weights }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::forecast::features::{CONSTANT, FEATURES};
    use crate::forecast::linear::Gram;

    #[test]
    fn weights_are_told_by_operation_feature_and_target() {
        let linear = |targets: [f32; 5]| {
            let mut gram = Gram::default();
            for n in 0..2_000 {
                let mut row = [0.0; FEATURES];
                (row[CONSTANT], row[7]) = (1.0, (n % 13) as f32);
                gram.add(&row, &targets.map(|it| it * row[7]));
            }
            gram.fit().expect("there are rows")
        };
        let linear = Some([linear([0.0, 1.0, 2.0, 3.0, 4.0]), linear([5.0; 5])]);
        let told = refit(70, Refitted { lag: 5, linear });
        let weights = told.weights.expect("it is fitted");
        let of = |it: &[f32]| it[7 * 5..][..5].iter().map(|it| it.round()).collect::<Vec<_>>();
        assert_eq!(of(&weights.reads), [0.0, 1.0, 2.0, 3.0, 4.0]);
        assert_eq!(of(&weights.writes), [5.0; 5]);
        assert_eq!(told.begun, 65);
        assert_eq!(refit(70, Refitted { lag: 5, linear: None }).weights, None);
    }
}
