//! The processes of the index.

use std::collections::BTreeMap;
use std::process::ExitStatus;

use schemas::MigrationId;
use schemas::migration_status::Phase;

use super::deaths::{Death, Kind, Side, hold};
use super::told::{Course, Told};
use crate::world::{PATIENCE, Process, World, await_that};

pub const NODES: [&str; 4] = ["n0", "n1", "n2", "n3"];

const CHANNELS: [&str; 2] = ["c0", "c1"];

const ROUTERS: [&str; 2] = ["r0", "r1"];

/// How large nodes are, and how long a tick is.
#[derive(Clone, Copy)]
pub struct Size {
    /// Of each node, in microseconds of service a second; `None` is the default.
    pub capacities: [Option<u64>; 4],
    pub tick: &'static str,
}

impl Default for Size {
    fn default() -> Self {
        // Slower than those of other tests, as so much else runs on the same machine.
        Self { capacities: [None; 4], tick: "500ms" }
    }
}

/// All processes, but those that are started for a moment.
pub struct Cluster<'a> {
    world: &'a World,
    size: Size,
    pub planner: Process,
    workers: BTreeMap<&'static str, Process>,
    channels: [Process; 2],
    pub routers: [Process; 2],
}

impl<'a> Cluster<'a> {
    pub fn start(world: &'a World, size: &Size) -> Self {
        let res = Self {
            world,
            size: *size,
            planner: planner(world, size, None),
            workers: NODES.map(|it| (it, worker(world, size, it))).into(),
            channels: CHANNELS.map(|it| channel(world, it)),
            routers: ROUTERS.map(|it| router(world, it)),
        };
        res.await_ready();
        res
    }

    pub fn await_ready(&self) {
        let all = self.workers.values().chain(&self.channels).chain(&self.routers);
        for it in all.chain([&self.planner]) {
            let what = format!("{} to be ready", it.log_path().display());
            await_that(&what, || (it.ask("/readyz")?.0 == 200).then_some(()));
        }
    }

    /// What each worker has counted since it was last started.
    pub fn counted(&self) -> Vec<String> {
        let counts = |it: &Process| {
            let (_, said) = it.ask("/readyz?verbose")?;
            said.lines().find(|it| it.starts_with("[+] counts: ")).map(str::to_owned)
        };
        let of = |it: &Process| await_that("counts of a worker", || counts(it));
        self.workers.values().map(of).collect()
    }

    pub fn kill_channel(&mut self, n: usize) {
        self.channels[n].kill_now();
        self.channels[n] = channel(self.world, CHANNELS[n]);
    }

    pub fn kill_router(&mut self, n: usize) {
        self.routers[n].kill_now();
        self.routers[n] = router(self.world, ROUTERS[n]);
    }

    pub fn kill_planner(&mut self) {
        self.kill_planner_for(None);
    }

    /// Waits until the planner has died by itself, and starts another.
    pub fn bury_planner(&mut self) -> ExitStatus {
        let status = self.planner.await_end();
        self.planner = planner(self.world, &self.size, None);
        status
    }

    /// The next one dies by itself, where its fail points say so.
    pub fn kill_planner_for(&mut self, fail_points: Option<&str>) {
        self.planner.kill_now();
        self.planner = planner(self.world, &self.size, fail_points);
    }

    /// Kills a worker while a move from `source` copies, which sends no more until then: a copy is quick.
    /// `None`, if all of it was sent before.
    pub fn kill_worker_copying(
        &mut self,
        told: &mut Told,
        migration: MigrationId,
        (side, node): (Side, &'static str),
        source: &'static str,
    ) -> Option<Death> {
        if !told.is_soon(migration, PATIENCE, Course::is_sending) {
            return None;
        }
        self.workers[source].signal("-STOP");
        told.catch_up();
        let course = told.course(migration);
        let is_sending = course.is_sending();
        if is_sending {
            self.workers.get_mut(node).unwrap().kill_now();
            self.workers.insert(node, worker(self.world, &self.size, node));
        }
        self.workers[source].signal("-CONT");
        let kind = (side, Phase::Copying);
        is_sending.then_some(Death { kind, node, migration, course })
    }

    /// Kills a worker in a phase of a move, and starts it again at once; `None`, if it was not in it.
    pub fn kill_worker_at(
        &mut self,
        told: &mut Told,
        migration: MigrationId,
        kind: Kind,
        node: &'static str,
    ) -> Option<Death> {
        let held = hold(told, migration, kind.1, &self.planner, &self.channels[1])?;
        self.workers.get_mut(node).unwrap().kill_now();
        told.catch_up();
        let course = told.course(migration);
        drop(held);
        self.workers.insert(node, worker(self.world, &self.size, node));
        course.is_at(kind.1).then_some(Death { kind, node, migration, course })
    }
}

fn planner(world: &World, size: &Size, fail_points: Option<&str>) -> Process {
    world.start("planner", &["planner", "--tick", size.tick], fail_points)
}

fn worker(world: &World, size: &Size, node: &str) -> Process {
    let place = NODES.iter().position(|it| *it == node).unwrap();
    let capacity = size.capacities[place].map(|it| it.to_string());
    let capacity = capacity.iter().flat_map(|it| ["--capacity", it]);
    let args = ["worker", "--dir", "data", "--node-id", node].into_iter().chain(capacity);
    world.start(node, &args.collect::<Vec<_>>(), None)
}

fn channel(world: &World, name: &str) -> Process {
    world.start(name, &["channel", "--member", name], None)
}

fn router(world: &World, name: &str) -> Process {
    world.start(name, &["router"], None)
}
