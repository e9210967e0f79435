//! Says what one tick read: an interval of offsets for every partition of every topic, a box.
//!
//! ```text
//!                  tick 7      tick 8     tick 9
//!  node_capacity 0 ─┤[10, 14)├─┤[14, 14)├─┤[14, 21)├─
//!  query_log 0     ─┤[10, 14)├─┤[14, 14)├─┤[14, 21)├─
//!  query_log 1     ─┤[ 3,  4)├─┤[ 4,  9)├─┤[ 9, 10)├─
//! ```
//!
//! * **A box is a fact.** It is chosen once, committed with the outputs of its tick, and read back
//!   to do the same again.
//! * **Boxes tile the log.** The next one begins where this one ends, and so does the next tick.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use dataflows::Tick;
use schemas::planner_progress::{self, RecordAt, TickDone};
use thiserror::Error;

/// A partition of a topic, the topic without the configured prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicPartition {
    pub topic: &'static str,
    pub partition: u32,
}

/// A place between two records of a partition: before the record of this number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Offset(pub u64);

/// The offsets in `[from, to)`. Not each of them need be a record: markers count too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    pub from: Offset,
    pub to: Offset,
}

/// What a tick reads of every partition, and the rules by which that was chosen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TickBox {
    pub tick: Tick,
    pub tick_ms: u64,
    pub grace_ms: u64,
    pub span_records_max: u64,
    pub spans: BTreeMap<TopicPartition, Span>,
    /// Ended too long ago to plan by.
    pub stale: bool,
    /// Records whose stamps lie so far ahead that they end no box, and are not used either.
    pub from_future: BTreeSet<(TopicPartition, Offset)>,
}

/// Why a progress record does not tell a box.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum BoxError {
    #[error("tick {tick} was read from topic {topic}, which is not an input here")]
    UnknownTopic { tick: Tick, topic: String },
    #[error("tick {tick} reads {at} backwards: from {from} to {to}")]
    Backwards { tick: Tick, at: TopicPartition, from: u64, to: u64 },
    #[error("tick {tick} names {at} twice")]
    Twice { tick: Tick, at: TopicPartition },
}

impl TickBox {
    /// Tells whether `next` begins where this box ends, in time and in every partition.
    ///
    /// A partition may appear: the topic got it. None may go.
    pub fn is_followed_by(&self, next: &Self) -> bool {
        let from = |at| next.spans.get(at).map(|span| span.from);
        next.tick == self.tick + 1 && self.spans.iter().all(|(at, span)| from(at) == Some(span.to))
    }

    /// Puts the box into the progress record of its tick.
    pub fn write_to(&self, done: &mut TickDone) {
        done.tick = self.tick;
        done.tick_ms = self.tick_ms;
        done.grace_ms = self.grace_ms;
        done.span_records_max = self.span_records_max;
        done.stale = self.stale;
        let spans = self.spans.iter().map(|(at, span)| planner_progress::Span {
            topic: at.topic.to_owned(),
            partition: at.partition,
            from: span.from.0,
            to: span.to.0,
        });
        done.spans = spans.collect();
        let from_future = self.from_future.iter().map(|(at, offset)| RecordAt {
            topic: at.topic.to_owned(),
            partition: at.partition,
            offset: offset.0,
        });
        done.from_future = from_future.collect();
    }

    /// Reads the box out of a progress record; `topics` are those that it may name.
    pub fn read_from(done: &TickDone, topics: &[&'static str]) -> Result<Self, BoxError> {
        let tick = done.tick;
        let at = |topic: &str, partition| {
            let known = topics.iter().find(|known| **known == topic);
            let topic =
                known.ok_or_else(|| BoxError::UnknownTopic { tick, topic: topic.into() })?;
            Ok(TopicPartition { topic, partition })
        };
        let mut spans = BTreeMap::new();
        for it in &done.spans {
            let at = at(&it.topic, it.partition)?;
            if it.to < it.from {
                return Err(BoxError::Backwards { tick, at, from: it.from, to: it.to });
            }
            let span = Span { from: Offset(it.from), to: Offset(it.to) };
            if spans.insert(at, span).is_some() {
                return Err(BoxError::Twice { tick, at });
            }
        }
        let from_future = done.from_future.iter();
        let from_future =
            from_future.map(|it| Ok((at(&it.topic, it.partition)?, Offset(it.offset))));
        Ok(Self {
            tick,
            tick_ms: done.tick_ms,
            grace_ms: done.grace_ms,
            span_records_max: done.span_records_max,
            stale: done.stale,
            from_future: from_future.collect::<Result<_, _>>()?,
            spans,
        })
    }
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.topic, self.partition)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOPICS: [&str; 2] = ["query_log", "node_capacity"];

    #[test]
    fn reading_undoes_writing() {
        let done = done();
        let bounds = TickBox::read_from(&done, &TOPICS).unwrap();
        assert_eq!(bounds.spans.len(), 2);
        assert_eq!(bounds.from_future.len(), 1);
        let mut written = TickDone::default();
        bounds.write_to(&mut written);
        assert_eq!(written, done);
    }

    #[test]
    fn what_is_no_box_is_refused() {
        let refused = |change: fn(&mut TickDone)| {
            let mut done = done();
            change(&mut done);
            TickBox::read_from(&done, &TOPICS).unwrap_err().to_string()
        };
        let unknown = "tick 42 was read from topic mist, which is not an input here";
        assert_eq!(refused(|it| it.spans[0].topic = "mist".into()), unknown);
        assert_eq!(refused(|it| it.from_future[0].topic = "mist".into()), unknown);
        let backwards = "tick 42 reads query_log/7 backwards: from 4 to 3";
        assert_eq!(refused(|it| it.spans[1].to = 3), backwards);
        let twice = "tick 42 names query_log/7 twice";
        assert_eq!(refused(|it| it.spans[0] = it.spans[1].clone()), twice);
    }

    #[test]
    fn box_is_followed_where_it_ends() {
        let bounds = TickBox::read_from(&done(), &TOPICS).unwrap();
        let next = |change: fn(&mut TickBox)| {
            let mut next = bounds.clone();
            next.tick += 1;
            next.spans.values_mut().for_each(|it| *it = Span { from: it.to, to: it.to });
            change(&mut next);
            bounds.is_followed_by(&next)
        };
        let new = TopicPartition { topic: "query_log", partition: 8 };
        assert!(next(|_| ()));
        assert!(!next(|it| it.tick += 1));
        assert!(!next(|it| it.spans.first_entry().unwrap().get_mut().from.0 += 1));
        assert!(!next(|it| _ = it.spans.pop_first()));
        let opening = move |it: &mut TickBox| {
            it.spans.insert(new, Span { from: Offset(3), to: Offset(3) });
        };
        let mut appeared = bounds.clone();
        opening(&mut appeared);
        assert!(!appeared.is_followed_by(&bounds));
    }

    fn done() -> TickDone {
        let span = |topic: &str, partition, from, to| planner_progress::Span {
            topic: topic.into(),
            partition,
            from,
            to,
        };
        TickDone {
            tick: 42,
            tick_ms: 5000,
            grace_ms: 300,
            span_records_max: 9,
            spans: vec![span("node_capacity", 0, 3, 9), span("query_log", 7, 4, 8)],
            stale: true,
            from_future: vec![RecordAt { topic: "query_log".into(), partition: 7, offset: 5 }],
            ..TickDone::default()
        }
    }
}
