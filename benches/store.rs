//! Measures how fast the store of a worker applies entries, against a bare loop over the same tree, and
//! what memory it takes.
//!
//! `cargo bench --bench store`. Both apply the same entries in steps of the same size, on top of what
//! is stored already; the bare loop asks for each key and inserts its value, ready-made, in one batch a
//! step. It knows no versions, decides nothing, and stores no state.

mod bare;
mod took;
mod scale;

use bare::{Bare, Pair, STEP};
use isotherm::store::fjall::{FjallStore, Options};
use isotherm::store::{Limit, Outcome, Snapshot, Store, Write};
use rand::{Rng, SeedableRng};
use rand_pcg::Pcg64;
use scale::or_smoke;
use schemas::range_segment::Entry;
use schemas::{Key, KeySpan, NodeId};
use took::{Took, timed};

const REPEATS: usize = 5;
const MEMORY_BYTES: u64 = 256 << 20;

fn stored() -> u64 {
    or_smoke(300_000, 3000)
}

fn applied() -> usize {
    or_smoke(100_000, 1000)
}

fn main() {
    if !scale::is_asked() {
        return;
    }
    // First, as the peak is that of the process.
    memory();
    println!(
        "\n{} entries onto {}, half of them new, steps of {STEP} \
         (median of {REPEATS}; thousand entries a second)",
        applied(),
        stored()
    );
    println!(
        "{:>8} {:>12} {:>12} {:>12} {:>12} {:>18} {:>18}",
        "payload", "bare, CPU", "store, CPU", "bare, wall", "store, wall", "CPU", "wall"
    );
    for payload in [100, 1024] {
        of(payload);
    }
}

fn of(payload: usize) {
    let rounds: Vec<[Took; 2]> = (0..REPEATS).map(|it| round(payload, it)).collect();
    let sorted = |of: &dyn Fn(&[Took; 2]) -> f64| {
        let mut all: Vec<_> = rounds.iter().map(of).collect();
        all.sort_by(f64::total_cmp);
        all
    };
    let rate = |of: &dyn Fn(&[Took; 2]) -> f64| applied() as f64 / sorted(of)[REPEATS / 2] / 1e3;
    let ratio = |of: &dyn Fn(&[Took; 2]) -> f64| {
        let all = sorted(of);
        format!("{:.2} ({:.2}-{:.2})", all[REPEATS / 2], all[0], all[REPEATS - 1])
    };
    println!(
        "{payload:>8} {:>12.0} {:>12.0} {:>12.0} {:>12.0} {:>18} {:>18}",
        rate(&|it| it[0].cpu),
        rate(&|it| it[1].cpu),
        rate(&|it| it[0].wall),
        rate(&|it| it[1].wall),
        ratio(&|it| it[0].cpu / it[1].cpu),
        ratio(&|it| it[0].wall / it[1].wall),
    );
}

/// Measures both, in turns the one and the other first.
fn round(payload: usize, number: usize) -> [Took; 2] {
    let mut rng = Pcg64::seed_from_u64(number as u64);
    let there: Vec<_> = (0..stored()).map(|it| entry(&mut rng, 2 * it, it, payload)).collect();
    let more: Vec<_> = (0..applied() as u64)
        .map(|it| {
            let row = rng.random_range(0..2 * stored());
            entry(&mut rng, row, stored() + it, payload)
        })
        .collect();
    let bare = || bare(&there, &more);
    let store = || store(&there, &more);
    if number.is_multiple_of(2) {
        let first = bare();
        [first, store()]
    } else {
        let first = store();
        [bare(), first]
    }
}

/// The entry of a row: rows with near numbers lie apart.
fn entry(rng: &mut Pcg64, row: u64, offset: u64, payload: usize) -> Entry {
    let index_key = format!("user/{:016x}", row.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let mut bytes = vec![0; payload];
    rng.fill(&mut bytes[..]);
    Entry {
        index_key: Key(index_key.into_bytes()),
        primary_key: Key(row.to_be_bytes().to_vec()),
        partition: 0,
        offset,
        payload: Some(bytes),
    }
}

fn bare(there: &[Entry], more: &[Entry]) -> Took {
    let dir = tempfile::tempdir().expect("a folder for a benchmark");
    let tree = Bare::open(dir.path(), MEMORY_BYTES);
    let apply = |steps: Vec<Vec<Pair>>| steps.into_iter().map(|it| tree.step(it)).sum::<usize>();
    apply(steps(there, bare::ready));
    let steps = steps(more, bare::ready);
    timed(|| assert!(apply(steps) > applied() / 3))
}

/// Stores ten times a budget of memory and reads it again, and tells the peak.
fn memory() {
    let budget_bytes: u64 = or_smoke(64 << 20, 16 << 20);
    const PAYLOAD: usize = 1024;
    let dir = tempfile::tempdir().expect("a folder for a benchmark");
    let options = Options {
        dir: dir.path().join("store"),
        memory_bytes_max: budget_bytes,
        reserve_bytes: 64 << 20,
    };
    let before = resident_bytes("VmRSS:");
    let mut store =
        FjallStore::open(&options, &NodeId("n1".into())).expect("an empty folder can be opened");
    let mut rng = Pcg64::seed_from_u64(7);
    let rows = or_smoke(10, 1) * budget_bytes / PAYLOAD as u64;
    for from in (0..rows).step_by(STEP) {
        let step = from..rows.min(from + STEP as u64);
        let writes = step.map(|it| Write::Put(entry(&mut rng, it, it, PAYLOAD))).collect();
        store.stage(writes).expect("keys can be read");
        store.commit(vec![]).expect("there is room");
    }
    let written = resident_bytes("VmHWM:");
    let snapshot = store.snapshot();
    let limit = Limit { entries: usize::MAX, bytes: 512 << 10 };
    let (mut after, mut read) = (None, 0);
    loop {
        let page = snapshot.page(&KeySpan::all(), after.as_ref(), limit).expect("can be read");
        read += page.entries.len() as u64;
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(read, rows, "all that was stored is read");
    let peak = |it: u64| it.saturating_sub(before) >> 20;
    println!(
        "\nmemory at a budget of {} MiB, entries of {} MiB: peak {} MiB when written, {} when read",
        budget_bytes >> 20,
        (rows * PAYLOAD as u64) >> 20,
        peak(written),
        peak(resident_bytes("VmHWM:")),
    );
}

fn resident_bytes(name: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux tells of processes");
    let line = status.lines().find_map(|it| it.strip_prefix(name)).expect("it is always there");
    let kib = line.trim().trim_end_matches(" kB").parse::<u64>().expect("it is a number");
    kib << 10
}

fn store(there: &[Entry], more: &[Entry]) -> Took {
    let dir = tempfile::tempdir().expect("a folder for a benchmark");
    let options = Options {
        dir: dir.path().join("store"),
        memory_bytes_max: MEMORY_BYTES,
        reserve_bytes: 64 << 20,
    };
    let mut store =
        FjallStore::open(&options, &NodeId("n1".into())).expect("an empty folder can be opened");
    let mut apply = |steps: Vec<Vec<Write>>| {
        let mut found = 0;
        for step in steps {
            let outcomes = store.stage(step).expect("keys can be read");
            let replaces = |it: &&Outcome| matches!(it, Outcome::Changed { replaced: Some(_) });
            found += outcomes.iter().filter(replaces).count();
            let position = (b"position".to_vec(), Some(found.to_le_bytes().to_vec()));
            store.commit(vec![position]).expect("there is room");
        }
        found
    };
    let ready = |it: &Entry| Write::Put(it.clone());
    apply(steps(there, ready));
    let steps = steps(more, ready);
    timed(|| assert!(apply(steps) > applied() / 3))
}

fn steps<T>(entries: &[Entry], ready: impl Fn(&Entry) -> T) -> Vec<Vec<T>> {
    entries.chunks(STEP).map(|it| it.iter().map(&ready).collect()).collect()
}
