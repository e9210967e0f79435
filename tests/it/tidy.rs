//! Checks of the tree itself, in the manner of a test: what no lint can see, but a reader relies on.
//!
//! Each check is a function that returns the faults in one text, so that it is itself tested, on
//! texts that are at fault.

#![expect(clippy::unwrap_used, reason = "what a test cannot unwrap has failed it")]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use isotherm::topics::definition::{Definition, Process};
use isotherm::topics::definitions;

#[test]
fn core_is_pure() {
    none_in(["src", "dataflows", "schemas"], impure);
}

/// The shell may act, but only one part of it on Kafka, so that the client can be replaced.
#[test]
fn only_kafka_names_the_client() {
    none_in(["src", "dataflows", "schemas"], names_the_client);
}

/// A test that waits for time to pass is slow on a fast machine, and fails on a slow one.
#[test]
fn no_test_sleeps() {
    none_in(["src", "dataflows", "schemas", "tests"], sleeps);
}

#[test]
fn drivers_say_what_they_read_and_write() {
    let definitions = definitions();
    none_in(["src"], |path, text| driver_faults(path, text, &definitions));
}

#[test]
fn every_topic_has_definition_schema_and_module() {
    let stems = |dir: &str, extension: &str| -> BTreeSet<String> {
        let paths =
            files(dir).into_iter().filter_map(|it| Some(it.0.strip_prefix(dir)?.to_owned()));
        paths
            .filter_map(|it| Some(it.trim_start_matches('/').strip_suffix(extension)?.to_owned()))
            .collect()
    };
    let topics = stems("topics", ".yaml");
    assert_eq!(topics, stems("schemas", ".avsc"));
    let modules = stems("schemas", ".rs");
    let others: BTreeSet<_> = modules.difference(&topics).map(String::as_str).collect();
    assert_eq!(others, BTreeSet::from(["lib", "tests/golden", "wire"]));
    assert!(topics.is_subset(&modules));
    let definitions = definitions();
    assert!(topics.iter().eq(definitions.iter().map(|it| it.name)), "all are embedded");
    for Definition { name, schema, .. } in &definitions {
        assert_eq!(*schema, format!("{name}.avsc"), "topics/{name}.yaml");
        let module = fs::read_to_string(root().join(format!("schemas/{name}.rs"))).unwrap();
        // Bytes of any kind have no record type.
        let record = format!(", \"{name}\");");
        let is_record =
            module.lines().any(|it| it.starts_with("record!(") && it.ends_with(&record));
        assert!(
            is_record || *name == "dead_letter",
            "schemas/{name}.rs has no record of its topic"
        );
    }
}

/// Only these decide nothing and act: they may wait, look at the clock, and talk to the world.
fn is_shell(path: &str) -> bool {
    let dirs =
        ["src/kafka/", "src/web/", "src/cli/", "src/store/", "src/config/", "src/telemetry/"];
    let files = ["/driver.rs", "/main.rs", "/config.rs", "/telemetry.rs", "/fail_points.rs"];
    dirs.iter().any(|it| path.starts_with(it))
        || path.contains("/driver/")
        || files.iter().any(|it| path.ends_with(it))
}

fn impure(path: &str, text: &str) -> Vec<String> {
    const IMPURE: [&str; 11] = [
        "rdkafka",
        "tokio::",
        "axum::",
        "opentelemetry",
        "tracing::",
        "std::fs",
        "std::net",
        "std::env",
        "std::process",
        "Instant::now",
        "SystemTime",
    ];
    if is_shell(path) || is_integration_test(path) {
        return Vec::new();
    }
    // What the compiler knows of the target is a constant, not the environment of a process.
    let lines: Vec<_> = code(text).map(|line| line.replace("std::env::consts", "")).collect();
    let named = IMPURE.into_iter().filter(|name| lines.iter().any(|line| line.contains(name)));
    named.map(|name| format!("only the shell may name `{name}`")).collect()
}

fn names_the_client(path: &str, text: &str) -> Vec<String> {
    let named = !path.starts_with("src/kafka/") && code(text).any(|it| it.contains("rdkafka"));
    Vec::from_iter(named.then(|| "only src/kafka may name `rdkafka`: ask it instead".to_owned()))
}

fn sleeps(path: &str, text: &str) -> Vec<String> {
    let is_test = is_integration_test(path) || path.ends_with("/tests.rs");
    let tests = if is_test { text } else { text.split_once("#[cfg(test)]").unwrap_or_default().1 };
    // In two parts, or this file would be at fault.
    let sleeps = ["(", "_ms(", "_until("].map(|it| format!("{}{it}", concat!("sle", "ep")));
    let asleep = code(tests).find(|line| sleeps.iter().any(|it| line.contains(it)));
    let fault = |line: &str| format!("wait for what is to happen, not for a time: {}", line.trim());
    Vec::from_iter(asleep.map(fault))
}

/// The lines of a text that are no comments.
fn code(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter(|it| !it.trim_start().starts_with("//"))
}

fn is_integration_test(path: &str) -> bool {
    path.starts_with("tests/") || path.contains("/tests/")
}

/// Compares the head of a driver with what the definitions say of the process of its folder.
fn driver_faults(path: &str, text: &str, definitions: &[Definition]) -> Vec<String> {
    let Some(folder) = path.strip_prefix("src/").and_then(|it| it.strip_suffix("/driver.rs"))
    else {
        return Vec::new();
    };
    let Some(process) = Process::from_name(folder) else {
        return vec![format!("no topic knows a process `{folder}`")];
    };
    let head: Vec<_> = text.lines().map_while(|it| it.strip_prefix("//!")).map(str::trim).collect();
    let head = head.join(" ");
    let mut res = Vec::new();
    let mut check = |word: &str, belongs: &dyn Fn(&Definition) -> bool| {
        let mine = definitions.iter().filter(|it| belongs(it)).map(|it| it.name);
        let mine: BTreeSet<_> = mine.collect();
        match topics_after(&head, word) {
            None => res.push(format!("its head has no `{word} topic, topic.`")),
            Some(said) if said != mine => res.push(format!(
                "its head says `{word}` {said:?}, but topics/*.yaml say {mine:?} of {folder}"
            )),
            Some(_) => (),
        }
    };
    check("Reads:", &|it| it.readers.contains(&process));
    check("Writes:", &|it| it.writers.contains(&process));
    res
}

/// Returns the names between a word and the next full stop; `nothing` is none.
fn topics_after<'a>(head: &'a str, word: &str) -> Option<BTreeSet<&'a str>> {
    let (names, _) = head.split_once(word)?.1.split_once('.')?;
    let names = names.split(',').map(str::trim).filter(|it| *it != "nothing");
    Some(names.collect())
}

#[test]
fn impure_core_is_found() {
    let clock = "fn now() -> Millis { SystemTime::now() }";
    assert_eq!(impure("src/planner/machine.rs", clock), ["only the shell may name `SystemTime`"]);
    assert_eq!(impure("dataflows/heat.rs", clock).len(), 1);
    assert_eq!(impure("src/planner/driver.rs", clock).len(), 0);
    assert_eq!(impure("src/kafka/source.rs", clock).len(), 0);
    assert_eq!(impure("src/main.rs", clock).len(), 0);
    assert_eq!(impure("src/topics/mod.rs", "// as SystemTime has it").len(), 0);
    assert_eq!(impure("src/config/layers.rs", "std::fs::read_to_string(path)").len(), 0);
    let target = "(std::env::consts::ARCH, home)";
    assert_eq!(impure("src/planner/machine.rs", target).len(), 0);
    let both = target.replace("home", "std::env::home_dir()");
    assert_eq!(impure("src/planner/machine.rs", &both), ["only the shell may name `std::env`"]);
}

#[test]
fn client_outside_of_kafka_is_found() {
    let text = "use rdkafka::ClientConfig;";
    assert_eq!(names_the_client("src/kafka/sink.rs", text).len(), 0);
    assert_eq!(names_the_client("src/planner/driver.rs", text).len(), 1);
}

#[test]
fn sleeping_test_is_found() {
    let nap = concat!("std::thread::sle", "ep(TIMEOUT);");
    assert_eq!(sleeps("tests/it/pipeline.rs", nap).len(), 1);
    assert_eq!(sleeps("src/tick/machine/tests.rs", nap).len(), 1);
    assert_eq!(sleeps("src/kafka/source.rs", nap).len(), 0);
    assert_eq!(
        sleeps("src/kafka/source.rs", &format!("#[cfg(test)]\nmod tests {{ {nap} }}")).len(),
        1
    );
}

#[test]
fn driver_that_says_other_than_the_definitions_is_found() {
    let definitions = definitions();
    let check = |path: &str, head: &str| driver_faults(path, head, &definitions);
    let router = "//! Serves the router: a query in, an answer out.\n//!\n\
                  //! Reads: node_capacity,\n//! assignment.  Writes: query_log, dead_letter.\n";
    assert_eq!(check("src/router/driver.rs", router), [""; 0]);
    assert_eq!(check("src/router/machine.rs", ""), [""; 0]);
    let more = router.replace("node_capacity", "node_capacity, plan");
    assert_eq!(
        check("src/router/driver.rs", &more),
        [
            "its head says `Reads:` {\"assignment\", \"node_capacity\", \"plan\"}, but topics/*.yaml \
          say {\"assignment\", \"node_capacity\"} of router"
        ]
    );
    assert_eq!(check("src/router/driver.rs", &router.replace(", dead_letter", "")).len(), 1);
    assert_eq!(check("src/router/driver.rs", &router.replace("query_log", "query_logs")).len(), 1);
    assert_eq!(
        check("src/router/driver.rs", "//! Serves the router.\n\nuse std::fs; // Reads: plan."),
        ["its head has no `Reads: topic, topic.`", "its head has no `Writes: topic, topic.`"]
    );
    assert_eq!(check("src/demo/driver.rs", router), ["no topic knows a process `demo`"]);
    assert_eq!(topics_after("Writes: nothing.", "Writes:"), Some(BTreeSet::new()));
}

/// Applies a check to the Rust files of some folders, and fails with all faults at once.
fn none_in<const N: usize>(dirs: [&str; N], check: impl Fn(&str, &str) -> Vec<String>) {
    let rust = dirs.into_iter().flat_map(files).filter(|it| it.0.ends_with(".rs"));
    let mut looked_at = 0;
    let mut faults = Vec::new();
    for (path, text) in rust {
        looked_at += 1;
        faults.extend(check(&path, &text).into_iter().map(|fault| format!("{path}: {fault}")));
    }
    assert!(looked_at > 0, "the tree is elsewhere");
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// Returns the text files under a folder, by their path from the root.
fn files(dir: &str) -> Vec<(String, String)> {
    let mut res = Vec::new();
    go(&mut res, &root().join(dir));
    res.sort();
    return res;

    fn go(acc: &mut Vec<(String, String)>, dir: &Path) {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                go(acc, &path);
            } else if let Ok(text) = fs::read_to_string(&path) {
                let name = path.strip_prefix(root()).unwrap().to_str().unwrap();
                acc.push((name.to_owned(), text));
            }
        }
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}
