use clap::CommandFactory;

use super::*;

fn parse(line: &str) -> Result<Cli, clap::Error> {
    Cli::try_parse_from(std::iter::once("isotherm").chain(line.split_whitespace()))
}

#[test]
fn command_line_is_consistent() {
    Cli::command().debug_assert();
}

#[test]
fn documented_commands_are_understood() {
    for line in [
        "planner --config a.toml --mode observe -v",
        "topics plan --exit-code -o json",
        "topics apply --dry-run",
        "replay --scenario moving-hotspot",
        "replay --scenario zipf --seed 7 --nodes 4 --capacity 1:2:3:4 --plot heat.svg --report r.json",
        "replay --trace log.csv.zst --out dir --forecast persistence",
        "replay --topic query_log --from 2025-11-01T00:00:00Z --to 1762000000",
        "replay --verify --from -1h --to end",
        "forecast backtest --panel a.csv.zst --panel b.csv.zst --bin 10s --bin 1m --json b.json",
        "forecast backtest --panel a.csv.zst --model m",
        "train --panel a.csv.zst --bin 10s --seed 7 --steps 2000 --out m",
        "tail plan -o jsonl --from -15m --key-format hex",
        "plan list",
        "plan show p-212 -o json",
        "config show --origin",
        "completions zsh",
    ] {
        assert!(parse(line).is_ok(), "{line}: {}", parse(line).unwrap_err());
    }
}

#[test]
fn command_that_contradicts_itself_is_a_usage_error() {
    for line in [
        "replay",
        "replay --scenario zipf --trace x.csv.zst",
        "replay --scenario sideways",
        "replay --scenario zipf --from beginning",
        "replay --verify --plot x.svg",
        "replay --scenario zipf --nodes 0",
        "forecast backtest",
        "forecast backtest --panel a.csv.zst --bin long",
        "train --panel a.csv.zst",
        "train --panel a.csv.zst --out m --steps 0",
        "tail",
        "tail plan --from yesterday",
        "planner -q -v",
        "topics apply --replication-factor 0",
    ] {
        let error = parse(line).expect_err(line);
        assert_eq!(error.exit_code(), i32::from(Exit::Usage as u8), "{line}");
    }
}

#[test]
fn flags_are_the_topmost_layer_and_are_named_as_origin() {
    let cli = parse("planner --mode observe --tick 1s --prefix t.").unwrap();
    let Command::Planner(args) = cli.command else { panic!("planner was parsed") };
    let loaded = cli.shared.load(args.flags()).unwrap();
    let origin =
        |key: &str| loaded.settings.iter().find(|it| it.key == key).unwrap().origin.clone();
    assert_eq!(["planner.mode", "kafka.prefix"].map(origin), ["--mode", "--prefix"]);
    let wrong = parse("planner --mode recommend").unwrap();
    let Command::Planner(args) = wrong.command else { panic!("planner was parsed") };
    let fault = wrong.shared.settled(args.flags()).unwrap_err();
    assert_eq!((fault.exit, fault.code.as_str()), (Exit::Usage, "isotherm::config::value"));
    assert!(fault.what.contains("--mode"), "{fault}");
}

#[test]
fn one_file_configures_all_processes_and_a_worker_says_besides_where_it_is() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/docker/isotherm.toml");
    let cli = |command: &str| parse(&format!("{command} --config {file}")).unwrap();
    for command in ["planner", "channel", "router", "load --scenario uniform", "verify"] {
        let config = cli(command).shared.settled(Vec::new()).unwrap();
        assert!(config.worker.listen.ip().is_unspecified() && config.worker.endpoint.is_none());
    }
    let fault = run(cli("worker --node-id n1")).unwrap_err();
    assert_eq!((fault.exit, fault.code.as_str()), (Exit::Usage, "isotherm::worker::no_endpoint"));
    assert!(fault.what.contains("0.0.0.0:7070"), "{fault}");
}
