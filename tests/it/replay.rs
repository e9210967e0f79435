//! `isotherm replay`, as a person runs it.

pub mod real;

use std::io::Write;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

#[test]
fn short_hot_spot_is_replayed_with_report_picture_and_outputs() {
    let dir = tempfile::tempdir().unwrap();
    let report = replay(
        dir.path(),
        &["--scenario", "moving-hotspot", "--seed", "5", "--ticks", "16", "--duration", "10m"],
    );
    let area = |name: &str| report["overload_node_seconds"][name].as_f64().unwrap();
    assert!(area("first") > 20.0, "{report}");
    assert!(area("isotherm") < area("first") / 2.0, "{report}");
    assert!(area("isotherm") <= area("reactive") * 1.1, "{report}");
    assert_eq!(report["ticks"], 16, "{report}");
    assert!(report["moves"].as_u64().unwrap() > 0, "{report}");
    for topic in ["assignment", "heatmap", "plan", "migrate_range", "planner_progress"] {
        let values = records(dir.path(), topic);
        assert!(values.iter().all(|it| it.is_object() || it.is_null()), "{topic}: {values:?}");
        assert!(values.iter().any(Value::is_object), "{topic}");
    }
    let picture = std::fs::read_to_string(dir.path().join("picture.svg")).unwrap();
    assert!(picture.starts_with("<svg") && picture.contains("Overload area"), "it is no picture");
}

#[test]
fn growing_end_is_told_as_unsplittable_in_report_plans_and_heat() {
    let dir = tempfile::tempdir().unwrap();
    let args = ["--scenario", "append", "--seed", "5", "--ticks", "24", "--duration", "10m"];
    let report = replay(dir.path(), &args);
    // A sixth of the load is written at the edge.
    let share = report["unsplittable_share"].as_f64().unwrap();
    assert!((0.08..0.25).contains(&share), "{report}");
    for topic in ["plan", "heatmap"] {
        let shares = records(dir.path(), topic).into_iter();
        let shares: Vec<_> = shares.filter_map(|it| it["unsplittable_ppm"].as_u64()).collect();
        assert!(shares.iter().any(|it| 50_000 < *it), "{topic}: {shares:?}");
        assert!(shares.iter().all(|it| *it <= 1_000_000), "{topic}: {shares:?}");
    }
    let dir = tempfile::tempdir().unwrap();
    let report = replay(dir.path(), &["--scenario", "uniform", "--duration", "2m"]);
    assert_eq!(report["unsplittable_share"], 0.0, "{report}");
}

#[test]
fn node_has_what_an_edge_comes_to_before_it_is_there() {
    let dir = tempfile::tempdir().unwrap();
    let args = ["--scenario", "append", "--seed", "5", "--ticks", "60", "--duration", "10m"];
    let report = replay(dir.path(), &args);
    let area = |name: &str| report["overload_node_seconds"][name].as_f64().unwrap();
    assert!(area("first") > 100.0, "{report}");
    assert!(area("isotherm") < area("reactive") * 0.8, "{report}");
}

#[test]
fn what_cannot_be_done_is_refused_with_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let file = |name: &str, bytes: &[u8]| {
        std::fs::write(path(name), bytes).unwrap();
        path(name)
    };
    let empty = file("empty.csv.zst", &zstd("time_ms,key,op\n"));
    let nothing = file("nothing.csv.zst", b"");
    let plain = file("plain.csv", b"time_ms,key,op\n0,1,R\n");
    let back = file("back.csv.zst", &zstd("time_ms,key,op\n9,1,R\n5,1,R\n"));
    let one = file("one.csv.zst", &zstd("time_ms,key,op\n0,1,R\n"));
    let (none, nowhere) = (path("none"), path("no/where.json"));
    let scenario = ["--scenario", "uniform", "--ticks", "1"];
    let cases: [(&[&str], i32, &str); 15] = [
        (&[], 2, "--topic"),
        (&["--scenario", "unifrom"], 2, "'uniform'"),
        (&["--scenario", "uniform", "--trace", &one], 2, "cannot be used with"),
        (&["--scenario", "uniform", "--duration", "0s"], 2, "--duration"),
        (&["--scenario", "uniform", "--nodes", "3", "--capacity", "1:2"], 2, "leave one of"),
        (&["--scenario", "uniform", "--capacity", "1:x"], 2, "no whole number"),
        (&["--scenario", "uniform", "--mode", "manual"], 2, "planner.mode"),
        (&["--trace", &none], 2, "none: there is no such file"),
        (&["--trace", &nothing], 1, "line 1"),
        (&["--trace", &plain], 1, "a CSV table that zstd has compressed"),
        (&["--trace", &empty], 1, "holds no requests"),
        (&["--trace", &back], 1, "line 3"),
        (&["--topic", "query_log"], 2, "--bootstrap-servers"),
        (&["--topic", "plan", "--bootstrap-servers", "127.0.0.1:1"], 2, "is no query log"),
        (&["--verify", "--from", "-1m", "--to", "-2m"], 2, "--from is not before --to"),
    ];
    let results = [[&scenario[..], &["--report", &nowhere]].concat()];
    let results = results.iter().map(|it| (&it[..], 1, "no/where.json"));
    for (args, status, part) in cases.into_iter().chain(results) {
        let output = isotherm(&[&["replay"], args].concat());
        let told = String::from_utf8_lossy(&output.stderr).replace('│', " ");
        let words = told.split_whitespace().collect::<Vec<_>>().join(" ");
        assert_eq!(output.status.code(), Some(status), "{args:?}: {told}");
        assert!(words.contains(part), "{args:?}: {told}");
    }
    // The least that can be replayed, and what is quiet before or after.
    assert_eq!(replay(&dir.path().join("one"), &["--trace", &one])["queries"], 1);
    let late = file("late.csv.zst", &zstd("time_ms,key,op\n600000,1,R\n"));
    let report = replay(&dir.path().join("late"), &["--trace", &late]);
    assert_eq!((&report["queries"], &report["ticks"]), (&1.into(), &121.into()), "{report}");
    let none = ["--scenario", "uniform", "--duration", "1ms"];
    assert_eq!(replay(&dir.path().join("none"), &none)["ticks"], 1);
}

#[test]
fn same_log_and_seed_give_the_same_plans() {
    let digest = |seed: &str| {
        let dir = tempfile::tempdir().unwrap();
        let args = ["--scenario", "flash-crowd", "--seed", seed, "--duration", "1m"];
        replay(dir.path(), &args)["plan_digest"].clone()
    };
    assert_eq!(digest("3"), digest("3"));
    assert_ne!(digest("3"), digest("4"));
}

#[test]
fn trace_that_is_none_is_named_with_its_line() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("broken.csv.zst");
    std::fs::write(&path, zstd("time_ms,key,op\n0,1,R\n5,x,W\n")).unwrap();
    let output = isotherm(&["replay", "--trace", path.to_str().unwrap()]);
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(told.contains("line 3") && told.contains("\"x\""), "{told}");
}

/// Where nothing is to be foreseen, who forecasts moves no more than who takes the last load for the next.
#[test]
fn ladder_moves_no_more_than_persistence_where_order_says_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let trace = dir.path().join("shuffled.csv.zst");
    std::fs::write(&trace, zstd(&shuffled())).unwrap();
    let trace = ["--trace", trace.to_str().unwrap()];
    let uniform = ["--scenario", "uniform", "--duration", "10m", "--seed", "4"];
    for (name, load) in [("shuffled", &trace[..]), ("uniform", &uniform[..])] {
        let moves = ["ladder", "persistence"].map(|forecast| {
            let args = [load, &["--forecast", forecast]].concat();
            let report = replay(&dir.path().join(forecast), &args);
            report["moves"].as_u64().unwrap()
        });
        println!("{name}: {moves:?} moves by the ladder and by persistence");
        assert!(moves[0] <= moves[1], "{name}: {moves:?}");
    }
}

/// Ten minutes of reads of skewed keys, each independent of all others.
fn shuffled() -> String {
    requests(60_000, 10, |_, random| {
        let part = (random >> 11) as f64 / (1_u64 << 53) as f64;
        ((part.powi(3) * 10_000.0) as u64, 'R')
    })
}

/// Two minutes of reads, half of them of a hot spot that stays: it has to be moved.
fn table() -> String {
    requests(24_000, 5, |_, random| {
        let key = if random & 1 == 0 { random / 2 % 10_000 } else { 1_000 + random / 2 % 800 };
        (key, if random >> 60 == 0 { 'W' } else { 'R' })
    })
}

/// A table of so many requests, so many ms after each other: key and operation by number and a random one.
pub fn requests(count: u64, every_ms: u64, request: impl Fn(u64, u64) -> (u64, char)) -> String {
    let mut table = "time_ms,key,op\n".to_owned();
    let mut state = 88_172_645_463_325_252_u64;
    for i in 0..count {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let (key, op) = request(i, state);
        table += &format!("{},{key},{op}\n", i * every_ms);
    }
    table
}

pub fn zstd(text: &str) -> Vec<u8> {
    let mut encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
    encoder.write_all(text.as_bytes()).unwrap();
    encoder.finish().unwrap()
}

/// Replays and returns the report.
fn replay(dir: &Path, args: &[&str]) -> Value {
    std::fs::create_dir_all(dir).unwrap();
    let path = |name: &str| dir.join(name).to_str().unwrap().to_owned();
    let (report, plot, out) = (path("report.json"), path("picture.svg"), path("out"));
    let results = ["--report", &report, "--plot", &plot, "--out", &out];
    let output = isotherm(&[&["replay"], args, &results[..]].concat());
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{args:?}: {told}");
    serde_json::from_slice(&std::fs::read(report).unwrap()).unwrap()
}

/// The values of what the planner wrote to a topic.
fn records(dir: &Path, topic: &str) -> Vec<Value> {
    let lines = std::fs::read_to_string(dir.join(format!("out/{topic}.jsonl"))).unwrap();
    let value = |line| serde_json::from_str::<Value>(line).unwrap()["value"].clone();
    lines.lines().map(value).collect()
}

pub fn isotherm(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_isotherm")).args(args).output().unwrap()
}
