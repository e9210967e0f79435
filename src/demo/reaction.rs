//! Tells how fast a crowd was answered: from the first whole tick in which it is there.
//!
//! ```text
//!           crowd comes
//!  ─────┬───────┼───┬───────────┬───────────┬───────────┬──> ticks
//!                   │ 0         │ 1         │ 2  ACTIVE
//!                   first whole ▲ split     ▲ START
//! ```
//!
//! A decision counts by its tick: what the first whole tick itself decides came after 0.

use schemas::{Key, KeySpan, Millis};
use serde::{Deserialize, Serialize};

use super::course::Moved;
use crate::replay::history::History;

/// Many come at once, to one place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Crowd {
    pub span: KeySpan,
    /// When the first of them came.
    pub since: Millis,
}

/// How long it took, in ticks; `None` for what did not happen.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Reaction {
    /// The first whole tick of the crowd, counted from the first of the run.
    pub tick: u64,
    /// Until a range was split where the crowd is.
    pub split: Option<u64>,
    /// Until a range with a part of the crowd was told to move.
    pub start: Option<u64>,
    /// Until the first of those that were told to had moved.
    pub active: Option<f64>,
    /// What that one had to copy.
    pub bytes: u64,
}

impl Reaction {
    /// Of a run whose ticks are so long. A run that ended before the crowd came has none.
    pub fn of<'a>(
        crowd: &Crowd,
        history: &History,
        tick_ms: u64,
        moves: impl Iterator<Item = &'a Moved> + Clone,
    ) -> Option<Self> {
        let first = crowd.since.0.div_ceil(tick_ms);
        let run = history.ticks.first()?.tick;
        history.ticks.iter().find(|it| it.tick == first)?;
        let after = |it: &&Moved| first <= it.tick && overlap(&it.span, &crowd.span);
        let moves = moves.filter(after);
        let moved = moves.clone().filter_map(|it| Some((it.active?, it))).min_by_key(|it| it.0);
        let since_ms = first * tick_ms;
        Some(Self {
            tick: first.saturating_sub(run),
            split: split(crowd, history, first),
            start: moves.map(|it| it.tick - first).min(),
            active: moved.map(|(at, _)| at.0.saturating_sub(since_ms) as f64 / tick_ms as f64),
            bytes: moved.map_or(0, |(_, it)| it.bytes),
        })
    }
}

impl Reaction {
    /// The same in words.
    pub fn told(&self) -> String {
        let after =
            |it: Option<String>| it.map_or_else(|| "never".to_owned(), |it| format!("after {it}"));
        let split = after(self.split.map(|it| it.to_string()));
        let start = after(self.start.map(|it| it.to_string()));
        let active = after(self.active.map(|it| format!("{it:.1}")));
        format!(
            "split {split}, START {start}, ACTIVE {active} ticks, from the first whole tick of the crowd on"
        )
    }
}

/// Returns when a range first began within the crowd, or at its ends, where none did before.
fn split(crowd: &Crowd, history: &History, first: u64) -> Option<u64> {
    let KeySpan { start, end } = &crowd.span;
    let is_near = |key: &Key| start <= key && (end.0.is_empty() || key <= end);
    history.ticks.windows(2).filter(|it| first <= it[1].tick).find_map(|it| {
        let before = |key: &Key| it[0].ranges.iter().any(|(known, _)| known == key);
        let is_new = it[1].ranges.iter().any(|(key, _)| is_near(key) && !before(key));
        is_new.then(|| it[1].tick - first)
    })
}

fn overlap(a: &KeySpan, b: &KeySpan) -> bool {
    let begins = |it: &KeySpan, other: &KeySpan| other.end.0.is_empty() || it.start < other.end;
    begins(a, b) && begins(b, a)
}

#[cfg(test)]
mod tests {

    use dataflows::tally::Costs;
    use schemas::NodeId;

    use super::*;
    use crate::replay::history::{Recount, TickTold};
    use crate::replay::key;

    fn span(start: u64, end: u64) -> KeySpan {
        KeySpan { start: key(start), end: key(end) }
    }

    fn moved(tick: u64, span: KeySpan, active_ms: Option<u64>, bytes: u64) -> Moved {
        let node = |name: &str| NodeId(name.into());
        Moved {
            span,
            source: node("n1"),
            destination: node("n2"),
            tick,
            due: Millis(0),
            begun: Millis(0),
            copying: None,
            ready: None,
            active: active_ms.map(Millis),
            ended: None,
            bytes,
            bytes_planned: 0,
            chosen: None,
            why: None,
        }
    }

    /// A crowd on keys 20 to 30 from 10.2 s on, in ticks of a second from 8 on; ranges begin at these keys.
    fn reaction(starts: &[&[u64]], moves: &[Moved]) -> Option<Reaction> {
        let costs = Costs { read_us: 1, scan_us: 1, write_us: 1 };
        let nodes = [(NodeId("n1".into()), 1)].into();
        let mut history = Recount::new(Vec::new(), nodes, &[], costs, 1_000).history;
        for (tick, starts) in (8..).zip(starts) {
            let ranges = starts.iter().map(|it| (key(*it), NodeId("n1".into()))).collect();
            history.ticks.push(TickTold { ranges, ..TickTold::of(tick) });
        }
        let crowd = Crowd { span: span(20, 30), since: Millis(10_200) };
        Reaction::of(&crowd, &history, 1_000, moves.iter())
    }

    #[test]
    fn ticks_count_from_the_first_whole_one() {
        let starts: [&[u64]; 6] = [&[0], &[0], &[0, 25], &[0, 25], &[0, 25, 28], &[0]];
        let moves = [
            // Before there was a whole tick of it, and elsewhere.
            moved(10, span(20, 25), Some(11_500), 1),
            moved(11, span(0, 20), Some(11_600), 2),
            moved(11, span(30, 40), Some(11_700), 3),
            // Told first, but moved last.
            moved(12, span(20, 25), Some(16_000), 4),
            moved(13, span(28, 30), Some(14_500), 5),
            moved(13, span(25, 28), None, 6),
        ];
        let expected =
            Reaction { tick: 3, split: Some(1), start: Some(1), active: Some(3.5), bytes: 5 };
        assert_eq!(reaction(&starts, &moves), Some(expected));
    }

    #[test]
    fn what_did_not_happen_is_none() {
        let nothing = Reaction { tick: 3, ..Reaction::default() };
        assert_eq!(reaction(&[&[0][..]; 5], &[]), Some(nothing));
        assert_eq!(reaction(&[&[0][..]; 3], &[]), None, "it ended before the crowd came");
        // Split elsewhere, and joined where the crowd is.
        let starts: [&[u64]; 5] = [&[0, 25], &[0, 25], &[0, 25], &[0, 19], &[0, 19, 31]];
        assert_eq!(reaction(&starts, &[]).unwrap().split, None);
        let whole = KeySpan { start: Key::default(), end: Key::default() };
        assert_eq!(reaction(&[&[0][..]; 5], &[moved(11, whole, None, 0)]).unwrap().start, Some(0));
    }
}
