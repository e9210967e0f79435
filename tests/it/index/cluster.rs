//! The processes of the index.

use std::collections::BTreeMap;

use schemas::MigrationId;

use super::deaths::{Death, Kind, hold};
use super::told::Told;
use crate::world::{Process, World, await_that};

pub const NODES: [&str; 4] = ["n0", "n1", "n2", "n3"];

const CHANNELS: [&str; 2] = ["c0", "c1"];

/// All processes, but those that are started for a moment.
pub struct Cluster<'a> {
    world: &'a World,
    planner: Process,
    workers: BTreeMap<&'static str, Process>,
    channels: [Process; 2],
    pub routers: [Process; 2],
}

impl<'a> Cluster<'a> {
    pub fn start(world: &'a World) -> Self {
        let res = Self {
            world,
            planner: planner(world),
            workers: NODES.map(|it| (it, worker(world, it))).into(),
            channels: CHANNELS.map(|it| channel(world, it)),
            routers: ["r0", "r1"].map(|it| world.start(it, &["router"], None)),
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

    pub fn kill_channel(&mut self, n: usize) {
        self.channels[n].kill_now();
        self.channels[n] = channel(self.world, CHANNELS[n]);
    }

    pub fn kill_planner(&mut self) {
        self.planner.kill_now();
        self.planner = planner(self.world);
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
        self.workers.insert(node, worker(self.world, node));
        course.is_at(kind.1).then_some(Death { kind, node, migration, course })
    }
}

/// Slower than those of other tests, as so much else runs on the same machine.
fn planner(world: &World) -> Process {
    world.start("planner", &["planner", "--tick", "500ms"], None)
}

fn worker(world: &World, node: &str) -> Process {
    world.start(node, &["worker", "--dir", "data", "--node-id", node], None)
}

fn channel(world: &World, name: &str) -> Process {
    world.start(name, &["channel", "--member", name], None)
}
