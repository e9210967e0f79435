//! Says what a batch of reads is told, and what it wants done.

use std::sync::Arc;

use schemas::query_log::Op;
use schemas::{Generation, Key, NodeId};
use thiserror::Error;

use super::lookup::Lookup;
use crate::web::reads::{Answer, Read};

/// Names a request to a worker, within a batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AskId(pub u64);

/// What happens to a batch.
#[derive(Clone, Debug)]
pub enum Event {
    /// A worker has answered the reads of a request, in their order.
    Answered { ask: AskId, answers: Vec<Answer> },
    /// A request came to nothing.
    Failed { ask: AskId, why: Failure },
    /// There is a newer map.
    MapChanged(Arc<Lookup>),
    /// Time has passed.
    Tick,
}

/// What a batch wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    Ask(Ask),
    /// Nobody waits for this request any more.
    GiveUp(AskId),
    Log(Query),
    Count(Retry),
}

/// A request to a worker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ask {
    pub id: AskId,
    pub node: NodeId,
    pub reads: Vec<Read>,
    /// It follows a hint: only if that is to be trusted.
    pub hint: Option<Hint>,
}

/// A newer map than the one that is gone by has another owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Hint {
    /// Of the map by which the hint was got.
    pub by: Generation,
    pub generation: Generation,
}

/// A query to be logged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Query {
    pub op: Op,
    pub key: Key,
    /// `None`: it was not answered.
    pub cost_us: Option<u64>,
    pub bytes: u64,
}

/// Why a read is asked again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Retry {
    NoOwner,
    Moved,
    HintFollowed,
    AskSource,
    OlderMap,
    NotWhole,
    LaterUnknown,
    AnswerFull,
    WorkerLate,
    WorkerRefused,
    Failed(Failure),
}

/// Why a request came to nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Error)]
pub enum Failure {
    #[error("the node has not said where it serves reads")]
    NoEndpoint,
    #[error("the node cannot be reached")]
    Unreachable,
    #[error("the connection was lost")]
    Lost,
    #[error("the node has too much to do")]
    Overloaded,
    #[error("the node refuses the request")]
    Refused,
    #[error("the answer is not one to the request")]
    Garbage,
    #[error("the node does not answer, and is not the owner any more")]
    Silent,
    #[error("there is a newer map than the one that the hint is for")]
    HintOld,
}

impl Retry {
    /// Returns the name under which it is counted.
    pub fn code(self) -> &'static str {
        match self {
            Self::NoOwner => "no_owner",
            Self::Moved => "moved",
            Self::HintFollowed => "hint_followed",
            Self::AskSource => "ask_source",
            Self::OlderMap => "worker_has_older_map",
            Self::NotWhole => "not_whole",
            Self::LaterUnknown => "later_unknown",
            Self::AnswerFull => "answer_full",
            Self::WorkerLate => "worker_late",
            Self::WorkerRefused => "worker_refused",
            Self::Failed(Failure::NoEndpoint) => "no_endpoint",
            Self::Failed(Failure::Unreachable) => "unreachable",
            Self::Failed(Failure::Lost) => "connection_lost",
            Self::Failed(Failure::Overloaded) => "worker_overloaded",
            Self::Failed(Failure::Refused) => "request_refused",
            Self::Failed(Failure::Garbage) => "garbage",
            Self::Failed(Failure::Silent) => "silent",
            Self::Failed(Failure::HintOld) => "hint_old",
        }
    }
}
