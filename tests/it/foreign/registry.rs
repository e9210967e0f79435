//! A schema registry over real HTTP, which answers as it is told to.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use axum::Router;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde_json::{Value, json};
use tokio::sync::oneshot;

/// What is answered when somebody asks for an id.
#[derive(Clone, Debug)]
pub enum Answer {
    /// This, as it stands.
    Text(u16, String),
    /// Nothing, ever.
    Stall,
}

/// A registry, until it is dropped.
pub struct Registry {
    address: SocketAddr,
    shared: Arc<Mutex<Shared>>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    answers: BTreeMap<u32, Answer>,
    /// What `Authorization` must be, if anything.
    authorization: Option<&'static str>,
    /// The ids that were asked for.
    asked: Vec<u32>,
}

impl Registry {
    pub fn start() -> Self {
        Self::start_at(SocketAddr::from(([127, 0, 0, 1], 0)))
    }

    /// Listens where another one did.
    pub fn start_at(address: SocketAddr) -> Self {
        let shared = Arc::new(Mutex::new(Shared::default()));
        let listener = std::net::TcpListener::bind(address).unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let routes = Router::new()
            .route("/schemas/ids/{id}", get(schema))
            .route("/subjects/{subject}/versions", post(register))
            .with_state(shared.clone());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let serve = async move {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            let serving = axum::serve(listener, routes).into_future();
            // Who stalls is not waited for.
            tokio::select! { _ = serving => (), _ = stopped => () }
        };
        let thread = std::thread::spawn(move || runtime.block_on(serve));
        Self { address, shared, stop: Some(stop), thread: Some(thread) }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Knows a schema from now on.
    pub fn knows(&self, id: u32, schema: &str) {
        self.answers(id, Answer::Text(200, json!({ "schema": schema }).to_string()));
    }

    pub fn answers(&self, id: u32, answer: Answer) {
        self.shared.lock().unwrap().answers.insert(id, answer);
    }

    pub fn wants(&self, authorization: &'static str) {
        self.shared.lock().unwrap().authorization = Some(authorization);
    }

    pub fn asked(&self) -> Vec<u32> {
        self.shared.lock().unwrap().asked.clone()
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        _ = self.stop.take().map(|it| it.send(()));
        _ = self.thread.take().map(JoinHandle::join);
    }
}

/// As Confluent's says it.
pub fn unknown() -> Answer {
    let text = json!({ "error_code": 40403, "message": "Schema not found" });
    Answer::Text(404, text.to_string())
}

async fn schema(
    State(shared): State<Arc<Mutex<Shared>>>,
    Path(id): Path<u32>,
    headers: HeaderMap,
) -> Response {
    let answer = {
        let mut shared = shared.lock().unwrap();
        shared.asked.push(id);
        let given = headers.get(header::AUTHORIZATION).map(|it| it.to_str().unwrap().to_owned());
        match shared.authorization {
            Some(wanted) if given.as_deref() != Some(wanted) => {
                let text = json!({ "error_code": 401, "message": "Unauthorized" });
                Answer::Text(401, text.to_string())
            }
            Some(_) | None => shared.answers.get(&id).cloned().unwrap_or_else(unknown),
        }
    };
    match answer {
        Answer::Text(status, text) => {
            let json = (header::CONTENT_TYPE, "application/vnd.schemaregistry.v1+json");
            (StatusCode::from_u16(status).unwrap(), [json], text).into_response()
        }
        Answer::Stall => std::future::pending().await,
    }
}

/// Gives the next free id, or that of the same text.
async fn register(State(shared): State<Arc<Mutex<Shared>>>, body: String) -> String {
    let body: Value = serde_json::from_str(&body).unwrap();
    let text = json!({ "schema": body["schema"] }).to_string();
    let mut shared = shared.lock().unwrap();
    let same = |(_, it): &(&u32, &Answer)| matches!(it, Answer::Text(200, it) if *it == text);
    let known = shared.answers.iter().find(same).map(|it| *it.0);
    let id = known.unwrap_or_else(|| shared.answers.keys().next_back().map_or(1, |it| it + 1));
    shared.answers.insert(id, Answer::Text(200, text));
    json!({ "id": id }).to_string()
}
