//! Waits for the turn to be the planner.
//!
//! ```text
//!  planner A ──┐ member of a group,     holds the partition: its turn
//!  planner B ──┘ of planner_progress    waits; holds it 6 s after A was heard last
//! ```
//!
//! * **One at a time, nearly.** Two may think that it is their turn, for a moment: so the turn is no
//!   licence to write. That is what the [`super::sink`] fences for.
//! * **Who lost the turn exits.** It cannot know what its successor has done since.
//! * **A restart is no change.** A member of the same name that is back within the 6 s has its turn
//!   again at once. Nor is a broker that is away, if it finds the group as it was.
//! * **Who was not heard for a while joins again**, whoever has its name now, and learns whose turn it is.
//! * **Who comes only waits.** A member that joins takes nothing away.
//!
//! The group is a classic one: of the newer kind the time after which a member is missed is the
//! broker's, and 45 s by default.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, bail};
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext, Rebalance};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::{ClientConfig, ClientContext};
use tracing::info;

use super::ask::Asker;
use super::group::may_not_join;
use super::report::Report;
use super::{Connection, passes};

/// The group must hear of its member at least this often.
const POLL_EVERY: Duration = Duration::from_millis(100);

/// A member that was not heard for so long has no turn.
const SESSION: Duration = Duration::from_secs(6);

/// How often the group hears of a member, and a member of the group.
const HEARTBEAT: Duration = Duration::from_secs(1);

/// A member of the group of planners of one id.
pub struct Standby {
    state: Arc<State>,
    turn: Mutex<Receiver<anyhow::Result<()>>>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct State {
    left: AtomicBool,
    lost: AtomicBool,
}

/// What the group has said last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turn {
    Waiting,
    Ours,
    /// The group was not heard in time. Who has the turn is told when it is joined again; until
    /// then nobody can take it, or who did has fenced us.
    Uncertain,
    Over,
}

/// Listens to what the group gives and takes.
struct Member {
    report: Report,
    turn: Mutex<Turn>,
}

impl Standby {
    /// Joins the planners of this id, as a member of this name; each must have another. The topic
    /// has one partition, which the group gives to one of them; it is not read.
    pub fn join(
        connection: &Connection,
        topic: &'static str,
        planner_id: &str,
        member: &str,
    ) -> anyhow::Result<Self> {
        let asker = Asker::new(connection, planner_id)?;
        asker.wait()?;
        let partitions = asker.wait_for(|it| it.partitions(topic))?.len();
        if partitions != 1 {
            bail!("{topic} has {partitions} partitions: to take turns by it, it must have one");
        }
        let group = format!("{}{planner_id}", connection.prefix);
        let mut client = connection.reader(planner_id)?;
        client
            .set("group.id", &group)
            .set("group.protocol", "classic")
            .set("group.instance.id", member)
            // Who has the partition keeps it when others come.
            .set("partition.assignment.strategy", "cooperative-sticky")
            .set("session.timeout.ms", SESSION.as_millis().to_string())
            .set("heartbeat.interval.ms", HEARTBEAT.as_millis().to_string())
            .set("auto.offset.reset", "latest");
        let member = Joining { connection: connection.clone(), topic, client, group };
        let consumer = member.join(Turn::Waiting)?;
        let state = Arc::new(State::default());
        let (tell, turn) = sync_channel(1);
        let kept = state.clone();
        let thread = thread::Builder::new().name("standby".into()).spawn(move || {
            let ended = stay(&member, consumer, &kept, || _ = tell.try_send(Ok(())));
            kept.lost.store(true, Ordering::Release);
            if let Err(err) = ended {
                // Nobody may be waiting any more, or the turn has come before.
                _ = tell.try_send(Err(err));
            }
        });
        let thread = Some(thread.context("start the thread that takes turns")?);
        Ok(Self { state, turn: Mutex::new(turn), thread })
    }

    /// Returns when it is this planner's turn; at once, if it is so already.
    pub fn wait_for_turn(&self) -> anyhow::Result<()> {
        let turn = self.turn.lock().expect("nobody panics with it in hand");
        turn.recv().unwrap_or_else(|_| Err(anyhow!("the turn has come before")))
    }

    /// Tells whether the turn is over: the planner must exit.
    pub fn has_lost_turn(&self) -> bool {
        self.state.lost.load(Ordering::Acquire)
    }

    /// Tells whether the turn is still this planner's, once the group has had the time to say no.
    pub fn keeps_turn(&self) -> bool {
        let told = Instant::now() + SESSION + HEARTBEAT;
        while !self.has_lost_turn() && Instant::now() < told {
            thread::sleep(POLL_EVERY);
        }
        !self.has_lost_turn()
    }
}

impl Drop for Standby {
    fn drop(&mut self) {
        self.state.left.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            _ = thread.join();
        }
    }
}

/// How to join the group.
struct Joining {
    connection: Connection,
    topic: &'static str,
    client: ClientConfig,
    group: String,
}

impl Joining {
    fn join(&self, turn: Turn) -> anyhow::Result<BaseConsumer<Member>> {
        let report = Report::new(&self.connection.bootstrap_servers);
        let member = Member { report, turn: Mutex::new(turn) };
        let consumer: BaseConsumer<Member> =
            self.client.create_with_context(member).context("make the client that takes turns")?;
        consumer.subscribe(&[&self.connection.topic(self.topic)]).context("join the planners")?;
        Ok(consumer)
    }
}

/// Stays a member until it is dropped, or the turn is over.
fn stay(
    joining: &Joining,
    mut consumer: BaseConsumer<Member>,
    state: &State,
    mut turn_comes: impl FnMut(),
) -> anyhow::Result<()> {
    let mut has_turn = false;
    while !state.left.load(Ordering::Acquire) {
        consumer.context().report.brokers.look(consumer.client());
        match consumer.poll(POLL_EVERY) {
            // Nothing is fetched while it is paused; what came before is of no interest.
            None | Some(Ok(_)) => (),
            Some(Err(err)) if passes(&err) => (),
            Some(Err(KafkaError::MessageConsumptionFatal(RDKafkaErrorCode::FencedInstanceId)))
                if consumer.context().report.is_missed() =>
            {
                info!("joins the planners again, which had not heard of it for too long");
                consumer = joining.join(consumer.context().turn().taken())?;
            }
            Some(Err(KafkaError::MessageConsumptionFatal(code))) => {
                return Err(code).context(
                    "leave the planners: another has the same member name, or the group is gone",
                );
            }
            Some(Err(KafkaError::MessageConsumption(
                code @ RDKafkaErrorCode::GroupAuthorizationFailed,
            ))) => return Err(code).with_context(|| may_not_join(&joining.group)),
            // The member joins again by itself.
            Some(Err(err)) => tracing::debug!(%err, "in the group of planners"),
        }
        consumer.context().report.check()?;
        match consumer.context().turn() {
            Turn::Waiting | Turn::Uncertain => (),
            Turn::Ours if has_turn => (),
            Turn::Ours => {
                has_turn = true;
                turn_comes();
            }
            Turn::Over => return Ok(()),
        }
    }
    Ok(())
}

impl Turn {
    /// Returns whose turn it is after partitions were given to us, which may be none.
    fn given(self, partitions: usize) -> Self {
        match self {
            Self::Over => Self::Over,
            Self::Ours => Self::Ours,
            Self::Waiting | Self::Uncertain if partitions > 0 => Self::Ours,
            Self::Waiting => Self::Waiting,
            Self::Uncertain => Self::Over,
        }
    }

    /// Returns whose turn it is after what we had was taken.
    fn taken(self) -> Self {
        match self {
            Self::Ours => Self::Uncertain,
            Self::Waiting | Self::Uncertain | Self::Over => self,
        }
    }
}

impl Member {
    fn turn(&self) -> Turn {
        *self.turn.lock().expect("nobody panics with it in hand")
    }

    fn change(&self, change: impl FnOnce(Turn) -> Turn) {
        let mut turn = self.turn.lock().expect("nobody panics with it in hand");
        *turn = change(*turn);
    }
}

impl ClientContext for Member {
    fn log(&self, level: RDKafkaLogLevel, fac: &str, line: &str) {
        self.report.log(level, fac, line);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.report.error(error, reason);
    }
}

impl ConsumerContext for Member {
    fn post_rebalance(&self, consumer: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        match rebalance {
            Rebalance::Assign(list) => {
                self.report.reached();
                self.report.joined();
                // Held, not read.
                _ = consumer.pause(list);
                self.change(|turn| turn.given(list.count()));
            }
            Rebalance::Revoke(list) if list.count() > 0 => self.change(Turn::taken),
            Rebalance::Revoke(_) | Rebalance::Error(_) => (),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turn_is_over_only_when_another_has_it() {
        let given = |turn: Turn| turn.given(1);
        let passed_over = |turn: Turn| turn.given(0);
        assert_eq!(passed_over(Turn::Waiting), Turn::Waiting);
        let ours = given(Turn::Waiting);
        assert_eq!(ours, Turn::Ours);
        // Another has come, and the group says that nothing changes.
        assert_eq!(passed_over(ours), Turn::Ours);
        assert_eq!(given(ours.taken()), Turn::Ours);
        assert_eq!(passed_over(ours.taken()), Turn::Over);
        assert_eq!(given(Turn::Over), Turn::Over);
    }
}
