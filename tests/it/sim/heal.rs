//! Lets everybody get well: nothing goes wrong any more, all read all there is, until nothing happens.

use std::fmt::Write as _;

use isotherm::assignment::map::span_of;
use schemas::NodeId;

use super::checks;
use super::logs::PARTITIONS;
use super::workers::SOURCES;
use super::world::World;

/// So much time passes at once.
const ROUND_MS: u64 = 500;

/// Beyond the deadlines of migrations, and of what was late.
const ROUNDS_MAX: usize = 200;

/// For so long nothing is in flight before it counts as over.
const ROUNDS_CALM: usize = 6;

impl World {
    /// Heals, settles, and checks.
    pub fn heal(&mut self) {
        self.is_healing = true;
        self.heal_processes();
        self.settle_down();
        (0..self.routers.len()).for_each(|it| self.finish_reads(it));
        checks::healed(self);
        for _ in 0..3 {
            (0..self.routers.len()).for_each(|it| self.read_index(it));
            self.settle();
            (0..self.routers.len()).for_each(|it| self.finish_reads(it));
        }
        let written = std::mem::take(&mut self.logs.written);
        let retries = self.routers.iter_mut().map(|it| std::mem::take(&mut it.retries));
        let counts: Vec<_> = std::iter::once(written).chain(retries).flatten().collect();
        counts.into_iter().for_each(|(what, times)| self.count_many(what, times));
    }

    /// Lets time pass until nothing is in flight, or it has taken too long.
    pub fn settle_down(&mut self) {
        let mut calm = 0;
        for _ in 0..ROUNDS_MAX {
            self.round();
            let state = self.planner.planner.state();
            let is_calm = !state.map.is_empty() && state.migrations.iter().next().is_none();
            calm = if is_calm { calm + 1 } else { 0 };
            if calm == ROUNDS_CALM {
                break;
            }
        }
    }

    fn heal_processes(&mut self) {
        self.planner.calm();
        for worker in self.workers.values_mut() {
            worker.late.clear();
            worker.come_back();
        }
        self.channels.away_until = 0;
        for it in 0..self.channels.len() {
            self.channels.be_late(it, 0);
        }
        self.routers.iter_mut().for_each(|it| it.late_until = 0);
    }

    /// Lets time pass, and all do what there is to do.
    fn round(&mut self) {
        self.pass(ROUND_MS);
        let names: Vec<NodeId> = self.workers.keys().cloned().collect();
        names.iter().for_each(|it| self.report(it));
        self.settle();
    }

    fn settle(&mut self) {
        for turn in 0.. {
            assert!(turn < 3_000, "it comes to rest");
            let mut is_busy = self.plan();
            is_busy |= self.settle_channels();
            is_busy |= self.settle_workers();
            for it in 0..self.routers.len() {
                while self.routers[it].read_map(self.now, &self.logs, &mut self.requests) {
                    is_busy = true;
                }
            }
            while self.carry() {
                is_busy = true;
            }
            if !is_busy {
                return;
            }
        }
    }

    fn settle_channels(&mut self) -> bool {
        let Self { channels, logs, now, random, .. } = self;
        let mut is_busy = false;
        for it in 0..channels.len() {
            while channels.act(it, *now, logs, random) {
                is_busy = true;
            }
            is_busy |= channels.learn(it, *now, logs);
            while channels.act(it, *now, logs, random) {}
            while channels.read_map(it, *now, logs) {
                is_busy = true;
                while channels.act(it, *now, logs, random) {}
            }
            for partition in 0..PARTITIONS {
                while channels.read_row(it, partition, *now, logs) {
                    is_busy = true;
                    while channels.act(it, *now, logs, random) {}
                }
            }
        }
        is_busy
    }

    fn settle_workers(&mut self) -> bool {
        let mut is_busy = false;
        let names: Vec<NodeId> = self.workers.keys().cloned().collect();
        for one in names {
            let worker = self.workers.get_mut(&one).expect("all are there");
            while worker.read_map(self.now, &self.logs) {
                is_busy = true;
            }
            for source in SOURCES {
                while self.read(&one, source) {
                    is_busy = true;
                }
            }
            let worker = self.workers.get_mut(&one).expect("all are there");
            is_busy |= worker.scan(self.now, &self.logs);
            is_busy |= self.run(&one, usize::MAX, None);
        }
        is_busy
    }

    /// Lets a client get what it waits for.
    fn finish_reads(&mut self, router: usize) {
        for _ in 0..ROUNDS_MAX {
            if !self.routers[router].is_reading() {
                return;
            }
            self.round();
        }
        panic!("a read has failed: it is not answered at all");
    }

    /// Tells how things are, for whoever looks for what went wrong.
    pub fn told(&self) -> String {
        let mut res = format!("\nat {}, after {:?}\n", self.now, self.happened);
        for (name, worker) in &self.workers {
            let Some(runner) = worker.runner() else { continue };
            let worker = runner.worker();
            let waiting: Vec<_> = worker.waiting().collect();
            let _ = writeln!(
                res,
                "{name}: generation {}, started {}, waiting {waiting:?}, ignored {:?}",
                worker.generation().0,
                worker.is_started(),
                worker.ignored()
            );
            for held in worker.remembered().roles.values() {
                let _ = writeln!(res, "  {} {:?}", held.span, held.role);
            }
            let _ = writeln!(res, "  outgoing {:?}", worker.remembered().outgoing);
            let _ = writeln!(res, "  marks {:?}", worker.remembered().marks);
        }
        for (at, row) in self.logs.assignment.iter().enumerate() {
            let gone = if self.logs.assignment_gone.contains(&at) { "gone " } else { "" };
            let Some(it) = &row.assignment else {
                let _ = writeln!(res, "map {at} {gone}{} begins no range", row.start);
                continue;
            };
            let (span, last) = (span_of(it), if it.last { ", last" } else { "" });
            let _ = writeln!(
                res,
                "map {at} {gone}{span} {} epoch {} of {} generation {}{last}",
                it.node, it.epoch.0, it.source_epoch.0, it.generation.0
            );
        }
        let flights = self.planner.planner.state().migrations.iter().map(|it| it.0);
        let _ = writeln!(res, "in flight {:?}", flights.collect::<Vec<_>>());
        for status in self.logs.statuses.iter().rev().take(12).rev() {
            let _ = writeln!(res, "  {status:?}");
        }
        res
    }
}
