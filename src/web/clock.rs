//! Tells the time to machines: as the wall clock had it at the start, and never set since.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use schemas::Millis;

#[derive(Clone, Copy, Debug)]
pub struct Clock {
    wall: Duration,
    since: Instant,
}

impl Clock {
    pub fn begin() -> Self {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is later than 1970");
        Self { wall, since: Instant::now() }
    }

    pub fn now(&self) -> Millis {
        self.at(Instant::now())
    }

    pub fn at(&self, it: Instant) -> Millis {
        Millis((self.wall + it.saturating_duration_since(self.since)).as_millis() as u64)
    }

    /// Returns when it is that time.
    pub fn instant(&self, it: Millis) -> Instant {
        self.since + Duration::from_millis(it.0).saturating_sub(self.wall)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn at_the_instant_of_a_time_it_is_that_time() {
        let clock = Clock::begin();
        for ms in [1, 2, 999, 1_000, 86_400_000] {
            let it = Millis(clock.now().0 + ms);
            assert_eq!(clock.at(clock.instant(it)), it);
        }
    }
}
