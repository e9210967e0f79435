//! Counts requests that are under way, each until its answer is written: who is to end waits for these, and
//! not for clients that keep their connections.
//!
//! ```text
//!  told to end ──> no connection is taken, those that rest are closed, GOAWAY on HTTP/2
//!              ──> ends when all are closed; or nothing is under way for a moment; or it takes too long
//! ```

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
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

/// Requests that are under way. Clones count together.
#[derive(Clone, Debug)]
pub struct UnderWay(Arc<watch::Sender<usize>>);

struct One(UnderWay);

/// The body of an answer, which is under way until the connection has all of it, or has given it up.
struct Counted {
    body: Body,
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
                let counted = |body| Body::new(Counted { body, _one: one });
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
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for One {
    fn drop(&mut self) {
        self.0.0.send_modify(|it| *it -= 1);
    }
}
