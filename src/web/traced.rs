//! Begins a span for each request of reads, in the trace that the request is of.
//!
//! ```text
//!  traceparent ──> span GET /v1/keys/{key} ──> handler, within it ──> status
//! ```
//!
//! * **No cost where no spans are exported**: then the routes are served as they are.

use axum::Router;
use axum::extract::{MatchedPath, Request};
use axum::middleware::{Next, from_fn};
use axum::response::Response;
use opentelemetry::KeyValue;
use opentelemetry::context::FutureExt as _;
use opentelemetry::trace::TraceContextExt as _;

use crate::telemetry::spans::{self, Begun};
use crate::telemetry::{carried, names};

/// Lets each request of these routes have a span.
pub fn traced<S: Clone + Send + Sync + 'static>(routes: Router<S>) -> Router<S> {
    if spans::is_on() { routes.route_layer(from_fn(within_span)) } else { routes }
}

async fn within_span(request: Request, next: Next) -> Response {
    let matched = request.extensions().get::<MatchedPath>();
    let route = matched.map_or(String::new(), |it| it.as_str().to_owned());
    let method = request.method().to_string();
    let parent = carried::context_of_request(request.headers());
    let context = Begun::serve(format!("{method} {route}"), parent.as_ref()).with([
        KeyValue::new(names::METHOD, method),
        KeyValue::new(names::ROUTE, route),
        KeyValue::new(names::PATH, request.uri().path().to_owned()),
    ]);
    let context = context.begin();
    let response = next.run(request).with_context(context.clone()).await;
    let status = response.status();
    context.span().set_attribute(KeyValue::new(names::STATUS_CODE, i64::from(status.as_u16())));
    if status.is_server_error() {
        spans::fail(&context, status.as_str());
    }
    spans::end(&context);
    response
}
