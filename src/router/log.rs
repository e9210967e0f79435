//! Says what is logged of a query: what it cost, or what such a query costs in the mean.
//!
//! The load that is offered counts, not what is served: a query that was not answered counts the mean
//! of its operation, and is marked as an estimate.

use schemas::Millis;
use schemas::query_log::{Op, QueryLogged};

use super::events::Query;
use crate::web::reads::What;

/// A cost counts this part in the mean of those before.
const WEIGHT: u64 = 32;

/// What queries cost in the mean, by what they do, in 1/1024 of a microsecond.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Means {
    read: u64,
    scan: u64,
}

impl Means {
    /// Begins with what is configured.
    pub fn new(read_us: u64, scan_us: u64) -> Self {
        Self { read: read_us << 10, scan: scan_us << 10 }
    }

    /// Returns what is logged of a read that was not even taken.
    pub fn refused(&mut self, time: Millis, what: What) -> QueryLogged {
        let (op, key) = match what {
            What::Key(key) => (Op::Read, key),
            What::Range { start, .. } => (Op::Scan, start),
        };
        self.logged(time, Query { op, key, cost_us: None, bytes: 0 })
    }

    /// Returns what is logged of a query that came at a time.
    pub fn logged(&mut self, time: Millis, query: Query) -> QueryLogged {
        let Query { op, key, cost_us, bytes } = query;
        let mean = match op {
            Op::Scan => &mut self.scan,
            Op::Read | Op::Write | Op::Unknown => &mut self.read,
        };
        if let Some(cost_us) = cost_us {
            let cost = cost_us.min(u64::MAX >> 20) << 10;
            *mean = *mean - *mean / WEIGHT + cost / WEIGHT;
        }
        let estimated = cost_us.is_none();
        let cost_us = Some(cost_us.unwrap_or(*mean >> 10));
        QueryLogged { time, key, op, cost_us, bytes, estimated }
    }
}

#[cfg(test)]
mod tests {
    use schemas::Key;

    use super::*;

    #[test]
    fn query_without_an_answer_counts_the_mean_of_its_operation() {
        let mut means = Means::new(100, 1_000);
        let mut log = |op, cost_us| {
            let query = Query { op, key: Key(vec![7]), cost_us, bytes: 3 };
            let it = means.logged(Millis(5), query);
            assert_eq!((it.time, it.bytes, it.key.0.as_slice()), (Millis(5), 3, &[7][..]));
            (it.cost_us.unwrap(), it.estimated)
        };
        assert_eq!(log(Op::Read, None), (100, true));
        for _ in 0..300 {
            assert_eq!(log(Op::Read, Some(400)), (400, false));
        }
        assert_eq!(log(Op::Scan, None), (1_000, true));
        let (cost_us, estimated) = log(Op::Read, None);
        assert!(estimated && (390..=400).contains(&cost_us), "{cost_us}");
        log(Op::Read, Some(u64::MAX));
    }
}
