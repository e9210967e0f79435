//! Runs all processes of a cluster in one, by one seed: the real machines of planner, workers, channels and
//! routers, around logs in memory, with everything that can go wrong. See `docs/simulation.md`.
//!
//! ```text
//!  somebody ──> planner ──> assignment, commands ──> workers <── requests ── routers <── clients
//!                  ^             │                    ^ │ ^
//!                  └─ statuses ──│────────────────────┼─┘ └─ inboxes: updates, segments, acks
//!                                └──> channels ───────┘
//!  table ────────────────────────────────┘
//! ```
//!
//! * **One seed decides all**: what is written, who goes on next, what is late, lost, repeated or dead.
//! * **Each reads at its own pace**: every process has a position of its own in every log.
//! * **At the end all heals**, comes to rest, and is looked at: see [`checks`].

mod options;
mod logs;
mod dataflow;
mod planner;
mod workers;
mod channels;
mod routers;
mod client;
mod operator;
mod world;
mod reads;
mod faults;
mod heal;
mod checks;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use world::World;

const SEEDS: u64 = 500;

/// What must have happened over all seeds, or else they prove nothing.
const HAPPENED: [&str; 49] = [
    "ask_source",
    "cancels",
    "channel died",
    "channel was late in the map",
    "channel was replaced",
    "channels were away",
    "complete",
    "connection_lost",
    "credit renewed before the end of a stream",
    "failed, cancelled",
    "handovers",
    "hint_followed",
    "joins",
    "map was compacted",
    "moved",
    "moves",
    "moves back asked for",
    "moves by heat",
    "moves refused",
    "partition was handed over",
    "planner died",
    "planner was replaced",
    "ranges built again",
    "ranges that came back",
    "reads",
    "reads answered",
    "rebuilds asked for",
    "rebuilds asked for again",
    "router died",
    "router was late in the map",
    "rows",
    "rows compacted away unread",
    "rows read by a zombie channel",
    "splits",
    "steps with a stream given up for its backlog",
    "streams begun again",
    "table was compacted",
    "tombstones collected",
    "tombstones of the table",
    "unreachable",
    "updates passed on",
    "updates sent again",
    "watermarks passed on",
    "worker died",
    "worker died in a step",
    "worker was away",
    "worker was late in its inbox",
    "worker was late in the map",
    "worker_has_older_map",
];

#[test]
fn nothing_is_lost_whatever_goes_wrong_even_seeds() {
    run(0);
}

#[test]
fn nothing_is_lost_whatever_goes_wrong_odd_seeds() {
    run(1);
}

/// Runs every other seed.
fn run(rest: u64) {
    let number = |name| std::env::var(name).ok().map(|it| it.parse::<u64>().unwrap());
    if let Some(seed) = number("ISOTHERM_SIM_SEED") {
        if seed % 2 == rest {
            println!("{:?}", one(seed));
        }
        return;
    }
    let seeds = number("ISOTHERM_SIM_SEEDS").unwrap_or(SEEDS);
    let mut happened = BTreeMap::<&str, u64>::new();
    for seed in (1..=seeds).filter(|it| it % 2 == rest) {
        for (what, times) in one(seed) {
            *happened.entry(what).or_default() += times;
        }
    }
    println!("{happened:#?}");
    if SEEDS <= seeds {
        let is_missed = |it: &&&str| happened.get(**it).is_none_or(|times| *times == 0);
        let missed: Vec<_> = HAPPENED.iter().filter(is_missed).collect();
        assert!(missed.is_empty(), "{missed:?} did not happen: {happened:?}");
    }
}

/// Runs one seed; tells what happened how often.
fn one(seed: u64) -> BTreeMap<&'static str, u64> {
    let mut world = World::new(seed);
    let run = catch_unwind(AssertUnwindSafe(|| {
        if world.options.begins_settled {
            world.settle_down();
        }
        for _ in 0..world.options.steps {
            world.step();
        }
        world.heal();
    }));
    if let Err(panic) = run {
        println!("seed {seed} of {:?}{}", world.options, world.told());
        resume_unwind(panic);
    }
    world.happened
}
