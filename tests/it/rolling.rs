//! All processes under load on a real Kafka: each is restarted in order, a worker joins, the planner is
//! gone for a while; no read fails, and in the end the index equals its table.
//!
//! ```text
//!  load ──> 2 routers ──> 4 workers, then 5 <── 2 channels <── table <── load
//!                         planner, in auto ──┘
//!  SIGTERM to each of them, one after the other ──> 0, started again ──> ready
//! ```

use isotherm::cli::exit::Exit;
use schemas::operator_command::OperatorCommand;
use serde_json::Value;

use crate::moved::{check, ranges};
use crate::world::{Load, Process, World, await_that};

const NODES: [&str; 4] = ["n0", "n1", "n2", "n3"];

const PLANNER: &str = "planner";

/// What joins them.
const FIFTH: &str = "n4";

/// Of each node, in microseconds of service a second.
const CAPACITY: &str = "75000";

/// Each counts 4 ms: half of what four nodes can do. A write counts next to nothing, or nodes would have the rows to
/// do for a while.
const READS_PER_S: &str = "37";

/// Four nodes are too warm by so many, and five are not.
const MORE_READS_PER_S: &str = "53";

/// As long as it takes: it is ended.
const FOR_NOW: &str = "20m";

const KEYS: &str = "20000";

#[test]
fn no_read_fails_while_all_restart_a_worker_joins_and_the_planner_is_away() {
    let Some(mut world) = World::create("rolling", &[]) else { return };
    world.birth_nodes = NODES.len() as u32;
    world.more = r#"birth_ranges = 16
        key_first = "0x0000000000000000"
        key_last = "0x0000000000004e20"
        [costs]
        read_us = 4000
        write_us = 10
        [channel]
        watermark_every = "500ms"
        [worker]
        report_every = "300ms"
        grace = "1s""#;
    let mut cluster = Cluster::start(&world);
    let routers = [cluster.port("r0"), cluster.port("r1")];
    let fill = [&played(READS_PER_S, FOR_NOW)[..], &["--fill"]].concat();
    let load = Load::start(&world, "rolling", routers, &fill);
    load.await_begun();
    let all: Vec<_> = cluster.processes.iter().map(|it| it.name).collect();
    for name in all {
        cluster.restart(name);
    }
    cluster.await_tick(world.last_tick().unwrap() + 2);
    load.end();

    assert_eq!(owned(&world, FIFTH), Vec::<Value>::new());
    let load = Load::start(&world, "joined", routers, &played(MORE_READS_PER_S, FOR_NOW));
    cluster.processes.push(Member::start(&world, FIFTH));
    cluster.await_ready(FIFTH);
    await_that("ranges of the fifth worker, which are read there", || {
        let is_read = |it: &Value| it["reads_us_per_s"].as_u64() > Some(0);
        let reads = |it: &&Value| it["migration"].is_null() && is_read(it);
        (2 <= owned(&world, FIFTH).iter().filter(reads).count()).then_some(())
    });
    load.end();
    assert_eq!(world.values::<OperatorCommand>(), [], "nobody has asked for anything");

    cluster.processes[0].process.kill_now();
    let last = world.last_tick().unwrap();
    Load::start(&world, "away", routers, &played(READS_PER_S, "30s")).ended();
    assert_eq!(world.last_tick().unwrap(), last, "nobody plans");
    cluster.processes[0] = Member::start(&world, PLANNER);
    cluster.await_ready(PLANNER);
    cluster.await_tick(last + 1);

    let said = check(&world, &["verify", "--timeout", "100s"], Exit::Done, "0 missing, 0 extra");
    assert!(said.contains("0 stale, 0 foreign; 0 gaps, 0 overlaps"), "{said}");
    for it in cluster.processes {
        it.end();
    }
}

fn played<'a>(reads_per_s: &'a str, duration: &'a str) -> [&'a str; 10] {
    let [reads, writes, long] = ["--reads-per-s", "--writes-per-s", "--duration"];
    ["--scenario", "uniform", "--keys", KEYS, reads, reads_per_s, writes, "10", long, duration]
}

/// The ranges of a node, as they are listed.
fn owned(world: &World, node: &str) -> Vec<Value> {
    let ranges = ranges(world).unwrap_or_default();
    ranges.into_iter().filter(|it| it["node"] == *node).collect()
}

struct Cluster<'a> {
    world: &'a World,
    /// The planner is the first.
    processes: Vec<Member>,
}

struct Member {
    name: &'static str,
    process: Process,
}

impl<'a> Cluster<'a> {
    fn start(world: &'a World) -> Self {
        let names = [PLANNER].into_iter().chain(NODES).chain(["c0", "c1", "r0", "r1"]);
        let processes = names.map(|it| Member::start(world, it)).collect();
        let res = Self { world, processes };
        res.processes.iter().for_each(|it| res.await_ready(it.name));
        res
    }

    fn of(&self, name: &str) -> &Process {
        &self.processes.iter().find(|it| it.name == name).unwrap().process
    }

    fn await_tick(&mut self, tick: u64) {
        self.processes[0].process.await_tick(self.world, tick);
    }

    fn port(&self, name: &str) -> u16 {
        self.of(name).port()
    }

    fn await_ready(&self, name: &str) {
        let what = format!("{name} to be ready");
        await_that(&what, || (self.of(name).ask("/readyz")?.0 == 200).then_some(()));
    }

    /// As a supervisor does: asks it to end, waits, starts it again, waits until it is ready.
    fn restart(&mut self, name: &'static str) {
        let place = self.processes.iter().position(|it| it.name == name).unwrap();
        self.processes.remove(place).end();
        self.processes.insert(place, Member::start(self.world, name));
        self.await_ready(name);
    }
}

impl Member {
    fn start(world: &World, name: &'static str) -> Self {
        let process = match name.as_bytes()[0] {
            b'p' => world.start(name, &["planner", "--tick", "500ms"], None),
            b'c' => world.start(name, &["channel", "--member", name], None),
            b'r' => world.start(name, &["router"], None),
            _ => {
                let args = ["worker", "--dir", "data", "--node-id", name, "--capacity", CAPACITY];
                world.start(name, &args, None)
            }
        };
        Self { name, process }
    }

    fn end(self) {
        self.process.signal("-TERM");
        assert_eq!(self.process.ended().code(), Some(Exit::Done as i32), "{} has ended", self.name);
    }
}
