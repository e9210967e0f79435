//! Holds the map that reads go by, and puts newer ones in its place.
//!
//! ```text
//!  assignment ──> offer ──> map ──> reads, without a lock
//!                   ^
//!  a hint is ───> trust      what is older than it is not taken any more
//!  followed
//! ```
//!
//! * **Never back (R18).** A map is replaced only by one of a greater generation, and not by one that
//!   is older than a hint which was followed: else a read after that could be sent to an owner
//!   between the two, and show what was before. By the map as it was, it is sent to whom gave the
//!   hint, who has read that map, and gives the hint again.
//! * Only who puts a map here, or follows a hint, takes the lock.

use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use schemas::Generation;

use super::lookup::Lookup;

/// What became of a map that was offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offered {
    Taken,
    /// One of its generation, or a greater one, is there.
    Known,
    /// A hint of this generation was followed.
    Held {
        trusted: Generation,
    },
}

#[derive(Debug, Default)]
pub struct Maps {
    map: ArcSwap<Lookup>,
    /// The greatest generation of a hint that was followed.
    trusted: Mutex<Generation>,
}

impl Maps {
    #[inline]
    pub fn load(&self) -> arc_swap::Guard<Arc<Lookup>> {
        self.map.load()
    }

    pub fn load_full(&self) -> Arc<Lookup> {
        self.map.load_full()
    }

    /// Takes the map if it may take the place of the one before.
    pub fn offer(&self, map: Arc<Lookup>) -> Offered {
        let trusted = self.trusted.lock().unwrap_or_else(PoisonError::into_inner);
        if map.generation() <= self.map.load().generation() {
            return Offered::Known;
        }
        if map.generation() < *trusted {
            return Offered::Held { trusted: *trusted };
        }
        self.map.store(map);
        Offered::Taken
    }

    /// There is no map of a generation of which a hint was: it holds nothing up any more.
    pub fn distrust(&self, hint: Generation) {
        let mut trusted = self.trusted.lock().unwrap_or_else(PoisonError::into_inner);
        if *trusted == hint {
            *trusted = Generation(0);
        }
    }

    /// Tells whether a hint of a generation may be followed by who goes by the map of another: only
    /// while that is the newest one.
    pub fn trust(&self, by: Generation, hint: Generation) -> bool {
        let mut trusted = self.trusted.lock().unwrap_or_else(PoisonError::into_inner);
        let is_newest = self.map.load().generation() == by;
        if is_newest {
            *trusted = hint.max(*trusted);
        }
        is_newest
    }
}

#[cfg(test)]
mod tests {
    use super::Offered::{Held, Known, Taken};
    use super::*;
    use crate::assignment::map::Map;

    fn map(generation: u64) -> Arc<Lookup> {
        Arc::new(Lookup::new(&Map::default(), Generation(generation)))
    }

    #[test]
    fn r18_map_is_never_replaced_by_an_older_one() {
        let maps = Maps::default();
        let offers = [3, 3, 2, 5, 4].map(|it| maps.offer(map(it)));
        assert_eq!(offers, [Taken, Known, Known, Taken, Known]);
        assert_eq!(maps.load().generation(), Generation(5));
    }

    #[test]
    fn r18_map_between_this_one_and_a_hint_that_was_followed_is_passed_over() {
        let maps = Maps::default();
        maps.offer(map(3));
        assert!(maps.trust(Generation(3), Generation(6)));
        assert!(maps.trust(Generation(3), Generation(5)), "it is as good, and lowers nothing");
        let held = Held { trusted: Generation(6) };
        assert_eq!([4, 5, 6].map(|it| maps.offer(map(it))), [held, held, Taken]);
    }

    #[test]
    fn r18_hint_is_not_followed_by_an_older_map_than_the_newest() {
        let maps = Maps::default();
        maps.offer(map(4));
        assert!(!maps.trust(Generation(3), Generation(6)));
        assert_eq!(maps.offer(map(5)), Taken, "what was not followed holds nothing up");
    }

    #[test]
    fn hint_of_a_map_that_does_not_exist_holds_nothing_up_for_ever() {
        let maps = Maps::default();
        assert!(maps.trust(Generation(0), Generation(900)));
        maps.distrust(Generation(800));
        assert_eq!(maps.offer(map(1)), Held { trusted: Generation(900) });
        maps.distrust(Generation(900));
        assert_eq!(maps.offer(map(1)), Taken);
    }
}
