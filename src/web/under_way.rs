//! Counts requests that are under way, each until its answer is written: who is to end waits for these, and
//! not for clients that keep their connections.
//!
//! ```text
//!  told to end ──> no connection is taken, those that rest are closed, GOAWAY on HTTP/2
//!              ──> ends when all are closed; or nothing is under way for a moment; or it takes too long
//! ```

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use axum::extract::Request;
use axum::middleware::{Next, from_fn};
use axum::{Error, Router};
use hyper::body::{Frame, SizeHint};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

/// So long what was handed to the connection last may take to be written, when nothing else is under way.
pub const WRITTEN_WITHIN: Duration = Duration::from_secs(2);

/// An answer goes to its connection in frames of so many bytes: that takes some at a time, and more when
/// these are written.
const FRAME_BYTES_MAX: usize = 64 << 10;

/// Requests that are under way. Clones count together.
#[derive(Clone, Debug)]
pub struct UnderWay(Arc<watch::Sender<usize>>);

struct One(UnderWay);

/// The body of an answer, which is under way until the connection has all of it, or has given it up.
struct Counted {
    body: Body,
    /// Of the frame that came last.
    rest: Bytes,
    _one: One,
}

impl Default for UnderWay {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(0)))
    }
}

impl UnderWay {
    /// Counts the requests of these routes.
    pub fn counted(&self, routes: Router) -> Router {
        let under_way = self.clone();
        routes.layer(from_fn(move |request: Request, next: Next| {
            let one = under_way.begin();
            async move {
                let counted = |body| Body::new(Counted { body, rest: Bytes::new(), _one: one });
                next.run(request).await.map(counted)
            }
        }))
    }

    /// Waits for a server that was told to end; returns how many requests are given up.
    pub async fn drained(&self, mut serving: JoinHandle<()>, within: Duration) -> usize {
        let mut count = self.0.subscribe();
        let rests = async {
            loop {
                // The sender is there as long as this is.
                _ = count.wait_for(|it| *it == 0).await;
                if timeout(WRITTEN_WITHIN, count.wait_for(|it| *it > 0)).await.is_err() {
                    return;
                }
            }
        };
        tokio::select! {
            _ = &mut serving => 0,
            () = rests => 0,
            () = sleep(within) => *self.0.borrow(),
        }
    }

    fn begin(&self) -> One {
        self.0.send_modify(|it| *it += 1);
        One(self.clone())
    }
}

impl HttpBody for Counted {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        if self.rest.is_empty() {
            let frame = match ready!(Pin::new(&mut self.body).poll_frame(context)) {
                Some(Ok(frame)) => frame,
                end => return Poll::Ready(end),
            };
            match frame.into_data() {
                Ok(data) => self.rest = data,
                Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
            }
        }
        let bytes = self.rest.len().min(FRAME_BYTES_MAX);
        Poll::Ready(Some(Ok(Frame::data(self.rest.split_to(bytes)))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let (rest, hint) = (self.rest.len() as u64, self.body.size_hint());
        let mut res = SizeHint::new();
        res.set_lower(rest + hint.lower());
        if let Some(upper) = hint.upper() {
            res.set_upper(rest + upper);
        }
        res
    }
}

impl Drop for One {
    fn drop(&mut self) {
        self.0.0.send_modify(|it| *it -= 1);
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpStream;

    use axum::routing::get;
    use http_body_util::BodyExt as _;
    use tokio::net::TcpListener;
    use tokio::runtime::Runtime;
    use tokio::sync::oneshot;

    use super::*;

    /// More than sockets hold.
    const LONG: usize = 32 << 20;

    struct Served {
        runtime: Runtime,
        under_way: UnderWay,
        serving: JoinHandle<()>,
        stop: oneshot::Sender<()>,
        /// Has asked for what is long, and has read how the answer begins.
        client: TcpStream,
        head: String,
    }

    impl Served {
        fn begin() -> Self {
            let runtime = Runtime::new().unwrap();
            let under_way = UnderWay::default();
            let routes = Router::new().route("/long", get(async || vec![b'x'; LONG]));
            let routes = under_way.counted(routes);
            let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
            let address = listener.local_addr().unwrap();
            let (stop, stopped) = oneshot::channel::<()>();
            let serving = runtime.spawn(async move {
                let until = async { stopped.await.unwrap() };
                axum::serve(listener, routes).with_graceful_shutdown(until).await.unwrap();
            });
            let mut client = TcpStream::connect(address).unwrap();
            client
                .write_all(b"GET /long HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
                .unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                client.read_exact(&mut byte).unwrap();
                head.extend(byte);
            }
            let head = String::from_utf8(head).unwrap();
            Self { runtime, under_way, serving, stop, client, head }
        }
    }

    #[test]
    fn client_that_reads_slowly_gets_all_of_a_long_answer_from_who_is_to_end() {
        let Served { runtime, under_way, serving, stop, mut client, head } = Served::begin();
        assert!(head.starts_with("HTTP/1.1 200 OK") && head.contains("content-length: 33554432"));
        stop.send(()).unwrap();
        let within = Duration::from_secs(600);
        let drained = under_way.clone();
        let mut drained = runtime.spawn(async move { drained.drained(serving, within).await });
        // For longer than nothing is under way before it ends.
        let waited =
            runtime.block_on(async { timeout(WRITTEN_WITHIN * 3 / 2, &mut drained).await });
        assert!(waited.is_err(), "it has ended, and the answer is not written");
        let mut body = Vec::new();
        client.read_to_end(&mut body).unwrap();
        assert_eq!(body.len(), LONG);
        assert_eq!(runtime.block_on(drained).unwrap(), 0);
        assert_eq!(*under_way.0.borrow(), 0);
    }

    #[test]
    fn answer_that_nobody_reads_is_given_up_in_time() {
        let Served { runtime, under_way, serving, stop, client, .. } = Served::begin();
        stop.send(()).unwrap();
        let drained = under_way.drained(serving, Duration::from_millis(50));
        let waited = runtime.block_on(async { timeout(WRITTEN_WITHIN * 5, drained).await });
        assert_eq!(waited, Ok(1));
        drop(client);
    }

    #[test]
    fn rest_of_a_frame_counts_for_the_size() {
        let body = Body::from(vec![b'x'; FRAME_BYTES_MAX + 1]);
        let one = UnderWay::default().begin();
        let mut body = Counted { body, rest: Bytes::new(), _one: one };
        let runtime = Runtime::new().unwrap();
        for left in [1, 0] {
            runtime.block_on(body.frame()).unwrap().unwrap();
            assert_eq!(body.size_hint().exact(), Some(left));
        }
        assert!(body.is_end_stream());
    }
}
