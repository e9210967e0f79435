//! Asks workers over HTTP/2: many reads on few connections.
//!
//! ```text
//!  ask ──> requests of the worker ──> one of its connections ──> POST /v1/reads
//!          at most so many            opened when it is needed
//! ```
//!
//! * **Bounded**: connections of a worker, requests on them, bytes of an answer, time.
//! * **One at a time connects**, and the others wait for that; what was refused is not tried again at
//!   once.
//! * **A worker that is gone without a word is found out** by pings, and its requests fail.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use axum::body::Bytes;
use axum::http::{Method, Request, StatusCode, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use opentelemetry::Context;
use tokio::net::TcpStream;
use tokio::sync::{Mutex, Semaphore};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout, timeout_at};
use tracing::debug;

use super::reads::{Answers, Reads};
use crate::telemetry::{carried, spans};

/// So long may it take to connect.
const CONNECT_WITHIN: Duration = Duration::from_secs(2);

/// A worker that refused a connection is not tried again for so long.
const REFUSED_FOR: Duration = Duration::from_millis(50);

/// A connection with requests on it is pinged this often, and given up if that is not answered for as long.
const PING_EVERY: Duration = Duration::from_secs(3);

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
    requests: Semaphore,
    connections: Vec<Mutex<Connection>>,
    next: AtomicUsize,
}

#[derive(Debug, Default)]
enum Connection {
    #[default]
    Closed,
    Open {
        requests: SendRequest<Full<Bytes>>,
        /// Ends by itself once nobody can send requests.
        _task: JoinHandle<()>,
    },
    Refused {
        until: Instant,
    },
}

impl Workers {
    pub fn new(limits: Limits) -> Self {
        Self { limits, workers: RwLock::default() }
    }

    /// Asks the worker at an endpoint, in the trace of who asks; waits until the deadline, while it has as many requests as may be.
    pub async fn ask(
        &self,
        endpoint: &str,
        reads: &Reads,
        deadline: Instant,
    ) -> Result<Answers, Unanswered> {
        let worker = self.worker(endpoint);
        let asked = worker.ask(reads, self.limits.answer_bytes_max);
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
            requests: Semaphore::new(limits.requests_max),
            connections: (0..limits.connections_max).map(|_| Mutex::default()).collect(),
            next: AtomicUsize::new(0),
        }
    }

    async fn ask(&self, reads: &Reads, answer_bytes_max: usize) -> Result<Answers, Unanswered> {
        let _one_of = self.requests.acquire().await.map_err(|_| Unanswered::Lost)?;
        let mut requests = self.connection().await?;
        let body = serde_json::to_vec(reads).map_err(|_| Unanswered::Refused)?;
        let mut request = Request::builder()
            .method(Method::POST)
            .uri(format!("http://{}/v1/reads", self.endpoint))
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(Bytes::from(body)))
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
        let body = Limited::new(response.into_body(), answer_bytes_max).collect().await;
        match status {
            StatusCode::OK => (),
            StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS => {
                return Err(Unanswered::Overloaded);
            }
            _ => return Err(Unanswered::Refused),
        }
        let body = body.map_err(|err| match err.is::<hyper::Error>() {
            true => Unanswered::Lost,
            false => Unanswered::Garbage,
        })?;
        serde_json::from_slice(&body.to_bytes()).map_err(|_| Unanswered::Garbage)
    }

    /// Returns a connection, which is opened if it is not there.
    async fn connection(&self) -> Result<SendRequest<Full<Bytes>>, Unanswered> {
        let next = self.next.fetch_add(1, Ordering::Relaxed) % self.connections.len();
        let mut connection = self.connections[next].lock().await;
        match &*connection {
            Connection::Open { requests, .. } if !requests.is_closed() => {
                return Ok(requests.clone());
            }
            Connection::Refused { until } if Instant::now() < *until => {
                return Err(Unanswered::Unreachable);
            }
            Connection::Open { .. } | Connection::Refused { .. } | Connection::Closed => (),
        }
        match timeout(CONNECT_WITHIN, self.connect()).await {
            Ok(Ok((requests, _task))) => {
                let res = requests.clone();
                *connection = Connection::Open { requests, _task };
                Ok(res)
            }
            failed => {
                debug!(endpoint = self.endpoint, why = ?failed.err(), "no connection");
                *connection = Connection::Refused { until: Instant::now() + REFUSED_FOR };
                Err(Unanswered::Unreachable)
            }
        }
    }

    async fn connect(&self) -> anyhow::Result<(SendRequest<Full<Bytes>>, JoinHandle<()>)> {
        let stream = TcpStream::connect(&self.endpoint).await?;
        stream.set_nodelay(true)?;
        let (requests, connection) = Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .keep_alive_interval(PING_EVERY)
            .keep_alive_timeout(PING_EVERY)
            .handshake(TokioIo::new(stream))
            .await?;
        let endpoint = self.endpoint.clone();
        let task = tokio::spawn(async move {
            if let Err(err) = connection.await {
                debug!(endpoint, %err, "a connection has ended");
            }
        });
        Ok((requests, task))
    }
}
