//! What the planner forecasts by is what training and backtest count of the same records.

use std::collections::BTreeSet;

use schemas::query_log::{Op, QueriesLogged};
use schemas::wire::{decode, encode};

use super::world::{FIRST, World, tick};
use super::*;
use crate::forecast::Rung;
use crate::forecast::features::Book;
use crate::forecast::panel::Counting;
use crate::kafka::Record;
use crate::planner::driver;
use crate::table::rows::KEY_BYTES_MAX;

const TICKS: Tick = 120;

#[test]
fn features_of_the_planner_are_those_of_a_panel_of_the_same_records() {
    let (mut alike, mut cuts) = (0, 0);
    for seed in 500..504 {
        println!("seed {seed}");
        let mut world = World::new(seed);
        world.settings.rung = Rung::Ladder;
        world.settings.cells.join_ppm = 0;
        let settings = world.settings.clone();
        let tick_ms = settings.tick_ms;
        let (mut planner, mut engine) =
            (Planner::new(settings.clone()), driver::start(&settings, 1).unwrap());
        let starts = first_cells(&settings);
        let [begin, end] = [FIRST, FIRST + TICKS].map(|it| Millis(it * tick_ms));
        let mut counting = Counting::new(starts.clone(), tick_ms, begin, end).unwrap();
        let mut looks = Vec::new();
        // Until cells are joined, as nothing was asked for long: one that is wider than a strip is taken to be asked evenly.
        for _ in 0..TICKS {
            let mut recorded = world.next_box();
            for record in &mut recorded.records {
                count(record, &mut counting);
            }
            let outputs = tick(&mut planner, &mut engine, recorded.fill());
            world.carry_out(&outputs);
            let cells: BTreeSet<_> = planner.state.cells.iter().map(|it| &it.1.start).collect();
            if !starts.iter().all(|it| cells.contains(it)) {
                break;
            }
            cuts += usize::from(starts.len() + 1 < cells.len());
            looks.push(planner.state.forecaster.book().map(Book::look));
        }
        let panel = counting.done("log", String::new()).unwrap();
        let without = looks.iter().take_while(|it| it.is_none()).count();
        assert!(without < 20, "there was load in {without} ticks less than there were");
        let mut book = Book::new(starts.len() + 1, tick_ms);
        for (n, (bin, look)) in panel.bins.iter().zip(looks).enumerate().skip(without) {
            book.observe(bin);
            assert!(look == Some(book.look()), "seed {seed}, tick {n}");
            alike += 1;
        }
    }
    println!("{alike} ticks alike, in {cuts} of them cells were cut");
    assert!(200 < alike && 100 < cuts);
}

/// Counts what is asked, as who makes a panel of a topic does. Operations cost alike, so that they can be counted
/// by what they cost, and come in time.
fn count(record: &mut Record, counting: &mut Counting) {
    let value = record.value.as_ref().filter(|_| record.at.topic == QueriesLogged::TOPIC);
    let Some(Ok(mut batch)) = value.map(|it| decode::<QueriesLogged>(it)) else { return };
    for it in &mut batch.queries {
        (it.time, it.cost_us, it.estimated) = (record.stamp, None, false);
        it.op = if it.op == Op::Scan { Op::Read } else { it.op };
        if it.key.0.len() <= KEY_BYTES_MAX {
            counting.add(record.stamp, &it.key.0, it.op);
        }
    }
    record.value = Some(encode(&batch));
}
