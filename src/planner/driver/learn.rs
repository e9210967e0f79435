//! Asks a registry for the schemas that the records of a tick need, before the tick is decided.
//!
//! * **A registry that is away is waited for**: without its answer it is not known whether a record
//!   can be used, so the tick is not decided.
//! * **Bounded.** What a registry does not know is not asked for again within a minute, and a tick asks
//!   for so many ids at most, those of the most records first: records of random bytes ask for any.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::thread;
use std::time::{Duration, Instant};

use schemas::query_log::QueriesLogged;
use schemas::wire::Record as _;

use super::Watch;
use crate::foreign::form::Form;
use crate::kafka::Record;
use crate::kafka::registry::{Access, Registry, Told};

/// A tick asks for so many ids.
const ASKS_MAX: usize = 64;

/// So long it is not asked again for what was not there.
const UNKNOWN_FOR: Duration = Duration::from_secs(60);

/// Between two tries, at first and at most.
const PAUSE_MS: [u64; 2] = [100, 5_000];

/// Asks, and knows what there is not.
pub(super) struct Learner {
    registry: Registry,
    unknown: BTreeMap<u32, Instant>,
}

impl Learner {
    pub(super) fn new(access: &Access) -> anyhow::Result<Self> {
        Ok(Self { registry: Registry::open(access)?, unknown: BTreeMap::new() })
    }

    /// Adds to a form what the records need, as far as the registry knows it. Breaks if it is not to be
    /// waited for any longer.
    pub(super) fn learn(
        &mut self,
        form: &mut Form,
        records: &[Record],
        watch: &mut dyn Watch,
    ) -> anyhow::Result<ControlFlow<()>> {
        let mut records_by_id = BTreeMap::<u32, u64>::new();
        for record in records.iter().filter(|it| it.at.topic == QueriesLogged::TOPIC) {
            if let Some(id) = record.value.as_ref().and_then(|it| form.named(it)) {
                *records_by_id.entry(id).or_default() += 1;
            }
        }
        self.unknown.retain(|_, since| since.elapsed() < UNKNOWN_FOR);
        let is_asked = |id: &u32| !form.by_id.contains_key(id) && !self.unknown.contains_key(id);
        let mut ids: Vec<u32> = records_by_id.keys().copied().filter(is_asked).collect();
        ids.sort_by_key(|id| std::cmp::Reverse(records_by_id[id]));
        for id in ids.into_iter().take(ASKS_MAX) {
            let ControlFlow::Continue(told) = self.ask(id, watch)? else {
                return Ok(ControlFlow::Break(()));
            };
            match told {
                Told::Schema(answer) => {
                    form.learn(id, answer, &|it| records_by_id.contains_key(&it));
                }
                Told::Unknown => _ = self.unknown.insert(id, Instant::now()),
            }
        }
        watch.learned(form.by_id.len());
        Ok(ControlFlow::Continue(()))
    }

    /// Asks until there is an answer.
    fn ask(&self, id: u32, watch: &mut dyn Watch) -> anyhow::Result<ControlFlow<(), Told>> {
        let [mut pause_ms, pause_ms_max] = PAUSE_MS;
        loop {
            let away = match self.registry.ask(id) {
                Ok(told) => return Ok(ControlFlow::Continue(told)),
                Err(away) => away,
            };
            let since = Instant::now();
            while since.elapsed() < Duration::from_millis(pause_ms) {
                if watch.waits(&away)?.is_break() {
                    return Ok(ControlFlow::Break(()));
                }
                thread::sleep(Duration::from_millis(PAUSE_MS[0]));
            }
            pause_ms = (2 * pause_ms).min(pause_ms_max);
        }
    }
}
