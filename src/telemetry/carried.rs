//! Carries contexts of traces in the headers of records and of requests, as W3C has them.
//!
//! * **What is no context is none**: a header that cannot be read begins nothing, and is no error.
//! * **`tracestate` only where there is one.**

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use opentelemetry::Context;
use opentelemetry::propagation::{Extractor, Injector, TextMapPropagator};
use opentelemetry::trace::TraceContextExt as _;
use opentelemetry_sdk::propagation::TraceContextPropagator;

use super::spans;

/// The headers, and how they are called in records.
const NAMES: [&str; 2] = ["traceparent", "tracestate"];

/// Of what a `traceparent` is made of: version, trace, span, flags.
const LENGTHS: [usize; 4] = [2, 32, 16, 2];

/// Headers of a record that came.
struct Read<'a>(&'a [(String, Vec<u8>)]);

/// Headers of one that is to be sent.
struct Written<'a>(&'a mut Vec<(&'static str, Vec<u8>)>);

/// Headers of a request.
struct OfRequest<'a>(&'a HeaderMap);

struct ToRequest<'a>(&'a mut HeaderMap);

/// Writes the context to the headers of a record, in place of the one that they have.
pub fn put(context: &Context, headers: &mut Vec<(&'static str, Vec<u8>)>) {
    if spans::propagates() {
        headers.retain(|it| !NAMES.contains(&it.0));
        TraceContextPropagator::new().inject_context(context, &mut Written(headers));
    }
}

/// Returns the context that a record came with.
pub fn context(headers: &[(String, Vec<u8>)]) -> Option<Context> {
    if spans::propagates() { extracted(&Read(headers)) } else { None }
}

/// Writes the context to the headers of a request.
pub fn put_to_request(context: &Context, headers: &mut HeaderMap) {
    if spans::propagates() {
        TraceContextPropagator::new().inject_context(context, &mut ToRequest(headers));
    }
}

/// Returns the context that a request came with.
pub fn context_of_request(headers: &HeaderMap) -> Option<Context> {
    if spans::propagates() { extracted(&OfRequest(headers)) } else { None }
}

fn extracted(headers: &dyn Extractor) -> Option<Context> {
    let parent = headers.get(NAMES[0])?;
    // The propagator takes shorter ones, too.
    if !parent.split('-').map(str::len).take(4).eq(LENGTHS) {
        return None;
    }
    let context = TraceContextPropagator::new().extract_with_context(&Context::new(), headers);
    context.span().span_context().is_valid().then_some(context)
}

impl Extractor for Read<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        let (_, value) = self.0.iter().find(|it| it.0.eq_ignore_ascii_case(key))?;
        std::str::from_utf8(value).ok()
    }

    fn keys(&self) -> Vec<&str> {
        self.0.iter().map(|it| it.0.as_str()).collect()
    }
}

impl Injector for Written<'_> {
    fn set(&mut self, key: &str, value: String) {
        let name = NAMES.into_iter().find(|it| *it == key);
        if let Some(name) = name.filter(|_| !value.is_empty()) {
            self.0.push((name, value.into_bytes()));
        }
    }
}

impl Extractor for OfRequest<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key)?.to_str().ok()
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(HeaderName::as_str).collect()
    }
}

impl Injector for ToRequest<'_> {
    fn set(&mut self, key: &str, value: String) {
        let name = NAMES.into_iter().find(|it| *it == key);
        if let (Some(name), Ok(value)) = (name, HeaderValue::try_from(value))
            && !value.is_empty()
        {
            self.0.insert(HeaderName::from_static(name), value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    fn headers(parent: &[u8], state: &str) -> Vec<(String, Vec<u8>)> {
        vec![("traceparent".into(), parent.into()), ("tracestate".into(), state.into())]
    }

    #[test]
    fn context_goes_from_one_record_to_the_next() {
        let found = context(&headers(PARENT.as_bytes(), "vendor=1")).unwrap();
        let mut sent = vec![("traceparent", b"old".to_vec()), ("other", b"x".to_vec())];
        put(&found, &mut sent);
        let expected = [("other", "x"), ("traceparent", PARENT), ("tracestate", "vendor=1")];
        let expected = expected.map(|(name, value)| (name, value.as_bytes().to_vec()));
        sent.sort();
        assert_eq!(sent, expected);
        let mut sent = Vec::new();
        put(&context(&headers(PARENT.as_bytes(), "")).unwrap(), &mut sent);
        assert_eq!(sent.len(), 1, "no empty tracestate: {sent:?}");
    }

    #[test]
    fn context_goes_from_one_request_to_the_next() {
        let mut request = HeaderMap::new();
        assert!(context_of_request(&request).is_none());
        request.insert("traceparent", PARENT.parse().unwrap());
        let mut sent = HeaderMap::new();
        put_to_request(&context_of_request(&request).unwrap(), &mut sent);
        assert_eq!(sent, request);
    }

    #[test]
    fn what_is_no_context_begins_nothing() {
        let zero = PARENT.replace("0af7651916cd43dd8448eb211c80319c", &"0".repeat(32));
        for it in ["", "garbage", "00-1-2-01", &PARENT[1..], &zero, &PARENT.replace("00-", "ff-")] {
            assert!(context(&headers(it.as_bytes(), "")).is_none(), "{it}");
        }
        assert!(context(&headers(&[0xff, 0xfe], "")).is_none());
        assert!(context(&[]).is_none());
    }
}
