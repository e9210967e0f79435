//! Listens, and answers reads by what the last step has left.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::{Duration, Instant};

use anyhow::Context;
use arc_swap::ArcSwapOption;
use schemas::KeySpan;
use tokio::runtime::Runtime;
use tokio::sync::oneshot;
use tokio::time::timeout;
use tracing::{error, warn};

use super::naps::Naps;
use super::turns::{Turn, Turns};
use super::{Options, Run, Watch};
use crate::counts::Counts;
use crate::store::fjall::FjallSnapshot;
use crate::store::{EntryKey, Limit, Snapshot};
use crate::web::clock::Clock;
use crate::web::held::{Asked, Cursor, Held};
use crate::web::listener::{self, Bounded};
use crate::web::precedence;
use crate::web::reads::{After, Answer, FoundEntry, Later, Read, What};
use crate::web::under_way::UnderWay;
use crate::web::{self, Health, back};
use crate::worker::service::Service;
use crate::worker::serving::{self, Serving};

/// So many may ask at once for what is held.
const HOLDING_MAX: usize = 16;

/// Who asks for what is held waits so long for the machine's thread.
const HELD_WAIT: Duration = Duration::from_secs(10);

/// Of one page of what is held, tombstones among them.
const HELD_MAX: Limit = Limit { entries: 10_000, bytes: 4 << 20 };

/// Requests that are under way when the worker is to end have this much longer than their deadline.
const DRAIN_EXTRA: Duration = Duration::from_secs(1);

/// A worker that takes requests. Without [`Server::run`] nothing is served but health.
pub struct Server {
    shared: Arc<Shared>,
    address: SocketAddr,
    runtime: Runtime,
    stop: oneshot::Sender<()>,
    serving: tokio::task::JoinHandle<()>,
    under_way: UnderWay,
    holding: Receiver<Holding>,
}

/// What reads need.
pub(super) struct Shared {
    pub(super) options: Options,
    pub(super) clock: Clock,
    pub(super) serving: ArcSwapOption<Serving<FjallSnapshot>>,
    pub(super) turns: Turns,
    pub(super) counts: Counts,
    pub(super) naps: Naps,
}

/// Somebody asks for what is held, as of one step.
pub(super) struct Holding {
    pub(super) answer: oneshot::Sender<(Held, FjallSnapshot)>,
}

impl Server {
    /// Begins to listen.
    pub fn begin(listen: SocketAddr, options: Options, health: &Health) -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .thread_name("reads")
            .on_thread_start(precedence::take_short_turns)
            .build()
            .context("begin the runtime of the reads")?;
        let listener = {
            let _within = runtime.enter();
            listener::listen(listen)?
        };
        let address = listener.local_addr().context("ask for the address that is listened on")?;
        let counts = Counts::default();
        let shared = Arc::new(Shared {
            clock: Clock::begin(),
            serving: ArcSwapOption::empty(),
            turns: Turns::new(Service::new(options.capacity_us_per_s)),
            counts: counts.clone(),
            naps: Naps::begin().context("begin the thread that naps")?,
            options,
        });
        let (asks, holding) = sync_channel(HOLDING_MAX);
        let answering = shared.clone();
        let answering: back::Answering =
            Arc::new(move |reads, deadline| Box::pin(answering.clone().answer(reads, deadline)));
        let counting = counts.clone();
        let asking: back::Holding =
            Arc::new(move |asked| Box::pin(held(asks.clone(), asked, counting.clone())));
        let routes = web::routes(health).merge(back::routes(
            shared.options.back,
            answering,
            asking,
            counts.clone(),
        ));
        let under_way = UnderWay::default();
        let routes = under_way.counted(routes);
        let Options { connections_max, idle_max, .. } = shared.options;
        let (stop, stopped) = oneshot::channel::<()>();
        let serving = runtime.spawn(async move {
            let until = async { stopped.await.unwrap_or(()) };
            let listener = Bounded::new(listener, connections_max, idle_max, counts);
            let serving = axum::serve(listener, routes).with_graceful_shutdown(until);
            if let Err(err) = serving.await {
                error!(%err, "reads are not served any more");
            }
        });
        Ok(Self { shared, address, runtime, stop, serving, under_way, holding })
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Runs until it is to end, or cannot go on. `table` keeps deletions for so long.
    pub fn run(self, deletions_kept_ms: u64, watch: &mut impl Watch) -> anyhow::Result<()> {
        let Self { shared, address, runtime, stop, serving, under_way, holding } = self;
        // The threads of reads have begun; those of the store and of Kafka come now.
        precedence::step_behind();
        let done =
            Run::open(&shared, (address, deletions_kept_ms), &holding, watch).and_then(|run| {
                match run {
                    Some(mut run) => run.run(watch),
                    None => Ok(()),
                }
            });
        drop(holding);
        let _ = stop.send(());
        let drain_max = shared.options.back.deadline_max + DRAIN_EXTRA;
        let left = runtime.block_on(under_way.drained(serving, drain_max));
        if left > 0 {
            warn!(left, "requests were still under way at the end");
        }
        done
    }
}

impl Shared {
    /// Answers reads by what the last step has left, when it is their turn. A batch of which nothing is served
    /// here is told so at once.
    async fn answer(self: Arc<Self>, reads: Vec<Read>, deadline: Instant) -> Vec<Answer> {
        let Some(serving) = self.serving.load_full() else {
            return reads.iter().map(|_| Answer::NotYet { reason: Later::OlderMap }).collect();
        };
        let limits = &self.options.limits;
        if let Err(reason) = limits.budget(reads.len()) {
            return reads.iter().map(|_| Answer::Refused { reason }).collect();
        }
        let late = || {
            self.counts.add_many("reads_late", reads.len() as u64);
            reads.iter().map(|_| Answer::Late).collect()
        };
        let waits = reads.iter().any(|it| serving.serves(it, limits));
        let turn = match waits {
            true => self.turns.wait(deadline).await,
            false => Some(self.turns.at_once(deadline)),
        };
        let Some(mut turn) = turn else { return late() };
        // What is served may be other than it was when this began to wait.
        let answers = match self.serving.load_full() {
            Some(serving) => self.answers(&serving, &reads, &mut turn),
            None => return late(),
        };
        turn.done().await;
        answers
    }

    fn answers(
        &self,
        serving: &Serving<FjallSnapshot>,
        reads: &[Read],
        turn: &mut Turn<'_>,
    ) -> Vec<Answer> {
        let limits = &self.options.limits;
        let mut budget = match limits.budget(reads.len()) {
            Ok(budget) => budget,
            Err(reason) => return reads.iter().map(|_| Answer::Refused { reason }).collect(),
        };
        let mut answer = |read: &Read| {
            if turn.is_over() {
                self.counts.add("reads_late");
                return Answer::Late;
            }
            let begun = Instant::now();
            let mut get = || serving.read(read, limits, &mut budget);
            let served = match read.what {
                // So short that to give the thread's other work away would take longer.
                What::Key(_) => get(),
                What::Range { .. } => tokio::task::block_in_place(get),
            };
            match served {
                Ok(served @ serving::Served::Found { .. }) => {
                    let took_us = begun.elapsed().as_micros() as u64;
                    let cost_us = self.cost_us(&read.what).unwrap_or(took_us.max(1));
                    if turn.take(cost_us) {
                        return served.answer(cost_us);
                    }
                    self.counts.add("reads_late");
                    Answer::Late
                }
                Ok(served) => served.answer(0),
                Err(err) => {
                    error!(%err, "a read of the store has failed");
                    self.counts.add("reads_failed");
                    Answer::NotYet { reason: Later::NotWhole }
                }
            }
        };
        reads.iter().map(&mut answer).collect()
    }

    /// What a read takes by the stated capacity; `None`: what it takes.
    fn cost_us(&self, what: &What) -> Option<u64> {
        self.options.capacity_us_per_s?;
        Some(match what {
            What::Key(_) => self.options.costs.read_us,
            What::Range { .. } => self.options.costs.scan_us,
        })
    }
}

/// Asks the machine's thread for what is held, and reads a page of it.
async fn held(asks: SyncSender<Holding>, asked: Asked, counts: Counts) -> Option<Held> {
    let (answer, answered) = oneshot::channel();
    match asks.try_send(Holding { answer }) {
        Ok(()) => (),
        Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => return None,
    }
    let (mut held, snapshot) = timeout(HELD_WAIT, answered).await.ok()?.ok()?;
    let after = asked
        .after
        .map(|Cursor(it)| EntryKey { index_key: it.index_key, primary_key: it.primary_key });
    let entries = asked.limit.map_or(HELD_MAX.entries, |it| (it as usize).min(HELD_MAX.entries));
    if entries == 0 {
        return Some(held);
    }
    let limit = Limit { entries, ..HELD_MAX };
    let page =
        tokio::task::block_in_place(|| snapshot.page(&KeySpan::all(), after.as_ref(), limit));
    let page = match page {
        Ok(page) => page,
        Err(err) => {
            error!(%err, "a read of the store has failed");
            counts.add("reads_failed");
            return None;
        }
    };
    // Those intervals that have a key between the first that was looked at and the last.
    let first = after.map(|it| it.index_key).unwrap_or_default();
    let last = page.next.as_ref().map(|it| it.index_key.clone());
    held.intervals.retain(|it| {
        let begins_before_the_end = last.as_ref().is_none_or(|last| it.range_start <= *last);
        begins_before_the_end && (it.range_end.0.is_empty() || first < it.range_end)
    });
    held.next = page
        .next
        .map(|EntryKey { index_key, primary_key }| Cursor(After { index_key, primary_key }));
    held.entries = page.entries.into_iter().filter_map(found).collect();
    Some(held)
}

fn found(it: schemas::range_segment::Entry) -> Option<FoundEntry> {
    let payload = it.payload?;
    let (index_key, primary_key) = (it.index_key, it.primary_key);
    Some(FoundEntry { index_key, primary_key, partition: it.partition, offset: it.offset, payload })
}
