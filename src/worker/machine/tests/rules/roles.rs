//! What is served, and what the map makes of what is held (R18, R19).

use super::*;

#[test]
fn r18_view_follows_the_roles_of_a_move() {
    let served = |it: &World, name: &str| {
        let serving = it.serving(&node(name)).unwrap();
        let view = format!("{:?}", serving.view);
        let from = view.find("serves: ").unwrap() + 8;
        view[from..].split([' ', '}', ',']).next().unwrap().to_owned()
    };
    let mut it = ready();
    assert_eq!((served(&it, "a"), served(&it, "b")), ("Reads".into(), "Nothing".into()));
    it.let_read("b");
    it.deliver_map("b");
    assert_eq!(served(&it, "b"), "BySource");
    assert!(it.get("c", &it.map.clone()).is_some(), "a is active at the epoch of before");
    it.let_read("a");
    it.deliver_map("a");
    assert_eq!(served(&it, "a"), "ReadsAsSource");
    assert!(it.get("c", &it.map.clone()).is_some());
    it.settle();
    assert_eq!(served(&it, "b"), "Reads");
    it.live(2);
    assert_eq!(served(&it, "a"), "Nothing");
}

#[test]
fn r18_range_that_came_in_a_way_of_which_nothing_is_known_is_not_served() {
    let mut it = filled();
    // From a node, of which this one has heard nothing.
    it.assign(&[("", "m", "a", From::Node)]);
    it.settle();
    assert_eq!(it.roles("a"), ["[-, m) Active"]);
    assert_eq!(it.ignored("a", Ignored::UnexpectedRange), 1);
    assert!(it.get("c", &it.map.clone()).is_none());
}

#[test]
fn r19_split_and_join_take_floors_along_and_a_join_the_lesser() {
    let mut it = ready();
    it.let_read("a");
    it.let_read("b");
    it.live(3);
    it.check();
    it.assign(&[
        ("", "m", "b", From::None),
        ("m", "t", "b", From::None),
        ("t", "", "b", From::None),
    ]);
    it.live(1);
    assert_eq!(it.roles("b"), ["[-, m) Active", "[m, t) Active", "[t, -) Active"]);
    it.assign(&[("", "", "b", From::None)]);
    it.settle();
    let held = &it.nodes[&node("b")].runner.worker().remembered().roles;
    let told = format!("{:?}", held.values().collect::<Vec<_>>());
    assert!(told.contains("floors: {0: 3}"), "{told}");
    it.check();
}

#[test]
fn r19_join_of_different_floors_has_the_lesser() {
    let mut it = ready();
    it.let_read("a");
    it.let_read("b");
    it.live(3);
    it.check();
    it.assign(&[("", "m", "b", From::None)]);
    it.settle();
    // A channel that was replaced begins anew; only what was relabelled has its floor for its own.
    it.mark("b", 3, 1, None);
    it.settle();
    it.assign(&[("", "", "b", From::None)]);
    it.settle();
    it.update("b", 4, entry("u", 2, 2));
    it.settle();
    assert!(has(&it, "b", "u", 2), "{}", it.told());
}

#[test]
fn size_that_was_estimated_for_a_split_is_exact_once_all_was_looked_at_and_stays_so() {
    let mut it = halves();
    for (primary, index) in (2..).zip(["b", "c", "d", "e", "f", "g", "k"]) {
        it.row(primary, Some(index));
    }
    // The split comes while the range is looked at.
    it.live(2);
    it.assign(&[("", "h", "a", From::None), ("h", "m", "a", From::None)]);
    it.settle();
    let is_exact = |it: &World| it.sizes(&node("a")).iter().all(|[told, counted]| told == counted);
    assert!(!is_exact(&it), "it is estimated");
    let mut was_exact = false;
    for n in 0..40 {
        // Before and behind where the search is.
        it.row(20, (n % 2 == 0).then_some("a"));
        it.row(21, (n % 3 == 0).then_some("g"));
        it.row(22, Some(["bb", "k"][n % 2]));
        it.live(1);
        let is_exact = is_exact(&it);
        assert!(is_exact || !was_exact, "{n}: {:?}", it.sizes(&node("a")));
        was_exact = is_exact;
    }
    assert!(was_exact, "{:?}", it.sizes(&node("a")));
}
