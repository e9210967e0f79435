//! Tells over HTTP why a request came to nothing, as `application/problem+json` (RFC 9457).

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

/// What a client asks again after, where that helps.
const RETRY_AFTER_S: u16 = 1;

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    pub status: StatusCode,
    /// Stable, and the name under which it is counted.
    pub code: &'static str,
    pub title: &'static str,
    pub detail: String,
}

#[derive(Serialize)]
struct Body<'a> {
    r#type: String,
    title: &'a str,
    status: u16,
    detail: &'a str,
}

impl Problem {
    pub fn new(
        status: StatusCode,
        (code, title): (&'static str, &'static str),
        detail: impl Into<String>,
    ) -> Self {
        Self { status, code, title, detail: detail.into() }
    }

    pub fn bad_request(detail: impl Into<String>) -> Self {
        let title = "the request is not one that is understood";
        Self::new(StatusCode::BAD_REQUEST, ("bad_request", title), detail)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let Self { status, code, title, detail } = &self;
        let r#type = format!("urn:isotherm:{code}");
        let body = Body { r#type, title, status: status.as_u16(), detail };
        let mut res = (*status, Json(body)).into_response();
        let headers = res.headers_mut();
        let json = HeaderValue::from_static("application/problem+json");
        headers.insert(header::CONTENT_TYPE, json);
        if *status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(header::RETRY_AFTER, RETRY_AFTER_S.into());
        }
        res
    }
}
