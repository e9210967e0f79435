//! Takes connections, up to a limit: whoever comes then is told so.
//!
//! * **Every connection has an answer**: one too many gets a 503 and is closed. It was not read from, so
//!   it costs nothing.
//! * **Who says nothing and waits for nothing is let go**: a connection on which no byte passes for a
//!   while does not keep others out for ever.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use anyhow::Context as _;
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

/// A connection that is let go when nothing passes on it.
pub struct Watched {
    stream: TcpStream,
    idle: Pin<Box<Sleep>>,
    idle_max: Duration,
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
    listen().with_context(|| super::not_free(address))
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
            return (Watched { stream, idle, idle_max, _one_of }, address);
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
                self.passed();
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
