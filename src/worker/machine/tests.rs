//! Workers step by step, a rule each; then moves at random with everything that can go wrong; then one
//! or two in every order.

use schemas::assignment::Source as From;
use schemas::migration_status::Status;

use schemas::{Key, NodeId};

mod world;
mod rules;
mod walk;
mod every_order;

use world::{World, span};

#[test]
fn r25_birth_with_an_empty_table_is_active_at_once_and_applies() {
    let mut it = World::new(&["a", "b"]);
    it.assign(&[("", "m", "a", From::Table), ("m", "", "b", From::Table)]);
    it.live(1);
    assert_eq!(it.roles("a"), ["[-, m) Active"]);
    assert_eq!(it.roles("b"), ["[m, -) Active"]);
    it.row(1, Some("f"));
    it.row(2, Some("t"));
    it.row(1, Some("u"));
    it.live(1);
    it.check();
}

#[test]
fn r22_birth_with_a_full_table_comes_to_its_fold() {
    let mut it = World::new(&["a", "b"]);
    for primary in 0..20 {
        it.row(primary, Some(["f", "h", "t", "x"][primary as usize % 4]));
    }
    it.row(3, None);
    it.row(4, Some("z"));
    it.assign(&[("", "m", "a", From::Table), ("m", "", "b", From::Table)]);
    it.live(2);
    it.check();
}

#[test]
fn move_of_a_range_takes_everything_with_it() {
    let mut it = World::new(&["a", "b"]);
    it.assign(&[("", "m", "a", From::Table), ("m", "", "b", From::Table)]);
    it.live(1);
    for primary in 0..40 {
        it.row(primary, Some(["f", "h", "t", "x"][primary as usize % 4]));
    }
    it.row(3, None);
    it.live(1);
    let migration = it.start(span("", "m"), "b");
    it.live(4);
    assert_eq!(it.ended.get(&migration), Some(&Status::Complete), "{}", it.told());
    assert_eq!(it.roles("a"), [""; 0]);
    assert_eq!(it.roles("b"), ["[-, m) Active", "[m, -) Active"]);
    it.check();
}
