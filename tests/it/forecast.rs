//! `isotherm forecast backtest` and `isotherm train`, as a person runs them.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Output;

use isotherm::cli::exit::Exit;
use isotherm::forecast::gru::Weights;
use isotherm::forecast::model::Model;
use rand::SeedableRng;
use rand_pcg::Pcg64;
use serde_json::Value;

use crate::killed::check_replay;
use crate::moved;
use crate::replay::real::{START_MS, connection, write_log};
use crate::replay::{isotherm, requests, zstd};
use crate::world::{Nodes, World, await_that};

/// 300 bins of five seconds: reads and some writes of 4,000 keys, half of them of a place that travels.
fn table() -> String {
    let table = requests(15_000, 100, |i, random| {
        let travels = i * 3_000 / 15_000 + random / 2 % 400;
        let key = if random & 1 == 0 { random / 2 % 4_000 } else { travels };
        (key, if random >> 61 == 0 { 'W' } else { 'R' })
    });
    // The last bin is over.
    table + "1500001,1,R\n"
}

/// A folder with a trace, and a configuration of few strips.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("trace.csv.zst"), zstd(&table())).unwrap();
        std::fs::write(dir.path().join("few.toml"), "[planner]\nbirth_ranges = 2\n").unwrap();
        Self(dir)
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).to_str().unwrap().to_owned()
    }

    /// Runs it with these strips, on loads in bins of five seconds.
    fn run(&self, args: &[&str]) -> Output {
        let config = self.path("few.toml");
        isotherm(&[args, &["--bin", "5s", "--config", &config]].concat())
    }

    /// Backtests, and returns the rows.
    fn backtest(&self, loads: &[&str]) -> Vec<Value> {
        let json = self.path("backtest.json");
        let output = self.run(&[&["forecast", "backtest", "--json", &json], loads].concat());
        assert!(output.status.success(), "{}", told(&output));
        let all: Value = serde_json::from_slice(&std::fs::read(json).unwrap()).unwrap();
        all["rows"].as_array().unwrap().clone()
    }
}

#[test]
fn trace_is_backtested_with_table_numbers_and_picture() {
    let folder = Folder::new();
    let (trace, plot) = (folder.path("trace.csv.zst"), folder.path("fan.svg"));
    let rows = folder.backtest(&["--trace", &trace, "--plot", &plot]);
    for name in ["wql", "skill", "relmae", "cover80", "cover90", "exceed99"] {
        assert!(rows.iter().all(|it| it[name].is_f64()), "{name}: {rows:?}");
    }
    let of = |op: &str, target: &str, model: &str| {
        let is = |it: &&Value| {
            (&it["op"], &it["target"], &it["model"]) == (&op.into(), &target.into(), &model.into())
        };
        rows.iter().find(is).unwrap_or_else(|| panic!("{op}, {target}, {model}: {rows:?}"))
    };
    for op in ["read", "write", "all"] {
        for target in ["h1", "h6", "h30", "mean30", "max30"] {
            for model in ["persistence", "ewma", "linear", "network", "shipped"] {
                assert_eq!(of(op, target, model)["panel"], "trace");
            }
            assert_eq!(of(op, target, "shipped")["floor"].is_f64(), target.starts_with('h'));
        }
    }
    // Fifty queries a bin over sixteen strips: no bin is like the one before, but their means are.
    let mean = of("all", "mean30", "shipped");
    assert!(0.3 < mean["skill"].as_f64().unwrap(), "{mean}");
    assert!((0.6..0.97).contains(&mean["cover80"].as_f64().unwrap()), "{mean}");
    let picture = std::fs::read_to_string(plot).unwrap();
    assert!(picture.starts_with("<svg") && picture.contains("trace, range "), "{picture}");
    assert!(picture.contains("the mean of the next thirty bins"), "{picture}");
}

#[test]
fn model_is_trained_on_a_trace_and_not_scored_where_it_learned() {
    let folder = Folder::new();
    let (trace, model) = (folder.path("trace.csv.zst"), folder.path("one.model"));
    let train = |out: &str, more: &[&str]| {
        let args = ["train", "--trace", &trace, "--seed", "3", "--steps", "2", "--out", out];
        folder.run(&[&args[..], more].concat())
    };
    let output = train(&model, &["--force"]);
    assert!(output.status.success(), "{}", told(&output));
    let bytes = std::fs::read(&model).unwrap();
    let head: Value =
        serde_json::from_slice(bytes.split(|it| *it == b'\n').next().unwrap()).unwrap();
    let span = &head["panels"][0];
    assert_eq!(
        (&span["name"], &span["to"], &span["bin_ms"]),
        (&"trace".into(), &180.into(), &5_000.into())
    );
    assert_eq!(head["backtest"].as_array().unwrap().len(), 2 * 5 * 5, "{head}");

    // The same again is the same, and no worse than itself.
    let again = folder.path("again.model");
    let output = train(&again, &["--champion", &model]);
    assert!(output.status.success(), "{}", told(&output));
    assert!(
        told(&output).contains("loses 1.0000 times what the champion does"),
        "{}",
        told(&output)
    );
    assert_eq!(std::fs::read(&again).unwrap(), bytes);

    let rows = folder.backtest(&["--trace", &trace, "--model", &model]);
    let of = |it: &&Value| it["model"] == "network" && it["op"] != "all";
    let found: Vec<_> = rows.iter().filter(of).map(|it| it["wql"].clone()).collect();
    let stands = head["backtest"].as_array().unwrap().iter().filter(of);
    assert_eq!(found, stands.map(|it| it["wql"].clone()).collect::<Vec<_>>());
    // A part of the same trace, of which it has learned what would be scored.
    let short: String = table().lines().take(11_000).map(|it| format!("{it}\n")).collect();
    std::fs::write(folder.path("short.csv.zst"), zstd(&short)).unwrap();
    let short = folder.path("short.csv.zst");
    let other = folder.run(&["forecast", "backtest", "--trace", &short, "--model", &model]);
    assert_eq!(other.status.code(), Some(Exit::Usage as i32), "{}", told(&other));
    assert!(told(&other).contains("was trained on"), "{}", told(&other));
}

#[test]
fn champion_that_loses_less_is_kept() {
    let folder = Folder::new();
    let trace = folder.path("trace.csv.zst");
    let train = |seed: &str, steps: &str, out: &str, more: &[&str]| {
        let args = ["train", "--trace", &trace, "--seed", seed, "--steps", steps, "--out", out];
        folder.run(&[&args[..], more].concat())
    };
    let models = ["1", "2"].map(|it| (it, folder.path(&format!("{it}.model"))));
    for (seed, model) in &models {
        assert!(train(seed, "2", model, &["--force"]).status.success());
    }
    // Of two that differ one loses more.
    let challenged = |(seed, _): &(&str, String), champion: &str| {
        let out = folder.path("out.model");
        let output = train(seed, "2", &out, &["--champion", champion]);
        (
            output.status.code(),
            Path::new(&out).exists(),
            told(&output),
            std::fs::remove_file(out).is_ok(),
        )
    };
    let [one, two] = &models;
    let ended = [challenged(one, &two.1), challenged(two, &one.1)];
    let won = ended.iter().filter(|it| (it.0, it.1) == (Some(0), true)).count();
    let lost = ended.iter().filter(|it| (it.0, it.1) == (Some(1), false));
    let lost: Vec<_> = lost.map(|it| it.2.clone()).collect();
    assert_eq!((won, lost.len()), (1, 1), "{ended:?}");
    assert!(lost[0].contains("it is not written") && lost[0].contains("--force"), "{lost:?}");
}

#[test]
fn loads_that_are_none_are_refused_with_what_to_do() {
    let folder = Folder::new();
    let trace = folder.path("trace.csv.zst");
    let cases: [(&[&str], i32, &str); 8] = [
        (&["forecast", "backtest"], 2, "--panel"),
        (
            &[
                "forecast", "backtest", "--trace", &trace, "--trace", &trace, "--bin", "5s",
                "--bin", "5s", "--bin", "5s",
            ],
            2,
            "3 --bin for 2",
        ),
        (&["forecast", "backtest", "--trace", &trace, "--bin", "0s"], 2, "from 1ms to 1day"),
        (&["forecast", "backtest", "--trace", &trace, "--bin", "60s"], 2, "it has 25 bins"),
        (&["forecast", "backtest", "--trace", &trace, "--from", "-1h"], 2, "--topic"),
        (&["train", "--trace", "/none.csv.zst", "--out", &folder.path("m")], 2, "no such file"),
        (&["forecast", "backtest", "--panel", "none.csv.zst"], 2, "is looked for in"),
        (
            &["forecast", "backtest", "--trace", &trace, "--model", "none"],
            2,
            "there is no file none",
        ),
    ];
    for (args, status, part) in cases {
        let output = isotherm(args);
        assert_eq!(output.status.code(), Some(status), "{args:?}: {}", told(&output));
        assert!(told(&output).contains(part), "{args:?}: {}", told(&output));
    }
}

#[test]
fn topic_is_backtested_as_the_same_trace_is() {
    let Some(connection) = connection("backtest") else { return };
    let folder = Folder::new();
    write_log(&connection, &table());
    let trace = folder.path("trace.csv.zst");
    let servers = ["--bootstrap-servers", &connection.bootstrap_servers];
    let topic = ["--topic", "query_log", "--prefix", &connection.prefix];
    // Ends of ticks are marked behind it, too.
    let span = [START_MS / 1_000, START_MS / 1_000 + 1_500].map(|it| it.to_string());
    let span = ["--from", &span[0], "--to", &span[1]];
    let loads = [&topic[..], &servers].concat();
    let numbers =
        |rows: Vec<Value>| -> Vec<Value> { rows.iter().map(|it| it["wql"].clone()).collect() };
    assert_eq!(
        numbers(folder.backtest(&[&loads[..], &span].concat())),
        numbers(folder.backtest(&["--trace", &trace]))
    );

    let model = folder.path("topic.model");
    let args = ["train", "--steps", "1", "--out", &model, "--force"];
    let output = folder.run(&[&args[..], &loads, &span].concat());
    assert!(output.status.success(), "{}", told(&output));
    let bytes = std::fs::read(&model).unwrap();
    let head: Value =
        serde_json::from_slice(bytes.split(|it| *it == b'\n').next().unwrap()).unwrap();
    let offsets = head["panels"][0]["offsets"].as_object().unwrap();
    assert!(!offsets.is_empty() && offsets.values().all(|it| it[0] == 0), "{head}");

    // A later part of it, of which the model has learned the end.
    let from = START_MS / 1_000 + 100;
    let span =
        ["--from", &from.to_string(), "--to", &(from + 1_050).to_string(), "--model", &model];
    let output = folder.run(&[&["forecast", "backtest"], &loads[..], &span].concat());
    assert_eq!(output.status.code(), Some(2), "{}", told(&output));
    assert!(told(&output).contains("was trained on"), "{}", told(&output));
}

#[test]
fn network_is_swapped_in_a_running_planner_and_stays_behind_a_kill() {
    let Some(world) = World::create("swap", &[]) else { return };
    let nodes = Nodes::start(&world.connection);
    let mut planner = world.planner("swap", None);
    let first = await_that("a tick", || world.last_tick());
    planner.await_tick(&world, first + 40);

    let model = Model::new(
        (Weights::untrained(&mut Pcg64::seed_from_u64(7)), Default::default()),
        7,
        1,
        Vec::new(),
    );
    let file = world.folder.path().join("other.model");
    std::fs::write(&file, model.encode()).unwrap();
    let run = |args: &[&str]| moved::isotherm(&world, args).output().unwrap();
    let swap = ["forecast", "swap", file.to_str().unwrap(), "--reason", "to see"];
    let output = run(&swap);
    assert!(output.status.success(), "{}", told(&output));
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(said.contains(model.digest()), "{said}");
    let again = run(&swap);
    assert_eq!(again.status.code(), Some(Exit::Refused as i32), "{}", told(&again));
    assert!(told(&again).contains("model_there"), "{}", told(&again));

    let swapped = world.last_tick().unwrap();
    planner.await_tick(&world, swapped + 10);
    planner.kill();
    let mut planner = world.planner("swap", None);
    // Over a snapshot, too.
    planner.await_tick(&world, swapped + 60);
    planner.kill();
    let mut planner = world.planner("swap", None);
    planner.await_tick(&world, swapped + 70);
    planner.signal("-TERM");
    assert!(planner.ended().success());
    drop(nodes);

    let shown = run(&[
        "forecast",
        "model",
        "--output",
        "json",
        "--out",
        world.folder.path().join("own.model").to_str().unwrap(),
    ]);
    let shown: Value = serde_json::from_slice(&shown.stdout).unwrap();
    assert_eq!((&shown["model"], &shown["built_in"]), (&model.digest().into(), &false.into()));
    let written = std::fs::read(world.folder.path().join("own.model")).unwrap();
    assert_eq!(Model::decode(&written).unwrap(), model);
    let policies: BTreeSet<_> = world
        .ticks()
        .into_iter()
        .filter(|it| swapped < it.tick)
        .map(|it| it.policy_digest)
        .collect();
    assert_eq!(policies.len(), 1, "the network that was chosen stays: {policies:?}");
    check_replay(&world, None);
}

/// What was said, without the breaks of lines.
fn told(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stderr).replace('│', " ");
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
