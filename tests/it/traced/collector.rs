//! A collector that keeps what processes export, over HTTP and in protobuf, as OTLP has it.

use std::collections::BTreeSet;
use std::io::Read as _;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use axum::Router;
use axum::body::Bytes;
use axum::http::HeaderMap;
use axum::routing::post;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1 as otlp;
use prost::Message as _;
use tokio::sync::oneshot;

/// A header that a collector may ask for.
pub const API_KEY: &str = "x-api-key";

/// A span that was exported.
#[derive(Clone, Debug)]
pub struct Span {
    pub service: String,
    pub span: otlp::Span,
    resource: Vec<KeyValue>,
    /// With which it came, if any.
    pub api_key: Option<String>,
    pub was_compressed: bool,
}

#[derive(Default)]
struct Kept {
    spans: Vec<Span>,
    metrics: BTreeSet<(String, String)>,
}

/// A collector, until it is dropped.
pub struct Collector {
    kept: Arc<Mutex<Kept>>,
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Collector {
    pub fn start() -> Self {
        let kept = Arc::<Mutex<Kept>>::default();
        let (of_traces, of_metrics) = (kept.clone(), kept.clone());
        let routes = Router::new()
            .route(
                "/v1/traces",
                post(async move |headers: HeaderMap, body: Bytes| {
                    of_traces.lock().unwrap().spans(body, &headers);
                }),
            )
            .route(
                "/v1/metrics",
                post(async move |headers: HeaderMap, body: Bytes| {
                    of_metrics.lock().unwrap().metrics(body, &headers);
                }),
            );
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let thread = std::thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                let serving = axum::serve(listener, routes);
                tokio::select! {
                    served = async { serving.await } => served.unwrap(),
                    _ = stopped => (),
                }
            });
        });
        Self { kept, address, stop: Some(stop), thread: Some(thread) }
    }

    /// The variables of a process that exports to here, soon.
    pub fn variables(&self) -> Vec<(&'static str, String)> {
        vec![
            ("OTEL_EXPORTER_OTLP_ENDPOINT", format!("http://{}", self.address)),
            ("OTEL_BSP_SCHEDULE_DELAY", "100".into()),
            ("OTEL_METRIC_EXPORT_INTERVAL", "200".into()),
        ]
    }

    pub fn spans(&self) -> Vec<Span> {
        self.kept.lock().unwrap().spans.clone()
    }

    /// Returns the metrics that came, as `(service, name)`.
    pub fn metrics(&self) -> BTreeSet<(String, String)> {
        self.kept.lock().unwrap().metrics.clone()
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        _ = self.stop.take().map(|it| it.send(()));
        _ = self.thread.take().map(JoinHandle::join);
    }
}

impl Kept {
    fn spans(&mut self, body: Bytes, headers: &HeaderMap) {
        let api_key = headers.get(API_KEY).map(|it| it.to_str().unwrap().to_owned());
        let (body, was_compressed) = plain(body, headers);
        let request = ExportTraceServiceRequest::decode(body).unwrap();
        for it in request.resource_spans {
            let resource = it.resource.unwrap().attributes;
            let service = service(&resource);
            let spans = it.scope_spans.into_iter().flat_map(|it| it.spans);
            self.spans.extend(spans.map(|span| Span {
                service: service.clone(),
                span,
                resource: resource.clone(),
                api_key: api_key.clone(),
                was_compressed,
            }));
        }
    }

    fn metrics(&mut self, body: Bytes, headers: &HeaderMap) {
        let request = ExportMetricsServiceRequest::decode(plain(body, headers).0).unwrap();
        for it in request.resource_metrics {
            let service = service(&it.resource.unwrap().attributes);
            let metrics = it.scope_metrics.into_iter().flat_map(|it| it.metrics);
            self.metrics.extend(metrics.map(|it| (service.clone(), it.name)));
        }
    }
}

/// What was sent, and whether it was compressed.
fn plain(body: Bytes, headers: &HeaderMap) -> (Bytes, bool) {
    if headers.get("content-encoding").is_none_or(|it| it != "gzip") {
        return (body, false);
    }
    let mut plain = Vec::new();
    flate2::read::GzDecoder::new(&body[..]).read_to_end(&mut plain).unwrap();
    (plain.into(), true)
}

fn service(attributes: &[KeyValue]) -> String {
    text(attributes, "service.name").unwrap()
}

fn text(attributes: &[KeyValue], name: &str) -> Option<String> {
    let found = attributes.iter().find(|it| it.key == name)?;
    let value = found.value.as_ref()?.value.as_ref()?;
    if let Value::StringValue(it) = value {
        return Some(it.clone());
    }
    if let Value::IntValue(it) = value { Some(it.to_string()) } else { Some(format!("{value:?}")) }
}

impl Span {
    pub fn attribute(&self, name: &str) -> Option<String> {
        text(&self.span.attributes, name)
    }

    /// Returns what is said of the process itself.
    pub fn of_resource(&self, name: &str) -> Option<String> {
        text(&self.resource, name)
    }

    pub fn trace_id(&self) -> String {
        self.span.trace_id.iter().map(|it| format!("{it:02x}")).collect()
    }

    pub fn events(&self) -> Vec<&str> {
        self.span.events.iter().map(|it| it.name.as_str()).collect()
    }
}

/// Tells a trace as a tree: a line a span, `service name`, children below their parent and in the order of
/// their names, the same ones once. A span whose parent is not there is told as `elsewhere`.
pub fn tree(spans: &[Span]) -> String {
    let ids: BTreeSet<_> = spans.iter().map(|it| &it.span.span_id).collect();
    let mut told = String::new();
    for it in spans {
        if it.span.parent_span_id.is_empty() {
            tell(spans, it, 0, &mut told);
        } else if !ids.contains(&it.span.parent_span_id) {
            told.push_str("elsewhere\n");
            tell(spans, it, 1, &mut told);
        }
    }
    told
}

fn tell(spans: &[Span], span: &Span, depth: usize, told: &mut String) {
    let service = span.service.trim_start_matches("isotherm-");
    told.push_str(&format!("{}{service} {}\n", "  ".repeat(depth), span.span.name));
    let children = spans.iter().filter(|it| it.span.parent_span_id == span.span.span_id);
    let below: BTreeSet<_> = children
        .map(|it| {
            let mut told = String::new();
            tell(spans, it, depth + 1, &mut told);
            told
        })
        .collect();
    below.iter().for_each(|it| told.push_str(it));
}
