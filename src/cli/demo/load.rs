//! Says what is asked of the index in a run: a scenario or a trace, over which rows, and plays it.

use std::fs::File;
use std::io::{BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use schemas::{KeySpan, Millis};
use zstd::stream::read::Decoder;

use super::DemoArgs;
use super::cluster::TABLE_PARTITIONS;
use super::live::Live;
use crate::cli::exit::{Exit, Fault};
use crate::cli::replay::log;
use crate::demo::reaction::Crowd;
use crate::kafka::Connection;
use crate::load::driver::{self, Options};
use crate::load::rows::Filling;
use crate::load::schedule::Schedule;
use crate::load::tally::Tally;
use crate::replay;
use crate::replay::driver::open_trace;
use crate::replay::plot::KeyAxis;
use crate::replay::scenario::{Scenario, Shape};
use crate::replay::trace::{Assumed, Trace, TraceError};

/// What is played.
pub struct Load {
    pub name: String,
    source: Source,
    pub axis: KeyAxis,
    /// Rows that are there at the beginning.
    pub filling: Filling,
    pub payload_bytes: usize,
    /// Service time of a read and of an update.
    pub read_us: u64,
    pub write_us: u64,
    /// Service time a second that it asks for on average.
    pub mean_us_per_s: u64,
    /// Reads and updates a second on average.
    reads_per_s: f64,
    updates_per_s: f64,
}

enum Source {
    Scenario(Scenario),
    /// `first_ms` is the stamp of its first request, which is made at once.
    Trace {
        path: PathBuf,
        assumed: Assumed,
        first_ms: u64,
    },
}

/// The embedded broker keeps 5 MiB of a partition; keys are not spread quite evenly.
const EMBEDDED_TABLE_BYTES: f64 = TABLE_PARTITIONS as f64 * 4e6;

/// What a record of the table takes besides key and payload.
const ROW_BYTES: u64 = 60;

/// `assignment` has one partition and is read from its beginning. In each tick of the moving hot spot some six records of
/// some 200 bytes were added to it.
const EMBEDDED_TICKS_MAX: f64 = 3_600.0;

/// In one process with everything else, the embedded broker has been seen to keep up with so many.
const EMBEDDED_PER_S_MAX: f64 = 8_000.0;

/// Rows beyond this many are spread over the keys of a trace.
const ROWS_MAX: u64 = 1_000_000;

pub fn load(args: &DemoArgs) -> Result<Load, Box<Fault>> {
    match &args.trace {
        None => Ok(scenario(args)),
        Some(path) => trace(args, path),
    }
}

fn scenario(args: &DemoArgs) -> Load {
    let shape: Shape = args.scenario.as_str().parse().expect("every scenario has a shape");
    let scenario = Scenario {
        keys: args.keys,
        entry_bytes: args.payload_bytes,
        reads_per_s: args.reads_per_s,
        writes_per_s: args.writes_per_s,
        ..Scenario::new(shape, args.seed, Millis(0), args.duration.as_millis() as u64)
    };
    Load {
        name: shape.name().to_owned(),
        axis: KeyAxis::Integers(0, scenario.keys),
        filling: Filling { keys: 0..scenario.keys, every: 1 },
        payload_bytes: args.payload_bytes as usize,
        read_us: scenario.read_us,
        write_us: scenario.write_us,
        mean_us_per_s: scenario.mean_load(),
        reads_per_s: scenario.reads_per_s as f64,
        updates_per_s: scenario.writes_per_s as f64,
        source: Source::Scenario(scenario),
    }
}

fn trace(args: &DemoArgs, path: &Path) -> Result<Load, Box<Fault>> {
    let assumed = Assumed { entry_bytes: args.payload_bytes, ..Assumed::default() };
    let extent = open_trace(path, Millis(0), assumed).and_then(Trace::extent);
    let extent = extent.map_err(|err| bad_trace(&err))?;
    if extent.reads + extent.writes == 0 {
        let what = format!("{} holds no requests", path.display());
        return Err(Box::new(Fault::new(Exit::Failed, "isotherm::demo::empty", what)));
    }
    let first_ms = extent.first_ms;
    let span_s = ((extent.duration_ms - first_ms) as f64 / 1e3).max(1e-3) / args.speed;
    let (reads_per_s, updates_per_s) =
        (extent.reads as f64 / span_s, extent.writes as f64 / span_s);
    let (low, high) = (extent.key_min, extent.key_max.saturating_add(1));
    let every = (high - low).div_ceil(ROWS_MAX).max(1);
    let name = path.file_stem().map_or_else(String::new, |it| it.to_string_lossy().into_owned());
    Ok(Load {
        name: name.trim_end_matches(".csv").to_owned(),
        axis: KeyAxis::Integers(low, high),
        filling: Filling { keys: low..high, every },
        payload_bytes: args.payload_bytes as usize,
        read_us: assumed.read_us,
        write_us: assumed.write_us,
        mean_us_per_s: (reads_per_s * assumed.read_us as f64
            + updates_per_s * assumed.write_us as f64) as u64,
        reads_per_s,
        updates_per_s,
        source: Source::Trace { path: path.to_owned(), assumed, first_ms },
    })
}

fn bad_trace(err: &TraceError) -> Box<Fault> {
    log::told("isotherm::demo::trace", err)
}

/// What is stamped then is no longer asked.
fn end_ms(first_ms: u64, duration: Duration, speed: f64) -> u64 {
    first_ms.saturating_add((duration.as_millis() as f64 * speed) as u64)
}

type Queries = Trace<Decoder<'static, BufReader<File>>>;

impl Load {
    /// Plays it for as long as the flags say, against this router.
    pub fn play(
        &self,
        connection: &Connection,
        router: SocketAddr,
        args: &DemoArgs,
        live: &mut Live<'_>,
    ) -> anyhow::Result<Tally> {
        let options = Options {
            filled: Some(self.filling.clone()),
            payload_bytes: self.payload_bytes,
            seed: args.seed,
            ..Options::new(connection.clone(), vec![router.to_string()])
        };
        let schedule = match &self.source {
            Source::Scenario(scenario) => Schedule::scenario(scenario),
            Source::Trace { path, assumed, first_ms } => {
                let queries: Queries = open_trace(path, Millis(0), *assumed)?;
                let end_ms = end_ms(*first_ms, args.duration, args.speed);
                let in_time = move |it: &Result<_, TraceError>| {
                    it.as_ref()
                        .map_or(true, |it: &schemas::query_log::QueryLogged| it.time.0 < end_ms)
                };
                Schedule::trace(queries.take_while(in_time), args.speed)
            }
        };
        driver::run(&options, schedule, live)
    }

    /// The crowd that comes, if the load began then.
    pub fn crowd(&self, begun: Millis) -> Option<Crowd> {
        let Source::Scenario(scenario) = &self.source else { return None };
        let (keys, since_ms) = scenario.crowd()?;
        let span = KeySpan { start: replay::key(keys.start), end: replay::key(keys.end) };
        Some(Crowd { span, since: Millis(begun.0 + since_ms) })
    }

    /// Refuses what the embedded broker cannot keep, or not keep up with.
    pub fn check_embedded(&self, args: &DemoArgs, tick: Duration) -> Result<(), Box<Fault>> {
        let row = (self.payload_bytes as u64 + ROW_BYTES) as f64;
        let updates = self.updates_per_s * args.duration.as_secs_f64();
        let rows = (self.filling.keys.end - self.filling.keys.start) / self.filling.every;
        let bytes = (rows as f64 + updates) * row;
        let less = match &self.source {
            Source::Scenario(_) => "--duration, --keys, --payload-bytes, --reads-per-s",
            Source::Trace { .. } => "--duration, --speed, --payload-bytes",
        };
        let remedy = &format!(
            "run it on a real Kafka, with --kafka HOST:PORT (docker/kafka up brings one up), or ask for less: {less}"
        );
        let refused = |code: &str, what: String| {
            Err(Box::new(Fault::new(Exit::Usage, code, what).remedy(remedy.as_str())))
        };
        if EMBEDDED_TABLE_BYTES < bytes {
            let what = format!(
                "the table would have {:.0} MB by the end, and the embedded broker keeps {:.0} MB of it",
                bytes / 1e6,
                EMBEDDED_TABLE_BYTES / 1e6
            );
            return refused("isotherm::demo::embedded_bytes", what);
        }
        let ticks = args.duration.div_duration_f64(tick);
        if EMBEDDED_TICKS_MAX < ticks {
            let what = format!(
                "{ticks:.0} ticks are more than the {EMBEDDED_TICKS_MAX:.0} of which the embedded broker keeps who has \
                 owned what"
            );
            return refused("isotherm::demo::embedded_ticks", what);
        }
        let per_s = self.reads_per_s + self.updates_per_s;
        if EMBEDDED_PER_S_MAX < per_s {
            let what = format!(
                "{per_s:.0} queries a second are more than the {EMBEDDED_PER_S_MAX:.0} that the embedded \
                 broker keeps up with"
            );
            return refused("isotherm::demo::embedded_rate", what);
        }
        Ok(())
    }
}

/// Asks as curl does; returns the status.
pub fn get(address: SocketAddr, path: &str) -> anyhow::Result<u16> {
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(1))?;
    stream.set_read_timeout(Some(Duration::from_secs(2)))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: isotherm\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let status = answer.split(' ').nth(1).context("an answer has a status")?;
    status.parse().context("a status is a number")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trace_is_played_to_its_end_at_a_speed_beyond_all_numbers() {
        let end_ms = |speed| end_ms(7, Duration::from_secs(5), speed);
        assert_eq!([end_ms(1.0), end_ms(0.5), end_ms(2.0)], [5_007, 2_507, 10_007]);
        assert_eq!([end_ms(1e18), end_ms(f64::MAX)], [u64::MAX; 2]);
    }
}
