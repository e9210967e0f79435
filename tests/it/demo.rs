//! A run of all processes in one, as a person starts it: on the embedded broker, and on a real Kafka.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use isotherm::demo::report::Report;

use crate::kafka::real::real;
use crate::world::await_that;

/// As little as shows all: a debug build shares two processors with other tests.
const SMALL: [&str; 8] =
    ["--keys", "4000", "--reads-per-s", "200", "--writes-per-s", "30", "--seed", "7"];

fn demo(dir: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_isotherm"));
    command.arg("demo").args(SMALL).args(args).current_dir(dir).env("NO_COLOR", "1");
    command
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Runs it, and returns what it has printed, and its report.
fn run(args: &[&str]) -> (Output, Report) {
    let dir = tempfile::tempdir().unwrap();
    let args = [args, &["--report", "report.json", "--plot", "plot.svg"]].concat();
    let output = demo(dir.path(), &args).output().unwrap();
    let said = text(&output.stderr);
    let report = fs::read(dir.path().join("report.json")).unwrap();
    let report = serde_json::from_slice(&report).unwrap_or_else(|err| panic!("{err}: {said}"));
    let plot = fs::read_to_string(dir.path().join("plot.svg")).unwrap();
    assert!(plot.starts_with("<svg") && plot.len() < 1_000_000, "{} bytes", plot.len());
    (output, report)
}

fn check(report: &Report, output: &Output) {
    let told = (text(&output.stdout), text(&output.stderr));
    let all = format!("{report:#?}\n{}\n{}", told.0, told.1);
    assert_eq!(output.status.code(), Some(0), "{all}");
    assert_eq!(report.queries.answered, report.queries.sent, "{all}");
    assert!(report.queries.sent > 1_000 && report.updates.sent > 100, "{all}");
    assert!(report.verify.is_clean() && report.verify.entries == 4_000, "{all}");
    assert!(report.ticks >= 8 && report.latency_ms.p50 > 0.0, "{all}");
    let loads: f64 = report.nodes.iter().map(|it| it.load_mean * it.capacity_us_per_s as f64).sum();
    let asked =
        (report.queries.sent * 500 + report.updates.sent * 1_000) as f64 / report.duration_s;
    assert!((0.5 * asked..2.0 * asked).contains(&loads), "{loads} of {asked}; {all}");
    assert!(told.0.contains("4,000 entries: 0 missing, 0 extra"), "{all}");
}

#[test]
fn run_in_one_process_balances_and_verifies() {
    let (output, report) = run(&["--duration", "10s"]);
    check(&report, &output);
    assert_eq!((report.broker.as_str(), report.mode.as_str()), ("embedded", "auto"));
    let said = (text(&output.stdout), text(&output.stderr));
    assert!(
        said.1.contains("isotherm demo · moving-hotspot · seed 7 · embedded broker"),
        "{said:?}"
    );
    let again = "isotherm demo --scenario moving-hotspot --seed 7 --duration 10s --reads-per-s 200 \
                 --writes-per-s 30 --keys 4000 --mode observe";
    assert!(said.0.contains(again), "{said:?}");
    // What a plan decided has become of each move, and is told.
    let complete = report.moves.iter().filter(|it| it.outcome == "complete").count() as u64;
    assert_eq!((complete, report.migrations.failed), (report.migrations.complete, 0));
    assert!(complete > 0 && report.plans > 0 && report.splits > 0, "{report:#?}");
    assert!(report.moves.iter().all(|it| it.reason == "heat" && it.active_after_ms.is_some()));
    // The ladder answers, of which persistence may lead, and each move was decided by one of its rungs: those while
    // there was load are told of.
    let rungs = ["ewma", "drift", "linear", "network", "persistence"];
    assert!(rungs.contains(&report.forecast.rung.as_str()), "{report:#?}");
    let decided: u64 = report.forecast.moves_by_rung.values().sum();
    assert!(0 < decided && decided <= report.moves.len() as u64, "{report:#?}");
    assert!(report.forecast.moves_by_rung.keys().all(|it| rungs.contains(&it.as_str())));
}

#[test]
fn run_that_observes_moves_nothing() {
    let observed = ["--duration", "8s", "--mode", "observe", "--scenario", "uniform"];
    let (output, report) = run(&[&observed[..], &["--forecast", "persistence"]].concat());
    check(&report, &output);
    assert_eq!(report.forecast.rung, "persistence");
    assert_eq!((report.plans, report.splits, report.moves.len()), (0, 0, 0), "{report:#?}");
    assert_eq!(report.ranges, 32);
}

/// As old as a recorded log is, its first request is made at once.
#[test]
fn run_plays_a_trace_from_its_first_request_on() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a trace.csv.zst");
    // In five seconds, at twice the speed, the first ten: 500 requests.
    let line = |n: u64| {
        format!("{},{},{}\n", 7_000_000 + n * 20, n * 7 % 1_000, ["R", "W"][(n % 5 / 4) as usize])
    };
    let table = format!("time_ms,key,op\n{}", (0..1_000).map(line).collect::<String>());
    fs::write(&path, zstd::encode_all(table.as_bytes(), 3).unwrap()).unwrap();
    let path = path.to_str().unwrap();
    let (output, report) = run(&["--trace", path, "--speed", "2", "--duration", "5s"]);
    let said = (text(&output.stdout), text(&output.stderr));
    assert_eq!((report.queries.sent, report.updates.sent), (400, 100), "{said:?}");
    assert_eq!((report.updates.failed, output.status.code()), (0, Some(0)), "{said:?}");
    assert!(said.0.contains(&format!("--trace '{path}' --speed 2 ")), "{said:?}");
}

#[test]
fn what_the_embedded_broker_cannot_keep_is_refused_with_the_remedy() {
    let dir = tempfile::tempdir().unwrap();
    let refused = |args: &[&str], code: &str| {
        let output = demo(dir.path(), args).output().unwrap();
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains(code) && said.contains("--kafka HOST:PORT"), "{said}");
    };
    refused(&["--payload-bytes", "50000"], "isotherm::demo::embedded_bytes");
    refused(&["--duration", "2h"], "isotherm::demo::embedded_ticks");
    let long = ["--duration", "50m", "--payload-bytes", "2000"];
    refused(&long, "isotherm::demo::embedded_bytes");
    let many = &["demo", "--reads-per-s", "900000"];
    let output = Command::new(env!("CARGO_BIN_EXE_isotherm")).args(many).output().unwrap();
    let said = text(&output.stderr);
    assert!(said.contains("isotherm::demo::embedded_rate"), "{said}");
    for (args, code) in [
        (["--trace", "none.csv.zst"], "isotherm::demo::trace"),
        (["--report", "none/report.json"], "isotherm::result_file"),
        (["--nodes", "x"], "invalid value"),
    ] {
        let output = demo(dir.path(), &args).output().unwrap();
        let said = text(&output.stderr);
        assert!(output.status.code() != Some(0) && said.contains(code), "{said}");
    }
}

/// Asked to end, it says what came of it until then.
#[test]
fn run_that_is_asked_to_end_ends_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let log = fs::File::create(dir.path().join("log")).unwrap();
    let child = demo(dir.path(), &["--duration", "1h", "--report", "report.json"])
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .unwrap();
    let mut child = Kill(child);
    await_that("a line of the load", || {
        let log = fs::read_to_string(dir.path().join("log")).unwrap();
        assert!(child.0.try_wait().unwrap().is_none(), "{log}");
        log.contains("queries").then_some(())
    });
    let id = child.0.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &id]).status().unwrap().success());
    let log = || fs::read_to_string(dir.path().join("log")).unwrap();
    assert_eq!(child.0.wait().unwrap().code(), Some(1), "{}", log());
    let report = fs::read(dir.path().join("report.json")).unwrap();
    let report: Report = serde_json::from_slice(&report).unwrap();
    assert!(report.queries.answered > 0, "{report:#?}");
    assert!(report.verify.not_compared.is_some(), "{report:#?}");
    assert!(report.duration_s < 3_000.0, "{report:#?}");
    assert!(!log().contains("has not ended"), "{}", log());
}

struct Kill(Child);

impl Drop for Kill {
    fn drop(&mut self) {
        _ = self.0.kill();
    }
}

/// The same drivers and topics, with real transactions.
#[test]
fn run_on_a_real_kafka_is_the_same() {
    let name = "run_on_a_real_kafka_is_the_same";
    let Some(real) = real(name, &[]) else { return };
    let address = &real.connection.bootstrap_servers;
    let (output, report) = run(&["--duration", "12s", "--kafka", address]);
    check(&report, &output);
    assert_eq!(report.broker, *address);
    assert!(report.migrations.complete > 0, "{report:#?}");
}
