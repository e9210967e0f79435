//! Gathers what a process asks of the index, to be logged in batches.

use schemas::Millis;
use schemas::query_log::{QueriesLogged, QueryLogged};

/// A batch waits no longer than this: it counts as a whole in the tick of its record.
const HELD_MAX_MS: u64 = 150;

/// Nor is it larger.
const BATCH_MAX: usize = 500;

/// Of keys, in a batch.
const BATCH_BYTES_MAX: usize = 256 * 1024;

/// Queries that are not logged yet.
#[derive(Debug, Default)]
pub struct Batch {
    queries: Vec<QueryLogged>,
    bytes: usize,
    since: Millis,
}

impl Batch {
    pub fn push(&mut self, now: Millis, query: QueryLogged) {
        if self.queries.is_empty() {
            self.since = now;
        }
        self.bytes += query.key.0.len();
        self.queries.push(query);
    }

    /// Returns the batch, if it is time for it.
    pub fn due(&mut self, now: Millis) -> Option<QueriesLogged> {
        let is_full = BATCH_MAX <= self.queries.len() || BATCH_BYTES_MAX <= self.bytes;
        // A clock that was set back holds nothing longer.
        let is_old = now < self.since || HELD_MAX_MS <= now.0 - self.since.0;
        if is_full || is_old { self.take() } else { None }
    }

    /// Returns what there is.
    pub fn take(&mut self) -> Option<QueriesLogged> {
        self.bytes = 0;
        let queries = std::mem::take(&mut self.queries);
        Some(QueriesLogged { queries }).filter(|it| !it.queries.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use schemas::Key;
    use schemas::query_log::Op;

    use super::*;

    #[test]
    fn batch_is_logged_when_it_is_full_or_old() {
        let mut batch = Batch::default();
        assert_eq!(batch.due(Millis(9_999)), None);
        batch.push(Millis(1_000), query(1));
        batch.push(Millis(1_100), query(1));
        assert_eq!(batch.due(Millis(1_000 + HELD_MAX_MS - 1)), None);
        let due = batch.due(Millis(1_000 + HELD_MAX_MS)).map(|it| it.queries.len());
        assert_eq!(due, Some(2));
        for n in 0..BATCH_MAX {
            assert_eq!(batch.due(Millis(2_000)), None, "{n}");
            batch.push(Millis(2_000), query(1));
        }
        assert!(batch.due(Millis(2_000)).is_some());
        batch.push(Millis(3_000), query(BATCH_BYTES_MAX));
        assert!(batch.due(Millis(3_000)).is_some());
        assert_eq!(batch.take(), None);
    }

    fn query(bytes: usize) -> QueryLogged {
        let key = Key(vec![b'k'; bytes]);
        let time = Millis(1);
        QueryLogged { time, key, op: Op::Write, cost_us: None, bytes: 0, estimated: false }
    }
}
