//! Tells how far a replay is.

use std::io::IsTerminal;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use indicatif::{ProgressBar, ProgressStyle};

/// Tells how far it is: a bar on a terminal, else a line every ten per cent.
pub struct Progress {
    bar: ProgressBar,
    ticks: u64,
    done: AtomicU64,
    queries: AtomicU64,
    began: Instant,
}

impl Progress {
    pub fn new(ticks: u64) -> Self {
        let bar = match std::io::stderr().is_terminal() {
            true => ProgressBar::new(ticks),
            false => ProgressBar::hidden(),
        };
        let style = "{bar:40} {pos}/{len} ticks  {per_sec}  {msg}  {eta} left";
        bar.set_style(ProgressStyle::with_template(style).expect("the template is well-formed"));
        let (done, queries) = (AtomicU64::new(0), AtomicU64::new(0));
        Self { bar, ticks, done, queries, began: Instant::now() }
    }

    pub fn tick(&self, queries: u64) {
        let done = self.done.fetch_add(1, Ordering::Relaxed) + 1;
        let queries = self.queries.fetch_add(queries, Ordering::Relaxed) + queries;
        let seconds = self.began.elapsed().as_secs_f64().max(1e-3);
        let rate = format!("{:.0} queries/s", queries as f64 / seconds);
        self.bar.set_message(rate.clone());
        self.bar.set_position(done);
        let tenth = |done: u64| done * 10 / self.ticks.max(1);
        if self.bar.is_hidden() && tenth(done) != tenth(done - 1) {
            let per_s = done as f64 / seconds;
            eprintln!(
                "{:>3} %  {done} of {} ticks, {per_s:.0} ticks/s, {rate}",
                tenth(done) * 10,
                self.ticks
            );
        }
    }

    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }
}
