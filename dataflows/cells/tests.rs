use schemas::Millis;
use schemas::query_log::Op;

use super::*;
use crate::heat::WIDEST;
use crate::samples::{Entry, hash};

const RULES: CellRules = CellRules {
    cut_ppm: 100_000,
    cut_last_ppm: 20_000,
    join_ppm: 10_000,
    samples_min: 8,
    rest_ticks: 10,
    cells_per_range: 2,
    cells_per_range_max: 9,
    cells_max: 100,
    reshapes_max: 3,
};

/// Ten cells of one byte, in two ranges.
fn table() -> (Cells, Vec<CellId>) {
    let mut cells = Cells::default();
    let ids = (0..10_u8).map(|i| cells.born(Key(vec![i * 20]), RangeId(u64::from(i / 5))));
    let ids = ids.collect();
    (cells, ids)
}

fn heat(cost_us: i64) -> Rolling {
    Rolling::of(Heat { reads: 1, read_us: cost_us, ..Heat::default() })
}

/// A sample of these keys, each met at another time.
fn sample(keys: impl IntoIterator<Item = u8>) -> Sample {
    let mut sample = Sample::default();
    for (i, key) in keys.into_iter().enumerate() {
        // In no order that time could explain.
        let time = Millis((i as u64).wrapping_mul(0x9e37_79b9) % 1009);
        let key = vec![key];
        let hash = hash(&key, time, Op::Read);
        sample.insert(Entry { hash, key: Key(key), time, op: Op::Read, count: 1 });
    }
    sample
}

struct Table {
    cells: Cells,
    ids: Vec<CellId>,
    tick: Tick,
    rules: CellRules,
}

impl Table {
    fn new(costs: [i64; 10]) -> Self {
        let (mut cells, ids) = table();
        ids.iter().zip(costs).for_each(|(id, cost)| cells.heated(*id, heat(cost)));
        Self { cells, ids, tick: 7, rules: RULES }
    }

    fn sample(&mut self, cell: usize, keys: impl IntoIterator<Item = u8>) {
        self.cells.sampled(self.ids[cell], self.tick, sample(keys));
    }

    fn reshape(&mut self) -> Vec<Reshape> {
        let total = self.cells.by_id.values().map(|it| it.heat.six().cost_us()).sum();
        let touched = self.cells.by_id.keys().copied().collect();
        self.cells.reshape(self.tick, &heat(total), &touched, &self.rules).1
    }

    fn starts(&self) -> Vec<u8> {
        self.cells.iter().map(|(_, it)| it.start.0[0]).collect()
    }
}

#[test]
fn what_moves_on_in_a_tick_is_told_with_its_ends_and_its_load() {
    let mut table = Table::new([10, 10, 500, 10, 10, 10, 10, 10, 10, 10]);
    let rising = |op: Op| {
        let mut sample = Sample::default();
        for at in 0..30_u8 {
            let (key, time) = (vec![45, at], Millis(u64::from(at)));
            let hash = hash(&key, time, op);
            sample.insert(Entry { hash, key: Key(key), time, op, count: 1 });
        }
        sample
    };
    let ends = (Key(vec![45, 0]), Key(vec![45, 29]), 500);
    let (cell, tick) = (table.ids[2], table.tick);
    table.cells.sampled(cell, tick, rising(Op::Read));
    let swept = |table: &Table, tick| table.cells.get(cell).unwrap().swept_at(tick);
    assert_eq!(swept(&table, tick), [Some(ends.clone()), None]);
    assert_eq!(swept(&table, tick + 1), [None, None], "it is of another tick");
    // Writes of the same ask nothing of it, as all of its load is reads.
    table.cells.sampled(cell, tick + 1, rising(Op::Write));
    assert_eq!(swept(&table, tick + 1), [None, None]);
    // What stays does not.
    let mut table = Table::new([10, 10, 500, 10, 10, 10, 10, 10, 10, 10]);
    table.sample(2, 40..60);
    assert_eq!(swept(&table, tick), [None, None]);
    let start = |n: u8| Key(vec![n * 20]);
    assert_eq!(
        (table.cells.before(&start(2)), table.cells.before(&start(0))),
        (Some(&start(1)), None)
    );
}

#[test]
fn hot_cell_is_cut_at_the_median_and_history_divided_by_the_samples() {
    let mut table = Table::new([10, 10, 500, 10, 10, 10, 10, 10, 10, 10]);
    table.sample(2, [41, 42, 43, 50, 51, 52, 53, 54]);
    let cell = table.ids[2];
    let right = cell_id(cell, 7, &Key(vec![51]));
    let cut = Reshape::Cut { cell, right, at: Key(vec![51]), right_part: (4, 8) };
    assert_eq!(table.reshape(), [cut]);
    assert_eq!(table.starts(), [0, 20, 40, 51, 60, 80, 100, 120, 140, 160, 180]);
    let right = table.cells.get(right).unwrap();
    assert_eq!(right.range, RangeId(0));
    assert_eq!(right.estimated_until, 7 + WIDEST);
    assert_eq!(right.sample().weight(), 4, "its samples go along");
    assert_eq!(divide(Heat { reads: 9, ..Heat::default() }, (4, 8)).1.reads, 4);
}

#[test]
fn cell_is_sampled_half_way_with_its_neighbours_and_forgotten_when_cold() {
    let mut table = Table::new([10, 10, 40, 10, 60, 10, 10, 10, 1, 9]);
    let total = heat(1000);
    let touched = table.ids.iter().copied().collect();
    let (flags, _) = table.cells.reshape(7, &total, &touched, &RULES);
    let starts = |flags: Vec<(Key, bool)>, sampled| {
        assert!(flags.iter().all(|it| it.1 == sampled), "{flags:?}");
        let mut starts: Vec<_> = flags.iter().map(|it| it.0.0[0] / 20).collect();
        starts.sort();
        starts
    };
    // The limit is 100; that of the last cell is 20, and it has 9.
    assert_eq!(starts(flags, true), [1, 2, 3, 4, 5, 6, 7]);
    // Half of the limit makes hot; who is watched is so until it has less than a quarter.
    table.cells.heated(table.ids[4], Rolling::default() - heat(30));
    let touched = BTreeSet::from([table.ids[4]]);
    let (flags, _) = table.cells.reshape(8, &total, &touched, &RULES);
    assert_eq!(starts(flags, false), [1, 3, 5, 6, 7]);
    table.cells.heated(table.ids[4], Rolling::default() - heat(10));
    let (flags, _) = table.cells.reshape(9, &total, &touched, &RULES);
    assert_eq!(starts(flags, false), [4]);
}

#[test]
fn one_hot_key_and_a_sweep_are_told_and_not_cut() {
    let mut table = Table::new([10, 10, 500, 10, 10, 10, 10, 10, 10, 10]);
    table.sample(2, [40; 30]);
    assert_eq!(table.reshape(), [], "one key has it all");
    assert_eq!(table.cells.unsplittable_ppm(table.ids[2], &RULES), 1_000_000);

    let mut swept = Sample::default();
    for i in 0..30_u8 {
        let (key, time) = (vec![40 + i / 2], Millis(u64::from(i)));
        let hash = hash(&key, time, Op::Read);
        swept.insert(Entry { hash, key: Key(key), time, op: Op::Read, count: 1 });
    }
    table.cells.sampled(table.ids[3], 7, swept);
    assert_eq!(table.cells.unsplittable_ppm(table.ids[3], &RULES), 1_000_000);
    assert_eq!(table.cells.unsplittable_ppm(table.ids[4], &RULES), 0);
}

#[test]
fn edge_that_passes_within_a_tick_is_told_with_its_share() {
    let mut table = Table::new([10, 10, 500, 10, 10, 10, 10, 10, 10, 10]);
    let (cell, writes) = (table.ids[2], Heat { writes: 1, write_us: 300, ..Heat::default() });
    table.cells.heated(cell, Rolling::of(writes));
    // Writes go up, reads lie behind them; and in the next tick there are reads alone.
    let mut asked = Sample::default();
    for i in 0..32_u8 {
        let op = if i % 3 == 0 { Op::Write } else { Op::Read };
        let key = if op == Op::Write { 40 + i / 2 } else { 40 + i.wrapping_mul(7) % (i / 2 + 1) };
        let (key, time) = (vec![key], Millis(u64::from(i)));
        asked.insert(Entry { hash: hash(&key, time, op), key: Key(key), time, op, count: 1 });
    }
    table.cells.sampled(cell, 7, asked);
    table.cells.sampled(cell, 8, sample((0..32).map(|i| 40 + i * 5 % 16)));
    // 300 of 800 are writes.
    assert_eq!(table.cells.unsplittable_ppm(cell, &RULES), 375_000);
}

#[test]
fn too_few_samples_cut_nothing() {
    let mut table = Table::new([10, 10, 500, 10, 10, 10, 10, 10, 10, 10]);
    table.sample(2, [41, 42, 43, 50, 51, 52, 53]);
    assert_eq!(table.reshape(), []);
}

#[test]
fn old_samples_are_forgotten() {
    let mut table = Table::new([10, 10, 500, 10, 10, 10, 10, 10, 10, 10]);
    table.sample(2, [41, 42, 43, 50, 51, 52, 53, 54]);
    table.tick += SAMPLE_TICKS;
    assert_eq!(table.reshape(), []);
    assert!(table.cells.get(table.ids[2]).unwrap().sample().is_empty());
}

#[test]
fn cuts_are_bounded_a_tick_in_a_range_and_in_all() {
    let mut table = Table::new([900, 900, 900, 900, 900, 100, 100, 100, 100, 100]);
    for cell in 0..10 {
        let start = cell as u8 * 20;
        table.sample(cell, (0..16).map(|i| start + i));
    }
    assert_eq!(table.reshape().len(), RULES.reshapes_max as usize);
    for _ in 0..4 {
        table.reshape();
    }
    let per_range = |range| table.cells.iter().filter(|it| it.1.range == RangeId(range)).count();
    assert_eq!(per_range(0), RULES.cells_per_range_max as usize);
}

#[test]
fn cold_neighbours_of_one_range_join_and_a_range_keeps_some() {
    let mut table = Table::new([1000, 1, 1, 1, 1, 1, 1, 1, 1, 1000]);
    // Nothing is so hot that its neighbours are watched.
    (table.rules.cut_ppm, table.rules.cut_last_ppm) = (2_000_000, 2_000_000);
    table.tick = 16;
    let joins = table.reshape();
    let join = |left: usize, right: usize| Reshape::Join {
        left: table.ids[left],
        right: table.ids[right],
        start: Key(vec![right as u8 * 20]),
        range: RangeId(right as u64 / 5),
    };
    assert_eq!(joins, [join(1, 2), join(3, 4), join(5, 6)]);
    // They rest, and then a range of two cells keeps them.
    table.tick = 24;
    let joins: Vec<_> = (0..8)
        .flat_map(|_| {
            table.tick += 8;
            table.reshape()
        })
        .collect();
    assert_eq!(table.starts().len(), 4, "{joins:?}");
    assert!(table.starts().contains(&100), "a range's boundary stays");
}

#[test]
fn what_a_snapshot_holds_decides_the_same() {
    let mut table = Table::new([10, 10, 500, 10, 10, 10, 10, 10, 10, 10]);
    table.sample(2, [41, 42, 43, 50, 51, 52, 53, 54]);
    let restored = table.cells.clone();
    let mut other =
        Table { cells: restored.restored(), ids: table.ids.clone(), tick: 7, rules: RULES };
    assert_eq!(table.reshape(), other.reshape());
    assert_eq!(table.cells, other.cells);
}
