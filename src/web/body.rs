//! Reads a batch of reads from the body of a request, within limits.

use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::http::StatusCode;
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use super::problem::Problem;
use super::reads::Reads;

/// How much is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    pub body_bytes_max: usize,
    /// A request that has not come in full by then is given up.
    pub body_within: Duration,
    pub reads_max: usize,
    /// Of reads that say no deadline, or a later one.
    pub deadline_max: Duration,
}

impl Limits {
    /// Returns how long reads may take that say so.
    pub fn within(&self, deadline_ms: Option<u64>) -> Duration {
        deadline_ms.map_or(self.deadline_max, Duration::from_millis).min(self.deadline_max)
    }
}

/// Reads a batch; the problem says why it cannot be taken.
pub async fn reads(body: Body, limits: &Limits) -> Result<Reads, Problem> {
    let reads: Reads = json(body, limits).await?;
    let (count, reads_max) = (reads.reads.len(), limits.reads_max);
    if reads_max < count {
        let detail = format!("it has {count} reads; send at most {reads_max} at once");
        let large = ("batch_too_large", "the batch has more reads than are taken at once");
        return Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, large, detail));
    }
    Ok(reads)
}

/// Reads a value; the problem says why it cannot be taken.
pub async fn json<T: DeserializeOwned>(body: Body, limits: &Limits) -> Result<T, Problem> {
    let Limits { body_bytes_max: bytes_max, body_within: within, .. } = *limits;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn later_deadline_than_may_be_is_not_taken() {
        let second = Duration::from_secs(1);
        let (body_bytes_max, body_within, reads_max) = (1, second, 1);
        let limits = Limits { body_bytes_max, body_within, reads_max, deadline_max: 2 * second };
        assert_eq!(limits.within(None), 2 * second);
        assert_eq!(limits.within(Some(2_001)), 2 * second);
        assert_eq!(limits.within(Some(1_000)), second);
    }
}
