//! Reads by a map that is not the newest: it is stale, or only begins to be read.

use super::*;

/// Generations that there are before a router starts.
const MAPS: u64 = 200;

#[test]
fn r18_moved_range_is_read_from_its_source_until_the_new_owner_has_it() {
    let pair = Pair::start(|_| ());
    assert_eq!(pair.fig(), "200 fig of a");
    pair.move_to_b(Serves::BySource { node: NodeId("a".into()), epoch: Epoch(1) });
    pair.planner.assign(&[range("", "m", "b", 2)]);
    pair.router.until("the map is newer", |it| it.generation.0 == 2);
    for _ in 0..2 {
        assert_eq!(pair.fig(), "200 fig of a");
    }
    pair.move_to_b(Serves::Reads);
    assert_eq!(pair.fig(), "200 fig of b");
    let requests = [pair.a.requests(), pair.b.requests()].map(|it| it.len());
    assert_eq!(requests, [3, 3], "the source is asked only when the owner says so");
    pair.router.end();
}

#[test]
fn r18_read_by_a_stale_map_waits_for_the_newer_one() {
    let pair = Pair::start(|it| it.settings.hint_after_ms = 1_000_000);
    pair.move_to_b(Serves::Reads);
    let asked = pair.router.asks_later("GET /v1/keys/fig", "");
    pair.until_counted("moved", 1);
    pair.planner.assign(&[range("", "m", "b", 2)]);
    assert_eq!(told(&asked.join().unwrap()), "200 fig of b");
    pair.router.end();
}

#[test]
fn r18_nothing_is_answered_by_a_map_that_is_not_the_last_there_was_at_the_start() {
    let broker = broker(&TOPICS);
    let connection = broker.connection();
    let planner = Planner::new(&connection);
    let [a, b] = ["a", "b"].map(Standin::start);
    // Who had it first has not heard that it has not, long since.
    a.serve(1, &[("", "", "a", 1, Serves::Reads)], &["fig"]);
    b.serve(MAPS, &[("", "", "b", MAPS, Serves::Reads)], &["fig"]);
    planner.reports(&[&a, &b]);
    for generation in 1..=MAPS {
        let owner = if generation < MAPS { "a" } else { "b" };
        planner.assign(&[range("", "", owner, generation)]);
    }
    let router = Running::start(&connection, |_| ());
    let asked: Vec<_> = (0..4).map(|_| router.asks_later("GET /v1/keys/fig", "")).collect();
    for it in asked {
        assert_eq!(told(&it.join().unwrap()), "200 fig of b");
    }
    assert_eq!(a.requests().len(), 0);
    router.end();
}

#[test]
fn r18_hint_is_followed_when_the_map_does_not_come() {
    let pair = Pair::start(|it| it.settings.hint_after_ms = 1);
    let source = Serves::ReadsAsSource { frozen: Epoch(1) };
    pair.a.serve(5, &[("", "", "b", 5, source)], &["fig"]);
    pair.b.serve(5, &[("", "", "b", 5, Serves::Reads)], &["fig"]);
    assert_eq!(pair.fig(), "200 fig of b");
    pair.planner.assign(&[range("", "", "b", 5)]);
    pair.router.until("the map is newer", |it| it.generation.0 == 5);
    assert_eq!(pair.fig(), "200 fig of b");
    pair.router.end();
}

#[test]
fn hint_of_a_map_that_does_not_exist_holds_newer_maps_up_only_until_that_shows() {
    let pair = Pair::start(|it| it.settings.hint_after_ms = 1);
    let source = Serves::ReadsAsSource { frozen: Epoch(1) };
    pair.a.serve(900, &[("", "", "b", 5, source)], &["fig"]);
    pair.b.serve(900, &[("", "", "b", 5, Serves::Reads)], &["fig"]);
    assert_eq!(pair.fig(), "200 fig of b");
    pair.planner.assign(&[range("", "m", "b", 5)]);
    pair.router.until("the map is newer", |it| it.generation.0 == 5);
    pair.until_counted("hints_bogus", 1);
    pair.router.end();
}
