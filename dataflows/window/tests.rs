use rand::{Rng, SeedableRng};
use rand_pcg::Pcg64;

use super::*;

const WIDTHS: [Tick; 3] = [1, 3, 7];

/// The sums of each cell and tick, as a map; forgets nothing by itself.
type History = BTreeMap<(CellId, Tick), Heat>;

/// Random sums, forgettings and histories, against a map of all sums that is summed anew at each tick.
#[test]
fn changes_accumulate_to_the_sums_over_each_window() {
    for seed in 0..400 {
        println!("seed {seed}");
        let mut rng = Pcg64::seed_from_u64(seed);
        let mut window = Window::new(WIDTHS);
        let (mut history, mut rolling) = (History::new(), BTreeMap::new());
        let last = rng.random_range(5..60);
        // With many cells, sets of them are bits; with few, lists.
        let (cells, parts) = if seed % 20 == 0 { (900, 300) } else { (5, 4) };
        for tick in 0..last {
            for _ in 0..rng.random_range(0..parts) * rng.random_range(0..2) {
                let (cell, part) = (CellId(rng.random_range(0..cells)), heat(&mut rng));
                window.add(cell, tick, part);
                *history.entry((cell, tick)).or_default() += part;
            }
            if tick > 0 && rng.random_bool(0.2) {
                reshape(&mut rng, tick, &mut window, &mut history);
            }
            run_to(&mut window, tick, &mut rolling);
            assert_eq!(rolling, expected(&history, tick), "at tick {tick}");
            assert_eq!(window.all(), recent(&history, tick), "at tick {tick}");
        }
        run_to(&mut window, last + 7, &mut rolling);
        assert!(rolling.is_empty() && window.next_tick().is_none() && window.cells() == 0);
        assert!(window.slots.wide.is_empty(), "a cold cell holds nothing");
        let free: std::collections::BTreeSet<_> = window.numbers.free.iter().collect();
        assert_eq!(free.len(), window.numbers.cells.len(), "each number is free, once");
    }
}

#[test]
fn window_that_is_loaded_goes_on_as_if_it_had_never_stopped() {
    for seed in 0..200 {
        println!("seed {seed}");
        let mut rng = Pcg64::seed_from_u64(seed);
        let mut window = Window::new(WIDTHS);
        let (mut fresh, mut before, mut after) =
            (Window::new(WIDTHS), BTreeMap::new(), BTreeMap::new());
        let stop = rng.random_range(0..20);
        for tick in 0..40 {
            for _ in 0..rng.random_range(0..4) * rng.random_range(0..2) {
                let (cell, part) = (CellId(rng.random_range(0..5)), heat(&mut rng));
                window.add(cell, tick, part);
                if tick > stop {
                    fresh.add(cell, tick, part);
                }
            }
            run_to(&mut window, tick, &mut before);
            if tick == stop {
                for (cell, of, heat) in window.all() {
                    fresh.reshape(tick + 1, Reshape::Slot(cell, of, heat));
                }
            } else if tick > stop {
                run_to(&mut fresh, tick, &mut after);
                assert_eq!(after, before, "at tick {tick}");
                assert_eq!(fresh.all(), window.all());
            }
        }
    }
}

#[test]
fn quiet_cell_is_not_touched() {
    let mut window = Window::new([10]);
    (0..100).for_each(|cell| window.add(CellId(cell), 0, READ));
    window.add(CellId(7), 1, READ);
    assert_eq!(close(&mut window, 0).len(), 100);
    assert_eq!(close(&mut window, 1), [(CellId(7), [READ])]);
    assert_eq!(window.next_tick(), Some(10));
}

#[test]
fn unchanged_cell_says_nothing() {
    let mut window = Window::new([5]);
    window.add(CellId(1), 0, READ);
    window.add(CellId(1), 5, READ);
    assert_eq!(close(&mut window, 0).len(), 1);
    assert_eq!(close(&mut window, 5), [], "it gets what it loses");
}

#[test]
fn number_of_a_cold_cell_is_given_to_another() {
    let mut window = Window::new([2]);
    for tick in 0..100 {
        window.add(CellId(tick), tick, READ);
        close(&mut window, tick);
    }
    assert!(window.numbers.cells.len() <= 3 && window.slots.blocks.len() == 1);
}

/// Forgets a cell and gives part of its history back: to itself, and to another.
fn reshape(rng: &mut Pcg64, tick: Tick, window: &mut Window<3>, history: &mut History) {
    let (cell, other) = (CellId(rng.random_range(0..5)), CellId(rng.random_range(0..6)));
    for ((_, of), heat) in
        history.extract_if(.., |at, _| at.0 == cell && at.1 < tick).collect::<Vec<_>>()
    {
        let left = heat.part(1, 3);
        for (to, part) in [(cell, left), (other, heat - left)] {
            window.reshape(tick, Reshape::Slot(to, of, part));
            *history.entry((to, of)).or_default() += part;
        }
    }
    // After its slots: order does not count.
    window.reshape(tick, Reshape::Forget(cell));
}

fn run_to(window: &mut Window<3>, tick: Tick, rolling: &mut BTreeMap<CellId, [Heat; 3]>) {
    while let Some(next) = window.next_tick().filter(|next| *next <= tick) {
        window.close(next, |cell, change| {
            let heat = rolling.entry(cell).or_insert([Heat::default(); 3]);
            heat.iter_mut().zip(change).for_each(|(heat, change)| *heat += change);
        });
    }
    rolling.retain(|_, heat| heat.iter().any(|it| !it.is_zero()));
}

fn expected(history: &History, now: Tick) -> BTreeMap<CellId, [Heat; 3]> {
    let mut rolling = BTreeMap::<_, [Heat; 3]>::new();
    for ((cell, of), heat) in history {
        for (at, width) in WIDTHS.into_iter().enumerate().filter(|(_, width)| now < of + width) {
            assert!(width <= 7 && *of <= now);
            rolling.entry(*cell).or_default()[at] += *heat;
        }
    }
    rolling.retain(|_, heat| heat.iter().any(|it| !it.is_zero()));
    rolling
}

fn recent(history: &History, now: Tick) -> Vec<(CellId, Tick, Heat)> {
    let sums = history.iter().filter(|((_, of), heat)| now < of + 7 && !heat.is_zero());
    sums.map(|((cell, of), heat)| (*cell, *of, *heat)).collect()
}

/// Now and then nothing, or more than fits a slot.
fn heat(rng: &mut Pcg64) -> Heat {
    let most = [1, 10, 10, 1 << 20, 1 << 40][rng.random_range(0..5)];
    let mut field = || rng.random_range(0..most);
    Heat { reads: field(), writes: field(), read_us: field(), write_us: field(), bytes: field() }
}

const READ: Heat = Heat { reads: 1, writes: 0, read_us: 5, write_us: 0, bytes: 3 };

fn close<const N: usize>(window: &mut Window<N>, tick: Tick) -> Vec<(CellId, [Heat; N])> {
    let mut said = Vec::new();
    while let Some(next) = window.next_tick().filter(|next| *next <= tick) {
        said.clear();
        window.close(next, |cell, change| said.push((cell, change)));
    }
    said
}
