//! Moves by hand, as people type them, on a real Kafka: a planner that observes, nodes that stand in.

use std::io::{BufRead, BufReader};
use std::process::{Command, Output, Stdio};

use isotherm::cli::exit::Exit;
use isotherm::kafka::Connection;
use schemas::operator_command::OperatorCommand;
use schemas::plan::Planned;
use serde_json::Value;

use crate::killed::check_replay;
use crate::world::{Nodes, World, await_that};

#[test]
fn ranges_move_by_hand_though_the_planner_observes_and_is_killed() {
    let Some(mut world) = World::create("moved", &[]) else { return };
    world.mode = "observe";
    let mut planner = world.planner("moved", None);
    let _nodes = Nodes::start(&world.connection);
    let ranges = await_that("ranges that are settled and reported", || {
        let ranges = ranges(&world)?;
        let is_settled = |it: &Value| it["migration"].is_null() && !it["bytes"].is_null();
        ranges.iter().all(is_settled).then_some(ranges)
    });
    let text = |it: &Value| it.as_str().unwrap().to_owned();
    let (range, home) = (text(&ranges[3]["range"]), text(&ranges[3]["node"]));
    let others: Vec<_> = ["n0", "n1", "n2"].into_iter().filter(|it| *it != home).collect();
    // A chain, and the way back; the planner dies in between.
    for (i, to) in [others[0], others[1], &home].into_iter().enumerate() {
        if i == 1 {
            planner.kill();
            planner = world.planner("moved", None);
        }
        let args = ["move", &range, "--to", to, "--wait", "--reason", "by test"];
        let said = check(&world, &args, Exit::Done, "begins, ");
        assert!(said.contains("is complete"), "{said}");
        let located = run(&world, &["range", "locate", &text(&ranges[3]["range_start"])]);
        let line = String::from_utf8(located.stdout).unwrap();
        assert!(line.contains(&range) && line.contains(to), "{line}");
    }
    let asked = || world.values::<OperatorCommand>().len();
    assert_eq!(asked(), 3);
    check(&world, &["move", &range, "--to", others[0], "--dry-run"], Exit::Done, "would ask");
    check(&world, &["move", &range, "--to", &home], Exit::Stale, "already");
    check(&world, &["move", &range, "--to", "n9"], Exit::Refused, "n0, n1, n2");
    check(&world, &["move", "nowhere..else", "--to", "n1"], Exit::Stale, "no range is");
    assert_eq!(asked(), 3, "what cannot be is not asked");
    let nodes = run(&world, &["node", "list", "-o", "jsonl"]);
    assert_eq!(String::from_utf8(nodes.stdout).unwrap().lines().count(), 3);

    let plans: Vec<Planned> = world.values();
    let moves: Vec<_> = plans.iter().flat_map(|it| &it.moves).collect();
    assert_eq!(moves.len(), 3, "nothing else moved");
    assert!(plans.iter().flat_map(|it| &it.commands).all(|it| it.reason == "by test"));
    check_replay(&world, None);

    planner.kill();
    let args = ["move", &range, "--to", others[0], "--wait", "--timeout", "5s"];
    check(&world, &args, Exit::TimedOut, "no planner has answered");
    let args = ["move", &range, "--to", others[0], "--wait"];
    let mut child = isotherm(&world, &args).stderr(Stdio::piped()).spawn().unwrap();
    let mut said = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
    assert!(said.any(|it| it.starts_with("asked as c-")));
    assert!(said.any(|it| it.contains("which nodes are silent")));
    let id = child.id().to_string();
    assert!(Command::new("kill").args(["-INT", &id]).status().unwrap().success());
    assert!(said.any(|it| it.contains("look again") || it.contains("isotherm plan show latest")));
    assert_eq!(child.wait().unwrap().code(), Some(Exit::TimedOut as i32));
}

/// What `isotherm range list` tells; `None` while there is no assignment.
pub fn ranges(world: &World) -> Option<Vec<Value>> {
    let output = run(world, &["range", "list", "-o", "json"]);
    output.status.success().then(|| serde_json::from_slice(&output.stdout).unwrap())
}

/// Runs a command to its end; checks its status, and that it says this.
pub fn check(world: &World, args: &[&str], exit: Exit, part: &str) -> String {
    let output = run(world, args);
    let [data, said] = [output.stdout, output.stderr].map(|it| String::from_utf8(it).unwrap());
    let all = format!("{data}{said}");
    assert_eq!(output.status.code(), Some(exit as i32), "{args:?}: {all}");
    assert!(all.contains(part), "{args:?}: {part} is not in {all}");
    all
}

pub fn run(world: &World, args: &[&str]) -> Output {
    isotherm(world, args).output().unwrap()
}

pub fn isotherm(world: &World, args: &[&str]) -> Command {
    let Connection { bootstrap_servers, prefix, .. } = &world.connection;
    let mut command = Command::new(env!("CARGO_BIN_EXE_isotherm"));
    command.args(["--bootstrap-servers", bootstrap_servers, "--prefix", prefix]);
    command.args(args).env("NO_COLOR", "1").env_remove("ISOTHERM_LOG");
    command
}
