//! Draws what a run is like from its seed: what may go wrong, how often, and how narrow limits are.

use rand::{Rng, SeedableRng};
use rand_pcg::Pcg64;

/// The one generator of a run.
pub struct Random(Pcg64);

impl Random {
    pub fn of(seed: u64) -> Self {
        Self(Pcg64::seed_from_u64(seed))
    }

    /// A number below `n`, which is not 0.
    pub fn below(&mut self, n: u64) -> u64 {
        self.0.random_range(0..n)
    }

    pub fn index(&mut self, len: usize) -> usize {
        self.0.random_range(0..len)
    }

    /// True one time in `n`.
    pub fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    pub fn pick<T: Clone>(&mut self, of: &[T]) -> T {
        of[self.index(of.len())].clone()
    }
}

/// What can happen next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    TimePasses,
    RowIsWritten,
    NodeReports,
    PlannerTicks,
    SomebodyMoves,
    WorkerWorks,
    WorkerReadsMap,
    WorkerScans,
    ChannelReads,
    ChannelReadsMap,
    ChannelActs,
    RouterReadsMap,
    ClientAsks,
    RequestIsCarried,
    Fault(Fault),
}

/// What can go wrong, or need not be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    PlannerDies,
    PlannerIsReplaced,
    WorkerDies,
    WorkerDiesInStep,
    WorkerIsAway,
    ChannelDies,
    ChannelIsReplaced,
    PartitionGoesOver,
    ChannelsAreAway,
    RouterDies,
    SomethingIsLate,
    TableIsCompacted,
    MapIsCompacted,
}

/// How often each step is, and each fault, of all that are.
const STEPS: [(Step, u64); 14] = [
    (Step::TimePasses, 85),
    (Step::RowIsWritten, 70),
    (Step::NodeReports, 30),
    (Step::PlannerTicks, 90),
    (Step::SomebodyMoves, 45),
    (Step::WorkerWorks, 450),
    (Step::WorkerReadsMap, 90),
    (Step::WorkerScans, 30),
    (Step::ChannelReads, 90),
    (Step::ChannelReadsMap, 40),
    (Step::ChannelActs, 160),
    (Step::RouterReadsMap, 30),
    (Step::ClientAsks, 60),
    (Step::RequestIsCarried, 170),
];

const FAULTS: [(Fault, u64); 13] = [
    (Fault::PlannerDies, 2),
    (Fault::PlannerIsReplaced, 1),
    (Fault::WorkerDies, 4),
    (Fault::WorkerDiesInStep, 10),
    (Fault::WorkerIsAway, 1),
    (Fault::ChannelDies, 3),
    (Fault::ChannelIsReplaced, 5),
    (Fault::PartitionGoesOver, 5),
    (Fault::ChannelsAreAway, 2),
    (Fault::RouterDies, 2),
    (Fault::SomethingIsLate, 10),
    (Fault::TableIsCompacted, 8),
    (Fault::MapIsCompacted, 3),
];

/// What one run is like.
#[derive(Clone, Debug)]
pub struct Options {
    pub nodes: usize,
    pub steps: usize,
    /// All ranges are active before anything goes wrong.
    pub begins_settled: bool,
    /// Rows of before the first assignment.
    pub rows_before: u64,
    /// So much time passes at once, at most.
    pub time_ms_max: u64,
    pub deadline_ms: u64,
    /// Ranges are split, joined and moved by heat, too.
    pub by_heat: bool,
    pub credit_bytes: u64,
    pub backlog_bytes_max: usize,
    pub cursor_max: usize,
    pub records_max: usize,
    /// So long a row of the table is left alone, unless all channels have it behind them.
    pub compaction_lag_ms: u64,
    weights: Vec<(Step, u64)>,
}

impl Options {
    pub fn drawn(random: &mut Random) -> Self {
        // How quick others are beside one another.
        let quick = |(step, weight)| (step, weight * random.pick(&[2, 3, 3, 5]) / 3);
        let mut weights: Vec<_> = STEPS.map(quick).into();
        // What goes wrong, and how often.
        let often = |(fault, weight)| (Step::Fault(fault), weight * random.pick(&[0, 1, 1, 4]));
        weights.extend(FAULTS.map(often));
        let steps = random.pick(&[600, 1_200, 1_800]);
        // All of it, about: shorter than a read may take, which nobody is to answer in such times.
        let trouble_ms = random.pick(&[5_000, 12_000, 20_000]);
        let all: u64 = weights.iter().map(|it| it.1).sum();
        let time_passes = steps as u64 * weights[0].1 / all;
        Self {
            nodes: random.pick(&[2, 3, 3, 4]),
            steps,
            begins_settled: !random.one_in(4),
            rows_before: random.pick(&[0, 0, 12, 30]),
            time_ms_max: 2 * trouble_ms / time_passes,
            deadline_ms: random.pick(&[2_000, 6_000, 60_000, 60_000]),
            by_heat: random.one_in(2),
            credit_bytes: random.pick(&[150, 400, 5_000]),
            backlog_bytes_max: random.pick(&[100, 300, 100_000]),
            cursor_max: random.pick(&[1, 2, 20]),
            records_max: random.pick(&[2, 8, 8]),
            compaction_lag_ms: random.pick(&[1_500, 4_000, 60_000]),
            weights,
        }
    }

    pub fn next(&self, random: &mut Random) -> Step {
        let all: u64 = self.weights.iter().map(|it| it.1).sum();
        let mut left = random.below(all);
        for (step, weight) in &self.weights {
            if left < *weight {
                return *step;
            }
            left -= weight;
        }
        unreachable!("less than all is left")
    }
}
