//! Tells from records how a move by hand goes: answered, copying, ready, active, over.

use schemas::migration_status::{MigrationStatus, Phase, Status};
use schemas::plan::{CommandAnswered, Planned};
use schemas::{MigrationId, Millis};

use crate::cli::exit::Exit;
use crate::cli::told::bytes_told;

/// A move that was asked for.
#[derive(Debug)]
pub struct Course {
    command: String,
    /// Once it is answered; statuses that came before the answer are kept until then.
    migration: Option<MigrationId>,
    early: Vec<(Millis, MigrationStatus)>,
    pub bytes_total: u64,
    pub bytes: u64,
    /// When the first bytes were told, and how many.
    first: Option<(Millis, u64)>,
    phase: Option<Phase>,
    tenth: u64,
}

/// What there is to tell.
#[derive(Debug, PartialEq, Eq)]
pub enum News {
    /// It goes on.
    Step(String),
    /// It is over, or never began.
    End(Exit, String),
}

impl Course {
    pub fn new(command: String) -> Self {
        Self {
            command,
            migration: None,
            early: Vec::new(),
            bytes_total: 0,
            bytes: 0,
            first: None,
            phase: None,
            tenth: 0,
        }
    }

    pub fn migration(&self) -> Option<MigrationId> {
        self.migration
    }

    /// Takes in a plan, which may hold the answer.
    pub fn planned(&mut self, plan: &Planned) -> Vec<News> {
        let Some(answer) = plan.commands.iter().find(|it| it.command == self.command) else {
            return Vec::new();
        };
        let Some(id) = answer.migration else { return vec![refused(answer)] };
        let chosen = plan.moves.iter().find(|it| it.migration == Some(id));
        self.migration = Some(id);
        self.bytes_total = chosen.map_or(0, |it| it.bytes);
        let mut news = vec![News::Step(format!(
            "{id} begins, {}, by plan {}",
            bytes_told(self.bytes_total),
            plan.plan
        ))];
        for (now, status) in std::mem::take(&mut self.early) {
            news.extend(self.told(now, &status));
        }
        news
    }

    /// Takes in a status, of whichever migration.
    pub fn told(&mut self, now: Millis, it: &MigrationStatus) -> Option<News> {
        match self.migration {
            Some(id) if id == it.migration => (),
            Some(_) => return None,
            None => {
                // Plan and statuses are two topics: either may come first.
                self.early.push((now, it.clone()));
                return None;
            }
        }
        match it.status {
            Status::Complete => {
                let text = match it.bytes {
                    0 => format!("{} is complete", it.migration),
                    bytes => format!("{} is complete, {}", it.migration, bytes_told(bytes)),
                };
                Some(News::End(Exit::Done, text))
            }
            Status::Failed => {
                let why = it.reason.as_deref().unwrap_or("nobody says why");
                let text = format!("{} has failed, says {}: {why}", it.migration, it.teller);
                Some(News::End(Exit::Failed, text))
            }
            Status::Pending | Status::Unknown => None,
            Status::InProgress => self.goes_on(now, it),
        }
    }

    /// What is told of the copy: bytes, rate, time left.
    pub fn rate(&self, now: Millis) -> String {
        let Some((since, bytes)) = self.first else { return String::new() };
        let ms = now.0.saturating_sub(since.0);
        let per_s = (self.bytes - bytes.min(self.bytes)).saturating_mul(1000).checked_div(ms);
        match per_s {
            Some(per_s) if 0 < per_s => {
                let left = self.bytes_total.saturating_sub(self.bytes).div_ceil(per_s);
                format!("{}/s, about {left} s left", bytes_told(per_s))
            }
            Some(_) | None => String::new(),
        }
    }

    fn goes_on(&mut self, now: Millis, it: &MigrationStatus) -> Option<News> {
        self.bytes = it.bytes;
        self.first.get_or_insert((now, it.bytes));
        let tenth = (it.bytes * 10).checked_div(self.bytes_total).unwrap_or(0).min(10);
        let is_news = self.phase != it.phase || self.tenth < tenth;
        (self.phase, self.tenth) = (it.phase, tenth.max(self.tenth));
        let text = match it.phase {
            Some(Phase::Copying) => {
                let done = format!("{} of {}", bytes_told(it.bytes), bytes_told(self.bytes_total));
                match self.rate(now) {
                    rate if rate.is_empty() => format!("copying: {done}"),
                    rate => format!("copying: {done}, {rate}"),
                }
            }
            Some(Phase::Ready) => {
                format!("ready: {} are copied and compared", bytes_told(it.bytes))
            }
            Some(Phase::Active) => {
                let n = it.partitions_left.len();
                format!("active: {} serves it; {n} partitions of the table to drain", it.teller)
            }
            Some(Phase::Unknown) | None => "in progress".to_owned(),
        };
        is_news.then_some(News::Step(text))
    }
}

fn refused(answer: &CommandAnswered) -> News {
    let code = answer.refused.as_deref().unwrap_or("refused");
    let exit = match code {
        // What the command was based on is not so.
        "not_a_range" | "unsettled" | "already_there" | "too_old" | "no_assignment"
        | "in_flight" => Exit::Stale,
        _ => Exit::Refused,
    };
    News::End(exit, format!("refused, {}: {}", code.replace('_', " "), answer.detail))
}

#[cfg(test)]
mod tests {
    use schemas::{Epoch, Key, NodeId};

    use super::*;
    use crate::cli::told::tests::plan;

    fn status(status: Status, phase: Option<Phase>, bytes: u64) -> MigrationStatus {
        MigrationStatus {
            migration: MigrationId(31),
            range_start: Key::default(),
            range_end: Key::default(),
            teller: NodeId("n4".into()),
            status,
            phase,
            reason: None,
            epoch: Epoch(1),
            attempt: 1,
            bytes,
            digest: None,
            partitions_left: vec![1, 2],
        }
    }

    fn answered(migration: Option<u64>, refused: Option<&str>) -> Planned {
        let answer = |command: &str| CommandAnswered {
            command: command.into(),
            verb: "MOVE".into(),
            actor: "me".into(),
            reason: String::new(),
            migration: migration.map(MigrationId),
            refused: refused.map(Into::into),
            detail: "why so".into(),
        };
        Planned { commands: vec![answer("c-0"), answer("c-1")], ..plan() }
    }

    #[test]
    fn move_is_told_from_its_answer_to_its_end_though_a_status_comes_first() {
        let mut course = Course::new("c-1".into());
        let step = |text: &str| News::Step(text.into());
        let copying = |bytes| status(Status::InProgress, Some(Phase::Copying), bytes);
        let other = MigrationStatus { migration: MigrationId(9), ..copying(5) };
        assert_eq!(course.told(Millis(1000), &other), None);
        assert_eq!(course.told(Millis(1000), &copying(0)), None);
        assert_eq!(course.planned(&plan()), [], "a plan without the answer");
        assert_eq!(
            course.planned(&answered(Some(31), None)),
            [step("m-31 begins, 9.3 MB, by plan p-212"), step("copying: 0 B of 9.3 MB"),]
        );
        assert_eq!(course.told(Millis(1500), &copying(100_000)), None, "less than a tenth");
        assert_eq!(
            course.told(Millis(3000), &copying(4_000_000)),
            Some(step("copying: 4.0 MB of 9.3 MB, 2.0 MB/s, about 3 s left"))
        );
        assert_eq!(course.told(Millis(4000), &other), None);
        let ready = status(Status::InProgress, Some(Phase::Ready), 9_300_000);
        let ready = course.told(Millis(5000), &ready);
        assert_eq!(ready, Some(step("ready: 9.3 MB are copied and compared")));
        let active = status(Status::InProgress, Some(Phase::Active), 9_300_000);
        let active = course.told(Millis(6000), &active);
        assert_eq!(active, Some(step("active: n4 serves it; 2 partitions of the table to drain")));
        let end = course.told(Millis(7000), &status(Status::Complete, None, 9_300_000));
        assert_eq!(end, Some(News::End(Exit::Done, "m-31 is complete, 9.3 MB".into())));
    }

    #[test]
    fn refusal_and_failure_have_their_exit_statuses() {
        let end = |migration, refused| {
            let mut course = Course::new("c-1".into());
            course.planned(&answered(migration, refused)).pop()
        };
        let refused = |exit, text: &str| Some(News::End(exit, format!("refused, {text}: why so")));
        assert_eq!(end(None, Some("budget_bytes")), refused(Exit::Refused, "budget bytes"));
        assert_eq!(end(None, Some("node_silent")), refused(Exit::Refused, "node silent"));
        assert_eq!(end(None, Some("not_a_range")), refused(Exit::Stale, "not a range"));
        assert_eq!(end(None, Some("unsettled")), refused(Exit::Stale, "unsettled"));
        let mut course = Course::new("c-1".into());
        course.planned(&answered(Some(31), None));
        let reason = Some("no room".to_owned());
        let failed = MigrationStatus { reason, ..status(Status::Failed, None, 0) };
        let end = course.told(Millis(1), &failed);
        assert_eq!(end, Some(News::End(Exit::Failed, "m-31 has failed, says n4: no room".into())));
    }
}
