//! Says how long something takes.

use std::time::Instant;

use cpu_time::ProcessTime;

/// How long something took, in seconds: by the clock on the wall, and of CPU of all threads.
#[derive(Clone, Copy, Debug)]
pub struct Took {
    pub wall: f64,
    pub cpu: f64,
}

pub fn timed(run: impl FnOnce()) -> Took {
    let (cpu, wall) = (ProcessTime::now(), Instant::now());
    run();
    Took { wall: wall.elapsed().as_secs_f64(), cpu: cpu.elapsed().as_secs_f64() }
}
