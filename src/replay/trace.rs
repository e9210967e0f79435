//! Reads traces: compressed tables of requests, a line each, in order of time.
//!
//! ```text
//!  time_s,key,op  or  time_ms,key,op        op is R or W, key an integer
//!  0,3015,W
//! ```
//!
//! A trace does not tell what a request cost or how large the entry was: both are configured, and
//! only their proportions matter. What cannot be read ends the reading, with file, line and reason:
//! a trace is a file that somebody chose, and a plan from half of one would mislead.

use std::io::{self, BufReader, Read};

use csv::ByteRecord;
use schemas::Millis;
use schemas::query_log::{Op, QueryLogged};
use thiserror::Error;
use zstd::stream::read::Decoder;

use super::key;

/// What is assumed of every request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Assumed {
    pub read_us: u64,
    pub write_us: u64,
    pub entry_bytes: u64,
}

impl Default for Assumed {
    fn default() -> Self {
        Self { read_us: 500, write_us: 1_000, entry_bytes: 1024 }
    }
}

/// A trace that cannot be read on.
#[derive(Debug, Error)]
#[error("{}: {reason}", place(.file, .line))]
pub struct TraceError {
    pub file: String,
    /// From one, the header's; `None`: of the file as a whole.
    pub line: Option<u64>,
    pub reason: Reason,
}

/// What is wrong with a line.
#[derive(Debug, Error)]
pub enum Reason {
    #[error("there is no such file")]
    NotThere,
    #[error("it cannot be opened: {0}")]
    Closed(String),
    #[error(
        "cannot be read ({0}): a trace is a CSV table that zstd has compressed; `zstd FILE` makes FILE.zst of one"
    )]
    Unreadable(String),
    #[error("the header is {0:?}: it should be time_s,key,op or time_ms,key,op")]
    Header(String),
    #[error("{0} fields: time, key and op are three")]
    Fields(usize),
    #[error("the time {0:?} is not a whole number")]
    Time(String),
    #[error("the key {0:?} is not a whole number below 2^64")]
    Key(String),
    #[error("the operation {0:?} is neither R nor W")]
    Op(String),
    #[error("the time {0} ms is before that of the line above, {1} ms: sort the lines by time")]
    Backwards(u64, u64),
}

/// The requests of a trace as queries, from `start` on: time zero of the trace is there.
pub struct Trace<R: Read> {
    file: String,
    lines: csv::Reader<R>,
    line: ByteRecord,
    start: Millis,
    assumed: Assumed,
    unit_ms: u64,
    last_ms: u64,
    broken: bool,
}

/// What a whole trace holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Extent {
    pub reads: u64,
    pub writes: u64,
    /// Of the integers that keys are.
    pub key_min: u64,
    pub key_max: u64,
    /// From the start to the first request, and to the last.
    pub first_ms: u64,
    pub duration_ms: u64,
}

impl TraceError {
    /// What a trace looks like that can be read.
    pub const REMEDY: &str = "the first line of a trace is time_ms,key,op; each other one is a request, in order of \
                              time, such as 0,3015,W";

    /// A trace of which not even the first line can be had.
    pub fn unreadable(file: String, error: &io::Error) -> Self {
        Self { file, line: Some(1), reason: Reason::Unreadable(error.to_string()) }
    }

    /// The file cannot be opened.
    pub fn closed(file: String, error: &io::Error) -> Self {
        let reason = match error.kind() == io::ErrorKind::NotFound {
            true => Reason::NotThere,
            false => Reason::Closed(error.kind().to_string()),
        };
        Self { file, line: None, reason }
    }

    /// Tells whether the file could not so much as be opened.
    pub fn is_closed(&self) -> bool {
        matches!(self.reason, Reason::NotThere | Reason::Closed(_))
    }
}

impl<R: Read> Trace<Decoder<'static, BufReader<R>>> {
    /// Reads the header of a table that zstd compressed.
    pub fn compressed(
        file: String,
        table: R,
        start: Millis,
        assumed: Assumed,
    ) -> Result<Self, TraceError> {
        match Decoder::new(table) {
            Ok(decoder) => Self::new(file, decoder, start, assumed),
            Err(error) => Err(TraceError::unreadable(file, &error)),
        }
    }
}

impl<R: Read> Trace<R> {
    /// Reads the header of a table that is not compressed (any more).
    pub fn new(
        file: String,
        table: R,
        start: Millis,
        assumed: Assumed,
    ) -> Result<Self, TraceError> {
        let lines = csv::ReaderBuilder::new().has_headers(false).flexible(true).from_reader(table);
        let line = ByteRecord::new();
        let (unit_ms, last_ms, broken) = (1, 0, false);
        let mut trace = Self { file, lines, line, start, assumed, unit_ms, last_ms, broken };
        let header = trace.read().map_err(|reason| trace.error(1, reason))?;
        let fields: Vec<_> =
            header.then_some(&trace.line).into_iter().flatten().map(text).collect();
        trace.unit_ms = match fields.join(",").trim_start_matches('\u{feff}') {
            "time_s,key,op" => 1000,
            "time_ms,key,op" => 1,
            other => return Err(trace.error(1, Reason::Header(other.to_owned()))),
        };
        Ok(trace)
    }

    /// Reads the whole trace, and tells what there was in it.
    pub fn extent(self) -> Result<Extent, TraceError> {
        let start = self.start.0;
        let mut extent = Extent { key_min: u64::MAX, ..Extent::default() };
        for query in self {
            let query = query?;
            let key = query.key.0.try_into().map_or(0, u64::from_be_bytes);
            extent.key_min = extent.key_min.min(key);
            extent.key_max = extent.key_max.max(key);
            let since_ms = query.time.0 - start;
            if extent.reads + extent.writes == 0 {
                extent.first_ms = since_ms;
            }
            extent.duration_ms = since_ms;
            *(if query.op == Op::Write { &mut extent.writes } else { &mut extent.reads }) += 1;
        }
        extent.key_min = extent.key_min.min(extent.key_max);
        Ok(extent)
    }

    /// Reads a line; tells whether there was one.
    fn read(&mut self) -> Result<bool, Reason> {
        let read = self.lines.read_byte_record(&mut self.line);
        read.map_err(|error| Reason::Unreadable(error.to_string()))
    }

    fn query(&mut self) -> Result<Option<QueryLogged>, Reason> {
        if !self.read()? {
            return Ok(None);
        }
        let [time, key_text, op] = match self.line.len() {
            3 => [&self.line[0], &self.line[1], &self.line[2]],
            fields => return Err(Reason::Fields(fields)),
        };
        let number = |field| str::from_utf8(field).ok().and_then(|it| it.parse::<u64>().ok());
        let time_ms = number(time).and_then(|it| it.checked_mul(self.unit_ms));
        let time_ms = time_ms.ok_or_else(|| Reason::Time(text(time)))?;
        let stamp = self.start.0.checked_add(time_ms).ok_or_else(|| Reason::Time(text(time)))?;
        let index = number(key_text).ok_or_else(|| Reason::Key(text(key_text)))?;
        let (op, cost_us) = match op {
            b"R" => (Op::Read, self.assumed.read_us),
            b"W" => (Op::Write, self.assumed.write_us),
            other => return Err(Reason::Op(text(other))),
        };
        if time_ms < self.last_ms {
            return Err(Reason::Backwards(time_ms, self.last_ms));
        }
        self.last_ms = time_ms;
        Ok(Some(QueryLogged {
            time: Millis(stamp),
            key: key(index),
            op,
            cost_us: Some(cost_us),
            bytes: self.assumed.entry_bytes,
            estimated: false,
        }))
    }

    fn error(&self, line: u64, reason: Reason) -> TraceError {
        TraceError { file: self.file.clone(), line: Some(line), reason }
    }
}

impl<R: Read> Iterator for Trace<R> {
    type Item = Result<QueryLogged, TraceError>;

    /// Ends after the first error.
    fn next(&mut self) -> Option<Self::Item> {
        if self.broken {
            return None;
        }
        let read = self.query();
        self.broken = read.is_err();
        let at = self.line.position().map_or_else(|| self.lines.position().line(), |it| it.line());
        read.map_err(|reason| self.error(at, reason)).transpose()
    }
}

fn place(file: &str, line: &Option<u64>) -> String {
    line.map_or_else(|| file.to_owned(), |line| format!("{file}, line {line}"))
}

fn text(field: &[u8]) -> String {
    String::from_utf8_lossy(field).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Times and keys of a table, then the error if one ended it.
    fn check(table: &str, expected: &str) {
        let read = || -> Result<String, (String, TraceError)> {
            let trace = Trace::new("t".into(), table.as_bytes(), Millis(7_000), Assumed::default());
            let mut told = String::new();
            for query in trace.map_err(|error| (String::new(), error))? {
                let query = query.map_err(|error| (told.clone(), error))?;
                let index = u64::from_be_bytes(query.key.0.try_into().unwrap());
                told += &format!("{} {index} {:?}\n", query.time.0, query.op);
            }
            Ok(told)
        };
        let found = read().unwrap_or_else(|(told, error)| format!("{told}{error}"));
        assert_eq!(found, expected, "{table:?}");
    }

    #[test]
    fn lines_become_queries() {
        check(
            "time_s,key,op\n0,5,R\n2,18446744073709551615,W\n",
            "7000 5 Read\n9000 18446744073709551615 Write\n",
        );
        check("time_ms,key,op\r\n0,5,R\r\n2,6,W", "7000 5 Read\n7002 6 Write\n");
        check("time_ms,key,op\n", "");
    }

    #[test]
    fn what_cannot_be_read_is_told_with_its_line() {
        let expected =
            "t, line 1: the header is \"\": it should be time_s,key,op or time_ms,key,op";
        check("", expected);
        let expected =
            "t, line 1: the header is \"0,5,R\": it should be time_s,key,op or time_ms,key,op";
        check("0,5,R\n", expected);
        let bad = |line: &str, reason: &str| {
            let expected = format!("7001 1 Read\nt, line 3: {reason}");
            check(&format!("time_ms,key,op\n1,1,R\n{line}\n9,9,R\n"), &expected);
        };
        bad("2,3", "2 fields: time, key and op are three");
        bad("x,3,R", "the time \"x\" is not a whole number");
        bad("-2,3,R", "the time \"-2\" is not a whole number");
        bad("18446744073709551615,3,R", "the time \"18446744073709551615\" is not a whole number");
        bad("2,k3,R", "the key \"k3\" is not a whole number below 2^64");
        bad("2,3,D", "the operation \"D\" is neither R nor W");
        let reason = "the time 0 ms is before that of the line above, 1 ms: sort the lines by time";
        bad("0,3,R", reason);
    }

    #[test]
    fn table_is_decompressed_and_its_extent_is_told() {
        let table = "time_s,key,op\n0,50,R\n1,20,W\n3,70,R\n";
        let compressed = zstd::encode_all(table.as_bytes(), 3).unwrap();
        let open = |bytes| Trace::compressed("t".into(), bytes, Millis(5), Assumed::default());
        let extent = open(&compressed[..]).unwrap().extent().unwrap();
        let (first_ms, duration_ms) = (0, 3_000);
        let expected =
            Extent { reads: 2, writes: 1, key_min: 20, key_max: 70, first_ms, duration_ms };
        assert_eq!(extent, expected);

        let refused = open(table.as_bytes()).err().unwrap().to_string();
        assert!(refused.contains("t, line 1: cannot be read"), "{refused}");
    }
}
