//! Measures one tick of the whole ladder over many ranges, and the step of its network beside the same
//! step by onnxruntime.
//!
//! ```text
//!  answer = features + linear model + network + calibration of all models + who leads
//!           └ Book ┘                  └ Network::answer, Network::advance ┘
//! ```
//!
//! `cargo bench --bench forecast`. Time is CPU of all threads and by the clock; onnxruntime has one thread. onnxruntime is asked by `benches/gru_onnx.py`; without it that part is skipped, loudly.

mod took;
mod scale;

use std::process::Command;

use isotherm::forecast::OPS;
use isotherm::forecast::features::Book;
use isotherm::forecast::gru::{BLOCK, HIDDEN, INPUTS, Network, Seen};
use isotherm::forecast::ladder::Ladder;
use isotherm::forecast::linear::Linear;
use isotherm::forecast::model::Model;
use isotherm::forecast::panel::Panel;
use rand::{Rng, SeedableRng};
use rand_distr::{Distribution, Poisson};
use rand_pcg::Pcg64;
use scale::or_smoke;
use took::{Took, timed};

const TICK_MS: u64 = 5_000;
/// Until every target has been calibrated.
const WARM_TICKS: usize = 45;
const REPEATS: usize = 5;

fn ranges() -> usize {
    or_smoke(100_000, 200)
}

fn main() {
    if !scale::is_asked() {
        return;
    }
    println!("{} ranges × {OPS} operations; seconds, medians of {REPEATS}", ranges());
    network();
    ladder();
}

/// Steps of the network alone.
fn network() {
    let mut random = Pcg64::seed_from_u64(1);
    let mut any = || random.random_range(-2.0..2.0_f32);
    let rows = ranges() * OPS;
    let seen: Vec<_> = (0..rows)
        .map(|_| Seen {
            inputs: std::array::from_fn(|_| any()),
            statics: std::array::from_fn(|_| any()),
        })
        .collect();
    let network = Network::new(&Model::shipped().weights);
    let mut states = vec![[0.0; HIDDEN]; rows];
    for block in [64, 256, 1_024, 4_096, 16_384, rows] {
        let took = median(|| {
            let blocks = seen.chunks(block).zip(states.chunks_mut(block));
            blocks.for_each(|(seen, states)| _ = network.answer(seen, states));
        });
        tell(&format!("network, whole answer, blocks of {block}"), took);
    }
    let mut ours = Vec::new();
    let mut theirs = Vec::new();
    for _ in 0..3 {
        ours.push(median(|| {
            let blocks = seen.chunks(BLOCK).zip(states.chunks_mut(BLOCK));
            blocks.for_each(|(seen, states)| network.advance(seen, states));
        }));
        theirs.extend(onnxruntime(rows));
    }
    let wall = |all: &[f64]| {
        let mut all = all.to_vec();
        all.sort_by(f64::total_cmp);
        all[all.len() / 2]
    };
    let ours: Vec<_> = ours.iter().map(|it| it.wall).collect();
    println!(
        "{:<48} {:>8.3} by the clock {ours:.3?}",
        "network, GRU step alone, in its blocks",
        wall(&ours)
    );
    if !theirs.is_empty() {
        println!(
            "{:<48} {:>8.3} by the clock {theirs:.3?}",
            "onnxruntime, the same GRU step",
            wall(&theirs)
        );
        println!("GRU step ÷ onnxruntime: {:.2} (goal: 1.5)", wall(&ours) / wall(&theirs));
    }
}

/// What the same step takes there, if it is there.
fn onnxruntime(rows: usize) -> Option<f64> {
    let python = std::env::var("ISOTHERM_TEST_PYTHON").unwrap_or_else(|_| "python3".into());
    let args = ["benches/gru_onnx.py", &rows.to_string(), &INPUTS.to_string(), &HIDDEN.to_string()];
    let output = match Command::new(&python).args(args).output() {
        Ok(output) => output,
        Err(error) => {
            println!("SKIPPED onnxruntime: {python}: {error}");
            return None;
        }
    };
    let told = String::from_utf8_lossy(&output.stdout).trim().parse().ok();
    if told.is_none() {
        let reason = String::from_utf8_lossy(&output.stderr);
        let reason = reason.lines().last().unwrap_or("it said nothing");
        println!(
            "SKIPPED onnxruntime: {reason} (pip install onnx onnxruntime, and ISOTHERM_TEST_PYTHON)"
        );
    }
    told
}

/// Whole ticks of the ladder.
fn ladder() {
    let mut random = Pcg64::seed_from_u64(2);
    let levels: Vec<f64> = (0..ranges()).map(|it| 2.0 + (it % 97) as f64).collect();
    let mut loads = || -> Vec<[f32; OPS]> {
        let load = |random: &mut Pcg64, level: f64| {
            Poisson::new(level).expect("a level is positive").sample(random) as f32
        };
        levels.iter().map(|it| [load(&mut random, *it), load(&mut random, it / 10.0)]).collect()
    };
    let ladder = || {
        let mut ladder = Ladder::new(ranges(), TICK_MS, &[0, 1]);
        ladder.sample(256);
        ladder.set_linear(linear());
        ladder.refit(5);
        ladder
    };
    let (mut whole, mut without) = (ladder(), ladder());
    whole.set_network(Network::new(&Model::shipped().weights));
    let mut book = Book::new(ranges(), TICK_MS);
    for _ in 0..WARM_TICKS {
        let loads = loads();
        whole.answer(&loads);
        without.answer(&loads);
        book.observe(&loads);
    }
    let mut took = [const { Vec::new() }; 3];
    for _ in 0..REPEATS {
        let loads = loads();
        took[0].push(timed(|| {
            book.observe(&loads);
            assert_eq!(book.look().0.len(), ranges() * OPS);
        }));
        took[1].push(timed(|| _ = without.answer(&loads)));
        took[2].push(timed(|| _ = whole.answer(&loads)));
    }
    let [features, without, whole] = took.map(|it| middle(&it));
    tell("features", features);
    tell("ladder without its network, whole tick", without);
    tell("ladder, whole tick", whole);
    println!(
        "all but the network ÷ the network: {:.2} (goal: 1)",
        without.cpu / (whole.cpu - without.cpu)
    );
}

/// A linear model of loads like these.
fn linear() -> [Linear; OPS] {
    let mut random = Pcg64::seed_from_u64(3);
    let header: Vec<_> =
        ["r", "w"].iter().flat_map(|op| (0..48).map(move |it| format!("{op}{it}"))).collect();
    let mut text = header.join(",") + "\n";
    for _ in 0..200 {
        let line: Vec<_> = (0..96)
            .map(|it| {
                Poisson::new(2.0 + f64::from(it))
                    .expect("it is positive")
                    .sample(&mut random)
                    .to_string()
            })
            .collect();
        text += &(line.join(",") + "\n");
    }
    let panel = Panel::parse("poisson", TICK_MS, &text).expect("it is a panel");
    panel.fit(panel.bins.len()).expect("there is enough of it")
}

fn median(mut work: impl FnMut()) -> Took {
    let all: Vec<_> = (0..REPEATS).map(|_| timed(&mut work)).collect();
    middle(&all)
}

fn middle(all: &[Took]) -> Took {
    let of = |part: &dyn Fn(&Took) -> f64| {
        let mut all: Vec<_> = all.iter().map(part).collect();
        all.sort_by(f64::total_cmp);
        all[all.len() / 2]
    };
    Took { wall: of(&|it| it.wall), cpu: of(&|it| it.cpu) }
}

fn tell(what: &str, took: Took) {
    println!("{what:<48} {:>8.3} by the clock {:>8.3} of CPU", took.wall, took.cpu);
}
