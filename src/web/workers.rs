//! Asks workers over HTTP/2: many reads on few connections.
//!
//! ```text
//!  ask ──> requests of the worker ──> one of its connections ──> POST /v1/reads
//!          at most so many,           opened when it is needed
//!          by deadline
//! ```
//!
//! * **Bounded**: connections of a worker, requests on them, bytes of an answer, time.
//! * **A worker that is gone without a word is found out**, and its requests fail: see [`super::connection`].

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use axum::body::Bytes;
use axum::http::{Method, Request, StatusCode, header};
use http_body_util::Full;
use opentelemetry::Context;
use tokio::time::{Instant, timeout_at};
use tracing::debug;

use super::connection::{Broken, Connection, body};
use super::gate::Gate;
use super::reads::{Answers, Read, Reads};
use crate::telemetry::{carried, spans};

/// What is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Of one worker, as are the requests.
    pub connections_max: usize,
    pub requests_max: usize,
    pub answer_bytes_max: usize,
}

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unanswered {
    Unreachable,
    Lost,
    Overloaded,
    Refused,
    Garbage,
    Late,
}

/// Connections to workers, by their endpoints.
#[derive(Debug)]
pub struct Workers {
    limits: Limits,
    workers: RwLock<BTreeMap<String, Arc<Worker>>>,
}

#[derive(Debug)]
struct Worker {
    endpoint: String,
    requests: Gate,
    connections: Vec<Connection>,
    next: AtomicUsize,
}

impl Workers {
    pub fn new(limits: Limits) -> Self {
        Self { limits, workers: RwLock::default() }
    }

    /// Asks the worker at an endpoint, in the trace of who asks; waits until the deadline, while it has as many
    /// requests as may be. The worker is told how long it has when it is asked, not when the waiting began.
    pub async fn ask(
        &self,
        endpoint: &str,
        reads: Vec<Read>,
        deadline: Instant,
    ) -> Result<Answers, Unanswered> {
        let worker = self.worker(endpoint);
        let asked = worker.ask(reads, deadline, self.limits.answer_bytes_max);
        timeout_at(deadline, asked).await.unwrap_or(Err(Unanswered::Late))
    }

    /// Closes the connections to all workers but those at these endpoints.
    pub fn keep(&self, endpoints: &BTreeSet<&str>) {
        let mut workers = self.workers.write().unwrap_or_else(PoisonError::into_inner);
        workers.retain(|endpoint, _| endpoints.contains(endpoint.as_str()));
    }

    fn worker(&self, endpoint: &str) -> Arc<Worker> {
        let workers = self.workers.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(it) = workers.get(endpoint) {
            return it.clone();
        }
        drop(workers);
        let mut workers = self.workers.write().unwrap_or_else(PoisonError::into_inner);
        let new = || Arc::new(Worker::new(endpoint.to_owned(), &self.limits));
        workers.entry(endpoint.to_owned()).or_insert_with(new).clone()
    }
}

impl Worker {
    fn new(endpoint: String, limits: &Limits) -> Self {
        Self {
            endpoint,
            requests: Gate::new(limits.requests_max),
            connections: (0..limits.connections_max).map(|_| Connection::default()).collect(),
            next: AtomicUsize::new(0),
        }
    }

    async fn ask(
        &self,
        reads: Vec<Read>,
        deadline: Instant,
        answer_bytes_max: usize,
    ) -> Result<Answers, Unanswered> {
        let _one_of = self.requests.pass(deadline).await.ok_or(Unanswered::Late)?;
        let next = self.next.fetch_add(1, Ordering::Relaxed) % self.connections.len();
        let requests = self.connections[next].requests(&self.endpoint).await;
        let mut requests = requests.ok_or(Unanswered::Unreachable)?;
        let left = deadline.saturating_duration_since(Instant::now());
        let reads = Reads { reads, deadline_ms: Some(left.as_millis() as u64) };
        let asked = serde_json::to_vec(&reads).map_err(|_| Unanswered::Refused)?;
        let mut request = Request::builder()
            .method(Method::POST)
            .uri(format!("http://{}/v1/reads", self.endpoint))
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(Bytes::from(asked)))
            // The endpoint is no host and port.
            .map_err(|_| Unanswered::Unreachable)?;
        if spans::is_on() {
            carried::put_to_request(&Context::current(), request.headers_mut());
        }
        requests.ready().await.map_err(|_| Unanswered::Lost)?;
        let response = requests.send_request(request).await.map_err(|err| {
            debug!(endpoint = self.endpoint, %err, "a request was lost");
            Unanswered::Lost
        })?;
        let status = response.status();
        let answer = body(response, answer_bytes_max).await;
        match status {
            StatusCode::OK => (),
            StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS => {
                return Err(Unanswered::Overloaded);
            }
            _ => return Err(Unanswered::Refused),
        }
        let answer = answer.map_err(|it| match it {
            Broken::Lost => Unanswered::Lost,
            Broken::TooLong => Unanswered::Garbage,
        })?;
        serde_json::from_slice(&answer).map_err(|_| Unanswered::Garbage)
    }
}
