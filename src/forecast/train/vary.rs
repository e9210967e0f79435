//! Makes of a panel others that could have been: so that a network learns what holds for many.
//!
//! ```text
//!  ranges joined in groups of 1 to 4 ──> bins joined in twos ──> load thinned, or all of it greater
//! ```

use rand::Rng;
use rand_pcg::Pcg64;

use crate::forecast::OPS;
use crate::forecast::panel::Panel;

/// Longer panels give a part of so many bins.
const BINS_MAX: usize = 20_000;
/// Shorter panels keep their bins.
const HALVED_MIN: usize = 600;

/// Another panel, drawn from this one.
pub fn varied(panel: &Panel, random: &mut Pcg64) -> Panel {
    let mut it = part(panel, random);
    if 4 < it.ranges() && random.random_bool(0.7) {
        join_ranges(&mut it, random);
    }
    if HALVED_MIN < it.bins.len() && random.random_bool(0.4) {
        join_bins(&mut it);
    }
    match random.random_range(0..10) {
        0..6 => thin(&mut it, random.random_range(0.2..0.9), random),
        6..8 => {
            let factor = random.random_range(1.0..8.0_f32);
            loads(&mut it).for_each(|load| *load *= factor);
        }
        _ => (),
    }
    it
}

fn part(panel: &Panel, random: &mut Pcg64) -> Panel {
    let spare = panel.bins.len().saturating_sub(BINS_MAX);
    let from = random.random_range(0..=spare);
    let bins = panel.bins[from..].iter().take(BINS_MAX).cloned().collect();
    Panel { bins, ..panel.clone_without_bins() }
}

fn join_ranges(panel: &mut Panel, random: &mut Pcg64) {
    let size = random.random_range(1..=4_usize);
    let offset = random.random_range(0..size);
    let groups = (panel.ranges() + offset).div_ceil(size);
    for bin in &mut panel.bins {
        let mut joined = vec![[0.0; OPS]; groups];
        for (range, loads) in bin.iter().enumerate() {
            let group = &mut joined[(range + offset) / size];
            group.iter_mut().zip(loads).for_each(|(sum, load)| *sum += load);
        }
        *bin = joined;
    }
}

fn join_bins(panel: &mut Panel) {
    let sum = |two: &[Vec<[f32; OPS]>]| {
        two[0].iter().zip(&two[1]).map(|(a, b)| [a[0] + b[0], a[1] + b[1]]).collect()
    };
    panel.bins = panel.bins.chunks_exact(2).map(sum).collect();
    panel.bin_ms *= 2;
}

/// Keeps a part of the operations, each by chance.
fn thin(panel: &mut Panel, kept: f32, random: &mut Pcg64) {
    for load in loads(panel).filter(|it| 0.0 < **it) {
        // A normal number, of twelve even ones, stands for the binomial.
        let normal = (0..12).map(|_| random.random::<f32>()).sum::<f32>() - 6.0;
        let mean = *load * kept;
        let drawn = mean + (mean * (1.0 - kept)).sqrt() * normal;
        *load = drawn.round().clamp(0.0, *load);
    }
}

fn loads(panel: &mut Panel) -> impl Iterator<Item = &mut f32> {
    panel.bins.iter_mut().flatten().flatten()
}
