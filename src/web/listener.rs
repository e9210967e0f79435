//! Takes connections, up to a limit: whoever comes then is told so.
//!
//! * **Every connection has an answer**: one too many gets a 503 and is closed. It was not read from, so
//!   it costs nothing.
//! * **Who says nothing and waits for nothing is let go**: a connection on which no byte passes for a
//!   while does not keep others out for ever; nor does one on which a request comes byte by byte.
//! * **What is no request of HTTP** gets its answer before anybody is asked, and is counted here.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::serve::Listener;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Sleep, sleep};

use crate::counts::Counts;

/// So long is waited after a connection could not be taken, as for want of file descriptors.
const AFTER_ERROR: Duration = Duration::from_millis(50);

/// So many connections wait to be taken: beyond that, who connects tries again only after a second.
const BACKLOG: u32 = 4096;

/// What one too many is told.
const TOO_MANY: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\n\
    Content-Type: application/problem+json\r\n\
    Retry-After: 1\r\n\
    Connection: close\r\n\
    Content-Length: 153\r\n\r\n\
    {\"type\":\"urn:isotherm:too_many_connections\",\"title\":\"more are connected than may be\",\
    \"status\":503,\"detail\":\"keep one connection, and send batches on it\"}";

/// A listener with a limit.
pub struct Bounded {
    listener: TcpListener,
    free: Arc<Semaphore>,
    idle_max: Duration,
    counts: Counts,
}

/// A connection that is let go when nothing passes on it. Of what a client says until it hears something, the
/// first counts only: by then it has to have said what can be answered.
pub struct Watched {
    stream: TcpStream,
    idle: Pin<Box<Sleep>>,
    idle_max: Duration,
    /// Since it was written to last.
    has_said: bool,
    counts: Counts,
    _one_of: OwnedSemaphorePermit,
}

/// Begins to listen. Within a runtime only.
pub fn listen(address: SocketAddr) -> anyhow::Result<TcpListener> {
    let listen = || {
        let socket = match address {
            SocketAddr::V4(_) => TcpSocket::new_v4(),
            SocketAddr::V6(_) => TcpSocket::new_v6(),
        }?;
        // Of the process before, connections may be left that have ended.
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        socket.listen(BACKLOG)
    };
    super::bound(address, listen)
}

impl Bounded {
    pub fn new(
        listener: TcpListener,
        connections_max: usize,
        idle_max: Duration,
        counts: Counts,
    ) -> Self {
        Self { listener, free: Arc::new(Semaphore::new(connections_max)), idle_max, counts }
    }
}

impl Listener for Bounded {
    type Io = Watched;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Watched, SocketAddr) {
        loop {
            let (stream, address) = match self.listener.accept().await {
                Ok(it) => it,
                Err(_) => {
                    self.counts.add("connections_failed");
                    // It may wait for others to be closed, but not in a hot loop.
                    sleep(AFTER_ERROR).await;
                    continue;
                }
            };
            let Ok(_one_of) = self.free.clone().try_acquire_owned() else {
                self.counts.add("too_many_connections");
                // A new connection has room for it, or its end is no loss.
                _ = stream.try_write(TOO_MANY);
                continue;
            };
            // Answers are small, and waited for.
            _ = stream.set_nodelay(true);
            let idle_max = self.idle_max;
            let idle = Box::pin(sleep(idle_max));
            let counts = self.counts.clone();
            return (Watched { stream, idle, idle_max, has_said: false, counts, _one_of }, address);
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

impl Watched {
    fn passed(&mut self) {
        self.idle.as_mut().reset(Instant::now() + self.idle_max);
    }
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match Pin::new(&mut self.stream).poll_read(context, buffer) {
            Poll::Ready(done) => {
                if !std::mem::replace(&mut self.has_said, true) {
                    self.passed();
                }
                Poll::Ready(done)
            }
            Poll::Pending => {
                ready!(self.idle.as_mut().poll(context));
                Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
            }
        }
    }
}

impl AsyncWrite for Watched {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match Pin::new(&mut self.stream).poll_write(context, bytes) {
            Poll::Ready(done) => {
                let begins = std::mem::replace(&mut self.has_said, false);
                if begins && is_of_no_request(bytes) {
                    self.counts.add("not_http");
                }
                self.passed();
                Poll::Ready(done)
            }
            Poll::Pending => {
                ready!(self.idle.as_mut().poll(context));
                Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
            }
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// Tells what the library says to bytes that are no request: all other answers of such a status have a body.
fn is_of_no_request(answer: &[u8]) -> bool {
    let head = String::from_utf8_lossy(answer);
    ["400", "414", "431"]
        .iter()
        .any(|it| head.strip_prefix("HTTP/1.1 ").is_some_and(|head| head.starts_with(it)))
        && head.contains("content-length: 0\r\n")
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use axum::Router;
    use axum::routing::get;
    use tokio::runtime::Runtime;

    use super::*;

    /// More than sockets hold.
    const LONG: usize = 32 << 20;

    /// Serves one connection at a time.
    fn served(runtime: &Runtime, idle_max: Duration) -> SocketAddr {
        counted(runtime, idle_max, Counts::default())
    }

    fn counted(runtime: &Runtime, idle_max: Duration, counts: Counts) -> SocketAddr {
        let listener = {
            let _within = runtime.enter();
            listen("127.0.0.1:0".parse().unwrap()).unwrap()
        };
        let address = listener.local_addr().unwrap();
        let bounded = Bounded::new(listener, 1, idle_max, counts);
        let routes = Router::new()
            .route("/", get(async || "x"))
            .route("/long", get(async || vec![b'x'; LONG]));
        runtime.spawn(async move { axum::serve(bounded, routes).await.unwrap() });
        address
    }

    fn ask(address: SocketAddr, requests: &str) -> std::net::TcpStream {
        let mut stream = std::net::TcpStream::connect(address).unwrap();
        stream.write_all(requests.as_bytes()).unwrap();
        stream
    }

    const LONG_ONE: &str = "GET /long HTTP/1.1\r\nHost: x\r\n\r\n";
    const SHORT_ONE: &str = "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";

    fn await_that(what: &str, mut holds: impl FnMut() -> bool) {
        let deadline = std::time::Instant::now() + Duration::from_secs(60);
        while !holds() {
            assert!(std::time::Instant::now() < deadline, "{what} is waited for in vain");
            std::thread::yield_now();
        }
    }

    /// Asks until there is room for another connection.
    fn await_room(address: SocketAddr) {
        await_that("room for others", || {
            let mut told = String::new();
            // One that is refused may be reset.
            _ = ask(address, SHORT_ONE).read_to_string(&mut told);
            told.starts_with("HTTP/1.1 200")
        });
    }

    #[test]
    fn what_is_no_request_is_answered_and_counted() {
        let runtime = Runtime::new().unwrap();
        let counts = Counts::default();
        let address = counted(&runtime, Duration::from_secs(60), counts.clone());
        let long = format!("GET / HTTP/1.1\r\nHost: x\r\nx: {}\r\n\r\n", "x".repeat(1 << 20));
        let garbage = ["\u{1}\u{2}\u{3}\r\n\r\n", "what is this\r\n\r\n", &long, SHORT_ONE];
        let mut answers = Vec::new();
        for it in garbage {
            let answer = loop {
                await_room(address);
                let mut told = [0; 12];
                let mut stream = std::net::TcpStream::connect(address).unwrap();
                // It may be answered before all of it is read.
                _ = stream.write_all(it.as_bytes());
                stream.read_exact(&mut told).unwrap();
                let told = String::from_utf8_lossy(&told).into_owned();
                // Who asked for room may not have gone yet.
                if told != "HTTP/1.1 503" {
                    break told;
                }
            };
            answers.push(answer);
        }
        let [bad, too_long] = ["HTTP/1.1 400", "HTTP/1.1 431"];
        assert_eq!(answers, [bad, bad, too_long, "HTTP/1.1 200"]);
        // A connection is counted when it ends, which is behind its answer.
        await_that("the count", || Some(&3) <= counts.all().get("not_http"));
        assert_eq!(counts.all().get("not_http"), Some(&3));
    }

    #[test]
    fn client_that_never_ends_its_request_does_not_keep_others_out() {
        let runtime = Runtime::new().unwrap();
        let idle_max = Duration::from_millis(200);
        let address = served(&runtime, idle_max);
        let mut dribbling = ask(address, "GET / HTTP/1.1\r\nHost: ");
        await_that("its end", || {
            std::thread::park_timeout(idle_max / 20);
            dribbling.write_all(b"x").is_err()
        });
        await_room(address);
    }

    #[test]
    fn client_that_does_not_read_its_answer_does_not_keep_others_out() {
        let runtime = Runtime::new().unwrap();
        let address = served(&runtime, Duration::from_millis(50));
        let _silent = ask(address, LONG_ONE);
        await_room(address);
        // One that has asked for more, of which nothing is read meanwhile.
        let _eager = ask(address, &[LONG_ONE, LONG_ONE].concat());
        await_room(address);
    }
}
