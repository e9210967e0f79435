//! Takes reads of routers over HTTP, and gives the answers of what this node holds.
//!
//! ```text
//!  POST /v1/reads   Reads, each with its epoch ──> Answers, one for each read
//!  GET  /v1/held?after=&limit=                 ──> Held, a page of all there is
//! ```
//!
//! * **Every request has an answer**: what cannot be used gets a problem that says why, and is counted
//!   under its code.

use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};

use super::body;
use super::held::{self, Held};
use super::problem::Problem;
use super::reads::{Answer, Answers, Read, Reads};
use crate::counts::Counts;

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

type Future<T> = Pin<Box<dyn std::future::Future<Output = T> + Send>>;

/// What answers reads, each before the deadline.
pub type Answering = Arc<dyn Fn(Vec<Read>, Instant) -> Future<Vec<Answer>> + Send + Sync>;

/// What tells a page of all that is held; `None`: not now.
pub type Holding = Arc<dyn Fn(held::Asked) -> Future<Option<Held>> + Send + Sync>;

#[derive(Clone)]
struct Back {
    limits: Limits,
    answering: Answering,
    holding: Holding,
    counts: Counts,
}

/// Returns what is served of reads.
pub fn routes(limits: Limits, answering: Answering, holding: Holding, counts: Counts) -> Router {
    let back = Back { limits, answering, holding, counts };
    Router::new()
        .route("/v1/reads", post(batch))
        .route(held::PATH, get(page))
        .fallback(async |State(it): State<Back>| it.problem(no_such_path()))
        .method_not_allowed_fallback(async |State(it): State<Back>| it.problem(no_such_method()))
        .with_state(back)
}

async fn batch(State(back): State<Back>, body: Body) -> Response {
    let arrived = Instant::now();
    let Limits { body_bytes_max, body_within, reads_max, deadline_max } = back.limits;
    let reads = match body::json::<Reads>(body, body_bytes_max, body_within).await {
        Ok(Reads { reads, .. }) if reads_max < reads.len() => {
            let detail = format!("it has {} reads; send at most {reads_max} at once", reads.len());
            let large = ("batch_too_large", "the batch has more reads than are taken at once");
            return back.problem(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, large, detail));
        }
        Ok(reads) => reads,
        Err(problem) => return back.problem(problem),
    };
    let within = reads.deadline_ms.map_or(deadline_max, Duration::from_millis).min(deadline_max);
    back.counts.add_many("reads", reads.reads.len() as u64);
    let answers = (back.answering)(reads.reads, arrived + within).await;
    Json(Answers { answers }).into_response()
}

async fn page(
    State(back): State<Back>,
    query: Result<Query<held::Asked>, QueryRejection>,
) -> Response {
    let asked = match query {
        Ok(Query(asked)) => asked,
        Err(refused) => return back.problem(Problem::bad_request(refused.body_text())),
    };
    match (back.holding)(asked).await {
        Some(held) => Json(held).into_response(),
        None => {
            let starting = ("not_started", "the worker is starting, stopping, or cannot read");
            let detail = "ask again in a moment; its log says more";
            back.problem(Problem::new(StatusCode::SERVICE_UNAVAILABLE, starting, detail))
        }
    }
}

impl Back {
    fn problem(&self, problem: Problem) -> Response {
        self.counts.add(problem.code);
        problem.into_response()
    }
}

const PATHS: &str = "POST /v1/reads, GET /v1/held, GET /livez, GET /readyz";

fn no_such_path() -> Problem {
    Problem::new(StatusCode::NOT_FOUND, ("no_such_path", "there is nothing here"), PATHS)
}

fn no_such_method() -> Problem {
    let title = "the path is not asked this way";
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, ("no_such_method", title), PATHS)
}
