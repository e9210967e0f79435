//! Takes reads of clients over HTTP, and answers them.
//!
//! ```text
//!  POST /v1/reads        Reads ──> Answers, one for each read
//!  GET  /v1/keys/KEY           ──> Found, or a problem
//!  GET  /v1/range?start=&end=&limit=
//! ```
//!
//! * **Every request has an answer**: what cannot be used gets a problem that says why, and is counted
//!   under its code.
//! * **Bounded**: bytes of a request, the time that it may take to come, reads of a batch.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Instant;

use axum::body::Body;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use opentelemetry::KeyValue;
use serde::Deserialize;

use super::body;
pub use super::body::Limits;
use super::problem::Problem;
use super::reads::{After, Answer, Answers, Asked as AskedAs, Reads, What};
use super::traced::traced;
use crate::config::key_of;
use crate::counts::Counts;
use crate::telemetry::metrics;

/// Reads that came together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    pub reads: Vec<What>,
    pub arrived: Instant,
    pub deadline: Instant,
}

/// More reads wait than may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Busy;

/// What answers reads.
pub type Answering = Arc<
    dyn Fn(Asked) -> Pin<Box<dyn Future<Output = Result<Vec<Answer>, Busy>> + Send>> + Send + Sync,
>;

#[derive(Clone)]
struct Front {
    limits: Limits,
    answering: Answering,
    counts: Counts,
}

/// Returns what is served of reads.
pub fn routes(limits: Limits, answering: Answering, counts: Counts) -> Router {
    let front = Front { limits, answering, counts };
    let reads = Router::new()
        .route("/v1/reads", post(batch))
        .route("/v1/keys/{key}", get(one_key))
        .route("/v1/range", get(one_range));
    traced(reads)
        .fallback(async |State(it): State<Front>| it.problem(no_such_path()))
        .method_not_allowed_fallback(async |State(it): State<Front>| it.problem(no_such_method()))
        .with_state(front)
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct KeyQuery {
    deadline_ms: Option<u64>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RangeQuery {
    #[serde(default)]
    start: String,
    #[serde(default)]
    end: String,
    limit: Option<u32>,
    /// Both, or neither.
    after_index_key: Option<String>,
    after_primary_key: Option<String>,
    deadline_ms: Option<u64>,
}

async fn batch(State(front): State<Front>, body: Body) -> Response {
    let arrived = Instant::now();
    let asked =
        body::reads(body, &front.limits).await.and_then(|reads| front.asked(reads, arrived));
    let answers = match asked {
        Ok(asked) => front.answers(asked).await.map_err(|Busy| busy()),
        Err(problem) => Err(problem),
    };
    match answers {
        Ok(answers) => Json(Answers { answers }).into_response(),
        Err(problem) => front.problem(problem),
    }
}

async fn one_key(
    State(front): State<Front>,
    key: Result<Path<String>, PathRejection>,
    query: Result<Query<KeyQuery>, QueryRejection>,
) -> Response {
    let asked = || {
        let Path(key) = key.map_err(|it| Problem::bad_request(it.body_text()))?;
        let Query(KeyQuery { deadline_ms }) =
            query.map_err(|it| Problem::bad_request(it.body_text()))?;
        Ok((What::Key(key_of(&key).map_err(Problem::bad_request)?), deadline_ms))
    };
    front.one(asked()).await
}

async fn one_range(
    State(front): State<Front>,
    query: Result<Query<RangeQuery>, QueryRejection>,
) -> Response {
    let asked = || {
        let Query(query) = query.map_err(|it| Problem::bad_request(it.body_text()))?;
        let key = |text: &str| key_of(text).map_err(Problem::bad_request);
        let after = match (&query.after_index_key, &query.after_primary_key) {
            (Some(index), Some(primary)) => {
                Some(After { index_key: key(index)?, primary_key: key(primary)? })
            }
            (None, None) => None,
            (Some(_), None) | (None, Some(_)) => {
                let both = "after_index_key and after_primary_key go together";
                return Err(Problem::bad_request(both));
            }
        };
        let (start, end) = (key(&query.start)?, key(&query.end)?);
        Ok((What::Range { start, end, limit: query.limit, after }, query.deadline_ms))
    };
    front.one(asked()).await
}

impl Front {
    fn asked(&self, reads: Reads, arrived: Instant) -> Result<Asked, Problem> {
        let Reads { reads, deadline_ms } = reads;
        if reads.iter().any(|it| it.epoch.is_some() || it.asked_as != AskedAs::Owner) {
            return Err(Problem::bad_request(
                "epoch and asked_as are set by the router, not by its clients",
            ));
        }
        let reads = reads.into_iter().map(|it| it.what).collect();
        Ok(Asked { reads, arrived, deadline: arrived + self.limits.within(deadline_ms) })
    }

    async fn one(&self, asked: Result<(What, Option<u64>), Problem>) -> Response {
        let arrived = Instant::now();
        let (what, deadline_ms) = match asked {
            Ok(asked) => asked,
            Err(problem) => return self.problem(problem),
        };
        let deadline = arrived + self.limits.within(deadline_ms);
        let answers = self.answers(Asked { reads: vec![what], arrived, deadline }).await;
        match answers.map(|mut it| it.pop()) {
            Ok(Some(Answer::Found(found))) => Json(found).into_response(),
            Ok(answer) => self.problem(no_answer(answer)),
            Err(Busy) => self.problem(busy()),
        }
    }

    async fn answers(&self, asked: Asked) -> Result<Vec<Answer>, Busy> {
        let (arrived, count) = (asked.arrived, asked.reads.len());
        let answers = (self.answering)(asked).await;
        let measured = metrics::get();
        match &answers {
            Ok(it) => {
                metrics::count_outcomes(&measured.router_reads, it.iter().map(Answer::outcome));
            }
            Err(Busy) => {
                let busy = [KeyValue::new(metrics::OUTCOME, "busy")];
                measured.router_reads.add(count as u64, &busy);
            }
        }
        measured.router_read_duration.record(arrived.elapsed().as_secs_f64(), &[]);
        answers
    }

    fn problem(&self, problem: Problem) -> Response {
        self.counts.add(problem.code);
        problem.into_response()
    }
}

fn no_answer(answer: Option<Answer>) -> Problem {
    match answer {
        Some(Answer::Refused { reason }) => Problem::bad_request(reason.to_string()),
        Some(Answer::Late) => Problem::new(
            StatusCode::GATEWAY_TIMEOUT,
            ("late", "there was no answer before the deadline"),
            "a node may be down, or a range on its way; ask again, or with a later deadline",
        ),
        Some(Answer::NotYet { .. }) => busy(),
        Some(Answer::Found(_) | Answer::Moved { .. } | Answer::AskSource { .. }) | None => {
            Problem::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                ("no_answer", "the read came to no answer"),
                "this is a fault of the router",
            )
        }
    }
}

fn busy() -> Problem {
    Problem::new(
        StatusCode::SERVICE_UNAVAILABLE,
        ("too_many_waiting", "more reads wait for an answer than may"),
        "ask again in a moment, or another router",
    )
}

fn no_such_path() -> Problem {
    Problem::new(
        StatusCode::NOT_FOUND,
        ("no_such_path", "there is nothing here"),
        "POST /v1/reads, GET /v1/keys/KEY, GET /v1/range, /livez, /readyz, /metrics",
    )
}

fn no_such_method() -> Problem {
    Problem::new(
        StatusCode::METHOD_NOT_ALLOWED,
        ("no_such_method", "the path is not asked this way"),
        "POST /v1/reads, GET /v1/keys/KEY, GET /v1/range, GET /livez, GET /readyz, GET /metrics",
    )
}
