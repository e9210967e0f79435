//! Cuts a stream of queries into the batches of a query log, so that its ticks can be told from its
//! records' stamps alone.
//!
//! ```text
//!  queries ──> [≤ 100 of one tick] stamped with its last query's time ──> partitions in turn
//!  tick's end ──> [] stamped with the first millisecond of the next tick ──> every partition
//! ```
//!
//! * **A batch lies in one tick.** What counts in the tick of its stamp belongs there.
//! * **Stamps never go back**, in no partition; every tick from the first query's to the last one's
//!   has its end marked in every partition, empty ticks too.

use std::iter::Fuse;

use schemas::Millis;
use schemas::query_log::{QueriesLogged, QueryLogged};

/// How a log is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cut {
    pub tick_ms: u64,
    pub partitions: u32,
    pub queries_max: usize,
}

/// One record of a query log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    pub partition: u32,
    pub stamp: Millis,
    pub queries: QueriesLogged,
}

/// The batches of queries that come in order of time, made as they are asked for. After an error of
/// the queries' source there is nothing more.
pub struct Batches<I: Iterator> {
    cut: Cut,
    queries: Fuse<I>,
    /// The first query of the next batch.
    next: Option<QueryLogged>,
    /// The tick that is open; none before the first query.
    tick: Option<u64>,
    /// The partition of the next batch.
    turn: u32,
    /// No stamp before this one.
    stamp: Millis,
    /// Partitions in which the end of the open tick is still to be marked.
    unmarked: std::ops::Range<u32>,
    ended: bool,
}

impl<I: Iterator<Item = Result<QueryLogged, E>>, E> Batches<I> {
    pub fn new(cut: Cut, queries: I) -> Self {
        assert!(0 < cut.tick_ms && 0 < cut.partitions && 0 < cut.queries_max, "a cut has limits");
        let (next, tick, turn, stamp, unmarked, ended) = (None, None, 0, Millis(0), 0..0, false);
        Self { cut, queries: queries.fuse(), next, tick, turn, stamp, unmarked, ended }
    }

    /// The query that is next, if it lies in the open tick.
    fn query(&mut self) -> Result<Option<QueryLogged>, E> {
        if self.next.is_none() {
            self.next = self.queries.next().transpose()?;
        }
        let tick_ms = self.cut.tick_ms;
        Ok(self.next.take_if(|it| {
            let tick = it.time.0 / tick_ms;
            // One that is older than what came before it counts now.
            tick <= *self.tick.get_or_insert(tick)
        }))
    }

    /// The queries of the next batch, of one tick; none if the tick is over.
    fn batch(&mut self) -> Result<Option<Batch>, E> {
        let mut queries = Vec::new();
        while queries.len() < self.cut.queries_max
            && let Some(query) = self.query()?
        {
            queries.push(query);
        }
        let Some(last) = queries.iter().map(|it| it.time).max() else { return Ok(None) };
        let partition = self.turn;
        self.turn = (self.turn + 1) % self.cut.partitions;
        self.stamp = self.stamp.max(last);
        let (stamp, queries) = (self.stamp, QueriesLogged { queries });
        Ok(Some(Batch { partition, stamp, queries }))
    }
}

impl<I: Iterator<Item = Result<QueryLogged, E>>, E> Iterator for Batches<I> {
    type Item = Result<Batch, E>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let (Some(partition), Some(tick)) = (self.unmarked.next(), self.tick) {
                if self.unmarked.is_empty() {
                    self.tick = self.next.is_some().then_some(tick + 1);
                    self.ended = self.next.is_none();
                }
                self.stamp = Millis((tick + 1) * self.cut.tick_ms);
                let stamp = self.stamp;
                return Some(Ok(Batch { partition, stamp, queries: QueriesLogged::default() }));
            }
            if self.ended {
                return None;
            }
            match self.batch() {
                Ok(Some(batch)) => return Some(Ok(batch)),
                Ok(None) if self.tick.is_some() => self.unmarked = 0..self.cut.partitions,
                Ok(None) => self.ended = true,
                Err(error) => {
                    self.ended = true;
                    return Some(Err(error));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use schemas::query_log::Op;

    use super::*;
    use crate::replay::key;

    const CUT: Cut = Cut { tick_ms: 10, partitions: 2, queries_max: 3 };

    fn queries(times: &[u64]) -> impl Iterator<Item = Result<QueryLogged, &'static str>> {
        times.iter().map(|time| {
            let (time, key, op) = (Millis(*time), key(*time), Op::Read);
            if time.0 == 666 {
                return Err("broken");
            }
            Ok(QueryLogged { time, key, op, cost_us: None, bytes: 0, estimated: false })
        })
    }

    /// Batches as `partition@stamp:queries`.
    fn check(times: &[u64], expected: &str) {
        let told = |batch: Result<Batch, _>| {
            batch.map_or_else(str::to_owned, |it| {
                format!("{}@{}:{}", it.partition, it.stamp.0, it.queries.queries.len())
            })
        };
        let found: Vec<_> = Batches::new(CUT, queries(times)).map(told).collect();
        assert_eq!(found.join(" "), expected, "{times:?}");
    }

    #[test]
    fn batches_end_with_their_tick_and_ticks_are_marked() {
        check(&[], "");
        check(&[3], "0@3:1 0@10:0 1@10:0");
        check(&[3, 9, 10], "0@9:2 0@10:0 1@10:0 1@10:1 0@20:0 1@20:0");
        check(&[1, 2, 3, 4], "0@3:3 1@4:1 0@10:0 1@10:0");
        check(&[1, 2, 3], "0@3:3 0@10:0 1@10:0");
    }

    #[test]
    fn empty_ticks_are_marked_too() {
        check(&[35, 61], "0@35:1 0@40:0 1@40:0 0@50:0 1@50:0 0@60:0 1@60:0 1@61:1 0@70:0 1@70:0");
    }

    #[test]
    fn older_query_counts_in_the_open_tick() {
        check(&[12, 4], "0@12:2 0@20:0 1@20:0");
        check(&[12, 13, 14, 4], "0@14:3 1@14:1 0@20:0 1@20:0");
    }

    #[test]
    fn error_is_the_last() {
        check(&[1, 666, 2], "broken");
    }
}
