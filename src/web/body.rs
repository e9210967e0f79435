//! Reads the JSON body of a request, within limits.

use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::http::StatusCode;
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use super::problem::Problem;

/// Reads what is asked for; the problem says why it cannot be.
pub async fn json<T: DeserializeOwned>(
    body: Body,
    bytes_max: usize,
    within: Duration,
) -> Result<T, Problem> {
    let body = timeout(within, to_bytes(body, bytes_max)).await.map_err(|_| {
        let detail = format!("it did not come within {} s", within.as_secs_f64());
        let slow = ("request_slow", "the request is too slow");
        Problem::new(StatusCode::REQUEST_TIMEOUT, slow, detail)
    })?;
    let body = body.map_err(|_| {
        let detail = format!("it was cut off, or has more than {bytes_max} bytes");
        let large = ("request_too_large", "the request is too large");
        Problem::new(StatusCode::PAYLOAD_TOO_LARGE, large, detail)
    })?;
    serde_json::from_slice(&body).map_err(|it| Problem::bad_request(it.to_string()))
}
