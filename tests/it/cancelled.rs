//! A move that does not get ready in time is cancelled, as processes on a real Kafka: the range stays where it
//! was, whoever hangs or dies meanwhile, and can be moved afterwards.
//!
//! ```text
//!  START ──> COPYING, slowly ── deadline ──> CANCEL ──> FAILED, says the destination
//!                                              └─ it hangs ──> FAILED, says the planner
//! ```

use isotherm::cli::exit::Exit;
use schemas::migrate_range::{Command, MigrateRange};
use schemas::migration_status::{MigrationStatus, Status};
use schemas::{MigrationId, NodeId};
use serde_json::Value;

use crate::killed::check_replay;
use crate::moved::{check, isotherm, ranges};
use crate::world::{Process, World, await_that};

const NODES: [&str; 2] = ["n0", "n1"];

/// At 30 kB/s a copy of half of them takes longer than the deadline.
const ROWS: &str = "4000";

const SLOW: &str = "bandwidth_bytes_per_s = 30000\ndeadline_ms = 2000";

#[test]
fn move_that_is_cancelled_leaves_the_range_where_it_was() {
    let Some(mut world) = World::create("cancelled", &[]) else { return };
    world.mode = "observe";
    world.birth_nodes = NODES.len() as u32;
    world.more = "cancel_grace = \"3s\"\nsplit_points = [\"8\"]\n[worker]\nreport_every = \"300ms\"
        [kafka.properties]\n\"compression.type\" = \"zstd\"";
    world.policy = SLOW;
    let mut planner = world.planner("cancelled", None);
    let mut workers = NODES.map(|it| worker(&world, it));
    let _channel = world.start("channel", &["channel"], None);
    check(&world, &["load", "--rows", ROWS], Exit::Done, "");
    let range = await_that("rows in ranges that are settled", || {
        let ranges = ranges(&world)?;
        let count = |it: &Value| it["entries"].as_u64().filter(|_| it["migration"].is_null());
        let entries = ranges.iter().map(count).sum::<Option<u64>>()?;
        (ranges.len() == 2 && entries == ROWS.parse::<u64>().unwrap()).then(|| ranges[1].clone())
    });
    let text = |it: &Value| it.as_str().unwrap().to_owned();
    let (name, home) = (text(&range["range"]), text(&range["node"]));
    let (source, destination) = if home == "n0" { (0, 1) } else { (1, 0) };
    let stays = |world: &World| {
        let ranges = ranges(world).unwrap();
        assert_eq!((&ranges[1]["node"], &ranges[1]["epoch"]), (&range["node"], &range["epoch"]));
        verified(world);
    };
    let begin = |world: &World| {
        let before = commands(world, Command::Start).len();
        let child = isotherm(world, &["move", &name, "--to", NODES[destination], "--wait"]).spawn();
        let begun = || commands(world, Command::Start).get(before).copied();
        let migration = await_that("a copy", || {
            let migration = begun()?;
            told(world, migration)
                .contains(&(NODES[destination].into(), Status::InProgress))
                .then_some(migration)
        });
        (child.unwrap(), migration)
    };

    // Both are well: the destination says it.
    let (mut child, first) = begin(&world);
    assert_eq!(child.wait().unwrap().code(), Some(Exit::Failed as i32));
    assert_eq!(ends(&world, first), [(NODES[destination].to_owned(), Status::Failed)]);
    stays(&world);

    // The source dies, and is there again when all is decided.
    let (mut child, second) = begin(&world);
    workers[source].kill_now();
    assert_eq!(child.wait().unwrap().code(), Some(Exit::Failed as i32));
    workers[source] = worker(&world, NODES[source]);
    stays(&world);

    // The destination hangs, and does not know when it goes on.
    let (mut child, third) = begin(&world);
    workers[destination].signal("-STOP");
    assert_eq!(child.wait().unwrap().code(), Some(Exit::Failed as i32));
    assert_eq!(ends(&world, third)[0].0, "planner", "{:?}", told(&world, third));
    workers[destination].signal("-CONT");
    stays(&world);
    assert_eq!(commands(&world, Command::Cancel), [first, second, third]);

    // With more time it moves, over what was left of the copies.
    planner.kill_now();
    world.policy = "";
    planner = world.planner("cancelled", None);
    check(
        &world,
        &["move", &name, "--to", NODES[destination], "--wait"],
        Exit::Done,
        "is complete",
    );
    verified(&world);
    assert_eq!(commands(&world, Command::Cancel).len(), 3);
    planner.signal("-TERM");
    assert!(planner.await_end().success());
    check_replay(&world, None);
}

fn worker(world: &World, node: &str) -> Process {
    world.start(node, &["worker", "--dir", "data", "--node-id", node], None)
}

fn verified(world: &World) {
    let said = check(world, &["verify", "--timeout", "100s"], Exit::Done, "0 missing, 0 extra");
    assert!(said.contains("0 stale, 0 foreign; 0 gaps, 0 overlaps"), "{said}");
}

fn commands(world: &World, of: Command) -> Vec<MigrationId> {
    let commands: Vec<MigrateRange> = world.values();
    commands.iter().filter(|it| it.command == of).map(|it| it.migration).collect()
}

fn told(world: &World, of: MigrationId) -> Vec<(String, Status)> {
    let statuses: Vec<MigrationStatus> = world.values();
    let statuses = statuses.into_iter().filter(|it| it.migration == of);
    statuses
        .map(|MigrationStatus { teller: NodeId(teller), status, .. }| (teller, status))
        .collect()
}

fn ends(world: &World, of: MigrationId) -> Vec<(String, Status)> {
    let mut told = told(world, of);
    told.retain(|it| matches!(it.1, Status::Complete | Status::Failed));
    told
}
