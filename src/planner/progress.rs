//! Reads back what a planner has committed: where to begin, and what to run again.
//!
//! ```text
//!  planner_progress  … [box][box][chunk][box][chunk][box][box]
//!                             └── newest valid snapshot ──┘└─ boxes since: run again, drop what comes
//! ```

use std::ops::ControlFlow;

use anyhow::{Context, ensure};
use schemas::planner_progress::{Progress, TickDone};
use schemas::wire::{Record as _, decode};

use super::machine::State;
use super::snapshot::{Gatherer, Slot, assemble};
use crate::kafka::Connection;
use crate::kafka::tail::{Start, scan};
use crate::tick::tick_box::TickBox;

/// The topics that a planner reads tick by tick.
pub const INPUTS: [&str; 3] = ["query_log", "node_capacity", "migration_status"];

/// What a planner of some id has left behind.
#[derive(Default)]
pub struct Past {
    /// The newest valid snapshot: state, and sums by (cell, tick).
    pub snapshot: Option<(State, Vec<Slot>)>,
    /// The boxes since, or all there are; contiguous, the oldest first.
    pub boxes: Vec<TickBox>,
    /// The first box on the topic is not the planner's first: without a snapshot it is no beginning.
    pub is_cut: bool,
}

/// Reads all progress of a planner. Final only once its predecessor is fenced.
pub fn read(connection: &Connection, planner_id: &str) -> anyhow::Result<Past> {
    let mut gatherer = Gatherer::default();
    let mut done: Vec<TickDone> = Vec::new();
    let mut broken = None;
    let mut is_cut = false;
    scan(connection, Progress::TOPIC, Start::Beginning, |record| {
        if record.key.as_deref() != Some(planner_id.as_bytes()) {
            return ControlFlow::Continue(());
        }
        let value = record.value.unwrap_or_default();
        match decode::<Progress>(&value) {
            Ok(Progress { tick, chunk }) => {
                if let Some(tick) = tick {
                    // The first tick of a planner tells its policy; a later one may not.
                    is_cut |= done.is_empty() && tick.policy.is_none();
                    done.push(tick);
                }
                if let Some(chunk) = chunk {
                    gatherer.add(chunk);
                }
                ControlFlow::Continue(())
            }
            Err(err) => {
                broken = Some(format!("offset {}: {err}", record.offset));
                ControlFlow::Break(())
            }
        }
    })?;
    ensure!(
        broken.is_none(),
        "progress of {planner_id} cannot be read ({}): was it written by a newer version? Run that, or \
         choose another planner id, which adopts the assignment",
        broken.unwrap_or_default()
    );
    let snapshot = match gatherer.newest() {
        Some(chunks) => {
            let (tick, state, slots) =
                assemble::<State>(&chunks).context("read the newest snapshot")?;
            done.retain(|it| tick < it.tick);
            Some((state, slots))
        }
        None => None,
    };
    let boxes: Vec<TickBox> =
        done.iter().map(|it| TickBox::read_from(it, &INPUTS)).collect::<Result<_, _>>()?;
    if let Some(hole) = boxes.windows(2).find(|it| !it[0].is_followed_by(&it[1])) {
        anyhow::bail!(
            "progress has a hole after tick {}: it is not from one planner",
            hole[0].tick
        );
    }
    Ok(Past { is_cut: is_cut && snapshot.is_none(), snapshot, boxes })
}
