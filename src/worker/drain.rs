//! Goes on with what takes several steps, and says when a range is active, and when it is drained.
//!
//! ```text
//!  Erasing ── batch by batch ──> what it is on the way to
//!  Applying ── batch by batch ──> Active ── of each partition a watermark by the source, and one from a
//!                                           channel at or above the floor ──> COMPLETE (R13)
//! ```

use schemas::Key;

use super::machine::{Of, Worker};
use super::states::{Active, Applying, Erasing, Held, Origin, Role, Then};
use super::words::Done;
use crate::store::{Outcome, Write};
use crate::transfer::digest::listed;

/// How many intervals are erased or applied in one step.
const CURSORS_MAX: usize = 4;

impl Worker {
    /// Goes on with what is erased and what is applied.
    pub(super) fn go_on_with_roles(&mut self) {
        let goes_on = |role: &Role| matches!(role, Role::Erasing(_) | Role::Applying(_));
        for start in self.starts(goes_on).into_iter().take(CURSORS_MAX) {
            let Held { span, role } = self.remembered.roles[&start].clone();
            let max = self.settings.cursor_max;
            match role {
                Role::Erasing(Erasing { after, then }) => {
                    let aside = then.aside();
                    self.write(Of::Erase(start), Write::Erase { span, aside, after, max });
                }
                Role::Applying(Applying { after, floors, .. }) => {
                    let below = listed(&floors);
                    self.write(Of::Apply(start), Write::PutAside { span, below, after, max });
                }
                Role::Active(_) | Role::Import(_) | Role::Rebuild(_) | Role::Leaving(_) => (),
            }
        }
    }

    pub(super) fn erased(&mut self, start: &Key, outcome: Outcome) {
        let Outcome::Erased { after } = outcome else { return };
        let Some(Role::Erasing(erasing)) = self.role_mut(start) else { return };
        if after.is_some() {
            erasing.after = after;
            return;
        }
        let then = erasing.then.clone();
        let span = self.remembered.roles[start].span.clone();
        match then {
            Then::None => _ = self.let_go(start),
            Then::Import(it) => {
                self.hold(Held { span: span.clone(), role: Role::Import(it) });
                self.ack(&span);
            }
            Then::NextStream(it) => self.hold(Held { span, role: Role::Import(it) }),
            Then::Rebuild(it) | Then::ScanAnew(it) => {
                self.hold(Held { span, role: Role::Rebuild(it) })
            }
        }
    }

    pub(super) fn applied(&mut self, start: &Key, outcome: Outcome) {
        let Outcome::Drained { changed, after } = outcome else { return };
        let Some(Role::Applying(it)) = self.role_mut(start) else { return };
        for (entry, replaced) in &changed {
            it.size.change(entry, replaced.as_ref());
        }
        it.after.clone_from(&after);
        if after.is_none() {
            self.activate(start);
        }
    }

    /// Only the flip of the role is left.
    fn activate(&mut self, start: &Key) {
        let Held { span, role } = self.remembered.roles[start].clone();
        let Role::Applying(Applying { epoch, commit, floors, from, size, .. }) = role else {
            return;
        };
        let hold = |it: &mut Self, drain| {
            let active = Active { epoch, commit, floors, drain, size };
            it.hold(Held { span: span.clone(), role: Role::Active(active) });
        };
        // What is read here from now on must be here after a crash.
        self.step.sync = true;
        match from {
            Origin::Node(import) => {
                self.asked.remove(&import.migration);
                self.acknowledge(&span, &import, Done::Yes);
                hold(self, Some(import.clone()));
                // Said even if nothing is left: the planner hears of each.
                let left = self.left_to_drain(start);
                self.tell_active(import.migration, &span, epoch, left);
                self.check_drained();
            }
            Origin::Table { migration } => {
                hold(self, None);
                if let Some(migration) = migration {
                    self.tell_complete(migration, &span, epoch);
                }
            }
        }
    }

    /// Says of what is drained that it is complete (R13).
    pub(super) fn check_drained(&mut self) {
        let drains = |role: &Role| matches!(role, Role::Active(Active { drain: Some(_), .. }));
        for start in self.starts(drains) {
            let left = self.left_to_drain(&start);
            let Held { span, role: Role::Active(active) } = self.remembered.roles[&start].clone()
            else {
                continue;
            };
            let Active { epoch, drain: Some(drain), .. } = active else { continue };
            if !left.is_empty() {
                let told = self.remembered.words.get(&drain.migration);
                if told.is_none_or(|it| it.partitions_left != left) {
                    self.tell_active(drain.migration, &span, epoch, left);
                }
                continue;
            }
            if let Some(Role::Active(it)) = self.role_mut(&start) {
                it.drain = None;
            }
            self.tell_complete(drain.migration, &span, epoch);
        }
    }

    /// Returns the partitions of which something may still be on its way by the source.
    fn left_to_drain(&self, start: &Key) -> Vec<u32> {
        let Some(Held { role: Role::Active(active), .. }) = self.remembered.roles.get(start) else {
            return Vec::new();
        };
        let Some(drain) = &active.drain else { return Vec::new() };
        let is_left = |partition: &u32| {
            let floor = active.floors.get(partition).copied().unwrap_or_default();
            let mark = self.remembered.marks.get(partition).copied().unwrap_or_default();
            let is_direct = active.commit <= mark.generation && floor <= mark.offset;
            !is_direct || !drain.via.contains(partition)
        };
        (0..self.settings.partitions).filter(is_left).collect()
    }
}
