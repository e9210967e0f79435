//! Stands in for a router: has the row of every key, or does what one that is broken would do.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Condvar, Mutex};

use axum::Router;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use isotherm::config::key_of;
use isotherm::replay;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::sync::Notify;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mood {
    #[default]
    Serves,
    /// Has no row.
    Misses,
    /// Answers with this status.
    Refuses(u16),
    /// Answers what is no JSON.
    Garbles,
    /// Answers with the row of another key.
    Lies,
    /// Answers rightly, at a length that no answer has.
    Floods,
    /// Answers nothing until it is in another mood.
    Hangs,
}

#[derive(Default)]
pub struct Inner {
    mood: Mutex<Mood>,
    changed: Notify,
    /// Key and deadline of each request that came.
    requests: Mutex<Vec<(u64, u64)>>,
    came: Condvar,
}

pub struct Standin {
    pub address: SocketAddr,
    inner: Arc<Inner>,
    runtime: Option<Runtime>,
}

impl Standin {
    pub fn start() -> Self {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        let runtime = builder.worker_threads(1).enable_all().build().unwrap();
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let listener = runtime.block_on(TcpListener::bind(address)).unwrap();
        let (address, inner) = (listener.local_addr().unwrap(), Arc::<Inner>::default());
        let routes = Router::new().route("/v1/keys/{key}", get(read)).with_state(inner.clone());
        runtime.spawn(async move { axum::serve(listener, routes).await.unwrap() });
        Self { address, inner, runtime: Some(runtime) }
    }

    pub fn is(&self, mood: Mood) {
        self.inner.is(mood);
    }

    pub fn inner(&self) -> Arc<Inner> {
        self.inner.clone()
    }

    pub fn requests(&self) -> Vec<(u64, u64)> {
        self.inner.requests.lock().unwrap().clone()
    }

    /// Ends, with all its connections.
    pub fn stop(&mut self) {
        self.runtime.take().unwrap().shutdown_timeout(std::time::Duration::from_secs(60));
    }
}

impl Drop for Standin {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Inner {
    pub fn is(&self, mood: Mood) {
        *self.mood.lock().unwrap() = mood;
        self.changed.notify_waiters();
    }

    pub fn await_requests(&self, count: usize) {
        let requests = self.requests.lock().unwrap();
        let patience = crate::world::PATIENCE;
        let (_requests, waited) =
            self.came.wait_timeout_while(requests, patience, |it| it.len() < count).unwrap();
        assert!(!waited.timed_out(), "waited in vain for {count} requests");
    }
}

#[derive(serde::Deserialize)]
struct Asked {
    deadline_ms: u64,
}

async fn read(
    State(inner): State<Arc<Inner>>,
    Path(text): Path<String>,
    Query(asked): Query<Asked>,
) -> Response {
    let key = u64::from_be_bytes(key_of(&text).unwrap().0.try_into().unwrap());
    inner.requests.lock().unwrap().push((key, asked.deadline_ms));
    inner.came.notify_all();
    loop {
        let changed = inner.changed.notified();
        let mood = *inner.mood.lock().unwrap();
        if mood != Mood::Hangs {
            return answer(mood, key);
        }
        changed.await;
    }
}

fn found(entries: &[Value]) -> String {
    json!({ "entries": entries, "cost_us": 5 }).to_string()
}

fn answer(mood: Mood, key: u64) -> Response {
    let row = |key: u64| {
        let key = isotherm::config::text_of_key(&replay::key(key));
        let (partition, offset) = (1, 2);
        json!({ "index_key": key, "primary_key": key, "partition": partition, "offset": offset, "payload": "" })
    };
    let entries = match mood {
        Mood::Serves | Mood::Hangs => vec![row(key)],
        Mood::Misses => vec![],
        Mood::Refuses(status) => return StatusCode::from_u16(status).unwrap().into_response(),
        Mood::Garbles => return "{\"entries\":[".into_response(),
        Mood::Lies => vec![row(key + 1)],
        Mood::Floods => return (" ".repeat(8 << 20) + &found(&[row(key)])).into_response(),
    };
    found(&entries).into_response()
}
