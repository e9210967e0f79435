//! Deaths of workers in each phase of a move: how they are brought about, and what shows that they were.
//!
//! ```text
//!  START ──> COPYING ── OPEN, DATA … END ──> READY ── commit ──> ACTIVE ── drained ──> COMPLETE
//!               └────── killed ─────┘          └─ killed ─┘        └─ killed ─┘
//!                  bandwidth is low          the planner hangs   a channel hangs
//! ```
//!
//! * **What is on the topics shows it**, once the process is gone and before it is there again: what would
//!   have ended the phase is not there.

use std::fmt::Write;
use std::time::Duration;

use schemas::MigrationId;
use schemas::migration_status::Phase;

use super::told::{Course, Told};
use crate::world::{PATIENCE, Process};

/// Groups give up a member that is silent for six seconds.
const HANGS_MAX: Duration = Duration::from_secs(4);

/// Which of the two dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Side {
    Source,
    Destination,
}

/// Who dies, and when.
pub type Kind = (Side, Phase);

pub const KINDS: [Kind; 6] = [
    (Side::Source, Phase::Copying),
    (Side::Destination, Phase::Copying),
    (Side::Source, Phase::Ready),
    (Side::Destination, Phase::Ready),
    (Side::Source, Phase::Active),
    (Side::Destination, Phase::Active),
];

/// One that was seen.
pub struct Death {
    pub kind: Kind,
    pub node: &'static str,
    pub migration: MigrationId,
    /// What was told when the process was gone.
    pub course: Course,
}

/// Keeps a migration in its phase until this is dropped: who would lead it on hangs.
pub struct Held<'a>(Option<&'a Process>);

impl<'a> Held<'a> {
    fn by(process: &'a Process) -> Self {
        process.signal("-STOP");
        Self(Some(process))
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        if let Some(process) = self.0 {
            process.signal("-CONT");
        }
    }
}

/// Waits until a migration stands in a phase, and keeps it there; `None`: it has gone on, or is over.
pub fn hold<'a>(
    told: &mut Told,
    migration: MigrationId,
    phase: Phase,
    planner: &'a Process,
    channel: &'a Process,
) -> Option<Held<'a>> {
    let mut comes_to = |within, is_so: &dyn Fn(&Course) -> bool| {
        told.is_soon(migration, within, is_so).then_some(())
    };
    let held = match phase {
        Phase::Copying => {
            comes_to(PATIENCE, &|it| it.is_at(phase))?;
            Held(None)
        }
        Phase::Ready => {
            comes_to(PATIENCE, &Course::is_copied)?;
            Held::by(planner)
        }
        Phase::Active => {
            comes_to(PATIENCE, &|it| Some(Phase::Ready) <= it.phase)?;
            Held::by(channel)
        }
        Phase::Unknown => unreachable!("nobody dies in it"),
    };
    comes_to(HANGS_MAX, &|it| it.is_at(phase))?;
    Some(held)
}

/// Tells of each who died, when, and what came of the move.
pub fn table(deaths: &[Death], told: &Told) -> String {
    let mut text = format!(
        "{:<15}{:<8}{:<11}{:>8}{:>8}{:>8}{:>8}   then\n",
        "killed", "", "at", "move", "stream", "sent", "wanted"
    );
    for Death { kind, node, migration, course } in deaths {
        let (stream, it) = course.stream();
        let then = told.course(*migration);
        let ((side, phase), id) = (kind, migration.to_string());
        let (side, phase) = (format!("{side:?}"), format!("{phase:?}"));
        let sent = if it.is_whole { "all".to_owned() } else { it.sent.to_string() };
        writeln!(
            text,
            "{side:<15}{node:<8}{phase:<11}{id:>8}{stream:>8}{sent:>8}{:>8}   {:?}, stream {}",
            it.wanted,
            then.ends,
            then.stream().0
        )
        .unwrap();
    }
    text
}
