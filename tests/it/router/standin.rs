//! Stands in for a worker: answers by the worker's own rule from a store in memory, or does what a
//! worker that is broken would do.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use isotherm::store::memory::{MemorySnapshot, MemoryStore};
use isotherm::store::{Store, Write};
use isotherm::web::reads::{Answer, Answers, Reads};
use isotherm::worker::serving::{Limits, Part, Serves, Serving, View};
use schemas::range_segment::Entry;
use schemas::{Epoch, Generation, Key, KeySpan, NodeId};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

pub const COST_US: u64 = 700;

const LIMITS: Limits = Limits {
    reads_max: 300,
    key_bytes_max: 1 << 14,
    entries_max: 5,
    looked_at_max: 20,
    answer_bytes_max: 2_000,
};

/// What it does with a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mood {
    #[default]
    Serves,
    /// Answers with this status.
    Refuses(u16),
    /// Answers what is no JSON.
    Garbles,
    /// Answers one read less than it was asked.
    Forgets,
    /// Answers with entries that were not asked for.
    Invents,
    /// Answers nothing until it is woken.
    Hangs,
    /// Names a source, whatever it is asked.
    Sends,
}

#[derive(Default)]
struct Inner {
    mood: Mutex<Mood>,
    serving: Mutex<Option<Serving<MemorySnapshot>>>,
    woken: Notify,
    /// Of each request that came, as it was.
    requests: Mutex<Vec<Reads>>,
}

pub struct Standin {
    pub name: &'static str,
    pub address: SocketAddr,
    inner: Arc<Inner>,
    server: Option<JoinHandle<()>>,
    runtime: Runtime,
}

impl Standin {
    pub fn start(name: &'static str) -> Self {
        let runtime = runtime();
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let mut res = Self { name, address, inner: Arc::default(), server: None, runtime };
        res.resume();
        res
    }

    /// Serves parts (start, end, owner, epoch) by its map of this generation, and these keys.
    pub fn serve(&self, generation: u64, parts: &[(&str, &str, &str, u64, Serves)], keys: &[&str]) {
        let part = |(start, end, owner, epoch, serves): &(&str, &str, &str, u64, Serves)| Part {
            span: KeySpan { start: key(start), end: key(end) },
            owner: NodeId((*owner).into()),
            epoch: Epoch(*epoch),
            serves: serves.clone(),
        };
        let node = NodeId(self.name.into());
        let view = View::new(node, Generation(generation), parts.iter().map(part));
        let mut store = MemoryStore::default();
        let entry = |it: &&str| {
            Write::Put(Entry {
                index_key: key(it),
                primary_key: key("p"),
                partition: 1,
                offset: generation,
                payload: Some(format!("{it} of {}", self.name).into_bytes()),
            })
        };
        store.stage(keys.iter().map(entry).collect()).unwrap();
        store.commit(vec![]).unwrap();
        let serving = Serving { view: Arc::new(view), snapshot: store.snapshot() };
        *self.inner.serving.lock().unwrap() = Some(serving);
    }

    pub fn is(&self, mood: Mood) {
        *self.inner.mood.lock().unwrap() = mood;
        self.inner.woken.notify_waiters();
    }

    /// Ends, with all its connections.
    pub fn stop(&mut self) {
        if let Some(server) = self.server.take() {
            server.abort();
            let ended = self.runtime.block_on(server);
            assert!(ended.is_err_and(|it| it.is_cancelled()));
        }
        // Connections are tasks of their own.
        std::mem::replace(&mut self.runtime, runtime()).shutdown_background();
    }

    /// Listens, after a stop where it did before.
    pub fn resume(&mut self) {
        let listener = self.runtime.block_on(TcpListener::bind(self.address)).unwrap();
        self.address = listener.local_addr().unwrap();
        let routes = Router::new().route("/v1/reads", post(reads)).with_state(self.inner.clone());
        let serve = async move { axum::serve(listener, routes).await.unwrap() };
        self.server = Some(self.runtime.spawn(serve));
    }

    pub fn requests(&self) -> Vec<Reads> {
        self.inner.requests.lock().unwrap().clone()
    }
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
}

async fn reads(State(inner): State<Arc<Inner>>, body: Bytes) -> Response {
    let reads: Reads = serde_json::from_slice(&body).unwrap();
    inner.requests.lock().unwrap().push(reads.clone());
    let mood = *inner.mood.lock().unwrap();
    let mut answers = match mood {
        Mood::Hangs => loop {
            let woken = inner.woken.notified();
            if *inner.mood.lock().unwrap() != Mood::Hangs {
                break inner.answers(&reads);
            }
            woken.await;
        },
        Mood::Refuses(status) => return StatusCode::from_u16(status).unwrap().into_response(),
        Mood::Garbles => return "what?".into_response(),
        Mood::Serves | Mood::Forgets | Mood::Invents => inner.answers(&reads),
        Mood::Sends => {
            let answer = Answer::AskSource { node: NodeId("a".into()), epoch: Epoch(1) };
            vec![answer; reads.reads.len()]
        }
    };
    match (mood, &mut answers[..]) {
        (Mood::Forgets, _) => _ = answers.pop(),
        (Mood::Invents, [Answer::Found(found), ..]) => {
            let mut other = found.entries[0].clone();
            other.index_key = key("another");
            found.entries.push(other);
        }
        _ => (),
    }
    axum::Json(Answers { answers }).into_response()
}

impl Inner {
    fn answers(&self, reads: &Reads) -> Vec<Answer> {
        let serving = self.serving.lock().unwrap().clone().unwrap();
        let mut budget = LIMITS.budget(reads.reads.len()).unwrap();
        let mut answer = |it| serving.read(it, &LIMITS, &mut budget).unwrap().answer(COST_US);
        reads.reads.iter().map(&mut answer).collect()
    }
}

fn key(text: &str) -> Key {
    Key(text.into())
}
