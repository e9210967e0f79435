//! Commands as a person types them: on the embedded broker by the functions behind them, on a real
//! Kafka by the binary.

#![expect(clippy::unwrap_used, reason = "what a test cannot unwrap has failed it")]

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::ops::ControlFlow;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::sync_channel;
use std::thread;
use std::time::{Duration, Instant};

use isotherm::cli::keys::KeyFormat;
use isotherm::cli::plan::{found, listed};
use isotherm::cli::tail::{Lines, told};
use isotherm::cli::{Form, exit::Exit};
use isotherm::kafka::admin::{Admin, Topic};
use isotherm::kafka::tail::{Start, follow, scan};
use isotherm::kafka::writer::Writer;
use isotherm::kafka::{Connection, Output, Record};
use isotherm::topics::definition::Definition;
use isotherm::topics::definitions;
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, AlterConfig, ResourceSpecifier};
use rdkafka::client::DefaultClientContext;
use schemas::dead_letter;
use schemas::plan::Planned;
use schemas::wire::{decode, encode};
use serde_json::Value;

use crate::kafka::broker;
use crate::kafka::real::{Real, real};
use crate::world::await_that;

const TIMEOUT: Duration = Duration::from_secs(60);

#[test]
fn record_of_every_topic_is_told_whatever_stands_beside_it() {
    let topics: Vec<_> = definitions().into_iter().map(|it| (it.name, it.partitions)).collect();
    let broker = broker(&topics);
    let connection = broker.connection();
    write_all(&connection);
    for (topic, _) in topics {
        let mut records: Vec<Record> = Vec::new();
        scan(&connection, topic, Start::Beginning, |record| {
            records.push(record);
            ControlFlow::Continue(())
        })
        .unwrap();
        let tell = |form| records.iter().map(move |it| told(it, form, KeyFormat::Hex));
        check_told(topic, &tell(Lines::Jsonl).collect::<Vec<_>>());
        let lines = tell(Lines::Table).collect::<Vec<_>>();
        let unreadable = lines.iter().filter(|it| it.contains("not readable")).count();
        assert_eq!(unreadable, usize::from(topic != dead_letter::TOPIC), "{lines:#?}");
        assert_eq!(lines.iter().filter(|it| it.ends_with("  deleted")).count(), 1, "{lines:#?}");
    }
}

#[test]
fn who_follows_sees_what_comes_after_the_end() {
    let broker = broker(&[("heatmap", 4)]);
    let connection = broker.connection();
    let writer = Writer::open(&connection, "test").unwrap();
    let write = |n: u8| {
        writer.send(&Output::new("heatmap", vec![n], vec![n])).unwrap();
        writer.flush().unwrap();
    };
    write(0);
    let (seen, sees) = sync_channel(1);
    let follower = {
        let connection = connection.clone();
        thread::spawn(move || {
            follow(&connection, "heatmap", Start::Beginning, |record| {
                seen.send(record.key.unwrap()).unwrap();
                if record.value == Some(vec![9]) {
                    return ControlFlow::Break(());
                }
                ControlFlow::Continue(())
            })
        })
    };
    // Each is written when the one before has been seen, at what was the end.
    for n in 0..10 {
        assert_eq!(sees.recv_timeout(TIMEOUT).unwrap(), [n]);
        if n < 9 {
            write(n + 1);
        }
    }
    follower.join().unwrap().unwrap();
}

#[test]
fn plan_is_found_by_its_id_and_the_newest_without() {
    let broker = broker(&[("plan", 1)]);
    let connection = broker.connection();
    let fault = found(&connection, "latest").unwrap_err();
    assert!(fault.what.contains("plan has no plan yet"), "{fault}");
    let writer = Writer::open(&connection, "test").unwrap();
    let plans = plans();
    for plan in &plans {
        writer.send(&Output::new("plan", plan.plan.clone().into_bytes(), encode(plan))).unwrap();
        writer.send(&Output::new("plan", b"p-0".to_vec(), b"no plan".to_vec())).unwrap();
    }
    writer.flush().unwrap();
    assert_eq!(found(&connection, "p-8").unwrap(), plans[1]);
    assert_eq!(found(&connection, "latest").unwrap(), plans[2]);
    let fault = found(&connection, "p-1").unwrap_err();
    assert_eq!((fault.exit, &*fault.code), (Exit::Failed, "isotherm::plan::unknown"));
    assert_eq!(fault.what, "none of the 3 plans on the topic plan is `p-1`");
    let ids = listed(&plans, Form::Table);
    let ids: Vec<_> = ids.lines().map(|it| it.split(' ').next().unwrap()).collect();
    assert_eq!(ids, ["PLAN", "p-7", "p-8", "p-9"]);
}

#[test]
fn process_that_is_asked_to_end_and_cannot_gives_up_in_time_with_a_status_of_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("isotherm.toml");
    let within = "deadline = '1ms'\nstop_within = '2100ms'\nlisten = '127.0.0.1:0'";
    let channel = "stop_within = '2100ms'\nlisten = '127.0.0.1:0'";
    fs::write(&file, format!("[worker]\n{within}\n[router]\n{within}\n[channel]\n{channel}"))
        .unwrap();
    // Nothing listens there, so each waits.
    let nowhere = ["--bootstrap-servers", "127.0.0.1:1"];
    let lines = [&["worker", "--node-id", "a"][..], &["channel"], &["router"]];
    let all = lines.map(|args| {
        let log = dir.path().join(args[0]);
        let mut command = Command::new(env!("CARGO_BIN_EXE_isotherm"));
        command.arg("--config").arg(&file).args(nowhere).args(args).current_dir(&dir);
        command.env("NO_COLOR", "1").env_remove("ISOTHERM_LOG");
        let stderr = fs::File::create(&log).unwrap();
        (Ended(command.stderr(stderr).spawn().unwrap()), log)
    });
    for (process, log) in &all {
        await_that("a process that waits for Kafka", || {
            fs::read_to_string(log).unwrap().contains("still trying").then_some(())
        });
        let id = process.0.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &id]).status().unwrap().success());
    }
    for (mut process, log) in all {
        let ended = await_that("its end", || process.0.try_wait().unwrap());
        let told = fs::read_to_string(log).unwrap();
        assert_eq!(ended.code(), Some(Exit::TimedOut as i32), "{told}");
        assert!(told.contains("has not ended within 2s 100ms, and gives up"), "{told}");
    }
}

#[test]
fn command_ends_in_its_time_though_no_broker_answers_and_says_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let cases: [(&str, Exit, &str); 6] = [
        ("verify --timeout 1s", Exit::TimedOut, "not compared in 1s: kafka at 127.0.0.1:1 has not"),
        ("move a..b --to n1 --timeout 1s", Exit::TimedOut, "has not answered within 1s"),
        ("move a..b --to n1 --wait --timeout 1s", Exit::TimedOut, "has not answered within 1s"),
        ("forecast swap --built-in --timeout 1s", Exit::TimedOut, "has not answered within 1s"),
        // Those without a time have that of a request.
        ("topics plan", Exit::Failed, "kafka at 127.0.0.1:1 cannot be reached"),
        ("range list", Exit::Failed, "kafka at 127.0.0.1:1 cannot be reached"),
    ];
    let all = cases.map(|(line, status, part)| {
        let log = dir.path().join(line);
        let mut command = Command::new(env!("CARGO_BIN_EXE_isotherm"));
        command.args(["--bootstrap-servers", "127.0.0.1:1"]).args(line.split(' '));
        command.current_dir(&dir).env("NO_COLOR", "1").env_remove("ISOTHERM_LOG");
        let stderr = fs::File::create(&log).unwrap();
        let process = command.stdout(Stdio::null()).stderr(stderr).spawn().unwrap();
        (Ended(process), log, status, part)
    });
    for (mut process, log, status, part) in all {
        let ended = await_that("its end", || process.0.try_wait().unwrap());
        let told = words(&fs::read_to_string(&log).unwrap());
        assert_eq!(ended.code(), Some(status as i32), "{log:?}: {told}");
        assert!(told.contains(part), "{log:?}: {told}");
        let remedy = "help: check --bootstrap-servers and that the broker is reachable";
        assert!(told.contains(remedy), "{log:?}: {told}");
    }
}

#[test]
fn file_that_is_named_and_not_there_is_a_usage_error_that_says_where_it_was_looked_for() {
    let dir = tempfile::tempdir().unwrap();
    let table = dir.path().join("table.toml");
    fs::write(&table, "[table]\nschemas = ['no/orders.avsc']\n").unwrap();
    let table = format!("channel --config {}", table.display());
    for (line, file) in [
        ("replay --trace none.csv.zst", "none.csv.zst"),
        ("demo --trace none.csv.zst", "none.csv.zst"),
        ("forecast backtest --panel none.csv.zst", "none.csv.zst"),
        ("forecast swap none.model", "none.model"),
        ("tail query_log --schema none.avsc", "none.avsc"),
        (&table, "no/orders.avsc"),
    ] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_isotherm"));
        command.args(["--config", "/dev/null"]).args(line.split(' ')).current_dir(&dir);
        command.env("NO_COLOR", "1").env_remove("ISOTHERM_LOG");
        if !line.starts_with("demo") {
            command.args(["--bootstrap-servers", "127.0.0.1:1"]);
        }
        let output = command.output().unwrap();
        let told = words(&String::from_utf8(output.stderr).unwrap());
        assert_eq!(output.status.code(), Some(Exit::Usage as i32), "{line}: {told}");
        let there = ["there is no file", "there is no such file"];
        assert!(there.iter().any(|it| told.contains(it)), "{line}: {told}");
        assert!(told.contains(&format!("{file} is looked for in")), "{line}: {told}");
        assert!(!told.contains("os error"), "{line}: {told}");
    }
}

#[test]
fn missing_topics_are_planned_and_created_and_nothing_else() {
    let Some(real) = real("apply", &[]) else { return };
    let check = |line: &str, status: Exit, parts: &[&str]| check(&real, line, status, parts);
    let created = definitions().len();
    let plan = check("topics plan --exit-code --replication 1", Exit::Pending, &[]);
    assert_eq!(in_state(&plan, "create"), created, "{plan}");
    assert!(!plan.contains("left to be done"), "{plan}");
    // Without being asked, the status is that of a command that did what it should.
    check("topics plan", Exit::Done, &["isotherm topics apply"]);
    let dry = check("topics apply --replication 1 --dry-run -o jsonl", Exit::Done, &[]);
    assert_eq!(dry.lines().count(), created, "{dry}");
    assert_eq!(Admin::open(&real.connection).unwrap().topics().unwrap(), BTreeMap::new());

    // The declared number of copies is more than one broker can have.
    let brokers = Admin::open(&real.connection).unwrap().brokers().unwrap();
    if brokers < 3 {
        check(
            "topics apply",
            Exit::Failed,
            &["isotherm::topics::replication", "--replication-factor"],
        );
        assert_eq!(Admin::open(&real.connection).unwrap().topics().unwrap(), BTreeMap::new());
    }
    let apply = check("topics apply --replication 1", Exit::Done, &[]);
    assert_eq!(in_state(&apply, "created"), created, "{apply}");
    let same = format!("all {created} topics are as declared\n");
    let again = check("topics plan --exit-code --replication 1", Exit::Done, &[]);
    assert_eq!(again, same);
    assert_eq!(check("topics apply --replication 1", Exit::Done, &[]), same);
    // The cluster has what is declared, and not only says so itself.
    let topics = Admin::open(&real.connection).unwrap().topics().unwrap();
    for Definition { name, partitions, settings, .. } in definitions() {
        assert_eq!((topics[name].partitions, topics[name].replication), (partitions, 1), "{name}");
        assert!(settings.iter().all(|(key, value)| topics[name].settings[key] == *value), "{name}");
    }
}

#[test]
fn drift_is_told_with_its_remedy_and_left_alone() {
    let Some(real) = real("drift", &[]) else { return };
    let prefix = &real.connection.prefix;
    let mut strange = declared();
    strange.retain(|name, _| ["query_log", "assignment", "table"].contains(&name.as_str()));
    strange.get_mut("query_log").unwrap().partitions = 3;
    strange.get_mut("assignment").unwrap().partitions = 2;
    strange.get_mut("table").unwrap().partitions = 5;
    Admin::open(&real.connection).unwrap().create(&strange).unwrap();
    let more = format!("--alter --topic {prefix}query_log --partitions 8");
    let anew = format!("{prefix}assignment, read it to its end, delete it");
    let broken = "(in the way of planner, worker, channel, router, replay, operator)";
    // More partitions of this one would be other versions of its rows.
    let never = "leave it as it is: it works with any number";
    let left =
        ["partitions 3, declared 8", "partitions 2, declared 1", &more, &anew, broken, never];
    check(&real, "topics apply --replication 1", Exit::Done, &left);
    let plan = check(&real, "topics plan --exit-code --replication 1", Exit::Pending, &left);
    // All others are there.
    assert_eq!((in_state(&plan, "drift"), in_state(&plan, "create")), (3, 0), "{plan}");

    let mut plan = declared().remove("plan").unwrap().settings;
    plan.insert("retention.ms".into(), "3600000".into());
    alter(&real.connection, "plan", &plan);
    let set = format!("--entity-name {prefix}plan --add-config retention.ms=2592000000");
    let left = ["retention.ms 3600000, declared 2592000000", &set];
    check(&real, "topics apply --replication 1", Exit::Done, &left);
    let lines = check(&real, "topics plan --replication 1 -o jsonl", Exit::Done, &[]);
    let lines: Vec<Value> = lines.lines().map(|it| serde_json::from_str(it).unwrap()).collect();
    let drift = lines.iter().find(|it| it["what"] == "retention.ms").unwrap();
    assert_eq!(drift["topic"], format!("{prefix}plan"));
    assert_eq!((&drift["state"], &drift["actual"]), (&"drift".into(), &"3600000".into()));
    assert!(drift["remedy"].as_str().unwrap().ends_with(&set), "{drift}");
}

#[test]
fn tail_of_every_topic_shows_what_is_on_it() {
    let Some(real) = real("tail", &[]) else { return };
    check(&real, "tail plan --no-follow", Exit::Failed, &["no topic", "topics apply"]);
    check(&real, "tail heatmaps", Exit::Usage, &["did you mean `heatmap`?"]);
    check(&real, "topics apply --replication 1", Exit::Done, &[]);
    write_all(&real.connection);
    // Each mostly waits for the broker, so all at once.
    thread::scope(|scope| {
        for topic in definitions().iter().map(|it| it.name) {
            let real = &real;
            scope.spawn(move || {
                let line = format!("tail {topic} --no-follow --key-format hex -o jsonl");
                let lines = check(real, &line, Exit::Done, &[]);
                check_told(topic, &lines.lines().map(str::to_owned).collect::<Vec<_>>());
            });
        }
    });
    let lines = check(&real, "tail plan --no-follow", Exit::Done, &["0:1  key  deleted"]);
    assert_eq!(lines.lines().count(), 3, "{lines}");
    assert_eq!(check(&real, "tail plan --no-follow --from end", Exit::Done, &[]), "");
    let since = "tail plan --no-follow -o jsonl --from";
    assert_eq!(check(&real, &format!("{since} -1h"), Exit::Done, &[]).lines().count(), 3);
    assert_eq!(check(&real, &format!("{since} 2999-01-01T00:00:00Z"), Exit::Done, &[]), "");
}

#[test]
fn tail_waits_for_more_and_ends_when_it_has_had_enough() {
    let Some(real) = real("wait", &[("heatmap", 1)]) else { return };
    let writer = Writer::open(&real.connection, "test").unwrap();
    let write = |n: u64| {
        writer.send(&Output::new("heatmap", format!("key {n}").into(), b"heat".to_vec())).unwrap();
        writer.flush().unwrap();
    };
    write(0);
    // The end is told at once, and not only when nothing has come for a while.
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("isotherm.toml");
    fs::write(&file, "[kafka.consumer.properties]\n'fetch.wait.max.ms' = '1'\n").unwrap();
    let line = format!("tail heatmap --from beginning -n 20 --config {}", file.display());
    let mut command = isotherm(&real, &line);
    let mut child = Ended(command.stdout(Stdio::piped()).spawn().unwrap());
    let mut lines = BufReader::new(child.0.stdout.take().unwrap()).lines();
    for n in 0..20 {
        let line = lines.next().expect("it waits for more").unwrap();
        assert!(line.contains(&format!("  0:{n}  key {n}  not readable")), "{line}");
        if n < 19 {
            write(n + 1);
        }
    }
    assert!(lines.next().is_none());
    assert!(child.0.wait().unwrap().success());
}

#[test]
fn plans_on_a_cluster_are_listed_and_shown() {
    let Some(real) = real("plan", &[("plan", 1)]) else { return };
    check(&real, "plan show latest", Exit::Failed, &["isotherm::plan::unknown", "has no plan yet"]);
    let writer = Writer::open(&real.connection, "test").unwrap();
    for plan in plans() {
        writer.send(&Output::new("plan", plan.plan.clone().into_bytes(), encode(&plan))).unwrap();
    }
    writer.flush().unwrap();
    let list = check(&real, "plan list", Exit::Done, &[]);
    assert_eq!(list.lines().count(), 4, "{list}");
    check(&real, "plan show p-8", Exit::Done, &["plan p-8 · tick 8 ", "\nchosen ", "\nrests on "]);
    let latest = check(&real, "plan show latest -o json --key-format base64", Exit::Done, &[]);
    let latest: Value = serde_json::from_str(&latest).unwrap();
    assert_eq!((&latest["plan"], &latest["tick"]), (&"p-9".into(), &9.into()));
    check(&real, "plan show p-1", Exit::Failed, &["isotherm plan list"]);
}

/// Writes to every topic a record of its own, a tombstone, and what is neither.
fn write_all(connection: &Connection) {
    let writer = Writer::open(connection, "test").unwrap();
    for topic in definitions().iter().map(|it| it.name) {
        let mut record = Output::new(topic, b"key".to_vec(), golden(topic));
        if topic == dead_letter::TOPIC {
            let text = |it: &str| it.as_bytes().to_vec();
            record.headers = vec![
                (dead_letter::HEADER_TOPIC, text("query_log")),
                (dead_letter::HEADER_PARTITION, text("5")),
                (dead_letter::HEADER_OFFSET, text("77")),
                (dead_letter::HEADER_REASON, text("malformed")),
                (dead_letter::HEADER_DETAIL, text("it ends within the fingerprint")),
            ];
        }
        let tombstone = Output { value: None, ..record.clone() };
        for output in [record, tombstone, Output::new(topic, b"key".to_vec(), b"oops".to_vec())] {
            writer.send(&output).unwrap();
        }
    }
    writer.flush().unwrap();
}

/// Checks what was told of the three records of [`write_all`].
fn check_told(topic: &str, lines: &[String]) {
    let records: Vec<Value> = lines.iter().map(|it| serde_json::from_str(it).unwrap()).collect();
    let [record, tombstone, neither] = &records[..] else { panic!("{topic}: {lines:#?}") };
    for (offset, it) in records.iter().enumerate() {
        assert_eq!((&it["topic"], &it["key"]), (&topic.into(), &"6b6579".into()), "{it}");
        assert_eq!(it["offset"], offset, "{it}");
    }
    assert!(tombstone["value"].is_null() && tombstone["error"].is_null(), "{tombstone}");
    if topic == dead_letter::TOPIC {
        assert_eq!(record["value"], "01ff", "{record}");
        assert_eq!(record["headers"][dead_letter::HEADER_REASON], "malformed", "{record}");
        assert_eq!(record["headers"][dead_letter::HEADER_OFFSET], "77", "{record}");
    } else {
        assert!(record["value"].as_object().is_some_and(|it| !it.is_empty()), "{record}");
        assert_eq!(neither["error"]["code"], "not_single_object", "{neither}");
        assert_eq!(neither["error"]["bytes"], "6f6f7073", "{neither}");
    }
}

/// A value of the topic, as another implementation of Avro wrote it.
fn golden(topic: &str) -> Vec<u8> {
    if topic == dead_letter::TOPIC {
        return vec![1, 255];
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    fs::read(root.join(format!("tests/golden/{topic}.0.bin"))).unwrap()
}

fn plans() -> [Planned; 3] {
    let plan: Planned = decode(&golden("plan")).unwrap();
    [7, 8, 9].map(|tick| Planned { plan: format!("p-{tick}"), tick, ..plan.clone() })
}

/// Every topic as declared, but with one copy.
fn declared() -> BTreeMap<String, Topic> {
    let topic = |it: Definition| {
        let Definition { name, partitions, settings, .. } = it;
        (name.to_owned(), Topic { partitions, replication: 1, settings })
    };
    definitions().into_iter().map(topic).collect()
}

/// Sets all settings of a topic.
fn alter(connection: &Connection, topic: &str, settings: &BTreeMap<String, String>) {
    let mut client = ClientConfig::new();
    client.set("bootstrap.servers", &connection.bootstrap_servers);
    let admin: AdminClient<DefaultClientContext> = client.create().unwrap();
    let (name, topic) = (topic, connection.topic(topic));
    let all = AlterConfig::new(ResourceSpecifier::Topic(&topic));
    let all = settings.iter().fold(all, |all, (key, value)| all.set(key, value));
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let answers = runtime.block_on(admin.alter_configs([&all], &AdminOptions::new())).unwrap();
    answers.into_iter().for_each(|it| _ = it.unwrap());
    // The broker that is asked learns of it a little after the controller has answered.
    let shown = Admin::open(connection).unwrap();
    let is_shown = || {
        let topics = shown.topics().unwrap();
        settings.iter().all(|(key, value)| topics[name].settings.get(key) == Some(value))
    };
    let deadline = Instant::now() + Duration::from_secs(10);
    while !is_shown() {
        assert!(Instant::now() < deadline, "{topic} is not shown with its new settings");
    }
}

/// Runs a command to its end, and returns what it printed; checks its status and, with what it said
/// on standard error, that it contains these.
fn check(real: &Real, line: &str, status: Exit, parts: &[&str]) -> String {
    let output = isotherm(real, line).output().unwrap();
    let [data, said] = [output.stdout, output.stderr].map(|it| String::from_utf8(it).unwrap());
    assert_eq!(output.status.code(), Some(status as i32), "{line}: {data}{said}");
    let all = format!("{data}{said}");
    for part in parts {
        assert!(all.contains(part) || words(&all).contains(part), "{line}: {part} is not in {all}");
    }
    data
}

/// What was said: lines of errors are broken to the width of a terminal.
fn words(text: &str) -> String {
    text.replace('│', " ").split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Counts the topics that are in a state.
fn in_state(table: &str, state: &str) -> usize {
    let lines = table.lines().take_while(|it| !it.is_empty());
    lines.filter(|it| it.split_whitespace().nth(1) == Some(state)).count()
}

fn isotherm(real: &Real, line: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_isotherm"));
    let Connection { bootstrap_servers, prefix, .. } = &real.connection;
    command.args(["--bootstrap-servers", bootstrap_servers, "--prefix", prefix]);
    command.args(line.split(' ')).env_remove("ISOTHERM_LOG");
    command
}

/// A process that does not outlive its test.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        // It may have ended by itself.
        _ = self.0.kill();
        _ = self.0.wait();
    }
}
