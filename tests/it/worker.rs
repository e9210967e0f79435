//! Workers told what a test says: as processes on a real Kafka, and one inside this process.
//!
//! ```text
//!  test ──> table ──> channel ──> workers a, b <── reads
//!    ├──> assignment, migrate_range ──┘   │
//!    └──> inboxes, as a node or as anybody <── statuses, acknowledgements, dead letters
//! ```

mod bad_input;
mod segments;
mod identity;
mod ends;
mod disk;
mod web;
mod markers;
mod inside;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use isotherm::kafka::writer::Writer;
use isotherm::kafka::{Output, Record};
use isotherm::web::reads::{Answer, Answers};
use schemas::assignment::{Assignment, Source};
use schemas::migrate_range::{Command as Verb, MigrateRange};
use schemas::migration_status::{MigrationStatus, Status};
use schemas::range_segment::Entry;
use schemas::table::RowChanged;
use schemas::wire::{self, encode};
use schemas::{Epoch, Generation, Inbox, Key, MigrationId, Millis, NodeId, dead_letter};

use crate::world::{Process, World, await_that, now_ms};

/// Nodes share one inbox, and all rows are of one partition.
const SETTINGS: [(&str, &str, &str); 4] = [
    ("index_update", "partitions", "1"),
    ("range_segment", "partitions", "1"),
    ("segment_ack", "partitions", "1"),
    ("table", "partitions", "1"),
];

const MORE: &str =
    "[channel]\nwatermark_every = '200ms'\n[worker]\nreport_every = '100ms'\ngrace = '500ms'";

struct Play {
    world: World,
    writer: Writer,
    generation: u64,
    /// Offsets of the table.
    rows: u64,
}

impl Play {
    fn create(name: &str) -> Option<Self> {
        let mut world = World::create(name, &SETTINGS)?;
        world.more = MORE;
        let writer = Writer::open(&world.connection, "test").unwrap();
        Some(Self { world, writer, generation: 0, rows: 0 })
    }

    fn worker(&self, node: &str) -> Process {
        self.world.start(node, &["worker", "--dir", "data", "--node-id", node], None)
    }

    fn channel(&self) -> Process {
        self.world.start("channel", &["channel", "--member", "c"], None)
    }

    fn write<R: wire::Record>(&self, key: &str, record: &R) {
        self.write_bytes(R::TOPIC, key, encode(record));
    }

    fn write_bytes(&self, topic: &'static str, key: &str, value: Vec<u8>) {
        self.writer.send(&Output::new(topic, key.into(), value)).unwrap();
        self.writer.flush().unwrap();
    }

    /// Writes rows, one for each index key; returns their entries.
    fn rows(&mut self, keys: impl IntoIterator<Item = String>) -> Vec<Entry> {
        let mut entries = Vec::new();
        for key in keys {
            let payload = Some(format!("of {key}").into_bytes());
            let (index_key, primary) = (Key(key.clone().into()), format!("row of {key}"));
            let after = Some(index_key.clone());
            let row = RowChanged { before: None, after, payload: payload.clone() };
            let output = Output::new("table", primary.clone().into(), encode(&row));
            self.writer.send(&output).unwrap();
            let (partition, offset) = (0, self.rows);
            let primary_key = Key(primary.into());
            entries.push(Entry { index_key, primary_key, partition, offset, payload });
            self.rows += 1;
        }
        self.writer.flush().unwrap();
        entries
    }

    /// Writes the next generation.
    fn assign(&mut self, ranges: &[Assignment]) {
        self.generation += 1;
        let generation = Generation(self.generation);
        for (n, it) in ranges.iter().enumerate() {
            let last = n + 1 == ranges.len();
            let it = Assignment { last, generation, ..it.clone() };
            let key = it.range_start.0.clone();
            self.writer.send(&Output::new("assignment", key, encode(&it))).unwrap();
        }
        self.writer.flush().unwrap();
    }

    /// Commands a move, and waits until its destination is ready.
    fn start_move(&self, it: &Move) {
        self.write(it.to, &it.command(Verb::Start, self.generation));
    }

    /// Moves a range from one worker to another, to its end.
    fn moves(&mut self, it: &Move) {
        self.start_move(it);
        self.await_phase(it.id, "Ready");
        self.assign(&[it.committed()]);
        self.await_end(it.id, Status::Complete);
    }

    fn statuses(&self, id: u64) -> Vec<MigrationStatus> {
        let all = self.world.records("migration_status").into_iter();
        // Some that a test has written are none.
        let all = all.filter_map(|it| wire::decode::<MigrationStatus>(&it.value?).ok());
        all.filter(|it| it.migration == MigrationId(id)).collect()
    }

    fn await_phase(&self, id: u64, phase: &str) {
        await_that(&format!("migration {id} {phase}"), || {
            let all = self.statuses(id);
            all.iter().any(|it| format!("{:?}", it.phase).contains(phase)).then_some(())
        });
    }

    fn await_end(&self, id: u64, status: Status) -> MigrationStatus {
        await_that(&format!("migration {id} {status:?}"), || {
            self.statuses(id).into_iter().find(|it| it.status == status)
        })
    }

    /// Waits until a worker has counted so many of each.
    fn await_counts(&self, worker: &Process, counts: &[(&str, u64)]) {
        await_that(&format!("{counts:?} of {}", worker.port()), || {
            let (status, body) = worker.ask("/readyz?verbose")?;
            let line = body.lines().find_map(|it| it.strip_prefix("[+] counts: "))?;
            let is_there = |(name, n): &(&str, u64)| {
                let of_it = format!("{n} {name}");
                line.split(", ").any(|it| it == of_it)
            };
            (status == 200 && counts.iter().all(is_there)).then_some(())
        });
    }

    /// Reads a key of a worker until it is found; returns its payload.
    fn await_read(&self, worker: &Process, key: &str, epoch: u64) -> String {
        await_that(&format!("a read of {key}"), || {
            let body = format!(r#"{{"reads":[{{"what":{{"key":"{key}"}},"epoch":{epoch}}}]}}"#);
            let heard = post(worker.port(), &body)?;
            let answers: Answers = serde_json::from_str(&heard.1).ok()?;
            match answers.answers.into_iter().next()? {
                Answer::Found(it) => {
                    let payload = it.entries.into_iter().next()?.payload;
                    Some(String::from_utf8(payload).unwrap())
                }
                Answer::Moved { .. }
                | Answer::AskSource { .. }
                | Answer::NotYet { .. }
                | Answer::Refused { .. }
                | Answer::Late => None,
            }
        })
    }

    /// Dead letters: who wrote them does not count.
    fn letters(&self) -> Vec<(String, u64, String, Record)> {
        let letters = self.world.records(dead_letter::TOPIC).into_iter().map(|it| {
            let header = |name| String::from_utf8(it.header(name).unwrap().to_vec()).unwrap();
            let offset = header(dead_letter::HEADER_OFFSET).parse().unwrap();
            (header(dead_letter::HEADER_TOPIC), offset, header(dead_letter::HEADER_REASON), it)
        });
        letters.collect()
    }

    /// Lets workers own all keys, by halves, and waits until they serve.
    fn begin_with(&mut self, nodes: [&str; 2]) {
        self.assign(&[of_table(("", "m"), nodes[0], 1, 1), of_table(("m", ""), nodes[1], 1, 2)]);
        self.await_end(1, Status::Complete);
        self.await_end(2, Status::Complete);
    }

    /// Starts a worker, which owns all keys, and a channel.
    fn begin_alone(&mut self) -> [Process; 2] {
        let all = [self.worker("a"), self.channel()];
        await_waiting(&all[0]);
        self.begin_with(["a", "a"]);
        all
    }

    /// Starts two workers, which own all keys by halves, and a channel.
    fn begin(&mut self) -> [Process; 3] {
        let all = [self.worker("a"), self.worker("b"), self.channel()];
        all[..2].iter().for_each(await_waiting);
        self.begin_with(["a", "b"]);
        all
    }

    fn check_verified(&self) {
        let said = crate::moved::check(
            &self.world,
            &["verify", "--timeout", "60s"],
            isotherm::cli::exit::Exit::Done,
            "0 missing, 0 extra",
        );
        assert!(said.contains("0 stale, 0 foreign; 0 gaps, 0 overlaps"), "{said}");
    }
}

/// A range that goes from one node to another.
#[derive(Clone, Copy)]
struct Move {
    id: u64,
    span: (&'static str, &'static str),
    from: (&'static str, u64),
    to: &'static str,
}

impl Move {
    fn command(&self, command: Verb, generation: u64) -> MigrateRange {
        MigrateRange {
            command,
            migration: MigrationId(self.id),
            range_start: Key(self.span.0.into()),
            range_end: Key(self.span.1.into()),
            source_node: NodeId(self.from.0.into()),
            source_epoch: Epoch(self.from.1),
            source_inbox: Inbox(0),
            destination_node: NodeId(self.to.into()),
            destination_inbox: Inbox(0),
            generation: Generation(generation),
            bandwidth_bytes_per_s: 1 << 30,
            deadline: Millis(now_ms() + 600_000),
            plan: None,
            reason: None,
        }
    }

    fn committed(&self) -> Assignment {
        Assignment {
            migration: Some(MigrationId(self.id)),
            source: Source::Node,
            source_node: Some(NodeId(self.from.0.into())),
            source_epoch: Epoch(self.from.1),
            ..of_table(self.span, self.to, self.from.1 + 1, self.id)
        }
    }
}

/// A range that a node is to build from the table.
fn of_table(span: (&str, &str), node: &str, epoch: u64, id: u64) -> Assignment {
    Assignment {
        range_start: Key(span.0.into()),
        range_end: Key(span.1.into()),
        node: NodeId(node.into()),
        inbox: Inbox(0),
        epoch: Epoch(epoch),
        generation: Generation(0),
        last: false,
        migration: Some(MigrationId(id)),
        source: Source::Table,
        source_node: None,
        source_epoch: Epoch(0),
    }
}

/// Waits until a worker has nothing more to wait for than a map.
fn await_waiting(worker: &Process) {
    await_that("a worker that waits for a map", || {
        worker.ask("/readyz?verbose")?.1.contains("there is none yet").then_some(())
    });
}

/// Keys of all letters.
fn keys() -> impl Iterator<Item = String> {
    ('a'..='z').flat_map(|it| (0..4).map(move |n| format!("{it}{n}")))
}

fn post(port: u16, body: &str) -> Option<(u16, String)> {
    let length = body.len();
    let request = format!(
        "POST /v1/reads HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}"
    );
    let answer = raw(port, request.as_bytes())?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    Some((head.split(' ').nth(1)?.parse().ok()?, body.into()))
}

/// Sends bytes, and returns all that is answered.
fn raw(port: u16, bytes: &[u8]) -> Option<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    // It may be refused before all is sent.
    _ = stream.write_all(bytes);
    let mut answer = Vec::new();
    _ = stream.read_to_end(&mut answer);
    Some(String::from_utf8_lossy(&answer).into_owned())
}

/// What is told is folded where lines are long.
fn bare(told: &str) -> String {
    told.replace(['│', '\n', ' '], "")
}
