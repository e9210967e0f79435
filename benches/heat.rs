//! Measures the heat dataflow: CPU of one thread, ratios within one run, medians.
//!
//! `cargo bench --bench heat`. The parts that are compared take turns, so that what else runs on the
//! machine meets all of them.

mod scale;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};

use cpu_time::ThreadTime;
use dataflows::heat::{Heat, WIDTHS};
use dataflows::splits::{SplitChange, Splits};
use dataflows::tally::{Costs, Payload, Query, Rules, Tally};
use dataflows::window::Window;
use dataflows::{Pipeline, Tick, heatmap, pipeline, sums};
use differential_dataflow::operators::CountTotal;
use differential_dataflow::{AsCollection, VecCollection};
use rand::{Rng, SeedableRng};
use rand_distr::Zipf;
use rand_pcg::Pcg64;
use scale::or_smoke;
use schemas::query_log::Op;
use schemas::wire::DecodeError;
use schemas::{CellId, Key, Millis, NodeId, RangeId};
use timely::dataflow::ProbeHandle;
use timely::dataflow::operators::vec::Map;
use timely::dataflow::operators::{Input, Probe};

const RULES: Rules = Rules {
    costs: Costs { read_us: 100, scan_us: 500, write_us: 200 },
    tick_ms: 5000,
    key_bytes_max: 4096,
};
const KEY_BYTES: usize = 40;
const ENTRY_BYTES: usize = KEY_BYTES + 1;
const ENTRIES_A_RECORD: usize = 100;
const REPEATS: usize = 5;

fn entries_a_tick() -> usize {
    or_smoke(200_000, 2000)
}

fn main() {
    if !scale::is_asked() {
        return;
    }
    look_up_and_add();
    close();
    against_naive();
    whole_tick();
}

/// (c) What it costs to find the cell of a query and to add it up.
fn look_up_and_add() {
    println!("\nlook up and add, million entries per CPU second (median of {REPEATS})");
    println!(
        "{:>9} {:>12} {:>12} {:>14} {:>18}",
        "cells", "look up", "tally", "tally, sampled", "binary search"
    );
    for &cells in or_smoke(&[1000, 10_000, 100_000][..], &[1000]) {
        let starts = starts(cells);
        let mut splits = Splits::default();
        splits.apply(inserts(&starts));
        let payloads = payloads(1, entries_a_tick());
        let keys: Vec<_> = payloads
            .iter()
            .flat_map(|it| it.value.chunks(ENTRY_BYTES))
            .map(|it| &it[..KEY_BYTES])
            .collect();
        let rate = |times: &mut Vec<f64>, run: &mut dyn FnMut()| {
            times.push(entries_a_tick() as f64 / 1e6 / cpu(run));
        };
        let mut times = [const { Vec::new() }; 4];
        let mut tally = tally(&starts, false);
        let mut sampled = self::tally(&starts, true);
        for _ in 0..REPEATS {
            let [look_up, add, sample, search] = &mut times;
            rate(look_up, &mut || {
                std::hint::black_box(keys.iter().filter_map(|key| splits.rank(key)).sum::<usize>());
            });
            for (tally, times) in [(&mut tally, add), (&mut sampled, sample)] {
                let payloads = payloads.clone();
                rate(times, &mut || {
                    payloads.iter().for_each(|it| tally.add(0, it.clone(), read));
                    std::hint::black_box(tally.close().sums.len());
                });
            }
            rate(search, &mut || {
                let rank = |key: &&[u8]| starts.partition_point(|it| it.0.as_slice() <= *key);
                std::hint::black_box(keys.iter().map(rank).sum::<usize>());
            });
        }
        let [a, b, c, d] = times.map(median);
        println!("{cells:>9} {a:>12.1} {b:>12.1} {c:>14.1} {d:>18.1}");
    }
    let mut splits = Splits::default();
    splits.apply(inserts(&starts(100_000)));
    let one = (0..101).map(|at| {
        let start =
            Key([b"user".as_slice(), &(at * 0x00ab_cdef_0123_4567_u64).to_be_bytes(), b"x"]
                .concat());
        let change = vec![SplitChange::Insert { start, cell: CellId(1 << 40 | at) }];
        cpu(&mut || splits.apply(change.clone())) * 1e3
    });
    println!("one insertion at 100,000 cells: {:.2} ms (median)", median(one.collect()));
}

/// (b) What it costs to close a tick, with everything in the window.
fn close() {
    println!("\nclose of a tick at 100,000 cells, 120 ticks full, CPU ms");
    println!(
        "{:>22} {:>8} {:>9} {:>8} {:>8} {:>12}",
        "widths", "active", "rows", "p50", "p99", "bytes a cell"
    );
    close_of("120", [120], 1000);
    if or_smoke(false, true) {
        return;
    }
    close_of("120", [120], 100_000);
    close_of("1, 6, 30, 120", WIDTHS, 1000);
    close_of("1, 6, 30, 120", WIDTHS, 100_000);
}

fn close_of<const N: usize>(name: &str, widths: [Tick; N], active: u64) {
    const CELLS: u64 = 100_000;
    let before = LIVE.load(Ordering::Relaxed);
    let mut window = Window::new(widths);
    let mut rng = Pcg64::seed_from_u64(1);
    let mut part = Heat { reads: 3, writes: 1, read_us: 300, write_us: 200, bytes: 4096 };
    let mut rows = Vec::new();
    let mut tick_of = |window: &mut Window<N>, tick: Tick, active: u64| {
        let cells: Vec<_> = match active {
            CELLS => (0..CELLS).collect(),
            _ => (0..active).map(|_| rng.random_range(0..CELLS)).collect(),
        };
        // Unlike in any tick of which something expires now, or nothing would change.
        part.reads = 1 + (tick * 7 % 241) as i64;
        let parts: Vec<_> = cells
            .into_iter()
            .map(|it| (CellId(it.wrapping_mul(0x9e37_79b9_7f4a_7c15)), part))
            .collect();
        rows.clear();
        let took = cpu(&mut || {
            parts.iter().for_each(|(cell, part)| window.add(*cell, tick, *part));
            window.close(tick, |cell, change| rows.push((cell, tick, change)));
        });
        (took * 1e3, rows.len())
    };
    // Every cell has heat, and the window is full of what is measured.
    tick_of(&mut window, 0, CELLS);
    (1..125).for_each(|tick| _ = tick_of(&mut window, tick, active));
    // What the window holds; with all cells active, its sets of cells are at their largest.
    let bytes = (LIVE.load(Ordering::Relaxed) - before) / CELLS as usize;
    let mut said = 0;
    let ticks = if active == CELLS { 125..325 } else { 125..1125 };
    let time_of = |tick| {
        let (ms, rows) = tick_of(&mut window, tick, active);
        said = rows;
        ms
    };
    let mut times: Vec<_> = ticks.map(time_of).collect();
    times.sort_by(f64::total_cmp);
    let at = |part: f64| times[(times.len() as f64 * part) as usize];
    println!("{name:>22} {active:>8} {said:>9} {:>8.2} {:>8.2} {bytes:>12}", at(0.5), at(0.99));
}

/// (a) The window dataflow against a naive one of the same stream and width.
fn against_naive() {
    println!(
        "\nwidth of 4 ticks, {} entries a tick, million entries per CPU second (median of {REPEATS})",
        entries_a_tick()
    );
    println!(
        "{:>9} {:>9} {:>9} {:>7} {:>17} {:>7}",
        "cells", "naive", "window", "ratio", "window, as rows", "ratio"
    );
    let ticks: Vec<_> = (0..12).map(|seed| payloads(seed, entries_a_tick())).collect();
    for &cells in or_smoke(&[10_000, 100_000][..], &[1000]) {
        let starts = starts(cells);
        let (mut naive_rates, mut ours, mut rows) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..REPEATS {
            naive_rates.push(rate(&ticks, &starts, naive));
            ours.push(rate(&ticks, &starts, window));
            rows.push(rate(&ticks, &starts, window_as_rows));
        }
        let ratio =
            |rates: &[f64]| median(rates.iter().zip(&naive_rates).map(|(a, b)| a / b).collect());
        let (window, as_rows) = (ratio(&ours), ratio(&rows));
        let (a, b, c) = (median(naive_rates.clone()), median(ours), median(rows));
        println!("{cells:>9} {a:>9.2} {b:>9.2} {window:>7.1} {c:>17.2} {as_rows:>7.1}");
    }
}

/// What a dataflow under test is built from.
struct Inputs<'scope> {
    payloads: sums::Payloads<'scope>,
    splits: sums::SplitChanges<'scope>,
    reshapes: heatmap::Reshapes<'scope>,
    starts: Vec<Key>,
}

type Build = for<'scope> fn(Inputs<'scope>, &ProbeHandle<Tick>);

/// Million entries per CPU second, after the first four ticks.
fn rate(ticks: &[Vec<Payload>], starts: &[Key], build: Build) -> f64 {
    let (starts, ticks) = (starts.to_vec(), ticks.to_vec());
    timely::execute_directly(move |worker| {
        let probe = ProbeHandle::new();
        let (mut feed, mut splits_feed, mut reshapes_feed) = worker.dataflow(|scope| {
            let (feed, payloads) = scope.new_input();
            let (splits_feed, splits) = scope.new_input();
            let (reshapes_feed, reshapes) = scope.new_input();
            build(Inputs { payloads, splits, reshapes, starts: starts.clone() }, &probe);
            (feed, splits_feed, reshapes_feed)
        });
        inserts(&starts).into_iter().for_each(|change| splits_feed.send((change, 0)));
        let (mut took, mut entries) = (0.0, 0);
        for (tick, payloads) in (0..).zip(ticks) {
            let count = payloads.len() * ENTRIES_A_RECORD;
            let time = ThreadTime::now();
            payloads.into_iter().for_each(|it| feed.send((it, tick)));
            feed.advance_to(tick + 1);
            splits_feed.advance_to(tick + 1);
            reshapes_feed.advance_to(tick + 1);
            worker.step_while(|| probe.less_equal(&tick));
            if tick >= 4 {
                (took, entries) = (took + time.elapsed().as_secs_f64(), entries + count);
            }
        }
        entries as f64 / 1e6 / took
    })
}

/// Each query a row with its heat, and its expiry a row of a later tick.
fn naive(it: Inputs<'_>, probe: &ProbeHandle<Tick>) {
    let mut splits = Splits::default();
    splits.apply(inserts(&it.starts));
    let rows = it.payloads.flat_map(move |(payload, tick)| {
        let mut rows = Vec::new();
        _ = read(&payload.value, &mut |query: Query<'_>| {
            let rank = splits.rank(query.key).expect("the first cell begins at the empty key");
            let heat =
                Heat { reads: 1, read_us: 100, bytes: query.bytes as i64, ..Heat::default() };
            rows.extend([(splits.cell(rank), tick, heat), (splits.cell(rank), tick + 4, -heat)]);
        });
        rows
    });
    rows.as_collection().count_total().inner.probe_with(probe);
}

fn window_of_four<'scope>(it: Inputs<'scope>) -> VecCollection<'scope, Tick, CellId, Heat> {
    let (sums, _) = sums::sums(it.payloads, it.splits, RULES, read);
    let window = Rc::new(RefCell::new(Window::new([4])));
    heatmap::windows(sums, it.reshapes, window, |[heat]| heat)
}

fn window(it: Inputs<'_>, probe: &ProbeHandle<Tick>) {
    window_of_four(it).inner.probe_with(probe);
}

fn window_as_rows(it: Inputs<'_>, probe: &ProbeHandle<Tick>) {
    window_of_four(it).count_total().inner.probe_with(probe);
}

/// (d) A whole tick of heat: cells, ranges and nodes.
fn whole_tick() {
    println!(
        "\nwhole tick of heat, 1 % of the cells active, ten cells a range, 100 nodes, CPU ms of one timely worker"
    );
    println!("{:>9} {:>14} {:>14}", "cells", "p50", "p99");
    for &cells in or_smoke(&[1000, 10_000, 100_000][..], &[1000]) {
        let mut took = timely::execute_directly(move |worker| {
            let mut it = worker.dataflow(|scope| pipeline(scope, RULES, read));
            ticks_of(worker, &mut it, cells)
        });
        took.sort_by(f64::total_cmp);
        let last = took[took.len() * 99 / 100];
        println!("{cells:>9} {:>14.2} {last:>14.2}", median(took));
    }
}

fn ticks_of(worker: &mut timely::worker::Worker, it: &mut Pipeline, cells: u64) -> Vec<f64> {
    let starts = starts(cells as usize);
    inserts(&starts).into_iter().for_each(|change| it.heat.splits.send((change, 0)));
    (0..cells).for_each(|cell| it.heat.cell_ranges.insert((id(cell), RangeId(cell / 10))));
    for range in 0..cells / 10 {
        it.heat.range_nodes.insert((RangeId(range), NodeId(format!("node-{}", range % 100))));
    }
    let mut rng = Pcg64::seed_from_u64(3);
    let mut took = Vec::new();
    for tick in 0..300 {
        let active: Vec<_> = if tick == 0 {
            (0..cells).collect()
        } else {
            (0..cells / 100).map(|_| rng.random_range(0..cells)).collect()
        };
        let mut value = Vec::new();
        for cell in &active {
            let mut key = starts[*cell as usize].0.clone();
            key.resize(KEY_BYTES, b'k');
            value.extend(key);
            value.push(1);
        }
        let payload = Payload { partition: 0, offset: tick, stamp: Millis(tick * 5000), value };
        let time = ThreadTime::now();
        it.heat.payloads.send((payload, tick));
        it.heat.advance_to(tick + 1);
        worker.step_while(|| !it.heat.is_settled(tick));
        if tick > 125 {
            took.push(time.elapsed().as_secs_f64() * 1e3);
        }
        let stage = &it.heat;
        _ = (stage.cells.drain(), stage.ranges.drain(), stage.nodes.drain(), stage.reports.drain());
    }
    took
}

fn id(cell: u64) -> CellId {
    CellId(cell.wrapping_mul(0x9e37_79b9_7f4a_7c15))
}

/// Uniform starts behind a common prefix, the first one empty.
fn starts(cells: usize) -> Vec<Key> {
    let step = u64::MAX / cells as u64;
    let start = |at: u64| Key([b"user".as_slice(), &(at * step).to_be_bytes()].concat());
    std::iter::once(Key::default()).chain((1..cells as u64).map(start)).collect()
}

fn inserts(starts: &[Key]) -> Vec<SplitChange> {
    let insert =
        |(at, start): (u64, &Key)| SplitChange::Insert { start: start.clone(), cell: id(at) };
    (0..).zip(starts).map(insert).collect()
}

fn tally(starts: &[Key], sampled: bool) -> Tally {
    let mut tally = Tally::new(RULES);
    tally.split(inserts(starts));
    if sampled {
        // One cell in a hundred, as when the hottest are watched.
        tally.split(
            starts
                .iter()
                .step_by(100)
                .map(|start| SplitChange::Watch { start: start.clone() })
                .collect(),
        );
    }
    tally
}

/// Records of a tick: keys of 40 bytes, Zipf over ten million, scattered over the key space.
fn payloads(seed: u64, entries: usize) -> Vec<Payload> {
    let mut rng = Pcg64::seed_from_u64(seed);
    let zipf = Zipf::new(10_000_000.0, 0.99).expect("a distribution");
    let record = |offset: usize| {
        let mut value = Vec::with_capacity(ENTRIES_A_RECORD * ENTRY_BYTES);
        for _ in 0..ENTRIES_A_RECORD {
            let key = (rng.sample(zipf) as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            value.extend(b"user");
            value.extend(key.to_be_bytes());
            value.extend([b'k'; KEY_BYTES - 12]);
            value.push(rng.random_range(0..255));
        }
        Payload { partition: 0, offset: offset as u64, stamp: Millis(seed * 5000), value }
    };
    (0..entries / ENTRIES_A_RECORD).map(record).collect()
}

/// Reads entries of a fixed size: decoding is measured elsewhere.
fn read(value: &[u8], each: &mut dyn FnMut(Query<'_>)) -> Result<usize, DecodeError> {
    let entries = value.chunks_exact(ENTRY_BYTES);
    let count = entries.len();
    for entry in entries {
        let op = if entry[KEY_BYTES] < 64 { Op::Write } else { Op::Read };
        let (time, bytes) = (Millis(u64::MAX), u64::from(entry[KEY_BYTES]));
        each(Query {
            time,
            key: &entry[..KEY_BYTES],
            op,
            cost_us: Some(100),
            bytes,
            estimated: false,
        });
    }
    Ok(count)
}

/// CPU seconds of this thread.
fn cpu(run: &mut dyn FnMut()) -> f64 {
    let time = ThreadTime::now();
    run();
    time.elapsed().as_secs_f64()
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

/// Counts the bytes that are allocated.
struct Counting;

static LIVE: AtomicUsize = AtomicUsize::new(0);

#[global_allocator]
static ALLOCATOR: Counting = Counting;

// SAFETY: all is passed on to the system's allocator; only sizes are added up besides.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        LIVE.fetch_add(layout.size(), Ordering::Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(at, layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        LIVE.fetch_add(layout.size(), Ordering::Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        LIVE.fetch_add(size, Ordering::Relaxed);
        LIVE.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.realloc(at, layout, size) }
    }
}
