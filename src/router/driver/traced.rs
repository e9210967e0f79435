//! Traces requests to workers, each in the trace of the request that has led to it.

use opentelemetry::context::FutureExt as _;
use opentelemetry::{Context, KeyValue};
use schemas::NodeId;

use crate::telemetry::names;
use crate::telemetry::spans::{self, Begun};
use crate::web::reads::Answers;
use crate::web::workers::Unanswered;

/// Lets a request to a worker have a span.
pub(super) async fn traced(
    asked: impl Future<Output = Result<Answers, Unanswered>>,
    node: &NodeId,
    endpoint: &str,
    reads: usize,
) -> Result<Answers, Unanswered> {
    let parent = Context::current();
    let context = Begun::ask("POST /v1/reads", &parent).with([
        KeyValue::new(names::METHOD, "POST"),
        KeyValue::new(names::SERVER, endpoint.to_owned()),
        KeyValue::new(names::NODE, node.0.clone()),
        KeyValue::new(names::READS, reads as i64),
    ]);
    let context = context.begin();
    let asked = asked.with_context(context.clone()).await;
    if let Err(why) = &asked {
        spans::fail(&context, &format!("{why:?}"));
    }
    spans::end(&context);
    asked
}
