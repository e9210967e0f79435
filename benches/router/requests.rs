//! Asks the front of a router, with and without telemetry: a process each, as that is set up once.

use std::net::SocketAddr;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cpu_time::ProcessTime;
use isotherm::counts::Counts;
use isotherm::telemetry;
use isotherm::web::front::{self, Answering};
use isotherm::web::reads::{Answer, Asked, Found, Read, What};
use isotherm::web::workers::{self, Workers};
use schemas::Key;

use crate::scale::or_smoke;

/// Set in the processes that measure, to the name of what they do.
pub const CHILD: &str = "ISOTHERM_BENCH_REQUESTS";

/// Where telemetry is not even begun.
const NONE: &str = "none";

const ROUNDS: usize = 3;

fn requests() -> u32 {
    or_smoke(50_000, 200)
}

/// Runs them in turn.
pub fn compare() {
    println!("{:>24} {:>24}", "telemetry", "a request (µs CPU)");
    let program = std::env::current_exe().expect("it runs");
    for _ in 0..or_smoke(ROUNDS, 1) {
        let exported = Some("http://127.0.0.1:9");
        for (name, endpoint) in [(NONE, None), ("nothing set", None), ("exported", exported)] {
            let mut child = Command::new(&program);
            child.args(std::env::args().skip(1)).env(CHILD, name);
            child.envs(endpoint.map(|it| ("OTEL_EXPORTER_OTLP_ENDPOINT", it)));
            assert!(child.status().expect("it runs once more").success(), "{name}");
        }
    }
}

/// Measures as this process is set up.
pub fn measure(name: &str) {
    if name != NONE {
        telemetry::begin("router").expect("telemetry is set up");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    let took_us = runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it listens");
        let serving = tokio::spawn(async move { axum::serve(listener, routes()).await });
        let took_us = ask(address).await;
        serving.abort();
        took_us
    });
    println!("{name:>24} {took_us:>24.1}");
}

fn routes() -> axum::Router {
    let limits = front::Limits {
        body_bytes_max: 1 << 20,
        body_within: Duration::from_secs(10),
        reads_max: 10,
        deadline_max: Duration::from_secs(10),
    };
    let answering: Answering = Arc::new(|asked| {
        let found = Found { entries: Vec::new(), next: None, cost_us: 1 };
        let answers = vec![Answer::Found(found); asked.reads.len()];
        Box::pin(async move { Ok(answers) })
    });
    front::routes(limits, answering, Counts::default())
}

/// Asks one read after the other; returns what one takes.
async fn ask(address: SocketAddr) -> f64 {
    let limits =
        workers::Limits { connections_max: 1, requests_max: 10, answer_bytes_max: 1 << 20 };
    let (client, endpoint) = (Workers::new(limits), address.to_string());
    let what = What::Key(Key(b"user/0123456789abcdef".to_vec()));
    let read = Read { what, epoch: None, asked_as: Asked::Owner };
    let reads = vec![read];
    let cpu = ProcessTime::now();
    for _ in 0..requests() {
        let deadline = Instant::now() + Duration::from_secs(10);
        let answers =
            client.ask(&endpoint, reads.clone(), deadline.into()).await.expect("an answer");
        assert_eq!(answers.answers.len(), 1);
    }
    cpu.elapsed().as_secs_f64() * 1e6 / f64::from(requests())
}
