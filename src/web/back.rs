//! Takes reads of routers over HTTP, and gives the answers of what this node holds.
//!
//! ```text
//!  POST /v1/reads   Reads, each with its epoch ──> Answers, one for each read
//!  POST /v1/held    which page                 ──> Held, a page of all there is
//!  GET  /v1/held?after=&limit=                 ──> the same, as far as an address goes
//! ```
//!
//! * **Every request has an answer**: what cannot be used gets a problem that says why, and is counted
//!   under its code.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Instant;

use axum::body::Body;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};

use super::body;
pub use super::body::Limits;
use super::held::{self, Held};
use super::problem::Problem;
use super::reads::{Answer, Answers, Read, Reads};
use super::traced::traced;
use crate::counts::Counts;
use crate::telemetry::metrics;

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
    traced(Router::new().route("/v1/reads", post(batch)))
        .route(held::PATH, get(page).post(page_of))
        .fallback(async |State(it): State<Back>| it.problem(no_such_path()))
        .method_not_allowed_fallback(async |State(it): State<Back>| it.problem(no_such_method()))
        .with_state(back)
}

async fn batch(State(back): State<Back>, body: Body) -> Response {
    let arrived = Instant::now();
    let Reads { reads, deadline_ms } = match body::reads(body, &back.limits).await {
        Ok(reads) => reads,
        Err(problem) => return back.problem(problem),
    };
    back.counts.add_many("reads", reads.len() as u64);
    let answers = (back.answering)(reads, arrived + back.limits.within(deadline_ms)).await;
    let measured = metrics::get();
    metrics::count_outcomes(&measured.worker_reads, answers.iter().map(Answer::outcome));
    measured.worker_read_duration.record(arrived.elapsed().as_secs_f64(), &[]);
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
    back.page(asked).await
}

async fn page_of(State(back): State<Back>, body: Body) -> Response {
    match body::json(body, &back.limits).await {
        Ok(asked) => back.page(asked).await,
        Err(problem) => back.problem(problem),
    }
}

impl Back {
    async fn page(&self, asked: held::Asked) -> Response {
        match (self.holding)(asked).await {
            Some(held) => Json(held).into_response(),
            None => {
                let starting = ("not_started", "the worker is starting, stopping, or cannot read");
                let detail = "ask again in a moment; its log says more";
                self.problem(Problem::new(StatusCode::SERVICE_UNAVAILABLE, starting, detail))
            }
        }
    }

    fn problem(&self, problem: Problem) -> Response {
        self.counts.add(problem.code);
        problem.into_response()
    }
}

const PATHS: &str = "POST /v1/reads, POST or GET /v1/held, GET /livez, GET /readyz, GET /metrics";

fn no_such_path() -> Problem {
    Problem::new(StatusCode::NOT_FOUND, ("no_such_path", "there is nothing here"), PATHS)
}

fn no_such_method() -> Problem {
    let title = "the path is not asked this way";
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, ("no_such_method", title), PATHS)
}
