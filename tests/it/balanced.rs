//! All processes under a load whose hot spot moves, on a real Kafka: the planner decides moves, everybody is killed
//! meanwhile, and nothing is lost.
//!
//! ```text
//!  load ──> 2 routers ──> 4 workers, 1:2:3:4 <── 2 channels <── table <── load
//!                         planner, in auto ──┘
//!  kill -9: planner, at random and in an open transaction; a worker at COPYING, READY, ACTIVE; a channel; a router
//! ```
//!
//! `ISOTHERM_BALANCED_SEED` is one seed, `ISOTHERM_BALANCED_SEEDS` how many follow it, and `ISOTHERM_BALANCED_ROUNDS` how
//! often everybody is killed.

mod loads;
mod kills;
mod whole;

use std::path::Path;
use std::str::FromStr;

use isotherm::cli::exit::Exit;
use serde_json::Value;

use self::kills::Kills;
use self::loads::Loads;
use crate::index::cluster::{Cluster, NODES, Size};
use crate::index::told::Told;
use crate::moved::{check, ranges};
use crate::world::{World, await_that, now_ms, say};

/// In microseconds of service a second, of the smallest node; the others have two, three and four of it.
const UNIT: u64 = 46_000;

/// Of the scenario's load; with [`COSTS`] it is 0.35 of what the nodes can do: more than the smaller ones
/// can, where the hot spot is, and not so much more that reads fail while there is no planner.
const READS_PER_S: &str = "40";

/// A write counts little, or nodes would have the rows to do for a while.
const COSTS: [u64; 2] = [4_000, 10];

const KEYS: u64 = 4_000;

/// The hot spot goes over half of the keys once, so slowly that it comes to new ones as long as anybody is killed.
const DURATION: &str = "180s";

/// Times as fast as it was: some 160 requests a second, nine of ten of them writes.
const TRACE_SPEED: &str = "2";

const TRACE: &str =
    concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/traces/mooncake_conversation.csv.zst");

/// Of the trace: with costs that are equal, 0.3 of what they can do. A node that starts again must take in what came
/// meanwhile before the reads that wait for it are given up.
const TRACE_UNIT: u64 = 54_000;

const TRACE_COSTS: [u64; 2] = [1_000; 2];

/// The trace comes to them in three minutes.
const TRACE_KEYS: u64 = 24_000;

/// All of the load begins at one node; so many ticks the planner has to spread it. Who starts again takes in what its
/// node had not done yet, and of such a beginning that takes as long as a read may wait.
const SPREAD_TICKS: u64 = 20;

/// The load is there for so many, at least.
const TICKS: u64 = 60;

/// A copy takes a second or so, and can be seen half done.
const PAYLOAD_BYTES: &str = "8000";

/// What is played, on which nodes.
struct Form<'a> {
    name: &'static str,
    keys: u64,
    unit: u64,
    costs: [u64; 2],
    played: &'a [&'a str],
    fill: &'a [&'a str],
}

#[test]
fn nothing_is_lost_though_a_hot_spot_moves_and_all_are_killed() {
    let keys = KEYS.to_string();
    let played = ["--scenario", "moving-hotspot", "--keys", &keys, "--duration", DURATION];
    let rates = ["--reads-per-s", READS_PER_S, "--writes-per-s", "10"];
    let played = [&played[..], &rates].concat();
    for seed in seeds() {
        let form = Form {
            name: "hotspot",
            keys: KEYS,
            unit: UNIT,
            costs: COSTS,
            played: &played,
            fill: &["--fill"],
        };
        form.run(seed);
    }
}

#[test]
fn nothing_is_lost_though_a_trace_goes_along_the_keys_and_all_are_killed() {
    if !Path::new(TRACE).exists() {
        return say(&format!("SKIPPED balanced with a real trace: there is no {TRACE}"));
    }
    let played = ["--trace", TRACE, "--speed", TRACE_SPEED];
    for seed in seeds() {
        let form = Form {
            name: "mooncake",
            keys: TRACE_KEYS,
            unit: TRACE_UNIT,
            costs: TRACE_COSTS,
            played: &played,
            fill: &[],
        };
        form.run(seed);
    }
}

impl Form<'_> {
    fn run(&self, seed: u64) {
        let Self { name, keys, unit, costs: [read_us, write_us], played, fill } = self;
        let Some(mut world) = World::create(name, &[]) else { return };
        say(&format!("balanced, {name}: seed {seed}"));
        world.birth_nodes = NODES.len() as u32;
        let more = format!(
            r#"birth_ranges = 16
            key_first = "0x0000000000000000"
            key_last = "0x{keys:016x}"
            [costs]
            read_us = {read_us}
            write_us = {write_us}
            [channel]
            watermark_every = "500ms"
            [worker]
            report_every = "300ms"
            grace = "1s""#
        );
        world.more = more.leak();
        world.policy = "bandwidth_bytes_per_s = 150000";
        let capacities = [1, 2, 3, 4].map(|it| Some(it * unit));
        let mut cluster = Cluster::start(&world, &Size { capacities, tick: "1s" });
        let mut told = Told::follow(&world.connection);
        let routers = cluster.routers.each_ref().map(|it| it.port());
        let seed_text = seed.to_string();
        let more = ["--payload-bytes", PAYLOAD_BYTES, "--seed", &seed_text];
        let played = [*played, &more].concat();
        let mut loads = Loads::start(&world, name, routers, played, fill);

        let first = cluster.planner.await_tick(&world, 0);
        cluster.planner.await_tick(&world, first + SPREAD_TICKS);
        let mut kills = Kills::new(seed);
        for _ in 0..rounds() {
            kills.all(&world, &mut cluster, &mut told, &mut loads);
        }
        cluster.planner.await_tick(&world, first + TICKS);
        loads.end();
        kills.check(&told);

        // While ranges move all the time, what a node holds cannot be told for long enough.
        await_rest(&world, &mut told);
        let said =
            check(&world, &["verify", "--timeout", "100s"], Exit::Done, "0 missing, 0 extra");
        assert!(said.contains("0 stale, 0 foreign; 0 gaps, 0 overlaps"), "{said}");
        cluster.planner.signal("-TERM");
        let status = cluster.planner.await_end();
        assert_eq!(status.code(), Some(Exit::Done as i32), "the planner has ended");
        told.catch_up();
        whole::check(&world, &told);
    }
}

/// Waits until nothing moves; what is copied takes as long as it does.
fn await_rest(world: &World, told: &mut Told) {
    let mut is_at_rest = false;
    while !is_at_rest {
        let before = told.moves.clone();
        is_at_rest = await_that("the end of all moves, or a step of one", || {
            told.catch_up();
            let has_ended = told.chosen.keys().all(|it| !told.course(*it).ends.is_empty());
            let is_settled = |it: &Value| it["migration"].is_null();
            let is_at_rest = has_ended && ranges(world)?.iter().all(is_settled);
            (is_at_rest || told.moves != before).then_some(is_at_rest)
        });
    }
}

fn seeds() -> impl Iterator<Item = u64> {
    let first = number("ISOTHERM_BALANCED_SEED").unwrap_or_else(now_ms);
    (0..number("ISOTHERM_BALANCED_SEEDS").unwrap_or(1)).map(move |it| first + it)
}

fn rounds() -> u64 {
    number("ISOTHERM_BALANCED_ROUNDS").unwrap_or(1)
}

/// Returns the number that a variable is, if it is set.
fn number(variable: &str) -> Option<u64> {
    let value = std::env::var(variable).ok()?;
    Some(u64::from_str(&value).unwrap_or_else(|err| panic!("{variable}={value}: {err}")))
}
