//! Keeps one HTTP/2 connection to a server, opened when it is needed.
//!
//! ```text
//!  Closed ──> Open ──> closed by the other end, or not answering pings ──> Open …
//!     └─────> Refused, for a moment
//! ```
//!
//! * **One at a time connects**, and the others wait for that; what was refused is not tried again at
//!   once.
//! * **A server that is gone without a word is found out** by pings, and requests to it fail.

use std::time::Duration;

use axum::body::Bytes;
use axum::http::Response;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio::sync::Mutex;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};
use tracing::debug;

/// So long may it take to connect.
const CONNECT_WITHIN: Duration = Duration::from_secs(2);

/// A server that refused a connection is not tried again for so long.
const REFUSED_FOR: Duration = Duration::from_millis(50);

/// A connection with requests on it is pinged this often, and given up if that is not answered for as long.
const PING_EVERY: Duration = Duration::from_secs(3);

/// Where requests are sent.
pub type Requests = SendRequest<Full<Bytes>>;

/// A connection, or none yet.
#[derive(Debug, Default)]
pub struct Connection(Mutex<State>);

#[derive(Debug, Default)]
enum State {
    #[default]
    Closed,
    Open {
        requests: Requests,
        /// Ends by itself once nobody can send requests.
        _task: JoinHandle<()>,
    },
    Refused {
        until: Instant,
    },
}

/// Why the body of an answer is of no use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broken {
    /// The connection broke.
    Lost,
    /// There is more of it than may be.
    TooLong,
}

impl Connection {
    /// Returns where requests to the server at `host:port` are sent; connects if that is not open. `None`: it
    /// cannot be reached.
    pub async fn requests(&self, address: &str) -> Option<Requests> {
        let mut state = self.0.lock().await;
        match &*state {
            State::Open { requests, .. } if !requests.is_closed() => return Some(requests.clone()),
            State::Refused { until } if Instant::now() < *until => return None,
            State::Open { .. } | State::Refused { .. } | State::Closed => (),
        }
        match timeout(CONNECT_WITHIN, connect(address)).await {
            Ok(Ok((requests, _task))) => {
                *state = State::Open { requests: requests.clone(), _task };
                Some(requests)
            }
            failed => {
                debug!(address, why = ?failed.err(), "no connection");
                *state = State::Refused { until: Instant::now() + REFUSED_FOR };
                None
            }
        }
    }
}

/// Returns all of an answer.
pub async fn body(response: Response<Incoming>, bytes_max: usize) -> Result<Bytes, Broken> {
    match Limited::new(response.into_body(), bytes_max).collect().await {
        Ok(body) => Ok(body.to_bytes()),
        Err(err) if err.is::<hyper::Error>() => Err(Broken::Lost),
        Err(_) => Err(Broken::TooLong),
    }
}

async fn connect(address: &str) -> anyhow::Result<(Requests, JoinHandle<()>)> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let (requests, connection) = Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PING_EVERY)
        .handshake(TokioIo::new(stream))
        .await?;
    let address = address.to_owned();
    let task = tokio::spawn(async move {
        if let Err(err) = connection.await {
            debug!(address, %err, "a connection has ended");
        }
    });
    Ok((requests, task))
}
