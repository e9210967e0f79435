//! Says what a channel asks of the planner that was away for too long.
//!
//! * **One name.** What is asked again after a crash has the name that it had, and counts once.
//! * **No more than is needed.** A range that was given to be built lately misses nothing: what was written
//!   since then was read in time.

use schemas::Millis;
use schemas::operator_command::{Command, OperatorCommand};
use sha2::{Digest, Sha256};

use super::committed::CaughtUp;
use super::events::Away;

/// The name of a longer group is told by its digest.
const GROUP_BYTES_MAX: usize = 64;

/// Asks for a rebuild of all ranges, in the name of the group.
pub fn rebuild(group: &str, away: &Away) -> OperatorCommand {
    let Away { partition, since, until, lag_ms } = *away;
    let id = match since {
        CaughtUp { time: Millis(0), .. } => format!("never-{}", until.offset),
        CaughtUp { time, .. } => time.0.to_string(),
    };
    let late = match since.time.0 {
        0 => "is read to its end for the first time, as far as is known".to_owned(),
        ms => format!("was not read to its end for {}", told(until.time.0.saturating_sub(ms))),
    };
    OperatorCommand {
        id: format!("rebuild-{}-{partition}-{id}", named(group)),
        command: Command::Rebuild,
        actor: format!("channel {group}"),
        reason: format!(
            "partition {partition} of the table {late}, and compaction leaves changes alone for {}",
            told(lag_ms)
        ),
        node: None,
        range_start: None,
        range_end: None,
        plan: None,
        digest: None,
        built_before: Some(Millis(until.time.0.saturating_sub(lag_ms))),
        model: None,
    }
}

fn named(group: &str) -> String {
    match group.len() <= GROUP_BYTES_MAX {
        true => group.to_owned(),
        false => Sha256::digest(group)[..8].iter().map(|it| format!("{it:02x}")).collect(),
    }
}

/// A time for a person: its two greatest units.
fn told(ms: u64) -> String {
    let units = [(86_400_000, "d"), (3_600_000, "h"), (60_000, "min"), (1_000, "s"), (1, "ms")];
    let parts = units.iter().scan(ms, |left, (unit, name)| {
        let n = *left / unit;
        *left %= unit;
        Some((n, name))
    });
    let parts = parts.skip_while(|it| it.0 == 0).take(2).filter(|it| it.0 > 0);
    let told: Vec<_> = parts.map(|(n, name)| format!("{n} {name}")).collect();
    if told.is_empty() { "0 ms".to_owned() } else { told.join(" ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY_MS: u64 = 86_400_000;

    fn away(since_ms: u64) -> Away {
        let since = CaughtUp { time: Millis(since_ms), offset: 7 };
        let until = CaughtUp { time: Millis(30 * DAY_MS + 3_600_000), offset: 90 };
        Away { partition: 3, since, until, lag_ms: 7 * DAY_MS }
    }

    #[test]
    fn r24_request_tells_which_partition_how_long_and_what_for() {
        let it = rebuild("channel", &away(20 * DAY_MS));
        assert_eq!(it.id, format!("rebuild-channel-3-{}", 20 * DAY_MS));
        assert_eq!((it.command, &*it.actor), (Command::Rebuild, "channel channel"));
        let reason = "partition 3 of the table was not read to its end for 10 d 1 h, and compaction \
                      leaves changes alone for 7 d";
        assert_eq!(it.reason, reason);
        assert_eq!(it.built_before, Some(Millis(23 * DAY_MS + 3_600_000)));
        assert_eq!((it.range_start, it.range_end), (None, None));
    }

    #[test]
    fn r24_request_that_is_made_again_later_has_the_same_name() {
        let mut later = away(20 * DAY_MS);
        later.until = CaughtUp { time: Millis(31 * DAY_MS), offset: 99 };
        assert_eq!(rebuild("g", &away(20 * DAY_MS)).id, rebuild("g", &later).id);
        let others = [rebuild("h", &later), rebuild("g", &Away { partition: 4, ..later })];
        assert!(others.iter().all(|it| it.id != rebuild("g", &later).id));
        // Of what was never read nothing else is known.
        assert_eq!(rebuild("g", &away(0)).id, "rebuild-g-3-never-90");
    }

    #[test]
    fn name_is_one_that_a_planner_takes_however_long_that_of_the_group_is() {
        let it = rebuild(&"x".repeat(249), &away(1));
        assert!(it.id.len() <= 128, "{}", it.id);
        assert_ne!(it.id, rebuild(&"y".repeat(249), &away(1)).id);
    }

    #[test]
    fn times_are_told_in_their_greatest_units() {
        let check = |ms, expected: &str| assert_eq!(told(ms), expected);
        check(0, "0 ms");
        check(1_500, "1 s 500 ms");
        check(60_000, "1 min");
        check(7 * DAY_MS, "7 d");
        check(9 * DAY_MS + 5 * 3_600_000 + 3, "9 d 5 h");
    }
}
