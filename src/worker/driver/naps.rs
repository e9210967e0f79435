//! Naps while something is copied from here, and tells how much of the bandwidth that may take.

use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use std::sync::{Arc, Weak};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::web::precedence;
use crate::worker::ease::{Ease, NAPS};

const NAP: Duration = Duration::from_millis(1);

/// A nap that ends later than this is late: timers alone are late by a tenth of a millisecond.
const LATE: Duration = Duration::from_micros(250);

/// While nothing is copied it looks this often whether it is still wanted.
const AWAY: Duration = Duration::from_secs(1);

/// The thread that naps; it ends soon after this.
pub(super) struct Naps {
    shared: Arc<Shared>,
    thread: JoinHandle<()>,
}

struct Shared {
    is_copying: AtomicBool,
    permille: AtomicU16,
}

impl Naps {
    /// To be begun before the calling thread steps behind reads: the one that naps must not.
    pub fn begin() -> anyhow::Result<Self> {
        let permille = AtomicU16::new(Ease::default().permille());
        let shared = Arc::new(Shared { is_copying: AtomicBool::new(false), permille });
        let napping = Arc::downgrade(&shared);
        let thread = thread::Builder::new().name("naps".to_owned()).spawn(move || nap(&napping))?;
        Ok(Self { shared, thread })
    }

    /// Tells whether anything is copied from here; returns how much of the bandwidth it may take, in
    /// thousandths.
    pub fn told(&self, is_copying: bool) -> u16 {
        if self.shared.is_copying.swap(is_copying, Ordering::Relaxed) != is_copying && is_copying {
            self.thread.thread().unpark();
        }
        self.shared.permille.load(Ordering::Relaxed)
    }
}

fn nap(shared: &Weak<Shared>) {
    precedence::take_short_turns();
    let mut ease = Ease::default();
    loop {
        match shared.upgrade() {
            None => return,
            Some(it) if it.is_copying.load(Ordering::Relaxed) => (),
            Some(it) => {
                drop(it);
                thread::park_timeout(AWAY);
                continue;
            }
        }
        let is_late = |_: &u32| {
            let begun = Instant::now();
            thread::sleep(NAP);
            NAP + LATE < begun.elapsed()
        };
        ease.napped((0..NAPS).filter(is_late).count() as u32);
        if let Some(it) = shared.upgrade() {
            it.permille.store(ease.permille(), Ordering::Relaxed);
        }
    }
}
