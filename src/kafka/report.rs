//! Keeps what a client says of itself, and says it once.
//!
//! A client that cannot connect returns nothing but time-outs; why is only in its log lines and
//! error events. The last reason is kept for the error that a person sees, or for one line that the
//! broker is away:
//!
//! ```text
//!  FAIL: 127.0.0.1:9092: Connect to ipv4#127.0.0.1:9092 failed: Connection refused
//!  FAIL: …                                                                            20 a second
//!   └─> WARN kafka at 127.0.0.1:9092 cannot be reached: … Connection refused; still trying
//!       INFO kafka at 127.0.0.1:9092 is back                                          once each
//! ```
//!
//! * **Away is not wrong.** A broker that is away is waited for, as long as it takes. One that
//!   refuses who we are is given [`REFUSED_MAX`], in case that passes with its start.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use anyhow::bail;
use opentelemetry::KeyValue;
use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::ConsumerContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Message};
use rdkafka::producer::ProducerContext;
use tracing::{debug, info, warn};

use super::brokers::Brokers;
use crate::telemetry::metrics;

/// The same line is said again after this long.
const FOLD_FOR: Duration = Duration::from_secs(30);

/// What a client has to say that it is away may be from before another was answered.
const OLD_NEWS: Duration = Duration::from_secs(2);

/// How many different lines are remembered as said.
const SAID_MAX: usize = 32;

/// How long a broker may refuse us before that is final.
const REFUSED_MAX: Duration = Duration::from_secs(10);

/// What the client calls it when its group has not answered for as long as a member may be silent.
const SESSION_TIMED_OUT: &str = "SESSTMOUT";

/// Clusters that are away, and when that was said last. A process has several clients of one cluster,
/// and a person need not know of each.
static AWAY: Mutex<BTreeMap<String, Away>> = Mutex::new(BTreeMap::new());

#[derive(Clone, Copy)]
struct Away {
    since: Instant,
    said: Instant,
    back: Option<Instant>,
}

/// What one client has said.
pub(super) struct Report {
    servers: String,
    pub(super) brokers: Brokers,
    state: Mutex<State>,
    /// A record was delivered or given up.
    delivered: Condvar,
}

#[derive(Default)]
struct State {
    /// Why the last connection failed.
    reason: Option<String>,
    away_since: Option<Instant>,
    refused_since: Option<Instant>,
    missed: bool,
    said: VecDeque<(String, Instant)>,
    /// Records of which the end is known, delivered or not; those that were not, and why the first of them
    /// was not.
    ended: u64,
    given_up: u64,
    undelivered: Option<String>,
}

impl Report {
    pub(super) fn new(servers: &str) -> Self {
        let (state, delivered) = (Mutex::default(), Condvar::new());
        let brokers = Brokers::new(servers);
        Self { servers: servers.to_owned(), brokers, state, delivered }
    }

    /// Returns an error if the broker has refused us for too long.
    pub(super) fn check(&self) -> anyhow::Result<()> {
        let state = self.state();
        if state.refused_since.is_some_and(|since| since.elapsed() > REFUSED_MAX) {
            let reason = state.reason.as_deref().unwrap_or("no reason given");
            bail!(
                "kafka at {} refuses the connection: {reason}; check security.protocol, sasl.* and \
                 ssl.* in [kafka.properties]",
                self.servers
            );
        }
        Ok(())
    }

    /// Returns the last reason that a connection failed, as words to put behind an error.
    pub(super) fn reason(&self) -> String {
        let state = self.state();
        match state.reason.as_deref().filter(|_| state.away_since.is_some()) {
            Some(reason) => format!("kafka at {} cannot be reached: {reason}", self.servers),
            None => format!("kafka at {} did not answer in time", self.servers),
        }
    }

    /// Tells whether the group may have missed this member, and given its place away, since it joined.
    pub(super) fn is_missed(&self) -> bool {
        self.state().missed
    }

    /// Takes in that the group has this member.
    pub(super) fn joined(&self) {
        self.state().missed = false;
    }

    /// Takes in that the broker has answered.
    pub(super) fn reached(&self) {
        let mut state = self.state();
        state.refused_since = None;
        if state.away_since.take().is_none() {
            return;
        }
        if let Some(away) = all_away().get_mut(&self.servers).filter(|it| it.back.is_none()) {
            away.back = Some(Instant::now());
            info!(away_s = away.since.elapsed().as_secs(), "kafka at {} is back", self.servers);
        }
    }

    /// Returns why the first of the records that were given up was.
    pub(super) fn take_undelivered(&self) -> Option<String> {
        self.state().undelivered.take()
    }

    /// Returns how many records were given up.
    pub(super) fn given_up(&self) -> u64 {
        self.state().given_up
    }

    /// Returns of how many records the end is known.
    pub(super) fn ended(&self) -> u64 {
        self.state().ended
    }

    /// Waits until the end of so many records is known, or the time is over; tells whether it is.
    ///
    /// To poll the client for that would be a loop without a pause: its time-outs are whole milliseconds,
    /// of which none is left at once.
    pub(super) fn wait_for_ends(&self, count: u64, timeout: Duration) -> bool {
        let is_open = |state: &mut State| state.ended < count;
        let waited = self.delivered.wait_timeout_while(self.state(), timeout, is_open);
        let (_state, waited) = waited.expect("nobody panics with the report in hand");
        !waited.timed_out()
    }

    fn away(&self, refused: bool) {
        let mut state = self.state();
        let now = Instant::now();
        state.away_since.get_or_insert(now);
        if refused {
            state.refused_since.get_or_insert(now);
        }
        let mut all = all_away();
        let said = all.get(&self.servers).copied();
        if said.is_some_and(|it| it.is_known(now)) {
            return;
        }
        let since = said.filter(|it| it.back.is_none()).map_or(now, |it| it.since);
        all.insert(self.servers.clone(), Away { since, said: now, back: None });
        let reason = state.reason.as_deref().unwrap_or("all connections were lost");
        warn!("kafka at {} cannot be reached: {reason}; still trying", self.servers);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nobody panics with the report in hand")
    }
}

impl Away {
    /// Tells whether there is no need to say it once more.
    fn is_known(&self, now: Instant) -> bool {
        match self.back {
            None => now.duration_since(self.said) < FOLD_FOR,
            Some(back) => now.duration_since(back) < OLD_NEWS,
        }
    }
}

impl State {
    /// Tells whether the line was not said lately, and takes it as said.
    fn is_new(&mut self, line: &str, now: Instant) -> bool {
        self.said.retain(|(_, at)| now.duration_since(*at) < FOLD_FOR);
        if self.said.iter().any(|(said, _)| said == line) {
            return false;
        }
        if self.said.len() == SAID_MAX {
            self.said.pop_front();
        }
        self.said.push_back((line.to_owned(), now));
        true
    }
}

impl ClientContext for Report {
    fn log(&self, level: RDKafkaLogLevel, fac: &str, line: &str) {
        let text = without_thread(line);
        if fac == SESSION_TIMED_OUT {
            self.state().missed = true;
        }
        if fac == "FAIL" {
            self.state().reason = Some(explained(without_count(text)));
            debug!(fac, "{text}");
            return;
        }
        match level {
            RDKafkaLogLevel::Emerg
            | RDKafkaLogLevel::Alert
            | RDKafkaLogLevel::Critical
            | RDKafkaLogLevel::Error
            | RDKafkaLogLevel::Warning => {
                // The same comes as an error event, with its code.
                if fac != "ERROR" && self.state().is_new(without_count(text), Instant::now()) {
                    warn!(fac, "{text}");
                }
            }
            RDKafkaLogLevel::Notice | RDKafkaLogLevel::Info | RDKafkaLogLevel::Debug => {
                debug!(fac, "{text}");
            }
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        let code = error.rdkafka_error_code();
        if code != Some(RDKafkaErrorCode::PartitionEOF) {
            let reason = code.map_or_else(|| "unknown".to_owned(), |it| format!("{it:?}"));
            metrics::get().kafka_errors.add(1, &[KeyValue::new(metrics::REASON, reason)]);
        }
        match code {
            Some(RDKafkaErrorCode::AllBrokersDown) => self.away(false),
            Some(RDKafkaErrorCode::Authentication | RDKafkaErrorCode::SSL) => {
                self.state().reason = Some(without_count(reason).to_owned());
                self.away(true);
            }
            Some(RDKafkaErrorCode::Resolve) => {
                self.state().reason = Some(without_count(reason).to_owned());
                self.away(false);
            }
            Some(RDKafkaErrorCode::BrokerTransportFailure) => {
                self.state().reason = Some(explained(without_count(reason)));
            }
            Some(RDKafkaErrorCode::PartitionEOF) => (),
            Some(_) | None => {
                if self.state().is_new(reason, Instant::now()) {
                    debug!(?code, "{reason}");
                }
            }
        }
    }
}

impl ConsumerContext for Report {}

impl ProducerContext for Report {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        let mut state = self.state();
        state.ended += 1;
        match result {
            Ok(_) => (),
            Err((err, message)) => {
                let line = format!("a record for {} was not delivered: {err}", message.topic());
                state.given_up += 1;
                state.undelivered.get_or_insert(line);
            }
        }
        self.delivered.notify_all();
    }
}

fn all_away() -> MutexGuard<'static, BTreeMap<String, Away>> {
    AWAY.lock().expect("nobody panics with it in hand")
}

/// Cuts `[thrd:…]: ` off.
fn without_thread(line: &str) -> &str {
    let rest = line.strip_prefix("[thrd:").and_then(|it| it.split_once("]: "));
    rest.map_or(line, |(_, text)| text)
}

/// Cuts ` (after 0ms in state CONNECT, 3 identical error(s) suppressed)` off.
fn without_count(text: &str) -> &str {
    text.split_once(" (after ").map_or(text, |(text, _)| text)
}

/// Adds what a person would not think of: a broker says no word to who speaks another protocol.
fn explained(reason: &str) -> String {
    match reason.contains("Disconnected") && !reason.contains("security.protocol") {
        true => format!("{reason} (does it expect another security.protocol?)"),
        false => reason.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REFUSED: &str = "[thrd:127.0.0.1:9/bootstrap]: 127.0.0.1:9/bootstrap: Connect to \
                           ipv4#127.0.0.1:9 failed: Connection refused (after 0ms in state \
                           CONNECT, 4 identical error(s) suppressed)";

    #[test]
    fn reason_is_the_last_failure_and_ends_with_an_answer() {
        let report = Report::new("127.0.0.1:9");
        report.log(RDKafkaLogLevel::Error, "FAIL", REFUSED);
        report.error(KafkaError::Global(RDKafkaErrorCode::AllBrokersDown), "1/1 brokers are down");
        let expected = "kafka at 127.0.0.1:9 cannot be reached: 127.0.0.1:9/bootstrap: Connect to \
                        ipv4#127.0.0.1:9 failed: Connection refused";
        assert_eq!(report.reason(), expected);
        report.check().unwrap();
        report.reached();
        assert_eq!(report.reason(), "kafka at 127.0.0.1:9 did not answer in time");
    }

    #[test]
    fn line_is_said_once_in_a_while() {
        let (mut state, now) = (State::default(), Instant::now());
        assert!(state.is_new("mist", now));
        assert!(!state.is_new("mist", now));
        assert!(state.is_new("rain", now));
        assert!(state.is_new("mist", now + FOLD_FOR));
        for line in 0..2 * SAID_MAX {
            state.is_new(&line.to_string(), now);
        }
        assert_eq!(state.said.len(), SAID_MAX);
    }

    #[test]
    fn absence_is_said_once_and_said_again_when_it_lasts_or_is_a_new_one() {
        let now = Instant::now();
        let away = Away { since: now, said: now, back: None };
        assert!(away.is_known(now + FOLD_FOR / 2));
        assert!(!away.is_known(now + FOLD_FOR));
        let back = Away { back: Some(now), ..away };
        assert!(back.is_known(now + OLD_NEWS / 2));
        assert!(!back.is_known(now + OLD_NEWS));
    }

    #[test]
    fn refusal_is_final_after_a_while() {
        let report = Report::new("127.0.0.1:9");
        report.error(KafkaError::Global(RDKafkaErrorCode::Authentication), "wrong password");
        report.check().unwrap();
        let long_ago = Instant::now().checked_sub(2 * REFUSED_MAX).unwrap();
        report.state().refused_since = Some(long_ago);
        let err = report.check().unwrap_err().to_string();
        assert!(err.contains("wrong password") && err.contains("sasl"), "{err}");
        report.reached();
        report.check().unwrap();
    }
}
