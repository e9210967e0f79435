//! Writes a line of the log: as usual, and with the ids of its span, where there is one.

use std::fmt;

use opentelemetry::Context;
use opentelemetry::trace::TraceContextExt as _;
use tracing::{Event, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

/// Puts ids behind what another format writes.
pub(super) struct WithIds<F>(pub F);

impl<S, N, F> FormatEvent<S, N> for WithIds<F>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
    F: FormatEvent<S, N>,
{
    fn format_event(
        &self,
        of: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let context = Context::current();
        let span = context.span();
        let ids = span.span_context();
        if !ids.is_valid() {
            return self.0.format_event(of, writer, event);
        }
        let mut line = String::new();
        self.0.format_event(of, Writer::new(&mut line), event)?;
        let (line, trace, span) = (line.trim_end_matches('\n'), ids.trace_id(), ids.span_id());
        writeln!(writer, "{line} trace_id={trace} span_id={span}")
    }
}
