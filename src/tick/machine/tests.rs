mod walk;

use self::walk::{Filled, Log, RULES, Random, Walk, key, recompute, starts};
use super::*;

#[test]
fn later_stamp_ends_a_tick() {
    check(&[&[(12, 12), (19, 19), (20, 20), (31, 31)]], 31, "1:0-2 2:2-3");
}

#[test]
fn clock_ends_a_tick_without_later_stamp() {
    check(&[&[(12, 12)]], 22, "");
    check(&[&[(12, 12)]], 23, "1:0-1");
}

#[test]
fn idle_topic_holds_nobody_up() {
    check(&[&[(12, 12), (24, 24)], &[], &[]], 33, "1:0-1,0-0,0-0 2:1-2,0-0,0-0");
}

#[test]
fn record_in_the_grace_is_in_time_and_one_after_it_counts_in_the_next_tick() {
    check(&[&[(12, 12), (22, 19), (25, 18)]], 33, "1:0-2 2:2-3");
}

#[test]
fn broker_clock_ahead_of_ours_only_cuts_its_own_partition() {
    check(&[&[(12, 12), (15, 35)], &[(12, 12), (22, 14)]], 43, "1:0-1,0-2 2:1-1,2-2 3:1-2,2-2");
}

#[test]
fn no_tick_is_over_before_the_wall_clock_says_so() {
    check(&[&[(12, 12), (15, 35)]], 19, "");
    check(&[&[(12, 12), (15, 35)]], 20, "1:0-1");
    check(&[&[(12, 12), (15, 35)]], 30, "1:0-1 2:1-1");
}

#[test]
fn an_hour_away_is_caught_up_tick_by_tick() {
    let quiet = [(11, 11), (41, 41)];
    let busy = [(12, 12), (13, 13), (22, 22), (31, 31), (45, 45)];
    let boxes = "1:0-1,0-2 2:1-1,2-3 3:1-1,3-4 4:1-2,4-5";
    check(&[&quiet, &busy], 53, boxes);
    // All of it lies there already at the first look.
    let late = |log: &[(u64, u64)]| log.iter().map(|it| (3000, it.1)).collect::<Vec<_>>();
    let mut boxes_late = boxes.to_owned();
    (5..299).for_each(|tick| boxes_late += &format!(" {tick}:2-2,5-5"));
    check_from(3001, &[&late(&quiet), &late(&busy)], 3001, &boxes_late);
}

#[test]
fn first_tick_is_not_longer_ago_than_the_limit() {
    let rules = Rules { past_max_ms: 20, ..RULES };
    let logs = live(&[&[(45, 3), (45, 44)]]);
    let mut walk = Walk::with(rules, &logs, []);
    walk.go(45, 53);
    // What is older counts there, as late.
    assert_eq!(text(&walk.filled), "2:0-1 3:1-1 4:1-2");
}

#[test]
fn mountain_of_one_stamp_is_spread_over_ticks() {
    check(&[&[(12, 12); 12]], 43, "1:0-5 2:5-10 3:10-12");
}

#[test]
fn markers_at_the_end_belong_to_the_tick_that_saw_them() {
    let entries = vec![(12, Some(12)), (12, None), (25, None), (29, Some(29))];
    let logs = [Log { reading: Reading::Live, by_writer: false, entries }];
    let mut walk = Walk::new(&logs, []);
    walk.go(11, 33);
    assert_eq!(text(&walk.filled), "1:0-2 2:2-4");
}

#[test]
fn tick_is_stale_that_ends_too_long_before_the_wall_clock() {
    let log = live(&[&[(12, 12), (55, 55)]]);
    let stale = |now| {
        let mut walk = Walk::new(&log, []);
        walk.go(now, now);
        walk.boxes().iter().map(|it| (it.tick, it.stale)).collect::<Vec<_>>()
    };
    // Three ticks after the end of tick 1 it is 50.
    assert_eq!(stale(50)[0], (1, false));
    assert_eq!(stale(51)[..2], [(1, true), (2, false)]);
    assert_eq!(stale(71)[..4], [(1, true), (2, true), (3, true), (4, false)]);
    let mut past = Walk::new(&log, []);
    past.go(51, 51);
    let log = [Log { reading: Reading::Historical, ..log[0].clone() }];
    let mut walk = Walk::new(&log, []);
    walk.go(1000, 1000);
    assert_eq!(walk.filled.len(), 5);
    assert!(walk.boxes().iter().all(|it| !it.stale));
}

#[test]
fn older_answer_takes_nothing_back() {
    let log = live(&[&[]]);
    let mut cutter = Cutter::new(RULES, starts(&log), []);
    let stamp = Stamp::by_broker(Millis(12));
    let place = |cutter: &mut Cutter, offset| cutter.place(key(0), Offset(offset), stamp);
    assert_eq!(place(&mut cutter, 0), Place::Later);
    cutter.ends_known(Millis(12), BTreeMap::from([(key(0), Offset(1))]));
    assert_eq!([place(&mut cutter, 0), place(&mut cutter, 1)], [Place::Now; 2]);
    cutter.ends_known(Millis(23), BTreeMap::from([(key(0), Offset(1))]));
    assert_eq!(cutter.poll_box(Millis(23)).unwrap().0.spans[&key(0)].to, Offset(2));
}

#[test]
fn recorded_box_is_kept_when_the_rules_have_changed() {
    let spans = BTreeMap::from([(key(0), Span { from: Offset(0), to: Offset(4) })]);
    let from_future = BTreeSet::from([(key(0), Offset(2))]);
    let (tick_ms, grace_ms, span_records_max) = (10, 3, 7);
    let recorded =
        TickBox { tick: 1, tick_ms, grace_ms, span_records_max, spans, stale: true, from_future };
    let rules = Rules { grace_ms: 0, span_records_max: 1, ..RULES };
    let log = live(&[&[]]);
    let mut cutter = Cutter::new(rules, starts(&log), [recorded.clone()]);
    let stamp = |at| Stamp::by_writer(Millis(at));
    let places =
        [19, 9000, 19, 25].map(|at| cutter.place(key(0), cutter.position(key(0)), stamp(at)));
    assert_eq!(places, [Place::Now, Place::Now, Place::FromFuture, Place::Now]);
    assert_eq!(cutter.poll_box(Millis(0)), Some((recorded, Origin::Recorded)));
    assert!(cutter.poll_box(Millis(0)).is_none());
}

#[test]
fn live_stamp_far_ahead_of_the_wall_clock_ends_no_tick() {
    let cut = |by_writer, last| {
        let logs = live(&[&[(12, 12), (13, 900), (14, 14), (24, 24)], &[(12, 12)]]);
        let logs = logs.map_each(|it| it.by_writer = by_writer);
        let mut walk = Walk::new(&logs, []);
        walk.go(11, last);
        let from_future: Vec<_> = walk.boxes().into_iter().flat_map(|it| it.from_future).collect();
        (text(&walk.filled), from_future)
    };
    assert_eq!(cut(true, 33), ("1:0-3,0-1 2:3-4,1-1".into(), vec![(key(0), Offset(1))]));
    // A broker that is ahead is ahead for all, and to be waited for.
    assert_eq!(cut(false, 33), ("1:0-1,0-1 2:1-1,1-1".into(), vec![]));
}

#[test]
fn live_log_that_begins_with_a_stamp_far_ahead_begins_now() {
    let logs = live(&[&[(12, 9000), (14, 14)]]).map_each(|it| it.by_writer = true);
    let mut walk = Walk::new(&logs, []);
    walk.go(13, 23);
    assert_eq!(text(&walk.filled), "1:0-2");
    assert_eq!(walk.boxes()[0].from_future, BTreeSet::from([(key(0), Offset(0))]));
    assert_eq!(walk.filled[0].1[&key(0)], [Offset(1)]);
}

#[test]
fn finished_log_is_cut_by_stamps_alone() {
    let entries = [vec![(0, Some(12)), (0, Some(45))], vec![], vec![(0, Some(31))]];
    let logs =
        entries.map(|entries| Log { reading: Reading::Historical, by_writer: true, entries });
    let mut walk = Walk::new(&logs, []);
    walk.go(0, 0);
    assert_eq!(text(&walk.filled), "1:0-1,0-0,0-0 2:1-1,0-0,0-0 3:1-1,0-0,0-1 4:1-2,0-0,1-1");
    assert!(walk.cutter.is_finished());
    // Recorded live, when nothing came any more.
    let mut boxes = walk.boxes();
    let from = |span: &Span| Span { from: span.to, to: span.to };
    let spans = boxes[3].spans.iter().map(|(&at, span)| (at, from(span))).collect();
    boxes.push(TickBox { tick: 5, spans, ..boxes[3].clone() });
    let mut replay = Walk::new(&logs, boxes.clone());
    replay.go(0, 0);
    assert_eq!(replay.boxes(), boxes);
    // An empty one has no tick at all.
    let logs = [Log { entries: vec![], ..logs[0].clone() }];
    let mut walk = Walk::new(&logs, []);
    walk.go(0, 0);
    assert!(walk.cutter.is_finished() && walk.cutter.open_tick().is_none());
    assert!(walk.filled.is_empty());
}

#[test]
fn paced_log_waits_for_its_writer_whatever_the_clock() {
    let entries = vec![(1, Some(12)), (1, Some(20)), (2, Some(25)), (2, Some(30))];
    let logs = [Log { reading: Reading::Paced, by_writer: true, entries }];
    let mut walk = Walk::new(&logs, []);
    walk.lead = 0;
    walk.go(9000, 9000);
    assert_eq!(text(&walk.filled), "1:0-1 2:1-3");
    assert!(!walk.cutter.is_finished());
}

#[test]
fn historical_log_begins_without_the_paced_one_beside_it_and_ends_so() {
    let historical = vec![(0, Some(12)), (0, Some(31))];
    // Older than all: late in the first tick.
    let paced = vec![(1, Some(3)), (1, Some(20)), (2, Some(30)), (3, Some(40)), (4, Some(50))];
    let log = |reading, entries| Log { reading, by_writer: true, entries };
    let logs = [log(Reading::Historical, historical), log(Reading::Paced, paced)];
    let mut walk = Walk::new(&logs, []);
    walk.lead = 0;
    walk.go(0, 0);
    assert_eq!(text(&walk.filled), "1:0-1,0-1 2:1-1,1-2 3:1-2,2-3");
    assert!(walk.cutter.is_finished());
}

#[test]
fn partition_that_appears_later_is_empty_in_older_boxes() {
    let logs = live(&[&[(12, 12), (24, 24)], &[(24, 24)]]);
    let mut before = Walk::new(&logs[..1], []);
    before.go(11, 23);
    let mut after = Walk::new(&logs, before.boxes());
    after.go(24, 33);
    assert_eq!(text(&after.filled), "1:0-1 2:1-2,0-1");
}

/// What the random walks met.
#[derive(Debug, Default)]
struct Met {
    late: usize,
    crowded: usize,
    asked: usize,
    stale: usize,
    from_future: usize,
    ticks: usize,
}

/// Compares random logs, read in random order at random moments, with a plain recomputation; then
/// reads them once more from a recorded box in the middle.
#[test]
fn random_live_logs_are_cut_alike_live_and_replayed() {
    let mut met = Met::default();
    for seed in 1..=2000 {
        let mut random = Random::new(seed);
        let logs = random.logs(|random, _| random.log(Reading::Live));
        compare(&logs, &mut random, &mut met);
    }
    let Met { late, crowded, asked, stale, from_future, .. } = met;
    let all = [late, crowded, asked, stale, from_future];
    assert!(all.iter().all(|it| *it > 500), "{met:?}");
}

#[test]
fn random_historical_logs_are_cut_alike_at_first_and_replayed() {
    let mut met = Met::default();
    for seed in 1..=2000 {
        let mut random = Random::new(seed);
        let logs = random.logs(|random, _| random.log(Reading::Historical));
        compare(&logs, &mut random, &mut met);
    }
    let Met { late, crowded, from_future, .. } = met;
    assert!([late, crowded, from_future].iter().all(|it| *it > 500), "{met:?}");
    assert_eq!((met.asked, met.stale), (0, 0));
}

#[test]
fn random_paced_logs_are_cut_alike_at_first_and_replayed() {
    let mut met = Met::default();
    for seed in 1..=2000 {
        let mut random = Random::new(seed);
        let logs = random.logs(|random, _| random.paced(3..15));
        compare(&logs, &mut random, &mut met);
    }
    assert!(met.late > 500 && met.ticks >= 2000 * 12, "{met:?}");
    assert_eq!((met.asked, met.stale, met.from_future), (0, 0, 0));
}

#[test]
fn random_historical_logs_with_paced_ones_beside_them_are_cut_alike() {
    let mut met = Met::default();
    for seed in 1..=2000 {
        let mut random = Random::new(seed);
        let logs = random.logs(|random, id| match id {
            0 | 1 => random.log(Reading::Historical),
            _ => random.paced(0..400),
        });
        compare(&logs, &mut random, &mut met);
    }
    let Met { late, crowded, from_future, .. } = met;
    assert!([late, crowded, from_future].iter().all(|it| *it > 500), "{met:?}");
}

fn compare(logs: &[Log], random: &mut Random, met: &mut Met) {
    let mut live = Walk::new(logs, []);
    live.lead = random.below(4) as u64;
    live.wander(random, 0);
    let boxes = live.boxes();
    for (live, recomputed) in live.filled.iter().zip(recompute(logs, &live)) {
        assert_eq!(*live, recomputed, "{logs:?}");
    }
    let stamp =
        |at: TopicPartition, offset: Offset| logs[id(at)].entries[offset.0 as usize].1.unwrap();
    for (bounds, records) in &live.filled {
        let of_all = || records.iter().flat_map(|(&at, all)| all.iter().map(move |&it| (at, it)));
        assert!(of_all().all(|(at, it)| stamp(at, it) / 10 <= bounds.tick), "counts early");
        met.late += of_all().filter(|&(at, it)| stamp(at, it) / 10 < bounds.tick).count();
        met.crowded += records.values().filter(|all| all.len() == 5).count();
        met.stale += usize::from(bounds.stale);
        met.from_future += bounds.from_future.len();
        met.ticks += 1;
    }
    assert!(boxes.is_sorted_by(|a, b| a.is_followed_by(b)));
    met.asked += live.answers.len();
    if boxes.is_empty() {
        return;
    }
    let first = random.below(boxes.len());
    let last = first + random.below(boxes.len() - first);
    let mut replay = Walk::new(logs, boxes[first..=last].to_vec());
    replay.wander(random, 400);
    let recorded = last + 1 - first;
    assert_eq!(replay.filled[..recorded], live.filled[first..=last]);
    assert!(replay.origins[..recorded].iter().all(|it| *it == Origin::Recorded));
    assert!(replay.origins[recorded..].iter().all(|it| *it == Origin::Chosen));
    assert!(replay.boxes().is_sorted_by(|a, b| a.is_followed_by(b)));
    assert_eq!(replay.last_to(), live.last_to());
    if logs[0].reading != Reading::Live {
        // Without a clock they go on alike, too.
        assert_eq!(replay.filled[recorded..], live.filled[last + 1..]);
    }
}

fn id(at: TopicPartition) -> usize {
    (0..4).find(|id| key(*id) == at).unwrap()
}

/// Reads the log live, and compares the boxes, `tick:from-to,from-to` for each.
fn check(log: &[&[(u64, u64)]], last: u64, expected: &str) {
    check_from(11, log, last, expected);
}

fn check_from(first: u64, log: &[&[(u64, u64)]], last: u64, expected: &str) {
    let logs = live(log);
    let mut walk = Walk::new(&logs, []);
    walk.go(first, last);
    assert_eq!(text(&walk.filled), expected);
}

fn live(log: &[&[(u64, u64)]]) -> Vec<Log> {
    let entries = |it: &&[(u64, u64)]| it.iter().map(|it| (it.0, Some(it.1))).collect();
    let log =
        log.iter().map(|it| Log { reading: Reading::Live, by_writer: false, entries: entries(it) });
    log.collect()
}

fn text(filled: &[Filled]) -> String {
    let span = |it: &Span| format!("{}-{}", it.from.0, it.to.0);
    let spans = |it: &TickBox| it.spans.values().map(span).collect::<Vec<_>>().join(",");
    let texts = filled.iter().map(|(it, _)| format!("{}:{}", it.tick, spans(it)));
    texts.collect::<Vec<_>>().join(" ")
}

trait MapEach {
    fn map_each(self, change: impl FnMut(&mut Log)) -> Self;
}

impl MapEach for Vec<Log> {
    fn map_each(mut self, change: impl FnMut(&mut Log)) -> Self {
        self.iter_mut().for_each(change);
        self
    }
}
