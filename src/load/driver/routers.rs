//! Asks routers over HTTP/2 for one key a request.
//!
//! ```text
//!  ask ──> the first connection with room ──> GET /v1/keys/KEY?deadline_ms=
//!          opened when it is needed
//! ```
//!
//! * **Reads that wait hold no other up**: a connection has fewer requests than its router takes from one.
//! * **An answer is checked**: what it says of another key is none.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::body::Bytes;
use axum::http::{Request, StatusCode};
use http_body_util::Full;
use tracing::debug;

use crate::load::tally::Reason;
use crate::web::connection::{self, Broken, body};
use crate::web::reads::Found;

/// Routers take 200 of one connection at once; what is more would wait for those.
const REQUESTS_MAX: usize = 128;

const ANSWER_BYTES_MAX: usize = 4 << 20;

/// A router, with its connections.
#[derive(Debug)]
pub struct Router {
    address: String,
    connections: Vec<Connection>,
}

#[derive(Debug, Default)]
struct Connection {
    under_way: AtomicUsize,
    kept: connection::Connection,
}

/// A request that is under way on a connection.
struct OneOf<'a>(&'a Connection);

impl Router {
    /// At most so many requests will be under way.
    pub fn new(address: &str, requests_max: usize) -> Self {
        let count = requests_max.div_ceil(REQUESTS_MAX).max(1);
        let connections = (0..count).map(|_| Connection::default()).collect();
        Self { address: address.to_owned(), connections }
    }

    /// Reads a key; tells whether there is a row.
    pub async fn ask(&self, key: u64, within: Duration) -> Result<bool, Reason> {
        let one = self.one();
        let requests = one.0.kept.requests(&self.address).await;
        let mut requests = requests.ok_or(Reason::Unreachable)?;
        let within_ms = within.as_millis().max(1);
        let request = Request::get(format!(
            "http://{}/v1/keys/0x{key:016x}?deadline_ms={within_ms}",
            self.address
        ));
        // The address is no host and port.
        let request = request.body(Full::new(Bytes::new())).map_err(|_| Reason::Unreachable)?;
        let lost = |err| {
            debug!(router = self.address, %err, "a request was lost");
            Reason::Lost
        };
        requests.ready().await.map_err(lost)?;
        let response = requests.send_request(request).await.map_err(lost)?;
        match response.status() {
            StatusCode::OK => (),
            StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS => {
                return Err(Reason::Busy);
            }
            StatusCode::GATEWAY_TIMEOUT => return Err(Reason::Late),
            _ => return Err(Reason::Refused),
        }
        let answer = body(response, ANSWER_BYTES_MAX).await.map_err(|it| match it {
            Broken::Lost => Reason::Lost,
            Broken::TooLong => Reason::Garbage,
        })?;
        let found: Found = serde_json::from_slice(&answer).map_err(|_| Reason::Garbage)?;
        let is_of_key = found.entries.iter().all(|it| it.index_key.0 == key.to_be_bytes());
        if is_of_key { Ok(!found.entries.is_empty()) } else { Err(Reason::Garbage) }
    }

    /// Takes the first connection with room, or the one that has most.
    fn one(&self) -> OneOf<'_> {
        let under_way = |it: &Connection| it.under_way.load(Ordering::Relaxed);
        let room = self.connections.iter().find(|it| under_way(it) < REQUESTS_MAX);
        let most = || self.connections.iter().min_by_key(|it| under_way(it));
        let connection = room.or_else(most).expect("there is at least one");
        connection.under_way.fetch_add(1, Ordering::Relaxed);
        OneOf(connection)
    }
}

impl Drop for OneOf<'_> {
    fn drop(&mut self) {
        self.0.under_way.fetch_sub(1, Ordering::Relaxed);
    }
}
