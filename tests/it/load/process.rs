//! `isotherm load` as people type it: what cannot be played, and a scenario on real processes of which one dies.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Output, Stdio};

use isotherm::cli::exit::Exit;
use serde_json::Value;

use super::standin::{Mood, Standin};
use crate::moved::{check, isotherm, ranges};
use crate::world::{Process, World, await_that};

const KEYS: u64 = 5_000;

/// Nothing of these asks Kafka for anything.
#[test]
fn load_that_cannot_be_played_says_why_and_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let trace = |name: &str, table: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, zstd::encode_all(table.as_bytes(), 3).unwrap()).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let broken = trace("broken.csv.zst", "time_ms,key,op\n1,2,R\n2,x,R\n");
    let empty = trace("empty.csv.zst", "time_ms,key,op\n");
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = free.local_addr().unwrap().to_string();
    drop(free);
    let zipf = ["--scenario", "zipf"];
    let check = |args: &[&str], exit: Exit, parts: &[&str]| {
        let Output { status, stderr, .. } = load(args);
        let said = String::from_utf8(stderr).unwrap();
        let words = said.split(['\n', '│']).map(str::trim).collect::<Vec<_>>().join(" ");
        assert_eq!(status.code(), Some(exit as i32), "{args:?}: {said}");
        for part in parts {
            assert!(words.contains(part), "{args:?}: {part:?} is not in {said}");
        }
    };
    check(&["--scenario", "nothing"], Exit::Usage, &["moving-hotspot"]);
    check(&[&zipf[..], &["--trace", &broken]].concat(), Exit::Usage, &["cannot be used with"]);
    check(&[&zipf[..], &["--rows", "5"]].concat(), Exit::Usage, &["cannot be used with"]);
    check(&[&zipf[..], &["--speed", "2"]].concat(), Exit::Usage, &["cannot be used with"]);
    check(&["--trace", &broken, "--keys", "5000"], Exit::Usage, &["cannot be used with"]);
    check(&["--fill"], Exit::Usage, &["--scenario"]);
    check(&["--router", &address], Exit::Usage, &["--scenario", "--trace"]);
    for speed in ["0", "-1", "NaN", "fast"] {
        let speed = format!("--speed={speed}");
        check(&["--trace", &broken, &speed], Exit::Usage, &["a number above 0"]);
    }
    let idle = [&zipf[..], &["--reads-per-s", "0", "--writes-per-s", "0"]].concat();
    check(&idle, Exit::Usage, &["there is nothing to play", "leave one of them out"]);
    check(
        &["--trace", &broken],
        Exit::Failed,
        &["broken.csv.zst, line 3: the key \"x\"", "the first line of a trace is time_ms,key,op"],
    );
    check(&["--trace", &empty], Exit::Failed, &["holds no requests"]);
    check(
        &["--trace", "none.csv.zst"],
        Exit::Usage,
        &["none.csv.zst: there is no such file", "none.csv.zst is looked for in"],
    );
    check(
        &[&zipf[..], &["--router", &address, "--router", "127.0.0.1:1"]].concat(),
        Exit::Failed,
        &[
            "no router can be reached",
            &address,
            "127.0.0.1:1",
            "Connection refused",
            "isotherm router",
        ],
    );
    check(&[&zipf[..], &["--router", "nowhere"]].concat(), Exit::Usage, &["no host and port"]);
}

fn load(args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_isotherm"));
    command.args(["--bootstrap-servers", "127.0.0.1:1", "load"]).args(args);
    command.env("NO_COLOR", "1").env_remove("ISOTHERM_LOG").output().unwrap()
}

#[test]
fn scenario_is_answered_though_a_router_dies_and_the_index_equals_its_table() {
    let Some(mut world) = World::create("load", &[]) else { return };
    world.mode = "observe";
    world.birth_nodes = 2;
    world.more = r#"split_points = ["0x00000000000007d0", "0x0000000000000fa0"]"#;
    let planner = world.start("planner", &["planner"], None);
    let worker = |it| world.start(it, &["worker", "--dir", "data", "--node-id", it], None);
    let [n0, n1] = ["n0", "n1"].map(worker);
    let channel = world.start("c0", &["channel"], None);
    let [r0, mut r1] = ["r0", "r1"].map(|it| world.start(it, &["router"], None));
    for it in [&planner, &n0, &n1, &channel, &r0, &r1] {
        let what = format!("{} to be ready", it.log_path().display());
        await_that(&what, || (it.ask("/readyz")?.0 == 200).then_some(()));
    }
    let routers = [&r0, &r1].map(|it| format!("127.0.0.1:{}", it.port()));
    let play = |duration: &str, more: &[&str]| {
        let keys = KEYS.to_string();
        let args = ["load", "--scenario", "moving-hotspot", "--keys", &keys, "-o", "json"];
        let mut command = isotherm(&world, &args);
        command.args(["--reads-per-s", "200", "--writes-per-s", "50", "--duration", duration]);
        routers.iter().for_each(|it| _ = command.args(["--router", it]));
        command.args(more);
        command
    };
    let told = |output: Output| -> Value {
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{said}");
        serde_json::from_slice(&output.stdout).unwrap()
    };
    let filled = play("100ms", &["--fill"]).output().unwrap();
    let said = String::from_utf8_lossy(&filled.stderr).into_owned();
    assert!(said.contains("wrote 5000 rows in "), "{said}");
    assert_eq!(told(filled)["failed"], 0);
    await_that("all rows in the index", || {
        let entries = ranges(&world)?.iter().map(|it| it["entries"].as_u64()).sum::<Option<u64>>();
        entries.filter(|it| *it == KEYS)
    });
    let playing = play("4s", &[]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // It has asked both by then.
    let asked = |it: &Process| {
        let (_, body) = it.ask("/readyz?verbose")?;
        body.contains("reads").then_some(())
    };
    await_that("reads at a router", || asked(&r1));
    r1.kill_now();
    let tally = told(playing.wait_with_output().unwrap());
    let count = |name: &str| tally[name].as_u64().unwrap();
    assert_eq!(
        (count("failed"), count("not_found"), count("updates_failed")),
        (0, 0, 0),
        "{tally:#}"
    );
    assert_eq!(count("answered"), count("reads"), "{tally:#}");
    assert!(500 < count("reads") && 100 < count("updates"), "{tally:#}");
    assert!(0 < count("requests_repeated"), "{tally:#}");
    let verified = isotherm(&world, &["verify", "--timeout", "100s"]).output().unwrap();
    let said = String::from_utf8(verified.stdout).unwrap();
    assert!(verified.status.success() && said.contains("0 missing, 0 extra"), "{said}");
}

/// Routers stand in: only the table is on Kafka.
#[test]
fn trace_is_played_at_its_speed_and_load_that_is_told_to_stop_tells_what_there_was() {
    let Some(world) = World::create("load-trace", &[]) else { return };
    let a = Standin::start();
    let router = a.address.to_string();
    let lines =
        (0..100).map(|it| format!("{},{it},{}\n", 7_000_000 + it * 100, ["R", "W"][it % 2]));
    let table = format!("time_ms,key,op\n{}", lines.collect::<String>());
    let path = world.folder.path().join("trace.csv.zst");
    std::fs::write(&path, zstd::encode_all(table.as_bytes(), 3).unwrap()).unwrap();
    let trace = ["load", "--trace", path.to_str().unwrap(), "--speed", "20", "--router", &router];
    let said = check(&world, &trace, Exit::Done, "50 reads answered, 0 failed");
    assert!(said.contains("\n100 %  ") && said.contains("updates sent"), "{said}");
    let asked: BTreeSet<_> = a.requests().iter().map(|it| it.0).collect();
    assert_eq!((asked, a.requests().len()), ((0..100).step_by(2).collect(), 50));

    a.is(Mood::Refuses(503));
    let failing = [&trace[..], &["--deadline", "200ms"]].concat();
    check(&world, &failing, Exit::Failed, "0 reads answered, 50 failed (");

    a.is(Mood::Serves);
    let before = a.requests().len();
    let endless = ["load", "--scenario", "uniform", "--duration", "100h", "--router", &router];
    let mut child: Child =
        isotherm(&world, &endless).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    await_that("reads", || (before + 100 < a.requests().len()).then_some(()));
    let id = child.id().to_string();
    assert!(Command::new("kill").args(["-INT", &id]).status().unwrap().success());
    let said = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    let said: Vec<_> = said.collect();
    assert_eq!(child.wait().unwrap().code(), Some(Exit::Done as i32), "{said:#?}");
    let told = (a.requests().len() - before).to_string() + " reads answered, 0 failed";
    assert!(said.iter().any(|it| it.starts_with(&told)), "{told} is not in {said:#?}");
}
