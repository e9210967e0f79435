//! Has a whole worker apply what the channel has sent it, and beside it the bare loop over the same entries.
//!
//! ```text
//!  rows ──> table ──> channel ──> index_update ──┬──> worker, until its floors say that all is applied
//!                            a lot, all of it    ├──> librdkafka ──> bare loop      nothing is decoded
//!                            before it is read   └─ ready-made ───> bare loop      no Kafka
//! ```
//!
//! * **The worker applies, and does nothing else**: while the channel sends, it is stopped where it stands
//!   (SIGSTOP). One that is ended and started again would recover its store, look for another of its name
//!   and read the map within the time that is measured, and would have an empty cache; the bare loops do none
//!   of that.
//! * **The same entries in the same order**, those of the inbox. Each of the three has a tree of its own to
//!   which all lots go, one after the other, so that the three stay alike.
//! * **One at a time**: each begins when the others, and what compacts behind them, are at rest.

use std::collections::BTreeMap;
use std::thread;
use std::time::{Duration, Instant};

use cpu_time::ProcessTime;
use fjall::UserValue;
use isotherm::kafka::TopicPartition;
use isotherm::kafka::follow::{Follower, From};
use isotherm::web::held::{Asked, Held, PATH, Role};
use rand::{Rng, SeedableRng};
use rand_pcg::Pcg64;
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::Message;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use schemas::index_update::IndexUpdate;
use schemas::range_segment::Floor;
use schemas::wire::{Record as _, decode};

use crate::ONE_RANGE;
use crate::bare::{Bare, Pair, STEP, ready};
use crate::cluster::{Bandwidth, Cluster, key};
use crate::pipe::MEMORY_BYTES;
use crate::reads::Asking;
use crate::scale::or_smoke;
use crate::took::{Took, timed};

const NODE: &str = "n0";

/// Who measures: the bare loop, the same behind librdkafka, the worker.
const WAYS: usize = 3;

/// The worker is asked this often how far it is.
const ASK_EVERY: Duration = Duration::from_millis(10);

/// How long nothing may have happened before somebody begins, and of how much of a core nothing is.
const REST: Duration = Duration::from_secs(1);
const REST_CORES: f64 = 0.2;

/// What is told, by the clock on the wall and of CPU.
type Clock = fn(&Took) -> f64;
const CLOCKS: [(&str, Clock); 2] = [("clock", |it| it.wall), ("CPU", |it| it.cpu)];

/// Of each partition of the table, before which offset all is sent, or applied.
type Floors = BTreeMap<u32, u64>;

pub fn apply(bootstrap_servers: &str) {
    let turns = or_smoke(5, 1);
    let (stored, applied) = (or_smoke(300_000, 3000), or_smoke(100_000, 1000));
    println!(
        "\nlots of {applied} entries, half of them new, onto {stored} and more, in turns (median of \
         {turns}); thousand entries a second"
    );
    println!(
        "{:>8} {:>6} {:>7} {:>17} {:>7} {:>18} {:>28}",
        "payload",
        "",
        "bare",
        "behind librdkafka",
        "worker",
        "worker ÷ bare",
        "worker ÷ behind librdkafka"
    );
    for payload_bytes in [100, 1024] {
        let mut index = Index::new(bootstrap_servers, payload_bytes, stored);
        let turns: Vec<_> = (0..turns).map(|it| index.turn(it, applied)).collect();
        tell(payload_bytes, applied, &turns);
    }
}

fn tell(payload_bytes: usize, applied: u64, turns: &[[Took; WAYS]]) {
    let sorted = |of: &dyn Fn(&[Took; WAYS]) -> f64| {
        let mut all: Vec<_> = turns.iter().map(of).collect();
        all.sort_by(f64::total_cmp);
        all
    };
    for (name, of) in CLOCKS {
        let rate = |way: usize| applied as f64 / sorted(&|it| of(&it[way]))[turns.len() / 2] / 1e3;
        let ratio = |way: usize| {
            let all = sorted(&|it| of(&it[way]) / of(&it[2]));
            format!("{:.2} ({:.2}-{:.2})", all[all.len() / 2], all[0], all[all.len() - 1])
        };
        println!(
            "{payload_bytes:>8} {name:>6} {:>7.0} {:>17.0} {:>7.0} {:>18} {:>28}",
            rate(0),
            rate(1),
            rate(2),
            ratio(0),
            ratio(1),
        );
    }
}

/// A worker with its inbox, and two trees that hold what its store does.
struct Index {
    cluster: Cluster,
    payload_bytes: usize,
    inbox: Inbox,
    trees: [Bare; 2],
    _folder: tempfile::TempDir,
    rows: u64,
}

impl Index {
    fn new(bootstrap_servers: &str, payload_bytes: usize, stored: u64) -> Self {
        let cluster =
            Cluster::start(bootstrap_servers, ONE_RANGE, &[NODE], &[], Bandwidth::Default);
        // Else all comes twice: the worker scans the table for its first assignment.
        cluster.wait("an assignment", || {
            let ranges = cluster.ranges();
            let is_settled = ranges.iter().all(|it| it["migration"].is_null());
            (!ranges.is_empty() && is_settled && is_active(&cluster)).then_some(())
        });
        let mut inbox = Inbox::of(&cluster);
        cluster.write_rows(stored, payload_bytes);
        let lot = inbox.lot(stored);
        let folder = tempfile::tempdir().expect("a folder for a benchmark");
        let trees = ["bare", "behind"].map(|it| Bare::open(&folder.path().join(it), MEMORY_BYTES));
        for tree in &trees {
            let pair = |(_, (key, value)): &(u64, Pair)| (key.clone(), value.clone());
            lot.entries.chunks(STEP).for_each(|it| _ = tree.step(it.iter().map(pair)));
        }
        Self { cluster, payload_bytes, inbox, trees, _folder: folder, rows: stored }
    }

    /// Writes a lot, and has it applied in each way; who is the first changes.
    fn turn(&mut self, number: usize, applied: u64) -> [Took; WAYS] {
        let nothing = Took { wall: 0.0, cpu: 0.0 };
        self.rest();
        self.cluster.signal(NODE, "-STOP");
        self.write(number, applied);
        let lot = self.inbox.lot(applied);
        let mut res = [nothing; WAYS];
        for way in (0..WAYS).map(|it| (number + it) % WAYS) {
            self.rest();
            res[way] = match way {
                0 => self.bare(&lot),
                1 => self.behind(&lot),
                _ => self.worker(&lot),
            };
        }
        self.cluster.await_rows(self.rows);
        res
    }

    /// Every second row is new; of the others any may come, more than once, too.
    fn write(&mut self, number: usize, applied: u64) {
        let mut random = Pcg64::seed_from_u64(number as u64);
        let (stored, new) = (self.rows, applied / 2);
        let rows = (0..new).flat_map(|it| {
            let row = random.random_range(0..stored);
            [(stored + it, None), (row, Some(key(row)))]
        });
        self.cluster.send_rows(rows, self.payload_bytes, 2 + number as u64);
        self.rows += new;
    }

    fn bare(&self, lot: &Lot) -> Took {
        let steps: Vec<Vec<Pair>> =
            lot.steps().map(|it| it.iter().map(|(_, pair)| pair.clone()).collect()).collect();
        timed(|| {
            let found: usize = steps.into_iter().map(|it| self.trees[0].step(it)).sum();
            assert!(lot.entries.len() / 2 <= found, "half of them were there");
        })
    }

    /// What is inserted are the last bytes of each record, as many as are ready-made: its payload and a little.
    fn behind(&self, lot: &Lot) -> Took {
        let steps: Vec<Vec<_>> = lot
            .steps()
            .map(|it| it.iter().map(|(at, (key, value))| (*at, key.clone(), value.len())).collect())
            .collect();
        let consumer = self.inbox.consumer();
        let from = self.inbox.list(lot.entries[0].0);
        timed(|| {
            consumer.assign(&from).expect("it can be assigned");
            let value = |(at, key, bytes)| (key, last_bytes(&consumer, at, bytes));
            let step = |it: Vec<_>| self.trees[1].step(it.into_iter().map(value));
            let found: usize = steps.into_iter().map(step).sum();
            assert!(lot.entries.len() / 2 <= found, "half of them were there");
        })
    }

    /// Lets the worker go on.
    fn worker(&self, lot: &Lot) -> Took {
        let (cpu, wall) = (self.cluster.cpu(NODE), Instant::now());
        self.cluster.signal(NODE, "-CONT");
        let mut asking = Asking::new(self.cluster.port(NODE));
        while !held(&mut asking).is_some_and(|it| has_applied(&it, &lot.floors)) {
            thread::park_timeout(ASK_EVERY);
        }
        let wall = wall.elapsed().as_secs_f64();
        Took { wall, cpu: self.cluster.cpu(NODE) - cpu }
    }

    /// Waits until nobody works, this process neither.
    fn rest(&self) {
        self.cluster.wait("rest", || {
            let (own, others) = (ProcessTime::now(), self.cluster.cpu_of_all());
            thread::park_timeout(REST);
            let took = own.elapsed().as_secs_f64() + self.cluster.cpu_of_all() - others;
            (took < REST_CORES * REST.as_secs_f64()).then_some(())
        });
    }
}

/// Asks what the worker holds, but for its entries; `None`: it is starting.
fn held(asking: &mut Asking) -> Option<Held> {
    let asked = Asked { after: None, limit: Some(0) };
    let asked = serde_json::to_value(asked).expect("it has a JSON form");
    serde_json::from_value(asking.ask(PATH, &asked)).ok()
}

fn is_active(cluster: &Cluster) -> bool {
    let held = held(&mut Asking::new(cluster.port(NODE)));
    held.is_some_and(|it| {
        !it.intervals.is_empty() && it.intervals.iter().all(|it| it.role == Role::Active)
    })
}

fn has_applied(held: &Held, floors: &Floors) -> bool {
    held.intervals.iter().all(|it| reaches(it.floors.iter(), floors))
}

fn reaches<'a>(told: impl Iterator<Item = &'a Floor>, floors: &Floors) -> bool {
    let told: Floors = told.map(|it| (it.partition, it.offset)).collect();
    floors.iter().all(|(partition, floor)| told.get(partition).is_some_and(|it| floor <= it))
}

/// Takes the record at an offset, and returns its last bytes. What lies before it are watermarks.
fn last_bytes(consumer: &BaseConsumer, offset: u64, bytes: usize) -> UserValue {
    loop {
        match consumer.poll(Duration::from_secs(10)) {
            Some(Ok(message)) if (message.offset() as u64) < offset => (),
            Some(Ok(message)) => {
                assert_eq!(message.offset() as u64, offset, "nothing is left out");
                let value = message.payload().expect("it has a value");
                return value[value.len() - bytes..].into();
            }
            Some(Err(err)) => panic!("{err}"),
            None => panic!("no record comes"),
        }
    }
}

/// What the channel has sent.
struct Lot {
    /// With their offsets in the inbox, as a store has them.
    entries: Vec<(u64, Pair)>,
    /// The watermark behind it.
    floors: Floors,
}

impl Lot {
    fn steps(&self) -> impl Iterator<Item = &[(u64, Pair)]> {
        self.entries.chunks(STEP)
    }
}

/// The partition of `index_update` that the worker reads.
struct Inbox {
    bootstrap_servers: String,
    topic: String,
    partition: i32,
    follower: Follower,
}

impl Inbox {
    fn of(cluster: &Cluster) -> Self {
        let connection = &cluster.connection;
        let partition = cluster.inbox(NODE);
        let mut follower = Follower::open(connection, "bench").expect("there is a broker");
        let at = TopicPartition { topic: IndexUpdate::TOPIC, partition };
        follower.add([(at, From::Beginning)]).expect("the topic is there");
        let bootstrap_servers = connection.bootstrap_servers.clone();
        let topic = connection.topic(IndexUpdate::TOPIC);
        Self { bootstrap_servers, topic, partition: partition as i32, follower }
    }

    /// Reads so many entries, and on to the watermark that tells of all of them.
    fn lot(&mut self, entries: u64) -> Lot {
        let mut lot = Lot { entries: Vec::new(), floors: Floors::new() };
        loop {
            let record = self.follower.poll(Duration::from_secs(60)).expect("the broker is there");
            let record = record.expect("there are watermarks, if nothing else");
            let update: IndexUpdate =
                decode(record.value.as_deref().expect("no tombstone")).expect("it is ours");
            if let Some(it) = update.entry.map(|it| it.entry) {
                lot.floors.insert(it.partition, it.offset + 1);
                lot.entries.push((record.offset, ready(&it)));
            }
            if let Some(it) = update.watermark
                && entries <= lot.entries.len() as u64
                && reaches(it.floors.iter(), &lot.floors)
            {
                return lot;
            }
        }
    }

    /// Returns a consumer that is connected, and has nothing assigned.
    fn consumer(&self) -> BaseConsumer {
        let consumer: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", &self.bootstrap_servers)
            .set("group.id", &self.topic)
            .set("enable.auto.commit", "false")
            // As a worker has it: else it waits for a second where its queue was full.
            .set("fetch.queue.backoff.ms", "10")
            .create()
            .expect("a consumer can be made");
        let known = consumer.fetch_watermarks(&self.topic, self.partition, Duration::from_secs(30));
        known.expect("the topic is there");
        consumer
    }

    fn list(&self, from: u64) -> TopicPartitionList {
        let mut list = TopicPartitionList::new();
        let from = Offset::Offset(from as i64);
        list.add_partition_offset(&self.topic, self.partition, from).expect("an offset");
        list
    }
}
