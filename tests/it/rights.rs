//! All processes on a Kafka with SASL_SSL, SCRAM and ACLs: each as a principal of its own, which has the rights
//! that docs/deployment.md tells and no others.
//!
//! Needs `ISOTHERM_TEST_KAFKA_SECURE`, `ISOTHERM_TEST_KAFKA_CA` and `ISOTHERM_TEST_KAFKA_SCRIPT`.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use isotherm::cli::exit::Exit;
use isotherm::topics::definition::{Definition, Process as Who};
use isotherm::topics::definitions;
use serde_json::Value;

use crate::kafka::broker::kafka;
use crate::world::{Process, World, await_that, say};

/// On any port.
const LISTEN: [&str; 2] = ["--listen", "127.0.0.1:0"];

/// A line of the table in docs/deployment.md.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Rights {
    principal: String,
    reads: BTreeSet<String>,
    writes: BTreeSet<String>,
    groups: BTreeSet<String>,
    transactional_ids: BTreeSet<String>,
}

fn told() -> Vec<Rights> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/deployment.md");
    let text = fs::read_to_string(path).unwrap();
    let table = text.lines().skip_while(|it| !it.starts_with("| principal |")).skip(2);
    table.map_while(|it| it.strip_prefix("| ")?.strip_suffix(" |")).map(Rights::read).collect()
}

impl Rights {
    fn read(line: &str) -> Self {
        let names = |cell: &str| {
            cell.split(", ").filter(|it| *it != "-").map(str::to_owned).collect::<BTreeSet<_>>()
        };
        let [principal, reads, writes, groups, transactional_ids] =
            line.split(" | ").collect::<Vec<_>>().try_into().unwrap();
        let [reads, writes, groups, transactional_ids] =
            [reads, writes, groups, transactional_ids].map(names);
        Self { principal: principal.into(), reads, writes, groups, transactional_ids }
    }

    fn topics(&self) -> BTreeSet<String> {
        self.reads.union(&self.writes).cloned().collect()
    }
}

#[test]
fn rights_that_are_told_are_what_the_topics_need() {
    let definitions = definitions();
    let of = |is: &dyn Fn(&Definition) -> bool| -> BTreeSet<String> {
        definitions.iter().filter(|it| is(it)).map(|it| it.name.to_owned()).collect()
    };
    let told = told();
    let who: BTreeSet<_> = told.iter().map(|it| it.principal.as_str()).collect();
    assert_eq!(who, Who::ALL.iter().map(|it| it.name()).collect());
    for it in &told {
        let who = Who::from_name(&it.principal).unwrap();
        assert_eq!(it.reads, of(&|it| it.readers.contains(&who)), "{} reads", it.principal);
        assert_eq!(it.writes, of(&|it| it.writers.contains(&who)), "{} writes", it.principal);
    }
}

#[test]
fn all_processes_run_with_the_rights_that_are_told() {
    let Some(secure) = Secure::create("rights") else { return };
    let told = told();
    for it in &told {
        secure.grant(&it.principal, it);
    }
    let processes = [
        secure.start("planner", "planner", &["planner", "--tick", "500ms"]),
        secure.start("n0", "worker", &["worker", "--dir", "data", "--node-id", "n0"]),
        secure.start("n1", "worker", &["worker", "--dir", "data", "--node-id", "n1"]),
        secure.start("channel", "channel", &["channel"]),
        secure.start("router", "router", &["router"]),
    ];
    for it in &processes {
        let what = format!("{} to be ready", it.log_path().display());
        await_that(&what, || (it.ask("/readyz")?.0 == 200).then_some(()));
    }
    let router = format!("127.0.0.1:{}", processes[4].port());
    let load = ["load", "--scenario", "uniform", "--keys", "1000", "--fill", "--duration", "3s"];
    let rate = ["--reads-per-s", "50", "--writes-per-s", "10", "--router", &router, "-o", "jsonl"];
    let said = secure.check("load", &[&load[..], &rate].concat(), Exit::Done, &["\"failed\":0"]);
    say(&format!("rights: {said}"));
    secure.check("operator", &["verify", "--timeout", "60s"], Exit::Done, &["0 missing, 0 extra"]);
    let ranges = secure.check("operator", &["range", "list", "-o", "jsonl"], Exit::Done, &[]);
    let first: Value = serde_json::from_str(ranges.lines().next().unwrap()).unwrap();
    let to = if first["node"] == "n0" { "n1" } else { "n0" };
    let range = first["range"].as_str().unwrap();
    let args = ["move", range, "--to", to, "--wait"];
    secure.check("operator", &args, Exit::Done, &["is complete"]);
    // What was asked of routers and written by channels was logged, and nothing was refused.
    await_that("query logs", || (!secure.world.records("query_log").is_empty()).then_some(()));
    for topic in ["table", "query_log"] {
        secure.produce("application", topic, "nobody understands it");
    }
    // Whose record it was, and why nobody took it in.
    await_that("dead letters", || (secure.world.records("dead_letter").len() == 2).then_some(()));
    let letters = ["tail", "dead_letter", "--no-follow", "-o", "jsonl"];
    secure.check("operator", &letters, Exit::Done, &["query_log", "table"]);
    secure.check("operator", &["plan", "list", "-o", "jsonl"], Exit::Done, &["\"plan\""]);
    secure.check("dashboard", &["tail", "heatmap", "--no-follow"], Exit::Done, &["mean-30"]);
    secure.check("replay", &["replay", "--verify"], Exit::Done, &["come out as they stand"]);
    let log = ["--topic", "query_log"];
    let capacity = ["--capacity", "20000,40000", "--tick", "500ms"];
    secure.check("replay", &[&["replay"], &log[..], &capacity].concat(), Exit::Done, &["decided"]);
    secure.check("replay", &["forecast", "model"], Exit::Done, &["as a rung"]);
    let backtest = ["forecast", "backtest", "--bin", "10ms"];
    secure.check("replay", &[&backtest[..], &log].concat(), Exit::Done, &["thirty bins"]);
    for it in processes {
        it.signal("-TERM");
        let log = it.log_path();
        assert_eq!(it.ended().code(), Some(Exit::Done as i32), "{}", log.display());
        let log = fs::read_to_string(log).unwrap();
        assert!(!log.to_lowercase().contains("authoriz"), "{log}");
    }
    // One that adopts the assignment asks what was begun.
    let own = BTreeSet::from(["second".to_owned()]);
    let rights = Rights { groups: own.clone(), transactional_ids: own, ..Rights::default() };
    secure.grant("planner", &rights);
    let args = ["planner", "--id", "second", "--tick", "500ms"];
    let second = secure.start("second", "planner", &args);
    let log = second.log_path();
    let said = || fs::read_to_string(&log).unwrap();
    await_that("an adoption", || said().contains("Adopted").then_some(()));
    second.signal("-TERM");
    assert_eq!(second.ended().code(), Some(Exit::Done as i32), "{}", said());
    assert!(!said().to_lowercase().contains("authoriz"), "{}", said());
}

#[test]
fn what_kafka_refuses_is_named_by_the_process() {
    let Some(secure) = Secure::create("refused") else { return };
    let commands: [&[&str]; 4] =
        [&["planner"], &["worker", "--node-id", "n0", "--dir", "data"], &["channel"], &["router"]];
    let told = told();
    let rights = |who: &str| told.iter().find(|it| it.principal == who).unwrap().clone();
    // Each is refused for 10 s before it gives up: all of them at once.
    let other_ca = secure.other_ca();
    let mut begun = Vec::new();
    for args in commands {
        let who = args[0];
        let named = [["Authentication failed", "sasl.*"], ["certificate verify failed", "ssl.*"]];
        let ways = [("mistaken", &secure.ca), (who, &other_ca)];
        for (n, ((password, ca), named)) in ways.into_iter().zip(named).enumerate() {
            let file = format!("{who}-refused-{n}");
            secure.user(&file, who, password, ca);
            begun.push((secure.begin(&file, &[args, &LISTEN].concat()), args, named));
        }
    }
    for (child, args, named) in begun {
        let named = [&secure.servers, named[0], named[1]];
        let said = text_of(child.wait_with_output().unwrap(), args, Exit::Failed, &named);
        assert!(!said.contains("is back"), "who is refused has not been there: {said}");
    }
    let check = |args: &[&str], named: &[&str]| {
        _ = secure.check(args[0], &[args, &LISTEN].concat(), Exit::Failed, named);
    };
    for args in commands {
        check(args, &["may not use these topics", "assignment", "TOPIC_AUTHORIZATION_FAILED"]);
        if args[0] == "router" {
            secure.allow("router", "--topic", "Read", &rights("router").reads);
            secure.allow("router", "--topic", "Write", &rights("router").writes);
            check(args, &["assignment", "allow this process DescribeConfigs"]);
        }
        // All but what is no topic.
        let (groups, transactional_ids) = (BTreeSet::new(), BTreeSet::new());
        secure.grant(args[0], &Rights { groups, transactional_ids, ..rights(args[0]) });
    }
    let named = |who: &str| secure.world.connection.topic(who);
    check(&["planner"], &[&format!("group {}", named("planner")), "`Read`"]);
    check(&["channel"], &[&format!("group {}", named("channel")), "`Read`"]);
    secure.grant("planner", &Rights { groups: rights("planner").groups, ..Rights::default() });
    check(&["planner"], &[&format!("transactional id {}", named("planner")), "`Write`"]);
}

/// A world whose processes come by the secure way.
struct Secure {
    world: World,
    servers: String,
    ca: PathBuf,
    script: String,
}

impl Secure {
    fn create(name: &str) -> Option<Self> {
        let names = ["SECURE", "CA", "SCRIPT"].map(|it| format!("ISOTHERM_TEST_KAFKA_{it}"));
        let [Ok(servers), Ok(ca), Ok(script)] = names.each_ref().map(std::env::var) else {
            say(&format!("SKIPPED {name}: {names:?} are not set"));
            return None;
        };
        let mut world = World::create(name, &[])?;
        world.birth_nodes = 2;
        world.more = r#"birth_ranges = 4
            key_last = "0x00000000000003e8"
            [worker]
            report_every = "300ms""#;
        let res = Self { world, servers, ca: ca.into(), script };
        fs::write(res.file("world"), res.world.configuration()).unwrap();
        for who in Who::ALL.map(Who::name) {
            res.user(who, who, who, &res.ca);
        }
        Some(res)
    }

    fn file(&self, stem: &str) -> PathBuf {
        self.world.folder.path().join(format!("{stem}.toml"))
    }

    /// Writes to a file as whom and with which password a process comes, and whom it trusts.
    fn user(&self, file: &str, who: &str, password: &str, ca: &Path) {
        let text = format!(
            r#"
            [kafka]
            bootstrap_servers = "{}"
            [kafka.properties]
            "security.protocol" = "SASL_SSL"
            "sasl.mechanism" = "SCRAM-SHA-512"
            "sasl.username" = "{who}"
            "sasl.password" = "{password}"
            "ssl.ca.location" = "{}"
            "#,
            self.servers,
            ca.display()
        );
        fs::write(self.file(&format!("as-{file}")), text).unwrap();
    }

    /// An authority that has signed nothing.
    fn other_ca(&self) -> PathBuf {
        let path = self.world.folder.path().join("other.pem");
        if !path.exists() {
            let key = self.world.folder.path().join("other.key");
            let request = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=other"];
            let mut command = Command::new("openssl");
            command.args(request).arg("-keyout").arg(key).arg("-out").arg(&path);
            assert!(command.output().unwrap().status.success());
        }
        path
    }

    fn grant(&self, who: &str, rights: &Rights) {
        self.allow(who, "--topic", "Read", &rights.reads);
        self.allow(who, "--topic", "Write", &rights.writes);
        self.allow(who, "--topic", "DescribeConfigs", &rights.topics());
        self.allow(who, "--group", "Read", &rights.groups);
        self.allow(who, "--transactional-id", "Write", &rights.transactional_ids);
    }

    /// Gives a right by Kafka's own tool.
    fn allow(&self, who: &str, resource: &str, operation: &str, names: &BTreeSet<String>) {
        if names.is_empty() {
            return;
        }
        let (servers, principal) =
            (&self.world.connection.bootstrap_servers, format!("User:{who}"));
        let mut args = vec!["tool", "acls", "--bootstrap-server", servers, "--add"];
        args.extend(["--allow-principal", &principal, "--operation", operation]);
        let names: Vec<_> = names.iter().map(|it| self.world.connection.topic(it)).collect();
        args.extend(names.iter().flat_map(|it| [resource, it.as_str()]));
        kafka(&self.script, &args);
    }

    /// Writes a record by Kafka's own tool.
    fn produce(&self, who: &str, topic: &str, value: &str) {
        let file = self.world.folder.path().join(format!("{who}.properties"));
        let text = format!(
            "security.protocol=SASL_SSL\nsasl.mechanism=SCRAM-SHA-512\n\
             ssl.truststore.type=PEM\nssl.truststore.location={}\n\
             sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required \
             username={who} password={who};\n",
            self.ca.display()
        );
        fs::write(&file, text).unwrap();
        let topic = self.world.connection.topic(topic);
        let mut command = Command::new(&self.script);
        command.args(["tool", "console-producer", "--bootstrap-server", &self.servers]);
        command.args(["--topic", &topic, "--reader-property", "parse.key=true"]);
        command.arg("--command-config").arg(file);
        let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
        writeln!(child.stdin.take().unwrap(), "key\t{value}").unwrap();
        assert!(child.wait().unwrap().success(), "{who} writes to {topic}");
    }

    fn start(&self, name: &str, who: &str, args: &[&str]) -> Process {
        let file = self.file(&format!("as-{who}"));
        let servers = ["--bootstrap-servers", &self.servers, "--config", file.to_str().unwrap()];
        self.world.start(name, &[args, &servers].concat(), None)
    }

    fn begin(&self, file: &str, args: &[&str]) -> Child {
        let mut command = Command::new(env!("CARGO_BIN_EXE_isotherm"));
        command.args(args).arg("--config").arg(self.file("world"));
        command.arg("--config").arg(self.file(&format!("as-{file}")));
        command.current_dir(&self.world.folder).env("NO_COLOR", "1").env_remove("ISOTHERM_LOG");
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    /// Runs a command to its end; checks its status, and that it names all of this.
    fn check(&self, who: &str, args: &[&str], exit: Exit, named: &[&str]) -> String {
        text_of(self.begin(who, args).wait_with_output().unwrap(), args, exit, named)
    }
}

fn text_of(output: Output, args: &[&str], exit: Exit, named: &[&str]) -> String {
    let [data, said] = [output.stdout, output.stderr].map(|it| String::from_utf8(it).unwrap());
    let all = format!("{data}{said}");
    assert_eq!(output.status.code(), Some(exit as i32), "{}: {args:?}: {all}", output.status);
    // Lines are broken for a person, in names too.
    let flat = |it: &str| it.replace(['│', ' ', '\n'], "");
    for it in named {
        assert!(flat(&all).contains(&flat(it)), "{args:?}: {it} is not in {all}");
    }
    all
}
