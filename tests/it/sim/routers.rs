//! Runs the routers, each with a client that reads: the real batches and maps, requests that take a while,
//! and answers by what a worker serves at some moment in between.

use std::collections::BTreeMap;
use std::sync::Arc;

use isotherm::assignment::whole::WholeMap;
use isotherm::router::lookup::Lookup;
use isotherm::router::machine::{Action, Ask, AskId, Batch, Event, Failure, Settings};
use isotherm::router::maps::{Maps, Offered};
use isotherm::router::reading;
use isotherm::web::reads::{Answer, What};
use isotherm::worker::serving::Limits;
use schemas::{Generation, KeySpan, Millis, NodeId};

use super::logs::Logs;
use super::workers::WorkerProcess;

/// What is not answered by then has failed.
pub const DEADLINE_MS: u64 = 30_000;

const SETTINGS: Settings = Settings {
    limits: reading::Limits { key_bytes_max: 100, entries_max: 100 },
    ask_reads_max: 2,
    answer_bytes_max: 1 << 20,
    pause_ms: 20,
    pause_max_ms: 1_000,
    hint_after_ms: 300,
    moved_silent_ms: 1_000,
};

const SERVED: Limits = Limits {
    reads_max: 10,
    key_bytes_max: 100,
    entries_max: 3,
    looked_at_max: 6,
    answer_bytes_max: 10_000,
};

pub struct RouterProcess {
    number: usize,
    map: WholeMap,
    map_read: usize,
    /// Where the map ended at the start; `None`: it is read to there.
    map_end: Option<usize>,
    lookup: Arc<Lookup>,
    /// Where the map has changed since.
    changed: Vec<KeySpan>,
    maps: Maps,
    /// A newer map waits for one of this generation, which a hint was of, and where the topic ended then.
    held: Option<(Generation, usize)>,
    pub late_until: u64,
    reading: Option<Reading>,
    batches: u64,
    /// Why requests were made again.
    pub retries: BTreeMap<&'static str, u64>,
}

/// What its client waits for.
struct Reading {
    batch: Batch,
    number: u64,
    reads: Vec<What>,
    deadline: u64,
}

/// A request on its way to a worker, or the answer on its way back.
pub struct Request {
    router: usize,
    batch: u64,
    ask: Ask,
    answer: Option<Result<Vec<Answer>, Failure>>,
}

impl Request {
    pub fn node(&self) -> &NodeId {
        &self.ask.node
    }

    pub fn is_answered(&self) -> bool {
        self.answer.is_some()
    }

    /// The worker has died: there will be no answer.
    pub fn lose(&mut self) {
        self.answer.get_or_insert(Err(Failure::Lost));
    }

    /// The worker answers by what it serves now.
    pub fn serve(&mut self, worker: Option<&WorkerProcess>) {
        let serving = worker.and_then(WorkerProcess::serving);
        let Some(serving) = serving else {
            self.answer = Some(Err(Failure::Unreachable));
            return;
        };
        let mut budget = SERVED.budget(self.ask.reads.len()).unwrap();
        let reads = self.ask.reads.iter();
        let answers = reads.map(|it| serving.read(it, &SERVED, &mut budget).unwrap().answer(1));
        self.answer = Some(Ok(answers.collect()));
    }
}

impl RouterProcess {
    pub fn new(number: usize, logs: &Logs) -> Self {
        Self {
            number,
            map: WholeMap::default(),
            map_read: 0,
            lookup: Arc::default(),
            changed: Vec::new(),
            map_end: Some(logs.assignment.len()),
            maps: Maps::default(),
            held: None,
            late_until: 0,
            reading: None,
            batches: 0,
            retries: BTreeMap::new(),
        }
    }

    /// How much of the map it has read.
    pub fn map_read(&self) -> usize {
        self.map_read
    }

    pub fn is_reading(&self) -> bool {
        self.reading.is_some()
    }

    /// Dies and begins again; its client takes its reads elsewhere.
    pub fn restart(&mut self, logs: &Logs) {
        let (batches, retries) = (self.batches, std::mem::take(&mut self.retries));
        *self = Self { batches, retries, ..Self::new(self.number, logs) };
    }

    /// Reads a row of the map.
    pub fn read_map(&mut self, now: u64, logs: &Logs, requests: &mut Vec<Request>) -> bool {
        if now < self.late_until {
            return false;
        }
        while logs.assignment_gone.contains(&self.map_read) {
            self.map_read += 1;
        }
        let mut is_busy = false;
        if let Some(row) = logs.assignment.get(self.map_read) {
            self.map_read += 1;
            is_busy = true;
            let taken = self.map.read(row.clone());
            assert_eq!(taken.refused, [], "a router uses every row of the map");
            self.changed.extend(taken.changed);
        }
        let has_reached = self.map_end.take_if(|end| *end <= self.map_read).is_some();
        if self.map_end.is_none() && (is_busy || has_reached) {
            self.offer(now, logs, requests);
        }
        if let Some((hint, _)) = self.held.take_if(|it| it.1 <= self.map_read) {
            self.maps.distrust(hint);
            self.offer(now, logs, requests);
        }
        is_busy || has_reached
    }

    fn offer(&mut self, now: u64, logs: &Logs, requests: &mut Vec<Request>) {
        let changed = std::mem::take(&mut self.changed);
        let (map, generation) = (self.map.map(), self.map.generation());
        self.lookup = Arc::new(self.lookup.following(map, generation, changed));
        match self.maps.offer(self.lookup.clone()) {
            Offered::Known => (),
            Offered::Taken => {
                self.held = None;
                let map = self.maps.load_full();
                self.handle(now, Event::MapChanged(map), requests);
            }
            Offered::Held { trusted } => {
                self.held.get_or_insert((trusted, logs.assignment.len()));
            }
        }
    }

    /// The client asks, if it does not wait for anything.
    pub fn ask(&mut self, now: u64, reads: Vec<What>, requests: &mut Vec<Request>) {
        self.batches += 1;
        let deadline = now + DEADLINE_MS;
        let map: Arc<Lookup> = self.maps.load_full();
        let batch = Batch::new(SETTINGS, map, Millis(deadline), reads.clone());
        self.reading = Some(Reading { batch, number: self.batches, reads, deadline });
        self.act(requests);
    }

    /// An answer has come back.
    pub fn answered(&mut self, now: u64, request: Request, requests: &mut Vec<Request>) {
        let is_awaited = self.reading.as_ref().is_some_and(|it| it.number == request.batch);
        let ask = request.ask.id;
        match request.answer {
            Some(Ok(answers)) if is_awaited => {
                self.handle(now, Event::Answered { ask, answers }, requests);
            }
            Some(Err(why)) if is_awaited => {
                self.handle(now, Event::Failed { ask, why }, requests);
            }
            Some(Ok(_) | Err(_)) | None => (),
        }
    }

    pub fn tick(&mut self, now: u64, requests: &mut Vec<Request>) {
        let due = self.reading.as_ref().and_then(|it| it.batch.poll_deadline());
        if due.is_some_and(|it| it.0 <= now) {
            self.handle(now, Event::Tick, requests);
        }
    }

    /// Returns the reads that are over with their answers, and whether they took too long.
    pub fn finished(&mut self, now: u64) -> Option<(Vec<What>, Vec<Answer>, bool)> {
        let done = self.reading.take_if(|it| it.batch.poll_deadline().is_none())?;
        Some((done.reads, done.batch.answers(), done.deadline <= now))
    }

    fn handle(&mut self, now: u64, event: Event, requests: &mut Vec<Request>) {
        if let Some(it) = &mut self.reading {
            it.batch.handle(Millis(now), event);
            self.act(requests);
        }
    }

    fn act(&mut self, requests: &mut Vec<Request>) {
        let Some(it) = &mut self.reading else { return };
        let (router, batch) = (self.number, it.number);
        while let Some(action) = it.batch.poll_action() {
            match action {
                Action::Ask(ask) => {
                    let is_old = ask.hint.is_some_and(|it| !self.maps.trust(it.by, it.generation));
                    let answer = is_old.then_some(Err(Failure::HintOld));
                    requests.push(Request { router, batch, ask, answer });
                }
                Action::GiveUp(ask) => {
                    let is_it = |it: &Request| id(it) == (router, batch, ask);
                    requests.retain(|it| !is_it(it));
                }
                Action::Count(retry) => *self.retries.entry(retry.code()).or_default() += 1,
                Action::Log(_) => (),
            }
        }
    }
}

pub fn router_of(request: &Request) -> usize {
    request.router
}

fn id(it: &Request) -> (usize, u64, AskId) {
    (it.router, it.batch, it.ask.id)
}
