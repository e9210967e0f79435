//! Who is killed, and when.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::process::ExitStatusExt;
use std::time::{Duration, Instant};

use schemas::migration_status::Phase;
use schemas::plan::MoveChosen;
use schemas::{MigrationId, NodeId};

use super::loads::Loads;
use crate::index::cluster::{Cluster, NODES};
use crate::index::deaths::{Death, Side, table};
use crate::index::told::Told;
use crate::world::{World, await_that, say};

const SIGKILL: i32 = 9;

/// Where records are in an open transaction; the planner dies there by itself, when it is built for that.
const POINTS: [&str; 3] = ["sink-after-first-send", "sink-half-sent", "sink-before-commit"];

/// In each round; there as often at random.
const PLANNERS: usize = 5;

/// What has less is copied before anybody can be killed. Where the load is yet to come there may be nothing.
const COPIED_BYTES_MIN: u64 = 80_000;

/// So many moves are tried, until a worker dies in the phase that is wanted.
const TRIES: usize = 20;

/// So many ticks a planner has to split what is hot and to move it.
const RELIEF_TICKS: u64 = 6;

/// At a random time within it, a planner that has committed a tick is killed.
const RANDOM_MS: u64 = 1_500;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum What {
    /// At random, and the next one in an open transaction.
    Planners(usize),
    Worker(Phase),
    Channel,
    Router,
}

/// Kills, and keeps account.
pub struct Kills {
    random: u64,
    rounds: usize,
    /// By where it was: a named point, or nowhere in particular.
    planners: BTreeMap<&'static str, usize>,
    workers: Vec<Death>,
    channels: usize,
    routers: usize,
    tried: BTreeSet<MigrationId>,
}

impl Kills {
    pub fn new(seed: u64) -> Self {
        let (planners, workers, tried) = (BTreeMap::new(), Vec::new(), BTreeSet::new());
        Self { random: seed, rounds: 0, planners, workers, channels: 0, routers: 0, tried }
    }

    /// Kills everybody that is to be killed in a round: workers and all else, each in any order.
    pub fn all(
        &mut self,
        world: &World,
        cluster: &mut Cluster<'_>,
        told: &mut Told,
        loads: &mut Loads<'_>,
    ) {
        self.rounds += 1;
        let planners = (0..PLANNERS).map(What::Planners);
        let others = planners.chain([What::Channel, What::Router]);
        let workers = [Phase::Copying, Phase::Ready, Phase::Active].map(What::Worker);
        let mut due = [workers.to_vec(), others.collect()];
        while let Some(due) = due.iter_mut().find(|it| !it.is_empty()) {
            let next = due.swap_remove(self.below(due.len() as u64) as usize);
            let began = Instant::now();
            loads.go_on();
            match next {
                What::Planners(n) => self.kill_planners(world, cluster, told, POINTS[n % 3]),
                What::Worker(phase) => self.kill_worker(cluster, told, loads, phase),
                What::Channel => {
                    cluster.kill_channel(self.below(2) as usize);
                    self.channels += 1;
                }
                What::Router => {
                    cluster.kill_router(self.below(2) as usize);
                    self.routers += 1;
                }
            }
            say(&format!("killed {next:?} after {:.1} s", began.elapsed().as_secs_f64()));
        }
        cluster.await_ready();
    }

    fn kill_planners(
        &mut self,
        world: &World,
        cluster: &mut Cluster<'_>,
        told: &mut Told,
        point: &'static str,
    ) {
        let next = world.last_tick().map_or(0, |it| it + 1);
        cluster.planner.await_tick(world, next);
        let until = Instant::now() + Duration::from_millis(self.below(RANDOM_MS));
        while Instant::now() < until {
            told.poll();
        }
        let fail_point = format!("{point}={}*off->panic", 1 + self.below(3));
        cluster.kill_planner_for(Some(&fail_point));
        let status = cluster.bury_planner();
        assert_eq!(status.signal(), Some(SIGKILL), "{point}: {status}");
        *self.planners.entry(point).or_default() += 1;
        *self.planners.entry("anywhere").or_default() += 1;
        // Without a planner a hot node has too much to do, and reads wait longer and longer.
        let next = world.last_tick().map_or(0, |it| it + RELIEF_TICKS);
        cluster.planner.await_tick(world, next);
    }

    /// Kills source or destination of a move that the planner has decided.
    fn kill_worker(
        &mut self,
        cluster: &mut Cluster<'_>,
        told: &mut Told,
        loads: &mut Loads<'_>,
        phase: Phase,
    ) {
        for _ in 0..TRIES {
            let (migration, chosen) = await_that(&format!("a move for {phase:?}"), || {
                loads.go_on();
                told.poll();
                let is_before = |it| {
                    let course = told.course(it);
                    course.phase < Some(phase).max(Some(Phase::Ready)) && course.ends.is_empty()
                };
                let is_large =
                    |it: &MoveChosen| phase != Phase::Copying || COPIED_BYTES_MIN <= it.bytes;
                let is_new = |it: &(&MigrationId, &MoveChosen)| {
                    !self.tried.contains(it.0) && is_before(*it.0) && is_large(it.1)
                };
                let chosen: Option<(&MigrationId, &MoveChosen)> = told.chosen.iter().find(is_new);
                chosen.map(|it| (*it.0, it.1.clone()))
            });
            self.tried.insert(migration);
            let node = |name: &NodeId| NODES.into_iter().find(|it| *it == name.0).unwrap();
            let source = node(&chosen.source);
            let (side, dies) = match self.below(2) {
                0 => (Side::Source, source),
                _ => (Side::Destination, node(&chosen.destination)),
            };
            let death = match phase {
                Phase::Copying => {
                    cluster.kill_worker_copying(told, migration, (side, dies), source)
                }
                Phase::Ready | Phase::Active | Phase::Unknown => {
                    cluster.kill_worker_at(told, migration, (side, phase), dies)
                }
            };
            if let Some(it) = death {
                return self.workers.push(it);
            }
            let (bytes, course) = (chosen.bytes, told.course(migration));
            say(&format!("{migration} of {bytes} bytes was not at {phase:?}: {course:?}"));
        }
        panic!("of {TRIES} moves none was seen at {phase:?}");
    }

    /// Everybody was killed as often as it should be.
    pub fn check(&self, told: &Told) {
        let Self { rounds, planners, workers, channels, routers, .. } = self;
        say(&format!(
            "killed: planners {planners:?}, {channels} channels, {routers} routers, workers\n{}",
            table(workers, told)
        ));
        let dead = |it: &str| planners.get(it).copied().unwrap_or_default();
        assert!(PLANNERS * rounds <= dead("anywhere"), "{planners:?}");
        let named: usize = POINTS.map(dead).into_iter().sum();
        assert!(PLANNERS * rounds <= named && POINTS.iter().all(|it| 0 < dead(it)));
        for phase in [Phase::Copying, Phase::Ready, Phase::Active] {
            let dead = workers.iter().filter(|it| it.kind.1 == phase).count();
            assert!(*rounds <= dead, "{dead} workers were killed at {phase:?}");
        }
        assert!(rounds <= channels && rounds <= routers);
    }

    fn below(&mut self, n: u64) -> u64 {
        self.random = self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (self.random >> 33) % n
    }
}
