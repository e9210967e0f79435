//! Tells over HTTP whether the process lives, and whether it is ready, and if not, why; and what it measures.
//!
//! ```text
//!  driver ──> Health ──watch──> /readyz?verbose   200 or 503, a line a condition
//!                               /livez            200 while the process runs
//!  instruments ───────────────> /metrics          in Prometheus's words
//! ```
//!
//! * **Alive is not ready.** `/livez` asks nothing of anything else, so a broker that is away kills
//!   no process.
//! * **Every reason has a name.** A condition is declared before it is known, and not ready until then.
//!
//! Served by a thread of its own, so that a long tick does not make the process look dead. Nothing
//! here changes anything; still it listens on loopback only, unless configured otherwise.

pub mod reads;
pub mod held;
pub mod clock;
pub mod problem;
pub mod listener;
pub mod under_way;
pub mod precedence;
pub mod body;
pub mod front;
pub mod back;
pub mod connection;
pub mod gate;
pub mod workers;
pub mod traced;

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Context;
use axum::Router;
use axum::extract::{Query, State};
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::sync::{oneshot, watch};

use crate::telemetry::metrics;

/// What must hold for the process to be ready; the driver keeps it up to date.
#[derive(Debug)]
pub struct Health {
    conditions: watch::Sender<Conditions>,
}

type Conditions = BTreeMap<&'static str, Condition>;

#[derive(Clone, Debug, PartialEq, Eq)]
struct Condition {
    ready: bool,
    reason: String,
}

/// A process that was killed lets go of its port within this.
const LET_GO_WITHIN: Duration = Duration::from_secs(3);
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// The thread that answers; it ends when this is dropped.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Health {
    /// Declares the conditions; none of them holds yet.
    pub fn new(names: &[&'static str]) -> Self {
        let unknown = Condition { ready: false, reason: "not known yet".into() };
        let conditions = names.iter().map(|name| (*name, unknown.clone())).collect();
        Self { conditions: watch::Sender::new(conditions) }
    }

    /// A condition holds; the reason says how.
    pub fn ready(&self, name: &'static str, reason: impl Into<String>) {
        self.set(name, Condition { ready: true, reason: reason.into() });
    }

    /// A condition does not hold; the reason says why, and what it waits for.
    pub fn waiting(&self, name: &'static str, reason: impl Into<String>) {
        self.set(name, Condition { ready: false, reason: reason.into() });
    }

    pub fn is_ready(&self) -> bool {
        is_ready(&self.conditions.borrow())
    }

    fn set(&self, name: &'static str, now: Condition) {
        self.conditions.send_if_modified(|conditions| {
            let known = conditions.get_mut(name).expect("conditions are declared");
            let changed = *known != now;
            *known = now;
            changed
        });
    }
}

/// Begins to listen, and answers from a thread of its own. Port 0 takes one that is free.
pub fn serve(listen: SocketAddr, health: &Health) -> anyhow::Result<Server> {
    let listener = bound(listen, || std::net::TcpListener::bind(listen))?;
    listener.set_nonblocking(true).context("make the listener non-blocking")?;
    let address = listener.local_addr().context("ask for the address that is listened on")?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()
        .context("begin the runtime of the web thread")?;
    let (stop, stopped) = oneshot::channel::<()>();
    let router = routes(health);
    let answer = async move {
        let listener = TcpListener::from_std(listener).context("hand the listener over")?;
        let until = async { stopped.await.unwrap_or(()) };
        axum::serve(listener, router).with_graceful_shutdown(until).await.context("serve HTTP")
    };
    let run = move || {
        if let Err(error) = runtime.block_on(answer) {
            tracing::error!(error = format!("{error:#}"), "health is not served any more");
        }
    };
    let thread =
        std::thread::Builder::new().name("web".into()).spawn(run).context("begin a thread")?;
    Ok(Server { address, stop: Some(stop), thread: Some(thread) })
}

/// Listens on an address, if need be as soon as the process before has let go of it: one that was killed does
/// so a little later.
fn bound<T>(listen: SocketAddr, bind: impl Fn() -> io::Result<T>) -> anyhow::Result<T> {
    let mut waited = Duration::ZERO;
    loop {
        match bind() {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && waited < LET_GO_WITHIN => {
                std::thread::sleep(LOOK_EVERY);
                waited += LOOK_EVERY;
            }
            other => {
                return other.with_context(|| {
                    format!(
                        "listen on {listen}; if something else does, set `listen` of this \
                         process to another port"
                    )
                });
            }
        }
    }
}

/// Returns what is served of the health, for a process that serves more on the same port.
pub fn routes(health: &Health) -> Router {
    Router::new()
        .route("/livez", get(|| async { "alive\n" }))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics_page))
        .with_state(health.conditions.subscribe())
}

impl Server {
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Either may be gone with the thread.
        let _ = self.stop.take().map(|stop| stop.send(()));
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

async fn readyz(
    State(conditions): State<watch::Receiver<Conditions>>,
    Query(query): Query<BTreeMap<String, String>>,
) -> (StatusCode, String) {
    answer(&conditions.borrow(), query.contains_key("verbose"))
}

/// As of Prometheus's text format.
async fn metrics_page() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], metrics::page())
}

fn answer(conditions: &Conditions, verbose: bool) -> (StatusCode, String) {
    let ready = is_ready(conditions);
    let (status, verdict) = if ready {
        (StatusCode::OK, "ready")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "not ready")
    };
    let mut body = String::new();
    for (name, Condition { ready, reason }) in conditions {
        if verbose {
            let mark = if *ready { '+' } else { '-' };
            body.push_str(&format!("[{mark}] {name}: {reason}\n"));
        }
    }
    body.push_str(&format!("{verdict}\n"));
    (status, body)
}

fn is_ready(conditions: &Conditions) -> bool {
    conditions.values().all(|it| it.ready)
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{Ipv4Addr, TcpStream};

    use super::*;

    /// Asks as curl does, and tells status and body.
    fn ask(server: &Server, path: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(server.address()).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.split(' ').nth(1).unwrap().parse().unwrap(), body.into())
    }

    fn serve_here(health: &Health) -> Server {
        serve(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), health).unwrap()
    }

    #[test]
    fn process_is_alive_before_it_is_ready() {
        let health = Health::new(&["topics", "assignment"]);
        let server = serve_here(&health);
        assert_eq!(ask(&server, "/livez"), (200, "alive\n".into()));
        assert_eq!(ask(&server, "/readyz"), (503, "not ready\n".into()));
        health.ready("topics", "restored from offset 412");
        health.waiting("assignment", "waits for 2 more nodes of 3");
        let told = "[-] assignment: waits for 2 more nodes of 3\n[+] topics: restored from offset 412\nnot ready\n";
        assert_eq!(ask(&server, "/readyz?verbose"), (503, told.into()));
        health.ready("assignment", "generation 1");
        assert!(health.is_ready());
        assert_eq!(ask(&server, "/readyz"), (200, "ready\n".into()));
        health.waiting("topics", "the broker is away since 4 s");
        assert_eq!(ask(&server, "/readyz").0, 503);
        assert_eq!(ask(&server, "/nothing").0, 404);
    }

    #[test]
    fn server_ends_when_dropped_and_its_port_is_free_again() {
        let health = Health::new(&[]);
        let server = serve_here(&health);
        let address = server.address();
        drop(server);
        assert!(TcpStream::connect(address).is_err());
        drop(serve(address, &health).unwrap());
    }

    #[test]
    fn port_that_is_taken_is_named_with_the_remedy() {
        let health = Health::new(&[]);
        let server = serve_here(&health);
        let error = serve(server.address(), &health).unwrap_err();
        assert!(
            error.to_string().contains("set `listen` of this process to another port"),
            "{error}"
        );
    }
}
