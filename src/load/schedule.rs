//! Says what is to be done when: the queries of a scenario or a trace, shifted to begin now.
//!
//! ```text
//!  scenario   due at the microsecond of its arrival
//!  trace      due at (stamp - stamp of the first) ÷ speed
//! ```
//!
//! Operations are made as they are asked for, in order of time.

use schemas::Key;
use schemas::query_log::{Op, QueryLogged};

use super::Micros;
use crate::replay::scenario::{Queries, Scenario};
use crate::replay::trace::TraceError;

/// One read or update of the row of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Operation {
    pub due: Micros,
    pub key: u64,
    pub what: What,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    Read,
    Update,
}

/// Operations in order of time. After an error, there is nothing more.
pub struct Schedule(Source);

enum Source {
    Scenario(Box<Queries>),
    Trace {
        queries: Box<dyn Iterator<Item = Result<QueryLogged, TraceError>> + Send>,
        speed: f64,
        first_ms: Option<u64>,
    },
}

impl Schedule {
    /// The keys of a scenario are the integers below `scenario.keys`.
    pub fn scenario(scenario: &Scenario) -> Self {
        Self(Source::Scenario(Box::new(scenario.queries_logged())))
    }

    /// A speed of two takes half of the time; it must be above zero.
    pub fn trace(
        queries: impl Iterator<Item = Result<QueryLogged, TraceError>> + Send + 'static,
        speed: f64,
    ) -> Self {
        assert!(0.0 < speed, "time goes on");
        Self(Source::Trace { queries: Box::new(queries), speed, first_ms: None })
    }
}

impl Iterator for Schedule {
    type Item = Result<Operation, TraceError>;

    fn next(&mut self) -> Option<Self::Item> {
        match &mut self.0 {
            Source::Scenario(queries) => {
                let query = queries.next()?;
                Some(Ok(operation(Micros(queries.now_us()), &query)))
            }
            Source::Trace { queries, speed, first_ms } => Some(queries.next()?.map(|query| {
                let first_ms = *first_ms.get_or_insert(query.time.0);
                let due_us = (query.time.0 - first_ms) as f64 * 1e3 / *speed;
                operation(Micros(due_us as u64), &query)
            })),
        }
    }
}

fn operation(due: Micros, query: &QueryLogged) -> Operation {
    let what = match query.op {
        Op::Read | Op::Scan | Op::Unknown => What::Read,
        Op::Write => What::Update,
    };
    Operation { due, key: integer(&query.key), what }
}

/// The integer that a key of a scenario or trace is.
fn integer(key: &Key) -> u64 {
    u64::from_be_bytes(key.0[..].try_into().expect("their keys are integers of eight bytes"))
}

#[cfg(test)]
mod tests {
    use schemas::Millis;

    use super::*;
    use crate::replay::scenario::Shape;
    use crate::replay::trace::{Assumed, Trace};

    fn trace(table: &'static str, speed: f64) -> Schedule {
        let trace = Trace::new("t".into(), table.as_bytes(), Millis(7), Assumed::default());
        Schedule::trace(trace.unwrap(), speed)
    }

    #[test]
    fn trace_begins_now_and_takes_less_time_at_a_speed() {
        let table = "time_ms,key,op\n5000,3,R\n5001,4,W\n5250,18446744073709551615,R\n";
        let check = |speed, due: [u64; 3]| {
            let keys = [(3, What::Read), (4, What::Update), (u64::MAX, What::Read)];
            let expected = due.into_iter().zip(keys);
            let expected =
                expected.map(|(due, (key, what))| Operation { due: Micros(due), key, what });
            let found: Vec<_> = trace(table, speed).map(Result::unwrap).collect();
            assert_eq!(found, expected.collect::<Vec<_>>());
        };
        check(1.0, [0, 1_000, 250_000]);
        check(10.0, [0, 100, 25_000]);
        check(0.5, [0, 2_000, 500_000]);
    }

    #[test]
    fn trace_ends_where_it_cannot_be_read() {
        let mut schedule = trace("time_ms,key,op\n1,3,R\nx,4,W\n3,5,R\n", 1.0);
        assert!(schedule.next().unwrap().is_ok());
        let error = schedule.next().unwrap().unwrap_err().to_string();
        assert!(error.starts_with("t, line 3: the time \"x\""), "{error}");
        assert!(schedule.next().is_none());
    }

    #[test]
    fn scenario_is_due_when_its_queries_arrive() {
        let scenario = Scenario {
            keys: 5_000,
            reads_per_s: 900,
            writes_per_s: 100,
            ..Scenario::new(Shape::Zipf, 4, Millis(1_000), 20_000)
        };
        let operations: Vec<_> = Schedule::scenario(&scenario).map(Result::unwrap).collect();
        let queries: Vec<_> = scenario.queries_logged().collect();
        assert_eq!(operations.len(), queries.len());
        for (operation, query) in operations.iter().zip(&queries) {
            assert_eq!(operation.due.0 / 1_000, query.time.0 - 1_000);
            assert_eq!(crate::replay::key(operation.key), query.key);
            assert_eq!(operation.what == What::Update, query.op == Op::Write);
        }
        // Between the milliseconds too.
        let whole = operations.iter().filter(|it| it.due.0.is_multiple_of(1_000)).count();
        assert!(whole < operations.len() / 100, "{whole} of {}", operations.len());
    }
}
