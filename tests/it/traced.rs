//! What processes export, as a collector gets it: the trace of a plan through all of them, that of a query,
//! and what they measure.
//!
//! ```text
//!  planner, workers n0 and n1, channel, router ──> collector      and /metrics, whoever asks
//! ```

mod collector;

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};

use isotherm::cli::exit::Exit;
use isotherm::telemetry::metrics::{self, Kind, METRICS, Metric};
use schemas::plan::Planned;

use self::collector::{API_KEY, Collector, Span, tree};
use crate::killed::check_replay;
use crate::moved::{check, ranges};
use crate::world::{Process, World, await_that};

const MORE: &str = "split_points = ['4', '8']\n[channel]\nwatermark_every = '200ms'\n\
                    [worker]\nreport_every = '100ms'\ngrace = '500ms'";

/// Of whoever asks the router.
const ASKER: [&str; 2] = ["0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"];

/// Two nodes, a channel, a router and a planner that does what it is told.
struct Index {
    planner: Process,
    nodes: [Process; 2],
    channel: Process,
    router: Process,
    collector: Collector,
    world: World,
}

impl Index {
    fn start(name: &str) -> Option<Self> {
        let mut world = World::create(name, &[])?;
        let collector = Collector::start();
        world.environment = collector.variables();
        world.mode = "observe";
        world.birth_nodes = 2;
        world.more = MORE;
        let res = Self {
            planner: world.planner("planner", None),
            nodes: ["n0", "n1"].map(|it| worker(&world, it)),
            channel: channel(&world),
            router: world.start("router", &["router"], None),
            collector,
            world,
        };
        for (_, it) in res.processes() {
            let what = format!("{} to be ready", it.log_path().display());
            await_that(&what, || (it.ask("/readyz")?.0 == 200).then_some(()));
        }
        Some(res)
    }

    fn processes(&self) -> [(&'static str, &Process); 5] {
        let [n0, n1] = self.nodes.each_ref();
        [
            ("planner", &self.planner),
            ("worker", n0),
            ("worker", n1),
            ("channel", &self.channel),
            ("router", &self.router),
        ]
    }

    /// Returns a range, and the nodes that have it and that have it not, by their numbers.
    fn range(&self) -> (String, usize, usize) {
        let range = await_that("ranges that are settled and reported", || {
            let ranges = ranges(&self.world)?;
            let is_settled =
                |it: &serde_json::Value| it["migration"].is_null() && !it["bytes"].is_null();
            ranges.iter().all(is_settled).then(|| ranges[0].clone())
        });
        let from = usize::from(range["node"] == "n1");
        (range["range"].as_str().unwrap().to_owned(), from, 1 - from)
    }

    fn plan(&self) -> Planned {
        let plan = || {
            let plans: Vec<Planned> = self.world.values();
            plans.into_iter().rfind(|it| !it.moves.is_empty())
        };
        await_that("a plan that moves something", plan)
    }

    /// Waits until this holds of the spans of a trace.
    fn await_trace(&self, id: &str, holds: impl Fn(&[Span]) -> bool) -> Vec<Span> {
        let spans = || {
            let all = self.collector.spans().into_iter();
            all.filter(|it| it.trace_id() == id).collect::<Vec<_>>()
        };
        await_that(&format!("the trace {id}"), || Some(spans()).filter(|it| holds(it)))
    }

    /// The tree, without the names of this world.
    fn tree(&self, spans: &[Span]) -> String {
        tree(spans).replace(&self.world.connection.prefix, "")
    }
}

fn worker(world: &World, node: &str) -> Process {
    world.start(node, &["worker", "--dir", "data", "--node-id", node], None)
}

fn channel(world: &World) -> Process {
    world.start("channel", &["channel", "--member", "c"], None)
}

fn count(spans: &[Span], name: &str) -> usize {
    spans.iter().filter(|it| it.span.name.starts_with(name)).count()
}

fn find<'a>(spans: &'a [Span], name: &str) -> &'a Span {
    spans.iter().find(|it| it.span.name.starts_with(name)).unwrap()
}

#[test]
fn plan_is_one_trace_through_planner_source_and_destination() {
    let Some(index) = Index::start("traced") else { return };
    // A third of it, which moves, is more segments of 512 KiB than are told one by one.
    let rows = ["load", "--rows", "2000", "--payload-bytes", "40000"];
    check(&index.world, &rows, Exit::Done, "");
    let (range, from, to) = index.range();
    let node = |n: usize| ["n0", "n1"][n];
    check(&index.world, &["move", &range, "--to", node(to), "--wait"], Exit::Done, "is complete");
    let plan = index.plan();
    let trace = &plan.digest[..32];
    // COPYING, READY, ACTIVE and COMPLETE, at least, each heard of, and what is ended last.
    let spans = index.await_trace(trace, |it| {
        let processed = count(it, "process ") - count(it, "process migrate_range");
        let is_status = |it: &&Span| {
            it.span.name.starts_with("send ") && it.span.name.ends_with("migration_status")
        };
        let is_heard =
            |sent: &Span| it.iter().any(|by| by.span.parent_span_id == sent.span.span_id);
        let all_heard = it.iter().filter(is_status).all(is_heard);
        count(it, "plan") == 1 && processed >= 6 && all_heard && count(it, "drain") == 1
    });
    let expected = "\
planner plan
  planner send migrate_range
    worker process migrate_range
      worker copy
        worker process segment_ack
          worker snapshot
      worker cut-over
      worker drain
      worker send migration_status
        planner process migration_status
      worker send migration_status
        planner process migration_status
          planner send assignment
            worker process assignment
      worker verify
";
    assert_eq!(index.tree(&spans), expected);
    let of_move = [metrics::SEGMENT_BYTES, metrics::MIGRATIONS];
    check_metrics(&index, &[("planner", &[metrics::PLANS]), ("worker", &of_move)]);
    let topic = |name: &str| format!("{}{name}", index.world.connection.prefix);
    let destination = find(&spans, &format!("process {}", topic("migrate_range")));
    let source = find(&spans, &format!("process {}", topic("segment_ack")));
    assert_eq!(destination.attribute("isotherm.node").unwrap(), node(to));
    assert_eq!(source.attribute("isotherm.node").unwrap(), node(from));
    assert_eq!(destination.attribute("messaging.system").unwrap(), "kafka");
    assert_eq!(
        destination.attribute("messaging.destination.name").unwrap(),
        topic("migrate_range")
    );
    assert_eq!(find(&spans, "plan").attribute("isotherm.plan").unwrap(), plan.plan);
    for (span, event) in [(find(&spans, "copy"), "segment is read"), (source, "segment is sent")] {
        let events = span.events();
        assert_eq!(events, [event; 32]);
        let segments: usize = span.attribute("isotherm.segments").unwrap().parse().unwrap();
        assert!(32 < segments, "{segments}");
    }
    // Who decides the same again, without traces, comes to the same.
    check_replay(&index.world, None);
    // What the destination logs of it has the ids.
    index.nodes[to].await_log(&format!("trace_id={trace} span_id="), 4);
}

#[test]
fn destination_that_is_killed_goes_on_in_the_same_trace() {
    let Some(mut index) = Index::start("retraced") else { return };
    let (range, _, to) = index.range();
    let node = ["n0", "n1"][to];
    // Without watermarks nothing is drained, so the move does not end.
    index.channel.kill_now();
    check(&index.world, &["move", &range, "--to", node], Exit::Done, "asked as ");
    let trace = index.plan().digest[..32].to_owned();
    index.await_trace(&trace, |it| count(it, "cut-over") == 1);
    index.nodes[to].kill_now();
    index.nodes[to] = worker(&index.world, node);
    index.channel = channel(&index.world);
    let spans = index.await_trace(&trace, |it| count(it, "drain") == 1);
    let resumed = |it: &&Span| it.attribute("isotherm.resumed").is_some();
    let spans_resumed = || {
        let spans = index.collector.spans();
        spans.into_iter().filter(|it| it.trace_id() == trace).find(|it| resumed(&it))
    };
    let whole = await_that("the end of what was resumed", spans_resumed);
    let drain = find(&spans, "drain");
    assert_eq!(drain.span.parent_span_id, whole.span.span_id);
    let sent = spans.iter().find(|it| it.span.span_id == whole.span.parent_span_id).unwrap();
    assert!(sent.span.name.ends_with("migrate_range"), "{}", sent.span.name);
}

#[test]
fn query_is_traced_from_router_to_worker_and_linked_from_the_query_log() {
    let Some(index) = Index::start("queried") else { return };
    check(&index.world, &["load", "--rows", "200"], Exit::Done, "");
    let [trace, span] = ASKER;
    let parent = format!("traceparent: 00-{trace}-{span}-01\r\n");
    ask_key(&index.router, &parent);
    let spans = index.await_trace(trace, |it| 3 <= it.len());
    let expected = "\
elsewhere
  router GET /v1/keys/{key}
    router POST /v1/reads
      worker POST /v1/reads
";
    assert_eq!(index.tree(&spans), expected);
    assert!(spans.iter().any(|it| {
        it.span.parent_span_id.iter().map(|it| format!("{it:02x}")).collect::<String>() == span
    }));
    let name = format!("send {}query_log", index.world.connection.prefix);
    let logged = await_that("the log of the query", || {
        let linked = |it: &Span| {
            let ids = it.span.links.iter().map(|it| &it.trace_id);
            it.span.name == name && ids.eq([&spans[0].span.trace_id])
        };
        index.collector.spans().into_iter().find(linked)
    });
    let carried = |it: &isotherm::kafka::Record| {
        let parent = it.header("traceparent").map(|it| String::from_utf8(it.to_vec()).unwrap());
        parent.is_some_and(|it| it.contains(&logged.trace_id()))
    };
    assert!(index.world.records("query_log").iter().any(carried));

    // What is no context begins a trace of its own, and is answered as any other.
    ask_key(&index.router, "traceparent: 00-garbage-01\r\n");
    await_that("another trace of a query", || {
        let all = index.collector.spans();
        let is_root = |it: &Span| it.span.parent_span_id.is_empty();
        all.into_iter().find(|it| it.span.name.starts_with("GET /v1/keys/") && is_root(it))
    });
    check_metrics_of_a_query(&index);
}

/// Asks for a key with more headers, and checks that there is an answer.
fn ask_key(router: &Process, headers: &str) {
    let answer = asked("5", router, headers);
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

/// Asks for what stands behind `/v1/keys/`, and returns what is said.
fn asked(key: &str, router: &Process, headers: &str) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", router.port())).unwrap();
    let request = format!("GET /v1/keys/{key} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n");
    write!(stream, "{request}{headers}\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn variables_say_who_a_process_is_what_it_samples_and_with_which_headers_it_exports() {
    let Some(mut world) = World::create("variables", &[]) else { return };
    let collector = Collector::start();
    world.environment = collector.variables();
    world.environment.extend(
        [
            ("OTEL_SERVICE_NAME", "front"),
            ("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=trial"),
            ("OTEL_TRACES_SAMPLER", "parentbased_always_off"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "x-api-key=abc"),
            ("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip"),
        ]
        .map(|(name, value)| (name, value.to_owned())),
    );
    assert!(world.environment.iter().any(|it| it.1.starts_with(API_KEY)));
    let router = world.start("router", &["router"], None);
    await_that("the router", || router.ask("/livez"));
    // Nothing is assigned, so there is no answer in time; the second is sampled, as its parent is.
    let [trace, span] = ASKER;
    for parent in [String::new(), format!("traceparent: 00-{trace}-{span}-01\r\n")] {
        let answer = asked("5?deadline_ms=50", &router, &parent);
        assert!(answer.starts_with("HTTP/1.1 50"), "{answer}");
    }
    let is_asked = |it: &Span| it.span.name.starts_with("GET /v1/keys/");
    await_that("a span", || collector.spans().into_iter().find(is_asked));
    router.signal("-TERM");
    assert!(router.ended().success());
    let spans = collector.spans();
    assert!(spans.iter().all(|it| it.trace_id() == trace), "{spans:?}");
    for it in &spans {
        assert_eq!((it.service.as_str(), it.api_key.as_deref()), ("front", Some("abc")));
        assert!(it.was_compressed);
        assert_eq!(it.of_resource("deployment.environment.name").as_deref(), Some("trial"));
    }
}

/// Every process tells what is documented and nothing else, and these of it, on its page and to the collector.
fn check_metrics(index: &Index, expected: &[(&str, &[Metric])]) {
    for (name, process) in index.processes() {
        let (status, page) = process.ask("/metrics").unwrap();
        assert_eq!(status, 200);
        let found = names_on(&page);
        println!("{name} tells {found:?}");
        let all: BTreeSet<_> = METRICS.iter().map(Metric::prometheus_name).collect();
        let others: Vec<_> = found.difference(&all).collect();
        assert!(others.is_empty(), "{name} tells {others:?}\n{page}");
        for it in expected.iter().filter(|it| it.0 == name).flat_map(|it| it.1) {
            assert!(found.contains(&it.prometheus_name()), "{name} has no {}\n{page}", it.name);
            let sent = (format!("isotherm-{name}"), it.name.to_owned());
            await_that(it.name, || index.collector.metrics().contains(&sent).then_some(()));
        }
    }
}

/// What processes tell while a query is answered.
fn check_metrics_of_a_query(index: &Index) {
    use metrics::{
        CHANNEL_LAG, CHANNEL_PARTITIONS, COMMITS, EVENTS, FORECAST_TICKS, GENERATION, MIGRATIONS,
        MIGRATIONS_ENDED, QUERIES, RANGES, ROUTER_ENDPOINTS, ROUTER_READ_DURATION, ROUTER_READS,
        ROUTER_WAITING, STORED, STORED_ENTRIES, TICK_DURATION, TICK_LAG, UPDATES,
    };
    let of_planner =
        [TICK_DURATION, TICK_LAG, COMMITS, RANGES, QUERIES, FORECAST_TICKS, MIGRATIONS_ENDED];
    let of_router =
        [ROUTER_READS, ROUTER_READ_DURATION, ROUTER_WAITING, ROUTER_ENDPOINTS, RANGES, GENERATION];
    check_metrics(
        index,
        &[
            ("planner", &of_planner),
            ("worker", &[RANGES, GENERATION, STORED, STORED_ENTRIES, UPDATES, MIGRATIONS]),
            ("channel", &[EVENTS, CHANNEL_PARTITIONS, CHANNEL_LAG, GENERATION]),
            ("router", &of_router),
        ],
    );
    let (_, page) = index.router.ask("/metrics").unwrap();
    assert!(page.contains("isotherm_router_reads_total{outcome=\"found\"} 2"), "{page}");
}

/// The names on a page, each as its `TYPE` line has it; checks that all other lines are samples of those.
fn names_on(page: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for line in page.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            let metric = METRICS.iter().find(|it| it.prometheus_name() == name);
            if let Some(it) = metric {
                let expected = match it.kind {
                    Kind::Counter => "counter",
                    Kind::Gauge => "gauge",
                    Kind::Histogram => "histogram",
                };
                assert_eq!(kind, expected, "{name}");
            }
            if name != "target_info" {
                names.insert(name.to_owned());
            }
        } else if !line.starts_with('#') {
            let (sample, value) = line.rsplit_once(' ').unwrap();
            assert!(value.parse::<f64>().is_ok(), "{line}");
            let name = sample.split('{').next().unwrap();
            let is_of = |it: &String| name.starts_with(it.as_str());
            assert!(name == "target_info" || names.iter().any(is_of), "{line}");
        }
    }
    names
}

#[test]
fn process_goes_on_and_ends_though_the_collector_never_answers() {
    let Some(mut world) = World::create("uncollected", &[]) else { return };
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    world.environment = vec![
        ("OTEL_EXPORTER_OTLP_ENDPOINT", format!("http://{}", silent.local_addr().unwrap())),
        // Longer than this test waits for anything.
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "600000".into()),
        ("OTEL_BSP_SCHEDULE_DELAY", "50".into()),
        ("OTEL_METRIC_EXPORT_INTERVAL", "50".into()),
    ];
    let router = world.start("router", &["router"], None);
    await_that("the router", || router.ask("/livez").map(|_| ()));
    // There is no map, so nothing is found; but there is a span.
    assert_eq!(router.ask("/v1/keys/5?deadline_ms=1").unwrap().0, 504);
    // It exports both, and waits for answers.
    let mut exports = Vec::new();
    await_that("an export of spans", || {
        let (mut export, _) = silent.accept().unwrap();
        let mut head = [0; 64];
        let length = export.read(&mut head).unwrap();
        exports.push(export);
        head[..length].starts_with(b"POST /v1/traces").then_some(())
    });
    assert_eq!(router.ask("/metrics").unwrap().0, 200);
    router.signal("-TERM");
    assert!(router.ended().success());
    drop(exports);
}
