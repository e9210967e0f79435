//! Finds out how many point reads a second are answered before one in a hundred takes longer than 10 ms.
//!
//! ```text
//!  rate ──> due at even intervals, open loop ──> HTTP/2 ──> router, worker, or a plain server
//!        <── doubled, then halved in between, by the p99 from when each was due
//! ```
//!
//! All three are asked in the same form by the same client, from this process. The plain server is a process
//! of its own, too: axum, and a map in memory behind a lock.

use std::collections::HashMap;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, RwLock};
use std::time::Duration;

use axum::extract::State;
use axum::routing::post;
use axum::{Json, Router};
use isotherm::web::reads::{Answer, Answers, Asked, Found, FoundEntry, Read, Reads, What};
use isotherm::web::workers::{Limits, Workers};
use schemas::{Epoch, Key};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use crate::cluster::key;
use crate::reads::quantile;
use crate::scale::or_smoke;

/// One in a hundred may take so long.
const P99_MAX: Duration = Duration::from_millis(10);

/// The plain server listens on this port, if this is set.
const PLAIN: &str = "ISOTHERM_BENCH_PLAIN";

/// Asks one server.
pub struct Clients {
    runtime: Runtime,
    workers: Arc<Workers>,
    endpoint: String,
    epoch: Option<Epoch>,
    rows: u64,
}

impl Clients {
    pub fn new(port: u16, epoch: Option<u64>, rows: u64) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .worker_threads(2)
            .build()
            .expect("threads can be begun");
        let limits = Limits { connections_max: 8, requests_max: 1_000, answer_bytes_max: 1 << 20 };
        let (workers, endpoint) = (Arc::new(Workers::new(limits)), format!("127.0.0.1:{port}"));
        Self { runtime, workers, endpoint, epoch: epoch.map(Epoch), rows }
    }

    /// The greatest rate of these that is answered in time, and the p50 at it in milliseconds.
    pub fn rate(&self) -> (f64, f64) {
        let (mut good, mut p50) = (0.0, 0.0);
        let mut bad = None;
        let mut rate = 500.0;
        for _ in 0..or_smoke(14, 2) {
            let took = self.ask(rate);
            let is_in_time = quantile(&took, 990) < P99_MAX.as_secs_f64();
            if is_in_time {
                (good, p50) = (rate, quantile(&took, 500) * 1e3);
            } else {
                bad = Some(rate);
            }
            rate = match bad {
                None => rate * 2.0,
                Some(bad) if bad - good < 0.05 * bad => break,
                Some(bad) => (good + bad) / 2.0,
            };
        }
        (good, p50)
    }

    /// Asks at a rate, and returns how long each took from when it was due, in seconds, ascending.
    fn ask(&self, rate: f64) -> Vec<f64> {
        let during = or_smoke(Duration::from_secs(3), Duration::from_millis(200));
        let count = (rate * during.as_secs_f64()) as u64;
        let mut took = self.runtime.block_on(async {
            let begin = Instant::now() + Duration::from_millis(10);
            let mut asks = JoinSet::new();
            for i in 0..count {
                let due = begin + Duration::from_secs_f64(i as f64 / rate);
                sleep_until(due).await;
                let (workers, endpoint) = (self.workers.clone(), self.endpoint.clone());
                let key = key(i.wrapping_mul(7919) % self.rows);
                let read = Read { what: What::Key(key), epoch: self.epoch, asked_as: Asked::Owner };
                asks.spawn(async move {
                    let deadline = Instant::now() + Duration::from_secs(30);
                    let answers = workers.ask(&endpoint, vec![read], deadline).await;
                    let took = due.elapsed().as_secs_f64();
                    let answers = answers.expect("it is answered").answers;
                    assert!(
                        matches!(&answers[..], [Answer::Found(it)] if it.entries.len() == 1),
                        "{answers:?}"
                    );
                    took
                });
            }
            asks.join_all().await
        });
        took.sort_by(f64::total_cmp);
        took
    }
}

/// A plain server with all rows, in a process of its own.
pub struct Plain {
    child: Child,
    pub port: u16,
}

impl Plain {
    pub fn begin() -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("it is bound").port();
        drop(listener);
        let this = std::env::current_exe().expect("this program has a name");
        let child = Command::new(this)
            .args(["--bench"])
            .env(PLAIN, port.to_string())
            .stdout(Stdio::null())
            .spawn()
            .expect("this program can be begun");
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            std::thread::park_timeout(Duration::from_millis(20));
        }
        Self { child, port }
    }
}

impl Drop for Plain {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

type Rows = Arc<RwLock<HashMap<Key, FoundEntry>>>;

/// Serves as the plain server, if this process was begun as that.
pub fn serve_plain(rows: u64, payload_bytes: usize) -> bool {
    let Ok(port) = std::env::var(PLAIN) else { return false };
    let row = |row: u64| {
        let (index_key, primary_key) = (key(row), Key(row.to_be_bytes().to_vec()));
        let (partition, offset, payload) = (0, row, vec![b'x'; payload_bytes]);
        (key(row), FoundEntry { index_key, primary_key, partition, offset, payload })
    };
    let rows: Rows = Arc::new(RwLock::new((0..rows).map(row).collect()));
    let runtime = Runtime::new().expect("threads can be begun");
    runtime.block_on(async {
        let listener = TcpListener::bind(format!("127.0.0.1:{port}")).await.expect("a free port");
        let routes = Router::new().route("/v1/reads", post(answer)).with_state(rows);
        axum::serve(listener, routes).await.expect("it serves until it is killed");
    });
    true
}

async fn answer(State(rows): State<Rows>, Json(reads): Json<Reads>) -> Json<Answers> {
    let rows = rows.read().expect("nobody writes");
    let answer = |read: &Read| {
        let entries = match &read.what {
            What::Key(key) => rows.get(key).cloned().into_iter().collect(),
            What::Range { .. } => Vec::new(),
        };
        Answer::Found(Found { entries, next: None, cost_us: 1 })
    };
    Json(Answers { answers: reads.reads.iter().map(answer).collect() })
}
