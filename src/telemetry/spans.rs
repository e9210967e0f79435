//! Begins and ends spans.
//!
//! ```text
//!  nothing set ──> no tracer: nobody begins a span, and nothing is allocated for one
//!  an exporter ──> tracer ──> queue, bounded ──> a thread of its own ──> collector
//! ```
//!
//! A span lives in its context, by which children begin and which records carry. Drivers hold contexts, by
//! what they are of; machines know nothing of them.

use std::borrow::Cow;
use std::cell::Cell;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::SystemTime;

use opentelemetry::trace::{
    Link, SpanContext, SpanId, SpanKind, Status, TraceContextExt as _, TraceId, Tracer as _,
};
use opentelemetry::{Context, KeyValue};
use opentelemetry_sdk::trace::{IdGenerator, RandomIdGenerator, SdkTracer};

use super::names;

static TRACER: OnceLock<SdkTracer> = OnceLock::new();

static PROPAGATES: AtomicBool = AtomicBool::new(true);

thread_local! {
    /// The id of the trace that begins next.
    static NEXT_TRACE: Cell<Option<TraceId>> = const { Cell::new(None) };
}

/// Lets spans begin from now on.
pub(super) fn turn_on(tracer: SdkTracer) {
    // Only tests begin twice.
    _ = TRACER.set(tracer);
}

pub(super) fn set_propagates(propagates: bool) {
    PROPAGATES.store(propagates, Ordering::Relaxed);
}

/// Tells whether contexts are carried along.
pub(super) fn propagates() -> bool {
    PROPAGATES.load(Ordering::Relaxed)
}

/// Tells whether spans are exported. Who begins one asks first, and saves the rest.
pub fn is_on() -> bool {
    TRACER.get().is_some()
}

/// Ids are drawn, but for the trace that is to have a certain one.
#[derive(Debug, Default)]
pub(super) struct Ids(RandomIdGenerator);

impl IdGenerator for Ids {
    fn new_trace_id(&self) -> TraceId {
        NEXT_TRACE.take().unwrap_or_else(|| self.0.new_trace_id())
    }

    fn new_span_id(&self) -> SpanId {
        self.0.new_span_id()
    }
}

/// What a span is begun with.
#[derive(Debug)]
pub struct Begun<'a> {
    pub name: Cow<'static, str>,
    pub kind: SpanKind,
    /// `None`: it begins a trace.
    pub parent: Option<&'a Context>,
    pub attributes: Vec<KeyValue>,
    pub links: Vec<SpanContext>,
}

impl<'a> Begun<'a> {
    /// The first of a trace.
    pub fn root(name: &'static str) -> Self {
        let (name, kind) = (name.into(), SpanKind::Internal);
        Self { name, kind, parent: None, attributes: Vec::new(), links: Vec::new() }
    }

    /// A part of what the parent is of.
    pub fn part(name: &'static str, parent: &'a Context) -> Self {
        let (name, parent) = (name.into(), Some(parent));
        Self { name, kind: SpanKind::Internal, parent, attributes: Vec::new(), links: Vec::new() }
    }

    /// A request is answered.
    pub fn serve(name: String, parent: Option<&'a Context>) -> Self {
        let (name, kind) = (name.into(), SpanKind::Server);
        Self { name, kind, parent, attributes: Vec::new(), links: Vec::new() }
    }

    /// A request is sent.
    pub fn ask(name: &'static str, parent: &'a Context) -> Self {
        Self { kind: SpanKind::Client, ..Self::part(name, parent) }
    }

    /// A record is written to the topic.
    pub fn send(topic: &str, parent: Option<&'a Context>) -> Self {
        Self::of_record("send", SpanKind::Producer, topic, parent)
    }

    /// A record of the topic is worked on.
    pub fn process(topic: &str, parent: Option<&'a Context>) -> Self {
        Self::of_record("process", SpanKind::Consumer, topic, parent)
    }

    fn of_record(
        operation: &'static str,
        kind: SpanKind,
        topic: &str,
        parent: Option<&'a Context>,
    ) -> Self {
        let attributes = vec![
            KeyValue::new(names::SYSTEM, "kafka"),
            KeyValue::new(names::DESTINATION, topic.to_owned()),
            KeyValue::new(names::OPERATION, operation),
            KeyValue::new(names::OPERATION_TYPE, operation),
        ];
        let name = format!("{operation} {topic}").into();
        Self { name, kind, parent, attributes, links: Vec::new() }
    }

    /// Links it to spans of other traces.
    pub fn linked(self, links: Vec<SpanContext>) -> Self {
        Self { links, ..self }
    }

    pub fn with(mut self, attributes: impl IntoIterator<Item = KeyValue>) -> Self {
        self.attributes.extend(attributes);
        self
    }

    /// Begins it, now. While nothing is exported, the parent's context goes on.
    pub fn begin(self) -> Context {
        self.begin_at(SystemTime::now())
    }

    fn begin_at(self, begun: SystemTime) -> Context {
        let Self { name, kind, parent, attributes, links } = self;
        let none = Context::new();
        let parent = parent.unwrap_or(&none);
        let Some(tracer) = TRACER.get() else { return parent.clone() };
        let links = links.into_iter().map(|it| Link::new(it, Vec::new(), 0)).collect();
        let builder = tracer.span_builder(name).with_kind(kind).with_start_time(begun);
        let builder = builder.with_attributes(attributes).with_links(links);
        parent.with_span(tracer.build_with_context(builder, parent))
    }

    /// Begins a trace of this id, as of then.
    pub fn begin_trace(self, id: TraceId, begun: SystemTime) -> Context {
        NEXT_TRACE.set(Some(id));
        let context = Self { parent: None, ..self }.begin_at(begun);
        NEXT_TRACE.set(None);
        context
    }
}

/// Says that what the span is of has failed.
pub fn fail(context: &Context, reason: &str) {
    context.span().set_status(Status::error(reason.to_owned()));
}

/// Ends the span; what else there is of its context may still begin children.
pub fn end(context: &Context) {
    context.span().end();
}
